//! A shop that one lane has worked for, and its log and store as somebody may have left them.

use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use accrual::account::{Account, Retention};
use accrual::entry::Chain;
use accrual::lane::budgets::LeaseTimes;
use accrual::lane::flood::FloodLimits;
use accrual::lane::outbox::{self, Channel};
use accrual::lane::status::LaneStatus;
use accrual::lane::{Lane, LaneSettings};
use accrual::log::memory::{MemoryBroker, MemoryLog};
use accrual::log::{Archive, KeyQuery, LogError, Reach, Record, Stretch};
use accrual::metrics::Metrics;
use accrual::programme::current::Current;
use accrual::programme::{Programme, Versions};
use accrual::store::memory::MemoryStore;
use accrual::store::{
    AccountWrite, CommitBucket, Committed, DueAt, OutboxKey, Receipt, ReceiptKey, Store, StoreSettings,
    take_as_whole,
};
use accrual::types::{Bucket, Buckets, Coordinates, MemberId, Outputs, TopicName, TopicPartition};
use accrual::verify::{Findings, Options, Verifier, Watcher};
use jiff::Timestamp;
use serde_json::Value;

use crate::life::{self, Shopper};
use crate::rng::Rng;

const BUCKETS: Buckets = Buckets(4);
const WINDOW: Duration = Duration::from_hours(30 * 24);
pub const AWARDS: &str = "awards";
pub const TIERS: &str = "tier-changes";
pub const ACCOUNTS: &str = "accounts";

pub struct Shop {
    pub log: Log,
    pub store: MemoryStore,
    pub memory: u64,
    broker: MemoryBroker,
    lane: Lane<MemoryLog, MemoryStore>,
    settings: LaneSettings,
    shoppers: Vec<Shopper>,
    rng: Rng,
    day: i64,
}

/// Topics as somebody may have left them, by partition.
#[derive(Clone, Default, Debug)]
pub struct Log {
    pub topics: BTreeMap<TopicName, Vec<VecDeque<Record>>>,
    first: BTreeMap<TopicName, i64>,
    /// So often the reach is asked for before the last so many records of each topic are seen.
    later: Arc<Mutex<(usize, usize)>>,
}

struct Unwatched;

impl Watcher for Unwatched {
    fn begins(&self, _: &'static str, _: u64) {}
    fn reads(&self, _: u64) {}
    fn ends(&self) {}
}

fn store_settings() -> StoreSettings {
    StoreSettings { buckets: BUCKETS.0, dedupe_window: WINDOW, refunds_window: WINDOW }
}

fn now() -> Duration {
    Duration::from_secs(u64::try_from(Timestamp::now().as_second()).unwrap())
}

impl Shop {
    /// A shop after so many days.
    pub fn after(seed: u64, members: usize, days: i64) -> Self {
        let programme = Programme::parse("programme.yaml", &life::programme("{after: P1Y}")).unwrap();
        let versions = Arc::new(Versions::only(programme));
        let settings = LaneSettings {
            current: Arc::new(Current::new(versions.clone())),
            outputs: Outputs {
                awards: AWARDS.into(),
                tier_changes: TIERS.into(),
                accounts: ACCOUNTS.into(),
                dead_letters: "dead-letters".into(),
                internal: "internal".into(),
            },
            buckets: BUCKETS,
            retention: Retention { history: 5, months: versions.kept_months(), days: 30 },
            dedupe_window: WINDOW,
            max_events: 20,
            max_wait: Duration::ZERO,
            max_record_bytes: 100_000,
            cached_accounts: 10,
            flood: FloodLimits::NONE,
            leases: LeaseTimes::default(),
            clock_every: Duration::MAX,
            whole_stretch: 100,
            sleep: |_| {},
            versions,
        };
        let broker = MemoryBroker::new(&[("shop".into(), 1), ("internal".into(), 1)]);
        let store = MemoryStore::at(store_settings(), now());
        let metrics = Metrics::new(&settings.versions).unwrap();
        let status = Arc::new(LaneStatus::new("0"));
        let lane = Lane::new(
            broker.connect("lane"),
            store.clone(),
            Box::new(broker.clone()),
            settings.clone(),
            metrics,
            status,
        );
        let mut rng = Rng::new(seed);
        let shoppers = (0..members).map(|number| Shopper::new(number, &mut rng)).collect();
        let mut shop = Self {
            log: Log::default(),
            store,
            memory: 1 << 30,
            broker,
            lane,
            settings,
            shoppers,
            rng,
            day: 0,
        };
        shop.live(days);
        shop
    }

