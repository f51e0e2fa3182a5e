//! Who may ask, and how much: tokens, rates, and how many requests are under way. Everything that is about members
//! goes through [`guarded`]; what is open to all is only counted ([`counted`]).

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use axum::extract::{FromRequestParts, Request, State};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::rate::{Limiter, Who};
use super::{HttpState, Problem, token};
use crate::config::{Access, Http, Rate, Secret, TokenFile};
use crate::types::MemberId;

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) IpAddr);

/// Who asks, as far as the guard let them in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Caller {
    /// Whoever reaches the loopback interface, where no token is asked for.
    Local,
    /// A service, which may ask for every account.
    Service,
    /// A member, who may ask for their own.
    Member(MemberId),
}

impl Caller {
    /// Whether this member's account may be shown.
    ///
    /// # Errors
    /// The same problem whether there is such a member or not.
    pub(super) fn may_see(&self, member: &MemberId) -> Result<(), Problem> {
        match self {
            Self::Local | Self::Service => Ok(()),
            Self::Member(own) if own == member => Ok(()),
            Self::Member(_) => {
                Err(Problem::forbidden("a member's token shows that member's own account only"))
            }
        }
    }

    /// Whether it is no member.
    ///
    /// # Errors
    /// That a service's token is needed.
    pub(super) fn is_service(&self) -> Result<(), Problem> {
        match self {
            Self::Local | Self::Service => Ok(()),
            Self::Member(_) => Err(Problem::forbidden("this is for support; a service's token is needed")),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        // A route that forgets its guard shows nothing.
        let caller = parts.extensions.get().cloned();
        caller.ok_or_else(|| Problem::internal("this route has no guard, and so shows nothing"))
    }
}

/// What stands before the routes.
pub(super) struct Gate {
    access: RwLock<Access>,
    rate: Rate,
    member_rate: Rate,
    limiter: Mutex<Limiter>,
    under_way: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl Gate {
    pub(super) fn new(settings: &Http) -> Self {
        Self {
            access: RwLock::new(settings.access.clone()),
            rate: settings.rate,
            member_rate: settings.member_rate,
            limiter: Mutex::new(Limiter::new()),
            under_way: Arc::new(Semaphore::new(settings.max_requests)),
            // Redemptions that wait leave room for who only looks.
            waiting: Arc::new(Semaphore::new((settings.max_requests / 2).max(1))),
        }
    }

    /// Lets a request in, counts it, and holds a place for it.
    fn admit(&self, headers: &HeaderMap, peer: Option<IpAddr>, now: Timestamp) -> Result<Admitted, Problem> {
        let known = self.identify(headers, now);
        let who = match (&known, peer) {
            (Ok((Caller::Member(member), _)), _) => Who::Member(member.clone()),
            (Ok((Caller::Service, at)), _) => Who::Service(*at),
            (_, Some(address)) => Who::at(address),
            (_, None) => Who::Others,
        };
        self.count(who)?;
        let (caller, _) = known?;
        let place = self.under_way.clone().try_acquire_owned();
        let place = place.map_err(|_| Problem::unavailable("too many requests are under way"))?;
        Ok(Admitted { caller, _place: place })
    }

    /// Who it is; a service with its place among the services.
    fn identify(&self, headers: &HeaderMap, now: Timestamp) -> Result<(Caller, usize), Problem> {
        let access = self.access.read().unwrap_or_else(PoisonError::into_inner);
        let (service, member) = match &*access {
            Access::Nobody => {
                return Err(Problem::not_found("accounts are not served here (`http.accounts` is false)"));
            }
            Access::Loopback => return Ok((Caller::Local, 0)),
            Access::Tokens { service, member } => (service, member),
        };
        let token = bearer(headers)?;
        // All are compared, whichever it is.
        let found = held(service.as_ref()).iter().enumerate().fold(None, |found, (at, known)| {
            if token::is_same(known.reveal().as_bytes(), token.as_bytes()) { Some(at) } else { found }
        });
        if let Some(at) = found {
            return Ok((Caller::Service, at));
        }
        let member = token::member(token, held(member.as_ref()), now.as_second());
        member.map(|member| (Caller::Member(member), 0)).map_err(|why| Problem::unauthorized(why.to_string()))
    }

    fn count(&self, who: Who) -> Result<(), Problem> {
        let rate = if matches!(who, Who::Member(_)) { self.member_rate } else { self.rate };
        let mut limiter = self.limiter.lock().unwrap_or_else(PoisonError::into_inner);
        limiter.take(who, rate, Instant::now()).map_err(|wait| {
            let Rate { per_second, burst } = rate;
            Problem::too_many(
                format!("too many requests: {per_second} a second are answered, {burst} at once"),
                wait,
            )
        })
    }

    /// A place among those who wait for a decision.
    ///
    /// # Errors
    /// That it may be tried again.
    pub(super) fn wait(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let place = self.waiting.clone().try_acquire_owned();
        place.map_err(|_| Problem::unavailable("too many redemptions are waited for"))
    }

    /// How many more requests may be under way.
    #[cfg(test)]
    pub(super) fn places_left(&self) -> usize {
        self.under_way.available_permits()
    }

    /// Reads the files of tokens again. True where what counts changed.
    ///
    /// # Errors
    /// Why a file cannot be used; all tokens from before hold on.
    pub(super) fn take_up_tokens(&self) -> Result<bool, String> {
        let held = self.access.read().unwrap_or_else(PoisonError::into_inner).clone();
        let Access::Tokens { service, member } = &held else { return Ok(false) };
        let again = |file: &Option<TokenFile>| file.as_ref().map(TokenFile::read_again).transpose();
        let read = Access::Tokens { service: again(service)?, member: again(member)? };
        let changed = read != held;
        if changed {
            *self.access.write().unwrap_or_else(PoisonError::into_inner) = read;
        }
        Ok(changed)
    }

    /// Whether there are files of tokens to look at.
    pub(super) fn has_tokens(&self) -> bool {
        matches!(*self.access.read().unwrap_or_else(PoisonError::into_inner), Access::Tokens { .. })
    }
}

/// How often the files of tokens are read again.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Takes up what the files of tokens hold, for as long as it is polled.
pub(super) async fn watch_tokens(state: &HttpState) {
    if !state.gate().has_tokens() {
        return std::future::pending().await;
    }
    let mut said = None;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let gate = state.gate_handle();
        let Ok(taken) = tokio::task::spawn_blocking(move || gate.take_up_tokens()).await else { continue };
        state.metrics().http_tokens_wrong.set(i64::from(taken.is_err()));
        match taken {
            Ok(true) => tracing::info!("other tokens count now"),
            Ok(false) => {}
            // Once for each mistake, and not once a second.
            Err(why) if said.as_ref() == Some(&why) => continue,
            Err(why) => {
                tracing::error!(%why, "tokens cannot be taken up; those from before hold on");
                said = Some(why);
                continue;
            }
        }
        said = None;
    }
}

struct Admitted {
    caller: Caller,
    /// Held until the answer is there.
    _place: OwnedSemaphorePermit,
}

/// What a file holds; nothing where there is none.
fn held(file: Option<&TokenFile>) -> &[Secret] {
    file.map(TokenFile::held).unwrap_or_default()
}

/// The token of `Authorization: Bearer …`.
fn bearer(headers: &HeaderMap) -> Result<&str, Problem> {
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let (Some(one), None) = (given.next(), given.next()) else {
        return Err(Problem::unauthorized("one header `Authorization: Bearer TOKEN` is needed"));
    };
    let token = one.to_str().ok().and_then(|text| text.split_once(' '));
    let token = token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    token
        .map(|(_, token)| token.trim())
        .ok_or_else(|| Problem::unauthorized("the header must read `Authorization: Bearer TOKEN`"))
}

/// For what is about members.
pub(super) async fn guarded(State(state): State<HttpState>, mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get().map(|Peer(address)| *address);
    match state.gate().admit(request.headers(), peer, Timestamp::now()) {
        Err(problem) => problem.into_response(),
        Ok(admitted) => {
            request.extensions_mut().insert(admitted.caller.clone());
            next.run(request).await
        }
    }
}

/// For what is open to all.
pub(super) async fn counted(State(state): State<HttpState>, request: Request, next: Next) -> Response {
    let who = request.extensions().get().map_or(Who::Others, |Peer(address)| Who::at(*address));
    match state.gate().count(who) {
        Err(problem) => problem.into_response(),
        Ok(()) => next.run(request).await,
    }
}
