//! `accrual dead-letters replay`: puts records back on the topics that they came from, byte for byte. Each letter once: the note
//! that it was replayed goes out in the same transaction. What counted is known by its receipt all the same, so that nothing
//! is paid twice even where a note is lost.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use jiff::Timestamp;

use super::super::confirm;
use super::super::progress::grouped;
use super::super::setup::{SettingsArgs, Setup};
use super::advice::{Refusal, refusal};
use super::extent::Extent;
use super::letter::Letter;
use super::select::{self, Filters, Selection};
use super::{Misused, Notes, Topic, place, text};
use crate::log::Archive;
use crate::log::kafka::{KafkaPublisher, Placed};
use crate::types::{Coordinates, TopicName};

/// What `accrual dead-letters replay` is told.
#[derive(Clone, Debug, clap::Args)]
pub struct ReplayArgs {
    /// Letters, as `list` shows them: `partition/offset`, or `topic/partition/offset`. Without any, all that the filters hold.
    letters: Vec<String>,
    #[command(flatten)]
    filters: Filters,
    /// Every letter that was not replayed, where no letter and no filter is given.
    #[arg(long)]
    all: bool,
    /// At most so many letters.
    #[arg(long)]
    limit: Option<u64>,
    /// Say what would be put back, and put nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    pub(super) settings: SettingsArgs,
}

/// Letters of one transaction: few, so that one that is interrupted repeats little and readers wait for moments.
const A_TRANSACTION: usize = 1_000;
/// One question is answered within that, or the broker is away.
const WITHIN: Duration = Duration::from_secs(30);
/// Bytes of one transaction, but for the last letter of it.
const BYTES_OF_A_TRANSACTION: usize = 16 << 20;

/// Puts letters back, and fails where one of those that are meant cannot be.
///
/// # Errors
/// Where Kafka does not answer. What was put back by then is noted, and is not put back again.
pub fn replay(args: &ReplayArgs, setup: &Setup, now: Timestamp) -> anyhow::Result<ExitCode> {
    let topic = Topic::of(setup);
    let wanted: anyhow::Result<Vec<Coordinates>> =
        args.letters.iter().map(|text| select::coordinates(text, &topic.name)).collect();
    let mut wanted = wanted?;
    wanted.sort_unstable();
    wanted.dedup();
    if let Some(other) = wanted.iter().find(|at| at.topic != topic.name) {
        return Err(Misused::told(format!(
            "{other} is not on {}; `show --source` finds the letters that came from there",
            topic.name
        )));
    }
    if !wanted.is_empty() && !args.filters.are_none() {
        return Err(Misused::told("name letters by their places or by filters, not by both"));
    }
    let has_choice = !(wanted.is_empty() && args.filters.are_none());
    if has_choice == args.all {
        return Err(Misused::told("say which letters: their places, filters such as --reason, or --all"));
    }
    let selection = args.filters.selection(now, &setup.versions.first().zone)?.only(wanted);
    if !(args.dry_run || args.yes) && confirm::nobody_is_there() {
        return Err(Misused::told(
            "nobody can be asked here whether to go on: add --yes, or --dry-run to see what would be done",
        ));
    }

    // Before it is looked what was replayed: whoever else replays commits nothing any more from here on.
    let mut publisher = if args.dry_run {
        None
    } else {
        Some(KafkaPublisher::open(&setup.kafka_settings("replay", 0)).context("taking over replays")?)
    };
    let extent = topic.there(Extent::whole(&topic.archive, &topic.name)?)?;
    let replay = Replay { setup, topic: &topic, notes: topic.notes(&extent)?, selection, limit: args.limit };
    let extent = match replay.selection.letters() {
        [] => extent,
        letters => extent.since_earliest(letters).until_latest(letters),
    };
    let plan = replay.plan(&extent)?;
    print!("{}", plan.told());
    if plan.missing > 0 {
        return Ok(ExitCode::FAILURE);
    }
    let is_whole = plan.refused.is_empty();
    let exit = if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    let Some(publisher) = publisher.as_mut().filter(|_| plan.letters() > 0) else { return Ok(exit) };
    if !args.yes && !confirm::go_on()? {
        println!("nothing was put back");
        return Ok(ExitCode::FAILURE);
    }
    let done = replay.put_back(&extent, publisher)?;
    println!("put back {}", letters(done));
    Ok(exit)
}

fn letters(number: u64) -> String {
    format!("{} {}", grouped(number), if number == 1 { "letter" } else { "letters" })
}

/// A replay of chosen letters.
struct Replay<'a> {
    setup: &'a Setup,
    topic: &'a Topic,
    notes: Notes,
    selection: Selection,
    limit: Option<u64>,
}

/// What a letter's replay comes to.
enum Fate {
    /// It is put back on this topic, in this partition.
    Back(Coordinates),
    /// It was.
    Replayed,
    Refused(Refusal),
}

/// What a replay would do.
#[derive(Default)]
struct Plan {
    back: BTreeMap<TopicName, u64>,
    /// By why, with the first of them.
    refused: BTreeMap<Refusal, (u64, Option<Coordinates>)>,
    replayed: u64,
    /// Letters that were named and that there are not.
    missing: usize,
    limited: bool,
}

