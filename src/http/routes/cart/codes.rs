//! The routes for the codes of a cart.

use serde::Deserialize;
use utoipa::ToSchema;

use super::cart_response;
use crate::{
    auth::caller::Caller,
    domain::{cart::CartError, catalog::trim::trim},
    error::Error,
    http::{
        request::{
            body::JsonRequest,
            extract::{Bearer, ChangeRequest},
            target::{Target, path_segment},
        },
        response::{RouteResult, problem::ProblemDetails, views::CartResponse},
        state::AppState,
    },
    messages::cart::{PricingChange, PricingCommand},
};

/// A code of a promotion.
#[derive(Deserialize, ToSchema)]
pub(crate) struct CodeRequest {
    /// It is compared without regard to case.
    #[schema(examples("TEN"))]
    code: String,
}

impl JsonRequest for CodeRequest {}

/// A code in the caller's cart.
pub(crate) struct CodeTarget(String);

impl Target for CodeTarget {
    fn parse(request: &actix_web::HttpRequest) -> Result<Self, Error> {
        Ok(Self(path_segment(request)))
    }

    async fn ensure_exists(
        &self,
        state: &AppState,
        request: &actix_web::HttpRequest,
        caller: Option<Caller>,
    ) -> Result<(), Error> {
        let Some(caller) = caller else { return Err(CartError::CodeUnknown.into()) };
        let view = state.carts.read_cart(caller.owner(), &state.request_ticket(request)).await?;
        let known = view.cart.has_code(&self.0);
        known.then_some(()).ok_or_else(|| CartError::CodeUnknown.into())
    }
}

/// Give a code.
///
/// A code that gives nothing to this cart now is refused. One that is merely beaten by another
/// promotion is kept, with the reason `not_best`. A code that the cart has changes nothing.
#[utoipa::path(post, path = "/api/cart/codes", operation_id = "add_cart_code",
tag = "Cart", security(("bearer" = [])), request_body = CodeRequest, params(
    ("Idempotency-Key" = Option<String>, Header),
    ("If-Match" = Option<String>, Header),
), responses(
    (status = 200, body = CartResponse),
    (status = 404, body = ProblemDetails, description = "`code_unknown`"),
    (status = 409, body = ProblemDetails,
        description = "`code_not_started`, `code_expired`, `code_exhausted`, \
            `code_not_applicable`, each with `reason`; `guest_cart_merged`"),
    (status = 422, body = ProblemDetails,
        description = "`validation_failed`, `code_limit`, `idempotency_key_reused`"),
))]
pub(crate) async fn add(change: ChangeRequest<Bearer, CodeRequest>) -> RouteResult {
    let context = change.context()?;
    let command = PricingCommand::AddCode(trim(change.body.code.clone()));
    let message = PricingChange { command, context };
    cart_response(change.state.carts.change_pricing(change.caller.owner(), message).await?)
}

/// Remove a code.
///
/// It may be one that gives nothing any more. The code is compared without regard to case.
#[utoipa::path(delete, path = "/api/cart/codes/{code}", operation_id = "remove_cart_code",
tag = "Cart", security(("bearer" = [])), params(
    ("code" = String, Path, description = "The code."),
    ("Idempotency-Key" = Option<String>, Header),
    ("If-Match" = Option<String>, Header),
), responses(
    (status = 200, body = CartResponse),
    (status = 404, body = ProblemDetails,
        description = "`code_unknown`: the cart does not have it"),
    (status = 409, body = ProblemDetails, description = "`guest_cart_merged`"),
    (status = 422, body = ProblemDetails, description = "`idempotency_key_reused`"),
))]
pub(crate) async fn remove(change: ChangeRequest<Bearer, (), CodeTarget>) -> RouteResult {
    let context = change.context()?;
    let command = PricingCommand::RemoveCode(change.target.0.clone());
    let message = PricingChange { command, context };
    cart_response(change.state.carts.change_pricing(change.caller.owner(), message).await?)
}
