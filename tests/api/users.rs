//! Accounts as staff sees and changes them.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::{ADMIN_EMAIL, ADMIN_PASSWORD, Account, PASSWORD, TestApp};

fn path(user: &Account) -> String {
    format!("/api/users/{}", user.id)
}

#[tokio::test]
async fn account_looks_the_same_to_its_owner_and_to_staff() {
    let app = TestApp::start().await;
    let (admin, ada) = (app.admin().await, app.customer().await);
    let seen = app.get(&path(&ada)).token(&admin).await.is(200);
    let own = app.get("/api/auth/me").token(&ada).await.is(200);
    assert_eq!((seen.json(), seen.etag()), (own.json(), own.etag()));
    let user = own.json();
    let names: BTreeSet<&str> = user.as_object().unwrap().keys().map(String::as_str).collect();
    let wanted = [
        "id",
        "email",
        "name",
        "role",
        "scopes",
        "blocked",
        "email_verified",
        "version",
        "created_at",
        "last_login_at",
    ];
    assert_eq!(names, wanted.into());
    assert_eq!((&user["scopes"], &user["blocked"]), (&json!([]), &json!(false)));
    assert_eq!(user["last_login_at"], user["created_at"], "registering logs in");
    assert_eq!(own.etag(), format!("\"{}\"", user["version"]));
    app.get("/api/auth/me").token(&ada).header("if-none-match", own.etag()).await.is(304);
    app.login(&ada.email, PASSWORD).await;
    let later = app.get(&path(&ada)).token(&admin).await.ok();
    assert!(later["last_login_at"].as_str() > user["last_login_at"].as_str(), "{later}");
    assert!(later["version"].as_u64() > user["version"].as_u64(), "{later}");
    for missing in ["01a206bc-0609-7165-8b52-173bd2923daf", "ada"] {
        let missing = format!("/api/users/{missing}");
        app.get(&missing).token(&admin).await.problem(404, "user_not_found");
        let change = app.patch(&missing, &json!({"blocked": true})).token(&admin).await;
        change.problem(404, "user_not_found");
    }
}

#[tokio::test]
async fn change_counts_a_version_and_is_made_once() {
    let app = TestApp::start().await;
    let (admin, ada) = (app.admin().await, app.customer().await);
    let before = app.get(&path(&ada)).token(&admin).await.is(200);
    let change = json!({"role": "staff", "scopes": ["orders:read", "stock", "stock"]});
    let patch = || app.patch(&path(&ada), &change).token(&admin);
    let after = patch().key("hire").header("if-match", before.etag()).await.is(200);
    assert_eq!(after.json()["scopes"], json!(["stock", "orders:read"]));
    assert_eq!(after.json()["version"], before.json()["version"].as_u64().unwrap() + 1);
    patch().header("if-match", before.etag()).await.problem(412, "version_mismatch");
    let again = patch().key("hire").header("if-match", before.etag()).await.is(200);
    assert!(again.is_replayed());
    assert_eq!(again.json(), after.json());
    // What changes nothing has no version and no event.
    assert_eq!(patch().await.ok(), after.json());
    assert_eq!(app.patch(&path(&ada), &json!({})).token(&admin).await.ok(), after.json());
    let other = json!({"role": "customer"});
    let reused = app.patch(&path(&ada), &other).token(&admin).key("hire").await;
    reused.problem(422, "idempotency_key_reused");
    assert_eq!(app.patch(&path(&ada), &other).token(&admin).await.ok()["scopes"], json!([]));
    let mut feed = app.open_whole_feed(Some(&admin)).await;
    let mut changes = Vec::new();
    while changes.len() < 2 {
        let event = feed.next().await;
        if event.kind == "auth.rights.changed" {
            assert_eq!(event.subject(), ada.id);
            changes.push(event.body["data"].clone());
        }
    }
    let data = |role: &str, scopes: Value| {
        let user_id = &ada.id;
        json!({"user_id": user_id, "role": role, "scopes": scopes, "blocked": false})
    };
    let wanted = [data("staff", json!(["stock", "orders:read"])), data("customer", json!([]))];
    assert_eq!(changes, wanted, "and no e-mail address");
}

