//! What an event is worth: a programme, an account and an event in, entries out. Pure: no clock, no
//! I/O, no chance, so that the same event on the same account always decides the same.

mod campaign;
pub mod clock;
mod earn;
mod facts;
mod limit;
mod referral;
mod reward;
mod streak;
pub mod tier;
mod watch;

use jiff::civil::Date;
use rust_decimal::Decimal;

use crate::account::{Account, ProfileUpdate, Retention};
use crate::entry::{Applied, Change, Entry, EntryKind, Note, Noted, Origin, Referral, Why};
use crate::event::Event;
use crate::event::internal::{Celebration, Internal, Referred};
use crate::programme::{Earn, Limit, Payee, Paying, Programme, Rule, periods};
use crate::store::{ReceiptKey, once_key};
use crate::types::{CampaignId, Points, PointsOverflow, RuleId};
use referral::Course;
pub use watch::{Part, Unpaid, Watch};

/// What the rules ask of what lies outside of the account.
#[derive(Clone, Copy)]
pub struct Outside<'a> {
    /// Whether this was paid before, which is paid once ever.
    pub paid_before: &'a dyn Fn(&ReceiptKey) -> bool,
    /// What is left of a campaign's budget.
    pub left: &'a dyn Fn(&CampaignId) -> Points,
}

impl Outside<'static> {
    /// Nothing was paid before, and no budget comes to an end.
    pub const UNTOUCHED: Self = Self { paid_before: &|_| false, left: &|_| Points(i64::MAX) };
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
    /// What was wanted and taken of budgets.
    pub draws: Vec<Draw>,
    /// Somebody else who is to be paid for it, by an event of their own.
    pub referral: Option<Referral>,
}

/// What had a condition that could not be evaluated, by its index in the programme.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Unsure {
    /// A rule.
    Rule(usize),
    /// A campaign.
    Campaign(usize),
}

/// Decides an event and evolves the account by it.
///
/// # Errors
/// Where the points would leave their range. The account is then as it was.
pub fn apply(
    programme: &Programme,
    account: &mut Account,
    event: &Event,
    retention: &Retention,
    outside: &Outside<'_>,
) -> Result<Outcome, PointsOverflow> {
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
) -> Result<Outcome, PointsOverflow> {
    let Decided { entries, noted, unsure, once, draws, referral } =
        decide(programme, account, event, retention, outside, watch)?;
    let earned = entries.iter().try_fold(Points::ZERO, |sum, entry| sum.plus(entry.points))?;
    account.can_take(earned)?;
    let mut applied = Vec::with_capacity(entries.len() + 1);
    let changes = entries.into_iter().map(Change::Entry).chain(noted.map(Change::Noted));
    for change in changes {
        applied.push(evolve(account, change, retention)?);
    }
    if let Some(change) = tier::due(programme, account, event.time.as_second()) {
        applied.push(evolve(account, Change::Tier(change), retention)?);
    }
    Ok(Outcome { applied, unsure, once, draws, referral })
}

fn evolve(account: &mut Account, change: Change, retention: &Retention) -> Result<Applied, PointsOverflow> {
    account.evolve(&change, retention)?;
    Ok(Applied { change, version: account.version, available: account.available, pending: account.pending })
}

/// What was decided for an event, before the account evolves.
#[derive(Default)]
struct Decided {
    entries: Vec<Entry>,
    /// What the event says for later conditions, where no entry says it.
    noted: Option<Noted>,
    unsure: Vec<Unsure>,
    once: Vec<ReceiptKey>,
    draws: Vec<Draw>,
    referral: Option<Referral>,
}

