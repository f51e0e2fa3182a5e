//! Campaigns: what changes the pay of rules for a period and an audience.

use jiff::Timestamp;
use jiff::civil::Date;
use rust_decimal::Decimal;

use super::{Limit, condition};
use crate::types::{CampaignId, EventType, Points};

/// Pays more on what the rules paid for an event type, while it is on.
#[derive(Debug)]
pub struct Campaign {
    /// Its name in entries and metrics; unique among campaigns.
    pub id: CampaignId,
    /// The event type that it pays for.
    pub on: EventType,
    /// When it is on, by the event's own time.
    pub during: During,
    /// What must hold of the event.
    pub when: Option<condition::Condition>,
    /// What must hold of the member.
    pub audience: Option<condition::Condition>,
    /// How much it pays.
    pub pays: Pays,
    /// Of the campaigns of one group only the one that pays most pays.
    pub group: Option<Box<str>>,
    /// What it never exceeds for a member; all of them hold.
    pub limits: Vec<Limit>,
    /// What it never exceeds for all members together. It pays what is left of it.
    pub budget: Option<Points>,
}

/// How much a campaign pays.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pays {
    /// The base × (factor − 1), rounded once. The factor is above 1.
    Multiply(Decimal),
    /// These points, whatever the base.
    Add(Points),
}

/// When a campaign is on. Days are those of the programme's zone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum During {
    /// As long as it stands in the file.
    Always,
    /// From a moment on, until another one, which is not in it any more.
    Between {
        /// The first moment.
        from: Timestamp,
        /// The moment after the last.
        until: Timestamp,
    },
    /// On these days of the week.
    Weekly(Days),
    /// On these days of the month. A month that lacks the day is left out.
    Monthly(Days),
    /// On the member's birthday, see [`is_birthday`].
    Birthday,
}

/// Numbers of days, 1 to 31.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Days(u32);

impl Days {
    /// With a day more.
    pub fn with(self, day: u8) -> Self {
        Self(self.0 | 1_u32.checked_shl(day.into()).unwrap_or(0))
    }

    /// The days that are among both.
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether it has none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether the day is among them.
    pub fn contains(self, day: i8) -> bool {
        u32::try_from(day).ok().and_then(|day| 1_u32.checked_shl(day)).is_some_and(|bit| self.0 & bit != 0)
    }
}

impl During {
    /// Whether an event of this moment, on this day, by a member born then, falls into it.
    pub fn holds(&self, time: Timestamp, day: Date, birthday: Option<Date>) -> bool {
        match self {
            During::Always => true,
            During::Between { from, until } => (*from..*until).contains(&time),
            During::Weekly(days) => days.contains(day.weekday().to_monday_one_offset()),
            During::Monthly(days) => days.contains(day.day()),
            During::Birthday => birthday.is_some_and(|birthday| is_birthday(birthday, day)),
        }
    }
}

/// Whether `day` is the birthday of who was born on `birthday`. Who was born on 29 February has it on
/// 28 February in years without one, so that nobody is left out.
pub fn is_birthday(birthday: Date, day: Date) -> bool {
    birthday_in(birthday, day.year()) == day
}

/// The birthday in a year; see [`is_birthday`].
pub fn birthday_in(birthday: Date, year: i16) -> Date {
    let same_day = Date::new(year, birthday.month(), birthday.day());
    // Only 29 February is missing in a year; and 28 February is in all that there are.
    same_day.or_else(|_| Date::new(year, 2, 28)).unwrap_or(birthday)
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn a_birthday_comes_every_year_also_on_a_leap_day() {
        for (born, day, expected) in [
            (date(1990, 5, 17), date(2026, 5, 17), true),
            (date(1990, 5, 17), date(2026, 5, 18), false),
            (date(2000, 2, 29), date(2028, 2, 29), true),
            (date(2000, 2, 29), date(2026, 2, 28), true),
            (date(2000, 2, 29), date(2028, 2, 28), false),
            (date(2000, 2, 29), date(2026, 3, 1), false),
            (date(2000, 2, 28), date(2026, 2, 28), true),
        ] {
            assert_eq!(is_birthday(born, day), expected, "{born} on {day}");
        }
    }

    #[test]
    fn a_period_holds_its_first_moment_and_not_its_last() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let (from, until) = (at("2026-11-10T20:00:00Z"), at("2026-11-12T00:00:00Z"));
        let during = During::Between { from, until };
        let day = date(2026, 11, 10);
        for (time, expected) in [
            ("2026-11-10T19:59:59.999Z", false),
            ("2026-11-10T20:00:00Z", true),
            ("2026-11-11T23:59:59.999Z", true),
            ("2026-11-12T00:00:00Z", false),
        ] {
            assert_eq!(during.holds(at(time), day, None), expected, "{time}");
        }
    }

    #[test]
    fn days_of_the_week_and_of_the_month_are_told_apart() {
        let friday = Days::default().with(5);
        let noon = "2026-11-20T12:00:00Z".parse().unwrap();
        assert!(During::Weekly(friday).holds(noon, date(2026, 11, 20), None)); // a Friday
        assert!(!During::Weekly(friday).holds(noon, date(2026, 11, 5), None)); // a Thursday, the fifth
        assert!(During::Monthly(friday).holds(noon, date(2026, 11, 5), None));
        assert!(!During::Monthly(Days::default().with(31)).holds(noon, date(2026, 11, 30), None));
    }
}
