//! The store on MongoDB: a replica set that any number of nodes share.
//!
//! A few tasks in each node write. Each applies a batch in one transaction, with few round trips
//! however many commits the batch has: it loads what the batch depends on from a snapshot, plans
//! the batch as every engine does, and writes the records. Of two transactions that write the same
//! record, the server aborts one, which the node then retries; `write` has the details.
//!
//! Reads go to the primary and return only what a majority of the members has.

mod audit;
mod batch;
mod connect;
mod documents;
mod failure;
mod flush;
mod load;
mod migration;
mod nodes;
mod partition;
mod read;
mod retry;
mod schema;
mod transaction;
mod trim;
mod turns;
mod write;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
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
    nodes::NodeMembership,
    read::ReadError,
    turns::StockTurns,
    write::{MongoWriter, QueuedBatch},
};
use super::{
    AppliedBatch, ApplyError, Commit, OutboxChanges, OutboxPage, Store, StoreUnavailable,
    limits::{IDEMPOTENCY_KEY_TTL, MAX_QUEUED_BATCHES},
    writer::STOCK_LANE,
};
use crate::{
    domain::{
        account::{Email, Session, User},
        audit::{AuditPage, EventAudit, IdRange, OrderAudit, ProductAudit},
        cart::{Cart, CartOwner},
        catalog::product::Product,
        clock::{Clock, Timestamp},
        ids::{OrderId, ProductId, SessionId, UserId},
        inventory::{StockLevel, StockMovement},
        order::Order,
    },
    events::OutboxCursor,
    messages::context::{IdempotencyKey, StoredReply},
};

/// Writers of a node: one for stock and orders, one for carts and accounts. Each costs the server a
/// transaction more for the same commits, so more of them make a busy server slower.
const WRITE_LANES: usize = 2;

/// How long a node that stops may take to deregister. If it fails, the others reap its document.
const DEREGISTER_TIMEOUT: Duration = Duration::from_secs(1);

/// The timeout of one page of an audit. By default, the server keeps a snapshot for 300 s.
const AUDIT_TIMEOUT: Duration = Duration::from_secs(240);

/// A node's connection to the shared database.
pub struct MongoStore {
    database: Database,
    membership: Arc<NodeMembership>,
    stock_turns: Arc<StockTurns>,
    /// The runtime that the driver's connections live on.
    runtime: Handle,
    timeout: Duration,
    /// The queue of each writer. Empty once the store is closed.
    queues: Mutex<Vec<mpsc::Sender<QueuedBatch>>>,
    /// Closed when the writers have stopped.
    writers_stopped: watch::Receiver<()>,
    membership_task: AbortHandle,
    closed: AtomicBool,
    clock: Arc<dyn Clock>,
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
        let MongoClients { write_client, read_client } = connect_with_retry(&options).await?;
        let database = write_client.database(&options.database);
        let membership =
            NodeMembership::new(write_client.clone(), database.clone(), Arc::clone(&clock));
        let membership_task = tokio::spawn(Arc::clone(&membership).run()).abort_handle();
        let stock_turns = Arc::new(StockTurns::new(&database));
        let (stopped, writers_stopped) = watch::channel(());
        let queues = (0..WRITE_LANES).map(|lane| {
            let (queue, batches) = mpsc::channel(MAX_QUEUED_BATCHES);
            let writer = MongoWriter {
                lane,
                client: write_client.clone(),
                database: database.clone(),
                membership: Arc::clone(&membership),
                stock_turns: (lane == STOCK_LANE).then(|| Arc::clone(&stock_turns)),
                clock: Arc::clone(&clock),
                low_stock: options.low_stock,
                timeout: options.timeout,
                session: None,
                partition: None,
                partition_number: None,
                is_unavailable: false,
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
            stock_turns,
            runtime: Handle::current(),
            timeout: options.timeout,
            queues,
            writers_stopped,
            membership_task,
            closed: AtomicBool::new(false),
            clock,
        })
    }

    fn lock_queues(&self) -> MutexGuard<'_, Vec<mpsc::Sender<QueuedBatch>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn run_read<T, F>(&self, read: impl FnOnce(Database) -> F) -> Result<T, StoreUnavailable>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ReadError>> + Send + 'static,
    {
        self.run_read_within(self.timeout, read).await
    }

