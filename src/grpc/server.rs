//! The gRPC server: its listener, its services and the bounds of its connections.

use std::{net::TcpListener, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::{runtime::Handle, task::JoinHandle};
use tonic::transport::{Identity, Server, ServerTlsConfig, server::Router};
use tonic_health::pb::health_server::HealthServer;
use tonic_reflection::server::Builder;
use tower::layer::util::{Identity as NoLayer, Stack};

use super::{
    auth::AuthGrpcService,
    call_layer::CallLayer,
    cart::CartGrpcService,
    catalog::CatalogGrpcService,
    connection::accept_connections,
    health::HealthGrpcService,
    inventory::InventoryGrpcService,
    pb::{
        DESCRIPTORS, auth_service_server::AuthServiceServer,
        cart_service_server::CartServiceServer, catalog_service_server::CatalogServiceServer,
        inventory_service_server::InventoryServiceServer,
    },
    state::GrpcState,
};

/// Calls in progress on one connection. A client that wants more waits.
const MAX_STREAMS: u32 = 100;

/// The most bytes of a call's headers.
const MAX_HEADER_BYTES: u32 = 16 * 1024;

/// What a client may send before it is read: of one call, and of all calls on a connection.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 256 * 1024;

/// How often a connection is probed, and how long a client may take to answer.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Calls that a client has opened and cancelled at once, and that the server has not seen yet. A
/// client with more is disconnected (CVE-2023-44487).
const MAX_PENDING_RESETS: usize = 20;

/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// How the gRPC server listens.
pub struct GrpcServerOptions {
    /// A socket that is already bound.
    pub listener: TcpListener,
    /// The runtime on which it runs.
    pub runtime: Handle,
    /// What it proves itself with; `None` for a server without TLS.
    pub tls: Option<TlsIdentity>,
}

/// A certificate and its private key, each in PEM form.
pub struct TlsIdentity {
    /// The certificate, with those that have signed it.
    pub certificate: Vec<u8>,
    /// The private key of the certificate.
    pub private_key: Vec<u8>,
}

/// The gRPC server, ready to run. Connections wait until then.
pub struct GrpcServer {
    router: Router<Stack<CallLayer, NoLayer>>,
    listener: TcpListener,
    runtime: Handle,
    state: Arc<GrpcState>,
}

impl GrpcServer {
    /// Builds the server.
    ///
    /// # Errors
    /// The certificate or its key cannot be used. The error is one line for the operator.
    pub fn new(options: GrpcServerOptions, state: Arc<GrpcState>) -> anyhow::Result<Self> {
        let GrpcServerOptions { listener, runtime, tls } = options;
        let mut server = Server::builder()
            .max_concurrent_streams(MAX_STREAMS)
            .http2_max_header_list_size(MAX_HEADER_BYTES)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_keepalive_interval(Some(PING_INTERVAL))
            .http2_keepalive_timeout(Some(PING_TIMEOUT))
            .http2_max_pending_accept_reset_streams(Some(MAX_PENDING_RESETS));
        if let Some(TlsIdentity { certificate, private_key }) = tls {
            let identity = Identity::from_pem(certificate, private_key);
            let config = ServerTlsConfig::new().identity(identity).timeout(HANDSHAKE_TIMEOUT);
            server = server
                .tls_config(config)
                .context("grpc.tls_cert_file, grpc.tls_key_file: no certificate with its key")?;
        }
        let router = add_services(server.layer(CallLayer(Arc::clone(&state))), &state)?;
        Ok(Self { router, listener, runtime, state })
    }

    /// Serves until the node stops, and then until the calls in progress have ended.
    pub fn spawn(self) -> JoinHandle<anyhow::Result<()>> {
        let Self { router, listener, runtime, state } = self;
        runtime.spawn(async move {
            listener.set_nonblocking(true)?;
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let (limiter, timeout) = (Arc::clone(&state.connections), state.options.write_timeout);
            let connections = accept_connections(listener, limiter, timeout);
            let stop = async move { state.stopping().await };
            Ok(router.serve_with_incoming_shutdown(connections, stop).await?)
        })
    }
}

type LayeredServer = Server<Stack<CallLayer, NoLayer>>;

fn add_services(
    mut server: LayeredServer,
    state: &Arc<GrpcState>,
) -> anyhow::Result<Router<Stack<CallLayer, NoLayer>>> {
    let reflection = || {
        Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let max = state.options.max_message;
    let shared = || Arc::clone(state);
    Ok(server
        .add_service(
            AuthServiceServer::new(AuthGrpcService(shared())).max_decoding_message_size(max),
        )
        .add_service(
            CatalogServiceServer::new(CatalogGrpcService(shared())).max_decoding_message_size(max),
        )
        .add_service(
            InventoryServiceServer::new(InventoryGrpcService(shared()))
                .max_decoding_message_size(max),
        )
        .add_service(
            CartServiceServer::new(CartGrpcService(shared())).max_decoding_message_size(max),
        )
        .add_service(HealthServer::new(HealthGrpcService(shared())).max_decoding_message_size(max))
        .add_service(reflection().build_v1()?.max_decoding_message_size(max))
        .add_service(reflection().build_v1alpha()?.max_decoding_message_size(max)))
}
