//! `Idempotency-Key`: a repeat changes nothing and gets the same response, on every route that
//! supports it.

use serde_json::json;

use crate::support::{Account, Call, Response, TestApp};

/// A shop with an admin, a customer and a guest, and a product in each cart.
struct Shop {
    app: TestApp,
    admin: Account,
    ada: Account,
    guest: Account,
    tea: String,
    cup: String,
}

impl Shop {
    async fn start() -> Self {
        let app = TestApp::start().await;
        let admin = app.admin().await;
        let (tea, cup) = (
            app.new_product(&admin, &json!(4.5), 100).await,
            app.new_product(&admin, &json!(7), 100).await,
        );
        let (ada, guest) = (app.customer().await, app.guest().await);
        app.add_to_cart(&ada, &tea, 2).await.ok();
        app.add_to_cart(&guest, &cup, 3).await.ok();
        Self { app, admin, ada, guest, tea, cup }
    }

    fn cart_call(&self, method: &str, path: &str) -> Call {
        self.app.call(method, &format!("/api/cart{path}")).token(&self.ada)
    }

    fn product_call(&self, method: &str, path: &str) -> Call {
        self.app.call(method, &format!("/api/products{path}")).token(&self.admin)
    }

    /// One change on each route, in an order in which each is possible.
    fn changes(&self) -> Vec<(&'static str, u16, Call)> {
        let line =
            |product: &str, quantity: u64| json!({"product_id": product, "quantity": quantity});
        let pot = json!({"name": "Pot", "description": "", "price": 12, "stock": 3});
        let (tea, cup) = (&self.tea, &self.cup);
        let import = "{\"name\":\"Tray\",\"price\":20,\"stock\":1}\n{\"name\":\"\",\"price\":1}\n";
        let ndjson = self
            .product_call("POST", "/import")
            .header("content-type", "application/x-ndjson")
            .body(import);
        vec![
            ("add", 200, self.cart_call("POST", "/add").json(&line(cup, 1))),
            ("update", 200, self.cart_call("PUT", "/update").json(&line(tea, 7))),
            (
                "merge",
                200,
                self.cart_call("POST", "/merge").json(&json!({"guest_token": self.guest.token})),
            ),
            ("remove", 200, self.cart_call("DELETE", &format!("/remove/{tea}"))),
            ("clear", 200, self.cart_call("DELETE", "")),
            ("create", 201, self.product_call("POST", "").json(&pot)),
            (
                "replace",
                200,
                self.product_call("PUT", &format!("/{cup}"))
                    .json(&json!({"name": "Mug", "description": "", "price": 8})),
            ),
            (
                "patch",
                200,
                self.product_call("PATCH", &format!("/{cup}")).json(&json!({"price": 9})),
            ),
            (
                "stock",
                200,
                self.product_call("POST", &format!("/{cup}/stock"))
                    .json(&json!({"delta": -4, "reason": "broken"})),
            ),
            ("import", 200, ndjson),
            ("delete", 204, self.product_call("DELETE", &format!("/{tea}"))),
        ]
    }

    /// The state that the changes affect.
    async fn state(&self) -> Vec<String> {
        let mut state = vec![
            self.app.cart(&self.ada).await.to_string(),
            self.app.stock(&self.admin, &self.cup).await.to_string(),
        ];
        state.push(self.app.get("/api/products").await.is(200).text());
        state
    }
}

fn status_and_text(response: &Response) -> (u16, String) {
    (response.status, response.text())
}

#[tokio::test]
async fn repeat_returns_the_first_response_on_every_route() {
    let shop = Shop::start().await;
    let mut first = Vec::new();
    for (name, status, call) in shop.changes() {
        let before = shop.state().await;
        let response = call.key(name).await.is(status);
        assert!(!response.is_replayed());
        let after = shop.state().await;
        assert_ne!(before, after, "{name}");
        first.push(response);
    }
    let after = shop.state().await;
    for round in 0..2 {
        for ((name, _, call), first) in shop.changes().into_iter().zip(&first) {
            let again = call.key(name).await;
            assert!(again.is_replayed(), "{name}, round {round}: {again}");
            assert_eq!(status_and_text(&again), status_and_text(first), "{name}");
        }
        assert_eq!(shop.state().await, after);
    }
    // Without a key, or with another one, it is a new request.
    shop.app.add_to_cart(&shop.ada, &shop.cup, 1).await.ok();
    assert!(
        !shop.app.add_to_cart(&shop.ada, &shop.cup, 1).key("another").await.is(200).is_replayed()
    );
    assert_eq!(shop.app.cart(&shop.ada).await["item_count"], 2);
}

