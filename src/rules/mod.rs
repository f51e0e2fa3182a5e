//! What an event is worth: a programme, an account and an event in, entries out. Pure: no clock, no
//! I/O, no chance, so that the same event on the same account always decides the same.

mod campaign;
pub mod clock;
pub mod due;
mod earn;
mod facts;
mod limit;
mod purse;
mod redeem;
mod referral;
mod refund;
mod reward;
mod streak;
pub mod tier;
mod transfer;
mod watch;

use jiff::Timestamp;
use jiff::civil::Date;
use rust_decimal::Decimal;
use serde::de::DeserializeOwned;

use crate::account::{Account, ProfileUpdate, Retention};
use crate::entry::{Applied, Change, Entry, EntryKind, Message, Note, Noted, Origin, TierChange, Why};
use crate::event::Event;
use crate::event::deed::Deed;
use crate::event::internal::{Celebration, Internal, Referred};
use crate::programme::lifetime::{Lifetime, Moments};
use crate::programme::{Earn, Limit, Payee, Paying, Programme, Rule, periods};
use crate::record::{self, LineRecord, OrderRecord, PaidEntry, order_key, to_json};
use crate::store::{ReceiptKey, once_key};
use crate::types::{CampaignId, Points, PointsOverflow, RuleId};
use crate::yaml::CalendarSpan;
use facts::LazyFacts;
use referral::Course;
pub use watch::{Part, Unpaid, Watch};

/// What the rules ask of what lies outside of the account.
#[derive(Clone, Copy)]
pub struct Outside<'a> {
    /// Whether this was paid before, which is paid once ever.
    pub paid_before: &'a dyn Fn(&ReceiptKey) -> bool,
    /// What is left of a campaign's budget, or of the stock of a reward.
    pub left: &'a dyn Fn(&CampaignId) -> Points,
    /// The record that is kept under a business key, see [`crate::record`].
    pub record: &'a dyn Fn(&ReceiptKey) -> Option<Box<str>>,
}

impl Outside<'static> {
    /// Nothing was paid before, no budget comes to an end, and nothing is recorded.
    pub const UNTOUCHED: Self =
        Self { paid_before: &|_| false, left: &|_| Points(i64::MAX), record: &|_| None };
}

/// Why an event is not decided.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// The points would leave their range.
    #[error(transparent)]
    Overflow(#[from] PointsOverflow),
    /// More refunds wait for their orders than an account keeps.
    #[error(
        "more refunds wait for their orders than an account keeps; send the refund again once its order was sent"
    )]
    TooManyWaiting,
    /// A record is not as the worker writes it.
    #[error("the record {key} cannot be read: {why}")]
    Unreadable {
        /// Its key.
        key: ReceiptKey,
        /// What is wrong with it.
        why: String,
    },
}

/// What an event wanted of a campaign's budget, and what it took.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Draw {
    /// Whose budget.
    pub campaign: CampaignId,
    /// What the campaign would have paid with nothing but its limits.
    pub wanted: Points,
    /// What was left of the budget.
    pub left: Points,
    /// What it paid; nothing where another one of its group paid more.
    pub paid: Points,
}

/// What an event did to an account.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The changes, in their order, each with the account as it left it.
    pub applied: Vec<Applied>,
    /// What had a condition that could not be evaluated and so did not hold.
    pub unsure: Vec<Unsure>,
    /// What was paid that is paid once ever.
    pub once: Vec<ReceiptKey>,
    /// What was wanted and taken of budgets and stocks.
    pub draws: Vec<Draw>,
    /// What comes back to budgets and stocks.
    pub returns: Vec<(CampaignId, Points)>,
    /// Records that are made or changed, in the order in which they were; the latest of a key counts.
    pub records: Vec<(ReceiptKey, Box<str>)>,
    /// What accrual is to tell itself, or upstream.
    pub messages: Vec<Message>,
}

/// What had a condition that could not be evaluated, by its index in the programme.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Unsure {
    /// A rule.
    Rule(usize),
    /// A campaign.
    Campaign(usize),
}

/// Decides an event and evolves the account by it, once everything is applied that has fallen due by then.
///
/// # Errors
/// Where it cannot be decided. The account is then as it was.
pub fn apply(
    programme: &Programme,
    account: &mut Account,
    event: &Event,
    retention: &Retention,
    outside: &Outside<'_>,
) -> Result<Outcome, Refusal> {
    apply_watched(programme, account, event, retention, outside, &mut ())
}

