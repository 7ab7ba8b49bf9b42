//! Checkout: the one command of a cart that makes something else, an order.

use std::sync::Arc;

use super::actor::CartWork;
use crate::{
    actors::commit_error::{MAX_ATTEMPTS, failure, unless_repeated},
    domain::{
        catalog::product::Product,
        ids::{OrderId, ProductId},
        inventory::StockChange,
        order::{CheckedOut, Checkout, Order, OrderLine},
    },
    error::Error,
    events::Fact,
    messages::{
        cart::CheckOut,
        change::{Change, Reply},
        orders::order_json,
    },
    store::{
        Commit, CommitError, Condition, StockWrite, Write,
        commit::{Remember, RememberedBody},
    },
};

impl CartWork {
    /// Makes an order of everything in the cart. Whoever changes the cart meanwhile on this node waits, and what is added on another
    /// one is not bought with it, so that it stays in the cart.
    pub(super) async fn check_out(&self, message: CheckOut) -> Result<Reply<Arc<Order>>, Error> {
        let CheckOut { mut checkout, change } = message;
        for _ in 0..MAX_ATTEMPTS {
            // What was added on another node before the checkout is bought, and what is added from now on is not. Later, the cart or a
            // product has changed. What this node has changed is known already.
            if let Some(follower) = &self.deps.follower {
                follower.catch_up().await?;
            }
            let done = match self.decide_checkout(&mut checkout, &change).await {
                Ok(done) => done,
                Err(error) => return unless_repeated(&*self.deps.store, &change, Err(error)).await,
            };
            change.ticket.begin()?;
            if let Some(reply) = self.place(done, &change).await? {
                return Ok(reply);
            }
        }
        Err(failure(CommitError::Conflict))
    }

    async fn decide_checkout(
        &self,
        checkout: &mut Checkout,
        change: &Change,
    ) -> Result<CheckedOut, Error> {
        let (cart, deps) = (self.cart().await?, &self.deps);
        self.check_if_match(&cart, change)?;
        checkout.at_most.get_or_insert_with(|| cart.pieces());
        let done = cart.check_out(
            checkout.clone(),
            OrderId::new(),
            |id| self.ware(id),
            deps.currency,
            deps.orders,
            deps.clock.now(),
        );
        Ok(done?)
    }

    fn ware(&self, id: ProductId) -> Option<(Arc<Product>, u64)> {
        let view = self.deps.shelf.get(id)?;
        Some((Arc::clone(&view.product), view.stock.available()))
    }

    /// Makes a checkout durable; `None`: decided on something old, to be decided again.
    async fn place(
        &self,
        done: CheckedOut,
        change: &Change,
    ) -> Result<Option<Reply<Arc<Order>>>, Error> {
        let CheckedOut { cart: (cart, event), order, decided_on } = done;
        let (cart, order) = (Arc::new(cart), Arc::new(order));
        let reserve = |line: &OrderLine| {
            Write::Stock(StockWrite {
                product_id: line.product_id,
                change: StockChange::Reserve(u64::from(line.quantity)),
                expected_version: None,
                order_id: Some(order.id),
                reference: None,
                reason: None,
            })
        };
        let unchanged =
            decided_on.into_iter().map(|(id, version)| Condition::Unchanged(id, version));
        let pending = Condition::PendingBelow(order.user_id, self.deps.orders.max_pending);
        let body = || RememberedBody::Ready(order_json(&order));
        let commit = Commit {
            conditions: unchanged.chain([pending]).collect(),
            writes: [Write::Cart(Arc::clone(&cart)), Write::Order(Arc::clone(&order))]
                .into_iter()
                .chain(order.lines.iter().map(reserve))
                .collect(),
            facts: vec![Fact::Cart(Arc::clone(&cart), event), Fact::Order(Arc::clone(&order))],
            remember: change.key.clone().map(|key| Remember { key, body: body() }),
            trace: change.trace.clone(),
            ..Commit::new(order.placed_at, change.ticket.deadline())
        };
        self.settle(commit, || {
            self.show(cart);
            order
        })
        .await
    }
}
