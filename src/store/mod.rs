//! Where accounts live, in the domain's words. Redis for production, memory for the demo and the
//! simulation; both pass the contract in `tests/store_contract.rs`.
//!
//! A [`Store`] promises one thing above all: [`Store::commit`] of a bucket is atomic. Either every
//! account, receipt and outbox record of it is written, or none is.

mod budget;
pub mod memory;
pub mod redis;
mod server;

use std::ops::{Deref, Range};
use std::time::{Duration, Instant};

use crate::types::{Bucket, CampaignId, Coordinates, EventId, MemberId, RuleId, TopicName, TopicPartition};

pub use budget::{Grant, Lease, LeaseId, LeaseRequest, Returned, Spent};
pub use server::{Located, RestoreBucket, Restored, RestoredAccount, RestoredEvent, ServerId, take_as_whole};

/// Names something that must count once: an event (`e source id`), a business key behind it
/// (`order.paid 2:m1 4711`), or what a rule pays once ever ([`once_key`]). Unique within its bucket.
pub type ReceiptKey = Box<str>;

/// The key of what a rule pays a member once ever: `o survey 2:m1 autumn`. Such a receipt never expires.
pub fn once_key(rule: &RuleId, member: &MemberId, key: &str) -> ReceiptKey {
    let member = member.as_str();
    // The length keeps a member and a key with spaces apart.
    format!("{FOREVER}{rule} {}:{member} {key}", member.len()).into_boxed_str()
}

/// The receipt of an event: `e shop/web e1`.
pub fn event_key(event: &EventId) -> ReceiptKey {
    [EVENT, &event.source, " ", &event.id].concat().into_boxed_str()
}

/// The receipt of a business key: `order.paid 2:m1 4711`. It is the member's own, because two sources
/// may number their orders alike; the length keeps a member and an id with spaces apart.
pub fn business_key(kind: &str, member: &MemberId, id: &str) -> ReceiptKey {
    let member = member.as_str();
    let mut length = itoa::Buffer::new();
    [kind, " ", length.format(member.len()), ":", member, " ", id].concat().into_boxed_str()
}

/// What the keys of events' receipts begin with.
const EVENT: &str = "e ";

/// The event of a key that [`event_key`] made. A source has no spaces.
fn event_of(key: &str) -> Option<EventId> {
    let (source, id) = key.strip_prefix(EVENT)?.split_once(' ')?;
    Some(EventId { source: source.into(), id: id.into() })
}

/// What the keys of receipts begin with that never expire.
const FOREVER: &str = "o ";

/// Whether the receipt of this key is kept forever, and not for the dedupe window.
pub fn never_expires(key: &str) -> bool {
    key.starts_with(FOREVER)
}

/// Whether the receipt of this key is one of a business key, which is kept longer than those of events and may hold a
/// record.
pub fn is_business(key: &str) -> bool {
    !key.starts_with(EVENT) && !never_expires(key)
}

/// What is remembered of something that counted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Receipt {
    /// The record that it counted for.
    pub at: Coordinates,
    /// Hash of that record's payload, so that the same id with another payload is told apart.
    pub fingerprint: u64,
    /// What is to be known of it later, as JSON, see [`crate::record`]; for business keys alone.
    pub record: Option<Box<str>>,
}

/// What to look up in one bucket.
#[derive(Clone, Debug)]
pub struct LoadBucket {
    /// The bucket.
    pub bucket: Bucket,
    /// Members whose accounts are wanted.
    pub members: Vec<MemberId>,
    /// Receipts that are wanted.
    pub receipts: Vec<ReceiptKey>,
    /// Whether the bucket's outbox is wanted, too, as it was at the moment of the receipts; they are not none then. It is
    /// large, and of use only to who looks for what an earlier run left.
    pub outbox: bool,
}

impl LoadBucket {
    /// The outbox of a bucket.
    pub fn outbox_of(bucket: Bucket) -> Self {
        // An outbox comes with receipts alone; nothing has this key.
        Self { bucket, members: Vec::new(), receipts: vec!["".into()], outbox: true }
    }
}

/// What was found in one bucket, in the order asked for.
#[derive(Clone, Default, Debug)]
pub struct LoadedBucket {
    /// Each account as it was written, or nothing for a member without one.
    pub accounts: Vec<Option<Vec<u8>>>,
    /// Each receipt, or nothing.
    pub receipts: Vec<Option<Receipt>>,
    /// Everything in the bucket's outbox, where it was asked for.
    pub outbox: Vec<(OutboxKey, Vec<u8>)>,
}

