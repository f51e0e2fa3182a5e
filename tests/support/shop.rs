//! A worker without Kafka and Redis: events as JSON through the decoder and the rules, accounts and records in memory,
//! what accrual tells itself delivered when the test says so. After every event it holds what must always hold of an
//! account and its ledger.

use std::collections::{BTreeMap, HashMap, VecDeque};

use accrual::account::{Account, Retention};
use accrual::entry::{Message, Renderer};
use accrual::event::Event;
use accrual::event::decode::{Decoded, Decoder};
use accrual::ledger::Published;
use accrual::log::Record;
use accrual::programme::Programme;
use accrual::rules::clock::{self, What};
use accrual::rules::{self, Outside};
use accrual::store::ReceiptKey;
use accrual::types::{CampaignId, Coordinates, MemberId, Points};
use jiff::Timestamp;
use serde_json::Value;

const INTERNAL: &str = "internal";

/// What became of an event.
#[derive(Debug)]
pub enum Came {
    /// It counted, and this was published, in order.
    Counted(Vec<Value>),
    Duplicate,
    /// The reason of the dead letter.
    Refused(String),
}

impl Came {
    /// What was published; nothing where it did not count.
    pub fn published(self) -> Vec<Value> {
        match self {
            Came::Counted(published) => published,
            Came::Duplicate | Came::Refused(_) => Vec::new(),
        }
    }
}

pub struct Shop {
    pub programme: Programme,
    pub retention: Retention,
    pub accounts: BTreeMap<MemberId, Account>,
    /// What accrual has told itself and not heard yet.
    pub told: VecDeque<Vec<u8>>,
    /// Refunds that waited in vain, as they came.
    pub unclaimed: Vec<Value>,
    /// What was taken of budgets and stocks.
    pub spent: HashMap<CampaignId, i64>,
    decoder: Decoder,
    renderer: Renderer,
    /// Each account as the fold of what was published and read back.
    folded: BTreeMap<MemberId, Account>,
    receipts: HashMap<ReceiptKey, u64>,
    records: HashMap<ReceiptKey, Box<str>>,
    /// The sum of what entries moved in and out, by member.
    moved: BTreeMap<MemberId, i64>,
}

impl Shop {
    pub fn new(programme: &str) -> Self {
        let programme =
            Programme::parse("programme.yaml", programme).unwrap_or_else(|problems| panic!("{problems}"));
        let types = programme.by_type.keys().cloned().collect();
        let decoder = Decoder::new(types, &programme.currency, 1_000_000).with_internal(INTERNAL.into());
        Self {
            retention: Retention { history: 10, months: programme.kept_months(), days: 30 },
            accounts: BTreeMap::new(),
            told: VecDeque::new(),
            unclaimed: Vec::new(),
            spent: HashMap::new(),
            decoder,
            renderer: Renderer::new(&programme.name),
            folded: BTreeMap::new(),
            receipts: HashMap::new(),
            records: HashMap::new(),
            moved: BTreeMap::new(),
            programme,
        }
    }

    /// An event from upstream.
    pub fn send(&mut self, event: &Value) -> Came {
        self.arrive("events", event.to_string().into_bytes())
    }

    /// The same, and whatever accrual tells itself by it.
    pub fn send_and_settle(&mut self, event: &Value) -> Came {
        let came = self.send(event);
        let Came::Counted(mut published) = came else { return came };
        while let Some(told) = self.told.pop_front() {
            published.extend(self.hear(told).published());
        }
        Came::Counted(published)
    }

    /// Something that accrual has told itself.
    pub fn hear(&mut self, told: Vec<u8>) -> Came {
        self.arrive(INTERNAL, told)
    }

    /// What the clock tells of a member.
    pub fn due(&self, member: &str, now: Timestamp) -> Vec<Vec<u8>> {
        let Some(account) = self.accounts.get(member) else { return Vec::new() };
        let due = clock::due(&self.programme, account, now);
        let has_come = rules::due::next(&self.programme, account).is_some_and(|next| next <= now.as_second());
        let is_told = due.iter().any(|due| due.what == What::Account);
        assert_eq!(is_told, has_come, "the clock and what is due disagree of {member}");
        let event = |due: &clock::Due| {
            let id: MemberId = member.into();
            match &due.what {
                What::Celebration(day) => self.renderer.occasion(&id, day, &due.time),
                What::Account => self.renderer.came(&id, account.version, due.at.as_second(), &due.time),
                What::Refund(waiting) => self.renderer.waited(&id, waiting, &due.time),
            }
        };
        due.iter().map(event).collect()
    }

    /// Lets the clock strike for a member until it has nothing to say any more. What is published.
    pub fn strike(&mut self, member: &str, now: Timestamp) -> Vec<Value> {
        let mut published = Vec::new();
        for _ in 0..2_000 {
            let due = self.due(member, now);
            if due.is_empty() {
                return published;
            }
            for event in due {
                let Came::Counted(more) = self.hear(event) else {
                    panic!("the clock's event of {member} is a repeat of one that counted, and still due")
                };
                published.extend(more);
            }
        }
        panic!("the clock of {member} never comes to rest");
    }

