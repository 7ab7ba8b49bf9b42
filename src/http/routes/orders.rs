//! The routes for checkout and orders.

pub(crate) mod export;
pub(crate) mod fulfill;
pub(crate) mod list;
pub(crate) mod refund;

use std::sync::Arc;

use actix_web::{http::StatusCode, web};
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::{
    actors::ask::ask,
    domain::{
        account::{Email, Scope},
        ids::{OrderId, UserId},
        order::{
            CancelledBy, CheckoutOptions, Order, OrderAddress, OrderCommand, OrderStatus,
            PaymentMethod,
        },
        validation::ValidationErrors,
    },
    error::{Error, ErrorCode},
    events::{
        order::{OrderData, order_json, order_json_of_buyer},
        schema::{self, names_of},
    },
    http::{
        request::{
            body::JsonRequest,
            extract::{Bearer, BearerOrKey, ChangeRequest, OwnerOrStaff, ReadRequest, Staff},
            scopes::{OrdersReadScope, OrdersScope},
        },
        response::{ApiResponse, RouteResult, problem::ProblemDetails},
        routes::accounts::addresses::AddressRequest,
        state::AppState,
    },
    input::json,
    messages::{
        cart::{PlaceOrder, PlacedOrder},
        command_context::Reply,
        orders::ChangeOrder,
    },
};

/// Registers the routes of this module.
pub(super) fn configure_routes(config: &mut web::ServiceConfig) {
    config
        .service(web::resource("/api/checkout").post(check_out))
        .service(web::resource("/api/orders").get(list::list))
        .service(web::resource("/api/orders/export").get(export::export))
        .service(web::resource("/api/orders/{id}").get(show))
        .service(web::resource("/api/orders/{id}/cancel").post(cancel))
        .service(web::resource("/api/orders/{id}/pay").post(pay))
        .service(web::resource("/api/orders/{id}/fulfil").post(fulfill::fulfill))
        .service(web::resource("/api/orders/{id}/refund").post(refund::refund))
        .service(web::resource("/api/orders/{id}/payment").post(refund::payment));
}

/// The details of a checkout. All of them are optional, but a guest has to give `email`.
#[derive(Deserialize, ToSchema)]
pub(crate) struct CheckoutRequest {
    /// The total that the buyer saw. A higher total is rejected.
    #[schema(value_type = Option<f64>, example = 59.97)]
    expected_total: Option<Box<RawValue>>,
    /// Where mails about the order go. A guest has to give it. Everyone else need not: without it,
    /// they go to the e-mail address that the account has at checkout.
    #[schema(format = Email, examples("ada@example.com"))]
    email: Option<String>,
    /// It takes the place of the cart's address. Shipping and taxes depend on it.
    shipping_address: Option<AddressRequest>,
    /// Whom the order is billed to. Nothing depends on it.
    billing_address: Option<AddressRequest>,
    #[schema(value_type = Option<schema::PaymentMethod>)]
    payment_method: Option<String>,
}

/// A payment.
#[derive(Deserialize, ToSchema)]
pub(crate) struct ReferenceRequest {
    /// The caller's own reference, such as the number of a transfer.
    #[schema(max_length = 200, examples("TRANSFER-4711"))]
    reference: Option<String>,
}

/// An object without members.
#[derive(Deserialize, ToSchema)]
pub(crate) struct CancelRequest {}

impl JsonRequest for CheckoutRequest {
    const OPTIONAL: bool = true;
}

impl JsonRequest for ReferenceRequest {
    const OPTIONAL: bool = true;
}

impl JsonRequest for CancelRequest {
    const OPTIONAL: bool = true;
}

impl CheckoutRequest {
    fn parse(self, state: &AppState, is_guest: bool) -> Result<CheckoutOptions, Error> {
        let currency = state.options.currency;
        let mut errors = ValidationErrors::new();
        let expected_total = self
            .expected_total
            .map(|text| json::parse_amount("expected_total", &text, currency, &mut errors));
        if is_guest && self.email.is_none() {
            errors.add("email", "required", "email is required: a guest has no account");
        }
        let email = self.email.and_then(|text| errors.record_result(Email::parse(&text)));
        let mut address = |address: Option<AddressRequest>, prefix| {
            let address = address.and_then(|it| errors.record_result(it.parse(prefix)));
            address.map(OrderAddress::from)
        };
        let shipping_address = address(self.shipping_address, "shipping_address.");
        let billing_address = address(self.billing_address, "billing_address.");
        let payment_method = parse_payment_method(self.payment_method, state, &mut errors);
        Ok(errors.into_result(CheckoutOptions {
            expected_total,
            email,
            shipping_address,
            billing_address,
            payment_method,
            ..CheckoutOptions::default()
        })?)
    }
}

