//! Reads of stored replies and of the inbox.

use mongodb::{
    Database,
    bson::{Bson, Document, doc},
};

use super::{
    super::{
        documents::{
            IdempotencyKeyDocument, IdempotencyKeyId, id_to_bson, timestamp_to_bson,
            to_raw_document,
        },
        load::deserialize_document,
        schema::{IDEMPOTENCY_KEYS, INBOX},
    },
    ReadResult, find_one,
};
use crate::{
    domain::{clock::Timestamp, ids::UserId},
    messages::command_context::{IdempotencyKey, StoredReply},
    store::StoredReplyUsage,
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

/// What is stored for `owner` after `stored_after`.
pub(in crate::store::mongo) async fn stored_reply_usage(
    database: Database,
    owner: UserId,
    stored_after: Timestamp,
) -> ReadResult<StoredReplyUsage> {
    let owner = id_to_bson(owner.as_uuid());
    // The range of ids that begin with the owner, since a document is compared field by field.
    let range = doc! { "$gt": { "owner": owner }, "$lt": { "owner": owner, "key": Bson::MaxKey } };
    let pipeline = [
        doc! { "$match": { "_id": range, "at": { "$gt": timestamp_to_bson(stored_after) } } },
        doc! { "$group": {
            "_id": null,
            "keys": { "$sum": 1_i64 },
            "bytes": { "$sum": { "$toLong": { "$bsonSize": "$$ROOT" } } },
        } },
    ];
    let mut groups = database.collection::<Document>(IDEMPOTENCY_KEYS).aggregate(pipeline).await?;
    if !groups.advance().await? {
        return Ok(StoredReplyUsage::default());
    }
    let sum = |field| groups.current().get_i64(field).ok().and_then(|sum| u64::try_from(sum).ok());
    Ok(StoredReplyUsage {
        keys: sum("keys").unwrap_or_default(),
        bytes: sum("bytes").unwrap_or_default(),
    })
}

pub(in crate::store::mongo) async fn is_in_inbox(
    database: Database,
    id: String,
) -> ReadResult<bool> {
    Ok(find_one(&database, INBOX, doc! { "_id": id }, |_| Ok(())).await?.is_some())
}
