use std::fmt::Write as _;

use super::*;
use crate::yaml::{Position, golden};

/// What must be there, and nothing else.
const LEAST: &str = "\
kafka: {bootstrap.servers: localhost:9092, group.id: accrual}
inputs: [{topics: [shop.orders]}]
store: memory
programme: programme.yaml
";

/// A folder for one test's files, removed with it.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("accrual-config-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

fn variables(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

fn flag(setting: &str, value: &str, flag: &str) -> Override {
    Override { setting: setting.to_owned(), value: value.to_owned(), flag: flag.to_owned() }
}

fn load(name: &str, text: &str, environment: &[(&str, &str)]) -> Result<Config, Problems> {
    let folder = Folder::new(name);
    Config::load(Some(&folder.file("accrual.yaml", text)), variables(environment), &[])
}

/// Each problem as `line:column message`, or with the variable or flag that it came from.
fn short(problems: &Problems) -> Vec<String> {
    let line = |problem: &yaml::Problem| {
        let message = &problem.message;
        match &problem.position {
            Position::File { line, column, .. } => format!("{line}:{column} {message}"),
            Position::Variable(name) | Position::Flag(name) => format!("{name} {message}"),
            Position::Nowhere => message.clone(),
        }
    };
    problems.iter().map(line).collect()
}

#[test]
fn the_example_is_read_as_it_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/accrual.yaml");
    let config = Config::load(Some(&path), [], &[]).unwrap();
    let property = |name: &str| config.kafka.properties.get(name).map(Secretable::reveal);
    assert_eq!(property("bootstrap.servers"), Some("localhost:9092"));
    assert_eq!(property("group.id"), Some("accrual"));
    let topics: Vec<&str> =
        config.inputs.iter().flat_map(|input| &input.topics).map(TopicName::as_str).collect();
    assert_eq!(
        topics,
        [
            "shop.orders",
            "shop.refunds",
            "shop.redemptions",
            "shop.sign-ins",
            "shop.reviews",
            "shop.shares",
            "shop.members"
        ]
    );
    assert_eq!(
        config.outputs.all().map(|(_, topic)| topic.as_str()),
        [
            "accrual.awards",
            "accrual.tier-changes",
            "accrual.accounts",
            "accrual.dead-letters",
            "accrual.internal"
        ]
    );
    assert_eq!(config.store.to_string(), "redis://localhost:6379");
    assert_eq!(config.programmes, [path.with_file_name("programme.yaml")]);
    assert!(config.programmes[0].exists());
    assert_eq!(config.http, Http::open("127.0.0.1:9464".parse().unwrap()));
    assert_eq!(config.lanes, 2);
    assert_eq!(config.batch, Batch { max_events: 10_000, max_wait: Duration::from_millis(20) });
    assert_eq!(config.dedupe.window, Duration::from_hours(30 * 24));
    assert_eq!(config.history, 10);
    assert_eq!(config.shutdown.grace, Duration::from_secs(25));
    assert!(!config.create_topics);
}

#[test]
fn what_is_left_out_has_its_default() {
    let config = load("defaults", LEAST, &[]).unwrap();
    assert_eq!(config.store, StoreAddress::Memory);
    assert_eq!(config.lanes, std::thread::available_parallelism().unwrap().get().min(64));
    assert_eq!(config.batch, Batch { max_events: 10_000, max_wait: Duration::from_millis(20) });
    assert_eq!(config.buckets, Buckets(32));
    assert_eq!(config.cache.accounts, 100_000);
    assert_eq!(config.limits.max_record_bytes, 1_048_576);
    assert_eq!(config.dead_letters, FloodLimits::default());
    assert_eq!(config.instance, None);
    assert_eq!(config.outputs.dead_letters.as_str(), "accrual.dead-letters");
}

#[test]
fn a_flag_wins_over_the_environment_and_the_environment_over_the_file() {
    let folder = Folder::new("precedence");
    let path =
        folder.file("accrual.yaml", format!("{LEAST}lanes: 1\nhistory: 1\nbatch: {{max_events: 1}}\n"));
    let environment = variables(&[("ACCRUAL_LANES", "2"), ("ACCRUAL_HISTORY", "2"), ("PATH", "/bin")]);
    let flags = [flag("history", "3", "--history")];
    let config = Config::load(Some(&path), environment, &flags).unwrap();
    assert_eq!((config.batch.max_events, config.lanes, config.history), (1, 2, 3));
}

