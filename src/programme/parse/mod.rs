//! From YAML to a [`Programme`], or everything that is wrong with it.
//!
//! The whole language is read and checked here, and everything that is wrong is said at once.

mod campaigns;
mod conditions;
mod ids;
mod limits;
mod points;
mod redemption;
mod rules;
mod tiers;

use std::collections::HashMap;

use jiff::tz::{TimeZone, TimeZoneDatabase};
use xxhash_rust::xxh3::xxh3_128;

use super::campaign::Campaign;
use super::condition::{Condition, Expression};
use super::lifetime::Lifetime;
use super::redemption::Redemption;
use super::{After, Payee, Paying, Programme, Rule};
use crate::event::internal;
use crate::spelling;
use crate::types::EventType;
use crate::yaml::{self, Collector, Map, Node, Problems, Value, shown};
use ids::Ids;
use redemption::Catalogue;

impl Programme {
    /// Reads a programme; `file` names it in problems.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it, with line and column.
    pub fn parse(file: &str, text: &str) -> Result<Self, Problems> {
        Self::parse_written(file, text).map(|(programme, _)| programme)
    }

    /// Reads a programme as [`Programme::parse`] does, and keeps how it was written, for
    /// [`warnings`](crate::programme::warnings).
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it, with line and column.
    pub fn parse_written(file: &str, text: &str) -> Result<(Self, Written), Problems> {
        let collector = Collector::new(file, text);
        let Some(root) = yaml::parse(text, &collector).filter(|root| !root.is_null()) else {
            if collector.is_empty() {
                collector.report(
                    &yaml::Place::bytes(0..0),
                    "the file is empty; a programme has at least `programme`, `timezone`, `currency` and `rules`",
                );
            }
            return Err(collector.into_problems());
        };
        match programme(&Value::root(&root, "the programme", &collector), text) {
            Some(programme) if collector.is_empty() => Ok((programme, Written { root, collector })),
            _ => Err(collector.into_problems()),
        }
    }
}

impl Programme {
    /// Reads a programme that stands within another file, such as one of scenarios; `text` is what names its
    /// version. Reports what is wrong with it; it is right where nothing was reported.
    pub(crate) fn read_in(value: &Value<'_>, text: &str) -> Option<Self> {
        programme(value, text)
    }
}

/// How a programme that nothing is wrong with was written: so that something can be said of a place in it
/// although a [`Programme`] knows no places.
#[derive(Debug)]
pub struct Written {
    root: Node,
    collector: Collector,
}

impl Written {
    /// The entries of `rules` or `campaigns`, in the order of the file, as the programme has them.
    pub(super) fn entries(&self, section: &str) -> Vec<Map<'_>> {
        let list =
            self.value().any_map().and_then(|map| map.get(section)).and_then(|list| list.list("an entry"));
        list.unwrap_or_default().iter().filter_map(Value::any_map).collect()
    }

    /// The programme as a whole.
    pub(crate) fn value(&self) -> Value<'_> {
        Value::root(&self.root, "the programme", &self.collector)
    }

    /// Whether nothing was reported of it.
    pub(crate) fn is_right(&self) -> bool {
        self.collector.is_empty()
    }

    /// What was reported of it.
    pub(crate) fn into_problems(self) -> Problems {
        self.collector.into_problems()
    }

    /// What was reported of it, as warnings.
    pub(super) fn into_warnings(self) -> Option<Problems> {
        self.collector.into_warnings()
    }
}

fn programme(root: &Value<'_>, text: &str) -> Option<Programme> {
    let map = root.map(&[
        "programme",
        "timezone",
        "currency",
        "effective_from",
        "points",
        "tiers",
        "rules",
        "campaigns",
        "redemption",
    ])?;
    // Everything is read before anything is given up, so that all problems are reported.
    let name = map.required("programme").and_then(|value| ids::id(&value));
    let zone = map.required("timezone").and_then(|value| zone(&value));
    let currency = map.required("currency").and_then(|value| currency(&value));
    let points = points::read(&map);
    let tiers = map.get("tiers").map(|value| tiers::read(&value));
    // A zone that is wrong is reported; moments are then checked as if it were UTC.
    let checked_zone = zone.clone().unwrap_or(TimeZone::UTC);
    let catalogue = redemption::read(&map, &checked_zone);
    let lifetime = points.as_ref().map(|points| points.lifetime).unwrap_or_default();
    let rules = rules(&map, &catalogue, lifetime);
    let effective_from = map.get("effective_from").map(|value| campaigns::moment(&value, &checked_zone));
    let campaigns = campaigns::read(&map, &checked_zone);

    let (rules, campaigns, points) = (rules?, campaigns?, points?);
    Some(Programme {
        name: name?,
        version: version(text),
        file: root.collector().file().to_owned(),
        effective_from: match effective_from {
            Some(from) => Some(from?),
            None => None,
        },
        zone: zone?,
        currency: currency?,
        rounding: points.rounding,
        lifetime: points.lifetime,
        shortfall: points.shortfall,
        notice: points.notice,
        tiers: match tiers {
            Some(tiers) => Some(tiers?),
            None => None,
        },
        by_type: by_type(&rules, &campaigns, &catalogue.redemption),
        rules,
        campaigns,
        redemption: catalogue.redemption,
    })
}

