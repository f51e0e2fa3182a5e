//! What the worker answers over HTTP: whether it lives and is ready, its metrics, and accounts.
//!
//! It answers from the first moment on, also while the worker still waits for Redis or Kafka. Health, metrics and the
//! description are open to whoever reaches the port; accounts need a token, but on the loopback interface
//! where none is set (`access`). Everything is bounded: connections, heads, bodies, rates, requests under way.

mod access;
mod accounts;
mod description;
mod explain;
mod health;
mod problem;
mod rate;
mod redemption_view;
mod redemptions;
mod server;
mod state;
mod token;

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};

pub use problem::Problem;
pub use server::serve;
pub use state::HttpState;

/// A body has at most so many bytes.
pub(crate) const LARGEST_BODY: usize = 16 * 1024;

fn router(state: HttpState) -> Router {
    let health = Router::new().route("/livez", get(health::livez)).route("/readyz", get(health::readyz));
    let open = Router::new()
        .route("/", get(async || description::INDEX))
        .route("/metrics", get(metrics))
        .route("/v1/openapi.json", get(async || Json(description::openapi())))
        .route_layer(from_fn_with_state(state.clone(), access::counted));
    let guarded = Router::new()
        .route("/v1/accounts/{member}", get(accounts::account))
        .route("/v1/accounts/{member}/explain/{event_id}", get(explain::explain))
        .route("/v1/redemptions", post(redemptions::redeem))
        .route("/v1/redemptions/{member}/{redemption_id}", get(redemptions::redemption))
        .route_layer(from_fn_with_state(state.clone(), access::guarded));
    health
        .merge(open)
        .merge(guarded)
        .fallback(async || Problem::not_found("there is nothing here; / lists what there is"))
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .layer(from_fn_with_state(state.clone(), observed))
        .with_state(state)
}

/// Refuses bodies that are too large before they come, and counts what was answered.
async fn observed(State(state): State<HttpState>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    // What there is nothing at is not a series of its own: anybody can make such paths up.
    let route = request.extensions().get::<MatchedPath>().cloned();
    let announced =
        request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let response = if announced.is_some_and(|length: u64| length > LARGEST_BODY as u64) {
        Problem::too_large(format!("a body has at most {LARGEST_BODY} bytes")).into_response()
    } else {
        next.run(request).await
    };
    let route = route.as_ref().map_or("other", MatchedPath::as_str);
    let metrics = state.metrics();
    metrics.http_requests.with_label_values(&[route, response.status().as_str()]).inc();
    metrics.http_request_seconds.with_label_values(&[route]).observe(began.elapsed().as_secs_f64());
    response
}

/// Every series, as Prometheus reads it.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "worker",
    responses((status = 200, description = "Prometheus text format 0.0.4", body = String, content_type = "text/plain",
        example = json!("# TYPE accrual_store_conflicts_total counter\naccrual_store_conflicts_total 0\n")))
)]
async fn metrics(State(state): State<HttpState>) -> Response {
    match state.metrics().render() {
        Ok(text) => ([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => Problem::internal(format!("the metrics cannot be rendered: {error}")).into_response(),
    }
}

#[cfg(test)]
mod tests;
