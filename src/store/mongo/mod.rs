//! The cluster's engine: MongoDB, a replica set that any number of nodes share.
//!
//! One task of each node writes: a batch is one transaction, in few round trips however many commits are in it. It reads from a snapshot,
//! decides as every engine does, and writes records that are as it has read them; the server sees to it that of two transactions that
//! write the same record one fails, which is then run again. Reads are of what a majority has, from the primary.

mod audit;
mod connect;
mod documents;
mod failure;
mod flush;
mod load;
mod migration;
mod nodes;
mod read;
mod schema;
mod transaction;
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
use secrecy::SecretString;
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot, watch},
    task::AbortHandle,
    time::timeout,
};

pub use self::connect::ConnectError;
use self::{
    connect::{MongoClients, connect_with_retry},
    nodes::NodeMembership,
    read::ReadError,
    write::{MongoWriter, QueuedBatch},
};
use super::{
    AppliedBatch, ApplyError, Commit, Store, StoreUnavailable,
    limits::{IDEMPOTENCY_KEY_TTL, MAX_QUEUED_BATCHES},
};
use crate::{
    domain::{
        account::{Email, Session, User},
        audit::{AuditPage, EventAudit, IdRange, OrderAudit, ProductAudit},
        cart::{Cart, CartOwner},
        catalog::product::Product,
        clock::{Clock, Timestamp},
        ids::{EventId, OrderId, ProductId, SessionId, UserId},
        inventory::{StockLevel, StockMovement},
        money::Currency,
        order::Order,
    },
    events::OutboxEvent,
    messages::change::{IdempotencyKey, StoredReply},
};

/// How long to say goodbye to the other nodes. They find out anyway.
const DEREGISTER_TIMEOUT: Duration = Duration::from_secs(1);

/// The longest that a page of an audit takes. The server keeps the moment it is read from for 300 s.
const AUDIT_TIMEOUT: Duration = Duration::from_secs(240);

/// How to reach the store.
#[derive(Debug, Clone)]
pub struct MongoOptions {
    /// The replica set's connection string.
    pub uri: SecretString,
    /// The database.
    pub database: String,
    /// The currency of every price in it, for good.
    pub currency: Currency,
    /// Stock that falls to this or below is told as low.
    pub low_stock: u64,
    /// There is a broker: events are kept until they were published, however many that are. It is noted in the store, for good.
    pub keep_unpublished: bool,
    /// The longest that anything waits for the server; not above what callers wait for.
    pub timeout: Duration,
}

/// The cluster's store.
pub struct MongoStore {
    database: Database,
    membership: Arc<NodeMembership>,
    /// The runtime that the driver's connections live on.
    runtime: Handle,
    timeout: Duration,
    queue: Mutex<Option<mpsc::Sender<QueuedBatch>>>,
    /// Closed when the writer has ended.
    writer_stopped: watch::Receiver<()>,
    membership_task: AbortHandle,
    closed: AtomicBool,
    clock: Arc<dyn Clock>,
}

impl MongoStore {
    /// Connects, and waits for as long as it takes until a primary answers, with a log line every two seconds. Has to be called on the
    /// runtime that the store shall live on.
    ///
    /// # Errors
    /// The database cannot be used, and waiting would not change that; see [`ConnectError`].
    pub async fn connect(
        options: MongoOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ConnectError> {
        let MongoClients { write_client: client, read_client: reading } =
            connect_with_retry(&options).await?;
        let database = client.database(&options.database);
        let node = NodeMembership::new(client.clone(), database.clone());
        let watching = tokio::spawn(Arc::clone(&node).run_maintenance()).abort_handle();
        let (queue, batches) = mpsc::channel(MAX_QUEUED_BATCHES);
        let (ended, writing) = watch::channel(());
        let writer = MongoWriter {
            client,
            database,
            membership: Arc::clone(&node),
            low_stock: options.low_stock,
            timeout: options.timeout,
            session: None,
            is_unavailable: false,
        };
        tokio::spawn(async move {
            writer.run(batches).await;
            drop(ended);
        });
        Ok(Self {
            database: reading.database(&options.database),
            membership: node,
            runtime: Handle::current(),
            timeout: options.timeout,
            queue: Mutex::new(Some(queue)),
            writer_stopped: writing,
            membership_task: watching,
            closed: AtomicBool::new(false),
            clock,
        })
    }

    fn lock_queue(&self) -> MutexGuard<'_, Option<mpsc::Sender<QueuedBatch>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn run_read<T, F>(&self, read: impl FnOnce(Database) -> F) -> Result<T, StoreUnavailable>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ReadError>> + Send + 'static,
    {
        self.run_read_within(self.timeout, read).await
    }

    /// Reads on the driver's runtime: whoever asked may go, and would take a connection with it.
    async fn run_read_within<T, F>(
        &self,
        time: Duration,
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
        // Made there, since a timer belongs to the runtime that it is made on, and the caller's may end before the read does.
        let reading = self.runtime.spawn(async move { timeout(time, read).await });
        let reason = match reading.await {
            Ok(Ok(Ok(found))) => return Ok(found),
            Ok(Ok(Err(error))) => error.to_string(),
            Ok(Err(_)) => "no answer in time".to_owned(),
            Err(error) => error.to_string(),
        };
        tracing::error!(reason, "the store did not answer as it should");
        Err(StoreUnavailable)
    }
}

#[async_trait]
impl Store for MongoStore {
    fn is_shared(&self) -> bool {
        true
    }

