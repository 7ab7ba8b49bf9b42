//! API keys: how they are made, listed and deleted, and what they open.

use std::time::Duration;

use serde_json::{Value, json};
use souk::domain::clock::{Clock, SystemClock};

use crate::support::{
    Account, TestApp,
    grpc::{GRPC, GrpcClient},
};

async fn create(app: &TestApp, admin: &Account, scopes: &Value) -> Value {
    let body = json!({"name": "warehouse", "scopes": scopes});
    app.post("/api/api-keys", &body).token(admin).await.is(201).json()
}

fn secret(created: &Value) -> &str {
    created["key"].as_str().unwrap()
}

#[tokio::test]
async fn key_is_shown_once_and_kept_as_a_hash() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let body = json!({"name": "warehouse", "scopes": ["stock", "orders:read"],
        "expires_at": "2100-01-01T01:00:00+01:00"});
    let response = app.post("/api/api-keys", &body).token(&admin).key("k").await.is(201);
    assert_eq!(response.header("cache-control"), Some("no-store"));
    let created = response.json();
    let key = secret(&created);
    assert!(key.len() >= 37 && key.starts_with("souk_"));
    assert!(key[5..].chars().all(|c| c.is_ascii_alphanumeric()));
    assert!(key.starts_with(created["prefix"].as_str().unwrap()));
    assert_eq!(created["scopes"], json!(["stock", "orders:read"]));
    assert_eq!(created["created_by"], admin.id);
    assert_eq!(created["expires_at"], "2100-01-01T00:00:00.000Z");
    assert_eq!(created["last_used_at"], Value::Null);
    let again = app.post("/api/api-keys", &body).token(&admin).key("k").await.is(201);
    assert!(again.is_replayed());
    let mut without = created.clone();
    without["key"] = Value::Null;
    assert_eq!(again.json(), without);
    let listed = app.get("/api/api-keys").token(&admin).await.ok();
    without.as_object_mut().unwrap().remove("key");
    assert_eq!(listed, json!({"items": [without], "next_cursor": null}));
    let data = app.dir().join("data");
    for file in std::fs::read_dir(data).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        let holds = bytes.windows(key.len()).any(|window| window == key.as_bytes());
        assert!(!holds, "the key is stored in clear");
    }
    assert!(!app.log().contains(key));
}

#[tokio::test]
async fn key_works_until_it_is_deleted_or_expires() {
    let mut app = TestApp::start().await;
    let admin = app.admin().await;
    let tea = app.new_product(&admin, &json!(4.5), 3).await;
    let stock = format!("/api/products/{tea}/stock");
    let created = create(&app, &admin, &json!(["stock"])).await;
    let key = secret(&created).to_owned();
    let change = json!({"delta": 1, "reason": "delivery"});
    let first = app.post(&stock, &change).token(&key).key("k").await.ok();
    assert_eq!(first["on_hand"], 4);
    // Keys of requests belong to the API key, as to a user.
    assert!(app.post(&stock, &change).token(&key).key("k").await.is_replayed());
    assert_eq!(app.post(&stock, &change).token(&admin).key("k").await.ok()["on_hand"], 5);
    let item = app.get("/api/api-keys").token(&admin).await.ok()["items"][0].clone();
    assert!(item["last_used_at"].is_string(), "{item}");
    app.kill_9().await;
    app.restart().await;
    app.get(&stock).token(&key).await.ok();
    // When it was used last is known after a regular stop.
    app.stop().await;
    app.restart().await;
    let item = app.get("/api/api-keys").token(&admin).await.ok()["items"][0].clone();
    assert!(item["last_used_at"].is_string(), "{item}");
    let path = format!("/api/api-keys/{}", created["id"].as_str().unwrap());
    app.delete(&path).token(&admin).key("d").await.is(204);
    app.get(&stock).token(&key).await.problem(401, "unauthenticated");
    assert!(app.delete(&path).token(&admin).key("d").await.is(204).is_replayed());
    app.delete(&path).token(&admin).await.problem(404, "api_key_not_found");
    assert_eq!(app.get("/api/api-keys").token(&admin).await.ok()["items"], json!([]));
    app.kill_9().await;
    app.restart().await;
    app.get(&stock).token(&key).await.problem(401, "unauthenticated");
    for unknown in ["souk_", "souk_nothing", &key[..key.len() - 1], &format!("{key}A")] {
        app.get(&stock).token(unknown).await.problem(401, "unauthenticated");
    }
}

#[tokio::test]
async fn expired_key_is_refused_and_still_listed() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let now = || SystemClock.now();
    let end = now().saturating_add(Duration::from_secs(3));
    let body = json!({"name": "short", "scopes": ["stock:read"], "expires_at": end.to_string()});
    let created = app.post("/api/api-keys", &body).token(&admin).await.is(201).json();
    let tea = app.new_product(&admin, &json!(4.5), 3).await;
    let stock = format!("/api/products/{tea}/stock");
    loop {
        let started = now();
        let response = app.get(&stock).token(secret(&created)).await;
        if response.status != 200 {
            response.problem(401, "unauthenticated");
            break;
        }
        assert!(started < end, "the key works after it has expired");
    }
    assert!(now() >= end, "the key has expired too early");
    let items = app.get("/api/api-keys").token(&admin).await.ok()["items"].clone();
    assert_eq!(items.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn invalid_keys_are_refused_with_their_fields() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    for (body, field) in [
        (json!({"name": "a", "scopes": []}), "scopes"),
        (json!({"name": "a", "scopes": ["moon"]}), "scopes[0]"),
        (json!({"name": "", "scopes": ["stock"]}), "name"),
        (json!({"name": "a".repeat(101), "scopes": ["stock"]}), "name"),
        (
            json!({"name": "a", "scopes": ["stock"], "expires_at": "2020-01-01T00:00:00Z"}),
            "expires_at",
        ),
        (json!({"name": "a", "scopes": ["stock"], "expires_at": "soon"}), "expires_at"),
        (json!({"name": "a", "scopes": ["stock"], "role": "admin"}), "role"),
    ] {
        let response = app.post("/api/api-keys", &body).token(&admin).await;
        let problem = response.problem(422, "validation_failed");
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
    }
    assert_eq!(app.get("/api/api-keys").token(&admin).await.ok()["items"], json!([]));
}

