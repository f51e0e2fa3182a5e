//! Which Redis a URL means. Nothing here ever shows a password.

use std::fmt;
use std::time::Duration;

use redis::cluster::ClusterClient;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo, RedisResult,
};

use super::sentinel_url::SentinelUrl;
use super::sentinels::Sentinels;
use crate::store::StoreError;

/// How long one connection may take to be made.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one command may take. The crate's default, half a second, is passed by a busy server.
pub(super) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

/// A Redis, and how to get at it.
pub(super) enum Target {
    /// One server, or one address behind which a primary is found.
    Single(Box<Single>),
    /// A Redis Cluster.
    Cluster {
        /// Makes connections.
        client: Box<ClusterClient>,
        /// The nodes that were named.
        nodes: String,
    },
    /// The server that Sentinels name.
    Sentinels(Box<Sentinels>),
}

/// One server.
pub(super) struct Single {
    /// Makes connections, without logging in: the crate tells every answer to its AUTH alike.
    pub(super) client: Client,
    /// How connections are set up.
    pub(super) config: AsyncConnectionConfig,
    /// What to log in with.
    pub(super) login: RedisConnectionInfo,
}

impl Single {
    pub(super) fn new(info: ConnectionInfo) -> RedisResult<Self> {
        let login = info.redis_settings().clone();
        let anonymous = RedisConnectionInfo::default().set_protocol(login.protocol()).set_skip_set_lib_name();
        let client = Client::open(info.set_redis_settings(anonymous).set_tcp_settings(tcp()))?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT))
            // A batch sends a call for every bucket, all at once.
            .set_pipeline_buffer_size(1024)
            .set_write_backpressure_boundary(256 * 1024);
        Ok(Self { client, config, login })
    }
}

impl Target {
    /// Reads `redis://`, `rediss://`, `unix://`, `redis-cluster://a,b,c`, `rediss-cluster://a,b,c`,
    /// `redis-sentinel://a,b,c#name` and `rediss-sentinel://a,b,c#name`.
    pub(super) fn parse(url: &str) -> Result<Self, StoreError> {
        if SentinelUrl::is_meant_by(url) {
            let url = SentinelUrl::parse(url)
                .map_err(|why| StoreError::Broken(format!("the store's URL {why}")))?;
            return Ok(Self::Sentinels(Box::new(Sentinels::new(url)?)));
        }
        let cluster =
            url.split_once("-cluster://").filter(|(scheme, _)| ["redis", "rediss"].contains(scheme));
        match cluster {
            Some((scheme, rest)) => Self::cluster(scheme, rest),
            None => Self::single(url),
        }
    }

    fn single(url: &str) -> Result<Self, StoreError> {
        let single = Single::new(connection_info(url)?).map_err(|error| unreadable(&error.to_string()))?;
        Ok(Self::Single(Box::new(single)))
    }

    fn cluster(scheme: &str, rest: &str) -> Result<Self, StoreError> {
        let (login, nodes) = match rest.rsplit_once('@') {
            Some((login, nodes)) => (format!("{login}@"), nodes),
            None => (String::new(), rest),
        };
        let nodes = nodes.trim_end_matches('/');
        if nodes.contains(['/', '?', '#']) {
            return Err(unreadable("a cluster has no databases and takes no options"));
        }
        let infos: Vec<ConnectionInfo> = nodes
            .split(',')
            .map(|node| connection_info(&format!("{scheme}://{login}{}", node.trim())))
            .collect::<Result<_, _>>()?;
        let client = ClusterClient::builder(infos)
            .connection_timeout(CONNECT_TIMEOUT)
            .response_timeout(RESPONSE_TIMEOUT)
            .tcp_settings(tcp())
            // Enough to follow a moved slot; to wait for a failover is the caller's business.
            .retries(3)
            .build()
            .map_err(|error| unreadable(&error.to_string()))?;
        Ok(Self::Cluster { client: Box::new(client), nodes: nodes.to_owned() })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Single(single) => {
                write!(f, "{}/{}", single.client.get_connection_info().addr(), single.login.db())
            }
            Target::Cluster { nodes, .. } => write!(f, "cluster {nodes}"),
            Target::Sentinels(sentinels) => write!(f, "{}", sentinels.url()),
        }
    }
}

fn tcp() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

pub(super) fn connection_info(url: &str) -> Result<ConnectionInfo, StoreError> {
    if url.starts_with("rediss:") && !cfg!(feature = "tls-system") {
        let advice = "this accrual is built without TLS; build it with `--features tls` for rediss://";
        return Err(StoreError::Broken(advice.into()));
    }
    // rustls is built without any by redis. That it is there already is as good.
    #[cfg(feature = "tls-system")]
    rustls::crypto::ring::default_provider().install_default().ok();
    if url.contains('#') {
        return Err(unreadable("nothing may follow a `#`; in a password write it as %23"));
    }
    url.into_connection_info().map_err(|error| unreadable(&error.to_string()))
}

/// The crate's messages name what is wrong without repeating the URL.
pub(super) fn unreadable(why: &str) -> StoreError {
    StoreError::Broken(format!(
        "the store's URL cannot be read: {why}; expected redis://[user:password@]host[:port][/database], \
         rediss://… for TLS, unix:///path, redis-cluster://[user:password@]host[:port],host[:port],…, or \
         redis-sentinel://[user:password@]host[:port],host[:port],…[/database]#NAME"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(url: &str) -> String {
        match Target::parse(url) {
            Ok(target) => target.to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn urls_of_servers_and_clusters_are_read_and_shown_without_credentials() {
        assert_eq!(shown("redis://localhost"), "localhost:6379/0");
        assert_eq!(shown("redis://joe:secret@db.example:7000/3"), "db.example:7000/3");
        assert_eq!(shown("redis-cluster://joe:secret@a,b:7001,[::1]:7002"), "cluster a,b:7001,[::1]:7002");
        assert_eq!(
            shown("redis-sentinel://joe:secret@a,b:7001/3?sentinelPassword=secret#points"),
            "redis-sentinel://***@a,b:7001/3?***#points"
        );
    }

    #[test]
    fn a_wrong_url_is_told_without_its_password() {
        let wrong = [
            "redis://:secret@host:port",
            "redis://:secret@host/first",
            "rediss://:secret@host/#insecure",
            "http://:secret@host",
            "redis-cluster://:secret@",
            "redis-cluster://:secret@a,,b",
            "redis-cluster://:secret@a,b/1",
            "redis-sentinel://:secret@a,b",
            "redis-sentinel://:secret@a,b#",
            "redis-sentinel://:secret@a,,b#points",
            "redis-sentinel://:secret@a/first#points",
            "redis-sentinel://:se#cret:secret@a#points",
            "redis-sentinel://a?password=secret#points",
            "redis-sentinel://a?sentinelPassword=secret@#points",
            "redis-sentinel://a?sentinelUsername=secret#points",
            ":secret@host",
            "",
        ];
        for url in wrong {
            let Err(StoreError::Broken(message)) = Target::parse(url) else { panic!("{url} was read") };
            assert!(!message.contains("secret"), "{message}");
        }
    }

    #[cfg(not(feature = "tls-system"))]
    #[test]
    fn tls_without_the_feature_is_refused_and_says_how_to_get_it() {
        assert!(shown("rediss://host").contains("--features tls"));
        assert!(shown("rediss-cluster://a,b").contains("--features tls"));
        assert!(shown("rediss-sentinel://a,b#points").contains("the feature `tls`"));
    }
}
