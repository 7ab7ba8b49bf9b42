//! Putting a message aside, with the reason.

use std::{collections::BTreeMap, time::Duration};

use lapin::{
    BasicProperties, Channel, Confirmation,
    message::Delivery,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::{AMQPValue, FieldTable, ShortString},
};
use tokio::time::timeout;

use super::{BrokerError, ManagedConnection, queues::dead_letter_queue, with_timeout};

/// The header that says why.
pub(super) const REASON_HEADER: &str = "x-souk-error";

/// Most characters of a reason.
const MAX_REASON_CHARS: usize = 300;

/// The longest that a message may take to be confirmed, however large it is.
const DEAD_LETTER_CONFIRM_TIMEOUT: Duration = Duration::from_secs(60);

/// Most bytes of headers, as written for a person. The broker wants all of them in one frame, of 128 KiB.
const MAX_HEADER_BYTES: usize = 64 * 1024;

/// Headers by which the sender chooses further queues: a dead letter goes to one place only.
const SENDER_ROUTING_HEADERS: [&str; 2] = ["CC", "BCC"];

/// A way to put messages aside.
pub(super) struct DeadLetterPublisher(Channel);

impl DeadLetterPublisher {
    pub(super) async fn open(link: &ManagedConnection) -> Result<Self, BrokerError> {
        let session = link.wait_for_session().await.ok_or(BrokerError::ConnectionLost)?;
        let channel = session.open_channel().await?;
        with_timeout(channel.confirm_select(ConfirmSelectOptions::default())).await?;
        Ok(Self(channel))
    }

    /// Puts a message into the queue of `queue`'s dead letters, as it came, with the reason, and waits until it is there for good.
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
        match timeout(DEAD_LETTER_CONFIRM_TIMEOUT, publish)
            .await
            .map_err(|_| BrokerError::Timeout)??
        {
            Confirmation::Ack(None) => Ok(()),
            _ => Err(BrokerError::QueueRejected(dead_letter_queue(queue))),
        }
    }
}

/// Sets a property that is a text.
type PropertySetter = fn(BasicProperties, ShortString) -> BasicProperties;

/// The properties it came with, but for those by which the broker would refuse it, lose it or send it elsewhere.
fn dead_letter_properties(original: &BasicProperties, reason: &str) -> BasicProperties {
    let mut headers: BTreeMap<ShortString, AMQPValue> = match original.headers() {
        Some(headers) if format!("{headers:?}").len() <= MAX_HEADER_BYTES => {
            headers.inner().clone()
        }
        _ => BTreeMap::new(),
    };
    headers.retain(|name, _| !SENDER_ROUTING_HEADERS.contains(&name.as_str()));
    headers.insert(REASON_HEADER.into(), AMQPValue::LongString(sanitize_reason(reason).into()));
    let mut kept =
        BasicProperties::default().with_headers(FieldTable::from(headers)).with_delivery_mode(2);
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
            kept = set(kept, value.clone());
        }
    }
    match original.timestamp() {
        Some(time) => kept.with_timestamp(*time),
        None => kept,
    }
}

/// A reason as a header holds it.
fn sanitize_reason(reason: &str) -> String {
    reason.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_REASON_CHARS).collect()
}
