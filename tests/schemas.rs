//! `schemas/` says what accrual reads and publishes, so it is held against what accrual really does.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::missing_panics_doc
)]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use accrual::account::{Account, Retention};
use accrual::commands::schemas::differences;
use accrual::entry::{Chain, LedgerReceipts, Message, Renderer};
use accrual::event::Event;
use accrual::event::decode::{Decoded, Decoder};
use accrual::event::internal::{CAME, Celebration, RECEIVED, REFERRED, WAITED};
use accrual::ledger::Published;
use accrual::log::Record;
use accrual::programme::Programme;
use accrual::rules::Outside;
use accrual::store::{Receipt, ReceiptKey};
use accrual::types::{Coordinates, EventType, MemberId, Occasion, Points};
use accrual::{rules, schema};
use jiff::Timestamp;
use serde_json::{Value, json};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_folder_holds_what_is_generated() {
    let differences = differences(&root().join("schemas")).unwrap();
    assert!(differences.is_empty(), "`cargo run -- schemas` writes them:\n{}", differences.join("\n"));
}

/// Every input's schema, with the example that it gives.
fn inputs() -> &'static [(Value, Value)] {
    static INPUTS: LazyLock<Vec<(Value, Value)>> = LazyLock::new(|| {
        let inputs = schema::all().into_iter().filter(|file| file.path.starts_with("input/"));
        inputs
            .map(|file| {
                let schema: Value = serde_json::from_str(&file.json).unwrap();
                let example = schema["examples"][0].clone();
                (schema, example)
            })
            .collect()
    });
    &INPUTS
}

fn example(kind: &str) -> Value {
    inputs().iter().map(|(_, example)| example).find(|example| example["type"] == kind).unwrap().clone()
}

fn decode(event: &Value) -> Result<Box<Event>, String> {
    decode_from("shop", event.to_string().into_bytes())
}

/// Reads an event from a topic, of which `internal` is accrual's own.
fn decode_from(topic: &str, event: Vec<u8>) -> Result<Box<Event>, String> {
    let named = inputs().iter().map(|(_, example)| example["type"].as_str().unwrap());
    let named = named.chain([REFERRED, CAME, WAITED, RECEIVED]).map(EventType::from).collect();
    let record = Record {
        at: Coordinates { topic: topic.into(), partition: 0, offset: 0 },
        published_ms: None,
        key: None,
        payload: Some(event),
        headers: Vec::new(),
    };
    let event = String::from_utf8_lossy(record.payload.as_ref().unwrap()).into_owned();
    match Decoder::new(named, "CNY", 1 << 20).with_internal("internal".into()).decode(&record) {
        Ok(Decoded::Event(event)) => Ok(event),
        Ok(Decoded::Skipped) => panic!("{event} is skipped"),
        Err(rejected) => Err(rejected.detail),
    }
}

/// A property that a schema describes: where it stands in the example, and what may be there.
#[derive(Debug)]
struct Property {
    pointer: String,
    required: bool,
    anything: bool,
}

/// All properties of an object's schema and, through references and lists, of what is in it.
fn properties(root: &Value, object: &Value, at: &str, found: &mut Vec<Property>) {
    let required: BTreeSet<&str> =
        object["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, property) in object["properties"].as_object().unwrap() {
        let pointer = format!("{at}/{name}");
        let described = resolve(root, property);
        let says = ["type", "anyOf", "const", "not"].iter().any(|keyword| described.get(keyword).is_some());
        let required = required.contains(name.as_str());
        found.push(Property { pointer: pointer.clone(), required, anything: !says });
        if described.get("properties").is_some() {
            properties(root, described, &pointer, found);
        } else if let Some(items) = described.get("items") {
            let items = resolve(root, items);
            if items.get("properties").is_some() {
                properties(root, items, &format!("{pointer}/0"), found);
            }
        }
    }
}

fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(reference) => root.pointer(reference.trim_start_matches('#')).unwrap(),
        None => schema,
    }
}

#[test]
fn the_decoder_requires_and_refuses_what_the_schemas_of_inputs_say() {
    for (schema, example) in inputs() {
        let kind = &example["type"];
        assert_eq!(
            decode(example).map(|event| event.kind.to_string()),
            Ok(kind.as_str().unwrap().to_owned())
        );
        let mut found = Vec::new();
        properties(schema, schema, "", &mut found);
        assert!(found.len() >= 7, "{kind}: {found:?}");
        for Property { pointer, required, anything } in found {
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            let with = |value: Option<Value>| {
                let mut event = example.clone();
                let parent = event.pointer_mut(parent).unwrap().as_object_mut().unwrap();
                assert!(parent.remove(name).is_some(), "{kind}: the example lacks {pointer}");
                parent.extend(value.map(|value| (name.to_owned(), value)));
                decode(&event).map(|_| ())
            };
            // CloudEvents asks for it and so does the schema; the decoder can do without.
            if name != "specversion" {
                let absent = with(None);
                assert_eq!(absent.is_err(), required, "{kind}: without {pointer}: {absent:?}");
            }
            if !required {
                assert_eq!(with(Some(Value::Null)), Ok(()), "{kind}: {pointer} is null");
            }
            assert_eq!(with(Some(json!([[1]]))).is_err(), !anything, "{kind}: {pointer} is [[1]]");
        }
    }
}

const PROGRAMME: &str = "
programme: shop
timezone: Asia/Shanghai
currency: CNY
points: {expire: {after: P1Y}, notice: P30D, shortfall: clamp}
tiers:
  measure: earned
  window: P12M
  review: {every: P1Y, drop: one_level, notice: P30D}
  levels: [{id: basic, from: 0}, {id: silver, from: 100, earn: 1.5}]
rules:
  - {id: purchase, on: order.paid, earn: {points: 1, per: 1.00}}
  - {id: sign-in, on: member.signed_in, earn: {points: 5}, streak: {2: 20}, limit: [{times: 1, per: day}, {points: 50, per: month}], give: ten-off}
  - {id: invite, on: member.registered, earn: {points: 50}, to: referrer}
  - {id: review, on: review.posted, earn: {points: 30}, hold: P14D}
campaigns:
  - {id: regulars, on: member.signed_in, add: 7, audience: member.orders >= 1}
redemption:
  rate: {points: 100, worth: 1.00}
  limits: [{points: 5000, per: day}]
  rewards:
    - {id: ten-off, kind: coupon, points: 900, worth: 10.00}
    - {id: cash, kind: money}
    - {id: mug, kind: goods, points: 20, worth: 25.00}
    - {id: draw, kind: lottery, points: 5, prizes: [{id: grand, weight: 1, points: 3}, {id: small, weight: 1, points: 2, stock: 9}]}
";

/// A shop whose every event is decided as the worker does, with what is recorded beside the accounts in memory.
struct Shop {
    programme: Programme,
    renderer: Renderer,
    accounts: BTreeMap<MemberId, Account>,
    records: RefCell<HashMap<ReceiptKey, Box<str>>>,
    events: usize,
    published: Vec<Vec<u8>>,
}

impl Shop {
    fn new() -> Self {
        let programme = Programme::parse("programme.yaml", PROGRAMME).unwrap_or_else(|why| panic!("{why}"));
        Self {
            renderer: Renderer::new(&programme.name),
            programme,
            accounts: BTreeMap::new(),
            records: RefCell::default(),
            events: 0,
            published: Vec::new(),
        }
    }

    /// Something that a member does: the example of its schema, with these fields of `data` instead.
    fn hear(&mut self, kind: &str, time: &str, data: &Value) {
        let mut event = example(kind);
        self.events += 1;
        event["id"] = json!(format!("4f1c-{}", self.events));
        event["time"] = json!(time);
        let fields = data.as_object().unwrap().clone();
        event["data"].as_object_mut().unwrap().extend(fields);
        self.decide(&decode(&event).unwrap());
    }

