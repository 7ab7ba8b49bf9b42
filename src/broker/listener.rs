//! Hears of what other nodes have done, from a queue of this node's own.

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

use super::{
    BrokerError, BrokerSession, message,
    topology::{self, EVENT_EXCHANGE},
    with_timeout,
};
use crate::cache::follower::Follower;

/// Most messages on their way to this node.
const PREFETCH: u16 = 1000;

/// Most messages that wait for it at the broker. What was thrown away is noticed, and read from the store.
const MAX_QUEUE_LENGTH: i32 = 100_000;

/// Messages taken in together.
const BATCH_SIZE: usize = 256;

/// Tells the follower that news are delivered, as long as it lives.
struct DeliveryGuard<'a>(&'a Follower);

impl<'a> DeliveryGuard<'a> {
    fn new(follower: &'a Follower) -> Self {
        follower.link(true);
        Self(follower)
    }
}

impl Drop for DeliveryGuard<'_> {
    fn drop(&mut self) {
        self.0.link(false);
    }
}

/// Hands the events of all nodes to `follower` as long as the connection lasts.
pub(super) async fn consume_events(
    follower: &Follower,
    session: BrokerSession,
) -> Result<(), BrokerError> {
    let mut deliveries = open_consumer(&session).await?;
    let (_working, _hearing) = (session.mark_ready(), DeliveryGuard::new(follower));
    loop {
        let first = deliveries.next().await.ok_or(BrokerError::ConnectionLost)??;
        let mut together = vec![first];
        while together.len() < BATCH_SIZE
            && let Some(next) = deliveries.next().now_or_never()
        {
            together.push(next.ok_or(BrokerError::ConnectionLost)??);
        }
        deliver_batch(follower, together).await?;
    }
}

async fn deliver_batch(follower: &Follower, together: Vec<Delivery>) -> Result<(), BrokerError> {
    let last = together.last().map(|delivery| delivery.acker.clone());
    follower.hear(together.into_iter().filter_map(message::event_from_delivery).collect()).await;
    if let Some(last) = last {
        with_timeout(last.ack(BasicAckOptions { multiple: true })).await?;
    }
    Ok(())
}

async fn open_consumer(session: &BrokerSession) -> Result<Consumer, BrokerError> {
    let channel = session.open_channel().await?;
    topology::declare_exchanges(&channel).await?;
    with_timeout(channel.basic_qos(PREFETCH, BasicQosOptions::default())).await?;
    let own = QueueDeclareOptions {
        exclusive: true,
        auto_delete: true,
        ..QueueDeclareOptions::default()
    };
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(MAX_QUEUE_LENGTH));
    let queue =
        with_timeout(channel.queue_declare("".into(), own, arguments)).await?.name().clone();
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
