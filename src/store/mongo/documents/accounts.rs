//! Accounts and logins.

use mongodb::bson::{Binary, DateTime, Uuid as Id};
use serde::{Deserialize, Serialize};

use super::{Unfit, binary, date, hash, id, own, time};
use crate::domain::account::{Email, Role, Session, User};

/// An account.
#[derive(Serialize, Deserialize)]
pub(in crate::store::mongo) struct UserDocument {
    #[serde(rename = "_id")]
    user_id: Id,
    email: String,
    name: String,
    role: String,
    password_hash: String,
    created_at: DateTime,
    version: u64,
    events: u64,
}

impl From<&User> for UserDocument {
    fn from(user: &User) -> Self {
        Self {
            user_id: id(user.id.as_uuid()),
            email: user.email.as_str().to_owned(),
            name: user.name.clone(),
            role: user.role.as_str().to_owned(),
            password_hash: user.password_hash.clone(),
            created_at: date(user.created_at),
            version: user.version,
            events: user.events,
        }
    }
}

impl TryFrom<UserDocument> for User {
    type Error = Unfit;

    fn try_from(document: UserDocument) -> Result<Self, Unfit> {
        Ok(Self {
            id: own(document.user_id),
            email: Email::stored(document.email),
            name: document.name,
            role: Role::from_word(&document.role)
                .ok_or_else(|| Unfit(format!("{:?} is no role", document.role)))?,
            password_hash: document.password_hash,
            created_at: time(document.created_at),
            version: document.version,
            events: document.events,
        })
    }
}

/// A login.
#[derive(Serialize, Deserialize)]
pub(in crate::store::mongo) struct SessionDocument {
    #[serde(rename = "_id")]
    session_id: Id,
    user_id: Id,
    refresh_hash: Binary,
    created_at: DateTime,
    expires_at: DateTime,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_at: Option<DateTime>,
    version: u64,
}

impl From<&Session> for SessionDocument {
    fn from(session: &Session) -> Self {
        Self {
            session_id: id(session.id.as_uuid()),
            user_id: id(session.user_id.as_uuid()),
            refresh_hash: binary(&session.refresh_hash),
            created_at: date(session.created_at),
            expires_at: date(session.expires_at),
            revoked_at: session.revoked_at.map(date),
            version: session.version,
        }
    }
}

impl TryFrom<SessionDocument> for Session {
    type Error = Unfit;

    fn try_from(document: SessionDocument) -> Result<Self, Unfit> {
        Ok(Self {
            id: own(document.session_id),
            user_id: own(document.user_id),
            refresh_hash: hash(&document.refresh_hash)?,
            created_at: time(document.created_at),
            expires_at: time(document.expires_at),
            revoked_at: document.revoked_at.map(time),
            version: document.version,
        })
    }
}
