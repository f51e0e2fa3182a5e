//! The simulated world: lanes on threads of which one runs at a time, as the seed says.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use accrual::account::Retention;
use accrual::lane::status::LaneStatus;
use accrual::lane::{Lane, LaneError, LaneSettings, Outputs};
use accrual::log::LogError;
use accrual::log::memory::MemoryBroker;
use accrual::metrics::Metrics;
use accrual::programme::Programme;
use accrual::store::memory::MemoryStore;
use accrual::store::{StoreError, StoreSettings};
use accrual::types::{Buckets, TopicName, TopicPartition};

use super::faulty::{Action, FaultyLog, FaultyStore, Gate, Signal};
use super::rng::Rng;
use super::traffic::{self, Sent};

/// How often each fault comes, in a thousand calls.
#[derive(Clone, Default)]
pub struct Faults {
    pub crash: u32,
    pub rebalance: u32,
    /// A lane stands still while the group goes on without it.
    pub zombie: u32,
    pub lost_reply: u32,
    /// After all is processed the group is rewound to the start, and once more beyond the window.
    pub rewind: bool,
}

impl Faults {
    pub fn any(&self) -> bool {
        self.crash + self.rebalance + self.zombie + self.lost_reply > 0
    }
}

pub struct World {
    pub broker: MemoryBroker,
    pub store: MemoryStore,
    pub sent: Vec<Sent>,
    pub trace: Vec<String>,
    pub steps: usize,
    pub faults_met: usize,
    rng: Rng,
    faults: Faults,
    settings: LaneSettings,
    metrics: Metrics,
    lanes: BTreeMap<usize, Running>,
    signals: Line,
}

/// What lanes tell the scheduler, each with its number.
type Line = (Sender<(usize, Signal)>, Receiver<(usize, Signal)>);

struct Running {
    actions: Sender<Action>,
    status: Arc<LaneStatus>,
    member: u64,
    thread: JoinHandle<()>,
    /// The call it waits to make.
    waits: &'static str,
    /// Empty polls in a row.
    idle: u32,
    /// Steps that it stands still.
    frozen: u32,
}

pub const LANES: usize = 2;
const WINDOW: Duration = Duration::from_hours(1);

pub fn inputs() -> TopicName {
    "orders".into()
}

pub fn outputs() -> Outputs {
    Outputs {
        awards: "awards".into(),
        tier_changes: "tier-changes".into(),
        accounts: "accounts".into(),
        dead_letters: "dead-letters".into(),
    }
}

/// One whose points do not depend on the order of events, so that the auditor can say them exactly.
const PROGRAMME: &str = "
programme: simulated
timezone: UTC
currency: EUR
tiers:
  window: lifetime
  levels: [{id: basic, from: 0}, {id: silver, from: 500}]
rules:
  - {id: purchase, on: order.paid, earn: {points: 1, per: 1.00}}
  - {id: sign-in, on: member.signed_in, earn: {points: 5}, limit: {times: 1, per: day}}
";

impl World {
    pub fn new(seed: u64, faults: Faults) -> Self {
        let mut rng = Rng::new(seed);
        let partitions = 1 + rng.below(4);
        let broker = MemoryBroker::new(&inputs(), partitions as i32);
        let records = 20 + rng.below(60);
        let sent = traffic::generate(&mut rng, records);
        for record in &sent {
            // Any partition: upstream keys its topics as it likes.
            let partition = TopicPartition { topic: inputs(), partition: rng.below(partitions) as i32 };
            broker.produce(&partition, None, record.payload.clone().into_bytes());
        }
        let programme = Arc::new(Programme::parse("programme", PROGRAMME).unwrap());
        let buckets = 1 + rng.below(3) as u16;
        let settings = LaneSettings {
            outputs: outputs(),
            buckets: Buckets(buckets),
            retention: Retention { history: 3, months: 0, days: 30 },
            max_events: 1 + rng.below(8),
            max_wait: Duration::ZERO,
            max_record_bytes: 10_000,
            cached_accounts: 1 + rng.below(4),
            sleep: |_| {},
            programme: programme.clone(),
        };
        Self {
            broker,
            store: MemoryStore::new(StoreSettings { buckets, dedupe_window: WINDOW }),
            sent,
            trace: Vec::new(),
            steps: 0,
            faults_met: 0,
            metrics: Metrics::new(&programme).expect("series are named once"),
            rng,
            faults,
            settings,
            lanes: BTreeMap::new(),
            signals: channel(),
        }
    }

    pub fn run(&mut self) {
        for lane in 0..LANES {
            self.start(lane);
        }
        self.work_off();
        if self.faults.rewind {
            for beyond_the_window in [false, true] {
                self.stop();
                if beyond_the_window {
                    self.store.advance(WINDOW * 3);
                }
                self.trace.push("the group is rewound to the start".to_owned());
                self.broker.reset_offsets(0);
                for lane in 0..LANES {
                    self.start(lane);
                }
                self.work_off();
            }
        }
        self.stop();
    }