    async fn apply(&self, batch: Arc<[Commit]>) -> Result<AppliedBatch, ApplyError> {
        let (reply, applied) = oneshot::channel();
        let queue = self.lock_queue().clone().ok_or(ApplyError::Unavailable)?;
        queue
            .send(QueuedBatch { commits: batch, reply })
            .await
            .map_err(|_| ApplyError::Unavailable)?;
        drop(queue);
        // The writer drops a reply only when it fails in the middle of its work.
        applied.await.unwrap_or(Err(ApplyError::OutcomeUnknown))
    }

    async fn find_cart(&self, owner: UserId) -> Result<Option<Cart>, StoreUnavailable> {
        self.run_read(|database| read::cart(database, owner)).await
    }

    async fn list_idle_carts(
        &self,
        before: Timestamp,
        limit: u32,
    ) -> Result<Vec<CartOwner>, StoreUnavailable> {
        self.run_read(|database| read::carts_untouched_since(database, before, limit)).await
    }

    async fn list_products(
        &self,
        after: Option<ProductId>,
        limit: u32,
    ) -> Result<Vec<(Product, StockLevel)>, StoreUnavailable> {
        self.run_read(|database| read::products(database, after, limit)).await
    }

    async fn find_product(
        &self,
        id: ProductId,
    ) -> Result<Option<(Product, StockLevel)>, StoreUnavailable> {
        self.run_read(|database| read::product(database, id)).await
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
        self.run_read(|database| read::movements(database, id, before, limit)).await
    }

    async fn find_order(&self, id: OrderId) -> Result<Option<Order>, StoreUnavailable> {
        self.run_read(|database| read::order(database, id)).await
    }

    async fn list_orders(
        &self,
        of: Option<UserId>,
        before: Option<OrderId>,
        limit: u32,
    ) -> Result<Vec<Order>, StoreUnavailable> {
        self.run_read(|database| read::orders(database, of, before, limit)).await
    }

    async fn list_overdue_orders(
        &self,
        now: Timestamp,
        after: Option<(Timestamp, OrderId)>,
        limit: u32,
    ) -> Result<Vec<Order>, StoreUnavailable> {
        self.run_read(move |database| read::orders_due(database, now, after, limit)).await
    }

    async fn find_user(&self, id: UserId) -> Result<Option<User>, StoreUnavailable> {
        self.run_read(|database| read::user(database, id)).await
    }

    async fn find_user_by_email(&self, email: &Email) -> Result<Option<User>, StoreUnavailable> {
        let email = email.clone();
        self.run_read(|database| read::user_by_email(database, email)).await
    }

    async fn has_admin(&self) -> Result<bool, StoreUnavailable> {
        self.run_read(read::has_admin).await
    }

    async fn find_session(&self, id: SessionId) -> Result<Option<Session>, StoreUnavailable> {
        self.run_read(|database| read::session(database, id)).await
    }

    async fn list_active_sessions(
        &self,
        user: UserId,
        now: Timestamp,
    ) -> Result<Vec<Session>, StoreUnavailable> {
        self.run_read(|database| read::live_sessions(database, user, now)).await
    }

    async fn list_sessions_revoked_since(
        &self,
        since: Timestamp,
    ) -> Result<Vec<SessionId>, StoreUnavailable> {
        self.run_read(|database| read::revoked_since(database, since)).await
    }

    async fn find_stored_response(
        &self,
        key: &IdempotencyKey,
    ) -> Result<Option<([u8; 32], StoredReply)>, StoreUnavailable> {
        let key = key.clone();
        let forgotten = self.clock.now().saturating_sub(IDEMPOTENCY_KEY_TTL);
        self.run_read(move |database| read::remembered(database, key, forgotten)).await
    }

    async fn is_in_inbox(&self, id: &str) -> Result<bool, StoreUnavailable> {
        let id = id.to_owned();
        self.run_read(move |database| read::is_in_inbox(database, id)).await
    }

    async fn list_events_after(
        &self,
        position: u64,
        limit: u32,
    ) -> Result<Vec<OutboxEvent>, StoreUnavailable> {
        self.run_read(|database| read::events_after(database, position, limit)).await
    }

    async fn event_position(&self, id: EventId) -> Result<Option<u64>, StoreUnavailable> {
        self.run_read(|database| read::event_position(database, id)).await
    }

    async fn last_event_position(&self) -> Result<u64, StoreUnavailable> {
        self.run_read(read::last_position).await
    }

    async fn confirmed_event_position(&self) -> Result<u64, StoreUnavailable> {
        let node = self.membership.id();
        self.run_read(move |database| read::confirmed_position(database, node)).await
    }

    async fn published_position(&self) -> Result<u64, StoreUnavailable> {
        self.run_read(read::published_up_to).await
    }

    async fn mark_published(&self, position: u64) -> Result<(), StoreUnavailable> {
        self.run_read(move |database| read::note_published(database, position)).await
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

    async fn audit_events(&self) -> Result<EventAudit, StoreUnavailable> {
        self.run_read_within(AUDIT_TIMEOUT, audit::read_event_ranges).await
    }

    async fn ping(&self) -> Result<(), StoreUnavailable> {
        self.run_read(read::ping).await
    }

    async fn close(&self) {
        self.lock_queue().take();
        let mut writing = self.writer_stopped.clone();
        while writing.changed().await.is_ok() {}
        if self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        self.membership_task.abort();
        let node = Arc::clone(&self.membership);
        let farewell =
            self.runtime.spawn(async move { timeout(DEREGISTER_TIMEOUT, node.deregister()).await });
        drop(farewell.await);
    }
}

impl Drop for MongoStore {
    fn drop(&mut self) {
        self.membership_task.abort();
    }
}
