//! `accrual dead-letters list`: a line for each letter, the newest last, and how many there are of each reason.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::super::progress::grouped;
use super::super::setup::{SettingsArgs, Setup};
use super::letter::{About, Letter};
use super::select::{Filters, Selection};
use super::{Topic, place, text};
use crate::types::Coordinates;

/// What `accrual dead-letters list` is told.
#[derive(Clone, Debug, clap::Args)]
pub struct ListArgs {
    #[command(flatten)]
    filters: Filters,
    /// How many letters to show, the newest [default: 50; with --json all, in the order of each partition].
    #[arg(long)]
    limit: Option<usize>,
    /// Print a JSON object a line for each letter, and nothing else.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) settings: SettingsArgs,
}

/// One question is answered within that, or the broker is away.
const WITHIN: Duration = Duration::from_secs(30);
/// As many as a screen or two show.
const USUAL_LIMIT: usize = 50;
/// A detail that is longer is not read in a table.
const LONGEST_DETAIL: usize = 200;
/// Ids from upstream, in a table.
const LONGEST_ID: usize = 40;

/// Lists letters.
///
/// # Errors
/// Where Kafka does not answer.
pub fn list(args: &ListArgs, setup: &Setup, now: Timestamp) -> anyhow::Result<ExitCode> {
    let topic = Topic::of(setup);
    let zone = &setup.versions.first().zone;
    let selection = args.filters.selection(now, zone)?;
    let mut extent = topic.extent()?;
    if let Some(ms) = selection.since_ms() {
        extent = extent.since(|of| topic.archive.first_since(of, ms, Instant::now() + WITHIN))?;
    }
    // Whether a letter was replayed is said behind it.
    let notes = topic.notes(&extent)?;
    let replayed = |letter: &Letter| notes.contains_key(&place(&letter.record.at));
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    if args.json && args.limit.is_none() {
        topic.each_letter(&extent, |letter| {
            if selection.holds(&letter) {
                print_json(&mut out, &Row::of(&letter, replayed(&letter)))?;
            }
            Ok(())
        })?;
        out.flush().context("printing")?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut newest = Newest::new(args.limit.unwrap_or(USUAL_LIMIT));
    let mut summary = Summary::default();
    topic.each_letter(&extent, |letter| {
        if selection.holds(&letter) {
            let replayed = replayed(&letter);
            summary.add(&letter, replayed);
            newest.add(&letter, replayed);
        }
        Ok(())
    })?;
    let rows = newest.in_order();
    if args.json {
        rows.iter().try_for_each(|row| print_json(&mut out, row))?;
    } else {
        let page = page(&rows, &summary, &selection, zone, columns());
        out.write_all(page.as_bytes()).context("printing")?;
    }
    out.flush().context("printing")?;
    Ok(ExitCode::SUCCESS)
}

fn print_json(out: &mut impl Write, row: &Row) -> anyhow::Result<()> {
    let json = serde_json::to_string(row).context("rendering a letter")?;
    writeln!(out, "{json}").context("printing")
}

/// The terminal's width; nothing where the output is none.
fn columns() -> Option<usize> {
    console::Term::stdout().size_checked().map(|(_, columns)| columns.into())
}

/// A letter as it is listed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
struct Row {
    /// Where it stands.
    letter: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<Timestamp>,
    reason: String,
    detail: String,
    /// The record that it came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    member_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<String>,
    /// Of the payload.
    bytes: usize,
    replayed: bool,
    /// For the table, which needs no topic with it.
    #[serde(skip)]
    at: Coordinates,
}

impl Row {
    fn of(letter: &Letter, replayed: bool) -> Self {
        let About { member, event } = letter.about();
        Self {
            letter: letter.record.at.to_string(),
            time: letter.time(),
            reason: letter.reason.clone(),
            detail: letter.detail.clone(),
            source: letter.source.as_ref().map(ToString::to_string),
            member_id: member,
            event_id: event,
            bytes: letter.record.payload.as_ref().map_or(0, Vec::len),
            replayed,
            at: letter.record.at.clone(),
        }
    }
}

/// The newest letters, as many as are wanted.
struct Newest {
    limit: usize,
    /// The oldest on top.
    held: BinaryHeap<Reverse<(Key, usize)>>,
    rows: BTreeMap<usize, Row>,
    seen: usize,
}

/// Newer is greater.
type Key = (Option<i64>, i32, i64);

impl Newest {
    fn new(limit: usize) -> Self {
        Self { limit, held: BinaryHeap::new(), rows: BTreeMap::new(), seen: 0 }
    }

    fn add(&mut self, letter: &Letter, replayed: bool) {
        let at = &letter.record.at;
        let key = (letter.record.published_ms, at.partition, at.offset);
        let is_full = self.held.len() >= self.limit;
        if is_full && self.held.peek().is_none_or(|Reverse((oldest, _))| *oldest >= key) {
            return;
        }
        if is_full && let Some(Reverse((_, oldest))) = self.held.pop() {
            self.rows.remove(&oldest);
        }
        self.held.push(Reverse((key, self.seen)));
        self.rows.insert(self.seen, Row::of(letter, replayed));
        self.seen += 1;
    }

    /// The newest last.
    fn in_order(mut self) -> Vec<Row> {
        let mut order: Vec<(Key, usize)> = self.held.into_iter().map(|Reverse(entry)| entry).collect();
        order.sort_unstable();
        order.into_iter().filter_map(|(_, at)| self.rows.remove(&at)).collect()
    }
}

/// How many letters there are of each reason.
#[derive(Default)]
struct Summary {
    reasons: BTreeMap<String, Counted>,
}

/// A reason's letters.
#[derive(Default)]
struct Counted {
    letters: u64,
    replayed: u64,
    /// The first and the last of them.
    times: Option<(Timestamp, Timestamp)>,
}

impl Summary {
    fn add(&mut self, letter: &Letter, replayed: bool) {
        let counted = self.reasons.entry(letter.reason.clone()).or_default();
        counted.letters += 1;
        counted.replayed += u64::from(replayed);
        if let Some(time) = letter.time() {
            let (first, last) = counted.times.get_or_insert((time, time));
            *first = time.min(*first);
            *last = time.max(*last);
        }
    }

    fn letters(&self) -> u64 {
        self.reasons.values().map(|counted| counted.letters).sum()
    }
}

fn page(
    rows: &[Row],
    summary: &Summary,
    selection: &Selection,
    zone: &TimeZone,
    columns: Option<usize>,
) -> String {
    let all = summary.letters();
    if all == 0 {
        let of = if selection.are_all() { "no dead letters" } else { "no dead letters like that" };
        return format!("{of}\n");
    }
    let time = |time: Timestamp| zone.to_datetime(time).strftime("%Y-%m-%d %H:%M:%S").to_string();
    // A column that says nothing is left out.
    let some_replayed = rows.iter().any(|row| row.replayed);
    let cells = |row: &Row| {
        let who = match (&row.member_id, &row.event_id) {
            (Some(member), _) => format!("member {member}"),
            (None, Some(event)) => format!("event {event}"),
            (None, None) => String::new(),
        };
        let mut cells = vec![
            format!("{}/{}", row.at.partition, row.at.offset),
            row.time.map(time).unwrap_or_default(),
            text::line(&row.reason),
            text::line(row.source.as_deref().unwrap_or("accrual itself")),
            text::cut(&text::line(&who), LONGEST_ID),
        ];
        if some_replayed {
            cells.push(if row.replayed { "replayed".to_owned() } else { String::new() });
        }
        cells.push(text::cut(&text::line(&row.detail), LONGEST_DETAIL));
        cells
    };
    let mut header = vec!["LETTER", "TIME", "REASON", "FROM", "WHOSE"];
    header.extend(some_replayed.then_some(""));
    header.push("DETAIL");
    let mut rows: Vec<Vec<String>> = rows.iter().map(cells).collect();
    if let Some(columns) = columns {
        fit(&mut rows, columns);
    }
    let mut page = table(&header, &rows, &[]);
    page.push('\n');
    let cell = |(reason, counted): (&String, &Counted)| {
        let (first, last) = counted.times.map(|(first, last)| (time(first), time(last))).unwrap_or_default();
        vec![text::line(reason), grouped(counted.letters), grouped(counted.replayed), first, last]
    };
    let counts: Vec<Vec<String>> = summary.reasons.iter().map(cell).collect();
    let header = ["REASON", "LETTERS", "REPLAYED", "FIRST", "LAST"];
    page.push_str(&table(&header, &counts, &[1, 2]));
    let shown = u64::try_from(rows.len()).unwrap_or(u64::MAX);
    if shown < all {
        let (shown, all) = (grouped(shown), grouped(all));
        page += &["\nthe newest ", &shown, " of ", &all, "; --limit shows more, --json all\n"].concat();
    }
    page
}

/// Cuts the last column to what the others leave of a terminal's width, but never to nothing.
fn fit(rows: &mut [Vec<String>], columns: usize) {
    const LEAST: usize = 20;
    const HEADER: usize = 6;
    let others = rows.first().map_or(0, Vec::len).saturating_sub(1);
    let widest = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.max().unwrap_or_default().max(HEADER)
    };
    // A space before each column and one after.
    let taken: usize = (0..others).map(|column| widest(column) + 2).sum();
    let left = columns.saturating_sub(taken + 2).max(LEAST);
    for row in rows {
        if let Some(last) = row.last_mut() {
            *last = text::cut(last, left);
        }
    }
}

