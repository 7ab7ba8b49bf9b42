//! The public events: CloudEvents 1.0, structured JSON. Other programs are written against these names.

pub mod parse;

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use uuid::Uuid;

use crate::domain::{
    account::User,
    cart::{Cart, CartEvent},
    catalog::product::{AttributeValue, Product},
    clock::Timestamp,
    ids::{EventId, OrderId, ProductId, SessionId, UserId},
    inventory::StockLevel,
    money::{Currency, Money},
    order::{Order, OrderStatus},
};
use crate::messages::{change::TraceParent, orders::OrderData};

/// The `source` of every event.
const EVENT_SOURCE: &str = "/souk";

/// An event on its way into the outbox.
#[derive(Debug, Clone)]
pub struct EventEnvelope {
    /// Its identifier, which it keeps for ever.
    pub id: EventId,
    /// When its change was decided.
    pub time: Timestamp,
    /// The trace of the request that caused it.
    pub trace: Option<TraceParent>,
    /// What happened.
    pub payload: DomainEvent,
}

/// What happened, and to what.
#[derive(Debug, Clone)]
pub enum DomainEvent {
    /// `catalog.product.created`, `.updated` or `.deleted`, which the product's state tells.
    Product(Arc<Product>),
    /// `inventory.stock.changed`
    StockChanged(StockLevel),
    /// `inventory.stock.low`
    StockLow(StockLevel),
    /// `inventory.stock.depleted`
    StockDepleted(StockLevel),
    /// `cart.*`
    Cart(Arc<Cart>, CartEvent),
    /// `order.placed`, `.paid`, `.cancelled`, `.expired` or `.fulfilled`, which the order's status tells.
    Order(Arc<Order>),
    /// `auth.user.registered`
    UserRegistered(Arc<User>),
    /// `auth.session.revoked`
    SessionRevoked {
        /// Whose session.
        user_id: UserId,
        /// Which.
        session_id: SessionId,
        /// Why: `logout`, `token_reuse` or `password_changed`.
        reason: &'static str,
        /// Counts the account's events.
        sequence: u64,
    },
}

/// Who may see an event on the public feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Anyone.
    Everyone,
    /// The user it belongs to.
    Owner(UserId),
    /// Nobody but consumers of the broker.
    BrokerOnly,
}

/// An event as it stands in the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxEvent {
    /// Its place in commit order.
    pub position: u64,
    /// Its identifier.
    pub id: EventId,
    /// Its type, which is also its routing key.
    pub kind: String,
    /// Who may see it on the feed.
    pub audience: Audience,
    /// The whole CloudEvent.
    pub body: Bytes,
}

