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
    BrokerError, Session, message, step,
    topology::{self, EVENTS},
};
use crate::cache::follower::Follower;

/// Most messages on their way to this node.
const PREFETCH: u16 = 1000;

/// Most messages that wait for it at the broker. What was thrown away is noticed, and read from the store.
const BACKLOG: i32 = 100_000;

/// Messages taken in together.
const TOGETHER: usize = 256;

/// Tells the follower that news are delivered, as long as it lives.
struct Hearing<'a>(&'a Follower);

impl<'a> Hearing<'a> {
    fn begin(follower: &'a Follower) -> Self {
        follower.link(true);
        Self(follower)
    }
}

impl Drop for Hearing<'_> {
    fn drop(&mut self) {
        self.0.link(false);
    }
}

/// Hands the events of all nodes to `follower` as long as the connection lasts.
pub(super) async fn work(follower: &Follower, session: Session) -> Result<(), BrokerError> {
    let mut deliveries = listen(&session).await?;
    let (_working, _hearing) = (session.working(), Hearing::begin(follower));
    loop {
        let first = deliveries.next().await.ok_or(BrokerError::Lost)??;
        let mut together = vec![first];
        while together.len() < TOGETHER
            && let Some(next) = deliveries.next().now_or_never()
        {
            together.push(next.ok_or(BrokerError::Lost)??);
        }
        take(follower, together).await?;
    }
}

async fn take(follower: &Follower, together: Vec<Delivery>) -> Result<(), BrokerError> {
    let last = together.last().map(|delivery| delivery.acker.clone());
    follower.hear(together.into_iter().filter_map(message::event).collect()).await;
    if let Some(last) = last {
        step(last.ack(BasicAckOptions { multiple: true })).await?;
    }
    Ok(())
}

async fn listen(session: &Session) -> Result<Consumer, BrokerError> {
    let channel = session.channel().await?;
    topology::declare(&channel).await?;
    step(channel.basic_qos(PREFETCH, BasicQosOptions::default())).await?;
    let own = QueueDeclareOptions {
        exclusive: true,
        auto_delete: true,
        ..QueueDeclareOptions::default()
    };
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(BACKLOG));
    let queue = step(channel.queue_declare("".into(), own, arguments)).await?.name().clone();
    let bind = channel.queue_bind(
        queue.clone(),
        EVENTS.into(),
        "#".into(),
        QueueBindOptions::default(),
        FieldTable::default(),
    );
    step(bind).await?;
    let options = BasicConsumeOptions { exclusive: true, ..BasicConsumeOptions::default() };
    step(channel.basic_consume(queue, "".into(), options, FieldTable::default())).await
}
