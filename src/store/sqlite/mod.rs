//! The embedded engine: SQLite, in a folder that one process uses at a time.
//!
//! One thread owns the connection that writes, and applies each batch in one transaction. Two more
//! threads answer reads, each from a snapshot taken when the read begins, which contains everything
//! acknowledged before.

mod audit;
mod copy;
mod delete;
mod engine;
mod erasure;
mod flush;
mod integrity;
mod load;
mod login_failures;
mod mails;
mod open;
mod open_error;
mod options;
mod order_id_store;
mod outbox;
mod payment_store;
mod pricing_store;
mod read;
mod rows;
mod rules;
mod schema;
mod staff_store;
mod threads;
mod update;
mod webhooks;
mod write;

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use tokio::sync::oneshot;
use tracing::Span;

pub use self::{
    copy::{DatabaseCopy, EmptyFolder, copy_database},
    engine::SqliteStore,
    open::DATABASE_FILE,
    open_error::OpenError,
    options::SqliteOptions,
};
use self::{
    integrity::{IntegrityCheck, find_damage},
    outbox::{PARTITION, cursor_at},
    write::{QueuedBatch, WriteJob},
};
use super::{
    AppliedBatch, ApplyError, Commit, OutboxPage, Store, StoreUnavailable, StoredReplyUsage,
    retention::IDEMPOTENCY_KEY_TTL,
};
use crate::{
    domain::{
        account::{
            AddressBook, Email, Session, User, UserFilter, VersionedRights,
            login_failures::{FailureWindow, LoginKey},
        },
        audit::{AuditPage, EventAudit, IdRange, OrderAudit, ProductAudit},
        cart::{Cart, CartOwner},
        catalog::product::Product,
        clock::Timestamp,
        ids::{OrderId, ProductId, SessionId, UserId},
        inventory::{StockLevel, StockMovement},
        mail::Mail,
        order::{BuyerKey, Order, OrderFilter},
    },
    events::OutboxCursor,
    messages::command_context::{IdempotencyKey, StoredReply},
};

#[async_trait]
impl Store for SqliteStore {
    fn is_shared(&self) -> bool {
        false
    }

    async fn apply_in_lane(
        &self,
        _lane: usize,
        batch: Arc<[Commit]>,
    ) -> Result<AppliedBatch, ApplyError> {
        let (reply, applied) = oneshot::channel();
        let batch = QueuedBatch { commits: batch, reply, span: Span::current() };
        let queued = self.writer.enqueue_job(WriteJob::Apply(batch)).await;
        queued.map_err(|_| ApplyError::Unavailable)?;
        // The writer drops a reply only when it panics while it applies the batch.
        applied.await.unwrap_or(Err(ApplyError::OutcomeUnknown))
    }

    async fn find_cart(&self, owner: UserId) -> Result<Option<Cart>, StoreUnavailable> {
        let currency = self.currency;
        self.run_read(move |connection| read::find_cart(connection, owner, currency)).await
    }

    async fn list_idle_carts(
        &self,
        before: Timestamp,
        limit: u32,
    ) -> Result<Vec<CartOwner>, StoreUnavailable> {
        self.run_read(move |connection| read::list_idle_carts(connection, before, limit)).await
    }

    async fn list_products(
        &self,
        after: Option<ProductId>,
        limit: u32,
    ) -> Result<Vec<(Product, StockLevel)>, StoreUnavailable> {
        let currency = self.currency;
        self.run_read(move |connection| read::list_products(connection, after, limit, currency))
            .await
    }

    async fn find_product(
        &self,
        id: ProductId,
    ) -> Result<Option<(Product, StockLevel)>, StoreUnavailable> {
        let currency = self.currency;
        self.run_read(move |connection| read::find_product(connection, id, currency)).await
    }

    async fn find_products_by_id(
        &self,
        ids: Vec<ProductId>,
    ) -> Result<Vec<(Product, StockLevel)>, StoreUnavailable> {
        let currency = self.currency;
        self.run_read(move |connection| read::find_products_by_id(connection, &ids, currency)).await
    }

