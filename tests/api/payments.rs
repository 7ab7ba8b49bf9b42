//! Payments by a provider: paid, declined, called off, late, refunded, and asked for in vain.

use serde_json::{Value, json};

use crate::support::{Account, TestApp, payments::Provider, unique_number};

pub(crate) struct Shop {
    pub(crate) provider: Provider,
    pub(crate) app: TestApp,
    pub(crate) admin: Account,
    pub(crate) ada: Account,
    pub(crate) tea: String,
}

impl Shop {
    pub(crate) async fn start() -> Self {
        Self::with_settings(&[]).await
    }

    /// Ten teas at 4.50.
    pub(crate) async fn with_settings(settings: &[(&str, &str)]) -> Self {
        let provider = Provider::start().await;
        let app = provider.start_shop(settings).await;
        let admin = app.admin().await;
        let tea = app.new_product(&admin, &json!(4.5), 10).await;
        let ada = app.customer().await;
        Self { provider, app, admin, ada, tea }
    }

    /// An order of four teas whose payment is begun, with the provider's id of it.
    pub(crate) async fn begin(&self) -> (Value, String) {
        self.begin_with(4).await
    }

    /// An order of so many teas whose payment is begun.
    pub(crate) async fn begin_with(&self, quantity: u64) -> (Value, String) {
        let order = self.app.buy(&self.ada, &self.tea, quantity).await;
        let payment = self.app.begin_payment(&self.ada, &order).await;
        let intent = payment["reference"].as_str().unwrap().to_owned();
        (order, intent)
    }

    /// The same, paid.
    pub(crate) async fn pay(&self) -> (Value, String) {
        let (order, intent) = self.begin().await;
        assert!(self.provider.pay(&intent).await);
        (self.app.wait_for_payment(&self.ada, &order, "paid").await, intent)
    }

    pub(crate) async fn wait_for(&self, order: &Value, payment: &str) -> Value {
        self.app.wait_for_payment(&self.ada, order, payment).await
    }

    /// What the provider has of the only intent of an order: its status, and what went back.
    pub(crate) async fn at_provider(&self, order: &Value) -> (String, u64) {
        let intents = self.provider.intents_of(order).await;
        let [intent] = &*intents else { panic!("{intents:?}") };
        (intent["status"].as_str().unwrap().to_owned(), intent["refunded"].as_u64().unwrap())
    }

    async fn assert_clean_audit(&self) {
        let audit = self.app.call("POST", "/api/admin/audit").token(&self.admin).await.ok();
        assert_eq!(audit["clean"], true, "{audit}");
    }
}

#[tokio::test]
async fn order_is_paid_by_the_provider() {
    let shop = Shop::start().await;
    let Shop { app, admin, ada, tea, provider } = &shop;
    let mut feed = app.open_feed(Some(ada), None).await;
    let order = app.buy(ada, tea, 4).await;
    assert_eq!(
        order["payment"],
        json!({"method": "stripe", "status": "awaiting", "amount": 18, "refunded": 0,
            "refunds": []})
    );
    let payment = app.begin_payment(ada, &order).await;
    let intent = payment["reference"].as_str().unwrap();
    let secret = payment["client_secret"].as_str().unwrap();
    assert!(secret.starts_with(&format!("{intent}_secret_")), "{payment}");
    assert_eq!(app.begin_payment(ada, &order).await, payment, "the same however often");
    let [booked] = &*provider.intents_of(&order).await else { panic!("not one intent") };
    assert_eq!((&booked["amount"], &booked["currency"]), (&json!(1800), &json!("usd")));
    let metadata = json!({"order_id": order["id"], "number": order["number"]});
    assert_eq!(booked["metadata"], metadata, "nothing else is told");
    // The secret is the buyer's own.
    assert_eq!(app.order(ada, &order).await["payment"]["client_secret"], secret);
    let list = app.get("/api/orders").token(ada).await.is(200).text();
    let exported = app.get("/api/orders/export").token(admin).await.is(200).text();
    let seen = app.order(admin, &order).await.to_string();
    let path = format!("/api/orders/{}/payment", order["id"].as_str().unwrap());
    app.call("POST", &path).token(&app.customer().await).await.problem(404, "not_found");
    provider.decline(intent).await;
    let failed = shop.wait_for(&order, "failed").await;
    assert_eq!(failed["payment"]["failure"]["code"], "insufficient_funds");
    assert_eq!(failed["payment"]["client_secret"], secret);
    assert_eq!(failed["payment"]["reference"], intent);
    assert!(provider.pay(intent).await);
    let paid = shop.wait_for(&order, "paid").await;
    assert_eq!((&paid["status"], &paid["payment"]["reference"]), (&json!("paid"), &json!(intent)));
    assert_eq!(paid["payment"].get("client_secret").or(paid["payment"].get("failure")), None);
    assert_eq!(app.begin_payment(ada, &order).await, paid["payment"], "paid: 200");
    assert!(paid.get("expires_at").is_none());
    let events = feed.read_until(|event| event.kind == "order.paid").await;
    let events = events.iter().filter(|event| event.family() == "order");
    let kinds: Vec<&str> = events.clone().map(|event| &*event.kind).collect();
    let changed = "order.payment_changed";
    assert_eq!(kinds, ["order.placed", changed, changed, "order.paid"]);
    let told = events.map(|event| event.body.to_string()).collect::<String>();
    for text in [list, exported, seen, told, app.log()] {
        assert!(!text.contains("_secret_"), "{text}");
    }
    app.order_action(admin, &order, "fulfil").await.ok();
    shop.assert_clean_audit().await;
}

