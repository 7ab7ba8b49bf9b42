//! What carts and orders come to: shipping and taxes.

use serde_json::{Value, json};

use crate::support::{Account, TestApp};

/// A shop that ships to Germany for 4.90, and for 9.90 in a day, and free from 50.
async fn ship_to_germany(app: &TestApp, admin: &Account) -> [Value; 2] {
    let path = "/api/shipping-methods";
    let parcel = json!({"name": "Parcel", "countries": ["DE"], "price": 4.9, "free_from": 50});
    let express = json!({"name": "Express", "countries": ["DE"], "price": 9.9});
    let mut ids = [Value::Null, Value::Null];
    for (id, body) in ids.iter_mut().zip([parcel, express]) {
        *id = app.post(path, &body).token(admin).await.is(201).json()["id"].clone();
    }
    ids
}

async fn tax(app: &TestApp, admin: &Account, country: &str, rate: &str) {
    let body = json!({"name": "VAT", "country": country, "rate": rate});
    app.post("/api/tax-rates", &body).token(admin).await.is(201);
}

fn address_in(country: &str) -> Value {
    json!({"name": "Ada", "line1": "12 Mint Street", "city": "Berlin", "postal_code": "10115",
        "country": country})
}

fn amounts(of: &Value) -> Value {
    json!({"subtotal": of["subtotal"], "shipping": of["shipping"]["amount"],
        "taxes": of["taxes"], "total": of["total_amount"]})
}

#[tokio::test]
async fn shop_without_rules_adds_nothing() {
    let app = TestApp::start().await;
    let (admin, ada) = (app.admin().await, app.customer().await);
    let tea = app.new_product(&admin, &json!(4.5), 10).await;
    app.put("/api/cart/shipping", &json!({"country": "de", "region": "be"})).token(&ada).await.ok();
    let cart = app.add_to_cart(&ada, &tea, 2).await.ok();
    assert_eq!((&cart["subtotal"], &cart["total_amount"]), (&json!(9), &json!(9)));
    assert_eq!(cart["shipping_to"], json!({"country": "DE", "region": "BE"}));
    for member in ["discounts", "codes", "taxes"] {
        assert_eq!(cart[member], json!([]), "{member}");
    }
    assert!(cart.get("shipping").is_none());
    let line = &cart["items"][0];
    assert_eq!((&line["discount"], &line["tax"]), (&json!(0), &json!(0)));
    let order = app.check_out(&ada, "1").await.is(201).json();
    assert_eq!((&order["subtotal"], &order["total_amount"]), (&json!(9), &json!(9)));
    let after = app.get("/api/cart").token(&ada).await.ok();
    assert_eq!(after["shipping_to"], cart["shipping_to"], "checkout keeps the address");
    let cleared = app.delete("/api/cart").token(&ada).await.ok();
    assert_eq!(cleared["shipping_to"], cart["shipping_to"], "clearing keeps the address");
}

#[tokio::test]
async fn order_has_what_the_cart_showed() {
    let app = TestApp::start().await;
    let (admin, ada) = (app.admin().await, app.customer().await);
    let [parcel, express] = ship_to_germany(&app, &admin).await;
    tax(&app, &admin, "DE", "0.19").await;
    let tea = app.new_product(&admin, &json!(10), 100).await;
    app.add_to_cart(&ada, &tea, 2).await.ok();
    let anywhere = app.get("/api/cart").token(&ada).await.ok();
    assert_eq!((&anywhere["total_amount"], &anywhere["taxes"]), (&json!(20), &json!([])));
    let none = app.get("/api/cart/shipping-methods").token(&ada).await.ok();
    assert_eq!(none, json!({"items": []}), "there is no address yet");

    let to = json!({"country": "DE", "postal_code": " 10115 "});
    let cart = app.put("/api/cart/shipping", &to).token(&ada).await.ok();
    // 19 % of 20 and of 4.90 are 3.80 and 0.93.
    let vat = json!([{"name": "VAT", "rate": "0.19", "amount": 4.73, "included": false}]);
    let expected = json!({"subtotal": 20, "shipping": 4.9, "taxes": vat, "total": 29.63});
    assert_eq!(amounts(&cart), expected);
    assert_eq!(cart["shipping_to"]["postal_code"], "10115");
    assert_eq!(cart["items"][0]["tax"], 3.8);
    let offers = app.get("/api/cart/shipping-methods").token(&ada).await.ok();
    let [first, second] = [(&parcel, "Parcel", 4.9), (&express, "Express", 9.9)]
        .map(|(id, name, amount)| json!({"id": id, "name": name, "amount": amount}));
    assert_eq!(offers, json!({"items": [first, second]}));

    let order = app.check_out(&ada, "1").json(&json!({"expected_total": 29.63})).await.is(201);
    let order = order.json();
    for member in
        ["subtotal", "discounts", "codes", "shipping_to", "shipping", "taxes", "total_amount"]
    {
        assert_eq!(order[member], cart[member], "{member}");
    }
    assert_eq!(order["payment"]["amount"], 29.63);
    assert_eq!(app.order(&ada, &order).await, order, "the stored order is the same");
    // What the rules become changes no order.
    app.delete(&format!("/api/shipping-methods/{}", parcel.as_str().unwrap()))
        .token(&admin)
        .await
        .is(204);
    assert_eq!(app.order(&ada, &order).await, order);
}

