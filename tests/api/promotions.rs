//! Promotions and their codes, in carts and in orders.

use std::time::Duration;

use serde_json::{Value, json};
use souk::domain::clock::{Clock, SystemClock};

use crate::support::{Account, Call, TestApp, unique_number};

const SECOND: Duration = Duration::from_secs(1);

pub(crate) struct Shop {
    pub(crate) app: TestApp,
    pub(crate) admin: Account,
    /// A product that costs 10.
    pub(crate) tea: String,
}

impl Shop {
    pub(crate) async fn open() -> Self {
        Self::with_settings(&[]).await
    }

    pub(crate) async fn with_settings(settings: &[(&str, &str)]) -> Self {
        let app = TestApp::with_settings(settings).await;
        let admin = app.admin().await;
        let tea = app.new_product(&admin, &json!(10), 1000).await;
        Self { app, admin, tea }
    }

    /// A promotion with these members besides its name. Returns its path.
    pub(crate) async fn promote(&self, members: Value) -> String {
        let mut body = members;
        body["name"] = json!("Promotion");
        let call = self.app.post("/api/promotions", &body).token(&self.admin);
        format!("/api/promotions/{}", call.await.is(201).json()["id"].as_str().unwrap())
    }

    pub(crate) async fn promotion(&self, path: &str) -> Value {
        self.app.get(path).token(&self.admin).await.ok()
    }

    pub(crate) async fn used(&self, path: &str) -> Value {
        self.promotion(path).await["used"].clone()
    }

    /// A customer with `quantity` of the product in the cart.
    pub(crate) async fn buyer(&self, quantity: u64) -> Account {
        let buyer = self.app.customer().await;
        self.app.add_to_cart(&buyer, &self.tea, quantity).await.ok();
        buyer
    }

    pub(crate) async fn cart(&self, buyer: &Account) -> Value {
        self.app.get("/api/cart").token(buyer).await.ok()
    }

    pub(crate) fn give(&self, buyer: &Account, code: &str) -> Call {
        self.app.post("/api/cart/codes", &json!({"code": code})).token(buyer)
    }

    pub(crate) fn check_out(&self, buyer: &Account) -> Call {
        self.app.check_out(buyer, format!("order-{}", unique_number()))
    }
}

#[tokio::test]
async fn code_takes_something_off_the_cart_and_the_order() {
    let shop = Shop::open().await;
    let path = shop.promote(json!({"code": "TEN", "effect": {"percent_off": 10}})).await;
    let ada = shop.buyer(3).await;
    let cart = shop.give(&ada, " ten ").await.ok();
    let id = shop.promotion(&path).await["id"].clone();
    let discount = json!([{"promotion_id": id, "name": "Promotion", "code": "TEN", "amount": 3}]);
    assert_eq!(cart["discounts"], discount);
    assert_eq!(cart["codes"], json!([{"code": "TEN", "applied": true}]));
    assert_eq!((&cart["subtotal"], &cart["total_amount"]), (&json!(30), &json!(27)));
    assert_eq!(cart["items"][0]["discount"], 3);
    let again = shop.give(&ada, "Ten").await.ok();
    assert_eq!(again, cart, "nothing changed");
    assert_eq!(shop.used(&path).await, 0);

    let order = shop.check_out(&ada).json(&json!({"expected_total": 27})).await.is(201).json();
    for member in ["discounts", "codes", "subtotal", "total_amount"] {
        assert_eq!(order[member], cart[member], "{member}");
    }
    assert_eq!(shop.app.order(&ada, &order).await, order);
    assert_eq!(shop.used(&path).await, 1);
    assert_eq!(shop.cart(&ada).await["codes"], json!([]), "checkout clears the codes");
    let read = shop.app.get(&path).token(&shop.admin).header("if-none-match", "\"1\"").await;
    assert_eq!((read.status, read.etag()), (200, "\"1.1\"".to_owned()));
    let renamed = shop.app.patch(&path, &json!({"name": "New"})).token(&shop.admin);
    assert_eq!(renamed.header("if-match", "\"1\"").await.ok()["used"], 1);
}

