//! Brings back what the store lost, from what was published: a server that comes back with an old copy of its memory,
//! or with none, or a replica that takes over without the last writes.
//!
//! ```text
//! reach     how far the ledger and the snapshots reach, also with transactions that are open
//! wait      until all of that is decided: who was about to publish has published or given up
//! walk back from the end of each partition, until a long stretch of it is whole: the store has every account in the
//!           version that was published, or a later one
//! restore   from there on, in order: the receipts of events whose change of the account is missing, with the records
//!           and what they took of budgets; and then the accounts
//! clear     what the store's outboxes hold and the ledger has
//! ```
//!
//! An account is restored by its snapshot where just the versions up to it are on the ledger. Else somebody's change of it
//! was lost before it was published, and the snapshot of a later one may hold it: the event will be read again and must
//! not count twice. Such an account is folded, from what the store has and from what is on the ledger.
//!
//! An account and the receipts of its events are written to the store in one step, so an account that is there in a
//! version vouches for the receipts of all events up to it. That is why receipts come first and accounts last: who dies
//! in between leaves an account that still says what is missing.
//!
//! A lane asks the store right before the end of a transaction, when its records are in the log, whether it is still
//! where the results were written to. So whatever was written to a server before it was lost, and is published, is in
//! the log by the time that anybody hears of another server, and is waited for here. What was written and is not
//! published, is read again and decided anew.

mod outboxes;
mod seen;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::account::{Account, Retention};
use crate::entry::{Chain, LedgerReceipts};
use crate::ledger::{Ledger, Published};
use crate::log::{Archive, LogError, Reach, Record, Stretch};
use crate::programme::Versions;
use crate::rules::clock;
use crate::store::{
    LoadBucket, Located, RestoreBucket, Restored, RestoredAccount, RestoredEvent, ServerId, Store,
    StoreError, event_key, version_of,
};
use crate::types::{Bucket, Buckets, EventId, MemberId, Outputs, TopicName, TopicPartition};

use outboxes::Outboxes;
use seen::Seen;

/// Who repairs: a lane, which stays in its group meanwhile, or a command.
pub(crate) trait Host {
    /// Why it gives up.
    type Left;

    /// Asks the archive until it answers.
    fn archive<T>(
        &mut self,
        ask: impl FnMut(&dyn Archive, Instant) -> Result<T, LogError>,
    ) -> Result<T, Self::Left>;

    /// Asks the store until it answers.
    fn store<T>(&mut self, ask: impl Fn(&mut dyn Store) -> Result<T, StoreError>) -> Result<T, Self::Left>;

    /// Waits.
    fn pause(&mut self, wait: Duration) -> Result<(), Self::Left>;

    /// A record of accrual's own topics cannot be read.
    fn unreadable(&mut self, why: String) -> Self::Left;

    /// So many records may be read.
    fn begins(&mut self, records: u64);

    /// So much of a partition is restored.
    fn restored(&mut self, stretch: &Stretch, restored: Restored);
}

/// What to repair.
#[derive(Clone, Debug)]
pub(crate) struct Repair<'a> {
    /// Where it was published.
    pub outputs: &'a Outputs,
    /// How many buckets there are.
    pub buckets: Buckets,
    /// What says when something falls due.
    pub versions: &'a Versions,
    /// How much accounts remember.
    pub retention: Retention,
    /// The buckets that may lack something, and where they are.
    pub lost: BTreeMap<Bucket, ServerId>,
    /// How many records of a partition in a row must be whole, that all before them are taken to be, too: more than all
    /// lanes publish in a few batches. Nothing where everything is to be read.
    pub whole_stretch: Option<i64>,
}

/// How many records in a row must be whole for a worker to take all before them to be, too.
pub const WHOLE_STRETCH: i64 = 20_000;

/// Records that are read and restored in one go: enough that each bucket gets some, and not too many to hold.
const WINDOW: i64 = 20_000;

/// Records that are looked at in one go on the way back.
const BACK: i64 = 5_000;

/// How long one reading of the archive may take, before the host is heard again.
pub(crate) const READ_FOR: Duration = Duration::from_secs(5);

/// How long to wait before looking again whether all is decided.
const UNDECIDED: Duration = Duration::from_millis(50);

/// What a topic holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// Changes of accounts.
    Ledger,
    /// Accounts.
    Snapshots,
}

