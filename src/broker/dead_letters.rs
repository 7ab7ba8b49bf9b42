//! Dead letters: messages that souk cannot process, kept with the reason for an operator.

use std::{collections::BTreeMap, time::Duration};

use lapin::{
    BasicProperties, Channel, Confirmation,
    message::Delivery,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::{AMQPValue, FieldTable, ShortString},
};
use tokio::time::timeout;

use super::{
    BrokerError, ManagedConnection, publisher::PERSISTENT_DELIVERY_MODE, queues::dead_letter_queue,
    with_timeout,
};

/// The header with the reason why the message is a dead letter.
pub(super) const REASON_HEADER: &str = "x-souk-error";

/// Longest reason, in characters.
const MAX_REASON_CHARS: usize = 300;

/// How long the broker may take to confirm a dead letter, which may be a large message.
const DEAD_LETTER_CONFIRM_TIMEOUT: Duration = Duration::from_secs(60);

/// Largest headers to keep, by the length of their debug output. AMQP needs all headers in one
/// frame, which has 128 KiB.
const MAX_HEADER_BYTES: usize = 64 * 1024;

/// Headers in which a sender names more queues. A dead letter must reach its own queue only.
const SENDER_ROUTING_HEADERS: [&str; 2] = ["CC", "BCC"];

/// A channel with publish confirms for dead letters.
pub(super) struct DeadLetterPublisher(Channel);

impl DeadLetterPublisher {
    pub(super) async fn open(connection: &ManagedConnection) -> Result<Self, BrokerError> {
        let session = connection.wait_for_session().await.ok_or(BrokerError::ConnectionLost)?;
        let channel = session.open_channel().await?;
        with_timeout(channel.confirm_select(ConfirmSelectOptions::default())).await?;
        Ok(Self(channel))
    }

    /// Publishes a message from `queue` to that queue's dead letters, with the reason, and waits
    /// until the broker has stored it.
    pub(super) async fn publish(
        &self,
        queue: &str,
        delivery: &Delivery,
        reason: &str,
    ) -> Result<(), BrokerError> {
        let properties = dead_letter_properties(&delivery.properties, reason);
        let mandatory = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let publish = async {
            let name = dead_letter_queue(queue).as_str().into();
            self.0
                .basic_publish("".into(), name, mandatory, &delivery.data, properties)
                .await?
                .await
        };
        let confirmation = timeout(DEAD_LETTER_CONFIRM_TIMEOUT, publish)
            .await
            .map_err(|_| BrokerError::Timeout)??;
        match confirmation {
            // `Ack(Some(_))` carries a message that the broker returned: the queue is missing.
            Confirmation::Ack(None) => Ok(()),
            _ => Err(BrokerError::QueueRejected(dead_letter_queue(queue))),
        }
    }
}

/// A setter of [`BasicProperties`] for a text property.
type PropertySetter = fn(BasicProperties, ShortString) -> BasicProperties;

/// The message's own properties and the reason, without those that would make the broker reject
/// the message (`user_id`, oversized headers), expire it or send it elsewhere.
fn dead_letter_properties(original: &BasicProperties, reason: &str) -> BasicProperties {
    let mut headers: BTreeMap<ShortString, AMQPValue> = match original.headers() {
        Some(headers) if format!("{headers:?}").len() <= MAX_HEADER_BYTES => {
            headers.inner().clone()
        }
        _ => BTreeMap::new(),
    };
    headers.retain(|name, _| !SENDER_ROUTING_HEADERS.contains(&name.as_str()));
    headers.insert(REASON_HEADER.into(), AMQPValue::LongString(sanitize_reason(reason).into()));
    let mut properties = BasicProperties::default()
        .with_headers(FieldTable::from(headers))
        .with_delivery_mode(PERSISTENT_DELIVERY_MODE);
    let copies: [(&Option<ShortString>, PropertySetter); 6] = [
        (original.content_type(), BasicProperties::with_content_type),
        (original.content_encoding(), BasicProperties::with_content_encoding),
        (original.correlation_id(), BasicProperties::with_correlation_id),
        (original.message_id(), BasicProperties::with_message_id),
        (original.kind(), BasicProperties::with_type),
        (original.app_id(), BasicProperties::with_app_id),
    ];
    for (value, set) in copies {
        if let Some(value) = value {
            properties = set(properties, value.clone());
        }
    }
    match original.timestamp() {
        Some(time) => properties.with_timestamp(*time),
        None => properties,
    }
}

/// A reason without control characters, cut to [`MAX_REASON_CHARS`].
fn sanitize_reason(reason: &str) -> String {
    reason.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_REASON_CHARS).collect()
}
