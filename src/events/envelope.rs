//! Events from the decision to the outbox, with their types and families.

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::{
    auth::{
        ApiKeyData, RightsChangedData, SessionRevokedData, UserDeletedData, UserRegisteredData,
    },
    cart,
    catalog::{ProductData, ProductDeletedData},
    cloud_event::CloudEvent,
    event_type::EventType,
    inventory::StockData,
    order::OrderData,
    position::OutboxPosition,
    pricing::{self, PromotionData, RuleDeletedData, ShippingMethodData, TaxRateData},
    webhook::WebhookPausedData,
};
use crate::{
    domain::{
        account::{ApiKey, RevocationReason, User},
        cart::{Cart, CartEvent},
        catalog::product::Product,
        clock::Timestamp,
        ids::{EventId, SessionId, UserId},
        inventory::StockLevel,
        order::{Order, OrderStatus},
        pricing::{Rule, RuleRecord},
        webhook::Webhook,
    },
    messages::command_context::TraceParent,
};

/// An event that a commit adds to the outbox.
#[derive(Debug, Clone)]
pub struct EventEnvelope {
    /// The event's identifier. It is the same each time the event is published.
    pub id: EventId,
    /// When the change was decided.
    pub time: Timestamp,
    /// The trace of the request that caused the event.
    pub trace: Option<TraceParent>,
    /// The change, with the state after it.
    pub payload: DomainEvent,
}

/// A change, with the state after it.
#[derive(Debug, Clone)]
pub enum DomainEvent {
    /// `catalog.product.created`, `.updated` or `.deleted`, depending on the product's state.
    Product(Arc<Product>),
    /// `inventory.stock.changed`: the level after a change.
    StockChanged(StockLevel),
    /// `inventory.stock.low`: the change has left few units.
    StockLow(StockLevel),
    /// `inventory.stock.depleted`: the change has left no unit.
    StockDepleted(StockLevel),
    /// `cart.*`: the cart after a change.
    Cart(Arc<Cart>, CartEvent),
    /// `order.*`, depending on the order's status.
    Order(Arc<Order>),
    /// `order.refunded`: money went back, and maybe units came back.
    OrderRefunded(Arc<Order>),
    /// `order.payment_changed`: the payment changed, and neither money nor units moved.
    PaymentChanged(Arc<Order>),
    /// `order.owner_changed`: the order of a guest moved to the guest's account.
    OrderOwnerChanged(Arc<Order>),
    /// `pricing.*`, depending on the kind and state of the rule.
    PricingRule(Arc<RuleRecord>),
    /// `auth.user.registered`: the new account.
    UserRegistered(Arc<User>),
    /// `auth.rights.changed`: the account with its new role, scopes and block.
    RightsChanged(Arc<User>),
    /// `auth.api_key.created` or `.deleted`, depending on the key's state.
    ApiKey(Arc<ApiKey>),
    /// `auth.user.deleted`: the account was deleted.
    UserDeleted {
        /// The account.
        user_id: UserId,
        /// The account's event count after this event, which is its last.
        sequence: u64,
    },
    /// `auth.session.revoked`: a session ended before it expired.
    SessionRevoked {
        /// The account that the session belongs to.
        user_id: UserId,
        /// The session that ended.
        session_id: SessionId,
        /// Why the session ended.
        reason: RevocationReason,
        /// The account's event count after this event.
        sequence: u64,
    },
    /// `webhook.paused`: the endpoint gets nothing any more.
    WebhookPaused(Arc<Webhook>),
}

/// Who may read an event on the public feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Anyone, without a token.
    Everyone,
    /// Only the user or guest that the event belongs to.
    Owner(UserId),
    /// Only consumers of the broker.
    BrokerOnly,
}

/// An event as the outbox holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxEvent {
    /// Where the event stands in the outbox.
    pub position: OutboxPosition,
    /// The event's identifier.
    pub id: EventId,
    /// The event's type, which is also its routing key.
    pub kind: String,
    /// Who may read the event on the feed.
    pub audience: Audience,
    /// The whole CloudEvent as JSON.
    pub body: Bytes,
}

impl EventEnvelope {
    /// Creates an event with a new id.
    #[must_use]
    pub fn new(payload: DomainEvent, time: Timestamp, trace: Option<TraceParent>) -> Self {
        Self { id: EventId::new(), time, trace, payload }
    }

