//! What a member or support sees of an account: the same for HTTP and for the command line.
//!
//! [`AccountView::of`] is pure: "today", which limits and rolling measures depend on, is passed in.

use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::account::{Account, HistoryEntry, Lot, Retention, period_index};
use crate::entry::{Act, Origin, Why};
use crate::programme::{Level, Limit, Measure, Most, Period, Programme, Tiers, Window};
use crate::rules::{due, tier};
use crate::store::{LoadBucket, Store, StoreError};
use crate::types::{Buckets, CampaignId, EventId, EventType, MemberId, Points, RewardId, RuleId, TierId};

/// An account as it stands: its points, its tier, what is left of limits today, the last entries.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "member_id": "ann", "version": 18, "available": 1290, "pending": 0,
    "tier": {"id": "silver", "since": "2026-11-02T09:30:00Z", "kept_until": null,
             "benefits": ["priority_service"],
             "measured": {"measure": "earned", "amount": 1290, "window": "P12M"},
             "next": {"id": "gold", "missing": 3710}},
    "lots": [{"points": 1290, "expires_at": null}],
    "limits": [{"rule": "sign-in", "per": "day", "times_left": 1}],
    "history": [
        {"time": "2026-11-11T12:15:00Z", "type": "points.earned", "points": 42, "rule": "purchase",
         "event": {"source": "shop/web", "id": "o-123"}}
    ]
}))]
pub struct AccountView {
    /// Whose account it is.
    #[schema(value_type = String)]
    pub member_id: MemberId,
    /// Counts changes: each entry and each tier change makes it one more.
    pub version: u64,
    /// Points that can be spent.
    #[schema(value_type = i64)]
    pub available: Points,
    /// Points that are earned but still held.
    #[schema(value_type = i64)]
    pub pending: Points,
    /// The member's level; null where the programme has none.
    pub tier: Option<TierView>,
    /// Points by when they expire, the first to expire first; then held ones by when they are released.
    pub lots: Vec<LotView>,
    /// What the programme's limits leave in the period that is now.
    pub limits: Vec<LimitView>,
    /// The last entries, newest first.
    pub history: Vec<EntryView>,
}

/// The level that a member has.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct TierView {
    /// The level.
    #[schema(value_type = String)]
    pub id: TierId,
    /// When it was reached (RFC 3339); null for the level that every member begins with.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Timestamp>,
    /// Until when it is kept (RFC 3339), whatever is measured; null where it is not reviewed.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub kept_until: Option<Timestamp>,
    /// What it gives beside points.
    pub benefits: Vec<String>,
    /// What counts toward levels.
    pub measured: MeasureView,
    /// The level above; null on the highest.
    pub next: Option<NextView>,
}

/// What counts toward levels now.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct MeasureView {
    /// What is measured.
    pub measure: Measure,
    /// So many points earned, or whole units of money spent, in the window.
    #[schema(value_type = i64)]
    pub amount: Points,
    /// `lifetime`, `calendar_year`, or the calendar months that count (`P12M`: this one and eleven before it).
    pub window: String,
}

/// The level above a member's.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct NextView {
    /// The level.
    #[schema(value_type = String)]
    pub id: TierId,
    /// Points to earn, or whole units of money to spend, until it is reached.
    #[schema(value_type = i64)]
    pub missing: Points,
}

/// Points that expire together.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct LotView {
    /// How many.
    #[schema(value_type = i64)]
    pub points: Points,
    /// When they expire (RFC 3339); null where they never do.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// Until when they are held (RFC 3339); absent where they can be spent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub held_until: Option<Timestamp>,
}

/// What a limit of a rule or a campaign leaves until its period ends: times or points, as it counts.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct LimitView {
    /// The rule; there is either a rule or a campaign.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub rule: Option<RuleId>,
    /// The campaign.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub campaign: Option<CampaignId>,
    /// The period of the programme's zone that it counts in.
    pub per: Period,
    /// How often it still pays.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub times_left: Option<u32>,
    /// How many points it still pays.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<i64>)]
    pub points_left: Option<Points>,
}

/// A line of the ledger.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct EntryView {
    /// When what it is for happened (RFC 3339).
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// `points.earned`, `points.declined`, `points.redeemed` and so on, as published.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    pub kind: EventType,
    /// Points moved.
    #[schema(value_type = i64)]
    pub points: Points,
    /// Points that were cut, for a declined entry.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<i64>)]
    pub declined: Option<Points>,
    /// The rule that paid, or would have.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub rule: Option<RuleId>,
    /// The rule whose days in a row paid.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub streak_of: Option<RuleId>,
    /// The tier that paid more on top.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub tier: Option<TierId>,
    /// The campaign that paid more on top.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub campaign: Option<CampaignId>,
    /// The reward that the member asked for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub redemption: Option<RewardId>,
    /// What else moved points: `release`, `expiry`, `refund`, `adjustment`, `transfer`, `merge` or `closing`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub act: Option<Act>,
    /// The reward that was given, or that was not, for a declined entry.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub reward: Option<RewardId>,
    /// Why points were declined.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<Why>,
    /// The event that it is for.
    pub event: EventId,
}

/// Why an account cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store holds something else than an account under the member's name.
    #[error("the stored account cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
}

/// Looks a member's account up; nothing for a member of whom nothing has counted yet.
///
/// # Errors
/// Where the store does not answer, or with something that is no account.
pub fn find(
    store: &mut dyn Store,
    buckets: Buckets,
    member: &MemberId,
) -> Result<Option<Account>, FindError> {
    let wanted = LoadBucket {
        bucket: buckets.of(member),
        members: vec![member.clone()],
        receipts: Vec::new(),
        outbox: false,
    };
    let found = store.load(&[wanted])?.into_iter().next();
    let json = found.and_then(|bucket| bucket.accounts.into_iter().next()).flatten();
    Ok(json.map(|json| Account::from_json(&json)).transpose()?)
}

