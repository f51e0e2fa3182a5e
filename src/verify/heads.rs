//! Heads: the last link of each member's chain, written down and kept elsewhere. Whoever can rewrite all topics and the store
//! can rewrite the chains with them, but not what lies elsewhere.

use std::io::BufRead;

use serde::{Deserialize, Serialize};

use crate::entry::Chain;
use crate::types::MemberId;

/// The last link of a member's chain at a version. One JSON object a line.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Head {
    /// Whose.
    pub member_id: MemberId,
    /// The version of the account.
    pub version: u64,
    /// The link.
    pub chain: Chain,
}

/// Why heads cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum HeadsError {
    /// The file cannot be read.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// A line is none of ours.
    #[error("line {line} is no head of a chain: {why}")]
    Line {
        /// Its number.
        line: u64,
        /// What is wrong with it.
        why: serde_json::Error,
    },
}

/// Reads heads, a line at a time, and hands over each.
///
/// # Errors
/// At the first line that is none.
pub fn read_heads(from: impl BufRead, mut take: impl FnMut(Head)) -> Result<(), HeadsError> {
    for (line, text) in (1..).zip(from.lines()) {
        let text = text?;
        if !text.trim().is_empty() {
            take(serde_json::from_str(&text).map_err(|why| HeadsError::Line { line, why })?);
        }
    }
    Ok(())
}
