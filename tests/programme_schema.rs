//! `schemas/programme.json` says to editors what the programme's parser takes, so it is held against the parser.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use accrual::programme::Programme;
use accrual::schema;
use accrual::yaml::{self, Collector, Content, Node, Problems, Style};
use serde_json::{Map, Value, json};

const WHOLE_LANGUAGE: &str = "tests/fixtures/config/whole-language.yaml";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap()
}

/// A YAML text as the JSON that an editor checks.
fn json_of(text: &str) -> Value {
    let collector = Collector::new("a.yaml", text);
    let node = yaml::parse(text, &collector).unwrap_or_else(|| panic!("{}", collector.into_problems()));
    json_of_node(&node)
}

fn json_of_node(node: &Node) -> Value {
    match &node.content {
        _ if node.is_null() => Value::Null,
        Content::Scalar(scalar) if scalar.style == Style::Plain => {
            let plain = serde_json::from_str(&scalar.text).ok().filter(|value: &Value| !value.is_string());
            plain.unwrap_or_else(|| scalar.text.clone().into())
        }
        Content::Scalar(scalar) => scalar.text.clone().into(),
        Content::List(nodes) => nodes.iter().map(json_of_node).collect(),
        Content::Map(entries) => {
            entries.iter().map(|entry| (entry.key.clone(), json_of_node(&entry.value))).collect()
        }
    }
}

fn schema() -> Value {
    let file = schema::all().into_iter().find(|file| file.path == schema::PROGRAMME).unwrap();
    serde_json::from_str(&file.json).unwrap()
}

/// What the parser says of a programme that is written as JSON, which is YAML too.
fn problems(programme: &Value) -> Vec<String> {
    let problems = Programme::parse("a.yaml", &programme.to_string()).err();
    problems.iter().flat_map(Problems::iter).map(|problem| problem.message.clone()).collect()
}

/// The whole language, and beside it every key that it leaves out.
fn whole() -> Value {
    let mut whole = json_of(&read(WHOLE_LANGUAGE));
    let additions = [
        ("", "effective_from", json!("2026-12-01T00:00")),
        ("/points", "notice", json!("P30D")),
        ("/points/expire", "at", json!("end_of_month")),
        ("/tiers/review", "at", json!("end_of_year")),
        ("/tiers/review", "grace", json!("P30D")),
        ("/tiers/review", "notice", json!("P60D")),
        ("/rules/0", "hold", json!("P14D")),
        ("/rules/0", "expire", json!("never")),
        ("/campaigns/1", "group", json!("g")),
        ("/redemption/limits/0", "per", json!("day")),
    ];
    for (parent, key, value) in additions {
        whole.pointer_mut(parent).unwrap().as_object_mut().unwrap().insert(key.to_owned(), value);
    }
    whole
}

/// A part of a programme and what the schema says of it.
struct Part<'s> {
    pointer: String,
    schema: &'s Value,
    /// As the schema calls it, where it has a name.
    name: String,
}

/// Every part of a programme that the schema describes, from the whole down.
fn parts<'s>(
    document: &'s Value,
    schema: &'s Value,
    programme: &Value,
    pointer: &str,
    found: &mut Vec<Part<'s>>,
) {
    let (schema, name) = match schema["$ref"].as_str() {
        Some(reference) => (
            document.pointer(reference.trim_start_matches('#')).unwrap(),
            reference.rsplit('/').next().unwrap().to_owned(),
        ),
        None => (schema, String::new()),
    };
    let value = programme.pointer(pointer).unwrap();
    if let Some(any) = schema["anyOf"].as_array().filter(|_| schema.get("properties").is_none()) {
        for one in any {
            let described = one["$ref"].as_str().map_or(one, |path| document.pointer(&path[1..]).unwrap());
            let is_meant = match value {
                Value::Object(_) => described["type"] == "object",
                Value::Array(_) => described["type"] == "array",
                _ => described.get("enum").is_none() && described["type"] == "string",
            };
            if is_meant {
                parts(document, one, programme, pointer, found);
            }
        }
        return;
    }
    found.push(Part { pointer: pointer.to_owned(), schema, name });
    if let Value::Array(values) = value {
        for index in 0..values.len() {
            parts(document, &schema["items"], programme, &format!("{pointer}/{index}"), found);
        }
    }
    for (key, property) in schema["properties"].as_object().into_iter().flatten() {
        let pointer = format!("{pointer}/{key}");
        if programme.pointer(&pointer).is_some() {
            parts(document, property, programme, &pointer, found);
        }
    }
}

