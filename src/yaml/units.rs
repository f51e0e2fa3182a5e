//! Lengths of time as people write them.

use std::time::Duration;

/// Reads `20ms`, `25s`, `5m`, `12h` or `30d`: a whole number and a unit, exact, a day being 24 hours.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(digits)?;
    let number: u64 = number.parse().ok()?;
    let unit = match unit {
        "ms" => return Some(Duration::from_millis(number)),
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return None,
    };
    number.checked_mul(unit).map(Duration::from_secs)
}

/// A length of time on the calendar, such as ISO 8601's `P1Y` or `P30D`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CalendarSpan {
    /// Calendar months; a year is twelve.
    pub months: u16,
    /// Calendar days; a week is seven.
    pub days: u16,
}

impl CalendarSpan {
    /// The longest span that is read: a hundred years.
    const MOST_MONTHS: u32 = 1_200;
    const MOST_DAYS: u32 = 36_525;

    /// The longer of two, a month being some thirty days.
    #[must_use]
    pub fn longer(self, other: Self) -> Self {
        let days = |span: Self| u32::from(span.months) * 365 / 12 + u32::from(span.days);
        if days(other) > days(self) { other } else { self }
    }

    /// No time at all: `P0D`.
    pub fn is_zero(self) -> bool {
        self == Self::default()
    }

    /// Reads `P1Y`, `P1Y6M`, `P2W`, `P30D`: years, months, weeks and days, at most a hundred years.
    pub fn parse(text: &str) -> Option<Self> {
        let mut rest = text.strip_prefix('P').filter(|rest| !rest.is_empty())?;
        let (mut months, mut days) = (0_u32, 0_u32);
        let mut units = ['Y', 'M', 'W', 'D'].into_iter();
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit())?;
            let (number, tail) = rest.split_at_checked(digits)?;
            let number: u32 = number.parse().ok()?;
            let unit = tail.chars().next()?;
            // Each unit at most once, and the larger before the smaller.
            units.find(|known| *known == unit)?;
            let (sum, factor) = match unit {
                'Y' => (&mut months, 12),
                'M' => (&mut months, 1),
                'W' => (&mut days, 7),
                _ => (&mut days, 1),
            };
            *sum = sum.checked_add(number.checked_mul(factor)?)?;
            rest = tail.get(1..)?;
        }
        if months > Self::MOST_MONTHS || days > Self::MOST_DAYS {
            return None;
        }
        Some(Self { months: u16::try_from(months).ok()?, days: u16::try_from(days).ok()? })
    }
}
