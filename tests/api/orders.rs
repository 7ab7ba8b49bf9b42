//! Orders after checkout: transitions, access and lists.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{Account, TestApp};

pub(crate) struct Shop {
    pub(crate) app: TestApp,
    pub(crate) admin: Account,
    pub(crate) ada: Account,
    pub(crate) tea: String,
    pub(crate) cup: String,
}

impl Shop {
    pub(crate) async fn start() -> Self {
        Self::with_settings(&[]).await
    }

    /// Ten teas at 4.50 and ten cups at 7.
    pub(crate) async fn with_settings(settings: &[(&str, &str)]) -> Self {
        let app = TestApp::with_settings(settings).await;
        let admin = app.admin().await;
        let tea = json!({
            "name": "Mint tea", "description": "", "price": 4.5, "stock": 10, "sku": "TEA-1",
        });
        let tea = app.create_product(&admin, &tea).await["id"].as_str().unwrap().to_owned();
        let cup = app.new_product(&admin, &json!(7), 10).await;
        let ada = app.customer().await;
        Self { app, admin, ada, tea, cup }
    }
}

fn sorted_keys(value: &Value) -> BTreeSet<String> {
    value.as_object().unwrap().keys().cloned().collect()
}

#[tokio::test]
async fn order_is_paid_and_fulfilled() {
    let Shop { app, admin, ada, tea, .. } = Shop::start().await;
    let order = app.buy(&ada, &tea, 4).await;
    let paid = app
        .order_action(&admin, &order, "pay")
        .json(&json!({"reference": "transfer 17"}))
        .await
        .is(200);
    assert_eq!(paid.etag(), "\"2\"");
    let paid = paid.json();
    assert_eq!((&paid["status"], &paid["version"]), (&json!("paid"), &json!(2)));
    let payment = json!({
        "method": "manual", "status": "paid", "reference": "transfer 17", "amount": 18,
        "refunded": 0, "refunds": [],
    });
    assert_eq!(paid["payment"], payment);
    assert!(paid.get("expires_at").is_none(), "a paid order does not expire");
    assert_eq!(app.order(&ada, &order).await, paid);
    assert_eq!(app.stock_counts(&admin, &tea).await, [10, 4, 6]);
    let sent = app
        .order_action(&admin, &order, "fulfil")
        .json(&json!({"reference": "parcel 4"}))
        .await
        .ok();
    assert_eq!(
        (&sent["status"], &sent["version"], &sent["payment"]),
        (&json!("fulfilled"), &json!(3), &paid["payment"])
    );
    assert_eq!(app.stock_counts(&admin, &tea).await, [6, 0, 6]);
    let movements =
        app.all_pages(&admin, &format!("/api/products/{tea}/stock/movements"), 20).await;
    let movement = |n: usize| {
        ["kind", "on_hand_delta", "reserved_delta", "order_id"]
            .map(|name| movements[n][name].clone())
    };
    assert_eq!(movement(0), [json!("shipped"), json!(-4), json!(-4), order["id"].clone()]);
    assert_eq!(movement(1), [json!("reserved"), json!(0), json!(4), order["id"].clone()]);
    assert_eq!(
        (&movements[0]["reference"], movements[1].get("reference")),
        (&json!("parcel 4"), None)
    );
}

#[tokio::test]
async fn cancelled_order_releases_stock() {
    let Shop { app, admin, ada, tea, .. } = Shop::start().await;
    for (account, pay_first) in [(&ada, false), (&admin, false), (&admin, true)] {
        let order = app.buy(&ada, &tea, 10).await;
        if pay_first {
            app.order_action(&admin, &order, "pay").await.ok();
            // What is paid has to be refunded, so it is for the shop to cancel.
            app.order_action(&ada, &order, "cancel").await.problem(409, "invalid_transition");
        }
        app.add_to_cart(&ada, &tea, 1).await.problem(409, "insufficient_stock");
        let cancelled = app.order_action(account, &order, "cancel").await.ok();
        assert_eq!(
            (&cancelled["status"], cancelled.get("expires_at")),
            (&json!("cancelled"), None)
        );
        assert_eq!(app.stock_counts(&admin, &tea).await, [10, 0, 10]);
    }
    let movements =
        app.all_pages(&admin, &format!("/api/products/{tea}/stock/movements"), 20).await;
    assert_eq!(
        (&movements[0]["kind"], &movements[0]["reserved_delta"]),
        (&json!("released"), &json!(-10))
    );
}

