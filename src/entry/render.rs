//! What is published of changes, as CloudEvents: their ids and their form on a topic.

use std::ops::Range;

use jiff::Timestamp;
use jiff::civil::Date;
use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::Serialize;
use sha1::{Digest, Sha1};
use uuid::{Builder, Uuid};

use super::{
    About, Applied, Chain, Change, EntryKind, LedgerReceipts, Message, Note, Origin, TierChange, TierWhy, Why,
};
use crate::account::{Lot, WaitingRefund};
use crate::event::Event;
use crate::event::deed::Refund;
use crate::event::internal::{CAME, Celebration, RECEIVED, REFERRED, Received, Referred, WAITED};
use crate::programme::Period;
use crate::programme::reward::Reward;
use crate::types::{EventId, MemberId, Points, TierId};

/// Renders what is published, for one programme.
#[derive(Clone, Debug)]
pub struct Renderer {
    source: String,
    programme: String,
}

/// The namespace of every id that accrual makes (a random UUID, fixed once).
const NAMESPACE: Uuid = Uuid::from_u128(0x6f1c_1c2e_91b0_4f3e_9c0b_5d2b_7a6e_83d1);

/// Bytes that nearly every record fits in.
const USUAL: usize = 1024;
/// Bytes of an envelope without its data, mostly.
const ENVELOPE: usize = 320;

/// What is published, as a `CloudEvent` 1.0 in structured mode. The record's key is the member.
#[derive(Serialize, JsonSchema)]
pub(crate) struct CloudEvent<'a, D: Serialize> {
    #[schemars(extend("const" = "1.0"))]
    specversion: &'static str,
    /// The same for the same decision, however often it is published: `UUIDv5` of programme, event,
    /// rule or tier, and index. A reader may drop what it has seen.
    #[schemars(extend("format" = "uuid"))]
    id: &'a str,
    /// `accrual/` and the programme's name.
    source: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    /// The member.
    subject: &'a MemberId,
    /// When what caused it happened, as upstream wrote it.
    #[schemars(extend("format" = "date-time"))]
    time: &'a str,
    #[schemars(extend("const" = "application/json"))]
    datacontenttype: &'static str,
    data: D,
}

/// One line of the ledger.
#[derive(Serialize, JsonSchema)]
pub(crate) struct EntryData<'a> {
    member_id: &'a MemberId,
    /// Points moved: positive for the member.
    points: Points,
    /// Points that were cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Points")]
    declined: Option<Points>,
    /// Points that could be spent after it.
    available: Points,
    /// Points held after it.
    pending: Points,
    /// The account's version after it.
    version: u64,
    #[serde(flatten)]
    by: &'a Origin,
    /// What it was computed from: an order's money, or the base in points that a tier or a campaign pays
    /// more on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", extend("pattern" = r"^-?[0-9]+(\.[0-9]+)?$"))]
    of: Option<Decimal>,
    /// What that base is multiplied by; the entry pays the part above 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", extend("pattern" = r"^[0-9]+(\.[0-9]+)?$"))]
    factor: Option<Decimal>,
    /// Days in a row: with a rule, how long its streak is now; with a bonus, the length that it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32")]
    streak: Option<u32>,
    /// The reward that was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Reward")]
    reward: Option<&'a Reward>,
    /// Why points or a reward were declined.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Why")]
    reason: Option<Why>,
    /// The event's day in the programme's zone, which limits and tiers count in.
    #[schemars(with = "String", extend("format" = "date"))]
    day: Date,
    /// The periods whose limits it counts toward.
    #[serde(skip_serializing_if = "<[Period]>::is_empty")]
    counts: &'a [Period],
    /// When points that came expire.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", extend("format" = "date-time"))]
    expires_at: Option<Timestamp>,
    /// When points that came are released, where they are held.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", extend("format" = "date-time"))]
    held_until: Option<Timestamp>,
    /// The lots that were taken, given back, or are about to expire.
    #[serde(skip_serializing_if = "<[Lot]>::is_empty")]
    lots: &'a [Lot],
    #[serde(flatten)]
    about: Option<&'a About>,
    /// What the event says for later conditions; on its first entry only.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Note")]
    noted: Option<&'a Note>,
    event: EventRef<'a>,
    programme: ProgrammeRef<'a>,
    #[serde(flatten)]
    ends: Ends<'a>,
}

