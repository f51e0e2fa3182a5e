//! What an old copy of a store still takes for unpublished. What was lost may be just that it was published, and an
//! operator who has the group read it again would have it published twice.

use std::collections::HashMap;

use crate::lane::outbox;
use crate::store::{LoadedBucket, OutboxKey};
use crate::types::{Bucket, Coordinates, TopicPartition};

/// The outboxes of the buckets looked at.
#[derive(Default, Debug)]
pub(super) struct Outboxes {
    entries: Vec<(Bucket, OutboxKey)>,
    /// The source of each unpublished record: which entries hold one, and whether it was seen on the ledger.
    sources: HashMap<(TopicPartition, i64), Source>,
}

#[derive(Default, Debug)]
struct Source {
    entries: Vec<usize>,
    is_published: bool,
}

impl Outboxes {
    /// Takes in the outbox of a bucket.
    ///
    /// # Errors
    /// Where it holds something else than a worker writes.
    pub(super) fn add(&mut self, bucket: Bucket, loaded: LoadedBucket) -> Result<(), String> {
        for (key, blob) in loaded.outbox {
            for record in outbox::read(&blob)? {
                let source = self.sources.entry((key.partition.clone(), record.offset)).or_default();
                source.entries.push(self.entries.len());
            }
            self.entries.push((bucket, key));
        }
        Ok(())
    }

    /// What came of this record is on the ledger.
    pub(super) fn is_published(&mut self, at: &Coordinates) {
        if let Some(source) = self.sources.get_mut(&(at.topic_partition(), at.offset)) {
            source.is_published = true;
        }
    }

    /// The entries of which all is published.
    pub(super) fn published(self) -> Vec<(Bucket, OutboxKey)> {
        let mut open = vec![false; self.entries.len()];
        for source in self.sources.values().filter(|source| !source.is_published) {
            for entry in &source.entries {
                if let Some(open) = open.get_mut(*entry) {
                    *open = true;
                }
            }
        }
        self.entries.into_iter().zip(open).filter(|(_, open)| !open).map(|(entry, _)| entry).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::outbox::Channel;

    fn entry(first: i64, offsets: &[i64]) -> (OutboxKey, Vec<u8>) {
        let mut blob = Vec::new();
        for offset in offsets {
            outbox::push(&mut blob, *offset, Channel::Awards, &"ann".into(), b"{}");
        }
        let partition = TopicPartition { topic: "orders".into(), partition: 1 };
        (
            OutboxKey { partition, first, last: offsets[offsets.len() - 1] },
            outbox::pack(&blob, &mut Vec::new()),
        )
    }

    #[test]
    fn an_entry_is_published_once_all_its_sources_are_on_the_ledger() {
        let mut outboxes = Outboxes::default();
        let outbox = vec![entry(1, &[1, 1, 3]), entry(4, &[4, 9])];
        outboxes.add(Bucket(2), LoadedBucket { outbox, ..LoadedBucket::default() }).unwrap();
        for offset in [3, 9, 1, 100] {
            outboxes.is_published(&Coordinates { topic: "orders".into(), partition: 1, offset });
        }
        outboxes.is_published(&Coordinates { topic: "orders".into(), partition: 2, offset: 4 });
        let published: Vec<i64> = outboxes.published().into_iter().map(|(_, key)| key.first).collect();
        assert_eq!(published, [1]);
    }

    #[test]
    fn what_no_worker_wrote_is_an_error() {
        let outbox = vec![(entry(1, &[1]).0, b"?".to_vec())];
        assert!(
            Outboxes::default().add(Bucket(0), LoadedBucket { outbox, ..LoadedBucket::default() }).is_err()
        );
    }
}
