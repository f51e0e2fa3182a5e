//! Limits: what goes over is cut, and the cut says why.

use super::Case;
use crate::entry::{Origin, Why};
use crate::programme::{Limit, Most, Period};
use crate::types::Points;

/// What limits leave of points.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// The points that are paid.
    pub paid: Points,
    /// Why not all of them are.
    pub why: Option<Why>,
}

impl Cut {
    /// Whether the event does not count for what pays at all, so that it gives no reward either. Limits by points
    /// are for points alone.
    pub(super) fn refuses(&self) -> bool {
        matches!(self.why, Some(Why::LimitTimes | Why::TooLate))
    }
}

/// Cuts `points` to what every limit of what pays leaves in the periods that hold the event's day.
pub(super) fn cut(case: &Case<'_>, limits: &[Limit], by: &Origin, points: Points) -> Cut {
    let Case { account, day, retention, .. } = *case;
    let mut cut = Cut { paid: points, why: None };
    if limits.is_empty() {
        return cut;
    }
    if day.is_forgotten(account, retention) && limits.iter().any(|limit| limit.per != Period::Ever) {
        return Cut { paid: Points::ZERO, why: Some(Why::TooLate) };
    }
    for limit in limits {
        let (times, paid) = account.used(by, limit.per, day.date);
        match limit.most {
            Most::Times(most) if times >= most => {
                return Cut { paid: Points::ZERO, why: Some(Why::LimitTimes) };
            }
            Most::Points(most) => {
                let left = Points(most.0.saturating_sub(paid.0).max(0));
                if left < cut.paid {
                    cut = Cut { paid: left, why: Some(Why::LimitPoints) };
                }
            }
            Most::Times(_) => {}
        }
    }
    cut
}
