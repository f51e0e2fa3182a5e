//! Conditions: what must hold for a rule or a campaign to pay, written in CEL.
//!
//! The language is CEL's and so is the parser (crate `cel`). What it parses is checked against what is
//! known of the event type, with all problems at once, and turned into a small tree of its own that
//! is evaluated here, not by the crate's interpreter: every number is then an exact decimal on either side
//! of an operator, types are known before the first event, no condition can run away, and a
//! condition costs a fraction.
//!
//! Where this differs from CEL: numbers are decimals, so `7 / 2` is 3.5 and `0.1 + 0.2 == 0.3` holds;
//! `has()` takes a field that is `null` for absent; text that upstream wrote for an amount compares as a number; there
//! are no maps, bytes, messages, optional values or regular expressions.

mod computed;
mod demands;
mod evaluate;
mod functions;
mod lower;
mod node;
mod operators;
mod shape;
mod value;

use std::fmt;

use jiff::Timestamp;
use rust_decimal::Decimal;

use crate::account::Activity;
use crate::programme::Each;
use crate::types::EventType;
use evaluate::Run;
use node::Node;
use shape::Type;

pub use demands::Demands;
pub use value::DataValue;

/// The longest condition, in characters.
pub const MAX_LENGTH: usize = 2_000;

/// How deep a condition may nest: parentheses, operators and calls within each other.
pub const MAX_DEPTH: usize = 32;

/// How many `exists`, `map` … may stand within each other.
pub const MAX_LOOPS: usize = 2;

/// How many steps an evaluation may take, a few milliseconds. A step is a node of the condition, or some
/// characters of a text that is searched or joined.
pub const MAX_STEPS: u32 = 100_000;

/// How many bytes a key may have that an expression yields: it is kept for ever.
pub const LONGEST_KEY: usize = 512;

/// What a condition may name.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'s> {
    /// The event type that it is asked for: it decides which fields `data` has.
    pub on: &'s EventType,
    /// Whether `item` is there.
    pub each: Each,
}

/// Something wrong with a condition, found when it is compiled.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Problem {
    /// Where, in characters from the start of the condition's source.
    pub at: usize,
    /// What, and where possible what to write instead.
    pub message: String,
}

/// Why a condition could not be evaluated for an event. It counts as not holding.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Failure {
    /// A field, or attribute, that this event lacks.
    #[error("the event has no `{0}`")]
    Missing(Box<str>),
    /// A value of another kind than what is done with it needs.
    #[error("{wanted} is needed, and this is {found}")]
    Kind {
        /// What was needed.
        wanted: &'static str,
        /// What was there.
        found: &'static str,
    },
    /// A list that is too short for the index.
    #[error("the list has no such element")]
    NoElement,
    /// A number that no decimal holds: in the event, or computed.
    #[error("a number is out of range")]
    OutOfRange,
    /// A division by zero, or its remainder.
    #[error("division by zero")]
    DivisionByZero,
    /// A key of more than [`LONGEST_KEY`].
    #[error("the key is longer than {LONGEST_KEY} bytes")]
    LongKey,
    /// More than [`MAX_STEPS`].
    #[error("the condition takes more than {MAX_STEPS} steps for this event")]
    TooManySteps,
}

/// What a condition is asked about. Everything is borrowed.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// `event`
    pub event: EventFacts<'a>,
    /// `data`
    pub data: &'a DataValue<'a>,
    /// `item`: an element of `data.items`, where the scope was [`Each::Item`].
    pub item: Option<&'a DataValue<'a>>,
    /// `member`: needed where [`Condition::asks_member`] or [`Expression::asks_member`].
    pub member: Option<MemberFacts<'a>>,
}

/// The member as they were before the event.
#[derive(Clone, Copy, Debug)]
pub struct MemberFacts<'a> {
    /// The fields of `member`, an object. What is not known is absent.
    pub fields: &'a DataValue<'a>,
    /// What the member did by month.
    pub activity: &'a Activity,
    /// The calendar month of the event: year × 12 + month − 1.
    pub month: i32,
}

/// The event's CloudEvents attributes.
#[derive(Clone, Copy, Debug)]
pub struct EventFacts<'a> {
    /// `event.id`
    pub id: &'a str,
    /// `event.source`
    pub source: &'a str,
    /// `event.type`
    pub event_type: &'a str,
    /// `event.time`
    pub time: Timestamp,
    /// `event.subject`
    pub subject: Option<&'a str>,
}

