//! `rules`: what earns points, and how many.

use rust_decimal::Decimal;

use super::ids::{self, Ids};
use super::limits::points;
use super::points::lifetime;
use super::redemption::Catalogue;
use super::{MOVES_POINTS, conditions, limits};
use crate::event::internal;
use crate::programme::condition::{Expression, Scope};
use crate::programme::lifetime::Lifetime;
use crate::programme::{After, Each, Earn, Payee, Rule};
use crate::types::{EventType, Points, RuleId};
use crate::yaml::{Map, Place, Value, shown};

/// One rule.
pub(super) fn read(
    value: &Value<'_>,
    ids: &mut Ids,
    catalogue: &Catalogue,
    default: Lifetime,
) -> Option<Rule> {
    let map = value.map(&[
        "id", "on", "each", "when", "earn", "limit", "once_per", "streak", "to", "after", "give", "hold",
        "expire",
    ])?;
    let id = ids.read(&map);
    let on = ids::event_type(&map);
    if let Some((on, value)) = on.as_ref().zip(map.get("on")) {
        refuse_types(on, &value);
    }
    let each = each(&map, on.as_ref());
    // What the fields are is known only with the event type; without it conditions are left.
    let scope = on.as_ref().zip(each).map(|(on, each)| Scope { on, each });
    let scope = scope.as_ref();
    let when = conditions::optional(map.get("when").as_ref(), scope, conditions::condition);
    let earn = earn(&map, scope);
    let give = map.get("give").map(|value| catalogue.named_by(&value));
    let limits = limits::read(&map);
    once_an_event(&map, each, limits.is_some());
    let once_per = conditions::optional(map.get("once_per").as_ref(), scope, conditions::expression);
    let streak = map.get("streak").map_or(Some(Vec::new()), |value| streak(&value));
    let to =
        map.get("to").map_or(Some(Payee::Member), |value| value.choice(&[("referrer", Payee::Referrer)]));
    let after = map
        .get("after")
        .map_or(Some(After::Event), |value| value.choice(&[("first_order", After::FirstOrder)]));
    newcomers_only(&map, on.as_ref());
    let lifetime = lifetime(&map, default);
    let (earn, of) = earn?;
    Some(Rule {
        id: RuleId::from(id?),
        on: on?,
        each: each?,
        when: when?,
        earn,
        give: match give {
            Some(reward) => Some(reward?),
            None => None,
        },
        of,
        limits: limits?,
        once_per: once_per?,
        streak: streak?,
        to: to?,
        after: after?,
        lifetime: lifetime?,
    })
}

/// `to` and `after` are for registrations, and what they pay must be known without the event that they are paid by.
fn newcomers_only(map: &Map<'_>, on: Option<&EventType>) {
    for key in ["to", "after"] {
        let Some(value) = map.get(key) else { continue };
        if on.is_some_and(|on| on.as_str() != "member.registered") {
            value.report(format!("`{key}` is for rules on member.registered only"));
            continue;
        }
        let per = map.get("earn").and_then(|earn| earn.any_map()).and_then(|earn| earn.get("per"));
        if let Some(per) = per {
            per.report(format!("a rule with `{key}` pays a fixed number of points; leave `per` out"));
        }
        for other in ["once_per", "streak"] {
            if let Some(other_value) = map.get(other) {
                other_value.report(format!(
                    "`{other}` does not go with `{key}`: a member registers once, and is referred once"
                ));
            }
        }
    }
}

/// A reward is given once for an event, whatever that holds, and is nothing that limits by points could cut.
fn once_an_event(map: &Map<'_>, each: Option<Each>, limits_are_right: bool) {
    if map.get("give").is_none() {
        return;
    }
    if let Some(value) = map.get("each").filter(|_| each == Some(Each::Item)) {
        value.report(
            "`give` gives one reward for the order and does not go with `each: item`; ask for an item in `when`, as in `data.items.exists(i, i.category == \"books\")`",
        );
    }
    if map.get("earn").is_some() || !limits_are_right {
        return;
    }
    let limits = map.get("limit").and_then(|limit| limit.one_or_list("a limit")).unwrap_or_default();
    for points in limits.iter().filter_map(|limit| limit.any_map()?.get("points")) {
        points.report("a rule without `earn` pays no points that a limit could cut; limit it by `times`");
    }
}

