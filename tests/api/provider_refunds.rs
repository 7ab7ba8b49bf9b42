//! Refunds that somebody makes at the provider, that fail there, and that go back too late.

use serde_json::{Value, json};

use crate::{
    payments::{Shop, message, send, wait_until},
    support::mail::MailServer,
};

#[tokio::test]
async fn refund_at_the_provider_is_one_mail() {
    let Some(mut server) = MailServer::start("refunds at the provider").await else { return };
    let mail = server.settings();
    let mail: Vec<(&str, &str)> = mail.iter().map(|(key, value)| (*key, &**value)).collect();
    let shop = Shop::with_settings(&mail).await;
    let Shop { app, ada, provider, .. } = &shop;
    let (order, intent) = shop.pay().await;
    let refunded = |cents: u64| {
        let charge = json!({"id": "ch_1", "payment_intent": intent, "amount": 1800,
            "amount_refunded": cents, "currency": "usd"});
        message("charge.refunded", &charge)
    };
    let refund = |status: &str| {
        let object = json!({"id": "re_1", "payment_intent": intent, "amount": 500,
            "currency": "usd", "status": status, "metadata": {}});
        message("refund.updated", &object)
    };
    // The sum comes first, and the refund itself later.
    send(&shop, &refunded(500)).await;
    let told = app.order(ada, &order).await["payment"].clone();
    for status in ["pending", "succeeded", "succeeded"] {
        send(&shop, &refund(status)).await;
    }
    let payment = app.order(ada, &order).await["payment"].clone();
    assert_eq!(payment["refunds"], told["refunds"], "it is the same refund");
    assert_eq!(payment["status"], "partially_refunded");
    let mail = server.mail("order_refunded", &ada.email).await;
    assert!(mail.field("text").contains("5.00 USD"), "{}", mail.field("text"));
    // The next one is a mail again, and nothing comes in between.
    provider.set_faults(&json!({"lose": 100})).await;
    send(&shop, &refunded(1800)).await;
    let mail = server.mail("order_refunded", &ada.email).await;
    assert!(mail.field("text").contains("13.00 USD"), "{}", mail.field("text"));
    let others = server.other_mails();
    assert!(others.iter().all(|mail| mail.field("kind") != "order_refunded"), "{others:?}");
}

#[tokio::test]
async fn refund_that_failed_at_the_provider_is_seen_and_repeated() {
    let shop = Shop::start().await;
    let Shop { app, admin, provider, .. } = &shop;
    let (paid, _) = shop.pay().await;
    let (cancelled, _) = shop.pay().await;
    for (order, action) in [(&paid, "refund"), (&cancelled, "cancel")] {
        app.order_action(admin, order, action).await;
        let refunded = shop.wait_for(order, "refunded").await;
        let failed = provider.fail_refund(order).await;
        let seen = shop.wait_for(order, "paid").await;
        let payment = &seen["payment"];
        assert_eq!(
            (&payment["refunds"][0]["status"], &payment["refunded"], &seen["status"]),
            (&json!("failed"), &json!(0), &refunded["status"])
        );
        app.wait_for_log("a refund failed").await;
        app.order_action(admin, order, "refund").await.is(202);
        let again = shop.wait_for(order, "refunded").await;
        let statuses: Vec<&Value> = again["payment"]["refunds"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| &it["status"])
            .collect();
        assert_eq!(statuses, ["failed", "succeeded"]);
        assert_eq!(shop.at_provider(order).await, ("succeeded".to_owned(), 1800), "{failed}");
        app.order_action(admin, order, "refund").await.problem(409, "refund_exceeds_payment");
    }
}

#[tokio::test]
async fn expired_order_whose_money_went_back_is_not_paid() {
    let shop = Shop::with_settings(&[("orders.payment_timeout", "3s")]).await;
    let Shop { app, admin, ada, tea, provider } = &shop;
    let (order, intent) = shop.begin_with(6).await;
    app.wait_for_order_status(ada, &order, "expired").await;
    wait_until(async || shop.at_provider(&order).await.0 == "canceled").await;
    let rival = app.buy(&app.customer().await, tea, 6).await;
    app.order_action(admin, &rival, "pay").await.ok();
    provider.set_faults(&json!({"lose": 100})).await;
    let object = json!({"id": intent, "status": "succeeded", "amount": 2700,
        "amount_received": 2700, "currency": "usd", "metadata": {"order_id": order["id"]}});
    send(&shop, &message("payment_intent.succeeded", &object)).await;
    assert_eq!(app.order(ada, &order).await["payment"]["refunded"], 27);
    // The units can be had again, but nobody would have paid for them.
    app.order_action(admin, &rival, "cancel").await.ok();
    app.order_action(admin, &order, "pay").await.problem(409, "invalid_transition");
    assert_eq!(app.stock_counts(admin, tea).await, [10, 0, 10]);
}