    /// Schedules until every lane has been idle for a while.
    fn work_off(&mut self) {
        // Faults end after a while, as they do, so that the work gets done.
        let faulty_until = self.steps + 600;
        while self.lag() > 0 || self.lanes.values().any(|lane| lane.idle < 3 || lane.frozen > 0) {
            assert!(self.steps < 100_000, "the lanes never finish:\n{}", self.trace.join("\n"));
            let ready: Vec<usize> =
                self.lanes.iter().filter(|(_, lane)| lane.frozen == 0).map(|(lane, _)| *lane).collect();
            for lane in self.lanes.values_mut() {
                lane.frozen = lane.frozen.saturating_sub(1);
            }
            if ready.is_empty() {
                continue;
            }
            let lane = ready[self.rng.below(ready.len())];
            self.step(lane, self.steps < faulty_until);
        }
    }

    fn lag(&self) -> i64 {
        let committed = self.broker.committed();
        let ends = self.broker.ends(&inputs());
        ends.iter().map(|(partition, end)| end - committed.get(partition).copied().unwrap_or_default()).sum()
    }

    fn step(&mut self, lane: usize, faulty: bool) {
        self.steps += 1;
        let call = self.lanes[&lane].waits;
        let mut action = Action::Proceed;
        if faulty {
            if self.rng.chance(self.faults.crash) {
                action = if self.rng.chance(500) { Action::CrashBefore } else { Action::CrashAfter };
            } else if self.rng.chance(self.faults.lost_reply) {
                action = if self.rng.chance(500) { Action::LoseReply } else { Action::Fail };
            }
            if self.rng.chance(self.faults.rebalance) {
                self.trace.push("  the group is rebalanced".to_owned());
                self.faults_met += 1;
                self.broker.rebalance(&inputs());
            }
            if self.rng.chance(self.faults.zombie) {
                self.trace.push(format!("  lane {lane} stands still and is given up by the group"));
                self.faults_met += 1;
                let member = self.lanes[&lane].member;
                self.broker.remove_member(&inputs(), member);
                self.lanes.get_mut(&lane).expect("it runs").frozen = 1 + self.rng.below(60) as u32;
                // What it left open would block others for the transaction's time-out.
                if self.rng.chance(500) {
                    self.broker.time_out_transactions();
                }
                return;
            }
        }
        if action != Action::Proceed {
            self.faults_met += 1;
        }
        self.trace.push(format!("lane {lane} {call}: {action:?}"));
        self.lanes[&lane].actions.send(action).expect("the lane waits");
        self.listen(lane);
    }

    /// Waits until the lane is at its next call or has ended; a crashed one is started again.
    fn listen(&mut self, lane: usize) {
        loop {
            let (from, signal) = self.signals.1.recv().expect("lanes hold the line");
            assert_eq!(from, lane, "only one lane runs at a time");
            let running = self.lanes.get_mut(&lane).expect("it runs");
            match signal {
                Signal::Idle => running.idle += 2,
                Signal::Calls(call) => {
                    if call != "poll" {
                        running.idle = 0;
                    }
                    running.waits = call;
                    return;
                }
                Signal::Ended { crashed } => {
                    let ended = self.lanes.remove(&lane).expect("it ran");
                    ended.thread.join().expect("a lane does not panic");
                    if crashed {
                        self.broker.remove_member(&inputs(), ended.member);
                        self.start(lane);
                    }
                    return;
                }
            }
        }
    }

    fn start(&mut self, lane: usize) {
        let (actions, receiver) = channel();
        let status = Arc::new(LaneStatus::new(format!("{lane}")));
        let log = self.broker.connect(&inputs(), &format!("lane-{lane}"));
        let member = log.member;
        let gate = Gate { lane, signals: self.signals.0.clone(), actions: receiver };
        let (store, settings, metrics) = (self.store.clone(), self.settings.clone(), self.metrics.clone());
        let held = status.clone();
        let thread = std::thread::spawn(move || {
            let (signals, gate) = (gate.signals.clone(), Rc::new(gate));
            let log = FaultyLog { inner: log, gate: gate.clone() };
            let store = FaultyStore { inner: store, gate };
            let ended = Lane::new(log, store, settings, metrics, held).run();
            let crashed = match ended {
                Ok(()) => false,
                Err(LaneError::Log(LogError::Crash) | LaneError::Store(StoreError::Crash)) => true,
                // A transaction that timed out while the lane stood still fenced its producer: the worker
                // ends with an error, and whoever runs it starts it again.
                Err(LaneError::Log(LogError::Fenced(_))) => true,
                Err(error) => panic!("lane {lane} ended: {error}"),
            };
            signals.send((lane, Signal::Ended { crashed })).expect("the scheduler listens");
        });
        self.lanes.insert(lane, Running { actions, status, member, thread, waits: "", idle: 0, frozen: 0 });
        self.listen(lane);
    }

    /// Tells the lanes to stop and lets each finish.
    fn stop(&mut self) {
        while let Some((&lane, running)) = self.lanes.iter().next() {
            running.status.stop();
            running.actions.send(Action::Proceed).expect("the lane waits");
            self.listen(lane);
        }
    }
}
