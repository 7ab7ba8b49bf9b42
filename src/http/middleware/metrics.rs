//! Figures for Prometheus.

use std::{sync::Arc, time::Duration};

use actix_web::{
    HttpRequest,
    http::{Method, StatusCode},
};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

/// All figures of this node.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    requests: Family<RequestLabels, Counter>,
    request_seconds: Histogram,
    active_carts: Gauge,
    products: Gauge,
    waiting_commits: Gauge,
    writer_transactions: Gauge,
    writer_commits: Gauge,
    broker_connected: Gauge,
    peer_events_connected: Gauge,
    relay_active: Gauge,
    events_published: Gauge,
    events_unpublished: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    route: String,
    status: u16,
}

impl Metrics {
    /// Figures that begin at zero.
    #[must_use]
    pub fn new() -> Self {
        // Half a millisecond to half a minute, each bound three times the one before.
        let bounds = [0.0005, 0.0015, 0.005, 0.015, 0.05, 0.15, 0.5, 1.5, 5.0, 15.0];
        let mut metrics = Self {
            registry: Arc::default(),
            requests: Family::default(),
            request_seconds: Histogram::new(bounds),
            active_carts: Gauge::default(),
            products: Gauge::default(),
            waiting_commits: Gauge::default(),
            writer_transactions: Gauge::default(),
            writer_commits: Gauge::default(),
            broker_connected: Gauge::default(),
            peer_events_connected: Gauge::default(),
            relay_active: Gauge::default(),
            events_published: Gauge::default(),
            events_unpublished: Gauge::default(),
        };
        let mut registry = Registry::with_prefix("souk");
        registry.register("http_requests", "Requests answered", metrics.requests.clone());
        registry.register(
            "http_request_seconds",
            "Time from a request's head to its answer",
            metrics.request_seconds.clone(),
        );
        registry.register("carts_active", "Carts held in memory", metrics.active_carts.clone());
        registry.register("products", "Living products", metrics.products.clone());
        registry.register(
            "writer_waiting",
            "Commits waiting for a transaction",
            metrics.waiting_commits.clone(),
        );
        registry.register(
            "writer_batches",
            "Transactions since the start",
            metrics.writer_transactions.clone(),
        );
        registry.register(
            "writer_commits",
            "Commits in them since the start",
            metrics.writer_commits.clone(),
        );
        registry.register(
            "broker_connected",
            "1 when the broker is there",
            metrics.broker_connected.clone(),
        );
        registry.register(
            "news_delivered",
            "1 while the broker delivers what other nodes do",
            metrics.peer_events_connected.clone(),
        );
        registry.register(
            "relay_active",
            "1 when this node is the one that publishes events",
            metrics.relay_active.clone(),
        );
        registry.register(
            "events_published",
            "Events published by this node since the start",
            metrics.events_published.clone(),
        );
        registry.register(
            "events_unpublished",
            "Events of all nodes waiting to be published",
            metrics.events_unpublished.clone(),
        );
        metrics.registry = Arc::new(registry);
        metrics
    }

    /// Counts an answered request.
    pub(crate) fn record_request(&self, request: &HttpRequest, status: StatusCode, took: Duration) {
        let labels = RequestLabels {
            method: method_label(request.method()),
            // The pattern and not the path, so that strangers cannot make up labels.
            route: request.match_pattern().unwrap_or_default(),
            status: status.as_u16(),
        };
        self.requests.get_or_create(&labels).inc();
        self.request_seconds.observe(took.as_secs_f64());
    }

    /// The text that Prometheus scrapes.
    pub(crate) fn encode_openmetrics(&self, levels: &NodeGauges) -> String {
        let whole = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        self.active_carts.set(whole(levels.active_carts));
        self.products.set(whole(levels.products));
        self.waiting_commits.set(whole(levels.waiting_commits));
        self.writer_transactions.set(whole(levels.writer_transactions));
        self.writer_commits.set(whole(levels.writer_commits));
        if let Some(broker) = &levels.broker {
            self.broker_connected.set(broker.connected.into());
            self.peer_events_connected.set(broker.peer_events_connected.into());
            self.relay_active.set(broker.relay_active.into());
            self.events_published.set(whole(broker.events_published));
            // It stays what it was when the store cannot be asked.
            if let Some(unpublished) = broker.events_unpublished {
                self.events_unpublished.set(whole(unpublished));
            }
        }
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            tracing::error!("the figures could not be written");
        }
        text
    }
}

/// What others keep count of, read when it is asked for.
pub(crate) struct NodeGauges {
    /// Carts in memory.
    pub(crate) active_carts: u64,
    /// Living products.
    pub(crate) products: u64,
    /// Commits waiting.
    pub(crate) waiting_commits: u64,
    /// Transactions since the start.
    pub(crate) writer_transactions: u64,
    /// Commits in them.
    pub(crate) writer_commits: u64,
    /// How it stands with the broker, when there is one.
    pub(crate) broker: Option<BrokerGauges>,
}

/// How it stands with the broker.
pub(crate) struct BrokerGauges {
    /// Whether it is there.
    pub(crate) connected: bool,
    /// Whether it delivers what other nodes do; otherwise the store is asked before anything is told.
    pub(crate) peer_events_connected: bool,
    /// Whether this node is the one that publishes.
    pub(crate) relay_active: bool,
    /// Events published by this node since the start.
    pub(crate) events_published: u64,
    /// Events that were not published yet, if the store says.
    pub(crate) events_unpublished: Option<u64>,
}

/// The method, when it is a common one: strangers can make up others.
fn method_label(method: &Method) -> &'static str {
    let common = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    common.into_iter().find(|name| *name == method.as_str()).unwrap_or("other")
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
