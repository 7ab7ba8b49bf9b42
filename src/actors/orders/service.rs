//! The command that changes an order.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    actors::retry_on_conflict::{CommandRetry, Decision, idempotency_record_about, is_conflict},
    cache::pricing_rules::PricingRulesCache,
    domain::{
        clock::Clock,
        ids::ProductId,
        inventory::StockChange,
        order::{Buyer, Order, OrderCommand, OrderStatus, OrderTransition, UsesTransition},
        payment::Refund,
        pricing::UseChange,
    },
    error::Error,
    events::{DomainEvent, order::order_json},
    messages::{
        command_context::{CommandContext, Reply},
        orders::ChangeOrder,
    },
    metrics::payments::PaymentMetrics,
    payments::PaymentProvider,
    store::{
        Commit, Condition, StockWrite, Store, Write, commit::StoredReplyBody, writer::CommitWriter,
    },
};

/// Runs commands on orders, and expires unpaid orders.
#[derive(Clone)]
pub struct OrderService {
    /// The source of orders.
    pub store: Arc<dyn Store>,
    /// Batches commits into store transactions.
    pub writer: CommitWriter,
    /// The source of all timestamps.
    pub clock: Arc<dyn Clock>,
    /// Whether buyers are told by mail what becomes of their orders.
    pub sends_mail: bool,
    /// The payment provider, if one is set up.
    pub provider: Option<Arc<dyn PaymentProvider>>,
    /// Counts what the provider is to be asked.
    pub payment_metrics: PaymentMetrics,
    /// The limits of promotions.
    pub pricing_rules: Arc<PricingRulesCache>,
}

impl OrderService {
    pub(super) async fn change_order(
        &self,
        message: ChangeOrder,
    ) -> Result<Reply<Arc<Order>>, Error> {
        let ChangeOrder { order_id, owner, command, context } = message;
        let decide = async || {
            let order = self
                .store
                .find_order(order_id)
                .await?
                .filter(|order| owner.is_none_or(|owner| owner == order.user_id))
                .ok_or_else(Error::order_not_found)?;
            let transition = self.decide_if_version_matches(&order, command.clone(), &context)?;
            let conditions = match &command {
                OrderCommand::Pay { .. } if order.status == OrderStatus::Expired => {
                    self.purchase_conditions(&order).await?
                }
                _ => Vec::new(),
            };
            let OrderTransition { order: changed, stock_changes, uses } = transition;
            let changed = Arc::new(Order { actor: context.actor(), ..changed });
            let mut commit = build_commit(&changed, stock_changes, uses, &context);
            annotate(&mut commit, &command, &changed);
            if self.sends_mail {
                commit.add_order_mails(Some(&order), &changed);
            }
            commit.conditions = conditions;
            if uses == UsesTransition::Taken {
                self.take_uses(&changed, &mut commit).await?;
            }
            Ok(Decision::Commit(Box::new(commit), move |_| changed))
        };
        let retry = CommandRetry {
            store: &*self.store,
            writer: &self.writer,
            clock: &*self.clock,
            follower: None,
            is_conflict,
        };
        retry.retry_on_conflict(&context, decide, async || self.reload_rules().await).await
    }

    /// Reloads what decisions keep in memory, after a conflict. Each reads the order from the
    /// store; the rules, which an order that comes back depends on, may have changed on another
    /// node.
    pub(super) async fn reload_rules(&self) -> Result<(), Error> {
        Ok(self.pricing_rules.load(&*self.store).await?)
    }

    /// The conditions for an expired order to take its units again.
    pub(super) async fn purchase_conditions(&self, order: &Order) -> Result<Vec<Condition>, Error> {
        let ids = order.lines.iter().map(|line| line.product_id).collect();
        let products = self.store.find_products_by_id(ids).await?;
        Ok(Condition::of_revived_order(order, products.iter().map(|(product, _)| product)))
    }

