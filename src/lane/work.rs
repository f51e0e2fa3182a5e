//! One bucket's share of a batch: its events in offset order, the accounts they touch, and what was
//! decided. A bucket is written whole or refused whole, and decided again by itself.

use foldhash::{HashMap, HashMapExt};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::hash_map::Entry as Slot;

use super::budgets::{Budget, Purse};
use super::outbox::{self, Channel, Unpublished};
use super::tally::{Effects, Tally};
use super::{Delivered, Fate, Lane, LaneError, LaneSettings, Left};
use crate::account::{Account, Retention};
use crate::entry::{Chain, Change, LedgerReceipts, Message, Renderer};
use crate::event::{Event, Reason, Rejected};
use crate::log::{Header, Log, OutRecord, Record};
use crate::metrics::EventResult;
use crate::programme::{Programme, Versions};
use crate::rules::due::TellTale;
use crate::rules::{self, Draw, Outside, Refusal, clock};
use crate::store::{
    AccountJson, AccountWrite, CommitBucket, Committed, DueAt, Grant, LoadBucket, LoadedBucket, OutboxKey,
    Receipt, ReceiptKey, Returned, Store,
};
use crate::types::{Bucket, CampaignId, Coordinates, MemberId, Outputs, Points, TopicPartition};

/// A larger buffer is given back to the system: a flood of large records must not be remembered for ever.
const LARGEST_SPARE: usize = 1 << 20;

/// One bucket's share of a batch.
#[derive(Debug)]
pub(super) struct BucketWork {
    bucket: Bucket,
    /// Positions in the batch, in its order.
    events: Vec<usize>,
    /// The members' accounts. Loaded ones are evolved in place; a refusal drops them.
    accounts: Vec<Held>,
    /// For each event, where its member's account stands among them: looked up once, and not at every step.
    places: Vec<usize>,
    /// Whether the bucket was refused, so that receipts must be loaded.
    known: Option<Known>,
    verdicts: Vec<Verdict>,
    /// What was decided, for the metrics.
    effects: Effects,
    /// What the events of earlier tries paid that is paid once ever: receipts to load with the others.
    once: Vec<ReceiptKey>,
    /// The records that deciding asked for, as the store has them, see [`crate::record`].
    records: HashMap<ReceiptKey, Option<Receipt>>,
    /// Records that deciding asked for and that are not loaded yet.
    missing: Vec<ReceiptKey>,
    /// Records that were made or changed, each in the receipt of its key.
    changed: HashMap<ReceiptKey, Receipt>,
    /// What comes back to budgets.
    returned: Vec<Returned>,
    /// What was decided takes this of budgets.
    draws: Vec<(Budget, Draw)>,
    grants: Vec<Grant>,
    /// What is to be written of it, if anything.
    commit: Option<CommitBucket>,
}

/// Memory that is used again and again: fresh from the system it costs more than what is written into it.
#[derive(Debug, Default)]
pub(super) struct Spare {
    /// What goes to the outbox is gathered in these.
    records: Vec<Vec<u8>>,
    /// And packed in this one.
    packing: Vec<u8>,
}

impl Spare {
    fn give_back(&mut self, mut records: Vec<u8>) {
        records.clear();
        if records.capacity() <= LARGEST_SPARE {
            self.records.push(records);
        }
        if self.packing.capacity() > 2 * LARGEST_SPARE {
            self.packing = Vec::new();
        }
    }
}

#[derive(Debug)]
struct Held {
    member: MemberId,
    /// The account; it moves on to the cache once it is written.
    account: Option<Box<Account>>,
    /// The version that the store holds.
    stored: u64,
    /// What to publish as the account's snapshot, if it is to be published.
    snapshot: Option<Snapshot>,
    /// Whether an event said something that the next moment depends on at which something falls due.
    due_moves: bool,
    /// What the next moment depended on when the account was loaded.
    tell_tale: TellTale,
    /// The place in the batch of the event that was decided on the account last, by the programme of its time.
    decided: Option<usize>,
}

#[derive(Debug)]
struct Snapshot {
    /// The place in the batch of the event that changed the account last, whose time it bears.
    at: usize,
    /// The payload, once it is written.
    text: Vec<u8>,
}

/// Receipts and unpublished records that the store holds for this bucket's events.
#[derive(Debug, Default)]
struct Known {
    receipts: HashMap<ReceiptKey, Receipt>,
    unpublished: HashMap<(TopicPartition, i64), Vec<Unpublished>>,
}

