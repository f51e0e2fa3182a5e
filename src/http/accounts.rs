//! `GET /v1/accounts/{member}`.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use jiff::Timestamp;

use super::access::Caller;
use super::{HttpState, Problem};
use crate::account_view::{AccountView, FindError, find};
use crate::event::decode::LONGEST_ID;
use crate::store::StoreError;
use crate::types::MemberId;

/// A member's account: points, tier and progress, lots by expiry, what limits leave, the last entries.
#[utoipa::path(
    get,
    path = "/v1/accounts/{member}",
    tag = "accounts",
    params(("member" = String, Path, max_length = 512, example = "ann", description = "the member's id, percent-encoded")),
    responses(
        (status = 200, description = "the account as it stands", body = AccountView),
        (status = 400, description = "no member can have such an id"),
        (status = 404, description = "nothing has counted for this member yet")
    )
)]
pub(super) async fn account(
    State(state): State<HttpState>,
    caller: Caller,
    member: Result<Path<String>, PathRejection>,
) -> Result<Json<AccountView>, Problem> {
    let Path(member) = member.map_err(|error| Problem::bad_request(error.body_text()))?;
    let member = MemberId::from(id("the member id", member)?);
    caller.may_see(&member)?;
    let buckets = state.buckets();
    let wanted = member.clone();
    let found =
        state.ask_store(move |store| find(store, buckets, &wanted)).await.map_err(|error| problem(&error))?;
    let Some(account) = found else {
        return Err(Problem::not_found(format!(
            "member {member:?} has no account: nothing has counted for them yet"
        )));
    };
    let now = Timestamp::now();
    Ok(Json(AccountView::of(&state.programme_at(now), &account, now)))
}

/// An id that is not longer than ids are.
///
/// # Errors
/// How long it may be.
pub(super) fn id(what: &str, text: String) -> Result<String, Problem> {
    let size = text.len();
    if size > LONGEST_ID {
        return Err(Problem::bad_request(format!(
            "{what} has {size} bytes, at most {LONGEST_ID} are allowed"
        )));
    }
    Ok(text)
}

pub(super) fn problem(error: &FindError) -> Problem {
    match error {
        FindError::Store(StoreError::Away(_)) => Problem::unavailable(error.to_string()),
        FindError::Store(StoreError::Broken(_) | StoreError::Crash) | FindError::Unreadable(_) => {
            tracing::error!(%error, "an account cannot be shown");
            Problem::internal(error.to_string())
        }
    }
}
