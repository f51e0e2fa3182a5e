//! The answer as text, for a terminal.

use std::fmt::Write;

use jiff::tz::TimeZone;
use rust_decimal::Decimal;

use super::{AsOf, Explanation, ItemStep, Recorded, Step, StepResult, Verdict};
use crate::types::{CampaignId, Points, RewardId, RuleId, TierId};

/// The explanation as text; times are those of the programme's zone.
pub fn page(explanation: &Explanation, zone: &TimeZone) -> String {
    let Explanation { event, member_id, before, steps, recorded, points, verdict, programme, notes } =
        explanation;
    let mut page = String::new();
    let mut line = |text: String| {
        page.push_str(text.trim_end());
        page.push('\n');
    };
    let kind = event.kind.as_ref().map_or("event", |kind| kind.as_str());
    let time =
        event.time.map(|time| time.to_zoned(zone.clone()).strftime("  %Y-%m-%dT%H:%M:%S%:z").to_string());
    line(format!("{kind}  {} {}{}  ({})", event.source, event.id, time.unwrap_or_default(), event.record));
    line(match before {
        None => format!("  member {member_id}"),
        Some(before) => {
            let tier = before.tier.as_ref().map(|tier| format!(", {tier}")).unwrap_or_default();
            let when = match before.as_of {
                AsOf::Decided => "before",
                AsOf::EventTime => "at that time",
                AsOf::Now => "now",
            };
            format!("  member {member_id}{tier}, {} {when}", counted(before.available))
        }
    });
    let mut rows: Vec<[String; 3]> = Vec::new();
    for step in steps {
        let Step { rule, streak_of, tier, campaign, .. } = step;
        let by = named(rule.as_ref(), streak_of.as_ref(), tier.as_ref(), campaign.as_ref());
        let given = step.reward.as_ref().filter(|_| step.result != StepResult::Declined);
        rows.push([by, paid(step.points, given), why(step)]);
        rows.extend(items(&step.items));
    }
    if !steps.is_empty() {
        line(String::new());
        table(&rows).into_iter().for_each(&mut line);
    } else if before.is_some() {
        line(String::new());
        line("  the programme pays nothing for events of this type".to_owned());
    }
    let changed = |line: &&Recorded| line.kind.as_str() == "tier.changed";
    let show_recorded = *verdict == Verdict::Differs || *verdict == Verdict::Undecided;
    if show_recorded {
        line(String::new());
        if recorded.is_empty() {
            line("  nothing is recorded of it".to_owned());
        } else {
            line("  what is recorded of it:".to_owned());
            table(&recorded.iter().map(recorded_row).collect::<Vec<_>>()).into_iter().for_each(&mut line);
        }
    } else if let Some(change) = recorded.iter().find(changed) {
        line(String::new());
        table(&[recorded_row(change)]).into_iter().for_each(&mut line);
    }
    line(String::new());
    let version = match &programme.decided_by {
        Some(version) => format!("version {version} of programme {}", programme.name),
        None => format!("programme {}", programme.name),
    };
    let verdict = match verdict {
        Verdict::Same => "decided again, it comes to the same",
        Verdict::Differs => "decided again, it comes to something else; what is recorded holds",
        Verdict::Unrecorded => "decided again; what was recorded of it was not found",
        Verdict::Undecided => "it could not be decided again; what is recorded holds",
    };
    line(format!("  in all {}; {version}; {verdict}", counted(*points)));
    for note in notes {
        line(format!("  note: {note}"));
    }
    page
}

/// What pays: `rule purchase`.
fn named(
    rule: Option<&RuleId>,
    streak_of: Option<&RuleId>,
    tier: Option<&TierId>,
    campaign: Option<&CampaignId>,
) -> String {
    let names = [
        rule.map(|rule| format!("rule {rule}")),
        streak_of.map(|rule| format!("streak of {rule}")),
        tier.map(|tier| format!("tier {tier}")),
        campaign.map(|campaign| format!("campaign {campaign}")),
    ];
    names.into_iter().flatten().next().unwrap_or_default()
}

/// `+200 points, ten-off`, either of both, or neither.
fn paid(points: Points, given: Option<&RewardId>) -> String {
    let points = (points != Points::ZERO).then(|| format!("+{}", counted(points)));
    let both: Vec<String> = points.into_iter().chain(given.map(ToString::to_string)).collect();
    if both.is_empty() { "–".to_owned() } else { both.join(", ") }
}

fn why(step: &Step) -> String {
    match &step.condition {
        Some(condition) => format!("{}: {condition}", step.why),
        None => step.why.clone(),
    }
}

/// Items that a rule did not pay for, those of one reason in one row.
fn items(items: &[ItemStep]) -> Vec<[String; 3]> {
    let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
    for item in items {
        match reasons.iter_mut().find(|(why, _)| *why == item.why) {
            Some((_, numbers)) => numbers.push(item.item.to_string()),
            None => reasons.push((&item.why, vec![item.item.to_string()])),
        }
    }
    let row = |(why, numbers): (&str, Vec<String>)| {
        let items = if numbers.len() == 1 { "item" } else { "items" };
        [format!("  {items} {}", numbers.join(", ")), "–".to_owned(), why.to_owned()]
    };
    reasons.into_iter().map(row).collect()
}

fn recorded_row(line: &Recorded) -> [String; 3] {
    let Recorded { kind, points, declined, reward, reason, of, factor, .. } = line;
    let amount = |amount: &Decimal| amount.to_string();
    if kind.as_str() == "tier.changed" {
        let tier = line.tier.as_ref().map(ToString::to_string).unwrap_or_default();
        let measured = of.as_ref().map(|of| format!("measured {of}")).unwrap_or_default();
        return [format!("tier {tier}"), "reached".to_owned(), measured];
    }
    let mut why = of.as_ref().map(|of| format!("of {}", amount(of))).unwrap_or_default();
    if let Some(factor) = factor {
        // Writing to a string does not fail.
        let _always_written = write!(why, " × ({} − 1)", amount(factor));
    }
    if let (Some(declined), Some(reason)) = (declined, reason) {
        let apart = if why.is_empty() { "" } else { "; " };
        let reward = reward.as_ref().map(|reward| format!(" and {reward}")).unwrap_or_default();
        let reason = reason.as_str().replace('_', " ");
        let _always_written = write!(why, "{apart}{}{reward} declined: {reason}", counted(*declined));
    }
    let given = reward.as_ref().filter(|_| reason.is_none());
    let Recorded { rule, streak_of, tier, campaign, .. } = line;
    [named(rule.as_ref(), streak_of.as_ref(), tier.as_ref(), campaign.as_ref()), paid(*points, given), why]
}

/// Rows in columns, indented. Terminals show each of these characters in one place.
fn table(rows: &[[String; 3]]) -> Vec<String> {
    let width = |column: fn(&[String; 3]) -> &String| {
        rows.iter().map(|row| column(row).chars().count()).max().unwrap_or_default()
    };
    let (name, points) = (width(|row| &row[0]), width(|row| &row[1]));
    rows.iter().map(|[by, paid, why]| format!("  {by:name$}  {paid:points$}  {why}")).collect()
}

/// `1,240 points`
fn counted(points: Points) -> String {
    let digits = points.0.unsigned_abs().to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let sign = if points.0 < 0 { "−" } else { "" };
    let unit = if points.0 == 1 { "point" } else { "points" };
    format!("{sign}{grouped} {unit}")
}
