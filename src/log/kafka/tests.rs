//! What a real broker seldom says: errors on purpose, by the mock broker. That the guarantees hold is
//! shown on a real broker, in `tests/log_contract.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::mocking::MockCoordinator;
use rdkafka::types::{RDKafkaApiKey as Request, RDKafkaRespErr as Answer};

use super::*;
use crate::log::{Header, Record, Sender as _};

const IN: &str = "in";
const OUT: &str = "out";

fn broker() -> MockBroker {
    MockBroker::start(&[(IN, 2), (OUT, 2)]).unwrap()
}

fn settings(broker: &MockBroker) -> KafkaSettings {
    KafkaSettings {
        properties: BTreeMap::from([("bootstrap.servers".into(), broker.bootstrap())]),
        credentials: Credentials::default(),
        topics: vec![IN.into()],
        group: "g".into(),
        transactional_id: "t".into(),
        client_id: "c".into(),
        max_poll_bytes: DEFAULT_MAX_POLL_BYTES,
    }
}

fn records(topic: &str, count: usize) -> Vec<OutRecord> {
    let record = |n: usize| OutRecord {
        topic: topic.into(),
        key: Some(n.to_string().into_bytes()),
        payload: Some(n.to_string().into_bytes()),
        headers: vec![Header { name: "n".into(), value: Some(n.to_string().into_bytes()) }],
    };
    (0..count).map(record).collect()
}

fn read(log: &mut KafkaLog, count: usize) -> Vec<Record> {
    let mut read = Vec::new();
    let deadline = Instant::now() + Duration::from_mins(1);
    while read.len() < count {
        assert!(Instant::now() < deadline, "only {} of {count} records came", read.len());
        if let Polled::Records(more) = log.poll(count - read.len(), Duration::from_millis(20)).unwrap() {
            read.extend(more);
        }
    }
    read
}

fn after(record: &Record) -> Vec<Position> {
    vec![Position {
        partition: record.at.topic_partition(),
        next: record.at.offset + 1,
        metadata: "0".into(),
    }]
}

#[test]
fn other_credentials_are_taken_up_between_two_transactions_and_nothing_is_read_twice() {
    let broker = broker();
    let settings = KafkaSettings { transactional_id: "exchanged".into(), ..settings(&broker) };
    let mut log = KafkaLog::open(&settings).unwrap();
    log.begin().unwrap();
    log.send(&records(IN, 1)).unwrap();
    // Not in the middle of a transaction, which a producer of its own time ends.
    settings.credentials.replace(BTreeMap::from([("client.rack".into(), "b".into())]));
    log.commit().unwrap();
    assert!(matches!(log.poll(10, Duration::ZERO).unwrap(), Polled::Assigned(owned) if owned.is_empty()));
    assert_eq!(read(&mut log, 1).len(), 1);
    // Both are new, and as good as the first.
    log.begin().unwrap();
    log.send(&records(OUT, 1)).unwrap();
    log.commit().unwrap();
    assert!(matches!(log.poll(10, Duration::ZERO).unwrap(), Polled::Records(none) if none.is_empty()));
}

#[test]
fn a_sender_makes_its_producer_anew_for_other_credentials() {
    let broker = broker();
    let settings = settings(&broker);
    let sender = KafkaSender::new(&settings).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let send = || runtime.block_on(sender.send(&records(IN, 1)[0]));
    send().unwrap();
    settings.credentials.replace(BTreeMap::from([("no.such.property".into(), "s3cret".into())]));
    let why = send().unwrap_err().to_string();
    assert!(why.contains("no.such.property") && !why.contains("s3cret"), "{why}");
    settings.credentials.replace(BTreeMap::new());
    send().unwrap();
}

/// With a transaction open that holds a record.
fn opened(broker: &MockBroker) -> KafkaLog {
    let mut log = KafkaLog::open(&settings(broker)).unwrap();
    log.begin().unwrap();
    log.send(&records(IN, 1)).unwrap();
    log
}

