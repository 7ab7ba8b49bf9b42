//! Limits against malicious or careless clients.

use serde_json::json;

use crate::support::TestApp;

#[tokio::test]
async fn a_search_is_bounded() {
    let app = TestApp::start().await;
    let many = (0..11).map(|n| format!("w{n}")).collect::<Vec<_>>().join("+");
    app.get(&format!("/api/products?q={many}")).await.problem(422, "validation_failed");
    for path in ["/api/products", "/api/products/suggest"] {
        app.get(&format!("{path}?q={}", "x".repeat(201))).await.problem(422, "validation_failed");
        app.get(&format!("{path}?q={}", "same+".repeat(40))).await.ok();
    }
}

#[tokio::test]
async fn a_busy_feed_does_not_outlive_its_session() {
    let app = TestApp::start().await;
    let (admin, customer) = (app.admin().await, app.customer().await);
    let product = app.product(&admin, &json!(1), 10).await;
    let mut feed = app.listen(Some(&customer), None).await;
    app.change_stock(&admin, &product, &json!({"delta": 1, "reason": "r"})).await.ok();
    assert_eq!(feed.next().await.kind, "inventory.stock.changed");
    app.call("POST", "/api/auth/logout").token(&customer).await.is(204);
    app.change_stock(&admin, &product, &json!({"delta": 1, "reason": "r"})).await.ok();
    assert!(feed.next_or_end().await.is_none(), "the feed ends at the next event");
}

#[tokio::test]
async fn a_feed_of_a_catalog_that_is_not_public_needs_a_token() {
    let app = TestApp::with(&[("catalog.public_read", "false")]).await;
    app.get("/api/events").await.problem(401, "unauthenticated");
    let customer = app.customer().await;
    drop(app.listen(Some(&customer), None).await);
}

#[tokio::test]
async fn strangers_make_up_no_labels() {
    let app = TestApp::start().await;
    app.call("MADEUP", "/api/cart").await.problem(405, "method_not_allowed");
    let figures = app.get("/metrics").await.text();
    assert!(figures.contains("method=\"other\"") && !figures.contains("MADEUP"), "{figures}");
}

#[tokio::test]
async fn a_guest_token_that_is_not_good_keeps_nobody_out() {
    let app = TestApp::start().await;
    let register = json!({"email": "ada@souk.example", "password": "correct horse", "name": "Ada", "guest_token": "nonsense"});
    let registered = app.post("/api/auth/register", &register).await.is(201).json();
    assert_eq!(registered["cart_merged"], false);
    for token in ["", "nonsense", registered["token"].as_str().unwrap()] {
        let login =
            json!({"email": "ada@souk.example", "password": "correct horse", "guest_token": token});
        assert_eq!(app.post("/api/auth/login", &login).await.ok()["cart_merged"], false);
    }
}

#[tokio::test]
async fn a_page_is_told_when_it_asks_too_often() {
    let origin = "https://shop.example";
    let app =
        TestApp::with(&[("limits.per_address", "1"), ("http.cors.allowed_origins", origin)]).await;
    let mut refused = None;
    for _ in 0..20 {
        let answer = app.get("/api/products").header("origin", origin).await;
        assert_eq!(answer.header("access-control-allow-origin"), Some(origin));
        if answer.status == 429 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("twenty requests exceed the limit");
    refused.clone().problem(429, "rate_limited");
    assert!(refused.header("retry-after").is_some());
    let preflight =
        app.call("OPTIONS", "/api/products").header("origin", "https://elsewhere.example");
    preflight.header("access-control-request-method", "GET").await.problem(403, "forbidden");
}

#[tokio::test]
async fn a_refusal_is_not_many_times_its_request() {
    let app = TestApp::start().await;
    let body: serde_json::Map<String, serde_json::Value> =
        (0..5_000).map(|n| (format!("f{n}"), json!(1))).collect();
    let answer = app.post("/api/auth/login", &body.into()).await;
    answer.clone().problem(422, "validation_failed");
    assert!(answer.body.len() < 10_000, "{}", answer.body.len());
}

#[tokio::test]
async fn a_body_must_not_be_encoded() {
    let app = TestApp::start().await;
    let call = app.post("/api/auth/login", &json!({})).header("content-encoding", "gzip");
    call.await.problem(415, "unsupported_media_type");
}
