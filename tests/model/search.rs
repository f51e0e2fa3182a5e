//! The search, and how a path that it finds is told.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Instant;

use stateright::{Checker, Expectation, HasDiscoveries, Model, Path};

use crate::guards::Guard;
use crate::promise;
use crate::scope::{Action, Met, Scope, Sight, Step};
use crate::state::{Batch, Stage, State};

/// Searches the whole scope: the promise holds, an end with all faults behind it is reached, so is each of `sights`,
/// and there are at least so many states, so that no model passes that does next to nothing.
pub fn holds(name: &str, scope: Scope, states: usize, sights: &[Sight]) {
    let began = Instant::now();
    let checker =
        scope.clone().checker().threads(1).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let found = checker.unique_state_count();
    println!(
        "{name}: {found} states, the longest way {} steps, {:.1?}",
        checker.max_depth(),
        began.elapsed()
    );
    for property in promise::properties() {
        let path = checker.discovery(property.name);
        match property.expectation {
            Expectation::Sometimes if property.name == promise::AN_END => {
                assert!(path.is_some(), "{name}: never reached: {}", property.name);
            }
            Expectation::Sometimes => {}
            _ => {
                if let Some(path) = path {
                    panic!("{name}: broken: {}\n{}", property.name, told(path));
                }
            }
        }
    }
    assert!(checker.is_done(), "{name}: the search did not come to its end");
    assert!(
        found >= states,
        "{name}: {found} states are fewer than {states}: the model does less than it should"
    );
    for sight in sights {
        assert!(scope.met.saw(*sight), "{name}: never met: {sight:?}");
    }
}

/// The scope holds with the guard, and without it this property is broken: prints the shortest path to where.
pub fn breaks_without(guard: Guard, scope: Scope, property: &'static str) {
    holds(&format!("with {guard:?}"), scope.clone(), 100, &[]);
    let found = finds(scope.without(guard), property);
    println!("without {guard:?}, broken: {property}\n{found}");
}

/// The shortest path to a state that breaks a property, or that shows what should be seen once.
pub fn finds(mut scope: Scope, property: &'static str) -> String {
    scope.met = Met::default();
    let only = HasDiscoveries::AllOf([property].into());
    let checker = scope.checker().threads(1).finish_when(only).spawn_bfs().join();
    told(checker.discovery(property).unwrap_or_else(|| panic!("not found: {property}")))
}

/// A path in words, and what it comes to.
fn told(path: Path<State, Action>) -> String {
    let mut text = String::new();
    let steps = path.into_vec();
    for (before, after) in steps.iter().zip(steps.iter().skip(1)) {
        let Some(action) = &before.1 else { continue };
        writeln!(text, "  {action}{}", outcome(action, &after.0)).unwrap();
    }
    let Some((last, _)) = steps.last() else { return text };
    writeln!(text, "  = the account has version {}, and counts", last.store.account.version).unwrap();
    for (event, (times, published)) in (0..).zip(last.store.account.counted.iter().zip(last.broker.published))
    {
        let published = match published {
            Some((entry, times)) => format!("published {times} times, version {}", entry.version),
            None => "not published".to_owned(),
        };
        writeln!(text, "    {} {times} times, {published}", name(event)).unwrap();
    }
    text
}

/// What came of a lane's step, where its name does not say.
fn outcome(action: &Action, after: &State) -> String {
    let Action::Lane(lane, step) = action else { return String::new() };
    match (step, after.lanes[*lane].stage) {
        (Step::CommitToStore, Stage::Loading { .. }) => ": refused".to_owned(),
        (Step::CommitToStore, Stage::ReadingIdentity) => ": unconfirmed".to_owned(),
        (Step::CheckIdentity, Stage::ReadingIdentity) => ": another, aborts".to_owned(),
        (Step::SendOffset, Stage::Joining) => ": refused, aborts".to_owned(),
        (Step::RestoreAccount | Step::RestoreReceipts | Step::Confirm, Stage::ReadingIdentity) => {
            ": overtaken by another failover".to_owned()
        }
        (Step::ReadEnd, Stage::RestoringAccount { waits: 1.., .. }) => {
            ", has to wait for a transaction".to_owned()
        }
        (_, Stage::Sending(Batch { entry: Some(entry), .. })) => {
            format!(": {} has version {}", name(entry.event.0), entry.version)
        }
        (_, Stage::Sending(Batch { entry: None, .. })) => ": nothing to publish".to_owned(),
        _ => String::new(),
    }
}

/// An event's id.
fn name(event: u8) -> char {
    char::from(b'a' + event)
}

/// From no state can the lanes go on for ever: of the steps that are no faults, none leads back. With
/// [`promise::NOTHING_LOST`], every run ends with every event published, whatever befell it and whoever goes first.
pub fn comes_to_an_end(name: &str, scope: &Scope) {
    let mut numbers: HashMap<State, usize> = HashMap::new();
    let mut states = scope.init_states();
    let mut follows: Vec<Vec<usize>> = Vec::new();
    let mut before: Vec<usize> = vec![0];
    numbers.extend(states.iter().copied().zip(0..));
    let mut at = 0;
    while let Some(state) = states.get(at).copied() {
        follows.push(Vec::new());
        let mut actions = Vec::new();
        scope.actions(&state, &mut actions);
        for action in actions {
            let next = scope.next_state(&state, action).unwrap();
            let number = *numbers.entry(next).or_insert_with(|| {
                states.push(next);
                before.push(0);
                states.len() - 1
            });
            if matches!(action, Action::Lane(..)) {
                follows[at].push(number);
                before[number] += 1;
            }
        }
        at += 1;
    }
    // What no step leads to is taken away until nothing is left; what lies on a cycle would stay.
    let mut free: Vec<usize> = (0..states.len()).filter(|state| before[*state] == 0).collect();
    let mut taken = 0;
    while let Some(state) = free.pop() {
        taken += 1;
        for next in &follows[state] {
            before[*next] -= 1;
            if before[*next] == 0 {
                free.push(*next);
            }
        }
    }
    println!("{name}: {} states", states.len());
    assert_eq!(taken, states.len(), "{name}: the lanes may go round in circles");
}
