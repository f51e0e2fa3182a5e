//! What librdkafka tells through callbacks. A callback runs inside a poll: it notes what happened and
//! returns. It never blocks, never calls the lane, and cannot panic.

use std::error::Error;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::ProducerContext;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientConfig, ClientContext};

use super::oauth::OauthSource;
use super::stats::Snapshot;

/// What the group did with this member.
#[derive(Debug)]
pub(super) enum Rebalanced {
    /// It was given these partitions, and no others. They are not read until they are assigned.
    Assigned(Vec<(String, i32)>),
    /// Everything was taken away; it is no longer read.
    Revoked,
}

/// An error that librdkafka reported beside any call.
#[derive(Clone, Debug)]
pub(super) struct Reported {
    pub code: RDKafkaErrorCode,
    pub reason: String,
}

/// Notes of the consumer's callbacks.
#[derive(Default)]
pub(super) struct ConsumerNotes {
    rebalances: Mutex<Vec<Rebalanced>>,
    rebalanced: AtomicBool,
    closing: AtomicBool,
    snapshot: Mutex<Option<Snapshot>>,
    snapshots: AtomicU64,
    health: Health,
    token: OauthSource,
}

/// A consumer. One that logs in with a token has it at once: no call that waits for a broker serves the callback
/// that brings it.
pub(super) fn consumer(
    config: &ClientConfig,
    token: &OauthSource,
) -> KafkaResult<BaseConsumer<ConsumerNotes>> {
    let made: BaseConsumer<ConsumerNotes> = config.create_with_context(ConsumerNotes::new(token))?;
    if token.is_given()
        && let Some(Err(error)) = made.poll(Duration::ZERO)
    {
        tracing::debug!(%error, "a new consumer begins with an error");
    }
    Ok(made)
}

impl ConsumerNotes {
    pub(super) fn new(token: &OauthSource) -> Self {
        Self { token: token.clone(), ..Self::default() }
    }

    /// Whether [`Self::take_rebalances`] has something.
    pub(super) fn rebalanced(&self) -> bool {
        self.rebalanced.load(Ordering::Acquire)
    }

    /// What the group did since the last call, in order.
    pub(super) fn take_rebalances(&self) -> Vec<Rebalanced> {
        self.rebalanced.store(false, Ordering::Release);
        std::mem::take(&mut *lock(&self.rebalances))
    }

    /// Counts the statistics received, so that a new one is told cheaply.
    pub(super) fn snapshots(&self) -> u64 {
        self.snapshots.load(Ordering::Acquire)
    }

    /// The newest statistics, once.
    pub(super) fn take_snapshot(&self) -> Option<Snapshot> {
        lock(&self.snapshot).take()
    }

    /// From now on an assignment is declined, so that closing ends.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    pub(super) fn health(&self) -> &Health {
        &self.health
    }

    fn note(&self, what: Rebalanced) {
        lock(&self.rebalances).push(what);
        self.rebalanced.store(true, Ordering::Release);
    }
}

impl ClientContext for ConsumerNotes {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.token.token()
    }

    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        self.health.log("consumer", level, fac, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // Whoever asks for a partition's end is told of it by the poll.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::PartitionEOF) {
            self.health.report("consumer", &error, reason);
        }
    }

    fn stats_raw(&self, json: &[u8]) {
        match Snapshot::parse(json) {
            Ok(snapshot) => {
                if snapshot.broker_up {
                    self.health.set_connected(true);
                }
                *lock(&self.snapshot) = Some(snapshot);
                self.snapshots.fetch_add(1, Ordering::Release);
            }
            Err(error) => tracing::warn!(%error, "librdkafka's statistics are not understood"),
        }
    }
}

impl ConsumerContext for ConsumerNotes {
    /// Takes librdkafka's own place: an assignment is only noted, because its committed offsets have
    /// to be asked for first, and asking blocks. Heartbeats go on meanwhile.
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        what: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        if what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS
            && !self.closing.load(Ordering::Acquire)
        {
            let list = partitions.elements();
            self.note(Rebalanced::Assigned(
                list.iter().map(|p| (p.topic().to_owned(), p.partition())).collect(),
            ));
            return;
        }
        // Revoked, lost, or given while closing: stop reading. This hands the answer to librdkafka's
        // own thread and waits for nobody else.
        if let Err(error) = consumer.unassign() {
            tracing::warn!(%error, "a revoked assignment could not be given up");
        }
        self.note(Rebalanced::Revoked);
    }
}

/// Notes of the producer's callbacks.
#[derive(Default)]
pub(super) struct ProducerNotes {
    failed: Mutex<Option<FailedDelivery>>,
    any_failed: AtomicBool,
    health: Health,
    token: OauthSource,
}

