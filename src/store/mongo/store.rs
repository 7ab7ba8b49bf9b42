//! The trait [`Store`], by the writers and the reads of this engine.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{sync::oneshot, time::timeout};
use tracing::Span;

use super::{
    MongoStore, WRITE_LANES, audit, delete, integrity, login_failures, read,
    transaction_loop::QueuedBatch,
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
    store::{
        AppliedBatch, ApplyError, Commit, CommitOutcome, OutboxChanges, OutboxPage, Store,
        StoreUnavailable, StoredReplyUsage,
        forwarding::ForwardingOptions,
        retention::IDEMPOTENCY_KEY_TTL,
        writer::{CommitWriter, STOCK_LANE},
    },
};

/// How long a node that stops may take to deregister. If it fails, the others reap its document.
const DEREGISTER_TIMEOUT: Duration = Duration::from_secs(1);

/// The timeout of one page of an audit. By default, the server keeps a snapshot for 300 s.
const AUDIT_TIMEOUT: Duration = Duration::from_secs(240);

/// The timeout of the validation of all collections.
const VALIDATION_TIMEOUT: Duration = Duration::from_secs(60 * 60);

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
            let queue = Arc::clone(&self.stock_queue);
            // A failed task only means that the node tries without a turn.
            drop(self.runtime.spawn(async move { queue.wait_for_turn().await }).await);
        }
    }

    fn start_forwarding(&self, options: ForwardingOptions, writer: CommitWriter) {
        self.forwarder.start(options, writer);
    }

    async fn forward(&self, commit: &Commit, has_priority: bool) -> Option<CommitOutcome> {
        self.forwarder.forward(commit, has_priority).await
    }

    async fn apply_in_lane(
        &self,
        lane: usize,
        batch: Arc<[Commit]>,
    ) -> Result<AppliedBatch, ApplyError> {
        let (reply, result) = oneshot::channel();
        let queue = self.lock_queues().get(lane).cloned().ok_or(ApplyError::Unavailable)?;
        queue
            .send(QueuedBatch { commits: batch, reply, span: Span::current() })
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

    async fn find_products_by_sku(
        &self,
        skus: Vec<String>,
    ) -> Result<Vec<(Product, StockLevel)>, StoreUnavailable> {
        self.run_read(|database| read::find_products_by_sku(database, skus)).await
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
        filter: OrderFilter,
        before: Option<OrderId>,
        limit: u32,
    ) -> Result<Vec<Order>, StoreUnavailable> {
        self.run_read(|database| read::list_orders(database, filter, before, limit)).await
    }

    async fn list_overdue_orders(
        &self,
        now: Timestamp,
        after: Option<(Timestamp, OrderId)>,
        limit: u32,
    ) -> Result<Vec<Order>, StoreUnavailable> {
        self.run_read(move |database| read::list_overdue_orders(database, now, after, limit)).await
    }

    async fn list_unfinished_orders(
        &self,
        key: BuyerKey,
        limit: u32,
    ) -> Result<Vec<Order>, StoreUnavailable> {
        self.run_read(move |database| read::list_unfinished_orders(database, key, limit)).await
    }

    async fn find_address_book(&self, user: UserId) -> Result<AddressBook, StoreUnavailable> {
        self.run_read(move |database| read::find_address_book(database, user)).await
    }

    async fn find_user(&self, id: UserId) -> Result<Option<User>, StoreUnavailable> {
        self.run_read(|database| read::find_user(database, id)).await
    }

    async fn find_emails(
        &self,
        users: Vec<UserId>,
    ) -> Result<HashMap<UserId, Email>, StoreUnavailable> {
        self.run_read(|database| read::find_emails(database, users)).await
    }

    async fn find_user_by_email(&self, email: &Email) -> Result<Option<User>, StoreUnavailable> {
        let email = email.clone();
        self.run_read(|database| read::find_user_by_email(database, email)).await
    }

    async fn list_users(
        &self,
        filter: UserFilter,
        before: Option<UserId>,
        limit: u32,
    ) -> Result<Vec<User>, StoreUnavailable> {
        self.run_read(|database| read::list_users(database, filter, before, limit)).await
    }

    async fn list_special_rights(&self) -> Result<Vec<VersionedRights>, StoreUnavailable> {
        self.run_read(read::list_special_rights).await
    }

    async fn greatest_password_hash(&self) -> Result<Option<String>, StoreUnavailable> {
        self.run_read_within(AUDIT_TIMEOUT, read::greatest_password_hash).await
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
        limit: u32,
    ) -> Result<Vec<Session>, StoreUnavailable> {
        self.run_read(|database| read::list_active_sessions(database, user, now, limit)).await
    }

    async fn list_stale_sessions(
        &self,
        user: UserId,
        now: Timestamp,
        kept: u32,
        limit: u32,
    ) -> Result<Vec<Session>, StoreUnavailable> {
        self.run_read(|database| read::list_stale_sessions(database, user, now, kept, limit)).await
    }

    async fn list_sessions_revoked_since(
        &self,
        since: Timestamp,
    ) -> Result<Vec<SessionId>, StoreUnavailable> {
        self.run_read(|database| read::list_sessions_revoked_since(database, since)).await
    }

    async fn find_login_failures(
        &self,
        keys: Vec<LoginKey>,
    ) -> Result<Vec<Option<FailureWindow>>, StoreUnavailable> {
        self.run_read(|database| login_failures::find_login_failures(database, keys)).await
    }

    async fn count_login_failure(
        &self,
        keys: Vec<LoginKey>,
        now: Timestamp,
    ) -> Result<Vec<FailureWindow>, StoreUnavailable> {
        self.run_update(move |database| login_failures::count_login_failure(database, keys, now))
            .await
    }

    async fn list_due_mails(
        &self,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<Mail>, StoreUnavailable> {
        self.run_read(move |database| read::list_due_mails(database, now, limit)).await
    }

    async fn find_stored_reply(
        &self,
        key: &IdempotencyKey,
    ) -> Result<Option<([u8; 32], StoredReply)>, StoreUnavailable> {
        let key = key.clone();
        let stored_after = self.clock.now().saturating_sub(IDEMPOTENCY_KEY_TTL);
        self.run_read(move |database| read::find_stored_reply(database, key, stored_after)).await
    }

    async fn stored_reply_usage(
        &self,
        owner: UserId,
    ) -> Result<StoredReplyUsage, StoreUnavailable> {
        let stored_after = self.clock.now().saturating_sub(IDEMPOTENCY_KEY_TTL);
        self.run_read(move |database| read::stored_reply_usage(database, owner, stored_after)).await
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

    async fn delete_ended_records(&self) -> Result<u64, StoreUnavailable> {
        let now = self.clock.now();
        self.run_update(move |database| delete::delete_ended_records(database, now)).await
    }

    async fn outbox_heads(&self) -> Result<OutboxCursor, StoreUnavailable> {
        self.run_read(read::outbox_heads).await
    }

    async fn linearizable_outbox_heads(&self) -> Result<OutboxCursor, StoreUnavailable> {
        let node = self.membership.id();
        self.run_read(move |database| read::linearizable_outbox_heads(database, node)).await
    }

    async fn published_cursor(&self) -> Result<OutboxCursor, StoreUnavailable> {
        self.run_read(read::published_cursor).await
    }

    async fn mark_published(&self, cursor: &OutboxCursor) -> Result<(), StoreUnavailable> {
        let cursor = cursor.clone();
        self.run_update(move |database| read::mark_published(database, cursor)).await
    }

    async fn audit_products(
        &self,
        range: IdRange,
        limit: u32,
    ) -> Result<AuditPage<ProductAudit>, StoreUnavailable> {
        self.run_read_within(AUDIT_TIMEOUT, |database| {
            audit::read_product_page(database, range, limit)
        })
        .await
    }

    async fn audit_orders(
        &self,
        range: IdRange,
        limit: u32,
    ) -> Result<AuditPage<OrderAudit>, StoreUnavailable> {
        self.run_read_within(AUDIT_TIMEOUT, |database| {
            audit::read_order_page(database, range, limit)
        })
        .await
    }

    async fn audit_events(&self) -> Result<Vec<EventAudit>, StoreUnavailable> {
        self.run_read_within(AUDIT_TIMEOUT, audit::read_event_ranges).await
    }

    async fn find_damage(&self) -> Result<Vec<String>, StoreUnavailable> {
        self.run_read_within(VALIDATION_TIMEOUT, integrity::find_damage).await
    }

    async fn ping(&self) -> Result<(), StoreUnavailable> {
        self.run_read(read::ping).await
    }

    async fn check_writable(&self) -> Result<(), StoreUnavailable> {
        let node = self.membership.id();
        let probe = self.run_update(move |database| read::probe_write(database, node));
        self.write_health.check(probe).await
    }

    async fn close(&self) {
        self.forwarder.stop().await;
        self.lock_queues().clear();
        let mut writers_stopped = self.writers_stopped.clone();
        while writers_stopped.changed().await.is_ok() {}
        if self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        self.membership_task.abort();
        let membership = Arc::clone(&self.membership);
        let read_client = self.database.client().clone();
        let deregistering = self.runtime.spawn(async move {
            drop(timeout(DEREGISTER_TIMEOUT, membership.deregister()).await);
            // A client that is dropped instead ends its sessions in a task, which panics when the
            // runtime stops meanwhile.
            let shut_down = async {
                membership.client().clone().shutdown().immediate(true).await;
                read_client.shutdown().immediate(true).await;
            };
            drop(timeout(DEREGISTER_TIMEOUT, shut_down).await);
        });
        drop(deregistering.await);
    }
}
