//! A log in memory that keeps Kafka's promises, for the simulation: partitions, a consumer group with
//! generations, transactions that are seen whole or not at all, and fencing of producers (by their
//! id) and of group members (by their generation).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{
    Archive, Assigned, KeyQuery, Log, LogError, OutRecord, Partitions, Polled, Position, Reach, Record,
    Stretch, shorter_than_known,
};
use crate::types::{Coordinates, TopicName, TopicPartition};

/// The broker, shared by all that are connected to it.
#[derive(Clone, Debug, Default)]
pub struct MemoryBroker {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// The topics that the consumer group reads.
    inputs: Vec<TopicName>,
    partitions: BTreeMap<TopicPartition, Vec<Stored>>,
    committed: BTreeMap<TopicPartition, (i64, String)>,
    /// Members of the one consumer group, by the order in which they joined.
    members: BTreeMap<u64, Vec<TopicPartition>>,
    joined: u64,
    generation: u64,
    /// Producer epochs by transactional id.
    epochs: HashMap<String, u64>,
    /// Partitions whose offsets are part of an open transaction, with that transaction's id. Whoever
    /// asks for their committed offsets must wait (KIP-447).
    unstable: BTreeMap<TopicPartition, String>,
    /// Where the records of open transactions stand, by their id.
    undecided: BTreeMap<String, Vec<(TopicPartition, usize)>>,
    /// First offset that still exists, by partition.
    low_watermarks: BTreeMap<TopicPartition, i64>,
    /// When records were published (milliseconds since 1970), of those for which it is known.
    published: HashMap<Coordinates, i64>,
}

/// A place in a partition.
#[derive(Clone, Debug)]
enum Stored {
    Record(OutRecord),
    /// Of an open transaction: nobody reads it, nor what stands behind it.
    Undecided(OutRecord),
    /// The marker that ends a transaction, or what was aborted.
    Nothing,
}

impl MemoryBroker {
    /// A broker with input topics of so many partitions each.
    pub fn new(inputs: &[(TopicName, i32)]) -> Self {
        let broker = Self::default();
        for (topic, partitions) in inputs {
            broker.create(topic, *partitions);
            broker.lock().inputs.push(topic.clone());
        }
        broker
    }

    /// Makes a topic, which the group does not read unless it subscribes to it.
    pub fn create(&self, topic: &TopicName, partitions: i32) {
        let partition = |partition| TopicPartition { topic: topic.clone(), partition };
        self.lock().partitions.extend((0..partitions).map(|number| (partition(number), Vec::new())));
    }

    /// The group reads these topics from here on, and no others.
    pub fn subscribe(&self, topics: &[&TopicName]) {
        let mut state = self.lock();
        state.inputs = topics.iter().map(|topic| (*topic).clone()).collect();
        state.rebalance();
    }

    // A panic elsewhere while the lock is held leaves the state whole: every change below is one step.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes a record as an upstream without transactions does; returns its offset.
    pub fn produce(&self, partition: &TopicPartition, key: Option<Vec<u8>>, payload: Vec<u8>) -> i64 {
        let mut state = self.lock();
        let log = state.partitions.entry(partition.clone()).or_default();
        log.push(Stored::Record(OutRecord {
            topic: partition.topic.clone(),
            key,
            payload: Some(payload),
            headers: Vec::new(),
        }));
        i64::try_from(log.len()).unwrap_or(i64::MAX) - 1
    }

    /// The same, at a time in milliseconds since 1970.
    pub fn produce_at(&self, partition: &TopicPartition, payload: Vec<u8>, published_ms: i64) -> i64 {
        let offset = self.produce(partition, None, payload);
        let TopicPartition { topic, partition } = partition.clone();
        self.lock().published.insert(Coordinates { topic, partition, offset }, published_ms);
        offset
    }

