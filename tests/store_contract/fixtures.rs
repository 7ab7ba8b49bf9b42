//! Sample records and commits.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use souk::{
    domain::{
        account::{Email, Role, ScopeSet, Session, User},
        cart::{Cart, CartEvent, CartLine, CartOwner},
        catalog::product::{Product, ProductDetails},
        clock::{Clock, SystemClock, Timestamp},
        ids::{OrderId, ProductId, SessionId, UserId},
        inventory::{StockChange, StockLevel},
        money::{Currency, Money},
        order::{Order, OrderLine, OrderStatus, Payment, PaymentMethod},
    },
    events::{DomainEvent, OutboxCursor, OutboxEvent},
    messages::command_context::{IdempotencyKey, StoredReply},
    store::{
        AppliedBatch, Commit, CommitOutcome, StockWrite, Store, Write,
        commit::{IdempotencyRecord, StoredReplyBody},
    },
};

/// At this many units, the stores under test report low stock.
pub(crate) const LOW_STOCK: u64 = 5;

pub(crate) fn now() -> Timestamp {
    SystemClock.now()
}

pub(crate) fn euro() -> Currency {
    "EUR".parse().unwrap()
}

pub(crate) fn price(text: &str) -> Money {
    Money::parse(text, euro()).unwrap()
}

/// A commit with these writes and without events.
pub(crate) fn commit(writes: impl IntoIterator<Item = Write>) -> Commit {
    Commit {
        writes: writes.into_iter().collect(),
        ..Commit::new(now(), Instant::now() + Duration::from_secs(60))
    }
}

/// Applies a batch.
pub(crate) async fn apply(
    store: &dyn Store,
    commits: impl IntoIterator<Item = Commit>,
) -> AppliedBatch {
    let batch: Vec<Commit> = commits.into_iter().collect();
    let count = batch.len();
    let applied = store.apply(batch.into()).await.unwrap();
    assert_eq!(applied.outcomes.len(), count, "one outcome per commit");
    applied
}

/// Applies a single commit.
pub(crate) async fn apply_one(store: &dyn Store, commit: Commit) -> CommitOutcome {
    apply(store, [commit]).await.outcomes.remove(0)
}

/// All events that are kept, in the order of the pages.
pub(crate) async fn events(store: &dyn Store) -> Vec<OutboxEvent> {
    events_after(store, &OutboxCursor::default()).await
}

/// The events after `cursor`, in the order of the pages.
pub(crate) async fn events_after(store: &dyn Store, cursor: &OutboxCursor) -> Vec<OutboxEvent> {
    let (mut cursor, mut events) = (cursor.clone(), Vec::new());
    loop {
        let page = store.list_events_after(&cursor, 10_000).await.unwrap();
        cursor = page.end;
        events.extend(page.events);
        if !page.has_more {
            return events;
        }
    }
}

/// Asserts that each event is the next in its partition, and moves `cursor` past all of them.
pub(crate) fn advance_over(cursor: &mut OutboxCursor, events: &[OutboxEvent]) {
    for event in events {
        assert!(cursor.is_next(event.position), "{} after {cursor}", event.position);
        cursor.advance_to(event.position);
    }
}

pub(crate) async fn event_kinds(store: &dyn Store) -> Vec<String> {
    events(store).await.into_iter().map(|event| event.kind).collect()
}

pub(crate) fn customer() -> CartOwner {
    CartOwner { id: UserId::new(), is_guest: false }
}

/// A cart with one line.
pub(crate) fn cart(owner: CartOwner, version: u64) -> Cart {
    let line = CartLine {
        product_id: ProductId::new(),
        name: "Mint tea".into(),
        quantity: 2,
        price: price("4.50"),
    };
    Cart { version, lines: vec![line], updated_at: now(), ..Cart::empty(owner) }
}

pub(crate) fn put_cart(cart: &Cart) -> Write {
    Write::Cart(Arc::new(cart.clone()))
}

/// The commit of an added item: the cart and its event.
pub(crate) fn cart_commit(cart: &Cart) -> Commit {
    let line = cart.lines.last().unwrap();
    let event =
        CartEvent::ItemAdded { product_id: line.product_id, added: 1, quantity: line.quantity };
    Commit {
        events: vec![DomainEvent::Cart(Arc::new(cart.clone()), event)],
        ..commit([put_cart(cart)])
    }
}

/// A new product at version 1.
pub(crate) fn product(sku: Option<&str>) -> Product {
    let facts = ProductDetails {
        sku: sku.map(Into::into),
        name: "Mint tea".into(),
        description: "Green, with mint".into(),
        price: price("4.50"),
        category: Some("tea".into()),
        tags: vec!["green".into()],
        image_url: None,
        purchase_limit: None,
        weight_grams: None,
        tax_class: None,
        attributes: BTreeMap::new(),
    };
    Product::new(ProductId::new(), facts, now())
}

pub(crate) fn put_product(product: &Product) -> Write {
    Write::Product(Arc::new(product.clone()))
}

