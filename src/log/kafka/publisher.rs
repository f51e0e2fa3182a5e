//! Records in transactions, for commands: no member of any group, and so no consumed offsets with them.

use std::time::{Duration, Instant};

use super::producer::Writer;
use super::settings::KafkaSettings;
use crate::log::{LogError, OutRecord};

/// A record and the partition that it is to stand in; nothing leaves it to the key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Placed {
    /// The record.
    pub record: OutRecord,
    /// The partition of its topic.
    pub partition: Option<i32>,
}

/// Publishes under a transactional id. Whoever opened one of the same id before is fenced: what that had not committed is
/// aborted, and it commits nothing more.
pub struct KafkaPublisher {
    writer: Writer,
}

/// How long brokers may be away before a command gives up.
const OPEN_WITHIN: Duration = Duration::from_secs(30);
/// While they are.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(500);

impl KafkaPublisher {
    /// Connects, and takes the transactional id over.
    ///
    /// # Errors
    /// Where the brokers refuse, or cannot be reached for half a minute.
    pub fn open(settings: &KafkaSettings) -> Result<Self, LogError> {
        let mut writer = Writer::new(settings)?;
        let deadline = Instant::now() + OPEN_WITHIN;
        loop {
            match writer.replace() {
                Ok(()) => return Ok(Self { writer }),
                Err(LogError::Retriable(_)) if Instant::now() < deadline => {
                    std::thread::sleep(TRY_AGAIN_AFTER);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Publishes all of these records or none of them.
    ///
    /// # Errors
    /// Where none is published; or, for `ProducerLost`, where it is not known whether they are.
    pub fn publish(&mut self, records: &[Placed]) -> Result<(), LogError> {
        self.writer.begin()?;
        let sent = self.writer.send_placed(records);
        if let Err(error) = sent.and_then(|()| self.writer.commit()) {
            // Dropping the writer does the same; what is wrong is told either way.
            self.writer.abort().ok();
            return Err(error);
        }
        Ok(())
    }
}
