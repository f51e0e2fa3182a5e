//! What conditions demand, as far as it shows before an event is there: whether they can hold at all, and
//! whether they can hold for the same event.
//!
//! Sound in one direction: what is said never to hold never does, and of much that never holds nothing is
//! said. Of the parts that `&&` joins only comparisons with a constant are understood; every other part is
//! taken as one that may be true or false.

use std::cmp::Ordering;

use jiff::Timestamp;

use super::evaluate::Run;
use super::node::{Comparison, Node};
use super::value::order;
use super::{Condition, DataValue, EventFacts, Facts};

/// What must hold for an event that meets certain conditions.
#[derive(Clone, Default, Debug)]
pub struct Demands {
    /// Each part of an event or a member once, with the values that it may have. Parts that are written
    /// alike come to the same for the same event.
    parts: Vec<(Node, Allowed)>,
}

impl Demands {
    /// Those of conditions that must hold at once; nothing where they never do.
    pub fn of<'c>(conditions: impl IntoIterator<Item = &'c Condition>) -> Option<Self> {
        let mut demands = Self::default();
        for condition in conditions {
            if never(&condition.node) || !demands.demand(&condition.node) {
                return None;
            }
        }
        Some(demands)
    }

    /// Those of both; nothing where no event meets both.
    pub fn and(&self, others: &Self) -> Option<Self> {
        let mut both = self.clone();
        others.parts.iter().all(|(part, allowed)| both.allow(part, allowed)).then_some(both)
    }

    /// Demands that the part is true; false where it cannot be.
    fn demand(&mut self, node: &Node) -> bool {
        if let Node::And(both) = node {
            return both.iter().all(|part| self.demand(part));
        }
        match compared(node) {
            Some((part, allowed)) => self.allow(part, &allowed),
            // What is constant was looked at before.
            None if is_constant(node) => true,
            None => self.allow(node, &Allowed::one_of([DataValue::Bool(true)])),
        }
    }

    fn allow(&mut self, part: &Node, allowed: &Allowed) -> bool {
        if let Some((_, known)) = self.parts.iter_mut().find(|(known, _)| known == part) {
            known.narrow(allowed);
            return known.is_possible();
        }
        self.parts.push((part.clone(), allowed.clone()));
        allowed.is_possible()
    }
}

/// Values that a part may have.
#[derive(Clone, Default, Debug)]
struct Allowed {
    one_of: Option<Vec<DataValue<'static>>>,
    none_of: Vec<DataValue<'static>>,
    bounds: Vec<(Comparison, DataValue<'static>)>,
}

impl Allowed {
    fn one_of(values: impl Into<Vec<DataValue<'static>>>) -> Self {
        Self { one_of: Some(values.into()), ..Self::default() }
    }

    fn none_of(values: Vec<DataValue<'static>>) -> Self {
        Self { none_of: values, ..Self::default() }
    }

    fn narrow(&mut self, other: &Self) {
        match (&mut self.one_of, &other.one_of) {
            (Some(own), Some(others)) => own.retain(|value| others.contains(value)),
            (own @ None, Some(others)) => *own = Some(others.clone()),
            (_, None) => {}
        }
        self.none_of.extend(other.none_of.iter().cloned());
        self.bounds.extend(other.bounds.iter().cloned());
    }

    fn is_possible(&self) -> bool {
        match &self.one_of {
            Some(values) => values.iter().any(|value| self.allows(value)),
            None => self.bounds.iter().all(|lower| self.bounds.iter().all(|upper| can_lie(lower, upper))),
        }
    }

