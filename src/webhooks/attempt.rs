//! One attempt: what is sent, and what becomes of the event after it.

use std::{sync::Arc, time::Duration};

use reqwest::StatusCode;
use secrecy::{ExposeSecret, SecretSlice};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use super::{
    client::{SendResult, WebhookMessage},
    endpoint::EndpointDeps,
    signature::sign,
};
use crate::{
    auth::webhook_secret::WebhookSecrets,
    domain::{
        clock::Timestamp,
        ids::AttemptId,
        webhook::{DeliveryAttempt, DeliveryError, DeliveryStatus, PendingDelivery, Webhook},
    },
    panics::catch_panic,
};

/// How much longer a wait may be than the schedule says, so that events that failed together are
/// not tried again together.
const JITTER: f64 = 0.2;

/// How often an attempt that may not be made looks whether it may.
const RECHECK_INTERVAL: Duration = Duration::from_millis(500);

/// The keys of an endpoint, decrypted.
pub(super) struct SigningKeys {
    current: SecretSlice<u8>,
    former: Option<(SecretSlice<u8>, Timestamp)>,
    /// Whether the shop's second secret encrypted one of them.
    pub(super) is_outdated: bool,
}

impl SigningKeys {
    /// Decrypts the secrets of an endpoint. `None` if the current one cannot be decrypted.
    pub(super) fn open(webhook: &Webhook, secrets: &WebhookSecrets) -> Option<Self> {
        let current = secrets.open(webhook.id, &webhook.sealed_secret)?;
        let former = webhook.former_secret.as_ref().and_then(|former| {
            Some((secrets.open(webhook.id, &former.sealed)?, former.valid_until))
        });
        let is_outdated =
            current.is_outdated || former.as_ref().is_some_and(|(opened, _)| opened.is_outdated);
        let former = former.map(|(opened, until)| (opened.key, until));
        Some(Self { current: current.key, former, is_outdated })
    }

    fn valid_at(&self, now: Timestamp) -> impl Iterator<Item = &[u8]> {
        let former = self.former.as_ref().filter(|(_, until)| now < *until);
        std::iter::once(self.current.expose_secret())
            .chain(former.map(|(key, _)| key.expose_secret()))
    }
}

/// Where an attempt comes from.
#[derive(Clone, Copy)]
pub(super) enum Origin {
    /// The outbox: its number in the window, and its position.
    Outbox { number: u64, position: i64 },
    /// What waits.
    Waiting,
}

/// An attempt to make.
pub(super) struct Attempt {
    pub(super) origin: Origin,
    /// The endpoint as it is when the attempt is made.
    pub(super) webhook: watch::Receiver<Arc<Webhook>>,
    /// Until when this node may make attempts.
    pub(super) lease: watch::Receiver<Instant>,
    /// The event, with the attempts before this one.
    pub(super) event: PendingDelivery,
    /// Whether the endpoint fails or is slow.
    pub(super) is_slow: bool,
}

/// An attempt that was made.
pub(super) struct AttemptOutcome {
    pub(super) origin: Origin,
    pub(super) event: PendingDelivery,
    pub(super) result: SendResult,
    at: Timestamp,
    duration: Duration,
}

impl Attempt {
    /// Makes the attempt. A panic counts as a failure, so that the event is not lost.
    pub(super) async fn make(self, deps: Arc<EndpointDeps>) -> AttemptOutcome {
        let Self { origin, mut webhook, lease, event, is_slow } = self;
        let (_permit, webhook, keys) = loop {
            let permit = deps.permits.acquire(is_slow).await;
            // Much may have changed while it waited.
            let current = Arc::clone(&webhook.borrow_and_update());
            let keys = SigningKeys::open(&current, &deps.secrets);
            let may_send = webhook.has_changed().is_ok()
                && current.paused.is_none()
                && Instant::now() < *lease.borrow();
            match keys.filter(|_| may_send) {
                Some(keys) => break (permit, current, keys),
                None => drop(permit),
            }
            // The task drops the attempt when it stops.
            sleep(RECHECK_INTERVAL).await;
        };
        let (at, began) = (deps.clock.now(), Instant::now());
        let id = event.event_id.to_string();
        let signature = sign(keys.valid_at(at), &id, at.as_secs(), &event.body);
        let message = WebhookMessage {
            url: webhook.details.url.clone(),
            id,
            timestamp_secs: at.as_secs(),
            signature,
            body: event.body.clone(),
        };
        let on_panic = || {
            tracing::error!(webhook = %webhook.id, "an attempt to deliver an event panicked");
            Err(DeliveryError::Protocol)
        };
        let result = catch_panic(deps.client.send(message), on_panic).await;
        AttemptOutcome { origin, event, result, at, duration: began.elapsed() }
    }
}

