//! What comes in may be anything that a broker lets through, and what a person writes anything that fits a file: each is
//! an event, a dead letter with its reason, or an error that says what is wrong. Nothing here is allowed to end the
//! process: no panic, no stack that overflows, no memory without bound. `fuzz/` looks for more.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fmt::Write as _;

use accrual::account::{Account, Retention};
use accrual::account_view::AccountView;
use accrual::event::decode::{DEEPEST, Decoded, Decoder, LONGEST_ID, MOST_ITEMS, MOST_VALUES};
use accrual::event::{Event, Reason};
use accrual::log::{Header, Record};
use accrual::programme::condition::{
    Condition, DataValue, EventFacts, Expression, Facts, Failure, LONGEST_KEY, Scope,
};
use accrual::programme::{Each, Programme};
use accrual::rules::{Outside, apply, due};
use accrual::types::Coordinates;
use jiff::Timestamp;

const PROGRAMME: &str = "
programme: shop
timezone: Asia/Shanghai
currency: CNY
points: {hold: P7D, expire: {after: P1Y, at: end_of_month}, notice: P30D}
tiers: {window: P12M, review: {every: P1Y, drop: one_level}, levels: [{id: basic, from: 0}, {id: silver, from: 100, earn: 1.5}]}
rules:
  - {id: purchase, on: order.paid, when: data.amount >= 5, earn: {points: 1, per: 1.00}, limit: {points: 5000, per: month}}
  - {id: sign-in, on: member.signed_in, earn: {points: 5}, limit: {times: 1, per: day}, streak: {7: 20}}
  - {id: gift, on: member.birthday, earn: {points: 50}}
campaigns: [{id: birthday, on: order.paid, during: birthday, multiply: 2}]
";

/// What `limits.max_record_bytes` may be at most.
const LARGEST: usize = 100 << 20;

fn programme() -> Programme {
    Programme::parse("programme.yaml", PROGRAMME).unwrap()
}

fn decoder(largest: usize) -> Decoder {
    let types = programme().by_type.keys().cloned().collect();
    Decoder::new(types, "CNY", largest).with_internal("internal".into())
}

fn record(payload: impl Into<Vec<u8>>) -> Record {
    Record {
        at: Coordinates { topic: "shop".into(), partition: 0, offset: 0 },
        published_ms: None,
        key: None,
        payload: Some(payload.into()),
        headers: Vec::new(),
    }
}

fn structured(kind: &str, time: &str, data: &str) -> Record {
    record(format!(
        r#"{{"specversion":"1.0","id":"e1","source":"shop","type":"{kind}","time":"{time}","data":{{"member_id":"m"{data}}}}}"#
    ))
}

