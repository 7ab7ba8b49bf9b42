//! Publishes events in order, with publish confirms.
//!
//! The broker confirms each message once its queues have stored it. Waiting for every confirm
//! would be slow, so up to [`MAX_UNCONFIRMED`] published events may be unconfirmed. Two rules keep
//! the order that consumers rely on when the broker rejects one of them:
//!
//! - At most one event of a sequence (see [`SequenceKey`]) is unconfirmed. Otherwise a later event
//!   of the sequence could arrive before the repeat of the rejected one.
//! - After a rejection, events are published one at a time until the rejected one is confirmed.
//!   Otherwise every attempt would repeat the events behind it to the queues that accept them.

use std::{
    borrow::Cow,
    collections::{HashSet, VecDeque},
    time::Duration,
};

use lapin::{
    BasicProperties, Channel, Confirmation, PublisherConfirm,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::{AMQPValue, FieldTable, LongString},
};
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};
use tracing::Span;
use uuid::Uuid;

use super::{
    BrokerError,
    event_message::{AUDIENCE_HEADER, POSITION_HEADER, TRACEPARENT_HEADER, audience_header},
    exchanges::EVENT_EXCHANGE,
    with_timeout,
};
use crate::{
    events::{OutboxEvent, OutboxPosition},
    messages::trace_parent::TraceParent,
    telemetry::trace::{root_span, trace_parent_of},
};

/// Most unconfirmed events: published, and not yet confirmed.
const MAX_UNCONFIRMED: usize = 512;

/// How long the broker may take to confirm an event.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(10);

/// The AMQP delivery mode of messages that survive a restart of the broker.
pub(super) const PERSISTENT_DELIVERY_MODE: u8 = 2;

/// Publishes on one channel. Do not use it after an error: publish the unconfirmed events
/// again, with a new publisher.
pub(super) struct Publisher {
    channel: Channel,
    unconfirmed: VecDeque<UnconfirmedEvent>,
    /// Current limit of `unconfirmed`: 1 while there is a `last_rejected`.
    max_unconfirmed: usize,
    /// The last event that the broker rejected, until the broker confirms it.
    last_rejected: Option<OutboxPosition>,
    /// The sequences that have an event in `unconfirmed`.
    unconfirmed_sequences: HashSet<SequenceKey>,
}

/// An event that is published and not yet confirmed.
struct UnconfirmedEvent {
    position: OutboxPosition,
    sequence: SequenceKey,
    confirm: PublisherConfirm,
    deadline: Instant,
    /// It ends when the broker has confirmed the event.
    _span: Span,
}

/// Identifies a sequence of events: a subject, and the family of the event type, such as `cart`.
type SequenceKey = (Uuid, String);

/// The attributes of a CloudEvent that the publisher needs.
#[derive(Deserialize)]
struct EventAttributes<'a> {
    subject: Uuid,
    #[serde(borrow)]
    traceparent: Option<Cow<'a, str>>,
}

impl Publisher {
    /// Creates a publisher on a channel that nothing else publishes on. It publishes one event at
    /// a time until `last_rejected`, if any, is confirmed.
    pub(super) async fn new(
        channel: Channel,
        last_rejected: Option<OutboxPosition>,
    ) -> Result<Self, BrokerError> {
        with_timeout(channel.confirm_select(ConfirmSelectOptions::default())).await?;
        let max_unconfirmed = if last_rejected.is_some() { 1 } else { MAX_UNCONFIRMED };
        Ok(Self {
            channel,
            unconfirmed: VecDeque::with_capacity(MAX_UNCONFIRMED),
            max_unconfirmed,
            last_rejected,
            unconfirmed_sequences: HashSet::with_capacity(MAX_UNCONFIRMED),
        })
    }

    /// Position of the oldest event that is not confirmed.
    pub(super) fn oldest_unconfirmed(&self) -> Option<OutboxPosition> {
        self.unconfirmed.front().map(|event| event.position)
    }

    /// Whether any event is unconfirmed.
    pub(super) fn has_unconfirmed(&self) -> bool {
        self.oldest_unconfirmed().is_some()
    }

