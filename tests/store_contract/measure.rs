//! What a commit costs Redis. Run by hand, on a machine with nothing else to do:
//! `cargo test --release --test store_contract -- --ignored --nocapture measure`

use std::time::{Duration, Instant};

use accrual::store::redis::RedisStore;
use accrual::store::{AccountWrite, CommitBucket, Committed, LoadBucket, OutboxKey, Store, StoreSettings};
use accrual::types::{Bucket, TopicPartition};

use crate::ground::{at_home, outbox_key, receipt, text};
use crate::support::RedisServer;

const BUCKETS: u16 = 128;
const ROUNDS: u64 = 100;

#[test]
#[ignore = "a measurement, not a rule"]
fn measure_redis_cpu_a_member() {
    for (members, receipts) in [(40, 1), (40, 2), (64, 1), (64, 0), (8, 1), (1, 1)] {
        measure(members, receipts);
    }
}

fn measure(members: usize, receipts: usize) {
    let server = RedisServer::start();
    let settings = StoreSettings {
        buckets: BUCKETS,
        dedupe_window: Duration::from_hours(720),
        refunds_window: Duration::from_hours(2_160),
    };
    let mut store = at_home(RedisStore::connect(&server.url(), &settings).unwrap());
    let partition = TopicPartition { topic: "shop.orders".into(), partition: 0 };
    // Hashes of receipts are small, and scanned, only in a deployment's first minutes.
    let seen = (0..600)
        .map(|number| (format!("e warm {number}").into(), receipt(&partition, number)))
        .collect::<Vec<_>>();
    let warm = |bucket| CommitBucket {
        records: Vec::new(),
        returned: Vec::new(),
        bucket: Bucket(bucket),
        accounts: vec![],
        receipts: seen.clone(),
        outbox: vec![],
        published: vec![],
        grants: vec![],
        due: vec![],
    };
    store.commit(&(0..BUCKETS).map(warm).collect::<Vec<_>>()).unwrap();

    let padding = "x".repeat(580);
    let mut published: Option<OutboxKey> = None;
    server.command(&["CONFIG", "RESETSTAT"]);
    let cpu_before = cpu_seconds(&server);
    let begin = Instant::now();
    let mut calling = Duration::ZERO;
    for round in 0..ROUNDS {
        let first = i64::try_from(round).unwrap() * 5120;
        let key = outbox_key(&partition, first, first + 5119);
        let bucket = |bucket: u16| CommitBucket {
            records: Vec::new(),
            returned: Vec::new(),
            bucket: Bucket(bucket),
            accounts: (0..members)
                .map(|member| AccountWrite {
                    member: format!("member-{bucket}-{member:06}").into(),
                    expected: round,
                    json: format!("{{\"v\":{},\"h\":\"{padding}\"}}", round + 1).into_bytes().into(),
                })
                .collect(),
            receipts: (0..members * receipts)
                .map(|number| {
                    (
                        format!("e shop.example/orders {round:06}-{bucket}-{number:06}").into(),
                        receipt(&partition, first),
                    )
                })
                .collect(),
            outbox: vec![(key.clone(), vec![b'x'; members * 300])],
            published: published.iter().cloned().collect(),
            grants: vec![],
            due: vec![],
        };
        let wanted: Vec<CommitBucket> = (0..BUCKETS).map(bucket).collect();
        let called = Instant::now();
        let outcome = store.commit(&wanted).unwrap();
        calling += called.elapsed();
        assert!(outcome.iter().all(|committed| *committed == Committed::Written));
        published = Some(key);
    }
    let written = ROUNDS * u64::from(BUCKETS) * u64::try_from(members).unwrap();
    let cpu = cpu_seconds(&server) - cpu_before;
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    let each = |seconds: f64| seconds * 1e6 / written as f64;
    println!(
        "{members:>3} members a call, {receipts} receipts each: script {:.2} µs, Redis CPU {:.2} µs, caller's wait {:.2} µs a member ({:.1} s in all)",
        each(script_seconds(&server)),
        each(cpu),
        each(calling.as_secs_f64()),
        begin.elapsed().as_secs_f64(),
    );

    let load = |bucket: u16| LoadBucket {
        outbox: false,
        bucket: Bucket(bucket),
        members: (0..members).map(|member| format!("member-{bucket}-{member:06}").into()).collect(),
        receipts: vec![],
    };
    let wanted: Vec<LoadBucket> = (0..BUCKETS).map(load).collect();
    let (before, called) = (cpu_seconds(&server), Instant::now());
    for _ in 0..ROUNDS {
        store.load(&wanted).unwrap();
    }
    println!(
        "{:>26} load by MGET: Redis CPU {:.2} µs, caller's wait {:.2} µs a member",
        "",
        each(cpu_seconds(&server) - before),
        each(called.elapsed().as_secs_f64()),
    );
}

/// CPU seconds that the server has used.
fn cpu_seconds(server: &RedisServer) -> f64 {
    let info = text(&server.command(&["INFO", "cpu"])).unwrap();
    let of = |name: &str| -> f64 {
        info.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().parse().unwrap()
    };
    of("used_cpu_sys:") + of("used_cpu_user:")
}

/// Seconds inside EVALSHA.
fn script_seconds(server: &RedisServer) -> f64 {
    let info = text(&server.command(&["INFO", "commandstats"])).unwrap();
    let line = info.lines().find(|line| line.starts_with("cmdstat_evalsha:")).unwrap();
    let usec = line.split(',').find_map(|part| part.strip_prefix("usec=")).unwrap();
    usec.parse::<f64>().unwrap() / 1e6
}
