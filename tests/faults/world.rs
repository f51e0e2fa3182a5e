//! Servers, two workers of two lanes each, upstream and a reader, on one machine and in the hands of a test.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::PATIENCE;
use super::kafka::{At, Kafka, Record};
use super::live_reader::LiveReader;
use super::load::{Load, Upstream};
use super::oracle::{Found, Gaps, PROGRAMME, same};
use super::proxy::Proxy;
use super::redis_server::{RedisCluster, RedisServer};
use super::rng::Rng;
use super::sentinel::Replicated;
use super::worker::{Exit, Worker};

const GROUP: &str = "accrual";
const INPUT: &str = "shop";
const OUTPUTS: [&str; 5] = ["awards", "tier-changes", "accounts", "dead-letters", "internal"];

/// How Redis is kept in production: every write in the append-only file, and on the disk within a second.
pub const REDIS: [&str; 6] =
    ["--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction"];

/// Where the accounts are.
pub enum Store {
    /// One server behind a proxy, so that another can take its place.
    Single {
        server: RedisServer,
        proxy: Proxy,
    },
    Cluster(RedisCluster),
    Replicated(Replicated),
}

impl Store {
    pub fn single() -> Self {
        let server = RedisServer::start_with(&REDIS);
        let proxy = Proxy::start(server.port());
        Self::Single { server, proxy }
    }

    pub fn cluster() -> Self {
        Self::Cluster(RedisCluster::start())
    }

    fn url(&self) -> String {
        match self {
            Self::Single { proxy, .. } => format!("redis://127.0.0.1:{}", proxy.port()),
            Self::Cluster(cluster) => cluster.url(),
            Self::Replicated(replicated) => replicated.url(),
        }
    }

    fn servers(&self) -> &[RedisServer] {
        match self {
            Self::Single { server, .. } => std::slice::from_ref(server),
            Self::Cluster(cluster) => &cluster.nodes,
            Self::Replicated(replicated) => std::slice::from_ref(replicated.primary()),
        }
    }

    /// All accounts that there are.
    fn accounts(&self) -> BTreeMap<String, Value> {
        self.servers().iter().flat_map(accounts_of).collect()
    }
}

/// The accounts that a server has.
fn accounts_of(server: &RedisServer) -> BTreeMap<String, Value> {
    let mut redis = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    let keys: Vec<String> = redis::cmd("KEYS").arg("accrual:{*}:account:*").query(&mut redis).unwrap();
    let mut accounts = BTreeMap::new();
    for keys in keys.chunks(500) {
        let mut pipeline = redis::pipe();
        keys.iter().for_each(|key| _ = pipeline.get(key));
        let found: Vec<String> = pipeline.query(&mut redis).unwrap();
        accounts.extend(keys.iter().zip(found).map(|(key, json)| {
            let member = key.rsplit(':').next().unwrap().to_owned();
            (member, serde_json::from_str(&json).unwrap())
        }));
    }
    accounts
}

pub struct World {
    // In the order in which they end: clients before servers.
    workers: Vec<Option<Worker>>,
    load: Option<Load>,
    reader: LiveReader,
    store: Store,
    /// One that may take the place of the one server.
    replica: Option<RedisServer>,
    pub kafka: Kafka,
    folder: Folder,
    pub rng: Rng,
    upstream: Option<Upstream>,
    /// How many records Kafka has taken from upstream.
    accepted: u64,
}

impl World {
    pub fn start(brokers: usize, store: Store, seed: u64) -> Self {
        Self::start_with_controllers(brokers, brokers, store, seed)
    }

