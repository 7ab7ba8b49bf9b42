//! The orders' actor.

use std::sync::Arc;

use actix::{Actor, Context, Handler, ResponseFuture};

use super::OrderService;
use crate::{
    actors::ask::catch_panic,
    domain::order::Order,
    error::Error,
    messages::{change::Reply, orders::ChangeOrder},
};

/// Runs the commands on orders.
///
/// They run side by side. Those on one order are ordered by its version in the store.
pub struct OrderActor {
    service: OrderService,
}

impl OrderActor {
    /// Creates an actor that has yet to be started.
    #[must_use]
    pub const fn new(service: OrderService) -> Self {
        Self { service }
    }
}

impl Actor for OrderActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // Commands only wait here until their future starts. The store bounds how many read at a
        // time, the writer's queue how many write; the rest wait until their deadline.
        ctx.set_mailbox_capacity(1024);
    }
}

impl Handler<ChangeOrder> for OrderActor {
    type Result = ResponseFuture<Result<Reply<Arc<Order>>, Error>>;

    fn handle(&mut self, message: ChangeOrder, _: &mut Self::Context) -> Self::Result {
        let service = self.service.clone();
        Box::pin(async move { catch_panic("orders", service.change_order(message)).await })
    }
}
