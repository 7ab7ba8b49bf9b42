//! Events of the outbox.

use std::borrow::Cow;

use bytes::Bytes;
use mongodb::bson::Uuid as Id;
use serde::{Deserialize, Serialize};

use super::{DocumentError, id_from_bson, id_to_bson};
use crate::events::{Audience, EventEnvelope, OutboxEvent};

/// Consecutive events of one transaction. Writing one document for many events costs the server a
/// fraction of writing one document for each.
#[derive(Serialize, Deserialize)]
pub(in crate::store::mongo) struct EventBatchDocument<'a> {
    /// The position of the last event; the others precede it without gaps.
    #[serde(rename = "_id")]
    last_position: u64,
    /// The lowest event id. Event ids start with the time of creation.
    first_id: Id,
    #[serde(borrow)]
    events: Vec<OutboxEventDocument<'a>>,
}

#[derive(Serialize, Deserialize)]
struct OutboxEventDocument<'a> {
    id: Id,
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    subject: Id,
    #[serde(borrow)]
    audience: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner_id: Option<Id>,
    #[serde(borrow)]
    body: Cow<'a, str>,
}

impl<'a> EventBatchDocument<'a> {
    /// A document of `events`, whose positions must be consecutive. `None` without events.
    pub(in crate::store::mongo) fn new(
        events: &[(&EventEnvelope, &'a OutboxEvent)],
    ) -> Result<Option<Self>, DocumentError> {
        let (last, first_id) = (events.last(), events.iter().map(|(event, _)| event.id).min());
        let Some(((_, last), first_id)) = last.zip(first_id) else { return Ok(None) };
        let documents = events
            .iter()
            .map(|(envelope, event)| OutboxEventDocument::new(envelope, event))
            .collect::<Result<_, _>>()?;
        Ok(Some(Self {
            last_position: last.position,
            first_id: id_to_bson(first_id.as_uuid()),
            events: documents,
        }))
    }

    /// The events with their positions.
    pub(in crate::store::mongo) fn into_outbox_events(
        self,
    ) -> Result<Vec<OutboxEvent>, DocumentError> {
        let first_position = (self.last_position + 1).saturating_sub(self.events.len() as u64);
        (first_position..)
            .zip(self.events)
            .map(|(position, event)| event.into_outbox_event(position))
            .collect()
    }
}

impl<'a> OutboxEventDocument<'a> {
    fn new(envelope: &EventEnvelope, event: &'a OutboxEvent) -> Result<Self, DocumentError> {
        let (audience, owner_id) = match event.audience {
            Audience::Everyone => ("everyone", None),
            Audience::Owner(user) => ("owner", Some(id_to_bson(user.as_uuid()))),
            Audience::BrokerOnly => ("nobody", None),
        };
        let body = std::str::from_utf8(&event.body)
            .map_err(|_| DocumentError("an event body is not valid UTF-8".to_owned()))?;
        Ok(Self {
            id: id_to_bson(event.id.as_uuid()),
            kind: Cow::Borrowed(&event.kind),
            subject: id_to_bson(envelope.payload.subject()),
            audience: Cow::Borrowed(audience),
            owner_id,
            body: Cow::Borrowed(body),
        })
    }

    fn into_outbox_event(self, position: u64) -> Result<OutboxEvent, DocumentError> {
        let audience = match (self.audience.as_ref(), self.owner_id) {
            ("everyone", _) => Audience::Everyone,
            ("owner", Some(owner)) => Audience::Owner(id_from_bson(owner)),
            ("nobody", _) => Audience::BrokerOnly,
            (other, _) => {
                return Err(DocumentError(format!("{other:?} is not a valid audience")));
            }
        };
        let body = Bytes::from(self.body.into_owned());
        Ok(OutboxEvent {
            position,
            id: id_from_bson(self.id),
            kind: self.kind.into_owned(),
            audience,
            body,
        })
    }
}
