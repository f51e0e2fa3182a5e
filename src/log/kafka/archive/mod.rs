//! Reading back what was published, for who asks about the past: one record, or all records of a key. It
//! belongs to no group, commits nothing and leaves no trace but the broker's work.

mod scanning;

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};

use super::consumer::is_unknown_topic;
use super::context::{self, ConsumerNotes, Health};
use super::settings::KafkaSettings;
use super::{records, triage};
use crate::log::{Archive, KeyQuery, LogError, Partitions, Reach, Record, Stretch};
use crate::types::{Coordinates, TopicName, TopicPartition};
use scanning::Scanning;

/// What Kafka still has.
#[derive(Debug)]
pub struct KafkaArchive {
    settings: KafkaSettings,
    /// Where the last scan ended, if there is more of what was known as decided then.
    scanning: Mutex<Option<Scanning>>,
}

/// How long one question to the brokers may take.
const ASK_FOR: Duration = Duration::from_secs(5);

impl KafkaArchive {
    /// Reaches Kafka as a lane of these settings does. Connects when it is asked.
    pub fn new(settings: KafkaSettings) -> Self {
        Self { settings, scanning: Mutex::default() }
    }

    /// The first offset of a partition that was published then (milliseconds since 1970) or later, if there is one.
    pub fn first_since(
        &self,
        of: &TopicPartition,
        ms: i64,
        deadline: Instant,
    ) -> Result<Option<i64>, LogError> {
        self.reader(deadline)?.offset_at(of.topic.as_str(), of.partition, ms)
    }

    fn reader(&self, deadline: Instant) -> Result<Reader, LogError> {
        self.reader_of("read_committed", deadline)
    }

    fn reader_of(&self, isolation: &str, deadline: Instant) -> Result<Reader, LogError> {
        let mut config = self.settings.consumer()?;
        config.set("isolation.level", isolation);
        // The group's name is needed to be assigned partitions; it is not joined.
        config.set("enable.partition.eof", "true").set("statistics.interval.ms", "0");
        // The end is known once the broker has waited for more, which nobody here waits for.
        config.set("fetch.wait.max.ms", "10");
        // A record that is gone is said to be gone, and never replaced by another one.
        config.set("auto.offset.reset", "error");
        let consumer = context::consumer(&config, self.settings.credentials.token())
            .map_err(|error| triage::of_call(&error, &Health::default(), "making a reader"))?;
        Ok(Reader { consumer, deadline })
    }
}

impl Archive for KafkaArchive {
    fn record(&self, at: &Coordinates, deadline: Instant) -> Result<Option<Record>, LogError> {
        let reader = self.reader(deadline)?;
        let topic = at.topic.as_str();
        let known = reader.partitions(&at.topic)?;
        if !(0..known).contains(&at.partition) {
            return Ok(None);
        }
        let (low, high) = reader.watermarks(topic, at.partition)?;
        if at.offset < low || at.offset >= high {
            return Ok(None);
        }
        let mut found = None;
        reader.assign(topic, &[(at.partition, at.offset)])?;
        let ended = reader.read(topic, &[at.partition], |message| {
            // Where it was compacted away the next one comes.
            if message.offset() == at.offset {
                found = Some(records::copy(at.topic.clone(), message));
            }
            false
        })?;
        if !ended {
            return Err(LogError::Retriable(format!("{at} was not read in time")));
        }
        Ok(found)
    }

    fn of_key(
        &self,
        wanted: &KeyQuery<'_>,
        deadline: Instant,
        found: &mut dyn FnMut(&[u8], Option<i64>),
    ) -> Result<bool, LogError> {
        let reader = self.reader(deadline)?;
        let topic = wanted.topic.as_str();
        let known = reader.partitions(wanted.topic)?;
        let usual = usual_partition(wanted.key, known);
        let mut list = Vec::new();
        for partition in 0..known {
            if (partition == usual) != (wanted.partitions == Partitions::Usual) {
                continue;
            }
            let (low, high) = reader.watermarks(topic, partition)?;
            let first = match wanted.since_ms {
                None => low,
                Some(ms) => reader.offset_at(topic, partition, ms)?.unwrap_or(high).max(low),
            };
            if first < high {
                list.push((partition, first));
            }
        }
        if list.is_empty() {
            return Ok(true);
        }
        reader.assign(topic, &list)?;
        let partitions: Vec<i32> = list.into_iter().map(|(partition, _)| partition).collect();
        reader.read(topic, &partitions, |message| {
            let ms = message.timestamp().to_millis();
            if let (Some(last), Some(ms)) = (wanted.until_ms, ms)
                && ms > last
            {
                return false;
            }
            if message.key() == Some(wanted.key)
                && let Some(payload) = message.payload()
            {
                found(payload, ms);
            }
            true
        })
    }

    fn usual_partition(&self, key: &[u8], partitions: i32) -> i32 {
        usual_partition(key, partitions)
    }

    fn reach(&self, topic: &TopicName, deadline: Instant) -> Result<Vec<Reach>, LogError> {
        let committed = self.reader(deadline)?;
        let known = committed.partitions(topic)?;
        let all = self.reader_of("read_uncommitted", deadline)?;
        let of = |partition| {
            // In this order: what is open between the two questions is behind the end of the first.
            let (first, end) = all.watermarks(topic.as_str(), partition)?;
            let (_, decided) = committed.watermarks(topic.as_str(), partition)?;
            Ok(Reach { partition, first, decided, end })
        };
        (0..known).map(of).collect()
    }

