//! What is wrong with a file, collected and shown as a compiler would.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::ops::Range;

use super::source::{Place, Source};

/// How many problems are kept; a file with more is broken in a way that the first ones show.
const MOST_PROBLEMS: usize = 200;
/// How much of a long line is shown before and after the place.
const SHOWN_BEFORE: usize = 80;
const SHOWN_AFTER: usize = 60;

/// Takes what is wrong with a file, so that a reader can go on and find the rest.
#[derive(Debug)]
pub struct Collector {
    source: Source,
    found: RefCell<Vec<(Place, String)>>,
    /// Bytes of the file that hold secrets and are not shown.
    hidden: RefCell<Vec<Range<usize>>>,
    /// The file may hold secrets, and nobody can tell where.
    all_hidden: Cell<bool>,
}

impl Collector {
    /// For the file of this name with this text.
    pub fn new(file: &str, text: &str) -> Self {
        Self {
            source: Source::new(file, text),
            found: RefCell::default(),
            hidden: RefCell::default(),
            all_hidden: Cell::new(false),
        }
    }

    /// The file's name.
    pub fn file(&self) -> &str {
        &self.source.name
    }

    /// Takes a problem. The message says what is wrong and what would be right, without a full stop.
    pub fn report(&self, place: &Place, message: impl Into<String>) {
        self.found.borrow_mut().push((place.clone(), message.into()));
    }

    /// Whether nothing has been reported.
    pub fn is_empty(&self) -> bool {
        self.found.borrow().is_empty()
    }

    /// Shows stars instead of what stands here.
    pub fn hide(&self, place: &Place) {
        if let Place::File { start, end } = place {
            self.hidden.borrow_mut().push(*start..*end);
        }
    }

    /// Shows no line of the file at all.
    pub fn hide_all(&self) {
        self.all_hidden.set(true);
    }

    /// The line, from 1, of a place in the file.
    pub fn line_of(&self, place: &Place) -> usize {
        match place {
            Place::File { start, .. } => self.source.line_of(*start),
            _ => 0,
        }
    }

    /// What stands in the file at a place.
    pub(super) fn written(&self, place: &Place) -> &str {
        match place {
            Place::File { start, end } => self.source.text.get(*start..*end).unwrap_or_default(),
            _ => "",
        }
    }

    /// `value` where nothing was reported, else all problems, by place.
    ///
    /// # Errors
    ///
    /// Everything that was reported. A `value` that is missing without a report is one, too.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, Problems> {
        match value {
            Some(value) if self.is_empty() => Ok(value),
            _ => Err(self.into_problems()),
        }
    }

    /// Everything that was reported, by place.
    pub fn into_problems(self) -> Problems {
        if self.is_empty() {
            self.report(&Place::bytes(0..0), "the file cannot be read");
        }
        self.list(Severity::Error)
    }

    /// Everything that was reported, by place, as what is only likely wrong; nothing where nothing was.
    pub fn into_warnings(self) -> Option<Problems> {
        if self.is_empty() { None } else { Some(self.list(Severity::Warning)) }
    }

    fn list(self, severity: Severity) -> Problems {
        let mut found = self.found.take();
        found.sort_by(|left, right| order(&left.0).cmp(&order(&right.0)));
        found.dedup();
        let more = found.len().saturating_sub(MOST_PROBLEMS);
        found.truncate(MOST_PROBLEMS);
        let hidden = self.hidden.take();
        let list = found
            .into_iter()
            .map(|(place, message)| {
                let excerpt = match &place {
                    Place::File { start, end } if !self.all_hidden.get() => {
                        Some(Excerpt::new(&self.source, *start..*end, &hidden))
                    }
                    _ => None,
                };
                Problem { severity, position: Position::new(place, &self.source), message, excerpt }
            })
            .collect();
        Problems { list, more }
    }
}

/// The file first, by place; then the environment, then flags.
fn order(place: &Place) -> (u8, usize, &str) {
    match place {
        Place::File { start, .. } => (0, *start, ""),
        Place::Variable(name) => (1, 0, name),
        Place::Flag(name) => (2, 0, name),
        Place::Nowhere => (3, 0, ""),
    }
}

/// Everything that is wrong, at least one thing, by place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problems {
    list: Vec<Problem>,
    /// How many are not listed.
    more: usize,
}

impl Problems {
    /// One problem that has no place.
    pub fn one(message: impl Into<String>) -> Self {
        let problem = Problem {
            severity: Severity::Error,
            position: Position::Nowhere,
            message: message.into(),
            excerpt: None,
        };
        Self { list: vec![problem], more: 0 }
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter()
    }

    /// As errors, whatever they were.
    pub fn into_errors(mut self) -> Self {
        for problem in &mut self.list {
            problem.severity = Severity::Error;
        }
        self
    }

    /// Those before, if there are any, and then these.
    pub fn and_maybe(before: Option<Problems>, these: Problems) -> Self {
        match before {
            Some(before) => before.and(these),
            None => these,
        }
    }

