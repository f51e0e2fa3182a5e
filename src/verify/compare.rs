//! Whether an account in the store is the one that its ledger comes to, field by field.

use serde_json::Value;

use super::{Difference, Remedy, Trail, What, shortened};
use crate::account::{Account, FORMAT, History};
use crate::types::Points;

/// How an account in the store stands to its ledger.
pub(super) struct Compared {
    /// Fields that differ.
    pub(super) differences: Vec<Difference>,
    /// Whether it keeps more or less than settings say now, and that is all.
    pub(super) other_settings: bool,
}

/// An account as it was stored or published, without what tells versions of the worker apart: a newer one may keep in it what
/// no entry says to this one.
///
/// # Errors
/// Where it is none, or one that only a newer version may read.
pub(super) fn read_account(json: &[u8]) -> Result<Account, serde_json::Error> {
    Ok(known(Account::from_json(json)?))
}

/// The part of an account that this version of the worker knows.
pub(super) fn known(account: Account) -> Account {
    Account { format: FORMAT, needs: None, unknown: None, ..account }
}

/// Compares the account in the store with what the ledger comes to at its version. `unlimited` is what the ledger comes to
/// where nothing is forgotten.
pub(super) fn account(trail: &Trail, stored: &Account, unlimited: Option<&Account>) -> Compared {
    let mut compared = Compared { differences: Vec::new(), other_settings: false };
    let folded = &trail.account;
    if !trail.is_whole {
        // All that can be said where records are missing.
        if folded.chain != stored.chain {
            compared.differences.push(differs(
                trail,
                "chain",
                &Value::from(link(folded)),
                &Value::from(link(stored)),
            ));
        }
        return compared;
    }
    // What an edit had put into the account was taken back: the edit is in no ledger, what took it back is.
    let due = Points(folded.available.0.saturating_sub(trail.corrected.0));
    let is_corrected = trail.corrected != Points::ZERO && stored.available == due;
    let (left, right) = (as_json(folded), as_json(stored));
    let mut only_spendable = true;
    for field in left.keys().chain(right.keys().filter(|field| !left.contains_key(*field))) {
        let expected = left.get(field).unwrap_or(&Value::Null);
        let expected = if field == "available" { &Value::from(due.0) } else { expected };
        let found = right.get(field).unwrap_or(&Value::Null);
        let is_same =
            if field == "lots" && is_corrected { lots_are_the_balance(stored) } else { expected == found };
        if is_same {
            continue;
        }
        match field.as_str() {
            "history" if is_same_history(folded, stored) => continue,
            "history" if unlimited.is_some_and(|unlimited| is_tail(unlimited, stored)) => {
                compared.other_settings = true;
                continue;
            }
            "earned" | "activity"
                if unlimited.is_some_and(|unlimited| is_part(field, &as_json(unlimited), &right)) =>
            {
                compared.other_settings = true;
                continue;
            }
            _ => {}
        }
        compared.differences.push(differs(trail, field, expected, found));
        only_spendable &= matches!(field.as_str(), "available" | "lots");
    }
    // An adjustment takes points from lots: where the edit is not in them, it would take others'. And either or: made anew
    // from its ledger, an account has no more of what an adjustment would take back.
    let is_adjustable = only_spendable && lots_are_the_balance(stored);
    let wanted = Points(due.0.saturating_sub(stored.available.0));
    let remedy = match wanted {
        Points::ZERO => Remedy::Rebuild,
        wanted if is_adjustable => Remedy::Adjustment(wanted),
        _ => Remedy::Rebuild,
    };
    compared.differences.iter_mut().for_each(|difference| difference.remedy = Some(remedy));
    compared
}

/// Whether spendable lots make the balance.
fn lots_are_the_balance(account: &Account) -> bool {
    let sum = account.lots.iter().map(|lot| i128::from(lot.points.0)).sum::<i128>();
    sum == i128::from(account.available.0.max(0))
}

fn link(account: &Account) -> Option<String> {
    account.chain.map(|link| link.to_string())
}

fn differs(trail: &Trail, field: &str, expected: &Value, found: &Value) -> Difference {
    let says = |value: &Value| match value {
        Value::Null => format!("no {field}"),
        value => shortened(&format!("{field} {value}")),
    };
    let version = Some(trail.version());
    Difference::of(What::Account, trail.member(), version, says(expected), says(found))
}

fn as_json(account: &Account) -> serde_json::Map<String, Value> {
    match serde_json::to_value(account) {
        Ok(Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    }
}

/// Whether both histories say the same, however it was written.
fn is_same_history(folded: &Account, stored: &Account) -> bool {
    let stored = stored.history.entries();
    stored.iter().all(Option::is_some) && folded.history.entries() == stored
}

/// Whether a history is the end of one that forgets nothing.
fn is_tail(unlimited: &Account, stored: &Account) -> bool {
    let stored = stored.history.entries();
    stored.iter().all(Option::is_some) && unlimited.history.entries().ends_with(&stored)
}

/// Whether a field counts the same but for months that are forgotten.
fn is_part(
    field: &str,
    unlimited: &serde_json::Map<String, Value>,
    stored: &serde_json::Map<String, Value>,
) -> bool {
    let (Some(Value::Object(all)), Some(Value::Object(some))) = (unlimited.get(field), stored.get(field))
    else {
        return false;
    };
    let months = |fields: &serde_json::Map<String, Value>| {
        fields.get("months").and_then(Value::as_array).cloned().unwrap_or_default()
    };
    let (all_months, some_months) = (months(all), months(some));
    let others = |fields: &serde_json::Map<String, Value>| {
        let mut fields = fields.clone();
        fields.remove("months");
        fields
    };
    others(all) == others(some) && some_months.iter().all(|month| all_months.contains(month))
}

/// Whether a snapshot, as it was published, is this account. Text that is another may say the same.
pub(super) fn is_snapshot_of(account: &Account, snapshot: &Account) -> bool {
    account == snapshot
        || is_same_history(account, snapshot) && {
            let without = |account: &Account| Account { history: History::default(), ..account.clone() };
            without(account) == without(snapshot)
        }
}
