//! A log and a store whose every call waits for the scheduler, which may let it through, fail it
//! before or after it took effect, or have the worker die before or after it.

use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use accrual::lane::metadata;
use accrual::log::memory::{MemoryBroker, MemoryLog};
use accrual::log::{
    Archive, Assigned, KeyQuery, Log, LogError, OutRecord, Polled, Position, Reach, Record, Stretch,
};
use accrual::store::memory::MemoryStore;
use accrual::store::{
    Claimed, CommitBucket, Committed, Deployment, DueAt, Lease, LeaseId, LeaseRequest, LoadBucket,
    LoadedBucket, Located, OffsetRange, OutboxKey, Receipt, RestoreBucket, Restored, Spent, Store,
    StoreError,
};
use accrual::types::{Bucket, CampaignId, Coordinates, EventId, MemberId, TopicName, TopicPartition};

use super::mutation::Mutation;

/// What the scheduler makes of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    Proceed,
    CrashBefore,
    CrashAfter,
    /// The call took effect but its reply is lost.
    LoseReply,
    /// The call never arrived, and the lane cannot tell that from a lost reply.
    LoseCall,
    /// The call did not take effect, and the lane knows.
    Fail,
}

/// What a lane tells the scheduler.
pub enum Signal {
    /// It is about to make this call and waits.
    Calls(&'static str),
    /// Its last poll was empty and it has nothing left to do.
    Idle,
    /// It published a batch of records at these offsets.
    Published(Vec<(TopicPartition, i64)>),
    /// Its thread ends.
    Ended(Ending),
}

/// How a lane's thread ends.
pub enum Ending {
    AsTold,
    Crashed,
    /// By an error that no fault of the simulation explains.
    Failed(String),
}

/// One lane's line to the scheduler.
pub struct Gate {
    pub lane: usize,
    pub signals: Sender<(usize, Signal)>,
    pub actions: Receiver<Action>,
}

impl Gate {
    fn ask(&self, call: &'static str) -> Action {
        self.signals.send((self.lane, Signal::Calls(call))).expect("the scheduler listens");
        self.actions.recv().expect("the scheduler answers")
    }

    fn store<T>(
        &self,
        call: &'static str,
        run: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let away = || StoreError::Away(format!("{call}: simulated"));
        match self.ask(call) {
            Action::Proceed => run(),
            Action::CrashBefore => Err(StoreError::Crash),
            Action::CrashAfter => run().and(Err(StoreError::Crash)),
            Action::LoseReply => run().and_then(|_| Err(away())),
            Action::LoseCall | Action::Fail => Err(away()),
        }
    }

    fn log<T>(&self, call: &'static str, run: impl FnOnce() -> Result<T, LogError>) -> Result<T, LogError> {
        match self.ask(call) {
            Action::Proceed => run(),
            Action::CrashBefore => Err(LogError::Crash),
            Action::CrashAfter => run().and(Err(LogError::Crash)),
            // What became of a transaction is unknown: the producer must be replaced.
            Action::LoseReply => {
                run().and_then(|_| Err(LogError::ProducerLost(format!("{call}: simulated"))))
            }
            Action::LoseCall => Err(LogError::ProducerLost(format!("{call}: simulated"))),
            Action::Fail => Err(LogError::Abortable(format!("{call}: simulated"))),
        }
    }
}

pub struct FaultyStore {
    pub inner: MemoryStore,
    pub mutation: Option<Mutation>,
    pub gate: std::rc::Rc<Gate>,
}

impl Store for FaultyStore {
    fn load(&mut self, wanted: &[LoadBucket]) -> Result<Vec<LoadedBucket>, StoreError> {
        self.gate.store("load", || self.inner.load(wanted))
    }

    /// Buckets are committed one by one, so that a crash or a lost reply may come between two.
    fn commit(&mut self, buckets: &[CommitBucket]) -> Result<Vec<Committed>, StoreError> {
        let mut outcomes = Vec::new();
        for bucket in buckets {
            let mutated = self.mutation.map(|mutation| mutation.of_commit(&self.inner, bucket));
            let (inner, bucket) = (&mut self.inner, mutated.as_ref().unwrap_or(bucket));
            outcomes.extend(self.gate.store("commit bucket", || inner.commit(std::slice::from_ref(bucket)))?);
        }
        Ok(outcomes)
    }

    fn outbox(&mut self, partitions: &[TopicPartition]) -> Result<Vec<(Bucket, OutboxKey)>, StoreError> {
        self.gate.store("outbox", || self.inner.outbox(partitions))
    }

    fn outbox_entry(&mut self, bucket: Bucket, key: &OutboxKey) -> Result<Option<Vec<u8>>, StoreError> {
        self.gate.store("outbox entry", || self.inner.outbox_entry(bucket, key))
    }

    fn clear_outbox(&mut self, published: &[(Bucket, OutboxKey)]) -> Result<(), StoreError> {
        self.gate.store("clear outbox", || self.inner.clear_outbox(published))
    }