#[tokio::test]
async fn promotion_without_a_code_applies_by_itself() {
    let shop = Shop::open().await;
    let ada = shop.buyer(2).await;
    let before = shop.cart(&ada).await;
    let path = shop.promote(json!({"effect": {"amount_off": 5}, "min_subtotal": 20})).await;
    let cart = shop.cart(&ada).await;
    assert_eq!((&before["total_amount"], &cart["total_amount"]), (&json!(20), &json!(15)));
    assert!(cart["discounts"][0].get("code").is_none());
    let order = shop.check_out(&ada).await.is(201).json();
    assert_eq!((&order["total_amount"], shop.used(&path).await), (&json!(15), json!(1)));
    // One that gives nothing is not used.
    shop.app.add_to_cart(&ada, &shop.tea, 1).await.ok();
    let order = shop.check_out(&ada).await.is(201).json();
    assert_eq!((&order["discounts"], shop.used(&path).await), (&json!([]), json!(1)));
}

#[tokio::test]
async fn promotions_are_on_what_they_name() {
    let shop = Shop::open().await;
    let body = json!({"name": "Leaf", "description": "", "price": 5, "stock": 9,
        "category": "leaves", "tags": ["green"]});
    let leaf = shop.app.create_product(&shop.admin, &body).await["id"].clone();
    let ada = shop.buyer(1).await;
    shop.app.add_to_cart(&ada, leaf.as_str().unwrap(), 1).await.ok();
    for on in [
        json!({"product_ids": [leaf]}),
        json!({"categories": ["leaves"]}),
        json!({"tags": ["green", "black"]}),
    ] {
        let path = shop.promote(json!({"effect": {"percent_off": 100}, "applies_to": on})).await;
        let cart = shop.cart(&ada).await;
        assert_eq!(cart["total_amount"], 10, "{on}");
        let discounts = [&cart["items"][0]["discount"], &cart["items"][1]["discount"]];
        assert_eq!(discounts, [&json!(0), &json!(5)], "{on}");
        shop.app.delete(&path).token(&shop.admin).await.is(204);
        assert_eq!(shop.cart(&ada).await["total_amount"], 15);
    }
}

#[tokio::test]
async fn codes_that_give_nothing_are_refused() {
    let shop = Shop::open().await;
    let ada = shop.buyer(1).await;
    let code = |code: &str, members: Value| {
        let mut body = members;
        (body["code"], body["effect"]) = (json!(code), json!({"percent_off": 10}));
        body
    };
    let (past, future) = ("2020-01-01T00:00:00Z", "2999-01-01T00:00:00Z");
    for (name, members, error, reason) in [
        ("SOON", json!({"starts_at": future}), "code_not_started", "not_started"),
        ("OVER", json!({"ends_at": past}), "code_expired", "expired"),
        ("RICH", json!({"min_subtotal": 10.01}), "code_not_applicable", "min_subtotal"),
        (
            "ELSE",
            json!({"applies_to": {"tags": ["none"]}}),
            "code_not_applicable",
            "no_eligible_items",
        ),
    ] {
        shop.promote(code(name, members)).await;
        let problem = shop.give(&ada, name).await.problem(409, error);
        assert_eq!(problem["reason"], reason, "{name}");
    }
    let off = shop.promote(code("OFF", json!({"active": false}))).await;
    for unknown in ["OFF", "NONE", ""] {
        shop.give(&ada, unknown).await.problem(404, "code_unknown");
    }
    shop.app.patch(&off, &json!({"active": true})).token(&shop.admin).await.ok();
    shop.give(&ada, "OFF").await.ok();
    shop.app.delete("/api/cart/codes/none").token(&ada).await.problem(404, "code_unknown");
    let cart = shop.app.delete("/api/cart/codes/off").token(&ada).await.ok();
    assert_eq!((&cart["codes"], &cart["total_amount"]), (&json!([]), &json!(10)));
}

#[tokio::test]
async fn beaten_code_is_kept() {
    let shop = Shop::open().await;
    for (code, percent) in [("TEN", 10), ("TWENTY", 20)] {
        shop.promote(json!({"code": code, "effect": {"percent_off": percent}})).await;
    }
    let ada = shop.buyer(1).await;
    shop.give(&ada, "TWENTY").await.ok();
    let cart = shop.give(&ada, "TEN").await.ok();
    let beaten = json!({"code": "TEN", "applied": false, "reason": "not_best"});
    assert_eq!(cart["codes"], json!([{"code": "TWENTY", "applied": true}, beaten]));
    assert_eq!(cart["total_amount"], 8);
    let cart = shop.app.delete("/api/cart/codes/twenty").token(&ada).await.ok();
    assert_eq!((&cart["codes"][0]["applied"], &cart["total_amount"]), (&json!(true), &json!(9)));
    let cleared = shop.app.delete("/api/cart").token(&ada).await.ok();
    assert_eq!(cleared["codes"], json!([]));
}

