//! The HTTP API: middleware, request parsing, routes (one file per resource) and responses.

pub mod middleware;
mod openapi;
mod request;
mod response;
pub(crate) mod routes;
mod startup_server;
mod state;

use std::{net::TcpListener, sync::Arc, time::Duration};

use actix_cors::Cors;
use actix_web::{
    App, HttpServer,
    http::header,
    middleware::{Condition, from_fn},
    web,
};

/// A server that starts to run when it is awaited.
pub use actix_web::dev::Server;

pub use self::{
    middleware::rate_limit::RateLimits,
    openapi::openapi_document,
    request::read_limiter::ReadLimiter,
    response::views::{render_cart, render_product},
    routes::import::{ImportReport, Importer},
    startup_server::build_startup_server,
    state::{ApiOptions, AppState},
};

/// How the HTTP server listens and stops.
pub struct ServerOptions {
    /// A socket that is already bound.
    pub listener: TcpListener,
    /// The number of worker threads; at least one is started.
    pub workers: usize,
    /// Origins that may send cross-origin requests; `*` allows every origin.
    pub allowed_origins: Vec<String>,
    /// How long a stopping node waits for requests in progress.
    pub shutdown_timeout: Duration,
}

/// Builds the HTTP server, which runs when it is awaited.
///
/// # Errors
/// The socket cannot be used.
pub fn build_http_server(options: ServerOptions, state: Arc<AppState>) -> std::io::Result<Server> {
    let ServerOptions { listener, workers, allowed_origins, shutdown_timeout } = options;
    let server = HttpServer::new(move || {
        App::new()
            .app_data(web::Data::new(Arc::clone(&state)))
            .wrap(from_fn(middleware::admission_middleware))
            .wrap(Condition::new(!allowed_origins.is_empty(), cors_policy(&allowed_origins)))
            .wrap(from_fn(middleware::response_middleware))
            .wrap(from_fn(middleware::head_method::head_as_get))
            .configure(routes::configure_all_routes)
    });
    let server = server
        .workers(workers.max(1))
        .shutdown_timeout(shutdown_timeout.as_secs())
        .disable_signals();
    Ok(server.listen(listener)?.run())
}

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
