//! The actor for the pricing rules.

use std::sync::Arc;

use actix::{Actor, Context, Handler, ResponseFuture};
use tracing::Instrument as _;

use super::PricingService;
use crate::{
    actors::mailbox::accept_queued,
    domain::pricing::RuleRecord,
    error::Error,
    messages::{
        command_context::Reply,
        pricing::{ChangeRule, CreateRule, DeleteRule},
    },
    metrics::actors::MailboxMetrics,
    panics::guarded_command,
};

/// Runs the commands on rules.
///
/// Commands run concurrently. The rule's version in the store orders those on one rule.
pub struct PricingActor {
    service: PricingService,
    mailbox: MailboxMetrics,
}

impl PricingActor {
    /// Creates an actor. The caller starts it.
    #[must_use]
    pub const fn new(service: PricingService, mailbox: MailboxMetrics) -> Self {
        Self { service, mailbox }
    }

    const fn mailbox(&self) -> &MailboxMetrics {
        &self.mailbox
    }
}

impl Actor for PricingActor {
    type Context = Context<Self>;
}

macro_rules! handle {
    ($($message:ident => $method:ident -> $reply:ty;)+) => {$(
        impl Handler<$message> for PricingActor {
            type Result = ResponseFuture<Result<$reply, Error>>;

            fn handle(&mut self, message: $message, _: &mut Self::Context) -> Self::Result {
                let service = self.service.clone();
                let command =
                    async move { guarded_command("pricing", service.$method(message)).await };
                Box::pin(command.in_current_span())
            }
        }

        accept_queued!(PricingActor, mailbox, $message);
    )+};
}

handle! {
    CreateRule => create_rule -> Reply<Arc<RuleRecord>>;
    ChangeRule => change_rule -> Reply<Arc<RuleRecord>>;
    DeleteRule => delete_rule -> Reply<()>;
}
