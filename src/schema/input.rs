//! The events that the decoder reads, for their schemas. These types only describe: events are read
//! by [`crate::event::decode`], which tells every fault apart.

#![allow(dead_code)] // nobody makes a value of types that only describe

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, json_schema};
use serde_json::{Map, Value, json};

use super::{SchemaFile, described, file, set_type};
use crate::event::decode::{LONGEST_ID, LONGEST_SEGMENT, MOST_ITEMS, MOST_QUANTITY, MOST_SEGMENTS};
use crate::event::internal::{CAME, RECEIVED, REFERRED, WAITED};
use crate::types::Occasion;

/// A `CloudEvent` 1.0. This is its structured mode; in binary mode the attributes are `ce_` headers and
/// the payload is `data` alone. Other attributes and fields are allowed.
#[derive(JsonSchema)]
struct Envelope<D> {
    #[schemars(extend("const" = "1.0"))]
    specversion: String,
    /// Unique within its source: the same source and id again is the same event.
    id: Id,
    /// Who says it, a URI reference.
    source: Source,
    #[serde(rename = "type")]
    kind: Id,
    /// When it happened; decides the day that it counts in.
    #[schemars(extend("format" = "date-time"))]
    time: String,
    data: D,
}

/// An order was paid; for its member it counts once however often it is said.
#[derive(JsonSchema)]
struct OrderPaid {
    member_id: Id,
    order_id: Id,
    /// What was paid in money, after discounts and points; as fine as the currency is.
    amount: Amount,
    /// The programme's currency (ISO 4217).
    #[schemars(extend("pattern" = "^[A-Z]{3}$"))]
    currency: String,
    shipping: Option<Amount>,
    /// What was paid with points, in money.
    points_paid: Option<Amount>,
    #[schemars(length(max = MOST_ITEMS))]
    items: Option<Vec<OrderItem>>,
}

/// A line of an order.
#[derive(JsonSchema)]
struct OrderItem {
    line_id: Option<String>,
    sku: Option<String>,
    category: Option<String>,
    brand: Option<String>,
    tags: Option<Vec<String>>,
    /// May be a weight: at most six digits after the point.
    quantity: Amount,
    /// Of one; at most six digits after the point.
    price: Amount,
}

/// A member signed in.
#[derive(JsonSchema)]
struct SignedIn {
    member_id: Id,
}

/// A member wrote a review; for them it counts once however often it is said.
#[derive(JsonSchema)]
struct ReviewPosted {
    member_id: Id,
    review_id: Id,
    order_id: Option<String>,
    product_id: Option<String>,
    rating: Option<f64>,
    text: Option<String>,
    images: Option<Value>,
}

/// A member shared something.
#[derive(JsonSchema)]
struct ContentShared {
    member_id: Id,
    share_id: Option<String>,
    target: Option<String>,
    channel: Option<String>,
}

/// A member joined, or what is known of them changed.
#[derive(JsonSchema)]
struct MemberProfile {
    member_id: Id,
    referrer_id: Option<String>,
    /// The day of birth.
    #[schemars(extend("format" = "date"))]
    birthday: Option<String>,
    /// All groups that the member is among now.
    #[schemars(length(max = MOST_SEGMENTS), inner(length(max = LONGEST_SEGMENT)))]
    segments: Option<Vec<String>>,
    /// Whatever else is known of the member now; together at most 2,048 bytes.
    attributes: Option<Map<String, Value>>,
}

/// Money was given back for an order, for all of it or a part; it counts once however often it is said. Where the order
/// is not known yet, it waits.
#[derive(JsonSchema)]
struct OrderRefunded {
    member_id: Id,
    order_id: Id,
    refund_id: Id,
    /// What was given back, as fine as the currency is.
    amount: Amount,
    /// The lines that it was given back for. Together no more than `amount`; the rest is for the order as a whole.
    #[schemars(length(max = MOST_ITEMS))]
    lines: Option<Vec<RefundedLine>>,
}

/// A line of the order.
#[derive(JsonSchema)]
struct RefundedLine {
    /// As `order.paid` called it.
    line_id: Id,
    /// How many of it were returned; at most six digits after the point.
    quantity: Amount,
    /// How much of the refund is for it.
    amount: Amount,
}

