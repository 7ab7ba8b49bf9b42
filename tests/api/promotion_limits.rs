//! How often promotions can be used, by all buyers and by one.

use serde_json::json;

use crate::promotions::Shop;

#[tokio::test]
async fn code_that_is_used_up_since_is_refused_at_checkout() {
    let shop = Shop::open().await;
    let effect = json!({"percent_off": 10});
    let path = shop.promote(json!({"code": "ONE", "effect": effect, "usage_limit": 1})).await;
    let (ada, bob) = (shop.buyer(1).await, shop.buyer(1).await);
    for buyer in [&ada, &bob] {
        shop.give(buyer, "ONE").await.ok();
    }
    let shown = shop.cart(&bob).await;
    let order = shop.check_out(&ada).await.is(201).json();
    let body = json!({"expected_total": 100});
    let problem = shop.check_out(&bob).json(&body).await.problem(409, "code_exhausted");
    assert_eq!(
        (&problem["refused_code"], &problem["reason"]),
        (&json!("ONE"), &json!("usage_limit"))
    );
    let cart = shop.cart(&bob).await;
    let refused = json!([{"code": "ONE", "applied": false, "reason": "usage_limit"}]);
    assert_eq!((&cart["codes"], &cart["version"]), (&refused, &shown["version"]));
    let late = shop.buyer(1).await;
    shop.give(&late, "ONE").await.problem(409, "code_exhausted");
    // Bob has been shown that it does not apply any more.
    let full = shop.check_out(&bob).json(&json!({"expected_total": 10})).await.is(201).json();
    assert_eq!((&full["discounts"], shop.used(&path).await), (&json!([]), json!(1)));
    // A cancelled order gives its use back.
    shop.app.order_action(&ada, &order, "cancel").await.ok();
    assert_eq!(shop.used(&path).await, 0);
    shop.give(&late, "ONE").await.ok();
    let order = shop.check_out(&late).await.is(201).json();
    assert_eq!(order["total_amount"], 9);
}

#[tokio::test]
async fn checkout_is_refused_once_with_a_code_that_is_used_up() {
    let shop = Shop::open().await;
    let effect = json!({"percent_off": 10});
    shop.promote(json!({"code": "ONE", "effect": effect, "usage_limit": 1})).await;
    let (ada, bob) = (shop.buyer(1).await, shop.buyer(1).await);
    for buyer in [&ada, &bob] {
        shop.give(buyer, "ONE").await.ok();
    }
    shop.check_out(&ada).await.is(201);
    shop.check_out(&bob).await.problem(409, "code_exhausted");
    // The refusal has told Bob, who need not look at the cart.
    let order = shop.check_out(&bob).await.is(201).json();
    assert_eq!((&order["discounts"], &order["total_amount"]), (&json!([]), &json!(10)));
}

#[tokio::test]
async fn promotion_that_is_used_up_changes_no_total_unseen() {
    let shop = Shop::open().await;
    shop.promote(json!({"effect": {"percent_off": 10}, "usage_limit": 1})).await;
    let (ada, bob) = (shop.buyer(1).await, shop.buyer(1).await);
    assert_eq!(shop.cart(&bob).await["total_amount"], 9);
    let body = json!({"expected_total": 9});
    shop.check_out(&ada).json(&body).await.is(201);
    let problem = shop.check_out(&bob).json(&body).await.problem(409, "price_changed");
    assert_eq!(problem["total_amount"], 10);
    assert_eq!(shop.cart(&bob).await["total_amount"], 10);
}

