//! Decides an event again and says what came of each rule, the tier and each campaign. Pure.

use rust_decimal::Decimal;

use super::{ItemStep, Recorded, Step, StepResult};
use crate::account::{Account, Retention};
use crate::account_view::By;
use crate::entry::{Change, Entry, EntryKind, Origin, Why};
use crate::event::Event;
use crate::programme::campaign::{Campaign, Days, During, Pays};
use crate::programme::condition::{Condition, Expression, Failure};
use crate::programme::{Each, Earn, Limit, Most, Period, Programme, Rule};
use crate::rules::{self, Outside, Part, Refusal, Unpaid, Watch};
use crate::store::ReceiptKey;
use crate::types::{CampaignId, Points};

/// What an event comes to, decided again.
pub(super) struct Again {
    /// Every rule and campaign on its type.
    pub(super) steps: Vec<Step>,
    /// As the ledger would hold it.
    pub(super) lines: Vec<Recorded>,
}

/// Decides an event again on the account as it was before it. What lay outside of the account then is told from what is
/// recorded of the event: what a budget had left, and what was paid before that is paid once ever. Of the latter
/// `paid_before` says what the record does not.
pub(super) fn decide(
    programme: &Programme,
    before: &Account,
    event: &Event,
    retention: &Retention,
    recorded: &[Recorded],
    paid_before: &dyn Fn(&ReceiptKey) -> bool,
) -> Result<Again, Refusal> {
    let left = |campaign: &CampaignId| left_of(programme, campaign, recorded);
    let paid_before = |key: &ReceiptKey| {
        let of_rule = |line: &&Recorded| {
            let rule = line.rule.as_ref();
            rule.is_some_and(|rule| {
                key.strip_prefix("o ").is_some_and(|key| key.starts_with(&format!("{rule} ")))
            })
        };
        let mut lines = recorded.iter().filter(of_rule).peekable();
        if lines.peek().is_none() {
            return paid_before(key);
        }
        lines.any(|line| line.reason == Some(Why::AlreadyPaid))
    };
    let mut heard = Heard::default();
    let mut account = before.clone();
    let outside = Outside { paid_before: &paid_before, left: &left, ..Outside::UNTOUCHED };
    let outcome = rules::apply_watched(programme, &mut account, event, retention, &outside, &mut heard)?;
    let changes = || outcome.applied.iter().map(|applied| &applied.change);
    let entries: Vec<&Entry> = changes()
        .filter_map(|change| match change {
            Change::Entry(entry) => Some(&**entry),
            Change::Tier(_) | Change::Noted(_) => None,
        })
        .collect();
    let steps = steps(programme, event, &entries, &heard);
    Ok(Again { steps, lines: changes().filter_map(Recorded::of_change).collect() })
}

/// What was left of a campaign's budget: what it paid, where that cut it; nothing, where another of its group paid
/// instead; else more than was wanted.
fn left_of(programme: &Programme, campaign: &CampaignId, recorded: &[Recorded]) -> Points {
    let lines = || recorded.iter().filter(|line| line.campaign.as_ref() == Some(campaign));
    if lines().any(|line| line.reason == Some(Why::Budget)) {
        return Points(lines().map(|line| line.points.0).sum());
    }
    let group_of = |id: &CampaignId| {
        let campaign = programme.campaigns.iter().find(|campaign| campaign.id == *id);
        campaign.and_then(|campaign| campaign.group.as_deref())
    };
    let group = group_of(campaign);
    let paid = |other: &CampaignId| other != campaign && group_of(other) == group;
    let lost = group.is_some() && recorded.iter().filter_map(|line| line.campaign.as_ref()).any(paid);
    Points(if lost { 0 } else { i64::MAX })
}

/// What was heard while the event was decided.
#[derive(Default)]
struct Heard {
    rules: Vec<(usize, Option<usize>, Unpaid)>,
    campaigns: Vec<(usize, Unpaid)>,
}

impl Watch for Heard {
    fn rule(&mut self, at: usize, item: Option<usize>, why: impl FnOnce() -> Unpaid) {
        self.rules.push((at, item, why()));
    }

    fn campaign(&mut self, at: usize, why: impl FnOnce() -> Unpaid) {
        self.campaigns.push((at, why()));
    }
}

