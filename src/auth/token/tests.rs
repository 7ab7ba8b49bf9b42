//! Access tokens: claims, expiry, algorithms and keys.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::*;

const SECRET: &[u8] = b"a secret of at least thirty-two bytes";
/// The keys of RFC 8410, section 10.3: without and with its public half.
const ED25519_PEM: &[u8] = b"-----BEGIN PRIVATE KEY-----\n\
    MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
    -----END PRIVATE KEY-----\n";
const ED25519_PEM_V2: &[u8] = b"-----BEGIN PRIVATE KEY-----\n\
    MHICAQEwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
    oB8wHQYKKoZIhvcNAQkJFDEPDA1DdXJkbGUgQ2hhaXJzgSEAGb9ECWmEzf6FQbrB\n\
    Z9w7lshQhqowtrbLDFw4rXAxZuE=\n\
    -----END PRIVATE KEY-----\n";
const ED25519_PUBLIC_KEY: &str = "Gb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE";

/// A clock that only advances when it is set.
#[derive(Default)]
struct MockClock(AtomicI64);

impl Clock for MockClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::Relaxed))
    }
}

fn mock_clock() -> Arc<MockClock> {
    Arc::new(MockClock(AtomicI64::new(1_800_000_000_000)))
}

fn hs256_tokens() -> (TokenService, Arc<MockClock>) {
    let clock = mock_clock();
    (TokenService::with_secret(SECRET, Arc::clone(&clock) as Arc<dyn Clock>), clock)
}

fn issue_customer_token(tokens: &TokenService) -> (String, Claims) {
    let (user_id, session_id) = (UserId::new(), SessionId::new());
    let token = tokens.issue_session_token(user_id, Role::Customer, session_id).unwrap();
    assert_eq!(token.expires_in, 900);
    let expires_at = tokens.clock.now().saturating_add(ACCESS_TOKEN_LIFETIME);
    (token.token, Claims { user_id, role: Role::Customer, session_id, expires_at })
}

fn verify_error_code(tokens: &TokenService, token: &str) -> ErrorCode {
    tokens.verify(token).unwrap_err().code
}

/// Signs any header and claims with `SECRET`.
fn sign_with_secret(header: &Header, claims: &Value) -> String {
    encode(header, claims, &EncodingKey::from_secret(SECRET)).unwrap()
}

fn valid_claims() -> Value {
    json!({
        "sub": UserId::new(), "role": "admin", "sid": SessionId::new(),
        "exp": 1_800_000_900, "iss": "souk", "aud": "souk",
    })
}

#[test]
fn token_verifies_until_it_expires() {
    let (tokens, clock) = hs256_tokens();
    let (token, claims) = issue_customer_token(&tokens);
    assert_eq!(tokens.verify(&token), Ok(claims));
    clock.0.fetch_add(899_999, Ordering::Relaxed);
    assert_eq!(tokens.verify(&token), Ok(claims));
    clock.0.fetch_add(1, Ordering::Relaxed);
    assert_eq!(verify_error_code(&tokens, &token), ErrorCode::TokenExpired);
    let forged = format!("{}A", &token[..token.len() - 1]);
    let other = format!("{}E", &token[..token.len() - 1]);
    assert_eq!(
        verify_error_code(&tokens, if forged == token { &other } else { &forged }),
        ErrorCode::Unauthenticated,
        "expired and forged"
    );
}

#[test]
fn token_has_all_contract_claims() {
    let (tokens, _) = hs256_tokens();
    let (token, _) = issue_customer_token(&tokens);
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let payload: Value = serde_json::from_slice(&payload).unwrap();
    let mut names: Vec<_> = payload.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["aud", "exp", "iat", "iss", "jti", "role", "sid", "sub"]);
    assert_eq!(payload["exp"].as_i64().unwrap() - payload["iat"].as_i64().unwrap(), 900);
}

#[test]
fn guest_token_expires_with_guest_cart() {
    let clock = mock_clock();
    let guest = UserId::new();
    let age = Duration::from_secs(3600);
    clock.0.store(guest.created_at().saturating_add(age).as_millis(), Ordering::Relaxed);
    let tokens = TokenService::with_secret(SECRET, clock);
    let token = tokens.issue_guest_token(guest).unwrap();
    let claims = tokens.verify(&token.token).unwrap();
    assert_eq!((claims.user_id, claims.role), (guest, Role::Guest));
    assert_eq!(
        claims.expires_at.as_secs(),
        guest.created_at().saturating_add(GUEST_LIFETIME).as_secs()
    );
    assert_eq!(token.expires_in, (GUEST_LIFETIME - age).as_secs());
}

