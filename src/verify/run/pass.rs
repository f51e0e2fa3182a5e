//! The quick look: everybody of a share of the buckets, in one reading of the topics. Of each member the account that the
//! ledger has come to so far is held, and no record.

use std::collections::BTreeMap;
use std::io::Write;

use foldhash::{HashMap, HashMapExt, HashSet};
use serde::Deserialize;
use serde_json::value::RawValue;
use xxhash_rust::xxh3::xxh3_64;

use super::{Ground, Kind, Part};
use crate::account::{Account, FORMAT};
use crate::entry::Chain;
use crate::ledger::Published;
use crate::log::Record;
use crate::store::{LoadBucket, Receipt, ReceiptKey, Store, StoreError};
use crate::types::{Bucket, Buckets, CampaignId, MemberId};
use crate::verify::{Difference, Findings, Head, Note, Place, Trail, What, compare, expect};

/// One reading.
pub(super) struct Pass {
    buckets: Buckets,
    ground: Ground,
    /// Which are looked at, in ascending order.
    share: Vec<Bucket>,
    members: HashMap<Bucket, HashMap<MemberId, Watched>>,
    held: u64,
    memory: u64,
    /// Shares for which the memory was too little.
    pub(super) put_off: Vec<Vec<Bucket>>,
    asked: Receipts,
    /// Receipts that were not as the ledger said then: a later entry may say why.
    doubts: Receipts,
    /// Who is to be looked at closely.
    pub(super) suspects: HashSet<MemberId>,
    budgets: BTreeMap<Bucket, BTreeMap<CampaignId, i64>>,
    has_all_budgets: bool,
    /// Whose account is what the ledger comes to.
    pub(super) sound: u64,
    /// How far topics of the ledger were read.
    pub(super) parts: Vec<Part>,
}

/// Receipts that are expected, by where they are kept.
type Receipts = HashMap<(Bucket, ReceiptKey), Asked>;

struct Asked {
    member: MemberId,
    receipt: Receipt,
}

/// A member, as far as the ledger was read.
struct Watched {
    trail: Trail,
    /// The latest snapshot: its version, and a hash of the account in it.
    snapshot: Option<(u64, u64)>,
    head: Option<(u64, Chain)>,
    /// The account in the store, of a version that the ledger has still to come to.
    awaited: Option<Box<Account>>,
    is_doubtful: bool,
    is_compared: bool,
}

/// Accounts that are asked for at once, of each bucket.
const ACCOUNTS: usize = 128;
/// Receipts that are asked for at once.
const RECEIPTS: usize = 16_384;
/// Bytes of an account in memory beside its history, and of a line of that; about what was measured.
const AN_ACCOUNT: u64 = 1_600;
const A_LINE: u64 = 180;

/// What was paid of budgets, as far as a pass has read.
pub(super) struct Paid {
    pub(super) share: Vec<Bucket>,
    pub(super) parts: Vec<Part>,
    pub(super) budgets: BTreeMap<CampaignId, i64>,
    /// Whether records said what they paid from the first on.
    pub(super) is_all: bool,
}

#[derive(Deserialize)]
struct SnapshotEnvelope<'a> {
    #[serde(borrow)]
    data: &'a RawValue,
}

#[derive(Deserialize)]
struct Version {
    v: u64,
    #[serde(default)]
    f: u16,
}

impl Watched {
    fn new(member: MemberId) -> Self {
        Self {
            trail: Trail::new(member),
            snapshot: None,
            head: None,
            awaited: None,
            is_doubtful: false,
            is_compared: false,
        }
    }

    fn take_snapshot(&mut self, payload: &[u8]) {
        let Some((version, hash)) = hash_of_snapshot(payload) else {
            self.is_doubtful = true;
            return;
        };
        if self.snapshot.is_none_or(|(other, _)| other <= version) {
            self.snapshot = Some((version, hash));
        }
    }
}

/// The version of a snapshot, and a hash of its account as this version of the worker writes it.
fn hash_of_snapshot(payload: &[u8]) -> Option<(u64, u64)> {
    let envelope: SnapshotEnvelope<'_> = serde_json::from_slice(payload).ok()?;
    let data = envelope.data.get().as_bytes();
    let Version { v, f } = serde_json::from_slice(data).ok()?;
    let hash =
        if f == FORMAT { xxh3_64(data) } else { xxh3_64(&compare::read_account(data).ok()?.to_json()) };
    Some((v, hash))
}

/// Whether an account is what the ledger comes to; where records are missing, whether its link is the last.
fn is_same(trail: &Trail, stored: &Account) -> bool {
    if trail.is_whole { trail.account == *stored } else { trail.account.chain == stored.chain }
}

