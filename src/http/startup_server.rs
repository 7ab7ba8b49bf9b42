//! What a node answers before it has a store: that it lives, and that it is not ready.

use std::net::TcpListener;

use actix_web::{App, HttpResponse, HttpServer, dev::Server, middleware::from_fn, web};

use super::{
    middleware,
    response::{Answer, problem::Problem},
    routes::health,
};
use crate::error::Error;

/// Begins to serve on a socket that another server may take over; the server runs when awaited.
///
/// # Errors
/// The socket cannot be used.
pub fn serve_waiting(listener: TcpListener) -> std::io::Result<Server> {
    let server = HttpServer::new(|| {
        App::new()
            .wrap(from_fn(middleware::wrap))
            .service(web::resource("/livez").get(health::livez))
            .service(web::resource("/readyz").get(readyz))
            .default_service(web::to(unavailable))
    });
    Ok(server.workers(1).shutdown_timeout(1).disable_signals().listen(listener)?.run())
}

async fn readyz() -> Answer {
    health::starting()
}

async fn unavailable() -> Result<HttpResponse, Problem> {
    Err(Error::store_unavailable().into())
}
