use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::diff::compare;
use super::*;
use crate::account::Retention;
use crate::entry::{EntryKind, Origin, Why};
use crate::yaml::{self, Collector, Problems};

const PROGRAMME: &str = "programme:
  programme: shop
  timezone: Europe/Berlin
  currency: EUR
  rules:
    - {id: purchase, on: order.paid, earn: {points: 1, per: 1.00}}
    - {id: sign-in, on: member.signed_in, earn: {points: 5}}
";
const KEEPS: Retention = Retention { history: 0, months: 0, days: 30 };

fn parse(scenarios: &str) -> Result<ScenarioFile, Problems> {
    let nowhere = |path: &str| Err(format!("no {path}"));
    let text = format!("{PROGRAMME}scenarios:\n  - name: n\n{scenarios}");
    ScenarioFile::parse("x.yaml", &text, &Programmes::AsNamed(&nowhere))
}

fn run(scenarios: &str) -> Vec<Failure> {
    let file = parse(scenarios).unwrap_or_else(|problems| panic!("{problems}"));
    Runner::new(&file.versions, KEEPS).run(&file.scenarios[0])
}

fn json_of(yaml: &str) -> String {
    let collector = Collector::new("x.yaml", yaml);
    data::json(&yaml::parse(yaml, &collector).unwrap())
}

