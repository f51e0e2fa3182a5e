//! What must be true once all is worked off, told from the topics and from Redis alone, and written apart from the
//! worker's code.
//!
//! Points are a sum here, whatever the order of events: a rule for orders, one for sign-ins, two for registrations.
//! So a plain loop over the input topic says what everybody must have.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde_json::Value;

use super::kafka::{At, Record};

/// The programme that this computes.
pub const PROGRAMME: &str = "
programme: faults
timezone: UTC
currency: USD
tiers:
  window: lifetime
  levels: [{id: basic, from: 0}, {id: silver, from: 100}, {id: gold, from: 500}, {id: diamond, from: 2000}]
rules:
  - {id: purchase, on: order.paid, earn: {points: 1, per: 1.00}}
  - {id: sign-in, on: member.signed_in, earn: {points: 5}}
  - {id: welcome, on: member.registered, earn: {points: 20}}
  - {id: invite, on: member.registered, earn: {points: 50}, to: referrer}
";

/// Whether versions of an account may be missing on the topic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gaps {
    None,
    Some,
}

/// What is there to be compared.
pub struct Found {
    pub input: BTreeMap<At, Record>,
    pub awards: BTreeMap<At, Record>,
    pub tier_changes: BTreeMap<At, Record>,
    pub snapshots: BTreeMap<At, Record>,
    pub dead_letters: BTreeMap<At, Record>,
    /// Accounts in Redis, by member.
    pub accounts: BTreeMap<String, Value>,
}

/// What becomes of an input record.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Fate {
    Applied,
    Duplicate,
    Skipped,
    DeadLetter,
}

/// What a plain computation over the input says.
#[derive(Default)]
struct Expected {
    fates: BTreeMap<At, Fate>,
    /// By event id: the member, the rule and the points.
    entries: BTreeMap<String, (String, String, i64)>,
    /// By referrer: how many they invited.
    invited: BTreeMap<String, usize>,
}

fn json(record: &Record) -> Value {
    serde_json::from_slice(&record.payload).unwrap()
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("no `{name}` in {value}"))
}

fn expected(input: &BTreeMap<At, Record>) -> Expected {
    let mut expected = Expected::default();
    let mut ids: HashSet<String> = HashSet::new();
    // What came before in the same partition, where it is known to come first: an id's payload, an order's id.
    let mut payloads: HashMap<(i32, String), &[u8]> = HashMap::new();
    let mut orders: HashSet<String> = HashSet::new();
    for (at, record) in input {
        let fate = match serde_json::from_slice::<Value>(&record.payload) {
            Err(_) => Fate::DeadLetter,
            Ok(event) => {
                let (id, kind, data) = (text(&event, "id"), text(&event, "type"), &event["data"]);
                let first = payloads.entry((at.1, id.to_owned())).or_insert(&record.payload);
                if kind == "page.viewed" {
                    Fate::Skipped
                } else if data["amount"].as_str().is_some_and(|amount| amount.starts_with('-'))
                    || *first != record.payload
                {
                    Fate::DeadLetter
                } else if ids.contains(id) || id.starts_with("again") {
                    Fate::Duplicate
                } else {
                    let (rule, points) = match kind {
                        // Whole dollars, told from the text alone.
                        "order.paid" => {
                            assert!(orders.insert(text(data, "order_id").to_owned()), "{event}");
                            ("purchase", text(data, "amount").split('.').next().unwrap().parse().unwrap())
                        }
                        "member.signed_in" => ("sign-in", 5),
                        "member.registered" => {
                            *expected.invited.entry(text(data, "referrer_id").to_owned()).or_default() += 1;
                            ("welcome", 20)
                        }
                        other => panic!("upstream sends no {other}"),
                    };
                    ids.insert(id.to_owned());
                    let member = text(data, "member_id").to_owned();
                    expected.entries.insert(id.to_owned(), (member, rule.to_owned(), points));
                    Fate::Applied
                }
            }
        };
        expected.fates.insert(at.clone(), fate);
    }
    expected
}

