//! What an earlier release left in Redis: the code as it is goes on from there, to the point, and refuses what would
//! not fit it. `tests/upgrade/record` wrote it, with the release's own binary.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use redis::Commands;
use serde_json::Value;

use super::broker;
use super::shop::{OwnRedis, Shop};

const RELEASES: [&str; 1] = ["28bdf5b"];

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/upgrade").join(name)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(file(name)).unwrap()
}

/// A shop whose Redis is as a release left it, whose input has what the release had read by then.
struct Upgraded {
    shop: Shop,
    url: String,
    /// Ends with the shop.
    _redis: OwnRedis,
}

impl Upgraded {
    fn from(release: &str) -> Self {
        let redis = OwnRedis::start();
        let url = redis.url();
        let shop = Shop::open_with(&format!("upgrade-{release}"), &text("programme.yaml"), 1, &url);
        let upgraded = Self { shop, url, _redis: redis };
        upgraded.configure("programme.yaml", 32);
        let mut connection = upgraded.connect();
        for line in text(&format!("data/{release}.jsonl")).replace("@INPUT@", &upgraded.shop.input()).lines()
        {
            let arguments: Vec<Value> = serde_json::from_str(line).unwrap();
            let mut command = redis::Cmd::new();
            for argument in &arguments {
                match argument.as_str() {
                    Some(text) => command.arg(text),
                    None => command.arg(STANDARD.decode(argument["base64"].as_str().unwrap()).unwrap()),
                };
            }
            command.query::<redis::Value>(&mut connection).unwrap();
        }
        let events = text("events.jsonl");
        let (before, _) = events.split_once("later\n").unwrap();
        upgraded.send(before.replace("unpublished\n", "").lines());
        upgraded
    }

    fn configure(&self, programme: &str, buckets: u16) {
        let long = "dedupe: {window: 3650d}\nrefunds: {window: 3650d}\nlanes: 1\n";
        let settings = self.shop.settings().replace("lanes: 2\n", long);
        let settings = settings.replace("programme.yaml", programme);
        self.shop.write("accrual.yaml", &format!("{settings}buckets: {buckets}\n"));
    }

    fn connect(&self) -> redis::Connection {
        redis::Client::open(self.url.as_str()).unwrap().get_connection().unwrap()
    }

    fn send<'e>(&self, events: impl Iterator<Item = &'e str>) {
        // One partition: coordinates are those that the release wrote down.
        broker::produce(&self.shop.input(), events.map(|event| ("k", event, [].as_slice())));
    }

    /// Every key with its contents.
    fn contents(&self) -> BTreeMap<String, redis::Value> {
        let mut connection = self.connect();
        let mut keys: Vec<String> = connection.keys("*").unwrap();
        // Where a worker tries whether it may write.
        keys.retain(|key| key != "accrual:probe");
        let dump = |key: String| {
            let dumped = redis::cmd("DUMP").arg(&key).query(&mut connection).unwrap();
            (key, dumped)
        };
        keys.into_iter().map(dump).collect()
    }

    /// The members' accounts as they lie in Redis.
    fn accounts(&self) -> BTreeMap<String, String> {
        let mut connection = self.connect();
        let keys: Vec<String> = connection.keys("accrual:*:account:*").unwrap();
        let account = |key: String| {
            let json = connection.get(&key).unwrap();
            (key.rsplit(':').next().unwrap().to_owned(), json)
        };
        keys.into_iter().map(account).collect()
    }
}

/// An account without what only says which release wrote it.
fn standing(json: &Value) -> Value {
    let mut account = json.clone();
    for field in ["f", "chain"] {
        account.as_object_mut().unwrap().remove(field);
    }
    account
}

