//! How a store finds its primary through Redis Sentinel. The servers fail over in `tests/faults/sentinel.rs`.

use std::sync::{Arc, Mutex};

use accrual::store::redis::RedisStore;
use accrual::store::{Store, StoreError, StoreSettings};

use crate::ground::{BUCKETS, MONTH};
use crate::support::{RedisServer, sentinel_of};

fn open(sentinels: &[&RedisServer], login: &str, options: &str, name: &str) -> RedisStore {
    let nodes: Vec<String> = sentinels.iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
    at(&format!("redis-sentinel://{login}{}{options}#{name}", nodes.join(",")))
}

fn at(url: &str) -> RedisStore {
    let settings = StoreSettings { buckets: BUCKETS, dedupe_window: MONTH, refunds_window: MONTH };
    RedisStore::connect(url, &settings).unwrap()
}

/// Whether this server was written to.
fn was_probed(server: &RedisServer) -> bool {
    server.command(&["EXISTS", "accrual:probe"]) == redis::Value::Int(1)
}

#[track_caller]
fn why_away(store: &mut RedisStore) -> String {
    match store.probe() {
        Err(StoreError::Away(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn why_broken(store: &mut RedisStore) -> String {
    match store.probe() {
        Err(StoreError::Broken(why)) => why,
        other => panic!("{other:?}"),
    }
}

/// A server that follows the other one.
fn replica_of(primary: &RedisServer) -> RedisServer {
    let replica = RedisServer::start();
    replica.command(&["REPLICAOF", "127.0.0.1", &primary.port().to_string()]);
    replica
}

#[test]
fn a_sentinel_that_is_down_or_silent_or_has_never_heard_of_the_name_is_passed_over() {
    let server = RedisServer::start();
    let (mut down, silent) = (RedisServer::start(), RedisServer::start());
    down.kill();
    silent.signal("-STOP");
    let ignorant = RedisServer::start_with(&["--sentinel"]);
    let knowing = sentinel_of(&server, 1);
    open(&[&down, &silent, &ignorant, &knowing], "", "", "points").probe().unwrap();
    assert!(was_probed(&server));

    let mut store = open(&[&down, &silent], "", "", "points");
    let why = why_away(&mut store);
    for said in ["`points`", &format!("127.0.0.1:{}: ", down.port()), "no answer in time"] {
        assert!(why.contains(said), "{why}");
    }
}

#[test]
fn a_sentinel_that_names_a_replica_is_not_believed() {
    let primary = RedisServer::start();
    let replica = replica_of(&primary);
    let (wrong, right) = (sentinel_of(&replica, 1), sentinel_of(&primary, 1));
    // It would be written to, if it were believed.
    replica.command(&["CONFIG", "SET", "replica-read-only", "no"]);
    let why = why_away(&mut open(&[&wrong], "", "", "points"));
    let named = format!("names 127.0.0.1:{}: it is not the primary", replica.port());
    assert!(why.contains(&named), "{why}");
    assert!(!was_probed(&replica));
    open(&[&wrong, &right], "", "", "points").probe().unwrap();
    assert!(was_probed(&primary));
}

#[test]
fn a_name_that_no_sentinel_knows_ends_a_start_and_is_waited_for_later() {
    let mut server = RedisServer::start();
    let sentinel = sentinel_of(&server, 1);
    let mut store = open(&[&sentinel], "", "", "pionts");
    let why = why_broken(&mut store);
    let said = format!("no primary of `pionts`: 127.0.0.1:{}: does not know the name", sentinel.port());
    assert!(why.contains(&said), "{why}");

    let mut store = open(&[&sentinel], "", "", "points");
    store.probe().unwrap();
    sentinel.command(&["SENTINEL", "REMOVE", "points"]);
    server.kill();
    why_away(&mut store);
    assert!(why_away(&mut store).contains("does not know the name"));
    // What is down and known is no mistake in the settings.
    let knowing = sentinel_of(&server, 1);
    assert!(why_away(&mut open(&[&sentinel, &knowing], "", "", "points")).contains("Connection refused"));
}

#[test]
fn a_server_that_is_no_sentinel_is_told() {
    let server = RedisServer::start();
    let why = why_broken(&mut open(&[&server], "", "", "points"));
    assert!(why.contains(&format!("127.0.0.1:{}: Redis refused a command", server.port())), "{why}");
}

#[test]
fn the_servers_and_the_sentinels_have_each_their_own_login_and_neither_is_told() {
    let server = RedisServer::start_with(&["--requirepass", "s3cret"]);
    let sentinel = RedisServer::start_with(&["--sentinel", "--requirepass", "w4tch"]);
    let port = server.port().to_string();
    sentinel.command(&["SENTINEL", "MONITOR", "points", "127.0.0.1", &port, "1"]);
    sentinel.command(&["SENTINEL", "SET", "points", "auth-pass", "s3cret"]);
    let by = |login: &str, options: &str| open(&[&sentinel], login, options, "points");
    by(":s3cret@", "?sentinelPassword=w4tch").probe().unwrap();
    by("default:s3cret@", "/0?sentinelUsername=default&sentinelPassword=w4tch").probe().unwrap();

    for (login, options, advice) in [
        (":s3cret@", "", "check sentinelUsername and sentinelPassword"),
        (":s3cret@", "?sentinelPassword=wr0ng", "check sentinelUsername and sentinelPassword"),
        (":wr0ng@", "?sentinelPassword=w4tch", "check the user and password in the store's URL"),
        ("", "?sentinelPassword=w4tch", "Redis wants a password"),
    ] {
        let mut store = by(login, options);
        let why = why_broken(&mut store);
        assert!(why.contains(advice), "{why}");
        let shown = format!("{why} {store:?}");
        assert!(!["s3cret", "w4tch", "wr0ng"].iter().any(|secret| shown.contains(secret)), "{shown}");
    }
    let open_to_all = sentinel_of(&server, 1);
    let why = why_broken(&mut open(&[&open_to_all], ":s3cret@", "?sentinelPassword=w4tch", "points"));
    assert!(why.contains("check sentinelUsername and sentinelPassword"), "{why}");
}

#[test]
fn the_documented_permissions_are_enough_at_the_servers_and_at_the_sentinels() {
    let documented = std::fs::read_to_string("docs/security.md").unwrap();
    let rule = |begin: &str| {
        let line = documented.lines().find(|line| line.starts_with(begin)).unwrap();
        line.replace(">PASSWORD", ">pw").split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let grant = |server: &RedisServer, begin: &str| {
        server.command(&rule(begin).iter().map(String::as_str).collect::<Vec<_>>());
    };
    let server = RedisServer::start();
    let sentinel = sentinel_of(&server, 1);
    grant(&server, "ACL SETUSER accrual on");
    grant(&sentinel, "ACL SETUSER accrual-watch on");
    let options = "?sentinelUsername=accrual-watch&sentinelPassword=pw";
    let mut store = open(&[&sentinel], "accrual:pw@", options, "points");
    store.probe().unwrap();
    sentinel.command(&["ACL", "SETUSER", "accrual-watch", "-@all"]);
    assert!(why_broken(&mut open(&[&sentinel], "accrual:pw@", options, "points")).contains("a permission"));
}

#[test]
fn the_sentinels_are_those_of_the_url_that_is_asked_for_at_each_new_connection() {
    let (server, other) = (RedisServer::start(), RedisServer::start());
    let (sentinel, of_other) = (sentinel_of(&server, 1), sentinel_of(&other, 1));
    let url = |node: &RedisServer| format!("redis-sentinel://127.0.0.1:{}#points", node.port());
    let told = Arc::new(Mutex::new(Ok(url(&sentinel))));
    let asked = told.clone();
    let mut store = at(&url(&sentinel)).at_changing_url(move || asked.lock().unwrap().clone());
    store.probe().unwrap();
    *told.lock().unwrap() = Ok(url(&of_other));
    store.probe().unwrap();
    assert!(!was_probed(&other), "a connection that is there stays");
    server.command(&["CLIENT", "KILL", "TYPE", "normal"]);
    why_away(&mut store);
    store.probe().unwrap();
    assert!(was_probed(&other));
}

#[test]
fn a_primary_that_was_deposed_is_left_for_the_one_that_the_sentinels_name_by_then() {
    let (server, other) = (RedisServer::start(), RedisServer::start());
    let sentinel = sentinel_of(&server, 1);
    let mut store = open(&[&sentinel], "", "", "points");
    store.probe().unwrap();
    server.command(&["REPLICAOF", "127.0.0.1", &other.port().to_string()]);
    sentinel.command(&["SENTINEL", "REMOVE", "points"]);
    sentinel.command(&["SENTINEL", "MONITOR", "points", "127.0.0.1", &other.port().to_string(), "1"]);
    assert!(why_away(&mut store).contains("failing over: READONLY"));
    store.probe().unwrap();
    assert!(was_probed(&other));
}
