//! `tiers`: the levels of membership and what is measured to reach them.

use rust_decimal::Decimal;

use super::ids::Ids;
use super::limits::MOST_POINTS;
use super::points::{ENDS, some_time};
use super::{bounded, ids};
use crate::programme::lifetime::EndOf;
use crate::programme::{Drop, Level, Measure, Review, Tiers, Window};
use crate::types::{Points, TierId};
use crate::yaml::{CalendarSpan, Map, Value};

/// How many levels a programme may have.
const MOST_LEVELS: usize = 100;
/// The longest rolling window.
const MOST_MONTHS: u16 = 120;

const MEASURES: &[(&str, Measure)] = &[("earned", Measure::Earned), ("spend", Measure::Spend)];

/// The section.
pub(super) fn read(section: &Value<'_>) -> Option<Tiers> {
    let section = section.map(&["measure", "window", "review", "levels"])?;
    let measure = section.get("measure").map_or(Some(Measure::Earned), |value| value.choice(MEASURES));
    let window = section.required("window").and_then(|value| window(&value));
    let review = match section.get("review") {
        Some(value) => review(&value).map(Some),
        None => Some(None),
    };
    let levels = section.required("levels").and_then(|value| levels(&value));
    Some(Tiers { measure: measure?, window: window?, review: review?, levels: levels? })
}

fn window(value: &Value<'_>) -> Option<Window> {
    let wanted =
        format!("whole months such as P12M, at most {MOST_MONTHS}, or `lifetime` or `calendar_year`");
    value.read(wanted, |text| match text {
        "lifetime" => Some(Window::Lifetime),
        "calendar_year" => Some(Window::CalendarYear),
        months => match CalendarSpan::parse(months) {
            Some(CalendarSpan { months, days: 0 }) if (1..=MOST_MONTHS).contains(&months) => {
                Some(Window::Months(months))
            }
            _ => None,
        },
    })
}

fn review(value: &Value<'_>) -> Option<Review> {
    let map = value.map(&["every", "at", "drop", "grace", "notice"])?;
    let every = map.required("every").and_then(|every| some_time(&every));
    let at = map.get("at").map_or(Some(EndOf::Moment), |at| at.choice(ENDS));
    let drops = [("one_level", Drop::OneLevel), ("to_measure", Drop::ToMeasure)];
    let drop = map.required("drop").and_then(|drop| drop.choice(&drops));
    let grace = map.get("grace").map_or(Some(CalendarSpan::default()), |grace| grace.period());
    let notice = match map.get("notice") {
        Some(notice) => some_time(&notice).map(Some),
        None => Some(None),
    };
    Some(Review { every: every?, at: at?, grace: grace?, notice: notice?, drop: drop? })
}

fn levels(list: &Value<'_>) -> Option<Vec<Level>> {
    let values = bounded(list, "a level", MOST_LEVELS)?;
    if values.is_empty() {
        list.report("`tiers.levels` is empty; name at least one, as in `{id: basic, from: 0}`");
    }
    let mut ids = Ids::default();
    let mut below: Option<Points> = None;
    let read = |value: &Value<'_>| {
        let map = value.map(&["id", "from", "earn", "redeem", "benefits"])?;
        let from = map.required("from").and_then(|value| from(&value, &mut below));
        level(&map, &mut ids, from)
    };
    let levels: Vec<Option<Level>> = values.iter().map(read).collect();
    levels.into_iter().collect()
}

/// The first level starts at 0, each further one above the one before.
fn from(value: &Value<'_>, below: &mut Option<Points>) -> Option<Points> {
    let from = Points(value.whole(0..=MOST_POINTS)?);
    match *below {
        None if from > Points::ZERO => {
            value.report("the first level must be from 0, so that every member has a level");
        }
        Some(before) if from <= before => {
            value.report(format!("`from` must be more than {before}, which the level before has"));
        }
        _ => {}
    }
    *below = (*below).max(Some(from));
    Some(from)
}

fn level(map: &Map<'_>, ids: &mut Ids, from: Option<Points>) -> Option<Level> {
    let id = ids.read(map);
    let earn = map.get("earn").map_or(Some(Decimal::ONE), |value| factor(&value));
    let redeem = map.get("redeem").map_or(Some(Decimal::ONE), |value| factor(&value));
    let benefits = map.get("benefits").map_or(Some(Vec::new()), |value| benefits(&value));
    Some(Level { id: TierId::from(id?), from: from?, earn: earn?, redeem: redeem?, benefits: benefits? })
}

fn factor(value: &Value<'_>) -> Option<Decimal> {
    value.decimal("a factor from 1 to 100, such as 1.25", |factor| {
        (Decimal::ONE..=Decimal::ONE_HUNDRED).contains(&factor)
    })
}

fn benefits(list: &Value<'_>) -> Option<Vec<String>> {
    let mut names = Ids::default();
    let values = bounded(list, "a benefit", MOST_LEVELS)?;
    let read = |value: &Value<'_>| names.take(&ids::id(value)?, value);
    let benefits: Vec<Option<String>> = values.iter().map(read).collect();
    benefits.into_iter().collect()
}