/// Names the unpublished records that one batch left in a bucket, for one partition of the input.
/// Written `topic/partition/first/last`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct OutboxKey {
    /// The partition that the causing records stand in.
    pub partition: TopicPartition,
    /// The lowest offset that has a record here.
    pub first: i64,
    /// The highest.
    pub last: i64,
}

impl std::fmt::Display for OutboxKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.partition, self.first, self.last)
    }
}

impl OutboxKey {
    /// Reads what [`std::fmt::Display`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let (rest, last) = text.rsplit_once('/')?;
        let first = Coordinates::parse(rest)?;
        Some(Self { partition: first.topic_partition(), first: first.offset, last: last.parse().ok()? })
    }
}

/// An account to write, or one that was decided on and did not change: what was decided rests on its version all the same.
#[derive(Clone, Debug)]
pub struct AccountWrite {
    /// Whose it is.
    pub member: MemberId,
    /// The version that was read and decided on; 0 for a member without an account.
    pub expected: u64,
    /// The account as JSON that starts with `{"v":<version>,`; empty where it stays as it is.
    pub json: AccountJson,
}

/// An account as JSON, which may stand within a larger text: so what is stored and the snapshot that is published of it are
/// written once.
#[derive(Clone, Default, Debug)]
pub struct AccountJson {
    text: Vec<u8>,
    within: Range<usize>,
}

impl AccountJson {
    /// The account that stands there in a text.
    pub fn within(text: Vec<u8>, within: Range<usize>) -> Self {
        Self { text, within }
    }

    /// All of the text.
    pub fn into_text(self) -> Vec<u8> {
        self.text
    }
}

impl From<Vec<u8>> for AccountJson {
    fn from(json: Vec<u8>) -> Self {
        Self { within: 0..json.len(), text: json }
    }
}

impl Deref for AccountJson {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.text.get(self.within.clone()).unwrap_or_default()
    }
}

/// Everything that one batch changes in one bucket.
#[derive(Clone, Debug)]
pub struct CommitBucket {
    /// The bucket.
    pub bucket: Bucket,
    /// Accounts to write.
    pub accounts: Vec<AccountWrite>,
    /// Receipts to write; none of them may exist.
    pub receipts: Vec<(ReceiptKey, Receipt)>,
    /// Receipts of business keys to write whether they exist or not, because their record changed. It rests on the
    /// version of an account in `accounts`.
    pub records: Vec<(ReceiptKey, Receipt)>,
    /// What is to be published, a blob for each input partition.
    pub outbox: Vec<(OutboxKey, Vec<u8>)>,
    /// Outbox entries that are published and can go. They go even where the commit is refused.
    pub published: Vec<OutboxKey>,
    /// Points of budgets that the accounts were given, one for each lease.
    pub grants: Vec<Grant>,
    /// Points of budgets that the accounts gave back.
    pub returned: Vec<Returned>,
    /// Members whose next moment changed.
    pub due: Vec<DueAt>,
}

/// When something falls due for a member next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DueAt {
    /// The member.
    pub member: MemberId,
    /// In seconds since 1970; nothing falls due where absent.
    pub at: Option<i64>,
}

/// Members for whom something has fallen due.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claimed {
    /// The store's time, in seconds since 1970.
    pub now: i64,
    /// The members of each bucket that was asked for, in the order of the question.
    pub members: Vec<Vec<MemberId>>,
}

/// What became of a bucket's commit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Committed {
    /// All of it is written.
    Written,
    /// Nothing but the `published` clearing was done: an account had another version than expected,
    /// or a receipt existed.
    Refused,
    /// Nothing but the `published` clearing was done: a lease that it grants out of is past its deadline.
    /// Where both hold, it is `Refused`.
    LeaseExpired,
    /// Nothing was done: the bucket is not confirmed to be whole on the server that the handle has adopted for it, see
    /// [`Store::locate`].
    Unconfirmed,
}

/// Offsets `from..until` of a partition that are processed and whose results are published.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct OffsetRange {
    /// The first offset.
    pub from: i64,
    /// The offset after the last.
    pub until: i64,
}

