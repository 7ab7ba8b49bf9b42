//! What other systems are kept events for, and what they ask for by message, done by the same actors as everything else.

use std::{sync::Arc, time::Duration};

use actix::Addr;
use async_trait::async_trait;

use crate::{
    actors::{ask::ask, catalog::CatalogActor},
    broker::{AdjustStock, BrokerUri, CommandHandler, InvalidBrokerUri, Subscription},
    config::{self, BrokerKind, Settings},
    error::Error,
    messages::{
        catalog::{ApplyStockCommand, StockCommandOutcome},
        change::{Ticket, TraceParent},
    },
    store::Store,
};

/// Hands commands over to the catalog.
pub(super) struct CatalogCommandHandler {
    pub(super) catalog: Addr<CatalogActor>,
    pub(super) store: Arc<dyn Store>,
    /// How long one try may take.
    pub(super) timeout: Duration,
}

#[async_trait]
impl CommandHandler for CatalogCommandHandler {
    async fn is_ready(&self) -> bool {
        self.store.ping().await.is_ok()
    }

    async fn execute(&self, command: AdjustStock, trace: Option<TraceParent>) -> Result<(), Error> {
        let AdjustStock { id, product, stock, reason, reference } = command;
        let ticket = Ticket::new(self.timeout);
        let message = ApplyStockCommand {
            id,
            product,
            stock_change: stock,
            reason,
            reference,
            ticket: ticket.clone(),
            trace,
        };
        if ask(&self.catalog, message, &ticket).await? == StockCommandOutcome::Duplicate {
            tracing::debug!("a command was delivered again; it had been carried out");
        }
        Ok(())
    }
}

/// Where the broker is, when there is to be one.
///
/// # Errors
/// The setting is no connection string.
pub fn broker_uri(settings: &Settings) -> Result<Option<BrokerUri>, InvalidBrokerUri> {
    match (settings.broker.kind, &settings.broker.uri) {
        (BrokerKind::Rabbitmq, Some(uri)) => BrokerUri::parse(uri).map(Some),
        _ => Ok(None),
    }
}

/// The queues that the settings name.
pub(super) fn subscriptions(settings: &Settings) -> Vec<Subscription> {
    let subscription = |wanted: &config::SubscriptionSettings| Subscription {
        queue: wanted.queue.clone(),
        bindings: wanted.bindings.clone(),
    };
    settings.broker.subscription.iter().map(subscription).collect()
}
