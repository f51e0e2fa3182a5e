//! Puts what the environment and the flags say over what the file says.

use std::ffi::OsString;
use std::fmt;

use crate::spelling;
use crate::yaml::{Collector, Content, Entry, Node, Place, shown};

/// What every variable of the worker starts with.
const PREFIX: &str = "ACCRUAL_";

/// Settings that one variable or flag can give, beside all of `kafka`.
const SETTINGS: &[&str] = &[
    "inputs",
    "outputs.awards",
    "outputs.tier_changes",
    "outputs.accounts",
    "outputs.dead_letters",
    "outputs.internal",
    "store",
    "programme",
    "http.listen",
    "http.accounts",
    "http.rate.per_second",
    "http.rate.burst",
    "http.member_rate.per_second",
    "http.member_rate.burst",
    "http.max_requests",
    "http.redemptions.topic",
    "http.redemptions.wait",
    "lanes",
    "batch.max_events",
    "batch.max_wait",
    "dedupe.window",
    "dead_letters.max_share",
    "dead_letters.min_events",
    "dead_letters.window",
    "refunds.window",
    "history",
    "shutdown.grace",
    "create_topics",
    "buckets",
    "cache.accounts",
    "instance",
    "limits.max_record_bytes",
];

/// Settings that a variable gives by naming a file: `ACCRUAL_STORE_FILE`. So it is with all of `kafka`.
const FILES: &[&str] = &["store", "http.tokens", "http.member_tokens"];

/// Variables with the worker's prefix that are no settings: each a name, or the start of names.
const RESERVED: &[&str] =
    &["ACCRUAL_LOG", "ACCRUAL_CONFIG", "ACCRUAL_TEST_", "ACCRUAL_REQUIRE_", "ACCRUAL_BENCH_"];

/// A setting given by a flag.
#[derive(Clone)]
pub struct Override {
    /// The setting's path: `batch.max_wait`, `kafka.bootstrap.servers`.
    pub setting: String,
    /// Its value, as text.
    pub value: String,
    /// The flag, as messages name it: `--max-wait`.
    pub flag: String,
}

impl fmt::Debug for Override {
    /// Leaves out the value, which may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { setting, value: _, flag } = self;
        write!(f, "{flag} for {setting}")
    }
}

/// Where a variable or a flag puts its value.
enum Target {
    /// At this path.
    Setting(String),
    /// At this path, as `{file: value}`.
    FileOf(String),
}

/// Puts the variables over the file's settings.
pub(super) fn environment(
    root: &mut Node,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
    collector: &Collector,
) {
    for (name, value) in variables {
        let name = name.to_string_lossy().into_owned();
        let Some(setting) = name.strip_prefix(PREFIX) else {
            continue;
        };
        if is_reserved(&name) || is_service_link(&name) {
            continue;
        }
        let place = Place::Variable(name.clone());
        let Some(target) = target_of(setting) else {
            collector.report(&place, unknown_variable(&name));
            continue;
        };
        match value.to_str() {
            None => collector.report(&place, format!("{name} is not UTF-8 text")),
            Some("") => collector.report(&place, format!("{name} is empty; give it a value or unset it")),
            Some(value) => put_target(root, &target, value, &place),
        }
    }
}

/// Puts the flags over everything else.
pub(super) fn flags(root: &mut Node, overrides: &[Override], collector: &Collector) {
    for Override { setting, value, flag } in overrides {
        let place = Place::Flag(flag.clone());
        if SETTINGS.contains(&setting.as_str()) || setting.starts_with("kafka.") {
            put_target(root, &Target::Setting(setting.clone()), value, &place);
        } else {
            let message = match spelling::closest(setting, SETTINGS.iter().copied()) {
                Some(near) => format!("there is no setting {}; did you mean `{near}`?", shown(setting)),
                None => format!("there is no setting {}", shown(setting)),
            };
            collector.report(&place, message);
        }
    }
}

/// `BATCH__MAX_WAIT` is `batch.max_wait`. Within `kafka` every further `__` is a dot, and a property
/// whose name ends with `_FILE` takes its value from that file.
fn target_of(variable: &str) -> Option<Target> {
    let setting = variable.to_ascii_lowercase().replace("__", ".");
    if SETTINGS.contains(&setting.as_str()) {
        return Some(Target::Setting(setting));
    }
    let (path, is_file) = match setting.strip_suffix("_file") {
        Some(path) => (path.to_owned(), true),
        None => (setting, false),
    };
    let property = path.strip_prefix("kafka.").filter(|property| !property.is_empty());
    match (property, is_file) {
        (Some(_), false) => Some(Target::Setting(path)),
        (Some(_), true) => Some(Target::FileOf(path)),
        (None, true) if FILES.contains(&path.as_str()) => Some(Target::FileOf(path)),
        (None, _) => None,
    }
}

