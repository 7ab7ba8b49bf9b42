//! The catalog's routes: search, suggestions, and product changes.

pub(crate) mod requests;
pub(crate) mod search;

use std::sync::Arc;

use actix_web::{http::StatusCode, web};

use self::requests::{ProductRequest, ReplaceProductRequest};
use crate::{
    actors::ask::ask,
    domain::ids::ProductId,
    error::Error,
    http::{
        request::{
            extract::{CatalogReader, ChangeRequest, ReadRequest, Staff},
            scopes::CatalogScope,
        },
        response::{ApiResponse, RouteResult, problem::ProblemDetails, views::ProductResponse},
        state::AppState,
    },
    input::product_patch::PatchProductRequest,
    messages::{
        catalog::{ChangeProduct, CreateProduct, DeleteProduct, ProductEdit, ProductView},
        command_context::Reply,
    },
};

/// Registers the routes of this module.
pub(super) fn configure_routes(config: &mut web::ServiceConfig) {
    config
        .service(web::resource("/api/products").get(search::list).post(create))
        .service(web::resource("/api/products/suggest").get(search::suggest))
        .service(
            web::resource("/api/products/{id}").get(show).put(replace).patch(patch).delete(delete),
        );
}

/// Get a product.
///
/// Its ETag consists of its version and the version of its stock: `"<version>.<stock version>"`.
#[utoipa::path(get, path = "/api/products/{id}", operation_id = "get_product",
tag = "Products", security((), ("bearer" = [])), params(
    ("id" = Uuid, Path, description = "The id of the product."),
    ("If-None-Match" = Option<String>, Header),
    ("Cache-Control" = Option<String>, Header),
), responses(
    (status = 200, body = ProductResponse),
    (status = 304, description = "`If-None-Match` names the current ETag."),
    (status = 401, body = ProblemDetails,
        description = "`unauthenticated`, `token_expired`: the catalog is not public"),
    (status = 404, body = ProblemDetails, description = "`product_not_found`"),
))]
async fn show(read: ReadRequest<CatalogReader, ProductId>) -> RouteResult {
    read.honor_no_cache().await?;
    let view = read.state.catalog_cache.get(read.target).ok_or_else(Error::product_not_found)?;
    read.query.reject_others(&[])?;
    Ok(product_response(&view))
}

/// Create a product.
///
/// The opening stock is its first stock movement.
#[utoipa::path(post, path = "/api/products", operation_id = "create_product",
tag = "Products", security(("bearer" = [])), request_body = ProductRequest, params(
    ("Idempotency-Key" = Option<String>, Header),
), responses(
    (status = 201, body = ProductResponse, headers(("ETag" = String), ("Location" = String))),
    (status = 403, body = ProblemDetails,
        description = "`forbidden`: only for staff with `catalog`"),
    (status = 409, body = ProblemDetails, description = "`sku_taken`"),
    (status = 422, body = ProblemDetails,
        description = "`validation_failed`, `idempotency_key_reused`"),
))]
async fn create(change: ChangeRequest<Staff<CatalogScope>, ProductRequest>) -> RouteResult {
    let context = change.context()?;
    let ticket = context.ticket.clone();
    let (details, initial_stock) = change.body.parse(change.state.options.currency)?;
    let message = CreateProduct { details, initial_stock, context };
    let reply = ask(&change.state.catalog, message, &ticket).await?;
    let render = |view: Arc<ProductView>| {
        let location = format!("/api/products/{}", view.product.id);
        Ok(product_response(&view).with_location(location))
    };
    Ok(ApiResponse::from_reply(StatusCode::CREATED, reply, render)?)
}

