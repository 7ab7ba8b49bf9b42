//! The durable queues: one per subscription, one for commands, and one for the dead letters of
//! each.
//!
//! A queue that exists with other properties is used as it is, with a warning: it may hold
//! messages, so souk never deletes one.

use lapin::{
    ErrorKind,
    options::{QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};

use super::{
    BrokerError, BrokerSession,
    exchanges::{self, DEAD_LETTER_EXCHANGE, EVENT_EXCHANGE},
    with_timeout,
};

/// The queue to which other systems send commands.
pub(super) const COMMAND_QUEUE: &str = "souk.inventory.commands";

/// After this many deliveries without an acknowledgment, the broker moves a message of a
/// subscription to the dead letters.
const DELIVERY_LIMIT: i64 = 20;

/// The same for dead letters, in effect without limit. They have no dead letters of their own:
/// with its default, RabbitMQ 4 would drop one when an operator looks at it for the 21st time.
const DEAD_LETTER_DELIVERY_LIMIT: i64 = 1_000_000_000;

/// The same for commands. Higher, since a store that cannot be written uses up deliveries too.
pub(super) const COMMAND_DELIVERY_LIMIT: i64 = 100;

/// A durable queue with events for another system.
#[derive(Debug, Clone)]
pub struct Subscription {
    /// Name of the queue.
    pub queue: String,
    /// Binding patterns for the types of the events it receives, such as `order.#`.
    pub bindings: Vec<String>,
}

/// The name of the queue for the dead letters of `queue`.
#[must_use]
pub(super) fn dead_letter_queue(queue: &str) -> String {
    format!("{queue}.dead")
}

/// Declares and binds the queues of subscriptions. When the broker refuses one, logs a warning and
/// continues.
///
/// # Errors
/// The broker does not respond.
pub(super) async fn declare_subscriptions(
    session: &BrokerSession,
    subscriptions: &[Subscription],
) -> Result<(), BrokerError> {
    exchanges::declare_exchanges(&session.open_channel().await?).await?;
    for Subscription { queue, bindings } in subscriptions {
        declare_with_dead_letters(session, queue, DELIVERY_LIMIT, &[], bindings).await?;
    }
    Ok(())
}

/// Declares the queue for commands. When the broker refuses it, logs a warning and continues.
///
/// # Errors
/// The broker does not respond.
pub(super) async fn declare_commands(session: &BrokerSession) -> Result<(), BrokerError> {
    exchanges::declare_exchanges(&session.open_channel().await?).await?;
    // One consumer in the whole cluster, so that commands are executed in the order of the queue.
    let single_consumer = [("x-single-active-consumer", AMQPValue::Boolean(true))];
    declare_with_dead_letters(session, COMMAND_QUEUE, COMMAND_DELIVERY_LIMIT, &single_consumer, &[])
        .await
}

/// Declares a queue that loses nothing: it is on disk, on a majority of the brokers in a cluster,
/// and has a queue beside it for its dead letters.
async fn declare_with_dead_letters(
    session: &BrokerSession,
    queue: &str,
    delivery_limit: i64,
    extra_arguments: &[(&'static str, AMQPValue)],
    bindings: &[String],
) -> Result<(), BrokerError> {
    let text = |text: &str| AMQPValue::LongString(text.into());
    let quorum = ("x-queue-type", text("quorum"));
    // The dead letters' queue comes first: a dead letter that finds no queue would be lost.
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
        // RabbitMQ ignores the strategy `at-least-once` without this.
        ("x-overflow", text("reject-publish")),
        ("x-delivery-limit", AMQPValue::LongLongInt(delivery_limit)),
    ];
    declare_and_bind(
        session,
        queue,
        [&quorum].into_iter().chain(&arguments).chain(extra_arguments),
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
    // A channel for this queue alone: the broker closes the channel when it refuses.
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
        Some(error) => {
            tracing::warn!(
                queue,
                %error,
                "failed to declare a queue; using it as it is. If the queue exists with other \
                 properties, empty and delete it; if souk's user may not configure it, grant that"
            );
            session.open_channel().await?
        }
    };
    for binding in bindings {
        let bind = channel.queue_bind(
            queue.into(),
            exchange.into(),
            binding.as_str().into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        if let Some(error) = protocol_refusal(with_timeout(bind).await)? {
            tracing::warn!(
                queue,
                binding,
                %error,
                "failed to bind a queue, which may miss messages. Check that the queue exists and \
                 that souk's user may write to it"
            );
            // The refusal closed the channel, so the other bindings would fail too.
            return Ok(());
        }
    }
    Ok(())
}

/// Splits off a refusal by the broker, after which only the channel is lost.
fn protocol_refusal(result: Result<(), BrokerError>) -> Result<Option<lapin::Error>, BrokerError> {
    match result {
        Ok(()) => Ok(None),
        Err(BrokerError::Amqp(error)) if matches!(error.kind(), ErrorKind::ProtocolError(_)) => {
            Ok(Some(error))
        }
        Err(error) => Err(error),
    }
}
