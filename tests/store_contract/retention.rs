//! Which events the outbox keeps, over all partitions.

use std::time::Duration;

use souk::{
    events::{OutboxCursor, OutboxEvent, OutboxPosition},
    store::{Commit, OutboxPage, Store},
};
use tokio::time::{sleep, timeout};

use crate::{
    fixtures::{cart, cart_commit, customer},
    harness::{Harness, Mongo},
};

/// An upper bound that only a hang exceeds, even on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Writes this many events in large commits in one lane.
async fn write_in_lane(store: &dyn Store, lane: usize, count: u64) {
    const EVENTS_PER_COMMIT: u64 = 250;
    let owner = customer();
    for version in 1..=count / EVENTS_PER_COMMIT {
        let change = cart_commit(&cart(owner, version));
        let events = vec![change.events[0].clone(); EVENTS_PER_COMMIT as usize];
        let batch = vec![Commit { events, ..change }];
        assert!(store.apply_in_lane(lane, batch.into()).await.unwrap().outcomes[0].is_ok());
    }
}

fn cursor<const N: usize>(offsets: [(u32, u64); N]) -> OutboxCursor {
    offsets.map(|(partition, offset)| OutboxPosition { partition, offset }).into_iter().collect()
}

/// Waits until events are deleted and at most `count` are left, and returns those. The nodes delete
/// every few seconds, also while the events are written. A read may time out on a busy machine.
async fn wait_for_trim(store: &dyn Store, from: &OutboxCursor, count: usize) -> OutboxPage {
    let trimmed = async {
        loop {
            if let Ok(page) = store.list_events_after(from, u32::MAX).await
                && page.has_gap
                && page.events.len() <= count
            {
                return page;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(TIMEOUT, trimmed).await.expect("no event is deleted")
}

/// The first and the last offset of a partition's events.
fn range(events: &[OutboxEvent], partition: u32) -> (u64, u64) {
    let mut offsets =
        events.iter().map(|event| event.position).filter(|at| at.partition == partition);
    let first = offsets.next().unwrap().offset;
    (first, offsets.next_back().unwrap().offset)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn newest_events_of_all_partitions_are_kept() {
    let Some(mongo) = Mongo::new().await else { return };
    let store = mongo.open().await;
    // The events of the second partition are newer than the first half of the other one.
    write_in_lane(&*store, 0, 10_000).await;
    write_in_lane(&*store, 1, 12_000).await;
    write_in_lane(&*store, 0, 2_000).await;
    let heads = cursor([(0, 12_000), (1, 12_000)]);
    assert_eq!(store.outbox_heads().await, Ok(heads.clone()));
    let page = wait_for_trim(&*store, &OutboxCursor::default(), 20_000).await;
    assert_eq!((&page.end, page.has_more), (&heads, false));
    assert_eq!(page.events.len(), 20_000);
    assert_eq!(range(&page.events, 0), (4_001, 12_000), "the oldest of all are deleted");
    assert_eq!(range(&page.events, 1), (1, 12_000));
    for (read, has_gap) in [
        (cursor([]), true),
        (cursor([(0, 3_999), (1, 12_000)]), true),
        (cursor([(0, 4_000)]), false),
        (cursor([(0, 4_001), (1, 17)]), false),
        (heads.clone(), false),
    ] {
        let page = store.list_events_after(&read, u32::MAX).await.unwrap();
        assert_eq!((page.has_gap, &page.end), (has_gap, &heads), "after {read}");
        let changes = store.list_changes_after(&read, u32::MAX).await.unwrap();
        assert_eq!((changes.has_gap, &changes.end), (has_gap, &heads), "after {read}");
    }
    let found = store.audit_events().await.unwrap();
    let ranges: Vec<_> = found.iter().map(|audit| &*audit.ranges).collect();
    assert_eq!(ranges, [&[(4_001, 12_000)][..], &[(1, 12_000)]]);
    mongo.drop_database().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unpublished_events_of_every_partition_are_kept() {
    let Some(mongo) = Mongo::new().await else { return };
    let store = mongo.open_with_broker().await;
    for _ in 0..4 {
        write_in_lane(&*store, 0, 4_000).await;
        write_in_lane(&*store, 1, 4_000).await;
    }
    let heads = cursor([(0, 16_000), (1, 16_000)]);
    // Only what is published is deleted, although others are older.
    store.mark_published(&cursor([(0, 6_000)])).await.unwrap();
    let page = wait_for_trim(&*store, &OutboxCursor::default(), 26_000).await;
    assert_eq!((range(&page.events, 0), range(&page.events, 1)), ((6_001, 16_000), (1, 16_000)));
    // Of what is published, the newest are kept.
    store.mark_published(&cursor([(0, 16_000), (1, 14_000)])).await.unwrap();
    let page = wait_for_trim(&*store, &cursor([(0, 6_000)]), 20_000).await;
    assert_eq!((&page.end, page.events.len()), (&heads, 20_000));
    assert_eq!(
        (range(&page.events, 0), range(&page.events, 1)),
        ((8_001, 16_000), (4_001, 16_000))
    );
    mongo.drop_database().await;
}
