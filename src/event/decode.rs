//! From a record to an [`Event`]: the envelope, then the data by type. Everything that upstream can
//! get wrong is found here and named.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use rust_decimal::Decimal;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use xxhash_rust::xxh3::Xxh3;

use super::cloudevents::Text;
use super::deed::{Adjustment, Deed, Refund, RefundLine, Request, Transfer};
use super::internal::{self, Celebration, Internal, Referred};
use super::{Event, Item, Order, Reason, Rejected, cloudevents, money};
use crate::account::{Attributes, ProfileUpdate};
use crate::log::Record;
use crate::programme::Versions;
use crate::record::{order_key, redemption_key};
use crate::store::{ReceiptKey, business_key, event_key};
use crate::types::{EventId, EventType, MemberId, Points, TopicName};

/// Lists in an event may be this long; conditions walk them.
pub const MOST_ITEMS: usize = 1_000;

/// Ids may be this many bytes long; they become keys.
pub const LONGEST_ID: usize = 512;

/// An event's data may hold about so many values (each opening bracket and each comma counts as one): read one by one
/// they take many times the memory that they take as text.
pub const MOST_VALUES: usize = 200_000;

/// Objects and lists of an event's data may stand this deep within each other: whoever reads them, here and behind what
/// is published, is spared a stack that overflows.
pub const DEEPEST: usize = 100;

/// A redemption may be for so many of a reward.
pub const MOST_QUANTITY: i64 = 1_000;

/// A member may be in so many segments, named in so many bytes, and have attributes of so many bytes:
/// they are kept in the account and written with each of its changes.
pub const MOST_SEGMENTS: usize = 50;
/// See [`MOST_SEGMENTS`].
pub const LONGEST_SEGMENT: usize = 64;
/// See [`MOST_SEGMENTS`].
pub const LONGEST_ATTRIBUTES: usize = 2_048;

/// The types whose events have a business key behind their id: an order's, a refund's, a review's.
pub(crate) const WITH_BUSINESS_KEY: [&str; 6] = [
    "order.paid",
    "order.refunded",
    "review.posted",
    "redemption.requested",
    "points.adjusted",
    "points.transferred",
];

/// What a record turned out to be.
#[derive(Debug)]
pub enum Decoded {
    /// An event that the programme names.
    Event(Box<Event>),
    /// An event of a type that the programme does not name, or not at the event's time.
    Skipped,
}

/// Reads events for one programme.
#[derive(Clone, Debug)]
pub struct Decoder {
    /// The types that the programme names. Few, so that a linear search is the fastest.
    named: Vec<EventType>,
    /// Of which each names its own types, where there are several.
    versions: Option<Arc<Versions>>,
    currency: String,
    digits: u32,
    max_record_bytes: usize,
    /// The only topic that events that accrual itself sends are taken from.
    internal: Option<TopicName>,
}

impl Decoder {
    /// A decoder for a programme that names these types and pays in this currency.
    pub fn new(named: Vec<EventType>, currency: &str, max_record_bytes: usize) -> Self {
        Self {
            named: named.iter().map(EventType::detached).collect(),
            versions: None,
            currency: currency.to_owned(),
            digits: money::minor_digits(currency),
            max_record_bytes,
            internal: None,
        }
    }

    /// A decoder for the versions of a programme: an event whose type another version names, and not the
    /// one of the event's own time, is skipped, whatever it holds.
    pub fn of(versions: &Arc<Versions>, max_record_bytes: usize) -> Self {
        Self {
            versions: (!versions.is_single()).then(|| versions.clone()),
            ..Self::new(versions.types(), &versions.first().currency, max_record_bytes)
        }
    }

    /// Reads what accrual told itself, too, from this topic.
    #[must_use]
    pub fn with_internal(self, topic: TopicName) -> Self {
        Self { internal: Some(topic), ..self }
    }

