//! Another node takes over when the relay is killed.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::{
    audit_queue::{Audit, first_times},
    broker::shared,
    cluster::Cluster,
    members::Members,
    partner::Partner,
    proxy::COMMIT,
    servers::proxied_set,
    support::unique,
};

/// The time until another node publishes new changes after a `kill -9`. Nodes need at most 3 s:
/// they look for dead nodes every 0.5 s and free the locks of a node whose heartbeat is older than
/// 2.5 s. They also try to become the relay every 0.5 s.
const TAKEOVER: Duration = Duration::from_secs(5);

/// An upper bound that only a hang exceeds, even on a busy machine.
const NEVER: Duration = Duration::from_secs(60);

/// Waits for a node to be the relay; returns its index.
pub(crate) async fn relay(cluster: &Cluster) -> usize {
    loop {
        for (place, node) in cluster.nodes.iter().enumerate() {
            if node.figure("souk_relay_active").await > 0.0 {
                return place;
            }
        }
    }
}

#[tokio::test]
async fn another_node_takes_over_from_a_killed_relay() {
    let (Some((_members, proxy, set)), Some(uri)) = (proxied_set().await, shared()) else { return };
    let audit = Audit::begin(&uri).await;
    let mut cluster = Cluster::on(&set, &[("broker.kind", "rabbitmq"), ("broker.uri", &uri)]).await;
    let admin = cluster.nodes[0].admin().await;
    let tea = cluster.nodes[0].product(&admin, &json!(4.5), 100_000).await;
    let mut messages = audit.until(|message| message.event.kind == "inventory.stock.changed").await;
    let mut took = Vec::new();
    for _ in 0..3 {
        let place = relay(&cluster).await;
        let [one, other] = &mut cluster.nodes[..] else { panic!("two nodes") };
        let (relay, heir) = if place == 0 { (one, other) } else { (other, one) };
        let delta = json!({"delta": -1, "reason": "sold at the counter"});
        for _ in 0..20 {
            relay.change_stock(&admin, &tea, &delta).await.ok();
        }
        // Kill the relay at the worst moment: while its transaction locks the outbox.
        let key = format!("last-{}", unique());
        let name = Cluster::name(place);
        let mut last = std::pin::pin!(relay.change_stock(&admin, &tea, &delta).key(&key).attempt());
        tokio::select! {
            biased;
            () = proxy.withhold(&name, COMMIT) => {}
            answer = &mut last => panic!("the commit was not withheld: {answer:?}"),
        }
        relay.kill_9().await;
        let killed = Instant::now();
        last.await.unwrap_err();
        let version = loop {
            let answer = heir.change_stock(&admin, &tea, &delta).key(&key).await;
            if answer.status != 503 {
                break answer.ok()["version"].to_string();
            }
            assert!(killed.elapsed() < NEVER, "the outbox stays locked");
        };
        messages.extend(audit.until(|message| message.event.body["sequence"] == *version).await);
        took.push(killed.elapsed());
        relay.restart().await;
    }
    eprintln!("the successor published after {took:?}");
    took.sort_unstable();
    // A busy machine may cause one delay; a systematic delay shows in the median.
    assert!(took[1] < TAKEOVER, "the takeover took {took:?}");
    let events = first_times(&messages);
    assert_eq!(messages[0].position, 1);
    assert_eq!(crate::support::gap_free(events.iter().copied())[&(tea, "inventory".into())], 64);
    cluster.end().await;
}

#[tokio::test]
async fn relay_without_its_store_gives_up_leadership() {
    let (Some(mut members), Some(uri)) = (Members::start(1).await, shared()) else { return };
    let audit = Audit::begin(&uri).await;
    let set = Members::uri(members.hosts());
    let mut cluster =
        Cluster::of(1, &set, &[("broker.kind", "rabbitmq"), ("broker.uri", &uri)]).await;
    cluster.expect_faults();
    relay(&cluster).await;
    members.kill(0);
    cluster.nodes[0].logged("the store does not answer; another node may publish").await;
    // The node's connections to the broker survive.
    let partner = Partner::connect(&uri).await;
    partner.until_gone("souk.relay").await;
    members.restart(0);
    cluster.nodes[0].until_ready("ready").await;
    let admin = cluster.nodes[0].admin().await;
    let tea = cluster.nodes[0].product(&admin, &json!(4.5), 1).await;
    audit.until(|message| message.event.subject() == tea).await;
    cluster.end().await;
}