impl<'a> Repair<'a> {
    /// Of these buckets.
    pub fn of(
        outputs: &'a Outputs,
        buckets: Buckets,
        versions: &'a Versions,
        retention: Retention,
        lost: &[Located],
        whole_stretch: Option<i64>,
    ) -> Self {
        let lost = lost.iter().map(|located| (located.bucket, located.server.clone())).collect();
        Self { outputs, buckets, versions, retention, lost, whole_stretch }
    }

    /// Repairs. Nothing where a bucket is on another server by now, so that all is to be done again.
    ///
    /// # Errors
    /// What the host says.
    pub fn run<H: Host>(&self, host: &mut H) -> Result<Option<Restored>, H::Left> {
        let (mut sum, mut ledger) = (Restored::default(), Vec::new());
        let mut found = Found { seen: Seen::default(), outboxes: self.outboxes(host)? };
        let decided = self.decided(host)?;
        let records = decided.iter().map(|(.., reach)| reach.end - reach.first).sum::<i64>();
        host.begins(u64::try_from(records).unwrap_or_default());
        for (topic, kind, reach) in decided {
            let from = self.begin(host, &topic, kind, &reach)?;
            let of = TopicPartition { topic, partition: reach.partition };
            let stretch = Stretch { of, from, until: reach.end };
            let Some(restored) = self.restore(host, kind, &stretch, &mut found)? else { return Ok(None) };
            sum += restored;
            if kind == Kind::Ledger {
                found.seen.is_trimmed |= reach.first > 0;
                ledger.push(stretch);
            }
        }
        let Some(restored) = self.fold(host, &ledger, &found.seen)? else { return Ok(None) };
        sum += restored;
        let published = found.outboxes.published();
        if !published.is_empty() {
            host.store(|store| store.clear_outbox(&published))?;
        }
        Ok(Some(sum))
    }

    fn topics(&self) -> [(&TopicName, Kind); 3] {
        let Outputs { awards, tier_changes, accounts, .. } = self.outputs;
        [(awards, Kind::Ledger), (tier_changes, Kind::Ledger), (accounts, Kind::Snapshots)]
    }

    fn decided<H: Host>(&self, host: &mut H) -> Result<Vec<(TopicName, Kind, Reach)>, H::Left> {
        let mut all = Vec::new();
        for (topic, kind) in self.topics() {
            let reached = host.archive(|archive, deadline| archive.reach(topic, deadline))?;
            all.extend(reached.into_iter().map(|reach| (topic.clone(), kind, reach)));
        }
        for (topic, _) in self.topics() {
            loop {
                let now = host.archive(|archive, deadline| archive.reach(topic, deadline))?;
                let is_open = |(of, _, wanted): &(TopicName, Kind, Reach)| {
                    let now = now.iter().find(|now| now.partition == wanted.partition);
                    of == topic && now.is_some_and(|now| now.decided < wanted.end)
                };
                if !all.iter().any(is_open) {
                    break;
                }
                host.pause(UNDECIDED)?;
            }
        }
        Ok(all)
    }

    /// What the store takes for unpublished.
    fn outboxes<H: Host>(&self, host: &mut H) -> Result<Outboxes, H::Left> {
        let mut outboxes = Outboxes::default();
        for bucket in self.lost.keys() {
            let wanted = LoadBucket::outbox_of(*bucket);
            for loaded in host.store(|store| store.load(std::slice::from_ref(&wanted)))? {
                outboxes.add(*bucket, loaded).map_err(|why| host.unreadable(why))?;
            }
        }
        Ok(outboxes)
    }

    /// The offset from which on all that the store lacks of a partition is found, and a long stretch before that.
    fn begin<H: Host>(
        &self,
        host: &mut H,
        topic: &TopicName,
        kind: Kind,
        reach: &Reach,
    ) -> Result<i64, H::Left> {
        let Some(whole_stretch) = self.whole_stretch else { return Ok(reach.first) };
        let (mut until, mut whole) = (reach.end, 0);
        while until > reach.first && whole < whole_stretch {
            let of = TopicPartition { topic: topic.clone(), partition: reach.partition };
            let start = (until - BACK.min(whole_stretch)).max(reach.first);
            let mut published: HashMap<MemberId, u64> = HashMap::new();
            for record in self.read(host, &Stretch { of, from: start, until })? {
                let Some((member, version)) = self.version(host, kind, &record)? else { continue };
                let newest = published.entry(member).or_default();
                *newest = version.max(*newest);
            }
            let held = self.held(host, published.keys())?;
            if published.iter().all(|(member, version)| held.get(member).is_some_and(|held| held >= version))
            {
                whole += until - start;
            } else {
                whole = 0;
            }
            until = start;
            host.pause(Duration::ZERO)?;
        }
        Ok(until)
    }

