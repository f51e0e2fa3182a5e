//! The log contract's real side: a Kafka broker at `KAFKA_BOOTSTRAP_SERVERS`, as `./test` sets it.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use accrual::log::Record;
use accrual::log::kafka::{
    Credentials, DEFAULT_MAX_POLL_BYTES, KafkaArchive, KafkaLog, KafkaSettings, WantedTopic, ensure_topics,
};
use accrual::types::{Coordinates, TopicName};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::Harness;

/// Long enough for a busy machine; a test that waits this long has failed.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// A broker, and names that no other test or run uses.
pub struct Kafka {
    bootstrap: String,
    run: String,
}

static NAMES: AtomicU32 = AtomicU32::new(0);

impl Kafka {
    /// Fails, and says what to do, where there is no broker: a contract that is skipped is not held.
    pub fn connect() -> Self {
        let bootstrap = std::env::var("KAFKA_BOOTSTRAP_SERVERS")
            .expect("KAFKA_BOOTSTRAP_SERVERS is not set: run ./test, or tests/services/with cargo test");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Self { bootstrap, run: format!("{}-{}", now.as_millis(), std::process::id()) }
    }

    fn unique(&self, what: &str) -> String {
        format!("contract-{what}-{}-{}", self.run, NAMES.fetch_add(1, Ordering::Relaxed))
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap);
        config
    }

    pub fn settings(&self, group: &str, topics: &[&TopicName], id: &str) -> KafkaSettings {
        KafkaSettings {
            properties: BTreeMap::from([("bootstrap.servers".into(), self.bootstrap.clone())]),
            credentials: Credentials::default(),
            topics: topics.iter().map(ToString::to_string).collect(),
            group: group.into(),
            transactional_id: id.into(),
            client_id: "contract".into(),
            max_poll_bytes: DEFAULT_MAX_POLL_BYTES,
        }
    }

    /// The offset after the last record or marker of a topic's only partition.
    pub fn end(&self, topic: &TopicName) -> i64 {
        let reader: BaseConsumer = self.config().set("isolation.level", "read_uncommitted").create().unwrap();
        reader.fetch_watermarks(topic.as_str(), 0, PATIENCE).unwrap().1
    }

    fn producer(&self, transactional: bool) -> BaseProducer {
        let mut config = self.config();
        if transactional {
            config.set("transactional.id", self.unique("upstream"));
        }
        let producer: BaseProducer = config.create().unwrap();
        if transactional {
            producer.init_transactions(PATIENCE).unwrap();
            producer.begin_transaction().unwrap();
        }
        producer
    }

    fn send(producer: &BaseProducer, topic: &TopicName, partition: i32, payloads: &[&str]) {
        for payload in payloads {
            let record = BaseRecord::<str, str>::to(topic.as_str()).partition(partition).payload(payload);
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(PATIENCE).unwrap();
    }
}

impl Harness for Kafka {
    type Log = KafkaLog;
    type Archive = KafkaArchive;

    fn group(&mut self) -> String {
        self.unique("group")
    }

    fn topic(&mut self, partitions: i32) -> TopicName {
        let name = TopicName::from(self.unique("topic"));
        let wanted = WantedTopic {
            name: name.clone(),
            compacted: false,
            takes_inputs: false,
            partitions: Some(partitions),
            config: BTreeMap::new(),
        };
        ensure_topics(&self.settings("none", &[], "none"), &[wanted], true).unwrap();
        name
    }

    fn join(&mut self, group: &str, topics: &[&TopicName], id: &str) -> KafkaLog {
        KafkaLog::open(&self.settings(group, topics, id)).unwrap()
    }

    fn join_mortal(&mut self, group: &str, topics: &[&TopicName], id: &str) -> KafkaLog {
        let mut settings = self.settings(group, topics, id);
        for name in ["session.timeout.ms", "max.poll.interval.ms"] {
            settings.properties.insert(name.into(), "6000".into());
        }
        KafkaLog::open(&settings).unwrap()
    }

    fn declare_dead(&mut self, _: &mut KafkaLog) {
        // It stops polling; the broker finds out by itself.
    }

    fn publish(&mut self, topic: &TopicName, partition: i32, payloads: &[&str]) {
        Self::send(&self.producer(false), topic, partition, payloads);
    }

    fn publish_committed(&mut self, topic: &TopicName, partition: i32, payloads: &[&str]) {
        let producer = self.producer(true);
        Self::send(&producer, topic, partition, payloads);
        producer.commit_transaction(PATIENCE).unwrap();
    }

    fn publish_aborted(&mut self, topic: &TopicName, partition: i32, payloads: &[&str]) {
        let producer = self.producer(true);
        Self::send(&producer, topic, partition, payloads);
        producer.abort_transaction(PATIENCE).unwrap();
    }

    fn committed(&mut self, topic: &TopicName) -> Vec<Record> {
        let reader: BaseConsumer = self
            .config()
            .set("group.id", self.unique("reader"))
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "true")
            .set("enable.auto.commit", "false")
            .create()
            .unwrap();
        let metadata = reader.fetch_metadata(Some(topic.as_str()), PATIENCE).unwrap();
        let partitions = metadata.topics()[0].partitions().len();
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition_offset(topic.as_str(), partition as i32, Offset::Beginning).unwrap();
        }
        reader.assign(&list).unwrap();
        let mut read = Vec::new();
        let mut ended = HashSet::new();
        let deadline = Instant::now() + PATIENCE;
        while ended.len() < partitions {
            assert!(Instant::now() < deadline, "{topic} was not read to its end");
            match reader.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => read.push(Record {
                    at: Coordinates {
                        topic: topic.clone(),
                        partition: message.partition(),
                        offset: message.offset(),
                    },
                    published_ms: message.timestamp().to_millis(),
                    key: message.key().map(<[u8]>::to_vec),
                    payload: message.payload().map(<[u8]>::to_vec),
                    headers: Vec::new(),
                }),
                Some(Err(KafkaError::PartitionEOF(partition))) => _ = ended.insert(partition),
                Some(Err(error)) => panic!("{error}"),
                None => {}
            }
        }
        read
    }

    fn archive(&mut self) -> KafkaArchive {
        KafkaArchive::new(self.settings("none", &[], "none"))
    }
}
