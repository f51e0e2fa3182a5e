//! From the tree of settings to a [`Config`].

use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

use rust_decimal::Decimal;

use super::overlay::variable_of;
use super::{
    Batch, Cache, Config, Dedupe, Input, Limits, Refunds, Secretable, Shutdown, StoreAddress, StoreFile,
    http, kafka, secret, store, topics,
};
use crate::lane::flood::FloodLimits;
use crate::types::{Buckets, TopicName};
use crate::yaml::{Map, Place, Value, parse_duration};

const MOST_LANES: usize = 64;

/// Reads and checks every setting; `None` where a problem was reported.
pub(super) fn config(root: &Value<'_>, folder: &Path) -> Option<Config> {
    let settings = root.map(&[
        "kafka",
        "inputs",
        "outputs",
        "store",
        "programme",
        "http",
        "lanes",
        "batch",
        "dedupe",
        "dead_letters",
        "refunds",
        "history",
        "shutdown",
        "create_topics",
        "buckets",
        "cache",
        "instance",
        "limits",
    ])?;
    // Everything is read before anything is given up, so that all problems are reported.
    let kafka = kafka::read(&settings, folder);
    let topics = topics::read(&settings);
    let store = required(&settings, "store").and_then(|value| store_address(&value, folder));
    let (store, store_file) = store.map_or((None, None), |(address, file)| (Some(address), file));
    let programmes = required(&settings, "programme").and_then(|value| programmes(&value, folder));
    let inputs: Option<Vec<TopicName>> = topics.as_ref().map(|(inputs, _)| inputs.concat());
    let http = http::read(&settings, folder, inputs.as_deref());
    let lanes = settings.get("lanes").map_or_else(|| Some(cores()), |value| value.whole(1..=MOST_LANES));
    let batch = batch(&settings);
    let dedupe = section(&settings, "dedupe", &["window"]);
    let window = optional(dedupe.as_ref(), "window", days(30), |value| value.duration("1h", "3650d"));
    let dead_letters = dead_letters(&settings);
    let refunds = section(&settings, "refunds", &["window"]);
    let refunds = optional(refunds.as_ref(), "window", days(90), |value| value.duration("1h", "3650d"));
    let history = settings.get("history").map_or(Some(10), |value| value.whole(0..=1_000));
    let shutdown = section(&settings, "shutdown", &["grace"]);
    let grace = optional(shutdown.as_ref(), "grace", seconds(25), |value| value.duration("1s", "1h"));
    let create_topics = settings.get("create_topics").map_or(Some(false), |value| value.boolean());
    let buckets = settings.get("buckets").map_or(Some(32), |value| value.whole(1..=16_384));
    let cache = section(&settings, "cache", &["accounts"]);
    let accounts = optional(cache.as_ref(), "accounts", 100_000, |value| value.whole(1..=100_000_000));
    let instance = settings.get("instance").map(|value| instance(&value));
    let limits = section(&settings, "limits", &["max_record_bytes"]);
    let max_record_bytes =
        optional(limits.as_ref(), "max_record_bytes", 1 << 20, |value| value.whole(1_024..=(100 << 20)));

    let (inputs, outputs) = topics?;
    Some(Config {
        kafka: kafka?,
        inputs: inputs.into_iter().map(|topics| Input { topics }).collect(),
        outputs,
        store: store?,
        store_file,
        programmes: programmes?,
        http: http?,
        lanes: lanes?,
        batch: batch?,
        dedupe: Dedupe { window: window? },
        dead_letters: dead_letters?,
        refunds: Refunds { window: refunds? },
        history: history?,
        shutdown: Shutdown { grace: grace? },
        create_topics: create_topics?,
        buckets: Buckets(buckets?),
        cache: Cache { accounts: accounts? },
        instance: transpose(instance)?,
        limits: Limits { max_record_bytes: max_record_bytes? },
    })
}

/// A setting that has no default: where it is missing, every way to give it is named.
pub(super) fn required<'a>(settings: &Map<'a>, key: &str) -> Option<Value<'a>> {
    let value = settings.get(key);
    if value.is_none() {
        settings.report(format!("`{key}` is missing; set it here or as {}", variable_of(key)));
    }
    value
}

