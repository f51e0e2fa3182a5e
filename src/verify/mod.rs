//! Whether every account is the fold of its ledger: what was published is read back, followed along its hash chain, folded,
//! and compared with what the store holds.
//!
//! - [`Trail`] takes a member's changes as they come, checks each and folds them; pure.
//! - `examine` looks closely at all that there is of one member, and names every difference; pure.
//! - [`Verifier`] reads topics and store: a quick look at everybody in as little memory as it is given, and a close one at
//!   each member whose account the quick look found wanting. What is published while it reads is never a difference: the store is
//!   read first and the ledger after it, or the ledger is read on until it has come to what the store held.

mod compare;
mod examine;
mod expect;
mod heads;
pub mod page;
mod run;
mod trail;

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::ledger::Published;
use crate::types::{CampaignId, Coordinates, EventId, MemberId, Points};

pub use examine::{Case, Checked, Judge, Seen, examine};
pub use heads::{Head, HeadsError, read_heads};
pub use run::{Options, Verifier, VerifyError, Watcher};
pub use trail::{Trail, Trails};

/// Who takes an edit of an account back by an adjustment, see [`Remedy::Adjustment`].
pub const OPERATOR: &str = "accrual verify";

/// What kind of difference was found.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A record of the ledger is not there.
    Removed,
    /// A record of the ledger was put in: it has the version of another.
    Inserted,
    /// A record does not follow the one before it in the chain: one of both was altered.
    Altered,
    /// A record carries no link of the chain, and records before it do.
    Unchained,
    /// A record cannot be read, or its id is not that of its event.
    Unreadable,
    /// A record's key names another member than the record.
    Misplaced,
    /// What an entry says of the balances after it is not what the entries come to.
    Balance,
    /// The ledger is ahead of the account: it has a version that the store does not know.
    Ahead,
    /// A field of the account in the store is not what the ledger comes to.
    Account,
    /// The store has no account for a member of the ledger.
    NoAccount,
    /// The store has an account that the ledger knows nothing of.
    Unknown,
    /// A snapshot is not the account at its version.
    Snapshot,
    /// The receipt of something that counted is missing or another.
    Receipt,
    /// What is remembered of an order or a redemption is not what the ledger says.
    Record,
    /// Something falls due, and the index of what falls due does not have it in time.
    Due,
    /// A budget has counted something else than what was paid of it.
    Budget,
    /// The link that was written down of a member is not in the chain any more.
    Head,
}

/// What can be done about a difference.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Remedy {
    /// An event of type `points.adjusted` over so many points, which `--fix` sends.
    Adjustment(Points),
    /// The account made anew from what was published: `accrual rebuild`, see docs/verify.md.
    Rebuild,
}

/// A difference, named.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Difference {
    /// What kind.
    pub what: What,
    /// Whose; nothing for a budget.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub member_id: Option<MemberId>,
    /// At which version of the account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// The id of the record of the ledger.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<Box<str>>,
    /// The event that caused it: its source and its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// Where the record stands: topic, partition, offset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// What ought to be there.
    pub expected: String,
    /// What is.
    pub found: String,
    /// What can be done about it, if something can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<Remedy>,
}

impl Difference {
    /// Of a member's.
    pub fn of(
        what: What,
        member: &MemberId,
        version: Option<u64>,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self {
            what,
            member_id: Some(member.clone()),
            version,
            entry: None,
            event: None,
            at: None,
            expected: expected.into(),
            found: found.into(),
            remedy: None,
        }
    }

    /// Of a budget.
    fn of_budget(campaign: &CampaignId, expected: Points, found: Points) -> Self {
        Self {
            what: What::Budget,
            member_id: None,
            version: None,
            entry: None,
            event: None,
            at: None,
            expected: format!("{expected} of {campaign} by the ledger"),
            found: format!("{found} in the store"),
            remedy: None,
        }
    }

    /// Of a record that is another than it should be, and shows it itself.
    fn of_record(
        what: What,
        member: &MemberId,
        published: &Published,
        place: &Place,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        let difference = Self::of(what, member, Some(published.version), expected, found);
        difference.shown_by(place, Some(&published.id), Some(&published.event))
    }

    /// With the record that shows it.
    fn shown_by(self, place: &Place, entry: Option<&str>, event: Option<&EventId>) -> Self {
        Self {
            at: Some(place.to_string()),
            entry: entry.map(Into::into),
            event: event.map(ToString::to_string),
            ..self
        }
    }
}

/// Where a record was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// On a topic.
    Topic(Coordinates),
    /// In the store's outbox: it is about to be published.
    Outbox,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topic(at) => at.fmt(f),
            Self::Outbox => f.write_str("the outbox"),
        }
    }
}

/// What there is to say of members beside differences.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Note {
    /// The topic's retention took the first records: nothing is verified before the first that is there.
    Begun,
    /// The account changed too often to be compared.
    InFlux,
    /// An edit of the account was taken back by an adjustment.
    Adjusted,
    /// The account keeps as much as other settings said when it changed last.
    OtherSettings,
}

/// What was looked at and what was found.
#[derive(Clone, Default, Debug, Serialize)]
pub struct Findings {
    /// Members of whom the ledger or the store knows.
    pub members: u64,
    /// Records of the ledger that were read.
    pub records: u64,
    /// Members whose account is what their ledger comes to.
    pub sound: u64,
    /// Snapshots of accounts that were compared with the ledger.
    pub snapshots: u64,
    /// Receipts that were asked for.
    pub receipts: u64,
    /// Budgets that were compared.
    pub budgets: u64,
    /// Links of `--against` that were found again.
    pub heads: u64,
    /// Passes over the topics that it took.
    pub passes: u64,
    /// Members with a difference; those beyond a number are not named.
    pub differing: u64,
    /// Differences, in the order of members.
    pub differences: Vec<Difference>,
    /// Members of whom there is something else to say: how many, and a few of them.
    pub notes: BTreeMap<Note, Noted>,
    /// What could not be decided as a whole, and why.
    pub undecided: Vec<String>,
}

/// Members of whom something is to be said.
#[derive(Clone, Default, Debug, Serialize)]
pub struct Noted {
    /// How many.
    pub members: u64,
    /// A few of them, with the version that it is about.
    pub some: Vec<(MemberId, u64)>,
}

impl Findings {
    /// So many members are named of each note.
    const NAMED: usize = 20;

    /// Whether nothing differs.
    pub fn is_sound(&self) -> bool {
        self.differences.is_empty() && self.differing == 0
    }

    /// Takes in what is to be said of a member.
    fn note(&mut self, note: Note, member: &MemberId, version: u64) {
        let noted = self.notes.entry(note).or_default();
        noted.members += 1;
        if noted.some.len() < Self::NAMED {
            noted.some.push((member.clone(), version));
        }
    }
}

/// A text that is short enough to be read.
fn shortened(text: &str) -> String {
    const MOST: usize = 240;
    match text.char_indices().nth(MOST) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
    }
}
