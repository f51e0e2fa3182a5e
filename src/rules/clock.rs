//! What the clock tells: a member's birthday and the anniversary of their registration, each once a year at the first
//! moment of the day in the programme's zone; what falls due in the account ([`super::due`]); and the end of what a
//! refund waits for its order.
//!
//! The account says which year's is over, so that a day is celebrated once however often its event comes.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::due;
use crate::account::{Account, Profile, WaitingRefund};
use crate::event::Event;
use crate::event::internal::{Celebration, Internal};
use crate::programme::Programme;
use crate::programme::campaign::birthday_in;
use crate::programme::lifetime::after;
use crate::types::Occasion;
use crate::yaml::CalendarSpan;

/// A day that is over for longer is not celebrated any more: the clock stood still, or had nobody to tell.
const LATE_BY_AT_MOST: i64 = 31 * 86_400;

/// Something of a member's that has come.
#[derive(Clone, PartialEq, Debug)]
pub struct Due {
    /// What.
    pub what: What,
    /// Its moment.
    pub at: Timestamp,
    /// The same as it is published (RFC 3339).
    pub time: String,
}

/// What may come.
#[derive(Clone, PartialEq, Debug)]
pub enum What {
    /// A day.
    Celebration(Celebration),
    /// Something of the account's points or its level, see [`super::due`]. All of it goes with one event.
    Account,
    /// The end of what a refund waits for its order.
    Refund(Box<WaitingRefund>),
}

/// The moment at which something falls due next, in seconds since 1970; it may have passed.
pub fn next(programme: &Programme, account: &Account) -> Option<i64> {
    let zone = &programme.zone;
    let days = days(zone, account)
        .filter_map(|day| Some(moment(zone, day.in_year(day.last + 1))?.as_second()))
        .min();
    earliest([days, due::next(programme, account), waiting(account), anniversary_of_level(zone, account)])
}

/// The moment after `now` at which something falls due next, whatever has passed.
pub fn next_after(programme: &Programme, account: &Account, now: Timestamp) -> Option<i64> {
    let zone = &programme.zone;
    let others = [due::next(programme, account), waiting(account), anniversary_of_level(zone, account)];
    let others = others.map(|moment| moment.filter(|moment| *moment > now.as_second()));
    earliest([next_day(zone, account, now)].into_iter().chain(others))
}

/// The moment at which the index of what falls due has a member at the latest, for who checks it; nothing where nothing need
/// come. It may have the member earlier: who is told too early is looked at once more. What has passed is told at once, but
/// for days and levels that nobody is told of, which come again next year. Without a programme, what any would say.
pub fn at_latest(
    zone: &TimeZone,
    programme: Option<&Programme>,
    account: &Account,
    now: Timestamp,
) -> Option<i64> {
    let of_points = || {
        let release = account.held.first().and_then(|lot| lot.release);
        earliest([release, account.lots.first().and_then(|lot| lot.expires)])
    };
    let told = programme.map_or_else(of_points, |programme| due::next(programme, account));
    let told = earliest([told, waiting(account)]);
    if told.is_some_and(|moment| moment <= now.as_second()) {
        return Some(now.as_second());
    }
    let of_level = anniversary_of_level(zone, account).filter(|moment| *moment > now.as_second());
    earliest([told, next_day(zone, account, now), of_level])
}

/// The first moment after `now` of a day of the member's.
fn next_day(zone: &TimeZone, account: &Account, now: Timestamp) -> Option<i64> {
    let year = zone.to_datetime(now).year();
    let first = |day: Day| {
        let years = (year.max(day.last + 1)..).take(2);
        let mut moments = years.filter_map(|year| moment(zone, day.in_year(year)));
        moments.find(|moment| *moment > now).map(Timestamp::as_second)
    };
    days(zone, account).filter_map(first).min()
}

fn earliest(moments: impl IntoIterator<Item = Option<i64>>) -> Option<i64> {
    moments.into_iter().flatten().min()
}

/// The end of what a refund waits.
fn waiting(account: &Account) -> Option<i64> {
    account.waiting.iter().map(|waiting| waiting.until).min()
}

/// Who has a level is looked at once a year also where no level is reviewed, so that a review that is written later finds
/// everybody.
fn anniversary_of_level(zone: &TimeZone, account: &Account) -> Option<i64> {
    let held = account.tier.as_ref()?;
    let year = CalendarSpan { months: 12, days: 0 };
    let mut at = held.since;
    for _ in 0..200 {
        at = after(zone, Timestamp::from_second(at).ok()?, year)?;
        if at > account.newest {
            return Some(at);
        }
    }
    None
}

