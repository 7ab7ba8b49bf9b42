//! Trims the outbox and records how far it was published.

use rusqlite::{Connection, params};

use super::read;
use crate::store::limits::MAX_RETAINED_EVENTS;

/// Old events are deleted after this many new ones.
const TRIM_INTERVAL_EVENTS: u64 = 1_000;

/// Decides which events are deleted.
pub(super) struct OutboxRetention {
    /// The position of the last published event. `None` when the shop never had a broker: then
    /// publishing does not matter.
    published_position: Option<u64>,
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
        Ok(Self { published_position: read::stored_published_position(connection)? })
    }

    /// Deletes old events if a trim is due. The newest position was `before`, and now is `last`.
    pub(super) fn trim_if_due(
        &self,
        connection: &Connection,
        before: u64,
        last: u64,
    ) -> rusqlite::Result<()> {
        if before / TRIM_INTERVAL_EVENTS == last / TRIM_INTERVAL_EVENTS {
            return Ok(());
        }
        delete_events_up_to(
            connection,
            last.saturating_sub(MAX_RETAINED_EVENTS.into())
                .min(self.published_position.unwrap_or(u64::MAX)),
        )
    }

    /// Records in one transaction that every event up to `position` was published. `last` is the
    /// newest position.
    pub(super) fn mark_published(
        &mut self,
        connection: &mut Connection,
        position: u64,
        last: u64,
    ) -> rusqlite::Result<()> {
        let transaction = connection.transaction()?;
        let before = read::published_position(&transaction)?;
        if position <= before {
            return Ok(());
        }
        let sql = "INSERT OR REPLACE INTO meta (name, value) VALUES ('published', ?1)";
        transaction.prepare_cached(sql)?.execute(params![position.to_string()])?;
        // A long outbox that is being published must shrink even when no new event triggers a trim.
        if self.published_position.is_some()
            && position / TRIM_INTERVAL_EVENTS != before / TRIM_INTERVAL_EVENTS
        {
            delete_events_up_to(
                &transaction,
                last.saturating_sub(MAX_RETAINED_EVENTS.into()).min(position),
            )?;
        }
        transaction.commit()?;
        self.published_position = Some(position);
        Ok(())
    }
}

fn delete_events_up_to(connection: &Connection, position: u64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM outbox WHERE position <= ?1")?
        .execute([position])
        .map(drop)
}
