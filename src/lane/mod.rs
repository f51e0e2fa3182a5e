//! The lane: one thread that reads events, decides them, keeps accounts and publishes what changed.
//!
//! ```text
//! poll     up to batch.max_events; what came while the batch before was processed is not waited for
//! decode   bytes -> Event, or a dead letter with the reason
//! load     the accounts that the cache lacks, all buckets at once
//! decide   in offset order: entries for each event, evolved onto the account; bucket by bucket what is to be written of them
//! commit   every bucket atomically: versions unchanged, no receipt seen? then write all of it
//! publish  begin, produce, send offsets with the group metadata, commit
//! ```
//!
//! What makes it exactly-once: a receipt and an outbox record are written with every change, in one
//! atomic step; results and consumed offsets are published in one transaction. Whatever is delivered
//! again finds its receipt. `work` tells the cases apart, `recovery` begins after an assignment.

pub mod budgets;
mod clock;
pub mod flood;
pub mod leftovers;
mod lost_offsets;
pub mod metadata;
pub mod outbox;
pub mod positions;
mod publish;
mod recovery;
pub mod recreated;
mod repair;
pub mod status;
mod tally;
mod work;

use foldhash::{HashMap, HashMapExt};
use std::sync::Arc;
use std::time::{Duration, Instant};

use quick_cache::unsync::Cache;

use crate::account::{Account, Retention};
use crate::entry::Renderer;
use crate::event::Rejected;
use crate::event::decode::{Decoded, Decoder};
use crate::log::{Archive, Assigned, Log, LogError, Polled, Record};
use crate::metrics::Metrics;
use crate::programme::Versions;
use crate::programme::current::Current;
use crate::store::{OutboxKey, Store, StoreError};
use crate::types::{Bucket, Buckets, MemberId, Outputs, TopicPartition};

use budgets::{LeaseTimes, Leases};
use flood::{Flood, FloodLimits};
use positions::Positions;
use status::LaneStatus;
use tally::Tally;
use work::{BucketWork, Spare};

/// What every lane of a worker shares.
#[derive(Clone, Debug)]
pub struct LaneSettings {
    /// The versions of the programme, of which each decides the events of its time.
    pub versions: Arc<Versions>,
    /// Where the lane looks between two batches whether others decide.
    pub current: Arc<Current>,
    /// Topics that results go to.
    pub outputs: Outputs,
    /// How many buckets there are.
    pub buckets: Buckets,
    /// How much accounts remember.
    pub retention: Retention,
    /// How long an event's receipt is kept at least.
    pub dedupe_window: Duration,
    /// Records a batch has at most.
    pub max_events: usize,
    /// How long a batch is gathered at most, from when the last one was taken.
    pub max_wait: Duration,
    /// Bytes that a record may have.
    pub max_record_bytes: usize,
    /// Accounts that this lane keeps in memory.
    pub cached_accounts: usize,
    /// How long it holds on to parts of campaigns' budgets.
    pub leases: LeaseTimes,
    /// From when on it takes no more input because of dead letters.
    pub flood: FloodLimits,
    /// How often it looks for what has fallen due.
    pub clock_every: Duration,
    /// How many records in a row must be whole before a store that was lost is taken to be, see [`crate::repair`].
    pub whole_stretch: i64,
    /// Waits between two tries inside a transaction, where the group cannot be polled. A function, so
    /// that the simulation need not wait.
    pub sleep: fn(Duration),
}

/// Why a lane ends without being told to.
#[derive(Debug, thiserror::Error)]
pub enum LaneError {
    /// The log cannot go on.
    #[error(transparent)]
    Log(LogError),
    /// The store cannot go on.
    #[error(transparent)]
    Store(StoreError),
    /// A partition is not the one that the store knows.
    #[error("{0}")]
    Recreated(String),
    /// An account or an outbox blob in the store is not as the worker writes it.
    #[error("the store holds what this worker cannot read: {0}")]
    Unreadable(String),
}

/// Why a batch was left. Nothing is lost by it: what was not committed is delivered again.
#[derive(Debug)]
pub(crate) enum Left {
    /// The partitions were given out anew, or reading went back to the committed offsets.
    Reassigned(Vec<Assigned>),
    /// The worker is told to stop.
    Stopped,
    /// The lane cannot go on.
    Failed(LaneError),
}

impl From<LaneError> for Left {
    fn from(error: LaneError) -> Self {
        Left::Failed(error)
    }
}

