//! The API browser at `/docs/` and the OpenAPI document, both part of the program.
//!
//! Not `utoipa-swagger-ui`: the newest Swagger UI that it contains is older than the fixes that
//! its HTML sanitizer, DOMPurify, has had since.

use std::sync::LazyLock;

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, http::header, web, web::Bytes};

use crate::{
    error::Error,
    http::{
        openapi::openapi_document,
        response::{
            ApiResponse, RouteResult,
            problem::{Problem, error_from_status},
        },
    },
};

/// What the page may load: its own scripts and styles, the document, and the icons in its styles.
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

/// The files of the API browser: name, content type and contents.
const ASSETS: [(&str, &str, &[u8]); 6] = [
    ("", HTML, asset!("docs/index.html")),
    ("page.css", STYLE, asset!("docs/page.css")),
    ("swagger-initializer.js", SCRIPT, asset!("docs/swagger-initializer.js")),
    ("swagger-ui.css", STYLE, asset!("swagger-ui/swagger-ui.css")),
    ("swagger-ui-bundle.js", SCRIPT, asset!("swagger-ui/swagger-ui-bundle.js")),
    ("favicon-32x32.png", "image/png", asset!("swagger-ui/favicon-32x32.png")),
];

static OPENAPI_JSON: LazyLock<Result<Bytes, Error>> = LazyLock::new(|| {
    openapi_document().to_json().map(Bytes::from).map_err(|error| {
        tracing::error!(%error, "failed to encode the OpenAPI document");
        Error::internal()
    })
});

/// Registers the routes of this module.
pub(super) fn configure_routes(config: &mut web::ServiceConfig) {
    config
        .service(web::resource("/").get(redirect_to_docs))
        .service(web::resource("/docs").get(redirect_to_docs))
        .service(web::resource("/docs/{file:[^/]*}").get(asset))
        .service(web::resource("/openapi.json").get(openapi_json));
}

async fn redirect_to_docs() -> HttpResponse {
    HttpResponse::TemporaryRedirect().insert_header((header::LOCATION, "/docs/")).finish()
}

async fn asset(request: HttpRequest) -> Result<HttpResponse, Problem> {
    let file = request.match_info().query("file");
    let (_, content_type, contents) = ASSETS
        .iter()
        .find(|(name, ..)| *name == file)
        .ok_or_else(|| error_from_status(StatusCode::NOT_FOUND))?;
    Ok(HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, *content_type))
        .insert_header((header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY))
        .body(Bytes::from_static(contents)))
}

async fn openapi_json() -> RouteResult {
    Ok(ApiResponse::ok(OPENAPI_JSON.clone()?))
}
