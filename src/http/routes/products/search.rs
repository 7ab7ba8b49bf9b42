//! Search and suggestions.

use std::collections::BTreeMap;

use actix_web::web::Bytes;
use serde::Serialize;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    cache::catalog_cache::{
        CatalogCache, Facets, PageKey, PriceBand, SearchPage, SuggestedProduct,
    },
    domain::{
        catalog::{
            product::AttributeValue,
            search::{ProductFilter, ProductSort, TextRules, attribute_text},
        },
        money::{Currency, Money},
        validation::ValidationErrors,
    },
    error::Error,
    http::{
        openapi::enums,
        request::{
            extract::{CatalogReader, ReadRequest},
            query::{KnownParams, QueryParams, encode_cursor},
        },
        response::{ApiResponse, RouteResult, problem::ProblemDetails, views::ProductResponse},
    },
    input::{attributes, search_text::parse_query_text},
};

/// A page of a search.
#[derive(Serialize, ToSchema)]
pub(crate) struct ProductPage {
    #[schema(value_type = Vec<ProductResponse>)]
    // Empty here: see `encode_page`.
    items: [(); 0],
    /// The `cursor` of the next page. It is null on the last page.
    #[schema(required = true, examples("WzE3LCI0Il0"))]
    next_cursor: Option<String>,
    /// The number of all matches.
    #[schema(examples(1))]
    total: u64,
    #[schema(value_type = FacetCounts)]
    // Empty here, as well, and last.
    facets: BTreeMap<(), ()>,
}

/// The number of matches by category, tag, price and attribute. Each facet counts under all filters
/// except its own.
#[derive(Serialize, ToSchema)]
pub(crate) struct FacetCounts<'a> {
    /// The 200 most common categories.
    category: Vec<LabelCount<'a>>,
    /// The 100 most common tags.
    tag: Vec<LabelCount<'a>>,
    price: Vec<PriceCount>,
    /// The 30 most common attributes, each with its 50 most common values.
    #[schema(value_type = BTreeMap<String, Vec<AttributeCount>>)]
    attributes: BTreeMap<&'a str, Vec<AttributeCount<'a>>>,
}

/// The number of matches with a category or tag.
#[derive(Serialize, ToSchema)]
pub(crate) struct LabelCount<'a> {
    #[schema(value_type = String, examples("tea"))]
    value: &'a AttributeValue,
    #[schema(minimum = 0, examples(1))]
    count: u64,
}

/// The number of matches with a value of an attribute.
#[derive(Serialize, ToSchema)]
pub(crate) struct AttributeCount<'a> {
    #[schema(value_type = attributes::AttributeValue)]
    value: &'a AttributeValue,
    #[schema(minimum = 0, examples(1))]
    count: u64,
}

/// The number of matches with a price from `from` to `to`, both included.
#[derive(Serialize, ToSchema)]
pub(crate) struct PriceCount {
    #[schema(value_type = f64, examples(0))]
    from: Money,
    #[schema(value_type = f64, examples(9.99))]
    to: Money,
    #[schema(minimum = 0, examples(1))]
    count: u64,
}

/// Products whose names contain the words that are typed.
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
/// Without parameters, this lists all products. `facets` counts the matches by category, tag, price
/// and attribute; each facet counts under all filters except its own. At most 100 filter values are
/// allowed, and 20 attributes.
#[utoipa::path(get, path = "/api/products", operation_id = "search_products",
tag = "Products", security((), ("bearer" = [])), params(
    ("q" = Option<String>, Query, max_length = 200, example = "mint tea",
        description = "Words to find in the name, category, tags, SKU, attributes and description. \
            A product must have all of the first 16. The last one may be incomplete. Words of five \
            letters may have one typo, words of nine letters two."),
    ("ids" = Option<Vec<Uuid>>, Query, description = "Products to choose from."),
    ("category" = Option<Vec<String>>, Query, example = json!(["tea"]),
        description = "A category; if it is repeated, any of them."),
    ("tag" = Option<Vec<String>>, Query, example = json!(["green"]),
        description = "A tag; if it is repeated, any of them."),
    ("attr" = Option<BTreeMap<String, Vec<String>>>, Query, style = Form, explode,
        example = json!({"attr.organic": ["true"]}),
        description = "Attributes: `attr.<name>=<value>`. If one is repeated, any of its values."),
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
    ("cursor" = Option<String>, Query,
        description = "The `next_cursor` of the previous page, whose other parameters were the \
            same, except `limit`."),
    ("Cache-Control" = Option<String>, Header),
), responses(
    (status = 200, body = ProductPage),
    (status = 401, body = ProblemDetails,
        description = "`unauthenticated`, `token_expired`: the catalog is not public"),
    (status = 422, body = ProblemDetails, description = "`validation_failed`"),
))]
pub(super) async fn list(read: ReadRequest<CatalogReader>) -> RouteResult {
    let query = &read.query;
    query.reject_unknown(&SEARCH_PARAMETERS)?;
    read.honor_no_cache().await?;
    let currency = read.state.options.currency;
    let limit = query.page_limit()? as usize;
    let (filter, sort) = parse_search(query, currency, read.state.catalog_cache.rules())?;
    let fingerprint = fingerprint(query);
    let cursor = query.parse_cursor::<(String, PageKey)>()?;
    if cursor.as_ref().is_some_and(|(made_for, _)| *made_for != fingerprint) {
        let message = "cursor belongs to a list with other parameters";
        return Err(Error::invalid_field("cursor", "invalid", message).into());
    }
    let after = cursor.map(|(_, key)| key);
    let encode = move |catalog: &CatalogCache, found: SearchPage| {
        let next = found.next.as_ref().map(|key| (fingerprint, key));
        let next_cursor = encode_cursor(next);
        encode_page(catalog, found, next_cursor, currency)
    };
    // What is at hand takes less time than to wake another thread.
    let catalog = &read.state.catalog_cache;
    if after.is_none()
        && let Some(page) = catalog.recent_page(&filter, sort, limit)
    {
        return Ok(ApiResponse::ok(encode(catalog, page)?));
    }
    let search = move |catalog: &CatalogCache| {
        let found = catalog.search(&filter, sort, after.as_ref(), limit);
        encode(catalog, found.map_err(|_| Error::overloaded())?)
    };
    Ok(ApiResponse::ok(read.state.run_search(search).await?))
}

