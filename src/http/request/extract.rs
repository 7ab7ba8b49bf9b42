//! Extractors that check access to a route and parse its target, query, body and headers.

use std::{
    future::{Ready, ready},
    marker::PhantomData,
    sync::Arc,
};

use actix_web::{FromRequest, HttpRequest, dev::Payload, http::header, web::Bytes};
use futures_util::future::LocalBoxFuture;

use super::{
    body::RequestBody,
    headers::{idempotency_key, parse_if_match, trace_parent},
    query::QueryParams,
    scopes::Scopes,
    target::Target,
};
use crate::{
    auth::caller::Caller,
    error::Error,
    http::{response::problem::Problem, state::AppState},
    messages::command_context::{CommandContext, Ticket, TraceParent},
};

/// Who may use a route.
pub(crate) trait Access {
    /// What the route learns about the caller.
    type Caller: Copy + 'static;

    /// Checks that the caller may use the route.
    ///
    /// # Errors
    /// `unauthenticated`, `token_expired`, `rate_limited` or `forbidden`.
    fn authorize(state: &AppState, request: &HttpRequest) -> Result<Self::Caller, Error>;

    /// The caller's account or guest, if the route identifies one.
    fn identity(caller: Self::Caller) -> Option<Caller>;
}

/// Everyone, with or without a token.
pub(crate) struct Anyone;

/// Everyone who may read the catalog: without `catalog.public_read`, only with a token.
pub(crate) struct CatalogReader;

/// As [`CatalogReader`], but a token that is sent must be valid. The route checks a ticket itself.
pub(crate) struct EventSubscriber;

/// Everyone with a token, guests included.
pub(crate) struct Bearer;

/// Everyone with an account.
pub(crate) struct Account;

/// Admins.
pub(crate) struct Admin;

/// Those who may do what all scopes of `S` stand for.
pub(crate) struct Staff<S: Scopes>(PhantomData<S>);

impl Access for Anyone {
    type Caller = ();

    fn authorize(_: &AppState, _: &HttpRequest) -> Result<(), Error> {
        Ok(())
    }

    fn identity((): ()) -> Option<Caller> {
        None
    }
}

impl Access for CatalogReader {
    type Caller = ();

    fn authorize(state: &AppState, request: &HttpRequest) -> Result<(), Error> {
        if state.options.public_read { Ok(()) } else { state.authenticate(request).map(|_| ()) }
    }

    fn identity((): ()) -> Option<Caller> {
        None
    }
}

impl Access for EventSubscriber {
    type Caller = Option<Caller>;

    fn authorize(state: &AppState, request: &HttpRequest) -> Result<Option<Caller>, Error> {
        let may_be_anonymous = || {
            state.options.public_read
                || QueryParams::parse(request.query_string()).get("ticket").is_some()
        };
        if !request.headers().contains_key(header::AUTHORIZATION) && may_be_anonymous() {
            return Ok(None);
        }
        state.authenticate(request).map(Some)
    }

    fn identity(caller: Option<Caller>) -> Option<Caller> {
        caller
    }
}

impl Access for Bearer {
    type Caller = Caller;

    fn authorize(state: &AppState, request: &HttpRequest) -> Result<Caller, Error> {
        state.authenticate(request)
    }

    fn identity(caller: Caller) -> Option<Caller> {
        Some(caller)
    }
}

impl Access for Account {
    type Caller = Caller;

    fn authorize(state: &AppState, request: &HttpRequest) -> Result<Caller, Error> {
        state.authenticate(request)?.require_account()
    }

    fn identity(caller: Caller) -> Option<Caller> {
        Some(caller)
    }
}

impl Access for Admin {
    type Caller = Caller;

    fn authorize(state: &AppState, request: &HttpRequest) -> Result<Caller, Error> {
        state.authenticate(request)?.require_admin()
    }

    fn identity(caller: Caller) -> Option<Caller> {
        Some(caller)
    }
}