/// What an event of the bucket turned out to be.
#[derive(Debug)]
enum Verdict {
    /// It counts now.
    Applied {
        /// What to publish: where, for whom, what.
        rendered: Vec<(Channel, MemberId, Vec<u8>)>,
        once: Vec<ReceiptKey>,
        draws: Vec<Draw>,
        returns: Vec<(CampaignId, Points)>,
    },
    /// It counted before the worker crashed: publish what was decided then, byte for byte.
    Again(Vec<Unpublished>),
    /// It counted and was published before.
    Replayed,
    /// Upstream repeated it; told by the event's id or by its business key.
    Duplicate(&'static str),
    /// It cannot count.
    Rejected(Rejected),
    /// The store holds a record that cannot be read.
    Unreadable(String),
}

/// Groups the batch's events by bucket.
pub(super) fn by_bucket(batch: &[Delivered]) -> Vec<BucketWork> {
    let mut places: HashMap<Bucket, usize> = HashMap::new();
    let mut works: Vec<BucketWork> = Vec::new();
    for (at, delivered) in batch.iter().enumerate() {
        let Fate::Event(_, bucket) = &delivered.fate else { continue };
        let place = *places.entry(*bucket).or_insert_with(|| {
            works.push(BucketWork::new(*bucket));
            works.len() - 1
        });
        if let Some(work) = works.get_mut(place) {
            work.events.push(at);
        }
    }
    works
}

fn event(batch: &[Delivered], at: usize) -> Option<(&Event, &Record)> {
    let delivered = batch.get(at)?;
    match &delivered.fate {
        Fate::Event(event, _) => Some((event, &delivered.record)),
        _ => None,
    }
}

impl BucketWork {
    fn new(bucket: Bucket) -> Self {
        Self {
            bucket,
            events: Vec::new(),
            accounts: Vec::new(),
            places: Vec::new(),
            known: None,
            verdicts: Vec::new(),
            effects: Effects::default(),
            once: Vec::new(),
            records: HashMap::new(),
            missing: Vec::new(),
            changed: HashMap::new(),
            returned: Vec::new(),
            draws: Vec::new(),
            grants: Vec::new(),
            commit: None,
        }
    }

    /// Which bucket it is.
    pub(super) fn bucket(&self) -> Bucket {
        self.bucket
    }

    /// Decides every event of the bucket, in order, each by the version of its own time, and evolves the accounts. What campaigns pay of their
    /// budgets is taken out of the purse.
    pub(super) fn decide(
        &mut self,
        batch: &[Delivered],
        settings: &LaneSettings,
        renderer: &Renderer,
        purse: &mut Purse,
    ) {
        let Self {
            events,
            accounts,
            places,
            known,
            verdicts,
            effects,
            draws: drawn,
            grants,
            records,
            missing,
            changed,
            returned,
            ..
        } = self;
        // Receipts that this batch itself makes: the same event twice in one batch counts once.
        let mut fresh: Fresh<'_> = HashMap::with_capacity(2 * events.len());
        let mut fresh_once: Vec<ReceiptKey> = Vec::new();
        let asked: RefCell<Vec<ReceiptKey>> = RefCell::default();
        verdicts.clear();
        verdicts.reserve(events.len());
        *effects = Effects::default();
        drawn.clear();
        grants.clear();
        returned.clear();
        changed.clear();
        for (&at, &place) in events.iter().zip(places.iter()) {
            let Some((event, record)) = event(batch, at) else { continue };
            let programme = settings.versions.at(event.time);
            let (verdict, made_records) = match recognise(event, &record.at, known.as_ref(), &mut fresh) {
                Some(verdict) => (verdict, Vec::new()),
                None => match accounts.get_mut(place).and_then(Held::account_mut) {
                    Some((account, decided)) => {
                        *decided = Some(at);
                        let paid_before = |key: &ReceiptKey| {
                            fresh_once.contains(key)
                                || known.as_ref().is_some_and(|known| known.receipts.contains_key(key))
                        };
                        let left = |campaign: &CampaignId| purse.left(programme, campaign);
                        let recorded = |key: &ReceiptKey| {
                            if let Some(receipt) = changed.get(key) {
                                return receipt.record.clone();
                            }
                            let Some(found) = records.get(key) else {
                                asked.borrow_mut().push(key.clone());
                                return None;
                            };
                            found.as_ref().and_then(|receipt| receipt.record.clone())
                        };
                        let made = |key: &ReceiptKey| {
                            changed.get(key).or_else(|| records.get(key).and_then(Option::as_ref)).cloned()
                        };
                        let deciding = Deciding {
                            programme,
                            retention: &settings.retention,
                            renderer,
                            outside: Outside { paid_before: &paid_before, left: &left, record: &recorded },
                            at: &record.at,
                            made: &made,
                        };
                        decide_event(event, account, &deciding, effects)
                    }
                    None => continue, // every member was loaded; see `Lane::load`
                },
            };
            if let Verdict::Applied { once, draws, returns, .. } = &verdict {
                fresh_once.extend_from_slice(once);
                for draw in draws {
                    let Some(budget) = Budget::of(programme, &draw.campaign) else { continue };
                    purse.take(&budget, draw, grants);
                    drawn.push((budget, draw.clone()));
                }
                returned.extend(
                    returns
                        .iter()
                        .map(|(campaign, points)| Returned { campaign: campaign.clone(), points: *points }),
                );
                changed.extend(made_records);
            }
            if let Verdict::Rejected(_) = verdict {
                forget(event, &record.at, &mut fresh);
            }
            verdicts.push(verdict);
        }
        missing.append(&mut asked.borrow_mut());
    }

