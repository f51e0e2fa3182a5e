//! What accrual tells itself: events that it puts on its internal topic and reads back from there, so that they too come
//! through the one door.

use serde::{Deserialize, Serialize};

use crate::types::{MemberId, RuleId};

/// Somebody whom the member had referred has done what the member is paid for.
pub const REFERRED: &str = "member.referred";

/// The types that nobody else may send.
pub const RESERVED: [&str; 3] = [REFERRED, "member.birthday", "member.anniversary"];

/// What an internal event says beside whose it is.
#[derive(Clone, PartialEq, Debug)]
pub enum Internal {
    /// See [`REFERRED`].
    Referred(Referred),
}

/// A referral that its referrer, the event's member, is to be paid for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Referred {
    /// The newcomer.
    #[serde(rename = "referred_id")]
    pub newcomer: MemberId,
    /// When the newcomer registered, in seconds since 1970.
    pub registered: i64,
    /// The rules that pay, whose conditions held for the registration.
    pub rules: Vec<RuleId>,
}
