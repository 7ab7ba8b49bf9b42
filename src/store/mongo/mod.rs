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
    connect::{Connected, connect},
    nodes::Node,
    read::ReadError,
    write::{Batch, REMEMBERED_FOR, Writer},
};
use super::{Applied, ApplyError, Commit, Store, Unavailable};
use crate::{
    domain::{
        account::{Email, Session, User},
        audit::{EventFacts, OrderFacts, Page, ProductFacts, Span},
        cart::{Cart, Owner},
        catalog::product::Product,
        clock::{Clock, SystemClock, Timestamp},
        ids::{EventId, OrderId, ProductId, SessionId, UserId},
        inventory::{Movement, StockLevel},
        money::Currency,
        order::Order,
    },
    events::Published,
    messages::change::{IdempotencyKey, Remembered},
};

/// Most batches that wait. The batching writer sends one at a time.
const MAX_WAITING_BATCHES: usize = 4;

/// How long to say goodbye to the other nodes. They find out anyway.
const FAREWELL: Duration = Duration::from_secs(1);

/// The longest that a page of an audit takes. The server keeps the moment it is read from for 300 s.
const AUDITING: Duration = Duration::from_secs(240);

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
    node: Arc<Node>,
    /// The runtime that the driver's connections live on.
    runtime: Handle,
    timeout: Duration,
    queue: Mutex<Option<mpsc::Sender<Batch>>>,
    /// Closed when the writer has ended.
    writing: watch::Receiver<()>,
    watching: AbortHandle,
    closed: AtomicBool,
}

impl MongoStore {
    /// Connects, and waits for as long as it takes until a primary answers, with a log line every two seconds. Has to be called on the
    /// runtime that the store shall live on.
    ///
    /// # Errors
    /// The database cannot be used, and waiting would not change that; see [`ConnectError`].
    pub async fn connect(options: MongoOptions) -> Result<Self, ConnectError> {
        let Connected { writing: client, reading } = connect(&options).await?;
        let database = client.database(&options.database);
        let node = Node::new(client.clone(), database.clone());
        let watching = tokio::spawn(Arc::clone(&node).watch()).abort_handle();
        let (queue, batches) = mpsc::channel(MAX_WAITING_BATCHES);
        let (ended, writing) = watch::channel(());
        let writer = Writer {
            client,
            database,
            node: Arc::clone(&node),
            low_stock: options.low_stock,
            timeout: options.timeout,
            session: None,
            away: false,
        };
        tokio::spawn(async move {
            writer.run(batches).await;
            drop(ended);
        });
        Ok(Self {
            database: reading.database(&options.database),
            node,
            runtime: Handle::current(),
            timeout: options.timeout,
            queue: Mutex::new(Some(queue)),
            writing,
            watching,
            closed: AtomicBool::new(false),
        })
    }

    fn queue(&self) -> MutexGuard<'_, Option<mpsc::Sender<Batch>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask<T, F>(&self, read: impl FnOnce(Database) -> F) -> Result<T, Unavailable>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ReadError>> + Send + 'static,
    {
        self.ask_within(self.timeout, read).await
    }

    /// Reads on the driver's runtime: whoever asked may go, and would take a connection with it.
    async fn ask_within<T, F>(
        &self,
        time: Duration,
        read: impl FnOnce(Database) -> F,
    ) -> Result<T, Unavailable>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ReadError>> + Send + 'static,
    {
        if self.closed.load(Ordering::Acquire) {
            return Err(Unavailable);
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
        Err(Unavailable)
    }
}

#[async_trait]
impl Store for MongoStore {
    fn is_shared(&self) -> bool {
        true
    }

    async fn apply(&self, batch: Arc<[Commit]>) -> Result<Applied, ApplyError> {
        let (reply, applied) = oneshot::channel();
        let queue = self.queue().clone().ok_or(ApplyError::Unavailable)?;
        queue.send(Batch { commits: batch, reply }).await.map_err(|_| ApplyError::Unavailable)?;
        drop(queue);
        // The writer drops a reply only when it fails in the middle of its work.
        applied.await.unwrap_or(Err(ApplyError::Unknown))
    }

    async fn cart(&self, owner: UserId) -> Result<Option<Cart>, Unavailable> {
        self.ask(|database| read::cart(database, owner)).await
    }

    async fn carts_untouched_since(
        &self,
        before: Timestamp,
        limit: u32,
    ) -> Result<Vec<Owner>, Unavailable> {
        self.ask(|database| read::carts_untouched_since(database, before, limit)).await
    }

    async fn products(
        &self,
        after: Option<ProductId>,
        limit: u32,
    ) -> Result<Vec<(Product, StockLevel)>, Unavailable> {
        self.ask(|database| read::products(database, after, limit)).await
    }

