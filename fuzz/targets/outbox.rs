//! A blob of the outbox: of any bytes, and, packed as a lane does, of any records.
#![no_main]

use accrual::lane::outbox;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = outbox::read(bytes);
    if let Ok(records) = outbox::read(&outbox::pack(bytes, &mut Vec::new())) {
        let mut packed = Vec::new();
        for record in &records {
            outbox::push(&mut packed, record.offset, record.channel, &record.member, &record.payload);
        }
        assert_eq!(packed, bytes);
    }
});
