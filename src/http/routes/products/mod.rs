//! Products: the catalog's routes.

pub(crate) mod requests;

use std::sync::Arc;

use actix_web::{HttpRequest, http::StatusCode, web};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use uuid::Uuid;

use self::requests::{ProductRequest, READ_ONLY_FIELDS, ReplaceProductRequest};
use crate::http::{
    openapi::enums,
    request::{
        self,
        query::{QueryParams, encode_cursor},
    },
    response::{self, RouteResult, problem::ProblemDetails, views::ProductResponse},
    state::AppState,
};
use crate::{
    actors::ask::ask,
    cache::catalog_snapshot::SearchPage,
    domain::{
        catalog::search::{ProductFilter, ProductSort, SortKey},
        ids::ProductId,
        money::{Currency, Money},
        validation::ValidationErrors,
    },
    error::Error,
    input::product_patch::PatchProductRequest,
    messages::{
        catalog::{ChangeProduct, CreateProduct, DeleteProduct, ProductEdit, ProductView},
        change::{CommandContext, Reply},
    },
};

/// The routes.
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

/// How the matches are spread.
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

/// A product by name.
#[derive(Serialize, ToSchema)]
pub(crate) struct Suggestion {
    id: Uuid,
    #[schema(examples("Mint tea"))]
    name: String,
}

/// The product that a path names. What is no id names no product.
pub(super) fn parse_product_id(path: &str) -> Result<ProductId, Error> {
    path.parse().map_err(|_| Error::product_not_found())
}

/// Search the catalog.
///
/// Without parameters, this lists all products. `facets` shows how all matches are spread.
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
    ("sort" = Option<enums::ProductSort>, Query, description = "The order. The default is `relevance`."),
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
async fn list(request: HttpRequest) -> RouteResult {
    let services = AppState::from_request(&request)?;
    services.authorize_catalog_read(&request)?;
    services.ensure_latest(&request).await?;
    let params = QueryParams::from_request(&request);
    let currency = services.options.currency;
    let limit = params.page_limit()?;
    let (filter, sort) = parse_search(&params, currency)?;
    let after = params.parse_cursor::<(String, SortKey)>()?;
    // A cursor of another order would point nowhere.
    let order = params.get("sort").unwrap_or("relevance").to_owned();
    if after.as_ref().is_some_and(|(sorted, _)| *sorted != order) {
        return Err(Error::invalid_field(
            "cursor",
            "invalid",
            "cursor belongs to a list with another sort",
        )
        .into());
    }
    let found = services.catalog_snapshot.search(
        &filter,
        sort,
        after.as_ref().map(|(_, key)| key),
        limit as usize,
    );
    let items =
        found.items.iter().map(|view| serde_json::from_slice(&view.body)).collect::<Result<_, _>>();
    let page = ProductPage {
        items: items.map_err(|_| Error::internal())?,
        next_cursor: encode_cursor(found.next.as_ref().map(|key| (order, key))),
        total: found.total,
        facets: build_facets(&found, currency),
    };
    response::json_response(StatusCode::OK, &page)
}

/// Most words, and characters, that somebody may look for: each costs a look at every product.
const MAX_QUERY_WORDS: usize = 10;
const MAX_QUERY_CHARS: usize = 200;

/// What somebody typed, in lower case.
fn parse_query_text(params: &QueryParams, faults: &mut ValidationErrors) -> String {
    let q = params.get("q").unwrap_or_default();
    if q.chars().count() > MAX_QUERY_CHARS {
        faults.add("q", "too_long", format!("q has more than {MAX_QUERY_CHARS} characters"));
    }
    q.to_lowercase()
}