#[tokio::test]
async fn message_works_once_however_often_it_comes() {
    let shop = Shop::start().await;
    shop.provider.set_faults(&json!({"twice": 100})).await;
    let (order, intent) = shop.begin().await;
    shop.provider.decline(&intent).await;
    shop.wait_for(&order, "failed").await;
    assert!(shop.provider.pay(&intent).await);
    shop.wait_for(&order, "paid").await;
    let refund = shop.app.order_action(&shop.admin, &order, "refund").await.is(202).json();
    assert_eq!(refund["payment"]["refunds"][0]["status"], "pending");
    assert_eq!(
        (&refund["payment"]["status"], &refund["payment"]["refunded"]),
        (&json!("paid"), &json!(18))
    );
    let refunded = shop.wait_for(&order, "refunded").await;
    // Placed, begun, declined, paid, refund asked for, its acceptance and its success.
    assert_eq!(refunded["version"], 6);
    let body = json!({"id": "evt_1", "type": "payment_intent.succeeded", "data": {"object": {
        "id": intent, "status": "succeeded", "amount": 1800, "amount_received": 1800,
        "currency": "usd", "metadata": {"order_id": order["id"]},
    }}})
    .to_string();
    for _ in 0..3 {
        send(&shop, &body).await;
    }
    assert_eq!(shop.app.order(&shop.ada, &order).await, refunded);
    assert_eq!(shop.at_provider(&order).await, ("succeeded".to_owned(), 1800));
}

/// Sends a signed message, which is taken.
pub(crate) async fn send(shop: &Shop, body: &str) {
    let signature = shop.provider.sign(body, 0).await;
    let webhook = shop.app.call("POST", "/api/payments/stripe/webhook");
    let webhook = webhook.header("stripe-signature", signature).body(body.to_owned());
    webhook.await.is(200);
}

pub(crate) fn message(kind: &str, object: &Value) -> String {
    json!({"id": "evt_1", "type": kind, "api_version": "2017-08-15", "data": {"object": object}})
        .to_string()
}

#[tokio::test]
async fn money_for_another_amount_is_unclear() {
    let shop = Shop::start().await;
    let (order, intent) = shop.begin().await;
    let paid = |amount: u64, currency: &str| {
        let object = json!({"id": intent, "status": "succeeded", "amount": amount,
            "amount_received": amount, "currency": currency, "metadata": {}});
        message("payment_intent.succeeded", &object)
    };
    send(&shop, &paid(1799, "usd")).await;
    let unclear = shop.app.order(&shop.ada, &order).await;
    assert_eq!(
        (&unclear["status"], &unclear["payment"]["status"]),
        (&json!("pending_payment"), &json!("unclear"))
    );
    shop.app.wait_for_log("a payment is unclear").await;
    let (order, intent) = shop.begin().await;
    let object = json!({"id": intent, "status": "succeeded", "amount": 1800,
        "amount_received": 1800, "currency": "eur", "metadata": {}});
    send(&shop, &message("payment_intent.succeeded", &object)).await;
    assert_eq!(shop.app.order(&shop.ada, &order).await["payment"]["status"], "unclear");
}

