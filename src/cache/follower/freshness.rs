//! For how long what the caches hold may be served without asking the store.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// How old the last look at the store may be. A node that was frozen for longer, or cannot reach the store, notices by this.
const LEASE: Duration = Duration::from_millis(250);

/// A moment, in microseconds since the node began.
pub(super) type Moment = u64;

/// Says whether the caches are as new as they have to be.
pub(super) struct Freshness {
    began: Instant,
    /// Until when they are; read on every request.
    until: AtomicU64,
    state: Mutex<State>,
}

struct State {
    /// Whether the broker delivers news; `None` when there is no broker.
    link: Option<bool>,
    /// A look that found news on their way: when it began, and how far they go.
    expected: Option<(Moment, u64)>,
}

impl Freshness {
    /// Nothing was looked at yet.
    pub(super) fn new() -> Self {
        let state = Mutex::new(State { link: None, expected: None });
        Self { began: Instant::now(), until: AtomicU64::new(0), state }
    }

    pub(super) fn now(&self) -> Moment {
        micros(self.began.elapsed())
    }

    /// Whether they are.
    pub(super) fn is_current(&self) -> bool {
        self.now() < self.until.load(Ordering::Acquire)
    }

    /// The caches hold everything that was acknowledged before `moment`.
    pub(super) fn checked(&self, moment: Moment) {
        self.lease(&self.state(), moment);
    }

    /// At `moment` the newest event was the one at `goal`, which the broker is about to deliver.
    pub(super) fn expect(&self, moment: Moment, goal: u64) {
        self.state().expected = Some((moment, goal));
    }

    /// The caches hold everything up to `position`.
    pub(super) fn reached(&self, position: u64) {
        let mut state = self.state();
        if let Some((moment, _)) = state.expected.take_if(|(_, goal)| *goal <= position) {
            self.lease(&state, moment);
        }
    }

    /// Whether a broker delivers news from now on. While it should and does not, nothing is taken for current unchecked.
    pub(super) fn link(&self, up: bool) {
        let mut state = self.state();
        state.link = Some(up);
        if !up {
            self.until.store(0, Ordering::Release);
        }
    }

    /// Whether news come by themselves.
    pub(super) fn is_delivered_to(&self) -> bool {
        self.state().link == Some(true)
    }

    fn lease(&self, state: &State, moment: Moment) {
        if state.link != Some(false) {
            self.until.fetch_max(moment + micros(LEASE), Ordering::AcqRel);
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
    fn a_look_is_good_for_a_while_from_when_it_began() {
        let freshness = Freshness::new();
        assert!(!freshness.is_current());
        let began = freshness.now();
        freshness.checked(began);
        assert!(freshness.is_current());
        let until = freshness.until.load(Ordering::Relaxed);
        assert_eq!(until, began + 250_000);
        freshness.checked(began.saturating_sub(1));
        assert_eq!(
            freshness.until.load(Ordering::Relaxed),
            until,
            "an older look takes nothing back"
        );
    }

    #[test]
    fn without_its_broker_nothing_is_current() {
        let freshness = Freshness::new();
        freshness.link(true);
        freshness.checked(freshness.now());
        assert!(freshness.is_current());
        freshness.link(false);
        assert!(!freshness.is_current());
        freshness.checked(freshness.now());
        assert!(!freshness.is_current());
        freshness.link(true);
        assert!(!freshness.is_current(), "what came in between is not known");
        freshness.checked(freshness.now());
        assert!(freshness.is_current());
    }

    #[test]
    fn news_on_their_way_make_it_current_when_they_have_come() {
        let freshness = Freshness::new();
        freshness.link(true);
        freshness.expect(freshness.now(), 7);
        freshness.reached(6);
        assert!(!freshness.is_current());
        freshness.reached(7);
        assert!(freshness.is_current());
    }
}
