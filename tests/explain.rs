//! `accrual explain` over the real lane, with a log and a store in memory: what it says, as a page.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::cast_possible_truncation)]

#[allow(dead_code, reason = "only a part of it is used here")]
#[path = "support/output.rs"]
mod output;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use accrual::account::Retention;
use accrual::explain::{AsOf, ExplainError, Explainer, Explanation, Question, Verdict, page};
use accrual::lane::budgets::LeaseTimes;
use accrual::lane::flood::FloodLimits;
use accrual::lane::status::LaneStatus;
use accrual::lane::{Lane, LaneSettings};
use accrual::log::memory::{MemoryBroker, MemoryLog};
use accrual::metrics::Metrics;
use accrual::programme::current::Current;
use accrual::programme::{Programme, Versions};
use accrual::store::StoreSettings;
use accrual::store::memory::MemoryStore;
use accrual::types::{Buckets, Outputs, TopicName, TopicPartition};
use output::golden;

const PROGRAMME: &str = r#"
programme: shop
timezone: Asia/Shanghai
currency: CNY
tiers:
  window: P12M
  levels: [{id: basic, from: 0}, {id: silver, from: 1000, earn: 1.1}, {id: gold, from: 5000, earn: 1.25}]
rules:
  - {id: purchase, on: order.paid, earn: {points: 1, per: 1.00}}
  - {id: new-books, on: order.paid, each: item, when: 'item.category == "books" && "new" in item.tags', earn: {points: 2, per: 1.00}}
  - {id: big, on: order.paid, when: data.amount >= 500, earn: {points: 50}}
  - {id: sign-in, on: member.signed_in, earn: {points: 5}, limit: {times: 1, per: day}, streak: {2: 20}}
  - {id: review, on: review.posted, when: size(data.text) >= 20, earn: {points: 20}, limit: {points: 50, per: day}, once_per: data.product_id}
campaigns:
  - {id: double-eleven, on: order.paid, during: {from: 2026-11-10T20:00, until: 2026-11-12T00:00}, audience: 'member.tier in ["gold", "diamond"]', multiply: 2}
  - {id: member-day, on: order.paid, during: {monthly: [8, 18]}, add: 88}
  - {id: birthday, on: order.paid, during: birthday, multiply: 2, group: best}
  - {id: regulars, on: order.paid, audience: member.orders >= 1, multiply: 1.2, group: best}
  - {id: back, on: order.paid, audience: member.orders >= 1, multiply: 3, group: best, budget: {points: 100}}
  - {id: away, on: order.paid, audience: member.days_since_last_order > 90, multiply: 3}
"#;

/// A shop with one lane.
struct Shop {
    broker: MemoryBroker,
    store: MemoryStore,
    settings: LaneSettings,
    lane: Lane<MemoryLog, MemoryStore>,
    explainer: Explainer,
}

fn input() -> TopicPartition {
    TopicPartition { topic: "shop".into(), partition: 0 }
}

fn versions(text: &str) -> Arc<Versions> {
    let programme = Programme::parse("programme.yaml", text);
    Arc::new(Versions::only(programme.unwrap_or_else(|problems| panic!("{problems}"))))
}

impl Shop {
    fn open() -> Self {
        Self::open_with(PROGRAMME)
    }

