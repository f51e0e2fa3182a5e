//! A `read_committed` reader that is there all the time, through everything that happens to the brokers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::consumer::BaseConsumer;

use super::PATIENCE;
use super::kafka::{At, Kafka, Record, has_reached, taken};

/// It ends with the value.
pub struct LiveReader {
    reader: Arc<BaseConsumer>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<BTreeMap<At, Record>>,
    /// Records that came again; none should.
    again: Mutex<Vec<At>>,
    ended: AtomicBool,
}

impl LiveReader {
    pub fn start(kafka: &Kafka, topics: &[String]) -> Self {
        let reader = Arc::new(kafka.reader(topics));
        let shared = Arc::new(Shared::default());
        let (polled, held) = (reader.clone(), shared.clone());
        let thread = std::thread::spawn(move || {
            while !held.ended.load(Ordering::Acquire) {
                // Errors are of brokers that are away. An offset that is gone would be one, too, and the reader would
                // never come to the end.
                let Some(Ok(message)) = polled.poll(Duration::from_millis(100)) else { continue };
                let (at, record) = taken(&message);
                if held.seen.lock().unwrap().insert(at.clone(), record).is_some() {
                    held.again.lock().unwrap().push(at);
                }
            }
        });
        Self { reader, shared, thread: Some(thread) }
    }

    /// How many records it has seen.
    pub fn seen_so_far(&self) -> usize {
        self.shared.seen.lock().unwrap().len()
    }

    /// All that it has seen, once it has come to these ends.
    pub fn seen(&self, ends: &BTreeMap<(String, i32), i64>) -> BTreeMap<At, Record> {
        let deadline = Instant::now() + PATIENCE;
        while !has_reached(&self.reader, ends) {
            assert!(Instant::now() < deadline, "the live reader does not come to {ends:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
        let again = self.shared.again.lock().unwrap();
        assert!(again.is_empty(), "the live reader saw again: {again:?}");
        // The position moves on before the record is put where it is seen.
        std::thread::sleep(Duration::from_millis(200));
        self.shared.seen.lock().unwrap().clone()
    }
}

impl Drop for LiveReader {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}
