//! What every [`Log`] and its [`Archive`] promise, on each that there is. A promise is a function over a
//! [`Harness`]; the macro behind them makes a test of each for each log.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::missing_panics_doc
)]

use std::time::{Duration, Instant};

use accrual::log::{Archive, Assigned, Log, LogError, OutRecord, Polled, Position, Reach, Record, Stretch};
use accrual::types::{Coordinates, TopicName, TopicPartition};

#[path = "support/kafka.rs"]
mod kafka_support;
#[path = "support/memory.rs"]
mod memory_support;

/// A log with a world around it: topics, upstream producers, downstream readers.
trait Harness {
    type Log: Log;
    type Archive: Archive;

    /// A consumer group that nobody else is in.
    fn group(&mut self) -> String;
    /// A new topic.
    fn topic(&mut self, partitions: i32) -> TopicName;
    /// A lane's log, in a group and under a transactional id.
    fn join(&mut self, group: &str, topics: &[&TopicName], id: &str) -> Self::Log;
    /// The same, of a lane that the group gives up soon once it stops polling.
    fn join_mortal(&mut self, group: &str, topics: &[&TopicName], id: &str) -> Self::Log;
    /// Makes the group give up a mortal lane that does not poll any more, if it does not by itself.
    fn declare_dead(&mut self, log: &mut Self::Log);
    /// Publishes as an upstream system does: without, or within a committed or aborted transaction.
    fn publish(&mut self, topic: &TopicName, partition: i32, payloads: &[&str]);
    fn publish_committed(&mut self, topic: &TopicName, partition: i32, payloads: &[&str]);
    fn publish_aborted(&mut self, topic: &TopicName, partition: i32, payloads: &[&str]);
    /// Everything that a `read_committed` reader sees now, from the start.
    fn committed(&mut self, topic: &TopicName) -> Vec<Record>;
    /// What was published, read back.
    fn archive(&mut self) -> Self::Archive;
}

const PATIENCE: Duration = Duration::from_mins(1);
const TICK: Duration = Duration::from_millis(20);
/// A transaction that is left open is polled behind so often, or for so long where polls wait: longer than a new member
/// needs to be given what it may read at once, and shorter than the broker lets the transaction be.
const POLLS_UNDECIDED: usize = 250;
const UNDECIDED_FOR: Duration = Duration::from_secs(5);

/// Asks until there is an answer, or for a minute.
fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain for: {what}");
    }
}

/// The next assignment; records before it are of no interest.
fn assignment(log: &mut impl Log) -> Vec<Assigned> {
    until("an assignment", || match log.poll(100, TICK).unwrap() {
        Polled::Assigned(assigned) => Some(assigned),
        Polled::Records(_) => None,
    })
}

/// The next `count` records, through whatever assignments.
fn read(log: &mut impl Log, count: usize) -> Vec<Record> {
    let mut records = Vec::new();
    until("records", || {
        match log.poll(count - records.len(), TICK).unwrap() {
            Polled::Assigned(_) => records.clear(),
            Polled::Records(more) => records.extend(more),
        }
        (records.len() >= count).then_some(())
    });
    records
}

/// Asserts that nothing more comes while the log reads to the end.
fn read_to_end(log: &mut impl Log) -> Vec<Record> {
    let mut records = Vec::new();
    until("the end", || {
        match log.poll(100, TICK).unwrap() {
            Polled::Assigned(_) => records.clear(),
            Polled::Records(more) => records.extend(more),
        }
        log.caught_up().then_some(())
    });
    records
}

fn texts(records: &[Record]) -> Vec<String> {
    let text = |record: &Record| String::from_utf8(record.payload.clone().unwrap_or_default()).unwrap();
    let mut texts: Vec<String> = records.iter().map(text).collect();
    texts.sort();
    texts
}

fn out(topic: &TopicName, text: &str) -> OutRecord {
    OutRecord {
        topic: topic.clone(),
        key: Some(text.as_bytes().to_vec()),
        payload: Some(text.as_bytes().to_vec()),
        headers: Vec::new(),
    }
}

fn after(record: &Record, metadata: &str) -> Position {
    Position { partition: record.at.topic_partition(), next: record.at.offset + 1, metadata: metadata.into() }
}

fn place(topic: &TopicName, partition: i32) -> TopicPartition {
    TopicPartition { topic: topic.clone(), partition }
}

fn owned(assigned: &[Assigned]) -> Vec<TopicPartition> {
    let mut owned: Vec<TopicPartition> = assigned.iter().map(|a| a.partition.clone()).collect();
    owned.sort();
    owned
}

fn uncommitted_output_is_invisible_until_the_commit(h: &mut impl Harness) {
    let (input, output, group) = (h.topic(1), h.topic(1), h.group());
    let mut log = h.join(&group, &[&input], &group);
    log.begin().unwrap();
    log.send(&[out(&output, "a"), out(&output, "b")]).unwrap();
    assert_eq!(texts(&h.committed(&output)), Vec::<String>::new());
    log.commit().unwrap();
    until("the committed output", || (texts(&h.committed(&output)) == ["a", "b"]).then_some(()));
}

