//! How often a cache has the answer.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use super::register;

/// The reads of one cache. Clones share their values.
#[derive(Clone, Debug, Default)]
pub struct CacheReads {
    hits: Counter,
    misses: Counter,
}

/// The metrics of the caches. Clones share their values.
#[derive(Clone, Debug)]
pub struct CacheMetrics {
    reads: Family<CacheLabels, Counter>,
    /// Reads of carts. A miss asks the cart's actor.
    pub cart: CacheReads,
    /// Requests that rely on the catalog and the sessions in memory. A miss reads the changes of
    /// other nodes from the store first.
    pub catalog: CacheReads,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CacheLabels {
    cache: &'static str,
    result: &'static str,
}

impl CacheReads {
    /// Counts a read that the cache answered, or did not.
    pub(crate) fn record(&self, is_hit: bool) {
        if is_hit { &self.hits } else { &self.misses }.inc();
    }
}

impl CacheMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Reads that a cache answered (hit), or that had to ask further (miss)";
        register(registry, "cache_reads", help, &self.reads);
    }
}

impl Default for CacheMetrics {
    fn default() -> Self {
        let reads = Family::<CacheLabels, Counter>::default();
        let counters = |cache| {
            let counter = |result| reads.get_or_create(&CacheLabels { cache, result }).clone();
            CacheReads { hits: counter("hit"), misses: counter("miss") }
        };
        let (cart, catalog) = (counters("cart"), counters("catalog"));
        Self { reads, cart, catalog }
    }
}