#[test]
fn verified_token_does_not_admit_similar_ones() {
    let (tokens, _) = hs256_tokens();
    let (token, claims) = issue_customer_token(&tokens);
    assert_eq!(tokens.verify(&token), Ok(claims));
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let other = issue_customer_token(&tokens).0;
    let other_signature = other.rsplit_once('.').unwrap().1;
    for forged in [
        format!("{signed}.{other_signature}"),
        format!("{signed}."),
        format!("{signed}.{}", &signature[1..]),
        format!("{token} "),
    ] {
        assert_eq!(verify_error_code(&tokens, &forged), ErrorCode::Unauthenticated, "{forged}");
    }
    assert_eq!(tokens.verify(&token), Ok(claims));
}

#[test]
fn other_algorithms_are_rejected() {
    let (tokens, clock) = hs256_tokens();
    let header = |alg| URL_SAFE_NO_PAD.encode(json!({"typ": "JWT", "alg": alg}).to_string());
    let payload = URL_SAFE_NO_PAD.encode(valid_claims().to_string());
    assert_eq!(
        verify_error_code(&tokens, &format!("{}.{payload}.", header("none"))),
        ErrorCode::Unauthenticated
    );
    assert_eq!(
        verify_error_code(
            &tokens,
            &sign_with_secret(&Header::new(Algorithm::HS384), &valid_claims())
        ),
        ErrorCode::Unauthenticated
    );
    let by_key = TokenService::with_ed25519(ED25519_PEM, clock).unwrap();
    assert_eq!(
        verify_error_code(&tokens, &issue_customer_token(&by_key).0),
        ErrorCode::Unauthenticated
    );
    assert_eq!(
        verify_error_code(&by_key, &issue_customer_token(&tokens).0),
        ErrorCode::Unauthenticated
    );
    // Algorithm confusion: the public key as an HMAC secret.
    let public = URL_SAFE_NO_PAD.decode(ED25519_PUBLIC_KEY).unwrap();
    let trick =
        encode(&Header::new(Algorithm::HS256), &valid_claims(), &EncodingKey::from_secret(&public))
            .unwrap();
    assert_eq!(verify_error_code(&by_key, &trick), ErrorCode::Unauthenticated);
}

#[test]
fn foreign_or_missing_claims_are_rejected() {
    let (tokens, _) = hs256_tokens();
    let header = Header::new(Algorithm::HS256);
    assert!(tokens.verify(&sign_with_secret(&header, &valid_claims())).is_ok());
    for name in ["sub", "role", "sid", "exp", "iss", "aud"] {
        let mut without = valid_claims();
        without.as_object_mut().unwrap().remove(name);
        assert_eq!(
            verify_error_code(&tokens, &sign_with_secret(&header, &without)),
            ErrorCode::Unauthenticated,
            "without {name}"
        );
    }
    for (name, value) in [
        ("iss", json!("bazaar")),
        ("iss", json!(1)),
        ("aud", json!("bazaar")),
        ("aud", json!([])),
        ("role", json!("root")),
        ("sub", json!("1")),
        ("exp", json!("never")),
        ("exp", json!(1.8e9)),
    ] {
        let mut wrong = valid_claims();
        wrong[name] = value.clone();
        assert_eq!(
            verify_error_code(&tokens, &sign_with_secret(&header, &wrong)),
            ErrorCode::Unauthenticated,
            "{name}: {value}"
        );
    }
}

#[test]
fn malformed_token_is_rejected() {
    let (tokens, _) = hs256_tokens();
    let (token, _) = issue_customer_token(&tokens);
    let refresh_token = "A".repeat(64);
    for bad in [
        "",
        ".",
        "..",
        "a.b.c",
        &refresh_token,
        &token[1..],
        &format!("{token}."),
        &format!(" {token}"),
    ] {
        assert_eq!(verify_error_code(&tokens, bad), ErrorCode::Unauthenticated, "{bad:?}");
    }
    let another = TokenService::with_secret(b"another secret of thirty-two bytes", mock_clock());
    assert_eq!(verify_error_code(&another, &token), ErrorCode::Unauthenticated);
}

#[test]
fn ed25519_public_key_is_in_jwks() {
    for pem in [ED25519_PEM, ED25519_PEM_V2] {
        let tokens = TokenService::with_ed25519(pem, mock_clock()).unwrap();
        let (token, claims) = issue_customer_token(&tokens);
        assert_eq!(tokens.verify(&token), Ok(claims));
        let kid = jsonwebtoken::decode_header(&token).unwrap().kid.unwrap();
        let key = json!({
            "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": kid,
            "x": ED25519_PUBLIC_KEY,
        });
        assert_eq!(*tokens.jwks(), json!({"keys": [key]}));
    }
    assert_eq!(*hs256_tokens().0.jwks(), json!({"keys": []}));
    for bad in [&b""[..], b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", SECRET]
    {
        assert_eq!(TokenService::with_ed25519(bad, mock_clock()).err(), Some(InvalidSigningKey));
    }
}
