//! Which events are kept for endpoints that have not read them.

use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use crate::{
    domain::ids::EventId,
    events::OutboxCursor,
    store::{
        retention::WEBHOOK_RETENTION,
        sqlite::{
            PARTITION,
            rows::{UuidText, id_column},
        },
    },
};

/// The last event up to `offset` that can be deleted: every endpoint has read it, or it is much
/// older than the newest event.
pub(in crate::store::sqlite) fn last_event_nobody_needs(
    connection: &Connection,
    offset: u64,
) -> rusqlite::Result<u64> {
    let mut select = connection.prepare_cached(
        "SELECT ifnull(state.cursor, json_extract(hook.record, '$.start')) FROM webhooks hook \
         LEFT JOIN webhook_states state ON state.webhook_id = hook.id",
    )?;
    let mut rows = select.query([])?;
    let mut read_by_all = u64::MAX;
    while let Some(row) = rows.next()? {
        // An endpoint whose place cannot be read may need every event.
        let cursor = row.get_ref(0)?.as_str().ok().and_then(|text| text.parse().ok());
        let offset = cursor.map_or(0, |cursor: OutboxCursor| cursor.offset(PARTITION));
        read_by_all = read_by_all.min(offset);
    }
    if read_by_all >= offset {
        return Ok(offset);
    }
    let newest = "SELECT id FROM outbox ORDER BY position DESC LIMIT 1";
    let newest: Option<Uuid> =
        connection.prepare_cached(newest)?.query_row([], |row| id_column(row, 0)).optional()?;
    let Some(newest) = newest.map(EventId::from) else { return Ok(offset) };
    let kept_from = EventId::earliest_at(newest.created_at().saturating_sub(WEBHOOK_RETENTION));
    let first_kept = "SELECT position FROM outbox \
                      WHERE position > ?1 AND position <= ?2 AND id >= ?3 \
                      ORDER BY position LIMIT 1";
    let first_kept: Option<u64> = connection
        .prepare_cached(first_kept)?
        .query_row(params![read_by_all, offset, UuidText::new(kept_from.as_uuid())], |row| {
            row.get(0)
        })
        .optional()?;
    Ok(first_kept.map_or(offset, |first| first - 1))
}
