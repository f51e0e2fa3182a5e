use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::entry::TierChange;
use crate::event::decode::{Decoded, Decoder};
use crate::log::Record;
use crate::types::Coordinates;

const KEEPS: Retention = Retention { history: 10, months: 12, days: 30 };

fn programme(rules: &str) -> Programme {
    let tiers = "tiers:\n  window: P12M\n  levels: [{id: basic, from: 0}, {id: silver, from: 100, earn: 1.1}, {id: gold, from: 500, earn: 1.25}]\n";
    let text = format!("programme: p\ntimezone: Asia/Shanghai\ncurrency: CNY\n{tiers}rules:\n{rules}");
    Programme::parse("programme.yaml", &text).unwrap_or_else(|problems| panic!("{problems}"))
}

fn event(programme: &Programme, id: &str, kind: &str, time: &str, data: &str) -> Event {
    let named = programme.by_type.keys().cloned().collect();
    let payload = format!(
        r#"{{"specversion":"1.0","id":"{id}","source":"s","type":"{kind}","time":"{time}","data":{{"member_id":"m",{data}}}}}"#
    );
    let record = Record {
        at: Coordinates { topic: "t".into(), partition: 0, offset: 0 },
        published_ms: None,
        key: None,
        payload: Some(payload.into_bytes()),
        headers: Vec::new(),
    };
    match Decoder::new(named, &programme.currency, 100_000).decode(&record) {
        Ok(Decoded::Event(event)) => *event,
        other => panic!("{id}: {other:?}"),
    }
}

