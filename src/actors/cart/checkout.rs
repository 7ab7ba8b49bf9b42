//! Checkout, which turns a cart into an order.

use std::sync::Arc;

use super::service::CartService;
use crate::{
    actors::retry_on_conflict::{Decision, idempotency_record},
    domain::{
        catalog::product::Product,
        ids::{OrderId, ProductId, UserId},
        inventory::StockChange,
        order::{
            Buyer, CheckoutError, CheckoutOptions, CheckoutOutcome, LimitedLine, Order, OrderLine,
            OrderRules, OrderStatus,
        },
        pricing::{ShopPricing, TakenUse, UseChange},
    },
    error::Error,
    events::{DomainEvent, order::order_json},
    messages::{
        cart::{PlaceOrder, PlacedOrder},
        command_context::{CommandContext, Reply},
    },
    store::{Commit, CommitReceipt, Condition, StockWrite, Write, commit::StoredReplyBody},
};

impl CartService {
    /// Places an order for everything in the cart. Other commands on this node wait until it is
    /// done. Items added on another node during the checkout stay in the cart.
    pub(super) async fn check_out(&self, message: PlaceOrder) -> Result<Reply<PlacedOrder>, Error> {
        let PlaceOrder { mut options, context } = message;
        let key = context.idempotency_key.as_ref().map(|key| &*key.key);
        options.refused_codes = self.state.refused_codes(key);
        let decide = async || {
            // The order includes items added on another node before the checkout, but none added
            // during it. Each retry sees the current cart and products.
            let ((), email) = tokio::try_join!(self.catch_up(), self.find_account_email())?;
            options.account_email = email;
            let outcome = self.decide_checkout(&mut options, &context).await?;
            let buyer = options.buyer(self.state.owner.id);
            Ok(self.decide_order(outcome, buyer, &context))
        };
        // Each attempt catches up itself, so the retry loop needs no follower.
        self.decide_and_commit(&context, None, decide).await
    }

    async fn catch_up(&self) -> Result<(), Error> {
        match &self.deps.follower {
            Some(follower) => Ok(follower.catch_up().await?),
            None => Ok(()),
        }
    }

    async fn decide_checkout(
        &self,
        options: &mut CheckoutOptions,
        context: &CommandContext,
    ) -> Result<CheckoutOutcome, Error> {
        let (cart, deps) = (self.load_cart().await?, &self.deps);
        self.check_if_match(&cart, context).await?;
        self.check_idempotency_quota(context).await?;
        options.max_quantities.get_or_insert_with(|| cart.quantities());
        let buyer = options.buyer(self.state.owner.id);
        let buyer_uses = self.reload_buyer_uses(&cart.codes, Some(buyer)).await?;
        let order_id = deps.order_ids.next_id(&*deps.store, &*deps.clock).await?;
        let rules = deps.pricing_rules.current();
        let outcome = cart.check_out(
            options.clone(),
            order_id,
            |id| self.product_and_available(id),
            ShopPricing {
                currency: deps.currency,
                rules: &rules,
                buyer_uses: buyer_uses.as_deref().map(|uses| &uses.counts),
            },
            deps.order_rules,
            deps.clock.now(),
        );
        if let Err(CheckoutError::CodeLost { .. }) = outcome {
            // The answer tells the buyer, so the next checkout goes on without the code.
            if let Some(key) = &context.idempotency_key {
                self.state.note_refused_checkout(&key.key, &options.refused_codes);
            }
            self.render_and_cache(cart);
        }
        Ok(outcome?)
    }

    fn product_and_available(&self, id: ProductId) -> Option<(Arc<Product>, u64)> {
        let view = self.deps.catalog_cache.get(id)?;
        Some((Arc::clone(&view.product), view.stock.available()))
    }