fn parse_search(
    params: &QueryParams,
    currency: Currency,
) -> Result<(ProductFilter, ProductSort), Error> {
    let mut faults = ValidationErrors::new();
    let mut words: Vec<String> =
        parse_query_text(params, &mut faults).split_whitespace().map(str::to_owned).collect();
    words.sort_unstable();
    words.dedup();
    if words.len() > MAX_QUERY_WORDS {
        faults.add(
            "q",
            "too_many",
            format!("q has {} words; at most {MAX_QUERY_WORDS} are allowed", words.len()),
        );
    }
    let filter = ProductFilter {
        terms: words,
        category: params.get("category").map(str::to_owned),
        tag: params.get("tag").map(str::to_owned),
        min_price: params.price_bound("min_price", currency, &mut faults),
        max_price: params.price_bound("max_price", currency, &mut faults),
        in_stock: match params.get("in_stock") {
            None => None,
            Some("true") => Some(true),
            Some("false") => Some(false),
            Some(_) => {
                faults.add("in_stock", "invalid", "in_stock must be true or false");
                None
            }
        },
    };
    let sort = match params.get("sort") {
        None | Some("relevance") => ProductSort::Relevance,
        Some("price") => ProductSort::PriceAscending,
        Some("-price") => ProductSort::PriceDescending,
        Some("name") => ProductSort::Name,
        Some("newest") => ProductSort::Newest,
        Some(_) => {
            faults.add("sort", "invalid", "sort must be relevance, price, -price, name or newest");
            ProductSort::Relevance
        }
    };
    Ok(faults.into_result((filter, sort))?)
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
        description = "What was typed so far."),
    ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, example = 20,
        description = "The number of suggestions. The default is 20."),
    ("Cache-Control" = Option<String>, Header),
), responses(
    (status = 200, body = Suggestions),
    (status = 401, body = ProblemDetails,
        description = "`unauthenticated`, `token_expired`: the catalog is not public"),
    (status = 422, body = ProblemDetails, description = "`validation_failed`"),
))]
async fn suggest(request: HttpRequest) -> RouteResult {
    let services = AppState::from_request(&request)?;
    services.authorize_catalog_read(&request)?;
    services.ensure_latest(&request).await?;
    let params = QueryParams::from_request(&request);
    let mut faults = ValidationErrors::new();
    let typed = parse_query_text(&params, &mut faults);
    faults.into_result(())?;
    let found = services.catalog_snapshot.suggest(typed.trim(), params.page_limit()? as usize);
    let suggestion = |view: &Arc<ProductView>| Suggestion {
        id: view.product.id.as_uuid(),
        name: view.product.details.name.clone(),
    };
    response::json_response(
        StatusCode::OK,
        &Suggestions { items: found.iter().map(suggestion).collect() },
    )
}

/// Get a product.
///
/// Its ETag is made of its version and that of its stock: `"<version>.<stock version>"`.
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
async fn show(request: HttpRequest, path: web::Path<String>) -> RouteResult {
    let services = AppState::from_request(&request)?;
    services.authorize_catalog_read(&request)?;
    services.ensure_latest(&request).await?;
    let view = services
        .catalog_snapshot
        .get(parse_product_id(&path)?)
        .ok_or_else(Error::product_not_found)?;
    Ok(response::conditional_response(&request, view.body.clone(), &view.etag))
}

/// Create a product.
///
/// The opening stock is its first stock movement.
#[utoipa::path(post, path = "/api/products", operation_id = "create_product",
tag = "Products", security(("bearer" = [])), request_body = ProductRequest, params(
    ("Idempotency-Key" = Option<String>, Header),
), responses(
    (status = 201, body = ProductResponse, headers(("ETag" = String), ("Location" = String))),
    (status = 403, body = ProblemDetails, description = "`forbidden`: only for admins"),
    (status = 409, body = ProblemDetails, description = "`sku_taken`"),
    (status = 422, body = ProblemDetails,
        description = "`validation_failed`, `idempotency_key_reused`"),
))]
async fn create(request: HttpRequest, payload: web::Payload) -> RouteResult {
    let services = AppState::from_request(&request)?;
    let caller = services.require_admin(&request)?;
    let body = request::read_json::<ProductRequest>(&request, payload).await?;
    let change = body.build_change(&request, &caller, 201)?;
    let ticket = change.ticket.clone();
    let (facts, stock) = body.value.parse(services.options.currency)?;
    match ask(
        &services.catalog,
        CreateProduct { details: facts, initial_stock: stock, context: change },
        &ticket,
    )
    .await?
    {
        Reply::Completed(view) => {
            let created = response::response_builder(StatusCode::CREATED, view.body.clone())
                .with_etag(&view.etag);
            Ok(created.with_location(format!("/api/products/{}", view.product.id)).finish())
        }
        Reply::Replayed(first) => Ok(response::replayed_response(first)),
    }
}

