//! From YAML to a [`ScenarioFile`], or everything that is wrong with it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use rust_decimal::Decimal;

use super::line::{self, MEMBER, TIER_CHANGE, TIER_KEPT, TIER_REVIEW_DUE};
use super::{Expect, ExpectedAccount, Fact, Line, Moment, Scenario, ScenarioFile, Step, data};
use crate::entry::{EntryKind, Origin, Why};
use crate::event::Reason;
use crate::programme::versions::report_disagreements;
use crate::programme::{Programme, ProgrammeText, Versions, Written};
use crate::types::{EventType, MemberId};
use crate::yaml::{self, Collector, Map, Place, Problems, Value, shown};

/// Where programmes come from.
pub enum Programmes<'a> {
    /// From the file itself, or from the path beside it that it names: gives what stands there, or why it
    /// cannot be read.
    AsNamed(&'a dyn Fn(&str) -> Result<ProgrammeText, String>),
    /// These versions, whatever the files say.
    Always(Arc<Versions>),
}

/// `dedupe.window` where a deployment does not say otherwise.
const DEDUPE_WINDOW: Duration = Duration::from_hours(30 * 24);

/// How many entries a step may expect; more than a programme has rules.
const MOST_LINES: usize = 2_000;

/// What an expected line may say beside what pays; what comes after the reason only where it matters.
const LINE_KEYS: [&str; 21] = [
    TIER_CHANGE,
    TIER_KEPT,
    TIER_REVIEW_DUE,
    "expiring",
    "expires",
    "held_until",
    "prize",
    "until",
    MEMBER,
    "kind",
    "points",
    "declined",
    "reason",
    "reward",
    "worth",
    "of",
    "factor",
    "streak",
    "day",
    "from",
    "measure",
];

/// The fields of which one names what a line of a level says.
const TIER_LINES: [&str; 3] = [TIER_CHANGE, TIER_KEPT, TIER_REVIEW_DUE];

impl ScenarioFile {
    /// Reads a file; `file` names it in problems and failures.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it, and with the programme that it names, with line and column.
    pub fn parse(file: &str, text: &str, programmes: &Programmes<'_>) -> Result<Self, Problems> {
        let collector = Collector::new(file, text);
        let Some(root) = yaml::parse(text, &collector).filter(|root| !root.is_null()) else {
            if collector.is_empty() {
                let message = "the file is empty; a scenario file has `programme` and `scenarios`";
                collector.report(&Place::bytes(0..0), message);
            }
            return Err(collector.into_problems());
        };
        let mut in_programme = None;
        let read = Value::root(&root, "the file", &collector)
            .map(&["programme", "dedupe_window", "scenarios"])
            .and_then(|map| {
                let versions = versions(&map, text, programmes).map_err(|problems| {
                    in_programme = problems;
                });
                let window = map
                    .get("dedupe_window")
                    .map_or(Some(DEDUPE_WINDOW), |value| value.duration("1h", "3650d"));
                let scenarios = map.required("scenarios").and_then(|value| scenarios(&value));
                Some(Self {
                    name: file.to_owned(),
                    versions: versions.ok()?,
                    dedupe_window: window?,
                    scenarios: scenarios?,
                })
            });
        match in_programme {
            Some(problems) if collector.is_empty() => Err(problems),
            Some(problems) => Err(collector.into_problems().and(problems)),
            None => collector.finish(read),
        }
    }
}