fn aborted_output_never_shows_and_the_producer_goes_on(h: &mut impl Harness) {
    let (input, output, group) = (h.topic(1), h.topic(1), h.group());
    let mut log = h.join(&group, &[&input], &group);
    log.begin().unwrap();
    log.send(&[out(&output, "aborted")]).unwrap();
    log.abort().unwrap();
    log.begin().unwrap();
    log.send(&[out(&output, "committed")]).unwrap();
    log.commit().unwrap();
    until("the committed output", || (texts(&h.committed(&output)) == ["committed"]).then_some(()));
}

fn an_open_transaction_holds_back_what_was_published_behind_it(h: &mut impl Harness) {
    let (input, group) = (h.topic(1), h.group());
    let mut writer = h.join(&group, &[&input], &format!("{group}-1"));
    assert_eq!(read_to_end(&mut writer), Vec::new());
    writer.begin().unwrap();
    writer.send(&[out(&input, "open")]).unwrap();
    writer.arrive().unwrap();
    h.publish(&input, 0, &["behind"]);
    assert_eq!(h.committed(&input), Vec::new());
    writer.commit().unwrap();
    let in_order = |records: Vec<Record>| {
        let places: Vec<i64> = records.iter().map(|record| record.at.offset).collect();
        assert_eq!(places, [0, 1]);
        let payload = |record: Record| String::from_utf8(record.payload.unwrap()).unwrap();
        records.into_iter().map(payload).collect::<Vec<_>>()
    };
    until("both", || (h.committed(&input).len() == 2).then_some(()));
    assert_eq!(in_order(h.committed(&input)), ["open", "behind"]);
    assert_eq!(in_order(read(&mut writer, 2)), ["open", "behind"]);
}

fn a_transaction_within_a_transaction_is_refused_and_leaves_the_outer_as_it_was(h: &mut impl Harness) {
    let (input, output, group) = (h.topic(1), h.topic(1), h.group());
    let mut log = h.join(&group, &[&input], &group);
    assert!(matches!(log.send(&[out(&output, "in none")]), Err(LogError::Abortable(_))));
    assert!(matches!(log.commit(), Err(LogError::Abortable(_))));
    log.begin().unwrap();
    log.send(&[out(&output, "outer")]).unwrap();
    let refused = log.begin();
    assert!(matches!(refused, Err(LogError::Abortable(_))), "{refused:?}");
    log.commit().unwrap();
    until("the committed output", || (texts(&h.committed(&output)) == ["outer"]).then_some(()));
}

fn offsets_and_output_are_committed_together_with_their_metadata(h: &mut impl Harness) {
    let (input, output, group) = (h.topic(1), h.topic(1), h.group());
    h.publish(&input, 0, &["1", "2", "3"]);
    let mut log = h.join(&group, &[&input], &group);
    let first = assignment(&mut log);
    assert_eq!(first.len(), 1);
    assert_eq!((&first[0].committed, first[0].low_watermark, first[0].end), (&None, 0, 3));
    let records = read(&mut log, 3);

    // Aborted: neither output nor offsets.
    log.begin().unwrap();
    log.send(&[out(&output, "x")]).unwrap();
    log.send_offsets(&[after(&records[0], "never")]).unwrap();
    log.abort().unwrap();
    assert_eq!(log.rewind().unwrap()[0].committed, None);

    // Committed: both.
    let records = read(&mut log, 3);
    log.begin().unwrap();
    log.send(&[out(&output, "y")]).unwrap();
    log.send_offsets(&[after(&records[1], "from 0")]).unwrap();
    log.commit().unwrap();
    until("the committed output", || (texts(&h.committed(&output)) == ["y"]).then_some(()));
    assert_eq!(log.rewind().unwrap()[0].committed, Some((2, "from 0".into())));

    // And a successor is told the same and begins there.
    log.leave();
    drop(log);
    let mut successor = h.join(&group, &[&input], &group);
    assert_eq!(assignment(&mut successor)[0].committed, Some((2, "from 0".into())));
    assert_eq!(texts(&read(&mut successor, 1)), ["3"]);
}

fn an_assignment_tells_where_each_partition_ends(h: &mut impl Harness) {
    let (input, group) = (h.topic(2), h.group());
    h.publish(&input, 0, &["1", "2"]);
    let mut log = h.join(&group, &[&input], &group);
    let ends = |assigned: Vec<Assigned>| {
        let mut ends: Vec<(i32, i64)> =
            assigned.iter().map(|assigned| (assigned.partition.partition, assigned.end)).collect();
        ends.sort_unstable();
        ends
    };
    assert_eq!(ends(assignment(&mut log)), [(0, 2), (1, 0)]);
    h.publish(&input, 1, &["3", "4", "5"]);
    assert_eq!(ends(log.rewind().unwrap()), [(0, 2), (1, 3)]);
}

fn a_committed_offset_behind_the_end_stops_the_lane_with_what_to_do(h: &mut impl Harness) {
    let (input, group) = (h.topic(1), h.group());
    let mut log = h.join(&group, &[&input], &group);
    assignment(&mut log);
    log.begin().unwrap();
    let position = Position { partition: place(&input, 0), next: 17, metadata: String::new() };
    log.send_offsets(&[position]).unwrap();
    log.commit().unwrap();
    let Err(LogError::Broken(why)) = log.rewind() else { panic!("went on") };
    assert!(why.contains("17") && why.contains("accrual accept-recreated"), "{why}");
}

