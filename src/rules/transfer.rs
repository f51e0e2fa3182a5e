//! Points that come or go by somebody's word: adjustments, transfers, merged, closed and erased accounts. Between two
//! members they travel on the internal topic, out of the one account and into the other, each exactly once.

use std::collections::BTreeMap;

use super::purse::{self, Purse};
use super::{Case, Decided, Draft, Refusal, redeem, refund, tier};
use crate::account::{Account, Activity, Closed, Earned, Lot};
use crate::entry::{About, Absorbed, Act, Change, Entry, EntryKind, Message, More, Note, Noted, Origin, Why};
use crate::event::deed::{Adjustment, Deed, Transfer};
use crate::event::internal::{Internal, Received};
use crate::types::{MemberId, Points, PointsOverflow};

/// Points are passed on so often at most, where accounts were merged into each other in a circle.
const MOST_HOPS: u8 = 4;

/// Decides `points.adjusted`.
pub(super) fn adjust(case: &Case<'_>, adjustment: &Adjustment) -> Result<Decided, PointsOverflow> {
    let Case { programme, account, event, .. } = *case;
    let mut draft = Draft::new(case);
    let by = Origin::Act(Act::Adjustment);
    let about = About {
        adjustment_id: Some(adjustment.adjustment.clone()),
        operator: Some(adjustment.by.clone()),
        explanation: Some(adjustment.reason.clone()),
        ..About::default()
    };
    let mut decided = Decided::default();
    if adjustment.points >= Points::ZERO {
        let expires = programme.lifetime.moments(&programme.zone, event.time).expires;
        let lots = vec![Lot::open(adjustment.points, expires)];
        let entry = draft.entry_of(EntryKind::Adjusted, &by, adjustment.points);
        decided.entries.push(Entry { expires, more: Some(Box::new(More { lots, about })), ..entry });
        return Ok(decided);
    }
    let wanted = Points::ZERO.minus(adjustment.points)?;
    let taken = Purse::of(account).take_any(wanted);
    let (takes, short) = taken.under(programme.shortfall, wanted);
    let entry = draft.entry_of(EntryKind::Adjusted, &by, Points::ZERO.minus(takes)?);
    decided
        .entries
        .push(Entry { more: Some(Box::new(More { lots: taken.lots, about: about.clone() })), ..entry });
    if short > Points::ZERO {
        let entry = draft.declined_of(&by, short, Why::Shortfall);
        decided.entries.push(Entry { more: Some(Box::new(More { about, ..More::default() })), ..entry });
    }
    Ok(decided)
}

/// Decides `points.transferred`, on the side of who gives.
pub(super) fn give(case: &Case<'_>, transfer: &Transfer) -> Result<Decided, PointsOverflow> {
    let Case { account, event, .. } = *case;
    let mut draft = Draft::new(case);
    let by = Origin::Act(Act::Transfer);
    let about = About {
        transfer_id: Some(transfer.transfer.clone()),
        counterparty: Some(transfer.to.clone()),
        ..About::default()
    };
    let why = if transfer.to == event.member {
        Some(Why::SelfTransfer)
    } else {
        (account.available < transfer.points).then_some(Why::InsufficientPoints)
    };
    let mut decided = Decided::default();
    if let Some(why) = why {
        let entry = draft.declined_of(&by, transfer.points, why);
        decided.entries.push(Entry { more: Some(Box::new(More { about, ..More::default() })), ..entry });
        return Ok(decided);
    }
    let lots = Purse::of(account).spend(transfer.points).lots;
    let entry = draft.entry_of(EntryKind::Transferred, &by, Points::ZERO.minus(transfer.points)?);
    decided.entries.push(Entry { more: Some(Box::new(More { lots: lots.clone(), about })), ..entry });
    let received = Received {
        from: event.member.clone(),
        transfer_id: Some(transfer.transfer.clone()),
        bounced: false,
        lots,
        owed: Points::ZERO,
        hops: 0,
        absorbed: None,
    };
    decided.messages.push(Message::Received { to: transfer.to.clone(), received: Box::new(received) });
    Ok(decided)
}

