//! The receipts that an event left in the store, as the event's first change says them: so that the ledger alone can
//! bring back what keeps an event from counting twice, and what a refund or a cancellation asks for.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::store::{Receipt, ReceiptKey};
use crate::types::{CampaignId, Coordinates, Points};

/// What an event left in the store beside its change of the account.
// Borrowed where it is written: that is done with every event.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct LedgerReceipts<'a> {
    /// The record that the event came in: topic, partition, offset.
    #[schemars(extend("pattern" = "^.+/[0-9]+/[0-9]+$"))]
    at: Box<str>,
    /// The hash of its type and data, in hexadecimal.
    #[schemars(extend("pattern" = "^[0-9a-f]{16}$"))]
    fingerprint: Box<str>,
    /// What counts once beside the event itself: an order, what a rule pays once ever; and records that it changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    keys: Vec<Left<'a>>,
    /// Points that it took of budgets, and pieces of stocks; below zero where they came back.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub budgets: BTreeMap<CampaignId, Points>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
struct Left<'a> {
    key: Cow<'a, str>,
    /// What is to be known of it later, see `src/record.rs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    record: Option<Cow<'a, RawValue>>,
    /// Where the event came in that the record was made by, if that is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    at: Option<Box<str>>,
    /// The hash of that event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    fingerprint: Option<Box<str>>,
}

impl<'a> LedgerReceipts<'a> {
    /// Of an event with this receipt, which left those others and took this of budgets.
    pub fn new(
        event: &Receipt,
        left: impl Iterator<Item = (&'a ReceiptKey, &'a Receipt)>,
        budgets: BTreeMap<CampaignId, Points>,
    ) -> Self {
        let keys = left.map(|(key, receipt)| {
            let is_own = receipt.at == event.at && receipt.fingerprint == event.fingerprint;
            let record = receipt.record.as_deref().and_then(|record| serde_json::from_str(record).ok());
            Left {
                key: Cow::Borrowed(key),
                record: record.map(Cow::Borrowed),
                at: (!is_own).then(|| text_of(&receipt.at)),
                fingerprint: (!is_own).then(|| hex(receipt.fingerprint)),
            }
        });
        Self { at: text_of(&event.at), fingerprint: hex(event.fingerprint), keys: keys.collect(), budgets }
    }

    /// The receipt of the event itself; nothing where somebody else wrote something else.
    pub fn of_event(&self) -> Option<Receipt> {
        receipt(&self.at, &self.fingerprint, None)
    }

    /// The other receipts that it left; nothing where somebody else wrote something else.
    pub fn others(&self) -> Option<Vec<(ReceiptKey, Receipt)>> {
        let other = |left: &Left<'_>| {
            let at = left.at.as_ref().unwrap_or(&self.at);
            let fingerprint = left.fingerprint.as_ref().unwrap_or(&self.fingerprint);
            let record = left.record.as_ref().map(|record| record.get().into());
            Some((left.key.as_ref().into(), receipt(at, fingerprint, record)?))
        };
        self.keys.iter().map(other).collect()
    }
}

impl PartialEq for LedgerReceipts<'_> {
    fn eq(&self, other: &Self) -> bool {
        (self.of_event(), self.others(), &self.budgets) == (other.of_event(), other.others(), &other.budgets)
    }
}

fn receipt(at: &str, fingerprint: &str, record: Option<Box<str>>) -> Option<Receipt> {
    let fingerprint = u64::from_str_radix(fingerprint, 16).ok()?;
    Some(Receipt { at: Coordinates::parse(at)?, fingerprint, record })
}

fn text_of(at: &Coordinates) -> Box<str> {
    at.to_string().into_boxed_str()
}

fn hex(fingerprint: u64) -> Box<str> {
    format!("{fingerprint:016x}").into_boxed_str()
}
