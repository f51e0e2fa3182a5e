//! What a lane lets others see of it while it runs: for /livez, /readyz, `--until-idle` and stopping.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::metrics::Metrics;

/// Kafka that has not answered for so long is said to be away.
const SILENT_AFTER: Duration = Duration::from_secs(10);

/// A lane's state, shared with the threads that watch it.
#[derive(Debug)]
pub struct LaneStatus {
    /// The lane's name in logs and metrics: its number.
    pub name: String,
    began: Instant,
    last_turn_ms: AtomicU64,
    stopping: AtomicBool,
    ended: AtomicBool,
    caught_up: AtomicBool,
    /// Partitions owned; −1 before the first assignment.
    partitions: AtomicI64,
    redis: Dependency,
    kafka: Dependency,
    /// Since when Kafka has been asked for something inside a transaction.
    asked_kafka: Mutex<Option<Instant>>,
    /// Why the lane takes no input, if it takes none.
    no_input: Mutex<Option<String>>,
    /// Why the lane has not begun; empty once it has.
    connecting: Mutex<String>,
    /// How far the lane is with restoring what the store lost, while it does.
    restoring: Mutex<Option<Restoring>>,
}

/// How many records are looked at of those that may have to be.
#[derive(Clone, Copy, Debug)]
struct Restoring {
    done: u64,
    of: u64,
}

/// Whether a dependency answers, and if not, why.
#[derive(Debug, Default)]
struct Dependency {
    down: AtomicBool,
    why: Mutex<String>,
}

impl Dependency {
    fn up(&self, name: &str, lane: &str, metrics: &Metrics) {
        if self.down.swap(false, Ordering::Relaxed) {
            tracing::info!(lane, "{name} answers again");
        }
        metrics.dependency_up.with_label_values(&[name, lane]).set(1);
    }

    fn down(&self, name: &str, lane: &str, metrics: &Metrics, why: &str) {
        if let Ok(mut held) = self.why.lock() {
            why.clone_into(&mut held);
        }
        self.down.store(true, Ordering::Relaxed);
        metrics.dependency_up.with_label_values(&[name, lane]).set(0);
    }

    fn why(&self) -> Option<String> {
        let down = self.down.load(Ordering::Relaxed);
        down.then(|| self.why.lock().map(|why| why.clone()).unwrap_or_default())
    }
}