#[tokio::test]
async fn reused_key_with_another_request_is_rejected() {
    let shop = Shop::start().await;
    for (name, _, call) in shop.changes() {
        call.key(name).await;
    }
    let before = shop.state().await;
    let names: Vec<_> = shop.changes().into_iter().map(|(name, ..)| name).collect();
    // The first five keys are Ada's, the others the admin's; keys belong to a user.
    for used in [&names[..5], &names[5..]] {
        for key in used {
            for (_, _, call) in
                shop.changes().into_iter().filter(|(name, ..)| used.contains(name) && name != key)
            {
                call.key(key).await.problem(422, "idempotency_key_reused");
            }
        }
    }
    let add = |product: &str, quantity: u64| {
        shop.app.add_to_cart(&shop.ada, product, quantity).key("add")
    };
    add(&shop.cup, 2).await.problem(422, "idempotency_key_reused");
    add(&shop.tea, 1).await.problem(422, "idempotency_key_reused");
    let other_path = shop.cart_call("DELETE", &format!("/remove/{}", shop.cup)).key("remove");
    other_path.await.problem(422, "idempotency_key_reused");
    for lines in [
        "{\"name\":\"Tray\",\"price\":21,\"stock\":1}\n",
        "{\"name\":\"Tray\",\"price\":20,\"stock\":1}\n",
        "",
    ] {
        let import = shop
            .product_call("POST", "/import")
            .header("content-type", "application/x-ndjson")
            .body(lines);
        import.key("import").await.problem(422, "idempotency_key_reused");
    }
    assert_eq!(shop.state().await, before);
}