impl Pass {
    pub(super) fn new(share: Vec<Bucket>, buckets: Buckets, ground: Ground, memory: u64) -> Self {
        Self {
            buckets,
            ground,
            members: share.iter().map(|bucket| (*bucket, HashMap::new())).collect(),
            share,
            held: 0,
            memory,
            put_off: Vec::new(),
            asked: HashMap::new(),
            doubts: HashMap::new(),
            suspects: HashSet::default(),
            budgets: BTreeMap::new(),
            has_all_budgets: true,
            sound: 0,
            parts: Vec::new(),
        }
    }

    /// How many members were looked at.
    pub(super) fn members(&self) -> u64 {
        self.members.values().map(|members| members.len() as u64).sum()
    }

    /// Takes in a head that was written down.
    pub(super) fn take_head(&mut self, head: Head) {
        let Some(members) = self.members.get_mut(&self.buckets.of(&head.member_id)) else { return };
        let watched =
            members.entry(head.member_id.clone()).or_insert_with(|| Watched::new(head.member_id.clone()));
        watched.head = Some((head.version, head.chain));
    }

    /// Takes in a record.
    pub(super) fn take(&mut self, kind: Kind, record: &Record, findings: &mut Findings) {
        let key = record.key.as_deref().and_then(|key| std::str::from_utf8(key).ok());
        let Some(key) = key else {
            let place = Place::Topic(record.at.clone());
            let nobody = MemberId::from("");
            let difference =
                Difference::of(What::Misplaced, &nobody, None, "a record with its member as its key", "none");
            findings
                .differences
                .push(Difference { member_id: None, ..difference.shown_by(&place, None, None) });
            return;
        };
        let bucket = self.buckets.of_key(key);
        let Some(members) = self.members.get_mut(&bucket) else { return };
        if !members.contains_key(key) {
            self.held += AN_ACCOUNT + A_LINE * self.ground.history();
            members.insert(key.into(), Watched::new(key.into()));
        }
        let (Some(watched), Some(payload)) = (members.get_mut(key), record.payload.as_deref()) else {
            return;
        };
        match kind {
            Kind::Snapshots => watched.take_snapshot(payload),
            Kind::Ledger => {
                findings.records += 1;
                let Self { ground, asked, doubts, budgets, has_all_budgets, .. } = self;
                let Watched { trail, snapshot, head, awaited, is_doubtful, is_compared } = watched;
                let early = trail.early_bytes();
                let place = Place::Topic(record.at.clone());
                let mut follow = |trail: &Trail, published: &Published, ms: Option<i64>, _: &Place| {
                    let version = published.version;
                    if snapshot.is_some_and(|(at, _)| at <= version) {
                        // One of a version that was not followed cannot be told by it.
                        let is_it = |(at, hash): (u64, u64)| {
                            at == version && (!trail.is_whole || xxh3_64(&trail.account.to_json()) == hash)
                                || at < trail.begins && ground.trails.cut
                        };
                        *is_doubtful |= !snapshot.take().is_some_and(is_it);
                        findings.snapshots += 1;
                    }
                    if head.is_some_and(|(at, _)| at <= version) {
                        let is_it = |(at, link)| at == version && trail.link == Some(link);
                        let is_found = head.take().is_some_and(is_it);
                        *is_doubtful |= !is_found;
                        findings.heads += u64::from(is_found);
                    }
                    if awaited.as_ref().is_some_and(|stored| stored.version <= version) {
                        *is_compared = true;
                        *is_doubtful |= !awaited.take().is_some_and(|stored| is_same(trail, &stored));
                    }
                    *has_all_budgets &= published.chain.is_some();
                    for (campaign, points) in published.receipts.iter().flat_map(|receipts| &receipts.budgets)
                    {
                        let spent = budgets.entry(bucket).or_default().entry(campaign.clone()).or_default();
                        *spent = spent.saturating_add(points.0);
                    }
                    let Some(receipts) = ground.windows.receipts(published, ms) else {
                        *is_doubtful = true;
                        return;
                    };
                    for (key, receipt) in receipts {
                        let key = (bucket, key);
                        let expected = Asked { member: trail.member().clone(), receipt };
                        // What was doubted is asked for once more at the end.
                        let place = if doubts.contains_key(&key) { &mut *doubts } else { &mut *asked };
                        place.insert(key, expected);
                    }
                };
                trail.take(payload, record.published_ms, place, &ground.trails, &mut follow);
                self.held = (self.held + trail.early_bytes() as u64).saturating_sub(early as u64);
            }
        }
        if self.held > self.memory && self.share.len() > 1 {
            self.put_half_off();
        }
    }

