//! One member's part of the ledger, followed change by change in the order of versions: the chain, the ids, the balances that
//! entries print, and the account that all of it comes to.

use std::collections::{BTreeMap, HashSet, VecDeque};

use xxhash_rust::xxh3::xxh3_64;

use super::{Difference, OPERATOR, Place, What, shortened};
use crate::account::{Account, Retention};
use crate::entry::{Chain, Change, EntryKind};
use crate::ledger::Published;
use crate::types::{MemberId, Points};

/// What all trails are followed by.
#[derive(Clone, Debug)]
pub struct Trails {
    /// How much accounts remember.
    pub retention: Retention,
    /// The versions of the programme that are at hand.
    pub programmes: HashSet<Box<str>>,
    /// Whether retention has removed records of a topic, so that a ledger may begin later than with version 1.
    pub cut: bool,
}

/// Changes of a member that came before their turn are kept so many, where the first may have been removed: lanes publish
/// out of order, but not by far.
const EARLY_WHERE_CUT: usize = 64;

/// How many of the last records are remembered: lanes that publish again after a crash do so with a batch at most.
const REMEMBERED: usize = 8;

/// One member's changes, as far as they were followed.
#[derive(Debug)]
pub struct Trail {
    /// The account that they come to.
    pub account: Account,
    /// The last link of the chain, or none.
    pub link: Option<Chain>,
    /// The first version that was followed; 0 before any.
    pub begins: u64,
    /// Whether every version from the first on was there.
    pub is_whole: bool,
    /// Points that adjustments of this command took back of edits, see [`super::Remedy`].
    pub corrected: Points,
    /// Whether a version of the programme decided something that is not at hand.
    pub is_foreign: bool,
    /// Whether something came that only a close look can decide.
    pub is_unsure: bool,
    /// What was found.
    pub differences: Vec<Difference>,
    /// By how much more than they come to the first entry that prints other balances says can be spent.
    pub off: Option<Points>,
    /// The first version that carries a link of the chain.
    chain_begins: Option<u64>,
    early: BTreeMap<u64, Early>,
    remembered: VecDeque<u64>,
    early_bytes: usize,
}

/// A change that came before its turn.
#[derive(Debug)]
struct Early {
    place: Place,
    ms: Option<i64>,
    payload: Box<[u8]>,
}

/// What is told of each change that is followed: when it was published, and where it stands.
pub type Follow<'a> = dyn FnMut(&Trail, &Published, Option<i64>, &Place) + 'a;

impl Trail {
    /// One of a member of whom nothing was read.
    pub fn new(member: MemberId) -> Self {
        Self {
            account: Account::new(member),
            link: None,
            begins: 0,
            is_whole: true,
            corrected: Points::ZERO,
            is_foreign: false,
            is_unsure: false,
            differences: Vec::new(),
            off: None,
            chain_begins: None,
            early: BTreeMap::new(),
            remembered: VecDeque::new(),
            early_bytes: 0,
        }
    }

    /// Whose it is.
    pub fn member(&self) -> &MemberId {
        &self.account.member_id
    }

    /// The version that it has come to.
    pub fn version(&self) -> u64 {
        self.account.version
    }

    /// Whether every record that was followed carries its link of the chain.
    pub fn is_chained(&self) -> bool {
        self.chain_begins == Some(self.begins)
    }

    /// Bytes of what came before its turn.
    pub fn early_bytes(&self) -> usize {
        self.early_bytes
    }

    /// What came before its turn.
    pub fn early(&self) -> impl Iterator<Item = &[u8]> {
        self.early.values().map(|early| &*early.payload)
    }

    /// Whether changes came whose turn has not come.
    pub fn waits(&self) -> bool {
        !self.early.is_empty()
    }

    /// Takes in a record of the member's, in any order, and follows it and those behind it whose turn it is.
    pub fn take(
        &mut self,
        payload: &[u8],
        ms: Option<i64>,
        place: Place,
        trails: &Trails,
        follow: &mut Follow<'_>,
    ) {
        let published = match Published::parse(payload) {
            Ok(published) => published,
            Err(error) => return self.unreadable(&place, &error.to_string()),
        };
        if published.member != *self.member() {
            return self.misplaced(&published, &place);
        }
        let version = self.version();
        if published.version <= version {
            let back = usize::try_from(version - published.version).unwrap_or(usize::MAX);
            // Published twice, byte for byte, is once.
            if self.remembered.get(back) != Some(&xxh3_64(payload)) {
                self.is_unsure = true;
            }
            return;
        }
        if published.version > version + 1 {
            let early = Early { place, ms, payload: payload.into() };
            if let Some(other) = self.early.get(&published.version) {
                self.is_unsure |= other.payload != early.payload;
                return;
            }
            self.early_bytes += early.payload.len();
            self.early.insert(published.version, early);
            if trails.cut && self.early.len() > EARLY_WHERE_CUT {
                self.go_on(trails, follow);
            }
            return;
        }
        self.follow(&published, payload, ms, &place, trails, follow);
        self.follow_early(trails, follow);
    }

