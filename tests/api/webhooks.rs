//! Webhooks: endpoints, their secrets and rights, over HTTP.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::support::{Account, Call, TestApp};

const URL: &str = "https://93.184.215.14/hook";

fn create(app: &TestApp, url: &str, types: &[&str]) -> Call {
    // Paused, so that nothing is sent to it.
    app.post("/api/webhooks", &json!({"url": url, "types": types, "status": "paused"}))
}

fn path(webhook: &Value) -> String {
    format!("/api/webhooks/{}", webhook["id"].as_str().unwrap())
}

/// A member of staff with these scopes.
async fn staff(app: &TestApp, admin: &Account, scopes: &[&str]) -> Account {
    let account = app.customer().await;
    let rights = json!({"role": "staff", "scopes": scopes});
    app.patch(&format!("/api/users/{}", account.id), &rights).token(admin).await.ok();
    account
}

#[tokio::test]
async fn webhook_is_made_changed_and_deleted() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let body = json!({"url": URL, "types": ["order.*", "cart.merged"], "status": "paused",
        "description": "ERP"});
    let response = app.post("/api/webhooks", &body).token(&admin).key("k").await.is(201);
    let made = response.json();
    assert_eq!(response.header("location"), Some(path(&made).as_str()));
    assert_eq!(response.etag(), "\"1\"");
    let secret = made["secret"].as_str().unwrap().strip_prefix("whsec_").unwrap();
    assert_eq!(STANDARD.decode(secret).unwrap().len(), 32);
    let mut shown = made.clone();
    shown.as_object_mut().unwrap().remove("secret");
    for (field, value) in [
        ("url", json!(URL)),
        ("types", json!(["order.*", "cart.merged"])),
        ("description", json!("ERP")),
        ("status", json!("paused")),
        ("paused_reason", json!("staff")),
        ("version", json!(1)),
    ] {
        assert_eq!(shown[field], value, "{field}");
    }
    let again = app.post("/api/webhooks", &body).token(&admin).key("k").await.is(201);
    assert!(again.is_replayed());
    assert_eq!((&again.json()["id"], &again.json()["secret"]), (&made["id"], &Value::Null));
    let get = async || app.get(&path(&made)).token(&admin).await.ok();
    assert_eq!(get().await, shown);
    let second = create(&app, URL, &["*"]).token(&admin).await.is(201).json();
    let list = app.get("/api/webhooks").token(&admin).await.ok();
    let ids: Vec<&Value> = list["items"].as_array().unwrap().iter().map(|one| &one["id"]).collect();
    assert_eq!(ids, [&second["id"], &made["id"]], "newest first");
    assert!(!list.to_string().contains("secret"));
    let change = json!({"description": null, "types": ["order.paid"], "id": "ignored"});
    let patched = app.patch(&path(&made), &change).token(&admin).header("if-match", "\"1\"");
    let patched = patched.await.ok();
    assert_eq!((&patched["description"], &patched["version"]), (&Value::Null, &json!(2)));
    assert_eq!((&patched["types"], &patched["url"]), (&json!(["order.paid"]), &json!(URL)));
    let stale = app.patch(&path(&made), &change).token(&admin).header("if-match", "\"1\"");
    stale.await.problem(412, "version_mismatch");
    app.patch(&path(&made), &change).token(&admin).await.ok();
    assert_eq!(get().await, patched, "nothing changed, so it is the same version");
    app.delete(&path(&made)).token(&admin).await.is(204);
    for call in [app.get(&path(&made)), app.delete(&path(&made))] {
        call.token(&admin).await.problem(404, "webhook_not_found");
    }
    let test = app.call("POST", &format!("{}/test", path(&second))).token(&admin);
    test.await.problem(409, "webhook_paused");
}

