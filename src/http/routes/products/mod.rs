//! Products: the catalog's routes.

pub(crate) mod requests;

use std::sync::Arc;

use actix_web::{HttpRequest, http::StatusCode, web};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use uuid::Uuid;

use self::requests::{ProductRequest, READ_ONLY, ReplaceProductRequest};
use crate::http::{
    request::{
        self,
        query::{Params, cursor},
    },
    response::{self, Answer, problem::ProblemDetails, views::ProductResponse},
    state::Services,
};
use crate::{
    actors::ask::ask,
    cache::catalog_snapshot::Found,
    domain::{
        catalog::search::{Filter, Sort, SortKey},
        ids::ProductId,
        money::{Currency, Money},
        validation::Faults,
    },
    error::Error,
    input::product_patch::PatchProductRequest,
    messages::{
        catalog::{ChangeProduct, CreateProduct, DeleteProduct, ProductEdit, ProductView},
        change::{Change, Reply},
    },
};

/// The routes.
pub(super) fn routes(config: &mut web::ServiceConfig) {
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
    next_cursor: Option<String>,
    /// How many products match in all.
    total: usize,
    facets: Facets,
}

/// How the matches are spread.
#[derive(Serialize, ToSchema)]
pub(crate) struct Facets {
    category: Vec<CategoryCount>,
    price: Vec<PriceCount>,
}

/// How many matches a category has.
#[derive(Serialize, ToSchema)]
pub(crate) struct CategoryCount {
    value: String,
    count: usize,
}

/// How many matches have a price from `from` to `to`, both included.
#[derive(Serialize, ToSchema)]
pub(crate) struct PriceCount {
    #[schema(value_type = f64)]
    from: Money,
    #[schema(value_type = f64)]
    to: Money,
    count: usize,
}

/// Names that somebody may be typing.
#[derive(Serialize, ToSchema)]
pub(crate) struct Suggestions {
    items: Vec<Suggestion>,
}

/// A product by name.
#[derive(Serialize, ToSchema)]
pub(crate) struct Suggestion {
    id: Uuid,
    name: String,
}

/// The product that a path names. What is no id names no product.
pub(super) fn product_id(path: &str) -> Result<ProductId, Error> {
    path.parse().map_err(|_| Error::product_not_found())
}

/// Find products.
#[utoipa::path(get, path = "/api/products", tag = "Products", params(
    ("q" = Option<String>, Query, description = "Words that must all occur"),
    ("category" = Option<String>, Query), ("tag" = Option<String>, Query),
    ("min_price" = Option<f64>, Query, description = "Included"), ("max_price" = Option<f64>, Query, description = "Included"),
    ("in_stock" = Option<bool>, Query),
    ("sort" = Option<String>, Query, description = "`relevance` (default), `price`, `-price`, `name` or `newest`"),
    ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, description = "Items a page; 20 when not given"),
    ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
), responses((status = 200, body = ProductPage), (status = 422, body = ProblemDetails, description = "`validation_failed`")))]
async fn list(request: HttpRequest) -> Answer {
    let services = Services::of(&request)?;
    services.reader(&request)?;
    services.freshen(&request).await?;
    let params = Params::of(&request);
    let currency = services.options.currency;
    let limit = params.limit()?;
    let (filter, sort) = search(&params, currency)?;
    let after = params.cursor::<(String, SortKey)>()?;
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
    let found =
        services.shelf.search(&filter, sort, after.as_ref().map(|(_, key)| key), limit as usize);
    let items =
        found.items.iter().map(|view| serde_json::from_slice(&view.body)).collect::<Result<_, _>>();
    let page = ProductPage {
        items: items.map_err(|_| Error::internal())?,
        next_cursor: cursor(found.next.as_ref().map(|key| (order, key))),
        total: found.total,
        facets: facets(&found, currency),
    };
    response::json(StatusCode::OK, &page)
}

/// Most words, and characters, that somebody may look for: each costs a look at every product.
const MAX_WORDS: usize = 10;
const MAX_TYPED: usize = 200;

/// What somebody typed, in lower case.
fn typed(params: &Params, faults: &mut Faults) -> String {
    let q = params.get("q").unwrap_or_default();
    if q.chars().count() > MAX_TYPED {
        faults.add("q", "too_long", format!("q has more than {MAX_TYPED} characters"));
    }
    q.to_lowercase()
}

