//! The CloudEvents 1.0 envelope on Kafka, in structured mode (the payload is the whole event) and in
//! binary mode (`ce_*` headers, the payload is the data).
//!
//! Source: CloudEvents 1.0.2 and its Kafka Protocol Binding 1.0.2.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Reason, Rejected};
use crate::log::Record;

/// The attributes that are looked at, and the data as JSON text. What is absent is `None`.
#[derive(Debug, Default)]
pub struct Envelope<'a> {
    /// The event's id within its source.
    pub id: Option<Cow<'a, str>>,
    /// Who says it.
    pub source: Option<Cow<'a, str>>,
    /// The event's type.
    pub kind: Option<Cow<'a, str>>,
    /// When it happened, as it was written.
    pub time: Option<Cow<'a, str>>,
    /// The event's data as JSON text.
    pub data: Option<&'a str>,
}

/// Text that is borrowed from the payload where it holds no escapes.
#[derive(Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

#[derive(Deserialize)]
struct Structured<'a> {
    #[serde(borrow)]
    specversion: Option<Text<'a>>,
    #[serde(borrow)]
    id: Option<Text<'a>>,
    #[serde(borrow)]
    source: Option<Text<'a>>,
    #[serde(borrow, rename = "type")]
    kind: Option<Text<'a>>,
    #[serde(borrow)]
    time: Option<Text<'a>>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    data_base64: Option<serde::de::IgnoredAny>,
}

/// Reads the envelope of a record.
///
/// # Errors
/// `not_json` for a payload that is no JSON, `wrong_kind` for attributes that are no text, for another
/// version of CloudEvents and for binary data.
pub fn read(record: &Record) -> Result<Envelope<'_>, Rejected> {
    let payload = record.payload.as_deref().unwrap_or_default();
    let text = std::str::from_utf8(payload)
        .map_err(|error| Rejected::new(Reason::NotJson, format!("the payload is not UTF-8: {error}")))?;
    if text.trim_ascii().is_empty() {
        return Err(Rejected::new(Reason::NotJson, "the payload is empty, expected a CloudEvent as JSON"));
    }
    let content_type = header(record, "content-type")?.unwrap_or_default();
    if content_type.starts_with("application/cloudevents-batch") {
        return Err(Rejected::new(Reason::WrongKind, "a batch of CloudEvents, expected one event a record"));
    }
    let binary = !content_type.starts_with("application/cloudevents")
        && record.headers.iter().any(|header| header.name == "ce_specversion" || header.name == "ce_id");
    if binary { read_binary(record, text) } else { read_structured(text) }
}

fn read_binary<'a>(record: &'a Record, text: &'a str) -> Result<Envelope<'a>, Rejected> {
    let attribute = |name: &str| Ok(header(record, name)?.map(Cow::Borrowed));
    check_version(header(record, "ce_specversion")?)?;
    let data: &RawValue = serde_json::from_str(text).map_err(|error| json_fault("the data", &error))?;
    Ok(Envelope {
        id: attribute("ce_id")?,
        source: attribute("ce_source")?,
        kind: attribute("ce_type")?,
        time: attribute("ce_time")?,
        data: Some(data.get()),
    })
}

fn read_structured(text: &str) -> Result<Envelope<'_>, Rejected> {
    let event: Structured<'_> =
        serde_json::from_str(text).map_err(|error| json_fault("the event", &error))?;
    check_version(event.specversion.as_ref().map(|text| text.0.as_ref()))?;
    if event.data.is_none() && event.data_base64.is_some() {
        return Err(Rejected::new(Reason::WrongKind, "data_base64 holds binary data, expected data as JSON"));
    }
    Ok(Envelope {
        id: event.id.map(|text| text.0),
        source: event.source.map(|text| text.0),
        kind: event.kind.map(|text| text.0),
        time: event.time.map(|text| text.0),
        data: event.data.map(RawValue::get),
    })
}

fn check_version(version: Option<&str>) -> Result<(), Rejected> {
    match version {
        None | Some("1.0") => Ok(()),
        Some(other) => {
            let shown: String = other.chars().take(20).collect();
            Err(Rejected::new(Reason::WrongKind, format!("specversion is \"{shown}\", expected \"1.0\"")))
        }
    }
}

/// A header's value as text. Header names are compared without regard to case, as HTTP does.
fn header<'a>(record: &'a Record, name: &str) -> Result<Option<&'a str>, Rejected> {
    let found = record.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
    let Some(value) = found.and_then(|header| header.value.as_deref()) else { return Ok(None) };
    std::str::from_utf8(value)
        .map(Some)
        .map_err(|_| Rejected::new(Reason::WrongKind, format!("header {name} is not UTF-8 text")))
}

/// Tells JSON that cannot be read from JSON that says something else than expected.
pub(super) fn json_fault(what: &str, error: &serde_json::Error) -> Rejected {
    let reason = if error.is_data() { Reason::WrongKind } else { Reason::NotJson };
    Rejected::new(reason, format!("{what} cannot be read: {error}"))
}
