//! Typed getters over the tree that report what is wrong and go on.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use rust_decimal::Decimal;

use super::problem::{Collector, printable};
use super::scalar;
use super::source::Place;
use super::tree::{Content, Entry, Node, Scalar, Style};
use super::units::{CalendarSpan, parse_duration};
use crate::spelling;

/// Text from a file as messages quote it: in backticks, short, and without control characters.
pub fn shown(text: &str) -> String {
    const MOST: usize = 60;
    let mut quoted: String = text.chars().take(MOST).map(printable).collect();
    if text.chars().count() > MOST {
        quoted.push('…');
    }
    format!("`{quoted}`")
}

/// How messages call a value: its path below the last list.
#[derive(Clone, Debug)]
struct Name {
    /// "`batch.max_wait`" or "a rule".
    label: String,
    /// What stands before a child's key: `batch.`
    prefix: String,
}

impl Name {
    fn child(&self, key: &str) -> Self {
        Self { label: shown(&format!("{}{key}", self.prefix)), prefix: format!("{}{key}.", self.prefix) }
    }

    fn item(label: &str) -> Self {
        Self { label: label.to_owned(), prefix: String::new() }
    }
}

/// A value to be read as what it should be. Every getter reports what is wrong and then gives `None`.
#[derive(Clone, Debug)]
pub struct Value<'a> {
    node: &'a Node,
    name: Name,
    collector: &'a Collector,
}

impl<'a> Value<'a> {
    /// The root of a file, called `label` in messages.
    pub fn root(node: &'a Node, label: &str, collector: &'a Collector) -> Self {
        Self { node, name: Name::item(label), collector }
    }

    /// Where it was written.
    pub fn place(&self) -> &'a Place {
        &self.node.place
    }

    /// How messages call it.
    pub fn label(&self) -> &str {
        &self.name.label
    }

    /// The node itself.
    pub fn node(&self) -> &'a Node {
        self.node
    }

    /// Where problems go.
    pub fn collector(&self) -> &'a Collector {
        self.collector
    }

    /// Reports a problem with this value.
    pub fn report(&self, message: impl Into<String>) {
        self.collector.report(&self.node.place, message);
    }

    /// Reports that this value must be something else than it is.
    fn wrong<T>(&self, wanted: impl Display) -> Option<T> {
        let label = &self.name.label;
        let message = match &self.node.content {
            _ if self.node.is_null() => format!("{label} has no value; it must be {wanted}"),
            Content::Scalar(Scalar { text, .. }) => {
                format!("{label} must be {wanted}, not {}", shown(text))
            }
            _ => format!("{label} must be {wanted}, not {}", self.node.kind()),
        };
        self.report(message);
        None
    }

    fn scalar(&self) -> Option<&'a Scalar> {
        match &self.node.content {
            Content::Scalar(scalar) if !self.node.is_null() => Some(scalar),
            _ => None,
        }
    }

    /// Text that is not empty.
    pub fn text(&self) -> Option<&'a str> {
        match self.scalar() {
            Some(scalar) if !scalar.text.trim().is_empty() => Some(&scalar.text),
            _ => self.wrong("text"),
        }
    }

    /// Reads the value's text, where `wanted` says what it must be.
    pub fn read<T>(&self, wanted: impl Display, read: impl FnOnce(&'a str) -> Option<T>) -> Option<T> {
        match self.scalar().and_then(|scalar| read(&scalar.text)) {
            Some(value) => Some(value),
            None => self.wrong(wanted),
        }
    }

    /// A whole number in a range.
    pub fn whole<N>(&self, range: RangeInclusive<N>) -> Option<N>
    where
        N: Copy + PartialOrd + Display + TryFrom<i64>,
    {
        let (least, most) = (range.start(), range.end());
        self.read(format!("a whole number from {least} to {most}"), |text| {
            let digits = text.strip_prefix('-').unwrap_or(text);
            let is_plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            let number = text.parse::<i64>().ok().filter(|_| is_plain)?;
            N::try_from(number).ok().filter(|number| range.contains(number))
        })
    }

    /// A decimal, exactly as written, that `accept` takes; `wanted` says which those are.
    pub fn decimal(&self, wanted: &str, accept: impl FnOnce(Decimal) -> bool) -> Option<Decimal> {
        self.read(wanted, |text| {
            let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
            let whole = whole.strip_prefix('-').unwrap_or(whole);
            let are_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            let is_plain = are_digits(whole) && are_digits(fraction);
            Decimal::from_str_exact(text).ok().filter(|number| is_plain && accept(*number))
        })
    }

    /// `true` or `false`.
    pub fn boolean(&self) -> Option<bool> {
        self.read("`true` or `false`", |text| text.parse().ok())
    }

    /// A length of time such as `20ms` within bounds.
    pub fn duration(&self, least: &str, most: &str) -> Option<Duration> {
        let wanted = format!("a time such as 20ms, 25s, 5m, 12h or 30d, from {least} to {most}");
        let bound = |text| parse_duration(text).unwrap_or_default();
        let range = bound(least)..=bound(most);
        self.read(wanted, |text| parse_duration(text).filter(|duration| range.contains(duration)))
    }

    /// A length of time on the calendar, such as `P1Y`.
    pub fn period(&self) -> Option<CalendarSpan> {
        self.read("a period such as P1Y, P12M, P2W or P30D, of at most 100 years", CalendarSpan::parse)
    }

    /// One of a few words.
    pub fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let known = |text: &str| choices.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if let Some(value) = self.scalar().and_then(|scalar| known(&scalar.text)) {
            return Some(value);
        }
        self.wrong(one_of(&words))
    }

    /// A list, whose entries messages call `item`.
    pub fn list(&self, item: &str) -> Option<Vec<Value<'a>>> {
        match &self.node.content {
            Content::List(nodes) => Some(self.items(nodes, item)),
            _ => self.wrong("a list"),
        }
    }

    /// A list, or one entry without the brackets.
    pub fn one_or_list(&self, item: &str) -> Option<Vec<Value<'a>>> {
        match &self.node.content {
            Content::List(nodes) => Some(self.items(nodes, item)),
            _ if self.node.is_null() => self.wrong("a value or a list"),
            _ => Some(vec![self.clone()]),
        }
    }

    fn items(&self, nodes: &'a [Node], item: &str) -> Vec<Value<'a>> {
        let value = |node| Value { node, name: Name::item(item), collector: self.collector };
        nodes.iter().map(value).collect()
    }

    /// A map of these keys; any other key is reported.
    pub fn map(&self, known: &[&str]) -> Option<Map<'a>> {
        let map = self.any_map()?;
        for entry in map.entries {
            if !known.contains(&entry.key.as_str()) {
                self.collector.report(&entry.key_place, unknown_key(&entry.key, known));
            }
        }
        Some(map)
    }

    /// A map of any keys.
    pub fn any_map(&self) -> Option<Map<'a>> {
        match &self.node.content {
            Content::Map(entries) => Some(Map { entries, value: self.clone() }),
            _ => self.wrong("a map (`key: value`)"),
        }
    }

    /// Whether it is a single value, not a list or a map.
    pub fn is_scalar(&self) -> bool {
        matches!(self.node.content, Content::Scalar(_))
    }

    /// The place of a character of this scalar's text, whichever way it was quoted or folded.
    pub fn place_of_character(&self, at: usize) -> Place {
        match (&self.node.place, &self.node.content) {
            (Place::File { start, .. }, Content::Scalar(Scalar { text, style })) => {
                let written = self.collector.written(&self.node.place);
                Place::bytes(scalar::locate(*start, written, *style, text, at))
            }
            (place, _) => place.clone(),
        }
    }

    /// How its scalar was written, if it is one.
    pub fn style(&self) -> Option<Style> {
        self.scalar().map(|scalar| scalar.style)
    }
}

