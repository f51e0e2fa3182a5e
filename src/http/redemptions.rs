//! `POST /v1/redemptions` and `GET /v1/redemptions/{member}/{redemption_id}`.
//!
//! Nothing is decided here: the request goes to an input topic like any other event, and the lane that decides it writes
//! the answer beside the account, in one atomic step. Here it is waited for. Asked again it is the same
//! event with the same business key, and so never redeems twice; an answer that is there already is given at once.

use std::fmt::Write as _;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use super::access::Caller;
use super::accounts::{self, id};
use super::redemption_view::{Pending, PendingView, RedemptionAsked, RedemptionView};
use super::{HttpState, LARGEST_BODY, Problem};
use crate::account_view::FindError;
use crate::event::decode::{Decoded, Decoder};
use crate::event::{Event, Rejected};
use crate::log::{LogError, OutRecord, Record};
use crate::record::{Redemption, redemption_key};
use crate::store::{LoadBucket, Receipt, Store};
use crate::types::{Bucket, Coordinates, MemberId, TopicName};

/// The source of the events that are made here.
const SOURCE: &str = "accrual/http";

/// How long a body may take to come.
const BODY_WITHIN: Duration = Duration::from_secs(5);

/// How long it is waited between two looks for an answer: at first, and at last. An answer takes a batch, which is some
/// tens of milliseconds.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(100));

/// Redeems points for a reward: puts the request on the input topic and waits for the answer.
///
/// The same `redemption_id` (or `Idempotency-Key`) of a member is decided once, however often it is asked for, within the
/// time that redemptions are remembered. It can be asked again after any failure and any 202.
#[utoipa::path(
    post,
    path = "/v1/redemptions",
    tag = "redemptions",
    params(
        ("Idempotency-Key" = Option<String>, Header, max_length = 512, example = "r-2026-1", description = "names the redemption where the body does not; the same as `redemption_id` where both are given"),
        ("Prefer" = Option<String>, Header, example = "wait=2", description = "`wait=N`: how many seconds to wait for the answer, if that is less than the worker would")
    ),
    request_body = RedemptionAsked,
    responses(
        (status = 200, description = "the answer: redeemed or declined", body = RedemptionView),
        (status = 202, description = "the request is on its way and no answer came in time; ask `location`, or the same again", body = PendingView,
         headers(("Location" = String, description = "where the answer will be"), ("Retry-After" = u64, description = "seconds"))),
        (status = 400, description = "the body, an id or a header is wrong; `detail` says which"),
        (status = 403, description = "a member's token redeems that member's own points only"),
        (status = 408, description = "the body did not come within 5 s"),
        (status = 415, description = "the body must be application/json"),
        (status = 422, description = "this redemption was asked for before, as another one"),
        (status = 501, description = "no redemptions are taken here: `http.redemptions.topic` is not set"),
        (status = 503, description = "the store or Kafka does not answer, or too many wait; ask the same again")
    )
)]
pub(super) async fn redeem(
    State(state): State<HttpState>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let desk = state.desk()?;
    let asked = asked(&headers, body).await?;
    let member = MemberId::from(id("member_id", asked.member_id.clone())?);
    if caller.may_see(&member).is_err() {
        return Err(Problem::forbidden("a member's token redeems that member's own points only"));
    }
    let wait = preferred_wait(&headers)?.map_or(desk.wait, |preferred| preferred.min(desk.wait));
    let request = Request::of(&state, desk, member, asked)?;
    let deadline = Instant::now() + wait;
    let _place = state.gate().wait()?;
    if let Some(answer) = request.look(&state).await? {
        return Ok(Json(answer).into_response());
    }
    desk.sender.send(&request.record).await.map_err(|error| not_sent(&error))?;
    let (mut pause, last) = PAUSES;
    loop {
        sleep(pause.min(deadline - Instant::now())).await;
        match request.look(&state).await {
            Ok(Some(answer)) => return Ok(Json(answer).into_response()),
            Ok(None) => {}
            // What was sent will be decided, whether it can be looked for or not.
            Err(problem) if problem.is_passing() => {}
            Err(problem) => return Err(problem),
        }
        if Instant::now() >= deadline {
            return Ok(request.pending());
        }
        pause = (pause * 2).min(last);
    }
}

