//! Tokens in mails. The store keeps only their hash.
//!
//! A token is base64url of 48 bytes: the account's id and 32 bytes that nobody can guess. It is
//! made when its mail is sent, and its hash is stored in the commit that claims the mail. So the
//! text of the token is never stored, not even encrypted: it exists in the memory of the node that
//! sends it, and in the mail. Each attempt to send a mail has a token of its own.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::SecretString;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::domain::ids::UserId;

/// The length of a token before it is encoded.
const TOKEN_BYTES: usize = 48;

/// A new token, for the mail and for the store.
pub(crate) struct IssuedMailToken {
    /// The token for the mail.
    pub(crate) token: SecretString,
    /// The SHA-256 hash for the store.
    pub(crate) hash: [u8; 32],
}

/// A token that has the form of one.
pub(crate) struct ParsedMailToken {
    /// The account that it would belong to.
    pub(crate) user_id: UserId,
    /// Its SHA-256 hash.
    pub(crate) hash: [u8; 32],
}

/// Makes a token of an account.
pub(crate) fn issue_mail_token(user_id: UserId) -> IssuedMailToken {
    let mut bytes = Vec::with_capacity(TOKEN_BYTES);
    bytes.extend_from_slice(user_id.as_uuid().as_bytes());
    bytes.extend_from_slice(&rand::random::<[u8; 32]>());
    IssuedMailToken {
        token: URL_SAFE_NO_PAD.encode(&bytes).into(),
        hash: Sha256::digest(&bytes).into(),
    }
}

/// Parses a token. `None` if it cannot be one of this shop.
pub(crate) fn parse_mail_token(token: &str) -> Option<ParsedMailToken> {
    let mut bytes = [0; TOKEN_BYTES];
    let length = URL_SAFE_NO_PAD.decode_slice(token, &mut bytes).ok()?;
    if length != bytes.len() {
        return None;
    }
    let (user_id, _) = bytes.split_first_chunk::<16>()?;
    Some(ParsedMailToken {
        user_id: Uuid::from_bytes(*user_id).into(),
        hash: Sha256::digest(bytes).into(),
    })
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn token_names_its_account_and_its_hash() {
        let ada = UserId::new();
        let (issued, other) = (issue_mail_token(ada), issue_mail_token(ada));
        assert_ne!(issued.hash, other.hash);
        let parsed = parse_mail_token(issued.token.expose_secret()).unwrap();
        assert_eq!((parsed.user_id, parsed.hash), (ada, issued.hash));
        for bad in ["", "x", &issued.token.expose_secret()[1..], &"\u{e9}".repeat(32)] {
            assert!(parse_mail_token(bad).is_none(), "{bad}");
        }
    }
}