fn rules(map: &Map<'_>, catalogue: &Catalogue, lifetime: Lifetime) -> Option<Vec<Rule>> {
    /// How many rules a programme may have.
    const MOST: usize = 1_000;
    let list = map.required("rules")?;
    let values = bounded(&list, "a rule", MOST)?;
    if values.is_empty() {
        list.report("`rules` is empty; without a rule nothing earns points");
    }
    let mut ids = Ids::default();
    let read = |rule: &Value<'_>| rules::read(rule, &mut ids, catalogue, lifetime);
    let rules: Vec<Option<Rule>> = values.iter().map(read).collect();
    rules.into_iter().collect()
}

/// What is told of members is always taken in, and what they do where a condition asks for it: so that
/// a condition written later finds what it asks for.
fn by_type(rules: &[Rule], campaigns: &[Campaign], redemption: &Redemption) -> HashMap<EventType, Paying> {
    let mut by_type: HashMap<EventType, Paying> = HashMap::new();
    for (index, rule) in rules.iter().enumerate() {
        by_type.entry(rule.on.clone()).or_default().rules.push(index);
    }
    for (index, campaign) in campaigns.iter().enumerate() {
        by_type.entry(campaign.on.clone()).or_default().campaigns.push(index);
    }
    // What moves points beside earning them is decided whatever the programme says.
    let mut heard = vec!["member.registered", "member.updated"];
    heard.extend(MOVES_POINTS);
    heard.extend([internal::CAME, internal::RECEIVED]);
    let of_rules = rules.iter().filter_map(|rule| rule.when.as_ref());
    let of_campaigns = campaigns.iter().flat_map(|campaign| campaign.when.iter().chain(&campaign.audience));
    let of_rewards = redemption.offers.iter().filter_map(|offer| offer.when.as_ref());
    let mut expressions = rules.iter().flat_map(|rule| rule.of.iter().chain(&rule.once_per));
    let mut conditions = of_rules.chain(of_campaigns).chain(of_rewards);
    if conditions.any(Condition::asks_member) || expressions.any(Expression::asks_member) {
        heard.extend(["order.paid", "member.signed_in"]);
    }
    if rules.iter().any(|rule| rule.after == After::FirstOrder) {
        heard.push("order.paid");
    }
    if rules.iter().any(|rule| rule.to == Payee::Referrer) {
        heard.push(internal::REFERRED);
    }
    if by_type.keys().map(EventType::as_str).chain(heard.iter().copied()).any(|kind| kind == "order.paid") {
        heard.extend(["order.refunded", internal::WAITED]);
    }
    for kind in heard {
        by_type.entry(EventType::from(kind)).or_default();
    }
    by_type
}

/// Types that move points without a rule. Nobody earns by them.
const MOVES_POINTS: [&str; 7] = [
    "redemption.requested",
    "redemption.cancelled",
    "points.adjusted",
    "points.transferred",
    "members.merged",
    "member.closed",
    "member.erased",
];

/// The first 12 hex digits of the text's hash: the same text is the same version, wherever it lies.
fn version(text: &str) -> String {
    let hash = format!("{:032x}", xxh3_128(text.as_bytes()));
    hash.chars().take(12).collect()
}

fn zone(value: &Value<'_>) -> Option<TimeZone> {
    let name = value.text()?;
    // The zones in the binary, so that a day does not depend on the machine.
    let database = TimeZoneDatabase::bundled();
    if let Ok(zone) = database.get(name) {
        return Some(zone);
    }
    let names: Vec<String> = database.available().map(|zone| zone.as_str().to_owned()).collect();
    let message = match spelling::closest(name, names.iter().map(String::as_str)) {
        Some(near) => format!("there is no time zone {}; did you mean `{near}`?", shown(name)),
        None => {
            format!("there is no time zone {}; write an IANA name such as `Europe/Berlin`", shown(name))
        }
    };
    value.report(message);
    None
}

fn currency(value: &Value<'_>) -> Option<String> {
    value.read("three capital letters, an ISO 4217 code such as EUR", |text| {
        let is_code = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_uppercase());
        is_code.then(|| text.to_owned())
    })
}

/// A list of at most so many entries; more are reported and left.
fn bounded<'a>(list: &Value<'a>, item: &str, most: usize) -> Option<Vec<Value<'a>>> {
    let mut values = list.list(item)?;
    if values.len() > most {
        list.report(format!("{} has {} entries; at most {most} are supported", list.label(), values.len()));
        values.truncate(most);
    }
    Some(values)
}

#[cfg(test)]
mod tests;
