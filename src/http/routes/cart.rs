//! Carts.

use std::sync::Arc;

use actix_web::{HttpRequest, http::StatusCode, web};
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::http::{
    request,
    response::{self, RouteResult, problem::ProblemDetails, views::CartResponse},
    state::AppState,
};
use crate::{
    domain::{
        account::Role,
        cart::{CartCommand, CartOwner},
        ids::{ProductId, UserId},
        validation::ValidationErrors,
    },
    error::{Error, ErrorCode},
    messages::{
        cart::{CartView, ChangeCart, MergeCart},
        change::{CommandContext, Reply},
    },
};

/// The routes.
pub(super) fn configure_routes(config: &mut web::ServiceConfig) {
    config
        .service(web::resource("/api/cart").get(show).delete(clear))
        .service(web::resource("/api/cart/add").post(add))
        .service(web::resource("/api/cart/update").put(update))
        .service(web::resource("/api/cart/remove/{product_id}").delete(remove))
        .service(web::resource("/api/cart/guest").post(guest))
        .service(web::resource("/api/cart/merge").post(merge));
}

/// A product and its quantity.
#[derive(Deserialize, ToSchema)]
pub(crate) struct LineRequest {
    product_id: Uuid,
    /// To add, 1 or more. To update, 0 or more: 0 removes the line.
    #[schema(minimum = 0, maximum = 999, example = 2)]
    quantity: i64,
}

/// A guest's cart to merge.
#[derive(Deserialize, ToSchema)]
pub(crate) struct MergeRequest {
    /// The token from `POST /api/cart/guest`.
    #[schema(examples("eyJhbGciOiJIUzI1NiJ9.e30.c2lnbmF0dXJl"))]
    guest_token: String,
}

/// A guest's token and cart.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes an answer that is put together from rendered parts")]
pub(crate) struct GuestResponse<'a> {
    #[schema(examples("eyJhbGciOiJIUzI1NiJ9.e30.c2lnbmF0dXJl"))]
    token: String,
    /// The number of seconds until the token expires.
    #[schema(examples(2_592_000))]
    expires_in: u64,
    cart: CartResponse<'a>,
}

impl LineRequest {
    fn checked_quantity(&self, least: i64) -> Result<u32, Error> {
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

/// Get the caller's cart.
///
/// A cart that was never changed is an empty cart. `price_changed` marks a line whose price has
/// changed since the line was last written.
#[utoipa::path(get, path = "/api/cart", operation_id = "get_cart",
tag = "Cart", security(("bearer" = [])), params(
    ("If-None-Match" = Option<String>, Header),
    ("Cache-Control" = Option<String>, Header),
), responses(
    (status = 200, body = CartResponse),
    (status = 304, description = "`If-None-Match` names the current ETag."),
    (status = 401, body = ProblemDetails, description = "`unauthenticated`, `token_expired`"),
    (status = 409, body = ProblemDetails, description = "`guest_cart_merged`"),
))]
async fn show(request: HttpRequest) -> RouteResult {
    let services = AppState::from_request(&request)?;
    let caller = services.authenticate(&request)?;
    services.ensure_latest(&request).await?;
    let view = services.carts.read_cart(caller.owner(), &services.request_ticket(&request)).await?;
    Ok(response::conditional_response(&request, view.body.clone(), &view.etag))
}

/// Add a product to the cart.
///
/// The quantity is added to a line that exists. The whole line must be available.
#[utoipa::path(post, path = "/api/cart/add", operation_id = "add_to_cart",
tag = "Cart", security(("bearer" = [])), request_body = LineRequest, params(
    ("Idempotency-Key" = Option<String>, Header),
    ("If-Match" = Option<String>, Header),
), responses(
    (status = 200, body = CartResponse),
    (status = 404, body = ProblemDetails, description = "`product_not_found`"),
    (status = 409, body = ProblemDetails, description = "`insufficient_stock`, `guest_cart_merged`"),
    (status = 422, body = ProblemDetails,
        description = "`validation_failed`, `quantity_limit`, `line_limit`, \
            `idempotency_key_reused`"),
))]
async fn add(request: HttpRequest, payload: web::Payload) -> RouteResult {
    let services = AppState::from_request(&request)?;
    let caller = services.authenticate(&request)?;
    let body = request::read_json::<LineRequest>(&request, payload).await?;
    let command = CartCommand::AddItem {
        product_id: body.value.product_id.into(),
        quantity: body.value.checked_quantity(1)?,
    };
    change_cart(services, caller.owner(), command, body.build_change(&request, &caller, 200)?).await
}

/// Set the quantity of a line.
///
/// A quantity of 0 removes the line.
#[utoipa::path(put, path = "/api/cart/update", operation_id = "update_cart_line",
tag = "Cart", security(("bearer" = [])), request_body = LineRequest, params(
    ("Idempotency-Key" = Option<String>, Header),
    ("If-Match" = Option<String>, Header),
), responses(
    (status = 200, body = CartResponse),
    (status = 404, body = ProblemDetails, description = "`line_not_found`"),
    (status = 409, body = ProblemDetails, description = "`insufficient_stock`, `guest_cart_merged`"),
    (status = 422, body = ProblemDetails,
        description = "`validation_failed`, `quantity_limit`, `idempotency_key_reused`"),
))]
async fn update(request: HttpRequest, payload: web::Payload) -> RouteResult {
    let services = AppState::from_request(&request)?;
    let caller = services.authenticate(&request)?;
    let body = request::read_json::<LineRequest>(&request, payload).await?;
    let command = CartCommand::UpdateItem {
        product_id: body.value.product_id.into(),
        quantity: body.value.checked_quantity(0)?,
    };
    change_cart(services, caller.owner(), command, body.build_change(&request, &caller, 200)?).await
}

