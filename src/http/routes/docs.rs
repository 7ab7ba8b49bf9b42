//! The pages that describe the API and the events, `/docs/` and `/docs/events`, and the OpenAPI and
//! AsyncAPI documents that they show. All are part of the program.
//!
//! Not `utoipa-swagger-ui`: the newest Swagger UI that it contains is older than the fixes that
//! its HTML sanitizer, DOMPurify, has had since.

use std::sync::OnceLock;

use actix_web::{HttpRequest, HttpResponse, http::header, web, web::Bytes};

use crate::{
    error::Error,
    http::{
        embedded::{self, Packed, SWAGGER_UI_SCRIPT, SWAGGER_UI_STYLE},
        middleware::accepts_gzip,
        response::{ApiResponse, RouteResult, problem::Problem},
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

/// A file of the pages.
#[derive(Clone, Copy)]
enum Asset {
    Plain(&'static [u8]),
    /// A large file.
    Packed(Packed),
}

macro_rules! asset {
    ($path:literal) => {
        Asset::Plain(include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/", $path)))
    };
}

/// The files of the pages: name, content type and contents.
const ASSETS: [(&str, &str, Asset); 9] = [
    ("", HTML, asset!("docs/index.html")),
    ("events", HTML, asset!("docs/events.html")),
    ("events.css", STYLE, asset!("docs/events.css")),
    ("events.js", SCRIPT, asset!("docs/events.js")),
    ("page.css", STYLE, asset!("docs/page.css")),
    ("swagger-initializer.js", SCRIPT, asset!("docs/swagger-initializer.js")),
    ("swagger-ui.css", STYLE, Asset::Packed(SWAGGER_UI_STYLE)),
    ("swagger-ui-bundle.js", SCRIPT, Asset::Packed(SWAGGER_UI_SCRIPT)),
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
        let serve = move |request: HttpRequest| async move {
            asset_response(&request, content_type, contents)
        };
        config.service(web::resource(format!("/docs/{name}")).get(serve));
    }
}

async fn redirect_to_docs() -> HttpResponse {
    HttpResponse::TemporaryRedirect().insert_header((header::LOCATION, "/docs/")).finish()
}

fn asset_response(
    request: &HttpRequest,
    content_type: &str,
    asset: Asset,
) -> Result<HttpResponse, Problem> {
    let mut response = HttpResponse::Ok();
    response
        .insert_header((header::CONTENT_TYPE, content_type))
        .insert_header((header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY));
    let bytes = match asset {
        Asset::Plain(bytes) => Bytes::from_static(bytes),
        Asset::Packed(file) if accepts_gzip(request) => {
            response
                .insert_header((header::CONTENT_ENCODING, "gzip"))
                .insert_header((header::VARY, "accept-encoding"));
            Bytes::from_static(file.gzip())
        }
        Asset::Packed(file) => Bytes::from(file.unpack()?),
    };
    Ok(response.body(bytes))
}

async fn openapi_json(request: HttpRequest) -> RouteResult {
    named_document(&OPENAPI_JSON, &request, embedded::openapi_json)
}

async fn asyncapi_json(request: HttpRequest) -> RouteResult {
    named_document(&ASYNCAPI_JSON, &request, embedded::asyncapi_json)
}

/// Answers with a document that has the shop's name.
fn named_document(
    cached: &CachedDocument,
    request: &HttpRequest,
    read: fn() -> Result<String, Error>,
) -> RouteResult {
    let name = &AppState::from_request(request)?.options.shop_name;
    let make = || Ok(Bytes::from(embedded::with_title(&read()?, name)));
    Ok(ApiResponse::ok(cached.get_or_init(make).clone()?))
}
