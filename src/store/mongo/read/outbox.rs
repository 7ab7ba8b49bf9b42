//! Reads of the outbox and of the relay's cursor, and the two writes that need no transaction.
//!
//! Heads and events are read from one snapshot. That makes every page closed: if an event of a
//! subject is before the heads, so are all that it builds on, because its transaction had seen
//! them. And all events before the heads are there, also when another member has become the primary
//! between the two reads. Events are put in the order of their commit times, in which every
//! subject's sequence rises.

use std::collections::{BTreeMap, HashMap};

use mongodb::{
    Database,
    bson::{Bson, Document, RawDocument, Uuid as BsonUuid, doc},
};
use serde::Deserialize;

use super::{
    super::{
        documents::{ChangesDocument, EventBatchDocument, MAX_EVENTS_PER_DOCUMENT},
        load::deserialize_document,
        partition::{PartitionDocument, is_head},
        schema::{COUNTERS, NODES, OUTBOX, PUBLISHED_COUNTER},
    },
    ReadError, ReadResult, SnapshotReader, clamp_to_i64,
};
use crate::{
    events::{OutboxCursor, OutboxEvent, OutboxPosition},
    store::{OutboxChanges, OutboxPage},
};

/// The key that orders the events of a page.
type EventOrder = (i64, OutboxPosition);

pub(in crate::store::mongo) async fn list_events_after(
    database: Database,
    cursor: OutboxCursor,
    limit: u32,
) -> ReadResult<OutboxPage> {
    let UnreadRanges { mut snapshot, ranges, has_gap, has_more, start } =
        find_unread(&database, cursor, limit).await?;
    let mut page = OutboxPage { has_gap, has_more, end: start, ..OutboxPage::default() };
    if ranges.is_empty() {
        return Ok(page);
    }
    let mut batches = read_batches(&mut snapshot, &ranges).await?;
    batches.sort_unstable_by_key(|(order, _)| *order);
    page.has_gap |= skip_missing(&ranges, &batches, &mut page.end);
    let end = complete_up_to(&ranges, &batches);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    for (order, events) in batches {
        if end.is_some_and(|end| order > end) || page.events.len() >= limit {
            page.has_more = true;
            break;
        }
        let room = limit - page.events.len();
        page.has_more |= events.len() > room;
        page.events.extend(events.into_iter().take(room));
    }
    for event in &page.events {
        page.end.advance_to(event.position);
    }
    Ok(page)
}

/// What follows a cursor.
struct UnreadRanges {
    /// The snapshot that has the ranges.
    snapshot: SnapshotReader,
    /// What to read.
    ranges: Vec<ReadRange>,
    /// Whether events after the cursor are deleted.
    has_gap: bool,
    /// Whether there are more events than those in the ranges.
    has_more: bool,
    /// The cursor, moved over deleted events.
    start: OutboxCursor,
}

async fn find_unread(
    database: &Database,
    cursor: OutboxCursor,
    limit: u32,
) -> ReadResult<UnreadRanges> {
    let mut snapshot = SnapshotReader::start(database).await?;
    let heads = read_heads(&mut snapshot).await?;
    let ranges = ranges_to_read(&heads, &cursor, limit.into());
    let mut start = cursor.clone();
    for head in &heads {
        start.advance_to(OutboxPosition { partition: head.partition(), offset: head.trimmed });
    }
    let has_gap = heads.iter().any(|head| head.trimmed > cursor.offset(head.partition()));
    let has_more = ranges.iter().any(|range| range.is_partial);
    Ok(UnreadRanges { snapshot, ranges, has_gap, has_more, start })
}

/// The events to read of one partition.
struct ReadRange {
    partition: u32,
    /// The offset before the first event.
    after: u64,
    /// The offset of the last event.
    last: u64,
    /// Whether the partition has more events after `last`.
    is_partial: bool,
}

/// What to read of each partition that has events after `cursor`.
fn ranges_to_read(
    heads: &[PartitionDocument],
    cursor: &OutboxCursor,
    limit: u64,
) -> Vec<ReadRange> {
    let after = |head: &PartitionDocument| cursor.offset(head.partition()).max(head.trimmed);
    let behind: Vec<&PartitionDocument> =
        heads.iter().filter(|head| head.last > after(head)).collect();
    let share = limit / (behind.len() as u64).max(1);
    // At least one document, so that each read makes progress.
    let share = share.max(MAX_EVENTS_PER_DOCUMENT as u64);
    let range = |head: &PartitionDocument| {
        let after = after(head);
        let last = head.last.min(after + share);
        ReadRange { partition: head.partition(), after, last, is_partial: last < head.last }
    };
    behind.into_iter().map(range).collect()
}

