//! The embedded store: its threads and their queues.

use std::sync::Arc;

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::{
    OpenError, SqliteOptions, open,
    read::{self, MAX_QUEUED_READS, ReadJob, ReadWorker},
    threads::WorkerPool,
    write::{SqliteWriter, WriteJob},
};
use crate::{
    domain::{clock::Clock, money::Currency},
    store::{StoreUnavailable, limits::MAX_QUEUED_BATCHES, write_health::WriteHealth},
};

/// Threads that answer reads.
const READER_THREADS: usize = 2;

/// The embedded store.
///
/// Dropping it does the same as [`Store::close`](crate::store::Store::close), while blocking the
/// thread.
pub struct SqliteStore {
    // The readers stop first, since a reader can keep the writer's last checkpoint from completing.
    pub(super) readers: WorkerPool<ReadJob>,
    pub(super) writer: WorkerPool<WriteJob>,
    pub(super) write_health: Arc<WriteHealth>,
    pub(super) currency: Currency,
    pub(super) clock: Arc<dyn Clock>,
}

impl SqliteStore {
    /// Opens the store. Blocks while it reads files.
    ///
    /// # Errors
    /// The folder cannot be used, or holds something else; see [`OpenError`].
    pub fn open(options: SqliteOptions, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let SqliteOptions { dir, currency, low_stock, keep_unpublished, check_at_start } = options;
        let mut opened = open::open_database(&dir, currency, READER_THREADS, check_at_start)?;
        let readers = std::mem::take(&mut opened.readers).into_iter().map(ReadWorker).collect();
        let writer = SqliteWriter::new(opened, low_stock, keep_unpublished)
            .map_err(OpenError::database_unusable(&dir))?;
        let write_health = writer.health();
        Ok(Self {
            readers: WorkerPool::start("souk-read", readers, MAX_QUEUED_READS)
                .map_err(OpenError::folder_unusable(&dir))?,
            writer: WorkerPool::start("souk-write", vec![writer], MAX_QUEUED_BATCHES)
                .map_err(OpenError::folder_unusable(&dir))?,
            write_health,
            currency,
            clock,
        })
    }

    pub(super) async fn run_read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreUnavailable> {
        read::run_read(&self.readers, query).await
    }

    pub(super) async fn run_write<T>(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<T, StoreUnavailable>>) -> WriteJob,
    ) -> Result<T, StoreUnavailable> {
        let (reply, result) = oneshot::channel();
        self.writer.enqueue_job(job(reply)).await.map_err(|_| StoreUnavailable)?;
        result.await.unwrap_or(Err(StoreUnavailable))
    }
}
