//! The routes for where the goods of a cart go.

use actix_web::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::cart_response;
use crate::{
    domain::{
        account::MAX_ADDRESS_TEXT,
        cart::CartShipping,
        catalog::trim::trim,
        ids::ShippingMethodId,
        money::Money,
        pricing::{Destination, ShippingOffer, checked_country, checked_region},
        validation::ValidationErrors,
    },
    error::Error,
    http::{
        request::{
            body::JsonRequest,
            extract::{Bearer, ChangeRequest, ReadRequest},
        },
        response::{ApiResponse, RouteResult, problem::ProblemDetails, views::CartResponse},
    },
    messages::cart::{PricingChange, PricingCommand},
};

/// Where the goods go, and how.
#[derive(Deserialize, ToSchema)]
pub(crate) struct CartShippingRequest {
    /// The country, ISO 3166-1 alpha-2.
    #[schema(examples("DE"))]
    country: String,
    /// The region, the part of ISO 3166-2 after the dash.
    #[schema(min_length = 1, max_length = 3, examples("BE"))]
    region: Option<String>,
    #[schema(min_length = 1, max_length = 200, examples("10115"))]
    postal_code: Option<String>,
    /// The shipping method. Without it, the cheapest is taken, anew each time.
    method_id: Option<Uuid>,
}

/// The shipping methods for a cart and its address.
#[derive(Serialize, ToSchema)]
pub(crate) struct CartShippingMethods<'a> {
    items: Vec<CartShippingMethod<'a>>,
}

/// A shipping method, and what it costs for a cart.
#[derive(Serialize, ToSchema)]
pub(crate) struct CartShippingMethod<'a> {
    #[schema(value_type = Uuid)]
    id: ShippingMethodId,
    #[schema(examples("Parcel"))]
    name: &'a str,
    #[schema(value_type = f64, example = 4.9)]
    amount: Money,
}

impl JsonRequest for CartShippingRequest {}

impl CartShippingRequest {
    fn parse(self) -> Result<CartShipping, Error> {
        let mut errors = ValidationErrors::new();
        let postal_code = self.postal_code.map(trim);
        if let Some(code) = &postal_code {
            errors.check_text("postal_code", code, 1, MAX_ADDRESS_TEXT);
        }
        let destination = Destination {
            country: checked_country("country", self.country, &mut errors),
            region: self.region.map(|region| checked_region(region, &mut errors)),
            postal_code,
        };
        let method = self.method_id.map(ShippingMethodId::from);
        Ok(errors.into_result(CartShipping { destination, method })?)
    }
}

impl<'a> From<&'a ShippingOffer> for CartShippingMethod<'a> {
    fn from(offer: &'a ShippingOffer) -> Self {
        Self { id: offer.id, name: &offer.name, amount: offer.amount }
    }
}

/// Set where the goods go, and how.
///
/// Shipping and taxes depend on it. It stays in the cart after checkout. A chosen method that no
/// longer serves the address is replaced by the cheapest.
#[utoipa::path(put, path = "/api/cart/shipping", operation_id = "set_cart_shipping",
tag = "Cart", security(("bearer" = [])), request_body = CartShippingRequest, params(
    ("Idempotency-Key" = Option<String>, Header),
    ("If-Match" = Option<String>, Header),
), responses(
    (status = 200, body = CartResponse),
    (status = 409, body = ProblemDetails,
        description = "`method_not_available`: no method reaches the address, or this one does \
            not; `guest_cart_merged`"),
    (status = 422, body = ProblemDetails,
        description = "`validation_failed`, `idempotency_key_reused`"),
))]
pub(crate) async fn set(change: ChangeRequest<Bearer, CartShippingRequest>) -> RouteResult {
    let context = change.context()?;
    let command = PricingCommand::SetShipping(change.body.parse()?);
    let message = PricingChange { command, context };
    cart_response(change.state.carts.change_pricing(change.caller.owner(), message).await?)
}

/// List the shipping methods for the cart.
///
/// They are those that serve the address of the cart, the cheapest first. Without an address, or
/// without a line that counts, there are none.
#[utoipa::path(get, path = "/api/cart/shipping-methods",
operation_id = "list_cart_shipping_methods", tag = "Cart", security(("bearer" = [])), params(
    ("Cache-Control" = Option<String>, Header),
), responses(
    (status = 200, body = CartShippingMethods),
    (status = 401, body = ProblemDetails, description = "`unauthenticated`, `token_expired`"),
    (status = 409, body = ProblemDetails, description = "`guest_cart_merged`"),
))]
pub(crate) async fn list_methods(read: ReadRequest<Bearer>) -> RouteResult {
    read.honor_no_cache().await?;
    let view = read.state.carts.read_cart(read.caller.owner(), &read.ticket()).await?;
    read.query.reject_others(&[])?;
    let offers = read.state.carts.shipping_offers(&view.cart);
    let items = offers.iter().map(CartShippingMethod::from).collect();
    let response = ApiResponse::json(StatusCode::OK, &CartShippingMethods { items })?;
    Ok(response.with_no_store())
}
