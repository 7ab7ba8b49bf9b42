//! Body sizes, timeouts, request ids, and unknown paths.

use serde_json::{Value, json};

use crate::support::TestApp;

const LIMIT: usize = 64 * 1024;

/// A login body of exactly `size` bytes, most of them spaces.
fn login_body(size: usize) -> String {
    let body = json!({"email": "nobody@souk.example", "password": "a wrong one"}).to_string();
    " ".repeat(size - body.len()) + &body
}

fn request_head(path: &str, token: &str, headers: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: souk\r\nauthorization: Bearer {token}\r\n{headers}\r\n")
}

#[tokio::test]
async fn bodies_are_limited_to_64_kib() {
    let app = TestApp::start().await;
    let post = |body: String| {
        app.call("POST", "/api/auth/login").header("content-type", "application/json").body(body)
    };
    post(login_body(LIMIT)).await.problem(401, "invalid_credentials");
    post(login_body(LIMIT + 1)).await.problem(413, "payload_too_large");
    let in_chunks = |body: String| {
        let chunks: Vec<_> = body
            .as_bytes()
            .chunks(1000)
            .map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec()))
            .collect();
        reqwest::Body::wrap_stream(futures_util::stream::iter(chunks))
    };
    let post = |body| {
        app.call("POST", "/api/auth/login")
            .header("content-type", "application/json")
            .body(in_chunks(body))
    };
    post(login_body(LIMIT)).await.problem(401, "invalid_credentials");
    post(login_body(LIMIT + 1)).await.problem(413, "payload_too_large");
}

#[tokio::test]
async fn announced_oversize_body_is_rejected_unread() {
    let app = TestApp::start().await;
    for length in ["65537", "10000000000", "18446744073709551615"] {
        let mut connection = app.connect().await;
        let headers = format!("content-type: application/json\r\ncontent-length: {length}\r\n");
        connection.send(request_head("/api/auth/login", "", &headers)).await;
        connection.response().await.problem(413, "payload_too_large");
    }
    // A body without a length is rejected once it exceeds the limit.
    let mut connection = app.connect().await;
    connection
        .send(request_head(
            "/api/auth/login",
            "",
            "content-type: application/json\r\ntransfer-encoding: chunked\r\n",
        ))
        .await;
    for _ in 0..=LIMIT / 1024 {
        connection.send_while_wanted(format!("400\r\n{}\r\n", " ".repeat(1024))).await;
    }
    connection.response().await.problem(413, "payload_too_large");
}

#[tokio::test]
async fn body_limit_is_configurable() {
    let app = TestApp::with_settings(&[("http.max_body", "1KiB")]).await;
    let post = |body: String| {
        app.call("POST", "/api/auth/login").header("content-type", "application/json").body(body)
    };
    post(login_body(1024)).await.problem(401, "invalid_credentials");
    post(login_body(1025)).await.problem(413, "payload_too_large");
}

#[tokio::test]
async fn missing_body_times_out() {
    let app = TestApp::with_settings(&[("http.request_timeout", "500ms")]).await;
    let admin = app.admin().await;
    let product = app.new_product(&admin, &json!(4.5), 1).await;
    let line = r#"{"name":"Pot","description":"","price":1,"stock":1}"#;
    for (path, content_type, part) in [
        ("/api/auth/login", "application/json", ""),
        ("/api/products", "application/json", &line[..20]),
        ("/api/cart/add", "application/json", "{"),
        (
            &format!("/api/products/{product}/stock"),
            "application/json",
            r#"{"delta": 1, "reason":"#,
        ),
        ("/api/products/import", "application/x-ndjson", &line[..20]),
    ] {
        let mut connection = app.connect().await;
        let headers = format!("content-type: {content_type}\r\ncontent-length: {}\r\n", line.len());
        connection.send(request_head(path, &admin.token, &headers) + part).await;
        connection.response().await.problem(408, "request_timeout");
    }
    assert_eq!(app.get("/api/products").await.ok()["total"], 1);
    assert_eq!(app.stock(&admin, &product).await["on_hand"], 1);
}

#[tokio::test]
async fn truncated_body_changes_nothing() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let tea = app.new_product(&admin, &json!(4.5), 100).await;
    let body = json!({"product_id": tea, "quantity": 1}).to_string();
    for sent in [0, 1, body.len() - 1] {
        let headers =
            format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len());
        let mut connection = app.connect().await;
        connection
            .send(request_head("/api/cart/add", &admin.token, &headers) + &body[..sent])
            .await;
        drop(connection);
    }
    app.add_to_cart(&admin, &tea, 1).await.ok();
    assert_eq!(app.cart(&admin).await["version"], 1);
}

#[tokio::test]
async fn request_id_is_kept_when_valid() {
    let app = TestApp::start().await;
    let longest = "x".repeat(128);
    for id in ["1", "a.b_c-D", "01a206bc-0609-7165-8b52-173bd2923daf", &longest] {
        for path in ["/livez", "/api/cart", "/nowhere"] {
            assert_eq!(
                app.get(path).header("x-request-id", id).await.header("x-request-id"),
                Some(id)
            );
        }
    }
    let mut made = std::collections::BTreeSet::new();
    let too_long = "x".repeat(129);
    for id in ["", " ", "a b", "a/b", "a,b", "\u{e9}", "<script>", "a\tb", &too_long] {
        let response = app.get("/livez").header("x-request-id", id).await;
        let new = response.header("x-request-id").unwrap().to_owned();
        assert!(uuid::Uuid::try_parse(&new).is_ok_and(|id| id.get_version_num() == 7), "{new}");
        assert!(made.insert(new));
    }
    assert!(made.insert(app.get("/livez").await.header("x-request-id").unwrap().to_owned()));
}

