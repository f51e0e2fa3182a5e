//! The operators: what they take, what they yield, and what to write instead.

use cel::common::ast::operators as cel_operators;
use cel::common::ast::{CallExpr, IdedExpr};

use super::DataValue;
use super::lower::{Lowering, Part};
use super::node::{Arithmetic, Comparison, Node};
use super::shape::Type;

impl<'s> Lowering<'s> {
    /// An operator or a function: to the parser both are calls.
    pub(super) fn call(&mut self, expr: &'s IdedExpr, call: &'s CallExpr) -> Part {
        match (call.func_name.as_str(), call.args.as_slice()) {
            (cel_operators::LOGICAL_AND, [left, right]) => {
                Part::new(Node::And(self.both_true_or_false(expr, "&&", left, right)), Type::Bool)
            }
            (cel_operators::LOGICAL_OR, [left, right]) => {
                Part::new(Node::Or(self.both_true_or_false(expr, "||", left, right)), Type::Bool)
            }
            (cel_operators::LOGICAL_NOT, [of]) => {
                let of = self.lower(of);
                self.must_be(expr, Type::Bool, of.holds, "`!`");
                Part::new(Node::Not(Box::new(of.node)), Type::Bool)
            }
            (cel_operators::CONDITIONAL, [condition, yes, no]) => {
                let condition = self.lower(condition);
                self.must_be(expr, Type::Bool, condition.holds, "the condition before `?`");
                let (yes, no) = (self.lower(yes), self.lower(no));
                Part::new(Node::If(Box::new([condition.node, yes.node, no.node])), yes.holds.join(no.holds))
            }
            (cel_operators::EQUALS, [left, right]) => self.equal(expr, left, right),
            (cel_operators::NOT_EQUALS, [left, right]) => {
                let equal = self.equal(expr, left, right);
                Part::new(Node::Not(Box::new(equal.node)), Type::Bool)
            }
            (cel_operators::LESS, [left, right]) => self.compare(expr, Comparison::Less, left, right),
            (cel_operators::LESS_EQUALS, [left, right]) => {
                self.compare(expr, Comparison::LessOrEqual, left, right)
            }
            (cel_operators::GREATER, [left, right]) => self.compare(expr, Comparison::Greater, left, right),
            (cel_operators::GREATER_EQUALS, [left, right]) => {
                self.compare(expr, Comparison::GreaterOrEqual, left, right)
            }
            (cel_operators::IN, [sought, list]) => self.contained(expr, sought, list),
            (cel_operators::ADD, [left, right]) => self.arithmetic(expr, Arithmetic::Add, left, right),
            (cel_operators::SUBSTRACT, [left, right]) => {
                self.arithmetic(expr, Arithmetic::Subtract, left, right)
            }
            (cel_operators::MULTIPLY, [left, right]) => {
                self.arithmetic(expr, Arithmetic::Multiply, left, right)
            }
            (cel_operators::DIVIDE, [left, right]) => self.arithmetic(expr, Arithmetic::Divide, left, right),
            (cel_operators::MODULO, [left, right]) => {
                self.arithmetic(expr, Arithmetic::Remainder, left, right)
            }
            (cel_operators::NEGATE, [of]) => {
                let of = self.lower(of);
                self.must_be(expr, Type::Number, of.holds, "`-`");
                Part::new(Node::Negate(Box::new(of.node)), Type::Number)
            }
            (cel_operators::INDEX, [of, at]) => {
                let (of, at) = (self.lower(of), self.lower(at));
                self.index(expr, of, at)
            }
            _ => self.function(expr, call),
        }
    }

    /// Notes the problem where a part that must be of one type is known to be of another.
    pub(super) fn must_be(&mut self, expr: &IdedExpr, wanted: Type, holds: Type, who: &str) {
        if !wanted.can_equal(holds) {
            self.problem(
                self.at(expr),
                format!("{who} needs {}, and this is {}", wanted.name(), holds.name()),
            );
        }
    }

    fn both(&mut self, left: &'s IdedExpr, right: &'s IdedExpr) -> (Part, Part) {
        (self.lower(left), self.lower(right))
    }

    fn both_true_or_false(
        &mut self,
        expr: &IdedExpr,
        operator: &str,
        left: &'s IdedExpr,
        right: &'s IdedExpr,
    ) -> Box<[Node; 2]> {
        let (left, right) = self.both(left, right);
        for part in [&left, &right] {
            self.must_be(expr, Type::Bool, part.holds, &format!("each side of `{operator}`"));
        }
        Box::new([left.node, right.node])
    }

    fn equal(&mut self, expr: &IdedExpr, left: &'s IdedExpr, right: &'s IdedExpr) -> Part {
        let written = [left, right];
        let (left, right) = self.both(left, right);
        for (subject, compared) in [(&left, written[1]), (&right, written[0])] {
            self.note_levels(subject, compared);
        }
        if !left.holds.can_equal(right.holds) {
            let hint = match (left.holds, right.holds) {
                (Type::Null, _) | (_, Type::Null) => "; ask whether a field is there with has(…)".into(),
                _ => instead(&left, &right),
            };
            let message = format!("{} never equals {}{hint}", left.holds.name(), right.holds.name());
            self.problem(self.at(expr), message);
        }
        Part::new(Node::Equal(Box::new([left.node, right.node])), Type::Bool)
    }

