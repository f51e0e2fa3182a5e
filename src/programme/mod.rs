//! The loyalty programme: what earns, how much, for whom.
//!
//! The types here are what a validated programme is; [`Programme::parse`] makes them from YAML and says
//! everything that is wrong with it at once. A value of these types holds its own rules: no caller
//! checks them again.

pub mod campaign;
pub mod condition;
pub mod current;
pub mod lifetime;
mod parse;
pub mod redemption;
pub mod reward;
pub mod versions;
pub mod warnings;

pub use parse::Written;
pub use versions::{ProgrammeText, Versions};

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::types::{CampaignId, EventType, Points, RuleId, TierId};
use crate::yaml::CalendarSpan;
use campaign::Campaign;
use lifetime::{EndOf, Lifetime};
use redemption::Redemption;
use reward::Reward;

/// A whole programme, validated.
#[derive(Debug)]
pub struct Programme {
    /// The programme's name; part of every award's id, so it must not change in a deployment's life.
    pub name: String,
    /// Names the content of the file: the first 12 hex digits of its hash.
    pub version: String,
    /// The file that it was read from, as problems name it.
    pub file: String,
    /// From when on it decides events, by their own time, see [`Versions`]; since ever where there is none.
    pub effective_from: Option<Timestamp>,
    /// Days, months and years are those of this zone.
    pub zone: TimeZone,
    /// ISO 4217 code that every amount must be in.
    pub currency: String,
    /// How fractions of a point become whole points, once on each entry.
    pub rounding: Rounding,
    /// How long points live where their rule does not say otherwise.
    pub lifetime: Lifetime,
    /// What a refund or an adjustment does that finds too few points.
    pub shortfall: Shortfall,
    /// How long before points expire their member is told.
    pub notice: Option<CalendarSpan>,
    /// The levels that members rise through, if the programme has any.
    pub tiers: Option<Tiers>,
    /// All rules, in the order of the file.
    pub rules: Vec<Rule>,
    /// All campaigns, in the order of the file.
    pub campaigns: Vec<Campaign>,
    /// What points buy, and the catalogue that rules give out of.
    pub redemption: Redemption,
    /// What pays by event type, so that an event meets only what it could match. Holds every type that is
    /// read, also those that pay nothing and only say something of the member.
    pub by_type: HashMap<EventType, Paying>,
}

impl Programme {
    /// A rule by its name.
    pub fn rule(&self, id: &RuleId) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.id == *id)
    }

    /// What there is of something for all members together: of a campaign's points, of a reward or a prize of the
    /// catalogue. Nothing where it has no end.
    pub fn budget(&self, id: &CampaignId) -> Option<Points> {
        if let Some(campaign) = self.campaigns.iter().find(|campaign| campaign.id == *id) {
            return campaign.budget;
        }
        let stock = |stock: Option<u32>| stock.map(|stock| Points(stock.into()));
        self.redemption.offers.iter().find_map(|offer| {
            if offer.stock.is_some() && offer.stock_id() == *id {
                return stock(offer.stock);
            }
            let prize =
                offer.prizes.iter().find(|prize| prize.stock.is_some() && offer.prize_id(prize) == *id);
            prize.and_then(|prize| stock(prize.stock))
        })
    }

    /// Everything that has a [`Programme::budget`].
    pub fn budgets(&self) -> impl Iterator<Item = CampaignId> {
        let campaigns = self.campaigns.iter().filter(|campaign| campaign.budget.is_some());
        let stocks = self.redemption.offers.iter().flat_map(|offer| {
            let prizes = offer.prizes.iter().filter(|prize| prize.stock.is_some());
            let prizes = prizes.map(|prize| offer.prize_id(prize));
            offer.stock.map(|_| offer.stock_id()).into_iter().chain(prizes)
        });
        campaigns.map(|campaign| campaign.id.clone()).chain(stocks)
    }

    /// How many calendar months of points earned or money spent an account must keep for its tiers: those that count, and
    /// as many more as a review looks back over its grace, in which the member goes on earning.
    pub fn kept_months(&self) -> u16 {
        let Some(tiers) = &self.tiers else { return 0 };
        let grace = tiers.review.map_or(0, |review| {
            let CalendarSpan { months, days } = review.grace;
            months.saturating_add(days.div_ceil(28)).saturating_add(1)
        });
        match tiers.window {
            Window::Months(months) => months.saturating_add(grace),
            Window::CalendarYear => grace.saturating_add(12),
            Window::Lifetime => 0,
        }
    }
}

/// What pays for an event type, in the order of the file.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Paying {
    /// Indexes into the programme's rules.
    pub rules: Vec<usize>,
    /// Indexes into the programme's campaigns.
    pub campaigns: Vec<usize>,
}

/// How fractions of a point become whole points.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rounding {
    /// Toward zero for what is earned: 1.99 is 1.
    Floor,
    /// To the nearest, halves up: 1.5 is 2.
    HalfUp,
    /// Up: 1.01 is 2.
    Ceil,
}

/// What a debit does that finds too few points.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shortfall {
    /// It takes them all the same, and the balance is below zero until they are earned.
    Negative,
    /// It takes what there is, and the entry says what it could not take.
    Clamp,
}

