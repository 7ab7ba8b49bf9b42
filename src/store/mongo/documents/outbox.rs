//! Events of the outbox.

use std::borrow::Cow;

use bytes::Bytes;
use mongodb::bson::Uuid as BsonUuid;
use serde::{Deserialize, Serialize};

use super::{ChangesDocument, DocumentError, id_from_bson, id_to_bson};
use crate::events::{Audience, EventEnvelope, OutboxEvent, OutboxPosition};

/// The most events in one document.
pub(in crate::store::mongo) const MAX_EVENTS_PER_DOCUMENT: usize = 256;

/// Consecutive events of one transaction. Writing one document for many events costs the server a
/// fraction of writing one document for each.
#[derive(Serialize, Deserialize)]
pub(in crate::store::mongo) struct EventBatchDocument<'a> {
    /// The encoded position of the last event; the others precede it without gaps.
    #[serde(rename = "_id")]
    last_position: i64,
    /// The logical time of the transaction; 0 in documents of before schema version 4.
    #[serde(default)]
    commit_time: i64,
    /// Before the events, so that a reader that wants only this need not pass them. Only in the
    /// last document of a transaction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    changes: Option<ChangesDocument>,
    #[serde(borrow)]
    events: Vec<OutboxEventDocument<'a>>,
}

#[derive(Serialize, Deserialize)]
struct OutboxEventDocument<'a> {
    id: BsonUuid,
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    subject: BsonUuid,
    #[serde(borrow)]
    audience: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner_id: Option<BsonUuid>,
    #[serde(borrow)]
    body: Cow<'a, str>,
}

impl<'a> EventBatchDocument<'a> {
    /// A document of `events`, whose positions must be consecutive. `None` without events.
    pub(in crate::store::mongo) fn new(
        events: &[(&EventEnvelope, &'a OutboxEvent)],
        commit_time: i64,
    ) -> Result<Option<Self>, DocumentError> {
        let Some((_, last)) = events.last() else { return Ok(None) };
        let documents = events
            .iter()
            .map(|(envelope, event)| OutboxEventDocument::new(envelope, event))
            .collect::<Result<_, _>>()?;
        Ok(Some(Self {
            last_position: last.position.to_i64(),
            commit_time,
            changes: None,
            events: documents,
        }))
    }

    /// Adds what the whole transaction changes.
    pub(in crate::store::mongo) fn set_changes(&mut self, changes: ChangesDocument) {
        self.changes = Some(changes);
    }

    /// The events with their positions.
    pub(in crate::store::mongo) fn into_outbox_events(
        self,
    ) -> Result<Vec<OutboxEvent>, DocumentError> {
        let last = OutboxPosition::from_i64(self.last_position)
            .ok_or_else(|| DocumentError(format!("{} is not a position", self.last_position)))?;
        let first_offset = (last.offset + 1).saturating_sub(self.events.len() as u64);
        (first_offset..)
            .zip(self.events)
            .map(|(offset, event)| event.into_outbox_event(OutboxPosition { offset, ..last }))
            .collect()
    }

    /// The logical time of the transaction.
    pub(in crate::store::mongo) const fn commit_time(&self) -> i64 {
        self.commit_time
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

    fn into_outbox_event(self, position: OutboxPosition) -> Result<OutboxEvent, DocumentError> {
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
