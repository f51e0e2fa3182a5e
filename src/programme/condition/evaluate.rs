//! The evaluation of a checked condition.

use std::cmp::Ordering;

use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;

use super::computed::{Key, Value};
use super::node::{Activity, Arithmetic, Attribute, Comparison, Function, Loop, LoopKind, Node, Search};
use super::value::{decimal_of_text, order};
use super::{DataValue, Facts, Failure, LONGEST_KEY, MAX_LOOPS, MAX_STEPS};

/// One evaluation.
pub(super) struct Run<'a> {
    facts: &'a Facts<'a>,
    locals: [Value<'a>; MAX_LOOPS],
    steps_left: u32,
}

impl<'a> Run<'a> {
    pub(super) fn new(facts: &'a Facts<'a>) -> Self {
        let nothing = || Value::Made(DataValue::Null);
        Self { facts, locals: [nothing(), nothing()], steps_left: MAX_STEPS }
    }

    /// The value as text, for a key.
    pub(super) fn key(&mut self, node: &'a Node) -> Result<String, Failure> {
        let value = self.value(node)?;
        match value.single() {
            Some(DataValue::Text(text)) if text.len() > LONGEST_KEY => Err(Failure::LongKey),
            Some(DataValue::Text(text)) => Ok(text.clone().into_owned()),
            Some(DataValue::Number(number)) => Ok(number.normalize().to_string()),
            _ => Err(value.instead_of("text or a number")),
        }
    }

    /// The value as a number.
    pub(super) fn number(&mut self, node: &'a Node) -> Result<Decimal, Failure> {
        self.value(node)?.to_decimal()
    }

    /// The value of a part that must be true or false.
    pub(super) fn truth(&mut self, node: &'a Node) -> Result<bool, Failure> {
        self.spend(1)?;
        match node {
            Node::And(both) => self.either(both, false).map(|found| !found),
            Node::Or(both) => self.either(both, true),
            Node::Not(node) => Ok(!self.truth(node)?),
            Node::Equal(both) => {
                let [left, right] = both.as_ref();
                if let (Some(left), Some(right)) = (self.held(left), self.held(right)) {
                    self.spend(2 + left.weight() + right.weight())?;
                    return Ok(left == right);
                }
                let (left, right) = self.pair(both)?;
                self.spend(left.weight() + right.weight())?;
                Ok(left.equals(&right))
            }
            Node::Compare(comparison, both) => self.compare(*comparison, both),
            Node::In(both) => self.contained(both),
            Node::Has { of, name } => self.has(of, name),
            Node::HasAttribute(attribute) => {
                Ok(*attribute != Attribute::Subject || self.facts.event.subject.is_some())
            }
            Node::Search(search, both) => self.search(*search, both),
            Node::Loop(a_loop) => match &a_loop.kind {
                LoopKind::All => self.any(a_loop, false).map(|found| !found),
                LoopKind::Exists => self.any(a_loop, true),
                LoopKind::ExistsOne => self.exactly_one(a_loop),
                LoopKind::Filter | LoopKind::Map(_) => self.collect(a_loop)?.as_bool(),
            },
            other => self.value_of(other)?.as_bool(),
        }
    }

