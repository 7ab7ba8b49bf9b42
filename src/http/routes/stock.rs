//! The routes for stock and stock movements.

use actix_web::{http::StatusCode, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    actors::ask::ask,
    domain::{
        ids::ProductId,
        inventory::{StockChange, StockLevel, StockMovement},
    },
    error::Error,
    events::{actor::ActorData, inventory::StockData},
    http::{
        openapi::enums::MovementKind,
        request::{
            body::JsonRequest,
            extract::{ChangeRequest, ReadRequest, Staff},
            query::encode_cursor,
            scopes::{StockReadScope, StockScope},
        },
        response::{ApiResponse, RouteResult, problem::ProblemDetails},
    },
    messages::{catalog::ChangeStock, command_context::Reply},
};

/// Registers the routes of this module.
pub(super) fn configure_routes(config: &mut web::ServiceConfig) {
    config
        .service(web::resource("/api/products/{id}/stock").get(show).post(change))
        .service(web::resource("/api/products/{id}/stock/movements").get(movements));
}

/// A change of `on_hand`, by `delta` or by `set`.
#[derive(Deserialize, ToSchema)]
#[schema(examples(
    json!({"delta": 20, "reason": "delivery", "reference": "DELIVERY-17"}),
    json!({"set": 38, "reason": "count"})
))]
pub(crate) struct StockRequest {
    /// The number to add to `on_hand`. A negative one is subtracted.
    #[schema(examples(20))]
    delta: Option<i64>,
    /// The new `on_hand`.
    #[schema(examples(38))]
    set: Option<i64>,
    /// Why the stock changes.
    #[schema(min_length = 1, max_length = 200, example = "delivery")]
    reason: String,
    /// The caller's own reference.
    #[schema(max_length = 200, examples("DELIVERY-17"))]
    reference: Option<String>,
}

/// One line of a product's append-only stock ledger.
#[derive(Serialize, ToSchema)]
pub(crate) struct MovementResponse {
    /// The number of the movement, from 1 without gaps.
    #[schema(examples(2))]
    sequence: u64,
    #[schema(value_type = MovementKind)]
    kind: &'static str,
    #[schema(examples(20))]
    on_hand_delta: i64,
    #[schema(examples(0))]
    reserved_delta: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    order_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, examples("DELIVERY-17"))]
    reference: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, examples("delivery"))]
    reason: Option<String>,
    /// Who made the change. What customers and the shop itself cause has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    actor: Option<ActorData>,
    #[schema(format = DateTime)]
    at: String,
}

/// A page of movements, newest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct MovementPage {
    items: Vec<MovementResponse>,
    /// The `cursor` of the next page. It is null on the last page.
    #[schema(required = true, examples("MTc"))]
    next_cursor: Option<String>,
}

impl StockRequest {
    fn to_stock_change(&self) -> Result<StockChange, Error> {
        Ok(StockChange::from_request(
            self.delta,
            self.set,
            &self.reason,
            self.reference.as_deref(),
        )?)
    }
}

impl JsonRequest for StockRequest {}

impl From<StockMovement> for MovementResponse {
    fn from(movement: StockMovement) -> Self {
        Self {
            sequence: movement.sequence,
            kind: movement.delta.kind.as_str(),
            on_hand_delta: movement.delta.on_hand,
            reserved_delta: movement.delta.reserved,
            order_id: movement.order_id.map(|id| id.as_uuid()),
            reference: movement.reference,
            reason: movement.reason,
            actor: movement.actor.map(Into::into),
            at: movement.occurred_at.to_string(),
        }
    }
}

/// Get the stock of a product.
///
/// Its ETag is the version of the stock, which differs from the version of the product.
#[utoipa::path(get, path = "/api/products/{id}/stock", operation_id = "get_stock",
tag = "Stock", security(("bearer" = [])), params(
    ("id" = Uuid, Path, description = "The id of the product."),
    ("If-None-Match" = Option<String>, Header),
    ("Cache-Control" = Option<String>, Header),
), responses(
    (status = 200, body = StockData),
    (status = 304, description = "`If-None-Match` names the current ETag."),
    (status = 403, body = ProblemDetails,
        description = "`forbidden`: only for staff with `stock:read`"),
    (status = 404, body = ProblemDetails, description = "`product_not_found`"),
))]
async fn show(read: ReadRequest<Staff<StockReadScope>, ProductId>) -> RouteResult {
    read.honor_no_cache().await?;
    let view = read.state.catalog_cache.get(read.target).ok_or_else(Error::product_not_found)?;
    read.query.reject_others(&[])?;
    Ok(stock_response(&view.stock)?)
}

