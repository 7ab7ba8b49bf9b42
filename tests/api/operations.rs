//! Operations: probes, metrics, documents, logs.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{ADMIN_PASSWORD, Cli, PASSWORD, TestApp};

/// All documented routes.
const ROUTES: &str = "
GET /.well-known/jwks.json
POST /api/auth/email/verification
POST /api/auth/email/verify
POST /api/auth/login
POST /api/auth/logout
GET /api/auth/me
PATCH /api/auth/me
DELETE /api/auth/me
GET /api/auth/me/addresses
POST /api/auth/me/addresses
PUT /api/auth/me/addresses/{id}
DELETE /api/auth/me/addresses/{id}
GET /api/auth/me/export
POST /api/auth/password
POST /api/auth/password/forgot
POST /api/auth/password/reset
POST /api/auth/refresh
POST /api/auth/register
DELETE /api/auth/sessions
GET /api/auth/sessions
DELETE /api/auth/sessions/{id}
POST /api/auth/validate
DELETE /api/cart
GET /api/cart
POST /api/cart/add
POST /api/cart/guest
POST /api/cart/merge
DELETE /api/cart/remove/{product_id}
POST /api/cart/codes
DELETE /api/cart/codes/{code}
PUT /api/cart/shipping
GET /api/cart/shipping-methods
PUT /api/cart/update
POST /api/checkout
GET /api/admin/actions
POST /api/admin/audit
DELETE /api/api-keys/{id}
GET /api/api-keys
POST /api/api-keys
GET /api/events
POST /api/events/ticket
GET /api/orders
GET /api/orders/export
GET /api/orders/{id}
POST /api/orders/{id}/cancel
POST /api/orders/{id}/fulfil
POST /api/orders/{id}/pay
POST /api/orders/{id}/payment
POST /api/orders/{id}/refund
POST /api/payments/stripe/webhook
GET /api/products
POST /api/products
POST /api/products/import
GET /api/products/suggest
DELETE /api/products/{id}
GET /api/products/{id}
PATCH /api/products/{id}
PUT /api/products/{id}
GET /api/products/{id}/stock
POST /api/products/{id}/stock
GET /api/products/{id}/stock/movements
GET /api/promotions
POST /api/promotions
DELETE /api/promotions/{id}
GET /api/promotions/{id}
PATCH /api/promotions/{id}
PUT /api/promotions/{id}
GET /api/shipping-methods
POST /api/shipping-methods
DELETE /api/shipping-methods/{id}
GET /api/shipping-methods/{id}
PATCH /api/shipping-methods/{id}
PUT /api/shipping-methods/{id}
GET /api/tax-rates
POST /api/tax-rates
DELETE /api/tax-rates/{id}
GET /api/tax-rates/{id}
PATCH /api/tax-rates/{id}
PUT /api/tax-rates/{id}
GET /api/users
GET /api/users/{id}
PATCH /api/users/{id}
GET /api/webhooks
POST /api/webhooks
DELETE /api/webhooks/{id}
GET /api/webhooks/{id}
PATCH /api/webhooks/{id}
GET /api/webhooks/{id}/deliveries
POST /api/webhooks/{id}/deliveries/{event_id}/redeliver
POST /api/webhooks/{id}/rotate
POST /api/webhooks/{id}/test
GET /livez
GET /metrics
GET /readyz
";

/// Limits the size of the files that a process writes, in bytes or `unlimited`: as on a full disk,
/// the kernel refuses what would be longer.
fn limit_file_size(app: &TestApp, limit: &str) {
    let (pid, limit) = (app.pid().to_string(), format!("--fsize={limit}:"));
    let limited = std::process::Command::new("prlimit").args(["--pid", &pid, &limit]).status();
    assert!(limited.unwrap().success());
}

#[tokio::test]
async fn node_whose_disk_is_full_is_not_ready() {
    let mut app = TestApp::unstarted(&[]);
    app.ignore_signal("XFSZ");
    app.expect_faults();
    app.restart().await;
    let admin = app.admin().await;
    let tea = app.new_product(&admin, &json!(4.5), 10).await;
    app.wait_for_readiness("ready").await;
    limit_file_size(&app, "1");
    // Nobody changes anything meanwhile.
    app.wait_for_readiness("not_ready").await;
    let readiness = app.get("/readyz").await.is(503).json();
    assert_eq!(readiness["checks"], json!({"store": "unavailable", "node": "running"}));
    app.change_stock(&admin, &tea, &json!({"delta": 1, "reason": "found"})).await.is(503);
    app.get(&format!("/api/products/{tea}")).await.ok();
    app.get("/livez").await.ok();
    limit_file_size(&app, "unlimited");
    app.wait_for_readiness("ready").await;
    app.change_stock(&admin, &tea, &json!({"delta": 1, "reason": "found"})).await.ok();
    app.stop().await;
}

