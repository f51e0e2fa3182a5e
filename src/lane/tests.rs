//! A lane over a log and a store in memory. What it does under faults is tested in `tests/simulation`.

use serde_json::Value;

use super::*;
use crate::log::memory::{MemoryBroker, MemoryLog};
use crate::metrics::EventResult;
use crate::programme::{ProgrammeText, Versions};
use crate::store::StoreSettings;
use crate::store::memory::MemoryStore;
use crate::types::TopicName;

const HEAD: &str = "programme: p\ntimezone: UTC\ncurrency: EUR\n";
const DECEMBER: &str = "effective_from: 2026-12-01T00:00\n";
/// 2026-11-30T12:00:00Z.
const BEGINS: Duration = Duration::from_hours(498_900);
const WINDOW: Duration = Duration::from_hours(30 * 24);

fn versions(texts: &[String]) -> Arc<Versions> {
    let text = |(at, text): (usize, &String)| ProgrammeText { name: at.to_string(), text: text.clone() };
    let texts: Vec<_> = texts.iter().enumerate().map(text).collect();
    Arc::new(Versions::parse(&texts).unwrap_or_else(|problems| panic!("{problems}")))
}

/// A lane and what it reads and writes.
struct World {
    broker: MemoryBroker,
    store: MemoryStore,
    lane: Lane<MemoryLog, MemoryStore>,
    current: Arc<Current>,
    metrics: Metrics,
    sent: usize,
    read: usize,
}

impl World {
    fn new(versions: &Arc<Versions>, max_events: usize) -> Self {
        let settings = StoreSettings { buckets: 2, dedupe_window: WINDOW, refunds_window: WINDOW };
        Self::on(MemoryStore::at(settings, BEGINS), versions, max_events)
    }

    fn on(store: MemoryStore, versions: &Arc<Versions>, max_events: usize) -> Self {
        let broker = MemoryBroker::new(&[("in".into(), 1), ("internal".into(), 1)]);
        let metrics = Metrics::new(versions).unwrap();
        let current = Arc::new(Current::new(versions.clone()));
        let settings = LaneSettings {
            versions: versions.clone(),
            current: current.clone(),
            outputs: Outputs {
                awards: "awards".into(),
                tier_changes: "tier-changes".into(),
                accounts: "accounts".into(),
                dead_letters: "dead-letters".into(),
                internal: "internal".into(),
            },
            buckets: Buckets(2),
            retention: Retention { history: 0, months: versions.kept_months(), days: 30 },
            dedupe_window: WINDOW,
            max_events,
            max_wait: Duration::ZERO,
            max_record_bytes: 10_000,
            cached_accounts: 10,
            flood: FloodLimits { min_events: 100, ..FloodLimits::default() },
            leases: LeaseTimes { pause: Duration::ZERO, ..LeaseTimes::default() },
            clock_every: Duration::ZERO,
            whole_stretch: 100,
            sleep: |_| {},
        };
        let log = broker.connect("lane");
        let lane = Lane::new(
            log,
            store.clone(),
            Box::new(broker.clone()),
            settings,
            metrics.clone(),
            Arc::new(LaneStatus::new("0")),
        );
        Self { broker, store, lane, current, metrics, sent: 0, read: 0 }
    }