    /// The first of the brokers are the controllers.
    pub fn start_with_controllers(brokers: usize, controllers: usize, store: Store, seed: u64) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("accrual-faults-{}-{number}", std::process::id());
        let folder = Folder(std::env::temp_dir().join(name));
        std::fs::create_dir_all(&folder.0).unwrap();
        let kafka = Kafka::start(&folder.0, brokers, controllers);
        kafka.create_topic(INPUT, 4);
        std::fs::write(folder.0.join("programme.yaml"), PROGRAMME).unwrap();
        let workers: Vec<_> = (0..2)
            .map(|worker| {
                write_settings(&folder.0, worker, &kafka.bootstrap(), &store.url());
                Some(start_worker(&folder.0, worker))
            })
            .collect();
        workers.iter().flatten().for_each(Worker::wait_until_ready);
        // The workers have made the output topics.
        let reader = LiveReader::start(&kafka, &OUTPUTS.map(str::to_owned));
        let mut world = Self {
            workers,
            load: None,
            reader,
            store,
            replica: None,
            kafka,
            folder,
            rng: Rng::new(seed),
            upstream: Some(Upstream::new(seed)),
            accepted: 0,
        };
        world.load_again();
        world
    }

    /// Lets the load go on for a while.
    pub fn run_for(&mut self, time: Duration) {
        std::thread::sleep(time);
        self.assert_no_worker_has_ended();
    }

    pub fn worker(&self, worker: usize) -> &Worker {
        self.workers[worker].as_ref().unwrap()
    }

    pub fn kill_worker(&mut self, worker: usize) {
        self.assert_no_worker_has_ended();
        self.workers[worker].take().unwrap().kill();
    }

    pub fn start_worker(&mut self, worker: usize) {
        self.workers[worker] = Some(start_worker(&self.folder.0, worker));
    }

    /// Starts those that were killed.
    pub fn start_missing_workers(&mut self) {
        for worker in 0..self.workers.len() {
            if self.workers[worker].is_none() {
                self.start_worker(worker);
            }
        }
    }

    /// The one server, and the proxy that leads to it.
    pub fn redis(&mut self) -> (&mut RedisServer, &Proxy) {
        match &mut self.store {
            Store::Single { server, proxy } => (server, proxy),
            Store::Cluster(_) | Store::Replicated(_) => panic!("this fault is for one server"),
        }
    }

    pub fn cluster(&self) -> &RedisCluster {
        match &self.store {
            Store::Single { .. } | Store::Replicated(_) => panic!("this fault is for a cluster"),
            Store::Cluster(cluster) => cluster,
        }
    }

    pub fn replicated(&mut self) -> &mut Replicated {
        match &mut self.store {
            Store::Single { .. } | Store::Cluster(_) => panic!("this fault is for servers behind Sentinels"),
            Store::Replicated(replicated) => replicated,
        }
    }

    pub fn cluster_mut(&mut self) -> &mut RedisCluster {
        match &mut self.store {
            Store::Single { .. } | Store::Replicated(_) => panic!("this fault is for a cluster"),
            Store::Cluster(cluster) => cluster,
        }
    }

    /// A replica that has all that the one server has hears no more of it from now on.
    pub fn cut_off_a_replica(&mut self) {
        let replica = RedisServer::start_with(&REDIS);
        let between = Proxy::start(self.redis().0.port());
        replica.command(&["REPLICAOF", "127.0.0.1", &between.port().to_string()]);
        let deadline = Instant::now() + PATIENCE;
        while !replication(&replica).contains("master_link_status:up") {
            assert!(Instant::now() < deadline, "the replica gets no data:\n{}", replication(&replica));
            std::thread::sleep(Duration::from_millis(50));
        }
        self.replica = Some(replica);
    }

    /// How many accounts the replica has in an earlier version than the one server had a moment ago, or not at all.
    pub fn accounts_that_the_replica_lacks(&self) -> usize {
        let (held, replica) = (self.store.accounts(), accounts_of(self.replica.as_ref().unwrap()));
        let version = |account: &Value| account["v"].as_u64().unwrap();
        let lacks =
            |member: &String, account| replica.get(member).is_none_or(|has| version(has) < version(account));
        held.iter().filter(|(member, account)| lacks(member, account)).count()
    }

    /// As Sentinel does it: the server is killed, the replica is made the primary, and the address leads to it.
    pub fn fail_over_to_the_replica(&mut self) {
        let replica = self.replica.take().unwrap();
        let (server, proxy) = self.redis();
        server.kill();
        replica.command(&["REPLICAOF", "NO", "ONE"]);
        proxy.lead_to(replica.port());
        *server = replica;
    }

    /// Each worker says that it cannot work, and names the dependency, until it comes back.
    pub fn wait_until_unready(&mut self, dependency: &str) {
        self.wait_for_readiness(503, dependency);
    }

    pub fn wait_until_ready(&mut self) {
        self.wait_for_readiness(200, "ready");
    }

    /// All workers are asked all the time: what one says may not last until another has said it.
    fn wait_for_readiness(&mut self, wanted: u16, said: &str) {
        self.assert_no_worker_has_ended();
        let deadline = Instant::now() + PATIENCE;
        let wait = |number: usize, worker: &Worker| {
            loop {
                let (status, body) = worker.get("/readyz");
                if status == wanted && body.to_lowercase().contains(said) {
                    break;
                }
                assert!(
                    Instant::now() < deadline,
                    "worker {number}: /readyz says {status} {body}, not {wanted} and `{said}`"
                );
                std::thread::sleep(Duration::from_millis(50));
            }
        };
        std::thread::scope(|scope| {
            for (number, worker) in self.workers.iter().enumerate() {
                if let Some(worker) = worker {
                    scope.spawn(move || wait(number, worker));
                }
            }
        });
        self.assert_no_worker_has_ended();
    }

    fn assert_no_worker_has_ended(&mut self) {
        for (number, worker) in self.workers.iter_mut().enumerate() {
            if let Some(worker) = worker {
                assert!(!worker.has_ended(), "worker {number} has ended by itself:\n{}", tail(&worker.log()));
            }
        }
    }

    /// The load ends, everything is worked off and compared, and the load goes on.
    pub fn settle(&mut self) -> String {
        let settled = self.settle_down(Gaps::None);
        self.load_again();
        settled
    }

    /// The same after Redis lost writes: a change that was not published yet may have been lost, and a later one be decided
    /// on top of it, so that a version is missing.
    pub fn settle_with_gaps(&mut self) -> String {
        let settled = self.settle_down(Gaps::Some);
        self.load_again();
        settled
    }

    /// The load ends, everything is worked off and compared, and the workers end when they are told to.
    pub fn end(self) -> String {
        self.finish(Gaps::None)
    }

    /// The same after Redis lost writes.
    pub fn end_with_gaps(self) -> String {
        self.finish(Gaps::Some)
    }

    fn finish(mut self, gaps: Gaps) -> String {
        let settled = self.settle_down(gaps);
        for worker in self.workers.drain(..).flatten() {
            let (exit, log) = worker.terminate_and_tell();
            assert_eq!(exit, Exit::Code(0), "{}", tail(&log));
        }
        settled
    }

    fn load_again(&mut self) {
        let upstream = self.upstream.take().unwrap();
        self.load = Some(Load::start(self.kafka.config(), INPUT.to_owned(), upstream));
    }

    /// How many records Kafka has taken from upstream under the present load, and how many it has let the reader see.
    pub fn acknowledged(&self) -> (u64, usize) {
        (self.load.as_ref().unwrap().accepted(), self.reader.seen_so_far())
    }

    fn settle_down(&mut self, gaps: Gaps) -> String {
        let (upstream, accepted) = self.load.take().unwrap().stop();
        self.upstream = Some(upstream);
        self.accepted += accepted;
        self.wait_until_ready();
        let input = self.read(INPUT);
        assert_eq!(input.len() as u64, self.accepted, "records that Kafka took and holds");
        self.wait_until_committed(&input);
        // Complete now: what comes of the input is published with its offsets.
        let internal = self.read("internal");
        self.wait_until_committed(&internal);

        let names = OUTPUTS.map(str::to_owned);
        let live = self.reader.seen(&self.kafka.ends(&names));
        let from_start = self.kafka.read(&names);
        same("records that a reader saw live and from the start", &live, &from_start);
        let of = |topic: &str| -> BTreeMap<At, Record> {
            let those = live.iter().filter(|((name, ..), _)| name == topic);
            those.map(|(at, record)| (at.clone(), record.clone())).collect()
        };
        let found = Found {
            input,
            awards: of("awards"),
            tier_changes: of("tier-changes"),
            snapshots: of("accounts"),
            dead_letters: of("dead-letters"),
            accounts: self.store.accounts(),
        };
        found.check(gaps)
    }

    fn read(&self, topic: &str) -> BTreeMap<At, Record> {
        self.kafka.read(&[topic.to_owned()])
    }

    /// Waits until the group has committed behind the last of these records of every partition.
    fn wait_until_committed(&mut self, records: &BTreeMap<At, Record>) {
        let mut wanted: BTreeMap<(String, i32), i64> = BTreeMap::new();
        for (topic, partition, offset) in records.keys() {
            wanted.insert((topic.clone(), *partition), offset + 1);
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.assert_no_worker_has_ended();
            let committed = self.kafka.committed(GROUP, &wanted);
            if wanted.iter().all(|(partition, offset)| committed.get(partition) >= Some(offset)) {
                return;
            }
            assert!(Instant::now() < deadline, "{wanted:?} is not worked off: {committed:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for (number, worker) in self.workers.iter().enumerate() {
                if let Some(worker) = worker {
                    println!("--- the last that worker {number} said:\n{}", tail(&worker.log()));
                }
            }
        }
    }
}

