//! The server that runs until the store is connected: the node is alive, but not ready.

use std::net::TcpListener;

use actix_web::{App, HttpResponse, HttpServer, dev::Server, middleware::from_fn, web};

use crate::{
    error::Error,
    http::{
        middleware,
        response::{RouteResult, problem::Problem},
        routes::health,
    },
};

/// Builds the startup server, which runs when it is awaited. Another server may take over its
/// socket.
///
/// # Errors
/// The socket cannot be used.
pub fn build_startup_server(
    listener: TcpListener,
    serves_operations: bool,
) -> std::io::Result<Server> {
    let server = HttpServer::new(move || {
        App::new()
            .wrap(from_fn(middleware::response_middleware))
            .configure(|config| {
                if serves_operations {
                    config
                        .service(web::resource("/livez").get(health::livez))
                        .service(web::resource("/readyz").get(readyz));
                }
            })
            .default_service(web::to(store_unavailable_response))
    });
    Ok(server.workers(1).shutdown_timeout(1).disable_signals().listen(listener)?.run())
}

async fn readyz() -> RouteResult {
    health::starting_response()
}

async fn store_unavailable_response() -> Result<HttpResponse, Problem> {
    Err(Error::store_unavailable().into())
}
