//! The relay is killed, and another goes on where it ended.

use std::time::Instant;

use serde_json::json;

use crate::{
    audit_queue::{Audit, first_times},
    broker::shared,
    cluster::Cluster,
    members::Members,
    partner::Partner,
    shared_set,
};

/// The place of the node that publishes the events, waited for.
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
async fn when_the_relay_is_killed_another_goes_on() {
    let (Some(set), Some(uri)) = (shared_set::uri().await, shared()) else { return };
    let audit = Audit::begin(&uri).await;
    let mut cluster = Cluster::on(&set, &[("broker.kind", "rabbitmq"), ("broker.uri", &uri)]).await;
    let admin = cluster.nodes[0].admin().await;
    let tea = cluster.nodes[0].product(&admin, &json!(4.5), 100_000).await;
    let mut messages = audit.until(|message| message.event.kind == "inventory.stock.changed").await;
    for _ in 0..3 {
        let place = relay(&cluster).await;
        let [one, other] = &mut cluster.nodes[..] else { panic!("two nodes") };
        let (relay, heir) = if place == 0 { (one, other) } else { (other, one) };
        let delta = json!({"delta": -1, "reason": "sold at the counter"});
        for _ in 0..20 {
            relay.change_stock(&admin, &tea, &delta).await.ok();
        }
        relay.kill_9().await;
        let killed = Instant::now();
        let version = heir.change_stock(&admin, &tea, &delta).await.ok()["version"].to_string();
        messages.extend(audit.until(|message| message.event.body["sequence"] == *version).await);
        eprintln!("published by the heir after {:?}", killed.elapsed());
        assert!(killed.elapsed().as_secs() < 30, "it took {:?}", killed.elapsed());
        relay.restart().await;
    }
    let events = first_times(&messages);
    assert_eq!(messages[0].position, 1);
    assert_eq!(crate::support::gap_free(events.iter().copied())[&(tea, "inventory".into())], 64);
    cluster.end().await;
}

#[tokio::test]
async fn a_relay_that_has_lost_its_store_leaves_its_place() {
    let (Some(mut members), Some(uri)) = (Members::start(1).await, shared()) else { return };
    let audit = Audit::begin(&uri).await;
    let set = Members::uri(members.hosts());
    let mut cluster = Cluster::of(1, &set, &[("broker.kind", "rabbitmq"), ("broker.uri", &uri)]).await;
    cluster.expect_faults();
    relay(&cluster).await;
    members.kill(0);
    cluster.nodes[0].logged("the store does not answer; another node may publish").await;
    // Its connections live on.
    let partner = Partner::connect(&uri).await;
    partner.until_gone("souk.relay").await;
    members.restart(0);
    cluster.nodes[0].until_ready("ready").await;
    let admin = cluster.nodes[0].admin().await;
    let tea = cluster.nodes[0].product(&admin, &json!(4.5), 1).await;
    audit.until(|message| message.event.subject() == tea).await;
    cluster.end().await;
}
