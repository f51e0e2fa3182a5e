//! A programme of any text: problems, or a programme that decides an event of every type.
#![no_main]

use accrual::programme::{Programme, warnings};
use accrual_fuzz::one_of_each;

libfuzzer_sys::fuzz_target!(|text: &str| {
    match Programme::parse_written("programme.yaml", text) {
        Ok((programme, written)) => {
            one_of_each(&programme);
            let now = "2026-11-11T12:00:00Z".parse().expect("a time");
            let warnings = warnings::find(&programme, written, now);
            warnings.inspect(|warnings| assert!(!warnings.to_string().is_empty()));
        }
        Err(problems) => assert!(!problems.to_string().is_empty()),
    }
});
