//! The seeded simulation: the real lane over the in-memory log and store, with several lanes whose
//! every call is scheduled, failed or turned into a crash by a seeded generator. An auditor that knows
//! nothing of the lane's code says afterwards whether every event counted exactly once.
//!
//! A failing seed is printed with the shortest trace that was found; `ACCRUAL_TEST_SEED=<seed> cargo test --test
//! simulation` runs it alone. `tests/simulation/accrual-sim` runs many, optimised.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::missing_panics_doc
)]

mod auditor;
mod faulty;
mod mutation;
mod rng;
mod traffic;
mod world;

use mutation::Mutation;
use world::{Faults, World};

/// The seeds of each test. Few of them where nothing was optimised; `tests/simulation/accrual-sim` asks for more.
fn seeds() -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().expect("a whole number"));
    if let Some(seed) = number("ACCRUAL_TEST_SEED") {
        return vec![seed];
    }
    let first = number("ACCRUAL_TEST_FROM").unwrap_or(1);
    (first..first + number("ACCRUAL_TEST_SEEDS").unwrap_or(50)).collect()
}

/// A violation of the same seed with a shorter trace, if leaving out faults and records leads to one.
fn shortest(seed: u64, faults: &Faults, world: World, violation: String) -> (World, Faults, String) {
    let mut found = (world, faults.clone(), violation);
    loop {
        let shorter = found.1.fewer().into_iter().find_map(|fewer| {
            let mut world = World::new(seed, fewer.clone());
            let why = world.run().and_then(|()| auditor::audit(&world)).err()?;
            (world.trace.len() < found.0.trace.len()).then_some((world, fewer, why))
        });
        match shorter {
            Some(shorter) => found = shorter,
            None => return found,
        }
    }
}

fn run(name: &str, faults: Faults) {
    let (mut steps, mut faults_met) = (0, 0);
    for seed in seeds() {
        let mut world = World::new(seed, faults.clone());
        if let Err(violation) = world.run().and_then(|()| auditor::audit(&world)) {
            let (shorter, fewer, why) = shortest(seed, &faults, world, violation.clone());
            // One that never finishes ends with the same calls over and over.
            let first = &shorter.trace[..shorter.trace.len().min(2_000)];
            println!("{}\nthe shortest that was found: {fewer:?}: {why}", first.join("\n"));
            panic!("{name}: seed {seed}: {violation}");
        }
        steps += world.steps;
        faults_met += world.faults_met;
    }
    println!("{name}: {steps} steps, {faults_met} faults");
    assert!(!faults.any() || faults_met > 0, "{name}: no fault was ever met, so that this proves nothing");
}

#[test]
fn without_faults_every_event_counts_once() {
    run("no faults", Faults::default());
}

#[test]
fn a_crash_before_or_after_any_step_neither_loses_nor_repeats_anything() {
    run("crashes", Faults { crash: 40, time: 15, ..Faults::default() });
}

#[test]
fn two_lanes_on_one_member_with_crashes_and_rebalances_count_once() {
    run("rebalances", Faults { crash: 15, rebalance: 30, zombie: 15, time: 15, ..Faults::default() });
}

#[test]
fn lost_replies_of_the_store_and_of_a_commit_count_once() {
    run("lost replies", Faults { lost_reply: 60, crash: 10, rebalance: 5, time: 15, ..Faults::default() });
}

#[test]
fn rewinding_the_group_to_the_start_pays_nothing_twice_also_beyond_the_dedupe_window() {
    run("rewinds", Faults { rewind: true, crash: 10, ..Faults::default() });
}

#[test]
fn lanes_that_stand_still_past_their_lease_or_die_neither_overspend_a_budget_nor_lose_of_it() {
    run("leases", Faults { crash: 15, zombie: 25, lost_reply: 10, time: 60, ..Faults::default() });
}

#[test]
fn a_store_that_loses_a_tail_or_everything_is_repaired_from_what_was_published() {
    run("loss", Faults { loss: 20, rewind: true, ..Faults::default() });
}

#[test]
fn a_store_that_loses_a_tail_under_crashes_rebalances_and_zombies_is_repaired() {
    run("loss and all", Faults { loss: 15, ..ALL });
}

const ALL: Faults = Faults {
    crash: 20,
    rebalance: 20,
    zombie: 10,
    lost_reply: 30,
    time: 20,
    loss: 0,
    mutation: None,
    most_records: usize::MAX,
    rewind: false,
    moves: 0,
    skips: 0,
};

/// Without one of the guards the auditor finds something wrong, within so many seeds.
fn is_noticed(mutation: Mutation, faults: Faults) {
    const SEEDS: u64 = 1_000;
    for seed in 1..=SEEDS {
        let mut world = World::new(seed, Faults { mutation: Some(mutation), ..faults.clone() });
        if let Err(violation) = world.run().and_then(|()| auditor::audit(&world)) {
            println!("{mutation:?}: seed {seed}: {violation}");
            return;
        }
    }
    panic!("{mutation:?} is not noticed in {SEEDS} seeds");
}

#[test]
fn a_violation_is_shown_by_a_shorter_trace_where_there_is_one() {
    let faults = Faults { mutation: Some(Mutation::NoReceipts), ..ALL };
    let mut world = World::new(1, faults.clone());
    let violation = world.run().and_then(|()| auditor::audit(&world)).unwrap_err();
    let length = world.trace.len();
    let (shorter, fewer, why) = shortest(1, &faults, world, violation);
    assert!(shorter.trace.len() * 4 < length, "{} of {length} calls: {fewer:?}: {why}", shorter.trace.len());
}

#[test]
fn without_the_version_check_the_auditor_finds_it() {
    is_noticed(Mutation::NoVersionCheck, ALL);
}

#[test]
fn without_receipts_the_auditor_finds_it() {
    is_noticed(Mutation::NoReceipts, ALL);
}

#[test]
fn without_the_outbox_the_auditor_finds_it() {
    is_noticed(Mutation::NoOutbox, ALL);
}

#[test]
fn with_offsets_outside_the_transaction_the_auditor_finds_it() {
    is_noticed(Mutation::OffsetsOutside, ALL);
}

#[test]
fn without_repair_the_auditor_finds_it() {
    is_noticed(Mutation::NoRepair, Faults { loss: 20, ..Faults::default() });
}

#[test]
fn all_faults_at_once_count_once() {
    run("all", ALL);
}

#[test]
fn offsets_moved_by_an_operator_after_a_crash_publish_at_most_one_batch_a_lane_again() {
    run("moves", Faults { moves: 2, time: 20, ..Faults::default() });
}

#[test]
fn what_was_applied_of_records_that_an_operator_skips_is_published_once_whatever_dies() {
    run("skips", Faults { skips: 4, crash: 60, ..Faults::default() });
}
