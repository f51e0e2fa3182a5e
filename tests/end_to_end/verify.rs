//! `accrual verify` on a real Kafka and a real Redis: traffic of all kinds is found to be well, also while workers are at it;
//! what somebody writes into Redis or onto a topic by hand is named.

use std::process::Output;

use accrual::types::Buckets;
use redis::Commands;
use serde_json::{Value, json};

use super::broker;
use super::points::event;
use super::shop::{OwnRedis, Shop, order, sign_in};
use super::worker::Exit;

const PROGRAMME: &str = "
programme: end-to-end
timezone: UTC
currency: USD
points: {expire: {after: P1Y}, notice: P30D}
tiers:
  window: P12M
  review: {every: P1Y, drop: one_level}
  levels: [{id: basic, from: 0}, {id: silver, from: 1000}, {id: gold, from: 5000}]
rules:
  - {id: purchase, on: order.paid, earn: {points: 1, per: 1.00}, hold: P14D}
  - {id: sign-in, on: member.signed_in, earn: {points: 5}, limit: {times: 1, per: day}}
  - {id: welcome, on: member.registered, earn: {points: 50}}
campaigns:
  - {id: more, on: order.paid, multiply: 1.5, budget: {points: 9000}}
redemption:
  rate: {points: 100, worth: 1.00}
  rewards: [{id: mug, kind: goods, points: 20, stock: 15}, {id: cash, kind: money}]
";

const MEMBERS: usize = 40;