    /// Reads on the driver's runtime. A caller that is dropped in the middle of a read would close
    /// the connection; a spawned read goes on.
    async fn run_read_within<T, F>(
        &self,
        limit: Duration,
        read: impl FnOnce(Database) -> F,
    ) -> Result<T, StoreUnavailable>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ReadError>> + Send + 'static,
    {
        if self.closed.load(Ordering::Acquire) {
            return Err(StoreUnavailable);
        }
        let read = read(self.database.clone());
        // The timeout is created inside the task, because a timer belongs to the runtime that it is
        // created on, and the caller's runtime may stop before the read does.
        let task = self.runtime.spawn(async move { timeout(limit, read).await });
        let error = match task.await {
            Ok(Ok(Ok(result))) => return Ok(result),
            Ok(Ok(Err(error))) => error.to_string(),
            Ok(Err(_)) => "timed out".to_owned(),
            Err(error) => error.to_string(),
        };
        tracing::error!(error, "failed to read from the store");
        Err(StoreUnavailable)
    }
}

#[async_trait]
impl Store for MongoStore {
    fn is_shared(&self) -> bool {
        true
    }

    fn write_lanes(&self) -> usize {
        WRITE_LANES
    }

    async fn wait_for_turn(&self, lane: usize) {
        if lane == STOCK_LANE {
            let turns = Arc::clone(&self.stock_turns);
            // A failed task only means that the node tries without a turn.
            drop(self.runtime.spawn(async move { turns.wait().await }).await);
        }
    }

    async fn apply_in_lane(
        &self,
        lane: usize,
        batch: Arc<[Commit]>,
    ) -> Result<AppliedBatch, ApplyError> {
        let (reply, result) = oneshot::channel();
        let queue = self.lock_queues().get(lane).cloned().ok_or(ApplyError::Unavailable)?;
        queue
            .send(QueuedBatch { commits: batch, reply })
            .await
            .map_err(|_| ApplyError::Unavailable)?;
        drop(queue);
        // The writer drops a reply only when it panics in the middle of its work.
        result.await.unwrap_or(Err(ApplyError::OutcomeUnknown))
    }

    async fn find_cart(&self, owner: UserId) -> Result<Option<Cart>, StoreUnavailable> {
        self.run_read(|database| read::find_cart(database, owner)).await
    }

    async fn list_idle_carts(
        &self,
        before: Timestamp,
        limit: u32,
    ) -> Result<Vec<CartOwner>, StoreUnavailable> {
        self.run_read(|database| read::list_idle_carts(database, before, limit)).await
    }

    async fn list_products(
        &self,
        after: Option<ProductId>,
        limit: u32,
    ) -> Result<Vec<(Product, StockLevel)>, StoreUnavailable> {
        self.run_read(|database| read::list_products(database, after, limit)).await
    }

    async fn find_product(
        &self,
        id: ProductId,
    ) -> Result<Option<(Product, StockLevel)>, StoreUnavailable> {
        self.run_read(|database| read::find_product(database, id)).await
    }

    async fn find_products_by_id(
        &self,
        ids: Vec<ProductId>,
    ) -> Result<Vec<(Product, StockLevel)>, StoreUnavailable> {
        self.run_read(|database| read::find_products_by_id(database, ids)).await
    }

