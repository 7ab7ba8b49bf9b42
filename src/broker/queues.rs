//! The durable queues: those of the subscriptions, the one for commands, and one for the dead letters of each.

use lapin::{
    ErrorKind,
    options::{QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};

use super::{
    BrokerError, BrokerSession,
    topology::{self, DEAD_LETTER_EXCHANGE, EVENT_EXCHANGE},
    with_timeout,
};

/// Where other systems send their commands.
pub(super) const COMMAND_QUEUE: &str = "souk.inventory.commands";

/// After so many deliveries that came to nothing the broker puts a message of a subscription aside itself.
const DELIVERY_LIMIT: i64 = 20;

/// The same for a dead letter, which nobody keeps when it is gone: RabbitMQ 4 would throw it away the 21st time that somebody looks at it.
const DEAD_LETTER_DELIVERY_LIMIT: i64 = 1_000_000_000;

/// The same for a command, whose deliveries are used up while a store cannot be written, too.
const COMMAND_DELIVERY_LIMIT: i64 = 100;

/// A durable queue for another system.
#[derive(Debug, Clone)]
pub struct Subscription {
    /// Its name.
    pub queue: String,
    /// Which events it gets.
    pub bindings: Vec<String>,
}

/// The queue for what nobody could take from `queue`.
#[must_use]
pub(super) fn dead_letter_queue(queue: &str) -> String {
    format!("{queue}.dead")
}

/// Makes and binds the queues of subscriptions. One that cannot be made as it should be is told in the log, and else left as it is.
///
/// # Errors
/// The broker does not answer.
pub(super) async fn declare_subscriptions(
    session: &BrokerSession,
    subscriptions: &[Subscription],
) -> Result<(), BrokerError> {
    topology::declare_exchanges(&session.open_channel().await?).await?;
    for Subscription { queue, bindings } in subscriptions {
        declare_with_dead_letters(session, queue, DELIVERY_LIMIT, &[], bindings).await?;
    }
    Ok(())
}

/// Makes the queue for commands. When it cannot be made as it should be, that is told in the log, and it is left as it is.
///
/// # Errors
/// The broker does not answer.
pub(super) async fn declare_commands(session: &BrokerSession) -> Result<(), BrokerError> {
    topology::declare_exchanges(&session.open_channel().await?).await?;
    // One consumer at a time, so that commands are carried out in the queue's order.
    let one_at_a_time = [("x-single-active-consumer", AMQPValue::Boolean(true))];
    declare_with_dead_letters(session, COMMAND_QUEUE, COMMAND_DELIVERY_LIMIT, &one_at_a_time, &[])
        .await
}

/// Makes a queue that keeps what it has: on disk, on most brokers of a cluster, and what nobody could take in a queue beside it.
async fn declare_with_dead_letters(
    session: &BrokerSession,
    queue: &str,
    deliveries: i64,
    more: &[(&'static str, AMQPValue)],
    bindings: &[String],
) -> Result<(), BrokerError> {
    let text = |text: &str| AMQPValue::LongString(text.into());
    let quorum = ("x-queue-type", text("quorum"));
    // Its own first: what it is for must not be lost on the way there.
    declare_and_bind(
        session,
        &dead_letter_queue(queue),
        [&quorum, &("x-delivery-limit", AMQPValue::LongLongInt(DEAD_LETTER_DELIVERY_LIMIT))],
        DEAD_LETTER_EXCHANGE,
        &[queue.to_owned()],
    )
    .await?;
    let arguments = [
        ("x-dead-letter-exchange", text(DEAD_LETTER_EXCHANGE)),
        ("x-dead-letter-routing-key", text(queue)),
        ("x-dead-letter-strategy", text("at-least-once")),
        // Without it the broker does not honour that strategy.
        ("x-overflow", text("reject-publish")),
        ("x-delivery-limit", AMQPValue::LongLongInt(deliveries)),
    ];
    declare_and_bind(
        session,
        queue,
        [&quorum].into_iter().chain(&arguments).chain(more),
        EVENT_EXCHANGE,
        bindings,
    )
    .await
}

async fn declare_and_bind(
    session: &BrokerSession,
    queue: &str,
    arguments: impl IntoIterator<Item = &(&'static str, AMQPValue)>,
    exchange: &str,
    bindings: &[String],
) -> Result<(), BrokerError> {
    // Of its own, since a refusal ends it.
    let channel = session.open_channel().await?;
    let mut table = FieldTable::default();
    for (name, value) in arguments {
        table.insert((*name).into(), value.clone());
    }
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let declared =
        with_timeout(channel.queue_declare(queue.into(), durable, table)).await.map(drop);
    let channel = match protocol_refusal(declared)? {
        None => channel,
        Some(reason) => {
            tracing::warn!(
                queue,
                %reason,
                "the broker has this queue with other properties, or does not let souk make it; it is bound, and else used as it is. To \
                 have it made anew, empty and delete it at the broker; or give souk's user the right to configure it"
            );
            session.open_channel().await?
        }
    };
    for binding in bindings {
        let nothing = FieldTable::default();
        let bind = channel.queue_bind(
            queue.into(),
            exchange.into(),
            binding.as_str().into(),
            QueueBindOptions::default(),
            nothing,
        );
        if let Some(reason) = protocol_refusal(with_timeout(bind).await)? {
            tracing::warn!(
                queue,
                binding,
                %reason,
                "the broker does not bind this queue, which may miss messages; see whether the queue is there, and whether souk's user \
                 has the right to write to it"
            );
            // With it went the channel.
            return Ok(());
        }
    }
    Ok(())
}

/// Why the broker does not do as it is asked, if so.
fn protocol_refusal(done: Result<(), BrokerError>) -> Result<Option<lapin::Error>, BrokerError> {
    match done {
        Ok(()) => Ok(None),
        Err(BrokerError::Amqp(error)) if matches!(error.kind(), ErrorKind::ProtocolError(_)) => {
            Ok(Some(error))
        }
        Err(error) => Err(error),
    }
}
