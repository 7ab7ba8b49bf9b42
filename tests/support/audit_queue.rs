//! A durable queue that receives every event, as an external consumer would declare it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::StreamExt;
use lapin::{
    Connection, ConnectionProperties, Consumer, ExchangeKind,
    message::Delivery,
    options::{
        BasicAckOptions, BasicConsumeOptions, ExchangeDeclareOptions, QueueBindOptions,
        QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable},
};
use serde_json::Value;
use souk::events::{OutboxCursor, OutboxPosition};

use super::support::Event;

/// An upper bound that only a hang exceeds, even on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(120);

const QUEUE: &str = "audit";

pub(crate) struct AuditQueue {
    uri: String,
}

/// A published event with its message properties.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) event: Event,
    pub(crate) position: OutboxPosition,
    pub(crate) routing_key: String,
    pub(crate) content_type: String,
    pub(crate) delivery_mode: u8,
    pub(crate) traceparent: Option<String>,
}

impl AuditQueue {
    /// Declares the queue and binds it to all events; events published from now on are kept.
    pub(crate) async fn declare(uri: &str) -> Self {
        let connection = connect(uri).await;
        let channel = connection.create_channel().await.unwrap();
        let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        channel
            .exchange_declare(
                "souk.events".into(),
                ExchangeKind::Topic,
                durable,
                FieldTable::default(),
            )
            .await
            .unwrap();
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let mut kind = FieldTable::default();
        kind.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        channel.queue_declare(QUEUE.into(), durable, kind).await.unwrap();
        let bind = channel.queue_bind(
            QUEUE.into(),
            "souk.events".into(),
            "#".into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        bind.await.unwrap();
        connection.close(200, "declared".into()).await.unwrap();
        Self { uri: uri.to_owned() }
    }

    /// Consumes all messages up to and including the first for which `is_last` is true.
    pub(crate) async fn read_until(
        &self,
        mut is_last: impl FnMut(&Message) -> bool,
    ) -> Vec<Message> {
        let connection = connect(&self.uri).await;
        let channel = connection.create_channel().await.unwrap();
        let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
        let mut messages: Consumer =
            channel.basic_consume(QUEUE.into(), "".into(), options, none).await.unwrap();
        let mut read = Vec::new();
        loop {
            let delivery = tokio::time::timeout(TIMEOUT, messages.next())
                .await
                .expect("no message arrives")
                .unwrap()
                .unwrap();
            let acker = delivery.acker.clone();
            read.push(Message::from_delivery(&delivery));
            let ended = read.last().is_some_and(&mut is_last);
            // A quorum queue delivers a limited number of unacknowledged messages. Closing the
            // connection requeues those after the last one.
            if ended || read.len().is_multiple_of(200) {
                acker.ack(BasicAckOptions { multiple: true }).await.unwrap();
            }
            if ended {
                connection.close(200, "read".into()).await.unwrap();
                return read;
            }
        }
    }

    /// Consumes all messages up to the event at `offset` of the first partition.
    pub(crate) async fn read_up_to(&self, offset: u64) -> Vec<Message> {
        let last = OutboxPosition { partition: 0, offset };
        self.read_until(|message| message.position == last).await
    }
}

async fn connect(uri: &str) -> Connection {
    // A restarted broker listens before it answers.
    let connect = async {
        loop {
            match Connection::connect(uri, ConnectionProperties::default()).await {
                Ok(connection) => return connection,
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    };
    tokio::time::timeout(TIMEOUT, connect).await.expect("the broker does not respond")
}

impl Message {
    fn from_delivery(delivery: &Delivery) -> Self {
        let properties = &delivery.properties;
        let headers = properties.headers().as_ref().unwrap().inner();
        let AMQPValue::LongLongInt(position) = headers["souk-position"] else {
            panic!("no position: {headers:?}")
        };
        let text = |value: &AMQPValue| match value {
            AMQPValue::LongString(text) => String::from_utf8(text.as_bytes().to_vec()).unwrap(),
            other => panic!("{other:?} is not text"),
        };
        let body: Value = serde_json::from_slice(&delivery.data).unwrap();
        let (id, kind) =
            (body["id"].as_str().unwrap().to_owned(), body["type"].as_str().unwrap().to_owned());
        assert_eq!(properties.message_id().as_ref().unwrap().as_str(), id);
        Self {
            event: Event { id, kind, body, feed_id: None },
            position: OutboxPosition::from_i64(position).unwrap(),
            routing_key: delivery.routing_key.to_string(),
            content_type: properties.content_type().as_ref().unwrap().to_string(),
            delivery_mode: properties.delivery_mode().unwrap(),
            traceparent: headers.get("traceparent").map(text),
        }
    }
}

/// Returns each event's first delivery. Asserts that repeats are identical, and that first
/// deliveries are in the order of their partitions, without gaps after the first one of each.
pub(crate) fn first_deliveries(messages: &[Message]) -> Vec<&Event> {
    let mut known: BTreeMap<OutboxPosition, &Event> = BTreeMap::new();
    let mut read = OutboxCursor::default();
    let mut events = Vec::new();
    let mut ids = BTreeSet::new();
    for Message { event, position, .. } in messages {
        if let Some(first) = known.get(position) {
            assert_eq!(*first, event, "a repeat differs");
            continue;
        }
        assert!(
            read.offset(position.partition) == 0 || read.is_next(*position),
            "{position} after {read}"
        );
        assert!(ids.insert(&event.id), "{event:?} has two positions");
        read.advance_to(*position);
        known.insert(*position, event);
        events.push(event);
    }
    events
}
