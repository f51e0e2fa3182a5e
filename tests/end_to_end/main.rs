//! The real binary on a real Kafka and a real Redis, as a user runs it. `./test` brings both up.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::missing_panics_doc
)]

mod broker;
mod dead_letters;
mod points;
mod rebuild;
mod recreated;
mod shop;
mod upgrade;
mod verify;
#[path = "../support/worker.rs"]
mod worker;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use serde_json::Value;

use broker::Header;
use shop::{Shop, order, sign_in};
use worker::Exit;

/// One point a whole unit of money, tiers at 0/100/500/2000.
const PLAIN: &str = "
programme: end-to-end
timezone: UTC
currency: USD
tiers:
  window: lifetime
  levels: [{id: basic, from: 0}, {id: silver, from: 100}, {id: gold, from: 500}, {id: diamond, from: 2000}]
rules:
  - {id: purchase, on: order.paid, earn: {points: 1, per: 1.00}}
  - {id: sign-in, on: member.signed_in, earn: {points: 5}, limit: {times: 1, per: day}}
";

/// Points by member over the ledger, each award id once.
fn ledger(awards: &[Value]) -> BTreeMap<String, i64> {
    let mut ids = HashSet::new();
    let mut points = BTreeMap::new();
    for award in awards {
        assert!(ids.insert(award["id"].as_str().unwrap()), "published twice: {award}");
        let member = award["data"]["member_id"].as_str().unwrap();
        // What is only noted moves none.
        let moved = if award["type"] == "member.noted" { Some(0) } else { award["data"]["points"].as_i64() };
        *points.entry(member.to_owned()).or_default() += moved.unwrap();
    }
    points
}

#[test]
fn real_orders_over_partitions_and_lanes_equal_a_plain_computation() {
    let shop = Shop::open("cdnow", PLAIN, 4);
    let sample = std::env::var("ACCRUAL_TEST_ORDERS")
        .unwrap_or_else(|_| "../shared/data/cdnow-sample.jsonl".to_owned());
    // The orders are public research data that is not shipped with the project; without them the
    // same is tested on made orders.
    let lines: Vec<String> = match std::fs::read_to_string(&sample) {
        Ok(text) => text.lines().map(str::to_owned).collect(),
        Err(error) => {
            println!("{sample}: {error}; testing with made orders instead");
            (0..3_000)
                .map(|n| {
                    order(
                        &format!("o{n}"),
                        &format!("m{:05}", n % 700),
                        &format!("{}.{:02}", n % 150, n % 100),
                    )
                })
                .collect()
        }
    };
    let mut expected: BTreeMap<String, i64> = BTreeMap::new();
    let mut records = Vec::new();
    for line in &lines {
        let mut event: Value = serde_json::from_str(line).unwrap();
        let member = shop.member(event["data"]["member_id"].as_str().unwrap());
        event["data"]["member_id"] = member.clone().into();
        // Whole dollars, told from the text alone.
        let whole: i64 =
            event["data"]["amount"].as_str().unwrap().split('.').next().unwrap().parse().unwrap();
        *expected.entry(member).or_default() += whole;
        records.push((event["data"]["order_id"].as_str().unwrap().to_owned(), event.to_string()));
    }
    shop.produce_keyed(&records);
    shop.work_off();

    assert_eq!(ledger(&shop.awards()), expected, "the ledger");
    // Two lanes may publish one member's changes in the other order: the greater version is the newer.
    let mut changes = shop.tier_changes();
    changes.sort_by_key(|change| change["data"]["version"].as_u64());
    let mut tiers: HashMap<String, String> = HashMap::new();
    for change in changes {
        let data = &change["data"];
        tiers.insert(data["member_id"].as_str().unwrap().to_owned(), data["to"].as_str().unwrap().to_owned());
    }
    let accounts = shop.accounts(expected.keys());
    for (member, points) in &expected {
        let account = accounts[member].as_ref().unwrap_or_else(|| panic!("{member} has no account"));
        assert_eq!(account["available"].as_i64(), Some(*points), "{member}");
        let tier = match points {
            ..100 => "basic",
            100..500 => "silver",
            500..2000 => "gold",
            _ => "diamond",
        };
        let held = account["tier"]["id"].as_str().unwrap_or("basic");
        assert_eq!(held, tier, "{member} in Redis with {points} points");
        assert_eq!(tiers.get(member).map_or("basic", String::as_str), tier, "{member} on the topic");
    }
    // The newest snapshot of each account is the account.
    let mut snapshots: HashMap<String, Value> = HashMap::new();
    for snapshot in shop.snapshots() {
        let newer = snapshots
            .get(snapshot["subject"].as_str().unwrap())
            .is_none_or(|held| held["v"].as_u64() < snapshot["data"]["v"].as_u64());
        if newer {
            snapshots.insert(snapshot["subject"].as_str().unwrap().to_owned(), snapshot["data"].clone());
        }
    }
    for (member, account) in &accounts {
        assert_eq!(snapshots.get(member), account.as_ref(), "the snapshot of {member}");
    }
}

