//! RabbitMQ: what goes out to other systems and nodes, and what comes in from them.

pub mod asyncapi;
mod command;
mod connection;
mod dead_letters;
mod inbound;
mod listener;
mod message;
mod publisher;
mod queues;
mod relay;
mod topology;
mod uri;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use tokio::{
    runtime::Handle,
    sync::{Notify, watch},
    task::JoinHandle,
    time::timeout,
};

pub use self::{
    command::AdjustStock,
    connection::{BrokerSession, ManagedConnection, ReadyGuard},
    inbound::CommandHandler,
    queues::Subscription,
    topology::{DEAD_LETTER_EXCHANGE, EVENT_EXCHANGE},
    uri::{BrokerUri, InvalidBrokerUri},
};
use self::{inbound::CommandConsumer, relay::Relay};
use crate::{cache::follower::Follower, store::Store};

/// The longest that one step, a question and its answer, may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a node that stops may take to publish what it has committed.
const FINAL_PUBLISH_TIMEOUT: Duration = Duration::from_secs(3);

/// A step that was not done.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// No answer in time. What was asked for may have been done.
    #[error("the broker did not answer in time")]
    Timeout,
    /// The broker or the network says no.
    #[error("{0}")]
    Amqp(#[from] lapin::Error),
    /// What it was asked of is gone.
    #[error("the connection was lost")]
    ConnectionLost,
    /// The broker has not taken the event at this place.
    #[error("the broker has not taken event {0}")]
    EventRejected(u64),
    /// The event at this place has no subject, which is a fault in souk.
    #[error("event {0} cannot be read, which is a fault in souk")]
    UnreadableEvent(u64),
    /// A command cannot be carried out for now, and was given back to the broker.
    #[error("a command cannot be carried out for now ({0}) and was given back")]
    CommandRequeued(&'static str),
    /// A panic, which is a fault in souk.
    #[error("it panicked, which is a fault in souk")]
    Panicked,
    /// The store does not tell what is to be published.
    #[error("the store does not answer; another node may publish meanwhile")]
    StoreUnavailable,
    /// A queue that should be there does not take a message.
    #[error("the queue {0} is not there, or does not take a message")]
    QueueRejected(String),
}

/// Waits for a step, within its time.
///
/// # Errors
/// The step failed, or took too long.
pub async fn with_timeout<T>(
    step: impl Future<Output = lapin::Result<T>>,
) -> Result<T, BrokerError> {
    timeout(STEP_TIMEOUT, step).await.map_err(|_| BrokerError::Timeout)?.map_err(BrokerError::from)
}

/// How it stands with the broker, for operators.
pub struct BrokerStatus {
    connections: Vec<Arc<ManagedConnection>>,
    is_leader: AtomicBool,
    published: AtomicU64,
}

impl BrokerStatus {
    /// Whether all connections are there, and the work is done on each: the broker may answer, and yet refuse what is needed.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connections.iter().all(|link| link.is_ready())
    }

    /// Whether this node is the one that publishes.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.is_leader.load(Ordering::Relaxed)
    }

    /// Events that this node has published since it began, repeats included.
    #[must_use]
    pub fn published_count(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }

    fn set_leader(&self, is_relay: bool) {
        self.is_leader.store(is_relay, Ordering::Relaxed);
    }

    fn count_published(&self) {
        self.published.fetch_add(1, Ordering::Relaxed);
    }
}

/// What a broker's side of a node works with.
pub struct BrokerDeps {
    /// Where the broker is.
    pub uri: BrokerUri,
    /// Whose outbox is published.
    pub store: Arc<dyn Store>,
    /// Rung when this node has committed events.
    pub outbox_notify: Arc<Notify>,
    /// Who hears of other nodes, when there are any.
    pub follower: Option<Arc<Follower>>,
    /// Queues that are kept for other systems.
    pub subscriptions: Vec<Subscription>,
    /// Who does what other systems ask for.
    pub command_handler: Arc<dyn CommandHandler>,
}

