//! Redemptions: whether a member may have a reward, what it costs them, and what comes of it. Checked and debited in one
//! step: the answer is an entry.

use rust_decimal::{Decimal, RoundingStrategy};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::limit::{self, Cut};
use super::purse::Purse;
use super::refund::returned;
use super::{Case, Decided, Draft, Draw, Refusal, tier};
use crate::entry::{About, Drawn, Entry, EntryKind, More, Origin, Why};
use crate::event::deed::Request;
use crate::event::money::minor_digits;
use crate::programme::redemption::{Offer, Prize};
use crate::programme::reward::RewardKind;
use crate::programme::{Programme, periods};
use crate::record::{Redemption, SpentRecord, redemption_key, spent_key, to_json};
use crate::types::{Points, RewardId};

/// What a redemption comes to, if it may be.
struct Price {
    points: Points,
    worth: Option<Decimal>,
}

/// Decides `redemption.requested`.
pub(super) fn request(case: &Case<'_>, request: &Request) -> Result<Decided, Refusal> {
    let Case { programme, account, event, .. } = *case;
    let mut draft = Draft::new(case);
    let offer = programme.redemption.offer(&request.reward);
    let by = Origin::Redemption(RewardId::from(&*request.reward));
    let mut decided = Decided::default();
    let spent = match &request.order {
        Some(order) => case.record::<SpentRecord>(&spent_key(&event.member, order))?.unwrap_or_default(),
        None => SpentRecord::default(),
    };
    let answer = check(case, request, offer, &spent, &mut decided.draws);
    let mut about = About {
        redemption_id: Some(request.redemption.clone()),
        order_id: request.order.clone(),
        quantity: Some(request.quantity).filter(|quantity| *quantity != 1),
        ..About::default()
    };
    let mut record = Redemption {
        reward: RewardId::from(&*request.reward),
        kind: offer.map(|offer| offer.reward.kind),
        points: Points::ZERO,
        worth: None,
        quantity: request.quantity,
        prizes: Vec::new(),
        prize_points: Points::ZERO,
        why: None,
        at: draft.at,
        lots: Vec::new(),
        order: request.order.clone(),
        counts: Vec::new(),
        returned: Points::ZERO,
        cancelled: false,
        unknown: crate::record::Unknown::new(),
    };
    match (answer, offer) {
        (Ok(price), Some(offer)) => {
            let taken = Purse::of(account).spend(price.points);
            let drawn = draw(case, offer, request, &mut decided.draws);
            about.worth = price.worth;
            about.prizes.clone_from(&drawn);
            record.points = price.points;
            record.worth = price.worth;
            record.lots.clone_from(&taken.lots);
            record.counts = periods(&programme.redemption.limits);
            record.prizes = drawn.iter().map(|drawn| drawn.id.clone()).collect();
            let won = drawn.iter().filter_map(|drawn| drawn.points).try_fold(Points::ZERO, Points::plus)?;
            record.prize_points = won;
            decided.entries.push(Entry {
                counts: record.counts.clone(),
                reward: Some(offer.reward.clone()),
                more: Some(Box::new(More { lots: taken.lots, about: about.clone() })),
                ..draft.entry_of(EntryKind::Redeemed, &by, Points::ZERO.minus(price.points)?)
            });
            if won > Points::ZERO {
                draft.live(programme.lifetime);
                let entry = draft.entry(EntryKind::Earned, &by, won, None);
                let about = About { redemption_id: about.redemption_id, ..About::default() };
                decided
                    .entries
                    .push(Entry { more: Some(Box::new(More { about, ..More::default() })), ..entry });
            }
            if let Some(order) = &request.order {
                let mut spent = spent;
                spent.redemptions.push(request.redemption.clone());
                spent.worth = spent.worth.saturating_add(price.worth.unwrap_or_default());
                decided.records.push((spent_key(&event.member, order), to_json(&spent)));
            }
        }
        (answer, _) => {
            let why = answer.err().unwrap_or(Why::UnknownReward);
            record.why = Some(why);
            let asked = cost(programme, request, offer).unwrap_or_default();
            let reward = offer.map(|offer| offer.reward.clone());
            let more = Some(Box::new(More { about, ..More::default() }));
            decided.entries.push(Entry { reward, more, ..draft.declined_of(&by, asked, why) });
        }
    }
    decided.records.push((redemption_key(&event.member, &request.redemption), to_json(&record)));
    Ok(decided)
}

