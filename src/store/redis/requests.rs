//! Writes the calls for a bucket: which keys, and which arguments in which order.

use std::fmt::Write as _;
use std::sync::Arc;

use redis::{Cmd, Script};

use super::connection::Request;
use super::reply::receipt_text;
use crate::store::{CommitBucket, LoadBucket};
use crate::types::Bucket;

/// The scripts, each known to Redis by its hash.
pub(super) struct Scripts {
    pub(super) commit: Arc<Script>,
    pub(super) load: Arc<Script>,
    pub(super) add_processed: Arc<Script>,
    pub(super) check_deployment: Arc<Script>,
}

impl Scripts {
    pub(super) fn new() -> Self {
        let script = |text: &str| Arc::new(Script::new(text));
        Self {
            commit: script(concat!(include_str!("generation.lua"), include_str!("commit.lua"))),
            load: script(concat!(include_str!("generation.lua"), include_str!("load.lua"))),
            add_processed: script(include_str!("add_processed.lua")),
            check_deployment: script(include_str!("check_deployment.lua")),
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
}

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

    pub(super) fn probe(&mut self) -> &str {
        self.with(format_args!("probe"))
    }

    fn account(&mut self, member: &str) -> &str {
        self.buffer.truncate(self.prefix);
        self.buffer.push_str("account:");
        self.buffer.push_str(member);
        &self.buffer
    }

    /// The generation before the claimed one, the claimed one, and the one after.
    fn add_generations(&mut self, cmd: &mut Cmd, claim: Claim) {
        let current = claim.generation;
        for generation in [current.saturating_sub(1), current, current.saturating_add(1)] {
            cmd.arg(self.with(format_args!("receipts:{generation}")));
        }
    }

    fn with(&mut self, rest: std::fmt::Arguments<'_>) -> &str {
        self.buffer.truncate(self.prefix);
        // Writing to a string does not fail.
        let _always_written = self.buffer.write_fmt(rest);
        &self.buffer
    }
}

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
        let mut request = Request::call(&self.load, 4 + wanted.members.len());
        let cmd = &mut request.cmd;
        cmd.arg(keys.outbox());
        keys.add_generations(cmd, claim);
        for member in &wanted.members {
            cmd.arg(keys.account(member.as_str()));
        }
        cmd.arg(claim.window).arg(claim.generation);
        for key in &wanted.receipts {
            cmd.arg(&**key);
        }
        request
    }

    /// Commits a bucket: see `commit.lua`.
    pub(super) fn commit(&self, wanted: &CommitBucket, claim: Claim) -> Request {
        let mut keys = BucketKeys::of(wanted.bucket);
        let generations = if wanted.receipts.is_empty() { 0 } else { 3 };
        let mut request = Request::call(&self.commit, 1 + generations + wanted.accounts.len());
        let cmd = &mut request.cmd;
        cmd.arg(keys.outbox());
        if generations > 0 {
            keys.add_generations(cmd, claim);
        }
        for write in &wanted.accounts {
            cmd.arg(keys.account(write.member.as_str()));
        }
        cmd.arg(claim.window).arg(claim.generation);
        cmd.arg(wanted.published.len()).arg(wanted.receipts.len()).arg(wanted.outbox.len());
        for key in &wanted.published {
            cmd.arg(key.to_string());
        }
        for (key, _) in &wanted.receipts {
            cmd.arg(&**key);
        }
        for (_, receipt) in &wanted.receipts {
            cmd.arg(receipt_text(receipt));
        }
        for (key, blob) in &wanted.outbox {
            cmd.arg(key.to_string()).arg(blob.as_slice());
        }
        for write in &wanted.accounts {
            let version = if write.expected == 0 {
                String::new()
            } else {
                crate::store::version_prefix(write.expected)
            };
            cmd.arg(version).arg(write.json.as_slice());
        }
        request
    }
}
