//! Limits the failed logins per minute under each key, as far as this node knows them. The store
//! counts for all nodes, and its counts are merged in.
//!
//! An attempt in progress counts as failed until it ends, so that parallel guesses gain nothing. An
//! attempt that exceeds the limit only because of others in progress waits for them: ten people who
//! log in at once from one address are not an attack.

use std::collections::HashMap;

use crate::domain::{
    account::login_failures::{FAILURE_WINDOW, FailureWindow, LoginKey},
    clock::Timestamp,
};

/// The maximum number of keys tracked at once.
const MAX_TRACKED_KEYS: usize = 100_000;

/// The throttle's decision on an attempt.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// The attempt may proceed; `release_attempt` or `end_failed` must follow.
    Granted,
    /// The decision depends on attempts in progress.
    Wait,
    /// There were too many failures. Retry after `retry_after` seconds.
    Refused { retry_after: u64 },
}

/// What this node knows of one key.
#[derive(Debug, Clone, Copy)]
struct Counter {
    window: FailureWindow,
    in_flight: u32,
}

impl Counter {
    /// Takes over what the store has counted. A read that began before the last failure of this
    /// node is out of date.
    fn merge(&mut self, stored: FailureWindow, now: Timestamp) {
        if stored.failures_at(now) >= self.window.failures_at(now) {
            self.window = stored;
        }
    }
}

/// Counts failures per key. The caller provides the time.
#[derive(Debug)]
pub(super) struct Throttle {
    limit: u32,
    max_tracked: usize,
    counters: HashMap<LoginKey, Counter>,
    last_swept: Timestamp,
}

impl Throttle {
    /// Allows `limit` failures per minute; 0 disables the throttle.
    pub(super) fn new(limit: u32) -> Self {
        Self {
            limit,
            max_tracked: MAX_TRACKED_KEYS,
            counters: HashMap::new(),
            last_swept: Timestamp::default(),
        }
    }

    /// Whether an attempt that counts under `keys` could start now, without the store's counts.
    pub(super) fn check(&self, keys: &[LoginKey], now: Timestamp) -> Admission {
        if self.limit == 0 {
            return Admission::Granted;
        }
        let counters = || keys.iter().filter_map(|key| self.counters.get(key));
        if let Some(retry_after) =
            counters().filter_map(|counter| self.retry_after(&counter.window, now)).max()
        {
            return Admission::Refused { retry_after };
        }
        let is_full = |counter: &Counter| {
            counter.window.failures_at(now).saturating_add(counter.in_flight) >= self.limit
        };
        if counters().any(is_full) { Admission::Wait } else { Admission::Granted }
    }

    /// Starts an attempt that counts under `keys` if all of them are below the limit. `stored` is
    /// what the store has counted under each.
    pub(super) fn try_admit(
        &mut self,
        keys: &[LoginKey],
        stored: &[Option<FailureWindow>],
        now: Timestamp,
    ) -> Admission {
        for (key, window) in keys.iter().zip(stored) {
            match window {
                Some(window) if window.failures_at(now) > 0 => {
                    self.open_counter(*key, now).merge(*window, now)
                }
                _ => {}
            }
        }
        let admission = self.check(keys, now);
        if self.limit > 0 && admission == Admission::Granted {
            for key in keys {
                self.open_counter(*key, now).in_flight += 1;
            }
        }
        admission
    }

    /// The seconds until a window that has reached the limit ends.
    pub(super) fn retry_after(&self, window: &FailureWindow, now: Timestamp) -> Option<u64> {
        (self.limit > 0 && window.failures_at(now) >= self.limit).then(|| {
            let millis = window.ends_at().as_millis().saturating_sub(now.as_millis());
            u64::try_from(millis).unwrap_or(0).div_ceil(1000).max(1)
        })
    }

    /// Ends an attempt that did not fail.
    pub(super) fn release_attempt(&mut self, keys: &[LoginKey], now: Timestamp) {
        for key in keys {
            let Some(counter) = self.counters.get_mut(key) else { continue };
            counter.in_flight = counter.in_flight.saturating_sub(1);
            if counter.in_flight == 0 && counter.window.failures_at(now) == 0 {
                self.counters.remove(key);
            }
        }
    }

