//! Connects the broker to the settings and to the actors.

use std::{sync::Arc, time::Duration};

use actix::Addr;
use async_trait::async_trait;

use super::node_context::NodeContext;
use crate::{
    actors::{ask::ask, catalog::CatalogActor},
    broker::{AdjustStock, BrokerDeps, BrokerUri, CommandHandler, InvalidBrokerUri, Subscription},
    config::{BrokerKind, Settings, SubscriptionSettings},
    error::Error,
    messages::{
        catalog::{ApplyStockCommand, StockCommandOutcome},
        command_context::{Ticket, TraceParent},
    },
    store::Store,
};

/// The broker's address from the settings, or `None` when no broker is configured.
///
/// # Errors
/// `broker.uri` is not a valid connection string.
pub fn broker_uri(settings: &Settings) -> Result<Option<BrokerUri>, InvalidBrokerUri> {
    match (settings.broker.kind, &settings.broker.uri) {
        (BrokerKind::Rabbitmq, Some(uri)) => BrokerUri::parse(uri).map(Some),
        _ => Ok(None),
    }
}

/// What the broker needs from a node.
pub(super) fn broker_deps(
    uri: BrokerUri,
    settings: &Settings,
    context: &NodeContext,
    catalog: &Addr<CatalogActor>,
) -> BrokerDeps {
    let command_handler = CatalogCommandHandler {
        catalog: catalog.clone(),
        store: Arc::clone(&context.store),
        timeout: settings.http.request_timeout,
    };
    BrokerDeps {
        uri,
        store: Arc::clone(&context.store),
        outbox_notify: Arc::clone(&context.listeners.outbox_notify),
        follower: context.follower.clone(),
        subscriptions: settings.broker.subscription.iter().map(subscription).collect(),
        command_handler: Arc::new(command_handler),
    }
}

fn subscription(settings: &SubscriptionSettings) -> Subscription {
    Subscription { queue: settings.queue.clone(), bindings: settings.bindings.clone() }
}

/// Passes the commands of other systems to the catalog, like requests from HTTP.
struct CatalogCommandHandler {
    catalog: Addr<CatalogActor>,
    store: Arc<dyn Store>,
    /// The time limit of one attempt.
    timeout: Duration,
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
            tracing::debug!("ignored a command that was applied before");
        }
        Ok(())
    }
}
