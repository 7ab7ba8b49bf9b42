//! Access tokens: JWTs (RFC 7519), signed with a shared secret or an Ed25519 key (RFC 8037).

use std::sync::Arc;

use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation,
    crypto::aws_lc::DEFAULT_PROVIDER,
    decode, encode,
    jwk::{EllipticCurve, Jwk, PublicKeyUse, ThumbprintHash},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    domain::{
        account::{ACCESS_TOKEN_LIFETIME, Role},
        cart::GUEST_LIFETIME,
        clock::{Clock, Timestamp},
        ids::{SessionId, TokenId, UserId},
    },
    error::{Error, ErrorCode},
};

/// The `iss` and `aud` of every token: Souk issues tokens only for itself.
const ISSUER_AND_AUDIENCE: &str = "souk";

/// The key file does not contain an Ed25519 private key in PEM form (PKCS#8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not an Ed25519 private key in PEM form (PKCS#8); create one with \
     `openssl genpkey -algorithm ed25519`"
)]
pub struct InvalidSigningKey;

/// Signs and verifies access tokens.
pub struct TokenService {
    header: Header,
    encoding_key: EncodingKey,
    decoding_key: DecodingKey,
    validation: Validation,
    jwks: Value,
    clock: Arc<dyn Clock>,
}

/// A signed access token and its lifetime.
#[derive(Clone)]
pub struct AccessToken {
    /// The encoded JWT.
    pub token: String,
    /// The lifetime in seconds.
    pub expires_in: u64,
}

/// The verified claims of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claims {
    /// The id of the account or guest.
    pub user_id: UserId,
    /// The role, which decides what the caller may do.
    pub role: Role,
    /// The session that the token belongs to.
    pub session_id: SessionId,
    /// When the token expires.
    pub expires_at: Timestamp,
}

/// The claims of a new token.
#[derive(Serialize)]
struct SignedClaims {
    sub: UserId,
    #[serde(with = "RoleName")]
    role: Role,
    sid: SessionId,
    iat: i64,
    exp: i64,
    iss: &'static str,
    aud: &'static str,
    jti: TokenId,
}

/// The claims that are read. They need no heap allocation, since every request is verified.
#[derive(Deserialize)]
struct VerifiedClaims {
    sub: UserId,
    #[serde(with = "RoleName")]
    role: Role,
    sid: SessionId,
    exp: i64,
}

/// The JSON form of a role, which keeps serde out of `domain`.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Role", rename_all = "lowercase")]
enum RoleName {
    Guest,
    Customer,
    Admin,
}

impl TokenService {
    /// Signs and verifies tokens with a shared secret (HS256).
    #[must_use]
    pub fn with_secret(secret: &[u8], clock: Arc<dyn Clock>) -> Self {
        Self {
            header: Header::new(Algorithm::HS256),
            encoding_key: EncodingKey::from_secret(secret),
            decoding_key: DecodingKey::from_secret(secret),
            validation: claim_validation(Algorithm::HS256),
            jwks: json!({"keys": []}),
            clock,
        }
    }

    /// Signs tokens with a private key; anyone can verify them (EdDSA with Ed25519).
    ///
    /// # Errors
    /// Fails if `pem` does not contain an Ed25519 private key.
    pub fn with_ed25519(pem: &[u8], clock: Arc<dyn Clock>) -> Result<Self, InvalidSigningKey> {
        let signing = EncodingKey::from_ed_pem(pem).map_err(|_| InvalidSigningKey)?;
        let derive = DEFAULT_PROVIDER.key_utils.ed_pub_components_from_private_key;
        let public =
            derive(signing.as_bytes(), &EllipticCurve::Ed25519).map_err(|_| InvalidSigningKey)?;
        let checking = DecodingKey::from_ed_der(&public);
        let mut jwk = Jwk::from_decoding_key(&checking, Some(Algorithm::EdDSA))
            .map_err(|_| InvalidSigningKey)?;
        // The RFC 7638 thumbprint is the same on every node and differs for each key.
        let key_id = jwk.thumbprint(ThumbprintHash::SHA256).map_err(|_| InvalidSigningKey)?;
        jwk.common.key_id = Some(key_id.clone());
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        Ok(Self {
            header: Header { kid: Some(key_id), ..Header::new(Algorithm::EdDSA) },
            encoding_key: signing,
            decoding_key: checking,
            validation: claim_validation(Algorithm::EdDSA),
            jwks: json!({"keys": [jwk]}),
            clock,
        })
    }

    /// Issues a token for a login session.
    ///
    /// # Errors
    /// Signing failed, which was logged.
    pub fn issue_session_token(
        &self,
        user_id: UserId,
        role: Role,
        session_id: SessionId,
    ) -> Result<AccessToken, Error> {
        let now = self.clock.now();
        self.sign_claims(user_id, role, session_id, now, now.saturating_add(ACCESS_TOKEN_LIFETIME))
    }

