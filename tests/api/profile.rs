//! What people see and change of their own account: name, e-mail address and sessions.

use serde_json::{Value, json};

use crate::support::{Account, Cli, PASSWORD, TestApp, unique_email};

fn me(app: &TestApp, account: &Account, change: &Value) -> crate::support::Call {
    app.patch("/api/auth/me", change).token(account)
}

#[tokio::test]
async fn name_changes_without_and_email_with_the_password() {
    let app = TestApp::with_settings(&[("limits.login", "4")]).await;
    let (ada, bob) = (app.customer().await, app.customer().await);
    let before = app.get("/api/auth/me").token(&ada).await.is(200);
    let renamed = me(&app, &ada, &json!({"name": "Ada L."})).await.is(200);
    assert_eq!(renamed.json()["name"], "Ada L.");
    assert_eq!(renamed.json()["version"], before.json()["version"].as_u64().unwrap() + 1);
    assert_eq!(me(&app, &ada, &json!({"name": "Ada L."})).await.ok(), renamed.json());
    let late = me(&app, &ada, &json!({"name": "A"})).header("if-match", before.etag()).await;
    late.problem(412, "version_mismatch");
    let email = unique_email();
    let problem = me(&app, &ada, &json!({"email": email})).await.problem(422, "validation_failed");
    assert_eq!(problem["errors"][0]["field"], "current_password");
    let wrong = json!({"email": email, "current_password": "wrong"});
    me(&app, &ada, &wrong).await.problem(401, "invalid_credentials");
    let taken = json!({"email": bob.email, "current_password": PASSWORD});
    me(&app, &ada, &taken).await.problem(409, "email_taken");
    for invalid in [
        json!({"name": ""}),
        json!({"email": "ada", "current_password": PASSWORD}),
        json!({"role": "admin"}),
    ] {
        me(&app, &ada, &invalid).await.problem(422, "validation_failed");
    }
    let change = json!({"email": email, "current_password": PASSWORD});
    let changed = me(&app, &ada, &change).await.ok();
    assert_eq!((&changed["email"], &changed["name"]), (&json!(email), &json!("Ada L.")));
    assert_eq!(app.get("/api/auth/me").token(&ada).await.ok(), changed);
    assert_eq!(app.login(&email, PASSWORD).await.id, ada.id);
    let old = json!({"email": ada.email, "password": PASSWORD});
    app.post("/api/auth/login", &old).await.problem(401, "invalid_credentials");
    // The old address is free again.
    let body = json!({"email": ada.email, "password": PASSWORD, "name": "New"});
    app.post("/api/auth/register", &body).await.is(201);
    // A wrong password counts as a failed login.
    let wrong = json!({"email": unique_email(), "current_password": "wrong"});
    for _ in 0..4 {
        me(&app, &ada, &wrong).await.problem(401, "invalid_credentials");
    }
    let refused = me(&app, &ada, &wrong).await;
    assert!(refused.header("retry-after").is_some());
    refused.problem(429, "rate_limited");
    me(&app, &app.guest().await, &json!({"name": "G"})).await.problem(403, "forbidden");
}

