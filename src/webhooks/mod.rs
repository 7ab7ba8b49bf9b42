//! Delivers events to the webhook endpoints.
//!
//! Every node runs a [`WebhookDispatcher`]. The endpoints are divided into shards, each shard has a
//! lease that one node holds, and that node runs an `endpoint` task for each active endpoint in
//! it. A task reads the outbox from the endpoint's own cursor. It makes first attempts in the order
//! of the outbox, and later ones when they are due; `recorder` writes what came of them.

mod attempt;
mod client;
mod dispatcher;
mod endpoint;
mod endpoint_stats;
mod permits;
mod reader;
mod recorder;
mod resolver;
mod signature;
mod window;

use std::{sync::Arc, time::Duration};

use tokio::{runtime::Handle, sync::watch, task::JoinHandle};

pub use self::resolver::{HostLookup, system_lookup};
use self::{
    client::WebhookClient,
    dispatcher::Dispatcher,
    endpoint::{EndpointDeps, EndpointOptions},
    permits::AttemptPermits,
    recorder::Recorder,
};
use crate::{
    auth::webhook_secret::WebhookSecrets,
    domain::clock::Clock,
    metrics::webhooks::WebhookMetrics,
    outbox::feed::Feed,
    store::{Store, writer::CommitWriter},
};

/// How events are delivered.
pub struct WebhookOptions {
    /// The longest time of an attempt.
    pub timeout: Duration,
    /// The waits between attempts.
    pub retry_schedule: Vec<Duration>,
    /// For how long nothing but failures pauses an endpoint.
    pub pause_after: Duration,
    /// Whether endpoints may have addresses that are not public, and `http`.
    pub allow_private: bool,
    /// Further authorities that may sign certificates, as PEM.
    pub ca_certificates: Option<Vec<u8>>,
    /// The most attempts at the same time, at endpoints that answer.
    pub max_attempts: usize,
    /// Resolves the names of hosts.
    pub lookup: HostLookup,
}

/// What events are delivered with.
pub struct WebhookDeps {
    /// The store.
    pub store: Arc<dyn Store>,
    /// Writes commits to the store.
    pub writer: CommitWriter,
    /// Says what is due.
    pub clock: Arc<dyn Clock>,
    /// New events, as they are read once for all.
    pub feed: Arc<Feed>,
    /// Decrypts the secrets that sign.
    pub secrets: WebhookSecrets,
    /// Counts attempts.
    pub metrics: WebhookMetrics,
}

/// Options that no event can be delivered with.
#[derive(Debug, thiserror::Error)]
pub enum WebhookSetupError {
    /// The certificates are not valid.
    #[error("webhooks.ca_file: {0}")]
    Certificates(String),
    /// The HTTP client cannot be built.
    #[error("failed to set up the HTTP client of webhooks: {0}")]
    Client(String),
}

/// Delivers events until it is stopped.
pub struct WebhookDispatcher {
    stop: watch::Sender<()>,
    task: JoinHandle<()>,
}

impl WebhookDispatcher {
    /// Starts to deliver, on `runtime`.
    ///
    /// # Errors
    /// The options are not valid.
    pub fn start(
        options: WebhookOptions,
        deps: WebhookDeps,
        runtime: &Handle,
    ) -> Result<Self, WebhookSetupError> {
        let client = WebhookClient::new(&options)?;
        let node = uuid::Uuid::from_u128(rand::random());
        let (stop, stopped) = watch::channel(());
        let recorder = Recorder::start(Arc::clone(&deps.store), node, runtime);
        let endpoint_deps = Arc::new(EndpointDeps {
            node,
            store: deps.store,
            writer: deps.writer,
            clock: deps.clock,
            feed: deps.feed,
            secrets: deps.secrets,
            metrics: deps.metrics,
            client,
            recorder,
            permits: AttemptPermits::new(options.max_attempts),
            options: EndpointOptions {
                retry_schedule: options.retry_schedule,
                pause_after: options.pause_after,
            },
        });
        let task = runtime.spawn(Dispatcher::new(endpoint_deps).run(stopped));
        Ok(Self { stop, task })
    }

    /// Stops. Waits for attempts in progress, though not for long.
    pub async fn stop(self) {
        drop(self.stop);
        if self.task.await.is_err() {
            tracing::error!("the webhook dispatcher failed; this is a bug in souk");
        }
    }
}
