//! The HTTP server below the routes: its listeners and its connections.
//!
//! Every connection of the main listener takes a place at the [`ConnectionLimiter`] before a byte
//! of it is read, and is a `ClientStream`, which ends when its client holds it up. The framework's
//! own `HttpServer` can neither close a connection unanswered nor wrap it, so the service is put
//! together here from the same parts.

mod bare_response;
pub(super) mod client_stream;
mod failures;
pub(super) mod ops;
pub(super) mod request_tracking;
pub(super) mod startup;

use std::{
    future::{Ready, ready},
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use actix_http::{HttpService, KeepAlive, Protocol, error::DispatchError};
use actix_service::{IntoServiceFactory, ServiceFactoryExt as _, fn_service, map_config};
use actix_web::{
    App, Error,
    body::MessageBody,
    dev::{AppConfig, Server, ServiceFactory, ServiceRequest, ServiceResponse},
    middleware::{Condition, from_fn},
    web,
};
use tokio::net::TcpStream;

use self::{client_stream::ClientStream, failures::report_failure};
use super::{cors_policy, middleware, routes, state::AppState};
use crate::admission::connection_limiter::ConnectionLimiter;

/// How long a connection may stay open between two requests.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// How long the head of a connection's first request may take; then it is 408.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the server reads on after a response, so that the client can read it.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How much of a response waits in memory for a client that reads slowly. The default of 32 KiB
/// grows to 64 KiB for a feed whose client does not read.
const WRITE_BUFFER_BYTES: usize = 8 * 1024;

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
    /// How long a client may take nothing of what is sent.
    pub write_timeout: Duration,
    /// Whether the server has the routes for probes and metrics.
    pub serves_operations: bool,
}

/// What a worker needs for each connection.
#[derive(Clone)]
struct ConnectionOptions {
    address: SocketAddr,
    limiter: Arc<ConnectionLimiter>,
    write_timeout: Duration,
}

/// Builds the HTTP server, which runs when it is awaited.
///
/// # Errors
/// The socket cannot be used.
pub fn build_http_server(options: ServerOptions, state: Arc<AppState>) -> io::Result<Server> {
    let workers = options.workers.max(1);
    let ServerOptions { listener, allowed_origins, serves_operations, .. } = options;
    let connections = ConnectionOptions {
        address: listener.local_addr()?,
        limiter: Arc::clone(&state.connections),
        write_timeout: options.write_timeout,
    };
    // The limiter refuses connections; this only keeps the accepting thread from running ahead of
    // the workers until no descriptors are left.
    let per_worker = state.connections.capacity().div_ceil(workers) + 1;
    let builder = Server::build()
        .workers(workers)
        .max_concurrent_connections(per_worker)
        .shutdown_timeout(options.shutdown_timeout.as_secs())
        .disable_signals();
    let shutdown = builder.graceful_shutdown_signal();
    let builder = builder.listen("souk-http", listener, move || {
        let shutdown = shutdown.clone();
        let app = build_app(&allowed_origins, serves_operations, &state);
        let app = app.into_factory().map_err(|error: Error| error.error_response());
        let http = HttpService::build()
            .keep_alive(KeepAlive::Timeout(KEEP_ALIVE))
            .client_request_timeout(HEAD_TIMEOUT)
            .client_disconnect_timeout(DISCONNECT_TIMEOUT)
            .h1_write_buffer_size(WRITE_BUFFER_BYTES)
            .local_addr(connections.address)
            .graceful_shutdown_signal(move || {
                let shutdown = shutdown.clone();
                async move { shutdown.notified().await }
            })
            .on_connect_ext(|stream: &ClientStream, extensions| {
                extensions.insert(std::rc::Rc::clone(stream.activity()));
            })
            .finish(map_config(app, |()| AppConfig::default()));
        let (admission, limiter) = (connections.clone(), Arc::clone(&connections.limiter));
        fn_service(move |io| admit(io, &admission))
            .and_then(http)
            .map_err(move |error| report_failure(&error, &limiter))
    })?;
    Ok(builder.run())
}

/// The routes with their middleware.
fn build_app(
    allowed_origins: &[String],
    serves_operations: bool,
    state: &Arc<AppState>,
) -> App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<impl MessageBody + use<> + 'static>,
        Error = Error,
        InitError = (),
    > + use<>,
> {
    App::new()
        .app_data(web::Data::new(Arc::clone(state)))
        .wrap(from_fn(middleware::admission_middleware))
        .wrap(Condition::new(!allowed_origins.is_empty(), cors_policy(allowed_origins)))
        .wrap(from_fn(middleware::response_middleware))
        .configure(|config| routes::configure_all_routes(config, serves_operations))
}

type Admitted = (ClientStream, Protocol, Option<SocketAddr>);

/// Gives a new connection a place, or closes it unanswered.
fn admit(io: TcpStream, options: &ConnectionOptions) -> Ready<Result<Admitted, DispatchError>> {
    let limiter = &options.limiter;
    let admitted = io.peer_addr().and_then(|peer| {
        let permit = limiter.admit(peer.ip()).ok_or_else(|| {
            // A reset leaves nothing behind in the kernel.
            drop(io.set_zero_linger());
            io::Error::from(io::ErrorKind::ConnectionRefused)
        })?;
        let metrics = limiter.metrics().clone();
        let stream = ClientStream::new(io, permit, metrics, options.write_timeout);
        Ok((stream, Protocol::Http1, Some(peer)))
    });
    ready(admitted.map_err(DispatchError::Io))
}
