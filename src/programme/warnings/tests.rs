#![allow(clippy::too_many_lines, reason = "tables")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::*;
use crate::programme::ProgrammeText;
use crate::yaml::{Position, Severity, golden};

const NOW: &str = "2026-11-22T00:00:00Z";

const BASE: &str = "\
programme: shop
timezone: Asia/Shanghai
currency: CNY
tiers: {window: lifetime, levels: [{id: basic, from: 0}, {id: silver, from: 100}, {id: gold, from: 1000}]}
rules:
  - {id: purchase, on: order.paid, earn: {points: 1, per: 1.00}}
";

fn found(text: &str) -> Option<Problems> {
    let (programme, written) = Programme::parse_written("programme.yaml", text)
        .unwrap_or_else(|problems| panic!("{problems}\n{text}"));
    find(&programme, written, NOW.parse().unwrap())
}

/// Each warning as `line:column message`, counted from the line after the base.
fn with(lines: &str) -> Vec<String> {
    let warnings = found(&format!("{BASE}{lines}\n"));
    let short = |warning: &crate::yaml::Problem| {
        assert_eq!(warning.severity, Severity::Warning);
        let Position::File { line, column, .. } = &warning.position else { panic!("{warning}") };
        format!("{}:{column} {}", line - BASE.lines().count(), warning.message)
    };
    warnings.iter().flat_map(Problems::iter).map(short).collect()
}

/// What campaigns on `order.paid`, given without braces and ids, are warned of; their ids are a, b, c …
fn campaigns(campaigns: &[&str]) -> Vec<String> {
    let line = |(id, campaign): (char, &&str)| format!("\n  - {{id: {id}, on: order.paid, {campaign}}}");
    let lines: String = ('a'..='z').zip(campaigns).map(line).collect();
    with(&format!("campaigns:{lines}"))
}

/// The factor and the names of each pile.
fn piles(given: &[&str]) -> Vec<String> {
    let short = |warning: String| {
        let names = warning.split(" can meet").next().unwrap_or_default().replace('`', "");
        let names = names.split_once(' ').map(|(_, names)| names.to_owned()).unwrap_or_default();
        let rest = warning.split("together pay ").nth(1).unwrap_or_else(|| panic!("{warning}"));
        let rest = rest
            .split(';')
            .next()
            .unwrap_or_default()
            .replace(" times what the rules pay", "")
            .replace('`', "");
        format!("{names}: {rest}")
    };
    campaigns(given).into_iter().filter(|warning| !warning.contains("has ended")).map(short).collect()
}

