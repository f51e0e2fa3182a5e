//! What may go wrong between any two steps.

use std::fmt;

use crate::lane::unpublished;
use crate::publish;
use crate::scope::{Beyond, Scope, Sight};
use crate::state::{At, Committed, EVENTS, LANES, Lane, PARTITIONS, Stage, State};

/// A fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// A lane's process dies.
    Crash(usize),
    /// A partition moves to the other lane.
    Rebalance(u8),
    /// A lane asks for the commit of its transaction, and the reply is lost: the request arrived.
    CommitReplyLost(usize),
    /// A lane asks for the commit of its transaction, and no reply comes: the request is on its way.
    CommitDelayed(usize),
    /// The request arrives now.
    DelayedCommitArrives(usize),
    /// The commit script has run, and its reply is lost.
    StoreReplyLost(usize),
    /// The replica, or the last dump, catches up with the store.
    ReplicaCatchesUp,
    /// The replica takes over, or the store starts again from its last dump.
    Failover,
    /// An operator sets the group's offsets to the start, while all lanes are cleanly stopped; then they start.
    Rewind,
    /// An operator sets the group past a partition's next record, whose event is applied and not published.
    Skip(u8),
    /// `dedupe.window` is over: the receipts expire. It is longer than anything is on its way.
    ReceiptsExpire,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Crash(lane) => write!(f, "! lane {lane} crashes"),
            Fault::Rebalance(partition) => write!(f, "! partition {partition} moves to the other lane"),
            Fault::CommitReplyLost(lane) => {
                write!(f, "! lane {lane}'s transaction is committed, the reply is lost")
            }
            Fault::CommitDelayed(lane) => {
                write!(f, "! lane {lane}'s request to commit its transaction hangs")
            }
            Fault::DelayedCommitArrives(lane) => {
                write!(f, "! lane {lane}'s request to commit arrives after all")
            }
            Fault::StoreReplyLost(lane) => write!(f, "! lane {lane}'s commit script runs, the reply is lost"),
            Fault::ReplicaCatchesUp => write!(f, "  the replica catches up"),
            Fault::Failover => write!(f, "! the replica takes over"),
            Fault::Rewind => write!(f, "! all lanes stop, and an operator sets the group to the start"),
            Fault::Skip(partition) => {
                write!(f, "! an operator skips the next record of partition {partition}")
            }
            Fault::ReceiptsExpire => write!(f, "! the receipts expire"),
        }
    }
}

impl Scope {
    /// The faults that may come now.
    pub fn faults(&self, state: &State, found: &mut impl FnMut(Fault)) {
        let left = &state.left;
        for (lane, is) in state.lanes.iter().enumerate() {
            if left.crashes > 0 && is.stage != Stage::Down {
                found(Fault::Crash(lane));
            }
            if left.lost_commits > 0 && matches!(is.stage, Stage::Publishing(_)) {
                found(Fault::CommitReplyLost(lane));
                found(Fault::CommitDelayed(lane));
            }
            if state.broker.delayed_commit[lane] {
                found(Fault::DelayedCommitArrives(lane));
            }
            if left.lost_replies > 0 && matches!(is.stage, Stage::Committing { .. }) {
                found(Fault::StoreReplyLost(lane));
            }
        }
        if left.rebalances > 0 {
            (0..).take(PARTITIONS).for_each(|partition| found(Fault::Rebalance(partition)));
        }
        if left.failovers > 0 {
            found(Fault::Failover);
            if left.catch_ups > 0 && state.replica != state.store {
                found(Fault::ReplicaCatchesUp);
            }
        }
        let stopped = can_stop(state)
            || self.beyond == Some(Beyond::RewindAfterCrash)
                && state.lanes.iter().all(|lane| lane.stage == Stage::Down || is_clean(lane));
        if left.rewinds > 0 && stopped && state.broker.committed != [Committed::default(); PARTITIONS] {
            found(Fault::Rewind);
        }
        if left.skips > 0 && state.lanes.iter().all(|lane| lane.stage == Stage::Down) {
            for (partition, committed) in (0..).zip(state.broker.committed) {
                let next = At { partition, offset: committed.next };
                if committed.next < self.end(usize::from(partition))
                    && unpublished(&state.store, next).is_some()
                {
                    found(Fault::Skip(partition));
                }
            }
        }
        if left.expiries > 0 && nothing_is_on_its_way(state) && state.store.receipts != [None; EVENTS] {
            found(Fault::ReceiptsExpire);
        }
    }

