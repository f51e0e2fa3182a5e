//! Tiers: what a level pays on top of the base, and when a member reaches the next.

use rust_decimal::Decimal;

use super::earn::whole_points;
use crate::account::Account;
use crate::entry::TierChange;
use crate::programme::{Level, Programme, Tiers, Window};
use crate::types::{Points, PointsOverflow, TierId};

/// The position of the member's level. A level that the programme no longer has counts as the first.
pub fn current(tiers: &Tiers, account: &Account) -> usize {
    let held = account.tier.as_ref();
    held.and_then(|tier| tiers.levels.iter().position(|level| level.id == tier.id)).unwrap_or(0)
}

/// What the member has earned, as these tiers measure it.
pub fn measure(tiers: &Tiers, account: &Account) -> Points {
    match tiers.window {
        Window::Lifetime => account.earned.total,
        Window::Months(_) => account.earned_in_kept_months(),
    }
}

/// The level whose factor pays more on a base, and how much: base × (earn − 1), rounded once.
pub(super) fn bonus(
    programme: &Programme,
    account: &Account,
    base: Points,
) -> Result<Option<(TierId, Points)>, PointsOverflow> {
    let Some(tiers) = &programme.tiers else { return Ok(None) };
    let Some(Level { id, earn, .. }) = tiers.levels.get(current(tiers, account)) else { return Ok(None) };
    if base == Points::ZERO || *earn == Decimal::ONE {
        return Ok(None);
    }
    let more = Decimal::from(base.0).checked_mul(*earn - Decimal::ONE).ok_or(PointsOverflow)?;
    let more = whole_points(more, programme.rounding).ok_or(PointsOverflow)?;
    Ok((more != Points::ZERO).then(|| (id.clone(), more)))
}

/// The upgrade that the account has just earned, if any. Levels are only ever left at a review.
pub(super) fn due(programme: &Programme, account: &Account, at: i64) -> Option<TierChange> {
    let tiers = programme.tiers.as_ref()?;
    let measure = measure(tiers, account);
    let current = current(tiers, account);
    let reached = tiers.levels.iter().rposition(|level| level.from <= measure)?;
    if reached <= current {
        return None;
    }
    let id = |position: usize| tiers.levels.get(position).map(|level| level.id.clone());
    Some(TierChange { from: id(current)?, to: id(reached)?, measure, at })
}
