//! Every series that the worker exposes, declared in this one place. `tests/fixtures/metrics.txt`
//! lists them, so that a renamed series is a reviewed change.

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use crate::event::Reason;
use crate::programme::{Programme, Versions};

/// The worker's series, with the registry that renders them.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    /// Events by type and by what became of them.
    pub events: IntCounterVec,
    /// Points by rule or tier and by kind.
    pub points: IntCounterVec,
    /// Rewards that were given, by rule and by reward.
    pub rewards: IntCounterVec,
    /// Tier changes by from and to.
    pub tier_changes: IntCounterVec,
    /// Events that upstream repeated, by what told: the event id or a business key.
    pub duplicates: IntCounterVec,
    /// Dead letters by reason.
    pub dead_letters: IntCounterVec,
    /// 1 while a lane takes no input because of a flood of dead letters.
    pub input_stopped: IntGaugeVec,
    /// The worker's build and programme, a series for each version.
    pub build: IntGaugeVec,
    /// Whether the programme's file was changed and cannot be taken up.
    pub programme_wrong: IntGauge,
    /// Conditions that could not be evaluated, by rule or campaign.
    pub condition_failures: IntCounterVec,
    /// Records between the lane and the `read_committed` end of its partitions.
    pub lag: IntGaugeVec,
    /// Records a batch.
    pub batch_events: Histogram,
    /// Seconds a batch spends in each step.
    pub step_seconds: HistogramVec,
    /// Seconds from an event's publication to its award's commit.
    pub end_to_end_seconds: Histogram,
    /// Buckets whose commit was refused and decided again.
    pub store_conflicts: IntCounter,
    /// How often a store was looked through for what it lacks.
    pub store_repairs: IntCounter,
    /// What a store lacked and was restored.
    pub store_restored: IntCounterVec,
    /// Transactions by outcome.
    pub transactions: IntCounterVec,
    /// Rebalances by what came of them.
    pub rebalances: IntCounterVec,
    /// Accounts in a lane's cache.
    pub accounts_cached: IntGaugeVec,
    /// Partitions that a lane owns.
    pub partitions: IntGaugeVec,
    /// Points of a campaign's budget that were free when the worker last asked.
    pub budget_free: IntGaugeVec,
    /// 1 while a dependency answers.
    pub dependency_up: IntGaugeVec,
    /// HTTP requests by route and status.
    pub http_requests: IntCounterVec,
    /// Seconds that an HTTP request took, by route.
    pub http_request_seconds: HistogramVec,
    /// Whether a file of tokens was changed and cannot be taken up.
    pub http_tokens_wrong: IntGauge,
    /// Whether a file with what the worker logs in to Kafka with was changed and cannot be taken up.
    pub kafka_credentials_wrong: IntGauge,
}

/// What became of an event, as the `result` label says it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EventResult {
    /// Decided and counted.
    Applied,
    /// Counted before: upstream repeated it.
    Duplicate,
    /// Counted before: the worker read it again after a restart or a rewind.
    Replayed,
    /// Of a type that the programme does not name.
    Skipped,
    /// Sent to the dead letters.
    DeadLetter,
}

impl EventResult {
    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            EventResult::Applied => "applied",
            EventResult::Duplicate => "duplicate",
            EventResult::Replayed => "replayed",
            EventResult::Skipped => "skipped",
            EventResult::DeadLetter => "dead_letter",
        }
    }
}

/// The steps of a batch, as the `step` label says them.
pub const STEPS: [&str; 6] = ["poll", "decode", "load", "decide", "commit", "publish"];

/// The outcomes of a transaction, as the `outcome` label says them.
pub const OUTCOMES: [&str; 3] = ["committed", "aborted", "producer_replaced"];

