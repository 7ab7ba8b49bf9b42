//! Accounts and sessions.

use mongodb::bson::{Binary, DateTime, Uuid as BsonUuid, spec::BinarySubtype};
use serde::{Deserialize, Serialize};

use super::{
    DocumentError, bytes_to_binary, hash_from_binary, id_from_bson, id_to_bson,
    timestamp_from_bson, timestamp_to_bson,
};
use crate::{
    domain::account::{
        AddressBook, Email, Role, ScopeSet, Session, User,
        known_networks::KnownNetwork,
        login_failures::LoginKey,
        mail_token::{MailToken, TokenPurpose},
    },
    store::stored_address::StoredAddress,
};

/// An account as stored in `users`.
#[derive(Serialize, Deserialize)]
pub(in crate::store::mongo) struct UserDocument {
    #[serde(rename = "_id")]
    user_id: BsonUuid,
    email: String,
    name: String,
    role: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    scopes: Vec<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    blocked: bool,
    password_hash: String,
    created_at: DateTime,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_login_at: Option<DateTime>,
    version: u64,
    events: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    known_networks: Vec<KnownNetworkDocument>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    email_verified: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    mail_tokens: Vec<MailTokenDocument>,
}

/// A token that was sent by mail.
#[derive(Serialize, Deserialize)]
struct MailTokenDocument {
    is_reset: bool,
    hash: Binary,
    mail_id: BsonUuid,
    is_requested: bool,
    at: DateTime,
    ended: bool,
}

impl From<&MailToken> for MailTokenDocument {
    fn from(token: &MailToken) -> Self {
        Self {
            is_reset: token.purpose == TokenPurpose::PasswordReset,
            hash: bytes_to_binary(&token.hash),
            mail_id: id_to_bson(token.mail_id.as_uuid()),
            is_requested: token.is_requested,
            at: timestamp_to_bson(token.issued_at),
            ended: token.ended,
        }
    }
}

impl TryFrom<MailTokenDocument> for MailToken {
    type Error = DocumentError;

    fn try_from(document: MailTokenDocument) -> Result<Self, DocumentError> {
        Ok(Self {
            purpose: match document.is_reset {
                true => TokenPurpose::PasswordReset,
                false => TokenPurpose::EmailVerification,
            },
            hash: hash_from_binary(&document.hash)?,
            mail_id: id_from_bson(document.mail_id),
            is_requested: document.is_requested,
            issued_at: timestamp_from_bson(document.at),
            ended: document.ended,
        })
    }
}

/// A network that an account is known at.
#[derive(Serialize, Deserialize)]
struct KnownNetworkDocument {
    key: Binary,
    at: DateTime,
}

impl From<&KnownNetwork> for KnownNetworkDocument {
    fn from(network: &KnownNetwork) -> Self {
        let bytes = network.key.as_bytes().to_vec();
        Self {
            key: Binary { subtype: BinarySubtype::Generic, bytes },
            at: timestamp_to_bson(network.last_login_at),
        }
    }
}

impl TryFrom<KnownNetworkDocument> for KnownNetwork {
    type Error = DocumentError;

    fn try_from(document: KnownNetworkDocument) -> Result<Self, DocumentError> {
        let invalid = |_| DocumentError("the key of a known network is invalid".to_owned());
        Ok(Self {
            key: LoginKey::from_bytes(document.key.bytes.try_into().map_err(invalid)?),
            last_login_at: timestamp_from_bson(document.at),
        })
    }
}