#[test]
fn a_worker_killed_again_and_again_neither_loses_nor_repeats_a_point() {
    let shop = Shop::open("killed", PLAIN, 4);
    let mut expected: BTreeMap<String, i64> = BTreeMap::new();
    let mut records = Vec::new();
    for number in 0..20_000_u32 {
        // Few members over all partitions, so that two lanes meet on each.
        let member = shop.member(&format!("m{}", number % 97));
        *expected.entry(member.clone()).or_default() += i64::from(number % 50);
        records.push((
            format!("{number}"),
            order(&format!("o{number}"), &member, &format!("{}.99", number % 50)),
        ));
    }
    shop.produce_keyed(&records);
    for round in 0..6_u64 {
        let worker = shop.start(&["--until-idle"]);
        // Another moment each time: while joining, in the first batch, between batches.
        std::thread::sleep(Duration::from_millis(1_500 + 350 * round));
        worker.kill();
    }
    shop.work_off();
    let ledger = ledger(&shop.awards());
    let accounts = shop.accounts(expected.keys());
    // Sums first: where the topic and Redis differ, they say which of them lacks something.
    let balances = accounts.values().flatten().filter_map(|account| account["available"].as_i64());
    let sums = (ledger.values().sum::<i64>(), balances.sum::<i64>());
    let all: i64 = expected.values().sum();
    assert_eq!(sums, (all, all), "on the topic and in Redis");
    assert_eq!(ledger, expected);
    for (member, account) in accounts {
        assert_eq!(account.unwrap()["available"].as_i64(), Some(expected[&member]), "{member}");
    }
}

#[test]
fn lanes_of_workers_that_are_killed_and_stopped_never_overspend_a_budget_and_count_every_point_of_it() {
    const BUDGET: i64 = 30_000;
    let redis = shop::OwnRedis::start();
    let programme =
        format!("{PLAIN}campaigns: [{{id: gift, on: order.paid, add: 3, budget: {{points: {BUDGET}}}}}]\n");
    let shop = Shop::open_with("budget", &programme, 4, &redis.url());
    let orders = 20_000;
    let records: Vec<(String, String)> = (0..orders)
        .map(|n| (n.to_string(), order(&format!("o{n}"), &shop.member(&format!("m{}", n % 97)), "1.00")))
        .collect();
    shop.produce_keyed(&records);
    for round in 0..3_u64 {
        // One is killed while the other goes on.
        let (killed, stopped) = (shop.start(&["--until-idle"]), shop.start(&[]));
        std::thread::sleep(Duration::from_millis(3_000 + 300 * round));
        killed.kill();
        assert_eq!(stopped.terminate(), Exit::Code(0));
    }
    shop.work_off();

    let awards = shop.awards();
    ledger(&awards);
    let gifts = || awards.iter().filter(|award| award["data"]["campaign"] == "gift");
    let sum = |field: &str| gifts().filter_map(|award| award["data"][field].as_i64()).sum::<i64>();
    let (given, declined) = (sum("points"), sum("declined"));
    assert_eq!(given + declined, orders * 3, "every order is given its gift or told why not");
    assert!(gifts().all(|award| award["data"]["declined"].is_null() || award["data"]["reason"] == "budget"));
    // How much, nobody can say: those that were killed take what they had leased with them for a while.
    assert!((1..=BUDGET).contains(&given), "{given}");

    // What Redis says of it: of leases that ended, and of those whose holders were killed.
    let (settled, leased, counted) = shop.budget("gift");
    assert_eq!(settled + counted, given, "{leased} leased");
    assert!(settled + leased <= BUDGET, "{settled} settled, {leased} leased");
}

#[test]
fn rewinding_the_group_to_the_start_pays_nothing_twice() {
    let shop = Shop::open("rewound", PLAIN, 3);
    let records: Vec<(String, String)> = (0..2_000)
        .map(|n| (n.to_string(), order(&format!("o{n}"), &shop.member(&format!("m{}", n % 40)), "7.00")))
        .collect();
    shop.produce_keyed(&records);
    shop.work_off();
    let first = shop.awards();
    assert_eq!(first.len(), 2_000);
    shop.rewind();
    shop.work_off();
    assert_eq!(shop.awards().len(), first.len(), "nothing is published again");
    assert_eq!(ledger(&shop.awards()).values().sum::<i64>(), 14_000);
}