fn search(params: &Params, currency: Currency) -> Result<(Filter, Sort), Error> {
    let mut faults = Faults::none();
    let mut words: Vec<String> =
        typed(params, &mut faults).split_whitespace().map(str::to_owned).collect();
    words.sort_unstable();
    words.dedup();
    if words.len() > MAX_WORDS {
        faults.add(
            "q",
            "too_many",
            format!("q has {} words; at most {MAX_WORDS} are allowed", words.len()),
        );
    }
    let filter = Filter {
        words,
        category: params.get("category").map(str::to_owned),
        tag: params.get("tag").map(str::to_owned),
        min_price: params.price("min_price", currency, &mut faults),
        max_price: params.price("max_price", currency, &mut faults),
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
        None | Some("relevance") => Sort::Relevance,
        Some("price") => Sort::Price,
        Some("-price") => Sort::PriceDescending,
        Some("name") => Sort::Name,
        Some("newest") => Sort::Newest,
        Some(_) => {
            faults.add("sort", "invalid", "sort must be relevance, price, -price, name or newest");
            Sort::Relevance
        }
    };
    Ok(faults.or((filter, sort))?)
}

/// Lower bounds of the price facet, in major units.
const PRICE_STEPS: &[i64] = &[0, 10, 25, 50, 100, 250, 500, 1000];

fn facets(found: &Found, currency: Currency) -> Facets {
    let category =
        |(value, count): (&String, &usize)| CategoryCount { value: value.clone(), count: *count };
    let scale = 10_i64.pow(u32::from(currency.decimals()));
    let highest = found.prices.last().copied().unwrap_or(0);
    let ends =
        PRICE_STEPS.iter().skip(1).map(|step| step * scale - 1).chain(std::iter::once(highest));
    let steps = PRICE_STEPS.iter().map(|step| step * scale).zip(ends);
    let price = steps.filter_map(|(from, to)| {
        let below = |bound: i64| found.prices.partition_point(|price| *price < bound);
        let count = below(to.saturating_add(1)).saturating_sub(below(from));
        let money = |minor| Money::from_minor(minor, currency).ok();
        Some(PriceCount { from: money(from)?, to: money(to)?, count }).filter(|step| step.count > 0)
    });
    Facets { category: found.categories.iter().map(category).collect(), price: price.collect() }
}

/// Names for what is being typed: by prefix, one typo allowed.
#[utoipa::path(get, path = "/api/products/suggest", tag = "Products", params(
    ("q" = String, Query), ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, description = "20 when not given"),
), responses((status = 200, body = Suggestions)))]
async fn suggest(request: HttpRequest) -> Answer {
    let services = Services::of(&request)?;
    services.reader(&request)?;
    services.freshen(&request).await?;
    let params = Params::of(&request);
    let mut faults = Faults::none();
    let typed = typed(&params, &mut faults);
    faults.or(())?;
    let found = services.shelf.suggest(typed.trim(), params.limit()? as usize);
    let suggestion = |view: &Arc<ProductView>| Suggestion {
        id: view.product.id.as_uuid(),
        name: view.product.facts.name.clone(),
    };
    response::json(StatusCode::OK, &Suggestions { items: found.iter().map(suggestion).collect() })
}

/// One product.
#[utoipa::path(get, path = "/api/products/{id}", tag = "Products", params(("id" = Uuid, Path)), responses(
    (status = 200, body = ProductResponse, headers(("ETag" = String, description = "`\"<version>.<stock version>\"`"))),
    (status = 304, description = "`If-None-Match` names the current ETag"),
    (status = 404, body = ProblemDetails, description = "`product_not_found`"),
))]
async fn show(request: HttpRequest, path: web::Path<String>) -> Answer {
    let services = Services::of(&request)?;
    services.reader(&request)?;
    services.freshen(&request).await?;
    let view = services.shelf.get(product_id(&path)?).ok_or_else(Error::product_not_found)?;
    Ok(response::read(&request, view.body.clone(), &view.etag))
}

/// Put a product into the catalog.
#[utoipa::path(post, path = "/api/products", tag = "Products", security(("bearer" = [])), request_body = ProductRequest, params(
    ("Idempotency-Key" = Option<String>, Header, description = "Makes a repeat harmless"),
), responses(
    (status = 201, body = ProductResponse, headers(("Location" = String, description = "Where it is"))),
    (status = 403, body = ProblemDetails, description = "`forbidden`: admins only"),
    (status = 409, body = ProblemDetails, description = "`sku_taken`"),
    (status = 422, body = ProblemDetails, description = "`validation_failed`, `idempotency_key_reused`"),
))]
async fn create(request: HttpRequest, payload: web::Payload) -> Answer {
    let services = Services::of(&request)?;
    let caller = services.admin(&request)?;
    let body = request::json::<ProductRequest>(&request, payload).await?;
    let change = body.change(&request, &caller, 201)?;
    let ticket = change.ticket.clone();
    let (facts, stock) = body.value.parse(services.options.currency)?;
    match ask(&services.catalog, CreateProduct { facts, stock, change }, &ticket).await? {
        Reply::Done(view) => {
            let created =
                response::rendered(StatusCode::CREATED, view.body.clone()).etag(&view.etag);
            Ok(created.location(format!("/api/products/{}", view.product.id)).finish())
        }
        Reply::Replayed(first) => Ok(response::replayed(first)),
    }
}

