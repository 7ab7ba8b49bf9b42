//! A broker crash and its recovery.

use std::{collections::BTreeSet, time::Duration};

use serde_json::json;
use tokio::io::AsyncReadExt;

use crate::{
    audit_queue::{AuditQueue, first_deliveries},
    broker::Broker,
    support::{TestApp, assert_gap_free},
};

/// An upper bound that only a hang exceeds, even on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn broker_receives_all_events_after_an_outage() {
    let Some(mut broker) = Broker::start().await else { return };
    let audit = AuditQueue::declare(&broker.uri()).await;
    let mut app =
        TestApp::with_settings(&[("broker.kind", "rabbitmq"), ("broker.uri", &broker.uri())]).await;
    let admin = app.admin().await;
    let buyers = app.customers(8).await;
    let tea = app.new_product(&admin, &json!(4.5), 100_000).await;
    app.wait_for_readiness("ready").await;
    broker.wait_until_queues_persist().await;
    let round = async |app: &TestApp| {
        for _ in 0..10 {
            let adds = buyers
                .iter()
                .map(|buyer| std::future::IntoFuture::into_future(app.add_to_cart(buyer, &tea, 1)));
            futures_util::future::join_all(adds)
                .await
                .into_iter()
                .for_each(|response| drop(response.ok()));
            app.change_stock(&admin, &tea, &json!({"delta": -1, "reason": "broken"})).await.ok();
        }
    };
    round(&app).await;
    // Kill the broker under load, so that some events are published but not confirmed.
    tokio::join!(round(&app), async { broker.kill() });
    app.wait_for_readiness("degraded").await;
    round(&app).await;
    let waiting = app.metric("souk_events_unpublished").await;
    assert!(waiting >= 90.0, "{waiting} unpublished events");
    assert_eq!(app.metric("souk_broker_connected").await, 0.0);
    // A restart does not need the broker either.
    app.stop().await;
    app.restart().await;
    app.wait_for_readiness("degraded").await;
    round(&app).await;
    broker.restart().await;
    app.wait_for_readiness("ready").await;
    round(&app).await;
    app.wait_until_published().await;
    let last = app.new_product(&admin, &json!(1), 0).await;
    let messages = audit.read_until(|message| message.event.subject() == last).await;
    app.stop().await;
    let events = first_deliveries(&messages);
    assert_eq!(messages.first().map(|message| message.position.offset), Some(1));
    let newest = assert_gap_free(events.iter().copied());
    for buyer in &buyers {
        assert_eq!(newest[&(buyer.id.clone(), "cart".into())], 50);
    }
    assert_eq!(newest[&(tea, "inventory".into())], 51);
    assert_eq!(
        events.iter().map(|event| &event.id).collect::<BTreeSet<_>>().len(),
        events.len(),
        "event ids are unique"
    );
    eprintln!("{} messages for {} events", messages.len(), events.len());
}

#[tokio::test]
async fn broker_that_takes_no_messages_degrades_the_shop() {
    let Some(broker) = Broker::start().await else { return };
    let mut app =
        TestApp::with_settings(&[("broker.kind", "rabbitmq"), ("broker.uri", &broker.uri())]).await;
    let admin = app.admin().await;
    app.wait_for_readiness("ready").await;
    app.wait_until_published().await;
    broker.set_memory_limit("0");
    // There is no event to publish meanwhile.
    app.wait_for_readiness("degraded").await;
    let readiness = app.get("/readyz").await.is(200).json();
    assert_eq!(
        (&readiness["checks"]["store"], &readiness["checks"]["broker"]),
        (&json!("ok"), &json!("unavailable"),)
    );
    app.new_product(&admin, &json!(1), 1).await;
    assert!(app.metric("souk_events_unpublished").await >= 2.0);
    broker.set_memory_limit("0.4");
    app.wait_for_readiness("ready").await;
    app.wait_until_published().await;
    app.stop().await;
}

#[tokio::test]
async fn refused_broker_login_degrades_the_shop() {
    let Some(broker) = Broker::start().await else { return };
    let uri = broker.uri().replace("amqp://", "amqp://nobody:s3cret@");
    let mut app =
        TestApp::with_settings(&[("broker.kind", "rabbitmq"), ("broker.uri", &uri)]).await;
    app.wait_for_log("refused access to user").await;
    app.wait_for_readiness("degraded").await;
    let admin = app.admin().await;
    app.new_product(&admin, &json!(1), 1).await;
    assert!(!app.log().contains("s3cret"));
    app.stop().await;
}

#[tokio::test]
async fn invalid_connection_string_stops_the_start() {
    let app = TestApp::unstarted(&[
        ("broker.kind", "rabbitmq"),
        ("broker.uri", "amqp://ada:s3cret@host:port"),
    ]);
    for command in ["serve", "config"] {
        let ended = app.command().arg(command).output().unwrap();
        let printed = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(2), "{command}: {printed}");
        assert!(
            printed.starts_with("souk: broker.uri ")
                && printed.lines().count() == 1
                && !printed.contains("s3cret"),
            "{printed}"
        );
    }
}

#[tokio::test]
async fn connection_to_a_silent_broker_times_out() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("amqp://{}", silent.local_addr().unwrap());
    let mut app =
        TestApp::with_settings(&[("broker.kind", "rabbitmq"), ("broker.uri", &uri)]).await;
    let attempt = async {
        let (mut stream, _) = silent.accept().await.unwrap();
        let mut printed = Vec::new();
        stream.read_to_end(&mut printed).await.unwrap();
        printed
    };
    let printed =
        tokio::time::timeout(TIMEOUT, attempt).await.expect("the connection is not closed");
    assert_eq!(printed, b"AMQP\x00\x00\x09\x01", "the client sends the protocol header only");
    app.wait_for_readiness("degraded").await;
    app.stop().await;
}
