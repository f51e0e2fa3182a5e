//! The lane's member of the consumer group: assignments, polling, pausing, rewinding.
//!
//! An eager group revokes everything before it assigns anew. So a rebalance always means the same here:
//! forget what was gathered, ask for the committed offsets, begin exactly there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionList;

use super::assignment::Assignment;
use super::context::{self, ConsumerNotes, Rebalanced};
use super::offsets;
use super::records::{size_of, take_in};
use super::settings::{KafkaSettings, StartAt};
use super::triage::{self, Severity};
use crate::log::{Assigned, LogError, Polled, Record};
use crate::types::{TopicName, TopicPartition};

/// Reads for one lane.
pub(super) struct Reader {
    consumer: BaseConsumer<ConsumerNotes>,
    /// For questions that the member's own client answers otherwise.
    settings: KafkaSettings,
    /// Taken before the client was made, so that its statistics are at least this young.
    made: Instant,
    topics: Vec<String>,
    start_at: StartAt,
    max_poll_bytes: usize,
    owned: Assignment,
    /// Partitions whose committed offsets are not known yet. Nothing of them is read.
    pending: Option<Vec<TopicPartition>>,
    /// The generation that owns what is owned. Kept from the assignment, not asked for at each
    /// transaction: whatever happens to the membership meanwhile, a transaction goes out under the
    /// generation that its records were read in, or is refused.
    generation: Option<Arc<ConsumerGroupMetadata>>,
    /// Whether the group has said what this lane owns (perhaps nothing).
    joined: bool,
    /// Partitions that were paused and not resumed since. librdkafka keeps a partition paused also when
    /// it is taken away and given back.
    paused: Vec<TopicPartition>,
    /// Records that came while the lane could not work.
    held: Vec<Record>,
    /// When a poll last came back with records.
    taken: Instant,
    snapshots_seen: u64,
    idle_polls: u32,
}

/// How long one call waits for the coordinator before it lets the lane breathe.
const ASK_FOR: Duration = Duration::from_secs(5);

/// While the offsets of an assignment are still asked for, callbacks are served this often.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// How many records are gathered at most beyond the time that a poll may take.
const LOOK_AT_THE_CLOCK_EVERY: usize = 256;

/// A topic that was just created or whose broker just started may be unknown for a moment.
const TOPICS_APPEAR_WITHIN: Duration = Duration::from_secs(10);

impl Reader {
    /// Joins the group. Returns at once; the assignment comes by a poll.
    pub(super) fn subscribe(settings: &KafkaSettings) -> Result<Self, LogError> {
        let made = Instant::now();
        let consumer = context::consumer(&settings.consumer()?, settings.credentials.token())
            .map_err(|error| LogError::Broken(format!("the consumer cannot be made: {error}")))?;
        let reader = Self {
            consumer,
            settings: settings.clone(),
            made,
            topics: settings.topics.clone(),
            start_at: settings.start_at(),
            max_poll_bytes: settings.max_poll_bytes,
            owned: Assignment::default(),
            pending: None,
            generation: None,
            joined: false,
            paused: Vec::new(),
            held: Vec::new(),
            taken: made,
            snapshots_seen: 0,
            idle_polls: 0,
        };
        reader.topics_exist()?;
        let names: Vec<&str> = reader.topics.iter().map(String::as_str).collect();
        reader.consumer.subscribe(&names).map_err(|error| reader.of_call(&error, "subscribing"))?;
        Ok(reader)
    }

