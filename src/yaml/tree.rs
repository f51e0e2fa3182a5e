//! From YAML text to a tree of nodes that know their place.

use std::collections::HashMap;

use serde_saphyr::granit_parser::{self as granit, ErrorKind, Event, Parser, ScalarStyle, ScanError, Span};

use super::problem::Collector;
use super::reader::shown;
use super::source::Place;

/// The largest file that is read.
pub const MAX_BYTES: usize = 1 << 20;
/// How deep lists and maps may stand within each other.
pub const MAX_DEPTH: usize = 32;
/// How many scalars, lists and maps a file may hold.
pub const MAX_NODES: usize = 200_000;

/// A value and where it was written.
#[derive(Clone, PartialEq, Debug)]
pub struct Node {
    /// Where it starts and, for a scalar, ends.
    pub place: Place,
    /// What it holds.
    pub content: Content,
}

/// What a node holds.
#[derive(Clone, PartialEq, Debug)]
pub enum Content {
    /// Text, a number, true or false, a time: told apart by whoever reads it.
    Scalar(Scalar),
    /// `[a, b]`, or lines that start with `- `.
    List(Vec<Node>),
    /// `{a: 1, b: 2}`, or lines `a: 1`; in the order of the file, no key twice.
    Map(Vec<Entry>),
}

/// A single value.
#[derive(Clone, PartialEq, Debug)]
pub struct Scalar {
    /// Its text, exactly: `1.00` stays `1.00`.
    pub text: String,
    /// How it was written.
    pub style: Style,
}

/// How a scalar was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Style {
    /// Without quotes.
    Plain,
    /// `'…'`
    SingleQuoted,
    /// `"…"`
    DoubleQuoted,
    /// `|` or `>` and indented lines.
    Block,
}

/// A key of a map and its value.
#[derive(Clone, PartialEq, Debug)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key was written.
    pub key_place: Place,
    /// The value.
    pub value: Node,
}

impl Node {
    /// A map without entries that nobody wrote.
    pub fn empty_map() -> Self {
        Self { place: Place::Nowhere, content: Content::Map(Vec::new()) }
    }

    /// A scalar as if written without quotes, from outside the file.
    pub fn scalar(text: &str, place: Place) -> Self {
        Self { place, content: Content::Scalar(Scalar { text: text.to_owned(), style: Style::Plain }) }
    }

    /// Whether it says that there is no value: nothing, `~` or `null`.
    pub fn is_null(&self) -> bool {
        match &self.content {
            Content::Scalar(Scalar { text, style: Style::Plain }) => {
                matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL")
            }
            _ => false,
        }
    }

    /// As messages call it.
    pub fn kind(&self) -> &'static str {
        match &self.content {
            Content::Scalar(_) if self.is_null() => "nothing",
            Content::Scalar(_) => "a single value",
            Content::List(_) => "a list",
            Content::Map(_) => "a map",
        }
    }
}

/// The tree of a file, `None` where it holds nothing, or, with problems reported, where it cannot be read.
///
/// The text is the one that `collector` was made for.
pub fn parse(text: &str, collector: &Collector) -> Option<Node> {
    if text.len() > MAX_BYTES {
        let message = format!("the file has {} bytes; at most {MAX_BYTES} are read", text.len());
        collector.report(&Place::bytes(0..0), message);
        return None;
    }
    let options = granit::options! {
        emit_comments: false,
        emit_unresolved_aliases: true,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    let parser = Parser::new_from_str_with_options(text, options);
    let mut builder = Builder { text, parser, collector, nodes: 0, documents: 0 };
    builder.document().unwrap_or(None)
}

/// The tree cannot be built any further; what is wrong has been reported.
struct Stop;

struct Builder<'t> {
    text: &'t str,
    parser: Parser<'t, granit::StrInput<'t>>,
    collector: &'t Collector,
    nodes: usize,
    documents: usize,
}

/// What follows in a list, a map or a document.
enum Next {
    Node(Node),
    End,
}

impl<'t> Builder<'t> {
    fn document(&mut self) -> Result<Option<Node>, Stop> {
        let mut root = None;
        while let Some((event, span)) = self.event()? {
            match event {
                Event::StreamStart | Event::DocumentEnd => {}
                Event::StreamEnd => break,
                Event::DocumentStart(..) => {
                    self.documents += 1;
                    if self.documents > 1 {
                        let message = "a second document (`---`) starts here; one file holds one document";
                        return Err(self.stop(&span, message));
                    }
                }
                event => {
                    if let Next::Node(node) = self.node(event, &span, 0)? {
                        root = Some(node);
                    }
                }
            }
        }
        Ok(root)
    }

