//! Lots: points that are released together and expire together.

use std::fmt;

use schemars::JsonSchema;
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::types::{Points, PointsOverflow};

/// How many lots of spendable points an account has at most, and as many held ones: so that it stays under 8 KB. Beyond that
/// their moments move on to the next full hour, or the next two, four or eight hours, the next day, the next two days and
/// so on, as far as it takes until lots of one moment are few enough. Nobody loses a point by it, and points live longer by
/// less than that step however often it happens: by two days where they live for a year and come every day.
pub const MOST_LOTS: usize = 250;

/// The steps, in hours; each is a multiple of the one before, so that a moment that was moved is never moved beyond the
/// next full larger step. After these they double.
const STEPS: [i64; 5] = [1, 2, 4, 8, 24];

/// Points that are released together and expire together. As JSON `[5]`, or `[5, expires]`, or
/// `[5, expires, release]`, moments in seconds since 1970 and `null` for never; a fourth element, `1`, says that their
/// member was told of the expiry.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Lot {
    /// How many are left.
    pub points: Points,
    /// When they expire, in seconds since 1970; never where absent.
    pub expires: Option<i64>,
    /// When they are released, for points that are held.
    pub release: Option<i64>,
    /// Whether the member was told that they will expire.
    pub noticed: bool,
}

impl Lot {
    /// Spendable points.
    pub fn open(points: Points, expires: Option<i64>) -> Self {
        Self { points, expires, ..Self::default() }
    }

    /// What the order of lots goes by: what expires first comes first, what never does last.
    fn key(&self) -> (i64, i64) {
        (self.release.unwrap_or(i64::MIN), self.expires.unwrap_or(i64::MAX))
    }
}

/// Lots in the order in which they are taken; no two are released and expire at the same moments.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Lots(Vec<Lot>);

impl Lots {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each of them.
    pub fn iter(&self) -> std::slice::Iter<'_, Lot> {
        self.0.iter()
    }

    /// The first.
    pub fn first(&self) -> Option<&Lot> {
        self.0.first()
    }

    /// The first whose member was not told that it will expire, of those that do.
    pub fn first_unnoticed(&self) -> Option<&Lot> {
        self.0.iter().find(|lot| !lot.noticed && lot.expires.is_some())
    }

    /// Adds points, to the lot that behaves alike where there is one.
    ///
    /// # Errors
    /// Where a sum leaves the range of points.
    pub fn add(&mut self, lot: Lot) -> Result<(), PointsOverflow> {
        if lot.points == Points::ZERO {
            return Ok(());
        }
        match self.0.binary_search_by_key(&lot.key(), Lot::key) {
            Ok(at) => {
                if let Some(alike) = self.0.get_mut(at) {
                    alike.points = alike.points.plus(lot.points)?;
                }
            }
            Err(at) => self.0.insert(at, lot),
        }
        if self.0.len() > MOST_LOTS { self.gather() } else { Ok(()) }
    }

    /// Makes lots fewer by moving their moments on.
    fn gather(&mut self) -> Result<(), PointsOverflow> {
        let doubled =
            std::iter::successors(STEPS.last().copied(), |step| step.checked_mul(2)).skip(1).take(20);
        for hours in STEPS.into_iter().chain(doubled) {
            let moved = |moment: i64| {
                let step = hours.saturating_mul(3_600);
                moment
                    .div_euclid(step)
                    .saturating_add(i64::from(moment.rem_euclid(step) > 0))
                    .saturating_mul(step)
            };
            let mut gathered: Vec<Lot> = Vec::with_capacity(self.0.len());
            let mut lots: Vec<Lot> = self.0.clone();
            for lot in &mut lots {
                (lot.expires, lot.release) = (lot.expires.map(moved), lot.release.map(moved));
            }
            lots.sort_by_key(Lot::key);
            for lot in lots {
                match gathered.last_mut().filter(|last| last.key() == lot.key()) {
                    Some(last) => {
                        last.points = last.points.plus(lot.points)?;
                        last.noticed &= lot.noticed;
                    }
                    None => gathered.push(lot),
                }
            }
            if gathered.len() <= MOST_LOTS {
                self.0 = gathered;
                return Ok(());
            }
        }
        Ok(())
    }

    /// Takes so many points of a lot that behaves as this one, or as many as it has. How many it took.
    pub fn remove(&mut self, lot: &Lot) -> Points {
        let Ok(at) = self.0.binary_search_by_key(&lot.key(), Lot::key) else { return Points::ZERO };
        self.take_at(at, lot.points).map_or(Points::ZERO, |taken| taken.points)
    }

    /// Takes so many points, first to expire first, or all there are. What it took.
    pub fn take(&mut self, points: Points) -> Vec<Lot> {
        let mut taken: Vec<Lot> = Vec::new();
        let mut open = points.0;
        while open > 0 {
            let Some(lot) = self.take_at(0, Points(open)) else { break };
            open = open.saturating_sub(lot.points.0);
            taken.push(lot);
        }
        taken
    }

    /// Takes every lot that `is_due` from the front.
    pub fn take_while(&mut self, is_due: impl Fn(&Lot) -> bool) -> Vec<Lot> {
        let many = self.0.iter().take_while(|lot| is_due(lot)).count();
        self.0.drain(..many).collect()
    }

    /// Marks the lots that expire at a moment as told.
    pub fn notice(&mut self, expires: i64) {
        for lot in self.0.iter_mut().filter(|lot| lot.expires == Some(expires)) {
            lot.noticed = true;
        }
    }

    fn take_at(&mut self, at: usize, most: Points) -> Option<Lot> {
        let lot = self.0.get_mut(at)?;
        let points = most.min(lot.points);
        let taken = Lot { points, ..*lot };
        lot.points = Points(lot.points.0.saturating_sub(points.0));
        if lot.points == Points::ZERO {
            self.0.remove(at);
        }
        Some(taken)
    }
}

