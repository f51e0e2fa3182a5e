//! Reads what Redis answered. An answer of another shape than asked for is an error, never a panic.

use std::fmt::Write as _;

use redis::Value;

use super::budgets::Leased;
use crate::store::{
    Committed, Lease, LoadedBucket, Located, OffsetRange, OutboxKey, Receipt, Restored, ServerId, StoreError,
};
use crate::types::{Bucket, Coordinates, MemberId, Points};

/// What a script that claims a generation of receipts answered.
pub(super) enum Claimed<T> {
    /// The claim was right.
    Done(T),
    /// Nothing was done: this generation is the right one.
    Wrong(u64),
}

impl<T> Claimed<T> {
    /// Reads the answer, with `done` where the claim was right.
    pub(super) fn read(
        answer: Value,
        done: impl FnOnce(Value) -> Result<T, StoreError>,
    ) -> Result<Self, StoreError> {
        if let Value::Array(parts) = &answer
            && let [Value::BulkString(word), Value::Int(generation)] = parts.as_slice()
            && word == b"generation"
        {
            return u64::try_from(*generation).map(Claimed::Wrong).map_err(|_| unexpected("a generation"));
        }
        done(answer).map(Claimed::Done)
    }
}

/// What `commit.lua` returns of so many buckets.
pub(super) fn committed(answer: Value, buckets: usize) -> Result<Vec<Claimed<Committed>>, StoreError> {
    let outcomes = array(answer)?;
    if outcomes.len() != buckets {
        return Err(unexpected("an outcome for each bucket"));
    }
    outcomes.into_iter().map(|outcome| Claimed::read(outcome, committed_bucket)).collect()
}

fn committed_bucket(answer: Value) -> Result<Committed, StoreError> {
    match answer {
        Value::Int(1) => Ok(Committed::Written),
        Value::Int(0) => Ok(Committed::Refused),
        Value::Int(2) => Ok(Committed::LeaseExpired),
        Value::Int(3) => Ok(Committed::Unconfirmed),
        _ => Err(unexpected("a commit's outcome")),
    }
}

/// What `locate.lua` returns.
pub(super) fn located(bucket: Bucket, answer: Value) -> Result<Located, StoreError> {
    let name = |name: Vec<u8>| ServerId::new(String::from_utf8_lossy(&name).into_owned());
    let mut names = optional_texts(answer)?.into_iter().map(|found| found.map(name));
    let server = names.next().flatten().filter(|server| !server.as_str().is_empty());
    let server = server.ok_or_else(|| unexpected("the server's master_replid"))?;
    Ok(Located { bucket, server, confirmed: names.next().flatten() })
}

/// What `restore.lua` returns when it did its work; nothing where the bucket is on another server.
pub(super) fn restored(answer: Value) -> Result<Option<Restored>, StoreError> {
    let number = |number: i64| u64::try_from(number).map_err(|_| unexpected("a number"));
    match array(answer)?.as_slice() {
        [Value::BulkString(word)] if word == b"moved" => Ok(None),
        [Value::Int(events), Value::Int(accounts)] => {
            Ok(Some(Restored { events: number(*events)?, accounts: number(*accounts)? }))
        }
        _ => Err(unexpected("what was restored")),
    }
}

/// What `claim_due.lua` returns.
pub(super) fn due(answer: Value) -> Result<(i64, Vec<MemberId>), StoreError> {
    let mut parts = array(answer)?.into_iter();
    let Some(Value::Int(now)) = parts.next() else { return Err(unexpected("the time")) };
    let members = texts(Value::Array(parts.collect()))?;
    Ok((now, members.into_iter().map(MemberId::from).collect()))
}

/// What `lease.lua` returns.
pub(super) fn leased(answer: Value) -> Result<Leased, StoreError> {
    match array(answer)?.as_slice() {
        [Value::Int(points), Value::Int(deadline), Value::Int(free)] => {
            let deadline = u64::try_from(*deadline).map_err(|_| unexpected("a deadline"))?;
            Ok(Leased::Done(Lease { points: Points(*points), deadline, free: Points(*free) }))
        }
        [Value::BulkString(word), lapsed @ ..] if word == b"lapsed" => {
            texts(Value::Array(lapsed.to_vec())).map(Leased::Lapsed)
        }
        _ => Err(unexpected("a lease")),
    }
}

/// Points that a bucket granted, of a lease that it knows or not.
pub(super) fn points(answer: Value) -> Result<Points, StoreError> {
    let Some(text) = optional_text(answer)? else { return Ok(Points::ZERO) };
    let number = std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok());
    number.map(Points).ok_or_else(foreign_points)
}

/// Counts of points that accrual has not written.
pub(super) fn foreign_points() -> StoreError {
    foreign("accrual:{…}:granted", "a number out of range")
}

