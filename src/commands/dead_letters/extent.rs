//! What there is of a topic at one moment, and reading all of it, record by record. Nothing of it is kept, so that memory is
//! bounded by what the archive reads ahead; and whoever reads it twice reads the same twice.

use std::time::{Duration, Instant};

use crate::log::{Archive, LogError, Reach, Record, Stretch};
use crate::types::{Coordinates, TopicName, TopicPartition};

/// Parts of a topic's partitions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Extent {
    parts: Vec<Stretch>,
}

/// One question, or one piece, is answered within that, or the broker is away.
const WITHIN: Duration = Duration::from_mins(2);

/// Offsets that are read in one piece.
const A_PIECE: i64 = 20_000;

impl Extent {
    /// What a `read_committed` reader may see now. Nothing where there is no such topic.
    pub fn now(archive: &dyn Archive, topic: &TopicName) -> Result<Option<Self>, LogError> {
        Self::until(archive, topic, |reach| reach.decided)
    }

    /// Everything that was published before this call, in whichever transaction: reading it waits until those have ended.
    pub fn whole(archive: &dyn Archive, topic: &TopicName) -> Result<Option<Self>, LogError> {
        Self::until(archive, topic, |reach| reach.end)
    }

    fn until(
        archive: &dyn Archive,
        topic: &TopicName,
        until: impl Fn(&Reach) -> i64,
    ) -> Result<Option<Self>, LogError> {
        let reach = archive.reach(topic, Instant::now() + WITHIN)?;
        if reach.is_empty() {
            return Ok(None);
        }
        let part = |reach: &Reach| Stretch {
            of: TopicPartition { topic: topic.clone(), partition: reach.partition },
            from: reach.first,
            until: until(reach),
        };
        Ok(Some(Self::of(reach.iter().map(part))))
    }

    fn of(parts: impl Iterator<Item = Stretch>) -> Self {
        Self { parts: parts.filter(|part| part.from < part.until).collect() }
    }

    /// The part from the offset on that is told for each partition; nothing of partitions without one.
    pub fn since(
        self,
        first: impl Fn(&TopicPartition) -> Result<Option<i64>, LogError>,
    ) -> Result<Self, LogError> {
        let mut parts = Vec::new();
        for part in self.parts {
            if let Some(first) = first(&part.of)? {
                parts.push(Stretch { from: part.from.max(first), ..part });
            }
        }
        Ok(Self::of(parts.into_iter()))
    }

    /// How many offsets it has: some more than records, where transactions ended.
    pub fn offsets(&self) -> u64 {
        self.parts.iter().map(|part| length(part.from, part.until)).sum()
    }

    /// The part that is no earlier than the earliest of these records in its partition; nothing of partitions without one.
    #[must_use]
    pub fn since_earliest(self, of: &[Coordinates]) -> Self {
        let cut = |part: Stretch| {
            let here = of.iter().filter(|at| at.partition == part.of.partition).map(|at| at.offset);
            here.min().map(|earliest| Stretch { from: part.from.max(earliest), ..part })
        };
        Self::of(self.parts.into_iter().filter_map(cut))
    }

    /// The part that is no later than the latest of these records in its partition; nothing of partitions without one.
    #[must_use]
    pub fn until_latest(self, of: &[Coordinates]) -> Self {
        let cut = |part: Stretch| {
            let here = of.iter().filter(|at| at.partition == part.of.partition).map(|at| at.offset);
            here.max().map(|latest| Stretch { until: part.until.min(latest.saturating_add(1)), ..part })
        };
        Self::of(self.parts.into_iter().filter_map(cut))
    }

    /// Hands over each record, one partition after the other, and how many offsets are done with it.
    ///
    /// # Errors
    /// What `take` says, at once; else why the records cannot be read.
    pub fn each(
        &self,
        archive: &dyn Archive,
        take: &mut dyn FnMut(Record, u64) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut done = 0;
        for part in &self.parts {
            let mut from = part.from;
            while from < part.until {
                let until = part.until.min(from.saturating_add(A_PIECE));
                let piece = Stretch { of: part.of.clone(), from, until };
                let mut told = Ok(());
                let is_read = archive.scan(&piece, Instant::now() + WITHIN, &mut |record| {
                    let behind = done + length(from, record.at.offset.saturating_add(1));
                    told = take(record, behind);
                    told.is_ok()
                })?;
                told?;
                if !is_read {
                    let why = format!("{} was not read within {} s", piece.of, WITHIN.as_secs());
                    return Err(LogError::Retriable(why).into());
                }
                done += length(from, until);
                from = until;
            }
        }
        Ok(())
    }
}

fn length(from: i64, until: i64) -> u64 {
    u64::try_from(until.saturating_sub(from)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::memory::MemoryBroker;

    fn part(partition: i32, from: i64, until: i64) -> Stretch {
        Stretch { of: TopicPartition { topic: "t".into(), partition }, from, until }
    }

    #[test]
    fn an_extent_is_cut_to_the_records_that_are_looked_for() {
        let at = |partition, offset| Coordinates { topic: "t".into(), partition, offset };
        let extent = Extent { parts: vec![part(0, 5, 50), part(1, 0, 9), part(2, 0, 9)] };
        let wanted = [at(0, 20), at(0, 7), at(2, 4), at(2, 90)];
        let from = extent.clone().since_earliest(&wanted);
        assert_eq!(from.parts, [part(0, 7, 50), part(2, 4, 9)]);
        let only = from.until_latest(&wanted);
        assert_eq!(only.parts, [part(0, 7, 21), part(2, 4, 9)]);
        assert_eq!(only.offsets(), 14 + 5);
        let first = |of: &TopicPartition| {
            Ok((of.partition > 0).then_some(4 * i64::from(of.partition * of.partition)))
        };
        assert_eq!(extent.since(first).unwrap().parts, [part(1, 4, 9)], "the second begins behind its end");
    }

    #[test]
    fn every_record_is_handed_over_once_over_all_pieces_and_what_comes_later_is_not() {
        let broker = MemoryBroker::new(&[("t".into(), 2)]);
        let number = A_PIECE * 2 + 7;
        let produce = |partition, payload: i64| {
            let partition = TopicPartition { topic: "t".into(), partition };
            broker.produce(&partition, None, payload.to_string().into_bytes());
        };
        (0..number).for_each(|n| produce(0, n));
        (0..3).for_each(|n| produce(1, number + n));
        let extent = Extent::now(&broker, &"t".into()).unwrap().unwrap();
        produce(0, -1);
        let (mut expected, mut last) = (0, 0);
        let read = extent.each(&broker, &mut |record, done| {
            assert_eq!(record.payload, Some(expected.to_string().into_bytes()));
            expected += 1;
            last = done;
            Ok(())
        });
        read.unwrap();
        assert_eq!((expected, last), (number + 3, extent.offsets()));

        let stopped = extent.each(&broker, &mut |_, _| anyhow::bail!("enough"));
        assert_eq!(stopped.unwrap_err().to_string(), "enough");
        assert_eq!(Extent::now(&broker, &"none".into()).unwrap(), None);
    }
}