/// What must not change in a deployment's life, because it decides where and how accounts are kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Deployment {
    /// Number of buckets.
    pub buckets: u16,
    /// The programme's name, part of every award's id.
    pub programme: String,
    /// The programme's zone, which days and months were counted in.
    pub timezone: String,
}

/// Why the store could not answer. None of these is the fault of an event.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It may work again by itself: connection lost, loading, read-only, out of memory, timed out.
    /// The command may have been applied; every command here may be repeated.
    #[error("the store is away: {0}")]
    Away(String),
    /// It will not work by itself: wrong credentials, wrong type of key, a broken script.
    #[error("the store refuses to work: {0}")]
    Broken(String),
    /// The process was told to die here (simulation only).
    #[error("crashed on purpose")]
    Crash,
}

/// Where accounts live. Blocking: a lane has nothing else to do while it waits.
pub trait Store {
    /// Looks up accounts and receipts, all buckets at once. The answer has the order of the question.
    fn load(&mut self, wanted: &[LoadBucket]) -> Result<Vec<LoadedBucket>, StoreError>;

    /// Commits every bucket by itself, all at once: each is written whole or refused whole.
    fn commit(&mut self, buckets: &[CommitBucket]) -> Result<Vec<Committed>, StoreError>;

    /// Names all outbox entries of all buckets that belong to one of these partitions.
    fn outbox(&mut self, partitions: &[TopicPartition]) -> Result<Vec<(Bucket, OutboxKey)>, StoreError>;

    /// Reads one outbox entry.
    fn outbox_entry(&mut self, bucket: Bucket, key: &OutboxKey) -> Result<Option<Vec<u8>>, StoreError>;

    /// Removes outbox entries that are published.
    fn clear_outbox(&mut self, published: &[(Bucket, OutboxKey)]) -> Result<(), StoreError>;

    /// The ranges known to be processed, for each partition in the order asked for, sorted and
    /// without overlaps.
    fn processed(&mut self, partitions: &[TopicPartition]) -> Result<Vec<Vec<OffsetRange>>, StoreError>;

    /// Adds ranges to what is known to be processed. Ranges that touch or overlap are merged
    /// atomically, so that two callers never undo each other.
    fn add_processed(&mut self, ranges: &[(TopicPartition, OffsetRange)]) -> Result<(), StoreError>;

    /// The partitions of a topic of which something is known to be processed, with the ranges, by partition.
    fn sources(&mut self, topic: &TopicName) -> Result<Vec<(TopicPartition, Vec<OffsetRange>)>, StoreError>;

    /// Forgets what is known to be processed of these partitions: another topic has taken the name.
    fn forget_processed(&mut self, partitions: &[TopicPartition]) -> Result<(), StoreError>;

    /// Leases points of a campaign's budget, having ended what leases of it lapsed.
    fn lease(&mut self, wanted: &LeaseRequest) -> Result<Lease, StoreError>;

    /// Ends a lease: what was granted out of it is spent, the rest is free. Ending twice is ending once.
    /// For its holder, who has no commit under way that rests on it; other leases are left to lapse.
    fn end_lease(&mut self, campaign: &CampaignId, lease: LeaseId) -> Result<(), StoreError>;

    /// Takes members of these buckets for whom something has fallen due, at most so many of each bucket, the longest
    /// due first. Nobody else is given them for as long as `hold`, and whoever is does not tell the store that it is
    /// done: what is decided for the member says when something falls due next.
    fn claim_due(&mut self, buckets: &[Bucket], most: usize, hold: Duration) -> Result<Claimed, StoreError>;

    /// Says when something falls due for members next, without a change of their accounts.
    fn set_due(&mut self, due: &[(Bucket, DueAt)]) -> Result<(), StoreError>;

    /// When something falls due next for these members of these buckets, in seconds since 1970, in the order asked for. For
    /// who checks the store.
    fn due_of(&mut self, wanted: &[(Bucket, Vec<MemberId>)]) -> Result<Vec<Vec<Option<i64>>>, StoreError>;

    /// Hands over every member of these buckets who has an account; one may come twice, and one whose account is made
    /// meanwhile not at all. It looks at every key: for who checks the store, and never for a lane.
    fn each_member(
        &mut self,
        buckets: &[Bucket],
        take: &mut dyn FnMut(Bucket, MemberId),
    ) -> Result<(), StoreError>;

