//! A close look at one member: all that the ledger, the snapshots and the store have of them, held against each other.

use std::collections::BTreeMap;

use foldhash::HashMap;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::expect::{self, Windows};
use super::{Difference, Head, Note, Place, Remedy, Trail, Trails, What, compare};
use crate::account::{Account, Retention};
use crate::entry::Chain;
use crate::ledger::Published;
use crate::programme::Versions;
use crate::rules::clock;
use crate::store::{Receipt, ReceiptKey, is_business};
use crate::types::{EventId, MemberId, Points};

/// What differences are judged by.
#[derive(Clone, Copy, Debug)]
pub struct Judge<'a> {
    /// How trails are followed.
    pub trails: &'a Trails,
    /// The versions of the programme.
    pub versions: &'a Versions,
    /// How long receipts last.
    pub windows: Windows,
    /// The time.
    pub now: Timestamp,
}

/// A record that was read.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Where.
    pub place: Place,
    /// When it was published, in milliseconds since 1970.
    pub ms: Option<i64>,
    /// Its payload.
    pub payload: Box<[u8]>,
}

/// All that there is of a member. The account was read first, with the outbox as it was at that moment; then the ledger;
/// then when something falls due, and the account once more, with receipts.
#[derive(Debug)]
pub struct Case {
    /// Who.
    pub member: MemberId,
    /// The account as it lay in the store, if there was one.
    pub stored: Option<Vec<u8>>,
    /// Records of the ledger under the member's key, in any order; and what the outbox holds of it.
    pub records: Vec<Seen>,
    /// Snapshots of the account.
    pub snapshots: Vec<Seen>,
    /// The version of the account once all of that was read.
    pub later: u64,
    /// Receipts, as they were with that version.
    pub receipts: HashMap<ReceiptKey, Receipt>,
    /// When something falls due, by the store's index.
    pub due: Option<i64>,
    /// The link that was written down once.
    pub head: Option<Head>,
}

/// What a close look found.
#[derive(Debug, Default)]
pub struct Checked {
    /// Differences.
    pub differences: Vec<Difference>,
    /// What else there is to say, with a version.
    pub notes: Vec<(Note, u64)>,
    /// Snapshots that were compared.
    pub snapshots: u64,
    /// Receipts that were asked for.
    pub receipts: u64,
    /// Heads that were found again.
    pub heads: u64,
}

/// A receipt that must be there, and what says so.
struct Expected {
    receipt: Receipt,
    version: u64,
    entry: Box<str>,
    event: EventId,
    place: Place,
}

/// A clock that differs a little, and the minute for which a lane keeps whom it tells.
const SLACK_S: i64 = 180;

impl Judge<'_> {
    /// By when the store's index must have a member at the latest; nothing where it need not.
    pub(super) fn due_at_latest(&self, account: &Account, is_foreign: bool) -> Option<i64> {
        let zone = &self.versions.first().zone;
        let latest = |programme| clock::at_latest(zone, programme, account, self.now);
        if is_foreign {
            return latest(None);
        }
        // Whichever version said it last.
        let each = self.versions.iter().map(|programme| latest(Some(&**programme)));
        each.reduce(|one, other| Some(one?.max(other?))).flatten()
    }

    /// Whether the index has a member in time.
    pub(super) fn is_in_time(&self, latest: Option<i64>, due: Option<i64>) -> bool {
        let Some(latest) = latest else { return true };
        let now = self.now.as_second();
        let latest = if latest <= now { now + SLACK_S } else { latest };
        due.is_some_and(|due| due <= latest)
    }
}

/// Looks closely at a member.
pub fn examine(case: &Case, judge: &Judge<'_>) -> Checked {
    let mut checked = Checked::default();
    let stored = case.stored.as_deref().map(compare::read_account).transpose();
    let stored = match stored {
        Ok(stored) => stored,
        Err(error) => {
            let found = format!("what cannot be read: {error}");
            let difference = Difference::of(What::Account, &case.member, None, "an account", found);
            let remedy = Some(Remedy::Rebuild);
            checked.differences.push(Difference { remedy, ..difference });
            None
        }
    };
    let mut look = Look {
        case,
        judge,
        target: stored.as_ref().map_or(0, |account| account.version),
        stored,
        trail: Trail::new(case.member.clone()),
        unlimited: Account::new(case.member.clone()),
        expected: BTreeMap::new(),
        checked,
        is_compared: false,
    };
    let versions = look.by_version();
    look.follow(&versions);
    look.end();
    look.checked
}

