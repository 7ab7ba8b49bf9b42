//! Elects the node that publishes.
//!
//! The broker elects the node that publishes. Every node tries to declare the queue
//! [`LEADER_QUEUE`] as exclusive. The broker grants an exclusive queue to one connection, answers
//! `RESOURCE_LOCKED` to all others, and deletes the queue when that connection ends, however it
//! ends. So there is never more than one leader, and a dead one is noticed by the broker.
//!
//! The same queue carries the wakeups. The other nodes send an empty message to it when they have
//! committed events. They send it as `mandatory`: when the broker returns it, the queue does not
//! exist, so there is no leader, and the node tries to become it.

use lapin::{
    BasicProperties, Channel, Confirmation, Consumer, ErrorKind,
    options::{BasicConsumeOptions, BasicPublishOptions, QueueDeclareOptions, QueueDeleteOptions},
    protocol::{AMQPErrorKind, AMQPSoftError},
    types::{AMQPValue, FieldTable},
};

use super::{BrokerError, BrokerSession, with_timeout};

/// The exclusive queue whose owner is the leader.
const LEADER_QUEUE: &str = "souk.relay";

/// Sends a wakeup to the leader. Returns false when there is no leader.
pub(super) async fn wake_leader(channel: &Channel) -> Result<bool, BrokerError> {
    let mandatory = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let confirm = with_timeout(channel.basic_publish(
        "".into(),
        LEADER_QUEUE.into(),
        mandatory,
        &[],
        BasicProperties::default(),
    ))
    .await?;
    // `Ack(Some(_))` carries the message that the broker returned as undeliverable.
    let is_undelivered =
        matches!(with_timeout(confirm).await?, Confirmation::Ack(Some(_)) | Confirmation::Nack(_));
    Ok(!is_undelivered)
}

/// Tries to become the leader. Returns `None` when another node was faster.
///
/// The events are published on the channel that consumes the queue. The broker therefore ends
/// that channel, with all that was published on it, before the queue is free for another node.
pub(super) async fn try_lead(
    session: &BrokerSession,
) -> Result<Option<(Channel, Consumer)>, BrokerError> {
    let channel = session.open_channel().await?;
    let exclusive = QueueDeclareOptions {
        exclusive: true,
        auto_delete: true,
        ..QueueDeclareOptions::default()
    };
    let mut arguments = FieldTable::default();
    // One wakeup is as good as many.
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(1));
    match with_timeout(channel.queue_declare(LEADER_QUEUE.into(), exclusive, arguments)).await {
        Ok(_) => {}
        Err(error) if is_resource_locked(&error) => return Ok(None),
        Err(error) => return Err(error),
    }
    let options =
        BasicConsumeOptions { no_ack: true, exclusive: true, ..BasicConsumeOptions::default() };
    match with_timeout(channel.basic_consume(
        LEADER_QUEUE.into(),
        "".into(),
        options,
        FieldTable::default(),
    ))
    .await
    {
        Ok(wakeups) => Ok(Some((channel, wakeups))),
        Err(error) => {
            // While the queue exists, all nodes assume that there is a leader. It never had a
            // consumer, so the broker would keep it until this connection ends.
            let channel = session.open_channel().await?;
            with_timeout(channel.queue_delete(LEADER_QUEUE.into(), QueueDeleteOptions::default()))
                .await?;
            Err(error)
        }
    }
}

fn is_resource_locked(error: &BrokerError) -> bool {
    let BrokerError::Amqp(error) = error else { return false };
    let ErrorKind::ProtocolError(error) = error.kind() else { return false };
    matches!(error.kind(), AMQPErrorKind::Soft(AMQPSoftError::RESOURCELOCKED))
}
