//! Writes of webhooks: those of commits, and those of the nodes that deliver.

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use uuid::Uuid;

use crate::{
    domain::{
        clock::Timestamp,
        ids::WebhookId,
        webhook::{DeliveryAttempt, DeliveryError, PendingDelivery},
    },
    store::{
        limits::MAX_DELETED_RECORDS,
        plan::WriteSet,
        sqlite::rows::{TextBytes, UuidText, to_json},
        webhook_record::WebhookRecord,
        webhook_store::WebhookProgress,
    },
};

/// Writes and removes the endpoints in `writes`, and writes the deliveries that were asked for.
pub(in crate::store::sqlite) fn write_webhooks(
    connection: &Connection,
    writes: &WriteSet,
) -> rusqlite::Result<()> {
    for webhook in writes.webhooks.values() {
        let id = UuidText::new(webhook.id.as_uuid());
        if webhook.deleted {
            connection.prepare_cached("DELETE FROM webhooks WHERE id = ?1")?.execute([id])?;
            continue;
        }
        let sql = "INSERT INTO webhooks (id, version, record) VALUES (?1, ?2, ?3) \
                   ON CONFLICT (id) DO UPDATE SET version = excluded.version, \
                   record = excluded.record";
        let record = to_json(&WebhookRecord::from(&**webhook))?;
        connection.prepare_cached(sql)?.execute(params![id, webhook.version, record])?;
    }
    for delivery in &writes.webhook_deliveries {
        put_pending(connection, delivery)?;
    }
    Ok(())
}

fn put_pending(connection: &Connection, delivery: &PendingDelivery) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO webhook_deliveries (webhook_id, event_id, type, subject, \
               body, attempts, due_at, requested, updated_at) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    connection.prepare_cached(sql)?.execute(params![
        UuidText::new(delivery.webhook_id.as_uuid()),
        UuidText::new(delivery.event_id.as_uuid()),
        delivery.kind,
        UuidText::new(delivery.subject),
        TextBytes(&delivery.body),
        delivery.attempts,
        delivery.due_at.map(Timestamp::as_millis),
        delivery.requested,
        delivery.updated_at.as_millis(),
    ])?;
    Ok(())
}

/// Writes an event as it is after an attempt, but for one that staff has asked for since the
/// attempt began: that stays due.
fn put_attempted(connection: &Connection, delivery: &PendingDelivery) -> rusqlite::Result<()> {
    let is_requested = "SELECT 1 FROM webhook_deliveries WHERE webhook_id = ?1 AND event_id = ?2 \
                        AND requested = 1 AND updated_at > ?3";
    let key = params![
        UuidText::new(delivery.webhook_id.as_uuid()),
        UuidText::new(delivery.event_id.as_uuid()),
        delivery.updated_at.as_millis(),
    ];
    if !connection.prepare_cached(is_requested)?.exists(key)? {
        return put_pending(connection, delivery);
    }
    let count = "UPDATE webhook_deliveries SET attempts = max(attempts, ?3) \
                 WHERE webhook_id = ?1 AND event_id = ?2";
    connection.prepare_cached(count)?.execute(params![
        UuidText::new(delivery.webhook_id.as_uuid()),
        UuidText::new(delivery.event_id.as_uuid()),
        delivery.attempts,
    ])?;
    Ok(())
}

fn put_attempt(connection: &Connection, attempt: &DeliveryAttempt) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO webhook_attempts (webhook_id, id, event_id, type, subject, \
               attempt, status, status_code, error, duration_ms, at, next_at, position) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)";
    connection.prepare_cached(sql)?.execute(params![
        UuidText::new(attempt.webhook_id.as_uuid()),
        UuidText::new(attempt.id.as_uuid()),
        UuidText::new(attempt.event_id.as_uuid()),
        attempt.kind,
        UuidText::new(attempt.subject),
        attempt.attempt,
        attempt.status.as_str(),
        attempt.status_code,
        attempt.error.map(DeliveryError::as_str),
        u64::try_from(attempt.duration.as_millis()).unwrap_or(u64::MAX),
        attempt.at.as_millis(),
        attempt.next_at.map(Timestamp::as_millis),
        attempt.position,
    ])?;
    Ok(())
}

