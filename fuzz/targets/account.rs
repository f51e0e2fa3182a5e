//! What Redis holds as an account or as a record, of any bytes: what can be read is read back as it was written.
#![no_main]

use accrual::account::Account;
use accrual::record::{OrderRecord, Redemption, SpentRecord};
use accrual_fuzz::{PROGRAMME, check};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(account) = Account::from_json(bytes) {
        check(&PROGRAMME, &account);
        drop(account.history.entries());
    }
    let _ = serde_json::from_slice::<OrderRecord>(bytes);
    let _ = serde_json::from_slice::<Redemption>(bytes);
    let _ = serde_json::from_slice::<SpentRecord>(bytes);
});
