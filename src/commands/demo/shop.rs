//! The shop of the demo: sends its traffic from a thread of its own, no faster than the lanes work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};

use crate::commands::generate::sink::{KafkaSink, Target};
use crate::traffic::{Nature, Traffic, TrafficSettings};

/// The mock broker keeps 5 MB a partition and then forgets the oldest records, read or not
/// (`rdkafka_mock.c`). So the shop waits while so many of its records are not processed yet: even all of
/// them in one partition are less.
pub(super) const IN_FLIGHT_A_LANE: u64 = 4_000;
const MOST_IN_FLIGHT: u64 = 12_000;

/// Events happen over a quarter: days for limits to count in, and enough orders to rise by.
const START_MS: i64 = 1_767_225_600_000; // 2026-01-01T00:00:00Z
const OVER_MS: i64 = 90 * 86_400_000;

/// What the shop has sent, by what it is.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct SentCounts {
    pub(super) fresh: u64,
    pub(super) repeats: u64,
    pub(super) broken: u64,
}

impl SentCounts {
    pub(super) fn all(&self) -> u64 {
        self.fresh + self.repeats + self.broken
    }
}

/// A shop at work.
pub(super) struct Shop {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<anyhow::Result<SentCounts>>>,
}

#[derive(Default)]
struct Shared {
    processed: AtomicU64,
    closing: AtomicBool,
}

impl Shop {
    /// Begins to send so many records.
    pub(super) fn open(
        brokers: String,
        settings: TrafficSettings,
        records: u64,
        lanes: usize,
    ) -> anyhow::Result<Self> {
        let target = Target { brokers, properties: Vec::new(), topic: None, linger_ms: 5 };
        let sink = KafkaSink::open(&target)?;
        let shared = Arc::<Shared>::default();
        let held = shared.clone();
        let in_flight = (IN_FLIGHT_A_LANE * lanes as u64).min(MOST_IN_FLIGHT);
        let thread = std::thread::Builder::new()
            .name("shop".to_owned())
            .spawn(move || send(sink, settings, records, in_flight, &held))
            .context("starting the shop")?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Tells it how many records the lanes are done with.
    pub(super) fn processed(&self, records: u64) {
        self.shared.processed.store(records, Ordering::Release);
    }

    /// Whether everything is sent, or nothing more can be.
    pub(super) fn is_done(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// What it has sent.
    pub(super) fn close(mut self) -> anyhow::Result<SentCounts> {
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(sent)) => sent.context("the shop"),
            _ => Err(anyhow!("the shop panicked; this is a bug in accrual")),
        }
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Release);
    }
}

fn send(
    mut sink: KafkaSink,
    settings: TrafficSettings,
    records: u64,
    in_flight: u64,
    shared: &Shared,
) -> anyhow::Result<SentCounts> {
    let mut traffic = Traffic::new(settings);
    let mut sent = SentCounts::default();
    for number in 0..records {
        while number >= shared.processed.load(Ordering::Acquire) + in_flight {
            if shared.closing.load(Ordering::Acquire) {
                bail!("closed before all was sent");
            }
            sink.idle()?;
            std::thread::sleep(Duration::from_millis(1));
        }
        let since = i128::from(OVER_MS) * i128::from(number) / i128::from(records.max(1));
        let record = traffic.next(START_MS + i64::try_from(since).unwrap_or(OVER_MS));
        match record.nature {
            Nature::Fresh => sent.fresh += 1,
            Nature::Repeat => sent.repeats += 1,
            Nature::Broken => sent.broken += 1,
        }
        sink.send(&record)?;
    }
    sink.finish()?;
    Ok(sent)
}