    /// See [`crate::log::Log::poll`].
    pub(super) fn poll(&mut self, max_events: usize, max_wait: Duration) -> Result<Polled, LogError> {
        let began = Instant::now();
        let deadline = began + max_wait;
        self.resume()?;
        if let Some(assigned) = self.settle()? {
            return Ok(Polled::Assigned(assigned));
        }
        self.take_in_snapshot();
        let mut records = std::mem::take(&mut self.held);
        records.reserve(max_events.min(1024));
        let mut bytes: usize = records.iter().map(size_of).sum();
        // What is there already is taken without asking the clock, which costs librdkafka more than the
        // record itself; only an empty queue is waited at.
        let mut wait = Duration::ZERO;
        while records.len() < max_events && bytes < self.max_poll_bytes {
            match self.consumer.poll(wait) {
                Some(Ok(message)) => {
                    wait = Duration::ZERO;
                    if let Some(record) = take_in(&mut self.owned, &message)? {
                        bytes += size_of(&record);
                        records.push(record);
                        self.idle_polls = 0;
                    }
                    if records.len().is_multiple_of(LOOK_AT_THE_CLOCK_EVERY) && Instant::now() >= deadline {
                        break;
                    }
                }
                Some(Err(error)) => self.survive(&error)?,
                None => {
                    if let Some(assigned) = self.settle()? {
                        return Ok(Polled::Assigned(assigned));
                    }
                    self.idle();
                    let until = wait_until(began, self.taken, max_wait, records.is_empty());
                    wait = until.saturating_duration_since(Instant::now());
                    if wait.is_zero() {
                        break;
                    }
                    if self.pending.is_some() {
                        wait = wait.min(ASK_AGAIN_AFTER);
                    }
                }
            }
        }
        if !records.is_empty() {
            self.taken = Instant::now();
        }
        Ok(Polled::Records(records))
    }

