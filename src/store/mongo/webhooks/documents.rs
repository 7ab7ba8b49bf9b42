//! Documents of webhooks.

use std::{borrow::Cow, time::Duration};

use bytes::Bytes;
use mongodb::bson::{DateTime, Document, RawDocumentBuf, Uuid as BsonUuid, doc, rawdoc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    domain::{
        ids::{EventId, WebhookId},
        webhook::{DeliveryAttempt, DeliveryError, PendingDelivery, Webhook},
    },
    store::{
        mongo::documents::{
            DocumentError, id_from_bson, id_to_binary, id_to_bson, timestamp_from_bson,
            timestamp_to_bson,
        },
        webhook_record::WebhookRecord,
        webhook_store::WebhookState,
    },
};

/// An endpoint as stored in `webhooks`.
#[derive(Serialize, Deserialize)]
pub(super) struct WebhookDocument {
    #[serde(rename = "_id")]
    id: BsonUuid,
    version: u64,
    #[serde(flatten)]
    record: WebhookRecord,
}

impl From<&Webhook> for WebhookDocument {
    fn from(webhook: &Webhook) -> Self {
        Self {
            id: id_to_bson(webhook.id.as_uuid()),
            version: webhook.version,
            record: WebhookRecord::from(webhook),
        }
    }
}

impl TryFrom<WebhookDocument> for Webhook {
    type Error = DocumentError;

    fn try_from(document: WebhookDocument) -> Result<Self, DocumentError> {
        let WebhookDocument { id, version, record } = document;
        let invalid = |member| DocumentError(format!("invalid {member} of a webhook"));
        record.into_webhook(id_from_bson(id), version).map_err(invalid)
    }
}

/// How far an endpoint has come, as stored in `webhook_states`.
#[derive(Serialize, Deserialize)]
pub(super) struct StateDocument {
    #[serde(rename = "_id")]
    id: BsonUuid,
    node: BsonUuid,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failing_since: Option<DateTime>,
}

impl StateDocument {
    pub(super) fn new(id: WebhookId, node: Uuid, state: &WebhookState) -> Self {
        Self {
            id: id_to_bson(id.as_uuid()),
            node: id_to_bson(node),
            cursor: state.cursor.as_ref().map(ToString::to_string),
            failing_since: state.failing_since.map(timestamp_to_bson),
        }
    }
}

impl TryFrom<StateDocument> for WebhookState {
    type Error = DocumentError;

    fn try_from(document: StateDocument) -> Result<Self, DocumentError> {
        let cursor = document.cursor.map(|text| text.parse()).transpose();
        Ok(Self {
            cursor: cursor.map_err(|_| DocumentError("invalid cursor of a webhook".to_owned()))?,
            failing_since: document.failing_since.map(timestamp_from_bson),
        })
    }
}

/// The `_id` of a delivery, for raw documents.
pub(super) fn delivery_id_to_binaries(webhook: WebhookId, event: EventId) -> RawDocumentBuf {
    rawdoc! { "webhook": id_to_binary(webhook.as_uuid()), "event": id_to_binary(event.as_uuid()) }
}

/// The `_id` of a delivery, for filters.
pub(super) fn delivery_id_to_bson(webhook: WebhookId, event: EventId) -> Document {
    doc! { "webhook": id_to_bson(webhook.as_uuid()), "event": id_to_bson(event.as_uuid()) }
}

#[derive(Serialize, Deserialize)]
struct DeliveryId {
    webhook: BsonUuid,
    event: BsonUuid,
}

/// An event that an endpoint has not taken yet, as stored in `webhook_deliveries`.
#[derive(Serialize, Deserialize)]
pub(super) struct PendingDocument<'a> {
    #[serde(rename = "_id")]
    id: DeliveryId,
    webhook_id: BsonUuid,
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    subject: BsonUuid,
    #[serde(borrow)]
    body: Cow<'a, str>,
    attempts: u32,
    due_at: Option<DateTime>,
    requested: bool,
    updated_at: DateTime,
}

