//! Accounts in this process's memory: for the demo, `simulate` and the simulation. The same answers
//! as Redis, down to receipts that expire by generation; nothing outlives the process.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use foldhash::fast::RandomState;

use super::budget::portion;
use super::{
    Claimed, CommitBucket, Committed, Deployment, DueAt, Lease, LeaseId, LeaseRequest, LoadBucket,
    LoadedBucket, Located, OffsetRange, OutboxKey, Receipt, ReceiptKey, RestoreBucket, Restored, ServerId,
    Spent, Store, StoreError, StoreSettings, add_range, event_of, holds_version, is_business, never_expires,
    window_seconds,
};
use crate::types::{Bucket, Buckets, CampaignId, EventId, MemberId, Points, TopicName, TopicPartition};

/// A map that is hashed fast; its order is never looked at.
type FastMap<K, V> = HashMap<K, V, RandomState>;

/// A store in memory. A clone is another handle on the same store, as another connection would be.
#[derive(Clone, Debug)]
pub struct MemoryStore {
    state: Arc<Mutex<State>>,
    /// The server that this handle's commits of a bucket rest on.
    adopted: BTreeMap<Bucket, ServerId>,
}

/// What a store held at a moment, as a server's dump or a replica that lags behind.
#[derive(Clone, Debug)]
pub struct Dump(State);

#[derive(Clone, Debug)]
struct State {
    /// How many times its memory was replaced by another: its name.
    life: u64,
    settings: StoreSettings,
    clock: Clock,
    buckets: BTreeMap<Bucket, BucketState>,
    sources: BTreeMap<TopicPartition, Vec<OffsetRange>>,
    budgets: BTreeMap<CampaignId, Budget>,
    deployment: Option<Deployment>,
}

/// What generations of receipts are counted by.
#[derive(Clone, Copy, Debug)]
enum Clock {
    /// Stands still until [`MemoryStore::advance`].
    Set(Duration),
    /// Runs on from what the time was when the store was made.
    Running { then: Duration, since: Instant },
}

#[derive(Clone, Default, Debug)]
struct BucketState {
    /// The server that it was last found whole on.
    confirmed: Option<ServerId>,
    accounts: FastMap<MemberId, Vec<u8>>,
    /// The generation that `current` belongs to; `previous` is the one before it.
    generation: u64,
    current: FastMap<ReceiptKey, Receipt>,
    previous: FastMap<ReceiptKey, Receipt>,
    /// Receipts of business keys, of this long generation and the one before it.
    business: FastMap<ReceiptKey, Receipt>,
    business_before: FastMap<ReceiptKey, Receipt>,
    /// Receipts that never expire.
    forever: FastMap<ReceiptKey, Receipt>,
    outbox: BTreeMap<OutboxKey, Vec<u8>>,
    /// Points granted out of leases that have not ended.
    granted: BTreeMap<(CampaignId, LeaseId), i64>,
    /// Points that came back to budgets.
    returned: BTreeMap<CampaignId, i64>,
    due: BTreeMap<MemberId, i64>,
}

/// What became of a budget.
#[derive(Clone, Default, Debug)]
struct Budget {
    /// Points granted out of leases that ended.
    settled: i64,
    leases: BTreeMap<LeaseId, Leased>,
}

/// A lease; its times in milliseconds by the store's clock.
#[derive(Clone, Copy, Debug)]
struct Leased {
    points: Points,
    deadline: u64,
    lapses: u64,
}

impl BucketState {
    /// Forgets the generations that are no longer looked at; a long one is so many others.
    fn turn_to(&mut self, generation: u64, long: u64) {
        match (generation / long).saturating_sub(self.generation / long) {
            0 => {}
            1 => self.business_before = std::mem::take(&mut self.business),
            _ => {
                self.business.clear();
                self.business_before.clear();
            }
        }
        match generation.saturating_sub(self.generation) {
            0 => return,
            1 => self.previous = std::mem::take(&mut self.current),
            _ => {
                self.current.clear();
                self.previous.clear();
            }
        }
        self.generation = generation;
    }

    fn receipt(&self, key: &ReceiptKey) -> Option<&Receipt> {
        let places = [&self.current, &self.previous, &self.forever, &self.business, &self.business_before];
        places.into_iter().find_map(|place| place.get(key))
    }

    fn load(&self, wanted: &LoadBucket) -> LoadedBucket {
        let accounts = wanted.members.iter().map(|member| self.accounts.get(member).cloned()).collect();
        if wanted.receipts.is_empty() {
            return LoadedBucket { accounts, ..LoadedBucket::default() };
        }
        LoadedBucket {
            accounts,
            receipts: wanted.receipts.iter().map(|key| self.receipt(key).cloned()).collect(),
            outbox: if wanted.outbox {
                self.outbox.iter().map(|(key, blob)| (key.clone(), blob.clone())).collect()
            } else {
                Vec::new()
            },
        }
    }