    /// The clock comes to a member.
    fn strike(&mut self, member: &str, time: &str) {
        let second = time.parse::<Timestamp>().unwrap().as_second();
        let came = self.renderer.came(&member.into(), 1, second, time);
        self.published.push(came.clone());
        self.decide(&decode_from("internal", came).unwrap());
    }

    fn decide(&mut self, event: &Event) {
        let retention = Retention { history: 10, months: 12, days: 30 };
        let account =
            self.accounts.entry(event.member.clone()).or_insert_with(|| Account::new(event.member.clone()));
        let record = |key: &ReceiptKey| self.records.borrow().get(key).cloned();
        let outside = Outside { paid_before: &|_| false, left: &|_| Points(i64::MAX), record: &record };
        let outcome = rules::apply(&self.programme, account, event, &retention, &outside).unwrap();
        let own = Receipt {
            at: Coordinates { topic: "t".into(), partition: 1, offset: 7 },
            fingerprint: event.fingerprint,
            record: None,
        };
        let keys = event.business_key.iter().map(|key| (key, &own));
        // As if another event had made them.
        let made = |record: &str| Receipt { fingerprint: 1, record: Some(record.into()), ..own.clone() };
        let records: Vec<_> =
            outcome.records.iter().map(|(key, record)| (key.clone(), made(record))).collect();
        let budgets = [("campaign".into(), Points(-5))].into();
        let left = keys.chain(records.iter().map(|(key, receipt)| (key, receipt)));
        let mut receipts = Some(LedgerReceipts::new(&own, left, budgets));
        self.records.borrow_mut().extend(outcome.records.iter().cloned());
        for applied in &outcome.applied {
            let (version, receipts) = (&self.programme.version, receipts.take());
            let mut change = self.renderer.change(event, applied, version, receipts.as_ref());
            Chain::seal(&mut account.chain, &mut change);
            let read = Published::parse(&change).unwrap();
            assert_eq!((read.receipts.map(|read| *read), read.chain), (receipts, account.chain));
            self.published.push(change);
        }
        let json = account.to_json();
        let write = |into: &mut Vec<u8>| into.extend_from_slice(&json);
        let (account, _) =
            self.renderer.snapshot(&account.member_id, account.version, &event.time_text, write);
        self.published.push(account);
        for message in &outcome.messages {
            let json = self.renderer.message(event, message);
            self.published.push(json.clone());
            if !matches!(message, Message::Unclaimed(_)) {
                self.decide(&decode_from("internal", json).unwrap());
            }
        }
    }
}