fn table(header: &[&str], rows: &[Vec<String>], numbers: &[usize]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(header);
    table.add_rows(rows);
    for column in numbers {
        if let Some(column) = table.column_mut(*column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    format!("{}\n", table.trim_fmt())
}

#[cfg(test)]
mod tests {
    use super::super::letter::tests::letter;
    use super::*;

    fn letters() -> Vec<Letter> {
        let one = |number: i64, reason: &str| {
            let mut letter =
                letter(&[], br#"{"id":"e1","data":{"member_id":"ann"}}"#, reason, Some(("shop", 0, number)));
            letter.record.at.offset = number;
            letter.record.published_ms = Some(1_764_000_000_000 + (number * 7 % 5) * 1_000);
            letter
        };
        vec![one(0, "no_id"), one(1, "not_json"), one(2, "no_id"), one(3, "no_id"), one(4, "not_json")]
    }

    fn listed(limit: usize, columns: Option<usize>) -> String {
        let (mut newest, mut summary) = (Newest::new(limit), Summary::default());
        for letter in letters() {
            let replayed = letter.record.at.offset == 2;
            summary.add(&letter, replayed);
            newest.add(&letter, replayed);
        }
        page(&newest.in_order(), &summary, &Selection::default(), &TimeZone::UTC, columns)
    }

    #[test]
    fn the_newest_letters_are_listed_the_newest_last_and_all_are_counted() {
        let expected = " LETTER  TIME                 REASON    FROM      WHOSE                 DETAIL
 2/4     2025-11-24 16:00:03  not_json  shop/0/4  member ann            it is wrong
 2/2     2025-11-24 16:00:04  no_id     shop/0/2  member ann  replayed  it is wrong

 REASON    LETTERS  REPLAYED  FIRST                LAST
 no_id           3         1  2025-11-24 16:00:00  2025-11-24 16:00:04
 not_json        2         0  2025-11-24 16:00:02  2025-11-24 16:00:03

the newest 2 of 5; --limit shows more, --json all
";
        assert_eq!(listed(2, None), expected);
    }

    #[test]
    fn a_detail_is_cut_to_the_terminals_width() {
        let mut rows = vec![vec!["2/4".to_owned(), "x".repeat(100)]];
        fit(&mut rows, 60);
        assert_eq!(rows[0][1].chars().count(), 60 - 8 - 2);
        fit(&mut rows, 10);
        assert_eq!(rows[0][1].chars().count(), 20, "never to nothing");
        assert!(listed(5, Some(200)).lines().all(|line| line.chars().count() <= 200));
    }

    #[test]
    fn without_any_it_is_said_so() {
        let none = page(&[], &Summary::default(), &Selection::default(), &TimeZone::UTC, None);
        assert_eq!(none, "no dead letters\n");
    }

    #[test]
    fn a_letter_is_a_json_object_with_what_is_known_of_it() {
        let row = Row::of(&letters()[4], true);
        let json = serde_json::to_value(&row).unwrap();
        let expected = serde_json::json!({
            "letter": "dead/2/4", "time": "2025-11-24T16:00:03Z", "reason": "not_json", "detail": "it is wrong",
            "source": "shop/0/4", "member_id": "ann", "event_id": "e1", "bytes": 38, "replayed": true,
        });
        assert_eq!(json, expected);
    }
}