    /// These and then the others, so that two files are reported at once.
    pub fn and(mut self, others: Problems) -> Self {
        self.list.extend(others.list);
        self.more += others.more;
        self
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.list.iter().enumerate() {
            if index > 0 {
                f.write_str("\n\n")?;
            }
            problem.fmt(f)?;
        }
        if self.more > 0 {
            write!(f, "\n\nand {} more problems", self.more)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// How bad something is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    /// Nothing can be done with the file.
    Error,
    /// The file is taken as it is, and likely says something else than was meant.
    Warning,
}

/// Something wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// Where.
    pub position: Position,
    /// What is wrong, and what would be right.
    pub message: String,
    excerpt: Option<Excerpt>,
}

/// Where something is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Position {
    /// In a file.
    File {
        /// Its name, as given.
        file: String,
        /// From 1.
        line: usize,
        /// In characters, from 1.
        column: usize,
    },
    /// In an environment variable.
    Variable(String),
    /// In a flag of the command line.
    Flag(String),
    /// A setting that no source gives.
    Nowhere,
}

impl Position {
    fn new(place: Place, source: &Source) -> Self {
        match place {
            Place::File { start, .. } => {
                let (line, column) = source.position(start);
                Self::File { file: source.name.clone(), line, column }
            }
            Place::Variable(name) => Self::Variable(name),
            Place::Flag(name) => Self::Flag(name),
            Place::Nowhere => Self::Nowhere,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{severity}: {}", self.message)?;
        match &self.position {
            Position::File { file, line, column } => {
                let gutter = " ".repeat(line.to_string().len());
                write!(f, "\n{gutter}--> {file}:{line}:{column}")?;
                if let Some(Excerpt { before, marked, after, caret_at, carets }) = &self.excerpt {
                    write!(f, "\n{gutter} |\n{line} | {before}{marked}{after}")?;
                    write!(f, "\n{gutter} | {caret_at}{}", "^".repeat(*carets))?;
                }
                Ok(())
            }
            Position::Variable(name) => write!(f, "\n --> environment variable {name}"),
            Position::Flag(name) => write!(f, "\n --> flag {name}"),
            Position::Nowhere => Ok(()),
        }
    }
}

/// The line of a problem, cut to what fits a screen.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Excerpt {
    before: String,
    marked: String,
    after: String,
    /// White space as wide as what stands before the carets.
    caret_at: String,
    carets: usize,
}

impl Excerpt {
    fn new(source: &Source, range: Range<usize>, hidden: &[Range<usize>]) -> Self {
        let line_start = source.line_start(source.line_of(range.start));
        let line = source.line(source.line_of(range.start));
        let shown = |(at, character): (usize, char)| {
            let at = line_start + at;
            let is_hidden = hidden.iter().any(|range| range.contains(&at));
            if is_hidden { '*' } else { printable(character) }
        };
        let start = range.start.saturating_sub(line_start);
        let end = range.end.saturating_sub(line_start);
        // From the place outwards, so that a long line costs no more than what is shown of it.
        let left = line.get(..start).unwrap_or_default();
        let right = line.get(start..).unwrap_or_default();
        let mut before: Vec<char> = left
            .char_indices()
            .rev()
            .filter(|(_, character)| *character != '\u{feff}')
            .take(SHOWN_BEFORE + 1)
            .map(shown)
            .collect();
        if before.len() > SHOWN_BEFORE {
            before.truncate(SHOWN_BEFORE);
            before.push('…');
        }
        before.reverse();
        let rest = right.char_indices().map(|(at, character)| (start + at, character));
        let rest = rest.take(2 * SHOWN_AFTER + 1);
        let (marked, after): (Vec<_>, Vec<_>) = rest.partition(|(at, _)| *at < end);
        let is_cut = marked.len() > SHOWN_AFTER || after.len() > SHOWN_AFTER;
        let marked: Vec<char> = marked.into_iter().take(SHOWN_AFTER).map(shown).collect();
        let mut after: String = after.into_iter().take(SHOWN_AFTER).map(shown).collect();
        after.truncate(after.trim_end().len());
        if is_cut {
            after.push('…');
        }
        let blank = |c: &char| match c {
            '\t' => "\t",
            c if width(*c) == 2 => "  ",
            _ => " ",
        };
        Self {
            caret_at: before.iter().map(blank).collect(),
            carets: marked.iter().map(|c| width(*c)).sum::<usize>().max(1),
            before: before.into_iter().collect(),
            marked: marked.into_iter().collect(),
            after,
        }
    }
}

/// The character, or a stand-in for one that would move the terminal's cursor.
pub(super) fn printable(character: char) -> char {
    let reorders =
        matches!(character, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if reorders || (character.is_control() && character != '\t') { '\u{fffd}' } else { character }
}

/// Columns of a terminal: East Asian wide characters and most pictures take two.
fn width(character: char) -> usize {
    let wide = matches!(character,
        '\u{1100}'..='\u{115f}' | '\u{2e80}'..='\u{303e}' | '\u{3041}'..='\u{a4cf}' | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}' | '\u{fe30}'..='\u{fe6f}' | '\u{ff00}'..='\u{ff60}' | '\u{ffe0}'..='\u{ffe6}'
        | '\u{1f300}'..='\u{1f64f}' | '\u{1f900}'..='\u{1f9ff}' | '\u{20000}'..='\u{3fffd}');
    if wide { 2 } else { 1 }
}