/// One lane.
#[derive(Debug)]
pub struct Lane<L, S> {
    log: L,
    store: S,
    /// What was published, for what the store lost.
    archive: Box<dyn Archive>,
    settings: LaneSettings,
    decoder: Decoder,
    renderer: Renderer,
    metrics: Metrics,
    status: Arc<LaneStatus>,
    spare: Spare,
    /// Boxed: an account is half a kilobyte, and moves into its batch and back with every batch.
    cache: Cache<MemberId, Box<Account>>,
    positions: Positions,
    /// What it holds of campaigns' budgets.
    leases: Leases,
    flood: Flood,
    /// Outbox entries of this lane's partitions that are not published yet.
    unpublished: Vec<(Bucket, OutboxKey)>,
    /// Outbox entries that are published; they go with the next commit in their bucket.
    published: HashMap<Bucket, Vec<OutboxKey>>,
    /// Partitions without a committed offset that were looked into just now, see `lost_offsets`.
    looked_into: Vec<TopicPartition>,
    /// Whether the store does not know yet what this lane has processed.
    ranges_unsaved: bool,
    /// Tries in a row that failed, for backing off.
    failures: u32,
    /// When lag and connection were last looked at, and the partitions whose lag is shown.
    looked: Instant,
    told_the_time: Instant,
    tell_again_after: Duration,
    lagging: Vec<TopicPartition>,
}

/// A record of a batch and what it turned out to be.
#[derive(Debug)]
struct Delivered {
    record: Record,
    fate: Fate,
}

#[derive(Debug)]
enum Fate {
    /// An event to be decided in this bucket.
    Event(Box<crate::event::Event>, Bucket),
    /// Of a type that the programme does not name, or not at the event's time.
    Skipped,
    /// Processed before; see [`Positions::is_processed`].
    Replayed,
    /// A dead letter.
    Rejected(Rejected),
}

/// What a lane did in one turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// It processed a batch, or began with other partitions.
    Worked,
    /// There was nothing to do.
    Idle,
}

/// Reads events as a lane does.
pub(crate) fn decoder(versions: &Arc<Versions>, settings: &LaneSettings) -> Decoder {
    Decoder::of(versions, settings.max_record_bytes).with_internal(settings.outputs.internal.clone())
}

impl<L: Log, S: Store> Lane<L, S> {
    /// A lane over a log, what was published to it, and a store.
    pub fn new(
        log: L,
        store: S,
        archive: Box<dyn Archive>,
        settings: LaneSettings,
        metrics: Metrics,
        status: Arc<LaneStatus>,
    ) -> Self {
        let settings = LaneSettings { outputs: settings.outputs.detached(), ..settings };
        let clock_every = settings.clock_every;
        status.take_input(&metrics);
        Self {
            decoder: decoder(&settings.versions, &settings),
            renderer: Renderer::new(&settings.versions.first().name),
            cache: Cache::new(settings.cached_accounts.max(1)),
            leases: Leases::default(),
            flood: Flood::new(settings.flood),
            spare: Spare::default(),
            log,
            store,
            archive,
            settings,
            metrics,
            status,
            positions: Positions::default(),
            unpublished: Vec::new(),
            published: HashMap::new(),
            looked_into: Vec::new(),
            ranges_unsaved: false,
            failures: 0,
            looked: Instant::now(),
            told_the_time: Instant::now(),
            tell_again_after: clock_every,
            lagging: Vec::new(),
        }
    }

    /// Turns until told to stop, then leaves the group.
    ///
    /// # Errors
    /// Where the lane cannot go on by itself.
    pub fn run(&mut self) -> Result<(), LaneError> {
        let mut result = Ok(());
        while result.is_ok() && !self.status.is_stopping() {
            result = self.turn().map(|_| ());
        }
        if result.is_ok() {
            self.save_progress();
            self.give_leases_back();
        }
        self.log.leave();
        self.status.ended();
        result
    }

    /// Processes one batch, whole or not at all.
    ///
    /// # Errors
    /// Where the lane cannot go on by itself.
    pub fn turn(&mut self) -> Result<Turn, LaneError> {
        self.status.turned();
        self.look_around();
        self.take_up_programme();
        self.keep_leases()?;
        match self.tell_the_time() {
            Ok(()) | Err(Left::Stopped) => {}
            Err(Left::Reassigned(assigned)) => return self.adopt(assigned).map(|()| Turn::Worked),
            Err(Left::Failed(error)) => return Err(error),
        }
        if let Some(turn) = self.stand_still()? {
            return Ok(turn);
        }
        let began = Instant::now();
        let records = match self.log.poll(self.settings.max_events, self.settings.max_wait) {
            Ok(Polled::Records(records)) => records,
            Ok(Polled::Assigned(assigned)) => return self.adopt(assigned).map(|()| Turn::Worked),
            Err(LogError::Retriable(why)) => {
                self.log_is_away(&why);
                return Ok(Turn::Idle);
            }
            Err(error) => return Err(LaneError::Log(error)),
        };
        self.status.set_caught_up(self.log.caught_up() && records.is_empty());
        if records.is_empty() {
            self.save_progress();
            return Ok(Turn::Idle);
        }
        self.observe("poll", began);
        self.metrics.batch_events.observe(records.len() as f64);
        match self.process(records) {
            Ok(()) => self.failures = 0,
            Err(Left::Reassigned(assigned)) => self.adopt(assigned)?,
            Err(Left::Stopped) => {}
            Err(Left::Failed(error)) => return Err(error),
        }
        Ok(Turn::Worked)
    }

