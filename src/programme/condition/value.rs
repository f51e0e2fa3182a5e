//! The values that conditions are asked about: an event's `data`, read once and borrowed from its
//! payload.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

use jiff::Timestamp;
use rust_decimal::Decimal;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// A JSON value of an event, or a value that a condition computes. Text without escapes is borrowed
/// from the payload for `'a`; every number is an exact decimal.
#[derive(Clone, Debug)]
pub enum DataValue<'a> {
    /// `null`. To `has()` it is the same as an absent field.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number that a decimal of 28 digits holds.
    Number(Decimal),
    /// Any other number, such as 1e300: a condition that reads it fails.
    OutOfRange,
    /// Text.
    Text(Cow<'a, str>),
    /// An instant. JSON has none: only `event.time` and `timestamp()` make it.
    Time(Timestamp),
    /// An array.
    List(Vec<DataValue<'a>>),
    /// An object: its fields in the order of the payload. Of a field that is written twice the last one
    /// counts.
    Object(Vec<(Cow<'a, str>, DataValue<'a>)>),
}

impl<'a> DataValue<'a> {
    /// Text that is borrowed, not copied.
    pub fn text(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }

    /// The field of an object; `None` where it is absent or where this is no object.
    pub fn field(&self, name: &str) -> Option<&DataValue<'a>> {
        match self {
            Self::Object(fields) => fields.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value),
            _ => None,
        }
    }

    /// How many steps it costs to look at all of it beyond the one that every value costs.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Text(text) => text.len() / 16,
            Self::List(values) => values.iter().map(|value| 1 + value.weight()).sum(),
            Self::Object(fields) => fields.iter().map(|(_, value)| 1 + value.weight()).sum(),
            _ => 0,
        }
    }

    /// What it is, with its article, as messages call it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "true or false",
            Self::Number(_) => "a number",
            Self::OutOfRange => "a number out of range",
            Self::Text(_) => "text",
            Self::Time(_) => "a time",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        }
    }
}

impl PartialEq for DataValue<'_> {
    /// Equal numbers need not be written alike (1.0 is 1), and the fields of an object have no order.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::List(left), Self::List(right)) => left == right,
            (Self::Object(left), Self::Object(right)) => {
                left.len() == right.len() && sorted(left) == sorted(right)
            }
            _ => order(self, other) == Some(Ordering::Equal),
        }
    }
}

/// The fields of an object by name, so that two objects compare in one pass.
fn sorted<'f, 'a>(fields: &'f [(Cow<'a, str>, DataValue<'a>)]) -> Vec<&'f (Cow<'a, str>, DataValue<'a>)> {
    let mut sorted: Vec<_> = fields.iter().collect();
    sorted.sort_by(|(left, _), (right, _)| left.cmp(right));
    sorted
}

/// The order of two numbers, texts, times or booleans; `None` where the two have no order.
pub(super) fn order(left: &DataValue<'_>, right: &DataValue<'_>) -> Option<Ordering> {
    match (left, right) {
        (DataValue::Number(left), DataValue::Number(right)) => Some(left.cmp(right)),
        (DataValue::Text(left), DataValue::Text(right)) => Some(left.cmp(right)),
        (DataValue::Time(left), DataValue::Time(right)) => Some(left.cmp(right)),
        (DataValue::Bool(left), DataValue::Bool(right)) => Some(left.cmp(right)),
        _ => None,
    }
}

/// The decimal that a text spells: digits, at most one point, a sign. Nothing else, so that neither
/// `1_000` nor `1e3` passes for an amount.
pub(super) fn decimal_of_text(text: &str) -> Option<Decimal> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.' || b == b'-');
    if plain { Decimal::from_str_exact(text).ok() } else { None }
}

/// The decimal that a JSON number of at most 15 significant digits was written as, and for more digits
/// the shortest decimal that reads back as the same double. `None` out of a decimal's range.
#[allow(clippy::float_cmp, clippy::cast_possible_truncation)] // equality is what proves it; see below
pub(super) fn decimal_of_double(number: f64) -> Option<Decimal> {
    // What most amounts are: few digits behind the point. `units` and the power of ten are exact
    // doubles, so the division is rounded once, and a result that equals the input proves that the
    // decimal reads as that very double. Below 15 digits no other decimal does.
    const EXACT: f64 = 1e15;
    for (scale, power) in [(0, 1.0), (1, 1e1), (2, 1e2), (3, 1e3), (4, 1e4)] {
        let units = (number * power).round();
        if units.abs() < EXACT && units / power == number {
            return Some(Decimal::new(units as i64, scale));
        }
    }
    if number.abs() >= 1e29 { None } else { Decimal::from_str_exact(&number.to_string()).ok() }
}

