//! From settings to the parts of a worker: what `run` and `check` share.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::account::Retention;
use crate::config::{self, Config, Override, Secret, Secretable, StoreFile};
use crate::explain::Explainer;
use crate::lane::LaneSettings;
use crate::lane::budgets::LeaseTimes;
use crate::log::Archive;
use crate::log::LogError;
use crate::log::kafka::{
    Credentials, DEFAULT_MAX_POLL_BYTES, KafkaArchive, KafkaLog, KafkaSettings, WantedTopic,
};
use crate::programme::current::Current;
use crate::programme::{ProgrammeText, Versions, warnings};
use crate::repair::WHOLE_STRETCH;
use crate::store::memory::MemoryStore;
use crate::store::redis::RedisStore;
use crate::store::{Deployment, Store, StoreError, StoreSettings};
use crate::types::TopicName;
use crate::worker::Connect;
use crate::yaml::{Position, Problems};

/// The settings and the programme that they name.
#[derive(Debug)]
pub struct Setup {
    /// The settings.
    pub config: Config,
    /// The versions of the programme.
    pub versions: Arc<Versions>,
    /// What is likely wrong with them.
    pub warnings: Option<Problems>,
    /// The same as lanes and requests look it up, so that it can be exchanged.
    pub current: Arc<Current>,
    /// What clients log in to Kafka with, as far as it comes from files, so that it can be exchanged.
    pub credentials: Credentials,
}

/// Where the settings come from.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct SettingsArgs {
    /// The settings' file; without one, everything comes from ACCRUAL_ variables and flags.
    #[arg(long, short, env = "ACCRUAL_CONFIG")]
    pub config: Option<std::path::PathBuf>,
    /// The programme's file, instead of the one in the settings; several, with commas or given again, where
    /// versions are shipped ahead.
    #[arg(long, value_delimiter = ',')]
    pub programme: Vec<String>,
    /// Where accounts are kept, instead of the store in the settings.
    #[arg(long)]
    pub store: Option<Secret>,
    /// The brokers, instead of those in the settings.
    #[arg(long)]
    pub bootstrap_servers: Option<String>,
    /// How many lanes to run, instead of the number in the settings.
    #[arg(long)]
    pub lanes: Option<String>,
    /// Where to serve HTTP, instead of the address in the settings.
    #[arg(long)]
    pub listen: Option<String>,
    /// This worker's name in its transactional ids, instead of the one in the settings.
    #[arg(long)]
    pub instance: Option<String>,
}

impl SettingsArgs {
    fn overrides(&self) -> Vec<Override> {
        let programmes = (!self.programme.is_empty()).then(|| self.programme.join(","));
        let store = self.store.as_ref().map(|store| store.reveal().to_owned());
        let flags = [
            ("programme", "--programme", &programmes),
            ("store", "--store", &store),
            ("kafka.bootstrap.servers", "--bootstrap-servers", &self.bootstrap_servers),
            ("lanes", "--lanes", &self.lanes),
            ("http.listen", "--listen", &self.listen),
            ("instance", "--instance", &self.instance),
        ];
        let given = flags.into_iter().filter_map(|(setting, flag, value)| {
            let value = value.clone()?;
            Some(Override { setting: setting.to_owned(), value, flag: flag.to_owned() })
        });
        given.collect()
    }
}

impl Setup {
    /// Reads settings and programme; what is likely wrong with that depends on the present moment.
    ///
    /// # Errors
    /// Everything that is wrong in either, at once.
    pub fn load(args: &SettingsArgs, now: Timestamp) -> Result<Self, Problems> {
        let config = Config::load(args.config.as_deref(), std::env::vars_os(), &args.overrides())?;
        let (versions, warnings) = load_versions(&config.programmes, now)?;
        let versions = Arc::new(versions);
        let current = Arc::new(Current::new(versions.clone()));
        let credentials = super::credentials::of(&config.kafka);
        Ok(Self { config, versions, warnings, current, credentials })
    }

    /// Reads settings and programme for a command, or says all that is wrong with them; the command then ends with 2.
    pub fn load_or_say(args: &SettingsArgs, now: Timestamp) -> Option<Self> {
        Self::load(args, now).inspect_err(|problems| eprintln!("{problems}")).ok()
    }

