//! What becomes of points after they are earned: on a real Kafka and a real Redis, over kills and rewinds.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use jiff::{Span, Timestamp, tz::TimeZone};
use serde_json::{Value, json};

use super::PLAIN;
use super::shop::{OwnRedis, Shop, order};
use super::worker::Exit;

const CATALOGUE: &str = "redemption:
  rate: {points: 100, worth: 1.00}
  rewards: [{id: mug, kind: goods, points: 300, stock: 45}, {id: cash, kind: money}]\n";

/// An event of a member's.
pub fn event(kind: &str, id: &str, member: &str, time: &str, mut data: Value) -> String {
    data["member_id"] = member.into();
    let event = json!({
        "specversion": "1.0", "id": id, "source": format!("shop/{member}"), "type": kind, "time": time, "data": data,
    });
    event.to_string()
}

fn text<'a>(record: &'a Value, key: &str) -> &'a str {
    record["data"][key].as_str().unwrap_or_default()
}

#[test]
fn refunds_redemptions_and_transfers_count_once_over_kills_and_a_rewind() {
    const MEMBERS: usize = 60;
    let redis = OwnRedis::start();
    let shop = Shop::open_with("points", &format!("{PLAIN}{CATALOGUE}"), 4, &redis.url());
    let member = |number: usize| shop.member(&format!("m{}", number % MEMBERS));
    let time = "2026-11-22T11:00:00Z";
    let mut events = Vec::new();
    for number in 0..MEMBERS {
        let (own, next) = (member(number), member(number + 1));
        events.push(order(&format!("o{number}"), &own, "1000.00"));
        // Two parts, which come to the whole, and the first of them under two event ids.
        for (part, amount) in [("a", "333.33"), ("a-again", "333.33"), ("b", "666.67")] {
            let refund = part.trim_end_matches("-again");
            let data = json!({"order_id": format!("o{number}"), "refund_id": format!("f{number}{refund}"), "amount": amount});
            if number % 3 == 0 {
                events.push(event("order.refunded", &format!("f{number}{part}"), &own, time, data));
            }
        }
        for id in ["x", "x-again"] {
            let data = json!({"redemption_id": format!("x{number}"), "reward": "mug"});
            events.push(event("redemption.requested", &format!("{id}{number}"), &own, time, data));
        }
        let data = json!({"transfer_id": format!("t{number}"), "to_id": next, "points": 100});
        events.push(event("points.transferred", &format!("t{number}"), &own, time, data));
        let data =
            json!({"adjustment_id": format!("j{number}"), "points": 7, "reason": "a kind word", "by": "eve"});
        events.push(event("points.adjusted", &format!("j{number}"), &own, time, data));
    }
    // Scattered: a refund may come long before its order.
    let mut records: Vec<(String, String)> = events
        .into_iter()
        .enumerate()
        .map(|(at, event)| (format!("{}", (at * 7919) % 1009), event))
        .collect();
    records.sort();
    shop.produce_keyed(&records);
    for _ in 0..2 {
        shop.start(&["--until-idle"]).kill_after(Duration::from_millis(2_500));
    }
    shop.work_off();
    shop.rewind();
    shop.work_off();

    assert!(shop.dead_letters().is_empty());
    let awards = shop.awards();
    let mut ids = std::collections::HashSet::new();
    assert!(
        awards.iter().all(|award| ids.insert(award["id"].as_str().unwrap())),
        "an award is published twice"
    );
    let mut balances: BTreeMap<String, i64> = BTreeMap::new();
    let mut reversed: HashMap<&str, i64> = HashMap::new();
    let mut answers: HashMap<&str, Vec<i64>> = HashMap::new();
    let mut transfers: HashMap<&str, Vec<i64>> = HashMap::new();
    for award in &awards {
        let points = award["data"]["points"].as_i64().unwrap_or_default();
        *balances.entry(text(award, "member_id").to_owned()).or_default() += points;
        match award["type"].as_str().unwrap() {
            "points.reversed" => *reversed.entry(text(award, "order_id")).or_default() += points,
            "points.redeemed" | "points.declined" if !text(award, "redemption_id").is_empty() => {
                answers.entry(text(award, "redemption_id")).or_default().push(points);
            }
            "points.transferred" | "points.declined" => {
                transfers.entry(text(award, "transfer_id")).or_default().push(points);
            }
            _ => {}
        }
    }
    let mugs = answers.values().flatten().filter(|points| **points == -300).count();
    assert!(answers.len() == MEMBERS && answers.values().all(|answers| answers.len() == 1), "{answers:?}");
    assert!(mugs <= 45, "{mugs} of 45 mugs");
    for number in 0..MEMBERS {
        let taken = reversed.get(format!("o{number}").as_str()).copied().unwrap_or_default();
        assert_eq!(taken, if number % 3 == 0 { -1_000 } else { 0 }, "order {number}");
        let moved = &transfers[format!("t{number}").as_str()];
        assert!(
            *moved == [0] || moved.iter().sum::<i64>() == 0 && moved.len() == 2,
            "transfer {number}: {moved:?}"
        );
    }
    let accounts = shop.accounts(balances.keys());
    for (member, balance) in &balances {
        let account = accounts[member].as_ref().unwrap();
        assert_eq!(account["available"].as_i64(), Some(*balance), "{member}");
        assert_eq!(account["waiting"], Value::Null, "{member}");
    }
    shop.check_schemas();
}

