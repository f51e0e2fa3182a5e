//! Reads topics and store, and holds them against each other: see [`super`].

mod close;
mod pass;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::HashSet;
use jiff::Timestamp;

use super::expect::Windows;
use super::{Difference, Findings, Head, HeadsError, Judge, Trails, read_heads};
use crate::account::Retention;
use crate::lane::LaneSettings;
use crate::ledger::Published;
use crate::log::{Archive, LogError, Reach, Record, Stretch};
use crate::programme::Versions;
use crate::store::{LoadBucket, Store, StoreError, StoreSettings};
use crate::types::{Bucket, CampaignId, MemberId, Points, TopicName, TopicPartition};
use pass::{Paid, Pass, count_budgets};

/// What is to be verified, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// These members alone; everybody where none is named.
    pub members: Vec<MemberId>,
    /// Of these members only the partitions that their keys belong to, and the others where versions are missing in them: a
    /// record that was put into another is then not seen.
    pub quick: bool,
    /// Bytes that members' accounts may take in memory, roughly.
    pub memory: u64,
    /// Heads that were written down once.
    pub against: Option<PathBuf>,
    /// So many members with a difference are looked at closely and named.
    pub most_named: usize,
    /// How long to wait for open transactions.
    pub patience: Duration,
}

/// Who watches how far it is.
pub trait Watcher {
    /// Something begins that reads so many records.
    fn begins(&self, what: &'static str, records: u64);
    /// So many are read.
    fn reads(&self, records: u64);
    /// It is done.
    fn ends(&self);
}

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The store did not answer.
    #[error("the store: {0}")]
    Store(#[from] StoreError),
    /// Kafka did not answer.
    #[error("Kafka: {0}")]
    Log(#[from] LogError),
    /// Heads cannot be read.
    #[error("{file}: {error}")]
    Heads {
        /// Their file.
        file: String,
        /// Why.
        error: HeadsError,
    },
    /// Heads cannot be written.
    #[error("heads cannot be written: {0}")]
    WriteHeads(#[from] std::io::Error),
}

/// Verifies accounts.
pub struct Verifier<'w> {
    lanes: LaneSettings,
    windows: (Duration, Duration),
    store: Box<dyn Store + Send>,
    archive: Box<dyn Archive + Send>,
    watcher: &'w dyn Watcher,
}

/// Longer than any reading takes.
const LONG: Duration = Duration::from_hours(1_000);
/// How often members are looked at closely that change meanwhile, and budgets that are paid from.
const ROUNDS: usize = 5;
/// Between two rounds.
const PAUSE: Duration = Duration::from_millis(500);

/// What a topic's records are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Ledger,
    Snapshots,
}

/// How far a topic was read, or is to be.
#[derive(Clone, Debug)]
struct Part {
    topic: TopicName,
    kind: Kind,
    partitions: Vec<Reach>,
}

impl Part {
    fn records(&self) -> u64 {
        let of = |reach: &Reach| u64::try_from(reach.end.saturating_sub(reach.first)).unwrap_or_default();
        self.partitions.iter().map(of).sum()
    }

    /// What has come since an earlier reach.
    fn since(&self, earlier: &Part) -> Part {
        let partitions = self.partitions.iter().map(|reach| {
            let before = earlier.partitions.iter().find(|before| before.partition == reach.partition);
            Reach { first: before.map_or(reach.first, |before| before.end.max(reach.first)), ..reach.clone() }
        });
        Part { partitions: partitions.collect(), ..self.clone() }
    }
}

impl<'w> Verifier<'w> {
    /// One of what these lanes do.
    pub fn new(
        lanes: LaneSettings,
        settings: &StoreSettings,
        store: Box<dyn Store + Send>,
        archive: Box<dyn Archive + Send>,
        watcher: &'w dyn Watcher,
    ) -> Self {
        let windows = (settings.dedupe_window, settings.refunds_window);
        Self { lanes, windows, store, archive, watcher }
    }

