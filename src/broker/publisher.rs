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

use super::{BrokerError, message, step, topology::EVENTS};
use crate::events::Published;

/// Most events that were published and are not confirmed.
const WINDOW: usize = 512;

/// How long the broker may take to confirm one.
const CONFIRM: Duration = Duration::from_secs(10);

/// Marks a message that outlives a restart of the broker.
const PERSISTENT: u8 = 2;

/// Publishes on one channel. After an error it is of no use: what is not confirmed has to be published again on another.
pub(super) struct Publisher {
    channel: Channel,
    window: VecDeque<Sent>,
    /// Most events in it.
    room: usize,
    /// Where there is all the room again.
    doubtful: u64,
    /// What `window` is about. Should the broker refuse an event, none that follows it in its sequence is there already.
    subjects: HashSet<Subject>,
}

/// An event that waits for its confirm.
struct Sent {
    position: u64,
    subject: Subject,
    confirm: PublisherConfirm,
    deadline: Instant,
}

/// Whose sequence an event continues: a subject, and the family of its type.
type Subject = (Uuid, String);

/// What of an event its message tells outside of the body, too.
#[derive(Deserialize)]
struct Heading<'a> {
    subject: Uuid,
    #[serde(borrow)]
    traceparent: Option<Cow<'a, str>>,
}

impl Publisher {
    /// A publisher on a channel that nobody else publishes on. Up to the event at `doubtful`, which the broker has not taken before, or
    /// 0, it publishes one at a time: as long as that is refused, no queue gets what follows it again and again.
    pub(super) async fn new(channel: Channel, doubtful: u64) -> Result<Self, BrokerError> {
        step(channel.confirm_select(ConfirmSelectOptions::default())).await?;
        let room = if doubtful > 0 { 1 } else { WINDOW };
        Ok(Self {
            channel,
            window: VecDeque::with_capacity(WINDOW),
            room,
            doubtful,
            subjects: HashSet::with_capacity(WINDOW),
        })
    }

    /// The place of the oldest event that waits for its confirm.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.window.front().map(|sent| sent.position)
    }

    /// Whether something waits for its confirm.
    pub(super) fn is_waiting(&self) -> bool {
        self.oldest().is_some()
    }

    /// Publishes an event as soon as there is room for it. `confirmed` hears of the places of those confirmed meanwhile.
    pub(super) async fn publish(
        &mut self,
        event: &Published,
        confirmed: impl Fn(u64),
    ) -> Result<(), BrokerError> {
        // An event of our own can be read.
        let heading: Heading<'_> = serde_json::from_slice(&event.body)
            .map_err(|_| BrokerError::Unreadable(event.position))?;
        let family = event.kind.split('.').next().unwrap_or_default();
        let subject = (heading.subject, family.to_owned());
        while self.window.len() >= self.room || self.subjects.contains(&subject) {
            confirmed(self.confirmed().await?);
        }
        let kind = event.kind.as_str().into();
        let options = BasicPublishOptions::default();
        let properties = properties(event, &heading);
        let confirm =
            step(self.channel.basic_publish(EVENTS.into(), kind, options, &event.body, properties))
                .await?;
        self.subjects.insert(subject.clone());
        self.window.push_back(Sent {
            position: event.position,
            subject,
            confirm,
            deadline: Instant::now() + CONFIRM,
        });
        Ok(())
    }

    /// Waits until the oldest event that waits is confirmed, and so everything before it; its place. Never when none waits. May be
    /// dropped and called again.
    pub(super) async fn confirmed(&mut self) -> Result<u64, BrokerError> {
        let Some(oldest) = self.window.front_mut() else { return std::future::pending().await };
        match timeout_at(oldest.deadline, &mut oldest.confirm)
            .await
            .map_err(|_| BrokerError::Late)??
        {
            Confirmation::Ack(_) => {}
            Confirmation::Nack(_) | Confirmation::NotRequested => {
                return Err(BrokerError::NotTaken(oldest.position));
            }
        }
        let position = oldest.position;
        if position >= self.doubtful {
            self.room = WINDOW;
        }
        if let Some(sent) = self.window.pop_front() {
            self.subjects.remove(&sent.subject);
        }
        Ok(position)
    }
}

fn properties(event: &Published, heading: &Heading<'_>) -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert(
        message::POSITION.into(),
        AMQPValue::LongLongInt(i64::try_from(event.position).unwrap_or(i64::MAX)),
    );
    headers.insert(message::AUDIENCE.into(), text(&message::audience(event.audience)));
    if let Some(trace) = &heading.traceparent {
        headers.insert(message::TRACEPARENT.into(), text(trace));
    }
    BasicProperties::default()
        .with_content_type("application/cloudevents+json".into())
        .with_delivery_mode(PERSISTENT)
        .with_message_id(event.id.to_string().into())
        .with_headers(headers)
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(value))
}
