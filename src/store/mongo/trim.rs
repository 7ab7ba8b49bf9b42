//! Deletes the oldest events of the outbox.

use mongodb::{
    Database,
    bson::{Document, doc},
    error::{Error, Result},
};
use serde::Deserialize;

use super::{
    partition::{PartitionDocument, is_head_of},
    read::{ReadError, read_partitions, read_published_cursor},
    schema::OUTBOX,
    webhooks,
};
use crate::{
    events::{OutboxCursor, OutboxPosition},
    store::retention::{MIN_RETAINED_EVENTS, WEBHOOK_RETENTION},
};

/// What is needed of a document with events.
#[derive(Deserialize)]
struct BatchHeader {
    #[serde(rename = "_id")]
    last_position: i64,
    #[serde(default)]
    commit_time: i64,
    count: u64,
}

/// Deletes published events, except the newest [`MIN_RETAINED_EVENTS`] of all partitions together,
/// and those that a webhook endpoint has not read yet.
pub(super) async fn trim_outbox(database: &Database) -> Result<()> {
    let partitions = read_partitions(database).await.map_err(to_driver_error)?;
    let heads: OutboxCursor = partitions.iter().map(|head| position_at(head, head.last)).collect();
    let trimmed: OutboxCursor =
        partitions.iter().map(|head| position_at(head, head.trimmed)).collect();
    // The cursor exists once any node had a broker. From then on every node, also one that is
    // configured without a broker, keeps the events that are not published.
    let published = read_published_cursor(database).await.map_err(to_driver_error)?;
    let published = published.unwrap_or_else(|| heads.clone());
    let retained = u64::from(MIN_RETAINED_EVENTS);
    if heads.count_since(&trimmed) <= retained || published.count_since(&trimmed) == 0 {
        return Ok(());
    }
    let read_by_all = webhooks::read_by_all_endpoints(database).await.map_err(to_driver_error)?;
    let keep = KeptEvents {
        published,
        read_by_all: read_by_all.unwrap_or_else(|| heads.clone()),
        kept_from: oldest_kept_commit_time(&partitions),
    };
    let (mut batches, end) = list_batches(database, &partitions, &keep).await?;
    // Events that somebody still needs are kept, and count as the newest.
    let mut room = retained.saturating_sub(heads.count_since(&end));
    batches.sort_unstable_by_key(|batch| (batch.commit_time, batch.last_position));
    while room > 0
        && let Some(newest) = batches.pop()
    {
        room = room.saturating_sub(newest.count);
    }
    let deletable: OutboxCursor =
        batches.iter().filter_map(|batch| OutboxPosition::from_i64(batch.last_position)).collect();
    for position in deletable.positions() {
        delete_up_to(database, position).await?;
    }
    Ok(())
}

const fn position_at(head: &PartitionDocument, offset: u64) -> OutboxPosition {
    OutboxPosition { partition: head.partition(), offset }
}

/// What keeps events from being deleted.
struct KeptEvents {
    /// What the broker has confirmed.
    published: OutboxCursor,
    /// Up to where every webhook endpoint has read.
    read_by_all: OutboxCursor,
    /// The commit time from which on events are kept for endpoints, in microseconds.
    kept_from: i64,
}

/// Endpoints can still read events that are not much older than the newest one.
fn oldest_kept_commit_time(partitions: &[PartitionDocument]) -> i64 {
    let newest = partitions.iter().map(|head| head.commit_time).max().unwrap_or(0);
    newest.saturating_sub(i64::try_from(WEBHOOK_RETENTION.as_micros()).unwrap_or(i64::MAX))
}

/// The oldest stored batches that nobody needs, and the cursor of a reader of them.
async fn list_batches(
    database: &Database,
    partitions: &[PartitionDocument],
    keep: &KeptEvents,
) -> Result<(Vec<BatchHeader>, OutboxCursor)> {
    let mut found = Vec::new();
    let mut end = OutboxCursor::default();
    for head in partitions {
        end.advance_to(position_at(head, head.trimmed));
        let last = keep.published.offset(head.partition()).min(head.last);
        let (from, to) = (position_at(head, head.trimmed), position_at(head, last));
        let range = doc! { "$gt": from.to_i64(), "$lte": to.to_i64() };
        let count = doc! { "$toLong": { "$size": "$events" } };
        let mut cursor = database
            .collection::<Document>(OUTBOX)
            .aggregate([
                doc! { "$match": { "_id": range } },
                doc! { "$sort": { "_id": 1 } },
                doc! { "$project": { "commit_time": 1, "count": count } },
            ])
            .with_type::<BatchHeader>()
            .await?;
        while cursor.advance().await? {
            let batch = cursor.deserialize_current()?;
            let Some(position) = OutboxPosition::from_i64(batch.last_position) else { break };
            if !keep.read_by_all.has_read(position) && batch.commit_time >= keep.kept_from {
                break;
            }
            end.advance_to(position);
            found.push(batch);
        }
    }
    Ok((found, end))
}

/// Deletes the events of a partition up to `last`. Readers must learn of it before.
async fn delete_up_to(database: &Database, last: OutboxPosition) -> Result<()> {
    let trimmed = i64::try_from(last.offset).unwrap_or(i64::MAX);
    database
        .collection::<Document>(OUTBOX)
        .update_one(is_head_of(last.partition), doc! { "$max": { "trimmed": trimmed } })
        .await?;
    let first = OutboxPosition { offset: 0, ..last };
    let range = doc! { "$gt": first.to_i64(), "$lte": last.to_i64() };
    database.collection::<Document>(OUTBOX).delete_many(doc! { "_id": range }).await.map(drop)
}

fn to_driver_error(error: ReadError) -> Error {
    Error::custom(error.to_string())
}