    /// Restores what the store lacks of a stretch. Nothing where a bucket is on another server by now.
    ///
    /// # Errors
    /// What the host says.
    fn restore<H: Host>(
        &self,
        host: &mut H,
        kind: Kind,
        stretch: &Stretch,
        found: &mut Found,
    ) -> Result<Option<Restored>, H::Left> {
        let mut sum = Restored::default();
        for window in windows(stretch) {
            let records = self.read(host, &window)?;
            let wanted = match kind {
                Kind::Ledger => self.events(host, &records, found)?,
                Kind::Snapshots => self.accounts(host, &records, &mut found.seen)?,
            };
            let restored = if wanted.is_empty() {
                Restored::default()
            } else {
                match host.store(|store| store.restore(&wanted))? {
                    Some(restored) => restored,
                    None => return Ok(None),
                }
            };
            host.restored(&window, restored);
            sum += restored;
            host.pause(Duration::ZERO)?;
        }
        Ok(Some(sum))
    }

    /// Restores the accounts that no snapshot may be trusted for. Nothing where a bucket is on another server by now.
    fn fold<H: Host>(
        &self,
        host: &mut H,
        ledger: &[Stretch],
        seen: &Seen,
    ) -> Result<Option<Restored>, H::Left> {
        let open: HashSet<&MemberId> = seen.open().collect();
        if open.is_empty() {
            return Ok(Some(Restored::default()));
        }
        let mut ledgers: BTreeMap<MemberId, Ledger> = BTreeMap::new();
        for stretch in ledger {
            for window in windows(stretch) {
                for record in self.read(host, &window)? {
                    let Some(member) = self.member(&record).filter(|member| open.contains(member)) else {
                        continue;
                    };
                    match Published::parse(record.payload.as_deref().unwrap_or_default()) {
                        Ok(published) => ledgers.entry(member).or_default().add(published),
                        Err(why) => return Err(host.unreadable(format!("{}: {why}", record.at))),
                    }
                }
                host.pause(Duration::ZERO)?;
            }
        }
        let mut wanted = Wanted::new(self);
        for (bucket, mut members) in self.by_bucket(ledgers.keys()) {
            let load = LoadBucket { bucket, members: members.clone(), receipts: Vec::new(), outbox: false };
            let loaded = host.store(|store| store.load(std::slice::from_ref(&load)))?;
            let accounts = loaded.into_iter().flat_map(|bucket| bucket.accounts);
            for (member, json) in members.drain(..).zip(accounts) {
                let (Some(ledger), Some(bucket)) = (ledgers.get(&member), wanted.bucket(&member)) else {
                    continue;
                };
                match self.folded(member, json.as_deref(), ledger) {
                    Ok(account) => bucket.accounts.extend(account),
                    Err(why) => return Err(host.unreadable(why)),
                }
            }
        }
        let wanted = wanted.done();
        host.store(|store| store.restore(&wanted))
    }

    /// The account that the store has, with what is on the ledger since.
    fn folded(
        &self,
        member: MemberId,
        held: Option<&[u8]>,
        ledger: &Ledger,
    ) -> Result<Option<RestoredAccount>, String> {
        let of = |why: String| format!("the account of {member}: {why}");
        let mut account = match held {
            Some(json) => Account::from_json(json).map_err(|error| of(error.to_string()))?,
            None => Account::new(member.clone()),
        };
        let Some(latest) = ledger.changes().last() else { return Ok(None) };
        let since = account.version;
        ledger
            .fold_onto(&mut account, &self.retention, |published| published.version > since)
            .map_err(|error| of(error.to_string()))?;
        let due = clock::next(self.versions.at(latest.time), &account);
        Ok(Some(RestoredAccount { member, version: account.version, json: account.to_json(), due }))
    }