/// [`apply`] with somebody who looks on.
///
/// # Errors
/// As [`apply`].
pub fn apply_watched(
    programme: &Programme,
    account: &mut Account,
    event: &Event,
    retention: &Retention,
    outside: &Outside<'_>,
    watch: &mut impl Watch,
) -> Result<Outcome, Refusal> {
    // What rules pay is checked before it is applied; whatever else happens is seldom enough for a copy to go back to.
    let is_plain =
        event.deed.is_none() && event.internal.is_none() && !due::is_due(programme, account, event.as_of);
    let before = (!is_plain).then(|| account.clone());
    let outcome = apply_unchecked(programme, account, event, retention, outside, watch);
    if let (Err(_), Some(before)) = (&outcome, before) {
        *account = before;
    }
    outcome
}

fn apply_unchecked(
    programme: &Programme,
    account: &mut Account,
    event: &Event,
    retention: &Retention,
    outside: &Outside<'_>,
    watch: &mut impl Watch,
) -> Result<Outcome, Refusal> {
    let day = Day::of(programme, event);
    let mut applied = due::settle(programme, account, event, day, retention)?;
    let decided = decide(&Case { programme, account, event, day, retention, outside }, watch)?;
    let Decided { entries, noted, tier, reverses, unsure, once, draws, returns, records, messages } = decided;
    let comes = entries.iter().filter(|entry| entry.points > Points::ZERO);
    account.can_take(comes.map(|entry| entry.points).try_fold(Points::ZERO, Points::plus)?)?;
    let measured = programme.tiers.as_ref().filter(|_| reverses.is_some());
    let measured = measured.map(|tiers| tier::measure(programme, tiers, account, event.time.as_second()));
    // Kept until the batch is published: no room for more than what comes.
    applied.reserve_exact(entries.len() + noted.len() + usize::from(tier.is_some()));
    let changes = entries
        .into_iter()
        .map(|entry| Change::Entry(Box::new(entry)))
        .chain(noted.into_iter().map(Change::Noted));
    for change in changes.chain(tier.map(Change::Tier)) {
        applied.push(evolve(account, change, retention)?);
    }
    let at = event.time.as_second();
    let revoked = reverses
        .zip(measured)
        .and_then(|(order_at, measured)| tier::revoked(programme, account, order_at, measured, at));
    if let Some(change) = revoked.or_else(|| tier::due(programme, account, at)) {
        applied.push(evolve(account, Change::Tier(change), retention)?);
    }
    Ok(Outcome { applied, unsure, once, draws, returns, records, messages })
}

fn evolve(account: &mut Account, change: Change, retention: &Retention) -> Result<Applied, PointsOverflow> {
    account.evolve(&change, retention)?;
    Ok(Applied { change, version: account.version, available: account.available, pending: account.pending })
}

/// What is to be decided: an event on an account, by a programme.
#[derive(Clone, Copy)]
struct Case<'a> {
    programme: &'a Programme,
    account: &'a Account,
    event: &'a Event,
    day: Day,
    retention: &'a Retention,
    outside: &'a Outside<'a>,
}

impl<'a> Case<'a> {
    /// Reads what is recorded under a key.
    fn record<T: DeserializeOwned>(&self, key: &ReceiptKey) -> Result<Option<T>, Refusal> {
        let Some(json) = (self.outside.record)(key) else { return Ok(None) };
        let unreadable =
            |error: serde_json::Error| Refusal::Unreadable { key: key.clone(), why: error.to_string() };
        serde_json::from_str(&json).map(Some).map_err(unreadable)
    }

    /// All that is wanted of a stock, or nothing where there is less left behind the event's earlier draws.
    fn draw_whole(&self, of: CampaignId, wanted: Points, earlier: &[Draw]) -> Draw {
        let taken: i64 = earlier.iter().filter(|draw| draw.campaign == of).map(|draw| draw.paid.0).sum();
        let left = Points((self.outside.left)(&of).0.saturating_sub(taken));
        let paid = if left >= wanted { wanted } else { Points::ZERO };
        Draw { campaign: of, wanted, left, paid }
    }

    fn facts(&self) -> LazyFacts<'a> {
        LazyFacts::new(self.programme, self.account, self.event, self.day.date)
    }
}