fn parse_payment_method(
    requested: Option<String>,
    state: &AppState,
    errors: &mut ValidationErrors,
) -> PaymentMethod {
    match requested.as_deref().map(str::parse) {
        None => state.options.default_payment,
        Some(Ok(PaymentMethod::Stripe)) if state.provider.is_none() => {
            let message = "stripe is not set up in this shop";
            errors.add("payment_method", "not_set_up", message);
            PaymentMethod::default()
        }
        Some(Ok(method)) => method,
        Some(Err(_)) => {
            let known = names_of(PaymentMethod::ALL, PaymentMethod::as_str).join(", ");
            errors.add(
                "payment_method",
                "unknown",
                format!("payment_method must be one of: {known}"),
            );
            PaymentMethod::default()
        }
    }
}

impl ReferenceRequest {
    fn into_reference(self) -> Result<Option<String>, Error> {
        let mut errors = ValidationErrors::new();
        errors.check_text("reference", self.reference.as_deref().unwrap_or_default(), 0, 200);
        Ok(errors.into_result(self.reference)?)
    }
}

/// Order everything in the cart.
///
/// An order that costs nothing is paid at once. The stock is reserved until the order is shipped,
/// cancelled, or expires. Products that are added to the cart during checkout stay in it. If the
/// stock is too low, the response names the lines. `If-Match` is compared with the ETag of the
/// cart, and the response has the ETag of the order.
#[utoipa::path(post, path = "/api/checkout", operation_id = "check_out",
tag = "Orders", security(("bearer" = [])), request_body = Option<CheckoutRequest>, params(
    ("Idempotency-Key" = String, Header),
    ("If-Match" = Option<String>, Header,
        description = "The order is placed only if this ETag of the cart is current."),
), responses(
    (status = 201, body = OrderData, headers(("Location" = String))),
    (status = 400, body = ProblemDetails,
        description = "`idempotency_key_required`, `idempotency_key_invalid`, `malformed_json`"),
    (status = 401, body = ProblemDetails, description = "`unauthenticated`, `token_expired`"),
    (status = 403, body = ProblemDetails, description = "`forbidden`: an API key has no cart"),
    (status = 409, body = ProblemDetails,
        description = "`cart_empty`; `guest_cart_merged`; `method_not_available`: the shop does \
            not ship to the address; `code_exhausted` or `code_expired` with `refused_code`: a \
            code that was shown as applied does not hold any more; `insufficient_stock` with \
            `lines`; \
            `purchase_limit_reached` with `lines`: the buyer's orders that are neither \
            cancelled nor expired would have more units of a product than its \
            `purchase_limit`; `price_changed` with the new `total_amount`, which is above \
            `expected_total`, and the `lines` whose prices rose"),
    (status = 422, body = ProblemDetails,
        description = "`validation_failed`, also without an address if the total depends on it, \
            and without `email` if the caller is a guest; \
            `idempotency_key_reused`"),
    (status = 429, body = ProblemDetails,
        description = "`too_many_pending_orders`; `rate_limited`, also: too many new guest carts \
            and checkouts of guests from this address within a minute"),
    (status = 503, body = ProblemDetails,
        description = "`overloaded`, `store_unavailable`: no order was placed; `outcome_unknown`: \
            repeat the request with the same key"),
))]
async fn check_out(change: ChangeRequest<Bearer, CheckoutRequest>) -> RouteResult {
    let context = change.context()?;
    let Some(key) = &context.idempotency_key else {
        let detail = "Send a unique Idempotency-Key with each checkout, and the same key when you \
            repeat it.";
        return Err(Error::new(ErrorCode::IdempotencyKeyRequired, detail).into());
    };
    let options = change.body.parse(&change.state, change.caller.is_guest())?;
    if change.caller.is_guest() {
        change.state.admit_guest_checkout(&change.request, key).await?;
    }
    let message = PlaceOrder { options, context };
    let reply = change.state.carts.check_out(change.caller.owner(), message).await?;
    let render = |placed: PlacedOrder| {
        let location = format!("/api/orders/{}", placed.order.id);
        Ok(ApiResponse::ok(placed.body).with_etag(placed.order.etag()).with_location(location))
    };
    Ok(ApiResponse::from_reply(StatusCode::CREATED, reply, render)?.with_no_store())
}

/// Get an order.
///
/// A customer or a guest can read their own orders, staff with `orders:read` all of them.
#[utoipa::path(get, path = "/api/orders/{id}", operation_id = "get_order",
tag = "Orders", security(("bearer" = [])), params(
    ("id" = Uuid, Path, description = "The id of the order."),
    ("If-None-Match" = Option<String>, Header),
    ("Cache-Control" = Option<String>, Header),
), responses(
    (status = 200, body = OrderData),
    (status = 304, description = "`If-None-Match` names the current ETag."),
    (status = 403, body = ProblemDetails,
        description = "`forbidden`: an API key without the scope"),
    (status = 404, body = ProblemDetails,
        description = "`not_found`: there is no such order, or it is another user's"),
))]
async fn show(read: ReadRequest<BearerOrKey<OrdersReadScope>, OrderId>) -> RouteResult {
    read.honor_no_cache().await?;
    let found = read.state.store.find_order(read.target);
    let order = read
        .state
        .read_before_deadline(&read.request, found)
        .await?
        .filter(|order| read.caller.may_see_order_of(order.user_id))
        .ok_or_else(Error::order_not_found)?;
    read.query.reject_others(&[])?;
    if order.user_id == read.caller.user_id {
        return Ok(ApiResponse::ok(order_json_of_buyer(&order))
            .with_etag(order.etag())
            .with_no_store());
    }
    Ok(order_response(&order).with_no_store())
}

