//! Refunds: what an order was recorded to have paid goes back, in proportion to what was given back of it, rounded on
//! the sum of all its refunds so far. So parts in any order come to exactly the whole, and never to more.

use std::borrow::Cow;

use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;

use super::purse::{self, Purse};
use super::{Case, Decided, Draft, Refusal};
use crate::account::{Lot, MOST_WAITING, WaitingRefund};
use crate::entry::{About, Act, Change, Entry, EntryKind, Message, More, Note, Noted, Origin, Why};
use crate::event::Event;
use crate::event::deed::Refund;
use crate::programme::Shortfall;
use crate::programme::reward::RewardKind;
use crate::record::{
    OrderRecord, PaidEntry, Redemption, SpentRecord, order_key, redemption_key, spent_key, to_json,
};
use crate::types::{Points, PointsOverflow};

/// Decides a refund, which may have waited for its order.
pub(super) fn decide(
    case: &Case<'_>,
    refund: &Refund,
    waited: Option<&WaitingRefund>,
) -> Result<Decided, Refusal> {
    let Case { programme, account, event, retention, .. } = *case;
    let mut draft = Draft::new(case);
    let key = order_key(&event.member, &refund.order);
    let Some(mut order) = case.record::<OrderRecord>(&key)? else {
        return wait(case, refund, waited, &draft);
    };
    let order_day = draft.day_of(order.at);
    let was_whole = order.whole;
    let left = order.amount.saturating_sub(order.refunded);
    let cut = refund.amount.min(left);
    take_in(&mut order, refund, cut);

    let mut decided = Decided { reverses: Some(order.at), ..Decided::default() };
    let about = |whole| About {
        order_id: Some(refund.order.clone()),
        refund_id: Some(refund.refund.clone()),
        whole,
        ..About::default()
    };
    // What paid for the order comes back first, so that it is there for what is taken.
    give_back(case, &mut decided, &mut draft, refund, &order)?;
    let mut with_returned = Cow::Borrowed(account);
    for entry in &decided.entries {
        with_returned.to_mut().evolve(&Change::Entry(Box::new(entry.clone())), retention)?;
    }
    // What a merged account lacks the other one has.
    let shortfall = if account.closed.is_some() { Shortfall::Negative } else { programme.shortfall };
    let mut purse = Purse::of(&with_returned);
    let (amount, refunded, whole) = (order.amount, order.refunded, order.whole);
    let lines = std::mem::take(&mut order.lines);
    for paid in &mut order.paid {
        let goal = to_reverse(paid, &lines, amount, refunded, whole)?;
        let points = goal.minus(paid.reversed)?;
        // What a limit counted as an event comes back with the last of it, also where no point does.
        let ends = whole && !was_whole && !paid.counts.is_empty();
        if points <= Points::ZERO && !ends {
            continue;
        }
        paid.reversed = goal.max(paid.reversed);
        let earned = Lot { release: paid.release, expires: paid.expires, ..Lot::default() };
        let taken = purse.reverse(points, earned);
        let (takes, short) = taken.under(shortfall, points);
        let entry = draft.entry_of(EntryKind::Reversed, &paid.by, Points::ZERO.minus(takes)?);
        decided.entries.push(Entry {
            counts: paid.counts.clone(),
            day: order_day,
            more: Some(Box::new(More { lots: taken.lots, about: about(whole) })),
            ..entry
        });
        if short > Points::ZERO {
            let entry = draft.declined_of(&paid.by, short, Why::Shortfall);
            decided.entries.push(Entry {
                counts: paid.counts.clone(),
                day: order_day,
                more: Some(Box::new(More { about: about(false), ..More::default() })),
                ..entry
            });
        }
        if let Origin::Campaign(campaign) = &paid.by
            && programme.budget(campaign).is_some()
        {
            decided.returns.push((campaign.clone(), points));
        }
    }
    order.lines = lines;

    let excess = refund.amount.saturating_sub(cut);
    if excess > Decimal::ZERO || (was_whole && cut.is_zero()) {
        let entry = draft.declined_of(&Origin::Act(Act::Refund), Points::ZERO, Why::RefundedBefore);
        let more = Some(Box::new(More { about: about(false), ..More::default() }));
        decided.entries.push(Entry { of: Some(excess), more, ..entry });
    }
    if cut > Decimal::ZERO || (whole && !was_whole) {
        let whole = whole && !was_whole;
        let note = Note::Refunded { amount: cut, whole, order_id: refund.order.clone() };
        decided.noted.push(Noted { note, index: 0, at: draft.at, day: order_day });
    }
    if waited.is_some() {
        decided.noted.push(no_more(&draft, refund));
    }
    decided.records.push((key, to_json(&order)));
    Ok(decided)
}