    /// What the store counts of a budget. Not of one moment: where lanes grant meanwhile, it may be in between.
    fn spent(&mut self, campaign: &CampaignId) -> Result<Spent, StoreError>;

    /// Writes down what the deployment was made with, or says what it was made with before.
    fn check_deployment(&mut self, wanted: &Deployment) -> Result<Deployment, StoreError>;

    /// Finds the events of an id in these buckets, whatever their source, with their receipts; by source. It looks
    /// at every receipt, a few at a time: for a person who asks, and never for a lane.
    ///
    /// # Errors
    /// `Away` also where it takes longer than until `deadline`.
    fn find_events(
        &mut self,
        buckets: &[Bucket],
        id: &str,
        deadline: Instant,
    ) -> Result<Vec<(EventId, Receipt)>, StoreError>;

    /// Says where each bucket is, and on which server it was last found whole.
    fn locate(&mut self) -> Result<Vec<Located>, StoreError>;

    /// From now on this handle's commits rest on buckets being on these servers, and are refused elsewhere. Says whether
    /// that is another for one of them: then nothing that was known of the store holds any more.
    fn adopt(&mut self, located: &[Located]) -> bool;

    /// Writes down that buckets are whole on these servers. False where one is on another by now.
    fn confirm(&mut self, located: &[Located]) -> Result<bool, StoreError>;

    /// Whether these buckets are on the servers that this handle has adopted.
    fn is_unmoved(&mut self, buckets: &[Bucket]) -> Result<bool, StoreError>;

    /// Has the store hold what it lacks of this. What it has already stays as it is, so that it may be repeated, and by
    /// several at once. Nothing where a bucket is on another server than it is to be restored on.
    fn restore(&mut self, buckets: &[RestoreBucket]) -> Result<Option<Restored>, StoreError>;

    /// Proves that the store can be written to (a replica or a full server cannot).
    fn probe(&mut self) -> Result<(), StoreError>;
}

impl<S: Store + ?Sized> Store for Box<S> {
    fn load(&mut self, wanted: &[LoadBucket]) -> Result<Vec<LoadedBucket>, StoreError> {
        (**self).load(wanted)
    }

    fn commit(&mut self, buckets: &[CommitBucket]) -> Result<Vec<Committed>, StoreError> {
        (**self).commit(buckets)
    }

    fn outbox(&mut self, partitions: &[TopicPartition]) -> Result<Vec<(Bucket, OutboxKey)>, StoreError> {
        (**self).outbox(partitions)
    }

    fn outbox_entry(&mut self, bucket: Bucket, key: &OutboxKey) -> Result<Option<Vec<u8>>, StoreError> {
        (**self).outbox_entry(bucket, key)
    }

    fn clear_outbox(&mut self, published: &[(Bucket, OutboxKey)]) -> Result<(), StoreError> {
        (**self).clear_outbox(published)
    }

    fn processed(&mut self, partitions: &[TopicPartition]) -> Result<Vec<Vec<OffsetRange>>, StoreError> {
        (**self).processed(partitions)
    }

    fn add_processed(&mut self, ranges: &[(TopicPartition, OffsetRange)]) -> Result<(), StoreError> {
        (**self).add_processed(ranges)
    }

    fn sources(&mut self, topic: &TopicName) -> Result<Vec<(TopicPartition, Vec<OffsetRange>)>, StoreError> {
        (**self).sources(topic)
    }

    fn forget_processed(&mut self, partitions: &[TopicPartition]) -> Result<(), StoreError> {
        (**self).forget_processed(partitions)
    }

    fn lease(&mut self, wanted: &LeaseRequest) -> Result<Lease, StoreError> {
        (**self).lease(wanted)
    }

    fn end_lease(&mut self, campaign: &CampaignId, lease: LeaseId) -> Result<(), StoreError> {
        (**self).end_lease(campaign, lease)
    }

    fn claim_due(&mut self, buckets: &[Bucket], most: usize, hold: Duration) -> Result<Claimed, StoreError> {
        (**self).claim_due(buckets, most, hold)
    }

    fn set_due(&mut self, due: &[(Bucket, DueAt)]) -> Result<(), StoreError> {
        (**self).set_due(due)
    }

    fn due_of(&mut self, wanted: &[(Bucket, Vec<MemberId>)]) -> Result<Vec<Vec<Option<i64>>>, StoreError> {
        (**self).due_of(wanted)
    }