/// Replace the details of a product.
///
/// The read-only members of a fetched product (`id`, `currency`, `stock`, `version`, `created_at`
/// and `updated_at`) are ignored.
#[utoipa::path(put, path = "/api/products/{id}", operation_id = "replace_product",
tag = "Products", security(("bearer" = [])), request_body = ReplaceProductRequest, params(
    ("id" = Uuid, Path, description = "The id of the product."),
    ("Idempotency-Key" = Option<String>, Header),
    ("If-Match" = Option<String>, Header,
        description = "The change is made only if this version of the product is current."),
), responses(
    (status = 200, body = ProductResponse),
    (status = 403, body = ProblemDetails,
        description = "`forbidden`: only for staff with `catalog`"),
    (status = 404, body = ProblemDetails, description = "`product_not_found`"),
    (status = 409, body = ProblemDetails, description = "`sku_taken`"),
    (status = 422, body = ProblemDetails,
        description = "`validation_failed`, `idempotency_key_reused`"),
))]
async fn replace(
    change: ChangeRequest<Staff<CatalogScope>, ReplaceProductRequest, ProductId>,
) -> RouteResult {
    let context = change.context()?;
    let details = change.body.parse(change.state.options.currency)?;
    let edit = ProductEdit::Replace(details);
    edit_product(&change.state, ChangeProduct { product_id: change.target, edit, context }).await
}

/// Change some details of a product.
///
/// The body is a merge patch (RFC 7396). The read-only members of a fetched product are ignored.
#[utoipa::path(patch, path = "/api/products/{id}", operation_id = "patch_product",
tag = "Products", security(("bearer" = [])),
request_body(content = PatchProductRequest, content_type = "application/merge-patch+json"), params(
    ("id" = Uuid, Path, description = "The id of the product."),
    ("Idempotency-Key" = Option<String>, Header),
    ("If-Match" = Option<String>, Header,
        description = "The change is made only if this version of the product is current."),
), responses(
    (status = 200, body = ProductResponse),
    (status = 403, body = ProblemDetails,
        description = "`forbidden`: only for staff with `catalog`"),
    (status = 404, body = ProblemDetails, description = "`product_not_found`"),
    (status = 409, body = ProblemDetails, description = "`sku_taken`"),
    (status = 422, body = ProblemDetails,
        description = "`validation_failed`, `idempotency_key_reused`"),
))]
async fn patch(
    change: ChangeRequest<Staff<CatalogScope>, PatchProductRequest, ProductId>,
) -> RouteResult {
    let context = change.context()?;
    let edit = ProductEdit::Patch(change.body.parse(change.state.options.currency)?);
    edit_product(&change.state, ChangeProduct { product_id: change.target, edit, context }).await
}

async fn edit_product(state: &AppState, message: ChangeProduct) -> RouteResult {
    let ticket = message.context.ticket.clone();
    let reply = ask(&state.catalog, message, &ticket).await?;
    Ok(ApiResponse::from_reply(StatusCode::OK, reply, |view: Arc<ProductView>| {
        Ok(product_response(&view))
    })?)
}

fn product_response(view: &ProductView) -> ApiResponse {
    ApiResponse::ok(view.body()).with_etag(view.etag())
}

/// Delete a product.
///
/// Its lines in carts become unavailable. Orders keep their copies.
#[utoipa::path(delete, path = "/api/products/{id}", operation_id = "delete_product",
tag = "Products", security(("bearer" = [])), params(
    ("id" = Uuid, Path, description = "The id of the product."),
    ("Idempotency-Key" = Option<String>, Header),
    ("If-Match" = Option<String>, Header,
        description = "The change is made only if this version of the product is current."),
), responses(
    (status = 204),
    (status = 403, body = ProblemDetails,
        description = "`forbidden`: only for staff with `catalog`"),
    (status = 404, body = ProblemDetails, description = "`product_not_found`"),
    (status = 422, body = ProblemDetails, description = "`idempotency_key_reused`"),
))]
async fn delete(change: ChangeRequest<Staff<CatalogScope>, (), ProductId>) -> RouteResult {
    let context = change.context()?;
    let ticket = context.ticket.clone();
    let message = DeleteProduct { product_id: change.target, context };
    let reply: Reply<()> = ask(&change.state.catalog, message, &ticket).await?;
    Ok(ApiResponse::from_reply(StatusCode::NO_CONTENT, reply, |()| Ok(ApiResponse::no_content()))?)
}
