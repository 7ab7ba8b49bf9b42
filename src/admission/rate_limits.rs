//! Request rate limits per address and per user.

use std::{
    net::IpAddr,
    num::NonZeroU32,
    time::{Duration, Instant},
};

use governor::{DefaultKeyedRateLimiter, Quota, clock::Clock as _};

use super::hourly_counts::{HourlyCounts, WINDOW};
use crate::{
    domain::{account::client_network, ids::UserId},
    error::{Error, ErrorCode},
};

/// Request rate limits; `None` means unlimited.
pub struct RateLimits {
    per_address: Option<KeyedRateLimiter<IpAddr>>,
    per_user: Option<KeyedRateLimiter<UserId>>,
    guests: Option<KeyedRateLimiter<IpAddr>>,
    registrations: Option<HourlyCounts>,
}

/// A registration that counts until it fails.
#[derive(Debug, Clone, Copy)]
pub struct CountedRegistration {
    network: IpAddr,
    /// When its hour began. `None` without a limit.
    since: Option<Instant>,
}

/// How much is allowed; 0 disables a limit.
#[derive(Debug, Clone, Copy)]
pub struct RateQuotas {
    /// Requests per second of one address, with bursts of twice that.
    pub per_address: u32,
    /// Requests per second of one user, with bursts of twice that.
    pub per_user: u32,
    /// New guest carts, and checkouts of guests, per minute from one address.
    pub guests: u32,
    /// New accounts per hour from one address.
    pub registrations: u32,
}

struct KeyedRateLimiter<K: std::hash::Hash + Eq + Clone> {
    /// Requests that are allowed at once after a pause.
    burst: u32,
    /// The time in which `burst` requests become allowed again.
    window_secs: u32,
    policy_name: &'static str,
    limiter: DefaultKeyedRateLimiter<K>,
}

/// The headers of a rate limit rejection (RateLimit header fields for HTTP, draft 10).
#[derive(Debug, Clone)]
pub struct RateLimited {
    /// The value of `RateLimit-Policy`.
    pub policy: String,
    /// The value of `RateLimit`.
    pub state: String,
    /// Seconds until the next request is allowed.
    pub retry_after_secs: u64,
}

impl RateLimits {
    /// Creates limits.
    #[must_use]
    pub fn new(quotas: RateQuotas) -> Self {
        Self {
            per_address: KeyedRateLimiter::per_second("address", quotas.per_address),
            per_user: KeyedRateLimiter::per_second("user", quotas.per_user),
            guests: KeyedRateLimiter::per_minute("guests", quotas.guests),
            registrations: HourlyCounts::new(quotas.registrations),
        }
    }

    /// Counts a registration from `address`, which is about to begin. One that fails must be
    /// [removed](Self::remove_registration).
    ///
    /// # Errors
    /// There were too many new accounts within an hour.
    pub fn count_registration(&self, address: IpAddr) -> Result<CountedRegistration, RateLimited> {
        let network = client_network(address);
        let since = self.registrations.as_ref().map(|registrations| {
            registrations.add(network, Instant::now()).map_err(|wait| {
                RateLimited::new("registrations", registrations.limit(), WINDOW, wait)
            })
        });
        Ok(CountedRegistration { network, since: since.transpose()? })
    }

    /// Removes a registration that has failed.
    pub fn remove_registration(&self, failed: CountedRegistration) {
        if let (Some(registrations), Some(since)) = (&self.registrations, failed.since) {
            registrations.remove(failed.network, since);
        }
    }

    /// Counts a new guest cart, or the checkout of a guest, from `address`.
    ///
    /// # Errors
    /// There were too many.
    pub fn check_guest(&self, address: IpAddr) -> Result<(), RateLimited> {
        self.guests.as_ref().map_or(Ok(()), |limit| limit.check_rate(&client_network(address)))
    }

    /// Counts a request from `address`.
    ///
    /// # Errors
    /// There were too many.
    pub fn check_address(&self, address: IpAddr) -> Result<(), RateLimited> {
        self.per_address.as_ref().map_or(Ok(()), |limit| limit.check_rate(&client_network(address)))
    }

    /// Counts a request of `user`.
    ///
    /// # Errors
    /// There were too many.
    pub fn check_user(&self, user: UserId) -> Result<(), RateLimited> {
        self.per_user.as_ref().map_or(Ok(()), |limit| limit.check_rate(&user))
    }

    /// Removes the counts of idle addresses and users.
    pub fn evict_idle(&self) {
        if let Some(limit) = &self.per_address {
            limit.limiter.retain_recent();
        }
        if let Some(limit) = &self.per_user {
            limit.limiter.retain_recent();
        }
        if let Some(limit) = &self.guests {
            limit.limiter.retain_recent();
        }
        if let Some(registrations) = &self.registrations {
            registrations.evict_idle(Instant::now());
        }
    }
}

impl<K: std::hash::Hash + Eq + Clone> KeyedRateLimiter<K> {
    fn per_second(name: &'static str, per_second: u32) -> Option<Self> {
        let rate = NonZeroU32::new(per_second)?;
        let burst = rate.saturating_add(per_second);
        Some(Self::from_quota(name, Quota::per_second(rate).allow_burst(burst), 2))
    }

    fn per_minute(name: &'static str, per_minute: u32) -> Option<Self> {
        Some(Self::from_quota(name, Quota::per_minute(NonZeroU32::new(per_minute)?), 60))
    }

    fn from_quota(policy_name: &'static str, quota: Quota, window_secs: u32) -> Self {
        Self {
            burst: quota.burst_size().get(),
            window_secs,
            policy_name,
            limiter: DefaultKeyedRateLimiter::dashmap(quota),
        }
    }

    fn check_rate(&self, key: &K) -> Result<(), RateLimited> {
        let Err(until) = self.limiter.check_key(key) else { return Ok(()) };
        let wait = until.wait_time_from(governor::clock::DefaultClock::default().now());
        let window = Duration::from_secs(self.window_secs.into());
        Err(RateLimited::new(self.policy_name, self.burst, window, wait))
    }
}

impl RateLimited {
    /// The quota of a limit in `window` is used up; a request is allowed again after `wait`.
    fn new(name: &str, quota: u32, window: Duration, wait: Duration) -> Self {
        let window = window.as_secs();
        let retry_after_secs = u64::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u64::MAX);
        let retry_after_secs = retry_after_secs.max(1);
        Self {
            policy: format!("\"{name}\";q={quota};w={window}"),
            state: format!("\"{name}\";r=0;t={retry_after_secs}"),
            retry_after_secs,
        }
    }
}

impl From<&RateLimited> for Error {
    fn from(limited: &RateLimited) -> Self {
        Self::new(ErrorCode::RateLimited, "Wait before the next request.")
            .with_retry_after(limited.retry_after_secs)
    }
}
