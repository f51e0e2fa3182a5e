//! From the YAML of a step's data to the JSON of an event, every number with the digits that were written.

use serde_json::value::RawValue;

use crate::yaml::{Content, Node, Style};

/// The node as JSON text. What is written without quotes is a number, `true`, `false` or `null` where
/// JSON has it so, and text otherwise.
pub(super) fn json(node: &Node) -> String {
    let mut out = String::new();
    push_node(&mut out, node);
    out
}

/// Text as a JSON string.
pub(super) fn text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// An object of keys and values that are JSON already.
pub(super) fn object<'a>(fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut out = String::from("{");
    for (key, value) in fields {
        separate(&mut out);
        out.push_str(&text(key));
        out.push(':');
        out.push_str(value);
    }
    out.push('}');
    out
}

fn push_node(out: &mut String, node: &Node) {
    match &node.content {
        _ if node.is_null() => out.push_str("null"),
        Content::Scalar(scalar) if scalar.style == Style::Plain && is_json(&scalar.text) => {
            out.push_str(&scalar.text);
        }
        Content::Scalar(scalar) => out.push_str(&text(&scalar.text)),
        Content::List(nodes) => {
            out.push('[');
            for node in nodes {
                separate(out);
                push_node(out, node);
            }
            out.push(']');
        }
        Content::Map(entries) => {
            out.push('{');
            for entry in entries {
                separate(out);
                out.push_str(&text(&entry.key));
                out.push(':');
                push_node(out, &entry.value);
            }
            out.push('}');
        }
    }
}

/// A comma, unless what follows is the first of its list or object.
fn separate(out: &mut String) {
    if !out.ends_with(['[', '{']) {
        out.push(',');
    }
}

/// Whether the text is a number, `true` or `false` in JSON. It is only looked at, never computed with:
/// a float would lose digits.
fn is_json(text: &str) -> bool {
    let starts_so = text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | 't' | 'f'));
    starts_so && serde_json::from_str::<&RawValue>(text).is_ok()
}
