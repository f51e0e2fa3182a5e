//! A flood of dead letters. One that is broken costs a letter; where most of what comes is broken, it is a deployment that is
//! wrong, here or upstream, and every letter more is one to be put back by hand. So the lane stops taking input
//! and says so, until somebody has looked. Nothing is lost by it: what was not taken waits in its partition.
//!
//! It begins anew with a restart, with other partitions, and with another programme, which may be what was wrong. By
//! itself it does not: whoever mends it must not race with it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rust_decimal::Decimal;

use super::tally::Tally;
use super::{Lane, LaneError, Left, Turn};
use crate::log::Log;
use crate::store::Store;

/// From when on dead letters are a flood.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FloodLimits {
    /// The share of a lane's events that may be dead letters: 0 to 1, which any share keeps to.
    pub max_share: Decimal,
    /// Of fewer events in `window` nothing is said.
    pub min_events: u64,
    /// How far back it is looked.
    pub window: Duration,
}

impl FloodLimits {
    /// None: however many dead letters there are, the lane goes on.
    pub const NONE: Self =
        Self { max_share: Decimal::ONE, min_events: u64::MAX, window: Duration::from_mins(1) };
}

impl Default for FloodLimits {
    /// More than half of a thousand or more within a minute.
    fn default() -> Self {
        Self { max_share: Decimal::new(5, 1), min_events: 1_000, window: Duration::from_mins(1) }
    }
}

/// A window is counted in so many parts.
const PARTS: u32 = 60;

/// How long the lane waits, having stopped, before it looks whether it may go on.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What a lane's events came to lately.
#[derive(Debug)]
pub(super) struct Flood {
    limits: FloodLimits,
    /// The oldest first.
    parts: VecDeque<Part>,
    stopped: bool,
}

#[derive(Clone, Copy, Debug)]
struct Part {
    begins: Instant,
    seen: Seen,
}

/// Events that were looked at: not those that are skipped or were processed before.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Seen {
    /// All of them.
    pub events: u64,
    /// Those that are dead letters.
    pub letters: u64,
}

impl Flood {
    pub(super) fn new(limits: FloodLimits) -> Self {
        Self { limits, parts: VecDeque::new(), stopped: false }
    }

    /// Takes in what a batch came to. The sum of the window where it is a flood.
    fn note(&mut self, now: Instant, seen: Seen) -> Option<Seen> {
        let Self { limits, parts, .. } = self;
        while parts.front().is_some_and(|part| now.duration_since(part.begins) >= limits.window) {
            parts.pop_front();
        }
        match parts.back_mut() {
            Some(last) if now.duration_since(last.begins) < limits.window / PARTS => last.seen.add(seen),
            _ => parts.push_back(Part { begins: now, seen }),
        }
        let mut all = Seen::default();
        parts.iter().for_each(|part| all.add(part.seen));
        // Exact but for sums that no lane comes to.
        let most = limits.max_share.saturating_mul(all.events.into());
        self.stopped = all.events >= limits.min_events && Decimal::from(all.letters) > most;
        self.stopped.then_some(all)
    }

    fn forget(&mut self) {
        self.parts.clear();
        self.stopped = false;
    }
}

impl Seen {
    fn add(&mut self, other: Self) {
        self.events = self.events.saturating_add(other.events);
        self.letters = self.letters.saturating_add(other.letters);
    }
}

impl<L: Log, S: Store> Lane<L, S> {
    /// Takes in what a batch came to, and stops the input where that is a flood.
    pub(super) fn watch_for_flood(&mut self, tally: &Tally) {
        let Some(Seen { events, letters }) = self.flood.note(Instant::now(), tally.seen()) else { return };
        let FloodLimits { max_share, window, .. } = self.settings.flood;
        let most =
            tally.usual_dead_letter().map(|reason| format!(", most of them {reason}")).unwrap_or_default();
        let why = format!(
            "takes no input: {letters} of {events} events within {} s were dead letters{most}; dead_letters.max_share is \
             {max_share}. See `accrual dead-letters list`. Once it is mended, restart the worker and `accrual dead-letters \
             replay`; to let everything that is broken become a dead letter, restart it with ACCRUAL_DEAD_LETTERS__MAX_SHARE=1",
            window.as_secs()
        );
        tracing::error!(lane = %self.status.name, "{why}");
        self.status.stop_input(&self.metrics, why);
    }

    /// Takes input again, to be judged anew.
    pub(super) fn forget_flood(&mut self) {
        if self.flood.stopped {
            tracing::info!(lane = %self.status.name, "takes input again, and judges dead letters anew");
        }
        self.flood.forget();
        self.status.take_input(&self.metrics);
    }

    /// Where the input is stopped: stays in the group without it. Nothing where it is not.
    pub(super) fn stand_still(&mut self) -> Result<Option<Turn>, LaneError> {
        if !self.flood.stopped {
            return Ok(None);
        }
        self.save_progress();
        match self.stay_in_group(LOOK_AGAIN_AFTER) {
            Ok(()) | Err(Left::Stopped) => Ok(Some(Turn::Idle)),
            Err(Left::Reassigned(assigned)) => {
                self.forget_flood();
                self.adopt(assigned).map(|()| Some(Turn::Worked))
            }
            Err(Left::Failed(error)) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn flood() -> Flood {
        Flood::new(FloodLimits::default())
    }

    fn seen(letters: u64, events: u64) -> Seen {
        Seen { events, letters }
    }

    #[test]
    fn more_than_the_share_of_enough_events_is_a_flood() {
        let now = Instant::now();
        assert_eq!(flood().note(now, seen(500, 1_000)), None, "half is not more than half");
        assert_eq!(flood().note(now, seen(999, 999)), None, "too few to tell");
        assert_eq!(flood().note(now, seen(501, 1_000)), Some(seen(501, 1_000)));
        let mut never = Flood::new(FloodLimits { max_share: Decimal::ONE, ..FloodLimits::default() });
        assert_eq!(never.note(now, seen(1_000_000, 1_000_000)), None, "all are not more than all");
        let mut none_at_all = Flood::new(FloodLimits { max_share: Decimal::ZERO, ..FloodLimits::default() });
        assert_eq!(none_at_all.note(now, seen(0, 2_000)), None);
        assert_eq!(none_at_all.note(now, seen(1, 1)), Some(seen(1, 2_001)));
    }

    #[test]
    fn many_small_batches_are_a_flood_together_and_what_is_long_ago_is_forgotten() {
        let (mut flood, began) = (flood(), Instant::now());
        for number in 0..99 {
            assert_eq!(flood.note(began + SECOND * number / 2, seen(10, 10)), None);
        }
        assert_eq!(flood.note(began + SECOND * 50, seen(10, 10)), Some(seen(1_000, 1_000)));
        flood.forget();
        for number in 0..1_000 {
            // Twenty within a window.
            assert_eq!(flood.note(began + SECOND * 3 * number, seen(10, 10)), None, "{number}");
            assert!(flood.parts.len() <= PARTS as usize + 1);
        }
    }

    #[test]
    fn good_events_of_the_window_weigh_against_the_bad_ones() {
        let (mut flood, began) = (flood(), Instant::now());
        assert_eq!(flood.note(began, seen(0, 5_000)), None);
        assert_eq!(flood.note(began + SECOND * 30, seen(4_000, 4_000)), None);
        assert_eq!(flood.note(began + SECOND * 60, seen(1, 1)), Some(seen(4_001, 4_001)));
    }
}
