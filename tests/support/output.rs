//! What the binary says, and how it is compared with a file that holds what is expected.

use std::path::Path;
use std::process::Output;

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Compares with a file that holds what is expected; `ACCRUAL_TEST_BLESS=1` writes it instead.
pub fn golden(file: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os("ACCRUAL_TEST_BLESS").is_some() {
        std::fs::write(&path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    assert!(actual == expected, "{file} should be (ACCRUAL_TEST_BLESS=1 writes it):\n{actual}");
}
