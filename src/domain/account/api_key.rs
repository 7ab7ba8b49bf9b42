//! API keys: how other programs act within scopes, without an account.

use sha2::{Digest, Sha256};

use super::{Rights, Role, ScopeSet};
use crate::domain::{
    clock::Timestamp,
    ids::{ApiKeyId, UserId},
    validation::ValidationErrors,
};

/// What every key begins with, so that it is recognized wherever it turns up.
pub const API_KEY_PREFIX: &str = "souk_";

/// The characters after the prefix: letters and digits, 238 bits.
pub const API_KEY_RANDOM_CHARS: usize = 40;

/// How much of a key is kept in clear, so that its owner recognizes it.
const SHOWN_CHARS: usize = API_KEY_PREFIX.len() + 6;

/// The most keys that one admin has made and nobody has deleted, expired ones included.
pub const MAX_API_KEYS: u32 = 100;

/// The SHA-256 of a key. A key is random, so a slow hash would not protect it better.
pub type ApiKeyHash = [u8; 32];

/// Returns the hash that a key is found under.
#[must_use]
pub fn hash_api_key(key: &str) -> ApiKeyHash {
    Sha256::digest(key).into()
}

/// An API key. The key itself is not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// The key's identifier.
    pub id: ApiKeyId,
    /// What the key is for, in the words of its maker.
    pub name: String,
    /// What the key may do.
    pub scopes: ScopeSet,
    /// The beginning of the key.
    pub prefix: String,
    /// The hash that the key is found under.
    pub hash: ApiKeyHash,
    /// The admin who made it.
    pub created_by: UserId,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
    /// When it was used last, as far as nodes have reported it.
    pub last_used_at: Option<Timestamp>,
    /// When it was deleted. The record stays, since actions name it.
    pub deleted_at: Option<Timestamp>,
    /// Counts changes, from 1. Use is not one.
    pub version: u64,
}

/// What an admin asks a new key to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeyRequest {
    /// What the key is for.
    pub name: String,
    /// What the key may do.
    pub scopes: ScopeSet,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
}

impl ApiKeyRequest {
    /// Checks the request at `now`.
    ///
    /// # Errors
    /// An empty or long name, no scope, or an expiry that has passed.
    pub fn validate(&self, now: Timestamp) -> Result<(), ValidationErrors> {
        let mut errors = ValidationErrors::new();
        errors.check_text("name", &self.name, 1, 100);
        if self.scopes == ScopeSet::EMPTY {
            errors.add("scopes", "required", "scopes must name at least one scope");
        }
        if self.expires_at.is_some_and(|at| at <= now) {
            errors.add("expires_at", "out_of_range", "expires_at must be in the future");
        }
        errors.into_result(())
    }
}

impl ApiKey {
    /// The record of a new `key`.
    #[must_use]
    pub fn new(key: &str, request: ApiKeyRequest, created_by: UserId, now: Timestamp) -> Self {
        let ApiKeyRequest { name, scopes, expires_at } = request;
        Self {
            id: ApiKeyId::new(),
            name,
            scopes,
            prefix: key.chars().take(SHOWN_CHARS).collect(),
            hash: hash_api_key(key),
            created_by,
            created_at: now,
            expires_at,
            last_used_at: None,
            deleted_at: None,
            version: 1,
        }
    }

    /// The key after its deletion at `now`.
    #[must_use]
    pub fn to_deleted(&self, now: Timestamp) -> Self {
        Self { deleted_at: Some(now), version: self.version + 1, ..self.clone() }
    }

    /// Whether the key may be used at `now`.
    #[must_use]
    pub fn is_active(&self, now: Timestamp) -> bool {
        self.deleted_at.is_none() && self.expires_at.is_none_or(|at| now < at)
    }

    /// What the key may do: as a member of staff with its scopes.
    #[must_use]
    pub const fn rights(&self) -> Rights {
        Rights { role: Role::Staff, scopes: self.scopes, blocked: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000);

    fn request() -> ApiKeyRequest {
        let scopes = ScopeSet::parse(&["stock"]).unwrap();
        ApiKeyRequest { name: "warehouse".into(), scopes, expires_at: None }
    }

    #[test]
    fn key_works_until_it_expires_or_is_deleted() {
        let expires_at = Some(Timestamp::from_millis(2_000));
        let request = ApiKeyRequest { expires_at, ..request() };
        let key = ApiKey::new("souk_abcdefghijk", request, UserId::new(), NOW);
        assert_eq!(key.prefix, "souk_abcdef");
        assert!(key.is_active(NOW) && key.is_active(Timestamp::from_millis(1_999)));
        assert!(!key.is_active(Timestamp::from_millis(2_000)));
        let deleted = key.to_deleted(NOW);
        assert!(!deleted.is_active(NOW));
        assert_eq!(deleted.version, 2);
    }

    #[test]
    fn request_needs_name_scopes_and_a_future() {
        assert_eq!(request().validate(NOW), Ok(()));
        for (request, field) in [
            (ApiKeyRequest { name: String::new(), ..request() }, "name"),
            (ApiKeyRequest { scopes: ScopeSet::EMPTY, ..request() }, "scopes"),
            (ApiKeyRequest { expires_at: Some(NOW), ..request() }, "expires_at"),
        ] {
            let errors = request.validate(NOW).unwrap_err().into_vec();
            assert_eq!(errors.len(), 1);
            assert_eq!(errors[0].field, field);
        }
    }
}
