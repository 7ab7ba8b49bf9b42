//! Access tokens that the shop did not issue.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

/// A value for `auth.jwt_secret`, so that tests can sign tokens themselves.
pub(crate) const SECRET: &str = "a secret that is only used in tests";

/// The published example private key of RFC 8410, section 10.3.
pub(crate) const KNOWN_KEY: &str = "-----BEGIN PRIVATE KEY-----\n\
    MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
    -----END PRIVATE KEY-----\n";

/// Valid claims of an admin.
pub(crate) fn claims() -> Value {
    let id = "01a206bc-0609-7165-8b52-173bd2923daf";
    json!({
        "sub": id, "role": "admin", "sid": id, "iat": 1, "exp": 4_000_000_000_u64, "iss": "souk",
        "aud": "souk", "jti": id,
    })
}

pub(crate) fn signed(algorithm: Algorithm, claims: &Value, secret: &str) -> String {
    jsonwebtoken::encode(
        &Header::new(algorithm),
        claims,
        &EncodingKey::from_secret(secret.as_bytes()),
    )
    .unwrap()
}

/// A token that claims to need no signature.
pub(crate) fn unsigned(algorithm: &str, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.", part(&json!({"typ": "JWT", "alg": algorithm})), part(claims))
}

/// `token` with other claims under its original signature.
pub(crate) fn with_claims(token: &str, change: impl FnOnce(&mut Value)) -> String {
    let [header, payload, signature] = token.split('.').collect::<Vec<_>>()[..] else {
        panic!("not a token: {token}")
    };
    let mut claims: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
    change(&mut claims);
    format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode(claims.to_string()))
}
