//! Checkout and orders.

use std::{collections::BTreeMap, sync::Arc};

use actix_web::{HttpRequest, http::StatusCode, web};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::http::{
    request::{
        self,
        query::{QueryParams, encode_cursor},
    },
    response::{self, RouteResult, problem::ProblemDetails},
    state::{AppState, Caller},
};
use crate::{
    actors::ask::ask,
    domain::{
        account::Role,
        ids::{OrderId, UserId},
        money::Currency,
        order::{CheckoutOptions, Order, OrderCommand, PaymentMethod, ShippingAddress},
        validation::ValidationErrors,
    },
    error::{Error, ErrorCode},
    events::{
        order::{OrderData, order_json},
        schema::{self, Address, words_of},
    },
    input::json,
    messages::{
        cart::PlaceOrder,
        change::{CommandContext, Reply},
        orders::ChangeOrder,
    },
};

/// The routes.
pub(super) fn configure_routes(config: &mut web::ServiceConfig) {
    config
        .service(web::resource("/api/checkout").post(check_out))
        .service(web::resource("/api/orders").get(list))
        .service(web::resource("/api/orders/{id}").get(show))
        .service(web::resource("/api/orders/{id}/cancel").post(cancel))
        .service(web::resource("/api/orders/{id}/pay").post(pay))
        .service(web::resource("/api/orders/{id}/fulfil").post(fulfil));
}

/// The details of a checkout. All of them are optional.
#[derive(Deserialize, ToSchema)]
pub(crate) struct CheckoutRequest {
    /// The total that the buyer was shown. A higher one is refused.
    #[schema(value_type = Option<f64>, example = 59.97)]
    expected_total: Option<Box<RawValue>>,
    #[schema(value_type = Option<Address>)]
    shipping_address: Option<BTreeMap<String, String>>,
    #[schema(value_type = Option<schema::PaymentMethod>)]
    payment_method: Option<String>,
}

/// A payment or a shipment.
#[derive(Deserialize, ToSchema)]
pub(crate) struct ReferenceRequest {
    /// A reference of the caller's own, such as the number of a transfer.
    #[schema(max_length = 200, examples("TRANSFER-4711"))]
    reference: Option<String>,
}

/// An object without members.
#[derive(Deserialize, ToSchema)]
pub(crate) struct CancelRequest {}

/// A page of orders, newest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct OrderPage<'a> {
    items: Vec<OrderData<'a>>,
    /// The `cursor` of the next page. It is null on the last page.
    #[schema(required = true, examples("WzE3LCI0Il0"))]
    next_cursor: Option<String>,
}

impl CheckoutRequest {
    fn parse(self, currency: Currency) -> Result<CheckoutOptions, Error> {
        let mut faults = ValidationErrors::new();
        let expected_total = self
            .expected_total
            .map(|text| json::parse_amount("expected_total", &text, currency, &mut faults));
        let shipping_address = self
            .shipping_address
            .and_then(|fields| faults.record_result(ShippingAddress::parse(fields)));
        let payment_method = match self.payment_method.as_deref().map(str::parse) {
            None => PaymentMethod::default(),
            Some(Ok(method)) => method,
            Some(Err(_)) => {
                let known = words_of(PaymentMethod::ALL, PaymentMethod::as_str).join(", ");
                faults.add(
                    "payment_method",
                    "unknown",
                    format!("payment_method must be one of: {known}"),
                );
                PaymentMethod::default()
            }
        };
        Ok(faults.into_result(CheckoutOptions {
            expected_total,
            shipping_address,
            payment_method,
            max_quantities: None,
        })?)
    }
}

impl ReferenceRequest {
    fn into_reference(self) -> Result<Option<String>, Error> {
        let mut faults = ValidationErrors::new();
        faults.check_text("reference", self.reference.as_deref().unwrap_or_default(), 0, 200);
        Ok(faults.into_result(self.reference)?)
    }
}

