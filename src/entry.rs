//! What goes out: entries of the ledger and tier changes, their ids and their form on a topic.

use std::sync::Arc;

use jiff::civil::Date;
use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::account::ProfileUpdate;
use crate::event::Event;
use crate::event::internal::{Celebration, REFERRED, Referred};
use crate::programme::Period;
use crate::programme::reward::Reward;
use crate::types::{CampaignId, EventId, MemberId, Occasion, Points, RuleId, TierId};

/// A change of an account. Each makes the account's version one more.
#[derive(Clone, PartialEq, Debug)]
pub enum Change {
    /// A line of the ledger.
    Entry(Entry),
    /// Another level.
    Tier(TierChange),
    /// Something that later conditions may ask for, where no entry says it.
    Noted(Noted),
}

/// What a member did or what was told of them, where the event made no entry that could say it.
#[derive(Clone, PartialEq, Debug)]
pub struct Noted {
    /// What.
    pub note: Note,
    /// The event's time, in seconds since 1970.
    pub at: i64,
    /// The event's day in the programme's zone.
    pub day: Date,
}

/// What the conditions of later events may ask for. It goes with the event's first entry, so that the
/// ledger alone rebuilds an account.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Note {
    /// An order was paid.
    Order {
        /// With this much money.
        #[schemars(with = "String", extend("pattern" = r"^-?[0-9]+(\.[0-9]+)?$"))]
        amount: Decimal,
    },
    /// The member signed in.
    SignIn {},
    /// The shop told something of the member.
    Profile(ProfileUpdate),
    /// The member's birthday, or that of their registration, has come.
    Celebrated {
        /// Which of both.
        occasion: Occasion,
        /// In which year.
        year: i16,
    },
    /// The member has referred a newcomer.
    Referred {
        /// Whom.
        newcomer: MemberId,
        /// When the newcomer registered, in seconds since 1970.
        registered: i64,
    },
}

/// One line of the ledger: points moved, or were declined, and why.
#[derive(Clone, PartialEq, Debug)]
pub struct Entry {
    /// What kind of line.
    pub kind: EntryKind,
    /// Points moved: positive for the member; zero where they were declined.
    pub points: Points,
    /// Points that were cut, for a declined entry.
    pub declined: Points,
    /// What paid.
    pub by: Origin,
    /// Tells entries of one event and one origin apart.
    pub index: u32,
    /// Why it was declined.
    pub why: Option<Why>,
    /// What it was computed from, where that is an amount: an order's money, or the base in points
    /// that a tier or a campaign pays more on.
    pub of: Option<Decimal>,
    /// What it is multiplied by, for a tier's or a campaign's.
    pub factor: Option<Decimal>,
    /// Days in a row: that the day counts for the rule's streak, or the length that a bonus is for.
    pub streak: Option<u32>,
    /// The reward that was given, or that was not, for a declined entry.
    pub reward: Option<Arc<Reward>>,
    /// What the event says for later conditions; on its first entry only.
    pub note: Option<Note>,
    /// The event's time, in seconds since 1970.
    pub at: i64,
    /// The event's day in the programme's zone.
    pub day: Date,
    /// The periods whose limits this entry counts toward.
    pub counts: Vec<Period>,
    /// The event: source, a space, id.
    pub event: Arc<str>,
}

/// The kinds of entry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// Points came.
    Earned,
    /// Points or a reward did not come, and the entry says why.
    Declined,
    /// A reward of the catalogue was given.
    Granted,
}

impl EntryKind {
    /// Every kind.
    pub const ALL: [EntryKind; 3] = [EntryKind::Earned, EntryKind::Declined, EntryKind::Granted];

    /// Its name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            EntryKind::Earned => "earned",
            EntryKind::Declined => "declined",
            EntryKind::Granted => "granted",
        }
    }

    /// The CloudEvents type of such an entry.
    pub fn event_type(self) -> &'static str {
        match self {
            EntryKind::Earned => "points.earned",
            EntryKind::Declined => "points.declined",
            EntryKind::Granted => "reward.granted",
        }
    }
}

