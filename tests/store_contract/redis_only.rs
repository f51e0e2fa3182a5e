//! How Redis goes away, comes back, or refuses: on servers that these tests may break.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use accrual::store::redis::RedisStore;
use accrual::store::{
    CommitBucket, Committed, Deployment, Grant, LeaseId, LeaseRequest, LoadBucket, OffsetRange, Store,
    StoreError, StoreSettings, take_as_whole,
};
use accrual::types::{Bucket, CampaignId, Points, TopicPartition};

use crate::ground::{BUCKETS, MONTH, account, at_home, load, outbox_key, receipt, text, write};
use crate::support::{RedisCluster, RedisServer};

const BUCKET: Bucket = Bucket(3);

fn open(url: &str) -> RedisStore {
    RedisStore::connect(url, &StoreSettings { buckets: BUCKETS, dedupe_window: MONTH, refunds_window: MONTH })
        .unwrap()
}

fn partition() -> TopicPartition {
    TopicPartition { topic: "shop.orders".into(), partition: 0 }
}

/// A commit that uses every part.
fn commit(member: &str, expected: u64) -> [CommitBucket; 1] {
    let offset = i64::try_from(expected).unwrap();
    [CommitBucket {
        records: Vec::new(),
        returned: Vec::new(),
        bucket: BUCKET,
        accounts: vec![write(member, expected)],
        receipts: vec![(format!("e {member} {expected}").into(), receipt(&partition(), offset))],
        outbox: vec![(outbox_key(&partition(), offset, offset), b"x".to_vec())],
        published: vec![outbox_key(&partition(), offset - 1, offset - 1)],
        grants: vec![],
        due: vec![],
    }]
}

#[track_caller]
fn assert_away<T: std::fmt::Debug>(outcome: Result<T, StoreError>) {
    assert!(matches!(outcome, Err(StoreError::Away(_))), "{outcome:?}");
}

#[track_caller]
fn assert_broken<T: std::fmt::Debug>(outcome: Result<T, StoreError>, advice: &str) {
    match outcome {
        Err(StoreError::Broken(message)) => assert!(message.contains(advice), "{message}"),
        other => panic!("{other:?}"),
    }
}

