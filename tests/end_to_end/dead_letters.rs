//! What could not count: looked at, and put back once what was wrong is mended.

use std::process::Output;

use serde_json::Value;

use super::broker::{self, Header};
use super::shop::{Shop, order};
use super::worker::Exit;
use super::{PLAIN, ledger};

/// Few enough that a test need not send thousands.
const FLOOD: &str = "dead_letters: {min_events: 100}\nbatch: {max_events: 50}\n";

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), output.stderr.as_slice()].concat()).into_owned()
}

impl Shop {
    fn listed(&self, filters: &[&str]) -> Vec<Value> {
        let list = self.accrual_of(&["dead-letters", "list"], &[&["--json"], filters].concat());
        assert_eq!(code(&list), Some(0), "{}", said(&list));
        let lines = std::str::from_utf8(&list.stdout).unwrap().lines();
        lines.map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn replay(&self, arguments: &[&str]) -> Output {
        self.accrual_of(&["dead-letters", "replay"], arguments)
    }

    fn show(&self, arguments: &[&str]) -> Output {
        self.accrual_of(&["dead-letters", "show"], arguments)
    }
}

/// The letters' places and whether they were replayed, in the order of their partitions.
fn places(letters: &[Value]) -> Vec<(String, bool)> {
    let place = |letter: &Value| {
        (letter["letter"].as_str().unwrap().to_owned(), letter["replayed"].as_bool().unwrap())
    };
    letters.iter().map(place).collect()
}

#[test]
fn a_letter_is_put_back_byte_for_byte_once_the_fault_is_mended_and_pays_once() {
    let shop = Shop::open("replayed", PLAIN, 3);
    let settings = shop.settings();
    // Whoever set this had not seen an order with many items.
    shop.write("accrual.yaml", &settings.replace("65536", "1024"));
    let member = shop.member("ann");
    let data = format!(
        r#"{{"member_id":"{member}","order_id":"large","amount":"40.00","currency":"USD","pad":"{}"}}"#,
        "x".repeat(3_000)
    );
    let headers: Vec<Header> = [
        ("ce_specversion", "1.0"),
        ("ce_id", "large"),
        ("ce_source", "shop/till"),
        ("ce_type", "order.paid"),
        ("ce_time", "2026-11-22T10:00:00Z"),
        ("content-type", "application/json"),
        ("accrual-reason", "upstream's own"),
    ]
    .iter()
    .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
    .collect();
    shop.produce_with_headers("k", &data, &headers);
    let paid = order("small", &member, "2.00");
    let other = paid.replace("2.00", "3.00");
    shop.produce_keyed(&[paid, other, "{oops".to_owned()].map(|payload| ("k".to_owned(), payload)));
    shop.work_off();
    assert_eq!(ledger(&shop.awards())[&member], 2);

    // What is listed and shown.
    let letters = shop.listed(&[]);
    let mut reasons: Vec<&str> = letters.iter().map(|letter| letter["reason"].as_str().unwrap()).collect();
    reasons.sort_unstable();
    assert_eq!(reasons, ["conflicting_duplicate", "not_json", "too_large"]);
    let large = shop.listed(&["--reason", "too_large", "--topic", &shop.input(), "--since", "1h"]);
    let [large] = &large[..] else { panic!("{large:?}") };
    assert_eq!((&large["member_id"], &large["event_id"]), (&member.as_str().into(), &"large".into()));
    assert_eq!(large["bytes"], data.len());
    assert!(shop.listed(&["--reason", "too_large", "--until", "1h"]).is_empty());
    let table = said(&shop.accrual_of(&["dead-letters", "list"], &[]));
    assert!(table.contains("REASON") && table.contains("too_large"), "{table}");
    let unknown = shop.accrual_of(&["dead-letters", "list"], &["--reason", "too_big"]);
    assert_eq!(code(&unknown), Some(2));
    assert!(said(&unknown).contains("too_large, too_long"), "{}", said(&unknown));
    let unread = shop.accrual_of(&["dead-letters", "list"], &["--since", "yesterday"]);
    assert_eq!(code(&unread), Some(2), "{}", said(&unread));
    let (at, source) = (large["letter"].as_str().unwrap(), large["source"].as_str().unwrap());
    let shown = shop.show(&[at]);
    assert_eq!(code(&shown), Some(0), "{}", said(&shown));
    let by_source = shop.show(&[source, "--source"]);
    assert_eq!(said(&shown), said(&by_source));
    for part in [
        r#""amount": "40.00""#,
        "limits.max_record_bytes",
        "not replayed",
        "ce_type: order.paid",
        "accrual-reason: upstream's own",
    ] {
        assert!(said(&shown).contains(part), "{part} is not in\n{}", said(&shown));
    }
    assert_eq!(code(&shop.show(&[source])), Some(2), "not on the dead letter topic");
    assert_eq!(code(&shop.show(&["0/999999"])), Some(1));

    // Nothing happens without being asked for.
    let before = broker::read(&shop.input()).len();
    for (arguments, expected) in [
        (["--reason", "too_large", "--dry-run"].as_slice(), 0),
        (&["--reason", "too_large"], 2),
        (&["--yes"], 2),
        (&["--all", "--reason", "too_large", "--yes"], 2),
        (&["0/1", "--reason", "too_large", "--yes"], 2),
        (&["none", "--yes"], 2),
        (&["--reason", "conflicting_duplicate", "--yes"], 1),
        (&["0/999999", "--yes"], 1),
    ] {
        let replay = shop.replay(arguments);
        assert_eq!(code(&replay), Some(expected), "{arguments:?}: {}", said(&replay));
    }
    assert_eq!(broker::read(&shop.input()).len(), before);
    assert!(places(&shop.listed(&[])).iter().all(|(_, replayed)| !replayed));

    // Mended.
    shop.write("accrual.yaml", &settings);
    let replay = shop.replay(&[at, "--yes"]);
    assert_eq!(code(&replay), Some(0), "{}", said(&replay));
    assert!(said(&replay).contains("put back 1 letter"), "{}", said(&replay));
    let input = broker::read(&shop.input());
    assert_eq!(input.len(), before + 1);
    let copies: Vec<_> = input.iter().filter(|record| record.payload == data.as_bytes()).collect();
    let [first, second] = &copies[..] else { panic!("{} copies", copies.len()) };
    assert_eq!((&first.key, &first.headers), (&second.key, &second.headers));
    assert_eq!(second.headers, headers);
    shop.work_off();
    assert_eq!(ledger(&shop.awards())[&member], 42);

    // Again, and by others, it is left alone.
    for arguments in [[at, "--yes"].as_slice(), &["--reason", "too_large", "--yes"]] {
        let again = shop.replay(arguments);
        assert_eq!(code(&again), Some(0), "{}", said(&again));
        assert!(said(&again).contains("1 letter replayed before"), "{}", said(&again));
    }
    assert_eq!(broker::read(&shop.input()).len(), before + 1);
    assert!(said(&shop.show(&[at])).contains("replayed at 2"), "{}", said(&shop.show(&[at])));
    assert_eq!(places(&shop.listed(&["--reason", "too_large"])), [(at.to_owned(), true)]);
    shop.rewind();
    shop.work_off();
    assert_eq!(ledger(&shop.awards())[&member], 42, "a rewound group pays nothing again");

    // What fails again is another letter, to be replayed by itself.
    for number in 1..=2 {
        let replay = shop.replay(&["--reason", "not_json", "--yes"]);
        assert!(said(&replay).contains("put back 1 letter"), "{}", said(&replay));
        shop.work_off();
        let letters = shop.listed(&["--reason", "not_json"]);
        let replayed = places(&letters).iter().filter(|(_, replayed)| *replayed).count();
        assert_eq!((letters.len(), replayed), (number + 1, number), "{letters:?}");
    }
}

#[test]
fn no_letter_is_put_back_twice_by_two_who_replay_at_once_after_one_that_was_killed() {
    let shop = Shop::open("replayed-twice", PLAIN, 2);
    shop.write("accrual.yaml", &format!("{}dead_letters: {{max_share: 1}}\n", shop.settings()));
    let letters = 6_000;
    let records: Vec<(String, String)> = (0..letters).map(|n| (n.to_string(), format!("{{{n}"))).collect();
    shop.produce_keyed(&records);
    shop.work_off();
    assert_eq!(shop.dead_letters().len(), letters);
    let replay = || shop.command_of(&["dead-letters", "replay"], &["--all", "--yes"]).spawn().unwrap();
    // At whatever it is.
    let mut killed = replay();
    std::thread::sleep(std::time::Duration::from_millis(700));
    killed.kill().unwrap();
    killed.wait().unwrap();
    let both = [replay(), replay()].map(|replay| replay.wait_with_output().unwrap());
    // Whoever was overtaken ends with an error; what it had put back is known to the other.
    assert!(both.iter().any(|replay| code(replay) == Some(0)), "{}\n{}", said(&both[0]), said(&both[1]));
    let rest = shop.replay(&["--all", "--yes"]);
    assert!(said(&rest).contains("6,000 letters replayed before"), "{}", said(&rest));
    assert_eq!(broker::read(&shop.input()).len(), 2 * letters);
}

#[test]
fn a_flood_of_dead_letters_stops_the_input_and_what_comes_behind_it_waits() {
    let shop = Shop::open("flood", PLAIN, 1);
    let settings = shop.settings().replace("lanes: 2", "lanes: 1");
    shop.write("accrual.yaml", &format!("{settings}{FLOOD}"));
    let member = shop.member("ann");
    let mut records: Vec<(String, String)> = (0..300).map(|n| ("k".to_owned(), format!("{{{n}"))).collect();
    records.push(("k".to_owned(), order("o1", &member, "30.00")));
    shop.produce_keyed(&records);
    let worker = shop.start(&[]);
    worker.wait_for_metric(r#"accrual_input_stopped{lane="0"} 1"#);
    worker.wait_for_status("/readyz", 503);
    let why = worker.get("/readyz").1;
    for part in ["takes no input", "not_json", "ACCRUAL_DEAD_LETTERS__MAX_SHARE=1"] {
        assert!(why.contains(part), "{part} is not in {why}");
    }
    assert_eq!(worker.get("/livez").0, 200, "a restart would not help");
    assert_eq!(worker.terminate(), Exit::Code(0));
    assert!(shop.awards().is_empty());
    let taken = shop.dead_letters().len();
    assert!((100..=150).contains(&taken), "{taken} letters");

    // A run that is to end by itself ends, and says that it is not done.
    let (exit, log) = shop.start(&["--until-idle"]).wait();
    assert_eq!(exit, Exit::Code(1), "{log}");
    assert!(log.contains("there may be more to work off"), "{log}");

    shop.write("accrual.yaml", &format!("{settings}{}", FLOOD.replace("{min", "{max_share: 1, min")));
    shop.work_off();
    assert_eq!(shop.dead_letters().len(), 300, "nothing is lost, and nothing is a letter twice");
    assert_eq!(ledger(&shop.awards())[&member], 30);
}
