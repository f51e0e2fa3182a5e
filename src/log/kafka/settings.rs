//! What the worker asks of librdkafka: the operator's properties, what accrual insists on, and
//! defaults measured to be better than librdkafka's own.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

use super::credentials::Credentials;
use crate::log::LogError;

/// How one lane reaches Kafka.
#[derive(Clone)]
pub struct KafkaSettings {
    /// The operator's librdkafka properties, by librdkafka's names. May hold secrets.
    pub properties: BTreeMap<String, String>,
    /// More of them, which come from files and may change while the worker runs.
    pub credentials: Credentials,
    /// Topics to read. A name that starts with `^` is a regular expression.
    pub topics: Vec<String>,
    /// The consumer group that all lanes of all workers share.
    pub group: String,
    /// This lane's own transactional id. No two living lanes may share one.
    pub transactional_id: String,
    /// Names this lane in the broker's logs and quotas.
    pub client_id: String,
    /// A poll ends once it has gathered this many bytes, so that a flood of large records cannot
    /// fill the memory.
    pub max_poll_bytes: usize,
}

/// A good bound for [`KafkaSettings::max_poll_bytes`]: some 100,000 usual events.
pub const DEFAULT_MAX_POLL_BYTES: usize = 32 << 20;

impl fmt::Debug for KafkaSettings {
    /// Leaves out the properties' values: some are passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSettings")
            .field("properties", &self.properties.keys())
            .field("credentials", &self.credentials)
            .field("topics", &self.topics)
            .field("group", &self.group)
            .field("transactional_id", &self.transactional_id)
            .field("client_id", &self.client_id)
            .field("max_poll_bytes", &self.max_poll_bytes)
            .finish()
    }
}

/// A property that cannot stand as it was written.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{name}: {problem}")]
pub struct PropertyProblem {
    /// The property.
    pub name: String,
    /// What is wrong with it. Never holds the value, which may be a secret.
    pub problem: String,
}

/// Where a lane begins on a partition that its group has no committed offset for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum StartAt {
    Earliest,
    Latest,
}

/// A property that accrual sets, with the values it can live with and why.
struct Owned {
    name: &'static str,
    accepted: &'static [&'static str],
    why: &'static str,
}

/// What exactly-once stands on. The operator may repeat these, but not change them.
const OWNED: &[Owned] = &[
    Owned { name: "enable.auto.commit", accepted: &["false"], why: "offsets are committed with the results" },
    Owned {
        name: "enable.auto.offset.store",
        accepted: &["false"],
        why: "offsets are committed with the results",
    },
    Owned {
        name: "isolation.level",
        accepted: &["read_committed", "1"],
        why: "an aborted event must not earn points",
    },
    // Cooperative rebalances keep partitions through a rebalance, also through one that a transaction
    // of the old generation is open in. Eager ones revoke everything first, so that an assignment always
    // means: drop what was gathered and begin at the committed offsets.
    Owned {
        name: "partition.assignment.strategy",
        accepted: &["roundrobin,range", "range,roundrobin", "range", "roundrobin"],
        why: "only eager assignors begin each generation at the committed offsets",
    },
    Owned {
        name: "group.protocol",
        accepted: &["classic"],
        why: "transactions are fenced by the classic protocol's generations",
    },
    Owned {
        name: "group.instance.id",
        accepted: &[],
        why: "the lanes of a worker would fence each other under one id",
    },
    Owned {
        name: "enable.idempotence",
        accepted: &["true"],
        why: "a retried send must not be written twice",
    },
    Owned { name: "acks", accepted: &["all", "-1"], why: "an acknowledged award must survive its broker" },
    Owned {
        name: "request.required.acks",
        accepted: &["all", "-1"],
        why: "an acknowledged award must survive its broker",
    },
    Owned { name: "transactional.id", accepted: &[], why: "each lane has its own; set `instance` instead" },
    Owned { name: "delivery.report.only.error", accepted: &["true"], why: "successes are only counted" },
    Owned {
        name: "auto.offset.reset",
        accepted: &["earliest", "smallest", "beginning", "latest", "largest", "end"],
        why: "earliest or latest; an offset that is gone is handled by accrual",
    },
    Owned { name: "statistics.interval.ms", accepted: &["500"], why: "lag and readiness are read from it" },
];

/// Set from [`KafkaSettings`]' own fields; the same names among the properties are ignored.
const FROM_FIELDS: &[&str] = &["group.id", "client.id"];

