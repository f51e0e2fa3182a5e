//! A shop of a test's own: topics, group, members and settings that no other test or run uses, so
//! that tests run side by side on one Kafka and one Redis.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use accrual::types::Buckets;
use redis::Commands;
use serde_json::Value;

use super::broker::{self, Header, PATIENCE, Read};
use super::worker::{Exit, Worker};

pub struct Shop {
    pub name: String,
    folder: PathBuf,
    redis: String,
    partitions: i32,
    input: String,
}

impl Shop {
    pub fn open(name: &str, programme: &str, partitions: i32) -> Self {
        let redis = std::env::var("REDIS_URL")
            .expect("REDIS_URL is not set: run ./test, or tests/services/with cargo test");
        Self::open_with(name, programme, partitions, &redis)
    }

    pub fn open_with(name: &str, programme: &str, partitions: i32, redis: &str) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        let name = format!("e2e-{name}-{now}-{}", std::process::id());
        let folder = std::env::temp_dir().join(&name);
        std::fs::create_dir_all(&folder).unwrap();
        let input = format!("{name}.in");
        let shop = Self { name, folder, redis: redis.to_owned(), partitions, input };
        shop.write("programme.yaml", programme);
        shop.write("accrual.yaml", &shop.settings());
        broker::create_topic(&shop.input(), partitions, &[]);
        shop
    }

    /// Has the shop send to another topic, which takes records of so many bytes.
    pub fn send_to(&mut self, input: &str, largest: usize) {
        self.input = format!("{}.{input}", self.name);
        broker::create_topic(&self.input(), self.partitions, &[("max.message.bytes", &largest.to_string())]);
        self.write("accrual.yaml", &self.settings());
    }

    pub fn settings(&self) -> String {
        let Self { name, redis, .. } = self;
        format!(
            "kafka: {{bootstrap.servers: '{}', group.id: {name}, session.timeout.ms: 6000}}
inputs: [{{topics: [{}]}}]
outputs: {{awards: {name}.awards, tier_changes: {name}.tier-changes, accounts: {name}.accounts, dead_letters: {name}.dead-letters, internal: {name}.internal}}
store: {redis}
programme: programme.yaml
http: {{listen: 127.0.0.1:0}}
lanes: 2
limits: {{max_record_bytes: 65536}}
create_topics: true
",
            broker::bootstrap(),
            self.input()
        )
    }

    pub fn write(&self, file: &str, text: &str) {
        std::fs::write(self.folder.join(file), text).unwrap();
    }

    /// The path of a file in the shop's own folder.
    pub fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    pub fn input(&self) -> String {
        self.input.clone()
    }

    /// A member of this shop's own.
    pub fn member(&self, name: &str) -> String {
        format!("{}-{name}", self.name)
    }

    pub fn produce_keyed(&self, records: &[(String, String)]) {
        let records = records.iter().map(|(key, payload)| (key.as_str(), payload.as_str(), [].as_slice()));
        broker::produce(&self.input(), records);
    }

    pub fn produce_with_headers(&self, key: &str, payload: &str, headers: &[Header]) {
        broker::produce(&self.input(), [(key, payload, headers)]);
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_accrual"));
        let (first, rest) = arguments.split_first().unwrap();
        command.arg(first).arg("--config").arg(self.folder.join("accrual.yaml")).args(rest);
        command
    }

    /// Runs a command to its end.
    pub fn accrual(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command of a command, such as `dead-letters list`, with nobody to be asked.
    pub fn accrual_of(&self, command: &[&str], arguments: &[&str]) -> Output {
        self.command_of(command, arguments).output().unwrap()
    }

    pub fn command_of(&self, command: &[&str], arguments: &[&str]) -> Command {
        let mut all = Command::new(env!("CARGO_BIN_EXE_accrual"));
        all.args(command).arg("--config").arg(self.folder.join("accrual.yaml")).args(arguments);
        all.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        all
    }

    pub fn start(&self, arguments: &[&str]) -> Worker {
        let mut all = vec!["run"];
        all.extend(arguments);
        Worker::start(self.command(&all))
    }

    /// Runs a worker until all is worked off.
    pub fn work_off(&self) {
        let worker = self.start(&["--until-idle"]);
        let (exit, log) = worker.wait();
        assert_eq!(exit, Exit::Code(0), "{log}");
    }

    pub fn rewind(&self) {
        broker::rewind(&self.name, &self.input(), self.partitions);
    }

    fn read_json(&self, output: &str) -> Vec<Value> {
        let records = broker::read(&format!("{}.{output}", self.name));
        records.iter().map(|record| serde_json::from_slice(&record.payload).unwrap()).collect()
    }

    pub fn awards(&self) -> Vec<Value> {
        self.read_json("awards")
    }

    pub fn tier_changes(&self) -> Vec<Value> {
        self.read_json("tier-changes")
    }

    pub fn snapshots(&self) -> Vec<Value> {
        self.read_json("accounts")
    }

    pub fn dead_letters(&self) -> Vec<Read> {
        broker::read(&format!("{}.dead-letters", self.name))
    }

    /// Of a budget in a Redis of the shop's own: what is settled, what leases that have not ended hold, and what was granted out
    /// of them.
    pub fn budget(&self, campaign: &str) -> (i64, i64, i64) {
        let mut redis = redis::Client::open(self.redis.as_str()).unwrap().get_connection().unwrap();
        let budget: BTreeMap<String, String> = redis.hgetall(format!("accrual:budget:{campaign}")).unwrap();
        let (mut settled, mut leased, mut counted) = (0, 0, 0);
        for (field, value) in budget {
            if field == "settled" {
                settled = value.parse().unwrap();
            } else {
                leased += value.split(' ').next().unwrap().parse::<i64>().unwrap();
            }
        }
        let buckets: Vec<String> = redis.keys("accrual:{*}:granted").unwrap();
        for bucket in buckets {
            let of_bucket: BTreeMap<String, i64> = redis.hgetall(bucket).unwrap();
            counted += of_bucket.values().sum::<i64>();
        }
        (settled, leased, counted)
    }

    /// Accounts as they lie in Redis.
    pub fn accounts<'a>(&self, members: impl Iterator<Item = &'a String>) -> BTreeMap<String, Option<Value>> {
        let mut redis = redis::Client::open(self.redis.as_str()).unwrap().get_connection().unwrap();
        let accounts = members.map(|member| {
            let bucket = Buckets(32).of(&member.as_str().into()).0;
            let json: Option<String> = redis.get(format!("accrual:{{{bucket}}}:account:{member}")).unwrap();
            (member.clone(), json.map(|json| serde_json::from_str(&json).unwrap()))
        });
        accounts.collect()
    }

    /// Everything that was published, against `schemas/`.
    pub fn check_schemas(&self) {
        let mut lines = Vec::new();
        for output in ["awards", "tier-changes", "accounts", "internal"] {
            for record in broker::read(&format!("{}.{output}", self.name)) {
                lines.extend(record.payload);
                lines.push(b'\n');
            }
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schemas/check");
        let mut check = Command::new(&script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        check.stdin.take().unwrap().write_all(&lines).unwrap();
        let output = check.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        // A folder that stays behind in the temporary folder harms nobody.
        std::fs::remove_dir_all(&self.folder).ok();
    }
}

/// An order whose source is the member's own, so that its id is this test's own too: receipts are
/// shared by all that use one Redis.
pub fn order(id: &str, member: &str, amount: &str) -> String {
    format!(
        r#"{{"specversion":"1.0","id":"{id}","source":"shop/{member}","type":"order.paid","time":"2026-11-22T10:00:00Z","data":{{"member_id":"{member}","order_id":"{id}","amount":"{amount}","currency":"USD"}}}}"#
    )
}

pub fn sign_in(id: &str, member: &str, time: &str) -> String {
    format!(
        r#"{{"specversion":"1.0","id":"{id}","source":"shop/{member}","type":"member.signed_in","time":"{time}","data":{{"member_id":"{member}"}}}}"#
    )
}

/// A Redis of the test's own, which it may stop and start.
pub struct OwnRedis {
    folder: PathBuf,
    port: u16,
    server: Option<Child>,
}

impl OwnRedis {
    pub fn start() -> Self {
        // Bound for a moment to learn of a free port.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = std::env::temp_dir().join(format!("accrual-redis-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut redis = Self { folder, port, server: None };
        redis.restart();
        redis
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn restart(&mut self) {
        let server = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string()])
            .args(["--appendonly", "yes", "--appendfsync", "always", "--dir"])
            .arg(&self.folder)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is not installed: run ./test, which installs it");
        self.server = Some(server);
        let deadline = Instant::now() + PATIENCE;
        let client = redis::Client::open(self.url()).unwrap();
        while client.get_connection().and_then(|mut redis| redis.ping::<String>()).is_err() {
            assert!(Instant::now() < deadline, "redis-server does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().unwrap();
            server.wait().unwrap();
        }
    }
}

impl Drop for OwnRedis {
    fn drop(&mut self) {
        self.stop();
        std::fs::remove_dir_all(&self.folder).ok();
    }
}
