//! The real worker under load, on a real Kafka and a real Redis that are killed, stopped, exchanged and refused. A reader is
//! there all the time; an oracle that was written apart from the worker's code says afterwards whether every event counted
//! once (`oracle.rs`).
//!
//! Each test has servers of its own. They run one after the other: each takes all that two cores have.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::missing_panics_doc
)]

mod cluster;
mod fault;
mod kafka;
mod live_reader;
mod load;
mod oracle;
mod proxy;
mod random;
#[path = "../support/redis.rs"]
mod redis_server;
#[allow(dead_code, reason = "each test binary uses its own part of this")]
#[path = "../simulation/rng.rs"]
mod rng;
mod sentinel;
#[path = "../support/worker.rs"]
mod worker;
mod world;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redis_server::RedisServer;
use world::{Store, World};

/// Long enough for a busy machine; what takes this long has failed.
const PATIENCE: Duration = Duration::from_secs(90);

/// One test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

#[test]
fn workers_that_are_killed_or_stand_still_past_their_session_count_every_event_once() {
    let _turn = alone();
    let mut world = World::start(1, Store::single(), 1);
    for round in 0..5 {
        let wait = Duration::from_millis(300 + world.rng.below(1_500) as u64);
        world.run_for(wait);
        world.kill_worker(round % 2);
        world.start_worker(round % 2);
    }
    println!("killed: {}", world.settle());
    for worker in [0, 1] {
        world.run_for(seconds(2));
        world.worker(worker).suspend();
        // The session is four seconds: the other one takes over meanwhile.
        std::thread::sleep(seconds(9));
        world.worker(worker).resume();
        world.run_for(seconds(2));
    }
    println!("stood still: {}", world.end());
}

#[test]
fn a_broker_that_is_killed_or_restarted_is_waited_for() {
    let _turn = alone();
    let mut world = World::start(1, Store::single(), 2);
    world.run_for(seconds(2));
    fault::THE_BROKER_IS_KILLED.is_noticed(&mut world, "kafka");
    world.run_for(seconds(3));
    fault::THE_BROKER_IS_STOPPED.begin(&mut world);
    fault::THE_BROKER_IS_STOPPED.end(&mut world);
    world.run_for(seconds(2));
    println!("broker: {}", world.end());
}

#[test]
fn a_redis_that_is_killed_full_read_only_silent_or_without_its_scripts_is_waited_for() {
    let _turn = alone();
    let mut world = World::start(1, Store::single(), 3);
    world.run_for(seconds(2));
    fault::REDIS_IS_KILLED.is_noticed(&mut world, "redis");
    world.run_for(seconds(2));
    println!("restarted with its file: {}", world.settle());

    let scripts = |world: &mut World| -> String { world.redis().0.query(&["INFO", "memory"]) };
    for _ in 0..3 {
        world.run_for(Duration::from_millis(700));
        fault::REDIS_FORGETS_ITS_SCRIPTS.begin(&mut world);
    }
    world.run_for(seconds(1));
    println!("without its scripts: {}", world.settle());
    assert!(!scripts(&mut world).contains("number_of_cached_scripts:0"), "they were loaded again");

    fault::REDIS_CLOSES_CONNECTIONS.begin(&mut world);
    world.run_for(seconds(1));
    fault::CONNECTIONS_ARE_HALF_OPEN.is_noticed(&mut world, "redis");
    world.run_for(seconds(1));
    println!("half-open: {}", world.settle());

    world.run_for(seconds(1));
    fault::REDIS_IS_FULL.is_noticed(&mut world, "redis");
    world.run_for(seconds(1));
    fault::REDIS_IS_READ_ONLY.is_noticed(&mut world, "redis");
    world.run_for(seconds(2));
    println!("refused: {}", world.end());
}

/// The sizes of the files in which Redis has every write before it answers it.
fn appended(server: &RedisServer) -> BTreeMap<PathBuf, usize> {
    let files = std::fs::read_dir(server.directory().join("appendonlydir")).unwrap();
    files
        .map(|file| file.unwrap())
        .map(|file| (file.path(), file.metadata().unwrap().len() as usize))
        .collect()
}

/// Whether accounts were written since the files had these sizes.
fn accounts_were_written_since(sizes: &BTreeMap<PathBuf, usize>) -> bool {
    sizes.iter().any(|(file, size)| {
        let written = std::fs::read(file).unwrap().split_off(*size);
        written.windows(4).any(|bytes| bytes.eq_ignore_ascii_case(b"MSET"))
    })
}

