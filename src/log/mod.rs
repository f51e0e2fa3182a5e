//! The log that events come from and results go to, in the domain's words. Kafka for production,
//! memory (with transactions, generations and fencing) for the simulation; both pass the contract in
//! `tests/log_contract.rs`.
//!
//! One [`Log`] belongs to one lane: it is one member of the consumer group and one transactional
//! producer.

pub mod kafka;
pub mod memory;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use crate::types::{Coordinates, TopicName, TopicPartition};

/// A record as it came, its bytes untouched.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Where it stands.
    pub at: Coordinates,
    /// When it was published, in milliseconds since 1970, if the log knows.
    pub published_ms: Option<i64>,
    /// Its key, if any.
    pub key: Option<Vec<u8>>,
    /// Its payload; nothing for a tombstone.
    pub payload: Option<Vec<u8>>,
    /// Its headers, in order.
    pub headers: Vec<Header>,
}

/// A record's header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// Its name.
    pub name: String,
    /// Its value, if any.
    pub value: Option<Vec<u8>>,
}

/// A record to publish.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OutRecord {
    /// The topic; the key decides the partition.
    pub topic: TopicName,
    /// The member, or the key as it came for a dead letter.
    pub key: Option<Vec<u8>>,
    /// The payload.
    pub payload: Option<Vec<u8>>,
    /// Headers, in order.
    pub headers: Vec<Header>,
}

/// A partition that this lane has just been given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Assigned {
    /// The partition.
    pub partition: TopicPartition,
    /// The group's committed offset (the next to be read) with its metadata, if there is one.
    pub committed: Option<(i64, String)>,
    /// The lowest offset that still exists.
    pub low_watermark: i64,
    /// The offset after the last that a `read_committed` reader may see.
    pub end: i64,
}

impl Assigned {
    /// The first offset that is delivered.
    pub fn start(&self) -> i64 {
        let committed = self.committed.as_ref().map(|(next, _)| *next);
        committed.map_or(self.low_watermark, |next| next.max(self.low_watermark))
    }
}

/// What is said of a partition that is not the one that is known: `seen` says by what it is told.
pub fn made_anew(topic: &TopicName, seen: &str) -> String {
    format!(
        "{seen}: topic {topic} was deleted and made anew, or lost its tail. New records would be taken for processed ones, so \
         nothing of it is read. Find out what happened; where a topic of that name is meant to begin anew, stop all workers \
         and run `accrual accept-recreated {topic}`"
    )
}

/// The same of a partition that ends before what is known of it.
pub fn shorter_than_known(partition: &TopicPartition, known: i64, end: i64) -> String {
    let seen =
        format!("{partition} ends at offset {end}, although offsets up to {known} of it were processed");
    made_anew(&partition.topic, &seen)
}

/// What a poll brought.
#[derive(Debug)]
pub enum Polled {
    /// Records, in offset order within each partition. May be empty.
    Records(Vec<Record>),
    /// The group was rebalanced: this lane now owns just these partitions, at their committed
    /// offsets. Whatever it had polled before is no longer its business.
    Assigned(Vec<Assigned>),
}

/// The next offset to read of a partition, to be committed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Position {
    /// The partition.
    pub partition: TopicPartition,
    /// The offset after the last processed.
    pub next: i64,
    /// Goes with the offset; holds the start of the range that is processed without a gap.
    pub metadata: String,
}

/// Why the log could not do what was asked, by what follows from it.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The same call again may work.
    #[error("the log is away: {0}")]
    Retriable(String),
    /// The transaction must be aborted; the producer lives.
    #[error("the transaction must be aborted: {0}")]
    Abortable(String),
    /// The producer must be replaced: it is broken, or what became of the transaction is unknown.
    #[error("the producer must be replaced: {0}")]
    ProducerLost(String),
    /// Another worker runs under this lane's transactional id; this one must end.
    #[error("another worker took over this lane's transactional id: {0}")]
    Fenced(String),
    /// It will not work by itself: authorization, unknown topic, invalid settings.
    #[error("the log refuses to work: {0}")]
    Broken(String),
    /// The process was told to die here (simulation only).
    #[error("crashed on purpose")]
    Crash,
}

/// Whether a record arrived, some time later.
pub type Delivery = Pin<Box<dyn Future<Output = Result<(), LogError>> + Send>>;

/// Puts single records on topics, outside of any transaction. Belongs to no lane.
pub trait Sender: Send + Sync {
    /// Sends a record; done once all replicas have it. `Retriable` where it did not arrive in some seconds, or where
    /// that is not known.
    fn send(&self, record: &OutRecord) -> Delivery;
}

/// What was published and is still there. Blocking; belongs to no lane and to no group.
pub trait Archive: fmt::Debug {
    /// One record; nothing where it is gone.
    fn record(&self, at: &Coordinates, deadline: Instant) -> Result<Option<Record>, LogError>;

