//! Trims the outbox and records how far it was published.

use rusqlite::{Connection, params};

use super::{read, webhooks};
use crate::{
    events::{OutboxCursor, OutboxPosition},
    store::retention::MIN_RETAINED_EVENTS,
};

/// The one partition of the outbox. Its offsets are the column `position`.
pub(super) const PARTITION: u32 = 0;

/// The cursor of a reader that has read the events up to `offset`.
pub(super) fn cursor_at(offset: u64) -> OutboxCursor {
    [OutboxPosition { partition: PARTITION, offset }].into_iter().collect()
}

/// Old events are deleted after this many new ones.
const TRIM_INTERVAL_EVENTS: u64 = 1_000;

/// The most events that are deleted at a time.
const MAX_DELETED_EVENTS: u64 = 20 * TRIM_INTERVAL_EVENTS;

/// Decides which events are deleted.
pub(super) struct OutboxRetention {
    /// The offset of the last published event. `None` when the shop never had a broker: then
    /// publishing does not matter.
    published_offset: Option<u64>,
}

impl OutboxRetention {
    /// With `keep_unpublished`, records for good that unpublished events are kept, so that a
    /// command that runs without a broker keeps them too.
    pub(super) fn new(connection: &Connection, keep_unpublished: bool) -> rusqlite::Result<Self> {
        if keep_unpublished {
            connection.execute(
                "INSERT OR IGNORE INTO meta (name, value) VALUES ('published', '0')",
                [],
            )?;
        }
        Ok(Self { published_offset: read::stored_published_offset(connection)? })
    }

    /// Deletes old events if a trim is due. The newest offset was `before`, and now is `last`.
    pub(super) fn trim_if_due(
        &self,
        connection: &Connection,
        before: u64,
        last: u64,
    ) -> rusqlite::Result<()> {
        if before / TRIM_INTERVAL_EVENTS == last / TRIM_INTERVAL_EVENTS {
            return Ok(());
        }
        let last_deleted = last
            .saturating_sub(MIN_RETAINED_EVENTS.into())
            .min(self.published_offset.unwrap_or(u64::MAX));
        delete_events_up_to(connection, last_deleted)
    }

    /// Records in one transaction that every event up to `offset` was published. `last` is the
    /// newest offset.
    pub(super) fn mark_published(
        &mut self,
        connection: &mut Connection,
        offset: u64,
        last: u64,
    ) -> rusqlite::Result<()> {
        let transaction = connection.transaction()?;
        let before = read::published_offset(&transaction)?;
        if offset <= before {
            return Ok(());
        }
        let sql = "INSERT OR REPLACE INTO meta (name, value) VALUES ('published', ?1)";
        transaction.prepare_cached(sql)?.execute(params![offset.to_string()])?;
        // A long outbox that is being published must shrink even when no new event triggers a trim.
        if self.published_offset.is_some()
            && offset / TRIM_INTERVAL_EVENTS != before / TRIM_INTERVAL_EVENTS
        {
            delete_events_up_to(
                &transaction,
                last.saturating_sub(MIN_RETAINED_EVENTS.into()).min(offset),
            )?;
        }
        transaction.commit()?;
        self.published_offset = Some(offset);
        Ok(())
    }
}

/// Deletes events, though not many at a time, since commits wait, and none that a webhook endpoint
/// has still to read.
fn delete_events_up_to(connection: &Connection, offset: u64) -> rusqlite::Result<()> {
    let first: Option<u64> = connection
        .prepare_cached("SELECT min(position) FROM outbox")?
        .query_row([], |row| row.get(0))?;
    let Some(first) = first else { return Ok(()) };
    let last = offset.min(first.saturating_add(MAX_DELETED_EVENTS - 1));
    let last = webhooks::last_event_nobody_needs(connection, last)?;
    connection.prepare_cached("DELETE FROM outbox WHERE position <= ?1")?.execute([last]).map(drop)
}
