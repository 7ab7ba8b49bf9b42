//! Reading an event back from its JSON, as far as the caches of other nodes need it.

use serde::Deserialize;
use uuid::Uuid;

use super::OutboxEvent;
use crate::domain::{
    ids::{OrderId, ProductId, SessionId, UserId},
    inventory::StockLevel,
};

/// An event, read from its JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParsedEvent {
    /// `catalog.*`
    Product {
        /// The product.
        id: ProductId,
        /// Its version after the change.
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
        /// The order.
        id: OrderId,
        /// Its version after the change.
        version: u64,
    },
    /// `auth.user.registered`
    UserRegistered {
        /// The new account.
        user_id: UserId,
    },
    /// `auth.session.revoked`
    SessionRevoked {
        /// The session whose tokens are refused from now on.
        session_id: SessionId,
    },
}

/// Why an event cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ParseEventError {
    /// No family of events has this type.
    #[error("unknown event type {0}")]
    UnknownType(String),
    /// The body is not the JSON of an event of its type.
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

/// Data of which nothing is needed.
#[derive(Deserialize)]
struct AnyData {}

#[derive(Deserialize)]
struct StockFields {
    on_hand: u64,
    reserved: u64,
}

#[derive(Deserialize)]
struct SessionFields {
    session_id: SessionId,
}

/// Reads an event back from its JSON.
///
/// # Errors
/// Its type is unknown, or its body is not an event of that type.
pub fn parse(event: &OutboxEvent) -> Result<ParsedEvent, ParseEventError> {
    let (family, name) = event.kind.split_once('.').unwrap_or((&event.kind, ""));
    Ok(match (family, name) {
        ("catalog", _) => {
            let (subject, version, AnyData {}) = parse_body(event)?;
            ParsedEvent::Product { id: subject.into(), version }
        }
        ("inventory", _) => {
            let (subject, version, StockFields { on_hand, reserved }) = parse_body(event)?;
            let empty = StockLevel::empty(subject.into());
            ParsedEvent::Stock(StockLevel { on_hand, reserved, version, ..empty })
        }
        ("cart", _) => {
            let (subject, version, AnyData {}) = parse_body(event)?;
            ParsedEvent::Cart { owner: subject.into(), version }
        }
        ("order", _) => {
            let (subject, version, AnyData {}) = parse_body(event)?;
            ParsedEvent::Order { id: subject.into(), version }
        }
        ("auth", "user.registered") => {
            let (subject, _, AnyData {}) = parse_body(event)?;
            ParsedEvent::UserRegistered { user_id: subject.into() }
        }
        ("auth", "session.revoked") => {
            let (_, _, SessionFields { session_id }) = parse_body(event)?;
            ParsedEvent::SessionRevoked { session_id }
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
mod tests;
