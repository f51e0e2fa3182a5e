//! The faults: how each begins under load and how it is over.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::world::World;

/// What a fault happens to. Faults of different parts may happen at the same time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    Workers,
    Broker,
    Redis,
}

pub struct Fault {
    pub name: &'static str,
    pub part: Part,
    /// Whether Redis comes out of it without writes that it had acknowledged.
    pub loses: bool,
    begin: fn(&mut World),
    end: fn(&mut World),
}

impl Fault {
    pub fn begin(&self, world: &mut World) {
        (self.begin)(world);
    }

    /// What was away comes back. Nothing is waited for.
    pub fn end(&self, world: &mut World) {
        (self.end)(world);
    }

    /// Lasts until every worker has said that it cannot work because of `dependency`, and is over once every one can.
    pub fn is_noticed(&self, world: &mut World, dependency: &str) {
        self.begin(world);
        world.wait_until_unready(dependency);
        self.end(world);
        world.wait_until_ready();
    }

    const fn loses_nothing(
        name: &'static str,
        part: Part,
        begin: fn(&mut World),
        end: fn(&mut World),
    ) -> Self {
        Self { name, part, loses: false, begin, end }
    }

    const fn redis_loses(name: &'static str, begin: fn(&mut World), end: fn(&mut World)) -> Self {
        Self { name, part: Part::Redis, loses: true, begin, end }
    }
}

fn nothing(_: &mut World) {}

pub const A_WORKER_IS_KILLED: Fault =
    Fault::loses_nothing("a worker is killed", Part::Workers, kill_a_worker, World::start_missing_workers);
pub const ALL_WORKERS_ARE_KILLED: Fault = Fault::loses_nothing(
    "all workers are killed",
    Part::Workers,
    |world| (0..2).for_each(|worker| world.kill_worker(worker)),
    World::start_missing_workers,
);
pub const A_WORKER_STANDS_STILL: Fault = Fault::loses_nothing(
    "a worker stands still",
    Part::Workers,
    |world| {
        let worker = world.rng.below(2);
        world.worker(worker).suspend();
    },
    |world| (0..2).for_each(|worker| world.worker(worker).resume()),
);
pub const THE_BROKER_IS_KILLED: Fault = Fault::loses_nothing(
    "the broker is killed",
    Part::Broker,
    |world| world.kafka.kill(0),
    |world| world.kafka.start_again(0),
);
pub const THE_BROKER_IS_STOPPED: Fault = Fault::loses_nothing(
    "the broker is stopped",
    Part::Broker,
    |world| world.kafka.stop(0),
    |world| world.kafka.start_again(0),
);
pub const REDIS_IS_KILLED: Fault = Fault::loses_nothing(
    "Redis is killed, and has its file",
    Part::Redis,
    |world| world.redis().0.kill(),
    |world| world.redis().0.start_again(),
);
pub const REDIS_CLOSES_CONNECTIONS: Fault = Fault::loses_nothing(
    "Redis closes its connections",
    Part::Redis,
    |world| _ = world.redis().0.command(&["CLIENT", "KILL", "TYPE", "normal"]),
    nothing,
);
pub const REDIS_FORGETS_ITS_SCRIPTS: Fault = Fault::loses_nothing(
    "Redis forgets its scripts",
    Part::Redis,
    |world| _ = world.redis().0.command(&["SCRIPT", "FLUSH", "SYNC"]),
    nothing,
);
/// As by a firewall that forgot them. New connections work, and the workers make them by themselves.
pub const CONNECTIONS_ARE_HALF_OPEN: Fault = Fault::loses_nothing(
    "connections to Redis are half-open",
    Part::Redis,
    |world| world.redis().1.forget_connections(),
    nothing,
);
pub const REDIS_STANDS_STILL: Fault = Fault::loses_nothing(
    "Redis stands still",
    Part::Redis,
    |world| world.redis().0.signal("-STOP"),
    |world| world.redis().0.signal("-CONT"),
);
pub const REDIS_IS_FULL: Fault = Fault::loses_nothing(
    "Redis is full",
    Part::Redis,
    |world| _ = world.redis().0.command(&["CONFIG", "SET", "maxmemory", "1mb"]),
    |world| _ = world.redis().0.command(&["CONFIG", "SET", "maxmemory", "0"]),
);
/// A replica of a server that is not there: it keeps what it has.
pub const REDIS_IS_READ_ONLY: Fault = Fault::loses_nothing(
    "Redis is read-only",
    Part::Redis,
    |world| _ = world.redis().0.command(&["REPLICAOF", "127.0.0.1", "1"]),
    |world| _ = world.redis().0.command(&["REPLICAOF", "NO", "ONE"]),
);
pub const REDIS_COMES_BACK_EMPTY: Fault = Fault::redis_loses(
    "Redis comes back empty",
    |world| {
        let server = world.redis().0;
        server.kill();
        empty(server.directory());
    },
    |world| world.redis().0.start_again(),
);
pub const REDIS_COMES_BACK_OLD: Fault =
    Fault::redis_loses("Redis comes back from an old copy", take_a_copy, come_back_from_the_copy);
pub const A_LAGGING_REPLICA_TAKES_OVER: Fault = Fault::redis_loses(
    "a replica that lagged takes over",
    World::cut_off_a_replica,
    World::fail_over_to_the_replica,
);

/// All that one broker and one Redis can have.
pub const ALL: [&Fault; 15] = [
    &A_WORKER_IS_KILLED,
    &ALL_WORKERS_ARE_KILLED,
    &A_WORKER_STANDS_STILL,
    &THE_BROKER_IS_KILLED,
    &THE_BROKER_IS_STOPPED,
    &REDIS_IS_KILLED,
    &REDIS_CLOSES_CONNECTIONS,
    &REDIS_FORGETS_ITS_SCRIPTS,
    &CONNECTIONS_ARE_HALF_OPEN,
    &REDIS_STANDS_STILL,
    &REDIS_IS_FULL,
    &REDIS_IS_READ_ONLY,
    &REDIS_COMES_BACK_EMPTY,
    &REDIS_COMES_BACK_OLD,
    &A_LAGGING_REPLICA_TAKES_OVER,
];

fn kill_a_worker(world: &mut World) {
    let worker = world.rng.below(2);
    world.kill_worker(worker);
}

fn old(directory: &Path) -> PathBuf {
    directory.with_extension("old")
}

/// As a backup is taken: nothing is written while it is copied.
fn take_a_copy(world: &mut World) {
    let server = world.redis().0;
    server.signal("-STOP");
    // The signal is told, not yet obeyed.
    std::thread::sleep(Duration::from_millis(20));
    copy(server.directory(), &old(server.directory()));
    server.signal("-CONT");
}

fn come_back_from_the_copy(world: &mut World) {
    let server = world.redis().0;
    let (directory, old) = (server.directory().to_owned(), old(server.directory()));
    server.kill();
    empty(&directory);
    copy(&old, &directory);
    std::fs::remove_dir_all(&old).unwrap();
    server.start_again();
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