fn order(rest: &str) -> Record {
    let data = format!(r#","order_id":"o","amount":"20.00","currency":"CNY"{rest}"#);
    structured("order.paid", "2026-11-22T10:00:00Z", &data)
}

fn event(record: &Record) -> Event {
    match decoder(LARGEST).decode(record) {
        Ok(Decoded::Event(event)) => *event,
        other => panic!("{other:?}"),
    }
}

/// Why a record is a dead letter. What is said of it goes into a header and so is short.
fn reason(record: &Record) -> Reason {
    match decoder(LARGEST).decode(record) {
        Err(rejected) => {
            assert!((1..1_500).contains(&rejected.detail.len()), "{}", rejected.detail);
            rejected.reason
        }
        Ok(_) => panic!("it is no dead letter"),
    }
}

#[test]
fn a_record_larger_than_allowed_is_a_dead_letter_unread() {
    let mut large = vec![b'x'; 10 << 20];
    assert_eq!(decoder(1 << 20).decode(&record(large.clone())).unwrap_err().reason, Reason::TooLarge);
    // Where it is allowed it is read: and is no JSON.
    assert_eq!(reason(&record(large.clone())), Reason::NotJson);
    large.fill(b'[');
    assert_eq!(reason(&record(large)), Reason::WrongKind);
}

#[test]
fn a_large_record_that_is_right_counts_where_it_is_allowed() {
    let note = format!(r#","note":"{}""#, "x".repeat(10 << 20));
    assert_eq!(event(&order(&note)).order.unwrap().amount, 20.into());
    assert_eq!(decoder(1 << 20).decode(&order(&note)).unwrap_err().reason, Reason::TooLarge);
}

#[test]
fn json_that_nests_deep_is_a_dead_letter_wherever_it_stands() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    let objects = |depth: usize| r#"{"a":"#.repeat(depth) + "1" + &"}".repeat(depth);
    for deep in [nested(100_000), objects(100_000), nested(DEEPEST)] {
        assert_eq!(
            reason(&record(deep.clone())),
            if deep.starts_with('[') { Reason::WrongKind } else { Reason::NoType }
        );
        for field in ["note", "items", "shipping", "channel"] {
            let rejected = reason(&order(&format!(r#","{field}":{deep}"#)));
            assert!(matches!(rejected, Reason::NotJson), "{field}: {rejected:?}");
        }
        let update =
            structured("member.updated", "2026-11-22T10:00:00Z", &format!(r#","attributes":{deep}"#));
        assert_eq!(reason(&update), Reason::NotJson);
    }
    // Brackets within text nest nothing, however many there are, and as deep as is allowed is read.
    event(&order(&format!(r#","note":"{}\"{}""#, "[".repeat(1_000), "{".repeat(1_000))));
    event(&order(&format!(r#","note":{}"#, nested(DEEPEST - 1))));
}

#[test]
fn a_torn_or_unclosed_text_full_of_brackets_is_a_dead_letter() {
    for rest in [r#","note":"\"#, r#","note":"[[["#, &format!(r#","note":{}"#, "[".repeat(5_000))] {
        let mut torn = order(rest);
        torn.payload.as_mut().unwrap().truncate(150 + rest.len() - 2);
        assert_eq!(reason(&torn), Reason::NotJson);
    }
}

#[test]
fn bytes_that_are_no_utf8_are_a_dead_letter_in_payload_and_headers() {
    assert_eq!(reason(&record(*b"\xff\xfe")), Reason::NotJson);
    let mut within = order(r#","note":"?""#);
    let payload = within.payload.as_mut().unwrap();
    let at = payload.iter().rposition(|byte| *byte == b'?').unwrap();
    payload[at] = 0xC3;
    assert_eq!(reason(&within), Reason::NotJson);
    // Half of a pair of surrogates, as an escape.
    assert_eq!(
        reason(&structured("order.paid", "2026-11-22T10:00:00Z", r#","order_id":"\ud800""#)),
        Reason::NotJson
    );
    let mut binary = record(*br#"{"member_id":"m"}"#);
    for name in ["ce_id", "ce_source", "ce_type", "ce_time"] {
        binary.headers.push(Header { name: name.to_owned(), value: Some(vec![0xff]) });
    }
    assert_eq!(reason(&binary), Reason::WrongKind);
}

#[test]
fn numbers_that_no_account_can_hold_are_dead_letters() {
    let amount = |number: &str| {
        let data = format!(r#","order_id":"o","currency":"CNY","amount":{number}"#);
        reason(&structured("order.paid", "2026-11-22T10:00:00Z", &data))
    };
    let long = "9".repeat(1_000_000);
    let fine = format!("0.{}1", "0".repeat(1_000_000));
    for number in [
        "1e999",
        "-1e999",
        "1e-999",
        "1E+99999999999999999999",
        "1e-99999999999999999999",
        "1e2147483648",
        "1e16",
        "\"1e999\"",
        "\"e\"",
        "\"1e\"",
        "\"e5\"",
        "\"-\"",
        "\".\"",
        "\"0x10\"",
        "\"NaN\"",
        "\"Infinity\"",
        "79228162514264337593543950336",
        &long,
        &fine,
        &format!("\"{long}\""),
        &format!("1e{long}"),
        "5e-2147483648",
    ] {
        let shown: String = number.chars().take(40).collect();
        assert_eq!(amount(number), Reason::BadAmount, "{shown}");
    }
    for field in ["shipping", "points_paid"] {
        assert_eq!(reason(&order(&format!(r#","{field}":1e999"#))), Reason::BadAmount);
    }
    for item in [
        r#"{"price":1e999,"quantity":1}"#,
        r#"{"price":1,"quantity":1e999}"#,
        r#"{"price":1000000000000000,"quantity":1000000000000000}"#,
    ] {
        let rejected = decoder(LARGEST).decode(&order(&format!(r#","items":[{item}]"#)));
        // The last is a sum that a decimal holds.
        assert!(rejected.as_ref().is_ok() || rejected.unwrap_err().reason == Reason::BadAmount, "{item}");
    }
    let adjusted = |points: &str| {
        let data = format!(r#","adjustment_id":"a","reason":"r","by":"kim","points":{points}"#);
        reason(&structured("points.adjusted", "2026-11-22T10:00:00Z", &data))
    };
    for points in ["1e999", "9223372036854775808", "-9223372036854775808", "1.5", "\"\"", "true", &long] {
        assert_eq!(adjusted(points), Reason::BadAmount);
    }
}

#[test]
fn a_number_out_of_range_where_nobody_reads_it_does_not_stop_an_order() {
    let event = event(&order(r#","note":1e999"#));
    let mut account = Account::new("m".into());
    let outcome = apply(&programme(), &mut account, &event, &KEEPS, &Outside::UNTOUCHED).unwrap();
    // A condition cannot read such data, and so does not hold; the order is remembered all the same.
    assert_eq!((outcome.unsure.len(), account.activity.orders), (1, 1));
}

#[test]
fn lists_are_bounded_whatever_a_record_may_weigh() {
    let items = |many: usize, item: &str| format!(r#","items":[{}]"#, vec![item; many].join(","));
    let right = r#"{"price":1,"quantity":1}"#;
    assert_eq!(event(&order(&items(MOST_ITEMS, right))).order.unwrap().items.len(), MOST_ITEMS);
    assert_eq!(reason(&order(&items(MOST_ITEMS + 1, right))), Reason::TooLong);
    for item in [right, "{}", "0", "[]"] {
        assert_eq!(reason(&order(&items(1_000_000, item))), Reason::TooLong, "a million of {item}");
    }
    assert_eq!(
        reason(&order(&format!(r#","tags":[{}]"#, vec!["0"; MOST_VALUES].join(",")))),
        Reason::TooLong
    );
    let refund = format!(
        r#","order_id":"o","refund_id":"r","amount":1,"lines":[{}]"#,
        vec![r#"{"line_id":"l","quantity":1,"amount":0}"#; MOST_ITEMS + 1].join(",")
    );
    assert_eq!(reason(&structured("order.refunded", "2026-11-22T10:00:00Z", &refund)), Reason::TooLong);
    let segments = format!(r#","segments":[{}]"#, vec!["\"s\""; 100_000].join(","));
    assert_eq!(reason(&structured("member.updated", "2026-11-22T10:00:00Z", &segments)), Reason::TooLong);
    let attributes = format!(r#","attributes":{{"a":"{}"}}"#, "x".repeat(1 << 20));
    assert_eq!(reason(&structured("member.updated", "2026-11-22T10:00:00Z", &attributes)), Reason::TooLong);
}

/// The most memory that this process has had, in bytes. Other tests run beside this one, with far less.
#[cfg(target_os = "linux")]
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

#[cfg(target_os = "linux")]
#[test]
fn a_record_of_many_small_values_takes_no_multiple_of_its_size() {
    const SIZE: usize = 90 << 20;
    let lines = structured(
        "order.paid",
        "2026-11-22T10:00:00Z",
        &format!(r#","order_id":"o","amount":1,"currency":"CNY","items":[{}{{}}]"#, "{},".repeat(SIZE / 3)),
    );
    // Making the record took the text a few times over.
    let before = peak();
    assert_eq!(reason(&lines), Reason::TooLong);
    let more = peak() - before;
    assert!(more < SIZE, "{} MB more", more >> 20);
}

#[test]
fn ids_and_keys_are_bounded() {
    let long = "x".repeat(1 << 20);
    let put = |name: &str| {
        let mut record = order("");
        let payload = String::from_utf8(record.payload.take().unwrap()).unwrap();
        let from = payload.find(&format!("\"{name}\":\"")).unwrap() + name.len() + 4;
        let until = from + payload[from..].find('"').unwrap();
        record.payload = Some(format!("{}{long}{}", &payload[..from], &payload[until..]).into_bytes());
        record
    };
    for name in ["id", "source", "type", "time", "member_id", "order_id", "currency"] {
        assert_eq!(reason(&put(name)), Reason::TooLong, "{name}");
    }
    let line = format!(r#","items":[{{"line_id":"{}","price":1,"quantity":1}}]"#, &long[..=LONGEST_ID]);
    assert_eq!(reason(&order(&line)), Reason::TooLong);
    // The key of a record is not looked at.
    let keyed = Record { key: Some(vec![0xff; 1 << 20]), ..order("") };
    event(&keyed);
}

#[test]
fn a_million_headers_are_looked_through() {
    let mut binary = record(*br#"{"member_id":"m"}"#);
    let header = |at: usize| Header { name: format!("x-{at}"), value: Some(at.to_string().into_bytes()) };
    binary.headers = (0..1_000_000).map(header).collect();
    assert_eq!(reason(&binary), Reason::NoType);
    for (name, value) in [
        ("ce_id", "e"),
        ("ce_source", "s"),
        ("ce_type", "member.signed_in"),
        ("ce_time", "2026-11-22T10:00:00Z"),
    ] {
        binary.headers.push(Header { name: name.to_owned(), value: Some(value.as_bytes().to_vec()) });
    }
    assert_eq!(&*event(&binary).id.id, "e");
}

#[test]
fn a_key_that_stands_twice_in_what_is_read_is_a_dead_letter_and_elsewhere_the_last_counts() {
    assert_eq!(reason(&order(r#","amount":"1000000.00""#)), Reason::WrongKind);
    assert_eq!(reason(&order(r#","member_id":"other""#)), Reason::WrongKind);
    let mut twice = order("");
    let payload = String::from_utf8(twice.payload.take().unwrap()).unwrap();
    twice.payload = Some(payload.replacen(r#""id":"e1""#, r#""id":"e1","id":"e2""#, 1).into_bytes());
    assert_eq!(reason(&twice), Reason::WrongKind);
    event(&order(r#","note":1,"note":2"#));
}

const KEEPS: Retention = Retention { history: 10, months: 24, days: 30 };

#[test]
fn times_at_the_ends_of_the_calendar_are_decided_or_refused() {
    let times = [
        "9999-12-30T22:00:00Z",
        "9999-12-31T23:59:59.999999999Z",
        "-009999-01-01T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "0001-02-29T00:00:00Z",
        "1970-01-01T00:00:00Z",
        "2026-11-22T24:00:00Z",
        "2016-12-31T23:59:60Z",
        "2026-11-22T10:00:00+25:59",
        "2026-11-22T10:00:00-25:59",
        "2026-11-22T10:00:00+99:99",
    ];
    let programme = programme();
    let mut decided = 0;
    for time in times {
        let mut account = Account::new("m".into());
        for (kind, data) in [
            ("member.registered", r#","birthday":"9999-12-31""#),
            ("order.paid", r#","order_id":"o","amount":"200.00","currency":"CNY""#),
            ("member.signed_in", ""),
            ("order.refunded", r#","order_id":"o","refund_id":"r","amount":"1.00""#),
        ] {
            match decoder(LARGEST).decode(&structured(kind, time, data)) {
                Ok(Decoded::Event(event)) => {
                    apply(&programme, &mut account, &event, &KEEPS, &Outside::UNTOUCHED).unwrap();
                    decided += 1;
                }
                Err(rejected) => assert_eq!(rejected.reason, Reason::BadTime, "{time}"),
                Ok(Decoded::Skipped) => panic!("{kind}"),
            }
        }
        assert_eq!(Account::from_json(&account.to_json()).unwrap(), account);
        for now in [Timestamp::MIN, Timestamp::UNIX_EPOCH, Timestamp::MAX] {
            let shown = due::as_of(&programme, &account, &KEEPS, now);
            serde_json::to_string(&AccountView::of(&programme, &shown, now)).unwrap();
        }
        due::next(&programme, &account);
    }
    assert!(decided >= 12, "{decided}");
}

/// What is wrong with a programme of this text.
fn problems(text: &str) -> String {
    let found = Programme::parse("programme.yaml", text).unwrap_err().to_string();
    assert!(!found.is_empty());
    found
}

#[test]
fn a_programme_of_too_much_says_so() {
    let mut many = PROGRAMME.to_owned();
    let at = many.find("campaigns:").unwrap();
    let rules = (0..10_000).fold(String::new(), |mut rules, number| {
        writeln!(rules, "  - {{id: r{number}, on: order.paid, earn: {{points: 1}}}}").unwrap();
        rules
    });
    many.insert_str(at, &rules);
    assert!(problems(&many).contains("`rules` has 10003 entries; at most 1000 are supported"));
    assert!(problems(&format!("x: {}", "y".repeat(2 << 20))).contains("bytes; at most 1048576 are read"));
    assert!(problems(&format!("x: [{}]", "0,".repeat(300_000))).contains("more than 200000 values"));
}

#[test]
fn a_programme_that_nests_deep_says_so() {
    let deep = "stand more than 32 deep within each other";
    for (open, close) in [("[", "]"), ("{a: ", "}"), ("- ", ""), ("? ", ""), ("a: ", ""), ("[{a: ", "}]")] {
        let text = open.repeat(100_000) + "1" + &close.repeat(100_000);
        let found = problems(&text);
        assert!(
            found.contains(deep) || found.contains("not valid YAML") || found.contains("unknown key"),
            "{open}: {found}"
        );
    }
    let indented = (0..2_000).fold(String::new(), |mut text, depth| {
        writeln!(text, "{}a:", " ".repeat(depth.min(400))).unwrap();
        text
    });
    problems(&indented);
}

#[test]
fn a_bomb_of_aliases_is_refused_at_the_first() {
    let mut bomb = String::from("a0: &a0 [lol, lol]\n");
    for level in 1..30 {
        let before = level - 1;
        writeln!(bomb, "a{level}: &a{level} [*a{before}, *a{before}, *a{before}, *a{before}]").unwrap();
    }
    assert!(problems(&bomb).contains("anchors (`&name`) are not supported"));
    assert!(problems("a: *b\n").contains("aliases are not supported"));
    assert!(problems("a: {<<: *b}\n").contains("aliases are not supported"));
}

/// What is wrong with a condition.
fn objections(source: &str) -> Vec<String> {
    let scope = Scope { on: &"order.paid".into(), each: Each::Event };
    let found = Condition::compile(source, &scope).map(|condition| condition.source().len()).unwrap_err();
    found.into_iter().map(|problem| problem.message).collect()
}

#[test]
fn a_condition_that_nests_deep_says_so() {
    let nest = |open: &str, close: &str, depth: usize| open.repeat(depth) + "true" + &close.repeat(depth);
    for (open, close) in [
        ("(", ")"),
        ("[", "]"),
        ("true || (", ")"),
        ("true ? true : ", ""),
        ("true == ", ""),
        ("size([", "])"),
        ("data.items.exists(x, ", ")"),
        ("{1: ", "}"),
        ("[][", "]"),
        ("", ".a"),
        ("", "[0]"),
        ("", "()"),
    ] {
        // Ten thousand are too long already; what fits into a condition is looked at, and refused for its depth or more.
        assert!(objections(&nest(open, close, 10_000))[0].contains("characters are too long"), "{open}");
        let fits = 1_990 / (open.len() + close.len());
        for depth in [fits, fits / 2, 150, 100] {
            assert!(!objections(&nest(open, close, depth.min(fits))).is_empty(), "{open}");
        }
    }
    // An even number of signs is none, to the parser already.
    let scope = Scope { on: &"order.paid".into(), each: Each::Event };
    assert!(Condition::compile(&nest("!", "", 1_990), &scope).is_ok());
    assert!(objections(&nest("(", ")", 200)).iter().any(|message| message.contains("nests too deep")));
}

#[test]
fn a_condition_does_bounded_work_whatever_the_event_holds() {
    let items = vec![r#"{"name":"aaaaaaaaaaaaaaaaaaaaaaaa","tags":["a","b"]}"#; 1_000].join(",");
    let data = format!(r#"{{"items":[{items}],"note":"{}"}}"#, "x".repeat(1 << 20));
    let data: DataValue<'_> = serde_json::from_str(&data).unwrap();
    let event = EventFacts {
        id: "e",
        source: "s",
        event_type: "order.paid",
        time: Timestamp::UNIX_EPOCH,
        subject: None,
    };
    let facts = Facts { event, data: &data, item: None, member: None };
    let scope = Scope { on: &"order.paid".into(), each: Each::Event };
    let note = r#"data["note"]"#;
    for source in [
        // A million turns, and text that grows with each.
        r#"data.items.all(x, data.items.all(y, x["name"] == y["name"]))"#.to_owned(),
        r#"size(data.items.map(x, data.items.map(y, string(x["name"]) + string(y["name"])))) > 0"#.to_owned(),
        r#"data.items.map(x, data.items.map(y, y["name"])).size() > 0"#.to_owned(),
        // Repetition of a long text.
        format!("size({note} + {note} + {note} + {note}) > 0"),
        format!("data.items.map(x, {note} + {note}) == []"),
        format!("data.items.exists(x, {note}.contains(\"y\"))"),
        format!("data.items.exists(x, {note} == {note} + \"y\")"),
        "data.items.exists(x, data.items == data.items + [1])".to_owned(),
    ] {
        let condition = match Condition::compile(&source, &scope) {
            Ok(condition) => condition,
            Err(problems) => panic!("{source}: {problems:?}"),
        };
        assert_eq!(condition.holds(&facts), Err(Failure::TooManySteps), "{source}");
    }
    // There is nothing in the language that a search could go back and forth in.
    assert!(
        objections(r#"data["note"].matches("(x+)+y")"#).iter().any(|message| message.contains("matches"))
    );
}

#[test]
fn a_key_of_once_per_is_bounded_because_it_is_kept_for_ever() {
    let scope = Scope { on: &"survey.completed".into(), each: Each::Event };
    let key = Expression::compile("data.name", &scope).unwrap();
    let asked = |name: String| {
        let data = DataValue::Object(vec![("name".into(), DataValue::Text(name.into()))]);
        let event = EventFacts {
            id: "e",
            source: "s",
            event_type: "survey.completed",
            time: Timestamp::UNIX_EPOCH,
            subject: None,
        };
        key.evaluate(&Facts { event, data: &data, item: None, member: None })
    };
    assert_eq!(asked("x".repeat(LONGEST_KEY)), Ok("x".repeat(LONGEST_KEY)));
    assert_eq!(asked("x".repeat(LONGEST_KEY + 1)), Err(Failure::LongKey));
}

#[test]
fn an_account_of_foreign_bytes_is_an_error() {
    let deep = format!(
        r#"{{"v":1,"member_id":"m","available":0,"pending":0,"history":[{}{}]}}"#,
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    let tiers = format!(
        r#"{{"v":1,"member_id":"m","available":0,"pending":0,"tier":{}null{}}}"#,
        r#"{"id":"t","since":0,"before":"#.repeat(10_000),
        "}".repeat(10_000)
    );
    for bytes in [
        b"".as_slice(),
        b"{}",
        b"[]",
        b"\xff",
        br#"{"v":-1}"#,
        br#"{"v":1e999}"#,
        &deep.as_bytes()[..5_000],
        tiers.as_bytes(),
    ] {
        assert!(Account::from_json(bytes).is_err());
    }
}