impl<'a> IntoIterator for &'a Lots {
    type Item = &'a Lot;
    type IntoIter = std::slice::Iter<'a, Lot>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Serialize for Lot {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let length = match self {
            Self { noticed: true, .. } => 4,
            Self { release: Some(_), .. } => 3,
            Self { expires: Some(_), .. } => 2,
            _ => 1,
        };
        let mut list = serializer.serialize_seq(Some(length))?;
        list.serialize_element(&self.points)?;
        for moment in [self.expires, self.release].iter().take(length - 1) {
            list.serialize_element(moment)?;
        }
        if self.noticed {
            list.serialize_element(&1)?;
        }
        list.end()
    }
}

impl<'de> Deserialize<'de> for Lot {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LotVisitor)
    }
}

struct LotVisitor;

impl<'de> Visitor<'de> for LotVisitor {
    type Value = Lot;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a lot such as [5, 1795702800]")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Lot, A::Error> {
        let points = list.next_element()?.ok_or_else(|| de::Error::invalid_length(0, &self))?;
        let expires = list.next_element::<Option<i64>>()?.flatten();
        let release = list.next_element::<Option<i64>>()?.flatten();
        let noticed = list.next_element::<u8>()?.is_some_and(|told| told == 1);
        // Whatever a newer version adds is read over.
        while list.next_element::<de::IgnoredAny>()?.is_some() {}
        Ok(Lot { points, expires, release, noticed })
    }

    /// As version 0.1 wrote lots: `{"points":5,"expires":…}`.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Lot, A::Error> {
        let mut lot = Lot::default();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "points" => lot.points = map.next_value()?,
                "expires" => lot.expires = map.next_value()?,
                _ => drop(map.next_value::<de::IgnoredAny>()?),
            }
        }
        Ok(lot)
    }
}

impl JsonSchema for Lot {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Lot".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "Points that are released together and expire together: how many, when they expire and when they are released (seconds since 1970; null for never), and 1 where their member was told of the expiry.",
            "type": "array",
            "prefixItems": [
                {"type": "integer", "format": "int64"},
                {"type": ["integer", "null"], "format": "int64"},
                {"type": ["integer", "null"], "format": "int64"},
                {"const": 1}
            ],
            "minItems": 1
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lots(each: &[(i64, Option<i64>)]) -> Lots {
        let mut lots = Lots::default();
        for (points, expires) in each {
            lots.add(Lot::open(Points(*points), *expires)).unwrap();
        }
        lots
    }

    #[test]
    fn points_that_expire_first_are_taken_first_and_those_that_never_do_last() {
        let mut lots = lots(&[(5, None), (3, Some(20)), (4, Some(10)), (1, Some(20))]);
        let taken = lots.take(Points(7));
        assert_eq!(taken, [Lot::open(Points(4), Some(10)), Lot::open(Points(3), Some(20))]);
        assert_eq!(serde_json::to_string(&lots).unwrap(), "[[1,20],[5]]");
        assert_eq!(lots.take(Points(100)).iter().map(|lot| lot.points.0).sum::<i64>(), 6);
    }

