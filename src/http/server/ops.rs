//! The server for operators, on a port of its own.

use std::{io, net::TcpListener, sync::Arc};

use actix_web::{App, HttpServer, dev::Server, middleware::from_fn, web};

use crate::http::{middleware, routes, state::AppState};

/// The most connections at a time. Others wait until one of them is closed.
const MAX_CONNECTIONS: usize = 64;

/// Builds the server of `/livez`, `/readyz` and `/metrics`, which runs when it is awaited. Its
/// thread serves nothing else, so a flood on the main port does not delay probes.
///
/// # Errors
/// The socket cannot be used.
pub fn build_ops_server(listener: TcpListener, state: Arc<AppState>) -> io::Result<Server> {
    let server = HttpServer::new(move || {
        App::new()
            .app_data(web::Data::new(Arc::clone(&state)))
            .wrap(from_fn(middleware::response_middleware))
            .configure(routes::health::configure_operations)
    });
    let server = server.workers(1).max_connections(MAX_CONNECTIONS).shutdown_timeout(1);
    Ok(server.disable_signals().listen(listener)?.run())
}
