//! Tiers: what a level pays on top of the base, and when a member reaches the next.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rust_decimal::Decimal;

use super::earn::whole_points;
use crate::account::{Account, Tier, period_index};
use crate::entry::{TierChange, TierWhy};
use crate::programme::lifetime::{after, before, end_of};
use crate::programme::{Drop, Level, Measure, Period, Programme, Tiers, Window};
use crate::types::{Points, PointsOverflow, TierId};

/// The position of the member's level. A level that the programme no longer has counts as the first.
pub fn current(tiers: &Tiers, account: &Account) -> usize {
    let held = account.tier.as_ref();
    held.and_then(|tier| tiers.levels.iter().position(|level| level.id == tier.id)).unwrap_or(0)
}

/// What counts toward levels as of the account's latest event, or of a later moment; money in whole units. What was
/// earned so long ago that it counts no more does not bring a level back that a review took.
pub fn measure(programme: &Programme, tiers: &Tiers, account: &Account, at: i64) -> Points {
    let latest = Timestamp::from_second(account.newest.max(at)).unwrap_or_default();
    let day = programme.zone.to_datetime(latest).date();
    measure_in(tiers, account, period_index(Period::Month, day))
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

/// The upgrade that the account has just earned, if any. Levels are only ever left at a review, or where what they
/// rest on is refunded.
pub(super) fn due(programme: &Programme, account: &Account, at: i64) -> Option<TierChange> {
    let tiers = programme.tiers.as_ref()?;
    // A late event is decided by an earlier version, which may not have the level that was reached since.
    let is_known = |held: &TierId| tiers.levels.iter().any(|level| level.id == *held);
    if account.tier.as_ref().is_some_and(|held| at < held.since && !is_known(&held.id)) {
        return None;
    }
    let measure = measure(programme, tiers, account, at);
    let current = current(tiers, account);
    let reached = reached(tiers, measure)?;
    if reached <= current {
        return None;
    }
    change(programme, tiers, (current, reached), measure, at, TierWhy::Reached)
}

/// The highest level that a measure is enough for.
fn reached(tiers: &Tiers, measure: Points) -> Option<usize> {
    tiers.levels.iter().rposition(|level| level.from <= measure)
}

/// The level that another member had who is the same person, where it is higher.
pub(super) fn taken_over(
    programme: &Programme,
    account: &Account,
    other: &Tier,
    at: i64,
) -> Option<TierChange> {
    let tiers = programme.tiers.as_ref()?;
    let theirs = tiers.levels.iter().position(|level| level.id == other.id)?;
    let current = current(tiers, account);
    let measure = measure(programme, tiers, account, at);
    (theirs > current)
        .then(|| change(programme, tiers, (current, theirs), measure, at, TierWhy::Reached))
        .flatten()
        .map(|change| TierChange { until: other.until.or(change.until), ..change })
}

/// The level that the member is back at after a refund, where it took what the level rests on: the level was reached
/// with the order or after it, and what is measured was enough for it before the refund and is not any more.
pub(super) fn revoked(
    programme: &Programme,
    account: &Account,
    order_at: i64,
    measured_before: Points,
    at: i64,
) -> Option<TierChange> {
    let tiers = programme.tiers.as_ref()?;
    let held = account.tier.as_ref().filter(|held| held.since >= order_at)?;
    let current = current(tiers, account);
    let level = tiers.levels.get(current).filter(|level| level.id == held.id)?;
    let measure = measure(programme, tiers, account, at);
    if !(measure < level.from && level.from <= measured_before) {
        return None;
    }
    // What was held before the order does not rest on it.
    let place = |held: &Tier| tiers.levels.iter().position(|level| level.id == held.id);
    let earlier = held.held_before().filter(|before| before.since < order_at).filter_map(place).max();
    let back_to = reached(tiers, measure).max(earlier).unwrap_or(0);
    if back_to >= current {
        return None;
    }
    let back = change(programme, tiers, (current, back_to), measure, at, TierWhy::Refunded)?;
    // The level is kept for as long as it would have been: a refund puts no review off.
    let known = held.held_before().find(|before| before.id == back.to).and_then(|before| before.until);
    let until = known.filter(|until| *until > at).or(held.until);
    Some(TierChange { until: until.filter(|_| back_to > 0), rested_on: Some(order_at), ..back })
}

fn change(
    programme: &Programme,
    tiers: &Tiers,
    (from, to): (usize, usize),
    measure: Points,
    at: i64,
    why: TierWhy,
) -> Option<TierChange> {
    let level = tiers.levels.get(to)?;
    // The first level is everybody's, and nobody loses it.
    let until = if to == 0 { None } else { kept_until(tiers, &programme.zone, at) };
    Some(TierChange {
        from: tiers.levels.get(from)?.id.clone(),
        to: level.id.clone(),
        benefits: level.benefits.clone(),
        measure,
        why,
        until,
        at,
        rested_on: None,
    })
}

/// Until when a level is kept that is reached, or kept, at a moment.
fn kept_until(tiers: &Tiers, zone: &TimeZone, second: i64) -> Option<i64> {
    let review = tiers.review?;
    end_of(zone, after(zone, Timestamp::from_second(second).ok()?, review.every)?, review.at)
}

/// A review of a member's level.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReviewAt {
    /// Until when the level is kept.
    pub until: i64,
    /// When it is looked at: then, or some grace later.
    pub at: i64,
}

