use std::collections::{HashMap, HashSet};

use super::*;
use crate::event::decode::{Decoded, Decoder};
use crate::event::{Event, Reason};
use crate::log::Record;
use crate::types::Coordinates;

const TYPES: [&str; 6] = [
    "order.paid",
    "member.signed_in",
    "review.posted",
    "content.shared",
    "member.registered",
    "survey.completed",
];

fn decoder(currency: &str) -> Decoder {
    Decoder::new(TYPES.iter().map(|kind| (*kind).into()).collect(), currency, 1_000_000)
}

fn record(payload: &[u8]) -> Record {
    Record {
        at: Coordinates { topic: "shop.orders".into(), partition: 0, offset: 0 },
        published_ms: None,
        key: None,
        payload: Some(payload.to_vec()),
        headers: Vec::new(),
    }
}

fn event(decoder: &Decoder, payload: &[u8]) -> Event {
    match decoder.decode(&record(payload)) {
        Ok(Decoded::Event(event)) => *event,
        other => panic!("{other:?}: {}", String::from_utf8_lossy(payload)),
    }
}

fn time(number: i64) -> i64 {
    1_790_000_000_000 + number * 137
}

fn sent(settings: TrafficSettings) -> Vec<(ShopTopic, String, Vec<u8>)> {
    let mut traffic = Traffic::new(settings);
    let sent = (0..5_000).map(|number| {
        let sent = traffic.next(time(number));
        (sent.topic, sent.key.to_owned(), sent.payload.to_vec())
    });
    sent.collect()
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let settings = TrafficSettings { duplicates: 0.1, broken: 0.1, ..Default::default() };
    assert!(sent(settings.clone()) == sent(settings));
}

#[test]
fn events_of_another_seed_have_other_ids() {
    let decoder = decoder("CNY");
    let ids = |seed| {
        let sent = sent(TrafficSettings { seed, broken: 0.0, ..Default::default() });
        sent.iter().map(|(_, _, payload)| event(&decoder, payload).id).collect::<HashSet<_>>()
    };
    assert!(ids(7).is_disjoint(&ids(8)));
}

#[test]
fn whatever_is_not_broken_decodes_and_its_key_is_its_member() {
    for currency in ["CNY", "JPY", "KWD"] {
        let decoder = decoder(currency);
        let settings = TrafficSettings {
            currency: currency.to_owned(),
            duplicates: 0.05,
            broken: 0.05,
            ..Default::default()
        };
        let mut traffic = Traffic::new(settings);
        let mut seen = HashSet::new();
        for number in 0..20_000 {
            let sent = traffic.next(time(number));
            if sent.nature == Nature::Broken {
                assert!(
                    decoder.decode(&record(sent.payload)).is_err(),
                    "{}",
                    String::from_utf8_lossy(sent.payload)
                );
                continue;
            }
            let event = event(&decoder, sent.payload);
            assert_eq!(event.member.as_str(), sent.key);
            if sent.nature == Nature::Fresh {
                assert_eq!(event.time.as_millisecond(), time(number));
            }
            seen.insert(event.kind.as_str().to_owned());
        }
        assert_eq!(seen.len(), TYPES.len(), "{seen:?}");
    }
}

#[test]
fn each_fault_is_found_for_what_it_is() {
    let decoder = decoder("CNY");
    let mut writer = Writer::new(1, "CNY");
    let mut rng = Rng::new(1);
    let mut reason = |fault: Fault| {
        let mut payload = Vec::new();
        let on = Occasion { member: "m1", number: 1, at_ms: time(1), fault };
        writer.order(&mut payload, &mut rng, on);
        fault.spoil(&mut payload);
        decoder.decode(&record(&payload)).map(|_| ()).map_err(|rejected| rejected.reason)
    };
    assert_eq!(reason(Fault::None), Ok(()));
    let expected = |fault: Fault| match fault {
        Fault::None => unreachable!(),
        Fault::CutOff | Fault::Empty => Reason::NotJson,
        Fault::NoId => Reason::NoId,
        Fault::NoTime => Reason::NoTime,
        Fault::BadTime => Reason::BadTime,
        Fault::NoMember | Fault::EmptyMember => Reason::NoMember,
        Fault::NoOrder => Reason::MissingField,
        Fault::Negative | Fault::TooFine => Reason::BadAmount,
        Fault::WrongKind => Reason::WrongKind,
        Fault::WrongCurrency => Reason::WrongCurrency,
    };
    for fault in Fault::ALL {
        assert_eq!(reason(fault), Err(expected(fault)), "{fault:?}");
    }
}

