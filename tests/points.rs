//! What holds of points over time, whatever happens and in whatever order: properties over the decoder, the rules and the
//! account, and the ledger read back. What holds after every single event is in `support/shop.rs`: no point is made or
//! lost, lots are the balance, an account is the fold of what was published.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[allow(dead_code)] // each of the tests over a shop uses a part of it
#[path = "support/shop.rs"]
mod shop;

use std::collections::BTreeMap;

use accrual::account::{Account, MOST_LOTS};
use jiff::{Timestamp, ToSpan};
use proptest::prelude::*;
use serde_json::{Value, json};
use shop::{Came, Shop};

/// A programme with everything that points may go through.
fn programme(points: &str) -> String {
    format!(
        r#"
programme: shop
timezone: Europe/Berlin
currency: EUR
points: {points}
tiers:
  window: P12M
  review: {{every: P1Y, grace: P30D, drop: one_level, notice: P30D}}
  levels: [{{id: basic, from: 0}}, {{id: silver, from: 100, earn: 1.5, redeem: 1.1}}, {{id: gold, from: 400, earn: 2}}]
rules:
  - {{id: purchase, on: order.paid, earn: {{points: 3, per: 2.00}}, limit: {{points: 900, per: month}}}}
  - {{id: books, on: order.paid, each: item, when: item.category == "books", earn: {{points: 7, per: 3.00}}, hold: P3D}}
  - {{id: first-of-day, on: order.paid, earn: {{points: 11}}, limit: {{times: 1, per: day}}, expire: {{after: P1M, at: end_of_month}}}}
  - {{id: sign-in, on: member.signed_in, earn: {{points: 5}}, limit: {{times: 1, per: day}}}}
campaigns:
  - {{id: plus, on: order.paid, multiply: 1.3, budget: {{points: 500}}}}
redemption:
  rate: {{points: 10, worth: 1.00}}
  limits: [{{points: 900, per: day}}]
  rewards:
    - {{id: cash, kind: money}}
    - {{id: mug, kind: goods, points: 40, stock: 5}}
    - {{id: draw, kind: lottery, points: 20, prizes: [{{id: grand, weight: 1, points: 100, stock: 2}}, {{id: thanks, weight: 3}}]}}
"#
    )
}

fn at(second: i64) -> Timestamp {
    "2026-03-01T10:00:00Z".parse::<Timestamp>().unwrap().saturating_add(second.seconds()).unwrap()
}

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

fn event(id: &str, kind: &str, member: &str, second: i64, data: &Value) -> Value {
    let mut data = data.clone();
    data["member_id"] = member.into();
    json!({"specversion": "1.0", "id": id, "source": "s", "type": kind, "time": at(second).to_string(), "data": data})
}

fn cents(cents: u32) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

/// One event of any kind; numbers name orders and redemptions, few enough to meet.
fn any_event(number: usize, what: u8, a: u8, b: u32, second: i64) -> Value {
    let member = if a.is_multiple_of(3) { "bob" } else { "ann" };
    let other = if member == "bob" { "ann" } else { "bob" };
    let id = format!("e{number}");
    let (order, redemption) = (format!("o{}", a % 5), format!("r{}", a % 4));
    let (kind, data) = match what {
        0..=2 => {
            let items = json!([
                {"line_id": "l1", "sku": "x", "category": "books", "quantity": 2, "price": cents(b / 4)},
                {"line_id": "l2", "sku": "y", "category": "books", "quantity": 1, "price": cents(b / 3)},
            ]);
            let order = format!("o{}-{}", a % 5, if what == 2 { number } else { 0 });
            ("order.paid", json!({"order_id": order, "currency": "EUR", "amount": cents(b), "items": items}))
        }
        3 | 4 => (
            "order.refunded",
            json!({"order_id": format!("{order}-0"), "refund_id": id, "amount": cents(b / 2)}),
        ),
        5 => {
            let lines = json!([{"line_id": "l1", "quantity": 1, "amount": cents(b / 4)}]);
            let refund = json!({"order_id": format!("{order}-0"), "refund_id": id, "amount": cents(b / 3), "lines": lines});
            ("order.refunded", refund)
        }
        6 => ("member.signed_in", json!({})),
        7 => {
            let request = json!({"redemption_id": redemption, "reward": "cash", "points": 1 + b % 60, "order_id": format!("{order}-0")});
            ("redemption.requested", request)
        }
        8 => (
            "redemption.requested",
            json!({"redemption_id": id, "reward": if b.is_multiple_of(2) { "mug" } else { "draw" }}),
        ),
        9 => ("redemption.cancelled", json!({"redemption_id": redemption})),
        10 => {
            let points = i64::from(b % 120) - 60;
            (
                "points.adjusted",
                json!({"adjustment_id": id, "points": if points == 0 { 1 } else { points }, "reason": "r", "by": "k"}),
            )
        }
        11 => ("points.transferred", json!({"transfer_id": id, "to_id": other, "points": 1 + b % 50})),
        12 => ("time", json!({})),
        _ => ("members.merged", json!({"into_id": other})),
    };
    event(&id, kind, member, second, &data)
}