    /// Whether deciding asked for records that are not loaded, so that the bucket is to be decided again with them.
    pub(super) fn lacks_records(&self) -> bool {
        !self.missing.is_empty()
    }

    /// Puts together what is to be written of what was decided: right after it was, while all of it is at hand.
    pub(super) fn write_up(
        &mut self,
        batch: &[Delivered],
        versions: &Versions,
        renderer: &Renderer,
        published: Vec<OutboxKey>,
        spare: &mut Spare,
    ) {
        let mut receipts = Vec::with_capacity(2 * self.events.len());
        let mut unpacked: Vec<(OutboxKey, Vec<u8>)> = Vec::new();
        for ((&at, &place), verdict) in self.events.iter().zip(&self.places).zip(&self.verdicts) {
            let Some((event, record)) = event(batch, at) else { continue };
            if let (Verdict::Applied { .. } | Verdict::Again(_), Some(held)) =
                (verdict, self.accounts.get_mut(place))
            {
                let again = matches!(verdict, Verdict::Again(_));
                held.show(at, again);
                // What is published again was written with its moment.
                let moves = event.profile.is_some() || event.internal.is_some() || event.deed.is_some();
                held.due_moves |= !again && moves;
            }
            let Verdict::Applied { rendered, once, .. } = verdict else { continue };
            let receipt = Receipt { at: record.at.clone(), fingerprint: event.fingerprint, record: None };
            if let Some(key) = &event.business_key {
                let with_record = self.changed.remove_entry(key);
                receipts.push(with_record.unwrap_or_else(|| (key.clone(), receipt.clone())));
            }
            receipts.extend(once.iter().map(|key| (key.clone(), receipt.clone())));
            receipts.push((event.receipt_key.clone(), receipt));
            for (channel, member, payload) in rendered {
                let blob = blob_of(&mut unpacked, record, spare);
                outbox::push(blob, record.at.offset, *channel, member, payload);
            }
        }
        let (mut accounts, mut due) = (Vec::with_capacity(self.accounts.len()), Vec::new());
        for held in &mut self.accounts {
            let Held { member, stored, .. } = held;
            let stored = *stored;
            let decided = held.decided.and_then(|at| event(batch, at));
            let programme = decided.map(|(event, _)| versions.at(event.time));
            if let (Some(account), Some(programme)) = (&held.account, programme) {
                if held.due_moves || held.tell_tale.may_move(programme, account) {
                    due.push(DueAt { member: member.clone(), at: clock::next(programme, account) });
                }
                if account.version == stored {
                    // That nothing changes was decided on this version, and may be wrong for another.
                    let json = AccountJson::default();
                    accounts.push(AccountWrite { member: member.clone(), expected: stored, json });
                }
            }
            let (Some(account), Some(snapshot)) = (&mut held.account, &mut held.snapshot) else { continue };
            let Some((event, _)) = event(batch, snapshot.at) else { continue };
            let version = account.version;
            let (text, within) =
                renderer.snapshot(member, version, &event.time_text, |into| account.write_json(into));
            if version == stored {
                snapshot.text = text;
            } else {
                let json = AccountJson::within(text, within);
                accounts.push(AccountWrite { member: member.clone(), expected: stored, json });
            }
        }
        if receipts.is_empty() && published.is_empty() {
            return;
        }
        let outbox = unpacked
            .into_iter()
            .map(|(key, records)| {
                let blob = outbox::pack(&records, &mut spare.packing);
                spare.give_back(records);
                (key, blob)
            })
            .collect();
        self.commit = Some(CommitBucket {
            bucket: self.bucket,
            accounts,
            receipts,
            records: self.changed.drain().collect(),
            outbox,
            published,
            grants: self.grants.clone(),
            returned: self.returned.clone(),
            due,
        });
    }
}

impl BucketWork {
    /// The commit was refused, perhaps because something was paid before that is paid once ever.
    fn remember_once(&mut self) {
        for verdict in &self.verdicts {
            let Verdict::Applied { once, .. } = verdict else { continue };
            for key in once {
                if !self.once.contains(key) {
                    self.once.push(key.clone());
                }
            }
        }
    }

