//! `accrual dead-letters`: what could not count, and putting it back once what was wrong is mended.
//!
//! | file | what |
//! | --- | --- |
//! | `letter` | what stands on the topic: letters, and notes that one was replayed |
//! | `extent` | what there is of the topic, read to its end |
//! | `select` | which letters are meant |
//! | `advice` | what would be right for each reason, and which letters are not put back |
//! | `text` | bytes from upstream, for a terminal |
//! | `list`, `show`, `replay` | the commands |
//!
//! That a letter was replayed is noted on the dead letter topic itself, in the partition of the letter and in the transaction
//! that puts the record back: there is no moment at which only one of the two is true. A record that fails again is
//! another letter, which can be replayed by itself.

mod advice;
mod extent;
mod letter;
mod list;
mod replay;
mod select;
mod show;
mod text;

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::bail;
use jiff::Timestamp;

use super::progress::Progress;
use super::setup::Setup;
use crate::log::kafka::KafkaArchive;
use crate::types::{Coordinates, TopicName};

use extent::Extent;
use letter::{Found, Letter};

/// What `accrual dead-letters` is told.
#[derive(Clone, Debug, clap::Args)]
pub struct DeadLettersArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    /// A line for each, and how many there are of each reason.
    List(list::ListArgs),
    /// Everything of one.
    Show(show::ShowArgs),
    /// Put records back on the topics that they came from. Each letter is replayed once.
    Replay(replay::ReplayArgs),
}

/// Runs the command.
///
/// # Errors
/// Where Kafka does not answer or what is asked for makes no sense.
pub fn dead_letters(args: &DeadLettersArgs) -> anyhow::Result<ExitCode> {
    let (settings, now) = match &args.command {
        Command::List(args) => (&args.settings, Timestamp::now()),
        Command::Show(args) => (&args.settings, Timestamp::now()),
        Command::Replay(args) => (&args.settings, Timestamp::now()),
    };
    let Some(setup) = Setup::load_or_say(settings, now) else {
        return Ok(ExitCode::from(2));
    };
    let result = match &args.command {
        Command::List(args) => list::list(args, &setup, now),
        Command::Show(args) => show::show(args, &setup),
        Command::Replay(args) => replay::replay(args, &setup, now),
    };
    match result {
        Err(error) if error.is::<Misused>() => {
            eprintln!("error: {error}");
            Ok(ExitCode::from(2))
        }
        result => result,
    }
}

/// What was asked for makes no sense, and nothing was done.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Misused(String);

impl Misused {
    /// As what a command ends with.
    fn told(why: impl Into<String>) -> anyhow::Error {
        Self(why.into()).into()
    }
}

/// The dead letter topic.
struct Topic {
    name: TopicName,
    archive: KafkaArchive,
}

/// Which letters were replayed, by partition and offset, and when.
type Notes = BTreeMap<(i32, i64), Option<i64>>;

impl Topic {
    fn of(setup: &Setup) -> Self {
        let archive = KafkaArchive::new(setup.kafka_settings("dead-letters", 0));
        Self { name: setup.config.outputs.dead_letters.clone(), archive }
    }

    /// What may be read of it now.
    fn extent(&self) -> anyhow::Result<Extent> {
        self.there(Extent::now(&self.archive, &self.name)?)
    }

    fn there(&self, extent: Option<Extent>) -> anyhow::Result<Extent> {
        match extent {
            Some(extent) => Ok(extent),
            None => bail!("there is no topic {}: correct `outputs.dead_letters`", self.name),
        }
    }

    /// Hands over every record, with a bar on a terminal.
    fn each(
        &self,
        extent: &Extent,
        what: &str,
        mut take: impl FnMut(Found) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let progress = Progress::of(extent.offsets(), what);
        let read = extent.each(&self.archive, &mut |record, done| {
            progress.set(done);
            take(Found::of(record))
        });
        progress.finish();
        read
    }

    /// The same of letters alone.
    fn each_letter(
        &self,
        extent: &Extent,
        mut take: impl FnMut(Letter) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.each(extent, "letters", |found| match found {
            Found::Letter(letter) => take(letter),
            Found::Replayed(_) | Found::Foreign => Ok(()),
        })
    }

    /// What was replayed. A note takes some 50 bytes of memory, a letter none.
    fn notes(&self, extent: &Extent) -> anyhow::Result<Notes> {
        let mut notes = Notes::new();
        self.each(extent, "records looked through for replays", |found| {
            if let Found::Replayed(note) = found
                && note.letter.topic == self.name
            {
                notes.insert((note.letter.partition, note.letter.offset), note.at_ms);
            }
            Ok(())
        })?;
        Ok(notes)
    }
}

fn place(at: &Coordinates) -> (i32, i64) {
    (at.partition, at.offset)
}
