//! Publishing: results and consumed positions in one transaction, and what follows when it fails.

use std::time::{Duration, Instant};

use super::status::LaneStatus;
use super::{Lane, LaneError, Left};
use crate::log::{Log, LogError, OutRecord, Position};
use crate::store::Store;
use crate::types::Bucket;

/// How often the same call is tried inside a transaction before its producer is given up. With the
/// waits between, about ten seconds: below a transaction's and a group member's usual time-outs.
const TRIES: u32 = 12;
/// After so long it is not tried again, however few the tries were: a server that does not even refuse takes its time for
/// each answer.
const TRIED_FOR: Duration = Duration::from_secs(10);

/// How often one call inside a transaction was tried again.
pub(super) struct Tries {
    made: u32,
    began: Instant,
}

impl Tries {
    /// None yet.
    pub(super) fn begin() -> Self {
        Self { made: 0, began: Instant::now() }
    }

    /// How long to wait before another one; nothing where the call is to be given up.
    pub(super) fn another(&mut self, status: &LaneStatus) -> Option<Duration> {
        if self.made >= TRIES || self.began.elapsed() >= TRIED_FOR || status.is_stopping() {
            return None;
        }
        self.made += 1;
        status.turned();
        Some(Duration::from_millis(50_u64 << self.made.min(5)))
    }
}

impl<L: Log, S: Store> Lane<L, S> {
    /// Publishes a batch and commits its positions, or nothing of both. Where it fails, or where the buckets that it
    /// rests on are not where they were, the lane goes back to the committed offsets; the receipts make that harmless.
    pub(super) fn publish(
        &mut self,
        records: &[OutRecord],
        positions: &[Position],
        buckets: &[Bucket],
    ) -> Result<(), Left> {
        match self.transact(records, positions, buckets) {
            Ok(()) => {
                self.status.kafka_is_up(&self.metrics);
                self.metrics.transactions.with_label_values(&["committed"]).inc();
                Ok(())
            }
            Err(LogError::Abortable(why)) => {
                tracing::warn!(lane = %self.status.name, why, "the transaction is aborted; the batch will be read again");
                self.metrics.transactions.with_label_values(&["aborted"]).inc();
                match self.try_again(super::super::log::Log::abort) {
                    Ok(()) => {}
                    Err(LogError::ProducerLost(_) | LogError::Abortable(_) | LogError::Retriable(_)) => {
                        self.replace_producer()?;
                    }
                    Err(error) => return Err(Left::Failed(LaneError::Log(error))),
                }
                Err(self.go_back())
            }
            Err(LogError::ProducerLost(why) | LogError::Retriable(why)) => {
                tracing::warn!(lane = %self.status.name, why, "the producer is replaced; the batch will be read again");
                self.status.kafka_is_down(&self.metrics, &why);
                self.replace_producer()?;
                Err(self.go_back())
            }
            Err(error) => Err(Left::Failed(LaneError::Log(error))),
        }
    }

    /// One transaction. The consumer is not polled in here, so that no rebalance runs inside it.
    ///
    /// Right before its end, with all of it in the log, the store is asked whether it is still the one that has the
    /// results: what is published after a loss that others have heard of, nobody would restore, see [`crate::repair`].
    pub(super) fn transact(
        &mut self,
        records: &[OutRecord],
        positions: &[Position],
        buckets: &[Bucket],
    ) -> Result<(), LogError> {
        self.try_again(super::super::log::Log::begin)?;
        self.try_again(|log| log.send(records))?;
        self.try_again(|log| log.send_offsets(positions))?;
        self.try_again(super::super::log::Log::arrive)?;
        self.store_is_unmoved(buckets)?;
        self.try_again(super::super::log::Log::commit)
    }

    /// The same call again while that may help, then the last error.
    fn try_again(&mut self, mut call: impl FnMut(&mut L) -> Result<(), LogError>) -> Result<(), LogError> {
        let mut tries = Tries::begin();
        loop {
            self.status.asks_kafka();
            let answer = call(&mut self.log);
            self.status.kafka_has_answered();
            let Err(LogError::Retriable(why)) = answer else { return answer };
            let Some(wait) = tries.another(&self.status) else { return Err(LogError::Retriable(why)) };
            self.log_is_away(&why);
            (self.settings.sleep)(wait);
        }
    }

    /// A new producer under the same id ends whatever the old one left undone.
    fn replace_producer(&mut self) -> Result<(), Left> {
        self.metrics.transactions.with_label_values(&["producer_replaced"]).inc();
        loop {
            match self.log.replace_producer() {
                Ok(()) => return Ok(()),
                Err(LogError::Retriable(why) | LogError::ProducerLost(why) | LogError::Abortable(why)) => {
                    self.log_is_away(&why);
                    if self.status.is_stopping() {
                        return Err(Left::Stopped);
                    }
                    let wait = self.backoff();
                    // A rebalance meanwhile is no loss: going back, which follows, reports what is owned then.
                    match self.stay_in_group(wait) {
                        Ok(()) | Err(Left::Reassigned(_)) => {}
                        Err(left) => return Err(left),
                    }
                }
                Err(error) => return Err(Left::Failed(LaneError::Log(error))),
            }
        }
    }

    /// Reads on from the committed offsets.
    pub(super) fn go_back(&mut self) -> Left {
        loop {
            match self.log.rewind() {
                Ok(assigned) => return Left::Reassigned(assigned),
                Err(LogError::Retriable(why)) => {
                    self.log_is_away(&why);
                    let wait = self.backoff();
                    if let Err(left) = self.stay_in_group(wait) {
                        return left;
                    }
                }
                Err(error) => return Left::Failed(LaneError::Log(error)),
            }
        }
    }
}
