//! A record of any bytes, headers among them: an event or a dead letter. What counts is decided.
#![no_main]

use std::sync::LazyLock;

use accrual::event::decode::Decoder;
use accrual_fuzz::{PROGRAMME, Shop, decode, decoder, record};

static DECODER: LazyLock<Decoder> = LazyLock::new(|| decoder(&PROGRAMME));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Some(event) = decode(&DECODER, &record(bytes)) {
        Shop::default().tell(&PROGRAMME, &DECODER, event);
    }
});