fn rewinding_brings_the_same_records_again_in_order(h: &mut impl Harness) {
    let (input, other, group) = (h.topic(2), h.topic(1), h.group());
    h.publish(&input, 0, &["a0", "a1", "a2"]);
    h.publish(&input, 1, &["b0", "b1"]);
    h.publish(&other, 0, &["c0"]);
    let mut log = h.join(&group, &[&input, &other], &group);
    let by_place = |mut records: Vec<Record>| {
        records.sort_by(|a, b| a.at.cmp(&b.at));
        records
    };
    let once = by_place(read(&mut log, 6));
    for _ in 0..3 {
        assert_eq!(log.rewind().unwrap().len(), 3);
        assert!(!log.caught_up() || once.is_empty());
        let again = read(&mut log, 6);
        for partition in [place(&input, 0), place(&input, 1), place(&other, 0)] {
            let offsets: Vec<i64> =
                again.iter().filter(|r| r.at.topic_partition() == partition).map(|r| r.at.offset).collect();
            assert!(offsets.is_sorted(), "{partition}: {offsets:?}");
        }
        assert_eq!(by_place(again), once);
    }
    assert_eq!(read_to_end(&mut log), Vec::new());
}

fn rewinding_while_records_are_on_their_way_lets_none_through_from_behind(h: &mut impl Harness) {
    let (input, group) = (h.topic(1), h.group());
    let many: Vec<String> = (0..500).map(|n| n.to_string()).collect();
    h.publish(&input, 0, &many.iter().map(String::as_str).collect::<Vec<_>>());
    let mut log = h.join(&group, &[&input], &group);
    for part in [1, 7, 100, 250] {
        let records = read(&mut log, part);
        let offsets: Vec<i64> = records.iter().map(|r| r.at.offset).collect();
        assert_eq!(offsets, (0..part as i64).collect::<Vec<_>>());
        log.rewind().unwrap();
    }
}

fn a_second_lane_takes_half_and_both_are_told(h: &mut impl Harness) {
    let (input, group) = (h.topic(4), h.group());
    let mut first = h.join(&group, &[&input], &format!("{group}-1"));
    assert_eq!(assignment(&mut first).len(), 4);
    let mut second = h.join(&group, &[&input], &format!("{group}-2"));
    let (mut of_first, mut of_second) = (Vec::new(), Vec::new());
    until("a share for each", || {
        if let Polled::Assigned(assigned) = first.poll(10, TICK).unwrap() {
            of_first = owned(&assigned);
        }
        if let Polled::Assigned(assigned) = second.poll(10, TICK).unwrap() {
            of_second = owned(&assigned);
        }
        (of_first.len() == 2 && of_second.len() == 2).then_some(())
    });
    let mut all = [of_first, of_second].concat();
    all.sort();
    assert_eq!(all, (0..4).map(|n| place(&input, n)).collect::<Vec<_>>());

    // The first leaves: the second is given everything.
    first.leave();
    until("everything", || match second.poll(10, TICK).unwrap() {
        Polled::Assigned(assigned) => (assigned.len() == 4).then_some(()),
        Polled::Records(_) => None,
    });
}

fn a_lane_beyond_the_partitions_is_told_that_it_owns_nothing_and_is_caught_up(h: &mut impl Harness) {
    let (input, group) = (h.topic(1), h.group());
    let mut logs =
        [h.join(&group, &[&input], &format!("{group}-1")), h.join(&group, &[&input], &format!("{group}-2"))];
    let mut owns: [Option<usize>; 2] = [None, None];
    until("one with and one without", || {
        for (log, owns) in logs.iter_mut().zip(&mut owns) {
            if let Polled::Assigned(assigned) = log.poll(10, TICK).unwrap() {
                *owns = Some(assigned.len());
            }
        }
        let both = matches!(owns, [Some(1), Some(0)] | [Some(0), Some(1)]);
        (both && logs.iter().all(Log::caught_up)).then_some(())
    });
}

fn a_zombie_is_refused_and_the_record_is_processed_once(h: &mut impl Harness) {
    let (input, output, group) = (h.topic(1), h.topic(1), h.group());
    h.publish(&input, 0, &["event"]);
    let mut zombie = h.join_mortal(&group, &[&input], &format!("{group}-1"));
    let record = read(&mut zombie, 1).remove(0);

    // It stops between its decision and its transaction; another takes over and finishes.
    h.declare_dead(&mut zombie);
    let mut heir = h.join_mortal(&group, &[&input], &format!("{group}-2"));
    let again = read(&mut heir, 1).remove(0);
    assert_eq!(again, record);
    heir.begin().unwrap();
    heir.send(&[out(&output, "by the heir")]).unwrap();
    heir.send_offsets(&[after(&again, "")]).unwrap();
    heir.commit().unwrap();

    // It wakes and goes on where it was.
    zombie.begin().unwrap();
    zombie.send(&[out(&output, "by the zombie")]).unwrap();
    let refused = zombie.send_offsets(&[after(&record, "")]);
    assert!(matches!(refused, Err(LogError::Abortable(_))), "{refused:?}");
    zombie.abort().unwrap();
    until("the heir's output", || (texts(&h.committed(&output)) == ["by the heir"]).then_some(()));

    // The zombie is no zombie any more: its producer works, and the group tells it what is true.
    zombie.begin().unwrap();
    zombie.send(&[out(&output, "later")]).unwrap();
    zombie.commit().unwrap();
    until("a new share", || {
        if zombie.keep_alive(TICK).unwrap().is_some() {
            Some(())
        } else {
            heir.keep_alive(TICK).unwrap();
            None
        }
    });
}