    fn compare(
        &mut self,
        expr: &IdedExpr,
        comparison: Comparison,
        left: &'s IdedExpr,
        right: &'s IdedExpr,
    ) -> Part {
        let (left, right) = self.both(left, right);
        let unordered = [left.holds, right.holds]
            .into_iter()
            .find(|holds| !matches!(holds, Type::Any | Type::Number | Type::Text | Type::Time));
        if let Some(holds) = unordered {
            let message = format!("numbers, texts and times have an order, and this is {}", holds.name());
            self.problem(self.at(expr), message);
        } else if !left.holds.can_equal(right.holds) {
            let hint = instead(&left, &right);
            let message =
                format!("{} cannot be compared with {}{hint}", left.holds.name(), right.holds.name());
            self.problem(self.at(expr), message);
        }
        Part::new(Node::Compare(comparison, Box::new([left.node, right.node])), Type::Bool)
    }

    fn contained(&mut self, expr: &IdedExpr, sought: &'s IdedExpr, list: &'s IdedExpr) -> Part {
        let written = list;
        let (sought, list) = self.both(sought, list);
        self.note_levels(&sought, written);
        match list.holds {
            Type::Any => {}
            Type::List(element) => {
                if !element.can_equal(sought.holds) {
                    let message = format!(
                        "{} is never in a list whose elements are {}",
                        sought.holds.name(),
                        element.name()
                    );
                    self.problem(self.at(expr), message);
                }
            }
            Type::Object(_) => self.must_be(expr, Type::Text, sought.holds, "`in` before an object"),
            Type::Text => self.problem(self.at(expr), "`in` needs a list; for text write text.contains(…)"),
            other => self.problem(self.at(expr), format!("`in` needs a list, and this is {}", other.name())),
        }
        Part::new(Node::In(Box::new([sought.node, list.node])), Type::Bool)
    }

    fn arithmetic(
        &mut self,
        expr: &IdedExpr,
        operator: Arithmetic,
        left: &'s IdedExpr,
        right: &'s IdedExpr,
    ) -> Part {
        let (left, right) = self.both(left, right);
        let holds = if operator == Arithmetic::Add {
            sum(left.holds, right.holds)
        } else {
            difference(left.holds, right.holds)
        };
        if holds.is_none() {
            let symbol = match operator {
                Arithmetic::Add => "`+` adds numbers or joins two texts or lists",
                Arithmetic::Subtract => "`-` needs numbers",
                Arithmetic::Multiply => "`*` needs numbers",
                Arithmetic::Divide => "`/` needs numbers",
                Arithmetic::Remainder => "`%` needs numbers",
            };
            let hint = match (operator, left.holds, right.holds) {
                (Arithmetic::Add, Type::Text, Type::Number) | (Arithmetic::Add, Type::Number, Type::Text) => {
                    "; string(…) makes text of a number"
                }
                _ => "",
            };
            let message =
                format!("{symbol}, and this is {} and {}{hint}", left.holds.name(), right.holds.name());
            self.problem(self.at(expr), message);
        }
        Part::new(Node::Arithmetic(operator, Box::new([left.node, right.node])), holds.unwrap_or(Type::Any))
    }
}

/// What `+` yields; `None` where it has no meaning.
fn sum(left: Type, right: Type) -> Option<Type> {
    match (left, right) {
        (Type::List(left), Type::List(right)) => Some(Type::list_of(left.join(*right))),
        (Type::Any, other) | (other, Type::Any) => match other {
            Type::Number | Type::Text => Some(other),
            Type::Any | Type::List(_) => Some(Type::Any),
            _ => None,
        },
        (Type::Number, Type::Number) | (Type::Text, Type::Text) => Some(left),
        _ => None,
    }
}

/// What the other operators yield.
fn difference(left: Type, right: Type) -> Option<Type> {
    let numbers = Type::Number.can_equal(left) && Type::Number.can_equal(right);
    if numbers { Some(Type::Number) } else { None }
}

/// What to write instead of comparing two kinds, where the mistake is a common one.
fn instead(left: &Part, right: &Part) -> String {
    match (left, right) {
        (Part { holds: Type::Number, .. }, Part { holds: Type::Text, node })
        | (Part { holds: Type::Text, node }, Part { holds: Type::Number, .. }) => match node {
            Node::Const(DataValue::Text(text)) if super::value::decimal_of_text(text).is_some() => {
                format!("; write {text} without quotes")
            }
            Node::Const(_) => String::new(),
            _ => "; double(…) makes a number of text, string(…) text of a number".into(),
        },
        (Part { holds: Type::Time, .. }, Part { holds: Type::Text, .. })
        | (Part { holds: Type::Text, .. }, Part { holds: Type::Time, .. }) => {
            "; timestamp(\"2026-11-10T20:00:00+08:00\") makes a time of text".into()
        }
        _ => String::new(),
    }
}