    /// Decides by the current versions of the programme from here on.
    fn take_up_programme(&mut self) {
        let versions = self.settings.current.get();
        if Arc::ptr_eq(&versions, &self.settings.versions) {
            return;
        }
        self.decoder = decoder(&versions, &self.settings);
        self.settings.retention.months = versions.kept_months();
        self.leases.take_up(&versions);
        self.forget_flood();
        tracing::info!(lane = %self.status.name, %versions, "decides by another programme");
        self.settings.versions = versions;
    }

    /// Once a second: shows the lag, and whether Kafka can be reached.
    fn look_around(&mut self) {
        if self.looked.elapsed() < Duration::from_secs(1) {
            return;
        }
        self.looked = Instant::now();
        if self.log.is_connected() {
            self.status.kafka_is_up(&self.metrics);
        } else {
            self.status.kafka_is_down(&self.metrics, "no broker can be reached");
        }
        self.forget_lag();
        for (partition, lag) in self.log.lags() {
            let labels = [partition.topic.as_str(), &partition.partition.to_string()];
            self.metrics.lag.with_label_values(&labels).set(lag);
            self.lagging.push(partition);
        }
    }

    /// Partitions that are somebody else's now must not stay in this worker's metrics.
    fn forget_lag(&mut self) {
        for partition in self.lagging.drain(..) {
            let labels = [partition.topic.as_str(), &partition.partition.to_string()];
            // Fails only where the series was never there.
            self.metrics.lag.remove_label_values(&labels).ok();
        }
    }

    fn process(&mut self, records: Vec<Record>) -> Result<(), Left> {
        let began = Instant::now();
        let batch: Vec<Delivered> = records.into_iter().map(|record| self.decode(record)).collect();
        self.observe("decode", began);
        self.save_ranges()?;
        let mut work = self.settle(&batch)?;
        let began = Instant::now();
        let mut tally = Tally::default();
        let results = self.results(&batch, &mut work, &mut tally);
        let span = span(&batch);
        let buckets: Vec<Bucket> = work.iter().map(BucketWork::bucket).collect();
        self.publish(&results, &self.positions.after(&span), &buckets)?;
        self.observe("publish", began);
        self.positions.advance(&span);
        self.ranges_unsaved = true;
        self.note_published();
        self.watch_for_flood(&tally);
        tally.count(&self.metrics, &self.settings.versions);
        self.metrics
            .accounts_cached
            .with_label_values(&[&self.status.name])
            .set(i64::try_from(self.cache.len()).unwrap_or(i64::MAX));
        Ok(())
    }

    fn decode(&self, record: Record) -> Delivered {
        if self.positions.is_processed(&record.at.topic_partition(), record.at.offset) {
            return Delivered { record, fate: Fate::Replayed };
        }
        let fate = match self.decoder.decode(&record) {
            Ok(Decoded::Event(event)) => {
                let bucket = self.settings.buckets.of(&event.member);
                Fate::Event(event, bucket)
            }
            Ok(Decoded::Skipped) => Fate::Skipped,
            Err(rejected) => Fate::Rejected(rejected),
        };
        Delivered { record, fate }
    }

    /// Loads, decides and commits until every bucket of the batch is written. A bucket that another
    /// lane changed meanwhile, or that holds an event with a receipt, is loaded with its receipts and
    /// decided again; the others are not.
    fn settle(&mut self, batch: &[Delivered]) -> Result<Vec<BucketWork>, Left> {
        let mut settled = Vec::new();
        let mut open = work::by_bucket(batch);
        self.look_at_budgets_anew();
        while !open.is_empty() {
            let began = Instant::now();
            self.load(batch, &mut open)?;
            self.observe("load", began);

            let began = Instant::now();
            let mut purse = self.leases.purse();
            let mut lacks_records = false;
            for work in &mut open {
                work.decide(batch, &self.settings, &self.renderer, &mut purse);
                lacks_records |= work.lacks_records();
                if !lacks_records {
                    let published = self.published.get(&work.bucket()).cloned().unwrap_or_default();
                    let Self { settings, renderer, spare, .. } = self;
                    work.write_up(batch, &settings.versions, renderer, published, spare);
                }
            }
            self.observe("decide", began);
            if let Some(why) = open.iter().find_map(BucketWork::unreadable) {
                return Err(Left::Failed(LaneError::Unreadable(why.to_owned())));
            }
            if lacks_records || self.lease_what_is_short(&open)? {
                open.iter_mut().for_each(BucketWork::undo);
                continue;
            }

            let began = Instant::now();
            let refused = self.commit(open, &mut settled)?;
            self.observe("commit", began);
            self.metrics.store_conflicts.inc_by(refused.len() as u64);
            open = refused;
        }
        Ok(settled)
    }

