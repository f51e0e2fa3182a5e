//! The lane's transactional producer.
//!
//! Every wait here is bounded, and none sleeps where something is to do: rdkafka's own `flush` and
//! `commit_transaction` sleep through slices of 100 ms while anything is in flight, so delivery is waited
//! for first.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header as KafkaHeader, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::TopicPartitionList;

use super::archive::usual_partition;
use super::context::ProducerNotes;
use super::offsets_call::{LeftBehind, OffsetsCaller};
use super::publisher::Placed;
use super::settings::KafkaSettings;
use super::triage;
use crate::log::{LogError, OutRecord, Position};
use crate::types::TopicName;

/// Publishes for one lane.
pub(super) struct Writer {
    settings: KafkaSettings,
    transaction_timeout: Duration,
    producer: Option<OffsetsCaller>,
    left_behind: LeftBehind,
    /// The number of the credentials that it was made with.
    number: u64,
    /// Whether any of them was ready: a login that is refused later passes, as for who is connected.
    was_ready: bool,
    state: State,
    /// How many partitions the outputs had when they were first written to.
    partitions: BTreeMap<TopicName, i32>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// There is no producer, or it may not be used any more.
    Lost,
    /// Made, but the coordinator has not given it its epoch yet.
    Made,
    Ready,
    /// A transaction is open since this moment.
    Open(Instant),
}

/// One call to the coordinator. A call that timed out goes on in the background and is taken up again
/// by the next.
pub(super) const ASK_FOR: Duration = Duration::from_secs(5);
/// How long one is asked who knows what is only good for speed.
const PATIENCE: Duration = Duration::from_secs(1);
/// Somewhat less than `batch.size`, which bounds a request to a partition.
const A_REQUEST: usize = 900_000;
/// What a record takes in a request beside its key and payload, at most, without headers.
const RECORD_OVERHEAD: usize = 64;
/// How long a new producer is waited for in one call of [`Writer::replace`].
const INIT_WITHIN: Duration = Duration::from_secs(10);
/// How long an end of a transaction is asked for before its outcome counts as unknown.
const END_WITHIN: Duration = Duration::from_secs(30);
/// On the way out, an open transaction is aborted if that is quick; else the broker does it in time.
const LEAVE_WITHIN: Duration = Duration::from_secs(2);
/// While records are in flight, how often it is asked whether the transaction can still succeed.
const PROBE_EVERY: Duration = Duration::from_millis(100);
/// How often it is looked whether records have arrived.
const TICK: Duration = Duration::from_micros(500);
/// librdkafka's events that are served in one look. There are few: only failures are reported.
const EVENTS_A_LOOK: usize = 16;

impl Writer {
    /// Connects to nothing yet; fails where the settings are wrong.
    pub(super) fn new(settings: &KafkaSettings) -> Result<Self, LogError> {
        settings.producer()?;
        Ok(Self {
            settings: settings.clone(),
            transaction_timeout: settings.transaction_timeout(),
            producer: None,
            left_behind: LeftBehind::default(),
            number: 0,
            was_ready: false,
            state: State::Lost,
            partitions: BTreeMap::new(),
        })
    }

    /// See [`crate::log::Log::replace_producer`].
    pub(super) fn replace(&mut self) -> Result<(), LogError> {
        let number = self.settings.credentials.number();
        if self.state != State::Made || self.number != number {
            // The old one goes first, so that it cannot send anything under the old epoch any more.
            self.state = State::Lost;
            self.producer = None;
            let notes = ProducerNotes::new(self.settings.credentials.token());
            let made = self.settings.producer()?.create_with_context(notes);
            let made =
                made.map_err(|error| LogError::Broken(format!("the producer cannot be made: {error}")))?;
            self.producer = Some(OffsetsCaller::begin(made).map_err(|error| {
                LogError::Retriable(format!("the producer's thread does not start: {error}"))
            })?);
            self.state = State::Made;
            self.number = number;
        }
        let producer = self.producer()?;
        if self.was_ready {
            producer.context().health().was_let_in_before();
        }
        // Brings the token that it logs in with, where it needs one.
        serve(producer);
        let deadline = Instant::now() + INIT_WITHIN;
        let doing = "initialising the transactional producer";
        loop {
            let left = deadline.saturating_duration_since(Instant::now()).min(ASK_FOR);
            let Err(error) = producer.init_transactions(left) else {
                break;
            };
            serve(producer);
            let error = self.of_error(&error, doing);
            if let LogError::Retriable(_) = error {
                if let Some(refused) = triage::refused_meanwhile(producer.context().health()) {
                    return Err(refused);
                }
                if Instant::now() < deadline {
                    continue;
                }
                return Err(error);
            }
            self.state = State::Lost;
            return Err(error);
        }
        self.producer()?.context().health().set_connected(true);
        self.was_ready = true;
        self.state = State::Ready;
        Ok(())
    }

