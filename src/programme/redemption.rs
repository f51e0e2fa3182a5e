//! What points buy.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use rust_decimal::Decimal;

use super::campaign::During;
use super::reward::{Reward, RewardKind};
use super::{Limit, condition};
use crate::types::{CampaignId, Points, RewardId};

/// What points buy, and how much of it.
#[derive(Debug, Default)]
pub struct Redemption {
    /// What points are worth in money; there where a reward is money.
    pub rate: Option<Rate>,
    /// When they are worth something else.
    pub boosts: Vec<Boost>,
    /// What a member's redemptions never exceed, all together.
    pub limits: Vec<Limit>,
    /// The part of an order that points may pay at most, 0 to 1.
    pub share_of_order: Option<Decimal>,
    /// The catalogue, in the order of the file.
    pub offers: Vec<Offer>,
}

/// What so many points are worth, in the programme's currency.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// So many points.
    pub points: Points,
    /// Are worth so much.
    pub worth: Decimal,
}

/// What the rate's points are worth for a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Boost {
    /// When, by the request's own time.
    pub during: During,
    /// So much.
    pub worth: Decimal,
}

/// A reward of the catalogue and what it takes to have it.
#[derive(Debug)]
pub struct Offer {
    /// The reward.
    pub reward: Arc<Reward>,
    /// What one costs; money is bought at the rate.
    pub price: Option<Points>,
    /// How many there are for all members together, ever.
    pub stock: Option<u32>,
    /// What must hold for a member to redeem it.
    pub when: Option<condition::Condition>,
    /// What a lottery draws from; empty for everything else.
    pub prizes: Vec<Prize>,
}

/// What a lottery draws.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Prize {
    /// Its name; unique in the lottery.
    pub id: Box<str>,
    /// How often it is drawn, beside the weights of the others.
    pub weight: u32,
    /// Points that it brings.
    pub points: Option<Points>,
    /// How many there are for all members together, ever.
    pub stock: Option<u32>,
}

impl Redemption {
    /// An offer by its reward.
    pub fn offer(&self, reward: &str) -> Option<&Offer> {
        self.offers.iter().find(|offer| offer.reward.id.as_str() == reward)
    }

    /// What so many points are worth at a time, for a member born then, before any factor.
    pub fn worth(
        &self,
        points: Points,
        time: Timestamp,
        day: Date,
        birthday: Option<Date>,
    ) -> Option<Decimal> {
        let rate = self.rate?;
        let boosts = self.boosts.iter().filter(|boost| boost.during.holds(time, day, birthday));
        let worth = boosts.map(|boost| boost.worth).max().unwrap_or(rate.worth);
        Decimal::from(points.0).checked_mul(worth)?.checked_div(rate.points.0.into())
    }
}

impl Offer {
    /// Under which name its stock is counted, where it has one: as campaigns' budgets are, whose names have no `/`.
    pub fn stock_id(&self) -> CampaignId {
        stock_of(&self.reward.id)
    }

    /// The same of one of its prizes.
    pub fn prize_id(&self, prize: &Prize) -> CampaignId {
        CampaignId::from(format!("prize/{}/{}", self.reward.id, prize.id))
    }

    /// Whether it is bought at the rate.
    pub fn is_money(&self) -> bool {
        self.reward.kind == RewardKind::Money
    }
}

/// See [`Offer::stock_id`].
pub fn stock_of(reward: &RewardId) -> CampaignId {
    CampaignId::from(format!("reward/{reward}"))
}
