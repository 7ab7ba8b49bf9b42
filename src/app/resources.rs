//! Opening what a node works on: its store and its socket.

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
};

use tokio::net::TcpSocket;

use crate::{
    config::{BrokerKind, Settings, StoreKind},
    domain::clock::Clock,
    store::{
        Store,
        mongo::{MongoOptions, MongoStore},
        sqlite::{SqliteOptions, SqliteStore},
    },
};

/// Opens the store; one that is not up yet is waited for.
pub(super) async fn open_store(
    settings: &Settings,
    drivers: &tokio::runtime::Handle,
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
            // The driver's connections belong to the runtime they are made on.
            Ok(Arc::new(drivers.spawn(MongoStore::connect(options, clock)).await??))
        }
        _ => {
            let dir = settings.store.path.clone();
            let options = SqliteOptions { dir, currency, low_stock, keep_unpublished };
            Ok(Arc::new(SqliteStore::open(options, clock)?))
        }
    }
}

/// Connections that the system takes in before they are accepted. The standard library asks for 128: of a burst beyond that, each
/// connection waits for seconds before it is tried again.
const LISTEN_BACKLOG: u32 = 4096;

/// A socket that connections wait at.
pub(super) fn bind_listener(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // So that a restart need not wait for connections that have just ended.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(LISTEN_BACKLOG)?.into_std()
}
