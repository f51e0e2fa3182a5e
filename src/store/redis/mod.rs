//! Accounts in Redis: one server or a cluster. Everything that must be atomic is a Lua script on the
//! keys of one bucket, and a bucket is one slot.
//!
//! A [`RedisStore`] blocks and belongs to one thread at a time: each lane has its own. It connects when
//! it is first used and again after an error that puts the connection in doubt; it never repeats a
//! command whose outcome is unknown, because only the caller knows what that means.

mod budgets;
mod connection;
mod reply;
mod requests;
mod rights;
mod sentinel_url;
mod sentinels;
mod target;
mod triage;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ::redis::Value;

use self::connection::{Connection, Request};
use self::reply::Claimed;
use self::requests::{BucketKeys, Claim, Scripts};
pub use self::sentinel_url::SentinelUrl;
use self::target::Target;
use super::{
    CommitBucket, Committed, Deployment, DueAt, Lease, LeaseId, LeaseRequest, LoadBucket, LoadedBucket,
    Located, OffsetRange, OutboxKey, Receipt, RestoreBucket, Restored, ServerId, Spent, Store, StoreError,
    StoreSettings, event_of, window_seconds,
};
use crate::types::{Bucket, Buckets, CampaignId, EventId, MemberId, TopicName, TopicPartition};

const SOURCES: &str = "accrual:sources";
const DEPLOYMENT: &str = "accrual:deployment";
const PROBE: &str = "accrual:probe";
/// How often a call may be told that another generation of receipts is the current one. Twice happens
/// when a generation ends just then; more only if Redis' clock runs wild.
const CLAIMS: usize = 4;
/// Buckets are committed together up to so many bytes: each call costs Redis some 40 µs beside its work, which for buckets of
/// a few events is most of it. More would save little, and Redis does nothing else meanwhile: a millisecond or two.
const BYTES_A_CALL: usize = 160 << 10;

/// A store in Redis. Its calls block and drive their own runtime: inside another one they belong in
/// `spawn_blocking`.
pub struct RedisStore {
    connection: Connection,
    scripts: Scripts,
    buckets: Buckets,
    claim: Claim,
    /// The server that commits of a bucket rest on.
    adopted: BTreeMap<Bucket, ServerId>,
    /// Whether one call may have keys of several buckets, once that is known.
    together: Option<bool>,
}

