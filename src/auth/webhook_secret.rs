//! The secrets that sign webhooks, and how they are encrypted in the store.
//!
//! A secret is 32 random bytes. The store has it encrypted (AES-256-GCM) with a key derived from
//! the shop's secret, and bound to its endpoint, so that a copy of the database signs nothing.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::{Engine, engine::general_purpose::STANDARD};
use secrecy::{SecretSlice, SecretString};
use sha2::{Digest, Sha256};

use crate::domain::ids::WebhookId;

/// What every secret begins with in its text form.
const PREFIX: &str = "whsec_";

/// The purpose of the key.
const LABEL: &[u8] = b"souk webhook secrets\0";

/// The secret could not be encrypted, which only a bug can cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the secret could not be encrypted")]
pub struct SealError;

/// A new secret, in its text form and encrypted.
pub struct NewWebhookSecret {
    /// The secret as it is shown, once.
    pub text: SecretString,
    /// The secret for the store.
    pub sealed: String,
}

/// A secret that was decrypted.
pub struct OpenedSecret {
    /// The bytes that sign.
    pub key: SecretSlice<u8>,
    /// Whether it was encrypted with the shop's second secret, and should be encrypted anew before
    /// that is gone.
    pub is_outdated: bool,
}

/// Encrypts and decrypts secrets. All nodes must share the shop's secrets.
#[derive(Clone)]
pub struct WebhookSecrets {
    first: [u8; 32],
    /// Decrypts too, while the shop's secret is rotated.
    second: Option<[u8; 32]>,
}

impl WebhookSecrets {
    /// Uses a key derived from `secret`.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        Self { first: derive_key(secret), second: None }
    }

    /// Decrypts with a second secret, too.
    #[must_use]
    pub fn accepting_second(self, secret: Option<&[u8]>) -> Self {
        Self { second: secret.map(derive_key), ..self }
    }

    /// Makes a secret for an endpoint.
    ///
    /// # Errors
    /// See [`SealError`].
    pub fn generate(&self, webhook: WebhookId) -> Result<NewWebhookSecret, SealError> {
        let key = rand::random::<[u8; 32]>();
        let text = format!("{PREFIX}{}", STANDARD.encode(key));
        Ok(NewWebhookSecret { text: text.into(), sealed: self.seal(webhook, &key)? })
    }

    /// Encrypts a secret of an endpoint.
    ///
    /// # Errors
    /// See [`SealError`].
    pub fn seal(&self, webhook: WebhookId, key: &[u8]) -> Result<String, SealError> {
        let cipher = RandomizedNonceKey::new(&AES_256_GCM, &self.first).map_err(|_| SealError)?;
        let mut text = key.to_vec();
        let nonce = cipher
            .seal_in_place_append_tag(Aad::from(webhook.as_uuid().into_bytes()), &mut text)
            .map_err(|_| SealError)?;
        Ok(STANDARD.encode([nonce.as_ref().as_slice(), &text].concat()))
    }

    /// Decrypts a secret of an endpoint. `None` if no secret of the shop encrypted it.
    #[must_use]
    pub fn open(&self, webhook: WebhookId, sealed: &str) -> Option<OpenedSecret> {
        let bytes = STANDARD.decode(sealed).ok()?;
        let keys = [(Some(self.first), false), (self.second, true)];
        keys.into_iter().find_map(|(key, is_outdated)| {
            let key = open_with(&key?, webhook, &bytes)?.into();
            Some(OpenedSecret { key, is_outdated })
        })
    }
}

fn open_with(key: &[u8; 32], webhook: WebhookId, bytes: &[u8]) -> Option<Vec<u8>> {
    let (nonce, text) = bytes.split_first_chunk::<NONCE_LEN>()?;
    let cipher = RandomizedNonceKey::new(&AES_256_GCM, key).ok()?;
    let mut text = text.to_vec();
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let aad = Aad::from(webhook.as_uuid().into_bytes());
    let opened = cipher.open_in_place(nonce, aad, &mut text).ok()?;
    Some(opened.to_vec())
}

fn derive_key(secret: &[u8]) -> [u8; 32] {
    Sha256::new_with_prefix(LABEL).chain_update(secret).finalize().into()
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn secret_is_decrypted_for_its_endpoint_only() {
        let (id, secrets) = (WebhookId::new(), WebhookSecrets::new(b"first"));
        let new = secrets.generate(id).unwrap();
        let text = new.text.expose_secret().strip_prefix("whsec_").unwrap();
        let key = STANDARD.decode(text).unwrap();
        assert_eq!((text.len(), key.len()), (44, 32));
        assert!(!new.sealed.contains(text));
        let opened = secrets.open(id, &new.sealed).unwrap();
        assert_eq!(opened.key.expose_secret(), key);
        assert!(!opened.is_outdated);
        assert!(secrets.open(WebhookId::new(), &new.sealed).is_none());
        assert!(WebhookSecrets::new(b"other").open(id, &new.sealed).is_none());
        for bad in ["", "x", "AAAA", &new.sealed[4..]] {
            assert!(secrets.open(id, bad).is_none(), "{bad}");
        }
        assert_ne!(secrets.seal(id, &key), secrets.seal(id, &key), "each has a nonce of its own");
    }

    #[test]
    fn second_secret_decrypts_while_the_first_is_rotated() {
        let id = WebhookId::new();
        let sealed = WebhookSecrets::new(b"old").seal(id, b"key").unwrap();
        let rotating = WebhookSecrets::new(b"new").accepting_second(Some(b"old"));
        let opened = rotating.open(id, &sealed).unwrap();
        assert!(opened.is_outdated && opened.key.expose_secret() == b"key");
        let resealed = rotating.seal(id, b"key").unwrap();
        assert!(!WebhookSecrets::new(b"new").open(id, &resealed).unwrap().is_outdated);
    }
}
