//! The store holds the shop's state. Every change is one [`Commit`], and one transaction applies a
//! batch of commits.
//!
//! [`writer`] gathers batches. [`plan`] decides what a batch does, the same for every engine. An
//! engine ([`sqlite`], [`mongo`]) loads the records that a batch names, has it planned, and makes
//! the planned writes durable.

pub mod account_emails;
mod anonymized_reply;
mod charges_codec;
pub mod cleanup;
pub mod commit;
mod condition;
pub mod forwarding;
mod limits;
pub mod mongo;
pub mod observed;
pub mod order_id_store;
mod outbox_page;
pub mod payment_store;
pub mod plan;
pub mod pricing_store;
pub(crate) mod readiness;
mod reply_codec;
mod retention;
mod rule_codec;
pub mod sqlite;
pub mod staff_store;
mod store_error;
mod stored_address;
mod webhook_record;
pub mod webhook_store;
mod write_health;
pub mod writer;

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;

pub use self::commit::{
    Commit, CommitError, CommitOutcome, CommitReceipt, CommittedChanges, Condition, StockWrite,
    Write,
};
use self::{forwarding::ForwardingOptions, writer::CommitWriter};
pub use self::{
    order_id_store::OrderIdStore,
    outbox_page::{OutboxChanges, OutboxPage},
    payment_store::PaymentStore,
    pricing_store::PricingStore,
    retention::INBOX_RETENTION,
    staff_store::{ActionPosition, StaffStore},
    store_error::{ApplyError, StoreUnavailable},
    webhook_store::WebhookStore,
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
    events::{OutboxCursor, parse::parse_or_log},
    messages::command_context::{IdempotencyKey, StoredReply},
};

/// The result of a batch of commits.
#[derive(Debug)]
pub struct AppliedBatch {
    /// One outcome per commit, in the batch's order.
    pub outcomes: Vec<CommitOutcome>,
    /// The changes for this node's caches, in commit order.
    pub changes: CommittedChanges,
}

/// What is stored under the idempotency keys of one user.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoredReplyUsage {
    /// The number of keys.
    pub keys: u64,
    /// The bytes of the keys and of their replies, as stored.
    pub bytes: u64,
}

/// An engine. Reads see everything that was acknowledged before they began.
///
/// [`ObservedStore`](observed::ObservedStore) forwards every method, also those with a default.
///
/// An engine is opened with options and a [`Clock`](crate::domain::clock::Clock), and reads the
/// time from that clock only.
#[async_trait]
pub trait Store: StaffStore + PaymentStore + PricingStore + WebhookStore + OrderIdStore {
    /// Whether other nodes can change the same data.
    fn is_shared(&self) -> bool;

    /// How many batches the engine can apply at once, at least 1. Each has a lane of its own.
    fn write_lanes(&self) -> usize {
        1
    }

    /// Waits until the next batch of a lane can be expected not to lose against another node. More
    /// commits may join the batch meanwhile.
    async fn wait_for_turn(&self, _lane: usize) {}

    /// Lets other nodes forward commits to `writer`, and this one to others.
    fn start_forwarding(&self, _options: ForwardingOptions, _writer: CommitWriter) {}

    /// Has another node apply a commit, since the two change the same stock. `None` if this node is
    /// to apply it: then it certainly was not applied.
    async fn forward(&self, _commit: &Commit, _has_priority: bool) -> Option<CommitOutcome> {
        None
    }

    /// Applies a batch in the first lane.
    async fn apply(&self, batch: Arc<[Commit]>) -> Result<AppliedBatch, ApplyError> {
        self.apply_in_lane(0, batch).await
    }

    /// Applies a batch in one durable transaction, in which each commit succeeds or fails alone.
    /// `lane` is less than [`write_lanes`](Self::write_lanes); a lane applies its batches in turn.
    /// The engine may leave commits undecided that would delay the others:
    /// [`CommitError::RetryLater`] and [`CommitError::RetryAlone`].
    async fn apply_in_lane(
        &self,
        lane: usize,
        batch: Arc<[Commit]>,
    ) -> Result<AppliedBatch, ApplyError>;

    /// A cart; `None` when it was never changed.
    async fn find_cart(&self, owner: UserId) -> Result<Option<Cart>, StoreUnavailable>;

    /// Owners of up to `limit` idle carts: carts with lines that last changed before `before` and
    /// are not marked as abandoned.
    async fn list_idle_carts(
        &self,
        before: Timestamp,
        limit: u32,
    ) -> Result<Vec<CartOwner>, StoreUnavailable>;

    /// Up to `limit` products with their stock, ordered by id and beginning after `after`. Deleted
    /// products are left out.
    async fn list_products(
        &self,
        after: Option<ProductId>,
        limit: u32,
    ) -> Result<Vec<(Product, StockLevel)>, StoreUnavailable>;