#[test]
fn the_environment_alone_is_enough() {
    let environment = variables(&[
        ("ACCRUAL_KAFKA__BOOTSTRAP__SERVERS", "a:9092,b:9092"),
        ("ACCRUAL_KAFKA__GROUP__ID", "g"),
        ("ACCRUAL_INPUTS", "shop.orders, shop.members"),
        ("ACCRUAL_STORE", "redis-cluster://a,b,c"),
        ("ACCRUAL_PROGRAMME", "programme.yaml"),
        ("ACCRUAL_BATCH__MAX_WAIT", "50ms"),
        ("ACCRUAL_OUTPUTS__TIER_CHANGES", "tiers"),
        ("ACCRUAL_CREATE_TOPICS", "true"),
    ]);
    let config = Config::load(None, environment, &[]).unwrap();
    assert_eq!(config.kafka.properties["bootstrap.servers"].reveal(), "a:9092,b:9092");
    assert_eq!(config.inputs, [Input { topics: vec!["shop.orders".into(), "shop.members".into()] }]);
    assert_eq!(config.store.to_string(), "cluster redis://a,redis://b,redis://c");
    assert_eq!(config.programmes, [Path::new("programme.yaml")]);
    assert_eq!(config.batch.max_wait, Duration::from_millis(50));
    assert_eq!(config.outputs.tier_changes.as_str(), "tiers");
    assert!(config.create_topics);
}

#[test]
fn versions_of_the_programme_are_a_list_of_files_or_paths_with_commas() {
    let folder = Folder::new("versions");
    let versions = LEAST.replace("programme: programme.yaml", "programme: [next.yaml, /etc/programme.yaml]");
    let path = folder.file("accrual.yaml", versions);
    let config = Config::load(Some(&path), [], &[]).unwrap();
    assert_eq!(config.programmes, [path.with_file_name("next.yaml"), "/etc/programme.yaml".into()]);
    let environment = variables(&[("ACCRUAL_PROGRAMME", "a.yaml, b.yaml")]);
    let config = Config::load(Some(&path), environment, &[]).unwrap();
    assert_eq!(config.programmes, [Path::new("a.yaml"), Path::new("b.yaml")]);
    let flags = [flag("programme", "c.yaml,d.yaml", "--programme")];
    let config = Config::load(Some(&path), variables(&[("ACCRUAL_PROGRAMME", "a.yaml")]), &flags).unwrap();
    assert_eq!(config.programmes, [Path::new("c.yaml"), Path::new("d.yaml")]);
}

#[test]
fn every_setting_has_a_variable_that_sets_it() {
    let everything = [
        ("inputs", "in"),
        ("outputs.awards", "awards"),
        ("outputs.tier_changes", "tiers"),
        ("outputs.accounts", "accounts"),
        ("outputs.dead_letters", "dead"),
        ("outputs.internal", "internal"),
        ("store", "redis://elsewhere"),
        ("programme", "other.yaml"),
        ("http.listen", "0.0.0.0:1"),
        ("http.accounts", "false"),
        ("http.rate.per_second", "2001"),
        ("http.rate.burst", "2002"),
        ("http.member_rate.per_second", "2003"),
        ("http.member_rate.burst", "2004"),
        ("http.max_requests", "2005"),
        ("http.redemptions.topic", "in"),
        ("http.redemptions.wait", "2006ms"),
        ("lanes", "7"),
        ("batch.max_events", "8"),
        ("batch.max_wait", "9ms"),
        ("dedupe.window", "10h"),
        ("dead_letters.max_share", "0.25"),
        ("dead_letters.min_events", "17"),
        ("dead_letters.window", "18s"),
        ("history", "11"),
        ("shutdown.grace", "12s"),
        ("create_topics", "true"),
        ("buckets", "13"),
        ("cache.accounts", "14"),
        ("instance", "fifteen"),
        ("limits.max_record_bytes", "1616"),
        ("kafka.client.id", "nineteen"),
    ];
    let environment: Vec<(OsString, OsString)> = everything
        .iter()
        .map(|(setting, value)| (overlay::variable_of(setting).into(), value.into()))
        .collect();
    let folder = Folder::new("everything");
    let path = folder.file("accrual.yaml", LEAST);
    let config = format!("{:?}", Config::load(Some(&path), environment, &[]).unwrap());
    for expected in [
        "\"in\"",
        "\"awards\"",
        "\"tiers\"",
        "\"accounts\"",
        "\"dead\"",
        "\"internal\"",
        "redis://elsewhere",
        "\"other.yaml\"",
        "0.0.0.0:1",
        "access: Nobody",
        "rate: Rate { per_second: 2001, burst: 2002 }",
        "member_rate: Rate { per_second: 2003, burst: 2004 }",
        "max_requests: 2005",
        "Redemptions { topic: \"in\", wait: 2.006s }",
        "lanes: 7",
        "max_events: 8",
        "max_wait: 9ms",
        "window: 36000s",
        "FloodLimits { max_share: 0.25, min_events: 17, window: 18s }",
        "history: 11",
        "grace: 12s",
        "create_topics: true",
        "Buckets(13)",
        "accounts: 14",
        "Some(\"fifteen\")",
        "max_record_bytes: 1616",
        "\"client.id\": \"nineteen\"",
    ] {
        assert!(config.contains(expected), "{expected} is not in {config}");
    }
}