#[tokio::test]
async fn probes_report_liveness_and_readiness() {
    let app = TestApp::start().await;
    assert_eq!(app.get("/livez").await.ok(), json!({"status": "alive"}));
    let ready = app.get("/readyz").await.ok();
    assert_eq!((&ready["status"], &ready["checks"]["store"]), (&json!("ready"), &json!("ok")));
}

#[tokio::test]
async fn metrics_are_labeled_by_route_not_by_client_input() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let tea = app.new_product(&admin, &json!(4.5), 10).await;
    app.add_to_cart(&admin, &tea, 1).await.ok();
    app.get(&format!("/api/products/{tea}")).await.ok();
    app.get("/made/up/path").await.problem(404, "not_found");
    app.call("MADEUP", "/api/cart").await.problem(405, "method_not_allowed");
    let response = app.get("/metrics").await.is(200);
    assert!(
        response.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"),
        "{response}"
    );
    let text = response.text();
    let openmetrics = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.4";
    let other = app.get("/metrics").header("accept", openmetrics).await.is(200);
    let media_type = other.header("content-type").unwrap().to_owned();
    assert!(media_type.starts_with("application/openmetrics-text; version=1.0.0"), "{other}");
    assert!(other.text().ends_with("# EOF\n"), "{other}");
    let has =
        |line: &str| assert!(text.lines().any(|known| known == line), "{line} is not in {text}");
    has(r#"souk_http_requests_total{method="GET",route="/api/products/{id}",status="200"} 1"#);
    has(r#"souk_http_requests_total{method="POST",route="/api/cart/add",status="200"} 1"#);
    has(r#"souk_http_request_seconds_count{method="GET",route="/api/products/{id}"} 1"#);
    has("souk_products 1");
    has("souk_carts_active 1");
    assert!(
        !text.contains("made/up") && !text.contains("MADEUP") && !text.contains(&tea),
        "{text}"
    );
}

#[tokio::test]
async fn metrics_that_only_grow_are_counters() {
    let app = TestApp::start().await;
    app.get("/api/products").await.ok();
    let text = app.get("/metrics").await.is(200).text();
    let is_declared = |name: &str, kind| {
        assert!(text.contains(&format!("# TYPE souk_{name} {kind}\n")), "{name} {kind}: {text}");
    };
    let counters = [
        "events_published_total",
        "http_requests_total",
        "writer_batches_total",
        "writer_commits_total",
    ];
    for name in counters {
        is_declared(name, "counter");
    }
    for name in ["carts_active", "products", "writer_waiting", "events_unpublished"] {
        is_declared(name, "gauge");
    }
}

/// The URLs that an HTML page loads or links to.
fn links(html: &str) -> Vec<&str> {
    let values =
        |name: &'static str| html.split(name).skip(1).filter_map(|rest| rest.split('"').next());
    values("src=\"").chain(values("href=\"")).collect()
}

#[tokio::test]
async fn api_browser_loads_from_no_other_host() {
    let app = TestApp::start().await;
    for path in ["/", "/docs"] {
        let response = app.get(path).await.is(307);
        assert_eq!(response.header("location"), Some("/docs/"));
    }
    let page = app.get("/docs/").await.is(200);
    assert!(page.header("content-type").unwrap().starts_with("text/html"));
    let page = page.text();
    let links = links(&page);
    assert!(links.len() >= 4, "{page}");
    for link in links {
        assert!(!link.contains("://") && !link.starts_with("//"), "{link}");
        app.get(&format!("/docs/{}", link.trim_start_matches("./"))).await.is(200);
    }
    let start = app.get("/docs/swagger-initializer.js").await.is(200).text();
    assert!(start.contains("/openapi.json") && !start.contains("://"), "{start}");
}

#[tokio::test]
async fn openapi_document_lists_exactly_the_routes() {
    let app = TestApp::start().await;
    let response = app.get("/openapi.json").await.is(200);
    let document = response.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let mut routes = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        routes.extend(
            item.as_object()
                .unwrap()
                .keys()
                .map(|method| format!("{} {path}", method.to_uppercase())),
        );
    }
    let wanted: BTreeSet<String> = ROUTES.trim().lines().map(str::to_owned).collect();
    assert_eq!(routes, wanted);
    // The command line prints the same document and needs no settings.
    let mut command = app.command();
    command.env("SOUK__NO__SUCH", "setting");
    let printed: Value = serde_json::from_str(&Cli::run(command.arg("openapi")).ok()).unwrap();
    assert_eq!(printed, document);
}

/// Every operation of the document with its method and path.
fn operations(document: &Value) -> Vec<(String, &Value)> {
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        operations.extend(
            item.as_object()
                .unwrap()
                .iter()
                .map(|(method, operation)| (format!("{method} {path}"), operation)),
        );
    }
    operations
}

