//! The catalogue: what members can have beside points.

use std::fmt;

use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::types::RewardId;

/// A reward of the catalogue, in the form in which entries name it. What redeeming it costs is no part of that.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Reward {
    /// Its name; unique in the programme.
    pub id: RewardId,
    /// What it is.
    pub kind: RewardKind,
    /// What it is worth, in the programme's currency.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schemars(with = "String", extend("pattern" = r"^[0-9]+(\.[0-9]+)?$"))]
    pub worth: Option<Decimal>,
}

/// The kinds of reward.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RewardKind {
    /// A coupon.
    Coupon,
    /// A thing.
    Goods,
    /// A service.
    Service,
    /// Money off an order, bought at the rate.
    Money,
    /// A draw.
    Lottery,
}

/// As a sentence names it: "ten-off, a coupon worth 10.00".
impl fmt::Display for Reward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            RewardKind::Coupon => "a coupon",
            RewardKind::Goods => "goods",
            RewardKind::Service => "a service",
            RewardKind::Money => "money",
            RewardKind::Lottery => "a lottery",
        };
        write!(f, "{}, {kind}", self.id)?;
        self.worth.map_or(Ok(()), |worth| write!(f, " worth {worth}"))
    }
}
