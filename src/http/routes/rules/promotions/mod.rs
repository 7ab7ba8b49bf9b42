//! The routes for promotions.

mod requests;

use std::sync::Arc;

use actix_web::{http::StatusCode, web};
use serde::Serialize;
use utoipa::ToSchema;

pub(crate) use self::requests::{PatchPromotionRequest, PromotionRequest};
use super::{self as rules, RuleTarget as _};
use crate::{
    domain::{
        ids::PromotionId,
        pricing::{RuleEdit, RuleRecord},
    },
    error::Error,
    events::pricing::PromotionData,
    http::{
        request::{
            extract::{Access, ChangeRequest, ReadRequest, Staff},
            scopes::{PromotionsReadScope, PromotionsScope},
            target::Target,
        },
        response::{ApiResponse, RouteResult, problem::ProblemDetails},
    },
};

/// The path of the list.
const PATH: &str = "/api/promotions";

/// Registers the routes of this module.
pub(super) fn configure_routes(config: &mut web::ServiceConfig) {
    config.service(web::resource("/api/promotions").get(list).post(create)).service(
        web::resource("/api/promotions/{id}").get(show).put(replace).patch(patch).delete(delete),
    );
}

/// A page of promotions.
#[derive(Serialize, ToSchema)]
pub(crate) struct PromotionPage<'a> {
    items: Vec<PromotionData<'a>>,
    /// Where the next page begins; `null` on the last one.
    #[schema(required, examples("IjAxOTM2ZjVlIg"))]
    next_cursor: Option<String>,
}

/// How many orders have each of these promotions, from the store.
async fn read_uses<A: Access, T: Target>(
    read: &ReadRequest<A, T>,
    records: &[Arc<RuleRecord>],
) -> Result<Vec<u64>, Error> {
    let id = |record: &Arc<RuleRecord>| PromotionId::from(record.id.as_uuid());
    let ids = records.iter().map(id).collect();
    let found = read.state.store.list_promotion_uses(Some(ids));
    let found = read.state.read_before_deadline(&read.request, found).await?;
    let used = |record| {
        let uses = found.iter().find(|uses| uses.promotion_id == id(record));
        uses.map_or(0, |uses| uses.used)
    };
    Ok(records.iter().map(used).collect())
}

/// List promotions.
///
/// The newest come first. Deleted ones are not listed.
#[utoipa::path(get, path = "/api/promotions", operation_id = "list_promotions",
tag = "Promotions", security(("bearer" = [])), params(
    ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, example = 20,
        description = "The number of items on a page. The default is 20."),
    ("cursor" = Option<String>, Query, description = "The `next_cursor` of the previous page."),
    ("Cache-Control" = Option<String>, Header),
), responses(
    (status = 200, body = PromotionPage),
    (status = 403, body = ProblemDetails,
        description = "`forbidden`: only for staff with `promotions:read`"),
    (status = 422, body = ProblemDetails, description = "`validation_failed`"),
))]
async fn list(read: ReadRequest<Staff<PromotionsReadScope>>) -> RouteResult {
    read.honor_no_cache().await?;
    let (found, next_cursor) = rules::list(&read.state, PromotionId::KIND, &read.query)?;
    let used = read_uses(&read, &found).await?;
    let with_uses = found.iter().zip(used);
    let items = with_uses.filter_map(|(record, used)| PromotionData::of(record, used)).collect();
    Ok(ApiResponse::json(StatusCode::OK, &PromotionPage { items, next_cursor })?)
}

/// Get a promotion.
///
/// A deleted one is not found, though it stays in the orders that have it.
#[utoipa::path(get, path = "/api/promotions/{id}", operation_id = "get_promotion",
tag = "Promotions", security(("bearer" = [])), params(
    ("id" = Uuid, Path, description = "The id of the promotion."),
    ("If-None-Match" = Option<String>, Header),
    ("Cache-Control" = Option<String>, Header),
), responses(
    (status = 200, body = PromotionData),
    (status = 304, description = "`If-None-Match` names the current ETag."),
    (status = 403, body = ProblemDetails,
        description = "`forbidden`: only for staff with `promotions:read`"),
    (status = 404, body = ProblemDetails, description = "`promotion_not_found`"),
))]
async fn show(read: ReadRequest<Staff<PromotionsReadScope>, PromotionId>) -> RouteResult {
    read.honor_no_cache().await?;
    let record = rules::find(&read.state, read.target)?;
    read.query.reject_others(&[])?;
    let used = read_uses(&read, &[Arc::clone(&record)]).await?;
    Ok(rules::rule_response(&record, used.first().copied().unwrap_or(0)))
}