/// The programme with another value, or none, under a key of the object at the pointer.
fn with(programme: &Value, pointer: &str, key: &str, value: Option<Value>) -> Value {
    let mut changed = programme.clone();
    let object: &mut Map<String, Value> = changed.pointer_mut(pointer).unwrap().as_object_mut().unwrap();
    match value {
        Some(value) => drop(object.insert(key.to_owned(), value)),
        None => drop(object.shift_remove(key).unwrap()),
    }
    changed
}

#[test]
fn the_schema_has_the_keys_that_the_parser_knows_and_no_others() {
    let (document, whole) = (schema(), whole());
    let mut found = Vec::new();
    parts(&document, &document, &whole, "", &mut found);
    let mut seen = BTreeSet::new();
    for Part { pointer, schema, name } in &found {
        let Some(properties) = schema["properties"].as_object() else { continue };
        assert_eq!(schema["additionalProperties"], false, "{pointer}");
        for (key, property) in properties {
            assert!(property["description"].is_string(), "{name}.{key} has no description");
        }
        seen.insert(name.as_str());
        let said = problems(&with(&whole, pointer, "zzz", Some(json!(1))));
        let said = said.iter().find_map(|message| message.strip_prefix("unknown key `zzz`; known here: "));
        let known: BTreeSet<&str> = said.unwrap_or_else(|| panic!("{pointer}")).split(", ").collect();
        let described: BTreeSet<&str> = properties.keys().map(String::as_str).collect();
        assert_eq!(described, known, "{pointer}");
    }
    let definitions = document["$defs"].as_object().unwrap().iter();
    let objects = definitions.filter(|(_, schema)| schema.get("properties").is_some());
    let all: BTreeSet<&str> = objects.map(|(name, _)| name.as_str()).chain([""]).collect();
    assert_eq!(seen, all, "the programme of this test should hold every object");
}

/// Keys that a schema requires only beside others or instead of others.
fn required_at_times(schema: &Value, found: &mut BTreeSet<String>) {
    for (keyword, value) in schema.as_object().into_iter().flatten() {
        match (keyword.as_str(), value) {
            ("properties", _) => {}
            ("required", Value::Array(keys)) => {
                found.extend(keys.iter().filter_map(Value::as_str).map(str::to_owned));
            }
            (_, Value::Array(values)) => values.iter().for_each(|value| required_at_times(value, found)),
            (_, value) => required_at_times(value, found),
        }
    }
}

#[test]
fn the_parser_misses_the_keys_that_the_schema_requires_and_no_others() {
    let (document, whole) = (schema(), whole());
    let mut found = Vec::new();
    parts(&document, &document, &whole, "", &mut found);
    let mut missed = BTreeSet::new();
    for Part { pointer, schema, name } in &found {
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let mut at_times = BTreeSet::new();
        required_at_times(schema, &mut at_times);
        for key in schema["properties"].as_object().into_iter().flatten().map(|(key, _)| key) {
            let is_required = required.contains(&key.as_str());
            let is_there = whole.pointer(&format!("{pointer}/{key}")).is_some();
            assert!(is_there || !is_required, "{pointer} lacks {key}");
            if !is_there || (at_times.contains(key) && !is_required) {
                continue;
            }
            let said = problems(&with(&whole, pointer, key, None));
            let is_missed =
                said.iter().any(|message| message.starts_with(&format!("`{key}` is missing in ")));
            assert_eq!(is_missed, is_required, "{pointer}/{key}: {said:#?}");
            missed.extend(is_missed.then(|| format!("{name}.{key}")));
        }
    }
    assert!(missed.len() > 20, "{missed:?}");
}

