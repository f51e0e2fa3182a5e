//! What goes with a committed offset: which offsets behind it are processed and published. It changes in the transaction
//! that publishes, so that no crash comes between; what the store is told of it comes after, and may be lost.
//!
//! `from=4` says: processed without a gap from 4 up to the committed offset. `from=4 behind=1..2,3..4` says so of these
//! ranges (the last offset excluded) too: they were published from the outbox, see `src/lane/recovery.rs`.

use crate::log::Assigned;
use crate::store::OffsetRange;
use crate::types::TopicPartition;

/// Kafka takes 4,096 bytes by default (`offset.metadata.max.bytes`).
const MOST_BYTES: usize = 3_000;

/// The metadata of an offset up to which all is processed from `start` on.
pub fn without_gap(start: i64) -> String {
    format!("from={start}")
}

/// Where the range without a gap begins that ends at the committed offset. An operator's reset leaves no metadata, and
/// so opens no range.
pub fn start_without_gap(assigned: &Assigned) -> Option<i64> {
    let (until, metadata) = assigned.committed.as_ref()?;
    let from = field(metadata, "from=")?.parse().ok()?;
    (from < *until).then_some(from)
}

/// All ranges that the committed offset and its metadata speak of.
pub fn processed(assigned: &Assigned) -> Vec<OffsetRange> {
    let Some((until, metadata)) = &assigned.committed else { return Vec::new() };
    let without_gap = start_without_gap(assigned).map(|from| OffsetRange { from, until: *until });
    let behind = field(metadata, "behind=").unwrap_or_default().split(',').filter_map(range);
    without_gap.into_iter().chain(behind).collect()
}

/// The same of several partitions, as the store is told of it.
pub fn processed_of_all(assigned: &[Assigned]) -> Vec<(TopicPartition, OffsetRange)> {
    let of_one = |assigned: &Assigned| {
        let partition = assigned.partition.clone();
        processed(assigned).into_iter().map(move |range| (partition.clone(), range))
    };
    assigned.iter().flat_map(of_one).collect()
}

/// The metadata that say of offsets behind the committed one, given in order and each once, that they are published as
/// well, and as which ranges. What does not fit is left out.
pub fn and_behind(assigned: &Assigned, offsets: impl IntoIterator<Item = i64>) -> (String, Vec<OffsetRange>) {
    let mut metadata = start_without_gap(assigned).map(without_gap).unwrap_or_default();
    let mut ranges: Vec<OffsetRange> = Vec::new();
    for offset in offsets {
        match ranges.last_mut() {
            Some(last) if last.until == offset => last.until += 1,
            _ => ranges.push(OffsetRange { from: offset, until: offset + 1 }),
        }
    }
    let mut before = if metadata.is_empty() { "behind=" } else { " behind=" };
    let fits = ranges.iter().take_while(|OffsetRange { from, until }| {
        let range = format!("{before}{from}..{until}");
        before = ",";
        let fits = metadata.len() + range.len() <= MOST_BYTES;
        if fits {
            metadata.push_str(&range);
        }
        fits
    });
    let fits = fits.count();
    ranges.truncate(fits);
    (metadata, ranges)
}

fn field<'a>(metadata: &'a str, name: &str) -> Option<&'a str> {
    metadata.split(' ').find_map(|field| field.strip_prefix(name))
}

fn range(text: &str) -> Option<OffsetRange> {
    let (from, until) = text.split_once("..")?;
    let range = OffsetRange { from: from.parse().ok()?, until: until.parse().ok()? };
    (range.from < range.until).then_some(range)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn assigned(committed: Option<(i64, &str)>) -> Assigned {
        let partition = TopicPartition { topic: "orders".into(), partition: 0 };
        let committed = committed.map(|(offset, metadata)| (offset, metadata.to_owned()));
        Assigned { partition, committed, low_watermark: 0, end: 1_000 }
    }

    #[test]
    fn metadata_say_which_offsets_are_processed() {
        let range = |from, until| OffsetRange { from, until };
        for (committed, processed_) in [
            (None, vec![]),
            (Some((9, "")), vec![]),
            (Some((9, "from=4")), vec![range(4, 9)]),
            (Some((9, "from=9")), vec![]),
            (Some((9, "from=7 behind=1..2,4..6")), vec![range(7, 9), range(1, 2), range(4, 6)]),
            (Some((9, "behind=1..2")), vec![range(1, 2)]),
            (Some((9, "behind=2..2,x..4,5,6..7")), vec![range(6, 7)]),
            (Some((9, "somebody else's")), vec![]),
        ] {
            assert_eq!(processed(&assigned(committed)), processed_, "{committed:?}");
        }
    }

    #[test]
    fn offsets_behind_are_put_together_to_ranges_after_what_is_without_gap() {
        for (committed, metadata) in [
            (Some((9, "from=7 behind=0..1")), "from=7 behind=1..3,5..6"),
            (Some((9, "")), "behind=1..3,5..6"),
            (None, "behind=1..3,5..6"),
        ] {
            assert_eq!(and_behind(&assigned(committed), [1, 2, 5]).0, metadata, "{committed:?}");
        }
    }

    proptest! {
        #[test]
        fn what_the_metadata_take_is_read_back_and_is_the_first_of_it(
            offsets in prop::collection::btree_set(0_i64..100_000, 1..2_000),
        ) {
            let (metadata, ranges) = and_behind(&assigned(Some((200_000, "from=150000"))), offsets.iter().copied());
            prop_assert!(metadata.len() <= MOST_BYTES && !ranges.is_empty());
            let read = processed(&assigned(Some((200_000, &metadata))));
            prop_assert_eq!(&read[1..], ranges.as_slice());
            let taken: Vec<i64> = ranges.iter().flat_map(|range| range.from..range.until).collect();
            let first: Vec<i64> = offsets.iter().copied().take(taken.len()).collect();
            prop_assert_eq!(taken, first);
            prop_assert!(metadata.len() > MOST_BYTES - 50 || ranges.last().unwrap().until == offsets.last().unwrap() + 1);
        }
    }
}
