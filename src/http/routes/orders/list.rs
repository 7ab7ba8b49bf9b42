//! Lists of orders, and their filters.

use actix_web::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    domain::{
        account::{Email, Scope},
        clock::Timestamp,
        ids::{OrderId, UserId},
        order::{OrderFilter, OrderNumber, OrderStatus},
        validation::ValidationErrors,
    },
    error::Error,
    events::{
        order::OrderData,
        schema::{self, names_of},
    },
    http::{
        request::{
            extract::{BearerOrKey, ReadRequest},
            query::{QueryParams, cut_to_page},
            scopes::OrdersReadScope,
        },
        response::{ApiResponse, RouteResult, problem::ProblemDetails},
    },
};

/// A page of orders, newest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct OrderPage<'a> {
    items: Vec<OrderData<'a>>,
    /// The `cursor` of the next page. It is null on the last page.
    #[schema(required = true, examples("WzE3LCI0Il0"))]
    next_cursor: Option<String>,
}

/// List orders, newest first.
///
/// A customer or a guest gets their own orders. Staff with `orders:read` can ask for all of them.
/// Filters are combined: an order must match each.
#[utoipa::path(get, path = "/api/orders", operation_id = "list_orders",
tag = "Orders", security(("bearer" = [])), params(
    ("all" = Option<bool>, Query, example = false,
        description = "Whether to list the orders of all users. Only for staff with \
            `orders:read`."),
    ("status" = Option<schema::OrderStatus>, Query, description = "The status of the orders."),
    ("number" = Option<String>, Query, example = "7KQ2-M9XF-4T0D",
        description = "The number of the order. Case and hyphens do not matter, O is read as 0, \
            and I and L as 1."),
    ("from" = Option<String>, Query, format = DateTime,
        description = "The earliest time at which the orders were placed (RFC 3339)."),
    ("to" = Option<String>, Query, format = DateTime,
        description = "The latest time at which the orders were placed (RFC 3339)."),
    ("user_id" = Option<Uuid>, Query, description = "The buyer. Only with `all=true`."),
    ("email" = Option<String>, Query, format = Email,
        description = "The e-mail address of the orders. Only with `all=true`."),
    ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, example = 20,
        description = "The number of items on a page. The default is 20."),
    ("cursor" = Option<String>, Query, description = "The `next_cursor` of the previous page."),
    ("Cache-Control" = Option<String>, Header),
), responses(
    (status = 200, body = OrderPage),
    (status = 401, body = ProblemDetails, description = "`unauthenticated`, `token_expired`"),
    (status = 403, body = ProblemDetails,
        description = "`forbidden`: only staff with `orders:read` can use `all`, `user_id` \
            and `email`, and an API key needs the scope"),
    (status = 422, body = ProblemDetails,
        description = "`validation_failed`: a filter is not understood, or needs `all=true`"),
))]
pub(crate) async fn list(read: ReadRequest<BearerOrKey<OrdersReadScope>>) -> RouteResult {
    let (state, query) = (&read.state, &read.query);
    if query.has("all", "true") || ["user_id", "email"].iter().any(|n| query.get(n).is_some()) {
        read.caller.require(&[Scope::OrdersRead])?;
    }
    query.reject_others(&[
        "all", "status", "number", "from", "to", "user_id", "email", "limit", "cursor",
    ])?;
    let mut errors = ValidationErrors::new();
    let all = query.flag("all", &mut errors).unwrap_or(false);
    for name in ["user_id", "email"] {
        if !all && query.get(name).is_some() {
            errors.add(name, "needs_all", format!("{name} needs all=true"));
        }
    }
    let requested = parse_filter(query, errors)?;
    let (limit, before) = (query.page_limit()?, query.parse_cursor::<OrderId>()?);
    read.honor_no_cache().await?;
    let filter = match all {
        true => requested,
        false => OrderFilter { user_id: Some(read.caller.user_id), ..requested },
    };
    let orders = state.store.list_orders(filter, before, limit + 1);
    let mut found = state.read_before_deadline(&read.request, orders).await?;
    let next_cursor = cut_to_page(&mut found, limit, |order| order.id);
    let page = OrderPage { items: found.iter().map(OrderData::from).collect(), next_cursor };
    Ok(ApiResponse::json(StatusCode::OK, &page)?.with_no_store())
}

/// Parses the filters `status`, `number`, `from`, `to`, `user_id` and `email`.
///
/// # Errors
/// `validation_failed` with `errors` and each filter that is not understood.
pub(super) fn parse_filter(
    query: &QueryParams,
    mut errors: ValidationErrors,
) -> Result<OrderFilter, Error> {
    let status = query.get("status").and_then(|text| {
        let status = text.parse::<OrderStatus>().ok();
        if status.is_none() {
            let known = names_of(OrderStatus::ALL, OrderStatus::as_str).join(", ");
            errors.add("status", "unknown", format!("status must be one of: {known}"));
        }
        status
    });
    let mut invalid = |name: &str, meaning: &str| {
        errors.add(name, "invalid", format!("{name} must be {meaning}"));
    };
    let number = query.get("number").and_then(|text| {
        let number = text.parse::<OrderNumber>().ok();
        if number.is_none() {
            invalid("number", "an order number, such as 7KQ2-M9XF-4T0D");
        }
        number
    });
    let mut time = |name: &str| {
        let text = query.get(name)?;
        let time = text.parse::<Timestamp>().ok();
        if time.is_none() {
            invalid(name, "a time, such as 2026-01-31T12:00:00Z");
        }
        time
    };
    let (placed_from, placed_to) = (time("from"), time("to"));
    let user_id = query.get("user_id").and_then(|text| {
        let user_id = text.parse::<UserId>().ok();
        if user_id.is_none() {
            invalid("user_id", "the id of a user");
        }
        user_id
    });
    let email = query.get("email").and_then(|text| errors.record_result(Email::parse(text)));
    let filter = OrderFilter { user_id, email, status, number, placed_from, placed_to };
    Ok(errors.into_result(filter)?)
}
