//! The log contract's in-memory side: a broker of its own for each promise.

use std::time::Instant;

use accrual::log::memory::{MemoryBroker, MemoryLog};
use accrual::log::{Archive, Record, Stretch};
use accrual::types::{TopicName, TopicPartition};

use crate::Harness;

/// A broker with its one consumer group, and how many names were given out.
#[derive(Default)]
pub struct Memory {
    broker: MemoryBroker,
    topics: usize,
    has_group: bool,
}

impl Harness for Memory {
    type Log = MemoryLog;
    type Archive = MemoryBroker;

    fn group(&mut self) -> String {
        assert!(!self.has_group, "a broker in memory has one group");
        self.has_group = true;
        "group".to_owned()
    }

    fn topic(&mut self, partitions: i32) -> TopicName {
        self.topics += 1;
        let name = TopicName::from(format!("topic-{}", self.topics));
        self.broker.create(&name, partitions);
        name
    }

    fn join(&mut self, _group: &str, topics: &[&TopicName], id: &str) -> MemoryLog {
        self.broker.subscribe(topics);
        self.broker.connect(id)
    }

    fn join_mortal(&mut self, group: &str, topics: &[&TopicName], id: &str) -> MemoryLog {
        self.join(group, topics, id)
    }

    fn declare_dead(&mut self, log: &mut MemoryLog) {
        self.broker.remove_member(log.member);
    }

    fn publish(&mut self, topic: &TopicName, partition: i32, payloads: &[&str]) {
        let partition = TopicPartition { topic: topic.clone(), partition };
        for payload in payloads {
            self.broker.produce(&partition, None, payload.as_bytes().to_vec());
        }
    }

    fn publish_committed(&mut self, topic: &TopicName, partition: i32, payloads: &[&str]) {
        self.publish(topic, partition, payloads);
        self.broker.leave_out(&TopicPartition { topic: topic.clone(), partition }, 1);
    }

    fn publish_aborted(&mut self, topic: &TopicName, partition: i32, payloads: &[&str]) {
        self.broker.leave_out(&TopicPartition { topic: topic.clone(), partition }, payloads.len() + 1);
    }

    fn committed(&mut self, topic: &TopicName) -> Vec<Record> {
        let now = Instant::now();
        let mut records = Vec::new();
        for reach in self.broker.reach(topic, now).unwrap() {
            let of = TopicPartition { topic: topic.clone(), partition: reach.partition };
            let stretch = Stretch { of, from: reach.first, until: reach.decided };
            let mut take = |record| {
                records.push(record);
                true
            };
            assert!(self.broker.scan(&stretch, now, &mut take).unwrap(), "{topic} was not read to its end");
        }
        records
    }

    fn archive(&mut self) -> MemoryBroker {
        self.broker.clone()
    }
}
