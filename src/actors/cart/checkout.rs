//! Checkout: the one command of a cart that makes something else, an order.

use std::sync::Arc;

use super::actor::CartService;
use crate::{
    actors::commit_error::{MAX_ATTEMPTS, map_commit_error, replay_or_reply},
    domain::{
        catalog::product::Product,
        ids::{OrderId, ProductId},
        inventory::StockChange,
        order::{CheckoutOptions, CheckoutOutcome, Order, OrderLine},
    },
    error::Error,
    events::{DomainEvent, order::order_json},
    messages::{
        cart::PlaceOrder,
        change::{CommandContext, Reply},
    },
    store::{
        Commit, CommitError, Condition, StockWrite, Write,
        commit::{IdempotencyRecord, StoredResponseBody},
    },
};

impl CartService {
    /// Makes an order of everything in the cart. Whoever changes the cart meanwhile on this node waits, and what is added on another
    /// one is not bought with it, so that it stays in the cart.
    pub(super) async fn check_out(&self, message: PlaceOrder) -> Result<Reply<Arc<Order>>, Error> {
        let PlaceOrder { options: mut checkout, context: change } = message;
        for _ in 0..MAX_ATTEMPTS {
            // What was added on another node before the checkout is bought, and what is added from now on is not. Later, the cart or a
            // product has changed. What this node has changed is known already.
            if let Some(follower) = &self.deps.follower {
                follower.catch_up().await?;
            }
            let done = match self.decide_checkout(&mut checkout, &change).await {
                Ok(done) => done,
                Err(error) => return replay_or_reply(&*self.deps.store, &change, Err(error)).await,
            };
            change.ticket.mark_started()?;
            if let Some(reply) = self.place_order(done, &change).await? {
                return Ok(reply);
            }
        }
        Err(map_commit_error(CommitError::Conflict))
    }

    async fn decide_checkout(
        &self,
        checkout: &mut CheckoutOptions,
        change: &CommandContext,
    ) -> Result<CheckoutOutcome, Error> {
        let (cart, deps) = (self.load_cart().await?, &self.deps);
        self.check_if_match(&cart, change)?;
        checkout.max_quantities.get_or_insert_with(|| cart.quantities());
        let done = cart.check_out(
            checkout.clone(),
            OrderId::new(),
            |id| self.product_and_available(id),
            deps.currency,
            deps.order_rules,
            deps.clock.now(),
        );
        Ok(done?)
    }

    fn product_and_available(&self, id: ProductId) -> Option<(Arc<Product>, u64)> {
        let view = self.deps.shelf.get(id)?;
        Some((Arc::clone(&view.product), view.stock.available()))
    }

    /// Makes a checkout durable; `None`: decided on something old, to be decided again.
    async fn place_order(
        &self,
        done: CheckoutOutcome,
        change: &CommandContext,
    ) -> Result<Option<Reply<Arc<Order>>>, Error> {
        let CheckoutOutcome { cart: (cart, new_event), order, product_versions: decided_on } = done;
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
            decided_on.into_iter().map(|(id, version)| Condition::ProductUnchanged(id, version));
        let pending =
            Condition::PendingOrdersBelow(order.user_id, self.deps.order_rules.max_pending);
        let body = || StoredResponseBody::Ready(order_json(&order));
        let commit = Commit {
            conditions: unchanged.chain([pending]).collect(),
            writes: [Write::Cart(Arc::clone(&cart)), Write::Order(Arc::clone(&order))]
                .into_iter()
                .chain(order.lines.iter().map(reserve))
                .collect(),
            events: vec![
                DomainEvent::Cart(Arc::clone(&cart), new_event),
                DomainEvent::Order(Arc::clone(&order)),
            ],
            idempotency_record: change
                .idempotency_key
                .clone()
                .map(|key| IdempotencyRecord { key, body: body() }),
            trace: change.trace.clone(),
            ..Commit::new(order.placed_at, change.ticket.deadline())
        };
        self.commit_and_reply(commit, || {
            self.render_and_cache(cart);
            order
        })
        .await
    }
}