#[test]
fn variables_that_are_no_settings_are_told_from_misspelt_ones() {
    let harmless = [
        ("ACCRUAL_LOG", "debug"),
        ("ACCRUAL_CONFIG", "x.yaml"),
        ("ACCRUAL_TEST_SEED", "1"),
        ("ACCRUAL_REQUIRE_KAFKA", "1"),
        ("ACCRUAL_BENCH_EVENTS", "1"),
        // Kubernetes sets these for Services named accrual and accrual-http.
        ("ACCRUAL_SERVICE_HOST", "10.0.0.1"),
        ("ACCRUAL_SERVICE_PORT_METRICS", "9464"),
        ("ACCRUAL_PORT", "tcp://10.0.0.1:9464"),
        ("ACCRUAL_HTTP_PORT_9464_TCP_ADDR", "10.0.0.1"),
        ("OTHER_LANES", "x"),
    ];
    load("harmless", LEAST, &harmless).unwrap();

    let broken = [
        ("ACCRUAL_LANE", "2"),
        ("ACCRUAL_BATCH_MAX_WAIT", "2ms"),
        ("ACCRUAL_COLOUR", "red"),
        ("ACCRUAL_KAFKA", "x"),
        ("ACCRUAL_LOGS", "debug"),
        ("ACCRUAL_HISTORY", ""),
        ("ACCRUAL_LANES", "none"),
        ("ACCRUAL_LANES_FILE", "/x"),
        ("ACCRUAL_KAFKA__CLIENT__IDD", "x"),
        ("ACCRUAL_INPUTS", "a,b c"),
    ];
    assert_eq!(
        short(&load("misspelt", LEAST, &broken).unwrap_err()),
        [
            "ACCRUAL_BATCH_MAX_WAIT there is no setting for `ACCRUAL_BATCH_MAX_WAIT`; did you mean `ACCRUAL_BATCH__MAX_WAIT`?",
            "ACCRUAL_COLOUR there is no setting for `ACCRUAL_COLOUR`; `__` stands between the parts of a setting's name, as in `ACCRUAL_BATCH__MAX_WAIT`",
            "ACCRUAL_HISTORY ACCRUAL_HISTORY is empty; give it a value or unset it",
            "ACCRUAL_INPUTS a topic must be 1 to 249 letters, digits, `.`, `_` and `-`, not `b c`",
            "ACCRUAL_KAFKA there is no setting for `ACCRUAL_KAFKA`; `__` stands between the parts of a setting's name, as in `ACCRUAL_BATCH__MAX_WAIT`",
            "ACCRUAL_KAFKA__CLIENT__IDD `kafka.client.idd` is no property of librdkafka; did you mean `client.id`?",
            "ACCRUAL_LANE there is no setting for `ACCRUAL_LANE`; did you mean `ACCRUAL_LANES`?",
            "ACCRUAL_LANES `lanes` must be a whole number from 1 to 64, not `none`",
            "ACCRUAL_LANES_FILE there is no setting for `ACCRUAL_LANES_FILE`; `__` stands between the parts of a setting's name, as in `ACCRUAL_BATCH__MAX_WAIT`",
            "ACCRUAL_LOGS there is no setting for `ACCRUAL_LOGS`; did you mean `ACCRUAL_LOG`?",
        ]
    );
}

#[test]
fn a_flag_for_no_setting_or_with_a_wrong_value_is_named() {
    let folder = Folder::new("flags");
    let path = folder.file("accrual.yaml", LEAST);
    let flags =
        [flag("lanes", "0", "--lanes"), flag("lane", "1", "--lane"), flag("store", "here", "--store")];
    let problems = Config::load(Some(&path), [], &flags).unwrap_err();
    assert_eq!(
        short(&problems),
        [
            "--lane there is no setting `lane`; did you mean `lanes`?",
            "--lanes `lanes` must be a whole number from 1 to 64, not `0`",
            "--store `store` must be redis://host:6379, rediss://host:6379, redis-cluster://a:6379,b:6379, rediss-cluster://a:6379,b:6379, redis-sentinel://a:26379,b:26379#NAME, rediss-sentinel://a:26379,b:26379#NAME or memory",
        ]
    );
    assert!(problems.to_string().contains("\n --> flag --lanes"));
}

