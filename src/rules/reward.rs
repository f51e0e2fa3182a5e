//! What a rule pays with its reward: once for each event that it pays for, and never more for a tier or a campaign.

use std::sync::Arc;

use super::limit::Cut;
use super::{Case, Draft, earn};
use crate::entry::{Entry, EntryKind, Origin, Why};
use crate::programme::redemption::stock_of;
use crate::programme::{Rule, periods};
use crate::types::{Points, PointsOverflow};

impl Draft<'_> {
    /// What limits left of a rule's points, and its reward, if there is one left. Whether there was any of either.
    pub(super) fn pay_rule(
        &mut self,
        case: &Case<'_>,
        rule: &Rule,
        by: &Origin,
        paid: &earn::Paid,
        cut: &Cut,
    ) -> Result<bool, PointsOverflow> {
        if let Some(why) = cut.why.filter(|_| cut.refuses()) {
            self.decline_rule(rule, by, paid, why);
            return Ok(false);
        }
        self.pay(by, &rule.limits, paid.points, cut, paid.of, None)?;
        let has_points = cut.paid > Points::ZERO;
        if has_points {
            let hold = rule.lifetime.hold;
            self.longest_hold = Some(self.longest_hold.map_or(hold, |longest| longest.longer(hold)));
        }
        let Some(reward) = &rule.give else { return Ok(has_points) };
        let stock = stock_of(&reward.id);
        if case.programme.budget(&stock).is_some() {
            let draw = case.draw_whole(stock, Points(1), &self.draws);
            let is_gone = draw.paid == Points::ZERO;
            self.draws.push(draw);
            if is_gone {
                let entry = self.declined_of(by, Points::ZERO, Why::OutOfStock);
                self.entries.push(Entry { reward: Some(Arc::clone(reward)), ..entry });
                return Ok(has_points);
            }
        }
        // An event counts once toward limits.
        let counts = if has_points { Vec::new() } else { periods(&rule.limits) };
        let entry = self.entry(EntryKind::Granted, by, Points::ZERO, None);
        self.entries.push(Entry { counts, reward: Some(Arc::clone(reward)), ..entry });
        Ok(true)
    }

    /// A rule that matched, and neither pays nor gives.
    pub(super) fn decline_rule(&mut self, rule: &Rule, by: &Origin, paid: &earn::Paid, why: Why) {
        self.declined(by, paid.points, why, paid.of);
        if let (Some(reward), Some(entry)) = (&rule.give, self.entries.last_mut()) {
            entry.reward = Some(Arc::clone(reward));
        }
    }
}
