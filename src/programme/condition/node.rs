//! A checked condition: the tree that is evaluated.

use super::DataValue;

/// A checked condition. Whatever can be known before an event arrives has been checked; what cannot
/// fails at evaluation.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Node {
    Const(DataValue<'static>),
    Data,
    Item,
    Member,
    /// What the member did in so many calendar months, the event's own being the last.
    Activity(Activity, u16),
    /// The variable of the loop at this depth.
    Local(usize),
    Attribute(Attribute),
    HasAttribute(Attribute),
    /// `money`: text that spells a decimal is read as that number.
    Field {
        of: Box<Node>,
        name: Box<str>,
        money: bool,
    },
    Has {
        of: Box<Node>,
        name: Box<str>,
    },
    Index(Box<[Node; 2]>),
    And(Box<[Node; 2]>),
    Or(Box<[Node; 2]>),
    Not(Box<Node>),
    If(Box<[Node; 3]>),
    Equal(Box<[Node; 2]>),
    Compare(Comparison, Box<[Node; 2]>),
    In(Box<[Node; 2]>),
    Arithmetic(Arithmetic, Box<[Node; 2]>),
    Negate(Box<Node>),
    List(Vec<Node>),
    Call(Function, Box<Node>),
    Search(Search, Box<[Node; 2]>),
    Loop(Box<Loop>),
}

/// What can be asked of a member by months.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Activity {
    Orders,
    Spend,
    SignIns,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Attribute {
    Id,
    Source,
    Type,
    Time,
    Subject,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Comparison {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

/// A function of one value.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Function {
    Size,
    DistinctCount,
    ToText,
    ToNumber,
    ToWhole,
    ToTime,
}

/// A text looked for in a text.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Search {
    Start,
    End,
    Anywhere,
}

/// `over.kind(variable, body)`
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Loop {
    pub(super) kind: LoopKind,
    pub(super) over: Node,
    /// The place of its variable: how many loops it stands in.
    pub(super) depth: usize,
    pub(super) body: Node,
}

#[derive(Clone, PartialEq, Debug)]
pub(super) enum LoopKind {
    All,
    Exists,
    ExistsOne,
    Filter,
    /// Of the elements for which the condition holds, if there is one.
    Map(Option<Node>),
}
