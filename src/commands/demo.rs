//! `accrual demo`: the whole job with nothing else installed. A broker inside this process, accounts in
//! memory, a shop's traffic, and the lanes that run in production.
//!
//! It shows and does not prove: the broker is librdkafka's mock cluster, which keeps no transactional
//! offsets and aborts nothing. `tests/` proves, on a real broker.

mod report;
mod shop;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use self::report::Report;
use self::shop::Shop;
use super::progress::Progress;
use super::run::{Server, StopSignal, stop_signal};
use super::setup::{CLOCK_EVERY, Connections, Stores, retention};
use super::summary::{Summary, processed};
use crate::config::Http;
use crate::explain::Explainer;
use crate::http::HttpState;
use crate::lane::LaneSettings;
use crate::lane::budgets::LeaseTimes;
use crate::lane::flood::FloodLimits;
use crate::log::kafka::{Credentials, DEFAULT_MAX_POLL_BYTES, KafkaArchive, KafkaSettings, MockBroker};
use crate::metrics::Metrics;
use crate::programme::current::Current;
use crate::programme::{Programme, Versions};
use crate::store::StoreSettings;
use crate::store::memory::MemoryStore;
use crate::traffic::{ShopTopic, TrafficSettings};
use crate::types::{Buckets, Outputs, TopicName};
use crate::worker::Worker;

/// What `accrual demo` is told.
#[derive(Clone, Debug, clap::Args)]
pub struct DemoArgs {
    /// How many records the shop sends, repeats and broken ones among them.
    #[arg(long, short = 'n', default_value_t = 200_000)]
    events: u64,
    /// How many members the shop has.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    members: u64,
    /// How many lanes work; without it, one for each core.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=64))]
    lanes: Option<u16>,
    /// Another traffic for another number.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Stays up afterwards, with /metrics, the accounts and the broker to look at.
    #[arg(long)]
    keep: bool,
    /// Where --keep serves HTTP.
    #[arg(long, default_value = "127.0.0.1:9464", requires = "keep")]
    listen: SocketAddr,
}

/// The programme that is shown.
const PROGRAMME: &str = include_str!("../../examples/programme.yaml");

const PARTITIONS: i32 = 4;
const BUCKETS: Buckets = Buckets(128);
const WINDOW: Duration = Duration::from_hours(30 * 24);

/// Smaller than in production, because the mock broker keeps little; see [`shop::IN_FLIGHT_A_LANE`].
const BATCH: usize = 2_000;

/// A lane that does nothing for so long does not begin or end any more.
const PATIENCE: Duration = Duration::from_mins(1);

/// How long all must have been quiet before it is over.
const QUIET: Duration = Duration::from_millis(300);

