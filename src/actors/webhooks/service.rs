//! The commands on webhook endpoints.

use std::{io, net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use strum::VariantArray as _;
use tokio::time::timeout;
use url::Host;

use crate::{
    actors::retry_on_conflict::{CommandRetry, Decision, idempotency_record, is_conflict},
    auth::webhook_secret::{NewWebhookSecret, WebhookSecrets},
    domain::{
        clock::{Clock, Timestamp},
        ids::{EventId, WebhookId},
        webhook::{
            PauseReason, PendingDelivery, TEST_EVENT_TYPE, UrlRefusal, Webhook, WebhookDetails,
            address::is_public, check_endpoint_url,
        },
    },
    error::{Error, ErrorCode},
    events::{DomainEvent, EventFamily, EventType, webhook::test_event},
    messages::{
        command_context::{CommandContext, Reply},
        webhooks::{
            ChangeWebhook, CreateWebhook, DeleteWebhook, NewSecret, RotateSecret, TestWebhook,
        },
    },
    store::{Commit, Store, Write, commit::StoredReplyBody, writer::CommitWriter},
};

/// Finds the addresses of a host.
pub type AddressLookup =
    Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync>;

/// How long a look-up may take. A name that is not found in time is taken, since each attempt looks
/// again.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);

/// The rules of endpoints.
#[derive(Debug, Clone, Copy)]
pub struct WebhookRules {
    /// Whether endpoints may have addresses that are not public, and `http`.
    pub allow_private: bool,
    /// How long a secret that was replaced signs beside the new one.
    pub rotation_overlap: Duration,
}

/// Runs commands on endpoints.
#[derive(Clone)]
pub struct WebhookService {
    /// The source of endpoints.
    pub store: Arc<dyn Store>,
    /// Batches commits into store transactions.
    pub writer: CommitWriter,
    /// The source of all timestamps.
    pub clock: Arc<dyn Clock>,
    /// Makes and encrypts secrets.
    pub secrets: WebhookSecrets,
    /// The rules.
    pub rules: WebhookRules,
    /// Finds the addresses of hosts.
    pub lookup: AddressLookup,
    /// The JSON of an endpoint.
    pub render: fn(&Webhook) -> Bytes,
    /// The same with a secret that is null, as it is remembered for repeats.
    pub render_without_secret: fn(&Webhook) -> Bytes,
}

impl WebhookService {
    pub(super) async fn create(&self, message: CreateWebhook) -> Result<Reply<NewSecret>, Error> {
        let CreateWebhook { details, active, readable, created_by, context } = message;
        details.validate(&known_types())?;
        check_types(&details, &readable)?;
        self.check_url(&details.url).await?;
        let decide = async || {
            let now = self.clock.now();
            let id = WebhookId::new();
            let NewWebhookSecret { text, sealed } = self.generate_secret(id)?;
            let webhook = Arc::new(Webhook {
                id,
                details: details.clone(),
                paused: (!active).then_some(PauseReason::Staff),
                sealed_secret: sealed,
                former_secret: None,
                created_by,
                created_at: now,
                updated_at: now,
                version: 1,
                event_sequence: 0,
                // Before the commit, so that no event after it is missed.
                start: self.store.outbox_heads().await?.to_string(),
                deleted: false,
            });
            let commit = self.commit_with_secret(&webhook, &context);
            let reply = NewSecret { webhook, secret: text };
            Ok(Decision::Commit(Box::new(commit), move |_| reply))
        };
        self.command_retry().retry_on_conflict(&context, decide, async || Ok(())).await
    }

    pub(super) async fn change(
        &self,
        message: ChangeWebhook,
    ) -> Result<Reply<Arc<Webhook>>, Error> {
        let ChangeWebhook { id, patch, readable, context } = message;
        let decide = async || {
            let before = self.find(id, &context).await?;
            let now = self.clock.now();
            let after = Arc::new(patch.apply(&before, now));
            after.details.validate(&known_types())?;
            // Also of events that the endpoint has had before: the caller may send them elsewhere.
            let is_resumed = before.paused.is_some() && after.paused.is_none();
            if is_resumed || after.details != before.details {
                check_types(&after.details, &readable)?;
            }
            if patch.url.is_some() {
                self.check_url(&after.details.url).await?;
            }
            let body = (self.render)(&after);
            if *after == before {
                return Ok(Decision::NoChange { reply: after, body });
            }
            let mut commit = self.commit(&after, &context, body);
            if before.paused.is_none() && after.paused.is_some() {
                commit.events.push(DomainEvent::WebhookPaused(Arc::clone(&after)));
            }
            Ok(Decision::Commit(Box::new(commit), move |_| after))
        };
        self.command_retry().retry_on_conflict(&context, decide, async || Ok(())).await
    }

    pub(super) async fn delete(&self, message: DeleteWebhook) -> Result<Reply<()>, Error> {
        let DeleteWebhook { id, context } = message;
        let decide = async || {
            let before = self.find(id, &context).await?;
            let deleted = Arc::new(before.to_deleted(self.clock.now()));
            let commit = self.commit(&deleted, &context, Bytes::new());
            Ok(Decision::Commit(Box::new(commit), |_| ()))
        };
        self.command_retry().retry_on_conflict(&context, decide, async || Ok(())).await
    }

    pub(super) async fn rotate(&self, message: RotateSecret) -> Result<Reply<NewSecret>, Error> {
        let RotateSecret { id, context } = message;
        let decide = async || {
            let before = self.find(id, &context).await?;
            let NewWebhookSecret { text, sealed } = self.generate_secret(id)?;
            let overlap = self.rules.rotation_overlap;
            let webhook = Arc::new(before.with_secret(sealed, overlap, self.clock.now()));
            let commit = self.commit_with_secret(&webhook, &context);
            let reply = NewSecret { webhook, secret: text };
            Ok(Decision::Commit(Box::new(commit), move |_| reply))
        };
        self.command_retry().retry_on_conflict(&context, decide, async || Ok(())).await
    }

    pub(super) async fn test(&self, message: TestWebhook) -> Result<Reply<EventId>, Error> {
        let TestWebhook { id, context } = message;
        let decide = async || {
            let webhook = self.find(id, &context).await?;
            if webhook.paused.is_some() {
                let detail = "This webhook is paused. Make it active first.";
                return Err(Error::new(ErrorCode::WebhookPaused, detail));
            }
            let (now, event_id) = (self.clock.now(), EventId::new());
            let delivery = PendingDelivery {
                webhook_id: id,
                event_id,
                kind: TEST_EVENT_TYPE.to_owned(),
                subject: id.as_uuid(),
                body: test_event(event_id, &webhook, now),
                attempts: 0,
                due_at: Some(now),
                requested: true,
                updated_at: now,
            };
            let body = format!("{{\"event_id\":\"{event_id}\"}}");
            let commit = self.delivery_commit(delivery, now, &context, body.into());
            Ok(Decision::Commit(Box::new(commit), move |_| event_id))
        };
        self.command_retry().retry_on_conflict(&context, decide, async || Ok(())).await
    }

    /// The endpoint, if the caller expects its version.
    pub(super) async fn find(
        &self,
        id: WebhookId,
        context: &CommandContext,
    ) -> Result<Webhook, Error> {
        let found = self.store.find_webhook(id).await?.ok_or_else(Error::webhook_not_found)?;
        let tag = found.version.to_string();
        match &context.if_match {
            Some(wanted) if !wanted.matches_tag(&tag) => {
                Err(Error::version_mismatch(&format!("\"{tag}\"")))
            }
            _ => Ok(found),
        }
    }

    pub(super) fn command_retry(&self) -> CommandRetry<'_> {
        CommandRetry {
            store: &*self.store,
            writer: &self.writer,
            clock: &*self.clock,
            follower: None,
            is_conflict,
        }
    }

    fn generate_secret(&self, id: WebhookId) -> Result<NewWebhookSecret, Error> {
        self.secrets.generate(id).map_err(|error| {
            tracing::error!(%error, "failed to create the secret of a webhook");
            Error::internal()
        })
    }

    fn commit(&self, webhook: &Arc<Webhook>, context: &CommandContext, body: Bytes) -> Commit {
        Commit {
            writes: vec![Write::Webhook(Arc::clone(webhook))],
            idempotency_record: idempotency_record(context, StoredReplyBody::Ready(body)),
            trace: context.trace.clone(),
            ..Commit::new(webhook.updated_at, context.ticket.deadline())
        }
    }

    /// What is remembered for repeats must not have the secret.
    fn commit_with_secret(&self, webhook: &Arc<Webhook>, context: &CommandContext) -> Commit {
        self.commit(webhook, context, (self.render_without_secret)(webhook))
    }

    pub(super) fn delivery_commit(
        &self,
        delivery: PendingDelivery,
        now: Timestamp,
        context: &CommandContext,
        body: Bytes,
    ) -> Commit {
        Commit {
            writes: vec![Write::WebhookDelivery(Arc::new(delivery))],
            idempotency_record: idempotency_record(context, StoredReplyBody::Ready(body)),
            trace: context.trace.clone(),
            ..Commit::new(now, context.ticket.deadline())
        }
    }

    /// Checks that a URL may be an endpoint's, and that its host has no address that is not public.
    async fn check_url(&self, text: &str) -> Result<(), Error> {
        let refuse = |refusal: UrlRefusal| {
            Error::new(ErrorCode::UrlNotAllowed, format!("This URL is not allowed: {refusal}."))
        };
        let url = check_endpoint_url(text, self.rules.allow_private).map_err(refuse)?;
        if self.rules.allow_private {
            return Ok(());
        }
        if let Some(Host::Domain(name)) = url.host() {
            let found = timeout(LOOKUP_TIMEOUT, (self.lookup)(name.to_owned())).await;
            let addresses = found.ok().and_then(Result::ok).unwrap_or_default();
            if !addresses.into_iter().all(is_public) {
                return Err(refuse(UrlRefusal::NotPublic));
            }
        }
        Ok(())
    }
}

/// Refuses types whose events the caller may not read.
fn check_types(details: &WebhookDetails, readable: &[EventFamily]) -> Result<(), Error> {
    let wanted = EventType::VARIANTS.iter().filter(|kind| details.wants(kind.as_str()));
    match wanted.into_iter().find(|kind| !readable.contains(&kind.family())) {
        None => Ok(()),
        Some(kind) => {
            let detail = format!("You may not read events of the type {kind}.");
            Err(Error::new(ErrorCode::Forbidden, detail))
        }
    }
}

/// The event types that endpoints can subscribe to.
fn known_types() -> Vec<&'static str> {
    EventType::VARIANTS.iter().map(|kind| kind.as_str()).collect()
}