fn a_zombie_that_goes_back_is_told_of_the_rebalance_all_the_same(h: &mut impl Harness) {
    let (input, group) = (h.topic(1), h.group());
    h.publish(&input, 0, &["1", "2"]);
    let mut zombie = h.join_mortal(&group, &[&input], &format!("{group}-1"));
    let record = read(&mut zombie, 1).remove(0);
    h.declare_dead(&mut zombie);
    let mut heir = h.join_mortal(&group, &[&input], &format!("{group}-2"));
    assert_eq!(read(&mut heir, 1), std::slice::from_ref(&record));
    heir.begin().unwrap();
    heir.send_offsets(&[after(&record, "by the heir")]).unwrap();
    heir.commit().unwrap();

    // It goes back on what it took for its own, and is refused until it has heard what the group says.
    let rewound = zombie.rewind().unwrap();
    assert_eq!(owned(&rewound), [place(&input, 0)]);
    assert_eq!(rewound[0].committed, Some((1, "by the heir".into())));
    zombie.begin().unwrap();
    let refused = zombie.send_offsets(&[after(&record, "by the zombie")]);
    assert!(matches!(refused, Err(LogError::Abortable(_))), "{refused:?}");
    zombie.abort().unwrap();
    until("an assignment", || match zombie.poll(10, TICK).unwrap() {
        Polled::Assigned(_) => Some(()),
        Polled::Records(records) => {
            assert_eq!(records, [], "of a partition that is another's");
            heir.keep_alive(TICK).unwrap();
            None
        }
    });
}

fn without_positions_nobody_asks_whether_the_group_gave_the_lane_up(h: &mut impl Harness) {
    let (input, output, group) = (h.topic(1), h.topic(1), h.group());
    let mut outsider = h.join_mortal(&group, &[&input], &format!("{group}-1"));
    assignment(&mut outsider);
    h.declare_dead(&mut outsider);
    let mut heir = h.join_mortal(&group, &[&input], &format!("{group}-2"));
    assignment(&mut heir);
    outsider.begin().unwrap();
    outsider.send(&[out(&output, "of the clock")]).unwrap();
    outsider.send_offsets(&[]).unwrap();
    outsider.commit().unwrap();
    until("its output", || (texts(&h.committed(&output)) == ["of the clock"]).then_some(()));
}

fn an_heir_owns_nothing_until_it_is_decided_what_its_predecessor_committed(h: &mut impl Harness) {
    let (input, group) = (h.topic(1), h.group());
    h.publish(&input, 0, &["1", "2"]);
    let mut predecessor = h.join(&group, &[&input], &format!("{group}-1"));
    let record = read(&mut predecessor, 1).remove(0);
    predecessor.begin().unwrap();
    predecessor.send_offsets(&[after(&record, "decided late")]).unwrap();
    predecessor.leave();
    let mut heir = h.join(&group, &[&input], &format!("{group}-2"));
    let asked_until = Instant::now() + UNDECIDED_FOR;
    for _ in (0..POLLS_UNDECIDED).take_while(|_| Instant::now() < asked_until) {
        let polled = heir.poll(10, TICK).unwrap();
        assert!(matches!(&polled, Polled::Records(records) if records.is_empty()), "{polled:?}");
        assert!(!heir.caught_up());
    }
    predecessor.commit().unwrap();
    let assigned = assignment(&mut heir);
    assert_eq!(assigned[0].committed, Some((1, "decided late".into())));
    assert_eq!(texts(&read(&mut heir, 1)), ["2"]);
}

fn a_lane_that_has_left_is_not_taken_in_again(h: &mut impl Harness) {
    let (input, group) = (h.topic(1), h.group());
    let mut log = h.join(&group, &[&input], &group);
    assignment(&mut log);
    log.leave();
    for told in [log.poll(1, TICK).map(|_| ()), log.keep_alive(TICK).map(|_| ()), log.rewind().map(|_| ())] {
        assert!(matches!(told, Err(LogError::Broken(_))), "{told:?}");
    }
    assert!(!log.caught_up() && log.lags().is_empty());
}

fn replacing_the_producer_aborts_what_it_had_open(h: &mut impl Harness) {
    let (input, output, group) = (h.topic(1), h.topic(1), h.group());
    h.publish(&input, 0, &["1"]);
    let mut log = h.join(&group, &[&input], &group);
    let record = read(&mut log, 1).remove(0);
    log.begin().unwrap();
    log.send(&[out(&output, "left open")]).unwrap();
    log.send_offsets(&[after(&record, "left open")]).unwrap();
    log.replace_producer().unwrap();
    assert_eq!(log.rewind().unwrap()[0].committed, None);
    let record = read(&mut log, 1).remove(0);
    log.begin().unwrap();
    log.send(&[out(&output, "by the new one")]).unwrap();
    log.send_offsets(&[after(&record, "")]).unwrap();
    log.commit().unwrap();
    until("its output", || (texts(&h.committed(&output)) == ["by the new one"]).then_some(()));
}