    /// Another with the same log and store, to be tampered with by itself.
    pub fn copy(&self) -> Self {
        let mut copy = Self::after(0, 0, 0);
        copy.log = self.log.clone();
        copy.store = self.store.clone();
        copy
    }

    /// Lets some days pass.
    pub fn live(&mut self, days: i64) {
        let input = TopicPartition { topic: "shop".into(), partition: 0 };
        let members = self.shoppers.len();
        for _ in 0..days {
            let midnight = life::midnight(self.day);
            self.day += 1;
            let mut events: Vec<(i64, Value)> = Vec::new();
            for shopper in &mut self.shoppers {
                events.extend(shopper.day(midnight, members, &mut self.rng));
            }
            events.sort_by_key(|(arrives, _)| *arrives);
            for (_, event) in events {
                self.broker.produce(&input, None, event.to_string().into_bytes());
            }
        }
        let mut idle = 0;
        while idle < 3 {
            let turn = self.lane.turn().unwrap();
            idle = if turn == accrual::lane::Turn::Idle { idle + 1 } else { 0 };
        }
        self.log = Log::of(&self.broker);
    }

    fn options(&self) -> Options {
        Options {
            members: Vec::new(),
            quick: false,
            memory: self.memory,
            against: None,
            most_named: 1_000,
            patience: Duration::from_secs(1),
        }
    }

    fn run(&self, options: &Options, heads: Option<&mut dyn Write>) -> Findings {
        let (store, log) = (Box::new(self.store.clone()), Box::new(self.log.clone()));
        Verifier::new(self.settings.clone(), &store_settings(), store, log, &Unwatched)
            .verify(options, heads)
            .unwrap()
    }

    pub fn verify(&self) -> Findings {
        self.run(&self.options(), None)
    }

    pub fn verify_members(&self, members: &[MemberId]) -> Findings {
        self.run(&Options { members: members.to_vec(), ..self.options() }, None)
    }

    pub fn verify_quickly(&self, members: &[MemberId]) -> Findings {
        self.run(&Options { members: members.to_vec(), quick: true, ..self.options() }, None)
    }

    pub fn heads(&self) -> String {
        let mut heads = Vec::new();
        self.run(&self.options(), Some(&mut heads));
        String::from_utf8(heads).unwrap()
    }

    pub fn verify_against(&self, heads: &str) -> Findings {
        let file = std::env::temp_dir().join(format!("accrual-heads-{}-{:p}", std::process::id(), heads));
        std::fs::write(&file, heads).unwrap();
        let findings = self.run(&Options { against: Some(file.clone()), ..self.options() }, None);
        std::fs::remove_file(file).unwrap();
        findings
    }

    pub fn account(&self, member: &MemberId) -> Account {
        Account::from_json(&self.store.account(member).unwrap()).unwrap()
    }

    /// The member with the longest ledger.
    pub fn longest(&self) -> MemberId {
        let accounts = self.store.accounts().into_keys();
        accounts.max_by_key(|member| self.account(member).version).unwrap()
    }

