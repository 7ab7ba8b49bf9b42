//! A broker that responds but rejects what the shop needs.

use lapin::{
    ExchangeKind,
    options::{
        ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions,
        QueueDeleteOptions,
    },
    types::{AMQPValue, FieldTable},
};
use serde_json::json;

use crate::{
    amqp_client::AmqpClient, audit_queue::AuditQueue, broker::shared_uri, support::TestApp,
};

#[tokio::test]
async fn unusable_broker_is_logged_once_and_degrades_the_shop() {
    let Some(uri) = shared_uri() else { return };
    let amqp_client = AmqpClient::connect(&uri).await;
    let exchange = amqp_client.channel().exchange_declare(
        "souk.events".into(),
        ExchangeKind::Direct,
        ExchangeDeclareOptions::default(),
        FieldTable::default(),
    );
    exchange.await.unwrap();
    let app = TestApp::with_settings(&[("broker.kind", "rabbitmq"), ("broker.uri", &uri)]).await;
    for task in ["relay", "command_consumer"] {
        app.wait_for_log(&format!(r#""task":"{task}""#)).await;
    }
    app.wait_for_readiness("degraded").await;
    assert_eq!(app.metric("souk_broker_connected").await, 0.0);
    amqp_client
        .channel()
        .exchange_delete("souk.events".into(), ExchangeDeleteOptions::default())
        .await
        .unwrap();
    app.wait_for_readiness("ready").await;
    assert_eq!(app.log().matches("broker task failed").count(), 2, "{}", app.log());
}

#[tokio::test]
async fn full_queue_does_not_cause_repeats_to_other_queues() {
    let Some(uri) = shared_uri() else { return };
    let audit = AuditQueue::declare(&uri).await;
    let amqp_client = AmqpClient::connect(&uri).await;
    let mut full = FieldTable::default();
    full.insert("x-max-length".into(), AMQPValue::LongInt(1));
    full.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    amqp_client
        .channel()
        .queue_declare("full".into(), QueueDeclareOptions::default(), full)
        .await
        .unwrap();
    let (options, none) = (QueueBindOptions::default(), FieldTable::default());
    amqp_client
        .channel()
        .queue_bind("full".into(), "souk.events".into(), "#".into(), options, none)
        .await
        .unwrap();
    let app = TestApp::with_settings(&[("broker.kind", "rabbitmq"), ("broker.uri", &uri)]).await;
    let admin = app.admin().await;
    let tea = app.new_product(&admin, &json!(4.5), 1).await;
    app.wait_for_log("the broker rejected event").await;
    let mut later = Vec::new();
    for _ in 0..20 {
        later.push(app.new_product(&admin, &json!(4.5), 1).await);
    }
    for _ in 0..6 {
        let messages = audit.read_until(|message| message.event.subject() == tea).await;
        let beyond = messages
            .iter()
            .find(|message| later.iter().any(|product| *product == message.event.subject()));
        assert!(beyond.is_none(), "events after the rejected one must wait: {beyond:?}");
    }
    amqp_client.channel().queue_delete("full".into(), QueueDeleteOptions::default()).await.unwrap();
    app.wait_until_published().await;
    audit.read_until(|message| message.event.subject() == later[19]).await;
}

#[tokio::test]
async fn relay_that_cannot_be_woken_gives_up_leadership() {
    let Some(uri) = shared_uri() else { return };
    let amqp_client = AmqpClient::connect(&uri).await;
    let restricted_uri = format!(
        "amqp://deaf:guest@{}",
        uri.trim_start_matches("amqp://").trim_start_matches("guest:guest@")
    );
    let app =
        TestApp::with_settings(&[("broker.kind", "rabbitmq"), ("broker.uri", &restricted_uri)])
            .await;
    app.wait_for_log("ACCESS_REFUSED").await;
    // Otherwise the other nodes would assume that events are published.
    amqp_client.wait_for_queue_deletion("souk.relay").await;
    app.wait_for_readiness("degraded").await;
    // Another node with more permissions becomes the relay.
    let other = TestApp::with_settings(&[("broker.kind", "rabbitmq"), ("broker.uri", &uri)]).await;
    // Its first wakeup may reach the queue that the restricted node holds for a moment.
    other.wait_for_log("this node is now the leader").await;
    other.wait_for_readiness("ready").await;
    assert_eq!(other.metric("souk_relay_active").await, 1.0);
}