#[test]
fn the_schema_has_the_words_that_the_parser_takes_and_no_others() {
    let (document, whole) = (schema(), whole());
    let mut found = Vec::new();
    parts(&document, &document, &whole, "", &mut found);
    let mut seen = BTreeSet::new();
    for Part { pointer, schema, name } in &found {
        let listed = schema["enum"].as_array().cloned();
        let described = || schema["oneOf"].as_array()?.iter().map(|one| one.get("const").cloned()).collect();
        let Some(words) = listed.or_else(described) else { continue };
        let words: BTreeSet<&str> = words.iter().filter_map(Value::as_str).collect();
        let mut changed = whole.clone();
        *changed.pointer_mut(pointer).unwrap() = json!("zzz");
        let said = problems(&changed);
        let message = said.iter().find(|message| message.ends_with(", not `zzz`"));
        let message = message.unwrap_or_else(|| panic!("{pointer}: {said:#?}"));
        let wanted = message.split("must be ").nth(1).unwrap().split(", not ").next().unwrap();
        let taken: BTreeSet<&str> = wanted.split('`').skip(1).step_by(2).collect();
        assert_eq!(words, taken, "{pointer}");
        seen.insert(name.as_str());
    }
    assert!(seen.len() >= 9, "{seen:?}");
}

/// Runs `tests/schemas/check --programme`; whether all passed, and what it said.
fn check(programmes: &[Value]) -> (bool, String) {
    let mut check = Command::new(root().join("tests/schemas/check"))
        .arg("--programme")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines: Vec<String> = programmes.iter().map(Value::to_string).collect();
    check.stdin.take().unwrap().write_all(lines.join("\n").as_bytes()).unwrap();
    let output = check.wait_with_output().unwrap();
    assert_ne!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

/// All YAML files below a folder.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            found.push(path);
        }
    }
}

#[test]
fn the_whole_language_the_examples_and_the_programmes_of_scenarios_pass() {
    let mut paths = Vec::new();
    files(&root().join("examples"), &mut paths);
    files(&root().join("tests/scenarios"), &mut paths);
    let mut programmes = vec![json_of(&read(WHOLE_LANGUAGE)), whole()];
    for path in paths {
        let file = json_of(&std::fs::read_to_string(&path).unwrap());
        // A programme by itself, or one that stands in a file of scenarios.
        if file.get("rules").is_some() {
            programmes.push(file);
        } else if file["programme"].is_object() {
            programmes.push(file["programme"].clone());
        } else if let Some(versions) = file["programme"].as_array() {
            programmes.extend_from_slice(versions);
        }
    }
    assert!(programmes.len() > 15, "only {}", programmes.len());
    assert_eq!(check(&programmes), (true, format!("{} passed, 0 failed\n", programmes.len())));
}