    /// A transaction of an upstream took places in a partition that hold nothing to be read: those of its marker and
    /// of what it aborted.
    pub fn leave_out(&self, partition: &TopicPartition, places: usize) {
        let mut state = self.lock();
        let log = state.partitions.entry(partition.clone()).or_default();
        log.extend(std::iter::repeat_n(Stored::Nothing, places));
    }

    /// Every committed record of a topic, in order: what a `read_committed` reader sees.
    pub fn read(&self, topic: &TopicName) -> Vec<OutRecord> {
        let state = self.lock();
        let partitions = state.partitions.keys().filter(|partition| partition.topic == *topic);
        let stored = partitions.flat_map(|partition| state.decided(partition));
        stored.filter_map(Stored::record).cloned().collect()
    }

    /// An operator resets the group's offsets, to the end where a partition is shorter. It needs a group without members.
    pub fn reset_offsets(&self, to: i64) {
        let mut state = self.lock();
        let State { partitions, committed, .. } = &mut *state;
        for (partition, committed) in committed {
            let end = partitions.get(partition).map_or(0, Vec::len);
            *committed = (to.min(i64::try_from(end).unwrap_or(i64::MAX)), String::new());
        }
    }

    /// Offsets are committed by themselves, as by a client without transactions.
    pub fn commit_offsets(&self, positions: &[Position]) {
        let mut state = self.lock();
        for Position { partition, next, metadata } in positions {
            state.committed.insert(partition.clone(), (*next, metadata.clone()));
        }
    }

    /// The group's committed offsets.
    pub fn committed(&self) -> BTreeMap<TopicPartition, i64> {
        self.lock().committed.iter().map(|(partition, (offset, _))| (partition.clone(), *offset)).collect()
    }

    /// How many records the group has not committed yet.
    pub fn lag(&self) -> usize {
        let State { inputs, partitions, committed, .. } = &*self.lock();
        let read = partitions.iter().filter(|(partition, _)| inputs.contains(&partition.topic));
        let unread = |(partition, log): (&TopicPartition, &Vec<Stored>)| {
            records_from(log, committed.get(partition).map_or(0, |(next, _)| *next))
        };
        read.map(unread).sum()
    }

    /// The offset after the last of each partition of a topic.
    pub fn ends(&self, topic: &TopicName) -> BTreeMap<TopicPartition, i64> {
        let state = self.lock();
        let partitions = state.partitions.iter().filter(|(partition, _)| partition.topic == *topic);
        partitions.map(|(partition, log)| (partition.clone(), end(log))).collect()
    }

    /// A topic is deleted and made anew with as many partitions. The group's offsets of it go with it, as Kafka lets them go.
    pub fn recreate(&self, topic: &TopicName) {
        let mut state = self.lock();
        let State { partitions, committed, undecided, low_watermarks, published, .. } = &mut *state;
        published.retain(|at, _| at.topic != *topic);
        undecided.values_mut().for_each(|open| open.retain(|(partition, _)| partition.topic != *topic));
        partitions
            .iter_mut()
            .filter(|(partition, _)| partition.topic == *topic)
            .for_each(|(_, log)| log.clear());
        committed.retain(|partition, _| partition.topic != *topic);
        low_watermarks.retain(|partition, _| partition.topic != *topic);
        state.rebalance();
    }

    /// The group's offsets are lost, as those of a group that nobody was in for some days.
    pub fn lose_offsets(&self) {
        let mut state = self.lock();
        state.committed.clear();
        state.rebalance();
    }

    /// Retention takes what lies below an offset.
    pub fn expire(&self, partition: &TopicPartition, below: i64) {
        self.lock().low_watermarks.insert(partition.clone(), below);
    }

