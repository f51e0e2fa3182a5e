//! Another version of the programme while the worker runs: on SIGHUP, and when one of its files has changed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use jiff::Timestamp;

use super::setup::{load_versions, log_warnings};
use crate::metrics::Metrics;
use crate::programme::current::Current;

/// How often files are looked at.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Watches the files of the programme's versions.
pub struct Reload {
    paths: Vec<PathBuf>,
    current: Arc<Current>,
    metrics: Metrics,
    asked: Arc<AtomicBool>,
    looked: Option<Instant>,
    seen: Option<Vec<Seen>>,
}

/// What tells that a file is another one than before. A length tells most changes that come within the
/// clock's tick.
pub(super) type Seen = (SystemTime, u64);

/// What a file looks like; nothing where it is not there.
pub(super) fn look_at(path: &Path) -> Option<Seen> {
    let file = std::fs::metadata(path).ok()?;
    Some((file.modified().ok()?, file.len()))
}

impl Reload {
    /// Begins with nothing seen, so that the first look compares what the files say with `current`, which was
    /// read from them some time ago.
    ///
    /// # Errors
    /// Where the system does not let us listen for SIGHUP.
    pub fn watch(
        paths: &[PathBuf],
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
        Ok(Self { paths: paths.to_vec(), current, metrics, asked, looked: None, seen: None })
    }

    /// Takes up all files where one has changed or SIGHUP came. To be called often; looks once a second.
    pub fn take_up(&mut self) {
        let asked = self.asked.swap(false, Ordering::AcqRel);
        if !asked && self.looked.is_some_and(|looked| looked.elapsed() < LOOK_EVERY) {
            return;
        }
        self.looked = Some(Instant::now());
        let seen = self.look();
        // A file that is away for a moment is being exchanged.
        if !asked && (seen.is_none() || seen == self.seen) {
            return;
        }
        self.seen = seen;
        let taken = match load_versions(&self.paths, Timestamp::now()) {
            Ok((versions, _)) if versions.are_same(&self.current.get()) => {
                self.metrics.programme_wrong.set(0);
                if asked {
                    tracing::info!(%versions, "the programme is the same");
                }
                return;
            }
            Ok((versions, warnings)) => {
                let versions = Arc::new(versions);
                self.current.replace(versions.clone()).map(|()| (versions, warnings))
            }
            Err(problems) => Err(problems.to_string()),
        };
        match taken {
            Ok((versions, warnings)) => {
                self.metrics.takes_up(&versions);
                tracing::info!(%versions, "the programme is another one now");
                log_warnings(warnings.as_ref());
            }
            Err(why) => {
                self.metrics.programme_wrong.set(1);
                tracing::error!(%why, "the programme is wrong; the one before it goes on");
            }
        }
    }

    /// Nothing where a file is not there.
    fn look(&self) -> Option<Vec<Seen>> {
        self.paths.iter().map(|path| look_at(path)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::programme::Versions;

    const HEAD: &str = "programme: p\ntimezone: UTC\ncurrency: EUR\n";

    fn rules(points: u32) -> String {
        format!("rules: [{{id: a, on: order.paid, earn: {{points: {points}}}}}]\n")
    }

    /// Two versions in files of a folder of the test's own, as a worker has loaded them.
    struct Loaded {
        folder: PathBuf,
        paths: [PathBuf; 2],
        runtime: tokio::runtime::Runtime,
        current: Arc<Current>,
        metrics: Metrics,
    }

    impl Loaded {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("accrual-reload-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&folder).unwrap();
            let paths = ["first.yaml", "second.yaml"].map(|file| folder.join(file));
            std::fs::write(&paths[0], format!("{HEAD}{}", rules(1))).unwrap();
            std::fs::write(&paths[1], second("2026-12-01T00:00", 2)).unwrap();
            let (versions, _) = load_versions(&paths, Timestamp::UNIX_EPOCH).unwrap();
            let metrics = Metrics::new(&versions).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            Self { folder, paths, runtime, current: Arc::new(Current::new(Arc::new(versions))), metrics }
        }

        fn watch(&self) -> Reload {
            Reload::watch(&self.paths, self.current.clone(), self.metrics.clone(), &self.runtime).unwrap()
        }

        fn versions(&self) -> Vec<String> {
            self.current.get().iter().map(|version| version.version.clone()).collect()
        }
    }

    impl Drop for Loaded {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.folder).ok();
        }
    }

    fn second(from: &str, points: u32) -> String {
        format!("{HEAD}effective_from: {from}\n{}", rules(points))
    }

    fn version(text: &str) -> String {
        Versions::only(crate::programme::Programme::parse("x", text).unwrap()).to_string()
    }

    #[test]
    fn a_change_between_loading_and_watching_is_taken_up_at_the_first_look() {
        let loaded = Loaded::new("first-look");
        let changed = second("2026-12-01T00:00", 3);
        std::fs::write(&loaded.paths[1], &changed).unwrap();
        let mut reload = loaded.watch();
        reload.take_up();
        assert_eq!(loaded.versions()[1], version(&changed));
    }

    #[test]
    fn a_change_of_one_file_takes_up_all_of_them_and_a_broken_one_none() {
        let loaded = Loaded::new("any-file");
        let mut reload = loaded.watch();
        let mut look = || {
            reload.looked = None;
            reload.take_up();
        };
        look();
        let before = loaded.versions();

        // Broken, or at odds with the other: nothing changes, also not in the file that is right.
        std::fs::write(&loaded.paths[0], format!("{HEAD}{}", rules(100))).unwrap();
        for wrong in [second("tomorrow", 200), second("2026-12-01T00:00", 200).replace("EUR", "USD")] {
            std::fs::write(&loaded.paths[1], wrong).unwrap();
            look();
            assert_eq!((loaded.versions(), loaded.metrics.programme_wrong.get()), (before.clone(), 1));
        }

        let right = second("2026-12-24T00:00", 200);
        std::fs::write(&loaded.paths[1], &right).unwrap();
        look();
        let expected = [version(&format!("{HEAD}{}", rules(100))), version(&right)];
        assert_eq!((loaded.versions(), loaded.metrics.programme_wrong.get()), (expected.to_vec(), 0));
    }
}