/// Types of events that move points, or that accrual alone sends: nothing pays for them.
pub(super) fn refuse_types(on: &EventType, value: &Value<'_>) {
    let name = on.as_str();
    if MOVES_POINTS.contains(&name) || name == "order.refunded" || name.starts_with("redemption.") {
        value.report(format!(
            "nothing is earned by {}; rules and campaigns are for what a member does",
            shown(name)
        ));
    } else if internal::is_reserved(name) && internal::occasion(name).is_none() {
        value.report(format!(
            "{name} is accrual's own; a rule with `to: referrer`, for instance, is on member.registered"
        ));
    }
}

fn each(map: &Map<'_>, on: Option<&EventType>) -> Option<Each> {
    let Some(value) = map.get("each") else {
        return Some(Each::Event);
    };
    let each = value.choice(&[("item", Each::Item)])?;
    if on.is_some_and(|on| on.as_str() != "order.paid") {
        value.report("`each: item` is for order.paid only; no other event type has items");
        return None;
    }
    Some(each)
}

/// `{points: 5}`, `{points: 1, per: 1.00}` or `{points: 1, per: 1.00, of: data.principal}`, which says the amount
/// that `per` is for; may be left out beside `give`.
fn earn(map: &Map<'_>, scope: Option<&Scope<'_>>) -> Option<(Earn, Option<Expression>)> {
    if map.get("earn").is_none() && map.get("give").is_some() {
        return Some((Earn::Nothing, None));
    }
    let earn = map.required("earn")?.map(&["points", "per", "of"])?;
    let points = earn.required("points").and_then(|value| points(&value));
    let per =
        earn.get("per").map(|value| value.decimal("money above 0, such as 1.00", |per| per > Decimal::ZERO));
    let of = earn.get("of");
    if let Some(value) = of.as_ref().filter(|_| per.is_none()) {
        value.report("`of` says which amount `per` is for, and there is no `per`");
    }
    let has_amount = scope.is_none_or(|scope| scope.on.as_str() == "order.paid");
    if let Some(value) = earn.get("per").filter(|_| of.is_none() && !has_amount) {
        value.report(
            "`per` is for order.paid only; of another event type say which amount, as in `of: data.principal`",
        );
    }
    let of = conditions::optional(of.as_ref(), scope, conditions::number);
    let earn = match per {
        None => Earn::Fixed(points?),
        Some(per) => Earn::PerAmount { points: points?, per: per? },
    };
    Some((earn, of?))
}

/// `{7: 20, 30: 100}`: at so many days in a row, so many points more.
fn streak(value: &Value<'_>) -> Option<Vec<(u32, Points)>> {
    const MOST_DAYS: u32 = 3_650;
    let map = value.any_map()?;
    if map.is_empty() {
        value.report("`streak` is empty; name days and points, as in `{7: 20, 30: 100}`");
    }
    let read = |(days, place, bonus): (&str, &Place, Value<'_>)| {
        let is_number = !days.starts_with('0') && days.bytes().all(|byte| byte.is_ascii_digit());
        let length = days.parse().ok().filter(|days| is_number && (2..=MOST_DAYS).contains(days));
        if length.is_none() {
            let message = format!("a streak is 2 to {MOST_DAYS} days long, not {}", shown(days));
            value.collector().report(place, message);
        }
        Some((length?, points(&bonus)?))
    };
    // All of them are read before one is given up.
    let bonuses: Vec<Option<(u32, Points)>> = map.entries().map(read).collect();
    let mut bonuses: Vec<(u32, Points)> = bonuses.into_iter().collect::<Option<_>>()?;
    bonuses.sort_unstable();
    Some(bonuses)
}