/// It goes with the value.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

fn replication(server: &RedisServer) -> String {
    server.query(&["INFO", "replication"])
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

fn settings_of(folder: &Path, worker: usize) -> PathBuf {
    folder.join(format!("worker-{worker}.yaml"))
}

fn write_settings(folder: &Path, worker: usize, bootstrap: &str, store: &str) {
    let settings = format!(
        "kafka:
  bootstrap.servers: '{bootstrap}'
  group.id: {GROUP}
  session.timeout.ms: 4000
  max.poll.interval.ms: 20000
  transaction.timeout.ms: 10000
inputs: [{{topics: [{INPUT}]}}]
outputs: {{awards: awards, tier_changes: tier-changes, accounts: accounts, dead_letters: dead-letters, internal: internal}}
store: '{store}'
programme: programme.yaml
http: {{listen: 127.0.0.1:0}}
instance: worker-{worker}
lanes: 2
create_topics: true
"
    );
    std::fs::write(settings_of(folder, worker), settings).unwrap();
}

fn start_worker(folder: &Path, worker: usize) -> Worker {
    let mut command = Command::new(env!("CARGO_BIN_EXE_accrual"));
    command.arg("run").arg("--config").arg(settings_of(folder, worker));
    // The worker takes what begins so for a setting of its own.
    command.env_remove("ACCRUAL_FAULTS_MINUTES");
    Worker::start(command)
}
