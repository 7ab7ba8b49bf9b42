//! Limits attempts per network and hour. Those that fail do not count.
//!
//! An attempt counts from its beginning, so that many at once gain nothing, and is removed when it
//! fails. One whose client has gone stays counted: it may have succeeded.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// The time after which a count begins anew.
pub(super) const WINDOW: Duration = Duration::from_secs(60 * 60);

/// The most networks that are counted. When there are more, those below the limit are forgotten;
/// if all have reached it, all are.
const MAX_NETWORKS: usize = 65_536;

/// Counts per network, up to a limit.
pub(super) struct HourlyCounts {
    limit: u32,
    counts: Mutex<HashMap<IpAddr, Count>>,
}

#[derive(Clone, Copy)]
struct Count {
    since: Instant,
    attempts: u32,
}

impl HourlyCounts {
    /// Counts up to `limit`; 0 is no limit.
    pub(super) fn new(limit: u32) -> Option<Self> {
        (limit > 0).then(|| Self { limit, counts: Mutex::default() })
    }

    pub(super) const fn limit(&self) -> u32 {
        self.limit
    }

    /// Counts an attempt. Returns when its hour began, for [`HourlyCounts::remove`].
    ///
    /// # Errors
    /// The network has reached the limit; the time until it may try again.
    pub(super) fn add(&self, network: IpAddr, now: Instant) -> Result<Instant, Duration> {
        let mut counts = self.lock();
        if counts.len() >= MAX_NETWORKS && !counts.contains_key(&network) {
            counts.retain(|_, count| count.is_current(now) && count.attempts >= self.limit);
        }
        if counts.len() >= MAX_NETWORKS && !counts.contains_key(&network) {
            counts.clear();
        }
        let count = counts.entry(network).or_insert(Count { since: now, attempts: 0 });
        if !count.is_current(now) {
            *count = Count { since: now, attempts: 0 };
        }
        if count.attempts >= self.limit {
            return Err(WINDOW.saturating_sub(now.saturating_duration_since(count.since)));
        }
        count.attempts += 1;
        Ok(count.since)
    }

    /// Removes an attempt that has failed, of the hour that began at `since`.
    pub(super) fn remove(&self, network: IpAddr, since: Instant) {
        let mut counts = self.lock();
        let Some(count) = counts.get_mut(&network) else { return };
        if count.since != since {
            return;
        }
        count.attempts = count.attempts.saturating_sub(1);
        if count.attempts == 0 {
            counts.remove(&network);
        }
    }

    /// Forgets the counts of hours that are over.
    pub(super) fn evict_idle(&self, now: Instant) {
        self.lock().retain(|_, count| count.is_current(now));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Count>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Count {
    fn is_current(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) < WINDOW
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn network(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(number).into()
    }

    #[test]
    fn successes_count_for_an_hour_and_failures_do_not() {
        let (counts, start) = (HourlyCounts::new(2).unwrap(), Instant::now());
        let later = |minutes: u64| start + Duration::from_secs(60 * minutes);
        counts.add(network(1), start).unwrap();
        for _ in 0..5 {
            let since = counts.add(network(1), later(10)).unwrap();
            counts.remove(network(1), since);
        }
        counts.add(network(1), later(20)).unwrap();
        assert_eq!(counts.add(network(1), later(45)), Err(Duration::from_secs(15 * 60)));
        counts.add(network(2), later(45)).unwrap();
        counts.evict_idle(later(59));
        assert!(counts.add(network(1), later(59)).is_err());
        // A failure of the last hour takes nothing from this one.
        counts.add(network(1), later(60)).unwrap();
        counts.add(network(1), later(60)).unwrap();
        counts.remove(network(1), start);
        assert!(counts.add(network(1), later(60)).is_err());
    }

    #[test]
    fn networks_are_bounded_and_those_at_the_limit_stay() {
        let (counts, start) = (HourlyCounts::new(2).unwrap(), Instant::now());
        counts.add(network(0), start).unwrap();
        for number in 0..=u32::try_from(MAX_NETWORKS).unwrap() {
            counts.add(network(number), start).unwrap();
            assert!(counts.lock().len() <= MAX_NETWORKS);
        }
        assert!(counts.add(network(0), start).is_err());
    }
}
