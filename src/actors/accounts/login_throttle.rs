//! Limits the failed logins per minute of each account and each network.
//!
//! An attempt in progress counts as failed until it ends, so that parallel guesses gain nothing. An
//! attempt that exceeds the limit only because of others in progress waits for them: ten people who
//! log in at once from one address are not an attack.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use crate::domain::{
    account::{Email, client_network},
    clock::Timestamp,
};

/// How long a failure counts toward the limit.
const FAILURE_WINDOW: Duration = Duration::from_secs(60);

/// The maximum number of accounts and networks tracked at once.
const MAX_TRACKED_KEYS: usize = 100_000;

/// The key that attempts are counted under.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum ThrottleKey {
    /// An account, whether it exists or not.
    Account(Email),
    /// The client's network.
    Network(IpAddr),
}

impl ThrottleKey {
    /// The keys that a login with `email` from `address` counts under.
    pub(super) fn for_login(email: Option<&Email>, address: IpAddr) -> Vec<Self> {
        let network = Self::Network(client_network(address));
        email.cloned().map(Self::Account).into_iter().chain([network]).collect()
    }
}

/// The throttle's decision on an attempt.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// The attempt may proceed; `release_attempt` or `record_failure` must follow.
    Granted,
    /// The decision depends on attempts in progress.
    Wait,
    /// There were too many failures. Retry after `retry_after` seconds.
    Refused { retry_after: u64 },
}

/// The failures of one account or network within one window.
#[derive(Debug, Clone, Copy)]
struct FailureWindow {
    started_at: Timestamp,
    failure_count: u32,
    in_flight: u32,
}

impl FailureWindow {
    fn is_expired(&self, now: Timestamp) -> bool {
        // A clock that was set back must not extend a lockout.
        now < self.started_at || now >= self.started_at.saturating_add(FAILURE_WINDOW)
    }

    fn failures_at(&self, now: Timestamp) -> u32 {
        if self.is_expired(now) { 0 } else { self.failure_count }
    }
}

/// Counts failures per key. The caller provides the time.
#[derive(Debug)]
pub(super) struct Throttle {
    limit: u32,
    max_tracked: usize,
    windows: HashMap<ThrottleKey, FailureWindow>,
    last_swept: Timestamp,
}

impl Throttle {
    /// Allows `limit` failures per minute; 0 disables the throttle.
    pub(super) fn new(limit: u32) -> Self {
        Self {
            limit,
            max_tracked: MAX_TRACKED_KEYS,
            windows: HashMap::new(),
            last_swept: Timestamp::default(),
        }
    }

    /// Starts an attempt that counts under `keys` if all of them are below the limit.
    pub(super) fn try_admit(&mut self, keys: &[ThrottleKey], now: Timestamp) -> Admission {
        if self.limit == 0 {
            return Admission::Granted;
        }
        let windows = || keys.iter().filter_map(|key| self.windows.get(key));
        let spent = windows().filter(|window| window.failures_at(now) >= self.limit);
        if let Some(until) =
            spent.map(|window| window.started_at.saturating_add(FAILURE_WINDOW)).max()
        {
            let millis =
                u64::try_from(until.as_millis().saturating_sub(now.as_millis())).unwrap_or(0);
            return Admission::Refused { retry_after: millis.div_ceil(1000).max(1) };
        }
        if windows()
            .any(|window| window.failures_at(now).saturating_add(window.in_flight) >= self.limit)
        {
            return Admission::Wait;
        }
        for key in keys {
            self.open_window(key, now).in_flight += 1;
        }
        Admission::Granted
    }

    /// Ends an attempt that did not fail.
    pub(super) fn release_attempt(&mut self, keys: &[ThrottleKey]) {
        for key in keys {
            let Some(window) = self.windows.get_mut(key) else { continue };
            window.in_flight = window.in_flight.saturating_sub(1);
            if window.in_flight == 0 && window.failure_count == 0 {
                self.windows.remove(key);
            }
        }
    }

    /// Ends an attempt that failed.
    pub(super) fn record_failure(&mut self, keys: &[ThrottleKey], now: Timestamp) {
        if self.limit == 0 {
            return;
        }
        for key in keys {
            let window = self.open_window(key, now);
            window.in_flight = window.in_flight.saturating_sub(1);
            window.failure_count = window.failure_count.saturating_add(1);
        }
    }

    /// Returns the window of `key`, reset if it has expired.
    fn open_window(&mut self, key: &ThrottleKey, now: Timestamp) -> &mut FailureWindow {
        if !self.windows.contains_key(key) {
            self.evict_to_fit(now);
        }
        let window = self.windows.entry(key.clone()).or_insert(FailureWindow {
            started_at: now,
            failure_count: 0,
            in_flight: 0,
        });
        if window.failure_count == 0 || window.is_expired(now) {
            *window = FailureWindow { started_at: now, failure_count: 0, ..*window };
        }
        window
    }

