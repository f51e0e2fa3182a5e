//! What a lane knows of its partitions: where it reads on, which offsets are processed.

use foldhash::HashMap;

use super::metadata;
use crate::log::{Assigned, Position};
use crate::store::OffsetRange;
use crate::types::TopicPartition;

/// The partitions that a lane owns.
#[derive(Debug, Default)]
pub struct Positions {
    owned: HashMap<TopicPartition, Owned>,
}

#[derive(Debug)]
struct Owned {
    /// The next offset to be committed; nothing before the first record of a partition that was
    /// never committed.
    next: Option<i64>,
    /// Where the range that ends at `next` and has no gap begins.
    start: i64,
    /// Ranges known to be processed and published when the partition was assigned, sorted.
    processed: Vec<OffsetRange>,
}

impl Positions {
    /// Begins anew with what was just assigned and what is known to be processed of it.
    pub fn assign(&mut self, assigned: &[Assigned], processed: Vec<Vec<OffsetRange>>) {
        self.owned.clear();
        for (assigned, processed) in assigned.iter().zip(processed) {
            let next = assigned.committed.as_ref().map(|(offset, _)| *offset);
            let start = metadata::start_without_gap(assigned).or(next).unwrap_or_default();
            self.owned.insert(assigned.partition.clone(), Owned { next, start, processed });
        }
    }

    /// Whether the offset is known to be processed: nothing of it must be done again.
    pub fn is_processed(&self, partition: &TopicPartition, offset: i64) -> bool {
        self.owned.get(partition).is_some_and(|owned| contains(&owned.processed, offset))
    }

    /// The positions to commit for a batch that holds, for each partition, these lowest and highest
    /// offsets.
    pub fn after(&self, batch: &HashMap<TopicPartition, (i64, i64)>) -> Vec<Position> {
        let position = |(partition, &(lowest, highest)): (&TopicPartition, &(i64, i64))| {
            let start = self.start(partition, lowest);
            Position {
                partition: partition.clone(),
                next: highest + 1,
                metadata: metadata::without_gap(start),
            }
        };
        let mut positions: Vec<Position> = batch.iter().map(position).collect();
        positions.sort_by(|a, b| a.partition.cmp(&b.partition));
        positions
    }

    /// Notes that a batch is processed and published.
    pub fn advance(&mut self, batch: &HashMap<TopicPartition, (i64, i64)>) {
        for (partition, &(lowest, highest)) in batch {
            let start = self.start(partition, lowest);
            if let Some(owned) = self.owned.get_mut(partition) {
                owned.start = start;
                owned.next = Some(highest + 1);
            }
        }
    }

    /// Offsets between two records of one partition that were not delivered do not exist (transaction
    /// markers, compaction), so a range has a gap only where reading began anew.
    fn start(&self, partition: &TopicPartition, lowest: i64) -> i64 {
        match self.owned.get(partition) {
            Some(Owned { next: Some(next), start, .. }) if lowest >= *next => *start,
            _ => lowest,
        }
    }

    /// The ranges that this lane has processed without a gap, for the store to remember.
    pub fn ranges(&self) -> Vec<(TopicPartition, OffsetRange)> {
        let range = |(partition, owned): (&TopicPartition, &Owned)| {
            let range = OffsetRange { from: owned.start, until: owned.next? };
            (range.from < range.until).then(|| (partition.clone(), range))
        };
        self.owned.iter().filter_map(range).collect()
    }

    /// Whether everything up to `offset` is behind this lane.
    pub fn is_past(&self, partition: &TopicPartition, offset: i64) -> bool {
        self.owned.get(partition).and_then(|owned| owned.next).is_some_and(|next| offset < next)
    }
}

/// Whether one of the sorted ranges holds the offset.
pub fn contains(ranges: &[OffsetRange], offset: i64) -> bool {
    let after = ranges.partition_point(|range| range.from <= offset);
    after.checked_sub(1).and_then(|at| ranges.get(at)).is_some_and(|range| offset < range.until)
}

/// Whether one of the sorted ranges holds all offsets from `first` to `last`.
pub fn covers(ranges: &[OffsetRange], first: i64, last: i64) -> bool {
    ranges.iter().any(|range| range.from <= first && last < range.until)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition() -> TopicPartition {
        TopicPartition { topic: "orders".into(), partition: 0 }
    }

    fn assigned(committed: Option<(i64, &str)>) -> Assigned {
        let committed = committed.map(|(offset, metadata)| (offset, metadata.to_owned()));
        Assigned { partition: partition(), committed, low_watermark: 0, end: 1_000 }
    }

    fn batch(lowest: i64, highest: i64) -> HashMap<TopicPartition, (i64, i64)> {
        [(partition(), (lowest, highest))].into_iter().collect()
    }

    #[test]
    fn a_range_goes_on_from_the_metadata_of_the_committed_offset() {
        let mut positions = Positions::default();
        positions.assign(&[assigned(Some((10, "from=4")))], vec![vec![]]);
        positions.advance(&batch(12, 15)); // 10 and 11 were transaction markers
        assert_eq!(positions.ranges(), vec![(partition(), OffsetRange { from: 4, until: 16 })]);
        assert_eq!(positions.after(&batch(16, 20))[0].metadata, "from=4");
    }

    #[test]
    fn a_reset_without_metadata_opens_no_range_over_what_was_skipped() {
        let mut positions = Positions::default();
        positions.assign(&[assigned(Some((100, "")))], vec![vec![]]);
        assert!(positions.ranges().is_empty());
        assert_eq!(positions.after(&batch(100, 101))[0].metadata, "from=100");
    }

    #[test]
    fn what_is_processed_is_known_to_the_offset() {
        let ranges = [OffsetRange { from: 2, until: 5 }, OffsetRange { from: 9, until: 10 }];
        let inside: Vec<i64> = (0..12).filter(|offset| contains(&ranges, *offset)).collect();
        assert_eq!(inside, [2, 3, 4, 9]);
    }

    #[test]
    fn a_partition_that_was_never_committed_begins_at_its_first_record() {
        let mut positions = Positions::default();
        positions.assign(&[assigned(None)], vec![vec![]]);
        assert_eq!(positions.after(&batch(7, 7))[0].metadata, "from=7");
        positions.advance(&batch(7, 7));
        assert!(positions.is_past(&partition(), 7) && !positions.is_past(&partition(), 8));
    }
}