    /// Why a record of the bucket cannot be read, if one cannot.
    pub(super) fn unreadable(&self) -> Option<&str> {
        self.verdicts.iter().find_map(|verdict| match verdict {
            Verdict::Unreadable(why) => Some(why.as_str()),
            _ => None,
        })
    }

    /// What the events wanted and took of budgets.
    pub(super) fn draws(&self) -> &[(Budget, Draw)] {
        &self.draws
    }

    /// Has the bucket decided again, from the accounts as they are stored.
    pub(super) fn undo(&mut self) {
        self.accounts.clear();
        self.places.clear();
        self.verdicts.clear();
        self.commit = None;
        // What was asked for is loaded with the accounts; whoever changed a record changed its account.
        let known = std::mem::take(&mut self.records).into_keys();
        self.missing.extend(known);
    }

    /// The commit is done: what was written is what is published.
    fn written(&mut self, accounts: Vec<AccountWrite>) {
        // Both are in the order of the accounts.
        let mut held = self.accounts.iter_mut();
        for write in accounts {
            let of_it = held.by_ref().find(|held| held.member == write.member);
            let snapshot = of_it.and_then(|held| held.snapshot.as_mut());
            if let Some(snapshot) = snapshot.filter(|_| !write.json.is_empty()) {
                snapshot.text = write.json.into_text();
            }
        }
    }
}

impl Held {
    fn stored(member: MemberId, account: Box<Account>) -> Self {
        Self {
            member,
            stored: account.version,
            tell_tale: TellTale::of(&account),
            account: Some(account),
            snapshot: None,
            due_moves: false,
            decided: None,
        }
    }

    /// The account, and where to note its latest event.
    fn account_mut(&mut self) -> Option<(&mut Account, &mut Option<usize>)> {
        Some((self.account.as_mut()?, &mut self.decided))
    }

    /// Has the account's snapshot published, if the event at this place of the batch changed it or `again` what it changed
    /// is published.
    fn show(&mut self, at: usize, again: bool) {
        let Some(account) = &self.account else { return };
        if again || account.version != self.stored {
            self.snapshot = Some(Snapshot { at, text: Vec::new() });
        }
    }
}

/// The blob of the record's partition, whose key grows to hold the record's offset.
fn blob_of<'a>(
    outbox: &'a mut Vec<(OutboxKey, Vec<u8>)>,
    record: &Record,
    spare: &mut Spare,
) -> &'a mut Vec<u8> {
    let at = &record.at;
    let found = outbox
        .iter()
        .position(|(key, _)| key.partition.partition == at.partition && key.partition.topic == at.topic);
    let place = found.unwrap_or_else(|| {
        let key = OutboxKey { partition: at.topic_partition(), first: at.offset, last: at.offset };
        outbox.push((key, spare.records.pop().unwrap_or_default()));
        outbox.len() - 1
    });
    #[allow(clippy::indexing_slicing)] // `place` was just found or pushed
    let (key, blob) = &mut outbox[place];
    key.last = key.last.max(at.offset);
    blob
}

