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
//! | `credentials`, `oauth` | what clients log in with, where it comes from files |
//! | `triage` | what follows from an error |
//! | `admin`, `group` | making and checking topics; a group's offsets, for commands |
//! | `archive` | reading back what was published |
//! | `publisher` | transactions of commands |
//! | `mock` | a broker inside the process, for the demo |
//!
//! A `BaseConsumer` on the lane's own thread, because a lane has nothing else to do while it waits, and
//! rdkafka's `StreamConsumer` misses wake-ups (rust-rdkafka #665).

mod admin;
mod archive;
mod assignment;
mod consumer;
mod context;
mod credentials;
mod group;
mod mock;
mod oauth;
mod offsets;
mod offsets_call;
mod producer;
mod publisher;
mod records;
mod sender;
mod settings;
mod stats;
#[cfg(test)]
mod tests;
mod triage;

use std::time::{Duration, Instant};

pub use admin::{Check, Created, TopicProblem, TopicProblems, WantedTopic, check, ensure_topics, log_in};
pub use archive::KafkaArchive;
pub use credentials::Credentials;
pub use group::KafkaGroup;
pub use mock::MockBroker;
pub use oauth::{OAUTH_TOKEN, OauthSource, oauth_token_problem};
pub use publisher::{KafkaPublisher, Placed};
pub use sender::KafkaSender;
pub use settings::{DEFAULT_MAX_POLL_BYTES, KafkaSettings, PropertyProblem, property_problem};

use self::consumer::Reader;
use self::producer::Writer;
use super::{Assigned, Log, LogError, OutRecord, Polled, Position};
use crate::types::{TopicName, TopicPartition};

/// Kafka, for one lane.
pub struct KafkaLog {
    settings: KafkaSettings,
    /// The number of the credentials that the clients were made with.
    number: u64,
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
        let number = settings.credentials.number();
        let mut writer = Writer::new(settings)?;
        // First, so that no offsets of the predecessor are undecided when the group assigns.
        writer.replace()?;
        let reader = Some(Reader::subscribe(settings)?);
        Ok(Self { settings: settings.clone(), number, reader, writer, sent: Sent::default() })
    }

    /// Makes both clients anew where they log in otherwise by now: librdkafka's password and certificates are
    /// those of its making. Never inside a transaction, in which the lane does not poll. True where it happened:
    /// nothing is owned then, until the group has spoken.
    fn take_up_credentials(&mut self) -> Result<bool, LogError> {
        let number = self.settings.credentials.number();
        if self.number == number || self.reader.is_none() {
            return Ok(false);
        }
        self.writer.replace()?;
        let reader = Reader::subscribe(&self.settings)?;
        // The old member leaves the group.
        self.reader = Some(reader);
        self.number = number;
        tracing::info!(client = %self.settings.client_id, "logs in to Kafka with other credentials now");
        Ok(true)
    }

    fn reader(&mut self) -> Result<&mut Reader, LogError> {
        self.reader.as_mut().ok_or_else(|| LogError::Broken("this lane has left the group".into()))
    }
}

impl Log for KafkaLog {
    fn poll(&mut self, max_events: usize, max_wait: Duration) -> Result<Polled, LogError> {
        if self.take_up_credentials()? {
            return Ok(Polled::Assigned(Vec::new()));
        }
        self.reader()?.poll(max_events, max_wait)
    }

    fn keep_alive(&mut self, wait: Duration) -> Result<Option<Vec<Assigned>>, LogError> {
        if self.take_up_credentials()? {
            return Ok(Some(Vec::new()));
        }
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

    fn arrive(&mut self) -> Result<(), LogError> {
        self.writer.arrive()
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