#[test]
fn nothing_given_at_all_names_what_is_needed_and_how_to_give_it() {
    assert_eq!(
        short(&Config::load(None, [], &[]).unwrap_err()),
        [
            "`kafka.bootstrap.servers` is missing; set it here or as ACCRUAL_KAFKA__BOOTSTRAP__SERVERS",
            "`kafka.group.id` is missing; set it here or as ACCRUAL_KAFKA__GROUP__ID",
            "`inputs` is missing; set it here or as ACCRUAL_INPUTS",
            "`store` is missing; set it here or as ACCRUAL_STORE",
            "`programme` is missing; set it here or as ACCRUAL_PROGRAMME",
        ]
    );
}

#[test]
fn a_setting_that_cannot_be_is_refused_with_what_would_be_right() {
    let cases: &[(&str, &str)] = &[
        ("lanes: 65", "5:8 `lanes` must be a whole number from 1 to 64, not `65`"),
        ("lanes:", "5:6 `lanes` has no value; it must be a whole number from 1 to 64"),
        (
            "batch: {max_events: 0}",
            "5:21 `batch.max_events` must be a whole number from 1 to 100000, not `0`",
        ),
        (
            "batch: {max_wait: 20}",
            "5:19 `batch.max_wait` must be a time such as 20ms, 25s, 5m, 12h or 30d, from 1ms to 10s, not `20`",
        ),
        ("batch: 5", "5:8 `batch` must be a map (`key: value`), not `5`"),
        (
            "batch: {max_event: 5}",
            "5:9 unknown key `max_event`; did you mean `max_events`? Known here: max_events, max_wait",
        ),
        (
            "dedupe: {window: 59m}",
            "5:18 `dedupe.window` must be a time such as 20ms, 25s, 5m, 12h or 30d, from 1h to 3650d, not `59m`",
        ),
        (
            "dead_letters: {max_share: 50%}",
            "5:27 `dead_letters.max_share` must be a share from 0 to 1, such as 0.5; 1 for no limit, not `50%`",
        ),
        ("create_topics: yes", "5:16 `create_topics` must be `true` or `false`, not `yes`"),
        ("buckets: 0", "5:10 `buckets` must be a whole number from 1 to 16384, not `0`"),
        (
            "http: {listen: 9464}",
            "5:16 `http.listen` must be an address and a port such as 127.0.0.1:9464 or 0.0.0.0:9464, not `9464`",
        ),
        (
            "http: {listen: '[::]:9464'}",
            "5:16 `http.listen` is [::]:9464, where others reach it, and nothing says who may read accounts; give `http.tokens: {file: PATH}` (or ACCRUAL_HTTP__TOKENS_FILE) or `http.member_tokens: {file: PATH}`, or `http.accounts: false` for nothing but health and metrics, or listen on 127.0.0.1 behind a proxy that asks for certificates",
        ),
        (
            "http: {member_rate: {burst: 0}}",
            "5:29 `http.member_rate.burst` must be a whole number from 1 to 1000000, not `0`",
        ),
        (
            "http: {redemptions: {topic: shop.members}}",
            "5:29 `http.redemptions.topic` must be one of the inputs, which are shop.orders: what is put there has to be read",
        ),
        ("http: {redemptions: {wait: 1s}}", "5:21 `topic` is missing in `http.redemptions`"),
        ("instance: a/b", "5:11 `instance` must be 1 to 100 letters, digits, `.`, `_` and `-`, not `a/b`"),
        (
            "outputs: {awards: shop.orders}",
            "5:19 `shop.orders` is both an input and `outputs.awards`; each needs a topic of its own",
        ),
        (
            "outputs: {awards: accrual.accounts}",
            "5:19 `accrual.accounts` is both `outputs.awards` and `outputs.accounts`; each needs a topic of its own",
        ),
        (
            "outputs: {award: x}",
            "5:11 unknown key `award`; did you mean `awards`? Known here: awards, tier_changes, accounts, dead_letters, internal",
        ),
        (
            "topics: x",
            "5:1 unknown key `topics`; known here: kafka, inputs, outputs, store, programme, http, lanes, batch, dedupe, dead_letters, refunds, history, shutdown, create_topics, buckets, cache, instance, limits",
        ),
        ("store: memory", "5:1 `store` is given twice; the first is on line 3"),
    ];
    for (text, expected) in cases {
        let problems = load("settings", &format!("{LEAST}{text}\n"), &[]).unwrap_err();
        assert_eq!(short(&problems), [*expected], "{text}");
    }
}