    /// What the lanes share.
    pub fn lane_settings(&self) -> LaneSettings {
        let Config { outputs, batch, buckets, cache, dead_letters, lanes, limits, .. } = &self.config;
        LaneSettings {
            versions: self.versions.clone(),
            current: self.current.clone(),
            outputs: outputs.clone(),
            buckets: *buckets,
            retention: retention(&self.versions, self.config.history, self.config.dedupe.window),
            dedupe_window: self.config.dedupe.window,
            max_events: batch.max_events,
            max_wait: batch.max_wait,
            max_record_bytes: limits.max_record_bytes,
            cached_accounts: cache.accounts / (*lanes).max(1),
            leases: LeaseTimes::default(),
            flood: *dead_letters,
            clock_every: CLOCK_EVERY,
            whole_stretch: WHOLE_STRETCH,
            sleep: std::thread::sleep,
        }
    }

    /// How one lane reaches Kafka, as this worker.
    pub fn kafka_settings(&self, instance: &str, lane: usize) -> KafkaSettings {
        let properties = &self.config.kafka.properties;
        let property = |name: &str| properties.get(name).map(|value| value.reveal().to_owned());
        let is_plain = |value: &Secretable| !matches!(value, Secretable::File(_));
        let group = property("group.id").unwrap_or_default();
        KafkaSettings {
            properties: properties
                .iter()
                .filter(|(_, value)| is_plain(value))
                .map(|(name, value)| (name.clone(), value.reveal().to_owned()))
                .collect(),
            credentials: self.credentials.clone(),
            // What accrual tells itself it also has to hear.
            topics: self.inputs().chain([&self.config.outputs.internal]).map(ToString::to_string).collect(),
            transactional_id: format!("{group}-{instance}-{lane}"),
            client_id: property("client.id").unwrap_or_else(|| format!("accrual-{instance}-{lane}")),
            group,
            max_poll_bytes: DEFAULT_MAX_POLL_BYTES,
        }
    }

    /// The topics that events come from, beside what accrual tells itself.
    pub fn inputs(&self) -> impl Iterator<Item = &TopicName> {
        self.config.inputs.iter().flat_map(|input| &input.topics)
    }

    /// The topics that are written to.
    pub fn output_topics(&self) -> Vec<WantedTopic> {
        let of = |(setting, name)| WantedTopic {
            compacted: setting == "accounts",
            takes_inputs: setting == "dead_letters",
            ..wanted(name)
        };
        self.config.outputs.all().map(of).into()
    }

    /// The topics that must be there: outputs, and inputs so that their absence is named too.
    pub fn wanted_topics(&self) -> Vec<WantedTopic> {
        let inputs = self.inputs().map(wanted);
        self.output_topics().into_iter().chain(inputs).collect()
    }

    /// What every store of this worker is set up with.
    pub fn store_settings(&self) -> StoreSettings {
        StoreSettings {
            buckets: self.config.buckets.0,
            dedupe_window: self.config.dedupe.window,
            refunds_window: self.config.refunds.window,
        }
    }

    /// Opens the stores that the settings name.
    pub fn stores(&self) -> Stores {
        let settings = self.store_settings();
        match self.config.store.url() {
            None => Stores::Memory(MemoryStore::on_running_clock(settings)),
            Some(url) => {
                let (url, file) = (Secret::new(url), self.config.store_file.clone());
                Stores::Redis { url, file, settings }
            }
        }
    }

    /// What explains events, with connections of its own.
    ///
    /// # Errors
    /// Where the store's address cannot be used.
    pub fn explainer(&self, stores: &Stores) -> Result<Explainer, StoreError> {
        let archive = KafkaArchive::new(self.kafka_settings("explain", 0));
        Ok(Explainer::new(self.lane_settings(), stores.open()?, Box::new(archive)))
    }

    /// Compares what this deployment is with what it was made as, and writes that down the first time.
    ///
    /// # Errors
    /// `Broken` where they differ, saying what would happen; else what the store says.
    pub fn check_deployment(&self, store: &mut dyn Store) -> Result<(), StoreError> {
        let programme = self.versions.first();
        let wanted = Deployment {
            buckets: self.config.buckets.0,
            programme: programme.name.clone(),
            timezone: programme.zone.iana_name().unwrap_or("UTC").to_owned(),
        };
        let made = store.check_deployment(&wanted)?;
        let mut differences = Vec::new();
        let mut compare = |what: &str, wanted: &str, made: &str, why: &str| {
            if wanted != made {
                differences.push(format!(
                    "{what} is {wanted}, the accounts in the store were made with {made}: {why}"
                ));
            }
        };
        compare(
            "buckets",
            &wanted.buckets.to_string(),
            &made.buckets.to_string(),
            "members would be looked for in the wrong bucket and begin at zero",
        );
        compare(
            "the programme's name",
            &wanted.programme,
            &made.programme,
            "awards would have other ids than those already published",
        );
        compare(
            "the programme's timezone",
            &wanted.timezone,
            &made.timezone,
            "days and months that limits and tiers have counted would begin at another hour",
        );
        if differences.is_empty() { Ok(()) } else { Err(StoreError::Broken(differences.join("; "))) }
    }
}

