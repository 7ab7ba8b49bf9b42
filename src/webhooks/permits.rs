//! Bounds the attempts of a node at the same time.

use tokio::sync::{Semaphore, SemaphorePermit};

/// How many attempts at endpoints that answer there may be for each one at those that fail. Failing
/// endpoints have permits of their own, so that many that hang take none of the others'.
const HEALTHY_PER_FAILING: usize = 4;

/// Permits for attempts.
pub(super) struct AttemptPermits {
    healthy: Semaphore,
    failing: Semaphore,
}

impl AttemptPermits {
    /// Permits for `attempts` at the same time, at endpoints that answer.
    pub(super) fn new(attempts: usize) -> Self {
        let failing = attempts.div_ceil(HEALTHY_PER_FAILING);
        Self { healthy: Semaphore::new(attempts), failing: Semaphore::new(failing) }
    }

    /// Waits for a permit. `None` never comes, since the permits are never closed.
    pub(super) async fn acquire(&self, is_failing: bool) -> Option<SemaphorePermit<'_>> {
        let permits = if is_failing { &self.failing } else { &self.healthy };
        permits.acquire().await.ok()
    }
}