/// What was decided for an event, before the account evolves.
#[derive(Default)]
struct Decided {
    entries: Vec<Entry>,
    /// What the event says for later conditions, where no entry says it.
    noted: Vec<Noted>,
    /// A change of level that follows from the event and not from what is measured.
    tier: Option<TierChange>,
    /// When what the event takes back was paid, if it takes something back.
    reverses: Option<i64>,
    unsure: Vec<Unsure>,
    once: Vec<ReceiptKey>,
    draws: Vec<Draw>,
    returns: Vec<(CampaignId, Points)>,
    records: Vec<(ReceiptKey, Box<str>)>,
    messages: Vec<Message>,
}

fn decide(case: &Case<'_>, watch: &mut impl Watch) -> Result<Decided, Refusal> {
    let Case { account, event, .. } = *case;
    if account.closed.is_some()
        && let Some(refused) = transfer::refuse_closed(case)
    {
        let late = transfer::after_merge(case)?;
        return Ok(late.unwrap_or(refused));
    }
    match event.deed.as_deref() {
        Some(Deed::Refund(refund)) => return refund::decide(case, refund, None),
        Some(Deed::Redeem(request)) => return redeem::request(case, request),
        Some(Deed::Cancel { redemption }) => return redeem::cancel(case, redemption),
        Some(Deed::Adjust(adjustment)) => return Ok(transfer::adjust(case, adjustment)?),
        Some(Deed::Transfer(transfer)) => return Ok(transfer::give(case, transfer)?),
        Some(Deed::Merge { into }) => return Ok(transfer::merge(case, into)?),
        Some(Deed::Close) => return Ok(transfer::close(case)?),
        Some(Deed::Erase) => return Ok(transfer::erase(case)),
        None => {}
    }
    match event.internal.as_deref() {
        // What has come is applied already.
        Some(Internal::Came) => Ok(Decided::default()),
        Some(Internal::Waited(waiting)) => {
            let is_over = !account.waiting.iter().any(|known| known.refund.refund == waiting.refund.refund);
            if is_over {
                return Ok(Decided::default());
            }
            let decided = refund::decide(case, &waiting.refund, Some(waiting))?;
            transfer::follow(case, decided)
        }
        Some(Internal::Received(received)) => Ok(transfer::receive(case, received)?),
        Some(Internal::Referred(_) | Internal::Celebration(_)) | None => earned(case, watch),
    }
}