    /// Verifies, and writes down the last link of each member's chain where heads are wanted.
    ///
    /// # Errors
    /// Where somebody does not answer, or heads cannot be read or written.
    pub fn verify(
        &mut self,
        options: &Options,
        mut heads: Option<&mut dyn Write>,
    ) -> Result<Findings, VerifyError> {
        let mut findings = Findings::default();
        let mut suspects: HashSet<MemberId> = HashSet::default();
        if options.members.is_empty() {
            let mut shares: Vec<Vec<Bucket>> = vec![self.lanes.buckets.all().collect()];
            let mut passes = Vec::new();
            while let Some(share) = shares.pop() {
                let pass = self.pass(share, options, &mut shares, &mut findings)?;
                if let Some(heads) = heads.as_deref_mut() {
                    pass.write_heads(heads)?;
                }
                suspects.extend(pass.suspects.iter().cloned());
                findings.sound += pass.sound;
                findings.members += pass.members();
                passes.push(pass.into_paid());
            }
            self.check_budgets(&mut passes, options, &mut findings)?;
        } else {
            suspects.extend(options.members.iter().cloned());
            findings.members = u64::try_from(suspects.len()).unwrap_or(u64::MAX);
        }
        let mut suspects: Vec<MemberId> = suspects.into_iter().collect();
        suspects.sort_unstable();
        let is_asked_for = !options.members.is_empty();
        self.look_closely(suspects, is_asked_for, options, &mut findings, heads)?;
        findings.differences.sort_by(|one, other| one.member_id.cmp(&other.member_id));
        findings.notes.values_mut().for_each(|noted| noted.some.sort_unstable());
        Ok(findings)
    }

    fn ground(&self, parts: &[&Part]) -> Ground {
        let removed = |part: &&Part| {
            part.kind == Kind::Ledger && part.partitions.iter().any(|partition| partition.first > 0)
        };
        let versions = self.lanes.versions.clone();
        let retention = Retention { months: versions.kept_months(), ..self.lanes.retention };
        let programmes = versions.iter().map(|programme| programme.version.as_str().into()).collect();
        let now = Timestamp::now();
        let (dedupe, refunds) = self.windows;
        Ground {
            trails: Trails { retention, programmes, cut: parts.iter().any(removed) },
            versions,
            windows: Windows { dedupe, refunds, now_ms: now.as_millisecond() },
            now,
        }
    }

    /// The topics of the ledger. Changes of tier come first: they are few, and wait for the entries between them.
    fn ledger(&self, options: &Options, findings: &mut Findings) -> Result<[Part; 2], VerifyError> {
        let outputs = &self.lanes.outputs;
        Ok([
            self.reach(&outputs.tier_changes, Kind::Ledger, options, findings)?,
            self.reach(&outputs.awards, Kind::Ledger, options, findings)?,
        ])
    }

    /// How far a topic reaches, once what is open now is decided.
    fn reach(
        &self,
        topic: &TopicName,
        kind: Kind,
        options: &Options,
        findings: &mut Findings,
    ) -> Result<Part, VerifyError> {
        let deadline = Instant::now() + LONG;
        let mut partitions = self.archive.reach(topic, deadline)?;
        let waits_until = Instant::now() + options.patience;
        loop {
            let now = self.archive.reach(topic, deadline)?;
            let decided = |partition: i32| {
                now.iter().find(|reach| reach.partition == partition).map(|reach| reach.decided)
            };
            if partitions
                .iter()
                .all(|reach| decided(reach.partition).is_some_and(|decided| decided >= reach.end))
            {
                break;
            }
            if Instant::now() >= waits_until {
                for reach in &mut partitions {
                    reach.end = reach.end.min(decided(reach.partition).unwrap_or(reach.decided));
                }
                let said = format!(
                    "a transaction stays open on {topic}: what lies behind it was not read; the broker ends it after the \
                     producer's transaction.timeout.ms"
                );
                if !findings.undecided.contains(&said) {
                    findings.undecided.push(said);
                }
                break;
            }
            std::thread::sleep(PAUSE);
        }
        Ok(Part { topic: topic.clone(), kind, partitions })
    }