type Candidates<'a> = BTreeMap<u64, Vec<(Published, &'a Seen)>>;

struct Look<'a> {
    case: &'a Case,
    judge: &'a Judge<'a>,
    stored: Option<Account>,
    /// The version of the account as it was first read.
    target: u64,
    trail: Trail,
    unlimited: Account,
    expected: BTreeMap<ReceiptKey, Expected>,
    checked: Checked,
    is_compared: bool,
}

impl<'a> Look<'a> {
    /// The records by version; those of one version that are the same byte for byte once.
    fn by_version(&mut self) -> Candidates<'a> {
        let mut versions: Candidates<'a> = BTreeMap::new();
        for seen in &self.case.records {
            let published = match Published::parse(&seen.payload) {
                Err(error) => {
                    self.trail.unreadable(&seen.place, &error.to_string());
                    continue;
                }
                Ok(published) if published.member != self.case.member => {
                    self.trail.misplaced(&published, &seen.place);
                    continue;
                }
                Ok(published) => published,
            };
            let same = versions.entry(published.version).or_default();
            if !same.iter().any(|(_, other)| other.payload == seen.payload) {
                same.push((published, seen));
            }
        }
        versions
    }

    fn follow(&mut self, versions: &Candidates<'_>) {
        let Case { member, later, .. } = self.case;
        let mut is_ahead = false;
        for (version, candidates) in versions {
            let last = self.trail.version();
            let is_cut = self.trail.begins == 0 && self.judge.trails.cut;
            if *version > last + 1 && last >= self.target && *later > self.target {
                // What lies between is on its way.
                break;
            }
            if *version > last + 1 && is_cut {
                self.checked.notes.push((Note::Begun, *version));
            } else if *version > last + 1 {
                let missing = if *version == last + 2 {
                    format!("version {}", last + 1)
                } else {
                    format!("versions {} to {}", last + 1, version - 1)
                };
                let found = format!("version {version} right behind {}", name_of(last));
                let place = candidates.first().map(|(_, seen)| &seen.place);
                let difference = Difference::of(
                    What::Removed,
                    member,
                    Some(last + 1),
                    format!("{missing} of the ledger"),
                    found,
                );
                self.checked.differences.push(match place {
                    Some(place) => difference.shown_by(place, None, None),
                    None => difference,
                });
            }
            let link = self.trail.link;
            let follows =
                |(_, seen): &&(Published, &Seen)| Chain::follows(link.as_ref(), &seen.payload) == Some(true);
            let Some((published, seen)) = candidates.iter().find(follows).or(candidates.first()) else {
                continue;
            };
            for (other, elsewhere) in candidates {
                if !std::ptr::eq(*elsewhere, *seen) {
                    let difference = Difference::of(
                        What::Inserted,
                        member,
                        Some(*version),
                        format!("one record of this version, that at {}", seen.place),
                        "another one",
                    );
                    let shown = difference.shown_by(&elsewhere.place, Some(&other.id), Some(&other.event));
                    self.checked.differences.push(shown);
                }
            }
            if *version > self.target && *version > *later && !is_ahead && self.case.stored.is_some() {
                is_ahead = true;
                let difference = Difference::of(
                    What::Ahead,
                    member,
                    Some(*version),
                    format!("nothing behind version {later}, which is the account's in the store"),
                    "a record: it was put in, or the store has lost what it changed",
                );
                let shown = difference.shown_by(&seen.place, Some(&published.id), Some(&published.event));
                self.checked.differences.push(shown);
            }
            self.step(published, seen);
        }
    }

    fn step(&mut self, published: &Published, seen: &Seen) {
        let trails = self.judge.trails;
        self.trail.follow(published, &seen.payload, seen.ms, &seen.place, trails, &mut |_, _, _, _| {});
        if self.trail.is_whole {
            let retention = Retention { history: usize::MAX, months: u16::MAX, ..trails.retention };
            // A sum that leaves its range is told of the other.
            _ = self.unlimited.evolve(&published.change, &retention);
        }
        let version = published.version;
        if let Some(head) = self.case.head.as_ref().filter(|head| head.version == version) {
            if published.chain == Some(head.chain) {
                self.checked.heads += 1;
            } else {
                let found = published.chain.map_or_else(|| "none".to_owned(), |link| link.to_string());
                let expected = format!("the link {} that was written down", head.chain);
                self.tell(What::Head, published, &seen.place, expected, found);
            }
        }
        for snapshot in &self.case.snapshots {
            self.check_snapshot(snapshot, version);
        }
        if version <= self.target {
            self.expect(published, seen);
        }
        if version == self.target
            && let Some(stored) = &self.stored
        {
            let compared = compare::account(&self.trail, stored, Some(&self.unlimited));
            self.checked.differences.extend(compared.differences);
            if compared.other_settings {
                self.checked.notes.push((Note::OtherSettings, version));
            }
            self.is_compared = true;
        }
    }

    fn tell(
        &mut self,
        what: What,
        published: &Published,
        place: &Place,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) {
        let difference = Difference::of_record(what, &self.case.member, published, place, expected, found);
        self.checked.differences.push(difference);
    }

    /// Compares a snapshot of this version.
    fn check_snapshot(&mut self, seen: &Seen, version: u64) {
        let Some(snapshot) = read_snapshot(&seen.payload).filter(|snapshot| snapshot.version == version)
        else {
            return;
        };
        self.checked.snapshots += 1;
        let is_same = if self.trail.is_whole {
            compare::is_snapshot_of(&self.trail.account, &snapshot)
        } else {
            self.trail.account.chain == snapshot.chain
        };
        if is_same || self.trail.corrected.0 != 0 {
            return;
        }
        let compared = compare::account(&self.trail, &snapshot, Some(&self.unlimited)).differences;
        for difference in compared {
            let difference = Difference { what: What::Snapshot, remedy: None, ..difference };
            self.checked.differences.push(difference.shown_by(&seen.place, None, None));
        }
    }

    fn expect(&mut self, published: &Published, seen: &Seen) {
        // What lies in the outbox is about to be published.
        let ms = seen.ms.or((seen.place == Place::Outbox).then_some(self.judge.windows.now_ms));
        let Some(receipts) = self.judge.windows.receipts(published, ms) else {
            let expected = "receipts as they are written";
            return self.tell(What::Unreadable, published, &seen.place, expected, "what cannot be read");
        };
        for (key, receipt) in receipts {
            let (entry, event) = (published.id.clone(), published.event.clone());
            let expected =
                Expected { receipt, version: published.version, entry, event, place: seen.place.clone() };
            self.expected.insert(key, expected);
        }
    }

    fn end(&mut self) {
        let Case { member, later, head, .. } = self.case;
        let last = self.trail.version();
        let cut = self.judge.trails.cut;
        if self.target > last {
            let target = self.target;
            if last > 0 {
                let expected = format!("versions up to {target}, which is the account's in the store");
                let found = format!("neither on the topics nor in the outbox anything behind version {last}");
                let difference = Difference::of(What::Removed, member, Some(last + 1), expected, found);
                self.checked.differences.push(difference);
            } else if cut {
                self.checked.notes.push((Note::Begun, target + 1));
            } else {
                let found = format!("an account of version {target}");
                let difference = Difference::of(
                    What::Unknown,
                    member,
                    None,
                    "no account: the ledger knows nothing of it",
                    found,
                );
                self.checked.differences.push(difference);
            }
        }
        if self.case.stored.is_none() && last > 0 && *later == 0 {
            let expected = format!("an account of version {last}");
            let difference =
                Difference::of(What::NoAccount, member, Some(last), expected, "none in the store");
            self.checked.differences.push(Difference { remedy: Some(Remedy::Rebuild), ..difference });
        }
        if let Some(head) = head.as_ref().filter(|head| head.version > last) {
            let expected = format!("version {} with the link {}", head.version, head.chain);
            let found = format!("{}, and nothing behind it", name_of(last));
            self.checked.differences.push(Difference::of(
                What::Head,
                member,
                Some(head.version),
                expected,
                found,
            ));
        }
        self.check_snapshots_beyond(last.max(*later));
        if self.target == *later {
            self.check_receipts();
            self.check_due();
        } else {
            self.checked.notes.push((Note::InFlux, *later));
        }
        if self.trail.corrected.0 != 0 {
            self.checked.notes.push((Note::Adjusted, last));
        }
        let of_trail = std::mem::take(&mut self.trail.differences);
        // What was printed while an account was edited, and the edit was taken back.
        let taken_back = Points(self.trail.corrected.0.saturating_neg());
        let is_explained = taken_back != Points::ZERO && self.trail.off == Some(taken_back);
        let is_chained = self.trail.is_chained();
        let differences = &mut self.checked.differences;
        differences.extend(
            of_trail.into_iter().filter(|difference| !(is_explained && difference.what == What::Balance)),
        );
        // What cannot be believed brings nothing back. Where the chain is whole, other balances tell of an account that was
        // edited, and not of an entry.
        let is_in_doubt = |what| is_of_ledger(what) || what == What::Balance && !is_chained;
        if differences.iter().any(|difference| is_in_doubt(difference.what)) {
            differences.iter_mut().for_each(|difference| difference.remedy = None);
        }
        differences.sort_by_key(|difference| (difference.version.unwrap_or(u64::MAX), difference.what));
    }

    /// Snapshots that cannot be read, and those of versions that neither ledger nor store has.
    fn check_snapshots_beyond(&mut self, last: u64) {
        for seen in &self.case.snapshots {
            let snapshot = read_snapshot(&seen.payload);
            let found = match snapshot {
                None => "what cannot be read".to_owned(),
                Some(snapshot) if snapshot.member_id != self.case.member => {
                    format!("the account of member {}", snapshot.member_id)
                }
                Some(snapshot) if snapshot.version > last => format!("version {}", snapshot.version),
                Some(_) => continue,
            };
            let expected = format!("the account at a version up to {last}");
            let difference = Difference::of(What::Snapshot, &self.case.member, None, expected, found);
            self.checked.differences.push(difference.shown_by(&seen.place, None, None));
        }
    }

    fn check_receipts(&mut self) {
        for (key, expected) in &self.expected {
            self.checked.receipts += 1;
            let found = self.case.receipts.get(key);
            if found.is_some_and(|found| expect::is_same(&expected.receipt, found)) {
                continue;
            }
            let what = match found {
                Some(_) if is_business(key) && expected.receipt.record.is_some() => What::Record,
                _ => What::Receipt,
            };
            let says = |receipt: Option<&Receipt>| format!("`{key}`: {}", expect::says(receipt));
            let expected_says = says(Some(&expected.receipt));
            let difference =
                Difference::of(what, &self.case.member, Some(expected.version), expected_says, says(found));
            let shown = difference.shown_by(&expected.place, Some(&expected.entry), Some(&expected.event));
            self.checked.differences.push(Difference { remedy: Some(Remedy::Rebuild), ..shown });
        }
    }

    fn check_due(&mut self) {
        let Some(stored) = self.stored.as_ref().filter(|_| self.is_compared) else { return };
        let latest = self.judge.due_at_latest(stored, self.trail.is_foreign);
        if self.judge.is_in_time(latest, self.case.due) {
            return;
        }
        let says = |second: Option<i64>| {
            let moment = second.and_then(|second| Timestamp::from_second(second).ok());
            moment.map_or_else(|| "none".to_owned(), |moment| moment.to_string())
        };
        let expected = format!("a moment in the index of what falls due, {} at the latest", says(latest));
        let difference =
            Difference::of(What::Due, &self.case.member, Some(stored.version), expected, says(self.case.due));
        self.checked.differences.push(Difference { remedy: Some(Remedy::Rebuild), ..difference });
    }
}

/// Whether it is the ledger that is not as it was written.
fn is_of_ledger(what: What) -> bool {
    use What::{Ahead, Altered, Head, Inserted, Misplaced, Removed, Unchained, Unreadable};
    matches!(what, Removed | Inserted | Altered | Unchained | Unreadable | Misplaced | Ahead | Head)
}

fn name_of(version: u64) -> String {
    if version == 0 { "nothing".to_owned() } else { format!("version {version}") }
}

#[derive(Deserialize)]
struct SnapshotEnvelope<'a> {
    #[serde(borrow)]
    data: &'a RawValue,
}

fn read_snapshot(payload: &[u8]) -> Option<Account> {
    let envelope: SnapshotEnvelope<'_> = serde_json::from_slice(payload).ok()?;
    compare::read_account(envelope.data.get().as_bytes()).ok()
}
