//! What is known of the events before one arrives: the fields of each type and what they hold.
//!
//! The tables are those of the domain's event types; an event type that is not among them may carry
//! any field.

use crate::spelling;

/// What a part of a condition is known to be.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Type {
    /// Known only when an event is there.
    Any,
    Null,
    Bool,
    Number,
    Text,
    Time,
    List(&'static Type),
    Object(&'static Shape),
}

impl Type {
    /// The list of such values. Of lists and objects within lists nothing more is known.
    pub(super) fn list_of(element: Type) -> Type {
        Type::List(match element {
            Type::Bool => &Type::Bool,
            Type::Number => &Type::Number,
            Type::Text => &Type::Text,
            Type::Time => &Type::Time,
            Type::Any | Type::Null | Type::List(_) | Type::Object(_) => &Type::Any,
        })
    }

    /// What both could be: the type of `c ? a : b` and of a list's elements.
    pub(super) fn join(self, other: Type) -> Type {
        if self == other { self } else { Type::Any }
    }

    /// Whether a value of one can equal a value of the other.
    pub(super) fn can_equal(self, other: Type) -> bool {
        match (self, other) {
            (Type::Any, _) | (_, Type::Any) => true,
            (Type::List(left), Type::List(right)) => left.can_equal(*right),
            (Type::Object(_), Type::Object(_)) => true,
            _ => self == other,
        }
    }

    /// As messages call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Type::Any => "of any kind",
            Type::Null => "null",
            Type::Bool => "true or false",
            Type::Number => "a number",
            Type::Text => "text",
            Type::Time => "a time",
            Type::List(_) => "a list",
            Type::Object(_) => "an object",
        }
    }
}

/// The fields of an object.
#[derive(PartialEq, Debug)]
pub(super) struct Shape {
    fields: &'static [Field],
    /// May have fields beside these, of which nothing is known.
    open: bool,
}

/// One known field.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) holds: Type,
    /// Money and counts are numbers that upstream may write as text, `"29.33"`, to keep them exact.
    pub(super) money: bool,
}

impl Shape {
    /// The field, with `Any` for a field of an open shape that is not in its table; `None` where the
    /// shape has no such field.
    pub(super) fn field(&self, name: &str) -> Option<Field> {
        let known = self.fields.iter().find(|field| field.name == name).copied();
        known.or(if self.open { Some(unknown(name)) } else { None })
    }

    /// The field that a misspelt name is close to.
    pub(super) fn closest(&self, name: &str) -> Option<&'static str> {
        spelling::closest(name, self.names())
    }

    /// The names of its known fields, in the order of the table.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.fields.iter().map(|field| field.name)
    }
}

/// What a field holds that no table knows: anything, and money where its name is one of money's.
pub(super) fn unknown(name: &str) -> Field {
    let money = ["amount", "shipping", "price", "points_paid", "order_amount"].contains(&name);
    Field { name: "", holds: Type::Any, money }
}

/// The fields of `data` for an event type.
pub(super) fn data(event_type: &str) -> &'static Shape {
    match event_type {
        "order.paid" => &ORDER_PAID,
        "order.refunded" => &ORDER_REFUNDED,
        "member.signed_in" | "member.birthday" | "member.anniversary" | "member.closed" | "member.erased" => {
            &MEMBER_ONLY
        }
        "review.posted" => &REVIEW_POSTED,
        "content.shared" => &CONTENT_SHARED,
        "member.registered" | "member.updated" => &MEMBER_REGISTERED,
        "redemption.requested" => &REDEMPTION_REQUESTED,
        "redemption.cancelled" => &REDEMPTION_CANCELLED,
        "points.adjusted" => &POINTS_ADJUSTED,
        "points.transferred" => &POINTS_TRANSFERRED,
        "members.merged" => &MEMBERS_MERGED,
        _ => &OTHER,
    }
}

/// The fields of `item`, and of each of `data.items`, for an event type.
pub(super) fn item(event_type: &str) -> Type {
    if event_type == "order.paid" { Type::Object(&ITEM) } else { Type::Any }
}

const fn field(name: &'static str, holds: Type) -> Field {
    Field { name, holds, money: false }
}

const fn text(name: &'static str) -> Field {
    field(name, Type::Text)
}

const fn number(name: &'static str) -> Field {
    field(name, Type::Number)
}

const fn money(name: &'static str) -> Field {
    Field { name, holds: Type::Number, money: true }
}

