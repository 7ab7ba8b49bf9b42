//! An external system that sends commands and consumes queues.

use std::time::Duration;

use futures_util::StreamExt;
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties,
    message::Delivery,
    options::{
        BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicPublishOptions,
        ConfirmSelectOptions, QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable},
};
use serde_json::Value;

/// An upper bound that only a hang exceeds, even on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(120);

/// The queue for commands.
pub(crate) const COMMANDS: &str = "souk.inventory.commands";
/// The queue for commands that cannot be applied.
pub(crate) const DEAD_LETTERS: &str = "souk.inventory.commands.dead";

/// A connection with a channel.
pub(crate) struct AmqpClient {
    connection: Connection,
    channel: Channel,
}

impl AmqpClient {
    pub(crate) async fn connect(uri: &str) -> Self {
        let connect = async {
            loop {
                match Connection::connect(uri, ConnectionProperties::default()).await {
                    Ok(connection) => return connection,
                    // A newly started broker listens before it answers.
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        };
        let connection =
            tokio::time::timeout(TIMEOUT, connect).await.expect("the broker does not respond");
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        Self { connection, channel }
    }

    /// Connects and waits until the command queue exists.
    pub(crate) async fn connect_when_ready(uri: &str) -> Self {
        let amqp_client = Self::connect(uri).await;
        amqp_client.wait_for_queue(COMMANDS).await;
        amqp_client
    }

    pub(crate) const fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Waits until a queue exists.
    pub(crate) async fn wait_for_queue(&self, queue: &str) {
        let there = async { while self.queue_error(queue).await.is_some() {} };
        tokio::time::timeout(TIMEOUT, there)
            .await
            .unwrap_or_else(|_| panic!("{queue} does not appear"));
    }

    /// Waits until a queue does not exist; one that another connection owns still exists.
    pub(crate) async fn wait_for_queue_deletion(&self, queue: &str) {
        let gone = async {
            while !self.queue_error(queue).await.is_some_and(|reason| reason.contains("NOT_FOUND"))
            {
            }
        };
        tokio::time::timeout(TIMEOUT, gone)
            .await
            .unwrap_or_else(|_| panic!("{queue} does not disappear"));
    }

    /// The error of a passive declaration, if any. Pauses first, because polling is the only
    /// option.
    async fn queue_error(&self, queue: &str) -> Option<String> {
        tokio::time::sleep(Duration::from_millis(50)).await;
        // A failed passive declaration closes its channel.
        let channel = self.connection.create_channel().await.unwrap();
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        channel
            .queue_declare(queue.into(), passive, FieldTable::default())
            .await
            .err()
            .map(|error| error.to_string())
    }

    /// Sends a command and waits for the broker's confirmation.
    pub(crate) async fn send(&self, command: &Value) {
        self.send_raw(COMMANDS, command.to_string().as_bytes(), BasicProperties::default()).await;
    }

    pub(crate) async fn send_raw(&self, queue: &str, body: &[u8], properties: BasicProperties) {
        let mandatory = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let properties = properties.with_delivery_mode(2);
        let kept = async {
            loop {
                let sent = self
                    .channel
                    .basic_publish("".into(), queue.into(), mandatory, body, properties.clone())
                    .await
                    .unwrap();
                match sent.await.unwrap() {
                    Confirmation::Ack(None) => return,
                    // A queue is not ready right after its creation or a broker restart.
                    Confirmation::Nack(None) => tokio::time::sleep(Duration::from_millis(50)).await,
                    other => panic!("{queue} does not accept a message: {other:?}"),
                }
            }
        };
        tokio::time::timeout(TIMEOUT, kept)
            .await
            .unwrap_or_else(|_| panic!("{queue} accepts no messages"));
    }

    /// Consumes `count` messages from a queue.
    pub(crate) async fn consume(&self, queue: &str, count: usize) -> Vec<Delivery> {
        let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
        let mut messages =
            self.channel.basic_consume(queue.into(), "".into(), options, none).await.unwrap();
        let mut taken = Vec::new();
        while taken.len() < count {
            let next = tokio::time::timeout(TIMEOUT, messages.next()).await;
            let delivery = next
                .unwrap_or_else(|_| panic!("{queue} has {} of {count}", taken.len()))
                .unwrap()
                .unwrap();
            delivery.ack(BasicAckOptions::default()).await.unwrap();
            taken.push(delivery);
        }
        self.channel.basic_cancel(messages.tag(), BasicCancelOptions::default()).await.unwrap();
        taken
    }

    pub(crate) async fn message_count(&self, queue: &str) -> u32 {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        self.channel
            .queue_declare(queue.into(), passive, FieldTable::default())
            .await
            .unwrap()
            .message_count()
    }

    /// Waits until every earlier command is settled: commands run in order, and this invalid one is
    /// dead-lettered last.
    pub(crate) async fn wait_until_settled(&self) {
        self.send_raw(COMMANDS, b"the end", BasicProperties::default()).await;
        let dead = self.consume(DEAD_LETTERS, 1).await;
        assert_eq!(
            dead[0].data,
            b"the end",
            "an earlier command was dead-lettered: {:?}",
            dead_letter_reason(&dead[0])
        );
    }
}

/// The reason why a message was dead-lettered.
pub(crate) fn dead_letter_reason(delivery: &Delivery) -> Option<String> {
    text_header(delivery, "x-souk-error")
}

/// A header with a text value.
pub(crate) fn text_header(delivery: &Delivery, name: &str) -> Option<String> {
    match delivery.properties.headers().as_ref()?.inner().get(name)? {
        AMQPValue::LongString(text) => Some(String::from_utf8(text.as_bytes().to_vec()).unwrap()),
        other => panic!("{other:?} is not text"),
    }
}