#[test]
fn inputs_name_topics_once_each() {
    let cases: &[(&str, &[&str])] = &[
        (
            "[]",
            &["2:9 `inputs` is empty; name at least one topic, as in `inputs: [{topics: [shop.orders]}]`"],
        ),
        ("[{topics: []}]", &["2:19 `topics` is empty; name at least one topic"]),
        ("[{}]", &["2:10 `topics` is missing in an input"]),
        ("shop.orders", &["2:9 `inputs` must be a list, not `shop.orders`"]),
        ("[shop.orders]", &["2:10 an input must be a map (`key: value`), not `shop.orders`"]),
        ("[{topics: [a, b]}, {topics: [a]}]", &["2:38 `a` is an input twice"]),
        (
            "[{topics: [accrual.internal]}]",
            &[
                "2:20 `accrual.internal` is both an input and `outputs.internal`; each needs a topic of its own",
            ],
        ),
        (
            "[{topics: [.., a b]}, {topics: [ü]}]",
            &[
                "2:20 a topic must be 1 to 249 letters, digits, `.`, `_` and `-`, not `..`",
                "2:41 a topic must be 1 to 249 letters, digits, `.`, `_` and `-`, not `ü`",
            ],
        ),
    ];
    for (inputs, expected) in cases {
        let text = LEAST.replace("[{topics: [shop.orders]}]", inputs);
        assert_eq!(short(&load("inputs", &text, &[]).unwrap_err()), *expected, "{inputs}");
    }
}

#[test]
fn what_the_worker_must_control_itself_cannot_be_set() {
    let mut refused = String::new();
    for (property, value) in [
        ("enable.auto.commit", "true"),
        ("enable.auto.offset.store", "true"),
        ("isolation.level", "read_uncommitted"),
        ("transactional.id", "x"),
        ("enable.idempotence", "false"),
        ("group.instance.id", "x"),
        ("group.protocol", "consumer"),
        ("statistics.interval.ms", "0"),
        ("auto.offset.reset", "latest"),
        ("acks", "1"),
        ("partition.assignment.strategy", "cooperative-sticky"),
        ("enable.ssl.certificate.verification", "false"),
        ("metadata.broker.list", "x"),
        ("linger", "5"),
        ("linger.m", "5"),
        ("session.timeout.ms", "soon"),
        ("session.timeout.ms", "999999999"),
        ("compression.type", "best"),
        ("sasl", "{mechanism: PLAIN}"),
        ("bootstrap", "[a, b]"),
        ("client.id", ""),
    ] {
        let text = LEAST.replace("accrual}", &format!("accrual, {property}: {value}}}"));
        let problems = load("controlled", &text, &[]).unwrap_err();
        writeln!(refused, "{}", short(&problems).join("\n")).unwrap();
    }
    golden("tests/fixtures/config/controlled.txt", &refused);
    for allowed in ["auto.offset.reset: earliest", "acks: all", "client.id: x", "session.timeout.ms: 10000"] {
        load("allowed", &LEAST.replace("accrual}", &format!("accrual, {allowed}}}")), &[]).unwrap();
    }
}

