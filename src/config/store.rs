//! Where accounts are kept.

use std::fmt;

use redis::IntoConnectionInfo as _;

use super::secret::{Secret, SecretFile};
use crate::store::redis::SentinelUrl;
use crate::yaml::shown;

/// Where accounts are kept.
#[derive(Clone, PartialEq, Eq)]
pub enum StoreAddress {
    /// In this process: gone with it. For the demo, simulations and tests.
    Memory,
    /// One Redis server: a `redis://` or `rediss://` URL, which may hold a password.
    Redis(Secret),
    /// A Redis cluster: a URL (`redis://` or `rediss://`) for each node to start from.
    Cluster(Vec<Secret>),
    /// The server that Sentinels name.
    Sentinels(SentinelUrl),
}

impl StoreAddress {
    /// The address as one URL, as the store reads it; none for memory. May hold a password.
    pub fn url(&self) -> Option<String> {
        match self {
            Self::Memory => None,
            Self::Redis(url) => Some(url.reveal().to_owned()),
            Self::Cluster(nodes) => {
                let mut nodes = nodes.iter().filter_map(|node| node.reveal().split_once("://"));
                let (scheme, first) = nodes.next()?;
                let mut url = format!("{scheme}-cluster://{first}");
                for (_, node) in nodes {
                    let address = node.rsplit_once('@').map_or(node, |(_, address)| address);
                    url.push(',');
                    url.push_str(address);
                }
                Some(url)
            }
            Self::Sentinels(url) => Some(url.reveal().to_owned()),
        }
    }
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
            Self::Sentinels(url) => fmt::Display::fmt(url, f),
        }
    }
}

impl fmt::Debug for StoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn without_credentials(url: &Secret) -> String {
    let Some((scheme, rest)) = url.reveal().split_once("://") else {
        return "***".to_owned();
    };
    match rest.rsplit_once('@') {
        Some((_, address)) => format!("{scheme}://***@{address}"),
        None => format!("{scheme}://{rest}"),
    }
}

/// The file that an address came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreFile(pub(super) SecretFile);

impl StoreFile {
    /// The address as one URL, as the file has it now.
    ///
    /// # Errors
    /// Why it cannot be used. The message names the file and quotes nothing of it.
    pub fn url(&self) -> Result<String, String> {
        let name = shown(&self.0.path().display().to_string());
        let read = self.0.read_again()?;
        let address = parse(read.held().reveal()).map_err(|why| format!("what {name} holds {why}"))?;
        address.url().ok_or_else(|| format!("{name} says `memory` now, where accounts would be lost"))
    }
}

/// Reads `memory`, `redis://host:6379`, `rediss://…`, `redis-cluster://a:7000,b:7000` or a [`SentinelUrl`].
///
/// The error continues a sentence that starts with the setting's name. It quotes nothing, for the
/// address may hold a password.
pub(super) fn parse(text: &str) -> Result<StoreAddress, String> {
    if text == "memory" {
        return Ok(StoreAddress::Memory);
    }
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    match scheme {
        "redis" | "rediss" => node(scheme, rest).map(StoreAddress::Redis),
        "redis-cluster" => cluster("redis", rest),
        "rediss-cluster" => cluster("rediss", rest),
        "redis-sentinel" | "rediss-sentinel" => SentinelUrl::parse(text).map(StoreAddress::Sentinels),
        _ => Err("must be redis://host:6379, rediss://host:6379, redis-cluster://a:6379,b:6379, \
                  rediss-cluster://a:6379,b:6379, redis-sentinel://a:26379,b:26379#NAME, \
                  rediss-sentinel://a:26379,b:26379#NAME or memory"
            .to_owned()),
    }
}

/// User and password stand once, before the first node, and hold for all.
fn cluster(scheme: &str, rest: &str) -> Result<StoreAddress, String> {
    let (credentials, addresses) = match rest.rsplit_once('@') {
        Some((credentials, addresses)) => (format!("{credentials}@"), addresses),
        None => (String::new(), rest),
    };
    if addresses.contains(['/', '?', '#']) {
        return Err("names a cluster, which has no database and no options: write its nodes only, as in \
                    redis-cluster://a:6379,b:6379"
            .to_owned());
    }
    let nodes = addresses.split(',').map(|address| node(scheme, &format!("{credentials}{}", address.trim())));
    nodes.collect::<Result<_, _>>().map(StoreAddress::Cluster)
}

fn node(scheme: &str, rest: &str) -> Result<Secret, String> {
    if scheme == "rediss" && !cfg!(feature = "tls-system") {
        return Err("needs TLS, and this worker was built without the feature `tls`".to_owned());
    }
    if rest.contains('#') {
        return Err("must not have a `#` part: a server's certificate is always verified".to_owned());
    }
    let url = format!("{scheme}://{rest}");
    match url.as_str().into_connection_info() {
        Ok(_) => Ok(Secret::new(url)),
        Err(_) => Err(format!(
            "must be {scheme}://[user:password@]host[:port][/database] with user and password percent-encoded"
        )),
    }
}
