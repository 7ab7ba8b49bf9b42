//! Limits against malicious or careless clients.

use serde_json::json;

use crate::support::TestApp;

#[tokio::test]
async fn search_queries_are_bounded() {
    let app = TestApp::start().await;
    let many = (0..11).map(|n| format!("w{n}")).collect::<Vec<_>>().join("+");
    app.get(&format!("/api/products?q={many}")).await.problem(422, "validation_failed");
    for path in ["/api/products", "/api/products/suggest"] {
        app.get(&format!("{path}?q={}", "x".repeat(201))).await.problem(422, "validation_failed");
        app.get(&format!("{path}?q={}", "same+".repeat(40))).await.ok();
    }
}

#[tokio::test]
async fn busy_feed_does_not_outlive_its_session() {
    let app = TestApp::start().await;
    let (admin, customer) = (app.admin().await, app.customer().await);
    let product = app.new_product(&admin, &json!(1), 10).await;
    let mut feed = app.open_feed(Some(&customer), None).await;
    app.change_stock(&admin, &product, &json!({"delta": 1, "reason": "r"})).await.ok();
    assert_eq!(feed.next().await.kind, "inventory.stock.changed");
    app.call("POST", "/api/auth/logout").token(&customer).await.is(204);
    app.change_stock(&admin, &product, &json!({"delta": 1, "reason": "r"})).await.ok();
    assert!(feed.next_or_end().await.is_none(), "the feed ends at the next event");
}

#[tokio::test]
async fn private_catalog_feed_requires_a_token() {
    let app = TestApp::with_settings(&[("catalog.public_read", "false")]).await;
    app.get("/api/events").await.problem(401, "unauthenticated");
    let customer = app.customer().await;
    drop(app.open_feed(Some(&customer), None).await);
}

#[tokio::test]
async fn unknown_methods_share_one_metric_label() {
    let app = TestApp::start().await;
    app.call("MADEUP", "/api/cart").await.problem(405, "method_not_allowed");
    let figures = app.get("/metrics").await.text();
    assert!(figures.contains("method=\"other\"") && !figures.contains("MADEUP"), "{figures}");
}

#[tokio::test]
async fn invalid_guest_token_does_not_block_login() {
    let app = TestApp::start().await;
    let register = json!({
        "email": "ada@souk.example", "password": "correct horse", "name": "Ada",
        "guest_token": "nonsense",
    });
    let registered = app.post("/api/auth/register", &register).await.is(201).json();
    assert_eq!(registered["cart_merged"], false);
    for token in ["", "nonsense", registered["token"].as_str().unwrap()] {
        let login =
            json!({"email": "ada@souk.example", "password": "correct horse", "guest_token": token});
        assert_eq!(app.post("/api/auth/login", &login).await.ok()["cart_merged"], false);
    }
}

#[tokio::test]
async fn cors_headers_are_set_on_rate_limited_responses() {
    let origin = "https://shop.example";
    let app = TestApp::with_settings(&[
        ("limits.per_address", "1"),
        ("http.cors.allowed_origins", origin),
    ])
    .await;
    let mut refused = None;
    for _ in 0..20 {
        let response = app.get("/api/products").header("origin", origin).await;
        assert_eq!(response.header("access-control-allow-origin"), Some(origin));
        if response.status == 429 {
            refused = Some(response);
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
async fn error_response_size_is_bounded() {
    let app = TestApp::start().await;
    let body: serde_json::Map<String, serde_json::Value> =
        (0..5_000).map(|n| (format!("f{n}"), json!(1))).collect();
    let response = app.post("/api/auth/login", &body.into()).await;
    response.clone().problem(422, "validation_failed");
    assert!(response.body.len() < 10_000, "{}", response.body.len());
}

#[tokio::test]
async fn encoded_bodies_are_rejected() {
    let app = TestApp::start().await;
    let call = app.post("/api/auth/login", &json!({})).header("content-encoding", "gzip");
    call.await.problem(415, "unsupported_media_type");
}
