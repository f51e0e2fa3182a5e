//! The ledger read back: from what [`Renderer`] published to the changes of an account, and from those to the
//! account itself. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use rust_decimal::Decimal;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::account::{Account, Lot, Retention};
use crate::entry::{
    About, Chain, Change, Entry, EntryKind, LedgerReceipts, More, Note, Noted, Origin, Renderer, TierChange,
    TierWhy, Why,
};
use crate::programme::Period;
use crate::programme::reward::Reward;
use crate::types::{EventId, EventType, MemberId, Points, PointsOverflow, TierId};

/// A published change of an account.
#[derive(Clone, PartialEq, Debug)]
pub struct Published {
    /// Its id; published again it has the same.
    pub id: Box<str>,
    /// Whose account it changed.
    pub member: MemberId,
    /// The event that caused it.
    pub event: EventId,
    /// That event's type.
    pub kind: EventType,
    /// That event's time.
    pub time: Timestamp,
    /// The account's version after it.
    pub version: u64,
    /// The change.
    pub change: Change,
    /// Points that could be spent and points held after it, as an entry says them.
    pub balance: Option<(Points, Points)>,
    /// The version of the programme that decided it.
    pub programme_version: Box<str>,
    /// What the event left in the store; on its first change only.
    pub receipts: Option<Box<LedgerReceipts<'static>>>,
    /// Its link of the member's chain; nothing where it was published before there was a chain.
    pub chain: Option<Chain>,
}

/// A record that is no published change, or is one that was altered.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a record of the ledger cannot be read: {0}")]
pub struct Unreadable(String);

/// An event makes far fewer entries.
const MOST_ENTRIES: u32 = 10_000;

#[derive(Deserialize)]
struct Envelope<'a> {
    id: Box<str>,
    #[serde(rename = "type")]
    kind: Box<str>,
    time: Timestamp,
    #[serde(borrow)]
    data: &'a RawValue,
}

#[derive(Deserialize)]
struct EntryData {
    points: Points,
    available: Points,
    pending: Points,
    #[serde(default)]
    declined: Points,
    #[serde(flatten)]
    by: Origin,
    of: Option<Decimal>,
    factor: Option<Decimal>,
    streak: Option<u32>,
    reward: Option<Arc<Reward>>,
    reason: Option<Why>,
    day: Date,
    #[serde(default)]
    counts: Vec<Period>,
    noted: Option<Note>,
    expires_at: Option<Timestamp>,
    held_until: Option<Timestamp>,
    #[serde(default)]
    lots: Vec<Lot>,
    #[serde(flatten)]
    about: About,
}

#[derive(Deserialize)]
struct NotedData {
    noted: Note,
    day: Date,
}

#[derive(Deserialize)]
struct TierData {
    from: TierId,
    to: TierId,
    #[serde(default)]
    benefits: Vec<String>,
    measure: Points,
    reason: TierWhy,
    until: Option<Timestamp>,
    rested_on: Option<Timestamp>,
}

/// What all of them say.
#[derive(Deserialize)]
struct Common {
    member_id: MemberId,
    version: u64,
    event: EventRef,
    programme: ProgrammeRef,
    receipts: Option<Box<LedgerReceipts<'static>>>,
    chain: Option<Chain>,
}

#[derive(Deserialize)]
struct EventRef {
    source: Box<str>,
    id: Box<str>,
    #[serde(rename = "type")]
    kind: EventType,
}

#[derive(Deserialize)]
struct ProgrammeRef {
    name: String,
    version: Box<str>,
}

