//! The simulated world: lanes on threads of which one runs at a time, as the seed says.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use accrual::account::Retention;
use accrual::lane::budgets::LeaseTimes;
use accrual::lane::flood::FloodLimits;
use accrual::lane::status::LaneStatus;
use accrual::lane::{Lane, LaneError, LaneSettings};
use accrual::log::memory::MemoryBroker;
use accrual::log::{LogError, Position};
use accrual::metrics::Metrics;
use accrual::programme::current::Current;
use accrual::programme::{ProgrammeText, Versions};
use accrual::store::memory::{Dump, MemoryStore};
use accrual::store::{Store, StoreError, StoreSettings};
use accrual::types::{Buckets, Outputs, TopicName, TopicPartition};

use super::faulty::{Action, Ending, FaultyArchive, FaultyLog, FaultyStore, Gate, Signal};
use super::mutation::Mutation;
use super::rng::Rng;
use super::traffic::{self, LARGE, Meaning, Sent};

/// How often each fault comes, in a thousand calls.
#[derive(Clone, Debug)]
pub struct Faults {
    pub crash: u32,
    pub rebalance: u32,
    /// A lane stands still while the group goes on without it.
    pub zombie: u32,
    pub lost_reply: u32,
    /// Time passes, enough for a lease to come to its deadline after a few times.
    pub time: u32,
    /// The store loses its latest writes, or everything.
    pub loss: u32,
    /// A guard that is missing.
    pub mutation: Option<Mutation>,
    /// Upstream sends no more records than that.
    pub most_records: usize,
    /// After all is processed the group is rewound to the start, and once more beyond the window.
    pub rewind: bool,
    /// Every lane dies at once and an operator moves the offsets, back or forth, before the next start.
    pub moves: usize,
    /// Every lane dies at once and an operator skips some records, where it is known what was published before.
    pub skips: usize,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            crash: 0,
            rebalance: 0,
            zombie: 0,
            lost_reply: 0,
            time: 0,
            loss: 0,
            mutation: None,
            most_records: usize::MAX,
            rewind: false,
            moves: 0,
            skips: 0,
        }
    }
}

impl Faults {
    /// The same with one thing less, each in its turn.
    pub fn fewer(&self) -> Vec<Faults> {
        let without: [fn(&mut Faults) -> &mut u32; 6] = [
            |faults| &mut faults.crash,
            |faults| &mut faults.rebalance,
            |faults| &mut faults.zombie,
            |faults| &mut faults.lost_reply,
            |faults| &mut faults.time,
            |faults| &mut faults.loss,
        ];
        let mut fewer = Vec::new();
        for fault in without {
            let mut faults = self.clone();
            if std::mem::take(fault(&mut faults)) > 0 {
                fewer.push(faults);
            }
        }
        for records in [40, 20, 10, 5, 3, 2].into_iter().filter(|records| *records < self.most_records) {
            fewer.push(Faults { most_records: records, ..self.clone() });
        }
        fewer
    }

    pub fn any(&self) -> bool {
        self.crash + self.rebalance + self.zombie + self.lost_reply + self.loss > 0
            || self.moves + self.skips > 0
    }
}

pub struct World {
    pub broker: MemoryBroker,
    pub store: MemoryStore,
    pub sent: Vec<Sent>,
    pub trace: Vec<String>,
    pub steps: usize,
    pub faults_met: usize,
    pub lane_count: usize,
    /// Offsets of the batches that were published since an operator moved the offsets last.
    published: Vec<(TopicPartition, i64)>,
    /// Faults come up to this step.
    faulty_until: usize,
    /// What the store held some time ago, the latest last.
    dumps: Vec<Dump>,
    /// Nothing is lost any more.
    store_is_safe: bool,
    /// Of the campaign `gift`: of the first version, and of the second, which is no less.
    pub budgets: [i64; 2],
    /// The versions of the programme, as entries name them.
    pub versions: [String; 2],
    pub faults: Faults,
    rng: Rng,
    settings: LaneSettings,
    metrics: Metrics,
    lanes: BTreeMap<usize, Running>,
    signals: Line,
}

