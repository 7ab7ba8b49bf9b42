//! The headers that keep a browser from misusing a response. Every response of every test is
//! checked, too; see `support::http`.

use std::process::Command;

use serde_json::json;

use crate::support::TestApp;

const API_POLICY: &str = "default-src 'none'; frame-ancestors 'none'";

#[tokio::test]
async fn every_kind_of_response_has_them() {
    let app =
        TestApp::with_settings(&[("http.cors.allowed_origins", "https://shop.example")]).await;
    let customer = app.customer().await;
    let cart = app.get("/api/cart").token(&customer).await.is(200);
    let etag = cart.header("etag").unwrap().to_owned();
    let preflight = |origin: &str| {
        app.call("OPTIONS", "/api/cart")
            .header("origin", origin)
            .header("access-control-request-method", "GET")
    };
    for (call, status) in [
        (app.get("/api/products"), 200),
        (app.get("/api/cart").token(&customer).header("if-none-match", etag), 304),
        (app.call("POST", "/api/auth/logout").token(&customer), 204),
        (app.get("/"), 307),
        (app.get("/livez"), 200),
        (app.get("/readyz"), 200),
        (app.get("/metrics"), 200),
        (app.get("/openapi.json"), 200),
        (app.get("/asyncapi.json"), 200),
        (app.call("HEAD", "/api/events"), 200),
        (preflight("https://shop.example"), 200),
        (preflight("https://other.example"), 403),
        (app.get("/api/cart"), 401),
        (app.get("/nothing"), 404),
        (app.get("/docs/nothing.js"), 404),
        (app.delete("/api/products"), 405),
        (app.post("/api/auth/login", &json!({"a": 1})), 422),
    ] {
        let response = call.await.is(status);
        assert_eq!(response.header("content-security-policy"), Some(API_POLICY), "{response}");
        assert_eq!(response.header("referrer-policy"), Some("no-referrer"), "{response}");
        assert_eq!(response.header("x-content-type-options"), Some("nosniff"), "{response}");
    }
}

#[tokio::test]
async fn api_browser_runs_under_its_policy() {
    let app = TestApp::start().await;
    let page = app.get("/docs/").await.is(200);
    let policy = page.header("content-security-policy").unwrap();
    for directive in
        ["default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"]
    {
        assert!(policy.split("; ").any(|found| found == directive), "{policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
    let html = page.text();
    // The policy forbids what is written into the page itself.
    assert!(
        !html.contains("<style") && !html.contains("style=") && !html.contains(" on"),
        "{html}"
    );
    assert!(html.split("<script").skip(1).all(|script| script.starts_with(" src=\"./")), "{html}");
    let arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"];
    let browser = Command::new("chromium")
        .args(arguments)
        .args(["--virtual-time-budget=60000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", app.dir().join("browser").display()))
        .arg(format!("{}/docs/", app.url()))
        .output();
    let Ok(browser) = browser else {
        assert!(std::env::var_os("SOUK_TEST_ALL").is_none(), "install chromium");
        eprintln!("chromium is not installed: the page was not rendered");
        return;
    };
    let dom = String::from_utf8_lossy(&browser.stdout);
    let log = String::from_utf8_lossy(&browser.stderr);
    assert!(dom.contains("data-path=\"/api/cart/add\""), "{dom}\n{log}");
    let refused = log.lines().filter(|line| line.contains("Content Security Policy"));
    assert_eq!(refused.collect::<Vec<_>>(), [""; 0]);
}

/// Older versions let scripts through (CVE-2025-26791), and the API browser renders Markdown.
#[tokio::test]
async fn api_browser_sanitizes_with_a_current_dompurify() {
    let app = TestApp::start().await;
    let bundle = app.get("/docs/swagger-ui-bundle.js").await.is(200).text();
    let (_, version) = bundle.split_once("DOMPurify.version=\"").unwrap();
    let version: Vec<u32> =
        version.split('"').next().unwrap().split('.').map(|part| part.parse().unwrap()).collect();
    assert!(version >= vec![3, 4, 17], "{version:?}");
}