#[test]
fn what_an_earlier_release_left_is_gone_on_with_to_the_point_and_nothing_of_it_counts_twice() {
    for release in RELEASES {
        let upgraded = Upgraded::from(release);
        let before = upgraded.accounts();
        let after: Value = serde_json::from_str(&text(&format!("data/{release}.after.json"))).unwrap();

        // All that it had read is read again: only what it could not publish any more is published.
        upgraded.shop.work_off();
        assert_eq!(upgraded.accounts(), before, "{release}");
        let unpublished = upgraded.shop.awards().len();
        assert!(unpublished > 0, "{release}");

        let events = text("events.jsonl");
        upgraded.send(events.split_once("later\n").unwrap().1.lines());
        upgraded.shop.work_off();
        // What accrual told itself meanwhile.
        upgraded.shop.work_off();
        let mut published: Vec<Value> =
            upgraded.shop.awards().into_iter().chain(upgraded.shop.tier_changes()).collect();
        published.sort_by_key(|published| published["id"].to_string());
        let ids: Vec<&Value> = published.iter().map(|published| &published["id"]).collect();
        assert_eq!(ids, after["published"].as_array().unwrap().iter().collect::<Vec<_>>(), "{release}");

        let accounts = upgraded.accounts();
        let expected = after["accounts"].as_array().unwrap();
        assert_eq!(accounts.len(), expected.len(), "{release}");
        for expected in expected {
            let member = expected["member_id"].as_str().unwrap();
            let json: Value = serde_json::from_str(&accounts[member]).unwrap();
            assert_eq!(standing(&json), standing(expected), "{release}");
            if before.get(member).is_some_and(|before| *before != accounts[member]) {
                let start = format!("{{\"v\":{},\"f\":{},", json["v"], accrual::account::FORMAT);
                assert!(accounts[member].starts_with(&start), "{}", accounts[member]);
            }
        }
    }
}

#[test]
fn other_buckets_another_name_and_another_zone_than_the_data_was_made_with_are_refused_and_nothing_is_touched()
 {
    let upgraded = Upgraded::from(RELEASES[0]);
    let before = upgraded.contents();
    let programme = text("programme.yaml");
    upgraded.shop.write("name.yaml", &programme.replace("programme: upgrade", "programme: loyalty"));
    upgraded.shop.write("zone.yaml", &programme.replace("Asia/Shanghai", "Europe/Berlin"));
    for (programme, buckets, explained) in [
        (
            "programme.yaml",
            64,
            "buckets is 64, the accounts in the store were made with 32: members would be looked for in the wrong bucket \
             and begin at zero",
        ),
        (
            "name.yaml",
            32,
            "the programme's name is loyalty, the accounts in the store were made with upgrade: awards would have other \
             ids than those already published",
        ),
        (
            "zone.yaml",
            32,
            "the programme's timezone is Europe/Berlin, the accounts in the store were made with Asia/Shanghai: days and \
             months that limits and tiers have counted would begin at another hour",
        ),
    ] {
        upgraded.configure(programme, buckets);
        for command in [["run", "--until-idle"], ["check", "--connect"]] {
            let refused = upgraded.shop.accrual(&command);
            let said = [refused.stdout.as_slice(), &refused.stderr].map(String::from_utf8_lossy).concat();
            assert!(!refused.status.success(), "{said}");
            assert!(said.contains(explained), "{command:?}: {said}");
        }
        let contents = upgraded.contents();
        let touched = contents.iter().filter(|(key, value)| before.get(*key) != Some(*value));
        let touched: Vec<&String> = touched
            .map(|(key, _)| key)
            .chain(before.keys().filter(|key| !contents.contains_key(*key)))
            .collect();
        assert_eq!(touched, Vec::<&String>::new(), "{programme}, {buckets} buckets");
    }
    // And as it was made it runs.
    upgraded.configure("programme.yaml", 32);
    upgraded.shop.work_off();
}

#[test]
fn an_account_that_only_a_newer_version_may_change_stops_the_worker_and_stays_as_it_is() {
    let upgraded = Upgraded::from(RELEASES[0]);
    let mut connection = upgraded.connect();
    let account = r#"{"v":9,"f":900,"needs":900,"member_id":"zoe","available":5,"pending":0,"new":{"a":1}}"#;
    let zoe = accrual::types::Buckets(32).of(&"zoe".into()).0;
    let key = format!("accrual:{{{zoe}}}:account:zoe");
    connection.set::<_, _, ()>(&key, account).unwrap();
    upgraded.send([r#"{"specversion":"1.0","id":"zoe-1","source":"shop","type":"member.signed_in","time":"2026-11-20T10:00:00Z","data":{"member_id":"zoe"}}"#].into_iter());
    let (exit, log) = upgraded.shop.start(&["--until-idle"]).wait();
    assert_ne!(exit, super::worker::Exit::Code(0), "{log}");
    let knows = format!("knows formats up to {}", accrual::account::FORMAT);
    assert!(log.contains("the account of zoe has format 900") && log.contains(&knows), "{log}");
    assert_eq!(connection.get::<_, String>(&key).unwrap(), account);
}