#[test]
fn a_store_is_an_address_that_can_be_connected_to() {
    let shown = |text: &str| match store::parse(text) {
        Ok(address) => address.to_string(),
        Err(why) => format!("error: {why}"),
    };
    let forms = "must be redis://host:6379, rediss://host:6379, redis-cluster://a:6379,b:6379, rediss-cluster://a:6379,b:6379, redis-sentinel://a:26379,b:26379#NAME, rediss-sentinel://a:26379,b:26379#NAME or memory";
    let one = "must be redis://[user:password@]host[:port][/database] with user and password percent-encoded";
    let sentinels = "must be redis-sentinel://[user:password@]host[:26379],host[:26379],…[/database][?sentinelPassword=…]#NAME with users and passwords percent-encoded";
    let name = "must end with `#` and the name that the Sentinels know the servers by, which has letters, digits, `.`, `-` and `_` only; in a password write `#` as %23";
    for (text, expected) in [
        ("memory", "memory".to_owned()),
        ("redis://localhost:6379", "redis://localhost:6379".to_owned()),
        ("redis://me:hunter2@localhost/3", "redis://***@localhost/3".to_owned()),
        ("redis-cluster://a:7000,b,c:7002", "cluster redis://a:7000,redis://b,redis://c:7002".to_owned()),
        ("redis-cluster://me:hunter2@a,b", "cluster redis://***@a,redis://***@b".to_owned()),
        ("redis-sentinel://a:7000,b#mymaster", "redis-sentinel://a:7000,b#mymaster".to_owned()),
        (
            "redis-sentinel://me:hunter2@a,b/3?sentinelPassword=hunter2#mymaster",
            "redis-sentinel://***@a,b/3?***#mymaster".to_owned(),
        ),
        ("localhost:6379", format!("error: {forms}")),
        ("http://x", format!("error: {forms}")),
        ("redis://", format!("error: {one}")),
        ("redis://a:b:c", format!("error: {one}")),
        ("redis://a/x", format!("error: {one}")),
        ("redis-cluster://a,,b", format!("error: {one}")),
        (
            "redis-cluster://a/0",
            "error: names a cluster, which has no database and no options: write its nodes only, as in redis-cluster://a:6379,b:6379".to_owned(),
        ),
        (
            "redis-sentinel://me:hunter2@a,b/3",
            "error: names Sentinels, but not what they know the servers by: end it with `#` and that name, as in redis-sentinel://a:26379,b:26379#mymaster".to_owned(),
        ),
        ("redis-sentinel://a,,b#mymaster", format!("error: {sentinels}")),
        ("redis-sentinel://a/x#mymaster", format!("error: {sentinels}")),
        ("redis-sentinel://a:b:c#mymaster", format!("error: {sentinels}")),
        ("redis-sentinel://:hunt#er2@a#mymaster", format!("error: {name}")),
        (
            "redis-sentinel://a?password=hunter2#mymaster",
            "error: may have the options sentinelUsername and sentinelPassword only: what the Sentinels themselves want, while user and password of the servers stand before the first host".to_owned(),
        ),
        (
            "redis-sentinel://a?sentinelPassword=hunter2@#mymaster",
            "error: must have its options percent-encoded, and none of them empty".to_owned(),
        ),
        (
            "redis-sentinel://a?sentinelUsername=me#mymaster",
            "error: has sentinelUsername without sentinelPassword".to_owned(),
        ),
        (
            "redis://a/#insecure",
            "error: must not have a `#` part: a server's certificate is always verified".to_owned(),
        ),
    ] {
        assert_eq!(shown(text), expected, "{text}");
    }
    for url in ["rediss://a", "rediss-sentinel://a#mymaster"] {
        if cfg!(feature = "tls-system") {
            assert_eq!(shown(url), url);
        } else {
            assert_eq!(shown(url), "error: needs TLS, and this worker was built without the feature `tls`");
        }
    }
}

#[test]
fn a_secret_comes_from_a_file_and_never_shows() {
    let folder = Folder::new("secrets");
    folder.file("password", "hunter2\n");
    folder.file("store", "redis://me:hunter2@localhost\n");
    let text = "\
kafka:
  bootstrap.servers: localhost:9092
  group.id: accrual
  sasl.username: me
  sasl.password: {file: password}
  ssl.key.password: hunter2
inputs: [{topics: [a]}]
store: {file: store}
programme: p.yaml
";
    // Without TLS librdkafka knows no passwords of keys.
    let text = if cfg!(feature = "tls-system") {
        text.to_owned()
    } else {
        text.replace("  ssl.key.password: hunter2\n", "")
    };
    let path = folder.file("accrual.yaml", &text);
    let config = Config::load(Some(&path), [], &[]).unwrap();
    assert_eq!(config.kafka.properties["sasl.password"].reveal(), "hunter2");
    let StoreAddress::Redis(url) = &config.store else { panic!("{:?}", config.store) };
    assert_eq!(url.reveal(), "redis://me:hunter2@localhost");
    let debug = format!("{config:?} {config:#?} {}", config.store);
    assert!(!debug.contains("hunter2") && debug.contains("\"sasl.password\": ***"), "{debug}");
    // The address is asked of the file again; what it may not hold by then is told without what it holds.
    let file = config.store_file.as_ref().unwrap();
    folder.file("store", "redis://me:hunter3@localhost");
    assert_eq!(file.url().unwrap(), "redis://me:hunter3@localhost");
    for wrong in ["redis:/me:hunter3@localhost", "redis-sentinel://a?sentinelPassword=hunter3", "memory", ""]
    {
        folder.file("store", wrong);
        let why = file.url().unwrap_err();
        assert!(why.contains("store`") && !why.contains("hunter3"), "{why}");
    }
    folder.file("store", "redis://me:hunter2@localhost");

    let environment = [
        ("ACCRUAL_KAFKA__SASL__PASSWORD_FILE", folder.0.join("password").display().to_string()),
        ("ACCRUAL_STORE_FILE", folder.0.join("store").display().to_string()),
    ];
    let environment: Vec<_> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let config = load("secrets-by-environment", LEAST, &environment).unwrap();
    assert_eq!(config.kafka.properties["sasl.password"].reveal(), "hunter2");
    assert_eq!(config.store.to_string(), "redis://***@localhost");
}

