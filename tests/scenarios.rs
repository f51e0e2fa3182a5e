//! `tests/scenarios`: what the programme language decides, as its writers would say it. And
//! `accrual test` itself, as they run it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/output.rs"]
mod output;

use std::path::Path;
use std::process::{Command, Output};

use output::{golden, stderr};

/// Runs `accrual test` from the root of the repository, so that files are named the same everywhere.
fn accrual_test(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_accrual"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).arg("test").args(arguments);
    command.output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn every_scenario_comes_true() {
    let output = accrual_test(&["tests/scenarios", "--verbose"]);
    let shown = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{shown}\n{}", stderr(&output));
    for file in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios")).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        assert!(shown.contains(&format!("ok      tests/scenarios/{name}: ")), "{name} was not run:\n{shown}");
    }
}

#[test]
fn the_example_comes_true_and_readme_md_shows_what_is_printed_of_it() {
    let output = accrual_test(&["examples/scenarios.yaml", "--verbose"]);
    let shown = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{shown}\n{}", stderr(&output));
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    for line in shown.lines() {
        assert!(readme.contains(line), "README.md does not show: {line}");
    }
}

#[test]
fn the_examples_of_other_shops_come_true_and_programmes_beside_scenarios_are_passed_over() {
    let output = accrual_test(&["examples", "--verbose"]);
    let shown = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{shown}\n{}", stderr(&output));
    for shop in ["supermarket", "fashion", "app"] {
        assert!(shown.contains(&format!("ok      examples/{shop}/scenarios.yaml: ")), "{shop}:\n{shown}");
    }
}

#[test]
fn a_changed_programme_is_tried_against_the_scenarios_of_the_old_one() {
    let folder = std::env::temp_dir().join(format!("accrual-scenarios-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/programme.yaml");
    let changed = std::fs::read_to_string(example).unwrap().replace("earn: 1.1", "earn: 1.2");
    let path = folder.join("programme.yaml");
    std::fs::write(&path, changed).unwrap();
    let output = accrual_test(&["examples/scenarios.yaml", "--programme", path.to_str().unwrap()]);
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    golden("tests/fixtures/scenarios/changed-programme.txt", &stdout(&output));
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    assert!(readme.contains(&stdout(&output)), "README.md does not show:\n{}", stdout(&output));
}

#[test]
fn the_next_version_is_tried_beside_the_one_that_decides_until_then() {
    // It decides after all that happens in the scenarios.
    for versions in [
        &["--programme", "examples/programme.yaml,tests/fixtures/config/next-version.yaml"][..],
        &["--programme", "tests/fixtures/config/next-version.yaml", "--programme", "examples/programme.yaml"],
    ] {
        let output = accrual_test(&[&["examples/scenarios.yaml"], versions].concat());
        assert_eq!(stdout(&output), "7 scenarios: 7 ok\n", "{}", stderr(&output));
    }
}

#[test]
fn a_scenario_that_fails_shows_what_was_expected_and_what_came() {
    let output = accrual_test(&["tests/fixtures/scenarios/failing.yaml"]);
    assert_eq!((output.status.code(), stderr(&output)), (Some(1), String::new()));
    golden("tests/fixtures/scenarios/failing.txt", &stdout(&output));
}

#[test]
fn all_that_is_wrong_with_a_file_is_named_with_its_line() {
    for name in ["wrong", "wrong-programme"] {
        let file = format!("tests/fixtures/scenarios/{name}.yaml");
        let output = accrual_test(&[&file]);
        assert_eq!(output.status.code(), Some(2), "{}", stdout(&output));
        golden(&format!("tests/fixtures/scenarios/{name}.txt"), &stderr(&output));
    }
}

#[test]
fn a_wrong_file_is_told_apart_from_a_failing_one_and_keeps_no_other_from_running() {
    let folder = "tests/fixtures/scenarios";
    let (right, wrong) = ("tests/scenarios/purchase.yaml", "tests/fixtures/scenarios/wrong.yaml");
    for (arguments, code, summary) in [
        (&[folder][..], 2, "4 scenarios: 1 ok, 3 failed (- expected, + came); 2 files could not be run"),
        (&[right, wrong], 2, "6 scenarios: 6 ok; 1 file could not be run"),
        (&["tests/no-such-folder"], 2, "0 scenarios: 0 ok; 1 file could not be run"),
        (&["src/yaml"], 2, "0 scenarios: 0 ok; 1 file could not be run"),
        (&[right], 0, "6 scenarios: 6 ok"),
    ] {
        let output = accrual_test(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
        assert_eq!(stdout(&output).lines().last(), Some(summary), "{arguments:?}");
        assert_eq!(stderr(&output).is_empty(), code == 0, "{arguments:?}: {}", stderr(&output));
    }
}

#[test]
fn scenarios_that_pass_are_not_named_where_nobody_watches() {
    assert_eq!(stdout(&accrual_test(&["tests/scenarios/purchase.yaml"])), "6 scenarios: 6 ok\n");
}

#[test]
fn a_programme_that_is_wrong_runs_nothing() {
    let output =
        accrual_test(&["tests/scenarios", "--programme", "tests/fixtures/config/broken-programme.yaml"]);
    assert_eq!((output.status.code(), stdout(&output)), (Some(2), String::new()));
    assert!(
        stderr(&output).contains("--> tests/fixtures/config/broken-programme.yaml:"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn output_that_nobody_reads_on_ends_the_command_quietly() {
    let command = format!("{} test tests/scenarios --verbose | head -n 1", env!("CARGO_BIN_EXE_accrual"));
    let mut shell = Command::new("sh");
    let output = shell.current_dir(env!("CARGO_MANIFEST_DIR")).args(["-c", &command]).output().unwrap();
    assert!(stdout(&output).starts_with("ok      tests/scenarios/"), "{}", stdout(&output));
    assert_eq!(stderr(&output), "");
}
