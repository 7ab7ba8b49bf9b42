//! The expiry of orders that are not paid in time.
//!
//! Every node polls the store for all overdue orders, so orders still expire after the node that
//! placed them is gone.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use tokio::sync::Semaphore;

use super::{OrderService, service::build_commit};
use crate::{
    domain::order::{Order, OrderCommand},
    messages::command_context::CommandContext,
    panics::guarded_tick,
    store::{CommitError, StoreUnavailable},
};

/// The longest pause between two polls. Stock must be released within two seconds of the deadline,
/// which leaves time for the steps after the poll.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// The number of orders to read at a time.
const PAGE_SIZE: u32 = 1024;

/// The most concurrent commits: enough to share transactions, and few enough to leave room for
/// buyers in the writer's queue.
const MAX_CONCURRENT_COMMITS: usize = 256;

/// The most order lines that release stock concurrently, which bounds the size of the transactions.
const MAX_CONCURRENT_LINES: u32 = 1024;

/// The timeout for expiring one order. The next poll retries it.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(5);

impl OrderService {
    /// Expires overdue orders periodically. Never returns.
    pub async fn run_expiry_loop(self) {
        let mut last = Ok(0);
        loop {
            // Random, so that nodes do not poll at the same time and compete for the same orders.
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

    /// Expires all overdue orders, and returns the number that failed to expire.
    ///
    /// # Errors
    /// The store is unavailable.
    pub(super) async fn expire_overdue_orders(&self) -> Result<usize, StoreUnavailable> {
        let now = self.clock.now();
        let line_slots = Semaphore::new(MAX_CONCURRENT_LINES as usize);
        let (mut failed, mut last) = (0, None);
        loop {
            // Skip orders that fail to expire; the next poll retries them.
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

    /// Expires an order. Returns whether it no longer awaits payment.
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
            transition.uses,
            &CommandContext::internal(COMMIT_TIMEOUT),
        );
        // Buyers can retry, but this stock must be released on time.
        match self.writer.commit_with_priority(commit).await {
            // A conflict means that the order has changed: it was paid, cancelled, or has expired.
            Ok(_) | Err(CommitError::Conflict) => true,
            Err(error) => {
                tracing::debug!(order = %order.id, ?error, "failed to expire an order");
                false
            }
        }
    }
}