/// That a broker is there is told by librdkafka's statistics, which may come after its records.
fn await_connected(log: &mut KafkaLog) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !log.is_connected() {
        assert!(Instant::now() < deadline, "the broker was not noticed");
        log.poll(10, Duration::from_millis(50)).unwrap();
    }
}

#[test]
fn the_whole_loop_runs_on_the_mock_broker_of_the_demo() {
    let broker = broker();
    let mut log = KafkaLog::open(&settings(&broker)).unwrap();
    log.begin().unwrap();
    log.send(&records(IN, 500)).unwrap();
    log.commit().unwrap();
    let read = read(&mut log, 500);
    await_connected(&mut log);
    log.begin().unwrap();
    log.send(&records(OUT, 500)).unwrap();
    for record in &read {
        assert_eq!(record.headers[0].value, record.payload);
    }
    log.send_offsets(&after(read.last().unwrap())).unwrap();
    log.commit().unwrap();
    log.begin().unwrap();
    log.send(&records(OUT, 500)).unwrap();
    log.abort().unwrap();
    assert_eq!(log.rewind().unwrap().len(), 2);
    assert_eq!(log.lags().len(), 2);
    log.leave();
    assert!(matches!(log.poll(1, Duration::ZERO), Err(LogError::Broken(_))));
}

#[test]
fn a_generation_that_is_gone_aborts_and_fences_nobody() {
    for gone in [
        Answer::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION,
        Answer::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID,
        Answer::RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID,
        Answer::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS,
    ] {
        let broker = broker();
        let mut log = opened(&broker);
        log.commit().unwrap();
        let record = read(&mut log, 1).remove(0);
        log.begin().unwrap();
        log.send(&records(OUT, 1)).unwrap();
        broker.cluster().request_errors(Request::TxnOffsetCommit, &[gone]);
        let refused = log.send_offsets(&after(&record));
        assert!(matches!(refused, Err(LogError::Abortable(_))), "{gone:?}: {refused:?}");
        log.abort().unwrap();
        log.begin().unwrap();
        log.send_offsets(&after(&record)).unwrap();
        log.commit().unwrap();
    }
}

#[test]
fn a_coordinator_that_goes_away_inside_a_transaction_costs_the_producer_and_not_the_lane() {
    let broker = MockBroker::start_of(2, &[(IN, 2), (OUT, 2)]).unwrap();
    let cluster = broker.cluster();
    cluster.coordinator(MockCoordinator::Transaction("t".into()), 1).unwrap();
    cluster.coordinator(MockCoordinator::Group("g".into()), 2).unwrap();
    for topic in [IN, OUT] {
        (0..2).for_each(|partition| cluster.partition_leader(topic, partition, Some(1)).unwrap());
    }
    let mut log = opened(&broker);
    log.commit().unwrap();
    let record = read(&mut log, 1).remove(0);
    log.begin().unwrap();
    log.send(&records(OUT, 1)).unwrap();
    log.arrive().unwrap();
    cluster.broker_down(2).unwrap();
    // librdkafka does not come back from this by itself.
    let lost = log.send_offsets(&after(&record));
    assert!(matches!(&lost, Err(LogError::ProducerLost(why)) if why.contains("coordinator")), "{lost:?}");
    assert!(matches!(log.abort(), Err(LogError::ProducerLost(_))));
    log.replace_producer().unwrap();

    cluster.broker_up(2).unwrap();
    log.begin().unwrap();
    log.send(&records(OUT, 1)).unwrap();
    log.send_offsets(&after(&record)).unwrap();
    log.commit().unwrap();
}

#[test]
fn an_epoch_that_another_producer_raised_is_told_as_such() {
    let broker = broker();
    let mut log = opened(&broker);
    broker.cluster().request_errors(Request::EndTxn, &[Answer::RD_KAFKA_RESP_ERR_PRODUCER_FENCED]);
    let fenced = log.commit();
    assert!(matches!(&fenced, Err(LogError::Fenced(why)) if why.contains("instance")), "{fenced:?}");
}