/// Encodes a page. Its items and facets are rendered already, so that they are only put in their
/// place.
fn encode_page(
    catalog: &CatalogCache,
    found: SearchPage,
    next_cursor: Option<String>,
    currency: Currency,
) -> Result<Bytes, Error> {
    const START: &[u8] = b"{\"items\":[";
    const END: &[u8] = b"{}}";
    let render = |facets: &Facets| serde_json::to_vec(&show_facets(facets, currency)).ok();
    let facets = catalog.render_facets(found.facets, render).ok_or_else(Error::internal)?;
    let page = ProductPage { items: [], next_cursor, total: found.total, facets: BTreeMap::new() };
    let page = encode(&page)?;
    let rest = page.strip_prefix(START).and_then(|rest| rest.strip_suffix(END));
    let rest = rest.ok_or_else(Error::internal)?;
    let bodies: Vec<Bytes> = found.items.iter().map(|view| view.body()).collect();
    let size = bodies.iter().map(|body| body.len() + 1).sum::<usize>() + page.len() + facets.len();
    let mut json = Vec::with_capacity(size);
    json.extend(START);
    for (number, body) in bodies.iter().enumerate() {
        if number > 0 {
            json.push(b',');
        }
        json.extend(body);
    }
    json.extend(rest);
    json.extend(facets);
    json.push(b'}');
    Ok(json.into())
}

fn encode(value: &impl Serialize) -> Result<Bytes, Error> {
    serde_json::to_vec(value).map(Bytes::from).map_err(|error| {
        tracing::error!(%error, "failed to encode a response as JSON");
        Error::internal()
    })
}

/// The parameters of a search.
const SEARCH_PARAMETERS: KnownParams = KnownParams {
    single: &["q", "min_price", "max_price", "in_stock", "sort", "limit", "cursor"],
    repeated: &["ids", "category", "tag"],
    repeated_prefix: Some(ATTRIBUTE_PREFIX),
};

/// What the names of attribute filters begin with.
const ATTRIBUTE_PREFIX: &str = "attr.";

/// The maximum number of values of all filters: each costs time.
const MAX_FILTER_VALUES: usize = 100;
/// The maximum number of attributes in a filter.
const MAX_FILTER_ATTRIBUTES: usize = 20;

