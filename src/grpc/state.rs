//! What the gRPC services share.

use std::{sync::Arc, time::Duration};

use actix::Addr;
use tokio::sync::watch;

use crate::{
    actors::{cart::CartRegistry, catalog::CatalogActor},
    admission::{
        connection_limiter::ConnectionLimiter, feed_limiter::FeedLimiter, rate_limits::RateLimits,
        stop_phase::StopPhase,
    },
    auth::caller::Authenticator,
    cache::{catalog_cache::CatalogCache, current_caches::CurrentCaches},
    domain::{clock::Clock, money::Currency},
    metrics::Metrics,
    store::{Store, readiness::is_available, writer::CommitWriter},
};

/// The actors, caches, limits and settings that the services share. The limits are those of HTTP,
/// and count its requests, too.
pub struct GrpcState {
    /// Reads carts.
    pub carts: Arc<CartRegistry>,
    /// Changes stock.
    pub catalog: Addr<CatalogActor>,
    /// The catalog in memory, for reads.
    pub catalog_cache: Arc<CatalogCache>,
    /// Checks access tokens and finds their callers.
    pub authenticator: Arc<Authenticator>,
    /// Brings the caches up to date before a call relies on them.
    pub current_caches: CurrentCaches,
    /// Admits connections, and the calls on them.
    pub connections: Arc<ConnectionLimiter>,
    /// Limits the streams of each address and user, together with their event feeds.
    pub feed_limiter: Arc<FeedLimiter>,
    /// The request limits per address and per user.
    pub rate_limits: Arc<RateLimits>,
    /// The store, for health checks.
    pub store: Arc<dyn Store>,
    /// The commit writer, for health checks.
    pub writer: CommitWriter,
    /// The clock of the node.
    pub clock: Arc<dyn Clock>,
    /// Metrics for Prometheus.
    pub metrics: Metrics,
    /// Settings of the services.
    pub options: GrpcOptions,
    /// How far the node has stopped.
    pub stop_phase: watch::Receiver<StopPhase>,
}

/// Settings of the gRPC services.
#[derive(Debug, Clone)]
pub struct GrpcOptions {
    /// The currency of all prices.
    pub currency: Currency,
    /// The maximum size of a message that a client sends, in bytes.
    pub max_message: usize,
    /// The time limit for a call whose caller sets none, or a longer one.
    pub request_timeout: Duration,
    /// How long a client may take nothing of what is sent.
    pub write_timeout: Duration,
    /// Whether the catalog can be read without a token.
    pub public_read: bool,
}

impl GrpcState {
    /// Whether the node is shutting down, though it may still serve calls.
    pub(super) fn is_stopping(&self) -> bool {
        *self.stop_phase.borrow() != StopPhase::Running
    }

    /// Completes when the node takes no more calls, and finishes those in progress.
    pub(super) async fn stopping(&self) {
        let mut stop_phase = self.stop_phase.clone();
        // It fails when the sender is gone: then the node has stopped.
        let _ = stop_phase.wait_for(|phase| *phase == StopPhase::Draining).await;
    }

    /// Whether the node is ready, as `/readyz` says it.
    pub(super) async fn is_ready(&self) -> bool {
        let timeout = self.options.request_timeout;
        !self.is_stopping() && is_available(&*self.store, &self.writer, timeout).await
    }
}