/// Replace what is said of a product.
///
/// The read-only members of a fetched product (`id`, `currency`, `stock`, `version`, `created_at`, `updated_at`) are ignored.
#[utoipa::path(put, path = "/api/products/{id}", tag = "Products", security(("bearer" = [])),
request_body = ReplaceProductRequest, params(
    ("id" = Uuid, Path),
    ("Idempotency-Key" = Option<String>, Header, description = "Makes a repeat harmless"),
    ("If-Match" = Option<String>, Header, description = "Only when the product has this version"),
), responses(
    (status = 200, body = ProductResponse),
    (status = 404, body = ProblemDetails, description = "`product_not_found`"),
    (status = 409, body = ProblemDetails, description = "`sku_taken`"),
    (status = 422, body = ProblemDetails, description = "`validation_failed`, `idempotency_key_reused`"),
))]
async fn replace(request: HttpRequest, path: web::Path<String>, payload: web::Payload) -> Answer {
    let services = Services::of(&request)?;
    let caller = services.admin(&request)?;
    let id = product_id(&path)?;
    let body =
        request::json_of::<ReplaceProductRequest>(&request, payload, request::JSON, READ_ONLY)
            .await?;
    let change = body.change(&request, &caller, 200)?;
    let facts = body.value.parse(services.options.currency)?;
    edit(services, id, ProductEdit::Replace(facts), change).await
}

/// Change some of what is said of a product: a merge patch (RFC 7396).
#[utoipa::path(patch, path = "/api/products/{id}", tag = "Products", security(("bearer" = [])),
request_body(content = PatchProductRequest, content_type = "application/merge-patch+json"), params(
    ("id" = Uuid, Path),
    ("Idempotency-Key" = Option<String>, Header, description = "Makes a repeat harmless"),
    ("If-Match" = Option<String>, Header, description = "Only when the product has this version"),
), responses(
    (status = 200, body = ProductResponse),
    (status = 404, body = ProblemDetails, description = "`product_not_found`"),
    (status = 409, body = ProblemDetails, description = "`sku_taken`"),
    (status = 422, body = ProblemDetails, description = "`validation_failed`, `idempotency_key_reused`"),
))]
async fn patch(request: HttpRequest, path: web::Path<String>, payload: web::Payload) -> Answer {
    let services = Services::of(&request)?;
    let caller = services.admin(&request)?;
    let id = product_id(&path)?;
    let body =
        request::json_of::<PatchProductRequest>(&request, payload, request::MERGE_PATCH, READ_ONLY)
            .await?;
    let change = body.change(&request, &caller, 200)?;
    let patch = body.value.parse(services.options.currency)?;
    edit(services, id, ProductEdit::Patch(patch), change).await
}

async fn edit(
    services: &Services,
    product_id: ProductId,
    edit: ProductEdit,
    change: Change,
) -> Answer {
    let ticket = change.ticket.clone();
    match ask(&services.catalog, ChangeProduct { product_id, edit, change }, &ticket).await? {
        Reply::Done(view) => {
            Ok(response::rendered(StatusCode::OK, view.body.clone()).etag(&view.etag).finish())
        }
        Reply::Replayed(first) => Ok(response::replayed(first)),
    }
}

/// Take a product out of the catalog.
///
/// Carts show its line as unavailable.
#[utoipa::path(delete, path = "/api/products/{id}", tag = "Products", security(("bearer" = [])), params(
    ("id" = Uuid, Path),
    ("Idempotency-Key" = Option<String>, Header, description = "Makes a repeat harmless"),
    ("If-Match" = Option<String>, Header, description = "Only when the product has this version"),
), responses(
    (status = 204),
    (status = 404, body = ProblemDetails, description = "`product_not_found`"),
))]
async fn delete(request: HttpRequest, path: web::Path<String>) -> Answer {
    let services = Services::of(&request)?;
    let caller = services.admin(&request)?;
    let product_id = product_id(&path)?;
    let change = request::change(&request, &caller, 204, &[])?;
    let ticket = change.ticket.clone();
    match ask(&services.catalog, DeleteProduct { product_id, change }, &ticket).await? {
        Reply::Done(()) => {
            Ok(response::rendered(StatusCode::NO_CONTENT, web::Bytes::new()).finish())
        }
        Reply::Replayed(first) => Ok(response::replayed(first)),
    }
}
