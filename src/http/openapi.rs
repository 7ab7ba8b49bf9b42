//! The OpenAPI document, put together from the routes' own descriptions.

use actix_web::http::StatusCode;
use utoipa::{
    Modify, OpenApi,
    openapi::{
        Content, OpenApi as Document, Ref, RefOr, Response, Schema,
        path::{Operation, Parameter, PathItem},
        security::{Http, HttpAuthScheme, SecurityScheme},
    },
};
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::routes::{accounts, audit, cart, events, health, import, orders, products, stock};
use crate::error::ErrorCode;

#[derive(OpenApi)]
#[openapi(
    info(title = "Souk", description = "A commerce core: accounts, catalog, stock, carts and orders."),
    paths(
        accounts::register, accounts::login, accounts::refresh, accounts::logout, accounts::validate, accounts::me,
        accounts::password, accounts::jwks,
        products::list, products::suggest, products::show, products::create, products::replace, products::patch,
        products::delete, import::import, stock::show, stock::change, stock::movements,
        cart::show, cart::add, cart::update, cart::remove, cart::clear, cart::guest, cart::merge,
        orders::check_out, orders::list, orders::show, orders::cancel, orders::pay, orders::fulfil,
        events::feed, audit::run, health::livez, health::readyz, health::metrics,
    ),
    modifiers(&BearerScheme, &ErrorCodeTable, &OperationDefaults),
)]
struct ApiDoc;

struct BearerScheme;

impl Modify for BearerScheme {
    fn modify(&self, document: &mut Document) {
        let scheme = Http::builder().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
        document
            .components
            .get_or_insert_default()
            .add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

/// Publishes the closed list of codes.
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
            "A commerce core: accounts, catalog, stock, carts and orders.\n\nEvery error is `application/problem+json` (RFC 9457) with a \
             `code` from this closed list:\n\n| code | status | meaning |\n|---|---|---|\n{}\n",
            codes.join("\n")
        ));
    }
}

/// Gives every operation a name of its own, by which generators of clients call it, the problems that it shares with others, every
/// problem its media type, and every response a description.
struct OperationDefaults;

impl Modify for OperationDefaults {
    fn modify(&self, document: &mut Document) {
        for operation in document.paths.paths.values_mut().flat_map(path_operations) {
            let tag = operation
                .tags
                .iter()
                .flatten()
                .next()
                .map(|tag| tag.to_lowercase())
                .unwrap_or_default();
            // So far it is named after its function, of which each resource has a `show`.
            operation.operation_id =
                operation.operation_id.take().map(|name| format!("{tag}_{name}"));
            unwrap_optional_body(operation);
            add_common_problems(operation);
            for (status, response) in &mut operation.responses.responses {
                if let RefOr::T(response) = response {
                    set_problem_media_type(response);
                    ensure_description(response, status);
                }
            }
        }
    }
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

/// A body that may be left out is an object all the same when it is there, and not null.
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

/// Problems that are not of the operation itself: what any request may come to, or any with such a header.
fn add_common_problems(operation: &mut Operation) {
    let named = |parameter: &RefOr<Parameter>, name: &str| matches!(parameter, RefOr::T(parameter) if parameter.name == name);
    let has_header =
        |name: &str| operation.parameters.iter().flatten().any(|parameter| named(parameter, name));
    let problem = |description: &str| {
        let content = Content::new(Some(RefOr::Ref(Ref::from_schema_name("ProblemDetails"))));
        RefOr::T(
            Response::builder()
                .description(description)
                .content("application/problem+json", content)
                .build(),
        )
    };
    let others = [
        (has_header("If-Match"), StatusCode::PRECONDITION_FAILED.as_str(), "`version_mismatch`"),
        (
            has_header("Idempotency-Key"),
            StatusCode::BAD_REQUEST.as_str(),
            "`idempotency_key_invalid`, `malformed_json`",
        ),
        (true, "default", "Any other problem; `code` says which"),
    ];
    for (_, status, description) in others.into_iter().filter(|(applies, ..)| *applies) {
        operation
            .responses
            .responses
            .entry(status.to_owned())
            .or_insert_with(|| problem(description));
    }
}

/// Every response has to have a description, also when its status says all.
fn ensure_description(response: &mut Response, status: &str) {
    if response.description.is_empty() {
        let reason = status.parse().ok().and_then(|status: StatusCode| status.canonical_reason());
        response.description = reason.unwrap_or(status).to_owned();
    }
}

/// The document (OpenAPI 3.1).
#[must_use]
pub fn openapi_document() -> Document {
    ApiDoc::openapi()
}

/// The API browser, with everything it needs in the binary, and the document at `/openapi.json`.
pub(super) fn swagger_ui() -> SwaggerUi {
    SwaggerUi::new("/docs/{_:.*}")
        .url("/openapi.json", openapi_document())
        .config(Config::default().validator_url("none"))
}