    fn evict_to_fit(&mut self, now: Timestamp) {
        let full = self.windows.len() >= self.max_tracked;
        if full || now < self.last_swept || now >= self.last_swept.saturating_add(FAILURE_WINDOW) {
            self.last_swept = now;
            self.windows.retain(|_, window| window.in_flight > 0 || !window.is_expired(now));
        }
        while self.windows.len() >= self.max_tracked {
            let Some(oldest) = self
                .windows
                .iter()
                .min_by_key(|(_, window)| window.started_at)
                .map(|(key, _)| key.clone())
            else {
                return;
            };
            self.windows.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_millis(1_000_000);

    fn seconds_after_start(seconds: u64) -> Timestamp {
        START.saturating_add(Duration::from_secs(seconds))
    }

    fn keys_for(email: &str, address: &str) -> Vec<ThrottleKey> {
        ThrottleKey::for_login(Some(&Email::parse(email).unwrap()), address.parse().unwrap())
    }

    fn fail_login(throttle: &mut Throttle, keys: &[ThrottleKey], now: Timestamp) {
        assert_eq!(throttle.try_admit(keys, now), Admission::Granted);
        throttle.record_failure(keys, now);
    }

    #[test]
    fn failures_are_limited_per_account_and_network() {
        let mut throttle = Throttle::new(3);
        for second in 0..3 {
            fail_login(
                &mut throttle,
                &keys_for("ada@example.com", "10.0.0.1"),
                seconds_after_start(second),
            );
        }
        let refused = |seconds| Admission::Refused { retry_after: seconds };
        assert_eq!(
            throttle.try_admit(&keys_for("ada@example.com", "10.0.0.2"), seconds_after_start(20)),
            refused(40),
            "the account, from elsewhere"
        );
        assert_eq!(
            throttle.try_admit(&keys_for("bob@example.com", "10.0.0.1"), seconds_after_start(59)),
            refused(1),
            "the network, for another account"
        );
        assert_eq!(
            throttle.try_admit(&keys_for("bob@example.com", "10.0.0.2"), seconds_after_start(20)),
            Admission::Granted
        );
        assert_eq!(
            throttle.try_admit(&keys_for("ada@example.com", "10.0.0.1"), seconds_after_start(60)),
            Admission::Granted,
            "a minute later"
        );
    }

    #[test]
    fn in_flight_attempts_count_until_they_end() {
        let mut throttle = Throttle::new(2);
        let ada = keys_for("ada@example.com", "10.0.0.1");
        assert_eq!(throttle.try_admit(&ada, START), Admission::Granted);
        assert_eq!(throttle.try_admit(&ada, START), Admission::Granted);
        assert_eq!(throttle.try_admit(&ada, START), Admission::Wait);
        throttle.release_attempt(&ada);
        assert_eq!(throttle.try_admit(&ada, START), Admission::Granted);
        throttle.record_failure(&ada, START);
        assert_eq!(throttle.try_admit(&ada, START), Admission::Wait);
        throttle.record_failure(&ada, START);
        assert_eq!(throttle.try_admit(&ada, START), Admission::Refused { retry_after: 60 });
        assert_eq!(
            throttle.try_admit(&keys_for("bob@example.com", "10.0.0.2"), seconds_after_start(60)),
            Admission::Granted,
            "expired windows are dropped"
        );
        assert_eq!(throttle.windows.len(), 2);
    }

    #[test]
    fn slow_attempt_counts_after_its_window() {
        let mut throttle = Throttle::new(1);
        let ada = keys_for("ada@example.com", "10.0.0.1");
        assert_eq!(throttle.try_admit(&ada, START), Admission::Granted);
        assert_eq!(throttle.try_admit(&ada, seconds_after_start(61)), Admission::Wait);
        throttle.record_failure(&ada, seconds_after_start(90));
        assert_eq!(
            throttle.try_admit(&ada, seconds_after_start(149)),
            Admission::Refused { retry_after: 1 }
        );
        assert_eq!(
            throttle.try_admit(&ada, START),
            Admission::Granted,
            "a clock set back locks nobody out"
        );
    }

    #[test]
    fn success_frees_memory_and_zero_limit_disables() {
        let mut throttle = Throttle::new(1);
        let ada = keys_for("ada@example.com", "10.0.0.1");
        assert_eq!(throttle.try_admit(&ada, START), Admission::Granted);
        throttle.release_attempt(&ada);
        assert!(throttle.windows.is_empty());
        let mut off = Throttle::new(0);
        for _ in 0..100 {
            fail_login(&mut off, &ada, START);
        }
        assert!(off.windows.is_empty());
    }

    #[test]
    fn tracked_keys_are_bounded() {
        let mut throttle = Throttle { max_tracked: 10, ..Throttle::new(5) };
        for n in 0..100_u8 {
            let network = ThrottleKey::for_login(None, IpAddr::from([10, 0, 0, n]));
            fail_login(
                &mut throttle,
                &network,
                START.saturating_add(Duration::from_millis(n.into())),
            );
            assert!(throttle.windows.len() <= 10);
        }
        assert!(throttle.windows.contains_key(&ThrottleKey::Network([10, 0, 0, 99].into())));
        assert!(
            !throttle.windows.contains_key(&ThrottleKey::Network([10, 0, 0, 0].into())),
            "the oldest go first"
        );
    }

    #[test]
    fn ipv6_network_is_the_64_prefix() {
        let network = |address: &str| ThrottleKey::for_login(None, address.parse().unwrap());
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:2"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
        assert_eq!(network("::ffff:10.0.0.1"), network("10.0.0.1"));
    }
}
