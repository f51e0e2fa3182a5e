//! Whatever is asked in whatever order, memory, Redis and a model too simple to be wrong say the same.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use accrual::store::memory::MemoryStore;
use accrual::store::redis::RedisStore;
use accrual::store::{
    CommitBucket, Committed, LoadBucket, LoadedBucket, OffsetRange, OutboxKey, Receipt, ReceiptKey, Store,
    StoreSettings, business_key, once_key, take_as_whole,
};
use accrual::types::{Bucket, TopicPartition};
use proptest::prelude::*;

use crate::ground::{at_home, outbox_key, receipt, write};
use crate::support::RedisServer;

const WINDOW: u64 = 100;

/// Everything in one list or another, looked through from end to end.
#[derive(Default)]
struct Model {
    now: u64,
    accounts: BTreeMap<(Bucket, String), (u64, Vec<u8>)>,
    receipts: Vec<(Bucket, ReceiptKey, Receipt, u64)>,
    outbox: Vec<(Bucket, OutboxKey, Vec<u8>)>,
    processed: BTreeSet<(TopicPartition, i64)>,
}

impl Model {
    fn receipt(&self, bucket: Bucket, key: &ReceiptKey) -> Option<Receipt> {
        // Business keys are kept for generations that are twice as long.
        let window = if key.starts_with("order.paid ") { 2 * WINDOW } else { WINDOW };
        let oldest = (self.now / window).saturating_sub(1);
        let seen = |(b, k, _, time): &&(Bucket, ReceiptKey, Receipt, u64)| {
            *b == bucket && k == key && (k.starts_with("o ") || time / window >= oldest)
        };
        self.receipts.iter().rfind(seen).map(|(_, _, receipt, _)| receipt.clone())
    }

    fn load(&self, wanted: &LoadBucket) -> LoadedBucket {
        let account = |member: &str| self.accounts.get(&(wanted.bucket, member.to_owned()));
        let mut outbox: Vec<_> =
            self.outbox.iter().filter(|(bucket, _, _)| *bucket == wanted.bucket).collect();
        outbox.sort_by_key(|(_, key, _)| key);
        LoadedBucket {
            accounts: wanted
                .members
                .iter()
                .map(|m| account(m.as_str()).map(|(_, json)| json.clone()))
                .collect(),
            receipts: wanted.receipts.iter().map(|key| self.receipt(wanted.bucket, key)).collect(),
            outbox: if wanted.outbox {
                outbox.into_iter().map(|(_, key, blob)| (key.clone(), blob.clone())).collect()
            } else {
                vec![]
            },
        }
    }

    fn commit(&mut self, wanted: &CommitBucket) -> Committed {
        let bucket = wanted.bucket;
        self.outbox.retain(|(b, key, _)| *b != bucket || !wanted.published.contains(key));
        let version = |member: &str| self.accounts.get(&(bucket, member.to_owned())).map_or(0, |(v, _)| *v);
        if wanted.accounts.iter().any(|write| version(write.member.as_str()) != write.expected)
            || wanted.receipts.iter().any(|(key, _)| self.receipt(bucket, key).is_some())
        {
            return Committed::Refused;
        }
        for write in &wanted.accounts {
            let key = (bucket, write.member.as_str().to_owned());
            self.accounts.insert(key, (write.expected + 1, write.json.to_vec()));
        }
        for (key, receipt) in &wanted.receipts {
            self.receipts.push((bucket, key.clone(), receipt.clone(), self.now));
        }
        for (key, receipt) in &wanted.records {
            self.receipts.push((bucket, key.clone(), receipt.clone(), self.now));
        }
        for (key, blob) in &wanted.outbox {
            self.outbox.retain(|(b, k, _)| (*b, k) != (bucket, key));
            self.outbox.push((bucket, key.clone(), blob.clone()));
        }
        Committed::Written
    }

    fn outbox(&self, partitions: &[TopicPartition]) -> Vec<(Bucket, OutboxKey)> {
        let wanted = self.outbox.iter().filter(|(_, key, _)| partitions.contains(&key.partition));
        let mut found: Vec<_> = wanted.map(|(bucket, key, _)| (*bucket, key.clone())).collect();
        found.sort();
        found
    }

