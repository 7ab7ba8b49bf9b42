//! What is delivered to webhooks: to a receiver that verifies with `standardwebhooks`.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::{Value, json};

use crate::support::{
    Account, TestApp,
    webhooks::{Receiver, SETTINGS},
};

/// An upper bound that only a hang exceeds, even on a busy machine.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

fn path(webhook: &Value) -> String {
    format!("/api/webhooks/{}", webhook["id"].as_str().unwrap())
}

/// The attempts of a webhook, newest first, once there are `count` of them.
pub(crate) async fn attempts(
    app: &TestApp,
    admin: &Account,
    webhook: &Value,
    count: usize,
) -> Vec<Value> {
    let path = format!("{}/deliveries?limit=100", path(webhook));
    let listed = async {
        loop {
            let page = app.get(&path).token(admin).await.ok();
            let items = page["items"].as_array().unwrap();
            if items.len() >= count {
                return items.clone();
            }
            // Nothing tells that attempts are written.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, listed).await.expect("attempts are not listed")
}

/// Waits until a webhook is paused; returns it.
async fn wait_for_pause(app: &TestApp, admin: &Account, webhook: &Value) -> Value {
    let paused = async {
        loop {
            let found = app.get(&path(webhook)).token(admin).await.ok();
            if found["status"] == "paused" {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, paused).await.expect("the webhook is not paused")
}

async fn change_price(app: &TestApp, admin: &Account, product: &str, price: u64) {
    let patch = json!({"price": price});
    app.patch(&format!("/api/products/{product}"), &patch).token(admin).await.ok();
}

#[tokio::test]
async fn events_are_delivered_signed_and_in_order() {
    let Some(mut receiver) = Receiver::start("signed webhooks").await else { return };
    let app = TestApp::with_settings(&SETTINGS).await;
    let admin = app.admin().await;
    let before = app.new_product(&admin, &json!(1), 1).await;
    let types = ["catalog.*", "order.placed"];
    let made = receiver.create(&app, &admin, "/erp", &types).await;
    let tea = app.new_product(&admin, &json!(4), 50).await;
    for price in 5..25 {
        change_price(&app, &admin, &tea, price).await;
    }
    let ada = app.customer().await;
    let order = app.buy(&ada, &tea, 2).await;
    let mut sequences = Vec::new();
    loop {
        let request = receiver.request("/erp").await;
        assert_eq!(request["verified_by"], json!([0]), "{request}");
        assert_eq!((&request["id"], &request["signatures"]), (&request["event_id"], &json!(1)));
        assert_eq!(request["content_type"], "application/cloudevents+json");
        let agent = format!("Souk/{}", env!("CARGO_PKG_VERSION"));
        assert_eq!(request["user_agent"], agent.as_str());
        assert_ne!(request["subject"], before.as_str(), "events before the webhook are not sent");
        if request["subject"] == tea.as_str() {
            sequences.push(request["sequence"].as_u64().unwrap());
        }
        if request["type"] == "order.placed" {
            assert_eq!(request["subject"], order["id"]);
            let data = &request["data"];
            assert!(data["number"] == order["number"] && data.get("email").is_none(), "{data}");
        }
        if sequences.len() == 21 {
            break;
        }
    }
    assert_eq!(sequences, (1..=21).collect::<Vec<u64>>());
    let listed = attempts(&app, &admin, &made, 22).await;
    assert_eq!(listed.len(), 22, "each event was delivered once");
    let first = &listed[21];
    assert_eq!((&first["status"], &first["status_code"]), (&json!("delivered"), &json!(200)));
    assert_eq!((&first["attempt"], &first["error"]), (&json!(1), &Value::Null));
    assert_eq!((&first["next_at"], &first["subject"]), (&Value::Null, &json!(tea)));
}

#[tokio::test]
async fn rotated_secrets_both_sign() {
    let Some(mut receiver) = Receiver::start("rotated secrets").await else { return };
    let mut app = TestApp::with_settings(&SETTINGS).await;
    let admin = app.admin().await;
    let made = receiver.create(&app, &admin, "/erp", &["catalog.*"]).await;
    let old = made["secret"].as_str().unwrap();
    let rotate = async |app: &TestApp| {
        let call = app.call("POST", &format!("{}/rotate", path(&made)));
        call.token(&admin).await.ok()["secret"].as_str().unwrap().to_owned()
    };
    let test = async |app: &TestApp, receiver: &mut Receiver| {
        let call = app.call("POST", &format!("{}/test", path(&made))).token(&admin);
        let event = call.await.is(202).json();
        let request = receiver.event("/erp", "webhook.test").await;
        assert_eq!(request["id"], event["event_id"]);
        assert_eq!(request["subject"], made["id"]);
        assert_eq!(request["data"], json!({"webhook_id": made["id"]}));
        request
    };
    let new = rotate(&app).await;
    receiver.set_secrets("/erp", &[old, &new]).await;
    let request = test(&app, &mut receiver).await;
    assert_eq!((&request["verified_by"], &request["signatures"]), (&json!([0, 1]), &json!(2)));
    // After a restart with a new secret of the shop, which knows the former one as the second.
    let secret = std::fs::read_to_string(app.dir().join("data/jwt_secret")).unwrap();
    app.stop().await;
    app.set("auth.jwt_secret", "another secret of the shop, long enough");
    app.set("auth.second_jwt_secret", &secret);
    app.restart().await;
    let request = test(&app, &mut receiver).await;
    assert_eq!(request["verified_by"], json!([0, 1]));
    // It was encrypted anew: the former secret of the shop is not needed any more.
    let version =
        async |app: &TestApp| app.get(&path(&made)).token(&admin).await.ok()["version"].clone();
    while version(&app).await == json!(2) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    app.stop().await;
    app.set("auth.second_jwt_secret", "");
    app.set("webhooks.rotation_overlap", "0s");
    app.restart().await;
    let admin = app.admin().await;
    let call = app.call("POST", &format!("{}/rotate", path(&made))).token(&admin);
    let newest = call.await.ok()["secret"].as_str().unwrap().to_owned();
    receiver.set_secrets("/erp", &[old, &new, &newest]).await;
    let call = app.call("POST", &format!("{}/test", path(&made))).token(&admin);
    call.await.is(202);
    let request = receiver.event("/erp", "webhook.test").await;
    assert_eq!((&request["verified_by"], &request["signatures"]), (&json!([2]), &json!(1)));
}

#[tokio::test]
async fn failed_attempts_are_repeated_unchanged_and_given_up() {
    let Some(mut receiver) = Receiver::start("failed webhooks").await else { return };
    let app = TestApp::with_settings(&SETTINGS).await;
    let admin = app.admin().await;
    let made = receiver.create(&app, &admin, "/erp", &["catalog.*"]).await;
    let tea = app.new_product(&admin, &json!(4), 0).await;
    let first = receiver.request("/erp").await;
    let mut count = 1;
    for (rule, status, error) in [
        ("500", json!(500), Value::Null),
        ("redirect", json!(302), Value::Null),
        ("cut", Value::Null, json!("protocol")),
    ] {
        receiver.set_rule("/erp", rule).await;
        change_price(&app, &admin, &tea, 10 + count).await;
        let mut ids = BTreeSet::new();
        // The first attempt, and one after each of three waits.
        for attempt in 1..=4 {
            let request = receiver.request("/erp").await;
            assert_eq!(request["verified_by"], json!([0]));
            ids.insert((request["id"].to_string(), request["body"].to_string()));
            count += 1;
            let listed = attempts(&app, &admin, &made, count as usize).await;
            let newest = &listed[0];
            assert_eq!((&newest["status_code"], &newest["error"]), (&status, &error), "{rule}");
            assert_eq!(newest["attempt"], attempt);
            let expected = if attempt == 4 { "failed" } else { "retrying" };
            assert_eq!(newest["status"], expected);
            assert_eq!(newest["next_at"].is_string(), attempt < 4);
        }
        assert_eq!(ids.len(), 1, "{rule}: each attempt has the same id and the same bytes");
    }
    receiver.set_rule("/erp", "ok").await;
    let query = |status: &str| format!("{}/deliveries?status={status}", path(&made));
    let failed = app.get(&query("failed")).token(&admin).await.ok();
    assert_eq!(failed["items"].as_array().unwrap().len(), 3);
    // What has failed, and what was delivered, can be delivered again.
    let failed_id = failed["items"][2]["event_id"].as_str().unwrap().to_owned();
    for (event, attempt) in [(failed_id.as_str(), 5), (first["id"].as_str().unwrap(), 2)] {
        let again = format!("{}/deliveries/{event}/redeliver", path(&made));
        app.call("POST", &again).token(&admin).await.is(202);
        let request = receiver.request("/erp").await;
        assert_eq!(request["id"], event);
        count += 1;
        let listed = attempts(&app, &admin, &made, count as usize).await;
        assert_eq!(
            (&listed[0]["status"], &listed[0]["attempt"]),
            (&json!("delivered"), &json!(attempt))
        );
    }
    assert!(receiver.others().is_empty(), "no redirect was followed: {:?}", receiver.others());
    let unknown = format!("{}/deliveries/{tea}/redeliver", path(&made));
    app.call("POST", &unknown).token(&admin).await.problem(404, "delivery_not_found");
    app.get(&query("lost")).token(&admin).await.problem(422, "validation_failed");
}

#[tokio::test]
async fn paused_webhook_goes_on_where_it_stopped() {
    let Some(mut receiver) = Receiver::start("paused webhooks").await else { return };
    let app = TestApp::with_settings(&SETTINGS).await;
    let admin = app.admin().await;
    let watcher = receiver.create(&app, &admin, "/watcher", &["webhook.*"]).await;
    let made = receiver.create(&app, &admin, "/erp", &["catalog.*"]).await;
    let set_status = async |status: &str| {
        app.patch(&path(&made), &json!({"status": status})).token(&admin).await.ok()
    };
    receiver.set_rule("/erp", "410").await;
    let tea = app.new_product(&admin, &json!(4), 0).await;
    let gone = receiver.request("/erp").await;
    let paused = wait_for_pause(&app, &admin, &made).await;
    assert_eq!((&paused["paused_reason"], &paused["version"]), (&json!("gone"), &json!(2)));
    let event = receiver.event("/watcher", "webhook.paused").await;
    assert_eq!(event["data"], json!({"webhook_id": made["id"], "reason": "gone"}));
    assert_eq!((&event["subject"], &event["sequence"]), (&made["id"], &json!(1)));
    for price in 5..8 {
        change_price(&app, &admin, &tea, price).await;
    }
    receiver.set_rule("/erp", "ok").await;
    let active = set_status("active").await;
    assert_eq!((&active["status"], &active["paused_reason"]), (&json!("active"), &Value::Null));
    let mut heard = BTreeMap::new();
    while heard.len() < 4 {
        let request = receiver.request("/erp").await;
        heard.insert(request["sequence"].as_u64().unwrap(), request["id"].clone());
    }
    assert_eq!(heard[&1], gone["id"], "what was answered with 410 is delivered, too");
    let paused = set_status("paused").await;
    assert_eq!(paused["paused_reason"], "staff");
    let event = receiver.event("/watcher", "webhook.paused").await;
    assert_eq!((&event["data"]["reason"], &event["sequence"]), (&json!("staff"), &json!(2)));
    drop(watcher);
}

#[tokio::test]
async fn webhook_at_which_everything_fails_is_paused() {
    let Some(mut receiver) = Receiver::start("failing webhooks").await else { return };
    let settings = [&SETTINGS[..], &[("webhooks.pause_after", "1ms")]].concat();
    let app = TestApp::with_settings(&settings).await;
    let admin = app.admin().await;
    let made = receiver.create(&app, &admin, "/erp", &["catalog.*"]).await;
    receiver.set_rule("/erp", "500").await;
    app.new_product(&admin, &json!(4), 0).await;
    let paused = wait_for_pause(&app, &admin, &made).await;
    assert_eq!(paused["paused_reason"], "failing");
}

#[tokio::test]
async fn test_event_is_heard_by_nobody_else() {
    let Some(mut receiver) = Receiver::start("tests of webhooks").await else { return };
    let app = TestApp::with_settings(&SETTINGS).await;
    let admin = app.admin().await;
    receiver.create(&app, &admin, "/other", &["*"]).await;
    let made = receiver.create(&app, &admin, "/erp", &["order.paid"]).await;
    let call = app.call("POST", &format!("{}/test", path(&made))).token(&admin).key("once");
    let event = call.await.is(202).json();
    let call = app.call("POST", &format!("{}/test", path(&made))).token(&admin).key("once");
    let again = call.await.is(202);
    assert!(again.is_replayed() && again.json() == event);
    receiver.event("/erp", "webhook.test").await;
    // Later events have come, and this one has not.
    app.new_product(&admin, &json!(4), 0).await;
    receiver.event("/other", "catalog.product.created").await;
    let others = receiver.others();
    assert!(others.iter().all(|request| request["type"] != "webhook.test"), "{others:?}");
    let mut feed = app.open_whole_feed(Some(&admin)).await;
    let events = feed.read_until(|event| event.kind == "catalog.product.created").await;
    assert!(events.iter().all(|event| event.kind != "webhook.test"));
}

#[tokio::test]
async fn killed_shop_delivers_everything_in_order() {
    let Some(mut receiver) = Receiver::start("killed shops").await else { return };
    let mut app = TestApp::with_settings(&SETTINGS).await;
    let admin = app.admin().await;
    receiver.create(&app, &admin, "/erp", &["catalog.*"]).await;
    let teas =
        [app.new_product(&admin, &json!(4), 0).await, app.new_product(&admin, &json!(4), 0).await];
    for round in 0..3 {
        receiver.set_rule("/erp", if round == 1 { "random" } else { "ok" }).await;
        for price in 0..10 {
            change_price(&app, &admin, &teas[price as usize % 2], 100 * (round + 1) + price).await;
        }
        app.kill_9().await;
        app.restart().await;
    }
    receiver.set_rule("/erp", "ok").await;
    let mut bodies: BTreeMap<(String, u64), Value> = BTreeMap::new();
    let mut delivered = BTreeSet::new();
    let mut newest: BTreeMap<String, u64> = BTreeMap::new();
    while delivered.len() < 32 {
        let request = receiver.request("/erp").await;
        let subject = request["subject"].as_str().unwrap().to_owned();
        let sequence = request["sequence"].as_u64().unwrap();
        let same = json!([request["id"], request["body"]]);
        let key = (subject.clone(), sequence);
        assert_eq!(*bodies.entry(key.clone()).or_insert(same.clone()), same, "ids are stable");
        // What is new follows what was there.
        let newest = newest.entry(subject).or_default();
        assert!(sequence <= *newest + 1, "{sequence} after {newest}");
        *newest = sequence.max(*newest);
        if request["rule"] == "ok" {
            delivered.insert(key);
        }
    }
}

#[tokio::test]
async fn endpoint_that_hangs_holds_up_nobody_else() {
    let Some(mut receiver) = Receiver::start("hanging webhooks").await else { return };
    let settings = [&SETTINGS[..], &[("webhooks.timeout", "60s")]].concat();
    let app = TestApp::with_settings(&settings).await;
    let admin = app.admin().await;
    receiver.create(&app, &admin, "/dead", &["catalog.*"]).await;
    receiver.set_rule("/dead", "hang").await;
    receiver.create(&app, &admin, "/erp", &["catalog.*"]).await;
    // More subjects than an endpoint has attempts at the same time.
    for _ in 0..20 {
        app.new_product(&admin, &json!(4), 0).await;
    }
    for _ in 0..20 {
        receiver.request("/erp").await;
    }
    let hanging = receiver.others().len();
    assert!((1..=8).contains(&hanging), "{hanging} attempts hang");
}
