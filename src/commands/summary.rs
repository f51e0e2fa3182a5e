//! What a worker has done, read from its own metrics and shown as tables.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};
use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{Histogram, IntCounterVec};

use super::progress::grouped;
use crate::event::internal;
use crate::metrics::{EventResult, Metrics};
use crate::programme::Programme;

/// What a worker has done since it started.
#[derive(Clone, PartialEq, Debug)]
pub struct Summary {
    /// Events by type, and in it by result as the metrics name it.
    pub events: BTreeMap<String, BTreeMap<String, u64>>,
    /// Points by what paid: rules and then tiers, in the order of the programme.
    pub points: Vec<PointsOf>,
    /// Duplicates by what told them.
    pub duplicates: BTreeMap<String, u64>,
    /// Dead letters by reason.
    pub dead_letters: BTreeMap<String, u64>,
    /// Seconds from an event's publication to its award's commit: the median and the 99th percentile.
    /// Nothing where no event was awarded.
    pub latency: Option<[Quantile; 2]>,
}

/// What a rule or tier has paid.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PointsOf {
    /// The rule or tier.
    pub name: String,
    /// Points that came.
    pub earned: u64,
    /// Points that did not.
    pub declined: u64,
}

/// A quantile, as well as a histogram knows it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Quantile {
    /// About so many seconds.
    About(f64),
    /// More than the highest bound that the histogram has.
    Over(f64),
}

impl fmt::Display for Quantile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |seconds: f64| {
            if seconds < 1.0 { format!("{:.0} ms", seconds * 1_000.0) } else { format!("{seconds:.1} s") }
        };
        match self {
            Quantile::About(value) => f.write_str(&seconds(*value)),
            Quantile::Over(bound) => write!(f, "over {}", seconds(*bound)),
        }
    }
}

/// Records that lanes are done with, whatever became of them.
pub fn processed(metrics: &Metrics) -> u64 {
    metrics
        .events
        .collect()
        .iter()
        .flat_map(MetricFamily::get_metric)
        .map(|metric| whole(metric.get_counter().get_value()))
        .sum()
}

impl Summary {
    /// What the metrics say now.
    pub fn of(metrics: &Metrics, programme: &Programme) -> Self {
        let mut events: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
        for ([kind, result], number) in counts(&metrics.events, ["type", "result"]) {
            if number > 0 {
                *events.entry(kind).or_default().entry(result).or_default() += number;
            }
        }
        let paid = counts(&metrics.points, ["by", "rule", "kind"]);
        let points_of = |by: &str, name: &str| {
            let key = |kind: &str| [by, name, kind].map(str::to_owned);
            let sum = |kind: &str| paid.get(&key(kind)).copied().unwrap_or_default();
            let name = if by == "rule" { name.to_owned() } else { format!("{by} {name}") };
            PointsOf { name, earned: sum("earned"), declined: sum("declined") }
        };
        let rules = programme.rules.iter().map(|rule| points_of("rule", rule.id.as_str()));
        let streaks = programme.rules.iter().map(|rule| points_of("streak", rule.id.as_str()));
        let levels = programme.tiers.iter().flat_map(|tiers| &tiers.levels);
        let tiers = levels.map(|level| points_of("tier", level.id.as_str()));
        let campaigns =
            programme.campaigns.iter().map(|campaign| points_of("campaign", campaign.id.as_str()));
        // What a rule never paid is worth knowing; of the others there may be many.
        let others = streaks.chain(tiers).chain(campaigns).filter(|of| of.earned + of.declined > 0);
        Self {
            events,
            points: rules.chain(others).collect(),
            duplicates: above_zero(counts(&metrics.duplicates, ["by"])),
            dead_letters: above_zero(counts(&metrics.dead_letters, ["reason"])),
            latency: quantile(&metrics.end_to_end_seconds, 0.5)
                .zip(quantile(&metrics.end_to_end_seconds, 0.99))
                .map(Into::into),
        }
    }

