//! The public events: CloudEvents 1.0 in structured JSON, one file per family. Names and members
//! are fixed, since other systems depend on them. The `GET` routes and `/asyncapi.json` use the
//! same types, so an order or a stock level looks the same everywhere.

pub mod actor;
pub mod auth;
pub mod cart;
pub mod catalog;
pub mod charges;
mod cloud_event;
mod envelope;
mod event_type;
pub mod inventory;
pub mod order;
pub mod parse;
mod position;
pub mod pricing;
pub mod schema;
pub mod webhook;

pub use self::{
    cloud_event::CloudEvent,
    envelope::{Audience, DomainEvent, EventEnvelope, OutboxEvent},
    event_type::{EventFamily, EventType},
    position::{OutboxCursor, OutboxPosition, ParseCursorError},
};
