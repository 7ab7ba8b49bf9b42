//! RabbitMQ: publishes events to other systems and nodes, and receives commands and events.
//!
//! - `relay` publishes the outbox, on one node at a time; `publisher` is its
//!   channel with confirms.
//! - `event_consumer` gives the events of all nodes to this node's caches.
//! - `command_consumer` executes the commands of other systems; `command` parses them and
//!   `dead_letters` keeps those that fail.
//! - `exchanges` and `queues` declare exchanges and queues; `asyncapi` documents them.
//! - `connection` keeps the connections up and restarts the work on them.

pub mod asyncapi;
mod command;
mod command_consumer;
mod connection;
mod dead_letters;
mod error;
mod event_consumer;
mod event_message;
mod exchanges;
mod leader_election;
mod publisher;
mod queues;
mod relay;
mod status;
mod uri;

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::{
    runtime::Handle,
    sync::{Notify, watch},
    task::JoinHandle,
    time::timeout,
};

pub use self::{
    command::AdjustStock,
    command_consumer::CommandHandler,
    connection::{BrokerSession, ManagedConnection, ReadyGuard},
    error::{BrokerError, with_timeout},
    exchanges::{DEAD_LETTER_EXCHANGE, EVENT_EXCHANGE},
    queues::Subscription,
    status::BrokerStatus,
    uri::{BrokerUri, InvalidBrokerUri},
};
use self::{
    command_consumer::CommandConsumer,
    relay::{Relay, RelayDeps},
};
use crate::{cache::follower::Follower, events::OutboxCursor, store::Store};

/// How long a stopping node may take to publish the last events it committed.
const FINAL_PUBLISH_TIMEOUT: Duration = Duration::from_secs(3);

/// What the broker's side of a node needs from the rest of the node.
pub struct BrokerDeps {
    /// Address and credentials of the broker.
    pub uri: BrokerUri,
    /// The store whose outbox is published.
    pub store: Arc<dyn Store>,
    /// Notified when this node has committed events.
    pub outbox_notify: Arc<Notify>,
    /// Receives the events of all nodes, when several share the store.
    pub follower: Option<Arc<Follower>>,
    /// Queues to declare for other systems.
    pub subscriptions: Vec<Subscription>,
    /// Executes the commands of other systems.
    pub command_handler: Arc<dyn CommandHandler>,
}

/// The broker's side of a running node: its connections and the tasks on them.
pub struct Broker {
    status: Arc<BrokerStatus>,
    store: Arc<dyn Store>,
    confirmed_cursor: watch::Receiver<OutboxCursor>,
    stopping: watch::Sender<bool>,
    publish_connection: Arc<ManagedConnection>,
    relay_task: JoinHandle<()>,
    background_tasks: Vec<JoinHandle<()>>,
}

impl Broker {
    /// Starts to connect, to publish and to consume, on `runtime`, which must outlive the broker.
    /// Does not wait for the broker: the tasks do, as long as it takes.
    #[must_use]
    pub fn start(deps: BrokerDeps, runtime: &Handle) -> Self {
        let BrokerDeps { uri, store, outbox_notify, follower, subscriptions, command_handler } =
            deps;
        // Everything below spawns its task on the current runtime.
        let _runtime_guard = runtime.enter();

        // A message that is not valid AMQP closes the connection that receives it. Commands come
        // from other systems, so they have a connection of their own: such a message must not
        // stop the events between the nodes.
        let publish_connection = ManagedConnection::start_for_publishing(uri.clone(), "publishing");
        let command_connection = ManagedConnection::start(uri.clone(), "commands");
        let mut connections =
            vec![Arc::clone(&publish_connection), Arc::clone(&command_connection)];
        let mut background_tasks = Vec::new();

        if let Some(follower) = follower {
            let connection = ManagedConnection::start(uri, "consuming");
            connections.push(Arc::clone(&connection));
            // Nothing is delivered before the consumer is there, so reads check the store.
            follower.set_broker_connected(false);
            background_tasks.push(tokio::spawn(event_consumer::run(follower, connection)));
        }
        let consumer = CommandConsumer {
            handler: command_handler,
            publish_connection: Arc::clone(&publish_connection),
        };
        background_tasks.push(tokio::spawn(consumer.run(command_connection)));

        let status = Arc::new(BrokerStatus::new(connections));
        let (stopping, stopping_receiver) = watch::channel(false);
        let relay = Relay::new(RelayDeps {
            store: Arc::clone(&store),
            outbox_notify,
            status: Arc::clone(&status),
            stopping: stopping_receiver,
            subscriptions,
        });
        let confirmed_cursor = relay.confirmed_cursor();
        background_tasks.push(tokio::spawn(relay::save_confirmed_cursors(
            Arc::clone(&store),
            confirmed_cursor.clone(),
        )));
        let relay_task = tokio::spawn(relay.run(Arc::clone(&publish_connection)));

        Self {
            status,
            store,
            confirmed_cursor,
            stopping,
            publish_connection,
            relay_task,
            background_tasks,
        }
    }

    /// The state of the broker's side, for health checks and metrics.
    #[must_use]
    pub const fn status(&self) -> &Arc<BrokerStatus> {
        &self.status
    }

    /// Publishes the last events, if this node is the one that publishes, and disconnects.
    ///
    /// Call this when no more commits can come, and before the store is closed.
    pub async fn stop(mut self) {
        self.stopping.send_replace(true);
        if self.publish_connection.is_up()
            && timeout(FINAL_PUBLISH_TIMEOUT, &mut self.relay_task).await.is_err()
        {
            tracing::warn!(
                "failed to publish all events in time; the next node that publishes continues"
            );
        }
        self.relay_task.abort();
        self.background_tasks.iter().for_each(JoinHandle::abort);
        let cursor = self.confirmed_cursor.borrow().clone();
        if let Err(error) = self.store.mark_published(&cursor).await {
            tracing::warn!(
                %error,
                %cursor,
                "failed to save the publish cursor; some events will be published again"
            );
        }
        join_all(self.status.connections().iter().map(|connection| connection.close())).await;
    }
}