/// The stored batches with events in `ranges`, without the events before them.
async fn read_batches(
    snapshot: &mut SnapshotReader,
    ranges: &[ReadRange],
) -> ReadResult<Vec<(EventOrder, Vec<OutboxEvent>)>> {
    let after: HashMap<u32, u64> =
        ranges.iter().map(|range| (range.partition, range.after)).collect();
    let to_batch = |document: &RawDocument| {
        let batch = deserialize_document::<EventBatchDocument<'_>>(document)?;
        let commit_time = batch.commit_time();
        let mut events = batch.into_outbox_events()?;
        events.retain(|event| after.get(&event.position.partition) < Some(&event.position.offset));
        let last = events
            .last()
            .map_or(OutboxPosition { partition: 0, offset: 0 }, |event| event.position);
        Ok(((commit_time, last), events))
    };
    snapshot.find_many(OUTBOX, in_ranges(ranges), None, to_batch).await
}

/// Matches the batches that end in `ranges`.
fn in_ranges(ranges: &[ReadRange]) -> Document {
    let mut filters = ranges.iter().map(|range| {
        let at = |offset| OutboxPosition { partition: range.partition, offset }.to_i64();
        doc! { "_id": { "$gt": at(range.after), "$lte": at(range.last) } }
    });
    match (ranges.len(), filters.next()) {
        // The server takes longer to plan a query with `$or`.
        (1, Some(filter)) => filter,
        (_, first) => doc! { "$or": first.into_iter().chain(filters).collect::<Vec<_>>() },
    }
}

/// The changes of the batches after `cursor`, which may include changes of events before it. They
/// are in no order.
pub(in crate::store::mongo) async fn list_changes_after(
    database: Database,
    cursor: OutboxCursor,
    limit: u32,
) -> ReadResult<OutboxChanges> {
    #[derive(Deserialize)]
    struct BatchChanges {
        #[serde(default)]
        changes: ChangesDocument,
    }
    let UnreadRanges { mut snapshot, ranges, has_gap, has_more, start } =
        find_unread(&database, cursor, limit).await?;
    let mut found = OutboxChanges { has_gap, has_more, end: start, ..OutboxChanges::default() };
    for range in &ranges {
        found.end.advance_to(OutboxPosition { partition: range.partition, offset: range.last });
    }
    if !ranges.is_empty() && !found.has_gap {
        let only_changes = Some(doc! { "changes": 1 });
        let batches: Vec<BatchChanges> = snapshot
            .find_many(OUTBOX, in_ranges(&ranges), only_changes, |batch| {
                deserialize_document(batch)
            })
            .await?;
        found.changes =
            batches.into_iter().flat_map(|batch| batch.changes.into_changes()).collect();
    }
    Ok(found)
}

/// Moves `end` over ranges whose events are all missing. Returns whether any event is missing,
/// which only happens when somebody has deleted it by hand.
fn skip_missing(
    ranges: &[ReadRange],
    batches: &[(EventOrder, Vec<OutboxEvent>)],
    end: &mut OutboxCursor,
) -> bool {
    let mut is_missing = false;
    for ReadRange { partition, after, last, .. } in ranges {
        let mut found: u64 = 0;
        let mut last_found = None;
        for (order, events) in batches.iter().filter(|(order, _)| order.1.partition == *partition) {
            found += events.len() as u64;
            last_found = Some(order.1.offset);
        }
        is_missing |= found < last_found.unwrap_or(*last) - after;
        if last_found.is_none() {
            end.advance_to(OutboxPosition { partition: *partition, offset: *last });
        }
    }
    is_missing
}

