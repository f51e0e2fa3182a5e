//! A primary and its replica, which Sentinels put in each other's place by themselves or when they are told to.

use std::time::Instant;

use redis::Value;

use super::redis_server::{RedisSentinels, RedisServer};
use super::world::{REDIS, Store, World};
use super::{PATIENCE, alone, seconds};

/// What a replica logs in with, so that it can be shut out.
const REPLICA: [&str; 11] = [
    "--masteruser",
    "replica",
    "--masterauth",
    "follow",
    "--user",
    "replica",
    "on",
    ">follow",
    "+psync",
    "+replconf",
    "+ping",
];

/// Two servers, and three Sentinels over them.
pub struct Replicated {
    servers: [RedisServer; 2],
    sentinels: RedisSentinels,
}

impl Replicated {
    pub fn start() -> Self {
        let servers = [(); 2].map(|()| RedisServer::start_with(&[REDIS.as_slice(), &REPLICA].concat()));
        servers[1].command(&["REPLICAOF", "127.0.0.1", &servers[0].port().to_string()]);
        wait("the replica follows", || follows(&servers[1], &servers[0]));
        let sentinels = RedisSentinels::watch(&servers[0]);
        Self { servers, sentinels }
    }

    pub fn url(&self) -> String {
        self.sentinels.url()
    }

    /// The server that every Sentinel names, once it is the primary.
    pub fn primary(&self) -> &RedisServer {
        &self.servers[self.place_of_primary()]
    }

    fn place_of_primary(&self) -> usize {
        let is_it = |server: &RedisServer| {
            self.sentinels.all_name(server)
                && matches!(role(server).as_slice(), [role, ..] if role == "master")
        };
        let mut found = None;
        wait("the Sentinels name a primary", || {
            found = self.servers.iter().position(is_it);
            found.is_some()
        });
        found.unwrap()
    }
}

/// What a server says of itself; nothing where it is down.
fn role(server: &RedisServer) -> Vec<String> {
    let Ok(Value::Array(told)) = server.try_command(&["ROLE"]) else { return Vec::new() };
    told.into_iter().map(|word| redis::from_redis_value(word).unwrap_or_default()).collect()
}

/// Whether a server is a replica of the other one and is connected with it.
fn follows(replica: &RedisServer, primary: &RedisServer) -> bool {
    let port = primary.port().to_string();
    matches!(role(replica).as_slice(), [role, _, of, link, _] if role == "slave" && *of == port && link == "connected")
}

fn wait(what: &str, mut until: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !until() {
        assert!(Instant::now() < deadline, "{what}: not in time");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

/// How many accounts and records the workers have put back.
fn restored(world: &World) -> u64 {
    let of = |worker: usize| {
        let (_, metrics) = world.worker(worker).get("/metrics");
        let values = metrics.lines().filter(|line| line.starts_with("accrual_store_restored_total"));
        values.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum::<u64>()
    };
    of(0) + of(1)
}

#[test]
fn behind_sentinels_the_workers_follow_a_failover_and_the_way_back_and_count_every_event_once() {
    let _turn = alone();
    let mut world = World::start(1, Store::Replicated(Replicated::start()), 7);
    world.run_for(seconds(3));
    assert_eq!(world.replicated().place_of_primary(), 0);
    assert_eq!(restored(&world), 0);

    // The replica is shut out, so that it lacks for certain what is written from here on.
    let [first, second] = &world.replicated().servers;
    first.command(&["ACL", "SETUSER", "replica", "off"]);
    first.command(&["CLIENT", "KILL", "USER", "replica"]);
    wait("the replica is shut out", || !follows(second, first));
    world.run_for(seconds(3));
    world.replicated().servers[0].kill();
    assert_eq!(world.replicated().place_of_primary(), 1, "the Sentinels promote the replica");
    world.run_for(seconds(3));
    println!("failed over: {}", world.settle_with_gaps());
    assert!(restored(&world) > 0, "the replica lacked something");

    world.replicated().servers[0].start_again();
    let [first, second] = &world.replicated().servers;
    wait("the old primary follows the new one", || follows(first, second));
    assert_eq!(world.replicated().place_of_primary(), 1);
    world.run_for(seconds(2));
    // Without it the deposed one would take writes until the Sentinels have turned to it, some ten seconds later.
    world.replicated().servers[1].command(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    wait("a Sentinel finds the replica good enough", || world.replicated().sentinels.fail_over());
    wait("all change over", || world.replicated().place_of_primary() == 0);
    let [first, second] = &world.replicated().servers;
    wait("the deposed one follows", || follows(second, first));
    world.run_for(seconds(3));
    println!("and back: {}", world.end_with_gaps());
}
