//! `schemas/` says what accrual reads and publishes, so it is held against what accrual really does.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::missing_panics_doc
)]

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use accrual::account::{Account, Retention};
use accrual::commands::schemas::differences;
use accrual::entry::Renderer;
use accrual::event::Event;
use accrual::event::decode::{Decoded, Decoder};
use accrual::event::internal::Celebration;
use accrual::log::Record;
use accrual::programme::Programme;
use accrual::types::{Coordinates, EventType, Occasion};
use accrual::{rules, schema};
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
fn inputs() -> Vec<(Value, Value)> {
    let inputs = schema::all().into_iter().filter(|file| file.path.starts_with("input/"));
    inputs
        .map(|file| {
            let schema: Value = serde_json::from_str(&file.json).unwrap();
            let example = schema["examples"][0].clone();
            (schema, example)
        })
        .collect()
}

fn example(kind: &str) -> Value {
    inputs().into_iter().map(|(_, example)| example).find(|example| example["type"] == kind).unwrap()
}

fn decode(event: &Value) -> Result<Box<Event>, String> {
    let named =
        inputs().iter().map(|(_, example)| EventType::from(example["type"].as_str().unwrap())).collect();
    let record = Record {
        at: Coordinates { topic: "shop".into(), partition: 0, offset: 0 },
        published_ms: None,
        key: None,
        payload: Some(event.to_string().into_bytes()),
        headers: Vec::new(),
    };
    match Decoder::new(named, "CNY", 1 << 20).decode(&record) {
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
            decode(&example).map(|event| event.kind.to_string()),
            Ok(kind.as_str().unwrap().to_owned())
        );
        let mut found = Vec::new();
        properties(&schema, &schema, "", &mut found);
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

/// What a member's events have published, a line each.
fn published() -> Vec<Vec<u8>> {
    let programme = "
programme: shop
timezone: Asia/Shanghai
currency: CNY
tiers:
  measure: earned
  window: P12M
  levels: [{id: basic, from: 0}, {id: silver, from: 100, earn: 1.5}]
rules:
  - {id: purchase, on: order.paid, earn: {points: 1, per: 1.00}}
  - {id: sign-in, on: member.signed_in, earn: {points: 5}, streak: {2: 20}, limit: [{times: 1, per: day}, {points: 50, per: month}], give: ten-off}
  - {id: invite, on: member.registered, earn: {points: 50}, to: referrer}
campaigns:
  - {id: regulars, on: member.signed_in, add: 7, audience: member.orders >= 1}
redemption:
  rewards: [{id: ten-off, kind: coupon, points: 900, worth: 10.00}]
";
    let programme = Programme::parse("programme.yaml", programme).unwrap();
    let renderer = Renderer::new(&programme.name);
    let retention = Retention { history: 10, months: 12, days: 30 };
    let mut account = Account::new("m-1042".into());
    let mut again = example("member.signed_in");
    again["id"] = json!("4f1c-2");
    let mut next_day = again.clone();
    next_day["id"] = json!("4f1c-3");
    next_day["time"] = json!("2026-11-23T12:00:00Z");
    let mut published = Vec::new();
    let told = example("member.registered");
    for event in [told, example("order.paid"), example("member.signed_in"), again, next_day] {
        let event = decode(&event).unwrap();
        let outcome =
            rules::apply(&programme, &mut account, &event, &retention, &rules::Outside::UNTOUCHED).unwrap();
        published.extend(
            outcome.applied.iter().map(|applied| renderer.change(&event, applied, &programme.version)),
        );
        published.extend(outcome.referral.iter().map(|referral| renderer.referred(&event, referral)));
        let json = account.to_json();
        published.push(renderer.snapshot(&account.member_id, account.version, &event.time_text, &json));
    }
    for occasion in Occasion::ALL {
        let day = Celebration { occasion, year: 2026 };
        published.push(renderer.occasion(&account.member_id, &day, "2026-11-22T00:00:00+08:00"));
    }
    published
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
    assert_eq!(types, files.collect());
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
        ("account.changed", "/data/lots/0/points", json!(1.5)),
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
    let known = inputs()
        .into_iter()
        .map(|(_, example)| example)
        .filter(|example| example["type"] != "survey.completed");
    let mut records: Vec<Vec<u8>> = known.map(|example| example.to_string().into_bytes()).collect();
    assert_eq!(check(&records), (true, "6 passed, 0 failed\n".to_owned()));
    records.clear();
    for amount in [json!(-1), json!("-1"), json!("1e3"), json!(null), json!(true), json!(1e16)] {
        let mut order = example("order.paid");
        order["data"]["amount"] = amount;
        records.push(order.to_string().into_bytes());
    }
    let (_, said) = check(&records);
    assert!(said.starts_with("0 passed, 6 failed\n"), "{said}");
}