impl Published {
    /// Reads a record of the topics of awards and of tier changes.
    ///
    /// # Errors
    /// Where it is none of ours.
    pub fn parse(payload: &[u8]) -> Result<Self, Unreadable> {
        let envelope: Envelope<'_> = json(payload)?;
        let data = envelope.data.get().as_bytes();
        let Common { member_id, version, event, programme, receipts, chain } = json(data)?;
        let id = EventId { source: event.source, id: event.id };
        let at = envelope.time.as_second();
        let mut balance = None;
        let change = match &*envelope.kind {
            "member.noted" => {
                let NotedData { noted, day } = json(data)?;
                let renderer = Renderer::new(&programme.name);
                let index = index_of(&envelope.id, |index| renderer.noted_id(&id, index))?;
                Change::Noted(Noted { note: noted, index, at, day })
            }
            "tier.changed" | "tier.kept" | "tier.review-due" => {
                let TierData { from, to, benefits, measure, reason, until, rested_on } = json(data)?;
                let (until, rested_on) =
                    (until.map(Timestamp::as_second), rested_on.map(Timestamp::as_second));
                let change = TierChange { from, to, benefits, measure, why: reason, until, at, rested_on };
                if Renderer::new(&programme.name).tier_id(&id, &change).to_string() != *envelope.id {
                    return Err(not_its_own(&envelope.id));
                }
                Change::Tier(change)
            }
            kind => {
                let known = EntryKind::ALL.into_iter().find(|known| known.event_type() == kind);
                let kind = known.ok_or_else(|| Unreadable(format!("its type is {kind}")))?;
                let data: EntryData = json(data)?;
                let EntryData {
                    points,
                    available,
                    pending,
                    declined,
                    by,
                    of,
                    factor,
                    streak,
                    reward,
                    reason,
                    day,
                    counts,
                    noted,
                    expires_at,
                    held_until,
                    lots,
                    about,
                } = data;
                balance = Some((available, pending));
                let has_more = !lots.is_empty() || about != About::default();
                let renderer = Renderer::new(&programme.name);
                let index = index_of(&envelope.id, |index| renderer.entry_id(&id, &by, index))?;
                Change::Entry(Box::new(Entry {
                    kind,
                    points,
                    declined,
                    by,
                    index,
                    why: reason,
                    of,
                    factor,
                    streak,
                    reward,
                    note: noted,
                    at,
                    day,
                    counts,
                    expires: expires_at.map(Timestamp::as_second),
                    release: held_until.map(Timestamp::as_second),
                    more: has_more.then(|| Box::new(More { lots, about })),
                    event: id.to_string().into(),
                }))
            }
        };
        Ok(Self {
            id: envelope.id,
            member: member_id,
            event: id,
            kind: event.kind,
            time: envelope.time,
            version,
            change,
            balance,
            programme_version: programme.version,
            receipts,
            chain,
        })
    }
}

fn json<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, Unreadable> {
    serde_json::from_slice(text).map_err(|error| Unreadable(error.to_string()))
}

/// The index that an entry's id was made with, which is not published by itself. An entry whose event or origin was
/// altered has none.
fn index_of(id: &str, made: impl Fn(u32) -> uuid::Uuid) -> Result<u32, Unreadable> {
    let mut text = uuid::Uuid::encode_buffer();
    let mut is_it = |index| made(index).hyphenated().encode_lower(&mut text) == id;
    let found = (0..MOST_ENTRIES).find(|index| is_it(*index));
    found.ok_or_else(|| not_its_own(id))
}

fn not_its_own(id: &str) -> Unreadable {
    Unreadable(format!("id {id} is not that of its event and of what changed"))
}

/// A member's part of the ledger, each version once and in order.
#[derive(Clone, Default, Debug)]
pub struct Ledger(BTreeMap<u64, Published>);

impl Ledger {
    /// Takes in a change, in any order; the same one again is the same.
    pub fn add(&mut self, published: Published) {
        self.0.entry(published.version).or_insert(published);
    }

    /// Every change, by the version that it led to.
    pub fn changes(&self) -> impl Iterator<Item = &Published> {
        self.0.values()
    }

    /// What an event changed.
    pub fn of(&self, event: &EventId) -> Vec<&Published> {
        self.changes().filter(|published| published.event == *event).collect()
    }

    /// Whether nothing is missing up to a version of the account. The first is 1.
    pub fn is_whole_to(&self, version: u64) -> bool {
        self.0.range(..=version).count() as u64 == version
    }

    /// The account that the changes come to which `counts` names.
    ///
    /// # Errors
    /// Where points would leave their range: these are not the changes of one account.
    pub fn fold(
        &self,
        member: &MemberId,
        retention: &Retention,
        counts: impl Fn(&Published) -> bool,
    ) -> Result<Account, PointsOverflow> {
        let mut account = Account::new(member.clone());
        self.fold_onto(&mut account, retention, counts)?;
        Ok(account)
    }

