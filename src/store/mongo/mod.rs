//! The store on MongoDB: a replica set that any number of nodes share.
//!
//! A few tasks in each node write. Each applies a batch in one transaction, with few round trips
//! however many commits the batch has: it loads what the batch depends on from a snapshot, plans
//! the batch as every engine does, and writes the records. Of two transactions that write the same
//! record, the server aborts one, which the node then retries; `transaction_loop` has the details.
//!
//! Reads go to the primary and return only what a majority of the members has.

mod audit;
mod batch;
mod collection_writes;
mod connect;
mod delete;
mod documents;
mod erasure;
mod expected_state;
mod flush;
mod forwarding;
mod integrity;
mod load;
mod login_failures;
mod migration;
mod nodes;
mod order_id_store;
mod partition;
mod payment_store;
mod pricing_store;
mod promotion_uses;
mod read;
mod rules;
mod schema;
mod staff_store;
mod stock_queue;
mod store;
mod transaction;
mod transaction_error;
mod transaction_loop;
mod transaction_timing;
mod trim;
mod webhooks;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use mongodb::Database;
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot, watch},
    task::AbortHandle,
    time::timeout,
};

pub use self::connect::{ConnectError, MongoOptions};
use self::{
    connect::{MongoClients, connect_with_retry},
    forwarding::Forwarder,
    nodes::NodeMembership,
    read::ReadError,
    stock_queue::StockQueue,
    transaction_loop::{MongoWriter, QueuedBatch},
};
use super::{
    StoreUnavailable, limits::MAX_QUEUED_BATCHES, write_health::WriteHealth, writer::STOCK_LANE,
};
use crate::{
    domain::{clock::Clock, money::Currency},
    metrics::store::StoreMetrics,
};

/// Writers of a node: one for stock and orders, one for carts and accounts. Each costs the server a
/// transaction more for the same commits: with two or four for carts, it spends 1.4 and 1.8 times
/// as long on an add (one node, 256 connections).
const WRITE_LANES: usize = 2;

/// A node's connection to the shared database.
pub struct MongoStore {
    database: Database,
    membership: Arc<NodeMembership>,
    stock_queue: Arc<StockQueue>,
    forwarder: Arc<Forwarder>,
    /// The runtime that the driver's connections live on.
    runtime: Handle,
    timeout: Duration,
    /// The queue of each writer. Empty once the store is closed.
    queues: Mutex<Vec<mpsc::Sender<QueuedBatch>>>,
    /// Closed when the writers have stopped.
    writers_stopped: watch::Receiver<()>,
    membership_task: AbortHandle,
    closed: AtomicBool,
    write_health: WriteHealth,
    clock: Arc<dyn Clock>,
    currency: Currency,
}

