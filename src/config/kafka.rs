//! Kafka's properties: everything that librdkafka knows goes through, but for what the worker must
//! control itself to keep its promise.

use std::collections::BTreeMap;
use std::path::Path;

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;

use super::Kafka;
use super::overlay::variable_of;
use super::secret::{Secret, Secretable, is_secret_name, text_or_file};
use crate::spelling;
use crate::yaml::{Map, Place, Value, shown};

/// Properties that may not be set, and why.
const CONTROLLED: &[(&str, &str)] = &[
    (
        "enable.auto.commit",
        "offsets are committed in the transaction that publishes their results",
    ),
    (
        "auto.commit.enable",
        "offsets are committed in the transaction that publishes their results",
    ),
    (
        "auto.commit.interval.ms",
        "offsets are committed in the transaction that publishes their results",
    ),
    (
        "enable.auto.offset.store",
        "offsets are committed in the transaction that publishes their results",
    ),
    (
        "offset.store.method",
        "offsets are committed in the transaction that publishes their results",
    ),
    ("isolation.level", "inputs are always read committed"),
    ("transactional.id", "every lane has its own, made from `instance`"),
    ("enable.idempotence", "transactions have it on"),
    (
        "group.instance.id",
        "every lane is a member of the group, made from `instance`",
    ),
    (
        "enable.partition.eof",
        "the worker decides how it learns that a partition is worked off",
    ),
    (
        "metadata.broker.list",
        "it is another name for `bootstrap.servers`",
    ),
];

/// Properties that may be set to some values only: the property, these values, and why.
const RESTRICTED: &[(&str, &[&str], &str)] = &[
    ("auto.offset.reset", EARLIEST, "anything else would skip events"),
    ("acks", ALL, "transactions need every in-sync replica's answer"),
    (
        "request.required.acks",
        ALL,
        "transactions need every in-sync replica's answer",
    ),
    (
        "partition.assignment.strategy",
        &["range", "roundrobin", "range,roundrobin", "roundrobin,range"],
        "a lane takes and gives back its partitions all at once, so `cooperative-sticky` does not work",
    ),
    (
        "enable.ssl.certificate.verification",
        &["true"],
        "TLS without verification protects nothing",
    ),
];
const EARLIEST: &[&str] = &["earliest", "smallest", "beginning"];
const ALL: &[&str] = &["all", "-1"];

/// Properties that people set, to find the one that was meant.
const COMMON: &[&str] = &[
    "bootstrap.servers",
    "group.id",
    "client.id",
    "client.rack",
    "security.protocol",
    "sasl.mechanism",
    "sasl.username",
    "sasl.password",
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.key.location",
    "ssl.key.password",
    "auto.offset.reset",
    "compression.type",
    "linger.ms",
    "batch.size",
    "message.max.bytes",
    "fetch.min.bytes",
    "fetch.max.bytes",
    "fetch.wait.max.ms",
    "max.partition.fetch.bytes",
    "max.poll.interval.ms",
    "session.timeout.ms",
    "heartbeat.interval.ms",
    "transaction.timeout.ms",
    "queued.max.messages.kbytes",
    "queue.buffering.max.messages",
    "socket.keepalive.enable",
    "statistics.interval.ms",
    "allow.auto.create.topics",
];

/// Whether the property is known to hold no secret.
pub(super) fn is_harmless_property(name: &str) -> bool {
    let is_known = COMMON.contains(&name)
        || CONTROLLED.iter().any(|(known, _)| *known == name)
        || RESTRICTED.iter().any(|(known, ..)| *known == name);
    is_known && !is_secret_name(name)
}

/// All properties of `kafka`.
pub(super) fn read(settings: &Map<'_>, folder: &Path) -> Option<Kafka> {
    let Some(section) = settings.get("kafka") else {
        for setting in ["bootstrap.servers", "group.id"] {
            let variable = variable_of(&format!("kafka.{setting}"));
            settings.report(format!(
                "`kafka.{setting}` is missing; set it here or as {variable}"
            ));
        }
        return None;
    };
    let section = section.any_map()?;
    for property in ["bootstrap.servers", "group.id"] {
        if section.get(property).is_none() {
            let variable = variable_of(&format!("kafka.{property}"));
            section.report(format!(
                "`kafka.{property}` is missing; set it here or as {variable}"
            ));
        }
    }
    let mut properties = BTreeMap::new();
    for (name, key_place, value) in section.entries() {
        if let Some(value) = property(name, key_place, &value, folder) {
            properties.insert(name.to_owned(), value);
        }
    }
    Some(Kafka { properties })
}

fn property(name: &str, key_place: &Place, value: &Value<'_>, folder: &Path) -> Option<Secretable> {
    let label = value.label();
    if let Some((_, reason)) = CONTROLLED.iter().find(|(controlled, _)| *controlled == name) {
        value
            .collector()
            .report(key_place, format!("{label} cannot be set: {reason}"));
        return None;
    }
    let mut text = text_or_file(value, folder)?;
    if is_secret_name(name) {
        text = Secretable::Hidden(Secret::new(text.reveal()));
    }
    let restricted = RESTRICTED.iter().find(|(restricted, ..)| *restricted == name);
    if let Some((_, allowed, reason)) = restricted.filter(|(_, allowed, _)| !allowed.contains(&text.reveal()))
    {
        let first = allowed.first().copied().unwrap_or_default();
        value.report(format!("{label} must be `{first}`: {reason}"));
        return None;
    }
    if let Err(why) = try_in_librdkafka(name, &text) {
        let place = if why.of_name { key_place } else { value.place() };
        value
            .collector()
            .report(place, format!("{label} {}", why.message));
        return None;
    }
    Some(text)
}

/// Why librdkafka refuses a property.
struct Refusal {
    /// The name, not the value.
    of_name: bool,
    /// Continues a sentence that starts with the property.
    message: String,
}

/// Asks librdkafka whether it knows the property and takes the value. Connects to nothing.
fn try_in_librdkafka(name: &str, value: &Secretable) -> Result<(), Refusal> {
    let mut config = ClientConfig::new();
    config
        .set_log_level(RDKafkaLogLevel::Emerg)
        .set(name, value.reveal());
    let Err(error) = config.create_native_config() else {
        return Ok(());
    };
    let KafkaError::ClientConfig(kind, description, ..) = error else {
        return Err(Refusal {
            of_name: true,
            message: "is refused by librdkafka".to_owned(),
        });
    };
    let of_name = kind == RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN;
    let message = if of_name {
        match spelling::closest(name, COMMON.iter().copied()) {
            Some(near) => format!("is no property of librdkafka; did you mean `{near}`?"),
            None => "is no property of librdkafka".to_owned(),
        }
    } else if description.contains("not available at build time") || description.contains("in this build") {
        "needs TLS, and this worker was built without the feature `tls`".to_owned()
    } else {
        match value {
            // Which says no more than this.
            Secretable::Plain(text) if description.starts_with("Invalid value") => {
                format!("cannot be {}", shown(text))
            }
            Secretable::Plain(text) => {
                let description: String = description.chars().filter(|c| !c.is_control()).collect();
                format!("cannot be {}: {description}", shown(text))
            }
            Secretable::Hidden(_) => "has a value that librdkafka does not take".to_owned(),
        }
    };
    Err(Refusal { of_name, message })
}