/// The commit of a product: the product and its event.
pub(crate) fn product_commit(product: &Product) -> Commit {
    Commit {
        events: vec![DomainEvent::Product(Arc::new(product.clone()))],
        ..commit([put_product(product)])
    }
}

/// A stock change without further details.
pub(crate) fn stock(product_id: ProductId, change: StockChange) -> Write {
    Write::Stock(StockWrite {
        product_id,
        change,
        expected_version: None,
        order_id: None,
        reference: None,
        reason: None,
    })
}

/// A new order of two units with a payment deadline in one minute.
/// A new order, all of whose units were shipped.
pub(crate) fn shipped_order(user_id: UserId) -> Order {
    let mut order = Order { status: OrderStatus::Fulfilled, ..order(user_id) };
    order.lines.iter_mut().for_each(|line| line.fulfilled = line.quantity);
    order
}

pub(crate) fn order(user_id: UserId) -> Order {
    let (product_id, name) = (ProductId::new(), "Mint tea".to_owned());
    let placed_at = now();
    Order {
        id: OrderId::new(),
        user_id,
        status: OrderStatus::PendingPayment,
        version: 1,
        currency: euro(),
        lines: vec![OrderLine {
            product_id,
            sku: None,
            name,
            quantity: 2,
            unit_price: price("4.50"),
            fulfilled: 0,
            restocked: 0,
        }],
        payment: Payment::awaiting(PaymentMethod::Manual, Money::zero(euro())),
        shipments: Vec::new(),
        email: None,
        guest: false,
        shipping_address: None,
        billing_address: None,
        placed_at,
        expires_at: Some(placed_at.saturating_add(Duration::from_secs(60))),
        updated_at: placed_at,
        actor: None,
        anonymized: false,
        charges: None,
    }
}

pub(crate) fn put_order(order: &Order) -> Write {
    Write::Order(Arc::new(order.clone()))
}

/// The commit of an order in any state: the order and its event.
pub(crate) fn order_commit(order: &Order) -> Commit {
    Commit {
        events: vec![DomainEvent::Order(Arc::new(order.clone()))],
        ..commit([put_order(order)])
    }
}

/// The stock write for an order's first line.
pub(crate) fn order_stock_write(order: &Order, change: fn(u64) -> StockChange) -> Write {
    let line = order.lines.first().unwrap();
    let (change, order_id) = (change(line.quantity.into()), Some(order.id));
    Write::Stock(StockWrite {
        product_id: line.product_id,
        change,
        expected_version: None,
        order_id,
        reference: None,
        reason: None,
    })
}

/// A product with this many units on hand.
pub(crate) async fn stocked_product(store: &dyn Store, units: u64) -> ProductId {
    let product = product(None);
    apply_one(store, commit([put_product(&product), stock(product.id, StockChange::Set(units))]))
        .await
        .unwrap();
    product.id
}

pub(crate) async fn stock_level(store: &dyn Store, id: ProductId) -> StockLevel {
    store.find_product(id).await.unwrap().unwrap().1
}

pub(crate) fn user(email: &str) -> User {
    User {
        id: UserId::new(),
        email: Email::parse(email).unwrap(),
        name: "Ada".into(),
        role: Role::Customer,
        scopes: ScopeSet::EMPTY,
        blocked: false,
        password_hash: "$2b$12$abcdefghijklmnopqrstuv".into(),
        created_at: now(),
        last_login_at: None,
        version: 1,
        event_sequence: 1,
        known_networks: Vec::new(),
        mail_tokens: Vec::new(),
        email_verified: false,
    }
}

pub(crate) fn put_user(user: &User) -> Write {
    Write::User(Arc::new(user.clone()))
}

pub(crate) fn session(user_id: UserId) -> Session {
    let start = now();
    Session {
        id: SessionId::new(),
        user_id,
        address: Some("192.0.2.1".parse().unwrap()),
        user_agent: Some("Phone/1.0".into()),
        refresh_hash: [7; 32],
        created_at: start,
        expires_at: start.saturating_add(Duration::from_secs(3600)),
        revoked_at: None,
        version: 1,
    }
}

pub(crate) fn put_session(session: &Session) -> Write {
    Write::Session(Arc::new(session.clone()))
}

/// A key with a fingerprint of one repeated byte.
pub(crate) fn key(owner: UserId, text: &str, fingerprint: u8) -> IdempotencyKey {
    IdempotencyKey {
        owner,
        key: text.into(),
        fingerprint: [fingerprint; 32],
        received_at: Timestamp::default(),
    }
}

/// The commit, with a response to remember for `key`.
pub(crate) fn with_response(commit: Commit, key: &IdempotencyKey, body: &'static str) -> Commit {
    let body = StoredReplyBody::Ready(Bytes::from_static(body.as_bytes()));
    Commit {
        idempotency_record: Some(IdempotencyRecord { key: key.clone(), body, about: None }),
        ..commit
    }
}

pub(crate) fn remembered_response(body: &'static str) -> StoredReply {
    StoredReply { body: Bytes::from_static(body.as_bytes()) }
}