/// A refund whose order is not known: it waits, or has waited long enough.
fn wait(
    case: &Case<'_>,
    refund: &Refund,
    waited: Option<&WaitingRefund>,
    draft: &Draft<'_>,
) -> Result<Decided, Refusal> {
    let Case { account, event, retention, .. } = *case;
    let mut decided = Decided::default();
    if let Some(waited) = waited {
        decided.noted.push(no_more(draft, refund));
        decided.messages.push(Message::Unclaimed(waited.clone()));
        return Ok(decided);
    }
    if account.waiting.len() >= MOST_WAITING {
        return Err(Refusal::TooManyWaiting);
    }
    let waiting = WaitingRefund {
        refund: refund.clone(),
        source: event.id.source.clone(),
        id: event.id.id.clone(),
        time: event.time_text.clone(),
        until: event.as_of.saturating_add(i64::from(retention.days) * 86_400),
    };
    decided.noted.push(Noted { note: Note::Waits(waiting), index: 0, at: draft.at, day: draft.day });
    Ok(decided)
}

fn no_more(draft: &Draft<'_>, refund: &Refund) -> Noted {
    let note = Note::WaitsNoMore { refund_id: refund.refund.clone() };
    Noted { note, index: 1, at: draft.at, day: draft.day }
}

/// Notes on the order's record what was given back.
fn take_in(order: &mut OrderRecord, refund: &Refund, cut: Decimal) {
    order.refunded = order.refunded.saturating_add(cut);
    for line in &refund.lines {
        let known = order.lines.iter_mut().find(|known| known.id == line.line && !known.id.is_empty());
        if let Some(known) = known {
            known.returned = known.returned.saturating_add(line.quantity).min(known.quantity);
            known.refunded = known.refunded.saturating_add(line.amount);
        }
    }
    // Of an order that cost nothing, which points paid for, only its lines tell a part from the whole.
    let names_a_part = order.amount.is_zero()
        && !refund.lines.is_empty()
        && order.lines.iter().any(|line| line.returned < line.quantity);
    order.whole = order.whole || (order.refunded >= order.amount && !names_a_part);
}

/// How many points of an entry are to be taken back in all. It depends on the sums alone, never on their parts, and never
/// falls as they grow.
fn to_reverse(
    paid: &PaidEntry,
    lines: &[crate::record::LineRecord],
    amount: Decimal,
    refunded: Decimal,
    whole: bool,
) -> Result<Points, PointsOverflow> {
    if whole {
        return Ok(paid.points);
    }
    let points = Decimal::from(paid.points.0);
    if paid.by_line.is_empty() {
        return share(points, refunded, amount);
    }
    // What lines paid goes back with them; what was refunded for no line takes its share of the rest.
    let base = paid.by_line.iter().fold(Decimal::ZERO, |sum, line| sum.saturating_add(line.0.into()));
    let mut of_lines = Decimal::ZERO;
    let mut money_of_lines = Decimal::ZERO;
    for (line, points) in lines.iter().zip(&paid.by_line) {
        of_lines = of_lines.saturating_add(share(points.0.into(), line.returned, line.quantity)?.0.into());
        money_of_lines = money_of_lines.saturating_add(line.refunded);
    }
    let of_lines = share(points, of_lines, base)?;
    let money_of_lines = money_of_lines.min(refunded);
    let rest = paid.points.minus(of_lines)?;
    let unnamed = refunded.saturating_sub(money_of_lines).max(Decimal::ZERO);
    let unnamed_of = amount.saturating_sub(money_of_lines).max(unnamed);
    of_lines.plus(share(rest.0.into(), unnamed, unnamed_of)?)
}

