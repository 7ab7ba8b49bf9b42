//! Refunds, and orders that are paid late.

use serde_json::{Value, json};

use crate::orders::Shop;

#[tokio::test]
async fn refund_goes_back_in_parts_and_restocks_what_was_shipped() {
    let Shop { app, admin, ada, tea, .. } = Shop::start().await;
    let order = app.buy(&ada, &tea, 4).await;
    assert_eq!(
        order["payment"],
        json!({"method": "manual", "status": "awaiting", "amount": 18, "refunded": 0,
            "refunds": []})
    );
    let refund = |body: Value| app.order_action(&admin, &order, "refund").json(&body);
    refund(json!({})).await.problem(409, "invalid_transition");
    app.order_action(&admin, &order, "pay").await.ok();
    let restock = |quantity: u64| json!([{"product_id": tea, "quantity": quantity}]);
    let early = refund(json!({"restock": restock(1)})).await.problem(409, "quantity_exceeds_order");
    assert_eq!(early["lines"], json!([{"product_id": tea, "requested": 1, "left": 0}]));
    app.order_action(&admin, &order, "fulfil").await.ok();
    let body = json!({"amount": 4.5, "reason": "broken", "restock": restock(3)});
    let first = refund(body.clone()).key("first").await.is(202);
    assert!(refund(body).key("first").await.is(202).is_replayed());
    let first = first.json();
    assert_eq!((&first["status"], &first["version"]), (&json!("fulfilled"), &json!(4)));
    let payment = &first["payment"];
    assert_eq!(
        (&payment["status"], &payment["refunded"]),
        (&json!("partially_refunded"), &json!(4.5))
    );
    let booked = &payment["refunds"][0];
    assert_eq!(
        (&booked["amount"], &booked["status"], &booked["reason"]),
        (&json!(4.5), &json!("succeeded"), &json!("broken"))
    );
    assert_eq!(app.stock_counts(&admin, &tea).await, [9, 0, 9]);
    let path = format!("/api/products/{tea}/stock/movements?limit=1");
    let newest = app.get(&path).token(&admin).await.ok()["items"][0].clone();
    assert_eq!(
        ["kind", "on_hand_delta", "reserved_delta", "order_id", "reason"].map(|name| &newest[name]),
        [&json!("returned"), &json!(3), &json!(0), &order["id"], &json!("broken")]
    );
    refund(json!({"amount": 13.51})).await.problem(409, "refund_exceeds_payment");
    refund(json!({"restock": restock(2)})).await.problem(409, "quantity_exceeds_order");
    for wrong in [
        json!({"amount": 0}),
        json!({"amount": -1}),
        json!({"amount": 1.001}),
        json!({"restock": []}),
        json!({"restock": restock(0)}),
        json!({"reason": "x".repeat(201)}),
        json!({"amonut": 1}),
    ] {
        refund(wrong).await.problem(422, "validation_failed");
    }
    let rest = refund(json!({})).await.is(202).json();
    assert_eq!(
        (&rest["payment"]["status"], &rest["payment"]["refunded"], &rest["status"]),
        (&json!("refunded"), &json!(18), &json!("fulfilled"))
    );
    refund(json!({})).await.problem(409, "refund_exceeds_payment");
    app.order_action(&ada, &order, "refund").await.problem(403, "forbidden");
    assert_eq!(app.order(&ada, &order).await, rest);
    let audit = app.call("POST", "/api/admin/audit").token(&admin).await.ok();
    assert_eq!(audit["clean"], true, "{audit}");
}

#[tokio::test]
async fn refund_is_an_event_of_its_own() {
    let Shop { app, admin, ada, tea, .. } = Shop::start().await;
    let mut feed = app.open_feed(Some(&ada), None).await;
    let order = app.buy(&ada, &tea, 2).await;
    let paid = app.order_action(&admin, &order, "pay").await.ok();
    let refunded = app.order_action(&admin, &order, "refund").json(&json!({"amount": 1}));
    let refunded = refunded.await.is(202).json();
    let events = feed.read_until(|event| event.kind == "order.refunded").await;
    let of_orders = events.iter().filter(|event| event.family() == "order");
    let seen: Vec<_> =
        of_orders.map(|event| (&*event.kind, event.sequence(), &event.body["data"])).collect();
    let expected =
        [("order.placed", 1, order), ("order.paid", 2, paid), ("order.refunded", 3, refunded)];
    let expected = expected.map(|(kind, sequence, mut order)| {
        order.as_object_mut().unwrap().remove("email");
        (kind, sequence, order)
    });
    assert_eq!(seen, expected.each_ref().map(|(kind, sequence, order)| (*kind, *sequence, order)));
}

