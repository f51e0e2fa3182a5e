//! What was expected beside what came.

use std::fmt;

/// A place of a scenario where something else came than was expected.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// The line of the file, from 1.
    pub line: usize,
    /// The step or the account, in words.
    pub what: String,
    /// What was expected and what came, in order.
    pub differences: Vec<Difference>,
}

/// A line of a comparison.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Difference {
    /// Expected, and it came.
    Same(String),
    /// Expected, and it did not come.
    Missing(String),
    /// It came, and was not expected.
    Surplus(String),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Difference::Same(text) => write!(f, "  {text}"),
            Difference::Missing(text) => write!(f, "- {text}"),
            Difference::Surplus(text) => write!(f, "+ {text}"),
        }
    }
}

/// Compares two lists in their order, so that as many lines as can are the same. Nothing where they agree.
///
/// The longest common subsequence by the table of Wagner and Fischer (1974).
pub(super) fn compare<E, C>(
    expected: &[E],
    came: &[C],
    is: impl Fn(&E, &C) -> bool,
    show_expected: impl Fn(&E) -> String,
    show_came: impl Fn(&C) -> String,
) -> Vec<Difference> {
    // `common` of the rests from each pair of positions, from the end backwards.
    let width = came.len() + 1;
    let mut common = vec![0_usize; (expected.len() + 1) * width];
    let at = |common: &[usize], e: usize, c: usize| common.get(e * width + c).copied().unwrap_or_default();
    for (e, wanted) in expected.iter().enumerate().rev() {
        for (c, got) in came.iter().enumerate().rev() {
            let longest = if is(wanted, got) {
                at(&common, e + 1, c + 1) + 1
            } else {
                at(&common, e + 1, c).max(at(&common, e, c + 1))
            };
            if let Some(cell) = common.get_mut(e * width + c) {
                *cell = longest;
            }
        }
    }
    let (mut e, mut c) = (0, 0);
    let mut differences = Vec::new();
    loop {
        differences.push(match (expected.get(e), came.get(c)) {
            (None, None) => break,
            (Some(wanted), Some(got)) if is(wanted, got) => {
                (e, c) = (e + 1, c + 1);
                Difference::Same(show_expected(wanted))
            }
            (Some(wanted), got) if got.is_none() || at(&common, e + 1, c) >= at(&common, e, c + 1) => {
                e += 1;
                Difference::Missing(show_expected(wanted))
            }
            (_, Some(got)) => {
                c += 1;
                Difference::Surplus(show_came(got))
            }
            (Some(_), None) => break, // taken by the arm for what is missing
        });
    }
    if differences.iter().all(|difference| matches!(difference, Difference::Same(_))) {
        return Vec::new();
    }
    differences
}