impl Metrics {
    /// Declares every series. Those whose labels are known beforehand start at zero, so that a rate or
    /// an alert works from the first event on.
    ///
    /// # Errors
    /// Where two series have one name: a mistake in this file.
    pub fn new(versions: &Versions) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counters.clone()))?;
            Ok::<_, prometheus::Error>(counters)
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            let gauges = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(gauges.clone()))?;
            Ok::<_, prometheus::Error>(gauges)
        };
        let histogram = |name: &str, help: &str, buckets: Vec<f64>| {
            let histogram = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))?;
            registry.register(Box::new(histogram.clone()))?;
            Ok::<_, prometheus::Error>(histogram)
        };
        let step_seconds = HistogramVec::new(
            HistogramOpts::new("accrual_step_seconds", "Seconds that a batch spends in each step.")
                .buckets(prometheus::exponential_buckets(0.000_25, 2.0, 16)?),
            &["step"],
        )?;
        registry.register(Box::new(step_seconds.clone()))?;
        let http_request_seconds = HistogramVec::new(
            HistogramOpts::new(
                "accrual_http_request_seconds",
                "Seconds that an HTTP request took, by route.",
            )
            .buckets(vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]),
            &["route"],
        )?;
        registry.register(Box::new(http_request_seconds.clone()))?;
        let store_conflicts = IntCounter::new(
            "accrual_store_conflicts_total",
            "Buckets whose commit was refused, because an account had changed or an event was known, and that were decided again.",
        )?;
        registry.register(Box::new(store_conflicts.clone()))?;
        let store_repairs = IntCounter::new(
            "accrual_store_repairs_total",
            "How often Redis was another than before and was looked through for what it lacks.",
        )?;
        registry.register(Box::new(store_repairs.clone()))?;
        let metrics = Self {
            events: counters(
                "accrual_events_total",
                "Events by type and by what became of them.",
                &["type", "result"],
            )?,
            points: counters(
                "accrual_points_total",
                "Points by what paid (by: rule, streak, tier or campaign; rule: its name) and by kind of entry.",
                &["by", "rule", "kind"],
            )?,
            rewards: counters(
                "accrual_rewards_total",
                "Rewards of the catalogue that were given, by rule and by reward.",
                &["rule", "reward"],
            )?,
            tier_changes: counters("accrual_tier_changes_total", "Tier changes.", &["from", "to"])?,
            duplicates: counters(
                "accrual_duplicates_total",
                "Events that upstream repeated, by what told: event_id or business_key.",
                &["by"],
            )?,
            dead_letters: counters("accrual_dead_letters_total", "Dead letters by reason.", &["reason"])?,
            input_stopped: gauges(
                "accrual_input_stopped",
                "1 while a lane takes no input, because too many of its events were dead letters.",
                &["lane"],
            )?,
            condition_failures: counters(
                "accrual_condition_failures_total",
                "Conditions that could not be evaluated on an event, and so did not hold, by rule or campaign.",
                &["rule"],
            )?,
            lag: gauges(
                "accrual_consumer_lag_records",
                "Records between what is processed and the read_committed end of a partition.",
                &["topic", "partition"],
            )?,
            batch_events: histogram(
                "accrual_batch_events",
                "Records a batch.",
                prometheus::exponential_buckets(1.0, 4.0, 9)?,
            )?,
            step_seconds,
            end_to_end_seconds: histogram(
                "accrual_end_to_end_seconds",
                "Seconds from an event's publication to the commit of its award.",
                vec![
                    0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0,
                    10.0, 30.0, 60.0, 300.0,
                ],
            )?,
            store_conflicts,
            store_repairs,
            store_restored: counters(
                "accrual_store_restored_total",
                "Accounts and events' receipts that Redis had lost and that were restored from what was published.",
                &["what"],
            )?,
            transactions: counters(
                "accrual_transactions_total",
                "Kafka transactions by outcome.",
                &["outcome"],
            )?,
            rebalances: counters("accrual_rebalances_total", "Assignments that a lane received.", &["lane"])?,
            accounts_cached: gauges("accrual_accounts_cached", "Accounts in a lane's cache.", &["lane"])?,
            partitions: gauges("accrual_assigned_partitions", "Partitions that a lane owns.", &["lane"])?,
            budget_free: gauges(
                "accrual_budget_free_points",
                "Points of a campaign's budget that were neither spent nor leased by a lane when this worker last leased some.",
                &["campaign"],
            )?,
            dependency_up: gauges(
                "accrual_dependency_up",
                "1 while the dependency (kafka, redis) answers a lane, else 0.",
                &["dependency", "lane"],
            )?,
            http_requests: counters(
                "accrual_http_requests_total",
                "HTTP requests by route (other: there is nothing at that path) and status.",
                &["route", "status"],
            )?,
            http_request_seconds,
            http_tokens_wrong: IntGauge::new(
                "accrual_http_tokens_wrong",
                "1 while a file of tokens was changed and cannot be taken up, so that the tokens from before hold on.",
            )?,
            kafka_credentials_wrong: IntGauge::new(
                "accrual_kafka_credentials_wrong",
                "1 while a file with a password or certificate for Kafka was changed and does not log in, so that the ones from before go on.",
            )?,
            build: gauges(
                "accrual_build_info",
                "The worker's build and programme, a series for each version of the programme that it has.",
                &["version", "programme", "programme_version"],
            )?,
            programme_wrong: IntGauge::new(
                "accrual_programme_wrong",
                "1 while the programme's file was changed and cannot be taken up, so that the version before it goes on.",
            )?,
            registry: registry.clone(),
        };
        registry.register(Box::new(metrics.programme_wrong.clone()))?;
        registry.register(Box::new(metrics.http_tokens_wrong.clone()))?;
        registry.register(Box::new(metrics.kafka_credentials_wrong.clone()))?;
        registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        metrics.takes_up(versions);
        Ok(metrics)
    }

    /// Has the series tell of these versions of the programme.
    pub fn takes_up(&self, versions: &Versions) {
        self.build.reset();
        for programme in versions.iter() {
            self.build
                .with_label_values(&[env!("CARGO_PKG_VERSION"), &programme.name, &programme.version])
                .set(1);
            self.start_at_zero(programme);
        }
        self.programme_wrong.set(0);
    }

    fn start_at_zero(&self, programme: &Programme) {
        for reason in Reason::ALL {
            self.dead_letters.with_label_values(&[reason.as_str()]);
        }
        for step in STEPS {
            self.step_seconds.with_label_values(&[step]);
        }
        for outcome in OUTCOMES {
            self.transactions.with_label_values(&[outcome]);
        }
        for by in ["event_id", "business_key"] {
            self.duplicates.with_label_values(&[by]);
        }
        for kind in programme.by_type.keys() {
            for result in [EventResult::Applied, EventResult::Duplicate] {
                self.events.with_label_values(&[kind.as_str(), result.as_str()]);
            }
        }
        for rule in &programme.rules {
            for kind in ["earned", "declined"] {
                self.points.with_label_values(&["rule", rule.id.as_str(), kind]);
            }
            if let Some(reward) = &rule.give {
                self.rewards.with_label_values(&[rule.id.as_str(), reward.id.as_str()]);
            }
            self.condition_failures.with_label_values(&[rule.id.as_str()]);
        }
        for campaign in &programme.campaigns {
            for kind in ["earned", "declined"] {
                self.points.with_label_values(&["campaign", campaign.id.as_str(), kind]);
            }
            self.condition_failures.with_label_values(&[campaign.id.as_str()]);
        }
        for pair in programme.tiers.iter().flat_map(|tiers| tiers.levels.windows(2)) {
            if let [from, to] = pair {
                self.tier_changes.with_label_values(&[from.id.as_str(), to.id.as_str()]);
            }
        }
    }

    /// All series in Prometheus' text format.
    ///
    /// # Errors
    /// Where a series cannot be rendered: a mistake in this file.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}