/// The entries that an event makes: the base of each rule with its streak's bonuses, then what the tier and
/// the campaigns pay more on the base.
fn earned(case: &Case<'_>, watch: &mut impl Watch) -> Result<Decided, Refusal> {
    let Case { programme, account, event, outside, .. } = *case;
    if clock::is_over(account, event) {
        return Ok(Decided::default());
    }
    let nothing = Paying::default();
    let paying = programme.by_type.get(&event.kind).unwrap_or(&nothing);
    let mut draft = Draft::new(case);
    let mut facts = case.facts();
    let mut unsure = Vec::new();
    let mut once = Vec::new();
    let mut by_line = Vec::new();
    let mut base = Points::ZERO;
    let (mut refers, mut waits) = (Vec::new(), Vec::new());
    for &at in &paying.rules {
        let Some(rule) = programme.rules.get(at) else { continue };
        let paid = match earn::base((at, rule), programme.rounding, event, &mut facts, watch) {
            Ok(Some(paid)) => paid,
            Ok(None) => {
                watch.rule(at, None, || Unpaid::When);
                continue;
            }
            Err(earn::Failed::Condition(part, why)) => {
                unsure.push(Unsure::Rule(at));
                watch.rule(at, None, || Unpaid::Failed(part, why));
                continue;
            }
            Err(earn::Failed::Overflow) => return Err(PointsOverflow.into()),
        };
        let origin = Origin::Rule(rule.id.clone());
        draft.live(rule.lifetime);
        match referral::course(rule, account, event) {
            Course::Pay => {}
            Course::Refer => {
                watch.rule(at, None, || Unpaid::Referrer);
                refers.push(rule.id.clone());
                continue;
            }
            Course::Wait => {
                watch.rule(at, None, || Unpaid::Waits);
                waits.push(rule.id.clone());
                continue;
            }
            Course::Decline(why) => {
                draft.decline_rule(rule, &origin, &paid, why);
                continue;
            }
            Course::Pass => {
                watch.rule(at, None, || Unpaid::NotReferred);
                continue;
            }
        }
        let new_day = streak::new_day(case, rule);
        let first = draft.entries.len();
        let key = match rule.once_per.as_ref().map(|key| facts.text(key)).transpose() {
            Ok(key) => key,
            Err(why) => {
                unsure.push(Unsure::Rule(at));
                watch.rule(at, None, || Unpaid::Failed(Part::OncePer, why));
                continue;
            }
        };
        let key = key.map(|key| once_key(&rule.id, &event.member, &key));
        if key.as_ref().is_some_and(outside.paid_before) {
            draft.decline_rule(rule, &origin, &paid, Why::AlreadyPaid);
        } else if paid.points == Points::ZERO && rule.earn != Earn::Nothing {
            draft.decline_rule(rule, &origin, &paid, Why::BelowOnePoint);
        } else {
            let cut = limit::cut(case, &rule.limits, &origin, paid.points);
            let has_paid = draft.pay_rule(case, rule, &origin, &paid, &cut)?;
            base = base.plus(cut.paid)?;
            if cut.paid > Points::ZERO {
                by_line.push((origin.clone(), paid.by_line));
            }
            if has_paid {
                once.extend(key);
            }
        }
        if let Some(new_day) = new_day {
            draft.mark_streak(first, new_day.length);
            let origin = Origin::Streak(rule.id.clone());
            for (length, bonus) in new_day.bonuses {
                let entry = draft.entry(EntryKind::Earned, &origin, bonus, None);
                draft.entries.push(Entry { streak: Some(length), ..entry });
            }
        }
    }
    let beside = pay_beside(case, &mut draft, &mut refers)?;
    // What is paid on top is held as long as that part of what it is paid on which is held longest.
    let hold = draft.longest_hold.unwrap_or(programme.lifetime.hold);
    draft.live(Lifetime { hold, ..programme.lifetime });
    if let Some((level, more)) = tier::bonus(programme, account, base.plus(beside)?)? {
        let entry = draft.entry(
            EntryKind::Earned,
            &Origin::Tier(level.id.clone()),
            more,
            Some(base.plus(beside)?.0.into()),
        );
        draft.entries.push(Entry { factor: Some(level.earn), ..entry });
    }
    if !paying.campaigns.is_empty() {
        let asked = campaign::Asked { case, base };
        let (on, draws) = asked.paying(&paying.campaigns, &mut facts, &mut unsure, watch)?;
        draft.draws.extend(draws);
        for on in on {
            let (of, factor) = on.basis(base);
            draft.pay(&on.origin, &on.campaign.limits, on.points, &on.cut, of, factor)?;
        }
    }
    let records = order_record(event, &draft.entries, by_line).into_iter().collect();
    let draws = std::mem::take(&mut draft.draws);
    let (entries, noted) = draft.with_note(note(event, waits));
    let mut messages: Vec<Message> = referral::refer(account, event, refers).into_iter().collect();
    if let Some(order) = &event.order {
        let came = account.waiting.iter().filter(|waiting| waiting.refund.order == order.id);
        messages.extend(came.cloned().map(Message::Waited));
    }
    let noted = noted.into_iter().collect();
    Ok(Decided { entries, noted, unsure, once, draws, records, messages, ..Decided::default() })
}

/// What a refund of the order will take back: the base, and what tier and campaigns paid on it.
fn order_record(
    event: &Event,
    entries: &[Entry],
    mut by_line: Vec<(Origin, Vec<Points>)>,
) -> Option<(ReceiptKey, Box<str>)> {
    let order = event.order.as_ref()?;
    let comes = |entry: &&Entry| {
        matches!(entry.kind, EntryKind::Earned | EntryKind::Pending)
            && matches!(entry.by, Origin::Rule(_) | Origin::Tier(_) | Origin::Campaign(_))
    };
    let paid: Vec<PaidEntry> = entries
        .iter()
        .filter(comes)
        .map(|entry| {
            let place = by_line.iter().position(|(by, _)| *by == entry.by);
            PaidEntry {
                by: entry.by.clone(),
                points: entry.points,
                reversed: Points::ZERO,
                release: entry.release,
                expires: entry.expires,
                counts: entry.counts.clone(),
                by_line: place.map(|place| by_line.swap_remove(place).1).unwrap_or_default(),
                unknown: record::Unknown::new(),
            }
        })
        .collect();
    let line = |item: &crate::event::Item| LineRecord {
        id: item.line.clone().unwrap_or_default(),
        quantity: item.quantity,
        returned: Decimal::ZERO,
        refunded: Decimal::ZERO,
        unknown: record::Unknown::new(),
    };
    let names_lines = paid.iter().any(|paid| !paid.by_line.is_empty());
    let lines = if names_lines { order.items.iter().map(line).collect() } else { Vec::new() };
    let record = OrderRecord {
        amount: order.amount,
        at: event.time.as_second(),
        paid,
        lines,
        refunded: Decimal::ZERO,
        whole: false,
        unknown: record::Unknown::new(),
    };
    Some((order_key(&event.member, &order.id), to_json(&record)))
}

