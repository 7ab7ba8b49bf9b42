//! Loads the admins that are not blocked, and API keys.

use mongodb::bson::{RawDocument, Uuid as BsonUuid, doc};
use serde::Deserialize;

use super::{deserialize_document, load_versions, to_bson_ids};
use crate::{
    domain::ids::{ApiKeyId, UserId},
    store::{
        mongo::{
            documents::id_from_bson,
            schema::{API_KEYS, USERS},
            transaction::Transaction,
            transaction_error::TransactionError,
        },
        plan::{LoadedState, ReadSet},
    },
};

#[derive(Deserialize)]
struct Admin {
    #[serde(rename = "_id")]
    id: BsonUuid,
}

pub(super) async fn load_active_admins(
    transaction: &mut Transaction<'_>,
    read_set: &ReadSet,
    loaded: &mut LoadedState,
) -> Result<(), TransactionError> {
    if !read_set.active_admins {
        return Ok(());
    }
    let filter = doc! { "role": "admin", "blocked": { "$ne": true } };
    let record = |document: &RawDocument| {
        let Admin { id } = deserialize_document(document)?;
        loaded.active_admins.insert(id_from_bson(id));
        Ok(())
    };
    transaction.for_each_document(USERS, filter, doc! { "_id": 1 }, record).await
}

/// Loads versions of API keys, and how many each admin has made.
pub(super) async fn load_api_keys(
    transaction: &mut Transaction<'_>,
    read_set: &ReadSet,
    loaded: &mut LoadedState,
    latest: &mut i64,
) -> Result<(), TransactionError> {
    #[derive(Deserialize)]
    struct Made {
        created_by: BsonUuid,
    }
    let keys = to_bson_ids(&read_set.api_keys, ApiKeyId::as_uuid);
    loaded.api_keys = load_versions(transaction, API_KEYS, keys, latest).await?;
    if read_set.api_key_makers.is_empty() {
        return Ok(());
    }
    let makers = to_bson_ids(&read_set.api_key_makers, UserId::as_uuid);
    loaded.api_keys_made = read_set.api_key_makers.iter().map(|maker| (*maker, 0)).collect();
    let filter = doc! { "created_by": { "$in": makers }, "deleted_at": null };
    let record = |document: &RawDocument| {
        let Made { created_by } = deserialize_document(document)?;
        *loaded.api_keys_made.entry(id_from_bson(created_by)).or_default() += 1;
        Ok(())
    };
    transaction
        .for_each_document(API_KEYS, filter, doc! { "_id": 0, "created_by": 1 }, record)
        .await
}