/// What a lane did after its call.
#[derive(PartialEq, Eq)]
enum Heard {
    /// It is at the next one.
    Call,
    /// It ended as it was told to.
    End,
    /// It is gone and may be started again.
    Crash,
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

/// Far more than any seed needs, with every fault.
const MOST_STEPS: usize = 20_000;
const WINDOW: Duration = Duration::from_hours(1);
/// 2026-11-01T12:00:00Z, when upstream's events begin.
const BEGINS: Duration = Duration::from_hours(498_204);
/// How long a lease of the budget lives.
pub const LEASE: Duration = Duration::from_secs(30);
/// What every order is given more, while the budget lasts.
pub const GIFT: i64 = 7;

pub fn inputs() -> TopicName {
    "orders".into()
}

pub fn outputs() -> Outputs {
    Outputs {
        awards: "awards".into(),
        tier_changes: "tier-changes".into(),
        accounts: "accounts".into(),
        dead_letters: "dead-letters".into(),
        internal: "internal".into(),
    }
}

/// One whose points do not depend on the order of events, so that the auditor can say them exactly; but for
/// the gift's budget, of which it can say how much all orders together are given.
const PROGRAMME: &str = "
programme: simulated
timezone: UTC
currency: EUR
tiers:
  window: lifetime
  levels: [{id: basic, from: 0}, {id: silver, from: 500}]
rules:
  - {id: purchase, on: order.paid, earn: {points: 1, per: 1.00}}
  - {id: sign-in, on: member.signed_in, earn: {points: SIGN_IN}, limit: {times: 1, per: day}, give: ten-off}
  - {id: survey, on: survey.completed, earn: {points: 40}, once_per: data.survey_id}
  - {id: badge, on: survey.completed, once_per: data.survey_id, give: badge}
  - {id: hello, on: member.registered, earn: {points: 10}}
  - {id: invite, on: member.registered, earn: {points: 50}, to: referrer}
  - {id: converted, on: member.registered, earn: {points: 30}, to: referrer, after: first_order}
  - {id: birthday-gift, on: member.birthday, earn: {points: 200}, give: ten-off}
";

const CATALOGUE: &str = "redemption:
  rewards: [{id: ten-off, kind: coupon, points: 900, worth: 10.00}, {id: badge, kind: goods, points: 50}]
";

/// The second version decides from this day of the month on; it alone names `page.viewed`, which is viewed before.
pub const SECOND_FROM: u32 = 3;
/// What a sign-in pays, by version.
pub const SIGN_IN: [i64; 2] = [5, 6];

fn programme(version: usize, budget: i64) -> ProgrammeText {
    let of_version = [
        String::new(),
        format!(
            "  - {{id: page, on: page.viewed, earn: {{points: 9}}}}\neffective_from: 2026-11-{SECOND_FROM:02}T00:00\n"
        ),
    ];
    let rules = PROGRAMME.replace("SIGN_IN", &SIGN_IN[version].to_string());
    let gift = format!(
        "{{id: gift, on: order.paid, when: data.amount < {LARGE}, add: {GIFT}, budget: {{points: {budget}}}}}"
    );
    let text = format!("{rules}{}campaigns: [{gift}]\n{CATALOGUE}", of_version[version]);
    ProgrammeText { name: format!("version {version}"), text }
}

impl World {
    pub fn new(seed: u64, faults: Faults) -> Self {
        let mut rng = Rng::new(seed);
        let partitions = 1 + rng.below(4);
        let broker = MemoryBroker::new(&[
            (inputs(), partitions as i32),
            (outputs().internal, 1 + rng.below(2) as i32),
        ]);
        let records = 20 + rng.below(60);
        let mut sent = traffic::generate(&mut rng, records);
        sent.truncate(faults.most_records);
        for record in &mut sent {
            // Any partition: upstream keys its topics as it likes.
            let partition = TopicPartition { topic: inputs(), partition: rng.below(partitions) as i32 };
            let offset = broker.produce(&partition, None, record.payload.clone().into_bytes());
            record.at = format!("{}/{offset}", partition.partition);
        }
        // Too little for all orders, or more than enough.
        let budget = 1 + rng.below(700) as i64;
        let budgets = [budget, budget + rng.below(200) as i64];
        let texts = [programme(1, budgets[1]), programme(0, budgets[0])];
        let versions = Arc::new(Versions::parse(&texts).unwrap());
        let names: Vec<String> = versions.iter().map(|version| version.version.clone()).collect();
        let buckets = 1 + rng.below(3) as u16;
        // What goes by the lane's own clock is at once or never, so that a seed does the same every time.
        let at_once_or_never = |at_once: bool| if at_once { Duration::ZERO } else { WINDOW };
        let (keep, pause) = (at_once_or_never(rng.chance(300)), at_once_or_never(rng.chance(700)));
        let leases = LeaseTimes { life: LEASE, keep, pause };
        let settings = LaneSettings {
            outputs: outputs(),
            buckets: Buckets(buckets),
            retention: Retention { history: 3, months: 0, days: 30 },
            dedupe_window: WINDOW,
            max_events: 1 + rng.below(8),
            max_wait: Duration::ZERO,
            max_record_bytes: 10_000,
            cached_accounts: 1 + rng.below(4),
            flood: FloodLimits::NONE,
            leases,
            clock_every: Duration::ZERO,
            whole_stretch: 100,
            sleep: |_| {},
            current: Arc::new(Current::new(versions.clone())),
            versions: versions.clone(),
        };
        Self {
            broker,
            store: MemoryStore::at(
                // A refund comes in time, however long a seed lets its lanes stand still.
                StoreSettings { buckets, dedupe_window: WINDOW, refunds_window: WINDOW * 400 },
                BEGINS,
            ),
            sent,
            trace: Vec::new(),
            steps: 0,
            faults_met: 0,
            lane_count: 1 + rng.below(3),
            published: Vec::new(),
            faulty_until: 0,
            dumps: Vec::new(),
            store_is_safe: false,
            metrics: Metrics::new(&versions).expect("series are named once"),
            budgets,
            versions: names.try_into().expect("there are two"),
            rng,
            faults,
            settings,
            lanes: BTreeMap::new(),
            signals: channel(),
        }
    }

