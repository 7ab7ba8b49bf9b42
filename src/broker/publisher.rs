//! Publishes events in order, with confirms, a bounded number of them outstanding.

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
use uuid::Uuid;

use super::{BrokerError, message, topology::EVENT_EXCHANGE, with_timeout};
use crate::events::OutboxEvent;

/// Most events that were published and are not confirmed.
const MAX_UNCONFIRMED: usize = 512;

/// How long the broker may take to confirm one.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(10);

/// Marks a message that outlives a restart of the broker.
const PERSISTENT_DELIVERY_MODE: u8 = 2;

/// Publishes on one channel. After an error it is of no use: what is not confirmed has to be published again on another.
pub(super) struct Publisher {
    channel: Channel,
    unconfirmed: VecDeque<UnconfirmedEvent>,
    /// Most events in it.
    max_unconfirmed: usize,
    /// Where there is all the room again.
    last_rejected: u64,
    /// What `window` is about. Should the broker refuse an event, none that follows it in its sequence is there already.
    in_flight_keys: HashSet<SequenceKey>,
}

/// An event that waits for its confirm.
struct UnconfirmedEvent {
    position: u64,
    subject: SequenceKey,
    confirm: PublisherConfirm,
    deadline: Instant,
}

/// Whose sequence an event continues: a subject, and the family of its type.
type SequenceKey = (Uuid, String);

/// What of an event its message tells outside of the body, too.
#[derive(Deserialize)]
struct EventAttributes<'a> {
    subject: Uuid,
    #[serde(borrow)]
    traceparent: Option<Cow<'a, str>>,
}

impl Publisher {
    /// A publisher on a channel that nobody else publishes on. Up to the event at `doubtful`, which the broker has not taken before, or
    /// 0, it publishes one at a time: as long as that is refused, no queue gets what follows it again and again.
    pub(super) async fn new(channel: Channel, doubtful: u64) -> Result<Self, BrokerError> {
        with_timeout(channel.confirm_select(ConfirmSelectOptions::default())).await?;
        let room = if doubtful > 0 { 1 } else { MAX_UNCONFIRMED };
        Ok(Self {
            channel,
            unconfirmed: VecDeque::with_capacity(MAX_UNCONFIRMED),
            max_unconfirmed: room,
            last_rejected: doubtful,
            in_flight_keys: HashSet::with_capacity(MAX_UNCONFIRMED),
        })
    }

    /// The place of the oldest event that waits for its confirm.
    pub(super) fn oldest_unconfirmed(&self) -> Option<u64> {
        self.unconfirmed.front().map(|sent| sent.position)
    }

    /// Whether something waits for its confirm.
    pub(super) fn has_unconfirmed(&self) -> bool {
        self.oldest_unconfirmed().is_some()
    }

    /// Publishes an event as soon as there is room for it. `confirmed` hears of the places of those confirmed meanwhile.
    pub(super) async fn publish(
        &mut self,
        event: &OutboxEvent,
        confirmed: impl Fn(u64),
    ) -> Result<(), BrokerError> {
        // An event of our own can be read.
        let heading: EventAttributes<'_> = serde_json::from_slice(&event.body)
            .map_err(|_| BrokerError::UnreadableEvent(event.position))?;
        let family = event.kind.split('.').next().unwrap_or_default();
        let subject = (heading.subject, family.to_owned());
        while self.unconfirmed.len() >= self.max_unconfirmed
            || self.in_flight_keys.contains(&subject)
        {
            confirmed(self.next_confirmed().await?);
        }
        let kind = event.kind.as_str().into();
        let options = BasicPublishOptions::default();
        let properties = event_properties(event, &heading);
        let confirm = with_timeout(self.channel.basic_publish(
            EVENT_EXCHANGE.into(),
            kind,
            options,
            &event.body,
            properties,
        ))
        .await?;
        self.in_flight_keys.insert(subject.clone());
        self.unconfirmed.push_back(UnconfirmedEvent {
            position: event.position,
            subject,
            confirm,
            deadline: Instant::now() + CONFIRM_TIMEOUT,
        });
        Ok(())
    }

    /// Waits until the oldest event that waits is confirmed, and so everything before it; its place. Never when none waits. May be
    /// dropped and called again.
    pub(super) async fn next_confirmed(&mut self) -> Result<u64, BrokerError> {
        let Some(oldest) = self.unconfirmed.front_mut() else {
            return std::future::pending().await;
        };
        match timeout_at(oldest.deadline, &mut oldest.confirm)
            .await
            .map_err(|_| BrokerError::Timeout)??
        {
            Confirmation::Ack(_) => {}
            Confirmation::Nack(_) | Confirmation::NotRequested => {
                return Err(BrokerError::EventRejected(oldest.position));
            }
        }
        let position = oldest.position;
        if position >= self.last_rejected {
            self.max_unconfirmed = MAX_UNCONFIRMED;
        }
        if let Some(sent) = self.unconfirmed.pop_front() {
            self.in_flight_keys.remove(&sent.subject);
        }
        Ok(position)
    }
}

fn event_properties(event: &OutboxEvent, heading: &EventAttributes<'_>) -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert(
        message::POSITION_HEADER.into(),
        AMQPValue::LongLongInt(i64::try_from(event.position).unwrap_or(i64::MAX)),
    );
    headers.insert(
        message::AUDIENCE_HEADER.into(),
        long_string(&message::audience_header(event.audience)),
    );
    if let Some(trace) = &heading.traceparent {
        headers.insert(message::TRACEPARENT_HEADER.into(), long_string(trace));
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
