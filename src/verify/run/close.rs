//! The close look: everything that there is of some members, in an order in which what changes meanwhile is never a
//! difference.

use std::collections::BTreeMap;
use std::io::Write;

use foldhash::{HashMap, HashMapExt};

use super::{Kind, Options, PAUSE, Part, ROUNDS, Verifier, VerifyError, each_head, read};
use crate::lane::outbox::{self, Channel};
use crate::ledger::Published;
use crate::log::Partitions;
use crate::store::{LoadBucket, ReceiptKey, StoreError};
use crate::types::{Bucket, MemberId};
use crate::verify::{Case, Checked, Findings, Head, Note, Place, Seen, examine};

/// Members that are looked at in one reading.
const AT_ONCE: usize = 5_000;

impl Verifier<'_> {
    /// Looks closely at members, in their order. Where they were `asked_for`, each counts as one that was looked at.
    pub(super) fn look_closely(
        &mut self,
        mut members: Vec<MemberId>,
        asked_for: bool,
        options: &Options,
        findings: &mut Findings,
        mut heads: Option<&mut dyn Write>,
    ) -> Result<(), VerifyError> {
        let mut round = 0;
        let mut in_flux: Vec<MemberId> = Vec::new();
        while !members.is_empty() {
            let some: Vec<MemberId> = members.drain(..members.len().min(AT_ONCE)).collect();
            let is_last = round + 1 >= ROUNDS;
            for (case, checked) in self.look_at(&some, asked_for, options, findings)? {
                let moved = checked.notes.iter().any(|(note, _)| *note == Note::InFlux);
                if moved && !is_last {
                    in_flux.push(case.member);
                    continue;
                }
                if asked_for
                    && let Some(heads) = heads.as_deref_mut()
                    && let Some(head) = last_link(&case)
                {
                    serde_json::to_writer(&mut *heads, &head).map_err(std::io::Error::from)?;
                    heads.write_all(b"\n")?;
                }
                take_in(findings, &case.member, checked, options.most_named);
            }
            if members.is_empty() && !in_flux.is_empty() {
                round += 1;
                members = std::mem::take(&mut in_flux);
                std::thread::sleep(PAUSE);
            }
        }
        Ok(())
    }

    fn look_at(
        &mut self,
        members: &[MemberId],
        asked_for: bool,
        options: &Options,
        findings: &mut Findings,
    ) -> Result<Vec<(Case, Checked)>, VerifyError> {
        let mut cases = self.begin(members)?;
        if let Some(against) = &options.against {
            each_head(against, |head| {
                if let Some(case) = cases.get_mut(&head.member_id) {
                    case.head = Some(head);
                }
            })?;
        }
        let snapshots = self.reach(&self.lanes.outputs.accounts, Kind::Snapshots, options, findings)?;
        let [tiers, awards] = self.ledger(options, findings)?;
        let ground = self.ground(&[&tiers, &awards]);
        let parts = [snapshots, tiers, awards];
        let where_to: &[Option<Partitions>] = if asked_for && options.quick {
            &[Some(Partitions::Usual), Some(Partitions::Others)]
        } else {
            &[None]
        };
        for place in where_to {
            if *place == Some(Partitions::Others) && cases.values().all(is_whole) {
                break;
            }
            let parts: Vec<Part> = parts.iter().map(|part| self.narrowed(part, *place, members)).collect();
            self.watcher.begins("looking closely", parts.iter().map(Part::records).sum());
            for part in &parts {
                read(self.archive.as_ref(), self.watcher, part, &mut |record| {
                    let key = record.key.as_deref().and_then(|key| std::str::from_utf8(key).ok());
                    let case = key.and_then(|key| cases.get_mut(key));
                    if let (Some(case), Some(payload)) = (case, record.payload) {
                        let place = Place::Topic(record.at);
                        let seen = Seen { place, ms: record.published_ms, payload: payload.into() };
                        match part.kind {
                            Kind::Ledger => case.records.push(seen),
                            Kind::Snapshots => case.snapshots.push(seen),
                        }
                    }
                    true
                })?;
            }
            self.watcher.ends();
        }
        if asked_for {
            findings.records += cases.values().map(|case| case.records.len() as u64).sum::<u64>();
        }
        self.finish(&mut cases)?;
        let judge = ground.judge();
        let mut examined: Vec<(Case, Checked)> = Vec::with_capacity(cases.len());
        for (_, case) in cases {
            let checked = examine(&case, &judge);
            examined.push((case, checked));
        }
        examined.sort_by(|(one, _), (other, _)| one.member.cmp(&other.member));
        Ok(examined)
    }

    /// The accounts, and what the outbox holds at the same moment.
    fn begin(&mut self, members: &[MemberId]) -> Result<HashMap<MemberId, Case>, StoreError> {
        let mut wanted: BTreeMap<Bucket, LoadBucket> = BTreeMap::new();
        for member in members {
            let bucket = self.lanes.buckets.of(member);
            wanted
                .entry(bucket)
                .or_insert_with(|| LoadBucket::outbox_of(bucket))
                .members
                .push(member.clone());
        }
        let wanted: Vec<LoadBucket> = wanted.into_values().collect();
        let loaded = self.store.load(&wanted)?;
        let mut cases = HashMap::with_capacity(members.len());
        for (wanted, loaded) in wanted.into_iter().zip(loaded) {
            for (member, stored) in wanted.members.into_iter().zip(loaded.accounts) {
                let case = Case {
                    member: member.clone(),
                    stored,
                    records: Vec::new(),
                    snapshots: Vec::new(),
                    later: 0,
                    receipts: HashMap::new(),
                    due: None,
                    head: None,
                };
                cases.insert(member, case);
            }
            for (key, blob) in loaded.outbox {
                let unpublished = outbox::read(&blob).map_err(|why| {
                    StoreError::Broken(format!("outbox {key} of bucket {}: {why}", wanted.bucket.0))
                })?;
                for record in unpublished {
                    let is_ledger = matches!(record.channel, Channel::Awards | Channel::TierChanges);
                    if let Some(case) = cases.get_mut(&record.member).filter(|_| is_ledger) {
                        let payload = record.payload.into();
                        case.records.push(Seen { place: Place::Outbox, ms: None, payload });
                    }
                }
            }
        }
        Ok(cases)
    }

    /// What falls due, and the accounts once more with their receipts.
    fn finish(&mut self, cases: &mut HashMap<MemberId, Case>) -> Result<(), StoreError> {
        let mut by_bucket: BTreeMap<Bucket, (Vec<MemberId>, Vec<ReceiptKey>)> = BTreeMap::new();
        for (member, case) in &*cases {
            let (members, keys) = by_bucket.entry(self.lanes.buckets.of(member)).or_default();
            members.push(member.clone());
            keys.extend(case.receipt_keys());
        }
        let due: Vec<(Bucket, Vec<MemberId>)> =
            by_bucket.iter().map(|(bucket, (members, _))| (*bucket, members.clone())).collect();
        let due = self.store.due_of(&due)?;
        let wanted: Vec<LoadBucket> = by_bucket
            .into_iter()
            .map(|(bucket, (members, receipts))| LoadBucket { bucket, members, receipts, outbox: false })
            .collect();
        let loaded = self.store.load(&wanted)?;
        for ((wanted, loaded), due) in wanted.into_iter().zip(loaded).zip(due) {
            let receipts: HashMap<&ReceiptKey, _> = wanted.receipts.iter().zip(&loaded.receipts).collect();
            for ((member, json), due) in wanted.members.iter().zip(&loaded.accounts).zip(due) {
                let Some(case) = cases.get_mut(member) else { continue };
                let keys = case.receipt_keys();
                let found = keys.into_iter().filter_map(|key| {
                    let receipt = receipts.get(&key).and_then(|found| (*found).clone())?;
                    Some((key, receipt))
                });
                case.receipts = found.collect();
                case.later = json.as_deref().map_or(0, version_of);
                case.due = due;
            }
        }
        Ok(())
    }

    /// The partitions of a topic in which these members usually are, or the others.
    fn narrowed(&self, part: &Part, place: Option<Partitions>, members: &[MemberId]) -> Part {
        let Some(place) = place else { return part.clone() };
        let many = i32::try_from(part.partitions.len()).unwrap_or(i32::MAX);
        let usual: Vec<i32> = members
            .iter()
            .map(|member| self.archive.usual_partition(member.as_str().as_bytes(), many))
            .collect();
        let is_wanted = |partition: i32| usual.contains(&partition) == (place == Partitions::Usual);
        let partitions = part.partitions.iter().filter(|reach| is_wanted(reach.partition)).cloned().collect();
        Part { partitions, ..part.clone() }
    }
}