    fn open_with(programme: &str) -> Self {
        let versions = versions(programme);
        let buckets = Buckets(2);
        let window = Duration::from_hours(30 * 24);
        let settings = LaneSettings {
            current: Arc::new(Current::new(versions.clone())),
            outputs: Outputs {
                awards: "awards".into(),
                tier_changes: "tier-changes".into(),
                accounts: "accounts".into(),
                dead_letters: "dead-letters".into(),
                internal: "internal".into(),
            },
            buckets,
            retention: Retention { history: 4, months: versions.kept_months(), days: 30 },
            dedupe_window: window,
            max_events: 1,
            max_wait: Duration::ZERO,
            max_record_bytes: 10_000,
            cached_accounts: 10,
            flood: FloodLimits::NONE,
            leases: LeaseTimes::default(),
            clock_every: Duration::MAX,
            whole_stretch: 100,
            sleep: |_| {},
            versions,
        };
        let broker = MemoryBroker::new(&[(input().topic, 1), ("internal".into(), 1)]);
        let store = MemoryStore::new(StoreSettings {
            buckets: buckets.0,
            dedupe_window: window,
            refunds_window: window,
        });
        let log = broker.connect("lane");
        let metrics = Metrics::new(&settings.versions).unwrap();
        let status = Arc::new(LaneStatus::new("0"));
        let lane = Lane::new(log, store.clone(), Box::new(broker.clone()), settings.clone(), metrics, status);
        let explainer = Explainer::new(settings.clone(), Box::new(store.clone()), Box::new(broker.clone()));
        Self { broker, store, settings, lane, explainer }
    }

    /// An event of ann's, worked off.
    fn sends(&mut self, id: &str, kind: &str, time: &str, data: &str) {
        self.sends_of("ann", "shop/web", id, kind, time, data);
    }

    fn sends_of(&mut self, member: &str, source: &str, id: &str, kind: &str, time: &str, data: &str) {
        let event = format!(
            r#"{{"specversion":"1.0","id":"{id}","source":"{source}","type":"{kind}","time":"{time}","data":{{"member_id":"{member}"{data}}}}}"#
        );
        self.broker.produce(&input(), None, event.into_bytes());
        for _ in 0..4 {
            self.lane.turn().unwrap();
        }
    }

