//! Says what must be true once all is quiet, from what was sent and what can be read, by a simpler
//! computation than the worker's.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use accrual::store::{LeaseId, LeaseRequest, Store};
use accrual::types::Points;
use serde_json::Value;

use super::traffic::{LARGE, Meaning};
use super::world::{GIFT, LEASE, SECOND_FROM, SIGN_IN, World, outputs};

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

    // Nothing is published twice, but for what an operator brings about: that comes again unchanged.
    let mut repeated: BTreeSet<String> = BTreeSet::new();
    let mut changes: HashMap<&str, &Value> = HashMap::new();
    for record in awards.iter().chain(&tier_changes) {
        if let Some(first) = changes.insert(record["id"].as_str().unwrap(), record) {
            if world.repeats_allowed() == 0 || first != record {
                return Err(format!("published twice: {record}, first {first}"));
            }
            repeated.insert(record["data"]["event"]["id"].to_string());
        }
    }

    // Each is decided by the version of its event's own time.
    for record in changes.values() {
        let day: u32 = record["time"].as_str().unwrap()[8..10].parse().unwrap();
        let version = &world.versions[usize::from(day >= SECOND_FROM)];
        if record["data"]["programme"]["version"] != **version {
            return Err(format!("decided by another version than {version}: {record}"));
        }
    }

    // The ledger is what a plain computation over the distinct events says.
    let Expected { points: expected, rewards: expected_rewards, orders } = expected(world);
    let mut rewards: BTreeMap<String, i64> = BTreeMap::new();
    let mut gifts: BTreeMap<String, i64> = BTreeMap::new();
    let (mut declined_gifts, mut first_gifts) = (0, 0);
    let mut ledger: BTreeMap<String, i64> = BTreeMap::new();
    let mut versions: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    let mut spent = Spent::default();
    for record in changes.into_values() {
        let member = record["data"]["member_id"].as_str().unwrap().to_owned();
        if !versions.entry(member.clone()).or_default().insert(record["data"]["version"].as_u64().unwrap()) {
            return Err(format!("two changes of one version: {record}"));
        }
        if is_spender(&member) {
            spent.take_in(&member, record)?;
            continue;
        }
        if record["type"] == "reward.granted" {
            *rewards.entry(member.clone()).or_default() += 1;
        }
        let points = record["data"]["points"].as_i64().unwrap_or_default();
        if record["data"]["campaign"] == "gift" {
            *gifts.entry(member).or_default() += points;
            if record["data"]["programme"]["version"] == *world.versions[0] {
                first_gifts += points;
            }
            declined_gifts += record["data"]["declined"].as_i64().unwrap_or_default();
        } else {
            *ledger.entry(member).or_default() += points;
        }
    }
    ledger.retain(|_, points| *points != 0);
    let has_gap = |versions: &BTreeSet<u64>| versions.last() != Some(&(versions.len() as u64));
    let with_gaps: BTreeSet<&str> = versions
        .iter()
        .filter(|(_, versions)| has_gap(versions))
        .map(|(member, _)| member.as_str())
        .collect();
    // An order that was decided on top of a registration which the store lost before it was published, stands. Once the
    // registration is read again, it pays for that order once more.
    let mut expected = expected;
    if world.faults.loss > 0 {
        let gaps = with_gaps.iter().filter(|member| member.starts_with('n')).count();
        for (member, points) in &mut expected {
            let more = ledger.get(member).copied().unwrap_or_default() - *points;
            if more > 0 && more % CONVERTED == 0 && more <= CONVERTED * gaps as i64 {
                *points += more;
            }
        }
    }
    if ledger != expected {
        return Err(format!("the ledger says {ledger:?}, expected {expected:?}"));
    }
    if rewards != expected_rewards {
        return Err(format!("given are {rewards:?}, expected {expected_rewards:?}"));
    }

    // Every order is given its gift or told why not, and all together no more than the budget: those of the
    // first version no more than that one's.
    let given: i64 = gifts.values().sum();
    if first_gifts > world.budgets[0] || given > world.budgets[1] || given + declined_gifts != orders * GIFT {
        return Err(format!(
            "{given} given, {first_gifts} by the first version, of budgets of {:?}, {declined_gifts} declined, {orders} orders",
            world.budgets
        ));
    }
    audit_budget(world, given)?;

    // Each account is the fold of its entries, and its versions have no gap.
    let accounts = accounts(world);
    spent.audit(world, &accounts, &with_gaps)?;
    for (member, account) in &accounts {
        let points = account["available"].as_i64().unwrap();
        let is_spender = is_spender(member);
        let of = |all: &BTreeMap<String, i64>| all.get(member).copied().unwrap_or_default();
        if !is_spender && points != of(&expected) + of(&gifts) {
            return Err(format!(
                "account {member} has {points}, expected {} and {} of the budget",
                of(&expected),
                of(&gifts)
            ));
        }
        let version = account["v"].as_u64().unwrap();
        let published = versions.get(member).cloned().unwrap_or_default();
        // Where the store lost a change before it was published, its version never is; what was decided on top of it is.
        let has_gaps = world.faults.loss > 0 && published.last() == Some(&version);
        if !has_gaps && published != (1..=version).collect() {
            return Err(format!("account {member} is at version {version}, published are {published:?}"));
        }
        let silver = points >= 500;
        if !is_spender && (account["tier"]["id"] == "silver") != silver {
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

    // Every record that cannot count is a dead letter, once, and no other is.
    let no_events = world.no_events();
    let mut letters: HashSet<String> = HashSet::new();
    for record in world.broker.read(&topics.dead_letters) {
        let header = |name: &str| {
            let found = record.headers.iter().find(|header| header.name == name).unwrap();
            String::from_utf8(found.value.clone().unwrap()).unwrap()
        };
        let at = format!("{}/{}", header("accrual-partition"), header("accrual-offset"));
        if !letters.insert(at.clone()) {
            if world.repeats_allowed() == 0 {
                return Err(format!("a dead letter twice: {at}"));
            }
            if !no_events.contains(at.as_str()) {
                repeated.insert(at);
            }
        }
    }
    if repeated.len() > world.repeats_allowed() {
        return Err(format!("more than a batch a lane is published again: {repeated:?}"));
    }
    dead_letters_are_right(world, &letters)?;

    // Nothing is left over.
    let mut store = world.store.clone();
    let partitions: Vec<_> = [super::world::inputs(), topics.internal]
        .iter()
        .flat_map(|topic| world.broker.ends(topic).into_keys())
        .collect();
    let outbox = store.outbox(&partitions).unwrap();
    if !outbox.is_empty() {
        return Err(format!("the outbox is not empty after a clean stop: {outbox:?}"));
    }
    Ok(())
}

/// Broken records are dead letters. Of an event and its conflicting twins, whichever is met first
/// counts and all of the others are dead letters; but where its order was paid under another event id
/// too, that may have come first, so that all are repeats of that order.
fn dead_letters_are_right(world: &World, letters: &HashSet<String>) -> Result<(), String> {
    let mut unexplained: HashSet<&String> = letters.iter().collect();
    let mut originals: HashMap<&String, Vec<&String>> = HashMap::new();
    let mut twins: HashMap<&String, Vec<&String>> = HashMap::new();
    let mut order_of: HashMap<&String, &String> = HashMap::new();
    let mut events_of: HashMap<&String, HashSet<&String>> = HashMap::new();
    for sent in &world.sent {
        match &sent.meaning {
            Meaning::Broken => {
                if !unexplained.remove(&sent.at) {
                    return Err(format!("the broken record {} is no dead letter", sent.at));
                }
            }
            Meaning::Conflict { event } => twins.entry(event).or_default().push(&sent.at),
            Meaning::Order { event, order, .. } => {
                originals.entry(event).or_default().push(&sent.at);
                order_of.insert(event, order);
                events_of.entry(order).or_default().insert(event);
            }
            Meaning::SignIn { .. }
            | Meaning::Survey { .. }
            | Meaning::Registration { .. }
            | Meaning::Refund { .. }
            | Meaning::Redemption { .. }
            | Meaning::Transfer { .. }
            | Meaning::Skipped => {}
        }
    }
    for (event, twins) in twins {
        let dead = |places: &[&String]| places.iter().filter(|at| letters.contains(**at)).count();
        let originals = &originals[event];
        let (dead_twins, dead_originals) = (dead(&twins), dead(originals));
        let one_counts = dead_twins == twins.len() && dead_originals == 0
            || dead_originals == originals.len() && dead_twins == 0;
        let none_counts = dead_twins + dead_originals == 0 && events_of[order_of[event]].len() > 1;
        if !one_counts && !none_counts {
            return Err(format!(
                "of event {event} at {originals:?} and its conflicting twins at {twins:?} dead letters are {letters:?}"
            ));
        }
        for at in twins.iter().chain(originals) {
            unexplained.remove(*at);
        }
    }
    if unexplained.is_empty() {
        Ok(())
    } else {
        Err(format!("dead letters of good records: {unexplained:?}"))
    }
}

/// What the store says was spent of the budget is what was given: at once where every lane stopped cleanly,
/// else when the leases of the dead have lapsed.
fn audit_budget(world: &World, given: i64) -> Result<(), String> {
    let mut store = world.store.clone();
    if world.faults.any() {
        store.advance(LEASE * 2);
    }
    let all = LeaseRequest {
        campaign: "gift".into(),
        budget: Points(world.budgets[1]),
        lease: LeaseId::new_random(),
        needed: Points(world.budgets[1]),
        life: LEASE,
    };
    let free = store.lease(&all).unwrap().points.0;
    if free + given != world.budgets[1] {
        return Err(format!("{free} free and {given} given of a budget of {}", world.budgets[1]));
    }
    Ok(())
}

/// What a referrer is paid more, once the newcomer orders.
const CONVERTED: i64 = 30;

/// What all distinct events come to.
struct Expected {
    points: BTreeMap<String, i64>,
    /// How many by member.
    rewards: BTreeMap<String, i64>,
    /// How many distinct orders there are.
    orders: i64,
}

/// Points by member: whole euros of each distinct order, five or six a day signed in, forty a survey, ten for coming and two
/// hundred for their birthday, and for their referrer fifty, and thirty more where they order. Rewards: one each for a day signed in,
/// a survey and a birthday.
fn expected(world: &World) -> Expected {
    let mut orders: HashMap<&String, (&String, u64)> = HashMap::new();
    let mut days: HashSet<(&String, u32)> = HashSet::new();
    let mut surveys: HashSet<(&String, usize)> = HashSet::new();
    let mut referrers: HashMap<&String, &String> = HashMap::new();
    for sent in &world.sent {
        match &sent.meaning {
            Meaning::Order { order, member, amount, .. } if *amount < LARGE => {
                orders.insert(order, (member, *amount));
            }
            Meaning::SignIn { member, day, .. } => {
                days.insert((member, *day));
            }
            Meaning::Survey { member, survey, .. } => {
                surveys.insert((member, *survey));
            }
            Meaning::Registration { member, referrer } => {
                referrers.insert(member, referrer);
            }
            _ => {}
        }
    }
    let mut points: BTreeMap<String, i64> = BTreeMap::new();
    let mut rewards: BTreeMap<String, i64> = BTreeMap::new();
    let given = referrers.keys().copied().chain(days.iter().map(|(member, _)| *member));
    for member in given.chain(surveys.iter().map(|(member, _)| *member)) {
        *rewards.entry(member.clone()).or_default() += 1;
    }
    let distinct_orders = orders.len() as i64;
    let have_ordered: HashSet<&String> = orders.values().map(|(member, _)| *member).collect();
    for (newcomer, referrer) in referrers {
        *points.entry(newcomer.clone()).or_default() += 10 + 200;
        let has_ordered = have_ordered.contains(newcomer);
        *points.entry(referrer.clone()).or_default() += if has_ordered { 50 + CONVERTED } else { 50 };
    }
    for (member, amount) in orders.into_values() {
        *points.entry(member.clone()).or_default() += amount as i64;
    }
    for (member, day) in days {
        *points.entry(member.clone()).or_default() += SIGN_IN[usize::from(day >= SECOND_FROM)];
    }
    for (member, _) in surveys {
        *points.entry(member.clone()).or_default() += 40;
    }
    Expected { points, rewards, orders: distinct_orders }
}

fn accounts(world: &World) -> BTreeMap<String, Value> {
    let accounts = world.store.accounts();
    accounts
        .into_iter()
        .map(|(member, json)| (member.to_string(), serde_json::from_slice(&json).unwrap()))
        .collect()
}

fn is_spender(member: &str) -> bool {
    member.starts_with('r')
}

/// What the ledger says of members who spend: by member and id, and never by the worker's own records.
#[derive(Default)]
struct Spent {
    /// All points that moved, by member.
    points: BTreeMap<String, i64>,
    /// Taken back, by order.
    reversed: HashMap<String, i64>,
    /// Earned with orders, by the event of each.
    earned: HashMap<String, i64>,
    /// What came of each redemption: asked and answered, points.
    answers: HashMap<String, Vec<i64>>,
    returned: HashMap<String, i64>,
    /// Given and received, by member and transfer.
    transfers: HashMap<String, Vec<i64>>,
}

impl Spent {
    fn take_in(&mut self, member: &str, record: &Value) -> Result<(), String> {
        let data = &record["data"];
        let points = data["points"].as_i64().unwrap_or_default();
        *self.points.entry(member.to_owned()).or_default() += points;
        let text = |key: &str| data[key].as_str().map(str::to_owned);
        let of_member = |id: Option<String>| format!("{member} {}", id.unwrap_or_default());
        match record["type"].as_str().unwrap() {
            "points.earned" => {
                *self.earned.entry(data["event"]["id"].as_str().unwrap().to_owned()).or_default() += points;
            }
            "points.reversed" => *self.reversed.entry(text("order_id").unwrap()).or_default() -= points,
            "points.redeemed" => {
                self.answers.entry(of_member(text("redemption_id"))).or_default().push(-points);
            }
            "points.declined" if data["event"]["type"] == "redemption.requested" => {
                self.answers.entry(of_member(text("redemption_id"))).or_default().push(0);
            }
            "points.returned" => {
                *self.returned.entry(of_member(text("redemption_id"))).or_default() += points;
            }
            "points.transferred" | "points.declined" if text("transfer_id").is_some() => {
                let giver = if points > 0 { text("counterparty").unwrap() } else { member.to_owned() };
                let transfer = format!("{giver} {}", text("transfer_id").unwrap());
                self.transfers.entry(transfer).or_default().push(points);
            }
            "points.declined" | "member.noted" | "tier.changed" => {}
            other => return Err(format!("a spender has {other}: {record}")),
        }
        Ok(())
    }

    fn audit(
        &self,
        world: &World,
        accounts: &BTreeMap<String, Value>,
        with_gaps: &BTreeSet<&str>,
    ) -> Result<(), String> {
        // An order pays what it costs in whole euros, once, and refunds take the share of it that was given back.
        let mut amounts: HashMap<&String, u64> = HashMap::new();
        // A refund that was decided on top of an order which the store lost before it was published, is not known to the
        // order any more once that is read again.
        let mut uncertain: HashSet<&String> = HashSet::new();
        let mut events: HashMap<&String, HashSet<&String>> = HashMap::new();
        let mut refunds: HashMap<&String, HashMap<&String, u64>> = HashMap::new();
        let mut redemptions: HashSet<&String> = HashSet::new();
        let mut transfers: HashSet<&String> = HashSet::new();
        for sent in &world.sent {
            match &sent.meaning {
                Meaning::Order { member, order, event, amount } if *amount > LARGE => {
                    if with_gaps.contains(member.as_str()) {
                        uncertain.insert(order);
                    }
                    amounts.insert(order, *amount);
                    events.entry(order).or_default().insert(event);
                }
                Meaning::Refund { refund, order, cents } => {
                    refunds.entry(order).or_default().insert(refund, *cents);
                }
                Meaning::Redemption { redemption } => _ = redemptions.insert(redemption),
                Meaning::Transfer { transfer } => _ = transfers.insert(transfer),
                _ => {}
            }
        }
        for (order, amount) in &amounts {
            let earned: i64 = events[*order].iter().filter_map(|event| self.earned.get(*event)).sum();
            if earned != *amount as i64 {
                return Err(format!("{order} of {amount} paid {earned}"));
            }
            let given_back: u64 = refunds.get(*order).map_or(0, |refunds| refunds.values().sum());
            let (whole, part) = (amount * 100 + 50, given_back.min(amount * 100 + 50));
            let expected = (u128::from(*amount) * u128::from(part) / u128::from(whole)) as i64;
            let reversed = self.reversed.get(*order).copied().unwrap_or_default();
            if reversed != expected && !(uncertain.contains(order) && reversed > expected) {
                return Err(format!(
                    "{part} of {whole} cents of {order} took {reversed} points back, expected {expected}"
                ));
            }
        }
        // Each redemption has one answer, and no more comes back of it than it cost.
        for redemption in redemptions {
            let answers = self.answers.get(redemption).cloned().unwrap_or_default();
            let returned = self.returned.get(redemption).copied().unwrap_or_default();
            let [cost] = answers[..] else { return Err(format!("{redemption} has the answers {answers:?}")) };
            if ![0, 50].contains(&cost) || ![0, cost].contains(&returned) {
                return Err(format!("{redemption} cost {cost}, and {returned} came back"));
            }
        }
        // What one gives, the other gets, once.
        for transfer in transfers {
            let mut moved = self.transfers.get(transfer).cloned().unwrap_or_default();
            moved.sort_unstable();
            let is_given = moved.len() == 2 && moved[0] == -moved[1] && moved[0] < 0;
            if !(is_given || matches!(moved[..], [0])) {
                return Err(format!("of {transfer} came {moved:?}"));
            }
        }
        for (member, account) in accounts.iter().filter(|(member, _)| is_spender(member)) {
            let points = self.points.get(member).copied().unwrap_or_default();
            let lots: i64 =
                account["lots"].as_array().into_iter().flatten().map(|lot| lot[0].as_i64().unwrap()).sum();
            let available = account["available"].as_i64().unwrap();
            if available != points || lots != available.max(0) || account["waiting"] != Value::Null {
                return Err(format!("account {member} is not the sum of its entries, {points}: {account}"));
            }
        }
        Ok(())
    }
}