#[tokio::test]
async fn secret_is_nowhere_but_in_the_answers_that_make_it() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let made = create(&app, URL, &["*"]).token(&admin).key("a").await.is(201).json();
    let rotate = || app.call("POST", &format!("{}/rotate", path(&made))).token(&admin).key("b");
    let rotated = rotate().await.ok();
    assert_eq!(rotated["version"], 2);
    assert_ne!(made["secret"], rotated["secret"]);
    assert_eq!(rotate().await.ok()["secret"], Value::Null);
    // Neither in the database nor in its log, as text or as bytes.
    let mut files = Vec::new();
    for entry in std::fs::read_dir(app.dir().join("data")).unwrap() {
        files.push(std::fs::read(entry.unwrap().path()).unwrap());
    }
    files.push(app.log().into_bytes());
    let url = URL.as_bytes();
    assert!(files.iter().any(|file| file.windows(url.len()).any(|part| part == url)));
    for secret in [&made["secret"], &rotated["secret"]] {
        let text = secret.as_str().unwrap().strip_prefix("whsec_").unwrap();
        for needle in [text.as_bytes().to_vec(), STANDARD.decode(text).unwrap()] {
            let found = |file: &Vec<u8>| file.windows(needle.len()).any(|part| part == needle);
            assert!(!files.iter().any(found));
        }
    }
}

#[tokio::test]
async fn url_must_be_public_and_secured() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    for url in [
        "http://erp.example/hook",
        "https://ada:secret@93.184.215.14/",
        "https://127.0.0.1/",
        "https://2130706433/",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://169.254.169.254/latest/meta-data",
        "https://localhost/",
        "https://localhost./",
        "ftp://93.184.215.14/",
        "nonsense",
    ] {
        create(&app, url, &["*"]).token(&admin).await.problem(422, "url_not_allowed");
    }
    let made = create(&app, "https://no-such-host.invalid/", &["*"]).token(&admin).await;
    let made = made.is(201).json();
    let change = json!({"url": "https://10.0.0.7/"});
    let patch = app.patch(&path(&made), &change).token(&admin);
    patch.await.problem(422, "url_not_allowed");
    for (body, field) in [
        (json!({"url": "", "types": ["*"]}), "url"),
        (json!({"url": URL, "types": []}), "types"),
        (json!({"url": URL, "types": ["orders.*"]}), "types[0]"),
        (json!({"url": URL, "types": ["*", "webhook.test"]}), "types[1]"),
        (json!({"url": URL, "types": ["*"], "status": "gone"}), "status"),
        (json!({"url": URL, "types": ["*"], "description": "x".repeat(201)}), "description"),
    ] {
        let problem = app.post("/api/webhooks", &body).token(&admin).await;
        let problem = problem.problem(422, "validation_failed");
        assert_eq!(problem["errors"][0]["field"], field, "{body}");
    }
}

#[tokio::test]
async fn maker_must_be_able_to_read_the_events() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let hooks = staff(&app, &admin, &["webhooks"]).await;
    let orders = staff(&app, &admin, &["webhooks", "orders:read", "stock"]).await;
    let reader = staff(&app, &admin, &["webhooks:read"]).await;
    for (account, types, may) in [
        (&hooks, &["catalog.*", "webhook.*"][..], true),
        (&hooks, &["order.paid"], false),
        (&hooks, &["catalog.*", "inventory.stock.low"], false),
        (&hooks, &["*"], false),
        (&orders, &["order.*", "inventory.*"], true),
        (&orders, &["cart.merged"], false),
        (&orders, &["auth.*"], false),
        (&reader, &["catalog.*"], false),
        (&admin, &["*"], true),
    ] {
        let response = create(&app, URL, types).token(account).await;
        match may {
            true => drop(response.is(201)),
            false => drop(response.problem(403, "forbidden")),
        }
    }
    let made = create(&app, URL, &["catalog.*"]).token(&hooks).await.is(201).json();
    let patch = |types: Value| app.patch(&path(&made), &json!({"types": types})).token(&hooks);
    patch(json!(["cart.*"])).await.problem(403, "forbidden");
    patch(json!(["catalog.product.created"])).await.ok();
    // Nor may others send what they cannot read to themselves, or have it sent again.
    let all = create(&app, URL, &["*"]).token(&admin).await.is(201).json();
    app.patch(&path(&all), &json!({"status": "paused"})).token(&admin).await.ok();
    for change in [json!({"url": "https://93.184.215.14/mine"}), json!({"status": "active"})] {
        app.patch(&path(&all), &change).token(&hooks).await.problem(403, "forbidden");
    }
    app.get(&path(&made)).token(&reader).await.ok();
    app.delete(&path(&made)).token(&reader).await.problem(403, "forbidden");
}
