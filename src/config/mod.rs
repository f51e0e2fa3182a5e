//! The worker's settings: file, environment and flags, read in one place and validated whole.
//!
//! Every setting has one path (`batch.max_wait`). The file spells it as YAML, the environment as
//! `ACCRUAL_BATCH__MAX_WAIT`, the common ones have a flag. A flag wins over the environment, the
//! environment over the file. A value of [`Config`] holds its own rules: no caller checks it again.

mod http;
mod kafka;
mod overlay;
mod read;
mod secret;
mod store;
mod tokens;
mod topics;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::lane::flood::FloodLimits;
use crate::types::{Buckets, Outputs, TopicName};
use crate::yaml::{self, Collector, Node, Problems, Value, shown};

pub use http::{Access, Http, Rate, Redemptions};
pub use overlay::Override;
pub use secret::{Secret, SecretFile, Secretable};
pub use store::{StoreAddress, StoreFile};
pub use tokens::{Kind, TokenFile};

/// Everything that the worker is told from outside, validated.
#[derive(Clone, Debug)]
pub struct Config {
    /// How to reach the brokers.
    pub kafka: Kafka,
    /// The topics that events come from; at least one.
    pub inputs: Vec<Input>,
    /// The topics that results go to.
    pub outputs: Outputs,
    /// Where accounts are kept.
    pub store: StoreAddress,
    /// The file that this came from, if it did: it may hold another password by the next connection.
    pub store_file: Option<StoreFile>,
    /// The files of the programme's versions, absolute or relative to the working directory; at least one.
    pub programmes: Vec<PathBuf>,
    /// The HTTP server.
    pub http: Http,
    /// How many lanes a process runs, 1 to 64.
    pub lanes: usize,
    /// How much a lane takes at a time.
    pub batch: Batch,
    /// How repeated events are told.
    pub dedupe: Dedupe,
    /// From when on a lane takes no more input because of dead letters.
    pub dead_letters: FloodLimits,
    /// How long orders and redemptions are remembered.
    pub refunds: Refunds,
    /// How many of its last entries an account keeps in short form.
    pub history: usize,
    /// How the worker ends.
    pub shutdown: Shutdown,
    /// Whether missing output topics are created.
    pub create_topics: bool,
    /// How many buckets the accounts are spread over; fixed for a deployment's life.
    pub buckets: Buckets,
    /// How many accounts are kept in memory.
    pub cache: Cache,
    /// Names this worker in its transactional ids, so that a restart takes over its own
    /// transactions. Without it the worker makes up a name at each start.
    pub instance: Option<String>,
    /// What is too big to be looked at.
    pub limits: Limits,
}

impl Config {
    /// Reads the settings from a file, if one is named, then the environment, then flags.
    ///
    /// Paths in the file are relative to its folder, others to the working directory. Variables
    /// whose name does not start with `ACCRUAL_` are not looked at.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, at once, each with the line, variable or flag that it comes from.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        overrides: &[Override],
    ) -> Result<Self, Problems> {
        let (name, text) = match file {
            Some(path) => (path.display().to_string(), read_text(path)?),
            None => Default::default(),
        };
        let folder = file.and_then(Path::parent).unwrap_or(Path::new(""));
        let collector = Collector::new(&name, &text);
        let parsed = yaml::parse(&text, &collector);
        let is_readable = collector.is_empty();
        if !is_readable && secret::may_hold_one(&text) {
            collector.hide_all();
        }
        let mut root = parsed.filter(|node| !node.is_null()).unwrap_or_else(Node::empty_map);
        secret::hide(&root, &collector);
        overlay::environment(&mut root, environment, &collector);
        overlay::flags(&mut root, overrides, &collector);
        // Without the file's settings, every one would be reported as missing.
        let config = if is_readable {
            read::config(&Value::root(&root, "the settings", &collector), folder)
        } else {
            None
        };
        collector.finish(config)
    }
}

/// The text of a file that is no larger than is read.
pub(crate) fn read_text(path: &Path) -> Result<String, Problems> {
    let cannot =
        |why: String| Problems::one(format!("cannot read {}: {why}", shown(&path.display().to_string())));
    let file = std::fs::File::open(path).map_err(|error| cannot(error.to_string()))?;
    let mut bytes = Vec::new();
    let most = u64::try_from(yaml::MAX_BYTES).unwrap_or(u64::MAX);
    file.take(most + 1).read_to_end(&mut bytes).map_err(|error| cannot(error.to_string()))?;
    if bytes.len() > yaml::MAX_BYTES {
        return Err(cannot(format!("it has more than {most} bytes")));
    }
    String::from_utf8(bytes)
        .map_err(|error| cannot(format!("byte {} is not UTF-8", error.utf8_error().valid_up_to() + 1)))
}

/// How to reach the brokers.
#[derive(Clone, Debug)]
pub struct Kafka {
    /// librdkafka's properties by their own names, for consumers and producers alike. Holds
    /// `bootstrap.servers` and `group.id`, and nothing that the worker must control itself; and accrual's own
    /// [`OAUTH_TOKEN`](crate::log::kafka::OAUTH_TOKEN), always from a file.
    pub properties: BTreeMap<String, Secretable>,
}

/// Topics that events come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Input {
    /// The topics; at least one, and none twice over all inputs.
    pub topics: Vec<TopicName>,
}

/// How much a lane takes at a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Batch {
    /// At most so many events, 1 to 100,000.
    pub max_events: usize,
    /// How long they are gathered at most, from when the last ones were taken.
    pub max_wait: Duration,
}

/// How repeated events are told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dedupe {
    /// How long an event's receipt is kept at least; an hour or more.
    pub window: Duration,
}

/// How long orders and redemptions are remembered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refunds {
    /// How long an order can be refunded and a redemption be cancelled at least; an hour or more, rounded up to a whole
    /// number of `dedupe.window`s. So long an order is paid once, whatever event ids upstream gives its repeats.
    pub window: Duration,
}

/// How the worker ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shutdown {
    /// How long it may take from the signal to the exit.
    pub grace: Duration,
}

/// How many accounts are kept in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cache {
    /// Over all lanes together.
    pub accounts: usize,
}

/// What is too big to be looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// A record with a larger value is a dead letter, unread.
    pub max_record_bytes: usize,
}

#[cfg(test)]
mod tests;
