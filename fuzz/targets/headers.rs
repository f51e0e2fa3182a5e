//! The attributes of binary mode: any headers over data that is right.
#![no_main]

use std::sync::LazyLock;

use accrual::event::decode::Decoder;
use accrual_fuzz::{PROGRAMME, decode, decoder, record};

static DECODER: LazyLock<Decoder> = LazyLock::new(|| decoder(&PROGRAMME));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut whole = bytes.to_vec();
    whole.extend_from_slice(b"\n\n{\"member_id\":\"m\"}");
    decode(&DECODER, &record(&whole));
});
