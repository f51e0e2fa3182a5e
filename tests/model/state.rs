//! What the model remembers between two steps: the store and its replica, the broker, the lanes.
//!
//! Everything is small and of fixed size, since the checker holds millions of these. There is one member, whom all
//! events concern: that is the hardest case for versions, and members have nothing in common in the protocol.

/// Lanes of the worker.
pub const LANES: usize = 2;
/// Partitions of the input topic.
pub const PARTITIONS: usize = 2;
/// Records that a partition has at most.
pub const LENGTH: usize = 2;
/// Different events that there are at most.
pub const EVENTS: usize = 3;

/// An event's id: `a`, `b` or `c`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Event(pub u8);

/// Coordinates of an input record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct At {
    /// The partition.
    pub partition: u8,
    /// The offset.
    pub offset: u8,
}

/// The member's account: a version, and how often each event was counted in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
pub struct Account {
    /// How many entries made it.
    pub version: u8,
    /// For each event, how many of its entries it holds; every number but one is a fault.
    pub counted: [u8; EVENTS],
}

/// An entry of the ledger as it is published, and the snapshot that goes out beside it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Entry {
    /// The event that it is for.
    pub event: Event,
    /// Where that event came in.
    pub at: At,
    /// The account's version after it.
    pub version: u8,
    /// The account as it was in the store when the entry was sent.
    pub snapshot: Account,
}

/// What Redis holds, and who it says it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Store {
    /// `master_replid`: another one after every failover and every restart.
    pub identity: u8,
    /// The marker: the identity under which the lanes found it whole.
    pub confirmed: u8,
    /// The member's account.
    pub account: Account,
    /// For each event that counted, where it came in.
    pub receipts: [Option<At>; EVENTS],
    /// For each offset, the version of the entry that is not published yet.
    pub outbox: [[Option<u8>; LENGTH]; PARTITIONS],
    /// For each partition, a bit for each offset known to be processed and published.
    pub processed: [u8; PARTITIONS],
}

/// The group's committed offset of a partition, with its metadata.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
pub struct Committed {
    /// The next offset to be read.
    pub next: u8,
    /// Metadata: where the range without a gap begins that ends at `next`.
    pub from: Option<u8>,
    /// Metadata: offsets (a bit each) before `next` that were published from the outbox.
    pub behind: u8,
}

/// A transaction that the broker holds open for a lane's transactional id.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
pub struct Transaction {
    /// What was sent: in the log, and not seen by who reads committed records only.
    pub entry: Option<Entry>,
    /// The offset that becomes the committed one with it.
    pub offset: Option<(u8, Committed)>,
}

/// What Kafka holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
pub struct Broker {
    /// Which lane owns each partition.
    pub owner: [u8; PARTITIONS],
    /// The group's offsets.
    pub committed: [Committed; PARTITIONS],
    /// Each lane's open transaction.
    pub open: [Option<Transaction>; LANES],
    /// Whether a lane's request to commit is still on its way, long given up by the lane.
    pub delayed_commit: [bool; LANES],
    /// What a reader of committed records has seen of each event: the entry, and how often.
    pub published: [Option<(Entry, u8)>; EVENTS],
}

/// A partition as the lane that owns it knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
pub struct Position {
    /// The next offset to be read.
    pub next: u8,
    /// Where the range without a gap begins that ends there.
    pub from: u8,
    /// Offsets (a bit each) that the metadata told as published from the outbox when the partition was assigned.
    pub behind: u8,
    /// Offsets that the store knew as processed when the partition was assigned.
    pub processed: u8,
}

/// What a lane publishes in one transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Batch {
    /// The input record.
    pub at: At,
    /// What came of it; nothing for a duplicate and for what was processed before.
    pub entry: Option<Entry>,
    /// Found in the outbox at the assignment, behind the committed offset, which stays as it is.
    pub stranded: bool,
}

/// Where a lane is between two steps.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Stage {
    /// The process is gone.
    Down,
    /// About to learn its partitions and their committed offsets.
    Joining,
    /// Knows them; about to ask the store what is processed and what is in the outbox.
    Assigned,
    /// Between two batches.
    Idle,
    /// About to load the account; with the receipts after a commit was refused.
    Loading { at: At, receipts: bool },
    /// Has decided on this account; about to commit to the store.
    Committing { at: At, account: Account },
    /// About to begin the transaction and send.
    Sending(Batch),
    /// Has sent; about to ask the store who it is.
    Checking(Batch),
    /// About to send the offset, with the group's metadata.
    SendingOffset(Batch),
    /// About to commit the transaction.
    Publishing(Batch),
    /// Only where the offset is committed outside of the transaction: about to do so.
    CommittingOffset(Batch),
    /// Has published an entry that was found behind the committed offset; about to save its offset as processed.
    SavingStranded { at: At },
    /// Does not know what became of the transaction; about to replace the producer.
    ReplacingProducer,
    /// Heard that the store may have lost something; about to read who it is.
    ReadingIdentity,
    /// About to read where the published log ends.
    ReadingEnd { identity: u8 },
    /// About to restore the account, once the transactions of `waits` (a bit a lane) are decided: by the entries of `seen`
    /// (a bit an event).
    RestoringAccount { identity: u8, seen: u8, waits: u8 },
    /// About to restore the receipts of these entries, and their offsets as processed.
    RestoringReceipts { identity: u8, seen: u8 },
    /// About to set the marker.
    Confirming { identity: u8 },
}

/// One lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Lane {
    /// Where it is.
    pub stage: Stage,
    /// Whether its generation is the group's; false for a lane that does not know yet that others took over.
    pub current: bool,
    /// The store that it knows as whole.
    pub identity: Option<u8>,
    /// The partitions that it believes to own.
    pub owned: [Option<Position>; PARTITIONS],
    /// The account, if it is in the cache.
    pub cache: Option<Account>,
    /// Whether the store does not know yet what the lane has processed.
    pub unsaved: bool,
    /// Outbox entries that are published and not removed yet: for each partition, a bit an offset.
    pub published: [u8; PARTITIONS],
}

/// How many more of each fault may come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
pub struct Faults {
    /// A process dies.
    pub crashes: u8,
    /// A partition moves to the other lane, and the one that had it does not know.
    pub rebalances: u8,
    /// The reply to a transaction's commit is lost; the request may have arrived, or may yet.
    pub lost_commits: u8,
    /// The store did what it was told, and its reply is lost.
    pub lost_replies: u8,
    /// The replica takes over, without what it lacks.
    pub failovers: u8,
    /// The replica catches up; before that it is empty.
    pub catch_ups: u8,
    /// An operator sets the group's offsets to the start while all lanes are stopped.
    pub rewinds: u8,
    /// The receipts expire.
    pub expiries: u8,
    /// The group is set past a record, or retention takes it, whose event is applied and not published.
    pub skips: u8,
}

/// Everything.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct State {
    /// Redis' master.
    pub store: Store,
    /// What its replica, or its last dump, has of it.
    pub replica: Store,
    /// Kafka.
    pub broker: Broker,
    /// The lanes.
    pub lanes: [Lane; LANES],
    /// What may still go wrong.
    pub left: Faults,
    /// Partitions (a bit each) whose latest committed offset only its metadata tells as processed. Nobody in the protocol knows
    /// this; it says whether a lane that has stopped did so cleanly.
    pub unclean: u8,
}
