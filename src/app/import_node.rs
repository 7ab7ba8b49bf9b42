//! What `souk import` needs of a node.

use std::{os::unix::fs::MetadataExt as _, path::PathBuf, sync::Arc};

use actix::{Actor, Addr};
use secrecy::ExposeSecret as _;
use tokio::{runtime::Handle, task::JoinHandle};
use uuid::Uuid;

use super::resources::open_store;
use crate::{
    actors::catalog::{CatalogActor, CatalogService, ImportLookup},
    cache::catalog_cache::CatalogCache,
    config::{Settings, StoreKind, StoreSettings},
    domain::clock::{Clock, SystemClock},
    http,
    metrics::Metrics,
    store::{
        CommittedChanges, Store,
        observed::ObservedStore,
        sqlite::DATABASE_FILE,
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
    /// Removed when the node is dropped.
    _temporary: Option<TemporaryFolder>,
}

/// The folder of a store that is only needed for a dry run.
struct TemporaryFolder(PathBuf);

impl TemporaryFolder {
    /// Chooses a name that nobody can guess. The store creates the folder.
    fn new() -> Self {
        let name = format!("souk-dry-run-{}", Uuid::from_u128(rand::random()));
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(folder = %self.0.display(), %error, "failed to remove a folder");
        }
    }
}

/// Tells the store of these settings from others, once it is open. A database that was restored in
/// its place is another store. The text may contain a password.
#[must_use]
pub fn store_identity(settings: &StoreSettings) -> String {
    let path = std::path::absolute(&settings.path).unwrap_or_else(|_| settings.path.clone());
    match settings.kind {
        StoreKind::Embedded => {
            let file = path.join(DATABASE_FILE).metadata().ok();
            let file = file.map(|file| (file.ino(), file.created().ok()));
            format!("{} {file:?}", path.display())
        }
        StoreKind::Mongodb => {
            let uri = settings.uri.as_ref().map(|uri| uri.expose_secret().to_owned());
            let database = settings.database.as_deref().unwrap_or_default();
            format!("{} {database}", uri.unwrap_or_default())
        }
    }
}

/// There is no cache to keep up to date.
struct NoCaches;

impl CommitObserver for NoCaches {
    fn on_committed(&self, _: &CommittedChanges) {}
}

impl ImportNode {
    /// Opens the store and starts the actor. `drivers` is the runtime of the store and the writer;
    /// it must outlive the node. A dry run does not create a store where there is none: it has an
    /// empty one elsewhere.
    ///
    /// # Errors
    /// The store cannot be opened. The error is one line for the operator.
    pub async fn start(
        settings: &Settings,
        drivers: &Handle,
        is_dry_run: bool,
    ) -> anyhow::Result<Self> {
        let mut settings = settings.clone();
        let has_store = settings.store.kind == StoreKind::Mongodb
            || settings.store.path.join(DATABASE_FILE).exists();
        let temporary = (is_dry_run && !has_store).then(TemporaryFolder::new);
        if let Some(TemporaryFolder(path)) = &temporary {
            settings.store.path.clone_from(path);
        }
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let metrics = Metrics::new();
        let store =
            open_store(&settings, drivers, Arc::clone(&clock), metrics.store.clone()).await?;
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
        Ok(Self { catalog, store, writer, writer_task, _temporary: temporary })
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