/// What the events of some members have published, a line each.
fn published() -> Vec<Vec<u8>> {
    let mut shop = Shop::new();
    let nothing = json!({});
    // What is earned, given, limited and held.
    shop.hear("member.registered", "2026-11-22T10:00:00+08:00", &nothing);
    shop.hear("order.paid", "2026-11-22T10:01:00+08:00", &nothing);
    shop.hear("member.signed_in", "2026-11-22T10:02:00+08:00", &nothing);
    shop.hear("member.signed_in", "2026-11-22T10:03:00+08:00", &nothing);
    shop.hear("member.signed_in", "2026-11-23T12:00:00Z", &nothing);
    shop.hear("review.posted", "2026-11-24T10:00:00Z", &nothing);
    // What points buy, and what of it is taken back.
    let mug = json!({"redemption_id": "d-1", "quantity": 2, "order_id": "o-4711"});
    shop.hear("redemption.requested", "2026-11-24T10:01:00Z", &mug);
    shop.hear(
        "redemption.requested",
        "2026-11-24T10:02:00Z",
        &json!({"redemption_id": "d-2", "points": 40, "reward": "cash"}),
    );
    shop.hear("redemption.cancelled", "2026-11-24T10:03:00Z", &json!({"redemption_id": "d-2"}));
    shop.hear("redemption.cancelled", "2026-11-24T10:04:00Z", &json!({"redemption_id": "d-2"}));
    shop.hear(
        "redemption.requested",
        "2026-11-24T10:05:00Z",
        &json!({"redemption_id": "d-3", "reward": "draw", "quantity": 3}),
    );
    shop.hear(
        "redemption.requested",
        "2026-11-24T10:06:00Z",
        &json!({"redemption_id": "d-4", "reward": "horse", "quantity": 1}),
    );
    shop.hear(
        "redemption.requested",
        "2026-11-24T10:06:00Z",
        &json!({"redemption_id": "d-5", "quantity": 1000}),
    );
    shop.hear("order.refunded", "2026-11-25T10:00:00Z", &nothing);
    shop.hear(
        "order.refunded",
        "2026-11-25T10:01:00Z",
        &json!({"refund_id": "f-13", "amount": 500, "lines": null}),
    );
    // A refund before its order, and one whose order never comes.
    let early = json!({"refund_id": "f-14", "order_id": "o-4713", "amount": "1.00", "lines": null});
    shop.hear("order.refunded", "2026-11-25T10:02:00Z", &early);
    shop.hear("order.paid", "2026-11-25T10:03:00Z", &json!({"order_id": "o-4713"}));
    let lost = json!({"refund_id": "f-15", "order_id": "o-9999"});
    shop.hear("order.refunded", "2026-11-25T10:04:00Z", &lost);
    let waiting = shop.accounts["m-1042"].waiting[0].clone();
    // The refund has taken what was held before.
    shop.hear("review.posted", "2026-11-25T10:05:00Z", &json!({"review_id": "r-982"}));
    // What operators and members say, and what time brings: held points, the end of all, a review that is passed and one
    // that is not.
    for (id, points) in [("a-1", 300), ("a-2", -50), ("a-3", 0)] {
        let data = json!({"adjustment_id": id, "points": points});
        shop.hear("points.adjusted", "2026-11-25T11:00:00Z", &data);
    }
    shop.strike("m-1042", "2026-12-20T00:00:00Z");
    let waited = shop.renderer.waited(&"m-1042".into(), &waiting, "2026-12-25T10:04:00Z");
    shop.published.push(waited.clone());
    shop.decide(&decode_from("internal", waited).unwrap());
    for (id, points) in [("a-4", -99_999), ("a-5", 300)] {
        let data = json!({"adjustment_id": id, "points": points});
        shop.hear("points.adjusted", "2026-12-26T11:00:00Z", &data);
    }
    shop.hear("points.transferred", "2026-12-26T11:02:00Z", &nothing);
    let to_self = json!({"transfer_id": "t-10", "to_id": "m-1042"});
    shop.hear("points.transferred", "2026-12-26T11:03:00Z", &to_self);
    shop.hear("order.paid", "2027-06-01T10:00:00Z", &json!({"order_id": "o-5000"}));
    for time in ["2027-12-20T00:00:00Z", "2028-12-20T00:00:00Z"] {
        shop.strike("m-1042", time);
    }
    // What becomes of whole accounts.
    shop.hear("order.paid", "2029-01-01T10:00:00Z", &json!({"order_id": "o-6000", "amount": 150}));
    shop.hear("members.merged", "2029-01-02T10:00:00Z", &nothing);
    shop.hear("member.signed_in", "2029-01-03T10:00:00Z", &nothing);
    shop.hear(
        "points.transferred",
        "2029-01-03T10:00:00Z",
        &json!({"member_id": "m-7", "to_id": "m-1042", "transfer_id": "t-11"}),
    );
    shop.hear("member.closed", "2029-01-04T10:00:00Z", &json!({"member_id": "m-7"}));
    shop.hear("member.erased", "2029-01-05T10:00:00Z", &json!({"member_id": "m-7"}));
    for occasion in Occasion::ALL {
        let day = Celebration { occasion, year: 2026 };
        shop.published.push(shop.renderer.occasion(&"m-1042".into(), &day, "2026-11-22T00:00:00+08:00"));
    }
    shop.published
}