    /// Has an order that comes back take the uses of its promotions again.
    pub(super) async fn take_uses(&self, order: &Order, commit: &mut Commit) -> Result<(), Error> {
        let Some(charges) = &order.charges else { return Ok(()) };
        let buyer = self.find_buyer(order).await?;
        let rules = self.pricing_rules.current();
        for promotion_id in charges.promotions() {
            let promotion = rules.find_promotion(promotion_id);
            let limit = promotion.and_then(|promotion| promotion.usage_limit);
            commit.writes.push(Write::PromotionUse(promotion_id, UseChange::Take { limit }));
            let of_buyer = promotion.and_then(|promotion| promotion.per_customer_limit);
            commit.conditions.extend(of_buyer.map(|limit| Condition::BuyerUsesBelow {
                buyer: buyer.clone(),
                promotion_id,
                limit,
            }));
        }
        if !charges.discounts.is_empty() {
            commit.conditions.push(Condition::PricingRulesUnchanged(rules.version()));
        }
        Ok(())
    }

    /// The buyer of an order. With the order's e-mail address goes that of the account, which may
    /// be another one.
    async fn find_buyer(&self, order: &Order) -> Result<Buyer, Error> {
        let mut buyer = order.buyer();
        if !order.guest
            && let Some(account) = self.store.find_user(order.user_id).await?
            && !buyer.emails.contains(&account.email)
        {
            buyer.emails.push(account.email);
        }
        Ok(buyer)
    }

    fn decide_if_version_matches(
        &self,
        order: &Order,
        command: OrderCommand,
        context: &CommandContext,
    ) -> Result<OrderTransition, Error> {
        let etag = order.etag();
        match &context.if_match {
            Some(if_match) if !if_match.matches_tag(&etag) => {
                Err(Error::version_mismatch(&format!("\"{etag}\"")))
            }
            _ => Ok(order.decide(command, self.clock.now())?),
        }
    }
}

/// Builds the commit of a transition.
pub(super) fn build_commit(
    order: &Arc<Order>,
    stock_changes: Vec<(ProductId, StockChange)>,
    uses: UsesTransition,
    context: &CommandContext,
) -> Commit {
    let mut commit = Commit {
        idempotency_record: idempotency_record_about(
            order.user_id,
            context,
            StoredReplyBody::Ready(reply_to_store(order)),
        ),
        trace: context.trace.clone(),
        ..Commit::new(order.updated_at, context.ticket.deadline())
    };
    add_transition(order, stock_changes, uses, &mut commit);
    commit
}

/// The reply to a repeat. That about an anonymized order has no addresses, since it may outlive
/// those of the order.
fn reply_to_store(order: &Arc<Order>) -> Bytes {
    if !order.anonymized {
        return order_json(order);
    }
    let mut order = Order::clone(order);
    order.erase_addresses();
    order_json(&order)
}

/// Adds a transition to a commit. It gives uses of promotions back; to take them depends on their
/// limits, see [`OrderService::take_uses`].
pub(crate) fn add_transition(
    order: &Arc<Order>,
    stock_changes: Vec<(ProductId, StockChange)>,
    uses: UsesTransition,
    commit: &mut Commit,
) {
    commit.writes.push(Write::Order(Arc::clone(order)));
    commit.writes.extend(stock_changes.into_iter().map(|(product_id, change)| {
        Write::Stock(StockWrite {
            product_id,
            change,
            expected_version: None,
            order_id: Some(order.id),
            reference: None,
            reason: None,
        })
    }));
    if let (UsesTransition::GivenBack, Some(charges)) = (uses, &order.charges) {
        let give_back = |promotion| Write::PromotionUse(promotion, UseChange::GiveBack);
        commit.writes.extend(charges.promotions().map(give_back));
    }
    commit.events.push(DomainEvent::Order(Arc::clone(order)));
}

/// Adds what the command says about the movements, and the event of a refund.
fn annotate(commit: &mut Commit, command: &OrderCommand, order: &Arc<Order>) {
    let (reference, reason) = match command {
        OrderCommand::Fulfill { details, .. } => (details.reference.as_ref(), None),
        OrderCommand::Refund(request) => {
            // Money that a provider sends goes back later.
            let is_done = order.payment.refunds.last().is_some_and(Refund::has_succeeded);
            commit.events = vec![match is_done {
                true => DomainEvent::OrderRefunded(Arc::clone(order)),
                false => DomainEvent::PaymentChanged(Arc::clone(order)),
            }];
            (None, request.reason.as_ref())
        }
        _ => return,
    };
    for write in &mut commit.writes {
        if let Write::Stock(stock) = write {
            stock.reference = reference.cloned();
            stock.reason = reason.cloned();
        }
    }
}