impl RedisStore {
    /// A store at a URL: `redis://[user:password@]host[:port][/database]`, `rediss://…` with TLS,
    /// `unix:///path`, `redis-cluster://[user:password@]host[:port],host[:port],…`, or a [`SentinelUrl`].
    ///
    /// Fails only if the URL cannot be read. The connection is made by the first call, so a worker may
    /// start before its Redis.
    pub fn connect(url: &str, settings: &StoreSettings) -> Result<Self, StoreError> {
        let window = window_seconds(settings);
        // A first guess by this machine's clock; Redis corrects it.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Ok(Self {
            connection: Connection::new(Target::parse(url)?)?,
            scripts: Scripts::new(),
            buckets: Buckets(settings.buckets),
            claim: Claim { window, generation: now / window, long: settings.long_generation() },
            adopted: BTreeMap::new(),
            together: None,
        })
    }

    /// The same store, which asks for its URL before each new connection: the password may be another one by then.
    pub fn at_changing_url(mut self, url: impl Fn() -> Result<String, String> + Send + 'static) -> Self {
        self.connection.ask_for_url(Box::new(url));
        self
    }

    /// Hands over the members whose accounts' keys match, of the whole server or of the node that has a bucket.
    fn scan_accounts(
        &mut self,
        bucket: &str,
        on_node_of: Option<Bucket>,
        take: &mut dyn FnMut(Bucket, MemberId),
    ) -> Result<(), StoreError> {
        let mut cursor = "0".to_owned();
        loop {
            let request = requests::scan_accounts(bucket, &cursor, on_node_of);
            let (next, keys) = reply::keys(self.connection.ask(request)?)?;
            for (bucket, member) in keys.iter().filter_map(|key| requests::account_of(key)) {
                take(bucket, member);
            }
            if next == "0" {
                return Ok(());
            }
            cursor = next;
        }
    }

    fn located(&mut self, buckets: &[Bucket]) -> Result<Vec<Located>, StoreError> {
        let Self { connection, scripts, .. } = self;
        let answers = connection.ask_all(buckets.iter().map(|bucket| scripts.locate(*bucket)))?.into_iter();
        buckets.iter().zip(answers).map(|(bucket, answer)| reply::located(*bucket, answer)).collect()
    }

    fn info(&mut self, section: &str) -> Result<String, StoreError> {
        let mut info = ::redis::cmd("INFO");
        info.arg(section);
        let mut lines = String::new();
        gather(&self.connection.ask(Request::plain(info))?, &mut lines);
        Ok(lines)
    }

    /// Whether one call may have keys of several buckets. On a cluster each may lie on another node; and a server that is a
    /// node refuses keys of several slots, also where it has them all and is spoken to as a server.
    fn commits_together(&mut self) -> Result<bool, StoreError> {
        if let Target::Cluster { .. } = self.connection.target() {
            return Ok(false);
        }
        if let Some(known) = self.together {
            return Ok(known);
        }
        let is_node = self.info("cluster")?.lines().any(|line| line.trim() == "cluster_enabled:1");
        self.together = Some(!is_node);
        Ok(!is_node)
    }

    /// Refuses a server that drops accounts or receipts when its memory is full.
    fn check_eviction(&mut self) -> Result<(), StoreError> {
        let lines = self.info("memory")?;
        let evicts = |line: &str| {
            line.strip_prefix("maxmemory_policy:").is_some_and(|policy| policy.trim() != "noeviction")
        };
        let bounded = |line: &str| line.strip_prefix("maxmemory:").is_some_and(|bytes| bytes.trim() != "0");
        if lines.lines().any(evicts) && lines.lines().any(bounded) {
            return Err(StoreError::Broken(
                "Redis would drop accounts or receipts when its memory is full: \
                 set its maxmemory-policy to noeviction"
                    .into(),
            ));
        }
        Ok(())
    }
}

/// Asks for each of `wanted` until each had the right generation of receipts, which is then the one that is claimed.
fn claiming<W, T>(
    claim: &mut Claim,
    wanted: &[W],
    mut ask: impl FnMut(&[&W], Claim) -> Result<Vec<Claimed<T>>, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let mut done: Vec<Option<T>> = wanted.iter().map(|_| None).collect();
    for _ in 0..CLAIMS {
        let (open, places): (Vec<&W>, Vec<&mut Option<T>>) =
            wanted.iter().zip(&mut done).filter(|(_, done)| done.is_none()).unzip();
        if open.is_empty() {
            break;
        }
        for (answer, place) in ask(&open, *claim)?.into_iter().zip(places) {
            match answer {
                Claimed::Done(result) => *place = Some(result),
                Claimed::Wrong(generation) => claim.generation = generation,
            }
        }
    }
    let wild = || StoreError::Away("Redis' clock jumps; receipts have no stable generation".into());
    done.into_iter().collect::<Option<_>>().ok_or_else(wild)
}

/// Which buckets are committed in one call: those that follow each other, as far as they come to so many bytes, or a single
/// one that is larger.
fn calls_of<'a, 'b>(buckets: &'b [&'a CommitBucket], most: usize) -> Vec<&'b [&'a CommitBucket]> {
    let (mut calls, mut rest) = (Vec::new(), buckets);
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = |bucket: &&&CommitBucket| {
            bytes += requests::room(bucket).1;
            bytes <= most
        };
        let many = rest.iter().take_while(fits).count().max(1);
        let (call, others) = rest.split_at(many);
        calls.push(call);
        rest = others;
    }
    calls
}