    /// A fault comes.
    pub fn befall(&self, state: &mut State, fault: Fault) {
        match fault {
            Fault::Crash(lane) => {
                state.left.crashes -= 1;
                state.lanes[lane] = stopped();
            }
            Fault::Rebalance(partition) => {
                state.left.rebalances -= 1;
                let owner = &mut state.broker.owner[usize::from(partition)];
                *owner = 1 - *owner;
                state.lanes.iter_mut().for_each(|lane| lane.current = false);
            }
            Fault::CommitReplyLost(lane) => {
                state.left.lost_commits -= 1;
                publish::commit(state, lane);
                state.lanes[lane].stage = Stage::ReplacingProducer;
            }
            Fault::CommitDelayed(lane) => {
                state.left.lost_commits -= 1;
                state.broker.delayed_commit[lane] = true;
                state.lanes[lane].stage = Stage::ReplacingProducer;
            }
            Fault::DelayedCommitArrives(lane) => {
                state.broker.delayed_commit[lane] = false;
                if state.broker.open[lane].is_some() {
                    self.met.note(Sight::CommittedLate);
                    publish::commit(state, lane);
                }
            }
            Fault::StoreReplyLost(lane) => {
                state.left.lost_replies -= 1;
                let is = state.lanes[lane];
                self.commit_to_store(state, lane);
                // It asks again, with what it had.
                state.lanes[lane] = is;
            }
            Fault::ReplicaCatchesUp => {
                state.left.catch_ups -= 1;
                state.replica = state.store;
            }
            Fault::Failover => {
                state.left.failovers -= 1;
                let lost = state.store;
                state.store = state.replica;
                state.store.identity = lost.identity + 1;
                if self.beyond == Some(Beyond::LostBranch) {
                    state.replica = lost;
                }
            }
            Fault::Rewind => {
                state.left.rewinds -= 1;
                state.broker.committed = [Committed::default(); PARTITIONS];
                state.lanes = [stopped(); LANES];
            }
            Fault::Skip(partition) => {
                state.left.skips -= 1;
                let committed = &mut state.broker.committed[usize::from(partition)];
                *committed = Committed { next: committed.next + 1, from: None, behind: 0 };
            }
            Fault::ReceiptsExpire => {
                state.left.expiries -= 1;
                state.store.receipts = [None; EVENTS];
                state.replica.receipts = [None; EVENTS];
            }
        }
    }
}

fn stopped() -> Lane {
    Lane {
        stage: Stage::Down,
        current: false,
        identity: None,
        owned: [None; PARTITIONS],
        cache: None,
        unsaved: false,
        published: [0; PARTITIONS],
    }
}

/// Whether a lane could stop cleanly here.
fn is_clean(lane: &Lane) -> bool {
    lane.stage == Stage::Idle && lane.current && !lane.unsaved && lane.published == [0; PARTITIONS]
}

/// Whether all lanes could stop cleanly here, and nothing is left of an earlier crash.
fn can_stop(state: &State) -> bool {
    state.unclean == 0 && state.lanes.iter().all(is_clean)
}

/// Whether what has a receipt is published and behind the lanes.
fn nothing_is_on_its_way(state: &State) -> bool {
    can_stop(state) && state.store.outbox.as_flattened().iter().all(Option::is_none)
}
