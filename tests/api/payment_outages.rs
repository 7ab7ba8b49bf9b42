//! Payments while the provider or the shop is away, and refunds that the provider has to make.

use serde_json::{Value, json};

use crate::payments::{Shop, wait_until};

#[tokio::test]
async fn refunds_agree_with_the_provider_whoever_made_them() {
    let shop = Shop::start().await;
    let Shop { app, admin, ada, provider, .. } = &shop;
    let (order, intent) = shop.pay().await;
    let refund = |body: Value| app.order_action(admin, &order, "refund").json(&body);
    let mut feed = app.open_feed(Some(ada), None).await;
    let asked = refund(json!({"amount": 4.5, "reason": "broken"})).await.is(202).json();
    assert_eq!(
        (&asked["payment"]["status"], &asked["payment"]["refunded"]),
        (&json!("paid"), &json!(4.5))
    );
    shop.wait_for(&order, "partially_refunded").await;
    let events = feed.read_until(|event| event.kind == "order.refunded").await;
    assert!(events.iter().any(|event| event.kind == "order.payment_changed"), "{events:?}");
    // Somebody refunds at the provider.
    provider.refund(&intent, 300).await;
    wait_until(async || app.order(ada, &order).await["payment"]["refunded"] == json!(7.5)).await;
    let booked = app.order(ada, &order).await["payment"]["refunds"][1].clone();
    assert_eq!((&booked["reason"], &booked["status"]), (&json!("provider"), &json!("succeeded")));
    refund(json!({"amount": 10.51})).await.problem(409, "refund_exceeds_payment");
    refund(json!({})).await.is(202);
    let refunded = shop.wait_for(&order, "refunded").await;
    assert_eq!(refunded["payment"]["refunded"], 18);
    assert_eq!(refunded["payment"]["refunds"].as_array().unwrap().len(), 3);
    assert_eq!(shop.at_provider(&order).await, ("succeeded".to_owned(), 1800));
    refund(json!({})).await.problem(409, "refund_exceeds_payment");
    app.order_action(admin, &order, "fulfil").await.problem(409, "invalid_transition");
}

#[tokio::test]
async fn refund_that_the_provider_refuses_has_failed() {
    let shop = Shop::start().await;
    let (order, intent) = shop.pay().await;
    // The shop does not hear that all of it went back.
    shop.provider.set_faults(&json!({"lose": 100})).await;
    shop.provider.refund(&intent, 1800).await;
    let refund = shop.app.order_action(&shop.admin, &order, "refund");
    refund.json(&json!({"amount": 1})).await.is(202);
    let failed = async || {
        let order = shop.app.order(&shop.ada, &order).await;
        order["payment"]["refunds"][0]["status"] == "failed"
    };
    wait_until(failed).await;
    let order = shop.app.order(&shop.ada, &order).await;
    assert_eq!(
        (&order["payment"]["status"], &order["payment"]["refunded"]),
        (&json!("paid"), &json!(0))
    );
}

#[tokio::test]
async fn checkout_works_while_the_provider_is_away() {
    let mut shop = Shop::start().await;
    shop.provider.kill();
    let order = shop.app.buy(&shop.ada, &shop.tea, 2).await;
    assert_eq!(order["payment"]["status"], "awaiting");
    let asked = shop.app.order_action(&shop.ada, &order, "payment").await;
    assert!(asked.header("retry-after").is_some());
    asked.problem(503, "provider_unavailable");
    shop.app.get("/readyz").await.is(200);
    shop.app.wait_for_metric("souk_payment_tasks_waiting", 1.0).await;
    shop.provider.restart().await;
    let begun = async || {
        let order = shop.app.order(&shop.ada, &order).await;
        order["payment"]["client_secret"].is_string()
    };
    wait_until(begun).await;
    shop.app.wait_for_metric("souk_payment_tasks_waiting", 0.0).await;
    assert!(shop.app.metric("souk_payment_provider_failures_total").await >= 1.0);
    assert_eq!(shop.at_provider(&order).await.0, "requires_payment_method");
}

#[tokio::test]
async fn buyer_is_answered_while_the_provider_is_slow() {
    let shop = Shop::with_settings(&[("http.request_timeout", "1s")]).await;
    shop.provider.set_faults(&json!({"late": 100, "late_ms": 3000})).await;
    let order = shop.app.buy(&shop.ada, &shop.tea, 1).await;
    let asked = shop.app.order_action(&shop.ada, &order, "payment").await;
    asked.problem(503, "provider_unavailable");
    let begun = async || {
        let order = shop.app.order(&shop.ada, &order).await;
        order["payment"]["client_secret"].is_string()
    };
    wait_until(begun).await;
    assert_eq!(shop.provider.intents_of(&order).await.len(), 1);
}

#[tokio::test]
async fn tasks_outlive_a_crash() {
    let mut shop = Shop::start().await;
    // The work is done, and nobody hears of it.
    shop.provider.set_faults(&json!({"cut": 100})).await;
    let order = shop.app.buy(&shop.ada, &shop.tea, 2).await;
    wait_until(async || !shop.provider.intents_of(&order).await.is_empty()).await;
    shop.app.kill_9().await;
    shop.app.restart().await;
    shop.provider.set_faults(&json!({})).await;
    shop.provider.send_webhooks_to(&[&shop.app]).await;
    let payment = shop.app.begin_payment(&shop.ada, &order).await;
    assert!(shop.provider.pay(payment["reference"].as_str().unwrap()).await);
    shop.wait_for(&order, "paid").await;
    assert_eq!(shop.provider.intents_of(&order).await.len(), 1, "begun once");
}

#[tokio::test]
async fn payment_is_looked_up_when_no_message_comes() {
    let shop = Shop::start().await;
    shop.provider.set_faults(&json!({"lose": 100})).await;
    let (order, intent) = shop.begin().await;
    assert!(shop.provider.pay(&intent).await);
    assert_eq!(shop.wait_for(&order, "paid").await["status"], "paid");
}
