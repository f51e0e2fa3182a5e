//! Which dead letters are meant.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

use crate::event::Reason;
use crate::types::{Coordinates, TopicName};
use crate::yaml::parse_duration;

use super::Misused;
use super::letter::Letter;

/// Filters, all of which a letter must pass.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Filters {
    /// Only letters with this reason, such as `wrong_currency`; may be given again.
    #[arg(long, value_parser = reason)]
    pub reason: Vec<Reason>,
    /// Only letters that came from this topic.
    #[arg(long)]
    pub topic: Option<String>,
    /// Only letters written since then: `2h` for two hours ago, a date or a time in the programme's zone, or RFC 3339.
    #[arg(long)]
    pub since: Option<String>,
    /// Only letters written before then, in the same forms.
    #[arg(long)]
    pub until: Option<String>,
}

/// A reason by its name.
fn reason(name: &str) -> Result<Reason, String> {
    let found = Reason::ALL.into_iter().find(|reason| reason.as_str() == name);
    found.ok_or_else(|| {
        let known = Reason::ALL.map(Reason::as_str);
        format!("there is no reason of that name; known are {}", known.join(", "))
    })
}

/// Filters whose moments are read.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    reasons: Vec<Reason>,
    topic: Option<TopicName>,
    since_ms: Option<i64>,
    until_ms: Option<i64>,
    /// Only these letters; all where empty.
    letters: Vec<Coordinates>,
}

impl Filters {
    /// Whether there is none.
    pub fn are_none(&self) -> bool {
        let Self { reason, topic, since, until } = self;
        reason.is_empty() && topic.is_none() && since.is_none() && until.is_none()
    }

    /// Reads the moments, as of `now` in a zone.
    ///
    /// # Errors
    /// Which of them cannot be read.
    pub fn selection(&self, now: Timestamp, zone: &TimeZone) -> anyhow::Result<Selection> {
        let read = |flag: &str, text: &Option<String>| match text {
            None => Ok(None),
            Some(text) => match moment(text, now, zone) {
                Some(moment) => Ok(Some(moment.as_millisecond())),
                None => Err(Misused::told(format!(
                    "--{flag} {text:?} is no moment: expected such as 2h, 2026-11-22, 2026-11-22T10:00 or 2026-11-22T10:00:00Z"
                ))),
            },
        };
        Ok(Selection {
            reasons: self.reason.clone(),
            topic: self.topic.as_deref().map(TopicName::from),
            since_ms: read("since", &self.since)?,
            until_ms: read("until", &self.until)?,
            letters: Vec::new(),
        })
    }
}

/// `2h` is that long ago.
fn moment(text: &str, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    if let Some(ago) = parse_duration(text) {
        return now.checked_sub(ago).ok();
    }
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Some(moment);
    }
    let local = if text.contains('T') {
        text.parse::<DateTime>().ok()?
    } else {
        text.parse::<Date>().ok()?.to_datetime(jiff::civil::Time::midnight())
    };
    zone.to_timestamp(local).ok()
}

impl Selection {
    /// Only these letters of those.
    #[must_use]
    pub fn only(self, letters: Vec<Coordinates>) -> Self {
        Self { letters, ..self }
    }

    /// The letters that are named one by one.
    pub fn letters(&self) -> &[Coordinates] {
        &self.letters
    }

    /// Whether no filter was given.
    pub fn are_all(&self) -> bool {
        let Self { reasons, topic, since_ms, until_ms, letters } = self;
        let has_moment = since_ms.is_some() || until_ms.is_some();
        reasons.is_empty() && topic.is_none() && !has_moment && letters.is_empty()
    }

    /// From when on letters are wanted, in milliseconds since 1970.
    pub fn since_ms(&self) -> Option<i64> {
        self.since_ms
    }