#[tokio::test]
async fn chosen_method_is_used_while_it_serves_the_address() {
    let app = TestApp::start().await;
    let (admin, ada) = (app.admin().await, app.customer().await);
    let [parcel, express] = ship_to_germany(&app, &admin).await;
    let tea = app.new_product(&admin, &json!(10), 100).await;
    app.add_to_cart(&ada, &tea, 1).await.ok();
    let to = json!({"country": "DE", "method_id": express});
    let cart = app.put("/api/cart/shipping", &to).token(&ada).await.ok();
    assert_eq!((&cart["shipping"]["method_id"], &cart["total_amount"]), (&express, &json!(19.9)));
    let again = app.put("/api/cart/shipping", &to).token(&ada).await.ok();
    assert_eq!(again["version"], cart["version"], "nothing changed");
    for wrong in [json!({"country": "FR"}), json!({"country": "DE", "method_id": tea})] {
        app.put("/api/cart/shipping", &wrong)
            .token(&ada)
            .await
            .problem(409, "method_not_available");
    }
    assert_eq!(app.get("/api/cart").token(&ada).await.ok(), cart, "nothing changed");
    let path = format!("/api/shipping-methods/{}", express.as_str().unwrap());
    app.patch(&path, &json!({"active": false})).token(&admin).await.ok();
    let cheapest = app.get("/api/cart").token(&ada).await.ok();
    assert_eq!(cheapest["shipping"]["method_id"], parcel);
    assert_eq!(cheapest["total_amount"], 14.9);
    let many = app.add_to_cart(&ada, &tea, 4).await.ok();
    assert_eq!((&many["shipping"]["amount"], &many["total_amount"]), (&json!(0), &json!(50)));
}

#[tokio::test]
async fn checkout_needs_an_address_that_can_be_reached() {
    let app = TestApp::start().await;
    let (admin, ada) = (app.admin().await, app.customer().await);
    let tea = app.new_product(&admin, &json!(10), 100).await;
    app.add_to_cart(&ada, &tea, 1).await.ok();
    ship_to_germany(&app, &admin).await;
    let problem = app.check_out(&ada, "1").await.problem(422, "validation_failed");
    assert_eq!(problem["errors"][0]["field"], "shipping_address");
    let to = |country| json!({"shipping_address": address_in(country)});
    app.check_out(&ada, "2").json(&to("FR")).await.problem(409, "method_not_available");
    // An address of the checkout takes the place of the cart's.
    let order = app.check_out(&ada, "3").json(&to("DE")).await.is(201).json();
    assert_eq!(order["shipping"]["amount"], 4.9);
    assert_eq!(order["shipping_to"]["country"], "DE");
    assert_eq!(order["total_amount"], 14.9);
}

