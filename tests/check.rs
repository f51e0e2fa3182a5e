//! `accrual check`, as it is run: what it says of a programme, and with which exit code.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/output.rs"]
mod output;

use std::path::Path;
use std::process::{Command, Output};

use output::{golden, stderr};

fn read(file: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

/// Checks a programme with the settings of the example, from the root of the repository.
fn check(programme: &str, flags: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_accrual"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).env_remove("ACCRUAL_CONFIG");
    command.args(["check", "--config", "examples/accrual.yaml", "--programme", programme]).args(flags);
    command.output().unwrap()
}

const WARNED: &str = "tests/fixtures/config/warned.yaml";

#[test]
fn warnings_are_shown_and_keep_nobody_from_running() {
    let output = check(WARNED, &[]);
    golden("tests/fixtures/config/warned.txt", &stderr(&output));
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8(output.stdout).unwrap().contains("ok    programme shop: "));
}

#[test]
fn warnings_that_are_denied_are_errors() {
    let output = check(WARNED, &["--deny-warnings"]);
    let expected = read("tests/fixtures/config/warned.txt").replace("warning: ", "error: ");
    assert_eq!((output.status.code(), stderr(&output).trim_end()), (Some(2), expected.trim_end()));
}

#[test]
fn a_programme_that_nothing_is_wrong_with_is_silent_with_denied_warnings_too() {
    let output = check("examples/programme.yaml", &["--deny-warnings"]);
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), String::new()));
}

#[test]
fn readme_md_shows_warnings_as_they_are_printed() {
    let shown = read("tests/fixtures/config/warned.txt").replace(WARNED, "programme.yaml");
    let readme = read("README.md");
    let in_readme: Vec<&str> =
        shown.trim_end().split("\n\n").filter(|warning| readme.contains(warning)).collect();
    assert_eq!(in_readme.len(), 2, "{shown}");
    assert_eq!(readme.matches("\nwarning: ").count(), 2);
}
