//! What stands on the dead letter topic: letters, as [`crate::lane`] writes them, and notes that one was replayed.
//!
//! A letter is a record byte for byte, and behind its own headers those that say why it is here and where from. Upstream's own
//! headers may have any names, so only what stands behind them is accrual's.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::event::Reason;
use crate::log::{Header, OutRecord, Record};
use crate::types::{Coordinates, TopicName};

const REASON: &str = "accrual-reason";
const DETAIL: &str = "accrual-detail";
/// Where a letter came from; absent where the worker made it itself.
const SOURCE: [&str; 3] = ["accrual-topic", "accrual-partition", "accrual-offset"];
/// The letter that was replayed.
const REPLAYED: &str = "accrual-replayed";

/// Payloads that are larger are not looked into for a table.
const LOOKED_INTO: usize = 1 << 20;

/// A record of the dead letter topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Found {
    /// A letter.
    Letter(Letter),
    /// A note.
    Replayed(Replayed),
    /// Something that accrual did not write.
    Foreign,
}

/// A letter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Letter {
    /// The record as it is on the dead letter topic, its headers only those that it came with.
    pub record: Record,
    /// Why it is here, by the name that the header has.
    pub reason: String,
    /// The same, where this accrual knows it.
    pub kind: Option<Reason>,
    /// What was wrong in words.
    pub detail: String,
    /// The record that it came from.
    pub source: Option<Coordinates>,
}

/// A letter was put back where it came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Replayed {
    /// The letter.
    pub letter: Coordinates,
    /// When, in milliseconds since 1970.
    pub at_ms: Option<i64>,
}

impl Found {
    /// Tells what a record of the dead letter topic is.
    pub fn of(mut record: Record) -> Self {
        let own = |header: &Header| text(header).into_owned();
        if let [.., last] = record.headers.as_slice()
            && last.name == REPLAYED
            && let Some(letter) = Coordinates::parse(&text(last))
        {
            return Found::Replayed(Replayed { letter, at_ms: record.published_ms });
        }
        let source = source(&record.headers);
        let behind = if source.is_some() { SOURCE.len() } else { 0 };
        let kept = record.headers.len().checked_sub(behind + 2);
        let Some(kept) = kept else { return Found::Foreign };
        let (reason, detail) = match record.headers.get(kept..) {
            Some([reason, detail, ..]) if reason.name == REASON && detail.name == DETAIL => {
                (own(reason), own(detail))
            }
            _ => return Found::Foreign,
        };
        record.headers.truncate(kept);
        let kind = Reason::ALL.into_iter().find(|kind| kind.as_str() == reason);
        Found::Letter(Letter { record, reason, kind, detail, source })
    }
}

/// The coordinates in the last headers.
fn source(headers: &[Header]) -> Option<Coordinates> {
    let [.., topic, partition, offset] = headers else { return None };
    if [topic, partition, offset].map(|header| header.name.as_str()) != SOURCE {
        return None;
    }
    Some(Coordinates {
        topic: TopicName::from(&*text(topic)),
        partition: text(partition).parse().ok()?,
        offset: text(offset).parse().ok()?,
    })
}

/// A header's value as text.
pub fn text(header: &Header) -> Cow<'_, str> {
    String::from_utf8_lossy(header.value.as_deref().unwrap_or_default())
}

/// What a letter's payload says of itself, as far as it can be read.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct About {
    /// Whose event it is.
    pub member: Option<String>,
    /// The event's id.
    pub event: Option<String>,
}

