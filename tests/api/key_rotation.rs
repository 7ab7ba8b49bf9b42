//! Signing keys are replaced step by step, and nobody notices: docs/operations.md has the steps.

use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};

use crate::{
    signatures::verify_token,
    support::{Account, TestApp, tokens::KNOWN_KEY},
};

const OLD_SECRET: &str = "the old secret, only used in tests";
const NEW_SECRET: &str = "the new secret, only used in tests";

const SECOND_KEY: &str = "-----BEGIN PRIVATE KEY-----\n\
    MC4CAQAwBQYDK2VwBCIEIPxBRcqU8hUYXOMX3IgtGV/npp/MUvGIT2XsayFw6q5d\n\
    -----END PRIVATE KEY-----\n";

/// Restarts the shop with other settings, as each of its nodes is.
async fn restart_with(app: &mut TestApp, settings: &[(&str, &str)]) {
    app.stop().await;
    settings.iter().for_each(|(key, value)| app.set(key, value));
    app.restart().await;
}

async fn refresh(app: &TestApp, account: &Account) -> Account {
    let body = json!({"refresh_token": account.refresh_token});
    Account::from_session(&app.post("/api/auth/refresh", &body).await.ok())
}

fn is_signed_with(account: &Account, secret: &str) -> bool {
    let mut validation = Validation::new(Algorithm::HS256);
    validation.set_audience(&["souk"]);
    let key = DecodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::decode::<Value>(&account.token, &key, &validation).is_ok()
}

/// Fails so many logins from this machine's address that it may have no more.
async fn exhaust_the_address(app: &TestApp, limit: usize) {
    let body = json!({"email": "nobody@souk.example", "password": "wrong password"});
    for _ in 0..limit {
        app.post("/api/auth/login", &body).await.problem(401, "invalid_credentials");
    }
    app.post("/api/auth/login", &body).await.problem(429, "rate_limited");
}

#[tokio::test]
async fn tokens_tickets_and_known_networks_survive_a_rotation_of_the_secret() {
    let settings = [("auth.jwt_secret", OLD_SECRET), ("limits.login", "2")];
    let mut app = TestApp::with_settings(&settings).await;
    let (ada, guest) = (app.customer().await, app.guest().await);
    // Step 1: every node accepts the new secret.
    restart_with(&mut app, &[("auth.second_jwt_secret", NEW_SECRET)]).await;
    app.get("/api/auth/me").token(&ada).await.ok();
    let bob = app.customer().await;
    assert!(is_signed_with(&bob, OLD_SECRET) && !is_signed_with(&bob, NEW_SECRET));
    let ticket = app.call("POST", "/api/events/ticket").token(&bob).await.is(201).json();
    // Step 2: every node signs with it.
    let swapped = [("auth.jwt_secret", NEW_SECRET), ("auth.second_jwt_secret", OLD_SECRET)];
    restart_with(&mut app, &swapped).await;
    app.get("/api/auth/me").token(&ada).await.ok();
    app.get("/api/cart").token(&guest).await.ok();
    let feed = format!("/api/events?ticket={}", ticket["ticket"].as_str().unwrap());
    assert_eq!(app.get(&feed).send_streaming().await.status(), 200);
    let renewed = refresh(&app, &ada).await;
    assert!(is_signed_with(&renewed, NEW_SECRET) && !is_signed_with(&renewed, OLD_SECRET));
    let repeated = refresh(&app, &ada).await;
    assert_eq!(repeated.refresh_token, renewed.refresh_token, "the answer was lost");
    exhaust_the_address(&app, 2).await;
    // Bob registered here under the old secret, so others' failures do not lock him out.
    app.login(&bob.email, crate::support::PASSWORD).await;
    // Step 3: the old secret is gone, and what only it has signed with it.
    restart_with(&mut app, &[("auth.second_jwt_secret", "")]).await;
    app.get("/api/auth/me").token(&renewed).await.ok();
    refresh(&app, &renewed).await;
    for token in [&ada.token, &guest.token] {
        app.get("/api/cart").token(token).await.problem(401, "unauthenticated");
    }
    let body = json!({"refresh_token": bob.refresh_token});
    app.post("/api/auth/refresh", &body).await.problem(401, "unauthenticated");
}

#[tokio::test]
async fn answer_that_was_lost_before_the_rotation_is_repeated_after_it() {
    let both = [("auth.jwt_secret", OLD_SECRET), ("auth.second_jwt_secret", NEW_SECRET)];
    let mut app = TestApp::with_settings(&both).await;
    let ada = app.customer().await;
    let lost = refresh(&app, &ada).await;
    let swapped = [("auth.jwt_secret", NEW_SECRET), ("auth.second_jwt_secret", OLD_SECRET)];
    restart_with(&mut app, &swapped).await;
    let repeated = refresh(&app, &ada).await;
    assert_eq!(repeated.refresh_token, lost.refresh_token);
    refresh(&app, &repeated).await;
    // By then the successor was used: this is a thief, or the owner after one.
    let body = json!({"refresh_token": ada.refresh_token});
    app.post("/api/auth/refresh", &body).await.problem(401, "unauthenticated");
}

/// The key ids in the published key set.
fn key_ids(keys: &Value) -> Vec<String> {
    let keys = keys["keys"].as_array().unwrap().iter();
    keys.map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn both_ed25519_keys_are_published_and_accepted_during_a_rotation() {
    let mut app = TestApp::unstarted(&[]);
    let (old, new) = (app.write("old.pem", KNOWN_KEY), app.write("new.pem", SECOND_KEY));
    let (old, new) = (old.to_str().unwrap(), new.to_str().unwrap());
    let (first, second) = ("auth.ed25519_key_file", "auth.second_ed25519_key_file");
    app.set(first, old);
    app.restart().await;
    let keys = async |app: &TestApp| app.get("/.well-known/jwks.json").await.ok();
    let old_id = key_ids(&keys(&app).await);
    let ada = app.customer().await;
    restart_with(&mut app, &[(second, new)]).await;
    let before = keys(&app).await;
    assert!(key_ids(&before).len() == 2 && key_ids(&before)[..1] == old_id[..]);
    verify_token(&before, &app.customer().await.token);
    restart_with(&mut app, &[(first, new), (second, old)]).await;
    let after = keys(&app).await;
    let mut turned = key_ids(&after);
    turned.reverse();
    assert_eq!(turned, key_ids(&before));
    app.get("/api/auth/me").token(&ada).await.ok();
    let bob = app.customer().await;
    // Whoever fetched the keys at any time of the rotation can check the tokens of all of it.
    for (keys, account) in [(&before, &ada), (&before, &bob), (&after, &ada), (&after, &bob)] {
        assert_eq!(verify_token(keys, &account.token)["sub"], json!(account.id));
    }
    restart_with(&mut app, &[(second, "")]).await;
    assert_eq!(key_ids(&keys(&app).await), key_ids(&after)[..1]);
    app.get("/api/auth/me").token(&bob).await.ok();
    app.get("/api/auth/me").token(&ada).await.problem(401, "unauthenticated");
}