/// Runs the demo. Fails where what was counted is not what was sent.
///
/// # Errors
/// Where it cannot start, or a lane ends.
pub fn demo(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let lanes = args.lanes.map_or_else(cores, usize::from);
    let (demo, explainer) = Demo::start(lanes)?;
    let kept = args.keep.then(|| Kept::start(&demo, explainer, args.listen)).transpose()?;
    let is_told_to_stop = || kept.as_ref().is_some_and(|kept| kept.signal.is_raised());
    let result = demo.run(args, &is_told_to_stop);
    if let (Ok(Some(report)), Some(kept)) = (&result, &kept) {
        report.invite(&kept.server.address, &demo.broker.bootstrap());
        while !is_told_to_stop() && !demo.worker.has_ended() {
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    let stopped = demo.worker.stop(Duration::from_secs(10));
    if let Some(mut kept) = kept {
        kept.server.stop();
    }
    let report = result?;
    stopped.context("the lanes")?;
    let is_right = report.is_none_or(|report| report.is_right());
    Ok(if is_right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from).min(8)
}

fn kafka_settings(broker: &MockBroker, client: &str) -> KafkaSettings {
    KafkaSettings {
        properties: BTreeMap::from([("bootstrap.servers".to_owned(), broker.bootstrap())]),
        credentials: Credentials::default(),
        topics: ShopTopic::ALL
            .map(ShopTopic::name)
            .into_iter()
            .chain(["accrual.internal"])
            .map(str::to_owned)
            .collect(),
        group: "accrual-demo".to_owned(),
        transactional_id: format!("accrual-demo-{client}"),
        client_id: format!("accrual-demo-{client}"),
        max_poll_bytes: DEFAULT_MAX_POLL_BYTES,
    }
}

/// A worker with all that it needs.
struct Demo {
    broker: MockBroker,
    store: MemoryStore,
    versions: Arc<Versions>,
    metrics: Metrics,
    worker: Worker,
    lanes: usize,
}

impl Demo {
    fn start(lanes: usize) -> anyhow::Result<(Self, Explainer)> {
        let programme = Programme::parse("examples/programme.yaml", PROGRAMME)?;
        let versions = Arc::new(Versions::only(programme));
        let metrics = Metrics::new(&versions).context("declaring the metrics")?;
        let outputs = Outputs {
            awards: "accrual.awards".into(),
            tier_changes: "accrual.tier-changes".into(),
            accounts: "accrual.accounts".into(),
            dead_letters: "accrual.dead-letters".into(),
            internal: "accrual.internal".into(),
        };
        let inputs = ShopTopic::ALL.map(ShopTopic::name);
        let topics: Vec<(&str, i32)> = inputs
            .into_iter()
            .chain(
                [
                    &outputs.awards,
                    &outputs.tier_changes,
                    &outputs.accounts,
                    &outputs.dead_letters,
                    &outputs.internal,
                ]
                .map(TopicName::as_str),
            )
            .map(|topic| (topic, PARTITIONS))
            .collect();
        let broker = MockBroker::start(&topics)?;
        let store = MemoryStore::on_running_clock(StoreSettings {
            buckets: BUCKETS.0,
            dedupe_window: WINDOW,
            refunds_window: WINDOW,
        });
        let settings = LaneSettings {
            versions: versions.clone(),
            current: Arc::new(Current::new(versions.clone())),
            outputs,
            buckets: BUCKETS,
            retention: retention(&versions, 10, WINDOW),
            dedupe_window: WINDOW,
            max_events: BATCH,
            max_wait: Duration::from_millis(20),
            max_record_bytes: 1 << 20,
            cached_accounts: 100_000,
            flood: FloodLimits::NONE,
            leases: LeaseTimes::default(),
            clock_every: CLOCK_EVERY,
            whole_stretch: crate::repair::WHOLE_STRETCH,
            sleep: std::thread::sleep,
        };
        let archive = KafkaArchive::new(kafka_settings(&broker, "explain"));
        let explainer = Explainer::new(settings.clone(), Box::new(store.clone()), Box::new(archive));
        let kafka = (0..lanes).map(|lane| kafka_settings(&broker, &lane.to_string())).collect();
        let connections = Connections { kafka, stores: Stores::Memory(store.clone()) };
        let worker = Worker::start(lanes, &settings, &metrics, connections);
        Ok((Self { broker, store, versions, metrics, worker, lanes }, explainer))
    }

    /// Works the traffic off and shows what came of it. Nothing where it was told to stop.
    fn run(&self, args: &DemoArgs, is_told_to_stop: &dyn Fn() -> bool) -> anyhow::Result<Option<Report>> {
        // The mock cluster lets a new group wait for three seconds, and does not let us say otherwise.
        let waiting = Progress::waiting("the lanes join their consumer group");
        let joined = self.await_assignment(is_told_to_stop);
        waiting.finish();
        if !joined? {
            return Ok(None);
        }
        let traffic = TrafficSettings {
            seed: args.seed,
            members: args.members,
            currency: self.versions.first().currency.clone(),
            ..TrafficSettings::default()
        };
        let began = Instant::now();
        let shop = Shop::open(self.broker.bootstrap(), traffic, args.events, self.lanes)?;
        let progress = Progress::new(args.events);
        let (mut done, mut moved) = (0, Instant::now());
        loop {
            std::thread::sleep(Duration::from_millis(5));
            let now = processed(&self.metrics);
            if now != done {
                (done, moved) = (now, Instant::now());
                progress.set(done);
                shop.processed(done);
            }
            self.check_lanes()?;
            if is_told_to_stop() {
                progress.finish();
                return Ok(None);
            }
            // Idle lanes alone say little: what librdkafka knows of a partition's end may be older than
            // the shop's first record.
            let is_over = shop.is_done() && done >= args.events && self.worker.is_idle();
            if is_over && moved.elapsed() >= QUIET {
                break;
            }
            if moved.elapsed() >= PATIENCE {
                progress.finish();
                bail!(
                    "{done} of {} records are done, and then nothing happened for {PATIENCE:?}",
                    args.events
                );
            }
        }
        progress.finish();
        let sent = shop.close()?;
        let summary = Summary::of(&self.metrics, self.versions.first());
        // When the last record was counted, not when it was sure that it was the last.
        let took = moved.duration_since(began);
        let report = Report::new(sent, summary, &self.store, self.versions.first(), self.lanes, took)?;
        println!("{report}");
        Ok(Some(report))
    }

    /// Waits until the lanes own all partitions, so that no rebalance falls into what is measured.
    fn await_assignment(&self, is_told_to_stop: &dyn Fn() -> bool) -> anyhow::Result<bool> {
        // The internal topic is read, too.
        let all: i64 =
            ShopTopic::ALL.iter().map(|_| i64::from(PARTITIONS)).sum::<i64>() + i64::from(PARTITIONS);
        let began = Instant::now();
        loop {
            let owned: Option<Vec<i64>> =
                self.worker.statuses().iter().map(|status| status.partitions()).collect();
            if owned.is_some_and(|owned| owned.iter().sum::<i64>() == all) {
                return Ok(true);
            }
            self.check_lanes()?;
            if is_told_to_stop() {
                return Ok(false);
            }
            if began.elapsed() > PATIENCE {
                let why =
                    self.worker.statuses().iter().find_map(|status| status.trouble()).unwrap_or_default();
                bail!("the lanes did not begin within {PATIENCE:?} {why}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn check_lanes(&self) -> anyhow::Result<()> {
        // Why it ended is said by `Worker::stop`, which `demo` calls last, and in the log.
        if self.worker.has_ended() {
            bail!("a lane ended by itself");
        }
        Ok(())
    }
}

/// What `--keep` adds: HTTP, and ^C as the way out.
struct Kept {
    server: Server,
    signal: StopSignal,
}

impl Kept {
    fn start(demo: &Demo, explainer: Explainer, listen: SocketAddr) -> anyhow::Result<Self> {
        let store = Box::new(demo.store.clone());
        let state = HttpState::new(
            demo.metrics.clone(),
            Arc::new(Current::new(demo.versions.clone())),
            BUCKETS,
            store,
            &Http::open(listen),
        );
        state.set_lanes(demo.worker.statuses());
        state.explain_with(explainer);
        let server = Server::start(listen, state).context("another port can be named with --listen")?;
        let signal = stop_signal(&server.runtime)?;
        Ok(Self { server, signal })
    }
}
