//! The data of `webhook.*` events, about webhook endpoints.

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::{CloudEvent, schema};
use crate::domain::{
    clock::Timestamp,
    ids::{EventId, WebhookId},
    webhook::{PauseReason, TEST_EVENT_TYPE, Webhook},
};

/// An endpoint that was paused.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "WebhookPaused")]
pub struct WebhookPausedData {
    /// The endpoint.
    #[schemars(with = "Uuid")]
    webhook_id: WebhookId,
    /// Why it was paused.
    #[schemars(with = "schema::PauseReason")]
    reason: &'static str,
}

impl From<&Webhook> for WebhookPausedData {
    fn from(webhook: &Webhook) -> Self {
        let reason = webhook.paused.unwrap_or(PauseReason::Staff).as_str();
        Self { webhook_id: webhook.id, reason }
    }
}

/// The data of a test.
#[derive(Debug, Serialize)]
struct WebhookTestData {
    webhook_id: WebhookId,
}

/// The CloudEvent that tests an endpoint. It goes to this endpoint alone.
#[must_use]
pub fn test_event(id: EventId, webhook: &Webhook, now: Timestamp) -> Bytes {
    let data = WebhookTestData { webhook_id: webhook.id };
    let subject = webhook.id.as_uuid();
    CloudEvent::new(id, TEST_EVENT_TYPE, subject, now, webhook.version, None, data).to_json()
}
