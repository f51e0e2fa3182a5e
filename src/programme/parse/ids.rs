//! Ids: what they look like, and that none is given twice.

use std::collections::HashMap;

use crate::types::EventType;
use crate::yaml::{Map, Place, Value, shown};

/// The ids of one kind that were read so far, each with its place.
#[derive(Debug, Default)]
pub(super) struct Ids {
    places: HashMap<String, Place>,
}

impl Ids {
    /// The `id` of a map, which no other map of the kind has.
    pub(super) fn read(&mut self, map: &Map<'_>) -> Option<String> {
        let value = map.required("id")?;
        let id = id(&value)?;
        self.take(&id, &value)
    }

    /// A value that no other one of the kind is.
    pub(super) fn take(&mut self, id: &str, value: &Value<'_>) -> Option<String> {
        if let Some(first) = self.places.get(id) {
            let line = value.collector().line_of(first);
            value.report(format!("{} is given twice; the first is on line {line}", shown(id)));
            return None;
        }
        self.places.insert(id.to_owned(), value.place().clone());
        Some(id.to_owned())
    }

    /// Whether the id was read.
    pub(super) fn contains(&self, id: &str) -> bool {
        self.places.contains_key(id)
    }

    /// Every id that was read.
    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }
}

/// A name that stands in entries, metrics and messages.
pub(super) fn id(value: &Value<'_>) -> Option<String> {
    value.read("1 to 64 letters, digits, `-`, `_` and `.`, the first a letter or digit", |text| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let starts_well = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        (starts_well && text.len() <= 64 && text.chars().all(is_plain)).then(|| text.to_owned())
    })
}

/// The type of the events that a rule or a campaign is for.
pub(super) fn event_type(map: &Map<'_>) -> Option<EventType> {
    let value = map.required("on")?;
    let wanted =
        "an event type such as order.paid, of at most 128 letters, digits, `.`, `-`, `_`, `:` and `/`";
    value.read(wanted, |text| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '/');
        let is_type = !text.is_empty() && text.len() <= 128 && text.chars().all(is_plain);
        is_type.then(|| EventType::from(text))
    })
}