#[tokio::test]
async fn one_admin_has_at_most_a_hundred_keys() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let mut last = Value::Null;
    for _ in 0..100 {
        last = create(&app, &admin, &json!(["stock"])).await;
    }
    let body = json!({"name": "one more", "scopes": ["stock"]});
    app.post("/api/api-keys", &body).token(&admin).await.problem(422, "api_key_limit");
    let other = app.customer().await;
    let rights = json!({"role": "admin"});
    app.patch(&format!("/api/users/{}", other.id), &rights).token(&admin).await.ok();
    create(&app, &other, &json!(["stock"])).await;
    let path = format!("/api/api-keys/{}", last["id"].as_str().unwrap());
    app.delete(&path).token(&other).await.is(204);
    app.post("/api/api-keys", &body).token(&admin).await.is(201);
    let mut next = String::new();
    let mut count = 0;
    loop {
        let page = app.get(&format!("/api/api-keys?limit=40{next}")).token(&admin).await.ok();
        count += page["items"].as_array().unwrap().len();
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        next = format!("&cursor={cursor}");
    }
    assert_eq!(count, 101);
}

#[tokio::test]
async fn key_outlives_its_maker_and_is_no_account() {
    let app = TestApp::start().await;
    let (admin, maker) = (app.admin().await, app.customer().await);
    let user = format!("/api/users/{}", maker.id);
    app.patch(&user, &json!({"role": "admin"})).token(&admin).await.ok();
    let created = create(&app, &maker, &json!(["orders"])).await;
    app.patch(&user, &json!({"blocked": true})).token(&admin).await.ok();
    let key = secret(&created);
    let tea = app.new_product(&admin, &json!(4.5), 3).await;
    let ada = app.customer().await;
    let order = app.buy(&ada, &tea, 1).await;
    let path = format!("/api/orders/{}", order["id"].as_str().unwrap());
    assert_eq!(app.get(&path).token(key).await.ok()["id"], order["id"]);
    let all = app.get("/api/orders?all=true").token(key).await.ok();
    assert_eq!(all["items"].as_array().unwrap().len(), 1);
    let cancel = app.call("POST", &format!("{path}/cancel")).token(key).await.ok();
    assert_eq!(cancel["actor"], json!({"type": "api_key", "id": created["id"]}));
    for (method, path) in [
        ("GET", "/api/cart"),
        ("POST", "/api/checkout"),
        ("GET", "/api/auth/me"),
        ("POST", "/api/auth/logout"),
        ("GET", "/api/users"),
        ("GET", "/api/api-keys"),
        ("GET", "/api/admin/actions"),
    ] {
        app.call(method, path).token(key).await.problem(403, "forbidden");
    }
    let valid = app.post("/api/auth/validate", &json!({"token": key})).await.ok();
    let expected = json!({"valid": true, "user_id": created["id"], "role": "staff"});
    assert_eq!(valid, expected);
}

#[tokio::test]
async fn feed_of_a_key_shows_what_its_scopes_read_and_ends_with_it() {
    let app = TestApp::start().await;
    let (admin, ada) = (app.admin().await, app.customer().await);
    let tea = app.new_product(&admin, &json!(4.5), 3).await;
    let created = create(&app, &admin, &json!(["orders:read"])).await;
    let robot = Account {
        id: created["id"].as_str().unwrap().to_owned(),
        email: String::new(),
        token: secret(&created).to_owned(),
        refresh_token: String::new(),
    };
    let ticket = app.call("POST", "/api/events/ticket").token(&robot).await.is(201).json();
    let by_ticket =
        format!("/api/events?types=order.*&ticket={}", ticket["ticket"].as_str().unwrap());
    let mut feeds = [
        app.open_feed_at("/api/events?types=order.*", Some(&robot), None).await,
        app.open_feed_at(&by_ticket, None, None).await,
    ];
    app.buy(&ada, &tea, 1).await;
    for feed in &mut feeds {
        assert_eq!(feed.next().await.kind, "order.placed");
    }
    let path = format!("/api/api-keys/{}", robot.id);
    app.delete(&path).token(&admin).await.is(204);
    app.buy(&ada, &tea, 1).await;
    for feed in &mut feeds {
        assert_eq!(feed.next_or_end().await, None);
    }
}

#[tokio::test]
async fn key_works_over_grpc_within_its_scopes() {
    let Some(client) = GrpcClient::find("the API keys of gRPC") else { return };
    let mut app = TestApp::with_settings(&[GRPC]).await;
    let admin = app.admin().await;
    let created = create(&app, &admin, &json!(["stock"])).await;
    let reader = create(&app, &admin, &json!(["stock:read"])).await;
    let keys = [("KEY", secret(&created)), ("READER", secret(&reader))];
    client.run(&mut app, "api_keys.py", &keys).await;
    let actor = format!("/api/admin/actions?actor={}", created["id"].as_str().unwrap());
    let actions = app.get(&actor).token(&admin).await.ok()["items"].clone();
    assert_eq!(actions.as_array().unwrap().len(), 1, "{actions}");
    assert_eq!(actions[0]["action"], "change_stock");
    assert_eq!(actions[0]["request_id"], "from-grpc");
    assert_eq!(actions[0]["version_after"], 2);
}
