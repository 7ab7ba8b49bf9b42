//! A store in memory, and random commits for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use proptest::prelude::*;
use uuid::Uuid;

use crate::{
    domain::{
        account::{Email, Role, Session, User},
        cart::{Cart, CartEvent, CartOwner},
        catalog::product::{Product, ProductDetails},
        clock::Timestamp,
        ids::{OrderId, ProductId, SessionId, UserId},
        inventory::{StockChange, StockLevel, StockMovement},
        order::{Order, OrderStatus, Payment, PaymentMethod},
    },
    events::{DomainEvent, EventEnvelope},
    messages::change::{IdempotencyKey, StoredReply},
    store::{
        commit::{
            Commit, CommitOutcome, Condition, IdempotencyRecord, StockWrite, StoredResponseBody,
            Write,
        },
        plan::{LoadedState, OwnedIdempotencyKey, Plan, ReadSet, plan_batch},
    },
};

pub(super) const LOW_STOCK: u64 = 5;

pub(super) fn numbered_id<I: From<Uuid>>(number: u8) -> I {
    I::from(Uuid::from_u128(u128::from(number) + 1))
}

/// A store in memory, which holds what it is told to.
#[derive(Clone, Default)]
pub(super) struct ModelStore {
    pub(super) carts: BTreeMap<UserId, Arc<Cart>>,
    pub(super) products: BTreeMap<ProductId, Arc<Product>>,
    pub(super) orders: BTreeMap<OrderId, Arc<Order>>,
    pub(super) stock: BTreeMap<ProductId, StockLevel>,
    pub(super) movements: Vec<StockMovement>,
    pub(super) users: BTreeMap<UserId, Arc<User>>,
    pub(super) sessions: BTreeMap<SessionId, Arc<Session>>,
    pub(super) keys: BTreeMap<OwnedIdempotencyKey, ([u8; 32], StoredReply)>,
    pub(super) inbox: BTreeSet<Box<str>>,
    pub(super) events: Vec<EventEnvelope>,
}

impl ModelStore {
    /// Loads what is touched and nothing else, as an engine does.
    pub(super) fn load(&self, touched: &ReadSet) -> LoadedState {
        let living = |sku: &String| {
            let mut living = self.products.values().filter(|product| !product.deleted);
            living
                .find(|product| product.details.sku.as_ref() == Some(sku))
                .map(|product| (sku.clone(), product.id))
        };
        let account = |email: &String| {
            self.users
                .values()
                .find(|user| user.email.as_str() == email)
                .map(|user| (email.clone(), user.id))
        };
        LoadedState {
            carts: touched
                .carts
                .iter()
                .filter_map(|id| Some((*id, self.carts.get(id)?.version)))
                .collect(),
            products: touched
                .products
                .iter()
                .filter_map(|id| Some((*id, self.products.get(id)?.version)))
                .collect(),
            orders: touched
                .orders
                .iter()
                .filter_map(|id| self.orders.get(id).map(|o| (*id, (o.version, o.status))))
                .collect(),
            pending_orders: touched
                .pending_order_users
                .iter()
                .map(|id| (*id, self.pending_order_count(*id)))
                .collect(),
            sku_owners: touched.skus.iter().filter_map(living).collect(),
            stock: touched
                .stock
                .iter()
                .filter_map(|id| Some((*id, *self.stock.get(id)?)))
                .collect(),
            users: touched
                .users
                .iter()
                .filter_map(|id| Some((*id, self.users.get(id)?.version)))
                .collect(),
            email_owners: touched.emails.iter().filter_map(account).collect(),
            sessions: touched
                .sessions
                .iter()
                .filter_map(|id| Some((*id, self.sessions.get(id)?.version)))
                .collect(),
            stored_responses: touched
                .idempotency_keys
                .iter()
                .filter_map(|id| Some((id.clone(), self.keys.get(id)?.clone())))
                .collect(),
            applied_messages: touched
                .inbox
                .iter()
                .filter(|id| self.inbox.contains(*id))
                .cloned()
                .collect(),
        }
    }

    /// How many orders of a user are not paid yet.
    pub(super) fn pending_order_count(&self, user: UserId) -> u64 {
        let is_pending = |order: &&Arc<Order>| {
            order.user_id == user && order.status == OrderStatus::PendingPayment
        };
        self.orders.values().filter(is_pending).count() as u64
    }