    /// See [`crate::log::Log::keep_alive`].
    pub(super) fn keep_alive(&mut self, wait: Duration) -> Result<Option<Vec<Assigned>>, LogError> {
        let deadline = Instant::now() + wait;
        self.pause()?;
        loop {
            if let Some(assigned) = self.settle()? {
                return Ok(Some(assigned));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let slice = if self.pending.is_some() { left.min(ASK_AGAIN_AFTER) } else { left };
            match self.consumer.poll(slice) {
                // librdkafka drops what it had fetched when it pauses, and fetches it again; should a
                // record come all the same, the next poll begins with it.
                Some(Ok(message)) => self.held.extend(take_in(&mut self.owned, &message)?),
                Some(Err(error)) => self.survive(&error)?,
                None if left.is_zero() && !self.consumer.context().rebalanced() => return Ok(None),
                None => {}
            }
        }
    }

    /// See [`crate::log::Log::rewind`].
    pub(super) fn rewind(&mut self) -> Result<Vec<Assigned>, LogError> {
        if self.pending.is_none() {
            // Disowned until it is known where to begin: whatever is polled meanwhile is dropped, so a
            // rewind that fails halfway cannot let records through from the wrong place.
            self.pending = Some(self.owned.partitions());
            self.owned = Assignment::default();
            self.held.clear();
        }
        self.take_up()
    }

    /// The generation that consumed positions are committed under, if this lane has one.
    pub(super) fn generation(&self) -> Option<&Arc<ConsumerGroupMetadata>> {
        self.generation.as_ref()
    }

    /// What this lane owns, and how far it is.
    pub(super) fn owned(&self) -> &Assignment {
        &self.owned
    }

    /// The same, to be told of commits.
    pub(super) fn owned_mut(&mut self) -> &mut Assignment {
        &mut self.owned
    }

    /// See [`crate::log::Log::caught_up`].
    pub(super) fn caught_up(&self) -> bool {
        self.joined && self.pending.is_none() && self.held.is_empty() && self.owned.caught_up()
    }

    /// Whether a broker is reachable.
    pub(super) fn connected(&self) -> bool {
        self.consumer.context().health().connected()
    }

    /// Handles what the group did since the last look. Says what is owned now, if that changed.
    fn settle(&mut self) -> Result<Option<Vec<Assigned>>, LogError> {
        if !self.consumer.context().rebalanced() && self.pending.is_none() {
            return Ok(None);
        }
        let mut report = None;
        for what in self.consumer.context().take_rebalances() {
            if self.joined {
                report = Some(Vec::new());
            }
            self.joined = false;
            self.owned = Assignment::default();
            self.generation = None;
            self.held.clear();
            self.pending = match what {
                Rebalanced::Revoked => None,
                Rebalanced::Assigned(given) => {
                    self.generation = self.current_generation();
                    Some(interned(given))
                }
            };
        }
        if self.pending.is_none() {
            return Ok(report);
        }
        match self.take_up() {
            Ok(assigned) => Ok(Some(assigned)),
            Err(LogError::Retriable(why)) => {
                tracing::warn!(why, "the committed offsets of an assignment are not known yet");
                Ok(report)
            }
            Err(other) => Err(other),
        }
    }

    /// The group metadata of the assignment that was just received. The order matters: librdkafka marks
    /// an assignment as lost in the same step in which it forgets its membership, so metadata that are
    /// not lost afterwards are those of the assignment. Without any, transactions are refused here: the
    /// broker takes offsets that come without a member and a generation from anybody.
    fn current_generation(&self) -> Option<Arc<ConsumerGroupMetadata>> {
        let metadata = self.consumer.group_metadata();
        if self.consumer.assignment_lost() { None } else { metadata.map(Arc::new) }
    }

    /// Asks for the offsets of what is pending and begins to read there.
    fn take_up(&mut self) -> Result<Vec<Assigned>, LogError> {
        let pending = self.pending.clone().unwrap_or_default();
        let starts = offsets::of(&self.consumer, &self.settings, &pending, self.start_at, ASK_FOR)?;
        let mut list = TopicPartitionList::with_capacity(starts.len());
        for start in &starts {
            let partition = &start.assigned.partition;
            list.add_partition_offset(
                partition.topic.as_str(),
                partition.partition,
                Offset::Offset(start.at),
            )
            .map_err(|error| LogError::Broken(format!("offset {} of {partition}: {error}", start.at)))?;
        }
        self.consumer.assign(&list).map_err(|error| self.of_call(&error, "taking up an assignment"))?;
        let places = starts.iter().map(|start| (start.assigned.partition.clone(), start.at, start.end));
        self.owned = Assignment::new(places, Instant::now());
        self.pending = None;
        self.joined = true;
        self.idle_polls = 0;
        self.resume()?;
        Ok(starts.into_iter().map(|start| start.assigned).collect())
    }

    fn pause(&mut self) -> Result<(), LogError> {
        let mut running = self.owned.partitions();
        running.retain(|partition| !self.paused.contains(partition));
        if running.is_empty() {
            return Ok(());
        }
        let list = offsets::list(&running);
        self.consumer.pause(&list).map_err(|error| self.of_call(&error, "pausing"))?;
        self.paused.append(&mut running);
        Ok(())
    }

    /// Resumes what is owned and paused, and only that: resuming makes librdkafka drop what it has
    /// fetched.
    fn resume(&mut self) -> Result<(), LogError> {
        if self.paused.is_empty() {
            return Ok(());
        }
        let owned = self.owned.partitions();
        let (resumed, still): (Vec<_>, Vec<_>) = self.paused.drain(..).partition(|p| owned.contains(p));
        self.paused = still;
        if resumed.is_empty() {
            return Ok(());
        }
        self.consumer.resume(&offsets::list(&resumed)).map_err(|error| {
            self.paused.extend_from_slice(&resumed);
            triage::of_call(&error, self.consumer.context().health(), "resuming")
        })
    }

    /// A poll brought nothing.
    fn idle(&mut self) {
        if self.take_in_snapshot() {
            self.idle_polls = 0;
            return;
        }
        self.idle_polls = self.idle_polls.saturating_add(1);
        // A poll also ends when an event was served: only the second in a row proves an empty queue.
        if self.idle_polls >= 2 {
            self.owned.drained();
        }
    }

    fn take_in_snapshot(&mut self) -> bool {
        let count = self.consumer.context().snapshots();
        if count == self.snapshots_seen {
            return false;
        }
        self.snapshots_seen = count;
        self.idle_polls = 0;
        if let Some(snapshot) = self.consumer.context().take_snapshot() {
            self.owned.see(&snapshot, self.made);
        }
        true
    }

    /// Lives on after an error that passes; tells what is wrong otherwise.
    fn survive(&self, error: &KafkaError) -> Result<(), LogError> {
        let health = self.consumer.context().health();
        let reason = || health.last().map_or_else(|| error.to_string(), |last| last.reason);
        if let KafkaError::MessageConsumptionFatal(code) = error {
            return Err(triage::of_fatal(*code, false, reason()));
        }
        let Some(code) = error.rdkafka_error_code() else {
            return Ok(());
        };
        match triage::severity(code, health.ever_connected()) {
            Severity::Passing => Ok(()),
            Severity::Refused if is_unknown_topic(code) => self.topics_exist(),
            Severity::Refused => Err(triage::refused(code, &reason())),
        }
    }

    /// Refuses topics that do not exist, all by name, after giving them a moment to appear.
    fn topics_exist(&self) -> Result<(), LogError> {
        let deadline = Instant::now() + TOPICS_APPEAR_WITHIN;
        loop {
            let mut missing = Vec::new();
            for topic in self.topics.iter().filter(|topic| !topic.starts_with('^')) {
                let found = self.consumer.fetch_metadata(Some(topic), ASK_FOR);
                let found =
                    found.map_err(|error| self.of_call(&error, &format!("looking for topic {topic}")))?;
                match found
                    .topics()
                    .first()
                    .and_then(rdkafka::metadata::MetadataTopic::error)
                    .map(RDKafkaErrorCode::from)
                {
                    None => {}
                    Some(code) if is_unknown_topic(code) => missing.push(topic.as_str()),
                    Some(code) if triage::severity(code, true) == Severity::Refused => {
                        return Err(triage::refused(code, &format!("topic {topic}: {code}")));
                    }
                    Some(_) => {}
                }
            }
            if missing.is_empty() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let missing = missing.join(", ");
                return Err(LogError::Broken(format!("these input topics do not exist: {missing}")));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn of_call(&self, error: &KafkaError, doing: &str) -> LogError {
        triage::of_call(error, self.consumer.context().health(), doing)
    }
}

impl Drop for Reader {
    /// Leaves the group, so that others take over at once. librdkafka's own drop does it; what must not
    /// happen is that it waits for an assignment to be taken up.
    fn drop(&mut self) {
        self.consumer.context().close();
        if self.pending.is_some()
            && let Err(error) = self.consumer.unassign()
        {
            tracing::warn!(%error, "a pending assignment could not be given up");
        }
    }
}

/// Until when a poll waits for more records, where the last ones were taken at that time. They have gathered since then, while
/// those were processed: this counts, or a lane would stand still beside work that is there. So one that is busy takes what
/// has come meanwhile, one that was idle takes its first record at once, and neither takes more than a batch each `max_wait`.
fn wait_until(began: Instant, taken: Instant, max_wait: Duration, has_none: bool) -> Instant {
    let since = if has_none { began } else { taken };
    since + max_wait
}

pub(super) fn is_unknown_topic(code: RDKafkaErrorCode) -> bool {
    matches!(code, RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic)
}

/// Shares one name among all partitions, and so among all records, of a topic.
fn interned(given: Vec<(String, i32)>) -> Vec<TopicPartition> {
    let mut names: Vec<TopicName> = Vec::new();
    let mut name_of = |topic: String| {
        if let Some(name) = names.iter().find(|name| name.as_str() == topic) {
            name.clone()
        } else {
            let name = TopicName::from(topic);
            names.push(name.clone());
            name
        }
    };
    given.into_iter().map(|(topic, partition)| TopicPartition { topic: name_of(topic), partition }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_waited_for_from_the_last_batch_on_and_without_any_from_the_call_on() {
        let taken = Instant::now();
        let after = |ms| taken + Duration::from_millis(ms);
        let wait = Duration::from_millis(20);
        // The lane processed its batch for 5 ms, for 90 ms, or had nothing to do for a second.
        for (began, with_some, with_none) in [(5, 20, 25), (90, 20, 110), (1000, 20, 1020)] {
            assert_eq!(wait_until(after(began), taken, wait, false), after(with_some));
            assert_eq!(wait_until(after(began), taken, wait, true), after(with_none));
        }
    }
}