    /// Reads a record.
    ///
    /// # Errors
    /// What makes the record a dead letter.
    pub fn decode(&self, record: &Record) -> Result<Decoded, Rejected> {
        let size = record.payload.as_ref().map_or(0, Vec::len);
        if size > self.max_record_bytes {
            let detail =
                format!("the payload has {size} bytes, at most {} are allowed", self.max_record_bytes);
            return Err(Rejected::new(Reason::TooLarge, detail));
        }
        let envelope = cloudevents::read(record)?;
        let kind = required("type", envelope.kind, Reason::NoType)?;
        if internal::is_reserved(&kind) && self.internal.as_ref() != Some(&record.at.topic) {
            let detail = format!("only accrual itself says {kind}; send what happened, such as an order");
            return Err(Rejected::new(Reason::ReservedType, detail));
        }
        let Some(kind) = self.named.iter().find(|named| named.as_str() == kind) else {
            return Ok(Decoded::Skipped);
        };
        let id = required("id", envelope.id, Reason::NoId)?;
        let source = required("source", envelope.source, Reason::NoSource)?;
        if source.contains(' ') {
            return Err(Rejected::new(Reason::WrongKind, "source holds a space, expected a URI reference"));
        }
        let time_text = required("time", envelope.time, Reason::NoTime)?;
        let time = rfc3339(&time_text)?;
        if self.versions.as_ref().is_some_and(|versions| !versions.at(time).by_type.contains_key(kind)) {
            return Ok(Decoded::Skipped);
        }
        let Some(data) = envelope.data else {
            return Err(Rejected::new(Reason::NoMember, "the event has no data, expected data.member_id"));
        };
        check_size(data)?;
        let facts = self.facts(kind, data)?;
        let id = EventId { source: source.into(), id: id.into() };
        Ok(Decoded::Event(Box::new(Event {
            receipt_key: event_key(&id),
            id,
            kind: kind.clone(),
            as_of: as_of(time, record.published_ms, facts.internal.is_some()),
            time,
            time_text: time_text.into(),
            member: facts.member,
            order: facts.order,
            profile: facts.profile,
            deed: facts.deed,
            internal: facts.internal,
            business_key: facts.business_key,
            data: data.into(),
            fingerprint: fingerprint(kind, data),
        })))
    }

