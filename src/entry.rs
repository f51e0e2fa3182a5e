//! What goes out: entries of the ledger and tier changes, their ids and their form on a topic.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::account::{Activity, Closed, Earned, Lot, ProfileUpdate, Tier, Used, WaitingRefund};
use crate::event::Event;
use crate::event::deed::Refund;
use crate::event::internal::{CAME, Celebration, RECEIVED, REFERRED, Received, Referred, WAITED};
use crate::programme::Period;
use crate::programme::reward::Reward;
use crate::types::{CampaignId, EventId, MemberId, Occasion, Points, RewardId, RuleId, TierId};

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
    /// Tells notes of one event apart.
    pub index: u32,
    /// The event's time, in seconds since 1970.
    pub at: i64,
    /// The event's day in the programme's zone; of a refund, that of its order.
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
        /// Its name, by which a refund asks for it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(with = "String")]
        order_id: Option<Box<str>>,
    },
    /// An order was refunded, in part or as a whole.
    Refunded {
        /// So much money.
        #[schemars(with = "String", extend("pattern" = r"^-?[0-9]+(\.[0-9]+)?$"))]
        amount: Decimal,
        /// Whether nothing is left to refund.
        whole: bool,
        /// The order.
        order_id: Box<str>,
    },
    /// A refund waits for its order.
    Waits(WaitingRefund),
    /// A refund waits no more: its order came, or it is a dead letter.
    WaitsNoMore {
        /// Which.
        refund_id: Box<str>,
    },
    /// The account is closed.
    Closed(Closed),
    /// What is known of the member is forgotten; sums stay.
    Erased {},
    /// Another member is the same person, and their account was merged into this one.
    Absorbed(Box<Absorbed>),
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

/// The standing of an account that is merged into another; its points come by an entry.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Absorbed {
    /// What tiers measure.
    pub earned: Earned,
    /// What the member did.
    #[serde(default, skip_serializing_if = "Activity::is_empty")]
    pub activity: Activity,
    /// What limits counted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub used: BTreeMap<Box<str>, Vec<Used>>,
    /// The level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Tier")]
    pub tier: Option<Tier>,
}

/// What an entry of redeeming, refunding, adjusting or transferring is about. What does not apply is absent.
#[derive(Clone, PartialEq, Default, Debug, Serialize, Deserialize, JsonSchema)]
pub struct About {
    /// The order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub order_id: Option<Box<str>>,
    /// The refund.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub refund_id: Option<Box<str>>,
    /// The redemption.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub redemption_id: Option<Box<str>>,
    /// How many of the reward.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32")]
    pub quantity: Option<u32>,
    /// What the points are worth, in the programme's currency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", extend("pattern" = r"^[0-9]+(\.[0-9]+)?$"))]
    pub worth: Option<Decimal>,
    /// What a lottery drew, for each draw.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prizes: Vec<Drawn>,
    /// The adjustment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub adjustment_id: Option<Box<str>>,
    /// Who adjusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub operator: Option<Box<str>>,
    /// Why, in the operator's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub explanation: Option<Box<str>>,
    /// The transfer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub transfer_id: Option<Box<str>>,
    /// The other member of a transfer or a merge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "MemberId")]
    pub counterparty: Option<MemberId>,
    /// Whether nothing is left of what is taken back or given back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub whole: bool,
}

/// What a draw of a lottery brought.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Drawn {
    /// The prize.
    pub id: Box<str>,
    /// Its chance: so many of so many draws, of prizes that were not gone.
    pub odds: (u64, u64),
    /// Points that it brings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Points")]
    pub points: Option<Points>,
}

/// What only some entries say.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct More {
    /// The lots that were taken, given back, or are about to expire.
    pub lots: Vec<Lot>,
    /// What it is about.
    pub about: About,
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
    /// When points that came expire, in seconds since 1970.
    pub expires: Option<i64>,
    /// When points that came are released, where they are held.
    pub release: Option<i64>,
    /// What only some entries say.
    pub more: Option<Box<More>>,
    /// The event: source, a space, id.
    pub event: Arc<str>,
}

impl Entry {
    /// The lots that were taken, given back, or are about to expire.
    pub fn lots(&self) -> &[Lot] {
        self.more.as_ref().map_or(&[], |more| &more.lots)
    }

    /// The moments of points that came.
    pub fn lot(&self) -> Lot {
        Lot { expires: self.expires, release: self.release, ..Lot::default() }
    }

    /// Whether nothing is left of what is taken back or given back.
    pub fn takes_all(&self) -> bool {
        self.more.as_ref().is_some_and(|more| more.about.whole)
    }
}

