//! Gathers what an explanation needs: the event's receipt and the member's account from the store, the event's record
//! and the member's ledger from Kafka.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::again;
use super::{AsOf, Before, EventView, Explanation, ProgrammeView, Recorded, Verdict};
use crate::account::{Account, Retention};
use crate::account_view::{FindError, find};
use crate::event::Event;
use crate::event::decode::{Decoded, Decoder, WITH_BUSINESS_KEY};
use crate::event::internal::Internal;
use crate::lane::{LaneSettings, decoder};
use crate::ledger::{Ledger, Published};
use crate::log::{Archive, KeyQuery, LogError, Partitions, Record};
use crate::programme::{Programme, Versions};
use crate::rules::tier;
use crate::store::{LoadBucket, Receipt, ReceiptKey, Store, StoreError, business_key, event_key};
use crate::types::{Bucket, EventId, MemberId, Points, TopicName};

/// What somebody wants to know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Question {
    /// Whose event. Without it every bucket is searched, which takes longer.
    pub member: Option<MemberId>,
    /// The event's id; or, with a member, its order's or its review's.
    pub id: String,
    /// The event's source, where several have an event of this id.
    pub source: Option<String>,
}

/// Why there is no explanation.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// No such event has counted for the member.
    #[error("{0}")]
    NotFound(String),
    /// Several sources have an event of this id.
    #[error("several events have this id, name the source of one: {}", .0.join(", "))]
    Several(Vec<String>),
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] FindError),
    /// Kafka did not answer.
    #[error("Kafka: {0}")]
    Log(#[from] LogError),
}

impl From<StoreError> for ExplainError {
    fn from(error: StoreError) -> Self {
        Self::Store(error.into())
    }
}

/// Explains one event after the other.
pub struct Explainer {
    /// Those of the lanes whose doings are explained.
    lanes: LaneSettings,
    store: Box<dyn Store + Send>,
    archive: Box<dyn Archive + Send>,
}

/// So many events of one id are looked at.
const MOST_EVENTS: usize = 16;

/// What an event changed is published within a moment of its arrival, or as late as the worker lags.
const BEFORE: Duration = Duration::from_mins(5);
const AFTER: Duration = Duration::from_hours(24);

/// An event that was found.
struct Found {
    id: EventId,
    receipt: Receipt,
    /// Nothing where it is gone.
    record: Option<Record>,
    /// What the record says; why it says nothing to the programme of now.
    event: Result<Box<Event>, String>,
}

impl Explainer {
    /// One that asks the store and the log of these lanes.
    pub fn new(lanes: LaneSettings, store: Box<dyn Store + Send>, archive: Box<dyn Archive + Send>) -> Self {
        Self { lanes, store, archive }
    }

    /// Says why an event paid what it paid. Where the ledger is too long to be read until `deadline`, the answer says
    /// what that means for it.
    ///
    /// # Errors
    /// Where there is no such event, or several, or somebody does not answer.
    pub fn explain(&mut self, question: &Question, deadline: Instant) -> Result<Explanation, ExplainError> {
        let versions = self.lanes.current.get();
        let found = self.find(question, &versions, deadline)?;
        let member = match (&found.event, &question.member) {
            (Ok(event), _) => event.member.clone(),
            (Err(_), Some(member)) => member.clone(),
            (Err(why), None) => {
                let EventId { source, id } = &found.id;
                return Err(ExplainError::NotFound(format!(
                    "the event {source} {id} came at {}, and {why}; name its member to see what the ledger holds of it",
                    found.receipt.at
                )));
            }
        };
        let account = find(self.store.as_mut(), self.lanes.buckets, &member)?;
        let account = account.unwrap_or_else(|| Account::new(member.clone()));
        let published_ms = found.record.as_ref().and_then(|record| record.published_ms);
        let ledger = self.ledger(&member, &found.id, account.version, published_ms, deadline)?;
        self.answer(&versions, &found, &account, &ledger)
    }