#[test]
fn what_upstream_repeats_counts_once_and_what_it_breaks_becomes_a_dead_letter() {
    let shop = Shop::open("broken", PLAIN, 2);
    let member = shop.member("ann");
    let paid = order("o1", &member, "10.50");
    let other_id = paid.replace(r#""id":"o1""#, r#""id":"o1-again""#);
    let conflicting = paid.replace("10.50", "99.00");
    let broken = [
        ("not_json", "{oops".to_owned()),
        ("not_json", String::from_utf8_lossy(b"").into_owned()),
        ("no_id", paid.replace(r#""id":"o1""#, r#""id":"""#)),
        ("no_type", paid.replace(r#""type":"order.paid","#, "")),
        ("no_time", paid.replace(r#""time":"2026-11-22T10:00:00Z","#, "")),
        ("bad_time", paid.replace("2026-11-22T10:00:00Z", "yesterday")),
        ("no_member", paid.replace(&format!(r#""member_id":"{member}""#), r#""member_id":"""#)),
        ("bad_amount", paid.replace("10.50", "-1.00")),
        ("bad_amount", paid.replace(r#""10.50""#, "1e999")),
        ("bad_amount", paid.replace("10.50", "1.005")),
        ("wrong_currency", paid.replace("USD", "EUR")),
        ("wrong_kind", paid.replace(r#""10.50""#, "[10.5]")),
        ("conflicting_duplicate", conflicting),
        // What no refund is without, its own name.
        ("missing_field", paid.replace("order.paid", "order.refunded")),
        (
            "too_large",
            paid.replace("\"specversion\"", &format!("\"pad\":\"{}\",\"specversion\"", "x".repeat(70_000))),
        ),
    ];
    // One key, so that all come in this order.
    let mut records =
        vec![("k".to_owned(), paid.clone()), ("k".to_owned(), paid.clone()), ("k".to_owned(), other_id)];
    records.push(("k".to_owned(), paid.replace("order.paid", "page.viewed")));
    records.extend(broken.iter().map(|(_, payload)| ("k".to_owned(), payload.clone())));
    records.push(("k".to_owned(), sign_in("s1", &member, "2026-11-22T23:59:59Z")));
    records.push(("k".to_owned(), sign_in("s2", &member, "2026-11-22T08:00:00+08:00")));
    shop.produce_keyed(&records);
    shop.work_off();

    let letters = shop.dead_letters();
    let mut found: Vec<(String, Vec<u8>)> =
        letters.iter().map(|letter| (letter.header("accrual-reason"), letter.payload.clone())).collect();
    let mut expected: Vec<(String, Vec<u8>)> =
        broken.iter().map(|(reason, payload)| ((*reason).to_owned(), payload.clone().into_bytes())).collect();
    found.sort();
    expected.sort();
    assert_eq!(
        found.iter().map(|(reason, _)| reason).collect::<Vec<_>>(),
        expected.iter().map(|(reason, _)| reason).collect::<Vec<_>>()
    );
    assert!(found == expected, "the records are not byte for byte as they came");
    for letter in &letters {
        assert!(!letter.header("accrual-detail").is_empty());
        assert_eq!(letter.header("accrual-topic"), shop.input());
        letter.header("accrual-offset").parse::<i64>().unwrap();
        assert_eq!(letter.key.as_deref(), Some(b"k".as_slice()));
    }
    let awards = shop.awards();
    let kinds: Vec<(&str, i64)> = awards
        .iter()
        .map(|award| (award["type"].as_str().unwrap(), award["data"]["points"].as_i64().unwrap()))
        .collect();
    assert_eq!(kinds, [("points.earned", 10), ("points.earned", 5), ("points.declined", 0)]);
    assert_eq!(awards[2]["data"]["reason"], "limit_times");
    assert_eq!(awards[2]["data"]["declined"], 5);
    assert_eq!(awards[0]["data"]["event"]["id"], "o1");
    assert_eq!(awards[0]["subject"], member.as_str());
    assert_eq!(awards[0]["time"], "2026-11-22T10:00:00Z");
    shop.check_schemas();
}

#[test]
fn a_record_as_large_as_its_topic_takes_is_a_dead_letter_byte_for_byte_and_work_goes_on() {
    let mut shop = Shop::open("large", PLAIN, 1);
    // More than librdkafka sends and than topics take, unless they are told.
    shop.send_to("large", 11 << 20);
    let member = shop.member("ann");
    // Text that compression does not make smaller.
    let hex = |number: u64| format!("{:016x}", number.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29));
    let noise: String = (1..=(10 << 20) / 16).map(hex).collect();
    let large = [&noise[..1_040_000], &noise, &noise[..1_100_000]];
    let mut records: Vec<(String, String)> =
        large.iter().map(|text| ("k".to_owned(), (*text).to_owned())).collect();
    records.insert(1, ("k".to_owned(), order("o1", &member, "10.00")));
    records.push(("k".to_owned(), order("o2", &member, "5.00")));
    shop.produce_keyed(&records);
    shop.work_off();
    let letters = shop.dead_letters();
    assert_eq!(letters.len(), large.len());
    for (letter, sent) in letters.iter().zip(large) {
        assert_eq!(letter.header("accrual-reason"), "too_large");
        assert!(letter.payload == sent.as_bytes(), "{} bytes of {}", letter.payload.len(), sent.len());
    }
    assert_eq!(shop.awards().len(), 2);

    // Where the dead letters would not take what an input takes, that is said before anything is read.
    shop.send_to("larger", 20 << 20);
    let refused = shop.accrual(&["run", "--until-idle"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success());
    assert!(said.contains("takes records of 11599872 bytes and an input of 20971520"), "{said}");
    assert!(said.contains("--add-config max.message.bytes=21037056"), "{said}");
}

#[test]
fn binary_cloudevents_pay_as_structured_ones_do() {
    let shop = Shop::open("binary", PLAIN, 1);
    let member = shop.member("bob");
    let data = format!(r#"{{"member_id":"{member}","order_id":"b1","amount":42.99,"currency":"USD"}}"#);
    let headers = [
        ("ce_specversion", "1.0"),
        ("ce_id", "b1"),
        ("ce_source", "shop/till"),
        ("ce_type", "order.paid"),
        ("ce_time", "2026-11-22T10:00:00Z"),
        ("content-type", "application/json"),
    ];
    let headers: Vec<Header> =
        headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    shop.produce_with_headers("k", &data, &headers);
    shop.work_off();
    let awards = shop.awards();
    assert_eq!(awards.len(), 1);
    assert_eq!(awards[0]["data"]["points"], 42);
    assert_eq!(awards[0]["data"]["event"]["source"], "shop/till");
}

#[test]
fn a_referrer_is_paid_once_through_the_internal_topic_and_nobody_else_writes_to_it() {
    let rule = "  - {id: invite, on: member.registered, earn: {points: 50}, to: referrer}
  - {id: converted, on: member.registered, earn: {points: 30}, to: referrer, after: first_order}\n";
    let shop = Shop::open("referred", &format!("{PLAIN}{rule}"), 3);
    let ann = shop.member("ann");
    let mut records = Vec::new();
    for number in 0..200 {
        let newcomer = shop.member(&format!("n{number}"));
        let registered = sign_in(&format!("r{number}"), &newcomer, "2026-11-22T09:00:00Z")
            .replace("member.signed_in", "member.registered")
            .replace(r#""data":{"#, &format!(r#""data":{{"referrer_id":"{ann}","#));
        records.push((format!("{number}"), registered));
        records.push((format!("{number}"), order(&format!("o{number}"), &newcomer, "1.00")));
    }
    let forged =
        sign_in("forged", &ann, "2026-11-22T09:00:00Z").replace("member.signed_in", "member.referred");
    records.push(("forged".to_owned(), forged));
    shop.produce_keyed(&records);
    shop.start(&["--until-idle"]).kill_after(Duration::from_secs(4));
    shop.work_off();
    shop.rewind();
    shop.work_off();

    let awards = shop.awards();
    assert_eq!(ledger(&awards)[&ann], 200 * 80);
    assert_eq!(shop.accounts([ann.clone()].iter())[&ann].as_ref().unwrap()["available"], 200 * 80);
    let letters = shop.dead_letters();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].header("accrual-reason"), "reserved_type");
    shop.check_schemas();
}

#[test]
fn the_clock_gives_a_birthday_gift_once_to_a_member_who_never_comes() {
    let redis = shop::OwnRedis::start();
    let gift = "  - {id: gift, on: member.birthday, earn: {points: 200}, give: ten-off}
redemption: {rewards: [{id: ten-off, kind: coupon, points: 900, worth: 10.00}]}\n";
    let shop = Shop::open_with("birthday", &format!("{PLAIN}{gift}"), 2, &redis.url());
    let ann = shop.member("ann");
    // Told three days ago, born on the day before yesterday.
    let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
    let ago = |days: i64| now.checked_sub(jiff::Span::new().days(days)).unwrap();
    let told = ago(3).strftime("%Y-%m-%dT12:00:00Z").to_string();
    let birthday = ago(2).strftime("1990-%m-%d").to_string();
    let registered = sign_in("r", &ann, &told)
        .replace("member.signed_in", "member.registered")
        .replace(r#""data":{"#, &format!(r#""data":{{"birthday":"{birthday}","#));
    shop.produce_keyed(&[("k".to_owned(), registered)]);
    let paid = r#"accrual_points_total{by="rule",kind="earned",rule="gift"} 200"#;
    for round in 0..2 {
        let workers = [shop.start(&[]), shop.start(&[])];
        workers.iter().for_each(worker::Worker::wait_until_ready);
        let deadline = std::time::Instant::now() + broker::PATIENCE;
        while round == 0 && !workers.iter().any(|worker| worker.get("/metrics").1.contains(paid)) {
            assert!(std::time::Instant::now() < deadline, "nobody gives the gift");
            std::thread::sleep(Duration::from_millis(100));
        }
        // Longer than the clock takes to look again.
        std::thread::sleep(Duration::from_secs(7));
        for worker in workers {
            assert_eq!(worker.terminate(), Exit::Code(0));
        }
    }
    let awards = shop.awards();
    let gifts: Vec<&Value> = awards.iter().filter(|award| award["data"]["rule"] == "gift").collect();
    let types: Vec<&Value> = gifts.iter().map(|gift| &gift["type"]).collect();
    assert_eq!(types, ["points.earned", "reward.granted"], "{awards:#?}");
    let coupon = serde_json::json!({"id": "ten-off", "kind": "coupon", "worth": "10.00"});
    assert_eq!(gifts[1]["data"]["reward"], coupon);
    assert_eq!(gifts[0]["time"], ago(2).strftime("%Y-%m-%dT00:00:00+00:00").to_string());
    assert_eq!(gifts[0]["data"]["event"]["type"], "member.birthday");
    assert_eq!(shop.accounts([ann.clone()].iter())[&ann].as_ref().unwrap()["available"], 200);
    shop.check_schemas();
}

#[test]
fn sigterm_ends_the_worker_with_0_and_what_it_had_begun_is_finished_by_the_next() {
    let shop = Shop::open("terminated", PLAIN, 4);
    let records: Vec<(String, String)> = (0..5_000)
        .map(|n| (n.to_string(), order(&format!("o{n}"), &shop.member(&format!("m{}", n % 40)), "1.00")))
        .collect();
    shop.produce_keyed(&records);
    let worker = shop.start(&[]);
    worker.wait_until_ready();
    assert_eq!(worker.terminate(), Exit::Code(0));
    shop.work_off();
    assert_eq!(ledger(&shop.awards()).values().sum::<i64>(), 5_000);
}

#[test]
fn http_says_how_the_worker_is_and_what_a_member_has() {
    let shop = Shop::open("http", PLAIN, 2);
    let member = shop.member("carl+1");
    shop.produce_keyed(&[("k".to_owned(), order("o1", &member, "130.00")), ("k".to_owned(), "{".to_owned())]);
    let worker = shop.start(&[]);
    worker.wait_until_ready();
    worker.wait_for_metric(r#"accrual_dead_letters_total{reason="not_json"} 1"#);
    worker.wait_for_metric(&format!(
        r#"accrual_consumer_lag_records{{partition="0",topic="{}"}} 0"#,
        shop.input()
    ));
    assert_eq!(worker.get("/livez").0, 200);
    let (status, body) = worker.get(&format!("/v1/accounts/{}", member.replace('+', "%2B")));
    assert_eq!(status, 200, "{body}");
    let account: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(account["member_id"], member.as_str());
    assert_eq!(account["available"], 130);
    assert_eq!(account["pending"], 0);
    assert_eq!(account["tier"]["id"], "silver");
    assert_eq!(account["tier"]["next"]["id"], "gold");
    assert_eq!(account["tier"]["next"]["missing"], 370);
    assert_eq!(account["lots"][0]["points"], 130);
    assert_eq!(account["history"][0]["rule"], "purchase");
    assert_eq!(worker.get("/v1/accounts/nobody").0, 404);
    let openapi: Value = serde_json::from_str(&worker.get("/v1/openapi.json").1).unwrap();
    assert!(openapi["paths"]["/v1/accounts/{member}"].is_object());
    let metrics = worker.get("/metrics").1;
    for series in [
        r#"accrual_events_total{result="applied",type="order.paid"} 1"#,
        r#"accrual_points_total{by="rule",kind="earned",rule="purchase"} 130"#,
        r#"accrual_tier_changes_total{from="basic",to="silver"} 1"#,
        r#"accrual_transactions_total{outcome="committed"}"#,
        "accrual_end_to_end_seconds_count 1",
        "process_resident_memory_bytes",
    ] {
        assert!(metrics.contains(series), "{series} is not in:\n{metrics}");
    }
    // The command line shows the same.
    let shown = shop.accrual(&["account", &member, "--json"]);
    assert_eq!(shown.status.code(), Some(0), "{}", String::from_utf8_lossy(&shown.stderr));
    assert_eq!(serde_json::from_slice::<Value>(&shown.stdout).unwrap(), account);
    assert_eq!(shop.accrual(&["account", "nobody"]).status.code(), Some(1));
    assert_eq!(worker.terminate(), Exit::Code(0));
}

#[test]
fn another_version_of_the_programme_is_taken_up_as_it_runs_and_a_broken_one_leaves_the_old_one_running() {
    let shop = Shop::open("reload", PLAIN, 2);
    let member = shop.member("erin");
    let pay = |id: &str| shop.produce_keyed(&[("k".to_owned(), order(id, &member, "10.00"))]);
    let earned =
        |points: i64| format!(r#"accrual_points_total{{by="rule",kind="earned",rule="purchase"}} {points}"#);
    let version = |text: &str| {
        let version = accrual::programme::Programme::parse("programme.yaml", text).unwrap().version;
        format!(r#"programme_version="{version}""#)
    };
    let worker = shop.start(&[]);
    worker.wait_until_ready();
    pay("o1");
    worker.wait_for_metric(&earned(10));

    // By the file alone.
    let tripled = PLAIN.replace("points: 1, per", "points: 3, per");
    shop.write("programme.yaml", &tripled);
    worker.wait_for_metric(&version(&tripled));
    pay("o2");
    worker.wait_for_metric(&earned(40));

    // A broken one, and one that accounts were not made with.
    for wrong in [tripled.replace("earn:", "eran:"), tripled.replace("timezone: UTC", "timezone: Asia/Tokyo")]
    {
        shop.write("programme.yaml", &wrong);
        worker.wait_for_metric("accrual_programme_wrong 1");
        assert!(worker.get("/metrics").1.contains(&version(&tripled)));
        pay(if wrong.contains("Tokyo") { "o4" } else { "o3" });
        worker.wait_for_metric(&earned(if wrong.contains("Tokyo") { 100 } else { 70 }));
        shop.write("programme.yaml", &tripled);
        worker.wait_for_metric("accrual_programme_wrong 0");
    }

    // By SIGHUP.
    shop.write("programme.yaml", PLAIN);
    worker.hang_up();
    worker.wait_for_metric(&version(PLAIN));
    assert_eq!(worker.terminate(), Exit::Code(0));
    let awards = shop.awards();
    let versions: Vec<&str> =
        awards.iter().map(|award| award["data"]["programme"]["version"].as_str().unwrap()).collect();
    assert!(versions[0] != versions[1] && versions[1..].iter().all(|version| *version == versions[1]));
}

#[test]
fn the_next_version_is_shipped_ahead_and_events_are_decided_by_the_version_of_their_own_time() {
    let shop = Shop::open("versions", PLAIN, 2);
    let next = PLAIN
        .replace("points: 1, per", "points: 3, per")
        .replace("currency: USD", "currency: USD\neffective_from: 2026-11-23T00:00")
        + "  - {id: game, on: game.played, earn: {points: 50}}\n";
    shop.write("next.yaml", &next);
    let settings =
        shop.settings().replace("programme: programme.yaml", "programme: [next.yaml, programme.yaml]");
    shop.write("accrual.yaml", &settings);
    let member = shop.member("fay");
    let at = |payload: String, time: &str| payload.replace("2026-11-22T10:00:00Z", time);
    let game = |id: &str| order(id, &member, "1.00").replace("order.paid", "game.played");
    let sent = [
        order("o1", &member, "10.00"),
        at(order("o2", &member, "10.00"), "2026-11-22T23:59:59Z"),
        at(order("o3", &member, "10.00"), "2026-11-23T00:00:00Z"),
        game("g1"),
        at(game("g2"), "2026-11-23T10:00:00Z"),
        // Late: it happened under the first version.
        order("o4", &member, "10.00"),
    ];
    let records: Vec<(String, String)> = sent.map(|payload| ("k".to_owned(), payload)).into();
    shop.produce_keyed(&records);
    let worker = shop.start(&[]);
    worker.wait_until_ready();
    worker.wait_for_metric(r#"accrual_points_total{by="rule",kind="earned",rule="purchase"} 60"#);
    worker.wait_for_metric(r#"accrual_events_total{result="skipped",type="other"} 1"#);

    // A third version beside them cannot be added while it runs, but the second be changed.
    let changed = next.replace("points: 3, per", "points: 5, per");
    shop.write("next.yaml", &changed);
    let version = |text: &str| accrual::programme::Programme::parse("programme.yaml", text).unwrap().version;
    worker.wait_for_metric(&format!(r#"programme_version="{}""#, version(&changed)));
    let late = [order("o5", &member, "10.00"), at(order("o6", &member, "10.00"), "2026-11-24T10:00:00Z")];
    shop.produce_keyed(&late.map(|payload| ("k".to_owned(), payload)));
    worker.wait_for_metric(r#"accrual_points_total{by="rule",kind="earned",rule="purchase"} 120"#);
    assert_eq!(worker.terminate(), Exit::Code(0));

    let (first, next, changed) = (version(PLAIN), version(&next), version(&changed));
    let awards = shop.awards();
    let found: Vec<(&str, i64, &str)> = awards
        .iter()
        .map(|award| {
            let data = &award["data"];
            let id = data["event"]["id"].as_str().unwrap();
            (id, data["points"].as_i64().unwrap(), data["programme"]["version"].as_str().unwrap())
        })
        .collect();
    assert_eq!(
        found,
        [
            ("o1", 10, first.as_str()),
            ("o2", 10, &first),
            ("o3", 30, &next),
            ("g2", 50, &next),
            ("o4", 10, &first),
            ("o5", 10, &first),
            ("o6", 50, &changed),
        ]
    );
    assert!(shop.dead_letters().is_empty());
    shop.check_schemas();
}

#[test]
fn a_programme_that_is_changed_while_the_worker_waits_for_redis_decides_the_first_event() {
    let mut redis = shop::OwnRedis::start();
    let shop = Shop::open_with("changed-at-start", PLAIN, 1, &redis.url());
    redis.stop();
    let worker = shop.start(&[]);
    worker.wait_for_status("/readyz", 503);
    // It has loaded the programme before it serves HTTP.
    shop.write("programme.yaml", &PLAIN.replace("points: 1, per", "points: 3, per"));
    shop.produce_keyed(&[("k".to_owned(), order("o1", &shop.member("gus"), "10.00"))]);
    redis.restart();
    worker.wait_for_metric(r#"accrual_points_total{by="rule",kind="earned",rule="purchase"} 30"#);
    assert_eq!(worker.terminate(), Exit::Code(0));
}

#[test]
fn why_an_event_paid_what_it_paid_is_told_rule_by_rule() {
    let programme = format!(
        "{PLAIN}  - {{id: review, on: review.posted, when: size(data.text) >= 20, earn: {{points: 20}}}}\n"
    );
    let shop = Shop::open("explain", &programme, 1);
    let member = shop.member("fay+1");
    let other = shop.member("gus");
    let review = sign_in("r 1/2", &member, "2026-11-22T12:00:00Z")
        .replace("member.signed_in", "review.posted")
        .replace(r#""data":{"#, r#""data":{"review_id":"r","text":"short","#);
    let mut records = vec![
        order("o1", &member, "130.50"),
        sign_in("s1", &member, "2026-11-22T10:00:00Z"),
        sign_in("s2", &member, "2026-11-22T11:00:00Z"),
        review,
    ];
    // Others' entries on the same topics.
    records.extend((0..500).map(|number| order(&format!("x{number}"), &other, "1.00")));
    shop.produce_keyed(&records.into_iter().map(|record| ("k".to_owned(), record)).collect::<Vec<_>>());
    let worker = shop.start(&[]);
    worker.wait_for_metric(&format!(
        r#"accrual_consumer_lag_records{{partition="0",topic="{}"}} 0"#,
        shop.input()
    ));
    worker.wait_for_metric(r#"accrual_points_total{by="rule",kind="earned",rule="purchase"} 630"#);

    let version = accrual::programme::Programme::parse("programme.yaml", &programme).unwrap().version;
    let asked = ["o1", "s2", "r 1/2"].map(|id| {
        let shown = shop.accrual(&["explain", id, "--member", &member]);
        assert_eq!(shown.status.code(), Some(0), "{}", String::from_utf8_lossy(&shown.stderr));
        let page = String::from_utf8(shown.stdout).unwrap();
        page.replace(&member, "fay").replace(&shop.input(), "in").replace(&version, "VERSION")
    });
    let expected = "order.paid  shop/fay o1  2026-11-22T10:00:00+00:00  (in/0/0)
  member fay, basic, 0 points before

  rule purchase  +130 points  130.50 × 1 per 1.00

  tier silver  reached  measured 130

  in all 130 points; version VERSION of programme end-to-end; decided again, it comes to the same

member.signed_in  shop/fay s2  2026-11-22T11:00:00+00:00  (in/0/2)
  member fay, silver, 135 points before

  rule sign-in  –  5 points each time; 5 points cut: the limit of once a day

  in all 0 points; version VERSION of programme end-to-end; decided again, it comes to the same

review.posted  shop/fay r 1/2  2026-11-22T12:00:00+00:00  (in/0/3)
  member fay, silver, 135 points at that time

  rule review  –  `when` did not hold: size(data.text) >= 20

  in all 0 points; programme end-to-end; decided again, it comes to the same
  note: it changed nothing, so that nothing says when it was decided: what is asked of the member is shown as of the event's own time
";
    assert_eq!(asked.join("\n"), expected);

    // Over HTTP the same, also by a source; without a member every bucket is searched.
    let path = format!("/v1/accounts/{}/explain/", member.replace('+', "%2B"));
    for (id, encoded) in [("o1", "o1"), ("s2", "s2"), ("r 1/2", "r%201%2F2")] {
        let (status, body) =
            worker.get(&format!("{path}{encoded}?source=shop/{}", member.replace('+', "%2B")));
        assert_eq!(status, 200, "{body}");
        let shown = shop.accrual(&["explain", id, "--json", "--source", &format!("shop/{member}")]);
        let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), shown);
    }
    let (status, body) = worker.get(&format!("{path}x1"));
    assert_eq!(status, 404, "an event of somebody else: {body}");
    assert_eq!(shop.accrual(&["explain", "none", "--member", &member]).status.code(), Some(1));
    assert_eq!(worker.terminate(), Exit::Code(0));
}

#[test]
fn while_redis_is_away_events_wait_and_readyz_says_why() {
    let mut redis = shop::OwnRedis::start();
    let shop = Shop::open_with("redis-away", PLAIN, 2, &redis.url());
    let worker = shop.start(&[]);
    worker.wait_until_ready();
    redis.stop();
    shop.produce_keyed(&[("k".to_owned(), order("o1", &shop.member("dora"), "30.00"))]);
    // Who asks may hear it from the HTTP server's own connection before a lane has met it.
    worker.wait_for_answer("/readyz", 503, "redis");
    assert_eq!(worker.get("/livez").0, 200, "waiting is not being dead");
    redis.restart();
    worker.wait_until_ready();
    worker.wait_for_metric(r#"accrual_points_total{by="rule",kind="earned",rule="purchase"} 30"#);
    assert_eq!(worker.terminate(), Exit::Code(0));
    assert_eq!(ledger(&shop.awards()).values().sum::<i64>(), 30);
    assert!(shop.dead_letters().is_empty(), "a dependency's failure is never a dead letter");
}

#[test]
fn wrong_settings_and_programmes_are_refused_with_all_their_errors_before_anything_is_consumed() {
    let shop = Shop::open("wrong", PLAIN, 1);
    shop.write("accrual.yaml", "kafka: {bootstrap.servers: localhost:9092}\ninputs: []\nlanes: many\nstoer: memory\nprogramme: programme.yaml\n");
    let refused = shop.accrual(&["run"]);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{text}");
    for expected in ["group.id", "accrual.yaml:2:", "accrual.yaml:3:", "stoer", "store"] {
        assert!(text.contains(expected), "{expected} is not in:\n{text}");
    }
    let shop = Shop::open(
        "wrong-programme",
        &PLAIN.replace("per: 1.00", "per: 0").replace("limit: {times: 1,", "limitt: {times: 1,"),
        1,
    );
    let refused = shop.accrual(&["check"]);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{text}");
    assert!(
        text.contains("programme.yaml:9:") && text.contains("programme.yaml:10:") && text.contains("limit"),
        "{text}"
    );
}

#[test]
fn missing_topics_are_named_unless_they_may_be_created() {
    let shop = Shop::open("topics", PLAIN, 1);
    let text = shop.settings().replace("create_topics: true", "create_topics: false");
    shop.write("accrual.yaml", &text);
    let refused = shop.accrual(&["run"]);
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{error}");
    let outputs: BTreeSet<&str> = ["awards", "tier-changes", "accounts", "dead-letters", "internal"].into();
    for output in outputs {
        assert!(error.contains(&format!("{}.{output}", shop.name)), "{output} is not named in:\n{error}");
    }
    assert!(error.contains("create_topics"), "{error}");
    shop.write("accrual.yaml", &text.replace("create_topics: false", "create_topics: true"));
    shop.work_off();
    let checked = shop.accrual(&["check", "--connect"]);
    let found = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert_eq!(checked.status.code(), Some(0), "{found}");
    assert!(found.contains("is compacted"), "{found}");
    for name in [shop.input(), format!("{}.internal", shop.name)] {
        assert_eq!(
            found.matches(&format!("topic {name}:")).count(),
            1,
            "each topic is looked at once:\n{found}"
        );
    }
}

#[test]
fn points_are_redeemed_over_http_once_and_declined_where_they_do_not_suffice() {
    let programme = format!("{PLAIN}redemption: {{rewards: [{{id: mug, kind: goods, points: 100}}]}}\n");
    let shop = Shop::open("redeem", &programme, 3);
    let token = "a-token-of-this-test-alone";
    shop.write("tokens", token);
    let http = format!("tokens: {{file: tokens}}, redemptions: {{topic: {}, wait: 30s}}", shop.input());
    shop.write("accrual.yaml", &shop.settings().replace("127.0.0.1:0}", &format!("127.0.0.1:0, {http}}}")));
    let member = shop.member("ann");
    shop.produce_keyed(&[(member.clone(), order("o1", &member, "150.00"))]);
    let worker = shop.start(&[]);
    worker.wait_until_ready();
    worker.wait_for_metric("accrual_events_total{result=\"applied\",type=\"order.paid\"} 1");

    let bearer = format!("Bearer {token}");
    let body = format!(r#"{{"member_id": "{member}", "reward": "mug"}}"#);
    let redeem = |key: &str| {
        let (status, body) =
            worker.post("/v1/redemptions", &[("Authorization", &bearer), ("Idempotency-Key", key)], &body);
        let answer: Value = serde_json::from_str(&body).unwrap();
        (status, answer)
    };
    assert_eq!(worker.post("/v1/redemptions", &[("Idempotency-Key", "r1")], &body).0, 401);
    let (status, first) = redeem("r1");
    assert_eq!(status, 200, "{first}");
    assert_eq!(
        (first["status"].as_str(), first["points"].as_i64()),
        (Some("redeemed"), Some(100)),
        "{first}"
    );
    assert_eq!(redeem("r1"), (200, first.clone()), "the same again is the same redemption");
    let (status, second) = redeem("r2");
    assert_eq!((status, second["status"].as_str()), (200, Some("declined")), "{second}");
    assert_eq!(second["reason"], "insufficient_points", "{second}");

    let get = |path: &str| {
        let (status, body) = worker.ask("GET", path, &[("Authorization", &bearer)], "");
        (status, serde_json::from_str::<Value>(&body).unwrap())
    };
    assert_eq!(get(&format!("/v1/redemptions/{member}/r1")), (200, first));
    assert_eq!(get(&format!("/v1/accounts/{member}")).1["available"], 50);
    assert_eq!(worker.terminate(), Exit::Code(0));
    let awards = shop.awards();
    let points = |kind: &str| -> Vec<i64> {
        let of_kind = awards.iter().filter(|award| award["type"] == kind);
        of_kind.filter_map(|award| award["data"]["points"].as_i64()).collect()
    };
    assert_eq!(points("points.redeemed"), [-100], "{awards:?}");
    assert_eq!(points("points.declined"), [0], "{awards:?}");
    assert!(shop.dead_letters().is_empty());
}
