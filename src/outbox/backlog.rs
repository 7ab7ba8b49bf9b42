//! How far the publication of the outbox is behind.

use std::time::Duration;

use crate::{
    domain::clock::Timestamp,
    events::{OutboxCursor, OutboxPosition},
    metrics::outbox::{PartitionBacklog, PartitionStats},
    store::{Store, StoreUnavailable},
};

/// Reads the state of each partition. Without a broker, nothing is published, and there is no
/// backlog.
pub(crate) async fn read_partitions(
    store: &dyn Store,
    has_broker: bool,
    now: Timestamp,
) -> Result<Vec<PartitionStats>, StoreUnavailable> {
    let published = match has_broker {
        // Read before the heads, which can only be later.
        true => Some(store.published_cursor().await?),
        false => None,
    };
    let heads = store.outbox_heads().await?;
    let mut partitions = Vec::new();
    for head in heads.positions() {
        let backlog = match &published {
            Some(published) => Some(read_backlog(store, &heads, head, published, now).await?),
            None => None,
        };
        let OutboxPosition { partition, offset } = head;
        partitions.push(PartitionStats { partition, events: offset, backlog });
    }
    Ok(partitions)
}

async fn read_backlog(
    store: &dyn Store,
    heads: &OutboxCursor,
    head: OutboxPosition,
    published: &OutboxCursor,
    now: Timestamp,
) -> Result<PartitionBacklog, StoreUnavailable> {
    let offset = published.offset(head.partition);
    let events = head.offset.saturating_sub(offset);
    if events == 0 {
        return Ok(PartitionBacklog::default());
    }
    // A reader that has read everything but this partition's backlog.
    let others = heads.positions().filter(|at| at.partition != head.partition);
    let own = OutboxPosition { partition: head.partition, offset };
    let page = store.list_events_after(&others.chain([own]).collect(), 1).await?;
    let oldest = page.events.iter().find(|event| event.position.partition == head.partition);
    let millis = oldest.map_or(0, |event| now.as_millis() - event.id.created_at().as_millis());
    let age = Duration::from_millis(u64::try_from(millis).unwrap_or(0));
    Ok(PartitionBacklog { events, age })
}
