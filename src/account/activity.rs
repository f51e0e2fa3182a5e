//! What a member did, as far as conditions ask: orders, money spent, sign-ins, by calendar month.

use jiff::civil::Date;
use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::period_index;
use crate::programme::Period;

/// How many calendar months of activity an account keeps at least, and so the most that a condition
/// may ask for: a campaign that is written today can look back two years.
pub const ACTIVE_MONTHS: u16 = 24;

/// What a member did.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Activity {
    /// Paid orders ever.
    #[serde(default)]
    pub orders: u64,
    /// Money paid for them.
    #[serde(default)]
    #[schemars(with = "String", extend("pattern" = r"^-?[0-9]+(\.[0-9]+)?$"))]
    pub spend: Decimal,
    /// When the latest order was paid, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schemars(with = "i64")]
    pub last_order: Option<i64>,
    /// The latest months in which anything was done, ascending.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub months: Vec<ActiveMonth>,
}

/// What was done in one calendar month: `[24310, 3, "59.70", 12]`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ActiveMonth(
    /// Which one: year × 12 + month − 1.
    pub i32,
    /// Paid orders.
    pub u32,
    /// Money paid for them.
    #[schemars(with = "String", extend("pattern" = r"^-?[0-9]+(\.[0-9]+)?$"))]
    pub Decimal,
    /// Sign-ins.
    pub u32,
);

impl Activity {
    /// Whether nothing was done.
    pub fn is_empty(&self) -> bool {
        *self == Activity::default()
    }

    /// Counts a paid order. Sums that leave a decimal's range stay at its end.
    pub fn order(&mut self, amount: Decimal, at: i64, day: Date, kept: u16) {
        self.orders = self.orders.saturating_add(1);
        self.spend = self.spend.saturating_add(amount);
        self.last_order = self.last_order.max(Some(at));
        self.in_month(day, kept, |month| {
            month.1 = month.1.saturating_add(1);
            month.2 = month.2.saturating_add(amount);
        });
    }

    /// A part of an order of this day was refunded, or all of it: then it does not count as one any more.
    pub fn refund(&mut self, amount: Decimal, whole: bool, day: Date) {
        let orders = u32::from(whole);
        self.orders = self.orders.saturating_sub(orders.into());
        self.spend = self.spend.saturating_sub(amount);
        let number = period_index(Period::Month, day);
        if let Ok(at) = self.months.binary_search_by_key(&number, |month| month.0)
            && let Some(month) = self.months.get_mut(at)
        {
            month.1 = month.1.saturating_sub(orders);
            month.2 = month.2.saturating_sub(amount);
        }
    }

    /// The sums alone, without when anything was done.
    pub fn without_days(&self) -> Self {
        Self { orders: self.orders, spend: self.spend, ..Self::default() }
    }

    /// Adds what another member did who is the same person.
    pub fn absorb(&mut self, other: &Self, kept: u16) {
        self.orders = self.orders.saturating_add(other.orders);
        self.spend = self.spend.saturating_add(other.spend);
        self.last_order = self.last_order.max(other.last_order);
        for theirs in &other.months {
            self.in_month_number(theirs.0, kept, |month| {
                month.1 = month.1.saturating_add(theirs.1);
                month.2 = month.2.saturating_add(theirs.2);
                month.3 = month.3.saturating_add(theirs.3);
            });
        }
    }

    /// Counts a sign-in.
    pub fn sign_in(&mut self, day: Date, kept: u16) {
        self.in_month(day, kept, |month| month.3 = month.3.saturating_add(1));
    }

    /// The months that count: the one numbered `last` and `many` − 1 before it.
    pub fn months_to(&self, last: i32, many: u16) -> impl Iterator<Item = &ActiveMonth> {
        let first = last.saturating_sub(i32::from(many));
        self.months.iter().filter(move |month| month.0 > first && month.0 <= last)
    }

    fn in_month(&mut self, day: Date, kept: u16, count: impl FnOnce(&mut ActiveMonth)) {
        self.in_month_number(period_index(Period::Month, day), kept, count);
    }

    fn in_month_number(&mut self, number: i32, kept: u16, count: impl FnOnce(&mut ActiveMonth)) {
        let at = match self.months.binary_search_by_key(&number, |month| month.0) {
            Ok(at) => at,
            Err(at) => {
                self.months.insert(at, ActiveMonth(number, 0, Decimal::ZERO, 0));
                at
            }
        };
        if let Some(month) = self.months.get_mut(at) {
            count(month);
        }
        let newest = self.months.last().map_or(number, |month| month.0);
        self.months.retain(|month| month.0 > newest - i32::from(kept.max(ACTIVE_MONTHS)));
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn months_are_counted_apart_and_old_ones_forgotten() {
        let mut activity = Activity::default();
        activity.order(Decimal::new(1050, 2), 10, date(2024, 1, 31), 0);
        activity.order(Decimal::new(950, 2), 20, date(2024, 2, 1), 0);
        activity.sign_in(date(2024, 2, 2), 0);
        let january = 2024 * 12;
        let count = |activity: &Activity, last, many| -> (u32, Decimal) {
            activity
                .months_to(last, many)
                .fold((0, Decimal::ZERO), |sum, month| (sum.0 + month.1, sum.1 + month.2))
        };
        assert_eq!(count(&activity, january + 1, 2), (2, Decimal::from(20)));
        assert_eq!(count(&activity, january + 1, 1), (1, Decimal::new(950, 2)));
        assert_eq!(count(&activity, january, 1), (1, Decimal::new(1050, 2)));
        activity.sign_in(date(2026, 1, 1), 0);
        assert_eq!(activity.months.first().map(|month| month.0), Some(january + 1));
        assert_eq!((activity.orders, activity.last_order), (2, Some(20)));
    }
}
