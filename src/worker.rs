//! A worker: its lanes, each on a thread of its own, started and stopped together.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::lane::status::LaneStatus;
use crate::lane::{Lane, LaneError, LaneSettings};
use crate::log::{Archive, Log, LogError};
use crate::metrics::Metrics;
use crate::store::{Store, StoreError};

/// Opens a lane's connections. Called on the lane's own thread, again while it fails with something
/// that may pass.
pub trait Connect: Send + Sync + 'static {
    /// The log of a lane.
    type Log: Log;
    /// The store of a lane.
    type Store: Store;

    /// The lane's member of the group and its transactional producer.
    ///
    /// # Errors
    /// Where the log cannot be reached or refuses.
    fn log(&self, lane: usize) -> Result<Self::Log, LogError>;

    /// The lane's connection to the store.
    ///
    /// # Errors
    /// Where the store cannot be reached or refuses.
    fn store(&self, lane: usize) -> Result<Self::Store, StoreError>;

    /// What was published, for what the store lost.
    ///
    /// # Errors
    /// Where there is no such lane.
    fn archive(&self, lane: usize) -> Result<Box<dyn Archive>, LogError>;
}

/// Running lanes.
#[derive(Debug)]
pub struct Worker {
    lanes: Vec<Running>,
}

#[derive(Debug)]
struct Running {
    status: Arc<LaneStatus>,
    thread: Option<JoinHandle<Result<(), LaneError>>>,
}

impl Worker {
    /// Starts so many lanes.
    pub fn start<C: Connect>(lanes: usize, settings: &LaneSettings, metrics: &Metrics, connect: C) -> Self {
        let connect = Arc::new(connect);
        let lanes = (0..lanes).map(|lane| {
            let status = Arc::new(LaneStatus::new(lane.to_string()));
            let (held, settings, metrics, connect) =
                (status.clone(), settings.clone(), metrics.clone(), connect.clone());
            let thread = std::thread::Builder::new()
                .name(format!("lane-{lane}"))
                .spawn(move || run(lane, settings, metrics, held, connect.as_ref()));
            // A thread that cannot be made is a lane that ended at once; `join` says so.
            Running { status, thread: thread.ok() }
        });
        Self { lanes: lanes.collect() }
    }

    /// What the lanes let others see.
    pub fn statuses(&self) -> Vec<Arc<LaneStatus>> {
        self.lanes.iter().map(|lane| lane.status.clone()).collect()
    }

    /// Whether a lane has ended, which without [`Worker::stop`] means that it cannot go on.
    pub fn has_ended(&self) -> bool {
        self.lanes.iter().any(|lane| lane.thread.as_ref().is_none_or(JoinHandle::is_finished))
    }

    /// Whether every lane has processed and published all there is in its partitions.
    pub fn is_idle(&self) -> bool {
        self.lanes.iter().all(|lane| lane.status.partitions().is_some() && lane.status.is_caught_up())
    }

    /// Tells the lanes to finish or leave their batches, and waits for them.
    ///
    /// # Errors
    /// Why lanes ended by themselves, or which did not end within the grace time. What they had not
    /// committed is delivered again to whoever takes over.
    pub fn stop(self, grace: Duration) -> Result<(), StopError> {
        let deadline = Instant::now() + grace;
        for lane in &self.lanes {
            lane.status.stop();
        }
        let mut errors = Vec::new();
        for lane in self.lanes {
            let name = lane.status.name.clone();
            let Some(thread) = lane.thread else {
                errors.push(format!("lane {name}: its thread could not be started"));
                continue;
            };
            while !thread.is_finished() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
            if !thread.is_finished() {
                errors.push(format!("lane {name} did not end within {} s", grace.as_secs()));
                continue;
            }
            match thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => errors.push(format!("lane {name}: {error}")),
                Err(_) => errors.push(format!("lane {name} panicked; this is a bug in accrual")),
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(StopError(errors)) }
    }
}

/// Notices lanes that will not turn again by themselves, for whoever ends the worker then: what restarts a worker that
/// has ended (compose, systemd) does not all ask `/livez`. Nothing is lost by it.
#[derive(Debug)]
pub struct Watchdog {
    limit: Duration,
    looked: Instant,
    /// Since when it has looked again and again.
    awake_since: Instant,
}

impl Watchdog {
    /// A lane may stand still for so long.
    pub fn new(limit: Duration, now: Instant) -> Self {
        Self { limit, looked: now, awake_since: now }
    }