    fn set_due(&mut self, due: &DueAt) {
        match due.at {
            Some(at) => _ = self.due.insert(due.member.clone(), at),
            None => _ = self.due.remove(&due.member),
        }
    }

    fn claim_due(&mut self, now: i64, most: usize, hold: i64) -> Vec<MemberId> {
        let mut due: Vec<(i64, MemberId)> =
            self.due.iter().filter(|(_, at)| **at <= now).map(|(member, at)| (*at, member.clone())).collect();
        due.sort_unstable();
        due.truncate(most);
        for (_, member) in &due {
            self.due.insert(member.clone(), now + hold);
        }
        due.into_iter().map(|(_, member)| member).collect()
    }

    fn keep(&mut self, key: &ReceiptKey, receipt: &Receipt) {
        let kept = match key {
            key if never_expires(key) => &mut self.forever,
            key if is_business(key) => &mut self.business,
            _ => &mut self.current,
        };
        kept.insert(key.clone(), receipt.clone());
    }

    fn restore(&mut self, wanted: &RestoreBucket) -> Restored {
        let mut restored = Restored::default();
        for event in &wanted.events {
            if self.receipt(&event.key).is_some() {
                continue;
            }
            restored.events += 1;
            self.keep(&event.key, &event.receipt);
            for (key, receipt) in &event.others {
                // A record that was lost before it was published is made anew when its event is read again.
                if event.changed(receipt) == self.receipt(key).is_some() {
                    self.keep(key, receipt);
                }
            }
            for (campaign, points) in &event.budgets {
                *self.returned.entry(campaign.clone()).or_default() -= points.0;
            }
        }
        for account in &wanted.accounts {
            let held = self.accounts.get(&account.member).map(Vec::as_slice);
            if super::version_of(held) >= account.version {
                continue;
            }
            restored.accounts += 1;
            self.set_due(&DueAt { member: account.member.clone(), at: account.due });
            self.accounts.insert(account.member.clone(), account.json.clone());
        }
        restored
    }

    fn commit(&mut self, wanted: &CommitBucket, now: u64) -> Committed {
        for key in &wanted.published {
            self.outbox.remove(key);
        }
        let stale = wanted
            .accounts
            .iter()
            .any(|write| !holds_version(self.accounts.get(&write.member).map(Vec::as_slice), write.expected));
        if stale || wanted.receipts.iter().any(|(key, _)| self.receipt(key).is_some()) {
            return Committed::Refused;
        }
        if wanted.grants.iter().any(|grant| now >= grant.deadline) {
            return Committed::LeaseExpired;
        }
        for grant in &wanted.grants {
            *self.granted.entry((grant.campaign.clone(), grant.lease)).or_default() += grant.points.0;
        }
        for returned in &wanted.returned {
            *self.returned.entry(returned.campaign.clone()).or_default() += returned.points.0;
        }
        wanted.due.iter().for_each(|due| self.set_due(due));
        for write in wanted.accounts.iter().filter(|write| !write.json.is_empty()) {
            self.accounts.insert(write.member.clone(), write.json.to_vec());
        }
        for (key, receipt) in &wanted.receipts {
            self.keep(key, receipt);
        }
        self.business.extend(wanted.records.iter().cloned());
        self.outbox.extend(wanted.outbox.iter().cloned());
        Committed::Written
    }
}

impl State {
    fn server(&self) -> ServerId {
        ServerId::new(format!("memory {}", self.life))
    }

    fn now(&self) -> Duration {
        match self.clock {
            Clock::Set(now) => now,
            Clock::Running { then, since } => then.saturating_add(since.elapsed()),
        }
    }

    fn generation(&self) -> u64 {
        self.now().as_secs() / window_seconds(&self.settings)
    }

    /// A bucket as of now.
    fn bucket(&mut self, number: Bucket) -> &mut BucketState {
        let (generation, long) = (self.generation(), self.settings.long_generation());
        let bucket = self.buckets.entry(number).or_default();
        bucket.turn_to(generation, long);
        bucket
    }

    /// The clock in milliseconds.
    fn millis(&self) -> u64 {
        millis(self.now())
    }