    /// How many events that upstream sent had this result; what accrual told itself is not among them.
    pub fn with(&self, result: EventResult) -> u64 {
        let of_upstream = self.events.iter().filter(|(kind, _)| !internal::is_reserved(kind));
        of_upstream.filter_map(|(_, results)| results.get(result.as_str())).sum()
    }

    /// All points that came.
    pub fn earned(&self) -> u64 {
        self.points.iter().map(|of| of.earned).sum()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let results = [
            EventResult::Applied,
            EventResult::Duplicate,
            EventResult::Replayed,
            EventResult::Skipped,
            EventResult::DeadLetter,
        ];
        let shown: Vec<EventResult> = results
            .into_iter()
            .filter(|result| *result == EventResult::Applied || self.with(*result) > 0)
            .collect();
        let mut header = vec!["events".to_owned()];
        header.extend(shown.iter().map(|result| result.as_str().replace('_', " ")));
        let mut events = table(&header);
        for (kind, numbers) in &self.events {
            let number = |result: &EventResult| numbers.get(result.as_str()).copied().unwrap_or_default();
            // Types that the programme does not name, and records whose type cannot be trusted.
            let name = if kind == "other" { "(other)" } else { kind };
            row(&mut events, name, shown.iter().map(number));
        }
        row(&mut events, "all", shown.iter().map(|result| self.with(*result)));
        writeln!(f, "{events}\n")?;

        let mut points = table(&["paid by".to_owned(), "points earned".to_owned(), "declined".to_owned()]);
        for of in &self.points {
            row(&mut points, &of.name, [of.earned, of.declined]);
        }
        row(&mut points, "all", [self.earned(), self.points.iter().map(|of| of.declined).sum()]);
        writeln!(f, "{points}\n")?;

        if !self.duplicates.is_empty() {
            writeln!(f, "duplicates dropped, told by: {}", list(&self.duplicates))?;
        }
        if !self.dead_letters.is_empty() {
            writeln!(f, "dead letters: {}", list(&self.dead_letters))?;
        }
        if let Some([median, high]) = self.latency {
            writeln!(f, "from an event's publication to its award's commit: p50 {median}, p99 {high}")?;
        }
        Ok(())
    }
}

/// No more lines than the one under the header.
const STYLE: TableStyle = TableStyle::new().header_separator(LineStyle::new('─', '─', '─', '─'));

