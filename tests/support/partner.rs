//! Another system: it sends commands, and reads queues.

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

/// Nothing takes as long, on any machine.
const NEVER: Duration = Duration::from_secs(120);

/// Where commands go.
pub(crate) const COMMANDS: &str = "souk.inventory.commands";
/// Where those go that cannot be carried out.
pub(crate) const DEAD: &str = "souk.inventory.commands.dead";

/// A connection with a channel.
pub(crate) struct Partner {
    connection: Connection,
    channel: Channel,
}

impl Partner {
    pub(crate) async fn connect(uri: &str) -> Self {
        let connect = async {
            loop {
                match Connection::connect(uri, ConnectionProperties::default()).await {
                    Ok(connection) => return connection,
                    // A broker that has just been started listens before it answers.
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        };
        let connection =
            tokio::time::timeout(NEVER, connect).await.expect("the broker does not answer");
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        Self { connection, channel }
    }

    /// One who can send commands: the queue for them is there.
    pub(crate) async fn of_a_shop(uri: &str) -> Self {
        let partner = Self::connect(uri).await;
        partner.until_there(COMMANDS).await;
        partner
    }

    pub(crate) const fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Waits until a queue is there.
    pub(crate) async fn until_there(&self, queue: &str) {
        let there = async { while self.why_not(queue).await.is_some() {} };
        tokio::time::timeout(NEVER, there)
            .await
            .unwrap_or_else(|_| panic!("{queue} does not come"));
    }

    /// Waits until a queue is gone, and not only somebody else's.
    pub(crate) async fn until_gone(&self, queue: &str) {
        let gone = async {
            while !self.why_not(queue).await.is_some_and(|reason| reason.contains("NOT_FOUND")) {}
        };
        tokio::time::timeout(NEVER, gone).await.unwrap_or_else(|_| panic!("{queue} does not go"));
    }

    /// Why a queue cannot be used, if so. There is nothing to wait for but time.
    async fn why_not(&self, queue: &str) -> Option<String> {
        tokio::time::sleep(Duration::from_millis(50)).await;
        // The answer that it is not there ends the channel.
        let channel = self.connection.create_channel().await.unwrap();
        let ask = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        channel
            .queue_declare(queue.into(), ask, FieldTable::default())
            .await
            .err()
            .map(|error| error.to_string())
    }

    /// Sends a command, and waits until the broker has it.
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
                    // A queue that has just been made, or its broker started, is not ready yet.
                    Confirmation::Nack(None) => tokio::time::sleep(Duration::from_millis(50)).await,
                    other => panic!("{queue} does not take a message: {other:?}"),
                }
            }
        };
        tokio::time::timeout(NEVER, kept)
            .await
            .unwrap_or_else(|_| panic!("{queue} takes no messages"));
    }

    /// Takes `count` messages out of a queue.
    pub(crate) async fn take(&self, queue: &str, count: usize) -> Vec<Delivery> {
        let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
        let mut messages =
            self.channel.basic_consume(queue.into(), "".into(), options, none).await.unwrap();
        let mut taken = Vec::new();
        while taken.len() < count {
            let next = tokio::time::timeout(NEVER, messages.next()).await;
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

    /// How many messages wait in a queue.
    pub(crate) async fn waiting(&self, queue: &str) -> u32 {
        let ask = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        self.channel
            .queue_declare(queue.into(), ask, FieldTable::default())
            .await
            .unwrap()
            .message_count()
    }

    /// Waits until every command sent so far was settled: they are carried out in order, and this one cannot be.
    pub(crate) async fn settled(&self) {
        self.send_raw(COMMANDS, b"the end", BasicProperties::default()).await;
        let dead = self.take(DEAD, 1).await;
        assert_eq!(
            dead[0].data,
            b"the end",
            "a command before it was put aside: {:?}",
            error(&dead[0])
        );
    }
}

/// Why a message was put aside.
pub(crate) fn error(delivery: &Delivery) -> Option<String> {
    header(delivery, "x-souk-error")
}

/// A header that is text.
pub(crate) fn header(delivery: &Delivery, name: &str) -> Option<String> {
    match delivery.properties.headers().as_ref()?.inner().get(name)? {
        AMQPValue::LongString(text) => Some(String::from_utf8(text.as_bytes().to_vec()).unwrap()),
        other => panic!("{other:?} is no text"),
    }
}
