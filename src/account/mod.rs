//! A member's account, and [`Account::evolve`]: the only thing that changes one.
//!
//! An account is the fold of its entries: whoever has the ledger can compute it again. So whatever an
//! account must know (balances, what limits have counted, what tiers measure) comes from entries.

mod activity;
mod history;
mod lots;
mod profile;
mod streak;
mod unknown;
mod waiting;

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::civil::Date;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::entry::{Absorbed, Chain, Change, Entry, EntryKind, Note, Origin, TierChange, TierWhy, Why};
use crate::programme::Period;
use crate::types::{MemberId, Points, PointsOverflow, RuleId, TierId};
pub use activity::{ACTIVE_MONTHS, ActiveMonth, Activity};
pub use history::{History, HistoryEntry};
pub use lots::{Lot, Lots, MOST_LOTS};
pub use profile::{Attributes, Celebrated, Profile, ProfileUpdate};
pub use streak::{Run, Streak};
pub use unknown::{FORMAT, Unknown};
pub use waiting::{MOST_WAITING, WaitingRefund};

/// A member's points, tier and what decisions need to remember. As JSON it starts with
/// `{"v":<version>,`, so that a version can be compared without parsing; then comes its format.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Account {
    /// Counts changes: each entry and each tier change makes it one more.
    #[serde(rename = "v")]
    pub version: u64,
    /// Which fields an account may have; absent for 1. A greater one than a worker writes may have fields that it does not
    /// know, and keeps.
    #[serde(rename = "f", default = "unknown::first_format")]
    pub format: u16,
    /// The least format that whoever changes the account must know, where a newer version says so.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schemars(with = "u16")]
    pub needs: Option<u16>,
    /// Whose account it is.
    pub member_id: MemberId,
    /// The last link of the ledger's chain: that of the change which led to this version.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schemars(with = "Chain")]
    pub chain: Option<Chain>,
    /// Points that can be spent.
    pub available: Points,
    /// Points that are earned but still held.
    pub pending: Points,
    /// The level, once it was ever changed; before that the member has the programme's first.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schemars(with = "Tier")]
    pub tier: Option<Tier>,
    /// Spendable points by when they expire. Points that behave alike are one lot. Together they are `available`, or
    /// nothing where that is below zero.
    #[serde(skip_serializing_if = "Lots::is_empty", default)]
    pub lots: Lots,
    /// Held points by when they are released. Together they are `pending`.
    #[serde(skip_serializing_if = "Lots::is_empty", default)]
    pub held: Lots,
    /// Refunds that wait for their order.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub waiting: Vec<WaitingRefund>,
    /// Whether it is closed, and why: nothing is earned or spent any more.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schemars(with = "Closed")]
    pub closed: Option<Closed>,
    /// What the tiers measure.
    #[serde(default)]
    pub earned: Earned,
    /// What limits have counted, by rule and by `campaign/` with a campaign's name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub used: BTreeMap<Box<str>, Vec<Used>>,
    /// Days in a row, by rule.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub streaks: BTreeMap<RuleId, Streak>,
    /// What the shop told of the member.
    #[serde(skip_serializing_if = "Profile::is_empty", default)]
    pub profile: Profile,
    /// What the member did.
    #[serde(skip_serializing_if = "Activity::is_empty", default)]
    pub activity: Activity,
    /// The latest event's time, in seconds since 1970; lateness is measured from here.
    #[serde(default)]
    pub newest: i64,
    /// The last entries, newest last.
    #[serde(skip_serializing_if = "History::is_empty", default)]
    pub history: History,
    /// What a newer version keeps in it.
    #[serde(skip)]
    pub unknown: Option<Box<Unknown>>,
}

