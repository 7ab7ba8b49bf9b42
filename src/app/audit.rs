//! Opens a store for an audit, without actors, caches and network.

use std::sync::Arc;

use tokio::{runtime::Handle, task::JoinHandle};

use super::resources::open_store;
use crate::{
    audit::Auditor,
    config::{Settings, StartCheck, StoreKind},
    domain::{
        action::ActionOrigin,
        clock::{Clock, SystemClock},
    },
    metrics::store::StoreMetrics,
    store::{
        CommittedChanges, Store,
        writer::{CommitObserver, CommitWriter},
    },
};

/// An open store with its auditor.
pub struct AuditSession {
    /// Compares the stock with its movements and orders.
    pub auditor: Auditor,
    store: Arc<dyn Store>,
    writer: CommitWriter,
    writer_task: JoinHandle<()>,
}

/// Ignores commits, since an audit has no caches to update.
struct NoopObserver;

impl CommitObserver for NoopObserver {
    fn on_committed(&self, _: &CommittedChanges) {}
}

impl AuditSession {
    /// Opens the store. `drivers` is the runtime of the store and the writer.
    ///
    /// # Errors
    /// There is no shop, another process has it open, or its store does not respond. The error is
    /// one line for the operator.
    pub async fn open(settings: &Settings, drivers: &Handle) -> anyhow::Result<Self> {
        let path = &settings.store.path;
        if settings.store.kind == StoreKind::Embedded && !path.is_dir() {
            anyhow::bail!(
                "there is no shop in {}; set store.path to the folder of the shop to audit",
                path.display()
            );
        }
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        // The audit is there to find damage, and `--deep` lists all of it.
        let mut settings = settings.clone();
        settings.store.check_at_start = StartCheck::Off;
        let store =
            open_store(&settings, drivers, Arc::clone(&clock), StoreMetrics::default()).await?;
        let (writer, writer_task) =
            CommitWriter::start(drivers, Arc::clone(&store), Arc::new(NoopObserver));
        let origin = ActionOrigin::command_line("audit_stock");
        let auditor = Auditor::new(Arc::clone(&store), writer.clone(), clock, origin);
        Ok(Self { auditor, store, writer, writer_task })
    }

    /// Commits what waits, and closes the store.
    pub async fn close(self) {
        self.writer.close();
        if let Err(error) = self.writer_task.await {
            tracing::error!(%error, "the commit writer failed; this is a bug in souk");
        }
        self.store.close().await;
    }
}