impl<'de: 'a, 'a> Deserialize<'de> for DataValue<'a> {
    /// Reads any JSON value.
    ///
    /// # Errors
    ///
    /// Fails as the deserializer does, which for `serde_json` includes a number beyond a double's range.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = DataValue<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(DataValue::Null)
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(DataValue::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        DataValue::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(DataValue::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(DataValue::Number(Decimal::from(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(DataValue::Number(Decimal::from(value)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(decimal_of_double(value).map_or(DataValue::OutOfRange, DataValue::Number))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Self::Value, E> {
        Ok(DataValue::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(DataValue::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_string<E>(self, value: String) -> Result<Self::Value, E> {
        Ok(DataValue::Text(Cow::Owned(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::with_capacity(access.size_hint().unwrap_or(0).min(64));
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(DataValue::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        // A key is read as a value too: that is what lets it be borrowed.
        while let Some((key, value)) = access.next_entry::<DataValue<'de>, DataValue<'de>>()? {
            match key {
                DataValue::Text(key) => fields.push((key, value)),
                _ => return Err(A::Error::custom("the key of an object must be text")),
            }
        }
        Ok(DataValue::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> DataValue<'_> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_json_number_is_the_decimal_that_was_written() {
        for (json, decimal) in [
            ("0", "0"),
            ("-0.0", "0"),
            ("200", "200"),
            ("18446744073709551615", "18446744073709551615"),
            ("-9223372036854775808", "-9223372036854775808"),
            ("0.1", "0.1"),
            ("29.33", "29.33"),
            ("268.28", "268.28"),
            ("1234567890123.45", "1234567890123.45"),
            ("0.000001", "0.000001"),
            ("1e3", "1000"),
            ("99999999999999.9", "99999999999999.9"),
            ("0.30000000000000004", "0.30000000000000004"),
        ] {
            assert_eq!(read(json), DataValue::Number(decimal.parse().unwrap()), "{json}");
        }
    }

    #[test]
    fn a_number_that_no_decimal_holds_is_out_of_range_and_the_rest_is_read() {
        let data = read(r#"{"score": 1e300, "tiny": 1e-300, "amount": 5}"#);
        assert!(matches!(data.field("score"), Some(DataValue::OutOfRange)));
        assert!(matches!(data.field("tiny"), Some(DataValue::OutOfRange)));
        assert_eq!(data.field("amount"), Some(&DataValue::Number(5.into())));
    }

    #[test]
    fn text_is_borrowed_from_the_payload_unless_it_has_escapes() {
        let data = read(r#"{"a": "plain", "b": "line\nbreak"}"#);
        assert!(matches!(data.field("a"), Some(DataValue::Text(Cow::Borrowed("plain")))));
        assert!(matches!(data.field("b"), Some(DataValue::Text(Cow::Owned(_)))));
        let DataValue::Object(fields) = &data else { panic!("{data:?}") };
        assert!(fields.iter().all(|(key, _)| matches!(key, Cow::Borrowed(_))));
    }

    #[test]
    fn of_a_field_that_is_written_twice_the_last_one_counts() {
        assert_eq!(read(r#"{"a": 1, "a": 2}"#).field("a"), Some(&DataValue::Number(2.into())));
    }

    #[test]
    fn only_a_plain_decimal_is_an_amount() {
        assert_eq!(decimal_of_text("29.33"), Some(Decimal::new(2933, 2)));
        assert_eq!(decimal_of_text("-1"), Some(Decimal::from(-1)));
        for text in ["", "1_000", "1e3", "+1", " 1", "1-", "x", "1.2.3", "99999999999999999999999999999999"] {
            assert_eq!(decimal_of_text(text), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_decimal_of_fifteen_digits_survives_json(units in -999_999_999_999_999i64..=999_999_999_999_999, scale in 0u32..=15) {
            let written = Decimal::new(units, scale);
            let text = written.to_string();
            proptest::prop_assert_eq!(read(&text), DataValue::Number(written));
        }

        #[test]
        fn no_double_makes_reading_panic(number: f64) {
            let _ = decimal_of_double(number);
        }
    }
}