    fn each_member(
        &mut self,
        buckets: &[Bucket],
        take: &mut dyn FnMut(Bucket, MemberId),
    ) -> Result<(), StoreError> {
        (**self).each_member(buckets, take)
    }

    fn spent(&mut self, campaign: &CampaignId) -> Result<Spent, StoreError> {
        (**self).spent(campaign)
    }

    fn check_deployment(&mut self, wanted: &Deployment) -> Result<Deployment, StoreError> {
        (**self).check_deployment(wanted)
    }

    fn find_events(
        &mut self,
        buckets: &[Bucket],
        id: &str,
        deadline: Instant,
    ) -> Result<Vec<(EventId, Receipt)>, StoreError> {
        (**self).find_events(buckets, id, deadline)
    }

    fn locate(&mut self) -> Result<Vec<Located>, StoreError> {
        (**self).locate()
    }

    fn adopt(&mut self, located: &[Located]) -> bool {
        (**self).adopt(located)
    }

    fn confirm(&mut self, located: &[Located]) -> Result<bool, StoreError> {
        (**self).confirm(located)
    }

    fn is_unmoved(&mut self, buckets: &[Bucket]) -> Result<bool, StoreError> {
        (**self).is_unmoved(buckets)
    }

    fn restore(&mut self, buckets: &[RestoreBucket]) -> Result<Option<Restored>, StoreError> {
        (**self).restore(buckets)
    }

    fn probe(&mut self) -> Result<(), StoreError> {
        (**self).probe()
    }
}

/// How a store is set up.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// How many buckets there are.
    pub buckets: u16,
    /// How long a receipt is kept at least.
    pub dedupe_window: Duration,
    /// How long the receipt of a business key is kept at least, and with it the record of an order or a redemption.
    pub refunds_window: Duration,
}

impl StoreSettings {
    /// The refunds' window in generations of receipts: those of business keys are as many times as long.
    fn long_generation(&self) -> u64 {
        let window = window_seconds(self);
        self.refunds_window.as_secs().div_ceil(window).max(1)
    }
}

/// A generation of receipts in whole seconds, at least one: Redis' clock is asked in seconds.
fn window_seconds(settings: &StoreSettings) -> u64 {
    let whole = settings.dedupe_window.as_secs();
    let begun = u64::from(settings.dedupe_window.subsec_nanos() > 0);
    whole.saturating_add(begun).max(1)
}

/// What an account of this version begins with.
fn version_prefix(version: u64) -> String {
    format!("{{\"v\":{version},")
}

/// Whether a stored account has this version, told by its first bytes as `commit.lua` tells it.
fn holds_version(stored: Option<&[u8]>, version: u64) -> bool {
    match stored {
        None => version == 0,
        Some(json) => version != 0 && json.starts_with(version_prefix(version).as_bytes()),
    }
}

/// The version of a stored account, told by its first bytes as `restore.lua` tells it; 0 where there is none.
pub(crate) fn version_of(stored: Option<&[u8]>) -> u64 {
    let rest = stored.and_then(|json| json.strip_prefix(br#"{"v":"#)).unwrap_or_default();
    let digits = rest.split(|byte| *byte == b',').next().unwrap_or_default();
    std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).unwrap_or_default()
}

/// Adds a range to sorted ranges that neither touch nor overlap, and leaves them so.
fn add_range(ranges: &mut Vec<OffsetRange>, mut added: OffsetRange) {
    if added.from >= added.until {
        return;
    }
    ranges.retain(|range| {
        let apart = range.until < added.from || range.from > added.until;
        if !apart {
            added.from = added.from.min(range.from);
            added.until = added.until.max(range.until);
        }
        apart
    });
    let place = ranges.partition_point(|range| range.from < added.from);
    ranges.insert(place, added);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_read_back_from_its_receipts_key() {
        let event = EventId { source: "shop/web".into(), id: "with a space".into() };
        assert_eq!(event_of(&event_key(&event)), Some(event));
        assert_eq!(event_of("order.paid 2:m1 4711"), None);
    }

    #[test]
    fn outbox_keys_are_read_back_as_written() {
        let key =
            OutboxKey { partition: TopicPartition { topic: "a/b".into(), partition: 2 }, first: 5, last: 9 };
        assert_eq!(OutboxKey::parse(&key.to_string()), Some(key));
        assert_eq!(OutboxKey::parse("a/b/c"), None);
    }
}