    pub(super) fn apply(&mut self, batch: &[Commit]) -> Vec<CommitOutcome> {
        let Plan { outcomes, writes } =
            plan_batch(batch, self.load(&ReadSet::for_batch(batch)), LOW_STOCK);
        self.carts.extend(writes.carts);
        self.products.extend(writes.products);
        self.orders.extend(writes.orders);
        self.stock.extend(writes.stock);
        self.movements.extend(writes.movements);
        self.users.extend(writes.users);
        self.sessions.extend(writes.sessions);
        let answer = |(key, answer, _): (IdempotencyKey, _, _)| {
            ((key.owner, key.key), (key.fingerprint, answer))
        };
        self.keys.extend(writes.stored_responses.into_iter().map(answer));
        for (id, _) in writes.inbox {
            assert!(self.inbox.insert(id), "an id is written once");
        }
        self.events.extend(writes.events);
        outcomes
    }

    /// The stock levels, without their versions.
    pub(super) fn unversioned_stock(&self) -> Vec<StockLevel> {
        self.stock.values().map(|level| StockLevel { version: 0, ..*level }).collect()
    }

    /// What [`ModelStore::unversioned_stock`] have to be after a commit that came to `outcome`, by the rules of stock alone.
    pub(super) fn expected_stock_after(
        &self,
        commit: &Commit,
        outcome: &CommitOutcome,
    ) -> Vec<StockLevel> {
        let mut after = self.clone();
        for write in commit.writes.iter().filter(|_| outcome.is_ok()) {
            let Write::Stock(stock) = write else { continue };
            let id = stock.product_id;
            let level = after.stock.get(&id).copied().unwrap_or(StockLevel::empty(id));
            let moved = level.apply(stock.change).expect("no part of it can be refused");
            after.stock.extend(moved.map(|(level, _)| (id, level)));
        }
        after.unversioned_stock()
    }

    /// What the events say, without their ids.
    pub(super) fn event_summaries(&self, stock: bool) -> Vec<(&'static str, Uuid, u64)> {
        let told = |event: &EventEnvelope| {
            (event.payload.event_type(), event.payload.subject(), event.payload.sequence())
        };
        self.events
            .iter()
            .map(told)
            .filter(|(kind, ..)| kind.starts_with("inventory") == stock)
            .collect()
    }

    /// The answers to remember, without the bodies that tell of stock.
    pub(super) fn stored_responses(&self) -> Vec<(OwnedIdempotencyKey, [u8; 32], Option<Bytes>)> {
        let body = |answer: &StoredReply| (!is_stock_reply(answer)).then(|| answer.body.clone());
        self.keys
            .iter()
            .map(|(key, (fingerprint, answer))| (key.clone(), *fingerprint, body(answer)))
            .collect()
    }
}

/// Whether a stored reply is a stock level; the other replies of the model are not JSON objects.
pub(super) fn is_stock_reply(reply: &StoredReply) -> bool {
    reply.body.starts_with(b"{")
}

