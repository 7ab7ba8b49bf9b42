//! What one buyer may buy of a product, and hold unpaid.

use std::future::IntoFuture;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::{
    orders::Shop,
    support::{Account, Response, TestApp, unique_number},
};

/// A shop whose cups have a purchase limit.
async fn shop_with_limit(settings: &[(&str, &str)], limit: u32) -> Shop {
    let shop = Shop::with_settings(settings).await;
    limit_purchases(&shop, json!(limit)).await;
    shop
}

async fn limit_purchases(shop: &Shop, limit: Value) {
    let Shop { app, admin, cup, .. } = shop;
    let path = format!("/api/products/{cup}");
    let product = app.patch(&path, &json!({"purchase_limit": limit})).token(admin).await.ok();
    assert_eq!(product["purchase_limit"], limit);
}

async fn try_to_buy(app: &TestApp, account: &Account, product: &str, quantity: u64) -> Response {
    app.call("DELETE", "/api/cart").token(account).await.ok();
    app.add_to_cart(account, product, quantity).await.ok();
    app.check_out(account, format!("try-{}", unique_number())).await
}

fn assert_limit_reached(response: Response, product: &str, requested: u64, left: u64) {
    let problem = response.problem(409, "purchase_limit_reached");
    let lines = json!([{"product_id": product, "requested": requested, "left": left}]);
    assert_eq!(problem["lines"], lines);
}

#[tokio::test]
async fn purchase_limit_counts_orders_that_are_not_cancelled() {
    let shop = shop_with_limit(&[], 3).await;
    let Shop { app, admin, ada, tea, cup } = &shop;
    assert_limit_reached(try_to_buy(app, ada, cup, 4).await, cup, 4, 3);
    app.add_to_cart(ada, tea, 1).await.ok();
    app.update_cart(ada, cup, 2).await.ok();
    let first = app.check_out(ada, "first").await.is(201).json();
    assert_limit_reached(try_to_buy(app, ada, cup, 2).await, cup, 2, 1);
    assert_eq!(app.cart(ada).await["item_count"], 2, "a refused checkout changes nothing");
    assert_eq!(app.stock_counts(admin, cup).await, [10, 2, 8]);
    app.update_cart(ada, cup, 1).await.ok();
    let second = app.check_out(ada, "second").await.is(201).json();
    let repeated = app.check_out(ada, "second").await.is(201);
    assert_eq!(repeated.json(), second, "a repeat is no further order");
    assert_limit_reached(try_to_buy(app, ada, cup, 1).await, cup, 1, 0);
    // Paid and fulfilled orders count; a cancelled one gives back.
    app.order_action(admin, &first, "pay").await.ok();
    app.order_action(admin, &second, "pay").await.ok();
    app.order_action(admin, &second, "fulfil").await.ok();
    assert_limit_reached(try_to_buy(app, ada, cup, 1).await, cup, 1, 0);
    app.order_action(admin, &first, "cancel").await.ok();
    assert_limit_reached(try_to_buy(app, ada, cup, 3).await, cup, 3, 2);
    try_to_buy(app, ada, cup, 2).await.is(201);
    try_to_buy(app, &app.customer().await, cup, 3).await.is(201);
    try_to_buy(app, ada, tea, 4).await.is(201);
}

#[tokio::test]
async fn expired_order_gives_its_purchases_back() {
    let shop = shop_with_limit(&[("orders.payment_timeout", "300ms")], 1).await;
    let Shop { app, ada, cup, .. } = &shop;
    let order = try_to_buy(app, ada, cup, 1).await.is(201).json();
    app.wait_for_order_status(ada, &order, "expired").await;
    try_to_buy(app, ada, cup, 1).await.is(201);
}

#[tokio::test]
async fn limit_that_is_set_later_counts_earlier_orders() {
    let shop = shop_with_limit(&[], 9).await;
    let Shop { app, ada, cup, .. } = &shop;
    limit_purchases(&shop, Value::Null).await;
    app.buy(ada, cup, 2).await;
    for (limit, left) in [(4, 2), (2, 0), (1, 0)] {
        limit_purchases(&shop, json!(limit)).await;
        assert_limit_reached(try_to_buy(app, ada, cup, 3).await, cup, 3, left);
    }
    limit_purchases(&shop, Value::Null).await;
    try_to_buy(app, ada, cup, 3).await.is(201);
}

