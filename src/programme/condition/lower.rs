//! From the parsed source to a checked condition: names, fields, literals. Operators and functions
//! stand in files of their own.
//!
//! Every problem is noted and lowering goes on with a part of any type in its place, so that one
//! mistake is reported once and hides no other.

use cel::Env;
use cel::common::ast::{Expr, IdedExpr, ListExpr, LiteralValue, SelectExpr, SourceInfo};
use rust_decimal::Decimal;

use super::node::{Attribute, Node};
use super::shape::{self, Field, Type};
use super::{AskedLevel, DataValue, MAX_DEPTH, MAX_LENGTH, Problem, Scope};
use crate::programme::Each;
use crate::spelling::closest;

/// Parses and checks `source`; `objection` says what is wrong with the type of the whole, if anything.
pub(super) fn compile(
    source: &str,
    scope: &Scope<'_>,
    objection: impl Fn(Type) -> Option<String>,
) -> Result<Compiled, Vec<Problem>> {
    let length = source.chars().count();
    if length > MAX_LENGTH {
        let message = format!("{length} characters are too long: a condition has at most {MAX_LENGTH}");
        return Err(vec![Problem { at: 0, message }]);
    }
    // Without macros: `exists(…)` and `has(…)` come as the calls they were written as.
    let program = Env::default()
        .with_optional_support(false)
        .compile(source)
        .map_err(|errors| syntax_problems(source, &errors))?;
    let mut lowering = Lowering {
        source,
        info: program.source_info(),
        scope,
        problems: Vec::new(),
        locals: Vec::new(),
        depth: 0,
        too_deep: false,
        asks_member: false,
        levels: Vec::new(),
    };
    let whole = lowering.lower(program.expression());
    let (asks_member, levels) = (lowering.asks_member, lowering.levels);
    let mut problems = lowering.problems;
    if problems.is_empty() {
        problems.extend(objection(whole.holds).map(|message| Problem { at: 0, message }));
    }
    if problems.is_empty() {
        return Ok(Compiled { node: whole.node, asks_member, levels });
    }
    problems.sort();
    problems.dedup();
    Err(problems)
}

/// A checked condition, whether it names `member`, and the levels that it compares the member's with.
pub(super) struct Compiled {
    pub(super) node: Node,
    pub(super) asks_member: bool,
    pub(super) levels: Vec<AskedLevel>,
}

/// A checked part and what it is known to be.
pub(super) struct Part {
    pub(super) node: Node,
    pub(super) holds: Type,
}

impl Part {
    pub(super) fn new(node: Node, holds: Type) -> Self {
        Self { node, holds }
    }

    /// Stands for a part with a problem.
    pub(super) fn poison() -> Self {
        Self::new(Node::Const(DataValue::Null), Type::Any)
    }
}

pub(super) struct Lowering<'s> {
    source: &'s str,
    info: &'s SourceInfo,
    scope: &'s Scope<'s>,
    problems: Vec<Problem>,
    /// The variables of the loops that the part stands in, outermost first.
    pub(super) locals: Vec<(&'s str, Type)>,
    depth: usize,
    too_deep: bool,
    asks_member: bool,
    levels: Vec<AskedLevel>,
}

impl<'s> Lowering<'s> {
    pub(super) fn lower(&mut self, expr: &'s IdedExpr) -> Part {
        if self.depth >= MAX_DEPTH {
            if !self.too_deep {
                self.too_deep = true;
                self.problem(self.at(expr), format!("nests too deep: at most {MAX_DEPTH} levels"));
            }
            return Part::poison();
        }
        self.depth += 1;
        let part = self.lower_inner(expr);
        self.depth -= 1;
        part
    }

    fn lower_inner(&mut self, expr: &'s IdedExpr) -> Part {
        match &expr.expr {
            Expr::Literal(literal) => self.literal(expr, literal),
            Expr::Ident(name) => self.name(expr, name),
            Expr::Select(select) => self.select(expr, select),
            Expr::Call(call) => self.call(expr, call),
            Expr::List(list) => self.list(list),
            Expr::Map(_) | Expr::Struct(_) => {
                self.refuse(self.at(expr), "maps and messages are not supported")
            }
            Expr::Comprehension(_) | Expr::Unspecified => self.refuse(self.at(expr), "this is not supported"),
        }
    }

