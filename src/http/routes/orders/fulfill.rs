//! Shipping an order.

use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::change_order;
use crate::{
    domain::{
        ids::{OrderId, ProductId, ShipmentId},
        order::{OrderCommand, OrderUnits, ShipmentDetails, validate_units},
        validation::ValidationErrors,
    },
    error::Error,
    events::order::OrderData,
    http::{
        request::{
            body::JsonRequest,
            extract::{ChangeRequest, Staff},
            scopes::OrdersScope,
        },
        response::{RouteResult, problem::ProblemDetails},
    },
    messages::orders::ChangeOrder,
};

/// A shipment. Without `items` it has all units that are left.
#[derive(Deserialize, ToSchema)]
#[schema(as = FulfilRequest)]
pub(crate) struct FulfillRequest {
    #[schema(nullable = false, min_items = 1)]
    items: Option<Vec<OrderUnitsRequest>>,
    /// Who carries it.
    #[schema(max_length = 200, examples("DHL"))]
    carrier: Option<String>,
    /// The carrier's tracking number or address.
    #[schema(max_length = 200, examples("00340434161094042557"))]
    tracking: Option<String>,
    /// The caller's own reference. The stock movements have it, too.
    #[schema(max_length = 200, examples("PARCEL-4"))]
    reference: Option<String>,
}

/// Units of a product in an order.
#[derive(Clone, Copy, Deserialize, ToSchema)]
pub(crate) struct OrderUnitsRequest {
    product_id: Uuid,
    #[schema(minimum = 1, examples(3))]
    quantity: u32,
}

impl JsonRequest for FulfillRequest {
    const OPTIONAL: bool = true;
}

impl From<OrderUnitsRequest> for OrderUnits {
    fn from(units: OrderUnitsRequest) -> Self {
        Self { product_id: ProductId::from(units.product_id), quantity: units.quantity }
    }
}

impl FulfillRequest {
    fn into_command(self) -> Result<OrderCommand, Error> {
        let Self { items, carrier, tracking, reference } = self;
        let mut errors = ValidationErrors::new();
        let items: Option<Vec<OrderUnits>> =
            items.map(|items| items.into_iter().map(OrderUnits::from).collect());
        if let Some(items) = &items {
            validate_units("items", items, &mut errors);
        }
        let details = ShipmentDetails { carrier, tracking, reference };
        details.validate(&mut errors);
        let shipment_id = ShipmentId::new();
        Ok(errors.into_result(OrderCommand::Fulfill { shipment_id, items, details })?)
    }
}

/// Ship an order, or some of its units.
///
/// The units leave `on_hand`. The shipment is listed in the order, with its carrier and tracking
/// number, and the stock movements have its reference.
#[utoipa::path(post, path = "/api/orders/{id}/fulfil", operation_id = "fulfil_order",
tag = "Orders", security(("bearer" = [])), request_body = Option<FulfillRequest>, params(
    ("id" = Uuid, Path, description = "The id of the order."),
    ("Idempotency-Key" = Option<String>, Header),
    ("If-Match" = Option<String>, Header),
), responses(
    (status = 200, body = OrderData),
    (status = 403, body = ProblemDetails,
        description = "`forbidden`: only for staff with `orders`"),
    (status = 404, body = ProblemDetails, description = "`not_found`"),
    (status = 409, body = ProblemDetails,
        description = "`invalid_transition`: it is not paid, or was shipped already; \
            `quantity_exceeds_order` with the `lines` of which fewer units are left"),
    (status = 422, body = ProblemDetails,
        description = "`validation_failed`, `idempotency_key_reused`"),
))]
pub(crate) async fn fulfill(
    change: ChangeRequest<Staff<OrdersScope>, FulfillRequest, OrderId>,
) -> RouteResult {
    let context = change.context()?;
    let command = change.body.into_command()?;
    let message = ChangeOrder { order_id: change.target, owner: None, command, context };
    change_order(&change.state, message).await
}