    /// Has the store know what is published as processed, before the next batch: then only one batch can
    /// be in doubt after a crash.
    fn save_ranges(&mut self) -> Result<(), Left> {
        if self.ranges_unsaved {
            let ranges = self.positions.ranges();
            self.ask_store(|store| store.add_processed(&ranges))?;
            self.ranges_unsaved = false;
        }
        Ok(())
    }

    fn observe(&self, step: &str, began: Instant) {
        self.metrics.step_seconds.with_label_values(&[step]).observe(began.elapsed().as_secs_f64());
    }

    /// How long to wait before the next try: doubling from 50 ms to 5 s, with a jitter that keeps
    /// lanes from trying in step.
    fn backoff(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let millis = 50_u64 << self.failures.min(7).saturating_sub(1);
        let jitter =
            xxhash_rust::xxh3::xxh3_64_with_seed(self.status.name.as_bytes(), u64::from(self.failures))
                % millis;
        Duration::from_millis((millis + jitter / 2).min(5_000))
    }

    /// Asks the store until it answers, staying in the group meanwhile. A store that is away is never
    /// the fault of an event.
    fn ask_store<T>(&mut self, ask: impl Fn(&mut S) -> Result<T, StoreError>) -> Result<T, Left> {
        loop {
            match ask(&mut self.store) {
                Ok(answer) => {
                    self.status.redis_is_up(&self.metrics);
                    return Ok(answer);
                }
                Err(StoreError::Away(why)) => {
                    self.status.redis_is_down(&self.metrics, &why);
                    tracing::warn!(lane = %self.status.name, why, "the store is away; trying again");
                }
                Err(error) => return Err(Left::Failed(LaneError::Store(error))),
            }
            let wait = self.backoff();
            self.stay_in_group(wait)?;
        }
    }

    /// Waits without taking records.
    fn stay_in_group(&mut self, wait: Duration) -> Result<(), Left> {
        self.status.turned();
        if self.status.is_stopping() {
            return Err(Left::Stopped);
        }
        match self.log.keep_alive(wait) {
            Ok(None) => Ok(()),
            Ok(Some(assigned)) => Err(Left::Reassigned(assigned)),
            Err(LogError::Retriable(why)) => {
                self.log_is_away(&why);
                Ok(())
            }
            Err(error) => Err(Left::Failed(LaneError::Log(error))),
        }
    }

    fn log_is_away(&self, why: &str) {
        self.status.kafka_is_down(&self.metrics, why);
        tracing::warn!(lane = %self.status.name, why, "Kafka is away; trying again");
    }

    /// Tells the store what is processed and removes what is published, without waiting for the next
    /// batch. Should it fail, the committed offset's metadata and the next assignment do it.
    fn save_progress(&mut self) {
        if self.ranges_unsaved {
            match self.store.add_processed(&self.positions.ranges()) {
                Ok(()) => self.ranges_unsaved = false,
                Err(error) => tracing::debug!(lane = %self.status.name, %error, "progress is not saved yet"),
            }
        }
        if !self.published.is_empty() {
            let published: Vec<(Bucket, OutboxKey)> = std::mem::take(&mut self.published)
                .into_iter()
                .flat_map(|(bucket, keys)| keys.into_iter().map(move |key| (bucket, key)))
                .collect();
            if let Err(error) = self.store.clear_outbox(&published) {
                tracing::debug!(lane = %self.status.name, %error, "the outbox is not cleared yet");
                for (bucket, key) in published {
                    self.published.entry(bucket).or_default().push(key);
                }
            }
        }
    }

    /// Moves what is behind the lane's positions from unpublished to published.
    fn note_published(&mut self) {
        let Self { unpublished, published, positions, .. } = self;
        unpublished.retain(|(bucket, key)| {
            let past = positions.is_past(&key.partition, key.last);
            if past {
                published.entry(*bucket).or_default().push(key.clone());
            }
            !past
        });
    }
}

/// The lowest and highest offset of each partition in a batch.
fn span(batch: &[Delivered]) -> HashMap<TopicPartition, (i64, i64)> {
    let mut span: HashMap<TopicPartition, (i64, i64)> = HashMap::new();
    for delivered in batch {
        let offset = delivered.record.at.offset;
        let (lowest, highest) = span.entry(delivered.record.at.topic_partition()).or_insert((offset, offset));
        *lowest = offset.min(*lowest);
        *highest = offset.max(*highest);
    }
    span
}

#[cfg(test)]
mod tests;
