//! What a lane does, step by step: `src/lane/mod.rs`, `work.rs`, `recovery.rs` and the commit script.

use crate::guards::Guard;
use crate::scope::{Scope, Sight, Step};
use crate::state::{
    Account, At, Batch, Committed, Entry, Event, LANES, LENGTH, PARTITIONS, Position, Stage, State, Store,
};

/// A bit for an offset, a lane or an event.
pub fn bit(of: u8) -> u8 {
    1 << of
}

/// The bits of the offsets from `from` until before `until`.
fn bits(from: u8, until: u8) -> u8 {
    (from..until).map(bit).sum()
}

impl Scope {
    /// Whether there is nothing left to do: no lane can take a step, whatever waits for whom.
    pub fn is_quiet(&self, state: &State) -> bool {
        let mut quiet = true;
        // Most states are told at a glance.
        let waits = |stage| matches!(stage, Stage::Joining | Stage::Idle | Stage::RestoringAccount { .. });
        if !state.lanes.iter().all(|lane| waits(lane.stage)) {
            return false;
        }
        self.steps(state, &mut |_, _| quiet = false);
        quiet
    }

    /// The steps that the lanes can take.
    pub fn steps(&self, state: &State, found: &mut impl FnMut(usize, Step)) {
        for (lane, is) in state.lanes.iter().enumerate() {
            let mut found = |step| found(lane, step);
            match is.stage {
                Stage::Down => found(Step::Start),
                Stage::Joining if self.offsets_are_stable(state, lane) => found(Step::LearnPositions),
                Stage::Joining => {}
                Stage::Assigned => found(Step::AskWhatIsProcessed),
                Stage::Idle => {
                    if is.identity != Some(state.store.identity) && self.has(Guard::LookWhenIdle) {
                        found(Step::LookAtStore);
                    }
                    if !is.current {
                        found(Step::HearOfRebalance);
                    }
                    for (partition, owned) in (0..).zip(is.owned) {
                        if owned.is_some_and(|owned| owned.next < self.end(usize::from(partition))) {
                            found(Step::Poll(partition));
                        }
                    }
                    if is.unsaved || is.published != [0; PARTITIONS] {
                        found(Step::SaveProgress);
                    }
                }
                Stage::Loading { .. } | Stage::Committing { .. } => {
                    found(if matches!(is.stage, Stage::Loading { .. }) {
                        Step::Load
                    } else {
                        Step::CommitToStore
                    });
                    // While the store is away a lane stays in the group, and may hear there.
                    if !is.current {
                        found(Step::HearOfRebalance);
                    }
                }
                Stage::Sending(_) => found(Step::Send),
                Stage::Checking(_) => found(Step::CheckIdentity),
                Stage::SendingOffset(_) => found(Step::SendOffset),
                Stage::Publishing(_) => found(Step::Publish),
                Stage::CommittingOffset(_) => found(Step::CommitOffset),
                Stage::SavingStranded { .. } => found(Step::SaveStranded),
                Stage::ReplacingProducer => found(Step::ReplaceProducer),
                Stage::ReadingIdentity => {
                    found(Step::ReadIdentity);
                    if state.store.identity == state.store.confirmed {
                        found(Step::FindAllWell);
                    }
                }
                Stage::ReadingEnd { .. } => found(Step::ReadEnd),
                Stage::RestoringAccount { waits, .. } => {
                    if waits == 0 {
                        found(Step::RestoreAccount);
                    }
                }
                Stage::RestoringReceipts { .. } => found(Step::RestoreReceipts),
                Stage::Confirming { .. } => found(Step::Confirm),
            }
        }
    }

    /// A lane takes a step.
    pub fn step(&self, state: &mut State, lane: usize, step: Step) {
        match step {
            Step::Start => self.start(state, lane),
            Step::LearnPositions => learn_positions(state, lane),
            Step::AskWhatIsProcessed => self.ask_what_is_processed(state, lane),
            Step::HearOfRebalance => {
                // A batch that it was at is no longer its business; the account that it held for it is dropped.
                state.lanes[lane].stage = Stage::Joining;
            }
            Step::Poll(partition) => self.poll(state, lane, partition),
            Step::SaveProgress => {
                save_ranges(state, lane);
                let published = std::mem::take(&mut state.lanes[lane].published);
                clear(&mut state.store, published);
            }
            Step::LookAtStore => self.begin_repair(state, lane),
            Step::Load => self.load(state, lane),
            Step::CommitToStore => self.commit_to_store(state, lane),
            Step::Send => self.send(state, lane),
            Step::CheckIdentity => self.check_identity(state, lane),
            Step::SendOffset => self.send_offset(state, lane),
            Step::Publish => self.publish(state, lane),
            Step::CommitOffset => self.commit_offset(state, lane),
            Step::SaveStranded => save_stranded(state, lane),
            Step::ReplaceProducer => {
                self.new_producer(state, lane);
                state.lanes[lane].stage = Stage::Joining;
            }
            Step::ReadIdentity => self.read_identity(state, lane),
            Step::FindAllWell => self.find_all_well(state, lane),
            Step::ReadEnd => self.read_end(state, lane),
            Step::RestoreAccount => self.restore_account(state, lane),
            Step::RestoreReceipts => self.restore_receipts(state, lane),
            Step::Confirm => self.confirm(state, lane),
        }
    }

