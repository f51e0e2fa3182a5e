//! Campaigns: what they pay on top of the base, which of a group pays, and what their limits and budgets cut.

use std::collections::HashMap;

use rust_decimal::Decimal;

use super::earn::whole_points;
use super::facts::LazyFacts;
use super::limit::{self, Cut};
use super::watch::{Part, Unpaid, Watch};
use super::{Case, Draw, Unsure};
use crate::entry::{Origin, Why};
use crate::programme::Programme;
use crate::programme::campaign::{Campaign, Pays};
use crate::types::{Points, PointsOverflow};

/// A campaign that is on for the event and its member.
pub(super) struct On<'p> {
    /// Its index in the programme.
    at: usize,
    pub(super) campaign: &'p Campaign,
    pub(super) origin: Origin,
    /// What it would pay without limits and budget.
    pub(super) points: Points,
    /// What they leave of it.
    pub(super) cut: Cut,
}

impl On<'_> {
    /// What it was computed from and the factor on it, where it multiplies.
    pub(super) fn basis(&self, base: Points) -> (Option<Decimal>, Option<Decimal>) {
        match self.campaign.pays {
            Pays::Multiply(factor) => (Some(base.0.into()), Some(factor)),
            Pays::Add(_) => (None, None),
        }
    }
}

/// An event whose campaigns are asked for.
pub(super) struct Asked<'p, 'c> {
    pub(super) case: &'c Case<'p>,
    /// What the rules pay for it.
    pub(super) base: Points,
}

impl<'p> Asked<'p, '_> {
    /// The campaigns that pay for the event, in the order of the file; of a group the one that pays most. And what each
    /// that has a budget wanted of it, also where another one of its group pays.
    pub(super) fn paying(
        &self,
        campaigns: &[usize],
        facts: &mut LazyFacts<'_>,
        unsure: &mut Vec<Unsure>,
        watch: &mut impl Watch,
    ) -> Result<(Vec<On<'p>>, Vec<Draw>), PointsOverflow> {
        let programme = self.case.programme;
        let mut on: Vec<On<'p>> = Vec::new();
        let mut draws: Vec<Draw> = Vec::new();
        for &at in campaigns {
            let Some(campaign) = programme.campaigns.get(at) else { continue };
            if let Err(why) = self.is_on(campaign, facts) {
                if let Unpaid::Failed(..) = why {
                    unsure.push(Unsure::Campaign(at));
                }
                watch.campaign(at, || why);
                continue;
            }
            let points = worth(campaign.pays, self.base, programme)?;
            if points == Points::ZERO {
                watch.campaign(at, || Unpaid::NoBase);
                continue;
            }
            let origin = Origin::Campaign(campaign.id.clone());
            let mut cut = limit::cut(self.case, &campaign.limits, &origin, points);
            draws.extend(self.draw(campaign, &mut cut));
            on.push(On { at, campaign, origin, points, cut });
        }
        let paying = best_of_groups(on, watch);
        for draw in &mut draws {
            let pays = paying.iter().find(|on| on.campaign.id == draw.campaign);
            draw.paid = pays.map_or(Points::ZERO, |on| on.cut.paid);
        }
        Ok((paying, draws))
    }

    /// Cuts what limits left to what is left of the budget, if the campaign has one.
    fn draw(&self, campaign: &Campaign, cut: &mut Cut) -> Option<Draw> {
        campaign.budget?;
        let (wanted, left) = (cut.paid, (self.case.outside.left)(&campaign.id));
        if left < wanted {
            *cut = Cut { paid: left, why: Some(Why::Budget) };
        }
        Some(Draw { campaign: campaign.id.clone(), wanted, left, paid: Points::ZERO })
    }

    /// Whether the campaign is on for the event and its member, or why not.
    fn is_on(&self, campaign: &Campaign, facts: &mut LazyFacts<'_>) -> Result<(), Unpaid> {
        let Case { account, event, day, .. } = *self.case;
        // The cheapest first: most campaigns are not on at all.
        if !campaign.during.holds(event.time, day.date, account.profile.birthday) {
            return Err(Unpaid::During);
        }
        let failed = |part| move |why| Unpaid::Failed(part, why);
        if !facts.holds(campaign.when.as_ref(), None).map_err(failed(Part::When))? {
            return Err(Unpaid::When);
        }
        if !facts.holds(campaign.audience.as_ref(), None).map_err(failed(Part::Audience))? {
            return Err(Unpaid::Audience);
        }
        Ok(())
    }
}

/// Base × (factor − 1), rounded once; or the points that it adds.
fn worth(pays: Pays, base: Points, programme: &Programme) -> Result<Points, PointsOverflow> {
    match pays {
        Pays::Add(points) => Ok(points),
        Pays::Multiply(factor) => {
            let more = Decimal::from(base.0).checked_mul(factor - Decimal::ONE).ok_or(PointsOverflow)?;
            whole_points(more, programme.rounding).ok_or(PointsOverflow)
        }
    }
}

/// Leaves of each group the campaign that pays most after its limits and its budget; of equals the first in the file.
fn best_of_groups<'p>(on: Vec<On<'p>>, watch: &mut impl Watch) -> Vec<On<'p>> {
    let mut best: HashMap<&str, (Points, usize)> = HashMap::new();
    for (at, candidate) in on.iter().enumerate() {
        let Some(group) = &candidate.campaign.group else { continue };
        let paid = candidate.cut.paid;
        let best = best.entry(group).or_insert((paid, at));
        if paid > best.0 {
            *best = (paid, at);
        }
    }
    let mut wins = |at: usize, candidate: &On<'_>| {
        let Some(group) = &candidate.campaign.group else { return true };
        let place = best.get(&**group).map(|(_, place)| *place);
        if let Some(winner) = place.filter(|place| *place != at).and_then(|place| on.get(place)) {
            watch.campaign(candidate.at, || Unpaid::Group(winner.campaign.id.clone()));
        }
        place == Some(at)
    };
    let wins: Vec<bool> = on.iter().enumerate().map(|(at, candidate)| wins(at, candidate)).collect();
    on.into_iter().zip(wins).filter_map(|(candidate, wins)| wins.then_some(candidate)).collect()
}
