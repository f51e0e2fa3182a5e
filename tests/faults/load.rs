//! What upstream sends, for as long as it is let: orders, sign-ins and registrations, some of them repeated at once
//! or late, under another id, with another payload, broken, or of no concern.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::{ClientConfig, ClientContext};

use super::PATIENCE;
use super::rng::Rng;

/// Between two records: some three hundred a second.
const PAUSE: Duration = Duration::from_millis(3);
/// Of so many late records one may be repeated.
const REMEMBERED: usize = 3_000;

/// Upstream, which remembers what it sent.
pub struct Upstream {
    rng: Rng,
    next: u64,
    /// Orders that it sent: key and payload.
    orders: Vec<(String, String)>,
}

impl Upstream {
    pub fn new(seed: u64) -> Self {
        Self { rng: Rng::new(seed), next: 0, orders: Vec::new() }
    }

    /// The next record: its key and its payload.
    fn record(&mut self) -> (String, String) {
        self.next += 1;
        let number = self.next;
        let key = format!("k{}", self.rng.below(1_000));
        let member = format!("m{}", self.rng.below(150));
        match self.rng.below(100) {
            0..20 => (key, event("member.signed_in", &format!("s{number}"), &member, "")),
            20..25 => {
                let referrer = format!(r#","referrer_id":"r{}""#, self.rng.below(9));
                (key, event("member.registered", &format!("n{number}"), &format!("n{number}"), &referrer))
            }
            25..28 => (key, format!("{{\"cut\":{number}")),
            28..30 => (key, order(number, &member, "-1.00")),
            30..32 => (key, event("page.viewed", &format!("v{number}"), &member, "")),
            // The same again, in whatever partition.
            32..38 => match self.earlier() {
                Some((_, payload)) => (key, payload),
                None => self.record(),
            },
            // In the partition of the first, so that it comes second: under another id, or with another amount.
            38..41 => match self.earlier() {
                Some((key, payload)) => {
                    (key, payload.replace(r#""id":"o"#, &format!(r#""id":"again{number}-o"#)))
                }
                None => self.record(),
            },
            41..44 => match self.earlier() {
                Some((key, payload)) => (key, payload.replace(r#".25""#, r#".75""#)),
                None => self.record(),
            },
            _ => {
                let payload = order(number, &member, &format!("{}.25", 1 + self.rng.below(40)));
                if self.orders.len() == REMEMBERED {
                    let forgotten = self.rng.below(REMEMBERED);
                    self.orders.swap_remove(forgotten);
                }
                self.orders.push((key.clone(), payload.clone()));
                (key, payload)
            }
        }
    }

    fn earlier(&mut self) -> Option<(String, String)> {
        if self.orders.is_empty() {
            return None;
        }
        let at = self.rng.below(self.orders.len());
        Some(self.orders[at].clone())
    }
}

fn event(kind: &str, id: &str, member: &str, more: &str) -> String {
    format!(
        r#"{{"specversion":"1.0","id":"{id}","source":"shop","type":"{kind}","time":"2026-11-22T10:00:00Z","data":{{"member_id":"{member}"{more}}}}}"#
    )
}

fn order(number: u64, member: &str, amount: &str) -> String {
    let more = format!(r#","order_id":"o{number}","amount":"{amount}","currency":"USD""#);
    event("order.paid", &format!("o{number}"), member, &more)
}

/// A load that goes on until it is stopped.
pub struct Load {
    stop: Arc<AtomicBool>,
    deliveries: Arc<Deliveries>,
    thread: Option<JoinHandle<Upstream>>,
}

impl Load {
    pub fn start(mut config: ClientConfig, topic: String, mut upstream: Upstream) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let deliveries = Arc::new(Deliveries::default());
        let counted = Counted(deliveries.clone());
        // It tries as long as the brokers are away, and writes nothing twice.
        config.set("enable.idempotence", "true").set("message.timeout.ms", "0").set("linger.ms", "5");
        let thread = std::thread::spawn(move || {
            let producer: BaseProducer<Counted> = config.create_with_context(counted).unwrap();
            while !stopped.load(Ordering::Acquire) {
                let (key, payload) = upstream.record();
                let mut record = BaseRecord::to(&topic).key(&key).payload(&payload);
                while let Err((_, back)) = producer.send(record) {
                    producer.poll(Duration::from_millis(10));
                    record = back;
                }
                producer.poll(Duration::ZERO);
                std::thread::sleep(PAUSE);
            }
            producer.flush(PATIENCE).unwrap();
            upstream
        });
        Self { stop, deliveries, thread: Some(thread) }
    }

    /// How many records Kafka has taken so far.
    pub fn accepted(&self) -> u64 {
        self.deliveries.accepted.load(Ordering::Acquire)
    }

    /// Upstream, and how many records Kafka has taken.
    pub fn stop(mut self) -> (Upstream, u64) {
        self.stop.store(true, Ordering::Release);
        let upstream = self.thread.take().unwrap().join().unwrap();
        assert_eq!(self.deliveries.failed.load(Ordering::Acquire), 0, "records that Kafka did not take");
        (upstream, self.accepted())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

#[derive(Default)]
struct Deliveries {
    accepted: AtomicU64,
    failed: AtomicU64,
}

struct Counted(Arc<Deliveries>);

impl ClientContext for Counted {}

impl ProducerContext for Counted {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let counter = if result.is_ok() { &self.0.accepted } else { &self.0.failed };
        counter.fetch_add(1, Ordering::AcqRel);
    }
}