#[tokio::test]
async fn messages_about_nothing_of_this_shop_are_taken() {
    let shop = Shop::start().await;
    let (order, _) = shop.pay().await;
    let unknown =
        json!({"id": "pi_unknown", "status": "succeeded", "amount": 1, "currency": "usd"});
    let elsewhere = json!({"id": "pi_unknown", "status": "succeeded", "amount": 1,
        "currency": "usd", "metadata": {"order_id": "0197b0c4-0000-7000-8000-000000000000"}});
    for body in [
        message("payment_intent.succeeded", &unknown),
        message("payment_intent.succeeded", &elsewhere),
        message("customer.created", &json!({"id": "cus_1"})),
        message("charge.refunded", &json!({"id": "ch_1"})),
        json!({"type": "payment_intent.succeeded"}).to_string(),
        "[]".to_owned(),
    ] {
        send(&shop, &body).await;
    }
    assert_eq!(shop.app.order(&shop.ada, &order).await, order);
    // Another shop does without.
    let other = TestApp::start().await;
    let webhook = other.call("POST", "/api/payments/stripe/webhook").body("{}");
    webhook.await.problem(404, "not_found");
}

#[tokio::test]
async fn cancelled_order_is_called_off_and_never_charged() {
    let shop = Shop::start().await;
    let (order, intent) = shop.begin().await;
    let cancelled = shop.app.order_action(&shop.ada, &order, "cancel").await.ok();
    assert_eq!(cancelled["payment"]["status"], "cancelled");
    assert_eq!(cancelled["payment"].get("client_secret"), None);
    shop.app.order_action(&shop.ada, &order, "payment").await.problem(409, "invalid_transition");
    wait_until(async || shop.at_provider(&order).await.0 == "canceled").await;
    assert!(!shop.provider.pay(&intent).await);
    // The money was faster than the cancellation.
    shop.provider.set_faults(&json!({"lose": 100})).await;
    let (order, intent) = shop.begin().await;
    assert!(shop.provider.pay(&intent).await);
    let cancelled = shop.app.order_action(&shop.ada, &order, "cancel").await.ok();
    assert_eq!(cancelled["payment"]["status"], "cancelled");
    let refunded = shop.wait_for(&order, "refunded").await;
    assert_eq!(
        (&refunded["status"], &refunded["payment"]["refunded"]),
        (&json!("cancelled"), &json!(18))
    );
    assert_eq!(shop.at_provider(&order).await, ("succeeded".to_owned(), 1800));
    assert_eq!(shop.app.stock_counts(&shop.admin, &shop.tea).await, [10, 0, 10]);
}

/// Waits for what nothing tells of.
pub(crate) async fn wait_until(reached: impl AsyncFn() -> bool) {
    let wait = async {
        while !reached().await {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), wait).await.expect("it did not come");
}

#[tokio::test]
async fn late_money_revives_the_order_or_goes_back() {
    let shop = Shop::with_settings(&[("orders.payment_timeout", "3s")]).await;
    let Shop { app, admin, ada, tea, provider } = &shop;
    // Nobody hears of the payments, until the provider is asked to call them off.
    provider.set_faults(&json!({"lose": 100})).await;
    let (first, intent) = shop.begin().await;
    assert!(provider.pay(&intent).await);
    let (second, intent) = shop.begin().await;
    assert!(provider.pay(&intent).await);
    let paid = shop.wait_for(&first, "paid").await;
    assert_eq!(paid["status"], "paid", "it takes its units again");
    shop.wait_for(&second, "paid").await;
    // Nine are needed, and two are left.
    let (third, intent) = shop.begin_with(2).await;
    app.wait_for_order_status(ada, &third, "expired").await;
    wait_until(async || shop.at_provider(&third).await.0 == "canceled").await;
    let eve = app.customer().await;
    let last = app.buy(&eve, tea, 2).await;
    app.order_action(admin, &last, "pay").await.ok();
    let object = json!({"id": intent, "status": "succeeded", "amount": 900,
        "amount_received": 900, "currency": "usd", "metadata": {"order_id": third["id"]}});
    send(&shop, &message("payment_intent.succeeded", &object)).await;
    let order = app.order(ada, &third).await;
    assert_eq!(
        (&order["status"], &order["payment"]["refunded"]),
        (&json!("expired"), &json!(9)),
        "{order}"
    );
    assert_eq!(order["payment"]["refunds"][0]["reason"], "late payment");
    assert_eq!(app.stock_counts(admin, tea).await, [10, 10, 0]);
    shop.assert_clean_audit().await;
}

