//! Extractors that check access to a route and parse its target, query, body and headers.

use std::{
    future::{Ready, ready},
    sync::Arc,
};

use actix_web::{FromRequest, HttpRequest, dev::Payload, web::Bytes};
use futures_util::future::LocalBoxFuture;

pub(crate) use super::access::{
    Access, Account, Admin, Anyone, Authenticated, Bearer, BearerOrKey, CatalogReader,
    EventSubscriber, OwnerOrStaff, Staff,
};
use super::{
    body::RequestBody,
    headers::{idempotency_key, parse_if_match, request_id, trace_parent},
    query::QueryParams,
    target::Target,
};
use crate::{
    auth::caller::Caller,
    domain::action::ActionOrigin,
    error::Error,
    http::{openapi::operation_id, response::problem::Problem, state::AppState},
    messages::command_context::{CommandContext, Ticket, TraceParent},
};

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
            action: A::IS_FOR_STAFF.then(|| self.origin()),
        })
    }

    /// Whose request it is, for the actions of what it changes. Use this where there is no
    /// [`context`](Self::context).
    pub(crate) fn origin(&self) -> Arc<ActionOrigin> {
        Arc::new(ActionOrigin {
            actor: self.caller.actor(),
            operation: operation_id(&self.request).into(),
            request_id: request_id(&self.request),
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