    fn allows(&self, value: &DataValue<'static>) -> bool {
        let within = |(comparison, bound): &(Comparison, DataValue<'static>)| {
            order(value, bound).is_some_and(|ordering| is(*comparison, ordering))
        };
        !self.none_of.contains(value) && self.bounds.iter().all(within)
    }
}

/// Whether some value lies above the one bound and below the other; true of two that bound the same side.
fn can_lie(lower: &(Comparison, DataValue<'_>), upper: &(Comparison, DataValue<'_>)) -> bool {
    use Comparison::{Greater, GreaterOrEqual, Less, LessOrEqual};
    match (lower.0, upper.0, order(&lower.1, &upper.1)) {
        // Of different kinds: no value is compared with both.
        (_, _, None) => false,
        (GreaterOrEqual, LessOrEqual, Some(ordering)) => ordering != Ordering::Greater,
        (Greater | GreaterOrEqual, Less | LessOrEqual, Some(ordering)) => ordering == Ordering::Less,
        _ => true,
    }
}

fn is(comparison: Comparison, ordering: Ordering) -> bool {
    match comparison {
        Comparison::Less => ordering.is_lt(),
        Comparison::LessOrEqual => ordering.is_le(),
        Comparison::Greater => ordering.is_gt(),
        Comparison::GreaterOrEqual => ordering.is_ge(),
    }
}

/// A part that is compared with what is constant, and the values with which that holds.
fn compared(node: &Node) -> Option<(&Node, Allowed)> {
    match node {
        Node::Equal(both) => {
            let (part, value, _) = with_constant(both)?;
            Some((part, Allowed::one_of([value])))
        }
        Node::In(both) => match both.as_ref() {
            [part, Node::Const(DataValue::List(values))] if !is_constant(part) => {
                Some((part, Allowed::one_of(values.clone())))
            }
            _ => None,
        },
        Node::Compare(comparison, both) => {
            let (part, value, is_swapped) = with_constant(both)?;
            let comparison = if is_swapped { swapped(*comparison) } else { *comparison };
            Some((part, Allowed { bounds: vec![(comparison, value)], ..Allowed::default() }))
        }
        Node::Not(negated) => match compared(negated) {
            Some((part, Allowed { one_of: Some(values), .. })) => Some((part, Allowed::none_of(values))),
            Some(_) => None,
            None if is_constant(negated) => None,
            None => Some((negated, Allowed::one_of([DataValue::Bool(false)]))),
        },
        _ => None,
    }
}

/// The side that is not constant, the value of the other one, and whether that stands on the left.
fn with_constant(both: &[Node; 2]) -> Option<(&Node, DataValue<'static>, bool)> {
    let [left, right] = both;
    match (is_constant(left), is_constant(right)) {
        (false, true) => Some((left, constant(right)?, false)),
        (true, false) => Some((right, constant(left)?, true)),
        _ => None,
    }
}

fn swapped(comparison: Comparison) -> Comparison {
    match comparison {
        Comparison::Less => Comparison::Greater,
        Comparison::LessOrEqual => Comparison::GreaterOrEqual,
        Comparison::Greater => Comparison::Less,
        Comparison::GreaterOrEqual => Comparison::LessOrEqual,
    }
}

/// Whether the part is true for no event. What fails counts as not holding.
fn never(node: &Node) -> bool {
    match node {
        Node::And(both) => both.iter().any(never),
        Node::Or(both) => both.iter().all(never),
        node if is_constant(node) => truth(node) != Some(true),
        node => settled(node) == Some(false),
    }
}

/// What the part comes to for every event, if that is the same for each.
fn settled(node: &Node) -> Option<bool> {
    match node {
        Node::And(both) => junction(both, false),
        Node::Or(both) => junction(both, true),
        Node::Not(node) => settled(node).map(|holds| !holds),
        node if is_constant(node) => truth(node),
        _ => None,
    }
}

/// One side that is `decisive` decides, whatever the other one comes to.
fn junction(both: &[Node; 2], decisive: bool) -> Option<bool> {
    let sides = both.each_ref().map(settled);
    if sides.contains(&Some(decisive)) {
        return Some(decisive);
    }
    if sides.contains(&None) { None } else { Some(!decisive) }
}

/// Whether the part asks neither event nor member. Loops are taken as ones that do.
fn is_constant(node: &Node) -> bool {
    match node {
        Node::Const(_) => true,
        Node::Data
        | Node::Item
        | Node::Member
        | Node::Activity(..)
        | Node::Local(_)
        | Node::Attribute(_)
        | Node::HasAttribute(_)
        | Node::Loop(_) => false,
        Node::Field { of, .. } | Node::Has { of, .. } => is_constant(of),
        Node::Not(of) | Node::Negate(of) | Node::Call(_, of) => is_constant(of),
        Node::Index(both)
        | Node::And(both)
        | Node::Or(both)
        | Node::Equal(both)
        | Node::Compare(_, both)
        | Node::In(both)
        | Node::Arithmetic(_, both)
        | Node::Search(_, both) => both.iter().all(is_constant),
        Node::If(parts) => parts.iter().all(is_constant),
        Node::List(nodes) => nodes.iter().all(is_constant),
    }
}

/// Facts that nothing constant asks for.
const NO_FACTS: Facts<'static> = Facts {
    event: EventFacts { id: "", source: "", event_type: "", time: Timestamp::UNIX_EPOCH, subject: None },
    data: &DataValue::Null,
    item: None,
    member: None,
};

fn truth(constant: &Node) -> Option<bool> {
    Run::new(&NO_FACTS).truth(constant).ok()
}

