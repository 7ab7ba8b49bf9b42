//! The export of orders as a stream.

use std::{borrow::Cow, sync::Arc};

use actix_web::{HttpRequest, HttpResponse, http::header, web::Bytes};
use futures_util::{StreamExt as _, stream};

use super::list::parse_filter;
use crate::{
    domain::{
        account::Email,
        ids::OrderId,
        order::{Order, OrderFilter, OrderLine},
        validation::ValidationErrors,
    },
    error::Error,
    events::{
        order::{OrderData, order_json},
        schema,
    },
    http::{
        request::{
            extract::{ReadRequest, Staff},
            scopes::OrdersReadScope,
        },
        response::problem::{Problem, ProblemDetails},
        state::AppState,
    },
};

/// The orders that are in memory at a time.
const PAGE_SIZE: u32 = 200;

const CSV_HEADER: &str = "number,id,status,placed_at,updated_at,user_id,email,currency,\
total_amount,payment_method,payment_status,payment_reference,refunded,product_id,sku,name,\
quantity,fulfilled,unit_price,line_total\r\n";

/// The format of an export.
#[derive(Clone, Copy)]
enum Format {
    /// One line of JSON for each order.
    Ndjson,
    /// One row for each line of an order.
    Csv,
}

/// Export orders, newest first.
///
/// The answer is NDJSON, an order on each line, or CSV with a row for each line of an order if
/// `Accept` prefers `text/csv`. It is streamed. A connection that ends early says that the store
/// failed.
#[utoipa::path(get, path = "/api/orders/export", operation_id = "export_orders",
tag = "Orders", security(("bearer" = [])), params(
    ("Accept" = Option<String>, Header, example = "text/csv",
        description = "`application/x-ndjson`, which is the default, or `text/csv`."),
    ("status" = Option<schema::OrderStatus>, Query, description = "The status of the orders."),
    ("number" = Option<String>, Query, example = "7KQ2-M9XF-4T0D",
        description = "The number of the order."),
    ("from" = Option<String>, Query, format = DateTime,
        description = "The earliest time at which the orders were placed (RFC 3339)."),
    ("to" = Option<String>, Query, format = DateTime,
        description = "The latest time at which the orders were placed (RFC 3339)."),
    ("user_id" = Option<Uuid>, Query, description = "The buyer."),
    ("email" = Option<String>, Query, format = Email,
        description = "The e-mail address of the orders."),
    ("Cache-Control" = Option<String>, Header),
), responses(
    (status = 200, content(
        (OrderData = "application/x-ndjson"), (String = "text/csv"),
    )),
    (status = 401, body = ProblemDetails, description = "`unauthenticated`, `token_expired`"),
    (status = 403, body = ProblemDetails,
        description = "`forbidden`: only for staff with `orders:read`"),
    (status = 422, body = ProblemDetails,
        description = "`validation_failed`: a filter is not understood"),
))]
pub(crate) async fn export(
    read: ReadRequest<Staff<OrdersReadScope>>,
) -> Result<HttpResponse, Problem> {
    read.query.reject_others(&["status", "number", "from", "to", "user_id", "email"])?;
    let filter = parse_filter(&read.query, ValidationErrors::new())?;
    read.honor_no_cache().await?;
    let format = requested_format(&read.request);
    // The first page comes before the status, so that a store that fails is a problem.
    let first = read.state.store.list_orders(filter.clone(), None, PAGE_SIZE);
    let first = read.state.read_before_deadline(&read.request, first).await?;
    let (content_type, head) = match format {
        Format::Ndjson => ("application/x-ndjson", ""),
        Format::Csv => ("text/csv; charset=utf-8; header=present", CSV_HEADER),
    };
    let head = stream::iter([Ok(Bytes::from_static(head.as_bytes()))]);
    let pages = stream_pages(Arc::clone(&read.state), filter, first);
    let body = head.chain(pages.map(move |page| page.map(|page| encode(&page, format))));
    Ok(HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, content_type))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header((header::VARY, "Accept"))
        .streaming::<_, Error>(Box::pin(body)))
}

/// Whether `Accept` names CSV before it names NDJSON.
fn requested_format(request: &HttpRequest) -> Format {
    let accept = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let accept = accept.unwrap_or_default().to_ascii_lowercase();
    match (accept.find("text/csv"), accept.find("application/x-ndjson")) {
        (Some(csv), Some(ndjson)) if csv < ndjson => Format::Csv,
        (Some(_), None) => Format::Csv,
        _ => Format::Ndjson,
    }
}

/// All pages that follow `first`, and that one. Only one is in memory: the next is read when the
/// client has taken the one before.
fn stream_pages(
    state: Arc<AppState>,
    filter: OrderFilter,
    first: Vec<Order>,
) -> impl stream::Stream<Item = Result<Vec<Order>, Error>> {
    enum Next {
        Page(Vec<Order>),
        After(OrderId),
        End,
    }
    stream::try_unfold(Next::Page(first), move |next| {
        let (state, filter) = (Arc::clone(&state), filter.clone());
        async move {
            let page = match next {
                Next::Page(page) => page,
                Next::After(last) => {
                    let page = state.store.list_orders(filter, Some(last), PAGE_SIZE);
                    state.read_limiter.run(state.options.request_timeout, page).await?
                }
                Next::End => return Ok(None),
            };
            let is_full = page.len() >= PAGE_SIZE as usize;
            let last = page.last().filter(|_| is_full).map(|order| order.id);
            let next = last.map_or(Next::End, Next::After);
            Ok((!page.is_empty()).then_some((page, next)))
        }
    })
}

fn encode(orders: &[Order], format: Format) -> Bytes {
    let mut text = Vec::new();
    for order in orders {
        match format {
            Format::Ndjson => {
                text.extend_from_slice(&order_json(order));
                text.push(b'\n');
            }
            Format::Csv => {
                for line in &order.lines {
                    text.extend_from_slice(csv_row(order, line).as_bytes());
                }
            }
        }
    }
    text.into()
}

fn csv_row(order: &Order, line: &OrderLine) -> String {
    let cells: [Cow<'_, str>; 20] = [
        order.number().to_string().into(),
        order.id.to_string().into(),
        order.status.as_str().into(),
        order.placed_at.to_string().into(),
        order.updated_at.to_string().into(),
        order.user_id.to_string().into(),
        order.email.as_ref().map_or("", Email::as_str).into(),
        order.currency.code().into(),
        order.total().to_string().into(),
        order.payment.method.as_str().into(),
        order.payment.status.as_str().into(),
        order.payment.reference.as_deref().unwrap_or_default().into(),
        order.payment.refunded().to_string().into(),
        line.product_id.to_string().into(),
        line.sku.as_deref().unwrap_or_default().into(),
        line.name.as_str().into(),
        line.quantity.to_string().into(),
        line.fulfilled.to_string().into(),
        line.unit_price.to_string().into(),
        line.total().to_string().into(),
    ];
    let mut row = cells.map(quote).join(",");
    row.push_str("\r\n");
    row
}

/// A cell of CSV (RFC 4180), in quotes where it needs them.
fn quote(cell: Cow<'_, str>) -> Cow<'_, str> {
    if cell.contains([',', '"', '\r', '\n']) {
        format!("\"{}\"", cell.replace('"', "\"\"")).into()
    } else {
        cell
    }
}
