//! The part of librdkafka's statistics that accrual reads: how far each partition is fetched, where
//! its readable end is, and whether a broker is up.
//!
//! `PartitionEOF` would tell the end sooner, but rdkafka's names the partition without its topic, and
//! a worker reads several topics. librdkafka's own `consumer_lag` counts transaction markers, so it
//! never gets to zero behind them.

use std::collections::HashMap;
use std::time::Duration;

use serde::Deserialize;

/// One set of statistics.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// When it was taken, counted from the making of the client.
    pub age: Duration,
    /// Whether any broker's connection is up.
    pub broker_up: bool,
    /// Every partition that is being fetched.
    pub partitions: Vec<Fetched>,
}

/// How far a partition is fetched.
#[derive(Debug)]
pub(super) struct Fetched {
    pub topic: String,
    pub partition: i32,
    /// The offset that a `read_committed` reader can read up to.
    pub end: i64,
    /// Everything before this offset was fetched and nothing readable stands at or behind it, if the
    /// fetcher has come to the end.
    pub at_end: Option<i64>,
}

#[derive(Deserialize)]
struct Raw {
    age: u64,
    #[serde(default)]
    brokers: HashMap<String, RawBroker>,
    #[serde(default)]
    topics: HashMap<String, RawTopic>,
}

#[derive(Deserialize)]
struct RawBroker {
    #[serde(default)]
    nodeid: i32,
    #[serde(default)]
    state: String,
}

#[derive(Deserialize)]
struct RawTopic {
    #[serde(default)]
    partitions: HashMap<String, RawPartition>,
}

#[derive(Deserialize)]
struct RawPartition {
    partition: i32,
    fetch_state: String,
    next_offset: i64,
    eof_offset: i64,
    ls_offset: i64,
}

impl Snapshot {
    /// Reads librdkafka's JSON.
    pub(super) fn parse(json: &[u8]) -> Result<Self, serde_json::Error> {
        let raw: Raw = serde_json::from_slice(json)?;
        let broker_up = raw.brokers.values().any(|broker| broker.state == "UP" && broker.nodeid >= 0);
        let mut partitions = Vec::new();
        for (topic, of_topic) in raw.topics {
            // Partition -1 is librdkafka's own, for records without a place.
            let fetched = of_topic.partitions.into_values().filter(|p| p.partition >= 0);
            partitions.extend(fetched.filter(|p| p.fetch_state == "active").map(|p| Fetched {
                topic: topic.clone(),
                partition: p.partition,
                end: p.ls_offset,
                at_end: (p.eof_offset >= 0 && p.eof_offset == p.next_offset).then_some(p.eof_offset),
            }));
        }
        Ok(Self { age: Duration::from_micros(raw.age), broker_up, partitions })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_at_its_end_only_where_the_fetcher_is_active_and_stands_there() {
        let partition = |n: i32, state: &str, next: i64, eof: i64| {
            format!(
                r#""{n}":{{"partition":{n},"fetch_state":"{state}","next_offset":{next},"eof_offset":{eof},"ls_offset":9,"more":1}}"#
            )
        };
        let json = format!(
            r#"{{"age":1500,"brokers":{{"b":{{"nodeid":1,"state":"UP"}}}},"topics":{{"t":{{"partitions":{{{},{},{},{}}}}}}}}}"#,
            partition(0, "active", 9, 9),
            partition(1, "active", 7, -1001),
            partition(2, "stopping", 9, 9),
            partition(-1, "active", 9, 9),
        );
        let snapshot = Snapshot::parse(json.as_bytes()).unwrap();
        assert!(snapshot.broker_up);
        assert_eq!(snapshot.age, Duration::from_micros(1500));
        let mut found: Vec<_> = snapshot.partitions.iter().map(|p| (p.partition, p.at_end)).collect();
        found.sort_unstable();
        assert_eq!(found, [(0, Some(9)), (1, None)]);
    }
}