    /// Publishes an event, after waiting for confirms as long as the limits require. Calls
    /// `on_confirmed` with the position of each event that the broker confirms meanwhile.
    pub(super) async fn publish(
        &mut self,
        event: &OutboxEvent,
        on_confirmed: impl Fn(OutboxPosition),
    ) -> Result<(), BrokerError> {
        let attributes: EventAttributes<'_> = serde_json::from_slice(&event.body)
            .map_err(|_| BrokerError::UnreadableEvent(event.position))?;
        let family = event.kind.split('.').next().unwrap_or_default();
        let sequence = (attributes.subject, family.to_owned());
        while self.unconfirmed.len() >= self.max_unconfirmed
            || self.unconfirmed_sequences.contains(&sequence)
        {
            on_confirmed(self.next_confirmed().await?);
        }
        let kind = event.kind.as_str().into();
        let options = BasicPublishOptions::default();
        let cause = attributes.traceparent.as_deref().and_then(TraceParent::parse);
        let span = publish_span(event, cause.as_ref());
        let properties = event_properties(event, trace_parent_of(&span).or(cause).as_ref());
        let confirm = with_timeout(self.channel.basic_publish(
            EVENT_EXCHANGE.into(),
            kind,
            options,
            &event.body,
            properties,
        ))
        .await?;
        self.unconfirmed_sequences.insert(sequence.clone());
        self.unconfirmed.push_back(UnconfirmedEvent {
            position: event.position,
            sequence,
            confirm,
            deadline: Instant::now() + CONFIRM_TIMEOUT,
            _span: span,
        });
        Ok(())
    }

    /// Waits until the oldest unconfirmed event is confirmed, and returns its position. All events
    /// that were published before it are confirmed then. Waits forever when every event is
    /// confirmed. Cancel safe.
    pub(super) async fn next_confirmed(&mut self) -> Result<OutboxPosition, BrokerError> {
        let Some(oldest) = self.unconfirmed.front_mut() else {
            return std::future::pending().await;
        };
        let confirmation = timeout_at(oldest.deadline, &mut oldest.confirm)
            .await
            .map_err(|_| BrokerError::Timeout)??;
        match confirmation {
            Confirmation::Ack(_) => {}
            Confirmation::Nack(_) | Confirmation::NotRequested => {
                return Err(BrokerError::EventRejected(oldest.position));
            }
        }
        let position = oldest.position;
        if self.last_rejected.take_if(|rejected| *rejected == position).is_some() {
            self.max_unconfirmed = MAX_UNCONFIRMED;
        }
        if let Some(confirmed) = self.unconfirmed.pop_front() {
            self.unconfirmed_sequences.remove(&confirmed.sequence);
        }
        Ok(position)
    }
}

/// The span of an event that a recorded trace has caused.
fn publish_span(event: &OutboxEvent, cause: Option<&TraceParent>) -> Span {
    if !cause.is_some_and(TraceParent::is_sampled) {
        return Span::none();
    }
    root_span!(
        cause,
        "publish",
        otel.name = "publish souk.events",
        otel.kind = "producer",
        messaging.system = "rabbitmq",
        messaging.operation.type = "send",
        messaging.destination.name = EVENT_EXCHANGE,
        messaging.rabbitmq.destination.routing_key = event.kind.as_str(),
        messaging.message.id = %event.id,
    )
}

fn event_properties(event: &OutboxEvent, trace: Option<&TraceParent>) -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert(POSITION_HEADER.into(), AMQPValue::LongLongInt(event.position.to_i64()));
    headers.insert(AUDIENCE_HEADER.into(), long_string(&audience_header(event.audience)));
    if let Some(trace) = trace {
        headers.insert(TRACEPARENT_HEADER.into(), long_string(trace.as_str()));
    }
    BasicProperties::default()
        .with_content_type("application/cloudevents+json".into())
        .with_delivery_mode(PERSISTENT_DELIVERY_MODE)
        .with_message_id(event.id.to_string().into())
        .with_headers(headers)
}

fn long_string(value: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(value))
}