    /// The event that is asked for.
    fn find(
        &mut self,
        question: &Question,
        versions: &Arc<Versions>,
        deadline: Instant,
    ) -> Result<Found, ExplainError> {
        let Question { member, id, source } = question;
        let buckets: Vec<Bucket> = match member {
            Some(member) => vec![self.lanes.buckets.of(member)],
            None => self.lanes.buckets.all().collect(),
        };
        let mut receipts = match source {
            None => self.store.find_events(&buckets, id, deadline)?,
            Some(source) => {
                let event = EventId { source: source.as_str().into(), id: id.as_str().into() };
                let receipt = self.receipts(&buckets, &[event_key(&event)])?.into_iter().next();
                receipt.map(|(_, receipt)| (event, receipt)).into_iter().collect()
            }
        };
        if receipts.is_empty()
            && let Some(member) = member
        {
            // Who asks may know the order and not the event.
            let keys = WITH_BUSINESS_KEY.map(|kind| business_key(kind, member, id));
            let found = self.receipts(&buckets, &keys)?.into_iter();
            let event = EventId { source: "".into(), id: id.as_str().into() };
            // An order's id before a review's.
            receipts = found.map(|(_, receipt)| (event.clone(), receipt)).take(1).collect();
        }
        let decoder = decoder(versions, &self.lanes);
        receipts.truncate(MOST_EVENTS);
        let mut found = Vec::new();
        for (id, receipt) in receipts {
            found.push(self.look_up(id, receipt, &decoder, deadline)?);
        }
        // Others' events may lie in the same bucket.
        found.retain(|found| match (&found.event, member) {
            (Ok(event), Some(member)) => event.member == *member,
            _ => true,
        });
        if found.len() > 1 {
            let whose = |found: &Found| match (&found.event, member) {
                (Ok(event), None) => format!("{} (member {})", found.id.source, event.member),
                _ => found.id.source.to_string(),
            };
            return Err(ExplainError::Several(found.iter().map(whose).collect()));
        }
        found.pop().ok_or_else(|| ExplainError::NotFound(nothing_counted(question)))
    }

    /// Receipts of these keys in these buckets, those that are there.
    fn receipts(
        &mut self,
        buckets: &[Bucket],
        keys: &[ReceiptKey],
    ) -> Result<Vec<(ReceiptKey, Receipt)>, ExplainError> {
        let wanted = |bucket: &Bucket| LoadBucket {
            bucket: *bucket,
            members: Vec::new(),
            receipts: keys.to_vec(),
            outbox: false,
        };
        let wanted: Vec<LoadBucket> = buckets.iter().map(wanted).collect();
        let loaded = self.store.load(&wanted)?;
        let each = loaded.into_iter().flat_map(|bucket| keys.iter().cloned().zip(bucket.receipts));
        Ok(each.filter_map(|(key, receipt)| Some((key, receipt?))).collect())
    }

    fn look_up(
        &self,
        mut id: EventId,
        receipt: Receipt,
        decoder: &Decoder,
        deadline: Instant,
    ) -> Result<Found, ExplainError> {
        let record = self.archive.record(&receipt.at, deadline)?;
        let event = match record.as_ref().map(|record| decoder.decode(record)) {
            None => Err("Kafka does not have its record any more".to_owned()),
            Some(Ok(Decoded::Skipped)) => Err("the programme of now has no rule on its type".to_owned()),
            Some(Err(rejected)) => {
                Err(format!("it cannot be read by the programme of now: {}", rejected.detail))
            }
            Some(Ok(Decoded::Event(event))) if event.fingerprint != receipt.fingerprint => {
                Err("another record stands there now: the topic was made anew".to_owned())
            }
            Some(Ok(Decoded::Event(event))) => Ok(event),
        };
        if let Ok(event) = &event {
            id = event.id.clone();
        }
        Ok(Found { id, receipt, record, event })
    }

    /// The member's part of the ledger, as much of it as can be read in time.
    fn ledger(
        &self,
        member: &MemberId,
        event: &EventId,
        version: u64,
        published_ms: Option<i64>,
        deadline: Instant,
    ) -> Result<Ledger, ExplainError> {
        let mut ledger = Ledger::default();
        // A part of the time is kept to look where the event's own entries are.
        let left = deadline.saturating_duration_since(Instant::now());
        let for_all = Instant::now() + left.mul_f64(0.6);
        // In this order: a tier change is published together with the entries that led to it, and so is there once
        // they are.
        let topics = [&self.lanes.outputs.awards, &self.lanes.outputs.tier_changes];
        for partitions in [Partitions::Usual, Partitions::Others] {
            for topic in topics {
                self.read_into(&mut ledger, member, topic, partitions, None, for_all)?;
            }
            // What came after the event is not needed; it may be on its way.
            let first = ledger.of(event).first().map(|published| published.version);
            let needed = first.map_or(version, |first| first.saturating_sub(1));
            if ledger.is_whole_to(needed) || Instant::now() >= for_all {
                break;
            }
        }
        if let Some(ms) = published_ms.filter(|_| ledger.of(event).is_empty() && !ledger.is_whole_to(version))
        {
            let millis = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
            let window = (ms.saturating_sub(millis(BEFORE)), ms.saturating_add(millis(AFTER)));
            for topic in topics {
                self.read_into(&mut ledger, member, topic, Partitions::Usual, Some(window), deadline)?;
            }
        }
        Ok(ledger)
    }