#[test]
fn data_becomes_json_with_every_digit_as_it_was_written() {
    for (yaml, json) in [
        ("{a: 268.28, b: 1.00, c: -0.10, d: 1e3}", r#"{"a":268.28,"b":1.00,"c":-0.10,"d":1e3}"#),
        ("{a: 123456789012345678901234567890.12}", r#"{"a":123456789012345678901234567890.12}"#),
        ("{a: true, b: false, c: null, d: ~, e: }", r#"{"a":true,"b":false,"c":null,"d":null,"e":null}"#),
        // What YAML or JSON would not agree on is text.
        (
            "[007, +1, .5, 1., 0x1F, yes, True, .inf, -x]",
            r#"["007","+1",".5","1.","0x1F","yes","True",".inf","-x"]"#,
        ),
        ("['1', \"true\", '', 2026-11-22T08:00]", r#"["1","true","","2026-11-22T08:00"]"#),
        ("{a: [], b: {}, \"c\\\"d\": [[1], {e: \"\\n\"}]}", r#"{"a":[],"b":{},"c\"d":[[1],{"e":"\n"}]}"#),
        ("[\"[\", \"{\", 1]", r#"["[","{",1]"#),
    ] {
        assert_eq!(json_of(yaml), json, "{yaml}");
        assert!(serde_json::from_str::<serde_json::Value>(json).is_ok(), "{json}");
    }
}

#[test]
fn a_local_time_is_one_of_the_programmes_zone_and_an_offset_is_kept() {
    let berlin = TimeZone::get("Europe/Berlin").unwrap();
    for (time, expected) in [
        ("2026-11-22T08:00", "2026-11-22T07:00:00Z"),
        ("2026-07-22T08:00", "2026-07-22T06:00:00Z"),
        ("2026-11-22T08:00:00Z", "2026-11-22T08:00:00Z"),
        ("2026-11-22T08:00:00+08:00", "2026-11-22T00:00:00Z"),
        ("2026-03-29T02:30", "2026-03-29T01:30:00Z"), // skipped: 3:30 in summer
        ("2026-10-25T02:30", "2026-10-25T00:30:00Z"), // twice: still summer
    ] {
        let step = format!("    steps: [{{on: member.signed_in, member: m, time: \"{time}\"}}]\n");
        let moment = parse(&step).unwrap().scenarios[0].steps[0].time;
        assert_eq!(moment.at(&berlin).timestamp().to_string(), expected, "{time}");
    }
}

#[test]
fn a_time_without_an_hour_or_out_of_reach_is_a_problem() {
    for time in ["2026-11-22", "9999-12-31T23:59", "08:00", "2026-02-30T08:00"] {
        let step = format!("    steps: [{{on: member.signed_in, member: m, time: \"{time}\"}}]\n");
        assert!(parse(&step).unwrap_err().to_string().contains("`time` must be"), "{time}");
    }
}

#[test]
fn member_and_time_are_taken_from_the_step_before_and_must_be_in_the_first() {
    let steps = "    steps:
      - {on: member.signed_in, member: m1, time: 2026-11-22T08:00}
      - {on: member.signed_in}
      - {on: member.signed_in, member: m2}
";
    let file = parse(steps).unwrap();
    let members: Vec<&str> = file.scenarios[0].steps.iter().map(|step| step.member.as_str()).collect();
    assert_eq!(members, ["m1", "m1", "m2"]);
    let problems = parse("    steps: [{on: member.signed_in}, {on: member.signed_in}]\n").unwrap_err();
    let messages: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
    assert_eq!(messages.len(), 2, "{messages:?}");
    assert!(messages[0].starts_with("`member` is missing") && messages[1].starts_with("`time` is missing"));
}

#[test]
fn an_event_that_is_refused_or_skipped_fails_where_nothing_is_said_of_it() {
    let failures = run("    steps:
      - {on: order.paid, member: m, time: 2026-11-22T08:00, data: {amount: -1}}
      - {on: page.viewed}
      - {on: member.signed_in}
");
    let lines: Vec<usize> = failures.iter().map(|failure| failure.line).collect();
    assert_eq!(lines, [11, 12]);
}

#[test]
fn an_expected_line_need_not_name_what_seldom_matters_but_all_that_says_what_it_is() {
    let step = |expect: &str| {
        format!(
            "    steps: [{{on: order.paid, member: m, time: 2026-11-22T08:00, data: {{amount: 20.50}}, expect: {expect}}}]\n"
        )
    };
    for right in [
        "[{rule: purchase, points: 20}]",
        "{rule: purchase, points: 20}",
        "[{points: 20, rule: purchase, of: 20.5}]",
        "[{rule: purchase, points: 20, of: 20.500, day: 2026-11-22}]",
    ] {
        assert_eq!(run(&step(right)), [], "{right}");
    }
    for wrong in [
        "[{rule: purchase}]",
        "[{rule: purchase, points: 21}]",
        "[{tier: purchase, points: 20}]",
        "[{rule: purchase, points: 20, of: 20.51}]",
        "[{rule: purchase, points: 20, day: 2026-11-23}]",
        "[{rule: purchase, points: 20, reason: limit_times}]",
        "[{rule: purchase, points: 20}, {rule: purchase, points: 20}]",
        "[]",
    ] {
        assert_eq!(run(&step(wrong)).len(), 1, "{wrong}");
    }
}

#[test]
fn the_words_of_entries_come_from_their_own_types() {
    assert_eq!(line::words::<Origin>(), ["rule", "streak_of", "tier", "campaign", "redemption", "act"]);
    use Why::{AlreadyPaid, BelowOnePoint, Budget, LimitPoints, LimitTimes, TooLate};
    for why in [LimitTimes, LimitPoints, BelowOnePoint, TooLate, AlreadyPaid, Budget] {
        assert!(line::words::<Why>().iter().any(|word| word == why.as_str()), "{why:?}");
    }
    for kind in EntryKind::ALL {
        assert!(line::words::<EntryKind>().iter().any(|word| word == kind.as_str()), "{kind:?}");
    }
}

#[test]
fn a_programme_that_cannot_be_read_is_a_problem_where_it_is_named() {
    let nowhere = |path: &str| Err(format!("no {path}"));
    let text = "programme: p.yaml\nscenarios: []\n";
    let problems = ScenarioFile::parse("x.yaml", text, &Programmes::AsNamed(&nowhere)).unwrap_err();
    let shown = problems.to_string();
    assert!(shown.contains("error: no p.yaml\n --> x.yaml:1:12"), "{shown}");
    assert!(shown.contains("`scenarios` is empty"), "{shown}");
}

#[test]
fn versions_stand_in_the_file_or_beside_it_and_what_keeps_them_apart_is_shown_where_it_stands() {
    let version = |from: &str, points: u32| {
        format!(
            "{{programme: p, timezone: UTC, currency: EUR, {from}rules: [{{id: a, on: x, earn: {{points: {points}}}}}]}}"
        )
    };
    let beside = |path: &str| {
        let text = version("effective_from: 2026-12-01T00:00, ", 2);
        Ok(crate::programme::ProgrammeText { name: path.to_owned(), text })
    };
    let parse = |versions: &str| {
        let steps = "[{on: x, member: m, time: 2026-11-22T08:00, expect: {rule: a, points: 1}}, {on: x, time: 2026-12-22T08:00, expect: {rule: a, points: 2}}]";
        let text = format!("programme: {versions}\nscenarios: [{{name: n, steps: {steps}}}]\n");
        ScenarioFile::parse("x.yaml", &text, &Programmes::AsNamed(&beside))
    };
    let ever = version("", 1);
    for right in [
        format!("[{ever}, next.yaml]"),
        format!("[{}, {ever}]", version("effective_from: 2026-12-01T00:00, ", 2)),
    ] {
        let file = parse(&right).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(Runner::new(&file.versions, KEEPS).run(&file.scenarios[0]), [], "{right}");
    }
    for (wrong, expected) in [
        (format!("\n  - {ever}\n  - {ever}"), "--> x.yaml:3:5"),
        (format!("\n  - {ever}\n  - {ever}"), "missing here and in x.yaml:2"),
        ("[a.yaml, b.yaml]".to_owned(), "the same as in a.yaml:1"),
        ("[]".to_owned(), "`programme` is empty"),
    ] {
        let problems = parse(&wrong).unwrap_err().to_string();
        assert!(problems.contains(expected), "{problems}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_comparison_holds_both_lists_in_their_order(
        expected in prop::collection::vec(0..4_u8, 0..12),
        came in prop::collection::vec(0..4_u8, 0..12),
    ) {
        let differences = compare(&expected, &came, |e, c| e == c, u8::to_string, u8::to_string);
        if expected == came {
            prop_assert!(differences.is_empty());
            return Ok(());
        }
        let side = |wanted: fn(&Difference) -> Option<&String>| {
            differences.iter().filter_map(wanted).map(|text| text.parse().unwrap()).collect::<Vec<u8>>()
        };
        let left = side(|difference| match difference {
            Difference::Same(text) | Difference::Missing(text) => Some(text),
            Difference::Surplus(_) => None,
        });
        let right = side(|difference| match difference {
            Difference::Same(text) | Difference::Surplus(text) => Some(text),
            Difference::Missing(_) => None,
        });
        prop_assert_eq!((left, right), (expected, came));
    }

    #[test]
    fn any_text_is_a_file_of_scenarios_or_has_problems(text in any::<String>(), cut in 0..400_usize) {
        let nowhere = |path: &str| Err(format!("no {path}"));
        let good = format!("{PROGRAMME}scenarios:\n  - name: n\n    steps: [{{on: a, member: m, time: 2026-11-22T08:00}}]\n");
        let cut = good.char_indices().map(|(at, _)| at).nth(cut).unwrap_or(good.len());
        for text in [text.clone(), format!("{}{text}{}", &good[..cut], &good[cut..])] {
            match ScenarioFile::parse("x.yaml", &text, &Programmes::AsNamed(&nowhere)) {
                Ok(file) => prop_assert!(!file.scenarios.is_empty()),
                Err(problems) => prop_assert!(!problems.to_string().is_empty()),
            }
        }
    }
}