#[tokio::test]
async fn openapi_document_supports_code_generation() {
    let app = TestApp::start().await;
    let document = app.get("/openapi.json").await.ok();
    let mut ids = BTreeSet::new();
    for (name, operation) in operations(&document) {
        assert!(
            ids.insert(operation["operationId"].as_str().unwrap()),
            "the operation id of {name} is not unique"
        );
        let responses = operation["responses"].as_object().unwrap();
        assert!(responses.keys().any(|status| status.starts_with('2')), "{name}");
        assert!(
            responses.values().all(|response| response["description"]
                .as_str()
                .is_some_and(|text| !text.is_empty())),
            "{name}"
        );
        assert!(
            responses.contains_key("default"),
            "{name} documents the problems common to all requests"
        );
        let has = |header: &str| {
            operation["parameters"]
                .as_array()
                .is_some_and(|p| p.iter().any(|p| p["name"] == header))
        };
        assert_eq!(responses.contains_key("412"), has("If-Match"), "{name}");
        assert!(responses.contains_key("400") || !has("Idempotency-Key"), "{name}");
        for (status, response) in responses.iter().filter(|(status, _)| status.as_str() >= "400") {
            let wanted = if (&*name, &**status) == ("get /readyz", "503") {
                "application/json"
            } else {
                "application/problem+json"
            };
            let types: Vec<_> = response["content"].as_object().unwrap().keys().collect();
            assert_eq!(types, [wanted], "{status} of {name}");
        }
    }
    // All references resolve.
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(document.pointer(reference).is_some(), "{reference}");
    }
    let description = document["info"]["description"].as_str().unwrap();
    for code in [
        "insufficient_stock",
        "purchase_limit_reached",
        "guest_cart_merged",
        "idempotency_key_reused",
        "outcome_unknown",
        "token_expired",
    ] {
        assert!(description.contains(&format!("`{code}`")), "{code} is not in the published list");
    }
}

#[tokio::test]
async fn responses_set_nosniff() {
    let app = TestApp::start().await;
    for path in ["/livez", "/api/products", "/nowhere", "/docs/", "/openapi.json"] {
        assert_eq!(app.get(path).await.header("x-content-type-options"), Some("nosniff"), "{path}");
    }
}

#[tokio::test]
async fn logs_contain_no_secrets() {
    let settings = [("telemetry.log", "json"), ("auth.refresh_grace", "0s")];
    let mut app = TestApp::with_settings(&settings).await;
    let ada = app.customer().await;
    let guest = app.guest().await;
    app.merge_cart(&ada, &guest).await.ok();
    app.post("/api/auth/login", &json!({"email": ada.email, "password": "a wrong password"}))
        .await
        .problem(401, "invalid_credentials");
    app.post("/api/auth/refresh", &json!({"refresh_token": ada.refresh_token})).await.is(200);
    // Reuse causes a warning in the log.
    app.post("/api/auth/refresh", &json!({"refresh_token": ada.refresh_token}))
        .await
        .problem(401, "unauthenticated");
    app.get(&format!("/nowhere?token={}", ada.token)).token(&ada).await.problem(404, "not_found");
    let printed = app.stop().await.join("\n");
    let log = app.log();
    assert!(log.lines().count() > 1);
    for line in log.lines() {
        assert!(serde_json::from_str::<Value>(line).unwrap()["level"].is_string(), "{line}");
    }
    for secret in [
        &*ada.token,
        &ada.refresh_token,
        &guest.token,
        PASSWORD,
        ADMIN_PASSWORD,
        "a wrong password",
        &ada.email,
    ] {
        assert!(
            !log.contains(secret) && !printed.contains(secret),
            "{secret} is in the log: {log}"
        );
    }
}
