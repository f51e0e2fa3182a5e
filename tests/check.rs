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
fn every_version_is_checked_and_named_with_its_file_and_the_time_whose_events_it_decides() {
    const NEXT: &str = "tests/fixtures/config/next-version.yaml";
    let output = check(&format!("{NEXT},examples/programme.yaml"), &["--deny-warnings"]);
    let shown = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        (output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()),
        (Some(0), ""),
        "{shown}"
    );
    let ends: Vec<&str> =
        shown.lines().filter_map(|line| line.split_once("; ")).map(|(_, end)| end).collect();
    assert_eq!(
        ends,
        [
            "examples/programme.yaml decides until 9000-01-01T00:00:00",
            "tests/fixtures/config/next-version.yaml decides from 9000-01-01T00:00:00"
        ]
    );
    // Given again instead of with a comma; and without a version that is in effect today.
    let again = check(NEXT, &["--programme", "examples/programme.yaml"]);
    assert_eq!(String::from_utf8(again.stdout).unwrap(), shown);
    let alone = check(NEXT, &[]);
    assert!(
        stderr(&alone).contains("warning: no version is in effect before this moment"),
        "{}",
        stderr(&alone)
    );
    let twice = check(NEXT, &["--programme", NEXT]);
    assert!(
        stderr(&twice)
            .contains("`effective_from` is the same as in tests/fixtures/config/next-version.yaml:5")
    );
    assert_eq!((alone.status.code(), twice.status.code()), (Some(0), Some(2)));
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
