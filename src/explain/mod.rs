//! Why an event paid what it paid, for who answers a member: what the ledger holds of it, and what it comes to where
//! it is decided again, rule by rule. [`Explainer`] asks Kafka and the store; [`Explanation`] is the answer, the
//! same for HTTP and for the command line.
//!
//! The ledger is the truth of what was paid. Deciding again shows why, with the account as it was then, which is the
//! fold of the member's ledger up to the event.

mod again;
mod ask;
mod page;

use jiff::Timestamp;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::account::HistoryEntry;
use crate::account_view::By;
use crate::entry::{Act, Change, Entry, Origin, Why};
use crate::types::{CampaignId, EventType, MemberId, Points, RewardId, RuleId, TierId};

pub use ask::{ExplainError, Explainer, Question};
pub use page::page;

/// Why an event paid what it paid.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "event": {"source": "shop/web", "id": "o-123", "type": "order.paid", "time": "2026-11-11T12:15:00Z",
              "record": "shop.orders/3/1771"},
    "member_id": "ann",
    "before": {"as_of": "decided", "version": 17, "available": 1240, "pending": 0, "tier": "silver"},
    "steps": [
        {"rule": "purchase", "result": "paid", "points": 42, "why": "42.99 × 1 per 1.00"},
        {"tier": "silver", "result": "paid", "points": 4, "why": "42 × (1.1 − 1)"},
        {"campaign": "double-eleven", "result": "audience", "points": 0, "why": "`audience` did not hold",
         "condition": "member.tier in [\"gold\", \"diamond\"]"}
    ],
    "recorded": [
        {"type": "points.earned", "rule": "purchase", "points": 42, "of": "42.99"},
        {"type": "points.earned", "tier": "silver", "points": 4, "of": "42", "factor": "1.1"}
    ],
    "points": 46,
    "verdict": "same",
    "programme": {"name": "shop", "version": "8f3a0c11d2e4", "decided_by": "8f3a0c11d2e4"},
    "notes": []
}))]
pub struct Explanation {
    /// The event.
    pub event: EventView,
    /// Who did it.
    #[schema(value_type = String)]
    pub member_id: MemberId,
    /// The account that it was decided on again; null where it was not.
    pub before: Option<Before>,
    /// Every rule and campaign on the event's type, decided again, in the order in which they pay; empty where that
    /// could not be done.
    pub steps: Vec<Step>,
    /// What the ledger holds of the event.
    pub recorded: Vec<Recorded>,
    /// Points that the event moved: by the ledger or, where it holds nothing, decided again.
    #[schema(value_type = i64)]
    pub points: Points,
    /// How both compare.
    pub verdict: Verdict,
    /// The programme that it was decided by again.
    pub programme: ProgrammeView,
    /// What else a reader should know of this answer, in words.
    pub notes: Vec<String>,
}

/// An event.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct EventView {
    /// The CloudEvents source.
    pub source: String,
    /// The CloudEvents id, unique within its source.
    pub id: String,
    /// The CloudEvents type; null where its record is gone.
    #[serde(rename = "type")]
    #[schema(value_type = Option<String>)]
    pub kind: Option<EventType>,
    /// When it happened (RFC 3339); null where its record is gone.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub time: Option<Timestamp>,
    /// The record that it came in: topic, partition and offset.
    pub record: String,
}

/// The account before the event.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Before {
    /// Which state of the account this is.
    pub as_of: AsOf,
    /// Its version.
    pub version: u64,
    /// Points that could be spent.
    #[schema(value_type = i64)]
    pub available: Points,
    /// Points that were held.
    #[schema(value_type = i64)]
    pub pending: Points,
    /// The member's level; null where the programme has none.
    #[schema(value_type = Option<String>)]
    pub tier: Option<TierId>,
}

/// A state of an account.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AsOf {
    /// Exactly that which the event was decided on.
    Decided,
    /// That of the event's own time, because nothing says when it was decided. Events that came late make a difference.
    EventTime,
    /// That of now, because the ledger is not whole.
    Now,
}

/// What came of a rule, a streak, a tier or a campaign.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Step {
    /// The rule.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub rule: Option<RuleId>,
    /// The rule whose days in a row it is for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub streak_of: Option<RuleId>,
    /// The tier.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub tier: Option<TierId>,
    /// The campaign.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub campaign: Option<CampaignId>,
    /// What came of it.
    pub result: StepResult,
    /// Points that it paid.
    #[schema(value_type = i64)]
    pub points: Points,
    /// Points that were cut.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<i64>)]
    pub declined: Option<Points>,
    /// The reward that it gave; or that it did not, where it was declined.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub reward: Option<RewardId>,
    /// Why they were.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<Why>,
    /// How it was computed, or why it did not pay, in words.
    pub why: String,
    /// The condition that did not hold or could not be evaluated, as it is written.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub condition: Option<String>,
    /// For a rule that pays each item: the items that it did not pay for.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub items: Vec<ItemStep>,
}