    fn send(&mut self, kind: &str, time: &str, data: &str) {
        self.sent += 1;
        let number = self.sent;
        let order =
            if data.contains("order_id") { String::new() } else { format!(r#""order_id":"o{number}","#) };
        let payload = format!(
            r#"{{"specversion":"1.0","id":"e{number}","source":"s","type":"{kind}","time":"{time}","data":{{{order}"currency":"EUR",{data}}}}}"#
        );
        let partition = TopicPartition { topic: "in".into(), partition: 0 };
        self.broker.produce(&partition, None, payload.into_bytes());
    }

    fn order(&mut self, time: &str, amount: &str) {
        self.send("order.paid", time, &format!(r#""member_id":"m","amount":"{amount}""#));
    }

    /// Works everything off, and gives the new entries as `what points version`.
    fn entries(&mut self, versions: &Versions) -> Vec<String> {
        for _ in 0..self.sent + 3 {
            self.lane.turn().unwrap();
        }
        let name = |version: &Value| {
            let at = versions.iter().position(|known| *version == *known.version);
            at.map_or_else(|| "?".to_owned(), |at| at.to_string())
        };
        let entry = |record: &crate::log::OutRecord| {
            let event: Value = serde_json::from_slice(record.payload.as_deref().unwrap()).unwrap();
            let data = &event["data"];
            let what =
                ["rule", "campaign", "tier"].iter().find_map(|key| data[*key].as_str()).unwrap_or("noted");
            let points = data["points"].as_i64().unwrap_or_default();
            format!("{what} {points} {}", name(&data["programme"]["version"]))
        };
        let awards = self.broker.read(&"awards".into());
        let entries = awards.iter().skip(self.read).map(entry).collect();
        self.read = awards.len();
        entries
    }

    fn metric(&self, line: &str) -> bool {
        self.metrics.render().unwrap().lines().any(|found| found == line)
    }
}

#[test]
fn each_event_is_decided_and_stamped_by_the_version_of_its_own_time() {
    let versions = versions(&[
        format!("{HEAD}rules: [{{id: purchase, on: order.paid, earn: {{points: 1, per: 1.00}}}}]\n"),
        format!(
            "{HEAD}{DECEMBER}rules: [{{id: purchase, on: order.paid, earn: {{points: 3, per: 1.00}}}}]\n"
        ),
    ]);
    for max_events in [1, 10] {
        let mut world = World::new(&versions, max_events);
        for time in [
            "2026-11-30T23:59:59.999Z",
            "2026-12-01T00:00:00Z",
            "2026-11-30T23:00:00Z",
            "2026-12-02T00:00:00Z",
        ] {
            world.order(time, "10.00");
        }
        assert_eq!(
            world.entries(&versions),
            ["purchase 10 0", "purchase 30 1", "purchase 10 0", "purchase 30 1"]
        );
    }
}

#[test]
fn a_type_that_the_version_of_its_time_does_not_name_is_skipped_whatever_another_says() {
    let versions = versions(&[
        format!("{HEAD}rules: [{{id: old, on: old.thing, earn: {{points: 1}}}}]\n"),
        format!("{HEAD}{DECEMBER}rules: [{{id: new, on: new.thing, earn: {{points: 2}}}}]\n"),
    ]);
    let mut world = World::new(&versions, 10);
    for (kind, time, data) in [
        ("new.thing", "2026-11-30T12:00:00Z", r#""member_id":"m""#),
        // What would be a dead letter in December.
        ("new.thing", "2026-11-30T12:00:00Z", r#""no":"member""#),
        ("old.thing", "2026-12-01T12:00:00Z", r#""member_id":"m""#),
        ("old.thing", "2026-11-30T12:00:00Z", r#""member_id":"m""#),
        ("new.thing", "2026-12-01T12:00:00Z", r#""member_id":"m""#),
        // Every version hears of members.
        ("member.registered", "2026-11-30T12:00:00Z", r#""member_id":"m""#),
        ("member.registered", "2026-12-01T12:00:00Z", r#""member_id":"n""#),
    ] {
        world.send(kind, time, data);
    }
    let mut entries = world.entries(&versions);
    entries.sort();
    assert_eq!(entries, ["new 2 1", "noted 0 0", "noted 0 1", "old 1 0"]);
    assert!(world.metric(r#"accrual_events_total{result="skipped",type="other"} 3"#));
    assert!(world.broker.read(&"dead-letters".into()).is_empty());
}

#[test]
fn a_condition_that_cannot_be_evaluated_is_counted_under_the_rule_of_its_own_version() {
    let rules = |first: &str| {
        format!("rules: [{{id: {first}, on: a.thing, when: 'data[\"x\"] > 1', earn: {{points: 1}}}}]\n")
    };
    let versions =
        versions(&[format!("{HEAD}{}", rules("one")), format!("{HEAD}{DECEMBER}{}", rules("two"))]);
    let mut world = World::new(&versions, 10);
    for time in ["2026-11-30T12:00:00Z", "2026-12-01T12:00:00Z", "2026-12-01T13:00:00Z"] {
        world.send("a.thing", time, r#""member_id":"m""#);
    }
    world.entries(&versions);
    for line in [
        r#"accrual_condition_failures_total{rule="one"} 1"#,
        r#"accrual_condition_failures_total{rule="two"} 2"#,
    ] {
        assert!(world.metric(line), "{line}\n{}", world.metrics.render().unwrap());
    }
}

fn with_budget(head: &str, budget: i64) -> String {
    format!(
        "{HEAD}{head}rules: [{{id: purchase, on: order.paid, earn: {{points: 1, per: 1.00}}}}]
campaigns: [{{id: gift, on: order.paid, add: 7, budget: {{points: {budget}}}}}]\n"
    )
}

/// What the campaign gave in all, by version.
fn given(entries: &[String]) -> [i64; 2] {
    let of = |version: &str| {
        let gifts = entries.iter().filter_map(|entry| entry.strip_prefix("gift ")?.strip_suffix(version));
        gifts.map(|points| points.parse::<i64>().unwrap()).sum()
    };
    [of(" 0"), of(" 1")]
}

#[test]
fn a_campaign_pays_of_the_budget_of_the_events_own_version_what_both_have_left() {
    let versions = versions(&[with_budget("", 10), with_budget(DECEMBER, 24)]);
    let (before, after) = ("2026-11-30T12:00:00Z", "2026-12-01T12:00:00Z");
    for (times, expected) in [
        // What the first version spent is spent for the second too.
        (vec![before, before, after, after, after], [10, 14]),
        // A late order finds what the first version's budget has left after all that was spent.
        (vec![after, before, before], [3, 7]),
        (vec![after, after, before], [0, 14]),
    ] {
        let mut world = World::new(&versions, 1);
        times.iter().for_each(|time| world.order(time, "1.00"));
        assert_eq!(given(&world.entries(&versions)), expected, "{times:?}");
        // All in one batch may hold a lease for the one while the other would need it; never too much.
        let mut world = World::new(&versions, 10);
        times.iter().for_each(|time| world.order(time, "1.00"));
        let [first, second] = given(&world.entries(&versions));
        assert!(first <= 10 && first + second <= 24, "{times:?}: {first}, {second}");
    }
}

#[test]
fn a_budget_that_is_changed_while_the_worker_runs_goes_on_from_what_is_spent() {
    let first = versions(&[with_budget("", 100)]);
    let mut world = World::new(&first, 10);
    world.order("2026-11-30T12:00:00Z", "1.00");
    assert_eq!(given(&world.entries(&first)), [7, 0]);
    let lowered = versions(&[with_budget("", 10)]);
    world.current.replace(lowered.clone()).unwrap();
    (0..3).for_each(|_| world.order("2026-11-30T12:00:00Z", "1.00"));
    assert_eq!(given(&world.entries(&lowered)), [3, 0], "nothing is left in a lease of the old one");
}

#[test]
fn rewards_are_counted_by_rule_and_reward_from_zero_on_and_what_is_declined_is_not() {
    let versions = versions(&[format!(
        "{HEAD}rules: [{{id: visit, on: visited, earn: {{points: 5}}, limit: {{times: 2, per: day}}, give: mug}}]
redemption: {{rewards: [{{id: mug, kind: goods, points: 50}}]}}\n"
    )]);
    let mut world = World::new(&versions, 10);
    assert!(world.metric(r#"accrual_rewards_total{reward="mug",rule="visit"} 0"#));
    for _ in 0..3 {
        world.send("visited", "2026-11-30T12:00:00Z", r#""member_id":"m""#);
    }
    assert_eq!(world.entries(&versions), ["visit 5 0", "visit 0 0", "visit 5 0", "visit 0 0", "visit 0 0"]);
    for line in [
        r#"accrual_rewards_total{reward="mug",rule="visit"} 2"#,
        r#"accrual_points_total{by="rule",kind="earned",rule="visit"} 10"#,
        r#"accrual_points_total{by="rule",kind="declined",rule="visit"} 5"#,
    ] {
        assert!(world.metric(line), "{line}\n{}", world.metrics.render().unwrap());
    }
}

#[test]
fn a_refund_whose_order_never_comes_waits_as_long_as_events_are_remembered_and_is_a_dead_letter_then() {
    let versions = versions(&[format!(
        "{HEAD}rules: [{{id: purchase, on: order.paid, earn: {{points: 1, per: 1.00}}}}]\n"
    )]);
    let mut world = World::new(&versions, 10);
    let refund = r#""member_id":"m","refund_id":"r1","amount":"4.00""#;
    world.send("order.refunded", "2026-11-30T12:00:00Z", refund);
    assert_eq!(world.entries(&versions), ["noted 0 0"]);
    assert_eq!(
        world.store.due().values().copied().collect::<Vec<_>>(),
        [BEGINS.as_secs().cast_signed() + 30 * 86_400]
    );
    world.store.advance(WINDOW.checked_sub(Duration::from_secs(1)).unwrap());
    assert_eq!(world.entries(&versions), [""; 0]);
    world.store.advance(Duration::from_secs(1));
    assert_eq!(world.entries(&versions), ["noted 0 0"]);
    let letters = world.broker.read(&"dead-letters".into());
    let [letter] = &letters[..] else { panic!("{letters:?}") };
    let header = |name: &str| {
        let found = letter.headers.iter().find(|header| header.name == name).unwrap();
        String::from_utf8(found.value.clone().unwrap()).unwrap()
    };
    assert_eq!(header("accrual-reason"), "unknown_order");
    assert!(world.metric(r#"accrual_dead_letters_total{reason="unknown_order"} 1"#));
    // It is the refund as it came, to be sent again once its order was.
    let letter: Value = serde_json::from_slice(letter.payload.as_deref().unwrap()).unwrap();
    assert_eq!(
        (&letter["id"], &letter["type"], &letter["data"]["amount"]),
        (&"e1".into(), &"order.refunded".into(), &"4.00".into())
    );
    assert!(world.store.due().is_empty(), "nothing is left to come");
}

#[test]
fn a_refund_that_comes_before_its_order_takes_its_points_back_once_the_order_is_there() {
    let versions = versions(&[format!(
        "{HEAD}rules: [{{id: purchase, on: order.paid, earn: {{points: 1, per: 1.00}}}}]\n"
    )]);
    for max_events in [1, 10] {
        let mut world = World::new(&versions, max_events);
        let refund = r#""member_id":"m","order_id":"o2","refund_id":"r1","amount":"4.00""#;
        world.send("order.refunded", "2026-11-30T12:00:00Z", refund);
        world.send("order.paid", "2026-11-30T11:00:00Z", r#""member_id":"m","amount":"10.00""#);
        assert_eq!(
            world.entries(&versions),
            ["noted 0 0", "purchase 10 0", "purchase -4 0", "noted 0 0", "noted 0 0"]
        );
        assert!(world.store.due().is_empty() && world.broker.read(&"dead-letters".into()).is_empty());
    }
}

#[test]
fn an_account_that_a_later_event_leaves_as_it_is_is_shown_whole_where_it_is_published_again() {
    let versions = versions(&[format!(
        "{HEAD}rules: [{{id: purchase, on: order.paid, earn: {{points: 1, per: 1.00}}}}, {{id: never, on: visited, when: 'false', earn: {{points: 1}}}}]\n"
    )]);
    let mut before = World::new(&versions, 1);
    before.order("2026-11-30T12:00:00Z", "10.00");
    while before.broker.read(&"awards".into()).is_empty() {
        before.lane.turn().unwrap();
    }
    // What was committed to the store was not published: a broker without it.
    let mut world = World::on(before.store, &versions, 10);
    world.order("2026-11-30T12:00:00Z", "10.00");
    world.send("visited", "2026-11-30T12:01:00Z", r#""member_id":"m""#);
    assert_eq!(world.entries(&versions), ["purchase 10 0"]);
    let snapshots = world.broker.read(&"accounts".into());
    let [snapshot] = &snapshots[..] else { panic!("{snapshots:?}") };
    let snapshot: Value = serde_json::from_slice(snapshot.payload.as_deref().unwrap()).unwrap();
    assert_eq!(snapshot["data"]["available"], 10);
}

impl World {
    fn broken(&mut self, number: usize) {
        let partition = TopicPartition { topic: "in".into(), partition: 0 };
        for _ in 0..number {
            self.broker.produce(&partition, None, b"{oops".to_vec());
        }
    }

    fn turns(&mut self, number: usize) {
        for _ in 0..number {
            self.lane.turn().unwrap();
        }
    }

    fn no_input(&self) -> Option<String> {
        assert_eq!(self.lane.status.no_input(), self.lane.status.trouble());
        self.lane.status.no_input()
    }
}

#[test]
fn a_flood_of_dead_letters_stops_the_input_until_it_is_mended_and_loses_nothing() {
    let rules = |points: u8| {
        format!("{HEAD}rules: [{{id: purchase, on: order.paid, earn: {{points: {points}, per: 1.00}}}}]\n")
    };
    let first = versions(&[rules(1)]);
    let mut world = World::new(&first, 50);
    world.order("2026-11-30T12:00:00Z", "1.00");
    // What was skipped weighs nothing: of what is looked at more than half is broken.
    (0..300).for_each(|_| world.send("page.viewed", "2026-11-30T12:00:00Z", r#""member_id":"m""#));
    world.broken(120);
    world.order("2026-11-30T12:00:00Z", "7.00");
    assert!(world.metric(r#"accrual_input_stopped{lane="0"} 0"#));
    world.turns(20);
    let why = world.no_input().expect("the input is stopped");
    for part in ["99 of 100 events", "not_json", "ACCRUAL_DEAD_LETTERS__MAX_SHARE=1"] {
        assert!(why.contains(part), "{part} is not in {why}");
    }
    assert!(world.metric(r#"accrual_input_stopped{lane="0"} 1"#));
    let letters = |world: &World| world.broker.read(&"dead-letters".into()).len();
    let stopped_at = letters(&world);
    assert_eq!(stopped_at, 99);
    world.turns(20);
    assert_eq!(letters(&world), stopped_at, "nothing more is taken");
    assert!(!world.lane.status.is_caught_up());

    // Another programme may be what was wrong before: judged anew, all the rest is taken.
    let second = versions(&[rules(2)]);
    world.current.replace(second.clone()).unwrap();
    assert_eq!(world.entries(&second).last().map(String::as_str), Some("purchase 14 0"));
    assert_eq!((world.no_input(), letters(&world)), (None, 120));
    assert!(world.metric(r#"accrual_input_stopped{lane="0"} 0"#));
}

#[test]
fn a_lane_that_is_given_other_partitions_judges_dead_letters_anew() {
    let versions = versions(&[format!("{HEAD}rules: [{{id: visit, on: visited, earn: {{points: 5}}}}]\n")]);
    let mut world = World::new(&versions, 50);
    world.broken(170);
    world.turns(20);
    assert!(world.no_input().is_some());
    world.broker.rebalance();
    world.turns(20);
    assert_eq!(world.no_input(), None, "seventy are too few to tell");
    assert_eq!(world.broker.read(&"dead-letters".into()).len(), 170);
}

#[test]
fn what_accrual_tells_itself_does_not_make_a_flood_smaller() {
    let mut tally = Tally::default();
    for (kind, result, number) in [
        (Some("order.paid"), EventResult::Applied, 2),
        (Some("order.paid"), EventResult::Duplicate, 3),
        (Some("order.paid"), EventResult::Replayed, 90),
        (Some("time.came"), EventResult::Applied, 90),
        (None, EventResult::Skipped, 90),
        (None, EventResult::DeadLetter, 4),
        (Some("order.paid"), EventResult::DeadLetter, 1),
    ] {
        (0..number).for_each(|_| tally.event(kind.map(crate::types::EventType::from).as_ref(), result));
    }
    assert_eq!(tally.seen(), flood::Seen { events: 10, letters: 5 });
}

/// One that pays a point a whole unit.
fn plain() -> Arc<Versions> {
    versions(&[format!("{HEAD}rules: [{{id: purchase, on: order.paid, earn: {{points: 1, per: 1.00}}}}]\n")])
}

#[test]
fn a_topic_that_was_made_anew_is_not_read_before_somebody_accepts_it_and_then_from_its_beginning() {
    let versions = plain();
    let mut world = World::new(&versions, 10);
    (0..3).for_each(|_| world.order("2026-11-30T12:00:00Z", "1.00"));
    assert_eq!(world.entries(&versions).len(), 3);
    world.broker.recreate(&"in".into());
    (0..2).for_each(|_| world.order("2026-11-30T12:00:00Z", "5.00"));
    let refused = (0..5).find_map(|_| world.lane.turn().err()).expect("it is refused");
    let LaneError::Recreated(why) = &refused else { panic!("{refused}") };
    for part in ["in/0 ends at offset 2", "up to 3", "accrual accept-recreated in`"] {
        assert!(why.contains(part), "{part} is not in: {why}");
    }
    assert_eq!(world.broker.read(&"awards".into()).len(), 3, "nothing of it was read");

    // What accepting it comes to, beside the group's offsets, which are gone with the old topic.
    let partition = TopicPartition { topic: "in".into(), partition: 0 };
    world.store.forget_processed(&[partition]).unwrap();
    assert_eq!(world.entries(&versions), ["purchase 5 0", "purchase 5 0"]);
}

#[test]
fn what_a_topic_left_in_the_outbox_is_published_as_it_would_have_been_and_what_was_published_is_not() {
    let versions = plain();
    let mut before = World::new(&versions, 1);
    before.order("2026-11-30T12:00:00Z", "10.00");
    while before.broker.read(&"awards".into()).is_empty() {
        before.lane.turn().unwrap();
    }
    let published: Vec<crate::log::OutRecord> = ["awards", "accounts"]
        .iter()
        .flat_map(|topic| before.broker.read(&TopicName::from(*topic)))
        .collect();
    let settings = &before.lane.settings;
    let partition = TopicPartition { topic: "in".into(), partition: 0 };
    let mut left = |ranges: Vec<crate::store::OffsetRange>| {
        let processed = [(partition.clone(), ranges)].into();
        leftovers::leftovers(&mut before.store, &settings.outputs, &before.lane.renderer, &processed).unwrap()
    };
    let unknown = left(Vec::new());
    assert_eq!((unknown.records, unknown.entries.len()), (published, 1));
    let known = left(vec![crate::store::OffsetRange { from: 0, until: 1 }]);
    assert_eq!((known.records, known.entries), (Vec::new(), unknown.entries), "it can go all the same");
}

/// Orders that were published just now.
fn young(world: &mut World, number: usize, amount: &str) {
    let partition = TopicPartition { topic: "in".into(), partition: 0 };
    for _ in 0..number {
        world.sent += 1;
        let id = world.sent;
        let payload = format!(
            r#"{{"specversion":"1.0","id":"e{id}","source":"s","type":"order.paid","time":"2026-11-30T12:00:00Z","data":{{"member_id":"m","order_id":"o{id}","currency":"EUR","amount":"{amount}"}}}}"#
        );
        let now = jiff::Timestamp::now().as_millisecond();
        world.broker.produce_at(&partition, payload.into_bytes(), now);
    }
}

#[test]
fn a_topic_that_was_made_anew_and_has_grown_past_the_old_one_is_told_by_what_never_counted() {
    let versions = plain();
    let mut world = World::new(&versions, 3);
    young(&mut world, 7, "1.00");
    assert_eq!(world.entries(&versions).len(), 7);
    world.broker.recreate(&"in".into());
    young(&mut world, 12, "5.00");
    for _ in 0..2 {
        let refused = (0..5).find_map(|_| world.lane.turn().err()).expect("it is refused");
        let LaneError::Recreated(why) = &refused else { panic!("{refused}") };
        for part in ["of 7 events at offsets that were processed none has counted", "--grown"] {
            assert!(why.contains(part), "{part} is not in: {why}");
        }
        assert!(world.broker.committed().is_empty(), "the next worker must find the same");
        world.lane.log.leave();
        world.lane = World::on(world.store.clone(), &versions, 3).lane;
        world.lane.log = world.broker.connect("lane");
    }
    assert_eq!(world.broker.read(&"awards".into()).len(), 7);
    world.store.forget_processed(&[TopicPartition { topic: "in".into(), partition: 0 }]).unwrap();
    assert_eq!(world.entries(&versions), ["purchase 5 0"; 12]);
}

#[test]
fn offsets_that_are_lost_pay_nothing_twice_and_stop_nothing() {
    let versions = plain();
    let mut world = World::new(&versions, 3);
    young(&mut world, 7, "1.00");
    assert_eq!(world.entries(&versions).len(), 7);
    world.broker.lose_offsets();
    young(&mut world, 2, "5.00");
    assert_eq!(world.entries(&versions), ["purchase 5 0", "purchase 5 0"]);
}
