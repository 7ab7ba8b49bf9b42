//! Limits against malicious or careless clients.

use serde_json::{Value, json};

use crate::support::{Response, TestApp};

#[tokio::test]
async fn search_queries_are_bounded() {
    let app = TestApp::start().await;
    let many = (0..40).map(|n| format!("w{n}")).collect::<Vec<_>>().join("+");
    assert_eq!(app.get(&format!("/api/products?q={many}")).await.ok()["total"], 0);
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

/// The response must not contain a part of what was sent that is longer than an excerpt.
fn assert_is_excerpt(response: &Response, sent: char) {
    assert_eq!(response.status, 422, "{response}");
    let body = response.text();
    let longest = body.split(|c| c != sent).map(|run| run.chars().count()).max();
    assert!(longest.is_some_and(|longest| (1..=64).contains(&longest)), "{body}");
    assert!(body.contains('…') && body.len() < 3_000, "{body}");
}

#[tokio::test]
async fn long_input_is_quoted_as_an_excerpt() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    for sent in ['k', 'é', '茶'] {
        let long = sent.to_string().repeat(60_000 / sent.len_utf8());
        let login = |body: &Value| app.post("/api/auth/login", body);
        assert_is_excerpt(&login(&json!({&long: 1})).await, sent);
        let nested = json!({"shipping_address": {"name": "A", &long: 1}});
        let checkout = app.post("/api/checkout", &nested).token(&admin).key("k");
        assert_is_excerpt(&checkout.await, sent);
        let product = |attributes: Value| {
            let body = json!({
                "name": "Pot", "description": "", "price": 1, "stock": 1, "attributes": attributes,
            });
            app.post("/api/products", &body).token(&admin)
        };
        assert_is_excerpt(&product(json!({&long: 1})).await, sent);
        assert_is_excerpt(&product(json!({&long: [1]})).await, sent);
        let twice = format!("{{\"{}\": 1, \"{}\": 1}}", &long[..30_000], &long[..30_000]);
        let call = app.call("POST", "/api/auth/login").header("content-type", "application/json");
        assert_is_excerpt(&call.body(twice).await, sent);
    }
    let long = "q".repeat(20_000);
    assert_is_excerpt(&app.get(&format!("/api/products?{long}=1")).await, 'q');
    let csv = format!("sku,name,price\nA,Pot,{}\n", "p".repeat(60_000));
    let import = app.call("POST", "/api/products/import").header("content-type", "text/csv");
    let report = import.token(&admin).body(csv).await.ok();
    let message = report["errors"][0]["message"].as_str().unwrap();
    assert!(message.contains("ppp…") && message.len() < 200, "{message}");
}

#[tokio::test]
async fn control_characters_in_input_are_escaped() {
    let app = TestApp::start().await;
    let response = app.post("/api/auth/login", &json!({"a\u{1b}[2J\u{202e}\r\nb": 1})).await;
    let problem = response.problem(422, "validation_failed");
    let field = problem["errors"][0]["field"].as_str().unwrap();
    assert_eq!(field, "a\\u{1b}[2J\\u{202e}\\r\\nb");
    for text in [&problem["detail"], &problem["errors"][0]["message"]] {
        assert!(!text.as_str().unwrap().contains(char::is_control), "{problem}");
    }
}

#[tokio::test]
async fn duplicate_names_are_rejected_at_any_depth() {
    let app = TestApp::start().await;
    let (admin, customer) = (app.admin().await, app.customer().await);
    let product = |attributes: &str| {
        format!(
            r#"{{"name":"Pot","description":"","price":1,"stock":1,"attributes":{attributes}}}"#
        )
    };
    let send = |method: &str, path: &str, body: String| {
        app.call(method, path).header("content-type", "application/json").body(body)
    };
    let id = app.new_product(&admin, &json!(1), 1).await;
    let path = format!("/api/products/{id}");
    let twice = r#"{"color":"red","size":1,"color":"blue"}"#;
    for (call, field) in [
        (send("POST", "/api/products", product(twice)).token(&admin), "attributes.color"),
        (
            send("PATCH", &path, format!(r#"{{"attributes":{twice}}}"#)).token(&admin),
            "attributes.color",
        ),
        (
            send("PATCH", &path, r#"{"created_at":{"a":[{"b":1,"b":2}]}}"#.into()).token(&admin),
            "created_at.a[0].b",
        ),
        (
            send("POST", "/api/checkout", r#"{"shipping_address":{"name":"A","name":"B"}}"#.into())
                .token(&customer)
                .key("k"),
            "shipping_address.name",
        ),
    ] {
        let problem = call.await.problem(422, "validation_failed");
        let error = &problem["errors"][0];
        assert_eq!((&error["field"], &error["code"]), (&json!(field), &json!("duplicate")));
    }
    let unchanged = app.get(&path).await.ok();
    assert_eq!((&unchanged["version"], &unchanged["attributes"]), (&json!(1), &json!({})));
    let rows = format!("{}\n{}\n", product(twice), product(r#"{"color":"red"}"#));
    let import = app
        .call("POST", "/api/products/import")
        .header("content-type", "application/x-ndjson")
        .token(&admin)
        .body(rows);
    let report = import.await.ok();
    assert_eq!((&report["created"], &report["failed"]), (&json!(1), &json!(1)), "{report}");
}

#[tokio::test]
async fn encoded_bodies_are_rejected() {
    let app = TestApp::start().await;
    let call = app.post("/api/auth/login", &json!({})).header("content-encoding", "gzip");
    call.await.problem(415, "unsupported_media_type");
}