    fn scan(
        &self,
        stretch: &Stretch,
        deadline: Instant,
        take: &mut dyn FnMut(Record) -> bool,
    ) -> Result<bool, LogError> {
        let mut last = self.scanning.lock().unwrap_or_else(PoisonError::into_inner);
        let mut scanning = match last.take().filter(|last| last.goes_on_with(stretch)) {
            Some(mut last) => {
                last.reader.deadline = deadline;
                last
            }
            None => match Scanning::begin(self.reader(deadline)?, stretch)? {
                Some(scanning) => scanning,
                None => return Ok(false),
            },
        };
        let is_read = scanning.read_to(stretch.until, take)?;
        *last = Some(scanning).filter(|scanning| scanning.has_more_after(stretch.until));
        Ok(is_read)
    }
}

/// How long to wait before looking again whether a transaction is decided.
const UNDECIDED: Duration = Duration::from_millis(20);

/// The partition that a key is usually written to, as Java clients and the lanes' producers partition. Another
/// one where the operator chose another partitioner, or where there were fewer partitions once.
pub(super) fn usual_partition(key: &[u8], partitions: i32) -> i32 {
    let hash = murmur2(key) & 0x7fff_ffff;
    i32::try_from(hash).unwrap_or_default().checked_rem(partitions).unwrap_or_default()
}

/// Source: `Utils.murmur2` of Kafka's Java client.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX); // keys are bounded far below
    let mut hash = 0x9747_b28c ^ length;
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut word = u32::from_le_bytes(*word).wrapping_mul(M);
        word ^= word >> 24;
        hash = hash.wrapping_mul(M) ^ word.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (at, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * at);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

/// One reading, which ends at its deadline.
struct Reader {
    consumer: BaseConsumer<ConsumerNotes>,
    deadline: Instant,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

impl Reader {
    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Time for one question; a little where none is left, so that what was read before is not lost to haste.
    fn patience(&self) -> Duration {
        self.left().clamp(Duration::from_millis(100), ASK_FOR)
    }

    fn triaged<T>(&self, result: Result<T, KafkaError>, doing: &str) -> Result<T, LogError> {
        result.map_err(|error| {
            let health = self.consumer.context().health();
            triage::refused_meanwhile(health).unwrap_or_else(|| triage::of_call(&error, health, doing))
        })
    }

    /// How many partitions a topic has; none where there is no such topic.
    fn partitions(&self, topic: &TopicName) -> Result<i32, LogError> {
        let doing = format!("asking for topic {topic}");
        let found =
            self.triaged(self.consumer.fetch_metadata(Some(topic.as_str()), self.patience()), &doing)?;
        let Some(described) = found.topics().first() else { return Ok(0) };
        match described.error().map(RDKafkaErrorCode::from) {
            Some(code) if is_unknown_topic(code) => Ok(0),
            Some(code) => Err(LogError::Retriable(format!("{doing}: {code}"))),
            None => Ok(i32::try_from(described.partitions().len()).unwrap_or(i32::MAX)),
        }
    }

    /// The first offset and the one after the last that a `read_committed` reader may see.
    fn watermarks(&self, topic: &str, partition: i32) -> Result<(i64, i64), LogError> {
        let found = self.consumer.fetch_watermarks(topic, partition, self.patience());
        self.triaged(found, &format!("asking for the ends of {topic}/{partition}"))
    }

    /// The first offset that was published at that moment or later, if there is one.
    fn offset_at(&self, topic: &str, partition: i32, ms: i64) -> Result<Option<i64>, LogError> {
        let doing = format!("asking for a moment in {topic}/{partition}");
        let mut list = TopicPartitionList::new();
        self.triaged(list.add_partition_offset(topic, partition, Offset::Offset(ms.max(0))), &doing)?;
        let found = self.triaged(self.consumer.offsets_for_times(list, self.patience()), &doing)?;
        Ok(found.elements().first().and_then(|partition| partition.offset().to_raw()).filter(|at| *at >= 0))
    }

    /// Goes to these offsets of partitions.
    fn assign(&self, topic: &str, from: &[(i32, i64)]) -> Result<(), LogError> {
        let doing = format!("going to a place in {topic}");
        let mut list = TopicPartitionList::new();
        for (partition, offset) in from {
            self.triaged(list.add_partition_offset(topic, *partition, Offset::Offset(*offset)), &doing)?;
        }
        self.triaged(self.consumer.assign(&list), &doing)
    }

    /// Reads on in partitions that were assigned, to their ends. One for which `take` says false is done. False where
    /// time ran out before.
    fn read(
        &self,
        topic: &str,
        partitions: &[i32],
        mut take: impl FnMut(&BorrowedMessage<'_>) -> bool,
    ) -> Result<bool, LogError> {
        let doing = format!("reading {topic}");
        let mut open = partitions.to_vec();
        while !open.is_empty() {
            let left = self.left();
            if left.is_zero() {
                return Ok(false);
            }
            match self.consumer.poll(left.min(Duration::from_millis(100))) {
                None => {}
                Some(Ok(message)) => {
                    let partition = message.partition();
                    if open.contains(&partition) && !take(&message) {
                        open.retain(|open| *open != partition);
                    }
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => open.retain(|open| *open != partition),
                // Retention took it between the question and the reading.
                Some(Err(error)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AutoOffsetReset) => {
                    return Ok(true);
                }
                Some(Err(error)) => match self.triaged::<()>(Err(error), &doing) {
                    // librdkafka goes on by itself; the deadline ends it.
                    Err(LogError::Retriable(_)) | Ok(()) => {}
                    Err(error) => return Err(error),
                },
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_hashed_as_kafkas_own_clients_hash_them() {
        // From UtilsTest.java of Kafka.
        for (key, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash, "{key}");
        }
    }
}