    /// Has the store hold other accounts, receipts and moments: what the closures make of them.
    pub fn edit(
        &mut self,
        account: impl Fn(&MemberId, Vec<u8>) -> Option<Vec<u8>>,
        receipt: impl Fn(&ReceiptKey, Receipt) -> Option<Receipt>,
        due: impl Fn(&MemberId, i64) -> Option<i64>,
    ) {
        // A budget is counted in the store alone, and is not copied: it is left out of what is looked at.
        let mut edited = MemoryStore::at(store_settings(), now());
        take_as_whole(&mut edited).unwrap();
        let mut commits: BTreeMap<Bucket, CommitBucket> = BTreeMap::new();
        for (member, json) in self.store.accounts() {
            if let Some(json) = account(&member, json) {
                let bucket = BUCKETS.of(&member);
                let accounts = &mut commits.entry(bucket).or_insert_with(|| nothing(bucket)).accounts;
                accounts.push(AccountWrite { member, expected: 0, json: json.into() });
            }
        }
        for ((bucket, key), found) in self.store.receipts() {
            if let Some(receipt) = receipt(&key, found) {
                commits.entry(bucket).or_insert_with(|| nothing(bucket)).receipts.push((key, receipt));
            }
        }
        for (member, at) in self.store.due() {
            if let Some(at) = due(&member, at) {
                let bucket = BUCKETS.of(&member);
                let due = &mut commits.entry(bucket).or_insert_with(|| nothing(bucket)).due;
                due.push(DueAt { member, at: Some(at) });
            }
        }
        let commits: Vec<CommitBucket> = commits.into_values().collect();
        assert!(edited.commit(&commits).unwrap().iter().all(|outcome| *outcome == Committed::Written));
        self.store = edited;
    }

    pub fn edit_account(&mut self, member: &MemberId, edit: impl Fn(&mut Account)) {
        let edited = |of: &MemberId, json: Vec<u8>| {
            if of != member {
                return Some(json);
            }
            let mut account = Account::from_json(&json).unwrap();
            edit(&mut account);
            Some(account.to_json())
        };
        self.edit(edited, |_, receipt| Some(receipt), |_, at| Some(at));
    }

    /// Puts an account into the store.
    pub fn put(&mut self, member: &MemberId, json: Vec<u8>) {
        let bucket = BUCKETS.of(member);
        let accounts = vec![AccountWrite { member: member.clone(), expected: 0, json: json.into() }];
        let commit = CommitBucket { accounts, ..nothing(bucket) };
        take_as_whole(&mut self.store).unwrap();
        assert_eq!(self.store.commit(&[commit]).unwrap(), [Committed::Written]);
    }

    /// A commit of nothing, to be filled.
    pub fn nothing(&self, bucket: Bucket) -> CommitBucket {
        nothing(bucket)
    }

    /// Puts records of a member's into the outbox.
    pub fn put_into_outbox(&mut self, member: &MemberId, records: &[Record]) {
        let mut blob = Vec::new();
        for record in records {
            let channel =
                if record.at.topic.as_str() == AWARDS { Channel::Awards } else { Channel::TierChanges };
            outbox::push(&mut blob, 7, channel, member, record.payload.as_ref().unwrap());
        }
        let partition = TopicPartition { topic: "shop".into(), partition: 0 };
        let bucket = BUCKETS.of(member);
        let outbox = vec![(OutboxKey { partition, first: 7, last: 7 }, outbox::pack(&blob, &mut Vec::new()))];
        let commit = CommitBucket { outbox, ..nothing(bucket) };
        take_as_whole(&mut self.store).unwrap();
        assert_eq!(self.store.commit(&[commit]).unwrap(), [Committed::Written]);
    }

    /// Has everything as it was before there was a chain.
    pub fn without_chain(&mut self) {
        self.log.each(|record| {
            let mut event: Value = serde_json::from_slice(record.payload.as_ref().unwrap()).unwrap();
            let data = event["data"].as_object_mut().unwrap();
            data.remove("chain");
            data.remove("receipts");
            record.payload = Some(event.to_string().into_bytes());
        });
        let plain = |_: &MemberId, json: Vec<u8>| {
            let account = Account::from_json(&json).unwrap();
            Some(Account { chain: None, ..account }.to_json())
        };
        self.edit(plain, |_, receipt| Some(receipt), |_, at| Some(at));
    }
}

fn nothing(bucket: Bucket) -> CommitBucket {
    CommitBucket {
        bucket,
        accounts: vec![],
        receipts: vec![],
        records: vec![],
        outbox: vec![],
        published: vec![],
        grants: vec![],
        returned: vec![],
        due: vec![],
    }
}

impl Log {
    fn of(broker: &MemoryBroker) -> Self {
        let mut log = Self::default();
        let published_ms = Some(Timestamp::now().as_millisecond());
        for topic in [AWARDS, TIERS, ACCOUNTS].map(TopicName::from) {
            let of_topic = broker.read(&topic).into_iter().map(|record| Record {
                at: Coordinates { topic: topic.clone(), partition: 0, offset: 0 },
                published_ms,
                key: record.key,
                payload: record.payload,
                headers: record.headers,
            });
            log.topics.insert(topic.clone(), vec![of_topic.collect()]);
        }
        log
    }