/// The level that a member has.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Tier {
    /// The level.
    pub id: TierId,
    /// When it was reached, in seconds since 1970.
    pub since: i64,
    /// The level before, which a refund of what this one rests on leads back to; and so on down, a few at most: each is
    /// lower than the one that it came before.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schemars(with = "Tier")]
    pub before: Option<Box<Tier>>,
    /// Until when it is kept, in seconds since 1970: then, or some grace after that, it is looked at. Absent where no
    /// review was known when it was reached.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schemars(with = "i64")]
    pub until: Option<i64>,
    /// The review that the member was told of, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schemars(with = "i64")]
    pub noticed: Option<i64>,
}

impl Tier {
    /// The levels that were held before this one, the latest first.
    pub fn held_before(&self) -> impl Iterator<Item = &Tier> {
        std::iter::successors(self.before.as_deref(), |held| held.before.as_deref())
    }
}

/// Why an account is closed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Closed {
    /// The member left.
    Left {},
    /// It was merged into this member's.
    Into(MemberId),
}

/// Points earned, as tiers measure them.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Earned {
    /// Ever.
    pub total: Points,
    /// By calendar month (year × 12 + month − 1), ascending; only as many as the programme measures.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub months: Vec<(i32, Points)>,
}

/// What a limit has counted in one period: `["day", 20779, 2, 10]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Used(
    /// The kind of period.
    pub Period,
    /// Which one, see [`period_index`].
    pub i32,
    /// How often the rule paid.
    pub u32,
    /// How many points it paid.
    pub Points,
);

/// How much an account remembers. It bounds an account's size; balances do not depend on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Retention {
    /// Entries in the history.
    pub history: usize,
    /// Calendar months that the tiers measure; 0 where they measure a lifetime.
    pub months: u16,
    /// Days that limits and streaks are remembered for; an event that is later than this is not paid by
    /// a rule with a limit.
    pub days: u16,
}

/// Bytes that nearly every account takes as JSON beside its history.
const BESIDE_HISTORY: usize = 640;

impl Account {
    /// The account of a member who has none yet.
    pub fn new(member_id: MemberId) -> Self {
        Self {
            version: 0,
            format: FORMAT,
            needs: None,
            member_id,
            chain: None,
            available: Points::ZERO,
            pending: Points::ZERO,
            tier: None,
            lots: Lots::default(),
            held: Lots::default(),
            waiting: Vec::new(),
            closed: None,
            earned: Earned::default(),
            used: BTreeMap::new(),
            streaks: BTreeMap::new(),
            profile: Profile::default(),
            activity: Activity::default(),
            newest: i64::MIN,
            history: History::default(),
            unknown: None,
        }
    }

    /// Reads an account as [`Account::to_json`] wrote it, also that of an older or a newer version of the worker.
    ///
    /// # Errors
    /// Where the text is no account: somebody else wrote it. And where a newer version has to change it.
    pub fn from_json(json: &[u8]) -> Result<Self, serde_json::Error> {
        let mut account: Self = serde_json::from_slice(json)?;
        if account.format > FORMAT || account.needs.is_some() {
            account.keep_unknown(json)?;
        }
        // With its next change it is of this format.
        account.format = account.format.max(FORMAT);
        Ok(account)
    }

    /// Apart from [`Account::from_json`], which every event goes through.
    #[cold]
    fn keep_unknown(&mut self, json: &[u8]) -> Result<(), serde_json::Error> {
        if let Some(needs) = self.needs.filter(|needs| *needs > FORMAT) {
            let (member, format) = (&self.member_id, self.format);
            return Err(serde::de::Error::custom(format_args!(
                "the account of {member} has format {format}, which only a worker that knows format {needs} may change, and \
                 this one knows formats up to {FORMAT}: a newer version of accrual was here; run that version. Nothing was \
                 changed"
            )));
        }
        let original = std::str::from_utf8(json).map_err(serde::de::Error::custom)?;
        let known = serde_json::to_string(self)?;
        self.unknown = Some(Box::new(Unknown::between(original, &known)?));
        Ok(())
    }

    /// The account as JSON that starts with its version.
    pub fn to_json(&self) -> Vec<u8> {
        let mut json = Vec::new();
        self.clone().write_json(&mut json);
        json
    }

