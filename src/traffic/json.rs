//! JSON by hand: numbers, money, times and ids, appended to a buffer without formatting machinery.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

const DIGITS: &[u8; 10] = b"0123456789";

/// Appends a number with at least so many digits.
pub(super) fn number(out: &mut Vec<u8>, number: u64, width: usize) {
    let start = out.len();
    let mut rest = number;
    while rest > 0 || out.len() - start < width.max(1) {
        out.extend(usize::try_from(rest % 10).ok().and_then(|digit| DIGITS.get(digit)));
        rest /= 10;
    }
    if let Some(written) = out.get_mut(start..) {
        written.reverse();
    }
}

/// Appends an amount, given in hundredths, for a currency with so many digits after the point. Where it
/// has none the hundredths are taken for whole ones: a book costs 12.80 euros, or 1280 yen.
pub(super) fn money(out: &mut Vec<u8>, hundredths: u64, digits: u32) {
    if digits == 0 {
        return number(out, hundredths, 1);
    }
    number(out, hundredths / 100, 1);
    out.push(b'.');
    number(out, hundredths % 100, 2);
}

/// Writes a member's id over what is there: `m0000042`.
pub(super) fn member(out: &mut String, member: u64) {
    out.clear();
    out.push('m');
    let mut power = 1_000_000;
    while power * 10 <= member {
        power *= 10;
    }
    while power > 0 {
        let digit = u32::try_from(member / power % 10).unwrap_or_default();
        out.extend(char::from_digit(digit, 10));
        power /= 10;
    }
}

/// Writes times as RFC 3339 in UTC, with milliseconds. Remembers the day, which rarely changes.
#[derive(Clone, Debug)]
pub(super) struct TimeWriter {
    day: i64,
    text: String,
}

const DAY_MS: i64 = 86_400_000;

impl TimeWriter {
    pub(super) fn new() -> Self {
        Self { day: 0, text: "1970-01-01T".to_owned() }
    }

    pub(super) fn write(&mut self, out: &mut Vec<u8>, at_ms: i64) {
        let day = at_ms.div_euclid(DAY_MS);
        if day != self.day {
            self.day = day;
            let midnight = Timestamp::from_millisecond(day.saturating_mul(DAY_MS)).unwrap_or_default();
            let date: Date = midnight.to_zoned(TimeZone::UTC).date();
            self.text = format!("{date}T");
        }
        let ms = u64::try_from(at_ms.rem_euclid(DAY_MS)).unwrap_or_default();
        out.extend_from_slice(self.text.as_bytes());
        number(out, ms / 3_600_000, 2);
        out.push(b':');
        number(out, ms / 60_000 % 60, 2);
        out.push(b':');
        number(out, ms / 1_000 % 60, 2);
        out.push(b'.');
        number(out, ms % 1_000, 3);
        out.push(b'Z');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_and_money_have_the_digits_that_they_need() {
        assert_eq!(text(|out| number(out, 0, 1)), "0");
        assert_eq!(text(|out| number(out, u64::MAX, 3)), u64::MAX.to_string());
        assert_eq!(text(|out| number(out, 7, 3)), "007");
        assert_eq!(text(|out| money(out, 1_280, 2)), "12.80");
        assert_eq!(text(|out| money(out, 5, 3)), "0.05");
        assert_eq!(text(|out| money(out, 1_280, 0)), "1280");
    }

    #[test]
    fn a_member_has_seven_digits_or_more() {
        let mut id = String::new();
        for (number, written) in [(0, "m0000000"), (42, "m0000042"), (123_456_789, "m123456789")] {
            member(&mut id, number);
            assert_eq!(id, written);
        }
    }

    #[test]
    fn times_are_those_of_jiff_on_any_day() {
        let mut writer = TimeWriter::new();
        for ms in [0, 999, 86_399_999, 86_400_000, 951_782_400_001, 1_795_000_000_123, -1] {
            let written = text(|out| writer.write(out, ms));
            assert_eq!(written.parse::<Timestamp>().unwrap().as_millisecond(), ms, "{written}");
        }
    }
}
