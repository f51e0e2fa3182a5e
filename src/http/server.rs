//! Connections: how many, how long, and how they end.

use std::future::Future;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tower::ServiceExt as _;

use super::access::{Peer, watch_tokens};
use super::{HttpState, router};

/// How long open requests may take to end once the server is told to.
pub(super) const SHUTDOWN: Duration = Duration::from_secs(3);

/// So many connections are open at a time; further ones wait until one ends.
const MOST_CONNECTIONS: u32 = 512;

/// How long a request's head may take, also the next one's on a connection that is kept open.
const HEAD_WITHIN: Duration = Duration::from_secs(10);

/// The head of a request has at most so many bytes: a token and a path of two ids fit.
const LARGEST_HEAD: usize = 16 * 1024;

/// A connection is told to end after this time, so that who reads slowly does not hold it forever.
const OLDEST: Duration = Duration::from_mins(5);

/// How long an answer may take that an old connection is still at.
const LAST_ANSWER: Duration = Duration::from_mins(1);

/// Where the system has no more sockets, how long it is waited for one.
const BREATH: Duration = Duration::from_millis(100);

/// Serves until `shutdown` is done; requests that are open then may end, for three seconds.
///
/// # Errors
/// Where the listener fails.
pub async fn serve(
    listener: TcpListener,
    state: HttpState,
    shutdown: impl Future<Output = ()>,
) -> std::io::Result<()> {
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS as usize));
    let (stop, stopped) = watch::channel(());
    let app = router(state.clone());
    let accept = async {
        loop {
            // Never closed.
            let Ok(place) = places.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let served = connection(stream, peer.ip(), app.clone(), stopped.clone());
                    tokio::spawn(async move {
                        served.await;
                        drop(place);
                    });
                }
                Err(error) => {
                    // The connection ended before it was taken, or no sockets are left: neither stays so.
                    tracing::debug!(%error, "a connection was not accepted");
                    sleep(BREATH).await;
                }
            }
        }
    };
    tokio::select! {
        () = accept => {}
        () = shutdown => {}
        () = watch_tokens(&state) => {}
    }
    stop.send_replace(());
    // A client that keeps a request open must not keep the worker from ending.
    timeout(SHUTDOWN, places.acquire_many(MOST_CONNECTIONS)).await.ok();
    Ok(())
}

async fn connection(stream: TcpStream, peer: IpAddr, app: Router, mut stopped: watch::Receiver<()>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection is gone already");
    }
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        app.clone().oneshot(request)
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).max_header_size(LARGEST_HEAD);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    // How a connection ends is its client's matter: a request that is cut off has no answer anyhow.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stopped.changed() => {}
        () = sleep(OLDEST) => {}
    }
    connection.as_mut().graceful_shutdown();
    timeout(LAST_ANSWER, connection).await.ok();
}
