//! Kafka's properties: everything that librdkafka knows goes through, but for what the worker must
//! control itself to keep its promise.

use std::collections::BTreeMap;
use std::path::Path;

use super::Kafka;
use super::overlay::variable_of;
use super::secret::{Secret, Secretable, is_secret_name, text_or_file};
use crate::log::kafka::{OAUTH_TOKEN, PropertyProblem, oauth_token_problem, property_problem};
use crate::spelling;
use crate::yaml::{Map, Place, Value, shown};

/// Properties that may not be set at all, and why; beside those that [`property_problem`] refuses.
const REFUSED: &[(&str, &str)] = &[
    ("auto.commit.enable", COMMIT),
    ("auto.commit.interval.ms", COMMIT),
    ("offset.store.method", COMMIT),
    ("enable.partition.eof", "the worker decides how it learns that a partition is worked off"),
    ("metadata.broker.list", "it is another name for `bootstrap.servers`"),
];
const COMMIT: &str = "offsets are committed in the transaction that publishes their results";

/// Properties that may be set to some values only: the property, these values, and why.
const RESTRICTED: &[(&str, &[&str], &str)] = &[
    ("auto.offset.reset", &["earliest", "smallest", "beginning"], "anything else would skip events"),
    ("enable.ssl.certificate.verification", &["true"], "TLS without verification protects nothing"),
    ("ssl.endpoint.identification.algorithm", &["https"], "the certificate of any other host would do"),
    ("enable.sasl.oauthbearer.unsecure.jwt", &["false"], "anybody can write such a token"),
];

/// librdkafka's own ways to a token begin so.
const OAUTH: &str = "sasl.oauthbearer.";
const OAUTH_BY_FILE: &str =
    "whoever renews the token writes it to a file, which is named in `sasl.oauthbearer.token`";

const WITHOUT_TLS: &str = "needs TLS, and this worker was built without the feature `tls`";

/// Properties that people set, to find the one that was meant.
const COMMON: &[&str] = &[
    "bootstrap.servers",
    "group.id",
    "client.id",
    "client.rack",
    "security.protocol",
    "sasl.mechanism",
    "sasl.mechanisms",
    "sasl.username",
    "sasl.password",
    OAUTH_TOKEN,
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
    "enable.auto.commit",
    "isolation.level",
    "acks",
    "allow.auto.create.topics",
];

/// Whether the property is known to hold no secret.
pub(super) fn is_harmless_property(name: &str) -> bool {
    let is_known = COMMON.contains(&name)
        || REFUSED.iter().any(|(known, _)| *known == name)
        || RESTRICTED.iter().any(|(known, ..)| *known == name);
    is_known && !is_secret_name(name)
}

/// All properties of `kafka`.
pub(super) fn read(settings: &Map<'_>, folder: &Path) -> Option<Kafka> {
    let Some(section) = settings.get("kafka") else {
        for setting in ["bootstrap.servers", "group.id"] {
            let variable = variable_of(&format!("kafka.{setting}"));
            settings.report(format!("`kafka.{setting}` is missing; set it here or as {variable}"));
        }
        return None;
    };
    let section = section.any_map()?;
    for property in ["bootstrap.servers", "group.id"] {
        if section.get(property).is_none() {
            let variable = variable_of(&format!("kafka.{property}"));
            section.report(format!("`kafka.{property}` is missing; set it here or as {variable}"));
        }
    }
    let mut properties = BTreeMap::new();
    for (name, key_place, value) in section.entries() {
        if let Some(value) = property(name, key_place, &value, folder) {
            properties.insert(name.to_owned(), value);
        }
    }
    mechanism_fits(&section);
    Some(Kafka { properties })
}

