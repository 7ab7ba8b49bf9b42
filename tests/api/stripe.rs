//! Payments with programs that others wrote: localstripe, and Stripe's own library.

use serde_json::{Value, json};

use crate::support::payments::{LocalStripe, Provider, payment_tools};

/// A card of localstripe that is declined when it is charged.
const DECLINED_CARD: &str = "4000000000000341";

#[tokio::test]
async fn order_is_paid_and_refunded_with_localstripe() {
    let Some(stripe) = LocalStripe::start("localstripe").await else { return };
    let app = stripe.start_shop().await;
    let (admin, ada) = (app.admin().await, app.customer().await);
    let tea = app.new_product(&admin, &json!(4.5), 10).await;
    let intent_of = |payment: &Value| payment["reference"].as_str().unwrap().to_owned();
    let order = app.buy(&ada, &tea, 2).await;
    let intent = intent_of(&app.begin_payment(&ada, &order).await);
    stripe.pay(&intent, "4242424242424242").await;
    let paid = app.wait_for_payment(&ada, &order, "paid").await;
    assert_eq!((&paid["status"], &paid["payment"]["reference"]), (&json!("paid"), &json!(intent)));
    let refund = app.order_action(&admin, &order, "refund").json(&json!({"amount": 4}));
    refund.await.is(202);
    let order = app.wait_for_payment(&ada, &order, "partially_refunded").await;
    let refunds = stripe.get(&format!("v1/refunds?payment_intent={intent}")).await;
    let [refund] = &**refunds["data"].as_array().unwrap() else { panic!("{refunds}") };
    assert_eq!(refund["amount"], 400);
    assert_eq!(refund["metadata"]["refund_id"], order["payment"]["refunds"][0]["id"]);
    // A card that is declined.
    let order = app.buy(&ada, &tea, 1).await;
    let intent = intent_of(&app.begin_payment(&ada, &order).await);
    stripe.pay(&intent, DECLINED_CARD).await;
    let failed = app.wait_for_payment(&ada, &order, "failed").await;
    assert_eq!(failed["payment"]["failure"]["code"], "card_declined");
    app.order_action(&ada, &order, "cancel").await.ok();
    let canceled = async {
        while stripe.get(&format!("v1/payment_intents/{intent}")).await["status"] != "canceled" {
            // It tells nobody.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), canceled).await.unwrap();
}

#[tokio::test]
async fn signatures_of_stripes_own_library_are_accepted() {
    let Some(packages) = payment_tools("signatures of Stripe") else { return };
    let provider = Provider::start_with(Some(packages)).await;
    let app = provider.start_shop(&[]).await;
    let body = r#"{"id": "evt_1", "type": "customer.created", "data": {"object": {}}}"#;
    let send = |signature: String, body: &str| {
        let webhook = app.call("POST", "/api/payments/stripe/webhook");
        webhook.header("stripe-signature", signature).body(body.to_owned())
    };
    for age in [0, 290, -290] {
        send(provider.sign(body, age).await, body).await.is(200);
    }
    let good = provider.sign(body, 0).await;
    send(format!("{good},v1=00"), body).await.is(200);
    send(good.clone(), &body.replace("evt_1", "evt_2")).await.problem(400, "signature_invalid");
    for age in [310, -310] {
        let signature = provider.sign(body, age).await;
        send(signature, body).await.problem(400, "signature_invalid");
    }
    for wrong in [String::new(), good.replace("v1=", "v0="), good.replace("t=", "t=1")] {
        send(wrong, body).await.problem(400, "signature_invalid");
    }
    let unsigned = app.call("POST", "/api/payments/stripe/webhook").body(body);
    unsigned.await.problem(400, "signature_invalid");
}
