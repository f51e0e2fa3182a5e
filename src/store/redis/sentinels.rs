//! The primary that Redis Sentinel names, asked for at each new connection.
//!
//! As Redis' guidelines for such clients have it, the Sentinels are asked in turn, each for a short time, and the server
//! that one names must say of itself that it is the primary: one that was just deposed may still be named.

use std::collections::HashMap;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{ConnectionAddr, ConnectionInfo, ErrorKind, RedisError, Value};

use super::connection::log_in;
use super::sentinel_url::SentinelUrl;
use super::target::{Single, connection_info, unreadable};
use super::triage::Trouble;
use crate::store::StoreError;

/// How long one Sentinel has for its answer, the connection included.
const PATIENCE: Duration = Duration::from_secs(1);

/// Sentinels, and how to get at the server that they name.
pub(super) struct Sentinels {
    url: SentinelUrl,
    /// In the order in which they are asked.
    sentinels: Vec<Single>,
    /// Login, database and whether with TLS; the address is put in.
    server: ConnectionInfo,
}

impl Sentinels {
    pub(super) fn new(url: SentinelUrl) -> Result<Self, StoreError> {
        let single =
            |url: &String| Single::new(connection_info(url)?).map_err(|error| unreadable(&error.to_string()));
        let sentinels = url.sentinels().iter().map(single).collect::<Result<_, _>>()?;
        Ok(Self { sentinels, server: connection_info(url.server())?, url })
    }

    /// Without what is secret.
    pub(super) fn url(&self) -> &SentinelUrl {
        &self.url
    }

    /// A connection to the primary.
    pub(super) async fn connect(&self) -> Result<MultiplexedConnection, Trouble> {
        let mut said = Vec::new();
        let mut tried = Vec::new();
        let (mut of_sentinels, mut of_servers) = (None, None);
        for sentinel in &self.sentinels {
            let who = sentinel.client.get_connection_info().addr();
            let named = match self.ask(sentinel).await {
                Ok(named) => named,
                Err(met) => {
                    said.push(format!("{who}: {}", met.why()));
                    of_sentinels = Some(worse(of_sentinels, met));
                    continue;
                }
            };
            if tried.contains(&named) {
                said.push(format!("{who} names {named} as well"));
                continue;
            }
            match self.open(&named).await {
                Ok(connection) => return Ok(connection),
                Err(met) => {
                    said.push(format!("{who} names {named}: {}", met.why()));
                    of_servers = Some(worse(of_servers, met));
                }
            }
            tried.push(named);
        }
        // Where one knows the servers it is they that count, and not that another Sentinel does not know them.
        let met = of_servers.or(of_sentinels).unwrap_or_else(|| Trouble::lost(String::new()));
        let name = self.url.name();
        Err(met.saying(format!("the Sentinels lead to no primary of `{name}`: {}", said.join("; "))))
    }

    /// The address that a Sentinel names.
    async fn ask(&self, sentinel: &Single) -> Result<ConnectionAddr, Trouble> {
        let mut question = redis::cmd("SENTINEL");
        question.arg("GET-MASTER-ADDR-BY-NAME").arg(self.url.name());
        let asked = async {
            let mut connection = log_in(sentinel).await?;
            question.query_async::<Option<(String, u16)>>(&mut connection).await
        };
        let (host, port) = match tokio::time::timeout(PATIENCE, asked).await {
            Err(_) => return Err(Trouble::lost("no answer in time".into())),
            Ok(Err(error)) => return Err(of_sentinel(error)),
            Ok(Ok(None)) => return Err(Trouble::not_let_in("does not know the name".into())),
            Ok(Ok(Some(address))) => address,
        };
        Ok(match self.server.addr() {
            ConnectionAddr::TcpTls { .. } => {
                ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
            }
            _ => ConnectionAddr::Tcp(host, port),
        })
    }

    /// A connection to a server that is the primary.
    async fn open(&self, address: &ConnectionAddr) -> Result<MultiplexedConnection, Trouble> {
        let server = Single::new(self.server.clone().set_addr(address.clone()))?;
        let mut connection = log_in(&server).await?;
        // It tells what `ROLE` tells, and needs no permission.
        let mut question = redis::cmd("HELLO");
        let told: HashMap<String, Value> = question.arg(2).query_async(&mut connection).await?;
        match told.get("role") {
            Some(Value::BulkString(role)) if role == b"master" => Ok(connection),
            _ => Err(Trouble::lost("it is not the primary".into())),
        }
    }
}

fn worse(before: Option<Trouble>, met: Trouble) -> Trouble {
    match before {
        Some(before) => before.or(met),
        None => met,
    }
}

/// What follows from a Sentinel's error: whatever a person must mend there, a worker that found the servers before waits.
fn of_sentinel(error: RedisError) -> Trouble {
    let said = error.to_string();
    let refused = ["NOAUTH", "WRONGPASS", "without any password configured"];
    if error.kind() == ErrorKind::AuthenticationFailed || refused.iter().any(|word| said.contains(word)) {
        return Trouble::not_let_in(format!(
            "check sentinelUsername and sentinelPassword in the store's URL, which are the Sentinels' own ({said})"
        ));
    }
    Trouble::from(error).of_login()
}
