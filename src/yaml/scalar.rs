//! From a character of a scalar's value back to where the file has it.

use std::ops::Range;

use super::tree::Style;

/// The bytes of the file in which the `at`th character of a scalar stands, or the word that it starts, where `written` is the
/// scalar as it stands in the file (from byte `start` on, quotes and block header included) and
/// `value` what it means.
///
/// Folding and indentation change white space only, so the `n`th visible character of the value is the
/// `n`th visible one of what was written, escapes counted as one. White space itself is pointed at by
/// the visible character after it; the end by the place after the last.
pub(super) fn locate(start: usize, written: &str, style: Style, value: &str, at: usize) -> Range<usize> {
    let visible_before = value.chars().take(at).filter(|c| !c.is_whitespace()).count();
    let mut visible = visible_characters(written, style);
    let Some(range) = visible.nth(visible_before) else {
        let end = visible_characters(written, style).last().map_or(0, |range| range.end);
        return start + end..start + end;
    };
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let rest = written.get(range.start..).unwrap_or_default();
    let word = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
    start + range.start..start + range.end.max(range.start + word)
}

/// The byte ranges in `written` of what becomes a visible character.
fn visible_characters(written: &str, style: Style) -> Box<dyn Iterator<Item = Range<usize>> + '_> {
    match style {
        Style::Plain => Box::new(Pieces { rest: written.char_indices(), escape: None }),
        Style::SingleQuoted => Box::new(Pieces { rest: inside(written, 1), escape: Some('\'') }),
        Style::DoubleQuoted => Box::new(Pieces { rest: inside(written, 1), escape: Some('\\') }),
        Style::Block => {
            let header = match written.chars().next() {
                Some('|' | '>') => written.find('\n').unwrap_or(written.len()),
                _ => 0,
            };
            let body = written.get(header..).unwrap_or_default();
            let shift = move |range: Range<usize>| range.start + header..range.end + header;
            Box::new(Pieces { rest: body.char_indices(), escape: None }.map(shift))
        }
    }
}

/// The characters after the opening quote; the closing one is harmless, nothing is counted up to it.
fn inside(written: &str, quote: usize) -> std::str::CharIndices<'_> {
    let mut characters = written.char_indices();
    for _ in 0..quote {
        characters.next();
    }
    characters
}

struct Pieces<'w> {
    rest: std::str::CharIndices<'w>,
    escape: Option<char>,
}

impl Pieces<'_> {
    /// Reads on after the escape character and says whether something visible came of it.
    fn escaped(&mut self, escape: char) -> bool {
        let Some((_, escaped)) = self.rest.next() else {
            return escape == '\\';
        };
        if escape == '\'' {
            return true;
        }
        let digits = match escaped {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            // Escapes for, and of, white space.
            't' | 'n' | 'r' | 'v' | 'f' | 'N' | 'L' | 'P' | '_' | ' ' | '\t' | '\n' | '\r' => return false,
            _ => 0,
        };
        let code: String = self.rest.by_ref().take(digits).map(|(_, digit)| digit).collect();
        let character = u32::from_str_radix(&code, 16).ok().and_then(char::from_u32);
        !character.is_some_and(char::is_whitespace)
    }
}

impl Iterator for Pieces<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        loop {
            let (start, character) = self.rest.next()?;
            let visible = if Some(character) == self.escape {
                self.escaped(character)
            } else {
                !character.is_whitespace()
            };
            if visible {
                return Some(start..self.rest.offset());
            }
        }
    }
}
