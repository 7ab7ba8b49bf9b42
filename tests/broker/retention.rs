//! Published events do not accumulate in the store.

use std::time::Duration;

use serde_json::json;

use crate::{broker::shared, cluster::Cluster, outbox, shared_set};

/// An upper bound that only a hang exceeds, even on a busy machine.
const NEVER: Duration = Duration::from_secs(120);

/// The number of newest events kept for feeds, and the maximum number deleted at once.
const KEPT: usize = 20_000;
const TOGETHER: usize = 256;

/// Import files and products per file. Each product causes two events.
const FILES: usize = 4;
const PRODUCTS: usize = 2_600;

#[tokio::test]
async fn published_events_are_deleted_while_the_shop_runs() {
    let (Some(set), Some(uri)) = (shared_set::uri().await, shared()) else { return };
    let cluster = Cluster::on(&set, &[("broker.kind", "rabbitmq"), ("broker.uri", &uri)]).await;
    let (here, there) = cluster.pair();
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
    there.published().await;
    let kept = async {
        loop {
            let kept = outbox::events(&cluster.database).await;
            if kept.len() < KEPT + TOGETHER {
                return kept;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let kept = tokio::time::timeout(NEVER, kept).await.expect("published events accumulate");
    assert!(kept.len() >= KEPT, "{} are kept", kept.len());
    let ((oldest, first), (newest, last)) =
        (kept.first_key_value().unwrap(), kept.last_key_value().unwrap());
    assert!(
        *newest >= (FILES * PRODUCTS * 2) as u64 && newest - oldest + 1 == kept.len() as u64,
        "the newest are kept"
    );
    // Feeds resume from the kept events. A node that still processes peer events answers 503, for a
    // while on a slow machine.
    let caught_up = async { while there.get("/api/products?limit=1").await.status != 200 {} };
    tokio::time::timeout(NEVER, caught_up).await.expect("the node does not catch up");
    let mut feed = there.listen(None, Some(&first.id)).await;
    assert_eq!(feed.until(|event| event.id == last.id).await.len(), kept.len() - 1);
    drop(feed);
    cluster.end().await;
}
