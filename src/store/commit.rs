//! What a commit is, and what can come of it.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;

use crate::{
    domain::{
        account::{Session, User},
        cart::{Cart, Shortage},
        catalog::product::Product,
        clock::Timestamp,
        ids::{OrderId, ProductId, SessionId, UserId},
        inventory::{StockChange, StockLevel},
        order::Order,
    },
    events::{DomainEvent, EventEnvelope, OutboxEvent},
    messages::change::{IdempotencyKey, StoredReply, TraceParent},
};

/// One change, applied whole or not at all: conditions, writes, events, and the answer to remember.
///
/// A written record carries its new version; the condition is always that the store holds the one before it (for version 1: none).
#[derive(Debug, Clone)]
pub struct Commit {
    /// What must hold besides the conditions of its writes.
    pub conditions: Vec<Condition>,
    /// What to write, under which conditions.
    pub writes: Vec<Write>,
    /// Facts for the outbox. Those of stock are added when it is known what the batch makes of it.
    pub events: Vec<DomainEvent>,
    /// The answer to give again, with the key to give it for.
    pub idempotency_record: Option<IdempotencyRecord>,
    /// The message from another system that it carries out: applied once for each id, also when it changes nothing.
    pub inbox_message_id: Option<Box<str>>,
    /// When it was decided.
    pub decided_at: Timestamp,
    /// The caller's trace, carried into events.
    pub trace: Option<TraceParent>,
    /// After this it is not begun any more.
    pub deadline: Instant,
}

/// Something that must hold, though nothing is written there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// The product has this version still, so that what was decided on it is true; else it is a conflict.
    ProductUnchanged(ProductId, u64),
    /// The user has fewer orders that are not paid yet than this.
    PendingOrdersBelow(UserId, u32),
}

/// A condition with its write.
#[derive(Debug, Clone)]
pub enum Write {
    /// A cart, by version.
    Cart(Arc<Cart>),
    /// A product, by version; its sku must be free among living products.
    Product(Arc<Product>),
    /// An order, by version.
    Order(Arc<Order>),
    /// Stock, by guard.
    Stock(StockWrite),
    /// An account, by version; its address must be free.
    User(Arc<User>),
    /// A session, by version.
    Session(Arc<Session>),
}

/// A guarded change of stock, with what its movement says.
#[derive(Debug, Clone)]
pub struct StockWrite {
    /// Whose stock.
    pub product_id: ProductId,
    /// What to do.
    pub change: StockChange,
    /// Only when the stock has this version.
    pub expected_version: Option<u64>,
    /// The order it is made for.
    pub order_id: Option<OrderId>,
    /// The caller's own reference.
    pub reference: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

/// An answer to remember.
#[derive(Debug, Clone)]
pub struct IdempotencyRecord {
    /// For which key.
    pub key: IdempotencyKey,
    /// What was answered.
    pub body: StoredResponseBody,
}

/// The body of an answer to remember.
#[derive(Debug, Clone)]
pub enum StoredResponseBody {
    /// These bytes.
    Ready(Bytes),
    /// This product's stock level after the batch, which only the batch knows.
    StockLevelOf(ProductId),
}

impl Commit {
    /// A commit without writes.
    #[must_use]
    pub const fn new(at: Timestamp, deadline: Instant) -> Self {
        Self {
            conditions: Vec::new(),
            writes: Vec::new(),
            events: Vec::new(),
            idempotency_record: None,
            inbox_message_id: None,
            decided_at: at,
            trace: None,
            deadline,
        }
    }
}

/// What came of a commit.
pub type CommitOutcome = Result<CommitReceipt, CommitError>;

/// A commit that was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitReceipt {
    /// The stock levels after it, of the products whose stock it named.
    pub stock: Vec<StockLevel>,
}

/// A commit that was not applied, or perhaps not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitError {
    /// A record has another version than the commit was decided on.
    Conflict,
    /// The stock has another version than the caller wanted; this is the one it has.
    StockVersionMismatch(u64),
    /// Guards that did not hold.
    OutOfStock(Vec<Shortage>),
    /// More stock than can be counted.
    StockOverflow,
    /// The user has as many orders that are not paid yet as one may have.
    TooManyPendingOrders,
    /// The address has an account.
    EmailTaken,
    /// Another living product has the sku.
    SkuTaken,
    /// It was done before, under the same key: the first answer.
    Replayed(StoredReply),
    /// The key was used for another request.
    IdempotencyKeyReused,
    /// The message that it carries out was carried out before.
    AlreadyApplied,
    /// Certainly not applied, and there is time to apply it: others of its batch are not to wait for that. Only the batching writer
    /// hears of it.
    RetryLater,
    /// Certainly not applied: the store refuses a record that it names. To be applied again, alone, since another commit of its batch may
    /// be at fault. Only the batching writer hears of it.
    RetryAlone,
    /// Certainly not applied: too much to do.
    Overloaded,
    /// Certainly not applied: the store does not answer.
    Unavailable,
    /// It may have been applied.
    OutcomeUnknown,
}

/// What a batch has changed, for the caches of this node. In commit order.
#[derive(Debug, Clone, Default)]
pub struct CommittedChanges {
    /// Carts that have a new version.
    pub carts: Vec<(UserId, u64)>,
    /// Products as they are now.
    pub products: Vec<Arc<Product>>,
    /// Stock as it is now.
    pub stock: Vec<StockLevel>,
    /// Sessions that were revoked, with the time.
    pub revoked_sessions: Vec<(SessionId, Timestamp)>,
    /// Events, with their places.
    pub events: Vec<OutboxEvent>,
}

impl CommittedChanges {
    /// Adds what has changed after it.
    pub(crate) fn append(&mut self, later: Self) {
        self.carts.extend(later.carts);
        self.products.extend(later.products);
        self.stock.extend(later.stock);
        self.revoked_sessions.extend(later.revoked_sessions);
        self.events.extend(later.events);
    }
}

/// An event with nothing but its place missing.
pub(crate) fn new_event(fact: DomainEvent, commit: &Commit) -> EventEnvelope {
    EventEnvelope::new(fact, commit.decided_at, commit.trace.clone())
}