    fn pays(&mut self, id: &str, time: &str, amount: &str) {
        let data = format!(r#","order_id":"4711-{id}","currency":"CNY","amount":"{amount}""#);
        self.sends(id, "order.paid", time, &data);
    }

    fn reviews(&mut self, id: &str, time: &str, product: &str, text: &str) {
        let data = format!(r#","review_id":"r-{id}","product_id":"{product}","text":"{text}""#);
        self.sends(id, "review.posted", time, &data);
    }

    fn asked(&mut self, question: &Question) -> Result<Explanation, ExplainError> {
        self.explainer.explain(question, Instant::now() + Duration::from_mins(1))
    }

    fn explain(&mut self, id: &str) -> Explanation {
        let asked = Question { member: Some("ann".into()), id: id.to_owned(), source: None };
        self.asked(&asked).unwrap_or_else(|error| panic!("{id}: {error}"))
    }

    fn page(&mut self, id: &str) -> String {
        let explanation = self.explain(id);
        page(&explanation, &self.settings.versions.first().zone)
    }

    fn forgets(&self, topic: &TopicName) {
        let partition = TopicPartition { topic: topic.clone(), partition: 0 };
        let end = self.broker.ends(topic).get(&partition).copied().unwrap_or_default();
        self.broker.expire(&partition, end);
    }
}

/// The versions of programmes are hashes of their files, and would change every page with the programme.
fn shown(page: &str, programmes: &[&Programme]) -> String {
    programmes.iter().enumerate().fold(page.to_owned(), |page, (number, programme)| {
        page.replace(&programme.version, &format!("VERSION-{}", number + 1))
    })
}

#[test]
fn an_order_is_explained_rule_by_rule_on_the_account_as_it_was_then() {
    let mut shop = Shop::open();
    shop.pays("o-1", "2026-11-01T10:00:00+08:00", "1240.00");
    let items = r#","order_id":"4712","currency":"CNY","amount":"42.99","items":[
        {"sku":"a","category":"books","tags":["new"],"quantity":1,"price":"12.50"},
        {"sku":"b","category":"toys","quantity":1,"price":"10.00"},
        {"sku":"c","category":"toys","quantity":1,"price":"10.00"},
        {"sku":"d","quantity":1,"price":"10.49"}]"#;
    shop.sends("o-123", "order.paid", "2026-11-11T20:15:00+08:00", items);
    // Gold since: which must not make a difference.
    shop.pays("o-3", "2026-11-12T10:00:00+08:00", "9000.00");
    let page = shop.page("o-123");
    let pages = [shop.page("o-1"), page.clone(), shop.page("o-3")].join("\n");
    golden("tests/fixtures/explain/orders.txt", &shown(&pages, &[shop.settings.versions.first()]));
    // With a version that looks like one.
    let shown_in = |file: &str, page: &str| {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
        let page = page.replace(&shop.settings.versions.first().version, "8f3a0c11d2e4");
        assert!(text.contains(&page), "{file} should show:\n{page}");
    };
    shown_in("docs/explain.md", &page);
    shown_in("README.md", &page);
    let json = serde_json::to_string_pretty(&shop.explain("o-123")).unwrap();
    golden("tests/fixtures/explain/order.json", &shown(&json, &[shop.settings.versions.first()]));
    // Who asks may know the order and not the event.
    assert_eq!(shop.explain("4712"), shop.explain("o-123"));
}

#[test]
fn what_limits_cut_streaks_add_and_conditions_refuse_is_said_with_its_reason() {
    let mut shop = Shop::open();
    shop.sends("s-1", "member.signed_in", "2026-11-20T10:00:00+08:00", "");
    shop.sends("s-2", "member.signed_in", "2026-11-21T10:00:00+08:00", "");
    shop.sends("s-3", "member.signed_in", "2026-11-21T11:00:00+08:00", "");
    let text = "a text of more than twenty characters";
    shop.reviews("r-1", "2026-11-21T12:00:00+08:00", "p1", text);
    shop.reviews("r-2", "2026-11-21T12:01:00+08:00", "p2", "too short");
    shop.sends("r-3", "review.posted", "2026-11-21T12:02:00+08:00", r#","review_id":"3","product_id":"p3""#);
    shop.reviews("r-4", "2026-11-21T12:03:00+08:00", "p1", text);
    shop.reviews("r-5", "2026-11-21T12:04:00+08:00", "p5", text);
    shop.reviews("r-6", "2026-11-21T12:05:00+08:00", "p6", text);
    shop.pays("o-1", "2026-11-22T12:06:00+08:00", "0.99");
    shop.pays("o-2", "2026-11-22T12:06:00+08:00", "70.00");
    let ids = ["s-2", "s-3", "r-1", "r-2", "r-3", "r-4", "r-6", "o-1", "o-2"];
    let pages: Vec<String> = ids.iter().map(|id| shop.page(id)).collect();
    golden(
        "tests/fixtures/explain/declined.txt",
        &shown(&pages.join("\n"), &[shop.settings.versions.first()]),
    );
    for id in ["s-1", "s-2", "s-3", "r-1", "r-2", "r-3", "r-4", "r-5", "r-6", "o-1", "o-2"] {
        let explanation = shop.explain(id);
        assert_eq!(explanation.verdict, Verdict::Same, "{id}: {explanation:#?}");
        let changed_nothing = ["r-2", "r-3"].contains(&id);
        let expected = if changed_nothing { AsOf::EventTime } else { AsOf::Decided };
        assert_eq!(explanation.before.unwrap().as_of, expected, "{id}");
    }
}

#[test]
fn what_a_referral_pays_is_said_to_the_newcomer_and_to_the_referrer() {
    let mut shop = Shop::open_with(
        "{programme: shop, timezone: Asia/Shanghai, currency: CNY, rules: [
            {id: purchase, on: order.paid, earn: {points: 1, per: 1.00}},
            {id: welcome, on: member.registered, when: has(data.referrer_id), earn: {points: 30}},
            {id: first-order, on: member.registered, earn: {points: 20}, after: first_order},
            {id: invite, on: member.registered, earn: {points: 50}, to: referrer, limit: {times: 1, per: ever}}]}",
    );
    let referred = r#","referrer_id":"bob""#;
    shop.sends("r-1", "member.registered", "2026-11-20T10:00:00+08:00", referred);
    shop.pays("o-1", "2026-11-21T10:00:00+08:00", "7.00");
    shop.sends("r-2", "member.registered", "2026-11-22T10:00:00+08:00", referred);
    shop.sends_of("cid", "shop/web", "r-3", "member.registered", "2026-11-23T10:00:00+08:00", referred);
    let mut pages: Vec<String> = ["r-1", "o-1", "r-2"].iter().map(|id| shop.page(id)).collect();
    // What the referrer has in their history.
    for told in shop.broker.read(&"internal".into()) {
        let told: serde_json::Value = serde_json::from_slice(told.payload.as_deref().unwrap()).unwrap();
        let id = told["id"].as_str().unwrap().to_owned();
        let explanation =
            shop.asked(&Question { member: Some("bob".into()), id: id.clone(), source: None }).unwrap();
        assert_eq!(explanation.verdict, Verdict::Same);
        pages.push(page(&explanation, &shop.settings.versions.first().zone));
    }
    golden(
        "tests/fixtures/explain/referrals.txt",
        &shown(&pages.join("\n"), &[shop.settings.versions.first()]),
    );
}

