//! What comes in: events as [`decode`] reads them from a record, checked as far as an event can be
//! without its member's account.

pub mod cloudevents;
pub mod decode;
pub mod deed;
pub mod internal;
pub mod money;

use jiff::Timestamp;
use rust_decimal::Decimal;

use crate::account::ProfileUpdate;
use crate::record::{order_key, redemption_key, spent_key};
use crate::store::ReceiptKey;
use crate::types::{EventId, EventType, MemberId};
use deed::{Deed, Refund};
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
    /// The moment as of which the account is looked at, in seconds since 1970: what has fallen due by then is applied
    /// first. The event's time, or when its record was published where that is earlier: a clock that is wrong upstream
    /// must not let points expire before their time.
    pub as_of: i64,
    /// Who did it.
    pub member: MemberId,
    /// What it is worth money, for an order.
    pub order: Option<Order>,
    /// What it says of the member, for a registration or an update.
    pub profile: Option<Box<ProfileUpdate>>,
    /// What it does beside what rules pay for.
    pub deed: Option<Box<Deed>>,
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
    /// Its name; a refund asks for it.
    pub id: Box<str>,
    /// What was paid in money.
    pub amount: Decimal,
    /// Its lines, in their order.
    pub items: Vec<Item>,
}

/// One line of an order.
#[derive(Clone, PartialEq, Debug)]
pub struct Item {
    /// Its name within the order, by which a refund asks for it.
    pub line: Option<Box<str>>,
    /// How many.
    pub quantity: Decimal,
    /// Price of one, times how many.
    pub amount: Decimal,
}

impl Event {
    /// The records that deciding it asks for, as far as the event alone tells: of the order that is refunded or paid
    /// with points, of the redemption that is cancelled.
    pub fn records(&self) -> Vec<ReceiptKey> {
        let of_refund = |refund: &Refund| {
            vec![order_key(&self.member, &refund.order), spent_key(&self.member, &refund.order)]
        };
        match (self.deed.as_deref(), self.internal.as_deref()) {
            (Some(Deed::Refund(refund)), _) => of_refund(refund),
            (Some(Deed::Redeem(request)), _) => {
                request.order.iter().map(|order| spent_key(&self.member, order)).collect()
            }
            (Some(Deed::Cancel { redemption }), _) => vec![redemption_key(&self.member, redemption)],
            (_, Some(Internal::Waited(waiting))) => of_refund(&waiting.refund),
            _ => Vec::new(),
        }
    }
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
    /// A refund whose order did not come within `dedupe.window`, or is too long ago.
    UnknownOrder,
    /// More refunds wait for their orders than an account keeps.
    TooManyWaiting,
    /// Only accrual itself says so, on its internal topic.
    ReservedType,
}

impl Reason {
    /// Every reason, for the metrics to start at zero.
    pub const ALL: [Reason; 18] = [
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
        Reason::UnknownOrder,
        Reason::TooManyWaiting,
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
            Reason::UnknownOrder => "unknown_order",
            Reason::TooManyWaiting => "too_many_waiting",
            Reason::ReservedType => "reserved_type",
        }
    }
}
