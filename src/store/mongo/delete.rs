//! Deletes sessions and guest carts that have ended.

use mongodb::{
    Database,
    bson::{Bson, Document, doc},
};

use super::{
    documents::{id_to_bson, timestamp_to_bson},
    read::ReadResult,
    schema::{CARTS, MAINTENANCE, SESSIONS},
};
use crate::{
    domain::{account::ENDED_SESSION_RETENTION, clock::Timestamp, ids::UserId},
    store::{limits::MAX_DELETED_RECORDS, retention::GUEST_CART_RETENTION},
};

/// Deletes up to [`MAX_DELETED_RECORDS`] of each kind, and returns how many there were. A node
/// whose clock runs ahead of the server's deletes nothing too early.
pub(super) async fn delete_ended_records(database: Database, now: Timestamp) -> ReadResult<u64> {
    let hello = database.client().database("admin").run_command(doc! { "hello": 1 }).await?;
    let now = hello
        .get_datetime("localTime")
        .map_or(now, |server| now.min(Timestamp::from_millis(server.timestamp_millis())));
    let ended = doc! { "$lte": timestamp_to_bson(now.saturating_sub(ENDED_SESSION_RETENTION)) };
    let mut deleted = 0;
    for field in ["revoked_at", "expires_at"] {
        deleted +=
            delete_some(&database, SESSIONS, doc! { field: ended.clone() }, doc! { field: 1 })
                .await?;
    }
    // A guest's id contains the time of its creation. Only the carts of guests that have ended have
    // it there, too.
    let first_kept = UserId::earliest_at(now.saturating_sub(GUEST_CART_RETENTION));
    let carts = doc! { MAINTENANCE: { "$lt": id_to_bson(first_kept.as_uuid()) } };
    deleted += delete_some(&database, CARTS, carts, doc! { MAINTENANCE: 1 }).await?;
    Ok(deleted)
}

/// Deletes the first documents that match `filter`, in the order of the index that finds them.
async fn delete_some(
    database: &Database,
    collection: &str,
    filter: Document,
    order: Document,
) -> ReadResult<u64> {
    let collection = database.collection::<Document>(collection);
    let mut found = collection
        .find(filter.clone())
        .sort(order)
        .projection(doc! { "_id": 1 })
        .limit(i64::from(MAX_DELETED_RECORDS))
        .await?;
    let mut ids: Vec<Bson> = Vec::new();
    while found.advance().await? {
        ids.extend(found.deserialize_current()?.remove("_id"));
    }
    if ids.is_empty() {
        return Ok(0);
    }
    let some = doc! { "$and": [{ "_id": { "$in": ids } }, filter] };
    Ok(collection.delete_many(some).await?.deleted_count)
}
