//! Streaks: how many days in a row a rule matched with this event, and which bonuses that makes due.

use super::Case;
use crate::account::period_index;
use crate::programme::{Period, Rule};
use crate::types::Points;

/// What a new day does to a rule's streak.
pub(super) struct NewDay {
    /// How long the days in a row are now.
    pub(super) length: u32,
    /// Lengths that are reached and were not paid yet, with their points, ascending.
    pub(super) bonuses: Vec<(u32, Points)>,
}

/// Nothing where the rule has no streak, the day counts already, or is so late that its streak is not
/// known any more.
pub(super) fn new_day(case: &Case<'_>, rule: &Rule) -> Option<NewDay> {
    let Case { account, day, retention, .. } = *case;
    if rule.streak.is_empty() || day.is_forgotten(account, retention) {
        return None;
    }
    let number = period_index(Period::Day, day.date);
    let mut streak = account.streaks.get(&rule.id).cloned().unwrap_or_default();
    if streak.run(number).is_some() {
        return None;
    }
    streak.count(number, retention.days);
    let run = streak.run(number)?;
    let due = rule.streak.iter().copied().filter(|(length, _)| *length > run.2 && *length <= run.length());
    Some(NewDay { length: run.length(), bonuses: due.collect() })
}
