//! Parses the parts of an event that other nodes need to update their caches.

use serde::Deserialize;
use uuid::Uuid;

use super::OutboxEvent;
use crate::domain::{
    account::Role,
    ids::{ApiKeyId, OrderId, ProductId, RuleId, SessionId, UserId, WebhookId},
    inventory::StockLevel,
    pricing::PromotionUses,
};

/// The parts of an event that the caches need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheChange {
    /// `catalog.*`
    Product {
        /// The product that changed.
        id: ProductId,
        /// The product's version after the change.
        version: u64,
    },
    /// `inventory.*`, with the stock level after the change. Events carry no movement count, so
    /// `last_movement` is 0.
    Stock(StockLevel),
    /// `cart.*`
    Cart {
        /// The user or guest that the cart belongs to.
        owner: UserId,
        /// The cart's version after the change.
        version: u64,
    },
    /// `order.*`
    Order {
        /// The order that changed.
        id: OrderId,
        /// The order's version after the change.
        version: u64,
        /// Whether it has promotions, whose uses have changed with it.
        has_promotions: bool,
    },
    /// `auth.user.registered` of an account that is no customer, `auth.rights.changed` and
    /// `auth.user.deleted`. The store has the rights.
    Rights {
        /// The account.
        user_id: UserId,
    },
    /// `auth.api_key.*`. The store has the key.
    ApiKey {
        /// The key that is new or deleted.
        id: ApiKeyId,
    },
    /// `auth.user.registered`
    UserRegistered {
        /// The new account.
        user_id: UserId,
    },
    /// `pricing.*`
    PricingRule {
        /// The rule that changed.
        id: RuleId,
        /// The rule's version after the change.
        version: u64,
    },
    /// How often a promotion is used after an order was placed or given up. No event says so.
    PromotionUses(PromotionUses),
    /// `auth.session.revoked`
    SessionRevoked {
        /// The session, whose tokens are no longer valid.
        session_id: SessionId,
    },
    /// `webhook.*`, which concerns no cache.
    Webhook {
        /// The endpoint.
        id: WebhookId,
    },
}