fn steps(programme: &Programme, event: &Event, entries: &[&Entry], heard: &Heard) -> Vec<Step> {
    let mut steps = Vec::new();
    let Some(paying) = programme.by_type.get(&event.kind) else { return steps };
    for (&at, rule) in paying.rules.iter().filter_map(|at| Some((at, programme.rules.get(*at)?))) {
        let of_rule = || heard.rules.iter().filter(|(heard, ..)| *heard == at);
        let unpaid = of_rule().find_map(|(_, item, why)| item.is_none().then(|| unpaid_rule(rule, why)));
        let mut step = unpaid.unwrap_or_else(|| paid_rule(rule, entries));
        let item = |item: &Option<usize>, why| Some(ItemStep { item: (*item)? + 1, why: in_words(why) });
        step.items = of_rule().filter_map(|(_, at, why)| item(at, why)).collect();
        steps.push(step);
        let streak = Origin::Streak(rule.id.clone());
        steps.extend(entries.iter().filter(|entry| entry.by == streak).map(|entry| {
            let days = entry.streak.unwrap_or_default();
            Step {
                points: entry.points,
                ..step_of(&streak, StepResult::Paid, format!("{days} days in a row"))
            }
        }));
    }
    // Rules on another type that waited for this event.
    let others = programme.rules.iter().enumerate().filter(|(at, _)| !paying.rules.contains(at));
    let paid_now =
        |rule: &Rule| entries.iter().any(|entry| matches!(&entry.by, Origin::Rule(id) if *id == rule.id));
    steps.extend(others.filter(|(_, rule)| paid_now(rule)).map(|(_, rule)| paid_rule(rule, entries)));
    for entry in entries.iter().filter(|entry| matches!(entry.by, Origin::Tier(_))) {
        let why = more_on_base(entry.of, entry.factor);
        steps.push(Step { points: entry.points, ..step_of(&entry.by, StepResult::Paid, why) });
    }
    for (&at, campaign) in paying.campaigns.iter().filter_map(|at| Some((at, programme.campaigns.get(*at)?)))
    {
        let unpaid = heard.campaigns.iter().find(|(heard, _)| *heard == at);
        let unpaid = unpaid.map(|(_, why)| unpaid_campaign(programme, campaign, why));
        steps.push(unpaid.unwrap_or_else(|| paid_campaign(campaign, entries)));
    }
    steps
}

fn paid_rule(rule: &Rule, entries: &[&Entry]) -> Step {
    let once_per = rule.once_per.as_ref().map(Expression::source);
    let computed = |of, _| earned(rule.earn, of);
    paid(&Origin::Rule(rule.id.clone()), entries, &rule.limits, &computed, once_per)
}

fn paid_campaign(campaign: &Campaign, entries: &[&Entry]) -> Step {
    let computed = |of, factor| match campaign.pays {
        Pays::Add(points) => counted(points, "", " each time"),
        Pays::Multiply(_) => more_on_base(of, factor),
    };
    paid(&Origin::Campaign(campaign.id.clone()), entries, &campaign.limits, &computed, None)
}

/// The step of what matched: its entries in one. `once_per` is what it pays once ever for each of, if it does.
fn paid(
    by: &Origin,
    entries: &[&Entry],
    limits: &[Limit],
    computed: &dyn Fn(Option<Decimal>, Option<Decimal>) -> String,
    once_per: Option<&str>,
) -> Step {
    if !entries.iter().any(|entry| entry.by == *by) {
        return step_of(by, StepResult::Nothing, "it matched, and made no entry".to_owned());
    }
    let mut step = step_of(by, StepResult::Paid, String::new());
    let mut words = Vec::new();
    for entry in entries.iter().filter(|entry| entry.by == *by) {
        if words.is_empty() {
            words.extend(Some(computed(entry.of, entry.factor)).filter(|words| !words.is_empty()));
        }
        step.reward = step.reward.or_else(|| entry.reward.as_ref().map(|reward| reward.id.clone()));
        match entry.kind {
            EntryKind::Earned | EntryKind::Pending => {
                step.points = Points(step.points.0.saturating_add(entry.points.0));
            }
            EntryKind::Declined => {
                let has_paid = step.points != Points::ZERO;
                step.result = if has_paid { StepResult::Cut } else { StepResult::Declined };
                (step.declined, step.reason) = (Some(entry.declined), entry.why);
                words.extend(entry.why.map(|why| cut_in_words(why, entry, limits, once_per)));
            }
            EntryKind::Granted => {
                if step.result == StepResult::Declined {
                    step.result = StepResult::Cut; // of points alone
                }
                words.extend(entry.reward.as_ref().map(|reward| format!("gives {reward}")));
            }
            _ => {} // nothing that a rule or a campaign pays
        }
    }
    step.why = words.join("; ");
    step
}