/// The kinds of entry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// Points came, and can be spent.
    Earned,
    /// Points came, and are held.
    Pending,
    /// Held points can be spent.
    Released,
    /// Points or a reward did not come, or were not taken, and the entry says why.
    Declined,
    /// A reward of the catalogue was given.
    Granted,
    /// Points bought something.
    Redeemed,
    /// Points that had bought something came back.
    Returned,
    /// Points were taken back, with what they were paid for.
    Reversed,
    /// Points will expire, and the member is told.
    Expiring,
    /// Points expired.
    Expired,
    /// An operator gave or took points.
    Adjusted,
    /// Points went to another member, or came from one.
    Transferred,
}

impl EntryKind {
    /// Every kind.
    pub const ALL: [EntryKind; 12] = [
        EntryKind::Earned,
        EntryKind::Pending,
        EntryKind::Released,
        EntryKind::Declined,
        EntryKind::Granted,
        EntryKind::Redeemed,
        EntryKind::Returned,
        EntryKind::Reversed,
        EntryKind::Expiring,
        EntryKind::Expired,
        EntryKind::Adjusted,
        EntryKind::Transferred,
    ];

    /// Its name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            EntryKind::Earned => "earned",
            EntryKind::Pending => "pending",
            EntryKind::Released => "released",
            EntryKind::Declined => "declined",
            EntryKind::Granted => "granted",
            EntryKind::Redeemed => "redeemed",
            EntryKind::Returned => "returned",
            EntryKind::Reversed => "reversed",
            EntryKind::Expiring => "expiring",
            EntryKind::Expired => "expired",
            EntryKind::Adjusted => "adjusted",
            EntryKind::Transferred => "transferred",
        }
    }

    /// The CloudEvents type of such an entry.
    pub fn event_type(self) -> &'static str {
        match self {
            EntryKind::Earned => "points.earned",
            EntryKind::Pending => "points.pending",
            EntryKind::Released => "points.released",
            EntryKind::Declined => "points.declined",
            EntryKind::Granted => "reward.granted",
            EntryKind::Redeemed => "points.redeemed",
            EntryKind::Returned => "points.returned",
            EntryKind::Reversed => "points.reversed",
            EntryKind::Expiring => "points.expiring",
            EntryKind::Expired => "points.expired",
            EntryKind::Adjusted => "points.adjusted",
            EntryKind::Transferred => "points.transferred",
        }
    }
}

/// What paid, or would have, or took. As JSON `{"rule":"sign-in"}`, `{"streak_of":"sign-in"}`, `{"tier":"gold"}`,
/// `{"campaign":"double-eleven"}`, `{"redemption":"mug"}` or `{"act":"expiry"}`.
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
    /// A reward of the catalogue that a member asks for.
    Redemption(RewardId),
    /// Nothing of the programme's by a name of its own.
    Act(Act),
}

/// What moves points beside rules, tiers, campaigns and redemptions.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// Held points fall due.
    Release,
    /// Points come to the end of their life.
    Expiry,
    /// An order is refunded.
    Refund,
    /// An operator adjusts.
    Adjustment,
    /// A member gives to another.
    Transfer,
    /// Two accounts of one person become one.
    Merge,
    /// An account is closed.
    Closing,
}

impl Act {
    /// Its name in entries and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Act::Release => "release",
            Act::Expiry => "expiry",
            Act::Refund => "refund",
            Act::Adjustment => "adjustment",
            Act::Transfer => "transfer",
            Act::Merge => "merge",
            Act::Closing => "closing",
        }
    }
}

impl Origin {
    /// The rule's, tier's or campaign's name.
    pub fn name(&self) -> &str {
        match self {
            Origin::Rule(rule) | Origin::Streak(rule) => rule.as_str(),
            Origin::Tier(tier) => tier.as_str(),
            Origin::Campaign(campaign) => campaign.as_str(),
            Origin::Redemption(reward) => reward.as_str(),
            Origin::Act(act) => act.as_str(),
        }
    }

