//! `accrual generate`: a shop's traffic, to Kafka as its systems would send it, or to a file.

pub mod sink;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::bail;
use jiff::{Span, SpanRelativeTo, Timestamp};

use self::sink::{KafkaSink, Property, Sink, Target};
use super::progress::{Progress, a_second, grouped};
use crate::traffic::{Nature, ShopTopic, Traffic, TrafficSettings};

/// What `accrual generate` is told.
#[derive(Clone, Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("to").required(true).args(["bootstrap_servers", "file"]))]
pub struct GenerateArgs {
    /// Sends to these brokers (host:port, separated by commas), keyed by member.
    #[arg(long, value_name = "HOST:PORT")]
    bootstrap_servers: Option<String>,
    /// Writes to this file instead, one event a line; `-` is the standard output.
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// All into this topic, instead of shop.orders, shop.sign-ins, shop.reviews, shop.shares and
    /// shop.members by type.
    #[arg(long, conflicts_with = "file")]
    topic: Option<String>,
    /// Makes topics that are missing.
    #[arg(long, conflicts_with = "file")]
    create_topics: bool,
    /// Partitions of the topics that are made.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(i32).range(1..))]
    partitions: i32,
    /// Any property of librdkafka, such as `client.id=shop`; a secret from a file: `sasl.password=@FILE`. May be
    /// repeated.
    #[arg(short = 'X', long = "property", value_name = "NAME=VALUE", conflicts_with = "file")]
    properties: Vec<Property>,
    /// How many records, repeats and broken ones among them.
    #[arg(long, short = 'n', default_value_t = 100_000)]
    events: u64,
    /// How many members. A fifth of them registers on the way.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    members: u64,
    /// The share of events that the hottest hundredth of the members has, 0 to 1.
    #[arg(long, default_value = "0.2", value_parser = share)]
    hot_share: f64,
    /// The share of records that repeat an earlier one, 0 to 0.5: most byte for byte, some orders and
    /// reviews under another event id.
    #[arg(long, default_value = "0.01", value_parser = at_most_half)]
    duplicates: f64,
    /// The share of records that cannot be counted, 0 to 1: not JSON, without a member, with a negative amount …
    #[arg(long, default_value = "0.001", value_parser = share)]
    broken: f64,
    /// The same settings and the same seed give the same records. Without it they are new ones each time.
    #[arg(long)]
    seed: Option<u64>,
    /// Sends so many a second, evenly, instead of as many as there can be.
    #[arg(long, value_name = "EVENTS/S", value_parser = rate)]
    rate: Option<f64>,
    /// Everything happens now, instead of spread over --over. With --rate an event's time is the moment
    /// when it was due, so that a wait to be sent counts as latency.
    #[arg(long)]
    live: bool,
    /// When the first event happens.
    #[arg(long, default_value = "2026-01-01T00:00:00Z", conflicts_with = "live")]
    start: Timestamp,
    /// How long it takes for all of them to happen.
    #[arg(long, default_value = "30d", value_parser = duration, conflicts_with = "live")]
    over: Duration,
    /// The ISO 4217 code of all amounts.
    #[arg(long, default_value = "CNY", value_parser = currency)]
    currency: String,
    /// Nothing but orders.
    #[arg(long)]
    orders_only: bool,
}