    /// See [`crate::log::Log::begin`].
    pub(super) fn begin(&mut self) -> Result<(), LogError> {
        let producer = self.ready()?;
        // It may have been idle for longer than its token is good for.
        serve(producer);
        producer.context().begin();
        producer.begin_transaction().map_err(|error| self.of_error(&error, "beginning a transaction"))?;
        self.state = State::Open(Instant::now());
        Ok(())
    }

    /// See [`crate::log::Log::send`].
    pub(super) fn send(&mut self, records: &[OutRecord]) -> Result<(), LogError> {
        self.learn_partitions(records)?;
        let (producer, since) = self.open()?;
        let deadline = since + self.transaction_timeout;
        let mut last_round = 0;
        for (round, record) in self.by_partition(records) {
            if round > last_round {
                self.drain(deadline)?;
                last_round = round;
            }
            self.enqueue(producer, record, None, deadline)?;
        }
        Ok(())
    }

    /// Adds records to the transaction, each to a partition of the caller's choice.
    pub(super) fn send_placed(&mut self, records: &[Placed]) -> Result<(), LogError> {
        let (producer, since) = self.open()?;
        let deadline = since + self.transaction_timeout;
        records
            .iter()
            .try_for_each(|placed| self.enqueue(producer, &placed.record, placed.partition, deadline))
    }

