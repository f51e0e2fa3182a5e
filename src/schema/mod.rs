//! JSON Schemas (draft 2020-12) of the events that come in, of what is published and of a programme's file, as they stand in
//! `schemas/`: `accrual schemas` writes them there and a test compares.
//!
//! What goes out is described by the very types that it is rendered from, see `output`. What comes in is described
//! by `input` and a programme by `programme`; `tests/schemas.rs` holds their every field against the decoder
//! and the programme's parser.

mod input;
mod output;
mod programme;

use schemars::Schema;
use serde_json::{Map, Value};

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
        input::all().into_iter().chain(output::all()).chain([programme::schema()]).collect();
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