/// Pays what waited for this event, or what a referrer is told to be paid: none of the event's own pay, which campaigns
/// multiply.
fn pay_beside(
    case: &Case<'_>,
    draft: &mut Draft<'_>,
    refers: &mut Vec<RuleId>,
) -> Result<Points, PointsOverflow> {
    let Case { programme, account, event, .. } = *case;
    let waited = referral::waited(account, event).iter().filter_map(|id| programme.rule(id));
    let (to_refer, to_pay): (Vec<&Rule>, Vec<&Rule>) = waited.partition(|rule| rule.to == Payee::Referrer);
    refers.extend(to_refer.into_iter().map(|rule| rule.id.clone()));
    let told = referral::rewards(programme, account, event);
    let mut beside = Points::ZERO;
    for (rule, why) in to_pay.into_iter().map(|rule| (rule, None)).chain(told) {
        let origin = Origin::Rule(rule.id.clone());
        draft.live(rule.lifetime);
        let paid = match rule.earn {
            Earn::Nothing => earn::Paid::of(Points::ZERO, None),
            Earn::Fixed(points) => earn::Paid::of(points, None),
            Earn::PerAmount { .. } => continue, // the programme's reader does not let it through
        };
        if let Some(why) = why {
            draft.decline_rule(rule, &origin, &paid, why);
            continue;
        }
        let cut = limit::cut(case, &rule.limits, &origin, paid.points);
        draft.pay_rule(case, rule, &origin, &paid, &cut)?;
        beside = beside.plus(cut.paid)?;
    }
    Ok(beside)
}

/// What the conditions of later events may ask of this one.
fn note(event: &Event, waits: Vec<RuleId>) -> Option<Note> {
    if let Some(order) = &event.order {
        return Some(Note::Order { amount: order.amount, order_id: Some(order.id.clone()) });
    }
    if let Some(profile) = &event.profile {
        return Some(Note::Profile(ProfileUpdate { waits, ..(**profile).clone() }));
    }
    match event.internal.as_deref() {
        Some(Internal::Referred(Referred { newcomer, registered, .. })) => {
            return Some(Note::Referred { newcomer: newcomer.clone(), registered: *registered });
        }
        Some(Internal::Celebration(Celebration { occasion, year })) => {
            return Some(Note::Celebrated { occasion: *occasion, year: *year });
        }
        _ => {}
    }
    (event.kind.as_str() == "member.signed_in").then_some(Note::SignIn {})
}

/// The programme's day of an event.
#[derive(Clone, Copy)]
struct Day {
    date: Date,
    /// The event's time, in seconds since 1970.
    at: i64,
}

impl Day {
    fn of(programme: &Programme, event: &Event) -> Self {
        Self::at(programme, event.time)
    }

    fn at(programme: &Programme, time: Timestamp) -> Self {
        Self { date: programme.zone.to_datetime(time).date(), at: time.as_second() }
    }

    /// Whether the event is so late that what counted in its day is not known any more.
    fn is_forgotten(&self, account: &Account, retention: &Retention) -> bool {
        self.at < account.newest.saturating_sub(i64::from(retention.days) * 86_400)
    }
}

/// The entries of one event, and what they share.
struct Draft<'p> {
    programme: &'p Programme,
    time: Timestamp,
    at: i64,
    day: Date,
    event: std::sync::Arc<str>,
    index: u32,
    entries: Vec<Entry>,
    /// What was wanted and taken of budgets and stocks.
    draws: Vec<Draw>,
    /// How long points live that come now, with their moments where they are known already.
    lifetime: Lifetime,
    moments: Option<Moments>,
    /// How long those of a rule's points are held that are held longest, if a rule paid any.
    longest_hold: Option<CalendarSpan>,
}

impl<'p> Draft<'p> {
    fn new(case: &Case<'p>) -> Self {
        Self::of(case.programme, case.event, case.day)
    }

