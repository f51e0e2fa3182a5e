//! What the demo shows in the end: the worker's metrics, the accounts, and whether both are what the
//! shop sent.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;

use super::shop::SentCounts;
use crate::account::Account;
use crate::commands::progress::{a_second, grouped};
use crate::commands::summary::{Summary, row, shown, table};
use crate::metrics::EventResult;
use crate::programme::Programme;
use crate::store::memory::MemoryStore;
use crate::types::MemberId;

/// What came of the shop's traffic.
pub(super) struct Report {
    sent: SentCounts,
    summary: Summary,
    accounts: Accounts,
    lanes: usize,
    took: Duration,
}

/// What the store holds.
struct Accounts {
    number: u64,
    /// Points that all members have together.
    points: i64,
    /// Members by level, from the first.
    tiers: Vec<(String, u64)>,
    /// Somebody to look at: whoever has most.
    richest: Option<Richest>,
}

/// A member, with the latest event that is kept of them.
struct Richest {
    points: i64,
    member: MemberId,
    event: Option<String>,
}

impl Accounts {
    fn of(store: &MemoryStore, programme: &Programme) -> anyhow::Result<Self> {
        let levels = programme.tiers.iter().flat_map(|tiers| &tiers.levels);
        let mut accounts = Self {
            number: 0,
            points: 0,
            tiers: levels.map(|level| (level.id.to_string(), 0)).collect(),
            richest: None,
        };
        for (member, json) in store.accounts() {
            let account = Account::from_json(&json).with_context(|| format!("the account of {member}"))?;
            let points = account.available.0 + account.pending.0;
            accounts.number += 1;
            accounts.points += points;
            // Until it first changes, a member has the first level.
            let tier = account.tier.as_ref().map(|tier| tier.id.as_str());
            let level = accounts.tiers.iter_mut().find(|(id, _)| tier.is_none_or(|tier| tier == id));
            if let Some((_, members)) = level {
                *members += 1;
            }
            if accounts.richest.as_ref().is_none_or(|richest| points > richest.points) {
                let last = account.history.entries().pop().flatten();
                let event = last.and_then(|last| Some(last.event.split_once(' ')?.1.to_owned()));
                accounts.richest = Some(Richest { points, member, event });
            }
        }
        Ok(accounts)
    }
}

impl Report {
    pub(super) fn new(
        sent: SentCounts,
        summary: Summary,
        store: &MemoryStore,
        programme: &Programme,
        lanes: usize,
        took: Duration,
    ) -> anyhow::Result<Self> {
        Ok(Self { sent, summary, accounts: Accounts::of(store, programme)?, lanes, took })
    }

    /// Whether every event counted just once and every point is on an account.
    pub(super) fn is_right(&self) -> bool {
        self.checks().iter().all(|(_, sent, counted)| sent == counted)
    }

    /// What must be equal: its name, what the shop or the ledger says, what the worker or the accounts say.
    fn checks(&self) -> [(&'static str, u64, u64); 4] {
        let counted = |result| self.summary.with(result);
        [
            ("new events sent, and counted", self.sent.fresh, counted(EventResult::Applied)),
            ("repeats sent, and dropped", self.sent.repeats, counted(EventResult::Duplicate)),
            ("broken records sent, and dead letters", self.sent.broken, counted(EventResult::DeadLetter)),
            (
                "points earned, and on accounts",
                self.summary.earned(),
                u64::try_from(self.accounts.points).unwrap_or_default(),
            ),
        ]
    }

    /// Says what can be looked at while the demo stays up.
    pub(super) fn invite(&self, http: &SocketAddr, brokers: &str) {
        println!("Still up, for you to look around (^C ends it):\n");
        if let Some(Richest { member, event, .. }) = &self.accounts.richest {
            println!("  curl http://{http}/v1/accounts/{member}");
            if let Some(event) = event {
                println!("  curl http://{http}/v1/accounts/{member}/explain/{event}");
            }
        }
        println!("  curl -s http://{http}/metrics | grep ^accrual_");
        println!("  kcat -b {brokers} -t accrual.awards -C -o -5 -e");
        println!("  kcat -b {brokers} -t accrual.dead-letters -C -o -1 -e -f '%h\\n%s\\n'");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} records in {}, {} a second, by {} lanes\n",
            grouped(self.sent.all()),
            shown(self.took),
            a_second(self.sent.all(), self.took),
            self.lanes,
        )?;
        writeln!(f, "{}", self.summary)?;
        let mut tiers = table(&["tier".to_owned(), "members".to_owned()]);
        for (tier, members) in &self.accounts.tiers {
            row(&mut tiers, tier, [*members]);
        }
        row(&mut tiers, "all", [self.accounts.number]);
        writeln!(f, "{tiers}\n")?;
        for (what, sent, counted) in self.checks() {
            let mark = if sent == counted { "ok   " } else { "WRONG" };
            writeln!(f, "{mark} {what}: {} and {}", grouped(sent), grouped(counted))?;
        }
        Ok(())
    }
}