    /// Lets the lanes do all work that there is; what hinders them from it is the error.
    pub fn run(&mut self) -> Result<(), String> {
        self.start_all()?;
        for _ in 0..self.faults.moves {
            for _ in 0..self.rng.below(150) {
                self.turn()?;
            }
            self.crash_all()?;
            self.faults_met += 1;
            let in_doubt = self.in_doubt();
            if in_doubt.len() > self.lane_count * self.settings.max_events {
                return Err(format!("published, but not known as processed after a crash: {in_doubt:?}"));
            }
            let shortest = self.broker.ends(&inputs()).into_values().min().unwrap_or_default();
            let to = self.rng.below(shortest as usize + 1) as i64;
            self.move_offsets(to)?;
        }
        for _ in 0..self.faults.skips {
            for _ in 0..self.rng.below(150) {
                self.turn()?;
            }
            self.crash_all()?;
            if self.in_doubt().is_empty() {
                self.faults_met += 1;
                self.skip();
            }
            self.start_all()?;
        }
        self.work_off()?;
        if self.faults.moves + self.faults.skips > 0 {
            // What was skipped is read after all, so that the auditor may expect all of it.
            self.stop()?;
            self.move_offsets(0)?;
            self.work_off()?;
        }
        self.days_come()?;
        if self.faults.rewind {
            // What was processed before is known by the offsets that the operator takes away, and by the store.
            self.store_is_safe = true;
            for beyond_the_window in [false, true] {
                self.stop()?;
                if beyond_the_window {
                    self.store.advance(WINDOW * 3);
                }
                self.move_offsets(0)?;
                self.work_off()?;
            }
        }
        self.stop()
    }

    /// Everybody's birthday comes. Who was given members to tell and died is followed by another when their time is up.
    fn days_come(&mut self) -> Result<(), String> {
        self.trace.push("birthdays come".to_owned());
        self.store.advance(Duration::from_hours(5 * 24));
        // Nobody goes back to a copy that was made in the middle of a repair, longer ago than the dedupe window: its
        // receipts would be no more, and its accounts not be restored yet.
        self.dumps.clear();
        self.lanes.values_mut().for_each(|lane| lane.idle = 0);
        let this_year = (BEGINS + Duration::from_hours(60 * 24)).as_secs() as i64;
        for _ in 0..20 {
            self.work_off()?;
            if self.store.due().values().all(|at| *at > this_year) {
                return Ok(());
            }
            self.store.advance(Duration::from_secs(61));
            // Whoever was idle looks again.
            self.lanes.values_mut().for_each(|lane| lane.idle = 0);
        }
        Err(format!("days that have come are never told: {:?}", self.store.due()))
    }

    /// An operator moves the group's offsets while no lane runs.
    fn move_offsets(&mut self, to: i64) -> Result<(), String> {
        self.trace.push(format!("the group's offsets are moved to {to}"));
        self.broker.reset_offsets(to);
        self.published.clear();
        self.start_all()
    }

    /// How many events may be published again, with the same ids: one batch a lane for every time that
    /// an operator moved the offsets between a crash and the next start.
    pub fn repeats_allowed(&self) -> usize {
        self.faults.moves * self.lane_count * self.settings.max_events
    }

    /// An operator has the group go on behind some records of each partition, while no lane runs.
    fn skip(&mut self) {
        let committed = self.broker.committed();
        for (partition, end) in self.broker.ends(&inputs()) {
            let next = committed.get(&partition).copied().unwrap_or_default();
            let next = (next + self.rng.below(4) as i64).min(end);
            self.trace.push(format!("the group's offset of {partition} is moved to {next}"));
            self.broker.commit_offsets(&[Position { partition, next, metadata: String::new() }]);
        }
    }

