//! Parses the parts of an event that other nodes need to update their caches.

#[cfg(test)]
mod tests;

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
        /// Its buyer, if it has promotions, whose uses have changed with it.
        promotion_buyer: Option<UserId>,
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
    /// How many orders of a user have promotions has changed. Events of orders say so, too.
    PromotionBuyer {
        /// The user.
        user_id: UserId,
    },
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
    user_id: UserId,
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
            let (subject, version, OrderFields { user_id, discounts }) = parse_body(event)?;
            let promotion_buyer = (!discounts.is_empty()).then_some(user_id);
            CacheChange::Order { id: subject.into(), version, promotion_buyer }
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