/// What became of a redemption, whichever way it was asked for.
#[utoipa::path(
    get,
    path = "/v1/redemptions/{member}/{redemption_id}",
    tag = "redemptions",
    params(
        ("member" = String, Path, max_length = 512, example = "ann", description = "the member's id, percent-encoded"),
        ("redemption_id" = String, Path, max_length = 512, example = "r-2026-1", description = "the redemption's id, percent-encoded")
    ),
    responses(
        (status = 200, description = "the answer: redeemed, declined or cancelled", body = RedemptionView),
        (status = 400, description = "no member or redemption can have such an id"),
        (status = 404, description = "no such redemption was decided for this member, or not yet, or it is forgotten")
    )
)]
pub(super) async fn redemption(
    State(state): State<HttpState>,
    caller: Caller,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Json<RedemptionView>, Problem> {
    let Path((member, redemption)) = path.map_err(|error| Problem::bad_request(error.body_text()))?;
    let member = MemberId::from(id("the member id", member)?);
    let redemption = id("the redemption id", redemption)?;
    caller.may_see(&member)?;
    let (bucket, key) = (state.buckets().of(&member), redemption_key(&member, &redemption));
    let found = state.ask_store(move |store| receipts(store, bucket, [key])).await;
    let [receipt] = found.map_err(|error| accounts::problem(&error))?;
    match receipt.as_ref().map(decided).transpose()?.flatten() {
        Some(decided) => Ok(Json(RedemptionView::of(member, redemption, &decided))),
        None => Err(Problem::not_found(format!(
            "no redemption {redemption:?} of member {member:?} was decided, or not yet, or it is too long ago"
        ))),
    }
}

/// Where requests for redemptions are handed over.
pub(super) struct Desk {
    pub sender: Box<dyn crate::log::Sender>,
    pub topic: TopicName,
    pub wait: Duration,
    pub max_record_bytes: usize,
}

/// An id that nobody can choose or foresee: it seeds what a lottery draws. A request that is sent again is told by its
/// redemption's id.
fn event_id() -> Uuid {
    // The operating system's randomness, by way of the seed that the standard library gives its hashes.
    let random = || RandomState::new().hash_one("redemption");
    let (high, low) = (u128::from(random()) << 64, u128::from(random()));
    uuid::Builder::from_random_bytes((high | low).to_be_bytes()).into_uuid()
}

/// A request as it goes to the topic and as it is recognised.
struct Request {
    asked: RedemptionAsked,
    member: MemberId,
    redemption: String,
    bucket: Bucket,
    event: Box<Event>,
    record: OutRecord,
}

impl Request {
    /// Makes the event and has it read by the decoder that will read it from the topic.
    fn of(state: &HttpState, desk: &Desk, member: MemberId, asked: RedemptionAsked) -> Result<Self, Problem> {
        // There is one: `asked` saw to it.
        let redemption = id("redemption_id", asked.redemption_id.clone().unwrap_or_default())?;
        let payload = json!({
            "specversion": "1.0",
            "id": event_id().to_string(),
            "source": SOURCE,
            "type": "redemption.requested",
            "subject": member,
            "time": Timestamp::now().round(jiff::Unit::Millisecond).unwrap_or_default().to_string(),
            "datacontenttype": "application/json",
            "data": asked,
        });
        let payload = payload.to_string().into_bytes();
        let record = Record {
            at: Coordinates { topic: desk.topic.clone(), partition: 0, offset: 0 },
            published_ms: None,
            key: None,
            payload: Some(payload.clone()),
            headers: Vec::new(),
        };
        let decoder = Decoder::of(&state.versions(), desk.max_record_bytes);
        let event = match decoder.decode(&record) {
            Ok(Decoded::Event(event)) => event,
            Ok(Decoded::Skipped) => {
                return Err(Problem::not_implemented("the programme takes no redemptions now"));
            }
            Err(Rejected { detail, .. }) => return Err(Problem::bad_request(detail)),
        };
        let key = Some(member.as_str().as_bytes().to_vec());
        let record =
            OutRecord { topic: desk.topic.clone(), key, payload: Some(payload), headers: Vec::new() };
        Ok(Self { bucket: state.buckets().of(&member), asked, member, redemption, event, record })
    }

    /// The answer, if it is there.
    async fn look(&self, state: &HttpState) -> Result<Option<RedemptionView>, Problem> {
        let (bucket, keys) =
            (self.bucket, [self.event.receipt_key.clone(), redemption_key(&self.member, &self.redemption)]);
        let found = state.ask_store(move |store| receipts(store, bucket, keys)).await;
        let [of_event, of_redemption] = found.map_err(|error| accounts::problem(&error))?;
        let other = || {
            Problem::unprocessable(format!(
                "redemption {:?} was asked for before, and for something else; a new one needs a new id",
                self.redemption
            ))
        };
        let is_this = |receipt: &Receipt| receipt.fingerprint == self.event.fingerprint;
        if of_event.is_some_and(|receipt| !is_this(&receipt)) {
            return Err(other());
        }
        let Some(receipt) = of_redemption else { return Ok(None) };
        let Some(decided) = decided(&receipt)? else { return Ok(None) };
        // What came another way, or was asked for so long ago that its event is forgotten, is told by what it was for.
        if !is_this(&receipt) && !self.is_for(&decided) {
            return Err(other());
        }
        Ok(Some(RedemptionView::of(self.member.clone(), self.redemption.clone(), &decided)))
    }

    fn is_for(&self, decided: &Redemption) -> bool {
        let asked = &self.asked;
        let points = asked.points.filter(|_| decided.why.is_none());
        decided.reward.as_str() == asked.reward
            && decided.quantity == asked.quantity.unwrap_or(1)
            && points.is_none_or(|points| points == decided.points.0)
            && decided.order.as_deref() == asked.order_id.as_deref()
    }

    fn pending(&self) -> Response {
        let place =
            format!("/v1/redemptions/{}/{}", encoded(self.member.as_str()), encoded(&self.redemption));
        let view = PendingView {
            member_id: self.member.clone(),
            redemption_id: self.redemption.clone(),
            status: Pending::Pending,
        };
        (StatusCode::ACCEPTED, [(LOCATION, place), (RETRY_AFTER, "1".to_owned())], Json(view)).into_response()
    }
}

/// Receipts of one bucket, in the order asked for.
fn receipts<const N: usize>(
    store: &mut dyn Store,
    bucket: Bucket,
    keys: [crate::store::ReceiptKey; N],
) -> Result<[Option<Receipt>; N], FindError> {
    let found =
        store.load(&[LoadBucket { bucket, members: Vec::new(), receipts: keys.into(), outbox: false }])?;
    let mut found = found.into_iter().flat_map(|bucket| bucket.receipts);
    Ok(std::array::from_fn(|_| found.next().flatten()))
}

/// The decision that a receipt holds.
fn decided(receipt: &Receipt) -> Result<Option<Redemption>, Problem> {
    let Some(json) = &receipt.record else { return Ok(None) };
    serde_json::from_str(json).map(Some).map_err(|error| {
        tracing::error!(%error, "a redemption's record cannot be read");
        Problem::internal(format!("the redemption's record cannot be read: {error}"))
    })
}

fn not_sent(error: &LogError) -> Problem {
    if matches!(error, LogError::Retriable(_)) {
        return Problem::unavailable(format!("Kafka: {error}; ask the same again"));
    }
    tracing::error!(%error, "a redemption cannot be put on its topic");
    Problem::internal(format!("Kafka: {error}"))
}

/// The body, with the redemption's id in it.
async fn asked(headers: &HeaderMap, body: Body) -> Result<RedemptionAsked, Problem> {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        return Err(Problem::unsupported_media_type("the body must be application/json"));
    }
    let body = timeout(BODY_WITHIN, to_bytes(body, LARGEST_BODY)).await;
    let body = body.map_err(|_| Problem::too_slow("the body did not come within 5 s"))?;
    let body = body.map_err(|_| Problem::too_large(format!("a body has at most {LARGEST_BODY} bytes")))?;
    let mut asked: RedemptionAsked = serde_json::from_slice(&body)
        .map_err(|error| Problem::bad_request(format!("the body is no request for a redemption: {error}")))?;
    let key = headers.get("idempotency-key").map(|key| key.to_str().unwrap_or_default());
    // The draft of the header has it in quotes, most clients have not.
    let key = key.map(|key| key.strip_prefix('"').and_then(|key| key.strip_suffix('"')).unwrap_or(key));
    match (&asked.redemption_id, key) {
        (None, None | Some("")) => Err(Problem::bad_request(
            "`redemption_id` or a header `Idempotency-Key` is needed, so that what is asked twice is redeemed once",
        )),
        (None, Some(key)) => {
            asked.redemption_id = Some(key.to_owned());
            Ok(asked)
        }
        (Some(named), Some(key)) if named != key => Err(Problem::bad_request(
            "`redemption_id` and `Idempotency-Key` must be the same where both are given",
        )),
        (Some(_), _) => Ok(asked),
    }
}

/// `Prefer: wait=N` (RFC 7240).
fn preferred_wait(headers: &HeaderMap) -> Result<Option<Duration>, Problem> {
    let given = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    let mut waits = given
        .flat_map(|value| value.split(','))
        .filter_map(|preference| preference.trim().strip_prefix("wait="))
        .map(|seconds| seconds.trim().parse().map(Duration::from_secs));
    let wait = waits.next().transpose();
    wait.map_err(|_| Problem::bad_request("`Prefer: wait=N` must be a whole number of seconds"))
}

/// Percent-encoded as a path's segment.
fn encoded(text: &str) -> String {
    let mut path = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            path.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            write!(path, "%{byte:02X}").unwrap_or_default();
        }
    }
    path
}