    /// The value of a part.
    pub(super) fn value(&mut self, node: &'a Node) -> Result<Value<'a>, Failure> {
        self.spend(1)?;
        match self.held(node) {
            Some(value) => Ok(Value::Held(value)),
            None => self.value_of(node),
        }
    }

    /// The short way for what most conditions compare, a field with a constant: nothing is made and nothing
    /// dropped. `None` means the long way, which also knows what went wrong.
    fn held(&self, node: &'a Node) -> Option<&'a DataValue<'a>> {
        /// Fields that are looked through without being counted as steps.
        const FEW: usize = 32;
        match node {
            Node::Const(value) => Some(value),
            Node::Data => Some(self.facts.data),
            Node::Item => self.facts.item,
            Node::Member => self.facts.member.map(|member| member.fields),
            Node::Local(depth) => match self.locals.get(*depth) {
                Some(Value::Held(value)) => Some(value),
                _ => None,
            },
            Node::Field { of, name, money } => match self.held(of)? {
                object @ DataValue::Object(fields) if fields.len() <= FEW => match object.field(name)? {
                    DataValue::OutOfRange => None,
                    DataValue::Text(_) if *money => None,
                    value => Some(value),
                },
                _ => None,
            },
            _ => None,
        }
    }

    fn value_of(&mut self, node: &'a Node) -> Result<Value<'a>, Failure> {
        match node {
            Node::Const(value) => Ok(Value::Held(value)),
            Node::Data => Ok(Value::Held(self.facts.data)),
            Node::Item => self.facts.item.map(Value::Held).ok_or_else(|| Failure::Missing("item".into())),
            Node::Member => {
                let member = self.facts.member.ok_or_else(|| Failure::Missing("member".into()))?;
                Ok(Value::Held(member.fields))
            }
            Node::Activity(what, months) => self.activity(*what, *months),
            Node::Local(depth) => self.local(*depth),
            Node::Attribute(attribute) => self.attribute(*attribute),
            Node::Field { of, name, money } => self.field(of, name, *money),
            Node::Index(both) => self.index(both),
            Node::If(parts) => {
                let [condition, yes, no] = parts.as_ref();
                let chosen = if self.truth(condition)? { yes } else { no };
                self.value(chosen)
            }
            Node::Arithmetic(operator, both) => self.arithmetic(*operator, both),
            Node::Negate(node) => self.value(node)?.as_number().map(|number| Value::number(-number)),
            Node::List(nodes) => {
                nodes.iter().map(|node| self.value(node)).collect::<Result<_, _>>().map(Value::List)
            }
            Node::Call(function, node) => {
                let value = self.value(node)?;
                self.call(*function, value)
            }
            Node::Loop(a_loop) if matches!(a_loop.kind, LoopKind::Filter | LoopKind::Map(_)) => {
                self.collect(a_loop)
            }
            Node::And(_)
            | Node::Or(_)
            | Node::Not(_)
            | Node::Equal(_)
            | Node::Compare(..)
            | Node::In(_)
            | Node::Has { .. }
            | Node::HasAttribute(_)
            | Node::Search(..)
            | Node::Loop(_) => self.truth(node).map(Value::bool),
        }
    }

    fn spend(&mut self, steps: usize) -> Result<(), Failure> {
        let left = u32::try_from(steps).ok().and_then(|steps| self.steps_left.checked_sub(steps));
        // Once it is used up it stays so: a failure that `||` passes over must not buy more.
        self.steps_left = left.unwrap_or(0);
        if left.is_some() { Ok(()) } else { Err(Failure::TooManySteps) }
    }

    fn pair(&mut self, both: &'a [Node; 2]) -> Result<(Value<'a>, Value<'a>), Failure> {
        let [left, right] = both;
        Ok((self.value(left)?, self.value(right)?))
    }

    /// Whether one of both is `sought`. As CEL has it, a failure on one side does not matter where the
    /// other side decides.
    fn either(&mut self, both: &'a [Node; 2], sought: bool) -> Result<bool, Failure> {
        let [left, right] = both;
        let left = self.truth(left);
        if left == Ok(sought) {
            return Ok(true);
        }
        if self.truth(right)? == sought {
            return Ok(true);
        }
        left.map(|_| false)
    }

    /// Whether the body is `sought` for an element; a failure for another element does not matter then.
    fn any(&mut self, a_loop: &'a Loop, sought: bool) -> Result<bool, Failure> {
        let mut outcome = Ok(false);
        for element in self.value(&a_loop.over)?.elements()? {
            self.bind(a_loop.depth, element);
            match self.truth(&a_loop.body) {
                Ok(found) if found == sought => return Ok(true),
                Ok(_) => {}
                Err(failure) => outcome = Err(failure),
            }
        }
        outcome
    }

    fn exactly_one(&mut self, a_loop: &'a Loop) -> Result<bool, Failure> {
        let mut count = 0;
        for element in self.value(&a_loop.over)?.elements()? {
            self.bind(a_loop.depth, element);
            count += usize::from(self.truth(&a_loop.body)?);
        }
        Ok(count == 1)
    }

    fn collect(&mut self, a_loop: &'a Loop) -> Result<Value<'a>, Failure> {
        let elements = self.value(&a_loop.over)?.elements()?;
        let mut collected = Vec::with_capacity(elements.len());
        for element in elements {
            let taken = if let LoopKind::Map(condition) = &a_loop.kind {
                self.bind(a_loop.depth, element);
                match condition {
                    Some(condition) if !self.truth(condition)? => None,
                    _ => Some(self.value(&a_loop.body)?),
                }
            } else {
                self.bind(a_loop.depth, element.clone());
                if self.truth(&a_loop.body)? { Some(element) } else { None }
            };
            collected.extend(taken);
        }
        Ok(Value::List(collected))
    }

    fn bind(&mut self, depth: usize, element: Value<'a>) {
        if let Some(local) = self.locals.get_mut(depth) {
            *local = element;
        }
    }

    fn local(&mut self, depth: usize) -> Result<Value<'a>, Failure> {
        let copied = match self.locals.get(depth) {
            Some(Value::List(list)) => list.len(),
            Some(Value::Made(DataValue::Text(text))) => text.len(),
            _ => 0,
        };
        self.spend(copied)?;
        Ok(self.locals.get(depth).cloned().unwrap_or(Value::Made(DataValue::Null)))
    }

    fn attribute(&self, attribute: Attribute) -> Result<Value<'a>, Failure> {
        let event = &self.facts.event;
        Ok(Value::Made(match attribute {
            Attribute::Id => DataValue::text(event.id),
            Attribute::Source => DataValue::text(event.source),
            Attribute::Type => DataValue::text(event.event_type),
            Attribute::Time => DataValue::Time(event.time),
            Attribute::Subject => {
                DataValue::text(event.subject.ok_or_else(|| Failure::Missing("event.subject".into()))?)
            }
        }))
    }

    fn activity(&mut self, what: Activity, months: u16) -> Result<Value<'a>, Failure> {
        let member = self.facts.member.ok_or_else(|| Failure::Missing("member".into()))?;
        self.spend(usize::from(months))?;
        let counted = member.activity.months_to(member.month, months).map(|month| match what {
            Activity::Orders => month.1.into(),
            Activity::Spend => month.2,
            Activity::SignIns => month.3.into(),
        });
        Ok(Value::number(counted.fold(Decimal::ZERO, Decimal::saturating_add)))
    }