/// The versions of the programme, or the problems of their own files; what else is wrong is reported.
fn versions(
    map: &Map<'_>,
    text: &str,
    programmes: &Programmes<'_>,
) -> Result<Arc<Versions>, Option<Problems>> {
    let read = match programmes {
        Programmes::Always(versions) => return Ok(versions.clone()),
        Programmes::AsNamed(read) => read,
    };
    let value = map.required("programme").ok_or(None)?;
    let values = value.one_or_list("a programme").ok_or(None)?;
    if values.is_empty() {
        value.report("`programme` is empty; name at least one file, or write the programme itself");
    }
    let mut problems = None;
    let mut beside: Vec<(Programme, Written)> = Vec::new();
    let mut inline: Vec<(Programme, Value<'_>)> = Vec::new();
    for value in &values {
        if !value.is_scalar() {
            let alone = Value::root(value.node(), "the programme", value.collector());
            inline.extend(Programme::read_in(&alone, from(value, text)).map(|programme| (programme, alone)));
        } else if let Some(path) = value.text() {
            match read(path).map(|ProgrammeText { name, text }| Programme::parse_written(&name, &text)) {
                Ok(Ok(written)) => beside.push(written),
                Ok(Err(wrong)) => problems = Some(Problems::and_maybe(problems, wrong)),
                Err(why) => value.report(why),
            }
        }
    }
    let beside_values = beside.iter().map(|(programme, written)| (programme, written.value()));
    let inline_values = inline.iter().map(|(programme, value)| (programme, value.clone()));
    report_disagreements(&beside_values.chain(inline_values).collect::<Vec<_>>());
    let mut programmes: Vec<Programme> = inline.into_iter().map(|(programme, _)| programme).collect();
    for (programme, written) in beside {
        programmes.push(programme);
        if !written.is_right() {
            problems = Some(Problems::and_maybe(problems, written.into_problems()));
        }
    }
    match problems {
        Some(problems) => Err(Some(problems)),
        None => Versions::of(programmes).map(Arc::new).ok_or(None),
    }
}

/// The text from a value on: what names its version, so that those of one file have different ones.
fn from<'t>(value: &Value<'_>, text: &'t str) -> &'t str {
    match value.place() {
        Place::File { start, .. } => text.get(*start..).unwrap_or(text),
        _ => text,
    }
}

fn scenarios(list: &Value<'_>) -> Option<Vec<Scenario>> {
    let values = list.list("a scenario")?;
    if values.is_empty() {
        list.report("`scenarios` is empty; a scenario has `name`, `steps` and, if you like, `then`");
    }
    let mut names = HashMap::new();
    let scenarios: Vec<Option<Scenario>> = values.iter().map(|value| scenario(value, &mut names)).collect();
    scenarios.into_iter().collect()
}

fn scenario<'a>(value: &Value<'a>, names: &mut HashMap<&'a str, usize>) -> Option<Scenario> {
    let map = value.map(&["name", "steps", "then"])?;
    let name = map.required("name").and_then(|value| {
        let name = value.text()?;
        let line = value.collector().line_of(value.place());
        if let Some(first) = names.insert(name, line) {
            value.report(format!("{} is given twice; the first is on line {first}", shown(name)));
        }
        Some(name.to_owned())
    });
    let steps = map.required("steps").and_then(|value| steps(&value));
    let then = map.get("then").map_or(Some(Vec::new()), |value| then(&value));
    Some(Scenario { name: name?, steps: steps?, then: then? })
}

fn steps(list: &Value<'_>) -> Option<Vec<Step>> {
    let values = list.list("a step")?;
    if values.is_empty() {
        list.report("`steps` is empty; a step is an event, as in `{on: member.signed_in, member: m1, time: 2026-11-22T08:00}`");
    }
    let mut before = Before::default();
    let steps: Vec<Option<Step>> = values.iter().map(|value| step(value, &mut before)).collect();
    steps.into_iter().collect()
}

/// What a step takes over from the one before it; the outer nothing where there is none.
#[derive(Default)]
struct Before {
    member: Option<Option<MemberId>>,
    time: Option<Option<Moment>>,
}

fn step(value: &Value<'_>, before: &mut Before) -> Option<Step> {
    let map = value.map(&["on", "member", "time", "id", "source", "data", "expect"])?;
    let on = map.required("on").and_then(|value| value.text()).map(EventType::from);
    // A misspelt one is no reason to miss it in every step after.
    if let Some(value) = map.get("member") {
        before.member = Some(value.text().map(MemberId::from));
    } else if before.member.is_none() {
        before.member = Some(None);
        map.report("`member` is missing; only steps after the first take it from the step before");
    }
    if let Some(value) = map.get("time") {
        before.time = Some(moment(&value));
    } else if before.time.is_none() {
        before.time = Some(None);
        map.report("`time` is missing; only steps after the first take it from the step before");
    }
    let text = |key: &str| match map.get(key) {
        None => Some(None),
        Some(value) => value.text().map(|text| Some(text.to_owned())),
    };
    let (id, source) = (text("id"), text("source"));
    let data = map.get("data").map_or(Some(Vec::new()), |value| fields(&value));
    let expect = map.get("expect").map_or(Some(Expect::Counts), |value| expect(&value));
    Some(Step {
        line: value.collector().line_of(value.place()),
        on: on?,
        member: before.member.clone().flatten()?,
        time: before.time.flatten()?,
        id: id?,
        source: source?,
        data: data?,
        expect: expect?,
    })
}

fn moment(value: &Value<'_>) -> Option<Moment> {
    let wanted = "a date and time in the programme's zone, such as 2026-11-22T08:00, or with an offset, such as 2026-11-22T08:00:00Z";
    value.read(wanted, |text| {
        // With an offset first: a civil time is read with one, too, and forgets it.
        let exact = text.parse::<Timestamp>().ok().map(Moment::Exact);
        exact.or_else(|| {
            // Years that are a moment in every zone, and have four digits there.
            let is_usual = |time: &DateTime| text.contains(['T', ' ']) && (1..9_999).contains(&time.year());
            text.parse().ok().filter(is_usual).map(Moment::Local)
        })
    })
}

fn fields(value: &Value<'_>) -> Option<Vec<(String, String)>> {
    let map = value.any_map()?;
    Some(map.entries().map(|(key, _, value)| (key.to_owned(), data::json(value.node()))).collect())
}