    /// Spreads every topic over partitions, lets neighbours change places, and publishes some records twice.
    pub fn scatter(&mut self, partitions: usize, rng: &mut Rng) {
        for topic in self.topics.values_mut() {
            let all: Vec<Record> = topic.drain(..).flatten().collect();
            topic.resize(partitions, VecDeque::new());
            for record in all {
                if rng.chance(50) {
                    topic[rng.below(partitions)].push_back(record.clone());
                }
                topic[rng.below(partitions)].push_back(record);
            }
            for partition in topic {
                for at in 1..partition.len() {
                    if rng.chance(300) {
                        partition.swap(at - 1, at);
                    }
                }
            }
        }
    }

    /// Changes each record of the ledger and each snapshot.
    pub fn each(&mut self, change: impl FnMut(&mut Record)) {
        self.topics.values_mut().flatten().flatten().for_each(change);
    }

    /// The member's part of the ledger, by version; each with its partition and its place there.
    pub fn ledger_of(&self, member: &MemberId) -> BTreeMap<u64, Record> {
        let ledger = self.topics.iter().filter(|(topic, _)| topic.as_str() != ACCOUNTS);
        let records = ledger.flat_map(|(_, partitions)| partitions).flatten();
        let of_member = records.filter(|record| record.key.as_deref() == Some(member.as_str().as_bytes()));
        of_member.map(|record| (version(record), record.clone())).collect()
    }

    /// Keeps those records of the member's part of the ledger that are to stay, as they are to be.
    pub fn edit(&mut self, member: &MemberId, edit: impl Fn(u64, Record) -> Option<Record>) {
        for (topic, partitions) in &mut self.topics {
            if topic.as_str() == ACCOUNTS {
                continue;
            }
            for partition in partitions {
                let edited = partition.drain(..).filter_map(|record| {
                    if record.key.as_deref() != Some(member.as_str().as_bytes()) {
                        return Some(record);
                    }
                    edit(version(&record), record)
                });
                *partition = edited.collect();
            }
        }
    }

    pub fn append(&mut self, record: Record) {
        let topic = self.topics.get_mut(&record.at.topic.clone()).unwrap();
        topic.last_mut().unwrap().push_back(record);
    }

    /// Takes the last records of a member's away, with snapshots of those versions; they are returned.
    pub fn unpublish(&mut self, member: &MemberId, many: usize) -> Vec<Record> {
        let ledger = self.ledger_of(member);
        let last: Vec<Record> = ledger.values().rev().take(many).rev().cloned().collect();
        let from = version(&last[0]);
        self.edit(member, |version, record| (version < from).then_some(record));
        for partition in self.topics.get_mut(&TopicName::from(ACCOUNTS)).unwrap() {
            partition.retain(|record| {
                record.key.as_deref() != Some(member.as_str().as_bytes()) || snapshot_version(record) < from
            });
        }
        last
    }

    /// The last records of each topic are seen only once the reach was asked for so often.
    pub fn comes_later(&mut self, asked: usize, records: usize) {
        // The reach of each of the three topics is asked for twice before it is read.
        *self.later.lock().unwrap() = (6 * asked, records);
    }

    /// Retention removes the first records.
    pub fn cut_off(&mut self, records: usize) {
        let awards = &mut self.topics.get_mut(&TopicName::from(AWARDS)).unwrap()[0];
        let gone: Vec<Record> = awards.drain(..records).collect();
        assert_eq!(gone.len(), records);
        self.first.insert(AWARDS.into(), records as i64);
    }

