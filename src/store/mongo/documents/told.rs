//! What was answered, to be answered again, and what was told.

use std::borrow::Cow;

use bytes::Bytes;
use mongodb::bson::{Binary, Bson, DateTime, Uuid as Id};
use serde::{Deserialize, Serialize};

use super::{Unfit, binary, date, hash, id, own};
use crate::{
    domain::clock::Timestamp,
    messages::{
        change::{IdempotencyKey, Remembered},
        events::{Audience, Event, Published},
    },
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
    pub(in crate::store::mongo) fn new(key: &'a IdempotencyKey, answer: &Remembered, at: Timestamp) -> Self {
        let body = match std::str::from_utf8(&answer.body) {
            Ok(text) => Bson::String(text.to_owned()),
            Err(_) => Bson::Binary(binary(&answer.body)),
        };
        Self { name: KeyName::of(key), fingerprint: binary(&key.fingerprint), status: answer.status, body, at: date(at) }
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

/// An event, found by its place in commit order.
#[derive(Serialize, Deserialize)]
pub(in crate::store::mongo) struct EventDocument<'a> {
    #[serde(rename = "_id")]
    position: u64,
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

impl<'a> EventDocument<'a> {
    pub(in crate::store::mongo) fn new(event: &Event, place: &'a Published) -> Result<Self, Unfit> {
        let (audience, owner_id) = match place.audience {
            Audience::Everyone => ("everyone", None),
            Audience::Owner(user) => ("owner", Some(id(user.as_uuid()))),
            Audience::Nobody => ("nobody", None),
        };
        let body = std::str::from_utf8(&place.body).map_err(|_| Unfit("an event is not text".to_owned()))?;
        Ok(Self {
            position: place.position,
            id: id(place.id.as_uuid()),
            kind: Cow::Borrowed(&place.kind),
            subject: id(event.fact.subject()),
            audience: Cow::Borrowed(audience),
            owner_id,
            body: Cow::Borrowed(body),
        })
    }

    pub(in crate::store::mongo) const fn position(&self) -> u64 {
        self.position
    }
}

impl TryFrom<EventDocument<'_>> for Published {
    type Error = Unfit;

    fn try_from(document: EventDocument<'_>) -> Result<Self, Unfit> {
        let audience = match (document.audience.as_ref(), document.owner_id) {
            ("everyone", _) => Audience::Everyone,
            ("owner", Some(owner)) => Audience::Owner(own(owner)),
            ("nobody", _) => Audience::Nobody,
            (other, _) => return Err(Unfit(format!("{other:?} is no audience"))),
        };
        Ok(Self {
            position: document.position,
            id: own(document.id),
            kind: document.kind.into_owned(),
            audience,
            body: Bytes::from(document.body.into_owned()),
        })
    }
}