#[tokio::test]
async fn invalid_order_transitions_are_rejected() {
    let Shop { app, admin, ada, tea, .. } = Shop::start().await;
    let pending = app.buy(&ada, &tea, 1).await;
    let paid = app.order_action(&admin, &app.buy(&ada, &tea, 1).await, "pay").await.ok();
    let fulfilled = app.order_action(&admin, &app.buy(&ada, &tea, 1).await, "pay").await.ok();
    let fulfilled = app.order_action(&admin, &fulfilled, "fulfil").await.ok();
    let cancelled = app.order_action(&ada, &app.buy(&ada, &tea, 1).await, "cancel").await.ok();
    let before = app.stock_counts(&admin, &tea).await;
    for (order, refused) in [
        (&pending, vec!["fulfil"]),
        (&paid, vec!["pay"]),
        (&fulfilled, vec!["pay", "cancel", "fulfil"]),
        (&cancelled, vec!["pay", "cancel", "fulfil"]),
    ] {
        for action in refused {
            app.order_action(&admin, order, action).await.problem(409, "invalid_transition");
            app.order_action(&admin, order, action)
                .key("k")
                .await
                .problem(409, "invalid_transition");
        }
        assert_eq!(&app.order(&ada, order).await, order);
    }
    assert_eq!(app.stock_counts(&admin, &tea).await, before);
}

#[tokio::test]
async fn orders_are_visible_to_owner_and_admin() {
    let Shop { app, admin, ada, tea, .. } = Shop::start().await;
    let (eve, guest) = (app.customer().await, app.guest().await);
    let order = app.buy(&ada, &tea, 1).await;
    let path = format!("/api/orders/{}", order["id"].as_str().unwrap());
    assert_eq!(app.get(&path).token(&admin).await.ok(), order);
    app.get(&path).await.problem(401, "unauthenticated");
    app.get(&path).token(&eve).await.problem(404, "not_found");
    app.order_action(&eve, &order, "cancel").await.problem(404, "not_found");
    for account in [&eve, &ada] {
        app.order_action(account, &order, "pay").await.problem(403, "forbidden");
        app.order_action(account, &order, "fulfil").await.problem(403, "forbidden");
        app.get("/api/orders?all=true").token(account).await.problem(403, "forbidden");
    }
    app.get(&path).token(&guest).await.problem(404, "not_found");
    assert_eq!(app.get("/api/orders").token(&guest).await.ok()["items"], json!([]));
    app.get("/api/orders?all=true").token(&guest).await.problem(403, "forbidden");
    app.order_action(&guest, &order, "cancel").await.problem(404, "not_found");
    app.order_action(&guest, &order, "pay").await.problem(403, "forbidden");
    for id in [&*ada.id, "nonsense", "..%2F"] {
        app.get(&format!("/api/orders/{id}")).token(&admin).await.problem(404, "not_found");
        for action in ["cancel", "pay", "fulfil"] {
            app.order_action(&admin, &json!({"id": id}), action).await.problem(404, "not_found");
        }
    }
    assert_eq!(app.order(&ada, &order).await, order);
}

#[tokio::test]
async fn orders_are_listed_newest_first() {
    let Shop { app, admin, ada, tea, .. } = Shop::start().await;
    let bob = app.customer().await;
    let mut all = Vec::new();
    for n in 0..7 {
        all.insert(0, app.buy(if n % 3 == 0 { &bob } else { &ada }, &tea, 1).await);
    }
    let of = |account: &Account| -> Vec<Value> {
        all.iter().filter(|order| order["user_id"] == account.id).cloned().collect()
    };
    for limit in [1, 2, 3, 7, 100] {
        assert_eq!(app.all_pages(&ada, "/api/orders", limit).await, of(&ada));
        assert_eq!(app.all_pages(&bob, "/api/orders?all=false", limit).await, of(&bob));
        assert_eq!(app.all_pages(&admin, "/api/orders", limit).await, of(&admin));
        assert_eq!(app.all_pages(&admin, "/api/orders?all=true", limit).await, all);
    }
    for query in ["limit=0", "limit=101", "cursor=nonsense", "cursor=IjEi"] {
        app.get(&format!("/api/orders?{query}"))
            .token(&ada)
            .await
            .problem(422, "validation_failed");
    }
    app.get("/api/orders?all=maybe").token(&admin).await.problem(422, "validation_failed");
}

