//! Rows of webhooks.

use std::time::Duration;

use bytes::Bytes;
use rusqlite::Row;

use crate::{
    domain::{
        clock::Timestamp,
        webhook::{DeliveryAttempt, PendingDelivery, Webhook},
    },
    store::{
        sqlite::rows::{conversion_error, id_column, text_column, timestamp_column},
        webhook_record::WebhookRecord,
        webhook_store::WebhookState,
    },
};

/// An endpoint, from the columns `id, version, record`.
pub(super) fn webhook_from_row(row: &Row<'_>) -> rusqlite::Result<Webhook> {
    let record: WebhookRecord = serde_json::from_str(text_column(row, 2)?)
        .map_err(|error| conversion_error(2)(error.into()))?;
    record
        .into_webhook(id_column(row, 0)?, row.get(1)?)
        .map_err(|member| conversion_error(2)(format!("invalid {member}").into()))
}

/// A state, from the columns `cursor, failing_since`.
pub(super) fn state_from_row(row: &Row<'_>) -> rusqlite::Result<WebhookState> {
    let cursor = row.get_ref(0)?.as_str_or_null()?.map(str::parse).transpose();
    Ok(WebhookState {
        cursor: cursor.map_err(|_| conversion_error(0)("no cursor".into()))?,
        failing_since: row.get::<_, Option<i64>>(1)?.map(Timestamp::from_millis),
    })
}

/// A delivery that waits or has failed, from all columns of `webhook_deliveries` in table order.
pub(super) fn pending_from_row(row: &Row<'_>) -> rusqlite::Result<PendingDelivery> {
    Ok(PendingDelivery {
        webhook_id: id_column(row, 0)?,
        event_id: id_column(row, 1)?,
        kind: row.get(2)?,
        subject: id_column(row, 3)?,
        body: Bytes::from(row.get::<_, String>(4)?),
        attempts: row.get(5)?,
        due_at: row.get::<_, Option<i64>>(6)?.map(Timestamp::from_millis),
        requested: row.get(7)?,
        updated_at: timestamp_column(row, 8)?,
    })
}

/// An attempt, from all columns of `webhook_attempts` in table order.
pub(super) fn attempt_from_row(row: &Row<'_>) -> rusqlite::Result<DeliveryAttempt> {
    let unknown = |column| move |_| conversion_error(column)("unknown word".into());
    let error = row.get_ref(8)?.as_str_or_null()?.map(str::parse).transpose();
    Ok(DeliveryAttempt {
        webhook_id: id_column(row, 0)?,
        id: id_column(row, 1)?,
        event_id: id_column(row, 2)?,
        kind: row.get(3)?,
        subject: id_column(row, 4)?,
        attempt: row.get(5)?,
        status: text_column(row, 6)?.parse().map_err(unknown(6))?,
        status_code: row.get(7)?,
        error: error.map_err(unknown(8))?,
        duration: Duration::from_millis(row.get(9)?),
        at: timestamp_column(row, 10)?,
        next_at: row.get::<_, Option<i64>>(11)?.map(Timestamp::from_millis),
        position: row.get(12)?,
    })
}
