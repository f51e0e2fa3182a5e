//! Reads the YAML that operators and marketers write, and says everything that is wrong with it at once.
//!
//! [`parse`] turns text into a tree of [`Node`]s that know their place and keep every scalar's exact
//! text, so that `1.00` is read as a decimal and `2026-11-10T20:00` as a time by whoever knows what it
//! is. [`Value`] and [`Map`] read the tree with typed getters that report to a [`Collector`] and go on.
//! [`Problems`] shows the result as a compiler would, with line, column and the line itself.
//!
//! This is the one place that knows the YAML library. Anchors, aliases, tags and several documents
//! are refused: nothing here needs them, and without them no small file grows into a large tree.

mod problem;
mod reader;
mod scalar;
mod source;
mod tree;
mod units;

pub use problem::{Collector, Position, Problem, Problems, Severity};
pub use reader::{Map, Value, shown};
pub use source::Place;
pub use tree::{Content, Entry, MAX_BYTES, MAX_DEPTH, MAX_NODES, Node, Scalar, Style, parse};
pub use units::{CalendarSpan, parse_duration};

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::golden;
