//! Brings the caches up to date before a request relies on them, for every transport.

use std::{sync::Arc, time::Duration};

use super::follower::Follower;
use crate::{metrics::caches::CacheReads, store::StoreUnavailable};

/// Keeps requests from being decided on old caches. Clones share their state.
#[derive(Clone)]
pub struct CurrentCaches {
    /// `None` if the node runs alone: then the caches are always current.
    follower: Option<Arc<Follower>>,
    reads: CacheReads,
}

impl CurrentCaches {
    /// Watches the caches that `follower` keeps current.
    #[must_use]
    pub const fn new(follower: Option<Arc<Follower>>, reads: CacheReads) -> Self {
        Self { follower, reads }
    }

    /// Catches up with other nodes if this node's caches are stale. Token checks and reads of
    /// carts, products and stock depend on these caches.
    ///
    /// # Errors
    /// The node must catch up, and the store does not respond within `time`.
    pub async fn ensure_current(&self, time: Duration) -> Result<(), StoreUnavailable> {
        let behind = self.follower.as_ref().filter(|follower| !follower.is_current());
        self.reads.record(behind.is_none());
        match behind {
            Some(follower) => catch_up(follower, time).await,
            None => Ok(()),
        }
    }

    /// If the request has the directive `no-cache`, makes the next read at least as new as every
    /// change that any node has acknowledged. This node's own changes are always visible.
    ///
    /// # Errors
    /// The node must catch up, and the store does not respond within `time`.
    pub async fn honor_no_cache(
        &self,
        no_cache: bool,
        time: Duration,
    ) -> Result<(), StoreUnavailable> {
        match &self.follower {
            Some(follower) if no_cache => catch_up(follower, time).await,
            _ => Ok(()),
        }
    }
}

/// Whether one of the values of `Cache-Control` has the directive `no-cache`.
pub(crate) fn has_no_cache<'a>(mut values: impl Iterator<Item = &'a str>) -> bool {
    values.any(|list| list.split(',').any(|word| word.trim().eq_ignore_ascii_case("no-cache")))
}

/// Catches up with the store. Concurrent callers share one read.
async fn catch_up(follower: &Follower, time: Duration) -> Result<(), StoreUnavailable> {
    tokio::time::timeout(time, follower.catch_up()).await.unwrap_or(Err(StoreUnavailable))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cache_is_found_among_other_directives() {
        assert!(has_no_cache(["max-age=0, No-Cache"].into_iter()));
        assert!(has_no_cache(["no-store", "no-cache"].into_iter()));
        assert!(!has_no_cache(["no-cache-please, max-age=0"].into_iter()));
    }
}
