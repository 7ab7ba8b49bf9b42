//! API keys, actions, and the actor in other documents.

use mongodb::bson::{Binary, DateTime, Uuid as BsonUuid};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    DocumentError, bytes_to_binary, hash_from_binary, id_from_bson, id_to_bson,
    timestamp_from_bson, timestamp_to_bson,
};
use crate::domain::{
    account::{ApiKey, ScopeSet},
    action::{Action, Actor},
};

/// Who made a change, if it needed rights that customers do not have.
#[derive(Clone, Serialize, Deserialize)]
pub(in crate::store::mongo) struct ActorDocument {
    #[serde(rename = "type")]
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<BsonUuid>,
}

impl From<Actor> for ActorDocument {
    fn from(actor: Actor) -> Self {
        Self { kind: actor.kind().as_str().to_owned(), id: actor.id().map(id_to_bson) }
    }
}

impl TryFrom<ActorDocument> for Actor {
    type Error = DocumentError;

    fn try_from(document: ActorDocument) -> Result<Self, DocumentError> {
        let id = document.id.map(id_from_bson::<Uuid>);
        Self::from_stored(&document.kind, id)
            .ok_or_else(|| DocumentError(format!("{:?} is not a valid actor", document.kind)))
    }
}

/// An API key as stored in `api_keys`.
#[derive(Serialize, Deserialize)]
pub(in crate::store::mongo) struct ApiKeyDocument {
    #[serde(rename = "_id")]
    key_id: BsonUuid,
    name: String,
    scopes: Vec<String>,
    prefix: String,
    hash: Binary,
    created_by: BsonUuid,
    created_at: DateTime,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<DateTime>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used_at: Option<DateTime>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted_at: Option<DateTime>,
    version: u64,
}

impl From<&ApiKey> for ApiKeyDocument {
    fn from(key: &ApiKey) -> Self {
        Self {
            key_id: id_to_bson(key.id.as_uuid()),
            name: key.name.clone(),
            scopes: key.scopes.iter().map(|scope| scope.as_str().to_owned()).collect(),
            prefix: key.prefix.clone(),
            hash: bytes_to_binary(&key.hash),
            created_by: id_to_bson(key.created_by.as_uuid()),
            created_at: timestamp_to_bson(key.created_at),
            expires_at: key.expires_at.map(timestamp_to_bson),
            last_used_at: key.last_used_at.map(timestamp_to_bson),
            deleted_at: key.deleted_at.map(timestamp_to_bson),
            version: key.version,
        }
    }
}

impl TryFrom<ApiKeyDocument> for ApiKey {
    type Error = DocumentError;

    fn try_from(document: ApiKeyDocument) -> Result<Self, DocumentError> {
        Ok(Self {
            id: id_from_bson(document.key_id),
            name: document.name,
            scopes: ScopeSet::from_stored(document.scopes.iter().map(String::as_str)),
            prefix: document.prefix,
            hash: hash_from_binary(&document.hash)?,
            created_by: id_from_bson(document.created_by),
            created_at: timestamp_from_bson(document.created_at),
            expires_at: document.expires_at.map(timestamp_from_bson),
            last_used_at: document.last_used_at.map(timestamp_from_bson),
            deleted_at: document.deleted_at.map(timestamp_from_bson),
            version: document.version,
        })
    }
}

/// An action as stored in `actions`.
#[derive(Serialize, Deserialize)]
pub(in crate::store::mongo) struct ActionDocument {
    #[serde(rename = "_id")]
    action_id: BsonUuid,
    at: DateTime,
    actor: ActorDocument,
    operation: String,
    subject: BsonUuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_before: Option<u64>,
    version_after: u64,
}

impl From<&Action> for ActionDocument {
    fn from(action: &Action) -> Self {
        Self {
            action_id: id_to_bson(action.id.as_uuid()),
            at: timestamp_to_bson(action.at),
            actor: action.actor.into(),
            operation: action.operation.clone(),
            subject: id_to_bson(action.subject),
            request_id: action.request_id.as_deref().map(str::to_owned),
            version_before: action.version_before,
            version_after: action.version_after,
        }
    }
}

impl TryFrom<ActionDocument> for Action {
    type Error = DocumentError;

    fn try_from(document: ActionDocument) -> Result<Self, DocumentError> {
        Ok(Self {
            id: id_from_bson(document.action_id),
            at: timestamp_from_bson(document.at),
            actor: document.actor.try_into()?,
            operation: document.operation,
            subject: id_from_bson(document.subject),
            request_id: document.request_id.map(Into::into),
            version_before: document.version_before,
            version_after: document.version_after,
        })
    }
}
