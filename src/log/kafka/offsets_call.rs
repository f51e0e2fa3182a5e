//! Consumed offsets into a transaction, with a limit of time.
//!
//! librdkafka's own call keeps none (2.12; confluentinc/librdkafka#5456, #5511): where the group's coordinator went away, its
//! request is tried again when some broker's state changes, however long that takes. So it is made on a thread of its own. One
//! that is not answered is left behind with its producer, which a new one under the same transactional id fences.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::KafkaResult;
use rdkafka::producer::{BaseProducer, Producer, PurgeConfig};
use rdkafka::topic_partition_list::TopicPartitionList;

use super::context::ProducerNotes;
use super::producer::ASK_FOR;

type Call = (TopicPartitionList, Arc<ConsumerGroupMetadata>);

/// How long a call is waited for. librdkafka is told to take [`ASK_FOR`], which some of its waits keep to.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);
/// So many may be left behind at a time, each with its threads and connections. Then the last is waited for without a limit.
const LEFT_BEHIND_AT_MOST: usize = 8;

/// A producer, and the thread that sends consumed offsets over it.
pub(super) struct OffsetsCaller {
    producer: Arc<BaseProducer<ProducerNotes>>,
    /// Nothing once it ends.
    calls: Option<SyncSender<Call>>,
    answers: Receiver<KafkaResult<()>>,
    thread: Option<JoinHandle<()>>,
}

/// There was no answer.
pub(super) struct Unanswered;

impl OffsetsCaller {
    /// Begins the thread.
    pub(super) fn begin(producer: BaseProducer<ProducerNotes>) -> std::io::Result<Self> {
        let producer = Arc::new(producer);
        let (calls, to_make) = sync_channel::<Call>(1);
        let (answered, answers) = sync_channel(1);
        let over = Arc::clone(&producer);
        let make_all = move || {
            for (offsets, generation) in to_make {
                let answer = over.send_offsets_to_transaction(&offsets, &generation, ASK_FOR);
                if answered.send(answer).is_err() {
                    break;
                }
            }
        };
        let thread = std::thread::Builder::new().name("offsets".into()).spawn(make_all)?;
        Ok(Self { producer, calls: Some(calls), answers, thread: Some(thread) })
    }

    pub(super) fn producer(&self) -> &BaseProducer<ProducerNotes> {
        &self.producer
    }

    /// Sends them, unless it takes too long. After [`Unanswered`] the producer can only be left behind.
    pub(super) fn send(
        &self,
        offsets: TopicPartitionList,
        generation: &Arc<ConsumerGroupMetadata>,
        left_behind: &mut LeftBehind,
    ) -> Result<KafkaResult<()>, Unanswered> {
        let calls = self.calls.as_ref().ok_or(Unanswered)?;
        calls.send((offsets, Arc::clone(generation))).map_err(|_| Unanswered)?;
        if left_behind.are_too_many() {
            return self.answers.recv().map_err(|_| Unanswered);
        }
        self.answers.recv_timeout(ANSWERS_WITHIN).map_err(|_| Unanswered)
    }

    /// Its thread ends, and the producer with it, when the call does.
    pub(super) fn leave_behind(mut self, left_behind: &mut LeftBehind) {
        // It is fenced before anything else is written. But what it has not sent yet need not even be tried.
        self.producer.purge(PurgeConfig::default().queue().inflight());
        self.thread = None;
        left_behind.producers.push(Arc::downgrade(&self.producer));
    }
}

impl Drop for OffsetsCaller {
    fn drop(&mut self) {
        self.calls = None;
        // Nothing is under way. Whoever makes another producer relies on this one being gone.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Producers whose call was not answered.
#[derive(Default)]
pub(super) struct LeftBehind {
    producers: Vec<Weak<BaseProducer<ProducerNotes>>>,
}

impl LeftBehind {
    fn are_too_many(&mut self) -> bool {
        self.producers.retain(|producer| producer.strong_count() > 0);
        self.producers.len() >= LEFT_BEHIND_AT_MOST
    }
}