    /// The same onto an account that holds what came before. Its version is that of the last change, also where one in
    /// between was never published.
    ///
    /// # Errors
    /// As for [`Ledger::fold`]; the account is then of no more use.
    pub fn fold_onto(
        &self,
        account: &mut Account,
        retention: &Retention,
        counts: impl Fn(&Published) -> bool,
    ) -> Result<(), PointsOverflow> {
        for published in self.changes().filter(|published| counts(published)) {
            account.evolve(&published.change, retention)?;
            account.version = published.version;
            account.chain = published.chain;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::decode::{Decoded, Decoder};
    use crate::log::Record;
    use crate::programme::Programme;
    use crate::rules::{Outside, apply};
    use crate::types::Coordinates;

    const KEEPS: Retention = Retention { history: 10, months: 12, days: 30 };

    const PROGRAMME: &str = "
programme: shop
timezone: Asia/Shanghai
currency: CNY
tiers: {window: P12M, levels: [{id: basic, from: 0}, {id: silver, from: 100, earn: 1.5}, {id: gold, from: 900, earn: 2}]}
rules:
  - {id: purchase, on: order.paid, when: data.amount >= 5, earn: {points: 3, per: 2.00}, limit: {points: 150, per: month}}
  - {id: sign-in, on: member.signed_in, earn: {points: 5}, streak: {2: 20}, limit: [{times: 1, per: day}, {points: 50, per: month}], give: ten-off}
  - {id: large, on: order.paid, when: data.amount >= 200, limit: {times: 2, per: week}, give: mug}
campaigns:
  - {id: regulars, on: order.paid, multiply: 1.3, audience: member.orders >= 1}
redemption:
  rewards: [{id: ten-off, kind: coupon, points: 900, worth: 10.00}, {id: mug, kind: goods, points: 1200}]
";

    /// A record of a member's: an order, a sign-in or a registration.
    fn record(number: usize, what: u8, day: u8, cents: u32) -> Record {
        let (kind, data) = match what {
            0 => ("member.signed_in", String::new()),
            1 => {
                let birthday = format!(r#","birthday":"1990-05-{:02}""#, day.max(1));
                (
                    "member.registered",
                    format!(r#"{birthday},"segments":["vip"],"attributes":{{ "a": [1, 2.50] }}"#),
                )
            }
            _ => {
                let amount = format!("{}.{:02}", cents / 100, cents % 100);
                ("order.paid", format!(r#","order_id":"o{number}","currency":"CNY","amount":"{amount}""#))
            }
        };
        let payload = format!(
            r#"{{"specversion":"1.0","id":"e {number}","source":"s","type":"{kind}","time":"2026-11-{day:02}T10:00:00.25+08:00","data":{{"member_id":"m"{data}}}}}"#
        );
        Record {
            at: Coordinates { topic: "t".into(), partition: 0, offset: 0 },
            published_ms: None,
            key: None,
            payload: Some(payload.into_bytes()),
            headers: Vec::new(),
        }
    }

    proptest! {
        #[test]
        fn what_is_published_is_read_back_as_it_was_and_folds_to_the_account(
            events in proptest::collection::vec((0..4_u8, 1..29_u8, 0..50_000_u32), 1..25),
            order in any::<u64>(),
        ) {
            let programme = Programme::parse("programme.yaml", PROGRAMME).unwrap();
            let decoder = Decoder::new(programme.by_type.keys().cloned().collect(), "CNY", 10_000);
            let renderer = Renderer::new(&programme.name);
            let mut account = Account::new("m".into());
            let mut published = Vec::new();
            for (number, (what, day, cents)) in events.into_iter().enumerate() {
                let Ok(Decoded::Event(event)) = decoder.decode(&record(number, what, day, cents)) else {
                    panic!("event {number}")
                };
                let outcome = apply(&programme, &mut account, &event, &KEEPS, &Outside::UNTOUCHED).unwrap();
                for applied in &outcome.applied {
                    let mut payload = renderer.change(&event, applied, &programme.version, None);
                    Chain::seal(&mut account.chain, &mut payload);
                    let read = Published::parse(&payload).unwrap();
                    prop_assert_eq!(&read.change, &applied.change);
                    prop_assert_eq!((read.version, &read.event, read.time), (applied.version, &event.id, event.time));
                    prop_assert_eq!((&read.kind, &*read.programme_version), (&event.kind, &*programme.version));
                    published.push(read);
                }
            }
            // Lanes may publish one member's changes in another order, and after a crash twice.
            let mut ledger = Ledger::default();
            published.sort_by_key(|published| published.version.wrapping_mul(order | 1));
            published.iter().chain(&published).cloned().for_each(|published| ledger.add(published));
            let ids: std::collections::HashSet<_> = published.iter().map(|published| &published.id).collect();
            prop_assert_eq!(ids.len(), published.len(), "two changes have one id");
            prop_assert!(ledger.is_whole_to(account.version) && !ledger.is_whole_to(account.version + 1));
            prop_assert_eq!(ledger.fold(&"m".into(), &KEEPS, |_| true).unwrap(), account);
        }
    }

    #[test]
    fn a_ledger_of_nothing_is_whole_to_the_beginning() {
        assert!(Ledger::default().is_whole_to(0) && !Ledger::default().is_whole_to(1));
    }

    #[test]
    fn an_entry_that_was_altered_is_told() {
        let programme = Programme::parse("programme.yaml", PROGRAMME).unwrap();
        let decoder = Decoder::new(programme.by_type.keys().cloned().collect(), "CNY", 10_000);
        let Ok(Decoded::Event(event)) = decoder.decode(&record(1, 0, 1, 0)) else { panic!() };
        let outcome =
            apply(&programme, &mut Account::new("m".into()), &event, &KEEPS, &Outside::UNTOUCHED).unwrap();
        let renderer = Renderer::new(&programme.name);
        let text = String::from_utf8(renderer.change(&event, &outcome.applied[0], &programme.version, None))
            .unwrap();
        assert!(Published::parse(text.as_bytes()).is_ok());
        for (from, to) in
            [("\"sign-in\"", "\"purchase\""), ("\"e 1\"", "\"e 2\""), ("points.earned", "points.given")]
        {
            assert!(text.contains(from), "{from} in {text}");
            assert!(Published::parse(text.replace(from, to).as_bytes()).is_err(), "{to}");
        }
    }
}
