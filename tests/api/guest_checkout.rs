//! Checkout without an account.

use serde_json::{Value, json};

use crate::{
    orders::Shop,
    promotions,
    support::{Account, Call, PASSWORD, TestApp, person::address, unique_email, unique_number},
};

/// A checkout of a guest with this e-mail address.
pub(crate) fn check_out(app: &TestApp, guest: &Account, email: &str) -> Call {
    app.check_out(guest, format!("guest-{}", unique_number())).json(&json!({"email": email}))
}

/// A guest's order of this many units.
pub(crate) async fn buy(app: &TestApp, guest: &Account, product: &str, quantity: u64) -> Value {
    app.add_to_cart(guest, product, quantity).await.ok();
    check_out(app, guest, "guest@shop.example").await.is(201).json()
}

#[tokio::test]
async fn guest_checks_out_with_an_email() {
    let Shop { app, admin, tea, .. } = Shop::start().await;
    let guest = app.guest().await;
    let cart = app.add_to_cart(&guest, &tea, 2).await.ok();
    for (body, code) in [
        (json!({}), "required"),
        (json!({"email": null}), "required"),
        (json!({"email": "nonsense"}), "invalid_email"),
        (json!({"email": "a..b@shop.example"}), "invalid_email"),
        (json!({"email": "a\u{200b}da@shop.example"}), "invalid_character"),
    ] {
        let call = app.check_out(&guest, "k").json(&body);
        let problem = call.await.problem(422, "validation_failed");
        let error = &problem["errors"][0];
        assert_eq!((&error["field"], &error["code"]), (&json!("email"), &json!(code)), "{body}");
    }
    app.check_out(&guest, "k").await.problem(422, "validation_failed");
    let mut bill_to = json!({"email": "ada@shop.example", "billing_address": address()});
    bill_to["billing_address"]["country"] = json!("Denmark");
    let problem = app.check_out(&guest, "k").json(&bill_to).await.problem(422, "validation_failed");
    assert_eq!(problem["errors"][0]["field"], "billing_address.country");
    assert_eq!(app.cart(&guest).await, cart);

    let body = json!({
        "email": " Ada@Shop.Example ", "shipping_address": address(),
        "billing_address": {"name": "Ada Ltd", "line1": "1", "city": "Nice",
            "postal_code": "06000", "country": "FR"},
    });
    let placed = app.check_out(&guest, "order").json(&body).await.is(201);
    let order = placed.json();
    assert_eq!(
        (&order["email"], &order["user_id"]),
        (&json!("ada@shop.example"), &json!(guest.id))
    );
    assert_eq!(order["billing_address"], body["billing_address"]);
    assert_eq!(order["shipping_address"], address());
    let again = app.check_out(&guest, "order").json(&body).await.is(201);
    assert_eq!((again.header("idempotency-replayed"), again.json()), (Some("true"), order.clone()));
    assert_eq!(app.stock_counts(&admin, &tea).await, [10, 2, 8]);
    assert_eq!(app.order(&guest, &order).await, order);
    assert_eq!(app.get("/api/orders").token(&guest).await.ok()["items"], json!([order]));
    assert_eq!(app.order(&admin, &order).await, order);
    let by_email = "/api/orders?all=true&email=ADA@shop.example";
    assert_eq!(app.get(by_email).token(&admin).await.ok()["items"], json!([order]));
}

#[tokio::test]
async fn guest_pays_and_cancels_as_an_owner_does() {
    let Shop { app, admin, ada, tea, .. } = Shop::start().await;
    let (guest, other) = (app.guest().await, app.guest().await);
    let [first, second] = [buy(&app, &guest, &tea, 1).await, buy(&app, &guest, &tea, 2).await];
    let payment = |account: &Account, order: &Value| {
        let path = format!("/api/orders/{}/payment", order["id"].as_str().unwrap());
        app.call("POST", &path).token(account)
    };
    assert_eq!(payment(&guest, &first).await.ok(), first["payment"]);
    for stranger in [&other, &ada] {
        payment(stranger, &first).await.problem(404, "not_found");
        app.order_action(stranger, &first, "cancel").await.problem(404, "not_found");
    }
    for action in ["pay", "fulfil", "refund"] {
        app.order_action(&guest, &first, action).await.problem(403, "forbidden");
    }
    let cancelled = app.order_action(&guest, &first, "cancel").await.ok();
    assert_eq!(cancelled["status"], "cancelled");
    payment(&guest, &first).await.problem(409, "invalid_transition");
    app.order_action(&admin, &second, "pay").await.ok();
    app.order_action(&guest, &second, "cancel").await.problem(409, "invalid_transition");
    assert_eq!(app.order(&guest, &second).await["status"], "paid");
}

#[tokio::test]
async fn customers_order_with_the_email_of_their_account_or_another_one() {
    let Shop { app, ada, tea, .. } = Shop::start().await;
    let order = app.buy(&ada, &tea, 1).await;
    assert_eq!((&order["email"], order.get("billing_address")), (&json!(ada.email), None));
    app.add_to_cart(&ada, &tea, 1).await.ok();
    let call = check_out(&app, &ada, "office@shop.example");
    assert_eq!(call.await.is(201).json()["email"], "office@shop.example");
    // It was another address then.
    let change = json!({"email": unique_email(), "current_password": PASSWORD});
    app.patch("/api/auth/me", &change).token(&ada).await.ok();
    assert_eq!(app.order(&ada, &order).await["email"], json!(ada.email));
    assert_eq!(app.buy(&ada, &tea, 1).await["email"], change["email"]);
}

