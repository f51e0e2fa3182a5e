use super::*;

/// Compares with a file that holds what is expected; `ACCRUAL_TEST_BLESS=1` writes it instead.
pub(crate) fn golden(file: &str, actual: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os("ACCRUAL_TEST_BLESS").is_some() {
        std::fs::write(&path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    assert!(actual == expected, "{file} should be (ACCRUAL_TEST_BLESS=1 writes it):\n{actual}");
}

/// What is reported for a text that `read` is given the root of.
fn problems(text: &str, read: impl FnOnce(&Value<'_>)) -> String {
    let collector = Collector::new("x.yaml", text);
    if let Some(node) = parse(text, &collector) {
        read(&Value::root(&node, "the file", &collector));
    }
    if collector.is_empty() { String::new() } else { collector.into_problems().to_string() }
}

fn unread(text: &str) -> String {
    problems(text, |_| ())
}

#[test]
fn a_scalar_keeps_its_exact_text() {
    let text = "a: 1.00\nb: 2026-11-10T20:00\nc: 0.1\nd: 007\ne: yes\nf: '1'\n";
    let collector = Collector::new("x.yaml", text);
    let node = parse(text, &collector).unwrap();
    let map = Value::root(&node, "the file", &collector).any_map().unwrap();
    let texts: Vec<&str> = map.entries().map(|(_, _, value)| value.text().unwrap()).collect();
    assert_eq!(texts, ["1.00", "2026-11-10T20:00", "0.1", "007", "yes", "1"]);
    assert_eq!(map.get("a").unwrap().decimal("a number", |_| true).unwrap().to_string(), "1.00");
}

#[test]
fn a_problem_shows_its_line_and_marks_the_place() {
    let shown = problems("a: 1\nbb:\n  c: x100\n", |root| {
        let inner = root.any_map().unwrap().get("bb").unwrap().any_map().unwrap();
        inner.get("c").unwrap().whole(1..=9_u8);
    });
    assert_eq!(
        shown,
        "error: `bb.c` must be a whole number from 1 to 9, not `x100`\n --> x.yaml:3:6\n  |\n3 |   c: x100\n  |      ^^^^"
    );
}

#[test]
fn all_problems_come_at_once_and_in_the_order_of_the_file() {
    let shown = problems("b: x\na: y\n", |root| {
        let map = root.any_map().unwrap();
        map.get("a").unwrap().boolean();
        map.get("b").unwrap().boolean();
    });
    let lines: Vec<&str> = shown.lines().filter(|line| line.starts_with("error")).collect();
    assert_eq!(
        lines,
        ["error: `b` must be `true` or `false`, not `x`", "error: `a` must be `true` or `false`, not `y`"]
    );
}

#[test]
fn what_is_no_yaml_or_more_than_is_read_is_refused_with_its_place() {
    let deep = "[".repeat(40) + &"]".repeat(40);
    let deeper = "- ".repeat(20) + &"[".repeat(20) + &"]".repeat(20);
    let large = "a".repeat(MAX_BYTES + 1);
    let many = "[".to_owned() + &"1,".repeat(MAX_NODES) + "]";
    let bomb = "a: &a [x, x]\nb: &b [*a, *a]\n";
    let mut differ = Vec::new();
    for (text, expected) in [
        ("a: 1\na: 2\n", "`a` is given twice; the first is on line 1 2:1"),
        ("a: {b: 1, b: 2}\n", "`b` is given twice; the first is on line 1 1:11"),
        (
            "a: [1, 2\nb: 3\n",
            "not valid YAML: illegal placement of ':' indicator; is a bracket or brace before this not closed? 2:2",
        ),
        (
            "a:\n\t- 1\n",
            "not valid YAML: tabs disallowed within this context (block indentation); indent with spaces 2:2",
        ),
        (
            "when: !has(data.x)\n",
            "`!has(data.x)` is read as a YAML tag, and tags are not supported; put a condition that starts with `!` in quotes 1:7",
        ),
        (
            "when: \"new\" in item.tags\n",
            "not valid YAML: invalid trailing content after double-quoted scalar; a value that starts with a quote ends with it: put the whole value in the other kind of quotes 1:13",
        ),
        (
            "a: b: c\n",
            "not valid YAML: mapping values are not allowed in this context; text that holds `: ` must be in quotes 1:5",
        ),
        (bomb, "YAML anchors (`&name`) are not supported; put text that starts with `&` in quotes 1:7"),
        (
            "a: *b\n",
            "`*b` is read as a YAML alias, and aliases are not supported; put text that starts with `*` in quotes 1:4",
        ),
        ("a: 1\n---\nb: 2\n", "a second document (`---`) starts here; one file holds one document 2:1"),
        ("? [a]\n: 1\n", "a key must be a single value 1:3"),
        (deep.as_str(), "lists and maps stand more than 32 deep within each other 1:33"),
        (deeper.as_str(), "lists and maps stand more than 32 deep within each other"),
        (large.as_str(), "the file has 1048577 bytes; at most 1048576 are read 1:1"),
        (many.as_str(), "the file holds more than 200000 values 1:400000"),
    ] {
        let collector = Collector::new("x.yaml", text);
        parse(text, &collector);
        let found = collector.into_problems();
        let first = found.iter().next().unwrap();
        let Position::File { line, column, .. } = &first.position else { panic!("{first}") };
        let shown = format!("{} {line}:{column}", first.message);
        if !shown.starts_with(expected) {
            differ.push(format!("{shown}\nis not\n{expected}"));
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n\n"));
}

#[test]
fn nothing_is_a_file_without_values() {
    for text in ["", "\n", "# only a comment\n", "---\n", "--- # x\n...\n", "\u{feff}"] {
        let collector = Collector::new("x.yaml", text);
        let node = parse(text, &collector);
        assert!(collector.is_empty() && node.is_none_or(|node| node.is_null()), "{text:?}");
    }
}

#[test]
fn a_place_is_right_after_a_byte_order_mark_with_carriage_returns_and_wide_characters() {
    assert_eq!(
        problems("\u{feff}a: 1\r\n名字: x\r\n", |root| {
            root.any_map().unwrap().get("名字").unwrap().boolean();
        }),
        "error: `名字` must be `true` or `false`, not `x`\n --> x.yaml:2:5\n  |\n2 | 名字: x\n  |       ^"
    );
    assert_eq!(
        problems("\u{feff}a: x\n", |root| {
            root.any_map().unwrap().get("a").unwrap().boolean();
        }),
        "error: `a` must be `true` or `false`, not `x`\n --> x.yaml:1:4\n  |\n1 | a: x\n  |    ^"
    );
}

#[test]
fn a_long_line_is_cut_around_the_place_and_control_characters_are_not_sent_to_the_terminal() {
    let text = format!("{{a: '{}', b: \u{1b}[31m, c: '{}'}}", "x".repeat(500), "y".repeat(500));
    let shown = problems(&text.replace('\u{1b}', "E"), |root| {
        root.any_map().unwrap().get("b").unwrap().boolean();
    });
    assert!(shown.lines().all(|line| line.chars().count() < 160), "{shown}");
    assert!(!unread(&text).contains('\u{1b}'));
}

#[test]
fn what_is_hidden_shows_as_stars() {
    let text = "{a: hunter2, b: x}";
    let shown = problems(text, |root| {
        let map = root.any_map().unwrap();
        root.collector().hide(map.get("a").unwrap().place());
        map.get("b").unwrap().boolean();
    });
    assert!(shown.contains("1 | {a: *******, b: x}"), "{shown}");
}

#[test]
fn a_key_that_nobody_knows_is_named_with_the_one_that_was_meant() {
    let shown = problems("limt: 1\ncolour: 2\n", |root| {
        root.map(&["id", "limit"]);
    });
    assert!(shown.contains("unknown key `limt`; did you mean `limit`? Known here: id, limit"), "{shown}");
    assert!(shown.contains("unknown key `colour`; known here: id, limit"), "{shown}");
}

#[test]
fn a_value_of_the_wrong_kind_is_named_with_the_right_one() {
    type Getter = fn(&Value<'_>);
    let whole: Getter = |value| _ = value.whole(1..=64_usize);
    let decimal: Getter = |value| _ = value.decimal("a number above 0", |number| number > 0.into());
    let duration: Getter = |value| _ = value.duration("1s", "30d");
    let period: Getter = |value| _ = value.period();
    let choice: Getter = |value| _ = value.choice(&[("day", 1), ("week", 2), ("ever", 3)]);
    let text: Getter = |value| _ = value.text();
    let list: Getter = |value| _ = value.list("an entry");
    let map: Getter = |value| _ = value.any_map();
    let one_or_list: Getter = |value| _ = value.one_or_list("an entry");
    for (written, getter, expected) in [
        ("0", whole, "`v` must be a whole number from 1 to 64, not `0`"),
        ("65", whole, "`v` must be a whole number from 1 to 64, not `65`"),
        ("1.0", whole, "`v` must be a whole number from 1 to 64, not `1.0`"),
        ("+5", whole, "`v` must be a whole number from 1 to 64, not `+5`"),
        (
            "99999999999999999999",
            whole,
            "`v` must be a whole number from 1 to 64, not `99999999999999999999`",
        ),
        ("", whole, "`v` has no value; it must be a whole number from 1 to 64"),
        ("[1]", whole, "`v` must be a whole number from 1 to 64, not a list"),
        ("0", decimal, "`v` must be a number above 0, not `0`"),
        ("1e3", decimal, "`v` must be a number above 0, not `1e3`"),
        ("1_000", decimal, "`v` must be a number above 0, not `1_000`"),
        ("1.", decimal, "`v` must be a number above 0, not `1.`"),
        (".5", decimal, "`v` must be a number above 0, not `.5`"),
        (
            "0.00000000000000000000000000001",
            decimal,
            "`v` must be a number above 0, not `0.00000000000000000000000000001`",
        ),
        ("20", duration, "`v` must be a time such as 20ms, 25s, 5m, 12h or 30d, from 1s to 30d, not `20`"),
        (
            "20ms",
            duration,
            "`v` must be a time such as 20ms, 25s, 5m, 12h or 30d, from 1s to 30d, not `20ms`",
        ),
        (
            "99999999999999999999d",
            duration,
            "`v` must be a time such as 20ms, 25s, 5m, 12h or 30d, from 1s to 30d, not `99999999999999999999d`",
        ),
        (
            "1 year",
            period,
            "`v` must be a period such as P1Y, P12M, P2W or P30D, of at most 100 years, not `1 year`",
        ),
        ("hour", choice, "`v` must be one of `day`, `week`, `ever`, not `hour`"),
        ("''", text, "`v` must be text, not ``"),
        ("~", text, "`v` has no value; it must be text"),
        ("{a: 1}", text, "`v` must be text, not a map"),
        ("1", list, "`v` must be a list, not `1`"),
        ("[]", map, "`v` must be a map (`key: value`), not a list"),
        ("", one_or_list, "`v` has no value; it must be a value or a list"),
    ] {
        let text = format!("v: {written}\n");
        let collector = Collector::new("x.yaml", &text);
        let node = parse(&text, &collector).unwrap();
        let value = Value::root(&node, "the file", &collector).any_map().unwrap().get("v").unwrap();
        getter(&value);
        let messages: Vec<String> =
            collector.into_problems().iter().map(|problem| problem.message.clone()).collect();
        assert_eq!(messages, [expected], "{written}");
    }
}

#[test]
fn lengths_of_time_are_read_as_written() {
    for (text, seconds) in [("25s", 25), ("5m", 300), ("12h", 43_200), ("30d", 2_592_000)] {
        assert_eq!(parse_duration(text).unwrap().as_secs(), seconds);
    }
    assert_eq!(parse_duration("20ms").unwrap().as_millis(), 20);
    for text in ["", "s", "5", "-5s", "5 s", "1h30m", "1y", "99999999999999999d"] {
        assert_eq!(parse_duration(text), None, "{text}");
    }
    for (text, months, days) in [
        ("P1Y", 12, 0),
        ("P12M", 12, 0),
        ("P1Y6M", 18, 0),
        ("P0D", 0, 0),
        ("P2W", 0, 14),
        ("P1M2D", 1, 2),
        ("P100Y", 1_200, 0),
    ] {
        assert_eq!(CalendarSpan::parse(text), Some(CalendarSpan { months, days }), "{text}");
    }
    for text in
        ["", "P", "P1", "1Y", "PT1H", "P-1D", "P1D1M", "P1Y1Y", "P101Y", "P99999999999Y", "P1Yé", "Pé"]
    {
        assert_eq!(CalendarSpan::parse(text), None, "{text}");
    }
}

#[test]
fn a_character_of_a_value_is_found_however_it_was_written() {
    for written in [
        "v: a == b && ERR\n",
        "v: 'a == ''b'' && ERR'\n",
        "v: \"a == \\\"b\\\" && ERR\"\n",
        "v: \"\\u4e2d\\x41\\t\\n == \\\" && ERR\"\n",
        "v: \"a == \\\n   b && ERR\"\n",
        "v: a ==\n  b &&\n\n   ERR\n",
        "v: 'a ==\n  b &&\n\n   ERR'\n",
        "v: |\n  a == b\n  && ERR\n",
        "v: |-  # comment\n\n    a == b\n      && ERR\n",
        "v: >\n  a == b\n  && ERR || c\n",
        "v: >2-\n   a == b\n  && ERR || c\n",
        "{u: 中, v: '中 && ERR'}\n",
    ] {
        let collector = Collector::new("x.yaml", written);
        let node = parse(written, &collector).unwrap();
        let value = Value::root(&node, "the file", &collector).any_map().unwrap().get("v").unwrap();
        let text = value.text().unwrap();
        let at = text.chars().take_while(|c| *c != 'E').count();
        assert!(at < text.chars().count(), "{written:?}");
        let start = written.find("ERR").unwrap();
        assert_eq!(value.place_of_character(at), Place::bytes(start..start + 3), "{written:?}");
        // The end of the value is just behind its last visible character, or inside the closing quote.
        let Place::File { start: end, .. } = value.place_of_character(text.chars().count()) else { panic!() };
        assert!(end > start && end <= written.len(), "{written:?}");
    }
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    /// Pieces that YAML trips over, so that random text is more than random plain scalars.
    fn yaml_like() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("a: ".to_owned()),
            Just("- ".to_owned()),
            Just("\n".to_owned()),
            Just("  ".to_owned()),
            Just("{".to_owned()),
            Just("}".to_owned()),
            Just("[".to_owned()),
            Just("]".to_owned()),
            Just(", ".to_owned()),
            Just("|\n".to_owned()),
            Just(">-\n".to_owned()),
            Just("'".to_owned()),
            Just("\"".to_owned()),
            Just("\\u".to_owned()),
            Just("&a ".to_owned()),
            Just("*a ".to_owned()),
            Just("!t ".to_owned()),
            Just("---\n".to_owned()),
            Just("? ".to_owned()),
            Just("\t".to_owned()),
            Just("\r\n".to_owned()),
            Just("%YAML 1.2\n".to_owned()),
            "[a-z0-9.:#é中\u{85}\u{2028}]{1,6}",
            any::<String>(),
        ];
        prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }

    fn visit(value: &Value<'_>) {
        value.place_of_character(0);
        value.place_of_character(3);
        value.place_of_character(usize::MAX);
        value.boolean();
        match &value.node().content {
            Content::Scalar(_) => {}
            Content::List(_) => value.list("an entry").unwrap().iter().for_each(visit),
            Content::Map(_) => value.any_map().unwrap().entries().for_each(|(_, _, value)| visit(&value)),
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_and_shown_without_panic(text in yaml_like()) {
            let shown = problems(&text, visit);
            prop_assert!(!shown.chars().any(|c| c.is_control() && c != '\n' && c != '\t'));
        }

        #[test]
        fn every_position_lies_in_the_file(text in yaml_like()) {
            let collector = Collector::new("x.yaml", &text);
            if let Some(node) = parse(&text, &collector) {
                visit(&Value::root(&node, "the file", &collector));
            }
            let lines = text.chars().filter(|c| matches!(c, '\n' | '\r')).count() + 1;
            if !collector.is_empty() {
                for problem in collector.into_problems().iter() {
                    let Position::File { line, column, .. } = &problem.position else { panic!() };
                    prop_assert!(*line >= 1 && *line <= lines && *column >= 1);
                }
            }
        }
    }
}

#[test]
fn a_file_made_to_be_slow_is_read_or_refused_in_a_moment() {
    let fill = |piece: &str| piece.repeat(MAX_BYTES / piece.len());
    let numbered =
        |from: usize, piece: fn(usize) -> String| (from..from + 60_000).map(piece).collect::<String>();
    for (name, text) in [
        ("lines", fill("a\n")),
        ("duplicates", fill("a: b\n")),
        ("duplicates in one line", format!("{{{}}}", "a: b, ".repeat(MAX_BYTES / 6 - 1))),
        ("keys", numbered(0, |index| format!("k{index}: {index}\n"))),
        ("keys in one line", format!("{{{}}}", numbered(0, |index| format!("k{index}: {index}, ")))),
        ("entries", fill("- a\n")),
        ("entries in one line", format!("[{}]", "a,".repeat(MAX_BYTES / 2 - 1))),
        ("comments", fill("# a\n")),
        ("brackets", fill("[")),
        ("braces", fill("{a: ")),
        ("explicit keys", fill("? a\n")),
        ("quotes", fill("'a' ")),
        ("double quotes", format!("\"{}", fill("\\u0041"))),
        ("block", format!("a: |\n{}", fill("  a\n"))),
        ("folded", format!("a: >\n{}", fill("  a\n"))),
        ("blank lines", format!("a: >\n{}", fill("\n"))),
        ("anchors", fill("- &a b\n")),
        ("aliases", fill("- *a\n")),
        ("tags", fill("- !a b\n")),
        ("documents", fill("---\n")),
        ("directives", fill("%A b\n")),
        ("spaces", fill(" ")),
        ("tabs", fill("\t")),
        ("carriage returns", fill("\r")),
        ("one word", fill("a")),
        ("colons", fill(":")),
        ("dashes", fill("-")),
        ("wide", fill("中: ")),
    ] {
        // Time that grows with the square of the size would not let this test end.
        let shown = problems(&text, |root| {
            root.map(&["known", "here"]);
        });
        assert!(shown.len() < 200_000, "{name}: {} bytes", shown.len());
    }
}