/// Up to where the batches are complete: no partition that was not read to its head has an event
/// before that. `None` if all were.
fn complete_up_to(
    ranges: &[ReadRange],
    batches: &[(EventOrder, Vec<OutboxEvent>)],
) -> Option<EventOrder> {
    let mut last_read: BTreeMap<u32, EventOrder> = BTreeMap::new();
    for (order, _) in batches {
        last_read.insert(order.1.partition, *order);
    }
    let partial = ranges.iter().filter(|range| range.is_partial);
    partial.filter_map(|range| last_read.get(&range.partition).copied()).min()
}

/// The heads of all partitions, from one snapshot.
pub(in crate::store::mongo) async fn read_partitions(
    database: &Database,
) -> ReadResult<Vec<PartitionDocument>> {
    read_heads(&mut SnapshotReader::start(database).await?).await
}

async fn read_heads(snapshot: &mut SnapshotReader) -> ReadResult<Vec<PartitionDocument>> {
    snapshot.find_many(OUTBOX, is_head(), None, |document| deserialize_document(document)).await
}

pub(in crate::store::mongo) async fn outbox_heads(database: Database) -> ReadResult<OutboxCursor> {
    let partitions = read_partitions(&database).await?;
    let head = |document: PartitionDocument| OutboxPosition {
        partition: document.partition(),
        offset: document.last,
    };
    Ok(partitions.into_iter().map(head).collect())
}

/// The heads, from a member that is certainly the primary.
///
/// A former primary that has not heard of its successor answers a majority read with old data, but
/// no majority confirms its writes. So a write comes first. (A linearizable read does the same, but
/// waits for the next periodic journal write: 100 ms instead of 1 ms.)
pub(in crate::store::mongo) async fn linearizable_outbox_heads(
    database: Database,
    node: BsonUuid,
) -> ReadResult<OutboxCursor> {
    probe_write(database.clone(), node).await?;
    outbox_heads(database).await
}

/// Writes something that a majority confirms.
pub(in crate::store::mongo) async fn probe_write(
    database: Database,
    node: BsonUuid,
) -> ReadResult<()> {
    let asked = doc! { "$add": [{ "$ifNull": ["$asked", 0_i64] }, 1_i64] };
    let increment = doc! { "$set": { "asked": asked, "at": { "$ifNull": ["$at", "$$NOW"] } } };
    database
        .collection::<Document>(NODES)
        .update_one(doc! { "_id": node }, vec![increment])
        // Other nodes may have deleted the document, and an update of nothing confirms nothing.
        .upsert(true)
        .await?;
    Ok(())
}

pub(in crate::store::mongo) async fn published_cursor(
    database: Database,
) -> ReadResult<OutboxCursor> {
    Ok(read_published_cursor(&database).await?.unwrap_or_default())
}

/// The relay's cursor. `None` when no node ever had a broker.
pub(in crate::store::mongo) async fn read_published_cursor(
    database: &Database,
) -> ReadResult<Option<OutboxCursor>> {
    let counters = database.collection::<Document>(COUNTERS);
    let Some(counter) = counters.find_one(doc! { "_id": PUBLISHED_COUNTER }).await? else {
        return Ok(None);
    };
    let invalid = |error: &dyn std::fmt::Display| {
        ReadError::from(super::DocumentError(format!("the published cursor is invalid: {error}")))
    };
    let offsets = counter.get_document("partitions").map_err(|error| invalid(&error))?;
    let position = |(partition, offset): (&String, &Bson)| {
        Some(OutboxPosition {
            partition: partition.parse().ok()?,
            offset: u64::try_from(offset.as_i64()?).ok()?,
        })
    };
    let positions: Option<OutboxCursor> = offsets.iter().map(position).collect();
    positions.map(Some).ok_or_else(|| invalid(&offsets))
}

/// Raises the relay's cursor. `$max` keeps a late writer from lowering it.
pub(in crate::store::mongo) async fn mark_published(
    database: Database,
    cursor: OutboxCursor,
) -> ReadResult<()> {
    let offset = |position: OutboxPosition| {
        let field = format!("partitions.{}", position.partition);
        (field, Bson::from(clamp_to_i64(position.offset)))
    };
    let raised: Document = cursor.positions().map(offset).collect();
    if !raised.is_empty() {
        let counters = database.collection::<Document>(COUNTERS);
        counters
            .update_one(doc! { "_id": PUBLISHED_COUNTER }, doc! { "$max": raised })
            .upsert(true)
            .await?;
    }
    Ok(())
}