    /// What is published and not known as processed: it is published again if an operator moves the offsets now.
    fn in_doubt(&self) -> BTreeSet<(TopicPartition, i64)> {
        let mut store = self.store.clone();
        let mut in_doubt = BTreeSet::new();
        for (partition, offset) in &self.published {
            let known = store.processed(std::slice::from_ref(partition)).expect("memory is never away");
            let is_known = known.iter().flatten().any(|range| (range.from..range.until).contains(offset));
            if !is_known {
                in_doubt.insert((partition.clone(), *offset));
            }
        }
        in_doubt
    }

    /// Where records were sent that never are events: broken ones and types that nothing names.
    pub fn no_events(&self) -> BTreeSet<&str> {
        let no_event = |sent: &&Sent| {
            let is_cancellation = sent.payload.contains("redemption.cancelled");
            matches!(sent.meaning, Meaning::Broken | Meaning::Skipped) && !is_cancellation
        };
        self.sent.iter().filter(no_event).map(|sent| sent.at.as_str()).collect()
    }

    /// Schedules until every lane has been idle for a while.
    fn work_off(&mut self) -> Result<(), String> {
        // Faults end after a while, as they do, so that the work gets done.
        self.faulty_until = self.steps + 600;
        self.until_idle()?;
        if self.faults.loss > 0 {
            // Whatever was lost last is noticed, too, before an operator comes.
            self.faulty_until = 0;
            self.lanes.values_mut().for_each(|lane| lane.idle = 0);
            self.until_idle()?;
        }
        Ok(())
    }

    fn until_idle(&mut self) -> Result<(), String> {
        while self.broker.lag() > 0 || self.lanes.values().any(|lane| lane.idle < 3 || lane.frozen > 0) {
            if self.steps > MOST_STEPS {
                return Err("the lanes never finish".to_owned());
            }
            self.turn()?;
        }
        Ok(())
    }

    /// One lane that does not stand still makes its next call.
    fn turn(&mut self) -> Result<(), String> {
        let ready: Vec<usize> =
            self.lanes.iter().filter(|(_, lane)| lane.frozen == 0).map(|(lane, _)| *lane).collect();
        for lane in self.lanes.values_mut() {
            lane.frozen = lane.frozen.saturating_sub(1);
        }
        if ready.is_empty() {
            return Ok(());
        }
        let lane = ready[self.rng.below(ready.len())];
        self.step(lane, self.steps < self.faulty_until)
    }

    fn step(&mut self, lane: usize, faulty: bool) -> Result<(), String> {
        self.steps += 1;
        let mut action = Action::Proceed;
        if faulty {
            if self.rng.chance(self.faults.crash) {
                action = if self.rng.chance(500) { Action::CrashBefore } else { Action::CrashAfter };
            } else if self.rng.chance(self.faults.lost_reply) {
                action = [Action::LoseReply, Action::LoseCall, Action::Fail][self.rng.below(3)];
            }
            if self.rng.chance(self.faults.rebalance) {
                self.trace.push("  the group is rebalanced".to_owned());
                self.faults_met += 1;
                self.broker.rebalance();
            }
            if self.rng.chance(self.faults.time) {
                self.trace.push("  time passes".to_owned());
                self.store.advance(LEASE * 2 / 3);
            }
            if !self.store_is_safe && self.rng.chance(self.faults.loss) {
                self.dumps.push(self.store.dump());
            }
            if !self.store_is_safe && self.rng.chance(self.faults.loss) {
                self.lose_a_tail();
            }
            if self.rng.chance(self.faults.zombie) {
                self.trace.push(format!("  lane {lane} stands still and is given up by the group"));
                self.faults_met += 1;
                let member = self.lanes[&lane].member;
                self.broker.remove_member(member);
                self.lanes.get_mut(&lane).expect("it runs").frozen = 1 + self.rng.below(60) as u32;
                // What it left open would block others for the transaction's time-out.
                if self.rng.chance(500) {
                    self.broker.time_out_transactions();
                }
                return Ok(());
            }
        }
        if action != Action::Proceed {
            self.faults_met += 1;
        }
        if self.answer(lane, action)? == Heard::Crash {
            self.start(lane)?;
        }
        Ok(())
    }