/// Properties that only a consumer understands (CONFIGURATION.md of librdkafka 2.12). A producer would
/// warn of them.
const CONSUMER_ONLY: &[&str] = &[
    "auto.commit.enable",
    "auto.commit.interval.ms",
    "auto.offset.reset",
    "check.crcs",
    "consume.callback.max.messages",
    "coordinator.query.interval.ms",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.partition.eof",
    "fetch.error.backoff.ms",
    "fetch.max.bytes",
    "fetch.message.max.bytes",
    "fetch.min.bytes",
    "fetch.queue.backoff.ms",
    "fetch.wait.max.ms",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "group.protocol.type",
    "group.remote.assignor",
    "heartbeat.interval.ms",
    "isolation.level",
    "max.partition.fetch.bytes",
    "max.poll.interval.ms",
    "offset.store.method",
    "offset.store.path",
    "offset.store.sync.interval.ms",
    "partition.assignment.strategy",
    "queued.max.messages.kbytes",
    "queued.min.messages",
    "session.timeout.ms",
];

/// Properties that only a producer understands.
const PRODUCER_ONLY: &[&str] = &[
    "acks",
    "batch.num.messages",
    "batch.size",
    "compression.codec",
    "compression.level",
    "compression.type",
    "delivery.report.only.error",
    "delivery.timeout.ms",
    "enable.gapless.guarantee",
    "enable.idempotence",
    "linger.ms",
    "message.send.max.retries",
    "message.timeout.ms",
    "partitioner",
    "produce.offset.report",
    "queue.buffering.backpressure.threshold",
    "queue.buffering.max.kbytes",
    "queue.buffering.max.messages",
    "queue.buffering.max.ms",
    "queuing.strategy",
    "request.required.acks",
    "request.timeout.ms",
    "retries",
    "sticky.partitioning.linger.ms",
    "transaction.timeout.ms",
    "transactional.id",
];

/// For every client; the operator may choose otherwise.
const DEFAULTS: &[(&str, &str)] = &[
    // A broker that comes back is used at once: librdkafka would wait up to ten seconds.
    ("reconnect.backoff.max.ms", "1000"),
    // New partitions of an input are noticed within half a minute, not five.
    ("topic.metadata.refresh.interval.ms", "30000"),
    ("socket.keepalive.enable", "true"),
    ("log.connection.close", "false"),
    // Topics are made by `create_topics` with the right settings, never by asking for them.
    ("allow.auto.create.topics", "false"),
];

const CONSUMER_DEFAULTS: &[(&str, &str)] = &[
    // A killed worker's partitions are taken over after this time. Heartbeats have a thread of their
    // own, so that a busy lane is not taken for a dead one; librdkafka's 45 s are for slower rooms.
    ("session.timeout.ms", "10000"),
    // Read ahead for some batches, bounded by bytes whatever the load (librdkafka also bounds each fetch
    // by it). Five times as much was slower, and took twice the memory.
    ("queued.min.messages", "10000"),
    ("queued.max.messages.kbytes", "8192"),
    // Once the read-ahead is full, look again soon: the default of a second lets a fast lane starve.
    ("fetch.queue.backoff.ms", "5"),
    ("check.crcs", "true"),
    // A member learns of a rebalance by its heartbeat, and all others wait for it.
    ("heartbeat.interval.ms", "1000"),
];

const PRODUCER_DEFAULTS: &[(&str, &str)] = &[
    // As Java clients partition, so that others can join by key.
    ("partitioner", "murmur2_random"),
    ("compression.type", "lz4"),
    // A batch is handed over one partition after the other, so that each leaves in one request; waiting longer than that
    // takes is latency. 10 ms were no faster with full batches, and a fifth slower for whoever waits.
    ("linger.ms", "3"),
    // Right after a commit the coordinator is still writing its markers and asks for another try.
    // librdkafka would wait 100 ms; it doubles this, up to a second, while a broker is away.
    ("retry.backoff.ms", "10"),
    ("batch.num.messages", "10000"),
    ("batch.size", "1000000"),
    // A whole batch of the largest kind fits, so that `send` seldom waits; bounded by bytes.
    ("queue.buffering.max.messages", "200000"),
    ("queue.buffering.max.kbytes", "131072"),
    ("transaction.timeout.ms", "30000"),
    // What an input took goes to the dead letters, whatever its size: the topic bounds it, not the client. Requests are
    // no larger for it; `batch.size` bounds those.
    ("message.max.bytes", "1000000000"),
];

impl KafkaSettings {
    /// Everything that is wrong with the operator's properties, all at once, without connecting.
    pub fn problems(&self) -> Vec<PropertyProblem> {
        let mut problems: Vec<PropertyProblem> =
            self.all().iter().filter_map(|(name, value)| problem(name, value)).collect();
        if !self.properties.contains_key("bootstrap.servers") {
            problems.push(PropertyProblem {
                name: "bootstrap.servers".into(),
                problem: "is missing: host:port of one or more brokers, separated by commas".into(),
            });
        }
        problems
    }

