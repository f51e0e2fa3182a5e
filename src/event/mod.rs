//! What comes in: events as [`decode`] reads them from a record, checked as far as an event can be
//! without its member's account.

pub mod cloudevents;
pub mod decode;
pub mod internal;
pub mod money;

use jiff::Timestamp;
use rust_decimal::Decimal;

use crate::account::ProfileUpdate;
use crate::store::ReceiptKey;
use crate::types::{EventId, EventType, MemberId};
use internal::Internal;

/// Something a member did, well formed.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its name; the same again is the same event.
    pub id: EventId,
    /// Its CloudEvents type.
    pub kind: EventType,
    /// When it happened; decides the day that it counts in.
    pub time: Timestamp,
    /// The same as upstream wrote it (RFC 3339), for what is published.
    pub time_text: Box<str>,
    /// Who did it.
    pub member: MemberId,
    /// What it is worth money, for an order.
    pub order: Option<Order>,
    /// What it says of the member, for a registration or an update.
    pub profile: Option<Box<ProfileUpdate>>,
    /// What accrual told itself by it, for an event of the internal topic.
    pub internal: Option<Box<Internal>>,
    /// The key of what may happen only once however often upstream says it: an order's payment, a
    /// review. Nothing for types without one.
    pub business_key: Option<ReceiptKey>,
    /// The receipt that says that this event has counted.
    pub receipt_key: ReceiptKey,
    /// Its `data` as JSON text, for conditions.
    pub data: Box<str>,
    /// Hash of type and data, which tells a repeat from another event under the same id.
    pub fingerprint: u64,
}

/// The money of an order.
#[derive(Clone, PartialEq, Debug)]
pub struct Order {
    /// What was paid in money.
    pub amount: Decimal,
    /// Its lines, in their order.
    pub items: Vec<Item>,
}

/// One line of an order.
#[derive(Clone, PartialEq, Debug)]
pub struct Item {
    /// Price of one, times how many.
    pub amount: Decimal,
}

/// Why an event cannot be counted. It goes to the dead letters with this reason, and nothing else.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rejected {
    /// The kind of fault, for metrics and filters.
    pub reason: Reason,
    /// What was wrong, where, and what would be right.
    pub detail: String,
}

impl Rejected {
    /// A rejection with its words.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

/// The kinds of fault that send an event to the dead letters.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Reason {
    /// The payload is not JSON, or empty.
    NotJson,
    /// A field has another kind than it must have.
    WrongKind,
    /// No id, or an empty one.
    NoId,
    /// No source, or an empty one.
    NoSource,
    /// No type, or an empty one.
    NoType,
    /// No time, or an empty one.
    NoTime,
    /// No member, or an empty one.
    NoMember,
    /// A required field of this type is missing.
    MissingField,
    /// The time is no RFC 3339.
    BadTime,
    /// An amount is negative, not finite or finer than the currency.
    BadAmount,
    /// The amount is in another currency than the programme's.
    WrongCurrency,
    /// The record is larger than allowed.
    TooLarge,
    /// A list or an id is longer than allowed.
    TooLong,
    /// The same event id came before with another payload.
    ConflictingDuplicate,
    /// The event would take an account out of the range of points.
    PointsOverflow,
    /// The type is known but this version does not decide it.
    NotSupportedYet,
    /// Only accrual itself says so, on its internal topic.
    ReservedType,
}

impl Reason {
    /// Every reason, for the metrics to start at zero.
    pub const ALL: [Reason; 17] = [
        Reason::NotJson,
        Reason::WrongKind,
        Reason::NoId,
        Reason::NoSource,
        Reason::NoType,
        Reason::NoTime,
        Reason::NoMember,
        Reason::MissingField,
        Reason::BadTime,
        Reason::BadAmount,
        Reason::WrongCurrency,
        Reason::TooLarge,
        Reason::TooLong,
        Reason::ConflictingDuplicate,
        Reason::PointsOverflow,
        Reason::NotSupportedYet,
        Reason::ReservedType,
    ];

    /// Its name in headers and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::NotJson => "not_json",
            Reason::WrongKind => "wrong_kind",
            Reason::NoId => "no_id",
            Reason::NoSource => "no_source",
            Reason::NoType => "no_type",
            Reason::NoTime => "no_time",
            Reason::NoMember => "no_member",
            Reason::MissingField => "missing_field",
            Reason::BadTime => "bad_time",
            Reason::BadAmount => "bad_amount",
            Reason::WrongCurrency => "wrong_currency",
            Reason::TooLarge => "too_large",
            Reason::TooLong => "too_long",
            Reason::ConflictingDuplicate => "conflicting_duplicate",
            Reason::PointsOverflow => "points_overflow",
            Reason::NotSupportedYet => "not_supported_yet",
            Reason::ReservedType => "reserved_type",
        }
    }
}
