//! Limits and budgets that are smaller than one award.

use crate::programme::campaign::{Campaign, Pays};
use crate::programme::{Earn, Limit, Most, Rule};
use crate::types::Points;
use crate::yaml::Map;

/// A rule of fixed points that a limit always cuts.
pub(super) fn rule(rule: &Rule, written: &Map<'_>) {
    // What is paid per amount may be less than the limit for a small amount.
    if let Earn::Fixed(award) = rule.earn {
        limits(award, &rule.limits, written);
    }
}

/// A campaign of fixed points that a limit always cuts or whose budget pays no award in full.
pub(super) fn campaign(campaign: &Campaign, written: &Map<'_>) {
    if let Pays::Add(award) = campaign.pays {
        limits(award, &campaign.limits, written);
        budget(award, written);
    }
}

fn limits(award: Points, limits: &[Limit], written: &Map<'_>) {
    let values = written.get("limit").and_then(|value| value.one_or_list("a limit")).unwrap_or_default();
    for (limit, value) in limits.iter().zip(&values) {
        if let Most::Points(most) = limit.most
            && most < award
            && let Some(points) = value.any_map().and_then(|map| map.get("points"))
        {
            points.report(format!("an award of {award} points is always cut to {most} by this limit"));
        }
    }
}

/// Read from the file, where it stands whatever else becomes of it.
fn budget(award: Points, written: &Map<'_>) {
    let points = written.get("budget").and_then(|budget| budget.any_map()?.get("points"));
    let Some(points) = points else { return };
    if let Some(budget) = points.text().and_then(|text| text.parse().ok()).map(Points)
        && budget < award
    {
        points.report(format!("a budget of {budget} points does not pay one award of {award}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::{Collector, Value, parse};

    #[test]
    fn a_budget_that_does_not_pay_one_award_is_warned_of() {
        for (campaign, warned) in [
            ("{add: 88, budget: {points: 87}}", true),
            ("{add: 88, budget: {points: 88}}", false),
            ("{add: 88}", false),
        ] {
            let collector = Collector::new("programme.yaml", campaign);
            let root = parse(campaign, &collector).unwrap();
            let map = Value::root(&root, "a campaign", &collector).any_map().unwrap();
            budget(Points(88), &map);
            let warnings = collector.into_warnings().map(|warnings| warnings.to_string());
            let message =
                "warning: a budget of 87 points does not pay one award of 88\n --> programme.yaml:1:28\n";
            assert_eq!(warnings.is_some_and(|shown| shown.starts_with(message)), warned, "{campaign}");
        }
    }
}