#[tokio::test]
async fn invalid_change_is_rejected() {
    let app = TestApp::start().await;
    let (admin, ada) = (app.admin().await, app.customer().await);
    for (change, field) in [
        (json!({"role": "guest"}), "role"),
        (json!({"role": "owner"}), "role"),
        (json!({"role": "staff", "scopes": ["stock", "moon"]}), "scopes[1]"),
        (json!({"scopes": []}), "scopes"),
        (json!({"role": "admin", "scopes": ["stock"]}), "scopes"),
        (json!({"email": "eve@souk.example"}), "email"),
    ] {
        let refused = app.patch(&path(&ada), &change).token(&admin).await;
        let problem = refused.problem(422, "validation_failed");
        assert_eq!(problem["errors"][0]["field"], field, "{change}");
    }
    let before = app.get(&path(&ada)).token(&admin).await.ok();
    assert_eq!((&before["role"], &before["version"]), (&json!("customer"), &json!(1)));
    // Not even staff who may change customers.
    let staff = json!({"role": "staff", "scopes": ["customers"]});
    app.patch(&path(&ada), &staff).token(&admin).await.ok();
    app.patch(&path(&ada), &json!({"role": "admin"})).token(&ada).await.problem(403, "forbidden");
}

#[tokio::test]
async fn blocked_account_can_do_nothing() {
    let app = TestApp::start().await;
    let (admin, ada) = (app.admin().await, app.customer().await);
    let phone = app.login(&ada.email, PASSWORD).await;
    let ticket = app.call("POST", "/api/events/ticket").token(&ada).await.is(201).json();
    let ticket = format!("/api/events?ticket={}", ticket["ticket"].as_str().unwrap());
    let blocked = app.patch(&path(&ada), &json!({"blocked": true})).token(&admin).await.ok();
    assert_eq!(blocked["blocked"], true);
    let login = |password: &str| json!({"email": ada.email, "password": password});
    for session in [&ada, &phone] {
        app.get("/api/cart").token(session).await.problem(401, "account_blocked");
        app.get("/api/auth/me").token(session).await.problem(401, "account_blocked");
        let refresh = json!({"refresh_token": session.refresh_token});
        app.post("/api/auth/refresh", &refresh).await.problem(401, "account_blocked");
        let validity = app.post("/api/auth/validate", &json!({"token": session.token})).await.ok();
        assert_eq!(validity, json!({"valid": false, "code": "account_blocked"}));
    }
    app.get(&ticket).await.problem(401, "ticket_invalid");
    app.post("/api/auth/login", &login(PASSWORD)).await.problem(403, "account_blocked");
    app.post("/api/auth/login", &login("wrong")).await.problem(401, "invalid_credentials");
    // The end of the block brings no session back.
    app.patch(&path(&ada), &json!({"blocked": false})).token(&admin).await.ok();
    for session in [&ada, &phone] {
        app.get("/api/cart").token(session).await.problem(401, "unauthenticated");
        let refresh = json!({"refresh_token": session.refresh_token});
        app.post("/api/auth/refresh", &refresh).await.problem(401, "unauthenticated");
    }
    let back = app.login(&ada.email, PASSWORD).await;
    app.get("/api/cart").token(&back).await.ok();
}

