//! Limits and the periods that they count in.

use crate::programme::{Limit, Most, Period};
use crate::types::Points;
use crate::yaml::{Map, Value};

/// The most points that a programme may name anywhere: a thousandth of what a balance can hold, so that
/// no single award comes near its end.
pub(super) const MOST_POINTS: i64 = 1_000_000_000_000_000;

/// How many limits a rule may have.
const MOST_LIMITS: usize = 8;

/// How limits name their period.
const PERIODS: &[(&str, Period)] = &[
    ("day", Period::Day),
    ("week", Period::Week),
    ("month", Period::Month),
    ("year", Period::Year),
    ("ever", Period::Ever),
];

/// `limit`, one or a list, or none.
pub(super) fn read(map: &Map<'_>) -> Option<Vec<Limit>> {
    let Some(value) = map.get("limit") else {
        return Some(Vec::new());
    };
    let values = value.one_or_list("a limit")?;
    if values.len() > MOST_LIMITS {
        value.report(format!(
            "{} has {} entries; at most {MOST_LIMITS} are supported",
            value.label(),
            values.len()
        ));
    }
    let mut limits: Vec<Limit> = Vec::new();
    let mut all_right = true;
    for value in values {
        let Some(limit) = value.map(&["times", "points", "per"]).and_then(|map| limit(&map)) else {
            all_right = false;
            continue;
        };
        if limits.iter().any(|other| counts_the_same(*other, limit)) {
            value.report(
                "a second limit of the same kind for the same period; the lower one alone does the same",
            );
        }
        limits.push(limit);
    }
    all_right.then_some(limits)
}

fn counts_the_same(one: Limit, other: Limit) -> bool {
    one.per == other.per && std::mem::discriminant(&one.most) == std::mem::discriminant(&other.most)
}

/// `{times: 5, per: day}` or `{points: 100, per: month}`.
pub(super) fn limit(map: &Map<'_>) -> Option<Limit> {
    let per = map.required("per").and_then(|value| value.choice(PERIODS));
    let most = match (map.get("times"), map.get("points")) {
        (Some(times), None) => times.whole(1..=1_000_000).map(Most::Times),
        (None, Some(value)) => points(&value).map(Most::Points),
        _ => {
            map.report(format!("{} must have either `times` or `points`", map.value().label()));
            None
        }
    };
    Some(Limit { most: most?, per: per? })
}

/// Points, at least one.
pub(super) fn points(value: &Value<'_>) -> Option<Points> {
    value.whole(1..=MOST_POINTS).map(Points)
}