#[test]
fn a_commit_that_nobody_knows_the_outcome_of_costs_the_producer() {
    for unclear in [
        Answer::RD_KAFKA_RESP_ERR_UNKNOWN,
        Answer::RD_KAFKA_RESP_ERR_INVALID_TXN_STATE,
        Answer::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_ID_MAPPING,
    ] {
        let broker = broker();
        let mut log = opened(&broker);
        broker.cluster().request_errors(Request::EndTxn, &[unclear]);
        let lost = log.commit();
        assert!(matches!(lost, Err(LogError::ProducerLost(_))), "{unclear:?}: {lost:?}");
        assert!(matches!(log.begin(), Err(LogError::ProducerLost(_))));
        assert!(matches!(log.abort(), Err(LogError::ProducerLost(_))));
        log.replace_producer().unwrap();
        log.begin().unwrap();
        log.send(&records(OUT, 1)).unwrap();
        log.commit().unwrap();
    }
}

#[test]
fn a_busy_coordinator_is_waited_out() {
    let broker = broker();
    let mut log = opened(&broker);
    let busy = [
        Answer::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
        Answer::RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
        Answer::RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS,
    ];
    broker.cluster().request_errors(Request::EndTxn, &busy);
    log.commit().unwrap();
}

#[test]
fn a_record_that_a_topic_never_takes_is_refused_by_name() {
    let broker = broker();
    let mut log = opened(&broker);
    let refusals = [Answer::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE];
    broker.cluster().request_errors(Request::Produce, &refusals);
    let refused = log.commit();
    assert!(matches!(&refused, Err(LogError::Broken(why)) if why.contains("topic in")), "{refused:?}");

    // What is too large for the client itself, where it was told so, does not even get there.
    let mut small = settings(&broker);
    small.properties.insert("message.max.bytes".into(), "1000000".into());
    let mut log = KafkaLog::open(&small).unwrap();
    log.begin().unwrap();
    let mut large = records(OUT, 1);
    large[0].payload = Some(vec![0; 2_000_000]);
    let refused = log.send(&large);
    assert!(matches!(&refused, Err(LogError::Broken(why)) if why.contains("topic out")), "{refused:?}");
    log.abort().unwrap();
}

#[test]
fn a_failed_delivery_aborts_without_waiting_for_the_rest() {
    let broker = broker();
    let mut log = opened(&broker);
    let refusals = [Answer::RD_KAFKA_RESP_ERR_INVALID_REQUIRED_ACKS];
    broker.cluster().request_errors(Request::Produce, &refusals);
    let refused = log.commit();
    assert!(matches!(refused, Err(LogError::Abortable(_))), "{refused:?}");
    log.abort().unwrap();
    log.begin().unwrap();
    log.send(&records(OUT, 1)).unwrap();
    log.commit().unwrap();
}

#[test]
fn an_output_that_may_not_be_written_is_refused_and_not_waited_for() {
    let broker = broker();
    let mut log = KafkaLog::open(&settings(&broker)).unwrap();
    let denied = Answer::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    broker.cluster().topic_error(OUT, denied).unwrap();
    log.begin().unwrap();
    let refused = log.send(&records(OUT, 3)).and_then(|()| log.commit());
    assert!(matches!(refused, Err(LogError::Broken(_))), "{refused:?}");
}

#[test]
fn more_than_the_queue_holds_is_sent_all_the_same() {
    let broker = broker();
    let mut settings = settings(&broker);
    settings.properties.insert("queue.buffering.max.messages".into(), "50".into());
    let mut log = KafkaLog::open(&settings).unwrap();
    log.begin().unwrap();
    log.send(&records(IN, 2_000)).unwrap();
    log.commit().unwrap();
    assert_eq!(read(&mut log, 2_000).len(), 2_000);
}