/// When the member's level is looked at next; never for the first level, of a closed account, or where the programme has
/// no review.
pub fn review(programme: &Programme, account: &Account) -> Option<ReviewAt> {
    let tiers = programme.tiers.as_ref()?;
    let review = tiers.review?;
    let held = account.tier.as_ref()?;
    if current(tiers, account) == 0 || account.closed.is_some() {
        return None;
    }
    let zone = &programme.zone;
    let until = if let Some(until) = held.until {
        until
    } else {
        // The level is older than the review: its first one is after whatever the member did last, so that nothing is
        // measured that was forgotten meanwhile.
        let mut until = kept_until(tiers, zone, held.since)?;
        for _ in 0..200 {
            if until > account.newest {
                break;
            }
            until = kept_until(tiers, zone, until)?;
        }
        until
    };
    let at = after(zone, Timestamp::from_second(until).ok()?, review.grace)?;
    Some(ReviewAt { until, at })
}

/// When a member is told of the review that comes, if it would go against them as things stand.
pub(super) fn review_notice(programme: &Programme, account: &Account) -> Option<i64> {
    let tiers = programme.tiers.as_ref()?;
    let notice = tiers.review?.notice?;
    let held = account.tier.as_ref()?;
    let review = review(programme, account)?;
    let level = tiers.levels.get(current(tiers, account))?;
    if held.noticed == Some(review.at) || measured_at(programme, tiers, account, review) >= level.from {
        return None;
    }
    before(&programme.zone, review.at, notice)
}

/// Tells a member of a review.
pub(super) fn review_due(programme: &Programme, account: &Account, at: i64) -> Option<TierChange> {
    let tiers = programme.tiers.as_ref()?;
    let review = review(programme, account)?;
    let current = current(tiers, account);
    let measure = measured_at(programme, tiers, account, review);
    let change = change(programme, tiers, (current, current), measure, at, TierWhy::ReviewDue)?;
    Some(TierChange { until: Some(review.at), ..change })
}

/// What comes of a review.
pub(super) fn reviewed(programme: &Programme, account: &Account) -> Option<TierChange> {
    let tiers = programme.tiers.as_ref()?;
    let review = review(programme, account)?;
    let current = current(tiers, account);
    let measure = measured_at(programme, tiers, account, review);
    let deserved = reached(tiers, measure).unwrap_or(0);
    if deserved >= current {
        let kept = change(programme, tiers, (current, current), measure, review.at, TierWhy::Kept)?;
        return Some(TierChange { until: kept_until(tiers, &programme.zone, review.until), ..kept });
    }
    let to = match tiers.review?.drop {
        Drop::OneLevel => deserved.max(current - 1),
        Drop::ToMeasure => deserved,
    };
    change(programme, tiers, (current, to), measure, review.at, TierWhy::Review)
}

