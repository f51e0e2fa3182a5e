//! Scenarios: what members do, and what a programme must make of it, written in YAML by the people who
//! write programmes. `examples/scenarios.yaml` explains the format.
//!
//! [`ScenarioFile::parse`] reads a file and says everything that is wrong with it; [`Runner`] sends a
//! scenario's events through the decoder and the rules of the worker, with accounts in memory, and gives
//! a [`Failure`] for each place where something else came than was expected. Pure: files are read by
//! whoever calls.

mod accounts;
mod data;
mod diff;
mod line;
mod read;
mod receipts;
mod run;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;

use crate::event::Reason;
pub use crate::programme::ProgrammeText;
use crate::programme::Versions;
use crate::types::{EventType, MemberId};

pub use accounts::{ExpectedAccount, Fact};
pub use diff::{Difference, Failure};
pub use line::Line;
pub use read::Programmes;
pub use run::Runner;

/// A file of scenarios, read without a problem.
#[derive(Debug)]
pub struct ScenarioFile {
    /// As the file is named in what is printed.
    pub name: String,
    /// The versions of the programme, of which each decides the events of its time.
    pub versions: Arc<Versions>,
    /// How long limits are remembered: the deployment's `dedupe.window`.
    pub dedupe_window: Duration,
    /// At least one, no two of one name, in the order of the file.
    pub scenarios: Vec<Scenario>,
}

/// What members do, one step after the other, and what comes of it. Every scenario begins with no
/// accounts.
#[derive(Debug)]
pub struct Scenario {
    /// The rule that it shows, as a sentence.
    pub name: String,
    /// The events, in the order in which they arrive.
    pub steps: Vec<Step>,
    /// How accounts stand in the end.
    pub then: Vec<ExpectedAccount>,
}

/// An event and what it must do.
#[derive(Debug)]
pub struct Step {
    /// Where it stands in the file, from 1.
    pub line: usize,
    /// The event's type.
    pub on: EventType,
    /// Who does it.
    pub member: MemberId,
    /// When it happens.
    pub time: Moment,
    /// The event's id, where one is given; else it has an id of its own.
    pub id: Option<String>,
    /// The event's source, where one is given.
    pub source: Option<String>,
    /// The event's data: keys and their values as JSON text, exactly as written.
    pub data: Vec<(String, String)>,
    /// What it must do.
    pub expect: Expect,
}

/// When something happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moment {
    /// On the clocks of the programme's zone.
    Local(DateTime),
    /// The same wherever the programme is.
    Exact(Timestamp),
}

/// What an event must do.
#[derive(Debug)]
pub enum Expect {
    /// Nothing is said: it must count, whatever it pays.
    Counts,
    /// It must count and make these entries and tier changes, in this order, and no other.
    Lines(Vec<Line>),
    /// It must be dropped as a repeat.
    Duplicate,
    /// It must be skipped: the programme names no such type.
    Skipped,
    /// It must be refused with this reason.
    DeadLetter(Reason),
}

#[cfg(test)]
mod tests;
