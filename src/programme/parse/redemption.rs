//! `redemption`: what points buy, and the catalogue of what rules give.

use jiff::tz::TimeZone;
use rust_decimal::Decimal;
use std::sync::Arc;

use super::campaigns::during;
use super::ids::{self, Ids};
use super::limits::{limit, points};
use super::{bounded, conditions};
use crate::programme::condition::{Condition, Scope};
use crate::programme::redemption::{Boost, Offer, Prize, Rate, Redemption};
use crate::programme::reward::{Reward, RewardKind};
use crate::programme::{Each, Limit, Most};
use crate::spelling;
use crate::types::{EventType, RewardId};
use crate::yaml::{Map, Value, shown};

/// How many rewards, prizes, boosts or limits there may be.
const MOST: usize = 1_000;

const KINDS: &[(&str, RewardKind)] = &[
    ("money", RewardKind::Money),
    ("goods", RewardKind::Goods),
    ("coupon", RewardKind::Coupon),
    ("service", RewardKind::Service),
    ("lottery", RewardKind::Lottery),
];

/// What was read, and the ids of those rewards, too, that something is wrong with.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    pub(super) redemption: Redemption,
    ids: Ids,
}

impl Catalogue {
    /// The reward that a value names, to be given by a rule.
    pub(super) fn named_by(&self, value: &Value<'_>) -> Option<Arc<Reward>> {
        let id = ids::id(value)?;
        if !self.ids.contains(&id) {
            value.report(match spelling::closest(&id, self.ids.iter()) {
                Some(near) => format!("there is no reward {}; did you mean `{near}`?", shown(&id)),
                None => format!("there is no reward {} under `redemption.rewards`", shown(&id)),
            });
        }
        let reward = &self.redemption.offer(&id)?.reward;
        if matches!(reward.kind, RewardKind::Money | RewardKind::Lottery) {
            value.report(format!("`give` gives goods, coupons and services; {} is {reward}", shown(&id)));
            return None;
        }
        Some(Arc::clone(reward))
    }
}

/// The section, which may be left out.
pub(super) fn read(map: &Map<'_>, zone: &TimeZone) -> Catalogue {
    let mut catalogue = Catalogue::default();
    let Some(section) =
        map.get("redemption").and_then(|section| section.map(&["rate", "boosts", "limits", "rewards"]))
    else {
        return catalogue;
    };
    let redemption = &mut catalogue.redemption;
    redemption.rate = section.get("rate").and_then(|value| rate(&value));
    for value in entries(&section, "boosts", "a boost") {
        redemption.boosts.extend(boost(&value, zone));
    }
    if let (Some(boosts), None) = (section.get("boosts"), section.get("rate")) {
        boosts.report("`boosts` say what the points of `rate` are worth for a time, and there is no `rate`");
    }
    let counts_money = section.get("rate").is_some();
    for value in section.get("limits").and_then(|list| bounded(&list, "a limit", 8)).unwrap_or_default() {
        redemption_limit(&value, redemption);
    }
    for value in entries(&section, "rewards", "a reward") {
        let offer = offer(&value, &mut catalogue.ids, counts_money);
        redemption.offers.extend(offer);
    }
    catalogue
}

fn entries<'a>(section: &Map<'a>, key: &str, item: &str) -> Vec<Value<'a>> {
    section.get(key).and_then(|list| bounded(&list, item, MOST)).unwrap_or_default()
}

fn money(value: &Value<'_>) -> Option<Decimal> {
    value.decimal("money above 0, such as 1.00", |money| money > Decimal::ZERO)
}

fn rate(value: &Value<'_>) -> Option<Rate> {
    let map = value.map(&["points", "worth"])?;
    let points = map.required("points").and_then(|value| points(&value));
    let worth = map.required("worth").and_then(|value| money(&value));
    Some(Rate { points: points?, worth: worth? })
}

fn boost(value: &Value<'_>, zone: &TimeZone) -> Option<Boost> {
    let map = value.map(&["during", "worth"])?;
    let during = map.required("during").and_then(|value| during(&value, zone));
    let worth = map.required("worth").and_then(|value| money(&value));
    Some(Boost { during: during?, worth: worth? })
}

