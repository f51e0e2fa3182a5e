//! Says what must be true once all is quiet, from what was sent and what can be read, by a simpler
//! computation than the worker's.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use accrual::store::Store;
use serde_json::Value;

use super::traffic::Meaning;
use super::world::{World, outputs};

pub fn audit(world: &World) -> Result<(), String> {
    let topics = outputs();
    let read = |topic| -> Vec<Value> {
        let records = world.broker.read(topic);
        records
            .iter()
            .map(|record| serde_json::from_slice(record.payload.as_deref().unwrap()).unwrap())
            .collect()
    };
    let awards = read(&topics.awards);
    let tier_changes = read(&topics.tier_changes);

    // Nothing is published twice.
    let mut ids = HashSet::new();
    for record in awards.iter().chain(&tier_changes) {
        if !ids.insert(record["id"].as_str().unwrap().to_owned()) {
            return Err(format!("published twice: {record}"));
        }
    }

    // The ledger is what a plain computation over the distinct events says.
    let expected = expected_points(world);
    let mut ledger: BTreeMap<String, i64> = BTreeMap::new();
    let mut versions: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    for record in awards.iter().chain(&tier_changes) {
        let member = record["data"]["member_id"].as_str().unwrap().to_owned();
        if !versions.entry(member.clone()).or_default().insert(record["data"]["version"].as_u64().unwrap()) {
            return Err(format!("two changes of one version: {record}"));
        }
        *ledger.entry(member).or_default() += record["data"]["points"].as_i64().unwrap_or_default();
    }
    ledger.retain(|_, points| *points != 0);
    if ledger != expected {
        return Err(format!("the ledger says {ledger:?}, expected {expected:?}"));
    }

    // Each account is the fold of its entries, and its versions have no gap.
    let accounts = accounts(world);
    for (member, account) in &accounts {
        let points = account["available"].as_i64().unwrap();
        if points != expected.get(member).copied().unwrap_or_default() {
            return Err(format!("account {member} has {points}, expected {:?}", expected.get(member)));
        }
        let version = account["v"].as_u64().unwrap();
        let published = versions.get(member).cloned().unwrap_or_default();
        if published != (1..=version).collect() {
            return Err(format!("account {member} is at version {version}, published are {published:?}"));
        }
        let silver = points >= 500;
        if (account["tier"]["id"] == "silver") != silver {
            return Err(format!("account {member} with {points} points has tier {}", account["tier"]));
        }
    }
    if accounts.len() != versions.len() {
        return Err(format!("{} accounts, {} members in the ledger", accounts.len(), versions.len()));
    }

    // The newest snapshot is the account.
    let mut snapshots: HashMap<String, Value> = HashMap::new();
    for record in read(&topics.accounts) {
        let member = record["subject"].as_str().unwrap().to_owned();
        let newer =
            snapshots.get(&member).is_none_or(|held| held["v"].as_u64() <= record["data"]["v"].as_u64());
        if newer {
            snapshots.insert(member, record["data"].clone());
        }
    }
    for (member, account) in &accounts {
        if snapshots.get(member) != Some(account) {
            return Err(format!("account {member} is {account}, its snapshot {:?}", snapshots.get(member)));
        }
    }

    // Every record that cannot count is a dead letter, once.
    let mut letters: Vec<String> = Vec::new();
    for record in world.broker.read(&topics.dead_letters) {
        let header = |name: &str| {
            let found = record.headers.iter().find(|header| header.name == name).unwrap();
            String::from_utf8(found.value.clone().unwrap()).unwrap()
        };
        letters.push(format!("{}/{}", header("accrual-partition"), header("accrual-offset")));
    }
    let distinct: HashSet<&String> = letters.iter().collect();
    if distinct.len() != letters.len() {
        return Err(format!("a dead letter twice: {letters:?}"));
    }
    let broken = world.sent.iter().filter(|sent| sent.meaning == Meaning::Broken).count();
    let conflicts = world.sent.iter().filter(|sent| matches!(sent.meaning, Meaning::Conflict { .. })).count();
    // Of an event and its conflicting twin one counts and the other is a dead letter, or, where the
    // order had been paid under another event id before, both are repeats of that order.
    if letters.len() < broken || letters.len() > broken + repeats_of_conflicts(world) + conflicts {
        return Err(format!(
            "{} dead letters, {broken} broken records, {conflicts} conflicts",
            letters.len()
        ));
    }

    // Nothing is left over.
    let mut store = world.store.clone();
    let partitions: Vec<_> = world.broker.ends(&super::world::inputs()).into_keys().collect();
    let outbox = store.outbox(&partitions).unwrap();
    if !outbox.is_empty() {
        return Err(format!("the outbox is not empty after a clean stop: {outbox:?}"));
    }
    Ok(())
}

/// How often events that have a conflicting twin were sent: each may be the dead letter.
fn repeats_of_conflicts(world: &World) -> usize {
    let twins: HashSet<&String> = world
        .sent
        .iter()
        .filter_map(|sent| if let Meaning::Conflict { event } = &sent.meaning { Some(event) } else { None })
        .collect();
    world
        .sent
        .iter()
        .filter(|sent| matches!(&sent.meaning, Meaning::Order { event, .. } if twins.contains(event)))
        .count()
}

/// Points by member: whole euros of each distinct order, five a day signed in.
fn expected_points(world: &World) -> BTreeMap<String, i64> {
    let mut orders: HashMap<&String, (&String, u64)> = HashMap::new();
    let mut days: HashSet<(&String, u32)> = HashSet::new();
    for sent in &world.sent {
        match &sent.meaning {
            Meaning::Order { order, member, amount, .. } => {
                orders.insert(order, (member, *amount));
            }
            Meaning::SignIn { member, day, .. } => {
                days.insert((member, *day));
            }
            _ => {}
        }
    }
    let mut points: BTreeMap<String, i64> = BTreeMap::new();
    for (member, amount) in orders.into_values() {
        *points.entry(member.clone()).or_default() += amount as i64;
    }
    for (member, _) in days {
        *points.entry(member.clone()).or_default() += 5;
    }
    points
}

fn accounts(world: &World) -> BTreeMap<String, Value> {
    let accounts = world.store.accounts();
    accounts
        .into_iter()
        .map(|(member, json)| (member.to_string(), serde_json::from_slice(&json).unwrap()))
        .collect()
}