#[test]
fn a_reward_that_was_given_or_was_not_is_said_in_its_rules_step() {
    let mut shop = Shop::open_with(
        "
programme: shop
timezone: Asia/Shanghai
currency: CNY
rules:
  - {id: sign-in, on: member.signed_in, earn: {points: 5}, limit: [{times: 3, per: day}, {points: 8, per: day}], give: ten-off}
  - {id: badge, on: member.signed_in, once_per: data.channel, give: mug}
  - {id: large, on: order.paid, earn: {points: 1, per: 100.00}, give: ten-off}
redemption:
  rewards: [{id: ten-off, kind: coupon, points: 900, worth: 10.00}, {id: mug, kind: goods, points: 1200}]
",
    );
    let ids = ["s-1", "s-2", "s-3", "s-4"];
    for id in ids {
        shop.sends(id, "member.signed_in", "2026-11-20T10:00:00+08:00", r#","channel":"app""#);
    }
    shop.pays("o-1", "2026-11-20T10:00:00+08:00", "99.99");
    let pages: Vec<String> = ids.into_iter().chain(["o-1"]).map(|id| shop.page(id)).collect();
    let first = shop.settings.versions.clone();
    golden("tests/fixtures/explain/rewards.txt", &shown(&pages.join("\n"), &[first.first()]));
    assert_eq!(shop.explain("s-4").verdict, Verdict::Same);
}

#[test]
fn where_another_version_decided_both_are_shown_and_the_ledger_holds() {
    let mut shop = Shop::open();
    shop.pays("o-1", "2026-11-20T10:00:00+08:00", "42.99");
    let first = shop.settings.versions.clone();
    let second = versions(&PROGRAMME.replace("{points: 1, per: 1.00}", "{points: 2, per: 1.00}"));
    shop.settings.current.replace(second.clone()).unwrap();
    let page = shop.page("o-1");
    golden("tests/fixtures/explain/another-version.txt", &shown(&page, &[first.first(), second.first()]));
    let explanation = shop.explain("o-1");
    assert_eq!((explanation.verdict, explanation.points.0), (Verdict::Differs, 42));
}

#[test]
fn what_kafka_does_not_have_any_more_is_said_and_the_rest_is_shown() {
    let mut shop = Shop::open();
    shop.pays("o-1", "2026-11-20T10:00:00+08:00", "42.99");
    shop.pays("o-2", "2026-11-21T10:00:00+08:00", "50.00");
    shop.forgets(&"awards".into());
    let without_ledger = shop.page("o-2");
    for id in ["s-1", "s-2", "s-3", "s-4"] {
        shop.sends(id, "member.signed_in", "2026-11-22T10:00:00+08:00", "");
    }
    let not_even_kept = shop.page("o-2");
    shop.forgets(&input().topic);
    let without_record = shop.page("s-4");
    let pages = [without_ledger, not_even_kept, without_record].join("\n");
    golden("tests/fixtures/explain/retention.txt", &shown(&pages, &[shop.settings.versions.first()]));
    // Nothing says whose it was.
    let asked = Question { member: Some("ann".into()), id: "o-2".into(), source: None };
    assert!(matches!(shop.asked(&asked), Err(ExplainError::NotFound(_))));
}

#[test]
fn an_event_is_found_for_its_member_only_and_by_its_source_where_several_have_its_id() {
    let mut shop = Shop::open();
    for (member, source, id) in
        [("ann", "shop/web", "1"), ("ann", "shop/app", "1"), ("bob", "till", "1"), ("bob", "till", "2")]
    {
        shop.sends_of(member, source, id, "member.signed_in", "2026-11-20T10:00:00+08:00", "");
    }
    let ask = |member: Option<&str>, id: &str, source: Option<&str>| Question {
        member: member.map(Into::into),
        id: id.to_owned(),
        source: source.map(str::to_owned),
    };
    let mut answer = |question: Question| match shop.asked(&question) {
        Ok(explanation) => format!("{} {}", explanation.member_id, explanation.event.source),
        Err(error) => error.to_string(),
    };
    let several = "several events have this id, name the source of one: ";
    assert_eq!(answer(ask(Some("ann"), "1", None)), format!("{several}shop/app, shop/web"));
    assert_eq!(answer(ask(Some("ann"), "1", Some("shop/web"))), "ann shop/web");
    assert_eq!(answer(ask(Some("bob"), "1", None)), "bob till");
    assert_eq!(answer(ask(None, "2", None)), "bob till");
    assert_eq!(answer(ask(None, "2", Some("till"))), "bob till");
    let all = "shop/app (member ann), shop/web (member ann), till (member bob)";
    let everywhere = answer(ask(None, "1", None));
    let mut found: Vec<&str> = everywhere.strip_prefix(several).unwrap().split(", ").collect();
    found.sort_unstable();
    assert_eq!(found.join(", "), all);
    for question in [ask(Some("ann"), "2", None), ask(Some("ann"), "2", Some("till")), ask(None, "3", None)] {
        assert!(answer(question).starts_with("no event "));
    }
    assert!(shop.store.accounts().len() == 2);
}

#[test]
fn whatever_comes_in_whatever_order_deciding_again_comes_to_the_same() {
    let mut shop = Shop::open();
    // A linear congruential generator: the same events in every run.
    let mut state = 7_u64;
    let mut below = |most: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % most
    };
    for number in 0..300 {
        let id = format!("e-{number}");
        let (day, minute) = (1 + below(28), below(60));
        let time = format!("2026-11-{day:02}T{:02}:{minute:02}:00+08:00", below(24));
        match below(5) {
            0 => shop.sends(&id, "member.signed_in", &time, ""),
            1 => {
                let text = if below(2) == 0 { "too short" } else { "a text of more than twenty characters" };
                shop.reviews(&id, &time, &format!("p{}", below(12)), text);
            }
            2 => {
                let category = ["books", "toys"][below(2) as usize];
                let data = format!(
                    r#","order_id":"{id}","currency":"CNY","amount":"30","items":[
                    {{"sku":"a","category":"{category}","tags":["new"],"quantity":1,"price":"{}.5"}},
                    {{"sku":"b","quantity":1,"price":"3"}}]"#,
                    below(40)
                );
                shop.sends(&id, "order.paid", &time, &data);
            }
            _ => shop.pays(&id, &time, &format!("{}.{:02}", below(700), below(100))),
        }
    }
    let mut exact = 0;
    for number in 0..300 {
        let explanation = shop.explain(&format!("e-{number}"));
        if explanation.before.as_ref().is_some_and(|before| before.as_of == AsOf::Decided) {
            exact += 1;
            assert_eq!(explanation.verdict, Verdict::Same, "{explanation:#?}");
        }
    }
    assert!(exact > 250, "{exact}");
}
