//! The end of orders that were not paid in time.
//!
//! Every node looks for them in the store, so that those of a node that is gone are found like any other.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use tokio::sync::Semaphore;

use super::{OrderService, build_commit};
use crate::{
    actors::ask::guarded_tick,
    domain::order::{Order, OrderCommand},
    messages::change::CommandContext,
    store::{CommitError, StoreUnavailable},
};

/// The longest between two looks. Pieces shall be free again within two seconds of the deadline, and each step of that takes its time.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Orders looked at together.
const PAGE_SIZE: u32 = 1024;

/// Commits under way at the same time. They share transactions, and leave the writer's queue to those who buy.
const MAX_CONCURRENT_COMMITS: usize = 256;

/// Lines of orders whose pieces are given back at the same time, so that those transactions are no larger than others.
const MAX_CONCURRENT_LINES: u32 = 1024;

/// How long an order's end may wait in the queue. It is looked for again anyway.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(5);

impl OrderService {
    /// Ends overdue orders, for ever.
    pub async fn run_expiry_loop(self) {
        let mut last = Ok(0);
        loop {
            // Never in step with another node: whoever looks second finds nothing to do.
            tokio::time::sleep(POLL_INTERVAL.mul_f64(rand::random_range(0.5..=1.0))).await;
            let Some(left) = guarded_tick("expiry of orders", self.expire_overdue_orders()).await
            else {
                continue;
            };
            match left {
                Err(StoreUnavailable) if last != left => {
                    tracing::warn!(
                        "orders that were not paid in time cannot be read; trying again"
                    );
                }
                Ok(left @ 1..) if last != Ok(left) => {
                    tracing::warn!(
                        orders = left,
                        "orders that were not paid in time could not be ended; trying again"
                    );
                }
                _ => {}
            }
            last = left;
        }
    }

    /// Ends all orders that are overdue now; how many could not be ended.
    ///
    /// # Errors
    /// The store does not answer.
    pub(super) async fn expire_overdue_orders(&self) -> Result<usize, StoreUnavailable> {
        let now = self.clock.now();
        let lines = Semaphore::new(MAX_CONCURRENT_LINES as usize);
        let (mut left, mut last) = (0, None);
        loop {
            // Those that could not be ended are passed over, and found again next time.
            let due = self.store.list_overdue_orders(now, last, PAGE_SIZE).await?;
            let more = due.len() == PAGE_SIZE as usize;
            last = due.last().and_then(|order| Some((order.expires_at?, order.id)));
            let ended = stream::iter(due)
                .map(|order| self.expire_order(order, &lines))
                .buffer_unordered(MAX_CONCURRENT_COMMITS);
            left += ended.filter(|ended| std::future::ready(!ended)).count().await;
            if !more {
                return Ok(left);
            }
        }
    }

    /// Whether the order is over now, by this node or another.
    async fn expire_order(&self, order: Order, lines: &Semaphore) -> bool {
        let Ok(transition) = order.decide(OrderCommand::Expire, self.clock.now()) else {
            return false;
        };
        let count = u32::try_from(order.lines.len())
            .unwrap_or(MAX_CONCURRENT_LINES)
            .min(MAX_CONCURRENT_LINES);
        let Ok(_turn) = lines.acquire_many(count).await else { return false };
        let commit = build_commit(
            &Arc::new(transition.order),
            transition.stock_changes,
            None,
            &CommandContext::internal(COMMIT_TIMEOUT),
        );
        // Whoever buys can be told to come back; the pieces of this order have to be free again.
        match self.writer.commit_with_priority(commit).await {
            // Paid or cancelled meanwhile, or ended by another node.
            Ok(_) | Err(CommitError::Conflict) => true,
            Err(error) => {
                tracing::debug!(order = %order.id, ?error, "an order that was not paid in time could not be ended");
                false
            }
        }
    }
}