    pub fn account(&self, member: &str) -> Account {
        self.accounts.get(member).cloned().unwrap_or_else(|| Account::new(member.into()))
    }

    fn arrive(&mut self, topic: &str, payload: Vec<u8>) -> Came {
        let record = Record {
            at: Coordinates { topic: topic.into(), partition: 0, offset: 0 },
            published_ms: None,
            key: None,
            payload: Some(payload),
            headers: Vec::new(),
        };
        let event = match self.decoder.decode(&record) {
            Ok(Decoded::Event(event)) => event,
            Ok(Decoded::Skipped) => panic!("skipped: {record:?}"),
            Err(rejected) => {
                return Came::Refused(format!("{}: {}", rejected.reason.as_str(), rejected.detail));
            }
        };
        if let Some(fingerprint) = self.receipts.get(&event.receipt_key) {
            let same = *fingerprint == event.fingerprint;
            return if same { Came::Duplicate } else { Came::Refused("conflicting_duplicate".to_owned()) };
        }
        if event.business_key.as_ref().is_some_and(|key| self.receipts.contains_key(key)) {
            return Came::Duplicate;
        }
        self.count(&event)
    }

    fn count(&mut self, event: &Event) -> Came {
        let member = event.member.clone();
        let mut account = self.account(member.as_str());
        let before = account.clone();
        let (receipts, records, spent) = (&self.receipts, &self.records, &self.spent);
        let programme = &self.programme;
        let outside = Outside {
            paid_before: &|key| receipts.contains_key(key),
            left: &|id| {
                let budget = programme.budget(id).unwrap_or_default().0;
                Points((budget - spent.get(id).copied().unwrap_or_default()).max(0))
            },
            record: &|key| records.get(key).cloned(),
        };
        let outcome = match rules::apply(programme, &mut account, event, &self.retention, &outside) {
            Ok(outcome) => outcome,
            Err(refusal) => {
                assert_eq!(account, before, "a refused event has changed the account");
                return Came::Refused(refusal.to_string());
            }
        };
        for draw in &outcome.draws {
            assert!(draw.paid <= draw.left, "overdrawn: {draw:?}");
            *self.spent.entry(draw.campaign.clone()).or_default() += draw.paid.0;
        }
        for (id, points) in &outcome.returns {
            *self.spent.entry(id.clone()).or_default() -= points.0;
            assert!(self.spent[id] >= 0, "more comes back to {id} than was taken of it");
        }
        self.records.extend(outcome.records);
        for key in event.business_key.iter().chain([&event.receipt_key]).chain(&outcome.once) {
            self.receipts.insert(key.clone(), event.fingerprint);
        }
        for message in &outcome.messages {
            let told = self.renderer.message(event, message);
            if let Message::Unclaimed(_) = message {
                self.unclaimed.push(serde_json::from_slice(&told).unwrap());
            } else {
                self.told.push_back(told);
            }
        }
        let mut ids = std::collections::HashSet::new();
        let mut published = Vec::new();
        let folded = self.folded.entry(member.clone()).or_insert_with(|| Account::new(member.clone()));
        let moved = self.moved.entry(member.clone()).or_default();
        for applied in &outcome.applied {
            let json = self.renderer.change(event, applied, &self.programme.version, None);
            let read = Published::parse(&json).unwrap();
            assert_eq!(read.change, applied.change, "what was published is not what was decided");
            folded.evolve(&read.change, &self.retention).unwrap();
            assert_eq!(
                (folded.version, folded.available, folded.pending),
                (applied.version, applied.available, applied.pending)
            );
            let json: Value = serde_json::from_slice(&json).unwrap();
            assert!(ids.insert(json["id"].to_string()), "two changes of an event have one id: {json}");
            if json["type"] != "points.released" {
                *moved += json["data"]["points"].as_i64().unwrap_or_default();
            }
            published.push(json);
        }
        assert_eq!(*folded, account, "an account is not the fold of what was published of it");
        assert_eq!(*moved, account.available.0 + account.pending.0, "points are not conserved: {account:?}");
        books_balance(&account);
        let read = Account::from_json(&account.to_json()).unwrap();
        assert_eq!(read, account, "an account is not read back as it was written");
        self.accounts.insert(member, account);
        Came::Counted(published)
    }
}

/// What holds of an account after every event.
pub fn books_balance(account: &Account) {
    let sum = |lots: &accrual::account::Lots| lots.iter().map(|lot| lot.points.0).sum::<i64>();
    assert_eq!(sum(&account.lots), account.available.0.max(0), "lots and balance differ: {account:?}");
    assert_eq!(sum(&account.held), account.pending.0, "held lots and what is pending differ: {account:?}");
    assert!(account.lots.iter().chain(account.held.iter()).all(|lot| lot.points.0 > 0), "{account:?}");
    assert!(account.lots.iter().all(|lot| lot.release.is_none()), "a held lot can be spent: {account:?}");
    assert!(account.held.iter().all(|lot| lot.release.is_some()), "{account:?}");
    for lots in [&account.lots, &account.held] {
        assert!(lots.iter().count() <= accrual::account::MOST_LOTS, "too many lots");
    }
    for used in account.used.values().flatten() {
        assert!(used.3.0 >= 0, "a limit has counted less than nothing: {account:?}");
    }
}
