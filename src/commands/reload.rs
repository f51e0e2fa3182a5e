//! Another version of the programme while the worker runs: on SIGHUP, and when its file has changed.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use jiff::Timestamp;

use super::setup::{load_programme, log_warnings};
use crate::metrics::Metrics;
use crate::programme::current::Current;

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Watches the programme's file.
pub struct Reload {
    path: PathBuf,
    current: Arc<Current>,
    metrics: Metrics,
    asked: Arc<AtomicBool>,
    looked: Instant,
    seen: Option<Seen>,
}

/// What tells that a file is another one than before. A length tells most changes that come within the
/// clock's tick.
type Seen = (SystemTime, u64);

impl Reload {
    /// Begins with the file as it is now, which `current` was read from.
    ///
    /// # Errors
    /// Where the system does not let us listen for SIGHUP.
    pub fn watch(
        path: PathBuf,
        current: Arc<Current>,
        metrics: Metrics,
        runtime: &tokio::runtime::Runtime,
    ) -> anyhow::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let asked = Arc::new(AtomicBool::new(false));
        let _runtime = runtime.enter();
        let mut hangup = signal(SignalKind::hangup()).context("listening for SIGHUP")?;
        let flag = asked.clone();
        runtime.spawn(async move {
            while hangup.recv().await.is_some() {
                flag.store(true, Ordering::Release);
            }
        });
        let mut reload = Self { path, current, metrics, asked, looked: Instant::now(), seen: None };
        reload.seen = reload.look();
        Ok(reload)
    }

    /// Takes up the file where it has changed or SIGHUP came. To be called often; looks once a second.
    pub fn take_up(&mut self) {
        let asked = self.asked.swap(false, Ordering::AcqRel);
        if !asked && self.looked.elapsed() < LOOK_EVERY {
            return;
        }
        self.looked = Instant::now();
        let seen = self.look();
        // A file that is away for a moment is being exchanged.
        if !asked && (seen.is_none() || seen == self.seen) {
            return;
        }
        self.seen = seen;
        let taken = match load_programme(&self.path, Timestamp::now()) {
            Ok((programme, _)) if programme.version == self.current.get().version => {
                self.metrics.programme_wrong.set(0);
                if asked {
                    tracing::info!(version = %programme.version, "the programme is the same");
                }
                return;
            }
            Ok((programme, warnings)) => {
                let programme = Arc::new(programme);
                self.current.replace(programme.clone()).map(|()| (programme, warnings))
            }
            Err(problems) => Err(problems.to_string()),
        };
        match taken {
            Ok((programme, warnings)) => {
                self.metrics.takes_up(&programme);
                tracing::info!(version = %programme.version, rules = programme.rules.len(), "the programme is another one now");
                log_warnings(warnings.as_ref());
            }
            Err(why) => {
                self.metrics.programme_wrong.set(1);
                tracing::error!(%why, "the programme's file is wrong; the version before it goes on");
            }
        }
    }

    fn look(&self) -> Option<Seen> {
        let file = std::fs::metadata(&self.path).ok()?;
        Some((file.modified().ok()?, file.len()))
    }
}
