//! The base: what a rule pays for an event, before limits and tiers.

use rust_decimal::{Decimal, RoundingStrategy};

use crate::event::Event;
use crate::programme::condition::{DataValue, EventFacts, Facts};
use crate::programme::{Each, Earn, Rounding, Rule};
use crate::types::Points;

/// The points of a rule and the amount that they were computed from.
#[derive(Debug, PartialEq)]
pub(super) struct Paid {
    pub points: Points,
    pub of: Option<Decimal>,
}

/// Why a rule could not be decided.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// Its condition cannot be evaluated on this event.
    Condition,
    /// The points leave their range.
    Overflow,
}

/// The event as conditions see it. Its data is parsed once, and only where a rule has a condition.
pub(super) struct LazyFacts<'a> {
    event: &'a Event,
    data: Option<Option<DataValue<'a>>>,
}

impl<'a> LazyFacts<'a> {
    pub(super) fn new(event: &'a Event) -> Self {
        Self { event, data: None }
    }

    /// The data, or nothing where conditions cannot read it (a number out of range).
    fn data(&mut self) -> Option<&DataValue<'a>> {
        let event = self.event;
        self.data.get_or_insert_with(|| serde_json::from_str(&event.data).ok()).as_ref()
    }
}

/// What the rule pays for this event, or nothing where it does not match.
pub(super) fn base(
    rule: &Rule,
    rounding: Rounding,
    event: &Event,
    facts: &mut LazyFacts<'_>,
) -> Result<Option<Paid>, Failed> {
    match rule.each {
        Each::Event => {
            if !holds(rule, event, facts, None)? {
                return Ok(None);
            }
            let amount = event.order.as_ref().map(|order| order.amount);
            pay(rule.earn, rounding, amount).map(Some)
        }
        Each::Item => each_item(rule, rounding, event, facts),
    }
}

/// Pays every item that matches, each rounded by itself, in one sum.
fn each_item(
    rule: &Rule,
    rounding: Rounding,
    event: &Event,
    facts: &mut LazyFacts<'_>,
) -> Result<Option<Paid>, Failed> {
    let Some(order) = &event.order else { return Ok(None) };
    let mut sum: Option<Paid> = None;
    let mut failed = false;
    for (at, item) in order.items.iter().enumerate() {
        match holds(rule, event, facts, Some(at)) {
            Ok(true) => {}
            Ok(false) => continue,
            Err(_) => {
                failed = true;
                continue;
            }
        }
        let paid = pay(rule.earn, rounding, Some(item.amount))?;
        sum = Some(match sum {
            None => paid,
            Some(so_far) => Paid {
                points: so_far.points.plus(paid.points).map_err(|_| Failed::Overflow)?,
                of: so_far.of.zip(paid.of).and_then(|(a, b)| a.checked_add(b)),
            },
        });
    }
    // An item that lacks what the condition asks for does not cost the others their points.
    if sum.is_none() && failed { Err(Failed::Condition) } else { Ok(sum) }
}

fn holds(rule: &Rule, event: &Event, facts: &mut LazyFacts<'_>, item: Option<usize>) -> Result<bool, Failed> {
    let Some(condition) = &rule.when else { return Ok(true) };
    let data = facts.data().ok_or(Failed::Condition)?;
    let item = match item {
        None => None,
        Some(at) => match data.field("items") {
            Some(DataValue::List(items)) => Some(items.get(at).ok_or(Failed::Condition)?),
            _ => return Err(Failed::Condition),
        },
    };
    let event = EventFacts {
        id: &event.id.id,
        source: &event.id.source,
        event_type: event.kind.as_str(),
        time: event.time,
        subject: None,
    };
    condition.holds(&Facts { event, data, item }).map_err(|_| Failed::Condition)
}

fn pay(earn: Earn, rounding: Rounding, amount: Option<Decimal>) -> Result<Paid, Failed> {
    match earn {
        Earn::Fixed(points) => Ok(Paid { points, of: None }),
        Earn::PerAmount { points, per } => {
            let amount = amount.unwrap_or_default();
            // Multiplied first, which is exact, so that the only rounding is the one to whole points.
            let exact = amount.checked_mul(points.0.into()).and_then(|product| {
                if per == Decimal::ONE { Some(product) } else { product.checked_div(per) }
            });
            let points = exact.and_then(|exact| whole_points(exact, rounding)).ok_or(Failed::Overflow)?;
            Ok(Paid { points, of: Some(amount) })
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
