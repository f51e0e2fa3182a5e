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
    /// How large it is, roughly, where it is large.
    pub(super) bytes: usize,
}

/// Requests of so many bytes together are under way at once, or a single one that is larger. The next are written when
/// answers come: a batch's ten megabytes at once are twice as much memory that is in no cache, and is taken from the system and given
/// back with every batch, where Redis works on one call at a time. More than a network holds on its way.
const BYTES_AT_ONCE: usize = 1 << 20;

impl Request {
    /// A plain command.
    pub(super) fn plain(cmd: Cmd) -> Self {
        Self { cmd, script: None, on_node_of: None, bytes: 0 }
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
        Self { cmd, script: Some(Arc::clone(script)), on_node_of: None, bytes }
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

    /// Sends all requests, as many at once as [`BYTES_AT_ONCE`] allows, and waits for all answers, which come in the
    /// order of the requests. Each is asked for when it is its turn.
    ///
    /// Nothing is sent twice after an error whose outcome is unknown: the caller knows what it may repeat.
    pub(super) fn ask_all(
        &mut self,
        requests: impl IntoIterator<Item = Request>,
    ) -> Result<Vec<Value>, StoreError> {
        let mut requests = requests.into_iter().peekable();
        if requests.peek().is_none() {
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
        Ok(self.ask_all([request])?.pop().unwrap_or(Value::Nil))
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

/// What was asked together.
#[derive(Default)]
struct Asked {
    tasks: JoinSet<(usize, usize, Result<Value, Trouble>)>,
    /// Of the requests that are under way.
    bytes: usize,
    answers: Vec<Value>,
    trouble: Option<Trouble>,
}

impl Asked {
    /// Waits for one answer.
    async fn hear(&mut self) {
        let Some(joined) = self.tasks.join_next().await else {
            self.bytes = 0;
            return;
        };
        let heard = match joined {
            Ok((place, bytes, answer)) => {
                self.bytes -= bytes;
                answer.map(|value| (place, value))
            }
            Err(died) => Err(Trouble::lost(format!("a call to Redis ended early: {died}"))),
        };
        match heard {
            Ok((place, value)) => {
                if let Some(answer) = self.answers.get_mut(place) {
                    *answer = value;
                }
            }
            Err(met) => {
                self.trouble = Some(match self.trouble.take() {
                    Some(worse) => worse.or(met),
                    None => met,
                });
            }
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

    async fn ask_all(self, requests: impl Iterator<Item = Request>) -> Result<Vec<Value>, Trouble> {
        let mut asked = Asked::default();
        for (place, request) in requests.enumerate() {
            while asked.bytes > 0 && asked.bytes + request.bytes > BYTES_AT_ONCE {
                asked.hear().await;
            }
            if asked.trouble.is_some() {
                break;
            }
            asked.answers.push(Value::Nil);
            asked.bytes += request.bytes;
            let (open, bytes) = (self.clone(), request.bytes);
            asked.tasks.spawn(async move { (place, bytes, open.ask(request).await) });
            if bytes > 0 {
                // It is on its way while the next is written.
                tokio::task::yield_now().await;
            }
        }
        while !asked.tasks.is_empty() {
            asked.hear().await;
        }
        asked.trouble.map_or(Ok(asked.answers), Err)
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