    /// Serializes the event as a CloudEvent in JSON.
    #[must_use]
    pub fn to_json(&self) -> Bytes {
        match &self.payload {
            DomainEvent::Product(product) if product.deleted => {
                self.render(ProductDeletedData::from(&**product))
            }
            DomainEvent::Product(product) => self.render(ProductData::from(&**product)),
            DomainEvent::StockChanged(level)
            | DomainEvent::StockLow(level)
            | DomainEvent::StockDepleted(level) => self.render(StockData::from(level)),
            DomainEvent::Cart(cart, event) => self.render(cart::event_data(cart, event)),
            DomainEvent::Order(order)
            | DomainEvent::OrderRefunded(order)
            | DomainEvent::PaymentChanged(order)
            | DomainEvent::OrderOwnerChanged(order) => self.render(OrderData::of_event(order)),
            DomainEvent::PricingRule(record) => match &record.rule {
                _ if record.deleted => self.render(RuleDeletedData::from(&**record)),
                Rule::Promotion(promotion) => self.render(PromotionData::new(record, promotion)),
                Rule::ShippingMethod(method) => {
                    self.render(ShippingMethodData::new(record, method))
                }
                Rule::TaxRate(rate) => self.render(TaxRateData::new(record, rate)),
            },
            DomainEvent::UserRegistered(user) => self.render(UserRegisteredData::from(&**user)),
            DomainEvent::RightsChanged(user) => self.render(RightsChangedData::from(&**user)),
            DomainEvent::ApiKey(key) => self.render(ApiKeyData::from(&**key)),
            DomainEvent::UserDeleted { user_id, .. } => {
                self.render(UserDeletedData { user_id: *user_id })
            }
            DomainEvent::SessionRevoked { user_id, session_id, reason, .. } => {
                self.render(SessionRevokedData {
                    user_id: *user_id,
                    session_id: *session_id,
                    reason: reason.as_str().into(),
                })
            }
            DomainEvent::WebhookPaused(webhook) => self.render(WebhookPausedData::from(&**webhook)),
        }
    }

    fn render<D: serde::Serialize>(&self, data: D) -> Bytes {
        let trace = self.trace.as_ref().map(TraceParent::as_str);
        let kind = self.payload.event_type().as_str();
        let (subject, sequence) = (self.payload.subject(), self.payload.sequence());
        CloudEvent::new(self.id, kind, subject, self.time, sequence, trace, data).to_json()
    }
}

impl DomainEvent {
    /// The type of the event.
    #[must_use]
    pub fn event_type(&self) -> EventType {
        match self {
            Self::Product(product) if product.deleted => EventType::ProductDeleted,
            Self::Product(product) if product.version == 1 => EventType::ProductCreated,
            Self::Product(_) => EventType::ProductUpdated,
            Self::StockChanged(_) => EventType::StockChanged,
            Self::StockLow(_) => EventType::StockLow,
            Self::StockDepleted(_) => EventType::StockDepleted,
            Self::Cart(_, event) => match event {
                CartEvent::ItemAdded { .. } => EventType::CartItemAdded,
                CartEvent::ItemUpdated { .. } => EventType::CartItemUpdated,
                CartEvent::ItemRemoved { .. } => EventType::CartItemRemoved,
                CartEvent::Cleared => EventType::CartCleared,
                CartEvent::Merged { .. } => EventType::CartMerged,
                CartEvent::Closed { .. } => EventType::CartClosed,
                CartEvent::CheckedOut { .. } => EventType::CartCheckedOut,
                CartEvent::Abandoned => EventType::CartAbandoned,
                CartEvent::CodesChanged => EventType::CartCodesChanged,
                CartEvent::ShippingChanged => EventType::CartShippingChanged,
            },
            Self::OrderRefunded(_) => EventType::OrderRefunded,
            Self::PaymentChanged(_) => EventType::OrderPaymentChanged,
            Self::OrderOwnerChanged(_) => EventType::OrderOwnerChanged,
            Self::Order(order) => match order.status {
                OrderStatus::PendingPayment => EventType::OrderPlaced,
                OrderStatus::Paid => EventType::OrderPaid,
                OrderStatus::PartiallyFulfilled => EventType::OrderPartiallyFulfilled,
                OrderStatus::Fulfilled => EventType::OrderFulfilled,
                OrderStatus::Cancelled => EventType::OrderCancelled,
                OrderStatus::Expired => EventType::OrderExpired,
            },
            Self::PricingRule(record) => pricing::event_type(record),
            Self::UserRegistered(_) => EventType::UserRegistered,
            Self::RightsChanged(_) => EventType::RightsChanged,
            Self::ApiKey(key) if key.deleted_at.is_some() => EventType::ApiKeyDeleted,
            Self::ApiKey(_) => EventType::ApiKeyCreated,
            Self::UserDeleted { .. } => EventType::UserDeleted,
            Self::SessionRevoked { .. } => EventType::SessionRevoked,
            Self::WebhookPaused(_) => EventType::WebhookPaused,
        }
    }

