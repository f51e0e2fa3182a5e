//! What is likely wrong with a programme that could run: it says something, and hardly what was meant.
//!
//! A warning must be worth reading each time, so what may well be meant is let pass. Pure: the present
//! moment is given.

mod cut;
mod meeting;
mod never;
mod piles;

use jiff::Timestamp;

use super::{Programme, Versions, Written};
use crate::yaml::{Map, Problems};

/// Everything that is likely wrong with versions, each written as the one of `written` in its place; nothing
/// where nothing is.
pub fn of_versions(versions: &Versions, written: Vec<Written>, now: Timestamp) -> Option<Problems> {
    let begins_later = versions.first().effective_from.is_some_and(|from| now < from);
    if let Some(map) = written.first().filter(|_| begins_later).and_then(|first| first.value().any_map()) {
        let message = "no version is in effect before this moment, so that this one decides what happens before it, too; name the version of that time beside it";
        warn(&map, "effective_from", message.to_owned());
    }
    let mut after = versions.iter().skip(1);
    let found = versions.iter().zip(written).filter_map(|(version, written)| {
        let begins = version.effective_from.unwrap_or(Timestamp::MIN);
        let is_superseded = after.next().and_then(|next| next.effective_from).is_some_and(|from| from <= now);
        // One that is kept for late events may have campaigns that are over; one that is shipped ahead may not
        // have such as are over when it begins.
        find(version, written, if is_superseded { begins } else { now.max(begins) })
    });
    found.fold(None, |before, these| Some(Problems::and_maybe(before, these)))
}

/// Everything that is likely wrong, by place; nothing where nothing is.
pub fn find(programme: &Programme, written: Written, now: Timestamp) -> Option<Problems> {
    let (rules, campaigns) = (written.entries("rules"), written.entries("campaigns"));
    for (rule, map) in programme.rules.iter().zip(&rules) {
        never::rule(programme, rule, map);
        cut::rule(rule, map);
    }
    for (campaign, map) in programme.campaigns.iter().zip(&campaigns) {
        never::campaign(programme, campaign, map, now);
        cut::campaign(campaign, map);
    }
    piles::find(programme, &campaigns, now);
    written.into_warnings()
}

/// Warns at the value of a key of an entry.
fn warn(entry: &Map<'_>, key: &str, message: String) {
    match entry.get(key) {
        Some(value) => value.report(message),
        None => entry.report(message),
    }
}

#[cfg(test)]
mod tests;