#[tokio::test]
async fn code_is_not_used_twice_with_one_email() {
    let shop = promotions::Shop::open().await;
    let app = &shop.app;
    let effect = json!({"percent_off": 10});
    shop.promote(json!({"code": "ONCE", "effect": effect, "per_customer_limit": 1})).await;
    let guest_with_code = async || {
        let guest = app.guest().await;
        app.add_to_cart(&guest, &shop.tea, 1).await.ok();
        let cart = shop.give(&guest, "ONCE").await.ok();
        assert_eq!(cart["total_amount"], 9, "a guest is checked at checkout");
        guest
    };
    // First as a customer, then as a guest.
    let ada = shop.buyer(1).await;
    shop.give(&ada, "ONCE").await.ok();
    let order = shop.check_out(&ada).await.is(201).json();
    let guest = guest_with_code().await;
    let email = ada.email.to_uppercase();
    let problem = check_out(app, &guest, &email).await.problem(409, "code_exhausted");
    assert_eq!(
        (&problem["refused_code"], &problem["reason"]),
        (&json!("ONCE"), &json!("per_customer_limit"))
    );
    // The guest is told, and can go on without it.
    let cart = shop.cart(&guest).await;
    let refused = json!([{"code": "ONCE", "applied": false, "reason": "per_customer_limit"}]);
    assert_eq!((&cart["codes"], &cart["total_amount"]), (&refused, &json!(10)));
    let full = check_out(app, &guest, &email).await.is(201).json();
    assert_eq!(full["total_amount"], 10);
    // A cancelled order gives its use back.
    app.order_action(&ada, &order, "cancel").await.ok();
    let guest = guest_with_code().await;
    assert_eq!(check_out(app, &guest, &email).await.is(201).json()["total_amount"], 9);
    // First as a guest, then as a customer, and as another guest.
    app.add_to_cart(&ada, &shop.tea, 1).await.ok();
    let problem = shop.give(&ada, "ONCE").await.problem(409, "code_exhausted");
    assert_eq!(problem["reason"], "per_customer_limit");
    let guest = guest_with_code().await;
    check_out(app, &guest, &email).await.problem(409, "code_exhausted");
    // Another address is another buyer, but not for a customer who has had it.
    check_out(app, &guest, "bob@shop.example").await.is(201);
    let eve = shop.buyer(1).await;
    shop.give(&eve, "ONCE").await.ok();
    check_out(app, &eve, "eve@shop.example").await.is(201);
    app.add_to_cart(&eve, &shop.tea, 1).await.ok();
    shop.give(&eve, "ONCE").await.problem(409, "code_exhausted");
}

#[tokio::test]
async fn many_guests_with_one_email_use_a_code_once() {
    let shop = promotions::Shop::open().await;
    let effect = json!({"percent_off": 10});
    let body = json!({"code": "ONCE", "effect": effect, "per_customer_limit": 1});
    let path = shop.promote(body).await;
    let mut guests = Vec::new();
    for _ in 0..12 {
        let guest = shop.app.guest().await;
        shop.app.add_to_cart(&guest, &shop.tea, 1).await.ok();
        shop.give(&guest, "ONCE").await.ok();
        guests.push(guest);
    }
    let calls = guests.iter().map(async |guest| check_out(&shop.app, guest, "a@b.example").await);
    let responses = futures_util::future::join_all(calls).await;
    let bought = responses.iter().filter(|response| response.status == 201).count();
    assert_eq!((bought, shop.used(&path).await), (1, json!(1)));
    for response in responses.into_iter().filter(|response| response.status != 201) {
        response.problem(409, "code_exhausted");
    }
}

#[tokio::test]
async fn order_that_comes_back_counts_under_the_email_of_its_account_too() {
    let shop = promotions::Shop::with_settings(&[("orders.payment_timeout", "1s")]).await;
    let app = &shop.app;
    let effect = json!({"percent_off": 10});
    shop.promote(json!({"code": "ONCE", "effect": effect, "per_customer_limit": 1})).await;
    let ada = shop.buyer(1).await;
    shop.give(&ada, "ONCE").await.ok();
    let order = check_out(app, &ada, "other@shop.example").await.is(201).json();
    app.wait_for_order_status(&ada, &order, "expired").await;
    let guest = app.guest().await;
    app.add_to_cart(&guest, &shop.tea, 1).await.ok();
    shop.give(&guest, "ONCE").await.ok();
    let meanwhile = check_out(app, &guest, &ada.email).await.is(201).json();
    // Also if it has expired already.
    app.order_action(&shop.admin, &meanwhile, "pay").await.ok();
    app.order_action(&shop.admin, &order, "pay").await.problem(409, "code_exhausted");
    app.order_action(&shop.admin, &meanwhile, "cancel").await.ok();
    app.order_action(&shop.admin, &order, "pay").await.ok();
}
