//! A change as scenarios write it: a short list of named fields, such as `{rule: purchase, points: 120}`.
//!
//! What pays is named by [`Origin`]'s own JSON form, and its words come from its schema, so that a new
//! kind of origin can be expected without a change here.

use std::fmt;

use jiff::Timestamp;
use rust_decimal::Decimal;
use schemars::{JsonSchema, schema_for};
use serde_json::Value;

use crate::entry::{Applied, Change, Entry, EntryKind, Origin, TierChange, TierWhy};
use crate::types::MemberId;

/// The field of a tier change that names the level from now on.
pub(super) const TIER_CHANGE: &str = "tier_change";

/// The field that names the level that a review leaves as it is.
pub(super) const TIER_KEPT: &str = "tier_kept";

/// The field that names the level that a review to come would take.
pub(super) const TIER_REVIEW_DUE: &str = "tier_review_due";

/// The field that names whose the change is, where it is not the step's member's.
pub(super) const MEMBER: &str = "member";

/// An entry or a tier change: its fields in their order.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Line {
    /// Fields that say what the change is; whoever expects the change must name them all.
    said: Vec<Field>,
    /// Fields that may be named as well, for a change that came.
    more: Vec<Field>,
}

/// A name and a value in its one way to write it.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Field {
    name: String,
    value: String,
}

impl Line {
    /// A line of these fields, as a scenario expects it.
    pub(super) fn of(fields: impl IntoIterator<Item = (String, String)>) -> Self {
        let said = fields.into_iter().map(|(name, value)| Field { name, value }).collect();
        Self { said, more: Vec::new() }
    }

    /// The line of a change of another account than that of the step's member.
    pub(super) fn of_member(mut self, member: &MemberId) -> Self {
        let value = member.as_str().to_owned();
        self.said.insert(0, Field { name: MEMBER.to_owned(), value });
        self
    }

    /// The line of a change; nothing for one that only takes note of what a member did.
    pub fn came(applied: &Applied) -> Option<Self> {
        match &applied.change {
            Change::Entry(entry) => Some(Self::entry(entry)),
            Change::Tier(change) => Some(Self::tier_change(change)),
            Change::Noted(_) => None,
        }
    }

    fn entry(entry: &Entry) -> Self {
        let mut line = Self { said: origin(&entry.by), more: Vec::new() };
        match entry.kind {
            EntryKind::Declined => line.say("declined", entry.declined),
            EntryKind::Granted => {} // its reward says it all
            EntryKind::Expiring => {
                let points = entry.lots().iter().fold(0_i64, |sum, lot| sum.saturating_add(lot.points.0));
                line.say("expiring", points);
            }
            _ => line.say("points", entry.points),
        }
        line.add("kind", entry.kind.as_str());
        if let Some(why) = entry.why {
            line.say("reason", why.as_str());
        }
        if let Some(reward) = &entry.reward {
            // A redemption is named by its reward already.
            if matches!(entry.by, Origin::Redemption(_)) {
                line.add("reward", &reward.id);
            } else {
                line.say("reward", &reward.id);
            }
            if let Some(worth) = reward.worth {
                line.add("worth", amount(worth));
            }
        }
        if let Some(of) = entry.of {
            line.add("of", amount(of));
        }
        if let Some(factor) = entry.factor {
            line.add("factor", amount(factor));
        }
        if let Some(days) = entry.streak {
            line.add("streak", days);
        }
        line.add("day", entry.day);
        for (name, moment) in [("expires", entry.expires), ("held_until", entry.release)] {
            if let Some(moment) = moment.and_then(|second| Timestamp::from_second(second).ok()) {
                line.add(name, moment);
            }
        }
        if let Some(more) = &entry.more {
            let about = &more.about;
            if let (Some(worth), None) = (about.worth, &entry.reward.as_ref().and_then(|reward| reward.worth))
            {
                line.add("worth", amount(worth));
            }
            if let Some(drawn) = about.prizes.first() {
                line.add("prize", &drawn.id);
            }
        }
        line
    }

    fn tier_change(change: &TierChange) -> Self {
        let mut line = Self::default();
        line.say(
            match change.why {
                TierWhy::Reached | TierWhy::Refunded | TierWhy::Review => TIER_CHANGE,
                TierWhy::Kept => TIER_KEPT,
                TierWhy::ReviewDue => TIER_REVIEW_DUE,
            },
            &change.to,
        );
        line.add("from", &change.from);
        line.add("measure", change.measure);
        if let Some(until) = change.until.and_then(|second| Timestamp::from_second(second).ok()) {
            line.add("until", until);
        }
        line
    }

    fn say(&mut self, name: &str, value: impl fmt::Display) {
        self.said.push(Field { name: name.to_owned(), value: value.to_string() });
    }

    fn add(&mut self, name: &str, value: impl fmt::Display) {
        self.more.push(Field { name: name.to_owned(), value: value.to_string() });
    }

    /// Whether this line, which came, is what `expected` says.
    pub(super) fn is(&self, expected: &Line) -> bool {
        let is_known = |field: &Field| self.said.contains(field) || self.more.contains(field);
        expected.said.iter().all(is_known) && self.said.iter().all(|field| expected.said.contains(field))
    }

    /// The line with those further fields shown that any of the expected lines names.
    pub(super) fn shown_beside(&self, expected: &[Line]) -> Line {
        let is_named =
            |name: &str| expected.iter().flat_map(|line| &line.said).any(|field| field.name == name);
        let more = self.more.iter().filter(|field| is_named(&field.name));
        Line { said: self.said.iter().chain(more).cloned().collect(), more: Vec::new() }
    }
}

/// `{rule: purchase, points: 120}`, as it can be written into a scenario.
impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields: Vec<String> =
            self.said.iter().map(|field| format!("{}: {}", field.name, field.value)).collect();
        write!(f, "{{{}}}", fields.join(", "))
    }
}

/// An amount in its one way to write it: 120.50 is 120.5.
pub(super) fn amount(amount: Decimal) -> String {
    amount.normalize().to_string()
}

/// `{"rule":"purchase"}` as fields.
fn origin(by: &Origin) -> Vec<Field> {
    let field = |name: &str, value: &Value| Field {
        name: name.to_owned(),
        value: value.as_str().map_or_else(|| value.to_string(), str::to_owned),
    };
    match serde_json::to_value(by) {
        Ok(Value::Object(map)) => map.iter().map(|(name, value)| field(name, value)).collect(),
        Ok(Value::String(name)) => vec![field(&name, &Value::Bool(true))],
        _ => Vec::new(), // an origin has no other form
    }
}

/// The names that an enum has in JSON: of its plain variants, and the keys of the others.
pub(super) fn words<T: JsonSchema>() -> Vec<String> {
    let schema = schema_for!(T);
    let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
    let mut words = list(schema.get("enum"));
    for variant in list(schema.get("oneOf")) {
        words.extend(variant.get("const").cloned());
        words.extend(list(variant.get("enum")));
        let properties = variant.get("properties").and_then(Value::as_object);
        words.extend(properties.into_iter().flat_map(|map| map.keys().cloned().map(Value::from)));
    }
    words.iter().filter_map(|word| word.as_str().map(str::to_owned)).collect()
}