    fn ranges(&self, partition: &TopicPartition) -> Vec<OffsetRange> {
        let mut ranges: Vec<OffsetRange> = Vec::new();
        for (_, offset) in self.processed.iter().filter(|(p, _)| p == partition) {
            match ranges.last_mut() {
                Some(last) if last.until == *offset => last.until += 1,
                _ => ranges.push(OffsetRange { from: *offset, until: offset + 1 }),
            }
        }
        ranges
    }
}

#[derive(Clone, Debug)]
enum Step {
    Load(Vec<LoadBucket>),
    Commit(Vec<CommitBucket>),
    Outbox(Vec<TopicPartition>),
    Entry(Bucket, OutboxKey),
    Clear(Vec<(Bucket, OutboxKey)>),
    Processed(Vec<TopicPartition>),
    AddProcessed(Vec<(TopicPartition, OffsetRange)>),
    Advance(u64),
}

fn partition() -> impl Strategy<Value = TopicPartition> {
    prop::sample::select(vec![("a", 0), ("a", 1), ("a/1", 0), ("b.c", 0)])
        .prop_map(|(topic, partition)| TopicPartition { topic: topic.into(), partition })
}

fn bucket() -> impl Strategy<Value = Bucket> {
    (0u16..2).prop_map(Bucket)
}

fn member() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["ann", "bob", "{eve}", "会 员"])
}

fn key() -> impl Strategy<Value = ReceiptKey> {
    (0..8).prop_map(|number| match number {
        6.. => once_key(&"survey".into(), &"ann".into(), &number.to_string()),
        4.. => business_key("order.paid", &"ann".into(), &number.to_string()),
        _ => format!("e shop {number}").into(),
    })
}

fn entry() -> impl Strategy<Value = OutboxKey> {
    (partition(), 0i64..3).prop_map(|(partition, first)| outbox_key(&partition, first, first + 1))
}

fn load_bucket() -> impl Strategy<Value = LoadBucket> {
    (bucket(), prop::collection::vec(member(), 0..4), prop::collection::vec(key(), 0..3), any::<bool>())
        .prop_map(|(bucket, members, receipts, outbox)| LoadBucket {
            outbox: outbox && !receipts.is_empty(),
            bucket,
            members: members.into_iter().map(Into::into).collect(),
            receipts,
        })
}

