//! One connection to Redis, made when it is needed and given up when it is in doubt.

use std::sync::Arc;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr};
use redis::{Cmd, ErrorKind, RedisResult, Script, ServerErrorKind, Value};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::target::{Single, Target};
use super::triage::Trouble;
use crate::store::StoreError;

/// A command, with the script that it calls if it calls one.
pub(super) struct Request {
    pub(super) cmd: Cmd,
    pub(super) script: Option<Arc<Script>>,
    /// On a cluster, the node that has this slot; for commands that name no key.
    pub(super) on_node_of: Option<u16>,
}

impl Request {
    /// A plain command.
    pub(super) fn plain(cmd: Cmd) -> Self {
        Self { cmd, script: None, on_node_of: None }
    }

    /// A call of a script on some keys; the arguments are to be added. Beside the crate's own
    /// invocation this copies every key and argument once instead of twice.
    pub(super) fn call(script: &Arc<Script>, keys: usize) -> Self {
        Self::large_call(script, keys, 0, 0)
    }

    /// [`Request::call`] with room for so many further arguments of so many bytes together, so that a
    /// bucket's half megabyte is not copied again and again while it grows.
    pub(super) fn large_call(script: &Arc<Script>, keys: usize, arguments: usize, bytes: usize) -> Self {
        let hash = script.get_hash();
        let mut cmd = Cmd::with_capacity(3 + arguments, 64 + hash.len() + bytes);
        cmd.arg("EVALSHA").arg(hash).arg(keys);
        Self { cmd, script: Some(Arc::clone(script)), on_node_of: None }
    }
}

/// A connection with the runtime that drives it.
///
/// The runtime runs on the caller's thread while the caller waits, and never else: a lane has its own
/// connection, and no other thread is woken for its answers.
pub(super) struct Connection {
    target: Target,
    /// Tells what the target is by now.
    url: Option<AskUrl>,
    /// Whether the server let this worker in before.
    was_let_in: bool,
    /// There until the drop.
    runtime: Option<Runtime>,
    open: Option<Open>,
}

/// Tells a URL, or why it is not known.
pub(super) type AskUrl = Box<dyn Fn() -> Result<String, String> + Send>;

#[derive(Clone)]
enum Open {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Connection {
    /// Prepares a connection; nothing is sent yet.
    pub(super) fn new(target: Target) -> Result<Self, StoreError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
        let runtime =
            runtime.map_err(|error| StoreError::Broken(format!("no runtime for Redis: {error}")))?;
        Ok(Self { target, url: None, was_let_in: false, runtime: Some(runtime), open: None })
    }

    /// Asks for the URL before each new connection from here on.
    pub(super) fn ask_for_url(&mut self, url: AskUrl) {
        self.url = Some(url);
    }

    /// Goes on with the target from before where the new one is not known: what holds it may be in the making.
    fn look_up_target(&mut self) {
        let Some(url) = &self.url else { return };
        match url().and_then(|url| Target::parse(&url).map_err(|error| error.to_string())) {
            Ok(target) => self.target = target,
            Err(why) => tracing::warn!(why, "the store's address cannot be read again"),
        }
    }

    /// What it leads to, without credentials.
    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// Sends all requests at once and waits for all answers, which come in the order of the requests.
    ///
    /// Nothing is sent twice after an error whose outcome is unknown: the caller knows what it may repeat.
    pub(super) fn ask_all(&mut self, requests: Vec<Request>) -> Result<Vec<Value>, StoreError> {
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        if self.open.is_none() {
            self.look_up_target();
        }
        let Some(runtime) = &self.runtime else {
            return Err(StoreError::Broken("the connection to Redis was closed".into()));
        };
        let answers = runtime.block_on(async {
            let open = match &self.open {
                Some(open) => open.clone(),
                None => self.open.insert(Open::to(&self.target).await?).clone(),
            };
            open.ask_all(requests).await
        });
        self.was_let_in |= answers.is_ok();
        answers.map_err(|trouble| {
            if trouble.reconnect {
                self.open = None;
            }
            trouble.error_after(self.was_let_in)
        })
    }

    /// Sends one request.
    pub(super) fn ask(&mut self, request: Request) -> Result<Value, StoreError> {
        Ok(self.ask_all(vec![request])?.pop().unwrap_or(Value::Nil))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.open = None;
        if let Some(runtime) = self.runtime.take() {
            // A plain drop would panic inside another runtime, where the HTTP server may hold a store.
            runtime.shutdown_background();
        }
    }
}

impl Open {
    async fn to(target: &Target) -> Result<Self, Trouble> {
        match target {
            Target::Single(single) => Ok(Open::Single(log_in(single).await?)),
            Target::Sentinels(sentinels) => Ok(Open::Single(sentinels.connect().await?)),
            Target::Cluster { client, .. } => Ok(Open::Cluster(client.get_async_connection().await?)),
        }
    }

    async fn ask_all(self, requests: Vec<Request>) -> Result<Vec<Value>, Trouble> {
        let mut answers = vec![Value::Nil; requests.len()];
        let mut tasks = JoinSet::new();
        for (place, request) in requests.into_iter().enumerate() {
            let open = self.clone();
            tasks.spawn(async move { (place, open.ask(request).await) });
        }
        let mut trouble: Option<Trouble> = None;
        while let Some(joined) = tasks.join_next().await {
            let met = match joined {
                Ok((place, Ok(value))) => {
                    if let Some(answer) = answers.get_mut(place) {
                        *answer = value;
                    }
                    continue;
                }
                Ok((_, Err(met))) => met,
                Err(died) => Trouble::lost(format!("a call to Redis ended early: {died}")),
            };
            trouble = Some(match trouble {
                Some(worse) => worse.or(met),
                None => met,
            });
        }
        trouble.map_or(Ok(answers), Err)
    }

    async fn ask(self, request: Request) -> Result<Value, Trouble> {
        match self {
            Open::Single(connection) => ask(connection, request).await,
            Open::Cluster(mut connection) => match request.on_node_of {
                None => ask(connection, request).await,
                Some(slot) => {
                    let node = SingleNodeRoutingInfo::SpecificNode(Route::new(slot, SlotAddr::Master));
                    Ok(connection.route_command(request.cmd, RoutingInfo::SingleNode(node)).await?)
                }
            },
        }
    }
}

async fn ask<C: ConnectionLike>(mut connection: C, request: Request) -> Result<Value, Trouble> {
    let answer = request.cmd.query_async(&mut connection).await;
    match (answer, request.script) {
        // The server is new, or was told to forget its scripts. It has done nothing, so ask again.
        (Err(error), Some(script)) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
            script.load_async(&mut connection).await?;
            Ok(request.cmd.query_async(&mut connection).await?)
        }
        (answer, _) => Ok(answer?),
    }
}

/// Connects, logs in and chooses the database.
pub(super) async fn log_in(single: &Single) -> RedisResult<MultiplexedConnection> {
    let connecting = single.client.get_multiplexed_async_connection_with_config(&single.config);
    let mut connection = connecting.await?;
    if let Some(password) = single.login.password() {
        let mut auth = redis::cmd("AUTH");
        if let Some(user) = single.login.username() {
            auth.arg(user);
        }
        auth.arg(password).query_async::<()>(&mut connection).await?;
    }
    if single.login.db() != 0 {
        redis::cmd("SELECT").arg(single.login.db()).query_async::<()>(&mut connection).await?;
    }
    Ok(connection)
}
