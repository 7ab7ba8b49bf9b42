//! Metrics for Prometheus.

pub(crate) mod connections;

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use actix_web::{
    HttpRequest,
    http::{Method, StatusCode},
};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Metric, Registry},
};

use self::connections::ConnectionMetrics;

/// The metrics of this node.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    /// The metrics of connections and event feeds.
    pub(crate) connections: ConnectionMetrics,
    requests: Family<RequestLabels, Counter>,
    request_seconds: Family<RouteLabels, Histogram, fn() -> Histogram>,
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
}

/// Upper bounds in seconds, from 0.5 ms to 15 s, each about three times the one before.
const DURATION_BOUNDS: [f64; 10] = [0.0005, 0.0015, 0.005, 0.015, 0.05, 0.15, 0.5, 1.5, 5.0, 15.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    method: &'static str,
    route: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    route: String,
    status: u16,
}

impl Metrics {
    /// Metrics that start at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Arc::default(),
            connections: ConnectionMetrics::default(),
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(|| Histogram::new(DURATION_BOUNDS)),
            active_carts: Gauge::default(),
            products: Gauge::default(),
            waiting_commits: Gauge::default(),
            writer_transactions: Counter::default(),
            writer_commits: Counter::default(),
            broker_connected: Gauge::default(),
            peer_events_connected: Gauge::default(),
            relay_active: Gauge::default(),
            events_published: Counter::default(),
            events_unpublished: Gauge::default(),
        };
        let mut registry = Registry::with_prefix("souk");
        metrics.register_local(&mut registry);
        metrics.register_broker(&mut registry);
        metrics.connections.register(&mut registry);
        metrics.registry = Arc::new(registry);
        metrics
    }

    /// Registers the metrics of requests, caches and the writer. The encoder adds `_total` to the
    /// names of counters.
    fn register_local(&self, registry: &mut Registry) {
        register(registry, "http_requests", "Requests answered", &self.requests);
        let help = "Time from the head of a request to its response";
        register(registry, "http_request_seconds", help, &self.request_seconds);
        register(registry, "carts_active", "Carts in memory", &self.active_carts);
        register(registry, "products", "Active products", &self.products);
        let help = "Commits that wait for a transaction";
        register(registry, "writer_waiting", help, &self.waiting_commits);
        let help = "Transactions of the writer";
        register(registry, "writer_batches", help, &self.writer_transactions);
        let help = "Commits in the writer's transactions";
        register(registry, "writer_commits", help, &self.writer_commits);
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

    /// Counts a request and its response.
    pub(crate) fn record_request(&self, request: &HttpRequest, status: StatusCode, took: Duration) {
        let method = method_label(request.method());
        // The pattern instead of the path, so that clients cannot create labels.
        let route = request.match_pattern().unwrap_or_default();
        let labels = RouteLabels { method, route: route.clone() };
        self.request_seconds.get_or_create(&labels).observe(took.as_secs_f64());
        let labels = RequestLabels { method, route, status: status.as_u16() };
        self.requests.get_or_create(&labels).inc();
    }

    /// Encodes the metrics as OpenMetrics text.
    pub(crate) fn encode_openmetrics(&self, levels: &NodeStats) -> String {
        let to_i64 = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        self.active_carts.set(to_i64(levels.active_carts));
        self.products.set(to_i64(levels.products));
        self.waiting_commits.set(to_i64(levels.waiting_commits));
        set_counter(&self.writer_transactions, levels.writer_transactions);
        set_counter(&self.writer_commits, levels.writer_commits);
        if let Some(broker) = &levels.broker {
            self.broker_connected.set(broker.connected.into());
            self.peer_events_connected.set(broker.peer_events_connected.into());
            self.relay_active.set(broker.relay_active.into());
            set_counter(&self.events_published, broker.events_published);
            // If the store does not respond, keep the last value.
            if let Some(unpublished) = broker.events_unpublished {
                self.events_unpublished.set(to_i64(unpublished));
            }
        }
        let mut text = String::new();
        if let Err(error) = encode(&mut text, &self.registry) {
            tracing::error!(%error, "failed to encode the metrics");
        }
        text
    }
}

/// Adds a metric to the registry.
fn register(registry: &mut Registry, name: &str, help: &str, metric: &(impl Metric + Clone)) {
    registry.register(name, help, metric.clone());
}

/// Sets a counter to a count that another part of the node keeps.
fn set_counter(counter: &Counter, count: u64) {
    // `fetch_max`, because a counter must not decrease if two scrapes overlap.
    counter.inner().fetch_max(count, Ordering::Relaxed);
}

/// Values that other parts of the node keep, read at each scrape.
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
    /// The state of the broker connection; `None` without a broker.
    pub(crate) broker: Option<BrokerStats>,
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
    /// Events that wait to be published; `None` if the store did not respond.
    pub(crate) events_unpublished: Option<u64>,
}

/// Returns a common method by name and any other as `other`, so that clients cannot create labels.
fn method_label(method: &Method) -> &'static str {
    let common = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    common.into_iter().find(|name| *name == method.as_str()).unwrap_or("other")
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
