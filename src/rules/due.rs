//! What falls due in an account by itself: held points are released, points expire, a level is looked at, and the member
//! is told ahead. It happens as of its own moment, with the clock's event or with any other that comes first, so that
//! nobody spends what has expired and nobody is refused what was released.

use jiff::Timestamp;

use super::purse::sum;
use super::{Day, Draft, evolve, tier};
use crate::account::{Account, Lot, MOST_LOTS, Retention};
use crate::entry::{Act, Applied, Change, Entry, EntryKind, More, Origin};
use crate::event::Event;
use crate::programme::Programme;
use crate::programme::lifetime::before;
use crate::types::{Points, PointsOverflow};

/// What may fall due, in the order in which things of one moment do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum What {
    Release,
    Expiry,
    Notice,
    Review,
    ReviewNotice,
}

/// So many things fall due in one event at most: far more than an account has.
const MOST: usize = 4 * MOST_LOTS;

/// The moment at which something falls due next, in seconds since 1970; it may have passed.
pub fn next(programme: &Programme, account: &Account) -> Option<i64> {
    next_thing(programme, account).map(|(moment, _)| moment)
}

/// The latest moment until `now` at which something falls due, as far as can be told before it does.
pub fn latest(programme: &Programme, account: &Account, now: i64) -> Option<i64> {
    let lots = account
        .held
        .iter()
        .filter_map(|lot| lot.release)
        .chain(account.lots.iter().chain(account.held.iter()).filter_map(|lot| lot.expires));
    let others = things(programme, account).into_iter().flatten().map(|(moment, _)| moment);
    lots.chain(others).filter(|moment| *moment <= now).max()
}

/// What tells, without a look at a calendar, that the next moment of an account may be another one.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct TellTale {
    points: [Option<i64>; 3],
    level: Option<[Option<i64>; 3]>,
    earned: Points,
    waits: Option<i64>,
}

impl TellTale {
    /// Of an account as it is.
    pub fn of(account: &Account) -> Self {
        Self {
            points: [
                account.held.first().and_then(|lot| lot.release),
                account.lots.first().and_then(|lot| lot.expires),
                account.lots.first_unnoticed().and_then(|lot| lot.expires),
            ],
            level: account.tier.as_ref().map(|tier| [Some(tier.since), tier.until, tier.noticed]),
            earned: account.earned.total,
            waits: account.waiting.iter().map(|waiting| waiting.until).min(),
        }
    }

    /// Whether the account's next moment may be another one by now. What was earned moves it only where levels are reviewed:
    /// a refund may take what the next review asks for, so that its member is to be told of it.
    pub fn may_move(&self, programme: &Programme, account: &Account) -> bool {
        let now = Self::of(account);
        let reviews = programme.tiers.as_ref().is_some_and(|tiers| tiers.review.is_some());
        let earned = if reviews && now.level.is_some() { now.earned } else { self.earned };
        Self { earned, ..now } != *self
    }
}

fn things(programme: &Programme, account: &Account) -> [Option<(i64, What)>; 5] {
    let notice = || {
        let expires = account.lots.first_unnoticed()?.expires?;
        before(&programme.zone, expires, programme.notice?)
    };
    [
        account.held.first().and_then(|lot| lot.release).map(|moment| (moment, What::Release)),
        account.lots.first().and_then(|lot| lot.expires).map(|moment| (moment, What::Expiry)),
        notice().map(|moment| (moment, What::Notice)),
        tier::review(programme, account).map(|review| (review.at, What::Review)),
        tier::review_notice(programme, account).map(|moment| (moment, What::ReviewNotice)),
    ]
}

fn next_thing(programme: &Programme, account: &Account) -> Option<(i64, What)> {
    things(programme, account).into_iter().flatten().min()
}

/// Whether anything falls due until a moment.
pub(super) fn is_due(programme: &Programme, account: &Account, until: i64) -> bool {
    next(programme, account).is_some_and(|moment| moment <= until)
}

/// Applies everything that falls due until the moment as of which the event looks at the account.
pub(super) fn settle(
    programme: &Programme,
    account: &mut Account,
    event: &Event,
    day: Day,
    retention: &Retention,
) -> Result<Vec<Applied>, PointsOverflow> {
    let mut applied = Vec::new();
    let mut draft = None;
    while let Some((moment, what)) =
        next_thing(programme, account).filter(|(moment, _)| *moment <= event.as_of)
    {
        let draft = draft.get_or_insert_with(|| Draft::of(programme, event, day));
        let Some(change) = change(programme, account, draft, moment, what)? else { break };
        applied.push(evolve(account, change, retention)?);
        if applied.len() >= MOST {
            break;
        }
    }
    Ok(applied)
}

/// The account as it is at `now`: with everything applied that has fallen due, and nothing else changed.
pub fn as_of(programme: &Programme, account: &Account, retention: &Retention, now: Timestamp) -> Account {
    let now = now.as_second();
    let mut shown = account.clone();
    if !is_due(programme, account, now) {
        return shown;
    }
    let mut draft = Draft::by_the_clock(programme, now);
    for _ in 0..MOST {
        let next = next_thing(programme, &shown).filter(|(moment, _)| *moment <= now);
        let Some((moment, what)) = next else { break };
        let Ok(Some(change)) = change(programme, &shown, &mut draft, moment, what) else { break };
        if shown.evolve(&change, retention).is_err() {
            return account.clone();
        }
    }
    // The version is that of what is stored: nothing was written.
    shown.version = account.version;
    shown
}

fn change(
    programme: &Programme,
    account: &Account,
    draft: &mut Draft<'_>,
    moment: i64,
    what: What,
) -> Result<Option<Change>, PointsOverflow> {
    let lots = |lots: Vec<Lot>| Some(Box::new(More { lots, ..More::default() }));
    let change = match what {
        What::Release => {
            let due =
                account.held.clone().take_while(|lot| lot.release.is_some_and(|release| release <= moment));
            let entry = draft.entry_of(EntryKind::Released, &Origin::Act(Act::Release), sum(&due)?);
            Change::Entry(Box::new(Entry { more: lots(due), ..draft.at_moment(entry, moment) }))
        }
        What::Expiry => {
            let due =
                account.lots.clone().take_while(|lot| lot.expires.is_some_and(|expires| expires <= moment));
            let points = Points::ZERO.minus(sum(&due)?)?;
            let entry = draft.entry_of(EntryKind::Expired, &Origin::Act(Act::Expiry), points);
            Change::Entry(Box::new(Entry { more: lots(due), ..draft.at_moment(entry, moment) }))
        }
        What::Notice => {
            let Some(first) = account.lots.first_unnoticed() else { return Ok(None) };
            let entry = draft.entry_of(EntryKind::Expiring, &Origin::Act(Act::Expiry), Points::ZERO);
            Change::Entry(Box::new(Entry {
                more: lots(vec![*first]),
                expires: first.expires,
                ..draft.at_moment(entry, moment)
            }))
        }
        What::Review => return Ok(tier::reviewed(programme, account).map(Change::Tier)),
        What::ReviewNotice => return Ok(tier::review_due(programme, account, moment).map(Change::Tier)),
    };
    Ok(Some(change))
}
