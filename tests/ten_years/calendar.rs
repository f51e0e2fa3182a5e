//! Moments in seconds since 1970 on the clocks of the programme's zone.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, Zoned};

fn zoned(second: i64) -> Zoned {
    Timestamp::from_second(second).unwrap().to_zoned(TimeZone::get("Europe/Berlin").unwrap())
}

pub fn day(second: i64) -> Date {
    zoned(second).date()
}

/// Year × 12 + month − 1.
pub fn month(second: i64) -> i32 {
    let day = day(second);
    i32::from(day.year()) * 12 + i32::from(day.month()) - 1
}

pub fn plus(second: i64, span: Span) -> i64 {
    zoned(second).checked_add(span).unwrap().timestamp().as_second()
}

/// The first moment of the month after the one that a moment lies in; what is a first moment itself stays.
pub fn end_of_month(second: i64) -> i64 {
    let moment = zoned(second);
    let first = moment.first_of_month().unwrap().start_of_day().unwrap();
    if first == moment {
        return second;
    }
    first.checked_add(Span::new().months(1)).unwrap().start_of_day().unwrap().timestamp().as_second()
}

pub fn second_of(text: &str) -> i64 {
    text.parse::<Timestamp>().unwrap().as_second()
}

pub fn text_of(second: i64) -> String {
    Timestamp::from_second(second).unwrap().to_string()
}
