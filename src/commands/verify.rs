//! `accrual verify`: whether every account is what its ledger comes to; and an adjustment for those where an event can mend
//! it.

use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use jiff::Timestamp;

use super::progress::Progress;
use super::setup::{SettingsArgs, Setup};
use crate::log::kafka::{KafkaArchive, KafkaSender};
use crate::log::{OutRecord, Sender};
use crate::types::{MemberId, Points, TopicName};
use crate::verify::page::page;
use crate::verify::{Difference, Findings, OPERATOR, Options, Remedy, Verifier, Watcher};

/// What `accrual verify` is told.
#[allow(clippy::struct_excessive_bools)] // each is a flag of its own
#[derive(Clone, Debug, clap::Args)]
pub struct VerifyArgs {
    /// Verify this member alone; may be given again.
    #[arg(long)]
    member: Vec<String>,
    /// Read only the partitions that these members' keys belong to, and the others where versions are missing in them. Faster,
    /// but a record that somebody put into another partition is not seen.
    #[arg(long, requires = "member")]
    quick: bool,
    /// Print what was found as JSON.
    #[arg(long)]
    json: bool,
    /// How much memory members' accounts may take, such as 512m or 2g. Where that is too little for all of them, the topics
    /// are read several times.
    #[arg(long, default_value = "2g", value_parser = bytes)]
    memory: u64,
    /// Write the last link of each member's chain to this file, to be kept elsewhere.
    #[arg(long, value_name = "FILE")]
    heads: Option<PathBuf>,
    /// Check that the links in this file, which `--heads` once wrote, are still in the chains.
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// Name the differences of so many members at most.
    #[arg(long, default_value_t = 1_000)]
    named: usize,
    /// How many seconds to wait for transactions that are open.
    #[arg(long, default_value_t = 90)]
    patience: u64,
    /// Where only spendable points of an account differ from a sound ledger, send the adjustment that takes the edit back. It
    /// is asked for first.
    #[arg(long)]
    fix: bool,
    /// Do not ask before sending adjustments.
    #[arg(long, requires = "fix")]
    yes: bool,
    /// The input topic that adjustments are sent to, instead of the first in the settings.
    #[arg(long, requires = "fix")]
    fix_topic: Option<String>,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Reads `512m` or `2g`.
fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no amount of memory, expected such as 512m or 2g");
    let digits = text.find(|character: char| !character.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at_checked(digits).ok_or_else(wrong)?;
    let factor = match unit {
        "m" | "M" => 1_u64 << 20,
        "g" | "G" => 1 << 30,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(factor).filter(|bytes| *bytes > 0).ok_or_else(wrong)
}

/// Verifies: 0 where nothing differs, 1 where something does, 2 where nothing can be said.
///
/// # Errors
/// None that the exit code does not say, but for an output that cannot be written.
pub fn verify(args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let Some(setup) = Setup::load_or_say(&args.settings, Timestamp::now()) else {
        return Ok(ExitCode::from(2));
    };
    match run(args, &setup) {
        Ok(is_sound) => Ok(if is_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
        Err(error) => {
            eprintln!("error: {error:#}");
            Ok(ExitCode::from(2))
        }
    }
}

fn run(args: &VerifyArgs, setup: &Setup) -> anyhow::Result<bool> {
    if setup.config.store.url().is_none() {
        bail!("the store is `memory`: its accounts end with their worker, and there is nothing to verify");
    }
    let archive = KafkaArchive::new(setup.kafka_settings("verify", 0));
    let mut store = setup.stores().open()?;
    // Another number of buckets would look for accounts where they are not.
    setup.check_deployment(store.as_mut()).context("the store")?;
    let watcher = Bars::default();
    let mut verifier =
        Verifier::new(setup.lane_settings(), &setup.store_settings(), store, Box::new(archive), &watcher);
    let options = Options {
        members: args.member.iter().map(|member| MemberId::from(member.as_str())).collect(),
        quick: args.quick,
        memory: args.memory,
        against: args.against.clone(),
        most_named: args.named,
        patience: Duration::from_secs(args.patience),
    };
    let mut heads = args.heads.as_deref().map(Heads::begin).transpose()?;
    let findings =
        verifier.verify(&options, heads.as_mut().map(|heads| &mut heads.file as &mut dyn Write))?;
    if let Some(heads) = heads {
        heads.finish()?;
    }
    let text = if args.json {
        format!("{}\n", serde_json::to_string_pretty(&findings).context("rendering what was found")?)
    } else {
        page(&findings)
    };
    std::io::stdout().write_all(text.as_bytes()).context("printing what was found")?;
    if args.fix {
        fix(args, setup, &findings)?;
    }
    Ok(findings.is_sound())
}

/// A file that is there once all of it is written.
struct Heads {
    file: BufWriter<File>,
    unfinished: PathBuf,
    path: PathBuf,
}

impl Heads {
    fn begin(path: &Path) -> anyhow::Result<Self> {
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(".unfinished");
        let unfinished = PathBuf::from(unfinished);
        let file = File::create(&unfinished)
            .with_context(|| format!("{} cannot be written", unfinished.display()))?;
        Ok(Self { file: BufWriter::new(file), unfinished, path: path.to_owned() })
    }

    fn finish(self) -> anyhow::Result<()> {
        let cannot = || format!("{} cannot be written", self.path.display());
        let file =
            self.file.into_inner().map_err(std::io::IntoInnerError::into_error).with_context(cannot)?;
        file.sync_all().with_context(cannot)?;
        std::fs::rename(&self.unfinished, &self.path).with_context(cannot)
    }
}

/// An event that takes an edit of an account back.
struct Adjustment<'a> {
    member: &'a MemberId,
    points: Points,
    event: String,
}

impl<'a> Adjustment<'a> {
    fn of(difference: &'a Difference, now: Timestamp) -> Option<Self> {
        let (Some(Remedy::Adjustment(points)), Some(member), Some(version)) =
            (difference.remedy, &difference.member_id, difference.version)
        else {
            return None;
        };
        // Sent again before a worker has taken it, it is the same event.
        let id = format!("verify {member} {version} {points}");
        let (held, by) = if points < Points::ZERO { (-points.0, "more") } else { (points.0, "less") };
        let reason =
            format!("at version {version} the account held {held} points {by} than its ledger comes to");
        let event = serde_json::json!({
            "specversion": "1.0", "id": id, "source": "accrual/verify", "type": "points.adjusted", "time": now.to_string(),
            "data": {"member_id": member, "adjustment_id": id, "points": points, "reason": reason, "by": OPERATOR},
        });
        Some(Self { member, points, event: event.to_string() })
    }
}

/// Proposes adjustments and sends them. No account is written otherwise.
fn fix(args: &VerifyArgs, setup: &Setup, findings: &Findings) -> anyhow::Result<()> {
    let now = Timestamp::now();
    let mut adjustments: Vec<Adjustment<'_>> =
        findings.differences.iter().filter_map(|difference| Adjustment::of(difference, now)).collect();
    // Spendable points and the lots that they lie in are two differences of one edit.
    adjustments.dedup_by_key(|adjustment| adjustment.member);
    if adjustments.is_empty() {
        eprintln!("nothing here is mended by an adjustment; nothing is sent");
        return Ok(());
    }
    let topic = match &args.fix_topic {
        Some(topic) => TopicName::from(topic.as_str()),
        None => setup
            .config
            .inputs
            .iter()
            .flat_map(|input| &input.topics)
            .next()
            .context("no input topic")?
            .clone(),
    };
    eprintln!("adjustments for {topic}, for a worker to decide like any other event:");
    for Adjustment { member, points, .. } in &adjustments {
        eprintln!("  {:+} points for member {member}", points.0);
    }
    eprintln!(
        "Each makes what the member can spend what the ledger comes to without it, and stays in the ledger as what took the \
         edit back. Do not make these accounts anew from the ledger as well."
    );
    if !args.yes && !is_agreed()? {
        eprintln!("nothing is sent");
        return Ok(());
    }
    let sender = KafkaSender::new(&setup.kafka_settings("verify", 0))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().context("a runtime")?;
    for Adjustment { member, event, .. } in &adjustments {
        let record = OutRecord {
            topic: topic.clone(),
            key: Some(member.as_str().as_bytes().to_vec()),
            payload: Some(event.as_bytes().to_vec()),
            headers: Vec::new(),
        };
        runtime
            .block_on(sender.send(&record))
            .with_context(|| format!("sending the adjustment of member {member}"))?;
    }
    eprintln!("{} adjustments are sent; verify again once a worker has taken them", adjustments.len());
    Ok(())
}

fn is_agreed() -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!("nobody can be asked whether to send them; say --yes");
    }
    eprint!("send them? [y/N] ");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).context("reading the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Bars on a terminal.
#[derive(Default)]
struct Bars {
    bar: std::cell::RefCell<Option<(Progress, u64)>>,
}

impl Watcher for Bars {
    fn begins(&self, what: &'static str, records: u64) {
        self.ends();
        let bar = if records == 0 { Progress::waiting(what) } else { Progress::of(records, "records") };
        *self.bar.borrow_mut() = Some((bar, 0));
    }

    fn reads(&self, records: u64) {
        if let Some((bar, done)) = &mut *self.bar.borrow_mut() {
            *done += records;
            bar.set(*done);
        }
    }

    fn ends(&self) {
        if let Some((bar, _)) = self.bar.borrow_mut().take() {
            bar.finish();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_as_people_write_it() {
        assert_eq!((bytes("512m"), bytes("2G")), (Ok(512 << 20), Ok(2 << 30)));
        for wrong in ["", "2", "g", "0m", "2 g", "-1g", "99999999999g", "2gb"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_adjustment_that_is_proposed_again_is_the_same_event() {
        let difference = Difference {
            remedy: Some(Remedy::Adjustment(Points(-1_000))),
            ..Difference::of(
                crate::verify::What::Account,
                &"ann".into(),
                Some(7),
                "available 5",
                "available 1005",
            )
        };
        let at = |text: &str| {
            let event = Adjustment::of(&difference, text.parse().unwrap()).unwrap().event;
            let mut event: serde_json::Value = serde_json::from_str(&event).unwrap();
            event["time"].take();
            event
        };
        let first = at("2026-11-26T10:00:00Z");
        assert_eq!(first, at("2026-11-27T10:00:00Z"));
        assert_eq!(first["data"]["points"], -1_000);
        assert_eq!(
            first["data"]["reason"],
            "at version 7 the account held 1000 points more than its ledger comes to"
        );
        let others = Difference { remedy: Some(Remedy::Rebuild), ..difference };
        assert!(Adjustment::of(&others, Timestamp::UNIX_EPOCH).is_none());
    }
}
