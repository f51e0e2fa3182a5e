//! The events of a shop as CloudEvents 1.0 in structured mode.

use super::ShopTopic;
use super::fault::Fault;
use super::json::{self, TimeWriter};
use super::rng::Rng;
use crate::event::money;

/// What a member does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Happened {
    Order,
    SignIn,
    Review,
    Share,
    Registration,
    Survey,
}

impl Happened {
    pub(super) fn topic(self) -> ShopTopic {
        match self {
            Happened::Order => ShopTopic::Orders,
            Happened::SignIn => ShopTopic::SignIns,
            Happened::Review => ShopTopic::Reviews,
            Happened::Share => ShopTopic::Shares,
            Happened::Registration | Happened::Survey => ShopTopic::Members,
        }
    }
}

/// Something that the shop sells.
#[derive(Clone, Copy, Default, Debug)]
struct Article {
    /// As it stands in an item of an order, without its braces and price.
    json: &'static str,
    /// In hundredths of the currency.
    price: u64,
}

const ARTICLES: [Article; 12] = [
    article(r#""sku":"b-101","category":"books","tags":["new"]"#, 4_950),
    article(r#""sku":"b-102","category":"books","tags":["new","signed"]"#, 8_800),
    article(r#""sku":"b-203","category":"books","tags":[]"#, 2_990),
    article(r#""sku":"b-204","category":"books""#, 1_280),
    article(r#""sku":"c-310","category":"clothes","brand":"north""#, 12_900),
    article(r#""sku":"c-311","category":"clothes","brand":"plain""#, 5_990),
    article(r#""sku":"e-400","category":"electronics","brand":"lumen""#, 39_900),
    article(r#""sku":"e-401","category":"electronics","tags":["new"]"#, 15_900),
    article(r#""sku":"f-500","category":"food""#, 1_850),
    article(r#""sku":"f-501","category":"food","tags":["fresh"]"#, 990),
    article(r#""sku":"h-600","category":"home""#, 7_450),
    article(r#""sku":"h-601","category":"home","brand":"plain""#, 2_350),
];

const fn article(json: &'static str, price: u64) -> Article {
    Article { json, price }
}

/// As it stands in JSON. Some are too short for a rule that asks for twenty characters.
const REVIEWS: [&str; 6] = [
    "Good.",
    "Arrived on time, and just as it was described.",
    "质量很好，物流也快，下次还会再来买，推荐给大家。",
    r#"My daughter calls it \"the best book ever\"."#,
    "Too small for me; the exchange went smoothly though.",
    "还行",
];

const APP: &str = "app";
const SALES_CHANNELS: [&str; 4] = [APP, APP, "web", "store"];
const CHANNELS: [&str; 4] = ["wechat", "weibo", "mail", "link"];

/// How an event id of the shop begins, and one that a repeat was given.
const ID: u8 = b'e';
const NEW_ID: u8 = b'r';
const BEFORE_ID: &[u8] = br#"{"specversion":"1.0","id":""#;

/// Who does something when, and what is wrong with the record of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Occasion<'a> {
    pub(super) member: &'a str,
    /// The record's number, which makes its ids.
    pub(super) number: u64,
    pub(super) at_ms: i64,
    pub(super) fault: Fault,
}

/// Writes the events of one traffic.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    /// Makes ids of this traffic its own.
    mark: String,
    time: TimeWriter,
    currency: String,
    digits: u32,
}

impl Writer {
    pub(super) fn new(mark: u64, currency: &str) -> Self {
        Self {
            mark: format!("{:08x}", mark >> 32),
            time: TimeWriter::new(),
            currency: currency.to_owned(),
            digits: money::minor_digits(currency),
        }
    }

    pub(super) fn order(&mut self, out: &mut Vec<u8>, rng: &mut Rng, on: Occasion<'_>) {
        let fault = on.fault;
        self.open(out, "order.paid", rng.pick(&SALES_CHANNELS), on);
        if fault != Fault::NoOrder {
            out.extend_from_slice(br#","order_id":"#);
            self.id(out, b'o', on.number);
        }
        out.extend_from_slice(br#","items":["#);
        let mut amount = 0;
        // Few orders are large.
        let items = match rng.below(20) {
            0..12 => 1,
            12..17 => 2,
            17..19 => 3,
            _ => 4,
        };
        for at in 0..items {
            let article = rng.pick(&ARTICLES);
            let quantity = 1 + rng.below(8) / 6;
            amount += article.price * quantity;
            out.extend_from_slice(if at == 0 { b"{" } else { b",{" });
            out.extend_from_slice(article.json.as_bytes());
            out.extend_from_slice(br#","quantity":"#);
            json::number(out, quantity, 1);
            out.extend_from_slice(br#","price":"#);
            json::money(out, article.price, self.digits);
            out.push(b'}');
        }
        // One order in ten comes with a coupon: what is paid is less than what the items cost.
        if rng.below(10) == 0 {
            amount -= amount / 10;
        }
        out.extend_from_slice(br#"],"amount":"#);
        match fault {
            Fault::Negative => out.extend_from_slice(b"-25.00"),
            Fault::TooFine => out.extend_from_slice(b"25.000001"),
            Fault::WrongKind => out.extend_from_slice(b"true"),
            _ => json::money(out, amount, self.digits),
        }
        out.extend_from_slice(br#","currency":""#);
        // XTS is what ISO 4217 reserves for tests.
        out.extend_from_slice(if fault == Fault::WrongCurrency { b"XTS" } else { self.currency.as_bytes() });
        out.extend_from_slice(b"\"}}");
    }

    pub(super) fn sign_in(&mut self, out: &mut Vec<u8>, on: Occasion<'_>) {
        self.open(out, "member.signed_in", APP, on);
        out.extend_from_slice(b"}}");
    }

    pub(super) fn review(&mut self, out: &mut Vec<u8>, rng: &mut Rng, on: Occasion<'_>) {
        self.open(out, "review.posted", APP, on);
        out.extend_from_slice(br#","review_id":"#);
        self.id(out, b'w', on.number);
        out.extend_from_slice(br#","product_id":"p-"#);
        json::number(out, rng.below(1_000), 3);
        out.extend_from_slice(br#"","rating":"#);
        json::number(out, 1 + rng.below(5), 1);
        text(out, "text", rng.pick(&REVIEWS));
        out.extend_from_slice(b"}}");
    }

    pub(super) fn share(&mut self, out: &mut Vec<u8>, rng: &mut Rng, on: Occasion<'_>) {
        self.open(out, "content.shared", rng.pick(&CHANNELS), on);
        out.extend_from_slice(br#","share_id":"#);
        self.id(out, b'h', on.number);
        out.extend_from_slice(br#","target":"p-"#);
        json::number(out, rng.below(1_000), 3);
        out.extend_from_slice(b"\"}}");
    }

    pub(super) fn registration(&mut self, out: &mut Vec<u8>, on: Occasion<'_>, referrer: Option<u64>) {
        self.open(out, "member.registered", APP, on);
        if let Some(referrer) = referrer {
            let mut id = String::new();
            json::member(&mut id, referrer);
            text(out, "referrer_id", &id);
        }
        out.extend_from_slice(b"}}");
    }

    pub(super) fn survey(&mut self, out: &mut Vec<u8>, rng: &mut Rng, on: Occasion<'_>) {
        self.open(out, "survey.completed", APP, on);
        out.extend_from_slice(br#","survey_id":"survey-"#);
        json::number(out, rng.below(10), 1);
        out.extend_from_slice(b"\"}}");
    }

    /// The envelope, and the data up to its first field.
    fn open(&mut self, out: &mut Vec<u8>, kind: &str, channel: &str, on: Occasion<'_>) {
        if on.fault == Fault::NoId {
            out.extend_from_slice(br#"{"specversion":"1.0""#);
        } else {
            // The id stands first, so that a repeat can be given another one.
            out.extend_from_slice(BEFORE_ID);
            out.pop();
            self.id(out, ID, on.number);
        }
        out.extend_from_slice(br#","source":"shop","type":""#);
        out.extend_from_slice(kind.as_bytes());
        out.push(b'"');
        match on.fault {
            Fault::NoTime => {}
            Fault::BadTime => text(out, "time", "22.11.2026 10:00"),
            _ => {
                out.extend_from_slice(br#","time":""#);
                self.time.write(out, on.at_ms);
                out.push(b'"');
            }
        }
        out.extend_from_slice(br#","data":{"channel":""#);
        out.extend_from_slice(channel.as_bytes());
        out.push(b'"');
        match on.fault {
            Fault::NoMember => {}
            Fault::EmptyMember => text(out, "member_id", ""),
            _ => text(out, "member_id", on.member),
        }
    }

    fn id(&self, out: &mut Vec<u8>, first: u8, number: u64) {
        out.extend_from_slice(&[b'"', first]);
        out.extend_from_slice(self.mark.as_bytes());
        out.push(b'-');
        json::number(out, number, 1);
        out.push(b'"');
    }
}

/// Appends a field of text that needs no escapes.
fn text(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":\"");
    out.extend_from_slice(value.as_bytes());
    out.push(b'"');
}

/// Gives an event another id: what upstream does that sends an order again and forgot that it did.
pub(super) fn give_new_id(payload: &mut [u8]) {
    if let Some(first) = payload.get_mut(BEFORE_ID.len()) {
        *first = NEW_ID;
    }
}
