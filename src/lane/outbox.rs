//! The form of an outbox blob: what a batch still has to publish for one input partition in one
//! bucket, byte for byte as it will be published.
//!
//! A version byte, then an LZ4 block behind its length (u32), which holds for each record: offset (i64),
//! channel (u8), length and bytes of the member, length and bytes of the payload; numbers little-endian,
//! lengths u32. Records of one batch are much alike: what Redis must copy, log and throw away again is a
//! fifth of what they are.

use crate::types::MemberId;

const VERSION: u8 = 1;

/// The topic that a record goes to, by its role.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Channel {
    /// The ledger.
    Awards,
    /// Tier changes.
    TierChanges,
    /// What accrual tells itself. The record's member is the one that it is for, who may be of another bucket than the outbox.
    Internal,
    /// A refund whose order never came, to the dead letters.
    Unclaimed,
}

/// One record to publish.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unpublished {
    /// The offset of the record that caused it.
    pub offset: i64,
    /// Where it goes.
    pub channel: Channel,
    /// Whose it is, or for whom; the key.
    pub member: MemberId,
    /// The payload.
    pub payload: Vec<u8>,
}

/// A blob may hold so many bytes: far more than a batch leaves in one bucket, far less than the memory.
const LARGEST: usize = 256 << 20;

/// Adds a record to what will be packed.
pub fn push(blob: &mut Vec<u8>, offset: i64, channel: Channel, member: &MemberId, payload: &[u8]) {
    blob.extend_from_slice(&offset.to_le_bytes());
    blob.push(match channel {
        Channel::Awards => 0,
        Channel::TierChanges => 1,
        Channel::Internal => 2,
        Channel::Unclaimed => 3,
    });
    for bytes in [member.as_str().as_bytes(), payload] {
        // Records are bounded far below 4 GiB by the broker.
        blob.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
        blob.extend_from_slice(bytes);
    }
}

/// Packs records into a blob. It is compressed in `space`, which is as large as the records, and larger: kept for the next
/// blob it is not taken from the system with each.
pub fn pack(records: &[u8], space: &mut Vec<u8>) -> Vec<u8> {
    let most = lz4_flex::block::get_maximum_output_size(records.len());
    if space.len() < most {
        space.resize(most, 0);
    }
    let packed = lz4_flex::block::compress_into(records, space);
    // There is room for the worst case.
    let packed = packed.ok().and_then(|length| space.get(..length)).unwrap_or_default();
    // Records are bounded far below 4 GiB by the broker.
    let length = u32::try_from(records.len()).unwrap_or(u32::MAX);
    [&[VERSION][..], &length.to_le_bytes(), packed].concat()
}

/// Reads a blob.
///
/// # Errors
/// Where the bytes are no outbox blob of a version known here, with what was found.
pub fn read(blob: &[u8]) -> Result<Vec<Unpublished>, String> {
    let mut rest = blob;
    let version = take(&mut rest, 1)?;
    if version != [VERSION] {
        return Err(format!("outbox blob of version {version:?}, this worker reads version {VERSION}"));
    }
    let mut length = rest;
    let length = u32::from_le_bytes(array(take(&mut length, 4)?)?) as usize;
    if length > LARGEST {
        return Err(format!("outbox blob says that it holds {length} bytes"));
    }
    let unpacked =
        lz4_flex::decompress_size_prepended(rest).map_err(|error| format!("outbox blob: {error}"))?;
    let mut rest = unpacked.as_slice();
    let mut records = Vec::new();
    while !rest.is_empty() {
        let offset = i64::from_le_bytes(array(take(&mut rest, 8)?)?);
        let channel = match take(&mut rest, 1)? {
            [0] => Channel::Awards,
            [1] => Channel::TierChanges,
            [2] => Channel::Internal,
            [3] => Channel::Unclaimed,
            other => return Err(format!("outbox blob names channel {other:?}")),
        };
        let member = sized(&mut rest)?;
        let member = std::str::from_utf8(member).map_err(|error| format!("outbox blob: {error}"))?.into();
        let payload = sized(&mut rest)?.to_vec();
        records.push(Unpublished { offset, channel, member, payload });
    }
    Ok(records)
}

fn sized<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], String> {
    let length = u32::from_le_bytes(array(take(rest, 4)?)?);
    take(rest, length as usize)
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], String> {
    let (taken, left) = rest.split_at_checked(length).ok_or("outbox blob ends in the middle of a record")?;
    *rest = left;
    Ok(taken)
}

fn array<const N: usize>(bytes: &[u8]) -> Result<[u8; N], String> {
    bytes.try_into().map_err(|_| "outbox blob ends in the middle of a number".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_blob_is_read_back_as_written(
            records in prop::collection::vec((any::<i64>(), 0..4_usize, ".{0,20}", prop::collection::vec(any::<u8>(), 0..50)), 1..20)
        ) {
            let written: Vec<Unpublished> = records.into_iter().map(|(offset, channel, member, payload)| Unpublished {
                offset,
                channel: [Channel::Awards, Channel::TierChanges, Channel::Internal, Channel::Unclaimed][channel],
                member: member.into(),
                payload,
            }).collect();
            let mut blob = Vec::new();
            for record in &written {
                push(&mut blob, record.offset, record.channel, &record.member, &record.payload);
            }
            prop_assert_eq!(read(&pack(&blob, &mut vec![7; 30])).unwrap(), written);
        }

        #[test]
        fn a_torn_blob_is_an_error_and_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }
    }
}