/// What the request costs.
fn cost(programme: &Programme, request: &Request, offer: Option<&Offer>) -> Option<Points> {
    match offer?.price {
        Some(price) => price.0.checked_mul(request.quantity.into()).map(Points),
        None => programme.redemption.rate.and(request.points),
    }
}

/// Whether the member may have it, and what it then costs and is worth.
fn check(
    case: &Case<'_>,
    request: &Request,
    offer: Option<&Offer>,
    spent: &SpentRecord,
    draws: &mut Vec<Draw>,
) -> Result<Price, Why> {
    let offer = offer.ok_or(Why::UnknownReward)?;
    let Case { programme, account, .. } = *case;
    // A condition that cannot be evaluated does not hold.
    if !case.facts().holds(offer.when.as_ref(), None).unwrap_or(false) {
        return Err(Why::NotEligible);
    }
    let points = cost(programme, request, Some(offer)).ok_or(Why::BadRequest)?;
    let worth = worth(case, request, offer, points);
    if offer.is_money() && worth.is_none_or(|worth| worth.is_zero()) {
        return Err(Why::WorthNothing);
    }
    if let (true, Some(share)) = (offer.is_money(), programme.redemption.share_of_order) {
        let Some(order) = request.order_amount.filter(|_| request.order.is_some()) else {
            return Err(Why::BadRequest);
        };
        let most = order.checked_mul(share).unwrap_or(order);
        if spent.worth.saturating_add(worth.unwrap_or_default()) > most {
            return Err(Why::ShareOfOrder);
        }
    }
    let by = Origin::Redemption(offer.reward.id.clone());
    let cut = limit::cut(case, &programme.redemption.limits, &by, points);
    if let Cut { why: Some(why), .. } = cut {
        return Err(why);
    }
    if account.available < points {
        return Err(Why::InsufficientPoints);
    }
    if offer.stock.is_some() {
        let draw = case.draw_whole(offer.stock_id(), Points(request.quantity.into()), draws);
        let is_gone = draw.paid == Points::ZERO;
        draws.push(draw);
        if is_gone {
            return Err(Why::OutOfStock);
        }
    }
    Ok(Price { points, worth })
}

/// What it is worth: money at the rate of the moment, times the level's factor, rounded down to what the currency has.
fn worth(case: &Case<'_>, request: &Request, offer: &Offer, points: Points) -> Option<Decimal> {
    let Case { programme, account, event, day, .. } = *case;
    if !offer.is_money() {
        return offer.reward.worth.and_then(|worth| worth.checked_mul(request.quantity.into()));
    }
    let worth = programme.redemption.worth(points, event.time, day.date, account.profile.birthday)?;
    let tiers = programme.tiers.as_ref();
    let level = tiers.and_then(|tiers| tiers.levels.get(tier::current(tiers, account)));
    let worth = worth.checked_mul(level.map_or(Decimal::ONE, |level| level.redeem))?;
    let digits = minor_digits(&programme.currency);
    Some(worth.round_dp_with_strategy(digits, RoundingStrategy::ToZero))
}