/// What every change ends with.
#[derive(Serialize, JsonSchema)]
struct Ends<'a> {
    /// What the event left in the store; on its first change only.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "LedgerReceipts")]
    receipts: Option<&'a LedgerReceipts<'a>>,
    /// The link of the member's chain that this is: written last of all, see [`Chain::seal`].
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Chain")]
    chain: Option<Chain>,
}

/// What a member did or what was told of them, where nothing was earned or declined by it.
#[derive(Serialize, JsonSchema)]
pub(crate) struct NotedData<'a> {
    member_id: &'a MemberId,
    noted: &'a Note,
    /// The event's day in the programme's zone.
    #[schemars(with = "String", extend("format" = "date"))]
    day: Date,
    /// The account's version after it.
    version: u64,
    event: EventRef<'a>,
    programme: ProgrammeRef<'a>,
    #[serde(flatten)]
    ends: Ends<'a>,
}

/// A member's change to another level.
#[derive(Serialize, JsonSchema)]
pub(crate) struct TierData<'a> {
    member_id: &'a MemberId,
    /// The level before.
    from: &'a TierId,
    /// The level from now on.
    to: &'a TierId,
    /// What the level gives beside points.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    benefits: &'a [String],
    /// Why it changed, or was kept.
    reason: TierWhy,
    /// Until when the level is kept; absent for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", extend("format" = "date-time"))]
    until: Option<Timestamp>,
    /// When the order was paid that the level rested on and that is refunded.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", extend("format" = "date-time"))]
    rested_on: Option<Timestamp>,
    /// What the member has earned, as tiers measure it.
    measure: Points,
    /// The account's version after it.
    version: u64,
    event: EventRef<'a>,
    programme: ProgrammeRef<'a>,
    #[serde(flatten)]
    ends: Ends<'a>,
}

/// A referral, as accrual tells itself.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ReferredData<'a> {
    member_id: &'a MemberId,
    #[serde(flatten)]
    referred: &'a Referred,
}

/// A member's day, as accrual tells itself.
#[derive(Serialize, JsonSchema)]
pub(crate) struct OccasionData<'a> {
    member_id: &'a MemberId,
    /// In which year.
    year: i16,
}

/// A refund as it came.
#[derive(Serialize)]
struct RefundData<'a> {
    member_id: &'a MemberId,
    #[serde(flatten)]
    refund: &'a Refund,
}

/// The clock has come to something of a member's, as accrual tells itself.
#[derive(Serialize, JsonSchema)]
pub(crate) struct CameData<'a> {
    member_id: &'a MemberId,
}

/// A refund that has waited, as accrual tells itself.
#[derive(Serialize, JsonSchema)]
pub(crate) struct WaitedData<'a> {
    member_id: &'a MemberId,
    #[serde(flatten)]
    waiting: &'a WaitingRefund,
}

/// Points that come from another member, as accrual tells itself.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ReceivedData<'a> {
    member_id: &'a MemberId,
    #[serde(flatten)]
    received: &'a Received,
}

/// The event that caused it.
#[derive(Serialize, JsonSchema)]
struct EventRef<'a> {
    source: &'a str,
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
}

/// The programme that decided it.
#[derive(Serialize, JsonSchema)]
struct ProgrammeRef<'a> {
    name: &'a str,
    /// The first 12 hex digits of the file's hash.
    version: &'a str,
}

impl Renderer {
    /// A renderer for this programme, whose CloudEvents source is `accrual/<programme>`.
    pub fn new(programme: &str) -> Self {
        Self { source: format!("accrual/{programme}"), programme: programme.to_owned() }
    }

    /// The id of an entry: `UUIDv5` (RFC 9562) of programme, event, origin and index, so that the same
    /// decision has the same id however often it is made.
    pub fn entry_id(&self, event: &EventId, by: &Origin, index: u32) -> Uuid {
        self.id(&[&event.source, &event.id, by.kind(), by.name()], u64::from(index))
    }

    /// The id of a note.
    pub fn noted_id(&self, event: &EventId, index: u32) -> Uuid {
        self.id(&[&event.source, &event.id, "noted"], u64::from(index))
    }

    /// The id of a change to another level, or of what is told of one.
    pub fn tier_id(&self, event: &EventId, change: &TierChange) -> Uuid {
        // Of a review there may be several in one event, of different moments.
        let (name, number) = match change.why {
            TierWhy::Reached | TierWhy::Refunded => ("tier-change", 0),
            TierWhy::Review => ("tier-review", change.at),
            TierWhy::Kept => ("tier-kept", change.at),
            TierWhy::ReviewDue => ("tier-review-due", change.at),
        };
        let parts = [event.source.as_ref(), &event.id, name, change.to.as_str()];
        self.id(&parts, u64::try_from(number).unwrap_or_default())
    }

