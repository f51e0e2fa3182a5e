//! Budgets of campaigns. Lanes grant points only out of leases, so that however many of them grant at
//! once, no budget is ever overspent.
//!
//! - A lease is a part of a budget that one lane may grant, until its deadline by the store's clock. It
//!   is never changed: who needs more ends it and leases anew.
//! - What was granted out of it is counted where it is granted, in the same atomic step as the accounts
//!   ([`super::CommitBucket::grants`]), so that no crash and no lost reply makes the count wrong. A commit
//!   whose lease is past its deadline is refused.
//! - To end a lease is to count what all buckets granted out of it as spent, and to free the rest. Its
//!   holder ends it; where the holder died, whoever leases next, but only once the lease has lapsed:
//!   some grace after its deadline, for clocks of servers that differ.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crate::types::{CampaignId, Points};

/// The share of what is free that a lease takes where less is needed, as a divisor. So leases are large
/// while there is much, and near the end little lies unused with one lane while another declines.
const SHARE: i64 = 16;

/// Names a lease, for all time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct LeaseId(pub u64);

impl LeaseId {
    /// One that nobody else has: 64 bits of the operating system's randomness, by way of the seed that
    /// the standard library gives its hashes.
    pub fn new_random() -> Self {
        Self(RandomState::new().hash_one("lease"))
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What to lease.
#[derive(Clone, Debug)]
pub struct LeaseRequest {
    /// Whose budget.
    pub campaign: CampaignId,
    /// The whole budget, as the programme has it now.
    pub budget: Points,
    /// The lease's name. Asking twice by one name, as after a lost reply, is asking once.
    pub lease: LeaseId,
    /// Points that are needed now. More are leased while there are many, fewer where there are not as many.
    pub needed: Points,
    /// How long points may be granted out of it. It lapses half as long after that.
    pub life: Duration,
}

impl LeaseRequest {
    /// How long after its deadline a lease lapses.
    pub(super) fn grace(&self) -> Duration {
        self.life / 2
    }
}

/// What was leased.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lease {
    /// Points that may be granted. Where it is nothing, nothing was free, and there is no lease to end.
    pub points: Points,
    /// Until when, in milliseconds since 1970 by the store's clock. Nothing is granted at that moment or later.
    pub deadline: u64,
    /// Points of the budget that are free after it, neither spent nor leased.
    pub free: Points,
}

/// Points of a budget that were granted once and come back, with a refund or a cancellation. A bucket counts them for
/// itself, ever growing, without a lease: they are as good as a larger budget.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Returned {
    /// Whose budget.
    pub campaign: CampaignId,
    /// How many.
    pub points: Points,
}

/// What a store counts of a budget.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Spent {
    /// Points granted, out of leases that ended and of those that have not.
    pub granted: Points,
    /// Points that came back.
    pub returned: Points,
}

/// Points that a commit grants out of a lease.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grant {
    /// Whose budget.
    pub campaign: CampaignId,
    /// Out of which lease.
    pub lease: LeaseId,
    /// How many, at least one.
    pub points: Points,
    /// The lease's deadline, as [`Lease::deadline`] said it.
    pub deadline: u64,
}

/// How many of the free points a lease gets; the same as in `lease.lua`.
pub(super) fn portion(free: Points, needed: Points) -> Points {
    Points((free.0 / SHARE).max(needed.0).clamp(0, free.0.max(0)))
}

/// The divisor of [`portion`], for `lease.lua`.
pub(super) fn share() -> i64 {
    SHARE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_what_is_needed_or_a_share_of_what_is_free_and_never_more_than_that() {
        for (free, needed, leased) in
            [(1600, 5, 100), (1600, 500, 500), (15, 1, 1), (3, 5, 3), (0, 5, 0), (-7, 5, 0), (1600, 0, 100)]
        {
            assert_eq!(portion(Points(free), Points(needed)), Points(leased), "{needed} of {free}");
        }
    }

    #[test]
    fn no_two_leases_have_one_name() {
        let names: std::collections::HashSet<LeaseId> = (0..1000).map(|_| LeaseId::new_random()).collect();
        assert_eq!(names.len(), 1000);
    }
}
