//! The stores that the contract is held against.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use accrual::store::memory::MemoryStore;
use accrual::store::redis::RedisStore;
use accrual::store::{
    AccountWrite, LoadBucket, LoadedBucket, OutboxKey, Receipt, ReceiptKey, Store, StoreSettings,
    take_as_whole,
};
use accrual::types::{Bucket, Coordinates, TopicPartition};
use redis::Value;

use crate::support::{RedisCluster, RedisServer};

/// Few, so that tests meet in a bucket.
pub const BUCKETS: u16 = 8;
/// Long enough for no generation to end in a test that does not wait for it, but once in 30 days.
pub const MONTH: Duration = Duration::from_hours(720);

/// A store to open, as often as wanted.
pub struct Ground {
    kind: Kind,
    tag: String,
}

enum Kind {
    Memory { store: Mutex<Option<MemoryStore>>, passed: Mutex<Duration> },
    Redis { url: String, clock: String, _own: Own },
}

/// Servers that end with the ground.
#[allow(dead_code, reason = "held for their drop")]
enum Own {
    Nothing,
    Server(RedisServer),
    Cluster(RedisCluster),
}

impl Ground {
    /// In memory.
    pub fn memory() -> Self {
        Self::of(Kind::Memory { store: Mutex::new(None), passed: Mutex::new(Duration::ZERO) })
    }

    /// The Redis at `REDIS_URL`, or one of this test's own.
    pub fn redis() -> Self {
        match std::env::var("REDIS_URL") {
            Ok(url) => Self::of(Kind::Redis { clock: url.clone(), url, _own: Own::Nothing }),
            Err(_) => Self::own_redis(),
        }
    }

    /// A Redis of this test's own.
    pub fn own_redis() -> Self {
        let server = RedisServer::start();
        Self::of(Kind::Redis { url: server.url(), clock: server.url(), _own: Own::Server(server) })
    }

    /// The cluster at `ACCRUAL_TEST_REDIS_CLUSTER`, or one of this test's own.
    pub fn cluster() -> Self {
        let (url, own) = if let Ok(url) = std::env::var("ACCRUAL_TEST_REDIS_CLUSTER") {
            (url, Own::Nothing)
        } else {
            let cluster = RedisCluster::start();
            (cluster.url(), Own::Cluster(cluster))
        };
        let first = url.split(',').next().unwrap().replace("-cluster://", "://");
        Self::of(Kind::Redis { url, clock: first, _own: own })
    }

    fn of(kind: Kind) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self { kind, tag: format!("{}-{nanos}-{number}", std::process::id()) }
    }

    /// Another handle on the store.
    pub fn open(&self) -> Box<dyn Store + Send> {
        self.open_with(MONTH)
    }

    /// Another handle on the store, with a window. One window a test.
    pub fn open_with(&self, dedupe_window: Duration) -> Box<dyn Store + Send> {
        Box::new(at_home(self.open_unadopted(dedupe_window)))
    }

    /// Another handle, which has adopted no server.
    pub fn open_a_stranger(&self) -> Box<dyn Store + Send> {
        self.open_unadopted(MONTH)
    }

    fn open_unadopted(&self, dedupe_window: Duration) -> Box<dyn Store + Send> {
        let settings = StoreSettings { buckets: BUCKETS, dedupe_window, refunds_window: dedupe_window * 3 };
        match &self.kind {
            Kind::Memory { store, .. } => {
                let mut store = store.lock().unwrap();
                Box::new(store.get_or_insert_with(|| MemoryStore::new(settings)).clone())
            }
            Kind::Redis { url, .. } => Box::new(RedisStore::connect(url, &settings).unwrap()),
        }
    }

    /// A name that no other test has.
    pub fn name(&self, text: &str) -> String {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        format!("{}-{}-{text}", self.tag, NUMBER.fetch_add(1, Ordering::Relaxed))
    }

    /// A partition that no other test has.
    pub fn partition(&self, text: &str) -> TopicPartition {
        TopicPartition { topic: self.name(text).into(), partition: 3 }
    }

    /// The store's clock, in seconds.
    pub fn now(&self) -> u64 {
        match &self.kind {
            Kind::Memory { passed, .. } => passed.lock().unwrap().as_secs(),
            Kind::Redis { clock, .. } => {
                let mut connection = redis::Client::open(clock.as_str()).unwrap().get_connection().unwrap();
                let time: Vec<u64> = redis::cmd("TIME").query(&mut connection).unwrap();
                time[0]
            }
        }
    }

    /// Waits until the store's clock has come to this second.
    pub fn wait_until(&self, second: u64) {
        let begin = Instant::now();
        while self.now() < second {
            match &self.kind {
                Kind::Memory { store, passed } => {
                    let step = Duration::from_millis(250);
                    *passed.lock().unwrap() += step;
                    store.lock().unwrap().as_ref().unwrap().advance(step);
                }
                Kind::Redis { .. } => std::thread::sleep(Duration::from_millis(20)),
            }
            assert!(begin.elapsed() < Duration::from_mins(1), "the store's clock stands still");
        }
    }
}

/// A handle whose commits rest on the servers as they are, which are taken to be whole.
pub fn at_home<S: Store>(mut store: S) -> S {
    take_as_whole(&mut store).unwrap();
    store
}

/// An account at the version after the expected one.
pub fn write(member: &str, expected: u64) -> AccountWrite {
    AccountWrite { member: member.into(), expected, json: account(member, expected + 1).into() }
}

/// An account as it would be kept.
pub fn account(member: &str, version: u64) -> Vec<u8> {
    format!("{{\"v\":{version},\"m\":{member:?}}}").into_bytes()
}

/// A receipt for a record of a partition.
pub fn receipt(partition: &TopicPartition, offset: i64) -> Receipt {
    let at = Coordinates { topic: partition.topic.clone(), partition: partition.partition, offset };
    Receipt { at, fingerprint: u64::MAX - offset.unsigned_abs(), record: None }
}

/// An outbox key of a partition.
pub fn outbox_key(partition: &TopicPartition, first: i64, last: i64) -> OutboxKey {
    OutboxKey { partition: partition.clone(), first, last }
}

/// Loads one bucket.
pub fn load(store: &mut dyn Store, bucket: Bucket, members: &[&str], receipts: &[&str]) -> LoadedBucket {
    let members = members.iter().map(|member| (*member).into()).collect();
    let receipts: Vec<ReceiptKey> = receipts.iter().map(|key| (*key).into()).collect();
    store
        .load(&[LoadBucket { bucket, members, outbox: !receipts.is_empty(), receipts }])
        .unwrap()
        .pop()
        .unwrap()
}

/// What a server holds at a key.
pub fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        Value::SimpleString(text) => Some(text.clone()),
        Value::Int(number) => Some(number.to_string()),
        _ => None,
    }
}
