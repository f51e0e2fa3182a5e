//! What a lane does when the store may have lost its tail.

use crate::guards::Guard;
use crate::lane::{bit, count};
use crate::publish::{abort, undecided};
use crate::scope::{Scope, Sight};
use crate::state::{Broker, Entry, Stage, State};

impl Scope {
    /// Aborts what is open, drops the cache.
    pub fn begin_repair(&self, state: &mut State, lane: usize) {
        abort(state, lane);
        if self.has(Guard::DroppedCache) {
            state.lanes[lane].cache = None;
        }
        state.lanes[lane].stage = Stage::ReadingIdentity;
    }

    /// Step 1: who the store is, before anything else is read.
    pub fn read_identity(&self, state: &mut State, lane: usize) {
        let identity = state.store.identity;
        state.lanes[lane].stage = if self.has(Guard::Repair) {
            Stage::ReadingEnd { identity }
        } else {
            Stage::Confirming { identity }
        };
    }

    /// Or another lane has repaired it meanwhile.
    pub fn find_all_well(&self, state: &mut State, lane: usize) {
        self.met.note(Sight::FoundWell);
        adopt(state, lane, state.store.identity);
    }

    /// Step 2: where the published log ends, transactions that are still open included.
    pub fn read_end(&self, state: &mut State, lane: usize) {
        let Stage::ReadingEnd { identity } = state.lanes[lane].stage else { return };
        let seen = (0..).zip(state.broker.published).filter(|(_, entry)| entry.is_some());
        let seen = seen.map(|(event, _)| bit(event)).sum();
        let waits = if self.has(Guard::WaitForOpen) { undecided(state) } else { 0 };
        if waits != 0 {
            self.met.note(Sight::Waited);
        }
        state.lanes[lane].stage = Stage::RestoringAccount { identity, seen, waits };
    }

    /// Steps 3 and 4: up to there all is decided. What is published and newer than the store is restored: first the account, by the
    /// entries that it lacks. A snapshot would not do: it may hold what another lane had committed to the store and not
    /// published, which is lost and will be decided again.
    pub fn restore_account(&self, state: &mut State, lane: usize) {
        let Stage::RestoringAccount { identity, seen, .. } = state.lanes[lane].stage else { return };
        if self.is_overtaken(state, lane, identity, Guard::IdentityAtRestore) {
            return;
        }
        let account = &mut state.store.account;
        for entry in entries(&state.broker, seen) {
            if self.has(Guard::Entries) {
                if entry.version > account.version {
                    self.met.note(Sight::Restored);
                    *account = count(*account, entry.event, entry.version);
                }
            } else if entry.snapshot.version > account.version {
                *account = entry.snapshot;
            }
        }
        state.lanes[lane].stage = Stage::RestoringReceipts { identity, seen };
    }

    /// Then the receipts of these entries, and their offsets as processed: what the outbox still has of them is swept at the
    /// assignment, and they are known when a group that was set back comes to them again.
    pub fn restore_receipts(&self, state: &mut State, lane: usize) {
        let Stage::RestoringReceipts { identity, seen } = state.lanes[lane].stage else { return };
        if self.is_overtaken(state, lane, identity, Guard::IdentityAtRestore) {
            return;
        }
        let store = &mut state.store;
        for entry in entries(&state.broker, seen) {
            if self.has(Guard::RestoredReceipts) {
                store.receipts[usize::from(entry.event.0)].get_or_insert(entry.at);
            }
            if self.has(Guard::RestoredRanges) {
                store.processed[usize::from(entry.at.partition)] |= bit(entry.at.offset);
            }
        }
        state.lanes[lane].stage = Stage::Confirming { identity };
    }

    /// Steps 5 and 6: the marker is set, if the store is still the one that was read, and the lane reads on from the committed offsets.
    pub fn confirm(&self, state: &mut State, lane: usize) {
        let Stage::Confirming { identity } = state.lanes[lane].stage else { return };
        if self.is_overtaken(state, lane, identity, Guard::IdentityAtConfirm) {
            return;
        }
        let identity = state.store.identity;
        state.store.confirmed = identity;
        adopt(state, lane, identity);
    }

    /// Whether the store is another by now, so that all begins anew.
    fn is_overtaken(&self, state: &mut State, lane: usize, identity: u8, guard: Guard) -> bool {
        let overtaken = state.store.identity != identity && self.has(guard);
        if overtaken {
            self.met.note(Sight::Overtaken);
            state.lanes[lane].stage = Stage::ReadingIdentity;
        }
        overtaken
    }
}

/// The published entries of these events (a bit each), by version.
fn entries(broker: &Broker, seen: u8) -> Vec<Entry> {
    let seen = (0..).zip(broker.published).filter(|(event, _)| seen & bit(*event) != 0);
    let mut entries: Vec<Entry> = seen.filter_map(|(_, published)| Some(published?.0)).collect();
    entries.sort_unstable_by_key(|entry| entry.version);
    entries
}

/// The lane knows the store as whole, and goes back to the committed offsets.
fn adopt(state: &mut State, lane: usize, identity: u8) {
    let is = &mut state.lanes[lane];
    is.identity = Some(identity);
    is.stage = Stage::Joining;
}
