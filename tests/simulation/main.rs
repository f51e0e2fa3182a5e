//! The seeded simulation: the real lane over the in-memory log and store, with several lanes whose
//! every call is scheduled, failed or turned into a crash by a seeded generator. An auditor that knows
//! nothing of the lane's code says afterwards whether every event counted exactly once.
//!
//! A failing seed is printed; `ACCRUAL_TEST_SEED=<seed> cargo test --test simulation` runs it alone
//! and prints its trace.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::missing_panics_doc
)]

mod auditor;
mod faulty;
mod rng;
mod traffic;
mod world;

use world::{Faults, World};

/// How many seeds each test runs; `ACCRUAL_TEST_SEEDS` asks for more.
fn seeds(default: u64) -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().expect("a whole number"));
    match number("ACCRUAL_TEST_SEED") {
        Some(seed) => vec![seed],
        None => (1..=number("ACCRUAL_TEST_SEEDS").unwrap_or(default)).collect(),
    }
}

fn run(name: &str, faults: Faults, default_seeds: u64) {
    let (mut steps, mut faults_met) = (0, 0);
    for seed in seeds(default_seeds) {
        let mut world = World::new(seed, faults.clone());
        if let Err(violation) = world.run().and_then(|()| auditor::audit(&world)) {
            // One that never finishes ends with the same calls over and over.
            let first = &world.trace[..world.trace.len().min(2_000)];
            println!("{}", first.join("\n"));
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
    run("no faults", Faults::default(), 50);
}

#[test]
fn a_crash_before_or_after_any_step_neither_loses_nor_repeats_anything() {
    run("crashes", Faults { crash: 40, time: 15, ..Faults::default() }, 300);
}

#[test]
fn two_lanes_on_one_member_with_crashes_and_rebalances_count_once() {
    run("rebalances", Faults { crash: 15, rebalance: 30, zombie: 15, time: 15, ..Faults::default() }, 300);
}

#[test]
fn lost_replies_of_the_store_and_of_a_commit_count_once() {
    run(
        "lost replies",
        Faults { lost_reply: 60, crash: 10, rebalance: 5, time: 15, ..Faults::default() },
        300,
    );
}

#[test]
fn rewinding_the_group_to_the_start_pays_nothing_twice_also_beyond_the_dedupe_window() {
    run("rewinds", Faults { rewind: true, crash: 10, ..Faults::default() }, 150);
}

#[test]
fn lanes_that_stand_still_past_their_lease_or_die_neither_overspend_a_budget_nor_lose_of_it() {
    run("leases", Faults { crash: 15, zombie: 25, lost_reply: 10, time: 60, ..Faults::default() }, 300);
}

#[test]
fn all_faults_at_once_count_once() {
    run(
        "all",
        Faults { crash: 20, rebalance: 20, zombie: 10, lost_reply: 30, time: 20, ..Faults::default() },
        300,
    );
}

#[test]
fn offsets_moved_by_an_operator_after_a_crash_publish_at_most_one_batch_a_lane_again() {
    run("moves", Faults { moves: 2, time: 20, ..Faults::default() }, 150);
}