/// A write to be made of what the store holds when its turn comes.
#[derive(Debug, Clone)]
pub(super) enum DraftWrite {
    Cart { owner: u8, ahead: u64 },
    Product { id: u8, ahead: u64, sku: Option<&'static str>, deleted: bool },
    Order { id: u8, ahead: u64, pending: bool },
    Stock { id: u8, change: StockChange },
    User { id: u8, ahead: u64, email: u8 },
    Session { id: u8, ahead: u64, revoked: bool },
}

#[derive(Debug, Clone)]
pub(super) struct DraftCommit {
    writes: Vec<DraftWrite>,
    /// A product that shall be at its version, or one before it.
    unchanged: Option<(u8, u64)>,
    /// Somebody who shall have fewer orders to pay than this.
    pending_below: Option<(u8, u32)>,
    key: Option<(u8, u8)>,
    inbox: Option<u8>,
}

pub(super) fn draft_writes() -> impl Strategy<Value = DraftWrite> {
    // Mostly the next version, sometimes a stale one or one too far.
    let ahead = || prop_oneof![8 => Just(1_u64), 1 => Just(0), 1 => Just(2)];
    let sku = prop_oneof![Just(None), Just(Some("A")), Just(Some("B")), Just(Some("C"))];
    let change = prop_oneof![
        (-20..20_i64).prop_map(StockChange::Adjust),
        (0..25_u64).prop_map(StockChange::Set),
        (0..8_u64).prop_map(StockChange::Reserve),
        (0..8_u64).prop_map(StockChange::Release),
        (0..8_u64).prop_map(StockChange::Ship),
        Just(StockChange::Set(u64::MAX)),
    ];
    prop_oneof![
        3 => (0..3_u8, ahead()).prop_map(|(owner, ahead)| DraftWrite::Cart { owner, ahead }),
        3 => (0..4_u8, ahead(), sku, prop::bool::weighted(0.2))
            .prop_map(|(id, ahead, sku, deleted)| DraftWrite::Product { id, ahead, sku, deleted }),
        3 => (0..6_u8, ahead(), any::<bool>()).prop_map(|(id, ahead, pending)| DraftWrite::Order { id, ahead, pending }),
        6 => (0..3_u8, change).prop_map(|(id, change)| DraftWrite::Stock { id, change }),
        1 => (0..3_u8, ahead(), 0..2_u8).prop_map(|(id, ahead, email)| DraftWrite::User { id, ahead, email }),
        1 => (0..2_u8, ahead(), any::<bool>()).prop_map(|(id, ahead, revoked)| DraftWrite::Session { id, ahead, revoked }),
    ]
}

pub(super) fn draft_commits() -> impl Strategy<Value = DraftCommit> {
    let key = prop::option::weighted(0.4, (0..4_u8, 0..2_u8));
    let unchanged =
        prop::option::weighted(0.2, (0..4_u8, prop_oneof![4 => Just(0_u64), 1 => Just(1)]));
    let pending_below = prop::option::weighted(0.3, (0..2_u8, 1..3_u32));
    let inbox = prop::option::weighted(0.2, 0..4_u8);
    (prop::collection::vec(draft_writes(), 1..4), unchanged, pending_below, key, inbox).prop_map(
        |(writes, unchanged, pending_below, key, inbox)| DraftCommit {
            writes,
            unchanged,
            pending_below,
            key,
            inbox,
        },
    )
}

impl DraftWrite {
    pub(super) fn to_write(&self, world: &ModelStore) -> Write {
        let next = |held: Option<u64>, ahead: u64| held.unwrap_or(0) + ahead;
        match *self {
            Self::Cart { owner, ahead } => {
                let owner = CartOwner { id: numbered_id(owner), is_guest: false };
                let version = next(world.carts.get(&owner.id).map(|cart| cart.version), ahead);
                Write::Cart(Arc::new(Cart { version, ..Cart::empty(owner) }))
            }
            Self::Product { id: number, ahead, sku, deleted } => {
                let version = next(
                    world.products.get(&numbered_id(number)).map(|product| product.version),
                    ahead,
                );
                let product =
                    Product::new(numbered_id(number), product_details(sku), Timestamp::default());
                Write::Product(Arc::new(Product { version, deleted, ..product }))
            }
            Self::Order { id: number, ahead, pending } => {
                let version =
                    next(world.orders.get(&numbered_id(number)).map(|order| order.version), ahead);
                let status = if pending { OrderStatus::PendingPayment } else { OrderStatus::Paid };
                Write::Order(Arc::new(order_at_version(number, number % 2, status, version)))
            }
            Self::Stock { id: number, change } => stock_write(number, change, None),
            Self::User { id: number, ahead, email } => {
                let held = world.users.get(&numbered_id(number));
                // An account keeps its address.
                let email = held.map_or_else(
                    || Email::from_stored(format!("{email}@example.com")),
                    |user| user.email.clone(),
                );
                Write::User(Arc::new(user_at_version(
                    number,
                    email,
                    next(held.map(|user| user.version), ahead),
                )))
            }
            Self::Session { id: number, ahead, revoked } => {
                let version = next(
                    world.sessions.get(&numbered_id(number)).map(|session| session.version),
                    ahead,
                );
                Write::Session(Arc::new(session_at_version(number, revoked, version)))
            }
        }
    }