fn step_of(by: &Origin, result: StepResult, why: String) -> Step {
    let By { rule, streak_of, tier, campaign, .. } = By::of(by);
    let (points, declined, reward, reason) = (Points::ZERO, None, None, None);
    let (condition, items) = (None, Vec::new());
    Step { rule, streak_of, tier, campaign, result, points, declined, reward, reason, why, condition, items }
}

fn unpaid_rule(rule: &Rule, why: &Unpaid) -> Step {
    let condition = match why {
        Unpaid::Failed(Part::Of, _) => rule.of.as_ref().map(Expression::source),
        Unpaid::Failed(Part::OncePer, _) => rule.once_per.as_ref().map(Expression::source),
        _ => rule.when.as_ref().map(Condition::source),
    };
    let words = match (why, rule.each) {
        (Unpaid::When, Each::Item) if rule.when.is_none() => "the order has no items".to_owned(),
        (Unpaid::When, Each::Item) => "`when` held for no item".to_owned(),
        _ => in_words(why),
    };
    let step = step_of(&Origin::Rule(rule.id.clone()), result(why), words);
    Step { condition: condition.map(str::to_owned), ..step }
}

fn unpaid_campaign(programme: &Programme, campaign: &Campaign, why: &Unpaid) -> Step {
    let source = |condition: &Option<Condition>| condition.as_ref().map(|when| when.source().to_owned());
    let condition = match why {
        Unpaid::When | Unpaid::Failed(Part::When, _) => source(&campaign.when),
        Unpaid::Audience | Unpaid::Failed(Part::Audience, _) => source(&campaign.audience),
        _ => None,
    };
    let words = match why {
        Unpaid::During => during_in_words(programme, campaign.during),
        Unpaid::Group(winner) => {
            let group = campaign.group.as_deref().unwrap_or_default();
            let or = if campaign.budget.is_some() { "; or its budget had less left" } else { "" };
            format!("of the group {group} only the best pays, which was {winner}{or}")
        }
        _ => in_words(why),
    };
    Step { condition, ..step_of(&Origin::Campaign(campaign.id.clone()), result(why), words) }
}

fn result(why: &Unpaid) -> StepResult {
    match why {
        Unpaid::When => StepResult::When,
        Unpaid::Audience => StepResult::Audience,
        Unpaid::During => StepResult::During,
        Unpaid::NoBase => StepResult::NoBase,
        Unpaid::Group(_) => StepResult::Group,
        Unpaid::Referrer => StepResult::Referrer,
        Unpaid::Waits => StepResult::Waits,
        Unpaid::NotReferred => StepResult::NotReferred,
        Unpaid::Failed(..) => StepResult::Failed,
    }
}

fn in_words(why: &Unpaid) -> String {
    match why {
        Unpaid::When => "`when` did not hold".to_owned(),
        Unpaid::Audience => "`audience` did not hold".to_owned(),
        Unpaid::During => "not in its period".to_owned(),
        Unpaid::NoBase => "the rules paid too little for a point more".to_owned(),
        Unpaid::Group(winner) => format!("{winner} of its group paid more"),
        Unpaid::Referrer => "it pays the referrer, by an event of their own".to_owned(),
        Unpaid::Waits => "it pays with the first order".to_owned(),
        Unpaid::NotReferred => "nobody referred the member".to_owned(),
        Unpaid::Failed(part, why) => {
            let part = match part {
                Part::When => "when",
                Part::Audience => "audience",
                Part::Of => "earn.of",
                Part::OncePer => "once_per",
            };
            let why = match why {
                Failure::Missing(field) => format!("`{field}` is not known"),
                other => other.to_string(),
            };
            format!("`{part}` cannot be evaluated ({why}) and so does not hold")
        }
    }
}

