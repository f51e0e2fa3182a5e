#![allow(clippy::too_many_lines, reason = "tables")]

use std::fmt::Write as _;
use std::path::Path;

use proptest::prelude::*;
use rust_decimal::Decimal;

use super::*;
use crate::programme::Shortfall;
use crate::programme::lifetime::{EndOf, Expire};
use crate::programme::reward::RewardKind;
use crate::programme::{Each, Earn, Limit, Most, Period, Rounding, Window};
use crate::types::Points;
use crate::yaml::CalendarSpan;
use crate::yaml::{Position, Problem, golden};

/// What must be there, and nothing else.
const LEAST: &str = "\
programme: shop
timezone: Asia/Shanghai
currency: CNY
rules: [{id: purchase, on: order.paid, earn: {points: 1, per: 1.00}}]
";

fn read(file: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

/// Each problem as `line:column message`.
fn short(result: Result<Programme, Problems>) -> Vec<String> {
    let line = |problem: &Problem| {
        let Position::File { line, column, .. } = &problem.position else { panic!("{problem}") };
        format!("{line}:{column} {}", problem.message)
    };
    result.err().map(|problems| problems.iter().map(line).collect()).unwrap_or_default()
}

/// What is wrong with these lines after the least programme.
fn with(lines: &str) -> Vec<String> {
    short(Programme::parse("programme.yaml", &format!("{LEAST}{lines}\n")))
}

/// What is wrong with this rule, given without its braces.
fn with_rule(rule: &str) -> Vec<String> {
    short(Programme::parse("programme.yaml", &least_with_rule(rule)))
}

fn least_with_rule(rule: &str) -> String {
    LEAST.replace("id: purchase, on: order.paid, earn: {points: 1, per: 1.00}", rule)
}

/// A programme of this rule and a catalogue.
fn giving(rule: &str) -> Result<Programme, Problems> {
    let catalogue = "redemption: {rewards: [{id: mug, kind: goods, points: 1200}, {id: ten-off, kind: coupon, points: 900, worth: 10.00}, {id: fitting, kind: service, points: 1}]}";
    Programme::parse("programme.yaml", &format!("{}{catalogue}\n", least_with_rule(rule)))
}

#[test]
fn the_example_is_read_as_it_says() {
    let programme = Programme::parse("programme.yaml", &read("examples/programme.yaml")).unwrap();
    assert_eq!(programme.name, "shop");
    assert_eq!(programme.zone.iana_name(), Some("Asia/Shanghai"));
    assert_eq!(programme.currency, "CNY");
    assert_eq!(programme.rounding, Rounding::Floor);

    let tiers = programme.tiers.unwrap();
    assert_eq!(tiers.window, Window::Months(12));
    let levels: Vec<_> = tiers
        .levels
        .iter()
        .map(|level| (level.id.as_str(), level.from.0, level.earn.to_string(), level.benefits.join(" ")))
        .collect();
    let level = |id, from, earn: &str, benefits: &str| (id, from, earn.to_owned(), benefits.to_owned());
    assert_eq!(
        levels,
        [
            level("basic", 0, "1", ""),
            level("silver", 1_000, "1.1", ""),
            level("gold", 5_000, "1.25", "priority_service"),
            level("diamond", 20_000, "1.5", "priority_service free_shipping"),
        ]
    );

    let ids: Vec<&str> = programme.rules.iter().map(|rule| rule.id.as_str()).collect();
    assert_eq!(ids, ["purchase", "new-books", "sign-in", "review", "share", "welcome", "survey"]);
    let rule = |id: &str| programme.rules.iter().find(|rule| rule.id.as_str() == id).unwrap();
    assert_eq!(rule("purchase").earn, Earn::PerAmount { points: Points(1), per: Decimal::ONE });
    assert_eq!(rule("purchase").each, Each::Event);
    assert_eq!(rule("new-books").each, Each::Item);
    let source = |id: &str| rule(id).when.as_ref().unwrap().source();
    assert_eq!(source("new-books"), r#"item.category == "books" && "new" in item.tags"#);
    assert_eq!(source("review"), "size(data.text) >= 20");
    assert_eq!(rule("sign-in").earn, Earn::Fixed(Points(5)));
    assert_eq!(
        rule("share").limits,
        [
            Limit { most: Most::Times(5), per: Period::Day },
            Limit { most: Most::Points(Points(100)), per: Period::Month },
        ]
    );
    assert_eq!(programme.by_type[&EventType::from("order.paid")].rules, [0, 1]);
    assert_eq!(programme.by_type[&EventType::from("survey.completed")].rules, [6]);
}

#[test]
fn what_is_left_out_has_its_default() {
    let programme = Programme::parse("programme.yaml", LEAST).unwrap();
    assert_eq!(programme.rounding, Rounding::Floor);
    assert!(programme.tiers.is_none());
    let rule = programme.rules.first().unwrap();
    assert!(rule.when.is_none() && rule.limits.is_empty() && rule.each == Each::Event);
}

#[test]
fn the_same_text_is_the_same_version_on_every_machine() {
    assert_eq!(Programme::parse("a.yaml", LEAST).unwrap().version, "0247bf8be14c");
    let other = Programme::parse("a.yaml", &format!("{LEAST}# a comment\n")).unwrap();
    assert_ne!(other.version, "0247bf8be14c");
}

#[test]
fn the_whole_language_is_read() {
    let read = Programme::parse("programme.yaml", &read("tests/fixtures/config/whole-language.yaml"));
    assert_eq!(short(read), [""; 0]);
}

#[test]
fn how_long_points_live_is_the_programmes_where_a_rule_does_not_say_otherwise() {
    let text = "programme: p\ntimezone: UTC\ncurrency: EUR\npoints: {hold: P14D, expire: {after: P1Y, at: end_of_month}, shortfall: clamp, notice: P30D}
rules:
  - {id: a, on: order.paid, earn: {points: 1}}
  - {id: b, on: order.paid, earn: {points: 1}, hold: P0D}
  - {id: c, on: order.paid, earn: {points: 1}, expire: never}\n";
    let programme = Programme::parse("programme.yaml", text).unwrap();
    let year = Expire { after: CalendarSpan { months: 12, days: 0 }, at: EndOf::Month };
    let (two_weeks, none) = (CalendarSpan { months: 0, days: 14 }, CalendarSpan::default());
    let lives: Vec<_> =
        programme.rules.iter().map(|rule| (rule.lifetime.hold, rule.lifetime.expire)).collect();
    assert_eq!(lives, [(two_weeks, Some(year)), (none, Some(year)), (two_weeks, None)]);
    assert_eq!(programme.shortfall, Shortfall::Clamp);
    assert_eq!(programme.notice, Some(CalendarSpan { months: 0, days: 30 }));
}

#[test]
fn a_life_of_points_that_cannot_be_is_refused() {
    for (line, problem) in [
        ("points: {hold: P1Y, expire: {after: P6M}}", "`hold` must be shorter than `expire`"),
        ("points: {expire: {after: P0D}}", "`points.expire.after` must be longer than nothing"),
        ("points: {expire: {after: P1Y, at: end_of_week}}", "must be `end_of_month` or `end_of_year`"),
        ("points: {shortfall: ignore}", "`points.shortfall` must be `negative` or `clamp`"),
        ("redemption: {rewards: [{id: a, kind: money}]}", "money is bought at `redemption.rate`"),
        ("redemption: {boosts: [{during: {weekly: [fri]}, worth: 1.20}]}", "there is no `rate`"),
        (
            "redemption: {rewards: [{id: a, kind: lottery, points: 5, prizes: [{id: a, weight: 1, stock: 1}]}]}",
            "every prize has a `stock`",
        ),
    ] {
        let found = with(line);
        assert!(found.len() == 1 && found[0].contains(problem), "{line}: {found:?}");
    }
}

#[test]
fn a_rule_gives_a_reward_of_the_catalogue_beside_points_or_instead_of_them() {
    let programme = giving("id: a, on: x, earn: {points: 5}, give: ten-off").unwrap();
    let given = programme.rules[0].give.as_ref().unwrap();
    assert_eq!((given.id.as_str(), given.kind), ("ten-off", RewardKind::Coupon));
    assert_eq!(given.worth.map(|worth| worth.to_string()).as_deref(), Some("10.00"));
    let catalogue: Vec<_> =
        programme.redemption.offers.iter().map(|offer| offer.reward.to_string()).collect();
    assert_eq!(catalogue, ["mug, goods", "ten-off, a coupon worth 10.00", "fitting, a service"]);

    let programme = giving("id: a, on: x, give: mug").unwrap();
    assert_eq!((programme.rules[0].earn, programme.rules[0].give.is_some()), (Earn::Nothing, true));
}

#[test]
fn a_gift_that_cannot_be_is_refused_with_what_would_be_right() {
    let cases: &[(&str, &str)] = &[
        ("id: a, on: x, give: tenoff", "4:30 there is no reward `tenoff`; did you mean `ten-off`?"),
        ("id: a, on: x, give: car", "4:30 there is no reward `car` under `redemption.rewards`"),
        (
            "id: a, on: x, give: [mug, ten-off]",
            "4:30 `give` must be 1 to 64 letters, digits, `-`, `_` and `.`, the first a letter or digit, not a list",
        ),
        ("id: a, on: x, give: mug, earn: {}", "4:41 `points` is missing in `earn`"),
        (
            "id: a, on: order.paid, each: item, earn: {points: 1}, give: mug",
            "4:39 `give` gives one reward for the order and does not go with `each: item`; ask for an item in `when`, as in `data.items.exists(i, i.category == \"books\")`",
        ),
        (
            "id: a, on: x, give: mug, limit: [{times: 1, per: day}, {points: 5, per: day}]",
            "4:74 a rule without `earn` pays no points that a limit could cut; limit it by `times`",
        ),
        ("id: a, on: x, give: mug, limit: [5]", "4:43 a limit must be a map (`key: value`), not `5`"),
    ];
    let differ: Vec<_> = cases
        .iter()
        .map(|(rule, expected)| (short(giving(rule)), [*expected]))
        .filter(|(found, expected)| found != expected)
        .collect();
    assert!(differ.is_empty(), "{differ:#?}");
}

#[test]
fn a_broken_programme_shows_every_line_that_is_wrong() {
    let file = "tests/fixtures/config/broken-programme.yaml";
    let problems = Programme::parse(file, &read(file)).unwrap_err();
    golden("tests/fixtures/config/broken-programme.txt", &format!("{problems}\n"));
}

#[test]
fn a_mistake_in_a_condition_is_marked_where_it_stands_however_the_condition_is_written() {
    let mut shown = String::new();
    for when in [
        "data.amout >= 200",
        "'data.amout >= 200'",
        "\"data.currency == \\\"CNY\\\" && data.amout >= 200\"",
        "'data.currency == ''CNY'' && data.amout >= 200'",
        "|\n      data.currency == \"CNY\"\n        && data.amout >= 200",
        ">-\n      data.currency == \"CNY\"\n      && data.amout >= 200",
        "data.currency == \"CNY\"\n      && data.amout >= 200",
        "data.amount >=",
    ] {
        let text = format!(
            "programme: shop\ntimezone: UTC\ncurrency: CNY\nrules:\n  - id: a\n    on: order.paid\n    when: {when}\n    earn: {{points: 1}}\n"
        );
        let problems = Programme::parse("programme.yaml", &text).unwrap_err();
        writeln!(shown, "{problems}\n").unwrap();
    }
    golden("tests/fixtures/config/conditions.txt", &shown);
}

#[test]
fn a_programme_that_cannot_be_is_refused_with_what_would_be_right() {
    let cases: &[(&str, &[&str])] = &[
        (
            "",
            &[
                "1:1 the file is empty; a programme has at least `programme`, `timezone`, `currency` and `rules`",
            ],
        ),
        ("[]", &["1:1 the programme must be a map (`key: value`), not a list"]),
        (
            "rules: []",
            &[
                "1:1 `programme` is missing in the programme",
                "1:1 `timezone` is missing in the programme",
                "1:1 `currency` is missing in the programme",
                "1:8 `rules` is empty; without a rule nothing earns points",
            ],
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(short(Programme::parse("programme.yaml", text)), *expected, "{text}");
    }
    let changes: &[(&str, &str, &str)] = &[
        (
            "programme: shop",
            "programme: my shop",
            "1:12 `programme` must be 1 to 64 letters, digits, `-`, `_` and `.`, the first a letter or digit, not `my shop`",
        ),
        (
            "programme: shop",
            "programme: {name: shop}",
            "1:12 `programme` must be 1 to 64 letters, digits, `-`, `_` and `.`, the first a letter or digit, not a map",
        ),
        (
            "Asia/Shanghai",
            "Europe/Belrin",
            "2:11 there is no time zone `Europe/Belrin`; did you mean `Europe/Berlin`?",
        ),
        (
            "Asia/Shanghai",
            "+08:00",
            "2:11 there is no time zone `+08:00`; write an IANA name such as `Europe/Berlin`",
        ),
        (
            "CNY",
            "RMB¥",
            "3:11 `currency` must be three capital letters, an ISO 4217 code such as EUR, not `RMB¥`",
        ),
        (
            "CNY",
            "156",
            "3:11 `currency` must be three capital letters, an ISO 4217 code such as EUR, not `156`",
        ),
    ];
    for (from, to, expected) in changes {
        assert_eq!(short(Programme::parse("programme.yaml", &LEAST.replace(from, to))), [*expected]);
    }
    let lines: &[(&str, &str)] = &[
        (
            "campaign: []",
            "5:1 unknown key `campaign`; did you mean `campaigns`? Known here: programme, timezone, currency, effective_from, points, tiers, rules, campaigns, redemption",
        ),
        (
            "points: {rounding: up}",
            "5:20 `points.rounding` must be one of `floor`, `half_up`, `ceil`, not `up`",
        ),
        ("points:", "5:7 `points` has no value; it must be a map (`key: value`)"),
        ("tiers: {levels: [{id: a, from: 0}]}", "5:8 `window` is missing in `tiers`"),
        (
            "tiers: {window: P30D, levels: [{id: a, from: 0}]}",
            "5:17 `tiers.window` must be whole months such as P12M, at most 120, or `lifetime` or `calendar_year`, not `P30D`",
        ),
        (
            "tiers: {window: P11Y, levels: [{id: a, from: 0}]}",
            "5:17 `tiers.window` must be whole months such as P12M, at most 120, or `lifetime` or `calendar_year`, not `P11Y`",
        ),
        (
            "tiers: {window: P1Y, levels: []}",
            "5:30 `tiers.levels` is empty; name at least one, as in `{id: basic, from: 0}`",
        ),
        (
            "tiers: {window: P1Y, levels: [{id: a, from: 1}]}",
            "5:45 the first level must be from 0, so that every member has a level",
        ),
        (
            "tiers: {window: P1Y, levels: [{id: a, from: 0}, {id: b, from: 5}, {id: c, from: 5}]}",
            "5:81 `from` must be more than 5, which the level before has",
        ),
        (
            "tiers: {window: P1Y, levels: [{id: a, from: 0}, {id: a, from: 5}]}",
            "5:54 `a` is given twice; the first is on line 5",
        ),
        (
            "tiers: {window: P1Y, levels: [{id: a, from: -1}]}",
            "5:45 `from` must be a whole number from 0 to 1000000000000000, not `-1`",
        ),
        (
            "tiers: {window: P1Y, levels: [{id: a, from: 0, earn: 0.5}]}",
            "5:54 `earn` must be a factor from 1 to 100, such as 1.25, not `0.5`",
        ),
        (
            "tiers: {window: P1Y, levels: [{id: a, from: 0, benefits: [x, x]}]}",
            "5:62 `x` is given twice; the first is on line 5",
        ),
        (
            "tiers: {window: P1Y, levels: [{id: a, from: 0, benefits: x}]}",
            "5:58 `benefits` must be a list, not `x`",
        ),
    ];
    let differ: Vec<_> = lines
        .iter()
        .map(|(line, expected)| (with(line), [*expected]))
        .filter(|(found, expected)| found != expected)
        .collect();
    assert!(differ.is_empty(), "{differ:#?}");
}

#[test]
fn a_rule_that_cannot_be_is_refused_with_what_would_be_right() {
    let cases: &[(&str, &str)] = &[
        ("on: order.paid, earn: {points: 1}", "4:9 `id` is missing in a rule"),
        ("id: a, earn: {points: 1}", "4:9 `on` is missing in a rule"),
        ("id: a, on: order.paid", "4:9 `earn` is missing in a rule"),
        (
            "id: -a, on: order.paid, earn: {points: 1}",
            "4:14 `id` must be 1 to 64 letters, digits, `-`, `_` and `.`, the first a letter or digit, not `-a`",
        ),
        (
            "id: a, on: order paid, earn: {points: 1}",
            "4:21 `on` must be an event type such as order.paid, of at most 128 letters, digits, `.`, `-`, `_`, `:` and `/`, not `order paid`",
        ),
        (
            "id: a, on: order.paid, earn: {points: 0}",
            "4:48 `earn.points` must be a whole number from 1 to 1000000000000000, not `0`",
        ),
        (
            "id: a, on: order.paid, earn: {points: 1, per: 0.00}",
            "4:56 `earn.per` must be money above 0, such as 1.00, not `0.00`",
        ),
        (
            "id: a, on: order.paid, earn: {points: 1, per: -1}",
            "4:56 `earn.per` must be money above 0, such as 1.00, not `-1`",
        ),
        ("id: a, on: order.paid, earn: 5", "4:39 `earn` must be a map (`key: value`), not `5`"),
        (
            "id: a, on: review.posted, earn: {points: 1, per: 1}",
            "4:59 `per` is for order.paid only; of another event type say which amount, as in `of: data.principal`",
        ),
        (
            "id: a, on: review.posted, each: item, earn: {points: 1}",
            "4:42 `each: item` is for order.paid only; no other event type has items",
        ),
        ("id: a, on: order.paid, each: line, earn: {points: 1}", "4:39 `each` must be `item`, not `line`"),
        ("id: a, on: order.paid, when: '', earn: {points: 1}", "4:39 `when` must be text, not ``"),
        ("id: a, on: order.paid, when: [x], earn: {points: 1}", "4:39 `when` must be text, not a list"),
        (
            "id: a, on: order.refunded, earn: {points: 1}",
            "4:21 nothing is earned by `order.refunded`; rules and campaigns are for what a member does",
        ),
        (
            "id: a, on: redemption.lapsed, earn: {points: 1}",
            "4:21 nothing is earned by `redemption.lapsed`; rules and campaigns are for what a member does",
        ),
        (
            "id: a, on: points.adjusted, earn: {points: 1}",
            "4:21 nothing is earned by `points.adjusted`; rules and campaigns are for what a member does",
        ),
        ("id: a, on: x, earn: {points: 1}, limit: {times: 1}", "4:50 `per` is missing in `limit`"),
        (
            "id: a, on: x, earn: {points: 1}, limit: {per: day}",
            "4:50 `limit` must have either `times` or `points`",
        ),
        (
            "id: a, on: x, earn: {points: 1}, limit: [{times: 1, points: 1, per: day}]",
            "4:51 a limit must have either `times` or `points`",
        ),
        (
            "id: a, on: x, earn: {points: 1}, limit: {times: 0, per: day}",
            "4:58 `limit.times` must be a whole number from 1 to 1000000, not `0`",
        ),
        (
            "id: a, on: x, earn: {points: 1}, limit: {times: 1, per: hour}",
            "4:66 `limit.per` must be one of `day`, `week`, `month`, `year`, `ever`, not `hour`",
        ),
        (
            "id: a, on: x, earn: {points: 1}, limit: [{times: 1, per: day}, {times: 2, per: day}]",
            "4:73 a second limit of the same kind for the same period; the lower one alone does the same",
        ),
        (
            "id: a, on: x, earn: {points: 1}, limits: {times: 1, per: day}",
            "4:43 unknown key `limits`; did you mean `limit`? Known here: id, on, each, when, earn, limit, once_per, streak, to, after, give, hold, expire",
        ),
    ];
    let differ: Vec<_> = cases
        .iter()
        .map(|(rule, expected)| (with_rule(rule), [*expected]))
        .filter(|(found, expected)| found != expected)
        .collect();
    assert!(differ.is_empty(), "{differ:#?}");
}

#[test]
fn what_nothing_decides_yet_is_checked_all_the_same() {
    let rule = |line: &str| with_rule(&format!("id: a, on: order.paid, earn: {{points: 1}}, {line}"));
    let campaign = |line: &str| with(&format!("campaigns:\n  - {{id: a, on: order.paid, {line}}}"));
    let redemption = |line: &str| with(&format!("redemption: {{{line}}}"));
    let reward = |line: &str| with(&format!("redemption: {{rewards: [{{id: a, {line}}}]}}"));
    let period = "a period such as P1Y, P12M, P2W or P30D, of at most 100 years";
    let cases = [
        (with("points: {hold: 1d}"), format!("`points.hold` must be {period}, not `1d`")),
        (with("points: {expire: soon}"), "`points.expire` must be `never`, or when, as in {after: P1Y}, not `soon`".into()),
        (with("points: {expire: {at: end_of_day}}"), "`after` is missing in `points.expire`".into()),
        (with("points: {expire: {after: P0D}}"), "`points.expire.after` must be longer than nothing".into()),
        (with("points: {shortfall: debt}"), "`points.shortfall` must be `negative` or `clamp`, not `debt`".into()),
        (rule("streak: {1: 5}"), "a streak is 2 to 3650 days long, not `1`".into()),
        (rule("streak: {}"), "`streak` is empty; name days and points, as in `{7: 20, 30: 100}`".into()),
        (rule("to: friend"), "`to` must be `referrer`, not `friend`".into()),
        (rule("after: order"), "`after` must be `first_order`, not `order`".into()),
        (with_rule("id: a, on: order.paid, earn: {points: 1}, to: referrer"), "`to` is for rules on member.registered only".into()),
        (with_rule("id: a, on: member.registered, earn: {points: 1, per: 1, of: data.x}, after: first_order"), "a rule with `after` pays a fixed number of points; leave `per` out".into()),
        (with_rule("id: a, on: member.registered, earn: {points: 1}, to: referrer, once_per: data.x"), "`once_per` does not go with `to`: a member registers once, and is referred once".into()),
        (with_rule("id: a, on: member.registered, earn: {points: 1}, to: referrer, streak: {7: 1}"), "`streak` does not go with `to`: a member registers once, and is referred once".into()),
        (rule("give: mug"), "there is no reward `mug` under `redemption.rewards`".into()),
        (rule("hold: x"), format!("`hold` must be {period}, not `x`")),
        (rule("once_per: data.ordr_id"), "did you mean `order_id`?".into()),
        (with_rule("id: a, on: x, earn: {points: 1, of: data.y}"), "`of` says which amount `per` is for, and there is no `per`".into()),
        (campaign("during: christmas, multiply: 2"), "`during` must be `birthday`, or a period, as in".into()),
        (campaign("during: {monthly: [32]}, multiply: 2"), "a day of the month must be a whole number from 1 to 31, not `32`".into()),
        (campaign("during: {weekly: [fri, fri]}, multiply: 2"), "a day of the week is given twice".into()),
        (campaign("during: {weekly: [friday]}, multiply: 2"), "a day of the week must be one of `mon`, `tue`, `wed`, `thu`, `fri`, `sat`, `sun`, not `friday`".into()),
        (campaign("during: {from: 2026-11-12T00:00, until: 2026-11-11T00:00}, multiply: 2"), "`during.until` must be after `from`".into()),
        (campaign("during: {from: 2026-13-12T00:00, until: 2026-11-11T00:00}, multiply: 2"), "`during.from` must be a date and time in the programme's zone, such as 2026-11-10T20:00, not `2026-13-12T00:00`".into()),
        (campaign("during: {from: '2026-11-12T00:00Z', until: 2026-12-11T00:00}, multiply: 2"), "`during.from` must be a date and time in the programme's zone, such as 2026-11-10T20:00, not `2026-11-12T00:00Z`".into()),
        (campaign("multiply: 2, add: 3"), "a campaign must have either `multiply` or `add`".into()),
        (campaign("multiply: 1"), "`multiply` must be a factor above 1 and at most 100, such as 2, not `1`".into()),
        (campaign("add: 88, budget: {points: 0}"), "`budget.points` must be a whole number from 1 to 1000000000000000, not `0`".into()),
        (campaign("add: 88, when: data.amout > 1"), "did you mean `amount`?".into()),
        (redemption("rate: {points: 100}"), "`worth` is missing in `redemption.rate`".into()),
        (redemption("boosts: [{during: {weekly: [fri]}, worth: 0}]"), "`worth` must be money above 0, such as 1.00, not `0`".into()),
        (redemption("limits: [{share_of_order: 2}]"), "`share_of_order` must be a share above 0 and at most 1, such as 0.5, not `2`".into()),
        (reward("kind: gift"), "`kind` must be one of `money`, `goods`, `coupon`, `service`, `lottery`, not `gift`".into()),
        (reward("kind: goods"), "`points` is missing in a reward".into()),
        (reward("kind: lottery, points: 1"), "`prizes` is missing in a reward of kind `lottery`".into()),
        (reward("kind: lottery, points: 1, prizes: [{id: a, weight: 0}]"), "`weight` must be a whole number from 1 to 1000000000, not `0`".into()),
        (reward("kind: goods, points: 1, stock: -1"), "`stock` must be a whole number from 0 to 1000000000, not `-1`".into()),
    ];
    for (found, expected) in cases {
        assert!(found.iter().any(|line| line.contains(&expected)), "{expected} is not in {found:#?}");
    }
}

#[test]
fn a_programme_of_more_than_is_supported_is_refused_and_one_of_as_many_is_not() {
    let rules = |count: usize| {
        let rule = |index| format!("  - {{id: r{index}, on: order.paid, earn: {{points: 1}}}}\n");
        let rules: String = (0..count).map(rule).collect();
        format!("programme: shop\ntimezone: UTC\ncurrency: EUR\nrules:\n{rules}")
    };
    assert_eq!(Programme::parse("a.yaml", &rules(1_000)).unwrap().rules.len(), 1_000);
    assert_eq!(
        short(Programme::parse("a.yaml", &rules(1_001))),
        ["5:3 `rules` has 1001 entries; at most 1000 are supported"]
    );
    let levels: String =
        (0..101).fold(String::new(), |text, index| text + &format!("{{id: l{index}, from: {index}}}, "));
    assert_eq!(
        with(&format!("tiers: {{window: P1Y, levels: [{levels}]}}")),
        ["5:30 `tiers.levels` has 101 entries; at most 100 are supported"]
    );
    let limit = "{times: 1, per: day}, ".repeat(9);
    assert!(
        with_rule(&format!("id: a, on: x, earn: {{points: 1}}, limit: [{limit}]"))
            .contains(&"4:50 `limit` has 9 entries; at most 8 are supported".to_owned())
    );
}

proptest! {
    /// Takes a piece out of a valid programme and puts another in: mostly YAML, mostly wrong.
    #[test]
    fn no_change_to_a_programme_makes_its_reader_panic(
        from in 0..4_000_usize, length in 0..60_usize, piece in "[a-z0-9:{}\\[\\]\"'|>*&!#, \n.中-]{0,30}",
    ) {
        let text = read("tests/fixtures/config/whole-language.yaml");
        let characters: Vec<char> = text.chars().collect();
        let from = from.min(characters.len());
        let until = (from + length).min(characters.len());
        let changed: String =
            characters[..from].iter().copied().chain(piece.chars()).chain(characters[until..].iter().copied()).collect();
        if let Err(problems) = Programme::parse("programme.yaml", &changed) {
            prop_assert!(!problems.to_string().contains("cannot be read"), "{}", problems);
        }
    }

    #[test]
    fn any_text_is_a_programme_or_has_problems(text in any::<String>()) {
        let _ = Programme::parse("programme.yaml", &text).map_err(|problems| problems.to_string());
    }
}

#[test]
fn what_the_reference_of_the_language_shows_is_read() {
    let text = read("docs/programme.md");
    let blocks: Vec<&str> =
        text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let [head, life, lives, rule, newcomers, days, gifts, catalogue, tiers, campaign, redemption] =
        blocks[..]
    else {
        panic!("{} blocks", blocks.len())
    };
    let indented =
        |block: &str| block.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n") + "\n";
    // The catalogue stands there twice: alone, and as a part of all that points buy.
    for redemption in [catalogue, redemption] {
        let whole = format!(
            "{head}{life}{}\n{redemption}\nrules:\n{}campaigns:\n{}",
            tiers.replace("{id: gold", "{id: diamond, from: 100}\n    - {id: gold"),
            [lives, rule, newcomers, days, gifts].map(indented).concat(),
            indented(campaign)
        );
        Programme::parse("docs/programme.md", &whole).unwrap_or_else(|problems| panic!("{problems}"));
    }
}

#[test]
fn a_reward_whose_condition_asks_what_members_did_has_it_counted() {
    for (when, is_counted) in
        [("member.orders >= 3", true), ("member.tier == \"gold\"", true), ("true", false)]
    {
        let text = format!(
            "programme: p\ntimezone: UTC\ncurrency: EUR\nrules: [{{id: r, on: member.registered, earn: {{points: 1}}}}]\n\
             redemption: {{rewards: [{{id: mug, kind: goods, points: 5, when: '{when}'}}]}}\n"
        );
        let programme = Programme::parse("p.yaml", &text).unwrap_or_else(|problems| panic!("{problems}"));
        for kind in ["order.paid", "order.refunded", "member.signed_in"] {
            let is_there = programme.by_type.contains_key(&EventType::from(kind));
            assert_eq!(is_there, is_counted, "{when}: {kind}");
        }
    }
}
