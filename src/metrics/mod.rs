//! Metrics for Prometheus: a file for each group. Every label has a closed set of values.

pub mod actors;
pub mod caches;
pub mod connections;
pub mod mail;
pub(crate) mod node;
pub mod outbox;
pub mod passwords;
pub mod payments;
mod process;
pub mod requests;
pub mod store;
pub(crate) mod text;
pub mod webhooks;

use std::sync::Arc;

use prometheus_client::{
    encoding::text::encode,
    registry::{Metric, Registry},
};

use self::{
    actors::ActorMetrics,
    caches::CacheMetrics,
    connections::ConnectionMetrics,
    mail::MailMetrics,
    node::{NodeMetrics, NodeStats},
    passwords::PasswordMetrics,
    payments::PaymentMetrics,
    process::ProcessCollector,
    requests::{GrpcMetrics, HttpMetrics},
    store::StoreMetrics,
    webhooks::WebhookMetrics,
};

/// The metrics of this node. Clones share their values.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    /// Requests over HTTP.
    pub http: HttpMetrics,
    /// Calls over gRPC.
    pub grpc: GrpcMetrics,
    /// Connections and event feeds.
    pub connections: ConnectionMetrics,
    /// The mailboxes of actors.
    pub actors: ActorMetrics,
    /// The store and its writer.
    pub store: StoreMetrics,
    /// The caches.
    pub caches: CacheMetrics,
    /// The queue of passwords to hash.
    pub passwords: PasswordMetrics,
    /// Mails.
    pub mail: MailMetrics,
    /// Payments.
    pub payments: PaymentMetrics,
    /// Webhooks.
    pub webhooks: WebhookMetrics,
    node: NodeMetrics,
}

impl Metrics {
    /// Metrics that start at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Arc::default(),
            http: HttpMetrics::default(),
            grpc: GrpcMetrics::default(),
            connections: ConnectionMetrics::default(),
            actors: ActorMetrics::default(),
            store: StoreMetrics::default(),
            caches: CacheMetrics::default(),
            passwords: PasswordMetrics::default(),
            mail: MailMetrics::default(),
            payments: PaymentMetrics::default(),
            webhooks: WebhookMetrics::default(),
            node: NodeMetrics::default(),
        };
        let mut root = Registry::default();
        root.register_collector(Box::new(ProcessCollector));
        let registry = root.sub_registry_with_prefix("souk");
        metrics.http.register(registry);
        metrics.grpc.register(registry);
        metrics.connections.register(registry);
        metrics.actors.register(registry);
        metrics.store.register(registry);
        metrics.caches.register(registry);
        metrics.passwords.register(registry);
        metrics.mail.register(registry);
        metrics.payments.register(registry);
        metrics.webhooks.register(registry);
        metrics.node.register(registry);
        metrics.registry = Arc::new(root);
        metrics
    }

    /// Encodes the metrics as OpenMetrics text, or in the classic text format.
    pub(crate) fn encode(&self, stats: &NodeStats, is_openmetrics: bool) -> String {
        self.node.set(stats);
        let mut text = String::new();
        if let Err(error) = encode(&mut text, &self.registry) {
            tracing::error!(%error, "failed to encode the metrics");
        }
        if is_openmetrics { text } else { text::to_classic(&text) }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Adds a metric to the registry.
fn register(registry: &mut Registry, name: &str, help: &str, metric: &(impl Metric + Clone)) {
    registry.register(name, help, metric.clone());
}
