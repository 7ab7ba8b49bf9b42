//! Commands during an outage of the store, the broker or a node: none is lost, repeated or
//! dead-lettered.

use serde_json::json;

use crate::{
    broker::{Broker, shared},
    cluster::Cluster,
    commands::{adjust, shop, ten},
    partner::{DEAD, Partner},
    shared_set,
    support::{Account, TestApp},
};

async fn until_on_hand(app: &TestApp, admin: &Account, product: &str, pieces: u64) {
    let there = async {
        while app.stock(admin, product).await["on_hand"] != pieces {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(120), there)
        .await
        .expect("the commands are not applied");
}

#[tokio::test]
async fn commands_wait_while_the_store_is_locked() {
    let Some(uri) = shared() else { return };
    let mut app = shop(&uri).await;
    app.expect_faults();
    let admin = app.admin().await;
    let tea = ten(&app, &admin, "TEA").await;
    let partner = Partner::of_a_shop(&uri).await;
    let intruder = rusqlite::Connection::open(app.dir().join("data/souk.db")).unwrap();
    intruder.execute_batch("BEGIN IMMEDIATE").unwrap();
    for number in 0..3 {
        partner.send(&adjust(&number.to_string(), json!({"sku": "TEA", "delta": 1}))).await;
    }
    app.logged("a batch failed").await;
    intruder.execute_batch("ROLLBACK").unwrap();
    until_on_hand(&app, &admin, &tea, 13).await;
    partner.settled().await;
    assert_eq!(app.stock(&admin, &tea).await["on_hand"], 13);
}

#[tokio::test]
async fn commands_survive_repeated_broker_crashes() {
    let Some(mut broker) = Broker::start().await else { return };
    let app = shop(&broker.uri()).await;
    let admin = app.admin().await;
    let tea = ten(&app, &admin, "TEA").await;
    Partner::of_a_shop(&broker.uri()).await;
    broker.has_noted_new_queues().await;
    let mut sent = 0;
    for _ in 0..2 {
        let partner = Partner::of_a_shop(&broker.uri()).await;
        for _ in 0..60 {
            partner.send(&adjust(&sent.to_string(), json!({"sku": "TEA", "delta": 1}))).await;
            sent += 1;
        }
        // Kill the broker while only some commands are applied.
        broker.kill();
        broker.restart().await;
    }
    until_on_hand(&app, &admin, &tea, 10 + sent).await;
    let partner = Partner::of_a_shop(&broker.uri()).await;
    partner.settled().await;
    assert_eq!(app.stock(&admin, &tea).await["on_hand"], 10 + sent);
    assert_eq!(partner.waiting(DEAD).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_node_continues_after_a_kill() {
    let (Some(uri), Some(set)) = (shared(), shared_set::uri().await) else { return };
    let mut cluster = Cluster::on(&set, &[("broker.kind", "rabbitmq"), ("broker.uri", &uri)]).await;
    let admin = cluster.nodes[0].admin().await;
    let tea = ten(&cluster.nodes[0], &admin, "TEA").await;
    let partner = Partner::of_a_shop(&uri).await;
    let mut sent = 0;
    for round in 0..4 {
        for _ in 0..50 {
            partner.send(&adjust(&sent.to_string(), json!({"sku": "TEA", "delta": 1}))).await;
            sent += 1;
        }
        // Either node may be the consumer.
        let node = &mut cluster.nodes[round % 2];
        node.kill_9().await;
        node.restart().await;
    }
    let admin = cluster.nodes[1].admin().await;
    until_on_hand(&cluster.nodes[1], &admin, &tea, 10 + sent).await;
    partner.settled().await;
    assert_eq!(
        cluster.nodes[0]
            .get(&format!("/api/products/{tea}/stock"))
            .token(&admin)
            .header("cache-control", "no-cache")
            .await
            .ok()["on_hand"],
        10 + sent
    );
    cluster.end().await;
}