/// Decides points that come from another member.
pub(super) fn receive(case: &Case<'_>, received: &Received) -> Result<Decided, PointsOverflow> {
    let Case { programme, account, retention, .. } = *case;
    let mut decided = Decided::default();
    if let Some(message) = pass_on(account, received) {
        decided.messages.push(message);
        return Ok(decided);
    }
    let mut draft = Draft::new(case);
    let by = Origin::Act(if received.transfer_id.is_some() { Act::Transfer } else { Act::Merge });
    let about = About {
        transfer_id: received.transfer_id.clone(),
        counterparty: Some(received.from.clone()),
        ..About::default()
    };
    let points = purse::sum(&received.lots)?;
    if points > Points::ZERO {
        let more = Some(Box::new(More { lots: received.lots.clone(), about: about.clone() }));
        decided.entries.push(Entry { more, ..draft.entry_of(EntryKind::Transferred, &by, points) });
    }
    if received.owed > Points::ZERO {
        // Whose balance is below zero has no points but held ones: those that came do not pay for it yet.
        let lots = Purse::of(account).spend(received.owed).lots;
        let entry = draft.entry_of(EntryKind::Transferred, &by, Points::ZERO.minus(received.owed)?);
        decided.entries.push(Entry { more: Some(Box::new(More { lots, about })), ..entry });
    }
    if let Some(absorbed) = &received.absorbed {
        let note = Note::Absorbed(absorbed.clone());
        let noted = Noted { note, index: 0, at: draft.at, day: draft.day };
        // What both have earned together is what the level is measured by from now on.
        let mut together = account.clone();
        together.evolve(&Change::Noted(noted.clone()), retention)?;
        decided.noted.push(noted);
        decided.tier = absorbed
            .tier
            .as_ref()
            .and_then(|theirs| tier::taken_over(programme, &together, theirs, draft.at));
    }
    Ok(decided)
}

/// Where the account is closed: on to the one that it was merged into, or back to who gave. Nothing is ever lost in
/// between: where that leads nowhere, the points stay here.
fn pass_on(account: &Account, received: &Received) -> Option<Message> {
    match account.closed.as_ref()? {
        Closed::Into(other) if received.hops < MOST_HOPS => {
            let received = Received { hops: received.hops + 1, ..received.clone() };
            Some(Message::Received { to: other.clone(), received: Box::new(received) })
        }
        Closed::Left {} if received.transfer_id.is_some() && !received.bounced => {
            let to = received.from.clone();
            let received = Received { from: account.member_id.clone(), bounced: true, ..received.clone() };
            Some(Message::Received { to, received: Box::new(received) })
        }
        _ => None,
    }
}

/// Decides `members.merged`: everything goes to the other account, and this one is closed.
pub(super) fn merge(case: &Case<'_>, into: &MemberId) -> Result<Decided, PointsOverflow> {
    let Case { account, event, .. } = *case;
    let mut draft = Draft::new(case);
    let mut decided = Decided::default();
    let (entries, lots, owed) = empty_into(&mut draft, account, into)?;
    decided.entries = entries;
    let note = Note::Closed(Closed::Into(into.clone()));
    decided.noted.push(Noted { note, index: 0, at: draft.at, day: draft.day });
    let absorbed = Absorbed {
        earned: account.earned.clone(),
        activity: account.activity.clone(),
        used: account.used.clone(),
        tier: account.tier.clone(),
    };
    decided.messages.push(to_other(&event.member, into, lots, owed, absorbed));
    Ok(decided)
}

/// Everything that is in an account, or that it lacks to zero, goes to another.
fn empty_into(
    draft: &mut Draft<'_>,
    account: &Account,
    into: &MemberId,
) -> Result<(Vec<Entry>, Vec<Lot>, Points), PointsOverflow> {
    let by = Origin::Act(Act::Merge);
    let about = About { counterparty: Some(into.clone()), ..About::default() };
    let mut entries = Vec::new();
    let lots = Purse::of(account).empty();
    let points = purse::sum(&lots)?;
    let owed = Points(account.available.0.saturating_neg().max(0));
    if points > Points::ZERO {
        let more = Some(Box::new(More { lots: lots.clone(), about: about.clone() }));
        let entry = draft.entry_of(EntryKind::Transferred, &by, Points::ZERO.minus(points)?);
        entries.push(Entry { more, ..entry });
    }
    if owed > Points::ZERO {
        let more = Some(Box::new(More { lots: vec![Lot::open(owed, None)], about }));
        entries.push(Entry { more, ..draft.entry_of(EntryKind::Transferred, &by, owed) });
    }
    Ok((entries, lots, owed))
}

/// Tells the account that goes on what comes to it.
fn to_other(from: &MemberId, into: &MemberId, lots: Vec<Lot>, owed: Points, absorbed: Absorbed) -> Message {
    let received = Received {
        from: from.clone(),
        transfer_id: None,
        bounced: false,
        lots,
        owed,
        hops: 0,
        absorbed: Some(Box::new(absorbed)),
    };
    Message::Received { to: into.clone(), received: Box::new(received) }
}

/// Decides a refund of an order, or the cancellation of a redemption, of an account that was merged into another since: by
/// what was recorded here. Nothing where nothing was.
pub(super) fn after_merge(case: &Case<'_>) -> Result<Option<Decided>, Refusal> {
    let Case { account, event, .. } = *case;
    if !matches!(account.closed, Some(Closed::Into(_))) {
        return Ok(None);
    }
    let decided = match event.deed.as_deref() {
        Some(Deed::Refund(refund)) => refund::decide(case, refund, None)?,
        Some(Deed::Cancel { redemption }) => redeem::cancel(case, redemption)?,
        _ => return Ok(None),
    };
    if decided.records.is_empty() {
        return Ok(None);
    }
    follow(case, decided).map(Some)
}

