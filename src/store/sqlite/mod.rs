//! The embedded engine: SQLite, in a folder of this process alone.
//!
//! One thread has the connection that writes: a batch is one transaction. Two more answer reads, each from a snapshot that is taken
//! when the read begins, and so holds everything acknowledged before.

mod audit;
mod failure;
mod flush;
mod load;
mod open;
mod outbox;
mod read;
mod rows;
mod schema;
mod threads;
mod write;

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use rusqlite::Connection;
use tokio::sync::oneshot;

pub use self::failure::OpenError;
use self::{
    read::{Query, Reader},
    threads::Threads,
    write::{Batch, Job, REMEMBERED_FOR, Writer},
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

/// Threads that answer reads.
const READERS: usize = 2;

/// Most reads that wait for a thread; whoever asks beyond them waits for a place.
const MAX_WAITING_READS: usize = 1024;

/// Most batches that wait. The batching writer sends one at a time.
const MAX_WAITING_BATCHES: usize = 4;

/// How to open the store.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// The folder, made when it is not there. One process at a time has it.
    pub dir: PathBuf,
    /// The currency of every price in it, for good.
    pub currency: Currency,
    /// Stock that falls to this or below is told as low.
    pub low_stock: u64,
    /// There is a broker: events are kept until they were published, however many that are. It is noted in the store, for good.
    pub keep_unpublished: bool,
}

/// The embedded store.
///
/// Dropping it does the same as [`Store::close`], while blocking the thread.
pub struct SqliteStore {
    // Readers end before the writer, which then finds nobody in its way when it takes the log into the database.
    readers: Threads<Query>,
    writer: Threads<Job>,
    currency: Currency,
}

impl SqliteStore {
    /// Opens the store. Blocks while it reads files.
    ///
    /// # Errors
    /// The folder cannot be used, or holds something else; see [`OpenError`].
    pub fn open(options: SqliteOptions) -> Result<Self, OpenError> {
        let SqliteOptions { dir, currency, low_stock, keep_unpublished } = options;
        let mut opened = open::open(&dir, currency, READERS)?;
        let readers = std::mem::take(&mut opened.readers).into_iter().map(Reader).collect();
        let writer =
            Writer::new(opened, low_stock, keep_unpublished).map_err(OpenError::broken(&dir))?;
        Ok(Self {
            readers: Threads::start("souk-read", readers, MAX_WAITING_READS)
                .map_err(OpenError::folder(&dir))?,
            writer: Threads::start("souk-write", vec![writer], MAX_WAITING_BATCHES)
                .map_err(OpenError::folder(&dir))?,
            currency,
        })
    }

    async fn ask<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Unavailable> {
        read::ask(&self.readers, query).await
    }
}

#[async_trait]
impl Store for SqliteStore {
    fn is_shared(&self) -> bool {
        false
    }

    async fn apply(&self, batch: Arc<[Commit]>) -> Result<Applied, ApplyError> {
        let (reply, applied) = oneshot::channel();
        self.writer
            .send(Job::Apply(Batch { commits: batch, reply }))
            .await
            .map_err(|_| ApplyError::Unavailable)?;
        // The writer drops a reply only when it fails in the middle of its work.
        applied.await.unwrap_or(Err(ApplyError::Unknown))
    }

    async fn cart(&self, owner: UserId) -> Result<Option<Cart>, Unavailable> {
        let shop = self.currency;
        self.ask(move |connection| read::cart(connection, owner, shop)).await
    }

    async fn carts_untouched_since(
        &self,
        before: Timestamp,
        limit: u32,
    ) -> Result<Vec<Owner>, Unavailable> {
        self.ask(move |connection| read::carts_untouched_since(connection, before, limit)).await
    }

    async fn products(
        &self,
        after: Option<ProductId>,
        limit: u32,
    ) -> Result<Vec<(Product, StockLevel)>, Unavailable> {
        let shop = self.currency;
        self.ask(move |connection| read::products(connection, after, limit, shop)).await
    }

    async fn product(&self, id: ProductId) -> Result<Option<(Product, StockLevel)>, Unavailable> {
        let shop = self.currency;
        self.ask(move |connection| read::product(connection, id, shop)).await
    }

