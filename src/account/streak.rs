//! Streaks: days in a row on which a rule matched.
//!
//! A streak is kept as its runs of days, so that a late event can still fill a gap. A run on which
//! a bonus was paid is never joined to the run before it: its bonus would have been due on another
//! day, and what is paid stays paid.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A rule's runs, ascending, neither touching nor overlapping but where a paid bonus kept them apart.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Streak(Vec<Run>);

/// Days in a row: `[20779, 20783, 0]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Run(
    /// The first day, in days since 1970-01-01.
    pub i32,
    /// The last.
    pub i32,
    /// The longest length that a bonus was paid for; 0 for none.
    pub u32,
);

impl Run {
    /// How many days it has.
    pub fn length(self) -> u32 {
        u32::try_from(self.1 - self.0 + 1).unwrap_or_default()
    }

    fn holds(self, day: i32) -> bool {
        (self.0..=self.1).contains(&day)
    }
}

impl Streak {
    /// The run that a day is in.
    pub fn run(&self, day: i32) -> Option<Run> {
        self.0.iter().copied().find(|run| run.holds(day))
    }

    /// Counts a day. Runs that ended more than `kept` days before the newest are forgotten: no event may
    /// be that late.
    pub fn count(&mut self, day: i32, kept: u16) {
        if self.run(day).is_some() {
            return;
        }
        let at = self.0.partition_point(|run| run.1 < day);
        let before = at.checked_sub(1).and_then(|before| self.0.get(before)).filter(|run| run.1 + 1 == day);
        let after = self.0.get(at).filter(|run| day + 1 == run.0 && run.2 == 0);
        let joined = Run(
            before.map_or(day, |run| run.0),
            after.map_or(day, |run| run.1),
            before.map_or(0, |run| run.2),
        );
        let from = if before.is_some() { at - 1 } else { at };
        let until = if after.is_some() { at + 1 } else { at };
        self.0.splice(from..until, [joined]);
        let newest = self.0.last().map_or(day, |run| run.1);
        self.0.retain(|run| run.1 >= newest - i32::from(kept));
    }

    /// Notes that the bonus for a length was paid on the run that holds a day.
    pub fn paid(&mut self, day: i32, length: u32) {
        if let Some(run) = self.0.iter_mut().find(|run| run.holds(day)) {
            run.2 = run.2.max(length);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn streak(days: &[i32]) -> Streak {
        let mut streak = Streak::default();
        days.iter().for_each(|&day| streak.count(day, 30));
        streak
    }

    #[test]
    fn days_in_a_row_are_one_run_and_a_gap_begins_another() {
        assert_eq!(streak(&[1, 2, 3]).0, [Run(1, 3, 0)]);
        assert_eq!(streak(&[1, 2, 4]).0, [Run(1, 2, 0), Run(4, 4, 0)]);
        assert_eq!(streak(&[1, 1, 1]).0, [Run(1, 1, 0)]);
    }

    #[test]
    fn a_late_day_fills_the_gap() {
        assert_eq!(streak(&[1, 2, 4, 5, 3]).0, [Run(1, 5, 0)]);
        assert_eq!(streak(&[2, 3, 1]).0, [Run(1, 3, 0)]);
    }

    #[test]
    fn a_late_day_leaves_a_run_alone_that_a_bonus_was_paid_on() {
        let mut streak = streak(&[1, 2, 4, 5, 6]);
        streak.paid(6, 3);
        streak.count(3, 30);
        assert_eq!(streak.0, [Run(1, 3, 0), Run(4, 6, 3)]);
        streak.count(7, 30);
        assert_eq!(streak.0, [Run(1, 3, 0), Run(4, 7, 3)]);
    }

    #[test]
    fn runs_that_no_event_may_reach_are_forgotten() {
        assert_eq!(streak(&[1, 2, 40]).0, [Run(40, 40, 0)]);
    }

    proptest! {
        #[test]
        fn without_bonuses_the_order_of_days_does_not_matter(mut days in prop::collection::vec(0..28_i32, 0..40)) {
            let shuffled = streak(&days);
            days.sort_unstable();
            prop_assert_eq!(shuffled, streak(&days));
        }

        #[test]
        fn runs_stay_in_order_and_never_overlap(
            days in prop::collection::vec((0..60_i32, any::<bool>()), 0..60)
        ) {
            let mut streak = Streak::default();
            for (day, paid) in days {
                streak.count(day, 30);
                if let Some(run) = streak.run(day).filter(|_| paid) {
                    streak.paid(day, run.length());
                }
                prop_assert!(streak.0.windows(2).all(|pair| pair[0].1 < pair[1].0), "{streak:?}");
                prop_assert!(streak.0.iter().all(|run| run.0 <= run.1));
            }
        }
    }
}