impl LaneStatus {
    /// The state of a lane that has not begun.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            began: Instant::now(),
            last_turn_ms: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            caught_up: AtomicBool::new(false),
            partitions: AtomicI64::new(-1),
            redis: Dependency::default(),
            kafka: Dependency::default(),
            asked_kafka: Mutex::default(),
            no_input: Mutex::default(),
            connecting: Mutex::default(),
            restoring: Mutex::default(),
        }
    }

    /// Tells the lane to finish or leave its batch and end.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Whether the lane is told to end.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// The lane's loop has ended.
    pub fn ended(&self) {
        self.ended.store(true, Ordering::Release);
    }

    /// Whether the lane's loop has ended.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// The lane turns.
    pub fn turned(&self) {
        self.turned_at(Instant::now());
    }

    pub(crate) fn turned_at(&self, now: Instant) {
        let since = now.saturating_duration_since(self.began);
        let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        self.last_turn_ms.store(millis, Ordering::Relaxed);
    }

    /// Says for how long the lane has not turned at this moment, if it is as long as `limit`, and in what it stands still, where
    /// that is known.
    pub fn hangs(&self, limit: Duration, now: Instant) -> Option<String> {
        let last = Duration::from_millis(self.last_turn_ms.load(Ordering::Relaxed));
        let since = now.saturating_duration_since(self.began).saturating_sub(last);
        (since >= limit).then(|| {
            let why = self.trouble().map(|why| format!(" ({why})")).unwrap_or_default();
            format!("lane {} has not turned for {} s{why}", self.name, since.as_secs())
        })
    }

    pub(super) fn set_caught_up(&self, caught_up: bool) {
        self.caught_up.store(caught_up, Ordering::Release);
    }

    /// Whether the lane has processed and published all there is in its partitions.
    pub fn is_caught_up(&self) -> bool {
        self.caught_up.load(Ordering::Acquire)
    }

    pub(crate) fn assigned(&self, partitions: usize) {
        self.partitions.store(i64::try_from(partitions).unwrap_or(i64::MAX), Ordering::Release);
    }

    /// How many partitions the lane owns; nothing before its first assignment.
    pub fn partitions(&self) -> Option<i64> {
        Some(self.partitions.load(Ordering::Acquire)).filter(|partitions| *partitions >= 0)
    }

    /// Why the lane cannot work now, if it cannot.
    pub fn trouble(&self) -> Option<String> {
        let trouble =
            |name: &str, dependency: &Dependency| dependency.why().map(|why| format!("{name}: {why}"));
        let connecting = || {
            let waits = self.partitions().is_none();
            let why = self.connecting.lock().map(|why| why.clone()).unwrap_or_default();
            (waits && !why.is_empty()).then_some(why)
        };
        trouble("redis", &self.redis)
            .or_else(|| trouble("kafka", &self.kafka))
            .or_else(|| self.silence_of_kafka())
            .or_else(|| self.restoring())
            .or_else(connecting)
            .or_else(|| self.no_input())
    }

    /// What the store lacks would be missing in every answer about an account, too.
    fn restoring(&self) -> Option<String> {
        let Restoring { done, of } = (*self.restoring.lock().ok()?)?;
        Some(format!(
            "redis: it lacks what was published; restoring it, {done} of up to {of} records are looked at"
        ))
    }

    /// Restoring what the store lost begins, with so many records that may have to be looked at.
    pub(crate) fn restores(&self, of: u64) {
        if let Ok(mut restoring) = self.restoring.lock() {
            *restoring = Some(Restoring { done: 0, of });
        }
    }

    /// So many more are looked at.
    pub(crate) fn has_restored(&self, more: u64) {
        if let Ok(mut restoring) = self.restoring.lock()
            && let Some(restoring) = &mut *restoring
        {
            restoring.done += more;
        }
    }

    /// The store is whole, or the lane gives up.
    pub(crate) fn ends_restoring(&self) {
        if let Ok(mut restoring) = self.restoring.lock() {
            *restoring = None;
        }
    }

    /// A call inside a transaction may take longer than what is told of Kafka otherwise: the lane cannot say so itself meanwhile.
    fn silence_of_kafka(&self) -> Option<String> {
        let since = (*self.asked_kafka.lock().ok()?)?.elapsed();
        (since >= SILENT_AFTER).then(|| format!("kafka: no answer for {} s", since.as_secs()))
    }

    pub(super) fn asks_kafka(&self) {
        if let Ok(mut asked) = self.asked_kafka.lock() {
            *asked = Some(Instant::now());
        }
    }

    pub(super) fn kafka_has_answered(&self) {
        if let Ok(mut asked) = self.asked_kafka.lock() {
            *asked = None;
        }
    }

    /// Why the lane takes no input, although it could, if it takes none.
    pub fn no_input(&self) -> Option<String> {
        self.no_input.lock().ok()?.clone()
    }

    pub(super) fn stop_input(&self, metrics: &Metrics, why: String) {
        if let Ok(mut held) = self.no_input.lock() {
            *held = Some(why);
        }
        metrics.input_stopped.with_label_values(&[&self.name]).set(1);
    }

    pub(super) fn take_input(&self, metrics: &Metrics) {
        if let Ok(mut held) = self.no_input.lock() {
            *held = None;
        }
        metrics.input_stopped.with_label_values(&[&self.name]).set(0);
    }

    /// The lane has not begun because a connection fails.
    pub fn cannot_connect(&self, why: &str) {
        if let Ok(mut held) = self.connecting.lock() {
            why.clone_into(&mut held);
        }
    }

    pub(super) fn redis_is_up(&self, metrics: &Metrics) {
        self.redis.up("redis", &self.name, metrics);
    }

    pub(super) fn redis_is_down(&self, metrics: &Metrics, why: &str) {
        self.redis.down("redis", &self.name, metrics, why);
    }

    pub(crate) fn kafka_is_up(&self, metrics: &Metrics) {
        self.kafka.up("kafka", &self.name, metrics);
    }

    pub(crate) fn kafka_is_down(&self, metrics: &Metrics, why: &str) {
        self.kafka.down("kafka", &self.name, metrics, why);
    }
}