/// Runs `tests/schemas/check` over records; whether all passed, and what it said.
fn check(records: &[Vec<u8>]) -> (bool, String) {
    let mut check = Command::new(root().join("tests/schemas/check"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    check.stdin.take().unwrap().write_all(&records.join(&b'\n')).unwrap();
    let output = check.wait_with_output().unwrap();
    assert_ne!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

#[test]
fn what_is_published_passes_and_every_output_is_published_here() {
    let published = published();
    let types: BTreeSet<String> = published
        .iter()
        .map(|json| serde_json::from_slice::<Value>(json).unwrap()["type"].as_str().unwrap().to_owned())
        .collect();
    let files = schema::all()
        .into_iter()
        .filter_map(|file| Some(file.path.strip_prefix("output/")?.strip_suffix(".json")?.to_owned()));
    let outputs: BTreeSet<String> = files.collect();
    // A refund whose order never came goes to the dead letters as it was.
    assert_eq!(types.difference(&outputs).collect::<Vec<_>>(), ["order.refunded"]);
    assert_eq!(outputs.difference(&types).collect::<Vec<_>>(), Vec::<&String>::new());
    assert_eq!(check(&published), (true, format!("{} passed, 0 failed\n", published.len())));
}

#[test]
fn a_record_that_is_not_as_its_schema_says_fails() {
    let faults = [
        ("points.earned", "/data/points", json!("5")),
        ("points.earned", "/data/rule", json!(7)),
        ("points.earned", "/data/campaign", json!(7)),
        ("points.earned", "/data/streak_of", Value::Null),
        ("points.earned", "/data/noted/order/amount", json!(9.5)),
        ("member.noted", "/data/noted/profile/segments", json!("vip")),
        ("points.earned", "/data/counts", json!(["fortnight"])),
        ("points.earned", "/data/event/id", Value::Null),
        ("points.earned", "/time", json!("yesterday")),
        ("points.earned", "/type", json!("points.found")),
        ("points.declined", "/data/points", json!(5)),
        ("points.declined", "/data/reward/id", json!(5)),
        ("reward.granted", "/data/points", json!(5)),
        ("reward.granted", "/data/reward", Value::Null),
        ("reward.granted", "/data/reward/kind", json!("money")),
        ("reward.granted", "/data/reward/worth", json!(10)),
        ("points.declined", "/data/reason", json!("bad luck")),
        ("tier.changed", "/data/from", Value::Null),
        ("account.changed", "/data/lots/0/0", json!(1.5)),
        ("account.changed", "/data/lots/0", json!([])),
        ("account.changed", "/data/lots/0", json!({"points": 5})),
        ("account.changed", "/data/held/0/2", json!("tomorrow")),
        ("account.changed", "/data/waiting/0/amount", json!(-1)),
        ("account.changed", "/data/closed", json!("left")),
        ("account.changed", "/data/tier/until", json!("ever")),
        ("points.earned", "/data/points", json!(0)),
        ("points.pending", "/data/held_until", Value::Null),
        ("points.released", "/data/act", json!("expiry")),
        ("points.released", "/data/lots", Value::Null),
        ("points.declined", "/data/act", json!("expiry")),
        ("points.redeemed", "/data/points", json!(5)),
        ("points.redeemed", "/data/redemption_id", Value::Null),
        ("points.redeemed", "/data/worth", json!(5)),
        ("points.redeemed", "/data/prizes/0/odds", json!([1])),
        ("points.returned", "/data/points", json!(-5)),
        ("points.returned", "/data/lots/0", json!(5)),
        ("points.reversed", "/data/points", json!(5)),
        ("points.reversed", "/data/refund_id", Value::Null),
        ("points.expiring", "/data/expires_at", Value::Null),
        ("points.expiring", "/data/points", json!(-5)),
        ("points.expired", "/data/points", json!(5)),
        ("points.expired", "/data/act", json!("transfer")),
        ("points.adjusted", "/data/operator", Value::Null),
        ("points.transferred", "/data/counterparty", json!(7)),
        ("tier.changed", "/data/reason", json!("kept")),
        ("tier.kept", "/data/reason", json!("reached")),
        ("tier.review-due", "/data/until", Value::Null),
        ("time.came", "/data/member_id", Value::Null),
        ("refund.waited", "/data/until", json!("soon")),
        ("points.received", "/data/from", Value::Null),
        ("points.received", "/data/lots/0", json!(5)),
        ("member.noted", "/data/noted/waits/until", json!("soon")),
        ("member.noted", "/data/noted/refunded/whole", Value::Null),
        ("account.changed", "/data/used/sign-in/0/0", json!("fortnight")),
        ("account.changed", "/data/activity/months/0/1", json!("many")),
        ("account.changed", "/data/profile/birthday", json!("spring")),
        ("account.changed", "/data/streaks/sign-in/0", json!([1, 2])),
    ];
    let records: Vec<Value> = published().iter().map(|json| serde_json::from_slice(json).unwrap()).collect();
    let spoilt = faults.iter().map(|(kind, pointer, value)| {
        let is_meant = |record: &&Value| record["type"] == *kind && record.pointer(pointer).is_some();
        let record = records.iter().rfind(is_meant);
        let mut record = record.unwrap_or_else(|| panic!("no {kind} with {pointer}")).clone();
        *record.pointer_mut(pointer).unwrap() = value.clone();
        record.to_string().into_bytes()
    });
    let (passed, said) = check(&spoilt.collect::<Vec<_>>());
    assert!(!passed && said.starts_with(&format!("0 passed, {} failed\n", faults.len())), "{said}");
    for number in 1..=faults.len() {
        assert_eq!(said.matches(&format!("line {number}: ")).count(), 1, "{said}");
    }
    assert!(!check(&[]).0, "nothing was checked");
}

#[test]
fn inputs_pass_and_fail_as_the_decoder_would_have_it() {
    let known =
        inputs().iter().map(|(_, example)| example).filter(|example| example["type"] != "survey.completed");
    let mut records: Vec<Vec<u8>> = known.map(|example| example.to_string().into_bytes()).collect();
    assert_eq!(check(&records), (true, "14 passed, 0 failed\n".to_owned()));
    records.clear();
    for (kind, pointer, value) in [
        ("order.refunded", "/data/lines/0/amount", json!(-1)),
        ("redemption.requested", "/data/quantity", json!(0)),
        ("redemption.requested", "/data/quantity", json!(1_001)),
        ("redemption.requested", "/data/quantity", json!("1.5")),
        ("redemption.requested", "/data/points", json!(0)),
        ("points.adjusted", "/data/points", json!(0.5)),
        ("points.adjusted", "/data/reason", json!(" ")),
        ("points.transferred", "/data/points", json!(-5)),
        ("points.transferred", "/data/points", json!("0")),
    ] {
        let mut event = example(kind);
        *event.pointer_mut(pointer).unwrap() = value.clone();
        assert!(decode(&event).is_err(), "{kind} {pointer} {value}");
        records.push(event.to_string().into_bytes());
    }
    for amount in [json!(-1), json!("-1"), json!("1e3"), json!(null), json!(true), json!(1e16)] {
        let mut order = example("order.paid");
        order["data"]["amount"] = amount;
        records.push(order.to_string().into_bytes());
    }
    let (_, said) = check(&records);
    assert!(said.starts_with("0 passed, 15 failed\n"), "{said}");
}
