//! What a batch names, what the store holds of it, and what is to be written.

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
    events::{EventEnvelope, OutboxEvent},
    messages::change::{IdempotencyKey, StoredReply},
    store::commit::{Commit, CommittedChanges, Condition, Write},
};

/// A key as the store finds it.
pub type OwnedIdempotencyKey = (UserId, Box<str>);

/// What a batch names, and an engine must load before [`plan`](super::plan).
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ReadSet {
    /// Carts, for their version.
    pub carts: BTreeSet<UserId>,
    /// Products, for their version and sku.
    pub products: BTreeSet<ProductId>,
    /// Orders, for their version and status.
    pub orders: BTreeSet<OrderId>,
    /// Users, for how many of their orders are not paid yet.
    pub pending_order_users: BTreeSet<UserId>,
    /// Article numbers, for the living product that has them.
    pub skus: BTreeSet<String>,
    /// Stock levels.
    pub stock: BTreeSet<ProductId>,
    /// Accounts, for their version.
    pub users: BTreeSet<UserId>,
    /// Addresses, for the account that has them.
    pub emails: BTreeSet<String>,
    /// Sessions, for their version.
    pub sessions: BTreeSet<SessionId>,
    /// Idempotency keys.
    pub idempotency_keys: BTreeSet<OwnedIdempotencyKey>,
    /// Messages from other systems.
    pub inbox: BTreeSet<Box<str>>,
}

/// What the store holds of the things in [`ReadSet`]; absent is absent.
#[derive(Debug, Default)]
pub struct LoadedState {
    /// Versions of carts.
    pub carts: HashMap<UserId, u64>,
    /// Versions of products.
    pub products: HashMap<ProductId, u64>,
    /// Versions of orders, with where they stand.
    pub orders: HashMap<OrderId, (u64, OrderStatus)>,
    /// How many orders users have that are not paid yet.
    pub pending_orders: HashMap<UserId, u64>,
    /// Who has a sku.
    pub sku_owners: HashMap<String, ProductId>,
    /// Stock levels.
    pub stock: HashMap<ProductId, StockLevel>,
    /// Versions of accounts.
    pub users: HashMap<UserId, u64>,
    /// Who has an address.
    pub email_owners: HashMap<String, UserId>,
    /// Versions of sessions.
    pub sessions: HashMap<SessionId, u64>,
    /// Remembered answers with their fingerprints.
    pub stored_responses: HashMap<OwnedIdempotencyKey, ([u8; 32], StoredReply)>,
    /// Messages that were carried out.
    pub applied_messages: HashSet<Box<str>>,
}

/// What to write; each record once, in its last state.
#[derive(Debug, Default)]
pub struct WriteSet {
    /// Carts.
    pub carts: BTreeMap<UserId, Arc<Cart>>,
    /// Products; deleted ones give their sku up.
    pub products: BTreeMap<ProductId, Arc<Product>>,
    /// Orders.
    pub orders: BTreeMap<OrderId, Arc<Order>>,
    /// Stock levels that moved.
    pub stock: BTreeMap<ProductId, StockLevel>,
    /// Movements, in order.
    pub movements: Vec<StockMovement>,
    /// Accounts.
    pub users: BTreeMap<UserId, Arc<User>>,
    /// Sessions.
    pub sessions: BTreeMap<SessionId, Arc<Session>>,
    /// Answers to remember, with the time.
    pub stored_responses: Vec<(IdempotencyKey, StoredReply, Timestamp)>,
    /// Messages that are carried out, with the time.
    pub inbox: Vec<(Box<str>, Timestamp)>,
    /// Events, in commit order.
    pub events: Vec<EventEnvelope>,
}

impl ReadSet {
    /// Everything that `batch` names.
    #[must_use]
    pub fn for_batch(batch: &[Commit]) -> Self {
        let mut touched = Self::default();
        for commit in batch {
            if let Some(remember) = &commit.idempotency_record {
                touched.idempotency_keys.insert((remember.key.owner, remember.key.key.clone()));
            }
            for condition in &commit.conditions {
                match *condition {
                    Condition::ProductUnchanged(product_id, _) => {
                        touched.products.insert(product_id)
                    }
                    Condition::PendingOrdersBelow(user_id, _) => {
                        touched.pending_order_users.insert(user_id)
                    }
                };
            }
            touched.inbox.extend(commit.inbox_message_id.clone());
            for write in &commit.writes {
                touched.add_write(write);
            }
        }
        touched
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

    /// The events with their places, which begin at `first`.
    #[must_use]
    pub fn to_outbox_events(&self, first: u64) -> Vec<OutboxEvent> {
        let places = first..;
        let publish = |(event, position): (&EventEnvelope, u64)| OutboxEvent {
            position,
            id: event.id,
            kind: event.payload.event_type().to_owned(),
            audience: event.payload.audience(),
            body: event.to_json(),
        };
        self.events.iter().zip(places).map(publish).collect()
    }

    /// What this node's caches must hear once the writes are durable.
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