/// The entries that an event makes: the base of each rule with its streak's bonuses, then what the tier and
/// the campaigns pay more on the base.
fn decide(
    programme: &Programme,
    account: &Account,
    event: &Event,
    retention: &Retention,
    outside: &Outside<'_>,
    watch: &mut impl Watch,
) -> Result<Decided, PointsOverflow> {
    if clock::is_over(account, event) {
        return Ok(Decided::default());
    }
    let nothing = Paying::default();
    let paying = programme.by_type.get(&event.kind).unwrap_or(&nothing);
    let day = Day::of(programme, event);
    let mut draft = Draft::new(event, &day);
    let mut facts = facts::LazyFacts::new(programme, account, event, day.date);
    let mut unsure = Vec::new();
    let mut once = Vec::new();
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
            Err(earn::Failed::Overflow) => return Err(PointsOverflow),
        };
        let origin = Origin::Rule(rule.id.clone());
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
        let new_day = streak::new_day(rule, account, &day, retention);
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
            let cut = limit::cut(&rule.limits, &origin, account, &day, paid.points, retention);
            let has_paid = draft.pay_rule(rule, &origin, &paid, &cut)?;
            base = base.plus(cut.paid)?;
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
    let beside = pay_beside(&mut draft, programme, account, event, &day, retention, &mut refers)?;
    if let Some((level, more)) = tier::bonus(programme, account, base.plus(beside)?)? {
        let entry = draft.entry(
            EntryKind::Earned,
            &Origin::Tier(level.id.clone()),
            more,
            Some(base.plus(beside)?.0.into()),
        );
        draft.entries.push(Entry { factor: Some(level.earn), ..entry });
    }
    let mut draws = Vec::new();
    if !paying.campaigns.is_empty() {
        let asked =
            campaign::Asked { programme, account, event, day: &day, base, retention, left: outside.left };
        for on in asked.paying(&paying.campaigns, &mut facts, &mut unsure, &mut draws, watch)? {
            let (of, factor) = on.basis(base);
            draft.pay(&on.origin, &on.campaign.limits, on.points, &on.cut, of, factor)?;
        }
    }
    let (entries, noted) = draft.with_note(note(event, waits));
    let referral = referral::refer(account, event, refers);
    Ok(Decided { entries, noted, unsure, once, draws, referral })
}

/// Pays what waited for this event, or what a referrer is told to be paid: none of the event's own pay, which campaigns
/// multiply.
fn pay_beside(
    draft: &mut Draft,
    programme: &Programme,
    account: &Account,
    event: &Event,
    day: &Day,
    retention: &Retention,
    refers: &mut Vec<RuleId>,
) -> Result<Points, PointsOverflow> {
    let waited = referral::waited(account, event).iter().filter_map(|id| programme.rule(id));
    let (to_refer, to_pay): (Vec<&Rule>, Vec<&Rule>) = waited.partition(|rule| rule.to == Payee::Referrer);
    refers.extend(to_refer.into_iter().map(|rule| rule.id.clone()));
    let told = referral::rewards(programme, account, event);
    let mut beside = Points::ZERO;
    for (rule, why) in to_pay.into_iter().map(|rule| (rule, None)).chain(told) {
        let origin = Origin::Rule(rule.id.clone());
        let paid = match rule.earn {
            Earn::Nothing => earn::Paid { points: Points::ZERO, of: None },
            Earn::Fixed(points) => earn::Paid { points, of: None },
            Earn::PerAmount { .. } => continue, // the programme's reader does not let it through
        };
        if let Some(why) = why {
            draft.decline_rule(rule, &origin, &paid, why);
            continue;
        }
        let cut = limit::cut(&rule.limits, &origin, account, day, paid.points, retention);
        draft.pay_rule(rule, &origin, &paid, &cut)?;
        beside = beside.plus(cut.paid)?;
    }
    Ok(beside)
}

/// What the conditions of later events may ask of this one.
fn note(event: &Event, waits: Vec<RuleId>) -> Option<Note> {
    if let Some(order) = &event.order {
        return Some(Note::Order { amount: order.amount });
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
        None => {}
    }
    (event.kind.as_str() == "member.signed_in").then_some(Note::SignIn {})
}

/// The programme's day of an event.
struct Day {
    date: Date,
    /// The event's time, in seconds since 1970.
    at: i64,
}

impl Day {
    fn of(programme: &Programme, event: &Event) -> Self {
        Self { date: programme.zone.to_datetime(event.time).date(), at: event.time.as_second() }
    }

    /// Whether the event is so late that what counted in its day is not known any more.
    fn is_forgotten(&self, account: &Account, retention: &Retention) -> bool {
        self.at < account.newest.saturating_sub(i64::from(retention.days) * 86_400)
    }
}

/// The entries of one event, and what they share.
struct Draft {
    at: i64,
    day: Date,
    event: std::sync::Arc<str>,
    index: u32,
    entries: Vec<Entry>,
}

impl Draft {
    fn new(event: &Event, day: &Day) -> Self {
        Self { at: day.at, day: day.date, event: event.id.to_string().into(), index: 0, entries: Vec::new() }
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
        Entry {
            kind,
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
            None => (self.entries, note.map(|note| Noted { note, at: self.at, day: self.day })),
        }
    }
}

#[cfg(test)]
mod tests;