/// Receipts that a batch itself makes: where the event came in, and its payload's hash.
type Fresh<'b> = HashMap<&'b str, (&'b Coordinates, u64)>;

/// Tells an event that counted before from a new one, and remembers the new one.
fn recognise<'b>(
    event: &'b Event,
    at: &'b Coordinates,
    known: Option<&Known>,
    fresh: &mut Fresh<'b>,
) -> Option<Verdict> {
    let stored = |key: &str| known.and_then(|known| known.receipts.get(key));
    let of_event = stored(&event.receipt_key).map(|receipt| (&receipt.at, receipt.fingerprint));
    if let Some((counted_at, fingerprint)) = of_event.or_else(|| fresh.get(&*event.receipt_key).copied()) {
        return Some(if counted_at == at {
            let place = (at.topic_partition(), at.offset);
            match known.and_then(|known| known.unpublished.get(&place)) {
                Some(records) => Verdict::Again(records.clone()),
                None => Verdict::Replayed,
            }
        } else if fingerprint == event.fingerprint {
            Verdict::Duplicate("event_id")
        } else {
            let detail = format!(
                "event {} came at {counted_at} with another payload; an event is never changed, send a new one",
                event.id
            );
            Verdict::Rejected(Rejected::new(Reason::ConflictingDuplicate, detail))
        });
    }
    let receipt = (at, event.fingerprint);
    if let Some(business) = &event.business_key {
        if stored(business).is_some() || fresh.contains_key(business.as_ref()) {
            return Some(Verdict::Duplicate("business_key"));
        }
        fresh.insert(business, receipt);
    }
    fresh.insert(&event.receipt_key, receipt);
    None
}

/// A rejected event leaves no receipt, so that it can be sent again once it is right.
fn forget(event: &Event, at: &Coordinates, fresh: &mut Fresh<'_>) {
    for key in event.business_key.iter().chain([&event.receipt_key]) {
        if fresh.get(key.as_ref()).is_some_and(|(counted_at, _)| *counted_at == at) {
            fresh.remove(key.as_ref());
        }
    }
}

/// What deciding an event's pay and its place in the store ask for beside the account.
struct Deciding<'a> {
    programme: &'a Programme,
    retention: &'a Retention,
    renderer: &'a Renderer,
    outside: Outside<'a>,
    /// Where the event came in.
    at: &'a Coordinates,
    /// A record's receipt as it is: where a record changes, it stays where it was made.
    made: &'a dyn Fn(&ReceiptKey) -> Option<Receipt>,
}

/// Decides an event that counts, and says which records it makes or changes, each in the receipt of its key, in the order of
/// the keys.
fn decide_event(
    event: &Event,
    account: &mut Account,
    deciding: &Deciding<'_>,
    effects: &mut Effects,
) -> (Verdict, Vec<(ReceiptKey, Receipt)>) {
    let Deciding { programme, retention, renderer, outside, at, made } = deciding;
    let mut outcome = match rules::apply(programme, account, event, retention, outside) {
        Ok(outcome) => outcome,
        Err(refusal) => return (refused(&refusal, account), Vec::new()),
    };
    let own = Receipt { at: (*at).clone(), fingerprint: event.fingerprint, record: None };
    let mut records: Vec<(ReceiptKey, Receipt)> = Vec::with_capacity(outcome.records.len());
    for (key, json) in outcome.records.drain(..) {
        if let Some((_, receipt)) = records.iter_mut().find(|(known, _)| *known == key) {
            receipt.record = Some(json);
            continue;
        }
        let receipt = made(&key).unwrap_or_else(|| own.clone());
        records.push((key, Receipt { record: Some(json), ..receipt }));
    }
    // In the order of their keys: the same decision is the same bytes.
    records.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    let mut left = outcome.applied.first().map(|_| left_receipts(event, &outcome, &own, &records));
    let mut rendered = Vec::with_capacity(outcome.applied.len() + outcome.messages.len());
    effects.unsure(programme, &outcome.unsure);
    for applied in &outcome.applied {
        effects.applied(applied);
        let channel = match applied.change {
            Change::Entry(_) | Change::Noted(_) => Channel::Awards,
            Change::Tier(_) => Channel::TierChanges,
        };
        let mut payload = renderer.change(event, applied, &programme.version, left.take().as_ref());
        Chain::seal(&mut account.chain, &mut payload);
        rendered.push((channel, event.member.clone(), payload));
    }
    rendered.extend(outcome.messages.iter().map(|message| {
        let channel = match message {
            Message::Unclaimed(_) => Channel::Unclaimed,
            _ => Channel::Internal,
        };
        (channel, message.addressee(&event.member).clone(), renderer.message(event, message))
    }));
    let rules::Outcome { once, draws, returns, .. } = outcome;
    (Verdict::Applied { rendered, once, draws, returns }, records)
}

