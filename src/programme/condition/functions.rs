//! The functions, and the loops over lists that are written like functions.

use cel::common::ast::{CallExpr, Expr, IdedExpr};
use jiff::Timestamp;

use super::lower::{Lowering, Part, did_you_mean};
use super::node::{Activity, Function, Loop, LoopKind, Node, Search};
use super::shape::Type;
use super::{DataValue, MAX_LOOPS};
use crate::account::ACTIVE_MONTHS;
use crate::spelling::closest;

/// Every function and how it is written.
const FUNCTIONS: [(&str, &str); 20] = [
    ("all", "list.all(x, condition)"),
    ("contains", "text.contains(text)"),
    ("distinct_count", "list.distinct_count()"),
    ("double", "double(text)"),
    ("endsWith", "text.endsWith(text)"),
    ("exists", "list.exists(x, condition)"),
    ("exists_one", "list.exists_one(x, condition)"),
    ("existsOne", "list.existsOne(x, condition)"),
    ("filter", "list.filter(x, condition)"),
    ("has", "has(data.field)"),
    ("int", "int(number)"),
    ("map", "list.map(x, value) or list.map(x, condition, value)"),
    ("orders_in_months", "member.orders_in_months(3)"),
    ("sign_ins_in_months", "member.sign_ins_in_months(3)"),
    ("size", "size(list) or size(text)"),
    ("spend_in_months", "member.spend_in_months(3)"),
    ("startsWith", "text.startsWith(text)"),
    ("string", "string(number)"),
    ("timestamp", "timestamp(\"2026-11-10T20:00:00+08:00\")"),
    ("uint", "int(number)"),
];

impl<'s> Lowering<'s> {
    pub(super) fn function(&mut self, expr: &'s IdedExpr, call: &'s CallExpr) -> Part {
        let byte = self.name_before(self.at(expr), &call.func_name);
        let name = call.func_name.as_str();
        match (name, call.target.as_deref(), call.args.as_slice()) {
            ("has", None, [IdedExpr { expr: Expr::Select(select), .. }]) => {
                let selected = call.args.first().unwrap_or(expr);
                self.has(selected, select)
            }
            ("size", None, [of]) | ("size", Some(of), []) => self.size(byte, of),
            ("distinct_count", Some(of), []) => {
                let of = self.lower(of);
                self.needs_list(byte, of.holds);
                Part::new(Node::Call(Function::DistinctCount, Box::new(of.node)), Type::Number)
            }
            ("startsWith", Some(text), [sought]) => self.search(expr, Search::Start, text, sought),
            ("endsWith", Some(text), [sought]) => self.search(expr, Search::End, text, sought),
            ("contains", Some(text), [sought]) => self.search(expr, Search::Anywhere, text, sought),
            ("string", None, [of]) => self.conversion(byte, Function::ToText, Type::Text, of),
            ("double", None, [of]) => self.conversion(byte, Function::ToNumber, Type::Number, of),
            ("int" | "uint", None, [of]) => self.conversion(byte, Function::ToWhole, Type::Number, of),
            ("timestamp", None, [of]) => self.timestamp(byte, of),
            ("all", Some(over), [variable, body]) => {
                self.quantifier(byte, LoopKind::All, over, variable, body)
            }
            ("exists", Some(over), [variable, body]) => {
                self.quantifier(byte, LoopKind::Exists, over, variable, body)
            }
            ("exists_one" | "existsOne", Some(over), [variable, body]) => {
                self.quantifier(byte, LoopKind::ExistsOne, over, variable, body)
            }
            ("filter", Some(over), [variable, body]) => {
                self.quantifier(byte, LoopKind::Filter, over, variable, body)
            }
            ("map", Some(over), [variable, body]) => self.map(byte, over, variable, None, body),
            ("map", Some(over), [variable, condition, body]) => {
                self.map(byte, over, variable, Some(condition), body)
            }
            ("orders_in_months", Some(of), [months]) if is_member(of) => {
                self.activity(Activity::Orders, of, months)
            }
            ("spend_in_months", Some(of), [months]) if is_member(of) => {
                self.activity(Activity::Spend, of, months)
            }
            ("sign_ins_in_months", Some(of), [months]) if is_member(of) => {
                self.activity(Activity::SignIns, of, months)
            }
            _ => self.no_such_function(byte, call),
        }
    }

    /// `member.orders_in_months(3)`: how many months must be known when the programme is loaded, for accounts
    /// keep only so many.
    fn activity(&mut self, what: Activity, member: &'s IdedExpr, months: &'s IdedExpr) -> Part {
        self.lower(member);
        let at = self.at(months);
        let many = match self.lower(months).node {
            Node::Const(DataValue::Number(number)) if number.is_integer() => u16::try_from(number).ok(),
            _ => None,
        };
        match many.filter(|many| (1..=ACTIVE_MONTHS).contains(many)) {
            Some(many) => Part::new(Node::Activity(what, many), Type::Number),
            None => self.refuse(at, format!("write a number of months from 1 to {ACTIVE_MONTHS}")),
        }
    }

    fn no_such_function(&mut self, byte: usize, call: &'s CallExpr) -> Part {
        // What is wrong inside is said too, as far as it does not stand in a loop that is not understood.
        let known = FUNCTIONS.iter().find(|(name, _)| *name == call.func_name);
        if known.is_none() {
            for part in call.target.as_deref().into_iter().chain(&call.args) {
                self.lower(part);
            }
        }
        let message = if let Some((name, usage)) = known {
            format!("`{name}` is written {usage}")
        } else {
            let names = FUNCTIONS.map(|(name, _)| name);
            let meant = did_you_mean(closest(&call.func_name, names));
            format!("unknown function `{}`, expected one of {}{meant}", call.func_name, names.join(", "))
        };
        self.refuse(byte, message)
    }