#[test]
fn each_warning_has_a_programme_that_gets_it_and_one_like_it_that_does_not() {
    const NOTHING: &[&str] = &[];
    let cases: &[(&str, &[&str])] = &[
        // A period that is over.
        (
            "campaigns: [{id: a, on: order.paid, add: 5, during: {from: 2026-11-10T20:00, until: 2026-11-22T08:00}}]",
            &["1:85 campaign `a` has ended; only events that are told late still find it"],
        ),
        (
            "campaigns: [{id: a, on: order.paid, add: 5, during: {from: 2026-11-10T20:00, until: 2026-11-22T08:01}}]",
            NOTHING,
        ),
        // What is never true.
        (
            "  - {id: a, on: order.paid, when: false, earn: {points: 5}}",
            &["1:35 this is never true, so that rule `a` never pays"],
        ),
        ("  - {id: a, on: order.paid, when: true, earn: {points: 5}}", NOTHING),
        (
            "campaigns: [{id: a, on: order.paid, add: 5, audience: 1 > 2}]",
            &["1:55 this is never true, so that campaign `a` never pays"],
        ),
        (
            "campaigns: [{id: a, on: order.paid, add: 5, when: data.amount < 3, audience: data.amount > 5}]",
            &["1:78 this is never true where `when` is, so that campaign `a` never pays"],
        ),
        (
            "campaigns: [{id: a, on: order.paid, add: 5, when: data.amount > 3, audience: data.amount < 5}]",
            NOTHING,
        ),
        // A tier that nobody has.
        (
            "campaigns: [{id: a, on: order.paid, add: 5, audience: member.tier == \"platinum\"}]",
            &["1:71 no member has the tier `platinum`; the programme has basic, silver, gold"],
        ),
        (
            "campaigns: [{id: a, on: order.paid, add: 5, audience: 'member.tier in [\"slver\", \"gold\"]'}]",
            &["1:73 no member has the tier `slver`; did you mean `silver`?"],
        ),
        (
            "campaigns: [{id: a, on: order.paid, add: 5, audience: 'member.tier in [\"silver\", \"gold\"]'}]",
            NOTHING,
        ),
        (
            "  - {id: a, on: order.paid, when: member.tier != \"Gold\", earn: {points: 5}}",
            &["1:51 no member has the tier `Gold`; did you mean `gold`?"],
        ),
        ("  - {id: a, on: order.paid, when: data.channel != \"Gold\", earn: {points: 5}}", NOTHING),
        // What nothing is multiplied of.
        (
            "campaigns: [{id: a, on: order.payd, multiply: 2}]",
            &[
                "1:25 campaign `a` multiplies what rules pay for `order.payd`, and no rule pays for it; did you mean `order.paid`?",
            ],
        ),
        (
            "campaigns: [{id: a, on: survey.completed, multiply: 2}]",
            &["1:25 campaign `a` multiplies what rules pay for `survey.completed`, and no rule pays for it"],
        ),
        ("campaigns: [{id: a, on: survey.completed, add: 2}]", NOTHING),
        (
            "  - {id: b, on: x, give: mug}\nredemption: {rewards: [{id: mug, kind: goods, points: 5}]}\ncampaigns: [{id: a, on: x, multiply: 2}]",
            &["3:25 campaign `a` multiplies what rules pay for `x`, and no rule pays for it"],
        ),
        // A limit below one award.
        (
            "  - {id: a, on: x, earn: {points: 20}, limit: {points: 10, per: day}}",
            &["1:56 an award of 20 points is always cut to 10 by this limit"],
        ),
        ("  - {id: a, on: x, earn: {points: 20}, limit: {points: 20, per: day}}", NOTHING),
        (
            "  - {id: a, on: order.paid, earn: {points: 20, per: 1.00}, limit: {points: 10, per: day}}",
            NOTHING,
        ),
        (
            "campaigns: [{id: a, on: order.paid, add: 88, limit: [{times: 1, per: day}, {points: 80, per: month}]}]",
            &["1:85 an award of 88 points is always cut to 80 by this limit"],
        ),
        (
            "campaigns: [{id: a, on: order.paid, add: 88, limit: [{times: 1, per: day}, {points: 88, per: month}]}]",
            NOTHING,
        ),
        ("campaigns: [{id: a, on: order.paid, multiply: 5, limit: {points: 1, per: month}}]", NOTHING),
        // Campaigns that pile up.
        (
            "campaigns:\n  - {id: a, on: order.paid, multiply: 2}\n  - {id: b, on: order.paid, multiply: 1.50}",
            &[
                "3:10 `a` and `b` can meet on one order.paid and together pay 2.5 times what the rules pay; of campaigns that share a `group` only the best pays",
            ],
        ),
        (
            "campaigns:\n  - {id: a, on: order.paid, multiply: 2, group: g}\n  - {id: b, on: order.paid, multiply: 1.50, group: g}",
            NOTHING,
        ),
    ];
    let differ: Vec<_> = cases
        .iter()
        .map(|(lines, expected)| (lines, with(lines), *expected))
        .filter(|(_, found, expected)| found != expected)
        .collect();
    assert!(differ.is_empty(), "{differ:#?}");
}

#[test]
fn without_tiers_no_member_has_one() {
    let text = BASE.replace("tiers:", "# ")
        + "campaigns: [{id: a, on: order.paid, add: 5, audience: member.tier == \"gold\"}]";
    let warnings = found(&text).unwrap();
    assert!(
        warnings
            .to_string()
            .starts_with("warning: no member has the tier `gold`; the programme has no `tiers`\n"),
        "{warnings}"
    );
}

