//! Published events.

use serde_json::json;

use crate::{
    audit_queue::{AuditQueue, first_deliveries},
    broker::shared_uri,
    support::{
        TestApp, assert_gap_free,
        person::{Person, assert_unmarked},
    },
};

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[tokio::test]
async fn published_events_match_the_feed() {
    let Some(uri) = shared_uri() else { return };
    let audit = AuditQueue::declare(&uri).await;
    let mut app =
        TestApp::with_settings(&[("broker.kind", "rabbitmq"), ("broker.uri", &uri)]).await;
    let admin = app.admin().await;
    let ada = app.customer().await;
    let mut feed = app.open_feed(Some(&admin), None).await;
    let tea = app.new_product(&admin, &json!(4.5), 9).await;
    app.add_to_cart(&ada, &tea, 2).header("traceparent", TRACE).await.ok();
    app.change_stock(&admin, &tea, &json!({"delta": -9, "reason": "spoiled"})).await.ok();
    app.delete(&format!("/api/products/{tea}")).token(&admin).await.is(204);
    let messages =
        audit.read_until(|message| message.event.kind == "catalog.product.deleted").await;
    let fed = feed.read_until(|event| event.kind == "catalog.product.deleted").await;
    drop(feed);
    app.stop().await;
    let published = first_deliveries(&messages);
    assert_gap_free(published.iter().copied());
    let seen: Vec<_> = published
        .iter()
        .filter(|event| event.kind.starts_with("auth.").eq(&false))
        .copied()
        .cloned()
        .collect();
    assert_eq!(seen, fed, "the same events in the same order");
    let registered = published.iter().filter(|event| event.kind == "auth.user.registered").count();
    assert_eq!(registered, 2, "the broker also receives account events");
    for message in &messages {
        assert_eq!(message.routing_key, message.event.kind);
        assert_eq!(message.content_type, "application/cloudevents+json");
        assert_eq!(message.delivery_mode, 2, "persistent");
        assert_eq!(message.traceparent.as_deref(), message.event.body["traceparent"].as_str());
    }
    let added = messages.iter().find(|message| message.event.kind == "cart.item.added").unwrap();
    assert_eq!(added.event.body["traceparent"], TRACE);
}

#[tokio::test]
async fn pending_events_are_published_before_shutdown() {
    let Some(uri) = shared_uri() else { return };
    let audit = AuditQueue::declare(&uri).await;
    let mut app =
        TestApp::with_settings(&[("broker.kind", "rabbitmq"), ("broker.uri", &uri)]).await;
    let admin = app.admin().await;
    app.wait_until_published().await;
    for _ in 0..50 {
        app.new_product(&admin, &json!(1), 1).await;
    }
    app.stop().await;
    // One event for the admin, and two for each product.
    let messages = audit.read_up_to(101).await;
    assert_eq!(first_deliveries(&messages).len(), 101);
    app.restart().await;
    let admin = app.admin().await;
    app.new_product(&admin, &json!(1), 1).await;
    let messages = audit.read_up_to(103).await;
    assert_eq!(
        messages.iter().map(|message| message.position.offset).collect::<Vec<_>>(),
        [102, 103],
        "nothing is repeated"
    );
    app.stop().await;
}

#[tokio::test]
async fn published_events_tell_nobody_s_name() {
    let Some(uri) = shared_uri() else { return };
    let audit = AuditQueue::declare(&uri).await;
    let app = TestApp::with_settings(&[("broker.kind", "rabbitmq"), ("broker.uri", &uri)]).await;
    let admin = app.admin().await;
    let tea = app.new_product(&admin, &json!(4.5), 100).await;
    let person = Person::live(&app, &admin, &tea).await;
    person.delete(&app).await;
    let messages = audit.read_until(|message| message.event.kind == "auth.user.deleted").await;
    assert_gap_free(first_deliveries(&messages));
    for message in &messages {
        assert_unmarked(&message.event.kind, message.event.body.to_string().as_bytes());
    }
    let deleted = messages.last().map(|message| &message.event.body).unwrap();
    assert_eq!(deleted["data"], json!({"user_id": person.account.id}));
}
