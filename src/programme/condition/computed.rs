//! What the parts of a condition come to while it is evaluated.

use std::borrow::Cow;

use rust_decimal::Decimal;

use super::value::decimal_of_text;
use super::{DataValue, Failure};

/// What a part of a condition is for the event at hand.
#[derive(Clone, Debug)]
pub(super) enum Value<'a> {
    /// Held by the event or by the condition itself.
    Held(&'a DataValue<'a>),
    /// Computed; never a list or an object.
    Made(DataValue<'a>),
    /// A list that was computed.
    List(Vec<Value<'a>>),
}

impl<'a> Value<'a> {
    pub(super) fn bool(value: bool) -> Self {
        Value::Made(DataValue::Bool(value))
    }

    pub(super) fn number(value: Decimal) -> Self {
        Value::Made(DataValue::Number(value))
    }

    pub(super) fn text(value: String) -> Self {
        Value::Made(DataValue::Text(Cow::Owned(value)))
    }

    pub(super) fn single(&self) -> Option<&DataValue<'a>> {
        match self {
            Value::Held(value) => Some(value),
            Value::Made(value) => Some(value),
            Value::List(_) => None,
        }
    }

    pub(super) fn weight(&self) -> usize {
        match self {
            Value::List(values) => values.iter().map(|value| 1 + value.weight()).sum(),
            other => other.single().map_or(0, DataValue::weight),
        }
    }

    pub(super) fn kind(&self) -> &'static str {
        self.single().map_or("a list", DataValue::kind)
    }

    pub(super) fn instead_of(&self, wanted: &'static str) -> Failure {
        Failure::Kind { wanted, found: self.kind() }
    }

    pub(super) fn as_number(&self) -> Result<Decimal, Failure> {
        match self.single() {
            Some(DataValue::Number(number)) => Ok(*number),
            Some(DataValue::OutOfRange) => Err(Failure::OutOfRange),
            _ => Err(self.instead_of("a number")),
        }
    }

    /// The number that it is, or that its text spells.
    pub(super) fn to_decimal(&self) -> Result<Decimal, Failure> {
        match self.single() {
            Some(DataValue::Text(text)) => {
                decimal_of_text(text).ok_or(Failure::Kind { wanted: "a number", found: "text that is none" })
            }
            _ => self.as_number(),
        }
    }

    pub(super) fn as_text(&self) -> Result<&str, Failure> {
        match self.single() {
            Some(DataValue::Text(text)) => Ok(text),
            _ => Err(self.instead_of("text")),
        }
    }

    pub(super) fn as_bool(&self) -> Result<bool, Failure> {
        match self.single() {
            Some(DataValue::Bool(value)) => Ok(*value),
            _ => Err(self.instead_of("true or false")),
        }
    }

    pub(super) fn elements(self) -> Result<Elements<'a>, Failure> {
        match self {
            Value::Held(DataValue::List(values)) => Ok(Elements::Held(values.iter())),
            Value::List(values) => Ok(Elements::Made(values.into_iter())),
            other => Err(other.instead_of("a list")),
        }
    }

    pub(super) fn equals(&self, other: &Value<'_>) -> bool {
        match (self, other) {
            (Value::List(left), right) => right.equals_list(left),
            (left, Value::List(right)) => left.equals_list(right),
            _ => self.single().zip(other.single()).is_some_and(|(left, right)| left == right),
        }
    }

    fn equals_list(&self, list: &[Value<'_>]) -> bool {
        match self {
            Value::List(own) => {
                own.len() == list.len() && own.iter().zip(list).all(|(own, other)| own.equals(other))
            }
            Value::Held(DataValue::List(own)) => {
                own.len() == list.len()
                    && own.iter().zip(list).all(|(own, other)| Value::Held(own).equals(other))
            }
            _ => false,
        }
    }
}

/// The elements of a list, one after the other.
pub(super) enum Elements<'a> {
    Held(std::slice::Iter<'a, DataValue<'a>>),
    Made(std::vec::IntoIter<Value<'a>>),
}

impl<'a> Iterator for Elements<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        match self {
            Elements::Held(values) => values.next().map(Value::Held),
            Elements::Made(values) => values.next(),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match self {
            Elements::Held(values) => values.size_hint(),
            Elements::Made(values) => values.size_hint(),
        }
    }
}

impl ExactSizeIterator for Elements<'_> {}

/// What tells one element of a list from another.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key<'k> {
    Null,
    Bool(bool),
    Number(Decimal),
    Time(jiff::Timestamp),
    Text(&'k str),
}

impl<'k> Key<'k> {
    pub(super) fn of(value: &'k Value<'_>) -> Result<Self, Failure> {
        match value.single() {
            Some(DataValue::Null) => Ok(Key::Null),
            Some(DataValue::Bool(value)) => Ok(Key::Bool(*value)),
            Some(DataValue::Number(number)) => Ok(Key::Number(*number)),
            Some(DataValue::Time(time)) => Ok(Key::Time(*time)),
            Some(DataValue::Text(text)) => Ok(Key::Text(text)),
            _ => Err(value.instead_of("text or a number")),
        }
    }
}
