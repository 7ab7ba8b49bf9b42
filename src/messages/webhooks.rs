//! Messages about webhook endpoints. Plain reads use the store.

use std::sync::Arc;

use actix::Message;
use secrecy::SecretString;

use super::command_context::{CommandContext, Reply};
use crate::{
    domain::{
        ids::{EventId, UserId, WebhookId},
        webhook::{Webhook, WebhookDetails, WebhookPatch},
    },
    error::Error,
    events::EventFamily,
};

/// An endpoint with a new secret.
#[derive(Debug)]
pub struct NewSecret {
    /// The endpoint.
    pub webhook: Arc<Webhook>,
    /// The secret, which is shown once.
    pub secret: SecretString,
}

/// Makes an endpoint.
#[derive(Debug, Message)]
#[rtype(result = "Result<Reply<NewSecret>, Error>")]
pub struct CreateWebhook {
    /// Where events go, and which.
    pub details: WebhookDetails,
    /// Whether it is active from the start.
    pub active: bool,
    /// The families of which the caller may read all events.
    pub readable: Vec<EventFamily>,
    /// The account or API key that makes it.
    pub created_by: UserId,
    /// The idempotency key, deadline, and trace.
    pub context: CommandContext,
}

/// Changes an endpoint.
#[derive(Debug, Message)]
#[rtype(result = "Result<Reply<Arc<Webhook>>, Error>")]
pub struct ChangeWebhook {
    /// The endpoint.
    pub id: WebhookId,
    /// The change.
    pub patch: WebhookPatch,
    /// The families of which the caller may read all events.
    pub readable: Vec<EventFamily>,
    /// The idempotency key, precondition, deadline, and trace.
    pub context: CommandContext,
}

/// Deletes an endpoint, with everything that waits for it.
#[derive(Debug, Message)]
#[rtype(result = "Result<Reply<()>, Error>")]
pub struct DeleteWebhook {
    /// The endpoint.
    pub id: WebhookId,
    /// The idempotency key, precondition, deadline, and trace.
    pub context: CommandContext,
}

/// Gives an endpoint a new secret.
#[derive(Debug, Message)]
#[rtype(result = "Result<Reply<NewSecret>, Error>")]
pub struct RotateSecret {
    /// The endpoint.
    pub id: WebhookId,
    /// The idempotency key, deadline, and trace.
    pub context: CommandContext,
}

/// Sends a test to an endpoint.
#[derive(Debug, Message)]
#[rtype(result = "Result<Reply<EventId>, Error>")]
pub struct TestWebhook {
    /// The endpoint.
    pub id: WebhookId,
    /// The idempotency key, deadline, and trace.
    pub context: CommandContext,
}

/// Delivers an event again.
#[derive(Debug, Message)]
#[rtype(result = "Result<Reply<()>, Error>")]
pub struct RedeliverEvent {
    /// The endpoint.
    pub id: WebhookId,
    /// The event.
    pub event_id: EventId,
    /// The idempotency key, deadline, and trace.
    pub context: CommandContext,
}
