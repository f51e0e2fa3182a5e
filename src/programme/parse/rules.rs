//! `rules`: what earns points, and how many.

use rust_decimal::Decimal;

use super::ids::{self, Ids};
use super::limits::points;
use super::points::expire;
use super::{conditions, limits, not_yet};
use crate::programme::condition::{Expression, Scope};
use crate::programme::{Each, Earn, Rule};
use crate::spelling;
use crate::types::{EventType, Points, RuleId};
use crate::yaml::{Map, Place, Value, shown};

/// Event types that move points or say nothing about what a member did: nobody earns by them.
const NOT_EARNING: &[&str] =
    &["order.refunded", "redemption.requested", "redemption.cancelled", "points.adjusted"];

/// Event types that the clock makes.
const FROM_CLOCK: &[&str] = &["member.birthday", "member.anniversary"];

/// One rule.
pub(super) fn read(value: &Value<'_>, ids: &mut Ids, rewards: &Ids) -> Option<Rule> {
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
    let when = match (map.get("when"), scope) {
        (Some(value), Some(scope)) => Some(conditions::condition(&value, &scope)),
        (Some(_), None) => Some(None),
        (None, _) => None,
    };
    let earn = earn(&map, scope.as_ref());
    let of = of(&map, scope.as_ref());
    let limits = limits::read(&map);
    let once_per = match (map.get("once_per"), scope.as_ref()) {
        (Some(value), Some(scope)) => conditions::expression(&value, scope).map(Some),
        (Some(_), None) => None,
        (None, _) => Some(None),
    };
    let streak = map.get("streak").map_or(Some(Vec::new()), |value| streak(&value));
    later(&map, rewards);
    Some(Rule {
        id: RuleId::from(id?),
        on: on?,
        each: each?,
        when: match when {
            Some(when) => Some(when?),
            None => None,
        },
        earn: earn?,
        of: of?,
        limits: limits?,
        once_per: once_per?,
        streak: streak?,
    })
}

fn refuse_types(on: &EventType, value: &Value<'_>) {
    let name = on.as_str();
    if NOT_EARNING.contains(&name) || name.starts_with("redemption.") {
        value.report(format!("nothing is earned by {}; a rule is for what a member does", shown(name)));
    } else if FROM_CLOCK.contains(&name) {
        not_yet::refuse("rule.on", value.place(), value.collector());
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

/// `{points: 5}` or `{points: 1, per: 1.00}`; may be left out beside `give`.
fn earn(map: &Map<'_>, scope: Option<&Scope<'_>>) -> Option<Earn> {
    let earn = if map.get("give").is_some() { map.get("earn") } else { map.required("earn") };
    let earn = earn?.map(&["points", "per", "of"])?;
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
    match per {
        None => Some(Earn::Fixed(points?)),
        Some(per) => Some(Earn::PerAmount { points: points?, per: per? }),
    }
}

/// `of: data.principal`: the amount that `per` is for. Whether it may stand there, [`earn`] says.
fn of(map: &Map<'_>, scope: Option<&Scope<'_>>) -> Option<Option<Expression>> {
    let of = map.get("earn").filter(|earn| !earn.is_scalar()).and_then(|earn| earn.any_map()?.get("of"));
    match (of, scope) {
        (None, _) => Some(None),
        (Some(value), Some(scope)) => conditions::number(&value, scope).map(Some),
        (Some(_), None) => None,
    }
}

/// What nothing decides yet: read, checked, and refused.
fn later(map: &Map<'_>, rewards: &Ids) {
    for (key, place, value) in map.entries() {
        match key {
            "to" => drop(value.choice(&[("referrer", ())])),
            "after" => drop(value.choice(&[("first_order", ())])),
            "give" => give(&value, rewards),
            "hold" => drop(value.period()),
            "expire" => drop(expire(&value)),
            _ => continue,
        }
        not_yet::refuse(&format!("rule.{key}"), place, value.collector());
    }
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

fn give(value: &Value<'_>, rewards: &Ids) {
    let Some(reward) = ids::id(value).filter(|reward| !rewards.contains(reward)) else {
        return;
    };
    value.report(match spelling::closest(&reward, rewards.iter()) {
        Some(near) => format!("there is no reward {}; did you mean `{near}`?", shown(&reward)),
        None => format!("there is no reward {} under `redemption.rewards`", shown(&reward)),
    });
}
