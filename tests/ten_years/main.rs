//! Ten years of a programme in a minute: orders, refunds, sign-ins, redemptions, transfers, adjustments, merges and
//! closings, with late and repeated events and a clock that comes when it comes. After every event an auditor who has
//! computed by itself what must come of it compares it with what was published, and with the account.
//!
//! A failing seed is printed; `ACCRUAL_TEST_SEED=<seed> cargo test --test ten_years` runs it alone. `ACCRUAL_TEST_MEMBERS`
//! and `ACCRUAL_TEST_YEARS` say how many.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::too_many_arguments,
    clippy::type_complexity
)]

mod auditor;
mod calendar;
mod life;
#[path = "../simulation/rng.rs"]
mod rng;
#[allow(dead_code)] // each of the tests over a shop uses a part of it
#[path = "../support/shop.rs"]
mod shop;

use std::collections::BTreeMap;

use auditor::{Auditor, Verdict, in_words};
use calendar::text_of;
use jiff::Timestamp;
use life::Shopper;
use rng::Rng;
use serde_json::Value;
use shop::{Came, Shop};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a whole number"))
}

/// Has the auditor judge an event and what came of it.
fn audit(shop: &Shop, auditor: &mut Auditor, event: &Value, came: Came) -> Result<(), String> {
    let mut expected = match (auditor.judge(event), came) {
        (Verdict::Duplicate, Came::Duplicate) | (Verdict::Refused, Came::Refused(_)) => return Ok(()),
        (Verdict::Counts(lines), Came::Counted(published)) => (lines, published),
        (verdict, came) => return Err(format!("expected {verdict:?}, and it came to {came:?}")),
    };
    let mut came: Vec<String> = expected.1.iter().filter_map(in_words).collect();
    came.sort();
    expected.0.sort();
    if came != expected.0 {
        return Err(format!(
            "expected\n  {}\nand it came to\n  {}",
            expected.0.join("\n  "),
            came.join("\n  ")
        ));
    }
    let name = event["data"]["member_id"].as_str().unwrap();
    let account: Value = serde_json::from_slice(&shop.account(name).to_json()).unwrap();
    let member = auditor.members().find(|(other, _)| *other == name).unwrap().1;
    let (available, pending) = (member.available(), member.pending());
    if account["available"] != available || account["pending"] != pending {
        return Err(format!("expected {available} and {pending} pending of {account}"));
    }
    if account["tier"]["id"].as_str().unwrap_or("basic") != member.level() {
        return Err(format!("expected {} of {account}", member.level()));
    }
    for (key, is_held) in [("lots", false), ("held", true)] {
        let mut lots: BTreeMap<(i64, i64), i64> = BTreeMap::new();
        for lot in account[key].as_array().into_iter().flatten() {
            let moments = (lot[2].as_i64().unwrap_or(i64::MIN), lot[1].as_i64().unwrap_or(i64::MAX));
            *lots.entry(moments).or_default() += lot[0].as_i64().unwrap();
        }
        if lots != member.lots(is_held) {
            return Err(format!("expected {key} {:?} of {account}", member.lots(is_held)));
        }
    }
    Ok(())
}

fn run(name: &str, expire: &str, seed: u64) {
    let (members, years) =
        (number("ACCRUAL_TEST_MEMBERS", 200) as usize, number("ACCRUAL_TEST_YEARS", 10) as i64);
    let mut rng = Rng::new(seed);
    let mut shop = Shop::new(&life::programme(expire));
    let mut auditor = Auditor::new(expire.contains("end_of_month"));
    let mut shoppers: Vec<Shopper> = (0..members).map(|number| Shopper::new(number, &mut rng)).collect();
    // By when they arrive; a counter keeps those of one second in order.
    let mut coming: BTreeMap<(i64, u64), (bool, Value)> = BTreeMap::new();
    let (mut serial, mut events) = (0, 0);
    let mut check = |shop: &Shop, auditor: &mut Auditor, event: &Value, came: Came| {
        events += 1;
        if let Err(wrong) = audit(shop, auditor, event, came) {
            let account = shop.account(event["data"]["member_id"].as_str().unwrap());
            let account = String::from_utf8(account.to_json()).unwrap();
            panic!(
                "{name}: seed {seed}, event {events}: {event}\n{wrong}\nthe account: {account}\nthe auditor's: {:?}",
                auditor.member(event)
            );
        }
    };
    for day in 0..years * 365 + 400 {
        let (midnight, night) = (life::midnight(day), life::midnight(day + 1));
        // In the end nobody comes any more but the clock.
        if day < years * 365 {
            for shopper in &mut shoppers {
                for (arrives, event) in shopper.day(midnight, members, &mut rng) {
                    serial += 1;
                    coming.insert((arrives, serial), (false, event));
                }
            }
        }
        while let Some((key, (is_internal, event))) = coming.pop_first() {
            if key.0 >= night {
                coming.insert(key, (is_internal, event));
                break;
            }
            let came =
                if is_internal { shop.hear(event.to_string().into_bytes()) } else { shop.send(&event) };
            check(&shop, &mut auditor, &event, came);
            for told in shop.told.drain(..).collect::<Vec<_>>() {
                serial += 1;
                let delay = if rng.chance(300) { rng.below(2 * 86_400) as i64 } else { 1 };
                coming.insert((key.0 + delay, serial), (true, serde_json::from_slice(&told).unwrap()));
            }
        }
        let now = Timestamp::from_second(night - 1).unwrap();
        let due: Vec<String> = auditor
            .members()
            .filter(|(_, member)| member.next_moment().is_some_and(|moment| moment < night))
            .map(|(name, _)| name.clone())
            .collect();
        for member in due {
            if !rng.chance(300) {
                continue; // the clock is late
            }
            for round in 0.. {
                let struck = shop.due(&member, now);
                if struck.is_empty() {
                    break;
                }
                assert!(round < 1_000, "{name}: seed {seed}: the clock of {member} does not come to rest");
                for told in struck {
                    let event: Value = serde_json::from_slice(&told).unwrap();
                    let came = shop.hear(told);
                    check(&shop, &mut auditor, &event, came);
                }
            }
            let next = auditor.members().find(|(name, _)| **name == member).unwrap().1.next_moment();
            assert!(
                next.is_none_or(|next| next >= night),
                "{name}: seed {seed}: the clock has nothing more to say to {member} at {now}, but something was due at {}",
                text_of(next.unwrap_or_default())
            );
        }
    }
    println!("{name}: seed {seed}: {events} events, {:?}", auditor.tally);
    for what in [
        "points.expired ",
        "points.expiring ",
        "points.released ",
        "points.reversed ",
        "points.returned ",
        "points.transferred ",
        "tier.kept ",
        "tier.review-due ",
        "tier.changed ",
        "points.redeemed ",
        "points.declined account_closed",
    ] {
        let enough = members < 100 || years < 5 || auditor.tally.get(what).copied().unwrap_or_default() > 5;
        assert!(
            enough,
            "{name}: seed {seed}: too few of {what}, so that this proves little: {:?}",
            auditor.tally
        );
    }
}

fn seed() -> u64 {
    number("ACCRUAL_TEST_SEED", 1)
}

#[test]
fn ten_years_of_points_that_expire_to_the_second_are_as_an_auditor_computes_them() {
    run("to the second", "{after: P1Y}", seed());
}

#[test]
fn ten_years_of_points_that_expire_with_their_month_are_as_an_auditor_computes_them() {
    run("end of month", "{after: P1Y, at: end_of_month}", seed() + 1_000);
}