    /// Whether it is meant.
    pub fn holds(&self, letter: &Letter) -> bool {
        let Self { reasons, topic, since_ms, until_ms, letters } = self;
        let source = letter.source.as_ref().map(|source| &source.topic);
        let at = letter.record.published_ms;
        (reasons.is_empty() || letter.kind.is_some_and(|kind| reasons.contains(&kind)))
            && topic.as_ref().is_none_or(|topic| source == Some(topic))
            && since_ms.is_none_or(|since| at.is_some_and(|at| at >= since))
            && until_ms.is_none_or(|until| at.is_some_and(|at| at < until))
            && (letters.is_empty() || letters.contains(&letter.record.at))
    }
}

/// A letter's coordinates: `topic/partition/offset`, or `partition/offset` of the dead letter topic.
pub fn coordinates(text: &str, topic: &TopicName) -> anyhow::Result<Coordinates> {
    let short = || Coordinates::parse(&format!("{topic}/{text}"));
    let found = if text.matches('/').count() == 1 { short() } else { Coordinates::parse(text) };
    let found = found.filter(|at| at.partition >= 0 && at.offset >= 0);
    found.ok_or_else(|| {
        Misused::told(format!(
            "{text:?} is no record's place: expected topic/partition/offset, such as {topic}/0/17"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::super::letter::tests::letter;
    use super::*;

    #[test]
    fn a_reason_that_there_is_not_names_those_that_there_are() {
        assert_eq!(reason("wrong_currency"), Ok(Reason::WrongCurrency));
        let error = reason("wrong_curency").unwrap_err();
        assert!(Reason::ALL.iter().all(|known| error.contains(known.as_str())), "{error}");
    }

    #[test]
    fn moments_are_read_as_people_write_them() {
        let now: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
        let zone = TimeZone::get("Asia/Shanghai").unwrap();
        let read = |text: &str| moment(text, now, &zone).map(|moment| moment.to_string());
        for (text, expected) in [
            ("2h", "2026-11-22T10:00:00Z"),
            ("30d", "2026-10-23T12:00:00Z"),
            ("2026-11-22", "2026-11-21T16:00:00Z"),
            ("2026-11-22T10:00", "2026-11-22T02:00:00Z"),
            ("2026-11-22T10:00:00+01:00", "2026-11-22T09:00:00Z"),
        ] {
            assert_eq!(read(text).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(read("yesterday"), None);
    }

    #[test]
    fn a_letter_must_pass_all_filters() {
        let letter = letter(&[], b"{}", "no_id", Some(("shop", 0, 1)));
        let at = letter.record.published_ms.unwrap();
        let all = Selection::default();
        assert!(all.holds(&letter));
        let of = |reason| Selection { reasons: vec![reason], ..Selection::default() };
        assert!(of(Reason::NoId).holds(&letter) && !of(Reason::NoTime).holds(&letter));
        let from = |topic: &str| Selection { topic: Some(topic.into()), ..of(Reason::NoId) };
        assert!(from("shop").holds(&letter) && !from("other").holds(&letter));
        let between =
            |since, until| Selection { since_ms: Some(since), until_ms: Some(until), ..from("shop") };
        assert!(between(at, at + 1).holds(&letter));
        assert!(!between(at + 1, at + 2).holds(&letter) && !between(at - 1, at).holds(&letter));
        assert!(all.clone().only(vec![letter.record.at.clone()]).holds(&letter));
        assert!(!all.only(vec![Coordinates { offset: 18, ..letter.record.at.clone() }]).holds(&letter));
    }

    #[test]
    fn a_letter_is_named_whole_or_by_its_place_on_the_dead_letter_topic() {
        let topic = TopicName::from("accrual.dead-letters");
        let expected = Coordinates { topic: topic.clone(), partition: 3, offset: 17 };
        assert_eq!(coordinates("3/17", &topic).unwrap(), expected);
        assert_eq!(coordinates("accrual.dead-letters/3/17", &topic).unwrap(), expected);
        for wrong in ["17", "x/y", "a/b/c", "t/-1/4", ""] {
            assert!(coordinates(wrong, &topic).is_err(), "{wrong}");
        }
    }
}