impl MongoStore {
    /// Connects. Waits until a primary answers, however long that takes, and logs a line every two
    /// seconds. Must be called on the runtime of the driver, which the store's tasks run on.
    ///
    /// # Errors
    /// The database cannot be used, and waiting will not help; see [`ConnectError`].
    pub async fn connect(
        options: MongoOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ConnectError> {
        Self::connect_measured(options, clock, StoreMetrics::default()).await
    }

    /// Connects, with metrics of the transactions.
    ///
    /// # Errors
    /// As with [`connect`](Self::connect).
    pub async fn connect_measured(
        options: MongoOptions,
        clock: Arc<dyn Clock>,
        metrics: StoreMetrics,
    ) -> Result<Self, ConnectError> {
        let MongoClients { write_client, read_client } = connect_with_retry(&options).await?;
        let database = write_client.database(&options.database);
        let membership =
            NodeMembership::new(write_client.clone(), database.clone(), Arc::clone(&clock));
        let forwarder = Arc::clone(membership.forwarder());
        let membership_task = tokio::spawn(Arc::clone(&membership).run()).abort_handle();
        let stock_queue = Arc::new(StockQueue::new(&database));
        let (stopped, writers_stopped) = watch::channel(());
        let queues = (0..WRITE_LANES).map(|lane| {
            let (queue, batches) = mpsc::channel(MAX_QUEUED_BATCHES);
            let writer = MongoWriter {
                lane,
                client: write_client.clone(),
                database: database.clone(),
                membership: Arc::clone(&membership),
                stock_queue: (lane == STOCK_LANE).then(|| Arc::clone(&stock_queue)),
                forwarder: Arc::clone(&forwarder),
                clock: Arc::clone(&clock),
                low_stock: options.low_stock,
                timeout: options.timeout,
                session: None,
                partition: None,
                is_unavailable: false,
                batches_to_load: 0,
                metrics: metrics.clone(),
            };
            let stopped = stopped.clone();
            tokio::spawn(async move {
                writer.run(batches).await;
                drop(stopped);
            });
            queue
        });
        let queues = Mutex::new(queues.collect());
        Ok(Self {
            database: read_client.database(&options.database),
            membership,
            stock_queue,
            forwarder,
            runtime: Handle::current(),
            timeout: options.timeout,
            queues,
            writers_stopped,
            membership_task,
            closed: AtomicBool::new(false),
            write_health: WriteHealth::default(),
            clock,
            currency: options.currency,
        })
    }

    fn lock_queues(&self) -> MutexGuard<'_, Vec<mpsc::Sender<QueuedBatch>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a read with the usual time limit.
    async fn run_read<T, F>(&self, read: impl FnOnce(Database) -> F) -> Result<T, StoreUnavailable>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ReadError>> + Send + 'static,
    {
        self.run_read_within(self.timeout, read).await
    }

    async fn run_read_within<T, F>(
        &self,
        limit: Duration,
        read: impl FnOnce(Database) -> F,
    ) -> Result<T, StoreUnavailable>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ReadError>> + Send + 'static,
    {
        self.run_on_driver("read from the store", limit, read).await
    }

    /// Runs a small change that is not a commit.
    async fn run_update<T, F>(
        &self,
        change: impl FnOnce(Database) -> F,
    ) -> Result<T, StoreUnavailable>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ReadError>> + Send + 'static,
    {
        self.run_on_driver("update the store", self.timeout, change).await
    }

    /// Runs `operation` on the driver's runtime. A caller that is dropped in the middle of it would
    /// close the connection; a spawned task goes on. `purpose` completes "failed to".
    async fn run_on_driver<T, F>(
        &self,
        purpose: &'static str,
        limit: Duration,
        operation: impl FnOnce(Database) -> F,
    ) -> Result<T, StoreUnavailable>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ReadError>> + Send + 'static,
    {
        if self.closed.load(Ordering::Acquire) {
            return Err(StoreUnavailable);
        }
        let operation = operation(self.database.clone());
        let (sender, result) = oneshot::channel();
        let operation = Box::pin(async move {
            // The caller may have been dropped.
            drop(sender.send(operation.await?));
            Ok(())
        });
        self.run_task(purpose, limit, operation).await?;
        result.await.map_err(|_| StoreUnavailable)
    }

    /// Of one type, so that the program has the runtime's code for a task once and not for each
    /// operation.
    async fn run_task(
        &self,
        purpose: &str,
        limit: Duration,
        operation: BoxFuture<'static, Result<(), ReadError>>,
    ) -> Result<(), StoreUnavailable> {
        // The timeout is created inside the task, because a timer belongs to the runtime that it is
        // created on, and the caller's runtime may stop before the operation does.
        let task = self.runtime.spawn(async move { timeout(limit, operation).await });
        let error = match task.await {
            Ok(Ok(Ok(()))) => return Ok(()),
            Ok(Ok(Err(error))) => error.to_string(),
            Ok(Err(_)) => "timed out".to_owned(),
            Err(error) => error.to_string(),
        };
        tracing::error!(error, "failed to {purpose}");
        Err(StoreUnavailable)
    }
}

impl Drop for MongoStore {
    fn drop(&mut self) {
        self.membership_task.abort();
    }
}
