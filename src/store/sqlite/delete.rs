//! Deletes sessions and guest carts that have ended.

use rusqlite::{Connection, TransactionBehavior, params};

use super::rows::UuidText;
use crate::{
    domain::{account::ENDED_SESSION_RETENTION, clock::Timestamp, ids::UserId},
    store::{limits::MAX_DELETED_RECORDS, retention::GUEST_CART_RETENTION},
};

/// Deletes up to [`MAX_DELETED_RECORDS`] of each kind, and returns how many there were.
pub(super) fn delete_ended_records(
    connection: &mut Connection,
    now: Timestamp,
) -> rusqlite::Result<u64> {
    let ended_before = now.saturating_sub(ENDED_SESSION_RETENTION).as_millis();
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut deleted = 0;
    for sql in [
        "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE revoked_at <= ?1 \
         ORDER BY revoked_at LIMIT ?2)",
        "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE expires_at <= ?1 \
         ORDER BY expires_at LIMIT ?2)",
    ] {
        deleted +=
            transaction.prepare_cached(sql)?.execute(params![ended_before, MAX_DELETED_RECORDS])?;
    }
    // A guest's id contains the time of its creation.
    let first_kept = UserId::earliest_at(now.saturating_sub(GUEST_CART_RETENTION));
    let sql = "DELETE FROM carts WHERE owner_id IN (SELECT owner_id FROM carts \
               WHERE guest = 1 AND owner_id < ?1 \
               AND (merged_into IS NOT NULL OR abandoned = 1 OR lines = '[]') \
               ORDER BY owner_id LIMIT ?2)";
    deleted += transaction
        .prepare_cached(sql)?
        .execute(params![UuidText::new(first_kept.as_uuid()), MAX_DELETED_RECORDS])?;
    transaction.commit()?;
    Ok(deleted as u64)
}