    async fn find_products_by_sku(
        &self,
        skus: Vec<String>,
    ) -> Result<Vec<(Product, StockLevel)>, StoreUnavailable> {
        let currency = self.currency;
        self.run_read(move |connection| read::find_products_by_sku(connection, skus, currency))
            .await
    }

    async fn list_movements(
        &self,
        id: ProductId,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<StockMovement>, StoreUnavailable> {
        self.run_read(move |connection| read::list_movements(connection, id, before, limit)).await
    }

    async fn find_order(&self, id: OrderId) -> Result<Option<Order>, StoreUnavailable> {
        self.run_read(move |connection| read::find_order(connection, id)).await
    }

    async fn list_orders(
        &self,
        filter: OrderFilter,
        before: Option<OrderId>,
        limit: u32,
    ) -> Result<Vec<Order>, StoreUnavailable> {
        self.run_read(move |connection| read::list_orders(connection, &filter, before, limit)).await
    }

    async fn list_overdue_orders(
        &self,
        now: Timestamp,
        after: Option<(Timestamp, OrderId)>,
        limit: u32,
    ) -> Result<Vec<Order>, StoreUnavailable> {
        self.run_read(move |connection| read::list_overdue_orders(connection, now, after, limit))
            .await
    }

    async fn list_unfinished_orders(
        &self,
        key: BuyerKey,
        limit: u32,
    ) -> Result<Vec<Order>, StoreUnavailable> {
        self.run_read(move |connection| read::list_unfinished_orders(connection, &key, limit)).await
    }

    async fn find_address_book(&self, user: UserId) -> Result<AddressBook, StoreUnavailable> {
        self.run_read(move |connection| read::find_address_book(connection, user)).await
    }

    async fn find_user(&self, id: UserId) -> Result<Option<User>, StoreUnavailable> {
        self.run_read(move |connection| read::find_user(connection, id)).await
    }

    async fn find_emails(
        &self,
        users: Vec<UserId>,
    ) -> Result<HashMap<UserId, Email>, StoreUnavailable> {
        self.run_read(move |connection| read::find_emails(connection, &users)).await
    }

    async fn find_user_by_email(&self, email: &Email) -> Result<Option<User>, StoreUnavailable> {
        let email = email.clone();
        self.run_read(move |connection| read::find_user_by_email(connection, &email)).await
    }

    async fn list_users(
        &self,
        filter: UserFilter,
        before: Option<UserId>,
        limit: u32,
    ) -> Result<Vec<User>, StoreUnavailable> {
        self.run_read(move |connection| read::list_users(connection, &filter, before, limit)).await
    }

    async fn list_special_rights(&self) -> Result<Vec<VersionedRights>, StoreUnavailable> {
        self.run_read(read::list_special_rights).await
    }

    async fn greatest_password_hash(&self) -> Result<Option<String>, StoreUnavailable> {
        self.run_read(login_failures::greatest_password_hash).await
    }

    async fn has_admin(&self) -> Result<bool, StoreUnavailable> {
        self.run_read(read::has_admin).await
    }

    async fn find_session(&self, id: SessionId) -> Result<Option<Session>, StoreUnavailable> {
        self.run_read(move |connection| read::find_session(connection, id)).await
    }

    async fn list_active_sessions(
        &self,
        user: UserId,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<Session>, StoreUnavailable> {
        self.run_read(move |connection| read::list_active_sessions(connection, user, now, limit))
            .await
    }

    async fn list_stale_sessions(
        &self,
        user: UserId,
        now: Timestamp,
        kept: u32,
        limit: u32,
    ) -> Result<Vec<Session>, StoreUnavailable> {
        self.run_read(move |connection| {
            read::list_stale_sessions(connection, user, now, kept, limit)
        })
        .await
    }

    async fn list_sessions_revoked_since(
        &self,
        since: Timestamp,
    ) -> Result<Vec<SessionId>, StoreUnavailable> {
        self.run_read(move |connection| read::list_sessions_revoked_since(connection, since)).await
    }

    async fn find_login_failures(
        &self,
        keys: Vec<LoginKey>,
    ) -> Result<Vec<Option<FailureWindow>>, StoreUnavailable> {
        self.run_read(move |connection| login_failures::find_login_failures(connection, &keys))
            .await
    }

    async fn count_login_failure(
        &self,
        keys: Vec<LoginKey>,
        now: Timestamp,
    ) -> Result<Vec<FailureWindow>, StoreUnavailable> {
        self.run_write(|reply| WriteJob::CountLoginFailure { keys, now, reply }).await
    }

    async fn list_due_mails(
        &self,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<Mail>, StoreUnavailable> {
        self.run_read(move |connection| mails::list_due_mails(connection, now, limit)).await
    }

    async fn find_stored_reply(
        &self,
        key: &IdempotencyKey,
    ) -> Result<Option<([u8; 32], StoredReply)>, StoreUnavailable> {
        let (owner, key) = (key.owner, key.key.clone());
        let stored_after = self.clock.now().saturating_sub(IDEMPOTENCY_KEY_TTL);
        self.run_read(move |connection| {
            read::find_stored_reply(connection, owner, &key, stored_after)
        })
        .await
    }

    async fn stored_reply_usage(
        &self,
        owner: UserId,
    ) -> Result<StoredReplyUsage, StoreUnavailable> {
        let keys_stored_after = self.clock.now().saturating_sub(IDEMPOTENCY_KEY_TTL);
        self.run_read(move |connection| {
            read::stored_reply_usage(connection, owner, keys_stored_after)
        })
        .await
    }

    async fn is_in_inbox(&self, id: &str) -> Result<bool, StoreUnavailable> {
        let id = id.to_owned();
        self.run_read(move |connection| read::is_in_inbox(connection, &id)).await
    }

    async fn list_events_after(
        &self,
        cursor: &OutboxCursor,
        limit: u32,
    ) -> Result<OutboxPage, StoreUnavailable> {
        let after = cursor.offset(PARTITION);
        self.run_read(move |connection| read::list_events_after(connection, after, limit)).await
    }

    async fn delete_ended_records(&self) -> Result<u64, StoreUnavailable> {
        let now = self.clock.now();
        let purpose = "delete ended sessions and guest carts";
        self.run_update(purpose, move |database| delete::delete_ended_records(database, now)).await
    }

    async fn outbox_heads(&self) -> Result<OutboxCursor, StoreUnavailable> {
        self.run_read(|connection| read::last_event_offset(connection).map(cursor_at)).await
    }

    async fn published_cursor(&self) -> Result<OutboxCursor, StoreUnavailable> {
        self.run_read(|connection| read::published_offset(connection).map(cursor_at)).await
    }

    async fn mark_published(&self, cursor: &OutboxCursor) -> Result<(), StoreUnavailable> {
        let offset = cursor.offset(PARTITION);
        self.run_write(|reply| WriteJob::MarkPublished { offset, reply }).await
    }

    async fn audit_products(
        &self,
        range: IdRange,
        limit: u32,
    ) -> Result<AuditPage<ProductAudit>, StoreUnavailable> {
        self.run_read(move |connection| audit::read_product_page(connection, range, limit)).await
    }

    async fn audit_orders(
        &self,
        range: IdRange,
        limit: u32,
    ) -> Result<AuditPage<OrderAudit>, StoreUnavailable> {
        self.run_read(move |connection| audit::read_order_page(connection, range, limit)).await
    }

    async fn audit_events(&self) -> Result<Vec<EventAudit>, StoreUnavailable> {
        self.run_read(|connection| Ok(vec![audit::read_event_ranges(connection)?])).await
    }

    async fn find_damage(&self) -> Result<Vec<String>, StoreUnavailable> {
        self.run_read(|connection| Ok(find_damage(connection, IntegrityCheck::Full))).await
    }

    async fn ping(&self) -> Result<(), StoreUnavailable> {
        self.run_read(read::ping).await
    }

    async fn check_writable(&self) -> Result<(), StoreUnavailable> {
        self.write_health.check(self.run_write(|reply| WriteJob::Probe { reply })).await
    }

    async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}