    /// Says which lane hangs, if one does. To be asked all the time: where nobody asked for a while, the process as a whole
    /// stood still (SIGSTOP, a machine that was frozen), and the lanes have their time anew.
    pub fn look(&mut self, lanes: &[Arc<LaneStatus>], now: Instant) -> Option<String> {
        if now.saturating_duration_since(self.looked) > STOOD_STILL {
            self.awake_since = now;
        }
        self.looked = now;
        if now.saturating_duration_since(self.awake_since) < self.limit {
            return None;
        }
        lanes.iter().find_map(|lane| lane.hangs(self.limit, now))
    }
}

/// Who looks every few milliseconds and did not for so long was not running.
const STOOD_STILL: Duration = Duration::from_secs(5);

/// Lanes that did not end well.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct StopError(pub Vec<String>);

fn run<C: Connect>(
    number: usize,
    settings: LaneSettings,
    metrics: Metrics,
    status: Arc<LaneStatus>,
    connect: &C,
) -> Result<(), LaneError> {
    let result = (|| {
        let Some(store) = patiently(&status, || connect.store(number).map_err(LaneError::Store))? else {
            return Ok(());
        };
        let Some(log) = patiently(&status, || connect.log(number).map_err(LaneError::Log))? else {
            return Ok(());
        };
        let archive = connect.archive(number).map_err(LaneError::Log)?;
        Lane::new(log, store, archive, settings, metrics, status.clone()).run()
    })();
    status.ended();
    if let Err(error) = &result {
        tracing::error!(lane = number, %error, "the lane ends");
    }
    result
}

/// Tries until it works, until it never will, or until the lane is told to stop (nothing).
fn patiently<T>(
    status: &LaneStatus,
    connect: impl Fn() -> Result<T, LaneError>,
) -> Result<Option<T>, LaneError> {
    while !status.is_stopping() {
        status.turned();
        match connect() {
            Ok(connected) => return Ok(Some(connected)),
            Err(LaneError::Log(LogError::Retriable(why)) | LaneError::Store(StoreError::Away(why))) => {
                tracing::warn!(lane = %status.name, why, "cannot connect yet; trying again");
                status.cannot_connect(&why);
                std::thread::sleep(Duration::from_secs(1));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_mins(5);

    /// Looks once a second, from `from` seconds after `began` on; says when it first told of a lane that hangs, and what.
    fn told(
        watchdog: &mut Watchdog,
        lanes: &[Arc<LaneStatus>],
        began: Instant,
        mut seconds: std::ops::Range<u64>,
    ) -> Option<(u64, String)> {
        seconds.find_map(|second| {
            let told = watchdog.look(lanes, began + Duration::from_secs(second))?;
            Some((second, told))
        })
    }

    #[test]
    fn a_lane_that_does_not_turn_any_more_is_told_with_what_it_waits_for() {
        let began = Instant::now();
        let lanes = [Arc::new(LaneStatus::new("0")), Arc::new(LaneStatus::new("1"))];
        let mut watchdog = Watchdog::new(LIMIT, began);
        lanes[0].cannot_connect("kafka: nobody answers");
        let (second, why) = told(&mut watchdog, &lanes, began, 0..1_000).unwrap();
        // The lanes are a moment younger than `began`.
        assert!((300..=301).contains(&second), "{second}");
        assert!(why.starts_with("lane 0 has not turned for 30"), "{why}");
        assert!(why.ends_with(" s (kafka: nobody answers)"), "{why}");
    }

    #[test]
    fn a_lane_that_turns_is_not_told_however_long_it_runs() {
        let began = Instant::now();
        let lanes = [Arc::new(LaneStatus::new("0"))];
        let mut watchdog = Watchdog::new(LIMIT, began);
        for minute in 0..60 {
            lanes[0].turned_at(began + Duration::from_secs(60 * minute));
            assert_eq!(told(&mut watchdog, &lanes, began, 60 * minute..60 * (minute + 1)), None);
        }
    }

    #[test]
    fn a_process_that_was_frozen_as_a_whole_gives_its_lanes_their_time_anew() {
        let began = Instant::now();
        let lanes = [Arc::new(LaneStatus::new("0"))];
        let mut watchdog = Watchdog::new(LIMIT, began);
        assert_eq!(told(&mut watchdog, &lanes, began, 0..10), None);
        let (second, _) = told(&mut watchdog, &lanes, began, 1_000..2_000).unwrap();
        assert_eq!(second, 1_300);
    }
}
