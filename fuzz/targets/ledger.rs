//! Records of the ledger, one a line; those that can be read are folded.
#![no_main]

use accrual::ledger::{Ledger, Published};
use accrual_fuzz::{KEEPS, PROGRAMME, check};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut ledger = Ledger::default();
    let lines = bytes.split(|byte| *byte == b'\n').take(32);
    lines.filter_map(|line| Published::parse(line).ok()).for_each(|published| ledger.add(published));
    if let Ok(account) = ledger.fold(&"m".into(), &KEEPS, |_| true) {
        check(&PROGRAMME, &account);
    }
});