    async fn list_movements(
        &self,
        id: ProductId,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<StockMovement>, StoreUnavailable> {
        self.run_read(|database| read::list_movements(database, id, before, limit)).await
    }

    async fn find_order(&self, id: OrderId) -> Result<Option<Order>, StoreUnavailable> {
        self.run_read(|database| read::find_order(database, id)).await
    }

    async fn list_orders(
        &self,
        of: Option<UserId>,
        before: Option<OrderId>,
        limit: u32,
    ) -> Result<Vec<Order>, StoreUnavailable> {
        self.run_read(|database| read::list_orders(database, of, before, limit)).await
    }

    async fn list_overdue_orders(
        &self,
        now: Timestamp,
        after: Option<(Timestamp, OrderId)>,
        limit: u32,
    ) -> Result<Vec<Order>, StoreUnavailable> {
        self.run_read(move |database| read::list_overdue_orders(database, now, after, limit)).await
    }

    async fn find_user(&self, id: UserId) -> Result<Option<User>, StoreUnavailable> {
        self.run_read(|database| read::find_user(database, id)).await
    }

    async fn find_user_by_email(&self, email: &Email) -> Result<Option<User>, StoreUnavailable> {
        let email = email.clone();
        self.run_read(|database| read::find_user_by_email(database, email)).await
    }

    async fn has_admin(&self) -> Result<bool, StoreUnavailable> {
        self.run_read(read::has_admin).await
    }

    async fn find_session(&self, id: SessionId) -> Result<Option<Session>, StoreUnavailable> {
        self.run_read(|database| read::find_session(database, id)).await
    }

    async fn list_active_sessions(
        &self,
        user: UserId,
        now: Timestamp,
    ) -> Result<Vec<Session>, StoreUnavailable> {
        self.run_read(|database| read::list_active_sessions(database, user, now)).await
    }

    async fn list_sessions_revoked_since(
        &self,
        since: Timestamp,
    ) -> Result<Vec<SessionId>, StoreUnavailable> {
        self.run_read(|database| read::list_sessions_revoked_since(database, since)).await
    }

    async fn find_stored_response(
        &self,
        key: &IdempotencyKey,
    ) -> Result<Option<([u8; 32], StoredReply)>, StoreUnavailable> {
        let key = key.clone();
        let expired_at = self.clock.now().saturating_sub(IDEMPOTENCY_KEY_TTL);
        self.run_read(move |database| read::find_stored_response(database, key, expired_at)).await
    }

    async fn is_in_inbox(&self, id: &str) -> Result<bool, StoreUnavailable> {
        let id = id.to_owned();
        self.run_read(move |database| read::is_in_inbox(database, id)).await
    }

    async fn list_events_after(
        &self,
        cursor: &OutboxCursor,
        limit: u32,
    ) -> Result<OutboxPage, StoreUnavailable> {
        let cursor = cursor.clone();
        self.run_read(move |database| read::list_events_after(database, cursor, limit)).await
    }

    async fn list_changes_after(
        &self,
        cursor: &OutboxCursor,
        limit: u32,
    ) -> Result<OutboxChanges, StoreUnavailable> {
        let cursor = cursor.clone();
        self.run_read(move |database| read::list_changes_after(database, cursor, limit)).await
    }

    async fn outbox_heads(&self) -> Result<OutboxCursor, StoreUnavailable> {
        self.run_read(read::outbox_heads).await
    }

    async fn durable_outbox_heads(&self) -> Result<OutboxCursor, StoreUnavailable> {
        let node = self.membership.id();
        self.run_read(move |database| read::durable_outbox_heads(database, node)).await
    }

    async fn published_cursor(&self) -> Result<OutboxCursor, StoreUnavailable> {
        self.run_read(read::published_cursor).await
    }

    async fn mark_published(&self, cursor: &OutboxCursor) -> Result<(), StoreUnavailable> {
        let cursor = cursor.clone();
        self.run_read(move |database| read::mark_published(database, cursor)).await
    }

    async fn audit_products(
        &self,
        span: IdRange,
        limit: u32,
    ) -> Result<AuditPage<ProductAudit>, StoreUnavailable> {
        self.run_read_within(AUDIT_TIMEOUT, |database| {
            audit::read_product_page(database, span, limit)
        })
        .await
    }

    async fn audit_orders(
        &self,
        span: IdRange,
        limit: u32,
    ) -> Result<AuditPage<OrderAudit>, StoreUnavailable> {
        self.run_read_within(AUDIT_TIMEOUT, |database| {
            audit::read_order_page(database, span, limit)
        })
        .await
    }

    async fn audit_events(&self) -> Result<Vec<EventAudit>, StoreUnavailable> {
        self.run_read_within(AUDIT_TIMEOUT, audit::read_event_ranges).await
    }

    async fn ping(&self) -> Result<(), StoreUnavailable> {
        self.run_read(read::ping).await
    }

    async fn close(&self) {
        self.lock_queues().clear();
        let mut writers_stopped = self.writers_stopped.clone();
        while writers_stopped.changed().await.is_ok() {}
        if self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        self.membership_task.abort();
        let membership = Arc::clone(&self.membership);
        let deregistering = self
            .runtime
            .spawn(async move { timeout(DEREGISTER_TIMEOUT, membership.deregister()).await });
        drop(deregistering.await);
    }
}

impl Drop for MongoStore {
    fn drop(&mut self) {
        self.membership_task.abort();
    }
}
