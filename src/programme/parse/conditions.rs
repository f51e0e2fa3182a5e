//! Conditions and expressions, compiled, with what is wrong in them shown where it stands in the file.

use crate::programme::condition::{Condition, Expression, Problem, Scope};
use crate::yaml::Value;

/// A condition, such as `when`.
pub(super) fn condition(value: &Value<'_>, scope: &Scope<'_>) -> Option<Condition> {
    let source = value.text()?;
    Condition::compile(source, scope).map_err(|problems| report(value, problems)).ok()
}

/// An expression that yields text or a number, such as `once_per`.
pub(super) fn expression(value: &Value<'_>, scope: &Scope<'_>) -> Option<Expression> {
    let source = value.text()?;
    Expression::compile(source, scope).map_err(|problems| report(value, problems)).ok()
}

/// An expression that yields a number, such as `of`.
pub(super) fn number(value: &Value<'_>, scope: &Scope<'_>) -> Option<Expression> {
    let source = value.text()?;
    Expression::compile_number(source, scope).map_err(|problems| report(value, problems)).ok()
}

/// What may be left out. It is only understood with its event type; where that is wrong, which is
/// reported, there is nothing.
pub(super) fn optional<T>(
    value: Option<&Value<'_>>,
    scope: Option<&Scope<'_>>,
    read: impl Fn(&Value<'_>, &Scope<'_>) -> Option<T>,
) -> Option<Option<T>> {
    match (value, scope) {
        (None, _) => Some(None),
        (Some(value), Some(scope)) => read(value, scope).map(Some),
        (Some(_), None) => None,
    }
}

fn report(value: &Value<'_>, problems: Vec<Problem>) {
    for Problem { at, message } in problems {
        value.collector().report(&value.place_of_character(at), message);
    }
}