    /// Connects a lane: a new member of the group (which is rebalanced) and a producer whose id fences
    /// older ones and ends their open transactions.
    pub fn connect(&self, transactional_id: &str) -> MemoryLog {
        let mut state = self.lock();
        state.joined += 1;
        let member = state.joined;
        state.members.insert(member, Vec::new());
        state.rebalance();
        let epoch = state.next_epoch(transactional_id);
        drop(state);
        MemoryLog {
            broker: self.clone(),
            transactional_id: transactional_id.to_owned(),
            member,
            generation: 0,
            epoch,
            owned: BTreeMap::new(),
            transaction: None,
            told: false,
            has_left: false,
            caught_up: false,
        }
    }

    /// The group gives its partitions out anew, as when a member's heartbeats stop. The members learn
    /// of it at their next poll.
    pub fn rebalance(&self) {
        self.lock().rebalance();
    }

    /// Transactions that were left open time out: they are aborted and their producers fenced.
    pub fn time_out_transactions(&self) {
        let mut state = self.lock();
        let open: BTreeSet<String> = state.unstable.values().chain(state.undecided.keys()).cloned().collect();
        for id in open {
            state.next_epoch(&id);
        }
    }

    /// A member dies: the group notices at once.
    pub fn remove_member(&self, member: u64) {
        let mut state = self.lock();
        state.members.remove(&member);
        state.rebalance();
    }
}

/// Each topic that is published to has one partition; of few records is it known when they were published.
impl Archive for MemoryBroker {
    fn record(&self, at: &Coordinates, _deadline: Instant) -> Result<Option<Record>, LogError> {
        let state = self.lock();
        let partition = at.topic_partition();
        if at.offset < state.low_watermarks.get(&partition).copied().unwrap_or_default() {
            return Ok(None);
        }
        let offset = usize::try_from(at.offset).ok();
        let stored = offset.and_then(|offset| state.decided(&partition).get(offset));
        Ok(stored.and_then(Stored::record).map(|record| state.record(record, at.clone())))
    }

    fn of_key(
        &self,
        wanted: &KeyQuery<'_>,
        _deadline: Instant,
        found: &mut dyn FnMut(&[u8], Option<i64>),
    ) -> Result<bool, LogError> {
        let state = self.lock();
        for partition in state.partitions.keys().filter(|partition| partition.topic == *wanted.topic) {
            if (partition.partition == 0) != (wanted.partitions == Partitions::Usual) {
                continue;
            }
            let low = state.low_watermarks.get(partition).copied().unwrap_or_default();
            for stored in state.decided(partition).iter().skip(usize::try_from(low).unwrap_or_default()) {
                if let Stored::Record(OutRecord { key: Some(key), payload: Some(payload), .. }) = stored
                    && key == wanted.key
                {
                    found(payload, None);
                }
            }
        }
        Ok(true)
    }

    /// There is only one.
    fn usual_partition(&self, _key: &[u8], _partitions: i32) -> i32 {
        0
    }

    fn reach(&self, topic: &TopicName, _deadline: Instant) -> Result<Vec<Reach>, LogError> {
        let state = self.lock();
        let of_topic = state.partitions.iter().filter(|(partition, _)| partition.topic == *topic);
        let reach = |(of, log): (&TopicPartition, &Vec<Stored>)| Reach {
            partition: of.partition,
            first: state.low_watermarks.get(of).copied().unwrap_or_default(),
            decided: end(state.decided(of)),
            end: end(log),
        };
        Ok(of_topic.map(reach).collect())
    }

    fn scan(
        &self,
        stretch: &Stretch,
        _deadline: Instant,
        take: &mut dyn FnMut(Record) -> bool,
    ) -> Result<bool, LogError> {
        let state = self.lock();
        let log = state.decided(&stretch.of);
        let low = state.low_watermarks.get(&stretch.of).copied().unwrap_or_default();
        for (offset, stored) in (0_i64..).zip(log) {
            if offset < stretch.from.max(low) || offset >= stretch.until {
                continue;
            }
            let Some(record) = stored.record() else { continue };
            let (topic, partition) = (stretch.of.topic.clone(), stretch.of.partition);
            if !take(state.record(record, Coordinates { topic, partition, offset })) {
                return Ok(true);
            }
        }
        Ok(end(log) >= stretch.until)
    }
}

