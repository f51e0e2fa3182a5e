//! The transaction: `src/lane/publish.rs` on one side, what Kafka promises on the other.

use crate::guards::Guard;
use crate::lane::bit;
use crate::scope::{Scope, Sight};
use crate::state::{Committed, Entry, LANES, Stage, State, Transaction};

impl Scope {
    /// Begins and sends.
    pub fn send(&self, state: &mut State, lane: usize) {
        let Stage::Sending(batch) = state.lanes[lane].stage else { return };
        state.broker.open[lane] = Some(Transaction { entry: batch.entry, offset: None });
        state.lanes[lane].stage = Stage::Checking(batch);
    }

    /// What was committed to the store may be lost by now, and repaired without this transaction.
    pub fn check_identity(&self, state: &mut State, lane: usize) {
        let Stage::Checking(batch) = state.lanes[lane].stage else { return };
        let same = state.lanes[lane].identity == Some(state.store.identity);
        if same || !self.has(Guard::IdentityBeforePublish) {
            state.lanes[lane].stage = Stage::SendingOffset(batch);
        } else {
            self.met.note(Sight::Withdrawn);
            self.begin_repair(state, lane);
        }
    }

    /// The group's coordinator refuses who is of another generation; then the transaction is aborted.
    pub fn send_offset(&self, state: &mut State, lane: usize) {
        let Stage::SendingOffset(batch) = state.lanes[lane].stage else { return };
        let fenced = !state.lanes[lane].current && self.has(Guard::Generation);
        if fenced || state.broker.open[lane].is_none() {
            self.met.note(Sight::Fenced);
            abort(state, lane);
            state.lanes[lane].stage = Stage::Joining;
            return;
        }
        let partition = usize::from(batch.at.partition);
        let committed = if batch.stranded {
            let behind = if self.has(Guard::MetadataBehind) { bit(batch.at.offset) } else { 0 };
            Committed { behind, ..state.broker.committed[partition] }
        } else {
            let from = state.lanes[lane].owned[partition].map_or(batch.at.offset, |owned| owned.from);
            Committed { next: batch.at.offset + 1, from: Some(from), behind: 0 }
        };
        if self.has(Guard::OffsetsInTransaction)
            && let Some(open) = &mut state.broker.open[lane]
        {
            open.offset = Some((batch.at.partition, committed));
        }
        state.lanes[lane].stage = Stage::Publishing(batch);
    }

    /// Commits the transaction.
    pub fn publish(&self, state: &mut State, lane: usize) {
        let Stage::Publishing(batch) = state.lanes[lane].stage else { return };
        if state.broker.open[lane].is_none() {
            // A delayed request has committed it; what became of it is unknown to the lane.
            state.lanes[lane].stage = Stage::ReplacingProducer;
            return;
        }
        commit(state, lane);
        if self.has(Guard::OffsetsInTransaction) || batch.stranded {
            self.advance(state, lane, batch);
        } else {
            state.lanes[lane].stage = Stage::CommittingOffset(batch);
        }
    }

    /// Only without [`Guard::OffsetsInTransaction`].
    pub fn commit_offset(&self, state: &mut State, lane: usize) {
        let Stage::CommittingOffset(batch) = state.lanes[lane].stage else { return };
        if !state.lanes[lane].current {
            state.lanes[lane].stage = Stage::Joining;
            return;
        }
        let partition = usize::from(batch.at.partition);
        let from = state.lanes[lane].owned[partition].map(|owned| owned.from);
        state.broker.committed[partition] = Committed { next: batch.at.offset + 1, from, behind: 0 };
        state.unclean |= bit(batch.at.partition);
        self.advance(state, lane, batch);
    }

    /// A new producer under the lane's id ends what the old one left open, and bumps the epoch: whatever the old one
    /// asked for and has not arrived yet will be refused.
    pub fn new_producer(&self, state: &mut State, lane: usize) {
        abort(state, lane);
        if self.has(Guard::Epoch) {
            state.broker.delayed_commit[lane] = false;
        }
    }
}

/// The broker commits a lane's open transaction.
pub fn commit(state: &mut State, lane: usize) {
    let Some(Transaction { entry, offset }) = state.broker.open[lane].take() else { return };
    if let Some(entry) = entry {
        let published = &mut state.broker.published[usize::from(entry.event.0)];
        let times = published.map_or(0, |(_, times)| times);
        *published = Some((entry, times + 1));
    }
    if let Some((partition, committed)) = offset {
        let before = &mut state.broker.committed[usize::from(partition)];
        if *before != committed {
            state.unclean |= bit(partition);
        }
        *before = committed;
    }
    decided(state, lane, entry);
}

/// The broker aborts a lane's open transaction, if there is one.
pub fn abort(state: &mut State, lane: usize) {
    if state.broker.open[lane].take().is_some() {
        decided(state, lane, None);
    }
}

/// Who waits for a lane's transaction in a repair sees what it published, if anything.
fn decided(state: &mut State, lane: usize, published: Option<Entry>) {
    let lane = bit(u8::try_from(lane).expect("a small scope"));
    for other in &mut state.lanes {
        let Stage::RestoringAccount { seen, waits, .. } = &mut other.stage else { continue };
        if *waits & lane != 0 {
            *waits &= !lane;
            *seen |= published.map_or(0, |entry| bit(entry.event.0));
        }
    }
}

/// The lanes (a bit each) with sent entries whose transactions are open.
pub fn undecided(state: &State) -> u8 {
    let open = |lane: &usize| state.broker.open[*lane].is_some_and(|open| open.entry.is_some());
    (0..LANES).filter(open).map(|lane| 1 << lane).sum()
}
