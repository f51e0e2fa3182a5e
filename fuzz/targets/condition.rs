//! A condition of any text; what compiles is asked about an order, whose data follows a NUL.
#![no_main]

use accrual::account::Activity;
use accrual::programme::Each;
use accrual::programme::condition::{
    Condition, DataValue, Demands, EventFacts, Expression, Facts, MAX_LENGTH, MemberFacts, Scope,
};

const DATA: &str = r#"{"member_id":"m","order_id":"o","amount":"120.50","currency":"CNY","items":[
    {"sku":"a","category":"books","tags":["new","x"],"quantity":2,"price":"60.25"},{"sku":"b","category":"toys","quantity":0.5,"price":1e3}],
    "note":"café 20% off","at":"2026-11-10T20:00:00+08:00","big":1e300,"none":null,"yes":true}"#;
const MEMBER: &str = r#"{"id":"m","tier":"gold","available":120,"pending":0,"segments":["vip"],"attributes":{"a":[1,2.5]},"orders":3}"#;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let (source, data) = text.split_once('\0').unwrap_or((text, DATA));
    let Ok(data) = serde_json::from_str::<DataValue>(data) else { return };
    let member: DataValue = serde_json::from_str(MEMBER).expect("JSON");
    let activity = Activity::default();
    let item = match data.field("items") {
        Some(DataValue::List(items)) => items.first(),
        _ => None,
    };
    let facts = Facts {
        event: EventFacts {
            id: "e",
            source: "s",
            event_type: "order.paid",
            time: "2026-11-11T12:00:00Z".parse().expect("a time"),
            subject: None,
        },
        data: &data,
        item,
        member: Some(MemberFacts { fields: &member, activity: &activity, month: 24_322 }),
    };
    for each in [Each::Event, Each::Item] {
        let scope = Scope { on: &"order.paid".into(), each };
        match Condition::compile(source, &scope) {
            Ok(condition) => {
                assert!(source.chars().count() <= MAX_LENGTH);
                let _ = condition.holds(&facts);
                Demands::of([&condition]);
            }
            Err(problems) => assert!(!problems.is_empty()),
        }
        if let Ok(expression) = Expression::compile(source, &scope) {
            let _ = expression.evaluate(&facts);
        }
        if let Ok(expression) = Expression::compile_number(source, &scope) {
            let _ = expression.number(&facts);
        }
    }
});
