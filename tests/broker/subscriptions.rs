//! Subscription queues for other systems.

use lapin::{
    options::{BasicConsumeOptions, BasicNackOptions, QueueDeclareOptions},
    types::FieldTable,
};
use serde_json::json;

use crate::{
    broker::{Broker, shared},
    partner::{COMMANDS, Partner},
    servers::proxied_broker,
    support::TestApp,
};

const WAREHOUSE: &str = r##"
[[broker.subscription]]
queue = "warehouse"
bindings = ["inventory.#", "catalog.product.deleted"]

[[broker.subscription]]
queue = "billing"
bindings = ["order.*", "cart.item.added"]
"##;

/// A started shop with these subscriptions.
async fn shop(uri: &str, subscriptions: &str) -> TestApp {
    let mut app = TestApp::closed(&[("broker.kind", "rabbitmq"), ("broker.uri", uri)]);
    std::fs::create_dir(app.dir().join("config")).unwrap();
    app.write("config/development.toml", subscriptions);
    app.restart().await;
    app
}

#[tokio::test]
async fn subscription_queues_receive_matching_events() {
    let Some(uri) = shared() else { return };
    let app = shop(&uri, WAREHOUSE).await;
    let admin = app.admin().await;
    let tea = app.product(&admin, &json!(4.5), 9).await;
    app.add(&admin, &tea, 1).await.ok();
    app.delete(&format!("/api/products/{tea}")).token(&admin).await.is(204);
    app.published().await;
    let partner = Partner::of_a_shop(&uri).await;
    let kinds = async |queue: &str, count| {
        let messages = partner.take(queue, count).await;
        messages.iter().map(|message| message.routing_key.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(kinds("warehouse", 2).await, ["inventory.stock.changed", "catalog.product.deleted"]);
    assert_eq!(kinds("billing", 1).await, ["cart.item.added"]);
    assert_eq!((partner.waiting("warehouse").await, partner.waiting("billing").await), (0, 0));
}

#[tokio::test]
async fn rejected_messages_are_dead_lettered() {
    let Some(uri) = shared() else { return };
    let app = shop(&uri, WAREHOUSE).await;
    let admin = app.admin().await;
    app.product(&admin, &json!(4.5), 9).await;
    app.published().await;
    let partner = Partner::of_a_shop(&uri).await;
    // Rejected for good.
    refuse(&partner, 1, false).await;
    let dead = partner.take("warehouse.dead", 1).await;
    assert_eq!(dead[0].routing_key.as_str(), "warehouse", "the routing key names the original queue");
    // Requeued too often.
    app.product(&admin, &json!(4.5), 9).await;
    refuse(&partner, 21, true).await;
    partner.take("warehouse.dead", 1).await;
    assert_eq!((partner.waiting("warehouse").await, partner.waiting("billing.dead").await), (0, 0));
}

async fn refuse(partner: &Partner, times: usize, requeue: bool) {
    use futures_util::StreamExt;
    let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
    let mut messages = partner
        .channel()
        .basic_consume("warehouse".into(), "".into(), options, none)
        .await
        .unwrap();
    for _ in 0..times {
        let message = messages.next().await.unwrap().unwrap();
        message.nack(BasicNackOptions { requeue, ..BasicNackOptions::default() }).await.unwrap();
    }
    partner.channel().basic_cancel(messages.tag(), Default::default()).await.unwrap();
}

#[tokio::test]
async fn existing_queue_with_other_properties_is_used() {
    let Some(uri) = shared() else { return };
    let partner = Partner::connect(&uri).await;
    for queue in ["warehouse", COMMANDS] {
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        partner
            .channel()
            .queue_declare(queue.into(), durable, FieldTable::default())
            .await
            .unwrap();
    }
    let app = shop(&uri, WAREHOUSE).await;
    let admin = app.admin().await;
    app.logged("the broker has this queue with other properties").await;
    let tea = app.product(&admin, &json!(4.5), 9).await;
    app.add(&admin, &tea, 1).await.ok();
    app.published().await;
    partner.take("billing", 1).await;
    assert_eq!(
        partner.take("warehouse", 1).await[0].routing_key.as_str(),
        "inventory.stock.changed",
        "the queue is bound"
    );
    partner.send(&json!({"id": "1", "type": "inventory.adjust", "product_id": tea, "delta": 1, "reason": "delivery"})).await;
    partner.settled().await;
    assert_eq!(app.stock(&admin, &tea).await["on_hand"], 10);
    assert!(app.log().contains(r#""queue":"warehouse""#), "{}", app.log());
    assert!(app.log().contains("empty and delete it at the broker"));
}

#[tokio::test]
async fn queued_events_survive_a_broker_crash() {
    let Some(mut broker) = Broker::start().await else { return };
    let uri = broker.uri();
    let app = shop(&uri, WAREHOUSE).await;
    let admin = app.admin().await;
    app.product(&admin, &json!(4.5), 9).await;
    app.published().await;
    broker.has_noted_new_queues().await;
    broker.kill();
    app.product(&admin, &json!(4.5), 9).await;
    broker.restart().await;
    let partner = Partner::of_a_shop(&uri).await;
    assert_eq!(partner.take("warehouse", 2).await.len(), 2);
}

/// Cuts the connection instead of killing the broker: RabbitMQ 3.10 that is killed right after it
/// deleted a quorum queue may report the queue as existing although it is unusable (log: "could not
/// be restarted").
#[tokio::test]
async fn deleted_queue_is_recreated_on_reconnect() {
    let Some((uri, proxy, through)) = proxied_broker().await else { return };
    let app = shop(&through, WAREHOUSE).await;
    let partner = Partner::of_a_shop(&uri).await;
    partner.until_there("warehouse").await;
    proxy.cut();
    app.until_ready("degraded").await;
    partner.channel().queue_delete("warehouse".into(), Default::default()).await.unwrap();
    partner.until_gone("warehouse").await;
    proxy.restore();
    partner.until_there("warehouse").await;
    let admin = app.admin().await;
    app.product(&admin, &json!(4.5), 9).await;
    assert_eq!(
        partner.take("warehouse", 1).await[0].routing_key.as_str(),
        "inventory.stock.changed",
        "the queue is bound"
    );
}