    /// Leaves the upper half of the buckets to a later pass.
    fn put_half_off(&mut self) {
        let later = self.share.split_off(self.share.len() / 2);
        for bucket in &later {
            self.members.remove(bucket);
            self.budgets.remove(bucket);
        }
        let is_here = |bucket: &Bucket| !later.contains(bucket);
        self.asked.retain(|(bucket, _), _| is_here(bucket));
        self.doubts.retain(|(bucket, _), _| is_here(bucket));
        let buckets = self.buckets;
        self.suspects.retain(|member| is_here(&buckets.of(member)));
        let early =
            self.members.values().flat_map(HashMap::values).map(|watched| watched.trail.early_bytes());
        self.held =
            early.sum::<usize>() as u64 + self.members() * (AN_ACCOUNT + A_LINE * self.ground.history());
        self.put_off.push(later);
    }

    /// Whether so many receipts are to be asked for that it is worth a call.
    pub(super) fn asks_much(&self) -> bool {
        self.asked.len() >= RECEIPTS
    }

    /// Asks for receipts. One that is another than expected is doubted: a later entry may have changed it.
    pub(super) fn ask_receipts(
        &mut self,
        store: &mut dyn Store,
        findings: &mut Findings,
    ) -> Result<(), StoreError> {
        let asked = std::mem::take(&mut self.asked);
        findings.receipts += asked.len() as u64;
        let wrong = wrong_receipts(asked, store)?;
        self.doubts.extend(wrong);
        Ok(())
    }

    /// Asks once more for receipts that were doubted.
    pub(super) fn ask_doubted(&mut self, store: &mut dyn Store) -> Result<(), StoreError> {
        let doubts = std::mem::take(&mut self.doubts);
        let wrong = wrong_receipts(doubts, store)?;
        self.suspects.extend(wrong.into_values().map(|asked| asked.member));
        Ok(())
    }

    /// Where the first records of a ledger were removed, it begins with the first that is there.
    pub(super) fn begin_where_cut(&mut self) {
        if !self.ground.trails.cut {
            return;
        }
        for watched in self.members.values_mut().flat_map(HashMap::values_mut) {
            let Watched { trail, head, snapshot, is_doubtful, .. } = watched;
            if trail.waits() && trail.begins == 0 {
                trail.go_on(&self.ground.trails, &mut |trail, published, _, _| {
                    // What lies before the first record that is there is not known.
                    _ = head.take_if(|(at, _)| *at < trail.begins);
                    if head.is_some_and(|(at, _)| at == published.version) {
                        *is_doubtful |= head.take().is_some_and(|(_, link)| trail.link != Some(link));
                    }
                    _ = snapshot.take_if(|(at, _)| *at <= published.version);
                });
                self.has_all_budgets = false;
            }
        }
    }

    /// Compares the accounts in the store with what the ledger has come to.
    pub(super) fn compare(
        &mut self,
        store: &mut dyn Store,
        findings: &mut Findings,
    ) -> Result<(), StoreError> {
        let mut waiting: Vec<(Bucket, Vec<MemberId>)> = self
            .members
            .iter()
            .map(|(bucket, members)| (*bucket, members.keys().cloned().collect()))
            .collect();
        while waiting.iter().any(|(_, members)| !members.is_empty()) {
            let some = |(bucket, members): &mut (Bucket, Vec<MemberId>)| {
                (*bucket, members.split_off(members.len().saturating_sub(ACCOUNTS)))
            };
            let asked: Vec<(Bucket, Vec<MemberId>)> =
                waiting.iter_mut().map(some).filter(|(_, members)| !members.is_empty()).collect();
            let due = store.due_of(&asked)?;
            let load = |(bucket, members): &(Bucket, Vec<MemberId>)| LoadBucket {
                bucket: *bucket,
                members: members.clone(),
                receipts: Vec::new(),
                outbox: false,
            };
            let loaded = store.load(&asked.iter().map(load).collect::<Vec<_>>())?;
            for (((bucket, members), due), loaded) in asked.into_iter().zip(due).zip(loaded) {
                let Some(watched) = self.members.get_mut(&bucket) else { continue };
                for ((member, due), json) in members.iter().zip(due).zip(loaded.accounts) {
                    let Some(watched) = watched.get_mut(member) else { continue };
                    watched.compare(json.as_deref(), due, &self.ground);
                }
            }
        }
        let Self { share, members, suspects, ground, .. } = self;
        store.each_member(share, &mut |bucket, member| {
            if members.get(&bucket).is_some_and(|members| members.contains_key(&member)) {
                return;
            }
            if ground.trails.cut {
                findings.members += 1;
                findings.note(Note::Begun, &member, 0);
            } else {
                findings.members += u64::from(suspects.insert(member));
            }
        })
    }

    /// Whether accounts in the store are ahead of what was read of the ledger.
    pub(super) fn awaits(&self) -> bool {
        self.members.values().flat_map(HashMap::values).any(|watched| watched.awaited.is_some())
    }

