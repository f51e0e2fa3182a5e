//! How far a command is, for whoever watches it on a terminal. Says nothing anywhere else.

use std::cell::Cell;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar on the standard error, if that is a terminal.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    shown: Cell<u64>,
}

/// A terminal shows no more than so many steps.
const STEPS: u64 = 500;

impl Progress {
    /// A bar for so many events.
    pub fn new(events: u64) -> Self {
        Self::of(events, "events")
    }

    /// A bar for so many of something.
    pub fn of(number: u64, what: &str) -> Self {
        let bar = ProgressBar::with_draw_target(Some(number), ProgressDrawTarget::stderr());
        let style = format!("{{bar:32}} {{human_pos}} of {{human_len}} {what}, {{per_sec}}, {{eta}} left");
        if let Ok(style) = ProgressStyle::with_template(&style) {
            bar.set_style(style);
        }
        Self { bar, shown: Cell::new(0) }
    }

    /// Something that takes a moment and cannot be counted.
    pub fn waiting(what: &'static str) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            bar.set_style(style);
        }
        bar.set_message(what);
        bar.enable_steady_tick(Duration::from_millis(100));
        Self { bar, shown: Cell::new(0) }
    }

    /// So many are done.
    pub fn set(&self, events: u64) {
        let step = (self.bar.length().unwrap_or(0) / STEPS).max(1);
        if events >= self.shown.get() + step {
            self.shown.set(events);
            self.bar.set_position(events);
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// A number with its thousands apart: 1,234,567.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// How many a second, shown with their thousands apart.
pub fn a_second(number: u64, took: Duration) -> String {
    let a_second = u128::from(number) * 1_000 / took.as_millis().max(1);
    grouped(u64::try_from(a_second).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_stand_apart() {
        let grouped: Vec<String> = [0, 999, 1_000, 1_234_567].map(grouped).into();
        assert_eq!(a_second(3_000, Duration::from_millis(1_500)), "2,000");
        assert_eq!(grouped, ["0", "999", "1,000", "1,234,567"]);
    }
}
