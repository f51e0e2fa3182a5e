//! `campaigns`: what changes the pay of rules, for a period, an audience, a budget.

use std::collections::HashSet;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use rust_decimal::Decimal;

use super::ids::{self, Ids};
use super::limits::points;
use super::rules::refuse_types;
use super::{bounded, conditions, limits};
use crate::programme::Each;
use crate::programme::campaign::{Campaign, Days, During, Pays};
use crate::programme::condition::Scope;
use crate::types::CampaignId;
use crate::yaml::{Map, Value};

/// How many campaigns a programme may have.
const MOST_CAMPAIGNS: usize = 1_000;

const WEEKDAYS: &[(&str, u8)] =
    &[("mon", 1), ("tue", 2), ("wed", 3), ("thu", 4), ("fri", 5), ("sat", 6), ("sun", 7)];

/// The section, which may be left out.
pub(super) fn read(map: &Map<'_>, zone: &TimeZone) -> Option<Vec<Campaign>> {
    let Some(list) = map.get("campaigns") else { return Some(Vec::new()) };
    let mut ids = Ids::default();
    let values = bounded(&list, "a campaign", MOST_CAMPAIGNS)?;
    let campaigns: Vec<Option<Campaign>> =
        values.iter().map(|value| campaign(value, &mut ids, zone)).collect();
    campaigns.into_iter().collect()
}

fn campaign(value: &Value<'_>, ids: &mut Ids, zone: &TimeZone) -> Option<Campaign> {
    let map = value
        .map(&["id", "on", "during", "when", "audience", "multiply", "add", "group", "limit", "budget"])?;
    let id = ids.read(&map);
    let on = ids::event_type(&map);
    if let Some((on, value)) = on.as_ref().zip(map.get("on")) {
        refuse_types(on, &value);
    }
    let scope = on.as_ref().map(|on| Scope { on, each: Each::Event });
    let condition =
        |key: &str| conditions::optional(map.get(key).as_ref(), scope.as_ref(), conditions::condition);
    let (when, audience) = (condition("when"), condition("audience"));
    let during = map.get("during").map_or(Some(During::Always), |value| during(&value, zone));
    let pays = match (map.get("multiply"), map.get("add")) {
        (Some(factor), None) => multiply(&factor).map(Pays::Multiply),
        (None, Some(add)) => points(&add).map(Pays::Add),
        _ => {
            map.report("a campaign must have either `multiply` or `add`");
            None
        }
    };
    let group = match map.get("group") {
        Some(group) => ids::id(&group).map(|group| Some(group.into_boxed_str())),
        None => Some(None),
    };
    let limits = limits::read(&map);
    let budget = match map.get("budget") {
        Some(value) => value
            .map(&["points"])
            .and_then(|budget| budget.required("points").and_then(|value| points(&value)))
            .map(Some),
        None => Some(None),
    };
    Some(Campaign {
        id: CampaignId::from(id?),
        on: on?,
        during: during?,
        when: when?,
        audience: audience?,
        pays: pays?,
        group: group?,
        limits: limits?,
        budget: budget?,
    })
}

fn multiply(value: &Value<'_>) -> Option<Decimal> {
    value.decimal("a factor above 1 and at most 100, such as 2", |factor| {
        factor > Decimal::ONE && factor <= Decimal::ONE_HUNDRED
    })
}

/// `{from: …, until: …}`, `{monthly: [8]}`, `{weekly: [fri]}` or `birthday`.
pub(super) fn during(value: &Value<'_>, zone: &TimeZone) -> Option<During> {
    const WANTED: &str = "`birthday`, or a period, as in {from: 2026-11-10T20:00, until: 2026-11-12T00:00}, {monthly: [8]} or {weekly: [fri]}";
    if value.is_scalar() {
        return value.read(WANTED, |text| (text == "birthday").then_some(During::Birthday));
    }
    let map = value.map(&["from", "until", "monthly", "weekly"])?;
    let has_bounds = map.get("from").or(map.get("until")).is_some();
    let during = match (map.get("monthly"), map.get("weekly")) {
        (None, None) => return period(&map, zone),
        (Some(days), None) => {
            distinct(&days, "a day of the month", |day| day.whole(1..=31_u8)).map(During::Monthly)
        }
        (None, Some(days)) => {
            distinct(&days, "a day of the week", |day| day.choice(WEEKDAYS)).map(During::Weekly)
        }
        (Some(_), Some(_)) => None,
    };
    if has_bounds || map.get("monthly").and(map.get("weekly")).is_some() {
        map.report(format!("{} must be only one of {WANTED}", value.label()));
        return None;
    }
    during
}

fn period(map: &Map<'_>, zone: &TimeZone) -> Option<During> {
    let bound = |key: &str| map.required(key).and_then(|value| moment(&value, zone));
    let (from, until) = (bound("from"), bound("until"));
    if let (Some(from), Some(until), Some(value)) = (from, until, map.get("until"))
        && until <= from
    {
        value.report(format!("{} must be after `from`", value.label()));
    }
    Some(During::Between { from: from?, until: until? })
}

/// A moment on the clocks of the programme's zone.
pub(super) fn moment(value: &Value<'_>, zone: &TimeZone) -> Option<Timestamp> {
    value.read("a date and time in the programme's zone, such as 2026-11-10T20:00", |text| {
        // A time that a change of clocks skips or repeats is taken as RFC 5545 takes it.
        zone.to_timestamp(text.parse::<DateTime>().ok()?).ok()
    })
}

fn distinct(list: &Value<'_>, item: &str, read: impl Fn(&Value<'_>) -> Option<u8>) -> Option<Days> {
    let values = list.list(item)?;
    if values.is_empty() {
        list.report(format!("{} is empty; name at least {item}", list.label()));
    }
    let mut seen = HashSet::new();
    let mut days = Some(Days::default());
    for value in values {
        let day = read(&value);
        if day.is_some_and(|day| !seen.insert(day)) {
            value.report(format!("{} is given twice", value.label()));
        }
        days = days.zip(day).map(|(days, day)| days.with(day));
    }
    days
}
