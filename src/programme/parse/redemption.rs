//! `redemption`: the catalogue of what rules give. What points buy is read, checked, and refused: nothing decides it
//! yet.

use std::sync::Arc;

use jiff::tz::TimeZone;
use rust_decimal::Decimal;

use super::campaigns::during;
use super::ids::{self, Ids};
use super::limits::{limit, points};
use super::{bounded, conditions, not_yet};
use crate::programme::Each;
use crate::programme::condition::Scope;
use crate::programme::reward::{Reward, RewardKind};
use crate::spelling;
use crate::types::{EventType, RewardId};
use crate::yaml::{Map, Value, shown};

/// How many rewards, prizes, boosts or limits there may be.
const MOST: usize = 1_000;

/// What kinds of reward there are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Money,
    Given(RewardKind),
    Lottery,
}

const KINDS: &[(&str, Kind)] = &[
    ("money", Kind::Money),
    ("goods", Kind::Given(RewardKind::Goods)),
    ("coupon", Kind::Given(RewardKind::Coupon)),
    ("service", Kind::Given(RewardKind::Service)),
    ("lottery", Kind::Lottery),
];

/// The rewards that were read, and the ids of those, too, that something is wrong with.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    pub(super) rewards: Vec<Arc<Reward>>,
    ids: Ids,
}

impl Catalogue {
    /// The reward that a value names.
    pub(super) fn named_by(&self, value: &Value<'_>) -> Option<Arc<Reward>> {
        let id = ids::id(value)?;
        if !self.ids.contains(&id) {
            value.report(match spelling::closest(&id, self.ids.iter()) {
                Some(near) => format!("there is no reward {}; did you mean `{near}`?", shown(&id)),
                None => format!("there is no reward {} under `redemption.rewards`", shown(&id)),
            });
        }
        self.rewards.iter().find(|reward| reward.id.as_str() == id).cloned()
    }
}

/// The section, which may be left out.
pub(super) fn read(map: &Map<'_>) -> Catalogue {
    let mut catalogue = Catalogue::default();
    let Some(section) =
        map.get("redemption").and_then(|section| section.map(&["rate", "boosts", "limits", "rewards"]))
    else {
        return catalogue;
    };
    refuse(&section, "redemption", &["rate", "boosts", "limits"]);
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
        let reward = reward(&value, &mut catalogue.ids);
        catalogue.rewards.extend(reward.map(Arc::new));
    }
    catalogue
}

/// Refuses those of the keys that are there.
fn refuse(map: &Map<'_>, name: &str, keys: &[&str]) {
    for key in keys {
        if let Some(place) = map.key_place(key) {
            not_yet::refuse(&format!("{name}.{key}"), place, map.value().collector());
        }
    }
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

fn reward(value: &Value<'_>, ids: &mut Ids) -> Option<Reward> {
    let map = value.map(&["id", "kind", "points", "worth", "stock", "when", "prizes"])?;
    let id = ids.read(&map);
    let kind = map.required("kind").and_then(|value| value.choice(KINDS));
    if let (Some(Kind::Money | Kind::Lottery), Some(value)) = (kind, map.get("kind")) {
        not_yet::refuse("reward.kind", value.place(), value.collector());
    }
    // What is given would have to be counted, and a condition is asked of who redeems.
    refuse(&map, "reward", &["stock", "when"]);
    // Money is bought at the rate; everything else has its price.
    let price =
        if kind.is_some_and(|kind| kind != Kind::Money) { map.required("points") } else { map.get("points") };
    price.map(|value| points(&value));
    let worth = map.get("worth").map(|value| money(&value));
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
    let Some(Kind::Given(kind)) = kind else { return None };
    Some(Reward { id: RewardId::from(id?), kind, worth: worth.flatten() })
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
