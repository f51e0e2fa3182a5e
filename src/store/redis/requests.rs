//! Writes the calls for a bucket: which keys, and which arguments in which order.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, Script};

use super::budgets::{RETURNED, granted_field};
use super::connection::Request;
use super::reply::receipt_text;
use crate::store::{CommitBucket, LoadBucket, Located, RestoreBucket, is_business, never_expires};
use crate::types::{Bucket, MemberId};

/// The scripts, each known to Redis by its hash.
pub(super) struct Scripts {
    pub(super) commit: Arc<Script>,
    pub(super) load: Arc<Script>,
    pub(super) add_processed: Arc<Script>,
    pub(super) check_deployment: Arc<Script>,
    pub(super) lease: Arc<Script>,
    pub(super) settle: Arc<Script>,
    pub(super) claim_due: Arc<Script>,
    pub(super) locate: Arc<Script>,
    pub(super) confirm: Arc<Script>,
    pub(super) restore: Arc<Script>,
}

impl Scripts {
    pub(super) fn new() -> Self {
        let script = |text: &str| Arc::new(Script::new(text));
        Self {
            commit: script(concat!(
                include_str!("generation.lua"),
                include_str!("server.lua"),
                include_str!("commit.lua")
            )),
            load: script(concat!(include_str!("generation.lua"), include_str!("load.lua"))),
            add_processed: script(include_str!("add_processed.lua")),
            check_deployment: script(include_str!("check_deployment.lua")),
            lease: script(include_str!("lease.lua")),
            settle: script(include_str!("settle.lua")),
            claim_due: script(include_str!("claim_due.lua")),
            locate: script(concat!(include_str!("server.lua"), include_str!("locate.lua"))),
            confirm: script(concat!(include_str!("server.lua"), include_str!("confirm.lua"))),
            restore: script(concat!(
                include_str!("generation.lua"),
                include_str!("server.lua"),
                include_str!("restore.lua")
            )),
        }
    }
}

/// A generation of receipts that a call claims to be the current one.
#[derive(Clone, Copy)]
pub(super) struct Claim {
    /// How long a generation lasts, in seconds.
    pub(super) window: u64,
    /// Its number by Redis' clock.
    pub(super) generation: u64,
    /// How many of them a long generation has, which receipts of business keys are kept by.
    pub(super) long: u64,
}

/// A deadline in milliseconds since 1970 that no clock comes to, and that a Lua number holds exactly.
const NO_DEADLINE: u64 = 1 << 53;

/// How many keys [`BucketKeys::add_receipts`] adds.
const RECEIPTS: usize = 6;

/// The keys of one bucket. The bucket in braces is the hash tag: all of them lie in one slot.
pub(super) struct BucketKeys {
    buffer: String,
    prefix: usize,
}

impl BucketKeys {
    pub(super) fn of(bucket: Bucket) -> Self {
        let buffer = format!("accrual:{{{}}}:", bucket.0);
        Self { prefix: buffer.len(), buffer }
    }

    pub(super) fn outbox(&mut self) -> &str {
        self.with(format_args!("outbox"))
    }

    pub(super) fn granted(&mut self) -> &str {
        self.with(format_args!("granted"))
    }

    pub(super) fn due(&mut self) -> &str {
        self.with(format_args!("due"))
    }

    fn confirmation(&mut self) -> &str {
        self.with(format_args!("server"))
    }

    pub(super) fn probe(&mut self) -> &str {
        self.with(format_args!("probe"))
    }

    fn account(&mut self, member: &str) -> &str {
        self.buffer.truncate(self.prefix);
        self.buffer.push_str(ACCOUNT);
        self.buffer.push_str(member);
        &self.buffer
    }

    /// The hashes of receipts: of the generation before the claimed one, of the claimed one and of the one
    /// after, of those that never expire, and of business keys of the long generation before and of this one.
    fn add_receipts(&mut self, cmd: &mut Cmd, claim: Claim) {
        for generation in generations(claim) {
            cmd.arg(self.with(format_args!("receipts:{generation}")));
        }
        cmd.arg(self.with(format_args!("receipts")));
        let long = claim.generation / claim.long;
        for generation in [long.saturating_sub(1), long] {
            cmd.arg(self.with(format_args!("business:{generation}")));
        }
    }

    /// The hashes of receipts that expire.
    pub(super) fn receipts(&mut self, claim: Claim) -> [String; 3] {
        generations(claim).map(|generation| self.with(format_args!("receipts:{generation}")).to_owned())
    }

    fn with(&mut self, rest: std::fmt::Arguments<'_>) -> &str {
        self.buffer.truncate(self.prefix);
        // Writing to a string does not fail.
        let _always_written = self.buffer.write_fmt(rest);
        &self.buffer
    }
}

/// The generations that are looked at.
fn generations(claim: Claim) -> [u64; 3] {
    let current = claim.generation;
    [current.saturating_sub(1), current, current.saturating_add(1)]
}

