//! What was answered, to be answered again, and what was told.

use std::borrow::Cow;

use bytes::Bytes;
use mongodb::bson::{Binary, Bson, DateTime, Uuid as Id};
use serde::{Deserialize, Serialize};

use super::{Unfit, binary, date, hash, id, own};
use crate::{
    domain::clock::Timestamp,
    events::{Audience, Event, Published},
    messages::change::{IdempotencyKey, Remembered},
};

/// What an idempotency key is found by.
#[derive(Serialize, Deserialize)]
pub(in crate::store::mongo) struct KeyName<'a> {
    pub(in crate::store::mongo) owner: Id,
    #[serde(borrow)]
    pub(in crate::store::mongo) key: Cow<'a, str>,
}

impl<'a> KeyName<'a> {
    pub(in crate::store::mongo) fn of(key: &'a IdempotencyKey) -> Self {
        Self { owner: id(key.owner.as_uuid()), key: Cow::Borrowed(&key.key) }
    }
}

/// A remembered answer. A body that is text, as JSON is, stands there as text.
#[derive(Serialize, Deserialize)]
pub(in crate::store::mongo) struct KeyDocument<'a> {
    #[serde(rename = "_id", borrow)]
    pub(in crate::store::mongo) name: KeyName<'a>,
    fingerprint: Binary,
    status: u16,
    body: Bson,
    at: DateTime,
}

impl<'a> KeyDocument<'a> {
    pub(in crate::store::mongo) fn new(
        key: &'a IdempotencyKey,
        answer: &Remembered,
        at: Timestamp,
    ) -> Self {
        let body = match std::str::from_utf8(&answer.body) {
            Ok(text) => Bson::String(text.to_owned()),
            Err(_) => Bson::Binary(binary(&answer.body)),
        };
        Self {
            name: KeyName::of(key),
            fingerprint: binary(&key.fingerprint),
            status: answer.status,
            body,
            at: date(at),
        }
    }

    /// Whether it was remembered at `time` or before.
    pub(in crate::store::mongo) fn is_from(&self, time: Timestamp) -> bool {
        self.at <= date(time)
    }

    pub(in crate::store::mongo) fn answer(self) -> Result<([u8; 32], Remembered), Unfit> {
        let body = match self.body {
            Bson::String(text) => Bytes::from(text),
            Bson::Binary(binary) => Bytes::from(binary.bytes),
            _ => return Err(Unfit("a remembered answer has no body".to_owned())),
        };
        Ok((hash(&self.fingerprint)?, Remembered { status: self.status, body }))
    }
}

/// Events that were written together, found by the place of the last of them in commit order. One document for many costs the server
/// a fraction of what a document each does.
#[derive(Serialize, Deserialize)]
pub(in crate::store::mongo) struct EventsDocument<'a> {
    #[serde(rename = "_id")]
    last: u64,
    /// The lowest of their ids, which tell when they were made.
    first_id: Id,
    #[serde(borrow)]
    events: Vec<EventDocument<'a>>,
}

#[derive(Serialize, Deserialize)]
struct EventDocument<'a> {
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

impl<'a> EventsDocument<'a> {
    /// A document of `events`, which follow one another; `None` when there are none.
    pub(in crate::store::mongo) fn new(
        events: &[(&Event, &'a Published)],
    ) -> Result<Option<Self>, Unfit> {
        let (last, first_id) = (events.last(), events.iter().map(|(event, _)| event.id).min());
        let Some(((_, last), first_id)) = last.zip(first_id) else { return Ok(None) };
        let entries = events
            .iter()
            .map(|(event, place)| EventDocument::new(event, place))
            .collect::<Result<_, _>>()?;
        Ok(Some(Self { last: last.position, first_id: id(first_id.as_uuid()), events: entries }))
    }

    /// The events, each with its place.
    pub(in crate::store::mongo) fn published(self) -> Result<Vec<Published>, Unfit> {
        let places = (self.last + 1).saturating_sub(self.events.len() as u64)..;
        places.zip(self.events).map(|(position, event)| event.published(position)).collect()
    }
}

impl<'a> EventDocument<'a> {
    fn new(event: &Event, place: &'a Published) -> Result<Self, Unfit> {
        let (audience, owner_id) = match place.audience {
            Audience::Everyone => ("everyone", None),
            Audience::Owner(user) => ("owner", Some(id(user.as_uuid()))),
            Audience::Nobody => ("nobody", None),
        };
        let body = std::str::from_utf8(&place.body)
            .map_err(|_| Unfit("an event is not text".to_owned()))?;
        Ok(Self {
            id: id(place.id.as_uuid()),
            kind: Cow::Borrowed(&place.kind),
            subject: id(event.fact.subject()),
            audience: Cow::Borrowed(audience),
            owner_id,
            body: Cow::Borrowed(body),
        })
    }

    fn published(self, position: u64) -> Result<Published, Unfit> {
        let audience = match (self.audience.as_ref(), self.owner_id) {
            ("everyone", _) => Audience::Everyone,
            ("owner", Some(owner)) => Audience::Owner(own(owner)),
            ("nobody", _) => Audience::Nobody,
            (other, _) => return Err(Unfit(format!("{other:?} is no audience"))),
        };
        let body = Bytes::from(self.body.into_owned());
        Ok(Published { position, id: own(self.id), kind: self.kind.into_owned(), audience, body })
    }
}
