use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::oneshot;

use super::*;
use crate::account::{Account, HistoryEntry, Retention};
use crate::entry::{EntryKind, Origin};
use crate::explain::Explainer;
use crate::lane::LaneSettings;
use crate::lane::budgets::LeaseTimes;
use crate::lane::status::LaneStatus;
use crate::log::{Archive, KeyQuery, LogError, Record};
use crate::metrics::Metrics;
use crate::programme::current::Current;
use crate::programme::{Programme, ProgrammeText, Versions};
use crate::store::memory::MemoryStore;
use crate::store::{
    AccountWrite, Claimed, CommitBucket, Committed, Deployment, DueAt, Lease, LeaseId, LeaseRequest,
    LoadBucket, LoadedBucket, OffsetRange, OutboxKey, Receipt, Store, StoreError, StoreSettings, event_key,
};
use crate::types::{
    Bucket, Buckets, CampaignId, Coordinates, EventId, MemberId, Outputs, Points, TopicPartition,
};

const BUCKETS: Buckets = Buckets(8);

const PROGRAMME: &str = "{programme: shop, timezone: UTC, currency: EUR, rules: \
    [{id: sign-in, on: member.signed_in, earn: {points: 5}, limit: {times: 1, per: day}}]}";

/// A memory store that can be taken away, and that counts its probes.
#[derive(Clone)]
struct Shop {
    store: MemoryStore,
    away: Arc<std::sync::Mutex<Option<&'static str>>>,
    probes: Arc<AtomicUsize>,
}

impl Shop {
    fn new() -> Self {
        let settings = StoreSettings {
            buckets: BUCKETS.0,
            dedupe_window: Duration::from_mins(1),
            refunds_window: Duration::from_mins(1),
        };
        Self { store: MemoryStore::new(settings), away: Arc::default(), probes: Arc::default() }
    }

    fn write(&mut self, member: &str, json: Vec<u8>) {
        let member = MemberId::from(member);
        let bucket = CommitBucket {
            records: Vec::new(),
            returned: Vec::new(),
            bucket: BUCKETS.of(&member),
            accounts: vec![AccountWrite { member, expected: 0, json }],
            receipts: Vec::new(),
            outbox: Vec::new(),
            published: Vec::new(),
            grants: Vec::new(),
            due: Vec::new(),
        };
        assert_eq!(self.store.commit(&[bucket]).unwrap(), [Committed::Written]);
    }

    fn is_there(&self) -> Result<(), StoreError> {
        self.away.lock().unwrap().map_or(Ok(()), |why| Err(StoreError::Away(why.to_owned())))
    }
}

impl Store for Shop {
    fn load(&mut self, wanted: &[LoadBucket]) -> Result<Vec<LoadedBucket>, StoreError> {
        self.is_there()?;
        self.store.load(wanted)
    }

    fn probe(&mut self) -> Result<(), StoreError> {
        self.probes.fetch_add(1, Ordering::Relaxed);
        self.is_there()
    }

    fn commit(&mut self, _: &[CommitBucket]) -> Result<Vec<Committed>, StoreError> {
        unreachable!("reading changes nothing")
    }

    fn outbox(&mut self, _: &[TopicPartition]) -> Result<Vec<(Bucket, OutboxKey)>, StoreError> {
        unreachable!()
    }

    fn outbox_entry(&mut self, _: Bucket, _: &OutboxKey) -> Result<Option<Vec<u8>>, StoreError> {
        unreachable!()
    }

    fn clear_outbox(&mut self, _: &[(Bucket, OutboxKey)]) -> Result<(), StoreError> {
        unreachable!()
    }

    fn processed(&mut self, _: &[TopicPartition]) -> Result<Vec<Vec<OffsetRange>>, StoreError> {
        unreachable!()
    }

    fn add_processed(&mut self, _: &[(TopicPartition, OffsetRange)]) -> Result<(), StoreError> {
        unreachable!()
    }

    fn lease(&mut self, _: &LeaseRequest) -> Result<Lease, StoreError> {
        unreachable!()
    }

    fn end_lease(&mut self, _: &CampaignId, _: LeaseId) -> Result<(), StoreError> {
        unreachable!()
    }

    fn claim_due(&mut self, _: &[Bucket], _: usize, _: Duration) -> Result<Claimed, StoreError> {
        unreachable!()
    }

    fn set_due(&mut self, _: &[(Bucket, DueAt)]) -> Result<(), StoreError> {
        unreachable!()
    }

    fn check_deployment(&mut self, _: &Deployment) -> Result<Deployment, StoreError> {
        unreachable!()
    }