/// Collects the text of an answer; a cluster answers with one text a node.
fn gather(answer: &Value, text: &mut String) {
    match answer {
        Value::BulkString(bytes) => text.push_str(&String::from_utf8_lossy(bytes)),
        Value::VerbatimString { text: verbatim, .. } => text.push_str(verbatim),
        Value::Array(parts) => parts.iter().for_each(|part| gather(part, text)),
        Value::Map(nodes) => nodes.iter().for_each(|(_, of_node)| gather(of_node, text)),
        _ => {}
    }
    text.push('\n');
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisStore({})", self.connection.target())
    }
}

impl Store for RedisStore {
    fn load(&mut self, wanted: &[LoadBucket]) -> Result<Vec<LoadedBucket>, StoreError> {
        // MGET must not be sent without a key, and there is nothing to ask.
        let asked: Vec<&LoadBucket> = wanted
            .iter()
            .filter(|wanted| !(wanted.members.is_empty() && wanted.receipts.is_empty()))
            .collect();
        let Self { connection, scripts, claim, .. } = self;
        let read = |wanted: &LoadBucket, answer| {
            if wanted.receipts.is_empty() {
                let accounts = reply::optional_texts(answer)?;
                return Ok(Claimed::Done(LoadedBucket { accounts, ..LoadedBucket::default() }));
            }
            Claimed::read(answer, reply::loaded)
        };
        let loaded = claiming(claim, &asked, |open, claim| {
            let answers = connection.ask_all(open.iter().map(|wanted| scripts.load(wanted, claim)))?;
            open.iter().zip(answers).map(|(wanted, answer)| read(wanted, answer)).collect()
        })?;
        let mut loaded = loaded.into_iter();
        let answer = |wanted: &LoadBucket| {
            let was_asked = !(wanted.members.is_empty() && wanted.receipts.is_empty());
            if was_asked { loaded.next().unwrap_or_default() } else { LoadedBucket::default() }
        };
        Ok(wanted.iter().map(answer).collect())
    }

    fn commit(&mut self, buckets: &[CommitBucket]) -> Result<Vec<Committed>, StoreError> {
        let most = if self.commits_together()? { BYTES_A_CALL } else { 0 };
        let Self { connection, scripts, claim, adopted, .. } = self;
        claiming(claim, buckets, |open, claim| {
            let calls = calls_of(open, most);
            let request = |call: &&[&CommitBucket]| {
                let named = call.iter().map(|wanted| {
                    let server = adopted.get(&wanted.bucket).map_or("", ServerId::as_str);
                    (*wanted, server)
                });
                scripts.commit(&named.collect::<Vec<_>>(), claim)
            };
            let answers = connection.ask_all(calls.iter().map(request))?;
            let mut outcomes = Vec::with_capacity(open.len());
            for (call, answer) in calls.iter().zip(answers) {
                outcomes.extend(reply::committed(answer, call.len())?);
            }
            Ok(outcomes)
        })
    }

