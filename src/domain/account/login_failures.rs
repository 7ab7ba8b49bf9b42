//! Counters of failed logins.

use std::time::Duration;

use crate::domain::clock::Timestamp;

/// How long a failed login counts toward the limit.
pub const FAILURE_WINDOW: Duration = Duration::from_secs(60);

/// An account, a network, or both, as a keyed hash: the store learns neither the e-mail address of
/// somebody without an account nor a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LoginKey([u8; 16]);

impl LoginKey {
    /// A key from its bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The key's bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// The failed logins under one key since the first of them, within [`FAILURE_WINDOW`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailureWindow {
    /// The time of the first failure.
    pub started_at: Timestamp,
    /// The number of failures.
    pub failures: u32,
}

impl FailureWindow {
    /// The window after one more failure at `now`. An expired window starts anew.
    #[must_use]
    pub fn after_failure(before: Option<Self>, now: Timestamp) -> Self {
        match before {
            Some(window) if !window.is_expired(now) => {
                Self { failures: window.failures.saturating_add(1), ..window }
            }
            _ => Self { started_at: now, failures: 1 },
        }
    }

    /// Whether its failures no longer count. A start in the near future is another node's clock,
    /// which may be ahead. A later one is a clock that was set back, which must not extend a
    /// lockout.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now >= self.ends_at() || self.started_at > now.saturating_add(FAILURE_WINDOW)
    }

    /// The failures that count at `now`.
    #[must_use]
    pub fn failures_at(&self, now: Timestamp) -> u32 {
        if self.is_expired(now) { 0 } else { self.failures }
    }

    /// When its failures stop to count.
    #[must_use]
    pub fn ends_at(&self) -> Timestamp {
        self.started_at.saturating_add(FAILURE_WINDOW)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_millis(1_000_000_000);

    fn after(seconds: u64) -> Timestamp {
        START.saturating_add(Duration::from_secs(seconds))
    }

    #[test]
    fn window_counts_for_a_minute_on_clocks_that_differ() {
        let first = FailureWindow::after_failure(None, START);
        let second = FailureWindow::after_failure(Some(first), after(59));
        assert_eq!(second, FailureWindow { started_at: START, failures: 2 });
        assert_eq!((second.failures_at(after(59)), second.failures_at(after(60))), (2, 0));
        let third = FailureWindow::after_failure(Some(second), after(60));
        assert_eq!(third, FailureWindow { started_at: after(60), failures: 1 });
        // A clock that is a second behind must not reset the count of another node.
        assert_eq!(third.failures_at(after(59)), 1);
        let set_back = FailureWindow { started_at: after(61), ..third };
        assert_eq!(set_back.failures_at(START), 0);
    }
}
