//! A stretch of a partition that is read in parts: where one part ends the next goes on, with the connection, and with
//! what was read ahead meanwhile. A reader made anew for each part would throw both away.

use super::{Reader, UNDECIDED};
use crate::log::kafka::records;
use crate::log::{LogError, Record, Stretch};
use crate::types::TopicPartition;

/// A reading that stands behind the last record that was taken.
#[derive(Debug)]
pub(super) struct Scanning {
    pub(super) reader: Reader,
    of: TopicPartition,
    /// The next offset to be taken.
    next: i64,
    /// Up to here everything was decided when the reading began.
    end: i64,
    /// The first record behind the part that was asked for, where offsets are missing before it.
    ahead: Option<Record>,
    /// Whether no record is left.
    is_at_end: bool,
}

impl Scanning {
    /// Begins a reading of a stretch. Nothing where time ran out before all of it was decided.
    pub(super) fn begin(reader: Reader, stretch: &Stretch) -> Result<Option<Self>, LogError> {
        let Stretch { of, from, until } = stretch;
        let topic = of.topic.as_str();
        let mut end = reader.watermarks(topic, of.partition)?.1;
        while end < *until {
            if reader.left().is_zero() {
                return Ok(None);
            }
            std::thread::sleep(UNDECIDED);
            end = reader.watermarks(topic, of.partition)?.1;
        }
        reader.assign(topic, &[(of.partition, *from)])?;
        Ok(Some(Self { reader, of: of.clone(), next: *from, end, ahead: None, is_at_end: false }))
    }

    /// Whether a stretch goes on where this one stands, and was decided when it began. Of a later one the reader may have
    /// been told already that there is no more.
    pub(super) fn goes_on_with(&self, stretch: &Stretch) -> bool {
        self.of == stretch.of && self.next == stretch.from && stretch.until <= self.end
    }

    /// Whether all up to an offset was taken, and there is more that was decided when it began.
    pub(super) fn has_more_after(&self, until: i64) -> bool {
        self.next == until && until < self.end
    }

    /// Hands over all up to an offset, or until the taker wants no more. False where time ran out before.
    pub(super) fn read_to(
        &mut self,
        until: i64,
        take: &mut dyn FnMut(Record) -> bool,
    ) -> Result<bool, LogError> {
        let Self { reader, of, next, ahead, is_at_end, .. } = self;
        if *next >= until {
            return Ok(true);
        }
        let mut is_wanted = true;
        let mut hand_over = |record: Record| {
            *next = record.at.offset + 1;
            is_wanted = take(record);
            is_wanted && *next < until
        };
        let reads_on = match ahead.take_if(|record| record.at.offset < until) {
            Some(record) => hand_over(record),
            None => ahead.is_none() && !*is_at_end,
        };
        if reads_on {
            let mut is_stopped = false;
            let in_time = reader.read(of.topic.as_str(), &[of.partition], |message| {
                let record = records::copy(of.topic.clone(), message);
                is_stopped = if record.at.offset < until {
                    !hand_over(record)
                } else {
                    *ahead = Some(record);
                    true
                };
                !is_stopped
            })?;
            if !in_time {
                return Ok(false);
            }
            *is_at_end = !is_stopped;
        }
        if is_wanted {
            *next = until;
        }
        Ok(true)
    }
}
