//! Refunds that came before their order: topics are read side by side.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::deed::Refund;

/// So many refunds wait in an account at most; one more is a dead letter.
pub const MOST_WAITING: usize = 8;

/// A refund that waits for its order.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct WaitingRefund {
    /// The refund.
    #[serde(flatten)]
    pub refund: Refund,
    /// The source of its event.
    pub source: Box<str>,
    /// The id of its event.
    pub id: Box<str>,
    /// When it happened, as upstream wrote it (RFC 3339).
    pub time: Box<str>,
    /// Until when it waits, in seconds since 1970. Then it is a dead letter.
    pub until: i64,
}