/// Generates.
///
/// # Errors
/// Where the target cannot be written to.
pub fn generate(args: &GenerateArgs) -> anyhow::Result<()> {
    let mut sink = open(args)?;
    let seed = args.seed.unwrap_or_else(|| u64::try_from(now().as_nanos()).unwrap_or_default());
    let mut traffic = Traffic::new(TrafficSettings {
        seed,
        members: args.members,
        hot_share: args.hot_share,
        duplicates: args.duplicates,
        broken: args.broken,
        orders_only: args.orders_only,
        currency: args.currency.clone(),
    });
    let time =
        if args.live { EventTime::Live } else { EventTime::spread(args.start, args.over, args.events) };
    let mut pace = Pace::new(args.rate, time);
    let progress = Progress::new(args.events);
    let (mut repeats, mut broken) = (0_u64, 0_u64);
    for number in 0..args.events {
        let at_ms = pace.wait_for(number, &mut sink)?;
        let sent = traffic.next(at_ms);
        match sent.nature {
            Nature::Fresh => {}
            Nature::Repeat => repeats += 1,
            Nature::Broken => broken += 1,
        }
        if !sink.send(&sent)? {
            // Whoever reads it has seen enough.
            return Ok(());
        }
        progress.set(number + 1);
    }
    let to = sink.to_string();
    sink.finish()?;
    let took = pace.began.elapsed();
    progress.finish();
    eprintln!(
        "{} records ({} repeats, {} broken) to {to} in {:.1} s, {} a second; seed {seed}",
        grouped(args.events),
        grouped(repeats),
        grouped(broken),
        took.as_secs_f64(),
        a_second(args.events, took),
    );
    Ok(())
}

fn open(args: &GenerateArgs) -> anyhow::Result<Sink> {
    if let Some(path) = &args.file {
        if path.as_os_str() == "-" && std::io::stdout().is_terminal() && args.events > 1_000 {
            bail!(
                "{} lines to a terminal; redirect the output or ask for fewer --events",
                grouped(args.events)
            );
        }
        return Sink::file(path);
    }
    let Some(brokers) = &args.bootstrap_servers else {
        bail!("say where to: --bootstrap-servers HOST:PORT, or --file PATH");
    };
    let target = Target {
        brokers: brokers.clone(),
        properties: args.properties.clone(),
        topic: args.topic.clone(),
        // Requests of one event each would keep the broker busier than the worker does.
        linger_ms: if args.live { 10 } else { 20 },
    };
    let topics: &[ShopTopic] = if args.orders_only { &[ShopTopic::Orders] } else { &ShopTopic::ALL };
    let partitions = args.create_topics.then_some(args.partitions);
    target.ensure_topics(topics, partitions)?;
    Ok(Sink::Kafka(KafkaSink::open(&target)?))
}

/// When events happen.
#[derive(Clone, Copy, Debug)]
enum EventTime {
    Live,
    Spread { start_ms: i64, step_ns: u64 },
}

impl EventTime {
    fn spread(start: Timestamp, over: Duration, events: u64) -> Self {
        let step_ns = u64::try_from(over.as_nanos()).unwrap_or(u64::MAX) / events.max(1);
        EventTime::Spread { start_ms: start.as_millisecond(), step_ns }
    }
}

/// Decides when a record is sent and when it happened.
#[derive(Debug)]
struct Pace {
    began: Instant,
    began_at: Duration,
    rate: Option<f64>,
    time: EventTime,
}

impl Pace {
    fn new(rate: Option<f64>, time: EventTime) -> Self {
        Self { began: Instant::now(), began_at: now(), rate, time }
    }

    /// Waits until the record is due, and says when it happened (milliseconds since 1970).
    fn wait_for(&mut self, number: u64, sink: &mut Sink) -> anyhow::Result<i64> {
        let due = self.rate.map(|rate| Duration::from_secs_f64(number as f64 / rate));
        if let Some(due) = due {
            // Some at a time: no clock of the system wakes 50,000 times a second.
            while let Some(wait) = due.checked_sub(self.began.elapsed()).filter(|wait| !wait.is_zero()) {
                sink.idle()?;
                std::thread::sleep(wait.clamp(Duration::from_millis(1), Duration::from_millis(50)));
            }
        }
        Ok(match self.time {
            EventTime::Live => millis(due.map_or_else(now, |due| self.began_at + due)),
            EventTime::Spread { start_ms, step_ns } => {
                let since = i64::try_from(u128::from(number) * u128::from(step_ns) / 1_000_000);
                start_ms.saturating_add(since.unwrap_or(i64::MAX))
            }
        })
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn millis(since_1970: Duration) -> i64 {
    i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX)
}

fn share(text: &str) -> Result<f64, String> {
    within(text, 1.0)
}

fn at_most_half(text: &str) -> Result<f64, String> {
    within(text, 0.5)
}

fn within(text: &str, most: f64) -> Result<f64, String> {
    let share = text.parse::<f64>().ok().filter(|share| (0.0..=most).contains(share));
    share.ok_or_else(|| format!("expected a share from 0 to {most}, such as 0.01"))
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().ok().filter(|rate| (0.01..=1e9).contains(rate));
    rate.ok_or_else(|| "expected a number of events a second, such as 5000".to_owned())
}

fn currency(text: &str) -> Result<String, String> {
    let is_code = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_uppercase());
    if is_code { Ok(text.to_owned()) } else { Err("expected an ISO 4217 code such as CNY".to_owned()) }
}

