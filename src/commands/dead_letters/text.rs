//! Bytes from upstream, for a terminal. Nobody upstream may move the cursor or hide text.

use std::fmt::Write as _;

use serde::de::IgnoredAny;

/// Text on one line: what a terminal would act upon is escaped.
pub fn line(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if acts(character) {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Control characters, and those that change the direction of text or cannot be seen.
fn acts(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Text cut to so many characters.
pub fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most.saturating_sub(1)).collect();
    kept + "…"
}

/// A payload in lines: JSON indented, with its numbers and strings as they were written; other text as it is; else in hex.
pub fn payload(bytes: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(bytes) else { return hex(bytes) };
    if serde_json::from_str::<IgnoredAny>(text).is_ok() {
        return indented(text);
    }
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// JSON with a line for each value. Only white space is changed: what a number is must be seen as it came.
fn indented(json: &str) -> String {
    let mut shown = String::with_capacity(json.len() * 2);
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    let mut characters = json.chars().peekable();
    let new_line = |shown: &mut String, depth: usize| {
        shown.push('\n');
        shown.extend(std::iter::repeat_n("  ", depth));
    };
    while let Some(character) = characters.next() {
        if in_string {
            in_string = escaped || character != '"';
            escaped = !escaped && character == '\\';
            shown.push_str(&line(character.encode_utf8(&mut [0; 4])));
            continue;
        }
        match character {
            '"' => {
                in_string = true;
                shown.push('"');
            }
            '{' | '[' => {
                shown.push(character);
                while characters.next_if(char::is_ascii_whitespace).is_some() {}
                if let Some(end) = characters.next_if(|next| matches!(next, '}' | ']')) {
                    shown.push(end);
                } else {
                    depth += 1;
                    new_line(&mut shown, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut shown, depth);
                shown.push(character);
            }
            ',' => {
                shown.push(',');
                new_line(&mut shown, depth);
            }
            ':' => shown.push_str(": "),
            space if space.is_ascii_whitespace() => {}
            other => shown.push(other),
        }
    }
    shown
}

/// Sixteen bytes a line: where, in hex, and as text.
fn hex(bytes: &[u8]) -> String {
    let mut shown = String::with_capacity(bytes.len() * 5);
    for (number, chunk) in bytes.chunks(16).enumerate() {
        let digits: Vec<String> = chunk.iter().map(|byte| format!("{byte:02x}")).collect();
        let text: String = chunk
            .iter()
            .map(|byte| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '.' })
            .collect();
        let line_end = if number == 0 { "" } else { "\n" };
        // Writing to a string does not fail.
        let _always_written = write!(shown, "{line_end}{:08x}  {:47}  {text}", number * 16, digits.join(" "));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_indented_and_every_value_stays_as_it_was_written() {
        let json = r#"{"a":1e999,"b":[10.50, 0.1000],"c":{},"d":[ ],"e":"x\"{,:","f":{"g":null}}"#;
        let expected = r#"{
  "a": 1e999,
  "b": [
    10.50,
    0.1000
  ],
  "c": {},
  "d": [],
  "e": "x\"{,:",
  "f": {
    "g": null
  }
}"#;
        assert_eq!(payload(json.as_bytes()), expected);
    }

    #[test]
    fn what_is_no_json_is_shown_as_text_and_what_is_no_text_in_hex() {
        assert_eq!(payload(b"{oops\nhere"), "{oops\nhere");
        let shown = payload(b"\xff\x00GET / HTTP/1.1\r\nHost");
        let expected = "\
00000000  ff 00 47 45 54 20 2f 20 48 54 54 50 2f 31 2e 31  ..GET / HTTP/1.1
00000010  0d 0a 48 6f 73 74                                ..Host";
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_terminal_is_told_nothing_by_upstream() {
        let evil = "\u{1b}[2J\u{202e}x\u{7}\u{9b}";
        for shown in [line(evil), payload(evil.as_bytes()), payload(format!("\"{}\"", "\u{202e}").as_bytes())]
        {
            assert!(!shown.chars().any(|c| acts(c) && c != '\n'), "{shown:?}");
        }
    }

    #[test]
    fn text_is_cut_to_its_place() {
        assert_eq!((cut("four", 4).as_str(), cut("fives", 4).as_str()), ("four", "fiv…"));
    }
}