/// What has come by `now`: of each day the latest, unless it is over or too long ago.
pub fn due(programme: &Programme, account: &Account, now: Timestamp) -> Vec<Due> {
    let zone = &programme.zone;
    let this_year = zone.to_datetime(now).year();
    let of = |what: What, at: Timestamp| {
        let time = at.to_zoned(zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
        Due { what, at, time }
    };
    let latest = |day: Day| {
        let come = |year: i16| {
            let at = moment(zone, day.in_year(year)).filter(|at| *at <= now)?;
            Some((year, at))
        };
        let (year, at) = come(this_year).or_else(|| come(this_year - 1))?;
        let is_due = year > day.last && now.as_second() - at.as_second() <= LATE_BY_AT_MOST;
        is_due.then(|| of(What::Celebration(Celebration { occasion: day.occasion, year }), at))
    };
    let mut due: Vec<Due> = days(zone, account).filter_map(latest).collect();
    let has_come = due::next(programme, account).is_some_and(|moment| moment <= now.as_second());
    let account_due = due::latest(programme, account, now.as_second()).filter(|_| has_come);
    due.extend(account_due.and_then(|at| Timestamp::from_second(at).ok()).map(|at| of(What::Account, at)));
    let over = account.waiting.iter().filter(|waiting| waiting.until <= now.as_second());
    due.extend(over.filter_map(|waiting| {
        let at = Timestamp::from_second(waiting.until).ok()?;
        Some(of(What::Refund(Box::new(waiting.clone())), at))
    }));
    due
}

/// Whether the event says of a day that it has come, and that day is over.
pub(super) fn is_over(account: &Account, event: &Event) -> bool {
    let Some(Internal::Celebration(day)) = event.internal.as_deref() else { return false };
    account.profile.celebrated.last(day.occasion).is_some_and(|last| day.year <= last)
}

/// A day of a member's that comes every year.
#[derive(Clone, Copy)]
struct Day {
    occasion: Occasion,
    /// The first of its kind.
    origin: Date,
    /// The last year in which it is over.
    last: i16,
}

impl Day {
    fn in_year(self, year: i16) -> Date {
        birthday_in(self.origin, year)
    }
}

fn days(zone: &TimeZone, account: &Account) -> impl Iterator<Item = Day> {
    // Nobody is congratulated on an account that they have left.
    let open = account.closed.is_none().then_some(&account.profile);
    open.into_iter().flat_map(move |profile| days_of(zone, profile))
}

fn days_of(zone: &TimeZone, profile: &Profile) -> impl Iterator<Item = Day> + use<> {
    let registered = profile.registered.and_then(|at| Timestamp::from_second(at).ok());
    let registered = registered.map(|at| zone.to_datetime(at).date());
    let of = |occasion, origin: Option<Date>| {
        Some(Day { occasion, origin: origin?, last: profile.celebrated.last(occasion)? })
    };
    [of(Occasion::Birthday, profile.birthday), of(Occasion::Anniversary, registered)].into_iter().flatten()
}

/// The first moment of a day; nothing out of a calendar's reach.
fn moment(zone: &TimeZone, day: Date) -> Option<Timestamp> {
    zone.to_ambiguous_zoned(day.at(0, 0, 0, 0)).compatible().ok().map(|first| first.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn programme() -> Programme {
        let text = "programme: p\ntimezone: Asia/Shanghai\ncurrency: CNY\nrules: [{id: r, on: order.paid, earn: {points: 1}}]\n";
        Programme::parse("programme.yaml", text).unwrap()
    }

    fn born(birthday: &str, last: i16) -> Account {
        let mut account = Account::new("ann".into());
        account.profile = Profile { birthday: Some(birthday.parse().unwrap()), ..Profile::default() };
        account.profile.celebrated.celebrate(Occasion::Birthday, last);
        account
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_birthday_comes_at_the_first_moment_of_the_day_in_the_programmes_zone() {
        let ann = born("1990-05-17", 2025);
        assert_eq!(next(&programme(), &ann), Some(at("2026-05-17T00:00:00+08:00").as_second()));
        assert_eq!(due(&programme(), &ann, at("2026-05-16T15:59:59Z")), []);
        let found = due(&programme(), &ann, at("2026-05-16T16:00:00Z"));
        assert_eq!(found[0].time, "2026-05-17T00:00:00+08:00");
        let birthday = Celebration { occasion: Occasion::Birthday, year: 2026 };
        assert_eq!(found[0].what, What::Celebration(birthday));
        assert_eq!(due(&programme(), &born("1990-05-17", 2026), at("2026-05-18T00:00:00Z")), []);
    }

    #[test]
    fn who_was_born_on_a_leap_day_has_a_birthday_every_year() {
        for (year, day) in [(2027, "2027-02-28"), (2028, "2028-02-29")] {
            let next = next(&programme(), &born("2000-02-29", year - 1)).unwrap();
            assert_eq!(next, at(&format!("{day}T00:00:00+08:00")).as_second());
        }
    }

    #[test]
    fn a_clock_that_stood_still_catches_up_on_a_month_and_no_longer() {
        let ann = born("1990-05-17", 2020);
        assert_eq!(due(&programme(), &ann, at("2026-06-16T00:00:00+08:00")).len(), 1);
        assert_eq!(due(&programme(), &ann, at("2026-06-18T00:00:00+08:00")), []);
        let after = next_after(&programme(), &ann, at("2026-06-18T00:00:00+08:00")).unwrap();
        assert_eq!(after, at("2027-05-17T00:00:00+08:00").as_second());
        // Also over the turn of a year.
        assert_eq!(due(&programme(), &born("1990-12-30", 2025), at("2027-01-02T00:00:00+08:00")).len(), 1);
    }

    #[test]
    fn a_registration_has_its_first_anniversary_a_year_later() {
        let mut ann = Account::new("ann".into());
        let registered = at("2025-12-31T16:30:00Z"); // 2026-01-01 in Shanghai
        ann.profile.registered = Some(registered.as_second());
        ann.profile.celebrated.celebrate(Occasion::Anniversary, 2026);
        assert_eq!(next(&programme(), &ann), Some(at("2027-01-01T00:00:00+08:00").as_second()));
    }
}