    async fn products_by_id(
        &self,
        ids: Vec<ProductId>,
    ) -> Result<Vec<(Product, StockLevel)>, Unavailable> {
        let shop = self.currency;
        let all = move |connection: &Connection| {
            ids.iter().filter_map(|id| read::product(connection, *id, shop).transpose()).collect()
        };
        self.ask(all).await
    }

    async fn movements(
        &self,
        id: ProductId,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<Movement>, Unavailable> {
        self.ask(move |connection| read::movements(connection, id, before, limit)).await
    }

    async fn order(&self, id: OrderId) -> Result<Option<Order>, Unavailable> {
        self.ask(move |connection| read::order(connection, id)).await
    }

    async fn orders(
        &self,
        of: Option<UserId>,
        before: Option<OrderId>,
        limit: u32,
    ) -> Result<Vec<Order>, Unavailable> {
        self.ask(move |connection| read::orders(connection, of, before, limit)).await
    }

    async fn orders_due(
        &self,
        now: Timestamp,
        after: Option<(Timestamp, OrderId)>,
        limit: u32,
    ) -> Result<Vec<Order>, Unavailable> {
        self.ask(move |connection| read::orders_due(connection, now, after, limit)).await
    }

    async fn user(&self, id: UserId) -> Result<Option<User>, Unavailable> {
        self.ask(move |connection| read::user(connection, id)).await
    }

    async fn user_by_email(&self, email: &Email) -> Result<Option<User>, Unavailable> {
        let email = email.clone();
        self.ask(move |connection| read::user_by_email(connection, &email)).await
    }

    async fn has_admin(&self) -> Result<bool, Unavailable> {
        self.ask(read::has_admin).await
    }

    async fn session(&self, id: SessionId) -> Result<Option<Session>, Unavailable> {
        self.ask(move |connection| read::session(connection, id)).await
    }

    async fn live_sessions(
        &self,
        user: UserId,
        now: Timestamp,
    ) -> Result<Vec<Session>, Unavailable> {
        self.ask(move |connection| read::live_sessions(connection, user, now)).await
    }

    async fn revoked_since(&self, since: Timestamp) -> Result<Vec<SessionId>, Unavailable> {
        self.ask(move |connection| read::revoked_since(connection, since)).await
    }

    async fn remembered(
        &self,
        key: &IdempotencyKey,
    ) -> Result<Option<([u8; 32], Remembered)>, Unavailable> {
        let (owner, key) = (key.owner, key.key.clone());
        let forgotten = SystemClock.now().minus(REMEMBERED_FOR);
        self.ask(move |connection| read::remembered(connection, owner, &key, forgotten)).await
    }

    async fn is_in_inbox(&self, id: &str) -> Result<bool, Unavailable> {
        let id = id.to_owned();
        self.ask(move |connection| read::is_in_inbox(connection, &id)).await
    }

    async fn events_after(&self, position: u64, limit: u32) -> Result<Vec<Published>, Unavailable> {
        self.ask(move |connection| read::events_after(connection, position, limit)).await
    }

    async fn event_position(&self, id: EventId) -> Result<Option<u64>, Unavailable> {
        self.ask(move |connection| read::event_position(connection, id)).await
    }

    async fn last_position(&self) -> Result<u64, Unavailable> {
        self.ask(read::last_position).await
    }

    async fn published_up_to(&self) -> Result<u64, Unavailable> {
        self.ask(read::published_up_to).await
    }

    async fn note_published(&self, position: u64) -> Result<(), Unavailable> {
        let (reply, noted) = oneshot::channel();
        self.writer.send(Job::NotePublished { position, reply }).await.map_err(|_| Unavailable)?;
        noted.await.unwrap_or(Err(Unavailable))
    }

    async fn audited_products(
        &self,
        span: Span,
        limit: u32,
    ) -> Result<Page<ProductFacts>, Unavailable> {
        self.ask(move |connection| audit::products(connection, span, limit)).await
    }

    async fn audited_orders(
        &self,
        span: Span,
        limit: u32,
    ) -> Result<Page<OrderFacts>, Unavailable> {
        self.ask(move |connection| audit::orders(connection, span, limit)).await
    }

    async fn audited_events(&self) -> Result<EventFacts, Unavailable> {
        self.ask(audit::events).await
    }

    async fn ping(&self) -> Result<(), Unavailable> {
        self.ask(read::ping).await
    }

    async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}