impl<S: Scopes> Access for Staff<S> {
    type Caller = Caller;

    fn authorize(state: &AppState, request: &HttpRequest) -> Result<Caller, Error> {
        state.authenticate(request)?.require(S::SCOPES)
    }

    fn identity(caller: Caller) -> Option<Caller> {
        Some(caller)
    }
}

/// A `GET` request from an authorized caller.
pub(crate) struct ReadRequest<A: Access, T: Target = ()> {
    pub(crate) request: HttpRequest,
    pub(crate) state: Arc<AppState>,
    pub(crate) caller: A::Caller,
    pub(crate) target: T,
    /// The parameters; the route rejects those it does not know, after its 404.
    pub(crate) query: QueryParams,
}

impl<A: Access, T: Target> ReadRequest<A, T> {
    fn new(request: &HttpRequest) -> Result<Self, Error> {
        let state = Arc::clone(AppState::from_request(request)?);
        let caller = A::authorize(&state, request)?;
        let target = T::parse(request)?;
        let query = QueryParams::parse(request.query_string());
        Ok(Self { request: request.clone(), state, caller, target, query })
    }

    /// See [`AppState::honor_no_cache`].
    pub(crate) async fn honor_no_cache(&self) -> Result<(), Error> {
        self.state.honor_no_cache(&self.request).await
    }

    /// A ticket for the time that is left to answer the request.
    pub(crate) fn ticket(&self) -> Ticket {
        self.state.request_ticket(&self.request)
    }
}

impl<A: Access + 'static, T: Target + 'static> FromRequest for ReadRequest<A, T> {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Self::new(request).map_err(Problem::from))
    }
}

/// A write request from an authorized caller.
pub(crate) struct ChangeRequest<A: Access, B: RequestBody = (), T: Target = ()> {
    pub(crate) request: HttpRequest,
    pub(crate) state: Arc<AppState>,
    pub(crate) caller: A::Caller,
    pub(crate) target: T,
    pub(crate) body: B,
    bytes: Bytes,
}

impl<A: Access, B: RequestBody, T: Target> ChangeRequest<A, B, T> {
    async fn new(request: HttpRequest, payload: Payload) -> Result<Self, Error> {
        let state = Arc::clone(AppState::from_request(&request)?);
        let caller = A::authorize(&state, &request)?;
        let target = T::parse(&request)?;
        let query = QueryParams::parse(request.query_string());
        if !query.is_empty() {
            target.ensure_exists(&state, &request, A::identity(caller)).await?;
            query.reject_others(B::QUERY_PARAMETERS)?;
        }
        let (body, bytes) = B::read(&request, payload).await?;
        Ok(Self { request, state, caller, target, body, bytes })
    }

    /// A ticket for the time that is left to answer the request.
    pub(crate) fn ticket(&self) -> Ticket {
        self.state.request_ticket(&self.request)
    }

    /// The trace that the request belongs to.
    pub(crate) fn trace(&self) -> Option<TraceParent> {
        trace_parent(self.request.headers())
    }
}

impl<A: Access<Caller = Caller>, B: RequestBody, T: Target> ChangeRequest<A, B, T> {
    /// The context of the command that the request asks for.
    ///
    /// # Errors
    /// `idempotency_key_invalid`
    pub(crate) fn context(&self) -> Result<CommandContext, Error> {
        Ok(CommandContext {
            idempotency_key: idempotency_key(
                &self.request,
                self.state.clock.now(),
                &self.caller,
                &self.bytes,
            )?,
            if_match: parse_if_match(&self.request),
            ticket: self.ticket(),
            trace: self.trace(),
        })
    }
}

impl<A, B, T> FromRequest for ChangeRequest<A, B, T>
where
    A: Access + 'static,
    B: RequestBody + 'static,
    T: Target + 'static,
{
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, payload) = (request.clone(), payload.take());
        Box::pin(async move { Self::new(request, payload).await.map_err(Problem::from) })
    }
}