    fn of(programme: &'p Programme, event: &Event, day: Day) -> Self {
        Self::at(programme, event.time, day, event.id.to_string().into())
    }

    /// For what falls due where no event has come.
    fn by_the_clock(programme: &'p Programme, second: i64) -> Self {
        let time = Timestamp::from_second(second).unwrap_or_default();
        Self::at(programme, time, Day::at(programme, time), "clock".into())
    }

    fn at(programme: &'p Programme, time: Timestamp, day: Day, event: std::sync::Arc<str>) -> Self {
        Self {
            programme,
            time,
            at: day.at,
            day: day.date,
            event,
            index: 0,
            entries: Vec::new(),
            draws: Vec::new(),
            lifetime: programme.lifetime,
            moments: None,
            longest_hold: None,
        }
    }

    /// Points that come from here on live so long.
    fn live(&mut self, lifetime: Lifetime) {
        if self.lifetime != lifetime {
            self.lifetime = lifetime;
            self.moments = None;
        }
    }

    /// A moment's day in the programme's zone.
    fn day_of(&self, second: i64) -> Date {
        let time = Timestamp::from_second(second).unwrap_or(self.time);
        self.programme.zone.to_datetime(time).date()
    }

    /// The entry of a moment of its own.
    fn at_moment(&self, entry: Entry, second: i64) -> Entry {
        Entry { at: second, day: self.day_of(second), ..entry }
    }

    /// An entry that is not among the draft's.
    fn entry_of(&mut self, kind: EntryKind, by: &Origin, points: Points) -> Entry {
        self.entry(kind, by, points, None)
    }

    /// The same of something that was declined.
    fn declined_of(&mut self, by: &Origin, declined: Points, why: Why) -> Entry {
        let entry = self.entry(EntryKind::Declined, by, Points::ZERO, None);
        Entry { declined, why: Some(why), ..entry }
    }

    /// What limits and a budget left of points as an entry, and what they cut as another.
    fn pay(
        &mut self,
        by: &Origin,
        limits: &[Limit],
        points: Points,
        cut: &limit::Cut,
        of: Option<Decimal>,
        factor: Option<Decimal>,
    ) -> Result<(), PointsOverflow> {
        if cut.paid > Points::ZERO {
            let entry = self.entry(EntryKind::Earned, by, cut.paid, of);
            self.entries.push(Entry { counts: periods(limits), factor, ..entry });
        }
        if let Some(why) = cut.why {
            self.declined(by, points.minus(cut.paid)?, why, of);
        }
        Ok(())
    }

    fn declined(&mut self, by: &Origin, declined: Points, why: Why, of: Option<Decimal>) {
        let entry = self.entry(EntryKind::Declined, by, Points::ZERO, of);
        self.entries.push(Entry { declined, why: Some(why), ..entry });
    }

    fn entry(&mut self, kind: EntryKind, by: &Origin, points: Points, of: Option<Decimal>) -> Entry {
        let index = self.index;
        self.index += 1;
        let moments = if kind == EntryKind::Earned {
            let (lifetime, zone, time) = (self.lifetime, &self.programme.zone, self.time);
            *self.moments.get_or_insert_with(|| lifetime.moments(zone, time))
        } else {
            Moments::default()
        };
        Entry {
            kind: if moments.release.is_some() { EntryKind::Pending } else { kind },
            points,
            declined: Points::ZERO,
            by: by.clone(),
            index,
            why: None,
            of,
            factor: None,
            streak: None,
            reward: None,
            note: None,
            at: self.at,
            day: self.day,
            counts: Vec::new(),
            expires: moments.expires,
            release: moments.release,
            more: None,
            event: self.event.clone(),
        }
    }

    /// Says on the entry at `first` that its day counts for its rule's streak.
    fn mark_streak(&mut self, first: usize, length: u32) {
        if let Some(entry) = self.entries.get_mut(first) {
            entry.streak = Some(length);
        }
    }

    /// Has the note go with the first entry, or by itself where there is none.
    fn with_note(mut self, note: Option<Note>) -> (Vec<Entry>, Option<Noted>) {
        match self.entries.first_mut() {
            Some(first) => {
                first.note = note;
                (self.entries, None)
            }
            None => (self.entries, note.map(|note| Noted { note, index: 0, at: self.at, day: self.day })),
        }
    }
}

#[cfg(test)]
mod tests;
