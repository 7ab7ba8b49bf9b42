//! What an endpoint's task reports to the metrics.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::domain::clock::Timestamp;

/// Not a time.
const NONE: i64 = i64::MIN;

/// The state of an endpoint.
pub(super) struct EndpointStats {
    waiting: AtomicU64,
    undelivered_since: AtomicI64,
}

impl Default for EndpointStats {
    fn default() -> Self {
        Self { waiting: AtomicU64::new(0), undelivered_since: AtomicI64::new(NONE) }
    }
}

impl EndpointStats {
    pub(super) fn set(&self, waiting: u64, undelivered_since: Option<Timestamp>) {
        self.waiting.store(waiting, Ordering::Relaxed);
        let since = undelivered_since.map_or(NONE, Timestamp::as_millis);
        self.undelivered_since.store(since, Ordering::Relaxed);
    }

    /// The events that wait for another attempt.
    pub(super) fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Since when something is not delivered.
    pub(super) fn undelivered_since(&self) -> Option<Timestamp> {
        let since = self.undelivered_since.load(Ordering::Relaxed);
        (since != NONE).then(|| Timestamp::from_millis(since))
    }
}