    /// Every record of a stretch.
    fn read<H: Host>(&self, host: &mut H, stretch: &Stretch) -> Result<Vec<Record>, H::Left> {
        let mut records: Vec<Record> = Vec::new();
        loop {
            let from = records.last().map_or(stretch.from, |last| last.at.offset + 1);
            let rest = Stretch { of: stretch.of.clone(), from, until: stretch.until };
            let whole = host.archive(|archive, deadline| {
                records.retain(|record| record.at.offset < from);
                archive.scan(&rest, deadline, &mut |record| {
                    records.push(record);
                    true
                })
            })?;
            if whole {
                return Ok(records);
            }
            host.pause(Duration::ZERO)?;
        }
    }

    /// Whose record it is, where it is one of the buckets looked at.
    fn member(&self, record: &Record) -> Option<MemberId> {
        let member = MemberId::from(std::str::from_utf8(record.key.as_deref()?).ok()?);
        self.lost.contains_key(&self.buckets.of(&member)).then_some(member)
    }

    fn version<H: Host>(
        &self,
        host: &mut H,
        kind: Kind,
        record: &Record,
    ) -> Result<Option<(MemberId, u64)>, H::Left> {
        let (Some(member), Some(payload)) = (self.member(record), &record.payload) else { return Ok(None) };
        let version = match kind {
            Kind::Ledger => parse::<Head>(payload).map(|head| head.data.version),
            Kind::Snapshots => {
                parse::<Snapshot<'_>>(payload).map(|of| version_of(Some(of.data.get().as_bytes())))
            }
        };
        match version {
            Ok(version) => Ok(Some((member, version))),
            Err(why) => Err(host.unreadable(format!("{}: {why}", record.at))),
        }
    }

    fn by_bucket<'m>(&self, members: impl Iterator<Item = &'m MemberId>) -> BTreeMap<Bucket, Vec<MemberId>> {
        let mut by_bucket: BTreeMap<Bucket, Vec<MemberId>> = BTreeMap::new();
        for member in members {
            by_bucket.entry(self.buckets.of(member)).or_default().push(member.clone());
        }
        by_bucket
    }

    /// The versions that the store has of accounts.
    fn held<'m, H: Host>(
        &self,
        host: &mut H,
        members: impl Iterator<Item = &'m MemberId>,
    ) -> Result<HashMap<MemberId, u64>, H::Left> {
        let wanted: Vec<LoadBucket> = self
            .by_bucket(members)
            .into_iter()
            .map(|(bucket, members)| LoadBucket { bucket, members, receipts: Vec::new(), outbox: false })
            .collect();
        let loaded = host.store(|store| store.load(&wanted))?;
        let accounts = loaded.into_iter().flat_map(|bucket| bucket.accounts);
        let members = wanted.into_iter().flat_map(|wanted| wanted.members);
        Ok(members.zip(accounts).map(|(member, json)| (member, version_of(json.as_deref()))).collect())
    }

    /// The events of these records whose changes the store lacks.
    fn events<H: Host>(
        &self,
        host: &mut H,
        records: &[Record],
        found: &mut Found,
    ) -> Result<Vec<RestoreBucket>, H::Left> {
        let mut of_members: Vec<(MemberId, u64, Option<Chain>, Option<RestoredEvent>)> = Vec::new();
        for record in records {
            let (Some(member), Some(payload)) = (self.member(record), &record.payload) else { continue };
            let head: Head = match parse(payload) {
                Ok(head) => head,
                Err(why) => return Err(host.unreadable(format!("{}: {why}", record.at))),
            };
            // Only an event's first change names them; before the ledger did, none does.
            let Some(receipts) = head.data.receipts else {
                of_members.push((member, head.data.version, head.data.chain, None));
                continue;
            };
            let (Some(receipt), Some(others)) = (receipts.of_event(), receipts.others()) else {
                return Err(host.unreadable(format!("{}: its receipts are damaged", record.at)));
            };
            found.outboxes.is_published(&receipt.at);
            let budgets = receipts.budgets.into_iter().collect();
            let event = EventId { source: head.data.event.source, id: head.data.event.id };
            let event = RestoredEvent { key: event_key(&event), receipt, others, budgets };
            of_members.push((member, head.data.version, head.data.chain, Some(event)));
        }
        let held = self.held(host, of_members.iter().map(|(member, ..)| member))?;
        of_members.retain(|(member, version, ..)| held.get(member).is_none_or(|held| held < version));
        for (member, version, chain, _) in &of_members {
            found.seen.add(member, held.get(member).copied().unwrap_or_default(), *version, *chain);
        }
        // Two lanes may publish one member's changes in another order.
        of_members.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
        let mut wanted = Wanted::new(self);
        for (member, .., event) in of_members {
            if let Some(bucket) = wanted.bucket(&member) {
                bucket.events.extend(event);
            }
        }
        Ok(wanted.done())
    }

    /// The accounts of these records that the store lacks.
    fn accounts<H: Host>(
        &self,
        host: &mut H,
        records: &[Record],
        seen: &mut Seen,
    ) -> Result<Vec<RestoreBucket>, H::Left> {
        let mut wanted = Wanted::new(self);
        for record in records {
            let Some(member) = self.member(record) else { continue };
            match self.account(record, |account| seen.vouches_for(&member, account.version, account.chain)) {
                Ok(None) => {}
                Ok(Some(account)) => {
                    seen.is_restored(&member);
                    if let Some(bucket) = wanted.bucket(&member) {
                        bucket.accounts.push(account);
                    }
                }
                Err(why) => return Err(host.unreadable(format!("{}: {why}", record.at))),
            }
        }
        Ok(wanted.done())
    }

    /// The account of a snapshot that is wanted, and when something falls due next.
    fn account(
        &self,
        record: &Record,
        is_wanted: impl Fn(&LastLink) -> bool,
    ) -> Result<Option<RestoredAccount>, String> {
        let Some(payload) = &record.payload else { return Ok(None) };
        let snapshot: Snapshot<'_> = parse(payload)?;
        let json = snapshot.data.get().as_bytes();
        let last: LastLink = parse(json)?;
        if !is_wanted(&last) {
            return Ok(None);
        }
        let account = Account::from_json(json).map_err(|error| error.to_string())?;
        let due = clock::next(self.versions.at(snapshot.time), &account);
        let (member, version) = (account.member_id, last.version);
        Ok(Some(RestoredAccount { member, version, json: json.to_vec(), due }))
    }
}