/// Orders, some refunded, sign-ins, registrations, redemptions, transfers and adjustments; many of them twice.
fn traffic(shop: &Shop, round: usize) -> Vec<(String, String)> {
    let mut events = Vec::new();
    let time = format!("2026-11-{:02}T11:00:00Z", 10 + round);
    for number in 0..MEMBERS {
        let member = shop.member(&format!("m{number}"));
        let id = format!("{round}-{number}");
        events.push(sign_in(&format!("s{id}"), &member, &time));
        events.push(order(&format!("o{id}"), &member, &format!("{}.50", 40 + number * 7)));
        events.push(order(&format!("o{id}"), &member, &format!("{}.50", 40 + number * 7)));
        if round == 0 {
            let data = json!({"birthday": "1990-05-17"});
            events.push(event("member.registered", &format!("g{id}"), &member, &time, data));
        }
        if number % 3 == 0 {
            let data =
                json!({"order_id": format!("o{id}"), "refund_id": format!("f{id}"), "amount": "20.25"});
            events.push(event("order.refunded", &format!("f{id}"), &member, &time, data));
        }
        let data = json!({"redemption_id": format!("x{id}"), "reward": "mug"});
        events.push(event("redemption.requested", &format!("x{id}"), &member, &time, data));
        let to = shop.member(&format!("m{}", (number + 1) % MEMBERS));
        let data = json!({"transfer_id": format!("t{id}"), "to_id": to, "points": 2});
        events.push(event("points.transferred", &format!("t{id}"), &member, &time, data));
        let data =
            json!({"adjustment_id": format!("j{id}"), "points": 7, "reason": "a kind word", "by": "eve"});
        events.push(event("points.adjusted", &format!("j{id}"), &member, &time, data));
    }
    events.into_iter().enumerate().map(|(at, event)| (format!("{}", at % 11), event)).collect()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// What verify found, with its exit code.
fn verify(shop: &Shop, arguments: &[&str]) -> (i32, Value) {
    let output = shop.accrual(&[&["verify", "--json"], arguments].concat());
    let code = output.status.code().unwrap();
    let found = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
    (code, found)
}

fn whats(found: &Value) -> Vec<&str> {
    let differences = found["differences"].as_array().unwrap();
    differences.iter().map(|difference| difference["what"].as_str().unwrap()).collect()
}

#[test]
fn traffic_of_all_kinds_is_well_and_whatever_is_altered_by_hand_is_named() {
    let redis = OwnRedis::start();
    let shop = Shop::open_with("verify", PROGRAMME, 4, &redis.url());
    let mut connection = redis::Client::open(redis.url()).unwrap().get_connection().unwrap();
    let account_of =
        |member: &str| format!("accrual:{{{}}}:account:{member}", Buckets(32).of(&member.into()).0);

    // Two workers of two lanes each publish out of order, and are at it while it is verified.
    let workers = [shop.start(&[]), shop.start(&[])];
    workers.iter().for_each(super::worker::Worker::wait_until_ready);
    for round in 0..6 {
        shop.produce_keyed(&traffic(&shop, round));
        if round % 2 == 1 {
            let (code, found) = verify(&shop, &[]);
            assert_eq!((code, whats(&found)), (0, vec![]), "round {round}: {found:#}");
        }
    }
    for worker in workers {
        assert_eq!(worker.terminate(), Exit::Code(0));
    }
    shop.work_off();
    let page = shop.accrual(&["verify"]);
    assert!(page.status.success() && said(&page).contains("all is well"), "{}", said(&page));
    let (code, found) = verify(&shop, &["--memory", "1m"]);
    assert_eq!((code, whats(&found), &found["undecided"]), (0, vec![], &json!([])), "{found:#}");
    let number = |what: &str| found[what].as_u64().unwrap();
    assert_eq!((number("members"), number("sound"), number("budgets")), (MEMBERS as u64, MEMBERS as u64, 2));
    assert!(
        number("records") > 1_500 && number("receipts") > 1_500 && number("snapshots") >= 40,
        "{found:#}"
    );
    let heads = shop.file("heads");
    let written = shop.accrual(&["verify", "--heads", &heads]);
    assert!(written.status.success(), "{}", said(&written));
    let (code, found) = verify(&shop, &["--against", &heads]);
    assert_eq!((code, &found["heads"]), (0, &json!(MEMBERS)), "{found:#}");

    // Points that somebody gives by hand.
    let ann = shop.member("m1");
    let json: String = connection.get(account_of(&ann)).unwrap();
    let mut account: Value = serde_json::from_str(&json).unwrap();
    let had = account["available"].as_i64().unwrap();
    account["available"] = json!(had + 5_000);
    let lots = account["lots"].as_array_mut().expect("points that can be spent");
    lots.push(json!([5_000, 4_102_444_800_i64]));
    connection.set::<_, _, ()>(account_of(&ann), account.to_string()).unwrap();
    let page = shop.accrual(&["verify"]);
    let text = said(&page);
    assert_eq!(page.status.code(), Some(1), "{text}");
    assert!(
        text.contains(&format!("member {ann}\n")) && text.contains(&format!("expected  available {had}")),
        "{text}"
    );
    assert!(text.contains("DIFFER") && text.contains("verify --fix"), "{text}");
    // Nobody is asked and nothing is sent without a word.
    assert_eq!(shop.accrual(&["verify", "--fix"]).status.code(), Some(2));
    let fixed = shop.accrual(&["verify", "--member", &ann, "--fix", "--yes"]);
    assert!(said(&fixed).contains(&format!("-5000 points for member {ann}")), "{}", said(&fixed));
    let again = shop.accrual(&["verify", "--member", &ann, "--fix", "--yes"]);
    assert_eq!(again.status.code(), Some(1), "no worker has taken it yet");
    shop.work_off();
    let awards = shop.awards();
    let taken = awards.iter().filter(|award| award["data"]["operator"] == "accrual verify");
    let taken: Vec<i64> = taken.map(|award| award["data"]["points"].as_i64().unwrap()).collect();
    assert_eq!(taken, [-5_000], "once, however often it was sent");
    let (code, found) = verify(&shop, &[]);
    assert_eq!(
        (code, whats(&found), &found["notes"]["adjusted"]["members"]),
        (0, vec![], &json!(1)),
        "{found:#}"
    );

    // A receipt, a moment, a budget and an account.
    let [bob, eve, joe] = ["m2", "m3", "m5"].map(|name| shop.member(name));
    let bucket = |member: &String| Buckets(32).of(&member.as_str().into()).0;
    let receipts: Vec<String> = connection.keys(format!("accrual:{{{}}}:receipts:*", bucket(&bob))).unwrap();
    let gone: usize = connection.hdel(&receipts[0], format!("e shop/{bob} s0-2")).unwrap();
    assert_eq!(gone, 1, "the receipt of a sign-in");
    let gone: usize = connection.zrem(format!("accrual:{{{}}}:due", bucket(&eve)), &eve).unwrap();
    assert_eq!(gone, 1, "when something falls due");
    connection.hincr::<_, _, _, ()>("accrual:budget:more", "settled", 3).unwrap();
    connection.del::<_, ()>(account_of(&joe)).unwrap();
    let (code, found) = verify(&shop, &[]);
    let named: Vec<(&str, &str)> = found["differences"]
        .as_array()
        .unwrap()
        .iter()
        .map(|difference| {
            (difference["what"].as_str().unwrap(), difference["member_id"].as_str().unwrap_or_default())
        })
        .collect();
    assert_eq!(code, 1);
    assert_eq!(
        named,
        [("budget", ""), ("receipt", bob.as_str()), ("due", eve.as_str()), ("no_account", joe.as_str())],
        "{found:#}"
    );
    let (code, found) = verify(&shop, &["--member", &eve, "--member", &ann, "--quick"]);
    assert_eq!((code, whats(&found), &found["members"]), (1, vec!["due"], &json!(2)), "{found:#}");

    // A record that somebody puts onto the topic: an order of another's, and a copy that pays more.
    let sam = shop.member("m7");
    let awards = shop.awards();
    let mine = awards.iter().find(|award| {
        award["data"]["member_id"] == sam.as_str()
            && award["type"] == "points.pending"
            && award["data"]["version"] != 1
    });
    let mut forged = mine.unwrap().clone();
    forged["data"]["points"] = json!(forged["data"]["points"].as_i64().unwrap() + 10_000);
    let version = forged["data"]["version"].as_u64().unwrap();
    broker::produce(
        &format!("{}.awards", shop.name),
        [(sam.as_str(), forged.to_string().as_str(), [].as_slice())],
    );
    let (code, found) = verify(&shop, &["--member", &sam]);
    assert_eq!((code, whats(&found)), (1, vec!["inserted"]), "{found:#}");
    let inserted = &found["differences"][0];
    assert_eq!(inserted["version"], json!(version));
    assert!(inserted["at"].as_str().unwrap().starts_with(&format!("{}.awards/", shop.name)), "{inserted:#}");
}
