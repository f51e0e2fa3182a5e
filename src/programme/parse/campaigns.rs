//! `campaigns`: what changes the pay of rules, for a period, an audience, a budget. Read, checked, and
//! refused: nothing decides them yet.

use std::collections::HashSet;

use jiff::civil::DateTime;
use rust_decimal::Decimal;

use super::ids::{self, Ids};
use super::limits::points;
use super::{bounded, conditions, limits, not_yet};
use crate::programme::Each;
use crate::programme::condition::Scope;
use crate::yaml::{Map, Value};

/// How many campaigns a programme may have.
const MOST_CAMPAIGNS: usize = 1_000;

const WEEKDAYS: &[(&str, u8)] =
    &[("mon", 1), ("tue", 2), ("wed", 3), ("thu", 4), ("fri", 5), ("sat", 6), ("sun", 7)];

/// The section.
pub(super) fn read(map: &Map<'_>) {
    let Some((list, place)) = map.get("campaigns").zip(map.key_place("campaigns")) else {
        return;
    };
    not_yet::refuse("campaigns", place, list.collector());
    let mut ids = Ids::default();
    for value in bounded(&list, "a campaign", MOST_CAMPAIGNS).unwrap_or_default() {
        campaign(&value, &mut ids);
    }
}

fn campaign(value: &Value<'_>, ids: &mut Ids) {
    let Some(map) =
        value.map(&["id", "on", "during", "when", "audience", "multiply", "add", "group", "limit", "budget"])
    else {
        return;
    };
    ids.read(&map);
    if let Some(on) = ids::event_type(&map) {
        let scope = Scope { on: &on, each: Each::Event };
        for key in ["when", "audience"] {
            map.get(key).map(|value| conditions::condition(&value, &scope));
        }
    }
    if let Some(value) = map.get("during") {
        during(&value);
    }
    match (map.get("multiply"), map.get("add")) {
        (Some(factor), None) => drop(multiply(&factor)),
        (None, Some(add)) => drop(points(&add)),
        _ => map.report("a campaign must have either `multiply` or `add`"),
    }
    map.get("group").map(|group| ids::id(&group));
    limits::read(&map);
    if let Some(budget) = map.get("budget").and_then(|budget| budget.map(&["points"])) {
        budget.required("points").map(|value| points(&value));
    }
}

fn multiply(value: &Value<'_>) -> Option<Decimal> {
    value.decimal("a factor above 1 and at most 100, such as 2", |factor| {
        factor > Decimal::ONE && factor <= Decimal::ONE_HUNDRED
    })
}

/// `{from: …, until: …}`, `{monthly: [8]}`, `{weekly: [fri]}` or `birthday`.
pub(super) fn during(value: &Value<'_>) {
    const WANTED: &str = "`birthday`, or a period, as in {from: 2026-11-10T20:00, until: 2026-11-12T00:00}, {monthly: [8]} or {weekly: [fri]}";
    if value.is_scalar() {
        value.read(WANTED, |text| (text == "birthday").then_some(()));
        return;
    }
    let Some(map) = value.map(&["from", "until", "monthly", "weekly"]) else {
        return;
    };
    match (map.get("monthly"), map.get("weekly")) {
        (None, None) => period(&map),
        (Some(days), None) => distinct(&days, "a day of the month", |day| day.whole(1..=31_u8)),
        (None, Some(days)) => distinct(&days, "a day of the week", |day| day.choice(WEEKDAYS)),
        (Some(_), Some(_)) => map.report(format!("{} must be only one of {WANTED}", value.label())),
    }
    let has_bounds = map.get("from").or(map.get("until")).is_some();
    if has_bounds && map.get("monthly").or(map.get("weekly")).is_some() {
        map.report(format!("{} must be only one of {WANTED}", value.label()));
    }
}

fn period(map: &Map<'_>) {
    let moment = |key: &str| {
        let value = map.required(key)?;
        value.read("a date and time in the programme's zone, such as 2026-11-10T20:00", |text| {
            text.parse::<DateTime>().ok()
        })
    };
    let (from, until) = (moment("from"), moment("until"));
    if let (Some(from), Some(until), Some(value)) = (from, until, map.get("until"))
        && until <= from
    {
        value.report(format!("{} must be after `from`", value.label()));
    }
}

fn distinct(list: &Value<'_>, item: &str, read: impl Fn(&Value<'_>) -> Option<u8>) {
    let Some(values) = list.list(item) else { return };
    if values.is_empty() {
        list.report(format!("{} is empty; name at least {item}", list.label()));
    }
    let mut seen = HashSet::new();
    for value in values {
        if let Some(day) = read(&value)
            && !seen.insert(day)
        {
            value.report(format!("{} is given twice", value.label()));
        }
    }
}