    fn size(&mut self, byte: usize, of: &'s IdedExpr) -> Part {
        let of = self.lower(of);
        if !matches!(of.holds, Type::Any | Type::Text | Type::List(_) | Type::Object(_)) {
            self.problem(byte, format!("text and lists have a size, and this is {}", of.holds.name()));
        }
        Part::new(Node::Call(Function::Size, Box::new(of.node)), Type::Number)
    }

    fn search(&mut self, expr: &IdedExpr, search: Search, text: &'s IdedExpr, sought: &'s IdedExpr) -> Part {
        let (text, sought) = (self.lower(text), self.lower(sought));
        for part in [&text, &sought] {
            self.must_be(expr, Type::Text, part.holds, "looking for text in text");
        }
        Part::new(Node::Search(search, Box::new([text.node, sought.node])), Type::Bool)
    }

    fn conversion(&mut self, byte: usize, function: Function, to: Type, of: &'s IdedExpr) -> Part {
        let of = self.lower(of);
        let fits = match of.holds {
            Type::Any | Type::Number | Type::Text => true,
            Type::Bool | Type::Time => function == Function::ToText,
            Type::Null | Type::List(_) | Type::Object(_) => false,
        };
        if !fits {
            self.problem(byte, format!("{} cannot be made {}", of.holds.name(), to.name()));
        }
        Part::new(Node::Call(function, Box::new(of.node)), to)
    }

    fn timestamp(&mut self, byte: usize, of: &'s IdedExpr) -> Part {
        let of = self.lower(of);
        if let Node::Const(DataValue::Text(text)) = &of.node {
            match text.parse::<Timestamp>() {
                Ok(time) => Part::new(Node::Const(DataValue::Time(time)), Type::Time),
                Err(_) => self.refuse(
                    byte,
                    format!("`{text}` is no time with an offset, as 2026-11-10T20:00:00+08:00"),
                ),
            }
        } else {
            if !matches!(of.holds, Type::Any | Type::Text | Type::Time) {
                self.problem(byte, format!("{} cannot be made a time", of.holds.name()));
            }
            Part::new(Node::Call(Function::ToTime, Box::new(of.node)), Type::Time)
        }
    }

    fn quantifier(
        &mut self,
        byte: usize,
        kind: LoopKind,
        over: &'s IdedExpr,
        variable: &'s IdedExpr,
        body: &'s IdedExpr,
    ) -> Part {
        let over = self.lower(over);
        let element = self.needs_list(byte, over.holds);
        let holds = if matches!(kind, LoopKind::Filter) { over.holds } else { Type::Bool };
        if !self.enter(byte, variable, element) {
            return Part::new(Part::poison().node, holds);
        }
        let at = self.at(body);
        let body = self.lower(body);
        self.locals.pop();
        if !Type::Bool.can_equal(body.holds) {
            self.problem(
                at,
                format!("the condition must be true or false, and this is {}", body.holds.name()),
            );
        }
        let a_loop = Loop { kind, over: over.node, depth: self.locals.len(), body: body.node };
        Part::new(Node::Loop(Box::new(a_loop)), holds)
    }

    fn map(
        &mut self,
        byte: usize,
        over: &'s IdedExpr,
        variable: &'s IdedExpr,
        condition: Option<&'s IdedExpr>,
        body: &'s IdedExpr,
    ) -> Part {
        let over = self.lower(over);
        let element = self.needs_list(byte, over.holds);
        if !self.enter(byte, variable, element) {
            return Part::new(Part::poison().node, Type::List(&Type::Any));
        }
        let condition = condition.map(|condition| {
            let part = self.lower(condition);
            self.must_be(condition, Type::Bool, part.holds, "the condition of `map`");
            part.node
        });
        let body = self.lower(body);
        self.locals.pop();
        let kind = LoopKind::Map(condition);
        let a_loop = Loop { kind, over: over.node, depth: self.locals.len(), body: body.node };
        Part::new(Node::Loop(Box::new(a_loop)), Type::list_of(body.holds))
    }

    /// The type of a list's elements; notes the problem where it is known to be no list.
    fn needs_list(&mut self, byte: usize, holds: Type) -> Type {
        match holds {
            Type::List(element) => *element,
            Type::Any => Type::Any,
            other => {
                self.problem(byte, format!("a list is needed, and this is {}", other.name()));
                Type::Any
            }
        }
    }

    /// Makes a loop's variable known; `false` where that is a problem.
    fn enter(&mut self, byte: usize, variable: &'s IdedExpr, element: Type) -> bool {
        if self.locals.len() >= MAX_LOOPS {
            self.problem(byte, format!("at most {MAX_LOOPS} loops may stand within each other"));
            return false;
        }
        match &variable.expr {
            Expr::Ident(name) if ["event", "data", "item", "member"].contains(&name.as_str()) => {
                self.problem(self.at(variable), format!("`{name}` has a meaning already; take another name"));
                false
            }
            Expr::Ident(name) => {
                self.locals.push((name, element));
                true
            }
            _ => {
                self.problem(
                    self.at(variable),
                    "the first argument is a new name, as i in exists(i, i.price > 10)",
                );
                false
            }
        }
    }
}

/// The name of every function.
#[cfg(test)]
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    FUNCTIONS.iter().map(|(name, _)| *name)
}

/// Whether a part is the name `member`; a loop's variable cannot be called so.
fn is_member(expr: &IdedExpr) -> bool {
    matches!(&expr.expr, Expr::Ident(name) if name == "member")
}
