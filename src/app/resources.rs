//! Opens what a node works on: its store and its socket.

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{net::TcpSocket, runtime::Handle};

use crate::{
    config::{BrokerKind, Settings, StartCheck, StoreKind},
    domain::clock::Clock,
    metrics::store::StoreMetrics,
    store::{
        Store,
        mongo::{MongoOptions, MongoStore},
        sqlite::{SqliteOptions, SqliteStore},
    },
};

/// How many connections the operating system queues before they are accepted. The standard library
/// uses 128. In a burst beyond that, clients wait for seconds before they retry.
const LISTEN_BACKLOG: u32 = 4096;

/// The send buffer of a connection in the kernel, which keeps what a client has not taken yet.
const SEND_BUFFER_BYTES: u32 = 256 * 1024;

/// Descriptors for everything but clients' connections: the store and its readers, the broker,
/// listeners, the port for operators, and those that are accepted and not yet refused.
const RESERVED_DESCRIPTORS: u64 = 512;

/// The most connections at a time, however many descriptors there are. Each takes some 20 KiB, and
/// more while its client is slow.
const MAX_CONNECTIONS: u64 = 16_384;

/// Opens the store. Waits for a database server that is not up yet.
pub(super) async fn open_store(
    settings: &Settings,
    drivers: &Handle,
    clock: Arc<dyn Clock>,
    metrics: StoreMetrics,
) -> anyhow::Result<Arc<dyn Store>> {
    let (currency, low_stock) =
        (settings.shop.currency, u64::from(settings.catalog.low_stock_threshold));
    let keep_unpublished = settings.broker.kind == BrokerKind::Rabbitmq;
    match (settings.store.kind, &settings.store.uri, &settings.store.database) {
        (StoreKind::Mongodb, Some(uri), Some(database)) => {
            let (uri, database, timeout) =
                (uri.clone(), database.clone(), settings.http.request_timeout);
            let options =
                MongoOptions { uri, database, currency, low_stock, keep_unpublished, timeout };
            // The driver's connections belong to the runtime on which they are opened.
            let connect = MongoStore::connect_measured(options, clock, metrics);
            Ok(Arc::new(drivers.spawn(connect).await??))
        }
        _ => {
            let dir = settings.store.path.clone();
            let check_at_start = settings.store.check_at_start == StartCheck::Quick;
            let options =
                SqliteOptions { dir, currency, low_stock, keep_unpublished, check_at_start };
            Ok(Arc::new(SqliteStore::open(options, clock)?))
        }
    }
}

/// The fewest descriptors with which a process can start.
const MIN_DESCRIPTORS: u64 = 256;

/// Raises the limit of open descriptors, and refuses one with which the process would fail later.
///
/// # Errors
/// The limit is too low. The error is one line for the operator.
pub fn require_descriptors() -> anyhow::Result<()> {
    let descriptors = raise_descriptor_limit();
    anyhow::ensure!(
        descriptors >= MIN_DESCRIPTORS,
        "the limit of open files is {descriptors}, and souk needs {MIN_DESCRIPTORS} or more; raise \
         the hard limit: ulimit -Hn in a shell, LimitNOFILE= in a unit of systemd"
    );
    Ok(())
}

/// Raises the soft limit of open descriptors to the hard one, and returns it.
///
/// The soft limit is often 1,024, for programs that use `select`.
pub(super) fn raise_descriptor_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => raised.current.unwrap_or(u64::MAX),
        Err(error) => {
            tracing::warn!(%error, "failed to raise the limit of open descriptors");
            limit.current.unwrap_or(u64::MAX)
        }
    }
}

/// The connections that a process with `descriptors` may hold, some of them reserved.
pub(super) fn connection_capacity(descriptors: u64) -> usize {
    // With few descriptors, half of them.
    let free = descriptors.saturating_sub(RESERVED_DESCRIPTORS).max(descriptors / 2);
    let capacity = free.min(MAX_CONNECTIONS);
    if capacity < 1024 {
        tracing::warn!(descriptors, capacity, "the limit of open descriptors is low; raise it");
    }
    usize::try_from(capacity).unwrap_or(usize::MAX)
}

/// Binds a socket and listens. Connections queue up until a server accepts them.
pub(super) fn bind_listener(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Otherwise a restart fails while connections of the last run are in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    // Accepted connections inherit it.
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.bind(address)?;
    socket.listen(LISTEN_BACKLOG)?.into_std()
}