    /// Counts what was granted out of a lease as spent, and frees the rest.
    fn end_lease(&mut self, campaign: &CampaignId, lease: LeaseId) {
        let Some(budget) = self.budgets.get_mut(campaign) else { return };
        if budget.leases.remove(&lease).is_none() {
            return;
        }
        let of_lease = (campaign.clone(), lease);
        for bucket in self.buckets.values_mut() {
            budget.settled += bucket.granted.remove(&of_lease).unwrap_or_default();
        }
    }

    fn lease(&mut self, wanted: &LeaseRequest) -> Lease {
        let now = self.millis();
        let budget = self.budgets.entry(wanted.campaign.clone()).or_default();
        let has_lapsed = |(name, lease): &(&LeaseId, &Leased)| **name != wanted.lease && now > lease.lapses;
        let lapsed: Vec<LeaseId> = budget.leases.iter().filter(has_lapsed).map(|(name, _)| *name).collect();
        for lease in lapsed {
            self.end_lease(&wanted.campaign, lease);
        }
        let budget = self.budgets.entry(wanted.campaign.clone()).or_default();
        let leased: i64 = budget.leases.values().map(|lease| lease.points.0).sum();
        let returned: i64 =
            self.buckets.values().filter_map(|bucket| bucket.returned.get(&wanted.campaign)).sum();
        let whole = wanted.budget.0.saturating_add(returned);
        let free = Points(whole.saturating_sub(budget.settled).saturating_sub(leased).max(0));
        if let Some(mine) = budget.leases.get(&wanted.lease) {
            return Lease { points: mine.points, deadline: mine.deadline, free };
        }
        let points = portion(free, wanted.needed);
        let deadline = now.saturating_add(millis(wanted.life));
        if points > Points::ZERO {
            let lapses = deadline.saturating_add(millis(wanted.grace()));
            budget.leases.insert(wanted.lease, Leased { points, deadline, lapses });
        }
        Lease { points, deadline, free: Points(free.0 - points.0) }
    }
}