#[test]
fn the_shares_are_those_asked_for() {
    let settings = TrafficSettings {
        members: 10_000,
        hot_share: 0.3,
        duplicates: 0.1,
        broken: 0.02,
        ..Default::default()
    };
    let mut traffic = Traffic::new(settings);
    let (mut natures, mut topics) = (HashMap::new(), HashMap::new());
    let (mut hot, mut bytes) = (0, 0);
    for number in 0..100_000 {
        let sent = traffic.next(time(number));
        *natures.entry(sent.nature).or_insert(0) += 1;
        if sent.nature == Nature::Fresh {
            *topics.entry(sent.topic).or_insert(0) += 1;
            hot += i32::from(sent.key < "m0000100");
            bytes += sent.payload.len();
        }
    }
    let fresh = f64::from(natures[&Nature::Fresh]);
    let near = |number: i32, of: f64, share: f64| (f64::from(number) / of - share).abs() < 0.01;
    assert!(near(natures[&Nature::Repeat], 100_000.0, 0.1), "{natures:?}");
    assert!(near(natures[&Nature::Broken], 100_000.0, 0.02), "{natures:?}");
    // The rest of the traffic falls on the hottest too, as often as on anybody.
    assert!(near(hot, fresh, 0.3 + 0.7 * 0.012), "{hot} of {fresh}");
    assert!(near(topics[&ShopTopic::Orders], fresh, 0.7), "{topics:?}");
    let size = bytes as f64 / fresh;
    assert!((220.0..380.0).contains(&size), "{size} bytes an event");
}

#[test]
fn a_repeat_says_what_came_before_under_the_same_id_or_with_the_same_business_key() {
    let decoder = decoder("CNY");
    let mut traffic = Traffic::new(TrafficSettings { duplicates: 0.2, broken: 0.0, ..Default::default() });
    let (mut ids, mut keys) = (HashSet::new(), HashSet::new());
    let (mut by_id, mut by_key) = (0, 0);
    for number in 0..20_000 {
        let sent = traffic.next(time(number));
        let event = event(&decoder, sent.payload);
        let new_id = ids.insert(event.id.clone());
        let new_key = event.business_key.clone().is_none_or(|key| keys.insert(key));
        match (sent.nature, new_id, new_key) {
            (Nature::Fresh, true, true) => {}
            (Nature::Repeat, false, _) => by_id += 1,
            (Nature::Repeat, true, false) => by_key += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(by_id > 2_000 && by_key > 300, "{by_id} {by_key}");
}

#[test]
fn a_member_registers_once_and_the_last_have_joined_in_the_end() {
    let decoder = decoder("CNY");
    let mut traffic = Traffic::new(TrafficSettings { members: 100, duplicates: 0.0, ..Default::default() });
    let (mut registered, mut members) = (HashSet::new(), HashSet::new());
    for number in 0..20_000 {
        let sent = traffic.next(time(number));
        if sent.nature == Nature::Broken {
            continue;
        }
        let event = event(&decoder, sent.payload);
        if event.kind.as_str() == "member.registered" {
            assert!(registered.insert(event.member.clone()));
            assert!(!members.contains(&event.member), "{} was there before", event.member);
            assert!(!event.data.contains(&format!(r#""referrer_id":"{}""#, event.member)));
        }
        members.insert(event.member);
    }
    assert_eq!((registered.len(), members.len()), (20, 100));
}

#[test]
fn only_orders_where_only_orders_are_asked_for() {
    let mut traffic = Traffic::new(TrafficSettings { orders_only: true, members: 3, ..Default::default() });
    let keys: HashSet<String> = (0..1_000)
        .map(|number| {
            let sent = traffic.next(time(number));
            assert_eq!(sent.topic, ShopTopic::Orders);
            sent.key.to_owned()
        })
        .collect();
    assert_eq!(keys.len(), 3);
}
