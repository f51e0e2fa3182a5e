use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::redemption_view::{PendingView, RedemptionAsked, RedemptionView};
use super::server::SHUTDOWN;
use super::*;
use crate::account::{Account, HistoryEntry, Lot, Retention};
use crate::account_view::AccountView;
use crate::config::{Access, Http, Kind, Rate, Redemptions, TokenFile};
use crate::entry::{EntryKind, Origin, Why};
use crate::event::decode::{Decoded, Decoder};
use crate::explain::{Explainer, Explanation};
use crate::lane::LaneSettings;
use crate::lane::budgets::LeaseTimes;
use crate::lane::flood::FloodLimits;
use crate::lane::status::LaneStatus;
use crate::log::{Archive, Delivery, KeyQuery, LogError, OutRecord, Reach, Record, Sender, Stretch};
use crate::metrics::Metrics;
use crate::programme::current::Current;
use crate::programme::{Programme, ProgrammeText, Versions};
use crate::record::{self, Redemption};
use crate::store::memory::MemoryStore;
use crate::store::{
    AccountWrite, Claimed, CommitBucket, Committed, Deployment, DueAt, Lease, LeaseId, LeaseRequest,
    LoadBucket, LoadedBucket, Located, OffsetRange, OutboxKey, Receipt, RestoreBucket, Restored, Spent,
    Store, StoreError, StoreSettings, event_key,
};
use crate::types::{
    Bucket, Buckets, CampaignId, Coordinates, EventId, MemberId, Outputs, Points, TopicName, TopicPartition,
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

/// A commit that changes nothing.
fn nothing(bucket: Bucket) -> CommitBucket {
    CommitBucket {
        bucket,
        accounts: Vec::new(),
        receipts: Vec::new(),
        records: Vec::new(),
        outbox: Vec::new(),
        published: Vec::new(),
        grants: Vec::new(),
        returned: Vec::new(),
        due: Vec::new(),
    }
}

impl Shop {
    fn new() -> Self {
        let settings = StoreSettings {
            buckets: BUCKETS.0,
            dedupe_window: Duration::from_mins(1),
            refunds_window: Duration::from_mins(1),
        };
        let mut store = MemoryStore::new(settings);
        crate::store::take_as_whole(&mut store).unwrap();
        Self { store, away: Arc::default(), probes: Arc::default() }
    }

    fn write(&mut self, member: &str, json: Vec<u8>) {
        let member = MemberId::from(member);
        let bucket = CommitBucket {
            accounts: vec![AccountWrite { member: member.clone(), expected: 0, json: json.into() }],
            ..nothing(BUCKETS.of(&member))
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

    fn locate(&mut self) -> Result<Vec<Located>, StoreError> {
        unreachable!("reading rests on no server")
    }

    fn adopt(&mut self, _: &[Located]) -> bool {
        unreachable!("reading rests on no server")
    }

    fn confirm(&mut self, _: &[Located]) -> Result<bool, StoreError> {
        unreachable!("reading changes nothing")
    }

    fn is_unmoved(&mut self, _: &[Bucket]) -> Result<bool, StoreError> {
        unreachable!("reading rests on no server")
    }

    fn restore(&mut self, _: &[RestoreBucket]) -> Result<Option<Restored>, StoreError> {
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

    fn sources(&mut self, _: &TopicName) -> Result<Vec<(TopicPartition, Vec<OffsetRange>)>, StoreError> {
        unreachable!()
    }

    fn forget_processed(&mut self, _: &[TopicPartition]) -> Result<(), StoreError> {
        unreachable!()
    }

    fn lease(&mut self, _: &LeaseRequest) -> Result<Lease, StoreError> {
        unreachable!()
    }

    fn end_lease(&mut self, _: &CampaignId, _: LeaseId) -> Result<(), StoreError> {
        unreachable!()
    }

    fn due_of(&mut self, _: &[(Bucket, Vec<MemberId>)]) -> Result<Vec<Vec<Option<i64>>>, StoreError> {
        unreachable!()
    }

    fn each_member(&mut self, _: &[Bucket], _: &mut dyn FnMut(Bucket, MemberId)) -> Result<(), StoreError> {
        unreachable!()
    }

    fn spent(&mut self, _: &CampaignId) -> Result<Spent, StoreError> {
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
    let current = Arc::new(Current::new(versions));
    let state = HttpState::new(metrics, current, BUCKETS, Box::new(Shop::new()), &open());
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

fn open() -> Http {
    Http::open("127.0.0.1:0".parse().unwrap())
}

impl Served {
    async fn new() -> Self {
        Self::with(open()).await
    }

    async fn with(settings: Http) -> Self {
        let versions = Arc::new(Versions::only(Programme::parse("programme.yaml", PROGRAMME).unwrap()));
        Self::of(settings, versions).await
    }

    async fn of(settings: Http, versions: Arc<Versions>) -> Self {
        let shop = Shop::new();
        let metrics = Metrics::new(&versions).unwrap();
        let current = Arc::new(Current::new(versions));
        let state = HttpState::new(metrics, current, BUCKETS, Box::new(shop.clone()), &settings);
        let listener = TcpListener::bind(settings.listen).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let server = serve(listener, state.clone(), async { stopped.await.unwrap_or_default() });
        Self { shop, state, address, stop, ended: tokio::spawn(server) }
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "", "").await
    }

    async fn get_as(&self, token: &str, path: &str) -> Answer {
        self.ask("GET", path, &format!("Authorization: Bearer {token}\r\n"), "").await
    }

    async fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let length = body.len();
        self.send(format!(
            "{method} {path} HTTP/1.1\r\nHost: accrual\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        ))
        .await
    }

    async fn send(&self, request: String) -> Answer {
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
    second.restores(100);
    second.has_restored(40);
    let restoring = "redis: it lacks what was published; restoring it, 40 of up to 100 records are looked at";
    assert_eq!(why().await, format!("lane 1: {restoring}"));
    second.ends_restoring();
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
    assert_eq!(paths.len(), 7);
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
    assert_eq!(served.ask("POST", "/v1/accounts/m-1", "", "").await.status, 405);
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
#[derive(Debug)]
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

    fn usual_partition(&self, _: &[u8], _: i32) -> i32 {
        0
    }

    fn reach(&self, _: &TopicName, _: std::time::Instant) -> Result<Vec<Reach>, LogError> {
        Ok(Vec::new())
    }

    fn scan(
        &self,
        _: &Stretch,
        _: std::time::Instant,
        _: &mut dyn FnMut(Record) -> bool,
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
            dedupe_window: Duration::from_mins(1),
            max_events: 1,
            max_wait: Duration::ZERO,
            max_record_bytes: 10_000,
            cached_accounts: 1,
            flood: FloodLimits::NONE,
            leases: LeaseTimes::default(),
            clock_every: Duration::MAX,
            whole_stretch: 100,
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
    account.history.push(
        &HistoryEntry {
            at: 0,
            kind: EntryKind::Earned,
            points: Points(5),
            declined: Points::ZERO,
            by: Origin::Rule("sign-in".into()),
            reward: None,
            why: None,
            event: format!("{} {id}", sources[0]).into(),
        },
        1,
    );
    let bucket = CommitBucket {
        receipts: sources.iter().map(receipt).collect(),
        accounts: vec![AccountWrite { member: member.clone(), expected: 0, json: account.to_json().into() }],
        ..nothing(BUCKETS.of(&member))
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

const SERVICE: &str = "a-service-token-that-was-drawn";
const SECRET: &str = "0123456789abcdef0123456789abcdef";
const FAR: &str = "4102444800";

fn member_token(member: &str) -> String {
    let claims = format!(r#"{{"sub":"{member}","exp":{FAR}}}"#);
    token::signed(r#"{"alg":"HS256"}"#, &claims, SECRET)
}

/// Files of tokens in a folder of one test's own.
struct Tokens(PathBuf);

impl Tokens {
    fn new(test: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("accrual-http-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let tokens = Self(folder);
        tokens
            .write("service", &format!("# of the shop's backend\nanother-token-that-was-drawn\n{SERVICE}\n"));
        tokens.write("member", SECRET);
        tokens
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.join(name), text).unwrap();
    }

    fn settings(&self) -> Http {
        let read = |name: &str, kind| TokenFile::read(self.0.join(name), kind).unwrap();
        let access = Access::Tokens {
            service: Some(read("service", Kind::Service)),
            member: Some(read("member", Kind::Member)),
        };
        Http { access, ..open() }
    }
}

impl Drop for Tokens {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

#[tokio::test]
async fn without_a_token_that_counts_only_health_metrics_and_the_description_are_shown() {
    let tokens = Tokens::new("tokens");
    let mut served = Served::with(tokens.settings()).await;
    served.shop.write("ann", Account::new("ann".into()).to_json());
    for open in ["/", "/livez", "/metrics", "/v1/openapi.json"] {
        assert_eq!(served.get(open).await.status, 200, "{open}");
    }
    let path = "/v1/accounts/ann";
    let none = served.get(path).await;
    assert_eq!(
        (none.status, none.problem().as_str()),
        (401, "one header `Authorization: Bearer TOKEN` is needed")
    );
    assert!(none.head.contains("www-authenticate: Bearer realm=\"accrual\""), "{}", none.head);
    let basic = served.ask("GET", path, "Authorization: Basic YTpi\r\n", "").await;
    assert_eq!(basic.status, 401);
    let two = format!("Authorization: Bearer {SERVICE}\r\n").repeat(2);
    assert_eq!(served.ask("GET", path, &two, "").await.status, 401);
    let (whole, _) = SERVICE.split_at(SERVICE.len() - 1);
    for wrong in [whole, SECRET, "x", &format!("{SERVICE}x")] {
        assert_eq!(served.get_as(wrong, path).await.status, 401, "{wrong}");
    }
    assert_eq!(served.get("/v1/accounts/ann/explain/e").await.status, 401);

    assert_eq!(served.get_as("another-token-that-was-drawn", path).await.status, 200);
    let lower = served.ask("GET", path, &format!("authorization: bearer {SERVICE}\r\n"), "").await;
    assert_eq!(lower.status, 200);
    let metrics = served.get("/metrics").await.body;
    assert!(
        metrics.contains("accrual_http_requests_total{route=\"/v1/accounts/{member}\",status=\"401\"} 7"),
        "{metrics}"
    );
    assert!(!metrics.contains(SERVICE));
}

#[tokio::test]
async fn a_members_token_shows_their_own_account_and_tells_nothing_of_others() {
    let tokens = Tokens::new("members");
    let mut served = Served::with(tokens.settings()).await;
    served.shop.write("ann", Account::new("ann".into()).to_json());
    served.shop.write("bob", Account::new("bob".into()).to_json());
    let ann = member_token("ann");
    let own = served.get_as(&ann, "/v1/accounts/ann").await;
    assert_eq!((own.status, &own.json()["member_id"]), (200, &"ann".into()), "{}", own.body);
    assert_eq!(
        served.get_as(&member_token("new"), "/v1/accounts/new").await.status,
        404,
        "nothing counted yet"
    );
    let other = served.get_as(&ann, "/v1/accounts/bob").await;
    let nobody = served.get_as(&ann, "/v1/accounts/nobody").await;
    assert_eq!((other.status, &other.body), (403, &nobody.body), "whether there is a bob is not told");
    assert_eq!(other.problem(), "a member's token shows that member's own account only");
    // Support explains, and members do not keep it from doing so.
    let explained = served.get_as(&ann, "/v1/accounts/ann/explain/e").await;
    assert_eq!(explained.status, 403);
    let expired = token::signed(r#"{"alg":"HS256"}"#, r#"{"sub":"ann","exp":1000}"#, SECRET);
    let expired = served.get_as(&expired, "/v1/accounts/ann").await;
    assert_eq!((expired.status, expired.problem().as_str()), (401, "the token has expired"));
}

#[tokio::test]
async fn tokens_are_exchanged_while_the_worker_runs_and_a_broken_file_leaves_the_old_ones() {
    let tokens = Tokens::new("exchange");
    let served = Served::with(tokens.settings()).await;
    let gate = served.state.gate();
    let status = async |token: &str| served.get_as(token, "/v1/accounts/ann").await.status;
    assert_eq!((status(SERVICE).await, status("a-new-token-of-the-service").await), (404, 401));
    assert_eq!(gate.take_up_tokens(), Ok(false));
    tokens.write("service", "too-short\n");
    let why = gate.take_up_tokens().unwrap_err();
    assert!(why.contains("line 1 has 9 characters") && !why.contains("too-short"), "{why}");
    assert_eq!(status(SERVICE).await, 404, "the old one still counts");
    tokens.write("service", "a-new-token-of-the-service\n");
    // By the server itself, within a second.
    for _ in 0..100 {
        if status("a-new-token-of-the-service").await == 404 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!((status(SERVICE).await, status("a-new-token-of-the-service").await), (401, 404));
}

#[tokio::test]
async fn who_asks_too_often_is_told_when_to_ask_again_and_others_are_not_held_up() {
    let tokens = Tokens::new("rates");
    let slow = Rate { per_second: 1, burst: 2 };
    let served = Served::with(Http { rate: slow, member_rate: slow, ..tokens.settings() }).await;
    let (ann, bob) = (member_token("ann"), member_token("bob"));
    let status = async |token: &str| served.get_as(token, "/v1/accounts/ann").await.status;
    assert_eq!((status(&ann).await, status(&ann).await), (404, 404));
    let third = served.get_as(&ann, "/v1/accounts/ann").await;
    assert_eq!(
        (third.status, third.problem().as_str()),
        (429, "too many requests: 1 a second are answered, 2 at once")
    );
    assert!(third.head.contains("retry-after: 1"), "{}", third.head);
    assert_eq!((status(&bob).await, status(SERVICE).await), (403, 404));
    // Who tries tokens is counted by their address.
    assert_eq!((status("x").await, status("y").await, status("z").await), (401, 401, 429));
    assert_eq!(served.get("/livez").await.status, 200, "a restart would help nobody");
    assert_eq!(served.get("/metrics").await.status, 429);
}

#[tokio::test]
async fn accounts_can_be_switched_off() {
    let served = Served::with(Http { access: Access::Nobody, ..open() }).await;
    assert_eq!(served.get("/metrics").await.status, 200);
    let answer = served.get("/v1/accounts/ann").await;
    assert_eq!(
        (answer.status, answer.problem().as_str()),
        (404, "accounts are not served here (`http.accounts` is false)")
    );
}

#[tokio::test]
async fn requests_are_bounded_in_size_and_in_number() {
    let served = Served::with(Http { max_requests: 2, ..open() }).await;
    let large = "x".repeat(LARGEST_BODY + 1);
    let answer = served.ask("GET", "/v1/accounts/ann", "", &large).await;
    assert_eq!((answer.status, answer.problem().as_str()), (413, "a body has at most 16384 bytes"));
    let head = served.get(&format!("/v1/accounts/{}", "x".repeat(20_000))).await;
    assert_eq!(head.status, 431);

    // Two wait for the store, which is held here.
    let held = served.state.hold_store().await;
    let served = Arc::new(served);
    let waiting: Vec<_> = (0..2)
        .map(|_| {
            let served = served.clone();
            tokio::spawn(async move { served.get("/v1/accounts/ann").await.status })
        })
        .collect();
    while served.state.gate().places_left() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let third = served.get("/v1/accounts/ann").await;
    assert_eq!((third.status, third.problem().as_str()), (503, "too many requests are under way"));
    drop(held);
    for waited in waiting {
        assert_eq!(waited.await.unwrap(), 404);
    }
}

#[test]
fn every_route_is_described_with_its_methods() {
    let described = serde_json::to_value(description::openapi()).unwrap();
    let source = include_str!("mod.rs");
    let mut routes = Vec::new();
    for route in source.split(".route(\"").skip(1) {
        let (path, handler) = route.split_once("\", ").unwrap();
        let method = handler.split('(').next().unwrap();
        if !["/", "/v1/openapi.json"].contains(&path) {
            assert!(described["paths"][path][method].is_object(), "{method} {path}");
            routes.push(path);
        }
    }
    routes.sort_unstable();
    routes.dedup();
    assert_eq!(described["paths"].as_object().unwrap().len(), routes.len());
}

#[test]
fn every_answer_and_question_has_an_example_that_is_read_as_its_type() {
    let described = serde_json::to_value(description::openapi()).unwrap();
    let mut seen = 0;
    for (path, methods) in described["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let at = format!("{method} {path}");
            assert!(operation["summary"].is_string(), "{at} says what it is");
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                assert!(parameter["example"].is_string(), "{at} {}", parameter["name"]);
            }
            let answers = operation["responses"].as_object().unwrap();
            for (status, answer) in answers {
                for (kind, content) in answer["content"].as_object().unwrap() {
                    let at = format!("{at} {status}");
                    let example =
                        example(&described, content).unwrap_or_else(|| panic!("{at} has no example"));
                    if status.as_str() >= "400" {
                        assert_eq!(kind, "application/problem+json", "{at}");
                        assert_eq!(example["status"].to_string(), *status, "{at}");
                    }
                    read_as(content["schema"]["$ref"].as_str(), &example, &at);
                    seen += 1;
                }
            }
            if path.starts_with("/v1/") {
                assert!(operation["security"].as_array().is_some_and(|all| !all.is_empty()), "{at}");
                for status in ["401", "403", "413", "429", "503"] {
                    assert!(answers.contains_key(status), "{at} may answer {status}");
                }
            }
            if let Some(content) = operation["requestBody"]["content"].get("application/json") {
                let example = example(&described, content).unwrap_or_else(|| panic!("{at} has no example"));
                read_as(content["schema"]["$ref"].as_str(), &example, &at);
            }
        }
    }
    assert!(seen > 10, "{seen}");
    let schemes = described["components"]["securitySchemes"].as_object().unwrap();
    assert_eq!(schemes.len(), 2);
}

/// The example of a content, or that of its type.
fn example(described: &Value, content: &Value) -> Option<Value> {
    let schema = || {
        content["schema"]["$ref"]
            .as_str()?
            .strip_prefix('#')
            .map(|path| &described.pointer(path).unwrap()["example"])
    };
    content.get("example").or_else(schema).filter(|example| !example.is_null()).cloned()
}

/// Reads an example as the type that it is of; what is written of that is the example again.
fn read_as(schema: Option<&str>, example: &Value, at: &str) {
    fn again<T: serde::Serialize + serde::de::DeserializeOwned>(
        example: &Value,
    ) -> serde_json::Result<Value> {
        serde_json::to_value(serde_json::from_value::<T>(example.clone())?)
    }
    let written = match schema.map(|schema| schema.rsplit('/').next().unwrap()) {
        None => Ok(Value::String(example.as_str().unwrap().to_owned())),
        Some("AccountView") => again::<AccountView>(example),
        Some("Explanation") => again::<Explanation>(example),
        Some("Problem") => again::<Problem>(example),
        Some("RedemptionAsked") => again::<RedemptionAsked>(example),
        Some("RedemptionView") => again::<RedemptionView>(example),
        Some("PendingView") => again::<PendingView>(example),
        Some(other) => panic!("{at}: {other} is not known here"),
    };
    assert_eq!(written.unwrap_or_else(|error| panic!("{at}: {error}")), *example, "{at}");
}

/// A lane that decides what is sent to it at once, or only later.
#[derive(Clone)]
struct Lane {
    shop: Shop,
    versions: Arc<Versions>,
    sent: Arc<std::sync::Mutex<Vec<OutRecord>>>,
    decides: Arc<AtomicBool>,
    away: Arc<AtomicBool>,
}

const CATALOGUE: &str = "{programme: shop, timezone: UTC, currency: EUR, redemption: \
    {rewards: [{id: mug, kind: goods, points: 1200}, {id: pen, kind: goods, points: 10}]}, rules: \
    [{id: sign-in, on: member.signed_in, earn: {points: 5}}]}";

impl Lane {
    /// As the worker does: a receipt of the event, and one of its business key with the record. What is known is
    /// not decided again.
    fn decide(&self, record: &OutRecord) {
        let at = Coordinates { topic: record.topic.clone(), partition: 0, offset: 0 };
        let record = Record {
            at: at.clone(),
            published_ms: None,
            key: record.key.clone(),
            payload: record.payload.clone(),
            headers: Vec::new(),
        };
        let Ok(Decoded::Event(event)) = Decoder::of(&self.versions, 1 << 20).decode(&record) else {
            panic!("{record:?}");
        };
        let data: Value = serde_json::from_str(&event.data).unwrap();
        let mug = data["reward"] == "mug";
        let redemption = Redemption {
            reward: data["reward"].as_str().unwrap().into(),
            kind: None,
            points: if mug { Points(1200) } else { Points::ZERO },
            worth: None,
            quantity: 1,
            prizes: Vec::new(),
            prize_points: Points::ZERO,
            why: (!mug).then_some(Why::InsufficientPoints),
            at: 1_000,
            lots: if mug { vec![Lot::open(Points(1200), None)] } else { Vec::new() },
            order: None,
            counts: Vec::new(),
            returned: Points::ZERO,
            cancelled: false,
            unknown: crate::record::Unknown::new(),
        };
        let receipt = |record| Receipt { at: at.clone(), fingerprint: event.fingerprint, record };
        let bucket = CommitBucket {
            receipts: vec![
                (event.receipt_key.clone(), receipt(None)),
                (event.business_key.clone().unwrap(), receipt(Some(record::to_json(&redemption)))),
            ],
            ..nothing(BUCKETS.of(&event.member))
        };
        self.shop.store.clone().commit(&[bucket]).unwrap();
    }

    fn decide_all(&self) {
        self.sent.lock().unwrap().iter().for_each(|record| self.decide(record));
    }

    fn sent(&self) -> Vec<Value> {
        let sent = self.sent.lock().unwrap();
        sent.iter().map(|record| serde_json::from_slice(record.payload.as_ref().unwrap()).unwrap()).collect()
    }
}

impl Sender for Lane {
    fn send(&self, record: &OutRecord) -> Delivery {
        if self.away.load(Ordering::Relaxed) {
            return Box::pin(async { Err(LogError::Retriable("all brokers are down".to_owned())) });
        }
        self.sent.lock().unwrap().push(record.clone());
        if self.decides.load(Ordering::Relaxed) {
            self.decide(record);
        }
        Box::pin(async { Ok(()) })
    }
}

impl Served {
    /// With a lane behind it, and answers waited for as long as this.
    async fn redeeming(settings: Http, wait: Duration) -> (Self, Lane) {
        let versions = Arc::new(Versions::only(Programme::parse("programme.yaml", CATALOGUE).unwrap()));
        let served = Self::of(settings, versions.clone()).await;
        let lane = Lane {
            shop: served.shop.clone(),
            versions,
            sent: Arc::default(),
            decides: Arc::new(AtomicBool::new(true)),
            away: Arc::default(),
        };
        let settings = Redemptions { topic: "shop.redemptions".into(), wait };
        served.state.redeem_with(Box::new(lane.clone()), &settings, 1 << 20);
        (served, lane)
    }

    async fn redeem(&self, headers: &str, body: &str) -> Answer {
        let headers = format!("Content-Type: application/json\r\n{headers}");
        self.ask("POST", "/v1/redemptions", &headers, body).await
    }
}

const MUG: &str = r#"{"member_id": "ann", "reward": "mug"}"#;
const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_redemption_goes_to_its_topic_once_however_often_it_is_asked_for_and_the_lanes_answer_is_told() {
    let (served, lane) = Served::redeeming(open(), LONG).await;
    let first = served.redeem("Idempotency-Key: r 1\r\n", MUG).await;
    assert_eq!(first.status, 200, "{}", first.body);
    let expected = serde_json::json!({
        "member_id": "ann", "redemption_id": "r 1", "status": "redeemed", "reward": "mug", "quantity": 1,
        "points": 1200, "time": "1970-01-01T00:16:40Z", "lots": [{"points": 1200, "expires_at": null}]
    });
    assert_eq!(first.json(), expected);
    // In the quotes of the header's draft, with the id in the body, and with the fields in another order.
    for (headers, body) in [
        ("Idempotency-Key: \"r 1\"\r\n", MUG),
        ("", r#"{"redemption_id": "r 1", "reward": "mug", "member_id": "ann"}"#),
    ] {
        let again = served.redeem(headers, body).await;
        assert_eq!((again.status, again.json()), (200, expected.clone()), "{headers}{body}");
    }
    assert_eq!(served.get("/v1/redemptions/ann/r%201").await.json(), expected);
    assert_eq!(served.get("/v1/redemptions/ann/r%202").await.status, 404);
    let sent = lane.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(
        (&sent[0]["type"], &sent[0]["source"]),
        (&"redemption.requested".into(), &"accrual/http".into())
    );
    assert_eq!(
        sent[0]["data"],
        serde_json::json!({"member_id": "ann", "redemption_id": "r 1", "reward": "mug"})
    );
    let record = &lane.sent.lock().unwrap()[0];
    assert_eq!((record.topic.as_str(), record.key.as_deref()), ("shop.redemptions", Some(b"ann".as_slice())));
}

#[tokio::test]
async fn who_asks_twice_at_the_same_time_is_told_the_same() {
    let (served, lane) = Served::redeeming(open(), LONG).await;
    let ask = || served.redeem("Idempotency-Key: r\r\n", MUG);
    let (one, other) = tokio::join!(ask(), ask());
    assert_eq!((one.status, &one.body), (200, &other.body));
    let sent = lane.sent();
    assert!(
        sent.iter().all(|event| event["data"] == sent[0]["data"]),
        "one redemption, which counts once: {sent:?}"
    );
}

#[tokio::test]
async fn a_declined_redemption_is_an_answer_with_its_reason() {
    let (served, _) = Served::redeeming(open(), LONG).await;
    let answer = served.redeem("Idempotency-Key: p\r\n", r#"{"member_id": "ann", "reward": "pen"}"#).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let json = answer.json();
    assert_eq!((&json["status"], &json["reason"]), (&"declined".into(), &"insufficient_points".into()));
    assert_eq!((&json["points"], &json["lots"]), (&0.into(), &serde_json::json!([])));
}

#[tokio::test]
async fn the_same_id_for_something_else_is_refused_and_two_members_may_use_the_same() {
    let (served, lane) = Served::redeeming(open(), LONG).await;
    let ask = async |body: &str| served.redeem("Idempotency-Key: r\r\n", body).await;
    assert_eq!(ask(MUG).await.status, 200);
    for other in [
        r#"{"member_id": "ann", "reward": "pen"}"#,
        r#"{"member_id": "ann", "reward": "mug", "quantity": 2}"#,
    ] {
        let refused = ask(other).await;
        assert_eq!(refused.status, 422, "{}", refused.body);
        assert!(refused.problem().contains("\"r\" was asked for before"), "{}", refused.body);
    }
    assert_eq!(ask(r#"{"member_id": "bob", "reward": "mug"}"#).await.status, 200);
    let sent = lane.sent();
    assert_eq!(sent.len(), 2);
    assert_ne!(sent[0]["id"], sent[1]["id"]);
}

#[tokio::test]
async fn a_redemption_that_came_another_way_is_answered_where_it_is_the_same() {
    let (served, lane) = Served::redeeming(open(), LONG).await;
    lane.decide(&OutRecord {
        topic: "shop".into(),
        key: None,
        payload: Some(
            br#"{"specversion":"1.0","id":"e","source":"shop","type":"redemption.requested","time":"2026-11-22T10:00:00Z","data":{"member_id":"ann","redemption_id":"r","reward":"mug","quantity":1}}"#.to_vec(),
        ),
        headers: Vec::new(),
    });
    let ask = async |body: &str| served.redeem("Idempotency-Key: r\r\n", body).await.status;
    assert_eq!(ask(MUG).await, 200);
    assert_eq!(ask(r#"{"member_id": "ann", "reward": "pen"}"#).await, 422);
    assert_eq!(lane.sent().len(), 0);
}

#[tokio::test]
async fn where_no_answer_comes_in_time_it_is_said_where_it_will_be() {
    let (served, lane) = Served::redeeming(open(), Duration::from_millis(50)).await;
    lane.decides.store(false, Ordering::Relaxed);
    let body = MUG.replace("ann", "ann/b");
    let ask = async |prefer: &str| served.redeem(&format!("Idempotency-Key: r 1\r\n{prefer}"), &body).await;
    let pending = ask("").await;
    assert_eq!((pending.status, &pending.json()["status"]), (202, &"pending".into()));
    assert!(pending.head.contains("location: /v1/redemptions/ann%2Fb/r%201"), "{}", pending.head);
    assert_eq!(served.get("/v1/redemptions/ann%2Fb/r%201").await.status, 404);
    assert_eq!(ask("Prefer: respond-async, wait=0\r\n").await.status, 202);
    assert_eq!(ask("Prefer: wait=soon\r\n").await.status, 400);
    // The same redemption twice, which the lane counts once; under ids that nobody can foresee, since they seed draws.
    let sent = lane.sent();
    assert_eq!((sent.len(), &sent[0]["data"]), (2, &sent[1]["data"]));
    assert_ne!(sent[0]["id"], sent[1]["id"]);
    lane.decide_all();
    assert_eq!(ask("").await.status, 200);
    assert_eq!(served.get("/v1/redemptions/ann%2Fb/r%201").await.status, 200);
    assert_eq!(lane.sent().len(), 2);
}

#[tokio::test]
async fn an_answer_that_comes_while_it_is_waited_for_is_told_at_once() {
    let (served, lane) = Served::redeeming(open(), LONG).await;
    lane.decides.store(false, Ordering::Relaxed);
    let decide = async {
        while lane.sent().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // The store is away for a moment, which is no reason to give up.
        *served.shop.away.lock().unwrap() = Some("connection refused");
        tokio::time::sleep(Duration::from_millis(50)).await;
        *served.shop.away.lock().unwrap() = None;
        lane.decide_all();
    };
    let (answer, ()) = tokio::join!(served.redeem("Idempotency-Key: r\r\n", MUG), decide);
    assert_eq!(answer.status, 200, "{}", answer.body);
}

#[tokio::test]
async fn a_member_redeems_their_own_points_only() {
    let tokens = Tokens::new("redeeming");
    let (served, lane) = Served::redeeming(tokens.settings(), LONG).await;
    let as_member =
        |member: &str| format!("Authorization: Bearer {}\r\nIdempotency-Key: r\r\n", member_token(member));
    assert_eq!(served.redeem("Idempotency-Key: r\r\n", MUG).await.status, 401);
    let refused = served.redeem(&as_member("bob"), MUG).await;
    assert_eq!(
        (refused.status, refused.problem().as_str()),
        (403, "a member's token redeems that member's own points only")
    );
    assert_eq!(lane.sent().len(), 0);
    assert_eq!(served.redeem(&as_member("ann"), MUG).await.status, 200);
    assert_eq!(served.get_as(&member_token("bob"), "/v1/redemptions/ann/r").await.status, 403);
    assert_eq!(served.get_as(&member_token("ann"), "/v1/redemptions/ann/r").await.status, 200);
    assert_eq!(served.get_as(SERVICE, "/v1/redemptions/ann/r").await.status, 200);
}

#[tokio::test]
async fn a_wrong_request_is_told_what_would_be_right_and_nothing_is_sent() {
    let (served, lane) = Served::redeeming(open(), LONG).await;
    for (headers, body, status, detail) in [
        ("", MUG, 400, "`redemption_id` or a header `Idempotency-Key` is needed"),
        (
            "Idempotency-Key: a\r\n",
            r#"{"member_id":"ann","reward":"mug","redemption_id":"b"}"#,
            400,
            "must be the same",
        ),
        ("Idempotency-Key: a\r\n", "{", 400, "the body is no request for a redemption"),
        (
            "Idempotency-Key: a\r\n",
            r#"{"member_id":"ann","reward":"mug","colour":"red"}"#,
            400,
            "unknown field `colour`",
        ),
        ("Idempotency-Key: a\r\n", r#"{"member_id":"ann"}"#, 400, "missing field `reward`"),
        ("Idempotency-Key: a\r\n", r#"{"member_id":" ","reward":"mug"}"#, 400, "data.member_id is empty"),
        (
            "Idempotency-Key: a\r\n",
            r#"{"member_id":"ann","reward":"mug","quantity":0}"#,
            400,
            "data.quantity is 0",
        ),
        (
            "Idempotency-Key: a\r\n",
            r#"{"member_id":"ann","reward":"mug","order_amount":"-1"}"#,
            400,
            "data.order_amount",
        ),
    ] {
        let answer = served.redeem(headers, body).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.body);
        assert!(answer.problem().contains(detail), "{body}: {}", answer.body);
    }
    let long = format!("Idempotency-Key: {}\r\n", "r".repeat(513));
    assert_eq!(served.redeem(&long, MUG).await.status, 400);
    assert_eq!(served.ask("POST", "/v1/redemptions", "Idempotency-Key: a\r\n", MUG).await.status, 415);
    let chunked = "Transfer-Encoding: chunked\r\nIdempotency-Key: a\r\nContent-Type: application/json\r\n";
    let large = "x".repeat(LARGEST_BODY + 1);
    let request = format!(
        "POST /v1/redemptions HTTP/1.1\r\nHost: accrual\r\nConnection: close\r\n{chunked}\r\n{:x}\r\n{large}\r\n0\r\n\r\n",
        large.len()
    );
    assert_eq!(served.send(request).await.status, 413);
    assert_eq!(served.get("/v1/redemptions").await.status, 405);
    assert_eq!(lane.sent().len(), 0);
}

#[tokio::test]
async fn while_kafka_or_the_store_is_away_it_is_said_and_the_same_can_be_asked_again() {
    let (served, lane) = Served::redeeming(open(), LONG).await;
    let ask = async || served.redeem("Idempotency-Key: r\r\n", MUG).await;
    lane.away.store(true, Ordering::Relaxed);
    let away = ask().await;
    assert_eq!(
        (away.status, away.problem().as_str()),
        (503, "Kafka: the log is away: all brokers are down; ask the same again")
    );
    lane.away.store(false, Ordering::Relaxed);
    *served.shop.away.lock().unwrap() = Some("connection refused");
    assert_eq!(ask().await.status, 503);
    *served.shop.away.lock().unwrap() = None;
    assert_eq!(ask().await.status, 200);
    assert_eq!(lane.sent().len(), 1);
}

#[tokio::test]
async fn without_the_setting_no_redemptions_are_taken() {
    let served = Served::new().await;
    let none = served.redeem("Idempotency-Key: r\r\n", MUG).await;
    assert_eq!(
        (none.status, none.problem().as_str()),
        (501, "no redemptions are taken here: `http.redemptions.topic` is not set")
    );
}

#[tokio::test]
async fn who_waits_for_answers_leaves_room_for_who_only_looks() {
    let (served, lane) = Served::redeeming(Http { max_requests: 4, ..open() }, LONG).await;
    lane.decides.store(false, Ordering::Relaxed);
    let served = Arc::new(served);
    let ask = |key: &str| {
        let (served, headers) = (served.clone(), format!("Idempotency-Key: {key}\r\n"));
        tokio::spawn(async move { served.redeem(&headers, MUG).await })
    };
    let waiting = [ask("a"), ask("b")];
    while lane.sent().len() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let third = ask("c").await.unwrap();
    assert_eq!((third.status, third.problem().as_str()), (503, "too many redemptions are waited for"));
    assert_eq!(served.get("/v1/accounts/ann").await.status, 404);
    lane.decide_all();
    for answer in waiting {
        assert_eq!(answer.await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn a_request_that_comes_too_slowly_is_ended() {
    let (served, _) = Served::redeeming(open(), LONG).await;
    let ends = |begun: &'static str| {
        let mut stream = TcpStream::connect(served.address).unwrap();
        tokio::task::spawn_blocking(move || {
            stream.set_read_timeout(Some(LONG)).unwrap();
            stream.write_all(begun.as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).map(|_| answer)
        })
    };
    let head = ends("GET /livez HTTP/1.1\r\nHost:");
    let body = ends(
        "POST /v1/redemptions HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{",
    );
    let body = body.await.unwrap().unwrap();
    assert!(body.starts_with("HTTP/1.1 408 ") && body.contains("the body did not come within 5 s"), "{body}");
    let head = head.await.unwrap().unwrap();
    assert!(!head.contains(" 200 "), "{head}");
}
