//! Tiers: what a level pays on top of the base, and when a member reaches the next.

use rust_decimal::Decimal;

use super::earn::whole_points;
use crate::account::Account;
use crate::entry::TierChange;
use crate::programme::{Level, Measure, Programme, Tiers, Window};
use crate::types::{Points, PointsOverflow, TierId};

/// The position of the member's level. A level that the programme no longer has counts as the first.
pub fn current(tiers: &Tiers, account: &Account) -> usize {
    let held = account.tier.as_ref();
    held.and_then(|tier| tiers.levels.iter().position(|level| level.id == tier.id)).unwrap_or(0)
}

/// What counts toward levels as of the account's latest event; money in whole units.
pub fn measure(tiers: &Tiers, account: &Account) -> Points {
    let earned = account.earned.months.last().map(|(month, _)| *month);
    let active = account.activity.months.last().map(|month| month.0);
    measure_in(tiers, account, earned.max(active).unwrap_or_default())
}

/// What counts toward levels in a month (year × 12 + month − 1); money in whole units.
pub fn measure_in(tiers: &Tiers, account: &Account, month: i32) -> Points {
    let months = match tiers.window {
        Window::Lifetime => {
            return match tiers.measure {
                Measure::Earned => account.earned.total,
                Measure::Spend => whole_units(account.activity.spend),
            };
        }
        Window::Months(months) => i32::from(months),
        Window::CalendarYear => month.rem_euclid(12) + 1,
    };
    let counts = |other: i32| other > month - months && other <= month;
    match tiers.measure {
        Measure::Earned => {
            let counting = account.earned.months.iter().filter(|(month, _)| counts(*month));
            Points(counting.map(|(_, points)| points.0).fold(0, i64::saturating_add))
        }
        Measure::Spend => {
            let counting = account.activity.months.iter().filter(|month| counts(month.0));
            whole_units(counting.map(|month| month.2).fold(Decimal::ZERO, Decimal::saturating_add))
        }
    }
}

fn whole_units(money: Decimal) -> Points {
    Points(i64::try_from(money.floor()).unwrap_or(i64::MAX))
}

/// The level whose factor pays more on a base, and how much: base × (earn − 1), rounded once.
pub(super) fn bonus<'p>(
    programme: &'p Programme,
    account: &Account,
    base: Points,
) -> Result<Option<(&'p Level, Points)>, PointsOverflow> {
    let Some(tiers) = &programme.tiers else { return Ok(None) };
    let Some(level) = tiers.levels.get(current(tiers, account)) else { return Ok(None) };
    if base == Points::ZERO || level.earn == Decimal::ONE {
        return Ok(None);
    }
    let more = Decimal::from(base.0).checked_mul(level.earn - Decimal::ONE).ok_or(PointsOverflow)?;
    let more = whole_points(more, programme.rounding).ok_or(PointsOverflow)?;
    Ok((more != Points::ZERO).then_some((level, more)))
}

/// The upgrade that the account has just earned, if any. Levels are only ever left at a review.
pub(super) fn due(programme: &Programme, account: &Account, at: i64) -> Option<TierChange> {
    let tiers = programme.tiers.as_ref()?;
    // A late event is decided by an earlier version, which may not have the level that was reached since.
    let is_known = |held: &TierId| tiers.levels.iter().any(|level| level.id == *held);
    if account.tier.as_ref().is_some_and(|held| at < held.since && !is_known(&held.id)) {
        return None;
    }
    let measure = measure(tiers, account);
    let current = current(tiers, account);
    let reached = tiers.levels.iter().rposition(|level| level.from <= measure)?;
    if reached <= current {
        return None;
    }
    let id = |position: usize| tiers.levels.get(position).map(|level| level.id.clone());
    let benefits = tiers.levels.get(reached)?.benefits.clone();
    Some(TierChange { from: id(current)?, to: id(reached)?, benefits, measure, at })
}