fn a_lane_under_the_same_transactional_id_fences_the_older(h: &mut impl Harness) {
    let (input, output, group) = (h.topic(2), h.topic(1), h.group());
    let mut older = h.join(&group, &[&input], &group);
    older.begin().unwrap();
    older.send(&[out(&output, "older")]).unwrap();
    let mut newer = h.join(&group, &[&input], &group);
    // Where the commit only tells that the transaction is lost, ending it tells why.
    let fenced = match older.commit() {
        Err(LogError::Abortable(_)) => older.abort(),
        other => other,
    };
    assert!(matches!(fenced, Err(LogError::Fenced(_))), "{fenced:?}");
    newer.begin().unwrap();
    newer.send(&[out(&output, "newer")]).unwrap();
    newer.commit().unwrap();
    until("its output", || (texts(&h.committed(&output)) == ["newer"]).then_some(()));
}

fn keeping_alive_loses_no_record_and_keeps_their_order(h: &mut impl Harness) {
    let (input, group) = (h.topic(1), h.group());
    let mut log = h.join(&group, &[&input], &group);
    assignment(&mut log);
    let mut published = 0;
    let mut offsets = Vec::new();
    for round in 0..10 {
        h.publish(&input, 0, &["a", "b", "c", "d"]);
        published += 4;
        // Sometimes before anything was read, sometimes in the middle, sometimes twice.
        if round % 3 != 1 {
            assert_eq!(log.keep_alive(TICK).unwrap(), None);
            assert_eq!(log.keep_alive(TICK).unwrap(), None);
        }
        let take = if round % 2 == 0 { 3 } else { 5 };
        offsets.extend(read(&mut log, take).iter().map(|r| r.at.offset));
        assert_eq!(log.keep_alive(TICK).unwrap(), None);
    }
    offsets.extend(read(&mut log, published - offsets.len()).iter().map(|r| r.at.offset));
    assert_eq!(offsets, (0..published as i64).collect::<Vec<_>>());
}

fn keeping_alive_tells_of_a_rebalance(h: &mut impl Harness) {
    let (input, group) = (h.topic(2), h.group());
    let mut log = h.join(&group, &[&input], &format!("{group}-1"));
    until("an assignment", || log.keep_alive(TICK).unwrap().filter(|assigned| assigned.len() == 2));
    h.publish(&input, 0, &["a"]);
    let mut other = h.join(&group, &[&input], &format!("{group}-2"));
    until("a smaller one", || {
        other.keep_alive(TICK).unwrap();
        log.keep_alive(TICK).unwrap().filter(|assigned| assigned.len() == 1)
    });
    other.leave();
    until("the whole again", || log.keep_alive(TICK).unwrap().filter(|assigned| assigned.len() == 2));
    assert_eq!(texts(&read(&mut log, 1)), ["a"]);
}

fn caught_up_is_told_at_the_end_of_all_topics_and_not_before(h: &mut impl Harness) {
    let (full, empty, aborted, group) = (h.topic(2), h.topic(1), h.topic(1), h.group());
    h.publish(&full, 0, &["1"]);
    // Behind the last record stand the markers of transactions, and records that nobody may read.
    h.publish_committed(&full, 1, &["2", "3"]);
    h.publish_aborted(&full, 1, &["never"]);
    h.publish_aborted(&aborted, 0, &["never"]);
    let mut log = h.join(&group, &[&full, &empty, &aborted], &group);
    assert!(!log.caught_up());
    assignment(&mut log);
    assert!(!log.caught_up());
    assert_eq!(texts(&read_to_end(&mut log)), ["1", "2", "3"]);

    // More comes: it is told again only after that was read.
    h.publish_committed(&full, 1, &["4"]);
    assert_eq!(texts(&read(&mut log, 1)), ["4"]);
    assert!(!log.caught_up());
    assert_eq!(read_to_end(&mut log), Vec::new());
}

fn what_a_lane_publishes_to_its_own_input_is_read_before_it_is_caught_up(h: &mut impl Harness) {
    let (input, group) = (h.topic(1), h.group());
    let mut log = h.join(&group, &[&input], &group);
    assert_eq!(read_to_end(&mut log), Vec::new());
    for round in 0..5 {
        log.begin().unwrap();
        log.send(&[out(&input, &format!("timer {round}"))]).unwrap();
        log.commit().unwrap();
        assert!(!log.caught_up());
        assert_eq!(texts(&read_to_end(&mut log)), [format!("timer {round}")]);
    }
}

