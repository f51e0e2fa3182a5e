//! JSON Schemas (draft 2020-12) of the events that come in, of what is published and of a programme's file, as they stand in
//! `schemas/`: `accrual schemas` writes them there and a test compares.
//!
//! What goes out is described by the very types that it is rendered from. What comes in is described
//! by `input` and a programme by `programme`; `tests/schemas.rs` holds their every field against the decoder
//! and the programme's parser.

mod input;
mod programme;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::account::Account;
use crate::entry::{CloudEvent, EntryData, NotedData, OccasionData, ReferredData, TierData};

/// The path of the programme's schema in the folder.
pub const PROGRAMME: &str = "programme.json";

/// A file of `schemas/`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SchemaFile {
    /// Its path in the folder: `input/order.paid.json`.
    pub path: String,
    /// Its content.
    pub json: String,
}

/// Every schema, in the order of their paths.
pub fn all() -> Vec<SchemaFile> {
    let mut files: Vec<SchemaFile> =
        input::all().into_iter().chain(outputs()).chain([programme::schema()]).collect();
    files.sort_by(|left, right| left.path.cmp(&right.path));
    files
}

/// Describes a type by hand where its Rust form does not say enough.
macro_rules! described {
    ($name:ident, $schema:expr) => {
        struct $name;

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                $schema
            }
        }
    };
}

use described;

fn outputs() -> [SchemaFile; 9] {
    [
        output::<EntryData<'static>>("points.earned", "Points came.", |entry| {
            if let Some(properties) = entry.get_mut("properties").and_then(Value::as_object_mut) {
                properties.retain(|name, _| name != "declined" && name != "reason" && name != "reward");
            }
        }),
        output::<EntryData<'static>>(
            "reward.granted",
            "A member was given a reward of the catalogue. On the topic of awards.",
            |entry| {
                if let Some(required) = entry.get_mut("required").and_then(Value::as_array_mut) {
                    required.push("reward".into());
                }
                if let Some(properties) = entry.get_mut("properties").and_then(Value::as_object_mut) {
                    let of_points = ["declined", "reason", "of", "factor"];
                    properties.retain(|name, _| !of_points.contains(&name.as_str()));
                    properties
                        .insert("points".to_owned(), json!({"description": "None were moved.", "const": 0}));
                }
            },
        ),
        output::<EntryData<'static>>(
            "points.declined",
            "Points or a reward did not come, and `reason` says why.",
            |entry| {
                if let Some(required) = entry.get_mut("required").and_then(Value::as_array_mut) {
                    required.extend(["declined".into(), "reason".into()]);
                }
                if let Some(properties) = entry.get_mut("properties").and_then(Value::as_object_mut) {
                    properties.retain(|name, _| name != "counts");
                    if let Some(reward) = properties.get_mut("reward") {
                        reward["description"] = "The reward that was not given.".into();
                    }
                    properties
                        .insert("points".to_owned(), json!({"description": "None were moved.", "const": 0}));
                }
            },
        ),
        output::<NotedData<'static>>(
            "member.noted",
            "What a member did or what was told of them, where nothing was earned or declined by it. On the topic \
             of awards, so that the ledger alone rebuilds an account.",
            |_| {},
        ),
        output::<TierData<'static>>("tier.changed", "A member has another level.", |_| {}),
        output::<ReferredData<'static>>(
            "member.referred",
            "The member, who referred a newcomer, is to be paid for it. On the internal topic, by accrual alone.",
            |_| {},
        ),
        output::<OccasionData<'static>>(
            "member.birthday",
            "The member's birthday has come. On the internal topic, by accrual alone.",
            |_| {},
        ),
        output::<OccasionData<'static>>(
            "member.anniversary",
            "The day on which the member registered has come again. On the internal topic, by accrual alone.",
            |_| {},
        ),
        output::<Account>(
            "account.changed",
            "The account after its latest change, on a compacted topic. Of two the one with the greater \
             version `v` holds.",
            |_| {},
        ),
    ]
}

/// The schema of an output whose `data` is a `D`; `narrow` says what only this type has.
fn output<D: JsonSchema + Serialize>(
    kind: &str,
    about: &str,
    narrow: impl FnOnce(&mut Map<String, Value>),
) -> SchemaFile {
    let generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let mut schema = generator.into_root_schema_for::<CloudEvent<'static, D>>();
    schema.insert("title".to_owned(), kind.into());
    let envelope = schema.get("description").and_then(Value::as_str).unwrap_or_default();
    let description = format!("{about} {envelope}");
    schema.insert("description".to_owned(), description.into());
    set_type(&mut schema, json!({"const": kind}));
    let data = format!("/$defs/{}", D::schema_name());
    if let Some(data) = schema.pointer_mut(&data).and_then(Value::as_object_mut) {
        narrow(data);
    }
    file(&format!("output/{kind}.json"), &schema)
}

/// Says what the CloudEvents type must be.
fn set_type(schema: &mut Schema, kind: Value) {
    if let Some(property) = schema.pointer_mut("/properties/type") {
        *property = kind;
    }
}

/// A schema as a file: what it is about first, no definition that nothing refers to, no line breaks of
/// Rust comments.
fn file(path: &str, schema: &Schema) -> SchemaFile {
    let mut rest = schema.as_object().cloned().unwrap_or_default();
    let mut ordered = Map::new();
    for first in ["$schema", "title", "description", "examples"] {
        ordered.extend(rest.remove(first).map(|value| (first.to_owned(), value)));
    }
    ordered.extend(rest);
    let mut document = Value::Object(ordered);
    // What only a definition refers to that goes itself goes after it.
    loop {
        let text = document.to_string();
        let Some(definitions) = document.get_mut("$defs").and_then(Value::as_object_mut) else { break };
        let before = definitions.len();
        definitions.retain(|name, _| text.contains(&format!("\"#/$defs/{name}\"")));
        if definitions.len() == before {
            break;
        }
    }
    unwrap_lines(&mut document);
    // Alternate form: indented.
    SchemaFile { path: path.to_owned(), json: format!("{document:#}\n") }
}

fn unwrap_lines(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if let Some(Value::String(text)) = fields.get_mut("description") {
                *text = text.replace('\n', " ");
            }
            fields.values_mut().for_each(unwrap_lines);
        }
        Value::Array(values) => values.iter_mut().for_each(unwrap_lines),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
