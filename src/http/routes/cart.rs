//! Carts.

use std::sync::Arc;

use actix_web::{HttpRequest, http::StatusCode, web};
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::http::{
    request,
    response::{self, Answer, problem::ProblemDetails, views::CartResponse},
    state::Services,
};
use crate::{
    domain::{
        account::Role,
        cart::{CartCommand, Owner},
        ids::{ProductId, UserId},
        validation::Faults,
    },
    error::{Error, ErrorCode},
    messages::{
        cart::{CartView, ChangeCart, MergeCart},
        change::{Change, Reply},
    },
};

/// The routes.
pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .service(web::resource("/api/cart").get(show).delete(clear))
        .service(web::resource("/api/cart/add").post(add))
        .service(web::resource("/api/cart/update").put(update))
        .service(web::resource("/api/cart/remove/{product_id}").delete(remove))
        .service(web::resource("/api/cart/guest").post(guest))
        .service(web::resource("/api/cart/merge").post(merge));
}

/// A product and how many of it.
#[derive(Deserialize, ToSchema)]
pub(crate) struct LineRequest {
    product_id: Uuid,
    /// For adding at least 1; for updating 0 removes the line.
    #[schema(minimum = 0, maximum = 999, example = 2)]
    quantity: i64,
}

/// A guest's cart to take over.
#[derive(Deserialize, ToSchema)]
pub(crate) struct MergeRequest {
    /// The token that `POST /api/cart/guest` gave.
    guest_token: String,
}

/// A guest's token with their cart.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes an answer that is put together from rendered parts")]
pub(crate) struct GuestResponse<'a> {
    token: String,
    /// Seconds until the token ends.
    expires_in: u64,
    cart: CartResponse<'a>,
}

impl LineRequest {
    fn quantity(&self, least: i64) -> Result<u32, Error> {
        if self.quantity < least {
            return Err(Error::invalid_field(
                "quantity",
                "out_of_range",
                format!("quantity must be at least {least}"),
            ));
        }
        // What no u32 holds is above every limit; the cart says so.
        Ok(u32::try_from(self.quantity).unwrap_or(u32::MAX))
    }
}

/// The caller's cart.
///
/// An empty cart is a cart too. `price_changed` tells lines whose price is not what it was when they were last written.
#[utoipa::path(get, path = "/api/cart", tag = "Cart", security(("bearer" = [])), responses(
    (status = 200, body = CartResponse, headers(("ETag" = String, description = "Changes whenever the answer does"))),
    (status = 304, description = "`If-None-Match` names the current ETag"),
    (status = 401, body = ProblemDetails, description = "`unauthenticated`, `token_expired`"),
    (status = 409, body = ProblemDetails, description = "`guest_cart_merged`"),
))]
async fn show(request: HttpRequest) -> Answer {
    let services = Services::of(&request)?;
    let caller = services.caller(&request)?;
    services.freshen(&request).await?;
    let view = services.carts.read(caller.owner(), &services.ticket(&request)).await?;
    Ok(response::read(&request, view.body.clone(), &view.etag))
}

/// Put a product into the cart.
///
/// Adds to a line that is there. The whole line is checked against what is available.
#[utoipa::path(post, path = "/api/cart/add", tag = "Cart", security(("bearer" = [])), request_body = LineRequest, params(
    ("Idempotency-Key" = Option<String>, Header, description = "Makes a repeat harmless"),
    ("If-Match" = Option<String>, Header, description = "Only when the cart has this ETag"),
), responses(
    (status = 200, body = CartResponse),
    (status = 404, body = ProblemDetails, description = "`product_not_found`"),
    (status = 409, body = ProblemDetails, description = "`insufficient_stock`, `guest_cart_merged`"),
    (status = 422, body = ProblemDetails, description = "`validation_failed`, `quantity_limit`, `line_limit`, `idempotency_key_reused`"),
))]
async fn add(request: HttpRequest, payload: web::Payload) -> Answer {
    let services = Services::of(&request)?;
    let caller = services.caller(&request)?;
    let body = request::json::<LineRequest>(&request, payload).await?;
    let command = CartCommand::Add {
        product_id: body.value.product_id.into(),
        quantity: body.value.quantity(1)?,
    };
    change(services, caller.owner(), command, body.change(&request, &caller, 200)?).await
}

/// Set how many pieces a line has.
#[utoipa::path(put, path = "/api/cart/update", tag = "Cart", security(("bearer" = [])), request_body = LineRequest, params(
    ("Idempotency-Key" = Option<String>, Header, description = "Makes a repeat harmless"),
    ("If-Match" = Option<String>, Header, description = "Only when the cart has this ETag"),
), responses(
    (status = 200, body = CartResponse),
    (status = 404, body = ProblemDetails, description = "`line_not_found`"),
    (status = 409, body = ProblemDetails, description = "`insufficient_stock`, `guest_cart_merged`"),
    (status = 422, body = ProblemDetails, description = "`validation_failed`, `quantity_limit`, `idempotency_key_reused`"),
))]
async fn update(request: HttpRequest, payload: web::Payload) -> Answer {
    let services = Services::of(&request)?;
    let caller = services.caller(&request)?;
    let body = request::json::<LineRequest>(&request, payload).await?;
    let command = CartCommand::Update {
        product_id: body.value.product_id.into(),
        quantity: body.value.quantity(0)?,
    };
    change(services, caller.owner(), command, body.change(&request, &caller, 200)?).await
}