#[tokio::test]
async fn cancelling_a_paid_order_refunds_what_is_not_shipped() {
    let Shop { app, admin, ada, tea, .. } = Shop::start().await;
    let whole = app.buy(&ada, &tea, 2).await;
    app.order_action(&admin, &whole, "pay").await.ok();
    app.order_action(&admin, &whole, "refund").json(&json!({"amount": 1})).await.is(202);
    let cancelled = app.order_action(&admin, &whole, "cancel").await.ok();
    let amounts = |order: &Value| -> Vec<Value> {
        let refunds = order["payment"]["refunds"].as_array().unwrap();
        refunds.iter().map(|refund| refund["amount"].clone()).collect()
    };
    assert_eq!(
        (&cancelled["payment"]["status"], amounts(&cancelled)),
        (&json!("refunded"), vec![json!(1), json!(8)])
    );
    let part = app.buy(&ada, &tea, 5).await;
    app.order_action(&admin, &part, "pay").await.ok();
    let items = json!({"items": [{"product_id": tea, "quantity": 2}]});
    app.order_action(&admin, &part, "fulfil").json(&items).await.ok();
    let cancelled = app.order_action(&admin, &part, "cancel").await.ok();
    assert_eq!(
        (&cancelled["payment"]["status"], amounts(&cancelled)),
        (&json!("partially_refunded"), vec![json!(13.5)])
    );
    let unpaid = app.buy(&ada, &tea, 1).await;
    let cancelled = app.order_action(&ada, &unpaid, "cancel").await.ok();
    assert_eq!(
        (&cancelled["payment"]["status"], amounts(&cancelled)),
        (&json!("cancelled"), vec![])
    );
}

#[tokio::test]
async fn order_that_was_refunded_in_full_is_not_shipped() {
    let Shop { app, admin, ada, tea, .. } = Shop::start().await;
    let order = app.buy(&ada, &tea, 2).await;
    app.order_action(&admin, &order, "pay").await.ok();
    app.order_action(&admin, &order, "refund").await.is(202);
    app.order_action(&admin, &order, "fulfil").await.problem(409, "invalid_transition");
    app.order_action(&admin, &order, "cancel").await.ok();
    assert_eq!(app.stock_counts(&admin, &tea).await, [10, 0, 10]);
}

#[tokio::test]
async fn expired_order_is_paid_late_if_its_units_can_be_had() {
    let settings = [("orders.payment_timeout", "1s")];
    let Shop { app, admin, ada, tea, .. } = Shop::with_settings(&settings).await;
    let order = app.buy(&ada, &tea, 6).await;
    let expired = app.wait_for_order_status(&ada, &order, "expired").await;
    assert_eq!(expired["payment"]["status"], "cancelled");
    let begin = || app.order_action(&ada, &order, "payment");
    begin().await.problem(409, "invalid_transition");
    let rival = app.buy(&admin, &tea, 5).await;
    let short = app.order_action(&admin, &order, "pay").await.problem(409, "insufficient_stock");
    assert_eq!(short["lines"], json!([{"product_id": tea, "requested": 6, "available": 5}]));
    app.wait_for_order_status(&admin, &rival, "expired").await;
    let paid = app.order_action(&admin, &order, "pay").json(&json!({"reference": "late"}));
    let paid = paid.await.ok();
    assert_eq!(
        (&paid["status"], &paid["payment"]["status"], &paid["payment"]["reference"]),
        (&json!("paid"), &json!("paid"), &json!("late"))
    );
    assert_eq!(app.stock_counts(&admin, &tea).await, [10, 6, 4]);
    assert_eq!(begin().await.ok(), paid["payment"]);
    app.order_action(&admin, &order, "payment").await.problem(404, "not_found");
    app.order_action(&admin, &order, "fulfil").await.ok();
    let audit = app.call("POST", "/api/admin/audit").token(&admin).await.ok();
    assert_eq!(audit["clean"], true, "{audit}");
}

#[tokio::test]
async fn expired_order_is_not_paid_beyond_a_purchase_limit() {
    let settings = [("orders.payment_timeout", "1s")];
    let Shop { app, admin, ada, tea, .. } = Shop::with_settings(&settings).await;
    let limit = json!({"purchase_limit": 3});
    app.patch(&format!("/api/products/{tea}"), &limit).token(&admin).await.ok();
    let late = app.buy(&ada, &tea, 2).await;
    app.wait_for_order_status(&ada, &late, "expired").await;
    let paid = app.buy(&ada, &tea, 2).await;
    app.order_action(&admin, &paid, "pay").await.ok();
    let pay = || app.order_action(&admin, &late, "pay");
    let refused = pay().await.problem(409, "purchase_limit_reached");
    assert_eq!(refused["lines"], json!([{"product_id": tea, "requested": 2, "left": 1}]));
    app.order_action(&admin, &paid, "cancel").await.ok();
    assert_eq!(pay().await.ok()["status"], "paid");
}
