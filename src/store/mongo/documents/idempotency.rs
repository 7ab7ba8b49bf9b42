//! Idempotency keys and the responses stored under them.

use std::borrow::Cow;

use bytes::Bytes;
use mongodb::bson::{Binary, Bson, DateTime, Uuid as BsonUuid};
use serde::{Deserialize, Serialize};

use super::{
    DocumentError, bytes_to_binary, hash_from_binary, id_from_bson, id_to_bson,
    timestamp_from_bson, timestamp_to_bson,
};
use crate::{
    domain::{clock::Timestamp, ids::UserId},
    messages::command_context::{IdempotencyKey, StoredReply},
    store::{
        anonymized_reply::anonymize_reply,
        plan::{OwnedIdempotencyKey, ReplyToStore},
        reply_codec,
    },
};

/// The `_id` of an idempotency key. Two owners may use the same key text.
#[derive(Serialize, Deserialize)]
pub(in crate::store::mongo) struct IdempotencyKeyId<'a> {
    pub(in crate::store::mongo) owner: BsonUuid,
    #[serde(borrow)]
    pub(in crate::store::mongo) key: Cow<'a, str>,
}

impl<'a> IdempotencyKeyId<'a> {
    pub(in crate::store::mongo) fn from_key(key: &'a IdempotencyKey) -> Self {
        Self { owner: id_to_bson(key.owner.as_uuid()), key: Cow::Borrowed(&key.key) }
    }

    pub(in crate::store::mongo) fn to_owned_key(&self) -> OwnedIdempotencyKey {
        (id_from_bson(self.owner), self.key.as_ref().into())
    }
}

/// A key whose request was refused. The next attempt may still succeed, and its reply replaces this
/// document; an attempt that was received earlier may not.
#[derive(Serialize, Deserialize)]
pub(in crate::store::mongo) struct RefusedKeyDocument<'a> {
    #[serde(rename = "_id", borrow)]
    pub(in crate::store::mongo) id: IdempotencyKeyId<'a>,
    /// When the latest refused attempt was received. An index expires the document by it.
    refused_at: DateTime,
}

impl<'a> RefusedKeyDocument<'a> {
    pub(in crate::store::mongo) fn new(
        owner: UserId,
        key: &'a str,
        received_at: Timestamp,
    ) -> Self {
        let id = IdempotencyKeyId { owner: id_to_bson(owner.as_uuid()), key: Cow::Borrowed(key) };
        Self { id, refused_at: timestamp_to_bson(received_at) }
    }

    pub(in crate::store::mongo) fn received_at(&self) -> Timestamp {
        timestamp_from_bson(self.refused_at)
    }
}

fn body_to_bson(body: &[u8]) -> Bson {
    let stored = reply_codec::encode(body);
    match std::str::from_utf8(&stored) {
        Ok(text) => Bson::String(text.to_owned()),
        Err(_) => Bson::Binary(bytes_to_binary(&stored)),
    }
}

fn body_from_bson(body: Bson) -> Result<Bytes, DocumentError> {
    match body {
        Bson::String(text) => Ok(Bytes::from(text)),
        Bson::Binary(binary) => reply_codec::decode(binary.bytes)
            .map_err(|error| DocumentError(format!("a stored response is damaged: {error}"))),
        _ => Err(DocumentError("a stored response has no body".to_owned())),
    }
}

/// A key with its stored response. A body that is valid UTF-8, such as JSON, is stored as a
/// string unless it is compressed.
#[derive(Serialize, Deserialize)]
pub(in crate::store::mongo) struct IdempotencyKeyDocument<'a> {
    #[serde(rename = "_id", borrow)]
    pub(in crate::store::mongo) id: IdempotencyKeyId<'a>,
    fingerprint: Binary,
    status: u16,
    body: Bson,
    at: DateTime,
    /// The account that the response is about, if it is not the owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    about: Option<BsonUuid>,
}

impl<'a> IdempotencyKeyDocument<'a> {
    pub(in crate::store::mongo) fn new(stored: &'a ReplyToStore) -> Self {
        let ReplyToStore { key, reply, at, about } = stored;
        Self {
            id: IdempotencyKeyId::from_key(key),
            fingerprint: bytes_to_binary(&key.fingerprint),
            status: StoredReply::LEGACY_STATUS,
            body: body_to_bson(&reply.body),
            at: timestamp_to_bson(*at),
            about: about.map(|user| id_to_bson(user.as_uuid())),
        }
    }

    /// The same with what is left of the response when the account that it is about is erased.
    pub(in crate::store::mongo) fn into_anonymized(self) -> Self {
        let body = body_from_bson(self.body.clone()).unwrap_or_default();
        Self { body: body_to_bson(&anonymize_reply(&body)), ..self }
    }

    /// Whether the response was stored at `time` or before.
    pub(in crate::store::mongo) fn is_stored_by(&self, time: Timestamp) -> bool {
        self.at <= timestamp_to_bson(time)
    }

    /// The request's fingerprint and the response.
    pub(in crate::store::mongo) fn into_response(
        self,
    ) -> Result<([u8; 32], StoredReply), DocumentError> {
        let body = body_from_bson(self.body)?;
        Ok((hash_from_binary(&self.fingerprint)?, StoredReply::from_store(self.status, body)))
    }
}
