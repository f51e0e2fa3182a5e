//! A worker's process.

#![allow(dead_code, reason = "each test binary uses its own part of this")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Long enough for a busy machine; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(90);

#[derive(Debug, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal,
}

pub struct Worker {
    child: Child,
    log: Arc<Mutex<String>>,
    address: Mutex<Receiver<String>>,
    known: Mutex<Option<String>>,
}

impl Worker {
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (sender, address) = channel();
        let held = log.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                // The address is in the first line that the worker writes.
                if let Ok(event) = serde_json::from_str::<serde_json::Value>(&line)
                    && let Some(address) = event["http"].as_str()
                {
                    sender.send(address.to_owned()).ok();
                }
                let mut log = held.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        Self { child, log, address: Mutex::new(address), known: Mutex::new(None) }
    }

    /// All that it has said.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    fn address(&self) -> String {
        let mut known = self.known.lock().unwrap();
        known
            .get_or_insert_with(|| {
                let address = self.address.lock().unwrap();
                address.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no address in:\n{}", self.log()))
            })
            .clone()
    }

    /// The status and the body.
    pub fn get(&self, path: &str) -> (u16, String) {
        self.ask("GET", path, &[], "")
    }

    /// The status and the body of a request with a JSON body and these headers.
    pub fn post(&self, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
        self.ask("POST", path, &[headers, &[("Content-Type", "application/json")]].concat(), body)
    }

    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
        let address = self.address();
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Length: {}\r\n", body.len())
            .unwrap();
        for (name, value) in headers {
            write!(stream, "{name}: {value}\r\n").unwrap();
        }
        write!(stream, "\r\n{body}").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    pub fn wait_until_ready(&self) {
        self.wait_for_status("/readyz", 200);
    }

    pub fn wait_for_status(&self, path: &str, wanted: u16) {
        self.wait_for_answer(path, wanted, "");
    }

    /// The answer has this word in it, however it is spelt.
    pub fn wait_for_answer(&self, path: &str, wanted: u16, said: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (status, body) = self.get(path);
            if status == wanted && body.to_lowercase().contains(said) {
                return;
            }
            assert!(Instant::now() < deadline, "{path} says {status} {body}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn wait_for_metric(&self, line: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.get("/metrics").1.contains(line) {
            assert!(Instant::now() < deadline, "{line} never came\n{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn kill_after(self, wait: Duration) {
        std::thread::sleep(wait);
        self.kill();
    }

    /// SIGHUP: it looks for another version of its programme.
    pub fn hang_up(&self) {
        self.signal("-HUP");
    }

    /// SIGSTOP: it stands still, and does not know it.
    pub fn suspend(&self) {
        self.signal("-STOP");
    }

    /// SIGCONT: it goes on.
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let told = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(told.success());
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// SIGTERM, and how it ends.
    pub fn terminate(mut self) -> Exit {
        self.signal("-TERM");
        self.ends()
    }

    /// The same, and what it said.
    pub fn terminate_and_tell(self) -> (Exit, String) {
        self.signal("-TERM");
        self.wait()
    }

    /// How it ends by itself, and what it said.
    pub fn wait(mut self) -> (Exit, String) {
        let exit = self.ends();
        (exit, self.log())
    }

    fn ends(&mut self) -> Exit {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().map_or(Exit::Signal, Exit::Code);
            }
            if Instant::now() > deadline {
                self.child.kill().ok();
                panic!("the worker does not end:\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Where a test fails with the worker still running.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
