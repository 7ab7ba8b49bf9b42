//! Writes API keys and actions.

use rusqlite::{Connection, params};

use super::super::rows::{UuidText, actor_columns};
use crate::store::plan::WriteSet;

/// Writes the keys. Their last use is written elsewhere.
pub(super) fn write_api_keys(connection: &Connection, writes: &WriteSet) -> rusqlite::Result<()> {
    if writes.api_keys.is_empty() {
        return Ok(());
    }
    let mut put = connection.prepare_cached(
        "INSERT INTO api_keys (id, name, scopes, prefix, hash, created_by, created_at, \
         expires_at, deleted_at, version) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) \
         ON CONFLICT (id) DO UPDATE SET name = excluded.name, scopes = excluded.scopes, \
         prefix = excluded.prefix, hash = excluded.hash, created_by = excluded.created_by, \
         created_at = excluded.created_at, expires_at = excluded.expires_at, \
         deleted_at = excluded.deleted_at, version = excluded.version",
    )?;
    for key in writes.api_keys.values() {
        put.execute(params![
            UuidText::new(key.id.as_uuid()),
            key.name,
            key.scopes.names().join(" "),
            key.prefix,
            key.hash,
            UuidText::new(key.created_by.as_uuid()),
            key.created_at.as_millis(),
            key.expires_at.map(|at| at.as_millis()),
            key.deleted_at.map(|at| at.as_millis()),
            key.version,
        ])?;
    }
    Ok(())
}

pub(super) fn write_actions(connection: &Connection, writes: &WriteSet) -> rusqlite::Result<()> {
    if writes.actions.is_empty() {
        return Ok(());
    }
    let mut insert = connection.prepare_cached(
        "INSERT INTO actions (id, at, actor, actor_id, operation, subject, request_id, \
         version_before, version_after) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?;
    for action in &writes.actions {
        let (actor, actor_id) = actor_columns(Some(action.actor));
        insert.execute(params![
            UuidText::new(action.id.as_uuid()),
            action.at.as_millis(),
            actor,
            actor_id,
            action.operation,
            UuidText::new(action.subject),
            action.request_id,
            action.version_before,
            action.version_after,
        ])?;
    }
    Ok(())
}
