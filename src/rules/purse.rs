//! Which lots pay: of spendable points those that expire first, where points are taken back the held ones before them.

use crate::account::{Account, Lot, Lots};
use crate::programme::Shortfall;
use crate::types::{Points, PointsOverflow};

/// The lots of an account while an event is decided: what one entry takes, the next does not find.
pub(super) struct Purse {
    open: Lots,
    held: Lots,
}

/// What was taken.
pub(super) struct Taken {
    pub(super) lots: Vec<Lot>,
    /// Points that there were too few of.
    pub(super) short: Points,
}

impl Taken {
    fn of(lots: Vec<Lot>, wanted: Points) -> Self {
        let sum = lots.iter().fold(0_i64, |sum, lot| sum.saturating_add(lot.points.0));
        Self { short: Points(wanted.0.saturating_sub(sum).max(0)), lots }
    }

    /// How many points leave the account for `wanted` ones, and how many of them it does not have to give.
    pub(super) fn under(&self, shortfall: Shortfall, wanted: Points) -> (Points, Points) {
        match shortfall {
            Shortfall::Negative => (wanted, Points::ZERO),
            Shortfall::Clamp => (Points(wanted.0.saturating_sub(self.short.0)), self.short),
        }
    }
}

impl Purse {
    pub(super) fn of(account: &Account) -> Self {
        Self { open: account.lots.clone(), held: account.held.clone() }
    }

    /// Takes spendable points.
    pub(super) fn spend(&mut self, points: Points) -> Taken {
        Taken::of(self.open.take(points), points)
    }

    /// Takes points back that were earned with these moments: of the lot that holds them still, then of other held lots,
    /// then spendable ones.
    pub(super) fn reverse(&mut self, points: Points, earned: Lot) -> Taken {
        let mut lots = Vec::new();
        let mut open = points;
        if earned.release.is_some() {
            let own = self.held.remove(&Lot { points: open, ..earned });
            if own > Points::ZERO {
                lots.push(Lot { points: own, ..earned });
                open = Points(open.0 - own.0);
            }
        }
        for source in [&mut self.held, &mut self.open] {
            let taken = source.take(open);
            let sum = taken.iter().fold(0_i64, |sum, lot| sum.saturating_add(lot.points.0));
            open = Points(open.0.saturating_sub(sum));
            lots.extend(taken);
        }
        Taken::of(lots, points)
    }

    /// Takes spendable points, then held ones.
    pub(super) fn take_any(&mut self, points: Points) -> Taken {
        let mut lots = self.open.take(points);
        let rest = Taken::of(lots.clone(), points).short;
        lots.extend(self.held.take(rest));
        Taken::of(lots, points)
    }

    /// Everything.
    pub(super) fn empty(self) -> Vec<Lot> {
        let mut lots: Vec<Lot> = self.open.iter().copied().collect();
        lots.extend(self.held.iter().copied());
        lots
    }
}

/// The points of lots together.
pub(super) fn sum(lots: &[Lot]) -> Result<Points, PointsOverflow> {
    lots.iter().try_fold(Points::ZERO, |sum, lot| sum.plus(lot.points))
}