impl Replay<'_> {
    fn fate(&self, letter: &Letter) -> Fate {
        if self.notes.contains_key(&place(&letter.record.at)) {
            return Fate::Replayed;
        }
        let inputs: Vec<&TopicName> = self.setup.inputs().collect();
        match (refusal(letter, &inputs, &self.setup.config.outputs), &letter.source) {
            (Some(why), _) => Fate::Refused(why),
            (None, Some(source)) => Fate::Back(source.clone()),
            // Which is refused for that; see `advice`.
            (None, None) => Fate::Refused("it does not say where it came from"),
        }
    }

    /// Hands over the letters that are meant and can be put back, as many as there may be.
    fn each(
        &self,
        extent: &Extent,
        plan: &mut Plan,
        mut take: impl FnMut(Letter, Coordinates) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let limit = self.limit.unwrap_or(u64::MAX);
        let mut named = 0;
        self.topic.each_letter(extent, |letter| {
            if !self.selection.holds(&letter) {
                return Ok(());
            }
            named += 1;
            match self.fate(&letter) {
                Fate::Replayed => plan.replayed += 1,
                Fate::Refused(why) => {
                    let (number, first) = plan.refused.entry(why).or_default();
                    *number += 1;
                    first.get_or_insert_with(|| letter.record.at.clone());
                }
                Fate::Back(_) if plan.letters() >= limit => plan.limited = true,
                Fate::Back(source) => {
                    *plan.back.entry(source.topic.clone()).or_default() += 1;
                    take(letter, source)?;
                }
            }
            Ok(())
        })?;
        plan.missing = self.selection.letters().len().saturating_sub(named);
        Ok(())
    }

    fn plan(&self, extent: &Extent) -> anyhow::Result<Plan> {
        let mut plan = Plan::default();
        self.each(extent, &mut plan, |_, _| Ok(()))?;
        Ok(plan)
    }

    /// How many were put back.
    fn put_back(&self, extent: &Extent, publisher: &mut KafkaPublisher) -> anyhow::Result<u64> {
        let mut partitions: BTreeMap<TopicName, i32> = BTreeMap::new();
        let mut batch: Vec<Placed> = Vec::new();
        let (mut bytes, mut done) = (0, 0);
        let mut send = |batch: &mut Vec<Placed>| {
            let sent = publisher.publish(batch).with_context(|| {
                format!("{} were put back; the same command goes on from there", letters(done))
            });
            done += u64::try_from(batch.len() / 2).unwrap_or_default();
            batch.clear();
            sent.map(|()| done)
        };
        let mut put = 0;
        self.each(extent, &mut Plan::default(), |letter, source| {
            let known = if let Some(known) = partitions.get(&source.topic) {
                *known
            } else {
                let reach = self.topic.archive.reach(&source.topic, Instant::now() + WITHIN)?;
                let known = i32::try_from(reach.len()).unwrap_or(i32::MAX);
                if known == 0 {
                    bail!("topic {}, which letters came from, is not there any more", source.topic);
                }
                *partitions.entry(source.topic.clone()).or_insert(known)
            };
            bytes += letter.record.payload.as_ref().map_or(0, Vec::len);
            // Where it stood, so that it comes behind what upstream sent under its key; by its key where that is no more.
            let partition = Some(source.partition).filter(|partition| *partition < known);
            batch.push(Placed { record: letter.original(&source.topic), partition });
            batch.push(Placed { record: letter.note(), partition: Some(letter.record.at.partition) });
            if batch.len() >= 2 * A_TRANSACTION || bytes >= BYTES_OF_A_TRANSACTION {
                bytes = 0;
                put = send(&mut batch)?;
            }
            Ok(())
        })?;
        if batch.is_empty() { Ok(put) } else { send(&mut batch) }
    }
}

impl Plan {
    fn letters(&self) -> u64 {
        self.back.values().sum()
    }

    /// What would be done, in lines.
    fn told(&self) -> String {
        let mut told = String::new();
        let mut line = |text: String| {
            // Writing to a string does not fail.
            let _always_written = writeln!(told, "{text}");
        };
        for (topic, number) in &self.back {
            line(format!("{} to be put back on {}", letters(*number), text::line(topic.as_str())));
        }
        if self.limited {
            line("more are left for another time, by --limit".to_owned());
        }
        if self.replayed > 0 {
            line(format!("{} replayed before, left alone", letters(self.replayed)));
        }
        for (why, (number, first)) in &self.refused {
            let first = first.as_ref().map(|at| format!(", such as {at}")).unwrap_or_default();
            line(format!("{} not put back{first}: {why}", letters(*number)));
        }
        if self.missing > 0 {
            line(format!(
                "{} of those named are not there (`list` shows which are); nothing is put back",
                self.missing
            ));
        }
        if self.letters() == 0 {
            line("nothing to put back".to_owned());
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_done_is_told_with_all_that_is_left_out() {
        let at = Coordinates { topic: "dead".into(), partition: 0, offset: 7 };
        let plan = Plan {
            back: BTreeMap::from([("internal".into(), 1), ("shop".into(), 1_200)]),
            refused: BTreeMap::from([("of that", (2, Some(at)))]),
            replayed: 3,
            missing: 0,
            limited: true,
        };
        let expected = "\
1 letter to be put back on internal
1,200 letters to be put back on shop
more are left for another time, by --limit
3 letters replayed before, left alone
2 letters not put back, such as dead/0/7: of that
";
        assert_eq!(plan.told(), expected);
        assert_eq!(Plan::default().told(), "nothing to put back\n");
    }
}