/// An item of the order that a rule did not pay for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ItemStep {
    /// Which one, from 1.
    pub item: usize,
    /// Why not, in words.
    pub why: String,
}

/// What came of a rule or a campaign.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepResult {
    /// It paid.
    Paid,
    /// It paid a part, the rest was cut.
    Cut,
    /// It matched and all of it was cut.
    Declined,
    /// Its `when` did not hold.
    When,
    /// Its `audience` did not hold.
    Audience,
    /// The event is not in its period.
    During,
    /// The base that it multiplies is too small for a point more.
    NoBase,
    /// Another campaign of its group paid.
    Group,
    /// It pays the referrer, by an event of their own.
    Referrer,
    /// It pays with the member's first order.
    Waits,
    /// It pays a referrer, and nobody referred the member.
    NotReferred,
    /// A part of it could not be evaluated on this event, and so did not hold.
    Failed,
    /// It matched and made no entry.
    Nothing,
}

/// A line of the ledger.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Recorded {
    /// `points.earned`, `points.declined`, `reward.granted` or `tier.changed`, as published.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    pub kind: EventType,
    /// The rule that paid, or would have.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub rule: Option<RuleId>,
    /// The rule whose days in a row paid.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub streak_of: Option<RuleId>,
    /// The tier that paid more on top, or that the member has from then on.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub tier: Option<TierId>,
    /// The campaign that paid more on top.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub campaign: Option<CampaignId>,
    /// The reward that was asked for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub redemption: Option<RewardId>,
    /// What else moved points.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub act: Option<Act>,
    /// Points moved.
    #[schema(value_type = i64)]
    pub points: Points,
    /// Points that were cut.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<i64>)]
    pub declined: Option<Points>,
    /// The reward that was given; or that was not, where it was declined.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub reward: Option<RewardId>,
    /// Why they were.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<Why>,
    /// What it was computed from.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub of: Option<Decimal>,
    /// What that was multiplied by.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub factor: Option<Decimal>,
}

/// How what is recorded and what comes of deciding again compare.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Decided again, it comes to the same.
    Same,
    /// Decided again, it comes to something else; what is recorded holds.
    Differs,
    /// Nothing recorded of it was found, and it is not known whether there is something.
    Unrecorded,
    /// It could not be decided again; what is recorded holds.
    Undecided,
}

/// A programme and its versions.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ProgrammeView {
    /// Its name.
    pub name: String,
    /// The version that the event was decided by again.
    pub version: String,
    /// The version that decided it then, by the ledger; null where that does not say.
    pub decided_by: Option<String>,
}

impl Recorded {
    /// A change as it is recorded; nothing for one that only takes note of what a member did.
    fn of_change(change: &Change) -> Option<Self> {
        match change {
            Change::Entry(entry) => Some(Self::of_entry(entry)),
            Change::Tier(change) => Some(Self {
                kind: "tier.changed".into(),
                of: Some(change.measure.0.into()),
                ..Self::by(&Origin::Tier(change.to.clone()))
            }),
            Change::Noted(_) => None,
        }
    }

    fn of_entry(entry: &Entry) -> Self {
        Self {
            kind: entry.kind.event_type().into(),
            points: entry.points,
            declined: entry.why.is_some().then_some(entry.declined),
            reward: entry.reward.as_ref().map(|reward| reward.id.clone()),
            reason: entry.why,
            of: entry.of,
            factor: entry.factor,
            ..Self::by(&entry.by)
        }
    }

    /// The short form, which an account keeps of its last entries.
    fn of_history(entry: &HistoryEntry) -> Self {
        Self {
            kind: entry.kind.event_type().into(),
            points: entry.points,
            declined: entry.why.is_some().then_some(entry.declined),
            reward: entry.reward.clone(),
            reason: entry.why,
            ..Self::by(&entry.by)
        }
    }

    fn by(by: &Origin) -> Self {
        let By { rule, streak_of, tier, campaign, redemption, act } = By::of(by);
        let (points, declined, reward, reason, of, factor) = (Points::ZERO, None, None, None, None, None);
        Self {
            kind: "".into(),
            rule,
            streak_of,
            tier,
            campaign,
            redemption,
            act,
            points,
            declined,
            reward,
            reason,
            of,
            factor,
        }
    }

    /// Whether both say the same of points, rewards and reasons.
    fn is(&self, other: &Self) -> bool {
        let by = |line: &Self| {
            let Self { rule, streak_of, tier, campaign, .. } = line.clone();
            (rule, streak_of, tier, campaign)
        };
        self.kind == other.kind
            && by(self) == by(other)
            && (self.points, self.declined, self.reason) == (other.points, other.declined, other.reason)
            && self.reward == other.reward
    }

    fn is_entry(&self) -> bool {
        self.kind.as_str() != "tier.changed"
    }
}
