//! Tracks how long the caches may serve reads without asking the store.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::events::OutboxCursor;

/// How long a confirmation by the store is valid. After that, a node that was frozen or lost the
/// store no longer serves reads from its caches.
const LEASE: Duration = Duration::from_millis(250);

/// How long after a change is durable another node may still serve what was before. From then on,
/// every check that lets a node serve its caches began after the change.
pub const MAX_STALENESS: Duration = LEASE;

/// A moment, in microseconds since the node started.
pub(super) type Moment = u64;

/// Tracks whether the caches are current.
pub(super) struct Freshness {
    started_at: Instant,
    /// When the last lease expires. Every request reads this.
    current_until: AtomicU64,
    state: Mutex<FreshnessState>,
}

struct FreshnessState {
    /// Whether the broker delivers events. `None` if no broker is configured.
    broker_connected: Option<bool>,
    /// The start of a poll whose events the broker still has to deliver, and the heads.
    expected: Option<(Moment, OutboxCursor)>,
}

impl Freshness {
    /// Creates a state without confirmation, so the caches are not current.
    pub(super) fn new() -> Self {
        let state = Mutex::new(FreshnessState { broker_connected: None, expected: None });
        Self { started_at: Instant::now(), current_until: AtomicU64::new(0), state }
    }

    pub(super) fn now(&self) -> Moment {
        to_micros(self.started_at.elapsed())
    }

    /// Whether the caches are current now.
    pub(super) fn is_current(&self) -> bool {
        self.now() < self.current_until.load(Ordering::Acquire)
    }

    /// Records that the caches have every change acknowledged before `moment`.
    pub(super) fn confirm(&self, moment: Moment) {
        self.extend_lease(&self.lock_state(), moment);
    }

    /// Records that `goal` were the heads of the outbox at `moment`. The broker will deliver the
    /// events up to there.
    pub(super) fn expect_delivery(&self, moment: Moment, goal: OutboxCursor) {
        self.lock_state().expected = Some((moment, goal));
    }

    /// Records that the caches have every change up to `cursor`.
    pub(super) fn record_reached(&self, cursor: &OutboxCursor) {
        let mut state = self.lock_state();
        if let Some((moment, _)) = state.expected.take_if(|(_, goal)| cursor.covers(goal)) {
            self.extend_lease(&state, moment);
        }
    }

    /// Sets whether the broker delivers events. While it is disconnected, the caches are never
    /// current.
    pub(super) fn set_broker_connected(&self, connected: bool) {
        let mut state = self.lock_state();
        state.broker_connected = Some(connected);
        if !connected {
            self.current_until.store(0, Ordering::Release);
        }
    }

    /// Whether the broker delivers events.
    pub(super) fn is_broker_connected(&self) -> bool {
        self.lock_state().broker_connected == Some(true)
    }

    fn extend_lease(&self, state: &FreshnessState, moment: Moment) {
        if state.broker_connected != Some(false) {
            self.current_until.fetch_max(moment + to_micros(LEASE), Ordering::AcqRel);
        }
    }

    fn lock_state(&self) -> MutexGuard<'_, FreshnessState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn to_micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::OutboxPosition;

    #[test]
    fn confirmation_is_valid_for_the_lease() {
        let freshness = Freshness::new();
        assert!(!freshness.is_current());
        let began = freshness.now();
        freshness.confirm(began);
        assert!(freshness.is_current());
        let current_until = freshness.current_until.load(Ordering::Relaxed);
        assert_eq!(current_until, began + 250_000);
        freshness.confirm(began.saturating_sub(1));
        assert_eq!(
            freshness.current_until.load(Ordering::Relaxed),
            current_until,
            "an older confirmation does not shorten the lease"
        );
    }

    #[test]
    fn disconnected_broker_makes_nothing_current() {
        let freshness = Freshness::new();
        freshness.set_broker_connected(true);
        freshness.confirm(freshness.now());
        assert!(freshness.is_current());
        freshness.set_broker_connected(false);
        assert!(!freshness.is_current());
        freshness.confirm(freshness.now());
        assert!(!freshness.is_current());
        freshness.set_broker_connected(true);
        assert!(!freshness.is_current(), "events may have been missed in between");
        freshness.confirm(freshness.now());
        assert!(freshness.is_current());
    }

    #[test]
    fn expected_delivery_confirms_on_arrival() {
        let freshness = Freshness::new();
        freshness.set_broker_connected(true);
        let cursor = |offset| [OutboxPosition { partition: 0, offset }].into_iter().collect();
        freshness.expect_delivery(freshness.now(), cursor(7));
        freshness.record_reached(&cursor(6));
        assert!(!freshness.is_current());
        freshness.record_reached(&cursor(7));
        assert!(freshness.is_current());
    }
}
