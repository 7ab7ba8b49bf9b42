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
    seconds: Histogram,
    carts: Gauge,
    products: Gauge,
    waiting: Gauge,
    batches: Gauge,
    commits: Gauge,
    connected: Gauge,
    delivered: Gauge,
    relay: Gauge,
    published: Gauge,
    unpublished: Gauge,
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
            seconds: Histogram::new(bounds),
            carts: Gauge::default(),
            products: Gauge::default(),
            waiting: Gauge::default(),
            batches: Gauge::default(),
            commits: Gauge::default(),
            connected: Gauge::default(),
            delivered: Gauge::default(),
            relay: Gauge::default(),
            published: Gauge::default(),
            unpublished: Gauge::default(),
        };
        let mut registry = Registry::with_prefix("souk");
        registry.register("http_requests", "Requests answered", metrics.requests.clone());
        registry.register(
            "http_request_seconds",
            "Time from a request's head to its answer",
            metrics.seconds.clone(),
        );
        registry.register("carts_active", "Carts held in memory", metrics.carts.clone());
        registry.register("products", "Living products", metrics.products.clone());
        registry.register(
            "writer_waiting",
            "Commits waiting for a transaction",
            metrics.waiting.clone(),
        );
        registry.register(
            "writer_batches",
            "Transactions since the start",
            metrics.batches.clone(),
        );
        registry.register(
            "writer_commits",
            "Commits in them since the start",
            metrics.commits.clone(),
        );
        registry.register(
            "broker_connected",
            "1 when the broker is there",
            metrics.connected.clone(),
        );
        registry.register(
            "news_delivered",
            "1 while the broker delivers what other nodes do",
            metrics.delivered.clone(),
        );
        registry.register(
            "relay_active",
            "1 when this node is the one that publishes events",
            metrics.relay.clone(),
        );
        registry.register(
            "events_published",
            "Events published by this node since the start",
            metrics.published.clone(),
        );
        registry.register(
            "events_unpublished",
            "Events of all nodes waiting to be published",
            metrics.unpublished.clone(),
        );
        metrics.registry = Arc::new(registry);
        metrics
    }

    /// Counts an answered request.
    pub(crate) fn request(&self, request: &HttpRequest, status: StatusCode, took: Duration) {
        let labels = RequestLabels {
            method: known(request.method()),
            // The pattern and not the path, so that strangers cannot make up labels.
            route: request.match_pattern().unwrap_or_default(),
            status: status.as_u16(),
        };
        self.requests.get_or_create(&labels).inc();
        self.seconds.observe(took.as_secs_f64());
    }

    /// The text that Prometheus scrapes.
    pub(crate) fn text(&self, levels: &Levels) -> String {
        let whole = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        self.carts.set(whole(levels.carts));
        self.products.set(whole(levels.products));
        self.waiting.set(whole(levels.waiting));
        self.batches.set(whole(levels.batches));
        self.commits.set(whole(levels.commits));
        if let Some(broker) = &levels.broker {
            self.connected.set(broker.connected.into());
            self.delivered.set(broker.delivered.into());
            self.relay.set(broker.relay.into());
            self.published.set(whole(broker.published));
            // It stays what it was when the store cannot be asked.
            if let Some(unpublished) = broker.unpublished {
                self.unpublished.set(whole(unpublished));
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
pub(crate) struct Levels {
    /// Carts in memory.
    pub(crate) carts: u64,
    /// Living products.
    pub(crate) products: u64,
    /// Commits waiting.
    pub(crate) waiting: u64,
    /// Transactions since the start.
    pub(crate) batches: u64,
    /// Commits in them.
    pub(crate) commits: u64,
    /// How it stands with the broker, when there is one.
    pub(crate) broker: Option<BrokerLevels>,
}

/// How it stands with the broker.
pub(crate) struct BrokerLevels {
    /// Whether it is there.
    pub(crate) connected: bool,
    /// Whether it delivers what other nodes do; otherwise the store is asked before anything is told.
    pub(crate) delivered: bool,
    /// Whether this node is the one that publishes.
    pub(crate) relay: bool,
    /// Events published by this node since the start.
    pub(crate) published: u64,
    /// Events that were not published yet, if the store says.
    pub(crate) unpublished: Option<u64>,
}

/// The method, when it is a common one: strangers can make up others.
fn known(method: &Method) -> &'static str {
    let common = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    common.into_iter().find(|name| *name == method.as_str()).unwrap_or("other")
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
