//! Limits: what goes over is cut, and the cut says why.

use jiff::civil::Date;

use crate::account::{Account, Retention};
use crate::entry::Why;
use crate::programme::{Most, Period, Rule};
use crate::types::Points;

/// What a rule's limits leave of its points.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// The points that are paid.
    pub paid: Points,
    /// Why not all of them are.
    pub why: Option<Why>,
}

/// Cuts `points` to what every limit of the rule leaves in the periods that hold the event's day.
pub(super) fn cut(
    rule: &Rule,
    account: &Account,
    day: Date,
    at: i64,
    points: Points,
    retention: &Retention,
) -> Cut {
    let mut cut = Cut { paid: points, why: None };
    if rule.limits.is_empty() {
        return cut;
    }
    let forgotten = account.newest.saturating_sub(i64::from(retention.days) * 86_400);
    if at < forgotten && rule.limits.iter().any(|limit| limit.per != Period::Ever) {
        return Cut { paid: Points::ZERO, why: Some(Why::TooLate) };
    }
    for limit in &rule.limits {
        let (times, paid) = account.used(&rule.id, limit.per, day);
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
