//! Reads of events and positions, and the two writes that need no transaction.

use std::time::Duration;

use mongodb::{
    Database,
    bson::{Document, RawDocumentBuf, Uuid as Id, doc},
};
use serde::Deserialize;

use super::{
    super::{
        documents::{EventBatchDocument, id_to_bson},
        load::deserialize_document,
        schema::{COUNTERS, NODES, OUTBOX, PUBLISHED_COUNTER},
    },
    ListQuery, ReadResult, clamp_to_i64, find_many, find_one,
};
use crate::{domain::ids::EventId, events::OutboxEvent};

/// How many documents a cursor fetches at a time. Each may have hundreds of events.
const OUTBOX_CURSOR_BATCH: u32 = 16;

/// The longest time between the creation of the first and the last event of one document.
const MAX_EVENT_TIME_SPREAD: Duration = Duration::from_secs(2);

pub(in crate::store::mongo) async fn list_events_after(
    database: Database,
    position: u64,
    limit: u32,
) -> ReadResult<Vec<OutboxEvent>> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut cursor = database
        .collection::<RawDocumentBuf>(OUTBOX)
        .find(doc! { "_id": { "$gt": clamp_to_i64(position) } })
        .sort(doc! { "_id": 1 })
        .batch_size(OUTBOX_CURSOR_BATCH)
        .await?;
    let mut events = Vec::new();
    while events.len() < limit && cursor.advance().await? {
        let batch = deserialize_document::<EventBatchDocument<'_>>(cursor.current())?
            .into_outbox_events()?;
        events.extend(batch.into_iter().filter(|event| event.position > position));
    }
    events.truncate(limit);
    Ok(events)
}

pub(in crate::store::mongo) async fn event_position(
    database: Database,
    event: EventId,
) -> ReadResult<Option<u64>> {
    // Only `first_id` has an index. The document's lowest id is at most the event's own, and ids
    // start with the time of creation, so it is not much lower either.
    let earliest = EventId::earliest_at(event.created_at().saturating_sub(MAX_EVENT_TIME_SPREAD));
    let first_id =
        doc! { "$lte": id_to_bson(event.as_uuid()), "$gte": id_to_bson(earliest.as_uuid()) };
    let query = ListQuery {
        filter: doc! { "first_id": first_id, "events.id": id_to_bson(event.as_uuid()) },
        sort: Some(doc! { "first_id": -1 }),
        limit: Some(1),
        ..ListQuery::default()
    };
    let batches = find_many(&database, OUTBOX, query, |document| {
        deserialize_document::<EventBatchDocument<'_>>(document)?.into_outbox_events()
    })
    .await?;
    Ok(batches.into_iter().flatten().find(|found| found.id == event).map(|found| found.position))
}

pub(in crate::store::mongo) async fn last_event_position(database: Database) -> ReadResult<u64> {
    read_counter(&database, OUTBOX).await
}

/// The last position, from a member that is certainly the primary.
///
/// A former primary that has not heard of its successor answers a majority read with old data, but
/// no majority confirms its writes. So a write comes first. (A linearizable read does the same, but
/// waits for the next periodic journal write: 100 ms instead of 1 ms.)
pub(in crate::store::mongo) async fn confirmed_event_position(
    database: Database,
    node: Id,
) -> ReadResult<u64> {
    let increment = doc! { "$inc": { "asked": 1_i64 } };
    database
        .collection::<Document>(NODES)
        .update_one(doc! { "_id": node }, increment)
        // Other nodes may have deleted the document, and an update of nothing confirms nothing.
        .upsert(true)
        .await?;
    read_counter(&database, OUTBOX).await
}

pub(in crate::store::mongo) async fn published_position(database: Database) -> ReadResult<u64> {
    read_counter(&database, PUBLISHED_COUNTER).await
}

/// Raises the published position. `$max` keeps a late writer from lowering it.
pub(in crate::store::mongo) async fn mark_published(
    database: Database,
    position: u64,
) -> ReadResult<()> {
    let counters = database.collection::<Document>(COUNTERS);
    let raise = doc! { "$max": { "last": clamp_to_i64(position) } };
    counters.update_one(doc! { "_id": PUBLISHED_COUNTER }, raise).upsert(true).await?;
    Ok(())
}

async fn read_counter(database: &Database, name: &str) -> ReadResult<u64> {
    #[derive(Deserialize)]
    struct Counter {
        last: u64,
    }
    let counter = find_one(database, COUNTERS, doc! { "_id": name }, |document| {
        deserialize_document::<Counter>(document)
    })
    .await?;
    Ok(counter.map_or(0, |counter| counter.last))
}
