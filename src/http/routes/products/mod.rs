//! The catalog's routes: search, suggestions, and product changes.

pub(crate) mod requests;

use std::sync::Arc;

use actix_web::{http::StatusCode, web};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use uuid::Uuid;

use self::requests::{ProductRequest, ReplaceProductRequest};
use crate::{
    actors::ask::ask,
    cache::catalog_cache::SearchPage,
    domain::{
        catalog::search::{ProductFilter, ProductSort, SortKey},
        ids::ProductId,
        money::{Currency, Money},
        validation::ValidationErrors,
    },
    error::Error,
    http::{
        openapi::enums,
        request::{
            extract::{CatalogReader, ChangeRequest, ReadRequest, Staff},
            query::{QueryParams, encode_cursor},
            scopes::CatalogScope,
        },
        response::{ApiResponse, RouteResult, problem::ProblemDetails, views::ProductResponse},
        state::AppState,
    },
    input::{
        product_patch::PatchProductRequest,
        search_text::{parse_query_text, parse_query_words},
    },
    messages::{
        catalog::{ChangeProduct, CreateProduct, DeleteProduct, ProductEdit, ProductView},
        command_context::Reply,
    },
};

/// Registers the routes of this module.
pub(super) fn configure_routes(config: &mut web::ServiceConfig) {
    config
        .service(web::resource("/api/products").get(list).post(create))
        .service(web::resource("/api/products/suggest").get(suggest))
        .service(
            web::resource("/api/products/{id}").get(show).put(replace).patch(patch).delete(delete),
        );
}

/// A page of a search.
#[derive(Serialize, ToSchema)]
pub(crate) struct ProductPage<'a> {
    #[schema(value_type = Vec<ProductResponse>)]
    items: Vec<&'a RawValue>,
    /// The `cursor` of the next page. It is null on the last page.
    #[schema(required = true, examples("WzE3LCI0Il0"))]
    next_cursor: Option<String>,
    /// The number of all matches.
    #[schema(examples(1))]
    total: usize,
    facets: Facets,
}

/// The number of matches by category and price.
#[derive(Serialize, ToSchema)]
pub(crate) struct Facets {
    category: Vec<CategoryCount>,
    price: Vec<PriceCount>,
}

/// The number of matches in a category.
#[derive(Serialize, ToSchema)]
pub(crate) struct CategoryCount {
    #[schema(examples("tea"))]
    value: String,
    #[schema(minimum = 0, examples(1))]
    count: usize,
}

/// The number of matches with a price from `from` to `to`, both included.
#[derive(Serialize, ToSchema)]
pub(crate) struct PriceCount {
    #[schema(value_type = f64, examples(0))]
    from: Money,
    #[schema(value_type = f64, examples(9.99))]
    to: Money,
    #[schema(minimum = 0, examples(1))]
    count: usize,
}

/// Products whose names begin with a text.
#[derive(Serialize, ToSchema)]
pub(crate) struct Suggestions {
    items: Vec<Suggestion>,
}

/// The id and name of a product.
#[derive(Serialize, ToSchema)]
pub(crate) struct Suggestion {
    id: Uuid,
    #[schema(examples("Mint tea"))]
    name: String,
}

/// Search the catalog.
///
/// Without parameters, this lists all products. `facets` counts all matches by category and price.
#[utoipa::path(get, path = "/api/products", operation_id = "search_products",
tag = "Products", security((), ("bearer" = [])), params(
    ("q" = Option<String>, Query, max_length = 200, example = "mint tea",
        description = "Words to find. A product must have all of them."),
    ("category" = Option<String>, Query, example = "tea", description = "A category."),
    ("tag" = Option<String>, Query, example = "green", description = "A tag."),
    ("min_price" = Option<f64>, Query, minimum = 0, example = 4.5,
        description = "The lowest price, included."),
    ("max_price" = Option<f64>, Query, minimum = 0, example = 20,
        description = "The highest price, included."),
    ("in_stock" = Option<bool>, Query, example = true,
        description = "Whether the product can be bought now."),
    ("sort" = Option<enums::ProductSort>, Query,
        description = "The order. The default is `relevance`."),
    ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, example = 20,
        description = "The number of items on a page. The default is 20."),
    ("cursor" = Option<String>, Query, description = "The `next_cursor` of the previous page."),
    ("Cache-Control" = Option<String>, Header),
), responses(
    (status = 200, body = ProductPage),
    (status = 401, body = ProblemDetails,
        description = "`unauthenticated`, `token_expired`: the catalog is not public"),
    (status = 422, body = ProblemDetails, description = "`validation_failed`"),
))]
async fn list(read: ReadRequest<CatalogReader>) -> RouteResult {
    let query = &read.query;
    query.reject_others(SEARCH_PARAMETERS)?;
    read.honor_no_cache().await?;
    let currency = read.state.options.currency;
    let limit = query.page_limit()?;
    let (filter, sort) = parse_search(query, currency)?;
    let after = query.parse_cursor::<(String, SortKey)>()?;
    let sort_name = query.get("sort").unwrap_or("relevance").to_owned();
    // A cursor is valid only for the sort that it was created with.
    if after.as_ref().is_some_and(|(sorted_by, _)| *sorted_by != sort_name) {
        let message = "cursor belongs to a list with another sort";
        return Err(Error::invalid_field("cursor", "invalid", message).into());
    }
    let after = after.as_ref().map(|(_, key)| key);
    let found = read.state.catalog_cache.search(&filter, sort, after, limit as usize);
    let items =
        found.items.iter().map(|view| serde_json::from_slice(&view.body)).collect::<Result<_, _>>();
    let page = ProductPage {
        items: items.map_err(|_| Error::internal())?,
        next_cursor: encode_cursor(found.next.as_ref().map(|key| (sort_name, key))),
        total: found.total,
        facets: build_facets(&found, currency),
    };
    Ok(ApiResponse::json(StatusCode::OK, &page)?)
}

