use serde_json::{Value, json};

use super::*;
use crate::account::{HistoryEntry, Tier, Used};
use crate::entry::EntryKind;

const PROGRAMME: &str = r"
programme: shop
timezone: Asia/Shanghai
currency: CNY
tiers:
  measure: earned
  window: P12M
  levels:
    - {id: basic, from: 0}
    - {id: silver, from: 1000, earn: 1.1, benefits: [priority_service]}
    - {id: gold, from: 5000, earn: 1.25}
rules:
  - {id: purchase, on: order.paid, earn: {points: 1, per: 1.00}}
  - {id: sign-in, on: member.signed_in, earn: {points: 5}, limit: {times: 1, per: day}}
  - {id: share, on: content.shared, earn: {points: 2}, limit: [{times: 5, per: day}, {points: 100, per: month}]}
";

fn programme() -> Programme {
    Programme::parse("programme.yaml", PROGRAMME).unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A silver member who signed in at one in the morning of 2026-11-22 in Shanghai.
fn account() -> Account {
    let mut account = Account::new("m-1".into());
    let signed_in = at("2026-11-21T17:00:00Z").as_second();
    let entry = |by, kind, points, declined, why| HistoryEntry {
        at: signed_in,
        kind,
        points: Points(points),
        declined: Points(declined),
        by,
        reward: None,
        why,
        event: "/shop/app s 1".into(),
    };
    let gift = |kind, why| HistoryEntry {
        reward: Some("ten-off".into()),
        ..entry(Origin::Rule("gift".into()), kind, 0, 0, why)
    };
    account.version = 7;
    account.available = Points(1205);
    account.tier = Some(Tier {
        id: "silver".into(),
        since: at("2026-03-01T00:00:00Z").as_second(),
        before: None,
        until: None,
        noticed: None,
    });
    for (points, expires) in
        [(5, None), (200, Some("2027-12-31T16:00:00Z")), (1000, Some("2026-12-31T16:00:00Z"))]
    {
        let expires = expires.map(|moment| at(moment).as_second());
        account.lots.add(Lot::open(Points(points), expires)).unwrap();
    }
    account.earned.months = vec![(2025 * 12 + 11, Points(900)), (2026 * 12 + 10, Points(305))];
    let day = period_index(Period::Day, Date::constant(2026, 11, 22));
    account.used.insert("sign-in".into(), vec![Used(Period::Day, day, 1, Points(5))]);
    account.history = [
        entry(Origin::Rule("sign-in".into()), EntryKind::Earned, 5, 0, None),
        entry(Origin::Tier("silver".into()), EntryKind::Earned, 1, 0, None),
        entry(Origin::Rule("sign-in".into()), EntryKind::Declined, 0, 5, Some(Why::LimitTimes)),
        gift(EntryKind::Granted, None),
        gift(EntryKind::Declined, Some(Why::AlreadyPaid)),
    ]
    .into_iter()
    .collect();
    account
}

fn shown(account: &Account, now: &str) -> Value {
    serde_json::to_value(AccountView::of(&programme(), account, at(now))).unwrap()
}

#[test]
fn what_has_fallen_due_is_applied_on_read_whether_the_clock_has_come_to_it_or_not() {
    let text =
        "programme: p\ntimezone: UTC\ncurrency: EUR\nrules: [{id: r, on: order.paid, earn: {points: 1}}]\n";
    let programme = Programme::parse("programme.yaml", text).unwrap();
    let mut account = Account::new("m-1".into());
    let second = |text: &str| Some(at(text).as_second());
    (account.version, account.available, account.pending) = (9, Points(30), Points(12));
    account.lots.add(Lot::open(Points(30), second("2026-12-01T00:00:00Z"))).unwrap();
    let held = Lot {
        release: second("2026-11-25T00:00:00Z"),
        ..Lot::open(Points(12), second("2027-11-01T00:00:00Z"))
    };
    account.held.add(held).unwrap();
    for (now, available, pending, lots) in [
        ("2026-11-24T23:59:59Z", 30, 12, 2),
        ("2026-11-25T00:00:00Z", 42, 0, 2),
        ("2026-11-30T23:59:59Z", 42, 0, 2),
        ("2026-12-01T00:00:00Z", 12, 0, 1),
        ("2027-11-01T00:00:00Z", 0, 0, 0),
    ] {
        let view = AccountView::of(&programme, &account, at(now));
        assert_eq!(
            (view.available.0, view.pending.0, view.lots.len(), view.version),
            (available, pending, lots, 9),
            "{now}"
        );
    }
}

#[test]
fn a_member_sees_points_tier_progress_lots_limits_and_reasons() {
    let event = json!({"source": "/shop/app", "id": "s 1"});
    let time = "2026-11-21T17:00:00Z";
    let expected = json!({
        "member_id": "m-1",
        "version": 7,
        "available": 1205,
        "pending": 0,
        "tier": {
            "id": "silver",
            "since": "2026-03-01T00:00:00Z",
            "kept_until": null,
            "benefits": ["priority_service"],
            "measured": {"measure": "earned", "amount": 1205, "window": "P12M"},
            "next": {"id": "gold", "missing": 3795},
        },
        "lots": [
            {"points": 1000, "expires_at": "2026-12-31T16:00:00Z"},
            {"points": 200, "expires_at": "2027-12-31T16:00:00Z"},
            {"points": 5, "expires_at": null},
        ],
        "limits": [
            {"rule": "sign-in", "per": "day", "times_left": 0},
            {"rule": "share", "per": "day", "times_left": 5},
            {"rule": "share", "per": "month", "points_left": 100},
        ],
        "history": [
            {"time": time, "type": "points.declined", "points": 0, "rule": "gift", "reward": "ten-off",
             "reason": "already_paid", "event": event},
            {"time": time, "type": "reward.granted", "points": 0, "rule": "gift", "reward": "ten-off",
             "event": event},
            {"time": time, "type": "points.declined", "points": 0, "declined": 5, "rule": "sign-in",
             "reason": "limit_times", "event": event},
            {"time": time, "type": "points.earned", "points": 1, "tier": "silver", "event": event},
            {"time": time, "type": "points.earned", "points": 5, "rule": "sign-in", "event": event},
        ],
    });
    assert_eq!(shown(&account(), "2026-11-22T01:00:00Z"), expected);
}

#[test]
fn a_limit_is_whole_again_when_the_day_of_the_programme_zone_ends() {
    let left = |now| shown(&account(), now)["limits"][0]["times_left"].clone();
    assert_eq!(left("2026-11-22T15:59:59Z"), 0);
    assert_eq!(left("2026-11-22T16:00:00Z"), 1);
}

#[test]
fn months_that_left_the_window_do_not_count_toward_the_next_tier() {
    let measured = |now| shown(&account(), now)["tier"]["measured"]["amount"].clone();
    assert_eq!(measured("2026-11-30T15:59:59Z"), 1205);
    assert_eq!(measured("2026-11-30T16:00:00Z"), 305);
    assert_eq!(measured("2028-01-01T00:00:00Z"), 0);
}

#[test]
fn a_member_without_a_tier_change_has_the_first_level_since_ever() {
    let tier = shown(&Account::new("m-2".into()), "2026-11-22T01:00:00Z")["tier"].clone();
    assert_eq!(tier["id"], "basic");
    assert_eq!(tier["since"], Value::Null);
    assert_eq!(tier["next"], json!({"id": "silver", "missing": 1000}));
}

#[test]
fn the_highest_level_has_no_next_and_a_programme_without_tiers_no_tier() {
    let mut account = account();
    account.tier = Some(Tier { id: "gold".into(), since: 0, before: None, until: None, noticed: None });
    assert_eq!(shown(&account, "2026-11-22T01:00:00Z")["tier"]["next"], Value::Null);

    let programme = Programme { tiers: None, ..programme() };
    assert_eq!(AccountView::of(&programme, &account, at("2026-11-22T01:00:00Z")).tier, None);
}

#[test]
fn what_is_shown_is_read_back_as_it_was() {
    let view = AccountView::of(&programme(), &account(), at("2026-11-22T01:00:00Z"));
    let json = serde_json::to_string(&view).unwrap();
    assert_eq!(serde_json::from_str::<AccountView>(&json).unwrap(), view);
}