impl From<&User> for UserDocument {
    fn from(user: &User) -> Self {
        Self {
            user_id: id_to_bson(user.id.as_uuid()),
            email: user.email.as_str().to_owned(),
            name: user.name.clone(),
            role: user.role.as_str().to_owned(),
            scopes: user.scopes.iter().map(|scope| scope.as_str().to_owned()).collect(),
            blocked: user.blocked,
            password_hash: user.password_hash.clone(),
            created_at: timestamp_to_bson(user.created_at),
            last_login_at: user.last_login_at.map(timestamp_to_bson),
            version: user.version,
            events: user.event_sequence,
            known_networks: user.known_networks.iter().map(Into::into).collect(),
            email_verified: user.email_verified,
            mail_tokens: user.mail_tokens.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<UserDocument> for User {
    type Error = DocumentError;

    fn try_from(document: UserDocument) -> Result<Self, DocumentError> {
        Ok(Self {
            id: id_from_bson(document.user_id),
            email: Email::from_stored(document.email),
            name: document.name,
            role: document
                .role
                .parse::<Role>()
                .map_err(|_| DocumentError(format!("{:?} is not a valid role", document.role)))?,
            scopes: ScopeSet::from_stored(document.scopes.iter().map(String::as_str)),
            blocked: document.blocked,
            password_hash: document.password_hash,
            created_at: timestamp_from_bson(document.created_at),
            last_login_at: document.last_login_at.map(timestamp_from_bson),
            version: document.version,
            event_sequence: document.events,
            known_networks: document
                .known_networks
                .into_iter()
                .map(TryInto::try_into)
                .collect::<Result<_, _>>()?,
            email_verified: document.email_verified,
            mail_tokens: document
                .mail_tokens
                .into_iter()
                .map(TryInto::try_into)
                .collect::<Result<_, _>>()?,
        })
    }
}

/// The addresses of an account as stored in `address_books`.
#[derive(Serialize, Deserialize)]
pub(in crate::store::mongo) struct AddressBookDocument<'a> {
    #[serde(rename = "_id")]
    user_id: BsonUuid,
    addresses: Vec<StoredAddress<'a>>,
}

impl<'a> From<&'a AddressBook> for AddressBookDocument<'a> {
    fn from(book: &'a AddressBook) -> Self {
        let user_id = id_to_bson(book.user_id.as_uuid());
        Self { user_id, addresses: StoredAddress::list_of(book) }
    }
}

impl TryFrom<AddressBookDocument<'_>> for AddressBook {
    type Error = DocumentError;

    fn try_from(document: AddressBookDocument<'_>) -> Result<Self, DocumentError> {
        StoredAddress::into_book(id_from_bson(document.user_id), document.addresses)
            .map_err(|error| DocumentError(format!("an address has an invalid id: {error}")))
    }
}

/// A login session as stored in `sessions`.
#[derive(Serialize, Deserialize)]
pub(in crate::store::mongo) struct SessionDocument {
    #[serde(rename = "_id")]
    session_id: BsonUuid,
    user_id: BsonUuid,
    refresh_hash: Binary,
    created_at: DateTime,
    expires_at: DateTime,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_at: Option<DateTime>,
    version: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<String>,
}

impl From<&Session> for SessionDocument {
    fn from(session: &Session) -> Self {
        Self {
            session_id: id_to_bson(session.id.as_uuid()),
            user_id: id_to_bson(session.user_id.as_uuid()),
            refresh_hash: bytes_to_binary(&session.refresh_hash),
            created_at: timestamp_to_bson(session.created_at),
            expires_at: timestamp_to_bson(session.expires_at),
            revoked_at: session.revoked_at.map(timestamp_to_bson),
            version: session.version,
            address: session.address.map(|address| address.to_string()),
            user_agent: session.user_agent.clone(),
        }
    }
}

impl TryFrom<SessionDocument> for Session {
    type Error = DocumentError;

    fn try_from(document: SessionDocument) -> Result<Self, DocumentError> {
        Ok(Self {
            id: id_from_bson(document.session_id),
            user_id: id_from_bson(document.user_id),
            refresh_hash: hash_from_binary(&document.refresh_hash)?,
            created_at: timestamp_from_bson(document.created_at),
            expires_at: timestamp_from_bson(document.expires_at),
            revoked_at: document.revoked_at.map(timestamp_from_bson),
            version: document.version,
            address: document.address.and_then(|text| text.parse().ok()),
            user_agent: document.user_agent,
        })
    }
}
