//! Reads of accounts and sessions.

use std::collections::HashMap;

use mongodb::{
    Database,
    bson::{Document, RawDocument, RawDocumentBuf, Uuid as BsonUuid, doc},
};
use serde::Deserialize;

use super::{
    super::{
        documents::{
            AddressBookDocument, DocumentError, SessionDocument, UserDocument, id_from_bson,
            id_to_bson, timestamp_to_bson,
        },
        load::deserialize_document,
        schema::{ADDRESS_BOOKS, SESSIONS, USERS},
    },
    ListQuery, ReadResult, find_many, find_one,
};
use crate::domain::{
    account::{AddressBook, Email, Session, User, UserFilter, VersionedRights},
    clock::Timestamp,
    ids::{SessionId, UserId},
};

fn user_from_document(document: &RawDocument) -> Result<User, DocumentError> {
    deserialize_document::<UserDocument>(document)?.try_into()
}

#[derive(Deserialize)]
struct EmailDocument {
    #[serde(rename = "_id")]
    id: BsonUuid,
    email: String,
}

fn session_from_document(document: &RawDocument) -> Result<Session, DocumentError> {
    deserialize_document::<SessionDocument>(document)?.try_into()
}

pub(in crate::store::mongo) async fn find_user(
    database: Database,
    user: UserId,
) -> ReadResult<Option<User>> {
    let filter = doc! { "_id": id_to_bson(user.as_uuid()) };
    find_one(&database, USERS, filter, user_from_document).await
}

pub(in crate::store::mongo) async fn find_emails(
    database: Database,
    users: Vec<UserId>,
) -> ReadResult<HashMap<UserId, Email>> {
    let ids: Vec<BsonUuid> = users.into_iter().map(|user| id_to_bson(user.as_uuid())).collect();
    let query = ListQuery {
        filter: doc! { "_id": { "$in": ids } },
        projection: Some(doc! { "email": 1 }),
        ..ListQuery::default()
    };
    let emails = find_many(&database, USERS, query, |document| {
        let found = deserialize_document::<EmailDocument>(document)?;
        Ok((id_from_bson(found.id), Email::from_stored(found.email)))
    });
    Ok(emails.await?.into_iter().collect())
}

pub(in crate::store::mongo) async fn find_user_by_email(
    database: Database,
    email: Email,
) -> ReadResult<Option<User>> {
    find_one(&database, USERS, doc! { "email": email.as_str() }, user_from_document).await
}

pub(in crate::store::mongo) async fn find_address_book(
    database: Database,
    user: UserId,
) -> ReadResult<AddressBook> {
    let filter = doc! { "_id": id_to_bson(user.as_uuid()) };
    let found = find_one(&database, ADDRESS_BOOKS, filter, |document| {
        deserialize_document::<AddressBookDocument<'_>>(document)?.try_into()
    });
    Ok(found.await?.unwrap_or(AddressBook::empty(user)))
}

/// The words of the filter are compared document by document.
pub(in crate::store::mongo) async fn list_users(
    database: Database,
    filter: UserFilter,
    before: Option<UserId>,
    limit: u32,
) -> ReadResult<Vec<User>> {
    let mut query = Document::new();
    if let Some(before) = before {
        query.insert("_id", doc! { "$lt": id_to_bson(before.as_uuid()) });
    }
    if let Some(email) = &filter.email {
        query.insert("email", email.as_str());
    }
    if let Some(role) = filter.role {
        query.insert("role", role.as_str());
    }
    if let Some(blocked) = filter.blocked {
        query.insert(
            "blocked",
            if blocked {
                doc! { "$eq": true }
            } else {
                doc! { "$ne": true }
            },
        );
    }
    let mut found = Vec::new();
    let users = database.collection::<RawDocumentBuf>(USERS);
    let mut cursor = users.find(query).sort(doc! { "_id": -1 }).batch_size(1000).await?;
    while found.len() < limit as usize && cursor.advance().await? {
        let user = user_from_document(cursor.current())?;
        if filter.matches_words(&user) {
            found.push(user);
        }
    }
    Ok(found)
}

pub(in crate::store::mongo) async fn list_special_rights(
    database: Database,
) -> ReadResult<Vec<VersionedRights>> {
    // Each branch has an index of its own.
    let filter = doc! { "$or": [{ "role": "admin" }, { "role": "staff" }, { "blocked": true }] };
    let query = ListQuery { filter, ..ListQuery::default() };
    find_many(&database, USERS, query, |document| {
        Ok(user_from_document(document)?.versioned_rights())
    })
    .await
}

pub(in crate::store::mongo) async fn greatest_password_hash(
    database: Database,
) -> ReadResult<Option<String>> {
    #[derive(Deserialize)]
    struct HashedPassword {
        password_hash: String,
    }
    let query = ListQuery {
        sort: Some(doc! { "password_hash": -1 }),
        projection: Some(doc! { "password_hash": 1 }),
        limit: Some(1),
        ..ListQuery::default()
    };
    let found = find_many(&database, USERS, query, |document| {
        Ok(deserialize_document::<HashedPassword>(document)?.password_hash)
    });
    Ok(found.await?.pop())
}

pub(in crate::store::mongo) async fn has_admin(database: Database) -> ReadResult<bool> {
    Ok(find_one(&database, USERS, doc! { "role": "admin" }, |_| Ok(())).await?.is_some())
}

pub(in crate::store::mongo) async fn find_session(
    database: Database,
    session: SessionId,
) -> ReadResult<Option<Session>> {
    let filter = doc! { "_id": id_to_bson(session.as_uuid()) };
    find_one(&database, SESSIONS, filter, session_from_document).await
}

pub(in crate::store::mongo) async fn list_active_sessions(
    database: Database,
    user: UserId,
    now: Timestamp,
    limit: u32,
) -> ReadResult<Vec<Session>> {
    let query = ListQuery {
        filter: active_sessions(user, now),
        sort: Some(doc! { "_id": 1 }),
        limit: Some(limit),
        ..ListQuery::default()
    };
    find_many(&database, SESSIONS, query, session_from_document).await
}

pub(in crate::store::mongo) async fn list_stale_sessions(
    database: Database,
    user: UserId,
    now: Timestamp,
    kept: u32,
    limit: u32,
) -> ReadResult<Vec<Session>> {
    let query = ListQuery {
        filter: active_sessions(user, now),
        sort: Some(doc! { "expires_at": -1, "_id": -1 }),
        skip: kept,
        limit: Some(limit),
        ..ListQuery::default()
    };
    find_many(&database, SESSIONS, query, session_from_document).await
}

fn active_sessions(user: UserId, now: Timestamp) -> Document {
    doc! {
        "user_id": id_to_bson(user.as_uuid()),
        "expires_at": { "$gt": timestamp_to_bson(now) },
        "revoked_at": null,
    }
}

pub(in crate::store::mongo) async fn list_sessions_revoked_since(
    database: Database,
    since: Timestamp,
) -> ReadResult<Vec<SessionId>> {
    #[derive(Deserialize)]
    struct RevokedSession {
        #[serde(rename = "_id")]
        id: BsonUuid,
    }
    let query = ListQuery {
        filter: doc! { "revoked_at": { "$gte": timestamp_to_bson(since) } },
        sort: Some(doc! { "revoked_at": 1 }),
        projection: Some(doc! { "_id": 1 }),
        ..ListQuery::default()
    };
    find_many(&database, SESSIONS, query, |document| {
        Ok(id_from_bson(deserialize_document::<RevokedSession>(document)?.id))
    })
    .await
}