/// What paid, or would have. As JSON `{"rule":"sign-in"}`, `{"streak_of":"sign-in"}`, `{"tier":"gold"}`
/// or `{"campaign":"double-eleven"}`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A rule: the base.
    Rule(RuleId),
    /// Days in a row of what a rule pays for.
    #[serde(rename = "streak_of")]
    Streak(RuleId),
    /// The tier's factor on the base.
    Tier(TierId),
    /// A campaign.
    Campaign(CampaignId),
}

impl Origin {
    /// The rule's, tier's or campaign's name.
    pub fn name(&self) -> &str {
        match self {
            Origin::Rule(rule) | Origin::Streak(rule) => rule.as_str(),
            Origin::Tier(tier) => tier.as_str(),
            Origin::Campaign(campaign) => campaign.as_str(),
        }
    }

    /// What kind of name that is.
    pub fn kind(&self) -> &'static str {
        match self {
            Origin::Rule(_) => "rule",
            Origin::Streak(_) => "streak",
            Origin::Tier(_) => "tier",
            Origin::Campaign(_) => "campaign",
        }
    }
}

/// Why points were declined.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The rule had paid as often as it may in the period.
    LimitTimes,
    /// The rule had paid as many points as it may in the period.
    LimitPoints,
    /// The amount is too small for a whole point.
    BelowOnePoint,
    /// The event is so late that its period's limit is not known any more.
    TooLate,
    /// The rule pays once for what `once_per` says, and has paid.
    AlreadyPaid,
    /// The campaign's budget had less left.
    Budget,
    /// The member had registered before.
    RegisteredBefore,
    /// Nobody refers themselves.
    SelfReferral,
    /// Whoever refers others has been a member before, and is not referred any more.
    NotANewcomer,
    /// The referrer registered no earlier than whom they say to have referred.
    JoinedLater,
}

impl Why {
    /// Its name in entries.
    pub fn as_str(self) -> &'static str {
        match self {
            Why::LimitTimes => "limit_times",
            Why::LimitPoints => "limit_points",
            Why::BelowOnePoint => "below_one_point",
            Why::TooLate => "too_late",
            Why::AlreadyPaid => "already_paid",
            Why::Budget => "budget",
            Why::RegisteredBefore => "registered_before",
            Why::SelfReferral => "self_referral",
            Why::NotANewcomer => "not_a_newcomer",
            Why::JoinedLater => "joined_later",
        }
    }
}

/// A member's change to another level.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TierChange {
    /// The level before.
    pub from: TierId,
    /// The level from now on.
    pub to: TierId,
    /// What it gives beside points.
    pub benefits: Vec<String>,
    /// What the member has earned, as tiers measure it.
    pub measure: Points,
    /// The event's time, in seconds since 1970.
    pub at: i64,
}

/// A change with the account as it left it.
#[derive(Clone, PartialEq, Debug)]
pub struct Applied {
    /// The change.
    pub change: Change,
    /// The account's version after it.
    pub version: u64,
    /// Points that could be spent after it.
    pub available: Points,
    /// Points held after it.
    pub pending: Points,
}

/// Renders what is published, for one programme.
#[derive(Clone, Debug)]
pub struct Renderer {
    source: String,
    programme: String,
}

/// The namespace of every id that accrual makes (a random UUID, fixed once).
const NAMESPACE: Uuid = Uuid::from_u128(0x6f1c_1c2e_91b0_4f3e_9c0b_5d2b_7a6e_83d1);

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
    /// What the event says for later conditions; on its first entry only.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Note")]
    noted: Option<&'a Note>,
    event: EventRef<'a>,
    programme: ProgrammeRef<'a>,
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
    /// Why it changed.
    #[schemars(extend("enum" = ["reached"]))]
    reason: &'static str,
    /// What the member has earned, as tiers measure it.
    measure: Points,
    /// The account's version after it.
    version: u64,
    event: EventRef<'a>,
    programme: ProgrammeRef<'a>,
}

