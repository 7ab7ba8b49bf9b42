//! The data of `auth.*` events, about accounts and sessions. None of it names a person, so that no
//! event has to be called back when an account is deleted.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::schema;
use crate::domain::{
    account::{ApiKey, User},
    ids::{ApiKeyId, SessionId, UserId},
};

/// A newly registered account. No event tells whose it is, so that none has to be called back when
/// the account is deleted.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "UserRegistered")]
pub struct UserRegisteredData {
    #[schemars(with = "Uuid")]
    user_id: UserId,
    #[schemars(with = "schema::AccountRole")]
    role: &'static str,
}

/// A deleted account. Whoever keeps something about it should delete that, too.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "UserDeleted")]
pub struct UserDeletedData {
    /// The account, which no longer says whose it was.
    #[schemars(with = "Uuid")]
    pub user_id: UserId,
}

/// The rights of an account after a change. The tokens that it has go on with these rights.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "RightsChanged")]
pub struct RightsChangedData {
    #[schemars(with = "Uuid")]
    user_id: UserId,
    #[schemars(with = "schema::AccountRole")]
    role: &'static str,
    /// What a member of staff may do. Empty for every other role.
    #[schemars(with = "Vec<schema::Scope>")]
    scopes: Vec<&'static str>,
    /// Whether all tokens of the account are refused.
    blocked: bool,
}

/// An API key. It is refused from its deletion on.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ApiKey")]
pub struct ApiKeyData {
    /// The key's identifier, which is not the key itself.
    #[schemars(with = "Uuid")]
    api_key_id: ApiKeyId,
    /// What the key may do.
    #[schemars(with = "Vec<schema::Scope>")]
    scopes: Vec<&'static str>,
}

impl From<&ApiKey> for ApiKeyData {
    fn from(key: &ApiKey) -> Self {
        Self { api_key_id: key.id, scopes: key.scopes.names() }
    }
}

/// A revoked session. Its tokens are no longer valid.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "SessionRevoked")]
pub struct SessionRevokedData<'a> {
    /// The account that the session belongs to.
    #[schemars(with = "Uuid")]
    pub user_id: UserId,
    /// The session's identifier, which is the `sid` claim of its tokens.
    #[schemars(with = "Uuid")]
    pub session_id: SessionId,
    /// Why the session ended. A newer node may send a reason that this version does not know.
    #[schemars(with = "schema::RevocationReason")]
    pub reason: Cow<'a, str>,
}

impl From<&User> for RightsChangedData {
    fn from(user: &User) -> Self {
        Self {
            user_id: user.id,
            role: user.role.as_str(),
            scopes: user.scopes.names(),
            blocked: user.blocked,
        }
    }
}

impl From<&User> for UserRegisteredData {
    fn from(user: &User) -> Self {
        Self { user_id: user.id, role: user.role.as_str() }
    }
}
