//! Where accounts are kept.

use std::fmt;

use super::secret::Secret;

/// Where accounts are kept.
#[derive(Clone, PartialEq, Eq)]
pub enum StoreAddress {
    /// In this process: gone with it. For the demo, simulations and tests.
    Memory,
    /// One Redis server: a `redis://` or `rediss://` URL, which may hold a password.
    Redis(Secret),
    /// A Redis cluster: a URL (`redis://` or `rediss://`) for each node to start from.
    Cluster(Vec<Secret>),
}

impl fmt::Display for StoreAddress {
    /// The address without user and password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory"),
            Self::Redis(url) => f.write_str(&without_credentials(url)),
            Self::Cluster(nodes) => {
                f.write_str("cluster ")?;
                for (index, node) in nodes.iter().enumerate() {
                    let comma = if index == 0 { "" } else { "," };
                    write!(f, "{comma}{}", without_credentials(node))?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Debug for StoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn without_credentials(url: &Secret) -> String {
    let Some((scheme, rest)) = url.reveal().split_once("://") else { return "***".to_owned() };
    match rest.rsplit_once('@') {
        Some((_, address)) => format!("{scheme}://***@{address}"),
        None => format!("{scheme}://{rest}"),
    }
}