    /// Adds [`Account::to_json`] to a text. The account is the same after it; meanwhile its history, which is JSON already
    /// and most of the text, is out of it, to be copied as it is.
    pub fn write_json(&mut self, into: &mut Vec<u8>) {
        let start = into.len();
        into.reserve_exact(BESIDE_HISTORY + self.history.as_json().len());
        let history = std::mem::take(&mut self.history);
        // Serialising plain structs into memory has no way to fail: no I/O, and all keys are text.
        let written = serde_json::to_writer(&mut *into, self);
        debug_assert!(written.is_ok());
        if !history.is_empty() {
            // Its field is the last; without one there is none.
            into.truncate(into.len().saturating_sub(1));
            into.extend_from_slice(b",\"history\":[");
            into.extend_from_slice(history.as_json());
            into.extend_from_slice(b"]}");
        }
        self.history = history;
        if let Some(unknown) = &self.unknown {
            let whole = unknown.put_back(into.split_off(start));
            into.extend_from_slice(&whole);
        }
    }

    /// Whether these points can be added, or taken where they are below zero, without leaving the range of points.
    ///
    /// # Errors
    /// Where a balance or a measure would overflow.
    pub fn can_take(&self, points: Points) -> Result<(), PointsOverflow> {
        for sum in [self.available, self.pending, self.earned.total] {
            sum.plus(points)?;
        }
        self.available.plus(self.pending)?.plus(points)?;
        Ok(())
    }

    /// What a limit has counted for what pays, in the period that holds `day`.
    pub fn used(&self, by: &Origin, period: Period, day: Date) -> (u32, Points) {
        let index = period_index(period, day);
        let counted = self.used.get(counter(by).as_ref()).into_iter().flatten();
        counted
            .filter(|used| used.0 == period && used.1 == index)
            .map(|used| (used.2, used.3))
            .next()
            .unwrap_or_default()
    }

    /// Applies one change.
    ///
    /// # Errors
    /// Where a sum leaves the range of points; the account is then of no more use. Callers ask
    /// [`Account::can_take`] first.
    pub fn evolve(&mut self, change: &Change, retention: &Retention) -> Result<(), PointsOverflow> {
        self.version += 1;
        match change {
            Change::Entry(entry) => self.evolve_entry(entry, retention),
            Change::Tier(change) => {
                self.evolve_tier(change);
                Ok(())
            }
            Change::Noted(noted) => {
                self.newest = self.newest.max(noted.at);
                self.note(&noted.note, noted.at, noted.day, retention)
            }
        }
    }