/// What `load.lua` returns when it did its work.
pub(super) fn loaded(answer: Value) -> Result<LoadedBucket, StoreError> {
    let parts: [Value; 3] = array(answer)?.try_into().map_err(|_| unexpected("a bucket"))?;
    let [accounts, receipts, outbox] = parts;
    let receipts = optional_texts(receipts)?.into_iter();
    Ok(LoadedBucket {
        accounts: optional_texts(accounts)?,
        receipts: receipts
            .map(|found| found.map(|text| receipt(&text)).transpose())
            .collect::<Result<_, _>>()?,
        outbox: outbox_entries(outbox)?,
    })
}

/// Texts, some of which are not there.
pub(super) fn optional_texts(answer: Value) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
    array(answer)?.into_iter().map(optional_text).collect()
}

/// A text that may not be there.
pub(super) fn optional_text(answer: Value) -> Result<Option<Vec<u8>>, StoreError> {
    match answer {
        Value::BulkString(bytes) => Ok(Some(bytes)),
        Value::Nil => Ok(None),
        _ => Err(unexpected("a text")),
    }
}

/// Texts that are all there.
pub(super) fn texts(answer: Value) -> Result<Vec<String>, StoreError> {
    let present = |found: Option<Vec<u8>>| found.and_then(|bytes| String::from_utf8(bytes).ok());
    optional_texts(answer)?
        .into_iter()
        .map(|found| present(found).ok_or_else(|| unexpected("a text")))
        .collect()
}

/// Where to look on, and some receipts with their keys.
pub(super) fn scanned(answer: Value) -> Result<(String, Vec<(String, Receipt)>), StoreError> {
    let (cursor, found) = from_cursor(answer)?;
    let mut found = found.into_iter();
    let mut receipts = Vec::new();
    while let (Some(key), Some(text)) = (found.next(), found.next()) {
        receipts.push((String::from_utf8_lossy(&key).into_owned(), receipt(&text)?));
    }
    Ok((cursor, receipts))
}

/// Where to look on, and some keys. One that is no text is none of ours.
pub(super) fn keys(answer: Value) -> Result<(String, Vec<String>), StoreError> {
    let (cursor, found) = from_cursor(answer)?;
    Ok((cursor, found.into_iter().filter_map(|key| String::from_utf8(key).ok()).collect()))
}

/// Where to look on, and what was found.
fn from_cursor(answer: Value) -> Result<(String, Vec<Vec<u8>>), StoreError> {
    let mut parts = array(answer)?.into_iter();
    let (Some(cursor), Some(found), None) = (parts.next(), parts.next(), parts.next()) else {
        return Err(unexpected("a cursor"));
    };
    let cursor = String::from_utf8(optional_text(cursor)?.unwrap_or_default());
    let found = optional_texts(found)?.into_iter().flatten().collect();
    Ok((cursor.map_err(|_| unexpected("a cursor"))?, found))
}

/// Moments by which a sorted set orders members, of those that it holds.
pub(super) fn moments(answer: Value) -> Result<Vec<Option<i64>>, StoreError> {
    let moment = |text: Vec<u8>| {
        let text = String::from_utf8_lossy(&text).into_owned();
        // A score is written as a floating-point number; seconds are exact in it.
        let whole = text.split_once('.').map_or(text.as_str(), |(whole, _)| whole);
        whole.parse().map_err(|_| foreign("accrual:{…}:due", &text))
    };
    optional_texts(answer)?.into_iter().map(|found| found.map(moment).transpose()).collect()
}

/// A budget: points of leases that ended, and the names of leases whose counts stand in the buckets and are not among those.
pub(super) fn budget(answer: Value) -> Result<(Points, Vec<String>), StoreError> {
    let mut fields = match answer {
        Value::Map(fields) => fields.into_iter().flat_map(|(field, value)| [field, value]).collect(),
        other => array(other)?,
    }
    .into_iter();
    let (mut settled, mut open) = (Points::ZERO, Vec::new());
    while let (Some(field), Some(value)) = (fields.next(), fields.next()) {
        let field = optional_text(field)?.unwrap_or_default();
        if field == b"settled" {
            settled = points(value)?;
        } else if optional_text(value)?.as_deref() != Some(b"ended") {
            open.push(String::from_utf8_lossy(&field).into_owned());
        }
    }
    Ok((settled, open))
}

/// The fields of an outbox.
pub(super) fn outbox_keys(answer: Value) -> Result<Vec<OutboxKey>, StoreError> {
    let fields = optional_texts(answer)?;
    fields.into_iter().map(|field| outbox_key(&field.unwrap_or_default())).collect()
}