/// What becomes of an event that the rules refuse.
fn refused(refusal: &Refusal, account: &Account) -> Verdict {
    match refusal {
        Refusal::Overflow(overflow) => {
            let detail = format!("{overflow}: the account has {} points", account.available);
            Verdict::Rejected(Rejected::new(Reason::PointsOverflow, detail))
        }
        Refusal::TooManyWaiting => {
            Verdict::Rejected(Rejected::new(Reason::TooManyWaiting, refusal.to_string()))
        }
        Refusal::Unreadable { .. } => Verdict::Unreadable(refusal.to_string()),
    }
}

/// What an event leaves in the store beside its change of the account, for the ledger.
fn left_receipts<'a>(
    event: &'a Event,
    outcome: &'a rules::Outcome,
    own: &'a Receipt,
    records: &'a [(ReceiptKey, Receipt)],
) -> LedgerReceipts<'a> {
    let keys = event.business_key.iter().chain(&outcome.once);
    let is_record = |key: &ReceiptKey| records.iter().any(|(record, _)| record == key);
    let plain = keys.filter(|key| !is_record(key)).map(|key| (key, own));
    let records = records.iter().map(|(key, receipt)| (key, receipt));
    let mut budgets: BTreeMap<CampaignId, Points> = BTreeMap::new();
    let taken = outcome.draws.iter().map(|draw| (&draw.campaign, draw.paid.0.max(0)));
    let returned = outcome.returns.iter().map(|(campaign, points)| (campaign, -points.0));
    for (campaign, points) in taken.chain(returned).filter(|(_, points)| *points != 0) {
        budgets.entry(campaign.clone()).or_default().0 += points;
    }
    LedgerReceipts::new(own, plain.chain(records), budgets)
}

