//! ARCHITECTURE.md stays true.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::missing_panics_doc
)]

use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn every_path_that_architecture_md_names_exists() {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let paths: Vec<&str> = text
        .split(|c: char| c.is_whitespace() || "`|(),".contains(c))
        .map(|word| word.trim_end_matches(['.', ';', ':']))
        .filter(|word| {
            ["src/", "tests/", "bench/", "deploy/", "schemas/"].iter().any(|top| word.starts_with(top))
        })
        .collect();
    assert!(paths.len() > 20, "the paths are not found in the text");
    let missing: Vec<&&str> = paths.iter().filter(|path| !root().join(path).exists()).collect();
    assert!(missing.is_empty(), "ARCHITECTURE.md names what is not there: {missing:?}");
}

#[test]
fn pure_modules_know_nothing_of_the_outside() {
    let pure = [
        "src/event",
        "src/programme",
        "src/rules",
        "src/scenario",
        "src/account",
        "src/entry",
        "src/record.rs",
        "src/ledger.rs",
        "src/explain/again.rs",
        "src/explain/page.rs",
        "src/verify/compare.rs",
        "src/verify/examine.rs",
        "src/verify/page.rs",
        "src/verify/trail.rs",
        "src/types.rs",
    ];
    let outside = [
        "tokio",
        "rdkafka",
        "redis::",
        "SystemTime",
        "Instant",
        "Timestamp::now",
        "std::fs",
        "std::net",
        "std::env",
    ];
    let mut files = Vec::new();
    for path in pure {
        collect(&root().join(path), &mut files);
    }
    assert!(files.len() > 10, "the files are not found");
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        for (number, line) in code.enumerate() {
            for name in outside {
                assert!(!line.contains(name), "{} uses {name}: {number}: {line}", file.display());
            }
        }
    }
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) {
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            collect(&entry.unwrap().path(), files);
        }
    } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
        files.push(path.to_owned());
    }
}
