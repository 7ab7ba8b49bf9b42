//! A node with its network side: from the start until it has stopped.

use std::{
    io::ErrorKind,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use tokio::{runtime::Handle, sync::watch, task::JoinHandle};

use super::{
    broker_wiring::broker_uri,
    mail_wiring::mail_options,
    node::Node,
    options::{DRAIN_TIMEOUT, configured_admin, grpc_server_options, server_options},
    resources::bind_listener,
    webhook_wiring::webhook_options,
};
use crate::{
    actors::accounts::admin_bootstrap::FirstAdmin,
    admission::stop_phase::StopPhase,
    config::{Settings, StoreKind},
    grpc::GrpcServer,
    http::{self, AppState, Server, ServerHandle},
};

/// How long workers have to take over the connections that were accepted last.
const HANDOVER_TIME: Duration = Duration::from_millis(50);

/// A node with its network side, ready to run.
pub struct Application {
    node: Node,
    address: SocketAddr,
    ops_address: Option<SocketAddr>,
    grpc_address: Option<SocketAddr>,
    abandoned_after: Duration,
    shutdown_delay: Duration,
    network: NetworkSide,
}

/// What only a node that serves requests has.
struct NetworkSide {
    server: Server,
    /// The server for operators, if it has a port of its own.
    ops_server: Option<Server>,
    /// The gRPC server, if it is enabled.
    grpc_server: Option<GrpcServer>,
    first_admin: Option<FirstAdmin>,
    has_admin: bool,
    state: Arc<AppState>,
    stop_phase: watch::Sender<StopPhase>,
}

impl Application {
    /// Binds the socket and starts all components but the HTTP server: requests wait until
    /// [`Self::run_until`].
    ///
    /// # Errors
    /// The address is in use, or a component cannot start. The error is one line for the operator.
    pub async fn build(settings: &Settings, drivers: &Handle) -> anyhow::Result<Self> {
        let listeners = Listeners::bind(settings)?;
        let address = listeners.http.local_addr()?;
        let ops_address = listeners.ops.as_ref().map(TcpListener::local_addr).transpose()?;
        let grpc_address = listeners.grpc.as_ref().map(TcpListener::local_addr).transpose()?;
        let mut node = start_node(&listeners, settings, drivers).await?;
        match Self::open_network(&mut node, listeners, settings, drivers).await {
            Ok(network) => {
                let abandoned_after = settings.cart.abandoned_after;
                let shutdown_delay = settings.http.shutdown_delay;
                Ok(Self {
                    node,
                    address,
                    ops_address,
                    grpc_address,
                    abandoned_after,
                    shutdown_delay,
                    network,
                })
            }
            Err(error) => {
                // The node's tasks on the drivers' runtime must end before the runtime does.
                node.stop().await;
                Err(error)
            }
        }
    }

    /// Connects the broker, if one is configured, ensures an admin and builds the HTTP server.
    ///
    /// The broker comes first, since the HTTP state reports its status.
    async fn open_network(
        node: &mut Node,
        listeners: Listeners,
        settings: &Settings,
        drivers: &Handle,
    ) -> anyhow::Result<NetworkSide> {
        if let Some(uri) = broker_uri(settings)? {
            node.connect_broker(uri, settings, drivers);
        }
        if let Some(listener) = listeners.cluster {
            node.start_forwarding(listener, settings)?;
        }
        match mail_options(settings)? {
            Some(options) => node.start_mail(options, drivers)?,
            None => tracing::info!("no mail is sent, because mail.uri is not set"),
        }
        node.start_webhook_dispatcher(webhook_options(settings)?, drivers)?;
        let first_admin = ensure_admin(node, settings).await?;
        let has_admin = node.context.store.has_admin().await?;
        let (stop_phase, receiver) = watch::channel(StopPhase::Running);
        let state = node.build_http_state(settings, receiver)?;
        let options = server_options(settings, listeners.http);
        let grpc_server = listeners.grpc.map(|listener| {
            let options = grpc_server_options(settings, listener, drivers)?;
            GrpcServer::new(options, node.build_grpc_state(settings, &state))
        });
        let ops_server =
            listeners.ops.map(|listener| http::build_ops_server(listener, Arc::clone(&state)));
        Ok(NetworkSide {
            ops_server: ops_server.transpose()?,
            grpc_server: grpc_server.transpose()?,
            server: http::build_http_server(options, Arc::clone(&state))?,
            first_admin,
            has_admin,
            state,
            stop_phase,
        })
    }

    /// The address of the socket; the port is the actual one when the settings say 0.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of the socket for operators, if it is not the main one.
    #[must_use]
    pub const fn ops_address(&self) -> Option<SocketAddr> {
        self.ops_address
    }

    /// The address of the socket for gRPC, if it is enabled.
    #[must_use]
    pub const fn grpc_address(&self) -> Option<SocketAddr> {
        self.grpc_address
    }

    /// The admin account that this start created, if there was none.
    #[must_use]
    pub const fn first_admin(&self) -> Option<&FirstAdmin> {
        self.network.first_admin.as_ref()
    }

    /// Whether the shop has an admin.
    #[must_use]
    pub const fn has_admin(&self) -> bool {
        self.network.has_admin
    }

    /// Whether the catalog has no products.
    #[must_use]
    pub fn catalog_is_empty(&self) -> bool {
        self.node.context.listeners.catalog_cache.is_empty()
    }

    /// Serves requests until `stop` completes, then shuts down in order: reports not ready for
    /// `http.shutdown_delay`, answers requests in progress, commits what waits, closes the store.
    ///
    /// # Errors
    /// The HTTP server failed.
    pub async fn run_until(self, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
        let Self {
            node,
            abandoned_after,
            shutdown_delay,
            network: NetworkSide { server, ops_server, grpc_server, state, stop_phase, .. },
            ..
        } = self;
        let background_tasks = node.spawn_background_tasks(state, abandoned_after);
        let ops_handle = ops_server.as_ref().map(Server::handle);
        // Stopped by its handle, after the requests in progress.
        drop(ops_server.map(actix_rt::spawn));
        let handle = server.handle();
        let mut server_task = actix_rt::spawn(server);
        let mut grpc_task = grpc_server.map(GrpcServer::spawn);
        let stop_when_noticed = async {
            stop.await;
            stop_phase.send_replace(StopPhase::NotReady);
            if !shutdown_delay.is_zero() {
                tracing::info!(delay = ?shutdown_delay, "stopping: not ready, and still serving");
                tokio::time::sleep(shutdown_delay).await;
            }
        };
        let server_result = tokio::select! {
            result = &mut server_task => Some(flatten_server_result(result)),
            result = wait_for_grpc(&mut grpc_task) => Some(result),
            () = stop_when_noticed => None,
        };
        tracing::info!("stopping: finishing requests in progress and refusing new ones");
        // Ends the open event feeds, which would otherwise use up the drain timeout.
        stop_phase.send_replace(StopPhase::Draining);
        // Both have the same time for the requests in progress.
        let ((), grpc_result) = tokio::join!(drain_http(&handle), drain_grpc(grpc_task));
        if let Some(ops_handle) = ops_handle {
            ops_handle.stop(false).await;
        }
        background_tasks.iter().for_each(JoinHandle::abort);
        node.stop().await;
        server_result.unwrap_or(Ok(())).and(grpc_result)
    }
}

fn flatten_server_result(
    result: Result<std::io::Result<()>, tokio::task::JoinError>,
) -> anyhow::Result<()> {
    result?.context("the HTTP server failed")
}

type GrpcTask = JoinHandle<anyhow::Result<()>>;

/// Waits until the gRPC server ends, which is then gone. Without one, it waits forever.
async fn wait_for_grpc(task: &mut Option<GrpcTask>) -> anyhow::Result<()> {
    let Some(running) = task else { return std::future::pending().await };
    let result = running.await;
    *task = None;
    result?.context("the gRPC server failed")
}

/// Finishes the requests in progress, and refuses connections.
async fn drain_http(handle: &ServerHandle) {
    // Workers that stop drop the connections that they have been handed and not looked at yet.
    handle.pause().await;
    tokio::time::sleep(HANDOVER_TIME).await;
    handle.stop(true).await;
}

/// Waits until the calls in progress have ended. Those that have not when the time is over end with
/// the process.
async fn drain_grpc(mut task: Option<GrpcTask>) -> anyhow::Result<()> {
    if task.is_none() {
        return Ok(());
    }
    tokio::time::timeout(DRAIN_TIMEOUT, wait_for_grpc(&mut task)).await.unwrap_or(Ok(()))
}

/// The sockets of a node. They listen before the store is open.
struct Listeners {
    http: TcpListener,
    /// For operators, if it is not the main one.
    ops: Option<TcpListener>,
    /// For gRPC, if it is enabled.
    grpc: Option<TcpListener>,
    /// For other nodes, if it is enabled.
    cluster: Option<TcpListener>,
}

impl Listeners {
    fn bind(settings: &Settings) -> anyhow::Result<Self> {
        let bind = |key, address| {
            bind_listener(address).map_err(|error| explain_bind_error(key, address, &error))
        };
        Ok(Self {
            http: bind("http.bind", settings.http.bind)?,
            ops: settings.ops.bind.map(|address| bind("ops.bind", address)).transpose()?,
            grpc: settings.grpc.bind.map(|address| bind("grpc.bind", address)).transpose()?,
            cluster: settings
                .cluster
                .bind
                .map(|address| bind("cluster.bind", address))
                .transpose()?,
        })
    }
}

/// Says what to do about an address that cannot be used.
fn explain_bind_error(key: &str, address: SocketAddr, error: &std::io::Error) -> anyhow::Error {
    let what_to_do = match error.kind() {
        ErrorKind::AddrInUse => "another program listens there; stop it, or use another port",
        ErrorKind::PermissionDenied => {
            "this user may not use the port; use one from 1024 on, and a proxy in front"
        }
        ErrorKind::AddrNotAvailable => {
            "this machine has no such address; 127.0.0.1 is for itself, 0.0.0.0 for all of its \
             addresses"
        }
        _ => "the address cannot be used",
    };
    anyhow::anyhow!("{key}: {address}: {what_to_do} ({error})")
}

/// Starts a node. While it waits for a database server, its sockets answer health checks: alive,
/// and not ready.
async fn start_node(
    listeners: &Listeners,
    settings: &Settings,
    drivers: &Handle,
) -> anyhow::Result<Node> {
    if settings.store.kind == StoreKind::Embedded {
        return Node::start(settings, drivers).await;
    }
    let build = |listener: &TcpListener, serves_operations| {
        http::build_startup_server(listener.try_clone()?, serves_operations)
    };
    let mut servers = vec![build(&listeners.http, listeners.ops.is_none())?];
    if let Some(ops) = &listeners.ops {
        servers.push(build(ops, true)?);
    }
    let running: Vec<_> =
        servers.into_iter().map(|server| (server.handle(), actix_rt::spawn(server))).collect();
    let node = Node::start(settings, drivers).await;
    for (handle, task) in running {
        handle.stop(false).await;
        task.await?.context("the HTTP server failed")?;
    }
    node
}

/// Ensures that there is an admin account. On a shared store it is the configured one, and never
/// one that whichever node starts first would generate.
async fn ensure_admin(node: &Node, settings: &Settings) -> anyhow::Result<Option<FirstAdmin>> {
    let configured = configured_admin(settings)?;
    if configured.is_none() && node.context.store.is_shared() {
        return Ok(None);
    }
    Ok(node.admin_bootstrap.ensure_admin(configured).await?)
}