    /// Verifies everybody of a share of the buckets in one reading; for those for whom the memory is too little, `shares` gets
    /// more shares.
    fn pass(
        &mut self,
        share: Vec<Bucket>,
        options: &Options,
        shares: &mut Vec<Vec<Bucket>>,
        findings: &mut Findings,
    ) -> Result<Pass, VerifyError> {
        // Snapshots first, so that the ledger reaches as far.
        let snapshots = self.reach(&self.lanes.outputs.accounts, Kind::Snapshots, options, findings)?;
        let [tiers, awards] = self.ledger(options, findings)?;
        let ground = self.ground(&[&tiers, &awards]);
        let mut pass = Pass::new(share, self.lanes.buckets, ground, options.memory);
        findings.passes += 1;
        if let Some(against) = &options.against {
            each_head(against, |head| pass.take_head(head))?;
        }
        let parts = [snapshots, tiers, awards];
        self.watcher.begins("reading the ledger", parts.iter().map(Part::records).sum());
        self.read_into(&mut pass, &parts, findings)?;
        self.watcher.ends();
        shares.append(&mut pass.put_off);
        pass.begin_where_cut();
        self.watcher.begins("comparing accounts", 0);
        pass.ask_receipts(self.store.as_mut(), findings)?;
        pass.compare(self.store.as_mut(), findings)?;
        let [_, tiers, awards] = parts;
        let mut parts = [tiers, awards];
        if pass.awaits() {
            // What the store held by then is published since, or is still in the outbox.
            let now = self.ledger(options, findings)?;
            let newer = [now[0].since(&parts[0]), now[1].since(&parts[1])];
            self.read_into(&mut pass, &newer, findings)?;
            pass.ask_receipts(self.store.as_mut(), findings)?;
            parts = now;
        }
        pass.ask_doubted(self.store.as_mut())?;
        pass.parts = parts.into();
        pass.end(findings);
        self.watcher.ends();
        Ok(pass)
    }

    fn read_into(
        &mut self,
        pass: &mut Pass,
        parts: &[Part],
        findings: &mut Findings,
    ) -> Result<(), VerifyError> {
        let Self { store, archive, watcher, .. } = self;
        let mut failed = None;
        for part in parts {
            read(archive.as_ref(), *watcher, part, &mut |record| {
                pass.take(part.kind, &record, findings);
                if pass.asks_much()
                    && let Err(error) = pass.ask_receipts(store.as_mut(), findings)
                {
                    failed = Some(error);
                }
                failed.is_none()
            })?;
            if let Some(error) = failed.take() {
                return Err(error.into());
            }
        }
        Ok(())
    }

    /// Compares what budgets have counted with what the ledger says was paid of them, at a moment at which nothing is paid.
    fn check_budgets(
        &mut self,
        paid: &mut [Paid],
        options: &Options,
        findings: &mut Findings,
    ) -> Result<(), VerifyError> {
        let programmes = || self.lanes.versions.iter();
        let named: BTreeSet<CampaignId> = programmes().flat_map(|programme| programme.budgets()).collect();
        if named.is_empty() && paid.iter().all(|paid| paid.budgets.is_empty()) {
            return Ok(());
        }
        if paid.iter().any(|paid| !paid.is_all) {
            findings.undecided.push(
                "budgets: a part of the ledger is missing, or was written before records said what they take of budgets"
                    .to_owned(),
            );
            return Ok(());
        }
        let mut differed: BTreeMap<CampaignId, (i64, Points)> = BTreeMap::new();
        for round in 0..ROUNDS {
            if round > 0 {
                std::thread::sleep(PAUSE);
            }
            for paid in paid.iter_mut() {
                let now = self.ledger(options, findings)?;
                self.pay_since(paid, now)?;
            }
            let mut sums: BTreeMap<CampaignId, i64> =
                named.iter().map(|campaign| (campaign.clone(), 0)).collect();
            for (campaign, points) in paid.iter().flat_map(|paid| &paid.budgets) {
                let sum = sums.entry(campaign.clone()).or_default();
                *sum = sum.saturating_add(*points);
            }
            let mut differs = BTreeMap::new();
            for (campaign, sum) in &sums {
                let spent = self.store.spent(campaign)?;
                let found = Points(spent.granted.0.saturating_sub(spent.returned.0));
                if found.0 != *sum {
                    differs.insert(campaign.clone(), (*sum, found));
                }
            }
            findings.budgets = sums.len() as u64;
            let is_quiet = self.is_quiet(paid, options, findings)?;
            // What lies in the outbox is counted, and not published.
            if differs.is_empty() || is_quiet && differs == differed && self.is_outbox_empty()? {
                differed = differs;
                for (campaign, (sum, found)) in differed {
                    findings.differences.push(Difference::of_budget(&campaign, Points(sum), found));
                }
                return Ok(());
            }
            differed = differs;
        }
        findings.budgets = 0;
        findings.undecided.push(
            "budgets: points are paid of them all the while, or something is still to be published; verify again when it is quiet"
                .to_owned(),
        );
        Ok(())
    }