/// Take a line out of the cart.
#[utoipa::path(delete, path = "/api/cart/remove/{product_id}", tag = "Cart", security(("bearer" = [])), params(
    ("product_id" = Uuid, Path),
    ("Idempotency-Key" = Option<String>, Header, description = "Makes a repeat harmless"),
    ("If-Match" = Option<String>, Header, description = "Only when the cart has this ETag"),
), responses(
    (status = 200, body = CartResponse),
    (status = 404, body = ProblemDetails, description = "`line_not_found`"),
    (status = 409, body = ProblemDetails, description = "`guest_cart_merged`"),
))]
async fn remove(request: HttpRequest, path: web::Path<String>) -> Answer {
    let services = Services::of(&request)?;
    let caller = services.caller(&request)?;
    let product_id: ProductId = path.parse().map_err(|_| {
        Error::new(ErrorCode::LineNotFound, "The cart has no line with this product.")
    })?;
    let goes_with = request::change(&request, &caller, 200, &[])?;
    change(services, caller.owner(), CartCommand::Remove { product_id }, goes_with).await
}

/// Empty the cart.
#[utoipa::path(delete, path = "/api/cart", tag = "Cart", security(("bearer" = [])), params(
    ("Idempotency-Key" = Option<String>, Header, description = "Makes a repeat harmless"),
    ("If-Match" = Option<String>, Header, description = "Only when the cart has this ETag"),
), responses((status = 200, body = CartResponse), (status = 409, body = ProblemDetails, description = "`guest_cart_merged`")))]
async fn clear(request: HttpRequest) -> Answer {
    let services = Services::of(&request)?;
    let caller = services.caller(&request)?;
    let goes_with = request::change(&request, &caller, 200, &[])?;
    change(services, caller.owner(), CartCommand::Clear, goes_with).await
}

/// A cart without an account.
///
/// The token opens it on every cart route; at registration, login or merge its lines go into the account's cart.
#[utoipa::path(post, path = "/api/cart/guest", tag = "Cart", responses((status = 201, body = GuestResponse)))]
async fn guest(request: HttpRequest) -> Answer {
    let services = Services::of(&request)?;
    let id = UserId::new();
    let access = services.tokens.for_guest(id)?;
    let view = services.carts.read(Owner { id, guest: true }, &services.ticket(&request)).await?;
    let cart = serde_json::from_slice::<&serde_json::value::RawValue>(&view.body)
        .map_err(|_| Error::internal())?;
    let body =
        serde_json::json!({ "token": access.token, "expires_in": access.expires_in, "cart": cart });
    response::secret(StatusCode::CREATED, &body)
}

/// Take a guest's cart over.
///
/// Quantities add up to the limit and no line is dropped. A repeat changes nothing.
#[utoipa::path(post, path = "/api/cart/merge", tag = "Cart", security(("bearer" = [])), request_body = MergeRequest, params(
    ("Idempotency-Key" = Option<String>, Header, description = "Makes a repeat harmless"),
), responses(
    (status = 200, body = CartResponse),
    (status = 403, body = ProblemDetails, description = "`forbidden`: a guest cannot take over another's cart"),
    (status = 409, body = ProblemDetails, description = "`guest_cart_merged`: another user has it"),
    (status = 422, body = ProblemDetails, description = "`validation_failed`: the guest token is not valid"),
))]
async fn merge(request: HttpRequest, payload: web::Payload) -> Answer {
    let services = Services::of(&request)?;
    let caller = services.member(&request)?;
    let body = request::json::<MergeRequest>(&request, payload).await?;
    let guest = guest_of(services, &body.value.guest_token)?;
    let message = MergeCart { guest, change: body.change(&request, &caller, 200)? };
    Ok(reply(services.carts.merge(caller.owner(), message).await?))
}

/// The guest that a token opens the cart of.
pub(super) fn guest_of(services: &Services, token: &str) -> Result<UserId, Faults> {
    let claims = services.tokens.verify(token).ok().filter(|claims| claims.role == Role::Guest);
    let fault = || {
        Faults::one(
            "guest_token",
            "invalid",
            "guest_token is not the token of a guest's cart, or has expired",
        )
    };
    claims.map(|claims| claims.user_id).ok_or_else(fault)
}

async fn change(services: &Services, owner: Owner, command: CartCommand, change: Change) -> Answer {
    Ok(reply(services.carts.change(owner, ChangeCart { command, change }).await?))
}

fn reply(reply: Reply<Arc<CartView>>) -> actix_web::HttpResponse {
    match reply {
        Reply::Done(view) => {
            response::rendered(StatusCode::OK, view.body.clone()).etag(&view.etag).finish()
        }
        Reply::Replayed(first) => response::replayed(first),
    }
}