#[derive(Deserialize)]
struct Envelope {
    id: Option<Scalar>,
    member_id: Option<Scalar>,
    data: Option<Data>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Data {
    Map { member_id: Option<Scalar> },
    Other(IgnoredAny),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar {
    Text(String),
    Number(serde_json::Number),
    Other(IgnoredAny),
}

impl Scalar {
    fn text(self) -> Option<String> {
        match self {
            Scalar::Text(text) => Some(text).filter(|text| !text.is_empty()),
            Scalar::Number(number) => Some(number.to_string()),
            Scalar::Other(IgnoredAny) => None,
        }
    }
}

impl Letter {
    /// When it was written.
    pub fn time(&self) -> Option<Timestamp> {
        Timestamp::from_millisecond(self.record.published_ms?).ok()
    }

    /// Whose event it is and which: as an event in structured or in binary mode says it.
    pub fn about(&self) -> About {
        let payload = self.record.payload.as_deref().filter(|payload| payload.len() <= LOOKED_INTO);
        let envelope: Option<Envelope> = payload.and_then(|payload| serde_json::from_slice(payload).ok());
        let in_header = self.record.headers.iter().find(|header| header.name == "ce_id");
        let Some(Envelope { id, member_id, data }) = envelope else {
            return About { member: None, event: in_header.map(|header| text(header).into_owned()) };
        };
        if let Some(id) = in_header {
            // In binary mode the payload is the data.
            return About { member: member_id.and_then(Scalar::text), event: Some(text(id).into_owned()) };
        }
        let member = match data {
            Some(Data::Map { member_id }) => member_id.and_then(Scalar::text),
            Some(Data::Other(IgnoredAny)) | None => None,
        };
        About { member, event: id.and_then(Scalar::text) }
    }

    /// The record as it was on the topic that it came from.
    pub fn original(&self, topic: &TopicName) -> OutRecord {
        let Record { key, payload, headers, .. } = &self.record;
        OutRecord {
            topic: topic.clone(),
            key: key.clone(),
            payload: payload.clone(),
            headers: headers.clone(),
        }
    }

    /// The note that it was replayed, for the partition that it stands in.
    pub fn note(&self) -> OutRecord {
        let at = self.record.at.to_string();
        OutRecord {
            topic: self.record.at.topic.clone(),
            key: self.record.key.clone(),
            // Not nothing: were the topic compacted, that would take the letter away.
            payload: Some(format!("replayed {at}").into_bytes()),
            headers: vec![Header { name: REPLAYED.to_owned(), value: Some(at.into_bytes()) }],
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::types::Outputs;

    /// Where accrual publishes, the letters to `dead`.
    pub fn outputs() -> Outputs {
        Outputs {
            awards: "awards".into(),
            tier_changes: "tier-changes".into(),
            accounts: "accounts".into(),
            dead_letters: "dead".into(),
            internal: "internal".into(),
        }
    }

    pub fn header(name: &str, value: &str) -> Header {
        Header { name: name.to_owned(), value: Some(value.as_bytes().to_vec()) }
    }

    /// A letter's record as a lane writes it, with these headers of upstream's.
    pub fn record(own: &[Header], payload: &[u8], reason: &str, source: Option<(&str, i32, i64)>) -> Record {
        let mut headers = own.to_vec();
        headers.extend([header(REASON, reason), header(DETAIL, "it is wrong")]);
        if let Some((topic, partition, offset)) = source {
            let values = [topic.to_owned(), partition.to_string(), offset.to_string()];
            headers.extend(SOURCE.iter().zip(values).map(|(name, value)| header(name, &value)));
        }
        Record {
            at: Coordinates { topic: "dead".into(), partition: 2, offset: 17 },
            published_ms: Some(1_764_000_000_000),
            key: Some(b"k".to_vec()),
            payload: Some(payload.to_vec()),
            headers,
        }
    }

    pub fn letter(own: &[Header], payload: &[u8], reason: &str, source: Option<(&str, i32, i64)>) -> Letter {
        match Found::of(record(own, payload, reason, source)) {
            Found::Letter(letter) => letter,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_put_back_has_only_the_headers_that_it_came_with_whatever_they_are_called() {
        // Upstream's own names are accrual's: a letter that somebody forwarded to an input.
        let own = [header("trace", "1"), header("accrual-reason", "theirs"), header("accrual-offset", "9")];
        let letter = letter(&own, b"{oops", "not_json", Some(("shop", 3, 41)));
        assert_eq!((letter.reason.as_str(), letter.kind), ("not_json", Some(Reason::NotJson)));
        assert_eq!(letter.source, Coordinates::parse("shop/3/41"));
        let back = letter.original(&"shop".into());
        assert_eq!(
            (back.key.as_deref(), back.payload.as_deref()),
            (Some(b"k".as_slice()), Some(b"{oops".as_slice()))
        );
        assert_eq!(back.headers, own);
    }

    #[test]
    fn a_letter_that_the_worker_made_itself_has_no_source() {
        let letter = letter(&[], b"{}", "unknown_order", None);
        assert_eq!((letter.source, letter.kind), (None, Some(Reason::UnknownOrder)));
    }

    #[test]
    fn a_note_is_read_back_and_no_letter_even_where_upstream_forges_one() {
        let letter = letter(&[], b"{}", "no_id", Some(("shop", 3, 41)));
        let OutRecord { key, payload, headers, .. } = letter.note();
        let at = Coordinates { topic: "dead".into(), partition: 2, offset: 99 };
        let note = Record { at, published_ms: Some(7), key, payload, headers };
        let expected = Replayed { letter: letter.record.at.clone(), at_ms: Some(7) };
        assert_eq!(Found::of(note), Found::Replayed(expected));

        let forged = record(&[header(REPLAYED, "dead/2/17")], b"{}", "no_id", Some(("shop", 0, 1)));
        assert!(matches!(Found::of(forged), Found::Letter(_)));
        let foreign = Record { headers: vec![header("x", "y")], ..record(&[], b"", "no_id", None) };
        assert_eq!(Found::of(foreign), Found::Foreign);
    }

    #[test]
    fn whose_event_it_is_is_told_where_the_payload_says_so() {
        let about = |own: &[Header], payload: &str| {
            let About { member, event } = letter(own, payload.as_bytes(), "no_id", None).about();
            (member.unwrap_or_default(), event.unwrap_or_default())
        };
        let pair = |member: &str, event: &str| (member.to_owned(), event.to_owned());
        assert_eq!(about(&[], r#"{"id":"e1","data":{"member_id":"ann"}}"#), pair("ann", "e1"));
        assert_eq!(about(&[], r#"{"id":17,"data":[1]}"#), pair("", "17"));
        assert_eq!(about(&[], r#"{"id":["x"],"data":{"member_id":42}}"#), pair("42", ""));
        assert_eq!(about(&[header("ce_id", "e2")], r#"{"id":"no","member_id":"bob"}"#), pair("bob", "e2"));
        assert_eq!(about(&[header("ce_id", "e3")], "{oops"), pair("", "e3"));
        assert_eq!(about(&[], "{oops"), pair("", ""));
    }
}
