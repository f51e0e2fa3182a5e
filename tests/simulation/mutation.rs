//! Guards that are taken away on purpose. The auditor must notice: one that notices nothing proves nothing.

use accrual::log::Position;
use accrual::log::memory::MemoryBroker;
use accrual::store::memory::MemoryStore;
use accrual::store::{CommitBucket, Located};

/// A guard that is missing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mutation {
    /// A commit overwrites whatever version there is.
    NoVersionCheck,
    /// Nothing remembers that an event counted.
    NoReceipts,
    /// Nothing remembers what is still to be published.
    NoOutbox,
    /// Offsets are committed by themselves, before the transaction's end.
    OffsetsOutside,
    /// A store that lost something is taken to be whole.
    NoRepair,
}

impl Mutation {
    /// A commit without its guard.
    pub fn of_commit(self, store: &MemoryStore, bucket: &CommitBucket) -> CommitBucket {
        let mut bucket = bucket.clone();
        match self {
            Mutation::NoVersionCheck => {
                for write in &mut bucket.accounts {
                    let held = store.account(&write.member);
                    let json: Option<serde_json::Value> =
                        held.map(|json| serde_json::from_slice(&json).unwrap());
                    write.expected = json.map_or(0, |json| json["v"].as_u64().unwrap());
                }
            }
            Mutation::NoReceipts => bucket.receipts.clear(),
            Mutation::NoOutbox => bucket.outbox.clear(),
            Mutation::OffsetsOutside | Mutation::NoRepair => {}
        }
        bucket
    }

    /// What is said of where buckets are.
    pub fn of_places(self, mut located: Vec<Located>, store: &mut MemoryStore) -> Vec<Located> {
        use accrual::store::Store;
        if self == Mutation::NoRepair {
            store.confirm(&located).unwrap();
            for located in &mut located {
                located.confirmed = Some(located.server.clone());
            }
        }
        located
    }

    /// What becomes of offsets that go with a transaction.
    pub fn of_offsets(self, broker: &MemoryBroker, positions: &[Position]) {
        if self == Mutation::OffsetsOutside {
            broker.commit_offsets(positions);
        }
    }
}
