//! What accrual tells itself: events that it puts on its internal topic and reads back from there, so that they too come
//! through the one door.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::account::{Lot, WaitingRefund};
use crate::entry::Absorbed;
use crate::store::{ReceiptKey, once_key};
use crate::types::{MemberId, Occasion, Points, RuleId};

/// Somebody whom the member had referred has done what the member is paid for.
pub const REFERRED: &str = "member.referred";

/// Something of the member's has fallen due: points are released or expire, a level is looked at.
pub const CAME: &str = "time.came";

/// A refund that waited for its order is looked at once more.
pub const WAITED: &str = "refund.waited";

/// Points come from another member.
pub const RECEIVED: &str = "points.received";

/// Whether nobody else may send events of this type.
pub fn is_reserved(kind: &str) -> bool {
    [REFERRED, CAME, WAITED, RECEIVED].contains(&kind) || occasion(kind).is_some()
}

/// The occasion that a type is of.
pub fn occasion(kind: &str) -> Option<Occasion> {
    Occasion::ALL.into_iter().find(|occasion| occasion.event_type() == kind)
}

/// What an internal event says beside whose it is.
#[derive(Clone, PartialEq, Debug)]
pub enum Internal {
    /// See [`REFERRED`].
    Referred(Referred),
    /// The clock has come to a member's day.
    Celebration(Celebration),
    /// See [`CAME`].
    Came,
    /// See [`WAITED`].
    Waited(Box<WaitingRefund>),
    /// See [`RECEIVED`].
    Received(Box<Received>),
}

/// Points that come from another member, with their moments; of a merged account also its standing.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Received {
    /// From whom.
    pub from: MemberId,
    /// By which transfer; absent for a merge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub transfer_id: Option<Box<str>>,
    /// Whether it comes back, because the account that it was for is closed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bounced: bool,
    /// The points.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lots: Vec<Lot>,
    /// What the other account's balance lacked to zero.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub owed: Points,
    /// How often it was passed on, because the account that it was for had been merged into another.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub hops: u8,
    /// The standing of an account that is merged into the member's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Absorbed")]
    pub absorbed: Option<Box<Absorbed>>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // the signature that serde asks for
fn is_nothing(points: &Points) -> bool {
    *points == Points::ZERO
}

#[allow(clippy::trivially_copy_pass_by_ref)] // the signature that serde asks for
fn is_zero(hops: &u8) -> bool {
    *hops == 0
}

/// The key of a referral that a member is paid for. Its receipt never expires: should an operator's reset publish the event
/// again after the dedupe window, it is a repeat all the same.
pub fn referred_key(referrer: &MemberId, referred: &Referred) -> ReceiptKey {
    let rules: Vec<&str> = referred.rules.iter().map(RuleId::as_str).collect();
    once_key(&RuleId::from(REFERRED), referrer, &format!("{} {}", rules.join(","), referred.newcomer))
}

/// A member's day in a year.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Celebration {
    /// Which day.
    pub occasion: Occasion,
    /// In which year.
    pub year: i16,
}

/// A referral that its referrer, the event's member, is to be paid for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Referred {
    /// The newcomer.
    #[serde(rename = "referred_id")]
    pub newcomer: MemberId,
    /// When the newcomer registered, in seconds since 1970.
    pub registered: i64,
    /// The rules that pay, whose conditions held for the registration.
    pub rules: Vec<RuleId>,
}