fn redemption_limit(value: &Value<'_>, redemption: &mut Redemption) {
    let Some(map) = value.map(&["times", "points", "per", "share_of_order"]) else {
        return;
    };
    let Some(share) = map.get("share_of_order") else {
        let Some(limit) = limit(&map) else { return };
        let counts_the_same = |other: &Limit| {
            other.per == limit.per
                && matches!(other.most, Most::Times(_)) == matches!(limit.most, Most::Times(_))
        };
        if redemption.limits.iter().any(counts_the_same) {
            value.report(
                "a second limit of the same kind for the same period; the lower one alone does the same",
            );
        }
        redemption.limits.push(limit);
        return;
    };
    if map.entries().count() > 1 {
        map.report("`share_of_order` is a limit of its own; put the others in entries of their own");
    }
    if redemption.share_of_order.is_some() {
        value.report("a second `share_of_order`; the lower one alone does the same");
    }
    let wanted = "a share above 0 and at most 1, such as 0.5";
    redemption.share_of_order = share.decimal(wanted, |share| share > Decimal::ZERO && share <= Decimal::ONE);
}

fn offer(value: &Value<'_>, ids: &mut Ids, has_rate: bool) -> Option<Offer> {
    let map = value.map(&["id", "kind", "points", "worth", "stock", "when", "prizes"])?;
    let id = ids.read(&map);
    let kind = map.required("kind").and_then(|value| value.choice(KINDS));
    let is_money = kind == Some(RewardKind::Money);
    if is_money && !has_rate {
        map.report("money is bought at `redemption.rate`, and there is none");
    }
    // Money is bought at the rate; everything else has its price.
    for key in ["points", "worth", "stock"] {
        if let Some(value) = map.get(key).filter(|_| is_money) {
            value.report(format!("money is bought at `redemption.rate`; leave `{key}` out"));
        }
    }
    let price = if is_money { None } else { map.required("points").map(|value| points(&value)) };
    let worth = map.get("worth").map(|value| money(&value));
    let stock = map.get("stock").map(|value| stock(&value));
    let when = map.get("when").map(|value| condition(&value));
    let prizes = match (kind, map.get("prizes")) {
        (Some(RewardKind::Lottery), Some(list)) => prizes(&list),
        (Some(RewardKind::Lottery), None) => {
            map.report("`prizes` is missing in a reward of kind `lottery`");
            None
        }
        (Some(_), Some(list)) => {
            list.report("`prizes` is for rewards of kind `lottery`");
            None
        }
        _ => Some(Vec::new()),
    };
    let reward = Arc::new(Reward { id: RewardId::from(id?), kind: kind?, worth: transposed(worth)? });
    Some(Offer {
        reward,
        price: transposed(price)?,
        stock: transposed(stock)?,
        when: transposed(when)?,
        prizes: prizes?,
    })
}

/// What was left out is right; what was read and is wrong is not.
#[allow(clippy::option_option)]
fn transposed<T>(read: Option<Option<T>>) -> Option<Option<T>> {
    match read {
        Some(read) => read.map(Some),
        None => Some(None),
    }
}

fn condition(value: &Value<'_>) -> Option<Condition> {
    let on = EventType::from("redemption.requested");
    conditions::condition(value, &Scope { on: &on, each: Each::Event })
}

fn stock(value: &Value<'_>) -> Option<u32> {
    value.whole(0..=1_000_000_000)
}

fn prizes(list: &Value<'_>) -> Option<Vec<Prize>> {
    let mut ids = Ids::default();
    let values = bounded(list, "a prize", MOST)?;
    if values.is_empty() {
        list.report("`prizes` is empty; a lottery needs at least one");
    }
    let read = |value: &Value<'_>| {
        let map = value.map(&["id", "weight", "points", "stock"])?;
        let id = ids.read(&map);
        let weight = map.required("weight").and_then(|weight| weight.whole(1..=1_000_000_000_u32));
        let points = map.get("points").map(|value| points(&value));
        let stock = map.get("stock").map(|value| stock(&value));
        Some(Prize {
            id: id?.into(),
            weight: weight?,
            points: transposed(points)?,
            stock: transposed(stock)?,
        })
    };
    let prizes: Vec<Option<Prize>> = values.iter().map(read).collect();
    let prizes: Vec<Prize> = prizes.into_iter().collect::<Option<_>>()?;
    if !prizes.is_empty() && prizes.iter().all(|prize| prize.stock.is_some()) {
        list.report(
            "every prize has a `stock`; one without it is needed, which is drawn when the others are gone",
        );
    }
    Some(prizes)
}
