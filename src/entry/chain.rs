//! The hash chain through a member's part of the ledger: each record carries a hash of itself and of the link before
//! it, so that a record that is altered, removed or put in between breaks every later link. The account holds the last
//! link. Records are linked by the account's version, whatever order lanes publish them in.
//!
//! A link is the SHA-256 (FIPS 180-4) of the 32 bytes of the link before it, of which a member's first record has none,
//! and of the record's own bytes up to and without `,"chain":"`; written in base64url (RFC 4648) without padding.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A link of the chain.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Box<str>", into = "String")]
#[schemars(with = "String", extend("pattern" = "^[A-Za-z0-9_-]{43}$"))]
pub struct Chain([u8; 32]);

/// What stands between a record's own bytes and its link, and behind the link.
const BEFORE: &[u8] = b",\"chain\":\"";
const BEHIND: &[u8] = b"\"}}";
/// What a record ends with that has no link yet: its data and its envelope.
const END: &[u8] = b"}}";
/// Characters of a link.
const LENGTH: usize = 43;

/// A text that is no link.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no link of a chain: 43 characters of base64url are wanted")]
pub struct NoLink;

impl Chain {
    /// The link of a record with these bytes.
    fn of(before: Option<&Chain>, body: &[u8]) -> Self {
        let mut hash = Sha256::new();
        if let Some(Chain(before)) = before {
            hash.update(before);
        }
        hash.update(body);
        Self(hash.finalize().into())
    }

    /// Links a rendered change of an account to the chain, which goes on from it. The payload ends with its data.
    pub fn seal(chain: &mut Option<Chain>, payload: &mut Vec<u8>) {
        debug_assert!(payload.ends_with(END), "a change ends with its data");
        payload.truncate(payload.len().saturating_sub(END.len()));
        let link = Self::of(chain.as_ref(), payload);
        payload.extend_from_slice(BEFORE);
        payload.extend_from_slice(link.text(&mut [0; LENGTH]).as_bytes());
        payload.extend_from_slice(BEHIND);
        *chain = Some(link);
    }

    /// The link that a published change carries, if it carries one, and the bytes that it is the link of.
    fn read(payload: &[u8]) -> Option<(&[u8], Chain)> {
        let rest = payload.strip_suffix(BEHIND)?;
        let (rest, link) = rest.split_at_checked(rest.len().checked_sub(LENGTH)?)?;
        let link = std::str::from_utf8(link).ok()?.parse().ok()?;
        Some((rest.strip_suffix(BEFORE)?, link))
    }

    /// Whether a published change is as it was written and comes right behind this link; nothing where it carries no
    /// link, as before the ledger had a chain.
    pub fn follows(before: Option<&Chain>, payload: &[u8]) -> Option<bool> {
        let (body, link) = Self::read(payload)?;
        Some(Self::of(before, body) == link)
    }

    fn text<'a>(&self, into: &'a mut [u8; LENGTH]) -> &'a str {
        // 32 bytes are 43 characters.
        let written = URL_SAFE_NO_PAD.encode_slice(self.0, into);
        debug_assert_eq!(written, Ok(LENGTH));
        std::str::from_utf8(into).unwrap_or_default()
    }
}

impl std::str::FromStr for Chain {
    type Err = NoLink;

    fn from_str(text: &str) -> Result<Self, NoLink> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| NoLink)?;
        bytes.try_into().map(Self).map_err(|_| NoLink)
    }
}

impl TryFrom<Box<str>> for Chain {
    type Error = NoLink;

    fn try_from(text: Box<str>) -> Result<Self, NoLink> {
        text.parse()
    }
}

impl From<Chain> for String {
    fn from(chain: Chain) -> Self {
        chain.to_string()
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text(&mut [0; LENGTH]))
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chained(records: &[&str]) -> Vec<Vec<u8>> {
        let mut chain = None;
        let seal = |record: &&str| {
            let mut payload = record.as_bytes().to_vec();
            Chain::seal(&mut chain, &mut payload);
            payload
        };
        records.iter().map(seal).collect()
    }

    /// The first record that does not follow the one before it.
    fn broken(records: &[Vec<u8>]) -> Option<usize> {
        let mut chain = None;
        records.iter().position(|record| {
            let follows = Chain::follows(chain.as_ref(), record);
            chain = Chain::read(record).map(|(_, link)| link);
            follows != Some(true)
        })
    }

    const RECORDS: [&str; 4] = [
        r#"{"id":"1","data":{"points":5}}"#,
        r#"{"id":"2","data":{"points":7}}"#,
        r#"{"id":"3","data":{"points":9}}"#,
        r#"{"id":"4","data":{"points":1}}"#,
    ];

    #[test]
    fn what_is_as_it_was_written_follows() {
        let records = chained(&RECORDS);
        assert_eq!(broken(&records), None);
        let last = String::from_utf8(records[3].clone()).unwrap();
        assert!(
            last.starts_with(r#"{"id":"4","data":{"points":1,"chain":""#) && last.ends_with(r#""}}"#),
            "{last}"
        );
        assert!(serde_json::from_str::<serde_json::Value>(&last).is_ok());
    }

    #[test]
    fn a_record_that_is_altered_removed_exchanged_or_put_in_between_breaks_the_chain_there() {
        let whole = chained(&RECORDS);
        let mut altered = whole.clone();
        altered[1] = String::from_utf8(altered[1].clone()).unwrap().replace(":7", ":8").into_bytes();
        assert_eq!(broken(&altered), Some(1));
        let mut removed = whole.clone();
        removed.remove(2);
        assert_eq!(broken(&removed), Some(2));
        let mut exchanged = whole.clone();
        exchanged.swap(1, 2);
        assert_eq!(broken(&exchanged), Some(1));
        let mut between = whole.clone();
        between.insert(2, chained(&[r#"{"id":"x","data":{"points":99}}"#]).remove(0));
        assert_eq!(broken(&between), Some(2));
    }

    #[test]
    fn a_link_is_the_sha_256_of_the_link_before_and_of_the_record() {
        // printf '%s' '{"id":"1","data":{"points":5' | openssl sha256 -binary | basenc --base64url
        let first = &chained(&RECORDS)[0];
        let (body, link) = Chain::read(first).unwrap();
        assert_eq!(body, br#"{"id":"1","data":{"points":5"#);
        assert_eq!(link.to_string(), "hICuRqd_vzvPC9ZNm0b4SLa1ZaS-fycILBMfT_4asWU");
    }

    #[test]
    fn what_was_published_before_there_was_a_chain_carries_none() {
        assert_eq!(Chain::follows(None, RECORDS[0].as_bytes()), None);
        assert_eq!(Chain::follows(None, b""), None);
    }
}
