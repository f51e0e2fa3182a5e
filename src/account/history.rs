//! The last entries of an account, for "my points" pages. Deciding never looks into them.

use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::de::{SeqAccess, Visitor};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::entry::{EntryKind, Origin, Why};
use crate::types::{Points, RewardId};

/// An entry in short form, for "my points" pages.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct HistoryEntry {
    /// The event's time, in seconds since 1970.
    #[serde(rename = "t")]
    pub at: i64,
    /// What kind of entry it was.
    #[serde(rename = "k")]
    pub kind: EntryKind,
    /// Points moved.
    #[serde(rename = "p")]
    pub points: Points,
    /// Points that were cut, for a declined entry.
    #[serde(rename = "d", skip_serializing_if = "is_zero", default)]
    pub declined: Points,
    /// What paid.
    pub by: Origin,
    /// The reward that was given, or that was not, for a declined entry.
    #[serde(rename = "r", skip_serializing_if = "Option::is_none", default)]
    #[schemars(with = "RewardId")]
    pub reward: Option<RewardId>,
    /// Why it was declined.
    #[serde(rename = "why", skip_serializing_if = "Option::is_none", default)]
    pub why: Option<Why>,
    /// The event: source, a space, id.
    #[serde(rename = "e")]
    pub event: Arc<str>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // the signature that serde asks for
fn is_zero(points: &Points) -> bool {
    *points == Points::ZERO
}

/// Entries in short form, the newest last, as the JSON that they are kept as: text that is kept as it is costs a fraction
/// of being read and written anew with every event. In one piece, because each piece of an account that lies somewhere else in
/// memory is waited for by itself.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct History {
    /// What stands between the brackets of the list.
    list: Vec<u8>,
    many: usize,
}

impl History {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.many == 0
    }

    /// The entries as JSON, with commas between and without the list's brackets.
    pub fn as_json(&self) -> &[u8] {
        &self.list
    }

    /// Adds an entry, and forgets the oldest ones so that there are no more than `most`.
    pub fn push(&mut self, entry: &HistoryEntry, most: usize) {
        while self.many >= most.max(1) {
            let end = end_of_first(&self.list);
            self.list.drain(..self.list.len().min(end + 1));
            self.many -= 1;
        }
        self.begin_entry(USUAL);
        // Plain fields have no way to fail; see `Account::write_json`.
        let written = serde_json::to_writer(&mut self.list, entry);
        debug_assert!(written.is_ok());
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Each entry, the oldest first; nothing for one that somebody else wrote as something else.
    pub fn entries(&self) -> Vec<Option<HistoryEntry>> {
        let list = self.whole();
        let lines: Vec<&RawValue> = serde_json::from_slice(&list).unwrap_or_default();
        lines.iter().map(|line| serde_json::from_str(line.get()).ok()).collect()
    }

    fn whole(&self) -> Vec<u8> {
        [b"[", self.as_json(), b"]"].concat()
    }

    /// Makes room for an entry of so many bytes, and for no more: there are as many histories as accounts.
    fn begin_entry(&mut self, bytes: usize) {
        self.list.reserve_exact(bytes + 1);
        if self.many > 0 {
            self.list.push(b',');
        }
        self.many += 1;
    }
}

/// Bytes that nearly every entry fits in.
const USUAL: usize = 160;

/// Where the first value of a list without its brackets ends.
fn end_of_first(list: &[u8]) -> usize {
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for (at, byte) in list.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_text,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => return at,
            _ => {}
        }
    }
    list.len()
}

impl FromIterator<HistoryEntry> for History {
    fn from_iter<I: IntoIterator<Item = HistoryEntry>>(entries: I) -> Self {
        let mut history = Self::default();
        entries.into_iter().for_each(|entry| history.push(&entry, usize::MAX));
        history
    }
}

impl Serialize for History {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let list = self.whole();
        let lines: Vec<&RawValue> = serde_json::from_slice(&list).map_err(S::Error::custom)?;
        lines.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for History {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = History;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of entries")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<History, A::Error> {
                let mut history = History::default();
                while let Some(line) = list.next_element::<Box<RawValue>>()? {
                    let line = line.get().as_bytes();
                    history.begin_entry(line.len());
                    history.list.extend_from_slice(line);
                }
                Ok(history)
            }
        }

        deserializer.deserialize_seq(Reader)
    }
}

impl JsonSchema for History {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "History".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        <Vec<HistoryEntry>>::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(event: &str, points: i64) -> HistoryEntry {
        HistoryEntry {
            at: 7,
            kind: EntryKind::Earned,
            points: Points(points),
            declined: Points::ZERO,
            by: Origin::Rule("purchase".into()),
            reward: None,
            why: None,
            event: event.into(),
        }
    }

    proptest! {
        #[test]
        fn the_last_entries_are_kept_whatever_their_events_are_called(
            events in prop::collection::vec(r#"[a-z{}\[\],:"\\\n]{0,12}"#, 0..12),
            most in 1..5_usize,
        ) {
            let mut history = History::default();
            let entries: Vec<HistoryEntry> = (0..).zip(&events).map(|(points, event)| entry(event, points)).collect();
            entries.iter().for_each(|entry| history.push(entry, most));
            let kept = &entries[entries.len().saturating_sub(most)..];
            prop_assert_eq!(history.entries(), kept.iter().cloned().map(Some).collect::<Vec<_>>());
            prop_assert_eq!(serde_json::to_vec(&history).unwrap(), history.whole());
            let read: History = serde_json::from_str(&serde_json::to_string(&history).unwrap()).unwrap();
            prop_assert_eq!(read, history);
        }
    }

    #[test]
    fn an_entry_that_somebody_else_wrote_stays_as_it_is_until_it_is_the_oldest() {
        let mut history: History = serde_json::from_str(r#"[ {"x": [1, "],"]} , 5, "a\",b" ]"#).unwrap();
        assert_eq!(history.entries(), [None, None, None]);
        assert_eq!(history.as_json(), br#"{"x": [1, "],"]},5,"a\",b""#);
        history.push(&entry("e", 1), 3);
        assert!(history.as_json().starts_with(br#"5,"a\",b",{"t":7,"#), "{history:?}");
        history.push(&entry("e", 2), 1);
        assert_eq!(history.entries(), [Some(entry("e", 2))]);
    }
}