#[tokio::test]
async fn order_keeps_its_lines_when_products_change() {
    let Shop { app, admin, ada, tea, .. } = Shop::start().await;
    let order = app.buy(&ada, &tea, 3).await;
    app.patch(
        &format!("/api/products/{tea}"),
        &json!({"name": "Gold tea", "price": 99, "sku": null}),
    )
    .token(&admin)
    .await
    .ok();
    assert_eq!(app.order(&ada, &order).await, order);
    assert_eq!(app.buy(&ada, &tea, 1).await["total_amount"], 99);
    app.delete(&format!("/api/products/{tea}")).token(&admin).await.is(204);
    assert_eq!(app.order(&ada, &order).await, order);
    let paid = app.order_action(&admin, &order, "pay").await.ok();
    assert_eq!((&paid["items"], &paid["total_amount"]), (&order["items"], &json!(13.5)));
    app.order_action(&admin, &order, "fulfil").await.ok();
}

#[tokio::test]
async fn stale_if_match_rejects_order_changes() {
    let Shop { app, admin, ada, tea, .. } = Shop::start().await;
    let order = app.buy(&ada, &tea, 1).await;
    let path = format!("/api/orders/{}", order["id"].as_str().unwrap());
    let seen = app.get(&path).token(&ada).await.etag();
    app.get(&path).token(&ada).header("if-none-match", &seen).await.is(304);
    for action in ["pay", "cancel"] {
        for stale in ["\"2\"", "\"0\"", "W/\"2\"", "nonsense"] {
            app.order_action(&admin, &order, action)
                .header("if-match", stale)
                .await
                .problem(412, "version_mismatch");
        }
    }
    app.order_action(&admin, &order, "pay").header("if-match", &seen).await.ok();
    app.order_action(&admin, &order, "fulfil")
        .header("if-match", &seen)
        .await
        .problem(412, "version_mismatch");
    app.get(&path).token(&ada).header("if-none-match", &seen).await.is(200);
    app.order_action(&admin, &order, "fulfil").header("if-match", "*").await.ok();
}

#[tokio::test]
async fn openapi_document_describes_orders() {
    let Shop { app, admin, ada, tea, .. } = Shop::start().await;
    app.add_to_cart(&ada, &tea, 1).await.ok();
    let address = crate::support::person::address();
    let order = app
        .check_out(&ada, "k")
        .json(&json!({"shipping_address": address, "billing_address": address}))
        .await
        .is(201)
        .json();
    let paid = app.order_action(&admin, &order, "pay").json(&json!({"reference": "r"})).await.ok();
    let document = app.get("/openapi.json").await.ok();
    let schema = |name: &str| document["components"]["schemas"][name].clone();
    let described = |name: &str| sorted_keys(&schema(name)["properties"]);
    let mut by_staff = order.clone();
    by_staff["actor"] = paid["actor"].clone();
    // Only a shop with shipping methods or tax rates has these.
    (by_staff["shipping"], by_staff["shipping_to"]) = (json!({}), json!({}));
    assert_eq!(described("OrderResponse"), sorted_keys(&by_staff));
    assert_eq!(described("OrderItem"), sorted_keys(&order["items"][0]));
    let mut by_provider = paid["payment"].clone();
    (by_provider["failure"], by_provider["client_secret"]) = (json!({}), json!(""));
    assert_eq!(described("OrderPayment"), sorted_keys(&by_provider));
    for (name, value) in [
        ("OrderResponse", &paid),
        ("OrderItem", &order["items"][0]),
        ("OrderPayment", &order["payment"]),
    ] {
        for required in schema(name)["required"].as_array().unwrap() {
            assert!(value.get(required.as_str().unwrap()).is_some(), "{name} lacks {required}");
        }
    }
    for (path, name) in [
        ("/api/checkout", "CheckoutRequest"),
        ("/api/orders/{id}/pay", "ReferenceRequest"),
        ("/api/orders/{id}/fulfil", "FulfilRequest"),
    ] {
        let body = &document["paths"][path]["post"]["requestBody"];
        let schema = format!("#/components/schemas/{name}");
        assert_eq!(
            body["content"]["application/json"]["schema"],
            json!({"$ref": schema}),
            "the body is an optional object"
        );
        assert_ne!(body["required"], true);
    }
}
