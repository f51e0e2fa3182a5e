//! A Redis Cluster whose slots move from node to node, and whose masters die.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::redis_server::RedisServer;
use super::world::{Store, World};
use super::{PATIENCE, alone, seconds};

/// By slot, the buckets there whose accounts this node has.
fn slots_with_accounts(node: &RedisServer) -> BTreeMap<u16, BTreeSet<String>> {
    let accounts: Vec<String> = node.query(&["KEYS", "accrual:{*}:account:*"]);
    let mut slots: BTreeMap<u16, BTreeSet<String>> = BTreeMap::new();
    for key in accounts {
        let slot = node.query(&["CLUSTER", "KEYSLOT", &key]);
        let bucket = key.split(['{', '}']).nth(1).unwrap().to_owned();
        slots.entry(slot).or_default().insert(bucket);
    }
    slots
}

fn keys_in(node: &RedisServer, slot: &str) -> Vec<String> {
    node.query(&["CLUSTER", "GETKEYSINSLOT", slot, "100000"])
}

/// Moves a slot as an operator's tool does, key by key, and lets it stand for a while with a part of its keys on either
/// node.
fn move_slot(world: &mut World, slot: u16, from: usize, to: usize, half_moved_for: Duration) {
    let slot = slot.to_string();
    let nodes = &world.cluster().nodes;
    let id = |node: usize| -> String { nodes[node].query(&["CLUSTER", "MYID"]) };
    let (id_from, id_to) = (id(from), id(to));
    nodes[to].command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &id_from]);
    nodes[from].command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &id_to]);
    let port = nodes[to].port().to_string();
    let keys = keys_in(&nodes[from], &slot);
    assert!(keys.len() > 1, "slot {slot} has no keys to move");
    let migrate = |keys: &[String]| {
        let mut words = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
        words.extend(keys.iter().map(String::as_str));
        nodes[from].command(&words);
    };
    migrate(&keys[..keys.len() / 2]);
    std::thread::sleep(half_moved_for);
    let on_either = [from, to].map(|node| keys_in(&nodes[node], &slot).len());
    assert!(on_either.iter().all(|keys| *keys > 0), "slot {slot} is not half moved: {on_either:?}");
    loop {
        let left = keys_in(&nodes[from], &slot);
        if left.is_empty() {
            break;
        }
        migrate(&left);
    }
    for node in [to, from].into_iter().chain((0..nodes.len()).filter(|node| ![from, to].contains(node))) {
        nodes[node].command(&["CLUSTER", "SETSLOT", &slot, "NODE", &id_to]);
    }
    let elsewhere = nodes[from].try_command(&["GET", &keys[0]]).unwrap_err();
    assert_eq!(elsewhere.code(), Some("MOVED"), "slot {slot} has moved");
    assert!(keys_in(&nodes[to], &slot).len() >= keys.len(), "keys of slot {slot} are missing");
    world.run_for(Duration::ZERO);
}

/// Every bucket was found whole on the node that has it now.
fn assert_confirmed(world: &World) {
    for (number, node) in world.cluster().nodes.iter().enumerate() {
        let replication: String = node.query(&["INFO", "replication"]);
        let name = replication.lines().find_map(|line| line.strip_prefix("master_replid:")).unwrap();
        for bucket in slots_with_accounts(node).into_values().flatten() {
            let confirmed: Option<String> = node.query(&["GET", &format!("accrual:{{{bucket}}}:server")]);
            assert_eq!(confirmed.as_deref(), Some(name), "bucket {bucket} on node {number}");
        }
    }
}

#[test]
fn slots_that_move_between_the_nodes_of_a_cluster_under_load_lose_nothing_and_count_nothing_twice() {
    let _turn = alone();
    let mut world = World::start(1, Store::cluster(), 8);
    world.run_for(seconds(3));
    let mut moved = Vec::new();
    for (from, to) in [(0, 1), (1, 2), (2, 0)] {
        let slots: Vec<u16> = slots_with_accounts(&world.cluster().nodes[from]).into_keys().collect();
        // Half of what a node has: both it and the other go on to serve.
        for slot in slots.into_iter().step_by(2) {
            move_slot(&mut world, slot, from, to, Duration::from_millis(100));
            moved.push((slot, from, to));
        }
        world.run_for(seconds(1));
    }
    assert!(moved.len() > 8, "only {moved:?} moved");
    println!("{} slots moved: {}", moved.len(), world.settle());
    assert_confirmed(&world);

    world.run_for(seconds(2));
    for (number, (slot, from, to)) in moved.into_iter().rev().enumerate() {
        // Who starts while a slot moves meets it half moved.
        let killed = (number % 6 == 0).then_some(number / 6 % 2);
        if let Some(worker) = killed {
            world.kill_worker(worker);
        }
        move_slot(&mut world, slot, to, from, Duration::from_millis(100));
        if let Some(worker) = killed {
            world.start_worker(worker);
        }
    }
    world.run_for(seconds(2));
    println!("and back, with workers killed: {}", world.settle());
    assert_confirmed(&world);

    // Every lane meets it again and again.
    let (slot, _) = slots_with_accounts(&world.cluster().nodes[0]).pop_first().unwrap();
    move_slot(&mut world, slot, 0, 1, seconds(5));
    world.run_for(seconds(2));
    println!("half moved for long: {}", world.end());
}

/// How far a server's writes have come that its replicas are sent, or that it was sent as one.
fn replication_offset(node: &RedisServer, role: &str) -> u64 {
    let replication: String = node.query(&["INFO", "replication"]);
    let offset = replication.lines().find_map(|line| line.strip_prefix(role)?.strip_prefix("_repl_offset:"));
    offset.unwrap_or_else(|| panic!("no {role} in {replication}")).parse().unwrap()
}

#[test]
fn a_master_of_a_cluster_that_dies_is_followed_by_its_replica_and_what_that_lacks_is_restored() {
    let _turn = alone();
    let mut world = World::start(1, Store::cluster(), 9);
    let replica = world.cluster().start_replica_of(0);
    world.run_for(seconds(2));
    let slots = slots_with_accounts(&world.cluster().nodes[0]);
    assert!(!slots.is_empty(), "the master has nothing");
    // It hears no more of what is written; not for so long that it is taken for dead.
    replica.signal("-STOP");
    world.cluster().nodes[0].command(&["CLIENT", "KILL", "TYPE", "replica"]);
    world.run_for(seconds(2));
    let written = replication_offset(&world.cluster().nodes[0], "master");
    world.cluster_mut().nodes[0].kill();
    replica.signal("-CONT");
    let lacking = written - replication_offset(&replica, "slave");
    // More than the empty words by which servers see that they are there.
    assert!(lacking > 1_000, "the replica has all but {lacking} bytes of what the master has");
    world.wait_until_unready("redis");
    // Nobody tells it to.
    let began = Instant::now();
    while !replica.query::<String>(&["INFO", "replication"]).contains("role:master") {
        assert!(began.elapsed() < PATIENCE, "the replica does not take over");
        std::thread::sleep(Duration::from_millis(50));
    }
    // Who starts now is told of a node that is no more.
    world.kill_worker(0);
    world.start_worker(0);
    world.wait_until_ready();
    world.cluster_mut().nodes[0] = replica;
    world.run_for(seconds(2));
    println!("a replica that lacked {lacking} bytes took over: {}", world.settle_with_gaps());
    assert_confirmed(&world);
    let served = slots_with_accounts(&world.cluster().nodes[0]);
    assert!(slots.keys().all(|slot| served.contains_key(slot)), "the replica serves other slots");
    world.end_with_gaps();
}
