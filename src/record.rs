//! What is remembered of an order and of a redemption beside the account, so that a refund reverses what was
//! recorded and a cancellation returns the same lots. A record is kept with the receipt of its business key, for
//! `refunds.window` at least, and written in the same atomic step as the account that it belongs to: whoever changes one
//! changes the account's version too, so that of two who read the same record only one is heard.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::account::Lot;
use crate::entry::{Origin, Why};
use crate::programme::Period;
use crate::programme::reward::RewardKind;
use crate::store::{ReceiptKey, business_key};
use crate::types::{MemberId, Points, RewardId};

/// Fields of a record that a newer version of the worker keeps: they stay when this one changes the record. Records are
/// read seldom, so that this costs no event that does not ask for one.
pub type Unknown = Map<String, Value>;

/// The key of an order's record; also that of its receipt, so that it is paid once.
pub fn order_key(member: &MemberId, order: &str) -> ReceiptKey {
    business_key("order.paid", member, order)
}

/// The key of a redemption's record; also that of its receipt.
pub fn redemption_key(member: &MemberId, redemption: &str) -> ReceiptKey {
    business_key("redemption.requested", member, redemption)
}

/// The key of what a member's points paid of an order.
pub fn spent_key(member: &MemberId, order: &str) -> ReceiptKey {
    business_key("spent", member, order)
}

/// An order: what it paid in points, and what of that was taken back.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct OrderRecord {
    /// The money paid for it.
    #[serde(rename = "a")]
    pub amount: Decimal,
    /// When, in seconds since 1970.
    #[serde(rename = "t")]
    pub at: i64,
    /// What it paid, in the order of its entries.
    #[serde(rename = "e", default, skip_serializing_if = "Vec::is_empty")]
    pub paid: Vec<PaidEntry>,
    /// Its lines, where an entry was paid by line.
    #[serde(rename = "l", default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<LineRecord>,
    /// The money refunded so far; never more than `amount`.
    #[serde(rename = "r", default, skip_serializing_if = "Decimal::is_zero")]
    pub refunded: Decimal,
    /// Whether all of it was refunded.
    #[serde(rename = "w", default, skip_serializing_if = "std::ops::Not::not")]
    pub whole: bool,
    /// What a newer version keeps.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// An entry that an order paid.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PaidEntry {
    /// What paid.
    pub by: Origin,
    /// How many points.
    #[serde(rename = "p")]
    pub points: Points,
    /// Of which so many were taken back.
    #[serde(rename = "s", default, skip_serializing_if = "is_zero")]
    pub reversed: Points,
    /// When they are released, if they were held.
    #[serde(rename = "h", default, skip_serializing_if = "Option::is_none")]
    pub release: Option<i64>,
    /// When they expire.
    #[serde(rename = "x", default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<i64>,
    /// The periods whose limits it counted toward.
    #[serde(rename = "c", default, skip_serializing_if = "Vec::is_empty")]
    pub counts: Vec<Period>,
    /// The share of each of the order's lines in it, in points before limits; empty where the order as a whole was paid for.
    #[serde(rename = "i", default, skip_serializing_if = "Vec::is_empty")]
    pub by_line: Vec<Points>,
    /// What a newer version keeps.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// A line of an order.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct LineRecord {
    /// Its name; empty where upstream gave none, so that no refund can name it.
    #[serde(rename = "n")]
    pub id: Box<str>,
    /// How many were bought.
    #[serde(rename = "q")]
    pub quantity: Decimal,
    /// How many of them were returned.
    #[serde(rename = "r", default, skip_serializing_if = "Decimal::is_zero")]
    pub returned: Decimal,
    /// The money refunded for it.
    #[serde(rename = "m", default, skip_serializing_if = "Decimal::is_zero")]
    pub refunded: Decimal,
    /// What a newer version keeps.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// A redemption and its answer.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Redemption {
    /// What was asked for.
    pub reward: RewardId,
    /// What that is; absent where the catalogue does not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<RewardKind>,
    /// Points that it cost; nothing where it was declined.
    pub points: Points,
    /// What that is worth, in the programme's currency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worth: Option<Decimal>,
    /// How many of the reward.
    pub quantity: u32,
    /// What a lottery drew; of several draws the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prizes: Vec<Box<str>>,
    /// Points that the draws brought.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub prize_points: Points,
    /// Why it was declined, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<Why>,
    /// The request's time, in seconds since 1970.
    #[serde(rename = "t")]
    pub at: i64,
    /// The lots that paid for it.
    #[serde(rename = "l", default, skip_serializing_if = "Vec::is_empty")]
    pub lots: Vec<Lot>,
    /// The order that it was for.
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    pub order: Option<Box<str>>,
    /// The periods whose limits it counted toward.
    #[serde(rename = "c", default, skip_serializing_if = "Vec::is_empty")]
    pub counts: Vec<Period>,
    /// Points that came back with refunds of the order.
    #[serde(rename = "b", default, skip_serializing_if = "is_zero")]
    pub returned: Points,
    /// Whether it was cancelled.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancelled: bool,
    /// What a newer version keeps.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// The redemptions that paid for an order.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct SpentRecord {
    /// Their ids.
    #[serde(rename = "r")]
    pub redemptions: Vec<Box<str>>,
    /// What they are worth together.
    #[serde(rename = "w", default, skip_serializing_if = "Decimal::is_zero")]
    pub worth: Decimal,
    /// What a newer version keeps.
    #[serde(flatten)]
    pub unknown: Unknown,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // the signature that serde asks for
fn is_zero(points: &Points) -> bool {
    *points == Points::ZERO
}

/// A record as it is kept.
pub fn to_json<T: Serialize>(record: &T) -> Box<str> {
    // Serialising plain structs has no way to fail: all keys are text.
    let json = serde_json::to_string(record);
    debug_assert!(json.is_ok());
    json.unwrap_or_default().into_boxed_str()
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;

    use super::*;

    fn is_kept<T: Serialize + DeserializeOwned>(json: &str) {
        let read: T = serde_json::from_str(json).unwrap();
        assert_eq!(&*to_json(&read), json);
    }

    #[test]
    fn what_a_newer_version_keeps_in_a_record_stays() {
        is_kept::<OrderRecord>(
            r#"{"a":"5.00","t":1,"e":[{"by":{"rule":"r"},"p":5,"new":{"x":[1]}}],"l":[{"n":"l1","q":"1","new":7}],"r":"1.00","new":"y"}"#,
        );
        is_kept::<Redemption>(r#"{"reward":"mug","points":5,"quantity":1,"t":1,"new":[null,true]}"#);
        is_kept::<SpentRecord>(r#"{"r":["q1"],"new":{"a":1}}"#);
    }

    #[test]
    fn a_record_without_anything_new_is_as_it_always_was() {
        is_kept::<OrderRecord>(r#"{"a":"5.00","t":1,"e":[{"by":{"rule":"r"},"p":5,"s":2}],"w":true}"#);
        is_kept::<SpentRecord>(r#"{"r":["q1"],"w":"2.00"}"#);
    }
}
