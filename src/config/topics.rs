//! The topics that the worker reads and writes, and that no two of them are the same.

use super::read::required;
use crate::types::{Outputs, TopicName};
use crate::yaml::{Map, Place, Value, shown};

/// Inputs, each a list of topics, and outputs.
pub(super) fn read(settings: &Map<'_>) -> Option<(Vec<Vec<TopicName>>, Outputs)> {
    let mut taken = Taken { used: Vec::new(), root: settings };
    let inputs = inputs(settings, &mut taken);
    let outputs = outputs(settings, &mut taken);
    Some((inputs?, outputs?))
}

fn inputs(settings: &Map<'_>, taken: &mut Taken<'_>) -> Option<Vec<Vec<TopicName>>> {
    let list = required(settings, "inputs")?;
    let inputs = list.list("an input")?;
    if inputs.is_empty() {
        list.report("`inputs` is empty; name at least one topic, as in `inputs: [{topics: [shop.orders]}]`");
    }
    inputs.iter().map(|input| input_topics(input, taken)).collect::<Vec<_>>().into_iter().collect()
}

fn input_topics(input: &Value<'_>, taken: &mut Taken<'_>) -> Option<Vec<TopicName>> {
    let list = input.map(&["topics"])?.required("topics")?;
    let names = list.list("a topic")?;
    if names.is_empty() {
        list.report(format!("{} is empty; name at least one topic", list.label()));
    }
    let mut topics = Vec::new();
    for value in names {
        let topic = topic(&value)?;
        taken.take(&topic, value.place(), "an input");
        topics.push(topic);
    }
    Some(topics)
}

fn outputs(settings: &Map<'_>, taken: &mut Taken<'_>) -> Option<Outputs> {
    const KNOWN: [&str; 5] = ["awards", "tier_changes", "accounts", "dead_letters", "internal"];
    let section = match settings.get("outputs") {
        Some(value) => Some(value.map(&KNOWN)?),
        None => None,
    };
    let mut output = |key: &str| {
        let value = section.as_ref().and_then(|section| section.get(key));
        let role = format!("`outputs.{key}`");
        if let Some(value) = value {
            let topic = topic(&value)?;
            taken.take(&topic, value.place(), &role);
            return Some(topic);
        }
        let topic = TopicName::from(format!("accrual.{}", key.replace('_', "-")));
        taken.take(&topic, &Place::Nowhere, &role);
        Some(topic)
    };
    let [awards, tier_changes, accounts, dead_letters, internal] = KNOWN.map(&mut output);
    Some(Outputs {
        awards: awards?,
        tier_changes: tier_changes?,
        accounts: accounts?,
        dead_letters: dead_letters?,
        internal: internal?,
    })
}

/// A name that a broker takes.
fn topic(value: &Value<'_>) -> Option<TopicName> {
    value.read("1 to 249 letters, digits, `.`, `_` and `-`", |text| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let is_name =
            (1..=249).contains(&text.len()) && text.chars().all(is_plain) && text != "." && text != "..";
        is_name.then(|| TopicName::from(text))
    })
}

/// Which topics are used, where and what for.
struct Taken<'a> {
    used: Vec<(TopicName, Place, String)>,
    root: &'a Map<'a>,
}

impl Taken<'_> {
    /// Reports a topic that is used already.
    fn take(&mut self, topic: &TopicName, place: &Place, role: &str) {
        let Some((_, first_place, first_role)) = self.used.iter().find(|(used, ..)| used == topic) else {
            self.used.push((topic.clone(), place.clone(), role.to_owned()));
            return;
        };
        let collector = self.root.value().collector();
        let name = shown(topic.as_str());
        let message = match (first_role.as_str(), role) {
            ("an input", "an input") => format!("{name} is an input twice"),
            (first, role) => format!("{name} is both {first} and {role}; each needs a topic of its own"),
        };
        // A default has no place; then the other one is to be changed.
        let place = if *place == Place::Nowhere { first_place } else { place };
        collector.report(place, message);
    }
}