/// Change the stock of a product.
///
/// `delta` and `set` change `on_hand`, which cannot go below `reserved`. Concurrent
/// changes of one product may share a version. Each change adds a movement, and each response
/// contains the stock after all of them.
#[utoipa::path(post, path = "/api/products/{id}/stock", operation_id = "change_stock",
tag = "Stock", security(("bearer" = [])), request_body = StockRequest, params(
    ("id" = Uuid, Path, description = "The id of the product."),
    ("Idempotency-Key" = Option<String>, Header),
    ("If-Match" = Option<String>, Header,
        description = "The change is made only if this version of the stock is current."),
), responses(
    (status = 200, body = StockData),
    (status = 403, body = ProblemDetails, description = "`forbidden`: only for staff with `stock`"),
    (status = 404, body = ProblemDetails, description = "`product_not_found`"),
    (status = 409, body = ProblemDetails, description = "`insufficient_stock`"),
    (status = 422, body = ProblemDetails,
        description = "`validation_failed`, `idempotency_key_reused`"),
))]
async fn change(change: ChangeRequest<Staff<StockScope>, StockRequest, ProductId>) -> RouteResult {
    let stock_change = change.body.to_stock_change()?;
    let context = change.context()?;
    let ticket = context.ticket.clone();
    let StockRequest { reason, reference, .. } = change.body;
    let message = ChangeStock {
        product_id: change.target,
        stock_change,
        reason: Some(reason),
        reference,
        context,
    };
    let reply: Reply<StockLevel> = ask(&change.state.catalog, message, &ticket).await?;
    Ok(ApiResponse::from_reply(StatusCode::OK, reply, |level| stock_response(&level))?)
}

fn stock_response(level: &StockLevel) -> Result<ApiResponse, Error> {
    Ok(ApiResponse::json(StatusCode::OK, &StockData::from(level))?.with_etag(level.version))
}

/// List the stock movements of a product, newest first.
///
/// A movement is never changed or removed.
#[utoipa::path(get, path = "/api/products/{id}/stock/movements",
operation_id = "list_stock_movements", tag = "Stock", security(("bearer" = [])), params(
    ("id" = Uuid, Path, description = "The id of the product."),
    ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, example = 20,
        description = "The number of items on a page. The default is 20."),
    ("cursor" = Option<String>, Query, description = "The `next_cursor` of the previous page."),
    ("Cache-Control" = Option<String>, Header),
), responses(
    (status = 200, body = MovementPage),
    (status = 403, body = ProblemDetails,
        description = "`forbidden`: only for staff with `stock:read`"),
    (status = 404, body = ProblemDetails, description = "`product_not_found`"),
    (status = 422, body = ProblemDetails, description = "`validation_failed`"),
))]
async fn movements(read: ReadRequest<Staff<StockReadScope>, ProductId>) -> RouteResult {
    let (state, query) = (&read.state, &read.query);
    read.honor_no_cache().await?;
    state.catalog_cache.get(read.target).ok_or_else(Error::product_not_found)?;
    query.reject_others(&["limit", "cursor"])?;
    let limit = query.page_limit()?;
    let movements = state.store.list_movements(read.target, query.parse_cursor()?, limit);
    let found = state.read_before_deadline(&read.request, movements).await?;
    // Sequences have no gaps, so there is a next page unless the last movement is the first of all.
    let next = found
        .last()
        .map(|movement| movement.sequence)
        .filter(|last| *last > 1 && found.len() == limit as usize);
    let page = MovementPage {
        items: found.into_iter().map(Into::into).collect(),
        next_cursor: encode_cursor(next),
    };
    Ok(ApiResponse::json(StatusCode::OK, &page)?)
}
