//! Money from JSON: an exact decimal, from a number or from text, never through a float.

use std::fmt::Display;

use rust_decimal::Decimal;
use serde_json::value::RawValue;

use super::{Reason, Rejected};

/// The largest amount that one event may carry; far above any order, far below what overflows.
const LARGEST: i64 = 1_000_000_000_000_000;

/// Digits after the point that a currency has (ISO 4217).
pub fn minor_digits(currency: &str) -> u32 {
    match currency {
        "BIF" | "CLP" | "DJF" | "GNF" | "ISK" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "UGX" | "UYI"
        | "VND" | "VUV" | "XAF" | "XOF" | "XPF" => 0,
        "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 3,
        "CLF" | "UYW" => 4,
        _ => 2,
    }
}

/// Reads `field` as an amount of money with at most `digits` after the point, not negative. The field is
/// named only where something is wrong with it.
///
/// # Errors
/// `wrong_kind` for anything that is neither a JSON number nor text, `bad_amount` for text that is no
/// number and for numbers that are negative, too large or too fine.
pub fn amount(field: impl Display, raw: &RawValue, digits: u32) -> Result<Decimal, Rejected> {
    let text = raw.get();
    let number = match text.as_bytes().first() {
        Some(b'"') => text.trim_matches('"'),
        Some(b'0'..=b'9' | b'-') => text,
        _ => {
            let detail =
                format!("{field} is {}, expected a number such as 19.90 or \"19.90\"", kind_of(text));
            return Err(Rejected::new(Reason::WrongKind, detail));
        }
    };
    let bad = |why: &str| {
        let shown: String = number.chars().take(40).collect();
        Rejected::new(Reason::BadAmount, format!("{field} is {shown}, {why}"))
    };
    let value = if number.contains(['e', 'E']) {
        Decimal::from_scientific(number).map_err(|_| bad("which is no finite number in range"))?
    } else {
        Decimal::from_str_exact(number).map_err(|_| bad("which is no number, or has too many digits"))?
    };
    if value.is_sign_negative() && !value.is_zero() {
        return Err(bad("expected zero or more"));
    }
    if value.scale() > digits && value.normalize().scale() > digits {
        return Err(bad(&format!("expected at most {digits} digits after the point")));
    }
    if value > Decimal::from(LARGEST) {
        return Err(bad("which is more than an order can be"));
    }
    Ok(value)
}

/// Names a JSON value's kind by its first character.
pub(super) fn kind_of(json: &str) -> &'static str {
    match json.as_bytes().first() {
        Some(b'"') => "text",
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b't' | b'f') => "true or false",
        Some(b'n') => "null",
        _ => "a number",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Decimal, Reason> {
        let raw = RawValue::from_string(json.to_owned()).unwrap();
        amount("amount", &raw, 2).map_err(|rejected| rejected.reason)
    }

    #[test]
    fn amounts_are_exact_and_bad_ones_are_named() {
        for (json, expected) in [
            ("29.33", Ok("29.33")),
            ("\"29.33\"", Ok("29.33")),
            ("268.28", Ok("268.28")),
            ("0", Ok("0")),
            ("-0.00", Ok("0.00")),
            ("1e3", Ok("1000")),
            ("29.3300", Ok("29.3300")),
            ("-1", Err(Reason::BadAmount)),
            ("1e999", Err(Reason::BadAmount)),
            ("0.001", Err(Reason::BadAmount)),
            ("1e16", Err(Reason::BadAmount)),
            ("\"\"", Err(Reason::BadAmount)),
            ("\"NaN\"", Err(Reason::BadAmount)),
            ("\"1 000\"", Err(Reason::BadAmount)),
            ("0.00000000000000000000000000000000001", Err(Reason::BadAmount)),
            ("null", Err(Reason::WrongKind)),
            ("[1]", Err(Reason::WrongKind)),
            ("true", Err(Reason::WrongKind)),
        ] {
            let expected = expected.map(|text| text.parse::<Decimal>().unwrap());
            assert_eq!(read(json), expected, "{json}");
        }
    }
}
