//! What the targets share: records as text, a shop whose programme uses the whole language, and what must hold
//! for whatever an event does.

use std::collections::HashMap;
use std::sync::LazyLock;

use accrual::account::{Account, Retention};
use accrual::account_view::AccountView;
use accrual::entry::{Chain, Message, Renderer};
use accrual::event::Event;
use accrual::event::decode::{Decoded, Decoder};
use accrual::ledger::Published;
use accrual::log::{Header, Record};
use accrual::programme::Programme;
use accrual::rules::{Outside, apply, due};
use accrual::store::ReceiptKey;
use accrual::types::{Coordinates, Points};

/// The topic of what accrual tells itself.
const INTERNAL: &str = "internal";

/// As a worker has it by default.
pub const KEEPS: Retention = Retention { history: 10, months: 24, days: 30 };

/// A payload may be this long: what is larger is refused unread, and a fuzzer seldom makes it.
const MAX_RECORD_BYTES: usize = 1 << 20;

/// A programme that uses the whole language.
pub static PROGRAMME: LazyLock<Programme> = LazyLock::new(|| {
    let text = include_str!("../../tests/fixtures/config/whole-language.yaml");
    Programme::parse("whole-language.yaml", text).expect("the whole language is read")
});

/// A record of every type that a programme may name, one a line.
const EVENTS: &str = include_str!("../events.jsonl");

/// A decoder as lanes have it.
pub fn decoder(programme: &Programme) -> Decoder {
    let named = programme.by_type.keys().cloned().collect();
    Decoder::new(named, &programme.currency, MAX_RECORD_BYTES).with_internal(INTERNAL.into())
}

/// A record written as HTTP is: lines of `name: value` are headers and an empty line ends them; the rest is the
/// payload. Without an empty line all of it is. `:topic` and `:published` are no headers but say where it stands.
pub fn record(bytes: &[u8]) -> Record {
    let mut record = bare(bytes.to_vec());
    let Some(end) = bytes.windows(2).position(|two| two == b"\n\n") else { return record };
    let (head, payload) = (&bytes[..end], &bytes[end + 2..]);
    record.payload = Some(payload.to_vec());
    for line in head.split(|byte| *byte == b'\n') {
        let (name, value) = match line.iter().position(|byte| *byte == b':').filter(|colon| *colon > 0) {
            Some(colon) => (&line[..colon], Some(line[colon + 1..].trim_ascii())),
            None => match line.strip_prefix(b":topic: ") {
                Some(topic) => {
                    record.at.topic = String::from_utf8_lossy(topic).into_owned().into();
                    continue;
                }
                None => match line.strip_prefix(b":published: ") {
                    Some(at) => {
                        record.published_ms = std::str::from_utf8(at).ok().and_then(|at| at.parse().ok());
                        continue;
                    }
                    None => (line, None),
                },
            },
        };
        let name = String::from_utf8_lossy(name).into_owned();
        record.headers.push(Header { name, value: value.map(<[u8]>::to_vec) });
    }
    record
}

fn bare(payload: Vec<u8>) -> Record {
    Record {
        at: Coordinates { topic: "shop".into(), partition: 0, offset: 0 },
        published_ms: None,
        key: None,
        payload: Some(payload),
        headers: Vec::new(),
    }
}

/// Decodes twice: the same event must come of it, with ids that fit into keys.
pub fn decode(decoder: &Decoder, record: &Record) -> Option<Event> {
    match (decoder.decode(record), decoder.decode(record)) {
        (Ok(Decoded::Event(event)), Ok(Decoded::Event(again))) => {
            assert_eq!((&event.id, event.fingerprint), (&again.id, again.fingerprint));
            assert!(!event.member.as_str().trim_ascii().is_empty() && event.member.as_str().len() <= 512);
            assert!(!event.id.source.contains(' ') && event.id.source.len() + event.id.id.len() <= 1_024);
            Some(*event)
        }
        (Ok(Decoded::Skipped), Ok(Decoded::Skipped)) => None,
        (Err(rejected), Err(again)) => {
            assert_eq!(rejected, again);
            // Details go into a header and the log.
            assert!(
                !rejected.detail.is_empty() && rejected.detail.len() < 4_096,
                "{}",
                rejected.detail.len()
            );
            None
        }
        (one, other) => panic!("the same record is once {one:?} and once {other:?}"),
    }
}

