//! Reads of API keys and actions.

use futures_util::future::try_join_all;
use mongodb::{
    Database,
    bson::{Document, RawDocument, doc},
};

use super::{
    super::{
        documents::{ActionDocument, ApiKeyDocument, DocumentError, id_to_bson, timestamp_to_bson},
        load::deserialize_document,
        schema::{ACTIONS, API_KEYS},
    },
    ListQuery, ReadResult, find_many, find_one,
};
use crate::{
    domain::{
        account::ApiKey,
        action::{Action, ActionFilter},
        clock::Timestamp,
        ids::ApiKeyId,
    },
    store::staff_store::ActionPosition,
};

fn api_key_from_document(document: &RawDocument) -> Result<ApiKey, DocumentError> {
    deserialize_document::<ApiKeyDocument>(document)?.try_into()
}

pub(in crate::store::mongo) async fn find_api_key(
    database: Database,
    id: ApiKeyId,
) -> ReadResult<Option<ApiKey>> {
    let filter = doc! { "_id": id_to_bson(id.as_uuid()) };
    find_one(&database, API_KEYS, filter, api_key_from_document).await
}

pub(in crate::store::mongo) async fn list_api_keys(
    database: Database,
    before: Option<ApiKeyId>,
    limit: u32,
) -> ReadResult<Vec<ApiKey>> {
    let mut filter = doc! { "deleted_at": null };
    if let Some(before) = before {
        filter.insert("_id", doc! { "$lt": id_to_bson(before.as_uuid()) });
    }
    let sort = Some(doc! { "_id": -1 });
    let query = ListQuery { filter, sort, limit: Some(limit), ..ListQuery::default() };
    find_many(&database, API_KEYS, query, api_key_from_document).await
}

/// Records uses of keys, outside of the writers' transactions.
pub(in crate::store::mongo) async fn record_api_key_uses(
    database: Database,
    uses: Vec<(ApiKeyId, Timestamp)>,
) -> ReadResult<()> {
    let keys = database.collection::<Document>(API_KEYS);
    let record = async |(id, at): (ApiKeyId, Timestamp)| {
        let update = doc! { "$max": { "last_used_at": timestamp_to_bson(at) } };
        keys.update_one(doc! { "_id": id_to_bson(id.as_uuid()) }, update).await
    };
    try_join_all(uses.into_iter().map(record)).await?;
    Ok(())
}

pub(in crate::store::mongo) async fn list_actions(
    database: Database,
    filter: ActionFilter,
    after: Option<ActionPosition>,
    limit: u32,
) -> ReadResult<Vec<Action>> {
    let ActionFilter { actor, subject, from, to } = filter;
    let mut query = Document::new();
    if let Some(actor) = actor {
        query.insert("actor.id", id_to_bson(actor));
    }
    if let Some(subject) = subject {
        query.insert("subject", id_to_bson(subject));
    }
    let mut at = Document::new();
    if let Some(from) = from {
        at.insert("$gte", timestamp_to_bson(from));
    }
    if let Some(to) = to {
        at.insert("$lt", timestamp_to_bson(to));
    }
    if let Some((time, id)) = after {
        // With this bound, the server finds the place in the index.
        at.insert("$lte", timestamp_to_bson(time));
        let earlier = doc! { "at": { "$lt": timestamp_to_bson(time) } };
        let same_time = doc! { "_id": { "$lt": id_to_bson(id.as_uuid()) } };
        query.insert("$or", vec![earlier, same_time]);
    }
    if !at.is_empty() {
        query.insert("at", at);
    }
    let query = ListQuery {
        filter: query,
        sort: Some(doc! { "at": -1, "_id": -1 }),
        limit: Some(limit),
        ..ListQuery::default()
    };
    find_many(&database, ACTIONS, query, |document| {
        deserialize_document::<ActionDocument>(document)?.try_into()
    })
    .await
}
