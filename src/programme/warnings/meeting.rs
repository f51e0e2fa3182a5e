//! Whether campaigns can be on for the same event.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::programme::campaign::{Campaign, Days, During};
use crate::programme::condition::Demands;

/// What an event must be for a campaign, or several of them, to be on.
#[derive(Clone, Debug)]
pub(super) struct Meeting {
    /// From the first moment until the one after the last.
    between: Option<(Timestamp, Timestamp)>,
    weekly: Option<Days>,
    monthly: Option<Days>,
    demands: Demands,
}

impl Meeting {
    /// What the campaign asks of an event; nothing where no event has it.
    pub(super) fn of(campaign: &Campaign) -> Option<Self> {
        let demands = Demands::of(campaign.when.iter().chain(&campaign.audience))?;
        let mut meeting = Self { between: None, weekly: None, monthly: None, demands };
        match campaign.during {
            // Every day is somebody's birthday.
            During::Always | During::Birthday => {}
            During::Between { from, until } => meeting.between = Some((from, until)),
            During::Weekly(days) => meeting.weekly = Some(days),
            During::Monthly(days) => meeting.monthly = Some(days),
        }
        Some(meeting)
    }

    /// What both ask; nothing where no event has it.
    pub(super) fn and(&self, other: &Self, zone: &TimeZone) -> Option<Self> {
        let later = |one: (Timestamp, Timestamp), other: (Timestamp, Timestamp)| {
            (one.0.max(other.0), one.1.min(other.1))
        };
        let both = Self {
            between: join(self.between, other.between, later),
            weekly: join(self.weekly, other.weekly, Days::and),
            monthly: join(self.monthly, other.monthly, Days::and),
            demands: self.demands.and(&other.demands)?,
        };
        both.has_a_day(zone).then_some(both)
    }

    fn has_a_day(&self, zone: &TimeZone) -> bool {
        /// Some four years, in which every day of the month is every day of the week.
        const LONG: usize = 1_500;
        if self.weekly.or(self.monthly).is_none() && self.between.is_none() {
            return true;
        }
        if [self.weekly, self.monthly].iter().flatten().any(|days| days.is_empty()) {
            return false;
        }
        let Some((from, until)) = self.between else { return true };
        if from >= until {
            return false;
        }
        let day = |moment: Timestamp| zone.to_datetime(moment).date();
        // The moment `until` is not in the period any more.
        let last = day(until.saturating_sub(jiff::Span::new().nanoseconds(1)).unwrap_or(until));
        let is_on = |date: jiff::civil::Date| {
            let weekday = date.weekday().to_monday_one_offset();
            self.weekly.is_none_or(|days| days.contains(weekday))
                && self.monthly.is_none_or(|days| days.contains(date.day()))
        };
        let days = day(from).series(jiff::Span::new().days(1)).take_while(|date| *date <= last);
        days.take(LONG).any(is_on)
    }
}

fn join<T>(one: Option<T>, other: Option<T>, both: impl FnOnce(T, T) -> T) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(both(one, other)),
        (one, other) => one.or(other),
    }
}