impl AccountView {
    /// The account as it stands at `now`: what has fallen due by then is applied, whether the clock has come to it or not.
    pub fn of(programme: &Programme, account: &Account, now: Timestamp) -> Self {
        let today = programme.zone.to_datetime(now).date();
        // The history shows what was written; an entry that the clock has still to write is not in it.
        let keeps = Retention { history: usize::MAX, months: programme.kept_months(), days: u16::MAX };
        let account =
            &Account { history: account.history.clone(), ..due::as_of(programme, account, &keeps, now) };
        let lots = account.lots.iter().chain(account.held.iter()).map(LotView::of).collect();
        let of_rules = programme.rules.iter().map(|rule| (Origin::Rule(rule.id.clone()), &rule.limits));
        let of_campaigns = programme
            .campaigns
            .iter()
            .map(|campaign| (Origin::Campaign(campaign.id.clone()), &campaign.limits));
        let limits = of_rules.chain(of_campaigns).flat_map(|(by, limits)| {
            limits.iter().map(move |limit| LimitView::of(&by, limit, account, today))
        });
        Self {
            member_id: account.member_id.clone(),
            version: account.version,
            available: account.available,
            pending: account.pending,
            tier: programme.tiers.as_ref().and_then(|tiers| TierView::of(programme, tiers, account, today)),
            lots,
            limits: limits.collect(),
            history: account
                .history
                .entries()
                .into_iter()
                .rev()
                .flatten()
                .map(|entry| EntryView::of(&entry))
                .collect(),
        }
    }
}

impl TierView {
    fn of(programme: &Programme, tiers: &Tiers, account: &Account, today: Date) -> Option<Self> {
        let at = tier::current(tiers, account);
        let level = tiers.levels.get(at)?;
        let measured = tier::measure_in(tiers, account, period_index(Period::Month, today));
        let next = tiers.levels.get(at + 1).map(|next| NextView::of(next, measured));
        // A level that the programme no longer has counts as the first, which nobody ever reached.
        let held = account.tier.as_ref().filter(|held| held.id == level.id);
        let window = match tiers.window {
            Window::Lifetime => "lifetime".to_owned(),
            Window::Months(months) => format!("P{months}M"),
            Window::CalendarYear => "calendar_year".to_owned(),
        };
        Some(Self {
            id: level.id.clone(),
            since: held.map(|held| moment(held.since)),
            kept_until: held.and_then(|_| tier::review(programme, account)).map(|review| moment(review.at)),
            benefits: level.benefits.clone(),
            measured: MeasureView { measure: tiers.measure, amount: measured, window },
            next,
        })
    }
}

impl NextView {
    fn of(level: &Level, measured: Points) -> Self {
        Self { id: level.id.clone(), missing: Points(level.from.0.saturating_sub(measured.0).max(0)) }
    }
}

impl LotView {
    pub(crate) fn of(lot: &Lot) -> Self {
        Self { points: lot.points, expires_at: lot.expires.map(moment), held_until: lot.release.map(moment) }
    }
}

impl LimitView {
    fn of(by: &Origin, limit: &Limit, account: &Account, today: Date) -> Self {
        let (times, paid) = account.used(by, limit.per, today);
        let (times_left, points_left) = match limit.most {
            Most::Times(most) => (Some(most.saturating_sub(times)), None),
            Most::Points(most) => (None, Some(Points(most.0.saturating_sub(paid.0).max(0)))),
        };
        let By { rule, campaign, .. } = By::of(by);
        Self { rule, campaign, per: limit.per, times_left, points_left }
    }
}

impl EntryView {
    fn of(entry: &HistoryEntry) -> Self {
        let By { rule, streak_of, tier, campaign, redemption, act } = By::of(&entry.by);
        let (source, id) = entry.event.split_once(' ').unwrap_or(("", &entry.event));
        Self {
            time: moment(entry.at),
            kind: EventType::from(entry.kind.event_type()),
            points: entry.points,
            declined: Some(entry.declined).filter(|declined| *declined != Points::ZERO),
            rule,
            streak_of,
            tier,
            campaign,
            redemption,
            act,
            reward: entry.reward.clone(),
            reason: entry.why,
            event: EventId { source: source.into(), id: id.into() },
        }
    }
}

/// An origin as fields of which one is there.
#[derive(Default)]
pub(crate) struct By {
    pub(crate) rule: Option<RuleId>,
    pub(crate) streak_of: Option<RuleId>,
    pub(crate) tier: Option<TierId>,
    pub(crate) campaign: Option<CampaignId>,
    pub(crate) redemption: Option<RewardId>,
    pub(crate) act: Option<Act>,
}

impl By {
    pub(crate) fn of(origin: &Origin) -> Self {
        match origin.clone() {
            Origin::Rule(rule) => Self { rule: Some(rule), ..Self::default() },
            Origin::Streak(rule) => Self { streak_of: Some(rule), ..Self::default() },
            Origin::Tier(tier) => Self { tier: Some(tier), ..Self::default() },
            Origin::Campaign(campaign) => Self { campaign: Some(campaign), ..Self::default() },
            Origin::Redemption(reward) => Self { redemption: Some(reward), ..Self::default() },
            Origin::Act(act) => Self { act: Some(act), ..Self::default() },
        }
    }
}

/// A moment in seconds since 1970. Accounts hold only what once was a timestamp.
pub(crate) fn moment(second: i64) -> Timestamp {
    let outside = if second < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_second(second).unwrap_or(outside)
}

#[cfg(test)]
mod tests;
