//! Refresh tokens: opaque to clients and authenticated by a MAC. The store keeps only their hash.
//!
//! A token is base64url of 48 bytes: the session id, 16 bytes that nobody can guess, and the first
//! half of an HMAC-SHA256 over both. Reuse of an old token ends its session; the MAC ensures that a
//! forged token does not.
//!
//! The 16 bytes are random in the first token of a session. In each later one they are an HMAC of
//! the token before, under a key of its own. So any node can issue the successor of a token again,
//! for a client that did not receive it, although no token is stored; and whether a token is the
//! one before the current one shows from the hash of its successor.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use super::derived_mac::derive_mac;
use crate::domain::{account::Session, ids::SessionId};

/// The length of a token's session id and random part.
const SIGNED_BYTES: usize = 32;

/// The length of a token before it is encoded.
const TOKEN_BYTES: usize = 48;

/// Issues and verifies refresh tokens. All nodes must share the secrets.
#[derive(Clone)]
pub struct RefreshTokens {
    /// Signs tokens.
    first: TokenMacs,
    /// Verifies tokens too, while the secret is rotated.
    second: Option<TokenMacs>,
}

/// The MACs of one secret.
#[derive(Clone)]
struct TokenMacs {
    token: Hmac<Sha256>,
    successor: Hmac<Sha256>,
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
    bytes: [u8; TOKEN_BYTES],
}

impl RefreshTokens {
    /// Derives the MAC keys from `secret`, so that the secret can have other uses, too.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        Self { first: TokenMacs::new(secret), second: None }
    }

    /// Also accepts tokens that were issued under another secret.
    #[must_use]
    pub fn accepting_second(mut self, secret: Option<&[u8]>) -> Self {
        self.second = secret.map(TokenMacs::new);
        self
    }

    /// Makes the first token of a session.
    pub(crate) fn issue(&self, session_id: SessionId) -> IssuedRefreshToken {
        self.first.sign(session_id, rand::random())
    }

    /// Makes the token that replaces `token`: always the same one.
    pub(crate) fn issue_successor(&self, token: &VerifiedRefreshToken) -> IssuedRefreshToken {
        self.first.issue_successor(token)
    }

    /// The token that has replaced `token`, if that is the current one of the session. While the
    /// secret is rotated, it may have been issued under either.
    pub(crate) fn find_issued_successor(
        &self,
        token: &VerifiedRefreshToken,
        session: &Session,
    ) -> Option<IssuedRefreshToken> {
        let macs = [Some(&self.first), self.second.as_ref()].into_iter().flatten();
        macs.map(|macs| macs.issue_successor(token)).find(|issued| issued.is_current(session))
    }

    /// Checks the MAC of `token`. `None` if this shop did not issue it.
    pub(crate) fn verify(&self, token: &str) -> Option<VerifiedRefreshToken> {
        let mut bytes = [0; TOKEN_BYTES];
        let length = URL_SAFE_NO_PAD.decode_slice(token, &mut bytes).ok()?;
        if length != bytes.len() {
            return None;
        }
        let (signed, mac) = bytes.split_at(SIGNED_BYTES);
        let is_genuine = |macs: &TokenMacs| {
            macs.token.clone().chain_update(signed).verify_truncated_left(mac).is_ok()
        };
        if !is_genuine(&self.first) && !self.second.as_ref().is_some_and(is_genuine) {
            return None;
        }
        let (session_id, _) = signed.split_first_chunk::<16>()?;
        Some(VerifiedRefreshToken { session_id: Uuid::from_bytes(*session_id).into(), bytes })
    }
}

impl TokenMacs {
    fn new(secret: &[u8]) -> Self {
        Self {
            token: derive_mac(b"souk refresh token\0", secret),
            successor: derive_mac(b"souk refresh token successor\0", secret),
        }
    }

    fn issue_successor(&self, token: &VerifiedRefreshToken) -> IssuedRefreshToken {
        let mac = self.successor.clone().chain_update(token.bytes).finalize().into_bytes();
        let mut unguessable = [0; 16];
        unguessable.iter_mut().zip(mac).for_each(|(place, byte)| *place = byte);
        self.sign(token.session_id, unguessable)
    }

    fn sign(&self, session_id: SessionId, unguessable: [u8; 16]) -> IssuedRefreshToken {
        let mut bytes = Vec::with_capacity(TOKEN_BYTES);
        bytes.extend_from_slice(session_id.as_uuid().as_bytes());
        bytes.extend_from_slice(&unguessable);
        let mac = self.token.clone().chain_update(&bytes).finalize().into_bytes();
        bytes.extend(mac.into_iter().take(TOKEN_BYTES - SIGNED_BYTES));
        IssuedRefreshToken {
            token: URL_SAFE_NO_PAD.encode(&bytes),
            hash: Sha256::digest(&bytes).into(),
        }
    }
}

impl IssuedRefreshToken {
    /// Whether this is the current token of the session.
    pub(crate) fn is_current(&self, session: &Session) -> bool {
        self.hash.ct_eq(&session.refresh_hash).into()
    }
}

impl VerifiedRefreshToken {
    /// Whether this is the current token of the session.
    pub(crate) fn is_current(&self, session: &Session) -> bool {
        let hash: [u8; 32] = Sha256::digest(self.bytes).into();
        hash.ct_eq(&session.refresh_hash).into()
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
            address: None,
            user_agent: None,
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
    fn successor_is_the_same_on_every_node_and_differs_from_all_others() {
        let (here, there) = (RefreshTokens::new(b"a secret"), RefreshTokens::new(b"a secret"));
        let first = here.issue(SessionId::new());
        let second = here.issue_successor(&here.verify(&first.token).unwrap());
        assert_eq!(there.issue_successor(&there.verify(&first.token).unwrap()).token, second.token);
        let verified = there.verify(&second.token).unwrap();
        assert!(verified.is_current(&session(verified.session_id, second.hash)));
        let third = here.issue_successor(&verified);
        assert!(third.token != second.token && second.token != first.token);
        // Without the secret, a token does not lead to the next one.
        let other = RefreshTokens::new(b"another secret");
        assert_ne!(other.issue_successor(&verified).token, third.token);
    }

    #[test]
    fn tokens_and_successors_survive_a_rotation_of_the_secret() {
        let (old, new) = (&b"the old secret"[..], &b"the new secret"[..]);
        let before = RefreshTokens::new(old).accepting_second(Some(new));
        let after = RefreshTokens::new(new).accepting_second(Some(old));
        let first = before.issue(SessionId::new());
        for [here, there] in [[&before, &after], [&after, &before]] {
            let token = here.verify(&first.token).unwrap();
            let successor = here.issue_successor(&token);
            let session = session(token.session_id, successor.hash);
            let again = there.find_issued_successor(&token, &session).unwrap();
            assert_eq!(again.token, successor.token);
            assert!(there.verify(&successor.token).is_some());
        }
        let unused = session(SessionId::new(), first.hash);
        let token = after.verify(&first.token).unwrap();
        assert!(after.find_issued_successor(&token, &unused).is_none());
        assert!(RefreshTokens::new(new).verify(&first.token).is_none());
        let renewed = after.issue_successor(&token).token;
        assert!(RefreshTokens::new(new).verify(&renewed).is_some(), "under the new secret");
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