    /// The operator's properties, with those from files as they are now.
    fn all(&self) -> BTreeMap<String, String> {
        let mut all = self.properties.clone();
        all.extend(self.credentials.properties());
        all
    }

    /// Whether the machine's own authorities are to be found: an OpenSSL of our own does not know where this system
    /// keeps them, but by a variable that rustls, for Redis, goes by as well.
    fn trusts_the_machine(&self) -> bool {
        let all = self.all();
        let is_tls =
            all.get("security.protocol").is_some_and(|name| name.to_ascii_lowercase().ends_with("ssl"));
        let is_told = all.keys().any(|name| name.starts_with("ssl.ca."));
        let is_told =
            is_told || ["SSL_CERT_FILE", "SSL_CERT_DIR"].iter().any(|name| std::env::var_os(name).is_some());
        cfg!(feature = "tls-system") && is_tls && !is_told
    }

    fn checked(&self) -> Result<(), LogError> {
        let problems = self.problems();
        if problems.is_empty() {
            return Ok(());
        }
        let list: Vec<String> = problems.iter().map(ToString::to_string).collect();
        Err(LogError::Broken(format!("kafka settings: {}", list.join("; "))))
    }

    /// Where to begin without a committed offset. librdkafka itself is always told `earliest`, because
    /// an offset that is gone must never skip to the end.
    pub(super) fn start_at(&self) -> StartAt {
        match self.properties.get("auto.offset.reset").map(String::as_str) {
            Some("latest" | "largest" | "end") => StartAt::Latest,
            _ => StartAt::Earliest,
        }
    }

    /// How long the broker lets a transaction stay open.
    pub(super) fn transaction_timeout(&self) -> Duration {
        let told = self.properties.get("transaction.timeout.ms").and_then(|ms| ms.parse().ok());
        Duration::from_millis(told.unwrap_or(30_000))
    }

