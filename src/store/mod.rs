//! The store: where truth lives. Every change is one [`Commit`]; many commits share one transaction.
//!
//! [`batch`] decides what a batch of commits does, the same for every engine; an engine loads what a batch touches, writes what
//! the decision says, and makes it durable. [`writer`] gathers batches.

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
    messages::change::{IdempotencyKey, StoredReply},
};

/// What a batch of commits came to.
#[derive(Debug)]
pub struct AppliedBatch {
    /// One outcome a commit, in the batch's order.
    pub outcomes: Vec<CommitOutcome>,
    /// What has changed, in commit order.
    pub changes: CommittedChanges,
}

/// Why a batch came to nothing that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApplyError {
    /// Certainly nothing of it was applied.
    Unavailable,
    /// It may have been applied.
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

/// A read that could not be done. The reason was logged where it happened.
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
    /// Whether other nodes may change it too.
    fn is_shared(&self) -> bool;

    /// Applies a batch in one durable transaction; each commit in it succeeds or fails alone. Those that it would keep the others
    /// waiting for are left: [`CommitError::RetryLater`] and [`CommitError::RetryAlone`].
    async fn apply(&self, batch: Arc<[Commit]>) -> Result<AppliedBatch, ApplyError>;

    /// A cart, when it was ever changed.
    async fn find_cart(&self, owner: UserId) -> Result<Option<Cart>, StoreUnavailable>;

    /// Owners of carts with lines, untouched since before `before` and not yet abandoned: `limit` of them at most.
    async fn list_idle_carts(
        &self,
        before: Timestamp,
        limit: u32,
    ) -> Result<Vec<CartOwner>, StoreUnavailable>;

    /// Products with their stock, deleted ones left out, by id, the first after `after`: `limit` of them at most.
    async fn list_products(
        &self,
        after: Option<ProductId>,
        limit: u32,
    ) -> Result<Vec<(Product, StockLevel)>, StoreUnavailable>;

    /// One product with its stock, also when deleted.
    async fn find_product(
        &self,
        id: ProductId,
    ) -> Result<Option<(Product, StockLevel)>, StoreUnavailable>;

    /// Those of these products that are there, with their stock, also when deleted, in any order.
    async fn find_products_by_id(
        &self,
        ids: Vec<ProductId>,
    ) -> Result<Vec<(Product, StockLevel)>, StoreUnavailable>;

    /// A product's movements, newest first, those with a `sequence` below `before`: `limit` of them at most.
    async fn list_movements(
        &self,
        id: ProductId,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<StockMovement>, StoreUnavailable>;

    /// An order by id.
    async fn find_order(&self, id: OrderId) -> Result<Option<Order>, StoreUnavailable>;

    /// A user's orders, or everybody's, the newest first, those placed before `before`: `limit` of them at most.
    async fn list_orders(
        &self,
        of: Option<UserId>,
        before: Option<OrderId>,
        limit: u32,
    ) -> Result<Vec<Order>, StoreUnavailable>;

    /// Orders that are not paid yet and had to be at `now` or before, the longest overdue first, those after `after`, which is an
    /// order's time to pay by and its id: `limit` of them at most. An order that cannot be read is logged and left out.
    async fn list_overdue_orders(
        &self,
        now: Timestamp,
        after: Option<(Timestamp, OrderId)>,
        limit: u32,
    ) -> Result<Vec<Order>, StoreUnavailable>;

    /// An account by id.
    async fn find_user(&self, id: UserId) -> Result<Option<User>, StoreUnavailable>;

    /// An account by address.
    async fn find_user_by_email(&self, email: &Email) -> Result<Option<User>, StoreUnavailable>;

    /// Whether any account is an admin's.
    async fn has_admin(&self) -> Result<bool, StoreUnavailable>;

    /// A session by id.
    async fn find_session(&self, id: SessionId) -> Result<Option<Session>, StoreUnavailable>;

    /// An account's sessions that are neither revoked nor over at `now`.
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

    /// The first answer given under a key, with the fingerprint of its request.
    async fn find_stored_response(
        &self,
        key: &IdempotencyKey,
    ) -> Result<Option<([u8; 32], StoredReply)>, StoreUnavailable>;

    /// Whether a message from another system was carried out.
    async fn is_in_inbox(&self, id: &str) -> Result<bool, StoreUnavailable>;

    /// Events after `position`, in commit order: `limit` of them at most.
    async fn list_events_after(
        &self,
        position: u64,
        limit: u32,
    ) -> Result<Vec<OutboxEvent>, StoreUnavailable>;

    /// Where an event stands in commit order, while it is kept.
    async fn event_position(&self, id: EventId) -> Result<Option<u64>, StoreUnavailable>;

    /// The position of the newest event, 0 before the first.
    async fn last_event_position(&self) -> Result<u64, StoreUnavailable>;

    /// The same, at least as new as everything that any node has acknowledged before the call: on a shared store a member that does not
    /// know yet that it leads no longer must not answer.
    async fn confirmed_event_position(&self) -> Result<u64, StoreUnavailable> {
        self.last_event_position().await
    }

    /// How far the outbox was published: the last position confirmed with everything before it, 0 before the first.
    async fn published_position(&self) -> Result<u64, StoreUnavailable>;

    /// Notes that everything up to `position` was published and confirmed. What was noted never goes back.
    async fn mark_published(&self, position: u64) -> Result<(), StoreUnavailable>;

    /// What an audit looks at in products, those with ids in `span`: `limit` of them at most, deleted ones included, all from one
    /// moment.
    async fn audit_products(
        &self,
        span: IdRange,
        limit: u32,
    ) -> Result<AuditPage<ProductAudit>, StoreUnavailable>;

    /// What an audit looks at in orders, and in orders that movements name: `limit` of them at most, all from one moment.
    async fn audit_orders(
        &self,
        span: IdRange,
        limit: u32,
    ) -> Result<AuditPage<OrderAudit>, StoreUnavailable>;

    /// What an audit looks at in events.
    async fn audit_events(&self) -> Result<EventAudit, StoreUnavailable>;

    /// Whether it answers at all.
    async fn ping(&self) -> Result<(), StoreUnavailable>;

    /// Ends it: everything acknowledged is on disk, nothing is accepted any more.
    async fn close(&self);
}