#[test]
fn tokens_are_read_from_files_a_line_each_and_what_is_wrong_there_is_named_and_not_shown() {
    let folder = Folder::new("tokens");
    folder.file(
        "tokens",
        "# the old one, until december\nhunter2-hunter2-hunter2-1\n\nhunter2-hunter2-hunter2-2\n",
    );
    folder.file("secret", "hunter2-hunter2-hunter2-hunter2-hunter2");
    let http = "http: {listen: 0.0.0.0:1, tokens: {file: tokens}, member_tokens: {file: secret}}";
    let path = folder.file("accrual.yaml", format!("{LEAST}{http}\n"));
    let config = Config::load(Some(&path), [], &[]).unwrap();
    let Access::Tokens { service: Some(service), member: Some(member) } = &config.http.access else {
        panic!("{:?}", config.http);
    };
    let held: Vec<&str> = service.held().iter().map(Secret::reveal).collect();
    assert_eq!(held, ["hunter2-hunter2-hunter2-1", "hunter2-hunter2-hunter2-2"]);
    assert_eq!(member.held().len(), 1);
    assert_eq!(
        config.http.to_string(),
        "0.0.0.0:1, accounts for 2 services' tokens and members' tokens by 1 secrets"
    );
    assert!(!format!("{config:?}").contains("hunter2"));

    let at = |name: &str| folder.0.join(name).display().to_string();
    let (tokens, secret) = (at("tokens"), at("secret"));
    let by_environment = [
        ("ACCRUAL_HTTP__LISTEN", "0.0.0.0:1"),
        ("ACCRUAL_HTTP__TOKENS_FILE", tokens.as_str()),
        ("ACCRUAL_HTTP__MEMBER_TOKENS_FILE", secret.as_str()),
    ];
    assert_eq!(load("tokens-by-environment", LEAST, &by_environment).unwrap().http, config.http);

    folder.file("short", "hunter2\n");
    folder.file("strange", "# x\nhunter2 hunter2 hunter2 hunter2\n");
    folder.file("nothing", "# hunter2\n");
    let wanted =
        "bearer tokens of 24 or more characters, one a line, as `openssl rand -base64 32` makes them";
    let cases = [
        ("tokens: hunter2", format!("5:16 `http.tokens` must be {{file: PATH}}, of a file with {wanted}")),
        (
            "tokens: {file: short}",
            format!(
                "5:23 `{}` must hold {wanted}: line 1 has 7 characters, at least 24 are needed",
                at("short")
            ),
        ),
        (
            "tokens: {file: strange}",
            format!(
                "5:23 `{}` must hold {wanted}: line 2 holds a character that no bearer token may have; letters, digits and -._~+/= may stand there",
                at("strange")
            ),
        ),
        (
            "tokens: {file: nothing}",
            format!("5:23 `{}` must hold {wanted}: it holds nothing but comments", at("nothing")),
        ),
        (
            "tokens: {file: gone}",
            format!("5:23 cannot read `{}`: No such file or directory (os error 2)", at("gone")),
        ),
    ];
    for (text, expected) in cases {
        let path = folder.file("accrual.yaml", format!("{LEAST}http: {{{text}}}\n"));
        let problems = Config::load(Some(&path), [], &[]).unwrap_err();
        assert_eq!(short(&problems), [expected], "{text}");
        assert!(!problems.to_string().contains("hunter2"), "{problems}");
    }
}

#[test]
fn a_token_for_kafka_comes_from_a_file_with_its_mechanism_and_nothing_else_of_oauthbearer_is_taken() {
    let folder = Folder::new("oauth");
    // {"alg":"none"} and {"exp":4102444800}, the year 2100.
    folder.file("token", "eyJhbGciOiJub25lIn0.eyJleHAiOjQxMDI0NDQ4MDB9.hunter2\n");
    folder.file("no-token", "hunter2");
    let load = |kafka: &str| {
        let text = LEAST.replace("accrual}", &format!("accrual, {kafka}}}"));
        Config::load(Some(&folder.file("accrual.yaml", text)), [], &[])
    };
    let right = load("sasl.mechanism: OAUTHBEARER, sasl.oauthbearer.token: {file: token}");
    if cfg!(feature = "tls-system") {
        let config = right.unwrap();
        assert!(config.kafka.properties["sasl.oauthbearer.token"].reveal().ends_with(".hunter2"));
        assert!(!format!("{config:?}").contains("hunter2"));
    } else {
        let problems = right.unwrap_err().to_string();
        assert!(problems.contains("`kafka.sasl.mechanism` needs TLS"), "{problems}");
    }
    let cases = [
        ("sasl.oauthbearer.token: hunter2", "must be {file: PATH}: a token expires"),
        ("sasl.oauthbearer.token: {file: no-token}", "is no JWT"),
        ("sasl.oauthbearer.token: {file: token}", "needs `sasl.mechanism: OAUTHBEARER`"),
        ("sasl.mechanism: OAUTHBEARER", "OAUTHBEARER needs `sasl.oauthbearer.token: {file: PATH}`"),
        ("sasl.oauthbearer.method: oidc", "whoever renews the token writes it to a file"),
        ("sasl.oauthbearer.client.secret: hunter2", "whoever renews the token writes it to a file"),
        ("ssl.endpoint.identification.algorithm: none", "must be https: the certificate of any other host"),
        ("enable.sasl.oauthbearer.unsecure.jwt: true", "must be false: anybody can write such a token"),
    ];
    for (kafka, expected) in cases {
        let problems = load(kafka).unwrap_err().to_string();
        assert!(problems.contains(expected) && !problems.contains("hunter2"), "{problems}");
    }
}

