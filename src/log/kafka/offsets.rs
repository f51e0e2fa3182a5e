//! Where to begin on partitions that were just assigned.

use std::time::Duration;

use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::TopicPartitionList;

use super::context::{self, ConsumerNotes, Health};
use super::settings::{KafkaSettings, StartAt};
use super::triage;
use crate::log::{Assigned, LogError, shorter_than_known};
use crate::types::TopicPartition;

/// A partition and where it is taken up.
pub(super) struct Start {
    /// What the lane is told.
    pub assigned: Assigned,
    /// The first offset to read: the committed one, if there is one and it still exists.
    pub at: i64,
    /// Where a `read_committed` reader's view ended just now.
    pub end: i64,
}

/// Asks the coordinator for committed offsets and the leaders for both ends. Waits, as
/// `read_committed` consumers do, until no transaction holds offsets that may still be committed:
/// that of a predecessor that was cut off between sending them and its commit.
pub(super) fn of(
    consumer: &BaseConsumer<ConsumerNotes>,
    settings: &KafkaSettings,
    partitions: &[TopicPartition],
    start_at: StartAt,
    patience: Duration,
) -> Result<Vec<Start>, LogError> {
    let places = places(consumer, partitions, patience)?;
    places
        .into_iter()
        .map(|assigned| {
            let Assigned { partition, committed, low_watermark: low, end } = &assigned;
            let (low, end) = (*low, *end);
            let at = match committed {
                Some((offset, _)) if *offset > end => beyond(settings, partition, *offset, patience)?,
                Some((offset, _)) if *offset < low => {
                    let lost = low - offset;
                    tracing::error!(%partition, offset, low, lost, "records were deleted before they were read");
                    low
                }
                Some((offset, _)) => *offset,
                None if start_at == StartAt::Latest => end,
                None => low,
            };
            Ok(Start { assigned, at, end })
        })
        .collect()
}

/// What the coordinator and the leaders say of partitions.
pub(super) fn places(
    consumer: &BaseConsumer<ConsumerNotes>,
    partitions: &[TopicPartition],
    patience: Duration,
) -> Result<Vec<Assigned>, LogError> {
    if partitions.is_empty() {
        return Ok(Vec::new());
    }
    let triaged =
        |error: KafkaError, doing: &str| triage::of_call(&error, consumer.context().health(), doing);
    let committed = consumer
        .committed_offsets(list(partitions), patience)
        .map_err(|error| triaged(error, "asking for committed offsets"))?;
    let ends = |which: Offset| -> KafkaResult<TopicPartitionList> {
        // A timestamp of -2 or -1 asks for the first or the end offset, for all partitions in one go.
        let mut wanted = list(partitions);
        wanted.set_all_offsets(which)?;
        consumer.offsets_for_times(wanted, patience)
    };
    let lows = ends(Offset::Beginning).map_err(|error| triaged(error, "asking for first offsets"))?;
    let highs = ends(Offset::End).map_err(|error| triaged(error, "asking for end offsets"))?;
    partitions
        .iter()
        .map(|partition| {
            let found =
                found(&committed, partition).map_err(|error| triaged(error, &format!("{partition}")))?;
            let low = bound(&lows, partition).map_err(|error| triaged(error, &format!("{partition}")))?;
            let end = bound(&highs, partition).map_err(|error| triaged(error, &format!("{partition}")))?;
            Ok(Assigned { partition: partition.clone(), committed: found, low_watermark: low, end })
        })
        .collect()
}

/// A committed offset behind the end. An operator who skips to the newest record gets there while
/// somebody's transaction is open: fine. Behind the last record it means another topic by the same
/// name, or a lost tail: going on would take new events for old ones.
fn beyond(
    settings: &KafkaSettings,
    partition: &TopicPartition,
    committed: i64,
    patience: Duration,
) -> Result<i64, LogError> {
    let health = Health::default();
    let doing = format!("asking for the last offset of {partition}");
    let mut config = settings.plain()?;
    config.set("isolation.level", "read_uncommitted");
    let uncommitted = context::consumer(&config, settings.credentials.token())
        .map_err(|error| triage::of_call(&error, &health, &doing))?;
    let (_, high) = uncommitted
        .fetch_watermarks(partition.topic.as_str(), partition.partition, patience)
        .map_err(|error| triage::of_call(&error, &health, &doing))?;
    if committed <= high {
        return Ok(committed);
    }
    Err(LogError::Broken(shorter_than_known(partition, committed, high)))
}

/// A list of partitions without offsets.
pub(super) fn list(partitions: &[TopicPartition]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        list.add_partition(partition.topic.as_str(), partition.partition);
    }
    list
}

fn found(committed: &TopicPartitionList, at: &TopicPartition) -> KafkaResult<Option<(i64, String)>> {
    let Some(found) = committed.find_partition(at.topic.as_str(), at.partition) else {
        return Ok(None);
    };
    found.error()?;
    Ok(match found.offset() {
        Offset::Offset(offset) => Some((offset, found.metadata().to_owned())),
        _ => None,
    })
}

fn bound(bounds: &TopicPartitionList, at: &TopicPartition) -> KafkaResult<i64> {
    let missing = || KafkaError::OffsetFetch(rdkafka::error::RDKafkaErrorCode::UnknownPartition);
    let found = bounds.find_partition(at.topic.as_str(), at.partition).ok_or_else(missing)?;
    found.error()?;
    match found.offset() {
        Offset::Offset(offset) => Ok(offset),
        // An empty partition has no first record to find: it begins and ends at its end.
        _ => Err(KafkaError::OffsetFetch(rdkafka::error::RDKafkaErrorCode::OffsetNotAvailable)),
    }
}