    fn field(&mut self, of: &'a Node, name: &str, money: bool) -> Result<Value<'a>, Failure> {
        let object = self.object(of)?;
        match object.field(name) {
            None => Err(Failure::Missing(name.into())),
            Some(DataValue::OutOfRange) => Err(Failure::OutOfRange),
            Some(value @ DataValue::Text(text)) if money => {
                Ok(decimal_of_text(text).map_or(Value::Held(value), Value::number))
            }
            Some(value) => Ok(Value::Held(value)),
        }
    }

    fn has(&mut self, of: &'a Node, name: &str) -> Result<bool, Failure> {
        Ok(self.object(of)?.field(name).is_some_and(|value| !matches!(value, DataValue::Null)))
    }

    /// A part that must be an object, which only the event has.
    fn object(&mut self, node: &'a Node) -> Result<&'a DataValue<'a>, Failure> {
        match self.value(node)? {
            Value::Held(object @ DataValue::Object(fields)) => {
                self.spend(fields.len() / 16)?;
                Ok(object)
            }
            other => Err(other.instead_of("an object")),
        }
    }

    fn index(&mut self, both: &'a [Node; 2]) -> Result<Value<'a>, Failure> {
        let (of, at) = self.pair(both)?;
        if let Value::Held(object @ DataValue::Object(fields)) = of {
            self.spend(fields.len() / 16)?;
            let name = at.as_text()?;
            return object.field(name).map(Value::Held).ok_or_else(|| Failure::Missing(name.into()));
        }
        let at = at.as_number()?;
        let at = if at.is_integer() { at.to_usize() } else { None };
        at.and_then(|at| of.elements().map(|mut elements| elements.nth(at)).transpose())
            .unwrap_or(Err(Failure::NoElement))
    }

    fn compare(&mut self, comparison: Comparison, both: &'a [Node; 2]) -> Result<bool, Failure> {
        let [left, right] = both;
        let short = self.held(left).zip(self.held(right)).and_then(|(left, right)| order(left, right));
        let ordering = match short {
            Some(ordering) => {
                self.spend(2)?;
                ordering
            }
            None => self.ordering(both)?,
        };
        Ok(match comparison {
            Comparison::Less => ordering == Ordering::Less,
            Comparison::LessOrEqual => ordering != Ordering::Greater,
            Comparison::Greater => ordering == Ordering::Greater,
            Comparison::GreaterOrEqual => ordering != Ordering::Less,
        })
    }

    fn ordering(&mut self, both: &'a [Node; 2]) -> Result<Ordering, Failure> {
        let (left, right) = self.pair(both)?;
        let ordering = left.single().zip(right.single()).and_then(|(left, right)| order(left, right));
        ordering.ok_or_else(|| match left.single() {
            Some(DataValue::Number(_)) => right.instead_of("a number"),
            Some(DataValue::Text(_)) => right.instead_of("text"),
            Some(DataValue::Time(_)) => right.instead_of("a time"),
            _ => left.instead_of("a number, text or a time"),
        })
    }

    fn contained(&mut self, both: &'a [Node; 2]) -> Result<bool, Failure> {
        let [sought, list] = both;
        if let (Some(sought), Some(list @ DataValue::List(values))) = (self.held(sought), self.held(list)) {
            self.spend(2 + list.weight())?;
            return Ok(values.contains(sought));
        }
        let (sought, list) = self.pair(both)?;
        self.spend(list.weight())?;
        if let Value::Held(object @ DataValue::Object(_)) = list {
            return Ok(object.field(sought.as_text()?).is_some());
        }
        Ok(list.elements()?.any(|element| element.equals(&sought)))
    }

    fn search(&mut self, search: Search, both: &'a [Node; 2]) -> Result<bool, Failure> {
        let (text, sought) = self.pair(both)?;
        let (text, sought) = (text.as_text()?, sought.as_text()?);
        self.spend(text.len() / 16)?;
        Ok(match search {
            Search::Start => text.starts_with(sought),
            Search::End => text.ends_with(sought),
            Search::Anywhere => text.contains(sought),
        })
    }

    fn arithmetic(&mut self, operator: Arithmetic, both: &'a [Node; 2]) -> Result<Value<'a>, Failure> {
        let (left, right) = self.pair(both)?;
        if operator == Arithmetic::Add {
            match (left.single(), right.single()) {
                (Some(DataValue::Text(left)), Some(DataValue::Text(right))) => {
                    self.spend(left.len() + right.len())?;
                    return Ok(Value::text([left.as_ref(), right.as_ref()].concat()));
                }
                (None | Some(DataValue::List(_)), None | Some(DataValue::List(_))) => {
                    let (left, right) = (left.elements()?, right.elements()?);
                    self.spend(left.len() + right.len())?;
                    return Ok(Value::List(left.chain(right).collect()));
                }
                _ => {}
            }
        }
        if let Some(DataValue::Text(_)) = left.single() {
            return Err(right.instead_of("text"));
        }
        let (left, right) = (left.as_number()?, right.as_number()?);
        if right.is_zero() && matches!(operator, Arithmetic::Divide | Arithmetic::Remainder) {
            return Err(Failure::DivisionByZero);
        }
        let result = match operator {
            Arithmetic::Add => left.checked_add(right),
            Arithmetic::Subtract => left.checked_sub(right),
            Arithmetic::Multiply => left.checked_mul(right),
            Arithmetic::Divide => left.checked_div(right),
            Arithmetic::Remainder => left.checked_rem(right),
        };
        result.map(Value::number).ok_or(Failure::OutOfRange)
    }

    fn call(&mut self, function: Function, value: Value<'a>) -> Result<Value<'a>, Failure> {
        match function {
            Function::Size => {
                let size = match value.single() {
                    Some(DataValue::Text(text)) => {
                        self.spend(text.len() / 16)?;
                        text.chars().count()
                    }
                    Some(DataValue::Object(fields)) => fields.len(),
                    _ => value.elements()?.len(),
                };
                Ok(Value::number(Decimal::from(size)))
            }
            Function::DistinctCount => {
                self.distinct_count(value).map(|count| Value::number(Decimal::from(count)))
            }
            Function::ToText => match value.single() {
                Some(DataValue::Text(_)) => Ok(value),
                Some(DataValue::Number(number)) => Ok(Value::text(number.normalize().to_string())),
                Some(DataValue::Bool(value)) => Ok(Value::text(value.to_string())),
                Some(DataValue::Time(time)) => Ok(Value::text(time.to_string())),
                _ => Err(value.instead_of("a number, a time, text, or true or false")),
            },
            Function::ToNumber => value.to_decimal().map(Value::number),
            Function::ToWhole => value.to_decimal().map(|number| Value::number(number.trunc())),
            Function::ToTime => match value.single() {
                Some(DataValue::Time(_)) => Ok(value),
                _ => match value.as_text()?.parse() {
                    Ok(time) => Ok(Value::Made(DataValue::Time(time))),
                    Err(_) => {
                        Err(Failure::Kind { wanted: "a time as 2026-11-10T20:00:00+08:00", found: "text" })
                    }
                },
            },
        }
    }

    /// How many different elements; it counts what has an order, which is what `category`, `brand` and
    /// prices have.
    fn distinct_count(&mut self, list: Value<'a>) -> Result<usize, Failure> {
        let elements = list.elements()?;
        self.spend(elements.len() * 4)?;
        let elements: Vec<Value<'a>> = elements.collect();
        let mut keys = Vec::with_capacity(elements.len());
        for element in &elements {
            keys.push(Key::of(element)?);
        }
        keys.sort_unstable();
        keys.dedup();
        Ok(keys.len())
    }
}