/// The parameters of a search.
const SEARCH_PARAMETERS: &[&str] =
    &["q", "category", "tag", "min_price", "max_price", "in_stock", "sort", "limit", "cursor"];

fn parse_search(
    params: &QueryParams,
    currency: Currency,
) -> Result<(ProductFilter, ProductSort), Error> {
    let mut errors = ValidationErrors::new();
    let filter = ProductFilter {
        terms: parse_query_words(params.get("q").unwrap_or_default(), &mut errors),
        ids: Vec::new(),
        categories: params.get("category").map(str::to_owned).into_iter().collect(),
        tags: params.get("tag").map(str::to_owned).into_iter().collect(),
        min_price: params.price_bound("min_price", currency, &mut errors),
        max_price: params.price_bound("max_price", currency, &mut errors),
        in_stock: params.flag("in_stock", &mut errors),
    };
    let sort = params.get("sort").map_or(Ok(ProductSort::default()), str::parse);
    let sort = sort.unwrap_or_else(|_| {
        errors.add("sort", "invalid", "sort must be relevance, price, -price, name or newest");
        ProductSort::default()
    });
    Ok(errors.into_result((filter, sort))?)
}

/// Lower bounds of the price facet, in major units.
const PRICE_FACET_BOUNDS: &[i64] = &[0, 10, 25, 50, 100, 250, 500, 1000];

fn build_facets(found: &SearchPage, currency: Currency) -> Facets {
    let category =
        |(value, count): (&String, &usize)| CategoryCount { value: value.clone(), count: *count };
    let scale = 10_i64.pow(u32::from(currency.decimals()));
    let highest = found.prices.last().copied().unwrap_or(0);
    let ends = PRICE_FACET_BOUNDS
        .iter()
        .skip(1)
        .map(|step| step * scale - 1)
        .chain(std::iter::once(highest));
    let steps = PRICE_FACET_BOUNDS.iter().map(|step| step * scale).zip(ends);
    let price = steps.filter_map(|(from, to)| {
        let below = |bound: i64| found.prices.partition_point(|price| *price < bound);
        let count = below(to.saturating_add(1)).saturating_sub(below(from));
        let money = |minor| Money::from_minor_units(minor, currency).ok();
        Some(PriceCount { from: money(from)?, to: money(to)?, count }).filter(|step| step.count > 0)
    });
    Facets { category: found.categories.iter().map(category).collect(), price: price.collect() }
}

/// Suggest products by name.
///
/// The names begin with the text, in which one typo is allowed.
#[utoipa::path(get, path = "/api/products/suggest", operation_id = "suggest_products",
tag = "Products", security((), ("bearer" = [])), params(
    ("q" = String, Query, max_length = 200, example = "min",
        description = "The text typed so far."),
    ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, example = 20,
        description = "The number of suggestions. The default is 20."),
    ("Cache-Control" = Option<String>, Header),
), responses(
    (status = 200, body = Suggestions),
    (status = 401, body = ProblemDetails,
        description = "`unauthenticated`, `token_expired`: the catalog is not public"),
    (status = 422, body = ProblemDetails, description = "`validation_failed`"),
))]
async fn suggest(read: ReadRequest<CatalogReader>) -> RouteResult {
    let query = &read.query;
    query.reject_others(&["q", "limit"])?;
    read.honor_no_cache().await?;
    let mut errors = ValidationErrors::new();
    let text = parse_query_text(query.get("q").unwrap_or_default(), &mut errors);
    errors.into_result(())?;
    let limit = query.page_limit()? as usize;
    let found = read.state.catalog_cache.suggest(text.trim(), limit);
    let suggestion = |view: &Arc<ProductView>| Suggestion {
        id: view.product.id.as_uuid(),
        name: view.product.details.name.clone(),
    };
    let items = found.iter().map(suggestion).collect();
    Ok(ApiResponse::json(StatusCode::OK, &Suggestions { items })?)
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
    (status = 403, body = ProblemDetails, description = "`forbidden`: only for staff with `catalog`"),
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
    (status = 403, body = ProblemDetails, description = "`forbidden`: only for staff with `catalog`"),
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
    (status = 403, body = ProblemDetails, description = "`forbidden`: only for staff with `catalog`"),
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
    ApiResponse::ok(view.body.clone()).with_etag(&view.etag)
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
    (status = 403, body = ProblemDetails, description = "`forbidden`: only for staff with `catalog`"),
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