/// Order everything in the cart.
///
/// The stock is reserved until the order is paid, canceled, or expires. Products that are added to
/// the cart meanwhile stay in it. If the stock is too low, the answer names the lines. `If-Match`
/// is compared with the ETag of the cart, and the answer has the ETag of the order.
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
    (status = 403, body = ProblemDetails,
        description = "`forbidden`: a guest has to register or log in first"),
    (status = 409, body = ProblemDetails,
        description = "`cart_empty`; `insufficient_stock` with `lines`; `price_changed` with the \
            new `total_amount`, which is above `expected_total`"),
    (status = 422, body = ProblemDetails,
        description = "`validation_failed`, `idempotency_key_reused`"),
    (status = 429, body = ProblemDetails,
        description = "`too_many_pending_orders`, `rate_limited`"),
    (status = 503, body = ProblemDetails,
        description = "`overloaded`, `store_unavailable`: no order was placed; `outcome_unknown`: \
            repeat the request with the same key"),
))]
async fn check_out(request: HttpRequest, payload: web::Payload) -> RouteResult {
    let services = AppState::from_request(&request)?;
    let caller = services.require_account(&request)?;
    let body = request::read_optional_json::<CheckoutRequest>(&request, payload).await?;
    let change = body.build_change(&request, &caller, 201)?;
    if change.idempotency_key.is_none() {
        let detail = "Send an Idempotency-Key of your own making with each checkout, and the same one when you repeat it.";
        return Err(Error::new(ErrorCode::IdempotencyKeyRequired, detail).into());
    }
    let checkout = body.value.parse(services.options.currency)?;
    Ok(
        match services
            .carts
            .check_out(caller.owner(), PlaceOrder { options: checkout, context: change })
            .await?
        {
            Reply::Completed(order) => {
                let answer = response::response_builder(StatusCode::CREATED, order_json(&order))
                    .with_etag(&order.version.to_string());
                answer.with_location(format!("/api/orders/{}", order.id)).finish()
            }
            Reply::Replayed(first) => response::replayed_response(first),
        },
    )
}

/// List orders, newest first.
///
/// A customer gets their own orders. An admin can ask for all of them.
#[utoipa::path(get, path = "/api/orders", operation_id = "list_orders",
tag = "Orders", security(("bearer" = [])), params(
    ("all" = Option<bool>, Query, example = false,
        description = "Whether to list the orders of all users. Only for admins."),
    ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, example = 20,
        description = "The number of items on a page. The default is 20."),
    ("cursor" = Option<String>, Query, description = "The `next_cursor` of the previous page."),
    ("Cache-Control" = Option<String>, Header),
), responses(
    (status = 200, body = OrderPage),
    (status = 401, body = ProblemDetails, description = "`unauthenticated`, `token_expired`"),
    (status = 403, body = ProblemDetails,
        description = "`forbidden`: a guest has no orders, and only an admin can list all orders"),
    (status = 422, body = ProblemDetails, description = "`validation_failed`"),
))]
async fn list(request: HttpRequest) -> RouteResult {
    let services = AppState::from_request(&request)?;
    let params = QueryParams::from_request(&request);
    let all = match params.get("all") {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => {
            return Err(Error::invalid_field("all", "invalid", "all must be true or false").into());
        }
    };
    let caller =
        if all { services.require_admin(&request)? } else { services.require_account(&request)? };
    let (limit, before) = (params.page_limit()?, params.parse_cursor::<OrderId>()?);
    let of = (!all).then_some(caller.user_id);
    services.ensure_latest(&request).await?;
    // One more than asked for tells whether there is another page.
    let mut found = services
        .read_before_deadline(&request, services.store.list_orders(of, before, limit + 1))
        .await?;
    let more = found.len() > limit as usize;
    found.truncate(limit as usize);
    let next = found.last().filter(|_| more).map(|order| order.id);
    let page = OrderPage {
        items: found.iter().map(OrderData::from).collect(),
        next_cursor: encode_cursor(next),
    };
    response::json_response(StatusCode::OK, &page)
}

/// Get an order.
///
/// A customer can read their own orders, an admin all of them.
#[utoipa::path(get, path = "/api/orders/{id}", operation_id = "get_order",
tag = "Orders", security(("bearer" = [])), params(
    ("id" = Uuid, Path, description = "The id of the order."),
    ("If-None-Match" = Option<String>, Header),
    ("Cache-Control" = Option<String>, Header),
), responses(
    (status = 200, body = OrderData),
    (status = 304, description = "`If-None-Match` names the current ETag."),
    (status = 403, body = ProblemDetails, description = "`forbidden`: a guest has no orders"),
    (status = 404, body = ProblemDetails,
        description = "`not_found`: there is no such order, or it is another user's"),
))]
async fn show(request: HttpRequest, path: web::Path<String>) -> RouteResult {
    let services = AppState::from_request(&request)?;
    let caller = services.require_account(&request)?;
    services.ensure_latest(&request).await?;
    let found = services
        .read_before_deadline(&request, services.store.find_order(parse_order_id(&path)?))
        .await?;
    let order = found
        .filter(|order| owner_filter(&caller).is_none_or(|user| user == order.user_id))
        .ok_or_else(Error::order_not_found)?;
    Ok(response::conditional_response(&request, order_json(&order), &order.version.to_string()))
}

