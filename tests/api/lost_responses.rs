//! Clients that lose the response and repeat the request with the same key.

use serde_json::{Value, json};

use crate::support::{Account, Response, TestApp};

/// Sends an `add` with a key and disconnects without reading the response.
async fn add_and_hang_up(app: &TestApp, account: &Account, product: &str, key: &str) {
    let body = json!({"product_id": product, "quantity": 1}).to_string();
    let head = format!(
        "POST /api/cart/add HTTP/1.1\r\nhost: souk\r\nauthorization: Bearer {}\r\n\
         idempotency-key: {key}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        account.token,
        body.len()
    );
    app.connect().await.send(head + &body).await;
}

fn item_count(cart: &Value) -> u64 {
    cart["item_count"].as_u64().unwrap()
}

#[tokio::test]
async fn repeat_after_a_lost_response_changes_nothing() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let tea = app.new_product(&admin, &json!(4.5), 1000).await;
    let ada = app.customer().await;
    for n in 1..=50 {
        let key = format!("key-{n}");
        add_and_hang_up(&app, &ada, &tea, &key).await;
        // The repeat may run before, during or after the first attempt.
        let response = app.add_to_cart(&ada, &tea, 1).key(&key).await.is(200);
        assert_eq!(item_count(&response.json()), n);
        let again = app.add_to_cart(&ada, &tea, 1).key(&key).await.is(200);
        assert!(again.is_replayed());
        assert_eq!(again.text(), response.text());
        assert_eq!(item_count(&app.cart(&ada).await), n);
    }
}

#[tokio::test]
async fn keys_survive_restart_and_crash() {
    let mut app = TestApp::start().await;
    let admin = app.admin().await;
    let tea = app.new_product(&admin, &json!(4.5), 1000).await;
    let ada = app.customer().await;
    let create = json!({"name": "Cup", "description": "", "price": 7, "stock": 3});
    let delta = json!({"delta": 5, "reason": "delivery"});
    let first = vec![
        app.add_to_cart(&ada, &tea, 2).key("add").await.is(200),
        app.update_cart(&ada, &tea, 7).key("update").await.is(200),
        app.change_stock(&admin, &tea, &delta).key("stock").await.is(200),
        app.post("/api/products", &create).token(&admin).key("create").await.is(201),
    ];
    for crash in [false, true, true] {
        if crash {
            app.kill_9().await;
        } else {
            app.stop().await;
        }
        app.restart().await;
        let again = vec![
            app.add_to_cart(&ada, &tea, 2).key("add").await,
            app.update_cart(&ada, &tea, 7).key("update").await,
            app.change_stock(&admin, &tea, &delta).key("stock").await,
            app.post("/api/products", &create).token(&admin).key("create").await,
        ];
        assert!(again.iter().all(Response::is_replayed));
        let status_and_text = |responses: &[Response]| {
            responses.iter().map(|a| (a.status, a.text())).collect::<Vec<_>>()
        };
        assert_eq!(status_and_text(&again), status_and_text(&first));
        assert_eq!(item_count(&app.cart(&ada).await), 7);
        assert_eq!(app.stock(&admin, &tea).await["on_hand"], 1005);
        assert_eq!(app.get("/api/products").await.ok()["total"], 2);
    }
}

#[tokio::test]
async fn crash_after_sending_applies_the_change_at_most_once() {
    let mut app = TestApp::start().await;
    let admin = app.admin().await;
    let tea = app.new_product(&admin, &json!(4.5), 1000).await;
    let ada = app.customer().await;
    for n in 1..=8 {
        let key = format!("key-{n}");
        add_and_hang_up(&app, &ada, &tea, &key).await;
        app.kill_9().await;
        app.restart().await;
        let before = item_count(&app.cart(&ada).await);
        assert!(before == n - 1 || before == n, "{before} before repeat {n}");
        let response = app.add_to_cart(&ada, &tea, 1).key(&key).await.is(200);
        assert_eq!(response.is_replayed(), before == n, "replayed if and only if it was applied");
        assert_eq!(item_count(&response.json()), n);
        assert_eq!(item_count(&app.cart(&ada).await), n);
    }
}