    fn start(&self, state: &mut State, lane: usize) {
        self.new_producer(state, lane);
        state.lanes.iter_mut().for_each(|lane| lane.current = false);
        state.lanes[lane].stage = Stage::Joining;
    }

    /// Whether no open transaction is about to move an offset of this lane's partitions.
    fn offsets_are_stable(&self, state: &State, lane: usize) -> bool {
        let moves_one = state
            .broker
            .open
            .iter()
            .flatten()
            .filter_map(|open| open.offset)
            .any(|(partition, _)| usize::from(state.broker.owner[usize::from(partition)]) == lane);
        !moves_one || !self.has(Guard::StableOffsets)
    }

    /// What the metadata of the committed offsets says is saved as processed. The outbox is swept: what is known as
    /// published goes; what lies behind the committed offset and is not will never be delivered again, and is published now.
    fn ask_what_is_processed(&self, state: &mut State, lane: usize) {
        let State { store, lanes, .. } = state;
        let is = &mut lanes[lane];
        if is.identity.is_none() {
            if store.identity != store.confirmed {
                is.stage = Stage::ReadingIdentity;
                return;
            }
            is.identity = Some(store.identity);
        }
        for (partition, owned) in is.owned.iter_mut().enumerate() {
            let Some(owned) = owned else { continue };
            if self.has(Guard::Metadata) {
                store.processed[partition] |= bits(owned.from, owned.next) | owned.behind;
                state.unclean &= !bit(u8::try_from(partition).expect("a small scope"));
            }
            owned.processed = store.processed[partition];
        }
        is.published = [0; PARTITIONS];
        is.unsaved = false;
        for (partition, owned) in (0..).zip(is.owned) {
            let Some(owned) = owned else { continue };
            for offset in 0..u8::try_from(LENGTH).expect("a small scope") {
                let at = At { partition, offset };
                let Some(version) = unpublished(store, at) else { continue };
                if owned.processed & bit(offset) != 0 {
                    self.met.note(Sight::Swept);
                    store.outbox[usize::from(partition)][usize::from(offset)] = None;
                } else if offset < owned.next && self.has(Guard::Stranded) {
                    self.met.note(Sight::Stranded);
                    let entry = Entry { event: self.event(at), at, version, snapshot: store.account };
                    is.stage = Stage::Sending(Batch { at, entry: Some(entry), stranded: true });
                    return;
                }
            }
        }
        is.stage = Stage::Idle;
    }

    fn poll(&self, state: &mut State, lane: usize, partition: u8) {
        // Before a batch the store knows what was published before it, so that only one can be in doubt.
        save_ranges(state, lane);
        let is = &mut state.lanes[lane];
        let Some(owned) = is.owned[usize::from(partition)] else { return };
        let at = At { partition, offset: owned.next };
        is.stage = if owned.processed & bit(at.offset) != 0 && self.has(Guard::Ranges) {
            self.met.note(Sight::InRange);
            Stage::Sending(Batch { at, entry: None, stranded: false })
        } else if let Some(account) = is.cache.take() {
            Stage::Committing { at, account }
        } else {
            Stage::Loading { at, receipts: false }
        };
    }

    fn load(&self, state: &mut State, lane: usize) {
        let store = &state.store;
        let is = &mut state.lanes[lane];
        let Stage::Loading { at, receipts } = is.stage else { return };
        let account = store.account;
        let entry = match self.recognise(store, at) {
            Some(entry) if receipts && self.has(Guard::Receipt) => entry,
            _ => {
                is.stage = Stage::Committing { at, account };
                return;
            }
        };
        is.cache = Some(account);
        is.stage = Stage::Sending(Batch { at, entry, stranded: false });
    }

    /// What a receipt says of an event: nothing if it has none, else what is to be published again, if anything.
    fn recognise(&self, store: &Store, at: At) -> Option<Option<Entry>> {
        let event = self.event(at);
        let receipt = store.receipts[usize::from(event.0)]?;
        let again = |at: At| {
            let version = unpublished(store, at)?;
            self.met.note(Sight::SentAgain);
            Some(Entry { event, at, version, snapshot: store.account })
        };
        if receipt == at {
            let entry = again(at);
            if entry.is_none() {
                self.met.note(Sight::Replayed);
            }
            Some(entry)
        } else if self.has(Guard::Coordinates) {
            self.met.note(Sight::Duplicate);
            Some(None)
        } else {
            // A receipt that does not say where: whatever the outbox has of the event seems to be this record's.
            Some(again(receipt))
        }
    }

