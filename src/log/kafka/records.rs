//! Records, copied out of librdkafka's memory. Each byte is copied once.

use rdkafka::message::{BorrowedMessage, Headers, Message};

use super::assignment::Assignment;
use crate::log::{Header, LogError, Record, made_anew};
use crate::types::{Coordinates, TopicName};

/// Copies a message out of librdkafka, if its partition is (still) owned.
pub(super) fn take_in(
    owned: &mut Assignment,
    message: &BorrowedMessage<'_>,
) -> Result<Option<Record>, LogError> {
    let (partition, offset) = (message.partition(), message.offset());
    let Some((topic, place)) = owned.find(message.topic(), partition) else {
        return Ok(None);
    };
    if offset < place.next {
        let seen = format!("{topic}/{partition} went back from offset {} to {offset}", place.next);
        return Err(LogError::Broken(made_anew(topic, &seen)));
    }
    place.read(offset);
    Ok(Some(copy(topic.clone(), message)))
}

/// Copies a message out of librdkafka.
pub(super) fn copy(topic: TopicName, message: &BorrowedMessage<'_>) -> Record {
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        headers
            .iter()
            .map(|header| Header { name: header.key.to_owned(), value: header.value.map(<[u8]>::to_vec) })
            .collect()
    });
    Record {
        at: Coordinates { topic, partition: message.partition(), offset: message.offset() },
        published_ms: message.timestamp().to_millis(),
        key: message.key().map(<[u8]>::to_vec),
        payload: message.payload().map(<[u8]>::to_vec),
        headers,
    }
}

/// What a record takes in memory, roughly.
pub(super) fn size_of(record: &Record) -> usize {
    let of = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
    let headers: usize = record.headers.iter().map(|header| header.name.len() + of(&header.value)).sum();
    std::mem::size_of::<Record>() + of(&record.key) + of(&record.payload) + headers
}
