//! The resources that the paths of routes name.

use actix_web::HttpRequest;

use crate::{
    auth::caller::Caller,
    domain::{
        account::{ApiKey, Session},
        ids::{AddressId, ApiKeyId, OrderId, ProductId, SessionId, UserId, WebhookId},
        order::Order,
        webhook::Webhook,
    },
    error::{Error, ErrorCode},
    http::state::AppState,
    store::StoreUnavailable,
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

/// Checks that the store has a record that the caller may see.
async fn ensure_found<R>(
    state: &AppState,
    request: &HttpRequest,
    read: impl Future<Output = Result<Option<R>, StoreUnavailable>>,
    is_visible: impl FnOnce(&R) -> bool,
    not_found: fn() -> Error,
) -> Result<(), Error> {
    let found = state.read_before_deadline(request, read).await?;
    found.filter(is_visible).map(|_| ()).ok_or_else(not_found)
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
        let is_visible =
            |order: &Order| caller.is_some_and(|caller| caller.may_see_order_of(order.user_id));
        let read = state.store.find_order(*self);
        ensure_found(state, request, read, is_visible, Error::order_not_found).await
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
        let read = state.store.find_user(*self);
        ensure_found(state, request, read, |_| true, Error::user_not_found).await
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
        let is_own = |session: &Session| {
            caller.is_some_and(|caller| caller.user_id == session.user_id)
                && session.is_active(state.clock.now())
        };
        let read = state.store.find_session(*self);
        ensure_found(state, request, read, is_own, Error::session_not_found).await
    }
}

impl Target for AddressId {
    fn parse(request: &HttpRequest) -> Result<Self, Error> {
        path_segment(request).parse().map_err(|_| Error::address_not_found())
    }

    async fn ensure_exists(
        &self,
        state: &AppState,
        request: &HttpRequest,
        caller: Option<Caller>,
    ) -> Result<(), Error> {
        let Some(caller) = caller else { return Err(Error::address_not_found()) };
        let book = state.store.find_address_book(caller.user_id);
        let book = state.read_before_deadline(request, book).await?;
        book.find(*self).map(|_| ()).ok_or_else(Error::address_not_found)
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
        let is_kept = |key: &ApiKey| key.deleted_at.is_none();
        let read = state.store.find_api_key(*self);
        ensure_found(state, request, read, is_kept, Error::api_key_not_found).await
    }
}

impl Target for WebhookId {
    fn parse(request: &HttpRequest) -> Result<Self, Error> {
        path_segment(request).parse().map_err(|_| Error::webhook_not_found())
    }

    async fn ensure_exists(
        &self,
        state: &AppState,
        request: &HttpRequest,
        _: Option<Caller>,
    ) -> Result<(), Error> {
        let read = state.store.find_webhook(*self);
        let exists = |_: &Webhook| true;
        ensure_found(state, request, read, exists, Error::webhook_not_found).await
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
pub(crate) fn path_segment(request: &HttpRequest) -> String {
    request.match_info().load().unwrap_or_default()
}
