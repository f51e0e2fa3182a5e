//! What was applied to accounts, is not published, and will not be delivered again: its source records are gone.

use std::collections::BTreeMap;

use super::LaneError;
use super::outbox::{self, Channel, Unpublished};
use super::positions::{contains, covers};
use super::work::{out_of, snapshot_of};
use crate::account::Account;
use crate::entry::Renderer;
use crate::log::OutRecord;
use crate::store::{LoadBucket, LoadedBucket, OffsetRange, OutboxKey, Store};
use crate::types::{Bucket, MemberId, Outputs, TopicPartition};

/// What an old topic left in the outbox: applied to accounts, and not published. Its records do not come again, so it
/// is published before the topic is forgotten.
#[derive(Debug, Default)]
pub struct Leftovers {
    /// To be published, in one transaction.
    pub records: Vec<OutRecord>,
    /// What is done with it then, and can go.
    pub entries: Vec<(Bucket, OutboxKey)>,
}

/// So many entries of the outbox are read at once: each is what a batch left of one partition in one bucket.
const A_READING: usize = 64;

/// Reads some of what is left of partitions whose processed ranges are these. Nothing is left where there are no entries.
///
/// # Errors
/// What the store says; `Unreadable` where it holds something else than a worker writes.
pub fn leftovers(
    store: &mut dyn Store,
    outputs: &Outputs,
    renderer: &Renderer,
    processed: &BTreeMap<TopicPartition, Vec<OffsetRange>>,
) -> Result<Leftovers, LaneError> {
    let partitions: Vec<TopicPartition> = processed.keys().cloned().collect();
    let mut left = Leftovers::default();
    let mut changed = Changed::new();
    for (bucket, key) in store.outbox(&partitions).map_err(LaneError::Store)?.into_iter().take(A_READING) {
        let ranges = processed.get(&key.partition).map(Vec::as_slice).unwrap_or_default();
        if !covers(ranges, key.first, key.last)
            && let Some(blob) = store.outbox_entry(bucket, &key).map_err(LaneError::Store)?
        {
            for record in outbox::read(&blob).map_err(LaneError::Unreadable)? {
                if contains(ranges, record.offset) {
                    continue;
                }
                note_changed(&mut changed, bucket, &record)?;
                left.records.push(out_of(outputs, record));
            }
        }
        left.entries.push((bucket, key));
    }
    let loaded = store.load(&wanted(&changed)).map_err(LaneError::Store)?;
    left.records.extend(snapshots(outputs, renderer, &changed, loaded)?);
    Ok(left)
}

/// Members whose accounts changed, each with the time of the latest change.
pub(super) type Changed = BTreeMap<Bucket, BTreeMap<MemberId, Box<str>>>;

/// Notes whose account an unpublished record has changed.
pub(super) fn note_changed(
    changed: &mut Changed,
    bucket: Bucket,
    record: &Unpublished,
) -> Result<(), LaneError> {
    if matches!(record.channel, Channel::Awards | Channel::TierChanges) {
        let time = published_time(&record.payload).map_err(LaneError::Unreadable)?;
        changed.entry(bucket).or_default().insert(record.member.clone(), time);
    }
    Ok(())
}

/// The question for the accounts that changed.
pub(super) fn wanted(changed: &Changed) -> Vec<LoadBucket> {
    let wanted = |(bucket, members): (&Bucket, &BTreeMap<MemberId, Box<str>>)| LoadBucket {
        bucket: *bucket,
        members: members.keys().cloned().collect(),
        receipts: Vec::new(),
        outbox: false,
    };
    changed.iter().map(wanted).collect()
}

/// The snapshots of accounts that changed, as the store answered.
pub(super) fn snapshots(
    outputs: &Outputs,
    renderer: &Renderer,
    changed: &Changed,
    loaded: Vec<LoadedBucket>,
) -> Result<Vec<OutRecord>, LaneError> {
    let accounts = loaded.into_iter().flat_map(|bucket| bucket.accounts);
    let mut records = Vec::new();
    for ((member, time), json) in changed.values().flatten().zip(accounts) {
        let Some(json) = json else { continue };
        let account = Account::from_json(&json)
            .map_err(|error| LaneError::Unreadable(format!("an account: {error}")))?;
        let (text, _) =
            renderer.snapshot(member, account.version, time, |into| into.extend_from_slice(&json));
        records.push(snapshot_of(outputs, member, text));
    }
    Ok(records)
}

/// The event's time in a record as it is published.
fn published_time(payload: &[u8]) -> Result<Box<str>, String> {
    #[derive(serde::Deserialize)]
    struct Published {
        time: Box<str>,
    }
    let published: Published =
        serde_json::from_slice(payload).map_err(|error| format!("an outbox record: {error}"))?;
    Ok(published.time)
}