    /// For the lane's member of the group.
    pub(super) fn consumer(&self) -> Result<ClientConfig, LogError> {
        let mut config = self.client(CONSUMER_DEFAULTS, PRODUCER_ONLY)?;
        config
            .set("group.id", &self.group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("isolation.level", "read_committed")
            .set("auto.offset.reset", "earliest")
            .set("group.protocol", "classic")
            .set("statistics.interval.ms", "500");
        // Round robin first: by range, the only partition of each of many topics would go to one lane.
        if !self.properties.contains_key("partition.assignment.strategy") {
            config.set("partition.assignment.strategy", "roundrobin,range");
        }
        Ok(config)
    }

    /// For the lane's transactional producer.
    pub(super) fn producer(&self) -> Result<ClientConfig, LogError> {
        let mut config = self.client(PRODUCER_DEFAULTS, CONSUMER_ONLY)?;
        config
            .set("transactional.id", &self.transactional_id)
            .set("enable.idempotence", "true")
            .set("acks", "all")
            // Ten thousand successes a transaction need no callback each; `outq_len` counts them.
            .set("delivery.report.only.error", "true");
        Ok(config)
    }

    /// For single records that somebody waits for, each acknowledged by itself.
    pub(super) fn sender(&self) -> Result<ClientConfig, LogError> {
        let mut config = self.client(PRODUCER_DEFAULTS, CONSUMER_ONLY)?;
        for alias in ["queue.buffering.max.ms", "delivery.timeout.ms"] {
            config.remove(alias);
        }
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("delivery.report.only.error", "false")
            // Who waits gives up after seconds; what was not acknowledged by then is not sent later.
            .set("linger.ms", "1")
            .set("message.timeout.ms", "5000")
            .set("queue.buffering.max.messages", "10000");
        Ok(config)
    }

    /// For metadata and administration: belongs to no group and no transaction.
    pub(super) fn plain(&self) -> Result<ClientConfig, LogError> {
        let mut both = CONSUMER_ONLY.to_vec();
        both.extend_from_slice(PRODUCER_ONLY);
        self.client(&[], &both)
    }

    fn client(&self, defaults: &[(&str, &str)], not_for_it: &[&str]) -> Result<ClientConfig, LogError> {
        self.checked()?;
        let mut config = ClientConfig::new();
        for (name, value) in DEFAULTS.iter().chain(defaults) {
            config.set(*name, *value);
        }
        // A default must not contradict the same property under its other name.
        for (name, alias) in ALIASES {
            if self.properties.contains_key(*alias) {
                config.remove(name);
            }
        }
        for (name, value) in &self.all() {
            if !not_for_it.contains(&name.as_str()) && !FROM_FIELDS.contains(&name.as_str()) {
                config.set(name, value);
            }
        }
        if self.trusts_the_machine() {
            config.set("ssl.ca.location", "probe");
        }
        config.set("client.id", &self.client_id);
        // What librdkafka says below a warning is noise at a terminal; `debug` contexts need it.
        let chatty = self.properties.contains_key("debug");
        config.set_log_level(if chatty { RDKafkaLogLevel::Debug } else { RDKafkaLogLevel::Warning });
        Ok(config)
    }
}

/// Properties of ours that librdkafka knows by another name too.
const ALIASES: &[(&str, &str)] =
    &[("compression.type", "compression.codec"), ("linger.ms", "queue.buffering.max.ms")];

/// What is wrong with one property of the operator's, without connecting.
pub fn property_problem(name: &str, value: &str) -> Option<PropertyProblem> {
    problem(name, value)
}

fn problem(name: &str, value: &str) -> Option<PropertyProblem> {
    let wrong = |problem: String| Some(PropertyProblem { name: name.to_owned(), problem });
    if let Some(owned) = OWNED.iter().find(|owned| owned.name == name) {
        if owned.accepted.contains(&value) {
            return None;
        }
        return match owned.accepted.first() {
            Some(first) => wrong(format!("must be {first}: {}", owned.why)),
            None => wrong(format!("cannot be set: {}", owned.why)),
        };
    }
    // librdkafka knows each property's name and range; one at a time, so that every problem is named.
    match ClientConfig::new().set(name, value).create_native_config() {
        Ok(_) => None,
        Err(rdkafka::error::KafkaError::ClientConfig(_, said, _, _)) => {
            // librdkafka quotes the value after a colon or in quotes; a secret must not reach a log.
            let said = if value.is_empty() { said } else { said.replace(value, "…") };
            wrong(said)
        }
        Err(other) => wrong(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(properties: &[(&str, &str)]) -> KafkaSettings {
        let mut all = BTreeMap::from([("bootstrap.servers".to_owned(), "localhost:9092".to_owned())]);
        all.extend(properties.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        KafkaSettings {
            properties: all,
            credentials: Credentials::default(),
            topics: vec!["in".into()],
            group: "g".into(),
            transactional_id: "t".into(),
            client_id: "c".into(),
            max_poll_bytes: DEFAULT_MAX_POLL_BYTES,
        }
    }

    #[test]
    fn all_problems_come_at_once_and_none_quotes_the_value() {
        let found = settings(&[
            ("isolation.level", "read_uncommitted"),
            ("no.such.property", "s3cret"),
            ("linger.ms", "s3cret"),
            ("session.timeout.ms", "9000"),
        ])
        .problems();
        let names: Vec<&str> = found.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["isolation.level", "linger.ms", "no.such.property"]);
        assert!(found.iter().all(|p| !p.to_string().contains("s3cret")), "{found:?}");
    }

    #[test]
    fn a_password_is_not_printed_with_the_settings() {
        let printed = format!("{:?}", settings(&[("sasl.password", "s3cret")]));
        assert!(printed.contains("sasl.password") && !printed.contains("s3cret"));
    }

    #[test]
    fn each_client_gets_only_the_properties_that_it_understands() {
        let settings =
            settings(&[("linger.ms", "7"), ("fetch.min.bytes", "9"), ("socket.timeout.ms", "8000")]);
        let (consumer, producer) = (settings.consumer().unwrap(), settings.producer().unwrap());
        assert_eq!((consumer.get("linger.ms"), producer.get("linger.ms")), (None, Some("7")));
        assert_eq!((consumer.get("fetch.min.bytes"), producer.get("fetch.min.bytes")), (Some("9"), None));
        assert_eq!(producer.get("socket.timeout.ms"), consumer.get("socket.timeout.ms"));
        assert_eq!(settings.plain().unwrap().get("linger.ms"), None);
    }

    #[test]
    fn the_property_lists_hold_no_name_that_librdkafka_lacks() {
        for name in DEFAULTS.iter().chain(CONSUMER_DEFAULTS).chain(PRODUCER_DEFAULTS) {
            assert_eq!(problem(name.0, name.1), None);
        }
    }

    #[test]
    fn without_a_committed_offset_a_lane_begins_at_the_start_unless_told() {
        assert_eq!(settings(&[]).start_at(), StartAt::Earliest);
        assert_eq!(settings(&[("auto.offset.reset", "latest")]).start_at(), StartAt::Latest);
    }
}