    fn processed(&mut self, partitions: &[TopicPartition]) -> Result<Vec<Vec<OffsetRange>>, StoreError> {
        self.gate.store("processed", || self.inner.processed(partitions))
    }

    fn add_processed(&mut self, ranges: &[(TopicPartition, OffsetRange)]) -> Result<(), StoreError> {
        self.gate.store("add processed", || self.inner.add_processed(ranges))
    }

    fn sources(&mut self, topic: &TopicName) -> Result<Vec<(TopicPartition, Vec<OffsetRange>)>, StoreError> {
        self.inner.sources(topic)
    }

    fn forget_processed(&mut self, partitions: &[TopicPartition]) -> Result<(), StoreError> {
        self.inner.forget_processed(partitions)
    }

    fn lease(&mut self, wanted: &LeaseRequest) -> Result<Lease, StoreError> {
        self.gate.store("lease", || self.inner.lease(wanted))
    }

    fn end_lease(&mut self, campaign: &CampaignId, lease: LeaseId) -> Result<(), StoreError> {
        self.gate.store("end lease", || self.inner.end_lease(campaign, lease))
    }

    /// A look that finds nothing is none of the scheduler's business.
    fn claim_due(&mut self, buckets: &[Bucket], most: usize, hold: Duration) -> Result<Claimed, StoreError> {
        let now = self.inner.now().as_secs();
        if self.inner.due().values().all(|at| *at > now as i64) {
            return self.inner.claim_due(buckets, most, hold);
        }
        self.gate.store("claim due", || self.inner.claim_due(buckets, most, hold))
    }

    fn set_due(&mut self, due: &[(Bucket, DueAt)]) -> Result<(), StoreError> {
        self.gate.store("set due", || self.inner.set_due(due))
    }

    fn due_of(&mut self, wanted: &[(Bucket, Vec<MemberId>)]) -> Result<Vec<Vec<Option<i64>>>, StoreError> {
        self.inner.due_of(wanted)
    }

    fn each_member(
        &mut self,
        buckets: &[Bucket],
        take: &mut dyn FnMut(Bucket, MemberId),
    ) -> Result<(), StoreError> {
        self.inner.each_member(buckets, take)
    }

    fn spent(&mut self, campaign: &CampaignId) -> Result<Spent, StoreError> {
        self.inner.spent(campaign)
    }

    fn check_deployment(&mut self, wanted: &Deployment) -> Result<Deployment, StoreError> {
        self.inner.check_deployment(wanted)
    }

    fn find_events(
        &mut self,
        buckets: &[Bucket],
        id: &str,
        deadline: Instant,
    ) -> Result<Vec<(EventId, Receipt)>, StoreError> {
        self.inner.find_events(buckets, id, deadline)
    }

    fn locate(&mut self) -> Result<Vec<Located>, StoreError> {
        let (inner, mutation) = (&mut self.inner, self.mutation);
        self.gate.store("locate", || {
            let located = inner.locate()?;
            Ok(match mutation {
                Some(mutation) => mutation.of_places(located, inner),
                None => located,
            })
        })
    }

    fn adopt(&mut self, located: &[Located]) -> bool {
        self.inner.adopt(located)
    }

    fn confirm(&mut self, located: &[Located]) -> Result<bool, StoreError> {
        self.gate.store("confirm", || self.inner.confirm(located))
    }

    /// A look that finds nothing is none of the scheduler's business.
    fn is_unmoved(&mut self, buckets: &[Bucket]) -> Result<bool, StoreError> {
        if self.inner.is_unmoved(buckets)? && buckets.len() == self.inner.locate()?.len() {
            return Ok(true);
        }
        self.gate.store("is unmoved", || self.inner.is_unmoved(buckets))
    }

    fn restore(&mut self, buckets: &[RestoreBucket]) -> Result<Option<Restored>, StoreError> {
        self.gate.store("restore", || self.inner.restore(buckets))
    }

    fn probe(&mut self) -> Result<(), StoreError> {
        self.inner.probe()
    }
}

/// What was published, read as the scheduler lets it.
pub struct FaultyArchive {
    pub inner: MemoryBroker,
    pub gate: std::rc::Rc<Gate>,
}

impl std::fmt::Debug for FaultyArchive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FaultyArchive")
    }
}

impl FaultyArchive {
    fn ask<T>(&self, call: &'static str, run: impl FnOnce() -> Result<T, LogError>) -> Result<T, LogError> {
        match self.gate.ask(call) {
            Action::Proceed => run(),
            Action::CrashBefore | Action::CrashAfter => Err(LogError::Crash),
            Action::LoseReply | Action::LoseCall | Action::Fail => {
                Err(LogError::Retriable(format!("{call}: simulated")))
            }
        }
    }
}

impl Archive for FaultyArchive {
    fn record(&self, at: &Coordinates, deadline: Instant) -> Result<Option<Record>, LogError> {
        self.inner.record(at, deadline)
    }

