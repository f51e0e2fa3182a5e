//! What goes out: entries of the ledger, tier changes and messages; [`render`] gives them their ids and their form on a
//! topic, [`chain`] links them.

pub mod chain;
pub mod receipts;
pub mod render;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::civil::Date;
use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::account::{Activity, Closed, Earned, Lot, ProfileUpdate, Tier, Used, WaitingRefund};
use crate::event::internal::{Received, Referred};
use crate::programme::Period;
use crate::programme::reward::Reward;
use crate::types::{CampaignId, MemberId, Occasion, Points, RewardId, RuleId, TierId};
pub use chain::Chain;
pub use receipts::LedgerReceipts;
pub use render::Renderer;

/// A change of an account. Each makes the account's version one more.
#[derive(Clone, PartialEq, Debug)]
pub enum Change {
    /// A line of the ledger. Boxed: it is a third of a kilobyte, and changes move from hand to hand.
    Entry(Box<Entry>),
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