/// Draws once for each of the quantity, from a generator seeded by the event's id: the same event always draws the same
/// from the same prizes. What is gone is not drawn: its weight falls to the others.
fn draw(case: &Case<'_>, offer: &Offer, request: &Request, draws: &mut Vec<Draw>) -> Vec<Drawn> {
    if offer.reward.kind != RewardKind::Lottery {
        return Vec::new();
    }
    let seed = case.event.id.to_string();
    let mut drawn = Vec::new();
    for number in 0..request.quantity {
        let mut gone: Vec<&Prize> = Vec::new();
        for attempt in 0..=offer.prizes.len() {
            let there = || offer.prizes.iter().filter(|prize| !gone.iter().any(|gone| gone.id == prize.id));
            let all: u64 = there().map(|prize| u64::from(prize.weight)).sum();
            let random = xxh3_64_with_seed(
                seed.as_bytes(),
                u64::from(number) << 32 | u64::try_from(attempt).unwrap_or_default(),
            );
            // The high half of a product is a number below the other factor, evenly but for 2^-32 of it.
            let mut place = u64::try_from((u128::from(random) * u128::from(all)) >> 64).unwrap_or_default();
            let hit = there().find(|prize| {
                let is_hit = place < u64::from(prize.weight);
                place = place.saturating_sub(u64::from(prize.weight));
                is_hit
            });
            let Some(prize) = hit else { break };
            if prize.stock.is_some() {
                let id = offer.prize_id(prize);
                let draw = case.draw_whole(id, Points(1), draws);
                let is_gone = draw.paid == Points::ZERO;
                draws.push(draw);
                if is_gone {
                    gone.push(prize);
                    continue;
                }
            }
            let odds = (u64::from(prize.weight), all);
            drawn.push(Drawn { id: prize.id.clone(), odds, points: prize.points });
            break;
        }
    }
    drawn
}

/// Decides `redemption.cancelled`: the same lots come back, with the moments that they had.
pub(super) fn cancel(case: &Case<'_>, redemption_id: &str) -> Result<Decided, Refusal> {
    let Case { programme, event, .. } = *case;
    let mut draft = Draft::new(case);
    let mut decided = Decided::default();
    let key = redemption_key(&event.member, redemption_id);
    let found = case.record::<Redemption>(&key)?;
    let by = |reward: &RewardId| Origin::Redemption(reward.clone());
    let about = About { redemption_id: Some(redemption_id.into()), ..About::default() };
    let mut decline = |by: &Origin, why| {
        let more = Some(Box::new(More { about: about.clone(), ..More::default() }));
        let entry = draft.declined_of(by, Points::ZERO, why);
        Decided { entries: vec![Entry { more, ..entry }], ..Decided::default() }
    };
    let Some(mut redemption) = found.filter(|found| found.why.is_none()) else {
        return Ok(decline(&by(&RewardId::from("unknown")), Why::UnknownRedemption));
    };
    let by = by(&redemption.reward);
    if redemption.cancelled || (redemption.returned == redemption.points && redemption.points > Points::ZERO)
    {
        return Ok(decline(&by, Why::AlreadyCancelled));
    }
    if redemption.kind == Some(RewardKind::Lottery) {
        // What was drawn is drawn.
        return Ok(decline(&by, Why::NotEligible));
    }
    let points = redemption.points.minus(redemption.returned)?;
    let about = About { order_id: redemption.order.clone(), whole: true, ..about };
    decided.entries.extend(returned(&mut draft, event, &redemption, points, about)?);
    if let Some(offer) = programme.redemption.offer(redemption.reward.as_str())
        && offer.stock.is_some()
    {
        decided.returns.push((offer.stock_id(), Points(redemption.quantity.into())));
    }
    if let Some(order) = &redemption.order {
        let spent_key = spent_key(&event.member, order);
        if let Some(mut spent) = case.record::<SpentRecord>(&spent_key)? {
            spent.redemptions.retain(|id| **id != *redemption_id);
            spent.worth = spent.worth.saturating_sub(redemption.worth.unwrap_or_default());
            decided.records.push((spent_key, to_json(&spent)));
        }
    }
    redemption.cancelled = true;
    decided.records.push((key, to_json(&redemption)));
    Ok(decided)
}