    /// The store goes on from what it held a while ago, or from nothing.
    fn lose_a_tail(&mut self) {
        self.faults_met += 1;
        if self.rng.chance(100) || self.dumps.is_empty() {
            self.trace.push("  the store loses everything".to_owned());
            self.store.lose_everything();
            self.dumps.clear();
            return;
        }
        let back = self.rng.below(self.dumps.len().min(4));
        // Later copies are of a life that is lost: who goes back to one of them later has two lives of one account.
        self.dumps.truncate(self.dumps.len() - back);
        let Some(dump) = self.dumps.pop() else { return };
        self.trace.push("  the store goes on from an old copy of itself".to_owned());
        self.store.go_on_from(&dump);
    }

    /// Says what becomes of the call that the lane waits to make, and hears what the lane does next.
    fn answer(&mut self, lane: usize, action: Action) -> Result<Heard, String> {
        self.trace.push(format!("lane {lane} {}: {action:?}", self.lanes[&lane].waits));
        self.lanes[&lane].actions.send(action).expect("the lane waits");
        self.listen(lane)
    }

    /// Waits until the lane is at its next call or has ended.
    fn listen(&mut self, lane: usize) -> Result<Heard, String> {
        loop {
            let heard = self.signals.1.recv_timeout(Duration::from_secs(20));
            let (from, signal) = heard.map_err(|_| format!("lane {lane} panicked, or hangs"))?;
            assert_eq!(from, lane, "only one lane runs at a time");
            let running = self.lanes.get_mut(&lane).expect("it runs");
            match signal {
                Signal::Idle => running.idle += 2,
                Signal::Published(batch) => self.published.extend(batch),
                Signal::Calls(call) => {
                    if call != "poll" {
                        running.idle = 0;
                    }
                    running.waits = call;
                    return Ok(Heard::Call);
                }
                Signal::Ended(ending) => {
                    let ended = self.lanes.remove(&lane).expect("it ran");
                    ended.thread.join().expect("a lane does not panic");
                    return match ending {
                        Ending::AsTold => Ok(Heard::End),
                        Ending::Crashed => {
                            self.broker.remove_member(ended.member);
                            Ok(Heard::Crash)
                        }
                        Ending::Failed(why) => Err(format!("lane {lane} ended: {why}")),
                    };
                }
            }
        }
    }

    fn start_all(&mut self) -> Result<(), String> {
        (0..self.lane_count).try_for_each(|lane| self.start(lane))
    }

    fn start(&mut self, lane: usize) -> Result<(), String> {
        let (actions, receiver) = channel();
        let status = Arc::new(LaneStatus::new(format!("{lane}")));
        let log = self.broker.connect(&format!("lane-{lane}"));
        let member = log.member;
        let gate = Gate { lane, signals: self.signals.0.clone(), actions: receiver };
        let (store, settings, metrics) = (self.store.clone(), self.settings.clone(), self.metrics.clone());
        let (held, broker, mutation) = (status.clone(), self.broker.clone(), self.faults.mutation);
        let thread = std::thread::spawn(move || {
            let (signals, gate) = (gate.signals.clone(), Rc::new(gate));
            let log = FaultyLog {
                inner: log,
                broker: broker.clone(),
                mutation,
                gate: gate.clone(),
                batch: Vec::new(),
            };
            let archive = Box::new(FaultyArchive { inner: broker, gate: gate.clone() });
            let store = FaultyStore { inner: store, mutation, gate };
            let ended = Lane::new(log, store, archive, settings, metrics, held).run();
            let ending = match ended {
                Ok(()) => Ending::AsTold,
                Err(LaneError::Log(LogError::Crash) | LaneError::Store(StoreError::Crash)) => Ending::Crashed,
                // A transaction that timed out while the lane stood still fenced its producer: the worker
                // ends with an error, and whoever runs it starts it again.
                Err(LaneError::Log(LogError::Fenced(_))) => Ending::Crashed,
                Err(error) => Ending::Failed(error.to_string()),
            };
            signals.send((lane, Signal::Ended(ending))).expect("the scheduler listens");
        });
        self.lanes.insert(lane, Running { actions, status, member, thread, waits: "", idle: 0, frozen: 0 });
        self.listen(lane).map(|_| ())
    }

    /// Tells the lanes to stop and lets each finish.
    fn stop(&mut self) -> Result<(), String> {
        while let Some((&lane, running)) = self.lanes.iter().next() {
            running.status.stop();
            self.answer(lane, Action::Proceed)?;
        }
        Ok(())
    }

    /// The machine dies: no lane makes its next call.
    fn crash_all(&mut self) -> Result<(), String> {
        while let Some(&lane) = self.lanes.keys().next() {
            self.answer(lane, Action::CrashBefore)?;
        }
        Ok(())
    }
}
