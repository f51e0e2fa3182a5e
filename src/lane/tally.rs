//! What a batch did, gathered first and counted once the batch is committed, so that a batch that is
//! done again is not counted twice.

use foldhash::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

use super::flood::Seen;
use crate::entry::{Applied, Change, EntryKind, Origin, TierChange, TierWhy, Why};
use crate::event::{Reason, internal};
use crate::metrics::{EventResult, Metrics};
use crate::programme::{Programme, Versions};
use crate::rules::Unsure;
use crate::types::{EventType, Points, RewardId, TierId};

/// The label of types that the programme does not name: a label must not grow with what upstream sends.
const OTHER: &str = "other";

/// What a batch did.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// A batch meets few types, so a short list is searched.
    events: Vec<(Option<EventType>, EventResult, u64)>,
    duplicates: HashMap<&'static str, u64>,
    dead_letters: HashMap<&'static str, u64>,
    effects: Effects,
    published_ms: Vec<i64>,
}

/// What was decided: counted for each bucket right then, before what it is told by is forgotten.
#[derive(Debug, Default)]
pub(super) struct Effects {
    /// A batch meets few rules, so a short list is searched.
    points: Vec<(Origin, EntryKind, i64)>,
    /// Rewards that were given, by what gave them.
    rewards: HashMap<(Origin, RewardId), u64>,
    tier_changes: HashMap<(TierId, TierId), u64>,
    /// By the version, which its moment tells, and by the place in it.
    condition_failures: HashMap<(Option<Timestamp>, Unsure), u64>,
}

impl Effects {
    pub(super) fn applied(&mut self, applied: &Applied) {
        match &applied.change {
            Change::Entry(entry) if entry.kind == EntryKind::Granted => {
                let given = entry.reward.iter().map(|reward| (entry.by.clone(), reward.id.clone()));
                given.for_each(|given| *self.rewards.entry(given).or_default() += 1);
            }
            Change::Entry(entry) => {
                let Points(points) =
                    if entry.kind == EntryKind::Declined { entry.declined } else { entry.points };
                // A label must not grow with what upstream asks for.
                let is_unknown = matches!(entry.why, Some(Why::UnknownReward | Why::UnknownRedemption));
                let unknown = is_unknown.then(|| Origin::Redemption(RewardId::from(OTHER)));
                self.count_points(unknown.as_ref().unwrap_or(&entry.by), entry.kind, points.saturating_abs());
            }
            Change::Noted(_) => {}
            Change::Tier(TierChange { why: TierWhy::Kept | TierWhy::ReviewDue, .. }) => {}
            Change::Tier(change) => {
                *self.tier_changes.entry((change.from.clone(), change.to.clone())).or_default() += 1;
            }
        }
    }

    /// Conditions of this version could not be evaluated.
    pub(super) fn unsure(&mut self, programme: &Programme, unsure: &[Unsure]) {
        for what in unsure {
            *self.condition_failures.entry((programme.effective_from, *what)).or_default() += 1;
        }
    }

    fn count_points(&mut self, by: &Origin, kind: EntryKind, points: i64) {
        match self.points.iter_mut().find(|(other, of, _)| *of == kind && other == by) {
            Some((_, _, sum)) => *sum = sum.saturating_add(points),
            None => self.points.push((by.clone(), kind, points)),
        }
    }

    /// Adds those of another bucket.
    fn add(&mut self, other: Self) {
        for (by, kind, points) in other.points {
            self.count_points(&by, kind, points);
        }
        for (given, number) in other.rewards {
            *self.rewards.entry(given).or_default() += number;
        }
        for (change, number) in other.tier_changes {
            *self.tier_changes.entry(change).or_default() += number;
        }
        for (failure, number) in other.condition_failures {
            *self.condition_failures.entry(failure).or_default() += number;
        }
    }
}

