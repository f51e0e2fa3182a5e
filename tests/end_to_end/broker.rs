//! The broker from the outside: topics, producing and reading, with rdkafka's own clients.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header as KafkaHeader, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

pub type Header = (String, String);

/// Long enough for a busy machine; a test that waits this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(90);

pub struct Read {
    pub key: Option<Vec<u8>>,
    pub payload: Vec<u8>,
    pub headers: Vec<Header>,
}

impl Read {
    pub fn header(&self, name: &str) -> String {
        let found = self.headers.iter().find(|(header, _)| header == name);
        found.unwrap_or_else(|| panic!("no header {name}")).1.clone()
    }
}

pub fn bootstrap() -> String {
    std::env::var("KAFKA_BOOTSTRAP_SERVERS")
        .expect("KAFKA_BOOTSTRAP_SERVERS is not set: run ./test, or tests/services/with cargo test")
}

fn config() -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap());
    config
}

pub fn create_topic(name: &str, partitions: i32, settings: &[(&str, &str)]) {
    let admin: AdminClient<DefaultClientContext> = config().create().unwrap();
    let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    let topic = settings.iter().fold(topic, |topic, (setting, value)| topic.set(setting, value));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let created = runtime.block_on(admin.create_topics([&topic], &AdminOptions::new())).unwrap();
    created.into_iter().for_each(|topic| {
        topic.unwrap();
    });
}

/// Deletes a topic and makes one of that name anew, once the broker lets it.
pub fn recreate_topic(name: &str, partitions: i32) {
    let admin: AdminClient<DefaultClientContext> = config().create().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let deleted = runtime.block_on(admin.delete_topics(&[name], &AdminOptions::new())).unwrap();
    deleted.into_iter().for_each(|topic| {
        topic.unwrap();
    });
    let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    let deadline = Instant::now() + PATIENCE;
    while runtime.block_on(admin.create_topics([&topic], &AdminOptions::new())).unwrap()[0].is_err() {
        assert!(Instant::now() < deadline, "{name} is not made anew");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Kafka forgets a group with all its offsets, as it does by itself some days after its last member went.
pub fn forget_group(name: &str) {
    let admin: AdminClient<DefaultClientContext> = config().create().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let deadline = Instant::now() + PATIENCE;
    while runtime.block_on(admin.delete_groups(&[name], &AdminOptions::new())).unwrap()[0].is_err() {
        assert!(Instant::now() < deadline, "group {name} is not forgotten");
        std::thread::sleep(Duration::from_millis(100));
    }
}

pub fn produce<'a>(topic: &str, records: impl IntoIterator<Item = (&'a str, &'a str, &'a [Header])>) {
    let producer: BaseProducer =
        config().set("linger.ms", "20").set("message.max.bytes", "100000000").create().unwrap();
    for (key, payload, headers) in records {
        let mut owned = OwnedHeaders::new();
        for (name, value) in headers {
            owned = owned.insert(KafkaHeader { key: name, value: Some(value) });
        }
        let mut record = BaseRecord::to(topic).key(key).payload(payload).headers(owned);
        while let Err((_, back)) = producer.send(record) {
            producer.poll(Duration::from_millis(10));
            record = back;
        }
    }
    producer.flush(PATIENCE).unwrap();
}

/// All that a `read_committed` reader sees of a topic, from its start to its end. It waits until no transaction is open:
/// a worker that was killed leaves one behind, and the broker writes the end of any down a little after it has said so.
pub fn read(topic: &str) -> Vec<Read> {
    let reader: BaseConsumer = config()
        .set("group.id", "end-to-end-reader")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    let sees_all: BaseConsumer = config().set("isolation.level", "read_uncommitted").create().unwrap();
    let partitions = reader.fetch_metadata(Some(topic), PATIENCE).unwrap().topics()[0].partitions().len();
    let deadline = Instant::now() + PATIENCE;
    let mut list = TopicPartitionList::new();
    for partition in 0..i32::try_from(partitions).unwrap() {
        list.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
        let end = |reader: &BaseConsumer| reader.fetch_watermarks(topic, partition, PATIENCE).unwrap().1;
        while end(&reader) < end(&sees_all) {
            assert!(Instant::now() < deadline, "{topic} {partition}: a transaction stays open");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    reader.assign(&list).unwrap();
    let (mut records, mut ended) = (Vec::new(), HashSet::new());
    while ended.len() < partitions {
        assert!(Instant::now() < deadline, "{topic} was not read to its end");
        match reader.poll(Duration::from_millis(200)) {
            None => {}
            Some(Err(KafkaError::PartitionEOF(partition))) => _ = ended.insert(partition),
            Some(Err(error)) => panic!("{topic}: {error}"),
            Some(Ok(message)) => records.push(Read {
                key: message.key().map(<[u8]>::to_vec),
                payload: message.payload().unwrap_or_default().to_vec(),
                headers: message.headers().map_or_else(Vec::new, |headers| {
                    let text = |value: Option<&[u8]>| {
                        String::from_utf8_lossy(value.unwrap_or_default()).into_owned()
                    };
                    headers.iter().map(|header| (header.key.to_owned(), text(header.value))).collect()
                }),
            }),
        }
    }
    records
}

/// As an operator does with `kafka-consumer-groups --reset-offsets --to-earliest`: no metadata.
pub fn rewind(group: &str, topic: &str, partitions: i32) {
    let consumer: BaseConsumer = config().set("group.id", group).create().unwrap();
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition, Offset::Offset(0)).unwrap();
    }
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = consumer.commit(&list, CommitMode::Sync) {
        assert!(Instant::now() < deadline, "the group cannot be rewound: {error}");
        std::thread::sleep(Duration::from_millis(200));
    }
}
