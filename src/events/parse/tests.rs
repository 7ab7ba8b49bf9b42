//! Every event is read back as the change that caches need.

use std::sync::Arc;

use super::*;
use crate::{
    domain::{
        account::{ApiKey, ApiKeyRequest, RevocationReason, ScopeSet, User},
        cart::{Cart, CartEvent, CartOwner},
        catalog::product::{Product, ProductDetails},
        clock::Timestamp,
        ids::{EventId, PromotionId},
        money::{Currency, Money},
        order::{Order, OrderStatus, Payment, PaymentMethod},
        pricing::{Charges, Discount},
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
        | DomainEvent::PaymentChanged(order)
        | DomainEvent::OrderOwnerChanged(order) => {
            let promotion_buyer = order.promotion_buyer();
            CacheChange::Order { id: order.id, version: order.version, promotion_buyer }
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
    let details = ProductDetails::sample("Tea");
    let created = Product::new(ProductId::new(), details, NOW);
    let updated = Product { version: 2, ..created.clone() };
    let level = StockLevel { on_hand: 5, reserved: 2, version: 3, ..StockLevel::empty(created.id) };
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
        email: None,
        guest: false,
        shipping_address: None,
        billing_address: None,
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
    let cheaper = Order { charges: Some(charges()), ..order(OrderStatus::Expired) };
    assert_eq!(cheaper.promotion_buyer(), Some(cheaper.user_id));
    let moved = DomainEvent::OrderOwnerChanged(Arc::new(order(OrderStatus::Paid)));
    states.chain([refunded, unclear, moved, DomainEvent::Order(Arc::new(cheaper))]).collect()
}

fn charges() -> Box<Charges> {
    let discount = Discount {
        promotion_id: PromotionId::new(),
        name: "Ten".into(),
        code: None,
        amount: Money::zero(eur()),
    };
    Box::new(Charges {
        lines: Vec::new(),
        discounts: vec![discount],
        codes: Vec::new(),
        destination: None,
        shipping: None,
        taxes: Vec::new(),
    })
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
