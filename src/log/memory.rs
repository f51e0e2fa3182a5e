//! A log in memory that keeps Kafka's promises, for the simulation: partitions, a consumer group with
//! generations, transactions that are seen whole or not at all, and fencing of producers (by their
//! id) and of group members (by their generation).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{
    Archive, Assigned, KeyQuery, Log, LogError, OutRecord, Partitions, Polled, Position, Reach, Record,
    Stretch,
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
    /// How many records open transactions have put into partitions, by their id. They stand there, for nobody to read yet.
    undecided: BTreeMap<String, BTreeMap<TopicPartition, usize>>,
    /// First offset that still exists, by partition.
    low_watermarks: BTreeMap<TopicPartition, i64>,
    /// When records were published (milliseconds since 1970), of those for which it is known.
    published: HashMap<Coordinates, i64>,
}

/// A place in a partition: a record, or the marker that ends a transaction.
#[derive(Clone, Debug)]
enum Stored {
    Record(OutRecord),
    Marker,
}

impl MemoryBroker {
    /// A broker with input topics of so many partitions each.
    pub fn new(inputs: &[(TopicName, i32)]) -> Self {
        let mut state = State::default();
        for (topic, partitions) in inputs {
            state.inputs.push(topic.clone());
            for partition in 0..*partitions {
                let partition = TopicPartition { topic: topic.clone(), partition };
                state.partitions.insert(partition, Vec::new());
            }
        }
        Self { state: Arc::new(Mutex::new(state)) }
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

    /// Every committed record of a topic, in order: what a `read_committed` reader sees.
    pub fn read(&self, topic: &TopicName) -> Vec<OutRecord> {
        let state = self.lock();
        let partitions = state.partitions.iter().filter(|(partition, _)| partition.topic == *topic);
        let records = partitions.flat_map(|(_, log)| log).filter_map(|stored| match stored {
            Stored::Record(record) => Some(record.clone()),
            Stored::Marker => None,
        });
        records.collect()
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
        let unread = read.flat_map(|(partition, log)| {
            let next = committed.get(partition).map_or(0, |(next, _)| *next);
            log.iter().skip(usize::try_from(next).unwrap_or_default())
        });
        unread.filter(|stored| matches!(stored, Stored::Record(_))).count()
    }

    /// The offset after the last of each partition of a topic.
    pub fn ends(&self, topic: &TopicName) -> BTreeMap<TopicPartition, i64> {
        let state = self.lock();
        let partitions = state.partitions.iter().filter(|(partition, _)| partition.topic == *topic);
        partitions
            .map(|(partition, log)| (partition.clone(), i64::try_from(log.len()).unwrap_or(i64::MAX)))
            .collect()
    }

    /// A topic is deleted and made anew with as many partitions. The group's offsets of it go with it, as Kafka lets them go.
    pub fn recreate(&self, topic: &TopicName) {
        let mut state = self.lock();
        let State { partitions, committed, low_watermarks, published, .. } = &mut *state;
        published.retain(|at, _| at.topic != *topic);
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
        let log = state.partitions.get(&partition);
        let stored = log.zip(usize::try_from(at.offset).ok()).and_then(|(log, offset)| log.get(offset));
        Ok(match stored {
            Some(Stored::Record(record)) => Some(state.record(record, at.clone())),
            Some(Stored::Marker) | None => None,
        })
    }

    fn of_key(
        &self,
        wanted: &KeyQuery<'_>,
        _deadline: Instant,
        found: &mut dyn FnMut(&[u8], Option<i64>),
    ) -> Result<bool, LogError> {
        let state = self.lock();
        for (partition, log) in
            state.partitions.iter().filter(|(partition, _)| partition.topic == *wanted.topic)
        {
            if (partition.partition == 0) != (wanted.partitions == Partitions::Usual) {
                continue;
            }
            let low = state.low_watermarks.get(partition).copied().unwrap_or_default();
            for stored in log.iter().skip(usize::try_from(low).unwrap_or_default()) {
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
        let reach = |(of, log): (&TopicPartition, &Vec<Stored>)| {
            let open: usize = state.undecided.values().filter_map(|open| open.get(of)).sum();
            Reach {
                partition: of.partition,
                first: state.low_watermarks.get(of).copied().unwrap_or_default(),
                decided: i64::try_from(log.len()).unwrap_or(i64::MAX),
                end: i64::try_from(log.len() + open).unwrap_or(i64::MAX),
            }
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
        let Some(log) = state.partitions.get(&stretch.of) else { return Ok(true) };
        let low = state.low_watermarks.get(&stretch.of).copied().unwrap_or_default();
        for (offset, stored) in (0_i64..).zip(log) {
            if offset < stretch.from.max(low) || offset >= stretch.until {
                continue;
            }
            let Stored::Record(record) = stored else { continue };
            let (topic, partition) = (stretch.of.topic.clone(), stretch.of.partition);
            if !take(state.record(record, Coordinates { topic, partition, offset })) {
                return Ok(true);
            }
        }
        Ok(i64::try_from(log.len()).is_ok_and(|end| end >= stretch.until))
    }
}

impl State {
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

    /// What a transaction put into partitions stays there, for nobody to read.
    fn abort(&mut self, transactional_id: &str) {
        self.unstable.retain(|_, id| id != transactional_id);
        for (partition, records) in self.undecided.remove(transactional_id).unwrap_or_default() {
            let log = self.partitions.entry(partition).or_default();
            log.extend(std::iter::repeat_n(Stored::Marker, records + 1));
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
    transaction: Option<Transaction>,
    caught_up: bool,
}

#[derive(Debug, Default)]
struct Transaction {
    records: Vec<OutRecord>,
    positions: Vec<Position>,
}

impl MemoryLog {
    fn assignment(&mut self) -> Result<Vec<Assigned>, LogError> {
        let mut state = self.broker.lock();
        if let std::collections::btree_map::Entry::Vacant(e) = state.members.entry(self.member) {
            // The group had given this member up; it joins again.
            e.insert(Vec::new());
            state.rebalance();
        }
        let mine = state.members.get(&self.member);
        if mine.into_iter().flatten().any(|partition| state.unstable.contains_key(partition)) {
            return Err(LogError::Retriable("offsets are part of an open transaction".into()));
        }
        self.generation = state.generation;
        self.owned.clear();
        let mut assigned = Vec::new();
        for partition in state.members.get(&self.member).into_iter().flatten() {
            let committed = state.committed.get(partition).cloned();
            let low_watermark = state.low_watermarks.get(partition).copied().unwrap_or_default();
            let start = committed.as_ref().map_or(low_watermark, |(offset, _)| (*offset).max(low_watermark));
            self.owned.insert(partition.clone(), start);
            let end =
                state.partitions.get(partition).map_or(0, |log| i64::try_from(log.len()).unwrap_or(i64::MAX));
            assigned.push(Assigned { partition: partition.clone(), committed, low_watermark, end });
        }
        self.caught_up = false;
        Ok(assigned)
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
        if self.is_rebalanced() {
            return Ok(Polled::Assigned(self.assignment()?));
        }
        let state = self.broker.lock();
        let mut records = Vec::new();
        let mut caught_up = true;
        for (partition, next) in &mut self.owned {
            let Some(log) = state.partitions.get(partition) else { continue };
            while let Some(stored) = usize::try_from(*next).ok().and_then(|next| log.get(next)) {
                if records.len() == max_events {
                    caught_up = false;
                    break;
                }
                if let Stored::Record(record) = stored {
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
        if self.is_rebalanced() { self.assignment().map(Some) } else { Ok(None) }
    }

    fn begin(&mut self) -> Result<(), LogError> {
        self.check_epoch(&self.broker.lock())?;
        self.transaction = Some(Transaction::default());
        Ok(())
    }

    fn send(&mut self, records: &[OutRecord]) -> Result<(), LogError> {
        let mut state = self.broker.lock();
        self.check_epoch(&state)?;
        let transaction = self.transaction.as_mut();
        let transaction = transaction.ok_or_else(|| LogError::Broken("no transaction is open".into()))?;
        transaction.records.extend_from_slice(records);
        for record in records {
            let partition = TopicPartition { topic: record.topic.clone(), partition: 0 };
            state.partitions.entry(partition.clone()).or_default();
            let open = state.undecided.entry(self.transactional_id.clone()).or_default();
            *open.entry(partition).or_default() += 1;
        }
        Ok(())
    }

    fn arrive(&mut self) -> Result<(), LogError> {
        self.check_epoch(&self.broker.lock())
    }

    fn send_offsets(&mut self, positions: &[Position]) -> Result<(), LogError> {
        let mut state = self.broker.lock();
        self.check_epoch(&state)?;
        if state.generation != self.generation {
            return Err(LogError::Abortable("the group has another generation".into()));
        }
        for position in positions {
            state.unstable.insert(position.partition.clone(), self.transactional_id.clone());
        }
        drop(state);
        let transaction = self.transaction.as_mut();
        let transaction = transaction.ok_or_else(|| LogError::Broken("no transaction is open".into()))?;
        transaction.positions.extend_from_slice(positions);
        Ok(())
    }

    fn commit(&mut self) -> Result<(), LogError> {
        let mut state = self.broker.lock();
        self.check_epoch(&state)?;
        let transaction = self.transaction.take();
        let Transaction { records, positions } =
            transaction.ok_or_else(|| LogError::Broken("no transaction is open".into()))?;
        let mut topics: Vec<TopicName> = records.iter().map(|record| record.topic.clone()).collect();
        topics.dedup();
        for record in records {
            let partition = TopicPartition { topic: record.topic.clone(), partition: 0 };
            state.partitions.entry(partition).or_default().push(Stored::Record(record));
        }
        for topic in topics {
            state.partitions.entry(TopicPartition { topic, partition: 0 }).or_default().push(Stored::Marker);
        }
        for Position { partition, next, metadata } in positions {
            state.committed.insert(partition, (next, metadata));
        }
        state.undecided.remove(&self.transactional_id);
        state.unstable.retain(|_, id| *id != self.transactional_id);
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

    fn rewind(&mut self) -> Result<Vec<Assigned>, LogError> {
        self.assignment()
    }

    fn caught_up(&self) -> bool {
        self.caught_up && !self.is_rebalanced()
    }

    fn lags(&self) -> Vec<(TopicPartition, i64)> {
        let state = self.broker.lock();
        let lag = |(partition, next): (&TopicPartition, &i64)| {
            let end =
                state.partitions.get(partition).map_or(0, |log| i64::try_from(log.len()).unwrap_or(i64::MAX));
            (partition.clone(), end - next)
        };
        self.owned.iter().map(lag).collect()
    }

    fn is_connected(&self) -> bool {
        true
    }

    fn leave(&mut self) {
        self.broker.remove_member(self.member);
    }
}
