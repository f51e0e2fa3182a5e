//! What the worker answers over HTTP: whether it lives and is ready, its metrics, and accounts.
//!
//! It answers from the first moment on, also while the worker still waits for Redis or Kafka. There is
//! no authentication: who may read accounts is decided by who reaches the port, which is local unless
//! the settings say otherwise.

mod accounts;
mod explain;
mod health;
mod problem;
mod state;

use std::future::{Future, IntoFuture};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use utoipa::OpenApi;

pub use problem::Problem;
pub use state::HttpState;

/// How long open requests may take to end once the server is told to.
const SHUTDOWN: Duration = Duration::from_secs(3);

const INDEX: &str = "accrual: a loyalty programme on Kafka

/livez                   200 while the lanes turn
/readyz                  200 while the worker can work, else 503 with the reason
/metrics                 Prometheus metrics
/v1/accounts/{member}    a member's account
/v1/accounts/{member}/explain/{event_id}
                         why an event paid what it paid, rule by rule
/v1/openapi.json         the above for machines
";

/// What is served, for machines.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "accrual",
        description = "Points, tiers and their history of the members of a loyalty programme, and how \
                       the worker is that keeps them."
    ),
    paths(accounts::account, explain::explain, health::livez, health::readyz, metrics)
)]
struct Description;

/// Serves until `shutdown` is done; requests that are open then may end, for three seconds.
///
/// # Errors
/// Where the listener fails.
pub async fn serve(
    listener: TcpListener,
    state: HttpState,
    shutdown: impl Future<Output = ()>,
) -> std::io::Result<()> {
    let told = Arc::new(Notify::new());
    let stop = told.clone();
    let server = axum::serve(listener, router(state))
        .with_graceful_shutdown(async move { stop.notified().await })
        .into_future();
    let mut server = pin!(server);
    tokio::select! {
        ended = &mut server => return ended,
        () = shutdown => told.notify_one(),
    }
    // A client that keeps a request open must not keep the worker from ending.
    tokio::time::timeout(SHUTDOWN, server).await.unwrap_or(Ok(()))
}

fn router(state: HttpState) -> Router {
    Router::new()
        .route("/", get(async || INDEX))
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(metrics))
        .route("/v1/accounts/{member}", get(accounts::account))
        .route("/v1/accounts/{member}/explain/{event_id}", get(explain::explain))
        .route("/v1/openapi.json", get(async || Json(Description::openapi())))
        .fallback(async || Problem::not_found("there is nothing here; / lists what there is"))
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .with_state(state)
}

/// Every series, as Prometheus reads it.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "worker",
    responses((status = 200, description = "Prometheus text format 0.0.4", body = String, content_type = "text/plain"))
)]
async fn metrics(State(state): State<HttpState>) -> Response {
    match state.metrics().render() {
        Ok(text) => ([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => Problem::internal(format!("the metrics cannot be rendered: {error}")).into_response(),
    }
}

#[cfg(test)]
mod tests;
