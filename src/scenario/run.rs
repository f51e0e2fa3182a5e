//! Runs a scenario: its events as CloudEvents through the decoder and the rules of the worker.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use super::diff::compare;
use super::receipts::Receipts;
use super::{Difference, Expect, ExpectedAccount, Failure, Line, Moment, Scenario, Step, data};
use crate::account::{Account, Retention};
use crate::entry::{Message, Renderer};
use crate::event::decode::{Decoded, Decoder};
use crate::event::internal;
use crate::event::{Event, Reason, Rejected};
use crate::log::Record;
use crate::programme::{Programme, Versions};
use crate::rules::clock::{self, What};
use crate::rules::{self, Outside, Refusal};
use crate::spelling;
use crate::store::ReceiptKey;
use crate::types::{CampaignId, Coordinates, EventType, MemberId, Occasion, Points, TopicName};
use crate::yaml::MAX_BYTES;

/// Runs scenarios under the versions of one programme.
#[derive(Debug)]
pub struct Runner<'p> {
    versions: &'p Versions,
    decoder: Decoder,
    renderer: Renderer,
    retention: Retention,
}

/// The topics that events come from: steps, and what accrual tells itself.
const STEPS: &str = "scenario";
const INTERNAL: &str = "internal";

/// What became of an event.
enum Came {
    Counted(Vec<Line>),
    /// It repeats this step.
    Duplicate(usize),
    Skipped(EventType),
    Refused(Rejected),
}

/// What a scenario has done so far.
#[derive(Default)]
struct World {
    accounts: BTreeMap<MemberId, Account>,
    receipts: Receipts,
    /// What is remembered of orders and redemptions.
    records: HashMap<ReceiptKey, Box<str>>,
    /// What was taken of budgets.
    spent: BTreeMap<CampaignId, Points>,
    latest: Timestamp,
    /// The member of the step, whose changes need no name.
    of_step: Option<MemberId>,
}

impl<'p> Runner<'p> {
    /// A runner whose accounts remember as much as a worker's with this retention.
    pub fn new(versions: &'p Arc<Versions>, retention: Retention) -> Self {
        // An event is no larger than the file that it stands in.
        let decoder = Decoder::of(versions, MAX_BYTES * 2).with_internal(TopicName::from(INTERNAL));
        let renderer = Renderer::new(&versions.first().name);
        Self { versions, decoder, renderer, retention }
    }

    /// Runs a scenario from no accounts to its end; a failure for each place that is not as expected.
    pub fn run(&self, scenario: &Scenario) -> Vec<Failure> {
        let mut world = World::default();
        let mut failures = Vec::new();
        for (at, step) in scenario.steps.iter().enumerate() {
            let number = at + 1;
            let time = step.time.at(&self.versions.first().zone);
            world.latest = if at == 0 { time.timestamp() } else { world.latest.max(time.timestamp()) };
            let came = self.step(step, number, &time, &mut world);
            let differences = differences(&step.expect, &came, self.versions.at(time.timestamp()));
            if !differences.is_empty() {
                let time = time.strftime("%Y-%m-%d %H:%M:%S");
                let what = format!("step {number}, {} of {} at {time}", step.on, step.member);
                failures.push(Failure { line: step.line, what, differences });
            }
        }
        failures.extend(scenario.then.iter().filter_map(|expected| self.account(expected, &world)));
        failures
    }

    fn step(&self, step: &Step, number: usize, time: &Zoned, world: &mut World) -> Came {
        world.of_step = Some(step.member.clone());
        let occasion = internal::occasion(step.on.as_str());
        if occasion.is_some() || step.on.as_str() == internal::CAME {
            return self.strike(occasion, step, number, time, world);
        }
        self.arrive(&self.step_record(step, number, time), &step.on, number, world)
    }

    /// The clock comes to a member's day, or to what else has fallen due, if it does at this time.
    fn strike(
        &self,
        occasion: Option<Occasion>,
        step: &Step,
        number: usize,
        time: &Zoned,
        world: &mut World,
    ) -> Came {
        let (member, kind) = (&step.member, &step.on);
        let now = time.timestamp();
        let account = world.accounts.get(member);
        let due = account.map(|account| clock::due(self.versions.at(now), account, now)).unwrap_or_default();
        let version = account.map_or(0, |account| account.version);
        let payload = due.iter().find_map(|due| match (&due.what, occasion) {
            (What::Celebration(day), Some(occasion)) if day.occasion == occasion => {
                Some(self.renderer.occasion(member, day, &due.time))
            }
            (What::Account, None) => Some(self.renderer.came(member, version, due.at.as_second(), &due.time)),
            (What::Refund(waiting), None) => Some(self.renderer.waited(member, waiting, &due.time)),
            _ => None,
        });
        let Some(payload) = payload else {
            let detail =
                format!("the clock does not say {kind} of {member} now; it does once something is due");
            return Came::Refused(Rejected::new(Reason::ReservedType, detail));
        };
        self.arrive(&record(INTERNAL, number, payload), kind, number, world)
    }

