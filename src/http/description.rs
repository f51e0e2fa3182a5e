//! What is served, for people (the index) and for machines (OpenAPI).

use std::collections::BTreeMap;

use serde_json::{Value, json};
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::path::Operation;
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::Type;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Header, Object, Ref, RefOr};
use utoipa::{Modify, OpenApi};

use super::{Problem, accounts, explain, health, redemptions};

/// What `/` shows.
pub(super) const INDEX: &str = "accrual: a loyalty programme on Kafka

/livez                   200 while the lanes turn
/readyz                  200 while the worker can work, else 503 with the reason
/metrics                 Prometheus metrics
/v1/accounts/{member}    a member's account
/v1/accounts/{member}/explain/{event_id}
                         why an event paid what it paid, rule by rule
/v1/redemptions          POST: points for a reward, and the answer
/v1/redemptions/{member}/{redemption_id}
                         what became of a redemption
/v1/openapi.json         the above for machines
";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "accrual",
        description = "Points, tiers and their history of the members of a loyalty programme, and how \
                       the worker is that keeps them. What is about members needs a bearer token, but on a worker \
                       that listens on the loopback interface only and is given no tokens."
    ),
    paths(
        accounts::account,
        explain::explain,
        redemptions::redeem,
        redemptions::redemption,
        health::livez,
        health::readyz,
        super::metrics
    ),
    components(schemas(Problem)),
    modifiers(&Guards)
)]
struct Description;

/// The document.
pub(super) fn openapi() -> utoipa::openapi::OpenApi {
    Description::openapi()
}

/// A service's token.
const SERVICE: &str = "service";
/// A member's token.
const MEMBER: &str = "member";

/// What the guard of a route may answer, which no route says by itself; and every problem as one, with an example.
struct Guards;

const OF_GUARD: [(&str, &str); 5] = [
    ("401", "a header `Authorization: Bearer TOKEN` is needed, with a token that counts and has not expired"),
    ("403", "a member's token shows that member's own account only"),
    ("413", "a body has at most 16384 bytes"),
    ("429", "too many requests; ask again after the seconds of `retry-after`"),
    ("503", "the store does not answer, or too many requests are under way; try again"),
];

impl Modify for Guards {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = |format: &str, description: &str| {
            let http = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format(format);
            SecurityScheme::Http(http.description(Some(description)).build())
        };
        let components = document.components.get_or_insert_default();
        components.add_security_scheme(
            SERVICE,
            scheme("opaque", "one of the tokens of `http.tokens`; opens every account"),
        );
        components.add_security_scheme(
            MEMBER,
            scheme(
                "JWT",
                "signed HS256 with a secret of `http.member_tokens`; `sub` is the member's id, `exp` is required, `aud` is \
                 `accrual` where it is given; opens that member's account",
            ),
        );
        for (path, item) in &mut document.paths.paths {
            for operation in [&mut item.get, &mut item.post].into_iter().flatten() {
                guard(path, operation);
                let responses = &mut operation.responses.responses;
                for (status, response) in responses.iter_mut().filter(|(status, _)| status.as_str() >= "400")
                {
                    if let RefOr::T(response) = response {
                        say_problem(status, response);
                    }
                }
            }
        }
    }
}

fn guard(path: &str, operation: &mut Operation) {
    let scheme = |name: &str| SecurityRequirement::new(name, [] as [&str; 0]);
    let is_for_services = path.contains("/explain/");
    let may_answer: &[_] = match path {
        "/livez" | "/readyz" => &[],
        "/metrics" => &["429"],
        _ => {
            let members = (!is_for_services).then(|| scheme(MEMBER));
            operation.security = Some([scheme(SERVICE)].into_iter().chain(members).collect());
            &["401", "403", "413", "429", "503"]
        }
    };
    let known: BTreeMap<&str, &str> = OF_GUARD.into();
    for status in may_answer {
        let description = known.get(status).copied().unwrap_or_default();
        let added = || ResponseBuilder::new().description(description).build().into();
        operation.responses.responses.entry((*status).to_owned()).or_insert_with(added);
    }
}

/// Says that the response is a problem, with its description for an example's detail.
fn say_problem(status: &str, response: &mut Response) {
    let code = axum::http::StatusCode::from_bytes(status.as_bytes()).unwrap_or_default();
    let problem = Problem::new(code, response.description.clone());
    let example: Option<Value> = Some(json!(problem));
    let content =
        ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).example(example).build();
    if ["429", "503"].contains(&status) {
        let seconds =
            Header::builder().schema(Some(Object::with_type(Type::Integer))).description(Some("seconds"));
        response.headers.insert("Retry-After".to_owned(), seconds.build().into());
    }
    response.content.clear();
    response.content.insert("application/problem+json".to_owned(), content.into());
}
