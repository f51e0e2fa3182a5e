//! The clock: finds members whose day has come and tells them so by an event on the internal topic, which comes back through
//! the one door. Every lane looks at every bucket. The store gives a member to one of them and, should that one die
//! before it has published, to another a minute later; an event that comes twice is a repeat by its id.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::outbox::{Channel, Unpublished};
use super::{Lane, LaneError, Left};
use crate::account::Account;
use crate::log::Log;
use crate::rules::clock::{self, What};
use crate::store::{DueAt, LoadBucket, Store};
use crate::types::Bucket;

/// How long a lane has to publish what it took.
const HOLD: Duration = Duration::from_mins(1);

/// Members of one bucket that are taken in one turn. Few, because live events wait meanwhile: however many fall due at one
/// instant, a turn grows by no more than a tenth of a full batch.
const MOST_OF_A_BUCKET: usize = 16;

impl<L: Log, S: Store> Lane<L, S> {
    /// Publishes what has fallen due. Bounded: what is left comes with the next turn.
    pub(super) fn tell_the_time(&mut self) -> Result<(), Left> {
        let owns_any = self.status.partitions().is_some_and(|partitions| partitions > 0);
        if !owns_any || self.told_the_time.elapsed() < self.tell_again_after {
            return Ok(());
        }
        let buckets: Vec<Bucket> = self.settings.buckets.all().collect();
        // Where nothing is to be committed, nobody else would notice, and members be shown what is not true any more.
        if !self.ask_store(|store| store.is_unmoved(&buckets))? {
            return Err(self.go_back());
        }
        let claimed = self.ask_store(|store| store.claim_due(&buckets, MOST_OF_A_BUCKET, HOLD))?;
        self.told_the_time = Instant::now();
        let is_more = claimed.members.iter().any(|members| members.len() >= MOST_OF_A_BUCKET);
        self.tell_again_after = if is_more { Duration::ZERO } else { self.settings.clock_every };
        let Ok(now) = Timestamp::from_second(claimed.now) else { return Ok(()) };
        let wanted: Vec<LoadBucket> = buckets
            .iter()
            .zip(claimed.members)
            .filter(|(_, members)| !members.is_empty())
            .map(|(bucket, members)| LoadBucket {
                bucket: *bucket,
                members,
                receipts: Vec::new(),
                outbox: false,
            })
            .collect();
        if wanted.is_empty() {
            return Ok(());
        }

        let loaded = self.ask_store(|store| store.load(&wanted))?;
        let (mut records, mut later) = (Vec::new(), Vec::new());
        for (wanted, loaded) in wanted.into_iter().zip(loaded) {
            for (member, json) in wanted.members.into_iter().zip(loaded.accounts) {
                let account = json.as_deref().map(Account::from_json).transpose();
                let account =
                    account.map_err(|error| LaneError::Unreadable(format!("an account: {error}")))?;
                let versions = self.settings.versions.clone();
                let programme = versions.at(now);
                let due = account.as_ref().map(|account| clock::due(programme, account, now));
                let mut is_told = false;
                for due in due.iter().flatten() {
                    let payload = match &due.what {
                        What::Celebration(day) => {
                            if !versions.at(due.at).by_type.contains_key(day.occasion.event_type()) {
                                continue;
                            }
                            self.renderer.occasion(&member, day, &due.time)
                        }
                        What::Account => {
                            let version = account.as_ref().map_or(0, |account| account.version);
                            self.renderer.came(&member, version, due.at.as_second(), &due.time)
                        }
                        What::Refund(waiting) => self.renderer.waited(&member, waiting, &due.time),
                    };
                    let (offset, channel, member) = (0, Channel::Internal, member.clone());
                    records.push(self.out(Unpublished { offset, channel, member, payload }));
                    is_told = true;
                }
                // Nothing pays for it today; a rule that is written until next year finds the member all the same.
                if !is_told {
                    let at = account.and_then(|account| clock::next_after(programme, &account, now));
                    later.push((wanted.bucket, DueAt { member, at }));
                }
            }
        }
        if !records.is_empty() {
            // Without positions: nothing was consumed for it.
            self.publish(&records, &[], &[])?;
        }
        if !later.is_empty() {
            self.ask_store(|store| store.set_due(&later))?;
        }
        Ok(())
    }
}