#[test]
fn no_problem_shows_a_secret() {
    let least = LEAST.replace("store: memory\n", "");
    for text in [
        "store: {redis//me:hunter2@localhost: 1}\n",
        "store: redis//me:hunter2@localhost\n",
        "store: [redis://me:hunter2@localhost]\n",
        "store: redis://me:hunter2@local host\n",
        "store: redis-sentinel://a?sentinelPassword=hunter2\n",
        "store: memory\nx: [hunter2@\n",
    ] {
        let problems = load("quiet", &format!("{least}{text}"), &[]).unwrap_err().to_string();
        assert!(!problems.contains("hunter2"), "{problems}");
    }
    for property in [
        "sasl.password: [hunter2]",
        "sasl.password: {hunter2: }",
        "sasl.password: {file: x, hunter2: y}",
        "sasl.password: hunter2, lanes: 1",
        "ssl.keystore.password: hunter2, bootstrap.servers: x",
        "sasl.passwort: {hunter2: x}",
        "enable.auto.commit: true, ssl.key.pem: 'hunter2'",
        "sasl.password: 'hunter2",
        "sasl.password: hunter2: 3",
    ] {
        let text = LEAST.replace("accrual}", &format!("accrual, {property}}}"));
        let problems = load("quiet", &text, &[]).unwrap_err().to_string();
        assert!(!problems.contains("hunter2"), "{problems}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named_with_the_reason() {
    let folder = Folder::new("unreadable");
    let path = folder.file("secret.yaml", LEAST.replace("accrual}", "accrual, sasl.password: {file: gone}}"));
    folder.file("empty", " \n");
    let gone = folder.0.join("gone");
    assert_eq!(
        short(&Config::load(Some(&path), [], &[]).unwrap_err()),
        [format!("1:85 cannot read `{}`: No such file or directory (os error 2)", gone.display())]
    );
    let path =
        folder.file("secret.yaml", LEAST.replace("accrual}", "accrual, sasl.password: {file: empty}}"));
    let empty = folder.0.join("empty");
    assert_eq!(
        short(&Config::load(Some(&path), [], &[]).unwrap_err()),
        [format!("1:85 cannot read `{}`: it is empty", empty.display())]
    );
    for (path, why) in [
        (gone.clone(), "No such file or directory (os error 2)"),
        (folder.file("latin", b"lanes: \xfc"), "byte 8 is not UTF-8"),
        (folder.file("large", vec![b' '; yaml::MAX_BYTES + 1]), "it has more than 1048576 bytes"),
    ] {
        assert_eq!(
            short(&Config::load(Some(&path), [], &[]).unwrap_err()),
            [format!("cannot read `{}`: {why}", path.display())]
        );
    }
}

#[test]
fn a_file_that_is_no_yaml_is_said_once_together_with_the_environment() {
    let problems = load("no-yaml", "lanes: [1\nstore: memory\n", &[("ACCRUAL_LANE", "1")]).unwrap_err();
    assert_eq!(
        short(&problems),
        [
            "2:6 not valid YAML: illegal placement of ':' indicator; is a bracket or brace before this not closed?",
            "ACCRUAL_LANE there is no setting for `ACCRUAL_LANE`; did you mean `ACCRUAL_LANES`?",
        ]
    );
}

#[test]
fn a_broken_file_shows_every_line_that_is_wrong() {
    let path = Path::new("tests/fixtures/config/broken.yaml");
    let problems = Config::load(Some(path), [], &[]).unwrap_err().to_string();
    golden("tests/fixtures/config/broken.txt", &format!("{problems}\n"));
}
