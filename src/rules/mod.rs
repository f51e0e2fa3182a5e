//! What an event is worth: a programme, an account and an event in, entries out. Pure: no clock, no
//! I/O, no chance, so that the same event on the same account always decides the same.

mod earn;
mod limit;
pub mod tier;

use jiff::civil::Date;

use crate::account::{Account, Retention};
use crate::entry::{Applied, Change, Entry, EntryKind, Origin, Why};
use crate::event::Event;
use crate::programme::Programme;
use crate::types::{Points, PointsOverflow};

/// What an event did to an account.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The changes, in their order, each with the account as it left it.
    pub applied: Vec<Applied>,
    /// Rules (by their index in the programme) whose condition could not be evaluated and so did not hold.
    pub failed_conditions: Vec<usize>,
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
) -> Result<Outcome, PointsOverflow> {
    let (entries, failed_conditions) = decide(programme, account, event, retention)?;
    let earned = entries.iter().try_fold(Points::ZERO, |sum, entry| sum.plus(entry.points))?;
    account.can_take(earned)?;
    let mut applied = Vec::with_capacity(entries.len() + 1);
    for entry in entries {
        applied.push(evolve(account, Change::Entry(entry), retention)?);
    }
    if let Some(change) = tier::due(programme, account, event.time.as_second()) {
        applied.push(evolve(account, Change::Tier(change), retention)?);
    }
    Ok(Outcome { applied, failed_conditions })
}

fn evolve(account: &mut Account, change: Change, retention: &Retention) -> Result<Applied, PointsOverflow> {
    account.evolve(&change, retention)?;
    Ok(Applied { change, version: account.version, available: account.available, pending: account.pending })
}

/// The entries that an event makes: the base of each rule, then what the tier pays more on it.
fn decide(
    programme: &Programme,
    account: &Account,
    event: &Event,
    retention: &Retention,
) -> Result<(Vec<Entry>, Vec<usize>), PointsOverflow> {
    let mut entries = Vec::new();
    let mut failed_conditions = Vec::new();
    let Some(rules) = programme.by_type.get(&event.kind) else { return Ok((entries, failed_conditions)) };
    let mut draft = Draft::new(programme, event);
    let mut facts = earn::LazyFacts::new(event);
    let mut base = Points::ZERO;
    for &at in rules {
        let Some(rule) = programme.rules.get(at) else { continue };
        let paid = match earn::base(rule, programme.rounding, event, &mut facts) {
            Ok(Some(paid)) => paid,
            Ok(None) => continue,
            Err(earn::Failed::Condition) => {
                failed_conditions.push(at);
                continue;
            }
            Err(earn::Failed::Overflow) => return Err(PointsOverflow),
        };
        let origin = Origin::Rule(rule.id.clone());
        if paid.points == Points::ZERO {
            entries.push(draft.declined(&origin, Points::ZERO, Why::BelowOnePoint, paid.of));
            continue;
        }
        let cut = limit::cut(rule, account, draft.day, draft.at, paid.points, retention);
        if cut.paid > Points::ZERO {
            let counts = rule.periods();
            entries.push(Entry { counts, ..draft.earned(&origin, cut.paid, paid.of) });
            base = base.plus(cut.paid)?;
        }
        if let Some(why) = cut.why {
            entries.push(draft.declined(&origin, paid.points.minus(cut.paid)?, why, paid.of));
        }
    }
    if let Some((level, more)) = tier::bonus(programme, account, base)? {
        entries.push(draft.earned(&Origin::Tier(level), more, Some(base.0.into())));
    }
    Ok((entries, failed_conditions))
}

/// What all entries of one event share.
struct Draft {
    at: i64,
    day: Date,
    event: std::sync::Arc<str>,
    index: u32,
}

impl Draft {
    fn new(programme: &Programme, event: &Event) -> Self {
        Self {
            at: event.time.as_second(),
            day: programme.zone.to_datetime(event.time).date(),
            event: event.id.to_string().into(),
            index: 0,
        }
    }

    fn earned(&mut self, by: &Origin, points: Points, of: Option<rust_decimal::Decimal>) -> Entry {
        self.entry(EntryKind::Earned, by, points, of)
    }

    fn declined(
        &mut self,
        by: &Origin,
        declined: Points,
        why: Why,
        of: Option<rust_decimal::Decimal>,
    ) -> Entry {
        Entry { declined, why: Some(why), ..self.entry(EntryKind::Declined, by, Points::ZERO, of) }
    }

    fn entry(
        &mut self,
        kind: EntryKind,
        by: &Origin,
        points: Points,
        of: Option<rust_decimal::Decimal>,
    ) -> Entry {
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
            at: self.at,
            day: self.day,
            counts: Vec::new(),
            event: self.event.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