fn wanted(name: &TopicName) -> WantedTopic {
    WantedTopic {
        name: name.clone(),
        compacted: false,
        takes_inputs: false,
        // Enough for several lanes and workers, where the broker's own default is often one.
        partitions: Some(8),
        config: std::collections::BTreeMap::new(),
    }
}

/// How much accounts remember under a programme and these settings.
pub fn retention(versions: &Versions, history: usize, window: Duration) -> Retention {
    let days = window.as_secs().div_ceil(86_400);
    Retention { history, months: versions.kept_months(), days: u16::try_from(days).unwrap_or(u16::MAX) }
}

/// Reads the files of a programme's versions, and what is likely wrong with them at the present moment.
///
/// # Errors
/// Everything that is wrong with them.
pub fn load_versions(paths: &[PathBuf], now: Timestamp) -> Result<(Versions, Option<Problems>), Problems> {
    let (versions, written) = Versions::parse_written(&programme_texts(paths)?)?;
    let warnings = warnings::of_versions(&versions, written, now);
    Ok((versions, warnings))
}

/// The texts of these files.
///
/// # Errors
/// Why any of them cannot be read.
pub fn programme_texts(paths: &[PathBuf]) -> Result<Vec<ProgrammeText>, Problems> {
    let text =
        |path: &Path| Ok(ProgrammeText { name: path.display().to_string(), text: config::read_text(path)? });
    let (mut texts, mut problems) = (Vec::new(), None);
    for path in paths {
        match text(path) {
            Ok(text) => texts.push(text),
            Err(cannot) => problems = Some(Problems::and_maybe(problems, cannot)),
        }
    }
    problems.map_or(Ok(texts), Err)
}

/// Logs what is likely wrong with a programme, a line each. It runs all the same: whoever wrote it may
/// mean it, and a shop must not stand still for that.
pub fn log_warnings(warnings: Option<&Problems>) {
    for warning in warnings.into_iter().flat_map(Problems::iter) {
        let message = &warning.message;
        if let Position::File { file, line, column } = &warning.position {
            tracing::warn!(file, line, column, "likely wrong: {message}");
        } else {
            tracing::warn!("likely wrong: {message}");
        }
    }
}

/// How often lanes look for members whose day has come: soon after midnight is soon enough.
pub const CLOCK_EVERY: Duration = Duration::from_secs(5);

/// Makes stores of one kind.
#[derive(Clone, Debug)]
pub enum Stores {
    /// One in memory, shared by all who ask.
    Memory(MemoryStore),
    /// A connection of its own for each who asks.
    Redis {
        /// Where it is. May hold a password.
        url: Secret,
        /// The file that this came from, which is read again for each connection.
        file: Option<StoreFile>,
        /// How it is set up.
        settings: StoreSettings,
    },
}

impl Stores {
    /// A store.
    ///
    /// # Errors
    /// Where the address cannot be used. A server that does not answer yet is no error.
    pub fn open(&self) -> Result<Box<dyn Store + Send>, StoreError> {
        match self {
            Stores::Memory(store) => Ok(Box::new(store.clone())),
            Stores::Redis { url, file, settings } => {
                let mut store = RedisStore::connect(url.reveal(), settings)?;
                if let Some(file) = file.clone() {
                    store = store.at_changing_url(move || file.url());
                }
                Ok(Box::new(store))
            }
        }
    }
}

/// Connects lanes to Kafka and to the stores of the settings.
pub struct Connections {
    /// The settings of each lane.
    pub kafka: Vec<KafkaSettings>,
    /// Where accounts are.
    pub stores: Stores,
}

impl Connections {
    fn settings(&self, lane: usize) -> Result<&KafkaSettings, LogError> {
        self.kafka.get(lane).ok_or_else(|| LogError::Broken(format!("no lane {lane}")))
    }
}

impl Connect for Connections {
    type Log = KafkaLog;
    type Store = Box<dyn Store + Send>;

    fn log(&self, lane: usize) -> Result<KafkaLog, LogError> {
        KafkaLog::open(self.settings(lane)?)
    }

    fn store(&self, _lane: usize) -> Result<Self::Store, StoreError> {
        self.stores.open()
    }

    fn archive(&self, lane: usize) -> Result<Box<dyn Archive>, LogError> {
        Ok(Box::new(KafkaArchive::new(self.settings(lane)?.clone())))
    }
}