/// How a rule's points were computed: `42.99 × 1 per 1.00`.
fn earned(earn: Earn, of: Option<Decimal>) -> String {
    match (earn, of) {
        (Earn::Nothing, _) => String::new(),
        (Earn::Fixed(points), _) => counted(points, "", " each time"),
        (Earn::PerAmount { points, per }, Some(of)) => format!("{of} × {points} per {per}"),
        (Earn::PerAmount { points, per }, None) => format!("{points} per {per}"),
    }
}

/// How a tier's or a campaign's points were computed: `42 × (1.1 − 1)`.
fn more_on_base(of: Option<Decimal>, factor: Option<Decimal>) -> String {
    of.zip(factor).map(|(of, factor)| format!("{of} × ({factor} − 1)")).unwrap_or_default()
}

fn counted(points: Points, before: &str, after: &str) -> String {
    let unit = if points.0 == 1 { "point" } else { "points" };
    format!("{before}{points} {unit}{after}")
}

fn cut_in_words(why: Why, entry: &Entry, limits: &[Limit], once_per: Option<&str>) -> String {
    let limits_of = |is: &dyn Fn(&Most) -> bool| {
        let those = limits.iter().filter(|limit| is(&limit.most)).map(limit_in_words);
        those.collect::<Vec<_>>().join(", ")
    };
    let cut = match &entry.reward {
        None => counted(entry.declined, "", " cut"),
        Some(reward) if entry.declined == Points::ZERO => format!("{} not given", reward.id),
        Some(reward) => counted(entry.declined, "", &format!(" and {} cut", reward.id)),
    };
    match why {
        Why::LimitTimes => {
            format!("{cut}: the limit of {}", limits_of(&|most| matches!(most, Most::Times(_))))
        }
        Why::LimitPoints => {
            format!("{cut}: the limit of {}", limits_of(&|most| matches!(most, Most::Points(_))))
        }
        Why::BelowOnePoint if entry.reward.is_some() => format!("{cut}: too little for a whole point"),
        Why::BelowOnePoint => "too little for a whole point".to_owned(),
        Why::TooLate => format!("{cut}: so late that what its limits have counted is not known any more"),
        Why::AlreadyPaid => format!("{cut}: paid before, once for each `{}`", once_per.unwrap_or_default()),
        Why::RegisteredBefore => format!("{cut}: the member had registered before"),
        Why::SelfReferral => format!("{cut}: nobody refers themselves"),
        Why::NotANewcomer => format!("{cut}: the member had referred others before, and so is no newcomer"),
        Why::JoinedLater => format!("{cut}: the member registered no earlier than whom they referred"),
        Why::Budget => format!("{cut}: the campaign's budget had no more left"),
        Why::OutOfStock => format!("{cut}: there are none left"),
        Why::AccountClosed => format!("{cut}: the account is closed"),
        // Of what no rule or campaign pays.
        other => format!("{cut}: {}", other.as_str().replace('_', " ")),
    }
}

fn limit_in_words(limit: &Limit) -> String {
    let per = match limit.per {
        Period::Day => "a day",
        Period::Week => "a week",
        Period::Month => "a month",
        Period::Year => "a year",
        Period::Ever => "for ever",
    };
    match limit.most {
        Most::Times(1) => format!("once {per}"),
        Most::Times(times) => format!("{times} times {per}"),
        Most::Points(points) => counted(points, "", &format!(" {per}")),
    }
}

fn during_in_words(programme: &Programme, during: During) -> String {
    const WEEK: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let days = |all: std::ops::RangeInclusive<i8>, days: Days, name: &dyn Fn(i8) -> String| {
        all.filter(|day| days.contains(*day)).map(name).collect::<Vec<_>>().join(", ")
    };
    let when = match during {
        During::Always => "always".to_owned(),
        During::Between { from, until } => {
            let clock = |time| programme.zone.to_datetime(time).strftime("%Y-%m-%d %H:%M").to_string();
            format!("from {} until {}", clock(from), clock(until))
        }
        During::Weekly(those) => {
            let name = |day: i8| {
                usize::try_from(day - 1)
                    .ok()
                    .and_then(|day| WEEK.get(day))
                    .map_or_else(String::new, |day| (*day).to_owned())
            };
            format!("each {}", days(1..=7, those, &name))
        }
        During::Monthly(those) => {
            format!("on day {} of the month", days(1..=31, those, &|day| day.to_string()))
        }
        During::Birthday => return "not the member's birthday".to_owned(),
    };
    format!("not in its period, {when}")
}