#[tokio::test]
async fn unknown_paths_and_ids_return_404() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    for path in [
        "/api",
        "/api/",
        "/nowhere",
        "/api/cart/",
        "/api//cart",
        "/api/products/",
        "/api/orders/1/2",
        "/docs/nothing",
        "/.env",
        "/..%2f",
    ] {
        for method in ["GET", "POST", "DELETE", "PURGE"] {
            app.call(method, path).token(&admin).await.problem(404, "not_found");
        }
    }
    for id in [
        "1",
        "not-an-id",
        "%FF",
        "%00",
        "..%2F..%2Fetc",
        "01a206bc-0609-7165-8b52-173bd2923daf",
        &"x".repeat(5000),
    ] {
        app.get(&format!("/api/products/{id}")).await.problem(404, "product_not_found");
        app.get(&format!("/api/products/{id}/stock"))
            .token(&admin)
            .await
            .problem(404, "product_not_found");
        app.get(&format!("/api/products/{id}/stock/movements"))
            .token(&admin)
            .await
            .problem(404, "product_not_found");
        app.delete(&format!("/api/products/{id}"))
            .token(&admin)
            .await
            .problem(404, "product_not_found");
        app.change_stock(&admin, id, &json!({"delta": 1, "reason": "r"}))
            .await
            .problem(404, "product_not_found");
        app.delete(&format!("/api/cart/remove/{id}"))
            .token(&admin)
            .await
            .problem(404, "line_not_found");
    }
}

#[tokio::test]
async fn routes_allow_exactly_the_documented_methods() {
    let app = TestApp::start().await;
    let document = app.get("/openapi.json").await.ok();
    for (path, item) in document["paths"].as_object().unwrap() {
        let documented: Vec<String> =
            item.as_object().unwrap().keys().map(|method| method.to_uppercase()).collect();
        let path = path
            .replace("{id}", "01a206bc-0609-7165-8b52-173bd2923daf")
            .replace("{product_id}", "01a206bc");
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE"] {
            if documented.iter().any(|known| known == method) {
                continue;
            }
            let response = app.call(method, &path).await;
            let mut allowed: Vec<_> = response
                .header("allow")
                .unwrap()
                .split(", ")
                .filter(|m| *m != "HEAD")
                .map(str::to_owned)
                .collect();
            allowed.sort_unstable();
            assert_eq!(allowed, documented, "{response}");
            response.problem(405, "method_not_allowed");
        }
    }
}

#[tokio::test]
async fn head_returns_get_headers_without_a_body() {
    let app = TestApp::start().await;
    let ada = app.customer().await;
    for path in ["/livez", "/readyz", "/api/products", "/api/cart", "/openapi.json", "/api/events"]
    {
        let response = app.call("HEAD", path).token(&ada).await.is(200);
        assert!(response.body.is_empty());
    }
    let get = app.get("/api/cart").token(&ada).await;
    let head = app.call("HEAD", "/api/cart").token(&ada).await;
    assert_eq!(head.etag(), get.etag());
    assert_eq!(head.header("content-length").unwrap(), get.body.len().to_string());
}

#[tokio::test]
async fn cors_allows_only_configured_origins() {
    let app = TestApp::with_settings(&[(
        "http.cors.allowed_origins",
        "https://shop.example,https://www.shop.example",
    )])
    .await;
    let preflight = |origin: &'static str| {
        let call = app.call("OPTIONS", "/api/cart/add").header("origin", origin);
        call.header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization,idempotency-key")
    };
    let response = preflight("https://www.shop.example").await.is(200);
    assert_eq!(response.header("access-control-allow-origin"), Some("https://www.shop.example"));
    assert_eq!(response.header("access-control-allow-credentials"), None);
    let mut methods: Vec<_> =
        response.header("access-control-allow-methods").unwrap().split(", ").collect();
    methods.sort_unstable();
    assert_eq!(methods, ["DELETE", "GET", "HEAD", "PATCH", "POST", "PUT"]);
    let response = app.get("/api/products").header("origin", "https://shop.example").await.is(200);
    assert_eq!(response.header("access-control-allow-origin"), Some("https://shop.example"));
    assert!(
        response.header("access-control-expose-headers").unwrap().to_lowercase().contains("etag")
    );
    for origin in
        ["https://evil.example", "http://shop.example", "https://shop.example.evil.example", "null"]
    {
        let response = preflight(origin).await;
        assert_eq!(response.header("access-control-allow-origin"), None, "{response}");
    }
    let app = TestApp::start().await;
    let response = app.get("/api/products").header("origin", "https://shop.example").await.is(200);
    assert_eq!(response.header("access-control-allow-origin"), None);
    let _: Value = response.json();
}
