//! What accrual tells itself: events that it puts on its internal topic and reads back from there, so that they too come
//! through the one door.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::store::{ReceiptKey, once_key};
use crate::types::{MemberId, Occasion, RuleId};

/// Somebody whom the member had referred has done what the member is paid for.
pub const REFERRED: &str = "member.referred";

/// Whether nobody else may send events of this type.
pub fn is_reserved(kind: &str) -> bool {
    kind == REFERRED || occasion(kind).is_some()
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