fn order(programme: &Programme, id: &str, time: &str, amount: &str) -> Event {
    let data = format!(r#""order_id":"{id}","currency":"CNY","amount":"{amount}""#);
    event(programme, id, "order.paid", time, &data)
}

fn sign_in(programme: &Programme, id: &str, time: &str) -> Event {
    event(programme, id, "member.signed_in", time, r#""channel":"app""#)
}

/// Entries in short: what paid, points, points cut and why.
fn entries(outcome: &Outcome) -> Vec<(String, i64, i64, Option<Why>)> {
    let entries = outcome.applied.iter().filter_map(|applied| match &applied.change {
        Change::Entry(entry) => {
            Some((entry.by.name().to_owned(), entry.points.0, entry.declined.0, entry.why))
        }
        Change::Tier(_) | Change::Noted(_) => None,
    });
    entries.collect()
}

fn tier_changes(outcome: &Outcome) -> Vec<(String, String)> {
    let changes = outcome.applied.iter().filter_map(|applied| match &applied.change {
        Change::Tier(TierChange { from, to, .. }) => Some((from.to_string(), to.to_string())),
        Change::Entry(_) | Change::Noted(_) => None,
    });
    changes.collect()
}

fn run(programme: &Programme, account: &mut Account, event: &Event) -> Outcome {
    apply(programme, account, event, &KEEPS, &Outside::UNTOUCHED).unwrap()
}

#[test]
fn an_amount_pays_by_the_unit_and_is_rounded_once_on_the_whole() {
    for (rule, amount, expected) in [
        ("{points: 1, per: 1.00}", "268.28", 268),
        ("{points: 1, per: 1.00}", "1.99", 1),
        ("{points: 3, per: 2}", "1.00", 1),
        ("{points: 3, per: 2}", "2.00", 3),
        ("{points: 1, per: 0.1}", "0.30", 3),
        ("{points: 7, per: 3}", "9.00", 21),
        ("{points: 1, per: 1000}", "999.99", 0),
    ] {
        let programme = programme(&format!("  - {{id: r, on: order.paid, earn: {rule}}}\n"));
        let mut account = Account::new("m".into());
        run(&programme, &mut account, &order(&programme, "o", "2026-11-22T10:00:00Z", amount));
        assert_eq!(account.available.0, expected, "{rule} of {amount}");
    }
}

#[test]
fn what_is_too_small_for_a_point_is_declined_with_its_reason() {
    let programme = programme("  - {id: r, on: order.paid, earn: {points: 1, per: 10}}\n");
    let mut account = Account::new("m".into());
    let outcome = run(&programme, &mut account, &order(&programme, "o", "2026-11-22T10:00:00Z", "9.99"));
    assert_eq!(entries(&outcome), [("r".to_owned(), 0, 0, Some(Why::BelowOnePoint))]);
}

#[test]
fn every_matching_item_pays_by_itself_and_is_rounded_by_itself() {
    let programme = programme(
        "  - {id: books, on: order.paid, each: item, when: 'item.category == \"books\"', earn: {points: 1, per: 1.00}}\n",
    );
    let data = r#""order_id":"o","currency":"CNY","amount":"50","items":[
        {"sku":"a","category":"books","quantity":3,"price":"1.50"},
        {"sku":"b","category":"books","quantity":1,"price":"0.99"},
        {"sku":"c","category":"toys","quantity":1,"price":"40"},
        {"sku":"d","quantity":1,"price":"5"}]"#;
    let order = event(&programme, "o", "order.paid", "2026-11-22T10:00:00Z", data);
    let mut account = Account::new("m".into());
    let outcome = run(&programme, &mut account, &order);
    // 4.50 and 0.99 make 4 and 0; the item without a category does not match and costs nobody else.
    assert_eq!(entries(&outcome), [("books".to_owned(), 4, 0, None)]);
    assert!(outcome.unsure.is_empty());
}

#[test]
fn a_condition_that_cannot_be_evaluated_is_false_and_counted() {
    let programme =
        programme("  - {id: r, on: review.posted, when: 'size(data.text) >= 20', earn: {points: 20}}\n");
    let review = event(&programme, "r", "review.posted", "2026-11-22T10:00:00Z", r#""review_id":"1""#);
    let outcome = run(&programme, &mut Account::new("m".into()), &review);
    assert_eq!((entries(&outcome).len(), outcome.unsure), (0, vec![Unsure::Rule(0)]));
}

#[test]
fn a_daily_limit_begins_at_midnight_of_the_programmes_zone_and_a_late_event_counts_in_its_own_day() {
    let programme = programme(
        "  - {id: sign-in, on: member.signed_in, earn: {points: 5}, limit: {times: 1, per: day}}\n",
    );
    let mut account = Account::new("m".into());
    for (time, points, why) in [
        ("2026-11-22T15:59:59Z", 5, None), // 23:59:59 in Shanghai
        ("2026-11-22T16:00:00Z", 5, None), // midnight
        ("2026-11-22T23:00:00Z", 0, Some(Why::LimitTimes)),
        ("2026-11-21T12:00:00Z", 5, None), // late, and the first of its day
        ("2026-11-21T12:00:01Z", 0, Some(Why::LimitTimes)),
        ("2026-09-01T12:00:00Z", 0, Some(Why::TooLate)),
    ] {
        let outcome = run(&programme, &mut account, &sign_in(&programme, time, time));
        let (_, paid, cut, reason) = entries(&outcome).remove(0);
        assert_eq!((paid, reason), (points, why), "{time}");
        assert_eq!(cut, 5 - points, "{time}");
    }
    assert_eq!(account.available.0, 15);
}

#[test]
fn points_over_a_limit_are_cut_to_it_and_the_rest_is_declined() {
    let programme = programme(
        "  - {id: r, on: order.paid, earn: {points: 1, per: 1}, limit: [{points: 100, per: month}, {times: 3, per: day}]}\n",
    );
    let mut account = Account::new("m".into());
    let mut pay = |id: &str, amount| {
        let order = order(&programme, id, "2026-11-22T10:00:00Z", amount);
        entries(&run(&programme, &mut account, &order))
            .into_iter()
            .filter(|(by, ..)| by == "r")
            .map(|(_, paid, cut, why)| (paid, cut, why))
            .collect::<Vec<_>>()
    };
    assert_eq!(pay("a", "60"), [(60, 0, None)]);
    assert_eq!(pay("b", "60"), [(40, 0, None), (0, 20, Some(Why::LimitPoints))]);
    assert_eq!(pay("c", "60"), [(0, 60, Some(Why::LimitPoints))]);
    assert_eq!(pay("d", "60"), [(0, 60, Some(Why::LimitPoints))]);
}

#[test]
fn a_tier_pays_more_on_the_base_as_an_entry_of_its_own_and_is_reached_at_once() {
    let programme = programme("  - {id: r, on: order.paid, earn: {points: 1, per: 1}}\n");
    let mut account = Account::new("m".into());
    let first = run(&programme, &mut account, &order(&programme, "a", "2026-11-22T10:00:00Z", "105"));
    assert_eq!(entries(&first), [("r".to_owned(), 105, 0, None)], "decided by the tier before");
    assert_eq!(tier_changes(&first), [("basic".to_owned(), "silver".to_owned())]);
    let second = run(&programme, &mut account, &order(&programme, "b", "2026-11-22T11:00:00Z", "19"));
    assert_eq!(
        entries(&second),
        [("r".to_owned(), 19, 0, None), ("silver".to_owned(), 1, 0, None)],
        "1.9 is 1"
    );
    assert!(tier_changes(&second).is_empty());
    let leap = run(&programme, &mut account, &order(&programme, "c", "2026-11-22T12:00:00Z", "9000"));
    assert_eq!(tier_changes(&leap), [("silver".to_owned(), "gold".to_owned())], "never twice for one event");
}

#[test]
fn a_level_comes_with_its_benefits_where_it_is_published() {
    let text = "{programme: p, timezone: UTC, currency: CNY, rules: [{id: r, on: order.paid, earn: {points: 1, per: 1}}],
        tiers: {window: lifetime, levels: [{id: basic, from: 0}, {id: gold, from: 10, benefits: [lounge, free_shipping]}]}}";
    let programme = Programme::parse("programme.yaml", text).unwrap();
    let order = order(&programme, "a", "2026-11-22T10:00:00Z", "10");
    let outcome = run(&programme, &mut Account::new("m".into()), &order);
    let published =
        crate::entry::Renderer::new("p").change(&order, outcome.applied.last().unwrap(), "v", None);
    let published: serde_json::Value = serde_json::from_slice(&published).unwrap();
    assert_eq!(published["type"], "tier.changed");
    assert_eq!(published["data"]["benefits"], serde_json::json!(["lounge", "free_shipping"]));
}

#[test]
fn a_rolling_measure_forgets_what_is_older_but_a_tier_is_kept() {
    let programme = programme("  - {id: r, on: order.paid, earn: {points: 1, per: 1}}\n");
    let mut account = Account::new("m".into());
    run(&programme, &mut account, &order(&programme, "a", "2025-01-10T10:00:00Z", "450"));
    assert_eq!(account.tier.as_ref().unwrap().id.as_str(), "silver");
    run(&programme, &mut account, &order(&programme, "b", "2026-01-10T10:00:00Z", "60"));
    // 450 of January 2025 is no longer among the twelve months: 66 are not gold, and silver stays.
    assert_eq!(account.tier.as_ref().unwrap().id.as_str(), "silver");
    assert_eq!(tier::measure(&programme, programme.tiers.as_ref().unwrap(), &account, account.newest).0, 66);
    assert_eq!(account.earned.total.0, 516);
}

#[test]
fn points_that_would_overflow_leave_the_account_as_it_was() {
    let programme = programme("  - {id: r, on: order.paid, earn: {points: 1, per: 1}}\n");
    let mut account = Account { available: Points(i64::MAX - 10), ..Account::new("m".into()) };
    let before = account.clone();
    let order = order(&programme, "a", "2026-11-22T10:00:00Z", "11");
    let outcome = apply(&programme, &mut account, &order, &KEEPS, &Outside::UNTOUCHED);
    assert_eq!(outcome.unwrap_err(), Refusal::Overflow(PointsOverflow));
    assert_eq!(account, before);
}

fn busy() -> Programme {
    programme(
        "  - {id: purchase, on: order.paid, earn: {points: 3, per: 2}}
  - {id: big, on: order.paid, when: data.amount >= 100, earn: {points: 10}, limit: {times: 2, per: week}}
  - {id: sign-in, on: member.signed_in, earn: {points: 5}, limit: [{times: 1, per: day}, {points: 60, per: month}], give: mug}
  - {id: coffee, on: order.paid, limit: {times: 2, per: week}, give: mug}
redemption: {rewards: [{id: mug, kind: goods, points: 5}]}
",
    )
}

/// Orders and sign-ins over some two months, in any order.
fn some_events() -> impl Strategy<Value = Vec<Event>> {
    prop::collection::vec((any::<bool>(), 0..60_i64 * 24, 0..30_000_u32), 1..60).prop_map(|drawn| {
        let programme = busy();
        let start: Timestamp = "2026-10-01T00:00:00Z".parse().unwrap();
        let events = drawn.into_iter().enumerate().map(|(at, (is_order, hour, cents))| {
            let time = (start + jiff::SignedDuration::from_hours(hour)).to_string();
            if is_order {
                order(&programme, &format!("o{at}"), &time, &format!("{}.{:02}", cents / 100, cents % 100))
            } else {
                sign_in(&programme, &format!("s{at}"), &time)
            }
        });
        events.collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn entries_sum_to_the_balance_and_rebuild_the_account(events in some_events()) {
        let programme = busy();
        let mut account = Account::new("m".into());
        let mut rebuilt = Account::new("m".into());
        let mut sum = 0;
        for event in &events {
            for applied in run(&programme, &mut account, event).applied {
                if let Change::Entry(entry) = &applied.change {
                    sum += entry.points.0;
                }
                rebuilt.evolve(&applied.change, &KEEPS).unwrap();
                prop_assert_eq!((applied.version, applied.available), (rebuilt.version, rebuilt.available));
            }
        }
        prop_assert_eq!(sum, account.available.0);
        prop_assert_eq!(account.lots.iter().map(|lot| lot.points.0).sum::<i64>(), sum);
        prop_assert_eq!(&rebuilt, &account);
        prop_assert_eq!(&Account::from_json(&account.to_json()).unwrap(), &account);
    }

    #[test]
    fn the_same_event_on_the_same_account_always_decides_the_same(events in some_events()) {
        let programme = busy();
        let (mut one, mut other) = (Account::new("m".into()), Account::new("m".into()));
        for event in &events {
            prop_assert_eq!(run(&programme, &mut one, event).applied, run(&programme, &mut other, event).applied);
        }
    }

    #[test]
    fn within_the_dedupe_window_the_order_of_arrival_changes_nothing_but_which_of_a_day_is_paid(
        drawn in prop::collection::vec((any::<bool>(), 0..25_i64 * 24, 0..30_000_u32), 1..40),
        seed in any::<u64>(),
    ) {
        let programme = with_campaigns(
            "  - {id: purchase, on: order.paid, earn: {points: 3, per: 2}}
  - {id: sign-in, on: member.signed_in, earn: {points: 5}, limit: {times: 1, per: day}}\n",
            "  - {id: double, on: order.paid, during: {from: 2026-10-05T20:00, until: 2026-10-12T00:00}, multiply: 2}
  - {id: fridays, on: order.paid, during: {weekly: [fri]}, when: data.amount >= 50, add: 7}\n",
        );
        // A tier that multiplies pays what comes after it: of that the order of arrival decides, and it is left out.
        let programme = Programme { tiers: None, ..programme };
        let start: Timestamp = "2026-10-01T00:00:00Z".parse().unwrap();
        let mut events: Vec<Event> = drawn.into_iter().enumerate().map(|(at, (is_order, hour, cents))| {
            let time = (start + jiff::SignedDuration::from_hours(hour)).to_string();
            if is_order {
                order(&programme, &format!("o{at}"), &time, &format!("{}.{:02}", cents / 100, cents % 100))
            } else {
                sign_in(&programme, &format!("s{at}"), &time)
            }
        }).collect();
        let comes_to = |events: &[Event]| {
            let mut account = Account::new("m".into());
            let mut of_days = std::collections::BTreeMap::new();
            for event in events {
                for applied in run(&programme, &mut account, event).applied {
                    let Change::Entry(entry) = applied.change else { continue };
                    let (points, declined) =
                        of_days.entry((entry.day, entry.by.name().to_owned())).or_insert((0, 0));
                    *points += entry.points.0;
                    *declined += entry.declined.0;
                }
            }
            (of_days, account.available, account.earned.total, account.activity)
        };
        let in_order = comes_to(&events);
        events.sort_by_key(|event| xxhash_rust::xxh3::xxh3_64_with_seed(event.id.id.as_bytes(), seed));
        prop_assert_eq!(comes_to(&events), in_order);
    }

    #[test]
    fn limits_are_never_exceeded_in_any_order_of_events(events in some_events()) {
        let programme = busy();
        let mut account = Account::new("m".into());
        let mut by_day = std::collections::HashMap::new();
        let mut by_month = std::collections::HashMap::new();
        let mut coffees = std::collections::HashMap::new();
        for event in &events {
            for applied in run(&programme, &mut account, event).applied {
                let Change::Entry(entry) = applied.change else { continue };
                if entry.by.name() == "coffee" && entry.kind == EntryKind::Granted {
                    *coffees.entry(crate::account::period_index(crate::programme::Period::Week, entry.day)).or_insert(0) += 1;
                }
                if entry.by.name() == "sign-in" && entry.points.0 > 0 {
                    *by_day.entry(entry.day).or_insert(0) += 1;
                    *by_month.entry((entry.day.year(), entry.day.month())).or_insert(0) += entry.points.0;
                }
            }
        }
        prop_assert!(by_day.values().all(|times| *times <= 1), "{:?}", by_day);
        prop_assert!(coffees.values().all(|times| *times <= 2), "{:?}", coffees);
        prop_assert!(by_month.values().all(|points| *points <= 60), "{:?}", by_month);
    }
}

fn with_campaigns(rules: &str, campaigns: &str) -> Programme {
    let text = format!(
        "programme: p\ntimezone: Asia/Shanghai\ncurrency: CNY\ntiers: {{window: lifetime, levels: [{{id: basic, from: 0}}, {{id: gold, from: 1000, earn: 1.5}}]}}\nrules:\n{rules}campaigns:\n{campaigns}"
    );
    Programme::parse("programme.yaml", &text).unwrap_or_else(|problems| panic!("{problems}"))
}

const PURCHASE: &str = "  - {id: purchase, on: order.paid, earn: {points: 1, per: 1}}\n";

fn paid(name: &str, points: i64) -> (String, i64, i64, Option<Why>) {
    (name.to_owned(), points, 0, None)
}

#[test]
fn a_campaign_multiplies_the_base_or_adds_to_it_and_campaigns_add_up() {
    let programme = with_campaigns(
        PURCHASE,
        "  - {id: double, on: order.paid, multiply: 2}\n  - {id: half-more, on: order.paid, multiply: 1.5}\n  - {id: thanks, on: order.paid, add: 88}\n",
    );
    let mut account = Account { tier: None, ..Account::new("m".into()) };
    account.earned.total = Points(1_000);
    account.tier =
        Some(crate::account::Tier { id: "gold".into(), since: 0, before: None, until: None, noticed: None });
    let outcome = run(&programme, &mut account, &order(&programme, "o", "2026-11-22T10:00:00Z", "101"));
    // Each on the base of 101, none on what the tier or another campaign paid; 50.5 is rounded once.
    let expected = [
        paid("purchase", 101),
        paid("gold", 50),
        paid("double", 101),
        paid("half-more", 50),
        paid("thanks", 88),
    ];
    assert_eq!(entries(&outcome), expected);
    assert_eq!(account.available.0, 390);
}

#[test]
fn of_a_group_the_campaign_that_pays_most_pays() {
    let programme = with_campaigns(
        PURCHASE,
        "  - {id: small, on: order.paid, multiply: 1.2, group: best}\n  - {id: big, on: order.paid, multiply: 3, group: best, limit: {points: 150, per: day}}\n  - {id: other, on: order.paid, add: 1}\n",
    );
    let mut account = Account::new("m".into());
    let first = run(&programme, &mut account, &order(&programme, "a", "2026-11-22T10:00:00Z", "60"));
    assert_eq!(entries(&first), [paid("purchase", 60), paid("big", 120), paid("other", 1)]);
    // Thirty are left of the limit: more than the smaller one would pay.
    let second = run(&programme, &mut account, &order(&programme, "b", "2026-11-22T10:00:00Z", "60"));
    let cut = ("big".to_owned(), 0, 90, Some(Why::LimitPoints));
    assert_eq!(entries(&second), [paid("purchase", 60), paid("big", 30), cut, paid("other", 1)]);
    let third = run(&programme, &mut account, &order(&programme, "c", "2026-11-22T10:00:00Z", "60"));
    assert_eq!(entries(&third), [paid("purchase", 60), paid("small", 12), paid("other", 1)]);
}

#[test]
fn a_campaign_is_on_by_the_events_own_time_in_the_programmes_zone() {
    let programme = with_campaigns(
        PURCHASE,
        "  - {id: eleven, on: order.paid, add: 11, during: {from: 2026-11-10T20:00, until: 2026-11-12T00:00}}\n  - {id: member-day, on: order.paid, add: 8, during: {monthly: [8]}}\n  - {id: friday, on: order.paid, add: 5, during: {weekly: [fri]}}\n",
    );
    let mut account = Account::new("m".into());
    for (time, expected) in [
        ("2026-11-10T11:59:59Z", &[][..]),
        ("2026-11-10T12:00:00Z", &["eleven"]),
        ("2026-11-11T15:59:59Z", &["eleven"]),
        ("2026-11-11T16:00:00Z", &[]),
        ("2026-11-07T16:00:00Z", &["member-day"]),
        ("2026-11-08T16:00:00Z", &[]),
        ("2026-11-12T16:00:00Z", &["friday"]),
        ("2026-11-13T16:00:00Z", &[]),
    ] {
        let outcome = run(&programme, &mut account, &order(&programme, time, time, "1"));
        let names: Vec<String> = entries(&outcome).into_iter().skip(1).map(|entry| entry.0).collect();
        assert_eq!(names, expected, "{time}");
    }
}

#[test]
fn a_campaign_looks_at_its_members_history_as_it_was_before_the_event() {
    let programme = with_campaigns(
        PURCHASE,
        "  - {id: come-back, on: order.paid, add: 30, audience: member.days_since_last_order > 90}\n  - {id: third, on: order.paid, add: 3, audience: member.orders_in_months(2) == 2}\n  - {id: vip, on: order.paid, add: 7, audience: '\"vip\" in member.segments'}\n  - {id: birthday, on: order.paid, multiply: 2, during: birthday}\n",
    );
    let mut account = Account::new("m".into());
    let named = |outcome: &Outcome| -> Vec<String> {
        entries(outcome).into_iter().skip(1).map(|entry| entry.0).collect()
    };
    for (time, expected) in [
        ("2026-05-17T10:00:00Z", &[][..]),
        ("2026-05-18T10:00:00Z", &[]),
        ("2026-06-01T10:00:00Z", &["third"]),
        ("2026-08-30T10:00:00Z", &[]),
        ("2026-11-29T10:00:00Z", &["come-back"]),
    ] {
        let outcome = run(&programme, &mut account, &order(&programme, time, time, "1"));
        assert_eq!(named(&outcome), expected, "{time}");
    }
    let told = event(
        &programme,
        "told",
        "member.updated",
        "2026-12-01T10:00:00Z",
        r#""birthday":"2000-02-29","segments":["new","vip"]"#,
    );
    let outcome = run(&programme, &mut account, &told);
    assert!(entries(&outcome).is_empty() && matches!(outcome.applied[0].change, Change::Noted(_)));
    let outcome = run(&programme, &mut account, &order(&programme, "leap", "2027-02-28T10:00:00Z", "5"));
    assert_eq!(named(&outcome), ["come-back", "vip", "birthday"]);
}

#[test]
fn a_campaign_whose_condition_cannot_be_evaluated_is_not_on_and_is_counted() {
    let programme = with_campaigns(
        PURCHASE,
        "  - {id: gifts, on: order.paid, add: 1, when: 'data.items.exists(i, i.category == \"gift\")'}\n",
    );
    let outcome =
        run(&programme, &mut Account::new("m".into()), &order(&programme, "o", "2026-11-22T10:00:00Z", "5"));
    assert_eq!((entries(&outcome).len(), outcome.unsure), (1, vec![Unsure::Campaign(0)]));
}

#[test]
fn days_in_a_row_pay_their_bonus_once_and_a_late_day_fills_the_gap() {
    let programme = programme(
        "  - {id: sign-in, on: member.signed_in, earn: {points: 5}, limit: {times: 1, per: day}, streak: {3: 20, 5: 50}}\n",
    );
    let mut account = Account::new("m".into());
    let mut day = |day: u8, id: &str| {
        let time = format!("2026-11-{day:02}T10:00:00Z");
        entries(&run(&programme, &mut account, &sign_in(&programme, id, &time)))
    };
    let again = ("sign-in".to_owned(), 0, 5, Some(Why::LimitTimes));
    assert_eq!(day(1, "a"), [paid("sign-in", 5)]);
    assert_eq!(day(2, "b"), [paid("sign-in", 5)]);
    assert_eq!(day(2, "c"), [again]);
    assert_eq!(day(3, "d"), [paid("sign-in", 5), paid("sign-in", 20)]);
    assert_eq!(day(5, "e"), [paid("sign-in", 5)]);
    // The fourth comes late: days one to five are in a row now, and only the bonus for five is open.
    assert_eq!(day(4, "f"), [paid("sign-in", 5), paid("sign-in", 50)]);
    assert_eq!(day(6, "g"), [paid("sign-in", 5)]);
    assert_eq!(day(8, "h"), [paid("sign-in", 5)]);
}

#[test]
fn any_event_may_pay_by_any_of_its_amounts() {
    let programme = programme(
        "  - {id: fund, on: investment.made, earn: {points: 1, per: 1000.00, of: data.principal}}\n",
    );
    let mut account = Account::new("m".into());
    for (principal, points) in
        [("12500.00", Some(12)), ("\"3000\"", Some(3)), ("-5000", None), ("true", None)]
    {
        let data = format!(r#""principal":{principal}"#);
        let id = format!("{points:?}-{}", principal.len());
        let made = event(&programme, &id, "investment.made", "2026-11-22T10:00:00Z", &data);
        let outcome = run(&programme, &mut account, &made);
        assert_eq!(entries(&outcome).first().map(|entry| entry.1), points, "{principal}");
        assert_eq!(outcome.unsure.len(), usize::from(points.is_none()), "{principal}");
    }
}

#[test]
fn tiers_may_measure_money_spent_in_the_calendar_year() {
    let text = format!(
        "programme: p\ntimezone: Asia/Shanghai\ncurrency: CNY\ntiers: {{measure: spend, window: calendar_year, levels: [{{id: basic, from: 0}}, {{id: silver, from: 1000}}]}}\nrules:\n{PURCHASE}"
    );
    let programme = Programme::parse("programme.yaml", &text).unwrap();
    let mut account = Account::new("m".into());
    for (time, amount, expected) in [
        ("2025-12-31T15:59:59Z", "999.99", 0),
        // Already 2026 in Shanghai.
        ("2025-12-31T16:00:00Z", "999.99", 0),
        ("2026-06-01T10:00:00Z", "0.01", 1),
    ] {
        let outcome = run(&programme, &mut account, &order(&programme, time, time, amount));
        assert_eq!(tier_changes(&outcome).len(), expected, "{time}");
    }
}

#[test]
fn an_account_is_the_fold_of_its_changes() {
    let programme = with_campaigns(
        "  - {id: sign-in, on: member.signed_in, earn: {points: 5}, limit: {times: 1, per: day}, streak: {2: 20}}\n  - {id: purchase, on: order.paid, earn: {points: 1, per: 1}}\n",
        "  - {id: regulars, on: order.paid, multiply: 2, audience: member.orders_in_months(2) >= 1, limit: {points: 100, per: week}}\n",
    );
    let mut account = Account::new("m".into());
    let mut changes = Vec::new();
    for step in 0..40_u8 {
        let time = format!("2026-11-{:02}T10:00:00Z", 1 + step / 2);
        let id = format!("e{step}");
        let event = match step % 4 {
            0 | 1 => sign_in(&programme, &id, &time),
            2 => order(&programme, &id, &time, "70.50"),
            _ => event(&programme, &id, "member.updated", &time, &format!(r#""segments":["{step}"]"#)),
        };
        changes
            .extend(run(&programme, &mut account, &event).applied.into_iter().map(|applied| applied.change));
    }
    let mut folded = Account::new("m".into());
    changes.iter().for_each(|change| folded.evolve(change, &KEEPS).unwrap());
    assert_eq!(folded, account);
    assert_eq!(Account::from_json(&account.to_json()).unwrap(), account);
}

#[test]
fn what_is_paid_once_per_key_is_paid_once_ever_and_the_repeat_is_told_why() {
    let programme =
        programme("  - {id: survey, on: survey.completed, earn: {points: 100}, once_per: data.survey_id}\n");
    let mut account = Account::new("m".into());
    let mut paid_before: Vec<ReceiptKey> = Vec::new();
    for (id, survey, points, why) in [
        ("a", r#""survey_id":"autumn""#, Some(100), None),
        ("b", r#""survey_id":"winter""#, Some(100), None),
        ("c", r#""survey_id":"autumn""#, Some(0), Some(Why::AlreadyPaid)),
        ("d", r#""survey_id":7"#, Some(100), None),
        ("e", r#""survey_id":null"#, None, None),
    ] {
        let event = event(&programme, id, "survey.completed", "2026-11-22T10:00:00Z", survey);
        let paid = |key: &ReceiptKey| paid_before.contains(key);
        let outside = Outside { paid_before: &paid, ..Outside::UNTOUCHED };
        let outcome = apply(&programme, &mut account, &event, &KEEPS, &outside).unwrap();
        let entry = entries(&outcome).into_iter().next();
        assert_eq!(entry.as_ref().map(|entry| entry.1), points, "{id}");
        assert_eq!(entry.and_then(|entry| entry.3), why, "{id}");
        paid_before.extend(outcome.once);
    }
    assert_eq!(paid_before[0].as_ref(), "o survey 1:m autumn");
}

#[test]
fn a_campaign_pays_what_its_budget_has_left_and_says_what_it_wanted() {
    let programme = with_campaigns(
        PURCHASE,
        "  - {id: double, on: order.paid, multiply: 2, limit: {points: 80, per: day}, budget: {points: 1000}}\n  - {id: thanks, on: order.paid, add: 5}\n",
    );
    let declined = |points, why| ("double".to_owned(), 0, points, Some(why));
    for (left, expected, paid_of_it) in [
        (1000, vec![paid("purchase", 100), paid("double", 80), declined(20, Why::LimitPoints)], 80),
        (80, vec![paid("purchase", 100), paid("double", 80), declined(20, Why::LimitPoints)], 80),
        (79, vec![paid("purchase", 100), paid("double", 79), declined(21, Why::Budget)], 79),
        (0, vec![paid("purchase", 100), declined(100, Why::Budget)], 0),
    ] {
        let outside = Outside { left: &|_| Points(left), ..Outside::UNTOUCHED };
        let mut account = Account::new("m".into());
        let order = order(&programme, "o", "2026-11-22T10:00:00Z", "100");
        let outcome = apply(&programme, &mut account, &order, &KEEPS, &outside).unwrap();
        assert_eq!(entries(&outcome), [expected, vec![paid("thanks", 5)]].concat(), "{left} left");
        let (wanted, left, paid) = (Points(80), Points(left), Points(paid_of_it));
        assert_eq!(outcome.draws, [Draw { campaign: "double".into(), wanted, left, paid }]);
    }
}

#[test]
fn of_a_group_the_one_that_pays_most_of_what_budgets_have_left_pays_and_the_others_take_nothing() {
    let programme = with_campaigns(
        PURCHASE,
        "  - {id: big, on: order.paid, add: 50, group: g, budget: {points: 9}}\n  - {id: small, on: order.paid, add: 40, group: g, budget: {points: 9}}\n",
    );
    for (left, winner, paid_by) in [([50, 40], "big", 50), ([39, 40], "small", 40), ([39, 20], "big", 39)] {
        let of = |campaign: &CampaignId| Points(left[usize::from(campaign.as_str() == "small")]);
        let outside = Outside { left: &of, ..Outside::UNTOUCHED };
        let mut account = Account::new("m".into());
        let order = order(&programme, "o", "2026-11-22T10:00:00Z", "1");
        let outcome = apply(&programme, &mut account, &order, &KEEPS, &outside).unwrap();
        assert_eq!(entries(&outcome)[1], paid(winner, paid_by), "{left:?}");
        let taken: Vec<i64> = outcome.draws.iter().map(|draw| draw.paid.0).collect();
        assert_eq!(taken, if winner == "big" { [paid_by, 0] } else { [0, paid_by] }, "{left:?}");
        assert!(outcome.draws.iter().map(|draw| draw.wanted.0).eq([50, 40]), "both say what they wanted");
    }
}

#[test]
fn what_rules_give_is_taken_from_stock_whatever_campaigns_pay_beside_and_never_beyond_it() {
    let rules = "  - {id: thanks, on: order.paid, earn: {points: 1}, give: mug}
  - {id: again, on: order.paid, earn: {points: 1}, give: mug}
";
    let campaigns = "  - {id: more, on: order.paid, add: 5, budget: {points: 1000}}
redemption:
  rewards: [{id: mug, kind: goods, points: 10, stock: 100}]
";
    let programme = with_campaigns(rules, campaigns);
    for (left, given) in [(2, 2), (1, 1), (0, 0)] {
        let of = |of: &CampaignId| if of.as_str() == "more" { Points(1000) } else { Points(left) };
        let outside = Outside { left: &of, ..Outside::UNTOUCHED };
        let mut account = Account::new("m".into());
        let order = order(&programme, "o", "2026-11-22T10:00:00Z", "1");
        let outcome = apply(&programme, &mut account, &order, &KEEPS, &outside).unwrap();
        let granted = outcome.applied.iter().filter(
            |applied| matches!(&applied.change, Change::Entry(entry) if entry.kind == EntryKind::Granted),
        );
        assert_eq!(granted.count(), given, "{left} left");
        let of_stock = outcome.draws.iter().filter(|draw| draw.campaign.as_str() != "more");
        let taken: i64 = of_stock.map(|draw| draw.paid.0).sum();
        assert_eq!(taken, i64::try_from(given).unwrap(), "{left} left");
    }
}

/// What a watch heard, in the words of its debug output.
#[derive(Default)]
struct Heard(Vec<String>);

impl Watch for Heard {
    fn rule(&mut self, at: usize, item: Option<usize>, why: impl FnOnce() -> Unpaid) {
        let item = item.map(|item| format!(" item {item}")).unwrap_or_default();
        self.0.push(format!("rule {at}{item}: {:?}", why()));
    }

    fn campaign(&mut self, at: usize, why: impl FnOnce() -> Unpaid) {
        self.0.push(format!("campaign {at}: {:?}", why()));
    }
}

#[test]
fn a_watch_hears_of_everything_that_made_no_entry_and_of_nothing_else() {
    let rules = "  - {id: pays, on: order.paid, earn: {points: 10}}
  - {id: cut, on: order.paid, earn: {points: 10}, limit: {times: 1, per: day}}
  - {id: small, on: order.paid, earn: {points: 1, per: 1000}}
  - {id: big, on: order.paid, when: data.amount >= 500, earn: {points: 10}}
  - {id: books, on: order.paid, each: item, when: item.category == \"books\", earn: {points: 1, per: 1}}
  - {id: toys, on: order.paid, each: item, when: item.category == \"toys\", earn: {points: 1, per: 1}}
  - {id: of, on: order.paid, earn: {points: 1, per: 1, of: 'data[\"net\"]'}}
  - {id: below, on: order.paid, earn: {points: 1, per: 1, of: 0 - data.amount}}
  - {id: once, on: order.paid, earn: {points: 1}, once_per: 'data[\"voucher\"]'}
campaigns:
  - {id: on, on: order.paid, add: 1, group: g}
  - {id: over, on: order.paid, add: 1, during: {from: 2020-01-01T00:00, until: 2020-01-02T00:00}}
  - {id: when, on: order.paid, add: 1, when: data.amount >= 500}
  - {id: audience, on: order.paid, add: 1, audience: member.tier == \"gold\"}
  - {id: unknown, on: order.paid, add: 1, audience: member.days_since_last_order > 3}
  - {id: little, on: order.paid, multiply: 1.01}
  - {id: lost, on: order.paid, add: 1, group: g}
";
    let programme = programme(rules);
    let mut account = Account::new("m".into());
    run(&programme, &mut account, &order(&programme, "before", "2026-11-22T09:00:00Z", "1.00"));
    account.activity.last_order = None;
    let data = r#""order_id":"o","currency":"CNY","amount":"20","items":[
        {"sku":"a","category":"books","quantity":1,"price":"9"},
        {"sku":"b","quantity":1,"price":"9"}]"#;
    let event = event(&programme, "o", "order.paid", "2026-11-22T10:00:00Z", data);
    let mut heard = Heard::default();
    let mut again = account.clone();
    let outcome =
        apply_watched(&programme, &mut account, &event, &KEEPS, &Outside::UNTOUCHED, &mut heard).unwrap();
    assert_eq!(
        heard.0,
        [
            "rule 3: When",
            "rule 4 item 1: Failed(When, Missing(\"category\"))",
            "rule 5 item 0: When",
            "rule 5 item 1: Failed(When, Missing(\"category\"))",
            "rule 5: Failed(When, Missing(\"category\"))",
            "rule 6: Failed(Of, Missing(\"net\"))",
            "rule 7: Failed(Of, Kind { wanted: \"an amount of 0 or more\", found: \"below 0\" })",
            "rule 8: Failed(OncePer, Missing(\"voucher\"))",
            "campaign 1: During",
            "campaign 2: When",
            "campaign 3: Audience",
            "campaign 4: Failed(Audience, Missing(\"days_since_last_order\"))",
            "campaign 5: NoBase",
            "campaign 6: Group(\"on\")",
        ]
    );
    let paid: Vec<String> = entries(&outcome).into_iter().map(|(by, ..)| by).collect();
    assert_eq!(paid, ["pays", "cut", "small", "books", "on"]);
    assert_eq!(run(&programme, &mut again, &event).applied, outcome.applied, "looking on changes nothing");
}

/// What came of a rule, and which of its entries count toward its limits.
fn gifts(outcome: &Outcome) -> Vec<(EntryKind, i64, usize, bool)> {
    let entries = outcome.applied.iter().filter_map(|applied| match &applied.change {
        Change::Entry(entry) => {
            Some((entry.kind, entry.points.0, entry.counts.len(), entry.reward.is_some()))
        }
        Change::Tier(_) | Change::Noted(_) => None,
    });
    entries.collect()
}

#[test]
fn an_event_that_brings_points_and_a_reward_counts_once_and_the_entry_of_the_points_counts() {
    use EntryKind::{Declined, Earned, Granted};
    let programme = programme(
        "  - {id: visit, on: visited, earn: {points: 5}, limit: [{times: 3, per: day}, {points: 8, per: day}], give: mug}
redemption: {rewards: [{id: mug, kind: goods, points: 5}]}
",
    );
    let mut account = Account::new("m".into());
    let mut visit = |id: &str| {
        let event = event(&programme, id, "visited", "2026-11-22T10:00:00Z", r#""channel":"app""#);
        let outcome = run(&programme, &mut account, &event);
        let day = Day::of(&programme, &event).date;
        let by = Origin::Rule("visit".into());
        (gifts(&outcome), account.used(&by, crate::programme::Period::Day, day))
    };
    assert_eq!(visit("1"), (vec![(Earned, 5, 1, false), (Granted, 0, 0, true)], (1, Points(5))));
    let cut = vec![(Earned, 3, 1, false), (Declined, 0, 0, false), (Granted, 0, 0, true)];
    assert_eq!(visit("2"), (cut, (2, Points(8))));
    assert_eq!(visit("3"), (vec![(Declined, 0, 0, false), (Granted, 0, 1, true)], (3, Points(8))));
    assert_eq!(visit("4"), (vec![(Declined, 0, 0, true)], (3, Points(8))));
}

#[test]
fn what_is_given_once_ever_is_remembered_also_where_a_limit_cut_all_points() {
    let programme = programme(
        "  - {id: survey, on: survey, earn: {points: 5}, once_per: data.name, limit: {points: 5, per: ever}, give: mug}
redemption: {rewards: [{id: mug, kind: goods, points: 5}]}
",
    );
    let mut account = Account::new("m".into());
    let mut once = |name: &str| {
        let data = format!(r#""name":"{name}""#);
        let event = event(&programme, name, "survey", "2026-11-22T10:00:00Z", &data);
        run(&programme, &mut account, &event).once.len()
    };
    assert_eq!((once("spring"), once("summer")), (1, 1));
}

/// What a member who reaches a level by a first order and orders once more tells by either: whether their next moment may
/// be another one.
fn moves(tiers: &str) -> [bool; 2] {
    let text = format!(
        "programme: p\ntimezone: UTC\ncurrency: CNY\ntiers:\n  window: P12M\n{tiers}  levels: [{{id: basic, from: 0}}, {{id: gold, from: 100}}]\n\
         rules:\n  - {{id: buy, on: order.paid, earn: {{points: 1, per: 1.00}}}}\n"
    );
    let programme = Programme::parse("programme.yaml", &text).unwrap_or_else(|problems| panic!("{problems}"));
    let mut account = Account::new("m".into());
    ["2026-03-01T10:00:00Z", "2026-03-02T10:00:00Z"].map(|time| {
        let before = due::TellTale::of(&account);
        run(&programme, &mut account, &order(&programme, time, time, "200"));
        before.may_move(&programme, &account)
    })
}

#[test]
fn what_is_earned_moves_what_falls_due_of_a_level_only_where_levels_are_reviewed() {
    assert_eq!(moves(""), [true, false]);
    assert_eq!(moves("  review: {every: P1Y, drop: one_level, notice: P30D}\n"), [true, true]);
}