/// A table with its first column for names and the others for numbers.
pub fn table(header: &[String]) -> Table {
    let mut table = Table::new();
    table.load_style(STYLE);
    table.set_header(header);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Adds a name and its numbers.
pub fn row(table: &mut Table, name: &str, numbers: impl IntoIterator<Item = u64>) {
    let mut cells = vec![name.to_owned()];
    cells.extend(numbers.into_iter().map(grouped));
    table.add_row(cells);
}

/// How long something took, in few digits.
pub fn shown(took: Duration) -> String {
    format!("{:.1} s", took.as_secs_f64())
}

fn list(numbers: &BTreeMap<String, u64>) -> String {
    let items: Vec<String> =
        numbers.iter().map(|(name, number)| format!("{name} {}", grouped(*number))).collect();
    items.join(", ")
}

fn above_zero(counts: BTreeMap<[String; 1], u64>) -> BTreeMap<String, u64> {
    counts.into_iter().filter(|(_, number)| *number > 0).map(|([name], number)| (name, number)).collect()
}

/// Every series of a counter by the values of these labels.
fn counts<const N: usize>(counters: &IntCounterVec, labels: [&str; N]) -> BTreeMap<[String; N], u64> {
    let mut found = BTreeMap::new();
    for metric in counters.collect().iter().flat_map(MetricFamily::get_metric) {
        let value = |label: &str| {
            let pair = metric.get_label().iter().find(|pair| pair.name() == label);
            pair.map(|pair| pair.value().to_owned()).unwrap_or_default()
        };
        found.insert(labels.map(value), whole(metric.get_counter().get_value()));
    }
    found
}

/// Prometheus hands out whole numbers as floats.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // not negative, and a count
fn whole(value: f64) -> u64 {
    value.max(0.0) as u64
}

/// The quantile by linear interpolation within a bucket, as Prometheus' `histogram_quantile` does it.
/// Nothing for an empty histogram.
fn quantile(histogram: &Histogram, wanted: f64) -> Option<Quantile> {
    let families = histogram.collect();
    let held = families.first()?.get_metric().first()?.get_histogram();
    let all = held.get_sample_count();
    if all == 0 {
        return None;
    }
    let rank = wanted * all as f64;
    let (mut lower, mut below) = (0.0, 0_u64);
    for bucket in held.get_bucket().iter().filter(|bucket| bucket.upper_bound().is_finite()) {
        let upto = bucket.cumulative_count();
        if upto as f64 >= rank && upto > below {
            let part = (rank - below as f64) / (upto - below) as f64;
            return Some(Quantile::About(lower + (bucket.upper_bound() - lower) * part.clamp(0.0, 1.0)));
        }
        (lower, below) = (bucket.upper_bound(), upto);
    }
    Some(Quantile::Over(lower))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::programme::Versions;
    use prometheus::HistogramOpts;

    fn histogram(seconds: &[f64]) -> Histogram {
        let opts = HistogramOpts::new("h", "h").buckets(vec![0.1, 0.2, 1.0]);
        let histogram = Histogram::with_opts(opts).unwrap();
        for second in seconds {
            histogram.observe(*second);
        }
        histogram
    }

    #[test]
    fn quantiles_are_interpolated_as_prometheus_does_it() {
        assert_eq!(quantile(&histogram(&[]), 0.5), None);
        let Some(Quantile::About(median)) = quantile(&histogram(&[0.15, 0.15, 0.15, 0.15]), 0.5) else {
            panic!()
        };
        assert!((median - 0.15).abs() < 1e-9);
        assert_eq!(quantile(&histogram(&[0.05, 5.0, 5.0]), 0.99), Some(Quantile::Over(1.0)));
        assert_eq!(Quantile::About(0.015).to_string(), "15 ms");
        assert_eq!(Quantile::Over(300.0).to_string(), "over 300.0 s");
    }

    #[test]
    fn the_summary_says_what_the_metrics_say() {
        let text = include_str!("../../examples/programme.yaml");
        let programme = Arc::new(Programme::parse("programme.yaml", text).unwrap());
        let metrics = Metrics::new(&Versions::only(programme.clone())).unwrap();
        metrics.events.with_label_values(&["order.paid", "applied"]).inc_by(1_200);
        metrics.events.with_label_values(&["order.paid", "duplicate"]).inc_by(3);
        metrics.events.with_label_values(&["other", "dead_letter"]).inc_by(2);
        metrics.points.with_label_values(&["rule", "purchase", "earned"]).inc_by(5_000);
        metrics.points.with_label_values(&["tier", "gold", "earned"]).inc_by(70);
        metrics.points.with_label_values(&["rule", "share", "declined"]).inc_by(8);
        metrics.duplicates.with_label_values(&["event_id"]).inc_by(3);
        metrics.dead_letters.with_label_values(&["not_json"]).inc_by(2);
        let summary = Summary::of(&metrics, &programme);
        assert_eq!(processed(&metrics), 1_205);
        assert_eq!((summary.with(EventResult::Applied), summary.earned()), (1_200, 5_070));
        let shown = summary.to_string();
        for part in
            ["order.paid", "1,200", "purchase", "5,000", "tier gold", "5,070", "event_id 3", "not_json 2"]
        {
            assert!(shown.contains(part), "{part} is missing in\n{shown}");
        }
        assert!(!shown.contains("silver") && !shown.contains("replayed"), "{shown}");
    }
}
