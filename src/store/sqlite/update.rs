//! Small changes that are no commits.

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::{SqliteStore, write::WriteJob};
use crate::store::StoreUnavailable;

/// A change that waits for the writing thread.
pub(super) type Update = Box<dyn FnOnce(&mut Connection) + Send>;

impl SqliteStore {
    /// Runs `change` on the writing thread, between two batches. `purpose` completes "failed to".
    pub(super) async fn run_update<T: Send + 'static>(
        &self,
        purpose: &'static str,
        change: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreUnavailable> {
        self.run_update_as(WriteJob::Update, purpose, change).await
    }

    /// The same for a change that a failure of the power may undo.
    pub(super) async fn run_lazy_update<T: Send + 'static>(
        &self,
        purpose: &'static str,
        change: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreUnavailable> {
        self.run_update_as(WriteJob::LazyUpdate, purpose, change).await
    }

    async fn run_update_as<T: Send + 'static>(
        &self,
        job: fn(Update) -> WriteJob,
        purpose: &'static str,
        change: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreUnavailable> {
        let (reply, result) = oneshot::channel();
        let update: Update = Box::new(move |connection| {
            let changed = change(connection).map_err(|error| {
                tracing::error!(%error, "failed to {purpose}");
                StoreUnavailable
            });
            // Sending fails when the caller has gone.
            drop(reply.send(changed));
        });
        self.writer.enqueue_job(job(update)).await.map_err(|_| StoreUnavailable)?;
        result.await.unwrap_or(Err(StoreUnavailable))
    }
}
