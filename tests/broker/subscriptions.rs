//! Subscription queues for other systems.

use lapin::{
    options::{BasicConsumeOptions, BasicNackOptions, QueueDeclareOptions},
    types::FieldTable,
};
use serde_json::json;

use crate::{
    amqp_client::{AmqpClient, COMMANDS},
    broker::{Broker, shared_uri},
    servers::proxied_broker,
    support::TestApp,
};

const SUBSCRIPTIONS: &str = r##"
[[broker.subscription]]
queue = "warehouse"
bindings = ["inventory.#", "catalog.product.deleted"]

[[broker.subscription]]
queue = "billing"
bindings = ["order.*", "cart.item.added"]
"##;

/// A started shop with these subscriptions.
async fn shop_with_subscriptions(uri: &str, subscriptions: &str) -> TestApp {
    let mut app = TestApp::unstarted(&[("broker.kind", "rabbitmq"), ("broker.uri", uri)]);
    std::fs::create_dir(app.dir().join("config")).unwrap();
    app.write("config/development.toml", subscriptions);
    app.restart().await;
    app
}

#[tokio::test]
async fn subscription_queues_receive_matching_events() {
    let Some(uri) = shared_uri() else { return };
    let app = shop_with_subscriptions(&uri, SUBSCRIPTIONS).await;
    let admin = app.admin().await;
    let tea = app.new_product(&admin, &json!(4.5), 9).await;
    app.add_to_cart(&admin, &tea, 1).await.ok();
    app.delete(&format!("/api/products/{tea}")).token(&admin).await.is(204);
    app.wait_until_published().await;
    let amqp_client = AmqpClient::connect_when_ready(&uri).await;
    let kinds = async |queue: &str, count| {
        let messages = amqp_client.consume(queue, count).await;
        messages.iter().map(|message| message.routing_key.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(kinds("warehouse", 2).await, ["inventory.stock.changed", "catalog.product.deleted"]);
    assert_eq!(kinds("billing", 1).await, ["cart.item.added"]);
    assert_eq!(
        (amqp_client.message_count("warehouse").await, amqp_client.message_count("billing").await),
        (0, 0)
    );
}

#[tokio::test]
async fn rejected_messages_are_dead_lettered() {
    let Some(uri) = shared_uri() else { return };
    let app = shop_with_subscriptions(&uri, SUBSCRIPTIONS).await;
    let admin = app.admin().await;
    app.new_product(&admin, &json!(4.5), 9).await;
    app.wait_until_published().await;
    let amqp_client = AmqpClient::connect_when_ready(&uri).await;
    // Rejected for good.
    reject_messages(&amqp_client, 1, false).await;
    let dead = amqp_client.consume("warehouse.dead", 1).await;
    assert_eq!(
        dead[0].routing_key.as_str(),
        "warehouse",
        "the routing key names the original queue"
    );
    // Requeued too often.
    app.new_product(&admin, &json!(4.5), 9).await;
    reject_messages(&amqp_client, 21, true).await;
    amqp_client.consume("warehouse.dead", 1).await;
    assert_eq!(
        (
            amqp_client.message_count("warehouse").await,
            amqp_client.message_count("billing.dead").await
        ),
        (0, 0)
    );
}

async fn reject_messages(amqp_client: &AmqpClient, times: usize, requeue: bool) {
    use futures_util::StreamExt;
    let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
    let mut messages = amqp_client
        .channel()
        .basic_consume("warehouse".into(), "".into(), options, none)
        .await
        .unwrap();
    for _ in 0..times {
        let message = messages.next().await.unwrap().unwrap();
        message.nack(BasicNackOptions { requeue, ..BasicNackOptions::default() }).await.unwrap();
    }
    amqp_client.channel().basic_cancel(messages.tag(), Default::default()).await.unwrap();
}

#[tokio::test]
async fn existing_queue_with_other_properties_is_used() {
    let Some(uri) = shared_uri() else { return };
    let amqp_client = AmqpClient::connect(&uri).await;
    for queue in ["warehouse", COMMANDS] {
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        amqp_client
            .channel()
            .queue_declare(queue.into(), durable, FieldTable::default())
            .await
            .unwrap();
    }
    let app = shop_with_subscriptions(&uri, SUBSCRIPTIONS).await;
    let admin = app.admin().await;
    app.wait_for_log("failed to declare a queue").await;
    let tea = app.new_product(&admin, &json!(4.5), 9).await;
    app.add_to_cart(&admin, &tea, 1).await.ok();
    app.wait_until_published().await;
    amqp_client.consume("billing", 1).await;
    assert_eq!(
        amqp_client.consume("warehouse", 1).await[0].routing_key.as_str(),
        "inventory.stock.changed",
        "the queue is bound"
    );
    amqp_client.send(&json!({
        "id": "1", "type": "inventory.adjust", "product_id": tea, "delta": 1, "reason": "delivery",
    })).await;
    amqp_client.wait_until_settled().await;
    assert_eq!(app.stock(&admin, &tea).await["on_hand"], 10);
    assert!(app.log().contains(r#""queue":"warehouse""#), "{}", app.log());
    assert!(app.log().contains("empty and delete it"));
}

#[tokio::test]
async fn queued_events_survive_a_broker_crash() {
    let Some(mut broker) = Broker::start().await else { return };
    let uri = broker.uri();
    let app = shop_with_subscriptions(&uri, SUBSCRIPTIONS).await;
    let admin = app.admin().await;
    app.new_product(&admin, &json!(4.5), 9).await;
    app.wait_until_published().await;
    broker.wait_until_queues_persist().await;
    broker.kill();
    app.new_product(&admin, &json!(4.5), 9).await;
    broker.restart().await;
    let amqp_client = AmqpClient::connect_when_ready(&uri).await;
    assert_eq!(amqp_client.consume("warehouse", 2).await.len(), 2);
}

/// Cuts the connection instead of killing the broker: RabbitMQ 3.10 that is killed right after it
/// deleted a quorum queue may report the queue as existing although it is unusable (log: "could not
/// be restarted").
#[tokio::test]
async fn deleted_queue_is_recreated_on_reconnect() {
    let Some((uri, proxy, through)) = proxied_broker().await else { return };
    let app = shop_with_subscriptions(&through, SUBSCRIPTIONS).await;
    let amqp_client = AmqpClient::connect_when_ready(&uri).await;
    amqp_client.wait_for_queue("warehouse").await;
    proxy.cut();
    app.wait_for_readiness("degraded").await;
    amqp_client.channel().queue_delete("warehouse".into(), Default::default()).await.unwrap();
    amqp_client.wait_for_queue_deletion("warehouse").await;
    proxy.restore();
    amqp_client.wait_for_queue("warehouse").await;
    let admin = app.admin().await;
    app.new_product(&admin, &json!(4.5), 9).await;
    assert_eq!(
        amqp_client.consume("warehouse", 1).await[0].routing_key.as_str(),
        "inventory.stock.changed",
        "the queue is bound"
    );
}