/// What counts at a review: in the time until which the level was kept, or with the grace after it, whichever is more.
fn measured_at(programme: &Programme, tiers: &Tiers, account: &Account, review: ReviewAt) -> Points {
    let in_month_before = |second: i64| {
        let last = Timestamp::from_second(second - 1).unwrap_or_default();
        let day = programme.zone.to_datetime(last).date();
        measure_in(tiers, account, period_index(Period::Month, day))
    };
    in_month_before(review.until).max(in_month_before(review.at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::MemberId;

    fn programme(review: &str) -> Programme {
        let text = format!(
            "programme: p\ntimezone: Europe/Berlin\ncurrency: EUR\nrules: [{{id: r, on: order.paid, earn: {{points: 1, per: 1}}}}]
tiers: {{window: P12M, review: {review}, levels: [{{id: basic, from: 0}}, {{id: silver, from: 100}}, {{id: gold, from: 500}}]}}\n"
        );
        Programme::parse("programme.yaml", &text).unwrap_or_else(|problems| panic!("{problems}"))
    }

    fn second(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_second()
    }

    fn gold(since: &str, months: &[(i32, i64)]) -> Account {
        let mut account = Account::new(MemberId::from("m"));
        account.tier =
            Some(Tier { id: "gold".into(), since: second(since), before: None, until: None, noticed: None });
        account.earned.months = months.iter().map(|(month, points)| (*month, Points(*points))).collect();
        account.newest = second(since);
        account
    }

    #[test]
    fn a_level_is_reviewed_on_its_anniversary_or_by_the_calendar_and_some_grace_later() {
        for (text, until, at) in [
            ("{every: P1Y, drop: one_level}", "2027-03-05T10:00:00Z", "2027-03-05T10:00:00Z"),
            (
                "{every: P1Y, at: end_of_year, drop: one_level}",
                "2027-12-31T23:00:00Z",
                "2027-12-31T23:00:00Z",
            ),
            ("{every: P6M, grace: P30D, drop: one_level}", "2026-09-05T09:00:00Z", "2026-10-05T09:00:00Z"),
        ] {
            let review = review(&programme(text), &gold("2026-03-05T10:00:00Z", &[])).unwrap();
            assert_eq!(review, ReviewAt { until: second(until), at: second(at) }, "{text}");
        }
    }

    #[test]
    fn a_level_that_is_older_than_the_review_is_first_looked_at_after_what_the_member_did_last() {
        let account = Account { newest: second("2026-11-26T10:00:00Z"), ..gold("2020-03-05T10:00:00Z", &[]) };
        let review = review(&programme("{every: P1Y, drop: one_level}"), &account).unwrap();
        assert_eq!(review.until, second("2027-03-05T10:00:00Z"));
    }

    #[test]
    fn a_review_keeps_drops_one_level_or_to_the_measure() {
        let march_2027 = 2027 * 12 + 2;
        for (drop, points, to, why) in [
            ("one_level", 500, "gold", TierWhy::Kept),
            ("one_level", 499, "silver", TierWhy::Review),
            ("one_level", 0, "silver", TierWhy::Review),
            ("to_measure", 499, "silver", TierWhy::Review),
            ("to_measure", 99, "basic", TierWhy::Review),
        ] {
            let programme = programme(&format!("{{every: P1Y, drop: {drop}}}"));
            let account = gold("2026-03-05T10:00:00Z", &[(march_2027 - 12, 900), (march_2027 - 1, points)]);
            let change = reviewed(&programme, &account).unwrap();
            assert_eq!((change.to.as_str(), change.why), (to, why), "{drop} {points}");
            let until = (to != "basic").then(|| second("2028-03-05T10:00:00Z"));
            assert_eq!(change.until, until, "{drop} {points}");
        }
    }
}