    fn event(&mut self) -> Result<Option<(Event<'t>, Span)>, Stop> {
        match self.parser.next() {
            None => Ok(None),
            Some(Ok(next)) => Ok(Some(next)),
            Some(Err(error)) => {
                let start = error.marker().byte_offset().unwrap_or_default();
                self.collector.report(&Place::bytes(start..start), not_yaml(&error));
                Err(Stop)
            }
        }
    }

    fn stop(&self, span: &Span, message: impl Into<String>) -> Stop {
        self.collector.report(&place(span), message);
        Stop
    }

    fn node(&mut self, event: Event<'t>, span: &Span, depth: usize) -> Result<Next, Stop> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(self.stop(span, format!("the file holds more than {MAX_NODES} values")));
        }
        if depth > MAX_DEPTH {
            return Err(self.stop(span, too_deep()));
        }
        let content = match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_properties(span, anchor, tag.is_some())?;
                Content::Scalar(Scalar { text: text.into_owned(), style: style_of(style) })
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.refuse_properties(span, anchor, tag.is_some())?;
                Content::List(self.list(depth)?)
            }
            Event::MappingStart(_, anchor, tag) => {
                self.refuse_properties(span, anchor, tag.is_some())?;
                Content::Map(self.map(depth)?)
            }
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                let written = span.slice(self.text).unwrap_or("*").to_owned();
                let message = format!(
                    "{} is read as a YAML alias, and aliases are not supported; put text that starts with `*` in quotes",
                    shown(&written)
                );
                return Err(self.stop(span, message));
            }
            // The end of a list or a map; what else there is does not come here.
            _ => return Ok(Next::End),
        };
        Ok(Next::Node(Node { place: place(span), content }))
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, Stop> {
        let mut items = Vec::new();
        while let Some((event, span)) = self.event()? {
            match self.node(event, &span, depth + 1)? {
                Next::Node(node) => items.push(node),
                Next::End => break,
            }
        }
        Ok(items)
    }

    fn map(&mut self, depth: usize) -> Result<Vec<Entry>, Stop> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut first_places: HashMap<String, Place> = HashMap::new();
        while let Some((event, span)) = self.event()? {
            let Next::Node(key) = self.node(event, &span, depth + 1)? else {
                break;
            };
            let Some((event, span)) = self.event()? else { break };
            let Next::Node(value) = self.node(event, &span, depth + 1)? else {
                break;
            };
            let Content::Scalar(name) = key.content else {
                self.collector.report(&key.place, "a key must be a single value");
                continue;
            };
            if let Some(first) = first_places.get(&name.text) {
                let line = self.collector.line_of(first);
                let message = format!("{} is given twice; the first is on line {line}", shown(&name.text));
                self.collector.report(&key.place, message);
                continue;
            }
            first_places.insert(name.text.clone(), key.place.clone());
            entries.push(Entry { key: name.text, key_place: key.place, value });
        }
        Ok(entries)
    }

    fn refuse_properties(&self, span: &Span, anchor: usize, tagged: bool) -> Result<(), Stop> {
        if tagged {
            let tag = span.tag_span().unwrap_or(*span);
            let written = tag.slice(self.text).unwrap_or("!");
            let message = format!(
                "{} is read as a YAML tag, and tags are not supported; put a condition that starts with `!` in quotes",
                shown(written)
            );
            return Err(self.stop(&tag, message));
        }
        if anchor != 0 {
            let message = "YAML anchors (`&name`) are not supported; put text that starts with `&` in quotes";
            return Err(self.stop(span, message));
        }
        Ok(())
    }
}

fn place(span: &Span) -> Place {
    let range = span.byte_range().unwrap_or_default();
    Place::bytes(range)
}

fn style_of(style: ScalarStyle) -> Style {
    match style {
        ScalarStyle::Plain => Style::Plain,
        ScalarStyle::SingleQuoted => Style::SingleQuoted,
        ScalarStyle::DoubleQuoted => Style::DoubleQuoted,
        ScalarStyle::Literal | ScalarStyle::Folded => Style::Block,
    }
}

fn too_deep() -> String {
    format!("lists and maps stand more than {MAX_DEPTH} deep within each other")
}

/// What the parser says, and what was probably meant where a condition commonly trips over YAML.
fn not_yaml(error: &ScanError) -> String {
    let hint = match error.kind() {
        ErrorKind::RecursionLimitExceeded => return too_deep(),
        ErrorKind::InvalidTrailingDoubleQuotedScalar | ErrorKind::InvalidTrailingSingleQuotedScalar => {
            "; a value that starts with a quote ends with it: put the whole value in the other kind of quotes"
        }
        ErrorKind::MappingValueNotAllowed => "; text that holds `: ` must be in quotes",
        ErrorKind::InvalidColonPlacement => "; is a bracket or brace before this not closed?",
        ErrorKind::TabInIndentation
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabNotAllowed
        | ErrorKind::TabAtBlockScalarStart => "; indent with spaces",
        _ => "",
    };
    format!("not valid YAML: {}{hint}", error.kind())
}