impl Stored {
    /// What a `read_committed` reader is given.
    fn record(&self) -> Option<&OutRecord> {
        match self {
            Stored::Record(record) => Some(record),
            Stored::Undecided(_) | Stored::Nothing => None,
        }
    }
}

/// The offset after the last.
fn end(log: &[Stored]) -> i64 {
    i64::try_from(log.len()).unwrap_or(i64::MAX)
}

/// How many records stand at an offset or behind it.
fn records_from(log: &[Stored], next: i64) -> usize {
    log.iter().skip(usize::try_from(next).unwrap_or_default()).filter_map(Stored::record).count()
}

impl State {
    /// A partition up to the first record of a transaction that is still open: as far as a `read_committed` reader sees.
    fn decided(&self, partition: &TopicPartition) -> &[Stored] {
        let log = self.partitions.get(partition).map(Vec::as_slice).unwrap_or_default();
        let open = self.undecided.values().flatten().filter(|(of, _)| of == partition);
        open.map(|(_, offset)| *offset).min().and_then(|first| log.get(..first)).unwrap_or(log)
    }

    fn record(&self, stored: &OutRecord, at: Coordinates) -> Record {
        let OutRecord { key, payload, headers, .. } = stored.clone();
        Record { published_ms: self.published.get(&at).copied(), at, key, payload, headers }
    }

    /// Deals the partitions out, beginning with another member each time so that they do move.
    fn rebalance(&mut self) {
        self.generation += 1;
        let is_read = |partition: &&TopicPartition| self.inputs.contains(&partition.topic);
        let partitions: Vec<TopicPartition> = self.partitions.keys().filter(is_read).cloned().collect();
        let members: Vec<u64> = self.members.keys().copied().collect();
        self.members.values_mut().for_each(Vec::clear);
        for (at, partition) in partitions.into_iter().enumerate() {
            let turn = at + usize::try_from(self.generation).unwrap_or_default();
            let owner = members.get(turn.checked_rem(members.len()).unwrap_or_default());
            if let Some(owned) = owner.and_then(|owner| self.members.get_mut(owner)) {
                owned.push(partition);
            }
        }
    }

    fn next_epoch(&mut self, transactional_id: &str) -> u64 {
        let epoch = self.epochs.entry(transactional_id.to_owned()).or_default();
        *epoch += 1;
        let epoch = *epoch;
        self.abort(transactional_id);
        epoch
    }

    fn abort(&mut self, transactional_id: &str) {
        self.decide(transactional_id, |_| Stored::Nothing);
    }

    /// Ends a transaction, if it is open: each of its records becomes what it is to be, in its place, and a marker ends them.
    fn decide(&mut self, transactional_id: &str, outcome: impl Fn(OutRecord) -> Stored) {
        self.unstable.retain(|_, id| id != transactional_id);
        let mut written = BTreeSet::new();
        for (partition, offset) in self.undecided.remove(transactional_id).unwrap_or_default() {
            let stored = self.partitions.get_mut(&partition).and_then(|log| log.get_mut(offset));
            if let Some(stored) = stored
                && let Stored::Undecided(record) = std::mem::replace(stored, Stored::Nothing)
            {
                *stored = outcome(record);
            }
            written.insert(partition);
        }
        for partition in written {
            self.partitions.entry(partition).or_default().push(Stored::Nothing);
        }
    }
}

/// One lane's connection.
#[derive(Debug)]
pub struct MemoryLog {
    broker: MemoryBroker,
    transactional_id: String,
    /// Its number in the group.
    pub member: u64,
    generation: u64,
    epoch: u64,
    owned: BTreeMap<TopicPartition, i64>,
    /// The positions that the open transaction holds.
    transaction: Option<Vec<Position>>,
    /// Whether the lane was told of an assignment, and not yet that it is over.
    told: bool,
    has_left: bool,
    caught_up: bool,
}

