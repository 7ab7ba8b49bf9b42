//! Access tokens that third parties can verify: Ed25519 keys and their publication.

use std::process::Command;

use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation, jwk::JwkSet};
use serde_json::{Value, json};

use crate::support::{
    Cli, TestApp,
    tokens::{KNOWN_KEY, SECRET, claims, signed},
};

/// A fresh key, or the known one without openssl.
fn ed25519_key_pem() -> String {
    match Command::new("openssl").args(["genpkey", "-algorithm", "ed25519"]).output() {
        Ok(output) if output.status.success() => String::from_utf8(output.stdout).unwrap(),
        _ => KNOWN_KEY.to_owned(),
    }
}

pub(crate) fn verify_token(app_keys: &Value, token: &str) -> Value {
    let keys: JwkSet = serde_json::from_value(app_keys.clone()).unwrap();
    let header: Header = jsonwebtoken::decode_header(token).unwrap();
    let key = keys.find(&header.kid.unwrap()).unwrap();
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.set_audience(&["souk"]);
    jsonwebtoken::decode::<Value>(token, &DecodingKey::from_jwk(key).unwrap(), &validation)
        .unwrap()
        .claims
}

#[tokio::test]
async fn published_key_verifies_tokens() {
    let key_file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(key_file.path(), ed25519_key_pem()).unwrap();
    let settings =
        [("auth.ed25519_key_file", key_file.path().to_str().unwrap()), ("auth.jwt_secret", SECRET)];
    let mut app = TestApp::with_settings(&settings).await;
    let keys = app.get("/.well-known/jwks.json").await.ok();
    assert_eq!(keys["keys"].as_array().unwrap().len(), 1);
    let published = &keys["keys"][0];
    assert_eq!(
        (&published["kty"], &published["crv"], &published["alg"]),
        (&json!("OKP"), &json!("Ed25519"), &json!("EdDSA"))
    );
    assert!(published.get("d").is_none(), "the private key is not published");

    let (ada, guest) = (app.customer().await, app.guest().await);
    for (account, role) in [(&ada, "customer"), (&guest, "guest"), (&app.admin().await, "admin")] {
        let claims = verify_token(&keys, &account.token);
        assert_eq!(
            (&claims["sub"], &claims["role"], &claims["iss"]),
            (&json!(account.id), &json!(role), &json!("souk"))
        );
        let names: Vec<_> = claims.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names, ["aud", "exp", "iat", "iss", "jti", "role", "sid", "sub"]);
    }
    // Neither the shared secret nor the public key used as a secret signs valid tokens.
    for secret in [SECRET, published["x"].as_str().unwrap(), &keys.to_string()] {
        for algorithm in [Algorithm::HS256, Algorithm::HS512] {
            app.get("/api/cart")
                .token(signed(algorithm, &claims(), secret))
                .await
                .problem(401, "unauthenticated");
        }
    }
    app.stop().await;
    app.restart().await;
    assert_eq!(app.get("/.well-known/jwks.json").await.ok(), keys);
    app.get("/api/auth/me").token(&ada).await.is(200);
    app.post("/api/auth/refresh", &json!({"refresh_token": ada.refresh_token})).await.is(200);
}

#[tokio::test]
async fn shared_secret_publishes_no_keys() {
    let app = TestApp::start().await;
    assert_eq!(app.get("/.well-known/jwks.json").await.ok(), json!({"keys": []}));
    // Tokens of another shop are invalid here.
    let other = TestApp::start().await;
    app.get("/api/cart").token(other.customer().await).await.problem(401, "unauthenticated");
}

#[tokio::test]
async fn invalid_key_file_stops_the_start() {
    let app = TestApp::with_settings(&[]).await;
    let bad =
        app.write("bad.pem", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    for file in [bad.to_str().unwrap(), "/nowhere/key.pem"] {
        let mut command = app.command();
        command
            .env("SOUK__STORE__PATH", app.dir().join("other"))
            .env("SOUK__AUTH__ED25519_KEY_FILE", file);
        let run = Cli::run(&mut command);
        assert_eq!(run.code, 1, "{run:?}");
        assert!(
            run.stderr.contains("auth.ed25519_key_file") && run.stderr.contains(file),
            "{run:?}"
        );
    }
}
