//! Webhooks: endpoints of other systems that get events by HTTPS.

pub mod address;
mod delivery;
mod edit;
mod endpoint_url;

use std::time::Duration;

pub use self::{
    delivery::{DeliveryAttempt, DeliveryError, DeliveryStatus, PendingDelivery},
    edit::{WebhookDetails, WebhookPatch},
    endpoint_url::{UrlRefusal, check_endpoint_url},
};
use super::{
    clock::Timestamp,
    ids::{UserId, WebhookId},
};

/// The type of the event that only a test sends. It is never in the outbox.
pub const TEST_EVENT_TYPE: &str = "webhook.test";

/// Why an endpoint gets nothing.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum PauseReason {
    /// Staff has paused it.
    Staff,
    /// It has answered 410.
    Gone,
    /// For a long time, nothing could be delivered.
    Failing,
}

impl PauseReason {
    /// Every reason, in the order of declaration.
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    /// The name in responses and events.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// A secret that was replaced, and signs beside the new one for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormerSecret {
    /// The encrypted secret.
    pub sealed: String,
    /// Until when it signs.
    pub valid_until: Timestamp,
}

/// An endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// The endpoint's identifier.
    pub id: WebhookId,
    /// Where events go, and which.
    pub details: WebhookDetails,
    /// Why the endpoint gets nothing; `None` if it is active.
    pub paused: Option<PauseReason>,
    /// The secret that signs, encrypted.
    pub sealed_secret: String,
    /// The secret before it, if it still signs.
    pub former_secret: Option<FormerSecret>,
    /// The account or API key that made it.
    pub created_by: UserId,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Timestamp,
    /// Counts changes, from 1.
    pub version: u64,
    /// Counts the events about the endpoint: how often it was paused.
    pub event_sequence: u64,
    /// How far the outbox was read when the endpoint was made, as text: its first event follows.
    pub start: String,
    /// Whether the record is to be removed.
    pub deleted: bool,
}

impl Webhook {
    /// The endpoint, one version later.
    #[must_use]
    pub fn next_version(&self, now: Timestamp) -> Self {
        Self { version: self.version + 1, updated_at: now, ..self.clone() }
    }

    /// The endpoint after its deletion.
    #[must_use]
    pub fn to_deleted(&self, now: Timestamp) -> Self {
        Self { deleted: true, ..self.next_version(now) }
    }

    /// The endpoint after a pause.
    #[must_use]
    pub fn to_paused(&self, reason: PauseReason, now: Timestamp) -> Self {
        Self {
            paused: Some(reason),
            event_sequence: self.event_sequence + 1,
            ..self.next_version(now)
        }
    }

    /// The endpoint with a new secret. The old one signs too for `overlap`.
    #[must_use]
    pub fn with_secret(&self, sealed: String, overlap: Duration, now: Timestamp) -> Self {
        let valid_until = now.saturating_add(overlap);
        let former = FormerSecret { sealed: self.sealed_secret.clone(), valid_until };
        Self { sealed_secret: sealed, former_secret: Some(former), ..self.next_version(now) }
    }

    /// The encrypted secrets that sign at `now`, the current one first.
    pub fn signing_secrets(&self, now: Timestamp) -> impl Iterator<Item = &str> {
        let former = self.former_secret.as_ref().filter(|former| now < former.valid_until);
        std::iter::once(self.sealed_secret.as_str()).chain(former.map(|one| one.sealed.as_str()))
    }
}

#[cfg(test)]
impl Webhook {
    /// An active endpoint for tests.
    pub(crate) fn sample(now: Timestamp) -> Self {
        Self {
            id: WebhookId::new(),
            details: WebhookDetails {
                url: "https://erp.example/hook".into(),
                types: vec!["*".into()],
                description: None,
            },
            paused: None,
            sealed_secret: "new".into(),
            former_secret: None,
            created_by: UserId::new(),
            created_at: now,
            updated_at: now,
            version: 1,
            event_sequence: 0,
            start: "0.0".into(),
            deleted: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn former_secret_signs_until_the_overlap_ends() {
        let at = Timestamp::from_millis;
        let rotated =
            Webhook::sample(at(0)).with_secret("newer".into(), Duration::from_secs(1), at(500));
        let signing = |now| rotated.signing_secrets(now).collect::<Vec<_>>();
        assert_eq!(signing(at(1_499)), ["newer", "new"]);
        assert_eq!(signing(at(1_500)), ["newer"]);
        assert_eq!(rotated.version, 2);
    }

    #[test]
    fn patch_changes_what_it_names() {
        let now = Timestamp::from_millis(7);
        let before = Webhook::sample(Timestamp::from_millis(0));
        assert_eq!(WebhookPatch::default().apply(&before, now), before);
        let patch = |active| WebhookPatch { active: Some(active), ..WebhookPatch::default() };
        assert_eq!(patch(true).apply(&before, now), before);
        let paused = patch(false).apply(&before, now);
        assert_eq!((paused.paused, paused.version), (Some(PauseReason::Staff), 2));
        let gone = before.to_paused(PauseReason::Gone, now);
        assert_eq!(patch(false).apply(&gone, now), gone, "the reason stays");
        assert_eq!(patch(true).apply(&gone, now).paused, None);
    }
}
