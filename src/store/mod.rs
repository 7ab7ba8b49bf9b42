//! The store holds the shop's state. Every change is one [`Commit`], and one transaction applies a
//! batch of commits.
//!
//! [`writer`] gathers batches. [`plan`] decides what a batch does, the same for every engine. An
//! engine ([`sqlite`], [`mongo`]) loads the records that a batch names, has it planned, and makes
//! the planned writes durable.

pub mod commit;
mod limits;
pub mod mongo;
pub mod plan;
pub mod sqlite;
pub mod writer;

use std::sync::Arc;

use async_trait::async_trait;

pub use self::commit::{
    Commit, CommitError, CommitOutcome, CommitReceipt, CommittedChanges, Condition, StockWrite,
    Write,
};
use crate::{
    domain::{
        account::{Email, Session, User},
        audit::{AuditPage, EventAudit, IdRange, OrderAudit, ProductAudit},
        cart::{Cart, CartOwner},
        catalog::product::Product,
        clock::Timestamp,
        ids::{EventId, OrderId, ProductId, SessionId, UserId},
        inventory::{StockLevel, StockMovement},
        order::Order,
    },
    error::Error,
    events::OutboxEvent,
    messages::context::{IdempotencyKey, StoredReply},
};

/// The result of a batch of commits.
#[derive(Debug)]
pub struct AppliedBatch {
    /// One outcome per commit, in the batch's order.
    pub outcomes: Vec<CommitOutcome>,
    /// The changes for this node's caches, in commit order.
    pub changes: CommittedChanges,
}

/// Why a batch has no outcomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApplyError {
    /// No commit of the batch was applied.
    Unavailable,
    /// The batch may have been applied.
    OutcomeUnknown,
}

impl From<ApplyError> for CommitError {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::Unavailable => Self::Unavailable,
            ApplyError::OutcomeUnknown => Self::OutcomeUnknown,
        }
    }
}

/// A failed read. The engine has logged the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the store is not available")]
pub struct StoreUnavailable;

impl From<StoreUnavailable> for Error {
    fn from(_: StoreUnavailable) -> Self {
        Self::store_unavailable()
    }
}

/// An engine. Reads see everything that was acknowledged before they began.
///
/// An engine is opened with options and a [`Clock`](crate::domain::clock::Clock), and reads the
/// time from that clock only.
#[async_trait]
pub trait Store: Send + Sync {
    /// Whether other nodes can change the same data.
    fn is_shared(&self) -> bool;

    /// Applies a batch in one durable transaction, in which each commit succeeds or fails alone.
    /// The engine may leave commits undecided that would delay the others:
    /// [`CommitError::RetryLater`] and [`CommitError::RetryAlone`].
    async fn apply(&self, batch: Arc<[Commit]>) -> Result<AppliedBatch, ApplyError>;

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

    /// Up to `limit` of a product's movements, newest first, with a `sequence` below `before`.
    async fn list_movements(
        &self,
        id: ProductId,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<StockMovement>, StoreUnavailable>;

    /// The order with this id.
    async fn find_order(&self, id: OrderId) -> Result<Option<Order>, StoreUnavailable>;

    /// Up to `limit` orders that were placed before `before`, newest first, of one user or of all.
    async fn list_orders(
        &self,
        user: Option<UserId>,
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

    /// The account with this id.
    async fn find_user(&self, id: UserId) -> Result<Option<User>, StoreUnavailable>;

    /// The account with this email address.
    async fn find_user_by_email(&self, email: &Email) -> Result<Option<User>, StoreUnavailable>;

    /// Whether any account has the admin role.
    async fn has_admin(&self) -> Result<bool, StoreUnavailable>;

    /// The session with this id, even when it is revoked or expired.
    async fn find_session(&self, id: SessionId) -> Result<Option<Session>, StoreUnavailable>;

    /// An account's sessions that are neither revoked nor expired at `now`.
    async fn list_active_sessions(
        &self,
        user: UserId,
        now: Timestamp,
    ) -> Result<Vec<Session>, StoreUnavailable>;

    /// Sessions revoked at or after `since`.
    async fn list_sessions_revoked_since(
        &self,
        since: Timestamp,
    ) -> Result<Vec<SessionId>, StoreUnavailable>;

    /// The response stored under an idempotency key, with the fingerprint of its request. `None`
    /// when the key is unknown or expired.
    async fn find_stored_response(
        &self,
        key: &IdempotencyKey,
    ) -> Result<Option<([u8; 32], StoredReply)>, StoreUnavailable>;

    /// Whether the message with this id was applied before.
    async fn is_in_inbox(&self, id: &str) -> Result<bool, StoreUnavailable>;

    /// Up to `limit` events after `position`, in commit order.
    async fn list_events_after(
        &self,
        position: u64,
        limit: u32,
    ) -> Result<Vec<OutboxEvent>, StoreUnavailable>;

    /// An event's position in commit order; `None` when the event is unknown or no longer kept.
    async fn event_position(&self, id: EventId) -> Result<Option<u64>, StoreUnavailable>;

    /// The position of the newest event; 0 before the first.
    async fn last_event_position(&self) -> Result<u64, StoreUnavailable>;

    /// The position of the newest event, at least as new as every commit that any node acknowledged
    /// before the call. On a shared store, a member that was the primary and does not know yet that
    /// it no longer is must not answer.
    async fn confirmed_event_position(&self) -> Result<u64, StoreUnavailable> {
        self.last_event_position().await
    }

    /// The position up to which every event was published and confirmed; 0 before the first.
    async fn published_position(&self) -> Result<u64, StoreUnavailable>;

    /// Records that every event up to `position` was published and confirmed. A lower position than
    /// the recorded one changes nothing.
    async fn mark_published(&self, position: u64) -> Result<(), StoreUnavailable>;

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

    /// The audit data of the outbox: which positions it holds.
    async fn audit_events(&self) -> Result<EventAudit, StoreUnavailable>;

    /// Succeeds when the database answers.
    async fn ping(&self) -> Result<(), StoreUnavailable>;

    /// Closes the store. It accepts nothing more, and everything acknowledged is durable.
    async fn close(&self);
}
