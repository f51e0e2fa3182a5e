//! The base: what a rule pays for an event, before limits and tiers.

use rust_decimal::{Decimal, RoundingStrategy};

use super::facts::LazyFacts;
use super::watch::{Part, Unpaid, Watch};
use crate::event::Event;
use crate::programme::condition::Failure;
use crate::programme::{Each, Earn, Rounding, Rule};
use crate::types::Points;

/// The points of a rule and the amount that they were computed from.
#[derive(Debug, PartialEq)]
pub(super) struct Paid {
    pub points: Points,
    pub of: Option<Decimal>,
    /// What each line of the order has of it, with `each: item`.
    pub by_line: Vec<Points>,
}

impl Paid {
    pub(super) fn of(points: Points, of: Option<Decimal>) -> Self {
        Self { points, of, by_line: Vec::new() }
    }
}

/// Why a rule could not be decided.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// This part of it cannot be evaluated on this event.
    Condition(Part, Failure),
    /// The points leave their range.
    Overflow,
}

impl Failed {
    fn when(why: Failure) -> Self {
        Failed::Condition(Part::When, why)
    }

    fn of(why: Failure) -> Self {
        Failed::Condition(Part::Of, why)
    }
}

/// What the rule pays for this event, or nothing where it does not match. The watch
/// hears of items that it does not pay for.
pub(super) fn base(
    (at, rule): (usize, &Rule),
    rounding: Rounding,
    event: &Event,
    facts: &mut LazyFacts<'_>,
    watch: &mut impl Watch,
) -> Result<Option<Paid>, Failed> {
    match rule.each {
        Each::Event => {
            if !facts.holds(rule.when.as_ref(), None).map_err(Failed::when)? {
                return Ok(None);
            }
            let amount = match &rule.of {
                Some(of) => Some(not_negative(facts.number(of, None).map_err(Failed::of)?)?),
                None => event.order.as_ref().map(|order| order.amount),
            };
            pay(rule.earn, rounding, amount).map(Some)
        }
        Each::Item => each_item((at, rule), rounding, event, facts, watch),
    }
}

/// Pays every item that matches, each rounded by itself, in one sum.
fn each_item(
    (rule_at, rule): (usize, &Rule),
    rounding: Rounding,
    event: &Event,
    facts: &mut LazyFacts<'_>,
    watch: &mut impl Watch,
) -> Result<Option<Paid>, Failed> {
    let Some(order) = &event.order else { return Ok(None) };
    let mut sum: Option<Paid> = None;
    let mut by_line: Option<Vec<Points>> = None;
    let mut failed: Option<(Part, Failure)> = None;
    for (at, item) in order.items.iter().enumerate() {
        let amount = match facts.holds(rule.when.as_ref(), Some(at)) {
            Ok(false) => {
                watch.rule(rule_at, Some(at), || Unpaid::When);
                continue;
            }
            Ok(true) => match &rule.of {
                Some(of) => facts.number(of, Some(at)).map_err(Failed::of).and_then(not_negative),
                None => Ok(item.amount),
            },
            Err(why) => Err(Failed::when(why)),
        };
        let amount = match amount {
            Ok(amount) => amount,
            Err(Failed::Condition(part, why)) => {
                watch.rule(rule_at, Some(at), || Unpaid::Failed(part, why.clone()));
                failed.get_or_insert((part, why));
                continue;
            }
            Err(Failed::Overflow) => return Err(Failed::Overflow),
        };
        let paid = pay(rule.earn, rounding, Some(amount))?;
        let by_line = by_line.get_or_insert_with(|| vec![Points::ZERO; order.items.len()]);
        if let Some(of_line) = by_line.get_mut(at) {
            *of_line = paid.points;
        }
        sum = Some(match sum {
            None => paid,
            Some(so_far) => Paid::of(
                so_far.points.plus(paid.points).map_err(|_| Failed::Overflow)?,
                so_far.of.zip(paid.of).and_then(|(a, b)| a.checked_add(b)),
            ),
        });
    }
    // An item that lacks what the condition asks for does not cost the others their points.
    match failed {
        Some((part, why)) if sum.is_none() => Err(Failed::Condition(part, why)),
        _ => Ok(sum.map(|sum| Paid { by_line: by_line.unwrap_or_default(), ..sum })),
    }
}

/// An amount below nothing would take points, which no rule may.
fn not_negative(amount: Decimal) -> Result<Decimal, Failed> {
    if amount.is_sign_negative() && !amount.is_zero() {
        return Err(Failed::of(Failure::Kind { wanted: "an amount of 0 or more", found: "below 0" }));
    }
    Ok(amount)
}

fn pay(earn: Earn, rounding: Rounding, amount: Option<Decimal>) -> Result<Paid, Failed> {
    match earn {
        Earn::Nothing => Ok(Paid::of(Points::ZERO, None)),
        Earn::Fixed(points) => Ok(Paid::of(points, None)),
        Earn::PerAmount { points, per } => {
            let amount = amount.unwrap_or_default();
            // Multiplied first, which is exact, so that the only rounding is the one to whole points.
            let exact = amount.checked_mul(points.0.into()).and_then(|product| {
                if per == Decimal::ONE { Some(product) } else { product.checked_div(per) }
            });
            let points = exact.and_then(|exact| whole_points(exact, rounding)).ok_or(Failed::Overflow)?;
            Ok(Paid::of(points, Some(amount)))
        }
    }
}

/// Rounds to whole points; nothing where they leave their range.
pub(super) fn whole_points(exact: Decimal, rounding: Rounding) -> Option<Points> {
    let strategy = match rounding {
        Rounding::Floor => RoundingStrategy::ToNegativeInfinity,
        Rounding::HalfUp => RoundingStrategy::MidpointAwayFromZero,
        Rounding::Ceil => RoundingStrategy::ToPositiveInfinity,
    };
    i64::try_from(exact.round_dp_with_strategy(0, strategy)).ok().map(Points)
}
