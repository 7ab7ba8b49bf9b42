//! Stores what a payment provider says about the payments of orders.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{OrderService, service::build_commit};
use crate::{
    actors::retry_on_conflict::{CommandRetry, Decision, is_conflict},
    domain::{
        ids::OrderId,
        order::{LateMoney, OrderStatus, UsesTransition},
        payment::{Payment, PaymentEvent, PaymentStatus, ProviderMessage, ProviderUpdate},
    },
    error::{Error, ErrorCode},
    events::DomainEvent,
    messages::command_context::{CommandContext, Reply},
};

/// The time limit for storing what a provider says.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(5);

impl OrderService {
    /// Applies a message of the provider. One about an unknown order does nothing.
    ///
    /// # Errors
    /// The store fails. The provider sends it again.
    pub(super) async fn apply_provider_message(
        &self,
        message: ProviderMessage,
    ) -> Result<(), Error> {
        let known = self.store.find_order_by_intent(message.intent).await?;
        match known.map(|order| order.id).or(message.order_id) {
            Some(order_id) => self.apply_provider_update(order_id, &message.update).await.map(drop),
            None => Ok(()),
        }
    }

    /// Applies what the provider says. Returns whether it changed the order.
    ///
    /// # Errors
    /// The store fails.
    pub(super) async fn apply_provider_update(
        &self,
        order_id: OrderId,
        update: &ProviderUpdate,
    ) -> Result<bool, Error> {
        match self.apply_with(order_id, update, LateMoney::Revives).await {
            Err(error)
                if matches!(
                    error.code,
                    ErrorCode::InsufficientStock
                        | ErrorCode::PurchaseLimitReached
                        | ErrorCode::CodeExhausted
                ) =>
            {
                self.apply_with(order_id, update, LateMoney::GoesBack).await
            }
            outcome => outcome,
        }
    }

    async fn apply_with(
        &self,
        order_id: OrderId,
        update: &ProviderUpdate,
        late_money: LateMoney,
    ) -> Result<bool, Error> {
        let context = CommandContext::internal(COMMIT_TIMEOUT);
        let decide = async || {
            let unchanged = Decision::NoChange { reply: false, body: Bytes::new() };
            let Some(before) = self.store.find_order(order_id).await? else {
                return Ok(unchanged);
            };
            // A buyer who is gone gets nothing more.
            let late_money = if before.anonymized { LateMoney::GoesBack } else { late_money };
            let now = self.clock.now();
            let Some(decided) = before.decide_provider_update(update, late_money, now) else {
                return Ok(unchanged);
            };
            let order = Arc::new(decided.order);
            let uses = UsesTransition::between(before.status, order.status);
            let mut commit = build_commit(&order, decided.stock_changes, uses, &context);
            if before.status == OrderStatus::Expired && order.status == OrderStatus::Paid {
                commit.conditions = self.purchase_conditions(&before).await?;
            }
            if uses == UsesTransition::Taken {
                self.take_uses(&order, &mut commit).await?;
            }
            if self.sends_mail {
                commit.add_order_mails(Some(&before), &order);
            }
            let warnings = warnings(&before.payment, &order.payment);
            commit.events = vec![match decided.event {
                PaymentEvent::Paid => DomainEvent::Order(order),
                PaymentEvent::Refunded => DomainEvent::OrderRefunded(order),
                PaymentEvent::PaymentChanged => DomainEvent::PaymentChanged(order),
            }];
            Ok(Decision::Commit(Box::new(commit), move |_| {
                for warning in warnings {
                    tracing::warn!(order = %order_id, ?update, "{warning}");
                }
                true
            }))
        };
        let retry = CommandRetry {
            store: &*self.store,
            writer: &self.writer,
            clock: &*self.clock,
            follower: None,
            is_conflict,
        };
        let refresh = async || self.reload_rules().await;
        match retry.retry_on_conflict(&context, decide, refresh).await? {
            Reply::Completed(changed) => Ok(changed),
            Reply::Replayed(_) => Ok(false),
        }
    }
}

/// What staff has to look at after the step from `before` to `after`.
fn warnings(before: &Payment, after: &Payment) -> impl Iterator<Item = &'static str> + use<> {
    let is_unclear = |payment: &Payment| payment.status == PaymentStatus::Unclear;
    let became_unclear = is_unclear(after) && !is_unclear(before);
    // Not one for which nothing was left, since somebody was faster at the provider.
    let has_failed = after.failed_refunds() > before.failed_refunds()
        && after.refundable().exceeds(before.refundable());
    let unclear = became_unclear.then_some("a payment is unclear");
    let failed = has_failed.then_some("a refund failed; repeat it, or send the money otherwise");
    unclear.into_iter().chain(failed)
}
