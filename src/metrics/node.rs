//! Values that other parts of the node keep, read at each scrape.

use std::sync::atomic::Ordering;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::{
    outbox::{OutboxMetrics, PartitionStats},
    register,
};

/// What is set at each scrape. Clones share their values.
#[derive(Clone, Debug, Default)]
pub(super) struct NodeMetrics {
    active_carts: Gauge,
    products: Gauge,
    waiting_commits: Gauge,
    writer_transactions: Counter,
    writer_commits: Counter,
    broker_connected: Gauge,
    peer_events_connected: Gauge,
    relay_active: Gauge,
    events_published: Counter,
    events_unpublished: Gauge,
    outbox: OutboxMetrics,
    log_lines_dropped: Counter,
    trace_spans: Family<SpanLabel, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VersionLabel {
    version: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SpanLabel {
    outcome: &'static str,
}

/// Values that other parts of the node keep.
pub(crate) struct NodeStats {
    /// Carts in memory.
    pub(crate) active_carts: u64,
    /// Active products.
    pub(crate) products: u64,
    /// Commits that wait for a transaction.
    pub(crate) waiting_commits: u64,
    /// Transactions of the writer since the start.
    pub(crate) writer_transactions: u64,
    /// Commits in these transactions.
    pub(crate) writer_commits: u64,
    /// The partitions of the outbox; `None` if the store did not respond.
    pub(crate) outbox: Option<Vec<PartitionStats>>,
    /// The state of the broker connection; `None` without a broker.
    pub(crate) broker: Option<BrokerStats>,
    /// Lines that the log could not take.
    pub(crate) log_lines_dropped: u64,
    /// How many spans had which outcome.
    pub(crate) trace_spans: [(&'static str, u64); 3],
}

/// The state of the broker connection.
pub(crate) struct BrokerStats {
    /// Whether the node is connected.
    pub(crate) connected: bool,
    /// Whether the broker delivers the events of other nodes. If not, every read queries the store.
    pub(crate) peer_events_connected: bool,
    /// Whether this node publishes the events of all nodes.
    pub(crate) relay_active: bool,
    /// Events that this node has published since the start.
    pub(crate) events_published: u64,
}

impl NodeMetrics {
    /// Sets all values. What could not be read keeps its last one.
    pub(super) fn set(&self, stats: &NodeStats) {
        self.active_carts.set(to_i64(stats.active_carts));
        self.products.set(to_i64(stats.products));
        self.waiting_commits.set(to_i64(stats.waiting_commits));
        set_counter(&self.writer_transactions, stats.writer_transactions);
        set_counter(&self.writer_commits, stats.writer_commits);
        if let Some(partitions) = &stats.outbox {
            self.outbox.set(partitions);
            let backlogs = partitions.iter().filter_map(|partition| partition.backlog);
            self.events_unpublished.set(to_i64(backlogs.map(|backlog| backlog.events).sum()));
        }
        if let Some(broker) = &stats.broker {
            self.broker_connected.set(broker.connected.into());
            self.peer_events_connected.set(broker.peer_events_connected.into());
            self.relay_active.set(broker.relay_active.into());
            set_counter(&self.events_published, broker.events_published);
        }
        set_counter(&self.log_lines_dropped, stats.log_lines_dropped);
        for (outcome, count) in stats.trace_spans {
            set_counter(&self.trace_spans.get_or_create(&SpanLabel { outcome }), count);
        }
    }

    /// Registers the metrics. The encoder adds `_total` to the names of counters.
    pub(super) fn register(&self, registry: &mut Registry) {
        // A gauge, since the classic format has no type for it.
        let build = Family::<VersionLabel, Gauge>::default();
        build.get_or_create(&VersionLabel { version: env!("CARGO_PKG_VERSION") }).set(1);
        register(registry, "build_info", "The version of Souk", &build);
        register(registry, "carts_active", "Carts in memory", &self.active_carts);
        register(registry, "products", "Active products", &self.products);
        let help = "Commits that wait for a transaction";
        register(registry, "writer_waiting", help, &self.waiting_commits);
        let help = "Transactions of the writer";
        register(registry, "writer_batches", help, &self.writer_transactions);
        let help = "Commits in the writer's transactions";
        register(registry, "writer_commits", help, &self.writer_commits);
        self.register_broker(registry);
        self.outbox.register(registry);
        let help = "Lines of the log that were dropped, since they came too fast";
        register(registry, "log_lines_dropped", help, &self.log_lines_dropped);
        let help = "Spans that were sent (exported), that the OTLP endpoint did not take (failed), \
            or that came too fast (dropped)";
        register(registry, "trace_spans", help, &self.trace_spans);
    }

    fn register_broker(&self, registry: &mut Registry) {
        let help = "1 if the node is connected to the broker";
        register(registry, "broker_connected", help, &self.broker_connected);
        let help = "1 if the broker delivers the events of other nodes";
        register(registry, "peer_events_connected", help, &self.peer_events_connected);
        let help = "1 if this node publishes the events of all nodes";
        register(registry, "relay_active", help, &self.relay_active);
        let help = "Events that this node has published";
        register(registry, "events_published", help, &self.events_published);
        let help = "Events of all nodes that wait to be published";
        register(registry, "events_unpublished", help, &self.events_unpublished);
    }
}

fn to_i64(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Sets a counter to a count that another part of the node keeps.
fn set_counter(counter: &Counter, count: u64) {
    // `fetch_max`, because a counter must not decrease if two scrapes overlap.
    counter.inner().fetch_max(count, Ordering::Relaxed);
}
