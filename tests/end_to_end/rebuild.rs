//! A Redis that lost what it had: filled again from what was published, by a command and by the worker itself.

use std::collections::BTreeMap;

use redis::Commands;
use serde_json::{Value, json};

use super::shop::{OwnRedis, Shop, order, sign_in};
use super::{PLAIN, ledger};

const MEMBERS: usize = 40;
const CATALOGUE: &str = "redemption:
  rate: {points: 100, worth: 1.00}
  rewards: [{id: mug, kind: goods, points: 300, stock: 25}]\n";

impl Shop {
    fn members(&self) -> Vec<String> {
        (0..MEMBERS).map(|number| self.member(&format!("m{number}"))).collect()
    }

    /// Orders of these numbers, each with a sign-in.
    fn orders(&self, numbers: std::ops::Range<usize>) {
        let members = self.members();
        let records = numbers.flat_map(|number| {
            let member = &members[number % MEMBERS];
            let day = format!("2026-11-{:02}T10:00:00Z", 1 + number / MEMBERS);
            [order(&format!("o{number}"), member, "400.00"), sign_in(&format!("s{number}"), member, &day)]
                .map(|event| (format!("k{number}"), event))
        });
        self.produce_keyed(&records.collect::<Vec<_>>());
    }

    /// Something that members do with what they have: asked for by all, and there are 25.
    fn redeem(&self) {
        let asks = self.members().into_iter().enumerate().map(|(number, member)| {
            let event = json!({
                "specversion": "1.0", "id": format!("x{number}"), "source": format!("shop/{member}"),
                "type": "redemption.requested", "time": "2026-11-20T10:00:00Z",
                "data": {"member_id": member, "redemption_id": format!("x{number}"), "reward": "mug"},
            });
            (member, event.to_string())
        });
        self.produce_keyed(&asks.collect::<Vec<_>>());
    }

    fn refund(&self, number: usize, id: &str) {
        let member = &self.members()[number % MEMBERS];
        let event = json!({
            "specversion": "1.0", "id": id, "source": format!("shop/{member}"), "type": "order.refunded",
            "time": "2026-11-22T10:00:00Z",
            "data": {"member_id": member, "order_id": format!("o{number}"), "refund_id": id, "amount": "400.00"},
        });
        self.produce_keyed(&[(member.clone(), event.to_string())]);
    }

    /// Points by member, as accounts have them.
    fn balances(&self) -> BTreeMap<String, i64> {
        let accounts = self.accounts(self.members().iter());
        let points = |account: Option<Value>| account.map_or(0, |json| json["available"].as_i64().unwrap());
        accounts.into_iter().map(|(member, account)| (member, points(account))).collect()
    }
}

/// What a Redis holds that must be there again, key by key.
fn held(redis: &OwnRedis) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut redis = redis::Client::open(redis.url()).unwrap().get_connection().unwrap();
    let keys: Vec<String> = redis.keys("accrual:{*").unwrap();
    let mut held = BTreeMap::new();
    for key in keys {
        let part = key.split(':').nth(2).unwrap();
        let content: BTreeMap<String, String> = match part {
            "account" => [(String::new(), redis.get(&key).unwrap())].into(),
            "receipts" | "business" => redis.hgetall(&key).unwrap(),
            "due" => redis.zrange_withscores(&key, 0, -1).unwrap(),
            // The outbox, leases, and where the bucket is.
            _ => continue,
        };
        held.insert(key, content);
    }
    held
}

fn forget(redis: &OwnRedis) {
    let mut redis = redis::Client::open(redis.url()).unwrap().get_connection().unwrap();
    redis::cmd("FLUSHALL").exec(&mut redis).unwrap();
}

#[test]
fn an_empty_redis_is_rebuilt_with_every_account_receipt_and_record_that_was_there() {
    let redis = OwnRedis::start();
    let shop = Shop::open_with("rebuild", &format!("{PLAIN}{CATALOGUE}"), 4, &redis.url());
    shop.orders(0..3 * MEMBERS);
    shop.work_off();
    shop.refund(1, "before");
    shop.redeem();
    shop.work_off();
    let (before, points) = (held(&redis), shop.balances());
    assert!(before.keys().filter(|key| key.contains(":account:")).count() == MEMBERS, "{:?}", before.keys());

    forget(&redis);
    let output = shop.accrual(&["rebuild"]);
    assert_eq!(output.status.code(), Some(2), "nobody can be asked");
    let output = shop.accrual(&["rebuild", "--yes"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said} {}", String::from_utf8_lossy(&output.stderr));
    // An order, a sign-in; a refund; a redemption or why not.
    let events = 2 * 3 * MEMBERS + 1 + MEMBERS;
    assert!(
        said.contains(&format!("restored {MEMBERS} accounts and the receipts of {events} events")),
        "{said}"
    );
    let after = held(&redis);
    for (key, content) in &before {
        assert_eq!(after.get(key), Some(content), "{key}");
    }
    assert_eq!(after.len(), before.len());
    let output = shop.accrual(&["rebuild", "--yes"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("restored 0 accounts and the receipts of 0 events"), "{said}");

    // What is known again keeps everything from counting twice, and a refund finds what its order paid.
    let published = shop.awards().len();
    shop.orders(0..MEMBERS);
    shop.redeem();
    shop.refund(1, "before");
    shop.rewind();
    shop.work_off();
    assert_eq!(shop.awards().len(), published);
    assert_eq!(shop.balances(), points);
    shop.refund(2, "after");
    shop.work_off();
    let member = shop.members().swap_remove(2);
    assert_eq!(shop.balances()[&member], points[&member] - 400);
    let mugs = shop.awards().iter().filter(|entry| entry["type"] == "points.redeemed").count();
    assert_eq!(mugs, 25, "the stock is what it was");
}

#[test]
fn a_redis_that_loses_everything_under_a_running_worker_is_repaired_before_anything_is_committed_to_it() {
    let redis = OwnRedis::start();
    let shop = Shop::open_with("lost", PLAIN, 4, &redis.url());
    let worker = shop.start(&[]);
    let total = |orders: usize| {
        format!(r#"accrual_points_total{{by="rule",kind="earned",rule="purchase"}} {}"#, 400 * orders)
    };
    shop.orders(0..2 * MEMBERS);
    worker.wait_for_metric(&total(2 * MEMBERS));
    for round in 3..5 {
        forget(&redis);
        // Some of them again, and new ones.
        shop.orders((round - 2) * MEMBERS..round * MEMBERS);
        worker.wait_for_metric(&total(round * MEMBERS));
    }
    worker.terminate();
    shop.work_off();
    let awards = shop.awards();
    assert_eq!(ledger(&awards), shop.balances());
    assert!(shop.balances().values().all(|points| *points == 4 * 405), "{:?}", shop.balances());
    shop.check_schemas();
}