fn duration(text: &str) -> Result<Duration, String> {
    let parse = || {
        let span: Span = text.parse()?;
        let length = span.to_duration(SpanRelativeTo::days_are_24_hours())?;
        Duration::try_from(length)
    };
    parse().map_err(|_: jiff::Error| "expected a duration such as 30d or 12h".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: GenerateArgs,
    }

    fn args(line: &str) -> Result<GenerateArgs, String> {
        let words = std::iter::once("generate").chain(line.split_whitespace());
        Line::try_parse_from(words).map(|line| line.args).map_err(|error| error.to_string())
    }

    #[test]
    fn a_target_must_be_named_and_shares_must_be_shares() {
        assert!(args("").unwrap_err().contains("--bootstrap-servers"));
        assert!(args("--file x --topic t").unwrap_err().contains("cannot be used with"));
        assert!(args("--file x --duplicates 0.6").unwrap_err().contains("from 0 to 0.5"));
        assert!(args("--file x --rate 0").unwrap_err().contains("events a second"));
        assert!(args("--file x --currency euro").unwrap_err().contains("ISO 4217"));
        assert!(args("--file x --live --over 2d").unwrap_err().contains("cannot be used with"));
        assert_eq!(args("--file x --over 2d12h").unwrap().over, Duration::from_hours(60));
    }

    #[test]
    fn the_same_seed_writes_the_same_file() {
        let folder = std::env::temp_dir().join(format!("accrual-generate-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let write = |name: &str| {
            let path = folder.join(name);
            let line = format!("--file {} -n 500 --members 50 --seed 3 --over 10d", path.display());
            generate(&args(&line).unwrap()).unwrap();
            std::fs::read_to_string(path).unwrap()
        };
        let (one, other) = (write("one"), write("other"));
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(one, other);
        assert_eq!(one.lines().count(), 500);
        assert!(one.contains("2026-01-01T00:00:00.000Z") && one.contains("2026-01-10T"));
    }

    #[test]
    fn events_that_are_spread_end_within_the_time_given() {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let time = EventTime::spread(start, Duration::from_hours(24), 1_000);
        let mut pace = Pace::new(None, time);
        let mut sink = Sink::none();
        assert_eq!(pace.wait_for(0, &mut sink).unwrap(), start.as_millisecond());
        assert_eq!(pace.wait_for(1_000, &mut sink).unwrap() - start.as_millisecond(), 86_400_000);
    }

    #[test]
    fn a_live_event_with_a_rate_happens_when_it_was_due() {
        let mut pace = Pace::new(Some(1_000.0), EventTime::Live);
        let mut sink = Sink::none();
        let first = pace.wait_for(0, &mut sink).unwrap();
        // The generator is late: the next events are due already.
        std::thread::sleep(Duration::from_millis(20));
        assert!((9..=11).contains(&(pace.wait_for(10, &mut sink).unwrap() - first)));
        let began = Instant::now();
        pace.wait_for(60, &mut sink).unwrap();
        assert!(began.elapsed() >= Duration::from_millis(20));
    }
}