/// Cancel an order.
///
/// The units that were not shipped are released. The buyer can cancel an order that is not paid,
/// and staff one that is not shipped completely. What was paid for them goes back: all of it if
/// nothing was shipped, and otherwise the price of the units that are left.
#[utoipa::path(post, path = "/api/orders/{id}/cancel", operation_id = "cancel_order",
tag = "Orders", security(("bearer" = [])), request_body = Option<CancelRequest>, params(
    ("id" = Uuid, Path, description = "The id of the order."),
    ("Idempotency-Key" = Option<String>, Header),
    ("If-Match" = Option<String>, Header),
), responses(
    (status = 200, body = OrderData),
    (status = 403, body = ProblemDetails,
        description = "`forbidden`: an API key without the scope"),
    (status = 404, body = ProblemDetails,
        description = "`not_found`: there is no such order, or it is another user's"),
    (status = 409, body = ProblemDetails,
        description = "`invalid_transition`: it is paid and the caller is the buyer, or it was \
            shipped, cancelled, or has expired"),
    (status = 422, body = ProblemDetails,
        description = "`validation_failed`, `idempotency_key_reused`"),
))]
async fn cancel(change: CancelOrder) -> RouteResult {
    let caller = change.caller;
    // Another's order is 404 to those who cannot see it, and 403 to staff who only reads it.
    let owner = match caller.rights.permits(Scope::OrdersRead) {
        true => require_order_change(&change).await?,
        false => Some(caller.user_id),
    };
    let mut context = change.context()?;
    if owner.is_some() {
        // An owner needs no further rights.
        context.action = None;
    }
    let command = match owner {
        Some(_) => OrderCommand::Cancel(CancelledBy::Owner),
        None => OrderCommand::cancel_by_staff(),
    };
    let message = ChangeOrder { order_id: change.target, owner, command, context };
    change_order(&change.state, message).await
}

/// Confirm that an order was paid.
///
/// The reference is kept with the payment. An order that has expired is paid, too, if its units can
/// still be had.
#[utoipa::path(post, path = "/api/orders/{id}/pay", operation_id = "pay_order",
tag = "Orders", security(("bearer" = [])), request_body = Option<ReferenceRequest>, params(
    ("id" = Uuid, Path, description = "The id of the order."),
    ("Idempotency-Key" = Option<String>, Header),
    ("If-Match" = Option<String>, Header),
), responses(
    (status = 200, body = OrderData),
    (status = 403, body = ProblemDetails,
        description = "`forbidden`: only for staff with `orders`"),
    (status = 404, body = ProblemDetails, description = "`not_found`"),
    (status = 409, body = ProblemDetails,
        description = "`invalid_transition`: it is paid or cancelled, or it has expired and the \
            money that came too late goes back; `insufficient_stock` or \
            `purchase_limit_reached` with `lines`: it has expired, and its units are sold or \
            beyond what the buyer may buy"),
    (status = 422, body = ProblemDetails,
        description = "`validation_failed`, `idempotency_key_reused`"),
))]
async fn pay(change: ChangeRequest<Staff<OrdersScope>, ReferenceRequest, OrderId>) -> RouteResult {
    let context = change.context()?;
    let command = OrderCommand::Pay { reference: change.body.into_reference()? };
    let message = ChangeOrder { order_id: change.target, owner: None, command, context };
    change_order(&change.state, message).await
}

async fn change_order(state: &AppState, message: ChangeOrder) -> RouteResult {
    let ticket = message.context.ticket.clone();
    let reply: Reply<Arc<Order>> = ask(&state.orders, message, &ticket).await?;
    let render = |order: Arc<Order>| Ok(order_response(&order));
    Ok(ApiResponse::from_reply(StatusCode::OK, reply, render)?.with_no_store())
}

/// A request to cancel an order, of its owner or of staff.
type CancelOrder = ChangeRequest<OwnerOrStaff<OrdersScope>, CancelRequest, OrderId>;

fn order_response(order: &Order) -> ApiResponse {
    ApiResponse::ok(order_json(order)).with_etag(order.etag())
}

/// Returns the caller if it is its own order, which it may cancel while it is unpaid, and `None` if
/// it changes the order as staff.
///
/// # Errors
/// `not_found`, and `forbidden` for another's order if the caller may only read it.
async fn require_order_change(change: &CancelOrder) -> Result<Option<UserId>, Error> {
    let caller = change.caller;
    let found = change.state.store.find_order(change.target);
    let order = change
        .state
        .read_before_deadline(&change.request, found)
        .await?
        .ok_or_else(Error::order_not_found)?;
    let is_own = order.user_id == caller.user_id;
    let is_unpaid = order.status == OrderStatus::PendingPayment;
    if is_own && (is_unpaid || !caller.rights.permits(Scope::Orders)) {
        return Ok(Some(caller.user_id));
    }
    caller.require(&[Scope::Orders])?;
    Ok(None)
}
