//! Which receipts the store must have by what the ledger says, and what they must say.

use std::time::Duration;

use crate::ledger::Published;
use crate::store::{Receipt, ReceiptKey, event_key, is_business, never_expires};

/// How long receipts are certainly there, counted from when what they are of was published.
#[derive(Clone, Copy, Debug)]
pub struct Windows {
    /// Those of events.
    pub dedupe: Duration,
    /// Those of business keys.
    pub refunds: Duration,
    /// The time, in milliseconds since 1970.
    pub now_ms: i64,
}

impl Windows {
    /// Whether a receipt of what was published then is certainly there. It was written somewhat before: what lies in the last
    /// tenth of the window is not asked for.
    fn has(&self, key: &str, ms: Option<i64>) -> bool {
        if never_expires(key) {
            return true;
        }
        let window = if is_business(key) { self.refunds } else { self.dedupe };
        let sure = i64::try_from(window.as_millis() / 10 * 9).unwrap_or(i64::MAX);
        ms.is_some_and(|ms| self.now_ms.saturating_sub(ms) < sure)
    }

    /// The receipts that an event's first change says were written, those that must be there still.
    pub fn receipts(&self, published: &Published, ms: Option<i64>) -> Option<Vec<(ReceiptKey, Receipt)>> {
        let Some(receipts) = &published.receipts else { return Some(Vec::new()) };
        let mut expected = vec![(event_key(&published.event), receipts.of_event()?)];
        expected.extend(receipts.others()?);
        expected.retain(|(key, _)| self.has(key, ms));
        Some(expected)
    }
}

/// Whether a receipt is the one that is expected. A record may have been written by another release: what it says counts.
pub(super) fn is_same(expected: &Receipt, found: &Receipt) -> bool {
    let json = |receipt: &Receipt| -> Option<serde_json::Value> {
        receipt.record.as_deref().and_then(|record| serde_json::from_str(record).ok())
    };
    expected == found
        || expected.at == found.at
            && expected.fingerprint == found.fingerprint
            && json(expected) == json(found)
            && json(found).is_some()
}

/// A receipt as it is named to who reads of a difference.
pub(super) fn says(receipt: Option<&Receipt>) -> String {
    let Some(Receipt { at, fingerprint, record }) = receipt else { return "none".to_owned() };
    let record = record.as_deref().map(|record| format!(", {record}")).unwrap_or_default();
    super::shortened(&format!("{at}, hash {fingerprint:016x}{record}"))
}