#[test]
fn a_commit_that_redis_carries_out_after_its_answer_was_given_up_counts_once() {
    let _turn = alone();
    let mut world = World::start(1, Store::single(), 7);
    let mut carried_out = 0;
    for _ in 0..8 {
        world.run_for(seconds(2));
        // The first two keys of a commit, and of nothing else, and an account that it writes.
        world.redis().1.hold_back(&[":outbox\r\n", ":server\r\n", "\"available\""]);
        fault::REDIS_STANDS_STILL.begin(&mut world);
        world.redis().1.pass_on();
        world.wait_until_unready("redis");
        // Nobody is there who could ask, or hear an answer, while it carries out what it was sent before.
        (0..2).for_each(|worker| world.worker(worker).suspend());
        let sizes = appended(world.redis().0);
        fault::REDIS_STANDS_STILL.end(&mut world);
        // Whether the kernel still has the whole of it when the other end is closed is not in our hands.
        let deadline = Instant::now() + seconds(3);
        let mut was_carried_out = false;
        while !was_carried_out && Instant::now() < deadline {
            was_carried_out = accounts_were_written_since(&sizes);
            std::thread::sleep(Duration::from_millis(50));
        }
        (0..2).for_each(|worker| world.worker(worker).resume());
        world.wait_until_ready();
        carried_out += usize::from(was_carried_out);
        if carried_out == 2 {
            break;
        }
    }
    assert!(carried_out > 0, "no commit was carried out late");
    world.run_for(seconds(2));
    println!("stood still: {}", world.end());
}

#[test]
fn a_redis_that_comes_back_empty_or_from_an_old_copy_or_as_a_replica_that_lagged_is_repaired() {
    let _turn = alone();
    let mut world = World::start(1, Store::single(), 4);
    world.run_for(seconds(3));
    fault::REDIS_COMES_BACK_EMPTY.begin(&mut world);
    fault::REDIS_COMES_BACK_EMPTY.end(&mut world);
    world.run_for(seconds(3));
    println!("empty: {}", world.settle_with_gaps());

    world.run_for(seconds(2));
    fault::REDIS_COMES_BACK_OLD.begin(&mut world);
    world.run_for(seconds(4));
    fault::REDIS_COMES_BACK_OLD.end(&mut world);
    world.run_for(seconds(3));
    println!("old copy: {}", world.settle_with_gaps());

    world.run_for(seconds(4));
    fault::A_LAGGING_REPLICA_TAKES_OVER.begin(&mut world);
    let deadline = Instant::now() + PATIENCE;
    let mut lacking = 0;
    while lacking < 10 {
        assert!(Instant::now() < deadline, "the replica lacks but {lacking} accounts");
        world.run_for(seconds(3));
        lacking = world.accounts_that_the_replica_lacks();
    }
    fault::A_LAGGING_REPLICA_TAKES_OVER.end(&mut world);
    world.run_for(seconds(3));
    println!("replica that lacked {lacking} accounts: {}", world.end_with_gaps());
}

#[test]
fn on_a_cluster_of_redis_workers_that_are_killed_count_every_event_once() {
    let _turn = alone();
    let mut world = World::start(1, Store::cluster(), 5);
    for round in 0..3 {
        world.run_for(Duration::from_millis(1_500));
        world.kill_worker(round % 2);
        world.start_worker(round % 2);
    }
    world.cluster().nodes[0].command(&["CLIENT", "KILL", "TYPE", "normal"]);
    world.run_for(seconds(2));
    println!("cluster: {}", world.end());
}

#[test]
#[ignore = "three brokers want more memory than a small machine has: `cargo test --test faults -- --ignored`"]
fn three_brokers_that_are_restarted_one_after_the_other_are_no_loss() {
    let _turn = alone();
    let mut world = World::start(3, Store::single(), 6);
    for broker in 0..3 {
        world.run_for(seconds(3));
        world.kafka.stop(broker);
        world.run_for(seconds(4));
        world.kafka.start_again(broker);
        world.kafka.wait_until_in_sync();
    }
    println!("rolling restart: {}", world.end());
}

#[test]
#[ignore = "three brokers want more memory than a small machine has: `cargo test --test faults -- --ignored`"]
fn while_two_of_three_brokers_are_away_nothing_is_acknowledged_and_nothing_is_lost() {
    let _turn = alone();
    let mut world = World::start_with_controllers(3, 1, Store::single(), 10);
    // The one that is left is the controller and takes the others out of what is in sync; or nobody can.
    for (away, left) in [([1, 2], "with"), ([0, 1], "without")] {
        world.run_for(seconds(3));
        away.into_iter().for_each(|broker| world.kafka.kill(broker));
        world.wait_until_unready("kafka");
        let before = world.acknowledged();
        world.run_for(seconds(15));
        assert_eq!(world.acknowledged(), before, "one broker {left} a controller acknowledged something");
        world.wait_until_unready("kafka");
        away.into_iter().for_each(|broker| world.kafka.start_again(broker));
        world.kafka.wait_until_in_sync();
        world.wait_until_ready();
        world.run_for(seconds(2));
        println!("one broker {left} a controller was left: {}", world.settle());
    }
    world.end();
}