/// Remove a line from the cart.
///
/// The line is named by its product, which may be deleted already.
#[utoipa::path(delete, path = "/api/cart/remove/{product_id}", operation_id = "remove_from_cart",
tag = "Cart", security(("bearer" = [])), params(
    ("product_id" = Uuid, Path, description = "The id of the product."),
    ("Idempotency-Key" = Option<String>, Header),
    ("If-Match" = Option<String>, Header),
), responses(
    (status = 200, body = CartResponse),
    (status = 404, body = ProblemDetails, description = "`line_not_found`"),
    (status = 409, body = ProblemDetails, description = "`guest_cart_merged`"),
    (status = 422, body = ProblemDetails, description = "`idempotency_key_reused`"),
))]
async fn remove(request: HttpRequest, path: web::Path<String>) -> RouteResult {
    let services = AppState::from_request(&request)?;
    let caller = services.authenticate(&request)?;
    let product_id: ProductId = path.parse().map_err(|_| {
        Error::new(ErrorCode::LineNotFound, "The cart has no line with this product.")
    })?;
    let goes_with = request::change_from_request(&request, &caller, 200, &[])?;
    change_cart(services, caller.owner(), CartCommand::RemoveItem { product_id }, goes_with).await
}

/// Empty the cart.
///
/// Emptying an empty cart changes nothing.
#[utoipa::path(delete, path = "/api/cart", operation_id = "clear_cart",
tag = "Cart", security(("bearer" = [])), params(
    ("Idempotency-Key" = Option<String>, Header),
    ("If-Match" = Option<String>, Header),
), responses(
    (status = 200, body = CartResponse),
    (status = 409, body = ProblemDetails, description = "`guest_cart_merged`"),
    (status = 422, body = ProblemDetails, description = "`idempotency_key_reused`"),
))]
async fn clear(request: HttpRequest) -> RouteResult {
    let services = AppState::from_request(&request)?;
    let caller = services.authenticate(&request)?;
    let goes_with = request::change_from_request(&request, &caller, 200, &[])?;
    change_cart(services, caller.owner(), CartCommand::Clear, goes_with).await
}

/// Create a cart without an account.
///
/// The token opens this cart on every cart route. Registration, login and merge can move its lines
/// to the cart of an account.
#[utoipa::path(post, path = "/api/cart/guest", operation_id = "create_guest_cart",
tag = "Cart", security(()), responses((status = 201, body = GuestResponse)))]
async fn guest(request: HttpRequest) -> RouteResult {
    let services = AppState::from_request(&request)?;
    let id = UserId::new();
    let access = services.tokens.issue_guest_token(id)?;
    let view = services
        .carts
        .read_cart(CartOwner { id, is_guest: true }, &services.request_ticket(&request))
        .await?;
    let cart = serde_json::from_slice::<&serde_json::value::RawValue>(&view.body)
        .map_err(|_| Error::internal())?;
    let body =
        serde_json::json!({ "token": access.token, "expires_in": access.expires_in, "cart": cart });
    response::uncached_json_response(StatusCode::CREATED, &body)
}

/// Merge a guest's cart into the caller's cart.
///
/// Quantities are added up to the limit of a line, and no line is dropped. A repeat changes
/// nothing.
#[utoipa::path(post, path = "/api/cart/merge", operation_id = "merge_guest_cart",
tag = "Cart", security(("bearer" = [])), request_body = MergeRequest, params(
    ("Idempotency-Key" = Option<String>, Header),
    ("If-Match" = Option<String>, Header),
), responses(
    (status = 200, body = CartResponse),
    (status = 403, body = ProblemDetails,
        description = "`forbidden`: a guest cannot merge another guest's cart"),
    (status = 409, body = ProblemDetails,
        description = "`guest_cart_merged`: another user has merged it"),
    (status = 422, body = ProblemDetails,
        description = "`validation_failed`: the guest token is not valid; \
            `idempotency_key_reused`"),
))]
async fn merge(request: HttpRequest, payload: web::Payload) -> RouteResult {
    let services = AppState::from_request(&request)?;
    let caller = services.require_account(&request)?;
    let body = request::read_json::<MergeRequest>(&request, payload).await?;
    let guest = verify_guest_token(services, &body.value.guest_token)?;
    let message =
        MergeCart { guest_id: guest, context: body.build_change(&request, &caller, 200)? };
    Ok(cart_response(services.carts.merge_guest_cart(caller.owner(), message).await?))
}

/// The guest that a token opens the cart of.
pub(super) fn verify_guest_token(
    services: &AppState,
    token: &str,
) -> Result<UserId, ValidationErrors> {
    let claims = services.tokens.verify(token).ok().filter(|claims| claims.role == Role::Guest);
    let fault = || {
        ValidationErrors::single(
            "guest_token",
            "invalid",
            "guest_token is not the token of a guest's cart, or has expired",
        )
    };
    claims.map(|claims| claims.user_id).ok_or_else(fault)
}

async fn change_cart(
    services: &AppState,
    owner: CartOwner,
    command: CartCommand,
    change: CommandContext,
) -> RouteResult {
    Ok(cart_response(
        services.carts.change_cart(owner, ChangeCart { command, context: change }).await?,
    ))
}

fn cart_response(reply: Reply<Arc<CartView>>) -> actix_web::HttpResponse {
    match reply {
        Reply::Completed(view) => response::response_builder(StatusCode::OK, view.body.clone())
            .with_etag(&view.etag)
            .finish(),
        Reply::Replayed(first) => response::replayed_response(first),
    }
}