/// The levels of membership and what is measured to reach them.
#[derive(Debug)]
pub struct Tiers {
    /// What counts toward a level.
    pub measure: Measure,
    /// Over which time it counts.
    pub window: Window,
    /// When a level that was reached is looked at again; never where absent.
    pub review: Option<Review>,
    /// At least one; `from` ascends strictly and the first is reached from 0.
    pub levels: Vec<Level>,
}

/// What counts toward a level.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Points earned.
    Earned,
    /// Money paid for orders, in whole units of the currency.
    Spend,
}

/// Over which time the measure counts toward a level.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Window {
    /// Since the member's first event.
    Lifetime,
    /// The month of the event and as many before it as make this number, as calendar months.
    Months(u16),
    /// The calendar year of the member's latest event.
    CalendarYear,
}

/// When it is looked at whether a member keeps a level, and what follows where the measure is too small for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Review {
    /// So long after the level was reached or last kept.
    pub every: CalendarSpan,
    /// Whether that moment is moved to the end of a month or a year.
    pub at: EndOf,
    /// So much later, so that a member can still make up for what is missing.
    pub grace: CalendarSpan,
    /// So long before it a member who would not keep the level is told.
    pub notice: Option<CalendarSpan>,
    /// What follows.
    pub drop: Drop,
}

/// What follows where the measure is too small for a level.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Drop {
    /// The level below, or a higher one that the measure is enough for.
    OneLevel,
    /// The level that the measure is enough for.
    ToMeasure,
}

/// One level.
#[derive(Debug)]
pub struct Level {
    /// Its name in entries, tier changes and accounts.
    pub id: TierId,
    /// The measure from which a member has it.
    pub from: Points,
    /// What a point of base is multiplied by; 1 pays nothing more.
    pub earn: Decimal,
    /// What the worth of redeemed points is multiplied by; 1 is worth nothing more.
    pub redeem: Decimal,
    /// What it gives beside points, shown to the member.
    pub benefits: Vec<String>,
}

/// Pays points for an event type. Always on.
#[derive(Debug)]
pub struct Rule {
    /// Its name in entries and metrics; unique in the programme.
    pub id: RuleId,
    /// The event type that it pays for.
    pub on: EventType,
    /// Whether it pays once on the event or once on every item of an order.
    pub each: Each,
    /// What must hold for it to pay.
    pub when: Option<condition::Condition>,
    /// How much it pays.
    pub earn: Earn,
    /// What it gives, once for each event that it pays for; always there where it pays no points.
    pub give: Option<Arc<Reward>>,
    /// The amount that it pays per, where that is another one than the order's or the item's.
    pub of: Option<condition::Expression>,
    /// What it never exceeds; all of them hold.
    pub limits: Vec<Limit>,
    /// It pays a member once ever for each text that this comes to.
    pub once_per: Option<condition::Expression>,
    /// Days in a row and the points more at that length, ascending. The bonus is on top of what the
    /// limits count.
    pub streak: Vec<(u32, Points)>,
    /// Whom it pays.
    pub to: Payee,
    /// When it pays.
    pub after: After,
    /// How long its points live.
    pub lifetime: Lifetime,
}

/// Whom a rule pays. Anybody else than the event's member is paid by an event of their own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Payee {
    /// The member of the event.
    Member,
    /// Who referred a newcomer; the rule is on their registration and pays a fixed number of points.
    Referrer,
}

/// When a rule pays.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum After {
    /// With the event.
    Event,
    /// With the member's first paid order since the event, a registration; a fixed number of points.
    FirstOrder,
}

impl Rule {
    /// Whether it is about a newcomer's having been referred by somebody.
    pub fn is_about_referral(&self) -> bool {
        self.to == Payee::Referrer
            || self.when.as_ref().is_some_and(|when| when.source().contains("data.referrer_id"))
    }
}

/// The periods that limits count in, each once.
pub fn periods(limits: &[Limit]) -> Vec<Period> {
    let mut periods: Vec<Period> = limits.iter().map(|limit| limit.per).collect();
    periods.sort_unstable();
    periods.dedup();
    periods
}

/// What a rule looks at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Each {
    /// The event as a whole.
    Event,
    /// Every item of `data.items` by itself; `item` is bound in the condition.
    Item,
}

/// How much a rule pays.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Earn {
    /// No points: the rule only gives a reward.
    Nothing,
    /// These points each time.
    Fixed(Points),
    /// `amount / per × points`, rounded once on the whole. The amount is `data.amount`, or an item's
    /// `price × quantity`, or what [`Rule::of`] says. `per` is above zero.
    PerAmount {
        /// Points a `per` of money.
        points: Points,
        /// The money that they are for.
        per: Decimal,
    },
}

/// At most so often, or so many points, in a period of the programme's zone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limit {
    /// What is counted.
    pub most: Most,
    /// Over which period.
    pub per: Period,
}

/// What a limit counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Most {
    /// Events that the rule paid for, or gave a reward for.
    Times(u32),
    /// Points that the rule paid.
    Points(Points),
}

/// A calendar period of the programme's zone.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Debug,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// From midnight to midnight.
    Day,
    /// From Monday to Sunday (ISO 8601).
    Week,
    /// A calendar month.
    Month,
    /// A calendar year.
    Year,
    /// The member's whole life.
    Ever,
}