    /// `commit.lua`: all of it or nothing.
    pub fn commit_to_store(&self, state: &mut State, lane: usize) {
        let Stage::Committing { at, account } = state.lanes[lane].stage else { return };
        let store = &mut state.store;
        let is = &mut state.lanes[lane];
        let confirmed = is.identity == Some(store.identity) && store.identity == store.confirmed;
        if !confirmed && self.has(Guard::IdentityAtCommit) {
            self.met.note(Sight::Unconfirmed);
            self.begin_repair(state, lane);
            return;
        }
        let published = std::mem::take(&mut is.published);
        clear(store, published);
        let event = self.event(at);
        let other_version = account.version != store.account.version && self.has(Guard::VersionCheck);
        let has_receipt = store.receipts[usize::from(event.0)].is_some() && self.has(Guard::Receipt);
        if other_version || has_receipt {
            self.met.note(if other_version { Sight::OtherVersion } else { Sight::ReceiptFound });
            is.stage = Stage::Loading { at, receipts: true };
            return;
        }
        let account = count(account, event, account.version + 1);
        store.account = account;
        store.receipts[usize::from(event.0)] = Some(at);
        if self.has(Guard::Outbox) {
            store.outbox[usize::from(at.partition)][usize::from(at.offset)] = Some(account.version);
        }
        let entry = Entry { event, at, version: account.version, snapshot: account };
        is.cache = Some(account);
        is.stage = Stage::Sending(Batch { at, entry: Some(entry), stranded: false });
    }

    /// The batch is published: the lane is behind it.
    pub fn advance(&self, state: &mut State, lane: usize, batch: Batch) {
        let is = &mut state.lanes[lane];
        let (partition, offset) = (usize::from(batch.at.partition), batch.at.offset);
        if batch.stranded {
            is.stage = Stage::SavingStranded { at: batch.at };
            return;
        }
        if let Some(owned) = &mut is.owned[partition] {
            owned.next = offset + 1;
        }
        if batch.entry.is_some() {
            is.published[partition] |= bit(offset);
        }
        is.unsaved = true;
        is.stage = Stage::Idle;
    }
}

/// The account with one more entry.
pub fn count(account: Account, event: Event, version: u8) -> Account {
    let mut account = Account { version, ..account };
    account.counted[usize::from(event.0)] += 1;
    account
}

fn learn_positions(state: &mut State, lane: usize) {
    let State { broker, lanes, .. } = state;
    let is = &mut lanes[lane];
    for partition in 0..PARTITIONS {
        let committed = broker.committed[partition];
        let from = committed.from.unwrap_or(committed.next);
        let mine = usize::from(broker.owner[partition]) == lane;
        let Committed { next, behind, .. } = committed;
        is.owned[partition] = mine.then_some(Position { next, from, behind, processed: 0 });
    }
    is.current = true;
    is.unsaved = false;
    is.published = [0; PARTITIONS];
    is.stage = Stage::Assigned;
}

/// Tells the store what the lane has processed, if it does not know yet.
fn save_ranges(state: &mut State, lane: usize) {
    let State { store, lanes, unclean, .. } = state;
    if !std::mem::take(&mut lanes[lane].unsaved) {
        return;
    }
    for (partition, owned) in (0..).zip(lanes[lane].owned) {
        let Some(owned) = owned else { continue };
        store.processed[usize::from(partition)] |= bits(owned.from, owned.next);
        *unclean &= !bit(partition);
    }
}

/// Has the store know what was published from behind the committed offset; then all is asked once more.
fn save_stranded(state: &mut State, lane: usize) {
    let Stage::SavingStranded { at } = state.lanes[lane].stage else { return };
    state.store.processed[usize::from(at.partition)] |= bit(at.offset);
    state.lanes[lane].stage = Stage::Assigned;
}

/// The version of the entry that the outbox has of an offset.
pub fn unpublished(store: &Store, at: At) -> Option<u8> {
    store.outbox[usize::from(at.partition)][usize::from(at.offset)]
}

/// Removes entries from the outbox.
fn clear(store: &mut Store, published: [u8; PARTITIONS]) {
    for (outbox, published) in store.outbox.iter_mut().zip(published) {
        for (offset, entry) in (0..).zip(outbox) {
            if published & bit(offset) != 0 {
                *entry = None;
            }
        }
    }
}

const _: () = assert!(LANES <= 8 && LENGTH <= 8, "bits of a byte");