impl<L: Log, S: Store> Lane<L, S> {
    /// Fetches the accounts that the cache lacks; for buckets that were refused also the receipts and
    /// the outbox.
    pub(super) fn load(&mut self, batch: &[Delivered], open: &mut [BucketWork]) -> Result<(), Left> {
        let mut wanted = Vec::new();
        let mut asked = Vec::new();
        for (at, work) in open.iter_mut().enumerate() {
            let mut members = Vec::new();
            let mut places: HashMap<&MemberId, usize> = HashMap::with_capacity(work.events.len());
            work.accounts.reserve_exact(work.events.len());
            work.places.reserve_exact(work.events.len());
            for &at in &work.events {
                let Some((event, _)) = event(batch, at) else { continue };
                let place = *places.entry(&event.member).or_insert_with(|| {
                    let account = self.cache.remove(&event.member).map(|(_, account)| account);
                    let account = account.unwrap_or_else(|| {
                        members.push(event.member.clone());
                        Box::new(Account::new(event.member.clone()))
                    });
                    work.accounts.push(Held::stored(event.member.clone(), account));
                    work.accounts.len() - 1
                });
                work.places.push(place);
            }
            let mut receipts: Vec<ReceiptKey> = if work.known.is_some() {
                receipt_keys(batch, &work.events).chain(work.once.iter().cloned()).collect()
            } else {
                Vec::new()
            };
            let of_events =
                work.events.iter().filter_map(|&at| event(batch, at)).flat_map(|(event, _)| event.records());
            let records: Vec<ReceiptKey> = work.missing.drain(..).chain(of_events).collect();
            for key in records {
                if let Slot::Vacant(slot) = work.records.entry(key) {
                    receipts.push(slot.key().clone());
                    slot.insert(None);
                }
            }
            if !members.is_empty() || !receipts.is_empty() {
                wanted.push(LoadBucket {
                    bucket: work.bucket,
                    members,
                    receipts,
                    outbox: work.known.is_some(),
                });
                asked.push(at);
            }
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let loaded = self.ask_store(|store| store.load(&wanted))?;
        for ((wanted, loaded), at) in wanted.into_iter().zip(loaded).zip(asked) {
            let Some(work) = open.get_mut(at) else { continue };
            self.take_in(work, wanted, loaded)?;
        }
        Ok(())
    }

    fn take_in(
        &mut self,
        work: &mut BucketWork,
        wanted: LoadBucket,
        loaded: LoadedBucket,
    ) -> Result<(), Left> {
        // Who was asked for is in the order of the accounts.
        let mut held = work.accounts.iter_mut();
        for (member, json) in wanted.members.into_iter().zip(loaded.accounts) {
            let held = held.by_ref().find(|held| held.member == member);
            let (Some(held), Some(json)) = (held, json) else { continue };
            let account = Account::from_json(&json).map_err(|error| {
                LaneError::Unreadable(format!("an account in bucket {}: {error}", work.bucket.0))
            })?;
            *held = Held::stored(member, Box::new(account));
        }
        let mut found: Vec<(ReceiptKey, Receipt)> = Vec::new();
        for (key, receipt) in wanted.receipts.into_iter().zip(loaded.receipts) {
            let Some(receipt) = receipt else { continue };
            if let Some(record) = work.records.get_mut(&key) {
                *record = Some(receipt.clone());
            }
            found.push((key, receipt));
        }
        if let Some(known) = &mut work.known {
            known.receipts = found.into_iter().collect();
            known.unpublished.clear();
            for (key, blob) in loaded.outbox {
                for record in outbox::read(&blob).map_err(LaneError::Unreadable)? {
                    let place = (key.partition.clone(), record.offset);
                    known.unpublished.entry(place).or_default().push(record);
                }
                if !self.unpublished.contains(&(work.bucket, key.clone())) {
                    self.unpublished.push((work.bucket, key));
                }
            }
        }
        Ok(())
    }

    /// Commits the open buckets. What is written joins `settled`, and its accounts the cache; what is
    /// refused is returned, to be loaded with receipts and decided again.
    pub(super) fn commit(
        &mut self,
        mut open: Vec<BucketWork>,
        settled: &mut Vec<BucketWork>,
    ) -> Result<Vec<BucketWork>, Left> {
        let mut commits = Vec::with_capacity(open.len());
        let mut places = Vec::with_capacity(open.len());
        for (at, work) in open.iter_mut().enumerate() {
            if let Some(commit) = work.commit.take() {
                commits.push(commit);
                places.push(at);
            }
        }
        for commit in &commits {
            self.leases.trying(&commit.grants);
        }
        let outcomes = match self.ask_store(|store| store.commit(&commits)) {
            Ok(outcomes) => outcomes,
            Err(left) => {
                commits.iter().for_each(|commit| self.leases.forget(&commit.grants));
                return Err(left);
            }
        };
        if outcomes.contains(&Committed::Unconfirmed) {
            tracing::warn!(lane = %self.status.name, "Redis is another than it was; the batch will be read again");
            return Err(self.go_back());
        }
        let mut written = vec![true; open.len()];
        let mut expired = false;
        for ((commit, outcome), at) in commits.into_iter().zip(outcomes).zip(places) {
            self.published.remove(&commit.bucket);
            if outcome == Committed::Written {
                if let Some(work) = open.get_mut(at) {
                    work.written(commit.accounts);
                }
                self.unpublished.extend(commit.outbox.into_iter().map(|(key, _)| (commit.bucket, key)));
            } else {
                match outcome {
                    Committed::LeaseExpired => {
                        expired = true;
                        self.leases.expired(&commit.grants);
                    }
                    _ => self.leases.refused(&commit.grants),
                }
                if let Some(written) = written.get_mut(at) {
                    *written = false;
                }
            }
        }
        let mut refused = Vec::new();
        for (mut work, written) in open.into_iter().zip(written) {
            if written {
                for held in &mut work.accounts {
                    if let Some(account) = held.account.take() {
                        self.cache.insert(held.member.clone(), account);
                    }
                }
                settled.push(work);
            } else {
                work.remember_once();
                work.undo();
                work.known = Some(Known::default());
                refused.push(work);
            }
        }
        if expired {
            // Once is a lane that stood still. Again and again are servers whose clocks differ by more than
            // a lease lives: not to be tried as fast as may be.
            tracing::warn!(lane = %self.status.name, "a lease of a budget was past its deadline; leasing anew");
            let wait = self.backoff();
            self.stay_in_group(wait)?;
        }
        Ok(refused)
    }

    /// What the batch publishes, in the batch's order within each member, and its tally.
    pub(super) fn results(
        &self,
        batch: &[Delivered],
        works: &mut [BucketWork],
        tally: &mut Tally,
    ) -> Vec<OutRecord> {
        let mut records = Vec::with_capacity(batch.len() * 2);
        for delivered in batch {
            match &delivered.fate {
                Fate::Event(..) => {}
                Fate::Skipped => tally.event(None, EventResult::Skipped),
                Fate::Replayed => tally.event(None, EventResult::Replayed),
                Fate::Rejected(rejected) => {
                    tally.event(None, EventResult::DeadLetter);
                    tally.dead_letter(rejected.reason);
                    records.push(self.dead_letter(&delivered.record, rejected));
                }
            }
        }
        for work in works {
            tally.decided(std::mem::take(&mut work.effects));
            for (&at, verdict) in work.events.iter().zip(work.verdicts.drain(..)) {
                let Some((event, record)) = event(batch, at) else { continue };
                let result = match verdict {
                    Verdict::Applied { rendered, .. } => {
                        tally.awarded(record.published_ms);
                        let offset = record.at.offset;
                        for (channel, member, payload) in rendered {
                            if channel == Channel::Unclaimed {
                                tally.dead_letter(Reason::UnknownOrder);
                            }
                            records.push(self.out(Unpublished { offset, channel, member, payload }));
                        }
                        EventResult::Applied
                    }
                    Verdict::Again(unpublished) => {
                        tally.awarded(record.published_ms);
                        records.extend(unpublished.into_iter().map(|unpublished| self.out(unpublished)));
                        EventResult::Applied
                    }
                    Verdict::Replayed => EventResult::Replayed,
                    Verdict::Duplicate(by) => {
                        tally.duplicate(by);
                        EventResult::Duplicate
                    }
                    Verdict::Rejected(rejected) => {
                        tally.dead_letter(rejected.reason);
                        records.push(self.dead_letter(record, &rejected));
                        EventResult::DeadLetter
                    }
                    Verdict::Unreadable(_) => continue, // the lane has ended by it; see `Lane::settle`
                };
                tally.event(Some(&event.kind), result);
            }
            for held in &mut work.accounts {
                let Some(Snapshot { text, .. }) = held.snapshot.take() else { continue };
                records.push(snapshot_of(&self.settings.outputs, &held.member, text));
            }
        }
        records
    }

    pub(super) fn out(&self, record: Unpublished) -> OutRecord {
        out_of(&self.settings.outputs, record)
    }

    /// The record byte for byte, with headers that say where from and why.
    fn dead_letter(&self, record: &Record, rejected: &Rejected) -> OutRecord {
        let mut headers = record.headers.clone();
        headers.extend(why_dead(rejected.reason, &rejected.detail));
        headers.extend([
            header("accrual-topic", record.at.topic.to_string()),
            header("accrual-partition", record.at.partition.to_string()),
            header("accrual-offset", record.at.offset.to_string()),
        ]);
        OutRecord {
            topic: self.settings.outputs.dead_letters.clone(),
            key: record.key.clone(),
            payload: record.payload.clone(),
            headers,
        }
    }
}

/// An account as it is published, from its snapshot.
pub(super) fn snapshot_of(outputs: &Outputs, member: &MemberId, text: Vec<u8>) -> OutRecord {
    OutRecord {
        topic: outputs.accounts.clone(),
        key: Some(member.as_str().as_bytes().to_vec()),
        payload: Some(text),
        headers: Vec::new(),
    }
}

/// What an outbox holds as it is published.
pub(super) fn out_of(outputs: &Outputs, record: Unpublished) -> OutRecord {
    let topic = match record.channel {
        Channel::Awards => &outputs.awards,
        Channel::TierChanges => &outputs.tier_changes,
        Channel::Internal => &outputs.internal,
        Channel::Unclaimed => &outputs.dead_letters,
    };
    let headers = if record.channel == Channel::Unclaimed {
        let detail = "no order of this id was paid within dedupe.window of the refund";
        why_dead(Reason::UnknownOrder, detail)
    } else {
        Vec::new()
    };
    OutRecord {
        topic: topic.clone(),
        key: Some(record.member.as_str().as_bytes().to_vec()),
        payload: Some(record.payload),
        headers,
    }
}

fn header(name: &str, value: String) -> Header {
    Header { name: name.to_owned(), value: Some(value.into_bytes()) }
}

/// What says why a record is a dead letter.
fn why_dead(reason: Reason, detail: &str) -> Vec<Header> {
    vec![header("accrual-reason", reason.as_str().to_owned()), header("accrual-detail", detail.to_owned())]
}

/// Every receipt that could tell that one of these events counted before.
fn receipt_keys(batch: &[Delivered], events: &[usize]) -> impl Iterator<Item = ReceiptKey> {
    events
        .iter()
        .filter_map(|&at| event(batch, at))
        .flat_map(|(event, _)| event.business_key.iter().chain([&event.receipt_key]).cloned())
}
