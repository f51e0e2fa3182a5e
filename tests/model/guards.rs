//! The protocol's guards, each of which a test takes away.

/// A guard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Guard {
    /// The commit script refuses where the account has another version than the lane decided on.
    VersionCheck,
    /// The commit script refuses where an event has a receipt, and the lane drops what has one.
    Receipt,
    /// A receipt says where the event came in, so that its repetition elsewhere is not taken for its redelivery.
    Coordinates,
    /// What is not published yet is kept beside the account.
    Outbox,
    /// What the outbox has of records that will not come again is published at the assignment.
    Stranded,
    /// Offsets are refused from a lane of an older generation of the group.
    Generation,
    /// A new producer under the same id has a higher epoch, and what the old one asked for is refused.
    Epoch,
    /// The offset is committed by the transaction that publishes.
    OffsetsInTransaction,
    /// Who asks for committed offsets waits for transactions that are about to move them (KIP-447).
    StableOffsets,
    /// Offsets known to be processed are dropped, also when their receipts have expired.
    Ranges,
    /// The committed offset's metadata tells which range ends there.
    Metadata,
    /// They tell as well what was published from behind it.
    MetadataBehind,
    /// The commit script refuses where the store is not the one that the lane knows as whole.
    IdentityAtCommit,
    /// Before a transaction is committed, the store is asked whether it is still the same.
    IdentityBeforePublish,
    /// A lane without anything to commit asks the store who it is, too.
    LookWhenIdle,
    /// What is lost is restored before the marker is set.
    Repair,
    /// Repair waits for transactions that are open where the log ends.
    WaitForOpen,
    /// Repair evolves accounts by the entries that are published, instead of taking their snapshots.
    Entries,
    /// Repair restores receipts.
    RestoredReceipts,
    /// Repair saves the offsets of what is published as processed.
    RestoredRanges,
    /// Repair writes only into the store whose identity it read first.
    IdentityAtRestore,
    /// The marker is set only for the identity that was read first.
    IdentityAtConfirm,
    /// Who repairs forgets the accounts in its cache.
    DroppedCache,
}
