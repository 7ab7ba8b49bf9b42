//! The OpenAPI document, generated from the annotations of the routes.

pub(super) mod enums;
mod examples;
mod headers;

use std::{collections::HashMap, sync::LazyLock};

use actix_web::{HttpRequest, http::StatusCode};
use serde::Deserialize;
use serde_json::Value;
use utoipa::{
    Modify, OpenApi,
    openapi::{
        Content, OpenApi as Document, Ref, RefOr, Response, Schema,
        path::{Operation, PathItem},
        schema::AdditionalProperties,
        security::{Http, HttpAuthScheme, SecurityScheme},
    },
};

use super::{
    embedded::openapi_json,
    routes::{
        accounts, actions, api_keys, audit, cart, events, health, import, metrics, orders,
        payments, products,
        rules::{promotions, shipping_methods, tax_rates},
        stock, users, webhooks,
    },
};
use crate::{error::ErrorCode, metrics::requests::method_label};

#[derive(OpenApi)]
#[openapi(
    info(title = "Souk", contact(name = "Souk")),
    servers((url = "/", description = "The shop that serves this document.")),
    tags(
        (name = "Auth", description = "Accounts, sessions and access tokens."),
        (name = "Users", description = "Accounts, for staff, and their rights, for admins."),
        (name = "API keys", description = "How other programs act within scopes, for admins."),
        (name = "Products", description = "The catalog: search, products and imports."),
        (name = "Stock", description = "The stock of a product and its movements."),
        (name = "Cart", description = "The cart of the caller. A cart needs no account."),
        (name = "Orders", description = "Checkout, and what happens to an order afterward."),
        (name = "Promotions", description = "Discounts and their codes, for staff."),
        (name = "Shipping", description = "Shipping methods, for staff."),
        (name = "Taxes", description = "Tax rates, for staff."),
        (name = "Events", description = "Changes of the shop as server-sent events."),
        (name = "Webhooks", description = "Events for other systems, by HTTPS."),
        (name = "Operations", description = "Health, metrics and audits, for operators."),
    ),
    paths(
        accounts::register, accounts::sessions::login, accounts::sessions::refresh,
        accounts::sessions::logout, accounts::tokens::validate, accounts::me,
        accounts::update, accounts::change_password, accounts::mail_tokens::forgot,
        accounts::mail_tokens::reset, accounts::mail_tokens::request_verification,
        accounts::mail_tokens::verify, accounts::devices::list,
        accounts::devices::end_others, accounts::devices::end, accounts::tokens::jwks,
        accounts::addresses::list, accounts::addresses::add, accounts::addresses::replace,
        accounts::addresses::delete, accounts::export::export, accounts::deletion::delete,
        products::search::list, products::search::suggest, products::show, products::create,
        products::replace,
        products::patch, products::delete, import::import,
        stock::show, stock::change, stock::movements,
        cart::show, cart::add, cart::update, cart::remove, cart::clear,
        cart::create_guest_cart, cart::merge,
        cart::shipping::set, cart::shipping::list_methods, cart::codes::add, cart::codes::remove,
        orders::check_out, orders::list::list, orders::export::export, orders::show,
        orders::cancel, orders::pay, orders::fulfill::fulfill, orders::refund::refund,
        orders::refund::payment, payments::stripe,
        users::list, users::show, users::patch,
        api_keys::create, api_keys::list, api_keys::delete, actions::list,
        promotions::list, promotions::show, promotions::create, promotions::replace,
        promotions::patch, promotions::delete,
        shipping_methods::list, shipping_methods::show, shipping_methods::create,
        shipping_methods::replace, shipping_methods::patch, shipping_methods::delete,
        tax_rates::list, tax_rates::show, tax_rates::create, tax_rates::replace,
        tax_rates::patch, tax_rates::delete,
        events::create_ticket, events::feed, audit::run,
        webhooks::create, webhooks::list, webhooks::show, webhooks::patch, webhooks::delete,
        webhooks::rotate, webhooks::deliveries::test, webhooks::deliveries::list,
        webhooks::deliveries::redeliver,
        health::livez, health::readyz, metrics::scrape_metrics,
    ),
    components(schemas(enums::ProductSort)),
    modifiers(&BearerScheme, &ErrorCodeTable, &OperationDefaults, &SchemaDefaults),
)]
struct ApiDoc;

