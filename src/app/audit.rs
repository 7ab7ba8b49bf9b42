//! A store that is opened for an audit alone: without actors, caches and network.

use std::sync::Arc;

use tokio::task::JoinHandle;

use super::open_store;
use crate::{
    audit::Auditor,
    config::{Settings, StoreKind},
    domain::clock::SystemClock,
    store::{
        CommittedChanges, Store,
        writer::{CommitObserver, CommitWriter},
    },
};

/// A shop that is audited.
pub struct AuditSession {
    /// Who audits it.
    pub auditor: Auditor,
    store: Arc<dyn Store>,
    writer: CommitWriter,
    writer_task: JoinHandle<()>,
}

/// Nothing of it is kept in memory.
struct NoopObserver;

impl CommitObserver for NoopObserver {
    fn on_committed(&self, _: &CommittedChanges) {}
}

impl AuditSession {
    /// Opens the store. `drivers` is the runtime that store and writer live on.
    ///
    /// # Errors
    /// One line that says what to do: there is no shop, it is open, or its store cannot be used.
    pub async fn open(
        settings: &Settings,
        drivers: &tokio::runtime::Handle,
    ) -> anyhow::Result<Self> {
        let path = &settings.store.path;
        if settings.store.kind == StoreKind::Embedded && !path.is_dir() {
            anyhow::bail!(
                "there is no shop in {} to audit; set store.path to the folder of one",
                path.display()
            );
        }
        let store = open_store(settings, drivers, Arc::new(SystemClock)).await?;
        let (writer, writer_task) =
            CommitWriter::start(drivers, Arc::clone(&store), Arc::new(NoopObserver));
        let auditor = Auditor::new(Arc::clone(&store), writer.clone(), Arc::new(SystemClock));
        Ok(Self { auditor, store, writer, writer_task })
    }

    /// Applies what waits, and closes the store.
    pub async fn close(self) {
        self.writer.close();
        if self.writer_task.await.is_err() {
            tracing::error!("the writer had panicked");
        }
        self.store.close().await;
    }
}
