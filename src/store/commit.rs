//! A commit and its outcome.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use super::condition::Condition;
use crate::{
    domain::{
        account::{AddressBook, ApiKey, Session, User, VersionedRights},
        action::ActionOrigin,
        cart::{Cart, Shortage},
        catalog::product::Product,
        clock::Timestamp,
        ids::{OrderId, ProductId, PromotionId, SessionId, UserId},
        inventory::{StockChange, StockLevel},
        mail::Mail,
        order::{Order, PurchaseExcess},
        pricing::{PromotionUses, RuleKind, RuleRecord, UseChange},
        webhook::{PendingDelivery, Webhook},
    },
    events::{DomainEvent, EventEnvelope, OutboxEvent},
    messages::command_context::{IdempotencyKey, StoredReply, TraceParent},
};

/// One change, applied whole or not at all: conditions, writes, events, and the response to store.
///
/// A written record carries its new version. The commit is a conflict unless the store holds the
/// version before it, or no record when the new version is 1.
#[derive(Debug, Clone)]
pub struct Commit {
    /// Conditions besides the versions of the written records.
    pub conditions: Vec<Condition>,
    /// The records to write and the stock to change.
    pub writes: Vec<Write>,
    /// Events for the outbox. The planner adds those of stock, which depend on the whole batch.
    pub events: Vec<DomainEvent>,
    /// The response to store, and its idempotency key.
    pub idempotency_record: Option<IdempotencyRecord>,
    /// The id of the message that this commit carries out. Each id is applied once, even when the
    /// commit changes nothing.
    pub inbox_message_id: Option<Box<str>>,
    /// The time of the decision: the time of its events, movements and idempotency key.
    pub decided_at: Timestamp,
    /// The caller's trace, which its events carry on.
    pub trace: Option<TraceParent>,
    /// Who asked for the change, if it needs rights that customers do not have. If the commit
    /// changes anything, it records an action.
    pub action: Option<Arc<ActionOrigin>>,
    /// The writer does not begin the commit after this.
    pub deadline: Instant,
}

/// A write and its implied condition.
#[derive(Debug, Clone)]
pub enum Write {
    /// Writes a cart if its version follows the stored one.
    Cart(Arc<Cart>),
    /// Writes a product if its version follows the stored one and no other active product has its
    /// sku.
    Product(Arc<Product>),
    /// Writes an order if its version follows the stored one.
    Order(Arc<Order>),
    /// Changes stock if the stock suffices.
    Stock(StockWrite),
    /// Writes an account if its version follows the stored one and no other account has its email
    /// address.
    User(Arc<User>),
    /// Writes a session if its version follows the stored one.
    Session(Arc<Session>),
    /// Writes an API key if its version follows the stored one.
    ApiKey(Arc<ApiKey>),
    /// Writes a mail that waits to be sent if its version follows the stored one. One that has
    /// ended is removed.
    Mail(Arc<Mail>),
    /// Writes a webhook endpoint if its version follows the stored one. A deleted one is
    /// removed.
    Webhook(Arc<Webhook>),
    /// Writes an event that waits to be delivered to an endpoint, whatever is stored of it.
    WebhookDelivery(Arc<PendingDelivery>),
    /// Writes the addresses of an account. The commit must write the account, whose version guards
    /// them.
    AddressBook(Arc<AddressBook>),
    /// Deletes an account if the stored version is this one, and what tells who it belonged to:
    ///
    /// - the account, its addresses and the replies that are stored for it;
    /// - where its sessions were opened;
    /// - in its orders, the e-mail address, and all of the addresses but
    ///   [`KEPT_ADDRESS_FIELDS`](crate::domain::order::KEPT_ADDRESS_FIELDS);
    /// - the same in orders of guests with its e-mail address, if that was verified, and in the
    ///   replies that are stored for these guests; orders that are paid and not shipped keep their
    ///   addresses;
    /// - the same in replies that are stored for others [about](IdempotencyRecord::about) it.
    ///
    /// The commit must write the account's cart, so that no order is placed meanwhile.
    EraseAccount(Arc<User>),
    /// Records that the replies stored for a guest, or [about](IdempotencyRecord::about) one, are
    /// about the guest's account from now on; a conflict if there is no such account. The commit
    /// also writes the orders that move to the account. An erasure of the account comes before or
    /// after this commit, never at the same time.
    ReassignGuestReplies {
        /// The guest.
        guest_id: UserId,
        /// The guest's account.
        user_id: UserId,
    },
    /// Writes a pricing rule if its version follows the stored one and no other rule has its
    /// unique key.
    PricingRule(Arc<RuleRecord>),
    /// Takes a use of a promotion, if one is left, or gives one back.
    PromotionUse(PromotionId, UseChange),
}

