//! Invalid access tokens, on every route that requires one.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::support::{
    Account, TestApp,
    tokens::{KNOWN_KEY, SECRET, claims, signed, unsigned, with_claims},
};

/// Every route that requires a token.
const ROUTES: &[(&str, &str)] = &[
    ("GET", "/api/cart"),
    ("DELETE", "/api/cart"),
    ("POST", "/api/cart/add"),
    ("PUT", "/api/cart/update"),
    ("DELETE", "/api/cart/remove/01a206bc-0609-7165-8b52-173bd2923daf"),
    ("POST", "/api/cart/merge"),
    ("GET", "/api/auth/me"),
    ("POST", "/api/auth/logout"),
    ("POST", "/api/auth/password"),
    ("POST", "/api/products"),
    ("PUT", "/api/products/01a206bc-0609-7165-8b52-173bd2923daf"),
    ("PATCH", "/api/products/01a206bc-0609-7165-8b52-173bd2923daf"),
    ("DELETE", "/api/products/01a206bc-0609-7165-8b52-173bd2923daf"),
    ("POST", "/api/products/01a206bc-0609-7165-8b52-173bd2923daf/stock"),
    ("GET", "/api/products/01a206bc-0609-7165-8b52-173bd2923daf/stock"),
    ("GET", "/api/products/01a206bc-0609-7165-8b52-173bd2923daf/stock/movements"),
    ("POST", "/api/products/import"),
    ("PATCH", "/api/auth/me"),
    ("GET", "/api/auth/sessions"),
    ("DELETE", "/api/auth/sessions"),
    ("DELETE", "/api/auth/sessions/01a206bc-0609-7165-8b52-173bd2923daf"),
    ("GET", "/api/users"),
    ("GET", "/api/users/01a206bc-0609-7165-8b52-173bd2923daf"),
    ("PATCH", "/api/users/01a206bc-0609-7165-8b52-173bd2923daf"),
];

/// The routes for admins only.
fn admin_routes() -> impl Iterator<Item = &'static (&'static str, &'static str)> {
    ROUTES.iter().filter(|(_, path)| path.starts_with("/api/products"))
}

fn claims_with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn claims_without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

/// Tokens that were never valid.
fn forgeries(ada: &Account) -> Vec<String> {
    let (start, last) = ada.token.split_at(ada.token.len() - 2);
    let key = EncodingKey::from_ed_pem(KNOWN_KEY.as_bytes()).unwrap();
    let mut forged = vec![
        String::new(),
        "none".into(),
        "..".into(),
        "a.b.c".into(),
        "x".repeat(7000),
        ada.refresh_token.clone(),
        format!("{start}{}", if last == "AA" { "BB" } else { "AA" }),
        ada.token.rsplit_once('.').unwrap().0.to_owned() + ".",
        ada.token.to_lowercase(),
        format!("{}.extra", ada.token),
        with_claims(&ada.token, |claims| claims["role"] = json!("admin")),
        with_claims(&ada.token, |claims| claims["exp"] = json!(4_000_000_000_u64)),
        jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &claims(), &key).unwrap(),
        signed(Algorithm::HS256, &claims(), ""),
        signed(Algorithm::HS256, &claims(), "secret"),
        signed(Algorithm::HS384, &claims(), SECRET),
        signed(Algorithm::HS512, &claims(), SECRET),
        signed(Algorithm::HS256, &claims_with("iss", json!("bazaar")), SECRET),
        signed(Algorithm::HS256, &claims_with("aud", json!("bazaar")), SECRET),
        signed(Algorithm::HS256, &claims_with("role", json!("root")), SECRET),
        signed(Algorithm::HS256, &claims_with("sub", json!("admin")), SECRET),
        signed(Algorithm::HS256, &claims_with("exp", json!("never")), SECRET),
    ];
    forged
        .extend(["none", "None", "NONE", "HS256"].map(|algorithm| unsigned(algorithm, &claims())));
    forged.extend(
        ["sub", "role", "sid", "exp", "iss", "aud"]
            .map(|name| signed(Algorithm::HS256, &claims_without(name), SECRET)),
    );
    forged
}

#[tokio::test]
async fn invalid_tokens_are_rejected_on_every_route() {
    let app = TestApp::with_settings(&[("auth.jwt_secret", SECRET)]).await;
    let ada = app.customer().await;
    let good = signed(Algorithm::HS256, &claims(), SECRET);
    app.get("/api/cart").token(&good).await.ok();
    for (method, path) in ROUTES {
        for token in forgeries(&ada) {
            let response = app.call(method, path).token(&token).await;
            assert_eq!(response.header("www-authenticate"), Some("Bearer"), "{token}: {response}");
            response.problem(401, "unauthenticated");
        }
        let bare = app.call(method, path).await;
        assert_eq!(bare.header("www-authenticate"), Some("Bearer"));
        bare.problem(401, "unauthenticated");
        for header in [
            "",
            "Bearer",
            "Bearer ",
            "Basic YTpi",
            &good,
            &format!("Token {good}"),
            &format!("Bearer{good}"),
        ] {
            app.call(method, path)
                .header("authorization", header)
                .await
                .problem(401, "unauthenticated");
        }
        let old = signed(Algorithm::HS256, &claims_with("exp", json!(1_000_000_000)), SECRET);
        app.call(method, path).token(&old).await.problem(401, "token_expired");
    }
    // The feed is public, but a listener with an invalid token would miss events unknowingly.
    for token in forgeries(&ada) {
        app.get("/api/events").token(&token).await.problem(401, "unauthenticated");
    }
    app.get("/api/cart").header("authorization", format!("bearer  {good}")).await.ok();
}

