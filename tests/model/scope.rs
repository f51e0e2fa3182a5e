//! A scope: what comes in, how many of each fault may come, and which guard is taken away.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use stateright::{Model, Property};

use crate::guards::Guard;
use crate::state::{
    Account, At, Broker, EVENTS, Event, Faults, LANES, LENGTH, Lane, PARTITIONS, Stage, State, Store,
};
use crate::{faults, promise};

/// Two events of one member in two partitions.
pub const TWO: Input = [&[Event(0)], &[Event(1)]];
/// Three of them.
pub const THREE: Input = [&[Event(0), Event(1)], &[Event(2)]];
/// An event that upstream repeats in another partition.
pub const REPEATED: Input = [&[Event(0)], &[Event(0)]];
/// The same, and two more.
pub const REPEATED_AND_MORE: Input = [&[Event(0), Event(1)], &[Event(0), Event(2)]];

/// The records of each partition.
pub type Input = [&'static [Event]; PARTITIONS];

/// What the checker searches.
#[derive(Clone, Debug)]
pub struct Scope {
    /// The records of each partition.
    pub input: Input,
    /// What may go wrong, and how often.
    pub faults: Faults,
    /// What may happen that the promise leaves out.
    pub beyond: Option<Beyond>,
    /// The guard that is taken away.
    pub broken: Option<Guard>,
    /// What was met on the way.
    pub met: Met,
}

/// What the promise leaves out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Beyond {
    /// What a failover left behind takes over in turn: a store that is no earlier moment of the one before it.
    LostBranch,
    /// The group is set to the start between a crash and the next start.
    RewindAfterCrash,
}

/// What happened somewhere in the search: that a scope holds says little unless it gets there.
#[derive(Clone, Default, Debug)]
pub struct Met {
    sights: Arc<AtomicU32>,
    /// Properties that a state has broken.
    broken: Arc<AtomicU32>,
}

/// A thing that happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sight {
    /// A commit was refused for the account's version.
    OtherVersion,
    /// A commit was refused for a receipt.
    ReceiptFound,
    /// An entry of the outbox was sent again.
    SentAgain,
    /// An event that upstream repeated was dropped.
    Duplicate,
    /// An event was dropped for its own receipt.
    Replayed,
    /// An event was dropped because its offset lies in a range known as processed.
    InRange,
    /// An offset was refused because the group has another generation.
    Fenced,
    /// A commit was refused because the store may have lost something.
    Unconfirmed,
    /// A transaction was aborted because the store may have lost something.
    Withdrawn,
    /// A repair had to wait for an open transaction.
    Waited,
    /// A repair restored an entry.
    Restored,
    /// A repair was overtaken by another failover.
    Overtaken,
    /// A lane found the marker set by another.
    FoundWell,
    /// A delayed request committed a transaction.
    CommittedLate,
    /// An entry behind the committed offset was found in the outbox, known as published.
    Swept,
    /// An entry behind the committed offset was found in the outbox, and is published.
    Stranded,
}