/// What is decided of an account that was merged into another comes to that one: points that come back, what is owed, and
/// what counts no more.
pub(super) fn follow(case: &Case<'_>, mut decided: Decided) -> Result<Decided, Refusal> {
    let Case { account, event, retention, .. } = *case;
    let Some(Closed::Into(into)) = &account.closed else { return Ok(decided) };
    // The level of an account that is closed is nobody's.
    decided.reverses = None;
    let mut after = account.clone();
    for entry in &decided.entries {
        after.evolve(&Change::Entry(Box::new(entry.clone())), retention)?;
    }
    let (entries, lots, owed) = empty_into(&mut Draft::new(case), &after, into)?;
    let total = after.earned.total.minus(account.earned.total)?;
    if entries.is_empty() && total == Points::ZERO {
        return Ok(decided);
    }
    decided.entries.extend(entries);
    let before = |month: i32| account.earned.months.iter().find(|(other, _)| *other == month);
    let months = after.earned.months.iter().map(|(month, points)| {
        let before = before(*month).map_or(Points::ZERO, |(_, points)| *points);
        points.minus(before).map(|more| (*month, more))
    });
    let mut months: Vec<(i32, Points)> = months.collect::<Result<_, _>>()?;
    months.retain(|(_, points)| *points != Points::ZERO);
    let absorbed = Absorbed {
        earned: Earned { total, months },
        activity: Activity::default(),
        used: BTreeMap::new(),
        tier: None,
    };
    decided.messages.push(to_other(&event.member, into, lots, owed, absorbed));
    Ok(decided)
}

/// Decides `member.closed`: what points there are end with the account.
pub(super) fn close(case: &Case<'_>) -> Result<Decided, PointsOverflow> {
    let Case { account, .. } = *case;
    let mut draft = Draft::new(case);
    let mut decided = Decided::default();
    let lots = Purse::of(account).empty();
    let points = purse::sum(&lots)?;
    if points > Points::ZERO {
        let by = Origin::Act(Act::Closing);
        let more = Some(Box::new(More { lots, ..More::default() }));
        let entry = draft.entry_of(EntryKind::Expired, &by, Points::ZERO.minus(points)?);
        decided.entries.push(Entry { more, ..entry });
    }
    let note = Note::Closed(Closed::Left {});
    decided.noted.push(Noted { note, index: 0, at: draft.at, day: draft.day });
    Ok(decided)
}

/// Decides `member.erased`: what is known of the member goes, sums and points stay.
pub(super) fn erase(case: &Case<'_>) -> Decided {
    let draft = Draft::new(case);
    let noted = Noted { note: Note::Erased {}, index: 0, at: draft.at, day: draft.day };
    Decided { noted: vec![noted], ..Decided::default() }
}

/// What a closed account answers to everything but points that are on their way, the clock, and being erased.
pub(super) fn refuse_closed(case: &Case<'_>) -> Option<Decided> {
    let Case { event, .. } = *case;
    let about = match (event.deed.as_deref(), event.internal.as_deref()) {
        (Some(Deed::Erase), _) | (_, Some(Internal::Received(_) | Internal::Came | Internal::Waited(_))) => {
            return None;
        }
        (_, Some(Internal::Celebration(_) | Internal::Referred(_))) => return Some(Decided::default()),
        (Some(Deed::Redeem(request)), _) => About {
            redemption_id: Some(request.redemption.clone()),
            order_id: request.order.clone(),
            ..About::default()
        },
        (Some(Deed::Refund(refund)), _) => About {
            refund_id: Some(refund.refund.clone()),
            order_id: Some(refund.order.clone()),
            ..About::default()
        },
        (Some(Deed::Cancel { redemption }), _) => {
            About { redemption_id: Some(redemption.clone()), ..About::default() }
        }
        (Some(Deed::Adjust(adjustment)), _) => {
            About { adjustment_id: Some(adjustment.adjustment.clone()), ..About::default() }
        }
        (Some(Deed::Transfer(transfer)), _) => {
            About { transfer_id: Some(transfer.transfer.clone()), ..About::default() }
        }
        _ => About::default(),
    };
    let mut draft = Draft::new(case);
    let entry = draft.declined_of(&Origin::Act(Act::Closing), Points::ZERO, Why::AccountClosed);
    let more = (about != About::default()).then(|| Box::new(More { about, ..More::default() }));
    let entry = Entry { more, ..entry };
    Some(Decided { entries: vec![entry], ..Decided::default() })
}
