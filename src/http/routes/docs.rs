//! The pages that describe the API and the events, `/docs/` and `/docs/events`, and the OpenAPI and
//! AsyncAPI documents that they show. All are part of the program.
//!
//! Not `utoipa-swagger-ui`: the newest Swagger UI that it contains is older than the fixes that
//! its HTML sanitizer, DOMPurify, has had since.

use std::sync::OnceLock;

use actix_web::{HttpRequest, HttpResponse, http::header, web, web::Bytes};

use crate::{
    broker,
    error::Error,
    http::{
        openapi::openapi_document,
        response::{ApiResponse, RouteResult},
        state::AppState,
    },
};

/// What a page may load: its own scripts and styles, the document, and the icons in its styles.
/// Inline scripts and styles are not among them.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

macro_rules! asset {
    ($path:literal) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/", $path))
    };
}

/// The files of the pages: name, content type and contents.
const ASSETS: [(&str, &str, &[u8]); 9] = [
    ("", HTML, asset!("docs/index.html")),
    ("events", HTML, asset!("docs/events.html")),
    ("events.css", STYLE, asset!("docs/events.css")),
    ("events.js", SCRIPT, asset!("docs/events.js")),
    ("page.css", STYLE, asset!("docs/page.css")),
    ("swagger-initializer.js", SCRIPT, asset!("docs/swagger-initializer.js")),
    ("swagger-ui.css", STYLE, asset!("swagger-ui/swagger-ui.css")),
    ("swagger-ui-bundle.js", SCRIPT, asset!("swagger-ui/swagger-ui-bundle.js")),
    ("favicon-32x32.png", "image/png", asset!("swagger-ui/favicon-32x32.png")),
];

/// A document, made once: a process is one shop, whose name it has.
type CachedDocument = OnceLock<Result<Bytes, Error>>;

static OPENAPI_JSON: CachedDocument = OnceLock::new();
static ASYNCAPI_JSON: CachedDocument = OnceLock::new();

/// Registers the routes of this module.
pub(super) fn configure_routes(config: &mut web::ServiceConfig) {
    config
        .service(web::resource("/").get(redirect_to_docs))
        .service(web::resource("/docs").get(redirect_to_docs))
        .service(web::resource("/openapi.json").get(openapi_json))
        .service(web::resource("/asyncapi.json").get(asyncapi_json));
    for (name, content_type, contents) in ASSETS {
        let serve = move || async move { asset_response(content_type, contents) };
        config.service(web::resource(format!("/docs/{name}")).get(serve));
    }
}

async fn redirect_to_docs() -> HttpResponse {
    HttpResponse::TemporaryRedirect().insert_header((header::LOCATION, "/docs/")).finish()
}

fn asset_response(content_type: &'static str, contents: &'static [u8]) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, content_type))
        .insert_header((header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY))
        .body(Bytes::from_static(contents))
}

async fn openapi_json(request: HttpRequest) -> RouteResult {
    let make = |name: &str| {
        let mut document = openapi_document();
        name.clone_into(&mut document.info.title);
        document.to_json().map(Bytes::from)
    };
    named_document(&OPENAPI_JSON, &request, make)
}

async fn asyncapi_json(request: HttpRequest) -> RouteResult {
    let make = |name: &str| {
        let mut document = broker::asyncapi::build_document();
        if let Some(title) = document.pointer_mut("/info/title") {
            *title = name.into();
        }
        serde_json::to_vec(&document).map(Bytes::from)
    };
    named_document(&ASYNCAPI_JSON, &request, make)
}

/// Answers with a document that `make` makes for the shop's name.
fn named_document(
    cached: &CachedDocument,
    request: &HttpRequest,
    make: impl FnOnce(&str) -> serde_json::Result<Bytes>,
) -> RouteResult {
    let state = AppState::from_request(request)?;
    let encode = || {
        make(&state.options.shop_name).map_err(|error| {
            tracing::error!(%error, "failed to encode a document");
            Error::internal()
        })
    };
    Ok(ApiResponse::ok(cached.get_or_init(encode).clone()?))
}