    /// Hands over the payload of each record of a key, and when it was published (milliseconds since 1970), in
    /// the order of its partition. False where the deadline came before the end.
    fn of_key(
        &self,
        wanted: &KeyQuery<'_>,
        deadline: Instant,
        found: &mut dyn FnMut(&[u8], Option<i64>),
    ) -> Result<bool, LogError>;

    /// The partition that a key is usually written to, of so many.
    fn usual_partition(&self, key: &[u8], partitions: i32) -> i32;

    /// How far each partition of a topic reaches; none where there is no such topic.
    fn reach(&self, topic: &TopicName, deadline: Instant) -> Result<Vec<Reach>, LogError>;

    /// Hands over the committed records of a stretch of a partition, in order, until `take` says false. False where the
    /// deadline came before the end of the stretch, or before all of it was decided.
    fn scan(
        &self,
        stretch: &Stretch,
        deadline: Instant,
        take: &mut dyn FnMut(Record) -> bool,
    ) -> Result<bool, LogError>;
}

/// How far a partition reaches.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reach {
    /// The partition's number.
    pub partition: i32,
    /// The first offset that still exists.
    pub first: i64,
    /// The offset up to which every transaction is committed or aborted: as far as a `read_committed` reader sees.
    pub decided: i64,
    /// The offset after the last record, also of transactions that are open.
    pub end: i64,
}

/// A part of a partition: offsets `from..until`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stretch {
    /// The partition.
    pub of: TopicPartition,
    /// The first offset.
    pub from: i64,
    /// The offset after the last.
    pub until: i64,
}

/// Which records of a key are wanted.
#[derive(Clone, Copy, Debug)]
pub struct KeyQuery<'a> {
    /// Of this topic. One that does not exist has none.
    pub topic: &'a TopicName,
    /// The key.
    pub key: &'a [u8],
    /// Where to look.
    pub partitions: Partitions,
    /// Published then or later, in milliseconds since 1970.
    pub since_ms: Option<i64>,
    /// Published then or before. A partition is left at the first record that is not.
    pub until_ms: Option<i64>,
}

/// Partitions of a topic in which a key is looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Partitions {
    /// The one that the key belongs to.
    Usual,
    /// All others: partitions may have been added, or another partitioner used.
    Others,
}

/// The log, for one lane. Blocking. Between [`Log::begin`] and [`Log::commit`] or [`Log::abort`] it
/// never polls the consumer, so that no rebalance happens inside a transaction.
pub trait Log {
    /// Waits for records until there are `max_events`, or until there are some and `max_wait` has passed since the last ones were
    /// taken, or until it has passed since the call.
    /// A rebalance ends the wait at once and drops what was gathered.
    fn poll(&mut self, max_events: usize, max_wait: Duration) -> Result<Polled, LogError>;

    /// Stays a member of the group while the lane cannot work: takes no records for up to `wait`.
    /// A rebalance is returned as by [`Log::poll`]; else nothing.
    fn keep_alive(&mut self, wait: Duration) -> Result<Option<Vec<Assigned>>, LogError>;

    /// Begins a transaction.
    fn begin(&mut self) -> Result<(), LogError>;

    /// Adds records to the transaction. Waits while the producer's queue is full.
    fn send(&mut self, records: &[OutRecord]) -> Result<(), LogError>;

    /// Waits until all that the transaction sent is in the log, for nobody to read yet.
    fn arrive(&mut self) -> Result<(), LogError>;

    /// Adds the consumed positions to the transaction, with the group's metadata, so that a lane
    /// whose partitions were given away is refused.
    fn send_offsets(&mut self, positions: &[Position]) -> Result<(), LogError>;

    /// Commits the transaction.
    fn commit(&mut self) -> Result<(), LogError>;

    /// Aborts the transaction.
    fn abort(&mut self) -> Result<(), LogError>;

    /// Destroys the producer and makes a new one under the same id, which ends what the old one may
    /// have left undone.
    fn replace_producer(&mut self) -> Result<(), LogError>;

    /// Goes back to the committed offsets of the partitions owned now, as if they had just been
    /// assigned.
    fn rewind(&mut self) -> Result<Vec<Assigned>, LogError>;

    /// Whether every partition owned now has been read to its end and an assignment was received.
    fn caught_up(&self) -> bool;

    /// How many records lie between what is committed and what a `read_committed` reader could read,
    /// for each partition owned. Costs nothing; may be a moment old.
    fn lags(&self) -> Vec<(TopicPartition, i64)>;

    /// Whether the log could be reached when last heard of.
    fn is_connected(&self) -> bool;

    /// Leaves the group, so that others take over at once.
    fn leave(&mut self);
}