#[derive(Serialize)]
struct CloudEvent<'a> {
    specversion: &'static str,
    id: EventId,
    source: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    subject: Uuid,
    time: String,
    sequence: String,
    sequencetype: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<&'a str>,
    datacontenttype: &'static str,
    data: EventData<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum EventData<'a> {
    Product(ProductData<'a>),
    ProductDeleted { product_id: ProductId, sku: Option<&'a str>, version: u64 },
    Stock(StockData),
    Cart(CartData),
    Order(OrderData<'a>),
    UserRegistered { user_id: UserId, email: &'a str, name: &'a str, role: &'static str },
    SessionRevoked { user_id: UserId, session_id: SessionId, reason: &'static str },
}

#[derive(Serialize)]
struct ProductData<'a> {
    product_id: ProductId,
    sku: Option<&'a str>,
    name: &'a str,
    description: &'a str,
    price: Money,
    currency: Currency,
    category: Option<&'a str>,
    tags: &'a [String],
    image_url: Option<&'a str>,
    attributes: &'a std::collections::BTreeMap<String, AttributeValue>,
    version: u64,
}

/// The shape of a stock level, in events and in remembered answers alike.
#[derive(Serialize)]
struct StockData {
    product_id: ProductId,
    on_hand: u64,
    reserved: u64,
    available: u64,
    version: u64,
}

#[derive(Serialize)]
struct CartData {
    user_id: UserId,
    guest: bool,
    version: u64,
    lines: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    product_id: Option<ProductId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    added: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quantity: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    guest_id: Option<UserId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    merged_into: Option<UserId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    order_id: Option<OrderId>,
}

impl EventEnvelope {
    /// A new event with an id of its own.
    #[must_use]
    pub fn new(fact: DomainEvent, time: Timestamp, trace: Option<TraceParent>) -> Self {
        Self { id: EventId::new(), time, trace, payload: fact }
    }

    /// The whole event as JSON.
    #[must_use]
    pub fn to_json(&self) -> Bytes {
        let event = CloudEvent {
            specversion: "1.0",
            id: self.id,
            source: EVENT_SOURCE,
            kind: self.payload.event_type(),
            subject: self.payload.subject(),
            time: self.time.to_string(),
            sequence: self.payload.sequence().to_string(),
            sequencetype: "Integer",
            traceparent: self.trace.as_ref().map(TraceParent::as_str),
            datacontenttype: "application/json",
            data: self.payload.event_data(),
        };
        // Plain structs with string keys: serialising them cannot fail.
        serde_json::to_vec(&event).unwrap_or_default().into()
    }
}

impl DomainEvent {
    /// The event's type.
    #[must_use]
    pub fn event_type(&self) -> &'static str {
        match self {
            Self::Product(product) if product.deleted => "catalog.product.deleted",
            Self::Product(product) if product.version == 1 => "catalog.product.created",
            Self::Product(_) => "catalog.product.updated",
            Self::StockChanged(_) => "inventory.stock.changed",
            Self::StockLow(_) => "inventory.stock.low",
            Self::StockDepleted(_) => "inventory.stock.depleted",
            Self::Cart(_, event) => match event {
                CartEvent::ItemAdded { .. } => "cart.item.added",
                CartEvent::ItemUpdated { .. } => "cart.item.updated",
                CartEvent::ItemRemoved { .. } => "cart.item.removed",
                CartEvent::Cleared => "cart.cleared",
                CartEvent::Merged { .. } => "cart.merged",
                CartEvent::Closed { .. } => "cart.closed",
                CartEvent::CheckedOut { .. } => "cart.checked_out",
                CartEvent::Abandoned => "cart.abandoned",
            },
            Self::Order(order) => match order.status {
                OrderStatus::PendingPayment => "order.placed",
                OrderStatus::Paid => "order.paid",
                OrderStatus::Fulfilled => "order.fulfilled",
                OrderStatus::Cancelled => "order.cancelled",
                OrderStatus::Expired => "order.expired",
            },
            Self::UserRegistered(_) => "auth.user.registered",
            Self::SessionRevoked { .. } => "auth.session.revoked",
        }
    }

    /// What it happened to.
    #[must_use]
    pub fn subject(&self) -> Uuid {
        match self {
            Self::Product(product) => product.id.as_uuid(),
            Self::StockChanged(level) | Self::StockLow(level) | Self::StockDepleted(level) => {
                level.product_id.as_uuid()
            }
            Self::Cart(cart, _) => cart.owner.id.as_uuid(),
            Self::Order(order) => order.id.as_uuid(),
            Self::UserRegistered(user) => user.id.as_uuid(),
            Self::SessionRevoked { user_id, .. } => user_id.as_uuid(),
        }
    }

    /// The subject's version after it.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        match self {
            Self::Product(product) => product.version,
            Self::StockChanged(level) | Self::StockLow(level) | Self::StockDepleted(level) => {
                level.version
            }
            Self::Cart(cart, _) => cart.version,
            Self::Order(order) => order.version,
            Self::UserRegistered(user) => user.event_sequence,
            Self::SessionRevoked { sequence, .. } => *sequence,
        }
    }

    /// Who may see it on the feed.
    #[must_use]
    pub fn audience(&self) -> Audience {
        match self {
            Self::Product(_)
            | Self::StockChanged(_)
            | Self::StockLow(_)
            | Self::StockDepleted(_) => Audience::Everyone,
            Self::Cart(cart, _) => Audience::Owner(cart.owner.id),
            Self::Order(order) => Audience::Owner(order.user_id),
            Self::UserRegistered(_) | Self::SessionRevoked { .. } => Audience::BrokerOnly,
        }
    }

    fn event_data(&self) -> EventData<'_> {
        match self {
            Self::Product(product) if product.deleted => EventData::ProductDeleted {
                product_id: product.id,
                sku: product.details.sku.as_deref(),
                version: product.version,
            },
            Self::Product(product) => EventData::Product(product_data(product)),
            Self::StockChanged(level) | Self::StockLow(level) | Self::StockDepleted(level) => {
                EventData::Stock(stock_data(level))
            }
            Self::Cart(cart, event) => EventData::Cart(cart_data(cart, event)),
            Self::Order(order) => EventData::Order(OrderData::from(&**order)),
            Self::UserRegistered(user) => EventData::UserRegistered {
                user_id: user.id,
                email: user.email.as_str(),
                name: &user.name,
                role: user.role.as_str(),
            },
            Self::SessionRevoked { user_id, session_id, reason, .. } => {
                EventData::SessionRevoked { user_id: *user_id, session_id: *session_id, reason }
            }
        }
    }
}