/// How many arguments the commit of a bucket has at most beside its keys, and how many bytes with them, roughly.
pub(super) fn room(wanted: &CommitBucket) -> (usize, usize) {
    const FEW: usize = 16;
    const A_KEY: usize = 96;
    let arguments = FEW
        + wanted.published.len()
        + 2 * (wanted.receipts.len() + wanted.outbox.len() + wanted.accounts.len() + wanted.due.len())
        + 3 * wanted.grants.len();
    let accounts: usize = wanted.accounts.iter().map(|write| write.json.len()).sum();
    let outbox: usize = wanted.outbox.iter().map(|(_, blob)| blob.len()).sum();
    (arguments, accounts + outbox + A_KEY * (arguments + wanted.accounts.len()))
}

/// Looks for an event among some of the receipts in a hash, from a cursor on.
pub(super) fn find_event(key: &str, cursor: &str, id: &str) -> Request {
    let mut pattern = "e * ".to_owned();
    for character in id.chars() {
        if "*?[]^-\\".contains(character) {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    let mut cmd = redis::cmd("HSCAN");
    cmd.arg(key).arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(RECEIPTS_A_LOOK);
    Request::plain(cmd)
}

/// Looks for accounts among some of the keys, from a cursor on. `*` stands for every bucket.
pub(super) fn scan_accounts(bucket: &str, cursor: &str, on_node_of: Option<Bucket>) -> Request {
    let mut cmd = redis::cmd("SCAN");
    let pattern = format!("accrual:{{{bucket}}}:{ACCOUNT}*");
    cmd.arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(KEYS_A_LOOK);
    let tag = on_node_of.map(|bucket| bucket.0.to_string());
    Request {
        on_node_of: tag.map(|tag| crc16::State::<crc16::XMODEM>::calculate(tag.as_bytes()) % SLOTS),
        ..Request::plain(cmd)
    }
}

/// Whose account lies at a key.
pub(super) fn account_of(key: &str) -> Option<(Bucket, MemberId)> {
    let (bucket, rest) = key.strip_prefix("accrual:{")?.split_once("}:")?;
    Some((Bucket(bucket.parse().ok()?), rest.strip_prefix(ACCOUNT)?.into()))
}

/// What stands between a bucket and a member in the key of an account.
const ACCOUNT: &str = "account:";
/// Slots of a cluster.
const SLOTS: u16 = 16_384;
/// Some tenths of a millisecond of Redis' time.
const KEYS_A_LOOK: u32 = 1_000;
/// Some tenths of a millisecond of Redis' time.
const RECEIPTS_A_LOOK: u32 = 1_000;

impl Scripts {
    /// Reads a bucket: see `load.lua`. Where no receipts are asked for, accounts alone are read.
    pub(super) fn load(&self, wanted: &LoadBucket, claim: Claim) -> Request {
        let mut keys = BucketKeys::of(wanted.bucket);
        if wanted.receipts.is_empty() {
            let mut cmd = redis::cmd("MGET");
            for member in &wanted.members {
                cmd.arg(keys.account(member.as_str()));
            }
            return Request::plain(cmd);
        }
        let mut request = Request::call(&self.load, 1 + RECEIPTS + wanted.members.len());
        let cmd = &mut request.cmd;
        cmd.arg(keys.outbox());
        keys.add_receipts(cmd, claim);
        for member in &wanted.members {
            cmd.arg(keys.account(member.as_str()));
        }
        cmd.arg(claim.window).arg(claim.generation).arg(u8::from(wanted.outbox));
        for key in &wanted.receipts {
            cmd.arg(&**key);
        }
        request
    }

    /// Takes what has fallen due in a bucket: see `claim_due.lua`.
    pub(super) fn claim_due(&self, bucket: Bucket, most: usize, hold: Duration) -> Request {
        let mut request = Request::call(&self.claim_due, 1);
        request.cmd.arg(BucketKeys::of(bucket).due()).arg(most).arg(hold.as_secs());
        request
    }

    /// Asks where a bucket is: see `locate.lua`.
    pub(super) fn locate(&self, bucket: Bucket) -> Request {
        let mut request = Request::call(&self.locate, 1);
        request.cmd.arg(BucketKeys::of(bucket).confirmation());
        request
    }

    /// Writes down that a bucket is whole where it is: see `confirm.lua`.
    pub(super) fn confirm(&self, located: &Located) -> Request {
        let mut request = Request::call(&self.confirm, 1);
        request.cmd.arg(BucketKeys::of(located.bucket).confirmation()).arg(located.server.as_str());
        request
    }

    /// Has a bucket hold what it lacks: see `restore.lua`.
    pub(super) fn restore(&self, wanted: &RestoreBucket, claim: Claim) -> Request {
        let mut keys = BucketKeys::of(wanted.bucket);
        let mut request = Request::call(&self.restore, RECEIPTS + 2 + wanted.accounts.len());
        let cmd = &mut request.cmd;
        keys.add_receipts(cmd, claim);
        cmd.arg(keys.granted());
        cmd.arg(keys.due());
        for account in &wanted.accounts {
            cmd.arg(keys.account(account.member.as_str()));
        }
        cmd.arg(claim.window).arg(claim.generation).arg(claim.long).arg(wanted.server.as_str());
        cmd.arg(wanted.events.len());
        for event in &wanted.events {
            cmd.arg(&*event.key).arg(receipt_text(&event.receipt)).arg(event.others.len());
            for (key, receipt) in &event.others {
                let kind = match key {
                    key if never_expires(key) => "f",
                    _ if event.changed(receipt) => "r",
                    _ => "b",
                };
                cmd.arg(&**key).arg(receipt_text(receipt)).arg(kind);
            }
            cmd.arg(event.budgets.len());
            for (campaign, points) in &event.budgets {
                cmd.arg(granted_field(campaign, RETURNED)).arg(-points.0);
            }
        }
        for account in &wanted.accounts {
            cmd.arg(account.version).arg(account.json.as_slice());
            cmd.arg(account.due.map_or_else(String::new, |at| at.to_string()));
        }
        request
    }

    /// Commits buckets, each on the server that is named with it, in one call: see `commit.lua`.
    pub(super) fn commit(&self, together: &[(&CommitBucket, &str)], claim: Claim) -> Request {
        let keys: usize = together.iter().map(|(wanted, _)| keys_of(wanted)).sum();
        let (arguments, bytes) = together.iter().fold((0, 0), |(arguments, bytes), (wanted, _)| {
            let of_it = room(wanted);
            (arguments + of_it.0, bytes + of_it.1)
        });
        let mut request = Request::large_call(&self.commit, keys, keys + arguments, bytes);
        for (wanted, _) in together {
            add_keys(&mut request.cmd, wanted, claim);
        }
        for (wanted, server) in together {
            add_arguments(&mut request.cmd, wanted, server, claim);
        }
        request
    }
}

/// Whether any receipts are written with a bucket.
fn has_receipts(wanted: &CommitBucket) -> bool {
    !(wanted.receipts.is_empty() && wanted.records.is_empty())
}

/// Whether any budget is counted with a bucket.
fn has_grants(wanted: &CommitBucket) -> bool {
    !(wanted.grants.is_empty() && wanted.returned.is_empty())
}

/// How many keys [`add_keys`] adds.
fn keys_of(wanted: &CommitBucket) -> usize {
    let receipts = if has_receipts(wanted) { RECEIPTS } else { 0 };
    let (granted, due) = (usize::from(has_grants(wanted)), usize::from(!wanted.due.is_empty()));
    2 + receipts + granted + due + wanted.accounts.len()
}

fn add_keys(cmd: &mut Cmd, wanted: &CommitBucket, claim: Claim) {
    let mut keys = BucketKeys::of(wanted.bucket);
    cmd.arg(keys.outbox());
    cmd.arg(keys.confirmation());
    if has_receipts(wanted) {
        keys.add_receipts(cmd, claim);
    }
    if has_grants(wanted) {
        cmd.arg(keys.granted());
    }
    if !wanted.due.is_empty() {
        cmd.arg(keys.due());
    }
    for write in &wanted.accounts {
        cmd.arg(keys.account(write.member.as_str()));
    }
}

fn add_arguments(cmd: &mut Cmd, wanted: &CommitBucket, server: &str, claim: Claim) {
    cmd.arg(keys_of(wanted)).arg(claim.window).arg(claim.generation);
    let (mut forever, mut business, mut for_a_time) = (Vec::new(), Vec::new(), Vec::new());
    for receipt in &wanted.receipts {
        match &*receipt.0 {
            key if never_expires(key) => forever.push(receipt),
            key if is_business(key) => business.push(receipt),
            _ => for_a_time.push(receipt),
        }
    }
    let records: Vec<_> = wanted.records.iter().collect();
    cmd.arg(wanted.published.len()).arg(for_a_time.len()).arg(wanted.outbox.len()).arg(forever.len());
    cmd.arg(wanted.grants.len() + wanted.returned.len()).arg(wanted.due.len());
    cmd.arg(business.len()).arg(records.len()).arg(claim.long).arg(server);
    for grant in &wanted.grants {
        cmd.arg(granted_field(&grant.campaign, &grant.lease.to_string()));
        cmd.arg(grant.points.0).arg(grant.deadline);
    }
    for returned in &wanted.returned {
        cmd.arg(granted_field(&returned.campaign, RETURNED)).arg(returned.points.0).arg(NO_DEADLINE);
    }
    for due in &wanted.due {
        cmd.arg(due.member.as_str()).arg(due.at.map_or_else(String::new, |at| at.to_string()));
    }
    for key in &wanted.published {
        cmd.arg(key.to_string());
    }
    for receipts in [for_a_time, forever, business, records] {
        for (key, _) in &receipts {
            cmd.arg(&**key);
        }
        for (_, receipt) in &receipts {
            cmd.arg(receipt_text(receipt));
        }
    }
    for (key, blob) in &wanted.outbox {
        cmd.arg(key.to_string()).arg(blob.as_slice());
    }
    for write in &wanted.accounts {
        let version =
            if write.expected == 0 { String::new() } else { crate::store::version_prefix(write.expected) };
        cmd.arg(version).arg(&*write.json);
    }
}
