//! The partitions that this lane owns, and how far each is read and committed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::stats::Snapshot;
use crate::types::{TopicName, TopicPartition};

/// How far one owned partition has come.
#[derive(Debug)]
pub(super) struct Place {
    /// The next offset to be handed to the lane.
    pub next: i64,
    /// The next offset that is not settled: committed with its results.
    settled: i64,
    /// Where a `read_committed` reader's view ends, when last heard of.
    end: i64,
    state: Reading,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reading {
    /// There is more, or nobody knows.
    Under,
    /// The fetcher is at the end; what it fetched may still be queued for the lane.
    Fetched,
    /// The lane was given everything up to the end.
    AtEnd,
}

/// What is owned, by topic and partition. A worker reads a handful of topics: the list is short.
#[derive(Default, Debug)]
pub(super) struct Assignment {
    topics: Vec<(TopicName, BTreeMap<i32, Place>)>,
    /// Snapshots taken before this say nothing about where the lane reads now.
    since: Option<Instant>,
}

/// librdkafka starts and stops fetchers on its own thread, a moment after it was told to.
const FETCHERS_CHANGE_WITHIN: Duration = Duration::from_millis(50);

/// What this lane committed to a topic that it reads itself becomes readable a moment later, once the
/// coordinator has written its markers.
const MARKERS_ARE_WRITTEN_WITHIN: Duration = Duration::from_millis(500);

impl Assignment {
    /// Takes up partitions, each with the offset to begin at and the end seen just before.
    pub(super) fn new(places: impl IntoIterator<Item = (TopicPartition, i64, i64)>, now: Instant) -> Self {
        let mut taken = Self { topics: Vec::new(), since: Some(now + FETCHERS_CHANGE_WITHIN) };
        for (partition, next, end) in places {
            let state = if next >= end { Reading::AtEnd } else { Reading::Under };
            let place = Place { next, settled: next, end, state };
            match taken.topics.iter_mut().find(|(name, _)| *name == partition.topic) {
                Some((_, places)) => _ = places.insert(partition.partition, place),
                None => taken.topics.push((partition.topic, BTreeMap::from([(partition.partition, place)]))),
            }
        }
        taken
    }

    /// All owned partitions.
    pub(super) fn partitions(&self) -> Vec<TopicPartition> {
        self.places().map(|(topic, partition, _)| at(topic, partition)).collect()
    }

    /// Looks an owned partition up, with the topic's name as it is shared by all records.
    pub(super) fn find(&mut self, topic: &str, partition: i32) -> Option<(&TopicName, &mut Place)> {
        let (name, places) = self.topics.iter_mut().find(|(name, _)| name.as_str() == topic)?;
        Some((name, places.get_mut(&partition)?))
    }

    /// Takes in statistics of a client that was made no earlier than `made`.
    pub(super) fn see(&mut self, snapshot: &Snapshot, made: Instant) {
        if self.since.is_none_or(|since| made + snapshot.age <= since) {
            return;
        }
        for fetched in &snapshot.partitions {
            let Some((_, place)) = self.find(&fetched.topic, fetched.partition) else {
                continue;
            };
            place.end = place.end.max(fetched.end);
            // Behind the lane's own place the snapshot is old news: there is more since.
            place.state = match fetched.at_end {
                Some(end) if place.next <= end && place.state == Reading::AtEnd => Reading::AtEnd,
                Some(end) if place.next <= end => Reading::Fetched,
                _ => Reading::Under,
            };
        }
    }

    /// The queue of fetched records was found empty after the last snapshot.
    pub(super) fn drained(&mut self) {
        for (_, places) in &mut self.topics {
            for place in places.values_mut().filter(|place| place.state == Reading::Fetched) {
                place.state = Reading::AtEnd;
            }
        }
    }

    /// This lane has just published to a topic: its end is further now.
    pub(super) fn published_to(&mut self, topic: &TopicName, now: Instant) {
        if let Some((_, places)) = self.topics.iter_mut().find(|(name, _)| name == topic) {
            self.since = self.since.max(Some(now + MARKERS_ARE_WRITTEN_WITHIN));
            places.values_mut().for_each(|place| place.state = Reading::Under);
        }
    }

    /// Whether everything owned is read to its end.
    pub(super) fn caught_up(&self) -> bool {
        self.places().all(|(_, _, place)| place.state == Reading::AtEnd)
    }

    /// Offsets that were committed.
    pub(super) fn settled(&mut self, partition: &TopicPartition, next: i64) {
        if let Some((_, place)) = self.find(partition.topic.as_str(), partition.partition) {
            place.settled = place.settled.max(next);
        }
    }

    /// For each partition, how many offsets are not settled yet. Zero at the end also where markers or
    /// aborted records stand behind the last record.
    pub(super) fn lags(&self) -> Vec<(TopicPartition, i64)> {
        self.places()
            .map(|(topic, partition, place)| {
                let done = place.state == Reading::AtEnd && place.settled >= place.next;
                (at(topic, partition), if done { 0 } else { (place.end - place.settled).max(0) })
            })
            .collect()
    }

    fn places(&self) -> impl Iterator<Item = (&TopicName, i32, &Place)> {
        self.topics.iter().flat_map(|(topic, places)| places.iter().map(move |(n, place)| (topic, *n, place)))
    }
}

impl Place {
    /// A record was handed to the lane.
    pub(super) fn read(&mut self, offset: i64) {
        self.next = offset + 1;
        self.state = Reading::Under;
    }
}

fn at(topic: &TopicName, partition: i32) -> TopicPartition {
    TopicPartition { topic: topic.clone(), partition }
}

#[cfg(test)]
mod tests {
    use super::super::stats::Fetched;
    use super::*;

    fn snapshot(age: Duration, end: i64, at_end: Option<i64>) -> Snapshot {
        let fetched = Fetched { topic: "t".into(), partition: 0, end, at_end };
        Snapshot { age, broker_up: true, partitions: vec![fetched] }
    }

    fn assigned(next: i64, end: i64, now: Instant) -> Assignment {
        let partition = TopicPartition { topic: "t".into(), partition: 0 };
        Assignment::new([(partition, next, end)], now)
    }

    #[test]
    fn markers_behind_the_last_record_leave_no_lag_once_the_queue_is_empty() {
        let made = Instant::now();
        let mut owned = assigned(0, 10, made);
        owned.find("t", 0).unwrap().1.read(7);
        owned.settled(&owned.partitions()[0].clone(), 8);
        owned.see(&snapshot(Duration::from_secs(1), 10, Some(10)), made);
        assert_eq!((owned.caught_up(), owned.lags()[0].1), (false, 2));
        owned.drained();
        assert_eq!((owned.caught_up(), owned.lags()[0].1), (true, 0));
        owned.find("t", 0).unwrap().1.read(10);
        assert!(!owned.caught_up());
    }

    #[test]
    fn a_snapshot_from_before_a_rewind_says_nothing() {
        let made = Instant::now();
        let mut owned = assigned(5, 10, made + Duration::from_secs(2));
        owned.see(&snapshot(Duration::from_secs(1), 10, Some(10)), made);
        owned.drained();
        assert!(!owned.caught_up());
    }

    #[test]
    fn an_empty_partition_is_caught_up_at_once_and_until_the_lane_writes_to_it() {
        let now = Instant::now();
        let mut owned = assigned(0, 0, now);
        assert!(owned.caught_up());
        owned.published_to(&"t".into(), now);
        assert!(!owned.caught_up());
    }
}
