//! What `souk import` needs of a node.

use std::sync::Arc;

use actix::{Actor, Addr};
use tokio::{runtime::Handle, task::JoinHandle};

use super::resources::open_store;
use crate::{
    actors::catalog::{CatalogActor, CatalogService, ImportLookup},
    cache::catalog_cache::CatalogCache,
    config::Settings,
    domain::clock::{Clock, SystemClock},
    http,
    metrics::Metrics,
    store::{
        CommittedChanges, Store,
        observed::ObservedStore,
        writer::{CommitObserver, CommitWriter},
    },
};

/// The store and the catalog's actor, without any cache: an import takes the same memory, however
/// many products the file and the shop have.
pub struct ImportNode {
    /// Applies lines.
    pub catalog: Addr<CatalogActor>,
    store: Arc<dyn Store>,
    writer: CommitWriter,
    writer_task: JoinHandle<()>,
}

/// There is no cache to keep up to date.
struct NoCaches;

impl CommitObserver for NoCaches {
    fn on_committed(&self, _: &CommittedChanges) {}
}

impl ImportNode {
    /// Opens the store and starts the actor. `drivers` is the runtime of the store and the writer;
    /// it must outlive the node.
    ///
    /// # Errors
    /// The store cannot be opened. The error is one line for the operator.
    pub async fn start(settings: &Settings, drivers: &Handle) -> anyhow::Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let metrics = Metrics::new();
        let store =
            open_store(settings, drivers, Arc::clone(&clock), metrics.store.clone()).await?;
        let store: Arc<dyn Store> = Arc::new(ObservedStore::new(store, metrics.store.clone()));
        let (writer, writer_task) =
            CommitWriter::start(drivers, Arc::clone(&store), Arc::new(NoCaches));
        let service = CatalogService {
            catalog_cache: Arc::new(CatalogCache::new(
                http::render_product,
                &settings.catalog.language,
            )),
            store: Arc::clone(&store),
            writer: writer.clone(),
            follower: None,
            clock,
            import_lookup: ImportLookup::Store,
        };
        let catalog = CatalogActor::new(service, metrics.actors.mailbox("catalog")).start();
        Ok(Self { catalog, store, writer, writer_task })
    }

    /// Commits what waits, and closes the store.
    pub async fn stop(self) {
        self.writer.close();
        if let Err(error) = self.writer_task.await {
            tracing::error!(%error, "the commit writer failed; this is a bug in souk");
        }
        self.store.close().await;
    }
}
