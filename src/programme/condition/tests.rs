//! The language as its users meet it: source and JSON in, answer or problems out.

use super::*;
use crate::account::Activity;

const ORDER: &str = r#"{
    "member_id": "m-1", "order_id": "o-1", "amount": 250.00, "currency": "CNY", "shipping": "12.50",
    "channel": "app", "loyalty_hint": "vip", "points_paid": null, "huge": 1e300,
    "items": [
        {"line_id": "1", "sku": "b-1", "category": "books", "tags": ["new", "paper"], "quantity": 2, "price": "29.33"},
        {"line_id": "2", "sku": "t-1", "category": "toys", "tags": [], "quantity": 1, "price": 100.5},
        {"line_id": "3", "sku": "g-1", "category": "games", "brand": "Döner & Co", "quantity": 3, "price": 10}
    ]
}"#;

fn with_order<T>(each: Each, on: &str, json: &str, ask: impl Fn(&Scope<'_>, &Facts<'_>) -> T) -> T {
    let data: DataValue<'_> = serde_json::from_str(json).unwrap();
    let item = match data.field("items") {
        Some(DataValue::List(items)) => items.first(),
        _ => None,
    };
    let event = EventFacts {
        id: "e-1",
        source: "/shop",
        event_type: on,
        time: "2026-11-10T20:30:00+08:00".parse().unwrap(),
        subject: None,
    };
    let on = EventType::from(on);
    let fields: DataValue<'_> = serde_json::from_str(MEMBER).unwrap();
    let mut activity = Activity::default();
    for (day, amount) in [((2026, 8, 31), 10), ((2026, 9, 1), 20), ((2026, 10, 5), 30), ((2026, 11, 1), 40)] {
        activity.order(amount.into(), 0, jiff::civil::date(day.0, day.1, day.2), 0);
    }
    activity.sign_in(jiff::civil::date(2026, 11, 1), 0);
    let member = MemberFacts { fields: &fields, activity: &activity, month: 2026 * 12 + 10 };
    ask(&Scope { on: &on, each }, &Facts { event, data: &data, item, member: Some(member) })
}

const MEMBER: &str = r#"{"id": "m-1", "tier": "gold", "available": 120, "segments": ["vip"], "attributes": {"floor": 3},
    "orders": 4, "spend": 100}"#;

#[test]
fn a_member_is_asked_for_what_was_known_before_the_event() {
    all_hold(
        "order.paid",
        ORDER,
        &[
            "member.tier == \"gold\"",
            "member.tier in [\"gold\", \"diamond\"]",
            "\"vip\" in member.segments",
            "member.attributes.floor >= 3",
            "member.available > 100 && member.orders == 4 && member.spend == 100",
            "!has(member.birthday) && has(member.tier)",
            "member.orders_in_months(1) == 1",
            "member.orders_in_months(3) == 3",
            "member.spend_in_months(3) == 90",
            "member.spend_in_months(24) == 100",
            "member.sign_ins_in_months(3) == 1",
        ],
    );
    assert_eq!(
        holds("order.paid", ORDER, "member.days_since_last_order > 90"),
        Err(Failure::Missing("days_since_last_order".into()))
    );
}

fn problems(on: &str, each: Each, source: &str) -> Vec<Problem> {
    Condition::compile(source, &Scope { on: &on.into(), each }).err().unwrap_or_default()
}

#[track_caller]
fn holds(on: &str, json: &str, source: &str) -> Result<bool, Failure> {
    with_order(Each::Item, on, json, |scope, facts| match Condition::compile(source, scope) {
        Ok(condition) => condition.holds(facts),
        Err(problems) => panic!("{source}: {problems:?}"),
    })
}

#[track_caller]
fn all_hold(on: &str, json: &str, sources: &[&str]) {
    for source in sources {
        assert_eq!(holds(on, json, source), Ok(true), "{source}");
    }
}

