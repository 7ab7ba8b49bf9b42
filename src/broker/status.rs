//! The state of the broker's side of a node, for health checks and metrics.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use super::ManagedConnection;

/// The state of the broker's side of a node.
pub struct BrokerStatus {
    connections: Vec<Arc<ManagedConnection>>,
    is_leader: AtomicBool,
    /// The broker has rejected an event of this node, or failed to confirm it in time, and has
    /// confirmed none since.
    is_refusing: AtomicBool,
    published: AtomicU64,
}

impl BrokerStatus {
    pub(super) const fn new(connections: Vec<Arc<ManagedConnection>>) -> Self {
        Self {
            connections,
            is_leader: AtomicBool::new(false),
            is_refusing: AtomicBool::new(false),
            published: AtomicU64::new(0),
        }
    }

    /// Whether all connections are established and their tasks work on them.
    ///
    /// Connections alone are not enough: a broker may accept them and refuse the queues.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connections.iter().all(|connection| connection.is_ready())
    }

    /// Whether the broker takes messages: all connections work, it has blocked none of them, as it
    /// does when it is short of memory or disk, and it confirms what is published.
    #[must_use]
    pub fn takes_messages(&self) -> bool {
        self.is_connected()
            && !self.is_refusing.load(Ordering::Relaxed)
            && !self.connections.iter().any(|connection| connection.is_blocked())
    }

    /// Whether this node is the one that publishes events.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.is_leader.load(Ordering::Relaxed)
    }

    /// Number of events that this node has published since it started, repeats included.
    #[must_use]
    pub fn published_count(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }

    pub(super) fn set_leader(&self, is_leader: bool) {
        self.is_leader.store(is_leader, Ordering::Relaxed);
    }

    pub(super) fn set_refusing(&self, is_refusing: bool) {
        self.is_refusing.store(is_refusing, Ordering::Relaxed);
    }

    pub(super) fn count_published(&self) {
        self.published.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn connections(&self) -> &[Arc<ManagedConnection>] {
        &self.connections
    }
}