fn the_lag_is_what_was_published_and_is_not_committed_as_read(h: &mut impl Harness) {
    let (input, group) = (h.topic(2), h.group());
    h.publish_committed(&input, 0, &["1", "2", "3"]);
    h.publish_aborted(&input, 0, &["never"]);
    let mut log = h.join(&group, &[&input], &group);
    let lags = |log: &_| {
        let mut lags = Log::lags(log);
        lags.sort();
        lags.into_iter().map(|(of, lag)| (of.partition, lag)).collect::<Vec<_>>()
    };
    let records = read_to_end(&mut log);
    // The offsets that markers and aborted records take up may count as long as there are others.
    assert!(lags(&log)[0].1 >= 3, "what was read is not yet committed: {:?}", lags(&log));
    for (record, is_last) in [(&records[1], false), (&records[2], true)] {
        log.begin().unwrap();
        log.send_offsets(&[after(record, "")]).unwrap();
        log.commit().unwrap();
        assert_eq!(lags(&log)[0].1 == 0, is_last, "{:?}", lags(&log));
        assert_eq!(lags(&log)[1], (1, 0));
    }
}

fn records_come_as_they_were_published(h: &mut impl Harness) {
    let (input, group) = (h.topic(1), h.group());
    let mut log = h.join(&group, &[&input], &group);
    let mut whole = out(&input, "payload");
    whole.headers = vec![
        accrual::log::Header { name: "ce_id".into(), value: Some(b"1".to_vec()) },
        accrual::log::Header { name: "empty".into(), value: Some(Vec::new()) },
        accrual::log::Header { name: "none".into(), value: None },
    ];
    let bare = OutRecord { topic: input.clone(), key: None, payload: None, headers: Vec::new() };
    let empty = OutRecord {
        topic: input.clone(),
        key: Some(Vec::new()),
        payload: Some(Vec::new()),
        headers: Vec::new(),
    };
    let sent = [whole, bare, empty];
    log.begin().unwrap();
    log.send(&sent).unwrap();
    log.commit().unwrap();
    for (record, sent) in read(&mut log, 3).iter().zip(&sent) {
        assert_eq!((&record.key, &record.payload), (&sent.key, &sent.payload));
        assert_eq!(record.headers, sent.headers);
    }
}

fn a_record_is_read_back_by_its_place(h: &mut impl Harness) {
    let (input, group) = (h.topic(2), h.group());
    let archive = h.archive();
    h.publish_committed(&input, 1, &["a", "b"]);
    h.publish_aborted(&input, 1, &["aborted"]);
    let record = |topic: &TopicName, partition, offset| {
        let at = Coordinates { topic: topic.clone(), partition, offset };
        archive.record(&at, Instant::now() + PATIENCE).unwrap().map(|record| texts(&[record]).remove(0))
    };
    assert_eq!(record(&input, 1, 0).as_deref(), Some("a"));
    assert_eq!(record(&input, 1, 1).as_deref(), Some("b"));
    // The marker, what was aborted, beyond the end, and where nothing ever was.
    for (partition, offset) in [(1, 2), (1, 3), (1, 100), (0, 0), (9, 0)] {
        assert_eq!(record(&input, partition, offset), None, "{partition}/{offset}");
    }
    assert_eq!(record(&format!("{group}-none").into(), 0, 0), None, "no such topic");
}

fn a_stretch_is_whole_once_every_transaction_in_it_is_decided(h: &mut impl Harness) {
    let (input, output, group) = (h.topic(1), h.topic(1), h.group());
    let archive = h.archive();
    let soon = |patience| Instant::now() + patience;
    let scan = |from, until, patience| {
        let mut read = Vec::new();
        let of = place(&output, 0);
        let whole = archive.scan(&Stretch { of, from, until }, soon(patience), &mut |record| {
            read.push(record);
            true
        });
        (whole.unwrap(), texts(&read))
    };
    let reach = || archive.reach(&output, soon(PATIENCE)).unwrap().remove(0);
    h.publish_committed(&output, 0, &["a", "b", "c"]);
    h.publish_aborted(&output, 0, &["aborted"]);
    let end = reach().end;
    assert_eq!(reach(), Reach { partition: 0, first: 0, decided: end, end });
    assert_eq!(scan(0, end, PATIENCE), (true, ["a", "b", "c"].map(String::from).to_vec()));
    assert_eq!(scan(1, 2, PATIENCE), (true, vec!["b".to_owned()]));
    assert_eq!(scan(2, 2, PATIENCE), (true, vec![]));
    // In parts, also where a part ends or begins among offsets that hold no record, and not only one after the other.
    for parts in [vec![0, 1, 2, 3, end], vec![0, 2, 4, 5, end], vec![0, 3, 1, end], vec![0, 5, 5, 0, end]] {
        for (from, until) in parts.iter().zip(&parts[1..]).map(|(from, until)| (*from, *until)) {
            let there: Vec<_> =
                (from..until.min(3)).map(|at| ["a", "b", "c"][at as usize].to_owned()).collect();
            assert_eq!(scan(from, until, PATIENCE), (true, there), "{from}..{until} of {parts:?}");
        }
    }

    let mut log = h.join(&group, &[&input], &group);
    log.begin().unwrap();
    log.send(&[out(&output, "open")]).unwrap();
    until("what is open", || (reach().end > end).then_some(()));
    let open = reach();
    assert_eq!(open.decided, end);
    assert!(!scan(end, open.end, TICK).0, "nobody knows yet what becomes of it");
    log.commit().unwrap();
    assert_eq!(scan(end, open.end, PATIENCE), (true, vec!["open".to_owned()]));
    assert_eq!(archive.reach(&format!("{group}-none").into(), soon(PATIENCE)).unwrap(), [], "no such topic");
}

