//! Rules and campaigns that no event can match, or not any more.

use jiff::Timestamp;

use super::warn;
use crate::programme::campaign::{Campaign, During, Pays};
use crate::programme::condition::{Condition, Demands};
use crate::programme::{Earn, Programme, Rule};
use crate::spelling;
use crate::types::EventType;
use crate::yaml::{Map, Value, shown};

/// A rule that never pays.
pub(super) fn rule(programme: &Programme, rule: &Rule, written: &Map<'_>) {
    let Some((when, value)) = rule.when.as_ref().zip(written.get("when")) else { return };
    condition(programme, when, &value, &format!("rule {}", shown(rule.id.as_str())));
}

/// A campaign that never pays, or not any more.
pub(super) fn campaign(programme: &Programme, campaign: &Campaign, written: &Map<'_>, now: Timestamp) {
    let who = format!("campaign {}", shown(campaign.id.as_str()));
    let mut each_can_hold = true;
    for (compiled, key) in [(&campaign.when, "when"), (&campaign.audience, "audience")] {
        if let Some((compiled, value)) = compiled.as_ref().zip(written.get(key)) {
            each_can_hold &= condition(programme, compiled, &value, &who);
        }
    }
    if each_can_hold && Demands::of(campaign.when.iter().chain(&campaign.audience)).is_none() {
        warn(written, "audience", format!("this is never true where `when` is, so that {who} never pays"));
    }
    if has_ended(campaign, now)
        && let Some(until) = written.get("during").and_then(|during| during.any_map()?.get("until"))
    {
        until.report(format!("{who} has ended; only events that are told late still find it"));
    }
    multiplies_nothing(programme, campaign, written, &who);
}

/// Whether its period is over.
pub(super) fn has_ended(campaign: &Campaign, now: Timestamp) -> bool {
    matches!(campaign.during, During::Between { until, .. } if until <= now)
}

/// Whether the programme has a rule whose pay it could multiply.
pub(super) fn has_base(programme: &Programme, on: &EventType) -> bool {
    let mut rules = programme.by_type.get(on).into_iter().flat_map(|paying| &paying.rules);
    rules.any(|at| programme.rules.get(*at).is_some_and(|rule| rule.earn != Earn::Nothing))
}

fn multiplies_nothing(programme: &Programme, campaign: &Campaign, written: &Map<'_>, who: &str) {
    if matches!(campaign.pays, Pays::Add(_)) || has_base(programme, &campaign.on) {
        return;
    }
    let on = campaign.on.as_str();
    let paying = programme.rules.iter().filter(|rule| rule.earn != Earn::Nothing);
    let paid = paying.map(|rule| rule.on.as_str());
    let hint = spelling::closest(on, paid).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
    let on = shown(on);
    warn(written, "on", format!("{who} multiplies what rules pay for {on}, and no rule pays for it{hint}"));
}

/// Warns of a condition that is never true and of levels in it that no member has. Whether it can be true
/// as far as it is known by itself.
fn condition(programme: &Programme, condition: &Condition, written: &Value<'_>, who: &str) -> bool {
    for asked in condition.levels() {
        if let Some(message) = unknown_level(programme, &asked.level) {
            written.collector().report(&written.place_of_character(asked.at), message);
        }
    }
    let can_hold = Demands::of([condition]).is_some();
    if !can_hold {
        written.report(format!("this is never true, so that {who} never pays"));
    }
    can_hold
}

fn unknown_level(programme: &Programme, level: &str) -> Option<String> {
    let Some(tiers) = &programme.tiers else {
        return Some(format!("no member has the tier {}; the programme has no `tiers`", shown(level)));
    };
    let known: Vec<&str> = tiers.levels.iter().map(|level| level.id.as_str()).collect();
    if known.contains(&level) {
        return None;
    }
    let hint = match spelling::closest(level, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("the programme has {}", known.join(", ")),
    };
    Some(format!("no member has the tier {}; {hint}", shown(level)))
}