    fn id(&self, parts: &[&str], number: u64) -> Uuid {
        // `Uuid::new_v5` hashes without the processor's instructions for it, and wants the name in one piece.
        let mut hash = Sha1::new().chain_update(NAMESPACE).chain_update(&self.programme);
        for part in parts {
            hash.update([0]);
            hash.update(part);
        }
        hash.update([0]);
        hash.update(number.to_be_bytes());
        let [bytes @ .., _, _, _, _]: [u8; 20] = hash.finalize().into();
        Builder::from_sha1_bytes(bytes).into_uuid()
    }

    /// A change as the `CloudEvent` that is published for it, with the version of the programme that decided it and, on
    /// an event's first change, with what it left in the store. It is still to be sealed, see [`Chain::seal`].
    pub fn change(
        &self,
        event: &Event,
        applied: &Applied,
        version: &str,
        receipts: Option<&LedgerReceipts<'_>>,
    ) -> Vec<u8> {
        let ends = Ends { receipts, chain: None };
        let event_ref = EventRef { source: &event.id.source, id: &event.id.id, kind: event.kind.as_str() };
        let programme = ProgrammeRef { name: &self.programme, version };
        match &applied.change {
            Change::Entry(entry) => {
                let id = self.entry_id(&event.id, &entry.by, entry.index);
                let declined = (entry.kind == EntryKind::Declined).then_some(entry.declined);
                let data = EntryData {
                    member_id: &event.member,
                    points: entry.points,
                    declined,
                    available: applied.available,
                    pending: applied.pending,
                    version: applied.version,
                    by: &entry.by,
                    of: entry.of,
                    factor: entry.factor,
                    streak: entry.streak,
                    reward: entry.reward.as_deref(),
                    reason: entry.why,
                    day: entry.day,
                    counts: &entry.counts,
                    expires_at: entry.expires.and_then(moment),
                    held_until: entry.release.and_then(moment),
                    lots: entry.lots(),
                    about: entry.more.as_ref().map(|more| &more.about),
                    noted: entry.note.as_ref(),
                    event: event_ref,
                    programme,
                    ends,
                };
                let time = time_of(event, entry.at);
                self.envelope(id, entry.kind.event_type(), &event.member, &time, data)
            }
            Change::Noted(noted) => {
                let id = self.noted_id(&event.id, noted.index);
                let data = NotedData {
                    member_id: &event.member,
                    noted: &noted.note,
                    day: noted.day,
                    version: applied.version,
                    event: event_ref,
                    programme,
                    ends,
                };
                self.envelope(id, "member.noted", &event.member, &event.time_text, data)
            }
            Change::Tier(change) => {
                let data = TierData {
                    member_id: &event.member,
                    from: &change.from,
                    to: &change.to,
                    benefits: &change.benefits,
                    reason: change.why,
                    until: change.until.and_then(moment),
                    rested_on: change.rested_on.and_then(moment),
                    measure: change.measure,
                    version: applied.version,
                    event: event_ref,
                    programme,
                    ends,
                };
                let id = self.tier_id(&event.id, change);
                self.envelope(id, change.why.event_type(), &event.member, &time_of(event, change.at), data)
            }
        }
    }

    /// A message as the event that goes out: to the internal topic, or a refund as it came to the dead letters.
    pub fn message(&self, event: &Event, message: &Message) -> Vec<u8> {
        let id = |what: &str, of: &str| self.id(&[&event.id.source, &event.id.id, what, of], 0);
        match message {
            Message::Referred { referrer, referred } => {
                let id = self.id(&[&event.id.source, &event.id.id, "referred"], 0);
                let data = ReferredData { member_id: referrer, referred };
                self.envelope(id, REFERRED, referrer, &event.time_text, data)
            }
            Message::Waited(waiting) => {
                let data = WaitedData { member_id: &event.member, waiting };
                let id = id("waited", &waiting.refund.refund);
                self.envelope(id, WAITED, &event.member, &event.time_text, data)
            }
            Message::Unclaimed(waiting) => {
                let data = RefundData { member_id: &event.member, refund: &waiting.refund };
                let (source, id) = (&waiting.source, &waiting.id);
                envelope(source, id, "order.refunded", &event.member, &waiting.time, data, USUAL)
            }
            Message::Received { to, received } => {
                let data = ReceivedData { member_id: to, received };
                self.envelope(id("received", to.as_str()), RECEIVED, to, &event.time_text, data)
            }
        }
    }

