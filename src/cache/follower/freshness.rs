//! How long the caches may be served from without asking the store.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// How old the last confirmation by the store may be. A node that was frozen for longer, or cannot
/// reach the store, thus notices.
const LEASE: Duration = Duration::from_millis(250);

/// A moment, in microseconds since the node started.
pub(super) type Moment = u64;

/// Tells whether the caches are as new as they have to be.
pub(super) struct Freshness {
    started_at: Instant,
    /// Until when the caches are current; read on every request.
    current_until: AtomicU64,
    state: Mutex<State>,
}

struct State {
    /// Whether the broker delivers news; `None` when there is no broker.
    broker_connected: Option<bool>,
    /// A poll that found events on their way: when it began, and the position of the last.
    expected: Option<(Moment, u64)>,
}

impl Freshness {
    /// Starts without any confirmation.
    pub(super) fn new() -> Self {
        let state = Mutex::new(State { broker_connected: None, expected: None });
        Self { started_at: Instant::now(), current_until: AtomicU64::new(0), state }
    }

    pub(super) fn now(&self) -> Moment {
        micros(self.started_at.elapsed())
    }

    /// Whether the caches are current now.
    pub(super) fn is_current(&self) -> bool {
        self.now() < self.current_until.load(Ordering::Acquire)
    }

    /// Notes that the caches hold everything that was acknowledged before `moment`.
    pub(super) fn confirm(&self, moment: Moment) {
        self.lease(&self.state(), moment);
    }

    /// Notes that at `moment` the newest event was the one at `goal`, which the broker will deliver.
    pub(super) fn expect_delivery(&self, moment: Moment, goal: u64) {
        self.state().expected = Some((moment, goal));
    }

    /// Notes that the caches hold everything up to `position`.
    pub(super) fn on_reached(&self, position: u64) {
        let mut state = self.state();
        if let Some((moment, _)) = state.expected.take_if(|(_, goal)| *goal <= position) {
            self.lease(&state, moment);
        }
    }

    /// Sets whether the broker delivers events from now on. While it does not, the caches are never
    /// current.
    pub(super) fn set_broker_connected(&self, connected: bool) {
        let mut state = self.state();
        state.broker_connected = Some(connected);
        if !connected {
            self.current_until.store(0, Ordering::Release);
        }
    }

    /// Whether the broker delivers events.
    pub(super) fn is_broker_connected(&self) -> bool {
        self.state().broker_connected == Some(true)
    }

    fn lease(&self, state: &State, moment: Moment) {
        if state.broker_connected != Some(false) {
            self.current_until.fetch_max(moment + micros(LEASE), Ordering::AcqRel);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

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
            "an older confirmation takes nothing back"
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
        freshness.expect_delivery(freshness.now(), 7);
        freshness.on_reached(6);
        assert!(!freshness.is_current());
        freshness.on_reached(7);
        assert!(freshness.is_current());
    }
}