#[tokio::test]
async fn dispute_is_unclear() {
    let shop = Shop::start().await;
    let (order, intent) = shop.pay().await;
    let dispute = json!({"id": "dp_1", "payment_intent": intent, "amount": 1800});
    send(&shop, &message("charge.dispute.created", &dispute)).await;
    let order = shop.app.order(&shop.ada, &order).await;
    assert_eq!(
        (&order["status"], &order["payment"]["status"]),
        (&json!("paid"), &json!("unclear"))
    );
}

#[tokio::test]
async fn money_that_staff_has_already_goes_back() {
    let shop = Shop::start().await;
    let Shop { app, admin, ada, provider, .. } = &shop;
    let (order, intent) = shop.begin().await;
    let paid = app.order_action(admin, &order, "pay").json(&json!({"reference": "cash"}));
    let paid = paid.await.ok();
    assert_eq!(
        (&paid["payment"]["method"], &paid["payment"]["reference"]),
        (&json!("manual"), &json!("cash"))
    );
    wait_until(async || shop.at_provider(&order).await.0 == "canceled").await;
    assert!(!provider.pay(&intent).await);
    // The buyer was faster.
    provider.set_faults(&json!({"lose": 100})).await;
    let (order, intent) = shop.begin().await;
    assert!(provider.pay(&intent).await);
    app.order_action(admin, &order, "pay").await.ok();
    wait_until(async || shop.at_provider(&order).await == ("succeeded".to_owned(), 1800)).await;
    let kept = app.order(ada, &order).await;
    assert_eq!(
        (&kept["status"], &kept["payment"]["status"], &kept["payment"]["refunds"]),
        (&json!("paid"), &json!("paid"), &json!([]))
    );
}

#[tokio::test]
async fn payment_that_was_cancelled_at_the_provider_is_replaced() {
    let shop = Shop::start().await;
    let (order, intent) = shop.begin().await;
    shop.provider.cancel(&intent).await;
    let replaced = async || {
        let payment = shop.app.order(&shop.ada, &order).await["payment"].clone();
        payment["client_secret"].is_string() && payment["reference"] != json!(intent)
    };
    wait_until(replaced).await;
    let payment = shop.app.begin_payment(&shop.ada, &order).await;
    assert!(shop.provider.pay(payment["reference"].as_str().unwrap()).await);
    shop.wait_for(&order, "paid").await;
    assert_eq!(shop.provider.intents_of(&order).await.len(), 2);
}

#[tokio::test]
async fn methods_that_cannot_charge_are_refused_at_checkout() {
    let shop = Shop::start().await;
    let Shop { app, admin, ada, .. } = &shop;
    let check_out = |body: Value| app.check_out(ada, unique_number().to_string()).json(&body);
    let cheap = app.new_product(admin, &json!(0.49), 10).await;
    app.add_to_cart(ada, &cheap, 1).await.ok();
    let refused = check_out(json!({})).await.problem(422, "validation_failed");
    assert_eq!(
        (&refused["errors"][0]["field"], &refused["errors"][0]["code"]),
        (&json!("payment_method"), &json!("amount_not_payable"))
    );
    check_out(json!({"payment_method": "cheque"})).await.problem(422, "validation_failed");
    let order = check_out(json!({"payment_method": "manual"})).await.is(201).json();
    assert_eq!(order["payment"]["method"], "manual");
    let payment = app.begin_payment(ada, &order).await;
    assert_eq!((&payment["status"], payment.get("client_secret")), (&json!("awaiting"), None));
    // Nothing is to be paid, and no provider is asked.
    let free = app.new_product(admin, &json!(0), 10).await;
    let order = app.buy(ada, &free, 1).await;
    assert_eq!(
        order["payment"],
        json!({"method": "manual", "status": "paid", "amount": 0, "refunded": 0, "refunds": []})
    );
    assert_eq!(shop.provider.book().await["intents"], json!([]));
    // Another shop has no provider.
    let other = TestApp::start().await;
    let (admin, ada) = (other.admin().await, other.customer().await);
    let tea = other.new_product(&admin, &json!(4.5), 10).await;
    other.add_to_cart(&ada, &tea, 1).await.ok();
    let refused = other.check_out(&ada, "stripe").json(&json!({"payment_method": "stripe"}));
    let refused = refused.await.problem(422, "validation_failed");
    assert_eq!(refused["errors"][0]["field"], "payment_method");
}
