//! `GET /v1/accounts/{member}/explain/{event_id}`.

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use serde::Deserialize;

use super::access::Caller;
use super::accounts::{self, id};
use super::{HttpState, Problem};
use crate::explain::{ExplainError, Explanation, Question};
use crate::log::LogError;
use crate::types::MemberId;

/// What may be asked beside the path.
#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    source: Option<String>,
}

/// Why an event paid what it paid: what the ledger holds of it, and every rule and campaign on its type decided again,
/// with the reason where it did not pay.
///
/// It reads Kafka, for up to ten seconds, one request at a time: for support, not for pages that members open.
#[utoipa::path(
    get,
    path = "/v1/accounts/{member}/explain/{event_id}",
    tag = "accounts",
    params(
        ("member" = String, Path, max_length = 512, example = "ann", description = "the member's id, percent-encoded"),
        ("event_id" = String, Path, max_length = 512, example = "o-123", description = "the event's id, or its order's or its review's, percent-encoded"),
        ("source" = Option<String>, Query, max_length = 512, example = "shop/web", description = "the event's source, where several have an event of this id")
    ),
    responses(
        (status = 200, description = "why it paid what it paid; `verdict` is `undecided` where its record is gone", body = Explanation),
        (status = 400, description = "no member or event can have such an id"),
        (status = 403, description = "this is for support; a service's token is needed"),
        (status = 404, description = "no such event has counted for this member"),
        (status = 409, description = "several sources have an event of this id; `detail` names them"),
        (status = 503, description = "the store or Kafka does not answer, or others ask; try again")
    )
)]
pub(super) async fn explain(
    State(state): State<HttpState>,
    caller: Caller,
    path: Result<Path<(String, String)>, PathRejection>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Json<Explanation>, Problem> {
    caller.is_service()?;
    let Path((member, event)) = path.map_err(|error| Problem::bad_request(error.body_text()))?;
    let Query(Asked { source }) = asked.map_err(|error| Problem::bad_request(error.body_text()))?;
    let question = Question {
        member: Some(MemberId::from(id("the member id", member)?)),
        id: id("the event id", event)?,
        source: source.map(|source| id("the source", source)).transpose()?,
    };
    state.explain(question).await.map(Json).map_err(|error| problem(&error))
}

fn problem(error: &ExplainError) -> Problem {
    match error {
        ExplainError::NotFound(_) => Problem::not_found(error.to_string()),
        ExplainError::Several(_) => Problem::conflict(error.to_string()),
        ExplainError::Store(error) => accounts::problem(error),
        ExplainError::Log(LogError::Retriable(_)) => Problem::unavailable(error.to_string()),
        ExplainError::Log(_) => {
            tracing::error!(%error, "an event cannot be explained");
            Problem::internal(error.to_string())
        }
    }
}