    /// Notes a problem, at a byte of the source.
    pub(super) fn problem(&mut self, byte: usize, message: impl Into<String>) {
        self.problems.push(Problem { at: characters(self.source, byte), message: message.into() });
    }

    /// Notes a problem and stands in for the part that has it.
    pub(super) fn refuse(&mut self, byte: usize, message: impl Into<String>) -> Part {
        self.problem(byte, message);
        Part::poison()
    }

    /// Takes down the levels that are written in `compared`, a text or a list, where `subject` is the
    /// member's tier.
    pub(super) fn note_levels(&mut self, subject: &Part, compared: &IdedExpr) {
        let is_tier = matches!(&subject.node, Node::Field { of, name, .. }
            if matches!(**of, Node::Member) && name.as_ref() == "tier");
        let written = match &compared.expr {
            Expr::List(list) => list.elements.as_slice(),
            _ => std::slice::from_ref(compared),
        };
        for expr in written.iter().filter(|_| is_tier) {
            if let Expr::Literal(LiteralValue::String(level)) = &expr.expr {
                // After the quote.
                let at = characters(self.source, self.at(expr)) + 1;
                self.levels.push(AskedLevel { at, level: level.inner().into() });
            }
        }
    }

    /// The byte that the parser gives a part: its first, or its operator's, dot's or parenthesis's.
    pub(super) fn at(&self, expr: &IdedExpr) -> usize {
        self.info.offset_for(expr.id).map_or(0, |(start, _)| start as usize)
    }

    /// The byte at which a name starts that ends before the parenthesis at `byte`.
    pub(super) fn name_before(&self, byte: usize, name: &str) -> usize {
        let before = self.source.get(..byte).unwrap_or_default();
        before.trim_end().len().saturating_sub(name.len())
    }

    /// The byte at which a name starts that follows the dot at `byte`.
    fn name_after(&self, byte: usize) -> usize {
        let after = self.source.get(byte + 1..).unwrap_or_default();
        byte + 1 + (after.len() - after.trim_start().len())
    }

    fn literal(&mut self, expr: &IdedExpr, literal: &LiteralValue) -> Part {
        let (value, holds) = match literal {
            LiteralValue::Boolean(value) => (DataValue::Bool(*value.inner()), Type::Bool),
            LiteralValue::Int(value) => (DataValue::Number(Decimal::from(*value.inner())), Type::Number),
            LiteralValue::UInt(value) => (DataValue::Number(Decimal::from(*value.inner())), Type::Number),
            LiteralValue::Double(value) => match self.decimal(expr, value.inner().is_sign_negative()) {
                Some(decimal) => (DataValue::Number(decimal), Type::Number),
                None => return self.refuse(self.at(expr), "this number has too many digits for a decimal"),
            },
            LiteralValue::String(text) => (DataValue::Text(text.inner().to_owned().into()), Type::Text),
            LiteralValue::Null => (DataValue::Null, Type::Null),
            LiteralValue::Bytes(_) => {
                return self.refuse(self.at(expr), "bytes are not supported; write text");
            }
        };
        Part::new(Node::Const(value), holds)
    }

    /// A number as it is written, before the parser made a double of it. Its token has no sign.
    fn decimal(&self, expr: &IdedExpr, negative: bool) -> Option<Decimal> {
        let (start, stop) = self.info.offset_for(expr.id)?;
        let written = self.source.get(start as usize..=stop as usize)?;
        let exact = Decimal::from_str_exact(written).or_else(|_| Decimal::from_scientific(written)).ok()?;
        Some(if negative { -exact } else { exact })
    }