impl MemoryLog {
    /// What the group has given this member.
    fn assignment(&mut self) -> Result<Vec<Assigned>, LogError> {
        self.is_member()?;
        let mut state = self.broker.lock();
        if let std::collections::btree_map::Entry::Vacant(e) = state.members.entry(self.member) {
            // The group had given this member up; it joins again.
            e.insert(Vec::new());
            state.rebalance();
        }
        let given = state.members.get(&self.member).cloned().unwrap_or_default();
        let generation = state.generation;
        drop(state);
        let assigned = self.take_up(given)?;
        self.generation = generation;
        Ok(assigned)
    }

    /// Begins to read partitions at their committed offsets.
    fn take_up(&mut self, partitions: Vec<TopicPartition>) -> Result<Vec<Assigned>, LogError> {
        let state = self.broker.lock();
        if partitions.iter().any(|partition| state.unstable.contains_key(partition)) {
            return Err(LogError::Retriable("offsets are part of an open transaction".into()));
        }
        let mut assigned = Vec::new();
        for partition in partitions {
            let committed = state.committed.get(&partition).cloned();
            let last = state.partitions.get(&partition).map_or(0, |log| end(log));
            if let Some((known, _)) = committed.as_ref().filter(|(known, _)| *known > last) {
                return Err(LogError::Broken(shorter_than_known(&partition, *known, last)));
            }
            let low_watermark = state.low_watermarks.get(&partition).copied().unwrap_or_default();
            let end = end(state.decided(&partition));
            assigned.push(Assigned { partition, committed, low_watermark, end });
        }
        self.owned = assigned.iter().map(|taken| (taken.partition.clone(), taken.start())).collect();
        self.told = true;
        self.caught_up = false;
        Ok(assigned)
    }

    fn is_member(&self) -> Result<(), LogError> {
        if self.has_left { Err(LogError::Broken("this lane has left the group".into())) } else { Ok(()) }
    }

    /// What is owned now, if the group was rebalanced. Nothing is, as long as an open transaction holds offsets of it.
    fn settle(&mut self) -> Result<Option<Vec<Assigned>>, LogError> {
        if !self.is_rebalanced() {
            return Ok(None);
        }
        match self.assignment() {
            Err(LogError::Retriable(_)) => {
                self.owned.clear();
                Ok(std::mem::take(&mut self.told).then(Vec::new))
            }
            assigned => assigned.map(Some),
        }
    }

    fn is_rebalanced(&self) -> bool {
        self.broker.lock().generation != self.generation
    }

    fn check_epoch(&self, state: &State) -> Result<(), LogError> {
        if state.epochs.get(&self.transactional_id) == Some(&self.epoch) {
            Ok(())
        } else {
            Err(LogError::Fenced(self.transactional_id.clone()))
        }
    }
}

impl Log for MemoryLog {
    fn poll(&mut self, max_events: usize, _max_wait: Duration) -> Result<Polled, LogError> {
        if let Some(assigned) = self.settle()? {
            return Ok(Polled::Assigned(assigned));
        }
        let state = self.broker.lock();
        let mut records = Vec::new();
        let mut caught_up = true;
        for (partition, next) in &mut self.owned {
            let log = state.decided(partition);
            while let Some(stored) = usize::try_from(*next).ok().and_then(|next| log.get(next)) {
                if records.len() == max_events {
                    caught_up = false;
                    break;
                }
                if let Some(record) = stored.record() {
                    let (topic, partition) = (partition.topic.clone(), partition.partition);
                    records.push(state.record(record, Coordinates { topic, partition, offset: *next }));
                }
                *next += 1;
            }
        }
        self.caught_up = caught_up;
        Ok(Polled::Records(records))
    }

    fn keep_alive(&mut self, _wait: Duration) -> Result<Option<Vec<Assigned>>, LogError> {
        self.settle()
    }