    fn outbox(&mut self, partitions: &[TopicPartition]) -> Result<Vec<(Bucket, OutboxKey)>, StoreError> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let request = |bucket| {
            let mut cmd = ::redis::cmd("HKEYS");
            cmd.arg(BucketKeys::of(bucket).outbox());
            Request::plain(cmd)
        };
        let answers = self.connection.ask_all(self.buckets.all().map(request))?;
        let wanted: BTreeSet<&TopicPartition> = partitions.iter().collect();
        let mut found = Vec::new();
        for (bucket, answer) in self.buckets.all().zip(answers) {
            let keys = reply::outbox_keys(answer)?.into_iter();
            found.extend(keys.filter(|key| wanted.contains(&key.partition)).map(|key| (bucket, key)));
        }
        found.sort_unstable();
        Ok(found)
    }

    fn outbox_entry(&mut self, bucket: Bucket, key: &OutboxKey) -> Result<Option<Vec<u8>>, StoreError> {
        let mut cmd = ::redis::cmd("HGET");
        cmd.arg(BucketKeys::of(bucket).outbox()).arg(key.to_string());
        reply::optional_text(self.connection.ask(Request::plain(cmd))?)
    }

    fn clear_outbox(&mut self, published: &[(Bucket, OutboxKey)]) -> Result<(), StoreError> {
        let mut by_bucket: BTreeMap<Bucket, Vec<String>> = BTreeMap::new();
        for (bucket, key) in published {
            by_bucket.entry(*bucket).or_default().push(key.to_string());
        }
        let request = |(bucket, fields): (Bucket, Vec<String>)| {
            let mut cmd = ::redis::cmd("HDEL");
            cmd.arg(BucketKeys::of(bucket).outbox()).arg(fields);
            Request::plain(cmd)
        };
        self.connection.ask_all(by_bucket.into_iter().map(request))?;
        Ok(())
    }

    fn processed(&mut self, partitions: &[TopicPartition]) -> Result<Vec<Vec<OffsetRange>>, StoreError> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let mut cmd = ::redis::cmd("HMGET");
        cmd.arg(SOURCES);
        for partition in partitions {
            cmd.arg(partition.to_string());
        }
        let found = reply::optional_texts(self.connection.ask(Request::plain(cmd))?)?;
        found.iter().map(|text| reply::ranges(text.as_deref().unwrap_or_default())).collect()
    }

    fn add_processed(&mut self, ranges: &[(TopicPartition, OffsetRange)]) -> Result<(), StoreError> {
        let mut request = Request::call(&self.scripts.add_processed, 1);
        request.cmd.arg(SOURCES);
        let mut some = false;
        for (partition, range) in ranges.iter().filter(|(_, range)| range.from < range.until) {
            request.cmd.arg(partition.to_string()).arg(range.from).arg(range.until);
            some = true;
        }
        if some {
            self.connection.ask(request)?;
        }
        Ok(())
    }

    fn sources(&mut self, topic: &TopicName) -> Result<Vec<(TopicPartition, Vec<OffsetRange>)>, StoreError> {
        let mut cmd = ::redis::cmd("HKEYS");
        cmd.arg(SOURCES);
        let fields = reply::texts(self.connection.ask(Request::plain(cmd))?)?;
        let known = fields.iter().filter_map(|field| TopicPartition::parse(field));
        let mut partitions: Vec<TopicPartition> = known.filter(|known| known.topic == *topic).collect();
        partitions.sort_unstable();
        let ranges = self.processed(&partitions)?;
        Ok(partitions.into_iter().zip(ranges).collect())
    }

    fn forget_processed(&mut self, partitions: &[TopicPartition]) -> Result<(), StoreError> {
        if partitions.is_empty() {
            return Ok(());
        }
        let mut cmd = ::redis::cmd("HDEL");
        cmd.arg(SOURCES);
        for partition in partitions {
            cmd.arg(partition.to_string());
        }
        self.connection.ask(Request::plain(cmd))?;
        Ok(())
    }

    fn lease(&mut self, wanted: &LeaseRequest) -> Result<Lease, StoreError> {
        self.lease_points(wanted)
    }

    fn end_lease(&mut self, campaign: &CampaignId, lease: LeaseId) -> Result<(), StoreError> {
        self.end(campaign, &lease.to_string())
    }

    fn claim_due(
        &mut self,
        buckets: &[Bucket],
        most: usize,
        hold: Duration,
    ) -> Result<super::Claimed, StoreError> {
        let Self { connection, scripts, .. } = self;
        let request = |bucket: &Bucket| scripts.claim_due(*bucket, most, hold);
        let answers = connection.ask_all(buckets.iter().map(request))?;
        let mut claimed = super::Claimed { now: 0, members: Vec::with_capacity(buckets.len()) };
        for answer in answers {
            let (now, members) = reply::due(answer)?;
            // Nodes of a cluster have clocks of their own: by the earliest nothing is due too early.
            claimed.now = if claimed.members.is_empty() { now } else { claimed.now.min(now) };
            claimed.members.push(members);
        }
        Ok(claimed)
    }

    fn set_due(&mut self, due: &[(Bucket, DueAt)]) -> Result<(), StoreError> {
        let request = |(bucket, due): &(Bucket, DueAt)| {
            let mut cmd = ::redis::cmd(if due.at.is_some() { "ZADD" } else { "ZREM" });
            cmd.arg(BucketKeys::of(*bucket).due());
            if let Some(at) = due.at {
                cmd.arg(at);
            }
            cmd.arg(due.member.as_str());
            Request::plain(cmd)
        };
        self.connection.ask_all(due.iter().map(request))?;
        Ok(())
    }

    fn due_of(&mut self, wanted: &[(Bucket, Vec<MemberId>)]) -> Result<Vec<Vec<Option<i64>>>, StoreError> {
        let asked = wanted.iter().filter(|(_, members)| !members.is_empty());
        let request = |(bucket, members): &(Bucket, Vec<MemberId>)| {
            let mut cmd = ::redis::cmd("ZMSCORE");
            cmd.arg(BucketKeys::of(*bucket).due());
            for member in members {
                cmd.arg(member.as_str());
            }
            Request::plain(cmd)
        };
        let mut answers = self.connection.ask_all(asked.map(request))?.into_iter();
        let of_bucket = |(_, members): &(Bucket, Vec<MemberId>)| {
            if members.is_empty() {
                return Ok(Vec::new());
            }
            reply::moments(answers.next().unwrap_or(Value::Nil))
        };
        wanted.iter().map(of_bucket).collect()
    }

    fn each_member(
        &mut self,
        buckets: &[Bucket],
        take: &mut dyn FnMut(Bucket, MemberId),
    ) -> Result<(), StoreError> {
        match self.connection.target() {
            Target::Single(_) | Target::Sentinels(_) => {
                self.scan_accounts("*", None, &mut |bucket, member| {
                    if buckets.contains(&bucket) {
                        take(bucket, member);
                    }
                })
            }
            // Each bucket by itself, on the node that has it.
            Target::Cluster { .. } => buckets.iter().try_for_each(|bucket| {
                self.scan_accounts(&bucket.0.to_string(), Some(*bucket), &mut |of, member| {
                    if of == *bucket {
                        take(of, member);
                    }
                })
            }),
        }
    }

    fn spent(&mut self, campaign: &CampaignId) -> Result<Spent, StoreError> {
        self.spent_points(campaign)
    }

    fn check_deployment(&mut self, wanted: &Deployment) -> Result<Deployment, StoreError> {
        self.check_eviction()?;
        rights::check(self.connection.ask(rights::request())?)?;
        let mut request = Request::call(&self.scripts.check_deployment, 1);
        let window = self.claim.window;
        request.cmd.arg(DEPLOYMENT).arg("buckets").arg(wanted.buckets);
        request.cmd.arg("programme").arg(&wanted.programme).arg("timezone").arg(&wanted.timezone);
        request.cmd.arg("dedupe_window_seconds").arg(window);
        let refunds = self.claim.long.saturating_mul(window);
        request.cmd.arg("refunds_window_seconds").arg(refunds);
        let known = reply::texts(self.connection.ask(request)?)?;
        let damaged = || StoreError::Broken(format!("{DEPLOYMENT} is damaged: {known:?}"));
        let [buckets, programme, timezone, known_window, known_refunds] = known.as_slice() else {
            return Err(damaged());
        };
        // Receipts are found by the number of windows since 1970: counted by another window, every
        // receipt would be looked for in a place where it is not.
        if known_window.parse() != Ok(window) {
            return Err(StoreError::Broken(format!(
                "dedupe.window was {known_window} s when this deployment began and is {window} s now; another window \
                 forgets every receipt: set it back, or, where no event of that time can be repeated any more, \
                 accept it with `HSET {DEPLOYMENT} dedupe_window_seconds {window}`"
            )));
        }
        if known_refunds.parse() != Ok(refunds) {
            return Err(StoreError::Broken(format!(
                "refunds.window was {known_refunds} s when this deployment began and is {refunds} s now (it is a whole number \
                 of dedupe.windows); another one forgets which orders were paid: set it back, or, where no order of that \
                 time can be refunded or repeated any more, accept it with \
                 `HSET {DEPLOYMENT} refunds_window_seconds {refunds}`"
            )));
        }
        let buckets = buckets.parse().map_err(|_| damaged())?;
        Ok(Deployment { buckets, programme: programme.clone(), timezone: timezone.clone() })
    }

    fn find_events(
        &mut self,
        buckets: &[Bucket],
        id: &str,
        deadline: Instant,
    ) -> Result<Vec<(EventId, Receipt)>, StoreError> {
        if let Some(bucket) = buckets.first() {
            // Learns which generation is the current one.
            let any =
                LoadBucket { bucket: *bucket, members: Vec::new(), receipts: vec!["".into()], outbox: false };
            self.load(&[any])?;
        }
        let mut found = BTreeMap::new();
        for bucket in buckets {
            for key in BucketKeys::of(*bucket).receipts(self.claim) {
                let mut cursor = "0".to_owned();
                loop {
                    if Instant::now() >= deadline {
                        let so_many = buckets.len();
                        return Err(StoreError::Away(format!(
                            "looking through the receipts of {so_many} buckets takes too long; name the event's source"
                        )));
                    }
                    let answer = self.connection.ask(requests::find_event(&key, &cursor, id))?;
                    let (next, receipts) = reply::scanned(answer)?;
                    let events =
                        receipts.into_iter().filter_map(|(key, receipt)| Some((event_of(&key)?, receipt)));
                    found.extend(events.filter(|(event, _)| &*event.id == id));
                    cursor = next;
                    if cursor == "0" {
                        break;
                    }
                }
            }
        }
        Ok(found.into_iter().collect())
    }

    fn locate(&mut self) -> Result<Vec<Located>, StoreError> {
        let buckets: Vec<Bucket> = self.buckets.all().collect();
        self.located(&buckets)
    }

    fn adopt(&mut self, located: &[Located]) -> bool {
        let before = self.adopted.clone();
        self.adopted.extend(located.iter().map(|located| (located.bucket, located.server.clone())));
        before != self.adopted
    }

    fn confirm(&mut self, located: &[Located]) -> Result<bool, StoreError> {
        let Self { connection, scripts, .. } = self;
        let answers = connection.ask_all(located.iter().map(|located| scripts.confirm(located)))?;
        Ok(answers.iter().all(|answer| *answer == Value::Int(1)))
    }

    fn is_unmoved(&mut self, buckets: &[Bucket]) -> Result<bool, StoreError> {
        // All buckets of a server move together.
        let most = match self.connection.target() {
            Target::Single(_) | Target::Sentinels(_) => 1,
            Target::Cluster { .. } => buckets.len(),
        };
        let located = self.located(buckets.get(..most).unwrap_or(buckets))?;
        Ok(located.iter().all(|located| self.adopted.get(&located.bucket) == Some(&located.server)))
    }

    fn restore(&mut self, buckets: &[RestoreBucket]) -> Result<Option<Restored>, StoreError> {
        let Self { connection, scripts, claim, .. } = self;
        let restored = claiming(claim, buckets, |open, claim| {
            let answers = connection.ask_all(open.iter().map(|wanted| scripts.restore(wanted, claim)))?;
            answers.into_iter().map(|answer| Claimed::read(answer, reply::restored)).collect()
        })?;
        Ok(restored.into_iter().collect::<Option<Vec<Restored>>>().map(|each| {
            let mut sum = Restored::default();
            each.into_iter().for_each(|restored| sum += restored);
            sum
        }))
    }

    fn probe(&mut self) -> Result<(), StoreError> {
        let request = |key: &str| {
            let mut cmd = ::redis::cmd("SET");
            cmd.arg(key).arg(1).arg("EX").arg(60);
            Request::plain(cmd)
        };
        let requests = match self.connection.target() {
            Target::Single(_) | Target::Sentinels(_) => vec![request(PROBE)],
            // Each bucket may lie on another node.
            Target::Cluster { .. } => {
                self.buckets.all().map(|bucket| request(BucketKeys::of(bucket).probe())).collect()
            }
        };
        self.connection.ask_all(requests)?;
        Ok(())
    }
}
