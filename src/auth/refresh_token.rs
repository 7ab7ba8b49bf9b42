//! Refresh tokens: opaque to clients and authenticated by a MAC. The store keeps only their hash.
//!
//! A token is base64url of 48 bytes: the session id, 16 random bytes, and the first half of an
//! HMAC-SHA256 over both. Reuse of an old token ends its session; the MAC ensures that a forged
//! token does not.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use super::derived_mac::derive_mac;
use crate::domain::{account::Session, ids::SessionId};

/// Issues and verifies refresh tokens. All nodes must share one secret.
#[derive(Clone)]
pub struct RefreshTokens {
    mac: Hmac<Sha256>,
}

/// A newly issued token, for the client and for the store.
pub(crate) struct IssuedRefreshToken {
    /// The token for the client.
    pub(crate) token: String,
    /// The SHA-256 hash for the store.
    pub(crate) hash: [u8; 32],
}

/// A token with a valid MAC: this shop issued it. It may already be used.
pub(crate) struct VerifiedRefreshToken {
    pub(crate) session_id: SessionId,
    pub(crate) hash: [u8; 32],
}

impl RefreshTokens {
    /// Derives the MAC key from `secret`, so that the secret can have other uses, too.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        Self { mac: derive_mac(b"souk refresh token\0", secret) }
    }

    /// Makes a new token for a session.
    pub(crate) fn issue(&self, session_id: SessionId) -> IssuedRefreshToken {
        let mut bytes = Vec::with_capacity(48);
        bytes.extend_from_slice(session_id.as_uuid().as_bytes());
        bytes.extend_from_slice(&rand::random::<[u8; 16]>());
        let mac = self.mac.clone().chain_update(&bytes).finalize().into_bytes();
        bytes.extend(mac.into_iter().take(16));
        IssuedRefreshToken {
            token: URL_SAFE_NO_PAD.encode(&bytes),
            hash: Sha256::digest(&bytes).into(),
        }
    }

    /// Checks the MAC of `token`. `None` if this shop did not issue it.
    pub(crate) fn verify(&self, token: &str) -> Option<VerifiedRefreshToken> {
        let mut bytes = [0; 48];
        let length = URL_SAFE_NO_PAD.decode_slice(token, &mut bytes).ok()?;
        if length != bytes.len() {
            return None;
        }
        let (signed, mac) = bytes.split_at(32);
        self.mac.clone().chain_update(signed).verify_truncated_left(mac).ok()?;
        let (session_id, _) = signed.split_first_chunk::<16>()?;
        Some(VerifiedRefreshToken {
            session_id: Uuid::from_bytes(*session_id).into(),
            hash: Sha256::digest(bytes).into(),
        })
    }
}

impl VerifiedRefreshToken {
    /// Whether this is the current token of the session.
    pub(crate) fn is_current(&self, session: &Session) -> bool {
        self.hash.ct_eq(&session.refresh_hash).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{clock::Timestamp, ids::UserId};

    fn session(id: SessionId, refresh_hash: [u8; 32]) -> Session {
        let at = Timestamp::from_millis(0);
        Session {
            id,
            user_id: UserId::new(),
            refresh_hash,
            created_at: at,
            expires_at: at,
            revoked_at: None,
            version: 1,
        }
    }

    #[test]
    fn issued_token_is_current_until_the_next_one() {
        let tokens = RefreshTokens::new(b"a secret");
        let id = SessionId::new();
        let (first, second) = (tokens.issue(id), tokens.issue(id));
        assert_eq!(first.token.len(), 64);
        let verified = RefreshTokens::new(b"a secret").verify(&first.token).unwrap();
        assert_eq!(verified.session_id, id);
        assert!(verified.is_current(&session(id, first.hash)));
        assert!(!verified.is_current(&session(id, second.hash)));
    }

    #[test]
    fn forged_or_malformed_token_is_rejected() {
        let tokens = RefreshTokens::new(b"a secret");
        let token = tokens.issue(SessionId::new()).token;
        assert!(RefreshTokens::new(b"another secret").verify(&token).is_none());
        for place in 0..token.len() {
            let mut forged = token.clone().into_bytes();
            forged[place] = if forged[place] == b'A' { b'B' } else { b'A' };
            assert!(
                tokens.verify(std::str::from_utf8(&forged).unwrap()).is_none(),
                "character {place}"
            );
        }
        for bad in [
            "",
            "A",
            &token[..63],
            &format!("{token}AAAA"),
            &format!("{token}="),
            &"\u{e9}".repeat(32),
            &"A".repeat(100_000),
        ] {
            assert!(tokens.verify(bad).is_none());
        }
    }
}