    fn read_into(
        &self,
        ledger: &mut Ledger,
        member: &MemberId,
        topic: &TopicName,
        partitions: Partitions,
        window_ms: Option<(i64, i64)>,
        deadline: Instant,
    ) -> Result<(), LogError> {
        let (since_ms, until_ms) = window_ms.unzip();
        let key = member.as_str().as_bytes();
        let wanted = KeyQuery { topic, key, partitions, since_ms, until_ms };
        let mut take = |payload: &[u8], _: Option<i64>| match Published::parse(payload) {
            // What is not read here is missing from the versions, which the answer then says.
            Ok(published) if published.member == *member => ledger.add(published),
            Ok(_) => {}
            Err(error) => tracing::warn!(%topic, %error, "passed over"),
        };
        self.archive.of_key(&wanted, deadline, &mut take).map(|_| ())
    }

    fn answer(
        &mut self,
        versions: &Versions,
        found: &Found,
        account: &Account,
        ledger: &Ledger,
    ) -> Result<Explanation, ExplainError> {
        // What cannot be read has no time; then nothing is decided again, and the version is only named.
        let programme = match &found.event {
            Ok(event) => versions.at(event.time),
            Err(_) => versions.first(),
        };
        let member = &account.member_id;
        let mut notes = Vec::new();
        let is_whole = ledger.is_whole_to(account.version);
        let changes = ledger.of(&found.id);
        let mut recorded: Vec<Recorded> =
            changes.iter().filter_map(|published| Recorded::of_change(&published.change)).collect();
        let mut is_recorded = is_whole || !changes.is_empty();
        let mut in_short = false;
        if !is_recorded {
            recorded = in_history(account, &found.id);
            in_short = !recorded.is_empty();
            is_recorded = in_short;
            if in_short {
                notes.push(
                    "what was recorded of it is taken from the last entries that the account keeps"
                        .to_owned(),
                );
            }
        }
        let record = found.receipt.at.to_string();
        let (source, id) = (found.id.source.to_string(), found.id.id.to_string());
        let decided_by = changes.first().map(|published| published.programme_version.to_string());
        let kind = changes.first().map(|published| published.kind.clone());
        let time = changes.first().map(|published| published.time);
        let mut answer = Explanation {
            event: EventView { source, id, kind, time, record },
            member_id: member.clone(),
            before: None,
            steps: Vec::new(),
            points: sum(&recorded),
            recorded,
            verdict: Verdict::Undecided,
            programme: ProgrammeView {
                name: programme.name.clone(),
                version: programme.version.clone(),
                decided_by,
            },
            notes,
        };
        let event = match &found.event {
            Ok(event) => event,
            Err(why) => {
                if answer.recorded.is_empty() && changes.is_empty() {
                    // Nothing says that it is this member's.
                    let EventId { source, id } = &found.id;
                    return Err(ExplainError::NotFound(format!(
                        "the event {source} {id} came at {}, but {why}, and the ledger holds nothing of it for member {member}",
                        found.receipt.at
                    )));
                }
                answer.notes.push(format!("it cannot be decided again: {why}"));
                return Ok(answer);
            }
        };
        (answer.event.kind, answer.event.time) = (Some(event.kind.clone()), Some(event.time));
        let retention = Retention { months: versions.kept_months(), ..self.lanes.retention };
        let (as_of, before) = before(account, ledger, &changes, event, &retention);
        answer.notes.extend(note_of(as_of, ledger, account));
        let tier = programme.tiers.as_ref();
        let level = tier.and_then(|tiers| tiers.levels.get(tier::current(tiers, &before)));
        answer.before = Some(Before {
            as_of,
            version: before.version,
            available: before.available,
            pending: before.pending,
            tier: level.map(|level| level.id.clone()),
        });
        if let Some(decided_by) = &answer.programme.decided_by
            && *decided_by != programme.version
        {
            let now = &programme.version;
            answer.notes.push(format!(
                "it was decided by version {decided_by} of the programme; shown is version {now}"
            ));
        }
        let is_earning = event.deed.is_none()
            && matches!(
                event.internal.as_deref(),
                None | Some(Internal::Celebration(_) | Internal::Referred(_))
            );
        if !is_earning {
            answer
                .notes
                .push("it was decided on what was recorded then, which may have changed since".to_owned());
            return Ok(answer);
        }
        let again = self.decide_again(programme, found, event, &before, &retention, &answer.recorded);
        let Ok(again) = again? else {
            answer.notes.push("decided again, its points leave their range".to_owned());
            return Ok(answer);
        };
        let relevant = |line: &&Recorded| !in_short || line.is_entry();
        let same = again.lines.iter().filter(relevant).count() == answer.recorded.len()
            && again.lines.iter().filter(relevant).zip(&answer.recorded).all(|(left, right)| left.is(right));
        answer.verdict = match (is_recorded, same) {
            (false, _) => Verdict::Unrecorded,
            (true, true) => Verdict::Same,
            (true, false) => Verdict::Differs,
        };
        if !is_recorded {
            answer.points = sum(&again.lines);
        }
        answer.steps = again.steps;
        Ok(answer)
    }

