//! Opens what a node works on: its store and its socket.

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
};

use tokio::{net::TcpSocket, runtime::Handle};

use crate::{
    config::{BrokerKind, Settings, StartCheck, StoreKind},
    domain::clock::Clock,
    store::{
        Store,
        mongo::{MongoOptions, MongoStore},
        sqlite::{SqliteOptions, SqliteStore},
    },
};

/// How many connections the operating system queues before they are accepted. The standard library
/// uses 128. In a burst beyond that, clients wait for seconds before they retry.
const LISTEN_BACKLOG: u32 = 4096;

/// Opens the store. Waits for a database server that is not up yet.
pub(super) async fn open_store(
    settings: &Settings,
    drivers: &Handle,
    clock: Arc<dyn Clock>,
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
            Ok(Arc::new(drivers.spawn(MongoStore::connect(options, clock)).await??))
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

/// Binds a socket and listens. Connections queue up until a server accepts them.
pub(super) fn bind_listener(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Otherwise a restart fails while connections of the last run are in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(LISTEN_BACKLOG)?.into_std()
}
