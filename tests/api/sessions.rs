//! Sessions: refresh, reuse, logout and revocation.

use std::{collections::BTreeSet, future::IntoFuture};

use futures_util::future::join_all;
use serde_json::json;

use crate::support::{Account, Call, PASSWORD, TestApp};

fn refresh(app: &TestApp, token: &str) -> Call {
    app.post("/api/auth/refresh", &json!({"refresh_token": token}))
}

async fn assert_ended(app: &TestApp, session: &Account) {
    app.get("/api/auth/me").token(session).await.problem(401, "unauthenticated");
    app.get("/api/cart").token(session).await.problem(401, "unauthenticated");
    refresh(app, &session.refresh_token).await.problem(401, "unauthenticated");
}

async fn assert_active(app: &TestApp, session: &Account) {
    assert_eq!(app.get("/api/auth/me").token(session).await.ok()["id"], session.id);
}

#[tokio::test]
async fn refresh_token_works_once_and_reuse_ends_the_session() {
    let app = TestApp::start().await;
    let first = app.customer().await;
    let mut seen = BTreeSet::from([first.refresh_token.clone(), first.token.clone()]);
    let mut session = first.clone();
    for _ in 0..3 {
        let next = refresh(&app, &session.refresh_token).await.is(200);
        assert_eq!(next.header("cache-control"), Some("no-store"), "tokens are not cached");
        let next = next.json();
        assert_eq!(
            (&next["user"]["id"], &next["expires_in"], &next["cart_merged"]),
            (&json!(first.id), &json!(900), &json!(false))
        );
        session = Account::from_session(&next);
        assert!(seen.insert(session.refresh_token.clone()) && seen.insert(session.token.clone()));
        assert_active(&app, &session).await;
    }
    // Earlier access tokens stay valid until they expire.
    assert_active(&app, &first).await;
    let other = app.login(&first.email, PASSWORD).await;
    // A reused refresh token may be stolen by either of its two users, so the whole session ends.
    refresh(&app, &first.refresh_token).await.problem(401, "unauthenticated");
    assert_ended(&app, &session).await;
    assert_ended(&app, &first).await;
    assert_active(&app, &other).await;
    assert_eq!(Account::from_session(&refresh(&app, &other.refresh_token).await.ok()).id, first.id);
}

#[tokio::test]
async fn lost_refresh_response_can_be_repeated() {
    let mut app = TestApp::start().await;
    let session = app.customer().await;
    let next = Account::from_session(&refresh(&app, &session.refresh_token).await.ok());
    app.kill_9().await;
    app.restart().await;
    let again = Account::from_session(&refresh(&app, &session.refresh_token).await.ok());
    assert_eq!(again.refresh_token, next.refresh_token);
    assert_ne!(again.token, next.token, "it has an access token of its own");
    for session in [&session, &next, &again] {
        assert_active(&app, session).await;
    }
    // The successor, once used, ends the grace: whoever repeats the old token now gets nothing.
    let last = Account::from_session(&refresh(&app, &again.refresh_token).await.ok());
    refresh(&app, &session.refresh_token).await.problem(401, "unauthenticated");
    assert_ended(&app, &last).await;
}

#[tokio::test]
async fn concurrent_refreshes_get_the_same_token() {
    let app = TestApp::start().await;
    let session = app.customer().await;
    let tabs = join_all((0..20).map(|_| refresh(&app, &session.refresh_token).into_future())).await;
    let tabs: Vec<_> = tabs.into_iter().map(|tab| Account::from_session(&tab.ok())).collect();
    let tokens: BTreeSet<_> = tabs.iter().map(|tab| &tab.token).collect();
    assert_eq!(tokens.len(), 20);
    for tab in &tabs {
        assert_eq!(tab.refresh_token, tabs[0].refresh_token);
        assert_active(&app, tab).await;
    }
    refresh(&app, &tabs[0].refresh_token).await.is(200);
}

