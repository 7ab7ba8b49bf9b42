//! The HTTP API: middleware, request parsing, routes (one file per resource) and responses.

mod embedded;
pub mod middleware;
mod openapi;
mod request;
mod response;
pub(crate) mod routes;
mod server;
mod state;

use actix_cors::Cors;
use actix_web::http::header;

/// A server that starts to run when it is awaited, and what stops it.
pub use actix_web::dev::{Server, ServerHandle};

pub use self::{
    embedded::{asyncapi_json, openapi_json},
    openapi::openapi_document,
    request::read_limiter::ReadLimiter,
    response::views::{render_cart, render_product},
    routes::{
        api_keys::render_api_key,
        import::{
            ImportOptions, ImportPosition, ImportReport, Importer, LineError, LineKeys, RecentSkus,
            is_store_failure,
        },
        users::render_user,
        webhooks::{render_new_webhook, render_webhook},
    },
    server::{
        ServerOptions, build_http_server, ops::build_ops_server, startup::build_startup_server,
    },
    state::{ApiOptions, AppState},
};

/// Allows cross-origin requests from exactly these origins. Tokens are sent in a header, so
/// credentials (cookies) are never allowed.
fn cors_policy(origins: &[String]) -> Cors {
    let cors = Cors::default()
        .allowed_methods(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
        .allow_any_header()
        .expose_headers([header::ETAG, header::LOCATION, header::RETRY_AFTER])
        .expose_headers(["x-request-id", "idempotency-replayed", "ratelimit", "ratelimit-policy"])
        .max_age(3600);
    if origins.iter().any(|origin| origin == "*") {
        return cors.allow_any_origin();
    }
    origins.iter().fold(cors, |cors, origin| cors.allowed_origin(origin))
}
