//! A webhook endpoint as both engines store it.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::{
    clock::Timestamp,
    webhook::{FormerSecret, PauseReason, Webhook, WebhookDetails},
};

/// An endpoint, without its id and its version, which are stored beside it. Times are RFC 3339.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WebhookRecord {
    url: String,
    types: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    paused: Option<String>,
    sealed_secret: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    former_secret: Option<FormerSecretRecord>,
    created_by: String,
    created_at: String,
    updated_at: String,
    event_sequence: u64,
    start: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct FormerSecretRecord {
    sealed: String,
    valid_until: String,
}

impl From<&Webhook> for WebhookRecord {
    fn from(webhook: &Webhook) -> Self {
        Self {
            url: webhook.details.url.clone(),
            types: webhook.details.types.clone(),
            description: webhook.details.description.clone(),
            paused: webhook.paused.map(|reason| reason.as_str().to_owned()),
            sealed_secret: webhook.sealed_secret.clone(),
            former_secret: webhook.former_secret.as_ref().map(|former| FormerSecretRecord {
                sealed: former.sealed.clone(),
                valid_until: former.valid_until.to_string(),
            }),
            created_by: webhook.created_by.to_string(),
            created_at: webhook.created_at.to_string(),
            updated_at: webhook.updated_at.to_string(),
            event_sequence: webhook.event_sequence,
            start: webhook.start.clone(),
        }
    }
}

impl WebhookRecord {
    /// The endpoint. The error says which member cannot be read.
    pub(super) fn into_webhook(self, id: Uuid, version: u64) -> Result<Webhook, &'static str> {
        let former = |former: FormerSecretRecord| {
            let valid_until = Timestamp::parse(&former.valid_until).ok_or("former_secret")?;
            Ok::<_, &'static str>(FormerSecret { sealed: former.sealed, valid_until })
        };
        let reason = |reason: String| reason.parse::<PauseReason>().map_err(|_| "paused");
        Ok(Webhook {
            id: id.into(),
            details: WebhookDetails {
                url: self.url,
                types: self.types,
                description: self.description,
            },
            paused: self.paused.map(reason).transpose()?,
            sealed_secret: self.sealed_secret,
            former_secret: self.former_secret.map(former).transpose()?,
            created_by: self.created_by.parse().map_err(|_| "created_by")?,
            created_at: Timestamp::parse(&self.created_at).ok_or("created_at")?,
            updated_at: Timestamp::parse(&self.updated_at).ok_or("updated_at")?,
            version,
            event_sequence: self.event_sequence,
            start: self.start,
            deleted: false,
        })
    }
}