/// A text that identifies the search, except the page.
fn fingerprint(params: &QueryParams) -> String {
    let is_default = |name: &str, value: &str| {
        matches!(name, "limit" | "cursor") || (name, value) == ("sort", "relevance")
    };
    let mut pairs: Vec<_> =
        params.pairs().filter(|(name, value)| !is_default(name, value)).collect();
    pairs.sort_unstable();
    let mut hash = Sha256::new();
    for (name, value) in pairs {
        for text in [name, value] {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        }
    }
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn parse_search(
    params: &QueryParams,
    currency: Currency,
    rules: &TextRules,
) -> Result<(ProductFilter, ProductSort), Error> {
    let mut errors = ValidationErrors::new();
    let strings = |name| params.all(name).map(str::to_owned).collect();
    let mut filter = ProductFilter {
        text: rules.parse_query(parse_query_text(params.get("q").unwrap_or_default(), &mut errors)),
        categories: strings("category"),
        tags: strings("tag"),
        min_price: params.price_bound("min_price", currency, &mut errors),
        max_price: params.price_bound("max_price", currency, &mut errors),
        in_stock: params.flag("in_stock", &mut errors),
        ..ProductFilter::default()
    };
    for id in params.all("ids") {
        match id.parse() {
            Ok(id) => drop(filter.ids.insert(id)),
            Err(_) => errors.add("ids", "invalid", "ids must be the ids of products".to_owned()),
        }
    }
    for (name, value) in params.with_prefix(ATTRIBUTE_PREFIX) {
        let values = filter.attributes.entry(name.to_owned()).or_default();
        values.insert(value.to_owned());
        // Another way to write a number is the same number.
        values.extend(value.parse().map(AttributeValue::Number).ok().as_ref().map(attribute_text));
    }
    check_filter_size(params, &filter, &mut errors);
    let sort = params.get("sort").map_or(Ok(ProductSort::default()), str::parse);
    let sort = sort.unwrap_or_else(|_| {
        errors.add("sort", "invalid", "sort must be relevance, price, -price, name or newest");
        ProductSort::default()
    });
    Ok(errors.into_result((filter, sort))?)
}

fn check_filter_size(params: &QueryParams, filter: &ProductFilter, errors: &mut ValidationErrors) {
    let repeated =
        ["ids", "category", "tag"].into_iter().map(|name| (name, params.all(name).count()));
    let attributes = params.with_prefix(ATTRIBUTE_PREFIX).count();
    let counts = repeated.chain([("attr", attributes)]);
    let (largest, total) = counts.fold((("", 0), 0), |(largest, total), next| {
        (if next.1 > largest.1 { next } else { largest }, total + next.1)
    });
    if total > MAX_FILTER_VALUES {
        let message = format!("{total} filter values; at most {MAX_FILTER_VALUES} are allowed");
        errors.add(largest.0, "too_many", message);
    }
    if filter.attributes.len() > MAX_FILTER_ATTRIBUTES {
        let (count, max) = (filter.attributes.len(), MAX_FILTER_ATTRIBUTES);
        errors.add("attr", "too_many", format!("{count} attributes; at most {max} are allowed"));
    }
}

fn show_facets(facets: &Facets, currency: Currency) -> FacetCounts<'_> {
    let money = |minor| Money::from_minor_units(minor, currency).ok();
    let price = |band: &PriceBand| {
        Some(PriceCount { from: money(band.from)?, to: money(band.to)?, count: band.count })
    };
    let attributes = facets.attributes.iter().map(|(name, counts)| {
        let counts = counts.iter().map(|(value, count)| AttributeCount { value, count: *count });
        (name.as_str(), counts.collect())
    });
    FacetCounts {
        category: show_labels(&facets.categories),
        tag: show_labels(&facets.tags),
        price: facets.prices.iter().filter_map(price).collect(),
        attributes: attributes.collect(),
    }
}

fn show_labels(counts: &[(AttributeValue, u64)]) -> Vec<LabelCount<'_>> {
    counts.iter().map(|(value, count)| LabelCount { value, count: *count }).collect()
}

/// Suggest products by name.
///
/// Every word that is typed begins a word of the name, in which one typo is allowed.
#[utoipa::path(get, path = "/api/products/suggest", operation_id = "suggest_products",
tag = "Products", security((), ("bearer" = [])), params(
    ("q" = Option<String>, Query, max_length = 200, example = "min",
        description = "The text typed so far. Without it, there are no suggestions."),
    ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, example = 20,
        description = "The number of suggestions. The default is 20."),
    ("Cache-Control" = Option<String>, Header),
), responses(
    (status = 200, body = Suggestions),
    (status = 401, body = ProblemDetails,
        description = "`unauthenticated`, `token_expired`: the catalog is not public"),
    (status = 422, body = ProblemDetails, description = "`validation_failed`"),
))]
pub(super) async fn suggest(read: ReadRequest<CatalogReader>) -> RouteResult {
    let query = &read.query;
    query.reject_others(&["q", "limit"])?;
    read.honor_no_cache().await?;
    let mut errors = ValidationErrors::new();
    let text = parse_query_text(query.get("q").unwrap_or_default(), &mut errors).to_owned();
    errors.into_result(())?;
    let limit = query.page_limit()? as usize;
    let catalog = &read.state.catalog_cache;
    let Some(typed) = catalog.rules().parse_typed(&text) else {
        return Ok(ApiResponse::ok(encode_suggestions(&[])?));
    };
    // What is at hand takes less time than to wake another thread.
    if let Some(known) = catalog.recent_suggestions(&typed, limit) {
        return Ok(ApiResponse::ok(encode_suggestions(&known)?));
    }
    let search = move |catalog: &CatalogCache| {
        let found = catalog.suggest(&typed, limit).map_err(|_| Error::overloaded())?;
        encode_suggestions(&found)
    };
    Ok(ApiResponse::ok(read.state.run_search(search).await?))
}

fn encode_suggestions(found: &[SuggestedProduct]) -> Result<Bytes, Error> {
    let suggestion = |found: &SuggestedProduct| Suggestion {
        id: found.id.as_uuid(),
        name: found.name.to_string(),
    };
    encode(&Suggestions { items: found.iter().map(suggestion).collect() })
}