    pub fn alter_last(&mut self, member: &MemberId, from: &str, to: &str) {
        let last = *self.ledger_of(member).keys().last().unwrap();
        self.edit(member, |version, record| {
            Some(if version == last { altered(record, from, to) } else { record })
        });
    }

    /// So many records of the end are not seen yet.
    fn hidden(&self) -> usize {
        let (asked, records) = *self.later.lock().unwrap();
        if asked > 0 { records } else { 0 }
    }

    fn partition(&self, topic: &TopicName, partition: usize) -> &VecDeque<Record> {
        &self.topics[topic][partition]
    }
}

impl Archive for Log {
    fn record(&self, _: &Coordinates, _: Instant) -> Result<Option<Record>, LogError> {
        unreachable!("no single record is asked for")
    }

    fn of_key(
        &self,
        _: &KeyQuery<'_>,
        _: Instant,
        _: &mut dyn FnMut(&[u8], Option<i64>),
    ) -> Result<bool, LogError> {
        unreachable!("no key is asked for")
    }

    fn usual_partition(&self, key: &[u8], partitions: i32) -> i32 {
        i32::from(key[key.len() - 1]) % partitions.max(1)
    }

    fn reach(&self, topic: &TopicName, _: Instant) -> Result<Vec<Reach>, LogError> {
        let hidden = self.hidden();
        let first = self.first.get(topic).copied().unwrap_or_default();
        let reach = |(partition, records): (usize, &VecDeque<Record>)| {
            let end = first + records.len().saturating_sub(hidden) as i64;
            Reach { partition: partition as i32, first, decided: end, end }
        };
        let reach = self.topics[topic].iter().enumerate().map(reach).collect();
        let mut later = self.later.lock().unwrap();
        later.0 = later.0.saturating_sub(1);
        Ok(reach)
    }

    fn scan(
        &self,
        stretch: &Stretch,
        _: Instant,
        take: &mut dyn FnMut(Record) -> bool,
    ) -> Result<bool, LogError> {
        let first = self.first.get(&stretch.of.topic).copied().unwrap_or_default();
        let records = self.partition(&stretch.of.topic, stretch.of.partition as usize);
        for (offset, record) in (first..).zip(records) {
            let at = Coordinates { topic: stretch.of.topic.clone(), partition: stretch.of.partition, offset };
            if (stretch.from..stretch.until).contains(&offset) && !take(Record { at, ..record.clone() }) {
                break;
            }
        }
        Ok(true)
    }
}

pub fn json(record: &Record) -> Value {
    serde_json::from_slice(record.payload.as_ref().unwrap()).unwrap()
}

pub fn version(record: &Record) -> u64 {
    json(record)["data"]["version"].as_u64().unwrap()
}

fn snapshot_version(record: &Record) -> u64 {
    json(record)["data"]["v"].as_u64().unwrap()
}

/// A record with another text in it.
pub fn altered(record: Record, from: &str, to: &str) -> Record {
    let text = String::from_utf8(record.payload.unwrap()).unwrap();
    assert!(text.contains(from), "{from} in {text}");
    Record { payload: Some(text.replacen(from, to, 1).into_bytes()), ..record }
}

/// A record without its link.
pub fn unsealed(record: &Record) -> Vec<u8> {
    let text = std::str::from_utf8(record.payload.as_ref().unwrap()).unwrap();
    let (body, _) = text.rsplit_once(",\"chain\":\"").unwrap();
    format!("{body}}}}}").into_bytes()
}

/// A record with the link that follows another.
pub fn sealed(record: &Record, before: Option<Chain>) -> Record {
    let mut payload = unsealed(record);
    let mut chain = before;
    Chain::seal(&mut chain, &mut payload);
    Record { payload: Some(payload), ..record.clone() }
}

/// The link that a record carries.
pub fn link(record: &Record) -> Chain {
    json(record)["data"]["chain"].as_str().unwrap().parse().unwrap()
}