fn property(name: &str, key_place: &Place, value: &Value<'_>, folder: &Path) -> Option<Secretable> {
    let label = value.label();
    if let Some((_, reason)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
        value.collector().report(key_place, format!("{label} cannot be set: {reason}"));
        return None;
    }
    if name != OAUTH_TOKEN && name.starts_with(OAUTH) {
        let message = format!("{label} cannot be set: {OAUTH_BY_FILE}");
        value.collector().report(key_place, message);
        return None;
    }
    let mut text = text_or_file(value, folder)?;
    if name == OAUTH_TOKEN {
        return token(value, text);
    }
    if let Secretable::Plain(plain) = &text
        && is_secret_name(name)
    {
        text = Secretable::Hidden(Secret::new(plain.as_str()));
    }
    let restricted = RESTRICTED.iter().find(|(restricted, ..)| *restricted == name);
    if let Some((_, allowed, reason)) = restricted.filter(|(_, allowed, _)| !allowed.contains(&text.reveal()))
    {
        let first = allowed.first().copied().unwrap_or_default();
        value.report(format!("{label} must be {first}: {reason}"));
        return None;
    }
    if let Some(PropertyProblem { problem, .. }) = property_problem(name, text.reveal()) {
        let is_unknown = problem.starts_with("No such configuration property");
        let is_of_name = is_unknown || problem.starts_with("cannot be set");
        let message = if is_unknown { unknown(name) } else { refused(&problem, &text) };
        let place = if is_of_name { key_place } else { value.place() };
        value.collector().report(place, format!("{label} {message}"));
        return None;
    }
    Some(text)
}

/// What the property of accrual's own needs.
fn token(value: &Value<'_>, text: Secretable) -> Option<Secretable> {
    let Secretable::File(file) = &text else {
        value.report(format!(
            "{} must be {{file: PATH}}: a token expires, and the file is read again",
            value.label()
        ));
        return None;
    };
    match oauth_token_problem(file.path()) {
        None => Some(text),
        Some(why) => {
            value.report(why);
            None
        }
    }
}

/// A token is of no use without its mechanism, and the mechanism none without a token; and some need the feature.
fn mechanism_fits(section: &Map<'_>) {
    let given = ["sasl.mechanism", "sasl.mechanisms"].into_iter().find_map(|name| section.get(name));
    let is_text = |value: &&Value<'_>| value.is_scalar();
    let mechanism = given.as_ref().filter(is_text).and_then(Value::text).unwrap_or_default();
    let (is_oauth, token) = (mechanism == "OAUTHBEARER", section.get(OAUTH_TOKEN));
    match (&given, &token) {
        (_, Some(token)) if !is_oauth => {
            token.report(format!("`kafka.{OAUTH_TOKEN}` needs `sasl.mechanism: OAUTHBEARER`"));
        }
        (Some(given), None) if is_oauth => {
            given.report(format!("OAUTHBEARER needs `{OAUTH_TOKEN}: {{file: PATH}}`, where {OAUTH_BY_FILE}"));
        }
        _ => {}
    }
    let needs_tls = is_oauth || mechanism.starts_with("SCRAM-");
    if let Some(given) = given.filter(|_| needs_tls && !cfg!(feature = "tls-system")) {
        given.report(format!("{} {WITHOUT_TLS}", given.label()));
    }
}

/// Continues a sentence that starts with the property.
fn unknown(name: &str) -> String {
    match spelling::closest(name, COMMON.iter().copied()) {
        Some(near) => format!("is no property of librdkafka; did you mean `{near}`?"),
        None => "is no property of librdkafka".to_owned(),
    }
}

/// Continues a sentence that starts with the property. The problem never holds the value.
fn refused(problem: &str, value: &Secretable) -> String {
    if problem.starts_with("must be") || problem.starts_with("cannot be") {
        return problem.to_owned();
    }
    if problem.contains("not available at build time") || problem.contains("in this build") {
        return WITHOUT_TLS.to_owned();
    }
    match value {
        // Which says no more than this.
        Secretable::Plain(text) if problem.starts_with("Invalid value") => {
            format!("cannot be {}", shown(text))
        }
        Secretable::Plain(text) => format!("cannot be {}: {}", shown(text), problem.trim_end()),
        Secretable::Hidden(_) | Secretable::File(_) => "has a value that librdkafka does not take".to_owned(),
    }
}