    fn arrive(&self, record: &Record, kind: &EventType, number: usize, world: &mut World) -> Came {
        match self.decoder.decode(record) {
            Err(rejected) => Came::Refused(rejected),
            Ok(Decoded::Skipped) => Came::Skipped(kind.clone()),
            Ok(Decoded::Event(event)) => match world.receipts.find(&event) {
                Err(rejected) => Came::Refused(rejected),
                Ok(Some(repeated)) => Came::Duplicate(repeated),
                Ok(None) => self.count(&event, number, world),
            },
        }
    }

    fn count(&self, event: &Event, number: usize, world: &mut World) -> Came {
        let member = &event.member;
        let account = world.accounts.entry(member.clone()).or_insert_with(|| Account::new(member.clone()));
        let (receipts, spent) = (&world.receipts, &world.spent);
        let paid_before = |key: &ReceiptKey| receipts.has(key);
        let programme = self.versions.at(event.time);
        let left = |campaign: &CampaignId| left(programme, campaign, spent);
        let records = &world.records;
        let recorded = |key: &ReceiptKey| records.get(key).cloned();
        let outside = Outside { paid_before: &paid_before, left: &left, record: &recorded };
        match rules::apply(programme, account, event, &self.retention, &outside) {
            Ok(outcome) => {
                for draw in outcome.draws {
                    let spent = world.spent.entry(draw.campaign).or_default();
                    *spent = Points(spent.0.saturating_add(draw.paid.0));
                }
                for (campaign, points) in outcome.returns {
                    let spent = world.spent.entry(campaign).or_default();
                    *spent = Points(spent.0.saturating_sub(points.0));
                }
                world.records.extend(outcome.records);
                world.receipts.keep(event, &outcome.once, number);
                let is_of_step = world.of_step.as_ref() == Some(member);
                let named = |line: Line| if is_of_step { line } else { line.of_member(member) };
                let mut lines: Vec<Line> = outcome.applied.iter().filter_map(Line::came).map(named).collect();
                for message in &outcome.messages {
                    if let Message::Unclaimed(_) = message {
                        continue; // upstream hears of it
                    }
                    let record = record(INTERNAL, number, self.renderer.message(event, message));
                    if let Came::Counted(more) = self.arrive(&record, &event.kind, number, world) {
                        lines.extend(more);
                    }
                }
                Came::Counted(lines)
            }
            Err(refusal @ Refusal::TooManyWaiting) => {
                Came::Refused(Rejected::new(Reason::TooManyWaiting, refusal.to_string()))
            }
            Err(refusal) => Came::Refused(Rejected::new(Reason::PointsOverflow, refusal.to_string())),
        }
    }

