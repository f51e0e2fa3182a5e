//! Redis servers for tests that need one of their own: started from the PATH, on a free loopback port,
//! in a directory that goes with them, and ended by their process id.

#![allow(dead_code, reason = "each test binary uses its own part of this")]

use std::collections::HashMap;
use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use redis::Value;

/// A server of this test's own. It ends with the value.
pub struct RedisServer {
    child: Child,
    directory: PathBuf,
    arguments: Vec<String>,
    port: u16,
    password: Option<String>,
}

impl RedisServer {
    /// Starts a server that keeps nothing on disk.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with more arguments.
    pub fn start_with(arguments: &[&str]) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("accrual-redis-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let password = arguments.iter().position(|argument| *argument == "--requirepass");
        let password = password.map(|place| arguments[place + 1].to_owned());
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        // Another process may take the port between its choice and its use.
        for _ in 0..10 {
            let port = free_port();
            let child = spawn(&directory, port, &arguments);
            let mut server = Self {
                child,
                directory: directory.clone(),
                arguments: arguments.clone(),
                port,
                password: password.clone(),
            };
            if server.answers_within(Duration::from_secs(20)) {
                return server;
            }
        }
        panic!("redis-server does not start; see {}", directory.join("log").display());
    }

    /// The port on the loopback interface.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it keeps its data.
    pub fn directory(&self) -> &std::path::Path {
        &self.directory
    }

    /// The URL, with the password if there is one.
    pub fn url(&self) -> String {
        match &self.password {
            Some(password) => format!("redis://:{password}@127.0.0.1:{}", self.port),
            None => format!("redis://127.0.0.1:{}", self.port),
        }
    }

    /// Runs a command, such as `["CONFIG", "SET", "maxmemory", "1"]`.
    pub fn command(&self, words: &[&str]) -> Value {
        self.try_command(words).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// Runs a command that may fail.
    pub fn try_command(&self, words: &[&str]) -> redis::RedisResult<Value> {
        let client = redis::Client::open(self.url())?;
        let mut connection = client.get_connection_with_timeout(Duration::from_secs(5))?;
        let mut command = redis::Cmd::new();
        words.iter().for_each(|word| {
            command.arg(word);
        });
        command.query(&mut connection)
    }

    /// Runs a command and reads its answer.
    pub fn query<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        redis::from_redis_value(self.command(words)).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// Ends the server at once, as a crash would.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again at the same port, in the same directory.
    pub fn start_again(&mut self) {
        self.child = spawn(&self.directory, self.port, &self.arguments);
        assert!(self.answers_within(Duration::from_secs(20)), "redis-server does not start again");
    }

    /// Stops it with SIGSTOP (`-STOP`), or lets it go on (`-CONT`).
    pub fn signal(&self, signal: &str) {
        let told = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(told.success());
    }

    fn answers_within(&mut self, limit: Duration) -> bool {
        let begin = Instant::now();
        while begin.elapsed() < limit {
            if self.try_command(&["PING"]).is_ok() {
                return true;
            }
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // It may have ended already, and the directory may be gone: both are as wanted.
        let _ended = self.child.kill();
        let _ended = self.child.wait();
        let _gone = std::fs::remove_dir_all(&self.directory);
    }
}

/// What makes a server a node of a cluster. One that does not answer for so many milliseconds is taken for dead.
const NODE: [&str; 4] = ["--cluster-enabled", "yes", "--cluster-node-timeout", "5000"];

/// A cluster of three primaries.
pub struct RedisCluster {
    /// Its nodes.
    pub nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts the nodes and waits until every one of them knows all the others.
    pub fn start() -> Self {
        let nodes: Vec<RedisServer> = (0..3).map(|_| RedisServer::start_with(&NODE)).collect();
        let share = 16384 / nodes.len() + 1;
        for (number, node) in nodes.iter().enumerate() {
            node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()]);
            let slots = (number * share..((number + 1) * share).min(16384)).map(|slot| slot.to_string());
            let words: Vec<String> = ["CLUSTER".into(), "ADDSLOTS".into()].into_iter().chain(slots).collect();
            node.command(&words.iter().map(String::as_str).collect::<Vec<_>>());
        }
        for node in &nodes[1..] {
            nodes[0].command(&["CLUSTER", "MEET", "127.0.0.1", &node.port().to_string()]);
        }
        let cluster = Self { nodes };
        let begin = Instant::now();
        while !cluster.nodes.iter().all(|node| knows_all(node, cluster.nodes.len())) {
            assert!(begin.elapsed() < Duration::from_mins(1), "the Redis cluster does not form");
            std::thread::sleep(Duration::from_millis(50));
        }
        cluster
    }