/// Create a promotion.
///
/// Carts use it at once. A code that another promotion has is refused, in whatever case it is
/// written.
#[utoipa::path(post, path = "/api/promotions", operation_id = "create_promotion",
tag = "Promotions", security(("bearer" = [])), request_body = PromotionRequest, params(
    ("Idempotency-Key" = Option<String>, Header),
), responses(
    (status = 201, body = PromotionData, headers(("ETag" = String), ("Location" = String))),
    (status = 403, body = ProblemDetails,
        description = "`forbidden`: only for staff with `promotions`"),
    (status = 409, body = ProblemDetails, description = "`code_taken`"),
    (status = 422, body = ProblemDetails,
        description = "`validation_failed`, `idempotency_key_reused`"),
))]
async fn create(change: ChangeRequest<Staff<PromotionsScope>, PromotionRequest>) -> RouteResult {
    let context = change.context()?;
    let rule = change.body.parse(change.state.options.currency)?;
    rules::create(&change.state, PATH, rule, context).await
}

/// Replace a promotion.
///
/// The read-only members of a fetched promotion are ignored.
#[utoipa::path(put, path = "/api/promotions/{id}", operation_id = "replace_promotion",
tag = "Promotions", security(("bearer" = [])), request_body = PromotionRequest, params(
    ("id" = Uuid, Path, description = "The id of the promotion."),
    ("Idempotency-Key" = Option<String>, Header),
    ("If-Match" = Option<String>, Header),
), responses(
    (status = 200, body = PromotionData),
    (status = 403, body = ProblemDetails,
        description = "`forbidden`: only for staff with `promotions`"),
    (status = 404, body = ProblemDetails, description = "`promotion_not_found`"),
    (status = 409, body = ProblemDetails, description = "`code_taken`"),
    (status = 422, body = ProblemDetails,
        description = "`validation_failed`, `idempotency_key_reused`"),
))]
async fn replace(
    change: ChangeRequest<Staff<PromotionsScope>, PromotionRequest, PromotionId>,
) -> RouteResult {
    let context = change.context()?;
    let edit = RuleEdit::Replace(change.body.parse(change.state.options.currency)?);
    rules::change(&change.state, change.target, edit, context).await
}

/// Change some members of a promotion.
///
/// The body is a merge patch (RFC 7396). The read-only members of a fetched promotion are
/// ignored.
#[utoipa::path(patch, path = "/api/promotions/{id}", operation_id = "patch_promotion",
tag = "Promotions", security(("bearer" = [])),
request_body(content = PatchPromotionRequest, content_type = "application/merge-patch+json"),
params(
    ("id" = Uuid, Path, description = "The id of the promotion."),
    ("Idempotency-Key" = Option<String>, Header),
    ("If-Match" = Option<String>, Header),
), responses(
    (status = 200, body = PromotionData),
    (status = 403, body = ProblemDetails,
        description = "`forbidden`: only for staff with `promotions`"),
    (status = 404, body = ProblemDetails, description = "`promotion_not_found`"),
    (status = 409, body = ProblemDetails, description = "`code_taken`"),
    (status = 422, body = ProblemDetails,
        description = "`validation_failed`, `idempotency_key_reused`"),
))]
async fn patch(
    change: ChangeRequest<Staff<PromotionsScope>, PatchPromotionRequest, PromotionId>,
) -> RouteResult {
    let context = change.context()?;
    let patch = change.body.parse(change.state.options.currency)?;
    rules::change(&change.state, change.target, RuleEdit::PatchPromotion(Box::new(patch)), context)
        .await
}

/// Delete a promotion.
///
/// It stays in the orders that have it, and its code is free for another one.
#[utoipa::path(delete, path = "/api/promotions/{id}", operation_id = "delete_promotion",
tag = "Promotions", security(("bearer" = [])), params(
    ("id" = Uuid, Path, description = "The id of the promotion."),
    ("Idempotency-Key" = Option<String>, Header),
    ("If-Match" = Option<String>, Header),
), responses(
    (status = 204),
    (status = 403, body = ProblemDetails,
        description = "`forbidden`: only for staff with `promotions`"),
    (status = 404, body = ProblemDetails, description = "`promotion_not_found`"),
    (status = 422, body = ProblemDetails, description = "`idempotency_key_reused`"),
))]
async fn delete(change: ChangeRequest<Staff<PromotionsScope>, (), PromotionId>) -> RouteResult {
    let context = change.context()?;
    rules::delete(&change.state, change.target, context).await
}
