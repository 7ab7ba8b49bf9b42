//! Decides which connections the server keeps: how many in total, and how many of each address.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use dashmap::DashMap;
use ipnet::IpNet;

use super::keyed_permits::{KeyedPermit, KeyedPermits};
use crate::{
    domain::account::client_network,
    metrics::connections::{ConnectionMetrics, Refusal},
};

/// How long an address counts as one that somebody with an account uses.
const ACCOUNT_MEMORY: Duration = Duration::from_secs(60 * 60);

/// The most addresses that are remembered for their accounts.
const MAX_ACCOUNT_ADDRESSES: usize = 16_384;

/// Connections of one address when connections are scarce. Enough for a probe or a browser.
const SCARCE_PER_ADDRESS: u32 = 4;

/// What a server may hold open.
#[derive(Debug, Clone)]
pub struct ConnectionLimits {
    /// The most connections at a time. The rest of the process's descriptors is for the store, the
    /// broker and the listeners.
    pub capacity: usize,
    /// The most connections of one address; 0 disables the limit.
    pub per_address: u32,
    /// Proxies, each of which carries the connections of many clients.
    pub trusted_proxies: Vec<IpNet>,
}

/// Admits connections up to the limits.
///
/// The last quarter of the capacity is kept for those who need it: an address that somebody with
/// an account has used within the hour, a trusted proxy, and the first few connections of any other
/// address. So a flood from few addresses leaves room for buyers and probes.
pub struct ConnectionLimiter {
    limits: ConnectionLimits,
    open: AtomicUsize,
    by_network: KeyedPermits<IpAddr>,
    /// Requests in progress that are counted by themselves, by the client's network.
    requests: KeyedPermits<IpAddr>,
    /// When a request with an account's token last came from a network.
    account_networks: DashMap<IpAddr, Instant>,
    metrics: ConnectionMetrics,
}

/// The place of an open connection, which is given back when it is dropped.
pub(crate) struct ConnectionPermit {
    limiter: Arc<ConnectionLimiter>,
    /// `None` for a trusted proxy.
    _network: Option<KeyedPermit<IpAddr>>,
}

/// A request in progress, which is no more when this is dropped.
pub(crate) type RequestPermit = KeyedPermit<IpAddr>;

impl ConnectionLimiter {
    /// Creates a limiter without connections.
    #[must_use]
    pub fn new(limits: ConnectionLimits, metrics: ConnectionMetrics) -> Self {
        Self {
            limits,
            open: AtomicUsize::new(0),
            by_network: KeyedPermits::default(),
            requests: KeyedPermits::default(),
            account_networks: DashMap::new(),
            metrics,
        }
    }

