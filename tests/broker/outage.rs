//! A broker crash and its recovery.

use std::{collections::BTreeSet, time::Duration};

use serde_json::json;
use tokio::io::AsyncReadExt;

use crate::{
    audit_queue::{Audit, first_times},
    broker::Broker,
    support::{TestApp, gap_free},
};

/// An upper bound that only a hang exceeds, even on a busy machine.
const NEVER: Duration = Duration::from_secs(60);

#[tokio::test]
async fn broker_receives_all_events_after_an_outage() {
    let Some(mut broker) = Broker::start().await else { return };
    let audit = Audit::begin(&broker.uri()).await;
    let mut app =
        TestApp::with(&[("broker.kind", "rabbitmq"), ("broker.uri", &broker.uri())]).await;
    let admin = app.admin().await;
    let buyers = app.customers(8).await;
    let tea = app.product(&admin, &json!(4.5), 100_000).await;
    app.until_ready("ready").await;
    broker.has_noted_new_queues().await;
    let round = async |app: &TestApp| {
        for _ in 0..10 {
            let adds = buyers
                .iter()
                .map(|buyer| std::future::IntoFuture::into_future(app.add(buyer, &tea, 1)));
            futures_util::future::join_all(adds)
                .await
                .into_iter()
                .for_each(|answer| drop(answer.ok()));
            app.change_stock(&admin, &tea, &json!({"delta": -1, "reason": "broken"})).await.ok();
        }
    };
    round(&app).await;
    // Kill the broker under load, so that some events are published but not confirmed.
    tokio::join!(round(&app), async { broker.kill() });
    app.until_ready("degraded").await;
    round(&app).await;
    let waiting = app.figure("souk_events_unpublished").await;
    assert!(waiting >= 90.0, "{waiting} unpublished events");
    assert_eq!(app.figure("souk_broker_connected").await, 0.0);
    // A restart does not need the broker either.
    app.stop().await;
    app.restart().await;
    app.until_ready("degraded").await;
    round(&app).await;
    broker.restart().await;
    app.until_ready("ready").await;
    round(&app).await;
    app.published().await;
    let last = app.product(&admin, &json!(1), 0).await;
    let messages = audit.until(|message| message.event.subject() == last).await;
    app.stop().await;
    let events = first_times(&messages);
    assert_eq!(messages.first().map(|message| message.position), Some(1));
    let newest = gap_free(events.iter().copied());
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
async fn refused_broker_login_degrades_the_shop() {
    let Some(broker) = Broker::start().await else { return };
    let uri = broker.uri().replace("amqp://", "amqp://nobody:geheim@");
    let mut app = TestApp::with(&[("broker.kind", "rabbitmq"), ("broker.uri", &uri)]).await;
    app.logged("refuses the user").await;
    app.until_ready("degraded").await;
    let admin = app.admin().await;
    app.product(&admin, &json!(1), 1).await;
    assert!(!app.log().contains("geheim"));
    app.stop().await;
}

#[tokio::test]
async fn invalid_connection_string_stops_the_start() {
    let app = TestApp::closed(&[
        ("broker.kind", "rabbitmq"),
        ("broker.uri", "amqp://ada:geheim@host:port"),
    ]);
    for command in ["serve", "config"] {
        let ended = app.command().arg(command).output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(2), "{command}: {said}");
        assert!(
            said.starts_with("souk: broker.uri ")
                && said.lines().count() == 1
                && !said.contains("geheim"),
            "{said}"
        );
    }
}

#[tokio::test]
async fn connection_to_a_silent_broker_times_out() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("amqp://{}", silent.local_addr().unwrap());
    let mut app = TestApp::with(&[("broker.kind", "rabbitmq"), ("broker.uri", &uri)]).await;
    let attempt = async {
        let (mut stream, _) = silent.accept().await.unwrap();
        let mut said = Vec::new();
        stream.read_to_end(&mut said).await.unwrap();
        said
    };
    let said =
        tokio::time::timeout(NEVER, attempt).await.expect("the connection is not closed");
    assert_eq!(said, b"AMQP\x00\x00\x09\x01", "the client sends the protocol header only");
    app.until_ready("degraded").await;
    app.stop().await;
}
