//! What clients log in with, where it comes from files: it may be another one while the worker runs.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::oauth::OauthSource;

/// Properties of librdkafka that come from files, as they were last taken up. A clone is another handle on the same:
/// who holds a client compares its number with the one that it was made by, and makes it anew.
#[derive(Clone, Default)]
pub struct Credentials {
    shared: Arc<Shared>,
    token: OauthSource,
}

#[derive(Default)]
struct Shared {
    number: AtomicU64,
    properties: RwLock<BTreeMap<String, String>>,
}

impl Credentials {
    /// These properties, and the source of tokens, which is asked whenever a client needs one.
    pub fn new(properties: BTreeMap<String, String>, token: OauthSource) -> Self {
        let shared = Shared { number: AtomicU64::new(0), properties: RwLock::new(properties) };
        Self { shared: Arc::new(shared), token }
    }

    /// Other values from now on.
    pub fn replace(&self, properties: BTreeMap<String, String>) {
        *self.shared.properties.write().unwrap_or_else(PoisonError::into_inner) = properties;
        self.shared.number.fetch_add(1, Ordering::Release);
    }

    /// How often they were replaced. To be asked before the values: then a client is at worst made once too often.
    pub(super) fn number(&self) -> u64 {
        self.shared.number.load(Ordering::Acquire)
    }

    /// The values.
    pub(crate) fn properties(&self) -> BTreeMap<String, String> {
        self.shared.properties.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where tokens come from.
    pub fn token(&self) -> &OauthSource {
        &self.token
    }
}

impl fmt::Debug for Credentials {
    /// Names and files, without what they hold.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shared: _, token } = self;
        let names: Vec<String> = self.properties().into_keys().collect();
        write!(f, "{names:?} {token:?}")
    }
}
