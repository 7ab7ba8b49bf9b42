//! Receives the events of all nodes, from a queue of this node's own, and gives them to the
//! follower, which updates the caches.

use std::sync::Arc;

use futures_util::{FutureExt, StreamExt};
use lapin::{
    Consumer,
    message::Delivery,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueBindOptions,
        QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable},
};
use tracing::Span;

use super::{
    BrokerError, BrokerSession, ManagedConnection,
    event_message::{event_from_delivery, trace_context},
    exchanges::{self, EVENT_EXCHANGE},
    with_timeout,
};
use crate::{
    cache::follower::Follower, messages::trace_parent::TraceParent, telemetry::trace::root_span,
};

/// Most messages that the broker sends ahead of the acknowledgments.
const PREFETCH: u16 = 1000;

/// Most messages in this node's queue. Beyond it, the broker drops the oldest. The follower
/// notices the gap and reads the missing events from the store.
const MAX_QUEUE_LENGTH: i32 = 100_000;

/// Most messages that are applied and acknowledged together.
const BATCH_SIZE: usize = 256;

/// Tells the follower that events are delivered, until it is dropped.
struct DeliveryGuard<'a>(&'a Follower);

impl<'a> DeliveryGuard<'a> {
    fn new(follower: &'a Follower) -> Self {
        follower.set_broker_connected(true);
        Self(follower)
    }
}

impl Drop for DeliveryGuard<'_> {
    fn drop(&mut self) {
        self.0.set_broker_connected(false);
    }
}

/// Consumes events until `connection` is closed.
pub(super) async fn run(follower: Arc<Follower>, connection: Arc<ManagedConnection>) {
    connection.supervise("event_consumer", |session| consume_session(&follower, session)).await;
}

async fn consume_session(follower: &Follower, session: BrokerSession) -> Result<(), BrokerError> {
    let mut deliveries = open_consumer(&session).await?;
    let (_ready_guard, _delivery_guard) = (session.mark_ready(), DeliveryGuard::new(follower));
    loop {
        let first = deliveries.next().await.ok_or(BrokerError::ConnectionLost)??;
        let mut batch = vec![first];
        while batch.len() < BATCH_SIZE
            && let Some(next) = deliveries.next().now_or_never()
        {
            batch.push(next.ok_or(BrokerError::ConnectionLost)??);
        }
        deliver_batch(follower, batch).await?;
    }
}

async fn deliver_batch(follower: &Follower, batch: Vec<Delivery>) -> Result<(), BrokerError> {
    // They end when the caches have the events and the broker has the acknowledgment.
    let _spans: Vec<Span> = batch.iter().filter_map(process_span).collect();
    let last = batch.last().map(|delivery| delivery.acker.clone());
    follower.receive(batch.into_iter().filter_map(event_from_delivery).collect()).await;
    if let Some(last) = last {
        with_timeout(last.ack(BasicAckOptions { multiple: true })).await?;
    }
    Ok(())
}

/// The span of an event whose trace is recorded.
fn process_span(delivery: &Delivery) -> Option<Span> {
    let publisher = trace_context(delivery).filter(TraceParent::is_sampled)?;
    let span = root_span!(
        Some(&publisher),
        "process",
        otel.name = "process souk.events",
        otel.kind = "consumer",
        messaging.system = "rabbitmq",
        messaging.operation.type = "process",
        messaging.destination.name = EVENT_EXCHANGE,
        messaging.rabbitmq.destination.routing_key = delivery.routing_key.as_str(),
    );
    Some(span)
}

async fn open_consumer(session: &BrokerSession) -> Result<Consumer, BrokerError> {
    let channel = session.open_channel().await?;
    exchanges::declare_exchanges(&channel).await?;
    with_timeout(channel.basic_qos(PREFETCH, BasicQosOptions::default())).await?;
    // The queue ends with the connection: a node that starts loads its caches from the store.
    let temporary = QueueDeclareOptions {
        exclusive: true,
        auto_delete: true,
        ..QueueDeclareOptions::default()
    };
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(MAX_QUEUE_LENGTH));
    let queue =
        with_timeout(channel.queue_declare("".into(), temporary, arguments)).await?.name().clone();
    let bind = channel.queue_bind(
        queue.clone(),
        EVENT_EXCHANGE.into(),
        "#".into(),
        QueueBindOptions::default(),
        FieldTable::default(),
    );
    with_timeout(bind).await?;
    let options = BasicConsumeOptions { exclusive: true, ..BasicConsumeOptions::default() };
    with_timeout(channel.basic_consume(queue, "".into(), options, FieldTable::default())).await
}