fn is_reserved(name: &str) -> bool {
    RESERVED
        .iter()
        .any(|reserved| name == *reserved || (reserved.ends_with('_') && name.starts_with(reserved)))
}

/// Whether Kubernetes made the variable for a Service called `accrual` or `accrual-…`, such as
/// `ACCRUAL_SERVICE_HOST` or `ACCRUAL_HTTP_PORT_9464_TCP_ADDR`. Nobody wrote those for the worker.
fn is_service_link(name: &str) -> bool {
    let ends_so = |marker: &str| {
        name.rsplit_once(marker).is_some_and(|(_, rest)| rest.is_empty() || rest.starts_with('_'))
    };
    ends_so("_SERVICE_HOST") || ends_so("_SERVICE_PORT") || ends_so("_PORT")
}

fn unknown_variable(name: &str) -> String {
    let known: Vec<String> = SETTINGS.iter().map(|setting| variable_of(setting)).collect();
    let files: Vec<String> = FILES.iter().map(|setting| variable_of(setting) + "_FILE").collect();
    let known = known.iter().chain(&files).map(String::as_str).chain(["ACCRUAL_LOG", "ACCRUAL_CONFIG"]);
    // The prefix is no part of what was misspelt.
    let after_prefix = known.filter_map(|known| known.strip_prefix(PREFIX));
    match spelling::closest(name.strip_prefix(PREFIX).unwrap_or(name), after_prefix) {
        Some(near) => format!("there is no setting for {}; did you mean `{PREFIX}{near}`?", shown(name)),
        None => format!(
            "there is no setting for {}; `__` stands between the parts of a setting's name, as in `ACCRUAL_BATCH__MAX_WAIT`",
            shown(name)
        ),
    }
}

/// The variable that gives a setting.
pub(super) fn variable_of(setting: &str) -> String {
    format!("{PREFIX}{}", setting.replace('.', "__").to_ascii_uppercase())
}

fn put_target(root: &mut Node, target: &Target, value: &str, place: &Place) {
    match target {
        Target::Setting(path) if path == "inputs" => put(root, path, topics(value, place), place),
        Target::Setting(path) if path == "programme" && value.contains(',') => {
            put(root, path, list(value, place), place);
        }
        Target::Setting(path) => put(root, path, Node::scalar(value, place.clone()), place),
        Target::FileOf(path) => {
            let file = map_of("file", Node::scalar(value, place.clone()), place);
            put(root, path, file, place);
        }
    }
}

/// `a,b` as one input with both topics.
fn topics(value: &str, place: &Place) -> Node {
    let input = map_of("topics", list(value, place), place);
    Node { place: place.clone(), content: Content::List(vec![input]) }
}

/// `a,b` as a list.
fn list(value: &str, place: &Place) -> Node {
    let items = value.split(',').map(|item| Node::scalar(item.trim(), place.clone())).collect();
    Node { place: place.clone(), content: Content::List(items) }
}

fn map_of(key: &str, value: Node, place: &Place) -> Node {
    let entry = Entry { key: key.to_owned(), key_place: place.clone(), value };
    Node { place: place.clone(), content: Content::Map(vec![entry]) }
}

/// Sets the value at a path of keys, replacing what is there. A section that the file wrote as something
/// else than a map stays, to be reported as such. A property of Kafka has dots in its name.
fn put(node: &mut Node, path: &str, value: Node, place: &Place) {
    let Content::Map(entries) = &mut node.content else {
        return;
    };
    let Some((section, rest)) = path.split_once('.') else {
        return replace(entries, path, value, place);
    };
    if !entries.iter().any(|entry| entry.key == section) {
        replace(entries, section, Node::empty_map(), place);
    }
    let Some(entry) = entries.iter_mut().find(|entry| entry.key == section) else {
        return;
    };
    match &mut entry.value.content {
        Content::Map(inner) if section == "kafka" => replace(inner, rest, value, place),
        _ => put(&mut entry.value, rest, value, place),
    }
}

fn replace(entries: &mut Vec<Entry>, key: &str, value: Node, place: &Place) {
    entries.retain(|entry| entry.key != key);
    entries.push(Entry { key: key.to_owned(), key_place: place.clone(), value });
}