#[test]
fn campaigns_pile_up_where_one_event_can_be_in_all_of_them() {
    let cases: &[(&[&str], &[&str])] = &[
        // One alone, or beside points that are added, reaches what it says.
        (&["multiply: 2"], &[]),
        (&["multiply: 2", "add: 88"], &[]),
        (&["add: 5", "add: 88"], &[]),
        // All of those that meet, in one warning, with what is added beside.
        (
            &["multiply: 2", "multiply: 1.5", "add: 88", "multiply: 1.2, during: birthday", "add: 12"],
            &["a, b and d: 2.7, and 100 points more by c and e"],
        ),
        // Periods.
        (
            &[
                "multiply: 2, during: {from: 2026-12-01T00:00, until: 2026-12-03T00:00}",
                "multiply: 3, during: {from: 2026-12-02T00:00, until: 2026-12-04T00:00}",
                "multiply: 4, during: {from: 2026-12-03T00:00, until: 2026-12-04T00:00}",
            ],
            &["a and b: 4", "b and c: 6"],
        ),
        (
            &[
                "multiply: 2, during: {from: 2026-11-10T00:00, until: 2026-11-12T00:00}, when: has(data.items)",
                "multiply: 3",
            ],
            // The one that has ended is named for that.
            &[],
        ),
        (
            &["multiply: 2, during: {weekly: [fri, sat]}", "multiply: 3, during: {weekly: [sun, sat]}"],
            &["a and b: 4"],
        ),
        (&["multiply: 2, during: {weekly: [fri]}", "multiply: 3, during: {weekly: [sun]}"], &[]),
        (&["multiply: 2, during: {weekly: [fri]}", "multiply: 3, during: {monthly: [31]}"], &["a and b: 4"]),
        (&["multiply: 2, during: {monthly: [8]}", "multiply: 3, during: {monthly: [9]}"], &[]),
        // 2026-12-01 is a Tuesday.
        (
            &[
                "multiply: 2, during: {from: 2026-12-01T00:00, until: 2026-12-03T00:00}",
                "multiply: 3, during: {weekly: [tue]}",
            ],
            &["a and b: 4"],
        ),
        (
            &[
                "multiply: 2, during: {from: 2026-12-01T00:00, until: 2026-12-03T00:00}",
                "multiply: 3, during: {weekly: [thu]}",
                "multiply: 3, during: {monthly: [3]}",
            ],
            &["b and c: 5"],
        ),
        // Each two of them meet, and never all three.
        (
            &[
                "multiply: 2, during: {weekly: [fri, sat]}",
                "multiply: 3, during: {weekly: [sat, sun]}",
                "multiply: 4, during: {weekly: [fri, sun]}",
            ],
            &["b and c: 6", "a and c: 5"],
        ),
        // Conditions that exclude each other.
        (
            &[
                "multiply: 2, audience: member.tier == \"gold\"",
                "multiply: 1.5, audience: member.tier == \"silver\"",
            ],
            &[],
        ),
        (
            &[
                "multiply: 2, audience: member.tier == \"gold\"",
                "multiply: 1.5, audience: 'member.tier in [\"silver\", \"gold\"]'",
            ],
            &["a and b: 2.5"],
        ),
        (
            &[
                "multiply: 2, when: data.amount >= 500",
                "multiply: 1.5, when: data.amount >= 200 && data.amount < 500",
            ],
            &[],
        ),
        (
            &["multiply: 2, when: data.amount >= 500", "multiply: 1.5, when: data.amount >= 200"],
            &["a and b: 2.5"],
        ),
        // Of a group the best counts, and the rest of it is not warned of a second time.
        (&["multiply: 2, group: g", "multiply: 1.5, group: g", "multiply: 1.2"], &["a and c: 2.2"]),
        (
            &["multiply: 2, group: g", "multiply: 1.5, group: h", "add: 5, group: g", "add: 7, group: i"],
            &["a and b: 2.5, and 7 points more by d"],
        ),
        // One of a group that is on at another time is.
        (
            &[
                "multiply: 2, group: g, during: {weekly: [fri]}",
                "multiply: 1.5, group: g, during: {weekly: [tue]}",
                "multiply: 1.2",
            ],
            &["a and c: 2.2", "b and c: 1.7"],
        ),
    ];
    let mut differ = Vec::new();
    for (given, expected) in cases {
        let found: Vec<String> = piles(given).into_iter().collect();
        if found != *expected {
            differ.push((given, found, expected));
        }
    }
    assert!(differ.is_empty(), "{differ:#?}");
}

#[test]
fn campaigns_on_different_events_do_not_pile_up() {
    let lines = "  - {id: review, on: review.posted, earn: {points: 5}}\ncampaigns:\n  - {id: a, on: order.paid, multiply: 2}\n  - {id: b, on: review.posted, multiply: 2}";
    assert_eq!(with(lines), [""; 0]);
}

