//! Kafka, through librdkafka: a member of the consumer group and a transactional producer for each
//! lane.
//!
//! | file | what |
//! | --- | --- |
//! | `settings` | what the operator may set, what accrual insists on, defaults |
//! | `consumer` | the group's member: assignments, polling, pausing, rewinding |
//! | `records` | what a poll hands over |
//! | `offsets` | where to begin on what was assigned |
//! | `assignment` | what is owned and how far it is; lag |
//! | `producer` | transactions |
//! | `context`, `stats` | what librdkafka's callbacks tell |
//! | `triage` | what follows from an error |
//! | `admin` | making and checking topics |
//! | `archive` | reading back what was published |
//! | `mock` | a broker inside the process, for the demo |
//!
//! A `BaseConsumer` on the lane's own thread, because a lane has nothing else to do while it waits, and
//! rdkafka's `StreamConsumer` misses wake-ups (rust-rdkafka #665).

mod admin;
mod archive;
mod assignment;
mod consumer;
mod context;
mod mock;
mod offsets;
mod producer;
mod records;
mod sender;
mod settings;
mod stats;
#[cfg(test)]
mod tests;
mod triage;

use std::time::{Duration, Instant};

pub use admin::{Check, Created, TopicProblem, TopicProblems, WantedTopic, check, ensure_topics};
pub use archive::KafkaArchive;
pub use mock::MockBroker;
pub use sender::KafkaSender;
pub use settings::{DEFAULT_MAX_POLL_BYTES, KafkaSettings, PropertyProblem, property_problem};

use self::consumer::Reader;
use self::producer::Writer;
use super::{Assigned, Log, LogError, OutRecord, Polled, Position};
use crate::types::{TopicName, TopicPartition};

/// Kafka, for one lane.
pub struct KafkaLog {
    /// Nothing once the group was left.
    reader: Option<Reader>,
    writer: Writer,
    /// What the open transaction holds, to be noted once it is committed.
    sent: Sent,
}

#[derive(Default)]
struct Sent {
    positions: Vec<Position>,
    topics: Vec<TopicName>,
}

impl KafkaLog {
    /// Connects: makes the producer, which aborts what a predecessor of the same transactional id left
    /// open, and joins the group. What this lane owns comes by [`Log::poll`].
    ///
    /// Waits 10 seconds at most for the brokers and 10 for the topics to be there.
    pub fn open(settings: &KafkaSettings) -> Result<Self, LogError> {
        let mut writer = Writer::new(settings)?;
        // First, so that no offsets of the predecessor are undecided when the group assigns.
        writer.replace()?;
        Ok(Self { reader: Some(Reader::subscribe(settings)?), writer, sent: Sent::default() })
    }

    fn reader(&mut self) -> Result<&mut Reader, LogError> {
        self.reader.as_mut().ok_or_else(|| LogError::Broken("this lane has left the group".into()))
    }
}

impl Log for KafkaLog {
    fn poll(&mut self, max_events: usize, max_wait: Duration) -> Result<Polled, LogError> {
        self.reader()?.poll(max_events, max_wait)
    }

    fn keep_alive(&mut self, wait: Duration) -> Result<Option<Vec<Assigned>>, LogError> {
        self.reader()?.keep_alive(wait)
    }

    fn begin(&mut self) -> Result<(), LogError> {
        self.sent = Sent::default();
        self.writer.begin()
    }

    fn send(&mut self, records: &[OutRecord]) -> Result<(), LogError> {
        self.writer.send(records)?;
        for record in records {
            if self.sent.topics.last() != Some(&record.topic) && !self.sent.topics.contains(&record.topic) {
                self.sent.topics.push(record.topic.clone());
            }
        }
        Ok(())
    }

    fn send_offsets(&mut self, positions: &[Position]) -> Result<(), LogError> {
        let generation = self.reader.as_ref().and_then(Reader::generation);
        self.writer.send_offsets(positions, generation)?;
        self.sent.positions.extend_from_slice(positions);
        Ok(())
    }

    fn commit(&mut self) -> Result<(), LogError> {
        self.writer.commit()?;
        let sent = std::mem::take(&mut self.sent);
        if let Some(reader) = &mut self.reader {
            let owned = reader.owned_mut();
            for position in &sent.positions {
                owned.settled(&position.partition, position.next);
            }
            let now = Instant::now();
            for topic in &sent.topics {
                owned.published_to(topic, now);
            }
        }
        Ok(())
    }

    fn abort(&mut self) -> Result<(), LogError> {
        self.sent = Sent::default();
        self.writer.abort()
    }

    fn replace_producer(&mut self) -> Result<(), LogError> {
        self.sent = Sent::default();
        self.writer.replace()
    }

    fn rewind(&mut self) -> Result<Vec<Assigned>, LogError> {
        self.reader()?.rewind()
    }

    fn caught_up(&self) -> bool {
        self.reader.as_ref().is_some_and(Reader::caught_up)
    }

    fn lags(&self) -> Vec<(TopicPartition, i64)> {
        self.reader.as_ref().map(|reader| reader.owned().lags()).unwrap_or_default()
    }

    fn is_connected(&self) -> bool {
        self.reader.as_ref().is_some_and(Reader::connected)
    }

    fn leave(&mut self) {
        self.reader = None;
    }
}