    /// Tells who is to be looked at closely.
    pub(super) fn end(&mut self, findings: &mut Findings) {
        let cut = self.ground.trails.cut;
        for (bucket, members) in &self.members {
            // What waits for a record before it was paid all the same.
            let early = members.values().flat_map(|watched| watched.trail.early());
            for published in early.filter_map(|payload| Published::parse(payload).ok()) {
                count_budgets(self.budgets.entry(*bucket).or_default(), &published);
            }
        }
        for (member, watched) in self.members.values().flatten() {
            let Watched { trail, snapshot, head, awaited, is_doubtful, is_compared } = watched;
            let version = trail.version();
            let is_gone = cut && version == 0;
            let is_open = snapshot.is_some() || head.is_some() || awaited.is_some() || !is_compared;
            let is_partial = !(trail.is_whole || cut && trail.begins > 1);
            let is_told = !trail.differences.is_empty() || trail.is_unsure || trail.waits();
            let is_corrected = trail.corrected.0 != 0;
            if *is_doubtful || is_told || is_corrected || is_partial || is_open && !is_gone {
                self.suspects.insert(member.clone());
            } else if !self.suspects.contains(member) {
                if is_gone || trail.begins > 1 {
                    findings.note(Note::Begun, member, trail.begins);
                }
                self.sound += u64::from(!is_gone);
            }
        }
    }

    /// Writes down the last link of each member's chain.
    pub(super) fn write_heads(&self, into: &mut dyn Write) -> std::io::Result<()> {
        for (member, watched) in self.members.values().flatten() {
            if let Some(chain) = watched.trail.link {
                let head = Head { member_id: member.clone(), version: watched.trail.version(), chain };
                serde_json::to_writer(&mut *into, &head)?;
                into.write_all(b"\n")?;
            }
        }
        Ok(())
    }

    /// What is left of a pass that is done.
    pub(super) fn into_paid(self) -> Paid {
        let mut budgets: BTreeMap<CampaignId, i64> = BTreeMap::new();
        for (campaign, points) in self.budgets.into_values().flatten() {
            let sum = budgets.entry(campaign).or_default();
            *sum = sum.saturating_add(points);
        }
        Paid {
            share: self.share,
            parts: self.parts,
            budgets,
            is_all: self.has_all_budgets && !self.ground.trails.cut,
        }
    }
}

impl Watched {
    fn compare(&mut self, json: Option<&[u8]>, due: Option<i64>, ground: &Ground) {
        let Some(json) = json else {
            self.is_doubtful |= self.trail.version() > 0;
            self.is_compared = true;
            return;
        };
        let Ok(stored) = compare::read_account(json) else {
            self.is_doubtful = true;
            return;
        };
        if stored.version > self.trail.version() {
            self.awaited = Some(Box::new(stored));
            return;
        }
        self.is_compared = true;
        // Where the ledger is ahead, a close look says why.
        self.is_doubtful |= stored.version < self.trail.version() || !is_same(&self.trail, &stored);
        let judge = ground.judge();
        let latest = judge.due_at_latest(&stored, self.trail.is_foreign);
        self.is_doubtful |= !judge.is_in_time(latest, due);
    }
}

/// Adds what a record says was taken of budgets.
pub(super) fn count_budgets(budgets: &mut BTreeMap<CampaignId, i64>, published: &Published) {
    for (campaign, points) in published.receipts.iter().flat_map(|receipts| &receipts.budgets) {
        let sum = budgets.entry(campaign.clone()).or_default();
        *sum = sum.saturating_add(points.0);
    }
}

/// Of receipts that are asked for, those that are not as expected.
fn wrong_receipts(asked: Receipts, store: &mut dyn Store) -> Result<Receipts, StoreError> {
    let mut by_bucket: BTreeMap<Bucket, Vec<(ReceiptKey, Asked)>> = BTreeMap::new();
    for ((bucket, key), asked) in asked {
        by_bucket.entry(bucket).or_default().push((key, asked));
    }
    let wanted = |(bucket, asked): (&Bucket, &Vec<(ReceiptKey, Asked)>)| LoadBucket {
        bucket: *bucket,
        members: Vec::new(),
        receipts: asked.iter().map(|(key, _)| key.clone()).collect(),
        outbox: false,
    };
    let loaded = store.load(&by_bucket.iter().map(wanted).collect::<Vec<_>>())?;
    let mut wrong = Receipts::new();
    for ((bucket, asked), loaded) in by_bucket.into_iter().zip(loaded) {
        for ((key, asked), found) in asked.into_iter().zip(loaded.receipts) {
            if !found.is_some_and(|found| expect::is_same(&asked.receipt, &found)) {
                wrong.insert((bucket, key), asked);
            }
        }
    }
    Ok(wrong)
}
