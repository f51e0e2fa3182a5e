//! What an event does to points beside earning them: refunds, redemptions, adjustments, transfers, and what becomes of
//! whole accounts.

use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::types::{MemberId, Points};

/// What an event does beside what rules pay for.
#[derive(Clone, PartialEq, Debug)]
pub enum Deed {
    /// `order.refunded`
    Refund(Refund),
    /// `redemption.requested`
    Redeem(Request),
    /// `redemption.cancelled`
    Cancel {
        /// Which redemption.
        redemption: Box<str>,
    },
    /// `points.adjusted`
    Adjust(Adjustment),
    /// `points.transferred`
    Transfer(Transfer),
    /// `members.merged`: the event's member is the same person as this one, whose account goes on.
    Merge {
        /// Whose account goes on.
        into: MemberId,
    },
    /// `member.closed`
    Close,
    /// `member.erased`
    Erase,
}

/// Money given back for an order.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Refund {
    /// For which order.
    #[serde(rename = "order_id")]
    pub order: Box<str>,
    /// Its name; the same again is the same refund.
    #[serde(rename = "refund_id")]
    pub refund: Box<str>,
    /// How much.
    #[schemars(with = "String", extend("pattern" = r"^[0-9]+(\.[0-9]+)?$"))]
    pub amount: Decimal,
    /// For which lines; empty where none is named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<RefundLine>,
}

/// A line of an order that money was given back for.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RefundLine {
    /// Which.
    #[serde(rename = "line_id")]
    pub line: Box<str>,
    /// How many of it were returned.
    #[schemars(with = "String", extend("pattern" = r"^[0-9]+(\.[0-9]+)?$"))]
    pub quantity: Decimal,
    /// How much of the refund is for it.
    #[schemars(with = "String", extend("pattern" = r"^[0-9]+(\.[0-9]+)?$"))]
    pub amount: Decimal,
}

/// A reward that a member asks for.
#[derive(Clone, PartialEq, Debug)]
pub struct Request {
    /// Its name; the same again is the same redemption.
    pub redemption: Box<str>,
    /// Which reward.
    pub reward: Box<str>,
    /// How many.
    pub quantity: u32,
    /// How many points become money.
    pub points: Option<Points>,
    /// The order that it is for.
    pub order: Option<Box<str>>,
    /// What that order costs.
    pub order_amount: Option<Decimal>,
}

/// Points that an operator gives or takes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Adjustment {
    /// Its name; the same again is the same adjustment.
    pub adjustment: Box<str>,
    /// Above zero for the member.
    pub points: Points,
    /// Why.
    pub reason: Box<str>,
    /// Who says so.
    pub by: Box<str>,
}

/// Points that a member gives to another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transfer {
    /// Its name; the same again is the same transfer.
    pub transfer: Box<str>,
    /// Whom to.
    pub to: MemberId,
    /// How many.
    pub points: Points,
}
