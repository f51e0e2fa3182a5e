//! Campaigns that pile up: several that multiply, on the same event, with no group that would let only the
//! best of them pay.

use std::cmp::Reverse;
use std::collections::HashSet;

use jiff::Timestamp;
use rust_decimal::Decimal;

use super::meeting::Meeting;
use super::{never, warn};
use crate::programme::Programme;
use crate::programme::campaign::{Campaign, Pays};
use crate::types::{EventType, Points};
use crate::yaml::{Map, shown};

/// A campaign that may pay, by its place in the programme.
struct Candidate<'p> {
    at: usize,
    campaign: &'p Campaign,
    meeting: Meeting,
}

/// Campaigns that can be on together, of each group one.
struct Pile<'c, 'p> {
    members: Vec<&'c Candidate<'p>>,
    meeting: Meeting,
}

/// Warns of the piles, each at the last campaign in the file that multiplies.
///
/// A pile begins with the campaign that multiplies most of those that no pile names yet, and takes in all
/// that can be on with those that it has, those that multiply most first. So every campaign that can meet
/// another is named once at least, with the most that it reaches, and a warning does not come for each pair.
pub(super) fn find(programme: &Programme, written: &[Map<'_>], now: Timestamp) {
    let mut kinds: Vec<&EventType> = programme.campaigns.iter().map(|campaign| &campaign.on).collect();
    kinds.sort_unstable();
    kinds.dedup();
    for kind in kinds.into_iter().filter(|kind| never::has_base(programme, kind)) {
        let mut candidates = candidates(programme, kind, now);
        candidates.sort_by_key(|candidate| Reverse(worth(candidate.campaign)));
        let mut named = HashSet::new();
        for first in candidates.iter().filter(|candidate| factor(candidate.campaign).is_some()) {
            if named.contains(&first.at) {
                continue;
            }
            let pile = Pile::around(first, &candidates, programme);
            named.extend(pile.names(&candidates, programme));
            if pile.multiplying().count() > 1
                && let Some(last) = pile.multiplying().map(|member| member.at).max()
                && let Some(map) = written.get(last)
            {
                warn(map, "id", pile.message(kind));
            }
        }
    }
}

/// The campaigns on an event type that may still pay.
fn candidates<'p>(programme: &'p Programme, kind: &EventType, now: Timestamp) -> Vec<Candidate<'p>> {
    let of_kind = programme.campaigns.iter().enumerate().filter(|(_, campaign)| campaign.on == *kind);
    let may_pay = of_kind.filter(|(_, campaign)| !never::has_ended(campaign, now));
    let candidate = |(at, campaign)| Some(Candidate { at, campaign, meeting: Meeting::of(campaign)? });
    may_pay.filter_map(candidate).collect()
}

/// By which the strongest come first: those that multiply before those that add.
fn worth(campaign: &Campaign) -> (Option<Decimal>, Points) {
    match campaign.pays {
        Pays::Multiply(factor) => (Some(factor), Points::ZERO),
        Pays::Add(points) => (None, points),
    }
}

fn factor(campaign: &Campaign) -> Option<Decimal> {
    worth(campaign).0
}

fn share_a_group(one: &Campaign, other: &Campaign) -> bool {
    one.group.is_some() && one.group == other.group
}

impl<'c, 'p> Pile<'c, 'p> {
    fn around(first: &'c Candidate<'p>, candidates: &'c [Candidate<'p>], programme: &Programme) -> Self {
        let mut pile = Self { members: vec![first], meeting: first.meeting.clone() };
        for candidate in candidates {
            let is_in = |member: &&Candidate<'_>| {
                member.at == candidate.at || share_a_group(member.campaign, candidate.campaign)
            };
            if pile.members.iter().any(is_in) {
                continue;
            }
            if let Some(meeting) = pile.meeting.and(&candidate.meeting, &programme.zone) {
                pile.members.push(candidate);
                pile.meeting = meeting;
            }
        }
        pile.members.sort_by_key(|member| member.at);
        pile
    }

    /// The campaigns that the pile speaks of: its own, and those that would come in the place of one that
    /// is worth more.
    fn names(&self, candidates: &[Candidate<'_>], programme: &Programme) -> Vec<usize> {
        let is_named = |candidate: &&Candidate<'_>| {
            let mut members = self.members.iter();
            members.any(|member| {
                let comes_second = share_a_group(member.campaign, candidate.campaign)
                    && self.meeting.and(&candidate.meeting, &programme.zone).is_some();
                member.at == candidate.at || comes_second
            })
        };
        candidates.iter().filter(is_named).map(|candidate| candidate.at).collect()
    }

    fn multiplying(&self) -> impl Iterator<Item = &&'c Candidate<'p>> {
        self.members.iter().filter(|member| factor(member.campaign).is_some())
    }

    fn message(&self, kind: &EventType) -> String {
        let more = |member: &&Candidate<'_>| factor(member.campaign).unwrap_or(Decimal::ONE) - Decimal::ONE;
        let together = (Decimal::ONE + self.multiplying().map(more).sum::<Decimal>()).normalize();
        let add: Vec<_> = self.members.iter().filter(|member| factor(member.campaign).is_none()).collect();
        let points: i64 = add.iter().map(|member| worth(member.campaign).1.0).fold(0, i64::saturating_add);
        let beside = match add.as_slice() {
            [] => String::new(),
            _ => format!(", and {points} points more by {}", list(add.into_iter())),
        };
        format!(
            "{} can meet on one {kind} and together pay {together} times what the rules pay{beside}; of campaigns that share a `group` only the best pays",
            list(self.multiplying())
        )
    }
}

/// "`a`", "`a` and `b`", "`a`, `b` and `c`".
fn list<'c, 'p: 'c>(members: impl Iterator<Item = &'c &'c Candidate<'p>>) -> String {
    let mut names: Vec<String> = members.map(|member| shown(member.campaign.id.as_str())).collect();
    let last = names.pop().unwrap_or_default();
    if names.is_empty() { last } else { format!("{} and {last}", names.join(", ")) }
}