/// Records what was done in one transaction, so that no cursor passes an event that is not written.
pub(super) fn save_progress(
    connection: &mut Connection,
    node: Uuid,
    progress: &[WebhookProgress],
) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for one in progress {
        save_one(&transaction, node, one)?;
    }
    transaction.commit()
}

fn save_one(
    transaction: &Transaction<'_>,
    node: Uuid,
    progress: &WebhookProgress,
) -> rusqlite::Result<()> {
    let Some(webhook_id) = progress.webhook_id else { return Ok(()) };
    let id = UuidText::new(webhook_id.as_uuid());
    for attempt in &progress.attempts {
        put_attempt(transaction, attempt)?;
    }
    for delivery in &progress.pending {
        put_attempted(transaction, delivery)?;
    }
    let sql = "DELETE FROM webhook_deliveries WHERE webhook_id = ?1 AND event_id = ?2 \
               AND NOT (requested = 1 AND updated_at > ?3)";
    for (event, at) in &progress.done {
        let event = UuidText::new(event.as_uuid());
        transaction.prepare_cached(sql)?.execute(params![id, event, at.as_millis()])?;
    }
    let sql = "UPDATE webhook_states SET cursor = ?3, failing_since = ?4 \
               WHERE webhook_id = ?1 AND node = ?2";
    transaction.prepare_cached(sql)?.execute(params![
        id,
        UuidText::new(node),
        progress.state.cursor.as_ref().map(ToString::to_string),
        progress.state.failing_since.map(Timestamp::as_millis),
    ])?;
    Ok(())
}

/// Deletes old attempts, and events that failed with them.
pub(super) fn trim(
    connection: &mut Connection,
    webhook: WebhookId,
    older_than: Timestamp,
    kept: u32,
) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let id = UuidText::new(webhook.as_uuid());
    let sql = "DELETE FROM webhook_attempts WHERE webhook_id = ?1 AND (at < ?2 OR id <= \
               (SELECT id FROM webhook_attempts WHERE webhook_id = ?1 \
                ORDER BY id DESC LIMIT 1 OFFSET ?3))";
    transaction.prepare_cached(sql)?.execute(params![id, older_than.as_millis(), kept])?;
    let sql = "SELECT at FROM webhook_attempts WHERE webhook_id = ?1 ORDER BY id LIMIT 1";
    let oldest: Option<i64> =
        transaction.prepare_cached(sql)?.query_row([&id], |row| row.get(0)).optional()?;
    let sql = "DELETE FROM webhook_deliveries \
               WHERE webhook_id = ?1 AND due_at IS NULL AND updated_at < ?2";
    let oldest = oldest.unwrap_or_else(|| older_than.as_millis());
    transaction.prepare_cached(sql)?.execute(params![id, oldest])?;
    transaction.commit()
}

/// Deletes some of what is left of deleted endpoints.
pub(super) fn delete_remains(connection: &mut Connection) -> rusqlite::Result<u64> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut deleted = 0;
    for sql in [
        "DELETE FROM webhook_attempts WHERE (webhook_id, id) IN (SELECT webhook_id, id \
         FROM webhook_attempts WHERE webhook_id NOT IN (SELECT id FROM webhooks) LIMIT ?1)",
        "DELETE FROM webhook_deliveries WHERE (webhook_id, event_id) IN (SELECT webhook_id, \
         event_id FROM webhook_deliveries WHERE webhook_id NOT IN (SELECT id FROM webhooks) \
         LIMIT ?1)",
        "DELETE FROM webhook_states WHERE webhook_id IN (SELECT webhook_id FROM webhook_states \
         WHERE webhook_id NOT IN (SELECT id FROM webhooks) LIMIT ?1)",
    ] {
        deleted += transaction.prepare_cached(sql)?.execute([MAX_DELETED_RECORDS])?;
    }
    transaction.commit()?;
    Ok(deleted as u64)
}