struct BearerScheme;

impl Modify for BearerScheme {
    fn modify(&self, document: &mut Document) {
        let scheme = Http::builder().scheme(HttpAuthScheme::Bearer).bearer_format("JWT");
        let scheme = scheme.description(Some("An access token, or an API key.")).build();
        document
            .components
            .get_or_insert_default()
            .add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

/// Adds the table of error codes to the description of the API.
struct ErrorCodeTable;

impl Modify for ErrorCodeTable {
    fn modify(&self, document: &mut Document) {
        let codes: Vec<String> = ErrorCode::ALL
            .iter()
            .map(|code| {
                format!(
                    "| `{}` | {} | {} |",
                    code.as_str(),
                    super::response::problem::http_status(*code).as_u16(),
                    code.title()
                )
            })
            .collect();
        document.info.description = Some(format!(
            "Accounts, catalog, stock, carts and orders over HTTP. \
             [Events](/docs/events) tell what happens in the shop.\n\nEvery error is \
             `application/problem+json` (RFC 9457) with a `code` from a closed list:\n\n\
             <details><summary>The error codes</summary>\n\n\
             | code | status | meaning |\n|---|---|---|\n{}\n\n</details>\n",
            codes.join("\n")
        ));
    }
}

/// Adds the parts that operations share: common problems and their media type, headers, and a
/// description of each response.
struct OperationDefaults;

impl Modify for OperationDefaults {
    fn modify(&self, document: &mut Document) {
        headers::register(document.components.get_or_insert_default());
        for (path, item) in &mut document.paths.paths {
            for operation in path_operations(item) {
                unwrap_optional_body(operation);
                headers::complete_parameters(operation);
                add_common_problems(operation, path);
                for (status, response) in &mut operation.responses.responses {
                    if let RefOr::T(response) = response {
                        set_problem_media_type(response);
                        ensure_description(response, status);
                    }
                }
                headers::complete_responses(operation, must_not_be_stored(path));
            }
        }
    }
}

/// Completes the schemas: adds examples, and forbids unknown members in requests.
struct SchemaDefaults;

impl Modify for SchemaDefaults {
    fn modify(&self, document: &mut Document) {
        let components = document.components.get_or_insert_default();
        for (name, schema) in &mut components.schemas {
            if let RefOr::T(Schema::Object(object)) = schema
                && name.ends_with("Request")
                && !WITH_READ_ONLY_MEMBERS.contains(&name.as_str())
            {
                object.additional_properties =
                    Some(Box::new(AdditionalProperties::FreeForm(false)));
            }
        }
        examples::add_examples(components);
    }
}

/// Requests that may contain the read-only members of what was fetched, which are ignored.
const WITH_READ_ONLY_MEMBERS: [&str; 10] = [
    "ReplaceProductRequest",
    "PatchProductRequest",
    "CreateWebhookRequest",
    "PatchWebhookRequest",
    "PromotionRequest",
    "PatchPromotionRequest",
    "ShippingMethodRequest",
    "PatchShippingMethodRequest",
    "TaxRateRequest",
    "PatchTaxRateRequest",
];

/// Whether `path` is rate limited. Probes and metrics must work under any load.
fn is_limited(path: &str) -> bool {
    !matches!(path, "/livez" | "/readyz" | "/metrics")
}

/// Whether responses of `path` are private to the caller.
fn must_not_be_stored(path: &str) -> bool {
    [
        "/api/auth/",
        "/api/cart",
        "/api/events/ticket",
        "/api/checkout",
        "/api/orders",
        "/api/api-keys",
        "/api/admin/actions",
        "/api/webhooks",
    ]
    .iter()
    .any(|prefix| path.starts_with(prefix))
}

fn path_operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, patch, delete, .. } = item;
    [get, put, post, patch, delete].into_iter().flatten()
}

