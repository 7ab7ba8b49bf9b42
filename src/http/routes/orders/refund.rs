//! Refunds, and the payment that the buyer sees.

use actix_web::http::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{CancelRequest, change_order, fulfill::OrderUnitsRequest};
use crate::{
    actors::ask::ask,
    domain::{
        ids::{OrderId, RefundId},
        money::{Currency, Money},
        order::{Order, OrderCommand, OrderStatus, OrderUnits, RefundRequest, validate_units},
        validation::ValidationErrors,
    },
    error::{Error, ErrorCode},
    events::order::{OrderData, PaymentData},
    http::{
        request::{
            body::JsonRequest,
            extract::{Bearer, ChangeRequest, Staff},
            scopes::OrdersScope,
        },
        response::{ApiResponse, RouteResult, problem::ProblemDetails},
    },
    input::json,
    messages::orders::{BeginPayment, ChangeOrder},
};

/// A refund. Without `amount` all that is left goes back.
#[derive(Deserialize, ToSchema)]
#[schema(as = RefundRequest)]
pub(crate) struct RefundBody {
    /// The amount, above 0.
    #[schema(value_type = Option<f64>, example = 19.99)]
    amount: Option<Box<RawValue>>,
    /// Why the money goes back. The stock movements have it, too.
    #[schema(max_length = 200, examples("arrived broken"))]
    reason: Option<String>,
    /// The shipped units that came back into stock.
    #[schema(nullable = false, min_items = 1)]
    restock: Option<Vec<OrderUnitsRequest>>,
}

impl JsonRequest for RefundBody {
    const OPTIONAL: bool = true;
}

impl RefundBody {
    fn into_command(self, currency: Currency) -> Result<OrderCommand, Error> {
        let mut errors = ValidationErrors::new();
        let amount =
            self.amount.map(|text| json::parse_amount("amount", &text, currency, &mut errors));
        if errors.is_empty() && amount.is_some_and(|amount| amount == Money::zero(currency)) {
            errors.add("amount", "out_of_range", "amount must be above 0");
        }
        errors.check_text("reason", self.reason.as_deref().unwrap_or_default(), 0, 200);
        let restock: Option<Vec<OrderUnits>> =
            self.restock.map(|units| units.into_iter().map(OrderUnits::from).collect());
        if let Some(restock) = &restock {
            validate_units("restock", restock, &mut errors);
        }
        let request = RefundRequest {
            id: RefundId::new(),
            amount,
            reason: self.reason,
            restock: restock.unwrap_or_default(),
        };
        Ok(errors.into_result(OrderCommand::Refund(request))?)
    }
}

/// Refund an order, or a part of its payment.
///
/// The refund is booked with the order. It changes the payment and not the status: an order that
/// was not shipped is cancelled with `cancel`. Units in `restock` come back into `on_hand`, as far
/// as they were shipped. A refund of the method `manual` says that staff sends the money back.
#[utoipa::path(post, path = "/api/orders/{id}/refund", operation_id = "refund_order",
tag = "Orders", security(("bearer" = [])), request_body = Option<RefundBody>, params(
    ("id" = Uuid, Path, description = "The id of the order."),
    ("Idempotency-Key" = Option<String>, Header),
    ("If-Match" = Option<String>, Header),
), responses(
    (status = 202, body = OrderData),
    (status = 403, body = ProblemDetails,
        description = "`forbidden`: only for staff with `orders`"),
    (status = 404, body = ProblemDetails, description = "`not_found`"),
    (status = 409, body = ProblemDetails,
        description = "`invalid_transition`: nothing was paid; `refund_exceeds_payment`; \
            `quantity_exceeds_order` with the `lines` of which fewer shipped units are left"),
    (status = 422, body = ProblemDetails,
        description = "`validation_failed`, `idempotency_key_reused`"),
))]
pub(crate) async fn refund(
    change: ChangeRequest<Staff<OrdersScope>, RefundBody, OrderId>,
) -> RouteResult {
    let context = change.context()?;
    let command = change.body.into_command(change.state.options.currency)?;
    let message = ChangeOrder { order_id: change.target, owner: None, command, context };
    Ok(change_order(&change.state, message).await?.with_status(StatusCode::ACCEPTED))
}

/// Begin the payment of an order.
///
/// It is begun with the provider if it was not, and is the same payment however often it is asked
/// for. `client_secret` is for the provider's code in the buyer's browser.
#[utoipa::path(post, path = "/api/orders/{id}/payment", operation_id = "begin_payment",
tag = "Orders", security(("bearer" = [])), request_body = Option<CancelRequest>, params(
    ("id" = Uuid, Path, description = "The id of the order."),
), responses(
    (status = 200, body = PaymentData),
    (status = 403, body = ProblemDetails, description = "`forbidden`: an API key has no orders"),
    (status = 404, body = ProblemDetails,
        description = "`not_found`: there is no such order, or it is another user's"),
    (status = 409, body = ProblemDetails,
        description = "`invalid_transition`: it was cancelled or has expired"),
    (status = 422, body = ProblemDetails, description = "`validation_failed`"),
    (status = 503, body = ProblemDetails,
        description = "`provider_unavailable`: ask again; nothing is paid twice"),
))]
pub(crate) async fn payment(change: ChangeRequest<Bearer, CancelRequest, OrderId>) -> RouteResult {
    let found = change.state.store.find_order(change.target);
    let order = change
        .state
        .read_before_deadline(&change.request, found)
        .await?
        .filter(|order| order.user_id == change.caller.user_id)
        .ok_or_else(Error::order_not_found)?;
    ensure_payable(&order)?;
    let ticket = change.ticket();
    let message = BeginPayment { order_id: order.id, ticket: ticket.clone() };
    let order = ask(&change.state.orders, message, &ticket).await?;
    // It may have expired meanwhile.
    ensure_payable(&order)?;
    let payment = PaymentData::of_buyer(&order.payment);
    Ok(ApiResponse::json(StatusCode::OK, &payment)?.with_no_store())
}

fn ensure_payable(order: &Order) -> Result<(), Error> {
    if matches!(order.status, OrderStatus::Cancelled | OrderStatus::Expired) {
        let detail = "The order was cancelled or has expired, so it cannot be paid.";
        return Err(Error::new(ErrorCode::InvalidTransition, detail));
    }
    Ok(())
}
