//! Budgets in Redis. A budget's hash and the buckets lie in different slots, so no one script sees both.
//! The order of steps makes up for it:
//!
//! 1. What all buckets granted out of a lease is summed. Nothing can be added any more: its holder has
//!    no commit under way, or it has lapsed and every commit that rests on it is refused.
//! 2. One script adds the sum to `settled` and marks the lease as ended. Marked or gone, it is not added again.
//! 3. The counts are removed from the buckets, then the mark.
//!
//! Whoever dies in between leaves a lease that lapses, or a mark, and both are ended by whoever leases next.

use ::redis::Value;

use super::connection::Request;
use super::requests::BucketKeys;
use super::{RedisStore, reply};
use crate::store::budget::share;
use crate::store::{Lease, LeaseRequest, Spent, StoreError};
use crate::types::{CampaignId, Points};

/// In place of a lease's name: what came back of a budget.
pub(super) const RETURNED: &str = "returned";

/// What `lease.lua` answered.
pub(super) enum Leased {
    Done(Lease),
    /// Nothing was done: these leases are to be ended first.
    Lapsed(Vec<String>),
}

impl RedisStore {
    /// Leases, after ending what others left.
    pub(super) fn lease_points(&mut self, wanted: &LeaseRequest) -> Result<Lease, StoreError> {
        let returned = self.sum_of_buckets(&wanted.campaign, RETURNED)?;
        let budget = wanted.budget.plus(returned).map_err(|_| reply::foreign_points())?;
        let wanted = &LeaseRequest { budget, ..wanted.clone() };
        let lapsed = match self.ask_lease(wanted, false)? {
            Leased::Done(lease) => return Ok(lease),
            Leased::Lapsed(lapsed) => lapsed,
        };
        for lease in lapsed {
            self.end(&wanted.campaign, &lease)?;
        }
        // What lapsed since is ended by the next request.
        match self.ask_lease(wanted, true)? {
            Leased::Done(lease) => Ok(lease),
            Leased::Lapsed(_) => Ok(Lease { points: Points::ZERO, deadline: 0, free: Points::ZERO }),
        }
    }

    fn ask_lease(&mut self, wanted: &LeaseRequest, leave_lapsed: bool) -> Result<Leased, StoreError> {
        let mut request = Request::call(&self.scripts.lease, 1);
        let (life, grace) = (wanted.life.as_millis(), wanted.grace().as_millis());
        let cmd = request.cmd.arg(budget_key(&wanted.campaign)).arg(wanted.budget.0);
        cmd.arg(wanted.lease.to_string()).arg(wanted.needed.0).arg(life.to_string()).arg(grace.to_string());
        cmd.arg(share()).arg(u8::from(leave_lapsed));
        reply::leased(self.connection.ask(request)?)
    }

    /// Ends a lease, whatever steps of it were done before.
    pub(super) fn end(&mut self, campaign: &CampaignId, lease: &str) -> Result<(), StoreError> {
        let sum = self.sum_of_buckets(campaign, lease)?;
        let mut settle = Request::call(&self.scripts.settle, 1);
        settle.cmd.arg(budget_key(campaign)).arg(lease).arg(sum.0);
        self.connection.ask(settle)?;
        self.of_all_buckets("HDEL", campaign, lease)?;
        let mut forget = ::redis::cmd("HDEL");
        forget.arg(budget_key(campaign)).arg(lease);
        self.connection.ask(Request::plain(forget))?;
        Ok(())
    }

    /// What is counted of a budget.
    pub(super) fn spent_points(&mut self, campaign: &CampaignId) -> Result<Spent, StoreError> {
        let mut fields = ::redis::cmd("HGETALL");
        fields.arg(budget_key(campaign));
        let (settled, open) = reply::budget(self.connection.ask(Request::plain(fields))?)?;
        let mut granted = settled;
        for lease in open {
            let points = self.sum_of_buckets(campaign, &lease)?;
            granted = granted.plus(points).map_err(|_| reply::foreign_points())?;
        }
        Ok(Spent { granted, returned: self.sum_of_buckets(campaign, RETURNED)? })
    }

    /// What all buckets count under a lease, or as returned.
    fn sum_of_buckets(&mut self, campaign: &CampaignId, field: &str) -> Result<Points, StoreError> {
        let mut sum = Points::ZERO;
        for points in self.of_all_buckets("HGET", campaign, field)? {
            sum = sum.plus(reply::points(points)?).map_err(|_| reply::foreign_points())?;
        }
        Ok(sum)
    }

    /// Sends a command on a lease's count to every bucket.
    fn of_all_buckets(
        &mut self,
        command: &str,
        campaign: &CampaignId,
        lease: &str,
    ) -> Result<Vec<Value>, StoreError> {
        let field = granted_field(campaign, lease);
        let request = |bucket| {
            let mut cmd = ::redis::cmd(command);
            cmd.arg(BucketKeys::of(bucket).granted()).arg(&field);
            Request::plain(cmd)
        };
        self.connection.ask_all(self.buckets.all().map(request))
    }
}

fn budget_key(campaign: &CampaignId) -> String {
    format!("accrual:budget:{campaign}")
}

/// The field of a bucket's counts.
pub(super) fn granted_field(campaign: &CampaignId, lease: &str) -> String {
    format!("{campaign}/{lease}")
}
