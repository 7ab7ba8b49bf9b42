//! Rows of API keys and actions, and the actor in other rows.

use rusqlite::Row;
use uuid::Uuid;

use super::{
    UuidText, conversion_error, id_column, optional_id_column, text_column, timestamp_column,
};
use crate::domain::{
    account::{ApiKey, ScopeSet},
    action::{Action, Actor},
    clock::Timestamp,
};

/// The values of the columns `actor` and `actor_id`.
pub(in crate::store::sqlite) fn actor_columns(
    actor: Option<Actor>,
) -> (Option<&'static str>, Option<UuidText>) {
    let id = actor.and_then(Actor::id).map(UuidText::new);
    (actor.map(|actor| actor.kind().as_str()), id)
}

/// The actor in the columns `actor` and `actor_id`, beginning with column `first`.
pub(super) fn actor_from_row(row: &Row<'_>, first: usize) -> rusqlite::Result<Option<Actor>> {
    let Some(kind) = row.get_ref(first)?.as_str_or_null()? else { return Ok(None) };
    let id = optional_id_column::<Uuid>(row, first + 1)?;
    let unknown = || conversion_error(first)("no actor".into());
    Actor::from_stored(kind, id).ok_or_else(unknown).map(Some)
}

/// An API key, from all columns of `api_keys` in table order.
pub(in crate::store::sqlite) fn api_key_from_row(row: &Row<'_>) -> rusqlite::Result<ApiKey> {
    let time = |column| -> rusqlite::Result<_> {
        Ok(row.get::<_, Option<i64>>(column)?.map(Timestamp::from_millis))
    };
    Ok(ApiKey {
        id: id_column(row, 0)?,
        name: row.get(1)?,
        scopes: ScopeSet::from_stored(text_column(row, 2)?.split(' ')),
        prefix: row.get(3)?,
        hash: row.get(4)?,
        created_by: id_column(row, 5)?,
        created_at: timestamp_column(row, 6)?,
        expires_at: time(7)?,
        last_used_at: time(8)?,
        deleted_at: time(9)?,
        version: row.get(10)?,
    })
}

/// An action, from all columns of `actions` in table order.
pub(in crate::store::sqlite) fn action_from_row(row: &Row<'_>) -> rusqlite::Result<Action> {
    let unknown = || conversion_error(2)("no actor".into());
    Ok(Action {
        id: id_column(row, 0)?,
        at: timestamp_column(row, 1)?,
        actor: actor_from_row(row, 2)?.ok_or_else(unknown)?,
        operation: row.get(4)?,
        subject: id_column(row, 5)?,
        request_id: row.get::<_, Option<String>>(6)?.map(Into::into),
        version_before: row.get(7)?,
        version_after: row.get(8)?,
    })
}