#[test]
fn many_campaigns_are_looked_through_in_a_moment() {
    let line = |index: usize| {
        format!(
            "  - {{id: c{index}, on: order.paid, multiply: 2, audience: member.tier == \"gold\" && data.amount == {index}}}\n"
        )
    };
    let lines: String = (0..300).map(line).collect();
    assert_eq!(with(&format!("campaigns:\n{lines}")), [""; 0]);
}

#[test]
fn warnings_are_shown_as_problems_are_and_can_be_taken_for_errors() {
    let text = format!("{BASE}  - {{id: off, on: order.paid, when: 1 > 2, earn: {{points: 5}}}}\n");
    let warnings = found(&text).unwrap();
    let shown = "\
warning: this is never true, so that rule `off` never pays
 --> programme.yaml:7:37
  |
7 |   - {id: off, on: order.paid, when: 1 > 2, earn: {points: 5}}
  |                                     ^^^^^";
    assert_eq!(warnings.to_string(), shown);
    assert_eq!(warnings.into_errors().to_string(), shown.replace("warning:", "error:"));
}

/// The programmes that stand in `tests/scenarios` and `examples`, with the names of their files; a file of several
/// versions is not looked at.
fn programmes() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<PathBuf> = Vec::new();
    let mut folders = vec![root.join("tests/scenarios"), root.join("examples")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    let read = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).unwrap();
        let name = path.strip_prefix(root).unwrap().display().to_string();
        if text.contains("\nrules:") {
            return Some((name, text));
        }
        let inline = text.lines().skip_while(|line| *line != "programme:").skip(1);
        let inline: Vec<&str> = inline
            .take_while(|line| line.is_empty() || line.starts_with("  "))
            .map(|line| line.get(2..).unwrap_or_default())
            .collect();
        (inline.first()?.starts_with("programme:")).then(|| (name, inline.join("\n")))
    };
    files.iter().filter_map(read).collect()
}

#[test]
fn of_versions_the_first_is_warned_of_where_it_is_not_in_effect_yet_and_each_of_what_is_over_in_its_own_time()
{
    let text = |name: &str, from: &str| {
        let during = "{from: 2026-01-01T00:00, until: 2026-02-01T00:00}";
        let campaigns = format!("campaigns: [{{id: over, on: order.paid, add: 1, during: {during}}}]");
        ProgrammeText { name: name.to_owned(), text: format!("{BASE}{from}{campaigns}\n") }
    };
    let next = || text("next", "effective_from: 2026-12-01T00:00\n");
    let of_march = || text("march", "effective_from: 2026-03-01T00:00\n");
    for (texts, expected) in [
        (vec![text("past", "")], vec!["past: campaign `over` has ended"]),
        (
            vec![next(), text("past", "")],
            vec!["past: campaign `over` has ended", "next: campaign `over` has ended"],
        ),
        // Kept for events that come late.
        (vec![text("past", ""), of_march()], vec!["march: campaign `over` has ended"]),
        (vec![next()], vec!["next: no version is in effect before", "next: campaign `over` has ended"]),
    ] {
        let (versions, written) = Versions::parse_written(&texts).unwrap();
        let warnings = of_versions(&versions, written, NOW.parse().unwrap()).unwrap();
        let short = |warning: &crate::yaml::Problem| {
            let Position::File { file, .. } = &warning.position else { panic!("{warning}") };
            format!("{file}: {}", warning.message)
        };
        let found: Vec<String> = warnings.iter().map(short).collect();
        let are_right = found.iter().zip(&expected).all(|(found, expected)| found.starts_with(expected));
        assert!(found.len() == expected.len() && are_right, "{found:#?}");
    }
}

#[test]
fn programmes_that_mean_what_they_say_are_warned_of_nothing_else_than_this() {
    let programmes = programmes();
    assert!(programmes.len() > 10, "{programmes:?}");
    let mut all = String::new();
    for (name, text) in programmes {
        for warning in found(&text).iter().flat_map(Problems::iter) {
            writeln!(all, "{name}: {}", warning.message).unwrap();
        }
    }
    golden("tests/fixtures/config/warnings-of-scenarios.txt", &all);
}
