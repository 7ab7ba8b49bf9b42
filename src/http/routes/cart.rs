//! The cart routes, for accounts and guests.

pub(crate) mod codes;
pub(crate) mod shipping;

use std::sync::Arc;

use actix_web::{http::StatusCode, web};
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    domain::{
        account::Role,
        cart::{CartCommand, CartOwner},
        ids::UserId,
        validation::ValidationErrors,
    },
    error::Error,
    http::{
        request::{
            body::JsonRequest,
            extract::{Account, Anyone, Bearer, ChangeRequest, ReadRequest},
            target::CartLineTarget,
        },
        response::{ApiResponse, RouteResult, problem::ProblemDetails, views::CartResponse},
        state::AppState,
    },
    messages::{
        cart::{CartView, ChangeCart, MergeCart},
        command_context::{CommandContext, Reply},
    },
};

/// Registers the routes of this module.
pub(super) fn configure_routes(config: &mut web::ServiceConfig) {
    config
        .service(web::resource("/api/cart").get(show).delete(clear))
        .service(web::resource("/api/cart/add").post(add))
        .service(web::resource("/api/cart/update").put(update))
        .service(web::resource("/api/cart/remove/{product_id}").delete(remove))
        .service(web::resource("/api/cart/codes").post(codes::add))
        .service(web::resource("/api/cart/codes/{code}").delete(codes::remove))
        .service(web::resource("/api/cart/shipping").put(shipping::set))
        .service(web::resource("/api/cart/shipping-methods").get(shipping::list_methods))
        .service(web::resource("/api/cart/guest").post(create_guest_cart))
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
#[expect(dead_code, reason = "describes a response that is assembled from rendered parts")]
pub(crate) struct GuestResponse<'a> {
    #[schema(examples("eyJhbGciOiJIUzI1NiJ9.e30.c2lnbmF0dXJl"))]
    token: String,
    /// The number of seconds until the token expires.
    #[schema(examples(2_592_000))]
    expires_in: u64,
    cart: CartResponse<'a>,
}

impl JsonRequest for LineRequest {}

impl JsonRequest for MergeRequest {}

impl LineRequest {
    fn checked_quantity(&self, least: i64) -> Result<u32, Error> {
        if self.quantity < least {
            return Err(Error::invalid_field(
                "quantity",
                "out_of_range",
                format!("quantity must be at least {least}"),
            ));
        }
        // The cart rejects any quantity that does not fit: it exceeds every limit.
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
async fn show(read: ReadRequest<Bearer>) -> RouteResult {
    read.honor_no_cache().await?;
    let view = read.state.carts.read_cart(read.caller.owner(), &read.ticket()).await?;
    read.query.reject_others(&[])?;
    Ok(ApiResponse::ok(view.body.clone()).with_etag(&view.etag).with_no_store())
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
    (status = 409, body = ProblemDetails,
        description = "`insufficient_stock`, `guest_cart_merged`"),
    (status = 422, body = ProblemDetails,
        description = "`validation_failed`, `quantity_limit`, `line_limit`, \
            `idempotency_key_reused`"),
))]
async fn add(change: ChangeRequest<Bearer, LineRequest>) -> RouteResult {
    let command = CartCommand::AddItem {
        product_id: change.body.product_id.into(),
        quantity: change.body.checked_quantity(1)?,
    };
    change_cart(&change.state, change.caller.owner(), command, change.context()?).await
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
    (status = 409, body = ProblemDetails,
        description = "`insufficient_stock`, `guest_cart_merged`"),
    (status = 422, body = ProblemDetails,
        description = "`validation_failed`, `quantity_limit`, `idempotency_key_reused`"),
))]
async fn update(change: ChangeRequest<Bearer, LineRequest>) -> RouteResult {
    let command = CartCommand::UpdateItem {
        product_id: change.body.product_id.into(),
        quantity: change.body.checked_quantity(0)?,
    };
    change_cart(&change.state, change.caller.owner(), command, change.context()?).await
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
async fn remove(change: ChangeRequest<Bearer, (), CartLineTarget>) -> RouteResult {
    let command = CartCommand::RemoveItem { product_id: change.target.0 };
    change_cart(&change.state, change.caller.owner(), command, change.context()?).await
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
async fn clear(change: ChangeRequest<Bearer>) -> RouteResult {
    let context = change.context()?;
    change_cart(&change.state, change.caller.owner(), CartCommand::Clear, context).await
}

/// Create a cart without an account.
///
/// The token opens this cart on every cart route. It checks out, with an e-mail address, and reads
/// the orders. Registration, login and merge can move the lines and the orders to an account.
#[utoipa::path(post, path = "/api/cart/guest", operation_id = "create_guest_cart",
tag = "Cart", security(()), responses(
    (status = 201, body = GuestResponse),
    (status = 429, body = ProblemDetails,
        description = "`rate_limited`: too many new guest carts and checkouts of guests from this \
            address within a minute"),
))]
async fn create_guest_cart(change: ChangeRequest<Anyone>) -> RouteResult {
    change.state.admit_guest(&change.request)?;
    let id = UserId::new();
    let access = change.state.authenticator.tokens().issue_guest_token(id)?;
    let owner = CartOwner { id, is_guest: true };
    let view = change.state.carts.read_cart(owner, &change.ticket()).await?;
    let cart = serde_json::from_slice::<&serde_json::value::RawValue>(&view.body)
        .map_err(|_| Error::internal())?;
    let body =
        serde_json::json!({ "token": access.token, "expires_in": access.expires_in, "cart": cart });
    Ok(ApiResponse::json(StatusCode::CREATED, &body)?.with_no_store())
}

/// Merge a guest's cart into the caller's cart.
///
/// Quantities are added up to the limit of a line, and no line is dropped. The guest's orders
/// become the caller's. A repeat changes nothing.
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
async fn merge(change: ChangeRequest<Account, MergeRequest>) -> RouteResult {
    let guest_id = verify_guest_token(&change.state, &change.body.guest_token)?;
    let message = MergeCart { guest_id, context: change.context()? };
    cart_response(change.state.carts.merge_guest_cart(change.caller.owner(), message).await?)
}

/// Verifies a guest token and returns the guest's id.
pub(super) fn verify_guest_token(
    state: &AppState,
    token: &str,
) -> Result<UserId, ValidationErrors> {
    let claims = state.authenticator.tokens().verify(token).ok();
    let claims = claims.filter(|claims| claims.role == Role::Guest);
    let error = || {
        ValidationErrors::single(
            "guest_token",
            "invalid",
            "guest_token is not the token of a guest's cart, or has expired",
        )
    };
    claims.map(|claims| claims.user_id).ok_or_else(error)
}

async fn change_cart(
    state: &AppState,
    owner: CartOwner,
    command: CartCommand,
    context: CommandContext,
) -> RouteResult {
    cart_response(state.carts.change_cart(owner, ChangeCart { command, context }).await?)
}

fn cart_response(reply: Reply<Arc<CartView>>) -> RouteResult {
    let render = |view: Arc<CartView>| Ok(ApiResponse::ok(view.body.clone()).with_etag(&view.etag));
    Ok(ApiResponse::from_reply(StatusCode::OK, reply, render)?.with_no_store())
}
