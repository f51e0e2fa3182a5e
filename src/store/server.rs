//! Whether a bucket is still where it was. A server that comes back from an old copy of its memory, or a replica that
//! takes over without the last writes, is another server under the same address: it has lost what accrual was told
//! that it had written. Redis names each such life of its memory (`master_replid`).
//!
//! - In every bucket stands which server it was last found whole on: its confirmation.
//! - A handle's commits rest on the servers that it has adopted. A commit is refused as unconfirmed where the server
//!   that carries it out, the confirmation and the handle's own do not agree; so nothing is written on top of a loss.
//! - Who hears that looks for what the ledger has and the store has not, restores it, confirms the buckets and adopts
//!   the servers, see `src/repair/`.

use std::fmt;

use super::{Receipt, ReceiptKey, Store, StoreError};
use crate::types::{Bucket, CampaignId, MemberId, Points};

/// Names a life of a server's memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerId(Box<str>);

impl ServerId {
    /// A server by its own name.
    pub fn new(name: impl Into<Box<str>>) -> Self {
        Self(name.into())
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a bucket is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Located {
    /// The bucket.
    pub bucket: Bucket,
    /// The server that has it now.
    pub server: ServerId,
    /// The server that it was last found whole on; nothing in a store that is new or empty.
    pub confirmed: Option<ServerId>,
}

impl Located {
    /// Whether the bucket was found whole where it is.
    pub fn is_confirmed(&self) -> bool {
        self.confirmed.as_ref() == Some(&self.server)
    }
}

/// What is to be in a bucket, of which some or all may be there.
#[derive(Clone, Debug)]
pub struct RestoreBucket {
    /// The bucket.
    pub bucket: Bucket,
    /// The server that it is restored on.
    pub server: ServerId,
    /// Events that counted, in the order in which they did.
    pub events: Vec<RestoredEvent>,
    /// Accounts as they were published.
    pub accounts: Vec<RestoredAccount>,
}

/// An event that counted. Where its receipt is there, all of it is.
#[derive(Clone, Debug)]
pub struct RestoredEvent {
    /// The key of its receipt.
    pub key: ReceiptKey,
    /// Its receipt.
    pub receipt: Receipt,
    /// The other receipts that it left. One that another event made is a record that this one changed, where it is there.
    pub others: Vec<(ReceiptKey, Receipt)>,
    /// Points that it took of budgets; below zero where they came back.
    pub budgets: Vec<(CampaignId, Points)>,
}

impl RestoredEvent {
    /// Whether a receipt that it left was made by another event, and changed by this one.
    pub(super) fn changed(&self, receipt: &Receipt) -> bool {
        receipt.at != self.receipt.at || receipt.fingerprint != self.receipt.fingerprint
    }
}

/// An account as it was published. Where the store has it of this version or a later one, that one stays.
#[derive(Clone, Debug)]
pub struct RestoredAccount {
    /// Whose it is.
    pub member: MemberId,
    /// Its version.
    pub version: u64,
    /// The account as JSON that starts with `{"v":<version>,`.
    pub json: Vec<u8>,
    /// When something falls due next, in seconds since 1970; nothing falls due where absent.
    pub due: Option<i64>,
}

/// Takes a store to be whole where it is, as whoever has just made it may: from now on this handle commits to it.
///
/// # Errors
/// As the store says; `Away` where it moves meanwhile.
pub fn take_as_whole(store: &mut dyn Store) -> Result<(), StoreError> {
    let located = store.locate()?;
    if !store.confirm(&located)? {
        return Err(StoreError::Away("it is another than it was a moment ago".into()));
    }
    store.adopt(&located);
    Ok(())
}

/// How much was not there and was restored.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Restored {
    /// Events' receipts.
    pub events: u64,
    /// Accounts.
    pub accounts: u64,
}

impl std::ops::AddAssign for Restored {
    fn add_assign(&mut self, other: Self) {
        self.events += other.events;
        self.accounts += other.accounts;
    }
}
