//! A file's text and the places in it.

use std::ops::Range;

/// Where a value was written.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Place {
    /// Nowhere: a setting that no source gives.
    Nowhere,
    /// In the file, from the first byte to the one after the last.
    File {
        /// Of the first byte.
        start: usize,
        /// Of the byte after the last.
        end: usize,
    },
    /// In an environment variable of this name.
    Variable(String),
    /// In a flag of the command line.
    Flag(String),
}

impl Place {
    /// These bytes of the file.
    pub fn bytes(range: Range<usize>) -> Self {
        Self::File { start: range.start, end: range.end }
    }
}

/// A file's text, cut into lines once.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) name: String,
    pub(super) text: String,
    /// The first byte of every line.
    line_starts: Vec<usize>,
}

impl Source {
    pub(super) fn new(name: &str, text: &str) -> Self {
        let mut line_starts = vec![0];
        let bytes = text.as_bytes();
        for (at, byte) in bytes.iter().enumerate() {
            let next_is_newline = bytes.get(at + 1) == Some(&b'\n');
            if *byte == b'\n' || (*byte == b'\r' && !next_is_newline) {
                line_starts.push(at + 1);
            }
        }
        Self { name: name.to_owned(), text: text.to_owned(), line_starts }
    }

    /// The line of a byte, from 1.
    pub(super) fn line_of(&self, byte: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= byte).max(1)
    }

    /// Line and column of a byte, both from 1, the column in characters.
    pub(super) fn position(&self, byte: usize) -> (usize, usize) {
        let line = self.line_of(byte);
        let start = self.line_start(line);
        let before = self.text.get(start..byte.min(self.text.len())).unwrap_or_default();
        (line, before.trim_start_matches('\u{feff}').chars().count() + 1)
    }

    /// The first byte of a line, counted from 1.
    pub(super) fn line_start(&self, line: usize) -> usize {
        self.line_starts.get(line.saturating_sub(1)).copied().unwrap_or(self.text.len())
    }

    /// A line without its end, counted from 1.
    pub(super) fn line(&self, line: usize) -> &str {
        let range = self.line_start(line)..self.line_start(line + 1);
        self.text.get(range).unwrap_or_default().trim_end_matches(['\r', '\n'])
    }
}