/// Some members' accounts, and what is kept beside them.
#[derive(Default)]
pub struct Shop {
    accounts: HashMap<String, Account>,
    records: HashMap<ReceiptKey, Box<str>>,
}

impl Shop {
    /// Decides an event, as a lane does, and what accrual tells itself by it; and asserts what must hold for
    /// whatever comes.
    pub fn tell(&mut self, programme: &Programme, decoder: &Decoder, event: Event) {
        let mut told = vec![event];
        // What accrual tells itself ends: points that bounce, and referrals.
        for _ in 0..8 {
            let Some(event) = told.pop() else { break };
            for payload in self.decide(programme, &event) {
                let mut record = bare(payload);
                record.at.topic = INTERNAL.into();
                match decoder.decode(&record) {
                    Ok(Decoded::Event(event)) => told.push(*event),
                    Ok(Decoded::Skipped) => {}
                    Err(rejected) => panic!("accrual does not understand itself: {rejected:?} of {record:?}"),
                }
            }
        }
    }

    fn decide(&mut self, programme: &Programme, event: &Event) -> Vec<Vec<u8>> {
        let new = || Account::new(event.member.clone());
        let account = self.accounts.entry(event.member.as_str().to_owned()).or_insert_with(new);
        let before = account.clone();
        let records = &self.records;
        let recorded = |key: &ReceiptKey| records.get(key).cloned();
        let outside = Outside { paid_before: &|_| false, left: &|_| Points(1_000_000), record: &recorded };
        let outcome = match apply(programme, account, event, &KEEPS, &outside) {
            Ok(outcome) => outcome,
            Err(_) => {
                assert!(*account == before, "an event that is refused changed its account");
                return Vec::new();
            }
        };
        let renderer = Renderer::new(&programme.name);
        let mut folded = before;
        for applied in &outcome.applied {
            let mut payload = renderer.change(event, applied, &programme.version, None);
            let link = account.chain;
            Chain::seal(&mut account.chain, &mut payload);
            assert_eq!(Chain::follows(link.as_ref(), &payload), Some(true));
            let read = match Published::parse(&payload) {
                Ok(read) => read,
                Err(error) => panic!("{error}: {}", String::from_utf8_lossy(&payload)),
            };
            assert_eq!(read.change, applied.change, "{}", String::from_utf8_lossy(&payload));
            folded.evolve(&read.change, &KEEPS).expect("what was published folds");
            folded.chain = read.chain;
        }
        assert!(folded == *account, "the account is not the fold of what was published");
        check(programme, account);
        self.records.extend(outcome.records);
        let to_itself = outcome.messages.iter().filter(|message| !matches!(message, Message::Unclaimed(_)));
        to_itself.map(|message| renderer.message(event, message)).collect()
    }
}

/// What must hold for every account: it is read back as it was written, and can be shown.
pub fn check(programme: &Programme, account: &Account) {
    let json = account.to_json();
    let read = Account::from_json(&json).expect("an account is read back");
    assert!(read == *account, "{} is read back as something else", String::from_utf8_lossy(&json));
    for second in [account.newest, account.newest.saturating_add(400 * 86_400)] {
        if let Ok(now) = jiff::Timestamp::from_second(second) {
            let shown = due::as_of(programme, account, &KEEPS, now);
            serde_json::to_vec(&AccountView::of(programme, &shown, now)).expect("an account is shown");
        }
    }
    due::next(programme, account);
}

/// An event of every type, decided one after the other.
pub fn one_of_each(programme: &Programme) {
    let decoder = decoder(programme);
    let mut shop = Shop::default();
    for line in EVENTS.lines() {
        if let Some(event) = decode(&decoder, &record(line.replace("CUR", &programme.currency).as_bytes())) {
            shop.tell(programme, &decoder, event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_of_event_is_decided() {
        let decoder = decoder(&PROGRAMME);
        let text = EVENTS.replace("CUR", &PROGRAMME.currency);
        for line in text.lines() {
            assert!(matches!(decoder.decode(&record(line.as_bytes())), Ok(Decoded::Event(_))), "{line}");
        }
        one_of_each(&PROGRAMME);
    }
}