/// A level that a condition compares the member's tier with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AskedLevel {
    /// Where, in characters from the start of the condition's source.
    pub at: usize,
    /// Its name, which the programme's `tiers` may or may not have.
    pub level: Box<str>,
}

/// A compiled condition: true or false for an event.
pub struct Condition {
    source: Box<str>,
    node: Node,
    asks_member: bool,
    levels: Vec<AskedLevel>,
}

impl Condition {
    /// Checks and compiles a condition. Slow; meant for when a programme is loaded.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it, in the order of the source.
    pub fn compile(source: &str, scope: &Scope<'_>) -> Result<Self, Vec<Problem>> {
        let compiled = lower::compile(source, scope, |holds| match holds {
            Type::Bool | Type::Any => None,
            other => Some(format!("a condition must be true or false, and this is {}", other.name())),
        })?;
        let lower::Compiled { node, asks_member, levels } = compiled;
        Ok(Self { source: source.into(), node, asks_member, levels })
    }

    /// Whether it names `member`.
    pub fn asks_member(&self) -> bool {
        self.asks_member
    }

    /// The levels that it compares the member's tier with, in the order of the source.
    pub fn levels(&self) -> &[AskedLevel] {
        &self.levels
    }

    /// Whether it holds.
    ///
    /// # Errors
    ///
    /// Fails where the event lacks a field or has it of another kind, where a number leaves its range
    /// and where the evaluation takes too many steps. The caller takes that for false.
    pub fn holds(&self, facts: &Facts<'_>) -> Result<bool, Failure> {
        Run::new(facts).truth(&self.node)
    }

    /// As it was written.
    pub fn source(&self) -> &str {
        &self.source
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Condition").field(&self.source).finish()
    }
}

/// A compiled expression: a text for an event, such as the key of `once_per`.
pub struct Expression {
    source: Box<str>,
    node: Node,
    asks_member: bool,
}

impl Expression {
    /// Checks and compiles an expression that yields text or a number. Slow, as
    /// [`Condition::compile`] is.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it, in the order of the source.
    pub fn compile(source: &str, scope: &Scope<'_>) -> Result<Self, Vec<Problem>> {
        Self::compile_as(source, scope, "text or a number", |holds| {
            matches!(holds, Type::Text | Type::Number | Type::Any)
        })
    }

    /// Checks and compiles an expression that yields a number, such as the amount of `of`.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it, in the order of the source.
    pub fn compile_number(source: &str, scope: &Scope<'_>) -> Result<Self, Vec<Problem>> {
        Self::compile_as(source, scope, "a number", |holds| matches!(holds, Type::Number | Type::Any))
    }

    fn compile_as(
        source: &str,
        scope: &Scope<'_>,
        wanted: &str,
        fits: impl Fn(Type) -> bool,
    ) -> Result<Self, Vec<Problem>> {
        let lower::Compiled { node, asks_member, .. } = lower::compile(source, scope, |holds| {
            (!fits(holds)).then(|| format!("{wanted} is needed, and this is {}", holds.name()))
        })?;
        Ok(Self { source: source.into(), node, asks_member })
    }

    /// Whether it names `member`.
    pub fn asks_member(&self) -> bool {
        self.asks_member
    }

    /// The number, also where upstream wrote it as text.
    ///
    /// # Errors
    ///
    /// As [`Condition::holds`], and where the value is no number.
    pub fn number(&self, facts: &Facts<'_>) -> Result<Decimal, Failure> {
        Run::new(facts).number(&self.node)
    }

    /// The text, or the number without trailing zeros: `10` for 10.00.
    ///
    /// # Errors
    ///
    /// As [`Condition::holds`], and where the value is neither text nor a number, or longer than [`LONGEST_KEY`].
    pub fn evaluate(&self, facts: &Facts<'_>) -> Result<String, Failure> {
        Run::new(facts).key(&self.node)
    }

    /// As it was written.
    pub fn source(&self) -> &str {
        &self.source
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.source).finish()
    }
}

#[cfg(test)]
mod against_cel;
#[cfg(test)]
mod tests;