/// The version of an account in the store; 0 of what is none.
fn version_of(json: &[u8]) -> u64 {
    #[derive(serde::Deserialize)]
    struct Version {
        v: u64,
    }
    serde_json::from_slice::<Version>(json).map_or(0, |version| version.v)
}

/// Whether every version up to the account's is there.
fn is_whole(case: &Case) -> bool {
    let mut versions: Vec<u64> = case.published().map(|published| published.version).collect();
    versions.sort_unstable();
    versions.dedup();
    versions.len() as u64 >= case.stored.as_deref().map_or(u64::MAX, version_of)
}

fn last_link(case: &Case) -> Option<Head> {
    let last = case.published().max_by_key(|published| published.version)?;
    Some(Head { member_id: last.member, version: last.version, chain: last.chain? })
}

impl Case {
    fn published(&self) -> impl Iterator<Item = Published> {
        self.records.iter().filter_map(|seen| Published::parse(&seen.payload).ok())
    }

    /// The keys of all receipts that the ledger names.
    fn receipt_keys(&self) -> Vec<ReceiptKey> {
        let mut keys = Vec::new();
        for published in self.published() {
            let Some(receipts) = &published.receipts else { continue };
            keys.push(crate::store::event_key(&published.event));
            keys.extend(receipts.others().unwrap_or_default().into_iter().map(|(key, _)| key));
        }
        keys
    }
}

fn take_in(findings: &mut Findings, member: &MemberId, checked: Checked, most: usize) {
    let Checked { differences, notes, snapshots, receipts, heads } = checked;
    findings.snapshots += snapshots;
    findings.receipts += receipts;
    findings.heads += heads;
    for (note, version) in notes {
        findings.note(note, member, version);
    }
    if differences.is_empty() {
        findings.sound += 1;
        return;
    }
    findings.differing += 1;
    if usize::try_from(findings.differing).is_ok_and(|differing| differing <= most) {
        findings.differences.extend(differences);
    }
}
