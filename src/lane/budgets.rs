//! What a lane holds of campaigns' budgets. It grants points only out of leases, see
//! [`crate::store::Store::lease`]; every batch is decided with what its leases have left, and only where
//! that is too little is the store asked, and the batch decided again.
//!
//! The lane's own count of a lease is only ever too careful: what a commit tried to grant counts as used,
//! whatever became of it. The store's count is exact, and ending the lease brings the rest back.
//!
//! Versions of the programme may differ in how much a campaign's budget is. An event is paid out of a lease
//! that was taken of its own version's: what is spent in all lay within that when it was leased.

use foldhash::{HashMap, HashMapExt};
use std::time::{Duration, Instant};

use super::work::BucketWork;
use super::{Lane, LaneError, Left};
use crate::log::Log;
use crate::programme::{Programme, Versions};
use crate::rules::Draw;
use crate::store::{Grant, Lease, LeaseId, LeaseRequest, Store, StoreError};
use crate::types::{CampaignId, Points};

/// How long a lane holds on to what it knows of budgets.
#[derive(Clone, Copy, Debug)]
pub struct LeaseTimes {
    /// How long points may be granted out of a lease.
    pub life: Duration,
    /// How long a lane keeps one: then it gives it back and, when it needs one, takes another. Shorter than
    /// it lives, so that no lane sits on points for long that another one needs.
    pub keep: Duration,
    /// How long a budget that was found to have too little is not asked again.
    pub pause: Duration,
}

impl Default for LeaseTimes {
    /// Half a minute, ten seconds and a second: a dead lane's points come back within a minute, and a budget that is
    /// used up costs a call a second.
    fn default() -> Self {
        Self { life: Duration::from_secs(30), keep: Duration::from_secs(10), pause: Duration::from_secs(1) }
    }
}

/// A campaign's budget, as a version of the programme has it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(super) struct Budget {
    campaign: CampaignId,
    /// Of which everything that was ever granted is a part, under whichever version.
    whole: Points,
}

impl Budget {
    pub(super) fn of(programme: &Programme, campaign: &CampaignId) -> Option<Self> {
        Some(Self { campaign: campaign.clone(), whole: programme.budget(campaign)? })
    }
}

/// The leases of a lane.
#[derive(Debug, Default)]
pub(super) struct Leases {
    held: HashMap<Budget, Held>,
    /// Leases that nothing is granted out of any more, and that the store has not ended yet.
    ending: Vec<(CampaignId, LeaseId)>,
    /// Budgets that had less than was needed, and when they said so.
    dry: HashMap<Budget, Instant>,
}

#[derive(Debug)]
struct Held {
    id: LeaseId,
    lease: Lease,
    /// Points that commits granted out of it, or tried to.
    used: Points,
    since: Instant,
}

/// What the leases have left while a batch is decided.
#[derive(Debug, Default)]
pub(super) struct Purse(HashMap<Budget, Pocket>);

#[derive(Debug)]
struct Pocket {
    id: LeaseId,
    deadline: u64,
    left: Points,
}

impl Purse {
    /// What is left for a campaign of this version.
    pub(super) fn left(&self, programme: &Programme, campaign: &CampaignId) -> Points {
        let pocket = Budget::of(programme, campaign).and_then(|budget| self.0.get(&budget));
        pocket.map_or(Points::ZERO, |pocket| pocket.left)
    }

    /// Takes what a draw paid, and adds it to the grants of its bucket.
    pub(super) fn take(&mut self, budget: &Budget, draw: &Draw, grants: &mut Vec<Grant>) {
        let Some(pocket) = self.0.get_mut(budget) else { return };
        if draw.paid <= Points::ZERO {
            return;
        }
        pocket.left = Points(pocket.left.0.saturating_sub(draw.paid.0));
        if let Some(grant) = grants.iter_mut().find(|grant| grant.lease == pocket.id) {
            grant.points = Points(grant.points.0.saturating_add(draw.paid.0));
            return;
        }
        let (campaign, lease, deadline) = (draw.campaign.clone(), pocket.id, pocket.deadline);
        grants.push(Grant { campaign, lease, points: draw.paid, deadline });
    }
}

impl Leases {
    /// Goes by the budgets of other versions. Leases of those that are no more are to be ended.
    pub(super) fn take_up(&mut self, versions: &Versions) {
        let is_there = |budget: &Budget| {
            versions.iter().any(|version| Budget::of(version, &budget.campaign).as_ref() == Some(budget))
        };
        let gone: Vec<Budget> = self.held.keys().filter(|budget| !is_there(budget)).cloned().collect();
        gone.iter().for_each(|budget| self.retire(budget));
        self.dry.clear();
    }

    /// What they have left.
    pub(super) fn purse(&self) -> Purse {
        let pocket = |held: &Held| Pocket {
            id: held.id,
            deadline: held.lease.deadline,
            left: Points(held.lease.points.0.saturating_sub(held.used.0).max(0)),
        };
        Purse(self.held.iter().map(|(budget, held)| (budget.clone(), pocket(held))).collect())
    }

    /// A commit is about to grant this. Should it be refused, or its answer be lost and the repeat refused,
    /// nobody but the store knows what was granted.
    pub(super) fn trying(&mut self, grants: &[Grant]) {
        for grant in grants {
            if let Some((_, held)) = self.of(grant) {
                held.used = Points(held.used.0.saturating_add(grant.points.0));
            }
        }
    }