    /// The most connections at a time.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.limits.capacity
    }

    pub(crate) const fn metrics(&self) -> &ConnectionMetrics {
        &self.metrics
    }

    /// Admits a connection from `peer`. `None` if it must be closed.
    pub(crate) fn admit(self: &Arc<Self>, peer: IpAddr) -> Option<ConnectionPermit> {
        let open = self.open.fetch_add(1, Ordering::AcqRel);
        let network = self.admit_network(peer, open).map_err(|refusal| {
            self.open.fetch_sub(1, Ordering::AcqRel);
            self.metrics.record_refusal(refusal);
        });
        let network = network.ok()?;
        self.metrics.open.inc();
        Some(ConnectionPermit { limiter: Arc::clone(self), _network: network })
    }

    fn admit_network(
        &self,
        peer: IpAddr,
        open: usize,
    ) -> Result<Option<KeyedPermit<IpAddr>>, Refusal> {
        if open >= self.limits.capacity {
            return Err(Refusal::Capacity);
        }
        if self.is_trusted_proxy(peer) {
            return Ok(None);
        }
        let network = client_network(peer);
        let per_address = self.limits.per_address;
        let is_scarce = open >= self.limits.capacity / 4 * 3;
        if !is_scarce || self.has_account(network) {
            let permit = self.by_network.try_acquire(network, per_address);
            return permit.map(Some).ok_or(Refusal::Address);
        }
        let limit = if per_address == 0 { u32::MAX } else { per_address };
        let permit = self.by_network.try_acquire(network, limit.min(SCARCE_PER_ADDRESS));
        permit.map(Some).ok_or(Refusal::Capacity)
    }

    /// Admits a request of `client` that says nothing of how many connections the client has: one
    /// that a trusted proxy forwards, since a proxy's connections are not counted, or a gRPC call,
    /// of which a connection carries many. A client may have as many of them at a time as it may
    /// have connections.
    pub(crate) fn admit_request(&self, client: IpAddr) -> Option<RequestPermit> {
        let permit = self.requests.try_acquire(client_network(client), self.limits.per_address);
        if permit.is_none() {
            self.metrics.record_refusal(Refusal::Address);
        }
        permit
    }

    /// Whether `address` is a trusted proxy's.
    pub(crate) fn is_trusted_proxy(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.limits.trusted_proxies.iter().any(|network| network.contains(&address))
    }

    /// Remembers that somebody with an account uses `address`.
    pub(crate) fn record_account(&self, address: IpAddr) {
        let network = client_network(address);
        if let Some(mut at) = self.account_networks.get_mut(&network) {
            *at = Instant::now();
        } else if self.account_networks.len() < MAX_ACCOUNT_ADDRESSES {
            self.account_networks.insert(network, Instant::now());
        }
    }

    fn has_account(&self, network: IpAddr) -> bool {
        self.account_networks.get(&network).is_some_and(|at| at.elapsed() < ACCOUNT_MEMORY)
    }

    /// Forgets the addresses that no account has used for long.
    pub fn evict_idle(&self) {
        self.account_networks.retain(|_, at| at.elapsed() < ACCOUNT_MEMORY);
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.limiter.open.fetch_sub(1, Ordering::AcqRel);
        self.limiter.metrics.open.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(capacity: usize, per_address: u32) -> Arc<ConnectionLimiter> {
        let trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
        let limits = ConnectionLimits { capacity, per_address, trusted_proxies };
        Arc::new(ConnectionLimiter::new(limits, ConnectionMetrics::default()))
    }

    /// Opens up to `count` connections; returns those that are admitted.
    fn flood(limiter: &Arc<ConnectionLimiter>, peer: &str, count: usize) -> Vec<ConnectionPermit> {
        (0..count).filter_map(|_| limiter.admit(peer.parse().unwrap())).collect()
    }

    #[test]
    fn address_is_limited_and_a_place_is_given_back() {
        let limiter = limiter(1000, 5);
        let held = flood(&limiter, "192.0.2.1", 9);
        assert_eq!(held.len(), 5);
        assert_eq!(flood(&limiter, "::ffff:192.0.2.1", 9).len(), 0, "the same address");
        assert_eq!(flood(&limiter, "192.0.2.2", 9).len(), 5);
        drop(held);
        assert_eq!(flood(&limiter, "192.0.2.1", 9).len(), 5);
        assert_eq!(limiter.open.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn trusted_proxy_is_not_one_client_but_each_client_behind_it_is() {
        let limiter = limiter(1000, 5);
        assert_eq!(flood(&limiter, "10.0.0.7", 700).len(), 700);
        let client = "192.0.2.1".parse().unwrap();
        let running: Vec<_> = (0..9).filter_map(|_| limiter.admit_request(client)).collect();
        assert_eq!(running.len(), 5);
        assert!(limiter.admit_request("192.0.2.2".parse().unwrap()).is_some());
    }

    #[test]
    fn last_quarter_is_kept_for_accounts_proxies_and_first_connections() {
        let limiter = limiter(100, 90);
        let mut held = flood(&limiter, "192.0.2.1", 200);
        assert_eq!(held.len(), 75);
        let stranger = flood(&limiter, "192.0.2.2", 90);
        assert_eq!(stranger.len(), 4);
        limiter.record_account("192.0.2.3".parse().unwrap());
        held.extend(flood(&limiter, "192.0.2.3", 10));
        assert_eq!(held.len(), 85);
        held.extend(flood(&limiter, "10.0.0.1", 90));
        assert_eq!(held.len() + stranger.len(), 100, "the capacity holds for everybody");
        assert_eq!(flood(&limiter, "192.0.2.4", 1).len(), 0);
    }
}
