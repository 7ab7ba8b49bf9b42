//! A node with its network side, from the start to the end.

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use tokio::{runtime::Handle, sync::watch, task::JoinHandle};

use super::{
    Node, broker_wiring::broker_uri, domain_options::configured_admin, resources::bind_listener,
};
use crate::{
    actors::accounts::bootstrap::FirstAdmin,
    config::{Settings, StoreKind},
    http::{self, AppState, Server, ServerOptions},
};

/// How long requests that have begun may take to end when the node stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// A node with its network side, ready to run.
pub struct Application {
    node: Node,
    address: SocketAddr,
    abandoned_after: Duration,
    network: NetworkSide,
}

/// The network side of a node.
struct NetworkSide {
    server: Server,
    first_admin: Option<FirstAdmin>,
    has_admin: bool,
    services: Arc<AppState>,
    stopping: watch::Sender<bool>,
}

impl Application {
    /// Starts everything and binds the socket; requests are answered once it runs.
    ///
    /// # Errors
    /// One line that says what to do.
    pub async fn build(settings: &Settings, drivers: &Handle) -> anyhow::Result<Self> {
        let bind = settings.http.bind;
        let listener = bind_listener(bind).with_context(|| {
            format!("http.bind: {bind} cannot be used; is another program listening there?")
        })?;
        let address = listener.local_addr()?;
        let mut node = start_node(&listener, settings, drivers).await?;
        match Self::open_network(&mut node, listener, settings, drivers).await {
            Ok(open) => Ok(Self {
                node,
                address,
                abandoned_after: settings.cart.abandoned_after,
                network: open,
            }),
            Err(error) => {
                // What has begun on the drivers' runtime must not outlive it.
                node.stop().await;
                Err(error)
            }
        }
    }

    /// Connects a node to its broker, if there is to be one, and to its clients.
    async fn open_network(
        node: &mut Node,
        listener: TcpListener,
        settings: &Settings,
        drivers: &Handle,
    ) -> anyhow::Result<NetworkSide> {
        if let Some(uri) = broker_uri(settings)? {
            node.connect_broker(uri, settings, drivers);
        }
        let first_admin = ensure_admin(node, settings).await?;
        let has_admin = node.context.store.has_admin().await?;
        let (stopping, stops) = watch::channel(false);
        let services = node.build_http_state(settings, stops)?;
        let listen = ServerOptions {
            listener,
            workers: settings.http.workers,
            allowed_origins: settings.http.cors.allowed_origins.clone(),
            shutdown_timeout: DRAIN_TIMEOUT,
        };
        Ok(NetworkSide {
            server: http::start_http_server(listen, Arc::clone(&services))?,
            first_admin,
            has_admin,
            services,
            stopping,
        })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The admin that was made at this start, when there was none.
    #[must_use]
    pub const fn first_admin(&self) -> Option<&FirstAdmin> {
        self.network.first_admin.as_ref()
    }

    /// Whether there is anyone who may change the catalog.
    #[must_use]
    pub const fn has_admin(&self) -> bool {
        self.network.has_admin
    }

    /// Whether there is nothing to sell yet.
    #[must_use]
    pub fn catalog_is_empty(&self) -> bool {
        self.node.context.caches.catalog_snapshot.is_empty()
    }

    /// Serves until `stop` is done, then ends in order: not ready, requests answered, commits applied, store closed.
    ///
    /// # Errors
    /// The server failed.
    pub async fn run_until(self, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
        let Self {
            node,
            abandoned_after,
            network: NetworkSide { server, services, stopping, .. },
            ..
        } = self;
        let background = node.spawn_background_tasks(services, abandoned_after);
        let handle = server.handle();
        let serving = actix_rt::spawn(server);
        let ended = tokio::select! {
            ended = serving => Some(ended),
            () = stop => None,
        };
        tracing::info!("stopping: no new requests, those that have begun are answered");
        // Nobody listens when no feed is open.
        stopping.send_replace(true);
        handle.stop(true).await;
        background.iter().for_each(JoinHandle::abort);
        node.stop().await;
        match ended {
            Some(ended) => ended?.context("the HTTP server failed"),
            None => Ok(()),
        }
    }
}

/// Starts a node. While it waits for its store, the socket says that the process lives and is not ready.
async fn start_node(
    listener: &TcpListener,
    settings: &Settings,
    drivers: &Handle,
) -> anyhow::Result<Node> {
    if settings.store.kind == StoreKind::Embedded {
        return Node::start(settings, drivers).await;
    }
    let waiting = http::start_startup_server(listener.try_clone()?)?;
    let handle = waiting.handle();
    let serving = actix_rt::spawn(waiting);
    let node = Node::start(settings, drivers).await;
    handle.stop(false).await;
    serving.await?.context("the HTTP server failed")?;
    node
}

/// Sees to it that there is an admin. A shared store gets one when it is configured, and not by whichever node comes first.
async fn ensure_admin(node: &Node, settings: &Settings) -> anyhow::Result<Option<FirstAdmin>> {
    let configured = configured_admin(settings)?;
    if configured.is_none() && node.context.store.is_shared() {
        return Ok(None);
    }
    Ok(node.bootstrap.ensure_admin(configured).await?)
}