#[test]
fn a_programme_that_cannot_be_fails() {
    let whole = whole();
    let faults = [
        ("", "currency", None),
        ("", "campaign", Some(json!([]))),
        ("", "rules", Some(json!([]))),
        ("", "currency", Some(json!("RMB¥"))),
        ("", "effective_from", Some(json!("2026-12-01T00:00Z"))),
        ("", "points", Some(Value::Null)),
        ("/points", "hold", Some(json!("1d"))),
        ("/points", "rounding", Some(json!("up"))),
        ("/points", "expire", Some(json!("soon"))),
        ("/points", "expire", Some(json!({"at": "end_of_month"}))),
        ("/points/expire", "after", Some(json!("P0D"))),
        ("/points/expire", "at", Some(json!("end_of_week"))),
        ("/points", "notice", Some(json!("P0D"))),
        ("/points", "shortfall", Some(json!("forgive"))),
        ("/tiers", "window", Some(json!("P30D"))),
        ("/tiers/review", "drop", None),
        ("/tiers/review", "every", None),
        ("/tiers/review", "every", Some(json!("P0D"))),
        ("/tiers/review", "at", Some(json!("end_of_day"))),
        ("/tiers/review", "grace", Some(json!("a month"))),
        ("/tiers/levels/1", "from", Some(json!(-1))),
        ("/tiers/levels/1", "earn", Some(json!(0.5))),
        ("/rules/0", "id", Some(json!("-a"))),
        ("/rules/0", "on", Some(json!("order paid"))),
        ("/rules/0", "earn", None),
        ("/rules/0", "earn", Some(json!(5))),
        ("/rules/0", "earn", Some(json!({"points": 0}))),
        ("/rules/0", "earn", Some(json!({"points": 1, "per": 0}))),
        ("/rules/0", "earn", Some(json!({"points": 1, "of": "data.x"}))),
        ("/rules/0", "when", Some(json!(""))),
        ("/rules/0", "when", Some(json!(["x"]))),
        ("/rules/0", "limit", Some(json!({"times": 1}))),
        ("/rules/0", "limit", Some(json!([{"times": 1, "points": 1, "per": "day"}]))),
        ("/rules/0", "limit", Some(json!({"times": 1, "per": "hour"}))),
        ("/rules/0", "streak", Some(json!({"week": 5}))),
        ("/rules/0", "streak", Some(json!({}))),
        ("/campaigns/1", "multiply", Some(json!(2))),
        ("/campaigns/1", "add", None),
        ("/campaigns/0", "multiply", Some(json!(1))),
        ("/campaigns/0", "during", Some(json!("christmas"))),
        ("/campaigns/0", "during", Some(json!({"monthly": [32]}))),
        ("/campaigns/0", "during", Some(json!({"weekly": ["friday"]}))),
        ("/campaigns/0", "during", Some(json!({"weekly": ["fri"], "from": "2026-11-10T20:00"}))),
        ("/campaigns/0", "during", Some(json!({"from": "2026-11-10T20:00"}))),
        ("/campaigns/0", "during", Some(json!({"from": "2026-11-10T20:00Z", "until": "2026-11-12T00:00"}))),
        ("/redemption/limits/1", "share_of_order", Some(json!(2))),
        ("/redemption", "rate", None),
        ("/redemption/rewards/0", "kind", Some(json!("gift"))),
        ("/redemption/rewards/0", "points", Some(json!(100))),
        ("/redemption/rewards/0", "worth", Some(json!(1.00))),
        ("/redemption/rewards/0", "stock", Some(json!(5))),
        ("/redemption/rewards/1", "points", None),
        ("/redemption/rewards/4", "prizes", None),
        ("/redemption/rewards/4", "prizes", Some(json!([{"id": "a", "weight": 1, "stock": 1}]))),
        ("/redemption/rewards/1", "prizes", Some(json!([{"id": "a", "weight": 1}]))),
    ];
    let mut spoilt = vec![json_of(&read("tests/fixtures/config/broken-programme.yaml"))];
    for (pointer, key, value) in faults {
        let programme = with(&whole, pointer, key, value);
        let said = problems(&programme);
        assert!(!said.is_empty(), "{pointer}/{key}");
        spoilt.push(programme);
    }
    let (passed, said) = check(&spoilt);
    assert!(!passed && said.starts_with(&format!("0 passed, {} failed\n", spoilt.len())), "{said}");
}

#[test]
fn the_examples_tell_editors_where_the_schema_is() {
    let mut paths = Vec::new();
    files(&root().join("examples"), &mut paths);
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap();
        if json_of(&text).get("rules").is_none() {
            continue;
        }
        let told = text.lines().next().unwrap().strip_prefix("# yaml-language-server: $schema=");
        let told = told.unwrap_or_else(|| panic!("{} begins otherwise", path.display()));
        let schema = path.parent().unwrap().join(told).canonicalize().unwrap();
        assert_eq!(schema, root().join("schemas").join(schema::PROGRAMME).canonicalize().unwrap());
    }
}