#[test]
fn the_conditions_of_the_example_programme_hold_for_a_fitting_event() {
    all_hold(
        "order.paid",
        ORDER,
        &[
            "data.amount >= 200",
            r#"item.category == "books" && "new" in item.tags"#,
            "data.items.map(i, i.category).distinct_count() >= 3",
        ],
    );
    all_hold("review.posted", r#"{"text": "twenty letters or more"}"#, &["size(data.text) >= 20"]);
    all_hold("member.registered", r#"{"referrer_id": "m-2"}"#, &["has(data.referrer_id)"]);
}

#[test]
fn numbers_are_exact_decimals_on_either_side_of_an_operator() {
    all_hold(
        "order.paid",
        ORDER,
        &[
            "0.1 + 0.2 == 0.3",
            "1.1 * 3.0 == 3.3",
            "200 <= data.amount",
            "250 == data.amount && data.amount == 250.00 && data.amount == 250u",
            "2 * item.price == 58.66 && item.price * 2 == 58.66",
            "data.amount - item.price == 220.67",
            "3 <= size(data.items) && size(data.items) <= 3.0",
            "item.quantity in [1, 2] && !(item.quantity in [1.5])",
            "7 / 2 == 3.5 && 7 % 4 == 3 && -7 % 4 == -3",
            "-item.quantity == -2 && -0.5 < 0 && - 3 == -3",
            "12345678901234567.89 != 12345678901234567.88",
            "1e3 == 1000 && 0x10 == 16",
            "double(\"1000.10\") > 1000 && int(\"7\") == 7 && int(-2.9) == -2",
            "string(data.amount) == \"250\" && string(true) == \"true\"",
        ],
    );
}

#[test]
fn money_that_upstream_writes_as_text_compares_as_a_number() {
    let order = r#"{"amount": "250.00", "points_paid": "0", "items": [{"price": "29.33"}]}"#;
    all_hold(
        "order.paid",
        order,
        &[
            "data.amount >= 200",
            "1000 > data.amount",
            "data.points_paid == 0",
            "item.price == 29.33",
            "data[\"amount\"] == 250",
            "data.items.all(i, i.price < 30)",
        ],
    );
    all_hold(
        "till.sale",
        r#"{"amount": "250.00", "note": "12"}"#,
        &["data.amount >= 200", "data.note == \"12\""],
    );
}

#[test]
fn text_lists_and_optional_fields_work_as_in_cel() {
    all_hold(
        "order.paid",
        ORDER,
        &[
            "data.currency.startsWith(\"C\") && data.currency.endsWith(\"NY\") && data.currency.contains(\"N\")",
            "data.order_id + \"/\" + data.member_id == \"o-1/m-1\"",
            "data.currency < \"EUR\" && size(\"é€\") == 2 && \"abc\".size() == 3",
            "data.items[2].brand == \"Döner & Co\" && data.items[0].tags[1] == 'paper'",
            "data.items.exists(i, i.category == \"toys\") && !data.items.exists(i, i.category == \"food\")",
            "data.items.all(i, i.price * i.quantity > 20)",
            "data.items.exists_one(i, i.price > 100) && data.items.existsOne(i, has(i.brand))",
            "data.items.filter(i, i.category != \"toys\").size() == 2",
            "data.items.map(i, i.quantity > 1, i.quantity) == [2, 3]",
            "data.items.filter(i, has(i.tags)).map(i, size(i.tags)) == [2, 0]",
            "data.items.exists(i, has(i.tags) && i.tags.exists(t, t == \"new\"))",
            "data.items.map(i, has(i.tags), i.tags)[0] == [\"new\", \"paper\"] && [item.tags] == [[\"new\", \"paper\"]]",
            "[1, 2] + [3] == [1, 2, 3] && [data.amount] == [250] && [250.0] == [data.amount]",
            "[1, 1.0, 2].distinct_count() == 2 && [].distinct_count() == 0",
            "has(item.category) && !has(item.brand) && has(data.shipping)",
            "(has(item.brand) ? item.brand : \"none\") == \"none\"",
            "data.items.filter(i, i.quantity > 1)[1].category == \"games\"",
        ],
    );
}

#[test]
fn a_field_that_is_null_counts_as_absent() {
    all_hold("order.paid", ORDER, &["!has(data.points_paid)"]);
    all_hold(
        "survey.completed",
        r#"{"score": null}"#,
        &["!has(data.score) && data.score == null && !(\"x\" in data)"],
    );
}

#[test]
fn upstreams_own_fields_are_reached_by_index() {
    all_hold(
        "order.paid",
        ORDER,
        &["data[\"loyalty_hint\"] == \"vip\"", "\"loyalty_hint\" in data && !(\"other\" in data)"],
    );
    all_hold(
        "investment.made",
        r#"{"principal": 5000.5, "fund": {"risk": 3}, "tags": ["a"]}"#,
        &["data.principal > 5000 && data.fund.risk == 3 && \"a\" in data.tags", "data.fund[\"risk\"] in [3]"],
    );
}

#[test]
fn the_attributes_of_an_event_can_be_asked() {
    all_hold(
        "order.paid",
        ORDER,
        &[
            "event.id == \"e-1\" && event.source == \"/shop\" && event.type == \"order.paid\"",
            "event.time >= timestamp(\"2026-11-10T12:30:00Z\")",
            "event.time < timestamp(\"2026-11-10T20:30:01+08:00\")",
            "!has(event.subject) && has(event.id)",
            "string(event.time) == \"2026-11-10T12:30:00Z\"",
        ],
    );
    assert_eq!(
        holds("order.paid", ORDER, "event.subject == \"x\""),
        Err(Failure::Missing("event.subject".into()))
    );
}

#[test]
fn what_an_event_lacks_is_a_failure_unless_the_other_side_decides() {
    for (source, expected) in [
        ("data.items[2].tags.size() > 0", Err(Failure::Missing("tags".into()))),
        ("data.items[7].price > 0", Err(Failure::NoElement)),
        ("data.items[0.5].price > 0", Err(Failure::NoElement)),
        ("data.items[-1].price > 0", Err(Failure::NoElement)),
        ("data[\"huge\"] > 0", Err(Failure::OutOfRange)),
        ("1 / (data.amount - 250) > 0", Err(Failure::DivisionByZero)),
        ("1 % (data.amount - 250) > 0", Err(Failure::DivisionByZero)),
        ("data.amount * 9e27 > 0", Err(Failure::OutOfRange)),
        ("data.points_paid > 0", Err(Failure::Kind { wanted: "a number, text or a time", found: "null" })),
        ("data[\"loyalty_hint\"] > 0", Err(Failure::Kind { wanted: "text", found: "a number" })),
        ("data[\"loyalty_hint\"] && true", Err(Failure::Kind { wanted: "true or false", found: "text" })),
        ("item.brand == \"x\" || data.amount > 1", Ok(true)),
        ("data.amount > 1 || item.brand == \"x\"", Ok(true)),
        ("item.brand == \"x\" && data.amount < 1", Ok(false)),
        ("item.brand == \"x\" && data.amount > 1", Err(Failure::Missing("brand".into()))),
        ("data.items.exists(i, i.brand == \"Döner & Co\")", Ok(true)),
        ("data.items.all(i, i.brand == \"x\")", Ok(false)),
        ("data.items.exists(i, i.brand == \"x\")", Err(Failure::Missing("brand".into()))),
    ] {
        assert_eq!(holds("order.paid", ORDER, source), expected, "{source}");
    }
    assert!(holds("order.paid", "[]", "data.amount > 0").is_err());
}

#[test]
fn a_key_is_text_or_a_number_without_trailing_zeros() {
    for (source, expected) in [
        ("data.order_id + \"/\" + item.sku", Ok("o-1/b-1".to_owned())),
        ("data.amount", Ok("250".to_owned())),
        ("item.quantity * 10", Ok("20".to_owned())),
        ("data[\"loyalty_hint\"]", Ok("vip".to_owned())),
        ("item.brand", Err(Failure::Missing("brand".into()))),
        ("data.points_paid", Err(Failure::Kind { wanted: "text or a number", found: "null" })),
    ] {
        let key = with_order(Each::Item, "order.paid", ORDER, |scope, facts| {
            Expression::compile(source, scope).unwrap().evaluate(facts)
        });
        assert_eq!(key, expected, "{source}");
    }
    let on = EventType::from("order.paid");
    let problems = Expression::compile("data.amount > 1", &Scope { on: &on, each: Each::Event }).unwrap_err();
    assert_eq!(
        problems,
        [Problem { at: 0, message: "text or a number is needed, and this is true or false".into() }]
    );
}

#[test]
fn mistakes_are_named_with_their_place_and_what_to_write_instead() {
    for (source, expected) in [
        (
            "dta.amount > 1",
            &[(0, "unknown name `dta`, expected one of event, data, member; did you mean `data`?")][..],
        ),
        ("data.amout >= 200", &[(5, "unknown field `amout`")]),
        ("data.amout >= 200", &[(5, "did you mean `amount`?")]),
        ("data.loyalty_hint == 1", &[(5, "reached with [\"loyalty_hint\"]")]),
        ("\"é\" == \"é\" && data . amout > 1", &[(21, "unknown field `amout`")]),
        ("has(data.amout)", &[(9, "unknown field `amout`")]),
        ("data.items.exists(i, i.categry == \"x\")", &[(23, "did you mean `category`?")]),
        ("item.price > 1", &[(0, "`item` is only known with `each: item`")]),
        ("member.teir == \"gold\"", &[(7, "did you mean `tier`?")]),
        ("member.tier == 1", &[(12, "text")]),
        ("member.orders_in_months(data.amount) > 1", &[(28, "write a number of months from 1 to 24")]),
        ("member.orders_in_months(25) > 1", &[(24, "write a number of months from 1 to 24")]),
        ("data.orders_in_months(3) > 1", &[(5, "`orders_in_months` is written member.orders_in_months(3)")]),
        ("event == 1", &[(0, "name an attribute of `event`: id, source, type, time, subject")]),
        ("event.typ == \"x\"", &[(6, "did you mean `type`?")]),
        ("data.amount == \"x\"", &[(12, "a number never equals text")]),
        ("data.amount == \"200\"", &[(12, "write 200 without quotes")]),
        ("data.member_id > 5", &[(15, "text cannot be compared with a number")]),
        ("data.member_id == data.amount", &[(15, "double(…) makes a number of text")]),
        ("\"books\" + 1 == \"x\"", &[(8, "string(…) makes text of a number")]),
        ("data.member_id == null", &[(15, "has(…)")]),
        ("event.time > \"2026-11-10\"", &[(11, "timestamp(")]),
        ("event.time > timestamp(\"2026-11-10\")", &[(13, "`2026-11-10` is no time with an offset")]),
        ("data.amount - \"x\" > 1", &[(12, "`-` needs numbers")]),
        ("data.channel in [1, 2]", &[(13, "text is never in a list whose elements are a number")]),
        ("\"a\" in data.channel", &[(4, "text.contains(…)")]),
        ("data.items > 1", &[(11, "have an order, and this is a list")]),
        ("data.amount.cents > 1", &[(12, "a number has no fields")]),
        ("data.amount[0] > 1", &[(11, "a number has no elements")]),
        ("data.items[\"a\"] == 1", &[(10, "a list is indexed with a number")]),
        ("data.items", &[(0, "a condition must be true or false, and this is a list")]),
        ("data.amount", &[(0, "a condition must be true or false, and this is a number")]),
        ("data.amount && true", &[(12, "each side of `&&` needs true or false")]),
        ("!data.amount", &[(0, "`!` needs true or false")]),
        ("lenght(data.items) > 1", &[(0, "unknown function `lenght`")]),
        ("siz(data.items) > 1", &[(0, "did you mean `size`?")]),
        ("data.channel.matches(\"a.*\")", &[(13, "unknown function `matches`")]),
        ("data.channel.contains()", &[(13, "`contains` is written text.contains(text)")]),
        ("has(data)", &[(0, "`has` is written has(data.field)")]),
        ("data.channel.exists(c, true)", &[(13, "a list is needed, and this is text")]),
        ("data.items.exists(data, true)", &[(18, "`data` has a meaning already")]),
        ("data.items.exists(i.x, true)", &[(19, "the first argument is a new name")]),
        ("data.items.exists(i, i.price)", &[(22, "must be true or false")]),
        ("{\"a\": 1} == {}", &[(0, "maps and messages are not supported"), (12, "maps")]),
        ("b\"x\" == b\"x\"", &[(0, "bytes are not supported"), (8, "bytes")]),
        ("data.amount >=", &[(14, "syntax error: mismatched input 'end'")]),
        ("data.?amount > 1", &[(4, "syntax error: unsupported syntax '.?'")]),
        ("true &&\n  data.amount > > 2", &[(24, "syntax error")]),
        ("0.12345678901234567890123456789012345 > 0", &[(0, "too many digits")]),
        (
            "dta.amount > 1 && data.amout > 2 && siz(data.items) > 1",
            &[(0, "unknown name `dta`"), (23, "unknown field `amout`"), (36, "unknown function `siz`")],
        ),
    ] {
        let found = problems("order.paid", Each::Event, source);
        let fits = found.len() == expected.len()
            && found
                .iter()
                .zip(expected)
                .all(|(problem, (at, part))| problem.at == *at && problem.message.contains(part));
        assert!(fits, "{source}: {found:#?}");
    }
}

#[test]
fn a_condition_of_an_unknown_event_type_is_checked_as_far_as_possible() {
    assert_eq!(problems("survey.completed", Each::Event, "data.score > 3 && data.anything.at.all"), []);
    assert_eq!(problems("survey.completed", Each::Event, "data.member_id > 3").len(), 1);
}

#[test]
fn length_depth_and_loops_are_bounded() {
    let long = format!("\"{}\" == \"\"", "é".repeat(MAX_LENGTH));
    let deep = format!("{}1 == 1", "!".repeat(3) + &"(true && ".repeat(40)) + &")".repeat(40);
    let sum = format!("{}1 > 0", "1 + ".repeat(40));
    let alternatives = format!("{}false", "data.amount == 1 || ".repeat(60));
    let in_parentheses = format!("{}true{}", "(".repeat(200), ")".repeat(200));
    let lists = format!("{}{} == []", "[".repeat(300), "]".repeat(300));
    for (source, expected) in [
        (long.as_str(), Some("characters are too long")),
        (&deep, Some("nests too deep")),
        (&sum, Some("nests too deep")),
        (&alternatives, None),
        (&in_parentheses, Some("nests too deep")),
        (&lists, Some("nests too deep")),
        ("data.items.all(a, data.items.all(b, data.items.all(c, true)))", Some("at most 2 loops")),
        ("data.items.all(a, data.items.all(b, true)) && data.items.all(c, true)", None),
    ] {
        let found = problems("order.paid", Each::Event, source);
        match expected {
            Some(part) => assert!(found.len() == 1 && found[0].message.contains(part), "{source}: {found:?}"),
            None => assert_eq!(found, [], "{source}"),
        }
    }
}

#[test]
fn an_evaluation_cannot_run_away() {
    let ids: Vec<String> = (0..2_000).map(|id| format!(r#"{{"sku": "{id}", "quantity": 1}}"#)).collect();
    let order = format!(r#"{{"items": [{}]}}"#, ids.join(","));
    let doubling = format!("size([\"0123456789\"]{}[0]) > 0", ".map(x, x + x)".repeat(27));
    for source in [
        "data.items.all(a, data.items.all(b, a.quantity == b.quantity))",
        "data.items.exists(a, data.items.exists(b, a.sku + b.sku == \"x\"))",
        "data.items.exists(a, data.items == data.items && a.sku == \"x\")",
        &doubling,
    ] {
        assert_eq!(holds("order.paid", &order, source), Err(Failure::TooManySteps), "{source}");
    }
    all_hold("order.paid", &order, &["data.items.map(i, i.sku).distinct_count() == 2000"]);
}

/// Sources that look like conditions, most of them broken somewhere.
fn any_source() -> impl proptest::strategy::Strategy<Value = String> {
    use proptest::prelude::*;
    let word = prop::sample::select(vec![
        "data",
        "item",
        "event",
        "member",
        ".",
        "amount",
        "items",
        "channel",
        "price",
        "tags",
        "time",
        "id",
        "x",
        "y",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ",",
        "?",
        ":",
        "==",
        "!=",
        "<",
        "<=",
        ">",
        ">=",
        "+",
        "-",
        "*",
        "/",
        "%",
        "&&",
        "||",
        "!",
        " in ",
        "true",
        "false",
        "null",
        "0",
        "1",
        "2.5",
        "9223372036854775807",
        "1e308",
        "7u",
        "0x",
        "\"a\"",
        "'",
        "\"",
        "\\",
        "b\"",
        "r'",
        "\"\"\"",
        "has",
        "size",
        "map",
        "all",
        "exists",
        "filter",
        "exists_one",
        "contains",
        "string",
        "int",
        "double",
        "timestamp",
        "distinct_count",
        "startsWith",
        "`",
        "é",
        "💖",
        "\n",
        "//",
        " ",
    ]);
    prop_oneof![prop::collection::vec(word, 0..40).prop_map(|words| words.concat()), ".{0,60}"]
}

/// Well formed conditions over an order, of every operator and function, most of them well typed.
fn any_condition() -> impl proptest::strategy::Strategy<Value = String> {
    use proptest::prelude::*;
    let number = prop_oneof![
        Just("data.amount".to_owned()),
        Just("item.price".to_owned()),
        Just("data[\"huge\"]".to_owned()),
        Just("size(data.items)".to_owned()),
        any::<i32>().prop_map(|number| number.to_string()),
        "[0-9]{1,12}\\.[0-9]{1,12}",
    ];
    let text = prop_oneof![
        Just("data.channel".to_owned()),
        Just("item.brand".to_owned()),
        Just("event.subject".to_owned()),
        Just("string(data.amount)".to_owned()),
        "\"[a-z ]{0,4}\"",
    ];
    let number = number.prop_recursive(4, 16, 2, |inner| {
        (inner.clone(), prop::sample::select(vec!["+", "-", "*", "/", "%"]), inner)
            .prop_map(|(left, operator, right)| format!("({left} {operator} {right})"))
    });
    let comparison = prop::sample::select(vec!["==", "!=", "<", "<=", ">", ">="]);
    let leaf = prop_oneof![
        (number.clone(), comparison.clone(), number.clone()).prop_map(|(l, o, r)| format!("{l} {o} {r}")),
        (text.clone(), comparison, text.clone()).prop_map(|(l, o, r)| format!("{l} {o} {r}")),
        (number.clone(), number).prop_map(|(l, r)| format!("{l} in [{r}, 1, 2.5]")),
        (text.clone(), text).prop_map(|(l, r)| format!("({l} + {r}).contains({r})")),
        Just("has(item.brand)".to_owned()),
        Just("data.items.map(i, i.category).distinct_count() > 2".to_owned()),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            (inner.clone(), prop::sample::select(vec!["&&", "||"]), inner.clone())
                .prop_map(|(l, o, r)| format!("({l} {o} {r})")),
            inner.clone().prop_map(|condition| format!("!({condition})")),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|(c, l, r)| format!("({c} ? {l} : {r})")),
            (prop::sample::select(vec!["all", "exists", "exists_one"]), inner.clone())
                .prop_map(|(name, body)| format!("data.items.{name}(i, {body} || i.price > 20)")),
            inner.prop_map(|body| format!("size(data.items.filter(i, {body})) > 1")),
        ]
    })
}

proptest::proptest! {
    #[test]
    fn no_source_makes_compiling_panic(source in any_source()) {
        for each in [Each::Event, Each::Item] {
            for problem in problems("order.paid", each, &source) {
                proptest::prop_assert!(problem.at <= source.chars().count(), "{problem:?}");
            }
            let _ = problems("survey.completed", each, &source);
        }
    }

    #[test]
    fn no_condition_that_compiles_panics_for_any_event(source in any_condition(), scalar in "[a-z]{1,8}|-?[0-9]{1,9}") {
        let odd = format!(r#"{{"amount": "{scalar}", "channel": [1], "items": [{{"price": {{}}}}, 7, null]}}"#);
        for json in [ORDER, &odd, "null", "{}"] {
            with_order(Each::Item, "order.paid", json, |scope, facts| {
                if let Ok(condition) = Condition::compile(&source, scope) {
                    let _ = condition.holds(facts);
                }
            });
        }
    }
}

#[test]
fn the_reference_names_all_that_can_be_asked_of_a_member_and_every_function() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/programme.md");
    let text = std::fs::read_to_string(path).unwrap();
    let functions = functions::names().filter(|name| !["existsOne", "uint", "has"].contains(name));
    for name in shape::MEMBER.names().chain(functions) {
        let is_named = text.contains(&format!("`{name}`")) || text.contains(&format!("`{name}(n)`"));
        assert!(is_named, "docs/programme.md does not name `{name}`");
    }
}
