//! Dashboards and alerts of others hold the names of our series: a renamed one is a reviewed change of
//! `tests/fixtures/metrics.txt`. `UPDATE_FIXTURES=1` writes it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::missing_panics_doc
)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use accrual::metrics::Metrics;
use accrual::programme::{Programme, Versions};

/// All series of a worker that has met everything, in Prometheus' text format.
fn rendered() -> String {
    let programme = include_str!("../examples/programme.yaml");
    let programme = Programme::parse("examples/programme.yaml", programme).unwrap();
    let metrics = Metrics::new(&Versions::only(programme)).unwrap();
    metrics.events.with_label_values(&["order.paid", "applied"]).inc();
    metrics.points.with_label_values(&["rule", "purchase", "earned"]).inc_by(10);
    metrics.rewards.with_label_values(&["birthday-gift", "ten-off"]).inc();
    metrics.tier_changes.with_label_values(&["basic", "silver"]).inc();
    metrics.duplicates.with_label_values(&["event_id"]).inc();
    metrics.dead_letters.with_label_values(&["not_json"]).inc();
    metrics.input_stopped.with_label_values(&["0"]).set(0);
    metrics.condition_failures.with_label_values(&["new-books"]).inc();
    metrics.lag.with_label_values(&["orders", "0"]).set(3);
    metrics.batch_events.observe(100.0);
    metrics.step_seconds.with_label_values(&["poll"]).observe(0.01);
    metrics.end_to_end_seconds.observe(0.02);
    metrics.store_conflicts.inc();
    metrics.store_repairs.inc();
    metrics.store_restored.with_label_values(&["accounts"]).inc();
    metrics.transactions.with_label_values(&["committed"]).inc();
    metrics.rebalances.with_label_values(&["0"]).inc();
    metrics.accounts_cached.with_label_values(&["0"]).set(7);
    metrics.partitions.with_label_values(&["0"]).set(4);
    metrics.budget_free.with_label_values(&["double-eleven"]).set(600);
    metrics.dependency_up.with_label_values(&["kafka", "0"]).set(1);
    metrics.http_requests.with_label_values(&["/v1/accounts/{member}", "200"]).inc();
    metrics.http_request_seconds.with_label_values(&["/v1/accounts/{member}"]).observe(0.01);
    metrics.render().unwrap()
}

/// Name, type and label names of each series, a line each: `accrual_events_total counter type result`.
fn series(text: &str) -> String {
    let mut kinds = BTreeMap::new();
    let mut labels: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            kinds.insert(name, kind);
            continue;
        }
        let Some((name, rest)) = line.split_once('{').filter(|_| !line.starts_with('#')) else { continue };
        let name = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|suffix| name.strip_suffix(suffix).filter(|base| kinds.contains_key(base)))
            .unwrap_or(name);
        let (pairs, _) = rest.rsplit_once('}').unwrap();
        let names = pairs.split("\",").filter_map(|pair| pair.split_once('=').map(|(name, _)| name.trim()));
        labels.entry(name).or_default().extend(names.filter(|name| *name != "le"));
    }
    let lines = kinds.iter().map(|(name, kind)| {
        let labels = labels.get(name).into_iter().flatten();
        labels.fold(format!("{name} {kind}"), |line, label| line + " " + label) + "\n"
    });
    lines.collect()
}

#[test]
fn the_series_are_those_of_the_fixture() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/metrics.txt");
    let found = series(&rendered());
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        std::fs::write(&path, &found).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    assert_eq!(found, expected, "a renamed series breaks dashboards; UPDATE_FIXTURES=1 accepts it");

    // A series that nothing above has touched is not rendered; its name in the source gives it away.
    let declared = include_str!("../src/metrics.rs").split('"').filter(|text| {
        text.starts_with("accrual_") && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    });
    for name in declared {
        assert!(
            found.lines().any(|line| line.split(' ').next() == Some(name)),
            "{name} is not in the fixture"
        );
    }
}

#[test]
fn promtool_finds_nothing_wrong() {
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut promtool = match promtool {
        Ok(promtool) => promtool,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            eprintln!("NOT CHECKED by promtool: it is not installed");
            return;
        }
        Err(error) => panic!("promtool cannot be run: {error}"),
    };
    promtool.stdin.take().unwrap().write_all(rendered().as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{said}");
}
