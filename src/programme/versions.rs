//! The versions of a programme that a worker has at once, so that the next one can be shipped ahead: each
//! decides the events from its own moment on, until that of the next.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;

use super::{Programme, Written};
use crate::types::EventType;
use crate::yaml::{Problems, Value};

/// The text of a programme.
#[derive(Clone, Debug)]
pub struct ProgrammeText {
    /// As problems name its file.
    pub name: String,
    /// What it says.
    pub text: String,
}

/// At least one version; all of one name, zone and currency, and no two from one moment on.
#[derive(Clone, Debug)]
pub struct Versions {
    first: Arc<Programme>,
    /// Ascending by their moments.
    later: Vec<Arc<Programme>>,
}

impl Versions {
    /// A single version, which decides everything.
    pub fn only(programme: impl Into<Arc<Programme>>) -> Self {
        Self { first: programme.into(), later: Vec::new() }
    }

    /// Reads versions, in any order.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with each and with all of them together, with line and column.
    pub fn parse(texts: &[ProgrammeText]) -> Result<Self, Problems> {
        Self::parse_written(texts).map(|(versions, _)| versions)
    }

    /// Reads versions as [`Versions::parse`] does, and keeps how each was written, in the order of
    /// [`Versions::iter`].
    ///
    /// # Errors
    ///
    /// Everything that is wrong with each and with all of them together, with line and column.
    pub fn parse_written(texts: &[ProgrammeText]) -> Result<(Self, Vec<Written>), Problems> {
        let read: Vec<_> =
            texts.iter().map(|text| Programme::parse_written(&text.name, &text.text)).collect();
        let right: Vec<_> =
            read.iter().flatten().map(|(programme, written)| (programme, written.value())).collect();
        report_disagreements(&right);
        let mut problems: Option<Problems> = None;
        let mut versions = Vec::new();
        for read in read {
            let wrong = match read {
                Ok((programme, written)) if written.is_right() => {
                    versions.push((programme, written));
                    continue;
                }
                Ok((_, written)) => written.into_problems(),
                Err(wrong) => wrong,
            };
            problems = Some(Problems::and_maybe(problems, wrong));
        }
        versions.sort_by_key(|(programme, _)| programme.effective_from);
        let (programmes, written): (Vec<_>, _) = versions.into_iter().unzip();
        match (problems, Self::of(programmes)) {
            (Some(problems), _) => Err(problems),
            (None, Some(versions)) => Ok((versions, written)),
            (None, None) => Err(Problems::one("no programme is named")),
        }
    }

    /// Versions that [`report_disagreements`] has nothing to say of; nothing where there is none.
    pub(crate) fn of(mut programmes: Vec<Programme>) -> Option<Self> {
        programmes.sort_by_key(|programme| programme.effective_from);
        let mut programmes = programmes.into_iter().map(Arc::new);
        Some(Self { first: programmes.next()?, later: programmes.collect() })
    }

    /// The version that decides an event of this time: the last that is in effect then. What lies before
    /// all of them is decided by the first, so that no event is left undecided.
    pub fn at(&self, time: Timestamp) -> &Arc<Programme> {
        let begun =
            self.later.partition_point(|version| version.effective_from.is_none_or(|from| from <= time));
        begun.checked_sub(1).and_then(|last| self.later.get(last)).unwrap_or(&self.first)
    }

    /// The first; its name, zone and currency are those of all.
    pub fn first(&self) -> &Arc<Programme> {
        &self.first
    }

    /// Each of them, ascending by their moments.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Programme>> {
        std::iter::once(&self.first).chain(&self.later)
    }

    /// Whether there is only one.
    pub fn is_single(&self) -> bool {
        self.later.is_empty()
    }

    /// Whether these are of the same contents.
    pub fn are_same(&self, others: &Self) -> bool {
        self.iter().map(|version| &version.version).eq(others.iter().map(|version| &version.version))
    }

    /// Every event type that one of them reads.
    pub fn types(&self) -> Vec<EventType> {
        let mut types: Vec<EventType> =
            self.iter().flat_map(|version| version.by_type.keys().cloned()).collect();
        types.sort_unstable();
        types.dedup();
        types
    }

    /// How many calendar months an account must keep for the tiers of all of them, so that a version that
    /// looks further back finds what it needs.
    pub fn kept_months(&self) -> u16 {
        self.iter().map(|version| version.kept_months()).max().unwrap_or_default()
    }
}

