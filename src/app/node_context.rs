//! What all components of a node share.

use std::sync::Arc;

use anyhow::Context as _;
use tokio::{runtime::Handle, task::JoinHandle};

use super::{
    commit_listeners::{CommitListeners, LocalCommitObserver},
    resources::open_store,
};
use crate::{
    cache::follower::Follower,
    config::Settings,
    domain::clock::{Clock, SystemClock},
    metrics::Metrics,
    payments::{
        PaymentProvider,
        stripe::{Stripe, StripeOptions},
    },
    store::{Store, observed::ObservedStore, writer::CommitWriter},
};

/// What every component of a node is built from.
pub(super) struct NodeContext {
    pub(super) store: Arc<dyn Store>,
    pub(super) writer: CommitWriter,
    pub(super) listeners: Arc<CommitListeners>,
    /// Follows the commits of other nodes, when the store is shared.
    pub(super) follower: Option<Arc<Follower>>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Metrics,
    /// Whether mails are recorded.
    pub(super) sends_mail: bool,
    /// The payment provider, if one is set up.
    pub(super) provider: Option<Arc<dyn PaymentProvider>>,
}

impl NodeContext {
    /// Opens the store, fills the caches and starts the writer, whose task it returns.
    pub(super) async fn start(
        settings: &Settings,
        drivers: &Handle,
    ) -> anyhow::Result<(Self, JoinHandle<()>)> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let metrics = Metrics::new();
        let store =
            open_store(settings, drivers, Arc::clone(&clock), metrics.store.clone()).await?;
        let store: Arc<dyn Store> = Arc::new(ObservedStore::new(store, metrics.store.clone()));
        let listeners = Arc::new(CommitListeners::new(settings));
        // The follower starts before the caches load. What other nodes commit meanwhile may be
        // applied twice, which is harmless, but cannot be missed.
        let follower = match store.is_shared() {
            true => {
                let (catalog, rights) = (&listeners.catalog_cache, &listeners.account_rights);
                let rules = &listeners.pricing_rules;
                Some(Follower::new(&store, &listeners, catalog, rights, rules, &clock).await?)
            }
            false => None,
        };
        listeners.catalog_cache.load(&*store).await?;
        listeners.account_rights.load(&*store).await?;
        listeners.pricing_rules.load(&*store).await?;
        listeners.revoked_sessions.load(&*store, clock.now()).await?;
        let observer = LocalCommitObserver::new(&listeners, follower.clone());
        let (writer, writer_task) =
            CommitWriter::start(drivers, Arc::clone(&store), Arc::new(observer));
        let provider = payment_provider(settings)?;
        let sends_mail = settings.mail.uri.is_some();
        let context =
            Self { store, writer, listeners, follower, clock, metrics, sends_mail, provider };
        Ok((context, writer_task))
    }
}

fn payment_provider(settings: &Settings) -> anyhow::Result<Option<Arc<dyn PaymentProvider>>> {
    let stripe = &settings.payments.stripe;
    let (Some(secret_key), Some(webhook_secret)) = (&stripe.secret_key, &stripe.webhook_secret)
    else {
        return Ok(None);
    };
    let options = StripeOptions {
        secret_key: secret_key.clone(),
        webhook_secret: webhook_secret.clone(),
        api_base: stripe.api_base.clone(),
        currency: settings.shop.currency,
    };
    let stripe = Stripe::new(options).context("failed to set up TLS for Stripe")?;
    Ok(Some(Arc::new(stripe)))
}