    /// The commit was refused: what it tried to grant is likely to come back with the lease's end, so the
    /// budget may be asked again.
    pub(super) fn refused(&mut self, grants: &[Grant]) {
        for grant in grants {
            self.dry.retain(|budget, _| budget.campaign != grant.campaign);
        }
    }

    /// One of these leases is past its deadline; a lane that stood still has likely lost them all.
    pub(super) fn expired(&mut self, grants: &[Grant]) {
        self.refused(grants);
        for grant in grants {
            if let Some((budget, _)) = self.of(grant) {
                let budget = budget.clone();
                self.retire(&budget);
            }
        }
    }

    /// What became of a commit is unknown, and it may yet come to be. So its leases must not be ended before
    /// they lapse: then it is refused for certain.
    pub(super) fn forget(&mut self, grants: &[Grant]) {
        for grant in grants {
            self.held.retain(|_, held| held.id != grant.lease);
        }
    }

    /// The store is another, which may know nothing of them. What it knows lapses.
    pub(super) fn forget_all(&mut self) {
        *self = Self::default();
    }

    fn of(&mut self, grant: &Grant) -> Option<(&Budget, &mut Held)> {
        self.held.iter_mut().find(|(_, held)| held.id == grant.lease)
    }

    /// Grants nothing more out of the lease of a budget, and has it ended.
    fn retire(&mut self, budget: &Budget) {
        if let Some(held) = self.held.remove(budget) {
            self.ending.push((budget.campaign.clone(), held.id));
        }
    }

    /// Retires leases of this age and older.
    fn retire_older_than(&mut self, age: Duration) {
        let is_old = |held: &Held| held.since.elapsed() >= age;
        let old: Vec<Budget> =
            self.held.iter().filter(|(_, held)| is_old(held)).map(|(budget, _)| budget.clone()).collect();
        old.iter().for_each(|budget| self.retire(budget));
    }

    /// What a batch wanted of budgets that the leases had too little for, and that may have more.
    fn short<'w>(&self, works: impl Iterator<Item = &'w BucketWork>) -> Vec<(Budget, Points)> {
        let mut wanted: HashMap<&Budget, (Points, bool)> = HashMap::new();
        for (budget, draw) in works.flat_map(BucketWork::draws) {
            let (sum, short) = wanted.entry(budget).or_default();
            *sum = Points(sum.0.saturating_add(draw.wanted.0));
            *short |= draw.wanted > draw.left;
        }
        let short =
            wanted.into_iter().filter(|(budget, (_, short))| *short && !self.dry.contains_key(*budget));
        let mut short: Vec<_> = short.map(|(budget, (sum, _))| (budget.clone(), sum)).collect();
        short.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        short
    }
}

impl<L: Log, S: Store> Lane<L, S> {
    /// Gives back leases that have grown old, and has the store end what could not be ended before.
    pub(super) fn keep_leases(&mut self) -> Result<(), LaneError> {
        self.leases.retire_older_than(self.settings.leases.keep);
        while let Some((campaign, lease)) = self.leases.ending.last() {
            match self.store.end_lease(campaign, *lease) {
                Ok(()) => self.leases.ending.pop(),
                Err(StoreError::Away(why)) => {
                    tracing::debug!(lane = %self.status.name, why, "a lease is not ended yet");
                    return Ok(());
                }
                Err(error) => return Err(LaneError::Store(error)),
            };
        }
        Ok(())
    }

    /// Gives every lease back. Should it fail, they lapse.
    pub(super) fn give_leases_back(&mut self) {
        self.leases.retire_older_than(Duration::ZERO);
        if let Err(error) = self.keep_leases() {
            tracing::debug!(lane = %self.status.name, %error, "the leases lapse by themselves");
        }
    }

    /// Forgets that budgets had too little, where that was some time ago.
    pub(super) fn look_at_budgets_anew(&mut self) {
        let pause = self.settings.leases.pause;
        self.leases.dry.retain(|_, since| since.elapsed() < pause);
    }

    /// Leases what the works wanted and the lane had not. Whether it has asked for something, so that they
    /// are to be decided again.
    pub(super) fn lease_what_is_short(&mut self, works: &[BucketWork]) -> Result<bool, Left> {
        let short = self.leases.short(works.iter());
        for (budget, needed) in &short {
            self.lease(budget, *needed)?;
        }
        Ok(!short.is_empty())
    }

    /// Ends the lane's lease of a budget and takes one of at least this many points, if there are as many.
    fn lease(&mut self, budget: &Budget, needed: Points) -> Result<(), Left> {
        self.leases.retire(budget);
        while let Some((campaign, lease)) = self.leases.ending.last().cloned() {
            self.ask_store(|store| store.end_lease(&campaign, lease))?;
            self.leases.ending.pop();
        }
        let Budget { campaign, whole } = budget;
        let id = LeaseId::new_random();
        let life = self.settings.leases.life;
        let request = LeaseRequest { campaign: campaign.clone(), budget: *whole, lease: id, needed, life };
        let since = Instant::now();
        // Where this is left without an answer there may be a lease that nobody holds; it lapses.
        let lease = self.ask_store(|store| store.lease(&request))?;
        self.metrics.budget_free.with_label_values(&[campaign.as_str()]).set(lease.free.0);
        if lease.points < needed {
            self.leases.dry.insert(budget.clone(), since);
        }
        if lease.points > Points::ZERO {
            self.leases.held.insert(budget.clone(), Held { id, lease, used: Points::ZERO, since });
        }
        Ok(())
    }
}
