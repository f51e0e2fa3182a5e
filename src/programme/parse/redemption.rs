//! `redemption`: what points buy. Read, checked, and refused: nothing decides it yet.

use jiff::tz::TimeZone;
use rust_decimal::Decimal;

use super::campaigns::during;
use super::ids::Ids;
use super::limits::{limit, points};
use super::{bounded, conditions, not_yet};
use crate::programme::Each;
use crate::programme::condition::Scope;
use crate::types::EventType;
use crate::yaml::{Map, Value};

/// How many rewards, prizes, boosts or limits there may be.
const MOST: usize = 1_000;

/// What kinds of reward there are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Money,
    Goods,
    Coupon,
    Service,
    Lottery,
}

const KINDS: &[(&str, Kind)] = &[
    ("money", Kind::Money),
    ("goods", Kind::Goods),
    ("coupon", Kind::Coupon),
    ("service", Kind::Service),
    ("lottery", Kind::Lottery),
];

/// The section, and the ids of its rewards.
pub(super) fn read(map: &Map<'_>) -> Ids {
    let mut ids = Ids::default();
    let Some((section, place)) = map.get("redemption").zip(map.key_place("redemption")) else {
        return ids;
    };
    not_yet::refuse("redemption", place, section.collector());
    let Some(section) = section.map(&["rate", "boosts", "limits", "rewards"]) else {
        return ids;
    };
    if let Some(rate) = section.get("rate").and_then(|rate| rate.map(&["points", "worth"])) {
        rate.required("points").map(|value| points(&value));
        rate.required("worth").map(|value| money(&value));
    }
    for boost in entries(&section, "boosts", "a boost") {
        let Some(boost) = boost.map(&["during", "worth"]) else {
            continue;
        };
        boost.required("during").map(|value| during(&value, &TimeZone::UTC));
        boost.required("worth").map(|value| money(&value));
    }
    for value in entries(&section, "limits", "a limit") {
        redemption_limit(&value);
    }
    for value in entries(&section, "rewards", "a reward") {
        reward(&value, &mut ids);
    }
    ids
}

fn entries<'a>(section: &Map<'a>, key: &str, item: &str) -> Vec<Value<'a>> {
    section.get(key).and_then(|list| bounded(&list, item, MOST)).unwrap_or_default()
}

fn money(value: &Value<'_>) -> Option<Decimal> {
    value.decimal("money above 0, such as 1.00", |money| money > Decimal::ZERO)
}

fn redemption_limit(value: &Value<'_>) {
    let Some(map) = value.map(&["times", "points", "per", "share_of_order"]) else {
        return;
    };
    let Some(share) = map.get("share_of_order") else {
        limit(&map);
        return;
    };
    share.decimal("a share above 0 and at most 1, such as 0.5", |share| {
        share > Decimal::ZERO && share <= Decimal::ONE
    });
    if map.entries().count() > 1 {
        map.report("`share_of_order` is a limit of its own; put the others in entries of their own");
    }
}

fn reward(value: &Value<'_>, ids: &mut Ids) {
    let Some(map) = value.map(&["id", "kind", "points", "worth", "stock", "when", "prizes"]) else {
        return;
    };
    ids.read(&map);
    let kind = map.required("kind").and_then(|value| value.choice(KINDS));
    // Money is bought at the rate; everything else has its price.
    let price =
        if kind.is_some_and(|kind| kind != Kind::Money) { map.required("points") } else { map.get("points") };
    price.map(|value| points(&value));
    map.get("worth").map(|value| money(&value));
    map.get("stock").map(|value| stock(&value));
    if let Some(value) = map.get("when") {
        let on = EventType::from("redemption.requested");
        conditions::condition(&value, &Scope { on: &on, each: Each::Event });
    }
    match (kind, map.get("prizes")) {
        (Some(Kind::Lottery), Some(list)) => prizes(&list),
        (Some(Kind::Lottery), None) => map.report("`prizes` is missing in a reward of kind `lottery`"),
        (Some(_), Some(list)) => list.report("`prizes` is for rewards of kind `lottery`"),
        _ => {}
    }
}

fn stock(value: &Value<'_>) -> Option<u32> {
    value.whole(0..=1_000_000_000)
}

fn prizes(list: &Value<'_>) {
    let mut ids = Ids::default();
    let values = bounded(list, "a prize", MOST).unwrap_or_default();
    if values.is_empty() {
        list.report("`prizes` is empty; a lottery needs at least one");
    }
    for value in values {
        let Some(map) = value.map(&["id", "weight", "points", "stock"]) else {
            continue;
        };
        ids.read(&map);
        map.required("weight").map(|weight| weight.whole(1..=1_000_000_000_u32));
        map.get("points").map(|value| points(&value));
        map.get("stock").map(|value| stock(&value));
    }
}
