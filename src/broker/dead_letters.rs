//! Putting a message aside, with the reason.

use std::{collections::BTreeMap, time::Duration};

use lapin::{
    BasicProperties, Channel, Confirmation,
    message::Delivery,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::{AMQPValue, FieldTable, ShortString},
};
use tokio::time::timeout;

use super::{BrokerError, Link, queues::dead, step};

/// The header that says why.
pub(super) const REASON: &str = "x-souk-error";

/// Most characters of a reason.
const MAX_REASON: usize = 300;

/// The longest that a message may take to be confirmed, however large it is.
const CONFIRMED_WITHIN: Duration = Duration::from_secs(60);

/// Most bytes of headers, as written for a person. The broker wants all of them in one frame, of 128 KiB.
const MAX_HEADERS: usize = 64 * 1024;

/// Headers by which the sender chooses further queues: a dead letter goes to one place only.
const FURTHER_QUEUES: [&str; 2] = ["CC", "BCC"];

/// A way to put messages aside.
pub(super) struct DeadLetters(Channel);

impl DeadLetters {
    pub(super) async fn open(link: &Link) -> Result<Self, BrokerError> {
        let session = link.session().await.ok_or(BrokerError::Lost)?;
        let channel = session.channel().await?;
        step(channel.confirm_select(ConfirmSelectOptions::default())).await?;
        Ok(Self(channel))
    }

    /// Puts a message into the queue of `queue`'s dead letters, as it came, with the reason, and waits until it is there for good.
    pub(super) async fn put(
        &self,
        queue: &str,
        delivery: &Delivery,
        reason: &str,
    ) -> Result<(), BrokerError> {
        let properties = properties(&delivery.properties, reason);
        let mandatory = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let publish = async {
            let name = dead(queue).as_str().into();
            self.0
                .basic_publish("".into(), name, mandatory, &delivery.data, properties)
                .await?
                .await
        };
        match timeout(CONFIRMED_WITHIN, publish).await.map_err(|_| BrokerError::Late)?? {
            Confirmation::Ack(None) => Ok(()),
            _ => Err(BrokerError::NotKept(dead(queue))),
        }
    }
}

/// Sets a property that is a text.
type SetText = fn(BasicProperties, ShortString) -> BasicProperties;

/// The properties it came with, but for those by which the broker would refuse it, lose it or send it elsewhere.
fn properties(original: &BasicProperties, reason: &str) -> BasicProperties {
    let mut headers: BTreeMap<ShortString, AMQPValue> = match original.headers() {
        Some(headers) if format!("{headers:?}").len() <= MAX_HEADERS => headers.inner().clone(),
        _ => BTreeMap::new(),
    };
    headers.retain(|name, _| !FURTHER_QUEUES.contains(&name.as_str()));
    headers.insert(REASON.into(), AMQPValue::LongString(one_line(reason).into()));
    let mut kept =
        BasicProperties::default().with_headers(FieldTable::from(headers)).with_delivery_mode(2);
    let copies: [(&Option<ShortString>, SetText); 6] = [
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
fn one_line(reason: &str) -> String {
    reason.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_REASON).collect()
}
