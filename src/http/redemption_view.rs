//! A redemption as it is asked for and answered over HTTP.

use jiff::Timestamp;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::account_view::{LotView, moment};
use crate::entry::Why;
use crate::record::Redemption;
use crate::types::{MemberId, Points, RewardId};

/// What is asked for: the data of a `redemption.requested`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"member_id": "ann", "redemption_id": "r-2026-1", "reward": "mug", "quantity": 1}))]
pub(super) struct RedemptionAsked {
    /// Whose points.
    #[schema(max_length = 512)]
    pub member_id: String,
    /// Names the redemption; the same again is the same redemption. The header `Idempotency-Key` where absent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(max_length = 512)]
    pub redemption_id: Option<String>,
    /// A reward of the catalogue.
    #[schema(max_length = 512)]
    pub reward: String,
    /// How many of it; 1 where absent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(minimum = 1)]
    pub quantity: Option<u32>,
    /// For money off an order: how many points.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(minimum = 1)]
    pub points: Option<i64>,
    /// The order that it is for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(max_length = 512)]
    pub order_id: Option<String>,
    /// What that order costs, where a share of it limits what points may pay. A decimal, as text.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(pattern = r"^[0-9]+(\.[0-9]+)?$")]
    pub order_amount: Option<String>,
}

/// A redemption and its answer.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "member_id": "ann", "redemption_id": "r-2026-1", "status": "redeemed", "reward": "mug", "quantity": 1,
    "points": 1200, "time": "2026-11-26T10:15:00Z", "lots": [{"points": 1200, "expires_at": null}]
}))]
pub(super) struct RedemptionView {
    /// Whose points.
    #[schema(value_type = String)]
    pub member_id: MemberId,
    /// The redemption.
    pub redemption_id: String,
    /// What became of it.
    pub status: Status,
    /// The reward that was asked for.
    #[schema(value_type = String)]
    pub reward: RewardId,
    /// How many of it.
    pub quantity: u32,
    /// Points that it cost; 0 where it was declined.
    #[schema(value_type = i64)]
    pub points: Points,
    /// What that is worth, in the programme's currency.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub worth: Option<Decimal>,
    /// What a lottery drew.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub prizes: Vec<String>,
    /// Points that a lottery's draws brought.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<i64>)]
    pub prize_points: Option<Points>,
    /// Why it was declined.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<Why>,
    /// The request's time (RFC 3339).
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// The points that paid for it.
    pub lots: Vec<LotView>,
}

/// What became of a redemption.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    /// The points are spent and the reward is the member's.
    Redeemed,
    /// Nothing was spent; `reason` says why.
    Declined,
    /// It was redeemed, and its points were given back.
    Cancelled,
}

impl RedemptionView {
    pub(super) fn of(member: MemberId, id: String, decided: &Redemption) -> Self {
        let status = match (decided.why, decided.cancelled) {
            (Some(_), _) => Status::Declined,
            (None, true) => Status::Cancelled,
            (None, false) => Status::Redeemed,
        };
        Self {
            member_id: member,
            redemption_id: id,
            status,
            reward: decided.reward.clone(),
            quantity: decided.quantity,
            points: decided.points,
            worth: decided.worth,
            prizes: decided.prizes.iter().map(ToString::to_string).collect(),
            prize_points: Some(decided.prize_points).filter(|points| *points != Points::ZERO),
            reason: decided.why,
            time: moment(decided.at),
            lots: decided.lots.iter().map(LotView::of).collect(),
        }
    }
}

/// A redemption that is not decided yet.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({"member_id": "ann", "redemption_id": "r-2026-1", "status": "pending"}))]
pub(super) struct PendingView {
    /// Whose points.
    #[schema(value_type = String)]
    pub member_id: MemberId,
    /// The redemption.
    pub redemption_id: String,
    /// That it is not decided yet.
    pub status: Pending,
}

/// That a redemption is not decided yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Pending {
    /// The request is on its topic and will be decided.
    Pending,
}