impl fmt::Display for Versions {
    /// As logs name them: `ca0a02354c3e, 52f0a41bb2d7 from 2026-12-01T00:00:00`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.first.version)?;
        for version in &self.later {
            write!(f, ", {}", version.version)?;
            if let Some(from) = version.effective_from {
                write!(f, " from {}", version.zone.to_datetime(from))?;
            }
        }
        Ok(())
    }
}

/// Reports what keeps programmes from being versions of one: at the later one of two, naming both.
pub(crate) fn report_disagreements(read: &[(&Programme, Value<'_>)]) {
    let Some((first, first_value)) = read.first() else { return };
    for (at, (programme, value)) in read.iter().enumerate().skip(1) {
        let mut before = read.iter().take(at);
        let twin = before.find(|(other, _)| other.effective_from == programme.effective_from);
        if let Some((_, other)) = twin {
            let (key, other) = ("effective_from", place(other, "effective_from"));
            let message = match programme.effective_from {
                None => {
                    format!("`{key}` is missing here and in {other}; at most one version may hold since ever")
                }
                Some(_) => {
                    format!("`{key}` is the same as in {other}; every version needs a moment of its own")
                }
            };
            report(value, key, message);
        }
        let zone = |programme: &Programme| programme.zone.iana_name().unwrap_or("UTC").to_owned();
        for (key, is, of_first) in [
            ("programme", &programme.name, &first.name),
            ("timezone", &zone(programme), &zone(first)),
            ("currency", &programme.currency, &first.currency),
        ] {
            if is != of_first {
                let other = place(first_value, key);
                let message = format!(
                    "`{key}` is {is} here and {of_first} in {other}; all versions must have the same"
                );
                report(value, key, message);
            }
        }
    }
}

fn report(programme: &Value<'_>, key: &str, message: String) {
    match programme.any_map().and_then(|map| map.get(key)) {
        Some(value) => value.report(message),
        None => programme.report(message),
    }
}

/// File and line of a key's value, or of the programme that lacks it.
fn place(programme: &Value<'_>, key: &str) -> String {
    let value = programme.any_map().and_then(|map| map.get(key));
    let collector = programme.collector();
    let line = collector.line_of(value.as_ref().unwrap_or(programme).place());
    format!("{}:{line}", collector.file())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "programme: p\ntimezone: Europe/Berlin\ncurrency: EUR\n";
    const RULES: &str = "rules: [{id: a, on: order.paid, earn: {points: 1}}]\n";

    fn text(name: &str, text: &str) -> ProgrammeText {
        ProgrammeText { name: format!("{name}.yaml"), text: format!("{text}{RULES}") }
    }

    fn version(name: &str, from: &str) -> ProgrammeText {
        text(name, &format!("{HEAD}effective_from: {from}\n"))
    }

    fn problems(texts: &[ProgrammeText]) -> Vec<String> {
        let problems = Versions::parse(texts).unwrap_err();
        let place = |problem: &crate::yaml::Problem| match &problem.position {
            crate::yaml::Position::File { file, line, column } => format!("{file}:{line}:{column}"),
            other => format!("{other:?}"),
        };
        problems.iter().map(|problem| format!("{} {}", place(problem), problem.message)).collect()
    }

    #[test]
    fn an_event_is_decided_by_the_last_version_that_is_in_effect_at_its_time() {
        let since_ever = || text("ever", HEAD);
        // Berlin is an hour ahead of UTC.
        let december = || version("december", "2026-12-01T00:00");
        let january = || version("january", "2027-01-01T00:00");
        for (texts, time, expected) in [
            (vec![since_ever()], "1997-01-01T00:00:00Z", "ever"),
            (vec![since_ever(), december()], "1997-01-01T00:00:00Z", "ever"),
            (vec![since_ever(), december()], "2026-11-30T22:59:59.999Z", "ever"),
            (vec![since_ever(), december()], "2026-11-30T23:00:00Z", "december"),
            (vec![since_ever(), december()], "2040-01-01T00:00:00Z", "december"),
            (vec![january(), since_ever(), december()], "2026-12-31T22:59:59Z", "december"),
            (vec![january(), since_ever(), december()], "2026-12-31T23:00:00Z", "january"),
            // None of them holds before December: the first is the nearest.
            (vec![january(), december()], "2026-11-01T00:00:00Z", "december"),
            (vec![december()], "2026-11-01T00:00:00Z", "december"),
        ] {
            let versions = Versions::parse(&texts).unwrap();
            let found = versions.at(time.parse().unwrap());
            assert_eq!(found.file, format!("{expected}.yaml"), "{time}");
        }
    }

    #[test]
    fn versions_that_cannot_stand_beside_each_other_name_both_files_and_all_that_is_wrong() {
        let (one, other) = (text("one", HEAD), text("other", HEAD));
        assert_eq!(
            problems(&[one.clone(), other]),
            [
                "other.yaml:1:1 `effective_from` is missing here and in one.yaml:1; at most one version may hold since ever"
            ]
        );
        // The same moment, written in two ways.
        let (from, same) = (version("from", "2026-12-01T00:00"), version("same", "2026-12-01T00:00:00"));
        assert_eq!(
            problems(&[from.clone(), one, same]),
            [
                "same.yaml:4:17 `effective_from` is the same as in from.yaml:4; every version needs a moment of its own"
            ]
        );
        let elsewhere = "programme: q\ntimezone: UTC\ncurrency: USD\n";
        let broken = ProgrammeText { name: "broken.yaml".to_owned(), text: HEAD.to_owned() };
        assert_eq!(
            problems(&[from, broken, text("elsewhere", elsewhere)]),
            [
                "broken.yaml:1:1 `rules` is missing in the programme",
                "elsewhere.yaml:1:12 `programme` is q here and p in from.yaml:1; all versions must have the same",
                "elsewhere.yaml:2:11 `timezone` is UTC here and Europe/Berlin in from.yaml:2; all versions must have the same",
                "elsewhere.yaml:3:11 `currency` is USD here and EUR in from.yaml:3; all versions must have the same",
            ]
        );
    }

    #[test]
    fn a_moment_is_written_as_those_of_campaigns_are() {
        for wrong in ["tomorrow", "2026-13-01T00:00", "[2026-12-01T00:00]", ""] {
            let found = problems(&[version("x", wrong)]);
            assert!(
                found.iter().any(|problem| problem.contains("a date and time in the programme's zone")),
                "{found:?}"
            );
        }
    }

    #[test]
    fn accounts_keep_as_many_months_as_the_version_that_looks_furthest_back() {
        let tiers = |window: &str| format!("tiers: {{window: {window}, levels: [{{id: a, from: 0}}]}}\n");
        let texts = [
            text("a", &format!("{HEAD}{}", tiers("P3M"))),
            text("b", &format!("{HEAD}effective_from: 2026-12-01T00:00\n{}", tiers("P24M"))),
            text("c", &format!("{HEAD}effective_from: 2027-12-01T00:00\n{}", tiers("lifetime"))),
        ];
        assert_eq!(Versions::parse(&texts).unwrap().kept_months(), 24);
    }

    #[test]
    fn logs_name_every_version_and_from_when_it_decides() {
        let texts = [version("december", "2026-12-01T00:00"), text("ever", HEAD)];
        let versions = Versions::parse(&texts).unwrap();
        let named: Vec<&str> = versions.iter().map(|version| version.version.as_str()).collect();
        assert_eq!(versions.to_string(), format!("{}, {} from 2026-12-01T00:00:00", named[0], named[1]));
    }
}
