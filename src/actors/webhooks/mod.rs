//! Webhook endpoints: what staff changes of them, and the deliveries that staff asks for.
//!
//! No endpoint is kept in memory here. Each command reads its endpoint, decides, and commits on
//! condition that its version is unchanged. The nodes that deliver notice the change.

mod actor;
mod redeliver;
mod service;

pub use self::{
    actor::WebhookActor,
    service::{AddressLookup, WebhookRules, WebhookService},
};