    /// The step as upstream would send it. What a worker needs and a scenario seldom cares for is
    /// filled in: id, source, and by type the order's id and currency or the review's id.
    fn step_record(&self, step: &Step, number: usize, time: &Zoned) -> Record {
        let id = step.id.clone().unwrap_or_else(|| format!("step-{number}"));
        let id = data::text(&id);
        let source = data::text(step.source.as_deref().unwrap_or("scenario"));
        let currency = data::text(&self.versions.first().currency);
        let member = data::text(step.member.as_str());
        let filled_in: &[(&str, &str)] = match step.on.as_str() {
            "order.paid" => &[("member_id", &member), ("order_id", &id), ("currency", &currency)],
            "review.posted" => &[("member_id", &member), ("review_id", &id)],
            "order.refunded" => &[("member_id", &member), ("refund_id", &id)],
            "redemption.requested" => &[("member_id", &member), ("redemption_id", &id)],
            "points.transferred" => &[("member_id", &member), ("transfer_id", &id)],
            "points.adjusted" => &[
                ("member_id", &member),
                ("adjustment_id", &id),
                ("reason", r#""scenario""#),
                ("by", r#""scenario""#),
            ],
            _ => &[("member_id", &member)],
        };
        let is_given = |key: &str| step.data.iter().any(|(given, _)| given == key);
        let given = step.data.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let fields = filled_in.iter().copied().filter(|(key, _)| !is_given(key)).chain(given);
        let event = data::object([
            ("specversion", r#""1.0""#),
            ("id", &id),
            ("source", &source),
            ("type", &data::text(step.on.as_str())),
            ("time", &data::text(&time.timestamp().to_string())),
            ("data", &data::object(fields)),
        ]);
        record(STEPS, number, event.into_bytes())
    }

    fn account(&self, expected: &ExpectedAccount, world: &World) -> Option<Failure> {
        let nobody = Account::new(expected.member.clone());
        let account = world.accounts.get(&expected.member).unwrap_or(&nobody);
        let programme = self.versions.at(world.latest);
        let mut first_line = None;
        let mut differences = Vec::new();
        for (fact, line, wanted) in &expected.facts {
            let came = fact.of(programme, account, world.latest);
            if came != *wanted {
                first_line.get_or_insert(*line);
                differences.push(Difference::Missing(format!("{}: {wanted}", fact.as_str())));
                differences.push(Difference::Surplus(format!("{}: {came}", fact.as_str())));
            }
        }
        let what = format!("the account of {} in the end", expected.member);
        first_line.map(|line| Failure { line, what, differences })
    }
}

/// What is left of a campaign's budget.
fn left(programme: &Programme, campaign: &CampaignId, spent: &BTreeMap<CampaignId, Points>) -> Points {
    let budget = programme.budget(campaign).unwrap_or_default();
    let spent = spent.get(campaign).copied().unwrap_or_default();
    Points(budget.0.saturating_sub(spent.0).max(0))
}

fn record(topic: &str, number: usize, payload: Vec<u8>) -> Record {
    let offset = i64::try_from(number).unwrap_or(i64::MAX);
    Record {
        at: Coordinates { topic: topic.into(), partition: 0, offset },
        published_ms: None,
        key: None,
        payload: Some(payload),
        headers: Vec::new(),
    }
}

impl Moment {
    /// On the clocks of a zone. An hour that they skip is the one after it, an hour that they repeat
    /// the first.
    pub(super) fn at(self, zone: &TimeZone) -> Zoned {
        match self {
            Moment::Exact(time) => time.to_zoned(zone.clone()),
            Moment::Local(time) => {
                let time = zone.to_ambiguous_zoned(time).compatible();
                // Only years out of reach are no moment, and those are not read.
                time.unwrap_or_else(|_| Timestamp::UNIX_EPOCH.to_zoned(zone.clone()))
            }
        }
    }
}

/// Where what came is not what was expected.
fn differences(expect: &Expect, came: &Came, programme: &Programme) -> Vec<Difference> {
    let surplus = match (expect, came) {
        (Expect::Counts, Came::Counted(_))
        | (Expect::Duplicate, Came::Duplicate(_))
        | (Expect::Skipped, Came::Skipped(_)) => return Vec::new(),
        (Expect::DeadLetter(reason), Came::Refused(rejected)) if rejected.reason == *reason => {
            return Vec::new();
        }
        (Expect::Lines(expected), Came::Counted(lines)) => {
            let show = |line: &Line| line.shown_beside(expected).to_string();
            return compare(expected, lines, |expected, line| line.is(expected), Line::to_string, show);
        }
        (_, Came::Counted(lines)) if lines.is_empty() => vec!["[]  # it counts and pays nothing".to_owned()],
        (_, Came::Counted(lines)) => lines.iter().map(Line::to_string).collect(),
        (_, Came::Duplicate(step)) => vec![format!("duplicate  # it repeats step {step}")],
        (_, Came::Skipped(kind)) => vec![skipped(kind, programme)],
        (_, Came::Refused(rejected)) => {
            vec![format!("{{dead_letter: {}}}  # {}", rejected.reason.as_str(), rejected.detail)]
        }
    };
    let missing = match expect {
        Expect::Counts => vec!["an event that counts".to_owned()],
        Expect::Lines(lines) if lines.is_empty() => vec!["[]".to_owned()],
        Expect::Lines(lines) => lines.iter().map(Line::to_string).collect(),
        Expect::Duplicate => vec!["duplicate".to_owned()],
        Expect::Skipped => vec!["skipped".to_owned()],
        Expect::DeadLetter(reason) => vec![format!("{{dead_letter: {}}}", reason.as_str())],
    };
    let missing = missing.into_iter().map(Difference::Missing);
    missing.chain(surplus.into_iter().map(Difference::Surplus)).collect()
}

fn skipped(kind: &EventType, programme: &Programme) -> String {
    let known = programme.by_type.keys().map(EventType::as_str);
    let hint = match spelling::closest(kind.as_str(), known) {
        Some(near) => format!("; did you mean {near}?"),
        None => String::new(),
    };
    format!("skipped  # the programme has no rule on {kind}{hint}")
}