/// The parts of a stretch that are read in one go.
fn windows(stretch: &Stretch) -> impl Iterator<Item = Stretch> {
    let starts = std::iter::successors(Some(stretch.from), |from| Some(from + WINDOW));
    starts.take_while(|from| *from < stretch.until).map(|from| Stretch {
        of: stretch.of.clone(),
        from,
        until: (from + WINDOW).min(stretch.until),
    })
}

/// What is found on the way.
struct Found {
    seen: Seen,
    outboxes: Outboxes,
}

/// What is to be restored, by bucket.
struct Wanted<'r, 'a> {
    repair: &'r Repair<'a>,
    buckets: BTreeMap<Bucket, RestoreBucket>,
}

impl<'r, 'a> Wanted<'r, 'a> {
    fn new(repair: &'r Repair<'a>) -> Self {
        Self { repair, buckets: BTreeMap::new() }
    }

    /// The bucket of a member; nothing where it is not one that is looked at.
    fn bucket(&mut self, member: &MemberId) -> Option<&mut RestoreBucket> {
        let bucket = self.repair.buckets.of(member);
        let server = self.repair.lost.get(&bucket)?.clone();
        let new = || RestoreBucket { bucket, server, events: Vec::new(), accounts: Vec::new() };
        Some(self.buckets.entry(bucket).or_insert_with(new))
    }

    fn done(self) -> Vec<RestoreBucket> {
        self.buckets.into_values().collect()
    }
}

/// What is read of a change.
#[derive(Deserialize)]
struct Head {
    data: HeadData,
}

#[derive(Deserialize)]
struct HeadData {
    version: u64,
    event: HeadEvent,
    receipts: Option<LedgerReceipts<'static>>,
    chain: Option<Chain>,
}

#[derive(Deserialize)]
struct HeadEvent {
    source: Box<str>,
    id: Box<str>,
}

/// What is read of a snapshot.
#[derive(Deserialize)]
struct Snapshot<'a> {
    time: jiff::Timestamp,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// What tells whether an account is the one that the ledger comes to.
#[derive(Deserialize)]
struct LastLink {
    #[serde(rename = "v")]
    version: u64,
    chain: Option<Chain>,
}

fn parse<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(payload).map_err(|error| error.to_string())
}