/// A guarded change of stock, with the details of its movement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockWrite {
    /// The product whose stock changes.
    pub product_id: ProductId,
    /// The kind and size of the change.
    pub change: StockChange,
    /// Fails with a mismatch unless the stock has this version.
    pub expected_version: Option<u64>,
    /// The order that the movement belongs to.
    pub order_id: Option<OrderId>,
    /// The caller's own reference.
    pub reference: Option<String>,
    /// The caller's reason, in free text.
    pub reason: Option<String>,
}

/// A response to store under an idempotency key.
#[derive(Debug, Clone)]
pub struct IdempotencyRecord {
    /// The key, with the request's fingerprint.
    pub key: IdempotencyKey,
    /// The response's body.
    pub body: StoredReplyBody,
    /// The account that the response is about, if it is not the key's owner.
    pub about: Option<UserId>,
}

/// The body of a response to store.
#[derive(Debug, Clone)]
pub enum StoredReplyBody {
    /// A body that is known when the commit is decided.
    Ready(Bytes),
    /// The product's stock level after the batch, which the planner fills in.
    StockLevelOf(ProductId),
    /// None: the request is refused. The commit has no writes, and only records the refusal, so
    /// that an earlier attempt, which may still wait on another node, does not apply.
    Refused,
}

impl Commit {
    /// Adds the mails that tell the buyer what became of an order since `before`; `None` if it is
    /// new.
    pub(crate) fn add_order_mails(&mut self, before: Option<&Order>, order: &Order) {
        let notices = order.notices_since(before).into_iter();
        let mail = |notice| Mail::about_order(order, notice, self.decided_at);
        self.writes.extend(notices.map(mail).map(Arc::new).map(Write::Mail));
    }

    /// A commit without writes.
    #[must_use]
    pub const fn new(decided_at: Timestamp, deadline: Instant) -> Self {
        Self {
            conditions: Vec::new(),
            writes: Vec::new(),
            events: Vec::new(),
            idempotency_record: None,
            inbox_message_id: None,
            decided_at,
            trace: None,
            action: None,
            deadline,
        }
    }
}

impl CommitError {
    /// Whether the planner rejected the commit on the store's state, so that the request fails
    /// unless the caller decides it anew.
    pub(crate) const fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::StockVersionMismatch(_)
                | Self::InsufficientStock(_)
                | Self::StockOverflow
                | Self::TooManyPendingOrders
                | Self::TooManyPendingUnits { .. }
                | Self::PurchaseLimitReached(_)
                | Self::EmailTaken
                | Self::SkuTaken
                | Self::RuleExists(_)
                | Self::PromotionUsedUp(_)
                | Self::LastAdmin
                | Self::TooManyApiKeys
                | Self::OrdersOpen
        )
    }
}

/// The result of a commit.
pub type CommitOutcome = Result<CommitReceipt, CommitError>;

/// The name of an outcome, for metrics and traces.
pub(crate) const fn outcome_name(outcome: &CommitOutcome) -> &'static str {
    match outcome {
        Ok(_) => "applied",
        Err(CommitError::Conflict) => "conflict",
        Err(CommitError::StockVersionMismatch(_)) => "stock_version_mismatch",
        Err(CommitError::InsufficientStock(_)) => "insufficient_stock",
        Err(CommitError::StockOverflow) => "stock_overflow",
        Err(CommitError::TooManyPendingOrders) => "too_many_pending_orders",
        Err(CommitError::TooManyPendingUnits { .. }) => "too_many_pending_units",
        Err(CommitError::PurchaseLimitReached(_)) => "purchase_limit_reached",
        Err(CommitError::EmailTaken) => "email_taken",
        Err(CommitError::SkuTaken) => "sku_taken",
        Err(CommitError::RuleExists(_)) => "rule_exists",
        Err(CommitError::PromotionUsedUp(_)) => "promotion_used_up",
        Err(CommitError::LastAdmin) => "last_admin",
        Err(CommitError::TooManyApiKeys) => "too_many_api_keys",
        Err(CommitError::OrdersOpen) => "orders_open",
        Err(CommitError::Replayed(_)) => "replayed",
        Err(CommitError::IdempotencyKeyReused) => "idempotency_key_reused",
        Err(CommitError::SupersededByRefusal) => "superseded_by_refusal",
        Err(CommitError::AlreadyApplied) => "already_applied",
        Err(CommitError::RetryLater) => "retry_later",
        Err(CommitError::RetryAlone) => "retry_alone",
        Err(CommitError::Overloaded) => "overloaded",
        Err(CommitError::Unavailable) => "unavailable",
        Err(CommitError::OutcomeUnknown) => "outcome_unknown",
    }
}

/// The receipt of an applied commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitReceipt {
    /// The stock levels after the batch, of the products whose stock the commit names.
    pub stock: Vec<StockLevel>,
}

