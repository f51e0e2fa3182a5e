//! The promise, as what must be true of every state, and of every end, in which nothing is left to do.

use stateright::Property;

use crate::scope::Scope;
use crate::state::{EVENTS, Faults, State};

/// No event changes the account twice.
pub const APPLIED_ONCE: &str = "no event is applied twice";
/// A reader of committed records sees no event's entry twice.
pub const PUBLISHED_ONCE: &str = "no event is published twice";
/// No two published entries have one version.
pub const VERSIONS_UNIQUE: &str = "no two published entries have one version";
/// Every record is behind the group, every event is published, and the outbox is empty.
pub const NOTHING_LOST: &str = "in the end every event is published";
/// The account is the fold of the published entries.
pub const ACCOUNT_IS_FOLD: &str = "in the end the account is the fold of the published entries";
/// A reader of snapshots has the account.
pub const SNAPSHOT_IS_ACCOUNT: &str = "in the end the newest snapshot is the account";
/// The versions of the published entries have no gap, as long as the store lost nothing.
pub const NO_GAP: &str = "in the end versions have no gap, unless the store failed over";

/// What a scope must reach for that its promise says anything.
pub const AN_END: &str = "an end is reached with every fault behind it";
/// What a failover may leave: see the module's words on gaps.
pub const A_GAP: &str = "a failover leaves a gap in the versions";

/// The promise, and what must be reached.
pub fn properties() -> Vec<Property<Scope>> {
    vec![
        Property::always(APPLIED_ONCE, |scope: &Scope, state: &State| {
            scope.met.stands(0, state.store.account.counted.iter().all(|times| *times <= 1))
        }),
        Property::always(PUBLISHED_ONCE, |scope: &Scope, state: &State| {
            scope.met.stands(1, published(state).iter().all(|times| *times <= 1))
        }),
        Property::always(VERSIONS_UNIQUE, |scope: &Scope, state: &State| {
            scope.met.stands(2, versions(state).windows(2).all(|pair| pair[0] != pair[1]))
        }),
        Property::always(NOTHING_LOST, |scope: &Scope, state: &State| {
            scope.met.stands(3, !scope.is_quiet(state) || is_all_published(scope, state))
        }),
        Property::always(ACCOUNT_IS_FOLD, |scope: &Scope, state: &State| {
            let account = &state.store.account;
            let is_fold =
                || account.counted == published(state) && Some(&account.version) == versions(state).last();
            scope.met.stands(4, !scope.is_quiet(state) || is_fold())
        }),
        Property::always(SNAPSHOT_IS_ACCOUNT, |scope: &Scope, state: &State| {
            let snapshots = state.broker.published.iter().flatten().map(|(entry, _)| entry.snapshot);
            let newest = || snapshots.max_by_key(|account| account.version);
            scope.met.stands(5, !scope.is_quiet(state) || newest() == Some(state.store.account))
        }),
        Property::always(NO_GAP, |scope: &Scope, state: &State| {
            let failed_over = state.left.failovers < scope.faults.failovers;
            scope.met.stands(6, !scope.is_quiet(state) || failed_over || !has_gap(state))
        }),
        Property::sometimes(AN_END, |scope: &Scope, state: &State| {
            state.left == Faults::default() && scope.is_quiet(state)
        }),
        Property::sometimes(A_GAP, |scope: &Scope, state: &State| {
            !scope.met.stands(7, !scope.is_quiet(state) || !has_gap(state))
        }),
    ]
}

/// How often each event was published.
fn published(state: &State) -> [u8; EVENTS] {
    state.broker.published.map(|published| published.map_or(0, |(_, times)| times))
}

/// The versions of the published entries, in order.
fn versions(state: &State) -> Vec<u8> {
    let published = state.broker.published.iter().flatten();
    let mut versions: Vec<u8> = published.map(|(entry, _)| entry.version).collect();
    versions.sort_unstable();
    versions
}

fn has_gap(state: &State) -> bool {
    versions(state).iter().zip(1..).any(|(version, expected)| *version != expected)
}

fn is_all_published(scope: &Scope, state: &State) -> bool {
    let published = published(state);
    (0..EVENTS).all(|event| !scope.comes_in(event) || published[event] > 0)
        && (0..scope.input.len()).all(|at| state.broker.committed[at].next == scope.end(at))
        && state.store.outbox.as_flattened().iter().all(Option::is_none)
}
