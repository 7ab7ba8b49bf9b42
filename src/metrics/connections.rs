//! Metrics of connections and event feeds.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::register;

/// The metrics of connections and event feeds. Clones share their values.
#[derive(Clone, Debug, Default)]
pub struct ConnectionMetrics {
    /// Connections that are open.
    pub(crate) open: Gauge,
    /// Event feeds that are open.
    pub(crate) feeds: Gauge,
    /// Connections that were closed after a malformed request.
    pub(crate) malformed: Counter,
    refused: Family<ReasonLabel, Counter>,
    timed_out: Family<ReasonLabel, Counter>,
    feeds_refused: Family<ReasonLabel, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// Why a connection was refused.
#[derive(Debug, Clone, Copy, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub(crate) enum Refusal {
    /// Its address has as many as one address may have.
    Address,
    /// The server has as many as it can have, or keeps the rest for others.
    Capacity,
}

/// Why a connection was closed.
#[derive(Debug, Clone, Copy, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub(crate) enum StreamTimeout {
    /// The client sent no request.
    Idle,
    /// The client took nothing of what was sent.
    Write,
}

/// Why an event feed was refused.
#[derive(Debug, Clone, Copy, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub(crate) enum FeedRefusal {
    /// Its address has as many as one address may have.
    Address,
    /// Its user has as many as one user may have.
    User,
}

impl ConnectionMetrics {
    pub(crate) fn record_refusal(&self, refusal: Refusal) {
        count_reason(&self.refused, refusal.into());
    }

    pub(crate) fn record_timeout(&self, timeout: StreamTimeout) {
        count_reason(&self.timed_out, timeout.into());
    }

    pub(crate) fn record_feed_refusal(&self, refusal: FeedRefusal) {
        count_reason(&self.feeds_refused, refusal.into());
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        register(registry, "http_connections", "Open connections, over HTTP and gRPC", &self.open);
        register(registry, "event_feeds", "Open event feeds and gRPC streams", &self.feeds);
        let help = "Connections closed unanswered, or requests rejected, since their address has \
            too many (address) or the server has (capacity)";
        register(registry, "http_connections_refused", help, &self.refused);
        let help = "Connections closed since the client sent no request (idle) or read nothing \
            (write)";
        register(registry, "http_connections_timed_out", help, &self.timed_out);
        let help = "Connections closed after a malformed request";
        register(registry, "http_malformed_requests", help, &self.malformed);
        let help = "Event feeds refused since their address or user has too many";
        register(registry, "event_feeds_refused", help, &self.feeds_refused);
    }
}

fn count_reason(family: &Family<ReasonLabel, Counter>, reason: &'static str) {
    family.get_or_create(&ReasonLabel { reason }).inc();
}