    /// The id of the product, user, guest, order, API key or webhook that changed.
    #[must_use]
    pub fn subject(&self) -> Uuid {
        match self {
            Self::Product(product) => product.id.as_uuid(),
            Self::StockChanged(level) | Self::StockLow(level) | Self::StockDepleted(level) => {
                level.product_id.as_uuid()
            }
            Self::Cart(cart, _) => cart.owner.id.as_uuid(),
            Self::Order(order)
            | Self::OrderRefunded(order)
            | Self::PaymentChanged(order)
            | Self::OrderOwnerChanged(order) => order.id.as_uuid(),
            Self::PricingRule(record) => record.id.as_uuid(),
            Self::UserRegistered(user) | Self::RightsChanged(user) => user.id.as_uuid(),
            Self::ApiKey(key) => key.id.as_uuid(),
            Self::UserDeleted { user_id, .. } | Self::SessionRevoked { user_id, .. } => {
                user_id.as_uuid()
            }
            Self::WebhookPaused(webhook) => webhook.id.as_uuid(),
        }
    }

    /// The subject's version after the change.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        match self {
            Self::Product(product) => product.version,
            Self::StockChanged(level) | Self::StockLow(level) | Self::StockDepleted(level) => {
                level.version
            }
            Self::Cart(cart, _) => cart.version,
            Self::Order(order)
            | Self::OrderRefunded(order)
            | Self::PaymentChanged(order)
            | Self::OrderOwnerChanged(order) => order.version,
            Self::PricingRule(record) => record.version,
            Self::UserRegistered(user) | Self::RightsChanged(user) => user.event_sequence,
            Self::ApiKey(key) => key.version,
            Self::UserDeleted { sequence, .. } | Self::SessionRevoked { sequence, .. } => *sequence,
            Self::WebhookPaused(webhook) => webhook.event_sequence,
        }
    }

    /// Who may read the event on the feed.
    #[must_use]
    pub fn audience(&self) -> Audience {
        match self {
            Self::Product(_)
            | Self::StockChanged(_)
            | Self::StockLow(_)
            | Self::StockDepleted(_) => Audience::Everyone,
            Self::Cart(cart, _) => Audience::Owner(cart.owner.id),
            Self::Order(order)
            | Self::OrderRefunded(order)
            | Self::PaymentChanged(order)
            | Self::OrderOwnerChanged(order) => Audience::Owner(order.user_id),
            Self::UserRegistered(_)
            | Self::RightsChanged(_)
            | Self::ApiKey(_)
            | Self::UserDeleted { .. }
            | Self::SessionRevoked { .. }
            | Self::PricingRule(_)
            | Self::WebhookPaused(_) => Audience::BrokerOnly,
        }
    }
}

#[cfg(test)]
mod tests {
    use strum::VariantArray;

    use super::*;
    use crate::domain::{cart::CartOwner, ids::ProductId};

    #[test]
    fn event_serializes_as_cloud_event() {
        let owner = CartOwner { id: UserId::new(), is_guest: true };
        let product_id = ProductId::new();
        let cart = Arc::new(Cart { version: 7, ..Cart::empty(owner) });
        let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let payload =
            DomainEvent::Cart(cart, CartEvent::ItemAdded { product_id, added: 2, quantity: 5 });
        let trace = TraceParent::parse(traceparent);
        let event = EventEnvelope::new(payload, Timestamp::from_millis(0), trace);
        let json: serde_json::Value = serde_json::from_slice(&event.to_json()).unwrap();
        let expected = serde_json::json!({
            "specversion": "1.0", "id": event.id, "source": "/souk", "type": "cart.item.added",
            "subject": owner.id, "time": "1970-01-01T00:00:00.000Z", "sequence": "7",
            "sequencetype": "Integer", "traceparent": traceparent,
            "datacontenttype": "application/json",
            "data": {"user_id": owner.id, "guest": true, "version": 7, "lines": 0,
                "product_id": product_id, "added": 2, "quantity": 5},
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn stock_event_reads_back() {
        let level = StockLevel {
            on_hand: 9,
            reserved: 2,
            version: 4,
            ..StockLevel::empty(ProductId::new())
        };
        let payload = DomainEvent::StockChanged(level);
        let body = EventEnvelope::new(payload, Timestamp::from_millis(0), None).to_json();
        let event = CloudEvent::<StockData>::from_json(&body).unwrap();
        assert_eq!(event.kind, EventType::StockChanged.as_str());
        assert_eq!(event.version(), Some(4));
        assert_eq!(event.data, StockData::from(&level));
    }

    #[test]
    fn event_types_read_back_and_begin_with_their_family() {
        for kind in EventType::VARIANTS {
            assert_eq!(kind.as_str().parse(), Ok(*kind));
            let family = format!("{:?}.", kind.family()).to_lowercase();
            assert!(kind.as_str().starts_with(&family), "{kind}");
        }
        assert!("catalog.product.seen".parse::<EventType>().is_err());
    }
}
