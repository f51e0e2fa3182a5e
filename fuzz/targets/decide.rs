//! A shop's day: records one a line, decided one after the other on the accounts that they come to.
#![no_main]

use std::sync::LazyLock;

use accrual::event::decode::Decoder;
use accrual_fuzz::{PROGRAMME, Shop, decode, decoder, record};

static DECODER: LazyLock<Decoder> = LazyLock::new(|| decoder(&PROGRAMME));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut shop = Shop::default();
    for line in bytes.split(|byte| *byte == b'\n').take(64) {
        if let Some(event) = decode(&DECODER, &record(line)) {
            shop.tell(&PROGRAMME, &DECODER, event);
        }
    }
});