/// Whole milliseconds.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl MemoryStore {
    /// An empty store whose clock stands still until [`MemoryStore::advance`].
    pub fn new(settings: StoreSettings) -> Self {
        Self::at(settings, Duration::ZERO)
    }

    /// The same at another time since 1970.
    pub fn at(settings: StoreSettings, now: Duration) -> Self {
        Self::with_clock(settings, Clock::Set(now))
    }

    /// An empty store on the time as it is.
    pub fn on_running_clock(settings: StoreSettings) -> Self {
        let then = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self::with_clock(settings, Clock::Running { then, since: Instant::now() })
    }

    fn with_clock(settings: StoreSettings, clock: Clock) -> Self {
        let state = State {
            life: 0,
            settings,
            clock,
            buckets: BTreeMap::new(),
            sources: BTreeMap::new(),
            budgets: BTreeMap::new(),
            deployment: None,
        };
        Self { state: Arc::new(Mutex::new(state)), adopted: BTreeMap::new() }
    }

    /// What it holds now.
    pub fn dump(&self) -> Dump {
        Dump(self.lock().clone())
    }

    /// Goes on from what was held at another moment, as a server does that is started from a dump, or a replica that
    /// takes over. Its clock goes on from now.
    pub fn go_on_from(&self, dump: &Dump) {
        let mut state = self.lock();
        let (life, clock) = (state.life + 1, state.clock);
        *state = State { life, clock, ..dump.0.clone() };
    }

    /// Loses everything.
    pub fn lose_everything(&self) {
        let mut state = self.lock();
        state.life += 1;
        (state.buckets, state.sources, state.budgets) = Default::default();
        state.deployment = None;
    }

    /// When something falls due next, by member.
    pub fn due(&self) -> BTreeMap<MemberId, i64> {
        let state = self.lock();
        let due = state.buckets.values().flat_map(|bucket| &bucket.due);
        due.map(|(member, at)| (member.clone(), *at)).collect()
    }

    /// The time since 1970.
    pub fn now(&self) -> Duration {
        self.lock().now()
    }

    /// Lets time pass for every handle. A running clock stands still from then on.
    pub fn advance(&self, by: Duration) {
        let mut state = self.lock();
        state.clock = Clock::Set(state.now().saturating_add(by));
    }

    /// A member's account as it was written.
    pub fn account(&self, member: &MemberId) -> Option<Vec<u8>> {
        let state = self.lock();
        let bucket = Buckets(state.settings.buckets).of(member);
        state.buckets.get(&bucket)?.accounts.get(member).cloned()
    }

    /// Every account as it was written, by member.
    pub fn accounts(&self) -> BTreeMap<MemberId, Vec<u8>> {
        let state = self.lock();
        let accounts = state.buckets.values().flat_map(|bucket| &bucket.accounts);
        accounts.map(|(member, json)| (member.clone(), json.clone())).collect()
    }

    /// Every receipt that would be found now, by bucket and key.
    pub fn receipts(&self) -> BTreeMap<(Bucket, ReceiptKey), Receipt> {
        let mut state = self.lock();
        let numbers: Vec<Bucket> = state.buckets.keys().copied().collect();
        let mut found = BTreeMap::new();
        for number in &numbers {
            let bucket = state.bucket(*number);
            let all = [&bucket.previous, &bucket.current, &bucket.business_before, &bucket.business];
            found.extend(
                all.into_iter().flatten().map(|(key, receipt)| ((*number, key.clone()), receipt.clone())),
            );
        }
        found
    }

    /// A poisoned lock is taken all the same: whoever panicked, did so outside of this module, where
    /// nothing is left half done.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn load(&mut self, wanted: &[LoadBucket]) -> Result<Vec<LoadedBucket>, StoreError> {
        let mut state = self.lock();
        Ok(wanted.iter().map(|wanted| state.bucket(wanted.bucket).load(wanted)).collect())
    }

    fn commit(&mut self, buckets: &[CommitBucket]) -> Result<Vec<Committed>, StoreError> {
        let mut state = self.lock();
        let (now, server) = (state.millis(), state.server());
        let commit = |wanted: &CommitBucket| {
            let bucket = state.bucket(wanted.bucket);
            let is_whole = bucket.confirmed.as_ref() == Some(&server);
            if !is_whole || self.adopted.get(&wanted.bucket) != Some(&server) {
                return Committed::Unconfirmed;
            }
            bucket.commit(wanted, now)
        };
        Ok(buckets.iter().map(commit).collect())
    }

    fn outbox(&mut self, partitions: &[TopicPartition]) -> Result<Vec<(Bucket, OutboxKey)>, StoreError> {
        let wanted: BTreeSet<&TopicPartition> = partitions.iter().collect();
        let state = self.lock();
        let every =
            state.buckets.iter().flat_map(|(number, bucket)| bucket.outbox.keys().map(|key| (*number, key)));
        let of_these = every.filter(|(_, key)| wanted.contains(&key.partition));
        Ok(of_these.map(|(bucket, key)| (bucket, key.clone())).collect())
    }

    fn outbox_entry(&mut self, bucket: Bucket, key: &OutboxKey) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.lock().buckets.get(&bucket).and_then(|bucket| bucket.outbox.get(key)).cloned())
    }

    fn clear_outbox(&mut self, published: &[(Bucket, OutboxKey)]) -> Result<(), StoreError> {
        let mut state = self.lock();
        for (bucket, key) in published {
            if let Some(bucket) = state.buckets.get_mut(bucket) {
                bucket.outbox.remove(key);
            }
        }
        Ok(())
    }

    fn processed(&mut self, partitions: &[TopicPartition]) -> Result<Vec<Vec<OffsetRange>>, StoreError> {
        let state = self.lock();
        let ranges = |partition| state.sources.get(partition).cloned().unwrap_or_default();
        Ok(partitions.iter().map(ranges).collect())
    }

    fn add_processed(&mut self, ranges: &[(TopicPartition, OffsetRange)]) -> Result<(), StoreError> {
        let mut state = self.lock();
        for (partition, range) in ranges {
            add_range(state.sources.entry(partition.clone()).or_default(), *range);
        }
        Ok(())
    }

    fn sources(&mut self, topic: &TopicName) -> Result<Vec<(TopicPartition, Vec<OffsetRange>)>, StoreError> {
        let state = self.lock();
        let of_topic = state.sources.iter().filter(|(partition, _)| partition.topic == *topic);
        Ok(of_topic.map(|(partition, ranges)| (partition.clone(), ranges.clone())).collect())
    }

    fn forget_processed(&mut self, partitions: &[TopicPartition]) -> Result<(), StoreError> {
        self.lock().sources.retain(|partition, _| !partitions.contains(partition));
        Ok(())
    }

    fn lease(&mut self, wanted: &LeaseRequest) -> Result<Lease, StoreError> {
        Ok(self.lock().lease(wanted))
    }

    fn end_lease(&mut self, campaign: &CampaignId, lease: LeaseId) -> Result<(), StoreError> {
        self.lock().end_lease(campaign, lease);
        Ok(())
    }

    fn claim_due(&mut self, buckets: &[Bucket], most: usize, hold: Duration) -> Result<Claimed, StoreError> {
        let mut state = self.lock();
        let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        let (now, hold) = (seconds(state.now()), seconds(hold));
        let mut claim = |bucket: &Bucket| match state.buckets.get_mut(bucket) {
            Some(bucket) => bucket.claim_due(now, most, hold),
            None => Vec::new(),
        };
        Ok(Claimed { now, members: buckets.iter().map(&mut claim).collect() })
    }

    fn set_due(&mut self, due: &[(Bucket, DueAt)]) -> Result<(), StoreError> {
        let mut state = self.lock();
        for (bucket, due) in due {
            state.buckets.entry(*bucket).or_default().set_due(due);
        }
        Ok(())
    }

    fn due_of(&mut self, wanted: &[(Bucket, Vec<MemberId>)]) -> Result<Vec<Vec<Option<i64>>>, StoreError> {
        let state = self.lock();
        let of_bucket = |(bucket, members): &(Bucket, Vec<MemberId>)| {
            let due = state.buckets.get(bucket).map(|bucket| &bucket.due);
            members.iter().map(|member| due.and_then(|due| due.get(member)).copied()).collect()
        };
        Ok(wanted.iter().map(of_bucket).collect())
    }

    fn each_member(
        &mut self,
        buckets: &[Bucket],
        take: &mut dyn FnMut(Bucket, MemberId),
    ) -> Result<(), StoreError> {
        let state = self.lock();
        for bucket in buckets {
            let accounts = state.buckets.get(bucket).into_iter().flat_map(|bucket| bucket.accounts.keys());
            accounts.for_each(|member| take(*bucket, member.clone()));
        }
        Ok(())
    }

    fn spent(&mut self, campaign: &CampaignId) -> Result<Spent, StoreError> {
        let state = self.lock();
        let settled = state.budgets.get(campaign).map_or(0, |budget| budget.settled);
        let buckets = || state.buckets.values();
        let open = buckets().flat_map(|bucket| &bucket.granted).filter(|((of, _), _)| of == campaign);
        let granted = open.fold(settled, |sum, (_, points)| sum.saturating_add(*points));
        let returned = buckets().filter_map(|bucket| bucket.returned.get(campaign)).sum();
        Ok(Spent { granted: Points(granted), returned: Points(returned) })
    }

    fn check_deployment(&mut self, wanted: &Deployment) -> Result<Deployment, StoreError> {
        Ok(self.lock().deployment.get_or_insert_with(|| wanted.clone()).clone())
    }

    fn find_events(
        &mut self,
        buckets: &[Bucket],
        id: &str,
        _deadline: Instant,
    ) -> Result<Vec<(EventId, Receipt)>, StoreError> {
        let mut state = self.lock();
        let mut found = Vec::new();
        for bucket in buckets {
            let bucket = state.bucket(*bucket);
            let both = bucket.previous.iter().chain(&bucket.current);
            let events = both.filter_map(|(key, receipt)| Some((event_of(key)?, receipt.clone())));
            found.extend(events.filter(|(event, _)| &*event.id == id));
        }
        found.sort_by(|left, right| left.0.cmp(&right.0));
        Ok(found)
    }

    fn locate(&mut self) -> Result<Vec<Located>, StoreError> {
        let mut state = self.lock();
        let server = state.server();
        let buckets = Buckets(state.settings.buckets).all();
        let located = buckets.map(|bucket| Located {
            bucket,
            server: server.clone(),
            confirmed: state.bucket(bucket).confirmed.clone(),
        });
        Ok(located.collect())
    }

    fn adopt(&mut self, located: &[Located]) -> bool {
        let before = self.adopted.clone();
        self.adopted.extend(located.iter().map(|located| (located.bucket, located.server.clone())));
        before != self.adopted
    }

    fn confirm(&mut self, located: &[Located]) -> Result<bool, StoreError> {
        let mut state = self.lock();
        let server = state.server();
        if located.iter().any(|located| located.server != server) {
            return Ok(false);
        }
        for located in located {
            state.bucket(located.bucket).confirmed = Some(server.clone());
        }
        Ok(true)
    }

    fn is_unmoved(&mut self, buckets: &[Bucket]) -> Result<bool, StoreError> {
        let server = self.lock().server();
        Ok(buckets.iter().all(|bucket| self.adopted.get(bucket) == Some(&server)))
    }

    fn restore(&mut self, buckets: &[RestoreBucket]) -> Result<Option<Restored>, StoreError> {
        let mut state = self.lock();
        let server = state.server();
        if buckets.iter().any(|wanted| wanted.server != server) {
            return Ok(None);
        }
        let mut restored = Restored::default();
        for wanted in buckets {
            restored += state.bucket(wanted.bucket).restore(wanted);
        }
        Ok(Some(restored))
    }

    fn probe(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}