    /// Follows what came before its turn, though versions before it are missing.
    pub fn go_on(&mut self, trails: &Trails, follow: &mut Follow<'_>) {
        while let Some((_, early)) = self.early.pop_first() {
            self.early_bytes = self.early_bytes.saturating_sub(early.payload.len());
            if let Ok(published) = Published::parse(&early.payload) {
                self.follow(&published, &early.payload, early.ms, &early.place, trails, follow);
            }
            self.follow_early(trails, follow);
        }
    }

    fn follow_early(&mut self, trails: &Trails, follow: &mut Follow<'_>) {
        while let Some(early) = self.early.remove(&(self.version() + 1)) {
            self.early_bytes = self.early_bytes.saturating_sub(early.payload.len());
            if let Ok(published) = Published::parse(&early.payload) {
                self.follow(&published, &early.payload, early.ms, &early.place, trails, follow);
            }
        }
    }

    /// Follows a change of a later version. Where versions before it are missing, it is the first of what can be said
    /// anything of.
    pub fn follow(
        &mut self,
        published: &Published,
        payload: &[u8],
        ms: Option<i64>,
        place: &Place,
        trails: &Trails,
        follow: &mut Follow<'_>,
    ) {
        let is_next = published.version == self.version() + 1;
        if !is_next {
            self.is_whole = false;
            self.account.version = published.version - 1;
        }
        if self.begins == 0 {
            self.begins = published.version;
        }
        match Chain::follows(self.link.as_ref(), payload) {
            // What lies before it is not known.
            _ if !is_next => {}
            Some(true) => {}
            Some(false) => {
                let before = published.version - 1;
                let expected = format!("the link of version {before} and of the record's own bytes");
                let found = "another: this record was altered, or the one before it with its link";
                self.differs(What::Altered, published, place, expected, found);
            }
            None if self.chain_begins.is_some() => {
                let expected = "a link of the chain, as the record before it has one";
                self.differs(What::Unchained, published, place, expected, "none");
            }
            None => {}
        }
        self.chain_begins = self.chain_begins.or(published.chain.map(|_| published.version));
        self.link = published.chain;
        self.is_foreign |= !trails.programmes.contains(&published.programme_version);
        if let Change::Entry(entry) = &published.change
            && entry.kind == EntryKind::Adjusted
            && entry.more.as_ref().is_some_and(|more| more.about.operator.as_deref() == Some(OPERATOR))
        {
            self.corrected = Points(self.corrected.0.saturating_add(entry.points.0));
        }
        if self.account.evolve(&published.change, &trails.retention).is_err() && self.is_whole {
            self.differs(
                What::Balance,
                published,
                place,
                "points within their range",
                "a sum that leaves it",
            );
            self.is_whole = false;
        }
        self.account.version = published.version;
        self.account.chain = published.chain;
        self.check_balance(published, place);
        self.remembered.push_front(xxh3_64(payload));
        self.remembered.truncate(REMEMBERED);
        follow(self, published, ms, place);
    }

    /// The first entry that prints other balances is named: those after it follow from it.
    fn check_balance(&mut self, published: &Published, place: &Place) {
        let Account { available, pending, .. } = self.account;
        let Some(printed) = published.balance.filter(|_| self.is_whole && self.off.is_none()) else {
            return;
        };
        // Where an edit of the account was taken back, what is printed is what the account had.
        let without = Points(available.0.saturating_sub(self.corrected.0));
        if printed == (available, pending) || printed == (without, pending) {
            return;
        }
        self.off = Some(Points(printed.0.0.saturating_sub(available.0)));
        let says =
            |(available, pending): (Points, Points)| format!("{available} available, {pending} pending");
        self.differs(What::Balance, published, place, says((available, pending)), says(printed));
    }

    fn differs(
        &mut self,
        what: What,
        published: &Published,
        place: &Place,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) {
        let difference = Difference::of_record(what, self.member(), published, place, expected, found);
        self.differences.push(difference);
    }

    /// A record under the member's key that cannot be read.
    pub fn unreadable(&mut self, place: &Place, why: &str) {
        let difference =
            Difference::of(What::Unreadable, self.member(), None, "a record of the ledger", shortened(why));
        self.differences.push(difference.shown_by(place, None, None));
    }

    /// A record under the member's key that names another member.
    pub fn misplaced(&mut self, published: &Published, place: &Place) {
        let expected = format!("a record of member {}, whose key it has", self.member());
        let found = format!("one of member {}", published.member);
        self.differs(What::Misplaced, published, place, expected, found);
    }
}