    /// Reads the data of a type and checks all that the type promises.
    fn facts(&self, kind: &EventType, data: &str) -> Result<Facts, Rejected> {
        match kind.as_str() {
            "order.paid" => self.order(data),
            "review.posted" => {
                let review: Review<'_> = parse(data)?;
                let member = member(review.member_id)?;
                let id =
                    required("data.review_id", review.review_id.map(|text| text.0), Reason::MissingField)?;
                let business_key = Some(business_key(kind.as_str(), &member, &id));
                Ok(Facts { business_key, ..Facts::of(member) })
            }
            "content.shared" => Ok(Facts::of(member(parse::<Share<'_>>(data)?.member_id)?)),
            "member.registered" | "member.updated" => {
                let told: Profile<'_> = parse(data)?;
                let update = profile(&told, kind.as_str() == "member.registered")?;
                Ok(Facts { profile: Some(Box::new(update)), ..Facts::of(member(told.member_id)?) })
            }
            "order.refunded" => self.refund(data),
            "redemption.requested" => self.redemption(data),
            "redemption.cancelled" => {
                let told: Cancelled<'_> = parse(data)?;
                let member = member(told.member_id)?;
                let redemption: Box<str> = id_of("data.redemption_id", told.redemption_id)?.into();
                // Without a business key: one that comes before its redemption is declined, and must be heard again after it.
                let deed = Some(Box::new(Deed::Cancel { redemption }));
                Ok(Facts { deed, ..Facts::of(member) })
            }
            "points.adjusted" => adjustment(data),
            "points.transferred" => transfer(data),
            "members.merged" => {
                let told: Merged<'_> = parse(data)?;
                let into = id_of("data.into_id", told.into_id)?;
                let into = MemberId::from(into.as_ref());
                let member = member(told.member_id)?;
                if into == member {
                    let detail =
                        "data.into_id is the member itself, expected the other account of the same person";
                    return Err(Rejected::new(Reason::WrongKind, detail));
                }
                Ok(Facts { deed: Some(Box::new(Deed::Merge { into })), ..Facts::of(member) })
            }
            "member.closed" | "member.erased" => {
                let deed = if kind.as_str() == "member.closed" { Deed::Close } else { Deed::Erase };
                let member = member(parse::<Any<'_>>(data)?.member_id)?;
                Ok(Facts { deed: Some(Box::new(deed)), ..Facts::of(member) })
            }
            internal::CAME => {
                let member = member(parse::<Any<'_>>(data)?.member_id)?;
                Ok(Facts { internal: Some(Box::new(Internal::Came)), ..Facts::of(member) })
            }
            internal::WAITED => {
                let member = member(parse::<Any<'_>>(data)?.member_id)?;
                let waited = Internal::Waited(Box::new(parse(data)?));
                Ok(Facts { internal: Some(Box::new(waited)), ..Facts::of(member) })
            }
            internal::RECEIVED => {
                let member = member(parse::<Any<'_>>(data)?.member_id)?;
                let received = Internal::Received(Box::new(parse(data)?));
                Ok(Facts { internal: Some(Box::new(received)), ..Facts::of(member) })
            }
            kind if let Some(occasion) = internal::occasion(kind) => {
                let day: Day<'_> = parse(data)?;
                let celebration = Internal::Celebration(Celebration { occasion, year: day.year });
                Ok(Facts { internal: Some(Box::new(celebration)), ..Facts::of(member(day.member_id)?) })
            }
            internal::REFERRED => {
                let member = member(parse::<Any<'_>>(data)?.member_id)?;
                let referred = parse::<Referred>(data)?;
                let business_key = Some(internal::referred_key(&member, &referred));
                let internal = Some(Box::new(Internal::Referred(referred)));
                Ok(Facts { internal, business_key, ..Facts::of(member) })
            }
            _ => Ok(Facts::of(member(parse::<Any<'_>>(data)?.member_id)?)),
        }
    }

    fn order(&self, data: &str) -> Result<Facts, Rejected> {
        let order: OrderPaid<'_> = parse(data)?;
        let member = member(order.member_id)?;
        let id = required("data.order_id", order.order_id.map(|text| text.0), Reason::MissingField)?;
        let Some(amount) = order.amount else {
            return Err(Rejected::new(
                Reason::MissingField,
                "data.amount is missing, expected what was paid",
            ));
        };
        let amount = money::amount("data.amount", amount, self.digits)?;
        for (field, raw) in [("data.shipping", order.shipping), ("data.points_paid", order.points_paid)] {
            if let Some(raw) = raw.filter(|raw| raw.get() != "null") {
                money::amount(field, raw, self.digits)?;
            }
        }
        let currency = required("data.currency", order.currency.map(|text| text.0), Reason::MissingField)?;
        if currency != self.currency.as_str() {
            let shown: String = currency.chars().take(20).collect();
            let detail = format!("data.currency is {shown}, the programme's is {}", self.currency);
            return Err(Rejected::new(Reason::WrongCurrency, detail));
        }
        let items = order.items.unwrap_or_default();
        if items.len() > MOST_ITEMS {
            let detail = format!("data.items has {} items, at most {MOST_ITEMS} are allowed", items.len());
            return Err(Rejected::new(Reason::TooLong, detail));
        }
        let items =
            items.iter().enumerate().map(|(at, item)| self.item(at, item)).collect::<Result<_, _>>()?;
        let business_key = Some(order_key(&member, &id));
        let order = Some(Order { id: id.into(), amount, items });
        Ok(Facts { order, business_key, ..Facts::of(member) })
    }

    fn refund(&self, data: &str) -> Result<Facts, Rejected> {
        let told: OrderRefunded<'_> = parse(data)?;
        let member = member(told.member_id)?;
        let order = id_of("data.order_id", told.order_id)?;
        let refund = id_of("data.refund_id", told.refund_id)?;
        let amount = self.money("data.amount", told.amount)?;
        let lines = told.lines.unwrap_or_default();
        if lines.len() > MOST_ITEMS {
            let detail = format!("data.lines has {} lines, at most {MOST_ITEMS} are allowed", lines.len());
            return Err(Rejected::new(Reason::TooLong, detail));
        }
        let line = |(at, line): (usize, RefundedLine<'_>)| {
            let field = |name: &str| format!("data.lines[{at}].{name}");
            let missing = |name| Rejected::new(Reason::MissingField, format!("{} is missing", field(name)));
            let id = id_of(&field("line_id"), line.line_id)?;
            let quantity = line.quantity.ok_or_else(|| missing("quantity"))?;
            let quantity = money::amount(field("quantity"), quantity, 6)?;
            let amount = self.money(&field("amount"), line.amount)?;
            Ok(RefundLine { line: id.into(), quantity, amount })
        };
        let lines: Vec<RefundLine> =
            lines.into_iter().enumerate().map(line).collect::<Result<_, Rejected>>()?;
        let of_lines = lines.iter().fold(Decimal::ZERO, |sum, line| sum.saturating_add(line.amount));
        if of_lines > amount {
            let detail = format!("data.lines come to {of_lines}, more than data.amount, which is {amount}");
            return Err(Rejected::new(Reason::BadAmount, detail));
        }
        let business_key = Some(business_key("order.refunded", &member, &refund));
        let deed = Deed::Refund(Refund { order: order.into(), refund: refund.into(), amount, lines });
        Ok(Facts { deed: Some(Box::new(deed)), business_key, ..Facts::of(member) })
    }

    fn redemption(&self, data: &str) -> Result<Facts, Rejected> {
        let told: Requested<'_> = parse(data)?;
        let member = member(told.member_id)?;
        let redemption = id_of("data.redemption_id", told.redemption_id)?;
        let reward = id_of("data.reward", told.reward)?;
        let quantity = told.quantity.map_or(Ok(1), |raw| whole("data.quantity", raw, 1..=MOST_QUANTITY))?;
        let points = told.points.map(|raw| whole("data.points", raw, 1..=i64::MAX)).transpose()?;
        let order = told.order_id.map(|order| id_of("data.order_id", Some(order))).transpose()?;
        let order_amount =
            told.order_amount.map(|raw| self.money("data.order_amount", Some(raw))).transpose()?;
        let request = Request {
            redemption: redemption.as_ref().into(),
            reward: reward.into(),
            quantity: u32::try_from(quantity).unwrap_or(1),
            points: points.map(Points),
            order: order.map(Into::into),
            order_amount,
        };
        let business_key = Some(redemption_key(&member, &redemption));
        Ok(Facts { deed: Some(Box::new(Deed::Redeem(request))), business_key, ..Facts::of(member) })
    }

    fn money(&self, field: &str, raw: Option<&RawValue>) -> Result<Decimal, Rejected> {
        let missing = || Rejected::new(Reason::MissingField, format!("{field} is missing"));
        money::amount(field, raw.ok_or_else(missing)?, self.digits)
    }

    fn item(&self, at: usize, item: &OrderItem<'_>) -> Result<Item, Rejected> {
        let field = |name| ItemField { at, name };
        let missing = |name| Rejected::new(Reason::MissingField, format!("{} is missing", field(name)));
        // A unit price may be finer than the currency (three for 1.00), and a quantity may be a weight.
        let price = money::amount(field("price"), item.price.ok_or_else(|| missing("price"))?, 6)?;
        let quantity = item.quantity.ok_or_else(|| missing("quantity"))?;
        let quantity = money::amount(field("quantity"), quantity, 6)?;
        let amount: Option<Decimal> = price.checked_mul(quantity);
        let amount = amount.ok_or_else(|| {
            Rejected::new(Reason::BadAmount, format!("{} × quantity is out of range", field("price")))
        })?;
        let line = item.line_id.as_ref().map(|line| line.0.as_ref());
        if let Some(line) = line.filter(|line| line.len() > LONGEST_ID) {
            let detail =
                format!("{} has {} bytes, at most {LONGEST_ID} are allowed", field("line_id"), line.len());
            return Err(Rejected::new(Reason::TooLong, detail));
        }
        let line = line.map(Into::into);
        Ok(Item { line, quantity, amount })
    }
}

/// Where an item's field stands, written only where it is wrong: each order has several.
struct ItemField {
    at: usize,
    name: &'static str,
}

impl fmt::Display for ItemField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "data.items[{}].{}", self.at, self.name)
    }
}

/// What the data of an event says that every rule may need.
struct Facts {
    member: MemberId,
    order: Option<Order>,
    profile: Option<Box<ProfileUpdate>>,
    deed: Option<Box<Deed>>,
    internal: Option<Box<Internal>>,
    business_key: Option<ReceiptKey>,
}

impl Facts {
    fn of(member: MemberId) -> Self {
        Self { member, order: None, profile: None, deed: None, internal: None, business_key: None }
    }
}

#[derive(Deserialize)]
struct OrderPaid<'a> {
    #[serde(borrow)]
    member_id: Option<Text<'a>>,
    #[serde(borrow)]
    order_id: Option<Text<'a>>,
    #[serde(borrow)]
    amount: Option<&'a RawValue>,
    #[serde(borrow)]
    currency: Option<Text<'a>>,
    #[serde(borrow)]
    shipping: Option<&'a RawValue>,
    #[serde(borrow)]
    points_paid: Option<&'a RawValue>,
    #[serde(borrow)]
    items: Option<Vec<OrderItem<'a>>>,
}

/// The fields that are not used here are named all the same, so that a wrong kind is found.
#[derive(Deserialize)]
#[allow(dead_code)]
struct OrderItem<'a> {
    #[serde(borrow)]
    price: Option<&'a RawValue>,
    #[serde(borrow)]
    quantity: Option<&'a RawValue>,
    #[serde(borrow)]
    line_id: Option<Text<'a>>,
    #[serde(borrow)]
    sku: Option<Text<'a>>,
    #[serde(borrow)]
    category: Option<Text<'a>>,
    #[serde(borrow)]
    brand: Option<Text<'a>>,
    #[serde(borrow)]
    tags: Option<Vec<Text<'a>>>,
}

#[derive(Deserialize)]
struct OrderRefunded<'a> {
    #[serde(borrow)]
    member_id: Option<Text<'a>>,
    #[serde(borrow)]
    order_id: Option<Text<'a>>,
    #[serde(borrow)]
    refund_id: Option<Text<'a>>,
    #[serde(borrow)]
    amount: Option<&'a RawValue>,
    #[serde(borrow)]
    lines: Option<Vec<RefundedLine<'a>>>,
}

#[derive(Deserialize)]
struct RefundedLine<'a> {
    #[serde(borrow)]
    line_id: Option<Text<'a>>,
    #[serde(borrow)]
    quantity: Option<&'a RawValue>,
    #[serde(borrow)]
    amount: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Requested<'a> {
    #[serde(borrow)]
    member_id: Option<Text<'a>>,
    #[serde(borrow)]
    redemption_id: Option<Text<'a>>,
    #[serde(borrow)]
    reward: Option<Text<'a>>,
    #[serde(borrow)]
    quantity: Option<&'a RawValue>,
    #[serde(borrow)]
    points: Option<&'a RawValue>,
    #[serde(borrow)]
    order_id: Option<Text<'a>>,
    #[serde(borrow)]
    order_amount: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Cancelled<'a> {
    #[serde(borrow)]
    member_id: Option<Text<'a>>,
    #[serde(borrow)]
    redemption_id: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Adjusted<'a> {
    #[serde(borrow)]
    member_id: Option<Text<'a>>,
    #[serde(borrow)]
    adjustment_id: Option<Text<'a>>,
    #[serde(borrow)]
    points: Option<&'a RawValue>,
    #[serde(borrow)]
    reason: Option<Text<'a>>,
    #[serde(borrow)]
    by: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Transferred<'a> {
    #[serde(borrow)]
    member_id: Option<Text<'a>>,
    #[serde(borrow)]
    to_id: Option<Text<'a>>,
    #[serde(borrow)]
    transfer_id: Option<Text<'a>>,
    #[serde(borrow)]
    points: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Merged<'a> {
    #[serde(borrow)]
    member_id: Option<Text<'a>>,
    #[serde(borrow)]
    into_id: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[allow(dead_code)]
struct Review<'a> {
    #[serde(borrow)]
    member_id: Option<Text<'a>>,
    #[serde(borrow)]
    review_id: Option<Text<'a>>,
    #[serde(borrow)]
    order_id: Option<Text<'a>>,
    #[serde(borrow)]
    product_id: Option<Text<'a>>,
    #[serde(borrow)]
    text: Option<Text<'a>>,
    rating: Option<f64>,
    images: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[allow(dead_code)]
struct Share<'a> {
    #[serde(borrow)]
    member_id: Option<Text<'a>>,
    #[serde(borrow)]
    share_id: Option<Text<'a>>,
    #[serde(borrow)]
    target: Option<Text<'a>>,
    #[serde(borrow)]
    channel: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[allow(dead_code)]
struct Profile<'a> {
    #[serde(borrow)]
    member_id: Option<Text<'a>>,
    #[serde(borrow)]
    referrer_id: Option<Text<'a>>,
    #[serde(borrow)]
    birthday: Option<Text<'a>>,
    #[serde(borrow)]
    segments: Option<Vec<Text<'a>>>,
    #[serde(borrow)]
    attributes: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Day<'a> {
    #[serde(borrow)]
    member_id: Option<Text<'a>>,
    year: i16,
}

#[derive(Deserialize)]
struct Any<'a> {
    #[serde(borrow)]
    member_id: Option<Text<'a>>,
}

fn parse<'a, T: Deserialize<'a>>(data: &'a str) -> Result<T, Rejected> {
    if !data.starts_with('{') {
        let detail = format!("data is {}, expected an object", money::kind_of(data));
        return Err(Rejected::new(Reason::WrongKind, detail));
    }
    serde_json::from_str(data).map_err(|error| cloudevents::json_fault("data", &error))
}

/// See [`MOST_VALUES`] and [`DEEPEST`]. Every event passes here: the bytes are counted in one vectorised pass, and only what
/// has many brackets is looked at again.
fn check_size(data: &str) -> Result<(), Rejected> {
    let many = |of: [u8; 2]| data.bytes().filter(|byte| *byte == of[0] || *byte == of[1]).count();
    let (opened, commas) = (many(*b"{["), many(*b",,"));
    if opened + commas > MOST_VALUES {
        let detail = format!("data holds some {} values, at most {MOST_VALUES} are allowed", opened + commas);
        return Err(Rejected::new(Reason::TooLong, detail));
    }
    if opened > DEEPEST && depth(data) > DEEPEST {
        let detail = format!("objects and lists of data stand more than {DEEPEST} deep within each other");
        return Err(Rejected::new(Reason::NotJson, detail));
    }
    Ok(())
}

/// How deep objects and lists stand within each other in JSON.
fn depth(json: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut bytes = json.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            // On to the quote that ends the text.
            b'"' => {
                while let Some(byte) = bytes.next() {
                    match byte {
                        b'\\' => drop(bytes.next()),
                        b'"' => break,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    deepest
}

fn member(id: Option<Text<'_>>) -> Result<MemberId, Rejected> {
    let id = required("data.member_id", id.map(|text| text.0), Reason::NoMember)?;
    Ok(MemberId::from(id.as_ref()))
}

/// A name that must be there.
fn id_of<'a>(field: &str, id: Option<Text<'a>>) -> Result<Cow<'a, str>, Rejected> {
    required(field, id.map(|text| text.0), Reason::MissingField)
}

/// A whole number, as a number or as text that spells one.
fn whole(field: &str, raw: &RawValue, range: std::ops::RangeInclusive<i64>) -> Result<i64, Rejected> {
    let text = raw.get().trim_matches('"');
    text.parse().ok().filter(|number| range.contains(number)).ok_or_else(|| {
        let shown: String = text.chars().take(40).collect();
        let (least, most) = (range.start(), range.end());
        let detail = format!("{field} is {shown}, expected a whole number from {least} to {most}");
        Rejected::new(Reason::BadAmount, detail)
    })
}

fn adjustment(data: &str) -> Result<Facts, Rejected> {
    let told: Adjusted<'_> = parse(data)?;
    let member = member(told.member_id)?;
    let adjustment = id_of("data.adjustment_id", told.adjustment_id)?;
    let raw = told.points.ok_or_else(|| Rejected::new(Reason::MissingField, "data.points is missing"))?;
    let points = whole("data.points", raw, -i64::MAX..=i64::MAX)?;
    let (reason, by) = (id_of("data.reason", told.reason)?, id_of("data.by", told.by)?);
    let business_key = Some(business_key("points.adjusted", &member, &adjustment));
    let deed = Deed::Adjust(Adjustment {
        adjustment: adjustment.into(),
        points: Points(points),
        reason: reason.into(),
        by: by.into(),
    });
    Ok(Facts { deed: Some(Box::new(deed)), business_key, ..Facts::of(member) })
}

fn transfer(data: &str) -> Result<Facts, Rejected> {
    let told: Transferred<'_> = parse(data)?;
    let member = member(told.member_id)?;
    let to = id_of("data.to_id", told.to_id)?;
    let transfer = id_of("data.transfer_id", told.transfer_id)?;
    let raw = told.points.ok_or_else(|| Rejected::new(Reason::MissingField, "data.points is missing"))?;
    let points = Points(whole("data.points", raw, 1..=i64::MAX)?);
    let business_key = Some(business_key("points.transferred", &member, &transfer));
    let deed =
        Deed::Transfer(Transfer { transfer: transfer.into(), to: MemberId::from(to.as_ref()), points });
    Ok(Facts { deed: Some(Box::new(deed)), business_key, ..Facts::of(member) })
}

/// See [`Event::as_of`]. Accrual's own clock is not doubted.
fn as_of(time: Timestamp, published_ms: Option<i64>, is_internal: bool) -> i64 {
    let published = published_ms.filter(|_| !is_internal).map(|millis| millis.div_euclid(1_000));
    time.as_second().min(published.unwrap_or(i64::MAX))
}

/// What is told of a member, small enough to be kept in the account.
fn profile(told: &Profile<'_>, registered: bool) -> Result<ProfileUpdate, Rejected> {
    let birthday = told.birthday.as_ref().map(|text| birthday(&text.0)).transpose()?;
    let segments = told.segments.as_deref().map(segments).transpose()?;
    let attributes = told.attributes.filter(|json| json.get() != "null").map(attributes).transpose()?;
    let referrer = told.referrer_id.as_ref().filter(|id| registered && !id.0.trim_ascii().is_empty());
    let referrer = referrer
        .map(|id| required("data.referrer_id", Some(Cow::Borrowed(id.0.as_ref())), Reason::WrongKind))
        .transpose()?
        .map(|id| MemberId::from(id.as_ref()));
    Ok(ProfileUpdate { registered, referrer, waits: Vec::new(), birthday, segments, attributes })
}

fn birthday(text: &str) -> Result<Date, Rejected> {
    let plain = text.len() == 10;
    text.parse().ok().filter(|_| plain).ok_or_else(|| {
        let shown: String = text.chars().take(40).collect();
        let detail = format!("data.birthday is \"{shown}\", expected a date such as 1990-05-17");
        Rejected::new(Reason::WrongKind, detail)
    })
}

fn segments(names: &[Text<'_>]) -> Result<Vec<Box<str>>, Rejected> {
    let longest = names.iter().map(|name| name.0.len()).max().unwrap_or_default();
    if names.len() > MOST_SEGMENTS || longest > LONGEST_SEGMENT {
        let detail = format!(
            "data.segments has {} names of up to {longest} bytes, at most {MOST_SEGMENTS} of \
             {LONGEST_SEGMENT} bytes are allowed",
            names.len()
        );
        return Err(Rejected::new(Reason::TooLong, detail));
    }
    Ok(names.iter().map(|name| name.0.as_ref().into()).collect())
}

fn attributes(json: &RawValue) -> Result<Attributes, Rejected> {
    let text = json.get();
    if !text.starts_with('{') {
        let detail = format!("data.attributes is {}, expected an object", money::kind_of(text));
        return Err(Rejected::new(Reason::WrongKind, detail));
    }
    if text.len() > LONGEST_ATTRIBUTES {
        let detail =
            format!("data.attributes has {} bytes, at most {LONGEST_ATTRIBUTES} are allowed", text.len());
        return Err(Rejected::new(Reason::TooLong, detail));
    }
    Ok(Attributes::from(json))
}

/// The text, if it is there, not empty and not too long.
fn required<'a>(field: &str, text: Option<Cow<'a, str>>, reason: Reason) -> Result<Cow<'a, str>, Rejected> {
    match text {
        None => Err(Rejected::new(reason, format!("{field} is missing"))),
        Some(text) if text.trim_ascii().is_empty() => Err(Rejected::new(reason, format!("{field} is empty"))),
        Some(text) if text.len() > LONGEST_ID => {
            let detail = format!("{field} has {} bytes, at most {LONGEST_ID} are allowed", text.len());
            Err(Rejected::new(Reason::TooLong, detail))
        }
        Some(text) => Ok(text),
    }
}

/// RFC 3339 and not the other forms that the parser would take.
fn rfc3339(text: &str) -> Result<Timestamp, Rejected> {
    let bytes = text.as_bytes();
    let extended = bytes.get(4) == Some(&b'-')
        && bytes.get(7) == Some(&b'-')
        && bytes.get(13) == Some(&b':')
        && bytes.get(16) == Some(&b':')
        && !text.ends_with(']');
    let parsed = if extended { text.parse::<Timestamp>().ok() } else { None };
    parsed.ok_or_else(|| {
        let shown: String = text.chars().take(40).collect();
        let detail = format!("time is \"{shown}\", expected RFC 3339 such as 2026-11-22T10:00:00Z");
        Rejected::new(Reason::BadTime, detail)
    })
}

fn fingerprint(kind: &EventType, data: &str) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(kind.as_str().as_bytes());
    hash.update(&[0]);
    hash.update(data.as_bytes());
    hash.digest()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::log::Header;
    use crate::types::Coordinates;

    const GOOD: &str = r#"{"specversion":"1.0","id":"e1","source":"shop/web","type":"order.paid","time":"2026-11-22T10:00:00+08:00","data":{"member_id":"m1","order_id":"4711","amount":"120.50","currency":"CNY","items":[{"sku":"a","quantity":2,"price":"60.25"}],"extra":{"kept":true}}}"#;

    fn decoder() -> Decoder {
        let named = ["order.paid", "member.signed_in", "review.posted", "survey.completed"];
        Decoder::new(named.map(EventType::from).to_vec(), "CNY", 10_000)
    }

    fn record(payload: &str, headers: &[(&str, &str)]) -> Record {
        let header = |(name, value): &(&str, &str)| Header {
            name: (*name).to_owned(),
            value: Some(value.as_bytes().to_vec()),
        };
        Record {
            at: Coordinates { topic: "t".into(), partition: 0, offset: 0 },
            published_ms: None,
            key: None,
            payload: Some(payload.as_bytes().to_vec()),
            headers: headers.iter().map(header).collect(),
        }
    }

    fn event(payload: &str, headers: &[(&str, &str)]) -> Event {
        match decoder().decode(&record(payload, headers)) {
            Ok(Decoded::Event(event)) => *event,
            other => panic!("{other:?}"),
        }
    }

    fn reason(payload: &str) -> Reason {
        match decoder().decode(&record(payload, &[])) {
            Err(rejected) => {
                assert!(!rejected.detail.is_empty());
                rejected.reason
            }
            other => panic!("{payload}: {other:?}"),
        }
    }

    #[test]
    fn structured_and_binary_mode_are_the_same_event() {
        let structured = event(GOOD, &[("content-type", "application/cloudevents+json; charset=utf-8")]);
        assert_eq!(structured.member.as_str(), "m1");
        assert_eq!(structured.order.as_ref().unwrap().amount.to_string(), "120.50");
        assert_eq!(structured.order.as_ref().unwrap().items[0].amount.to_string(), "120.50");
        assert_eq!(structured.business_key.as_deref(), Some("order.paid 2:m1 4711"));
        let data = GOOD.split_once(r#""data":"#).unwrap().1.strip_suffix('}').unwrap();
        let attributes = [
            ("ce_specversion", "1.0"),
            ("ce_id", "e1"),
            ("ce_source", "shop/web"),
            ("ce_type", "order.paid"),
            ("ce_time", "2026-11-22T10:00:00+08:00"),
            ("content-type", "application/json"),
        ];
        let binary = event(data, &attributes);
        assert_eq!(
            (&binary.id, binary.time, binary.fingerprint),
            (&structured.id, structured.time, structured.fingerprint)
        );
    }

    #[test]
    fn every_fault_is_named() {
        let put = |from: &str, to: &str| {
            assert!(GOOD.contains(from), "{from}");
            GOOD.replace(from, to)
        };
        for (payload, expected) in [
            (String::new(), Reason::NotJson),
            ("{".to_owned(), Reason::NotJson),
            ("[]".to_owned(), Reason::WrongKind),
            (put(r#""id":"e1""#, r#""id":7"#), Reason::WrongKind),
            (put(r#""id":"e1""#, r#""id":" ""#), Reason::NoId),
            (put(r#""id":"e1","#, ""), Reason::NoId),
            (put(r#""source":"shop/web","#, ""), Reason::NoSource),
            (put("shop/web", "shop web"), Reason::WrongKind),
            (put(r#""type":"order.paid","#, ""), Reason::NoType),
            (put(r#""time":"2026-11-22T10:00:00+08:00","#, ""), Reason::NoTime),
            (put("2026-11-22T10:00:00+08:00", "2026-11-22"), Reason::BadTime),
            (put("2026-11-22T10:00:00+08:00", "2026-11-22T10:00:00"), Reason::BadTime),
            (put("2026-11-22T10:00:00+08:00", "20261122T100000Z"), Reason::BadTime),
            (put("2026-11-22T10:00:00+08:00", "2026-13-22T10:00:00Z"), Reason::BadTime),
            (put(r#""member_id":"m1","#, ""), Reason::NoMember),
            (put(r#""m1""#, r#""""#), Reason::NoMember),
            (put(r#""m1""#, "1"), Reason::WrongKind),
            (put("m1", &"m".repeat(LONGEST_ID + 1)), Reason::TooLong),
            (put(r#""order_id":"4711","#, ""), Reason::MissingField),
            (put(r#""amount":"120.50","#, ""), Reason::MissingField),
            (put("120.50", "-0.01"), Reason::BadAmount),
            (put("120.50", "0.001"), Reason::BadAmount),
            (put(r#""120.50""#, "1e999"), Reason::BadAmount),
            (put("CNY", "USD"), Reason::WrongCurrency),
            (put(r#""quantity":2"#, r#""quantity":-2"#), Reason::BadAmount),
            (put(r#""quantity":2,"#, ""), Reason::MissingField),
            (put(r#""sku":"a""#, r#""sku":1"#), Reason::WrongKind),
            (put(r#"[{"sku""#, r#"{"x":[{"sku""#).replace("}],", "}]},"), Reason::WrongKind),
            (put(r#""specversion":"1.0""#, r#""specversion":"0.3""#), Reason::WrongKind),
            (put("\"extra\"", &format!("\"pad\":\"{}\",\"extra\"", "x".repeat(10_000))), Reason::TooLarge),
        ] {
            assert_eq!(reason(&payload), expected, "{payload}");
        }
    }

    #[test]
    fn a_type_that_the_programme_does_not_name_is_skipped_whatever_it_holds() {
        let other = GOOD.replace("order.paid", "page.viewed").replace("120.50", "-1");
        assert!(matches!(decoder().decode(&record(&other, &[])), Ok(Decoded::Skipped)));
    }

    #[test]
    fn another_payload_has_another_fingerprint_and_another_time_does_not() {
        let first = event(GOOD, &[]).fingerprint;
        assert_ne!(first, event(&GOOD.replace("120.50", "120.51"), &[]).fingerprint);
        assert_eq!(first, event(&GOOD.replace("10:00:00", "11:00:00"), &[]).fingerprint);
    }

    proptest! {
        #[test]
        fn no_payload_makes_the_decoder_panic(text in "\\PC{0,200}", cut in 0..GOOD.len(), with in "\\PC{0,5}") {
            let _ = decoder().decode(&record(&text, &[]));
            let changed = format!("{}{with}{}", &GOOD[..cut], &GOOD[cut..]);
            let _ = decoder().decode(&record(&changed, &[]));
        }
    }
}