/// Why a commit was not applied, or may not have been.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CommitError {
    /// A record has another version than the one that the commit was decided on.
    Conflict,
    /// The stock has this version, which is not the expected one.
    StockVersionMismatch(u64),
    /// The stock of these products does not suffice.
    InsufficientStock(Vec<Shortage>),
    /// The stock would exceed the largest supported amount.
    StockOverflow,
    /// The user has reached the limit of pending orders, which are placed and not paid.
    TooManyPendingOrders,
    /// The order would exceed the limit of units in the user's pending orders.
    TooManyPendingUnits {
        /// The units that the user may still order.
        left: u64,
    },
    /// These lines exceed the purchase limits of their products.
    PurchaseLimitReached(Vec<PurchaseExcess>),
    /// Another account has the email address.
    EmailTaken,
    /// Another active product has the sku.
    SkuTaken,
    /// Another rule of this kind has the same unique key.
    RuleExists(RuleKind),
    /// As many orders have the promotion as can have it, of all buyers or of this one.
    PromotionUsedUp(PromotionId),
    /// No other admin would remain.
    LastAdmin,
    /// The admin has made as many API keys as one may.
    TooManyApiKeys,
    /// The user has an order that is paid and not shipped.
    OrdersOpen,
    /// The same request was applied before under the same key; this is its response.
    #[serde(skip)]
    Replayed(StoredReply),
    /// The idempotency key was used for another request.
    IdempotencyKeyReused,
    /// A later attempt with the same idempotency key was refused, so this one must not apply.
    SupersededByRefusal,
    /// The message with this inbox id was applied before.
    AlreadyApplied,
    /// Not applied: the engine gave up the attempt so that other commits fail before their
    /// deadline, and this one has time left. The writer retries it, and callers never see this.
    RetryLater,
    /// Not applied: the database refused a record of the batch, maybe one of another commit. The
    /// writer retries each commit in a transaction of its own, and callers never see this.
    RetryAlone,
    /// Not applied: the server is overloaded.
    Overloaded,
    /// Not applied: the store is unavailable.
    Unavailable,
    /// The commit may have been applied.
    OutcomeUnknown,
}

/// The changes of a batch, for this node's caches, in commit order.
#[derive(Debug, Clone, Default)]
pub struct CommittedChanges {
    /// Owners of the carts that changed, with the carts' new versions.
    pub carts: Vec<(UserId, u64)>,
    /// The products that changed, in their new state.
    pub products: Vec<Arc<Product>>,
    /// The stock levels that changed, in their new state.
    pub stock: Vec<StockLevel>,
    /// Revoked sessions, with the time of revocation.
    pub revoked_sessions: Vec<(SessionId, Timestamp)>,
    /// The accounts whose rights changed, and new ones that are no customers.
    pub rights: Vec<VersionedRights>,
    /// The API keys that are new or deleted.
    pub api_keys: Vec<Arc<ApiKey>>,
    /// The pricing rules that changed, in their new state.
    pub pricing_rules: Vec<Arc<RuleRecord>>,
    /// How often promotions are used, of those for which it changed.
    pub promotion_uses: Vec<PromotionUses>,
    /// The users whose orders with promotions changed.
    pub promotion_buyers: Vec<UserId>,
    /// Events, with their positions.
    pub events: Vec<OutboxEvent>,
}

impl CommittedChanges {
    /// The changes of a commit that another node has applied. Their events are read from the
    /// store, like all events of other nodes.
    pub(crate) fn of_forwarded(commit: &Commit, receipt: &CommitReceipt) -> Self {
        let mut changes = Self { stock: receipt.stock.clone(), ..Self::default() };
        for write in &commit.writes {
            match write {
                Write::Cart(cart) => changes.carts.push((cart.owner.id, cart.version)),
                Write::Product(product) => changes.products.push(Arc::clone(product)),
                Write::Order(order) => changes.promotion_buyers.extend(order.promotion_buyer()),
                // Others are not forwarded, or in no cache.
                _ => {}
            }
        }
        changes
    }

    /// Appends the changes of a later batch.
    pub(crate) fn append(&mut self, later: Self) {
        self.carts.extend(later.carts);
        self.products.extend(later.products);
        self.stock.extend(later.stock);
        self.revoked_sessions.extend(later.revoked_sessions);
        self.rights.extend(later.rights);
        self.api_keys.extend(later.api_keys);
        self.pricing_rules.extend(later.pricing_rules);
        self.promotion_uses.extend(later.promotion_uses);
        self.promotion_buyers.extend(later.promotion_buyers);
        self.events.extend(later.events);
    }
}

/// An event of `commit` that has no position yet.
pub(crate) fn new_event(payload: DomainEvent, commit: &Commit) -> EventEnvelope {
    EventEnvelope::new(payload, commit.decided_at, commit.trace.clone())
}
