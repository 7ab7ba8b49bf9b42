//! The pages at `/docs/` and `/docs/events`, in a browser, and the documents that they show.

use serde_json::Value;

use crate::support::{PASSWORD, TestApp, browser::BrowserScript};

const NAME: &str = "Tea & Co";

#[tokio::test]
async fn documents_are_named_after_the_shop() {
    let unnamed = TestApp::start().await;
    let named = TestApp::with_settings(&[("shop.name", NAME)]).await;
    for path in ["/openapi.json", "/asyncapi.json"] {
        let document = unnamed.get(path).await.ok();
        assert_eq!(document["info"]["title"], "Souk", "{path}");
        let mut other = named.get(path).await.ok();
        assert_eq!(other["info"]["title"], NAME, "{path}");
        // Nothing else depends on the name.
        other["info"]["title"] = Value::from("Souk");
        assert_eq!(other, document, "{path}");
    }
}

#[tokio::test]
async fn pages_run_under_their_policy() {
    let app = TestApp::start().await;
    let api = app.get("/docs/").await.is(200);
    let events = app.get("/docs/events").await.is(200);
    let header = "content-security-policy";
    assert_eq!(events.header(header), api.header(header));
    assert!(events.header("content-type").unwrap().starts_with("text/html"));
    let html = events.text();
    assert!(!html.contains("<style") && !html.contains("style=") && !html.contains(" on"));
    assert!(!html.contains("://"), "{html}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_describe_the_shop_and_try_its_operations() {
    let app = TestApp::with_settings(&[("shop.name", NAME)]).await;
    let Some(script) = BrowserScript::find("docs.mjs", app.dir()).unwrap() else { return };
    let (admin, ada) = (app.admin().await, app.customer().await);
    let script = script.with("SOUK", app.url()).with("NAME", NAME).with("ADMIN", &admin.token);
    let script = script.with("EMAIL", &ada.email).with("PASSWORD", PASSWORD);
    tokio::task::spawn_blocking(|| script.run()).await.unwrap().unwrap();
}