    #[test]
    fn a_lot_is_read_in_its_short_form_and_as_the_version_before_wrote_it() {
        for (json, lot) in [
            ("[5]", Lot::open(Points(5), None)),
            ("[5,7]", Lot::open(Points(5), Some(7))),
            ("[5,null,3]", Lot { release: Some(3), ..Lot::open(Points(5), None) }),
            ("[5,7,null,1]", Lot { noticed: true, ..Lot::open(Points(5), Some(7)) }),
        ] {
            assert_eq!(serde_json::from_str::<Lot>(json).unwrap(), lot);
            assert_eq!(serde_json::to_string(&lot).unwrap(), json);
        }
        let before: Lot = serde_json::from_str(r#"{"points":5,"expires":7}"#).unwrap();
        assert_eq!(before, Lot::open(Points(5), Some(7)));
        assert!(serde_json::from_str::<Lot>("[]").is_err());
    }

    #[test]
    fn an_account_of_too_many_lots_lets_those_of_an_hour_expire_together_and_never_earlier() {
        let many = i64::try_from(MOST_LOTS).unwrap();
        let mut lots = lots(&(0..many).map(|at| (1, Some(at * 1_800))).collect::<Vec<_>>());
        lots.add(Lot::open(Points(5), None)).unwrap();
        assert_eq!(lots.first(), Some(&Lot::open(Points(1), Some(0))));
        assert_eq!(lots.iter().nth(1), Some(&Lot::open(Points(2), Some(3_600))));
        assert_eq!(lots.iter().last(), Some(&Lot::open(Points(5), None)));
        assert_eq!(lots.iter().map(|lot| lot.points.0).sum::<i64>(), many + 5);
    }

    proptest! {
        #[test]
        fn lots_that_are_gathered_live_longer_by_a_step_at_most_and_keep_every_point(
            each in 1_000..100_000_i64,
            hold in prop::option::of(0..1_000_000_i64),
            jitter in prop::collection::vec(0..5_000_i64, 1..50),
        ) {
            let mut lots = Lots::default();
            let moments: Vec<i64> =
                (0..1_500_usize).map(|at| i64::try_from(at).unwrap() * each + jitter[at % jitter.len()]).collect();
            for moment in &moments {
                let release = hold.map(|hold| moment + hold);
                lots.add(Lot { release, ..Lot::open(Points(1), Some(moment + 2_000_000)) }).unwrap();
                prop_assert!(lots.iter().count() <= MOST_LOTS);
            }
            prop_assert!(lots.0.windows(2).all(|pair| pair[0].key() < pair[1].key()));
            prop_assert_eq!(lots.iter().map(|lot| lot.points.0).sum::<i64>(), 1_500);
            // 1,500 lots in 250 take a step of so much; of held ones, which have two moments, twice as much. The next larger
            // one is three times as large at most.
            let most = each * 1_500 / 250 * if hold.is_some() { 7 } else { 4 } + 10_000;
            let mut left: Vec<i64> = lots.iter().flat_map(|lot| vec![lot.expires.unwrap(); usize::try_from(lot.points.0).unwrap()]).collect();
            left.sort_unstable();
            let mut sorted = moments.clone();
            sorted.sort_unstable();
            for (moment, expires) in sorted.iter().map(|moment| moment + 2_000_000).zip(left) {
                prop_assert!((0..=most).contains(&(expires - moment)), "{} later", expires - moment);
            }
        }

        #[test]
        fn what_is_taken_and_what_is_left_are_what_there_was(
            each in prop::collection::vec((1..100_i64, prop::option::of(0..20_i64)), 0..30),
            points in 0..2_000_i64,
        ) {
            let mut lots = lots(&each);
            let before: i64 = lots.iter().map(|lot| lot.points.0).sum();
            let taken: i64 = lots.take(Points(points)).iter().map(|lot| lot.points.0).sum();
            prop_assert_eq!(taken, points.min(before));
            prop_assert_eq!(lots.iter().map(|lot| lot.points.0).sum::<i64>(), before - taken);
            prop_assert!(lots.0.windows(2).all(|pair| pair[0].key() < pair[1].key()));
        }
    }
}