impl AttemptOutcome {
    /// Whether the endpoint has taken the event.
    pub(super) fn is_delivered(&self) -> bool {
        self.result.is_ok_and(|status| status.is_success())
    }

    /// Whether the endpoint says that it is gone.
    pub(super) fn is_gone(&self) -> bool {
        self.result == Ok(StatusCode::GONE)
    }

    /// The record of the attempt, and the event as it waits or has failed after it.
    pub(super) fn record(
        &self,
        now: Timestamp,
        schedule: &[Duration],
    ) -> (DeliveryAttempt, PendingDelivery) {
        let event = &self.event;
        let attempt = event.attempts.saturating_add(1);
        let wait = usize::try_from(event.attempts).ok().and_then(|index| schedule.get(index));
        let due_at =
            wait.map(|wait| now.saturating_add(wait.mul_f64(1.0 + JITTER * rand::random::<f64>())));
        let (status, next_at) = match (self.is_delivered(), due_at) {
            (true, _) => (DeliveryStatus::Delivered, None),
            (false, Some(due_at)) => (DeliveryStatus::Retrying, Some(due_at)),
            (false, None) => (DeliveryStatus::Failed, None),
        };
        let record = DeliveryAttempt {
            id: AttemptId::new(),
            webhook_id: event.webhook_id,
            event_id: event.event_id,
            kind: event.kind.clone(),
            subject: event.subject,
            attempt,
            status,
            status_code: self.result.ok().map(|status| status.as_u16()),
            error: self.result.err(),
            duration: self.duration,
            at: self.at,
            next_at,
            position: match self.origin {
                Origin::Outbox { position, .. } => Some(position),
                Origin::Waiting => None,
            },
        };
        let after = PendingDelivery {
            attempts: attempt,
            due_at: next_at,
            requested: false,
            updated_at: self.at,
            ..event.clone()
        };
        (record, after)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::domain::ids::{EventId, WebhookId};

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn outcome(attempts: u32, result: SendResult) -> AttemptOutcome {
        let event = PendingDelivery {
            webhook_id: WebhookId::new(),
            event_id: EventId::new(),
            kind: "order.paid".into(),
            subject: uuid::Uuid::nil(),
            body: Bytes::from_static(b"{}"),
            attempts,
            due_at: None,
            requested: true,
            updated_at: NOW,
        };
        AttemptOutcome { origin: Origin::Waiting, event, result, at: NOW, duration: Duration::ZERO }
    }

    #[test]
    fn failed_attempt_waits_as_scheduled_and_up_to_a_fifth_longer() {
        let schedule = [Duration::from_secs(5), Duration::from_secs(300)];
        for (index, wait) in [5_000, 300_000].into_iter().enumerate() {
            for _ in 0..100 {
                let failed = outcome(index as u32, Err(DeliveryError::Timeout));
                let (attempt, after) = failed.record(NOW, &schedule);
                let waits = attempt.next_at.unwrap().as_millis() - NOW.as_millis();
                assert!((wait..=wait + wait / 5).contains(&waits), "{waits}");
                assert_eq!(attempt.status, DeliveryStatus::Retrying);
                assert_eq!((after.due_at, after.attempts), (attempt.next_at, index as u32 + 1));
                assert!(!after.requested);
            }
        }
        let (last, after) = outcome(2, Ok(StatusCode::FOUND)).record(NOW, &schedule);
        assert_eq!((last.attempt, last.status), (3, DeliveryStatus::Failed));
        assert_eq!((last.status_code, last.next_at, after.due_at), (Some(302), None, None));
    }

    #[test]
    fn only_2xx_is_delivered() {
        for (result, is_delivered) in [
            (Ok(StatusCode::OK), true),
            (Ok(StatusCode::NO_CONTENT), true),
            (Ok(StatusCode::MOVED_PERMANENTLY), false),
            (Ok(StatusCode::GONE), false),
            (Ok(StatusCode::INTERNAL_SERVER_ERROR), false),
            (Err(DeliveryError::Tls), false),
        ] {
            assert_eq!(outcome(0, result).is_delivered(), is_delivered, "{result:?}");
            assert_eq!(outcome(0, result).is_gone(), result == Ok(StatusCode::GONE));
        }
    }
}