/// A member asks for a reward of the catalogue; the answer is an entry. Its `id` seeds the draw of a lottery, so that it must be
/// the shop's own and nothing that a member can choose.
#[derive(JsonSchema)]
struct RedemptionRequested {
    member_id: Id,
    redemption_id: Id,
    /// The reward's name in the programme.
    reward: Id,
    /// How many of it; one where it is absent.
    quantity: Option<Quantity>,
    /// How many points become money; for a reward of kind `money`.
    points: Option<SomePoints>,
    /// The order that it pays for: when that is refunded, the points come back.
    order_id: Option<Id>,
    /// What that order costs, before these points.
    order_amount: Option<Amount>,
}

/// A redemption is taken back, and its points return.
#[derive(JsonSchema)]
struct RedemptionCancelled {
    member_id: Id,
    redemption_id: Id,
}

/// An operator gives points or takes them.
#[derive(JsonSchema)]
struct PointsAdjusted {
    member_id: Id,
    adjustment_id: Id,
    /// Above zero for the member.
    points: SignedPoints,
    /// Why; the member reads it.
    reason: Id,
    /// Who says so.
    by: Id,
}

/// A member gives points to another.
#[derive(JsonSchema)]
struct PointsTransferred {
    /// Who gives.
    member_id: Id,
    /// Who is given; somebody else.
    to_id: Id,
    transfer_id: Id,
    points: SomePoints,
}

/// Two accounts are one person's: all that the member has goes to the other account, and theirs is closed.
#[derive(JsonSchema)]
struct MembersMerged {
    /// Whose account ends.
    member_id: Id,
    /// Whose account goes on; another one.
    into_id: Id,
}

/// The member left: the points end with the account.
#[derive(JsonSchema)]
struct MemberClosed {
    member_id: Id,
}

/// What is known of the member is to be forgotten; sums and points stay.
#[derive(JsonSchema)]
struct MemberErased {
    member_id: Id,
}

/// Any other event that the programme names.
#[derive(JsonSchema)]
struct Custom {
    member_id: Id,
}

described!(
    Id,
    json_schema!({
        "description": "Not blank; at most 512 bytes.",
        "type": "string",
        "maxLength": LONGEST_ID,
        "pattern": r"\S"
    })
);
described!(
    Source,
    json_schema!({
        "description": "Without spaces; at most 512 bytes.",
        "type": "string",
        "maxLength": LONGEST_ID,
        "pattern": "^[^ ]+$"
    })
);
described!(
    Amount,
    json_schema!({
        "description": "A decimal as a number or, which keeps it exact in every language, as text.",
        "anyOf": [
            {"type": "number", "minimum": 0, "maximum": 1_000_000_000_000_000_u64},
            {"type": "string", "pattern": r"^[0-9]{1,15}(\.[0-9]+)?$"}
        ]
    })
);

described!(
    Quantity,
    json_schema!({
        "description": "A whole number from 1 to 1,000, as a number or as text.",
        "anyOf": [
            {"type": "integer", "minimum": 1, "maximum": MOST_QUANTITY},
            {"type": "string", "pattern": "^([1-9][0-9]{0,2}|1000)$"}
        ]
    })
);
described!(
    SomePoints,
    json_schema!({
        "description": "Whole points, at least one, as a number or as text.",
        "anyOf": [
            {"type": "integer", "minimum": 1, "maximum": i64::MAX},
            {"type": "string", "pattern": "^[1-9][0-9]{0,18}$"}
        ]
    })
);
described!(
    SignedPoints,
    json_schema!({
        "description": "Whole points, as a number or as text.",
        "anyOf": [
            {"type": "integer", "minimum": -i64::MAX, "maximum": i64::MAX},
            {"type": "string", "pattern": "^-?[0-9]{1,19}$"}
        ]
    })
);

