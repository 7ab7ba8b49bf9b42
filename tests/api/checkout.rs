//! Checkout: the order it makes, and every reason to refuse it.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    orders::Shop,
    support::{Account, TestApp},
};

#[tokio::test]
async fn checkout_turns_the_whole_cart_into_an_order() {
    let Shop { app, admin, ada, tea, cup } = Shop::start().await;
    app.add_to_cart(&ada, &tea, 2).await.ok();
    app.add_to_cart(&ada, &cup, 3).await.ok();
    let address = crate::support::person::address();
    let body = json!({
        "expected_total": 30, "shipping_address": address, "payment_method": "manual",
    });
    let response = app.check_out(&ada, "first").json(&body).await.is(201);
    let mut order = response.json();
    assert_eq!(
        response.header("location"),
        Some(&*format!("/api/orders/{}", order["id"].as_str().unwrap()))
    );
    assert_eq!(response.etag(), "\"1\"");
    let shown = app.get(response.header("location").unwrap()).token(&ada).await.is(200);
    assert_eq!((shown.text(), shown.etag()), (response.text(), response.etag()));
    let members = order.as_object_mut().unwrap();
    let id = Uuid::try_parse(members.remove("id").unwrap().as_str().unwrap()).unwrap();
    assert_eq!(id.get_version_num(), 7);
    let number = members.remove("number").unwrap();
    assert_eq!(number.as_str().unwrap().len(), "7KQ2-M9XF-4T0D".len(), "{number}");
    let time = |name: &str, members: &mut serde_json::Map<String, Value>| {
        members.remove(name).unwrap().as_str().unwrap().parse::<jiff::Timestamp>().unwrap()
    };
    let (placed, expires) = (time("placed_at", members), time("expires_at", members));
    assert_eq!(
        (expires.as_millisecond() - placed.as_millisecond(), time("updated_at", members)),
        (900_000, placed)
    );
    let wanted = json!({
        "user_id": ada.id, "email": ada.email, "status": "pending_payment", "version": 1,
        "currency": "USD",
        "total_amount": 30, "subtotal": 30, "discounts": [], "codes": [], "taxes": [],
        "items": [
            {
                "product_id": tea, "sku": "TEA-1", "name": "Mint tea", "quantity": 2,
                "unit_price": 4.5, "total": 9, "discount": 0, "tax": 0, "fulfilled": 0,
            },
            {
                "product_id": cup, "sku": null, "name": "Mint tea", "quantity": 3, "unit_price": 7,
                "total": 21, "discount": 0, "tax": 0, "fulfilled": 0,
            },
        ],
        "payment": {
            "method": "manual", "status": "awaiting", "amount": 30, "refunded": 0, "refunds": [],
        },
        "shipments": [],
        "shipping_address": address,
    });
    assert_eq!(order, wanted);
    let cart = app.cart(&ada).await;
    assert_eq!(
        (&cart["version"], &cart["items"], &cart["total_amount"]),
        (&json!(3), &json!([]), &json!(0))
    );
    assert_eq!(app.stock_counts(&admin, &tea).await, [10, 2, 8]);
    assert_units_are_reserved(&app, &admin, &cup, id).await;
}

/// Three units of the product are reserved for the order.
async fn assert_units_are_reserved(app: &TestApp, admin: &Account, cup: &str, order: Uuid) {
    assert_eq!(app.get(&format!("/api/products/{cup}")).await.ok()["stock"], 7);
    let movements = app.all_pages(admin, &format!("/api/products/{cup}/stock/movements"), 20).await;
    assert_eq!(
        (&movements[0]["kind"], &movements[0]["reserved_delta"]),
        (&json!("reserved"), &json!(3))
    );
    assert_eq!(movements[0]["order_id"], order.to_string());
}

#[tokio::test]
async fn refused_checkouts_change_nothing() {
    let Shop { app, admin, ada, tea, cup } = Shop::start().await;
    app.check_out(&ada, "k").await.problem(409, "cart_empty");
    app.add_to_cart(&ada, &tea, 6).await.ok();
    app.add_to_cart(&ada, &cup, 2).await.ok();
    let before = app.cart(&ada).await;
    let post = || app.call("POST", "/api/checkout");
    post().await.problem(401, "unauthenticated");
    post().token(&app.guest().await).key("k").await.problem(422, "validation_failed");
    post().token(&ada).await.problem(400, "idempotency_key_required");
    post().token(&ada).json(&json!({})).await.problem(400, "idempotency_key_required");
    post().token(&ada).key("two words").await.problem(400, "idempotency_key_invalid");
    let problem = app
        .check_out(&ada, "k")
        .json(&json!({"expected_total": 40.99}))
        .await
        .problem(409, "price_changed");
    assert_eq!(problem["total_amount"], 41);
    for stale in ["\"1\"", "\"other\"", ""] {
        app.check_out(&ada, "k").header("if-match", stale).await.problem(412, "version_mismatch");
    }

    let other = app.buy(&app.customer().await, &tea, 5).await;
    let problem = app.check_out(&ada, "k").await.problem(409, "insufficient_stock");
    assert_eq!(problem["lines"], json!([{"product_id": tea, "requested": 6, "available": 5}]));
    app.delete(&format!("/api/products/{cup}")).token(&admin).await.is(204);
    let problem = app.check_out(&ada, "k").await.problem(409, "insufficient_stock");
    let gone = json!({"product_id": cup, "requested": 2, "available": 0});
    assert_eq!(
        problem["lines"],
        json!([{"product_id": tea, "requested": 6, "available": 5}, gone])
    );
    app.order_action(&admin, &other, "cancel").await.ok();
    assert_eq!(
        app.check_out(&ada, "k").await.problem(409, "insufficient_stock")["lines"],
        json!([gone])
    );

    let cart = app.cart(&ada).await;
    assert_eq!(cart["version"], before["version"]);
    assert_eq!(app.get("/api/orders").token(&ada).await.ok()["items"], json!([]));
    assert_eq!(app.stock_counts(&admin, &tea).await, [10, 0, 10]);
    app.delete(&format!("/api/cart/remove/{cup}")).token(&ada).await.ok();
    let tag = app.get("/api/cart").token(&ada).await.etag();
    assert_eq!(
        app.check_out(&ada, "k").header("if-match", tag).await.is(201).json()["total_amount"],
        27,
        "no refusal is remembered"
    );
}