    fn find_events(
        &mut self,
        buckets: &[Bucket],
        id: &str,
        deadline: std::time::Instant,
    ) -> Result<Vec<(EventId, Receipt)>, StoreError> {
        self.is_there()?;
        self.store.find_events(buckets, id, deadline)
    }
}

#[test]
fn accounts_are_shown_by_the_version_of_now() {
    let text = |name: &str, from: &str| ProgrammeText {
        name: name.to_owned(),
        text: format!(
            "{{programme: shop, timezone: UTC, currency: EUR, {from}rules: [{{id: a, on: b, earn: {{points: 5}}}}]}}"
        ),
    };
    let texts = [text("first", ""), text("next", "effective_from: 2026-12-01T00:00, ")];
    let versions = Arc::new(Versions::parse(&texts).unwrap());
    let metrics = Metrics::new(&versions).unwrap();
    let state = HttpState::new(metrics, Arc::new(Current::new(versions)), BUCKETS, Box::new(Shop::new()));
    for (now, expected) in [("2026-11-30T23:59:59Z", "first"), ("2026-12-01T00:00:00Z", "next")] {
        assert_eq!(state.programme_at(now.parse().unwrap()).file, expected);
    }
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The detail of a problem, which must be one from head to body.
    fn problem(&self) -> String {
        assert!(self.head.contains("content-type: application/problem+json"), "{}", self.head);
        let json = self.json();
        assert_eq!(json["status"], self.status);
        json["detail"].as_str().unwrap().to_owned()
    }
}

/// A server on a port of its own.
struct Served {
    shop: Shop,
    state: HttpState,
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Served {
    async fn new() -> Self {
        let versions = Arc::new(Versions::only(Programme::parse("programme.yaml", PROGRAMME).unwrap()));
        let shop = Shop::new();
        let metrics = Metrics::new(&versions).unwrap();
        let state =
            HttpState::new(metrics, Arc::new(Current::new(versions)), BUCKETS, Box::new(shop.clone()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let server = serve(listener, state.clone(), async { stopped.await.unwrap_or_default() });
        Self { shop, state, address, stop, ended: tokio::spawn(server) }
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path).await
    }

    async fn ask(&self, method: &str, path: &str) -> Answer {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: accrual\r\nConnection: close\r\n\r\n");
        let address = self.address;
        let asked = tokio::task::spawn_blocking(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        });
        let answer = asked.await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.to_owned(), body: body.to_owned() }
    }

    fn lanes(&self) -> [Arc<LaneStatus>; 2] {
        let lanes = ["0", "1"].map(|name| Arc::new(LaneStatus::new(name)));
        self.state.set_lanes(lanes.to_vec());
        lanes
    }
}

#[tokio::test]
async fn an_account_is_found_under_its_encoded_name() {
    let mut served = Served::new().await;
    let mut account = Account::new("7/ü r".into());
    account.version = 3;
    account.available = Points(42);
    served.shop.write("7/ü r", account.to_json());

    let answer = served.get("/v1/accounts/7%2F%C3%BC%20r").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let account = answer.json();
    assert_eq!((&account["member_id"], &account["available"]), (&"7/ü r".into(), &42.into()));
    assert_eq!(account["limits"][0]["times_left"], 1);
}

#[tokio::test]
async fn a_member_without_an_account_an_impossible_id_and_an_absent_store_are_told_apart() {
    let mut served = Served::new().await;
    let unknown = served.get("/v1/accounts/nobody").await;
    assert_eq!(unknown.status, 404);
    assert_eq!(unknown.problem(), "member \"nobody\" has no account: nothing has counted for them yet");

    for impossible in [&"m".repeat(513), "%ff"] {
        let answer = served.get(&format!("/v1/accounts/{impossible}")).await;
        assert_eq!(answer.status, 400, "{}", answer.problem());
    }

    served.shop.write("spoilt", b"{\"v\":1,\"no\":\"account\"}".to_vec());
    let spoilt = served.get("/v1/accounts/spoilt").await;
    assert_eq!(spoilt.status, 500, "{}", spoilt.problem());

    *served.shop.away.lock().unwrap() = Some("connection refused");
    let away = served.get("/v1/accounts/nobody").await;
    assert_eq!(away.status, 503);
    assert_eq!(away.problem(), "the store is away: connection refused");
    assert!(away.head.contains("retry-after: 1"), "{}", away.head);
}

