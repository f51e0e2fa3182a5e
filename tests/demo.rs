//! `accrual demo`, as a newcomer runs it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

fn demo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_accrual"));
    command.arg("demo").args(["--events", "4000", "--members", "200", "--lanes", "2"]).args(arguments);
    command
}

/// Ends the demo however the test ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn the_demo_counts_what_its_shop_sent_and_says_so() {
    let output = demo(&[]).output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{shown}\n{said}");
    for part in ["4,000 records in", "purchase", "silver", "ok    new events sent", "ok    points earned"] {
        assert!(shown.contains(part), "{part} is missing in\n{shown}\n{said}");
    }
    assert!(!shown.contains("WRONG"), "{shown}");
}

#[test]
fn a_demo_that_is_kept_answers_what_it_invites_to_ask() {
    let child = demo(&["--keep", "--listen", "127.0.0.1:0"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut running = Running(child);
    // Held to the end: a demo whose output nobody reads any more ends.
    let mut lines = BufReader::new(running.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    let url = lines
        .by_ref()
        .map(|line| line.trim().to_owned())
        .find_map(|line| Some(line.strip_prefix("curl http://")?.to_owned()));
    let (address, path) = url.as_deref().and_then(|url| url.split_once('/')).unwrap();
    let get = |path: &str| {
        let mut connection = TcpStream::connect(address).unwrap();
        write!(connection, "GET /{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        answer
    };
    let answer = get(path);
    assert!(answer.contains("\"available\":"), "{answer}");
    let explained = lines.by_ref().find_map(|line| Some(line.split_once("/v1/")?.1.to_owned())).unwrap();
    let answer = get(&format!("v1/{explained}"));
    assert!(answer.contains("\"verdict\":\"same\""), "{explained}: {answer}");
}
