//! Changes of the endpoint: those of staff, and the pause that the endpoint itself brings about.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use secrecy::ExposeSecret;

use super::Endpoint;
use crate::{
    auth::webhook_secret::SealError,
    domain::{
        clock::Timestamp,
        webhook::{FormerSecret, PauseReason, Webhook},
    },
    events::DomainEvent,
    store::{Commit, Write},
    webhooks::attempt::SigningKeys,
};

/// How long a commit may take. Nobody waits for it but the endpoint.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(10);

impl Endpoint {
    /// Takes over a change of the endpoint.
    pub(super) fn take_update(&mut self) {
        let webhook = Arc::clone(&self.signals.webhook.borrow_and_update());
        let was_paused = self.webhook.paused.is_some() || self.is_pausing;
        self.webhook = webhook;
        self.is_pausing = false;
        self.open_keys();
        if was_paused && self.webhook.paused.is_none() {
            // It has another chance.
            self.failing_since = None;
            self.failures_in_a_row = 0;
            self.look_at = Some(self.now());
        }
    }

    pub(super) fn open_keys(&mut self) {
        let keys = SigningKeys::open(&self.webhook, &self.deps.secrets);
        self.has_keys = keys.is_some();
        match keys {
            None => tracing::error!(
                webhook = %self.id,
                "failed to decrypt the secret of a webhook, which gets nothing; rotate its secret"
            ),
            Some(keys) if keys.is_outdated => self.encrypt_anew(),
            Some(_) => {}
        }
    }

    /// Encrypts the secrets with the shop's first secret, since the second will be gone.
    fn encrypt_anew(&self) {
        let sealed = reseal(&self.webhook, &self.deps.secrets, self.now());
        let Ok(Some(changed)) = sealed else { return };
        let writer = self.deps.writer.clone();
        let mut commit = Commit::new(self.now(), Instant::now() + COMMIT_TIMEOUT);
        commit.writes.push(Write::Webhook(Arc::new(changed)));
        tokio::spawn(async move {
            // After a conflict the endpoint has another version, which is looked at in turn.
            let _ = writer.commit(commit).await;
        });
    }

    /// Pauses the endpoint if it is gone, or if nothing was delivered for too long.
    pub(super) async fn pause_if_due(&mut self, is_gone: bool, now: Timestamp) {
        let has_failed_long = self
            .failing_since
            .is_some_and(|since| since.saturating_add(self.deps.options.pause_after) <= now);
        let reason = match (is_gone, has_failed_long) {
            (true, _) => PauseReason::Gone,
            (false, true) => PauseReason::Failing,
            (false, false) => return,
        };
        if self.webhook.paused.is_some() || self.is_pausing {
            return;
        }
        let paused = Arc::new(self.webhook.to_paused(reason, now));
        let mut commit = Commit::new(now, Instant::now() + COMMIT_TIMEOUT);
        commit.writes.push(Write::Webhook(Arc::clone(&paused)));
        commit.events.push(DomainEvent::WebhookPaused(paused));
        // After a conflict, staff has changed the endpoint, and the dispatcher will tell. If the
        // store fails, the next failure pauses it.
        if self.deps.writer.commit(commit).await.is_ok() {
            self.is_pausing = true;
            tracing::warn!(webhook = %self.id, reason = reason.as_str(), "paused a webhook");
        }
    }
}

/// The endpoint with its secrets encrypted anew. `None` if that is not possible.
fn reseal(
    webhook: &Webhook,
    secrets: &crate::auth::webhook_secret::WebhookSecrets,
    now: Timestamp,
) -> Result<Option<Webhook>, SealError> {
    let seal = |sealed: &str| {
        let opened = secrets.open(webhook.id, sealed);
        opened.map(|opened| secrets.seal(webhook.id, opened.key.expose_secret())).transpose()
    };
    let Some(sealed_secret) = seal(&webhook.sealed_secret)? else { return Ok(None) };
    let former_secret = match &webhook.former_secret {
        Some(former) => seal(&former.sealed)?
            .map(|sealed| FormerSecret { sealed, valid_until: former.valid_until }),
        None => None,
    };
    Ok(Some(Webhook { sealed_secret, former_secret, ..webhook.next_version(now) }))
}
