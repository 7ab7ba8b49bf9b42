//! The end of orders that were not paid in time.
//!
//! Every node looks for them in the store, so that those of a node that is gone are found like any other.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use tokio::sync::Semaphore;

use super::{OrderDeps, commit};
use crate::{
    actors::ask::round,
    domain::order::{Order, OrderCommand},
    messages::change::Change,
    store::{CommitError, Unavailable},
};

/// The longest between two looks. Pieces shall be free again within two seconds of the deadline, and each step of that takes its time.
const PAUSE: Duration = Duration::from_millis(500);

/// Orders looked at together.
const PAGE: u32 = 1024;

/// Commits under way at the same time. They share transactions, and leave the writer's queue to those who buy.
const AT_ONCE: usize = 256;

/// Lines of orders whose pieces are given back at the same time, so that those transactions are no larger than others.
const LINES_AT_ONCE: u32 = 1024;

/// How long an order's end may wait in the queue. It is looked for again anyway.
const PATIENCE: Duration = Duration::from_secs(5);

impl OrderDeps {
    /// Ends overdue orders, for ever.
    pub async fn expire_for_ever(self) {
        let mut last = Ok(0);
        loop {
            // Never in step with another node: whoever looks second finds nothing to do.
            tokio::time::sleep(PAUSE.mul_f64(rand::random_range(0.5..=1.0))).await;
            let Some(left) = round("expiry of orders", self.expire_due()).await else { continue };
            match left {
                Err(Unavailable) if last != left => {
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
    pub(super) async fn expire_due(&self) -> Result<usize, Unavailable> {
        let now = self.clock.now();
        let lines = Semaphore::new(LINES_AT_ONCE as usize);
        let (mut left, mut last) = (0, None);
        loop {
            // Those that could not be ended are passed over, and found again next time.
            let due = self.store.orders_due(now, last, PAGE).await?;
            let more = due.len() == PAGE as usize;
            last = due.last().and_then(|order| Some((order.expires_at?, order.id)));
            let ended =
                stream::iter(due).map(|order| self.expire(order, &lines)).buffer_unordered(AT_ONCE);
            left += ended.filter(|ended| std::future::ready(!ended)).count().await;
            if !more {
                return Ok(left);
            }
        }
    }

    /// Whether the order is over now, by this node or another.
    async fn expire(&self, order: Order, lines: &Semaphore) -> bool {
        let Ok(transition) = order.decide(OrderCommand::Expire, self.clock.now()) else {
            return false;
        };
        let count = u32::try_from(order.lines.len()).unwrap_or(LINES_AT_ONCE).min(LINES_AT_ONCE);
        let Ok(_turn) = lines.acquire_many(count).await else { return false };
        let commit = commit(
            &Arc::new(transition.order),
            transition.stock,
            None,
            &Change::internal(PATIENCE),
        );
        // Whoever buys can be told to come back; the pieces of this order have to be free again.
        match self.writer.commit_in_turn(commit).await {
            // Paid or cancelled meanwhile, or ended by another node.
            Ok(_) | Err(CommitError::Conflict) => true,
            Err(error) => {
                tracing::debug!(order = %order.id, ?error, "an order that was not paid in time could not be ended");
                false
            }
        }
    }
}