/// Reads ranges written as `0-500,900-1000`.
pub(super) fn ranges(text: &[u8]) -> Result<Vec<OffsetRange>, StoreError> {
    let text = String::from_utf8_lossy(text);
    let range = |part: &str| {
        let (from, until) = part.split_once('-')?;
        Some(OffsetRange { from: from.parse().ok()?, until: until.parse().ok()? })
    };
    let parts = text.split(',').filter(|part| !part.is_empty());
    parts.map(range).collect::<Option<_>>().ok_or_else(|| foreign("accrual:sources", &text))
}

/// A receipt as it is kept: `topic/partition/offset fingerprint`, the fingerprint in hexadecimal, and behind
/// another space the record where there is one. That is format 1. Another one begins with [`OTHER_FORMAT`], its number and a
/// space, so that a worker that does not know it says so.
pub(super) fn receipt_text(receipt: &Receipt) -> String {
    const NUMBERS: usize = 50;
    let record = receipt.record.as_deref();
    let size = receipt.at.topic.as_str().len() + NUMBERS + record.map_or(0, |record| 1 + record.len());
    let mut text = String::with_capacity(size);
    // Writing to a string does not fail.
    let _always_written = write!(text, "{} {:016x}", receipt.at, receipt.fingerprint);
    if let Some(record) = record {
        text.push(' ');
        text.push_str(record);
    }
    text
}

/// What a receipt of another format than the first begins with; no topic's name does.
const OTHER_FORMAT: char = '~';

fn receipt(bytes: &[u8]) -> Result<Receipt, StoreError> {
    let text = String::from_utf8_lossy(bytes);
    if let Some(newer) = text.strip_prefix(OTHER_FORMAT) {
        let format = newer.split(' ').next().unwrap_or_default();
        return Err(StoreError::Broken(format!(
            "a receipt in accrual:{{…}}:receipts has format {format}, and this worker knows format 1: a newer version of \
             accrual was here; run that version. Nothing was changed"
        )));
    }
    let read = || {
        // A topic's name has no space.
        let (at, rest) = text.split_once(' ')?;
        let (fingerprint, record) = match rest.split_once(' ') {
            Some((fingerprint, record)) => (fingerprint, Some(record.into())),
            None => (rest, None),
        };
        let fingerprint = u64::from_str_radix(fingerprint, 16).ok()?;
        Some(Receipt { at: Coordinates::parse(at)?, fingerprint, record })
    };
    read().ok_or_else(|| foreign("accrual:{…}:receipts", &text))
}

fn outbox_entries(answer: Value) -> Result<Vec<(OutboxKey, Vec<u8>)>, StoreError> {
    let mut parts = optional_texts(answer)?.into_iter().flatten();
    let mut entries = Vec::new();
    while let (Some(field), Some(blob)) = (parts.next(), parts.next()) {
        entries.push((outbox_key(&field)?, blob));
    }
    // Redis keeps no order; the caller wants what came first, first.
    entries.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    Ok(entries)
}

fn outbox_key(field: &[u8]) -> Result<OutboxKey, StoreError> {
    let text = String::from_utf8_lossy(field);
    OutboxKey::parse(&text).ok_or_else(|| foreign("accrual:{…}:outbox", &text))
}

fn array(answer: Value) -> Result<Vec<Value>, StoreError> {
    match answer {
        Value::Array(parts) => Ok(parts),
        _ => Err(unexpected("a list")),
    }
}

fn unexpected(wanted: &str) -> StoreError {
    StoreError::Broken(format!(
        "Redis did not answer with {wanted}; is another program's server at its address?"
    ))
}

fn foreign(key: &str, text: &str) -> StoreError {
    StoreError::Broken(format!(
        "`{text}` in {key} is not what accrual writes; does another program write there?"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receipts_are_read_back_as_written() {
        let at = Coordinates { topic: "shop/orders".into(), partition: 3, offset: 9_000_000_000 };
        let written = Receipt { at, fingerprint: 0xfeed, record: None };
        let with_record = Receipt { record: Some(r#"{"a":"1 2"}"#.into()), ..written.clone() };
        for written in [written, with_record] {
            assert_eq!(receipt(receipt_text(&written).as_bytes()).unwrap(), written);
        }
        assert!(matches!(receipt(b"shop/orders/3/1"), Err(StoreError::Broken(_))));
    }

    #[test]
    fn a_receipt_of_a_newer_format_is_told_with_both_formats() {
        let Err(StoreError::Broken(why)) = receipt(b"~2 shop/orders/3/1 feed") else { panic!() };
        assert!(why.contains("has format 2, and this worker knows format 1"), "{why}");
    }

    #[test]
    fn ranges_are_read_and_foreign_text_is_told() {
        assert_eq!(ranges(b"").unwrap(), []);
        let two = [OffsetRange { from: 0, until: 5 }, OffsetRange { from: 9, until: 10 }];
        assert_eq!(ranges(b"0-5,9-10").unwrap(), two);
        assert!(matches!(ranges(b"0-5,x"), Err(StoreError::Broken(_))));
    }
}