    fn of_key(
        &self,
        wanted: &KeyQuery<'_>,
        deadline: Instant,
        found: &mut dyn FnMut(&[u8], Option<i64>),
    ) -> Result<bool, LogError> {
        self.inner.of_key(wanted, deadline, found)
    }

    fn usual_partition(&self, key: &[u8], partitions: i32) -> i32 {
        self.inner.usual_partition(key, partitions)
    }

    fn reach(&self, topic: &TopicName, deadline: Instant) -> Result<Vec<Reach>, LogError> {
        self.ask("reach", || self.inner.reach(topic, deadline))
    }

    fn scan(
        &self,
        stretch: &Stretch,
        deadline: Instant,
        take: &mut dyn FnMut(Record) -> bool,
    ) -> Result<bool, LogError> {
        self.ask("scan", || self.inner.scan(stretch, deadline, take))
    }
}

pub struct FaultyLog {
    pub inner: MemoryLog,
    pub broker: MemoryBroker,
    pub mutation: Option<Mutation>,
    pub gate: std::rc::Rc<Gate>,
    /// Where the records of the batch at hand came from.
    pub batch: Vec<(TopicPartition, i64)>,
}

/// The offsets behind a position of which it says that they are published now: no poll brought them, the outbox held them.
fn published_behind(position: &Position) -> impl Iterator<Item = (TopicPartition, i64)> {
    let Position { partition, next, metadata } = position.clone();
    let committed = Some((next, metadata));
    let assigned = Assigned { partition: partition.clone(), committed, low_watermark: 0, end: next };
    let without_gap = usize::from(metadata::start_without_gap(&assigned).is_some());
    let behind = metadata::processed(&assigned).into_iter().skip(without_gap);
    behind.flat_map(|range| range.from..range.until).map(move |offset| (partition.clone(), offset))
}

impl Log for FaultyLog {
    fn poll(&mut self, max_events: usize, max_wait: Duration) -> Result<Polled, LogError> {
        let polled = match self.gate.ask("poll") {
            Action::CrashBefore | Action::CrashAfter => return Err(LogError::Crash),
            _ => self.inner.poll(max_events, max_wait)?,
        };
        self.batch.clear();
        if let Polled::Records(records) = &polled {
            let offset = |record: &Record| (record.at.topic_partition(), record.at.offset);
            self.batch.extend(records.iter().map(offset));
        }
        if matches!(&polled, Polled::Records(records) if records.is_empty()) && self.inner.caught_up() {
            self.gate.signals.send((self.gate.lane, Signal::Idle)).expect("the scheduler listens");
        }
        Ok(polled)
    }

    fn keep_alive(&mut self, wait: Duration) -> Result<Option<Vec<Assigned>>, LogError> {
        self.inner.keep_alive(wait)
    }

    fn begin(&mut self) -> Result<(), LogError> {
        self.inner.begin()
    }

    fn send(&mut self, records: &[OutRecord]) -> Result<(), LogError> {
        self.gate.log("send", || self.inner.send(records))
    }

    fn arrive(&mut self) -> Result<(), LogError> {
        self.gate.log("arrive", || self.inner.arrive())
    }

    fn send_offsets(&mut self, positions: &[Position]) -> Result<(), LogError> {
        if positions.is_empty() {
            // Of the clock, and not of the batch that was polled last and may have come to nothing.
            self.batch.clear();
        }
        self.batch.extend(positions.iter().flat_map(published_behind));
        let Self { inner, broker, mutation, .. } = self;
        self.gate.log("send offsets", || {
            if let Some(mutation) = mutation {
                mutation.of_offsets(broker, positions);
            }
            inner.send_offsets(positions)
        })
    }

    fn commit(&mut self) -> Result<(), LogError> {
        self.gate.log("commit transaction", || {
            self.inner.commit()?;
            let published = std::mem::take(&mut self.batch);
            self.gate.signals.send((self.gate.lane, Signal::Published(published))).expect("it listens");
            Ok(())
        })
    }

    fn abort(&mut self) -> Result<(), LogError> {
        self.gate.log("abort transaction", || self.inner.abort())
    }

    fn replace_producer(&mut self) -> Result<(), LogError> {
        self.gate.log("replace producer", || self.inner.replace_producer())
    }

    fn rewind(&mut self) -> Result<Vec<Assigned>, LogError> {
        match self.gate.ask("rewind") {
            Action::CrashBefore | Action::CrashAfter => Err(LogError::Crash),
            _ => self.inner.rewind(),
        }
    }

    fn caught_up(&self) -> bool {
        self.inner.caught_up()
    }

    fn lags(&self) -> Vec<(TopicPartition, i64)> {
        self.inner.lags()
    }

    fn is_connected(&self) -> bool {
        self.inner.is_connected()
    }

    fn leave(&mut self) {
        self.inner.leave();
    }
}