#[test]
fn the_clock_releases_and_expires_points_of_members_who_never_come_again() {
    let redis = OwnRedis::start();
    let lives = "points: {hold: P1D, expire: {after: P1Y}, notice: P30D}\n";
    let shop = Shop::open_with("expiry", &format!("{lives}{PLAIN}"), 2, &redis.url());
    let ann = shop.member("ann");
    let now = Timestamp::now().to_zoned(TimeZone::UTC);
    let ago = |days: i64| now.checked_sub(Span::new().days(days)).unwrap().timestamp().to_string();
    let paid = |id: &str, days: i64, amount: &str| {
        let data = json!({"order_id": id, "amount": amount, "currency": "USD"});
        ("k".to_owned(), event("order.paid", id, &ann, &ago(days), data))
    };
    // Expired, about to expire, released, still held.
    shop.produce_keyed(&[paid("a", 400, "40"), paid("b", 350, "30"), paid("c", 3, "20"), paid("d", 0, "10")]);
    let workers = [shop.start(&[]), shop.start(&[])];
    workers.iter().for_each(super::worker::Worker::wait_until_ready);
    let deadline = std::time::Instant::now() + super::broker::PATIENCE;
    let settled =
        || shop.accounts([ann.clone()].iter())[&ann].as_ref().is_some_and(|account| account["pending"] == 10);
    while !settled() {
        assert!(std::time::Instant::now() < deadline, "the clock does not come to it");
        std::thread::sleep(Duration::from_millis(100));
    }
    // Longer than the clock takes to look again.
    std::thread::sleep(Duration::from_secs(6));
    let (status, shown) = workers[0].get(&format!("/v1/accounts/{ann}"));
    for worker in workers {
        assert_eq!(worker.terminate(), Exit::Code(0));
    }
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((status, &shown["available"], &shown["pending"]), (200, &json!(50), &json!(10)), "{shown}");
    let lots: Vec<_> =
        shown["lots"].as_array().unwrap().iter().map(|lot| lot["points"].as_i64().unwrap()).collect();
    assert_eq!(lots, [30, 20, 10]);
    assert!(
        shown["lots"][2]["held_until"].is_string() && shown["lots"][0]["expires_at"].is_string(),
        "{shown}"
    );
    let awards = shop.awards();
    let of = |kind: &str| -> Vec<i64> {
        let those = awards.iter().filter(|award| award["type"] == kind);
        those.map(|award| award["data"]["points"].as_i64().unwrap()).collect()
    };
    assert_eq!(of("points.pending"), [40, 30, 20, 10]);
    assert_eq!(of("points.released").iter().sum::<i64>(), 90);
    assert_eq!(of("points.expired"), [-40]);
    assert_eq!(of("points.expiring").len(), 2, "of what has expired, and of what will");
    shop.check_schemas();
}
