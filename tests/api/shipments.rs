//! Shipments, orders that cost nothing, and prices that rose.

use serde_json::{Value, json};

use crate::orders::Shop;

#[tokio::test]
async fn order_ships_in_parts_with_tracking() {
    let Shop { app, admin, ada, tea, cup } = Shop::start().await;
    app.add_to_cart(&ada, &cup, 2).await.ok();
    let order = app.buy(&ada, &tea, 3).await;
    assert_eq!(order["shipments"], json!([]));
    app.order_action(&admin, &order, "pay").await.ok();
    let ship = |body: Value| app.order_action(&admin, &order, "fulfil").json(&body);
    let first = json!({
        "items": [{"product_id": tea, "quantity": 2}],
        "carrier": "DHL", "tracking": "0034043", "reference": "parcel 4",
    });
    let part = ship(first.clone()).key("first").await.is(200);
    assert!(ship(first).key("first").await.is(200).is_replayed());
    let part = part.json();
    let item = |order: &Value, product: &str| {
        let items = order["items"].as_array().unwrap().clone();
        items.into_iter().find(|item| item["product_id"] == product).unwrap()["fulfilled"].clone()
    };
    assert_eq!(
        (&part["status"], item(&part, &tea), item(&part, &cup)),
        (&json!("partially_fulfilled"), json!(2), json!(0))
    );
    let shipment = &part["shipments"][0];
    assert_eq!(shipment["items"], json!([{"product_id": tea, "quantity": 2}]));
    assert_eq!(
        (&shipment["carrier"], &shipment["tracking"], &shipment["reference"]),
        (&json!("DHL"), &json!("0034043"), &json!("parcel 4"))
    );
    assert_eq!(app.stock_counts(&admin, &tea).await, [8, 1, 7]);
    let excess = ship(json!({"items": [{"product_id": tea, "quantity": 2}]}))
        .await
        .problem(409, "quantity_exceeds_order");
    assert_eq!(excess["lines"], json!([{"product_id": tea, "requested": 2, "left": 1}]));
    for wrong in [
        json!({"items": []}),
        json!({"items": [{"product_id": tea, "quantity": 0}]}),
        json!({"items": [{"product_id": tea, "quantity": 1}, {"product_id": tea, "quantity": 1}]}),
        json!({"items": [{"product_id": tea, "quantity": 1, "colour": "red"}]}),
        json!({"tracking": "x".repeat(201)}),
        json!({"carier": "DHL"}),
    ] {
        ship(wrong).await.problem(422, "validation_failed");
    }
    let whole = ship(json!({"tracking": "0034044"})).await.ok();
    assert_eq!((&whole["status"], item(&whole, &cup)), (&json!("fulfilled"), json!(2)));
    assert_eq!(whole["shipments"][1]["tracking"], "0034044");
    assert_eq!(app.order(&ada, &order).await, whole);
    assert_eq!(app.stock_counts(&admin, &tea).await, [7, 0, 7]);
    assert_eq!(app.stock_counts(&admin, &cup).await, [8, 0, 8]);
    let audit = app.call("POST", "/api/admin/audit").token(&admin).await.ok();
    assert_eq!(audit["clean"], true, "{audit}");
}

#[tokio::test]
async fn staff_cancels_what_is_left_of_a_partly_shipped_order() {
    let Shop { app, admin, ada, tea, .. } = Shop::start().await;
    let order = app.buy(&ada, &tea, 5).await;
    app.order_action(&admin, &order, "pay").await.ok();
    let items = json!({"items": [{"product_id": tea, "quantity": 2}]});
    app.order_action(&admin, &order, "fulfil").json(&items).await.ok();
    app.order_action(&ada, &order, "cancel").await.problem(409, "invalid_transition");
    let cancelled = app.order_action(&admin, &order, "cancel").await.ok();
    assert_eq!(
        (&cancelled["status"], &cancelled["items"][0]["fulfilled"]),
        (&json!("cancelled"), &json!(2))
    );
    assert_eq!(app.stock_counts(&admin, &tea).await, [8, 0, 8]);
    app.order_action(&admin, &order, "fulfil").await.problem(409, "invalid_transition");
    let audit = app.call("POST", "/api/admin/audit").token(&admin).await.ok();
    assert_eq!(audit["clean"], true, "{audit}");
}

#[tokio::test]
async fn order_of_nothing_is_paid_and_never_expires() {
    let settings = [("orders.payment_timeout", "1s"), ("orders.max_pending", "1")];
    let Shop { app, admin, ada, tea, .. } = Shop::with_settings(&settings).await;
    let gift = app.new_product(&admin, &json!(0), 10).await;
    let unpaid = app.buy(&ada, &tea, 1).await;
    let free = app.buy(&ada, &gift, 2).await;
    assert_eq!((&free["status"], &free["total_amount"]), (&json!("paid"), &json!(0)));
    assert_eq!((free.get("expires_at"), &free["version"]), (None, &json!(2)));
    app.wait_for_order_status(&ada, &unpaid, "expired").await;
    assert_eq!(app.order(&ada, &free).await, free);
    assert_eq!(app.stock_counts(&admin, &gift).await, [10, 2, 8]);
    app.order_action(&admin, &free, "fulfil").await.ok();
    let audit = app.call("POST", "/api/admin/audit").token(&admin).await.ok();
    assert_eq!(audit["clean"], true, "{audit}");
}

#[tokio::test]
async fn price_changed_names_the_lines_that_rose() {
    let Shop { app, admin, ada, tea, cup } = Shop::start().await;
    app.add_to_cart(&ada, &tea, 2).await.ok();
    app.add_to_cart(&ada, &cup, 1).await.ok();
    let dearer = json!({"price": 5.25});
    app.patch(&format!("/api/products/{tea}"), &dearer).token(&admin).await.ok();
    let changed = app
        .check_out(&ada, "k")
        .json(&json!({"expected_total": 16}))
        .await
        .problem(409, "price_changed");
    assert_eq!(changed["total_amount"], 17.5);
    assert_eq!(changed["lines"], json!([{"product_id": tea, "was": 4.5, "now": 5.25}]));
}