#[tokio::test]
async fn sessions_are_listed_and_ended() {
    let app = TestApp::start().await;
    let (ada, bob) = (app.customer().await, app.customer().await);
    let body = json!({"email": ada.email, "password": PASSWORD});
    let login = app.post("/api/auth/login", &body).header("user-agent", "Phone/1.0").await;
    let phone = Account::from_session(&login.ok());
    let long = "x".repeat(5000);
    let login = app.post("/api/auth/login", &body).header("user-agent", &long).await;
    let tablet = Account::from_session(&login.ok());
    let sessions = async |account: &Account| {
        app.get("/api/auth/sessions").token(account).await.ok()["items"].clone()
    };
    let found = sessions(&phone).await;
    let text = |index: usize, name: &str| found[index][name].as_str().unwrap().to_owned();
    assert_eq!(found.as_array().unwrap().len(), 3, "newest first");
    assert_eq!(text(0, "user_agent"), "x".repeat(200));
    assert_eq!(
        (text(1, "user_agent"), text(1, "address")),
        ("Phone/1.0".into(), "127.0.0.1".into())
    );
    let current: Vec<bool> =
        found.as_array().unwrap().iter().map(|one| one["current"].as_bool().unwrap()).collect();
    assert_eq!(current, [false, true, false]);
    let refresh = json!({"refresh_token": phone.refresh_token});
    let phone = Account::from_session(&app.post("/api/auth/refresh", &refresh).await.ok());
    let later = sessions(&phone).await;
    assert!(later[1]["last_used_at"].as_str() > found[1]["last_used_at"].as_str(), "{later}");
    assert_eq!(later[1]["created_at"], found[1]["created_at"]);
    // Pages.
    let page = app.get("/api/auth/sessions?limit=2").token(&phone).await.ok();
    let cursor = page["next_cursor"].as_str().unwrap();
    let rest = app.get(&format!("/api/auth/sessions?cursor={cursor}")).token(&phone).await.ok();
    assert_eq!((&rest["items"][0]["id"], &rest["next_cursor"]), (&found[2]["id"], &Value::Null));
    // One session.
    let tablet_path = format!("/api/auth/sessions/{}", text(0, "id"));
    app.delete(&tablet_path).token(&bob).await.problem(404, "session_not_found");
    app.delete(&tablet_path).token(&phone).await.is(204);
    app.get("/api/cart").token(&tablet).await.problem(401, "unauthenticated");
    app.delete(&tablet_path).token(&phone).await.problem(404, "session_not_found");
    for missing in ["tablet", "01a206bc-0609-7165-8b52-173bd2923daf"] {
        let path = format!("/api/auth/sessions/{missing}");
        app.delete(&path).token(&phone).await.problem(404, "session_not_found");
    }
    // All but the current one.
    for _ in 0..2 {
        app.delete("/api/auth/sessions").token(&phone).await.is(204);
        assert_eq!(sessions(&phone).await.as_array().unwrap().len(), 1);
    }
    app.get("/api/cart").token(&ada).await.problem(401, "unauthenticated");
    app.get("/api/cart").token(&bob).await.ok();
}

#[tokio::test]
async fn operator_resets_a_password() {
    let mut app = TestApp::start().await;
    let (admin, ada) = (app.admin().await, app.customer().await);
    let path = format!("/api/users/{}", ada.id);
    app.patch(&path, &json!({"blocked": true})).token(&admin).await.ok();
    let phone = app.customer().await;
    app.stop().await;
    let reset = |email: &str| Cli::run(app.command().args(["admin", email, "--reset-password"]));
    let unknown = reset("nobody@souk.example");
    assert_eq!((unknown.code, &*unknown.stdout), (1, ""), "{unknown:?}");
    let mut passwords = Vec::new();
    for account in [&ada, &phone] {
        let printed = reset(&account.email.to_uppercase()).ok();
        let password = printed.trim_end().rsplit(' ').next().unwrap().to_owned();
        assert!(password.len() >= 16 && printed.contains(&account.email), "{printed}");
        passwords.push(password);
    }
    let both = ["admin", &ada.email, "--reset-password", "--password-stdin"];
    assert_eq!(Cli::run(app.command().args(both)).code, 2);
    app.restart().await;
    for (account, password) in [&ada, &phone].into_iter().zip(&passwords) {
        app.get("/api/cart").token(account).await.problem(401, "unauthenticated");
        let refresh = json!({"refresh_token": account.refresh_token});
        app.post("/api/auth/refresh", &refresh).await.problem(401, "unauthenticated");
        let old = json!({"email": account.email, "password": PASSWORD});
        app.post("/api/auth/login", &old).await.problem(401, "invalid_credentials");
        let again = app.login(&account.email, password).await;
        let user = app.get("/api/auth/me").token(&again).await.ok();
        assert_eq!((&user["role"], &user["blocked"]), (&json!("customer"), &json!(false)));
    }
}