/// Cancel an order.
///
/// Its stock is released. An order that was shipped cannot be canceled.
#[utoipa::path(post, path = "/api/orders/{id}/cancel", operation_id = "cancel_order",
tag = "Orders", security(("bearer" = [])), request_body = Option<CancelRequest>, params(
    ("id" = Uuid, Path, description = "The id of the order."),
    ("Idempotency-Key" = Option<String>, Header),
    ("If-Match" = Option<String>, Header),
), responses(
    (status = 200, body = OrderData),
    (status = 403, body = ProblemDetails, description = "`forbidden`: a guest has no orders"),
    (status = 404, body = ProblemDetails,
        description = "`not_found`: there is no such order, or it is another user's"),
    (status = 409, body = ProblemDetails, description = "`invalid_transition`"),
    (status = 422, body = ProblemDetails,
        description = "`validation_failed`, `idempotency_key_reused`"),
))]
async fn cancel(
    request: HttpRequest,
    path: web::Path<String>,
    payload: web::Payload,
) -> RouteResult {
    let services = AppState::from_request(&request)?;
    let caller = services.require_account(&request)?;
    let order_id = parse_order_id(&path)?;
    let body = request::read_optional_json::<CancelRequest>(&request, payload).await?;
    let change = body.build_change(&request, &caller, 200)?;
    change_order(
        services,
        ChangeOrder {
            order_id,
            owner: owner_filter(&caller),
            command: OrderCommand::Cancel,
            context: change,
        },
    )
    .await
}

/// Confirm that an order was paid.
///
/// The reference is kept with the payment.
#[utoipa::path(post, path = "/api/orders/{id}/pay", operation_id = "pay_order",
tag = "Orders", security(("bearer" = [])), request_body = Option<ReferenceRequest>, params(
    ("id" = Uuid, Path, description = "The id of the order."),
    ("Idempotency-Key" = Option<String>, Header),
    ("If-Match" = Option<String>, Header),
), responses(
    (status = 200, body = OrderData),
    (status = 403, body = ProblemDetails, description = "`forbidden`: only for admins"),
    (status = 404, body = ProblemDetails, description = "`not_found`"),
    (status = 409, body = ProblemDetails,
        description = "`invalid_transition`: it is not waiting for a payment"),
    (status = 422, body = ProblemDetails,
        description = "`validation_failed`, `idempotency_key_reused`"),
))]
async fn pay(request: HttpRequest, path: web::Path<String>, payload: web::Payload) -> RouteResult {
    change_order_as_admin(&request, &path, payload, |reference| OrderCommand::Pay { reference })
        .await
}

/// Ship an order.
///
/// Its stock leaves `on_hand`. The stock movements have the reference.
#[utoipa::path(post, path = "/api/orders/{id}/fulfil", operation_id = "fulfil_order",
tag = "Orders", security(("bearer" = [])), request_body = Option<ReferenceRequest>, params(
    ("id" = Uuid, Path, description = "The id of the order."),
    ("Idempotency-Key" = Option<String>, Header),
    ("If-Match" = Option<String>, Header),
), responses(
    (status = 200, body = OrderData),
    (status = 403, body = ProblemDetails, description = "`forbidden`: only for admins"),
    (status = 404, body = ProblemDetails, description = "`not_found`"),
    (status = 409, body = ProblemDetails,
        description = "`invalid_transition`: it is not paid, or was shipped already"),
    (status = 422, body = ProblemDetails,
        description = "`validation_failed`, `idempotency_key_reused`"),
))]
async fn fulfil(
    request: HttpRequest,
    path: web::Path<String>,
    payload: web::Payload,
) -> RouteResult {
    change_order_as_admin(&request, &path, payload, |reference| OrderCommand::Fulfill { reference })
        .await
}

async fn change_order_as_admin(
    request: &HttpRequest,
    path: &str,
    payload: web::Payload,
    command: fn(Option<String>) -> OrderCommand,
) -> RouteResult {
    let services = AppState::from_request(request)?;
    let caller = services.require_admin(request)?;
    let order_id = parse_order_id(path)?;
    let body = request::read_optional_json::<ReferenceRequest>(request, payload).await?;
    let change: CommandContext = body.build_change(request, &caller, 200)?;
    let command = command(body.value.into_reference()?);
    change_order(services, ChangeOrder { order_id, owner: None, command, context: change }).await
}

async fn change_order(services: &AppState, message: ChangeOrder) -> RouteResult {
    let ticket = message.context.ticket.clone();
    let reply: Reply<Arc<Order>> = ask(&services.orders, message, &ticket).await?;
    Ok(match reply {
        Reply::Completed(order) => response::response_builder(StatusCode::OK, order_json(&order))
            .with_etag(&order.version.to_string())
            .finish(),
        Reply::Replayed(first) => response::replayed_response(first),
    })
}

/// Whose orders the caller may see; `None`: everybody's.
fn owner_filter(caller: &Caller) -> Option<UserId> {
    (caller.role != Role::Admin).then_some(caller.user_id)
}

fn parse_order_id(path: &str) -> Result<OrderId, Error> {
    path.parse().map_err(|_| Error::order_not_found())
}
