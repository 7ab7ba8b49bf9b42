//! Counters of failed logins, and the networks that an account is known at.

use std::time::Duration;

use super::User;
use crate::domain::clock::Timestamp;

/// How long a failed login counts toward the limit.
pub const FAILURE_WINDOW: Duration = Duration::from_secs(60);

/// How long an account is known at a network after its last login there.
pub const KNOWN_NETWORK_LIFETIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The most networks that an account is known at. Those with the latest logins stay.
pub const MAX_KNOWN_NETWORKS: usize = 16;

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

/// A network that an account has logged in from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownNetwork {
    /// Identifies the account together with the network.
    pub key: LoginKey,
    /// The time of the latest login or of the registration.
    pub last_login_at: Timestamp,
}

impl KnownNetwork {
    fn is_expired(&self, now: Timestamp) -> bool {
        now >= self.last_login_at.saturating_add(KNOWN_NETWORK_LIFETIME)
    }
}

impl User {
    /// Whether the account has logged in from this network lately.
    #[must_use]
    pub fn knows_network(&self, key: LoginKey, now: Timestamp) -> bool {
        self.known_networks.iter().any(|known| known.key == key && !known.is_expired(now))
    }

    /// The account after a login from this network. It forgets expired networks, and the ones with
    /// the oldest logins when there are too many.
    #[must_use]
    pub fn with_known_network(mut self, key: LoginKey, now: Timestamp) -> Self {
        self.known_networks.retain(|known| known.key != key && !known.is_expired(now));
        self.known_networks.push(KnownNetwork { key, last_login_at: now });
        self.known_networks.sort_by_key(|known| known.last_login_at);
        let surplus = self.known_networks.len().saturating_sub(MAX_KNOWN_NETWORKS);
        self.known_networks.drain(..surplus);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        account::{Email, Role},
        ids::UserId,
    };

    const START: Timestamp = Timestamp::from_millis(1_000_000_000);

    fn key(number: u8) -> LoginKey {
        LoginKey::from_bytes([number; 16])
    }

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

    #[test]
    fn known_networks_expire_and_are_bounded() {
        let mut user = User {
            id: UserId::new(),
            email: Email::parse("ada@example.com").unwrap(),
            name: "Ada".into(),
            role: Role::Customer,
            password_hash: String::new(),
            created_at: START,
            version: 1,
            event_sequence: 1,
            known_networks: Vec::new(),
        };
        for number in 0..20 {
            user = user.with_known_network(key(number), after(number.into()));
            user = user.with_known_network(key(0), after(number.into()));
        }
        assert_eq!(user.known_networks.len(), MAX_KNOWN_NETWORKS);
        assert!(user.knows_network(key(0), after(20)), "the latest logins stay");
        assert!(user.knows_network(key(19), after(20)) && !user.knows_network(key(1), after(20)));
        let a_month_later = after(19).saturating_add(KNOWN_NETWORK_LIFETIME);
        assert!(!user.knows_network(key(19), a_month_later));
        assert_eq!(user.with_known_network(key(1), a_month_later).known_networks.len(), 1);
    }
}