    /// A replica of one of the nodes, once it has all that the node has and every node knows it.
    pub fn start_replica_of(&self, node: usize) -> RedisServer {
        let replica = RedisServer::start_with(&NODE);
        let id: String = self.nodes[node].query(&["CLUSTER", "MYID"]);
        self.nodes[node].command(&["CLUSTER", "MEET", "127.0.0.1", &replica.port().to_string()]);
        let begin = Instant::now();
        let wait_until = |done: &dyn Fn() -> bool, what: &str| {
            while !done() {
                assert!(begin.elapsed() < Duration::from_mins(1), "the replica {what}");
                std::thread::sleep(Duration::from_millis(50));
            }
        };
        wait_until(&|| replica.try_command(&["CLUSTER", "REPLICATE", &id]).is_ok(), "does not know the node");
        let info = || replica.query::<String>(&["INFO", "replication"]);
        wait_until(&|| info().contains("master_link_status:up"), "gets no data");
        let name: String = replica.query(&["CLUSTER", "MYID"]);
        let is_known = |node: &RedisServer| {
            let known: String = node.query(&["CLUSTER", "NODES"]);
            known.lines().any(|line| line.starts_with(&name) && line.contains(&format!(" slave {id}")))
        };
        wait_until(&|| self.nodes.iter().all(is_known), "is not known to every node");
        replica
    }

    /// The URL in accrual's form. One node is enough to find the others.
    pub fn url(&self) -> String {
        let nodes: Vec<String> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
        format!("redis-cluster://{}", nodes.join(","))
    }
}

fn knows_all(node: &RedisServer, nodes: usize) -> bool {
    let info: String = node.query(&["CLUSTER", "INFO"]);
    let known = node.query::<String>(&["CLUSTER", "NODES"]);
    let known = known.lines().filter(|line| line.contains(" connected ")).count();
    info.contains("cluster_state:ok") && info.contains("cluster_slots_assigned:16384") && known == nodes
}

/// What the Sentinels know their servers by.
const NAME: &str = "points";

/// Three Sentinels, two of which must agree that a server is down.
pub struct RedisSentinels {
    /// They are servers as well, of a kind.
    pub nodes: Vec<RedisServer>,
}

impl RedisSentinels {
    /// Starts them over a primary with one replica, and waits until they know the replica and each other.
    pub fn watch(primary: &RedisServer) -> Self {
        let nodes: Vec<RedisServer> = (0..3).map(|_| sentinel_of(primary, 2)).collect();
        let sentinels = Self { nodes };
        let begin = Instant::now();
        while !sentinels.nodes.iter().all(is_complete) {
            assert!(begin.elapsed() < Duration::from_mins(1), "the Sentinels do not find each other");
            std::thread::sleep(Duration::from_millis(50));
        }
        sentinels
    }

    /// The URL in accrual's form.
    pub fn url(&self) -> String {
        let nodes: Vec<String> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
        format!("redis-sentinel://{}/0#{NAME}", nodes.join(","))
    }

    /// Whether every one of them takes this server for the primary.
    pub fn all_name(&self, server: &RedisServer) -> bool {
        let asked = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME];
        self.nodes.iter().all(|node| {
            let (_, port): (String, u16) = redis::from_redis_value(node.command(&asked)).unwrap();
            port == server.port()
        })
    }

    /// Has them put the replica in the primary's place, which goes on as a replica; whether they will.
    pub fn fail_over(&self) -> bool {
        self.nodes[0].try_command(&["SENTINEL", "FAILOVER", NAME]).is_ok()
    }
}

/// A Sentinel of its own that watches a server. It takes a server for down that is silent for a second.
pub fn sentinel_of(server: &RedisServer, quorum: usize) -> RedisServer {
    let sentinel = RedisServer::start_with(&["--sentinel"]);
    let (port, quorum) = (server.port().to_string(), quorum.to_string());
    sentinel.command(&["SENTINEL", "MONITOR", NAME, "127.0.0.1", &port, &quorum]);
    for (option, milliseconds) in [("down-after-milliseconds", "1000"), ("failover-timeout", "5000")] {
        sentinel.command(&["SENTINEL", "SET", NAME, option, milliseconds]);
    }
    sentinel
}

/// Whether a Sentinel knows the replica and the two other Sentinels.
fn is_complete(sentinel: &RedisServer) -> bool {
    let known: HashMap<String, String> =
        redis::from_redis_value(sentinel.command(&["SENTINEL", "MASTER", NAME])).unwrap();
    known["num-slaves"] == "1" && known["num-other-sentinels"] == "2"
}

fn spawn(directory: &std::path::Path, port: u16, arguments: &[String]) -> Child {
    let mut command = Command::new("redis-server");
    if arguments.iter().any(|argument| argument == "--sentinel") {
        // A Sentinel writes down in its settings' file what it knows, and does not start without one.
        let file = directory.join("sentinel.conf");
        File::options().create(true).append(true).open(&file).unwrap();
        command.arg(file);
    }
    command.args([
        "--port",
        &port.to_string(),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--logfile",
        "log",
        "--dir",
    ]);
    command.arg(directory).args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match command.spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == ErrorKind::NotFound => panic!(
            "this test needs a Redis of its own and there is no redis-server in the PATH: \
             install it (Debian: apt-get install redis-server) or run ./test, which looks after it"
        ),
        Err(error) => panic!("redis-server cannot be started: {error}"),
    }
}

/// A port that is free, with room for the cluster's bus 10,000 above it. Below the range from which the kernel
/// gives out ports by itself: a client that asks again and again for a server that is down must not be given
/// the server's own port, and be connected with itself.
pub fn free_port() -> u16 {
    loop {
        let random = RandomState::new().build_hasher().finish();
        let port = 20_000 + (random % 2_700) as u16;
        let is_free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if is_free(port) && is_free(port + 10_000) {
            return port;
        }
    }
}
