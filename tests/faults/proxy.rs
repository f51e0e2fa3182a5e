//! A TCP proxy in front of Redis: the address stays while the server behind it changes, and a connection can be
//! made half-open, as by a firewall that forgot it.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::PATIENCE;

/// It ends with the value.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    target: AtomicU16,
    /// Connections made before this one's number swallow what they are given.
    swallowed_before: AtomicU64,
    next: AtomicU64,
    ended: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
    /// What is not passed on: whatever has all of these words in it.
    held_back: Mutex<&'static [&'static str]>,
    holds: AtomicBool,
}

impl Proxy {
    pub fn start(target: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", super::redis_server::free_port())).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { target: AtomicU16::new(target), ..Shared::default() });
        let held = shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if held.ended.load(Ordering::Acquire) {
                    return;
                }
                held.clone().forward(client);
            }
        });
        Self { address, shared }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// New connections lead to another server; those that are open are closed.
    pub fn lead_to(&self, target: u16) {
        self.shared.target.store(target, Ordering::Release);
        self.close_all();
    }

    /// What is open now stays open and is never answered again. New connections work.
    pub fn forget_connections(&self) {
        self.shared.swallowed_before.store(self.shared.next.load(Ordering::Acquire), Ordering::Release);
    }

    /// Waits until something has all of these words in it, and holds it back.
    pub fn hold_back(&self, words: &'static [&'static str]) {
        self.shared.holds.store(false, Ordering::Release);
        *self.shared.held_back.lock().unwrap() = words;
        let deadline = Instant::now() + PATIENCE;
        while !self.shared.holds.load(Ordering::Acquire) {
            assert!(Instant::now() < deadline, "nothing with {words:?} in it came by");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Passes on what is held back.
    pub fn pass_on(&self) {
        *self.shared.held_back.lock().unwrap() = &[];
    }

    fn close_all(&self) {
        for stream in self.shared.open.lock().unwrap().drain(..) {
            stream.shutdown(Shutdown::Both).ok();
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
        // Wakes the thread that waits for connections.
        TcpStream::connect(self.address).ok();
        self.close_all();
    }
}

impl Shared {
    fn forward(self: Arc<Self>, client: TcpStream) {
        let number = self.next.fetch_add(1, Ordering::AcqRel);
        // Where nobody listens the client is hung up on, which is as near to refused as a proxy comes.
        let Ok(server) = TcpStream::connect(("127.0.0.1", self.target.load(Ordering::Acquire))) else {
            return;
        };
        for stream in [&client, &server] {
            stream.set_nodelay(true).ok();
            self.open.lock().unwrap().push(stream.try_clone().unwrap());
        }
        let ways = [(client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client)];
        for (from, to) in ways {
            let shared = self.clone();
            std::thread::spawn(move || shared.copy(number, from, to));
        }
    }

    fn copy(&self, number: u64, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            self.wait_while_held_back(&buffer[..length]);
            let is_forgotten = number < self.swallowed_before.load(Ordering::Acquire);
            if !is_forgotten && to.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        // The end of a connection that is forgotten is not told either.
        if number >= self.swallowed_before.load(Ordering::Acquire) {
            to.shutdown(Shutdown::Both).ok();
            from.shutdown(Shutdown::Both).ok();
        }
    }

    fn wait_while_held_back(&self, bytes: &[u8]) {
        let has = |word: &&str| bytes.windows(word.len()).any(|window| window == word.as_bytes());
        let is_held_back = || {
            let words = *self.held_back.lock().unwrap();
            !words.is_empty() && words.iter().all(has)
        };
        while is_held_back() && !self.ended.load(Ordering::Acquire) {
            self.holds.store(true, Ordering::Release);
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
