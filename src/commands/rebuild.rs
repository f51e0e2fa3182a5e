//! `accrual rebuild`: fills a Redis that lost everything, or a new one, from what was published. A worker that is started on
//! it does the same by itself before it commits anything; this shows how far it is, and takes up where an earlier run
//! ended: what is there already is not written again.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use jiff::Timestamp;

use super::confirm;
use super::progress::{Progress, a_second, grouped};
use super::setup::{SettingsArgs, Setup};
use crate::log::kafka::KafkaArchive;
use crate::log::{Archive, LogError, Stretch};
use crate::repair::{Host, READ_FOR, Repair};
use crate::store::{Restored, Store, StoreError};

/// What `accrual rebuild` is told.
#[derive(Clone, Debug, clap::Args)]
pub struct RebuildArgs {
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Restores what the store lacks.
///
/// # Errors
/// Where Kafka or the store does not answer, or what was published cannot be read.
pub fn rebuild(args: &RebuildArgs) -> anyhow::Result<ExitCode> {
    let Some(setup) = Setup::load_or_say(&args.settings, Timestamp::now()) else {
        return Ok(ExitCode::from(2));
    };
    if setup.config.store.url().is_none() {
        bail!("the store is `memory`: it is rebuilt whenever a worker starts on it");
    }
    if !args.yes && confirm::nobody_is_there() {
        eprintln!("nobody can be asked here whether to go on: add --yes");
        return Ok(ExitCode::from(2));
    }
    let mut store = setup.stores().open()?;
    setup.check_deployment(store.as_mut()).context("the store")?;
    println!(
        "Redis is given every account and receipt that {}, {} and {} tell of and that it has not; what it has stays.",
        setup.config.outputs.awards, setup.config.outputs.tier_changes, setup.config.outputs.accounts
    );
    if !args.yes && !confirm::go_on()? {
        println!("nothing was changed");
        return Ok(ExitCode::FAILURE);
    }
    let lanes = setup.lane_settings();
    let archive = KafkaArchive::new(setup.kafka_settings("rebuild", 0));
    let began = Instant::now();
    let mut sum = Restored::default();
    // Where the server is exchanged meanwhile, the new one may lack what the old one was given.
    loop {
        let located = store.locate()?;
        let repair =
            Repair::of(&lanes.outputs, lanes.buckets, &lanes.versions, lanes.retention, &located, None);
        let progress = Progress::of(0, "records");
        let mut command = Command { archive: &archive, store: store.as_mut(), progress, done: 0 };
        let restored = repair.run(&mut command);
        command.progress.finish();
        if let Some(restored) = restored? {
            sum += restored;
            if store.confirm(&located)? {
                break;
            }
        }
        eprintln!("Redis is another than it was a moment ago: once more");
    }
    let took = began.elapsed();
    println!(
        "restored {} accounts and the receipts of {} events in {:.1} s ({} accounts/s)",
        grouped(sum.accounts),
        grouped(sum.events),
        took.as_secs_f64(),
        a_second(sum.accounts, took)
    );
    Ok(ExitCode::SUCCESS)
}

/// How long somebody who looks on waits for a dependency that is away.
const PATIENCE: Duration = Duration::from_mins(1);
const TRY_AGAIN: Duration = Duration::from_millis(500);

struct Command<'a> {
    archive: &'a KafkaArchive,
    store: &'a mut dyn Store,
    progress: Progress,
    done: u64,
}

impl Host for Command<'_> {
    type Left = anyhow::Error;

    fn archive<T>(
        &mut self,
        mut ask: impl FnMut(&dyn Archive, Instant) -> Result<T, LogError>,
    ) -> anyhow::Result<T> {
        let give_up = Instant::now() + PATIENCE;
        loop {
            match ask(self.archive, Instant::now() + READ_FOR) {
                Err(LogError::Retriable(_)) if Instant::now() < give_up => std::thread::sleep(TRY_AGAIN),
                answer => return Ok(answer?),
            }
        }
    }

    fn store<T>(&mut self, ask: impl Fn(&mut dyn Store) -> Result<T, StoreError>) -> anyhow::Result<T> {
        let give_up = Instant::now() + PATIENCE;
        loop {
            match ask(self.store) {
                Err(StoreError::Away(_)) if Instant::now() < give_up => std::thread::sleep(TRY_AGAIN),
                answer => return Ok(answer?),
            }
        }
    }

    fn pause(&mut self, wait: Duration) -> anyhow::Result<()> {
        std::thread::sleep(wait);
        Ok(())
    }

    fn unreadable(&mut self, why: String) -> anyhow::Error {
        anyhow::anyhow!("what was published cannot be read: {why}")
    }

    fn begins(&mut self, records: u64) {
        self.progress = Progress::of(records, "records");
    }

    fn restored(&mut self, stretch: &Stretch, _restored: Restored) {
        self.done += u64::try_from(stretch.until - stretch.from).unwrap_or_default();
        self.progress.set(self.done);
    }
}
