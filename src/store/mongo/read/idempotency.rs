//! Reads of stored replies and of the inbox.

use mongodb::{
    Database,
    bson::{Document, doc},
};

use super::{
    super::{
        documents::{IdempotencyKeyDocument, IdempotencyKeyId, timestamp_to_bson, to_raw_document},
        load::deserialize_document,
        schema::{IDEMPOTENCY_KEYS, INBOX},
    },
    ReadResult, find_one,
};
use crate::{
    domain::clock::Timestamp,
    messages::command_context::{IdempotencyKey, StoredReply},
};

/// The response stored under `key` later than `stored_after`, with the fingerprint of its request.
/// An older one is expired.
pub(in crate::store::mongo) async fn find_stored_reply(
    database: Database,
    key: IdempotencyKey,
    stored_after: Timestamp,
) -> ReadResult<Option<([u8; 32], StoredReply)>> {
    let id = Document::try_from(to_raw_document(&IdempotencyKeyId::from_key(&key))?)?;
    let filter = doc! { "_id": id, "at": { "$gt": timestamp_to_bson(stored_after) } };
    find_one(&database, IDEMPOTENCY_KEYS, filter, |document| {
        deserialize_document::<IdempotencyKeyDocument<'_>>(document)?.into_response()
    })
    .await
}

pub(in crate::store::mongo) async fn is_in_inbox(
    database: Database,
    id: String,
) -> ReadResult<bool> {
    Ok(find_one(&database, INBOX, doc! { "_id": id }, |_| Ok(())).await?.is_some())
}