    /// Ends an attempt that failed, and that the store has counted: `stored` is what it then had
    /// under each key.
    pub(super) fn end_failed(
        &mut self,
        keys: &[LoginKey],
        stored: &[FailureWindow],
        now: Timestamp,
    ) {
        for (key, window) in keys.iter().zip(stored) {
            let counter = self.open_counter(*key, now);
            counter.in_flight = counter.in_flight.saturating_sub(1);
            counter.merge(*window, now);
        }
    }

    /// Returns the counter of `key`, empty if there is none.
    fn open_counter(&mut self, key: LoginKey, now: Timestamp) -> &mut Counter {
        if !self.counters.contains_key(&key) {
            self.evict_to_fit(now);
        }
        let window = FailureWindow { started_at: now, failures: 0 };
        self.counters.entry(key).or_insert(Counter { window, in_flight: 0 })
    }

    fn evict_to_fit(&mut self, now: Timestamp) {
        let full = self.counters.len() >= self.max_tracked;
        if full || now < self.last_swept || now >= self.last_swept.saturating_add(FAILURE_WINDOW) {
            self.last_swept = now;
            self.counters
                .retain(|_, counter| counter.in_flight > 0 || counter.window.failures_at(now) > 0);
        }
        while self.counters.len() >= self.max_tracked {
            let started_at = |(_, counter): &(&LoginKey, &Counter)| counter.window.started_at;
            let Some(oldest) = self.counters.iter().min_by_key(started_at).map(|(key, _)| *key)
            else {
                return;
            };
            self.counters.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const START: Timestamp = Timestamp::from_millis(1_000_000);

    fn seconds_after_start(seconds: u64) -> Timestamp {
        START.saturating_add(Duration::from_secs(seconds))
    }

    /// Keys with these numbers.
    fn keys(numbers: &[u8]) -> Vec<LoginKey> {
        numbers.iter().map(|number| LoginKey::from_bytes([*number; 16])).collect()
    }

    /// A store of this node alone.
    #[derive(Default)]
    struct Node {
        stored: HashMap<LoginKey, FailureWindow>,
    }

    impl Node {
        fn read(&self, keys: &[LoginKey]) -> Vec<Option<FailureWindow>> {
            keys.iter().map(|key| self.stored.get(key).copied()).collect()
        }

        fn count(&mut self, keys: &[LoginKey], now: Timestamp) -> Vec<FailureWindow> {
            let count = |key: &LoginKey| {
                let window = FailureWindow::after_failure(self.stored.get(key).copied(), now);
                self.stored.insert(*key, window);
                window
            };
            keys.iter().map(count).collect()
        }

        fn admit(&self, throttle: &mut Throttle, keys: &[LoginKey], now: Timestamp) -> Admission {
            throttle.try_admit(keys, &self.read(keys), now)
        }

        fn fail_login(&mut self, throttle: &mut Throttle, keys: &[LoginKey], now: Timestamp) {
            assert_eq!(self.admit(throttle, keys, now), Admission::Granted);
            let stored = self.count(keys, now);
            throttle.end_failed(keys, &stored, now);
        }
    }

    #[test]
    fn failures_are_limited_per_key() {
        let (mut throttle, mut node) = (Throttle::new(3), Node::default());
        for second in 0..3 {
            node.fail_login(&mut throttle, &keys(&[1, 11]), seconds_after_start(second));
        }
        let refused = |seconds| Admission::Refused { retry_after: seconds };
        let mut admit = |numbers, seconds| {
            node.admit(&mut throttle, &keys(numbers), seconds_after_start(seconds))
        };
        assert_eq!(admit(&[1, 12], 20), refused(40), "the account, from elsewhere");
        assert_eq!(admit(&[2, 11], 59), refused(1), "the network, for another account");
        assert_eq!(admit(&[2, 12], 20), Admission::Granted);
        assert_eq!(admit(&[1, 11], 60), Admission::Granted, "a minute later");
    }

    #[test]
    fn counts_of_the_store_are_merged() {
        let (mut throttle, mut node) = (Throttle::new(2), Node::default());
        let ada = keys(&[1]);
        node.count(&ada, START);
        assert_eq!(throttle.try_admit(&ada, &[None], START), Admission::Granted);
        assert_eq!(node.admit(&mut throttle, &ada, START), Admission::Wait);
        let stored = node.count(&ada, START);
        throttle.end_failed(&ada, &stored, START);
        // A read from before the last failure changes nothing.
        let out_of_date = FailureWindow { started_at: START, failures: 1 };
        let refused = Admission::Refused { retry_after: 60 };
        assert_eq!(throttle.try_admit(&ada, &[Some(out_of_date)], START), refused);
        assert_eq!(throttle.check(&ada, START), refused);
    }

    #[test]
    fn in_flight_attempts_count_until_they_end() {
        let (mut throttle, mut node) = (Throttle::new(2), Node::default());
        let ada = keys(&[1, 11]);
        assert_eq!(node.admit(&mut throttle, &ada, START), Admission::Granted);
        assert_eq!(node.admit(&mut throttle, &ada, START), Admission::Granted);
        assert_eq!(node.admit(&mut throttle, &ada, START), Admission::Wait);
        throttle.release_attempt(&ada, START);
        assert_eq!(node.admit(&mut throttle, &ada, START), Admission::Granted);
        let stored = node.count(&ada, START);
        throttle.end_failed(&ada, &stored, START);
        assert_eq!(node.admit(&mut throttle, &ada, START), Admission::Wait);
        let stored = node.count(&ada, START);
        throttle.end_failed(&ada, &stored, START);
        assert_eq!(node.admit(&mut throttle, &ada, START), Admission::Refused { retry_after: 60 });
        assert_eq!(
            node.admit(&mut throttle, &keys(&[2, 12]), seconds_after_start(60)),
            Admission::Granted,
            "expired counters are dropped"
        );
        assert_eq!(throttle.counters.len(), 2);
    }

    #[test]
    fn slow_attempt_counts_after_its_window() {
        let (mut throttle, mut node) = (Throttle::new(1), Node::default());
        let ada = keys(&[1]);
        assert_eq!(node.admit(&mut throttle, &ada, START), Admission::Granted);
        assert_eq!(node.admit(&mut throttle, &ada, seconds_after_start(61)), Admission::Wait);
        let stored = node.count(&ada, seconds_after_start(90));
        throttle.end_failed(&ada, &stored, seconds_after_start(90));
        assert_eq!(
            node.admit(&mut throttle, &ada, seconds_after_start(149)),
            Admission::Refused { retry_after: 1 }
        );
        assert_eq!(
            node.admit(&mut throttle, &ada, START),
            Admission::Granted,
            "a clock set back locks nobody out"
        );
    }

    #[test]
    fn success_frees_memory_and_zero_limit_disables() {
        let (mut throttle, mut node) = (Throttle::new(1), Node::default());
        let ada = keys(&[1]);
        assert_eq!(node.admit(&mut throttle, &ada, START), Admission::Granted);
        throttle.release_attempt(&ada, START);
        assert!(throttle.counters.is_empty());
        let mut off = Throttle::new(0);
        node.count(&ada, START);
        for _ in 0..100 {
            assert_eq!(off.try_admit(&ada, &[], START), Admission::Granted);
        }
        assert!(off.counters.is_empty());
    }

    #[test]
    fn tracked_keys_are_bounded() {
        let mut throttle = Throttle { max_tracked: 10, ..Throttle::new(5) };
        let mut node = Node::default();
        for number in 0..100_u8 {
            let now = START.saturating_add(Duration::from_millis(number.into()));
            node.fail_login(&mut throttle, &keys(&[number]), now);
            assert!(throttle.counters.len() <= 10);
        }
        assert!(throttle.counters.contains_key(&keys(&[99])[0]));
        assert!(!throttle.counters.contains_key(&keys(&[0])[0]), "the oldest go first");
    }
}
