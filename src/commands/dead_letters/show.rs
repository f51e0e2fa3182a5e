//! `accrual dead-letters show`: everything of one letter, and what would be right.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::super::setup::{SettingsArgs, Setup};
use super::letter::{Found, Letter};
use super::{Misused, Notes, Topic, advice, place, select, text};
use crate::log::Archive;
use crate::types::{Coordinates, Outputs, TopicName};

/// What `accrual dead-letters show` is told.
#[derive(Clone, Debug, clap::Args)]
pub struct ShowArgs {
    /// The letter: `topic/partition/offset`, or `partition/offset` as `list` shows it.
    at: String,
    /// The coordinates are those of the record that the letter came from. The whole topic is looked through for it.
    #[arg(long)]
    source: bool,
    #[command(flatten)]
    pub(super) settings: SettingsArgs,
}

/// One record is found within that, or the broker is away.
const WITHIN: Duration = Duration::from_secs(30);
/// One record becomes one letter; more only where the topic that it came from was made anew.
const MOST: usize = 20;

/// Shows a letter, and fails where there is none.
///
/// # Errors
/// Where Kafka does not answer.
pub fn show(args: &ShowArgs, setup: &Setup) -> anyhow::Result<ExitCode> {
    let topic = Topic::of(setup);
    let at = select::coordinates(&args.at, &topic.name)?;
    let extent = topic.extent()?;
    let mut letters = Vec::new();
    if args.source {
        topic.each_letter(&extent, |letter| {
            if letter.source.as_ref() == Some(&at) && letters.len() < MOST {
                letters.push(letter);
            }
            Ok(())
        })?;
    } else if at.topic != topic.name {
        return Err(Misused::told(format!(
            "{at} is not on {}; --source finds the letters that came from there",
            topic.name
        )));
    } else {
        match topic.archive.record(&at, Instant::now() + WITHIN)?.map(Found::of) {
            Some(Found::Letter(letter)) => letters.push(letter),
            Some(Found::Replayed(note)) => {
                eprintln!("{at} is no letter; it notes that {} was replayed", note.letter);
                return Ok(ExitCode::FAILURE);
            }
            Some(Found::Foreign) => {
                eprintln!("{at} is no letter: accrual did not write it");
                return Ok(ExitCode::FAILURE);
            }
            None => {}
        }
    }
    if letters.is_empty() {
        let from = if args.source { "came from" } else { "stands at" };
        eprintln!("no dead letter {from} {at}, or none any more");
        return Ok(ExitCode::FAILURE);
    }
    let found: Vec<Coordinates> = letters.iter().map(|letter| letter.record.at.clone()).collect();
    let notes = topic.notes(&extent.since_earliest(&found))?;
    let inputs: Vec<&TopicName> = setup.inputs().collect();
    let zone = &setup.versions.first().zone;
    let pages: Vec<String> =
        letters.iter().map(|letter| page(letter, &notes, &inputs, &setup.config.outputs, zone)).collect();
    std::io::stdout().write_all(pages.join("\n").as_bytes()).context("printing")?;
    Ok(ExitCode::SUCCESS)
}

fn page(letter: &Letter, notes: &Notes, inputs: &[&TopicName], outputs: &Outputs, zone: &TimeZone) -> String {
    let time = |time: Timestamp| zone.to_datetime(time).strftime("%Y-%m-%d %H:%M:%S").to_string();
    let record = &letter.record;
    let written = letter.time().map(|at| format!(", {}", time(at))).unwrap_or_default();
    let from = letter.source.as_ref().map_or_else(|| "accrual itself".to_owned(), ToString::to_string);
    let right =
        letter.kind.map_or("this accrual does not know the reason; a newer one wrote it", advice::right);
    let replay = match notes.get(&place(&record.at)) {
        Some(at_ms) => {
            let at = at_ms.and_then(|at_ms| Timestamp::from_millisecond(at_ms).ok());
            format!("replayed{}", at.map(|at| format!(" at {}", time(at))).unwrap_or_default())
        }
        None => match advice::refusal(letter, inputs, outputs) {
            Some(why) => format!("not possible: {why}"),
            None => format!("not replayed; accrual dead-letters replay {}", record.at),
        },
    };
    let key = match &record.key {
        None => "none".to_owned(),
        Some(key) => std::str::from_utf8(key).map_or_else(|_| format!("{key:02x?}"), text::line),
    };
    let mut page = String::new();
    for (name, value) in [
        ("letter", format!("{}{written}", record.at)),
        ("from", text::line(&from)),
        ("reason", text::line(&letter.reason)),
        ("detail", text::line(&letter.detail)),
        ("right", right.to_owned()),
        ("replay", replay),
        ("key", key),
    ] {
        // Writing to a string does not fail.
        let _always_written = writeln!(page, "{name:8}{value}");
    }
    for (at, header) in record.headers.iter().enumerate() {
        let name = if at == 0 { "headers" } else { "" };
        let value = match &header.value {
            None => "none".to_owned(),
            Some(value) => std::str::from_utf8(value).map_or_else(|_| format!("{value:02x?}"), text::line),
        };
        let _always_written = writeln!(page, "{name:8}{}: {value}", text::line(&header.name));
    }
    let _always_written = match &record.payload {
        None => writeln!(page, "payload none"),
        Some(payload) => writeln!(page, "payload {} bytes\n\n{}", payload.len(), text::payload(payload)),
    };
    page
}

#[cfg(test)]
mod tests {
    use super::super::letter::tests::{header, letter, outputs};
    use super::*;

    fn shown(letter: &Letter, notes: &Notes) -> String {
        page(letter, notes, &[&"shop".into()], &outputs(), &TimeZone::UTC)
    }

    #[test]
    fn everything_of_a_letter_is_shown_and_what_would_be_right() {
        let letter = letter(
            &[header("trace", "7")],
            br#"{"id":"e1","amount":10.50}"#,
            "wrong_currency",
            Some(("shop", 3, 41)),
        );
        let expected = "\
letter  dead/2/17, 2025-11-24 16:00:00
from    shop/3/41
reason  wrong_currency
detail  it is wrong
right   an amount in the programme's currency; replay helps where the programme was wrong and is mended
replay  not replayed; accrual dead-letters replay dead/2/17
key     k
headers trace: 7
payload 26 bytes

{
  \"id\": \"e1\",
  \"amount\": 10.50
}
";
        assert_eq!(shown(&letter, &Notes::new()), expected);
        let replayed = shown(&letter, &Notes::from([((2, 17), Some(1_764_000_060_000))]));
        assert!(replayed.contains("replay  replayed at 2025-11-24 16:01:00\n"), "{replayed}");
    }

    #[test]
    fn why_a_letter_is_not_put_back_is_said() {
        let shown = shown(&letter(&[], b"{}", "unknown_order", None), &Notes::new());
        assert!(shown.contains("from    accrual itself\n"), "{shown}");
        assert!(shown.contains("replay  not possible: it has counted as a refund that waited"), "{shown}");
    }
}