impl Found {
    /// Holds all of it; what is wrong is said with an example.
    pub fn check(&self, gaps: Gaps) -> String {
        let expected = expected(&self.input);
        let mut balances: BTreeMap<String, i64> = BTreeMap::new();
        let mut versions: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
        let mut entries = BTreeMap::new();
        let mut invited: BTreeMap<String, usize> = BTreeMap::new();
        let mut ids = HashSet::new();
        for (at, record) in self.awards.iter().chain(&self.tier_changes) {
            let published = json(record);
            assert!(
                ids.insert(text(&published, "id").to_owned()),
                "published twice, again at {at:?}: {published}"
            );
            let (data, kind) = (&published["data"], text(&published, "type"));
            let member = text(data, "member_id").to_owned();
            let version = data["version"].as_u64().unwrap();
            assert!(
                versions.entry(member.clone()).or_default().insert(version),
                "a version comes twice, again at {at:?}: {published}"
            );
            if kind != "points.earned" {
                assert!(kind == "tier.changed" || kind == "member.noted", "{at:?}: {published}");
                continue;
            }
            let points = data["points"].as_i64().unwrap();
            *balances.entry(member.clone()).or_default() += points;
            let (rule, event) = (text(data, "rule").to_owned(), text(&data["event"], "id").to_owned());
            if rule == "invite" {
                assert_eq!(points, 50, "{published}");
                *invited.entry(member).or_default() += 1;
            } else {
                let before = entries.insert(event, (member, rule, points));
                assert!(before.is_none(), "two entries of one event, the second at {at:?}: {published}");
            }
        }
        same("entries of events", &entries, &expected.entries);
        same("referrals", &invited, &expected.invited);

        let redis: BTreeMap<String, i64> = self
            .accounts
            .iter()
            .map(|(member, account)| (member.clone(), account["available"].as_i64().unwrap_or_default()))
            .collect();
        same("balances in Redis and on the topic", &redis, &balances);
        let gap_free: BTreeMap<String, BTreeSet<u64>> = self
            .accounts
            .iter()
            .map(|(member, account)| (member.clone(), (1..=account["v"].as_u64().unwrap()).collect()))
            .collect();
        if gaps == Gaps::None {
            same("versions on the topic, and 1 to the account's", &versions, &gap_free);
        } else {
            let last = |versions: &BTreeMap<String, BTreeSet<u64>>| -> BTreeMap<String, u64> {
                versions.iter().map(|(member, all)| (member.clone(), *all.last().unwrap())).collect()
            };
            same("the last version on the topic, and the account's", &last(&versions), &last(&gap_free));
        }
        let tiers = |(member, points): (&String, &i64)| {
            let tier = match points {
                ..100 => "basic",
                100..500 => "silver",
                500..2000 => "gold",
                _ => "diamond",
            };
            (member.clone(), tier.to_owned())
        };
        let held = |(member, account): (&String, &Value)| {
            (member.clone(), account["tier"]["id"].as_str().unwrap_or("basic").to_owned())
        };
        let (held, tiers): (BTreeMap<_, _>, BTreeMap<_, _>) =
            (self.accounts.iter().map(held).collect(), balances.iter().map(tiers).collect());
        same("levels", &held, &tiers);
        same("newest snapshots and accounts", &self.newest_snapshots(), &self.accounts);
        self.check_dead_letters(&expected.fates);

        let mut counts: BTreeMap<Fate, usize> = BTreeMap::new();
        expected.fates.values().for_each(|fate| *counts.entry(*fate).or_default() += 1);
        assert_eq!(counts.get(&Fate::Applied), Some(&entries.len()));
        format!("{} records: {counts:?}, {} accounts", self.input.len(), self.accounts.len())
    }

    fn newest_snapshots(&self) -> BTreeMap<String, Value> {
        let mut newest: BTreeMap<String, Value> = BTreeMap::new();
        for record in self.snapshots.values() {
            let mut snapshot = json(record);
            let version = |account: &Value| account["v"].as_u64().unwrap();
            let (member, account) = (text(&snapshot, "subject").to_owned(), snapshot["data"].take());
            if newest.get(&member).is_none_or(|held| version(held) <= version(&account)) {
                newest.insert(member, account);
            }
        }
        newest
    }

    fn check_dead_letters(&self, fates: &BTreeMap<At, Fate>) {
        let mut found: Vec<At> = Vec::new();
        for letter in self.dead_letters.values() {
            let header = |name: &str| letter.headers[name].as_str();
            let at = (
                header("accrual-topic").to_owned(),
                header("accrual-partition").parse().unwrap(),
                header("accrual-offset").parse().unwrap(),
            );
            let came = self.input.get(&at).unwrap_or_else(|| panic!("a dead letter of nothing: {letter:?}"));
            assert_eq!(came.payload, letter.payload, "a dead letter is byte for byte what came");
            found.push(at);
        }
        found.sort();
        let wanted: Vec<At> =
            fates.iter().filter(|(_, fate)| **fate == Fate::DeadLetter).map(|(at, _)| at.clone()).collect();
        let surplus: Vec<_> = found.iter().filter(|at| fates.get(*at) != Some(&Fate::DeadLetter)).collect();
        let example = surplus.first().map(|at| self.letter_of(at));
        assert!(surplus.is_empty(), "{} records must be no dead letters: {example:?}", surplus.len());
        assert_eq!(found, wanted, "each broken record is one dead letter");
    }

    fn letter_of(&self, at: &At) -> &Record {
        let is_of = |letter: &&Record| {
            letter.headers["accrual-partition"] == at.1.to_string()
                && letter.headers["accrual-offset"] == at.2.to_string()
        };
        self.dead_letters.values().find(is_of).unwrap()
    }
}

/// Two tables that must be one and the same. Says how many differ and shows a few.
pub fn same<K: Ord + std::fmt::Debug, V: PartialEq + std::fmt::Debug>(
    what: &str,
    left: &BTreeMap<K, V>,
    right: &BTreeMap<K, V>,
) {
    let keys: BTreeSet<&K> = left.keys().chain(right.keys()).collect();
    let differ: Vec<_> = keys.into_iter().filter(|key| left.get(key) != right.get(key)).collect();
    let shown: Vec<String> = differ
        .iter()
        .take(4)
        .map(|key| format!("{key:?}:\n     {:?}\n  != {:?}", left.get(key), right.get(key)))
        .collect();
    assert!(differ.is_empty(), "{what}: {} differ, such as\n{}", differ.len(), shown.join("\n"));
}