    /// Hands a record to librdkafka, waiting while its queue is full.
    fn enqueue(
        &self,
        producer: &BaseProducer<ProducerNotes>,
        record: &OutRecord,
        partition: Option<i32>,
        deadline: Instant,
    ) -> Result<(), LogError> {
        let mut waiting = BaseRecord::<[u8], [u8]> {
            topic: record.topic.as_str(),
            partition,
            payload: record.payload.as_deref(),
            key: record.key.as_deref(),
            timestamp: None,
            headers: headers(record),
            delivery_opaque: (),
        };
        while let Err((error, back)) = producer.send(waiting) {
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                return Err(self.of_refused(&error, record));
            }
            waiting = back;
            serve(producer);
            std::thread::sleep(TICK);
            self.still_possible()?;
            if Instant::now() >= deadline {
                return Err(LogError::Abortable("the producer's queue did not empty in time".into()));
            }
        }
        Ok(())
    }

    /// Asks once for each output how many partitions it has. Where nobody knows, it is asked again next time.
    fn learn_partitions(&mut self, records: &[OutRecord]) -> Result<(), LogError> {
        for record in records {
            if self.partitions.contains_key(&record.topic) {
                continue;
            }
            let metadata = self.open()?.0.client().fetch_metadata(Some(record.topic.as_str()), PATIENCE);
            let found = metadata.ok().and_then(|found| Some(found.topics().first()?.partitions().len()));
            let known = found.and_then(|found| i32::try_from(found).ok()).filter(|found| *found > 0);
            let Some(partitions) = known else { break };
            self.partitions.insert(record.topic.clone(), partitions);
        }
        Ok(())
    }

    /// One output partition after the other, each in the order of the batch, and no more of a partition in a
    /// round than one request takes.
    ///
    /// An idempotent producer has one request a partition under way. What waits behind it and has lingered
    /// enough keeps librdkafka's thread spinning until the answer comes: a tenth of the worker's CPU where cores
    /// are free, a fifth where they are not. So a partition is filled in one go, within its `linger.ms`, and what
    /// is too much for one request comes after the answers. Where the numbers of partitions are not right, or the
    /// operator chose another partitioner, it is only slower.
    fn by_partition<'r>(&self, records: &'r [OutRecord]) -> Vec<(usize, &'r OutRecord)> {
        let mut topics: Vec<(&TopicName, i32)> = Vec::new();
        let mut sizes: BTreeMap<(usize, i32), usize> = BTreeMap::new();
        let mut order = Vec::with_capacity(records.len());
        for (at, record) in records.iter().enumerate() {
            let known = topics.iter().position(|(name, _)| **name == record.topic);
            let topic = known.unwrap_or_else(|| {
                let partitions = self.partitions.get(&record.topic).copied().unwrap_or(1);
                topics.push((&record.topic, partitions));
                topics.len() - 1
            });
            let partitions = topics.get(topic).map_or(1, |(_, partitions)| *partitions);
            let partition = record.key.as_deref().map_or(0, |key| usual_partition(key, partitions));
            let size = sizes.entry((topic, partition)).or_default();
            *size += RECORD_OVERHEAD
                + record.key.as_ref().map_or(0, Vec::len)
                + record.payload.as_ref().map_or(0, Vec::len);
            order.push((*size / A_REQUEST, topic, partition, at, record));
        }
        order.sort_unstable_by_key(|(round, topic, partition, at, _)| (*round, *topic, *partition, *at));
        order.into_iter().map(|(round, .., record)| (round, record)).collect()
    }

    /// See [`crate::log::Log::arrive`].
    pub(super) fn arrive(&self) -> Result<(), LogError> {
        self.drain(Instant::now() + END_WITHIN)
    }

    /// See [`crate::log::Log::send_offsets`].
    pub(super) fn send_offsets(
        &mut self,
        positions: &[Position],
        generation: Option<&Arc<ConsumerGroupMetadata>>,
    ) -> Result<(), LogError> {
        self.open()?;
        if positions.is_empty() {
            return Ok(());
        }
        let Some(generation) = generation else {
            return Err(LogError::Abortable("this lane is not a member of the group any more".into()));
        };
        let mut list = TopicPartitionList::with_capacity(positions.len());
        for position in positions {
            let mut entry =
                list.add_partition(position.partition.topic.as_str(), position.partition.partition);
            entry.set_offset(Offset::Offset(position.next)).map_err(|error| {
                LogError::Broken(format!("offset {} of {}: {error}", position.next, position.partition))
            })?;
            entry.set_metadata(&position.metadata);
        }
        let doing = "sending the consumed offsets";
        let caller = self.producer.as_ref().ok_or_else(lost)?;
        let Ok(answer) = caller.send(list, generation, &mut self.left_behind) else {
            if let Some(caller) = self.producer.take() {
                caller.leave_behind(&mut self.left_behind);
            }
            self.state = State::Lost;
            let why = "librdkafka does not come back; the group's coordinator has gone away or moves";
            return Err(LogError::ProducerLost(format!("{doing}: {why}")));
        };
        answer.map_err(|error| self.of_error(&error, doing))
    }

    /// See [`crate::log::Log::commit`].
    pub(super) fn commit(&mut self) -> Result<(), LogError> {
        let deadline = Instant::now() + END_WITHIN;
        self.drain(deadline)?;
        let (producer, _) = self.open()?;
        loop {
            let Err(error) = producer.commit_transaction(ASK_FOR) else {
                self.state = State::Ready;
                return Ok(());
            };
            serve(producer);
            let error = match self.of_error(&error, "committing") {
                LogError::Retriable(_) if Instant::now() < deadline => continue,
                // All records had arrived and the transaction was sound, so what failed is the very last
                // request. It may have been carried out: only a new epoch makes sure of what comes next.
                LogError::Retriable(why) | LogError::Abortable(why) => LogError::ProducerLost(why),
                other => other,
            };
            self.state = State::Lost;
            return Err(error);
        }
    }

    /// See [`crate::log::Log::abort`].
    pub(super) fn abort(&mut self) -> Result<(), LogError> {
        match self.state {
            State::Open(_) => self.abort_within(END_WITHIN),
            State::Ready => Ok(()),
            State::Lost | State::Made => Err(lost()),
        }
    }

    fn abort_within(&mut self, patience: Duration) -> Result<(), LogError> {
        let (producer, _) = self.open()?;
        let deadline = Instant::now() + patience;
        // librdkafka purges what is queued and then waits for the reports of that, which only a poll of
        // this thread takes away: so a first, short call, a poll, and then longer calls.
        let mut slice = Duration::from_millis(5);
        loop {
            let Err(error) = producer.abort_transaction(slice) else {
                self.state = State::Ready;
                return Ok(());
            };
            serve(producer);
            let error = match self.of_error(&error, "aborting") {
                LogError::Retriable(_) if Instant::now() < deadline => {
                    slice = (slice * 2).min(ASK_FOR);
                    continue;
                }
                LogError::Retriable(why) | LogError::Abortable(why) => LogError::ProducerLost(why),
                other => other,
            };
            self.state = State::Lost;
            return Err(error);
        }
    }

    /// Waits until all records are delivered, or one is not.
    fn drain(&self, deadline: Instant) -> Result<(), LogError> {
        let (producer, _) = self.open()?;
        let mut probe_at = Instant::now() + PROBE_EVERY;
        while producer.in_flight_count() > 0 {
            serve(producer);
            std::thread::sleep(TICK);
            let now = Instant::now();
            if now >= probe_at {
                probe_at = now + PROBE_EVERY;
                self.still_possible()?;
            }
            if now >= deadline {
                return Err(LogError::Abortable("the records were not delivered in time".into()));
            }
        }
        self.delivered()
    }

    fn delivered(&self) -> Result<(), LogError> {
        let Some(failed) = self.producer()?.context().failed() else {
            return Ok(());
        };
        // What was not sent is purged when the transaction fails: why it did is the reason.
        let is_purged =
            matches!(failed.code, Some(RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight));
        if is_purged && let Some(cause) = self.has_failed(&failed.what)? {
            return Err(cause);
        }
        match failed.code.map(|code| (code, triage::severity(code, true))) {
            Some((code, triage::Severity::Refused)) => Err(triage::refused(code, &failed.what)),
            _ => Err(LogError::Abortable(failed.what)),
        }
    }

    /// Whether the open transaction has already failed in the background: its records would never arrive,
    /// and only time out.
    fn still_possible(&self) -> Result<(), LogError> {
        self.delivered()?;
        let producer = self.producer()?;
        if let Some((code, reason)) = producer.client().fatal_error() {
            return Err(triage::of_fatal(code, self.expired(), reason));
        }
        self.has_failed("publishing")?.map_or(Ok(()), Err)
    }

    /// Why the open transaction can only be aborted, if it is so.
    fn has_failed(&self, doing: &str) -> Result<Option<LogError>, LogError> {
        // There is no call that asks for the state; beginning again inside a transaction is refused with
        // it and changes nothing.
        Ok(match self.producer()?.begin_transaction() {
            Err(KafkaError::Transaction(error)) if error.txn_requires_abort() => {
                Some(triage::of_transaction(&error, self.expired(), doing))
            }
            _ => None,
        })
    }

    fn of_refused(&self, error: &KafkaError, record: &OutRecord) -> LogError {
        let size = record.payload.as_ref().map_or(0, Vec::len);
        let said = format!("a record of {size} bytes for topic {} was not taken: {error}", record.topic);
        if let Err(cause) = self.still_possible() {
            return cause;
        }
        match error.rdkafka_error_code().map(|code| triage::severity(code, true)) {
            Some(triage::Severity::Passing) => LogError::Abortable(said),
            _ => LogError::Broken(said),
        }
    }

    fn of_error(&self, error: &KafkaError, doing: &str) -> LogError {
        match error {
            KafkaError::Transaction(error) => triage::of_transaction(error, self.expired(), doing),
            // rdkafka flushes before it commits; nothing is committed then.
            KafkaError::Flush(_) => LogError::Retriable(format!("{doing}: {error}")),
            other => LogError::ProducerLost(format!("{doing}: {other}")),
        }
    }

    /// Whether the broker may have given up the open transaction.
    fn expired(&self) -> bool {
        matches!(self.state, State::Open(since) if since.elapsed() >= self.transaction_timeout)
    }

    fn producer(&self) -> Result<&BaseProducer<ProducerNotes>, LogError> {
        self.producer.as_ref().map(OffsetsCaller::producer).ok_or_else(lost)
    }

    fn ready(&self) -> Result<&BaseProducer<ProducerNotes>, LogError> {
        match self.state {
            State::Ready => self.producer(),
            State::Open(_) => Err(LogError::Abortable("a transaction is open already".into())),
            State::Lost | State::Made => Err(lost()),
        }
    }

    fn open(&self) -> Result<(&BaseProducer<ProducerNotes>, Instant), LogError> {
        match self.state {
            State::Open(since) => Ok((self.producer()?, since)),
            State::Ready => Err(LogError::Abortable("no transaction is open".into())),
            State::Lost | State::Made => Err(lost()),
        }
    }
}

impl Drop for Writer {
    /// Ends an open transaction, so that its topics' readers need not wait for its timeout.
    fn drop(&mut self) {
        if matches!(self.state, State::Open(_))
            && let Err(error) = self.abort_within(LEAVE_WITHIN)
        {
            tracing::warn!(%error, "an open transaction is left to its timeout");
        }
    }
}

/// Lets callbacks run. rdkafka's `poll` with a time spins through the part of it that is less than a
/// millisecond, so the waiting is done by sleeping, and polling only takes what is there.
fn serve(producer: &BaseProducer<ProducerNotes>) {
    for _ in 0..EVENTS_A_LOOK {
        producer.poll(Duration::ZERO);
    }
}

fn lost() -> LogError {
    LogError::ProducerLost("it was not initialised".into())
}

/// The record's headers, as rdkafka has them.
pub(super) fn headers(record: &OutRecord) -> Option<OwnedHeaders> {
    if record.headers.is_empty() {
        return None;
    }
    let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
    for header in &record.headers {
        headers = headers.insert(KafkaHeader { key: &header.name, value: header.value.as_deref() });
    }
    Some(headers)
}