/// `of × part / whole`, rounded down; multiplied first, which is exact.
fn share(of: Decimal, part: Decimal, whole: Decimal) -> Result<Points, PointsOverflow> {
    if whole.is_zero() {
        return Ok(Points::ZERO);
    }
    let exact = of.checked_mul(part).and_then(|product| product.checked_div(whole)).ok_or(PointsOverflow)?;
    exact.floor().to_i64().map(Points).ok_or(PointsOverflow)
}

/// Points that paid for the order come back, with the moments that they had.
fn give_back(
    case: &Case<'_>,
    decided: &mut Decided,
    draft: &mut Draft<'_>,
    refund: &Refund,
    order: &OrderRecord,
) -> Result<(), Refusal> {
    let event = case.event;
    let Some(spent) = case.record::<SpentRecord>(&spent_key(&event.member, &refund.order))? else {
        return Ok(());
    };
    for id in &spent.redemptions {
        let key = redemption_key(&event.member, id);
        // What was drawn is drawn.
        let comes_back = |found: &Redemption| !found.cancelled && found.kind != Some(RewardKind::Lottery);
        let Some(mut redemption) = case.record::<Redemption>(&key)?.filter(comes_back) else {
            continue;
        };
        let all = redemption.points;
        let goal = if order.whole { all } else { share(all.0.into(), order.refunded, order.amount)? };
        let points = goal.minus(redemption.returned)?;
        if points <= Points::ZERO {
            continue;
        }
        let about = About {
            order_id: Some(refund.order.clone()),
            refund_id: Some(refund.refund.clone()),
            redemption_id: Some(id.clone()),
            whole: goal == all,
            ..About::default()
        };
        decided.entries.extend(returned(draft, event, &redemption, points, about)?);
        redemption.returned = goal;
        decided.records.push((key, to_json(&redemption)));
    }
    Ok(())
}

/// So many points of a redemption come back, with the moments that they had. Those that are over by now expire at once: they
/// pay for nothing any more, not even what the balance lacks.
pub(super) fn returned(
    draft: &mut Draft<'_>,
    event: &Event,
    redemption: &Redemption,
    points: Points,
    about: About,
) -> Result<Vec<Entry>, PointsOverflow> {
    let lots = lots_to_return(redemption, points);
    let by = Origin::Redemption(redemption.reward.clone());
    let is_over = |lot: &&Lot| lot.expires.is_some_and(|expires| expires <= event.as_of);
    let over: Vec<Lot> = lots.iter().filter(is_over).copied().collect();
    let mut entries = vec![Entry {
        counts: redemption.counts.clone(),
        day: draft.day_of(redemption.at),
        more: Some(Box::new(More { lots, about: about.clone() })),
        ..draft.entry_of(EntryKind::Returned, &by, points)
    }];
    if !over.is_empty() {
        let sum = purse::sum(&over)?;
        let about = About { whole: false, ..about };
        entries.push(Entry {
            more: Some(Box::new(More { lots: over, about })),
            ..draft.entry_of(EntryKind::Expired, &by, Points::ZERO.minus(sum)?)
        });
    }
    Ok(entries)
}

/// The next so many points of a redemption's lots, behind those that came back before.
fn lots_to_return(redemption: &Redemption, points: Points) -> Vec<Lot> {
    let (mut skip, mut open) = (redemption.returned.0, points.0);
    let mut lots = Vec::new();
    for lot in &redemption.lots {
        let skipped = skip.min(lot.points.0);
        skip -= skipped;
        let taken = open.min(lot.points.0 - skipped);
        if taken > 0 {
            open -= taken;
            lots.push(Lot { points: Points(taken), ..*lot });
        }
    }
    lots
}