    fn evolve_entry(&mut self, entry: &Entry, retention: &Retention) -> Result<(), PointsOverflow> {
        self.newest = self.newest.max(entry.at);
        if let Some(note) = &entry.note {
            self.note(note, entry.at, entry.day, retention)?;
        }
        self.count_streak(entry, retention.days);
        match entry.kind {
            EntryKind::Earned | EntryKind::Pending => {
                // What a draw brings is no reason to rise.
                if !matches!(entry.by, Origin::Redemption(_)) {
                    self.measure(entry.points, entry.day, retention)?;
                }
                self.count_limits(entry, retention)?;
                self.credit(Lot { points: entry.points, ..entry.lot() })?;
            }
            EntryKind::Granted => self.count_limits(entry, retention)?,
            EntryKind::Redeemed => {
                self.count_limits(entry, retention)?;
                self.debit(entry)?;
            }
            EntryKind::Reversed => {
                self.measure(entry.points, entry.day, retention)?;
                self.uncount_limits(entry, entry.points)?;
                self.debit(entry)?;
            }
            EntryKind::Returned => {
                self.uncount_limits(entry, entry.points)?;
                self.credit_lots(entry)?;
            }
            EntryKind::Adjusted | EntryKind::Transferred => {
                if entry.points < Points::ZERO {
                    self.debit(entry)?;
                } else {
                    self.credit_lots(entry)?;
                }
            }
            EntryKind::Released => {
                for lot in self.held.take_while(|lot| lot.release.is_some_and(|release| release <= entry.at))
                {
                    self.pending = self.pending.minus(lot.points)?;
                    self.credit(Lot { release: None, ..lot })?;
                }
            }
            EntryKind::Expired => self.debit(entry)?,
            EntryKind::Expiring => entry.lots().iter().filter_map(|lot| lot.expires).for_each(|expires| {
                self.lots.notice(expires);
                self.held.notice(expires);
            }),
            // Points of an order that were spent before its refund cannot be taken; they count no more all the same.
            EntryKind::Declined
                if entry.why == Some(Why::Shortfall) && !matches!(entry.by, Origin::Act(_)) =>
            {
                self.measure(Points::ZERO.minus(entry.declined)?, entry.day, retention)?;
                self.uncount_limits(entry, entry.declined)?;
            }
            EntryKind::Declined => {}
        }
        if retention.history > 0 {
            let line = HistoryEntry {
                at: entry.at,
                kind: entry.kind,
                points: entry.points,
                declined: entry.declined,
                by: entry.by.clone(),
                reward: entry.reward.as_ref().map(|reward| reward.id.clone()),
                why: entry.why,
                event: entry.event.clone(),
            };
            self.history.push(&line, retention.history);
        }
        Ok(())
    }

    fn note(&mut self, note: &Note, at: i64, day: Date, retention: &Retention) -> Result<(), PointsOverflow> {
        match note {
            Note::Order { amount, .. } => {
                self.activity.order(*amount, at, day, retention.months);
                self.profile.ordered(at);
            }
            Note::Refunded { amount, whole, .. } => self.activity.refund(*amount, *whole, day),
            Note::Waits(refund) => self.waiting.push(refund.clone()),
            Note::WaitsNoMore { refund_id } => {
                self.waiting.retain(|waiting| waiting.refund.refund != *refund_id);
            }
            Note::Closed(closed) => self.closed = Some(closed.clone()),
            Note::Erased {} => {
                // That they have registered stays, so that nobody is welcomed twice.
                let Profile { registered, refers_since, .. } = self.profile;
                self.profile = Profile { registered, refers_since, ..Profile::default() };
                self.activity = self.activity.without_days();
                self.streaks.clear();
                self.history.clear();
                // Nobody here knows what of it tells who the member is.
                self.unknown.iter_mut().for_each(|unknown| unknown.forget("profile"));
            }
            Note::Absorbed(other) => self.absorb(other, retention)?,
            Note::Celebrated { occasion, year } => self.profile.celebrated.celebrate(*occasion, *year),
            Note::Referred { registered, .. } => self.profile.refers(*registered),
            Note::SignIn {} => self.activity.sign_in(day, retention.months),
            Note::Profile(update) => self.profile.update(update, at, day),
        }
        Ok(())
    }

    fn evolve_tier(&mut self, change: &TierChange) {
        let held = self.tier.take();
        let (since, before) = match change.why {
            TierWhy::Reached => (change.at, held.map(Box::new)),
            TierWhy::Review => (change.at, None),
            TierWhy::Kept => match held {
                Some(held) => (held.since, held.before),
                None => (change.at, None),
            },
            // Back to a level that was held before, or to one that was passed over on the way up. What was reached with
            // the order or since rests on it, too, and is not what another refund leads back to.
            TierWhy::Refunded => match held {
                Some(held) => {
                    let back = held.held_before().find(|before| before.id == change.to).unwrap_or(&held);
                    let is_older =
                        |before: &&Tier| change.rested_on.is_none_or(|order_at| before.since < order_at);
                    (back.since, back.held_before().find(is_older).cloned().map(Box::new))
                }
                None => (change.at, None),
            },
            TierWhy::ReviewDue => {
                self.tier = held.map(|held| Tier { noticed: change.until, ..held });
                return;
            }
        };
        if change.from != change.to {
            // It was said of another level.
            self.unknown.iter_mut().for_each(|unknown| unknown.forget("tier"));
        }
        self.tier = Some(Tier { id: change.to.clone(), since, before, until: change.until, noticed: None });
    }

