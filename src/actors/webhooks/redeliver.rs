//! The command that delivers an event again.

use bytes::Bytes;

use super::service::WebhookService;
use crate::{
    actors::retry_on_conflict::Decision,
    domain::{
        ids::{EventId, WebhookId},
        webhook::{DeliveryAttempt, PendingDelivery},
    },
    error::{Error, ErrorCode},
    events::{OutboxCursor, OutboxPosition},
    messages::{command_context::Reply, webhooks::RedeliverEvent},
};

impl WebhookService {
    pub(super) async fn redeliver(&self, message: RedeliverEvent) -> Result<Reply<()>, Error> {
        let RedeliverEvent { id, event_id, context } = message;
        let decide = async || {
            self.find(id, &context).await?;
            let now = self.clock.now();
            let delivery = self.find_event(id, event_id).await?;
            let delivery =
                PendingDelivery { due_at: Some(now), requested: true, updated_at: now, ..delivery };
            let commit = self.delivery_commit(delivery, now, &context, Bytes::new());
            Ok(Decision::Commit(Box::new(commit), |_| ()))
        };
        self.command_retry().retry_on_conflict(&context, decide, async || Ok(())).await
    }

    /// An event with its attempts so far: as it waits or has failed, or from the outbox.
    async fn find_event(&self, id: WebhookId, event_id: EventId) -> Result<PendingDelivery, Error> {
        let (attempt, pending) = self.store.find_delivery(id, event_id).await?;
        if let Some(pending) = pending {
            return Ok(pending);
        }
        let attempt = attempt.ok_or_else(Error::delivery_not_found)?;
        let body = self.read_body(&attempt).await?.ok_or_else(|| {
            let detail = "This event was delivered, and the shop no longer holds it.";
            Error::new(ErrorCode::EventNotHeld, detail)
        })?;
        Ok(PendingDelivery {
            webhook_id: id,
            event_id,
            kind: attempt.kind,
            subject: attempt.subject,
            body,
            attempts: attempt.attempt,
            due_at: None,
            requested: false,
            updated_at: attempt.at,
        })
    }

    /// The event of an attempt, if the outbox still has it.
    async fn read_body(&self, attempt: &DeliveryAttempt) -> Result<Option<Bytes>, Error> {
        let Some(position) = attempt.position.and_then(OutboxPosition::from_i64) else {
            return Ok(None);
        };
        // A reader that has read everything but the rest of this partition.
        let heads = self.store.outbox_heads().await?;
        let others = heads.positions().filter(|at| at.partition != position.partition);
        let before = OutboxPosition { offset: position.offset.saturating_sub(1), ..position };
        let cursor: OutboxCursor = others.chain([before]).collect();
        let page = self.store.list_events_after(&cursor, 1).await?;
        let event = page.events.into_iter().find(|event| event.id == attempt.event_id);
        Ok(event.map(|event| event.body))
    }
}