    /// Builds one commit for the cart, the order and the stock.
    fn decide_order(
        &self,
        outcome: CheckoutOutcome,
        buyer: Buyer,
        context: &CommandContext,
    ) -> Decision<PlacedOrder, impl FnOnce(CommitReceipt) -> PlacedOrder> {
        let CheckoutOutcome {
            cart: (cart, cart_event),
            order: placed,
            paid,
            product_versions,
            limited_lines,
            rules_version,
            uses,
        } = outcome;
        let (cart, placed) = (Arc::new(cart), Arc::new(placed));
        // An order with nothing to pay is placed and paid at once: two versions, and two events.
        let states: Vec<Arc<Order>> =
            std::iter::once(Arc::clone(&placed)).chain(paid.map(Arc::new)).collect();
        let order = states.last().map_or_else(|| Arc::clone(&placed), Arc::clone);
        let unchanged = product_versions
            .into_iter()
            .map(|(id, version)| Condition::ProductUnchanged(id, version));
        let body = order_json(&order);
        self.count_reply(context, body.len());
        let mut commit = Commit {
            conditions: unchanged
                .chain(rules_unchanged(rules_version))
                .chain(uses.iter().filter_map(|taken| buyer_limit(&buyer, taken)))
                .chain(pending_order_limits(&order, self.deps.order_rules))
                .chain(purchase_limits(order.user_id, limited_lines))
                .collect(),
            writes: std::iter::once(Write::Cart(Arc::clone(&cart)))
                .chain(states.iter().map(|order| Write::Order(Arc::clone(order))))
                .chain(order.lines.iter().map(|line| reserve_units(order.id, line)))
                .chain(uses.iter().map(take_use))
                .collect(),
            events: std::iter::once(DomainEvent::Cart(Arc::clone(&cart), cart_event))
                .chain(states.iter().map(|order| DomainEvent::Order(Arc::clone(order))))
                .collect(),
            idempotency_record: idempotency_record(context, StoredReplyBody::Ready(body.clone())),
            trace: context.trace.clone(),
            ..Commit::new(order.placed_at, context.ticket.deadline())
        };
        if self.deps.sends_mail {
            commit.add_order_mails(None, &placed);
            if order.version > placed.version {
                commit.add_order_mails(Some(&placed), &order);
            }
        }
        let limited = self.deps.pricing_rules.current().limited_per_customer(&[]);
        Decision::Commit(Box::new(commit), move |_| {
            // What remains may cost something else, now that the buyer has another order.
            match limited.is_empty() {
                true => drop(self.render_and_cache(cart)),
                false => self.state.invalidate(),
            }
            PlacedOrder { order, body }
        })
    }
}

/// That the rules are those that the order was priced with. A shop that has never had any needs no
/// condition: the first one is created after this order, then.
fn rules_unchanged(version: u64) -> Option<Condition> {
    (version > 0).then_some(Condition::PricingRulesUnchanged(version))
}

fn reserve_units(order_id: OrderId, line: &OrderLine) -> Write {
    Write::Stock(StockWrite {
        product_id: line.product_id,
        change: StockChange::Reserve(u64::from(line.quantity)),
        expected_version: None,
        order_id: Some(order_id),
        reference: None,
        reason: None,
    })
}

fn take_use(taken: &TakenUse) -> Write {
    Write::PromotionUse(taken.promotion_id, UseChange::Take { limit: taken.limit })
}

/// That the buyer's other orders do not have the promotion as often as one buyer can.
fn buyer_limit(buyer: &Buyer, taken: &TakenUse) -> Option<Condition> {
    let TakenUse { promotion_id, per_customer_limit, .. } = *taken;
    let limit = per_customer_limit?;
    Some(Condition::BuyerUsesBelow { buyer: buyer.clone(), promotion_id, limit })
}

/// The limits on the unpaid orders and units of one buyer.
fn pending_order_limits(
    order: &Order,
    rules: OrderRules,
) -> impl Iterator<Item = Condition> + use<> {
    let (user_id, units) = (order.user_id, order.units());
    let limits = (order.status == OrderStatus::PendingPayment).then_some([
        Condition::PendingOrdersBelow(user_id, rules.max_pending),
        Condition::PendingUnitsWithin { user_id, units, limit: rules.max_pending_units },
    ]);
    limits.into_iter().flatten()
}

/// The purchase limits of the products in an order.
fn purchase_limits(
    user_id: UserId,
    limited_lines: Vec<LimitedLine>,
) -> impl Iterator<Item = Condition> {
    limited_lines.into_iter().map(move |line| Condition::PurchaseWithin(user_id, line))
}
