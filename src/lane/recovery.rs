//! What a lane does when it is given partitions, before it reads the first record of them.
//!
//! 1. It learns which offsets are processed: from the store, and from the metadata of the committed
//!    offset, which a crash before the last save cannot lose.
//! 2. It sweeps the outbox. What is known as published goes. What lies before the lane's position
//!    and is not known as published will not be delivered again (its source record is gone, or an
//!    operator skipped it), so it is published now. The rest is published when its event comes again.

use super::outbox;
use super::positions::{committed_range, contains, covers};
use super::{Lane, LaneError, Left, leftovers};
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
        let ranges: Vec<(TopicPartition, OffsetRange)> = assigned
            .iter()
            .filter_map(|assigned| Some((assigned.partition.clone(), committed_range(assigned)?)))
            .collect();
        if !ranges.is_empty() {
            self.ask_store(|store| store.add_processed(&ranges))?;
        }
        let partitions: Vec<TopicPartition> =
            assigned.iter().map(|assigned| assigned.partition.clone()).collect();
        let processed = self.ask_store(|store| store.processed(&partitions))?;
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
        let knows_more = !stranded.is_empty();
        if knows_more {
            self.publish_stranded(assigned, &stranded, &processed)?;
            for (bucket, key) in stranded {
                let gone = known(&key.partition).is_some_and(|(assigned, _)| key.last < assigned.start());
                if gone { published.push((bucket, key)) } else { self.unpublished.push((bucket, key)) }
            }
        }
        if !published.is_empty() {
            self.ask_store(|store| store.clear_outbox(&published))?;
        }
        let processed =
            if knows_more { self.ask_store(|store| store.processed(&partitions))? } else { processed };
        self.positions.assign(assigned, processed);
        Ok(())
    }

    /// Publishes what was applied but will not be delivered again.
    fn publish_stranded(
        &mut self,
        assigned: &[Assigned],
        stranded: &[(Bucket, OutboxKey)],
        processed: &[Vec<OffsetRange>],
    ) -> Result<(), Left> {
        let mut records = Vec::new();
        let mut done: Vec<(TopicPartition, OffsetRange)> = Vec::new();
        // Whose snapshots may never have been published, each with the time of the latest of its records.
        let mut changed = leftovers::Changed::new();
        for (bucket, key) in stranded {
            let found =
                assigned.iter().zip(processed).find(|(assigned, _)| assigned.partition == key.partition);
            let Some((assigned, ranges)) = found else { continue };
            let Some(blob) = self.ask_store(|store| store.outbox_entry(*bucket, key))? else { continue };
            let unpublished = outbox::read(&blob).map_err(LaneError::Unreadable)?;
            for record in unpublished {
                if record.offset < assigned.start() && !contains(ranges, record.offset) {
                    done.push((
                        key.partition.clone(),
                        OffsetRange { from: record.offset, until: record.offset + 1 },
                    ));
                    leftovers::note_changed(&mut changed, *bucket, &record)?;
                    records.push(self.out(record));
                }
            }
        }
        if records.is_empty() {
            return Ok(());
        }
        let loaded = self.ask_store(|store| store.load(&leftovers::wanted(&changed)))?;
        let snapshots = leftovers::snapshots(&self.settings.outputs, &self.renderer, &changed, loaded);
        records.extend(snapshots?);
        tracing::info!(lane = %self.status.name, records = records.len(), "publishing what an earlier run left in the outbox");
        // The positions go along unchanged, so that a lane that lost its partitions is refused.
        let positions: Vec<Position> = assigned
            .iter()
            .filter_map(|assigned| {
                let (next, metadata) = assigned.committed.clone()?;
                Some(Position { partition: assigned.partition.clone(), next, metadata })
            })
            .collect();
        let buckets: Vec<Bucket> = stranded.iter().map(|(bucket, _)| *bucket).collect();
        self.publish(&records, &positions, &buckets)?;
        self.ask_store(|store| store.add_processed(&done))
    }
}