/// A number that upstream may write as text all the same.
const fn count(name: &'static str) -> Field {
    money(name)
}

const fn closed(fields: &'static [Field]) -> Shape {
    Shape { fields, open: false }
}

/// The fields of `member`: the member as they were before the event.
pub(super) static MEMBER: Shape = closed(&[
    text("id"),
    text("tier"),
    number("available"),
    number("pending"),
    field("registered_at", Type::Time),
    text("birthday"),
    field("segments", Type::List(&Type::Text)),
    field("attributes", Type::Any),
    number("orders"),
    number("spend"),
    field("last_order_at", Type::Time),
    number("days_since_last_order"),
]);

static ORDER_PAID: Shape = closed(&[
    text("member_id"),
    text("order_id"),
    money("amount"),
    text("currency"),
    money("shipping"),
    money("points_paid"),
    field("items", Type::List(&Type::Object(&ITEM))),
    text("channel"),
]);

static ITEM: Shape = closed(&[
    text("line_id"),
    text("sku"),
    text("category"),
    text("brand"),
    field("tags", Type::List(&Type::Text)),
    count("quantity"),
    money("price"),
]);

static ORDER_REFUNDED: Shape = closed(&[
    text("member_id"),
    text("order_id"),
    text("refund_id"),
    money("amount"),
    field("lines", Type::List(&Type::Object(&LINE))),
    text("channel"),
]);

static LINE: Shape = closed(&[text("line_id"), count("quantity"), money("amount")]);

static MEMBER_ONLY: Shape = closed(&[text("member_id"), text("channel")]);

static REVIEW_POSTED: Shape = closed(&[
    text("member_id"),
    text("review_id"),
    text("order_id"),
    text("product_id"),
    number("rating"),
    text("text"),
    field("images", Type::Any),
    text("channel"),
]);

static CONTENT_SHARED: Shape =
    closed(&[text("member_id"), text("share_id"), text("target"), text("channel")]);

static MEMBER_REGISTERED: Shape = closed(&[
    text("member_id"),
    text("referrer_id"),
    text("birthday"),
    field("segments", Type::List(&Type::Text)),
    field("attributes", Type::Any),
    text("channel"),
]);

static REDEMPTION_REQUESTED: Shape = closed(&[
    text("member_id"),
    text("redemption_id"),
    text("reward"),
    count("quantity"),
    count("points"),
    text("order_id"),
    money("order_amount"),
    text("channel"),
]);

static REDEMPTION_CANCELLED: Shape = closed(&[text("member_id"), text("redemption_id"), text("channel")]);

static POINTS_ADJUSTED: Shape = closed(&[
    text("member_id"),
    text("adjustment_id"),
    count("points"),
    text("reason"),
    text("by"),
    text("channel"),
]);

static POINTS_TRANSFERRED: Shape =
    closed(&[text("member_id"), text("to_id"), text("transfer_id"), count("points"), text("channel")]);

static MEMBERS_MERGED: Shape = closed(&[text("member_id"), text("into_id"), text("channel")]);

static OTHER: Shape = Shape { fields: &[text("member_id"), text("channel")], open: true };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_has_a_member_and_a_channel() {
        for event_type in [
            "order.paid",
            "order.refunded",
            "member.signed_in",
            "review.posted",
            "content.shared",
            "member.registered",
            "member.updated",
            "redemption.requested",
            "redemption.cancelled",
            "member.birthday",
            "member.anniversary",
            "points.adjusted",
            "points.transferred",
            "members.merged",
            "member.closed",
            "member.erased",
            "survey.completed",
        ] {
            for name in ["member_id", "channel"] {
                assert_eq!(data(event_type).field(name), Some(text(name)), "{event_type}");
            }
        }
    }

    #[test]
    fn what_upstream_may_write_as_text_is_a_number_all_the_same() {
        for (event_type, name) in [
            ("order.paid", "amount"),
            ("redemption.requested", "quantity"),
            ("redemption.requested", "points"),
            ("points.adjusted", "points"),
            ("points.transferred", "points"),
        ] {
            let field = data(event_type).field(name);
            assert!(field.is_some_and(|field| field.money && field.holds == Type::Number), "{name}");
        }
    }

    #[test]
    fn an_event_type_that_no_table_knows_may_carry_any_field() {
        assert_eq!(data("order.paid").field("principal"), None);
        assert_eq!(data("investment.made").field("principal"), Some(unknown("principal")));
        assert!(data("investment.made").field("amount").is_some_and(|field| field.money));
    }
}