    fn name(&mut self, expr: &IdedExpr, name: &'s str) -> Part {
        if let Some(depth) = self.locals.iter().rposition(|(local, _)| *local == name) {
            let holds = self.locals.get(depth).map_or(Type::Any, |(_, holds)| *holds);
            return Part::new(Node::Local(depth), holds);
        }
        match name {
            "data" => Part::new(Node::Data, Type::Object(shape::data(self.scope.on.as_str()))),
            "item" if self.scope.each == Each::Item => {
                Part::new(Node::Item, shape::item(self.scope.on.as_str()))
            }
            "item" => self.refuse(self.at(expr), "`item` is only known with `each: item`"),
            "event" => {
                let message = format!("name an attribute of `event`: {}", attribute_names());
                self.refuse(self.at(expr), message)
            }
            "member" => {
                self.asks_member = true;
                Part::new(Node::Member, Type::Object(&shape::MEMBER))
            }
            _ => self.unknown_name(expr, name),
        }
    }

    fn unknown_name(&mut self, expr: &IdedExpr, name: &str) -> Part {
        let mut known = vec!["event", "data", "member"];
        if self.scope.each == Each::Item {
            known.push("item");
        }
        known.extend(self.locals.iter().map(|(local, _)| *local));
        let meant = closest(name, known.iter().copied());
        let message =
            format!("unknown name `{name}`, expected one of {}{}", known.join(", "), did_you_mean(meant));
        self.refuse(self.at(expr), message)
    }

    /// Whether a part is the name `event` itself, not a loop's variable of that name.
    fn is_event(&self, expr: &IdedExpr) -> bool {
        // A loop's variable cannot be called so.
        matches!(&expr.expr, Expr::Ident(name) if name == "event")
    }

    fn select(&mut self, expr: &IdedExpr, select: &'s SelectExpr) -> Part {
        if self.is_event(&select.operand) {
            return match self.attribute(expr, &select.field) {
                Some(Attribute::Time) => Part::new(Node::Attribute(Attribute::Time), Type::Time),
                Some(attribute) => Part::new(Node::Attribute(attribute), Type::Text),
                None => Part::poison(),
            };
        }
        let of = self.lower(&select.operand);
        match self.field(expr, &of, &select.field) {
            Some(field) => field_of(of, &select.field, field),
            None => Part::poison(),
        }
    }

    /// `has(of.field)`: whether the field is there and not null.
    pub(super) fn has(&mut self, expr: &IdedExpr, select: &'s SelectExpr) -> Part {
        if self.is_event(&select.operand) {
            return match self.attribute(expr, &select.field) {
                Some(attribute) => Part::new(Node::HasAttribute(attribute), Type::Bool),
                None => Part::poison(),
            };
        }
        let of = self.lower(&select.operand);
        match self.field(expr, &of, &select.field) {
            Some(_) => {
                Part::new(Node::Has { of: Box::new(of.node), name: select.field.as_str().into() }, Type::Bool)
            }
            None => Part::poison(),
        }
    }

    fn attribute(&mut self, expr: &IdedExpr, name: &str) -> Option<Attribute> {
        let found = ATTRIBUTES.iter().find(|(known, _)| *known == name).map(|(_, attribute)| *attribute);
        if found.is_none() {
            let meant = did_you_mean(closest(name, ATTRIBUTES.iter().map(|(known, _)| *known)));
            let message = format!("`event` has no `{name}`, it has {}{meant}", attribute_names());
            self.problem(self.name_after(self.at(expr)), message);
        }
        found
    }

    /// The field that is selected from `of` by its name; notes the problem where it has none such.
    fn field(&mut self, expr: &IdedExpr, of: &Part, name: &str) -> Option<Field> {
        let byte = self.name_after(self.at(expr));
        match of.holds {
            Type::Any => Some(shape::unknown(name)),
            Type::Object(shape) => {
                let field = shape.field(name);
                if field.is_none() {
                    let known: Vec<&str> = shape.names().collect();
                    let message = format!(
                        "unknown field `{name}`, expected one of {}{}; a field of your own is reached with [\"{name}\"]",
                        known.join(", "),
                        did_you_mean(shape.closest(name))
                    );
                    self.problem(byte, message);
                }
                field
            }
            other => {
                self.problem(byte, format!("{} has no fields", other.name()));
                None
            }
        }
    }

