//! Access tokens: JWTs (RFC 7519), signed with a shared secret or an Ed25519 key (RFC 8037).

#[cfg(test)]
mod tests;

use std::sync::Arc;

use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation,
    crypto::aws_lc::DEFAULT_PROVIDER,
    decode, encode,
    jwk::{EllipticCurve, Jwk, PublicKeyUse, ThumbprintHash},
};
use quick_cache::sync::Cache;
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

/// The number of tokens whose verified claims are kept, about 400 bytes each.
const VERIFIED_TOKENS: usize = 8_192;

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
    /// Verifies tokens too, while the key is rotated.
    second_decoding_key: Option<DecodingKey>,
    validation: Validation,
    jwks: Value,
    /// The claims of the tokens that were verified last. A client sends the same token with every
    /// request, and its signature is the most expensive part of a read from memory. Only a token
    /// with a valid signature gets in.
    verified: Cache<Box<str>, Claims>,
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
    /// The role at the time of issue. What the caller may do is what the account may do now.
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
    Staff,
    Admin,
}

/// A private key with its public half.
struct Ed25519Key {
    encoding_key: EncodingKey,
    decoding_key: DecodingKey,
    jwk: Jwk,
}

impl Ed25519Key {
    fn from_pem(pem: &[u8]) -> Result<Self, InvalidSigningKey> {
        let encoding_key = EncodingKey::from_ed_pem(pem).map_err(|_| InvalidSigningKey)?;
        let derive = DEFAULT_PROVIDER.key_utils.ed_pub_components_from_private_key;
        let public = derive(encoding_key.as_bytes(), &EllipticCurve::Ed25519)
            .map_err(|_| InvalidSigningKey)?;
        let decoding_key = DecodingKey::from_ed_der(&public);
        let mut jwk = Jwk::from_decoding_key(&decoding_key, Some(Algorithm::EdDSA))
            .map_err(|_| InvalidSigningKey)?;
        // The RFC 7638 thumbprint is the same on every node and differs for each key.
        let key_id = jwk.thumbprint(ThumbprintHash::SHA256).map_err(|_| InvalidSigningKey)?;
        jwk.common.key_id = Some(key_id);
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        Ok(Self { encoding_key, decoding_key, jwk })
    }
}

impl TokenService {
    /// Signs and verifies tokens with a shared secret (HS256).
    #[must_use]
    pub fn with_secret(secret: &[u8], clock: Arc<dyn Clock>) -> Self {
        Self {
            header: Header::new(Algorithm::HS256),
            encoding_key: EncodingKey::from_secret(secret),
            decoding_key: DecodingKey::from_secret(secret),
            second_decoding_key: None,
            validation: claim_validation(Algorithm::HS256),
            jwks: json!({"keys": []}),
            verified: Cache::new(VERIFIED_TOKENS),
            clock,
        }
    }

    /// Signs tokens with a private key; anyone can verify them (EdDSA with Ed25519).
    ///
    /// # Errors
    /// Fails if `pem` does not contain an Ed25519 private key.
    pub fn with_ed25519(pem: &[u8], clock: Arc<dyn Clock>) -> Result<Self, InvalidSigningKey> {
        let Ed25519Key { encoding_key, decoding_key, jwk } = Ed25519Key::from_pem(pem)?;
        Ok(Self {
            header: Header { kid: jwk.common.key_id.clone(), ..Header::new(Algorithm::EdDSA) },
            encoding_key,
            decoding_key,
            second_decoding_key: None,
            validation: claim_validation(Algorithm::EdDSA),
            jwks: json!({"keys": [jwk]}),
            verified: Cache::new(VERIFIED_TOKENS),
            clock,
        })
    }

    /// Also accepts tokens that are signed with another shared secret. The service must be one
    /// [`Self::with_secret`].
    #[must_use]
    pub fn accepting_second_secret(mut self, secret: &[u8]) -> Self {
        self.second_decoding_key = Some(DecodingKey::from_secret(secret));
        self
    }

    /// Also accepts tokens that are signed with another private key, and publishes its public key.
    /// The service must be one [`Self::with_ed25519`].
    ///
    /// # Errors
    /// Fails if `pem` does not contain an Ed25519 private key.
    pub fn accepting_second_ed25519(mut self, pem: &[u8]) -> Result<Self, InvalidSigningKey> {
        let second = Ed25519Key::from_pem(pem)?;
        self.second_decoding_key = Some(second.decoding_key);
        if let Some(keys) = self.jwks.get_mut("keys").and_then(Value::as_array_mut) {
            keys.push(json!(second.jwk));
        }
        Ok(self)
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
        let claims = match self.verified.get(token) {
            Some(claims) => claims,
            None => self.verify_signature(token)?,
        };
        if claims.expires_at.as_secs() <= self.clock.now().as_secs() {
            self.verified.remove(token);
            return Err(Error::new(
                ErrorCode::TokenExpired,
                "The access token has expired. Get a new one with the refresh token.",
            ));
        }
        Ok(claims)
    }

    fn verify_signature(&self, token: &str) -> Result<Claims, Error> {
        let decode_with =
            |key: &DecodingKey| decode::<VerifiedClaims>(token, key, &self.validation).ok();
        let decoded = decode_with(&self.decoding_key)
            .or_else(|| self.second_decoding_key.as_ref().and_then(decode_with));
        let claims = decoded
            .ok_or_else(|| {
                Error::new(
                    ErrorCode::Unauthenticated,
                    "The access token is not valid. Log in again.",
                )
            })?
            .claims;
        let claims = Claims {
            user_id: claims.sub,
            role: claims.role,
            session_id: claims.sid,
            expires_at: Timestamp::from_millis(claims.exp.saturating_mul(1000)),
        };
        self.verified.insert(token.into(), claims);
        Ok(claims)
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