#[tokio::test]
async fn every_line_beyond_a_limit_is_named() {
    let shop = shop_with_limit(&[], 2).await;
    let Shop { app, admin, ada, tea, cup } = &shop;
    let path = format!("/api/products/{tea}");
    app.patch(&path, &json!({"purchase_limit": 1})).token(admin).await.ok();
    app.add_to_cart(ada, tea, 3).await.ok();
    app.add_to_cart(ada, cup, 3).await.ok();
    let problem = app.check_out(ada, "both").await.problem(409, "purchase_limit_reached");
    let line = |product, left| json!({"product_id": product, "requested": 3, "left": left});
    assert_eq!(problem["lines"], json!([line(tea, 1), line(cup, 2)]));
}

#[tokio::test]
async fn purchase_limit_holds_for_concurrent_checkouts_while_it_changes() {
    let shop = shop_with_limit(&[("limits.per_user", "0")], 4).await;
    let Shop { app, ada, cup, .. } = &shop;
    for round in 0..6 {
        // It is never above 4.
        let change = limit_purchases(&shop, json!(4 - round % 2));
        app.add_to_cart(ada, cup, 1).await.ok();
        let buy = |n| app.check_out(ada, format!("{round}-{n}")).into_future();
        let (responses, ()) = tokio::join!(join_all((0..5).map(buy)), change);
        for response in responses.into_iter().filter(|response| response.status != 201) {
            let code = response.is(409).json()["code"].clone();
            assert!(code == "cart_empty" || code == "purchase_limit_reached", "{code}");
        }
    }
    let orders = app.all_pages(ada, "/api/orders", 20).await;
    let bought: u64 =
        orders.iter().map(|order| order["items"][0]["quantity"].as_u64().unwrap()).sum();
    assert!((1..=4).contains(&bought), "{bought} units");
}

#[tokio::test]
async fn unpaid_units_per_user_are_limited() {
    let shop = Shop::with_settings(&[("orders.max_pending_units", "5")]).await;
    let Shop { app, admin, ada, tea, cup } = &shop;
    try_to_buy(app, ada, tea, 6).await.problem(429, "too_many_pending_orders");
    app.add_to_cart(ada, cup, 1).await.ok();
    app.update_cart(ada, tea, 2).await.ok();
    let order = app.check_out(ada, "three").await.is(201).json();
    let problem = try_to_buy(app, ada, tea, 3).await.problem(429, "too_many_pending_orders");
    assert!(problem["detail"].as_str().unwrap().contains("2 more units"), "{problem}");
    assert_eq!(app.stock_counts(admin, tea).await, [10, 2, 8]);
    try_to_buy(app, &app.customer().await, tea, 5).await.is(201);
    app.order_action(admin, &order, "pay").await.ok();
    try_to_buy(app, ada, tea, 3).await.is(201);
}

#[tokio::test]
async fn purchase_limit_is_a_member_of_products() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let body = |limit: Value| {
        json!({"name": "Pot", "description": "", "price": 12, "stock": 3, "sku": "POT-1",
            "purchase_limit": limit})
    };
    for wrong in [json!(0), json!(-1), json!(1.5), json!("2"), json!(4_294_967_296_u64)] {
        let call = app.post("/api/products", &body(wrong.clone())).token(&admin);
        let problem = call.await.problem(422, "validation_failed");
        assert_eq!(problem["errors"][0]["field"], "purchase_limit", "{wrong}");
    }
    let product = app.create_product(&admin, &body(json!(2))).await;
    assert_eq!(product["purchase_limit"], 2);
    let path = format!("/api/products/{}", product["id"].as_str().unwrap());
    let limit = async || app.get(&path).await.ok()["purchase_limit"].clone();
    let mut replaced = product.clone();
    replaced["purchase_limit"] = json!(7);
    app.put(&path, &replaced).token(&admin).await.ok();
    assert_eq!(limit().await, 7);
    app.patch(&path, &json!({"purchase_limit": null})).token(&admin).await.ok();
    assert_eq!(limit().await, Value::Null);
    for (line, expected) in [("8", json!(8)), ("null", Value::Null), ("9", json!(9))] {
        let line = format!("{{\"sku\":\"POT-1\",\"purchase_limit\":{line}}}\n");
        assert_eq!(app.import_products(&admin, line).await["updated"], 1);
        assert_eq!(limit().await, expected);
    }
    for (cell, failed, expected) in [("5", 0, 5), ("", 0, 5), ("0", 1, 5), ("x", 1, 5)] {
        let import = app.call("POST", "/api/products/import").token(&admin);
        let text = format!("sku,purchase_limit\nPOT-1,{cell}\n");
        let report = import.header("content-type", "text/csv").body(text).await.ok();
        assert_eq!(report["failed"], failed, "{report}");
        assert_eq!(limit().await, expected);
    }
    replaced.as_object_mut().unwrap().remove("purchase_limit");
    app.put(&path, &replaced).token(&admin).await.ok();
    assert_eq!(limit().await, Value::Null);
}
