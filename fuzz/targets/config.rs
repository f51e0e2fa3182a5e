//! Settings of any text, and variables of any name and value behind NULs.
#![no_main]

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::LazyLock;

use accrual::config::Config;

static FILE: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("accrual-fuzz.{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for the settings");
    folder.join("accrual.yaml")
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.split(|byte| *byte == 0);
    std::fs::write(&*FILE, parts.next().unwrap_or_default()).expect("the settings are written");
    let variables = parts.map(|part| {
        let text = String::from_utf8_lossy(part);
        let (name, value) = text.split_once('=').unwrap_or((&text, ""));
        (OsString::from(name), OsString::from(value))
    });
    match Config::load(Some(&FILE), variables, &[]) {
        Ok(config) => drop(format!("{config:?}")),
        Err(problems) => assert!(!problems.to_string().is_empty()),
    }
});