/// A map to be read by its keys.
#[derive(Clone, Debug)]
pub struct Map<'a> {
    entries: &'a [Entry],
    value: Value<'a>,
}

impl<'a> Map<'a> {
    /// The value of a key, if the key is there.
    pub fn get(&self, key: &str) -> Option<Value<'a>> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| self.child(entry))
    }

    /// The value of a key that must be there.
    pub fn required(&self, key: &str) -> Option<Value<'a>> {
        let value = self.get(key);
        if value.is_none() {
            let label = &self.value.name.label;
            self.report(format!("{} is missing in {label}", shown(key)));
        }
        value
    }

    /// Where a key stands, if it is there.
    pub fn key_place(&self, key: &str) -> Option<&'a Place> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| &entry.key_place)
    }

    /// Each key with its place and value, in the order of the file.
    pub fn entries(&self) -> impl Iterator<Item = (&'a str, &'a Place, Value<'a>)> + '_ {
        self.entries.iter().map(|entry| (entry.key.as_str(), &entry.key_place, self.child(entry)))
    }

    /// Whether it has no keys.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Reports a problem with the map as a whole.
    pub fn report(&self, message: impl Into<String>) {
        self.value.report(message);
    }

    /// The map as a value.
    pub fn value(&self) -> &Value<'a> {
        &self.value
    }

    fn child(&self, entry: &'a Entry) -> Value<'a> {
        Value { node: &entry.value, name: self.value.name.child(&entry.key), collector: self.value.collector }
    }
}

/// "`a`", "`a` or `b`", "one of `a`, `b`, `c`".
fn one_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.as_slice() {
        [one, other] => format!("{one} or {other}"),
        [one] => one.clone(),
        many => format!("one of {}", many.join(", ")),
    }
}

fn unknown_key(key: &str, known: &[&str]) -> String {
    let hint = match spelling::closest(key, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`? Known"),
        None => "known".to_owned(),
    };
    format!("unknown key {}; {hint} here: {}", shown(key), known.join(", "))
}