#[tokio::test]
async fn rule_that_changes_before_checkout_raises_no_total_unseen() {
    let app = TestApp::start().await;
    let (admin, ada) = (app.admin().await, app.customer().await);
    ship_to_germany(&app, &admin).await;
    let tea = app.new_product(&admin, &json!(10), 100).await;
    app.put("/api/cart/shipping", &json!({"country": "DE"})).token(&ada).await.ok();
    let seen = app.add_to_cart(&ada, &tea, 1).await.ok();
    tax(&app, &admin, "DE", "0.07").await;
    let body = json!({"expected_total": seen["total_amount"]});
    let problem = app.check_out(&ada, "1").json(&body).await.problem(409, "price_changed");
    // 7 % of 10 and of 4.90 are 0.70 and 0.34.
    assert_eq!((&problem["total_amount"], problem.get("lines")), (&json!(15.94), None));
    let body = json!({"expected_total": problem["total_amount"]});
    app.check_out(&ada, "2").json(&body).await.is(201);
}

#[tokio::test]
async fn included_tax_changes_no_total() {
    let app = TestApp::with_settings(&[("shop.prices_include_tax", "true")]).await;
    let (admin, ada) = (app.admin().await, app.customer().await);
    tax(&app, &admin, "DE", "0.19").await;
    let tea = app.new_product(&admin, &json!(0.33), 100).await;
    app.add_to_cart(&ada, &tea, 3).await.ok();
    let cart = app.put("/api/cart/shipping", &json!({"country": "DE"})).token(&ada).await.ok();
    let vat = json!([{"name": "VAT", "rate": "0.19", "amount": 0.16, "included": true}]);
    let expected = json!({"subtotal": 0.99, "shipping": null, "taxes": vat, "total": 0.99});
    assert_eq!(amounts(&cart), expected);
}

#[tokio::test]
async fn guest_takes_the_address_along() {
    let app = TestApp::start().await;
    let (guest, ada) = (app.guest().await, app.customer().await);
    let bob = app.customer().await;
    app.put("/api/cart/shipping", &json!({"country": "FR"})).token(&guest).await.ok();
    app.put("/api/cart/shipping", &json!({"country": "DE"})).token(&bob).await.ok();
    let body = json!({"guest_token": guest.token});
    let merged = app.post("/api/cart/merge", &body).token(&ada).await.ok();
    assert_eq!(merged["shipping_to"], json!({"country": "FR"}));
    let other = app.guest().await;
    app.put("/api/cart/shipping", &json!({"country": "FR"})).token(&other).await.ok();
    let body = json!({"guest_token": other.token});
    let merged = app.post("/api/cart/merge", &body).token(&bob).await.ok();
    assert_eq!(merged["shipping_to"], json!({"country": "DE"}), "bob has an address");
}

#[tokio::test]
async fn address_of_a_cart_is_checked() {
    let app = TestApp::start().await;
    let ada = app.customer().await;
    for (field, body) in [
        ("country", json!({"country": "XX"})),
        ("country", json!({"country": ""})),
        ("region", json!({"country": "US", "region": "New York"})),
        ("postal_code", json!({"country": "US", "postal_code": " "})),
        ("method_id", json!({"country": "US", "method_id": "parcel"})),
        ("city", json!({"country": "US", "city": "Berlin"})),
    ] {
        let problem = app.put("/api/cart/shipping", &body).token(&ada).await;
        let problem = problem.problem(422, "validation_failed");
        assert_eq!(problem["errors"][0]["field"], field);
    }
}

#[tokio::test]
async fn checkout_does_not_lose_a_tax_to_a_region_in_words() {
    let app = TestApp::start().await;
    let (admin, ada) = (app.admin().await, app.customer().await);
    let tea = app.new_product(&admin, &json!(100), 10).await;
    let new_york = json!({"name": "NY", "country": "US", "region": "NY", "rate": "0.08"});
    app.post("/api/tax-rates", &new_york).token(&admin).await.is(201);
    app.add_to_cart(&ada, &tea, 1).await.ok();
    let check_out = |country: &str, region: &str| {
        let mut address = address_in(country);
        address["region"] = json!(region);
        let body = json!({"shipping_address": address});
        app.post("/api/checkout", &body).token(&ada).key(format!("{country}-{}", region.len()))
    };
    let refused = check_out("US", "New York").await.problem(422, "validation_failed");
    assert_eq!(refused["errors"][0]["field"], "shipping_address.region");
    let order = check_out("US", " ny ").await.is(201).json();
    assert_eq!(order["total_amount"], 108);
    app.add_to_cart(&ada, &tea, 1).await.ok();
    let abroad = check_out("FR", "Bretagne").await.is(201).json();
    assert_eq!(abroad["total_amount"], 100, "no tax of France depends on the region");
}