#[tokio::test]
async fn cart_has_ten_codes_at_most() {
    let shop = Shop::open().await;
    let ada = shop.buyer(1).await;
    for number in 0..11 {
        let code = format!("C{number}");
        let effect = json!({"amount_off": 0.01});
        shop.promote(json!({"code": code, "effect": effect, "combinable": true})).await;
        match number {
            10 => drop(shop.give(&ada, &code).await.problem(422, "code_limit")),
            _ => drop(shop.give(&ada, &code).await.ok()),
        }
    }
    assert_eq!(shop.cart(&ada).await["total_amount"], 9.9);
}

#[tokio::test]
async fn units_that_are_not_shipped_are_refunded_at_what_was_paid() {
    let shop = Shop::open().await;
    let rate = json!({"name": "VAT", "country": "DE", "rate": "0.1"});
    shop.app.post("/api/tax-rates", &rate).token(&shop.admin).await.is(201);
    shop.promote(json!({"effect": {"percent_off": 10}})).await;
    let ada = shop.buyer(3).await;
    shop.app.put("/api/cart/shipping", &json!({"country": "DE"})).token(&ada).await.ok();
    let order = shop.check_out(&ada).await.is(201).json();
    // 30 less 3, and 10 % of that.
    assert_eq!(order["total_amount"], 29.7);
    shop.app.order_action(&shop.admin, &order, "pay").await.ok();
    let one = json!({"items": [{"product_id": shop.tea, "quantity": 1}]});
    shop.app.order_action(&shop.admin, &order, "fulfil").json(&one).await.ok();
    let cancelled = shop.app.order_action(&shop.admin, &order, "cancel").await.ok();
    assert_eq!(cancelled["payment"]["refunded"], 19.8);
}

#[tokio::test]
async fn merge_unites_the_codes() {
    let shop = Shop::open().await;
    for code in ["A", "B", "C"] {
        let effect = json!({"amount_off": 1});
        shop.promote(json!({"code": code, "effect": effect, "combinable": true})).await;
    }
    let (ada, guest) = (shop.buyer(1).await, shop.app.guest().await);
    shop.app.add_to_cart(&guest, &shop.tea, 1).await.ok();
    for (owner, code) in [(&ada, "A"), (&ada, "B"), (&guest, "b"), (&guest, "C")] {
        shop.give(owner, code).await.ok();
    }
    let token = json!({"guest_token": guest.token});
    let merged = shop.app.post("/api/cart/merge", &token).token(&ada).await.ok();
    let codes: Vec<_> = merged["codes"].as_array().unwrap().iter().map(|it| &it["code"]).collect();
    assert_eq!(codes, ["A", "B", "C"]);
    assert_eq!(merged["total_amount"], 17);
}

#[tokio::test]
async fn free_shipping_is_a_discount_on_no_line() {
    let shop = Shop::open().await;
    let method = json!({"name": "Parcel", "price": 4.9});
    shop.app.post("/api/shipping-methods", &method).token(&shop.admin).await.is(201);
    let members = json!({"code": "SHIP", "effect": {"free_shipping": true}});
    shop.promote(members).await;
    let ada = shop.buyer(1).await;
    let problem = shop.give(&ada, "SHIP").await.problem(409, "code_not_applicable");
    assert_eq!(problem["reason"], "no_eligible_items", "there is no address yet");
    shop.app.put("/api/cart/shipping", &json!({"country": "DE"})).token(&ada).await.ok();
    let cart = shop.give(&ada, "SHIP").await.ok();
    assert_eq!((&cart["shipping"]["amount"], &cart["total_amount"]), (&json!(4.9), &json!(10)));
    assert_eq!(cart["discounts"][0]["amount"], 4.9);
    assert_eq!(cart["items"][0]["discount"], 0);
}

#[tokio::test]
async fn cart_follows_the_clock() {
    let shop = Shop::open().await;
    let ada = shop.buyer(1).await;
    assert_eq!(shop.cart(&ada).await["total_amount"], 10);
    let now = SystemClock.now();
    let (start, end) = (now.saturating_sub(SECOND), now.saturating_add(2 * SECOND));
    let effect = json!({"percent_off": 10});
    let window = json!({"effect": effect, "starts_at": start.to_string(),
        "ends_at": end.to_string()});
    shop.promote(window).await;
    // The cart is in memory, and nothing but time changes it.
    while shop.cart(&ada).await["total_amount"] != 10 {}
    assert!(SystemClock.now() >= end);
}
