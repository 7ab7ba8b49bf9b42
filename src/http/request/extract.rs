//! Extractors that check access to a route and parse its target, query, body and headers.

use std::{
    future::{Ready, ready},
    sync::Arc,
};

use actix_web::{FromRequest, HttpRequest, dev::Payload, web::Bytes};
use futures_util::future::LocalBoxFuture;

pub(crate) use super::access::{
    Access, Account, AccountOrKey, Admin, Anyone, Authenticated, Bearer, CatalogReader,
    EventSubscriber, OwnerOrStaff, Staff,
};
use super::{
    body::RequestBody,
    headers::{idempotency_key, parse_if_match, request_id, trace_parent},
    query::QueryParams,
};
use crate::{
    auth::caller::Caller,
    domain::{
        account::{ApiKey, Session},
        action::ActionOrigin,
        ids::{ApiKeyId, OrderId, ProductId, SessionId, UserId},
    },
    error::{Error, ErrorCode},
    http::{openapi::operation_id, response::problem::Problem, state::AppState},
    messages::command_context::{CommandContext, Ticket, TraceParent},
};

/// The resource that the path of a route names.
pub(crate) trait Target: Sized {
    /// Parses the path.
    ///
    /// # Errors
    /// The 404 of the route if the path has no valid id.
    fn parse(request: &HttpRequest) -> Result<Self, Error>;

    /// Checks that the resource exists. Runs before invalid query parameters are rejected, since
    /// 404 takes precedence over 422.
    ///
    /// # Errors
    /// The 404 of the route, or `store_unavailable`.
    async fn ensure_exists(
        &self,
        state: &AppState,
        request: &HttpRequest,
        caller: Option<Caller>,
    ) -> Result<(), Error>;
}

impl Target for () {
    fn parse(_: &HttpRequest) -> Result<Self, Error> {
        Ok(())
    }

    async fn ensure_exists(
        &self,
        _: &AppState,
        _: &HttpRequest,
        _: Option<Caller>,
    ) -> Result<(), Error> {
        Ok(())
    }
}

impl Target for ProductId {
    fn parse(request: &HttpRequest) -> Result<Self, Error> {
        path_segment(request).parse().map_err(|_| Error::product_not_found())
    }

    async fn ensure_exists(
        &self,
        state: &AppState,
        _: &HttpRequest,
        _: Option<Caller>,
    ) -> Result<(), Error> {
        state.catalog_cache.get(*self).map(|_| ()).ok_or_else(Error::product_not_found)
    }
}

impl Target for OrderId {
    fn parse(request: &HttpRequest) -> Result<Self, Error> {
        path_segment(request).parse().map_err(|_| Error::order_not_found())
    }

    async fn ensure_exists(
        &self,
        state: &AppState,
        request: &HttpRequest,
        caller: Option<Caller>,
    ) -> Result<(), Error> {
        let found = state.read_before_deadline(request, state.store.find_order(*self)).await?;
        let visible = |owner| caller.is_some_and(|caller| caller.may_see_order_of(owner));
        found.filter(|order| visible(order.user_id)).map(|_| ()).ok_or_else(Error::order_not_found)
    }
}

impl Target for UserId {
    fn parse(request: &HttpRequest) -> Result<Self, Error> {
        path_segment(request).parse().map_err(|_| Error::user_not_found())
    }

    async fn ensure_exists(
        &self,
        state: &AppState,
        request: &HttpRequest,
        _: Option<Caller>,
    ) -> Result<(), Error> {
        let found = state.read_before_deadline(request, state.store.find_user(*self)).await?;
        found.map(|_| ()).ok_or_else(Error::user_not_found)
    }
}

impl Target for SessionId {
    fn parse(request: &HttpRequest) -> Result<Self, Error> {
        path_segment(request).parse().map_err(|_| Error::session_not_found())
    }

    async fn ensure_exists(
        &self,
        state: &AppState,
        request: &HttpRequest,
        caller: Option<Caller>,
    ) -> Result<(), Error> {
        let found = state.read_before_deadline(request, state.store.find_session(*self)).await?;
        let is_own = |session: &Session| {
            caller.is_some_and(|caller| caller.user_id == session.user_id)
                && session.is_active(state.clock.now())
        };
        found.filter(is_own).map(|_| ()).ok_or_else(Error::session_not_found)
    }
}

impl Target for ApiKeyId {
    fn parse(request: &HttpRequest) -> Result<Self, Error> {
        path_segment(request).parse().map_err(|_| Error::api_key_not_found())
    }

    async fn ensure_exists(
        &self,
        state: &AppState,
        request: &HttpRequest,
        _: Option<Caller>,
    ) -> Result<(), Error> {
        let found = state.read_before_deadline(request, state.store.find_api_key(*self)).await?;
        let is_kept = |key: &ApiKey| key.deleted_at.is_none();
        found.filter(is_kept).map(|_| ()).ok_or_else(Error::api_key_not_found)
    }
}

/// The line of the caller's cart that has this product.
pub(crate) struct CartLineTarget(pub(crate) ProductId);

impl CartLineTarget {
    fn not_found() -> Error {
        Error::new(ErrorCode::LineNotFound, "The cart has no line with this product.")
    }
}

impl Target for CartLineTarget {
    fn parse(request: &HttpRequest) -> Result<Self, Error> {
        path_segment(request).parse().map(Self).map_err(|_| Self::not_found())
    }

    async fn ensure_exists(
        &self,
        state: &AppState,
        request: &HttpRequest,
        caller: Option<Caller>,
    ) -> Result<(), Error> {
        let Some(caller) = caller else { return Err(Self::not_found()) };
        let view = state.carts.read_cart(caller.owner(), &state.request_ticket(request)).await?;
        let known = view.cart.lines.iter().any(|line| line.product_id == self.0);
        known.then_some(()).ok_or_else(Self::not_found)
    }
}

/// The variable part of the path.
fn path_segment(request: &HttpRequest) -> String {
    request.match_info().load().unwrap_or_default()
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
            action: A::IS_FOR_STAFF.then(|| self.origin()),
        })
    }

    /// Whose request it is, for the actions of what it changes. Use this where there is no
    /// [`context`](Self::context).
    pub(crate) fn origin(&self) -> Arc<ActionOrigin> {
        Arc::new(ActionOrigin {
            actor: self.caller.actor(),
            operation: operation_id(&self.request),
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
