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

mod kafka;
mod live_reader;
mod load;
mod oracle;
mod proxy;
#[path = "../support/redis.rs"]
mod redis_server;
#[allow(dead_code, reason = "each test binary uses its own part of this")]
#[path = "../simulation/rng.rs"]
mod rng;
#[path = "../support/worker.rs"]
mod worker;
mod world;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

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
    world.kafka.kill(0);
    world.wait_until_unready("kafka");
    world.kafka.start_again(0);
    world.run_for(seconds(3));
    world.kafka.stop(0);
    world.kafka.start_again(0);
    world.run_for(seconds(2));
    println!("broker: {}", world.end());
}

#[test]
fn a_redis_that_is_killed_full_read_only_silent_or_without_its_scripts_is_waited_for() {
    let _turn = alone();
    let mut world = World::start(1, Store::single(), 3);
    world.run_for(seconds(2));
    world.redis().0.kill();
    world.wait_until_unready("redis");
    world.redis().0.start_again();
    world.run_for(seconds(2));
    println!("restarted with its file: {}", world.settle());

    world.redis().0.command(&["CLIENT", "KILL", "TYPE", "normal"]);
    world.run_for(seconds(1));
    world.redis().0.command(&["SCRIPT", "FLUSH"]);
    world.run_for(seconds(1));
    world.redis().1.forget_connections();
    world.run_for(seconds(2));
    world.redis().0.command(&["CONFIG", "SET", "maxmemory", "1mb"]);
    world.wait_until_unready("redis");
    world.redis().0.command(&["CONFIG", "SET", "maxmemory", "0"]);
    world.wait_until_ready();
    world.redis().0.command(&["REPLICAOF", "127.0.0.1", "1"]);
    world.wait_until_unready("redis");
    world.redis().0.command(&["REPLICAOF", "NO", "ONE"]);
    world.run_for(seconds(2));
    println!("refused: {}", world.end());
}

/// What a server has on its disk.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            // It may be a file that the server has just replaced.
            std::fs::copy(entry.path(), target).ok();
        }
    }
}

fn empty(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            std::fs::remove_dir_all(entry.path()).unwrap();
        } else {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
}

#[test]
fn a_redis_that_comes_back_empty_or_from_an_old_copy_or_as_a_replica_that_lagged_is_repaired() {
    let _turn = alone();
    let mut world = World::start(1, Store::single(), 4);
    world.run_for(seconds(3));
    let directory: PathBuf = world.redis().0.directory().to_owned();
    world.redis().0.kill();
    empty(&directory);
    world.redis().0.start_again();
    world.run_for(seconds(3));
    println!("empty: {}", world.settle_with_gaps());

    world.run_for(seconds(2));
    let old = directory.with_extension("old");
    // As a backup is taken: nothing is written while it is copied.
    world.redis().0.signal("-STOP");
    copy(&directory, &old);
    world.redis().0.signal("-CONT");
    world.run_for(seconds(4));
    world.redis().0.kill();
    empty(&directory);
    copy(&old, &directory);
    world.redis().0.start_again();
    world.run_for(seconds(3));
    println!("old copy: {}", world.settle_with_gaps());
    std::fs::remove_dir_all(&old).unwrap();

    let mut replica: RedisServer = World::another_redis();
    let port = world.redis().0.port().to_string();
    replica.command(&["REPLICAOF", "127.0.0.1", &port]);
    world.run_for(seconds(4));
    replica.signal("-STOP");
    world.run_for(seconds(3));
    world.redis().0.kill();
    replica.signal("-CONT");
    replica.command(&["REPLICAOF", "NO", "ONE"]);
    let (server, proxy) = world.redis();
    proxy.lead_to(replica.port());
    std::mem::swap(server, &mut replica);
    world.run_for(seconds(3));
    println!("replica: {}", world.end_with_gaps());
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
        world.kafka.wait_until_in_sync("awards");
    }
    println!("rolling restart: {}", world.end());
}