#[test]
fn a_poll_ends_when_it_has_gathered_enough_bytes() {
    let broker = broker();
    let mut settings = settings(&broker);
    settings.max_poll_bytes = 10_000;
    let mut log = KafkaLog::open(&settings).unwrap();
    log.begin().unwrap();
    let mut large = records(IN, 20);
    large.iter_mut().for_each(|record| record.payload = Some(vec![7; 4_000]));
    log.send(&large).unwrap();
    log.commit().unwrap();
    let mut left = 20;
    while left > 0 {
        if let Polled::Records(records) = log.poll(1_000, Duration::from_millis(20)).unwrap() {
            assert!(records.len() <= 3, "{}", records.len());
            left -= records.len();
        }
    }
}

#[test]
fn missing_input_topics_are_refused_all_by_name() {
    let broker = broker();
    let mut settings = settings(&broker);
    settings.topics = vec![IN.into(), "lost-1".into(), "lost-2".into(), "^may.*".into()];
    for missing in ["lost-1", "lost-2"] {
        let unknown = Answer::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
        broker.cluster().topic_error(missing, unknown).unwrap();
    }
    let Err(LogError::Broken(why)) = KafkaLog::open(&settings) else { panic!("opened") };
    assert!(why.ends_with("lost-1, lost-2"), "{why}");
}

#[test]
fn a_broker_that_is_away_is_waited_for_and_found_again() {
    let broker = broker();
    let mut log = opened(&broker);
    log.commit().unwrap();
    let mut seen: BTreeSet<_> = read(&mut log, 1).into_iter().map(|record| record.at).collect();

    broker.cluster().broker_down(1).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while log.is_connected() {
        assert!(Instant::now() < deadline, "the loss was not noticed");
        log.poll(10, Duration::from_millis(50)).unwrap();
        log.keep_alive(Duration::from_millis(50)).unwrap();
    }
    let away = log.replace_producer();
    assert!(matches!(away, Err(LogError::Retriable(_))), "{away:?}");

    broker.cluster().broker_up(1).unwrap();
    let deadline = Instant::now() + Duration::from_mins(1);
    while let Err(error) = log.replace_producer() {
        assert!(matches!(error, LogError::Retriable(_)), "{error}");
        assert!(Instant::now() < deadline, "the broker was not found again");
    }
    log.begin().unwrap();
    log.send(&records(IN, 3)).unwrap();
    log.commit().unwrap();
    // Whoever was away for long was put out of the group, and begins where it has committed.
    while seen.len() < 4 {
        seen.extend(read(&mut log, 1).into_iter().map(|record| record.at));
    }
    await_connected(&mut log);
}

#[test]
fn opening_without_a_broker_can_be_repeated() {
    let mut settings = settings(&broker());
    settings.properties.insert("bootstrap.servers".into(), "127.0.0.1:1".into());
    let away = KafkaLog::open(&settings).err();
    assert!(matches!(away, Some(LogError::Retriable(_))), "{away:?}");
}

#[tokio::test]
async fn a_single_record_is_sent_and_what_does_not_arrive_is_told() {
    let broker = broker();
    let sender = KafkaSender::new(&settings(&broker)).unwrap();
    let sent = records(OUT, 1).remove(0);
    sender.send(&sent).await.unwrap();
    let mut log = KafkaLog::open(&KafkaSettings { topics: vec![OUT.into()], ..settings(&broker) }).unwrap();
    let read = read(&mut log, 1).remove(0);
    assert_eq!(
        (read.key, read.payload, read.headers),
        (sent.key.clone(), sent.payload.clone(), sent.headers.clone())
    );

    let refused = Answer::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;
    broker.cluster().request_errors(Request::Produce, &[refused]);
    let error = sender.send(&sent).await.unwrap_err();
    assert!(matches!(error, LogError::Broken(_)), "{error}");
    // Whatever that did to the producer, the next one is sent.
    sender.send(&sent).await.unwrap();
}