/// Repeats a call until the store is back.
#[track_caller]
fn until_back<T>(mut call: impl FnMut() -> Result<T, StoreError>) -> T {
    let begin = Instant::now();
    loop {
        match call() {
            Ok(done) => return done,
            Err(StoreError::Away(_)) if begin.elapsed() < Duration::from_secs(30) => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn scripts_survive_a_script_flush() {
    let server = RedisServer::start();
    let mut store = at_home(open(&server.url()));
    for version in 0..3 {
        assert_eq!(store.commit(&commit("ann", version)).unwrap(), [Committed::Written]);
        server.command(&["SCRIPT", "FLUSH"]);
        assert_eq!(
            load(&mut store, BUCKET, &["ann"], &["none"]).accounts,
            [Some(account("ann", version + 1))]
        );
        server.command(&["SCRIPT", "FLUSH"]);
        store.add_processed(&[(partition(), OffsetRange { from: 0, until: 1 })]).unwrap();
        server.command(&["SCRIPT", "FLUSH"]);
    }
}

#[test]
fn a_killed_connection_is_made_anew() {
    let server = RedisServer::start();
    let mut store = at_home(open(&server.url()));
    store.commit(&commit("ann", 0)).unwrap();
    server.command(&["CLIENT", "KILL", "TYPE", "normal"]);
    assert_away(store.commit(&commit("ann", 1)));
    assert_eq!(store.commit(&commit("ann", 1)).unwrap(), [Committed::Written]);
}

#[test]
fn a_worker_may_start_before_its_redis_and_outlive_its_restarts() {
    let mut server = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    server.kill();
    let mut store = open(&server.url());
    assert_away(store.commit(&commit("ann", 0)));
    assert_away(store.probe());
    server.start_again();
    until_back(|| take_as_whole(&mut store));
    assert_eq!(until_back(|| store.commit(&commit("ann", 0))), [Committed::Written]);
    server.kill();
    assert_away(store.commit(&commit("ann", 1)));
    server.start_again();
    until_back(|| take_as_whole(&mut store));
    assert_eq!(until_back(|| store.commit(&commit("ann", 1))), [Committed::Written]);
    assert_eq!(load(&mut store, BUCKET, &["ann"], &[]).accounts, [Some(account("ann", 2))]);
}

#[test]
fn a_server_that_became_a_replica_is_away_until_there_is_a_primary() {
    let server = RedisServer::start();
    let mut store = at_home(open(&server.url()));
    store.commit(&commit("ann", 0)).unwrap();
    server.command(&["REPLICAOF", "127.0.0.1", "1"]);
    assert_away(store.commit(&commit("ann", 1)));
    assert_away(store.probe());
    assert_away(store.add_processed(&[(partition(), OffsetRange { from: 0, until: 1 })]));
    server.command(&["CONFIG", "SET", "replica-serve-stale-data", "no"]);
    assert_away(load_result(&mut store));
    server.command(&["REPLICAOF", "NO", "ONE"]);
    assert_eq!(store.commit(&commit("ann", 1)).unwrap(), [Committed::Unconfirmed]);
    assert_eq!(at_home(store).commit(&commit("ann", 1)).unwrap(), [Committed::Written]);
}

fn load_result(store: &mut dyn Store) -> Result<(), StoreError> {
    let wanted = LoadBucket { bucket: BUCKET, members: vec!["ann".into()], receipts: vec![], outbox: false };
    store.load(&[wanted]).map(|_| ())
}

#[test]
fn a_full_server_is_away_and_nothing_is_half_written() {
    let server = RedisServer::start();
    let mut store = at_home(open(&server.url()));
    server.command(&["CONFIG", "SET", "maxmemory", "1"]);
    assert_away(store.commit(&commit("ann", 0)));
    assert_away(store.probe());
    assert_eq!(
        text(&server.command(&["DBSIZE"])),
        Some(BUCKETS.to_string()),
        "each bucket has its confirmation"
    );
    server.command(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(store.commit(&commit("ann", 0)).unwrap(), [Committed::Written]);
}

#[test]
fn a_server_with_too_few_replicas_is_away() {
    let server = RedisServer::start();
    let mut store = at_home(open(&server.url()));
    server.command(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    assert_away(store.commit(&commit("ann", 0)));
    server.command(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    assert_eq!(store.commit(&commit("ann", 0)).unwrap(), [Committed::Written]);
}

#[test]
fn a_server_with_too_many_clients_is_away_even_where_it_wants_a_password() {
    let server = RedisServer::start_with(&["--requirepass", "s3cret", "--maxclients", "3"]);
    let mut others: Vec<RedisStore> = (0..3).map(|_| open(&server.url())).collect();
    others.iter_mut().for_each(|store| store.probe().unwrap());
    let mut store = open(&server.url());
    assert_away(store.probe());
    drop(others);
    until_back(|| store.probe());
}

#[test]
fn a_silent_server_is_away_in_limited_time() {
    let server = RedisServer::start();
    let mut store = open(&server.url());
    store.probe().unwrap();
    server.command(&["CLIENT", "PAUSE", "13000"]);
    let begin = Instant::now();
    assert_away(store.probe());
    assert!(begin.elapsed() < Duration::from_secs(12), "{:?}", begin.elapsed());
    until_back(|| store.probe());
}

#[test]
fn wrong_credentials_are_broken_and_told_without_the_password() {
    let server = RedisServer::start_with(&["--requirepass", "s3cret"]);
    let at = |login: &str| open(&format!("redis://{login}127.0.0.1:{}", server.port()));
    assert_broken(at("").probe(), "wants a password");
    for login in [":wr0ng@", "joe:wr0ng@"] {
        let mut store = at(login);
        let shown = format!("{:?} {:?}", store.probe(), store);
        assert!(!shown.contains("wr0ng"), "{shown}");
        assert_broken(store.probe(), "check the user and password");
    }
    at(":s3cret@").probe().unwrap();
    at("default:s3cret@").probe().unwrap();
    let open_server = RedisServer::start();
    let mut with_needless = open(&format!("redis://:wr0ng@127.0.0.1:{}", open_server.port()));
    assert_broken(with_needless.probe(), "remove it");
}

#[test]
fn a_missing_permission_is_named_before_anything_is_written_and_the_documented_ones_are_enough() {
    let server = RedisServer::start();
    let documented = std::fs::read_to_string("docs/security.md").unwrap();
    let line = documented.lines().find(|line| line.starts_with("ACL SETUSER accrual on")).unwrap();
    let line = line.replace(">PASSWORD", ">pw");
    let rule: Vec<&str> = line.split_whitespace().collect();
    server.command(&rule);
    server.command(&["ACL", "SETUSER", "accrual", "-hset", "-zrem"]);
    let mut store = open(&format!("redis://accrual:pw@127.0.0.1:{}/0", server.port()));
    let deployment = Deployment { buckets: BUCKETS, programme: "shop".into(), timezone: "UTC".into() };
    let refused = store.check_deployment(&deployment);
    assert!(
        matches!(&refused, Err(StoreError::Broken(why)) if why.contains("lacks the permissions +hset +zrem;"))
    );
    let left = ["accrual:deployment", "accrual:{rights}:string", "accrual:{rights}:hash"];
    let left = server.command(&[&["EXISTS"], left.as_slice()].concat());
    assert_eq!(left, redis::Value::Int(0));
    // Were it taken away later, it is broken all the same.
    take_as_whole(&mut store).unwrap();
    assert_broken(store.commit(&commit("ann", 0)).map(|_| ()), "lacks a permission");

    server.command(&["FLUSHALL"]);
    server.command(&rule);
    use_every_call(&mut store);
}

#[test]
fn the_url_is_asked_for_at_each_new_connection_and_a_good_login_is_waited_for() {
    let server = RedisServer::start();
    let login = |password: &str| {
        server.command(&["ACL", "SETUSER", "joe", "on", "resetpass", &format!(">{password}"), "~*", "+@all"]);
    };
    let url = |password: &str| format!("redis://joe:{password}@127.0.0.1:{}", server.port());
    login("first");
    let told = Arc::new(Mutex::new(Ok(url("first"))));
    let asked = told.clone();
    let mut store = open(&url("none")).at_changing_url(move || asked.lock().unwrap().clone());
    store.probe().unwrap();

    login("second");
    store.probe().unwrap();
    server.command(&["CLIENT", "KILL", "USER", "joe"]);
    let is_waiting = |store: &mut RedisStore| {
        // The first call finds the connection gone.
        store.probe().unwrap_err();
        matches!(store.probe(), Err(StoreError::Away(why)) if why.contains("check the user and password"))
    };
    assert!(is_waiting(&mut store));
    *told.lock().unwrap() = Err("the file is away".to_owned());
    assert!(is_waiting(&mut store));
    *told.lock().unwrap() = Ok(url("second"));
    store.probe().unwrap();
}

fn use_every_call(store: &mut dyn Store) {
    let deployment = Deployment { buckets: BUCKETS, programme: "shop".into(), timezone: "UTC".into() };
    assert_eq!(store.check_deployment(&deployment).unwrap(), deployment);
    store.probe().unwrap();
    take_as_whole(store).unwrap();
    assert!(store.is_unmoved(&[BUCKET]).unwrap());
    assert_eq!(store.commit(&commit("ann", 0)).unwrap(), [Committed::Written]);
    load(store, BUCKET, &["ann"], &["none"]);
    load(store, BUCKET, &["ann"], &[]);
    let entries = store.outbox(&[partition()]).unwrap();
    store.outbox_entry(BUCKET, &entries[0].1).unwrap().unwrap();
    store.clear_outbox(&entries).unwrap();
    store.add_processed(&[(partition(), OffsetRange { from: 0, until: 1 })]).unwrap();
    store.processed(&[partition()]).unwrap();
}

#[test]
fn a_key_of_another_type_is_broken_and_leaves_nothing_half_written() {
    let generation = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / MONTH.as_secs();
    let keys = [
        "accrual:{3}:account:ann".to_owned(),
        format!("accrual:{{3}}:receipts:{generation}"),
        "accrual:{3}:outbox".to_owned(),
    ];
    for key in keys {
        let server = RedisServer::start();
        let mut store = at_home(open(&server.url()));
        server.command(&["SADD", &key, "x"]);
        let mut wanted = commit("ann", 0);
        wanted[0].published.clear();
        assert_broken(store.commit(&wanted), "another program");
        assert_eq!(text(&server.command(&["DBSIZE"])), Some((1 + BUCKETS).to_string()), "{key}");
    }
}

#[test]
fn foreign_content_is_broken_and_never_a_panic() {
    let server = RedisServer::start();
    let mut store = open(&server.url());
    server.command(&["HSET", "accrual:{3}:outbox", "x", "y"]);
    assert_broken(store.outbox(&[partition()]), "outbox");
    server.command(&["HSET", "accrual:sources", "shop.orders/0", "1-x"]);
    assert_broken(store.processed(&[partition()]), "accrual:sources");
    server.command(&["HSET", "accrual:deployment", "buckets", "many"]);
    let deployment = Deployment { buckets: BUCKETS, programme: "shop".into(), timezone: "UTC".into() };
    assert_broken(store.check_deployment(&deployment), "damaged");
}

#[test]
fn a_server_that_may_drop_keys_is_refused() {
    let server = RedisServer::start_with(&["--maxmemory", "100mb", "--maxmemory-policy", "volatile-lru"]);
    let deployment = Deployment { buckets: BUCKETS, programme: "shop".into(), timezone: "UTC".into() };
    let mut store = open(&server.url());
    assert_broken(store.check_deployment(&deployment), "noeviction");
    server.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    store.check_deployment(&deployment).unwrap();
}

#[test]
fn another_dedupe_window_is_refused_because_it_forgets_receipts() {
    let server = RedisServer::start();
    let deployment = Deployment { buckets: BUCKETS, programme: "shop".into(), timezone: "UTC".into() };
    open(&server.url()).check_deployment(&deployment).unwrap();
    let settings = StoreSettings { buckets: BUCKETS, dedupe_window: MONTH * 2, refunds_window: MONTH * 2 };
    let mut other = RedisStore::connect(&server.url(), &settings).unwrap();
    assert_broken(other.check_deployment(&deployment), "dedupe.window was 2592000 s");
    server.command(&["HSET", "accrual:deployment", "dedupe_window_seconds", "5184000"]);
    assert_broken(other.check_deployment(&deployment), "refunds.window was 2592000 s");
    server.command(&["HSET", "accrual:deployment", "refunds_window_seconds", "5184000"]);
    other.check_deployment(&deployment).unwrap();
}

#[test]
fn a_generation_that_has_begun_goes_on_when_the_clock_is_set_back() {
    let server = RedisServer::start();
    let mut store = at_home(open(&server.url()));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let ahead = now / MONTH.as_secs() + 1;
    let hash = format!("accrual:{{3}}:receipts:{ahead}");
    // As a primary would have left it whose clock was ahead.
    server.command(&["HSET", &hash, "e ann 0", "shop.orders/0/7 00000000000000ff"]);
    assert!(load(&mut store, BUCKET, &[], &["e ann 0"]).receipts[0].is_some());
    assert_eq!(store.commit(&commit("ann", 0)).unwrap(), [Committed::Refused]);
    let mut fresh = commit("bob", 0);
    assert_eq!(store.commit(&fresh).unwrap(), [Committed::Written]);
    assert!(text(&server.command(&["HGET", &hash, "e bob 0"])).is_some());
    // Another bucket has not begun it, and goes by the clock, though this worker has just met it.
    fresh[0].bucket = Bucket(4);
    assert_eq!(store.commit(&fresh).unwrap(), [Committed::Written]);
    let by_clock = format!("accrual:{{4}}:receipts:{}", ahead - 1);
    assert!(text(&server.command(&["HGET", &by_clock, "e bob 0"])).is_some());
}

#[test]
fn a_hash_of_receipts_expires_an_hour_after_it_is_last_looked_at() {
    let server = RedisServer::start();
    let mut store = at_home(open(&server.url()));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let generation = now / MONTH.as_secs();
    store.commit(&commit("ann", 0)).unwrap();
    store.commit(&commit("ann", 1)).unwrap();
    let left = text(&server.command(&["TTL", &format!("accrual:{{3}}:receipts:{generation}")])).unwrap();
    let expected = (generation + 2) * MONTH.as_secs() + 3600 - now;
    assert!(left.parse::<u64>().unwrap().abs_diff(expected) < 30, "{left} s left");
}

#[test]
fn whoever_leases_next_finishes_the_ending_of_a_lease_that_was_left_half_way() {
    let server = RedisServer::start();
    let mut store = at_home(open(&server.url()));
    let campaign = CampaignId::from("gift");
    let wanted = |needed| LeaseRequest {
        campaign: campaign.clone(),
        budget: Points(100),
        lease: LeaseId::new_random(),
        needed: Points(needed),
        life: Duration::from_mins(1),
    };
    let asked = wanted(40);
    let lease = store.lease(&asked).unwrap();
    let mut grants = commit("ann", 0);
    grants[0].grants = vec![Grant {
        campaign: campaign.clone(),
        lease: asked.lease,
        points: Points(30),
        deadline: lease.deadline,
    }];
    assert_eq!(store.commit(&grants).unwrap(), [Committed::Written]);
    let (budget, granted, id) = ("accrual:budget:gift", "accrual:{3}:granted", asked.lease.to_string());
    let field = format!("gift/{id}");
    assert_eq!(text(&server.command(&["HGET", granted, &field])), Some("30".into()));

    // As it stands when its holder died after it was settled: the counts are still in the buckets.
    server.command(&["HINCRBY", budget, "settled", "30"]);
    server.command(&["HSET", budget, &id, "ended"]);
    let rest = wanted(100);
    assert_eq!(store.lease(&rest).unwrap().points, Points(70), "counted once");
    assert_eq!(text(&server.command(&["EXISTS", granted])), Some("0".into()));
    assert_eq!(text(&server.command(&["HLEN", budget])), Some("2".into()), "`settled` and the new lease");

    // And when all but the mark was removed.
    store.end_lease(&campaign, rest.lease).unwrap();
    server.command(&["HSET", budget, &id, "ended"]);
    store.end_lease(&campaign, asked.lease).unwrap();
    assert_eq!(text(&server.command(&["HLEN", budget])), Some("1".into()));
    assert_eq!(store.lease(&wanted(100)).unwrap().points, Points(70));
}

#[test]
fn the_last_of_a_url_may_name_a_database() {
    let server = RedisServer::start();
    let mut store = at_home(open(&format!("{}/5", server.url())));
    store.commit(&commit("ann", 0)).unwrap();
    assert_eq!(text(&server.command(&["DBSIZE"])), Some("0".into()));
    let wrong = open(&format!("{}/99", server.url())).probe();
    assert_broken(wrong, "DB index is out of range");
}

#[test]
fn a_store_works_on_a_blocking_thread_of_another_runtime_and_is_dropped_anywhere() {
    let server = RedisServer::start();
    let mut store = open(&server.url());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    runtime.block_on(async {
        let used = tokio::task::spawn_blocking(move || {
            store.probe().unwrap();
            store
        });
        drop(used.await.unwrap());
    });
}

/// The worst moment for a script: half of a bucket's keys are on one node and half on the other.
#[test]
fn while_a_slot_moves_between_nodes_a_bucket_is_written_whole_or_not_at_all() {
    let cluster = RedisCluster::start();
    let mut store = at_home(open(&cluster.url()));
    let first =
        [CommitBucket { accounts: vec![write("ann", 0), write("bob", 0)], ..commit("cas", 0)[0].clone() }];
    assert_eq!(store.commit(&first).unwrap(), [Committed::Written]);

    let slot = text(&cluster.nodes[0].command(&["CLUSTER", "KEYSLOT", "{3}"])).unwrap();
    let holds = |node: &&RedisServer| node.try_command(&["GET", "accrual:{3}:account:ann"]).is_ok();
    let from = cluster.nodes.iter().find(holds).unwrap();
    let to = cluster.nodes.iter().find(|node| node.port() != from.port()).unwrap();
    let id = |node: &RedisServer| text(&node.command(&["CLUSTER", "MYID"])).unwrap();
    to.command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &id(from)]);
    from.command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &id(to)]);
    let port = to.port().to_string();
    let migrate = |key: &str| from.command(&["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]);

    // The receipts are on the old node and the accounts on the new one: an event delivered again must
    // not find the one without the other.
    migrate("accrual:{3}:account:ann");
    migrate("accrual:{3}:account:bob");
    let mut again = commit("cas", 0);
    again[0].accounts = vec![write("ann", 1), write("bob", 1)];
    assert_away(store.commit(&again));
    let wanted = LoadBucket {
        bucket: BUCKET,
        members: vec!["ann".into()],
        receipts: vec!["e cas 0".into()],
        outbox: true,
    };
    assert_away(store.load(std::slice::from_ref(&wanted)));
    assert_eq!(
        store.load(&[LoadBucket { bucket: Bucket(4), ..wanted.clone() }]).unwrap().len(),
        1,
        "others work"
    );

    for key in [
        "accrual:{3}:outbox".to_owned(),
        "accrual:{3}:server".to_owned(),
        format!("accrual:{{3}}:receipts:{}", generation_now()),
    ] {
        migrate(&key);
    }
    for node in [to, from] {
        node.command(&["CLUSTER", "SETSLOT", &slot, "NODE", &id(to)]);
    }
    let found = until_back(|| store.load(std::slice::from_ref(&wanted)));
    assert_eq!(found[0].accounts, [Some(account("ann", 1))], "nothing was written in between");
    assert!(found[0].receipts[0].is_some());
    assert_eq!(
        until_back(|| store.commit(&again)),
        [Committed::Unconfirmed],
        "this node was not looked through"
    );
    let mut store = at_home(store);
    assert_eq!(until_back(|| store.commit(&again)), [Committed::Refused]);
}

fn generation_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / MONTH.as_secs()
}

#[test]
fn a_node_that_has_all_slots_and_is_spoken_to_as_a_server_takes_buckets_one_by_one() {
    let node = RedisServer::start_with(&["--cluster-enabled", "yes"]);
    node.command(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    let mut store = open(&node.url());
    until_back(|| store.probe());
    let mut store = at_home(store);
    let buckets: Vec<CommitBucket> = [1, 3, 5]
        .into_iter()
        .map(|bucket| CommitBucket { bucket: Bucket(bucket), ..commit("ann", 0)[0].clone() })
        .collect();
    assert_eq!(store.commit(&buckets).unwrap(), [Committed::Written; 3]);
    assert_eq!(store.commit(&buckets).unwrap(), [Committed::Refused; 3]);
}

#[test]
fn a_cluster_that_is_down_is_away_and_wrong_credentials_there_are_broken() {
    assert_away(open("redis-cluster://127.0.0.1:1,127.0.0.1:2").probe());
    let arguments = ["--cluster-enabled", "yes", "--requirepass", "s3cret"];
    let node = RedisServer::start_with(&arguments);
    let mut store = open(&format!("redis-cluster://:s3cret@127.0.0.1:{}", node.port()));
    // No slot is served yet.
    assert_away(store.probe());
    node.command(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    until_back(|| store.probe());
    use_every_call(&mut store);
    let at = |login: &str| open(&format!("redis-cluster://{login}127.0.0.1:{}", node.port())).probe();
    assert_broken(at(":wr0ng@"), "check the user and password");
    assert_broken(at(""), "wants a password");
}