impl Met {
    /// Notes that it happened.
    pub fn note(&self, sight: Sight) {
        let bit = 1 << sight as u32;
        if self.sights.load(Ordering::Relaxed) & bit == 0 {
            self.sights.fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// Whether it happened.
    pub fn saw(&self, sight: Sight) -> bool {
        self.sights.load(Ordering::Relaxed) & (1 << sight as u32) != 0
    }

    /// Whether a property still stands. Only the first state that breaks it is told of: it has the shortest path, and of
    /// several the checker keeps the last.
    pub fn stands(&self, property: u32, holds: bool) -> bool {
        holds || self.broken.fetch_or(1 << property, Ordering::Relaxed) & (1 << property) != 0
    }
}

impl Scope {
    /// A scope with all guards.
    pub fn new(input: Input, faults: Faults) -> Self {
        Self { input, faults, beyond: None, broken: None, met: Met::default() }
    }

    /// The same with what the promise leaves out.
    pub fn and(self, beyond: Beyond) -> Self {
        Self { beyond: Some(beyond), ..self }
    }

    /// The same without a guard.
    pub fn without(self, guard: Guard) -> Self {
        Self { broken: Some(guard), ..self }
    }

    /// Whether the guard stands.
    pub fn has(&self, guard: Guard) -> bool {
        self.broken != Some(guard)
    }

    /// The event at these coordinates.
    pub fn event(&self, at: At) -> Event {
        self.input[usize::from(at.partition)][usize::from(at.offset)]
    }

    /// The offset after the last of a partition.
    pub fn end(&self, partition: usize) -> u8 {
        u8::try_from(self.input[partition].len()).expect("a small scope")
    }

    /// Whether the event comes in at all.
    pub fn comes_in(&self, event: usize) -> bool {
        self.input.iter().copied().flatten().any(|Event(id)| usize::from(*id) == event)
    }
}

/// What happens next: a lane's step, or what befalls it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// A lane goes on, by the one thing that its stage has it do.
    Lane(usize, Step),
    /// Something goes wrong.
    Fault(faults::Fault),
}

/// What a lane does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// The process starts, with a producer under the lane's id, and joins the group.
    Start,
    /// Learns its partitions and their committed offsets.
    LearnPositions,
    /// Learns what is processed, and sweeps the outbox.
    AskWhatIsProcessed,
    /// Hears that the group has another generation.
    HearOfRebalance,
    /// Takes the next record of a partition.
    Poll(u8),
    /// Tells the store what is processed, and removes what is published from the outbox.
    SaveProgress,
    /// Asks the store who it is, between two batches, and hears that it is another.
    LookAtStore,
    /// Loads the account, and the receipts if the commit was refused before.
    Load,
    /// Runs the commit script.
    CommitToStore,
    /// Begins a transaction and sends.
    Send,
    /// Asks the store who it is, and goes on if it is the one that was committed to.
    CheckIdentity,
    /// Sends the offset.
    SendOffset,
    /// Commits the transaction.
    Publish,
    /// Commits the offset by itself.
    CommitOffset,
    /// Saves the offset of what it found stranded as processed.
    SaveStranded,
    /// Replaces the producer.
    ReplaceProducer,
    /// Repair 1: reads who the store is.
    ReadIdentity,
    /// Repair 1: reads who the store is, and that somebody else has set the marker.
    FindAllWell,
    /// Repair 2: reads where the log ends.
    ReadEnd,
    /// Repair 3 and 4: all is decided up to there; restores the account.
    RestoreAccount,
    /// Repair 4: restores receipts, and offsets as processed.
    RestoreReceipts,
    /// Repair 5 and 6: sets the marker.
    Confirm,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Lane(lane, step) => write!(f, "  lane {lane} {step}"),
            Action::Fault(fault) => write!(f, "{fault}"),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Start => "starts",
            Step::LearnPositions => "learns its partitions and offsets",
            Step::AskWhatIsProcessed => "asks what is processed",
            Step::HearOfRebalance => "hears of a rebalance",
            Step::Poll(partition) => return write!(f, "polls partition {partition}"),
            Step::SaveProgress => "saves its progress",
            Step::LookAtStore => "looks at the store between two batches",
            Step::Load => "loads",
            Step::CommitToStore => "runs the commit script",
            Step::Send => "begins and sends",
            Step::CheckIdentity => "asks the store who it is before it publishes",
            Step::SendOffset => "sends the offset",
            Step::Publish => "commits the transaction",
            Step::CommitOffset => "commits the offset by itself",
            Step::SaveStranded => "saves the stranded offset as processed",
            Step::ReplaceProducer => "replaces its producer",
            Step::ReadIdentity => "repairs: reads who the store is",
            Step::FindAllWell => "repairs: finds the marker set",
            Step::ReadEnd => "repairs: reads where the log ends",
            Step::RestoreAccount => "repairs: restores the account",
            Step::RestoreReceipts => "repairs: restores receipts and ranges",
            Step::Confirm => "repairs: sets the marker",
        })
    }
}

impl Model for Scope {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let store = Store {
            identity: 1,
            confirmed: 1,
            account: Account::default(),
            receipts: [None; EVENTS],
            outbox: [[None; LENGTH]; PARTITIONS],
            processed: [0; PARTITIONS],
        };
        let lane = Lane {
            stage: Stage::Joining,
            current: false,
            identity: None,
            owned: [None; PARTITIONS],
            cache: None,
            unsaved: false,
            published: [0; PARTITIONS],
        };
        vec![State {
            store,
            replica: store,
            broker: Broker { owner: [0, 1], ..Broker::default() },
            lanes: [lane; LANES],
            left: self.faults,
            unclean: 0,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.steps(state, &mut |lane, step| actions.push(Action::Lane(lane, step)));
        self.faults(state, &mut |fault| actions.push(Action::Fault(fault)));
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = *state;
        match action {
            Action::Lane(lane, step) => self.step(&mut next, lane, step),
            Action::Fault(fault) => self.befall(&mut next, fault),
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        promise::properties()
    }
}