#[tokio::test]
async fn equivalent_json_counts_as_the_same_request() {
    let shop = Shop::start().await;
    let (app, ada, cup) = (&shop.app, &shop.ada, &shop.cup);
    let send = |body: String| {
        app.call("POST", "/api/cart/add")
            .token(ada)
            .key("k")
            .header("content-type", "application/json; charset=utf-8")
            .body(body)
    };
    let first = send(format!(r#"{{"product_id":"{cup}","quantity":2}}"#)).await.is(200);
    for body in [
        format!(r#"{{"quantity":2,"product_id":"{cup}"}}"#),
        format!("\n {{ \"product_id\" :\t\"{cup}\" , \"quantity\" : 2 }}\n"),
        format!(r#"{{"product\u005fid":"{cup}","quantity":2}}"#),
    ] {
        let again =
            send(body).header("if-match", "\"stale\"").header("x-request-id", "another").await;
        assert!(again.is_replayed());
        assert_eq!(status_and_text(&again), status_and_text(&first));
    }
    assert_eq!(app.cart(ada).await["item_count"], 4);
}

#[tokio::test]
async fn key_belongs_to_its_user() {
    let shop = Shop::start().await;
    let eve = shop.app.customer().await;
    let first = shop.app.add_to_cart(&shop.ada, &shop.cup, 2).key("k").await.is(200);
    let other = shop.app.add_to_cart(&eve, &shop.cup, 2).key("k").await.is(200);
    assert!(!other.is_replayed());
    assert_eq!(
        (&other.json()["user_id"], &other.json()["item_count"]),
        (&json!(eve.id), &json!(2))
    );
    assert!(!shop.app.add_to_cart(&shop.guest, &shop.cup, 2).key("k").await.is(200).is_replayed());
    // Keys belong to the user, not to the session.
    let again = shop.app.login(&shop.ada.email, crate::support::PASSWORD).await;
    let again = shop.app.add_to_cart(&again, &shop.cup, 2).key("k").await;
    assert!(again.is_replayed());
    assert_eq!(status_and_text(&again), status_and_text(&first));
}

#[tokio::test]
async fn key_without_a_token_is_ignored() {
    let app = TestApp::start().await;
    let guest =
        async || app.call("POST", "/api/cart/guest").key("k").await.is(201).json()["token"].clone();
    assert_ne!(guest().await, guest().await);
    let body = json!({"email": "ada@souk.example", "password": "a good password", "name": "Ada"});
    app.post("/api/auth/register", &body).key("k").await.is(201);
    app.post("/api/auth/register", &body).key("k").await.problem(409, "email_taken");
}

#[tokio::test]
async fn refused_requests_are_not_remembered() {
    let shop = Shop::start().await;
    let (app, admin, ada, cup) = (&shop.app, &shop.admin, &shop.ada, &shop.cup);
    app.add_to_cart(ada, cup, 200).key("add").await.problem(409, "insufficient_stock");
    app.change_stock(admin, cup, &json!({"delta": -200, "reason": "r"}))
        .key("take")
        .await
        .problem(409, "insufficient_stock");
    app.change_stock(admin, cup, &json!({"set": 500, "reason": "count"})).await.ok();
    assert_eq!(app.add_to_cart(ada, cup, 200).key("add").await.ok()["item_count"], 202);
    let take = json!({"delta": -200, "reason": "r"});
    assert_eq!(app.change_stock(admin, cup, &take).key("take").await.ok()["on_hand"], 300);
    // The key of a refused request can be used for another request.
    app.update_cart(ada, cup, 1000).key("free").await.problem(422, "quantity_limit");
    app.update_cart(ada, cup, 5).key("free").await.ok();
    app.add_to_cart(ada, cup, 1)
        .key("412")
        .header("if-match", "\"1\"")
        .await
        .problem(412, "version_mismatch");
    assert!(!app.add_to_cart(ada, cup, 1).key("412").await.is(200).is_replayed());
    let pot = json!({"name": "Pot", "description": "", "price": 12, "stock": 3, "sku": "POT"});
    let taken = app.create_product(admin, &pot).await["id"].as_str().unwrap().to_owned();
    app.post("/api/products", &pot).token(admin).key("create").await.problem(409, "sku_taken");
    app.delete(&format!("/api/products/{taken}")).token(admin).await.is(204);
    app.post("/api/products", &pot).token(admin).key("create").await.is(201);
}

#[tokio::test]
async fn repeat_of_a_no_op_does_not_undo_later_changes() {
    let shop = Shop::start().await;
    let (app, admin, ada, tea) = (&shop.app, &shop.admin, &shop.ada, &shop.tea);
    let version = app.cart(ada).await["version"].clone();
    let first = app.update_cart(ada, tea, 2).key("update").await.is(200);
    assert!(!first.is_replayed());
    assert_eq!(first.json()["version"], version, "nothing has changed");
    app.update_cart(ada, tea, 5).await.ok();
    let again = app.update_cart(ada, tea, 2).key("update").await;
    assert!(again.is_replayed());
    assert_eq!(status_and_text(&again), status_and_text(&first));
    assert_eq!(app.cart(ada).await["item_count"], 5);
    app.update_cart(ada, tea, 3).key("update").await.problem(422, "idempotency_key_reused");

    let set = |to: u64| json!({"set": to, "reason": "count"});
    assert_eq!(app.change_stock(admin, tea, &set(100)).key("set").await.ok()["version"], 1);
    assert_eq!(app.change_stock(admin, tea, &set(90)).await.ok()["version"], 2);
    let again = app.change_stock(admin, tea, &set(100)).key("set").await.is(200);
    assert!(again.is_replayed());
    assert_eq!((&again.json()["on_hand"], &again.json()["version"]), (&json!(100), &json!(1)));
    assert_eq!(app.stock(admin, tea).await["on_hand"], 90);

    let patch = || shop.product_call("PATCH", &format!("/{tea}")).json(&json!({"price": 4.5}));
    let first = patch().key("patch").await.is(200);
    shop.product_call("PATCH", &format!("/{tea}")).json(&json!({"price": 9})).await.is(200);
    let again = patch().key("patch").await;
    assert!(again.is_replayed());
    assert_eq!(status_and_text(&again), status_and_text(&first));
    assert_eq!(app.get(&format!("/api/products/{tea}")).await.is(200).json()["price"], 9);
}

#[tokio::test]
async fn repeat_of_clearing_an_empty_cart_keeps_later_lines() {
    let shop = Shop::start().await;
    let (app, eve) = (&shop.app, shop.app.customer().await);
    let clear = || app.delete("/api/cart").token(&eve).key("clear");
    let first = clear().await.is(200);
    assert!(!first.is_replayed());
    app.add_to_cart(&eve, &shop.cup, 2).await.ok();
    let again = clear().await;
    assert!(again.is_replayed());
    assert_eq!(status_and_text(&again), status_and_text(&first));
    assert_eq!(app.cart(&eve).await["item_count"], 2);
}

#[tokio::test]
async fn key_is_one_to_255_visible_characters() {
    let shop = Shop::start().await;
    let (app, ada, admin, cup) = (&shop.app, &shop.ada, &shop.admin, &shop.cup);
    let before = shop.state().await;
    let too_long = "k".repeat(256);
    for key in ["", "two words", "k\u{e9}y", "tab\there", &too_long] {
        app.add_to_cart(ada, cup, 1).key(key).await.problem(400, "idempotency_key_invalid");
        app.delete("/api/cart").token(ada).key(key).await.problem(400, "idempotency_key_invalid");
        app.change_stock(admin, cup, &json!({"delta": 1, "reason": "r"}))
            .key(key)
            .await
            .problem(400, "idempotency_key_invalid");
        let import = app
            .call("POST", "/api/products/import")
            .token(admin)
            .header("content-type", "text/csv")
            .key(key);
        import.body("name,price\nPot,1\n").await.problem(400, "idempotency_key_invalid");
    }
    app.add_to_cart(ada, cup, 1)
        .key("one")
        .key("two")
        .await
        .problem(400, "idempotency_key_invalid");
    assert_eq!(shop.state().await, before);
    let all: String = ('!'..='~').collect();
    for key in ["k", &all, &too_long[1..]] {
        app.add_to_cart(ada, cup, 1).key(key).await.ok();
        assert!(app.add_to_cart(ada, cup, 1).key(key).await.is_replayed());
    }
}
