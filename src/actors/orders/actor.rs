//! The actor for orders.

use std::sync::Arc;

use actix::{Actor, Context, Handler, ResponseFuture};
use tracing::Instrument as _;

use super::OrderService;
use crate::{
    actors::mailbox::accept_queued,
    domain::order::Order,
    error::Error,
    messages::{
        command_context::Reply,
        orders::{ApplyProviderMessage, BeginPayment, ChangeOrder},
    },
    metrics::actors::MailboxMetrics,
    panics::guarded_command,
};

/// Runs the commands on orders.
///
/// Commands run concurrently. The order's version in the store serializes those on one order.
pub struct OrderActor {
    service: OrderService,
    mailbox: MailboxMetrics,
}

impl OrderActor {
    /// Creates an actor. The caller starts it.
    #[must_use]
    pub const fn new(service: OrderService, mailbox: MailboxMetrics) -> Self {
        Self { service, mailbox }
    }

    const fn mailbox(&self) -> &MailboxMetrics {
        &self.mailbox
    }
}

accept_queued!(OrderActor, mailbox, ChangeOrder, BeginPayment, ApplyProviderMessage);

impl Actor for OrderActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // Commands wait here only until their future starts. The store bounds concurrent reads and
        // the writer's queue bounds writes; other commands wait until their deadline.
        ctx.set_mailbox_capacity(1024);
    }
}

impl Handler<ChangeOrder> for OrderActor {
    type Result = ResponseFuture<Result<Reply<Arc<Order>>, Error>>;

    fn handle(&mut self, message: ChangeOrder, _: &mut Self::Context) -> Self::Result {
        let service = self.service.clone();
        Box::pin(
            async move { guarded_command("orders", service.change_order(message)).await }
                .in_current_span(),
        )
    }
}

impl Handler<BeginPayment> for OrderActor {
    type Result = ResponseFuture<Result<Order, Error>>;

    fn handle(&mut self, message: BeginPayment, _: &mut Self::Context) -> Self::Result {
        let service = self.service.clone();
        Box::pin(
            async move {
                let BeginPayment { order_id, ticket } = message;
                guarded_command("orders", service.begin_payment(order_id, &ticket)).await
            }
            .in_current_span(),
        )
    }
}

impl Handler<ApplyProviderMessage> for OrderActor {
    type Result = ResponseFuture<Result<(), Error>>;

    fn handle(&mut self, message: ApplyProviderMessage, _: &mut Self::Context) -> Self::Result {
        let service = self.service.clone();
        let work = async move { service.apply_provider_message(message.message).await };
        Box::pin(async move { guarded_command("orders", work).await }.in_current_span())
    }
}