fn error_fields(problem: &Value) -> Vec<String> {
    let errors = problem["errors"].as_array().unwrap();
    errors.iter().map(|error| error["field"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn invalid_bodies_name_the_field() {
    let Shop { app, admin, ada, tea, .. } = Shop::start().await;
    app.add_to_cart(&ada, &tea, 1).await.ok();
    let with = |member: &str, value: Value| {
        let mut address = crate::support::person::address();
        address[member] = value;
        json!({"shipping_address": address})
    };
    for (body, field) in [
        (json!({"payment_method": "gold"}), "payment_method"),
        (json!({"payment_method": 5}), "payment_method"),
        (json!({"expected_total": -1}), "expected_total"),
        (json!({"expected_total": 1.999}), "expected_total"),
        (json!({"expected_total": "12"}), "expected_total"),
        (with("$set", json!("x")), "shipping_address.$set"),
        (with("id", json!(ada.id)), "shipping_address.id"),
        (with("line1", json!("x".repeat(201))), "shipping_address.line1"),
        (with("line1", json!(5)), "shipping_address.line1"),
        (with("country", json!("Denmark")), "shipping_address.country"),
        (json!({"shipping_address": "here"}), "shipping_address"),
        (json!({"user_id": ada.id}), "user_id"),
    ] {
        let problem = app.check_out(&ada, "k").json(&body).await.problem(422, "validation_failed");
        assert_eq!(error_fields(&problem), [field], "{body}");
    }
    app.check_out(&ada, "k")
        .header("content-type", "application/json")
        .body("{")
        .await
        .problem(400, "malformed_json");
    app.check_out(&ada, "k")
        .header("content-type", "text/plain")
        .body("{}")
        .await
        .problem(415, "unsupported_media_type");
    let order = app
        .check_out(&ada, "k")
        .json(&json!({"expected_total": null, "shipping_address": null}))
        .await
        .is(201)
        .json();
    for action in ["pay", "fulfil"] {
        let problem = app
            .order_action(&admin, &order, action)
            .json(&json!({"reference": "x".repeat(201)}))
            .await;
        assert_eq!(error_fields(&problem.problem(422, "validation_failed")), ["reference"]);
    }
    for action in ["pay", "fulfil", "cancel"] {
        let problem = app
            .order_action(&admin, &order, action)
            .json(&json!({"note": 1}))
            .await
            .problem(422, "validation_failed");
        assert_eq!(error_fields(&problem), ["note"]);
    }
    assert_eq!(app.order(&ada, &order).await, order);
    app.order_action(&admin, &order, "pay").json(&json!({"reference": null})).await.ok();
    app.order_action(&admin, &order, "cancel").json(&json!({})).await.ok();
}

#[tokio::test]
async fn pending_orders_per_user_are_limited() {
    let Shop { app, admin, ada, tea, .. } =
        Shop::with_settings(&[("orders.max_pending", "2")]).await;
    let (first, second) = (app.buy(&ada, &tea, 1).await, app.buy(&ada, &tea, 1).await);
    app.add_to_cart(&ada, &tea, 1).await.ok();
    for key in ["third", "fourth"] {
        app.check_out(&ada, key).await.problem(429, "too_many_pending_orders");
    }
    assert_eq!(app.cart(&ada).await["item_count"], 1);
    assert_eq!(app.stock_counts(&admin, &tea).await, [10, 2, 8]);
    app.buy(&app.customer().await, &tea, 1).await;
    app.order_action(&admin, &first, "pay").await.ok();
    app.check_out(&ada, "third").await.is(201);
    app.add_to_cart(&ada, &tea, 1).await.ok();
    app.check_out(&ada, "fourth").await.problem(429, "too_many_pending_orders");
    app.order_action(&ada, &second, "cancel").await.ok();
    app.check_out(&ada, "fourth").await.is(201);
}