#[tokio::test]
async fn one_admin_always_remains() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    for change in [json!({"role": "customer"}), json!({"role": "staff"}), json!({"blocked": true})]
    {
        app.patch(&path(&admin), &change).token(&admin).await.problem(409, "last_admin");
    }
    let ada = app.customer().await;
    for round in 0..10 {
        app.patch(&path(&ada), &json!({"role": "admin"})).token(&admin).await.ok();
        let change =
            if round % 2 == 0 { json!({"role": "customer"}) } else { json!({"blocked": true}) };
        let changes = [&ada, &admin].map(|user| app.patch(&path(user), &change).token(user));
        let mut codes: Vec<u16> = join_all(changes.map(IntoFuture::into_future))
            .await
            .into_iter()
            .map(|response| response.status)
            .collect();
        codes.sort_unstable();
        // The loser may have lost its rights before its request was read.
        assert_eq!(codes[0], 200, "{codes:?}");
        assert!([401, 403, 409].contains(&codes[1]), "{codes:?}");
        // Whoever is left puts the other one back.
        let who = app.get("/api/users?role=admin&blocked=false").token(&admin).await;
        let (left, gone) = if who.status == 200 { (&admin, &ada) } else { (&ada, &admin) };
        let back = json!({"role": "admin", "blocked": false});
        let left = app.login(&left.email, password_of(left)).await;
        app.patch(&path(gone), &back).token(&left).await.ok();
        let admin_again = app.login(ADMIN_EMAIL, ADMIN_PASSWORD).await;
        assert_eq!(admin_again.id, admin.id);
        if round % 2 == 1 {
            // A block has ended the sessions that this test goes on with.
            return;
        }
    }
}

fn password_of(user: &Account) -> &'static str {
    if user.email == ADMIN_EMAIL { ADMIN_PASSWORD } else { PASSWORD }
}

#[tokio::test]
async fn list_is_narrowed_and_paged() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let mut ids = Vec::new();
    for (email, name) in [
        ("ada.lovelace@souk.example", "Ada Lovelace"),
        ("grace@souk.example", "Grace Brewster Hopper"),
        ("zoe@navy.example", "\u{d6}zge Zo\u{eb}"),
    ] {
        let body = json!({"email": email, "password": PASSWORD, "name": name});
        let user = app.post("/api/auth/register", &body).await.is(201).json();
        ids.push(user["user"]["id"].as_str().unwrap().to_owned());
    }
    let find = async |query: &str| {
        let page = app.get(&format!("/api/users?{query}")).token(&admin).await.ok();
        assert_eq!(page["next_cursor"], Value::Null);
        let name = |user: &Value| user["name"].as_str().unwrap().split(' ').next().unwrap().into();
        page["items"].as_array().unwrap().iter().map(name).collect::<Vec<String>>()
    };
    for (query, names) in [
        ("q=lovel", &["Ada"][..]),
        ("q=HOPPER", &["Grace"]),
        ("q=ove", &[]),
        ("q=gr+brew", &["Grace"]),
        ("q=ada.love", &["Ada"]),
        ("q=navy", &["\u{d6}zge"]),
        ("q=%C3%B6z", &["\u{d6}zge"]),
        ("email=Grace@SOUK.example", &["Grace"]),
        ("email=race@souk.example", &[]),
        ("role=admin", &["Administrator"]),
        ("role=staff", &[]),
        ("role=customer", &["\u{d6}zge", "Grace", "Ada"]),
        ("blocked=true", &[]),
        ("role=customer&blocked=false&q=souk", &["Grace", "Ada"]),
    ] {
        assert_eq!(find(query).await, names, "{query}");
    }
    for query in ["role=guest", "role=", "blocked=yes", "email=ada", "q=", "limit=0", "cursor=x"] {
        let refused = app.get(&format!("/api/users?{query}")).token(&admin).await;
        refused.problem(422, "validation_failed");
    }
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = app.get(&format!("/api/users?limit=2{cursor}")).token(&admin).await.ok();
        let items = page["items"].as_array().unwrap().clone();
        found.extend(items.iter().map(|user| user["id"].as_str().unwrap().to_owned()));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    ids.reverse();
    ids.push(admin.id.clone());
    assert_eq!(found, ids, "newest first");
}
