//! The networks that an account is known at.

use std::time::Duration;

use super::{User, login_failures::LoginKey};
use crate::domain::clock::Timestamp;

/// How long an account is known at a network after its last login there.
pub const KNOWN_NETWORK_LIFETIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The most networks that an account is known at. Those with the latest logins stay.
pub const MAX_KNOWN_NETWORKS: usize = 16;

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

    const START: Timestamp = Timestamp::from_millis(1_000_000_000);

    fn key(number: u8) -> LoginKey {
        LoginKey::from_bytes([number; 16])
    }

    fn after(seconds: u64) -> Timestamp {
        START.saturating_add(Duration::from_secs(seconds))
    }

    #[test]
    fn known_networks_expire_and_are_bounded() {
        let mut user = User::sample(START);
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
