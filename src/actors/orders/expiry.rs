//! The expiry of orders that are not paid in time.
//!
//! Every node looks for overdue orders in the store, so the orders of a node that is gone expire,
//! too.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use tokio::sync::Semaphore;

use super::{OrderService, service::build_commit};
use crate::{
    actors::ask::guarded_tick,
    domain::order::{Order, OrderCommand},
    messages::change::CommandContext,
    store::{CommitError, StoreUnavailable},
};

/// The longest pause between two looks. Stock must be free within two seconds of the deadline, and
/// each step towards that takes time.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// How many orders are read at a time.
const PAGE_SIZE: u32 = 1024;

/// How many commits are under way at a time. They share transactions, and leave the writer's queue
/// to buyers.
const MAX_CONCURRENT_COMMITS: usize = 256;

/// How many order lines release their stock at a time, so that those transactions are no larger
/// than others.
const MAX_CONCURRENT_LINES: u32 = 1024;

/// How long the expiry of an order may wait in the queue. The next look finds the order again.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(5);

impl OrderService {
    /// Expires overdue orders; never returns.
    pub async fn run_expiry_loop(self) {
        let mut last = Ok(0);
        loop {
            // At random, so that nodes do not look at the same time: the second finds nothing.
            tokio::time::sleep(POLL_INTERVAL.mul_f64(rand::random_range(0.5..=1.0))).await;
            let expired = guarded_tick("order expiry", self.expire_overdue_orders());
            let Some(remaining) = expired.await else { continue };
            match remaining {
                Err(error @ StoreUnavailable) if last != remaining => {
                    tracing::warn!(?error, "failed to read overdue orders; trying again");
                }
                Ok(orders @ 1..) if last != Ok(orders) => {
                    tracing::warn!(orders, "failed to expire overdue orders; trying again");
                }
                _ => {}
            }
            last = remaining;
        }
    }

    /// Expires all orders that are overdue now, and returns how many failed to.
    ///
    /// # Errors
    /// The store is unavailable.
    pub(super) async fn expire_overdue_orders(&self) -> Result<usize, StoreUnavailable> {
        let now = self.clock.now();
        let line_slots = Semaphore::new(MAX_CONCURRENT_LINES as usize);
        let (mut failed, mut last) = (0, None);
        loop {
            // Orders that fail to expire are passed over, and found again by the next look.
            let overdue = self.store.list_overdue_orders(now, last, PAGE_SIZE).await?;
            let more = overdue.len() == PAGE_SIZE as usize;
            last = overdue.last().and_then(|order| Some((order.expires_at?, order.id)));
            let expired = stream::iter(overdue)
                .map(|order| self.expire_order(order, &line_slots))
                .buffer_unordered(MAX_CONCURRENT_COMMITS);
            failed += expired.filter(|expired| std::future::ready(!expired)).count().await;
            if !more {
                return Ok(failed);
            }
        }
    }

    /// Whether the order no longer waits for payment, thanks to this node or another.
    async fn expire_order(&self, order: Order, line_slots: &Semaphore) -> bool {
        let Ok(transition) = order.decide(OrderCommand::Expire, self.clock.now()) else {
            return false;
        };
        let lines = u32::try_from(order.lines.len())
            .unwrap_or(MAX_CONCURRENT_LINES)
            .min(MAX_CONCURRENT_LINES);
        let Ok(_permit) = line_slots.acquire_many(lines).await else { return false };
        let commit = build_commit(
            &Arc::new(transition.order),
            transition.stock_changes,
            None,
            &CommandContext::internal(COMMIT_TIMEOUT),
        );
        // Buyers can be told to come back; the stock of this order has to be free on time.
        match self.writer.commit_with_priority(commit).await {
            // After a conflict the order is paid, cancelled, or expired by another node.
            Ok(_) | Err(CommitError::Conflict) => true,
            Err(error) => {
                tracing::debug!(order = %order.id, ?error, "failed to expire an order");
                false
            }
        }
    }
}
