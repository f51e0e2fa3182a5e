//! `GET /v1/accounts/{member}/explain/{event_id}`.

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use serde::Deserialize;

use super::{HttpState, Problem, accounts};
use crate::event::decode::LONGEST_ID;
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
        ("member" = String, Path, max_length = 512, description = "the member's id, percent-encoded"),
        ("event_id" = String, Path, max_length = 512, description = "the event's id, or its order's or its review's, percent-encoded"),
        ("source" = Option<String>, Query, max_length = 512, description = "the event's source, where several have an event of this id")
    ),
    responses(
        (status = 200, description = "why it paid what it paid; `verdict` is `undecided` where its record is gone", body = Explanation),
        (status = 400, description = "no member or event can have such an id", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "no such event has counted for this member", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "several sources have an event of this id; `detail` names them", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "the store or Kafka does not answer, or others ask; try again", body = Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn explain(
    State(state): State<HttpState>,
    path: Result<Path<(String, String)>, PathRejection>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Json<Explanation>, Problem> {
    let Path((member, id)) = path.map_err(|error| Problem::bad_request(error.body_text()))?;
    let Query(Asked { source }) = asked.map_err(|error| Problem::bad_request(error.body_text()))?;
    let given = [("member id", Some(&member)), ("event id", Some(&id)), ("source", source.as_ref())];
    for (what, text) in given {
        let size = text.map_or(0, String::len);
        if size > LONGEST_ID {
            return Err(Problem::bad_request(format!(
                "the {what} has {size} bytes, at most {LONGEST_ID} are allowed"
            )));
        }
    }
    let question = Question { member: Some(MemberId::from(member)), id, source };
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