    /// One product with its stock, even when the product is deleted.
    async fn find_product(
        &self,
        id: ProductId,
    ) -> Result<Option<(Product, StockLevel)>, StoreUnavailable>;

    /// The products with these ids and their stock, deleted ones included, in any order. Unknown
    /// ids are left out.
    async fn find_products_by_id(
        &self,
        ids: Vec<ProductId>,
    ) -> Result<Vec<(Product, StockLevel)>, StoreUnavailable>;

    /// The products with these skus and their stock, without deleted ones, in any order. Unknown
    /// skus are left out.
    async fn find_products_by_sku(
        &self,
        skus: Vec<String>,
    ) -> Result<Vec<(Product, StockLevel)>, StoreUnavailable>;

    /// Up to `limit` of a product's movements, newest first, with a `sequence` below `before`.
    async fn list_movements(
        &self,
        id: ProductId,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<StockMovement>, StoreUnavailable>;

    /// The order with this id.
    async fn find_order(&self, id: OrderId) -> Result<Option<Order>, StoreUnavailable>;

    /// Up to `limit` orders that match `filter` and were placed before `before`, newest first.
    async fn list_orders(
        &self,
        filter: OrderFilter,
        before: Option<OrderId>,
        limit: u32,
    ) -> Result<Vec<Order>, StoreUnavailable>;

    /// Up to `limit` unpaid orders that expire at `now` or earlier, the longest overdue first. They
    /// begin after `after`, an order's expiry time and id. An order that cannot be read is logged
    /// and left out.
    async fn list_overdue_orders(
        &self,
        now: Timestamp,
        after: Option<(Timestamp, OrderId)>,
        limit: u32,
    ) -> Result<Vec<Order>, StoreUnavailable>;

    /// Up to `limit` of the [unfinished](BuyerKey::unfinished_statuses) orders with a key, the
    /// oldest first.
    async fn list_unfinished_orders(
        &self,
        key: BuyerKey,
        limit: u32,
    ) -> Result<Vec<Order>, StoreUnavailable>;

    /// The addresses of an account; none if it has never had one.
    async fn find_address_book(&self, user: UserId) -> Result<AddressBook, StoreUnavailable>;

    /// The account with this id.
    async fn find_user(&self, id: UserId) -> Result<Option<User>, StoreUnavailable>;

    /// The e-mail addresses of those of the accounts that exist.
    async fn find_emails(
        &self,
        users: Vec<UserId>,
    ) -> Result<HashMap<UserId, Email>, StoreUnavailable>;

    /// The account with this email address.
    async fn find_user_by_email(&self, email: &Email) -> Result<Option<User>, StoreUnavailable>;

    /// Up to `limit` accounts that match `filter`, newest first, with ids below `before`.
    async fn list_users(
        &self,
        filter: UserFilter,
        before: Option<UserId>,
        limit: u32,
    ) -> Result<Vec<User>, StoreUnavailable>;

    /// The rights of all accounts that are not customers, or are blocked.
    async fn list_special_rights(&self) -> Result<Vec<VersionedRights>, StoreUnavailable>;

    /// The greatest password hash in text order. A bcrypt hash begins with its cost, so no account
    /// has a higher one. `None` without accounts. It reads all accounts.
    async fn greatest_password_hash(&self) -> Result<Option<String>, StoreUnavailable>;

    /// Whether any account has the admin role.
    async fn has_admin(&self) -> Result<bool, StoreUnavailable>;

    /// The session with this id, even when it is revoked or expired.
    async fn find_session(&self, id: SessionId) -> Result<Option<Session>, StoreUnavailable>;

    /// Up to `limit` of an account's sessions that are neither revoked nor expired at `now`,
    /// ordered by id.
    async fn list_active_sessions(
        &self,
        user: UserId,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<Session>, StoreUnavailable>;

    /// Up to `limit` of an account's active sessions, without the `kept` ones that were refreshed
    /// last, in any order.
    async fn list_stale_sessions(
        &self,
        user: UserId,
        now: Timestamp,
        kept: u32,
        limit: u32,
    ) -> Result<Vec<Session>, StoreUnavailable>;

    /// Sessions revoked at or after `since`.
    async fn list_sessions_revoked_since(
        &self,
        since: Timestamp,
    ) -> Result<Vec<SessionId>, StoreUnavailable>;

    /// The failed logins counted under each of `keys`, in order. They may be expired. `None` where
    /// there was no failure lately.
    async fn find_login_failures(
        &self,
        keys: Vec<LoginKey>,
    ) -> Result<Vec<Option<FailureWindow>>, StoreUnavailable>;

    /// Counts a failed login at `now` under each of `keys`. Returns the counts after it, in order.
    ///
    /// Every node sees it, also after a restart. To be cheap, it is less durable than a commit: a
    /// failure of the power or of the primary may undo the last ones. Expired counters are deleted.
    async fn count_login_failure(
        &self,
        keys: Vec<LoginKey>,
        now: Timestamp,
    ) -> Result<Vec<FailureWindow>, StoreUnavailable>;

    /// Up to `limit` mails that are due at `now` or earlier, the longest due first. A mail that
    /// cannot be read is logged and left out.
    async fn list_due_mails(
        &self,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<Mail>, StoreUnavailable>;

    /// The response stored under an idempotency key, with the fingerprint of its request. `None`
    /// when the key is unknown or expired.
    async fn find_stored_reply(
        &self,
        key: &IdempotencyKey,
    ) -> Result<Option<([u8; 32], StoredReply)>, StoreUnavailable>;

    /// How much is stored under the idempotency keys of `owner`, without those that are expired.
    async fn stored_reply_usage(&self, owner: UserId)
    -> Result<StoredReplyUsage, StoreUnavailable>;

    /// Whether the message with this id was applied before.
    async fn is_in_inbox(&self, id: &str) -> Result<bool, StoreUnavailable>;

    /// About `limit` events that `cursor` has not read. See [`OutboxPage`] for their order.
    async fn list_events_after(
        &self,
        cursor: &OutboxCursor,
        limit: u32,
    ) -> Result<OutboxPage, StoreUnavailable>;

    /// What about `limit` events that `cursor` has not read tell the caches of other nodes.
    async fn list_changes_after(
        &self,
        cursor: &OutboxCursor,
        limit: u32,
    ) -> Result<OutboxChanges, StoreUnavailable> {
        let page = self.list_events_after(cursor, limit).await?;
        let changes = page.events.iter().filter_map(parse_or_log).collect();
        let OutboxPage { end, has_gap, has_more, .. } = page;
        Ok(OutboxChanges { changes, end, has_gap, has_more })
    }

    /// Deletes some of the sessions and guest carts that ended long enough ago that nothing refers
    /// to them any more, and returns how many; 0 once there are none. Several nodes may run it at
    /// once.
    ///
    /// - A session, [`ENDED_SESSION_RETENTION`](crate::domain::account::ENDED_SESSION_RETENTION)
    ///   after it was revoked or has expired.
    /// - A guest's cart, the same time after the guest's token has expired, if it was merged, is
    ///   empty or was reported as abandoned. Until then the token could change it, and a cart that
    ///   starts over would repeat versions.
    async fn delete_ended_records(&self) -> Result<u64, StoreUnavailable>;

    /// The cursor of a reader that has read every event, from one snapshot.
    async fn outbox_heads(&self) -> Result<OutboxCursor, StoreUnavailable>;

    /// The same from a linearizable read: at least as new as every commit that any node
    /// acknowledged before the call. On a shared store, a member that was the primary and does not
    /// know yet that it no longer is must not answer.
    async fn linearizable_outbox_heads(&self) -> Result<OutboxCursor, StoreUnavailable> {
        self.outbox_heads().await
    }

    /// The cursor of the relay: the events that were published and confirmed.
    async fn published_cursor(&self) -> Result<OutboxCursor, StoreUnavailable>;

    /// Records that every event up to `cursor` was published and confirmed. It never takes back
    /// that an event was published.
    async fn mark_published(&self, cursor: &OutboxCursor) -> Result<(), StoreUnavailable>;

    /// The audit data of up to `limit` products with ids in `range`, deleted ones included, from
    /// one snapshot.
    async fn audit_products(
        &self,
        range: IdRange,
        limit: u32,
    ) -> Result<AuditPage<ProductAudit>, StoreUnavailable>;

    /// The audit data of up to `limit` orders with ids in `range`, and of unknown orders that
    /// movements name, from one snapshot.
    async fn audit_orders(
        &self,
        range: IdRange,
        limit: u32,
    ) -> Result<AuditPage<OrderAudit>, StoreUnavailable>;

    /// The audit data of each partition of the outbox: which offsets it holds.
    async fn audit_events(&self) -> Result<Vec<EventAudit>, StoreUnavailable>;

    /// Checks everything that is stored with the database's own means, and returns a line for each
    /// problem and for each part that could not be checked. It can take minutes, and reads go on
    /// meanwhile.
    async fn find_damage(&self) -> Result<Vec<String>, StoreUnavailable>;

    /// Succeeds when the database answers.
    async fn ping(&self) -> Result<(), StoreUnavailable>;

    /// Succeeds when the database takes changes: not when its disk is full or read-only, or no
    /// majority of its members confirms a write. This may write something that nobody reads, at
    /// most once a second.
    async fn check_writable(&self) -> Result<(), StoreUnavailable>;

    /// Closes the store. It accepts nothing more, and everything acknowledged is durable.
    async fn close(&self);
}