    /// Whether nothing has been published since.
    fn is_quiet(
        &self,
        paid: &[Paid],
        options: &Options,
        findings: &mut Findings,
    ) -> Result<bool, VerifyError> {
        let now = self.ledger(options, findings)?;
        let same =
            |paid: &Paid| paid.parts.iter().zip(&now).all(|(then, now)| now.since(then).records() == 0);
        Ok(paid.iter().all(same))
    }

    fn is_outbox_empty(&mut self) -> Result<bool, VerifyError> {
        let wanted: Vec<LoadBucket> = self.lanes.buckets.all().map(LoadBucket::outbox_of).collect();
        Ok(self.store.load(&wanted)?.iter().all(|bucket| bucket.outbox.is_empty()))
    }

    /// Reads on what was paid of budgets.
    fn pay_since(&self, paid: &mut Paid, now: [Part; 2]) -> Result<(), VerifyError> {
        let newer: Vec<Part> = now.iter().zip(&paid.parts).map(|(now, then)| now.since(then)).collect();
        // Published again it is the same.
        let mut known = HashSet::default();
        for part in &newer {
            read(self.archive.as_ref(), self.watcher, part, &mut |record| {
                let published = record.payload.as_deref().and_then(|payload| Published::parse(payload).ok());
                let Some(published) = published else { return true };
                if paid.share.contains(&self.lanes.buckets.of(&published.member))
                    && known.insert(published.id.clone())
                {
                    count_budgets(&mut paid.budgets, &published);
                }
                true
            })?;
        }
        paid.parts = now.into();
        Ok(())
    }
}

/// Reads a part of a topic from its first record to its end, until told to stop.
fn read(
    archive: &dyn Archive,
    watcher: &dyn Watcher,
    part: &Part,
    take: &mut dyn FnMut(Record) -> bool,
) -> Result<(), VerifyError> {
    let mut goes_on = true;
    for reach in part.partitions.iter().filter(|reach| reach.first < reach.end) {
        let of = TopicPartition { topic: part.topic.clone(), partition: reach.partition };
        let stretch = Stretch { of, from: reach.first, until: reach.end };
        let mut number = 0;
        let is_read = archive.scan(&stretch, Instant::now() + LONG, &mut |record| {
            number += 1;
            if number == TOLD_EVERY {
                watcher.reads(std::mem::take(&mut number));
            }
            goes_on = take(record);
            goes_on
        })?;
        watcher.reads(number);
        if !goes_on {
            return Ok(());
        }
        if !is_read {
            return Err(LogError::Retriable(format!("{} was not read to its end", stretch.of)).into());
        }
    }
    Ok(())
}

/// How often a watcher is told, in records.
const TOLD_EVERY: u64 = 1_000;

/// Hands over each head of a file.
fn each_head(file: &std::path::Path, take: impl FnMut(Head)) -> Result<(), VerifyError> {
    let told = |error| VerifyError::Heads { file: file.display().to_string(), error };
    let open = std::fs::File::open(file).map_err(|error| told(error.into()))?;
    read_heads(std::io::BufReader::new(open), take).map_err(told)
}

/// What everything is judged by.
struct Ground {
    trails: Trails,
    versions: Arc<Versions>,
    windows: Windows,
    now: Timestamp,
}

impl Ground {
    fn judge(&self) -> Judge<'_> {
        let Self { trails, versions, windows, now } = self;
        Judge { trails, versions, windows: *windows, now: *now }
    }

    /// Lines of the history that an account keeps.
    fn history(&self) -> u64 {
        self.trails.retention.history as u64
    }
}