/// A path is relative to the folder of the file that names it; on its own, to the working directory.
pub(super) fn path_from(value: &Value<'_>, folder: &Path, path: &str) -> PathBuf {
    match value.place() {
        Place::File { .. } => folder.join(path),
        _ => PathBuf::from(path),
    }
}

/// A section that may be left out.
pub(super) fn section<'a>(settings: &Map<'a>, key: &str, known: &[&str]) -> Option<Map<'a>> {
    settings.get(key)?.map(known)
}

/// A setting of a section that may be left out, or the section with it.
pub(super) fn optional<'a, T>(
    section: Option<&Map<'a>>,
    key: &str,
    default: T,
    read: impl FnOnce(Value<'a>) -> Option<T>,
) -> Option<T> {
    section.and_then(|section| section.get(key)).map_or(Some(default), read)
}

/// From "was it given, and was it right" to "is it right".
#[expect(clippy::option_option, reason = "absent is fine, wrong is not")]
fn transpose<T>(given: Option<Option<T>>) -> Option<Option<T>> {
    match given {
        None => Some(None),
        Some(None) => None,
        Some(Some(value)) => Some(Some(value)),
    }
}

fn cores() -> usize {
    available_parallelism().map_or(1, |cores| cores.get().min(MOST_LANES))
}

fn seconds(count: u64) -> std::time::Duration {
    std::time::Duration::from_secs(count)
}

fn days(count: u64) -> std::time::Duration {
    seconds(count * 24 * 60 * 60)
}

fn store_address(value: &Value<'_>, folder: &Path) -> Option<(StoreAddress, Option<StoreFile>)> {
    let text = secret::text_or_file(value, folder)?;
    match store::parse(text.reveal()) {
        Ok(address) => {
            let file = if let Secretable::File(file) = text { Some(StoreFile(file)) } else { None };
            Some((address, file))
        }
        Err(why) => {
            value.report(format!("{} {why}", value.label()));
            None
        }
    }
}

/// One file, or the files of several versions.
fn programmes(value: &Value<'_>, folder: &Path) -> Option<Vec<PathBuf>> {
    let files = if value.is_scalar() { vec![value.clone()] } else { value.list("a programme's file")? };
    if files.is_empty() {
        value.report("`programme` is empty; name at least one file, as in `programme: programme.yaml`");
    }
    let paths: Vec<Option<PathBuf>> =
        files.iter().map(|file| file.text().map(|text| path_from(file, folder, text))).collect();
    paths.into_iter().collect()
}

fn batch(settings: &Map<'_>) -> Option<Batch> {
    let section = section(settings, "batch", &["max_events", "max_wait"]);
    let max_events = optional(section.as_ref(), "max_events", 10_000, |value| value.whole(1..=100_000));
    let default = parse_duration("20ms").unwrap_or_default();
    let max_wait = optional(section.as_ref(), "max_wait", default, |value| value.duration("1ms", "10s"));
    Some(Batch { max_events: max_events?, max_wait: max_wait? })
}

fn dead_letters(settings: &Map<'_>) -> Option<FloodLimits> {
    let section = section(settings, "dead_letters", &["max_share", "min_events", "window"]);
    let usual = FloodLimits::default();
    let max_share = optional(section.as_ref(), "max_share", usual.max_share, |value| {
        value.decimal("a share from 0 to 1, such as 0.5; 1 for no limit", |share| {
            (Decimal::ZERO..=Decimal::ONE).contains(&share)
        })
    });
    let min_events =
        optional(section.as_ref(), "min_events", usual.min_events, |value| value.whole(1..=1_000_000_000));
    let window = optional(section.as_ref(), "window", usual.window, |value| value.duration("1s", "1d"));
    Some(FloodLimits { max_share: max_share?, min_events: min_events?, window: window? })
}

fn instance(value: &Value<'_>) -> Option<String> {
    value.read("1 to 100 letters, digits, `.`, `_` and `-`", |text| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        ((1..=100).contains(&text.len()) && text.chars().all(is_plain)).then(|| text.to_owned())
    })
}
