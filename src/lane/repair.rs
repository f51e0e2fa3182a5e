//! Making sure that the store still has what this lane and others were told that it had written, before anything is
//! decided on it. See `src/repair/`.

use std::time::{Duration, Instant};

use super::publish::Tries;
use super::{Lane, LaneError, LaneSettings, Left};
use crate::log::{Archive, Log, LogError, Stretch};
use crate::repair::{Host, READ_FOR, Repair};
use crate::store::{Located, Restored, Store, StoreError};
use crate::types::Bucket;

impl<L: Log, S: Store> Lane<L, S> {
    /// Looks where the buckets are, and repairs those that were not found whole there yet.
    pub(super) fn make_sure_of_store(&mut self) -> Result<(), Left> {
        loop {
            let located = self.ask_store(Store::locate)?;
            let lost: Vec<Located> = located.iter().filter(|of| !of.is_confirmed()).cloned().collect();
            if lost.is_empty() {
                if self.store.adopt(&located) {
                    // Both rest on what may be lost: an account of one version may be another now.
                    self.cache.clear();
                    self.leases.forget_all();
                }
                return Ok(());
            }
            self.repair(&lost)?;
        }
    }

    fn repair(&mut self, lost: &[Located]) -> Result<(), Left> {
        let settings = self.settings.clone();
        // Nothing may be lacking, as on the first day of all.
        tracing::info!(
            lane = %self.status.name,
            buckets = lost.len(),
            "the store is new, was started anew, or another one took over: looking for what it lacks"
        );
        self.metrics.store_repairs.inc();
        let LaneSettings { outputs, buckets, versions, retention, whole_stretch, .. } = &settings;
        let repair = Repair::of(outputs, *buckets, versions, *retention, lost, Some(*whole_stretch));
        self.status.restores(0);
        let restored = repair.run(self);
        self.status.ends_restoring();
        let Some(Restored { events, accounts }) = restored? else { return Ok(()) };
        if self.ask_store(|store| store.confirm(lost))? {
            let lane = &*self.status.name;
            if events + accounts > 0 {
                tracing::warn!(lane, events, accounts, "the store had lost something, which is restored");
            } else {
                tracing::info!(lane, "the store is whole");
            }
        }
        Ok(())
    }

    /// Whether the store is still where the results of this transaction were written to. Asked inside the transaction,
    /// where the group cannot be polled.
    pub(super) fn store_is_unmoved(&mut self, buckets: &[Bucket]) -> Result<(), LogError> {
        if buckets.is_empty() {
            return Ok(());
        }
        let mut tries = Tries::begin();
        loop {
            match self.store.is_unmoved(buckets) {
                Ok(is_unmoved) => {
                    self.status.redis_is_up(&self.metrics);
                    let moved = || LogError::Abortable("Redis is another than it was".into());
                    return is_unmoved.then_some(()).ok_or_else(moved);
                }
                Err(StoreError::Away(why)) => {
                    self.status.redis_is_down(&self.metrics, &why);
                    tracing::warn!(lane = %self.status.name, why, "the store is away inside a transaction");
                    let Some(wait) = tries.another(&self.status) else {
                        return Err(LogError::Abortable(why));
                    };
                    (self.settings.sleep)(wait);
                }
                Err(StoreError::Crash) => return Err(LogError::Crash),
                Err(error) => return Err(LogError::Abortable(error.to_string())),
            }
        }
    }
}

impl<L: Log, S: Store> Host for Lane<L, S> {
    type Left = Left;

    fn archive<T>(
        &mut self,
        mut ask: impl FnMut(&dyn Archive, Instant) -> Result<T, LogError>,
    ) -> Result<T, Left> {
        loop {
            match ask(&*self.archive, Instant::now() + READ_FOR) {
                Ok(answer) => return Ok(answer),
                Err(LogError::Retriable(why)) => {
                    self.log_is_away(&why);
                    let wait = self.backoff();
                    self.stay_in_group(wait)?;
                }
                Err(error) => return Err(Left::Failed(LaneError::Log(error))),
            }
        }
    }

    fn store<T>(&mut self, ask: impl Fn(&mut dyn Store) -> Result<T, StoreError>) -> Result<T, Left> {
        self.ask_store(|store| ask(store))
    }

    fn pause(&mut self, wait: Duration) -> Result<(), Left> {
        self.stay_in_group(wait)
    }

    fn unreadable(&mut self, why: String) -> Left {
        Left::Failed(LaneError::Unreadable(format!("what was published, {why}")))
    }

    fn begins(&mut self, records: u64) {
        self.status.restores(records);
    }

    fn restored(&mut self, stretch: &Stretch, restored: Restored) {
        self.status.has_restored(u64::try_from(stretch.until - stretch.from).unwrap_or_default());
        let Restored { events, accounts } = restored;
        self.metrics.store_restored.with_label_values(&["events"]).inc_by(events);
        self.metrics.store_restored.with_label_values(&["accounts"]).inc_by(accounts);
    }
}
