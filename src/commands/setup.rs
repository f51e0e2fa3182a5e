//! From settings to the parts of a worker: what `run` and `check` share.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::account::Retention;
use crate::config::{self, Config, Override};
use crate::explain::Explainer;
use crate::lane::budgets::LeaseTimes;
use crate::lane::{LaneSettings, Outputs};
use crate::log::LogError;
use crate::log::kafka::{DEFAULT_MAX_POLL_BYTES, KafkaArchive, KafkaLog, KafkaSettings, WantedTopic};
use crate::programme::current::Current;
use crate::programme::{Programme, warnings};
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
    /// The programme.
    pub programme: Arc<Programme>,
    /// What is likely wrong with the programme.
    pub warnings: Option<Problems>,
    /// The same as lanes and requests look it up, so that it can be exchanged.
    pub current: Arc<Current>,
}

/// Where the settings come from.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct SettingsArgs {
    /// The settings' file; without one, everything comes from ACCRUAL_ variables and flags.
    #[arg(long, short, env = "ACCRUAL_CONFIG")]
    pub config: Option<std::path::PathBuf>,
    /// The programme's file, instead of the one in the settings.
    #[arg(long)]
    pub programme: Option<String>,
    /// Where accounts are kept, instead of the store in the settings.
    #[arg(long)]
    pub store: Option<String>,
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
        let flags = [
            ("programme", "--programme", &self.programme),
            ("store", "--store", &self.store),
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
        let (programme, warnings) = load_programme(&config.programme, now)?;
        let programme = Arc::new(programme);
        let current = Arc::new(Current::new(programme.clone()));
        Ok(Self { config, programme, warnings, current })
    }

    /// What the lanes share.
    pub fn lane_settings(&self) -> LaneSettings {
        let Config { outputs, batch, buckets, cache, lanes, limits, .. } = &self.config;
        LaneSettings {
            programme: self.programme.clone(),
            current: self.current.clone(),
            outputs: Outputs {
                awards: outputs.awards.clone(),
                tier_changes: outputs.tier_changes.clone(),
                accounts: outputs.accounts.clone(),
                dead_letters: outputs.dead_letters.clone(),
            },
            buckets: *buckets,
            retention: retention(&self.programme, self.config.history, self.config.dedupe.window),
            max_events: batch.max_events,
            max_wait: batch.max_wait,
            max_record_bytes: limits.max_record_bytes,
            cached_accounts: cache.accounts / (*lanes).max(1),
            leases: LeaseTimes::default(),
            sleep: std::thread::sleep,
        }
    }

    /// How one lane reaches Kafka, as this worker.
    pub fn kafka_settings(&self, instance: &str, lane: usize) -> KafkaSettings {
        let properties = &self.config.kafka.properties;
        let property = |name: &str| properties.get(name).map(|value| value.reveal().to_owned());
        let group = property("group.id").unwrap_or_default();
        KafkaSettings {
            properties: properties
                .iter()
                .map(|(name, value)| (name.clone(), value.reveal().to_owned()))
                .collect(),
            topics: self.inputs().map(std::string::ToString::to_string).collect(),
            transactional_id: format!("{group}-{instance}-{lane}"),
            client_id: property("client.id").unwrap_or_else(|| format!("accrual-{instance}-{lane}")),
            group,
            max_poll_bytes: DEFAULT_MAX_POLL_BYTES,
        }
    }

    fn inputs(&self) -> impl Iterator<Item = &TopicName> {
        self.config.inputs.iter().flat_map(|input| &input.topics)
    }

    /// The topics that must be there: outputs, and inputs so that their absence is named too.
    pub fn wanted_topics(&self) -> Vec<WantedTopic> {
        let wanted = |name: &TopicName, compacted| WantedTopic {
            name: name.clone(),
            compacted,
            // Enough for several lanes and workers, where the broker's own default is often one.
            partitions: Some(8),
            config: std::collections::BTreeMap::new(),
        };
        let outputs = self.config.outputs.all().map(|(setting, name)| wanted(name, setting == "accounts"));
        outputs.into_iter().chain(self.inputs().map(|name| wanted(name, false))).collect()
    }

    /// What every store of this worker is set up with.
    pub fn store_settings(&self) -> StoreSettings {
        StoreSettings { buckets: self.config.buckets.0, dedupe_window: self.config.dedupe.window }
    }

    /// Opens the stores that the settings name.
    pub fn stores(&self) -> Stores {
        let settings = self.store_settings();
        match self.config.store.url() {
            None => Stores::Memory(MemoryStore::on_running_clock(settings)),
            Some(url) => Stores::Redis { url, settings },
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
        let wanted = Deployment {
            buckets: self.config.buckets.0,
            programme: self.programme.name.clone(),
            timezone: self.programme.zone.iana_name().unwrap_or("UTC").to_owned(),
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

/// How much accounts remember under a programme and these settings.
pub fn retention(programme: &Programme, history: usize, window: Duration) -> Retention {
    let days = window.as_secs().div_ceil(86_400);
    Retention { history, months: programme.kept_months(), days: u16::try_from(days).unwrap_or(u16::MAX) }
}

/// Reads a programme's file, and what is likely wrong with it at the present moment.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load_programme(path: &Path, now: Timestamp) -> Result<(Programme, Option<Problems>), Problems> {
    let name = path.display().to_string();
    let (programme, written) = Programme::parse_written(&name, &config::read_text(path)?)?;
    let warnings = warnings::find(&programme, written, now);
    Ok((programme, warnings))
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

/// Makes stores of one kind.
#[derive(Clone, Debug)]
pub enum Stores {
    /// One in memory, shared by all who ask.
    Memory(MemoryStore),
    /// A connection of its own for each who asks.
    Redis {
        /// Where it is. Holds the password.
        url: String,
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
            Stores::Redis { url, settings } => Ok(Box::new(RedisStore::connect(url, settings)?)),
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

impl Connect for Connections {
    type Log = KafkaLog;
    type Store = Box<dyn Store + Send>;

    fn log(&self, lane: usize) -> Result<KafkaLog, LogError> {
        let settings = self.kafka.get(lane).ok_or_else(|| LogError::Broken(format!("no lane {lane}")))?;
        KafkaLog::open(settings)
    }

    fn store(&self, _lane: usize) -> Result<Self::Store, StoreError> {
        self.stores.open()
    }
}