#[tokio::test]
async fn a_worker_without_lanes_lives_and_says_what_it_waits_for() {
    let served = Served::new().await;
    *served.shop.away.lock().unwrap() = Some("connection refused");
    served.state.waits_for("waiting for the store");
    assert_eq!(served.get("/livez").await.status, 200);
    let ready = served.get("/readyz").await;
    assert_eq!(ready.status, 503);
    assert_eq!(ready.problem(), "no lanes yet: waiting for the store; the store is away: connection refused");
}

#[tokio::test]
async fn readiness_needs_partitions_kafka_and_the_store_and_says_which_lacks() {
    let served = Served::new().await;
    let [first, second] = served.lanes();
    let metrics = served.state.metrics();
    let why = async || served.get("/readyz").await.problem();
    assert_eq!(why().await, "lane 0 has no partitions assigned yet; lane 1 has no partitions assigned yet");
    first.assigned(4);
    second.assigned(0);
    assert_eq!(served.get("/readyz").await.status, 200);
    second.kafka_is_down(metrics, "all brokers are down");
    assert_eq!(why().await, "lane 1: kafka: all brokers are down");
    assert_eq!(served.get("/livez").await.status, 200);
    second.kafka_is_up(metrics);
    assert_eq!(served.get("/readyz").await.status, 200);
    first.stop();
    assert_eq!(why().await, "lane 0 is told to stop");
}

#[tokio::test]
async fn a_lane_that_ended_by_itself_is_not_live_and_one_that_was_told_to_is() {
    let served = Served::new().await;
    let [first, second] = served.lanes();
    assert_eq!(served.get("/livez").await.status, 200);
    first.ended();
    let answer = served.get("/livez").await;
    assert_eq!((answer.status, answer.problem().as_str()), (503, "lane 0 has ended by itself"));
    first.stop();
    second.stop();
    assert_eq!(served.get("/livez").await.status, 200);
}

#[tokio::test]
async fn the_store_is_probed_once_a_second_however_many_ask() {
    let served = Served::new().await;
    for lane in served.lanes() {
        lane.assigned(1);
    }
    for _ in 0..5 {
        assert_eq!(served.get("/readyz").await.status, 200);
    }
    assert!(served.shop.probes.load(Ordering::Relaxed) <= 2);
}

#[tokio::test]
async fn metrics_index_and_description_are_served_and_the_rest_is_a_problem() {
    let served = Served::new().await;
    let metrics = served.get("/metrics").await;
    assert!(metrics.head.contains("content-type: text/plain; version=0.0.4"), "{}", metrics.head);
    assert!(metrics.body.contains("accrual_build_info"));

    let index = served.get("/").await;
    let described = served.get("/v1/openapi.json").await.json();
    let paths = described["paths"].as_object().unwrap();
    assert_eq!(paths.len(), 5);
    for path in paths.keys() {
        let named = |after: &str| index.body.contains(&format!("\n{path}{after}"));
        assert!(named(" ") || named("\n"), "{path}");
    }
    assert_eq!(described["info"]["version"], env!("CARGO_PKG_VERSION"));
    let schemas = described["components"]["schemas"].as_object().unwrap();
    for named in [
        "Explanation",
        "Step",
        "Verdict",
        "AccountView",
        "TierView",
        "EntryView",
        "EventId",
        "Why",
        "Period",
        "Problem",
    ] {
        assert!(schemas.contains_key(named), "{named}");
    }

    assert_eq!(served.get("/v1/account").await.status, 404);
    assert_eq!(served.ask("POST", "/v1/accounts/m-1").await.status, 405);
}

#[tokio::test]
async fn the_server_ends_when_told_also_under_an_open_connection() {
    let served = Served::new().await;
    let mut open = TcpStream::connect(served.address).unwrap();
    open.write_all(b"GET /livez HTTP/1.1\r\n").unwrap();
    served.get("/livez").await;
    served.stop.send(()).unwrap();
    tokio::time::timeout(SHUTDOWN * 2, served.ended).await.unwrap().unwrap().unwrap();
}

