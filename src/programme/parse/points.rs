//! `points`: how fractions are rounded and how long points live.

use super::not_yet;
use crate::programme::Rounding;
use crate::yaml::{Map, Value};

const ROUNDINGS: &[(&str, Rounding)] =
    &[("floor", Rounding::Floor), ("half_up", Rounding::HalfUp), ("ceil", Rounding::Ceil)];

/// The section, which may be left out.
pub(super) fn read(map: &Map<'_>) -> Option<Rounding> {
    let Some(section) = map.get("points") else {
        return Some(Rounding::Floor);
    };
    let section = section.map(&["hold", "expire", "rounding", "shortfall", "notice"])?;
    let refuse = |key: &str| {
        if let Some(place) = section.key_place(key) {
            not_yet::refuse(&format!("points.{key}"), place, section.value().collector());
        }
    };
    if let Some(value) = section.get("hold")
        && value.period().is_none_or(|hold| !hold.is_zero())
    {
        refuse("hold");
    }
    if let Some(value) = section.get("expire")
        && !expire(&value)
    {
        refuse("expire");
    }
    if let Some(value) = section.get("shortfall") {
        value.choice(&[("negative", ()), ("clamp", ())]);
        refuse("shortfall");
    }
    if let Some(value) = section.get("notice") {
        some_time(&value);
        refuse("notice");
    }
    section.get("rounding").map_or(Some(Rounding::Floor), |value| value.choice(ROUNDINGS))
}

/// `never`, or `{after: P1Y}` with `at`, when points expire later than after that time only. Whether
/// it is `never`.
pub(super) fn expire(value: &Value<'_>) -> bool {
    if value.is_scalar() {
        return value
            .read("`never`, or when, as in {after: P1Y}", |text| (text == "never").then_some(()))
            .is_some();
    }
    if let Some(map) = value.map(&["after", "at"]) {
        map.required("after").map(|after| some_time(&after));
        map.get("at").map(|at| at.choice(&[("end_of_month", ()), ("end_of_year", ())]));
    }
    false
}

/// A period that is not nothing.
pub(super) fn some_time(value: &Value<'_>) -> Option<()> {
    if value.period()?.is_zero() {
        value.report(format!("{} must be longer than nothing", value.label()));
        return None;
    }
    Some(())
}
