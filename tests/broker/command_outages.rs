//! Commands during an outage of the store, the broker or a node: none is lost, repeated or
//! dead-lettered.

use serde_json::json;

use crate::{
    amqp_client::{AmqpClient, DEAD_LETTERS},
    broker::{Broker, shared_uri},
    cluster::Cluster,
    commands::{adjust_command, product_with_ten_units, shop_with_broker},
    shared_replica_set,
    support::{Account, TestApp},
};

async fn wait_for_on_hand(app: &TestApp, admin: &Account, product: &str, units: u64) {
    let reached = async {
        while app.stock(admin, product).await["on_hand"] != units {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(120), reached)
        .await
        .expect("the commands are not applied");
}

#[tokio::test]
async fn commands_wait_while_the_store_is_locked() {
    let Some(uri) = shared_uri() else { return };
    let mut app = shop_with_broker(&uri).await;
    app.expect_faults();
    let admin = app.admin().await;
    let tea = product_with_ten_units(&app, &admin, "TEA").await;
    let amqp_client = AmqpClient::connect_when_ready(&uri).await;
    let write_lock = rusqlite::Connection::open(app.dir().join("data/souk.db")).unwrap();
    write_lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    for number in 0..3 {
        amqp_client
            .send(&adjust_command(&number.to_string(), json!({"sku": "TEA", "delta": 1})))
            .await;
    }
    app.wait_for_log("failed to apply a batch").await;
    write_lock.execute_batch("ROLLBACK").unwrap();
    wait_for_on_hand(&app, &admin, &tea, 13).await;
    amqp_client.wait_until_settled().await;
    assert_eq!(app.stock(&admin, &tea).await["on_hand"], 13);
}

#[tokio::test]
async fn commands_survive_repeated_broker_crashes() {
    let Some(mut broker) = Broker::start().await else { return };
    let app = shop_with_broker(&broker.uri()).await;
    let admin = app.admin().await;
    let tea = product_with_ten_units(&app, &admin, "TEA").await;
    AmqpClient::connect_when_ready(&broker.uri()).await;
    broker.wait_until_queues_persist().await;
    let mut sent = 0;
    for _ in 0..2 {
        let amqp_client = AmqpClient::connect_when_ready(&broker.uri()).await;
        for _ in 0..60 {
            amqp_client
                .send(&adjust_command(&sent.to_string(), json!({"sku": "TEA", "delta": 1})))
                .await;
            sent += 1;
        }
        // Kill the broker while only some commands are applied.
        broker.kill();
        broker.restart().await;
    }
    wait_for_on_hand(&app, &admin, &tea, 10 + sent).await;
    let amqp_client = AmqpClient::connect_when_ready(&broker.uri()).await;
    amqp_client.wait_until_settled().await;
    assert_eq!(app.stock(&admin, &tea).await["on_hand"], 10 + sent);
    assert_eq!(amqp_client.message_count(DEAD_LETTERS).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_node_continues_after_a_kill() {
    let (Some(uri), Some(set)) = (shared_uri(), shared_replica_set::uri().await) else { return };
    let mut cluster =
        Cluster::start(&set, &[("broker.kind", "rabbitmq"), ("broker.uri", &uri)]).await;
    let admin = cluster.nodes[0].admin().await;
    let tea = product_with_ten_units(&cluster.nodes[0], &admin, "TEA").await;
    let amqp_client = AmqpClient::connect_when_ready(&uri).await;
    let mut sent = 0;
    for round in 0..4 {
        for _ in 0..50 {
            amqp_client
                .send(&adjust_command(&sent.to_string(), json!({"sku": "TEA", "delta": 1})))
                .await;
            sent += 1;
        }
        // Either node may be the consumer.
        let node = &mut cluster.nodes[round % 2];
        node.kill_9().await;
        node.restart().await;
    }
    let admin = cluster.nodes[1].admin().await;
    wait_for_on_hand(&cluster.nodes[1], &admin, &tea, 10 + sent).await;
    amqp_client.wait_until_settled().await;
    assert_eq!(
        cluster.nodes[0]
            .get(&format!("/api/products/{tea}/stock"))
            .token(&admin)
            .header("cache-control", "no-cache")
            .await
            .ok()["on_hand"],
        10 + sent
    );
    cluster.shut_down().await;
}