fn set_problem_media_type(response: &mut Response) {
    let is_problem = |content: &RefOr<Content>| match content {
        RefOr::T(Content { schema: Some(RefOr::Ref(schema)), .. }) => {
            schema.ref_location.ends_with("/ProblemDetails")
        }
        _ => false,
    };
    if response.content.get("application/json").is_some_and(is_problem)
        && let Some(content) = response.content.shift_remove("application/json")
    {
        response.content.insert("application/problem+json".to_owned(), content);
    }
}

/// Makes an optional body a plain object: it may be absent, but not null.
fn unwrap_optional_body(operation: &mut Operation) {
    let Some(RefOr::T(body)) = &mut operation.request_body else { return };
    for content in body.content.values_mut() {
        if let RefOr::T(Content { schema: Some(schema), .. }) = content
            && let RefOr::T(Schema::OneOf(either)) = schema
            && let Some(named @ RefOr::Ref(_)) = either.items.first()
        {
            *schema = named.clone();
        }
    }
}

/// Adds the problems that every operation can return, or every operation with a body, a token or
/// a certain header.
fn add_common_problems(operation: &mut Operation, path: &str) {
    let problem = |description: &str| {
        let content = Content::new(Some(RefOr::Ref(Ref::from_schema_name("ProblemDetails"))));
        RefOr::T(
            Response::builder()
                .description(description)
                .content("application/problem+json", content)
                .build(),
        )
    };
    let repeatable = headers::has_parameter(operation, "Idempotency-Key");
    let conditional = headers::has_parameter(operation, "If-Match");
    let has_body = operation.request_body.is_some();
    let limited = is_limited(path);
    let needs_token = operation.security.iter().flatten().any(|one| *one != <_>::default());
    let others = [
        (repeatable, "400", "`idempotency_key_invalid`, `malformed_json`"),
        (has_body, "400", "`malformed_json`"),
        (needs_token, "401", "`unauthenticated`, `token_expired`"),
        (has_body, "408", "`request_timeout`"),
        (conditional, "412", "`version_mismatch`"),
        (has_body, "413", "`payload_too_large`"),
        (has_body, "415", "`unsupported_media_type`"),
        (path.starts_with("/api/"), "422", "`validation_failed`: an unknown query parameter"),
        (limited, "429", "`rate_limited`"),
        (limited, "503", "`overloaded`, `store_unavailable`, `outcome_unknown`"),
        (true, "default", "Any other problem. `code` says which."),
    ];
    for (_, status, description) in others.into_iter().filter(|(applies, ..)| *applies) {
        operation
            .responses
            .responses
            .entry(status.to_owned())
            .or_insert_with(|| problem(description));
    }
}

/// Fills in an empty description, which OpenAPI requires, from the status.
fn ensure_description(response: &mut Response, status: &str) {
    if response.description.is_empty() {
        let reason = status.parse().ok().and_then(|status: StatusCode| status.canonical_reason());
        response.description = reason.unwrap_or(status).to_owned();
    }
}

/// The operations of the document, by method and path.
static OPERATION_IDS: LazyLock<HashMap<(&'static str, String), &'static str>> =
    LazyLock::new(|| {
        #[derive(Deserialize)]
        struct Paths {
            paths: HashMap<String, HashMap<String, Value>>,
        }
        let read = || serde_json::from_str::<Paths>(&openapi_json().ok()?).ok();
        let mut ids = HashMap::new();
        for (path, item) in read().into_iter().flat_map(|document| document.paths) {
            for (method, operation) in item {
                if let Some(id) = operation.get("operationId").and_then(Value::as_str) {
                    let method = method_label(&method.to_ascii_uppercase());
                    ids.insert((method, path.clone()), &*id.to_owned().leak());
                }
            }
        }
        ids
    });

/// The `operationId` of the operation that `request` asks for. A request that no operation matches
/// reaches no route.
pub(super) fn operation_id(request: &HttpRequest) -> &'static str {
    let method = method_label(request.method().as_str());
    let path = request.match_pattern().unwrap_or_default();
    OPERATION_IDS.get(&(method, path)).copied().unwrap_or("unknown")
}

/// Makes the OpenAPI 3.1 document, which the program does not do: it contains
/// [the result](openapi_json).
#[must_use]
pub fn openapi_document() -> Document {
    ApiDoc::openapi()
}