/// The first record of a transaction that did not arrive.
#[derive(Clone, Debug)]
pub(super) struct FailedDelivery {
    pub code: Option<RDKafkaErrorCode>,
    pub what: String,
}

impl ProducerNotes {
    pub(super) fn new(token: &OauthSource) -> Self {
        Self { token: token.clone(), ..Self::default() }
    }

    /// Whether a record of this transaction did not arrive, and why the first did not.
    pub(super) fn failed(&self) -> Option<FailedDelivery> {
        if self.any_failed.load(Ordering::Acquire) { lock(&self.failed).clone() } else { None }
    }

    /// Forgets the last transaction's failures.
    pub(super) fn begin(&self) {
        self.any_failed.store(false, Ordering::Release);
        *lock(&self.failed) = None;
    }

    pub(super) fn health(&self) -> &Health {
        &self.health
    }
}

impl ClientContext for ProducerNotes {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.token.token()
    }

    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        self.health.log("producer", level, fac, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.health.report("producer", &error, reason);
    }
}

impl ProducerContext for ProducerNotes {
    type DeliveryOpaque = ();

    /// Called for failures only (`delivery.report.only.error`).
    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let Err((error, record)) = result else { return };
        let mut failed = lock(&self.failed);
        if failed.is_none() {
            *failed = Some(FailedDelivery {
                code: error.rdkafka_error_code(),
                what: format!("a record for topic {} was not accepted: {error}", record.topic()),
            });
            self.any_failed.store(true, Ordering::Release);
        }
    }
}

/// Whether a client reaches Kafka, what it said last, and a bound on how often it says so.
pub(super) struct Health {
    connected: AtomicBool,
    ever_connected: AtomicBool,
    last: Mutex<Option<Reported>>,
    said: Mutex<Option<(Instant, u32)>>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            connected: AtomicBool::new(false),
            ever_connected: AtomicBool::new(false),
            last: Mutex::new(None),
            said: Mutex::new(None),
        }
    }
}

/// Errors come once a second and broker while Kafka is away; a line in this time is enough.
const SAY_AT_MOST_EVERY: Duration = Duration::from_secs(10);

impl Health {
    /// Whether a broker was reachable when last heard of.
    pub(super) fn connected(&self) -> bool {
        self.connected.load(Ordering::Acquire)
    }

    /// Whether a broker was ever reached: a refused password is the operator's mistake before, and
    /// a broker's trouble after.
    pub(super) fn ever_connected(&self) -> bool {
        self.ever_connected.load(Ordering::Acquire)
    }

    /// Another client with the same settings was let in before.
    pub(super) fn was_let_in_before(&self) {
        self.ever_connected.store(true, Ordering::Release);
    }

    pub(super) fn set_connected(&self, connected: bool) {
        self.connected.store(connected, Ordering::Release);
        if connected {
            self.ever_connected.store(true, Ordering::Release);
        }
    }

    /// What was reported last, whatever call it belongs to.
    pub(super) fn last(&self) -> Option<Reported> {
        lock(&self.last).clone()
    }

    pub(super) fn report(&self, client: &str, error: &KafkaError, reason: &str) {
        let Some(code) = error.rdkafka_error_code() else {
            return;
        };
        if code == RDKafkaErrorCode::AllBrokersDown {
            self.connected.store(false, Ordering::Release);
        }
        if code != RDKafkaErrorCode::AllBrokersDown || lock(&self.last).is_none() {
            *lock(&self.last) = Some(Reported { code, reason: reason.to_owned() });
        }
        if let Some(unsaid) = self.may_say() {
            tracing::warn!(client, ?code, reason, unsaid, "kafka reports an error");
        }
    }

    /// How many errors went unsaid since the last line, if it is time for another.
    fn may_say(&self) -> Option<u32> {
        let mut said = lock(&self.said);
        let now = Instant::now();
        match said.as_mut() {
            Some((at, unsaid)) if now.duration_since(*at) < SAY_AT_MOST_EVERY => {
                *unsaid = unsaid.saturating_add(1);
                None
            }
            Some((_, unsaid)) => {
                let unsaid = *unsaid;
                *said = Some((now, 0));
                Some(unsaid)
            }
            None => {
                *said = Some((now, 0));
                Some(0)
            }
        }
    }

    pub(super) fn log(&self, client: &str, level: RDKafkaLogLevel, fac: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error
            | RDKafkaLogLevel::Warning => {
                if let Some(unsaid) = self.may_say() {
                    tracing::warn!(client, fac, unsaid, "librdkafka: {message}");
                }
            }
            _ => tracing::debug!(client, fac, "librdkafka: {message}"),
        }
    }
}

/// A note is one value: whoever panicked while holding it left it whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
