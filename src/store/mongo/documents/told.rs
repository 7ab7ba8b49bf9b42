//! What was answered, to be answered again, and what was told.

use std::borrow::Cow;

use bytes::Bytes;
use mongodb::bson::{Binary, Bson, DateTime, Uuid as Id};
use serde::{Deserialize, Serialize};

use super::{
    DocumentError, bytes_to_binary, hash_from_binary, id_from_bson, id_to_bson, timestamp_to_bson,
};
use crate::{
    domain::clock::Timestamp,
    events::{Audience, EventEnvelope, OutboxEvent},
    messages::change::{IdempotencyKey, StoredResponse},
};

/// What an idempotency key is found by.
#[derive(Serialize, Deserialize)]
pub(in crate::store::mongo) struct IdempotencyKeyId<'a> {
    pub(in crate::store::mongo) owner: Id,
    #[serde(borrow)]
    pub(in crate::store::mongo) key: Cow<'a, str>,
}

impl<'a> IdempotencyKeyId<'a> {
    pub(in crate::store::mongo) fn from_key(key: &'a IdempotencyKey) -> Self {
        Self { owner: id_to_bson(key.owner.as_uuid()), key: Cow::Borrowed(&key.key) }
    }
}

/// A remembered answer. A body that is text, as JSON is, stands there as text.
#[derive(Serialize, Deserialize)]
pub(in crate::store::mongo) struct IdempotencyKeyDocument<'a> {
    #[serde(rename = "_id", borrow)]
    pub(in crate::store::mongo) id: IdempotencyKeyId<'a>,
    fingerprint: Binary,
    status: u16,
    body: Bson,
    at: DateTime,
}

impl<'a> IdempotencyKeyDocument<'a> {
    pub(in crate::store::mongo) fn new(
        key: &'a IdempotencyKey,
        answer: &StoredResponse,
        at: Timestamp,
    ) -> Self {
        let body = match std::str::from_utf8(&answer.body) {
            Ok(text) => Bson::String(text.to_owned()),
            Err(_) => Bson::Binary(bytes_to_binary(&answer.body)),
        };
        Self {
            id: IdempotencyKeyId::from_key(key),
            fingerprint: bytes_to_binary(&key.fingerprint),
            status: answer.status,
            body,
            at: timestamp_to_bson(at),
        }
    }

    /// Whether it was remembered at `time` or before.
    pub(in crate::store::mongo) fn is_stored_by(&self, time: Timestamp) -> bool {
        self.at <= timestamp_to_bson(time)
    }

    pub(in crate::store::mongo) fn into_response(
        self,
    ) -> Result<([u8; 32], StoredResponse), DocumentError> {
        let body = match self.body {
            Bson::String(text) => Bytes::from(text),
            Bson::Binary(binary) => Bytes::from(binary.bytes),
            _ => return Err(DocumentError("a remembered answer has no body".to_owned())),
        };
        Ok((hash_from_binary(&self.fingerprint)?, StoredResponse { status: self.status, body }))
    }
}

/// Events that were written together, found by the place of the last of them in commit order. One document for many costs the server
/// a fraction of what a document each does.
#[derive(Serialize, Deserialize)]
pub(in crate::store::mongo) struct EventBatchDocument<'a> {
    #[serde(rename = "_id")]
    last_position: u64,
    /// The lowest of their ids, which tell when they were made.
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
    /// A document of `events`, which follow one another; `None` when there are none.
    pub(in crate::store::mongo) fn new(
        events: &[(&EventEnvelope, &'a OutboxEvent)],
    ) -> Result<Option<Self>, DocumentError> {
        let (last, first_id) = (events.last(), events.iter().map(|(event, _)| event.id).min());
        let Some(((_, last), first_id)) = last.zip(first_id) else { return Ok(None) };
        let entries = events
            .iter()
            .map(|(event, place)| OutboxEventDocument::new(event, place))
            .collect::<Result<_, _>>()?;
        Ok(Some(Self {
            last_position: last.position,
            first_id: id_to_bson(first_id.as_uuid()),
            events: entries,
        }))
    }

    /// The events, each with its place.
    pub(in crate::store::mongo) fn into_outbox_events(
        self,
    ) -> Result<Vec<OutboxEvent>, DocumentError> {
        let places = (self.last_position + 1).saturating_sub(self.events.len() as u64)..;
        places.zip(self.events).map(|(position, event)| event.into_outbox_event(position)).collect()
    }
}

impl<'a> OutboxEventDocument<'a> {
    fn new(event: &EventEnvelope, place: &'a OutboxEvent) -> Result<Self, DocumentError> {
        let (audience, owner_id) = match place.audience {
            Audience::Everyone => ("everyone", None),
            Audience::Owner(user) => ("owner", Some(id_to_bson(user.as_uuid()))),
            Audience::BrokerOnly => ("nobody", None),
        };
        let body = std::str::from_utf8(&place.body)
            .map_err(|_| DocumentError("an event is not text".to_owned()))?;
        Ok(Self {
            id: id_to_bson(place.id.as_uuid()),
            kind: Cow::Borrowed(&place.kind),
            subject: id_to_bson(event.payload.subject()),
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
            (other, _) => return Err(DocumentError(format!("{other:?} is no audience"))),
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
