//! How often somebody may ask.

use std::{net::IpAddr, num::NonZeroU32};

use governor::{DefaultKeyedRateLimiter, Quota, clock::Clock as _};

use crate::{
    domain::{account::one_caller, ids::UserId},
    error::{Error, ErrorCode},
};

/// Limits on how often somebody may ask; `None` is no limit.
pub struct RateLimits {
    address: Option<Limit<IpAddr>>,
    user: Option<Limit<UserId>>,
}

struct Limit<K: std::hash::Hash + Eq + Clone> {
    per_second: u32,
    name: &'static str,
    limiter: DefaultKeyedRateLimiter<K>,
}

/// The headers that go with a refusal (RateLimit header fields for HTTP, draft 10).
#[derive(Debug, Clone)]
pub struct RateLimited {
    /// `RateLimit-Policy`
    pub policy: String,
    /// `RateLimit`
    pub state: String,
    /// Seconds until the next request is let through.
    pub wait: u64,
}

impl RateLimits {
    /// Limits in requests a second, bursts of twice that; 0 switches one off.
    #[must_use]
    pub fn new(per_address: u32, per_user: u32) -> Self {
        Self { address: Limit::new("address", per_address), user: Limit::new("user", per_user) }
    }

    /// Counts a request from `address`.
    ///
    /// # Errors
    /// There were too many.
    pub fn check_address(&self, address: IpAddr) -> Result<(), RateLimited> {
        self.address.as_ref().map_or(Ok(()), |limit| limit.check(&one_caller(address)))
    }

    /// Counts a request of `user`.
    ///
    /// # Errors
    /// There were too many.
    pub fn check_user(&self, user: UserId) -> Result<(), RateLimited> {
        self.user.as_ref().map_or(Ok(()), |limit| limit.check(&user))
    }

    /// Forgets who has not asked for a while.
    pub fn forget_idle(&self) {
        if let Some(limit) = &self.address {
            limit.limiter.retain_recent();
        }
        if let Some(limit) = &self.user {
            limit.limiter.retain_recent();
        }
    }
}

impl<K: std::hash::Hash + Eq + Clone> Limit<K> {
    fn new(name: &'static str, per_second: u32) -> Option<Self> {
        let rate = NonZeroU32::new(per_second)?;
        let quota = Quota::per_second(rate).allow_burst(rate.saturating_add(per_second));
        Some(Self { per_second, name, limiter: DefaultKeyedRateLimiter::dashmap(quota) })
    }

    fn check(&self, key: &K) -> Result<(), RateLimited> {
        let Err(until) = self.limiter.check_key(key) else { return Ok(()) };
        let wait =
            until.wait_time_from(governor::clock::DefaultClock::default().now()).as_secs() + 1;
        let (name, burst) = (self.name, u64::from(self.per_second) * 2);
        Err(RateLimited {
            policy: format!("\"{name}\";q={burst};w=2"),
            state: format!("\"{name}\";r=0;t={wait}"),
            wait,
        })
    }
}

impl From<&RateLimited> for Error {
    fn from(limited: &RateLimited) -> Self {
        Self::new(ErrorCode::RateLimited, "Wait before the next request.")
            .with_retry_after(limited.wait)
    }
}
