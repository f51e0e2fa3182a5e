//! What a lane does when it is given partitions, before it reads the first record of them.
//!
//! 1. It learns which offsets are processed: from the store, and from the metadata of the committed
//!    offset, which a crash before the last save cannot lose.
//! 2. It sweeps the outbox. What is known as published goes. What lies before the lane's position
//!    and is not known as published will not be delivered again (its source record is gone, or an
//!    operator skipped it), so it is published now. The rest is published when its event comes again.

use std::collections::BTreeSet;

use super::outbox::{self, Unpublished};
use super::positions::{contains, covers};
use super::{Lane, LaneError, Left, leftovers, metadata};
use crate::log::{Assigned, Log, Position};
use crate::store::{OffsetRange, OutboxKey, Store};
use crate::types::{Bucket, TopicPartition};

impl<L: Log, S: Store> Lane<L, S> {
    /// Begins with just these partitions.
    ///
    /// # Errors
    /// Where the lane cannot go on by itself.
    pub(super) fn adopt(&mut self, mut assigned: Vec<Assigned>) -> Result<(), LaneError> {
        self.metrics.rebalances.with_label_values(&[&self.status.name]).inc();
        loop {
            match self.begin_with(&assigned) {
                Ok(()) => break,
                Err(Left::Reassigned(anew)) => assigned = anew,
                Err(Left::Stopped) => return Ok(()),
                Err(Left::Failed(error)) => return Err(error),
            }
        }
        self.failures = 0;
        self.status.assigned(assigned.len());
        self.status.kafka_is_up(&self.metrics);
        self.status.set_caught_up(false);
        self.metrics
            .partitions
            .with_label_values(&[&self.status.name])
            .set(i64::try_from(assigned.len()).unwrap_or(i64::MAX));
        tracing::info!(lane = %self.status.name, partitions = assigned.len(), "assigned");
        Ok(())
    }

    fn begin_with(&mut self, assigned: &[Assigned]) -> Result<(), Left> {
        self.make_sure_of_store()?;
        // What was published before this assignment is remembered by ranges that are saved first.
        let ranges = metadata::processed_of_all(assigned);
        if !ranges.is_empty() {
            self.ask_store(|store| store.add_processed(&ranges))?;
        }
        let partitions: Vec<TopicPartition> =
            assigned.iter().map(|assigned| assigned.partition.clone()).collect();
        let mut processed = self.ask_store(|store| store.processed(&partitions))?;
        self.refuse_recreated(assigned, &processed)?;
        self.refuse_what_never_counted(assigned, &processed)?;
        let entries = self.ask_store(|store| store.outbox(&partitions))?;
        self.unpublished.clear();
        self.published.clear();
        self.ranges_unsaved = false;
        let known = |partition: &TopicPartition| {
            let at = assigned.iter().position(|assigned| assigned.partition == *partition)?;
            Some((assigned.get(at)?, processed.get(at)?.as_slice()))
        };
        let mut published = Vec::new();
        let mut stranded = Vec::new();
        for (bucket, key) in entries {
            let Some((assigned, ranges)) = known(&key.partition) else { continue };
            if covers(ranges, key.first, key.last) {
                published.push((bucket, key));
            } else if key.first < assigned.start() {
                stranded.push((bucket, key));
            } else {
                self.unpublished.push((bucket, key));
            }
        }
        if !stranded.is_empty() {
            while self.publish_stranded(assigned, &stranded, &processed)? {
                processed = self.ask_store(|store| store.processed(&partitions))?;
            }
            for (bucket, key) in stranded {
                let of = |assigned: &&Assigned| assigned.partition == key.partition;
                let gone = assigned.iter().find(of).is_some_and(|assigned| key.last < assigned.start());
                if gone { published.push((bucket, key)) } else { self.unpublished.push((bucket, key)) }
            }
        }
        if !published.is_empty() {
            self.ask_store(|store| store.clear_outbox(&published))?;
        }
        self.positions.assign(assigned, processed);
        Ok(())
    }

    /// Publishes what was applied but will not be delivered again. The offsets stay where they are; their metadata say what
    /// was published, in the same transaction. Says whether it published: then there may be more, for which the metadata
    /// had no room.
    fn publish_stranded(
        &mut self,
        assigned: &[Assigned],
        stranded: &[(Bucket, OutboxKey)],
        processed: &[Vec<OffsetRange>],
    ) -> Result<bool, Left> {
        let mut left: Vec<Vec<(Bucket, Unpublished)>> = assigned.iter().map(|_| Vec::new()).collect();
        for (bucket, key) in stranded {
            let known = assigned.iter().zip(processed).zip(&mut left);
            let found = known.into_iter().find(|((assigned, _), _)| assigned.partition == key.partition);
            let Some(((assigned, ranges), left)) = found else { continue };
            let Some(blob) = self.ask_store(|store| store.outbox_entry(*bucket, key))? else { continue };
            let unpublished = outbox::read(&blob).map_err(LaneError::Unreadable)?.into_iter();
            let behind = unpublished
                .filter(|record| record.offset < assigned.start() && !contains(ranges, record.offset));
            left.extend(behind.map(|record| (*bucket, record)));
        }
        let mut records = Vec::new();
        let mut positions = Vec::new();
        let mut done: Vec<(TopicPartition, OffsetRange)> = Vec::new();
        // Whose snapshots may never have been published, each with the time of the latest of its records.
        let mut changed = leftovers::Changed::new();
        for (assigned, left) in assigned.iter().zip(left) {
            let offsets: BTreeSet<i64> = left.iter().map(|(_, record)| record.offset).collect();
            let (metadata, ranges) = match &assigned.committed {
                Some((_, metadata)) if offsets.is_empty() => (metadata.clone(), Vec::new()),
                None if offsets.is_empty() => continue,
                _ => metadata::and_behind(assigned, offsets),
            };
            for (bucket, record) in left.into_iter().filter(|(_, record)| contains(&ranges, record.offset)) {
                leftovers::note_changed(&mut changed, bucket, &record)?;
                records.push(self.out(record));
            }
            done.extend(ranges.into_iter().map(|range| (assigned.partition.clone(), range)));
            let next = assigned.committed.as_ref().map_or(assigned.low_watermark, |(next, _)| *next);
            positions.push(Position { partition: assigned.partition.clone(), next, metadata });
        }
        if records.is_empty() {
            return Ok(false);
        }
        let loaded = self.ask_store(|store| store.load(&leftovers::wanted(&changed)))?;
        let snapshots = leftovers::snapshots(&self.settings.outputs, &self.renderer, &changed, loaded);
        records.extend(snapshots?);
        tracing::info!(lane = %self.status.name, records = records.len(), "publishing what an earlier run left in the outbox");
        let buckets: Vec<Bucket> = stranded.iter().map(|(bucket, _)| *bucket).collect();
        self.publish(&records, &positions, &buckets)?;
        self.ask_store(|store| store.add_processed(&done))?;
        Ok(true)
    }
}
