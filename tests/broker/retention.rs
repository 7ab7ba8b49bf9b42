//! Published events do not accumulate in the store.

use std::{collections::BTreeSet, time::Duration};

use serde_json::json;
use souk::events::OutboxCursor;

use crate::{broker::shared_uri, cluster::Cluster, outbox, shared_replica_set, support::Event};

/// An upper bound that only a hang exceeds, even on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(120);

/// The number of newest events kept for feeds, and the maximum number deleted at once.
const KEPT_EVENTS: usize = 20_000;
const DELETE_BATCH: usize = 256;

/// Import files and products per file. Each product causes two events.
const FILES: usize = 4;
const PRODUCTS: usize = 2_600;

#[tokio::test]
async fn published_events_are_deleted_while_the_shop_runs() {
    let (Some(set), Some(uri)) = (shared_replica_set::uri().await, shared_uri()) else { return };
    let cluster = Cluster::start(&set, &[("broker.kind", "rabbitmq"), ("broker.uri", &uri)]).await;
    let (here, there) = cluster.both_nodes();
    let admin = here.admin().await;
    for _ in 0..FILES {
        let lines = (0..PRODUCTS).map(|n| {
            json!({"name": format!("Product {n}"), "price": 1, "stock": 1}).to_string() + "\n"
        });
        let import = here
            .call("POST", "/api/products/import")
            .token(&admin)
            .header("content-type", "application/x-ndjson");
        assert_eq!(import.body(lines.collect::<String>()).await.ok()["created"], PRODUCTS);
    }
    there.wait_until_published().await;
    let kept = async {
        loop {
            let kept = outbox::events(&cluster.database).await;
            if kept.len() < KEPT_EVENTS + DELETE_BATCH {
                return kept;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let kept = tokio::time::timeout(TIMEOUT, kept).await.expect("published events accumulate");
    assert!(kept.len() >= KEPT_EVENTS, "{} are kept", kept.len());
    let newest: OutboxCursor = kept.keys().copied().collect();
    let total = newest.count_since(&OutboxCursor::default());
    assert!(total >= (FILES * PRODUCTS * 2) as u64, "the newest are kept: {newest}");
    // Feeds resume from the kept events. A node that still processes peer events answers 503, for a
    // while on a slow machine.
    let caught_up = async { while there.get("/api/products?limit=1").await.status != 200 {} };
    tokio::time::timeout(TIMEOUT, caught_up).await.expect("the node does not catch up");
    let mut feed = there.open_whole_feed(None).await;
    let public = |event: &Event| !event.kind.starts_with("auth.");
    let expected: BTreeSet<_> =
        kept.values().filter(|event| public(event)).map(|event| &event.id).collect();
    let mut received = BTreeSet::new();
    while received.len() < expected.len() {
        let event = feed.next().await;
        assert!(expected.contains(&event.id) && received.insert(event.id));
    }
    drop(feed);
    cluster.shut_down().await;
}