    /// Issues a token for a guest, which expires with the guest's cart.
    ///
    /// # Errors
    /// Signing failed, which was logged.
    pub fn issue_guest_token(&self, guest: UserId) -> Result<AccessToken, Error> {
        self.sign_claims(
            guest,
            Role::Guest,
            SessionId::new(),
            self.clock.now(),
            guest.created_at().saturating_add(GUEST_LIFETIME),
        )
    }

    /// Verifies a token and returns its claims. Does not check whether its session was revoked.
    ///
    /// # Errors
    /// `token_expired` if the token was valid once; `unauthenticated` if it is invalid.
    pub fn verify(&self, token: &str) -> Result<Claims, Error> {
        let refused = || {
            Error::new(ErrorCode::Unauthenticated, "The access token is not valid. Log in again.")
        };
        let claims = decode::<VerifiedClaims>(token, &self.decoding_key, &self.validation)
            .map_err(|_| refused())?
            .claims;
        if claims.exp <= self.clock.now().as_secs() {
            return Err(Error::new(
                ErrorCode::TokenExpired,
                "The access token has expired. Get a new one with the refresh token.",
            ));
        }
        Ok(Claims {
            user_id: claims.sub,
            role: claims.role,
            session_id: claims.sid,
            expires_at: Timestamp::from_millis(claims.exp.saturating_mul(1000)),
        })
    }

    /// Returns the public keys (RFC 7517, section 5); empty with a shared secret.
    #[must_use]
    pub const fn jwks(&self) -> &Value {
        &self.jwks
    }

    fn sign_claims(
        &self,
        sub: UserId,
        role: Role,
        sid: SessionId,
        now: Timestamp,
        exp: Timestamp,
    ) -> Result<AccessToken, Error> {
        let (iat, exp) = (now.as_secs(), exp.as_secs());
        let claims = SignedClaims {
            sub,
            role,
            sid,
            iat,
            exp,
            iss: ISSUER_AND_AUDIENCE,
            aud: ISSUER_AND_AUDIENCE,
            jti: TokenId::new(),
        };
        let token = encode(&self.header, &claims, &self.encoding_key).map_err(|error| {
            tracing::error!(%error, "failed to sign an access token");
            Error::internal()
        })?;
        Ok(AccessToken { token, expires_in: u64::try_from(exp.saturating_sub(iat)).unwrap_or(0) })
    }
}

/// Configures the claim checks of `jsonwebtoken`. It would check `exp` against the system clock, so
/// [`TokenService::verify`] checks `exp` instead.
fn claim_validation(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.validate_exp = false;
    validation.set_issuer(&[ISSUER_AND_AUDIENCE]);
    validation.set_audience(&[ISSUER_AND_AUDIENCE]);
    // Otherwise a token without these claims would pass.
    validation.set_required_spec_claims(&["exp", "iss", "aud"]);
    validation
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicI64, Ordering},
        time::Duration,
    };

    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

    use super::*;

    const SECRET: &[u8] = b"a secret of at least thirty-two bytes";
    /// The keys of RFC 8410, section 10.3: without and with its public half.
    const ED25519_PEM: &[u8] = b"-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
    const ED25519_PEM_V2: &[u8] = b"-----BEGIN PRIVATE KEY-----\nMHICAQEwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\noB8wHQYKKoZIhvcNAQkJFDEPDA1DdXJkbGUgQ2hhaXJzgSEAGb9ECWmEzf6FQbrB\nZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PRIVATE KEY-----\n";
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
        json!({"sub": UserId::new(), "role": "admin", "sid": SessionId::new(), "exp": 1_800_000_900, "iss": "souk", "aud": "souk"})
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
        let trick = encode(
            &Header::new(Algorithm::HS256),
            &valid_claims(),
            &EncodingKey::from_secret(&public),
        )
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
        let another =
            TokenService::with_secret(b"another secret of thirty-two bytes", mock_clock());
        assert_eq!(verify_error_code(&another, &token), ErrorCode::Unauthenticated);
    }

    #[test]
    fn ed25519_public_key_is_in_jwks() {
        for pem in [ED25519_PEM, ED25519_PEM_V2] {
            let tokens = TokenService::with_ed25519(pem, mock_clock()).unwrap();
            let (token, claims) = issue_customer_token(&tokens);
            assert_eq!(tokens.verify(&token), Ok(claims));
            let kid = jsonwebtoken::decode_header(&token).unwrap().kid.unwrap();
            let key = json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": kid, "x": ED25519_PUBLIC_KEY});
            assert_eq!(*tokens.jwks(), json!({"keys": [key]}));
        }
        assert_eq!(*hs256_tokens().0.jwks(), json!({"keys": []}));
        for bad in
            [&b""[..], b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", SECRET]
        {
            assert_eq!(
                TokenService::with_ed25519(bad, mock_clock()).err(),
                Some(InvalidSigningKey)
            );
        }
    }
}