#[tokio::test]
async fn buyer_has_a_promotion_so_often() {
    let shop = Shop::open().await;
    let effect = json!({"percent_off": 10});
    shop.promote(json!({"code": "ONCE", "effect": effect, "per_customer_limit": 1})).await;
    let ada = shop.buyer(1).await;
    shop.give(&ada, "ONCE").await.ok();
    let first = shop.check_out(&ada).await.is(201).json();
    shop.app.add_to_cart(&ada, &shop.tea, 1).await.ok();
    let problem = shop.give(&ada, "ONCE").await.problem(409, "code_exhausted");
    assert_eq!(problem["reason"], "per_customer_limit");
    // A guest is told at checkout, after a merge.
    let guest = shop.app.guest().await;
    shop.app.add_to_cart(&guest, &shop.tea, 1).await.ok();
    shop.give(&guest, "once").await.ok();
    let token = json!({"guest_token": guest.token});
    let merged = shop.app.post("/api/cart/merge", &token).token(&ada).await.ok();
    let refused = json!([{"code": "ONCE", "applied": false, "reason": "per_customer_limit"}]);
    assert_eq!(merged["codes"], refused);
    shop.app.order_action(&ada, &first, "cancel").await.ok();
    let cart = shop.cart(&ada).await;
    assert_eq!(cart["codes"], json!([{"code": "ONCE", "applied": true}]));
    assert_eq!(shop.check_out(&ada).await.is(201).json()["total_amount"], 18);
}

#[tokio::test]
async fn automatic_promotion_knows_its_buyers() {
    let shop = Shop::open().await;
    shop.promote(json!({"effect": {"percent_off": 50}, "per_customer_limit": 1})).await;
    let ada = shop.buyer(1).await;
    assert_eq!(shop.cart(&ada).await["total_amount"], 5);
    let order = shop.check_out(&ada).await.is(201).json();
    assert_eq!(order["total_amount"], 5);
    let cart = shop.app.add_to_cart(&ada, &shop.tea, 1).await.ok();
    assert_eq!(cart["total_amount"], 10, "the buyer has had it");
    assert_eq!(shop.check_out(&ada).await.is(201).json()["total_amount"], 10);
}

#[tokio::test]
async fn expired_order_gives_its_use_back_and_takes_it_again() {
    let shop = Shop::with_settings(&[("orders.payment_timeout", "1s")]).await;
    let effect = json!({"percent_off": 10});
    let path = shop.promote(json!({"code": "ONE", "effect": effect, "usage_limit": 1})).await;
    let ada = shop.buyer(1).await;
    shop.give(&ada, "ONE").await.ok();
    let order = shop.check_out(&ada).await.is(201).json();
    shop.app.wait_for_order_status(&ada, &order, "expired").await;
    assert_eq!(shop.used(&path).await, 0);
    let paid = shop.app.order_action(&shop.admin, &order, "pay").await.ok();
    assert_eq!((&paid["status"], shop.used(&path).await), (&json!("paid"), json!(1)));
    // Another expired order finds no use left.
    shop.app.patch(&path, &json!({"usage_limit": 2})).token(&shop.admin).await.ok();
    let bob = shop.buyer(1).await;
    shop.give(&bob, "ONE").await.ok();
    let late = shop.check_out(&bob).await.is(201).json();
    shop.app.wait_for_order_status(&bob, &late, "expired").await;
    shop.app.patch(&path, &json!({"usage_limit": 1})).token(&shop.admin).await.ok();
    shop.app.order_action(&shop.admin, &late, "pay").await.problem(409, "code_exhausted");
    assert_eq!(shop.used(&path).await, 1);
    // A refund of a cancelled order gives nothing back once more.
    shop.app.order_action(&shop.admin, &paid, "cancel").await.ok();
    assert_eq!(shop.used(&path).await, 0);
}

#[tokio::test]
async fn as_many_buyers_as_there_are_uses_get_the_discount() {
    let shop = Shop::open().await;
    let effect = json!({"percent_off": 10});
    let path = shop.promote(json!({"code": "HOT", "effect": effect, "usage_limit": 7})).await;
    let buyers = shop.app.customers(20).await;
    for buyer in &buyers {
        shop.app.add_to_cart(buyer, &shop.tea, 1).await.ok();
        shop.give(buyer, "HOT").await.ok();
    }
    let checkouts = buyers.iter().map(|buyer| async { shop.check_out(buyer).await });
    let responses = futures_util::future::join_all(checkouts).await;
    let bought = responses.iter().filter(|response| response.status == 201).count();
    let refused = responses.into_iter().filter(|response| response.status != 201);
    for response in refused {
        response.problem(409, "code_exhausted");
    }
    assert_eq!((bought, shop.used(&path).await), (7, json!(7)));
}