    /// The event that says that a member's day has come, for the internal topic. `time` is the day's first moment.
    pub fn occasion(&self, member: &MemberId, day: &Celebration, time: &str) -> Vec<u8> {
        let kind = day.occasion.event_type();
        let id = self.id(&["clock", member.as_str(), kind], u64::try_from(day.year).unwrap_or_default());
        self.envelope(id, kind, member, time, OccasionData { member_id: member, year: day.year })
    }

    /// The event that says that something has fallen due by `second` in a member's account of this version, for the internal
    /// topic. Told again of the same version it is a repeat; points that come later and are due at a moment that was told of
    /// before are told of by an event of their own.
    pub fn came(&self, member: &MemberId, version: u64, second: i64, time: &str) -> Vec<u8> {
        let second = u64::try_from(second).unwrap_or_default();
        let id = self.id(&["clock", member.as_str(), CAME, &version.to_string()], second);
        self.envelope(id, CAME, member, time, CameData { member_id: member })
    }

    /// The event that has a refund looked at once more whose time to wait is over.
    pub fn waited(&self, member: &MemberId, waiting: &WaitingRefund, time: &str) -> Vec<u8> {
        let id = self.id(&["clock", member.as_str(), WAITED, &waiting.refund.refund], 0);
        self.envelope(id, WAITED, member, time, WaitedData { member_id: member, waiting })
    }

    /// An account's snapshot: its JSON as stored, which `write` adds, in an envelope; and where in it the account stands.
    pub fn snapshot(
        &self,
        member: &MemberId,
        version: u64,
        time: &str,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> (Vec<u8>, Range<usize>) {
        let id = self.id(&["account", member.as_str()], version);
        // The account is embedded as it is, so that it is serialised once for store and topic alike.
        let mut text = Uuid::encode_buffer();
        let id = id.hyphenated().encode_lower(&mut text);
        let mut json = envelope(&self.source, id, "account.changed", member, time, (), ENVELOPE);
        let tail = b"null}";
        if json.ends_with(tail) {
            json.truncate(json.len() - tail.len());
        }
        let start = json.len();
        write(&mut json);
        let within = start..json.len();
        json.push(b'}');
        (json, within)
    }

    fn envelope<D: Serialize>(
        &self,
        id: Uuid,
        kind: &str,
        member: &MemberId,
        time: &str,
        data: D,
    ) -> Vec<u8> {
        let mut text = Uuid::encode_buffer();
        envelope(&self.source, id.hyphenated().encode_lower(&mut text), kind, member, time, data, USUAL)
    }
}

fn envelope<D: Serialize>(
    source: &str,
    id: &str,
    kind: &str,
    member: &MemberId,
    time: &str,
    data: D,
    size: usize,
) -> Vec<u8> {
    let event = CloudEvent {
        specversion: "1.0",
        id,
        source,
        kind,
        subject: member,
        time,
        datacontenttype: "application/json",
        data,
    };
    let mut json = Vec::with_capacity(size);
    // Serialising plain structs into memory has no way to fail: no I/O, and all keys are text.
    let written = serde_json::to_writer(&mut json, &event);
    debug_assert!(written.is_ok());
    json
}

fn moment(second: i64) -> Option<Timestamp> {
    Timestamp::from_second(second).ok()
}

/// The time that a change is published with: its event's as upstream wrote it, or its own moment where that is another.
fn time_of(event: &Event, at: i64) -> std::borrow::Cow<'_, str> {
    match moment(at).filter(|_| at != event.time.as_second()) {
        Some(own) => own.to_string().into(),
        None => (&*event.time_text).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::RuleId;

    #[test]
    fn an_id_is_the_uuid_v5_of_programme_event_origin_and_index() {
        // python3 -c 'import uuid; print(uuid.uuid5(uuid.UUID("6f1c1c2e-91b0-4f3e-9c0b-5d2b7a6e83d1"), "bench\0shop\0e1\0rule\0purchase\0" + "\0" * 7 + "\x03"))'
        let event = EventId { source: "shop".into(), id: "e1".into() };
        let id = Renderer::new("bench").entry_id(&event, &Origin::Rule(RuleId::from("purchase")), 3);
        assert_eq!(id.to_string(), "b19d5bb2-afc9-520e-8568-711ea01e686e");
    }
}