pub(super) fn all() -> Vec<SchemaFile> {
    let profile = json!({"member_id": "m-1042", "referrer_id": "m-7", "birthday": "1990-04-17",
        "segments": ["newsletter"], "attributes": {"size": "M"}});
    let review = json!({"member_id": "m-1042", "review_id": "r-981", "order_id": "o-4711", "product_id": "p-3",
        "rating": 5, "text": "Reads well and arrived in time.", "images": ["front.jpg"]});
    let share = json!({"member_id": "m-1042", "share_id": "s-5", "target": "p-3", "channel": "app"});
    let order = json!({"member_id": "m-1042", "order_id": "o-4711", "amount": "129.90", "currency": "CNY",
        "shipping": 6, "points_paid": 0, "items": [
            {"line_id": "1", "sku": "b-17", "category": "books", "brand": "Turtle", "tags": ["new"],
             "quantity": 2, "price": "29.95"},
            {"quantity": 1, "price": 70}]});
    let refund = json!({"member_id": "m-1042", "order_id": "o-4711", "refund_id": "f-12", "amount": "29.95",
        "lines": [{"line_id": "1", "quantity": 1, "amount": "29.95"}]});
    let redemption = json!({"member_id": "m-1042", "redemption_id": "d-77", "reward": "mug", "quantity": 1,
        "points": 500, "order_id": "o-4712", "order_amount": "80.00"});
    let adjustment = json!({"member_id": "m-1042", "adjustment_id": "a-3", "points": -50,
        "reason": "paid twice by mistake", "by": "ann@shop"});
    let transfer = json!({"member_id": "m-1042", "to_id": "m-7", "transfer_id": "t-9", "points": 20});
    let known = [
        input::<OrderPaid>("order.paid", &order),
        input::<SignedIn>("member.signed_in", &json!({"member_id": "m-1042"})),
        input::<ReviewPosted>("review.posted", &review),
        input::<ContentShared>("content.shared", &share),
        input::<MemberProfile>("member.registered", &profile),
        input::<MemberProfile>("member.updated", &profile),
        input::<OrderRefunded>("order.refunded", &refund),
        input::<RedemptionRequested>("redemption.requested", &redemption),
        input::<RedemptionCancelled>(
            "redemption.cancelled",
            &json!({"member_id": "m-1042", "redemption_id": "d-77"}),
        ),
        input::<PointsAdjusted>("points.adjusted", &adjustment),
        input::<PointsTransferred>("points.transferred", &transfer),
        input::<MembersMerged>("members.merged", &json!({"member_id": "m-1042", "into_id": "m-7"})),
        input::<MemberClosed>("member.closed", &json!({"member_id": "m-1042"})),
        input::<MemberErased>("member.erased", &json!({"member_id": "m-1042"})),
    ];
    // Nor any that accrual alone may say.
    let own = [REFERRED, CAME, WAITED, RECEIVED].into_iter().chain(Occasion::ALL.map(Occasion::event_type));
    let kinds: Vec<&str> = known.iter().map(|(kind, _)| *kind).chain(own).collect();
    let (_, mut custom) =
        input::<Custom>("survey.completed", &json!({"member_id": "m-1042", "survey_id": "autumn"}));
    custom.insert("title".to_owned(), "any other type that the programme names".into());
    set_type(&mut custom, json!({"$ref": "#/$defs/Id", "not": {"enum": kinds}}));
    let known = known.iter().map(|(kind, schema)| file(&format!("input/{kind}.json"), schema));
    known.chain([file("input/custom.json", &custom)]).collect()
}

/// The schema of an input whose `data` is a `D`, with an example.
fn input<D: JsonSchema>(kind: &'static str, data: &Value) -> (&'static str, Schema) {
    let generator = SchemaSettings::draft2020_12().for_deserialize().into_generator();
    let mut schema = generator.into_root_schema_for::<Envelope<D>>();
    schema.insert("title".to_owned(), kind.into());
    set_type(&mut schema, json!({"const": kind}));
    let example = json!({
        "specversion": "1.0",
        "id": "4f1c-1",
        "source": "/shop/backend",
        "type": kind,
        "time": "2026-11-22T10:00:00+08:00",
        "data": data,
    });
    schema.insert("examples".to_owned(), json!([example]));
    (kind, schema)
}
