//! A topic that was deleted and made anew under its old name. Offsets begin at zero again: what is known to be processed of
//! the old one would be dropped of the new one. So a lane that is given a partition that is shorter than what is known of it
//! stops, and a person says what is meant, by `accrual accept-recreated`.
//!
//! A new topic that has grown past the old one cannot be told by its offsets, but by what counted: see `lost_offsets`.

use super::{Lane, LaneError, Left};
use crate::log::{Assigned, Log, shorter_than_known};
use crate::store::{OffsetRange, Store};
use crate::types::TopicPartition;

/// The end of what is known of a partition.
pub fn known_end(assigned: &Assigned, processed: &[OffsetRange]) -> i64 {
    let ranges = processed.iter().map(|range| range.until);
    let committed = assigned.committed.as_ref().map(|(next, _)| *next);
    ranges.chain(committed).max().unwrap_or_default()
}

/// The first partition that ends before what was processed of it, and the offset after the last that was.
fn shorter(assigned: &[Assigned], processed: &[Vec<OffsetRange>]) -> Option<(TopicPartition, i64)> {
    assigned.iter().zip(processed).find_map(|(assigned, processed)| {
        // A committed offset may lie behind the end, where an operator skipped to the newest record while somebody's
        // transaction was open; the log looks at that. What was processed never does.
        let known = processed.iter().map(|range| range.until).max().unwrap_or_default();
        (known > assigned.end).then(|| (assigned.partition.clone(), known))
    })
}

impl<L: Log, S: Store> Lane<L, S> {
    /// Refuses partitions that end before what is known to be processed of them.
    ///
    /// Of a lane that stood still since it asked where they end, others may have taken them over and be further by now. So it
    /// asks again, and only an end that is younger than what is known counts.
    pub(super) fn refuse_recreated(
        &mut self,
        assigned: &[Assigned],
        processed: &[Vec<OffsetRange>],
    ) -> Result<(), Left> {
        let Some((partition, known)) = shorter(assigned, processed) else { return Ok(()) };
        let again = match self.go_back() {
            Left::Reassigned(again) => again,
            other => return Err(other),
        };
        match again.iter().find(|again| again.partition == partition) {
            Some(again) if again.end < known => {
                let why = shorter_than_known(&partition, known, again.end);
                Err(Left::Failed(LaneError::Recreated(why)))
            }
            _ => Err(Left::Reassigned(again)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assigned(committed: Option<i64>, end: i64) -> Assigned {
        let partition = TopicPartition { topic: "orders".into(), partition: 3 };
        let committed = committed.map(|next| (next, String::new()));
        Assigned { partition, committed, low_watermark: 0, end }
    }

    #[test]
    fn a_partition_is_shorter_where_it_ends_before_what_was_processed() {
        let processed = [OffsetRange { from: 0, until: 5 }, OffsetRange { from: 8, until: 10 }];
        assert_eq!(known_end(&assigned(Some(9), 0), &processed), 10);
        assert_eq!(known_end(&assigned(Some(12), 0), &processed), 12);
        let found = |end| shorter(&[assigned(Some(12), end)], &[processed.to_vec()]);
        assert!(found(10).is_none(), "all of it was processed");
        assert_eq!(found(9), Some((assigned(None, 9).partition, 10)));
        assert!(shorter(&[assigned(None, 0)], &[Vec::new()]).is_none(), "nothing is known of an empty one");
    }
}
