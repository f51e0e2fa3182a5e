//! Tells a repeat from a new event, by the receipts that the worker keeps in its store: the event's own,
//! and that of its business key (an order, a review). A scenario keeps them to its end; the store forgets
//! them some time after `dedupe.window`, by its own clock.

use std::collections::HashMap;

use crate::event::{Event, Reason, Rejected};
use crate::store::ReceiptKey;

/// The receipts of a scenario's events that counted.
#[derive(Debug, Default)]
pub(super) struct Receipts {
    kept: HashMap<ReceiptKey, Receipt>,
}

#[derive(Clone, Copy, Debug)]
struct Receipt {
    step: usize,
    fingerprint: u64,
}

impl Receipts {
    /// The step that the event repeats, if it repeats one.
    ///
    /// # Errors
    /// `conflicting_duplicate` where the event has the id of another one.
    pub(super) fn find(&self, event: &Event) -> Result<Option<usize>, Rejected> {
        if let Some(receipt) = self.kept.get(&event.receipt_key) {
            if receipt.fingerprint == event.fingerprint {
                return Ok(Some(receipt.step));
            }
            let detail = format!("step {} has the same id and other data", receipt.step);
            return Err(Rejected::new(Reason::ConflictingDuplicate, detail));
        }
        let business = event.business_key.as_ref().and_then(|key| self.kept.get(key));
        Ok(business.map(|receipt| receipt.step))
    }

    /// Whether this was paid, which is paid once ever.
    pub(super) fn has(&self, once: &ReceiptKey) -> bool {
        self.kept.contains_key(once)
    }

    /// The event of this step has counted, and paid what is paid once ever.
    pub(super) fn keep(&mut self, event: &Event, once: &[ReceiptKey], step: usize) {
        let receipt = Receipt { step, fingerprint: event.fingerprint };
        for key in event.business_key.iter().chain([&event.receipt_key]).chain(once) {
            self.kept.insert(key.clone(), receipt);
        }
    }
}
