//! HTTP: routes, status codes, JSON and tokens. One file a resource.

mod accounts;
mod answer;
mod audit;
mod cart;
mod due;
mod envelope;
mod events;
mod head;
mod import;
pub mod import_lines;
mod limits;
pub mod metrics;
mod openapi;
mod ops;
mod orders;
mod problem;
mod product_requests;
mod products;
mod query;
mod reads;
mod receive;
mod services;
mod stock;
pub mod token;
mod views;
mod waiting;

use std::{net::TcpListener, sync::Arc, time::Duration};

use actix_cors::Cors;
use actix_web::{
    App, HttpServer,
    http::header,
    middleware::{Condition, from_fn},
    web,
};

/// A server that runs when awaited.
pub use actix_web::dev::Server;

pub use self::{
    import::{ImportReport, Importer},
    limits::RateLimits,
    openapi::document,
    reads::Reads,
    services::{HttpOptions, Services},
    views::{render_cart, render_product},
    waiting::serve_waiting,
};

/// How the server listens.
pub struct Listen {
    /// The socket, bound already.
    pub listener: TcpListener,
    /// Threads that answer requests.
    pub workers: usize,
    /// Origins that browsers may call from.
    pub allowed_origins: Vec<String>,
    /// How long requests that have begun may take to end when the node stops.
    pub drain: Duration,
}

/// Begins to serve; the server runs when awaited.
///
/// # Errors
/// The socket cannot be used.
pub fn serve(listen: Listen, services: Arc<Services>) -> std::io::Result<Server> {
    let Listen { listener, workers, allowed_origins, drain } = listen;
    let server = HttpServer::new(move || {
        App::new()
            .app_data(web::Data::new(Arc::clone(&services)))
            .wrap(from_fn(envelope::admit))
            .wrap(Condition::new(!allowed_origins.is_empty(), cors(&allowed_origins)))
            .wrap(from_fn(envelope::wrap))
            .wrap(from_fn(head::wrap))
            .configure(routes)
    });
    let server = server.workers(workers.max(1)).shutdown_timeout(drain.as_secs()).disable_signals();
    Ok(server.listen(listener)?.run())
}

/// All routes. Those with a fixed path come before those with an id in the same place.
fn routes(config: &mut web::ServiceConfig) {
    accounts::routes(config);
    cart::routes(config);
    import::routes(config);
    products::routes(config);
    stock::routes(config);
    orders::routes(config);
    events::routes(config);
    audit::routes(config);
    ops::routes(config);
    config.service(openapi::browser());
}

/// Cross-origin requests from exactly these origins. Tokens travel in a header, so credentials are never allowed.
fn cors(origins: &[String]) -> Cors {
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
