//! Limits what stays open of each address and user: event feeds, and streams of gRPC.

use std::net::IpAddr;

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::keyed_permits::{KeyedPermit, KeyedPermits};
use crate::{
    domain::{account::client_network, ids::UserId},
    error::{Error, ErrorCode},
    metrics::connections::{ConnectionMetrics, FeedRefusal},
};

/// How long a client should wait that has too many feeds, in seconds.
const RETRY_AFTER_SECS: u64 = 15;

/// The most feeds that read past events from the store at a time. The others wait.
const MAX_CONCURRENT_READS: usize = 8;

/// How many event feeds may be open; 0 disables a limit.
#[derive(Debug, Clone, Copy)]
pub struct FeedLimits {
    /// Feeds from one address.
    pub per_address: u32,
    /// Feeds of one user or guest.
    pub per_user: u32,
}

/// Limits the event feeds of each address and user.
pub struct FeedLimiter {
    limits: FeedLimits,
    by_network: KeyedPermits<IpAddr>,
    by_user: KeyedPermits<UserId>,
    reads: Semaphore,
    metrics: ConnectionMetrics,
}

/// The place of an open feed, which is given back when it is dropped.
pub(crate) struct FeedPermit {
    _network: Option<KeyedPermit<IpAddr>>,
    _user: Option<KeyedPermit<UserId>>,
    open: Gauge,
}

impl FeedLimiter {
    /// Creates a limiter without feeds.
    #[must_use]
    pub fn new(limits: FeedLimits, metrics: ConnectionMetrics) -> Self {
        Self {
            limits,
            by_network: KeyedPermits::default(),
            by_user: KeyedPermits::default(),
            reads: Semaphore::new(MAX_CONCURRENT_READS),
            metrics,
        }
    }

    /// Admits a feed of `user` to `client`. The client is `None` if the address is a trusted
    /// proxy's, which stands for many clients.
    ///
    /// # Errors
    /// `too_many_feeds`
    pub(crate) fn admit(
        &self,
        client: Option<IpAddr>,
        user: Option<UserId>,
    ) -> Result<FeedPermit, Error> {
        let network = client
            .map(|address| {
                let permit =
                    self.by_network.try_acquire(client_network(address), self.limits.per_address);
                permit.ok_or_else(|| self.refuse(FeedRefusal::Address))
            })
            .transpose()?;
        let user = user
            .map(|user| {
                let permit = self.by_user.try_acquire(user, self.limits.per_user);
                permit.ok_or_else(|| self.refuse(FeedRefusal::User))
            })
            .transpose()?;
        self.metrics.feeds.inc();
        Ok(FeedPermit { _network: network, _user: user, open: self.metrics.feeds.clone() })
    }

    fn refuse(&self, refusal: FeedRefusal) -> Error {
        self.metrics.record_feed_refusal(refusal);
        let detail = match refusal {
            FeedRefusal::Address => "This address has too many open feeds. Close one first.",
            FeedRefusal::User => "You have too many open feeds. Close one first.",
        };
        Error::new(ErrorCode::TooManyFeeds, detail).with_retry_after(RETRY_AFTER_SECS)
    }

    /// Waits until a feed may read from the store, so that many feeds that catch up at once do not
    /// delay other reads.
    pub(crate) async fn read_permit(&self) -> Option<SemaphorePermit<'_>> {
        // It fails only for a closed semaphore, which this one never is.
        self.reads.acquire().await.ok()
    }
}

impl Drop for FeedPermit {
    fn drop(&mut self) {
        self.open.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn feeds_are_limited_per_address_and_per_user() {
        let limits = FeedLimits { per_address: 3, per_user: 2 };
        let feeds = FeedLimiter::new(limits, ConnectionMetrics::default());
        let address = |text: &str| Some(text.parse().unwrap());
        let (home, work) = (address("192.0.2.1"), address("192.0.2.2"));
        let (ada, eve) = (Some(UserId::new()), Some(UserId::new()));
        let first = feeds.admit(home, ada).unwrap();
        let _second = feeds.admit(work, ada).unwrap();
        let error = feeds.admit(work, ada).err().unwrap();
        assert_eq!((error.code, error.retry_after), (ErrorCode::TooManyFeeds, Some(15)));
        // The refused feed has given its place at the address back.
        let _others = [feeds.admit(work, eve).unwrap(), feeds.admit(work, None).unwrap()];
        assert!(feeds.admit(work, None).is_err());
        assert!(feeds.admit(None, None).is_ok(), "a proxy stands for many clients");
        drop(first);
        assert!(feeds.admit(home, ada).is_ok());
    }
}