#[tokio::test]
async fn concurrent_refreshes_without_grace_end_the_session() {
    let app = TestApp::with_settings(&[("auth.refresh_grace", "0s")]).await;
    let session = app.customer().await;
    let responses =
        join_all((0..20).map(|_| refresh(&app, &session.refresh_token).into_future())).await;
    let (won, lost): (Vec<_>, Vec<_>) =
        responses.into_iter().partition(|response| response.status == 200);
    assert!(won.len() <= 1, "{} refreshes succeeded", won.len());
    for response in lost {
        response.problem(401, "unauthenticated");
    }
    for response in won {
        assert_ended(&app, &Account::from_session(&response.json())).await;
    }
    assert_ended(&app, &session).await;
}

#[tokio::test]
async fn invalid_refresh_tokens_are_rejected() {
    let app = TestApp::start().await;
    let session = app.customer().await;
    let token = &session.refresh_token;
    let changed =
        format!("{}{}", &token[..token.len() - 1], if token.ends_with('A') { "B" } else { "A" });
    let bad = [
        "",
        "x",
        &session.token,
        &changed,
        &format!("{token}="),
        &format!("{token}A"),
        &token.to_lowercase(),
        &"A".repeat(64),
    ];
    for bad in bad {
        refresh(&app, bad).await.problem(401, "unauthenticated");
    }
    // An invented token cannot end a session.
    assert_active(&app, &session).await;
    refresh(&app, token).await.is(200);
}

#[tokio::test]
async fn logout_ends_the_session_immediately() {
    let mut app = TestApp::start().await;
    let ended = app.customer().await;
    let other = app.login(&ended.email, PASSWORD).await;
    let renewed = Account::from_session(&refresh(&app, &ended.refresh_token).await.ok());
    assert!(app.call("POST", "/api/auth/logout").token(&ended).await.is(204).body.is_empty());
    for session in [&ended, &renewed] {
        assert_ended(&app, session).await;
        app.call("POST", "/api/auth/logout").token(session).await.problem(401, "unauthenticated");
    }
    assert_active(&app, &other).await;
    for crash in [false, true] {
        if crash {
            app.kill_9().await
        } else {
            drop(app.stop().await)
        }
        app.restart().await;
        assert_ended(&app, &ended).await;
        assert_ended(&app, &renewed).await;
        assert_active(&app, &other).await;
    }
    refresh(&app, &other.refresh_token).await.is(200);
}

#[tokio::test]
async fn password_change_ends_the_other_sessions() {
    let app = TestApp::start().await;
    let session = app.customer().await;
    let (other, third) =
        (app.login(&session.email, PASSWORD).await, app.login(&session.email, PASSWORD).await);
    let change = |current: &str, new: &str| {
        app.post("/api/auth/password", &json!({"current_password": current, "new_password": new}))
            .token(&session)
    };
    change("not the password", "a new password").await.problem(401, "invalid_credentials");
    change(PASSWORD, "short").await.problem(422, "validation_failed");
    change(PASSWORD, &"x".repeat(72)).await.problem(422, "validation_failed");
    assert_active(&app, &other).await;
    assert!(change(PASSWORD, "a new password").await.is(204).body.is_empty());
    assert_ended(&app, &other).await;
    assert_ended(&app, &third).await;
    assert_active(&app, &session).await;
    refresh(&app, &session.refresh_token).await.is(200);
    let login = |password: &str| {
        app.post("/api/auth/login", &json!({"email": session.email, "password": password}))
    };
    login(PASSWORD).await.problem(401, "invalid_credentials");
    login("a new password").await.is(200);
    // Once its session is over, a stolen token cannot be used to lock the owner out.
    let change = json!({"current_password": "a new password", "new_password": "the thief's own"});
    app.post("/api/auth/password", &change).token(&other).await.problem(401, "unauthenticated");
}

#[tokio::test]
async fn concurrent_logins_create_separate_sessions() {
    let app = TestApp::start().await;
    let ada = app.customer().await;
    let sessions = join_all((0..10).map(|_| app.login(&ada.email, PASSWORD))).await;
    let tokens: BTreeSet<_> = sessions.iter().map(|session| &session.refresh_token).collect();
    assert_eq!(tokens.len(), 10);
    for session in &sessions {
        assert_active(&app, session).await;
    }
    let ends = sessions
        .iter()
        .map(|session| app.call("POST", "/api/auth/logout").token(session).into_future());
    for end in join_all(ends).await {
        end.is(204);
    }
    for session in &sessions {
        assert_ended(&app, session).await;
    }
    assert_active(&app, &ada).await;
}