    /// What the tiers measure goes by the month of the entry's day, of what is taken back that of the order.
    fn measure(&mut self, points: Points, day: Date, retention: &Retention) -> Result<(), PointsOverflow> {
        self.earned.total = self.earned.total.plus(points)?;
        self.count_month(day, points, retention.months)
    }

    /// Adds points. Those that can be spent first pay what the balance lacks to zero.
    fn credit(&mut self, lot: Lot) -> Result<(), PointsOverflow> {
        if lot.release.is_some() {
            self.pending = self.pending.plus(lot.points)?;
            return self.held.add(lot);
        }
        let owed = Points(self.available.0.saturating_neg().max(0)).min(lot.points);
        self.available = self.available.plus(lot.points)?;
        self.lots.add(Lot { points: lot.points.minus(owed)?, ..lot })
    }

    fn credit_lots(&mut self, entry: &Entry) -> Result<(), PointsOverflow> {
        entry.lots().iter().try_for_each(|lot| self.credit(*lot))
    }

    /// Takes the lots that the entry names; what it takes beyond them is of those that expire first, and what there is not
    /// the balance then lacks.
    fn debit(&mut self, entry: &Entry) -> Result<(), PointsOverflow> {
        let mut open = Points::ZERO.minus(entry.points)?;
        for lot in entry.lots() {
            let (lots, balance) = match lot.release {
                Some(_) => (&mut self.held, &mut self.pending),
                None => (&mut self.lots, &mut self.available),
            };
            let removed = lots.remove(lot);
            *balance = balance.minus(removed)?;
            open = open.minus(removed)?;
        }
        self.lots.take(open);
        self.available = self.available.minus(open)?;
        Ok(())
    }

    /// Takes in the standing of an account that was merged into this one; its points come by entries.
    fn absorb(&mut self, other: &Absorbed, retention: &Retention) -> Result<(), PointsOverflow> {
        self.earned.total = self.earned.total.plus(other.earned.total)?;
        for (month, points) in &other.earned.months {
            self.count_month_number(*month, *points, retention.months)?;
        }
        self.activity.absorb(&other.activity, retention.months);
        for (by, counted) in &other.used {
            let counters = self.used.entry(by.clone()).or_default();
            for used in counted {
                match counters.iter_mut().find(|mine| mine.0 == used.0 && mine.1 == used.1) {
                    Some(mine) => {
                        mine.2 = mine.2.saturating_add(used.2);
                        mine.3 = mine.3.plus(used.3)?;
                    }
                    None => counters.push(*used),
                }
            }
        }
        Ok(())
    }

    fn count_streak(&mut self, entry: &Entry, kept: u16) {
        let day = period_index(Period::Day, entry.day);
        match (&entry.by, entry.streak) {
            (Origin::Rule(rule), Some(_)) => self.streaks.entry(rule.clone()).or_default().count(day, kept),
            (Origin::Streak(rule), Some(length)) => {
                if let Some(streak) = self.streaks.get_mut(rule) {
                    streak.paid(day, length);
                }
            }
            _ => {}
        }
    }

    fn count_month(&mut self, day: Date, points: Points, kept: u16) -> Result<(), PointsOverflow> {
        self.count_month_number(period_index(Period::Month, day), points, kept)
    }

    fn count_month_number(&mut self, month: i32, points: Points, kept: u16) -> Result<(), PointsOverflow> {
        if kept == 0 {
            return Ok(());
        }
        let months = &mut self.earned.months;
        match months.binary_search_by_key(&month, |(month, _)| *month) {
            Ok(at) => {
                if let Some((_, sum)) = months.get_mut(at) {
                    *sum = sum.plus(points)?;
                }
            }
            Err(at) => months.insert(at, (month, points)),
        }
        let newest = months.last().map_or(month, |(month, _)| *month);
        months.retain(|(month, _)| *month > newest - i32::from(kept));
        Ok(())
    }

