//! The actor for webhook endpoints.

use std::sync::Arc;

use actix::{Actor, Context, Handler, ResponseFuture};
use tracing::Instrument as _;

use super::WebhookService;
use crate::{
    actors::mailbox::accept_queued,
    domain::{ids::EventId, webhook::Webhook},
    error::Error,
    messages::{
        command_context::Reply,
        webhooks::{
            ChangeWebhook, CreateWebhook, DeleteWebhook, NewSecret, RedeliverEvent, RotateSecret,
            TestWebhook,
        },
    },
    metrics::actors::MailboxMetrics,
    panics::guarded_command,
};

/// Runs the commands on endpoints. They run concurrently; the version in the store serializes those
/// on one endpoint.
pub struct WebhookActor {
    service: WebhookService,
    mailbox: MailboxMetrics,
}

impl WebhookActor {
    /// Creates an actor. The caller starts it.
    #[must_use]
    pub const fn new(service: WebhookService, mailbox: MailboxMetrics) -> Self {
        Self { service, mailbox }
    }

    const fn mailbox(&self) -> &MailboxMetrics {
        &self.mailbox
    }
}

impl Actor for WebhookActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // Commands wait here only until their future starts.
        ctx.set_mailbox_capacity(256);
    }
}

accept_queued!(
    WebhookActor,
    mailbox,
    CreateWebhook,
    ChangeWebhook,
    DeleteWebhook,
    RotateSecret,
    TestWebhook,
    RedeliverEvent
);

macro_rules! handle {
    ($($message:ty => $method:ident -> $reply:ty;)+) => {$(
        impl Handler<$message> for WebhookActor {
            type Result = ResponseFuture<Result<Reply<$reply>, Error>>;

            fn handle(&mut self, message: $message, _: &mut Self::Context) -> Self::Result {
                let service = self.service.clone();
                Box::pin(
                    async move { guarded_command("webhooks", service.$method(message)).await }
                        .in_current_span(),
                )
            }
        }
    )+};
}

handle! {
    CreateWebhook => create -> NewSecret;
    ChangeWebhook => change -> Arc<Webhook>;
    DeleteWebhook => delete -> ();
    RotateSecret => rotate -> NewSecret;
    TestWebhook => test -> EventId;
    RedeliverEvent => redeliver -> ();
}