    /// What kind of name that is.
    pub fn kind(&self) -> &'static str {
        match self {
            Origin::Rule(_) => "rule",
            Origin::Streak(_) => "streak",
            Origin::Tier(_) => "tier",
            Origin::Campaign(_) => "campaign",
            Origin::Redemption(_) => "redemption",
            Origin::Act(_) => "act",
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
    /// The catalogue does not have the reward.
    UnknownReward,
    /// The reward's condition does not hold for the member.
    NotEligible,
    /// There are not as many of the reward left.
    OutOfStock,
    /// The member cannot spend as many points.
    InsufficientPoints,
    /// The request lacks what the reward needs: points for money, the order's amount where a share of it limits.
    BadRequest,
    /// The points are too few to be worth anything in the currency.
    WorthNothing,
    /// The points would pay more of the order than they may.
    ShareOfOrder,
    /// There is no such redemption, or it is too long ago.
    UnknownRedemption,
    /// The redemption was cancelled before, or what it paid for was refunded.
    AlreadyCancelled,
    /// All of the order was refunded before; the refund is cut to what was left.
    RefundedBefore,
    /// The account is closed.
    AccountClosed,
    /// Nobody gives points to themselves.
    SelfTransfer,
    /// There were too few points to take.
    Shortfall,
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
            Why::UnknownReward => "unknown_reward",
            Why::NotEligible => "not_eligible",
            Why::OutOfStock => "out_of_stock",
            Why::InsufficientPoints => "insufficient_points",
            Why::BadRequest => "bad_request",
            Why::WorthNothing => "worth_nothing",
            Why::ShareOfOrder => "share_of_order",
            Why::UnknownRedemption => "unknown_redemption",
            Why::AlreadyCancelled => "already_cancelled",
            Why::RefundedBefore => "refunded_before",
            Why::AccountClosed => "account_closed",
            Why::SelfTransfer => "self_transfer",
            Why::Shortfall => "shortfall",
        }
    }
}

/// A member's change to another level, or what a review says of the one they have.
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
    /// Why.
    pub why: TierWhy,
    /// Until when the level is kept, in seconds since 1970; for ever where absent.
    pub until: Option<i64>,
    /// When it changes, in seconds since 1970.
    pub at: i64,
    /// When the order was paid that the level rested on and that is refunded, in seconds since 1970.
    pub rested_on: Option<i64>,
}

/// Why a level changes, or does not.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TierWhy {
    /// What is measured has come to it.
    Reached,
    /// What it rested on was refunded.
    Refunded,
    /// At a review too little was measured.
    Review,
    /// At a review enough was measured.
    Kept,
    /// A review comes that the member would not pass today.
    ReviewDue,
}

impl TierWhy {
    /// The `CloudEvents` type of such a change.
    fn event_type(self) -> &'static str {
        match self {
            TierWhy::Reached | TierWhy::Refunded | TierWhy::Review => "tier.changed",
            TierWhy::Kept => "tier.kept",
            TierWhy::ReviewDue => "tier.review-due",
        }
    }
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

/// Bytes that nearly every record fits in.
const USUAL: usize = 768;

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
}

/// What an event has accrual tell itself, or upstream.
#[derive(Clone, PartialEq, Debug)]
pub enum Message {
    /// A referral whose referrer is to be paid.
    Referred {
        /// Whom to pay.
        referrer: MemberId,
        /// For what.
        referred: Referred,
    },
    /// A refund whose order has come.
    Waited(WaitingRefund),
    /// A refund whose order has not come: a dead letter.
    Unclaimed(WaitingRefund),
    /// Points on their way to another member.
    Received {
        /// To whom.
        to: MemberId,
        /// What.
        received: Box<Received>,
    },
}

impl Message {
    /// Whom it is for, of whom `member` tells: the record's key.
    pub fn addressee<'a>(&'a self, member: &'a MemberId) -> &'a MemberId {
        match self {
            Message::Referred { referrer, .. } => referrer,
            Message::Waited(_) | Message::Unclaimed(_) => member,
            Message::Received { to, .. } => to,
        }
    }
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
                    expires_at: entry.expires.and_then(moment),
                    held_until: entry.release.and_then(moment),
                    lots: entry.lots(),
                    about: entry.more.as_ref().map(|more| &more.about),
                    noted: entry.note.as_ref(),
                    event: event_ref,
                    programme,
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
                };
                self.envelope(id, "member.noted", &event.member, &event.time_text, data)
            }
            Change::Tier(change) => {
                // Of a review there may be several in one event, of different moments.
                let (name, number) = match change.why {
                    TierWhy::Reached | TierWhy::Refunded => ("tier-change", 0),
                    TierWhy::Review => ("tier-review", change.at),
                    TierWhy::Kept => ("tier-kept", change.at),
                    TierWhy::ReviewDue => ("tier-review-due", change.at),
                };
                let parts = [event.id.source.as_ref(), &event.id.id, name, change.to.as_str()];
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
                };
                let id = self.id(&parts, u64::try_from(number).unwrap_or_default());
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

    /// An account's snapshot: its JSON as stored, in an envelope.
    pub fn snapshot(&self, member: &MemberId, version: u64, time: &str, account_json: &[u8]) -> Vec<u8> {
        let id = self.id(&["account", member.as_str()], version);
        // The account is embedded as it is, so that it is serialised once for store and topic alike.
        let mut text = Uuid::encode_buffer();
        let id = id.hyphenated().encode_lower(&mut text);
        let size = USUAL + account_json.len();
        let mut json = envelope(&self.source, id, "account.changed", member, time, (), size);
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