fn what_is_open_is_still_open_when_what_came_later_is_decided(h: &mut impl Harness) {
    let (input, output, group) = (h.topic(1), h.topic(1), h.group());
    let archive = h.archive();
    let reach = || archive.reach(&output, Instant::now() + PATIENCE).unwrap().remove(0);
    let scan = |until, patience| {
        let mut read = Vec::new();
        let stretch = Stretch { of: place(&output, 0), from: 0, until };
        let mut take = |record| {
            read.push(record);
            true
        };
        let whole = archive.scan(&stretch, Instant::now() + patience, &mut take).unwrap();
        (whole, texts(&read))
    };
    let mut logs = [1, 2].map(|number| h.join(&group, &[&input], &format!("{group}-{number}")));
    for (log, text) in logs.iter_mut().zip(["earlier", "later"]) {
        log.begin().unwrap();
        log.send(&[out(&output, text)]).unwrap();
        log.arrive().unwrap();
    }
    logs[1].commit().unwrap();
    until("the marker", || (reach().end == 3).then_some(()));
    assert_eq!(reach(), Reach { partition: 0, first: 0, decided: 0, end: 3 });
    assert_eq!(scan(1, TICK), (false, vec![]));
    logs[0].commit().unwrap();
    assert_eq!(scan(1, PATIENCE), (true, vec!["earlier".to_owned()]));
    assert_eq!(scan(3, PATIENCE), (true, vec!["earlier".to_owned(), "later".to_owned()]));
}

macro_rules! contract {
    ($log:ident, $harness:expr) => {
        contract!($log, $harness;
            uncommitted_output_is_invisible_until_the_commit,
            aborted_output_never_shows_and_the_producer_goes_on,
            an_open_transaction_holds_back_what_was_published_behind_it,
            a_transaction_within_a_transaction_is_refused_and_leaves_the_outer_as_it_was,
            offsets_and_output_are_committed_together_with_their_metadata,
            an_assignment_tells_where_each_partition_ends,
            a_committed_offset_behind_the_end_stops_the_lane_with_what_to_do,
            rewinding_brings_the_same_records_again_in_order,
            rewinding_while_records_are_on_their_way_lets_none_through_from_behind,
            a_second_lane_takes_half_and_both_are_told,
            a_lane_beyond_the_partitions_is_told_that_it_owns_nothing_and_is_caught_up,
            a_zombie_is_refused_and_the_record_is_processed_once,
            a_zombie_that_goes_back_is_told_of_the_rebalance_all_the_same,
            without_positions_nobody_asks_whether_the_group_gave_the_lane_up,
            an_heir_owns_nothing_until_it_is_decided_what_its_predecessor_committed,
            a_lane_that_has_left_is_not_taken_in_again,
            replacing_the_producer_aborts_what_it_had_open,
            a_lane_under_the_same_transactional_id_fences_the_older,
            keeping_alive_loses_no_record_and_keeps_their_order,
            keeping_alive_tells_of_a_rebalance,
            caught_up_is_told_at_the_end_of_all_topics_and_not_before,
            what_a_lane_publishes_to_its_own_input_is_read_before_it_is_caught_up,
            the_lag_is_what_was_published_and_is_not_committed_as_read,
            records_come_as_they_were_published,
            a_record_is_read_back_by_its_place,
            a_stretch_is_whole_once_every_transaction_in_it_is_decided,
            what_is_open_is_still_open_when_what_came_later_is_decided,
        );
    };
    ($log:ident, $harness:expr; $($promise:ident,)*) => {
        mod $log {
            $(#[test]
            fn $promise() {
                super::$promise(&mut $harness);
            })*
        }
    };
}

contract!(kafka, crate::kafka_support::Kafka::connect());
contract!(memory, crate::memory_support::Memory::default());

/// What only a broker does by itself, and what the memory log cannot: it has no clock, so that a seed of the simulation
/// does the same every time, and it writes every topic to one partition.
mod kafka_alone {
    use accrual::log::kafka::{KafkaArchive, KafkaLog, TopicProblems, WantedTopic, check, ensure_topics};
    use accrual::log::{KeyQuery, Partitions};

    use super::*;
    use crate::kafka_support::Kafka;

    #[test]
    fn a_transaction_that_took_too_long_costs_the_producer_and_fences_nobody() {
        let mut h = Kafka::connect();
        let (input, output, group) = (h.topic(1), h.topic(1), h.group());
        let mut settings = h.settings(&group, &[&input], &group);
        settings.properties.insert("transaction.timeout.ms".into(), "1000".into());
        let mut log = KafkaLog::open(&settings).unwrap();
        log.begin().unwrap();
        log.send(&[out(&output, "too late")]).unwrap();
        // The broker looks for old transactions every ten seconds. What it aborts gets a marker.
        until("the broker's abort", || {
            std::thread::sleep(TICK);
            (h.end(&output) == 2).then_some(())
        });
        match log.commit() {
            Err(LogError::ProducerLost(_)) => log.replace_producer().unwrap(),
            Err(LogError::Abortable(_)) => log.abort().or_else(|_| log.replace_producer()).unwrap(),
            other => panic!("{other:?}"),
        }
        log.begin().unwrap();
        log.send(&[out(&output, "in time")]).unwrap();
        log.commit().unwrap();
        until("its output", || (texts(&h.committed(&output)) == ["in time"]).then_some(()));
    }

