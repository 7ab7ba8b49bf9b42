//! How long events are kept, and how far they were published.

use rusqlite::{Connection, params};

use super::read;
use crate::store::limits::MAX_RETAINED_EVENTS;

/// Old events are taken away each time so many have come.
const TRIM_INTERVAL_EVENTS: u64 = 1_000;

/// Keeps the outbox from growing for ever.
pub(super) struct OutboxRetention {
    /// The last event that was published; `None` when there never was a broker, so that events go unpublished.
    published_position: Option<u64>,
}

impl OutboxRetention {
    /// With `keep_unpublished` it is noted for good that events are to be kept until they were published: also by a command that does
    /// not know of a broker.
    pub(super) fn new(connection: &Connection, keep_unpublished: bool) -> rusqlite::Result<Self> {
        if keep_unpublished {
            connection.execute(
                "INSERT OR IGNORE INTO meta (name, value) VALUES ('published', '0')",
                [],
            )?;
        }
        Ok(Self { published_position: read::stored_published_position(connection)? })
    }

    /// Takes old events away when it is time to, since the newest is not `before` any more but `last`.
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

    /// Notes in one transaction that everything up to `position` was published; `last` is the newest event.
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
        let put = "INSERT OR REPLACE INTO meta (name, value) VALUES ('published', ?1)";
        transaction.prepare_cached(put)?.execute(params![position.to_string()])?;
        // While the outbox is emptied after a time without broker, there need not be new events that would have it trimmed.
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

fn delete_events_up_to(connection: &Connection, oldest: u64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM outbox WHERE position <= ?1")?
        .execute([oldest])
        .map(drop)
}
