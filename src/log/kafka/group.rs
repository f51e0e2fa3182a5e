//! A consumer group from outside, for commands: whether somebody is in it, what it has committed, and having it begin anew.

use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::RDKafkaErrorCode;

use super::admin::{client, of_call};
use super::archive::KafkaArchive;
use super::context::ConsumerNotes;
use super::offsets;
use super::settings::KafkaSettings;
use crate::log::{Archive, Assigned, LogError};
use crate::types::{TopicName, TopicPartition};

/// A group and the partitions of one topic.
pub struct KafkaGroup {
    name: String,
    consumer: BaseConsumer<ConsumerNotes>,
    partitions: Vec<TopicPartition>,
}

/// How long one question may take.
const ASK_FOR: Duration = Duration::from_secs(10);
/// A worker that was stopped or killed is a member until its session times out, ten seconds unless set.
const MEMBERS_GO_WITHIN: Duration = Duration::from_secs(15);
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(500);

impl KafkaGroup {
    /// The group of these settings; no member of it. Without partitions where there is no such topic.
    ///
    /// # Errors
    /// Where the brokers refuse or do not answer.
    pub fn open(settings: &KafkaSettings, topic: &TopicName) -> Result<Self, LogError> {
        let reach = KafkaArchive::new(settings.clone()).reach(topic, Instant::now() + ASK_FOR)?;
        Ok(Self {
            name: settings.group.clone(),
            consumer: client(&settings.consumer()?, settings)?,
            partitions: reach
                .into_iter()
                .map(|reach| TopicPartition { topic: topic.clone(), partition: reach.partition })
                .collect(),
        })
    }

    /// How many members it has, after waiting some seconds for them to go.
    ///
    /// # Errors
    /// Where the brokers refuse or do not answer.
    pub fn members(&self) -> Result<usize, LogError> {
        let deadline = Instant::now() + MEMBERS_GO_WITHIN;
        loop {
            let found = self.consumer.client().fetch_group_list(Some(self.name.as_str()), ASK_FOR);
            let found = found.map_err(|error| of_call(&self.consumer, &error, "asking for the group"))?;
            let members = found.groups().iter().map(|group| group.members().len()).sum();
            if members == 0 || Instant::now() >= deadline {
                return Ok(members);
            }
            std::thread::sleep(LOOK_AGAIN_AFTER);
        }
    }

    /// What the group has committed of each partition, and what there is of it.
    ///
    /// # Errors
    /// Where the brokers refuse or do not answer.
    pub fn places(&self) -> Result<Vec<Assigned>, LogError> {
        offsets::places(&self.consumer, &self.partitions, ASK_FOR)
    }

    /// Has the group read the topic from its first record on. It says nothing of what was processed.
    ///
    /// # Errors
    /// `Broken` where somebody has joined the group meanwhile.
    pub fn begin_anew(&self) -> Result<(), LogError> {
        let doing = "committing where to begin";
        let mut list = offsets::list(&self.partitions);
        for place in self.places()? {
            let TopicPartition { topic, partition } = &place.partition;
            let begin = Offset::Offset(place.low_watermark);
            list.set_partition_offset(topic.as_str(), *partition, begin)
                .map_err(|error| of_call(&self.consumer, &error, doing))?;
        }
        match self.consumer.commit(&list, CommitMode::Sync) {
            Ok(()) => Ok(()),
            Err(error)
                if matches!(
                    error.rdkafka_error_code(),
                    Some(
                        RDKafkaErrorCode::UnknownMemberId
                            | RDKafkaErrorCode::IllegalGeneration
                            | RDKafkaErrorCode::RebalanceInProgress
                    )
                ) =>
            {
                Err(LogError::Broken(format!(
                    "group {} has members again: stop all workers and try again",
                    self.name
                )))
            }
            Err(error) => Err(of_call(&self.consumer, &error, doing)),
        }
    }
}