    /// `of[at]`: an element of a list, or a field by its name, known or not.
    pub(super) fn index(&mut self, expr: &IdedExpr, of: Part, at: Part) -> Part {
        let wanted = match of.holds {
            Type::List(_) => Type::Number,
            Type::Object(_) => Type::Text,
            Type::Any => Type::Any,
            other => return self.refuse(self.at(expr), format!("{} has no elements", other.name())),
        };
        if !wanted.can_equal(at.holds) {
            let message = format!(
                "{} is indexed with {}, and this is {}",
                of.holds.name(),
                wanted.name(),
                at.holds.name()
            );
            return self.refuse(self.at(expr), message);
        }
        if let (Type::Object(_) | Type::Any, Node::Const(DataValue::Text(name))) = (of.holds, &at.node) {
            let field = match of.holds {
                Type::Object(shape) => shape.field(name),
                _ => None,
            };
            let field = field.unwrap_or_else(|| shape::unknown(name));
            let name = name.clone();
            return field_of(of, &name, field);
        }
        let holds = match of.holds {
            Type::List(element) => *element,
            _ => Type::Any,
        };
        Part::new(Node::Index(Box::new([of.node, at.node])), holds)
    }

    fn list(&mut self, list: &'s ListExpr) -> Part {
        let parts: Vec<Part> = list.elements.iter().map(|element| self.lower(element)).collect();
        let holds = parts.iter().map(|part| part.holds).reduce(Type::join).unwrap_or(Type::Any);
        let constants: Option<Vec<DataValue<'static>>> = parts
            .iter()
            .map(|part| match &part.node {
                Node::Const(value) => Some(value.clone()),
                _ => None,
            })
            .collect();
        // A list that is the same for every event is made once.
        let node = match constants {
            Some(values) => Node::Const(DataValue::List(values)),
            None => Node::List(parts.into_iter().map(|part| part.node).collect()),
        };
        Part::new(node, Type::list_of(holds))
    }
}

const ATTRIBUTES: [(&str, Attribute); 5] = [
    ("id", Attribute::Id),
    ("source", Attribute::Source),
    ("type", Attribute::Type),
    ("time", Attribute::Time),
    ("subject", Attribute::Subject),
];

fn attribute_names() -> String {
    ATTRIBUTES.map(|(name, _)| name).join(", ")
}

fn field_of(of: Part, name: &str, field: Field) -> Part {
    Part::new(Node::Field { of: Box::new(of.node), name: name.into(), money: field.money }, field.holds)
}

pub(super) fn did_you_mean(word: Option<&str>) -> String {
    word.map_or(String::new(), |word| format!("; did you mean `{word}`?"))
}

/// How many characters stand before a byte.
fn characters(source: &str, byte: usize) -> usize {
    source.char_indices().take_while(|(index, _)| *index < byte).count()
}

fn syntax_problems(source: &str, errors: &cel::ParseErrors) -> Vec<Problem> {
    // The parser has a bound of its own, and stumbles over what follows it.
    if errors.errors.iter().any(|error| error.msg.contains("Recursion limit")) {
        return vec![Problem { at: 0, message: format!("nests too deep: at most {MAX_DEPTH} levels") }];
    }
    let mut problems: Vec<Problem> = errors
        .errors
        .iter()
        .map(|error| Problem { at: at_line_and_column(source, error.pos), message: readable(&error.msg) })
        .collect();
    problems.sort();
    problems.dedup();
    problems
}

/// The parser counts lines and columns from 1, in characters.
fn at_line_and_column(source: &str, (line, column): (isize, isize)) -> usize {
    let count = |number: isize| usize::try_from(number - 1).unwrap_or(0);
    let before: usize = source.split_inclusive('\n').take(count(line)).map(|line| line.chars().count()).sum();
    (before + count(column)).min(source.chars().count())
}

/// The parser's message without the list of every token that could have followed.
fn readable(message: &str) -> String {
    let message = message.strip_prefix("Syntax error: ").unwrap_or(message);
    let short = message.split(" expecting {").next().unwrap_or(message);
    format!("syntax error: {}", short.replace("<EOF>", "end"))
}
