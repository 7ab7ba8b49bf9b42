//! The planner's input and output: the records to read, their stored state, and the records to
//! write.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use crate::{
    domain::{
        account::{Session, User},
        cart::Cart,
        catalog::product::Product,
        clock::Timestamp,
        ids::{OrderId, ProductId, SessionId, UserId},
        inventory::{StockLevel, StockMovement},
        order::{Order, OrderStatus},
    },
    events::{EventEnvelope, OutboxEvent, OutboxPosition},
    messages::context::{IdempotencyKey, StoredReply},
    store::commit::{Commit, CommittedChanges, Condition, Write},
};

/// An idempotency key and its owner, by which its stored response is found.
pub type OwnedIdempotencyKey = (UserId, Box<str>);

/// The records that an engine must load before [`plan_batch`](super::plan_batch).
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ReadSet {
    /// Carts, for their version.
    pub carts: BTreeSet<UserId>,
    /// Products, for their version and sku.
    pub products: BTreeSet<ProductId>,
    /// Orders, for their version and status.
    pub orders: BTreeSet<OrderId>,
    /// Users, for the number of their unpaid orders.
    pub pending_order_users: BTreeSet<UserId>,
    /// Skus, for the active product that has each.
    pub skus: BTreeSet<String>,
    /// Products whose stock level is needed.
    pub stock: BTreeSet<ProductId>,
    /// Accounts, for their version.
    pub users: BTreeSet<UserId>,
    /// Email addresses, for the account that has each.
    pub emails: BTreeSet<String>,
    /// Sessions, for their version.
    pub sessions: BTreeSet<SessionId>,
    /// Idempotency keys, for their stored responses.
    pub idempotency_keys: BTreeSet<OwnedIdempotencyKey>,
    /// Ids of messages, which may have been applied before.
    pub inbox: BTreeSet<Box<str>>,
}

/// The stored state of what a [`ReadSet`] names. Records that the store lacks are absent.
#[derive(Debug, Default)]
pub struct LoadedState {
    /// Versions of carts.
    pub carts: HashMap<UserId, u64>,
    /// Versions of products.
    pub products: HashMap<ProductId, u64>,
    /// Versions and statuses of orders.
    pub orders: HashMap<OrderId, (u64, OrderStatus)>,
    /// Numbers of unpaid orders, by user.
    pub pending_orders: HashMap<UserId, u64>,
    /// Active products, by sku.
    pub sku_owners: HashMap<String, ProductId>,
    /// Stock levels, by product.
    pub stock: HashMap<ProductId, StockLevel>,
    /// Versions of accounts.
    pub users: HashMap<UserId, u64>,
    /// Accounts, by email address.
    pub email_owners: HashMap<String, UserId>,
    /// Versions of sessions.
    pub sessions: HashMap<SessionId, u64>,
    /// Stored responses, with the fingerprints of their requests.
    pub stored_responses: HashMap<OwnedIdempotencyKey, ([u8; 32], StoredReply)>,
    /// Ids of messages that were applied.
    pub applied_messages: HashSet<Box<str>>,
}

/// The records to write, each once, in its final state.
#[derive(Debug, Default)]
pub struct WriteSet {
    /// Carts, by owner.
    pub carts: BTreeMap<UserId, Arc<Cart>>,
    /// Products. A deleted product releases its sku.
    pub products: BTreeMap<ProductId, Arc<Product>>,
    /// Orders, by id.
    pub orders: BTreeMap<OrderId, Arc<Order>>,
    /// Stock levels that moved.
    pub stock: BTreeMap<ProductId, StockLevel>,
    /// Movements of stock, in commit order.
    pub movements: Vec<StockMovement>,
    /// Accounts, by id.
    pub users: BTreeMap<UserId, Arc<User>>,
    /// Sessions, by id.
    pub sessions: BTreeMap<SessionId, Arc<Session>>,
    /// Responses to store, with the time that their keys expire from.
    pub stored_responses: Vec<(IdempotencyKey, StoredReply, Timestamp)>,
    /// Ids of applied messages, with the time.
    pub inbox: Vec<(Box<str>, Timestamp)>,
    /// Events, in commit order.
    pub events: Vec<EventEnvelope>,
}

impl ReadSet {
    /// The records that `batch` names.
    #[must_use]
    pub fn for_batch(batch: &[Commit]) -> Self {
        let mut read_set = Self::default();
        for commit in batch {
            if let Some(record) = &commit.idempotency_record {
                read_set.idempotency_keys.insert((record.key.owner, record.key.key.clone()));
            }
            for condition in &commit.conditions {
                match *condition {
                    Condition::ProductUnchanged(product_id, _) => {
                        read_set.products.insert(product_id)
                    }
                    Condition::PendingOrdersBelow(user_id, _) => {
                        read_set.pending_order_users.insert(user_id)
                    }
                };
            }
            read_set.inbox.extend(commit.inbox_message_id.clone());
            for write in &commit.writes {
                read_set.add_write(write);
            }
        }
        read_set
    }

    fn add_write(&mut self, write: &Write) {
        match write {
            Write::Cart(cart) => {
                self.carts.insert(cart.owner.id);
            }
            Write::Product(product) => {
                self.products.insert(product.id);
                self.skus.extend(product.details.sku.clone());
            }
            Write::Order(order) => {
                self.orders.insert(order.id);
            }
            Write::Stock(stock) => {
                self.stock.insert(stock.product_id);
            }
            Write::User(user) => {
                self.users.insert(user.id);
                self.emails.insert(user.email.as_str().to_owned());
            }
            Write::Session(session) => {
                self.sessions.insert(session.id);
            }
        }
    }
}

impl WriteSet {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.carts.is_empty()
            && self.products.is_empty()
            && self.orders.is_empty()
            && self.users.is_empty()
            && self.sessions.is_empty()
            && self.movements.is_empty()
            && self.stored_responses.is_empty()
            && self.inbox.is_empty()
            && self.events.is_empty()
    }

    /// The events with their positions, of which the first is `first`.
    #[must_use]
    pub fn to_outbox_events(&self, first: OutboxPosition) -> Vec<OutboxEvent> {
        let to_outbox_event = |(event, offset): (&EventEnvelope, u64)| OutboxEvent {
            position: OutboxPosition { offset, ..first },
            id: event.id,
            kind: event.payload.event_type().as_str().to_owned(),
            audience: event.payload.audience(),
            body: event.to_json(),
        };
        self.events.iter().zip(first.offset..).map(to_outbox_event).collect()
    }

    /// The changes for this node's caches, which apply once the writes are durable.
    #[must_use]
    pub fn into_changes(self, events: Vec<OutboxEvent>) -> CommittedChanges {
        let revoked = |session: &Arc<Session>| session.revoked_at.map(|at| (session.id, at));
        CommittedChanges {
            carts: self.carts.values().map(|cart| (cart.owner.id, cart.version)).collect(),
            products: self.products.into_values().collect(),
            stock: self.stock.into_values().collect(),
            revoked_sessions: self.sessions.values().filter_map(revoked).collect(),
            events,
        }
    }
}
