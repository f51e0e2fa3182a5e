//! How long points live: held at first, then spendable, until they expire.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

use crate::yaml::CalendarSpan;

/// What becomes of points by themselves, from the moment on at which they were earned.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Lifetime {
    /// They are pending for so long; nothing where they can be spent at once.
    pub hold: CalendarSpan,
    /// When they expire; never where absent.
    pub expire: Option<Expire>,
}

/// When points expire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Expire {
    /// So long after they were earned, on the zone's calendar.
    pub after: CalendarSpan,
    /// Whether they live on to the end of something.
    pub at: EndOf,
}

/// What a moment is moved to the end of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EndOf {
    /// Nothing: it stays as it is, to the second.
    Moment,
    /// The calendar month that it lies in: the first moment of the next.
    Month,
    /// The calendar year.
    Year,
}

/// The two moments in the life of points, in seconds since 1970.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Moments {
    /// From when on they can be spent; at once where absent.
    pub release: Option<i64>,
    /// From when on they cannot any more; never where absent. Not before `release`.
    pub expires: Option<i64>,
}

impl Lifetime {
    /// The moments of points that are earned at `time`.
    pub fn moments(&self, zone: &TimeZone, time: Timestamp) -> Moments {
        let release = if self.hold.is_zero() { None } else { after(zone, time, self.hold) };
        let expires =
            self.expire.and_then(|expire| end_of(zone, after(zone, time, expire.after)?, expire.at));
        // Points that would expire while they are held could never be spent.
        Moments { release, expires: expires.map(|expires| expires.max(release.unwrap_or(expires))) }
    }
}

/// The moment so long after another, at the same time of day on the zone's clocks. Nothing out of a calendar's reach.
pub fn after(zone: &TimeZone, time: Timestamp, span: CalendarSpan) -> Option<i64> {
    let span = Span::new().months(i32::from(span.months)).days(i32::from(span.days));
    time.to_zoned(zone.clone()).checked_add(span).ok().map(|then| then.timestamp().as_second())
}

/// The moment so long before another.
pub fn before(zone: &TimeZone, second: i64, span: CalendarSpan) -> Option<i64> {
    let span = Span::new().months(i32::from(span.months)).days(i32::from(span.days));
    let time = Timestamp::from_second(second).ok()?.to_zoned(zone.clone());
    time.checked_sub(span).ok().map(|then| then.timestamp().as_second())
}

/// The end of what a moment lies in. What begins with it has ended already: points that expire at the first moment
/// of a month were valid to the end of the month before.
pub fn end_of(zone: &TimeZone, second: i64, at: EndOf) -> Option<i64> {
    let first_of_next = |date: Date| match at {
        EndOf::Moment => None,
        EndOf::Month => date.first_of_month().checked_add(Span::new().months(1)).ok(),
        EndOf::Year => Date::new(date.year().checked_add(1)?, 1, 1).ok(),
    };
    if at == EndOf::Moment {
        return Some(second);
    }
    let moment = zone.to_datetime(Timestamp::from_second(second).ok()?);
    let first_of_this = match at {
        EndOf::Year => Date::new(moment.date().year(), 1, 1).ok()?,
        _ => moment.date().first_of_month(),
    };
    if moment == first_of_this.at(0, 0, 0, 0) {
        return Some(second);
    }
    first_moment(zone, first_of_next(moment.date())?.at(0, 0, 0, 0))
}

/// A moment on the zone's clocks, in seconds since 1970.
fn first_moment(zone: &TimeZone, moment: DateTime) -> Option<i64> {
    zone.to_ambiguous_zoned(moment).compatible().ok().map(|first| first.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(hold: &str, after: &str, at: EndOf, time: &str) -> (Option<String>, Option<String>) {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let span = |text: &str| CalendarSpan::parse(text).unwrap();
        let life = Lifetime { hold: span(hold), expire: Some(Expire { after: span(after), at }) };
        let Moments { release, expires } = life.moments(&zone, time.parse().unwrap());
        let shown =
            |second: Option<i64>| second.map(|second| Timestamp::from_second(second).unwrap().to_string());
        (shown(release), shown(expires))
    }

    #[test]
    fn points_are_held_and_expire_to_the_second_on_the_programmes_calendar() {
        use EndOf::{Moment, Month, Year};
        for (hold, after, at, time, release, expires) in [
            ("P0D", "P1Y", Moment, "2026-11-26T10:00:07Z", None, "2027-11-26T10:00:07Z"),
            // The clocks of the zone went back in between: the same time of day.
            (
                "P14D",
                "P30D",
                Moment,
                "2026-10-20T10:00:00Z",
                Some("2026-11-03T11:00:00Z"),
                "2026-11-19T11:00:00Z",
            ),
            // There is no 29 February in 2029.
            ("P0D", "P1Y", Moment, "2028-02-29T12:00:00Z", None, "2029-02-28T12:00:00Z"),
            ("P0D", "P1Y", Month, "2026-11-26T10:00:00Z", None, "2027-11-30T23:00:00Z"),
            ("P0D", "P1Y", Year, "2026-11-26T10:00:00Z", None, "2027-12-31T23:00:00Z"),
            // 23:30 of 31 December in UTC is next year in Berlin.
            ("P0D", "P1Y", Year, "2026-12-31T23:30:00Z", None, "2028-12-31T23:00:00Z"),
            // The first moment of a month is the end of the month before.
            ("P0D", "P1M", Month, "2026-10-31T23:00:00Z", None, "2026-11-30T23:00:00Z"),
            // Held for longer than they would live: spendable for no time at all, and never expired while held.
            (
                "P3M",
                "P1M",
                Moment,
                "2026-01-15T12:00:00Z",
                Some("2026-04-15T11:00:00Z"),
                "2026-04-15T11:00:00Z",
            ),
        ] {
            let found = moments(hold, after, at, time);
            assert_eq!(
                found,
                (release.map(str::to_owned), Some(expires.to_owned())),
                "{hold} {after} {time}"
            );
        }
    }

    #[test]
    fn points_that_never_expire_have_no_moments() {
        assert_eq!(Lifetime::default().moments(&TimeZone::UTC, Timestamp::UNIX_EPOCH), Moments::default());
    }
}