impl Tally {
    pub(super) fn event(&mut self, kind: Option<&EventType>, result: EventResult) {
        let known = self.events.iter_mut().find(|(of, as_, _)| *as_ == result && of.as_ref() == kind);
        match known {
            Some((_, _, number)) => *number += 1,
            None => self.events.push((kind.cloned(), result, 1)),
        }
    }

    pub(super) fn duplicate(&mut self, by: &'static str) {
        *self.duplicates.entry(by).or_default() += 1;
    }

    pub(super) fn dead_letter(&mut self, reason: Reason) {
        *self.dead_letters.entry(reason.as_str()).or_default() += 1;
    }

    /// What it did as far as dead letters are concerned. What accrual told itself says nothing about upstream.
    pub(super) fn seen(&self) -> Seen {
        let mut seen = Seen::default();
        for (kind, result, number) in &self.events {
            let is_letter = *result == EventResult::DeadLetter;
            let was_looked_at = [EventResult::Applied, EventResult::Duplicate];
            let is_own = kind.as_ref().is_some_and(|kind| internal::is_reserved(kind.as_str()));
            if is_letter || (was_looked_at.contains(result) && !is_own) {
                seen.events = seen.events.saturating_add(*number);
                seen.letters = seen.letters.saturating_add(if is_letter { *number } else { 0 });
            }
        }
        seen
    }

    /// The reason that most of its dead letters have.
    pub(super) fn usual_dead_letter(&self) -> Option<&'static str> {
        self.dead_letters
            .iter()
            .max_by_key(|(reason, number)| (**number, **reason))
            .map(|(reason, _)| *reason)
    }

    /// What was decided for a bucket counts.
    pub(super) fn decided(&mut self, effects: Effects) {
        self.effects.add(effects);
    }

    /// An event that was published at this time (milliseconds since 1970) is now awarded.
    pub(super) fn awarded(&mut self, published_ms: Option<i64>) {
        self.published_ms.extend(published_ms);
    }

    /// Adds all of it to the metrics. Called when the batch is committed, now.
    pub(super) fn count(self, metrics: &Metrics, versions: &Versions) {
        for (kind, result, number) in self.events {
            let kind = kind.as_ref().map_or(OTHER, EventType::as_str);
            metrics.events.with_label_values(&[kind, result.as_str()]).inc_by(number);
        }
        for (by, number) in self.duplicates {
            metrics.duplicates.with_label_values(&[by]).inc_by(number);
        }
        for (reason, number) in self.dead_letters {
            metrics.dead_letters.with_label_values(&[reason]).inc_by(number);
        }
        for (by, kind, points) in self.effects.points {
            let points = u64::try_from(points).unwrap_or_default();
            metrics.points.with_label_values(&[by.kind(), by.name(), kind.as_str()]).inc_by(points);
        }
        for ((by, reward), number) in self.effects.rewards {
            metrics.rewards.with_label_values(&[by.name(), reward.as_str()]).inc_by(number);
        }
        for ((from, to), number) in self.effects.tier_changes {
            metrics.tier_changes.with_label_values(&[from.as_str(), to.as_str()]).inc_by(number);
        }
        for ((from, what), number) in self.effects.condition_failures {
            let Some(programme) = versions.iter().find(|version| version.effective_from == from) else {
                continue;
            };
            let name = match what {
                Unsure::Rule(at) => programme.rules.get(at).map(|rule| rule.id.as_str()),
                Unsure::Campaign(at) => programme.campaigns.get(at).map(|campaign| campaign.id.as_str()),
            };
            if let Some(name) = name {
                metrics.condition_failures.with_label_values(&[name]).inc_by(number);
            }
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        // Gathered, because all lanes count in the same place.
        let seconds = metrics.end_to_end_seconds.local();
        for published in self.published_ms {
            // Clocks of two machines may differ; an award is never earlier than its event.
            let millis = now.saturating_sub(published).max(0);
            seconds.observe(millis as f64 / 1_000.0);
        }
    }
}
