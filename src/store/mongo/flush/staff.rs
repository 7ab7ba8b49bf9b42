//! Writes API keys and actions.

use super::{CollectionWrites, ExistingRecords};
use crate::store::{
    mongo::{
        documents::{ActionDocument, ApiKeyDocument},
        schema::{ACTIONS, API_KEYS},
        transaction_error::TransactionError,
    },
    plan::WriteSet,
};

pub(super) fn api_key_writes(
    writes: &WriteSet,
    existing: &ExistingRecords,
    commit_time: i64,
) -> Result<CollectionWrites, TransactionError> {
    let mut keys = CollectionWrites::for_records(API_KEYS, commit_time);
    for (id, key) in &writes.api_keys {
        let exists = existing.api_keys.contains(id);
        keys.add_document(id.as_uuid(), exists, &ApiKeyDocument::from(&**key))?;
    }
    Ok(keys)
}

/// The record of an action is its subject, which its commit changes.
pub(super) fn action_writes(writes: &WriteSet) -> Result<CollectionWrites, TransactionError> {
    let mut actions = CollectionWrites::for_collection(ACTIONS);
    for action in &writes.actions {
        actions.add_document(action.subject, false, &ActionDocument::from(action))?;
    }
    Ok(actions)
}
