//! Faults at random moments, of the workers, the broker and Redis at the same time.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

use super::alone;
use super::fault::{self, Fault};
use super::world::{Store, World};

/// After so many rounds of faults all is worked off and compared.
const ROUNDS: usize = 3;

fn asked_for(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a whole number"))
}

#[test]
fn whatever_happens_at_whatever_moment_every_event_counts_once() {
    let _turn = alone();
    let minutes = asked_for("ACCRUAL_FAULTS_MINUTES").unwrap_or(1);
    let another = || RandomState::new().build_hasher().finish() % 1_000_000;
    let seed = asked_for("ACCRUAL_TEST_SEED").unwrap_or_else(another);
    println!("ACCRUAL_TEST_SEED={seed}");
    let mut world = World::start(1, Store::single(), seed);
    let began = Instant::now();
    let mut has_lost = false;
    while began.elapsed() < Duration::from_mins(minutes) {
        for _ in 0..ROUNDS {
            let faults = drawn(&mut world);
            let names: Vec<&str> = faults.iter().map(|fault| fault.name).collect();
            println!("{:7.1} s: {}", began.elapsed().as_secs_f64(), names.join("; "));
            has_lost |= faults.iter().any(|fault| fault.loses);
            happen(&mut world, &faults);
        }
        let settled = if has_lost { world.settle_with_gaps() } else { world.settle() };
        println!("{:7.1} s: {settled}", began.elapsed().as_secs_f64());
    }
    if has_lost {
        world.end_with_gaps()
    } else {
        world.end()
    };
}

/// One fault, or up to one of each part.
fn drawn(world: &mut World) -> Vec<&'static Fault> {
    let mut faults: Vec<&Fault> = Vec::new();
    while faults.is_empty() || world.rng.chance(500) {
        let fault = fault::ALL[world.rng.below(fault::ALL.len())];
        if faults.iter().all(|other| other.part != fault.part) {
            faults.push(fault);
        }
    }
    faults
}

/// They begin one after the other, last together, and are over one after the other, in another order.
fn happen(world: &mut World, faults: &[&Fault]) {
    run_for_up_to(world, 1_500);
    for fault in faults {
        fault.begin(world);
        run_for_up_to(world, 800);
    }
    // Now and then longer than a session, or than an answer of Redis is waited for.
    match world.rng.below(5) {
        0 => world.run_for(Duration::from_secs(6)),
        1 => world.run_for(Duration::from_secs(12)),
        _ => run_for_up_to(world, 2_500),
    }
    for at in 0..faults.len() {
        faults[(at + 1) % faults.len()].end(world);
        run_for_up_to(world, 800);
    }
}

fn run_for_up_to(world: &mut World, millis: usize) {
    let millis = world.rng.below(millis) as u64;
    world.run_for(Duration::from_millis(millis));
}