/// A log that holds nothing, or that is away.
struct Kafka(Option<&'static str>);

impl Archive for Kafka {
    fn record(&self, _: &Coordinates, _: std::time::Instant) -> Result<Option<Record>, LogError> {
        self.0.map_or(Ok(None), |why| Err(LogError::Retriable(why.to_owned())))
    }

    fn of_key(
        &self,
        _: &KeyQuery<'_>,
        _: std::time::Instant,
        _: &mut dyn FnMut(&[u8], Option<i64>),
    ) -> Result<bool, LogError> {
        Ok(true)
    }
}

impl Served {
    fn explain_with(&self, kafka: Kafka) {
        let versions = Arc::new(Versions::only(Programme::parse("programme.yaml", PROGRAMME).unwrap()));
        let lanes = LaneSettings {
            current: Arc::new(Current::new(versions.clone())),
            outputs: Outputs {
                awards: "awards".into(),
                tier_changes: "tier-changes".into(),
                accounts: "accounts".into(),
                dead_letters: "dead-letters".into(),
                internal: "internal".into(),
            },
            buckets: BUCKETS,
            retention: Retention { history: 4, months: 0, days: 30 },
            max_events: 1,
            max_wait: Duration::ZERO,
            max_record_bytes: 10_000,
            cached_accounts: 1,
            leases: LeaseTimes::default(),
            clock_every: Duration::MAX,
            sleep: |_| {},
            versions,
        };
        let store = Box::new(self.shop.clone());
        self.state.explain_with(Explainer::new(lanes, store, Box::new(kafka)));
    }
}

/// What an event leaves behind, where another one of the same id came from another source.
fn counted(shop: &mut Shop, member: &str, sources: &[&str], id: &str) {
    let member = MemberId::from(member);
    let at = Coordinates { topic: "shop".into(), partition: 3, offset: 17 };
    let receipt = |source: &&str| {
        let event = EventId { source: (*source).into(), id: id.into() };
        (event_key(&event), Receipt { at: at.clone(), fingerprint: 1, record: None })
    };
    let mut account = Account::new(member.clone());
    account.version = 1;
    account.history.extend(
        HistoryEntry {
            at: 0,
            kind: EntryKind::Earned,
            points: Points(5),
            declined: Points::ZERO,
            by: Origin::Rule("sign-in".into()),
            reward: None,
            why: None,
            event: format!("{} {id}", sources[0]).into(),
        }
        .line(),
    );
    let bucket = CommitBucket {
        records: Vec::new(),
        returned: Vec::new(),
        bucket: BUCKETS.of(&member),
        accounts: vec![AccountWrite { member, expected: 0, json: account.to_json() }],
        receipts: sources.iter().map(receipt).collect(),
        outbox: Vec::new(),
        published: Vec::new(),
        grants: Vec::new(),
        due: Vec::new(),
    };
    assert_eq!(shop.store.commit(&[bucket]).unwrap(), [Committed::Written]);
}

#[tokio::test]
async fn an_event_is_explained_under_its_encoded_names_and_what_is_gone_is_said() {
    let mut served = Served::new().await;
    assert_eq!(served.get("/v1/accounts/m/explain/e").await.status, 503, "not yet");
    served.explain_with(Kafka(None));
    counted(&mut served.shop, "7/ü", &["shop/web"], "o 1/2");
    counted(&mut served.shop, "twice", &["shop/app", "shop/web"], "o-9");

    let answer = served.get("/v1/accounts/7%2F%C3%BC/explain/o%201%2F2").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let explained = answer.json();
    assert_eq!((&explained["verdict"], &explained["points"]), (&"undecided".into(), &5.into()));
    assert_eq!(explained["event"]["record"], "shop/3/17");
    let notes = explained["notes"].to_string();
    assert!(notes.contains("Kafka does not have its record any more"), "{notes}");

    let several = served.get("/v1/accounts/twice/explain/o-9").await;
    assert_eq!(several.status, 409);
    assert!(several.problem().ends_with(": shop/app, shop/web"), "{}", several.problem());
    assert_eq!(served.get("/v1/accounts/twice/explain/o-9?source=shop/app").await.status, 200);

    for (path, status) in [
        ("/v1/accounts/twice/explain/o-10", 404),
        ("/v1/accounts/nobody/explain/o-9?source=x", 404),
        (&format!("/v1/accounts/twice/explain/{}", "o".repeat(513)), 400),
        ("/v1/accounts/twice/explain/%ff", 400),
    ] {
        let answer = served.get(path).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.problem());
    }
}

#[tokio::test]
async fn an_event_cannot_be_explained_while_the_store_or_kafka_is_away() {
    let mut served = Served::new().await;
    counted(&mut served.shop, "m", &["shop"], "e");
    served.explain_with(Kafka(Some("all brokers are down")));
    let away = served.get("/v1/accounts/m/explain/e").await;
    assert_eq!(
        (away.status, away.problem()),
        (503, "Kafka: the log is away: all brokers are down".to_owned())
    );
    *served.shop.away.lock().unwrap() = Some("connection refused");
    let away = served.get("/v1/accounts/m/explain/e").await;
    assert_eq!((away.status, away.problem()), (503, "the store is away: connection refused".to_owned()));
}
