//! Whether the worker lives (`/livez`, else restart it) and whether it can work (`/readyz`, else wait).

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;

use super::Problem;
use super::state::{HttpState, Lanes};
use crate::lane::status::LaneStatus;

/// A lane that has not turned for so long hangs: it turns at least once in `batch.max_wait`, and at
/// every try while it waits for Redis or Kafka.
const HANGS_AFTER: Duration = Duration::from_mins(1);

/// Whether the lanes turn. Whether Redis and Kafka answer is no matter here: a restart would not help.
#[utoipa::path(
    get,
    path = "/livez",
    tag = "worker",
    responses(
        (status = 200, description = "the lanes turn, or the worker still starts", body = String, example = json!("live\n")),
        (status = 503, description = "a lane hangs or has ended")
    )
)]
pub(super) async fn livez(State(state): State<HttpState>) -> Result<&'static str, Problem> {
    match state.lanes() {
        Lanes::Starting(_) => Ok("starting\n"),
        Lanes::Running(lanes) => unless_any("live\n", lanes.iter().filter_map(dead).collect()),
    }
}

/// Whether the worker can work: every lane has its partitions, Kafka answers, and the store can be
/// written to.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "worker",
    responses(
        (status = 200, description = "the worker can work", body = String, example = json!("ready\n")),
        (status = 503, description = "it cannot, and why")
    )
)]
pub(super) async fn readyz(State(state): State<HttpState>) -> Result<&'static str, Problem> {
    let mut reasons: Vec<String> = match state.lanes() {
        Lanes::Starting(why) => vec![format!("no lanes yet: {why}")],
        Lanes::Running(lanes) => lanes.iter().filter_map(idle).collect(),
    };
    if let Err(why) = state.probe_store().await {
        reasons.push(why);
    }
    unless_any("ready\n", reasons)
}

fn unless_any(well: &'static str, reasons: Vec<String>) -> Result<&'static str, Problem> {
    if reasons.is_empty() { Ok(well) } else { Err(Problem::unavailable(reasons.join("; "))) }
}

/// Why a restart would help this lane.
fn dead(lane: &Arc<LaneStatus>) -> Option<String> {
    let name = &lane.name;
    if lane.is_stopping() {
        return None;
    }
    if lane.has_ended() {
        return Some(format!("lane {name} has ended by itself"));
    }
    lane.hangs(HANGS_AFTER, Instant::now())
}

/// Why this lane cannot work now.
fn idle(lane: &Arc<LaneStatus>) -> Option<String> {
    let name = &lane.name;
    if lane.is_stopping() {
        return Some(format!("lane {name} is told to stop"));
    }
    dead(lane).or_else(|| lane.trouble().map(|why| format!("lane {name}: {why}"))).or_else(|| {
        lane.partitions().is_none().then(|| format!("lane {name} has no partitions assigned yet"))
    })
}
