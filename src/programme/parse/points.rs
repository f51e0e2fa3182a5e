//! `points`: how fractions are rounded, how long points live, and what follows where there are too few.

use crate::programme::lifetime::{EndOf, Expire, Lifetime};
use crate::programme::{Rounding, Shortfall};
use crate::yaml::{CalendarSpan, Map, Value};

const ROUNDINGS: &[(&str, Rounding)] =
    &[("floor", Rounding::Floor), ("half_up", Rounding::HalfUp), ("ceil", Rounding::Ceil)];

const SHORTFALLS: &[(&str, Shortfall)] = &[("negative", Shortfall::Negative), ("clamp", Shortfall::Clamp)];

/// What moments may be moved to the end of.
pub(super) const ENDS: &[(&str, EndOf)] = &[("end_of_month", EndOf::Month), ("end_of_year", EndOf::Year)];

/// The section.
pub(super) struct Section {
    pub(super) rounding: Rounding,
    pub(super) lifetime: Lifetime,
    pub(super) shortfall: Shortfall,
    pub(super) notice: Option<CalendarSpan>,
}

impl Default for Section {
    fn default() -> Self {
        Self {
            rounding: Rounding::Floor,
            lifetime: Lifetime::default(),
            shortfall: Shortfall::Negative,
            notice: None,
        }
    }
}

/// The section, which may be left out.
pub(super) fn read(map: &Map<'_>) -> Option<Section> {
    let default = Section::default();
    let Some(section) = map.get("points") else {
        return Some(default);
    };
    let section = section.map(&["hold", "expire", "rounding", "shortfall", "notice"])?;
    let lifetime = lifetime(&section, default.lifetime);
    let rounding = section.get("rounding").map_or(Some(default.rounding), |value| value.choice(ROUNDINGS));
    let shortfall =
        section.get("shortfall").map_or(Some(default.shortfall), |value| value.choice(SHORTFALLS));
    let notice = match section.get("notice") {
        Some(value) => some_time(&value).map(Some),
        None => Some(None),
    };
    Some(Section { rounding: rounding?, lifetime: lifetime?, shortfall: shortfall?, notice: notice? })
}

/// `hold` and `expire` of the programme or of a rule, which has the programme's where it does not say otherwise.
pub(super) fn lifetime(map: &Map<'_>, default: Lifetime) -> Option<Lifetime> {
    let hold = map.get("hold").map_or(Some(default.hold), |value| value.period());
    let expire = map.get("expire").map_or(Some(default.expire), |value| expire(&value));
    let lifetime = Lifetime { hold: hold?, expire: expire? };
    if let Some(Expire { after, .. }) = lifetime.expire
        && lifetime.hold.longer(after) == lifetime.hold
    {
        map.report("the points would expire before they can be spent; `hold` must be shorter than `expire`");
        return None;
    }
    Some(lifetime)
}

/// `never`, or `{after: P1Y}` with `at`, when points expire later than after that time only.
fn expire(value: &Value<'_>) -> Option<Option<Expire>> {
    if value.is_scalar() {
        return value.read("`never`, or when, as in {after: P1Y}", |text| (text == "never").then_some(None));
    }
    let map = value.map(&["after", "at"])?;
    let after = map.required("after").and_then(|after| some_time(&after));
    let at = map.get("at").map_or(Some(EndOf::Moment), |at| at.choice(ENDS));
    Some(Some(Expire { after: after?, at: at? }))
}

/// A period that is not nothing.
pub(super) fn some_time(value: &Value<'_>) -> Option<CalendarSpan> {
    let span = value.period()?;
    if span.is_zero() {
        value.report(format!("{} must be longer than nothing", value.label()));
        return None;
    }
    Some(span)
}