impl<'a> From<&'a PendingDelivery> for PendingDocument<'a> {
    fn from(delivery: &'a PendingDelivery) -> Self {
        let webhook_id = id_to_bson(delivery.webhook_id.as_uuid());
        let event = id_to_bson(delivery.event_id.as_uuid());
        Self {
            id: DeliveryId { webhook: webhook_id, event },
            webhook_id,
            kind: Cow::Borrowed(&delivery.kind),
            subject: id_to_bson(delivery.subject),
            body: String::from_utf8_lossy(&delivery.body),
            attempts: delivery.attempts,
            due_at: delivery.due_at.map(timestamp_to_bson),
            requested: delivery.requested,
            updated_at: timestamp_to_bson(delivery.updated_at),
        }
    }
}

impl From<PendingDocument<'_>> for PendingDelivery {
    fn from(document: PendingDocument<'_>) -> Self {
        Self {
            webhook_id: id_from_bson(document.webhook_id),
            event_id: id_from_bson(document.id.event),
            kind: document.kind.into_owned(),
            subject: id_from_bson(document.subject),
            body: Bytes::from(document.body.into_owned()),
            attempts: document.attempts,
            due_at: document.due_at.map(timestamp_from_bson),
            requested: document.requested,
            updated_at: timestamp_from_bson(document.updated_at),
        }
    }
}

/// An attempt as stored in `webhook_attempts`.
#[derive(Serialize, Deserialize)]
pub(super) struct AttemptDocument<'a> {
    #[serde(rename = "_id")]
    id: BsonUuid,
    webhook_id: BsonUuid,
    event_id: BsonUuid,
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    subject: BsonUuid,
    attempt: u32,
    #[serde(borrow)]
    status: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status_code: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    error: Option<Cow<'a, str>>,
    duration_ms: i64,
    at: DateTime,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next_at: Option<DateTime>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    position: Option<i64>,
}

impl<'a> From<&'a DeliveryAttempt> for AttemptDocument<'a> {
    fn from(attempt: &'a DeliveryAttempt) -> Self {
        Self {
            id: id_to_bson(attempt.id.as_uuid()),
            webhook_id: id_to_bson(attempt.webhook_id.as_uuid()),
            event_id: id_to_bson(attempt.event_id.as_uuid()),
            kind: Cow::Borrowed(&attempt.kind),
            subject: id_to_bson(attempt.subject),
            attempt: attempt.attempt,
            status: Cow::Borrowed(attempt.status.as_str()),
            status_code: attempt.status_code,
            error: attempt.error.map(DeliveryError::as_str).map(Cow::Borrowed),
            duration_ms: i64::try_from(attempt.duration.as_millis()).unwrap_or(i64::MAX),
            at: timestamp_to_bson(attempt.at),
            next_at: attempt.next_at.map(timestamp_to_bson),
            position: attempt.position,
        }
    }
}

impl TryFrom<AttemptDocument<'_>> for DeliveryAttempt {
    type Error = DocumentError;

    fn try_from(document: AttemptDocument<'_>) -> Result<Self, DocumentError> {
        let unknown = |_| DocumentError("unknown word in an attempt".to_owned());
        let error = document.error.map(|error| error.parse()).transpose();
        Ok(Self {
            id: id_from_bson(document.id),
            webhook_id: id_from_bson(document.webhook_id),
            event_id: id_from_bson(document.event_id),
            kind: document.kind.into_owned(),
            subject: id_from_bson(document.subject),
            attempt: document.attempt,
            status: document.status.parse().map_err(unknown)?,
            status_code: document.status_code,
            error: error.map_err(unknown)?,
            duration: Duration::from_millis(u64::try_from(document.duration_ms).unwrap_or(0)),
            at: timestamp_from_bson(document.at),
            next_at: document.next_at.map(timestamp_from_bson),
            position: document.position,
        })
    }
}