#[tokio::test]
async fn validate_reports_token_validity() {
    let app = TestApp::with_settings(&[("auth.jwt_secret", SECRET)]).await;
    let (ada, guest) = (app.customer().await, app.guest().await);
    let validate = |token: &str| app.post("/api/auth/validate", &json!({"token": token}));
    for (account, role) in [(&ada, "customer"), (&guest, "guest"), (&app.admin().await, "admin")] {
        let validity = validate(&account.token).await.ok();
        assert_eq!(
            (&validity["valid"], &validity["user_id"], &validity["role"]),
            (&json!(true), &json!(account.id), &json!(role))
        );
        assert!(
            validity["expires_at"].as_str().unwrap().ends_with('Z')
                && validity.as_object().unwrap().len() == 4,
            "{validity}"
        );
    }
    for token in forgeries(&ada) {
        assert_eq!(validate(&token).await.ok(), json!({"valid": false, "code": "unauthenticated"}));
    }
    let old = signed(Algorithm::HS256, &claims_with("exp", json!(1_000_000_000)), SECRET);
    assert_eq!(validate(&old).await.ok(), json!({"valid": false, "code": "token_expired"}));
    app.call("POST", "/api/auth/logout").token(&ada).await.is(204);
    assert_eq!(validate(&ada.token).await.ok(), json!({"valid": false, "code": "unauthenticated"}));
}

#[tokio::test]
async fn admin_routes_reject_guests_and_customers() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let tea = app.new_product(&admin, &json!(4.5), 10).await;
    let (ada, guest) = (app.customer().await, app.guest().await);
    let before = app.get(&format!("/api/products/{tea}")).await.is(200).text();
    for account in [&ada, &guest] {
        for (method, path) in admin_routes() {
            let path = path.replace("01a206bc-0609-7165-8b52-173bd2923daf", &tea);
            // Refused before the body is validated.
            app.call(method, &path).token(account).await.problem(403, "forbidden");
            let body = json!({
                "name": "Mine", "description": "", "price": 0, "stock": 0, "delta": -1,
                "reason": "r",
            });
            app.call(method, &path).token(account).json(&body).await.problem(403, "forbidden");
        }
    }
    assert_eq!(app.get(&format!("/api/products/{tea}")).await.is(200).text(), before);
    assert_eq!(app.get("/api/products").await.ok()["total"], 1);
}

#[tokio::test]
async fn guests_cannot_use_account_routes() {
    let app = TestApp::start().await;
    let (guest, other) = (app.guest().await, app.guest().await);
    app.get("/api/auth/me").token(&guest).await.problem(403, "forbidden");
    app.call("POST", "/api/auth/logout").token(&guest).await.problem(403, "forbidden");
    let password = json!({"current_password": "a password", "new_password": "another one"});
    app.post("/api/auth/password", &password).token(&guest).await.problem(403, "forbidden");
    app.merge_cart(&guest, &other).await.problem(403, "forbidden");
    app.merge_cart(&guest, &guest).await.problem(403, "forbidden");
    // Only a guest's token can be merged.
    let (ada, eve) = (app.customer().await, app.customer().await);
    app.merge_cart(&eve, &ada).await.problem(422, "validation_failed");
    app.merge_cart(&ada, &ada).await.problem(422, "validation_failed");
}

#[tokio::test]
async fn carts_are_private_to_their_owner() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let tea = app.new_product(&admin, &json!(4.5), 10).await;
    let (ada, eve) = (app.customer().await, app.customer().await);
    app.add_to_cart(&ada, &tea, 2).await.ok();
    let id = format!("?user_id={0}&id={0}&owner={0}", ada.id);
    app.get(&format!("/api/cart{id}")).token(&eve).await.problem(422, "validation_failed");
    let cart = app.get("/api/cart").token(&eve).header("x-user-id", &ada.id).await.ok();
    assert_eq!((&cart["user_id"], &cart["item_count"]), (&json!(eve.id), &json!(0)));
    app.delete("/api/cart").token(&eve).await.ok();
    app.delete(&format!("/api/cart/remove/{tea}")).token(&eve).await.problem(404, "line_not_found");
    app.update_cart(&eve, &tea, 1).await.problem(404, "line_not_found");
    // An admin has a cart as well, and no access to others.
    app.get(&format!("/api/cart{id}")).token(&admin).await.problem(422, "validation_failed");
    assert_eq!(app.cart(&admin).await["item_count"], 0);
    assert_eq!(app.cart(&ada).await["item_count"], 2);
}

#[tokio::test]
async fn private_catalog_accepts_any_valid_token() {
    let app = TestApp::with_settings(&[("catalog.public_read", "false")]).await;
    let admin = app.admin().await;
    let tea = app.new_product(&admin, &json!(4.5), 10).await;
    for path in [
        "/api/products".to_owned(),
        "/api/products/suggest?q=mint".to_owned(),
        format!("/api/products/{tea}"),
    ] {
        app.get(&path).await.problem(401, "unauthenticated");
        app.get(&path).token(&app.guest().await).await.ok();
        app.get(&path).token(&app.customer().await).await.ok();
    }
}