    fn count_limits(&mut self, entry: &Entry, retention: &Retention) -> Result<(), PointsOverflow> {
        if entry.counts.is_empty() {
            return Ok(());
        }
        // A redemption takes what it counts.
        let points = Points(entry.points.0.saturating_abs());
        let counters = self.used.entry(counter(&entry.by).into()).or_default();
        for &period in &entry.counts {
            let index = period_index(period, entry.day);
            match counters.iter_mut().find(|used| used.0 == period && used.1 == index) {
                Some(used) => {
                    used.2 = used.2.saturating_add(1);
                    used.3 = used.3.plus(points)?;
                }
                None => counters.push(Used(period, index, 1, points)),
            }
        }
        self.forget_counts(entry, retention);
        Ok(())
    }

    /// What was taken back does not count toward limits any more, in the period in which it did. An event that was
    /// taken back whole does not count as one any more.
    fn uncount_limits(&mut self, entry: &Entry, points: Points) -> Result<(), PointsOverflow> {
        let Some(counters) = self.used.get_mut(counter(&entry.by).as_ref()) else { return Ok(()) };
        for &period in &entry.counts {
            let index = period_index(period, entry.day);
            let Some(used) = counters.iter_mut().find(|used| used.0 == period && used.1 == index) else {
                continue;
            };
            used.3 = used.3.minus(Points(points.0.saturating_abs()))?;
            if entry.takes_all() {
                used.2 = used.2.saturating_sub(1);
            }
        }
        Ok(())
    }

    /// Late events count in their own day, so days are kept as long as events may be late.
    fn forget_counts(&mut self, entry: &Entry, retention: &Retention) {
        let Some(counters) = self.used.get_mut(counter(&entry.by).as_ref()) else { return };
        for &period in &entry.counts {
            let newest = counters.iter().filter(|used| used.0 == period).map(|used| used.1).max();
            let kept = newest.unwrap_or_default() - periods_in(period, retention.days);
            counters.retain(|used| used.0 != period || used.1 >= kept);
        }
    }
}

/// The key under which the limits of what pays are counted.
fn counter(by: &Origin) -> Cow<'_, str> {
    match by {
        // All redemptions of a member together.
        Origin::Redemption(_) => Cow::Borrowed("redemption/"),
        Origin::Act(act) => Cow::Borrowed(act.as_str()),
        Origin::Campaign(campaign) => Cow::Owned(format!("campaign/{campaign}")),
        Origin::Rule(name) | Origin::Streak(name) => Cow::Borrowed(name.as_str()),
        Origin::Tier(name) => Cow::Borrowed(name.as_str()),
    }
}

/// Numbers a period so that the next has the next number: days since 1970-01-01, weeks from Monday
/// 1969-12-29, year × 12 + month − 1, the year, and 0 for ever.
pub fn period_index(period: Period, day: Date) -> i32 {
    let days = || {
        let since = day.duration_since(Date::constant(1970, 1, 1)).as_hours() / 24;
        i32::try_from(since).unwrap_or_default() // a civil date lies within ±9999 years
    };
    match period {
        Period::Day => days(),
        Period::Week => (days() + 3).div_euclid(7), // 1970-01-01 was a Thursday
        Period::Month => i32::from(day.year()) * 12 + i32::from(day.month()) - 1,
        Period::Year => i32::from(day.year()),
        Period::Ever => 0,
    }
}

/// How many whole periods can begin within so many days.
fn periods_in(period: Period, days: u16) -> i32 {
    let days = i32::from(days);
    match period {
        Period::Day => days,
        Period::Week => days / 7 + 1,
        Period::Month => days / 28 + 1,
        Period::Year => days / 365 + 1,
        Period::Ever => 0,
    }
}