    async fn product(&self, id: ProductId) -> Result<Option<(Product, StockLevel)>, Unavailable> {
        self.ask(|database| read::product(database, id)).await
    }

    async fn products_by_id(
        &self,
        ids: Vec<ProductId>,
    ) -> Result<Vec<(Product, StockLevel)>, Unavailable> {
        self.ask(|database| read::products_by_id(database, ids)).await
    }

    async fn movements(
        &self,
        id: ProductId,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<Movement>, Unavailable> {
        self.ask(|database| read::movements(database, id, before, limit)).await
    }

    async fn order(&self, id: OrderId) -> Result<Option<Order>, Unavailable> {
        self.ask(|database| read::order(database, id)).await
    }

    async fn orders(
        &self,
        of: Option<UserId>,
        before: Option<OrderId>,
        limit: u32,
    ) -> Result<Vec<Order>, Unavailable> {
        self.ask(|database| read::orders(database, of, before, limit)).await
    }

    async fn orders_due(
        &self,
        now: Timestamp,
        after: Option<(Timestamp, OrderId)>,
        limit: u32,
    ) -> Result<Vec<Order>, Unavailable> {
        self.ask(move |database| read::orders_due(database, now, after, limit)).await
    }

    async fn user(&self, id: UserId) -> Result<Option<User>, Unavailable> {
        self.ask(|database| read::user(database, id)).await
    }

    async fn user_by_email(&self, email: &Email) -> Result<Option<User>, Unavailable> {
        let email = email.clone();
        self.ask(|database| read::user_by_email(database, email)).await
    }

    async fn has_admin(&self) -> Result<bool, Unavailable> {
        self.ask(read::has_admin).await
    }

    async fn session(&self, id: SessionId) -> Result<Option<Session>, Unavailable> {
        self.ask(|database| read::session(database, id)).await
    }

    async fn live_sessions(
        &self,
        user: UserId,
        now: Timestamp,
    ) -> Result<Vec<Session>, Unavailable> {
        self.ask(|database| read::live_sessions(database, user, now)).await
    }

    async fn revoked_since(&self, since: Timestamp) -> Result<Vec<SessionId>, Unavailable> {
        self.ask(|database| read::revoked_since(database, since)).await
    }

    async fn remembered(
        &self,
        key: &IdempotencyKey,
    ) -> Result<Option<([u8; 32], Remembered)>, Unavailable> {
        let key = key.clone();
        let forgotten = SystemClock.now().minus(REMEMBERED_FOR);
        self.ask(move |database| read::remembered(database, key, forgotten)).await
    }

    async fn is_in_inbox(&self, id: &str) -> Result<bool, Unavailable> {
        let id = id.to_owned();
        self.ask(move |database| read::is_in_inbox(database, id)).await
    }

    async fn events_after(&self, position: u64, limit: u32) -> Result<Vec<Published>, Unavailable> {
        self.ask(|database| read::events_after(database, position, limit)).await
    }

    async fn event_position(&self, id: EventId) -> Result<Option<u64>, Unavailable> {
        self.ask(|database| read::event_position(database, id)).await
    }

    async fn last_position(&self) -> Result<u64, Unavailable> {
        self.ask(read::last_position).await
    }

    async fn confirmed_position(&self) -> Result<u64, Unavailable> {
        let node = self.node.id();
        self.ask(move |database| read::confirmed_position(database, node)).await
    }

    async fn published_up_to(&self) -> Result<u64, Unavailable> {
        self.ask(read::published_up_to).await
    }

    async fn note_published(&self, position: u64) -> Result<(), Unavailable> {
        self.ask(move |database| read::note_published(database, position)).await
    }

    async fn audited_products(
        &self,
        span: Span,
        limit: u32,
    ) -> Result<Page<ProductFacts>, Unavailable> {
        self.ask_within(AUDITING, |database| audit::products(database, span, limit)).await
    }

    async fn audited_orders(
        &self,
        span: Span,
        limit: u32,
    ) -> Result<Page<OrderFacts>, Unavailable> {
        self.ask_within(AUDITING, |database| audit::orders(database, span, limit)).await
    }

    async fn audited_events(&self) -> Result<EventFacts, Unavailable> {
        self.ask_within(AUDITING, audit::events).await
    }

    async fn ping(&self) -> Result<(), Unavailable> {
        self.ask(read::ping).await
    }

    async fn close(&self) {
        self.queue().take();
        let mut writing = self.writing.clone();
        while writing.changed().await.is_ok() {}
        if self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        self.watching.abort();
        let node = Arc::clone(&self.node);
        let farewell = self.runtime.spawn(async move { timeout(FAREWELL, node.leave()).await });
        drop(farewell.await);
    }
}

impl Drop for MongoStore {
    fn drop(&mut self) {
        self.watching.abort();
    }
}