    /// Decides the event again. The first time tells which receipts it asks for of what is paid once ever.
    fn decide_again(
        &mut self,
        programme: &Programme,
        found: &Found,
        event: &Event,
        before: &Account,
        retention: &Retention,
        recorded: &[Recorded],
    ) -> Result<Result<again::Again, crate::rules::Refusal>, ExplainError> {
        let asked: RefCell<Vec<ReceiptKey>> = RefCell::default();
        let ask = |key: &ReceiptKey| {
            asked.borrow_mut().push(key.clone());
            false
        };
        let first = again::decide(programme, before, event, retention, recorded, &ask);
        let asked = asked.into_inner();
        if asked.is_empty() {
            return Ok(first);
        }
        let bucket = self.lanes.buckets.of(&event.member);
        let receipts = self.receipts(&[bucket], &asked)?;
        // Its own receipt is of what it paid itself.
        let others = receipts.into_iter().filter(|(_, receipt)| receipt.at != found.receipt.at);
        let paid: HashSet<ReceiptKey> = others.map(|(key, _)| key).collect();
        Ok(again::decide(programme, before, event, retention, recorded, &|key| paid.contains(key)))
    }
}

/// The account as it was before the event, as exactly as the ledger says.
fn before(
    account: &Account,
    ledger: &Ledger,
    changes: &[&Published],
    event: &Event,
    retention: &Retention,
) -> (AsOf, Account) {
    let first = changes.first().map(|published| published.version);
    let folded = match first {
        Some(first) if ledger.is_whole_to(first.saturating_sub(1)) => {
            let earlier = |published: &Published| published.version < first;
            ledger.fold(&account.member_id, retention, earlier).ok().map(|account| (AsOf::Decided, account))
        }
        None if ledger.is_whole_to(account.version) => {
            let earlier = |published: &Published| published.time < event.time;
            ledger.fold(&account.member_id, retention, earlier).ok().map(|account| (AsOf::EventTime, account))
        }
        _ => None,
    };
    folded.unwrap_or_else(|| (AsOf::Now, account.clone()))
}

fn note_of(as_of: AsOf, ledger: &Ledger, account: &Account) -> Option<String> {
    match as_of {
        AsOf::Decided => None,
        AsOf::EventTime => Some(
            "it changed nothing, so that nothing says when it was decided: what is asked of the member is shown as of the \
             event's own time"
                .to_owned(),
        ),
        AsOf::Now => {
            let (found, of) = (ledger.changes().count(), account.version);
            Some(format!(
                "the ledger is not whole, {found} of {of} changes of the account were found: what is asked of the member is \
                 shown as of now"
            ))
        }
    }
}

/// What the account itself keeps of the event, in short.
fn in_history(account: &Account, event: &EventId) -> Vec<Recorded> {
    let event = event.to_string();
    let entries = account.history.entries().into_iter().flatten();
    entries.filter(|entry| *entry.event == *event).map(|entry| Recorded::of_history(&entry)).collect()
}

fn sum(lines: &[Recorded]) -> Points {
    Points(lines.iter().map(|line| line.points.0).fold(0, i64::saturating_add))
}

fn nothing_counted(question: &Question) -> String {
    let Question { member, id, source } = question;
    let of = member.as_ref().map(|member| format!(" of member {member}")).unwrap_or_default();
    let from = source.as_ref().map(|source| format!(" from {source}")).unwrap_or_default();
    format!(
        "no event {id}{from}{of} has counted: it did not arrive, is a repeat under another id, stands among the dead letters \
         with the reason, has a type that the programme does not name, or is older than dedupe.window"
    )
}