fn points_settings() -> impl Strategy<Value = String> {
    let pick = |choices: &'static [&'static str]| prop::sample::select(choices);
    (
        pick(&["P0D", "P5D"]),
        pick(&["never", "{after: P20D}", "{after: P1M, at: end_of_month}"]),
        pick(&["floor", "half_up", "ceil"]),
        pick(&["negative", "clamp"]),
    )
        .prop_map(|(hold, expire, rounding, shortfall)| {
            format!("{{hold: {hold}, expire: {expire}, rounding: {rounding}, shortfall: {shortfall}, notice: P4D}}")
        })
}

/// Spent points were spendable when they were spent, and there were enough of them.
fn spends_what_there_is(published: &[Value], as_of: Timestamp) {
    for entry in published {
        let data = &entry["data"];
        let spends = entry["type"] == "points.redeemed"
            || (data["act"] == "transfer" && data["points"].as_i64() < Some(0));
        if !spends {
            continue;
        }
        let mut sum = 0;
        for lot in data["lots"].as_array().unwrap() {
            sum += lot[0].as_i64().unwrap();
            assert!(
                lot[1].as_i64().is_none_or(|expires| expires > as_of.as_second()),
                "spent after its expiry: {entry}"
            );
            assert!(lot[2].is_null(), "spent before its release: {entry}");
        }
        assert_eq!(sum, -data["points"].as_i64().unwrap(), "spent what there is not: {entry}");
        assert!(data["available"].as_i64().unwrap() >= 0, "{entry}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_no_point_is_made_lost_or_spent_twice(
        points in points_settings(),
        events in prop::collection::vec((0..14_u8, any::<u8>(), 100..20_000_u32, 0..60 * DAY, 0..3 * DAY), 1..60),
    ) {
        let mut shop = Shop::new(&programme(&points));
        let mut now = 0;
        for (number, (what, a, b, ahead, late)) in events.into_iter().enumerate() {
            // Mostly in order, some late by up to three days.
            now += ahead / 20;
            let event = any_event(number, what, a, b, (now - if a % 4 == 0 { late } else { 0 }).max(0));
            if event["type"] == "time" {
                for member in ["ann", "bob"] {
                    shop.strike(member, at(now));
                }
                continue;
            }
            // A merge closes an account, so that the rest would hold of nothing much: seldom, and late.
            if event["type"] == "members.merged" && number < 30 {
                continue;
            }
            if let Came::Counted(published) = shop.send(&event) {
                spends_what_there_is(&published, event["time"].as_str().unwrap().parse().unwrap());
            }
            // What accrual tells itself comes some time later.
            while a % 2 == 0 && let Some(told) = shop.told.pop_front() {
                shop.hear(told);
            }
        }
        while let Some(told) = shop.told.pop_front() {
            shop.hear(told);
        }
        for member in ["ann", "bob"] {
            shop.strike(member, at(now + 400 * DAY));
        }
    }
}

/// What an order of a member comes to, with what was paid by its origin.
fn order(lines: &[(u32, u32)], amount: u32) -> Value {
    let items: Vec<Value> = lines
        .iter()
        .enumerate()
        .map(|(at, (quantity, price))| {
            json!({"line_id": format!("l{at}"), "sku": "x", "category": "books", "quantity": quantity, "price": cents(*price)})
        })
        .collect();
    json!({"order_id": "o", "currency": "EUR", "amount": cents(amount), "items": items})
}

/// The sums of what came and what was taken back, by what paid.
fn by_origin(published: &[Value], kinds: &[&str]) -> BTreeMap<String, i64> {
    let mut sums = BTreeMap::new();
    for entry in published.iter().filter(|entry| kinds.contains(&entry["type"].as_str().unwrap())) {
        let data = &entry["data"];
        let name = ["rule", "tier", "campaign", "redemption"]
            .map(|key| data[key].as_str().unwrap_or_default().to_owned())
            .concat();
        *sums.entry(name).or_default() += data["points"].as_i64().unwrap()
            - if entry["type"] == "points.declined" { data["declined"].as_i64().unwrap() } else { 0 };
    }
    sums
}

/// An account without what counts changes and shows the last of them.
fn standing(account: &Account) -> Account {
    let mut account = account.clone();
    account.version = 0;
    account.history.clear();
    account.newest = 0;
    account
}

/// Parts of a refund that come to the whole: of lines, of the amount, or of both, in any order.
fn parts(lines: &[(u32, u32)], amount: u32, cuts: &[(u8, u32)]) -> Vec<Value> {
    let mut left: Vec<(u32, u32)> =
        lines.iter().map(|(quantity, price)| (*quantity, quantity * price)).collect();
    let mut open = amount;
    let mut parts = Vec::new();
    for (which, share) in cuts {
        let line = usize::from(*which) % (lines.len() + 1);
        let part = match left.get_mut(line) {
            Some((quantity, money)) if *quantity > 0 && *money <= open => {
                let many = 1 + share % *quantity;
                let worth = if many == *quantity { *money } else { lines[line].1 * many };
                let worth = worth.min(*money);
                (*quantity, *money) = (*quantity - many, *money - worth);
                open -= worth;
                json!({"amount": cents(worth), "lines": [{"line_id": format!("l{line}"), "quantity": many, "amount": cents(worth)}]})
            }
            _ => {
                let worth = share % (open + 1);
                open -= worth;
                json!({"amount": cents(worth)})
            }
        };
        parts.push(part);
    }
    parts.push(json!({"amount": cents(open)}));
    for (number, part) in parts.iter_mut().enumerate() {
        part["order_id"] = "o".into();
        part["refund_id"] = format!("f{number}").into();
    }
    parts
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_refund_in_any_parts_and_any_order_comes_to_what_one_of_the_whole_comes_to(
        points in points_settings(),
        lines in prop::collection::vec((1..4_u32, 1..5_000_u32), 1..4),
        extra in 0..2_000_u32,
        spent in 0..400_u32,
        cuts in prop::collection::vec((any::<u8>(), any::<u32>()), 0..6),
        turn in any::<usize>(),
        has_ordered_before in any::<bool>(),
    ) {
        let amount = lines.iter().map(|(quantity, price)| quantity * price).sum::<u32>() + extra;
        let run = |refunds: &[Value]| {
            let mut shop = Shop::new(&programme(&points));
            if has_ordered_before {
                shop.send(&event("before", "order.paid", "ann", 0, &json!({"order_id": "x", "currency": "EUR", "amount": "90.00"})));
            }
            shop.send(&event("give", "points.adjusted", "ann", 0, &json!({"adjustment_id": "a", "points": 500, "reason": "r", "by": "k"})));
            shop.send(&event("spend", "redemption.requested", "ann", 1, &json!({"redemption_id": "r", "reward": "cash", "points": 1 + spent, "order_id": "o"})));
            let paid = shop.send(&event("o", "order.paid", "ann", HOUR, &order(&lines, amount))).published();
            let paid = by_origin(&paid, &["points.earned", "points.pending"]);
            let mut taken: BTreeMap<String, i64> = BTreeMap::new();
            let mut returned = 0;
            for (number, refund) in refunds.iter().enumerate() {
                let refund = event(&format!("f{number}"), "order.refunded", "ann", 2 * HOUR, refund);
                let Came::Counted(published) = shop.send(&refund) else { panic!("{refund}") };
                for (by, points) in by_origin(&published, &["points.reversed", "points.declined"]) {
                    *taken.entry(by.clone()).or_default() -= points;
                    assert!(taken[&by] <= paid.get(&by).copied().unwrap_or_default(), "more of {by} than was paid: {refunds:?}");
                }
                returned += by_origin(&published, &["points.returned"]).values().sum::<i64>();
                assert!(returned <= i64::from(1 + spent), "more came back than was spent: {refunds:?}");
            }
            taken.retain(|_, points| *points != 0);
            // Which lots pay depends on what there is at the time; how many points they come to does not.
            let mut standing = standing(&shop.account("ann"));
            (standing.lots, standing.held) = Default::default();
            (paid, taken, returned, standing, shop.spent.clone())
        };
        let whole = json!({"order_id": "o", "refund_id": "f", "amount": cents(amount)});
        let once = run(&[whole]);
        prop_assert_eq!(&once.0, &once.1, "not all that was paid goes back");
        prop_assert_eq!(once.2, i64::from(1 + spent));
        let mut parts = parts(&lines, amount, &cuts);
        let places = parts.len();
        parts.rotate_left(turn % places);
        let in_parts = run(&parts);
        prop_assert_eq!(&in_parts.1, &once.1);
        prop_assert_eq!(in_parts.2, once.2);
        prop_assert_eq!(&in_parts.3, &once.3);
        prop_assert_eq!(&in_parts.4, &once.4);
    }

    #[test]
    fn whether_refunds_or_their_order_come_first_changes_nothing_in_the_end(
        points in points_settings(),
        lines in prop::collection::vec((1..4_u32, 1..5_000_u32), 1..4),
        cuts in prop::collection::vec((any::<u8>(), any::<u32>()), 0..5),
        leave_out in 0..3_usize,
        place in any::<prop::sample::Index>(),
    ) {
        let amount = lines.iter().map(|(quantity, price)| quantity * price).sum::<u32>();
        let mut refunds = parts(&lines, amount, &cuts);
        refunds.truncate(refunds.len().saturating_sub(leave_out).max(1));
        let place = place.index(refunds.len() + 1);
        let run = |order_at: usize| {
            let mut shop = Shop::new(&programme(&points));
            let order = event("o", "order.paid", "ann", HOUR, &order(&lines, amount));
            for (number, refund) in refunds.iter().enumerate() {
                if number == order_at {
                    shop.send_and_settle(&order);
                }
                shop.send_and_settle(&event(&format!("f{number}"), "order.refunded", "ann", 2 * HOUR, refund));
            }
            if order_at >= refunds.len() {
                shop.send_and_settle(&order);
            }
            shop.strike("ann", at(45 * DAY));
            let account = shop.account("ann");
            assert!(account.waiting.is_empty() && shop.unclaimed.is_empty(), "{account:?}");
            let mut standing = standing(&account);
            // A level is of the moment at which it was reached; a level that was lost again leaves none.
            if let Some(tier) = standing.tier.take() {
                standing.tier = Some(tier).filter(|tier| tier.id.as_str() != "basic");
            }
            (standing, shop.spent.clone())
        };
        prop_assert_eq!(run(place), run(0));
    }
}

#[test]
fn an_account_of_ten_years_of_an_order_and_a_sign_in_a_day_stays_under_8_kb() {
    for at_end in ["", ", at: end_of_month"] {
        for hours in [3, 12] {
            let mut shop = Shop::new(&format!(
                r"
programme: shop
timezone: Europe/Berlin
currency: EUR
points: {{hold: P14D, expire: {{after: P1Y{at_end}}}, notice: P30D}}
tiers: {{window: P12M, review: {{every: P1Y, drop: one_level}}, levels: [{{id: basic, from: 0}}, {{id: gold, from: 400, earn: 2}}]}}
rules:
  - {{id: purchase, on: order.paid, earn: {{points: 1, per: 1.00}}}}
  - {{id: sign-in, on: member.signed_in, earn: {{points: 5}}, limit: {{times: 1, per: day}}, streak: {{7: 20}}}}
"
            ));
            let (mut largest, mut most) = (0, String::new());
            for day in 0..3_650 {
                let order = json!({"order_id": format!("o{day}"), "currency": "EUR", "amount": "129.90"});
                shop.send(&event(&format!("s{day}"), "member.signed_in", "ann", day * DAY, &json!({})));
                shop.send(&event(&format!("o{day}"), "order.paid", "ann", day * DAY + hours * HOUR, &order));
                if shop.account("ann").to_json().len() > largest {
                    most = String::from_utf8(shop.account("ann").to_json()).unwrap();
                    largest = most.len();
                }
            }
            println!("{at_end} {hours}: {largest} bytes");
            assert!(largest < 8 * 1024, "{at_end} {hours}: {largest} bytes: {most}");
        }
    }
}

#[test]
fn points_expire_also_in_an_account_of_more_lots_than_are_kept() {
    for (expire, each) in [("P1Y", 12 * HOUR), ("P2Y", DAY), ("P1Y", 3 * HOUR + 17), ("P5Y", DAY)] {
        let mut shop = Shop::new(&format!(
            "programme: p\ntimezone: Europe/Berlin\ncurrency: EUR\npoints: {{expire: {{after: {expire}}}}}\nrules: [{{id: r, on: survey.completed, earn: {{points: 1}}}}]\n"
        ));
        let years: i64 = expire[1..2].parse().unwrap();
        let mut sent = 0;
        for second in (0..(years + 2) * 365 * DAY).step_by(usize::try_from(each).unwrap()) {
            shop.send(&event(&format!("e{second}"), "survey.completed", "ann", second, &json!({})));
            sent += 1;
            assert!(shop.account("ann").lots.iter().count() <= MOST_LOTS);
        }
        // Never before their time, and at most two weeks after it.
        let alive = |seconds: i64| seconds / each + 1;
        let available = shop.account("ann").available.0;
        assert!(
            available >= alive(years * 365 * DAY).min(sent),
            "{expire} each {each}: {available} of {sent} are left"
        );
        assert!(
            available <= alive((years * 366 + 14) * DAY),
            "{expire} each {each}: {available} of {sent} are left"
        );
    }
}
