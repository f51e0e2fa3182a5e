//! `accrual run`: the worker, until it is told to stop or, with `--until-idle`, until all is worked off.

use std::fs::File;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use jiff::Timestamp;

use super::credentials::Watch;
use super::reload::Reload;
use super::setup::{Connections, SettingsArgs, Setup, Stores, log_warnings};
use crate::config::Config;
use crate::http::{self, HttpState};
use crate::log::LogError;
use crate::log::kafka::{KafkaSender, KafkaSettings, TopicProblems, ensure_topics};
use crate::metrics::Metrics;
use crate::store::StoreError;
use crate::worker::{Watchdog, Worker};

/// What `accrual run` is told.
#[derive(Clone, Debug, clap::Args)]
pub struct RunArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Work off what is there, publish it and exit: for backfills, tests and benchmarks.
    #[arg(long)]
    until_idle: bool,
}

/// How long everything must have been worked off before `--until-idle` believes it: longer than
/// librdkafka takes to notice records that were just published.
const IDLE_FOR: Duration = Duration::from_millis(1_500);

/// A lane that has not turned for so long hangs for good: `/livez` has said so for minutes, and nobody has restarted the worker.
const HANGS_FOR_GOOD_AFTER: Duration = Duration::from_mins(5);

/// Runs the worker.
///
/// # Errors
/// Where it cannot start, or ends without being told to.
pub fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let Some(setup) = Setup::load_or_say(&args.settings, Timestamp::now()) else {
        return Ok(ExitCode::from(2));
    };
    let Config { lanes, http, shutdown, .. } = &setup.config;
    let metrics = Metrics::new(&setup.versions).context("declaring the metrics")?;
    let instance = Instance::take(&setup)?;
    let kafka: Vec<KafkaSettings> =
        (0..*lanes).map(|lane| setup.kafka_settings(&instance.name, lane)).collect();
    let stores = setup.stores();
    let state =
        HttpState::new(metrics.clone(), setup.current.clone(), setup.config.buckets, stores.open()?, http);
    state.explain_with(setup.explainer(&stores)?);
    if let Some(redemptions) = &http.redemptions {
        let sender = KafkaSender::new(&setup.kafka_settings(&format!("{}-http", instance.name), 0))?;
        state.redeem_with(Box::new(sender), redemptions, setup.config.limits.max_record_bytes);
    }
    let mut server = Server::start(http.listen, state.clone())?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        programme = %setup.versions.first().name,
        programme_versions = %setup.versions,
        lanes,
        instance = %instance.name,
        store = %setup.config.store,
        http = %server.address,
        "accrual starts"
    );
    log_warnings(setup.warnings.as_ref());
    let signal = stop_signal(&server.runtime)?;
    let mut reload =
        Reload::watch(&setup.config.programmes, setup.current.clone(), metrics.clone(), &server.runtime)?;
    if !prepare(&setup, kafka.first(), &stores, &signal, &state)? {
        server.stop();
        return Ok(ExitCode::SUCCESS);
    }
    let mut credentials = Watch::new(&setup, &instance.name, metrics.clone());
    // It may have taken long until Kafka and the store were there.
    reload.take_up();
    let connections = Connections { kafka, stores };
    let worker = Worker::start(*lanes, &setup.lane_settings(), &metrics, connections);
    let statuses = worker.statuses();
    state.set_lanes(statuses.clone());
    let began = Instant::now();
    let mut idle_since: Option<Instant> = None;
    let mut no_input = None;
    let mut watchdog = Watchdog::new(HANGS_FOR_GOOD_AFTER, began);
    let mut hangs = None;
    let why = loop {
        std::thread::sleep(Duration::from_millis(20));
        if signal.is_raised() {
            break "told to stop";
        }
        if worker.has_ended() {
            break "a lane ended";
        }
        hangs = watchdog.look(&statuses, Instant::now());
        if let Some(lane) = &hangs {
            tracing::error!(
                why = lane,
                "a lane hangs: the worker ends, to be started again; nothing is lost by it"
            );
            break "a lane hangs";
        }
        reload.take_up();
        credentials.take_up();
        if args.until_idle {
            no_input = statuses.iter().find_map(|lane| Some((lane.name.clone(), lane.no_input()?)));
            if no_input.is_some() {
                break "a lane takes no input";
            }
            if !worker.is_idle() {
                idle_since = None;
            } else if idle_since.get_or_insert_with(Instant::now).elapsed() >= IDLE_FOR {
                break "all is worked off";
            }
        }
    };
    tracing::info!(why, seconds = began.elapsed().as_secs_f64(), "accrual stops");
    let stopped = worker.stop(shutdown.grace);
    server.stop();
    if let Some(hangs) = hangs {
        // Not a success, also where it came back just now: whoever restarts a worker by its exit code must know.
        stopped.with_context(|| hangs.clone())?;
        anyhow::bail!(hangs);
    }
    stopped?;
    if let Some((lane, why)) = no_input {
        anyhow::bail!("there may be more to work off: lane {lane} {why}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Waits for Kafka and the store, checks the deployment and makes missing topics. False where the
/// worker was told to stop meanwhile.
fn prepare(
    setup: &Setup,
    kafka: Option<&KafkaSettings>,
    stores: &Stores,
    signal: &StopSignal,
    state: &HttpState,
) -> anyhow::Result<bool> {
    let mut store = stores.open().context("the store")?;
    while !signal.is_raised() {
        match setup.check_deployment(store.as_mut()) {
            Ok(()) => break,
            Err(StoreError::Away(why)) => {
                tracing::warn!(why, "waiting for the store");
                state.waits_for("waiting for the store");
            }
            Err(error) => return Err(error).context("the store"),
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    let Some(kafka) = kafka else { return Ok(false) };
    while !signal.is_raised() {
        match ensure_topics(kafka, &setup.wanted_topics(), setup.config.create_topics) {
            Ok(created) => {
                for topic in created.0 {
                    tracing::info!(%topic, "created");
                }
                return Ok(true);
            }
            Err(TopicProblems::Log(LogError::Retriable(why))) => {
                tracing::warn!(why, "waiting for Kafka");
                state.waits_for(format!("waiting for Kafka: {why}"));
            }
            Err(error) => return Err(error).context("the topics"),
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    Ok(false)
}

/// The worker's name in its transactional ids. Stable over restarts, so that a restarted worker ends
/// at once what it left open, and different from that of any other worker that is alive.
struct Instance {
    name: String,
    /// Held while the worker lives; the system lets go of it however the worker ends.
    _lock: Option<File>,
}

impl Instance {
    fn take(setup: &Setup) -> anyhow::Result<Self> {
        if let Some(name) = &setup.config.instance {
            return Ok(Self { name: name.clone(), _lock: None });
        }
        let host = std::env::var("HOSTNAME").ok().filter(|name| !name.is_empty());
        let host = host.or_else(|| std::fs::read_to_string("/proc/sys/kernel/hostname").ok());
        let host = host.map_or_else(|| "worker".to_owned(), |name| name.trim().to_owned());
        let group = setup.kafka_settings("", 0).group;
        // Workers side by side on one host take the first number that no other of their group holds.
        for number in 0..1_000 {
            let name = if number == 0 { host.clone() } else { format!("{host}-{number}") };
            let file = format!(
                "accrual-{:016x}.lock",
                xxhash_rust::xxh3::xxh3_64(format!("{group} {name}").as_bytes())
            );
            let path = std::env::temp_dir().join(file);
            let lock = File::options().create(true).append(true).open(&path).with_context(|| {
                format!("{} cannot be opened; set `instance` to a name of this worker's own", path.display())
            })?;
            if lock.try_lock().is_ok() {
                return Ok(Self { name, _lock: Some(lock) });
            }
        }
        anyhow::bail!("a thousand workers of group {group} run on this host; set `instance` for this one")
    }
}

/// The HTTP server on a runtime of its own.
pub struct Server {
    /// Where it listens.
    pub address: std::net::SocketAddr,
    /// What it runs on.
    pub runtime: tokio::runtime::Runtime,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
}

impl Server {
    /// Listens and serves.
    ///
    /// # Errors
    /// Where the address cannot be listened on.
    pub fn start(listen: std::net::SocketAddr, state: HttpState) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(4)
            .thread_name("http")
            .enable_all()
            .build()
            .context("starting the HTTP server")?;
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind(listen))
            .with_context(|| format!("http.listen: {listen} cannot be listened on"))?;
        let address = listener.local_addr().context("http.listen")?;
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let served = http::serve(listener, state, async move {
            // Also where the sender is dropped: the worker ends.
            stopped.await.ok();
        });
        runtime.spawn(async move {
            if let Err(error) = served.await {
                tracing::error!(%error, "the HTTP server ends");
            }
        });
        Ok(Self { address, runtime, stop: Some(stop) })
    }

    /// Stops serving.
    pub fn stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // Where nobody receives it, the server has ended already.
            stop.send(()).ok();
        }
    }
}

/// Whether SIGTERM or SIGINT came.
#[derive(Clone, Debug, Default)]
pub struct StopSignal(Arc<std::sync::atomic::AtomicBool>);

impl StopSignal {
    /// Whether it came.
    pub fn is_raised(&self) -> bool {
        self.0.load(std::sync::atomic::Ordering::Acquire)
    }
}

/// Listens for SIGTERM and SIGINT.
///
/// # Errors
/// Where the system does not let us.
pub fn stop_signal(runtime: &tokio::runtime::Runtime) -> anyhow::Result<StopSignal> {
    use tokio::signal::unix::{SignalKind, signal};
    let raised = StopSignal::default();
    let _runtime = runtime.enter();
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let flag = raised.0.clone();
    runtime.spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        flag.store(true, std::sync::atomic::Ordering::Release);
    });
    Ok(raised)
}