fn expect(value: &Value<'_>) -> Option<Expect> {
    let wanted =
        "a list of entries (empty where nothing comes), `duplicate`, `skipped` or `{dead_letter: …}`";
    if value.is_scalar() {
        return value.read(wanted, |text| match text {
            "duplicate" => Some(Expect::Duplicate),
            "skipped" => Some(Expect::Skipped),
            _ => None,
        });
    }
    if let Some(reason) = dead_letter(value) {
        return reason.map(Expect::DeadLetter);
    }
    let origins = line::words::<Origin>();
    let values = value.one_or_list("an entry")?;
    if values.len() > MOST_LINES {
        value.report(format!(
            "{} has {} entries; at most {MOST_LINES} are read",
            value.label(),
            values.len()
        ));
        return None;
    }
    let lines: Vec<Option<Line>> = values.iter().map(|value| expected_line(value, &origins)).collect();
    lines.into_iter().collect::<Option<_>>().map(Expect::Lines)
}

/// The reason of `{dead_letter: …}`; the outer nothing for something else.
fn dead_letter(value: &Value<'_>) -> Option<Option<Reason>> {
    let yaml::Content::Map(entries) = &value.node().content else { return None };
    entries.iter().find(|entry| entry.key == "dead_letter")?;
    let read = || {
        let reasons = Reason::ALL.map(|reason| (reason.as_str(), reason));
        value.map(&["dead_letter"])?.required("dead_letter")?.choice(&reasons)
    };
    Some(read())
}

fn expected_line(value: &Value<'_>, origins: &[String]) -> Option<Line> {
    let mut known: Vec<&str> = origins.iter().map(String::as_str).collect();
    known.extend(LINE_KEYS);
    let map = value.map(&known)?;
    let named = map
        .entries()
        .filter(|(key, ..)| TIER_LINES.contains(key) || origins.iter().any(|origin| origin == key));
    if named.count() != 1 {
        let words: Vec<String> = origins.iter().map(String::as_str).chain(TIER_LINES).map(shown).collect();
        map.report(format!("an entry must have one of {}", words.join(", ")));
        return None;
    }
    let mut fields = Vec::new();
    let mut all_right = true;
    for (key, _, value) in map.entries() {
        match field(key, &value) {
            Some(text) => fields.push((key.to_owned(), text)),
            None => all_right = false,
        }
    }
    all_right.then(|| Line::of(fields))
}

/// A field's value in its one way to write it.
fn field(key: &str, value: &Value<'_>) -> Option<String> {
    match key {
        "points" | "declined" | "measure" | "streak" | "expiring" => whole(value),
        "expires" | "held_until" | "until" => value
            .read("a moment such as 2027-11-22T10:00:00Z", |text| text.parse::<Timestamp>().ok())
            .map(|moment| moment.to_string()),
        "of" | "worth" => value.decimal("an amount such as 120.50", |_| true).map(line::amount),
        "factor" => value.decimal("a factor such as 1.25", |_| true).map(line::amount),
        "day" => value
            .read("a day such as 2026-11-22", |text| text.parse::<Date>().ok())
            .map(|day| day.to_string()),
        "reason" => word(value, &line::words::<Why>()),
        "kind" => word(value, &line::words::<EntryKind>()),
        _ => value.text().map(str::to_owned),
    }
}

fn word(value: &Value<'_>, words: &[String]) -> Option<String> {
    let choices: Vec<(&str, &str)> = words.iter().map(|word| (word.as_str(), word.as_str())).collect();
    value.choice(&choices).map(str::to_owned)
}

fn whole(value: &Value<'_>) -> Option<String> {
    let number: Decimal = value.decimal("a whole number of points", |number| number.scale() == 0)?;
    Some(number.to_string())
}

fn then(value: &Value<'_>) -> Option<Vec<ExpectedAccount>> {
    let map = value.any_map()?;
    let accounts: Vec<Option<ExpectedAccount>> =
        map.entries().map(|(member, _, value)| account(member, &value)).collect();
    accounts.into_iter().collect()
}

fn account(member: &str, value: &Value<'_>) -> Option<ExpectedAccount> {
    let names = Fact::ALL.map(|(name, _)| name);
    let map = value.map(&names)?;
    let mut facts = Vec::new();
    let mut all_right = true;
    for (key, place, value) in map.entries() {
        let Some((_, fact)) = Fact::ALL.iter().find(|(name, _)| *name == key) else { continue };
        let wanted = match fact {
            Fact::Tier => value.text().map(str::to_owned),
            _ => whole(&value),
        };
        match wanted {
            Some(wanted) => facts.push((*fact, value.collector().line_of(place), wanted)),
            None => all_right = false,
        }
    }
    all_right.then(|| ExpectedAccount { member: MemberId::from(member), facts })
}