/// Why an event cannot be parsed.
#[derive(Debug, thiserror::Error)]
pub enum ParseEventError {
    /// No event family has this type.
    #[error("unknown event type {0}")]
    UnknownType(String),
    /// The body is not valid JSON for an event of this type.
    #[error("invalid event body: {0}")]
    InvalidBody(#[from] serde_json::Error),
    /// The sequence is not a number.
    #[error("invalid event sequence: {0}")]
    InvalidSequence(#[from] std::num::ParseIntError),
}

#[derive(Deserialize)]
struct Envelope<T> {
    subject: Uuid,
    sequence: String,
    data: T,
}

/// Event data whose members are not needed.
#[derive(Deserialize)]
struct AnyData {}

#[derive(Deserialize)]
struct StockFields {
    on_hand: u64,
    reserved: u64,
}

#[derive(Deserialize)]
struct OrderFields {
    /// Events from before there were discounts lack them.
    #[serde(default)]
    discounts: Vec<AnyData>,
}

#[derive(Deserialize)]
struct UserFields {
    role: String,
}

#[derive(Deserialize)]
struct SessionFields {
    session_id: SessionId,
}

/// The id of what an event is about. `None` if the event has none, which is logged.
#[must_use]
pub fn parse_subject(event: &OutboxEvent) -> Option<Uuid> {
    #[derive(Deserialize)]
    struct Subject {
        subject: Uuid,
    }
    serde_json::from_slice::<Subject>(&event.body)
        .inspect_err(|error| tracing::error!(id = %event.id, %error, "failed to read an event"))
        .ok()
        .map(|found| found.subject)
}

/// Parses an event from the outbox. `None` if that fails, which is logged.
#[must_use]
pub fn parse_or_log(event: &OutboxEvent) -> Option<CacheChange> {
    parse(event)
        .inspect_err(|error| {
            tracing::error!(
                id = %event.id, kind = event.kind, %error,
                "failed to read an event; caches may be outdated"
            );
        })
        .ok()
}

/// Parses an event from the outbox.
///
/// # Errors
/// The type is unknown, or the body is not valid for the type.
pub fn parse(event: &OutboxEvent) -> Result<CacheChange, ParseEventError> {
    let (family, name) = event.kind.split_once('.').unwrap_or((&event.kind, ""));
    Ok(match (family, name) {
        ("catalog", _) => {
            let (subject, version, AnyData {}) = parse_body(event)?;
            CacheChange::Product { id: subject.into(), version }
        }
        ("inventory", _) => {
            let (subject, version, StockFields { on_hand, reserved }) = parse_body(event)?;
            let empty = StockLevel::empty(subject.into());
            CacheChange::Stock(StockLevel { on_hand, reserved, version, ..empty })
        }
        ("cart", _) => {
            let (subject, version, AnyData {}) = parse_body(event)?;
            CacheChange::Cart { owner: subject.into(), version }
        }
        ("order", _) => {
            let (subject, version, OrderFields { discounts }) = parse_body(event)?;
            let has_promotions = !discounts.is_empty();
            CacheChange::Order { id: subject.into(), version, has_promotions }
        }
        ("pricing", _) => {
            let (subject, version, AnyData {}) = parse_body(event)?;
            CacheChange::PricingRule { id: subject.into(), version }
        }
        ("auth", "user.registered") => {
            let (subject, _, UserFields { role }) = parse_body(event)?;
            let user_id = subject.into();
            match role == Role::Customer.as_str() {
                true => CacheChange::UserRegistered { user_id },
                false => CacheChange::Rights { user_id },
            }
        }
        ("auth", "rights.changed" | "user.deleted") => {
            let (subject, _, AnyData {}) = parse_body(event)?;
            CacheChange::Rights { user_id: subject.into() }
        }
        ("auth", "api_key.created" | "api_key.deleted") => {
            let (subject, _, AnyData {}) = parse_body(event)?;
            CacheChange::ApiKey { id: subject.into() }
        }
        ("auth", "session.revoked") => {
            let (_, _, SessionFields { session_id }) = parse_body(event)?;
            CacheChange::SessionRevoked { session_id }
        }
        ("webhook", _) => {
            let (subject, _, AnyData {}) = parse_body(event)?;
            CacheChange::Webhook { id: subject.into() }
        }
        _ => return Err(ParseEventError::UnknownType(event.kind.clone())),
    })
}

fn parse_body<T: for<'de> Deserialize<'de>>(
    event: &OutboxEvent,
) -> Result<(Uuid, u64, T), ParseEventError> {
    let Envelope { subject, sequence, data } = serde_json::from_slice(&event.body)?;
    Ok((subject, sequence.parse()?, data))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use super::*;
    use crate::{
        domain::{
            account::{ApiKey, ApiKeyRequest, RevocationReason, ScopeSet, User},
            cart::{Cart, CartEvent, CartOwner},
            catalog::product::{Product, ProductDetails},
            clock::Timestamp,
            ids::EventId,
            money::{Currency, Money},
            order::{Order, OrderStatus, Payment, PaymentMethod},
            webhook::{PauseReason, Webhook},
        },
        events::{Audience, DomainEvent, EventEnvelope},
    };

    const NOW: Timestamp = Timestamp::from_millis(1);

    fn eur() -> Currency {
        "EUR".parse().unwrap()
    }

    fn outbox_event(event: DomainEvent) -> OutboxEvent {
        OutboxEvent {
            position: crate::events::OutboxPosition { partition: 0, offset: 1 },
            id: EventId::new(),
            kind: event.event_type().to_string(),
            audience: Audience::Everyone,
            body: EventEnvelope::new(event, NOW, None).to_json(),
        }
    }

    /// The expected result for an event. No wildcard arm: each new event type needs its own.
    fn expected(event: &DomainEvent) -> CacheChange {
        match event {
            DomainEvent::Product(product) => {
                CacheChange::Product { id: product.id, version: product.version }
            }
            DomainEvent::StockChanged(level)
            | DomainEvent::StockLow(level)
            | DomainEvent::StockDepleted(level) => CacheChange::Stock(*level),
            DomainEvent::Cart(cart, _) => {
                CacheChange::Cart { owner: cart.owner.id, version: cart.version }
            }
            DomainEvent::PricingRule(rule) => {
                CacheChange::PricingRule { id: rule.id, version: rule.version }
            }
            DomainEvent::Order(order)
            | DomainEvent::OrderRefunded(order)
            | DomainEvent::PaymentChanged(order) => {
                CacheChange::Order { id: order.id, version: order.version, has_promotions: false }
            }
            DomainEvent::UserRegistered(user) if user.role == Role::Customer => {
                CacheChange::UserRegistered { user_id: user.id }
            }
            DomainEvent::UserRegistered(user) | DomainEvent::RightsChanged(user) => {
                CacheChange::Rights { user_id: user.id }
            }
            DomainEvent::ApiKey(key) => CacheChange::ApiKey { id: key.id },
            DomainEvent::UserDeleted { user_id, .. } => CacheChange::Rights { user_id: *user_id },
            DomainEvent::SessionRevoked { session_id, .. } => {
                CacheChange::SessionRevoked { session_id: *session_id }
            }
            DomainEvent::WebhookPaused(webhook) => CacheChange::Webhook { id: webhook.id },
        }
    }

    fn product_events() -> Vec<DomainEvent> {
        let details = ProductDetails {
            sku: None,
            name: "Tea".into(),
            description: String::new(),
            price: Money::zero(eur()),
            category: None,
            tags: Vec::new(),
            image_url: None,
            purchase_limit: None,
            weight_grams: None,
            tax_class: None,
            attributes: BTreeMap::new(),
        };
        let created = Product::new(ProductId::new(), details, NOW);
        let updated = Product { version: 2, ..created.clone() };
        let level =
            StockLevel { on_hand: 5, reserved: 2, version: 3, ..StockLevel::empty(created.id) };
        let deleted = updated.to_deleted(NOW);
        let products = [created, updated, deleted].map(|p| DomainEvent::Product(Arc::new(p)));
        let mut events = Vec::from(products);
        events.extend([
            DomainEvent::StockChanged(level),
            DomainEvent::StockLow(level),
            DomainEvent::StockDepleted(level),
        ]);
        events
    }

    fn cart_events() -> Vec<DomainEvent> {
        let (product_id, user_id) = (ProductId::new(), UserId::new());
        let owner = CartOwner { id: user_id, is_guest: false };
        let cart = Arc::new(Cart { version: 7, ..Cart::empty(owner) });
        [
            CartEvent::ItemAdded { product_id, added: 2, quantity: 5 },
            CartEvent::ItemUpdated { product_id, quantity: 3 },
            CartEvent::ItemRemoved { product_id },
            CartEvent::Cleared,
            CartEvent::Merged { guest_id: user_id },
            CartEvent::Closed { merged_into: user_id },
            CartEvent::CheckedOut { order_id: OrderId::new() },
            CartEvent::Abandoned,
            CartEvent::CodesChanged,
            CartEvent::ShippingChanged,
        ]
        .map(|event| DomainEvent::Cart(Arc::clone(&cart), event))
        .into()
    }

    fn order_events() -> Vec<DomainEvent> {
        let order = |status| Order {
            id: OrderId::new(),
            user_id: UserId::new(),
            status,
            version: 4,
            currency: eur(),
            lines: Vec::new(),
            payment: Payment::awaiting(PaymentMethod::Manual, Money::zero(eur())),
            shipments: Vec::new(),
            shipping_address: None,
            placed_at: NOW,
            expires_at: None,
            updated_at: NOW,
            actor: None,
            anonymized: false,
            charges: None,
        };
        let refunded = DomainEvent::OrderRefunded(Arc::new(order(OrderStatus::Fulfilled)));
        let unclear = DomainEvent::PaymentChanged(Arc::new(order(OrderStatus::Paid)));
        let states = OrderStatus::ALL.iter();
        let states = states.map(|status| DomainEvent::Order(Arc::new(order(*status))));
        states.chain([refunded, unclear]).collect()
    }

    fn account_events() -> Vec<DomainEvent> {
        let user = User::sample(NOW);
        let revoked = DomainEvent::SessionRevoked {
            user_id: user.id,
            session_id: SessionId::new(),
            reason: RevocationReason::Logout,
            sequence: 2,
        };
        let admin = User { role: Role::Admin, ..user.clone() };
        let changed = DomainEvent::RightsChanged(Arc::new(user.clone()));
        let deleted = DomainEvent::UserDeleted { user_id: user.id, sequence: 3 };
        let registered = [user, admin].map(|user| DomainEvent::UserRegistered(Arc::new(user)));
        let scopes = ScopeSet::parse(&["stock"]).unwrap();
        let request = ApiKeyRequest { name: "warehouse".into(), scopes, expires_at: None };
        let key = ApiKey::new("souk_secret", request, UserId::new(), NOW);
        let keys = [key.to_deleted(NOW), key].map(|key| DomainEvent::ApiKey(Arc::new(key)));
        registered.into_iter().chain([changed, revoked, deleted]).chain(keys).collect()
    }

    #[test]
    fn every_kind_of_event_is_read_back() {
        let webhook = Arc::new(Webhook::sample(NOW).to_paused(PauseReason::Gone, NOW));
        let webhooks = vec![DomainEvent::WebhookPaused(webhook)];
        let events = [product_events(), cart_events(), order_events(), account_events(), webhooks];
        for event in events.concat() {
            let expected = expected(&event);
            let stored = outbox_event(event);
            assert_eq!(parse(&stored).unwrap(), expected, "{}", stored.kind);
        }
    }

    #[test]
    fn unknown_type_and_invalid_body_are_errors() {
        let [stored, ..] = &*account_events() else { panic!("account_events returned no events") };
        let stored = outbox_event(stored.clone());
        for kind in ["payment.settled", "auth", "auth.session.renamed", ""] {
            let unknown = OutboxEvent { kind: kind.into(), ..stored.clone() };
            assert!(matches!(parse(&unknown), Err(ParseEventError::UnknownType(_))), "{kind}");
        }
        let stock = OutboxEvent { kind: "inventory.stock.changed".into(), ..stored.clone() };
        assert!(matches!(parse(&stock), Err(ParseEventError::InvalidBody(_))));
        let cut = OutboxEvent { body: stored.body.slice(1..), ..stored };
        assert!(matches!(parse(&cut), Err(ParseEventError::InvalidBody(_))));
    }
}