/// The broker's side of a running node.
pub struct Broker {
    status: Arc<BrokerStatus>,
    store: Arc<dyn Store>,
    confirmed_position: watch::Receiver<u64>,
    stopping: watch::Sender<bool>,
    publish_connection: Arc<ManagedConnection>,
    relay_task: JoinHandle<()>,
    background_tasks: Vec<JoinHandle<()>>,
}

impl Broker {
    /// Begins to connect, to publish and to listen, on `runtime`, which has to outlive it. A broker that is away is waited for
    /// meanwhile.
    #[must_use]
    pub fn start(parts: BrokerDeps, runtime: &Handle) -> Self {
        let BrokerDeps {
            uri,
            store,
            outbox_notify: bell,
            follower,
            subscriptions,
            command_handler: hands,
        } = parts;
        let _there = runtime.enter();
        // Commands have one of their own: what another system sends, and no connection survives, does not cut a node off from the news.
        let [publishing, commands] =
            ["publishing", "commands"].map(|name| ManagedConnection::start(uri.clone(), name));
        let listening =
            follower.map(|follower| (follower, ManagedConnection::start(uri, "consuming")));
        let consuming = listening.as_ref().map(|(_, consuming)| Arc::clone(consuming));
        let links =
            [Arc::clone(&publishing), Arc::clone(&commands)].into_iter().chain(consuming).collect();
        let status = Arc::new(BrokerStatus {
            connections: links,
            is_leader: AtomicBool::new(false),
            published: AtomicU64::new(0),
        });
        let (stopping, stops) = watch::channel(false);
        let (done, mut is_done) = watch::channel(false);
        let (confirms, confirmed) = watch::channel(0);
        let inbound =
            CommandConsumer { handler: hands, publish_connection: Arc::clone(&publishing) };
        let inbound = runtime.spawn(inbound.run(commands));
        let relay = Arc::new(Relay {
            store: Arc::clone(&store),
            outbox_notify: bell,
            status: Arc::clone(&status),
            confirmed_position: confirms,
            stopping: stops,
            drained: done,
            last_rejected: AtomicU64::new(0),
            subscriptions,
        });
        let publishes = Arc::clone(&publishing);
        let relay = runtime.spawn(async move {
            let work = |session| {
                let relay = Arc::clone(&relay);
                async move { relay.run(session).await }
            };
            tokio::select! {
                () = publishes.supervise("relay", work) => {}
                _ = is_done.wait_for(|done| *done) => {}
            }
        });
        let notes =
            runtime.spawn(Relay::save_confirmed_positions(Arc::clone(&store), confirmed.clone()));
        let listener = listening.map(|(follower, consuming)| {
            // Until there is a connection, nothing is delivered.
            follower.link(false);
            runtime.spawn(async move {
                let work = |session| {
                    let follower = Arc::clone(&follower);
                    async move { listener::consume_events(&follower, session).await }
                };
                consuming.supervise("listener", work).await;
            })
        });
        Self {
            status,
            store,
            confirmed_position: confirmed,
            stopping,
            publish_connection: publishing,
            relay_task: relay,
            background_tasks: [notes, inbound].into_iter().chain(listener).collect(),
        }
    }

    /// How it stands with it.
    #[must_use]
    pub const fn status(&self) -> &Arc<BrokerStatus> {
        &self.status
    }

    /// Publishes what this node has committed, if it is the one that publishes, and closes the connections. To be called when nothing
    /// is committed any more, and before the store is closed.
    pub async fn stop(mut self) {
        self.stopping.send_replace(true);
        if self.publish_connection.is_up()
            && timeout(FINAL_PUBLISH_TIMEOUT, &mut self.relay_task).await.is_err()
        {
            tracing::warn!(
                "not all events were published; the next node that publishes goes on with them"
            );
        }
        self.relay_task.abort();
        self.background_tasks.iter().for_each(JoinHandle::abort);
        let position = *self.confirmed_position.borrow();
        if position > 0 && self.store.mark_published(position).await.is_err() {
            tracing::warn!(
                "it could not be noted how far events were published; some will be published again"
            );
        }
        join_all(self.status.connections.iter().map(|link| link.close())).await;
    }
}