    fn begin(&mut self) -> Result<(), LogError> {
        self.check_epoch(&self.broker.lock())?;
        if self.transaction.is_some() {
            return Err(LogError::Abortable("a transaction is open already".into()));
        }
        self.transaction = Some(Vec::new());
        Ok(())
    }

    fn send(&mut self, records: &[OutRecord]) -> Result<(), LogError> {
        let mut state = self.broker.lock();
        self.check_epoch(&state)?;
        self.transaction.as_ref().ok_or_else(none_is_open)?;
        for record in records {
            let partition = TopicPartition { topic: record.topic.clone(), partition: 0 };
            let log = state.partitions.entry(partition.clone()).or_default();
            let offset = log.len();
            log.push(Stored::Undecided(record.clone()));
            state.undecided.entry(self.transactional_id.clone()).or_default().push((partition, offset));
        }
        Ok(())
    }

    fn arrive(&mut self) -> Result<(), LogError> {
        self.check_epoch(&self.broker.lock())
    }

    /// Without positions nothing is asked of the group, so that nobody is refused.
    fn send_offsets(&mut self, positions: &[Position]) -> Result<(), LogError> {
        let mut state = self.broker.lock();
        self.check_epoch(&state)?;
        let held = self.transaction.as_mut().ok_or_else(none_is_open)?;
        if !positions.is_empty() && state.generation != self.generation {
            return Err(LogError::Abortable("the group has another generation".into()));
        }
        for position in positions {
            state.unstable.insert(position.partition.clone(), self.transactional_id.clone());
        }
        held.extend_from_slice(positions);
        Ok(())
    }

    fn commit(&mut self) -> Result<(), LogError> {
        let mut state = self.broker.lock();
        self.check_epoch(&state)?;
        let positions = self.transaction.take().ok_or_else(none_is_open)?;
        let written = state.undecided.get(&self.transactional_id).into_iter().flatten();
        if written.into_iter().any(|(partition, _)| self.owned.contains_key(partition)) {
            // What it published to a topic that it reads is still to be read.
            self.caught_up = false;
        }
        state.decide(&self.transactional_id, Stored::Record);
        for Position { partition, next, metadata } in positions {
            state.committed.insert(partition, (next, metadata));
        }
        Ok(())
    }

    fn abort(&mut self) -> Result<(), LogError> {
        let mut state = self.broker.lock();
        self.check_epoch(&state)?;
        state.abort(&self.transactional_id);
        self.transaction = None;
        Ok(())
    }

    fn replace_producer(&mut self) -> Result<(), LogError> {
        let mut state = self.broker.lock();
        self.check_epoch(&state)?;
        self.epoch = state.next_epoch(&self.transactional_id);
        self.transaction = None;
        Ok(())
    }

    /// It does not ask the group: a rebalance is told by the next poll, and before that this lane is refused as ever.
    fn rewind(&mut self) -> Result<Vec<Assigned>, LogError> {
        self.is_member()?;
        self.take_up(self.owned.keys().cloned().collect())
    }

    fn caught_up(&self) -> bool {
        self.caught_up && !self.is_rebalanced()
    }

    fn lags(&self) -> Vec<(TopicPartition, i64)> {
        let state = self.broker.lock();
        let lag = |partition: &TopicPartition| {
            let next = state.committed.get(partition).map_or(0, |(next, _)| *next);
            let low_watermark = state.low_watermarks.get(partition).copied().unwrap_or_default();
            let records = records_from(state.decided(partition), next.max(low_watermark));
            (partition.clone(), i64::try_from(records).unwrap_or(i64::MAX))
        };
        self.owned.keys().map(lag).collect()
    }

    fn is_connected(&self) -> bool {
        true
    }

    fn leave(&mut self) {
        self.has_left = true;
        self.owned.clear();
        self.broker.remove_member(self.member);
    }
}

fn none_is_open() -> LogError {
    LogError::Abortable("no transaction is open".into())
}