fn product_data(product: &Product) -> ProductData<'_> {
    let facts = &product.details;
    ProductData {
        product_id: product.id,
        sku: facts.sku.as_deref(),
        name: &facts.name,
        description: &facts.description,
        price: facts.price,
        currency: facts.price.currency(),
        category: facts.category.as_deref(),
        tags: &facts.tags,
        image_url: facts.image_url.as_deref(),
        attributes: &facts.attributes,
        version: product.version,
    }
}

const fn stock_data(level: &StockLevel) -> StockData {
    StockData {
        product_id: level.product_id,
        on_hand: level.on_hand,
        reserved: level.reserved,
        available: level.available(),
        version: level.version,
    }
}

/// A stock level as clients read it: the body of stock answers, and the data of `inventory.stock.changed`.
#[must_use]
pub fn stock_json(level: &StockLevel) -> Bytes {
    serde_json::to_vec(&stock_data(level)).unwrap_or_default().into()
}

const fn cart_data(cart: &Cart, event: &CartEvent) -> CartData {
    let plain = CartData {
        user_id: cart.owner.id,
        guest: cart.owner.is_guest,
        version: cart.version,
        lines: cart.lines.len(),
        product_id: None,
        added: None,
        quantity: None,
        guest_id: None,
        merged_into: None,
        order_id: None,
    };
    match *event {
        CartEvent::ItemAdded { product_id, added, quantity } => CartData {
            product_id: Some(product_id),
            added: Some(added),
            quantity: Some(quantity),
            ..plain
        },
        CartEvent::ItemUpdated { product_id, quantity } => {
            CartData { product_id: Some(product_id), quantity: Some(quantity), ..plain }
        }
        CartEvent::ItemRemoved { product_id } => {
            CartData { product_id: Some(product_id), quantity: Some(0), ..plain }
        }
        CartEvent::Merged { guest_id } => CartData { guest_id: Some(guest_id), ..plain },
        CartEvent::Closed { merged_into } => CartData { merged_into: Some(merged_into), ..plain },
        CartEvent::CheckedOut { order_id } => CartData { order_id: Some(order_id), ..plain },
        CartEvent::Cleared | CartEvent::Abandoned => plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::cart::CartOwner;

    #[test]
    fn event_serializes_as_cloud_event() {
        let owner = CartOwner { id: UserId::new(), is_guest: true };
        let product_id = ProductId::new();
        let cart = Arc::new(Cart { version: 7, ..Cart::empty(owner) });
        let trace = TraceParent::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        let fact =
            DomainEvent::Cart(cart, CartEvent::ItemAdded { product_id, added: 2, quantity: 5 });
        let event = EventEnvelope::new(fact, Timestamp::from_millis(0), trace);
        let json: serde_json::Value = serde_json::from_slice(&event.to_json()).unwrap();
        let expected = serde_json::json!({
            "specversion": "1.0", "id": event.id, "source": "/souk", "type": "cart.item.added", "subject": owner.id,
            "time": "1970-01-01T00:00:00.000Z", "sequence": "7", "sequencetype": "Integer",
            "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "datacontenttype": "application/json",
            "data": {"user_id": owner.id, "guest": true, "version": 7, "lines": 0, "product_id": product_id, "added": 2, "quantity": 5},
        });
        assert_eq!(json, expected);
    }
}