    /// What a commit names once at most: a record, and a sku that is taken.
    pub(super) fn unique_names(&self) -> Vec<(u8, u8)> {
        match *self {
            Self::Cart { owner, .. } => vec![(0, owner)],
            Self::Product { id, sku, .. } => {
                sku.map(|sku| (2, sku.as_bytes()[0])).into_iter().chain([(1, id)]).collect()
            }
            Self::Stock { .. } => vec![],
            Self::User { id, email, .. } => vec![(3, id), (4, email)],
            Self::Session { id, .. } => vec![(5, id)],
            Self::Order { id, .. } => vec![(6, id)],
        }
    }
}

pub(super) fn product_details(sku: Option<&str>) -> ProductDetails {
    ProductDetails {
        sku: sku.map(Into::into),
        name: "Mint tea".into(),
        description: String::new(),
        price: crate::domain::money::Money::zero("EUR".parse().unwrap()),
        category: None,
        tags: Vec::new(),
        image_url: None,
        attributes: BTreeMap::new(),
    }
}

pub(super) fn order_at_version(number: u8, owner: u8, status: OrderStatus, version: u64) -> Order {
    Order {
        id: numbered_id(number),
        user_id: numbered_id(owner),
        status,
        version,
        currency: "EUR".parse().unwrap(),
        lines: Vec::new(),
        payment: Payment { method: PaymentMethod::Manual, reference: None },
        shipping_address: None,
        placed_at: Timestamp::default(),
        expires_at: None,
        updated_at: Timestamp::default(),
    }
}

pub(super) fn stock_write(number: u8, change: StockChange, expected_version: Option<u64>) -> Write {
    let (order_id, reference, reason) = (None, None, None);
    Write::Stock(StockWrite {
        product_id: numbered_id(number),
        change,
        expected_version,
        order_id,
        reference,
        reason,
    })
}

pub(super) fn user_at_version(number: u8, email: Email, version: u64) -> User {
    User {
        id: numbered_id(number),
        email,
        name: "Ada".into(),
        role: Role::Customer,
        password_hash: String::new(),
        created_at: Timestamp::default(),
        version,
        event_sequence: 1,
    }
}

pub(super) fn session_at_version(number: u8, revoked: bool, version: u64) -> Session {
    Session {
        id: numbered_id(number),
        user_id: numbered_id(0),
        refresh_hash: [0; 32],
        created_at: Timestamp::default(),
        expires_at: Timestamp::default(),
        revoked_at: revoked.then(Timestamp::default),
        version,
    }
}

pub(super) fn commit_of(writes: Vec<Write>) -> Commit {
    let fact = |write: &Write| match write {
        Write::Cart(cart) => Some(DomainEvent::Cart(Arc::clone(cart), CartEvent::Cleared)),
        Write::Product(product) => Some(DomainEvent::Product(Arc::clone(product))),
        Write::Order(order) => Some(DomainEvent::Order(Arc::clone(order))),
        Write::User(user) => Some(DomainEvent::UserRegistered(Arc::clone(user))),
        Write::Stock(_) | Write::Session(_) => None,
    };
    let facts = writes.iter().filter_map(fact).collect();
    Commit {
        writes,
        events: facts,
        ..Commit::new(Timestamp::default(), Instant::now() + Duration::from_secs(60))
    }
}

pub(super) fn idempotency_record(
    number: u8,
    fingerprint: u8,
    body: StoredResponseBody,
) -> IdempotencyRecord {
    let key = IdempotencyKey {
        owner: numbered_id(0),
        key: number.to_string().into(),
        fingerprint: [fingerprint; 32],
    };
    IdempotencyRecord { key, body }
}

impl DraftCommit {
    pub(super) fn to_commit(&self, world: &ModelStore, number: usize) -> Commit {
        let mut named = BTreeSet::new();
        let once =
            |draft: &&DraftWrite| draft.unique_names().into_iter().all(|name| named.insert(name));
        let commit =
            commit_of(self.writes.iter().filter(once).map(|draft| draft.to_write(world)).collect());
        let moved = commit.writes.iter().find_map(|write| match write {
            Write::Stock(stock) => Some(StoredResponseBody::StockLevelOf(stock.product_id)),
            _ => None,
        });
        let body =
            moved.unwrap_or(StoredResponseBody::Ready(Bytes::from(format!("answer {number}"))));
        let version =
            |number| world.products.get(&numbered_id(number)).map_or(0, |product| product.version);
        let unchanged = self.unchanged.map(|(number, behind)| {
            let version = version(number).saturating_sub(behind);
            Condition::ProductUnchanged(numbered_id(number), version)
        });
        let pending_below = self
            .pending_below
            .map(|(owner, limit)| Condition::PendingOrdersBelow(numbered_id(owner), limit));
        let conditions = unchanged.into_iter().chain(pending_below).collect();
        let inbox = self.inbox.map(|id| id.to_string().into());
        let remember =
            self.key.map(|(key, fingerprint)| idempotency_record(key, fingerprint, body));
        Commit { conditions, idempotency_record: remember, inbox_message_id: inbox, ..commit }
    }
}