/// The value of a part that is constant; nothing where it fails or is a list that is computed.
fn constant(node: &Node) -> Option<DataValue<'static>> {
    if let Node::Const(value) = node {
        return Some(value.clone());
    }
    match Run::new(&NO_FACTS).value(node).ok()?.single()? {
        DataValue::Null => Some(DataValue::Null),
        DataValue::Bool(value) => Some(DataValue::Bool(*value)),
        DataValue::Number(value) => Some(DataValue::Number(*value)),
        DataValue::Time(value) => Some(DataValue::Time(*value)),
        DataValue::Text(value) => Some(DataValue::Text(value.clone().into_owned().into())),
        DataValue::OutOfRange | DataValue::List(_) | DataValue::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::programme::Each;
    use crate::programme::condition::Scope;
    use crate::types::EventType;

    fn condition(source: &str) -> Condition {
        let on = EventType::from("order.paid");
        Condition::compile(source, &Scope { on: &on, each: Each::Event }).unwrap()
    }

    fn demands(source: &str) -> Option<Demands> {
        Demands::of([&condition(source)])
    }

    #[test]
    fn a_condition_that_no_event_meets_is_found() {
        for source in [
            "false",
            "1 > 2",
            "false && data.amount > 1",
            "data.amount > 1 && 2 < 1",
            "(1 > 2 || false) && has(data.items)",
            "!true",
            "!(data.amount > 1 || true)",
            "1 / 0 > 1",
            "!(1 / 0 > 1)",
            "'a' + 'b' == 'c'",
            "timestamp('2026-01-01T00:00:00Z') > timestamp('2027-01-01T00:00:00Z')",
            "data.amount > 5 && data.amount < 3",
            "data.amount > 5 && data.amount <= 5.0",
            "5 < data.amount && data.amount == 4",
            "member.tier == 'gold' && member.tier == 'silver'",
            "member.tier == 'gold' && member.tier != 'gold'",
            "member.tier == 'gold' && !(member.tier in ['gold', 'silver'])",
            "has(data.items) && !has(data.items)",
            "data.channel in []",
        ] {
            assert!(demands(source).is_none(), "{source}");
        }
    }

    #[test]
    fn a_condition_that_an_event_may_meet_is_not_said_to_be_impossible() {
        for source in [
            "true",
            "1 < 2",
            "!false",
            "false || data.amount > 1",
            "data.amount >= 5 && data.amount <= 5",
            "data.amount > 3 && data.amount < 5 && data.amount != 4",
            "data.amount > 5 || data.amount < 3",
            "data.amount > 5 && data.shipping < 3",
            "member.tier == 'gold' || member.tier == 'silver'",
            "member.tier in ['gold', 'silver'] && member.tier != 'gold'",
            "'press' in member.segments && 'radio' in member.segments",
            "data.items.exists(i, i.price > 5) && data.items.exists(i, i.price < 3)",
            "member.orders_in_months(1) == 0 && member.orders_in_months(2) == 1",
            "!(1 / 0 > 1 && data.amount > 1)",
        ] {
            assert!(demands(source).is_some(), "{source}");
        }
    }

    #[test]
    fn two_conditions_exclude_each_other_where_they_want_the_same_part_otherwise() {
        for (left, right, together) in [
            ("member.tier == 'a'", "member.tier == 'b'", false),
            ("member.tier == 'a'", "'b' == member.tier", false),
            ("member.tier in ['a', 'b']", "member.tier in ['c']", false),
            ("member.tier in ['a', 'b']", "member.tier in ['b', 'c']", true),
            ("member.tier == 'a'", "member.tier != 'a'", false),
            ("member.tier == 'a'", "member.tier != 'b'", true),
            ("member.tier == 'a'", "data.channel == 'b'", true),
            ("data.amount >= 500", "data.amount < 500", false),
            ("data.amount >= 500", "500 > data.amount && has(data.items)", false),
            ("data.amount >= 500", "data.amount <= 500", true),
            ("data.amount >= 500", "data.amount >= 200", true),
            ("size(data.items) == 1", "size(data.items) > 1", false),
            ("member.orders_in_months(3) >= 6", "member.orders_in_months(3) == 0", false),
            ("member.orders_in_months(3) >= 6", "member.orders_in_months(2) == 0", true),
            ("has(member.birthday)", "!has(member.birthday)", false),
            (
                "event.time < timestamp('2026-01-01T00:00:00Z')",
                "event.time > timestamp('2027-01-01T00:00:00Z')",
                false,
            ),
            ("member.tier == 'a' || data.amount > 1", "member.tier == 'b'", true),
        ] {
            let (one, other) = (demands(left).unwrap(), demands(right).unwrap());
            assert_eq!(one.and(&other).is_some(), together, "{left} and {right}");
            assert_eq!(other.and(&one).is_some(), together, "{right} and {left}");
        }
    }

    #[test]
    fn three_may_exclude_each_other_where_no_two_do() {
        let [one, other, third] = ["['a', 'b']", "['b', 'c']", "['a', 'c']"]
            .map(|tiers| demands(&format!("member.tier in {tiers}")).unwrap());
        let both = one.and(&other).unwrap();
        assert!(one.and(&third).is_some() && other.and(&third).is_some());
        assert!(both.and(&third).is_none());
    }

    #[test]
    fn the_levels_that_a_condition_asks_for_are_known_with_their_places() {
        let levels = |source: &str| -> Vec<(usize, String)> {
            condition(source).levels().iter().map(|asked| (asked.at, asked.level.to_string())).collect()
        };
        assert_eq!(levels("member.tier == 'gold'"), [(16, "gold".to_owned())]);
        assert_eq!(levels("'gold' != member.tier"), [(1, "gold".to_owned())]);
        assert_eq!(
            levels("data.amount > 1 && member.tier in ['gold', \"silver\"]"),
            [(36, "gold".to_owned()), (44, "silver".to_owned())]
        );
        assert_eq!(levels("data.channel == 'gold' && 'gold' in member.segments"), []);
    }
}
