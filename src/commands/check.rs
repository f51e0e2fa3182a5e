//! `accrual check`: whether settings and programme are right, before anything is consumed.

use std::process::ExitCode;

use jiff::Timestamp;

use super::setup::{SettingsArgs, Setup};
use crate::log::kafka;
use crate::programme::{Programme, Versions};
use crate::store::StoreError;

/// What `accrual check` is told.
#[derive(Clone, Debug, clap::Args)]
pub struct CheckArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Also ask the brokers, the topics, the permissions and the store.
    #[arg(long)]
    connect: bool,
    /// Take what is likely wrong with the programme for an error: for a CI.
    #[arg(long)]
    deny_warnings: bool,
}

/// Checks, prints what was found, and succeeds where nothing is wrong, or only likely so.
///
/// # Errors
/// Where the store's address cannot be used.
pub fn check(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let Some(setup) = Setup::load_or_say(&args.settings, Timestamp::now()) else {
        return Ok(ExitCode::from(2));
    };
    if let Some(warnings) = &setup.warnings {
        if args.deny_warnings {
            eprintln!("{}", warnings.clone().into_errors());
            return Ok(ExitCode::from(2));
        }
        eprintln!("{warnings}\n");
    }
    println!("ok    settings: {} lanes, store {}", setup.config.lanes, setup.config.store);
    println!("ok    http {}", setup.config.http);
    print_versions(&setup.versions);
    if !args.connect {
        return Ok(ExitCode::SUCCESS);
    }
    let mut right = true;
    for check in kafka::check(&setup.kafka_settings("check", 0), &setup.output_topics()) {
        right &= check.result.is_ok();
        println!("{check}");
    }
    match look_at_store(&setup) {
        Ok(()) => println!("ok    store {}: writable, made for this deployment", setup.config.store),
        Err(error) => {
            right = false;
            println!("WRONG store {}: {error}", setup.config.store);
        }
    }
    Ok(if right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A line for each version, with the time whose events it decides.
fn print_versions(versions: &Versions) {
    let mut after = versions.iter().skip(1);
    for (at, programme) in versions.iter().enumerate() {
        let moment = |version: &Programme| {
            version.effective_from.map(|from| version.zone.to_datetime(from).to_string()).unwrap_or_default()
        };
        let from = if at == 0 { String::new() } else { format!(" from {}", moment(programme)) };
        let until = after.next().map(|next| format!(" until {}", moment(next))).unwrap_or_default();
        let decides = if versions.is_single() { " every event".to_owned() } else { from + &until };
        println!(
            "ok    programme {}: version {}, {} rules and {} campaigns for {} event types, {} tiers; {} decides{decides}",
            programme.name,
            programme.version,
            programme.rules.len(),
            programme.campaigns.len(),
            programme.by_type.len(),
            programme.tiers.as_ref().map_or(0, |tiers| tiers.levels.len()),
            programme.file,
        );
    }
}

fn look_at_store(setup: &Setup) -> Result<(), StoreError> {
    let mut store = setup.stores().open()?;
    store.probe()?;
    setup.check_deployment(store.as_mut())
}