/// A referral whose referrer is to be paid.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Referral {
    /// Whom to pay.
    pub referrer: MemberId,
    /// For what.
    pub referred: Referred,
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

    fn id(&self, parts: &[&str], number: u64) -> Uuid {
        let mut name = Vec::with_capacity(128);
        name.extend_from_slice(self.programme.as_bytes());
        for part in parts {
            name.push(0);
            name.extend_from_slice(part.as_bytes());
        }
        name.push(0);
        name.extend_from_slice(&number.to_be_bytes());
        Uuid::new_v5(&NAMESPACE, &name)
    }

    /// A change as the `CloudEvent` that is published for it, with the version of the programme that decided it.
    pub fn change(&self, event: &Event, applied: &Applied, version: &str) -> Vec<u8> {
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
                    noted: entry.note.as_ref(),
                    event: event_ref,
                    programme,
                };
                self.envelope(id, entry.kind.event_type(), &event.member, &event.time_text, data)
            }
            Change::Noted(noted) => {
                let id = self.id(&[&event.id.source, &event.id.id, "noted"], 0);
                let data = NotedData {
                    member_id: &event.member,
                    noted: &noted.note,
                    day: noted.day,
                    version: applied.version,
                    event: event_ref,
                    programme,
                };
                self.envelope(id, "member.noted", &event.member, &event.time_text, data)
            }
            Change::Tier(change) => {
                let parts = [event.id.source.as_ref(), &event.id.id, "tier-change", change.to.as_str()];
                let data = TierData {
                    member_id: &event.member,
                    from: &change.from,
                    to: &change.to,
                    benefits: &change.benefits,
                    reason: "reached",
                    measure: change.measure,
                    version: applied.version,
                    event: event_ref,
                    programme,
                };
                self.envelope(self.id(&parts, 0), "tier.changed", &event.member, &event.time_text, data)
            }
        }
    }

    /// The event that has the referrer of the event's member paid, for the internal topic.
    pub fn referred(&self, event: &Event, referral: &Referral) -> Vec<u8> {
        let id = self.id(&[&event.id.source, &event.id.id, "referred"], 0);
        let data = ReferredData { member_id: &referral.referrer, referred: &referral.referred };
        self.envelope(id, REFERRED, &referral.referrer, &event.time_text, data)
    }

    /// The event that says that a member's day has come, for the internal topic. `time` is the day's first moment.
    pub fn occasion(&self, member: &MemberId, day: &Celebration, time: &str) -> Vec<u8> {
        let kind = day.occasion.event_type();
        let id = self.id(&["clock", member.as_str(), kind], u64::try_from(day.year).unwrap_or_default());
        self.envelope(id, kind, member, time, OccasionData { member_id: member, year: day.year })
    }

    /// An account's snapshot: its JSON as stored, in an envelope.
    pub fn snapshot(&self, member: &MemberId, version: u64, time: &str, account_json: &[u8]) -> Vec<u8> {
        let id = self.id(&["account", member.as_str()], version);
        // The account is embedded as it is, so that it is serialised once for store and topic alike.
        let mut json = self.envelope(id, "account.changed", member, time, ());
        let tail = b"null}";
        if json.ends_with(tail) {
            json.truncate(json.len() - tail.len());
        }
        json.extend_from_slice(account_json);
        json.push(b'}');
        json
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
        let event = CloudEvent {
            specversion: "1.0",
            id: id.hyphenated().encode_lower(&mut text),
            source: &self.source,
            kind,
            subject: member,
            time,
            datacontenttype: "application/json",
            data,
        };
        let mut json = Vec::with_capacity(768);
        // Serialising plain structs into memory has no way to fail: no I/O, and all keys are text.
        let written = serde_json::to_writer(&mut json, &event);
        debug_assert!(written.is_ok());
        json
    }
}