/// Replace the facts of a product.
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
    (status = 403, body = ProblemDetails, description = "`forbidden`: only for admins"),
    (status = 404, body = ProblemDetails, description = "`product_not_found`"),
    (status = 409, body = ProblemDetails, description = "`sku_taken`"),
    (status = 422, body = ProblemDetails,
        description = "`validation_failed`, `idempotency_key_reused`"),
))]
async fn replace(
    request: HttpRequest,
    path: web::Path<String>,
    payload: web::Payload,
) -> RouteResult {
    let services = AppState::from_request(&request)?;
    let caller = services.require_admin(&request)?;
    let id = parse_product_id(&path)?;
    let body = request::read_json_of_type::<ReplaceProductRequest>(
        &request,
        payload,
        request::JSON_TYPES,
        READ_ONLY_FIELDS,
    )
    .await?;
    let change = body.build_change(&request, &caller, 200)?;
    let facts = body.value.parse(services.options.currency)?;
    edit_product(services, id, ProductEdit::Replace(facts), change).await
}

/// Change some facts of a product.
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
    (status = 403, body = ProblemDetails, description = "`forbidden`: only for admins"),
    (status = 404, body = ProblemDetails, description = "`product_not_found`"),
    (status = 409, body = ProblemDetails, description = "`sku_taken`"),
    (status = 422, body = ProblemDetails,
        description = "`validation_failed`, `idempotency_key_reused`"),
))]
async fn patch(
    request: HttpRequest,
    path: web::Path<String>,
    payload: web::Payload,
) -> RouteResult {
    let services = AppState::from_request(&request)?;
    let caller = services.require_admin(&request)?;
    let id = parse_product_id(&path)?;
    let body = request::read_json_of_type::<PatchProductRequest>(
        &request,
        payload,
        request::MERGE_PATCH_TYPES,
        READ_ONLY_FIELDS,
    )
    .await?;
    let change = body.build_change(&request, &caller, 200)?;
    let patch = body.value.parse(services.options.currency)?;
    edit_product(services, id, ProductEdit::Patch(patch), change).await
}

async fn edit_product(
    services: &AppState,
    product_id: ProductId,
    edit: ProductEdit,
    change: CommandContext,
) -> RouteResult {
    let ticket = change.ticket.clone();
    match ask(&services.catalog, ChangeProduct { product_id, edit, context: change }, &ticket)
        .await?
    {
        Reply::Completed(view) => Ok(response::response_builder(StatusCode::OK, view.body.clone())
            .with_etag(&view.etag)
            .finish()),
        Reply::Replayed(first) => Ok(response::replayed_response(first)),
    }
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
    (status = 403, body = ProblemDetails, description = "`forbidden`: only for admins"),
    (status = 404, body = ProblemDetails, description = "`product_not_found`"),
    (status = 422, body = ProblemDetails, description = "`idempotency_key_reused`"),
))]
async fn delete(request: HttpRequest, path: web::Path<String>) -> RouteResult {
    let services = AppState::from_request(&request)?;
    let caller = services.require_admin(&request)?;
    let product_id = parse_product_id(&path)?;
    let change = request::change_from_request(&request, &caller, 204, &[])?;
    let ticket = change.ticket.clone();
    match ask(&services.catalog, DeleteProduct { product_id, context: change }, &ticket).await? {
        Reply::Completed(()) => {
            Ok(response::response_builder(StatusCode::NO_CONTENT, web::Bytes::new()).finish())
        }
        Reply::Replayed(first) => Ok(response::replayed_response(first)),
    }
}
