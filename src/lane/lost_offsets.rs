//! Partitions of which the store knows what was processed and the group has no offset. Either the offsets were lost, and what was
//! processed must not be processed again. Or Kafka dropped them with their topic, which was deleted and made anew, and
//! what lies at those offsets now was never processed. What counted tells the one from the other: an event of the old topic has its receipt,
//! with its coordinates. So before anything of such a partition is committed, the lane reads some way into it, looks at the receipts of
//! young events, and goes back.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::positions::contains;
use super::{Lane, LaneError, Left};
use crate::event::decode::Decoded;
use crate::log::{Assigned, Log, LogError, Polled, Record, made_anew};
use crate::store::{LoadBucket, OffsetRange, ReceiptKey, Store};
use crate::types::{Bucket, Coordinates, TopicPartition};

/// So many events of a partition are enough to tell by.
const ENOUGH: usize = 50;

/// Fewer tell nothing: they may all be repeats, which count where they were seen first.
const FEW: usize = 5;

/// How long the lane reads for them. Where the partition begins with events that are long forgotten, there may be none.
const READ_FOR: Duration = Duration::from_secs(10);

/// Partitions in doubt, with what is known to be processed of them.
type Doubted<'a> = BTreeMap<&'a TopicPartition, &'a [OffsetRange]>;

/// An event at an offset that is known to be processed, young enough to have its receipt still.
#[derive(Debug)]
struct Witness {
    at: Coordinates,
    bucket: Bucket,
    receipt: ReceiptKey,
}

/// What the witnesses of a partition say.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Said {
    /// Looked at.
    events: usize,
    /// Those that counted at their offset.
    counted: usize,
}

impl Said {
    /// Whether other events lie where some were processed.
    fn is_another(self) -> bool {
        self.events >= FEW && self.counted == 0
    }
}

impl<L: Log, S: Store> Lane<L, S> {
    /// Refuses partitions whose records at processed offsets are not those that were processed. Where it had to look, it
    /// begins anew with what it then owns, and does not look again.
    pub(super) fn refuse_what_never_counted(
        &mut self,
        assigned: &[Assigned],
        processed: &[Vec<OffsetRange>],
    ) -> Result<(), Left> {
        let looked_into = std::mem::take(&mut self.looked_into);
        let doubted: Doubted<'_> = assigned
            .iter()
            .zip(processed)
            .filter(|(assigned, ranges)| {
                let is_dropped = |range: &OffsetRange| range.until > assigned.low_watermark;
                assigned.committed.is_none()
                    && ranges.iter().any(is_dropped)
                    && !looked_into.contains(&assigned.partition)
            })
            .map(|(assigned, ranges)| (&assigned.partition, ranges.as_slice()))
            .collect();
        if doubted.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = doubted.keys().map(ToString::to_string).collect();
        let partitions = names.join(", ");
        tracing::warn!(lane = %self.status.name, partitions, "the group's offsets are gone; looking whether these are the topics that were processed");
        let witnesses = self.witnesses(&doubted)?;
        for (partition, said) in self.hear(&witnesses)? {
            if said.is_another() {
                let topic = &partition.topic;
                let seen = format!(
                    "the group's offset of {partition} is gone, and of {} events at offsets that were processed none has counted",
                    said.events
                );
                let why = format!(
                    "{}. Its records may have grown past the old ones: then add --grown. Where it is the same topic, say so by resetting \
                     the group's offsets: kafka-consumer-groups.sh --reset-offsets --to-earliest --topic {topic} --execute",
                    made_anew(topic, &seen)
                );
                return Err(Left::Failed(LaneError::Recreated(why)));
            }
        }
        self.looked_into = doubted.into_keys().cloned().collect();
        Err(self.go_back())
    }

    /// Reads on, and keeps the names of events that must have a receipt if they were processed.
    fn witnesses(&mut self, doubted: &Doubted<'_>) -> Result<Vec<Witness>, Left> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // A receipt is kept for the window from its commit on; half of it leaves room for clocks that differ.
        let since = now.saturating_sub(self.settings.dedupe_window / 2);
        let since_ms = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
        let deadline = Instant::now() + READ_FOR;
        let mut found: BTreeMap<&TopicPartition, usize> =
            doubted.keys().map(|partition| (*partition, 0)).collect();
        let mut witnesses = Vec::new();
        while found.values().any(|number| *number < ENOUGH) && Instant::now() < deadline {
            self.status.turned();
            if self.status.is_stopping() {
                return Err(Left::Stopped);
            }
            let records = match self.log.poll(self.settings.max_events, self.settings.max_wait) {
                Ok(Polled::Records(records)) => records,
                Ok(Polled::Assigned(assigned)) => return Err(Left::Reassigned(assigned)),
                Err(LogError::Retriable(why)) => {
                    self.log_is_away(&why);
                    let wait = self.backoff();
                    self.stay_in_group(wait)?;
                    continue;
                }
                Err(error) => return Err(Left::Failed(LaneError::Log(error))),
            };
            if records.is_empty() && self.log.caught_up() {
                break;
            }
            for record in records {
                let partition = record.at.topic_partition();
                let Some(ranges) = doubted.get(&partition) else { continue };
                let Some(number) = found.get_mut(&partition).filter(|number| **number < ENOUGH) else {
                    continue;
                };
                let is_young = record.published_ms.is_some_and(|published| published >= since_ms);
                if is_young
                    && contains(ranges, record.at.offset)
                    && let Some(witness) = self.witness(&record)
                {
                    *number += 1;
                    witnesses.push(witness);
                }
            }
        }
        Ok(witnesses)
    }

    fn witness(&self, record: &Record) -> Option<Witness> {
        let Ok(Decoded::Event(event)) = self.decoder.decode(record) else { return None };
        let bucket = self.settings.buckets.of(&event.member);
        Some(Witness { at: record.at.clone(), bucket, receipt: event.receipt_key })
    }

    /// Asks for the receipts.
    fn hear(&mut self, witnesses: &[Witness]) -> Result<BTreeMap<TopicPartition, Said>, Left> {
        let mut by_bucket: BTreeMap<Bucket, Vec<&Witness>> = BTreeMap::new();
        for witness in witnesses {
            by_bucket.entry(witness.bucket).or_default().push(witness);
        }
        let wanted = |(bucket, witnesses): (&Bucket, &Vec<&Witness>)| LoadBucket {
            bucket: *bucket,
            members: Vec::new(),
            receipts: witnesses.iter().map(|witness| witness.receipt.clone()).collect(),
            outbox: false,
        };
        let wanted: Vec<LoadBucket> = by_bucket.iter().map(wanted).collect();
        let loaded = self.ask_store(|store| store.load(&wanted))?;
        let receipts = loaded.into_iter().flat_map(|bucket| bucket.receipts);
        let mut said: BTreeMap<TopicPartition, Said> = BTreeMap::new();
        for (witness, receipt) in by_bucket.into_values().flatten().zip(receipts) {
            let said = said.entry(witness.at.topic_partition()).or_default();
            said.events += 1;
            said.counted += usize::from(receipt.is_some_and(|receipt| receipt.at == witness.at));
        }
        Ok(said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_another_one_where_several_events_and_not_one_of_them_counted_at_its_offset() {
        assert!(Said { events: 5, counted: 0 }.is_another());
        assert!(!Said { events: 50, counted: 1 }.is_another(), "the others may be repeats");
        assert!(!Said { events: 4, counted: 0 }.is_another(), "too few to tell");
        assert!(!Said::default().is_another());
    }
}