    #[test]
    fn a_record_tells_when_it_was_published() {
        let mut h = Kafka::connect();
        let (input, group) = (h.topic(1), h.group());
        h.publish(&input, 0, &["a"]);
        let mut log = h.join(&group, &[&input], &group);
        assert!(read(&mut log, 1)[0].published_ms.is_some());
    }

    #[test]
    fn what_was_published_is_read_back_by_its_key_from_the_partition_that_it_belongs_to_and_its_time() {
        let mut h = Kafka::connect();
        let (input, output, group) = (h.topic(1), h.topic(5), h.group());
        let archive = KafkaArchive::new(h.settings(&group, &[&input], "none"));
        let soon = || Instant::now() + PATIENCE;
        let mut log = h.join(&group, &[&input], &group);
        let keys: Vec<String> = (0..40).map(|number| format!("member-{number}")).collect();
        for text in ["first", "second"] {
            let record =
                |key: &String| OutRecord { key: Some(key.clone().into_bytes()), ..out(&output, text) };
            log.begin().unwrap();
            log.send(&keys.iter().map(record).collect::<Vec<_>>()).unwrap();
            log.commit().unwrap();
        }
        log.begin().unwrap();
        log.send(&[OutRecord { key: Some(b"member-7".to_vec()), ..out(&output, "aborted") }]).unwrap();
        log.abort().unwrap();
        until("the output", || (h.committed(&output).len() == 80).then_some(()));
        let of_key = |key: &str, partitions, window: Option<(i64, i64)>| {
            let (since_ms, until_ms) = window.unzip();
            let wanted = KeyQuery { topic: &output, key: key.as_bytes(), partitions, since_ms, until_ms };
            let mut found = Vec::new();
            let mut take = |payload: &[u8], ms: Option<i64>| found.push((payload.to_vec(), ms.unwrap()));
            assert!(archive.of_key(&wanted, soon(), &mut take).unwrap(), "to the end");
            found
        };
        for key in ["member-0", "member-7", "member-39"] {
            let found = of_key(key, Partitions::Usual, None);
            let payloads: Vec<&[u8]> = found.iter().map(|(payload, _)| payload.as_slice()).collect();
            assert_eq!(payloads, [b"first".as_slice(), b"second"], "{key}");
            assert_eq!(of_key(key, Partitions::Others, None), [], "{key}");
            let (first, second) = (found[0].1, found[1].1);
            assert_eq!(of_key(key, Partitions::Usual, Some((first, second))), found);
            assert_eq!(of_key(key, Partitions::Usual, Some((second + 60_000, second + 120_000))), []);
            assert_eq!(of_key(key, Partitions::Usual, Some((first - 120_000, first - 60_000))), []);
        }
        let passed = KeyQuery {
            topic: &output,
            key: b"member-0",
            partitions: Partitions::Usual,
            since_ms: None,
            until_ms: None,
        };
        let read = archive.of_key(&passed, Instant::now(), &mut |_, _| {});
        assert!(!read.is_ok_and(|whole| whole), "nothing is whole that there was no time for");
    }

    #[test]
    fn output_topics_are_made_as_they_must_be_or_all_named() {
        let mut h = Kafka::connect();
        let (plain, accounts) = (h.topic(1), TopicName::from(h.group().as_str()));
        let wanted = |name: &TopicName, compacted| WantedTopic {
            name: name.clone(),
            compacted,
            takes_inputs: false,
            partitions: Some(3),
            config: [("retention.ms".to_owned(), "86400000".to_owned())].into(),
        };
        let other = TopicName::from(h.group().as_str());
        let all = [wanted(&accounts, true), wanted(&other, false)];
        let settings = h.settings("none", &[&plain], "none");

        let Err(TopicProblems::Topics(problems)) = ensure_topics(&settings, &all, false) else {
            panic!("topics were there")
        };
        assert_eq!(problems.iter().map(|p| &p.topic).collect::<Vec<_>>(), [&accounts, &other]);
        let looked = check(&settings, &all);
        assert_eq!(looked.iter().filter(|check| check.result.is_err()).count(), 2, "{looked:?}");

        assert_eq!(ensure_topics(&settings, &all, true).unwrap().0, [accounts.clone(), other]);
        assert_eq!(ensure_topics(&settings, &all, true).unwrap().0, []);
        let looked = check(&settings, &all);
        assert!(looked.iter().all(|check| check.result.is_ok()), "{looked:?}");

        // One that is there but would lose nothing and grow for ever.
        let Err(TopicProblems::Topics(problems)) = ensure_topics(&settings, &[wanted(&plain, true)], true)
        else {
            panic!("an uncompacted topic was taken for accounts")
        };
        assert!(problems[0].problem.contains("cleanup.policy=compact"), "{problems:?}");
    }
}
