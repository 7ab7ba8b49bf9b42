//! Orders after checkout: payment, cancellation, fulfilment, and the end of those that were not paid in time.
//!
//! Nothing is kept in memory. Each command reads its order, lets the domain decide, and commits under the condition that the order has
//! still the version that was read: of payment and expiry, whichever comes to the store first stands, whatever node it comes from.

mod expiry;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use actix::{Actor, Context, Handler, ResponseFuture};

use super::{
    ask::catch_panic,
    commit_error::{MAX_ATTEMPTS, map_commit_error, replay_or_reply},
};
use crate::{
    domain::{
        clock::Clock,
        ids::ProductId,
        inventory::StockChange,
        order::{Order, OrderCommand, OrderTransition},
    },
    error::Error,
    events::{DomainEvent, order::order_json},
    messages::{
        change::{CommandContext, Reply},
        orders::ChangeOrder,
    },
    store::{
        Commit, CommitError, StockWrite, Store, Write,
        commit::{IdempotencyRecord, StoredResponseBody},
        writer::CommitWriter,
    },
};

/// What the orders' actor works with.
#[derive(Clone)]
pub struct OrderService {
    /// Where truth lives.
    pub store: Arc<dyn Store>,
    /// The way there.
    pub writer: CommitWriter,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// Decides on what becomes of orders. Commands run side by side; those on one order are settled by its version in the store.
pub struct OrderActor {
    service: OrderService,
}

impl OrderActor {
    /// An actor that has not started yet.
    #[must_use]
    pub const fn new(deps: OrderService) -> Self {
        Self { service: deps }
    }
}

impl Actor for OrderActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // Commands only wait here until their future is started. The writer's queue bounds how many are written at a time; the store
        // bounds how many read at a time, and the rest wait for it until their deadline.
        ctx.set_mailbox_capacity(1024);
    }
}

impl Handler<ChangeOrder> for OrderActor {
    type Result = ResponseFuture<Result<Reply<Arc<Order>>, Error>>;

    fn handle(&mut self, message: ChangeOrder, _: &mut Self::Context) -> Self::Result {
        let deps = self.service.clone();
        Box::pin(async move { catch_panic("orders", deps.change_order(message)).await })
    }
}

impl OrderService {
    async fn change_order(&self, message: ChangeOrder) -> Result<Reply<Arc<Order>>, Error> {
        let ChangeOrder { order_id, owner: of, command, context: change } = message;
        for _ in 0..MAX_ATTEMPTS {
            let order = self
                .store
                .find_order(order_id)
                .await?
                .filter(|order| of.is_none_or(|user| user == order.user_id));
            let decided = order
                .ok_or_else(Error::order_not_found)
                .and_then(|order| self.decide_if_version_matches(&order, command.clone(), &change));
            let transition = match decided {
                Ok(transition) => transition,
                Err(error) => return replay_or_reply(&*self.store, &change, Err(error)).await,
            };
            change.ticket.mark_started()?;
            let reference = match &command {
                OrderCommand::Fulfill { reference } => reference.clone(),
                _ => None,
            };
            let order = Arc::new(transition.order);
            match self
                .writer
                .commit(build_commit(&order, transition.stock_changes, reference, &change))
                .await
            {
                Ok(_) => return Ok(Reply::Completed(order)),
                Err(CommitError::Replayed(answer)) => return Ok(Reply::Replayed(answer)),
                Err(CommitError::Conflict) => {}
                Err(error) => return Err(map_commit_error(error)),
            }
        }
        Err(map_commit_error(CommitError::Conflict))
    }

    fn decide_if_version_matches(
        &self,
        order: &Order,
        command: OrderCommand,
        change: &CommandContext,
    ) -> Result<OrderTransition, Error> {
        let version = order.version.to_string();
        match &change.if_match {
            Some(wanted) if !wanted.matches_tag(&version) => {
                Err(Error::version_mismatch(&format!("\"{version}\"")))
            }
            _ => Ok(order.decide(command, self.clock.now())?),
        }
    }
}

/// What makes a transition durable; `reference` is what the movements of stock carry.
fn build_commit(
    order: &Arc<Order>,
    stock: Vec<(ProductId, StockChange)>,
    reference: Option<String>,
    change: &CommandContext,
) -> Commit {
    let order_id = Some(order.id);
    let moves = stock.into_iter().map(|(product_id, change)| {
        let reference = reference.clone();
        Write::Stock(StockWrite {
            product_id,
            change,
            expected_version: None,
            order_id,
            reference,
            reason: None,
        })
    });
    Commit {
        writes: std::iter::once(Write::Order(Arc::clone(order))).chain(moves).collect(),
        events: vec![DomainEvent::Order(Arc::clone(order))],
        idempotency_record: change.idempotency_key.clone().map(|key| IdempotencyRecord {
            key,
            body: StoredResponseBody::Ready(order_json(order)),
        }),
        trace: change.trace.clone(),
        ..Commit::new(order.updated_at, change.ticket.deadline())
    }
}