fn commit_bucket() -> impl Strategy<Value = CommitBucket> {
    let accounts = prop::collection::btree_map(member(), 0u64..3, 0..3);
    let receipts = prop::collection::btree_map(key(), (partition(), 0i64..9), 0..2);
    let outbox = prop::collection::btree_map(entry(), prop::collection::vec(any::<u8>(), 0..4), 0..2);
    let published = prop::collection::vec(entry(), 0..3);
    let records = prop::collection::btree_map(4..6_u8, (partition(), 0i64..9, ".{0,5}"), 0..2);
    let record = |(number, (p, offset, text)): (u8, (TopicPartition, i64, String))| {
        let key = business_key("order.paid", &"ann".into(), &number.to_string());
        (key, Receipt { record: Some(text.into()), ..receipt(&p, offset) })
    };
    (bucket(), accounts, receipts, records, outbox, published).prop_map(
        move |(bucket, accounts, receipts, records, outbox, published)| CommitBucket {
            records: records.into_iter().map(record).collect(),
            returned: Vec::new(),
            bucket,
            accounts: accounts.into_iter().map(|(member, expected)| write(member, expected)).collect(),
            receipts: receipts.into_iter().map(|(key, (p, offset))| (key, receipt(&p, offset))).collect(),
            outbox: outbox.into_iter().collect(),
            published,
            grants: vec![],
            due: vec![],
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let range = (0i64..30, 0i64..5).prop_map(|(from, length)| OffsetRange { from, until: from + length });
    prop_oneof![
        3 => prop::collection::vec(load_bucket(), 0..3).prop_map(Step::Load),
        6 => prop::collection::vec(commit_bucket(), 0..3).prop_map(Step::Commit),
        1 => prop::collection::vec(partition(), 0..3).prop_map(Step::Outbox),
        1 => (bucket(), entry()).prop_map(|(bucket, key)| Step::Entry(bucket, key)),
        1 => prop::collection::vec((bucket(), entry()), 0..3).prop_map(Step::Clear),
        1 => prop::collection::vec(partition(), 0..3).prop_map(Step::Processed),
        2 => prop::collection::vec((partition(), range), 0..4).prop_map(Step::AddProcessed),
        1 => (1u64..180).prop_map(Step::Advance),
    ]
}

/// Takes one step on the model and on a store, which must answer alike.
fn take(step: &Step, model: &mut Model, stores: &mut [Box<dyn Store>]) -> Result<(), TestCaseError> {
    fn all<T: PartialEq + std::fmt::Debug>(
        expected: &T,
        stores: &mut [Box<dyn Store>],
        ask: impl Fn(&mut dyn Store) -> T,
    ) -> Result<(), TestCaseError> {
        for store in stores {
            prop_assert_eq!(expected, &ask(&mut **store));
        }
        Ok(())
    }
    match step {
        Step::Load(wanted) => {
            let plain = |found: Vec<LoadedBucket>| -> Vec<_> {
                found.into_iter().map(|bucket| (bucket.accounts, bucket.receipts, bucket.outbox)).collect()
            };
            let expected = plain(wanted.iter().map(|wanted| model.load(wanted)).collect());
            all(&expected, stores, |store| plain(store.load(wanted).unwrap()))
        }
        Step::Commit(wanted) => {
            // Buckets are committed at once: which of two commits of one bucket is first, nobody says.
            let mut seen = BTreeSet::new();
            let wanted: Vec<_> = wanted.iter().filter(|wanted| seen.insert(wanted.bucket)).cloned().collect();
            let expected: Vec<_> = wanted.iter().map(|wanted| model.commit(wanted)).collect();
            all(&expected, stores, |store| store.commit(&wanted).unwrap())
        }
        Step::Outbox(partitions) => {
            all(&model.outbox(partitions), stores, |store| store.outbox(partitions).unwrap())
        }
        Step::Entry(bucket, key) => {
            let found = model.outbox.iter().find(|(b, k, _)| (b, k) == (bucket, key));
            let expected = found.map(|(_, _, blob)| blob.clone());
            all(&expected, stores, |store| store.outbox_entry(*bucket, key).unwrap())
        }
        Step::Clear(entries) => {
            model.outbox.retain(|(bucket, key, _)| !entries.contains(&(*bucket, key.clone())));
            all(&(), stores, |store| store.clear_outbox(entries).unwrap())
        }
        Step::Processed(partitions) => {
            let expected: Vec<_> = partitions.iter().map(|partition| model.ranges(partition)).collect();
            all(&expected, stores, |store| store.processed(partitions).unwrap())
        }
        Step::AddProcessed(ranges) => {
            for (partition, range) in ranges {
                model.processed.extend((range.from..range.until).map(|offset| (partition.clone(), offset)));
            }
            all(&(), stores, |store| store.add_processed(ranges).unwrap())
        }
        Step::Advance(_) => Ok(()),
    }
}

fn settings(seconds: u64) -> StoreSettings {
    StoreSettings {
        buckets: 2,
        dedupe_window: Duration::from_secs(seconds),
        refunds_window: Duration::from_secs(seconds * 2),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn memory_answers_as_the_model_does_whatever_is_asked(steps in prop::collection::vec(step(), 1..60)) {
        let memory = at_home(MemoryStore::new(settings(WINDOW)));
        let mut model = Model::default();
        // Two handles by turns: there must be no difference.
        let mut stores: [Box<dyn Store>; 2] = [Box::new(memory.clone()), Box::new(memory.clone())];
        for (number, step) in steps.iter().enumerate() {
            if let Step::Advance(seconds) = step {
                model.now += seconds;
                memory.advance(Duration::from_secs(*seconds));
            }
            take(step, &mut model, &mut stores[number % 2..=number % 2])?;
        }
    }
}

#[test]
fn redis_answers_as_the_model_does_whatever_is_asked() {
    let server = RedisServer::start();
    // Time stands still in the model: a generation of 30 days ends in no test but once in 30 days.
    let month = 30 * 24 * 3600;
    let redis: Box<dyn Store> = Box::new(RedisStore::connect(&server.url(), &settings(month)).unwrap());
    let stores = std::cell::RefCell::new([redis]);
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(100) };
    proptest!(config, |(steps in prop::collection::vec(step(), 1..60))| {
        server.command(&["FLUSHALL"]);
        take_as_whole(&mut *stores.borrow_mut()[0]).unwrap();
        let mut model = Model::default();
        for step in &steps {
            take(step, &mut model, &mut *stores.borrow_mut())?;
        }
    });
}
